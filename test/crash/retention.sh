#!/usr/bin/env bash
# What grows is bounded: finished requests and answers leave the hot tables, housekeeping makes tomorrow's partitions of the
# logs and drops old ones, each account's retention is kept, and a reader of the log is neither waited for nor in the way.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

housekeeping()
{
	sql "select amzmp.run_flow('housekeeping', account => '${1:-shop}')" "call amzmp.wait('60 s')" >/dev/null
}

# Days of the partitions of a log, counted from today.
days()
{
	sql "select string_agg((to_date(right(c.relname, 8), 'YYYYMMDD') - (now() at time zone 'UTC')::date)::text, ' ' order by c.relname)
	       from pg_inherits i join pg_class c on c.oid = i.inhrelid
	      where i.inhparent = 'amzmp.$1'::regclass and c.relname ~ '_[0-9]{8}$'"
}

# old_day TABLE DAYS: a partition of so many days ago, as housekeeping made it before that day.
old_day()
{
	sql "set timezone = 'UTC'; do \$\$
	     declare day date := current_date - $2; name text := '$1_' || to_char(day, 'YYYYMMDD');
	     begin
	         execute format('create table amzmp.%I (like amzmp.%I including all)', name, '$1_default');
	         execute format('alter table amzmp.%I owner to amzmp_owner', name);
	         execute format('alter table amzmp.%I attach partition amzmp.%I for values from (%L) to (%L)', '$1', name, day, day + 1);
	     end \$\$" >/dev/null
}

# A line of each log, of so many days ago: ACCOUNT DAYS
old_lines()
{
	sql "insert into amzmp.activity (account_id, at, level, message)
	       select account_id, now() - interval '$2 days', 'info', 'old' from amzmp.account where name = '$1'" \
		"insert into amzmp.request_log (account_id, request_id, operation, outcome, attempt, priority, created_at, finished_at)
	       select account_id, nextval('amzmp.request_id_seq'), 'getListingsItem', 'success', 1, 100, now(), now() - interval '$2 days'
	         from amzmp.account where name = '$1'" >/dev/null
}

# Ages in days of an account's old lines: LOG TIME ACCOUNT
ages()
{
	sql "select string_agg(age, ' ' order by age::integer) from (
	       select extract(day from now() - l.$2 + interval '1 hour')::text as age
	         from amzmp.$1 l join amzmp.account a using (account_id) where a.name = '$3' and l.$2 < now() - interval '23 hours') x"
}

simulator_start s --rate-scale 0
cluster_start r "timezone = 'Pacific/Kiritimati'"
shop_connect
sql "select amzmp.create_account('other', 'EU', 'app', 'A1OTHERSELLER', 'mock', '$AMZMP_SIMULATOR_URL', rate_scale => 0)" \
	"select amzmp.set_credentials('other', refresh_token => 'Atzr|demo-A1OTHERSELLER')" "select amzmp.activate('other')" >/dev/null

# The hot tables.
look_at a-{1..50}
sql "select amzmp.run_flow('get_orders', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
is "$(sql 'select count(*) from amzmp.request')" 0 'finished requests leave the hot table'
is "$(sql "select count(*) from amzmp.request_log where operation = 'getListingsItem'")" 50 'for the log'
is "$(sql "select count(*) > 0 from amzmp.request_log where operation = 'searchOrders'")" t 'answers that a runner applies too'
is "$(sql 'select count(*) from amzmp.answer')" 0 'and are removed'
is "$(sql "select count(*) from amzmp.task where kind in ('apply', 'flow')")" 0 'as are tasks that are done'

# Partitions.
housekeeping
is "$(days activity)|$(days request_log)" '1 2|1 2' 'housekeeping makes the next two days'
housekeeping
is "$(days activity)|$(days request_log)" '1 2|1 2' 'once'
for age in 5 10 20 40; do
	old_day activity $age
	old_day request_log $age
	old_lines shop $age
	old_lines other $age
done
is "$(days activity)" '-40 -20 -10 -5 1 2' 'there are old days'
housekeeping
is "$(days activity)" '-20 -10 -5 1 2' 'days past 30 days go from the log of activity'
is "$(days request_log)" '-5 1 2' 'and past 7 days from that of requests'
is "$(ages activity at other)|$(ages request_log finished_at other)" '5 10 20|5' 'with all that was in them'

# An account of its own mind.
sql "select amzmp.set('shop', 'activity_retention', '8 days')" "select amzmp.set('other', 'request_retention', '15 days')" >/dev/null
old_day request_log 10
old_lines other 10
old_lines shop 10
old_lines shop 3
housekeeping
housekeeping other
is "$(ages activity at shop)|$(ages activity at other)" '3 5|5 10 10 20' 'an account that keeps less loses its own lines only'
is "$(ages request_log finished_at shop)|$(ages request_log finished_at other)" '3 5|5 10' 'one that keeps more keeps the days for itself'
is "$(days activity)|$(days request_log)" '-20 -10 -5 1 2|-10 -5 1 2' 'days go when nobody keeps them'

# The default partition, which takes what finds none.
old_lines shop 100
housekeeping
is "$(sql "select count(*) from amzmp.activity_default where at < now() - interval '31 days'")|$(sql "select count(*) from amzmp.request_log_default where finished_at < now() - interval '16 days'")" '0|0' 'what fell into the default partition goes too'

# Somebody reads the log.
old_day activity 40
hold 'select count(*) from amzmp.activity'
housekeeping
is "$(sql "select state from amzmp.flow_run where flow = 'housekeeping' order by flow_run_id desc limit 1")" 'done' 'a reader of the log does not stop housekeeping'
is "$(days activity)" '-40 -20 -10 -5 1 2' 'which leaves the day for later'
look_at b-{1..5}
sql "call amzmp.wait('60 s')"
is "$(sql "select count(*) from amzmp.request_log where params ->> 'sku' like 'b-%'")" 5 'and nobody waits meanwhile'
release
housekeeping
is "$(days activity)" '-20 -10 -5 1 2' 'until the reader is gone'
finish
