#!/usr/bin/env bash
# What comes before and beside the orders: what switching on would pull, old orders by a report whose figures are wrong, orders
# in the shop's own words, and an application that may not see buyers' data.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# Amazon's minutes are half a second, there and here.
simulator_start b --rate-scale 0 --time-scale 120 --verdict-delay 30
cluster_start b
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

becomes()
{
	sql_becomes 40 "$1" "$2" || true
	is "$(sql "$1")" "$2" "$3"
}

poll()
{
	sql "select amzmp.run_flow('get_orders', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
}

seller 'create table shop.product (sku text primary key, price numeric(12, 2) not null, stock integer not null)' \
	"insert into shop.product select 'S-' || i, 10, 100 from generate_series(1, 9) i" \
	'create table shop.sale (amazon_order_id text primary key, number text, store text, customer text, carrier text, method text, region text,
	 city text, street text, tax numeric, lines integer)' \
	"create function shop.take(account_id bigint, amazon_order_id text) returns text language sql as \$\$
		insert into shop.sale
		select \$2, o.order_number, o.store, concat_ws(' ', o.customer_mode, o.customer), o.carrier, o.shipping_method, a.region, a.city,
			a.line1, o.tax_on_items, jsonb_array_length(o.items)
		from amzmp.shop_order(\$1, \$2) o left join amzmp.shop_address('shop', array[\$2]) a on true
		returning number \$\$" \
	"select amzmp.attach_source('shop', 'shop.product')" "select amzmp.reduce_stock('shop', relation => 'shop.product')" \
	"select amzmp.deliver_orders_to('DE', 'shop.take(bigint, text)')" \
	"select amzmp.map_service('shop', 'Standard', 'DHL', 'Parcel')" "select amzmp.map_address('shop', 'region', 'Bayern', 'DE-BY')" \
	"select amzmp.set('shop', 'order_number_format', '{prefix}{n1}{n3}{n2}'), amzmp.set('shop', 'order_number_prefix', 'AMZ')" \
	"select amzmp.set('shop', 'customer_mode', 'fixed'), amzmp.set('shop', 'default_customer', 'amazon@shop'), amzmp.set('shop', 'order_store', 'north')" \
	"select amzmp.set_tax_rule('shop', 'DE', 'Berlin', false, false)" \
	"select amzmp.set('shop', 'order_start', to_char(now() - interval '1 day', 'YYYY-MM-DD\"T\"HH24:MI:SSOF'))" >/dev/null

# ---- what is there before

days=86400
old=$(place "{\"ago\": $((20 * days)), \"status\": \"SHIPPED\", \"items\": [{\"sku\": \"S-1\", \"quantity\": 2}, {\"sku\": \"S-2\", \"quantity\": 1}]}")
fba=$(place "{\"ago\": $((19 * days)), \"status\": \"SHIPPED\", \"fulfilled_by\": \"AMAZON\", \"items\": [{\"sku\": \"S-3\", \"quantity\": 5}]}")
gone=$(place "{\"ago\": $((18 * days)), \"items\": [{\"sku\": \"S-4\", \"quantity\": 3}]}")
control POST "orders/$gone/cancel" '{}' >/dev/null
older=$(place "{\"ago\": $((50 * days)), \"status\": \"SHIPPED\", \"items\": [{\"sku\": \"S-5\", \"quantity\": 1}]}")
now=$(place '{"items": [{"sku": "S-6", "quantity": 1}], "address": {"name": "A Buyer", "addressLine1": "Weg 1", "city": "Augsburg", "stateOrRegion": "Bayern", "postalCode": "86150", "countryCode": "DE"}}')
seller "select amzmp.preview_orders('shop', now() - interval '60 days')" >/dev/null
becomes "select state || ' ' || orders || ' ' || unknown_orders || ' ' || to_send from amzmp.order_preview" 'done 5 5 1' 'a preview counts what switching on would pull'
is "$(sql 'select count(*) from amzmp.orders')" 0 'and imports nothing'

# ---- in the shop's own words

poll
becomes "select string_agg(amazon_order_id, ' ') from shop.sale" "$now" 'only what was ordered since order_start comes in'
is "$(sql "select number || '|' || store || '|' || customer || '|' || carrier || '|' || method || '|' || region || '|' || city || '|' || lines from shop.sale")" \
	"AMZ$(echo "$now" | sed -E 's/(.*)-(.*)-(.*)/\1\3\2/')|north|fixed amazon@shop|DHL|Parcel|DE-BY|Augsburg|1" 'an order is in the shop'"'"'s own words'
is "$(sql "select tax > 0 from shop.sale")" t 'with its tax'
place '{"items": [{"sku": "S-6", "quantity": 1}], "address": {"name": "B Buyer", "addressLine1": "Weg 2", "city": "Berlin", "stateOrRegion": "Berlin", "postalCode": "10115", "countryCode": "DE"}}' >/dev/null
poll
becomes "select region || '|' || (tax is null) from shop.sale where city = 'Berlin'" '|true' 'a region that is not mapped is the default one; where a rule says so no tax is booked'
is "$(sql "select stock from shop.product where sku = 'S-6'")" 98 'each took its unit off the stock'

