#!/usr/bin/env bash
# What follows when the shop has an order: it is told once that the order was shipped and once that it was delivered, in that order; a
# shop that keeps its stock itself takes movements from a queue, once each. And an order that cannot be imported is held back.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# Amazon's minutes are half a second, there and here.
simulator_start p --rate-scale 0 --time-scale 120 --verdict-delay 30
cluster_start p
control POST settings '{"order_lag": 0}' >/dev/null
sql 'create role seller login' 'create schema shop authorization seller'
shop_connect
sql 'grant amzmp_admin, amzmp_buyer_data to seller' 'update amzmp.account set time_scale = 120' >/dev/null

seller()
{
	PGUSER=seller sql "$@"
}

# place SPECIFICATION: the number of an order that the simulator has placed
place()
{
	control POST orders "$1" | grep -o '"orderId": *"[^"]*"' | head -n 1 | cut -d'"' -f4
}

fate()
{
	control POST "orders/$1/$2" "${3:-{\}}" >/dev/null
}

becomes()
{
	sql_becomes 40 "$1" "$2" || true
	is "$(sql "$1")" "$2" "$3"
}

poll()
{
	sql "select amzmp.run_flow('get_orders', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
}

# Amazon shows what was confirmed some time later, so one poll may come too soon.
shows_as()
{
	poll
	sql_says "select status from amzmp.orders where amazon_order_id = '$1'" "$2"
}

told()
{
	echo "select string_agg(event || coalesce(' ' || carrier, ''), ', ' order by n) from shop.told where amazon_order_id = '$1'"
}

seller 'create table shop.product (sku text primary key, price numeric(12, 2) not null, stock integer not null)' \
	"insert into shop.product select 'S-' || i, 10, 100 from generate_series(1, 9) i" \
	'create table shop.sale (amazon_order_id text primary key)' 'create table shop.closed (yes boolean)' \
	'create table shop.told (n serial, amazon_order_id text, event text, carrier text)' \
	"create function shop.take(account_id bigint, amazon_order_id text) returns text language sql as
	 'insert into shop.sale values (\$2) returning null::text'" \
	"create function shop.progress(account_id bigint, amazon_order_id text, event text, carrier text) returns void language plpgsql as \$\$
	begin
		if exists (select from shop.closed) then
			raise exception 'the shop is closed';
		end if;
		insert into shop.told (amazon_order_id, event, carrier) values (\$2, \$3, \$4);
	end \$\$" \
	"select amzmp.attach_source('shop', 'shop.product')" "select amzmp.queue_movements('shop')" \
	"select amzmp.deliver_orders_to('DE', 'shop.take(bigint, text)')" "select amzmp.tell_progress_to('DE', 'shop.progress(bigint, text, text, text)')" \
	"select amzmp.set('shop', 'send_shipping_info', 'false')" >/dev/null

# ---- shipped and delivered

own=$(place '{"items": [{"sku": "S-1", "quantity": 2}]}')
poll
becomes 'select count(*) from shop.sale' 1 'the shop has an order'
is "$(sql 'select count(*) from shop.told')" 0 'of which nothing is told yet'
seller "select amzmp.set('shop', 'send_shipping_info', 'true')" "select amzmp.confirm_shipment('shop', '$own', 'DHL', 'T-1')" >/dev/null
becomes "select state from amzmp.shipment" confirmed 'it is shipped'
seller "select amzmp.set('shop', 'send_shipping_info', 'false')" >/dev/null
wait_for 40 shows_as "$own" SHIPPED || true
becomes "$(told "$own")" 'shipped DHL' 'that is told, and who carries it'
seller 'insert into shop.closed values (true)'
fate "$own" deliver
poll
becomes "select state || ' ' || tries || ' ' || failure_reason from amzmp.order_progress where event = 'delivered'" 'due 1 the shop is closed (P0001)' 'a function that fails is told so'
sender_end KILL
seller 'truncate shop.closed'
sql "update amzmp.task set due_at = now() where kind = 'progress'" "select amzmp._wake()" >/dev/null
becomes "select count(*) from shop.told where amazon_order_id = '$own' and event = 'delivered'" 1 'it is called again, though the server fell: delivered'
poll
is "$(sql "select count(*) from shop.told")" 2 'each once'

refused=$(place '{"fulfilled_by": "AMAZON", "items": [{"sku": "S-4", "quantity": 1}]}')
poll
seller 'insert into shop.closed values (true)'
fate "$refused" ship
poll
for _ in 1 2 3; do
	sql_becomes 20 "select count(*) from amzmp.task where kind = 'progress' and due_at <= now()" 0 || true
	sql "update amzmp.task set due_at = now() where kind = 'progress'" "select amzmp._wake()" >/dev/null
done
becomes "select state || ' ' || reason from amzmp.order_problem where amazon_order_id = '$refused'" "not_told the shop's function was not told that it is shipped: the shop is closed (P0001)" \
	'what it has refused three times is listed'
