#!/usr/bin/env bash
# Orders from Amazon's pages to the shop's rows, with everything going wrong on the way: each order comes in once, takes
# its units off the shop's stock once and is handed over once, and none holds up another.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

seller()
{
	PGUSER=seller sql "$@"
}

# place SPECIFICATION: the numbers of the orders that the simulator has placed
place()
{
	control POST orders "$1" | grep -o '"orderId": *"[^"]*"' | cut -d'"' -f4
}

poll()
{
	sql "select amzmp.run_flow('get_orders', account => 'shop')" "call amzmp.wait('120 s')" >/dev/null
}

# fate ORDER ACTION [BODY]: what happens to an order at Amazon
fate()
{
	control POST "orders/$1/$2" "${3:-{\}}" >/dev/null
}

state()
{
	sql "select status || ' ' || import_state from amzmp.orders where amazon_order_id = '$1'"
}

stock()
{
	sql "select stock from shop.product where sku = '$1'"
}

held()
{
	sql "select coalesce(sum(quantity), 0) from amzmp.reservation where sku = '$1' and released_at is null"
}

# The whole server falls with any of its processes that is killed so; returns when it is up again.
kill_process()
{
	local pid checkpointer
	checkpointer=$(sql "select pid from pg_stat_activity where backend_type = 'checkpointer'")
	pid=$(sql "select pid from pg_stat_activity where backend_type = '$1' order by state = 'active' desc limit 1")
	[ -n "$pid" ] && kill -9 "$pid" || return 1
	sql_becomes 60 "select pid <> $checkpointer from pg_stat_activity where backend_type = 'checkpointer'" t
}

# Is a process of this kind waiting for a lock?
is_stuck()
{
	[ "$(sql "select count(*) > 0 from pg_stat_activity where backend_type = '$1' and wait_event_type = 'Lock'")" = t ]
}

# Poll until it is. A poll that is under way, or was when the server fell, is left alone by the next ones.
poll_until_stuck()
{
	sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
	is_stuck "$1"
}

all_in="select count(*) from amzmp.orders where import_state = 'delivered'"

simulator_start s --rate-scale 0
cluster_start s 'log_min_messages = log'
control POST settings '{"order_lag": 0}' >/dev/null
shop_connect
sql "create role seller login" "grant amzmp_admin, amzmp_buyer_data to seller" "create schema shop authorization seller"
seller "create table shop.product (sku text primary key, price numeric(12,2) not null, stock integer not null)" \
	"insert into shop.product select 'S-' || i, 10, 10000 from generate_series(1, 40) i" \
	"create table shop.sale (number bigserial primary key, amazon_order_id text not null, total numeric)" \
	"create table shop.refused (amazon_order_id text primary key)" \
	"create function shop.take(account_id bigint, amazon_order_id text) returns text language plpgsql as \$\$
	declare made bigint;
	begin
		insert into shop.sale (amazon_order_id, total)
		select o.amazon_order_id, o.grand_total from amzmp.orders o
		 where o.account_id = take.account_id and o.amazon_order_id = take.amazon_order_id returning number into made;
		if exists (select from shop.refused r where r.amazon_order_id = take.amazon_order_id) then
			raise exception 'the shop does not want this order';
		end if;
		return 'N-' || made;
	end \$\$" \
	"select amzmp.attach_source('shop', 'shop.product')" "select amzmp.reduce_stock('shop', 'shop.product')" \
	"select amzmp.deliver_orders_to('DE', 'shop.take(bigint, text)')" "call amzmp.wait('60 s')" >/dev/null

# 300 orders of three units, four pages, one page twice, and the processes that work on them are killed. Each finds orders that
# came just before, however quick the others were.
place_batch()
{
	place "{\"count\": 15, \"items\": [{\"sku\": \"S-$1\", \"quantity\": 1}, {\"sku\": \"S-$((41 - $1))\", \"quantity\": 2}]}" >/dev/null
}
for i in {1..18}; do
	place_batch "$i"
done
seller "select amzmp.preview_orders('shop')" "call amzmp.wait('60 s')" >/dev/null
is "$(sql "select state, orders, unknown_orders, to_import, to_send from amzmp.order_preview" "select count(*) from amzmp.orders")" $'done|270|270|270|270\n0' \
	'what switching on would pull is counted first, and not pulled'
