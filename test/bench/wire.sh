#!/usr/bin/env bash
# From COMMIT to the wire: a session commits 20 times a second, the simulator tells when each request arrived.
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
		'analyze amzmp.listing, amzmp.inventory, amzmp.product'
}

UPDATE="update public.product set price = price + 1 where sku = 'TRICKLE-' || \$1"

both_ways()
{
	measure_wire getListingsItem "$ENQUEUE"
	figure "commit to wire, enqueue$1: median" "$median" ms '<= 5'
	figure "commit to wire, enqueue$1: p99" "$p99" ms '<= 30'
	measure_wire patchListingsItem "$UPDATE"
	figure "commit to wire, UPDATE to PATCH$1: median" "$median" ms '<= 20'
	figure "commit to wire, UPDATE to PATCH$1: p99" "$p99" ms ''
}

simulator_start amazon --rate-scale 0
bench_cluster bench
connect shop
make_shop
make_trickles shop
# every offer's price changes within a minute, which a person would have to confirm
sql "select amzmp.set('shop', 'brake_minimum', '1000000')" >/dev/null
sql_becomes 60 'select amzmp.pending($$idle$$) is null' t

both_ways ""
PGUSER=shop sql "select amzmp.attach_source('shop', 'public.large')" >/dev/null
sql_becomes 60 "select count(*) > 0 from amzmp.product where sku like 'LARGE-%'" t
both_ways ", $ROWS rows being read"
note "rows that were read meanwhile: $(sql "select count(*) from amzmp.product where sku like 'LARGE-%'")"
