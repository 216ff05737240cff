#!/usr/bin/env bash
# Orders a second from Amazon's pages to rows: fetched from the simulator (which has printed them once before), sealed,
# imported with reservations and movements, no SQL of the shop's. Beside it, in the same run and the same server, what else one could do with the same
# JSON: a script by hand that inserts row by row, and a bare COPY of rows that somebody has flattened already.
# Then how soon an order that is announced is a row of the shop's own.
#
#   ORDERS=20000 ANNOUNCED=60 test/bench/orders.sh
. "$(dirname "$0")/../lib/scene.sh"
. "$(dirname "$0")/../lib/shop.sh"
. "$(dirname "$0")/../lib/bench.sh"

ORDERS=${ORDERS:-20000}
ANNOUNCED=${ANNOUNCED:-60}
QUEUE_ARN=arn:aws:sqs:eu-west-1:123456789012:bench

# Orders of one to five lines, in equal shares.
place_orders()
{
	local lines items i left
	for lines in 1 2 3 4 5; do
		items=
		for ((i = 1; i <= lines; i++)); do
			items+="${items:+, }{\"sku\": \"BENCH-$lines-$i\", \"quantity\": $i}"
		done
		for ((left = ORDERS / 5; left > 0; left -= 500)); do
			curl -sf -o "$RUN/placed" "$AMZMP_SIMULATOR_URL/_control/orders" \
				-d "{\"count\": $((left < 500 ? left : 500)), \"items\": [$items]}"
		done
	done
}

# Until nothing is left to do. One session looks often, because this is the clock's resolution, and rests between.
until_imported()
{
	sql "do \$\$ begin
		while exists (select from amzmp.task where kind in ('flow', 'apply', 'import')) or exists (select from amzmp.answer)
		      or exists (select from amzmp.request where operation = 'searchOrders') or exists (select from amzmp.parked_order)
		loop
			commit;
			perform pg_sleep(0.02);
		end loop; end \$\$"
}

rate()
{
	awk -v n="$1" -v us="$2" 'BEGIN { printf "%.0f", n * 1e6 / us }'
}

simulator_start amazon --rate-scale 0
bench_cluster bench
connect shop
control POST settings '{"order_lag": 0}' >/dev/null
place_orders
read_only=$(/usr/bin/python3 "$SOURCE_DIR/test/bench/orders_read.py" "$AMZMP_SIMULATOR_URL")
sql 'checkpoint'

began=$(clock_us)
sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
until_imported
imported=$(rate "$ORDERS" $(($(clock_us) - began)))
found=$(sql 'select count(*) from amzmp.orders')
[ "$found" = "$ORDERS" ] || die "$found of $ORDERS orders are there"
lines=$(sql 'select count(*) from amzmp.order_item')
moved=$(sql 'select count(*) from amzmp.movement')
[ "$moved" = "$lines" ] || die "$lines lines, $moved movements"

# The same JSON, and the same rows.
as_server mkdir -p "$RUN/orders"
as_server chmod 755 "$RUN/orders"
sql "copy (select amzmp._open(raw, 'order', account_id || '/' || amazon_order_id) from amzmp.order_buyer) to program
        'sed ''s/\\\\\\\\\\\\\\\\/\\\\\\\\/g'' > $RUN/orders/orders.json'" >/dev/null
sql 'create schema by_hand' \
	'create table by_hand.orders as select amazon_order_id, status, fulfilled_by, purchased_at, last_updated_at, currency, grand_total,
		item_total, shipping_total, tax_total, service_level, marketplace_id from amzmp.orders' \
	'create table by_hand.order_item as select amazon_order_id, order_item_id, position, sku, asin, title, quantity_ordered,
		quantity_fulfilled, quantity_unfulfilled, item_price, tax_total, total from amzmp.order_item' \
	"copy by_hand.orders to '$RUN/orders/orders.copy'" "copy by_hand.order_item to '$RUN/orders/items.copy'" \
	'truncate by_hand.orders, by_hand.order_item' \
	'alter table by_hand.orders add primary key (amazon_order_id)' \
	'alter table by_hand.order_item add primary key (amazon_order_id, order_item_id)' 'checkpoint'
