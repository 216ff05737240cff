#!/usr/bin/env bash
# From COMMIT to the wire: a session commits 20 times a second, the simulator tells when each request arrived. Both clocks
# are the machine's wall clock; the session reads it as the last thing before it commits.
#
# Two ways: amzmp.enqueue, and an UPDATE of the shop's table all the way to the PATCH of the offer. Each alone, and then
# while a runner reads another source of a million rows.
#
#   COMMITS=200 ROWS=1000000 test/bench/wire.sh
. "$(dirname "$0")/../lib/scene.sh"
. "$(dirname "$0")/../lib/shop.sh"
. "$(dirname "$0")/../lib/bench.sh"

COMMITS=${COMMITS:-200}
ROWS=${ROWS:-1000000}

make_shop()
{
	sql 'create role shop login' 'grant amzmp_operator to shop' \
		'create table public.product (sku text primary key, price numeric(10, 2), stock integer)' \
		'create table public.large (sku text primary key, price numeric(10, 2), stock integer)' \
		"insert into public.product select 'TRICKLE-' || i, 10, 5 from generate_series(1, $COMMITS) i" \
		"insert into public.large select 'LARGE-' || i, 10, 5 from generate_series(1, $ROWS) i" \
		'grant select, update on public.product, public.large to shop' \
		'alter table public.product owner to shop' 'alter table public.large owner to shop' \
		'analyze public.product' 'analyze public.large'
	PGUSER=shop sql "select amzmp.attach_source('shop', 'public.product')" >/dev/null
	sql_becomes 60 "select count(*) from amzmp.product" "$COMMITS"
	sql "insert into amzmp.listing (account_id, channel_id, sku, state, desired_price, remote_price)
	     select c.account_id, c.channel_id, p.sku, 'live', 10, 10
	       from amzmp.channel c, public.product p where c.name = 'shop-de'" \
		"insert into amzmp.inventory (account_id, sku, listed, desired_quantity, remote_quantity)
	     select a.account_id, p.sku, true, 5, 5 from amzmp.account a, public.product p where a.name = 'shop'" \
		'create table public.committed (key text, at_us bigint)' 'grant insert on public.committed to shop' \
		'analyze amzmp.listing, amzmp.inventory, amzmp.product'
}

# A procedure commits, so that nothing but the server stands between two of them.
make_trickles()
{
	sql "create procedure public.trickle(commits integer, statement text) language plpgsql as \$\$
		begin
		    for i in 1 .. commits loop
		        execute statement using i;
		        insert into public.committed values ('TRICKLE-' || i, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
		        commit;
		        perform pg_sleep(0.05);
		    end loop;
		end \$\$"
}

ENQUEUE="select amzmp.enqueue('shop', 'getListingsItem',
    jsonb_build_object('sku', 'TRICKLE-' || \$1, 'marketplaceIds', jsonb_build_array('A1PA6795UKMFR9')))"
UPDATE="update public.product set price = price + 1 where sku = 'TRICKLE-' || \$1"

# measure OPERATION STATEMENT: sets median and p99 of the milliseconds between commit and arrival
measure()
{
	sql 'truncate public.committed'
	control POST stats/reset '{}' >/dev/null
	PGUSER=shop sql "call public.trickle($COMMITS, \$\$${2}\$\$)"
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

both_ways()
{
	measure getListingsItem "$ENQUEUE"
	figure "commit to wire, enqueue$1: median" "$median" ms '<= 5'
	figure "commit to wire, enqueue$1: p99" "$p99" ms '<= 30'
	measure patchListingsItem "$UPDATE"
	figure "commit to wire, UPDATE to PATCH$1: median" "$median" ms '<= 20'
	figure "commit to wire, UPDATE to PATCH$1: p99" "$p99" ms ''
}

simulator_start amazon --rate-scale 0
bench_cluster bench
connect shop
make_shop
make_trickles
# every offer's price changes within a minute, which a person would have to confirm
sql "select amzmp.set('shop', 'brake_minimum', '1000000')" >/dev/null
sql_becomes 60 'select amzmp.pending($$idle$$) is null' t

both_ways ""
PGUSER=shop sql "select amzmp.attach_source('shop', 'public.large')" >/dev/null
sql_becomes 60 "select count(*) > 0 from amzmp.product where sku like 'LARGE-%'" t
both_ways ", $ROWS rows being read"
note "rows that were read meanwhile: $(sql "select count(*) from amzmp.product where sku like 'LARGE-%'")"
