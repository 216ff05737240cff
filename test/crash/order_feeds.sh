#!/usr/bin/env bash
# What the shop owes Amazon for its orders goes by feeds and calls, once each, whatever is lost on the way: cancellations,
# acknowledgements, and packages from the shop's own table.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# Amazon's minutes are a tenth of a second, there and here: a feed and the pause after it take two seconds.
simulator_start o --rate-scale 0 --time-scale 600 --verdict-delay 60
cluster_start o
control POST settings '{"order_lag": 0}' >/dev/null
sql 'create extension pg_cron' 'create role seller login' 'create schema shop authorization seller'
shop_connect
sql 'grant amzmp_admin, amzmp_buyer_data to seller' 'update amzmp.account set time_scale = 600' >/dev/null

# Polls all the time, as Amazon's minutes fly; ended by the end of the scene.
(while sleep 0.7; do psql -XqAt -c "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null 2>&1 || true; done) &
poller=$!
trap 'kill "$poller" 2>/dev/null; scene_end' EXIT

seller()
{
	PGUSER=seller sql "$@"
}

# place SPECIFICATION: the number of an order that the simulator has placed, when it is here
place()
{
	local id
	id=$(control POST orders "$1" | grep -o '"orderId": *"[^"]*"' | head -n 1 | cut -d'"' -f4)
	sql_becomes 30 "select count(*) from amzmp.orders where amazon_order_id = '$id'" 1 >/dev/null || diag "order $id did not come"
	echo "$id"
}

fate()
{
	control POST "orders/$1/$2" "${3:-{\}}" >/dev/null
}

# at_amazon ORDER KEY: a value in the simulator's order
at_amazon()
{
	control GET "orders/$1" | tr -d '\n' | grep -o "\"$2\": *\"*[^\",}]*" | tail -n 1 | sed 's/.*: *"*//'
}

refusal()
{
	PGUSER=seller psql -XqAt -v VERBOSITY=sqlstate -c "$1" 2>&1 | sed -n 's/^ERROR:  //p' | head -n 1
}

# becomes STATEMENT VALUE NAME: it does within a while
becomes()
{
	sql_becomes 40 "$1" "$2" || true
	is "$(sql "$1")" "$2" "$3"
}

seller "create table shop.product (sku text primary key, price numeric(12,2) not null, stock integer not null)" \
	"insert into shop.product select 'S-' || i, 10, 10000 from generate_series(1, 20) i" \
	"create table shop.sale (number bigserial primary key, amazon_order_id text not null, cancelled text)" \
	"create table shop.parcel (id serial primary key, sale_number text, company text, code text, sent timestamptz, sku text, units integer)" \
	"create function shop.take(account_id bigint, amazon_order_id text) returns text language sql as
	 'insert into shop.sale (amazon_order_id) values (amazon_order_id) returning ''N-'' || number'" \
	"create function shop.cancelled(account_id bigint, amazon_order_id text, event text, reason text) returns text language plpgsql as \$\$
	begin
		if exists (select from shop.sale s where s.amazon_order_id = cancelled.amazon_order_id and s.cancelled = 'broken') then
			raise exception 'the shop is closed';
		end if;
		update shop.sale s set cancelled = concat_ws(', ', s.cancelled, event || ': ' || reason) where s.amazon_order_id = cancelled.amazon_order_id;
		return case when reason like 'Please%' then 'accept' end;
	end \$\$" \
	"select amzmp.attach_source('shop', 'shop.product')" "select amzmp.deliver_orders_to('DE', 'shop.take(bigint, text)')" >/dev/null

# ---- cancellations

first=$(place '{"items": [{"sku": "S-1", "quantity": 2}, {"sku": "S-2", "quantity": 1}]}')
becomes "select import_state from amzmp.orders where amazon_order_id = '$first'" delivered 'an order is here'
is "$(seller "select amzmp.cancel_order('shop', '$first')")" queued 'it is cancelled by a feed'
like "$(seller "select amzmp.cancel_order('shop', '$first')")" '(queued|sent|accepted)' 'once'
becomes "select state || ' ' || cancelled_by from amzmp.cancellation where amazon_order_id = '$first'" 'cancelled MERCHANT' 'until Amazon shows it cancelled'
is "$(at_amazon "$first" cancelReason)" NoInventory 'with the reason of the setting'
is "$(sql "select coalesce(sum(quantity), 0) from amzmp.movement where amazon_order_id = '$first'")" 0 'its units come back'
is "$(refusal "select amzmp.cancel_order('shop', '$first')")" AZ203 'a cancelled order is not cancelled again'

asked=$(place '{"items": [{"sku": "S-1", "quantity": 1}]}')
fate "$asked" cancel_request '{"reason": "Wrong colour"}'
becomes "select buyer_reason from amzmp.cancellation_request where amazon_order_id = '$asked' and state = 'requested'" 'Wrong colour' 'a buyer''s request is listed with its reason'
is "$(refusal "select amzmp.confirm_shipment('shop', '$asked', 'DHL', 'T-1')")" AZ203 'and stops the shipment'
seller "select amzmp.accept_cancellation('shop', '$asked')" >/dev/null
becomes "select state from amzmp.cancellation where amazon_order_id = '$asked'" cancelled 'accepted, the order is cancelled'
is "$(at_amazon "$asked" cancelReason)" BuyerCanceled 'because the buyer asked'

declined=$(place '{"items": [{"sku": "S-1", "quantity": 1}]}')
fate "$declined" cancel_request
becomes "select state from amzmp.cancellation where amazon_order_id = '$declined'" requested 'another one asks'
seller "select amzmp.decline_cancellation('shop', '$declined')" "select amzmp.confirm_shipment('shop', '$declined', 'DHL', 'T-2')" >/dev/null
becomes "select state from amzmp.shipment where amazon_order_id = '$declined'" confirmed 'declined, the order is shipped'

# the buyer changes his mind after the last poll, while the parcel is packed
late=$(place '{"items": [{"sku": "S-1", "quantity": 1}]}')
gone=$(place '{"items": [{"sku": "S-1", "quantity": 1}]}')
seller "select amzmp.set('shop', 'check_before_shipping', '1 day')" >/dev/null
kill -STOP "$poller"
sleep 1
sql "call amzmp.wait('60 s')"
calls=$(arrived confirmShipment)
fate "$late" cancel_request '{"reason": "Ordered twice"}'
fate "$gone" cancel
seller "select amzmp.confirm_shipment('shop', '$late', 'DHL', 'T-3')" "select amzmp.confirm_shipment('shop', '$gone', 'DHL', 'T-4')" >/dev/null
becomes "select state || ': ' || left(reason, 24) from amzmp.shipment where amazon_order_id = '$late'" 'held: the buyer asks to cancel' 'an order is read once more right before it is shipped'
becomes "select state || ': ' || reason from amzmp.shipment where amazon_order_id = '$gone'" 'refused: the order is CANCELLED' 'and one that was cancelled meanwhile is not shipped'
is "$(($(arrived confirmShipment) - calls))" 0 'Amazon is told of neither'
kill -CONT "$poller"
seller "select amzmp.decline_cancellation('shop', '$late')" >/dev/null
becomes "select state from amzmp.shipment where amazon_order_id = '$late'" confirmed 'the first goes on when its request is declined'
seller "select amzmp.set('shop', 'check_before_shipping', null)" >/dev/null

pending=$(place '{"status": "PENDING", "items": [{"sku": "S-3", "quantity": 1}]}')
is "$(seller "select amzmp.cancel_order('shop', '$pending', 'PricingError')")" waiting 'a pending order waits with its cancellation'
is "$(sql "select reason from amzmp.cancellation_request where amazon_order_id = '$pending'")" 'it is not paid yet' 'and says for what'
fate "$pending" pay
becomes "select state from amzmp.cancellation where amazon_order_id = '$pending'" cancelled 'it goes on by itself'
is "$(at_amazon "$pending" cancelReason)" PricingError 'with the reason that was given'

# the answer to the feed is lost, and the server is killed before its report is applied
lost=$(place '{"items": [{"sku": "S-4", "quantity": 1}]}')
control POST faults '{"operation": "createFeed", "kind": "drop_after"}' >/dev/null
control POST faults '{"operation": "getFeeds", "kind": "delay", "delay_ms": 4000}' >/dev/null
created=$(arrived createFeed)
before=$(sql 'select count(*) from amzmp.feed')
seller "select amzmp.cancel_order('shop', '$lost')" >/dev/null
wait_for 30 test_arrived createFeed $((created + 1)) || true
sender_end KILL
becomes "select state || ' ' || plans from amzmp.cancellation where amazon_order_id = '$lost'" 'cancelled 1' 'a lost answer and a killed server cost nothing'
is "$(sql 'select count(*) from amzmp.feed')" $((before + 1)) 'not even a second feed'

# ---- the shop's own function

seller "select amzmp.cancel_orders_with('DE', 'shop.cancelled(bigint, text, text, text)')" >/dev/null
told=$(place '{"items": [{"sku": "S-5", "quantity": 1}]}')
becomes "select import_state from amzmp.orders where amazon_order_id = '$told'" delivered 'an order for the shop''s function'
fate "$told" cancel_request '{"reason": "Please cancel"}'
becomes "select cancelled from shop.sale where amazon_order_id = '$told'" 'requested: Please cancel, cancelled: Please cancel' 'it is told, accepts, and is told when it is done'

# lines are cancelled while the rest of the order goes on
some=$(place '{"items": [{"sku": "S-16", "quantity": 3}, {"sku": "S-17", "quantity": 1}]}')
becomes "select import_state from amzmp.orders where amazon_order_id = '$some'" delivered 'an order of two lines'
held=$(sql "select coalesce(sum(quantity), 0) from amzmp.movement where amazon_order_id = '$some'")
fate "$some" cancel '{"sku": "S-16", "quantity": 1, "reason": "Too many"}'
becomes "select cancelled from shop.sale where amazon_order_id = '$some'" 'lines_cancelled: Too many' 'the shop is told when units of a line are cancelled'
is "$(sql "select i.sku || ' ' || l.remaining || ' ' || l.cancelled_by from amzmp.cancelled_line l join amzmp.order_item i using (account_id, amazon_order_id, order_item_id)")" \
	'S-16 2 BUYER' 'and what remains of it'
is "$held $(sql "select sum(quantity) from amzmp.movement where amazon_order_id = '$some'")" '-4 -3' 'its unit comes back'
seller "update shop.sale set cancelled = 'broken' where amazon_order_id = '$some'"
fate "$some" cancel '{"sku": "S-17", "by": "AMAZON", "reason": "Not allowed"}'
becomes "select l.told_tries > 0 and l.told_at is null from amzmp.cancelled_line l join amzmp.order_item i using (account_id, amazon_order_id, order_item_id) where i.sku = 'S-17'" t \
	'a function that fails is told again'
seller "update shop.sale set cancelled = null where amazon_order_id = '$some'"
sql "update amzmp.task set due_at = now() where kind = 'cancellation'" "select amzmp._wake()" >/dev/null
becomes "select cancelled from shop.sale where amazon_order_id = '$some'" 'lines_cancelled: Not allowed' 'and takes it, once for each change'
is "$(sql "select o.status || ' ' || jsonb_path_query_array(s.items, '\$[*].remaining') from amzmp.orders o, amzmp.shop_order(o.account_id, o.amazon_order_id) s where o.amazon_order_id = '$some'")" \
	'UNSHIPPED [2, 0]' 'the order goes on with the rest'
broken=$(place '{"items": [{"sku": "S-5", "quantity": 1}]}')
becomes "select import_state from amzmp.orders where amazon_order_id = '$broken'" delivered 'another'
seller "update shop.sale set cancelled = 'broken' where amazon_order_id = '$broken'"
fate "$broken" cancel
becomes "select told_tries > 0 and told = 'nothing' from amzmp.cancellation where amazon_order_id = '$broken'" t 'a function that fails is called again'
seller "update shop.sale set cancelled = null where amazon_order_id = '$broken'" \
	"update shop.sale set number = number where amazon_order_id = '$broken'"
seller "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
sql "update amzmp.task set due_at = now() where kind = 'cancellation'" "select amzmp._wake()" >/dev/null
becomes "select cancelled from shop.sale where amazon_order_id = '$broken'" 'cancelled: Order created by mistake' 'until it takes it'

# ---- acknowledgements

seller "select amzmp.set('shop', 'acknowledge_orders', 'true')" >/dev/null
known=$(place '{"items": [{"sku": "S-6", "quantity": 1}]}')
becomes "select state from amzmp.acknowledgement where amazon_order_id = '$known'" acknowledged 'an order that is handed over is acknowledged'
is "$(at_amazon "$known" aliasId)" "$(sql "select delivered_number from amzmp.orders where amazon_order_id = '$known'")" 'Amazon knows the shop''s number'
seller "select amzmp.set('shop', 'acknowledge_orders', 'false')" >/dev/null

# ---- packages from the shop's table

seller "select amzmp.attach_shipments('shop', 'shop.parcel', order_number => 'sale_number', carrier => 'company', tracking => 'code',
	shipped_at => 'sent', sku => 'sku', quantity => 'units', filter => 'company is not null')" \
	"select amzmp.map_carrier('shop', 'DHL', 'DHL')" >/dev/null