by_hand=$(/usr/bin/python3 "$SOURCE_DIR/test/bench/orders_by_hand.py" "$RUN/orders/orders.json")
sql 'truncate by_hand.orders, by_hand.order_item'
in_pages=$(/usr/bin/python3 "$SOURCE_DIR/test/bench/orders_by_hand.py" "$RUN/orders/orders.json" 100)
sql 'truncate by_hand.orders, by_hand.order_item' 'checkpoint'
began=$(clock_us)
sql "copy by_hand.orders from '$RUN/orders/orders.copy'" "copy by_hand.order_item from '$RUN/orders/items.copy'"
copied=$(rate "$ORDERS" $(($(clock_us) - began)))

note "$ORDERS orders with $lines lines"
figure 'orders imported a second' "$imported" /s ''
figure 'orders a second, pages read from the simulator and dropped' "$read_only" /s ''
figure 'the script by hand, a commit an order' "$by_hand" /s ''
figure 'the script by hand, a commit a page of 100' "$in_pages" /s ''
figure 'bare COPY of the flattened rows, with primary keys' "$copied" /s ''
figure 'import ÷ the script by hand' "$(awk -v a="$imported" -v b="$by_hand" 'BEGIN { printf "%.2f", a / b }')" '' '>= 5'
figure 'import ÷ bare COPY' "$(awk -v a="$imported" -v b="$copied" 'BEGIN { printf "%.3f", a / b }')" '' '>= 0.08'

# One order after the other is placed and announced; the clock stops when the shop's own row is committed.
sql "create role seller login" "grant amzmp_admin to seller" "create schema shop authorization seller"
PGUSER=seller sql "create table shop.product (sku text primary key, price numeric(12,2) not null, stock integer not null)" \
	"insert into shop.product select 'SOON-' || i, 10, 10000 from generate_series(1, 10) i" \
	"create table shop.sale (amazon_order_id text primary key)" \
	"create function shop.take(account_id bigint, amazon_order_id text) returns text language sql as
		'insert into shop.sale values (amazon_order_id) returning amazon_order_id'" \
	"select amzmp.attach_source('shop', 'shop.product')" "select amzmp.reduce_stock('shop', 'shop.product')" \
	"select amzmp.deliver_orders_to('shop-de', 'shop.take(bigint, text)')" \
	"select amzmp.set_queue('shop', '$QUEUE_ARN', access_key_id => 'AKIDEXAMPLE', secret_access_key => 'of the bench')" \
	"select amzmp.subscribe('shop', '{ORDER_CHANGE}')" >/dev/null
sql_becomes 60 "select string_agg(state, ' ') from amzmp.subscription" active
sql_becomes 120 "select exists (select from amzmp.task where kind in ('deliver', 'import'))" f

# A session that looks for the row each millisecond or so, and says when it is there.
watch_for()
{
	sql "do \$\$ begin
		while not exists (select from shop.sale where amazon_order_id = '$1') loop
			perform pg_sleep(0.002);
		end loop; end \$\$"
}
for ((i = 1; i <= ANNOUNCED; i++)); do
	began=$(clock_us)
	order=$(control POST orders "{\"items\": [{\"sku\": \"SOON-$((i % 10 + 1))\", \"quantity\": 1}]}" | grep -o '"orderId":"[^"]*"' | cut -d'"' -f4)
	watch_for "$order"
	awk -v us=$(($(clock_us) - began)) 'BEGIN { printf "%.3f\n", us / 1e6 }'
done >"$RUN/lags"
figure "placed → the shop's own row, median of $ANNOUNCED" "$(percentile 50 <"$RUN/lags")" s '<= 1'
figure "placed → the shop's own row, 95th percentile" "$(percentile 95 <"$RUN/lags")" s ''
