#!/usr/bin/env bash
# What dashboards show of a million orders of one year, as a role that is limited to its accounts.
#
#   ORDERS=1000000 test/bench/bi.sh
. "$(dirname "$0")/../lib/scene.sh"
. "$(dirname "$0")/../lib/shop.sh"
. "$(dirname "$0")/../lib/bench.sh"

ORDERS=${ORDERS:-1000000}

# milliseconds VIEW: the second of two readings
milliseconds()
{
	psql -XqAt -U reader -c "select count(*) from amzmp.$1" -c '\timing on' -c "select count(*) from amzmp.$1" |
		sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
}

simulator_start s
bench_cluster a
connect shop
sql "create role reader login in role amzmp_reader" "select amzmp.limit_role('reader', '{shop}')" >/dev/null
note "$ORDERS orders"
sql "insert into amzmp.orders (account_id, amazon_order_id, channel_id, order_number, status, fulfilled_by, purchased_at, last_updated_at,
		ship_by, currency, grand_total, imported_at)
	select c.account_id, 'o-' || i, c.channel_id, 'o-' || i, case when age < interval '12 hours' then 'UNSHIPPED' else 'SHIPPED' end, 'MERCHANT',
		now() - age, now() - age, now() - age + interval '1 day', 'EUR', 20, now() - age
	from amzmp.channel c, generate_series(1, $ORDERS) i, lateral (select i * interval '365 days' / $ORDERS as age) x" \
	"insert into amzmp.order_item (account_id, amazon_order_id, order_item_id, position, sku, shop_sku, quantity_ordered, quantity_unfulfilled)
	select o.account_id, o.amazon_order_id, o.amazon_order_id, 1, 'S', 'S', 1, case o.status when 'UNSHIPPED' then 1 else 0 end from amzmp.orders o" \
	'vacuum analyze' >/dev/null
whole=$(psql -XqAt -c '\timing on' -c "select count(*), sum(grand_total) from amzmp.orders" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p')
note "reading all orders once takes $whole ms"
for view in ship_risk open_shipments sales_by_hour sales_by_day returns_by_reason errors_by_day; do
	figure "amzmp.$view" "$(milliseconds $view)" ms '<= 1000' "$whole"
done