seller "select amzmp.preview_orders('shop', now() + interval '1 hour')" "call amzmp.wait('60 s')" >/dev/null
is "$(sql 'select state, orders, to_import, to_send from amzmp.order_preview')" 'done|270|0|0' 'with a later order_start none of them would come'
seller "select amzmp.set('DE', 'order_fulfillment', 'amazon')" "select amzmp.preview_orders('shop')" "call amzmp.wait('60 s')" >/dev/null
is "$(sql 'select state, orders, to_import, to_send from amzmp.order_preview')" 'done|270|0|0' 'nor where the channel wants only what Amazon ships'
seller "select amzmp.set('DE', 'order_fulfillment', null)" >/dev/null
control POST faults '{"operation": "searchOrders", "kind": "duplicate_page"}' >/dev/null
# killed while pages are applied,
hold 'lock table amzmp.parked_order in exclusive mode'
wait_for 60 poll_until_stuck 'amzmp runner'
kill_process 'amzmp runner'
# while the shop's function takes an order,
hold 'lock table shop.sale in exclusive mode'
place_batch 19
wait_for 60 poll_until_stuck 'amzmp user runner'
kill_process 'amzmp user runner'
# while an order is imported,
hold 'lock table amzmp.movement in exclusive mode'
place_batch 20
wait_for 60 poll_until_stuck 'amzmp user runner'
kill_process 'amzmp user runner'
# and wherever they happen to be.
for share in 100 180 260; do
	sql_becomes 60 "select count(*) > $share from amzmp.orders" t
	kill_process 'amzmp user runner' || kill_process 'amzmp sender'
done
come_in()
{
	poll
	[ "$(sql "$all_in")" = 300 ]
}
wait_for 60 come_in || diag "$(sql 'select kind, due_at - now(), attempt, last_error, count(*) from amzmp.task group by 1, 2, 3, 4' 'select import_state, status, count(*) from amzmp.orders group by 1, 2')"
is "$(sql "$all_in")" 300 'all orders of several pages come in, whatever is killed'
is "$(sql "select count(*), count(distinct amazon_order_id) from shop.sale")" '300|300' 'each is handed over once'
is "$(sql "select distinct payments #>> '{0,paymentMethod}' from amzmp.orders")" Standard 'and it is told how it was paid'
is "$(sql "select sum(10000 - stock) from shop.product")" 900 'and takes its units off the stock once'
is "$(sql "select count(*) from amzmp.movement where applied_at is null")" 0 'no movement is left open'
is "$(sql "select -sum(quantity), count(*) from amzmp.movement")" '900|600' 'movements say the same'
is "$(sql "select count(*) from shop.product p where 10000 - stock <> (select -sum(quantity) from amzmp.movement m where m.sku = p.sku)")" 0 \
	'for every SKU'
is "$(sql "select count(*) from amzmp.parked_order")" 0 'nothing stays parked'
poll
is "$(sql "select sum(10000 - stock) from shop.product")" 900 'another poll of the same window moves nothing'

# The shop holds a row for longer than we wait for it.
hold "update shop.product set price = 11 where sku = 'S-3'"
locked=$(place '{"items": [{"sku": "S-3", "quantity": 5}]}')
free=$(place '{"items": [{"sku": "S-4", "quantity": 5}]}')
before=$(stock S-3)
sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
sql_becomes 30 "select import_state from amzmp.orders where amazon_order_id = '$free'" delivered
sql_becomes 30 "select count(*) > 0 from amzmp.task where kind = 'import' and attempt > 0 and last_error is not null" t
is "$(state "$free")" 'UNSHIPPED delivered' 'a locked product holds up only the orders that want it'
is "$(state "$locked")" '' 'which wait as a whole'
release
sql_becomes 60 "select import_state from amzmp.orders where amazon_order_id = '$locked'" delivered
is "$((before - $(stock S-3)))" 5 'and come in once the shop lets go'
is "$(sql "select count(*) from amzmp.activity where level = 'error'")" 0 'giving way to the shop is no error'

# Pending orders hold stock, paid ones take it, cancelled ones give it back.
pending=$(place '{"status": "PENDING", "items": [{"sku": "S-5", "quantity": 3}]}')
given_up=$(place '{"status": "PENDING", "items": [{"sku": "S-6", "quantity": 4}]}')
before5=$(stock S-5)
before6=$(stock S-6)
poll
is "$(held S-5) $(held S-6)" '3 4' 'pending orders hold stock'
is "$(stock S-5) $(stock S-6)" "$before5 $before6" 'and take none'
fate "$pending" pay
fate "$given_up" cancel
poll
is "$(state "$pending")" 'UNSHIPPED delivered' 'paid, it is handed over'
is "$(held S-5) $((before5 - $(stock S-5)))" '0 3' 'what it held it has taken'
is "$(state "$given_up")" 'CANCELLED imported' 'one that is given up is not'
is "$(held S-6) $((before6 - $(stock S-6)))" '0 0' 'it lets go what it held'
fate "$pending" cancel
poll
is "$(state "$pending") $((before5 - $(stock S-5)))" 'CANCELLED delivered 0' 'cancelled after that, the units come back'
fate "$pending" touch
poll
is "$(sql "select string_agg(quantity::text, ' ' order by revision) from amzmp.movement where amazon_order_id = '$pending'")" '-3 3' 'once'

