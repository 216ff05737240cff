#!/usr/bin/env bash
# Exactly once, whatever happens: orders, cancellations (Amazon's and the shop's) and shipments come twice, late and in disorder, pages are repeated,
# tokens expire, connections break, and now this process, now the whole server is killed in the middle. When the dust has
# settled, orders, the shop's rows, movements and what Amazon was told agree to the unit and the cent. Last, the shop's own
# checkout and Amazon want the same last piece.
#
#   SEED=7 ROUNDS=40 test/crash/exactly_once.sh       another course of events, and a longer one
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

SEED=${SEED:-1}
ROUNDS=${ROUNDS:-8}
RANDOM=$SEED
STOCK=10000

seller()
{
	PGUSER=seller sql "$@"
}

# at_random WORD …: one of them
at_random()
{
	local words=("$@")
	echo "${words[RANDOM % $#]}"
}

fate()
{
	control POST "orders/$1/$2" '{}' >/dev/null
}

# Orders that are still to be paid or cancelled at Amazon, and those that only the shop ships.
pending=()
cancelable=()

place()
{
	local status=$1 items i
	items=
	for ((i = RANDOM % 3; i >= 0; i--)); do
		items+="${items:+, }{\"sku\": \"S-$((RANDOM % 10 + 1))\", \"quantity\": $((RANDOM % 3 + 1))}"
	done
	control POST orders "{\"status\": \"$status\", \"ago\": 60, \"items\": [$items]}" | grep -o '"orderId":"[^"]*"' | cut -d'"' -f4
}

new_orders()
{
	local i
	for i in 1 2 3; do
		pending+=("$(place PENDING)")
		cancelable+=("$(place UNSHIPPED)")
		place UNSHIPPED >/dev/null
	done
}

# Each pending order is paid or given up; of the paid ones that the shop does not ship, some are cancelled.
old_orders()
{
	local order rest=()
	for order in "${pending[@]}"; do
		case $((RANDOM % 3)) in
			0) fate "$order" pay ;;
			1) fate "$order" cancel ;;
			2) rest+=("$order") ;;
		esac
	done
	pending=("${rest[@]}")
	for order in "${cancelable[@]}"; do
		case $((RANDOM % 6)) in
			0) fate "$order" cancel ;;
			1) fate "$order" touch ;;
		esac
	done
}

trouble()
{
	case $((RANDOM % 7)) in
		6) control POST faults '{"operation": "createFeed", "kind": "drop_after"}' ;;
		0) control POST faults '{"operation": "searchOrders", "kind": "duplicate_page"}' ;;
		1) control POST faults '{"operation": "searchOrders", "kind": "drop_after"}' ;;
		2) control POST faults '{"operation": "confirmShipment", "kind": "drop_after", "count": 2}' ;;
		3) control POST faults '{"operation": "*", "kind": "status", "status": 503, "count": 2}' ;;
		4) control POST expire_tokens '{}' ;;
		5) control POST faults '{"operation": "searchOrders", "kind": "expired_token"}' ;;
	esac >/dev/null
}

# Everything that Amazon ever told, once more and in disorder, and remembered for the next time.
replay()
{
	sql "insert into told select d.doc, md5(d.doc::text) from amzmp.order_buyer b,
		    lateral (select amzmp._open(b.raw, 'order', b.account_id || '/' || b.amazon_order_id)::jsonb as doc) d on conflict do nothing" \
		"select count(amzmp._take_orders(a.account_id, array(select o from amzmp._read_orders(
			(select jsonb_agg(t.doc order by random())::text from told t), '', true) as o), true))
		   from amzmp.account a where a.name = 'shop'" >/dev/null
}

