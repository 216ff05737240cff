# shellcheck shell=bash
# What the benchmarks of the loop share: how a figure is printed, an account to send from, and the sender seen from
# outside. Source scene.sh and shop.sh first.
#
#   figure NAME VALUE UNIT TARGET [PEER]   one line: the figure, whether it meets the target (such as '<= 5'), its ratio to PEER
#   note TEXT                              a line that is no figure
#   bench_cluster NAME [setting …]         a cluster that writes to the disk as a shop's would
#   bench_tools                            builds the C helpers beside the benchmarks
#   connect NAME [ENDPOINT]                an account with the demo's credentials and the channel NAME-de, limits off
#   clock_us                               microseconds of the wall clock
#   percentile P                           of the numbers on standard input
#   make_trickles ROLE                     what measure_wire needs, in whose name
#   measure_wire OPERATION STATEMENT       COMMITS commits of it, 20 a second; sets median and p99 of the milliseconds to the wire
#   memory_mb PID                          anonymous memory, which belongs to that process alone

figure()
{
	awk -v name="$1" -v value="$2" -v unit="$3" -v target="$4" -v peer="${5:-}" 'BEGIN {
		verdict = ""
		if (split(target, part, " ") == 2)
			verdict = (part[1] == "<=" ? value <= part[2] : value >= part[2]) ? "met" : "MISSED"
		ratio = peer == "" || peer == 0 ? "" : sprintf("%.2f of %g", value / peer, peer)
		printf "%-58s %10s %-6s %-10s %-7s %s\n", name, value, unit, target, verdict, ratio }'
}

note()
{
	printf '# %s\n' "$*"
}

bench_cluster()
{
	local name=$1
	shift
	cluster_start "$name" 'fsync = on' 'shared_buffers = 512MB' 'max_wal_size = 4GB' 'checkpoint_timeout = 1h' "$@"
	sql 'create extension if not exists pg_cron' 'create extension if not exists amzmp' 'select amzmp.create_key()' >/dev/null
	sql "select amzmp.create_application('app', 'amzn1.application-oa2-client.demo')" >/dev/null
	wait_for 60 sql_says 'select amzmp._processes()' running
}

bench_tools()
{
	cc -O2 -Wall -Wextra -o "$RUN/bin/bare_loop" "$SOURCE_DIR/test/bench/bare_loop.c" -lcurl
}

connect()
{
	sql "select amzmp.create_account('$1', 'EU', 'app', 'A1DEMOSELLER', 'mock', '${2:-$AMZMP_SIMULATOR_URL}', rate_scale => 0)" \
		"select amzmp.set_credentials('$1', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo')" \
		"select amzmp.create_channel('$1-de', '$1', 'DE')" \
		"select amzmp.activate('$1')" "select amzmp.activate('$1-de')" >/dev/null
}

clock_us()
{
	echo "${EPOCHREALTIME/[.,]/}"
}

percentile()
{
	sort -g | awk -v p="$1" '{ v[NR] = $1 } END { if (NR) { i = int((NR * p + 99) / 100); print v[i < 1 ? 1 : i] } else print "none" }'
}

memory_mb()
{
	awk '/^Anonymous:/ { printf "%.1f\n", $2 / 1024 }' "/proc/$1/smaps_rollup"
}

# A procedure commits, so that nothing but the server stands between two of them.
make_trickles()
{
	TRICKLES_AS=$1
	sql 'create table public.committed (key text, at_us bigint)' "grant insert on public.committed to $1" \
		"create procedure public.trickle(commits integer, statement text) language plpgsql as \$\$
		begin
		    for i in 1 .. commits loop
		        execute statement using i;
		        insert into public.committed values ('TRICKLE-' || i, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
		        commit;
		        perform pg_sleep(0.05);
		    end loop;
		end \$\$"
}

# The statement of a trickle that only queues, for the account shop; $1 is the number of the commit.
ENQUEUE="select amzmp.enqueue('shop', 'getListingsItem',
    jsonb_build_object('sku', 'TRICKLE-' || \$1, 'marketplaceIds', jsonb_build_array('A1PA6795UKMFR9')))"

# Both clocks are the machine's wall clock; the session reads it as the last thing before it commits.
measure_wire()
{
	sql 'truncate public.committed'
	control POST stats/reset '{}' >/dev/null
	PGUSER=$TRICKLES_AS sql "call public.trickle($COMMITS, \$\$${2}\$\$)"
	wait_for 60 all_arrived "$1" || note "only $(arrived "$1") of $COMMITS arrived"
	control GET "arrivals?operation=$1&limit=65536" >"$RUN/arrivals"
	sql "select ((min(a.at_us) - c.at_us) / 1000.0)::numeric(10, 3)
	       from public.committed c
	       join (select (e ->> 0)::bigint as at_us, e ->> 1 as key
	               from jsonb_path_query(\$\$$(cat "$RUN/arrivals")\$\$, '\$.arrivals[*]') e) a on a.key = c.key and a.at_us > c.at_us - 1000
	      group by c.key, c.at_us" >"$RUN/delays"
	median=$(percentile 50 <"$RUN/delays")
	p99=$(percentile 99 <"$RUN/delays")
}

all_arrived()
{
	[ "$(arrived "$1")" -ge "$COMMITS" ]
}
