#!/usr/bin/env bash
# What it costs to bring desired values up to date: the time from the commit of a shop's UPDATE until what is wanted at
# Amazon is there for all of its rows, divided by that of plain UPDATEs which write the same values into the same rows
# of amzmp.product and amzmp.listing. Planning the single calls is part of it; what feeds shall carry is divided afterwards by
# a task, which is not measured, and nothing is sent (the account is held). Two cases: prices, and stock.
#
#   LISTINGS=1000000 CHANGED=100000 ROUNDS=2 test/bench/recompute.sh
. "$(dirname "$0")/../lib/scene.sh"
. "$(dirname "$0")/../lib/shop.sh"
. "$(dirname "$0")/../lib/bench.sh"

LISTINGS=${LISTINGS:-1000000}
CHANGED=${CHANGED:-100000}
ROUNDS=${ROUNDS:-2}

simulator_start a
bench_cluster bench 'autovacuum = off' ${BENCH_SETTINGS:+"$BENCH_SETTINGS"}
connect acc
sql 'create role shop login' 'grant amzmp_operator to shop' 'create schema shop authorization shop' \
	"select amzmp.set('acc', 'brake_share', '1')" "select amzmp.set('acc', 'bulk_feeds', 'true')" \
	"select amzmp.set('acc', 'rescan_interval', '30 days')" "select amzmp.hold('acc', 'benchmark')" 'update amzmp.account set rate_scale = 1' >/dev/null
export PGUSER=shop
sql 'create table shop.product (sku text primary key, price numeric(12, 2), stock integer) with (fillfactor = 70)' \
	"select amzmp.attach_source('acc', 'shop.product')" >/dev/null
export PGUSER=postgres
sql_becomes 60 'select rescan_due > now() from amzmp.source' t

# A catalogue that has been live for long. Its rows come past the triggers, or they would all be compared first.
sql 'alter table shop.product disable trigger all' \
	"insert into shop.product select 'SKU-' || lpad(i::text, 7, '0'), 10 + i % 100, i % 50 + 1 from generate_series(1, $LISTINGS) as i" \
	'insert into amzmp.product (account_id, source_id, sku, price, quantity)
	 select s.account_id, s.source_id, p.sku, p.price, p.stock from amzmp.source as s, shop.product as p' \
	"insert into amzmp.inventory (account_id, sku, listed, desired_quantity, remote_quantity, submitted_quantity)
	 select s.account_id, p.sku, true, p.stock, p.stock, p.stock from amzmp.source as s, shop.product as p" \
	"insert into amzmp.listing (account_id, channel_id, sku, state, asin, desired_price, remote_price, submitted_price, submitted_price_at)
	 select c.account_id, c.channel_id, p.sku, 'live', 'B000000001', p.price, p.price, p.price, now() - interval '1 day'
	   from amzmp.channel as c, shop.product as p" \
	"do \$\$ declare t name; begin for t in select tgname from pg_trigger where tgrelid = 'shop.product'::regclass and not tgisinternal
	 loop execute format('alter table shop.product enable always trigger %I', t); end loop; end \$\$"
sql 'vacuum analyze shop.product' 'vacuum analyze amzmp.product' 'vacuum analyze amzmp.listing' 'vacuum analyze amzmp.inventory' checkpoint

# milliseconds of a statement
timed()
{
	psql -XqAt -v ON_ERROR_STOP=1 -c '\timing on' -c "$1" | sed -n 's/^Time: \([0-9.]*\).*/\1/p' | tail -n 1
}

# milliseconds from the commit of a change of the shop until nothing waits to be computed
recomputed()
{
	local begun
	sql "$1" >/dev/null
	begun=$(clock_us)
	until [ "$(sql 'select count(*) from (select from amzmp._sources_changed() limit 1) as c')" = 0 ]; do sleep 0.05; done
	echo $((($(clock_us) - begun) / 1000))
}

# Rows that were never touched before, so that every round meets the same tables: a band of the SKUs.
band=0
next_band()
{
	band=$((band + 1))
	chosen="sku between 'SKU-' || lpad(($band * $CHANGED - $CHANGED + 1)::text, 7, '0') and 'SKU-' || lpad(($band * $CHANGED)::text, 7, '0')"
}

# plain TABLE COLUMN …: the same values written again, by hand
plain()
{
	timed "update amzmp.$1 set $2 where account_id = (select account_id from amzmp.source) and $chosen"
}

# measured CASE CHANGE PRODUCT_COLUMN TABLE COLUMNS CHECK
measured()
{
	local round ours product other
	for ((round = 0; round < ROUNDS; round++)); do
		next_band
		product=$(plain product "$3, read_at = now(), cause = '{\"role\": \"shop\"}'")
		other=$(plain "$4" "$5, cause = '{\"role\": \"shop\"}'")
		next_band
		ours=$(recomputed "update shop.product set $2 where $chosen")
		is_whole "$6"
		awk -v o="$ours" -v p="$product" -v q="$other" 'BEGIN { print o / (p + q), o, p + q }'
		wait_for 60 quiet
	done >"$RUN/recompute.out"
	figure "$1" "$(cut -d' ' -f1 "$RUN/recompute.out" | percentile 50)" 'x' '<= 2'
	note "$(awk '{ printf "%s%d ms for %d ms", (NR == 1 ? "recompute for plain UPDATE: " : ", "), $2, $3 }' "$RUN/recompute.out")"
}

# No round is disturbed by what the one before it has left to the planner of feeds.
quiet()
{
	PGUSER=postgres sql "with gone as (delete from amzmp.request) delete from amzmp.task where kind in ('bulk', 'feed')"
	PGUSER=postgres sql_says "select count(*) from amzmp.task where kind in ('bulk', 'feed')" 0
}

# All that was changed is there, or the figure means nothing.
is_whole()
{
	[ "$(sql "select count(*) from amzmp.$1 and $chosen")" = "$CHANGED" ] || die "not every row was computed"
}

note "$CHANGED of $LISTINGS listings changed"
measured 'prices' 'price = price + 1' 'price = price + 1' listing 'desired_price = desired_price + 1, desired_price_at = now()' \
	'listing where price_differs'
measured 'stock' 'stock = stock + 1' 'quantity = quantity + 1' inventory 'desired_quantity = desired_quantity + 1, desired_quantity_at = now()' \
	'inventory where quantity_differs'