seller 'truncate shop.closed'
is "$(seller "select amzmp.tell_progress('shop')")" 1 'and told again by hand'
becomes "$(told "$refused")" 'shipped' 'then it takes it'
is "$(sql "select count(*) from amzmp.order_problem where amazon_order_id = '$refused'")" 0 'and it is listed no more'

seller "select amzmp.set('shop', 'order_start', '2020-01-01T00:00:00Z')" >/dev/null
fba=$(place '{"ago": 900000, "status": "SHIPPED", "fulfilled_by": "AMAZON", "items": [{"sku": "S-2", "quantity": 1}]}')
seller "select amzmp.fetch_order('shop', '$fba')" >/dev/null
becomes "$(told "$fba")" 'shipped, delivered' 'an order that Amazon ships is taken for delivered when its time has passed'
is "$(sql "select assumed from amzmp.order_progress where amazon_order_id = '$fba' and event = 'delivered'")" t 'and marked so'

quiet=$(place '{"items": [{"sku": "S-1", "quantity": 1}]}')
poll
seller "select amzmp.tell_progress_to('DE', null)" >/dev/null
fate "$quiet" ship
poll
is "$(sql "select count(*) from amzmp.order_progress where amazon_order_id = '$quiet'")" 0 'without a function nothing is noted'
seller "select amzmp.tell_progress_to('DE', 'shop.progress(bigint, text, text, text)')" \
	"select amzmp.set('shop', 'default_carrier', 'Courier'), amzmp.set('shop', 'keep_carriers', '[\"Courier\"]')" \
	"select amzmp.run_flow('get_updated_orders', account => 'shop')" >/dev/null
becomes "$(told "$quiet")" shipped 'the flow finds what was shipped meanwhile; a carrier that is to be kept is not overwritten'

# ---- movements from a queue

is "$(sql "select string_agg(sku || ' ' || quantity, ', ' order by sku) from amzmp.reservation where released_at is null")" 'S-1 2, S-1 1' 'what is in the queue is held'
seller 'begin' "select count(*) from amzmp.take_movements('shop')" 'rollback' >/dev/null
is "$(seller "select string_agg(sku || ' ' || quantity || ' ' || cause, ', ' order by quantity) from amzmp.take_movements('shop', 1)")" 'S-1 -2 sale' \
	'a movement is taken; one that was rolled back is there again'
is "$(seller "with m as (select * from amzmp.take_movements('shop')), u as (update shop.product p set stock = stock + m.quantity from m where m.sku = p.sku returning p.stock)
	select string_agg(stock::text, ' ') from u")" 99 'the next is another one, and written in the same transaction'
is "$(seller "select count(*) from amzmp.take_movements('shop')")" 0 'then there is none'
becomes "select count(*) from amzmp.reservation where released_at is null" 0 'and nothing is held any more'
back=$(place '{"items": [{"sku": "S-3", "quantity": 4}]}')
poll
seller "select * from amzmp.take_movements('shop')" >/dev/null
fate "$back" cancel
poll
is "$(seller "select string_agg(sku || ' ' || quantity || ' ' || cause, ', ') from amzmp.take_movements('shop')")" 'S-3 4 cancellation' 'what is cancelled comes back by the queue'
seller "select amzmp.queue_movements('shop', false)" >/dev/null
is "$(PGUSER=seller psql -XqAt -v VERBOSITY=sqlstate -c "select amzmp.take_movements('shop')" 2>&1 | grep -c AZ203)" 1 'a queue that is ended gives nothing'

# ---- an order that cannot be imported

sql "alter table amzmp.order_item add constraint broken check (sku <> 'S-9')"
place '{"items": [{"sku": "S-9", "quantity": 1}]}' >/dev/null
next=$(place '{"items": [{"sku": "S-8", "quantity": 1}]}')
poll
becomes "select count(*) from shop.sale where amazon_order_id = '$next'" 1 'an order that cannot be imported holds up no other'
is "$(sql "select error || ' ' || tries || ' ' || gave_up from amzmp.penalised where kind = 'order'")" 'ORDER_NOT_IMPORTED 1 false' 'it is held back by the policy for orders'
poll
is "$(sql "select tries from amzmp.penalty where kind = 'order'")" 1 'and left alone for its time'
sql 'alter table amzmp.order_item drop constraint broken'
is "$(seller "select amzmp.release_penalty('shop', kind => 'order')")" 1 'somebody mends that and releases it'
becomes "select count(*) from shop.sale s join amzmp.order_item i using (amazon_order_id) where i.sku = 'S-9'" 1 'then it comes in'
is "$(sql "select count(*) from amzmp.penalty")" 0 'and nothing is held against it'

is "$(control GET violations | grep -o '"count": *[0-9]*' | grep -o '[0-9]*')" 0 'nothing that Amazon would not take was sent'
finish
