#!/usr/bin/env bash
# What amzmp does while there is nothing to do: 5,000 connected accounts, no flow due. Statements are counted by
# pg_stat_statements over a minute, wake-ups by the kernel over ten seconds. And what looking for due work costs among
# so many accounts, of which one has something due.
#
#   ACCOUNTS=5000 WATCH=60 test/bench/idle.sh
. "$(dirname "$0")/../lib/scene.sh"
. "$(dirname "$0")/../lib/shop.sh"
. "$(dirname "$0")/../lib/bench.sh"

ACCOUNTS=${ACCOUNTS:-5000}
WATCH=${WATCH:-60}

our_pids()
{
	sql "select pid from pg_stat_activity where backend_type like 'amzmp%' order by 1"
}

# Times that our processes went to sleep, which is once more than they were woken.
wake_ups()
{
	local pid sum=0 one
	for pid in $1; do
		one=$(awk '/^voluntary_ctxt_switches/ { print $2 }' "/proc/$pid/status")
		sum=$((sum + one))
	done
	echo "$sum"
}

# Statements at any level; ours run as a superuser that no session of this script is.
statements()
{
	sql "select coalesce(sum(calls), 0) from pg_stat_statements where query not like '%pg_stat%'"
}

simulator_start amazon --rate-scale 0
bench_cluster bench "shared_preload_libraries = 'pg_cron,amzmp,pg_stat_statements'" 'pg_stat_statements.track = all' \
	'autovacuum = off'
sql 'create extension pg_stat_statements'
sql "select count(amzmp.create_account('account-' || i, 'EU', 'app', 'A1DEMOSELLER', 'mock', '$AMZMP_SIMULATOR_URL', rate_scale => 0))
       from generate_series(1, $ACCOUNTS) i" \
	"select count(amzmp.set_credentials('account-' || i, client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo'))
	   from generate_series(1, $ACCOUNTS) i" \
	"select count(amzmp.activate('account-' || i)) from generate_series(1, $ACCOUNTS) i" >/dev/null
sql_becomes 120 'select amzmp.pending($$idle$$) is null' t
# runners stay for a minute after their last task
wait_for 120 sql_says "select count(*) from pg_stat_activity where backend_type like 'amzmp%runner'" 0 || note "a runner is still there"
pids=$(our_pids)

before=$(wake_ups "$pids")
sleep 10
figure "idle, $ACCOUNTS accounts: wake-ups in 10 s" $(($(wake_ups "$pids") - before)) '' '<= 0'

sql 'select pg_stat_statements_reset()' >/dev/null
sleep "$WATCH"
figure "idle, $ACCOUNTS accounts: statements in $WATCH s" "$(statements)" '' '<= 0'

sql "insert into amzmp.request (account_id, operation, not_before)
     select account_id, 'getListingsItem', now() + interval '1 hour' from amzmp.account where name = 'account-$ACCOUNTS'"
cost=$(psql -XqAt -c 'set role amzmp_owner' -c 'select count(*) from amzmp._lanes()' -c 'select count(*) from amzmp._work()' \
	-c '\timing on' -c 'select count(*) from amzmp._lanes()' -c 'select count(*) from amzmp._work()' |
	sed -n 's/^Time: \([0-9.]*\).*/\1/p' | awk '{ sum += $1 } END { print sum }')
figure "looking for due work among $ACCOUNTS accounts" "$cost" ms ''