# ---- old orders by a report

control POST settings '{"report_error": 1}' >/dev/null
report()
{
	sql_becomes 40 "select count(*) from amzmp.report where ended_at is null" 0 || true
	seller "select amzmp.backfill_orders('shop', now() - interval '$1 days', now() - interval '$2 days')" >/dev/null
}
report 25 10
wait_for 20 test_arrived createReport 1 || true
sender_end KILL
becomes "select string_agg(state || ' ' || rows, ', ') from amzmp.report where type like '%ORDER_DATE%'" 'downloaded 4' 'a report of old orders comes, though the server fell meanwhile'
sql "delete from amzmp.report_pace" "update amzmp.report_type set spacing = '0' where name like '%ORDER_DATE%'" >/dev/null
report 55 30
becomes "select count(*) from amzmp.report where type like '%ORDER_DATE%' and state = 'downloaded'" 2 'and a second one, of earlier days'
is "$(sql "select string_agg(distinct amazon_order_id, ' ' order by amazon_order_id) = (select string_agg(i, ' ' order by i) from unnest('{$old,$fba,$gone,$older}'::text[]) i)
	from amzmp.order_difference where difference = 'not imported'")" t 'both tell what is not imported'
is "$(sql "select string_agg(reported, ' ' order by sku) from amzmp.order_difference where amazon_order_id = '$old'")" '3 2' 'with figures that are wrong'
is "$(sql "select (select count(*) from amzmp.orders), (select coalesce(sum(stock), 0) from shop.product), (select count(*) from amzmp.movement)")" '2|898|2' \
	'which make no order and move no stock'
is "$(seller "select amzmp.confirm_orders('shop')")" 4 'the orders themselves are asked for'
becomes "select count(*) from amzmp.orders where import_state = 'delivered'" 5 'and come in, all but the cancelled one to the shop'
becomes "select string_agg(sku || '=' || stock, ' ' order by sku) from shop.product where stock <> 100" 'S-1=98 S-2=99 S-5=99 S-6=98' \
	'they move what the interface says: nothing for Amazon'"'"'s own warehouse and what was cancelled'
is "$(sql "select string_agg(difference || ' ' || reported || ' ' || imported, ', ' order by sku) from amzmp.order_difference where amazon_order_id = '$old'")" \
	'quantity 3 2, quantity 2 1' 'where the report was wrong stays to be seen'
is "$(sql "select count(*) from amzmp.order_difference where amazon_order_id in ('$fba', '$gone')")" 0 'and only there'
control POST settings '{"report_error": 0}' >/dev/null
report 25 10
becomes "select count(*) from amzmp.report where type like '%ORDER_DATE%' and state = 'downloaded'" 3 'once more'
is "$(sql "select count(*) from amzmp.order_difference where amazon_order_id <> '$older'")" 0 'the newest report of an order counts'
is "$(seller "select amzmp.confirm_orders('shop')")" 1 'confirming again'
sql "call amzmp.wait('60 s')" >/dev/null
is "$(sql "select sum(stock) from shop.product")" 894 'moves nothing twice'
is "$(sql "select count(*), count(distinct amazon_order_id) from shop.sale")" '5|5' 'and hands nothing over twice'

# ---- a role that is missing

control POST applications '{"client_id": "amzn1.application-oa2-client.demo", "client_secret": "amzn1.oa2-cs.v1.demo", "personal": false}' >/dev/null
place '{"count": 3, "items": [{"sku": "S-7", "quantity": 1}]}' >/dev/null
poll
becomes "select count(*) from shop.sale where street is null" 3 'without the role orders come in all the same'
is "$(sql "select stock from shop.product where sku = 'S-7'")" 97 'with all that they do'
is "$(sql "select missing || ' ' || without_address from amzmp.address_gap")" 'role 3' 'that the role is missing is told from data that are missing'
like "$(sql "select state || ': ' || detail || ' ' || remedy from amzmp.health() where check_name = 'addresses shop'")" '^warning: 3 open orders have no address.*Direct-to-Consumer' \
	'health() says so, with the remedy'
control POST applications '{"client_id": "amzn1.application-oa2-client.demo", "client_secret": "amzn1.oa2-cs.v1.demo", "personal": true}' >/dev/null
seller "select amzmp.fetch_order('shop', unnest(amazon_order_ids)) from amzmp.address_gap" >/dev/null
becomes "select missing from amzmp.address_gap" none 'with the role the addresses come'
is "$(sql "select count(*) from amzmp.health() where check_name = 'addresses shop'")" 0 'and all is well'
is "$(seller "select count(*) from amzmp.buyer('shop', array(select amazon_order_id from shop.sale where street is null)) where address_line1 <> ''")" 3 'for the shop to read'
is "$(sql "select count(*) from shop.sale")" 8 'nothing was handed over twice'

is "$(control GET violations | grep -o '"count": *[0-9]*' | grep -o '[0-9]*')" 0 'nothing that Amazon would not take was sent'
finish