# A SKU that the shop does not know, and one that Amazon ships.
unknown=$(place '{"items": [{"sku": "OLD-7", "quantity": 2}, {"sku": "S-8", "quantity": 1}]}')
fba=$(place '{"fulfilled_by": "AMAZON", "items": [{"sku": "S-9", "quantity": 6}]}')
before7=$(stock S-7)
before8=$(stock S-8)
before9=$(stock S-9)
poll
is "$(state "$unknown")" 'UNSHIPPED held_unknown_item' 'an unknown item holds its order'
is "$((before8 - $(stock S-8)))" 1 'the known ones of its items are sold all the same'
is "$(state "$fba") $((before9 - $(stock S-9)))" 'UNSHIPPED delivered 0' 'an order that Amazon ships moves nothing of ours'
is "$(seller "select amzmp.link_item('shop', 'OLD-7', 'S-7')")" 1 'link_item tells how many orders waited'
sql "call amzmp.wait('60 s')" >/dev/null
is "$(state "$unknown") $((before7 - $(stock S-7)))" 'UNSHIPPED delivered 2' 'which then go on'
is "$((before8 - $(stock S-8)))" 1 'taking nothing twice'

# The shop's function refuses one order of three.
three=$(place '{"count": 3, "items": [{"sku": "S-10", "quantity": 1}]}')
refused=$(sed -n 2p <<<"$three")
seller "insert into shop.refused values ('$refused')"
before=$(stock S-10)
poll
is "$(state "$refused")" 'UNSHIPPED quarantined' 'an order whose function fails is put aside'
is "$(sql "select count(*) from amzmp.orders where amazon_order_id = any ('{${three//$'\n'/,}}') and import_state = 'delivered'")" 2 'the others go on'
is "$(sql "select count(*) from shop.sale where amazon_order_id = '$refused'")" 0 'what it had written is undone'
is "$((before - $(stock S-10)))" 3 'sold it is all the same'
seller "delete from shop.refused" "select amzmp.redeliver('DE')" "call amzmp.wait('60 s')" >/dev/null
is "$(state "$refused") $(sql "select count(*) from shop.sale where amazon_order_id = '$refused'")" 'UNSHIPPED delivered 1' 'redelivered, it arrives'
is "$((before - $(stock S-10)))" 3 'and takes nothing again'

# The shop's own checkout sells at the same time.
before=$(stock S-11)
checkout()
{
	local i
	for i in {1..100}; do
		echo "update shop.product set stock = stock - 1 where sku = 'S-11';"
	done | PGUSER=seller psql -Xq -v ON_ERROR_STOP=1
}
place '{"count": 60, "items": [{"sku": "S-11", "quantity": 1}]}' >/dev/null
sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
checkout &
till=$!
checkout
wait "$till"
sql "call amzmp.wait('120 s')" >/dev/null
is "$((before - $(stock S-11)))" 260 'the checkout and Amazon sell the same product, and every unit counts once'
is "$(sql "select quantity from amzmp.product where sku = 'S-11'")" "$(stock S-11)" 'amzmp knows what the shop has'
is "$(sql "select desired_quantity from amzmp.inventory where sku = 'S-11'" | sort -u)" "$(sql "select desired_quantity from amzmp.inventory where sku = 'S-11' and desired_quantity <= (select stock from shop.product where sku = 'S-11')" | sort -u)" \
	'and never offers more'

# The function form.
seller "create table shop.booking (sku text, change integer, ordered timestamptz default clock_timestamp())" \
	"create function shop.book(sku text, change integer) returns void language plpgsql as \$\$
	begin
		if sku = 'S-13' then
			raise exception 'S-13 is counted elsewhere';
		end if;
		insert into shop.booking values (sku, change);
	end \$\$" "select amzmp.reduce_stock('shop', function => 'shop.book(text, integer)')" >/dev/null
booked=$(place '{"items": [{"sku": "S-14", "quantity": 2}, {"sku": "S-12", "quantity": 1}]}')
odd=$(place '{"items": [{"sku": "S-13", "quantity": 2}]}')
before=$(stock S-12)
poll
is "$(state "$booked") $(sql "select string_agg(sku || change, ' ' order by ordered) from shop.booking")" 'UNSHIPPED delivered S-12-1 S-14-2' \
	'a function books the stock, in the order of SKUs'