two=$(place '{"items": [{"sku": "S-7", "quantity": 3}, {"sku": "S-8", "quantity": 1}]}')
becomes "select import_state from amzmp.orders where amazon_order_id = '$two'" delivered 'an order of two products'
number=$(sql "select delivered_number from amzmp.orders where amazon_order_id = '$two'")
seller "insert into shop.parcel (sale_number, company, code, sku, units) values ('$number', 'DHL', 'P-1', 'S-7', 2)"
becomes "select state || ' ' || package_reference || ' ' || row_key from amzmp.shipment where amazon_order_id = '$two'" 'confirmed 1 1' 'a new row confirms a part'
becomes "select status from amzmp.orders where amazon_order_id = '$two'" PARTIALLY_SHIPPED 'Amazon has it'
seller "insert into shop.parcel (sale_number, company, code, sku, units) values ('$number', 'Swift Post', 'P-2', 'S-7', 1), ('$number', 'DHL', 'P-3', 'S-8', 1)"
becomes "select string_agg(carrier_code || coalesce(' ' || carrier_name, ''), ', ' order by row_key) from amzmp.shipment where amazon_order_id = '$two' and state = 'confirmed'" \
	'DHL, Other Swift Post, DHL' 'more rows confirm more packages; a carrier that is not mapped goes by its name'
