#!/usr/bin/env bash
# Whatever fails on the way: once the shop is quiet, Amazon has what the shop wants, every order is in the shop once, and
# the stock is what was put there less what was sold. Random changes of price and stock, orders, network faults and killed
# processes; AMZMP_SEED repeats a run.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

seed=${AMZMP_SEED:-$RANDOM}
rounds=${AMZMP_ROUNDS:-12}
diag "AMZMP_SEED=$seed"
RANDOM=$seed

simulator_start a --seed "$seed" --rate-scale 0
cluster_start a 'restart_after_crash = on'
sql 'create extension pg_cron' 'create role shop login' 'create schema shop authorization shop'
shop_connect
sql 'grant amzmp_admin to shop' "select amzmp.create_channel('FR', 'shop', 'FR')" "select amzmp.activate('FR')" \
	"select amzmp.set('shop', 'brake_minimum', '100000')" \
	"select amzmp.set('shop', 'brake_drop', '1')" "select amzmp.set('shop', 'brake_rise', '1000')" "select amzmp.set('shop', 'lost_answer_grace', '2 s')" >/dev/null
control POST settings '{"order_lag": 0}' >/dev/null
export PGUSER=shop
sql "create table shop.product (sku text primary key, ean text, price numeric(12,2), stock integer, put integer)" \
	"insert into shop.product select 'S' || i, d || (10 - sum(substr(d, k, 1)::integer * (1 + 2 * ((k + 1) % 2))) % 10) % 10, 20 + i % 7, 30, 30
	   from generate_series(1, 95) i, cast((401234500000 + i)::text as text) d, generate_series(1, 12) k group by i, d" \
	"create table shop.sale (amazon_order text)" \
	"create function shop.take(account_id bigint, amazon_order_id text) returns text language sql
	   begin atomic insert into shop.sale values (amazon_order_id) returning amazon_order; end" \
	"select amzmp.attach_source('shop', 'shop.product', ean => 'ean')" \
	"select amzmp.reduce_stock('shop', 'shop.product')" \
	"select amzmp.deliver_orders_to(c, 'shop.take(bigint,text)') from unnest(array['DE', 'FR']) c" >/dev/null
sql "call amzmp.wait('60 s')"
sql "select amzmp.publish('DE', array(select sku from shop.product))" \
	"select amzmp.publish('FR', array(select sku from shop.product where sku like '%1'))" >/dev/null
sql "call amzmp.wait('120 s', 'settled')"
is "$(sql "select count(*) from amzmp.listing where state = 'live'")" "$(sql "select count(*) from amzmp.listing")" 'all offers are live'

faults()
{
	local kind
	for kind in drop_before drop_after truncate not_json delay; do
		control POST faults "{\"kind\": \"$kind\", \"probability\": 0.05, \"count\": -1, \"delay_ms\": $((RANDOM % 300))}" >/dev/null
	done
	for kind in 429 500 503; do
		control POST faults "{\"kind\": \"status\", \"status\": $kind, \"probability\": 0.05, \"count\": -1}" >/dev/null
	done
}

change()
{
	sql "update shop.product set price = 15 + ($RANDOM + length(sku) * 37) % 20 where sku like '%$((RANDOM % 10))'" \
		"begin" "update shop.product set price = 1" "rollback" \
		"update shop.product set stock = stock + $((RANDOM % 5)), put = put + stock where false" \
		"with a as (select $((RANDOM % 5)) as n) update shop.product set stock = stock + a.n, put = put + a.n from a where sku like '%$((RANDOM % 10))'"
}

end_somebody()
{
	local victim
	victim=$(PGUSER=postgres sql "select pid from pg_stat_activity where datname = 'shop' and backend_type like 'amzmp %' order by random() limit 1")
	[ -z "$victim" ] || kill -s TERM "$victim" || true
}

faults
for ((round = 1; round <= rounds; round++)); do
	change
	control POST orders "{\"count\": $((RANDOM % 3)), \"marketplace\": \"DE\", \"lines\": 3}" >/dev/null
	[ $((RANDOM % 3)) != 0 ] || control POST orders '{"count": 1, "marketplace": "DE", "status": "PENDING", "lines": 2}' >/dev/null
	[ $((RANDOM % 2)) != 0 ] || sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
	[ $((RANDOM % 4)) != 0 ] || end_somebody
	sleep 0.$((RANDOM % 7))
done
control DELETE faults >/dev/null

# Quiet: the sweeps would come by themselves within minutes.
PGUSER=postgres sql_becomes 30 "select count(*) from pg_stat_activity where backend_type = 'amzmp sender'" 1
settle()
{
	sql "select amzmp.run_flow(f, account => 'shop') from unnest(array['get_orders', 'send_updated_product_price', 'send_updated_product_stock']) f" >/dev/null
	sql "call amzmp.wait('180 s', 'settled')"
}
succeeds 'it falls quiet' settle
succeeds 'and stays so' settle
control POST clock '{"advance": 60}' >/dev/null # Amazon applies what it accepted
control GET 'listings?limit=1000' >"$RUN/$CLUSTER_PREFIX.listings"
control GET 'orders?limit=1000' >"$RUN/$CLUSTER_PREFIX.orders"
as_json()
{
	psql -XqAt -v ON_ERROR_STOP=1 <<-SQL
		create temp table answer (doc jsonb);
		\\copy answer from '$1' with (format csv, quote e'\\x01', delimiter e'\\x02')
		$2
	SQL
}
is "$(as_json "$RUN/$CLUSTER_PREFIX.listings" "
	select count(*) from answer, jsonb_array_elements(doc -> 'listings') l, jsonb_array_elements(l -> 'offers') o,
	       amzmp.channel c, shop.product p
	 where c.marketplace_id = o ->> 'marketplaceId' and p.sku = l ->> 'sku' and (o #>> '{price,amount}')::numeric <> p.price")" \
	0 'every price at Amazon is the shop'\''s'
is "$(as_json "$RUN/$CLUSTER_PREFIX.listings" "
	select count(*) from answer, jsonb_array_elements(doc -> 'listings') l, shop.product p
	  left join (select r.sku, sum(r.quantity) as held from amzmp.reservation r where r.released_at is null group by 1) h using (sku)
	 where p.sku = l ->> 'sku' and (l #>> '{live,quantity}')::integer <> greatest(p.stock - coalesce(h.held, 0), 0)")" \
	0 'every quantity too'
is "$(sql 'select (select count(*) from amzmp.price_diff) + (select count(*) from amzmp.stock_diff)')" 0 'no difference is seen'
is "$(sql "select count(*) from shop.product p
             left join (select sku, sum(quantity) as moved from amzmp.movement group by 1) m using (sku)
            where p.stock <> p.put + coalesce(m.moved, 0)")" 0 'the stock is what was put there less what was sold'
is "$(sql 'select count(*) - count(distinct amazon_order) from shop.sale')" 0 'no order was handed over twice'
is "$(sql 'select count(*) from amzmp.orders')" "$(as_json "$RUN/$CLUSTER_PREFIX.orders" "select jsonb_array_length(doc -> 'orders') from answer")" 'every order is here'
is "$(control GET violations | grep -o '"count":[0-9]*')" '"count":0' 'nothing was sent that the models do not allow'
finish
