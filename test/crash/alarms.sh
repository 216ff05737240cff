#!/usr/bin/env bash
# Telling people: alarms reach a webhook and a mail server, signed and once, while these fail and come back; a shop's query
# runs as its role; nothing personal is told; NOTIFY says the same.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

secret=whsec-CANARY-0123456789abcdef
password=CANARY-smtp-password

place()
{
	control POST orders "$1" | grep -o '"orderId": *"[^"]*"' | cut -d'"' -f4
}

# hooks FIELD: count, refused or repeated of the hook "ops"
hooks()
{
	control GET hooks | grep -o "\"$1\": *[0-9]*" | head -n 1 | grep -o '[0-9]*$'
}

mails()
{
	control GET mails | grep -o '"count": *[0-9]*' | grep -o '[0-9]*'
}

check()
{
	sql "select amzmp.run_alarm('shop', '$1')" >/dev/null
}

delivered()
{
	sql_becomes 30 "select count(*) from amzmp.alarm_delivery where target = '$1' and state = 'delivered'" "$2"
}

# what waits for its next attempt is tried now
hurry()
{
	sql "select amzmp.resend_alarms('shop')" >/dev/null
}

code()
{
	psql -XqAt -v VERBOSITY=sqlstate -c "$1" 2>&1 | sed -n 's/^ERROR:  //p' | head -n 1
}

# The mail server's certificate is known to nobody at first.
made=$RUN/$CLUSTER_PREFIX
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' \
	-keyout "${made}key" -out "${made}cert" 2>/dev/null
chmod a+r "${made}key" "${made}cert"
as_server mkdir "${made}mail"
simulator_start s --rate-scale 0 --mail-port-file "${made}mail/port" --mail-cert "${made}cert" --mail-key "${made}key"
mail_port=$(cat "${made}mail/port")
control POST settings '{"order_lag": 0}' >/dev/null
control POST hooks "{\"name\": \"ops\", \"secret\": \"$secret\"}" >/dev/null
control POST mails "{\"user\": \"alarms\", \"password\": \"$password\"}" >/dev/null
cluster_start s
shop_connect
hook=$AMZMP_SIMULATOR_URL/_hook/ops

is "$(code "select amzmp.set_webhook('shop', 'ops', 'https://example.com/x', secret => 'a secret of no importance')")" AZ004 'only allowed hosts can be told'
is "$(code "select amzmp.set_webhook('shop', 'ops', 'ftp://localhost/x')")" AZ202 'by http or https'
is "$(code "select amzmp.set_webhook('shop', 'ops', '$hook', secret => 'short')")" AZ202 'with a secret worth the name'
is "$(code "select amzmp.set_mail('shop', 'mail', 'smtp://localhost:25', E'a@b\nBcc: c@d', '{x@example.com}')")" AZ202 'an address is nothing but an address'
is "$(code "select amzmp.set_alarm('shop', 'a', preset => 'nothing')")" AZ201 'a preset must exist'
is "$(code "select amzmp.set_alarm('shop', 'a', preset => 'low_stock', targets => '{nobody}')")" AZ201 'and so must a target'
sql "select amzmp.set_webhook('shop', 'ops', '$hook', secret => '$secret')" \
	"select amzmp.set_mail('shop', 'mail', 'smtp://localhost:$mail_port', 'amzmp@example.com', '{ops@example.com,boss@example.com}', \"user\" => 'alarms', password => '$password')" >/dev/null

# A certificate that nobody vouches for.
sql "select amzmp.test_target('shop', 'mail')" >/dev/null
sql_becomes 20 "select tries > 0 and error ~* 'certificate' from amzmp.alarm_delivery where target = 'mail'" t
is "$(sql "select state from amzmp.alarm_target where target = 'mail'")" failing 'a target that cannot be reached is one that fails'
is "$(mails)" 0 'a mail server whose certificate is not known hears nothing'
cluster_set s "amzmp.ca_file = '${made}cert'"
cluster_ctl s reload
hurry
delivered mail 1
like "$(control GET mails)" '"known": *true.*"tls": *true|"tls": *true.*"known": *true' 'with its certificate known a mail goes by TLS and with the password'
like "$(control GET mails)" 'Message-ID: <[0-9a-z-]*@example.com>' 'and carries an id'
like "$(control GET mails)" '"to": *\["ops@example.com", *"boss@example.com"\]' 'to all recipients'