becomes "select status from amzmp.orders where amazon_order_id = '$two'" SHIPPED 'the order is shipped'
seller "update shop.parcel set code = 'P-3-new' where code = 'P-3'"
becomes "select string_agg(tracking, ' ' order by package_reference) from amzmp.order_package where amazon_order_id = '$two'" 'P-1 P-2 P-3-new' 'a changed row corrects its package'

# ---- several rows, one package

# lines_of ORDER PACKAGE: what amzmp has told Amazon of a package, and its number
lines_of()
{
	sql "select s.tracking || ':' || (select string_agg(i.sku || '=' || (x ->> 'quantity'), ',' order by i.sku, x ->> 'quantity')
		from jsonb_array_elements(s.items) x join amzmp.order_item i on i.amazon_order_id = s.amazon_order_id and i.order_item_id = x ->> 'orderItemId')
		from amzmp.shipment s where s.amazon_order_id = '$1' and s.package_reference = '$2' and s.state = 'confirmed'"
}

says()
{
	wait_for 40 test_lines "$1" "$2" "$3" || true
	is "$(lines_of "$1" "$2")" "$3" "$4"
}

test_lines()
{
	[ "$(lines_of "$1" "$2")" = "$3" ]
}

many=$(place '{"items": [{"sku": "S-11", "quantity": 2}, {"sku": "S-12", "quantity": 1}, {"sku": "S-13", "quantity": 3}]}')
sent=$(arrived confirmShipment)
seller "insert into shop.parcel (sale_number, company, code, sku, units) values ('$many', 'DHL', 'M-1', 'S-11', 2), ('$many', 'DHL', 'M-1', 'S-12', 1), ('$many', 'DHL', 'M-1', 'S-13', 1)"
says "$many" 1 'M-1:S-11=2,S-12=1,S-13=1' 'rows with one number are one package'
is "$(($(arrived confirmShipment) - sent))" 1 'which is confirmed once'
becomes "select status from amzmp.orders where amazon_order_id = '$many'" PARTIALLY_SHIPPED 'and arrives as one'
seller "insert into shop.parcel (sale_number, company, code, sku, units) values ('$many', 'DHL', 'M-1', 'S-13', 1)"
says "$many" 1 'M-1:S-11=2,S-12=1,S-13=2' 'a row that comes later joins it'
seller "update shop.parcel set code = 'M-2' where code = 'M-1'"
says "$many" 1 'M-2:S-11=2,S-12=1,S-13=2' 'another number for all of its rows corrects it'
becomes "select string_agg(package_reference || tracking, ' ') from amzmp.order_package where amazon_order_id = '$many'" 1M-2 'and makes no other'
seller "update shop.parcel set code = 'M-3' where code = 'M-2' and sku = 'S-12'"
says "$many" 2 'M-3:S-12=1' 'a row that gets a number of its own becomes a package of its own'
says "$many" 1 'M-2:S-11=2,S-13=2' 'and leaves the one that it was in'
seller "insert into shop.parcel (sale_number, company, code, sku, units) values ('$many', 'UPS', 'M-3', 'S-13', 1)"
becomes "select reason from amzmp.shipment_problem where amazon_order_id = '$many'" 'rows of one package name several carriers' 'rows that contradict each other are held'
seller "update shop.parcel set company = 'DHL' where code = 'M-3'"
says "$many" 2 'M-3:S-12=1,S-13=1' 'until they agree'
becomes "select status from amzmp.orders where amazon_order_id = '$many'" SHIPPED 'then the order is shipped'
is "$(sql "select count(*) from amzmp.shipment where amazon_order_id = '$many'")" 2 'in two packages'
calls=$(arrived confirmShipment)
sql "select amzmp.rescan('shop', 'shop.parcel')" >/dev/null
becomes "select rescan_finished_at > rescan_requested_at from amzmp.source where kind = 'shipment'" t 'all rows are read again'
is "$(arrived confirmShipment)" "$calls" 'which sends nothing'