# The shop ships what it has taken; Amazon cancels nothing of that.
ship()
{
	seller "select amzmp.confirm_shipment('shop', o.amazon_order_id, 'DHL', 'T' || o.amazon_order_id, package_reference => '1')
	          from (select o.amazon_order_id from amzmp.orders o
	                 where o.import_state = 'delivered' and o.status = 'UNSHIPPED' and o.amazon_order_id <> all (string_to_array('${cancelable[*]}', ' '))
	                   and not exists (select from amzmp.shipment s where s.amazon_order_id = o.amazon_order_id)
	                   and not exists (select from amzmp.cancellation c where c.amazon_order_id = o.amazon_order_id)
	                 order by o.amazon_order_id limit 3) o" >/dev/null
}

# One that it has taken it cannot send, and cancels by a feed.
give_up()
{
	seller "select amzmp.cancel_order('shop', o.amazon_order_id)
	          from (select o.amazon_order_id from amzmp.orders o
	                 where o.import_state = 'delivered' and o.status = 'UNSHIPPED' and o.amazon_order_id <> all (string_to_array('${cancelable[*]}', ' '))
	                   and not exists (select from amzmp.shipment s where s.amazon_order_id = o.amazon_order_id)
	                   and not exists (select from amzmp.cancellation c where c.amazon_order_id = o.amazon_order_id)
	                 order by o.amazon_order_id desc limit 1) o" >/dev/null
}

# The server falls with any of its processes that is killed so, and comes back by itself.
kill_process()
{
	local pid checkpointer
	checkpointer=$(sql "select pid from pg_stat_activity where backend_type = 'checkpointer'")
	pid=$(sql "select pid from pg_stat_activity where backend_type = '$1' order by state = 'active' desc limit 1")
	[ -n "$pid" ] || return 0
	kill -9 "$pid" 2>/dev/null || return 0
	sql_becomes 60 "select pid <> $checkpointer from pg_stat_activity where backend_type = 'checkpointer'" t
}

kill_server()
{
	cluster_kill9 s
	cluster_start s
	sql_becomes 60 'select amzmp._processes()' running
}

kill_something()
{
	sleep "0.$((RANDOM % 9))"
	case $((RANDOM % 5)) in
		0) kill_process 'amzmp runner' ;;
		1) kill_process 'amzmp user runner' ;;
		2) kill_process 'amzmp sender' ;;
		3) kill_server ;;
	esac
}

poll()
{
	sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
}

quiet="select not exists (select from amzmp.request where operation <> 'receiveMessage') and not exists (select from amzmp.task where kind in ('import', 'deliver', 'apply'))
           and not exists (select from amzmp.parked_order) and not exists (select from amzmp.answer)"

# What the simulator holds, as a table.
fetch_truth()
{
	curl -s -o "$RUN/truth.json" "$AMZMP_SIMULATOR_URL/_control/orders"
	chmod 644 "$RUN/truth.json"
	sql "create table truth as
		select o ->> 'orderId' as id, o #>> '{fulfillment,fulfillmentStatus}' as status, (o #>> '{proceeds,grandTotal,amount}')::numeric as total, o as doc
		  from jsonb_array_elements(pg_read_file('$RUN/truth.json')::jsonb -> 'orders') o" >/dev/null
}

# Amazon's minutes are seconds, there and here: cancellations go by feeds, which take some.
simulator_start s --rate-scale 0 --seed "$SEED" --time-scale 60 --verdict-delay 60
cluster_start s
control POST settings '{"order_lag": 0}' >/dev/null
shop_connect
sql 'update amzmp.account set time_scale = 60' "select amzmp.set('shop', 'cancellation_reason', 'gave up')" "select amzmp.enable('get_cancel_orders', account => 'shop')" >/dev/null
sql "create role seller login" "grant amzmp_admin to seller" "create schema shop authorization seller" "create table told (doc jsonb, version text primary key)"
seller "create table shop.product (sku text primary key, price numeric(12,2) not null, stock integer not null)" \
	"insert into shop.product select 'S-' || i, 10, $STOCK from generate_series(1, 10) i" \
	"create table shop.sale (number bigserial primary key, amazon_order_id text not null, total numeric)" \
	"create function shop.take(account_id bigint, amazon_order_id text) returns text language sql as \$\$
		insert into shop.sale (amazon_order_id, total)
		select o.amazon_order_id, o.grand_total from amzmp.orders o
		 where o.account_id = take.account_id and o.amazon_order_id = take.amazon_order_id returning 'N-' || number \$\$" \
	"select amzmp.attach_source('shop', 'shop.product')" "select amzmp.reduce_stock('shop', 'shop.product')" \
	"select amzmp.deliver_orders_to('DE', 'shop.take(bigint, text)')" "call amzmp.wait('60 s')" >/dev/null

