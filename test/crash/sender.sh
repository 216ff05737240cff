#!/usr/bin/env bash
# The sender dies, or is told to leave, at every stage of a request's way: each request ends exactly once, only what was
# in flight is sent twice, and what must not be repeated is not.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# How many subjects of an operation reached the simulator more often than once.
repeated()
{
	control GET "arrivals?operation=$1&limit=65536" | grep -o '"[^"]*"\]' | sort | uniq -d | wc -l
}

fault()
{
	control POST faults "$1" >/dev/null
}

sending()
{
	sql "select count(*) from amzmp.request where state = 'sending'"
}

nothing_lost()
{
	sql_becomes 60 'select count(*) from amzmp.request' 0 || diag "$(sql 'select operation, state, attempt, hold_reason from amzmp.request')"
	is "$(sql 'select count(*), count(distinct request_id) from amzmp.request_log')" "$1|$1" "$2"
}

forget()
{
	sql 'truncate amzmp.request_log' >/dev/null
	control POST stats/reset '{}' >/dev/null
}

report="select amzmp.enqueue('shop', 'createReport', '{}',
	'{\"reportType\": \"GET_MERCHANT_LISTINGS_ALL_DATA\", \"marketplaceIds\": [\"A1PA6795UKMFR9\"]}')"
cancellation="select amzmp.enqueue('shop', 'cancelReport', '{\"reportId\": \"1\"}')"

simulator_start s --rate-scale 0
cluster_start s
shop_connect
# None of the operations whose lost answer a person must judge is one that the simulator knows.
sql "update amzmp.operation set after_lost_answer = 'ask' where name = 'cancelReport'"

for signal in TERM KILL; do
	# The token that is awaited holds everything back.
	fault '{"operation": "token", "kind": "delay", "delay_ms": 60000}'
	control POST expire_tokens '{}' >/dev/null
	sql "select amzmp.set_credentials('shop', refresh_token => 'Atzr|demo')" >/dev/null
	look_at "$signal"-early-{1..20}
	wait_for 10 test_arrived token 1
	is "$(sending)" 0 "SIG$signal before send: nothing is claimed while a token is awaited"
	sender_end $signal
	nothing_lost 20 'all are sent by the next sender'
	is "$(arrived getListingsItem)" 20 'each once'
	forget

	fault '{"operation": "getListingsItem", "kind": "delay", "delay_ms": 60000, "count": 20}'
	look_at "$signal"-flight-{1..20}
	wait_for 10 test_arrived getListingsItem 20
	is "$(sending)" 20 "SIG$signal in flight: what was sent is marked so"
	look_at "$signal"-next-{1..20}
	sql_becomes 10 'select count(*) from amzmp.request_log' 20
	is "$(sending)" 20 'hanging transfers delay no other'
	sender_end $signal
	nothing_lost 40 'no request is lost'
	is "$(repeated getListingsItem)" 20 'what was in flight is sent twice, and nothing else'
	is "$(arrived getListingsItem)" 60 'and no third time'
	is "$(sql "select count(*) from amzmp.request_log where attempt = 2")" 20 'each attempt was counted before it was made'
	forget

	# A lock on the log stops the sender where it has the answers and has not yet committed them.
	hold 'lock table amzmp.request_log in exclusive mode'
	# one transaction, so that all are sent before the first answer is applied
	sql begin "$report" "$(looking_at "$signal"-late-{1..5})" commit >/dev/null
	sql_becomes 10 "select count(*) > 0 from pg_locks l join pg_stat_activity a using (pid) where not l.granted and a.backend_type = 'amzmp sender'" t
	pass "SIG$signal between answer and commit"
	sender_end $signal
	release
	nothing_lost 6 'no request is lost'
	is "$(arrived createReport)" 1 'an operation that must be looked up is not repeated'
	is "$(sql "select outcome from amzmp.request_log where operation = 'createReport'")" lost 'its answer counts as lost'
	is "$(sql "select count(*) from amzmp.request_log where operation = 'getListingsItem' and outcome = 'refused'")" 5 'the others have their answers'
	forget

	# Nobody knows whether these arrived.
	fault '{"operation": "createReport", "kind": "delay", "delay_ms": 60000}'
	fault '{"operation": "cancelReport", "kind": "delay", "delay_ms": 60000}'
	sql "$report" >/dev/null
	held=$(sql "$cancellation")
	sql_becomes 10 "select count(*) from amzmp.request where state = 'sending'" 2
	wait_for 10 test_arrived createReport 1
	sender_end $signal
	sql_becomes 30 "select string_agg(operation || ' ' || state, ', ') from amzmp.request" 'cancelReport held'
	is "$(sql "select operation, outcome from amzmp.request_log")" 'createReport|lost' 'what must be looked up ends as lost'
	like "$(sql "select hold_reason from amzmp.request where request_id = $held")" 'repeating is not safe' 'what must be asked waits for a person'
	is "$(sql "select state from amzmp.health() where check_name = 'held requests'")" warning 'health() tells'
	is "$(arrived createReport)" 1 'neither is repeated'
	is "$(sql "select amzmp.cancel_request('shop', $held)")" t 'a held request can be cancelled'
	forget
done

# A transfer that hangs, and one that is refused before it is sent, among others.
fault '{"path": "/hang", "kind": "delay", "delay_ms": 60000}'
look_at hang .. fine-{1..30}
sql_becomes 20 'select count(*) from amzmp.request_log' 31
is "$(sql "select count(*) from amzmp.request where state = 'sending'")" 1 'one hanging transfer delays none of the others'
is "$(sql "select outcome || ' ' || error_code from amzmp.request_log where params ->> 'sku' = '..'")" 'refused AZ202' 'a request that cannot be built ends with its error'
is "$(arrived getListingsItem)" 31 'and is not sent'
sql "select amzmp.enqueue('shop', 'getListingsItem', '[]')" "select amzmp.enqueue('shop', 'getListingsItem', '\"x\"')" "select amzmp.enqueue('shop', 'getListingsItem', '{\"sku\": {}}')" >/dev/null 2>&1 || true
look_at after
sql_becomes 20 "select outcome from amzmp.request_log where params ->> 'sku' = 'after'" refused
is "$(sql "select count(*) from amzmp.request where state <> 'sending'")" 0 'parameters that are no parameters keep nobody waiting'
is "$(control GET stats | grep -c '"overruns":0,')" 1 'no usage plan was overrun'
finish