# An order, told by NOTIFY, webhook and mail, each once.
sql "select amzmp.set_alarm('shop', 'orders', preset => 'new_orders', targets => '{ops,mail}')" >/dev/null
is "$(sql "select enabled from amzmp.account_flow where flow = 'watch_alarms'")" t 'the flow that checks alarms is on'
psql -XqAt -c 'listen amzmp_order' -c 'listen amzmp_alarm' -c "select pg_sleep(8)" -c 'select 1' >"$RUN/${CLUSTER_PREFIX}listened" 2>&1 &
listener=$!
sql_becomes 10 "select count(*) from pg_stat_activity where query like '%pg_sleep(8)%' and pid <> pg_backend_pid()" 1
order=$(place '{"items": [{"sku": "ANY", "quantity": 1}], "buyer_name": "Zoë Quux"}')
sql "select amzmp.run_flow('get_orders', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
sql "select amzmp.run_flow('watch_alarms', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
delivered ops 1
delivered mail 2
is "$(hooks count) $(hooks refused) $(mails)" '1 0 2' 'an order is told by a signed webhook and by mail'
like "$(control GET hooks)" "$order" 'with its number'
check orders
check orders
sql "call amzmp.wait('60 s')" >/dev/null
is "$(sql "select count(*) from amzmp.alarm_event where alarm = 'orders'")" 1 'once'
wait "$listener" || true
listened=$(cat "$RUN/${CLUSTER_PREFIX}listened")
like "$listened" "\"amzmp_order\" with payload .*$order" 'NOTIFY tells of the order'
like "$listened" "\"amzmp_alarm\" with payload .*$order" 'and of the alarm'
is "$(echo "$listened" "$(control GET hooks)" "$(control GET mails)" "$(sql 'table amzmp.alarm_event')" | grep -c Quux)" 0 'and nobody of the buyer'

# The receiver fails and comes back.
control POST faults '{"operation": "webhook", "kind": "status", "status": 503, "count": 2}' >/dev/null
control POST mails '{"fail_at": "rcpt", "code": 451}' >/dev/null
control POST mails '{"fail_at": "connect", "code": -1}' >/dev/null
place '{"items": [{"sku": "ANY", "quantity": 1}]}' >/dev/null
sql "select amzmp.run_flow('get_orders', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
check orders
delivered ops 2
delivered mail 3
is "$(hooks count) $(hooks repeated) $(mails)" '2 0 3' 'a receiver that failed for a while gets what it missed, once'

# The effect without the answer: repeated under the same id.
control POST faults '{"operation": "webhook", "kind": "drop_after"}' >/dev/null
control POST mails '{"fail_at": "end", "code": -1}' >/dev/null
place '{"items": [{"sku": "ANY", "quantity": 1}]}' >/dev/null
sql "select amzmp.run_flow('get_orders', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
check orders
delivered ops 3
delivered mail 4
is "$(hooks count) $(hooks repeated)" '4 1' 'a webhook whose answer was lost is repeated with its id'
is "$(control GET mails | grep -o 'Message-ID: <[0-9a-z-]*' | sort | uniq -d | wc -l)" 1 'and a mail with its own'

# Refused for good.
control POST hooks '{"name": "ops", "secret": "another-secret-0123456789"}' >/dev/null
sql "select amzmp.test_target('shop', 'ops')" >/dev/null
sql_becomes 20 "select count(*) from amzmp.alarm_delivery where state = 'failed'" 1
like "$(sql "select detail from amzmp.health() where check_name = 'target shop ops'")" 401 'a refusal is no reason to go on; health() tells'
control POST hooks "{\"name\": \"ops\", \"secret\": \"$secret\"}" >/dev/null
is "$(sql "select amzmp.resend_alarms('shop')")" 1 'what was given up can be sent again'
delivered ops 4
is "$(sql "select count(*) from amzmp.health() where check_name like 'target %'")" 0 'and is well then'
control POST mails "{\"user\": \"alarms\", \"password\": \"changed\"}" >/dev/null
sql "select amzmp.test_target('shop', 'mail')" >/dev/null
sql_becomes 20 "select count(*) from amzmp.alarm_delivery where state = 'failed'" 1
like "$(sql "select state_reason from amzmp.alarm_target where target = 'mail'")" '[Ll]ogin|denied|535' 'a wrong password is said to be one'
control POST mails "{\"user\": \"alarms\", \"password\": \"$password\"}" >/dev/null

# Killed while it sends.
control POST faults '{"operation": "webhook", "kind": "delay", "delay_ms": 3000, "after": true}' >/dev/null
before=$(hooks count)
sql "select amzmp.test_target('shop', 'ops')" >/dev/null
sql_becomes 10 "select count(*) from amzmp.request where operation = 'postWebhook' and state = 'sending'" 1
sender_end KILL
delivered ops 5
is "$(sql "select count(*) from amzmp.request where operation = 'postWebhook'")" 0 'a sender that is killed loses no alarm'
is "$(($(hooks count) - before - $(hooks repeated) + 1))" 1 'nor sends another'

# An account that became invalid, and is held, is worth telling.
sql "update amzmp.account set state = 'invalid'" "select amzmp.hold('shop', 'a test')" \
	"select amzmp.set_alarm('shop', 'credentials', preset => 'expiring_secrets', targets => '{ops}')" >/dev/null
sql "select amzmp.mark_due('watch_alarms')" >/dev/null
delivered ops 6
like "$(control GET hooks)" 'credentials of shop' 'that Amazon refuses the credentials is told all the same'
sql "update amzmp.account set state = 'valid'" "select amzmp.resume('shop')" >/dev/null

