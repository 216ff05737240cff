#!/usr/bin/env bash
# Many accounts, each with its default flows, for an hour of their own clock: does every flow run within its period, does any
# call exceed a usage plan, what does it cost?
#
#   ACCOUNTS=5000 SCALE=12 test/bench/accounts.sh      an hour at SCALE takes 3600 / SCALE seconds
#
# By default 1,000 accounts at a scale that makes as much work in a second as 5,000 would seven times as fast as real time.
. "$(dirname "$0")/../lib/scene.sh"
. "$(dirname "$0")/../lib/shop.sh"
. "$(dirname "$0")/../lib/bench.sh"

ACCOUNTS=${ACCOUNTS:-1000}
SCALE=${SCALE:-36}

# seconds of processor time that the processes of a pattern have used since they began
cpu_of()
{
	local pid total=0 stat
	for pid in $(sql "select pid from pg_stat_activity where backend_type ~ '$1'"); do
		stat=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
		# shellcheck disable=SC2086
		set -- "$1" ${stat##*) }
		total=$((total + ${13} + ${14}))
	done
	awk -v t="$total" -v h="$(getconf CLK_TCK)" 'BEGIN { printf "%.1f\n", t / h }'
}

memory_of()
{
	local pid total=0
	for pid in $(sql "select pid from pg_stat_activity where backend_type ~ '$1'"); do
		total=$(awk -v a="$total" -v b="$(memory_mb "$pid")" 'BEGIN { print a + b }')
	done
	echo "$total"
}

simulator_start s --time-scale "$SCALE"
bench_cluster a 'amzmp.max_connections = 200'
note "$ACCOUNTS accounts with the default flows, an hour of theirs in $((3600 / SCALE)) s"
began=$(clock_us)
sql "do \$\$begin for i in 1 .. $ACCOUNTS loop
	perform amzmp.create_account('a' || i, 'EU', 'app', 'A' || lpad(i::text, 12, '0'), 'mock', '$AMZMP_SIMULATOR_URL', time_scale => $SCALE);
	perform amzmp.set_credentials('a' || i, client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo-A' || lpad(i::text, 12, '0'));
	perform amzmp.create_channel('a' || i || '-de', 'a' || i, 'DE');
	if i % 100 = 0 then commit; end if;
	end loop; end\$\$" >/dev/null
figure 'making one account with a channel' "$(awk -v a="$(($(clock_us) - began))" -v n="$ACCOUNTS" 'BEGIN { printf "%.2f", a / n / 1000 }')" ms ''
began=$(clock_us)
sql "do \$\$begin for i in 1 .. $ACCOUNTS loop
	perform amzmp.activate('a' || i), amzmp.activate('a' || i || '-de');
	if i % 100 = 0 then commit; end if;
	end loop; end\$\$" >/dev/null
figure 'activating it, with its channel' "$(awk -v a="$(($(clock_us) - began))" -v n="$ACCOUNTS" 'BEGIN { printf "%.2f", a / n / 1000 }')" ms ''
# What activation asked for is done before the hour begins.
wait_for 120 sql_says "select count(*) from amzmp.account_flow f join amzmp.account a using (account_id) where f.enabled and f.next_at is null" 0
wait_for 300 sql_says "select count(*) from amzmp.task where due_at < now() - interval '0.5 s'" 0
runner_before=$(cpu_of 'amzmp runner')
sender_before=$(cpu_of 'amzmp sender')
runs_before=$(sql "select coalesce(sum(1 + idle_runs), 0) from amzmp.flow_run")
started=$(sql 'select clock_timestamp()')
sleep $((3600 / SCALE))
ended=$(sql 'select clock_timestamp()')
runner_cpu=$(awk -v a="$(cpu_of 'amzmp runner')" -v b="$runner_before" 'BEGIN { print a - b }')
sender_cpu=$(awk -v a="$(cpu_of 'amzmp sender')" -v b="$sender_before" 'BEGIN { print a - b }')
note "sender: $sender_cpu s of processor time, $(memory_of 'amzmp sender') MB; runners: $runner_cpu s, $(memory_of 'amzmp runner') MB"
runs=$(($(sql "select coalesce(sum(1 + idle_runs), 0) from amzmp.flow_run") - runs_before))
figure 'runs of flows' "$(awk -v n="$runs" -v s=$((3600 / SCALE)) 'BEGIN { printf "%.0f", n / s }')" /s ''

# What is sure even where others use the machine: processor time, and how many accounts fill a processor in their real hours.
figure 'processor time of the runner for one run' "$(awk -v c="$runner_cpu" -v n="$runs" 'BEGIN { printf "%.2f", c / n * 1000 }')" ms ''
figure 'accounts that keep one processor of the runner busy' "$(awk -v c="$runner_cpu" -v a="$ACCOUNTS" 'BEGIN { printf "%.0f", 3600 / (c / a) }')" '' '>= 5000'
figure 'accounts that keep one processor of the sender busy' "$(awk -v c="$sender_cpu" -v a="$ACCOUNTS" 'BEGIN { printf "%.0f", 3600 / (c / a) }')" '' '>= 5000'

# Between two runs of a flow, or the last and the end, lie at most two of its periods.
late=$(sql "with expected as (
		select f.account_id, f.channel_id, f.flow, (case split_part(s.every, ' ', 1) when '*' then 1 else substr(split_part(s.every, ' ', 1), 3)::int end
			* interval '1 minute') / $SCALE as period
		  from amzmp.account_flow f join amzmp.flow_schedule s using (flow)
		 where f.enabled and s.every ~ '^(\*|\*/[0-9]+) \* \* \* \*$'
	), marks as (
		select e.*, r.began, r.done, r.pause from expected e join lateral (
			select x.started_at as began, coalesce(x.last_idle_at, x.started_at) as done, x.longest_pause as pause from amzmp.flow_run x
			 where x.account_id = e.account_id and x.flow = e.flow and x.channel_id = e.channel_id
			   and coalesce(x.last_idle_at, x.started_at) >= '$started'
			union all values ('$started'::timestamptz, '$started'::timestamptz, null::interval), ('$ended', '$ended', null)) r on true
	), gaps as (
		select account_id, channel_id, flow, period, greatest(pause, began - max(done) over (partition by account_id, channel_id, flow
			order by began rows between unbounded preceding and 1 preceding)) as gap from marks
	), worst as (
		select account_id, channel_id, flow, max(gap) / extract(epoch from min(period)) as periods from gaps group by 1, 2, 3
	)
	select count(*) filter (where extract(epoch from periods) > 2) || ' ' || count(*) || ' '
		|| round(percentile_cont(0.5) within group (order by extract(epoch from periods))::numeric, 2) || ' '
		|| round(max(extract(epoch from periods)), 2) from worst")
# shellcheck disable=SC2086
set -- $late
figure "flows with a gap of more than two periods, of $2" "$1" flows '<= 0'
figure 'longest gap between two runs, median of all flows' "$3" periods '<= 2'
figure 'longest gap between two runs, worst of all flows' "$4" periods '<= 2'
figure 'calls refused as too many (429)' "$(sql 'select coalesce(sum(throttled), 0) from amzmp.usage')" calls '<= 0'
figure 'calls of operations' "$(sql "select count(*) from amzmp.request_log")" calls ''
figure 'calls that did not succeed' "$(sql "select count(*) from amzmp.request_log where outcome not in ('success', 'obsolete')")" calls '<= 0'
figure 'runs that failed' "$(sql "select count(*) from amzmp.flow_run where state = 'failed'")" runs '<= 0'
violations=$(control GET violations | grep -o '"count": *[0-9]*' | grep -o '[0-9]*')
figure 'requests that Amazon would not take' "$violations" calls '<= 0'
sql "select flow, round(sum(1 + idle_runs) / $ACCOUNTS.0, 1) from amzmp.flow_run group by 1 order by 1" | sed 's/^/# runs an account: /'
note "tasks left: $(sql "select string_agg(kind || ' ' || n, ', ') from (select kind, count(*) as n from amzmp.task where due_at < now() - interval '1 second' group by 1) x")"
note "postmaster's children, CPU: $(sql 'select count(*) from pg_stat_activity') processes, load $(cut -d' ' -f1 /proc/loadavg)"