seller "create table shop.box (id serial primary key, box text, sale_number text, sku text, units integer)" \
	"select amzmp.attach_shipments('shop', 'shop.box', order_number => 'sale_number', carrier => '''DHL''', tracking => null, shipped_at => null,
	 sku => 'sku', quantity => 'units', package => 'box')" >/dev/null
boxed=$(place '{"items": [{"sku": "S-14", "quantity": 1}, {"sku": "S-15", "quantity": 1}]}')
seller "insert into shop.box (box, sale_number, sku, units) values ('A', '$boxed', 'S-14', 1), ('A', '$boxed', 'S-15', 1)"
becomes "select string_agg(package_reference || state || jsonb_array_length(items) || by_feed, ' ') from amzmp.shipment where amazon_order_id = '$boxed'" \
	'1confirmed2true' 'a column may say what is one package'
seller "select amzmp.detach_source('shop', 'shop.box')" >/dev/null

# a shop that has it all in its table of orders: the state "order sent" confirms
seller "alter table shop.sale add state text, add label text" \
	"select amzmp.attach_shipments('shop', 'shop.sale', order_number => 'amazon_order_id', carrier => '''DHL''', tracking => 'label', shipped_at => null,
	 filter => 'state = ''order sent''')" >/dev/null
inplace=$(place '{"items": [{"sku": "S-19", "quantity": 2}]}')
becomes "select import_state from amzmp.orders where amazon_order_id = '$inplace'" delivered 'an order in the shop''s table'
seller "update shop.sale set label = 'L-1' where amazon_order_id = '$inplace'"
sql "call amzmp.wait('60 s')"
is "$(sql "select count(*) from amzmp.shipment where amazon_order_id = '$inplace'")" 0 'is not shipped by a label alone'
seller "update shop.sale set state = 'order sent' where amazon_order_id = '$inplace'"
becomes "select state || ' ' || tracking from amzmp.shipment where amazon_order_id = '$inplace'" 'confirmed L-1' 'but by its state'
seller "select amzmp.detach_source('shop', 'shop.sale')" >/dev/null

