#!/usr/bin/env bash
# The dashboard while everything moves: the shop changes, Amazon answers, orders arrive and the task counts, all at once.
# At any moment the kept sums are those of the SKUs, and when it is quiet the figures are those of a plain count.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

simulator_start a --rate-scale 0 --verdict-delay 0
cluster_start a
sql 'create extension pg_cron' 'create role shop login' 'create schema shop authorization shop'
shop_connect
sql 'grant amzmp_admin to shop' "select amzmp.set('shop', 'brake_minimum', '1000000')" >/dev/null
control POST settings '{"order_lag": 0}' >/dev/null
export PGUSER=shop
sql "create table shop.product (sku text primary key, ean text, price numeric(12,2), stock integer, image text)" \
	"insert into shop.product select 'S' || lpad(i::text, 3, '0'), d || (10 - sum(substr(d, k, 1)::integer * (1 + 2 * ((k + 1) % 2))) % 10) % 10, 20, 5,
	        case when i % 7 > 0 then 'https://shop.example/' || i end
	   from generate_series(1, 120) i, cast((401234500000 + i)::text as text) d, generate_series(1, 12) k
	  where i % 100 < 95 group by i, d" \
	"select amzmp.attach_source('shop', 'shop.product', ean => 'ean', image => 'image')" >/dev/null
sql "call amzmp.wait('60 s')" "select amzmp.publish('DE', array(select sku from shop.product where sku < 'S100'))" >/dev/null
sql "call amzmp.wait('60 s', 'settled')"
is "$(sql "select amzmp.run_flow('count_offers', account => 'shop')" "call amzmp.wait('30 s')" "select bool_and(complete) from amzmp.figure_channel" | tail -n 1)" t \
	'the flow counts every SKU'

# Kept sums against the rows that they are sums of, in one snapshot.
consistent="select count(*) from (
	select channel_id, state, in_catalog, on_sale, complete, skus, stock, on_sale_stock from amzmp.figure where skus <> 0
	except
	select channel_id, state, in_catalog, on_sale, lacks = '{}', count(*), sum(stock), sum(on_sale_stock) from amzmp.sku_figure group by 1, 2, 3, 4, 5) x"
# The figures by their definitions, from the tables.
plain="with p as (select * from amzmp.product where not gone and active is not false),
	sale as (select l.sku, i.remote_quantity as quantity from amzmp.listing l join amzmp.inventory i using (account_id, sku)
	          where l.state in ('live', 'live_with_issues') and i.remote_quantity > 0)
	select (select count(*) from p), (select count(*) from sale),
	       (select count(*) from p where price > 0 and quantity > 0 and image <> '' and not exists (select from sale s where s.sku = p.sku)),
	       (select sum(quantity) from p), (select coalesce(sum(quantity), 0) from sale),
	       (select coalesce(sum(quantity), 0) from p where not exists (select from sale s where s.sku = p.sku))"
shown="select catalog_skus, on_sale_skus, missing_skus, catalog_stock, on_sale_stock, missing_stock from amzmp.dashboard"
is "$(sql "$shown")" "$(sql "$plain")" 'the figures are those of a plain count'

# Two sessions change the shop, a third withdraws and publishes, orders come, and the flow is run over and over.
change()
{
	local i
	for ((i = 0; i < 40; i++)); do
		echo "update shop.product set stock = floor(random() * 6), price = 20 + floor(random() * 5) where random() < 0.1;"
		echo "delete from shop.product where sku = 'S' || lpad((1 + floor(random() * 90))::text, 3, '0') and random() < 0.1;"
	done | psql -Xq >/dev/null
}
withdraw()
{
	local i
	for ((i = 0; i < 10; i++)); do
		echo "select amzmp.unpublish('DE', array(select sku from amzmp.listing where listed and wanted order by random() limit 3));"
		echo "select amzmp.publish('DE', array(select sku from shop.product where sku < 'S1' order by random() limit 3));"
		echo "select amzmp.run_flow('count_offers', account => 'shop');"
	done | psql -Xq >/dev/null
}
change &
first=$!
change &
second=$!
withdraw &
third=$!
wrong=0
for ((i = 0; i < 15; i++)); do
	control POST orders "{\"seller\": \"A1DEMOSELLER\", \"items\": [{\"sku\": \"S00$((1 + i % 9))\", \"quantity\": 1}]}" >/dev/null
	sql "select amzmp.run_flow('count_offers', account => 'shop')" "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
	[ "$(sql "$consistent")" = 0 ] || wrong=$((wrong + 1))
	sleep 0.2
done
wait "$first" "$second" "$third"
is "$wrong" 0 'whenever one looks, the kept sums are those of the SKUs'
sql "call amzmp.wait('90 s')"
is "$(sql "$shown")" "$(sql "$plain")" 'when it is quiet the figures are right, counted or not'
# what Amazon's late answers change while we count is counted the next time
all_counted()
{
	sql "select amzmp.run_flow('count_offers', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
	sql_says 'select count(*) from amzmp.uncounted_sku' 0
}
succeeds 'nothing stays uncounted' wait_for 60 all_counted
is "$(sql "$shown")" "$(sql "$plain")" 'and they are right'
is "$(sql "$consistent")" 0 'as are the sums'

# The source goes.
sql "select amzmp.detach_source('shop', 'shop.product')" >/dev/null
is "$(sql "select catalog_skus, missing_skus, catalog_stock from amzmp.dashboard")" '0|0|0' 'without its source the catalogue is empty at once'
sql "select amzmp.run_flow('count_offers', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
is "$(sql "select complete from amzmp.figure_channel")|$(sql "select catalog_skus from amzmp.dashboard")" 't|0' 'and when it was counted anew'

# How long changes take is measured to the end.
sql "select amzmp.run_flow('measure_lag', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
is "$(sql "select count(*) filter (where seen_at is not null) > 0 from amzmp.lag_sample")" t 'what changed was seen at Amazon'
is "$(sql "select count(distinct stage) from amzmp.offer_lag where channel = 'DE'")" 4 'offer_lag has every stage'
is "$(control GET violations | tr -d ' ' | grep -o '"count":[0-9]*')" '"count":0' 'Amazon was asked nothing that it does not allow'
finish
