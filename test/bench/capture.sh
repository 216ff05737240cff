#!/usr/bin/env bash
# What capture costs the shop: the same work on two tables that differ in the capture triggers alone, in interleaved
# pairs, so that whatever else the machine does meets both. Ratios with the triggers ÷ without. A third table has a row
# trigger that returns at once: what PostgreSQL itself takes for calling it.
#
#   PAIRS=11 SLICES=10 TRANSACTIONS=1000 ROWS=200000 test/bench/capture.sh
. "$(dirname "$0")/../lib/scene.sh"

PAIRS=${PAIRS:-11}
SLICES=${SLICES:-10}
TRANSACTIONS=${TRANSACTIONS:-1000}
ROWS=${ROWS:-200000}

cluster_start bench 'fsync = on' 'synchronous_commit = on' 'shared_buffers = 512MB' 'max_wal_size = 8GB' \
	'checkpoint_timeout = 1h' 'autovacuum = off'
sql 'create extension pg_cron' 'create extension amzmp'

# median and interval of the values on standard input: the interval is that of the order statistics around the median
# (about 95 % for 11 values and more).
summary()
{
	sort -g | awk '{ v[NR] = $1 } END {
		k = int(NR / 2 - 0.98 * sqrt(NR)); if (k < 1) k = 1
		m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
		printf "%.3f  [%.3f, %.3f]  of %d\n", m, v[k], v[NR + 1 - k], NR }'
}

ratio()
{
	awk -v a="$1" -v b="$2" 'BEGIN { print a / b }'
}

our_processes()
{
	sql "select pid from pg_stat_activity where backend_type like 'amzmp%'"
}

# Stopped, they still count as alive, so keys are written and not mere marks. Not in the middle of a transaction, whose
# locks would stay.
hold()
{
	sql_becomes 60 "select count(*) from pg_stat_activity where backend_type like 'amzmp%' and xact_start is not null" 0
	held=$(our_processes)
	# shellcheck disable=SC2086
	[ -z "$held" ] || kill -STOP $held
}

release()
{
	# shellcheck disable=SC2086
	[ -z "${held:-}" ] || kill -CONT $held
	held=
}
trap 'release; scene_end' EXIT

make_shop()
{
	sql 'create role shop login' 'grant amzmp_operator to shop' 'create schema shop authorization shop' \
		"select amzmp.create_application('app', 'amzn1.application-oa2-client.0123456789abcdef')" \
		"select amzmp.create_account('acc', 'EU', 'app', mode => 'mock', endpoint => 'http://127.0.0.1:9', token_endpoint => 'http://127.0.0.1:9/token')" \
		'set role shop' \
		'create table shop.plain (sku text primary key, price numeric(10, 2), stock integer, title text) with (fillfactor = 70)' \
		"insert into shop.plain select 'SKU-' || lpad(i::text, 7, '0'), i % 1000, i % 100, repeat('x', 100) from generate_series(1, $ROWS) as i" \
		'create table shop.captured (like shop.plain including all) with (fillfactor = 70)' \
		'insert into shop.captured select * from shop.plain' >"$RUN/bench.out"
	sql 'create table shop.idle (like shop.plain including all) with (fillfactor = 70)' 'insert into shop.idle select * from shop.plain' \
		"create trigger idle after insert or update or delete on shop.idle for each row execute function amzmp.capture('0', 'shop', 'sku')"
	sql 'vacuum analyze shop.plain' 'vacuum analyze shop.captured' 'vacuum analyze shop.idle'
	PGUSER=shop sql "select amzmp.attach_source('acc', 'shop.captured', title => 'title')" >>"$RUN/bench.out"
	sql_becomes 300 "select bool_and(rescan_due > now()) from amzmp.source" t
}

# seconds that $TRANSACTIONS single-row updates of a table take, as pgbench measured them
slice()
{
	printf '\\set i random(1, %s)\nupdate shop.%s set price = price + 0.01, stock = stock + 1 where sku = '\''SKU-'\'' || lpad((:i)::text, 7, '\''0'\'');\n' \
		"$ROWS" "$1" >"$RUN/bench.sql"
	pgbench -n -M prepared -c "$2" -j "$2" -t "$((TRANSACTIONS / $2))" -f "$RUN/bench.sql" 2>>"$RUN/bench.out" |
		awk -v n="$TRANSACTIONS" '/^tps/ { print n / $3 }'
}

# rate_pairs CLIENTS: ratios. A pair is SLICES short slices of each, one after the other, so that it sees the same machine.
rate_pairs()
{
	local i j
	for ((i = 0; i < PAIRS; i++)); do
		for ((j = 0; j < SLICES; j++)); do
			if ((j % 2)); then
				echo "with $(slice captured "$1")"
				echo "without $(slice plain "$1")"
			else
				echo "without $(slice plain "$1")"
				echo "with $(slice captured "$1")"
			fi
		done | awk '{ sum[$1] += $2 } END { print sum["without"] / sum["with"] }'
	done
}

# milliseconds of an UPDATE of all rows
bulk()
{
	sql "vacuum shop.$1"
	psql -XqAt -c "${2:-select}" -c '\timing on' -c "update shop.$1 set price = price + 1, stock = stock + 1" |
		sed -n 's/^Time: \([0-9.]*\).*/\1/p' | tail -n 1
}

# bulk_pairs TABLE [SETTING]: ratios of the times
bulk_pairs()
{
	local i with without
	for ((i = 0; i < PAIRS; i++)); do
		without=$(bulk plain)
		with=$(bulk "$1" "${2:-select}")
		ratio "$with" "$without"
		empty_queue
	done
}

empty_queue()
{
	sql 'truncate amzmp.change, amzmp.rescan_mark, amzmp.source_change'
}

wait_for 60 sql_says 'select amzmp._processes()' running
make_shop

hold
echo "single-row UPDATE, rate with capture ÷ without (target ≥ 0.95), our processes held"
for clients in 1 4; do
	printf '  %s client(s)       ' "$clients"
	rate_pairs "$clients" | summary
	empty_queue
done
echo "UPDATE of $ROWS rows, time with capture ÷ without, our processes held"
printf '  keys (≤ 1.5)      '
bulk_pairs captured | summary
printf '  marks (≤ 1.15)    '
bulk_pairs captured 'set amzmp.capture_max_keys = 0' | summary
printf '  a row trigger that does nothing  '
bulk_pairs idle | summary

echo "the same while another session holds a snapshot"
mkfifo "$RUN/snapshot"
psql -XqAt <"$RUN/snapshot" >>"$RUN/bench.out" &
snapshot=$!
exec 7>"$RUN/snapshot"
echo 'begin isolation level repeatable read; select txid_current_snapshot();' >&7
sql_becomes 30 "select count(*) from pg_stat_activity where state = 'idle in transaction'" 1
printf '  1 client, rate    '
rate_pairs 1 | summary
printf '  keys, time        '
sql 'delete from amzmp.change'
PAIRS=3 bulk_pairs captured | summary
echo 'rollback;' >&7
exec 7>&-
wait "$snapshot"
sql 'vacuum shop.plain' 'vacuum shop.captured'
empty_queue
release

echo "with everything running"
printf '  1 client, rate    '
rate_pairs 1 | summary
echo "rows left in amzmp.change: $(sql 'select count(*) from amzmp.change')"
