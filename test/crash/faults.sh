#!/usr/bin/env bash
# Requests of the sender against every fault a network has, wrong credentials, and input that is no good: each ends as it
# should, somebody can see why, and nothing else suffers.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

outcome()
{
	psql -XqAt -v VERBOSITY=sqlstate -c "$1" 2>&1 | sed -n 's/^ERROR:  //p' | head -n 1
}

# struck SKU MEMBERS: the requests for this SKU meet this fault once.
struck()
{
	control POST faults "{\"path\": \"/$1\", $2}" >/dev/null
}

ended()
{
	sql "select outcome || ' ' || status || ' ' || attempt from amzmp.request_log where params ->> 'sku' = '$1'"
}

simulator_start s --rate-scale 0
cluster_start s
shop_connect
sql "create role shopkeeper login" "grant amzmp_admin to shopkeeper" "create schema shop authorization shopkeeper"

# All at once: 404 is Amazon's answer to an unknown SKU, given to the second attempt.
struck too-many '"kind": "status", "status": 429'
struck broken '"kind": "status", "status": 500'
struck away '"kind": "status", "status": 503'
struck before '"kind": "drop_before"'
struck after '"kind": "drop_after"'
struck half '"kind": "truncate"'
struck longer '"kind": "content_length"'
struck gigabyte '"kind": "huge", "bytes": 1000000000'
struck stale '"kind": "expired_token"'
struck denied '"kind": "status", "status": 403'
struck wrong '"kind": "status", "status": 400'
struck large '"kind": "status", "status": 413'
pid=$(sender_pid)
look_at too-many broken away before after half longer gigabyte stale denied wrong large fine
sql_becomes 60 'select count(*) from amzmp.request_log' 13 || diag "$(sql 'select * from amzmp.request')"
for sku in too-many broken away after half longer stale; do
	is "$(ended $sku)" 'refused 404 2' "$sku: the second attempt gets the answer"
done
# When nothing at all came back over a connection that was used before, libcurl itself sends a request again.
like "$(ended before)" '^refused 404 [12]$' 'before: a connection that ends early costs nothing'
is "$(ended fine)" 'refused 404 1' 'a request without a fault needs one attempt'
is "$(ended denied)" 'refused 403 1' 'a 403 is final'
is "$(ended wrong)" 'refused 400 1' 'so is a 400'
is "$(ended large)" 'refused 413 1' 'and a 413'
is "$(ended gigabyte)" 'refused 404 2' 'an answer of a gigabyte is dropped and asked for again'
is "$(sender_pid)" "$pid" 'the sender survives all of them'

# What Amazon answers with a success must be readable before it counts as one.
unreadable()
{
	local kind kinds=$1 name=$2

	for kind in $kinds; do
		control POST faults "{\"operation\": \"getMarketplaceParticipations\", \"kind\": \"$kind\"}" >/dev/null
	done
	sql 'truncate amzmp.request_log' "select amzmp.enqueue('shop', 'getMarketplaceParticipations')" >/dev/null
	sql_becomes 60 'select count(*) from amzmp.request' 0
	is "$(sql "select outcome || ' ' || attempt from amzmp.request_log where operation = 'getMarketplaceParticipations'")" "success $(($(wc -w <<<"$kinds") + 1))" "$name"
}
unreadable 'not_json nul bad_utf8' 'HTML, a NUL and bytes that are not UTF-8 are no answers'
unreadable 'escape nested' 'nor are an escaped NUL and a depth without end'
is "$(sender_pid)" "$pid" 'the sender survives these, too'
sql 'truncate amzmp.request_log'
control POST faults '{"operation": "getMarketplaceParticipations", "kind": "not_json", "count": -1}' >/dev/null
sql "select amzmp.enqueue('shop', 'getMarketplaceParticipations')" >/dev/null
sql_becomes 20 "select attempt >= 2 from amzmp.request where operation = 'getMarketplaceParticipations'" t
pass 'an answer that never becomes readable is asked for again'
sql "update amzmp.request set max_attempts = attempt, not_before = now()" "select amzmp.retry('shop', request_id) from amzmp.request" >/dev/null
sql_becomes 20 'select count(*) from amzmp.request' 0
is "$(sql "select outcome || ' ' || error_code from amzmp.request_log where operation = 'getMarketplaceParticipations'")" 'lost BadAnswer' 'but not for ever'
control DELETE faults >/dev/null

# Amazon's network is down, then up again.
simulator_stop s
look_at down
sql_becomes 20 "select attempt >= 1 and state = 'due' from amzmp.request where params ->> 'sku' = 'down'" t
pass 'while Amazon is down a request waits'
is "$(sql "select count(*) from amzmp.request_log where params ->> 'sku' = 'down'")" 0 'and is not given up'
simulator_start s --rate-scale 0
sql "update amzmp.account set endpoint = '$AMZMP_SIMULATOR_URL', token_endpoint = '$AMZMP_SIMULATOR_URL/auth/o2/token'" \
	"select amzmp.retry('shop', request_id) from amzmp.request" >/dev/null
sql_becomes 60 'select count(*) from amzmp.request' 0
is "$(sql "select outcome || ' ' || status from amzmp.request_log where params ->> 'sku' = 'down'")" 'refused 404' 'when it is up again the request is answered'