diag "SEED=$SEED ROUNDS=$ROUNDS"
for ((round = 1; round <= ROUNDS; round++)); do
	new_orders
	old_orders
	trouble
	ship
	give_up
	poll
	[ $((RANDOM % 2)) = 0 ] || replay
	kill_something
done

# The last word of each order, then quiet.
control DELETE faults >/dev/null
for order in "${pending[@]}"; do
	fate "$order" "$(at_random pay cancel)"
done
pending=()
control POST clock '{"advance": 10}' >/dev/null
for i in 1 2 3; do
	poll
	replay
	sql_becomes 90 "$quiet" t || diag "$(sql "select kind, attempt, last_error from amzmp.task where kind in ('import', 'deliver', 'apply')" 'select operation, state, hold_reason from amzmp.request')"
done
sql_becomes 90 "select not exists (select from amzmp.cancellation where state <> 'cancelled') and not exists (select from amzmp.feed where open)" t || true
sql_becomes 90 "$quiet" t || true
fetch_truth

is "$(sql 'select count(*) > 0, count(*) = (select count(*) from amzmp.orders) from truth')" 't|t' 'every order is there, and once'
is "$(sql 'select count(*) from truth t left join amzmp.orders o on o.amazon_order_id = t.id where o.status is distinct from t.status')" 0 \
	'each in the status that Amazon has'
is "$(sql 'select count(*) from truth t join amzmp.orders o on o.amazon_order_id = t.id where t.total is not null and o.grand_total is distinct from t.total')" 0 \
	'with its total, to the cent (of what is cancelled Amazon tells none any more)'
is "$(sql 'select count(*) from shop.sale group by amazon_order_id having count(*) > 1')" '' 'none was handed over twice'
is "$(sql "select count(*) from truth t where t.status in ('UNSHIPPED', 'SHIPPED') and not exists (select from shop.sale s where s.amazon_order_id = t.id)")" 0 \
	'each that is to be sent was handed over'
is "$(sql "select count(*) from shop.sale s join truth t on t.id = s.amazon_order_id where t.total is not null and s.total is distinct from t.total")" 0 'with the same total'
is "$(sql "select count(*) from amzmp.orders o where (o.delivered_at is not null) <> exists (select from shop.sale s where s.amazon_order_id = o.amazon_order_id and o.delivered_number = 'N-' || s.number)")" 0 \
	'and amzmp knows the number that the shop gave'
is "$(sql "select coalesce(sum((i ->> 'quantityOrdered')::integer), 0) from truth t, jsonb_array_elements(t.doc -> 'orderItems') i where t.status in ('UNSHIPPED', 'SHIPPED')")" \
	"$(sql "select sum($STOCK - stock) from shop.product")" 'the stock has fallen by what was sold and not cancelled, to the unit'