is "$(stock S-12)" "$before" 'and the column is left alone'
is "$(state "$odd") $(held S-13)" 'UNSHIPPED quarantined 2' 'what it refuses is put aside, its units held'
seller "select amzmp.reduce_stock('shop', 'shop.product')" "select amzmp.redeliver('DE')" "call amzmp.wait('60 s')" >/dev/null
is "$(state "$odd") $(held S-13) $(stock S-13)" "UNSHIPPED delivered 0 $(sql "select 10000 + sum(quantity) from amzmp.movement where sku = 'S-13'")" \
	'and settled when the column is used again'

# Shipping.
item_of()
{
	sql "select order_item_id from amzmp.order_item where amazon_order_id = '$1' and sku = '$2'"
}
parts=$(place '{"ago": 60, "items": [{"sku": "S-15", "quantity": 3}, {"sku": "S-16", "quantity": 1}]}')
poll
line=$(item_of "$parts" S-15)
refusal()
{
	PGUSER=seller psql -XqAt -v VERBOSITY=sqlstate -c "$1" 2>&1 | sed -n 's/^ERROR:  //p' | head -n 1
}
is "$(refusal "select amzmp.confirm_shipment('shop', '$fba', 'DHL', 'T')")" AZ203 'what Amazon ships is not confirmed'
is "$(refusal "select amzmp.confirm_shipment('shop', '$parts', 'DHL', 'T', items => '[{\"orderItemId\": \"$line\", \"quantity\": 4}]')")" AZ202 \
	'nor more than was ordered'
seller "select amzmp.confirm_shipment('shop', '$parts', 'DHL', 'T1', items => '[{\"orderItemId\": \"$line\", \"quantity\": 2}]')" \
	"call amzmp.wait('60 s')" >/dev/null
is "$(sql "select state from amzmp.shipment where amazon_order_id = '$parts'")" confirmed 'a part is shipped'
control POST clock '{"advance": 5}' >/dev/null
poll
is "$(state "$parts")" 'PARTIALLY_SHIPPED delivered' 'and the order is shipped in part'
seller "select amzmp.confirm_shipment('shop', '$parts', 'DHL', 'T1-new', package_reference => '1')" "call amzmp.wait('60 s')" >/dev/null
is "$(sql "select state || ' ' || tracking from amzmp.shipment where amazon_order_id = '$parts'")" 'confirmed T1-new' 'its package can be corrected'
seller "select amzmp.confirm_shipment('shop', '$parts', 'DHL', 'T2')" "call amzmp.wait('60 s')" >/dev/null
control POST clock '{"advance": 5}' >/dev/null
poll
is "$(state "$parts")" 'SHIPPED delivered' 'the rest ships it whole'
is "$(sql "select string_agg(tracking, ' ' order by package_reference) from amzmp.order_package where amazon_order_id = '$parts'")" 'T1-new T2' \
	'Amazon has both packages'
is "$(refusal "select amzmp.confirm_shipment('shop', '$parts', 'DHL', 'T3')")" AZ203 'nothing is left to ship'

# The answer is lost: the repeat is an edit. Somebody else has shipped it meanwhile: Amazon refuses, and the order decides.
lost=$(place '{"ago": 60, "items": [{"sku": "S-17", "quantity": 1}]}')
elsewhere=$(place '{"ago": 60, "items": [{"sku": "S-18", "quantity": 1}]}')
poll
fate "$elsewhere" ship
control POST clock '{"advance": 5}' >/dev/null
control POST faults "{\"path\": \"/$lost/\", \"kind\": \"drop_after\"}" >/dev/null
seller "select amzmp.confirm_shipment('shop', '$lost', 'DHL', 'T4')" \
	"select amzmp.confirm_shipment('shop', '$elsewhere', 'DHL', 'T5', package_reference => '77')" >/dev/null
sql_becomes 60 "select string_agg(state, ' ' order by tracking) from amzmp.shipment where amazon_order_id in ('$lost', '$elsewhere')" 'confirmed refused'
is "$(sql "select state from amzmp.shipment where tracking = 'T4'")" confirmed 'a lost answer costs nothing'
is "$(sql "select state || ' ' || (reason is not null) from amzmp.shipment where tracking = 'T5'")" 'refused true' \
	'an order that was shipped without us says so'

is "$(sql "select amazon_order_id, count(*) from shop.sale group by 1 having count(*) > 1")" '' 'no order was ever handed over twice'
is "$(sql "select count(*) from shop.product p where sku not in ('S-11', 'S-12', 'S-14')
            and stock <> 10000 + coalesce((select sum(quantity) from amzmp.movement m where m.sku = p.sku and applied_at is not null), 0)")" 0 \
	'the stock is what the movements say'
is "$(control GET violations | grep -o '"count": *[0-9]*' | grep -o '[0-9]*')" 0 'and nothing that Amazon would not take was sent'
finish
