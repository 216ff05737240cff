#!/usr/bin/env bash
# A user's calls: enqueue with a handler that a user runner runs as the user, handlers that fail, requests that are
# cancelled or moved up, and transactions that end otherwise than by COMMIT.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

as_shop()
{
	PGUSER=shop sql "$@"
}

outcome()
{
	psql -XqAt -v VERBOSITY=sqlstate "${@/#/-c}" 2>&1 | sed 's/^ERROR:  //'
}

# queue SKU [HANDLER]: as the shop; the request's id
queue()
{
	as_shop "$(enqueue "$@")"
}

# The statement that does.
enqueue()
{
	echo "select amzmp.enqueue('shop', 'getListingsItem', '{\"sku\": \"$1\", \"marketplaceIds\": [\"A1PA6795UKMFR9\"]}'${2:+, handler => '$2'})"
}

wait_idle()
{
	as_shop "call amzmp.wait('60 s')"
}

# The SKUs in the order in which they arrived at Amazon.
skus_arrived()
{
	control GET 'arrivals?operation=getListingsItem&limit=65536' | grep -oE '"[^"]*"\]' | tr -d '"]' | paste -sd' '
}

forget()
{
	control POST stats/reset '{}' >/dev/null
}

simulator_start s --rate-scale 0
# One connection, so that requests arrive in the order in which they were sent.
cluster_start h 'max_prepared_transactions = 5' 'amzmp.max_connections = 1'
shop_connect
sql "create role shop login" "grant amzmp_admin to shop" "create role lodger nologin" "grant amzmp_operator to lodger" \
	"grant lodger to shop" "create schema shop authorization shop" "alter role shop set search_path = shop" >/dev/null
as_shop "create table got (request_id bigint, account_id bigint, status integer, code text, ran_as text)" \
	"create function take(account_id bigint, request_id bigint, status integer, answer jsonb) returns void language sql
	     as 'insert into shop.got values (\$2, \$1, \$3, \$4 #>> ''{payload,0,marketplace,id}'', concat_ws('' '', session_user, current_user, current_setting(''is_superuser'')))'" \
	"create function refuse(account_id bigint, request_id bigint, status integer, answer jsonb) returns void language plpgsql
	     as 'begin raise exception ''no room for request %'', request_id; end'" \
	"create function pry(account_id bigint, request_id bigint, status integer, answer jsonb) returns void language plpgsql
	     as 'begin set session authorization postgres; perform pg_read_file(''/etc/passwd''); end'" \
	"grant usage on schema shop to lodger" >/dev/null

# The handler.
id=$(as_shop "select amzmp.enqueue('shop', 'getMarketplaceParticipations', handler => 'take')")
wait_idle
is "$(sql "select request_id, status, code is not null, ran_as from shop.got")" "$id|200|t|shop shop off" \
	'a handler gets the answer in a session of the role that queued the request'
is "$(sql "select outcome from amzmp.request_log where request_id = $id")" success 'the request is done'
missing=$(queue missing shop.take)
wait_idle
is "$(sql "select status, code from shop.got where request_id = $missing")" '404|' 'it also gets what Amazon refused'

is "$(outcome "$(enqueue superuser shop.take)")" AZ004 'a superuser cannot own a handler'
is "$(PGUSER=shop outcome 'set role lodger' "$(enqueue nologin shop.take)")" AZ004 'neither can a role that cannot log in'
is "$(PGUSER=shop outcome "$(enqueue unknown shop.nothing)")" 42883 'a handler that does not exist is refused'

# Handlers that fail.
forget
refused=$(queue r-1 shop.refuse)
prying=$(queue r-2 shop.pry)
after=$(queue r-3 shop.take)
sql_becomes 30 "select count(*) from amzmp.task where kind = 'handler' and last_error is not null" 2
is "$(sql "select last_error from amzmp.task where subject = '$refused'")" "no room for request $refused" 'what a handler raised is kept with its task'
like "$(sql "select last_error from amzmp.task where subject = '$prying'")" '^permission denied to set session authorization' 'a handler has no rights but its owner'"'"'s'
like "$(sql "select string_agg(message, ' ') from amzmp.activity where level = 'error' and subject_kind = 'handler'")" "no room for request $refused" 'and in the log'
sql_becomes 30 "select count(*) from shop.got where request_id = $after" 1
is "$(sql "select count(*) from shop.got where request_id = $after")" 1 'others go on'
is "$(sql "select string_agg(distinct outcome, ' ') from amzmp.request_log where request_id in ($refused, $prying, $after)")" refused 'the requests themselves are done'
as_shop "create or replace function refuse(account_id bigint, request_id bigint, status integer, answer jsonb) returns void language sql
	         as 'insert into shop.got values (\$2, \$1, \$3)'"
sql_becomes 60 "select count(*) from shop.got where request_id = $refused" 1
is "$(sql "select count(*) from shop.got where request_id = $refused")" 1 'once it is mended, the handler is run again by itself'
is "$(arrived getListingsItem)" 3 'and nothing was sent again'
sql "delete from amzmp.task where subject = '$prying'"

# Cancel, and move up.
forget
as_shop "select amzmp.deactivate('shop')" >/dev/null
ids=()
for sku in first second third last; do
	ids[${#ids[@]}]=$(queue $sku)
done
is "$(as_shop "select amzmp.cancel_request('shop', ${ids[1]})")" t 'a waiting request can be cancelled'
is "$(as_shop "select amzmp.cancel_request('shop', ${ids[1]})")" f 'only once'
is "$(as_shop "select amzmp.retry('shop', ${ids[3]}, 1)")" t 'another is moved up'
as_shop "select amzmp.activate('shop')" >/dev/null
wait_idle
is "$(skus_arrived)" 'last first third' 'that one goes first, and the cancelled one never'
is "$(sql "select outcome from amzmp.request_log where request_id = ${ids[1]}")" cancelled 'which the log tells'
is "$(as_shop "select amzmp.cancel_request('shop', ${ids[0]})")" f 'what was sent cannot be cancelled'

# Transactions.
forget
as_shop begin "$(enqueue rolled-back)" rollback >/dev/null
as_shop begin "savepoint s" "$(enqueue to-savepoint)" "rollback to s" "$(enqueue kept)" commit >/dev/null
as_shop begin "$(enqueue prepared)" "prepare transaction 'one'" >/dev/null
as_shop begin "$(enqueue prepared-and-not)" "prepare transaction 'two'" >/dev/null
as_shop "rollback prepared 'two'"
wait_idle
is "$(skus_arrived)" kept 'what is rolled back, or only prepared, is not sent'
as_shop "commit prepared 'one'"
wait_for 30 test_arrived getListingsItem 2 || true
is "$(skus_arrived)" 'kept prepared' 'what was prepared is sent after COMMIT PREPARED'
as_shop begin "$(enqueue crash)" "prepare transaction 'three'" >/dev/null
cluster_kill9 h
cluster_start h
as_shop "commit prepared 'three'"
wait_for 30 test_arrived getListingsItem 3 || true
is "$(skus_arrived)" 'kept prepared crash' 'also when the server crashed in between'
like "$(control GET stats)" '"overruns":0,"violations":0,' 'Amazon has nothing to object to'
finish