twin=$(place '{"items": [{"sku": "S-18", "quantity": 1}]}')
other=$(place '{"items": [{"sku": "S-18", "quantity": 1}]}')
becomes "select count(*) from amzmp.orders where amazon_order_id in ('$twin', '$other') and import_state = 'delivered'" 2 'two orders'
sql "update amzmp.orders set delivered_number = 'BOTH' where amazon_order_id in ('$twin', '$other')" >/dev/null
seller "insert into shop.parcel (sale_number, company, code) values ('BOTH', 'DHL', 'P-7')"
becomes "select reason from amzmp.shipment_problem where order_reference = 'BOTH'" 'several orders have the number BOTH' 'with one number between them are not told apart, so neither is shipped by it'
seller "update shop.parcel set sale_number = '$twin' where code = 'P-7'"
becomes "select amazon_order_id from amzmp.shipment where tracking = 'P-7' and state = 'confirmed'" "$twin" 'until the row names one'

early='701-1234567-7654321'
seller "insert into shop.parcel (sale_number, company, code) values ('$early', 'DHL', 'P-4'), ('web-17', 'DHL', 'P-5')"
becomes "select string_agg(state || coalesce(' ' || reason, ''), ', ' order by row_key::integer) from amzmp.shipment_row where order_reference in ('$early', 'web-17')" \
	"held there is no order $early, foreign there is no order web-17" 'what has no order is held, what is none of Amazon''s is left alone'
