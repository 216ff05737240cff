#!/usr/bin/env bash
# One transfer that hangs delays no other, nor the end of the server; and what the sender holds in memory does not grow
# with what it has sent.
#
#   REQUESTS=100000 test/bench/slow_transfer.sh
. "$(dirname "$0")/../lib/scene.sh"
. "$(dirname "$0")/../lib/shop.sh"
. "$(dirname "$0")/../lib/bench.sh"

REQUESTS=${REQUESTS:-100000}
HANG_MS=50000

queue()
{
	sql "insert into amzmp.request (account_id, operation, params)
	     select account_id, 'getListingsItem', jsonb_build_object('sku', '$1-' || i, 'marketplaceIds', '{A1PA6795UKMFR9}'::text[])
	       from amzmp.account, generate_series(1, $2) i where name = 'shop'" 'select amzmp._wake() is null' >/dev/null
}

# seconds_for NAME COUNT: from the commit to the last of the answers applied
seconds_for()
{
	local began
	began=$(clock_us)
	queue "$1" "$2"
	sql_becomes 300 "select count(*) from amzmp.request_log where params ->> 'sku' like '$1-%'" "$2"
	sql "select round(extract(epoch from max(finished_at)) - $began / 1000000.0, 2)
	       from amzmp.request_log where params ->> 'sku' like '$1-%'"
}

# drain COUNT: sends that many and waits for the last
drain()
{
	queue "LEAK$1" "$1"
	sql_becomes 300 'select exists (select from amzmp.request)' f
}

simulator_start amazon --rate-scale 0
bench_cluster bench
connect shop

seconds_for WARM 1000 >/dev/null
alone=$(seconds_for ALONE 2000)
control POST faults "{\"operation\": \"getListingsItem\", \"kind\": \"delay\", \"delay_ms\": $HANG_MS, \"count\": 1}" >/dev/null
queue HANG 1
sql_becomes 30 "select count(*) from amzmp.request where state = 'sending'" 1
beside=$(seconds_for BESIDE 2000)
figure "2,000 requests beside one that hangs" "$beside" s '' "$alone"
note "still in flight: $(sql "select count(*) from amzmp.request where state = 'sending'")"

began=$(clock_us)
cluster_stop bench fast
figure "fast shutdown with a transfer hanging" "$(awk -v us=$(($(clock_us) - began)) 'BEGIN { printf "%.2f", us / 1e6 }')" s '<= 2'
cluster_start bench

control DELETE faults >/dev/null
sql_becomes 60 'select amzmp._processes()' running
sql_becomes 60 'select exists (select from amzmp.request)' f
drain 10000
after_few=$(memory_mb "$(sender_pid)")
drain $((REQUESTS - 10000))
after_all=$(memory_mb "$(sender_pid)")
figure "memory of the sender after $REQUESTS requests" "$after_all" MB "<= $(awk -v m="$after_few" 'BEGIN { print m * 1.1 + 2 }')" "$after_few"