is "$(sql "select count(*) from shop.product p
            where $STOCK - p.stock <> (select coalesce(sum((i ->> 'quantityOrdered')::integer), 0) from truth t, jsonb_array_elements(t.doc -> 'orderItems') i
                                        where t.status in ('UNSHIPPED', 'SHIPPED') and i #>> '{product,sellerSku}' = p.sku)")" 0 'for every product'
is "$(sql "select count(*) from shop.product p where p.stock - $STOCK <> (select coalesce(sum(m.quantity), 0) from amzmp.movement m where m.sku = p.sku and m.applied_at is not null)")" 0 \
	'the movements say the same'
is "$(sql 'select count(*) from amzmp.movement where applied_at is null')" 0 'and none of them is open'
is "$(sql 'select count(*) from amzmp.reservation where released_at is null')" 0 'nothing is held back any more'
is "$(sql "select count(*) from amzmp.shipment s left join truth t on t.id = s.amazon_order_id
            where (select string_agg(p ->> 'trackingNumber', ' ') from jsonb_array_elements(t.doc -> 'packages') p) is distinct from s.tracking")" 0 \
	'Amazon has one package of each shipment, the one that the shop has sent'
is "$(sql "select count(*) > 0, count(*) filter (where state <> 'confirmed') from amzmp.shipment")" 't|0' 'all are confirmed'
is "$(sql "select count(*) from truth t where t.status = 'SHIPPED' and not exists (select from amzmp.shipment s where s.amazon_order_id = t.id)")" 0 \
	'and Amazon believes nothing shipped that was not'
is "$(sql "select count(*) > 0, count(*) filter (where c.state <> 'cancelled' or t.status <> 'CANCELLED' or c.cancelled_by <> 'MERCHANT' or c.plans <> 1)
            from amzmp.cancellation c left join truth t on t.id = c.amazon_order_id where c.requested_by = 'SELLER'")" 't|0' 'what the shop gave up is cancelled, at the first attempt'
is "$(sql "select count(*) from (select m.subject from amzmp.feed_message m join amzmp.feed f using (account_id, feed_id) where f.type = 'POST_ORDER_ACKNOWLEDGEMENT_DATA'
            and f.state <> 'cancelled' group by m.subject having count(*) > 1) x")" 0 'and Amazon was told once'
is "$(control GET violations | grep -o '"count": *[0-9]*' | grep -o '[0-9]*')" 0 'nothing that Amazon would not take was sent'

# The last piece of twenty products: the checkout takes it only where it is there, Amazon has sold it already. Of the first
# five the checkout is first, of the last five Amazon; in between they race, the checkout from the one end, Amazon from the other.
seller "insert into shop.product select 'L-' || i, 10, 1 from generate_series(1, 20) i" "create table shop.bought (sku text)" \
	"call amzmp.wait('60 s')" >/dev/null
checkout()
{
	local i
	for i in "$@"; do
		echo "with taken as (update shop.product set stock = stock - 1 where sku = 'L-$i' and stock >= 1 returning sku)
		      insert into shop.bought select sku from taken; select pg_sleep(0.02);"
	done | PGUSER=seller psql -XqAt -v ON_ERROR_STOP=1 >/dev/null
}
sell_last()
{
	local i
	for i in $(seq "$1" "$2"); do
		control POST orders "{\"items\": [{\"sku\": \"L-$i\", \"quantity\": 1}]}" >/dev/null
	done
}
sell_last 16 20
poll
sql_becomes 60 "select count(*) = 5 from amzmp.order_item where sku like 'L-%'" t
sell_last 1 15
checkout {1..5}
poll
checkout {15..6}
checkout {16..20}
sql_becomes 60 "$quiet" t
bought=$(sql 'select count(*) from shop.bought')
diag "the checkout was first for $bought of 20"
is "$((bought >= 5 && bought <= 15))" 1 'either was first for some'
is "$(sql "select count(*) from shop.product where sku like 'L-%' and stock < 0")" "$bought" 'where the checkout was first, Amazon''s order goes below nothing'
is "$(sql "select string_agg(i.sku, ' ' order by i.sku) from amzmp.orders o join amzmp.order_item i using (account_id, amazon_order_id)
            where i.sku like 'L-%' and o.import_state = 'held_short_stock'")" "$(sql "select string_agg(sku, ' ' order by sku) from shop.bought")" 'and just those orders are held, for a person to see'
is "$(sql "select count(*) from amzmp.orders o join amzmp.order_item i using (account_id, amazon_order_id) where i.sku like 'L-%' and o.import_state = 'delivered'")" "$((20 - bought))" \
	'all others are handed over'
finish
