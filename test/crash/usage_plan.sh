#!/usr/bin/env bash
# What is known of the usage plans' buckets after each kind of stop: no token that may have been spent is given again.
# The rate is such that nothing flows in while this runs.
. "$(dirname "$0")/../lib/tap.sh"

granted()
{
	sql "select count(*) filter (where amzmp._usage_take($1, 'slow', 0.000001, 5) = 0) from generate_series(1, ${2:-10})"
}

state_file()
{
	echo "$(cluster_dir plan)/data/pg_stat/amzmp_usage_plan.stat"
}

cluster_start plan
sql 'create extension amzmp'
is "$(granted 1 3)" 3 'at its very first start the library takes buckets to be full'

cluster_restart plan
is "$(granted 1)" 2 'a clean stop keeps what was left'
is "$(granted 2)" 5 'and buckets that were full are still full'

cluster_kill9 plan
cluster_start plan
is "$(granted 1)$(granted 2)$(granted 3)" 000 'after a crash no bucket is trusted, known or not'

cluster_restart plan
is "$(granted 3)$(granted 4)" 00 'a clean stop after a crash restores no trust'

cluster_stop plan
rm "$(state_file)"
cluster_start plan
is "$(granted 5 3)" 3 'without a file it is the first start'
sql "select pg_sleep(60)" >/dev/null 2>&1 &
wait_for 30 sql_says "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'" 1
kill -9 "$(sql "select pid from pg_stat_activity where query = 'select pg_sleep(60)'")"
wait_for 60 sql_says "select amzmp._usage_take(6, 'slow', 0.000001, 5) > 0" t
is "$(granted 5)$(granted 6)" 00 'when one process crashes and the server begins anew, no bucket is trusted'
wait || true

cluster_stop plan
truncate -s 100 "$(state_file)"
cluster_start plan
is "$(granted 7)" 0 'a file that is not whole counts as a crash'
finish
