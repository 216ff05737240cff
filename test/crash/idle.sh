#!/usr/bin/env bash
# Idle costs nothing: with nothing due, our processes run no statement and are not woken, however many accounts there are.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# How often our processes have slept and been woken again so far.
wakes()
{
	local pid
	for pid in $(sql "select pid from pg_stat_activity where backend_type in ('amzmp sender', 'amzmp launcher') order by pid"); do
		echo "$pid $(sed -n 's/^voluntary_ctxt_switches:\s*//p' "/proc/$pid/status")"
	done
}

# All statements, but for those of this script.
statements()
{
	sql "select coalesce(sum(calls), 0) from pg_stat_statements where query not like '%pg_stat_%' and query not like '%pg_sleep%'"
}

at_rest()
{
	local before after
	before=$(wakes)
	sleep 6 # the launcher looks once more five seconds after it has started a sender
	after=$(wakes)
	[ "$before" = "$after" ] && [ "$(sql "select count(*) from pg_stat_activity where backend_type like 'amzmp%runner'")" = 0 ]
}

simulator_start s --rate-scale 0
cluster_start s "shared_preload_libraries = 'pg_cron,amzmp,pg_stat_statements'" "pg_stat_statements.track = 'all'" 'autovacuum = off'
shop_connect
sql 'create extension pg_stat_statements'
sql "select count(amzmp.create_account('account-' || g, 'EU', 'app', 'A1SELLER' || g, 'mock', '$AMZMP_SIMULATOR_URL')) from generate_series(1, 500) g" \
	"update amzmp.account set active = true, state = 'valid'" "update amzmp.account_flow set enabled = true" >/dev/null
look_at {1..20}
sql_becomes 30 'select count(*) from amzmp.request_log' 20
sql "call amzmp.wait('30 s')"
# A runner waits a minute for more work before it leaves.
wait_for 60 at_rest || diag "$(sql "select pid, backend_type, wait_event from pg_stat_activity where backend_type like 'amzmp%'")"

sql 'select pg_stat_statements_reset()' >/dev/null
before=$(statements)
asleep=$(wakes)
sleep 10
[ "$(statements)" = "$before" ] || diag "$(sql "select calls, query from pg_stat_statements where query not like '%pg_stat_%'")"
is "$(statements)" "$before" 'ten seconds with nothing due: no statement'
is "$(wakes)" "$asleep" 'and no process of ours was woken'
is "$(wakes | wc -l)" 2 'sender and launcher were there all the time'
look_at awake
sql_becomes 10 'select count(*) from amzmp.request_log' 21
pass 'and the next commit wakes the sender'
finish