seller "select amzmp.set('shop', 'require_tracking', 'true')" >/dev/null
bare=$(place '{"items": [{"sku": "S-9", "quantity": 1}]}')
seller "insert into shop.parcel (sale_number, company) values ('$bare', 'DHL')"
becomes "select reason from amzmp.shipment_problem where amazon_order_id = '$bare'" 'the tracking number is missing' 'a package without a number is held where one is required'
seller "select amzmp.set('shop', 'require_tracking', 'false')" "select amzmp.retry_shipments('shop')" >/dev/null
becomes "select state || ' ' || by_feed || ' ' || (feed_id is not null) from amzmp.shipment where amazon_order_id = '$bare'" 'confirmed true true' 'else it goes by a feed'
becomes "select status from amzmp.orders where amazon_order_id = '$bare'" SHIPPED 'and ships the order'

odd=$(place '{"items": [{"sku": "S-9", "quantity": 1}]}')
seller "select amzmp.map_carrier('shop', 'Night Owl', 'NOWL')" "insert into shop.parcel (sale_number, company, code) values ('$odd', 'Night Owl', 'P-6')" >/dev/null
becomes "select state || ' ' || carrier_code || ' ' || carrier_name from amzmp.shipment where amazon_order_id = '$odd'" 'confirmed Other Night Owl' \
	'a code that Amazon does not know gives way to the name'

# ---- a backlog

sql "update amzmp.account set rate_scale = 0.001" >/dev/null
seller "select amzmp.set('shop', 'shipment_feed_minimum', '10')" "select amzmp.set('shop', 'feed_expected', '60 s')" >/dev/null
control POST orders '{"count": 40, "items": [{"sku": "S-10", "quantity": 1}]}' >/dev/null
becomes "select count(*) from shop.sale s join amzmp.order_item i using (amazon_order_id) where i.sku = 'S-10'" 40 'forty orders'
seller "insert into shop.parcel (sale_number, company, code) select 'N-' || s.number, 'DHL', 'B-' || s.number from shop.sale s join amzmp.order_item i using (amazon_order_id) where i.sku = 'S-10'"
becomes "select count(*) from amzmp.shipment s where s.tracking like 'B-%' and s.state = 'confirmed'" 40 'all are confirmed'
is "$(sql "select count(*) >= 15 from amzmp.shipment where tracking like 'B-%' and by_feed")" t 'those whose orders cannot be read one by one, by feed'
is "$(sql "select count(*) between 1 and 2, sum(messages) >= 15, sum(accepted) = sum(messages) from amzmp.feed where type = 'POST_ORDER_FULFILLMENT_DATA' and messages > 5")" 't|t|t' \
	'which carries them together'
becomes "select count(*) from amzmp.orders o join amzmp.order_item i using (account_id, amazon_order_id) where i.sku = 'S-10' and o.status <> 'SHIPPED'" 0 'and Amazon shows them shipped'

is "$(sql "select count(*) from amzmp.feed where state not in ('done', 'cancelled')")" 0 'no feed failed'
is "$(control GET violations | grep -o '"count": *[0-9]*' | grep -o '[0-9]*')" 0 'and nothing that Amazon would not take was sent'
finish
