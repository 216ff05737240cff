#!/usr/bin/env bash
# The server stops at once whatever is in flight: a request that hangs, a user's statement that runs for long. The bounds
# are generous; without interrupts a stop would take minutes here.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

stops()
{
	local began=$SECONDS
	cluster_stop s "$1" || return 1
	[ $((SECONDS - began)) -le 10 ]
}

# A user's handler that takes ten minutes for its answer.
long_statement()
{
	PGUSER=shopkeeper sql "select amzmp.enqueue('shop', 'getMarketplaceParticipations', handler => 'shop.dawdle')" >/dev/null
	sql_becomes 30 "select count(*) from pg_stat_activity where backend_type = 'amzmp user runner' and wait_event = 'PgSleep'" 1
}

hang()
{
	look_at "$1"
	wait_for 20 hangs "$1"
}

hangs()
{
	sql "select state from amzmp.request where params ->> 'sku' = '$1'" | grep -q sending
}

simulator_start s --rate-scale 0
cluster_start s
shop_connect
sql 'create role shopkeeper login' 'grant amzmp_operator to shopkeeper' 'create schema shop authorization shopkeeper' \
	"create function shop.dawdle(bigint, bigint, integer, jsonb) returns void language sql as 'select pg_sleep(600)'"
control POST faults '{"path": "/hang", "kind": "delay", "delay_ms": 600000, "count": -1}' >/dev/null

hang hang-1
succeeds 'a fast shutdown does not wait for a request that hangs' stops fast
cluster_start s
sql_becomes 30 "select state || ' ' || attempt from amzmp.request" 'sending 2'
pass 'after the start the request is sent again'

long_statement
runner=$(sql "select pid from pg_stat_activity where backend_type = 'amzmp user runner'")
kill -TERM "$runner"
succeeds 'SIGTERM ends a runner inside a user'"'"'s long statement' wait_for 10 process_gone "$runner"
succeeds 'the attempt that it cut short is counted, and the task begun again' \
	sql_becomes 20 "select attempt from amzmp.task where kind = 'handler'" 2
runner=$(sql "select pid from pg_stat_activity where backend_type = 'amzmp user runner'")
sql 'delete from amzmp.task'
kill -TERM "$runner"
wait_for 10 process_gone "$runner"

long_statement
runner=$(sql "select pid from pg_stat_activity where backend_type = 'amzmp user runner'")
sql "select pg_cancel_backend($runner)" >/dev/null
sql_becomes 10 "select last_error is not null from amzmp.task where kind = 'handler'" t
pass 'a cancelled statement is a failed task'
is "$(sql "select count(*) from pg_stat_activity where pid = $runner and backend_type = 'amzmp user runner'")" 1 'whose runner goes on'

sql 'delete from amzmp.task'
long_statement
succeeds 'a fast shutdown does not wait for a user'"'"'s statement' stops fast
cluster_start s
sql_becomes 30 "select count(*) from pg_stat_activity where backend_type = 'amzmp sender'" 1
hang hang-2
succeeds 'an immediate one neither' stops immediate
control DELETE faults >/dev/null
cluster_start s
sql_becomes 60 'select count(*) from amzmp.request' 0
is "$(sql "select string_agg(params ->> 'sku', ' ' order by params ->> 'sku') from amzmp.request_log where params ? 'sku'")" 'hang-1 hang-2' 'after the last start every request ends'
finish