# Nobody marks flows due: that is told all the same, by a task that each run puts off.
sql "select amzmp.set_alarm('shop', 'silence', preset => 'silent_flows', targets => '{ops}')" >/dev/null
is "$(sql "select due_at between now() + interval '14 minutes' and now() + interval '15 minutes' from amzmp.task where kind = 'alarms'")" t 'somebody looks when nobody else does'
sql "update amzmp.account set created_at = now() - interval '1 day'" "update amzmp.flow_run set started_at = started_at - interval '1 day', last_idle_at = null" \
	"update amzmp.task set due_at = now() where kind = 'alarms'" 'select amzmp._wake()' >/dev/null
sql_becomes 20 "select count(*) from amzmp.alarm_event where alarm = 'silence'" 1
like "$(sql "select subjects from amzmp.alarm_event where alarm = 'silence'")" 'get_orders' 'and tells which flows do not run'
is "$(sql "select due_at > now() + interval '14 minutes' from amzmp.task where kind = 'alarms'")" t 'and looks again later'
delivered ops 7
sql "select amzmp.drop_alarm('shop', 'silence')" >/dev/null

# A shop's own query, as the shop's role and never as ours.
sql 'create role clerk login' 'grant amzmp_admin to clerk' 'create schema store authorization clerk' \
	'create table store.seen (who name, session_role name, super text)' 'create table store.stock (sku text, n integer)' \
	'alter table store.seen owner to clerk' 'alter table store.stock owner to clerk' "insert into store.stock values ('MUG', 1), ('CUP', 9)" >/dev/null
export PGUSER=clerk
sql "create function store.peek(n integer) returns integer language plpgsql as
	\$\$begin insert into store.seen values (current_user, session_user, current_setting('is_superuser')); return n; end\$\$" >/dev/null
is "$(code "select amzmp.set_alarm('shop', 'few', 'select sku, n from stock')")" AZ202 'names must be qualified'
is "$(code "select amzmp.set_alarm('shop', 'few', 'select sku, sku, n from store.stock')")" AZ202 'and the columns be a subject and a number'
is "$(code "select amzmp.set_alarm('shop', 'few', 'select 1; drop table store.stock')")" AZ202 'one query it is'
sql "select amzmp.set_alarm('shop', 'few', 'select sku, store.peek(n) from store.stock -- all', threshold => 3, below => true, message => 'only few left', targets => '{ops}')" >/dev/null
is "$(sql 'select count(*) from store.seen')" 0 'setting an alarm executes nothing'
export PGUSER=postgres
check few
delivered ops 8
is "$(sql 'select distinct who, session_role, super from store.seen')" 'clerk|clerk|off' 'a query of the shop runs as its role'
like "$(sql "select message || subjects from amzmp.alarm_event where alarm = 'few'")" '^only few left: MUG.*"value": 1' 'and tells what is below the threshold'
sql 'update store.stock set n = 2' >/dev/null
check few
sql_becomes 20 "select count(*) from amzmp.alarm_subject where alarm = 'few'" 2
delivered ops 9
is "$(sql "select subjects #>> '{0,subject}' from amzmp.alarm_event where alarm = 'few' order by alarm_event_id desc limit 1")" CUP 'later only what is new'
sql 'update store.stock set n = 9' >/dev/null
check few
sql_becomes 20 "select state from amzmp.alarm where alarm = 'few'" quiet
sql 'update store.stock set n = 0' >/dev/null
check few
delivered ops 10
is "$(sql "select subject_count from amzmp.alarm_event where alarm = 'few' order by alarm_event_id desc limit 1")" 2 'and again what was gone'
# A query that takes too long is stopped, and what waits behind it goes on.
sql "select amzmp.set('shop', 'alarm_time_limit', '1 s')" >/dev/null
PGUSER=clerk sql "select amzmp.set_alarm('shop', 'slow', 'select ''x'' from pg_catalog.pg_sleep(300)')" >/dev/null
sql 'update store.stock set n = 9' >/dev/null
check slow
check few
sql_becomes 20 "select state from amzmp.alarm where alarm = 'few'" quiet
pass 'a slow query does not keep the others waiting'
is "$(sql "select state, state_reason like '%alarm_time_limit is 00:00:01%' from amzmp.alarm where alarm = 'slow'")" 'failing|t' 'and says why it was stopped'
sql_becomes 20 "select state from amzmp.health() where check_name = 'alarm shop slow'" error
pass 'in health(), too'
sql "select amzmp.drop_alarm('shop', 'slow')" >/dev/null
sql 'drop table store.stock cascade' >/dev/null
check few
sql_becomes 20 "select state from amzmp.health() where check_name = 'alarm shop few'" error
pass 'a query that fails shows in health()'
is "$(PGUSER=clerk code "select amzmp.take_alarm((select account_id from amzmp.account), 'orders', '{x}', '{1}')")" 42501 'nobody can make up an alarm'

is "$("$(pg_bin)/pg_dump" | grep -c CANARY)" 0 'neither secret nor password stands anywhere in clear'
is "$(grep -c CANARY "$(cluster_log s)")" 0 'nor in the log'
is "$(sql "select amzmp.drop_alarm('shop', 'few'), amzmp.drop_target('shop', 'ops')")" 't|t' 'both can be given up'
finish