# Credentials that Amazon refuses.
control POST refresh_tokens '{"refresh_token": "Atzr|demo", "revoked": true}' >/dev/null
control POST expire_tokens '{}' >/dev/null
look_at revoked
sql_becomes 20 "select state from amzmp.account" invalid
like "$(sql "select state_reason from amzmp.account")" invalid_grant 'a revoked grant makes the account invalid, with the reason'
is "$(sql "select state from amzmp.health() where check_name = 'account shop'")" error 'health() tells'
like "$(sql "select remedy from amzmp.health() where check_name = 'account shop'")" set_credentials 'and says what mends it'
is "$(sql "select amzmp.mark_due('get_orders')")" 0 'its flows stop'
is "$(sql "select state from amzmp.request")" due 'its requests wait'
tokens=$(arrived token)
look_at another
sql "select pg_sleep(0.2)" >/dev/null
is "$(arrived token)" "$tokens" 'Amazon is not asked again with the same grant'
unlike "$(sql "select string_agg(a::text, ' ') from amzmp.activity a")" 'Atzr' 'no log holds the token'
control POST refresh_tokens '{"refresh_token": "Atzr|new", "seller": "A1DEMOSELLER"}' >/dev/null
sql "select amzmp.set_credentials('shop', refresh_token => 'Atzr|new')" >/dev/null
sql_becomes 30 'select count(*) from amzmp.request' 0
is "$(sql "select state from amzmp.account" | sed s/valid/added/)" added 'new credentials mend it'
is "$(sql "select amzmp.mark_due('get_orders')")" 1 'its flows go on'
is "$(sql "select count(*) from amzmp.request_log where params ->> 'sku' in ('revoked', 'another')")" 2 'what waited is sent'

# Tokens that cannot be had for another reason make no account invalid.
control POST faults '{"operation": "token", "kind": "status", "status": 503, "count": 2}' >/dev/null
control POST expire_tokens '{}' >/dev/null
look_at patient
sql_becomes 60 'select count(*) from amzmp.request' 0
unlike "$(sql 'select state from amzmp.account')" invalid 'a token service that is down is waited for'

# Pages that come twice, and a clock that is wrong.
control POST faults '{"operation": "searchOrders", "kind": "duplicate_page"}' >/dev/null
control POST orders '{"items": [{"sku": "A", "quantity": 1}], "count": 120, "ago": 600}' >/dev/null
sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
sql "call amzmp.wait('60 s')"
unlike "$(control GET faults)" duplicate_page 'a page of orders came twice'
is "$(sql 'select (select count(*) from amzmp.orders), (select count(*) from amzmp.order_item)')" '120|120' 'a page of orders that comes twice is imported once'
control POST settings '{"date_skew": 600}' >/dev/null
is "$(sql "select ok from amzmp.test_connection('shop') where check_name = 'clock'")" f 'a clock that differs from Amazon'"'"'s is told'
control POST settings '{"date_skew": 0}' >/dev/null
is "$(sql "select ok from amzmp.test_connection('shop') where check_name = 'clock'")" t 'one that does not is not'

# Input.
is "$(outcome "select amzmp.create_channel('XX', 'shop', 'XX')")" AZ201 'an unknown marketplace'
is "$(outcome "select amzmp.create_channel('US', 'shop', 'US')")" AZ202 'a marketplace of another region'
is "$(outcome "select amzmp.set_credentials('shop', file => 'no-such-file')")" 58P01 'a credentials file that does not exist'
is "$(outcome "select amzmp.search_catalog('DE', ean => '4006381333932')")" AZ202 'an EAN with a wrong check digit'
is "$(outcome "select amzmp.enqueue('shop', 'noSuchOperation')")" AZ201 'an unknown operation'
is "$(outcome "select amzmp.enqueue('nobody', 'getListingsItem')")" AZ201 'an unknown account'
PGUSER=shopkeeper sql "create table shop.product (sku text primary key, price numeric, stock integer)" \
	"create table shop.keyless (id integer primary key, price numeric, stock integer)" \
	"insert into shop.product values ('GOOD', 10, 5), ('BAD', -1, 5)"
is "$(PGUSER=shopkeeper outcome "select amzmp.attach_source('shop', 'shop.keyless')")" AZ202 'a source without a key column'
is "$(PGUSER=shopkeeper outcome "select amzmp.attach_source('shop', 'shop.missing')")" 42P01 'a source that does not exist'
PGUSER=shopkeeper sql "select amzmp.attach_source('shop', 'shop.product')" >/dev/null
sql "call amzmp.wait('30 s')"
is "$(sql "select string_agg(sku, ' ' order by sku) from amzmp.product")" 'BAD GOOD' 'a shop with a negative price is read'
asin=$(control GET 'catalog/eans?count=1&outcome=single' | grep -o 'B0[A-Z0-9]*' | head -n 1)
sql "select amzmp.publish('DE', array['GOOD', 'BAD'], array['$asin', '$asin'])" "call amzmp.wait('30 s')" >/dev/null
is "$(arrived putListingsItem)" 1 'one of the two is offered'
is "$(control GET 'requests?operation=putListingsItem' | grep -o 'value_with_tax[^}]*' | tr -dc '0-9.-' | sed 's/\.0*$//')" 10 'the negative price is not sent'
is "$(sql "select string_agg(distinct code, ' ') from amzmp.penalty where subject = 'BAD'")" NO_PRICE 'and is told'
PGUSER=shopkeeper sql 'drop table shop.product'
sql "select amzmp.rescan('shop')" >/dev/null 2>&1 || true
sql_becomes 30 "select count(*) from amzmp.health() where check_name like 'source %' and state = 'error'" 1
pass 'a source whose table was dropped is told by health()'
is "$(sql "select count(*) from amzmp.product")" 2 'and its products are kept'
finish
