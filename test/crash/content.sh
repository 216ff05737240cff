#!/usr/bin/env bash
# Products that Amazon's catalogue does not have, created step by step by the running system: a family with two members,
# while answers are lost and the sender is killed; then content that changes, and a price that Amazon does not believe.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

simulator_start a --rate-scale 0 --time-scale 60 --verdict-delay 60
cluster_start a
sql 'create extension pg_cron' 'create role shop login' 'create schema shop authorization shop'
shop_connect
sql 'grant amzmp_admin to shop' "update amzmp.account set time_scale = 60" "select amzmp.set('shop', 'brake_minimum', '1000000')" \
	"select amzmp.set('shop', 'brake_drop', '1')" "select amzmp.set('shop', 'brake_rise', '1000000')" >/dev/null
export PGUSER=shop

# Barcodes that no catalogue item has.
mapfile -t eans < <(control GET 'catalog/eans?count=2&outcome=none' | grep -o '"ean": *"[0-9]*"' | grep -o '[0-9][0-9]*')
sql "create table shop.product (sku text primary key, ean text, price numeric(12,2), stock integer, title text, color text, family text, images text[])" \
	"insert into shop.product values ('MUGS', null, null, null, 'Mugs', null, 'MUGS', null),
	   ('MUG-RED', '${eans[0]}', 10, 5, 'Red mug', 'red', 'MUGS', '{https://shop.example/red.jpg,https://shop.example/red-2.jpg}'),
	   ('MUG-BLUE', '${eans[1]}', 11, 6, 'Blue mug', 'blue', 'MUGS', '{https://shop.example/blue.jpg}')" \
	"select amzmp.attach_source('shop', 'shop.product', ean => 'ean')" \
	"select amzmp.attach_value('shop', 'attributes', 'jsonb_strip_nulls(jsonb_build_object(''item_name'', title, ''brand'', ''Nordlicht'', ''color'', color))')" \
	"select amzmp.attach_value('shop', 'product_type', '''MUG''')" "select amzmp.attach_value('shop', 'parent_sku', 'family')" \
	"select amzmp.attach_value('shop', 'variation_theme', '''COLOR''')" "select amzmp.attach_value('shop', 'images', 'images')" \
	"select amzmp.set('DE', 'send_content', 'true')" "select amzmp.set('DE', 'send_images', 'true')" \
	"select amzmp.set_rule('shop', '{\"send\": [\"price\", \"stock\", \"details\", \"content\", \"images\"]}')" >/dev/null
sql "call amzmp.wait('60 s')" >/dev/null

# ---- created, whatever is lost on the way

control POST faults '{"operation": "putListingsItem", "kind": "drop_after", "count": 2}' >/dev/null
control POST faults '{"operation": "patchListingsItem", "kind": "drop_after", "count": 2}' >/dev/null
control POST faults '{"operation": "patchListingsItem", "kind": "status", "status": 503, "count": 2}' >/dev/null
sql "select amzmp.publish('DE', '{MUGS,MUG-RED,MUG-BLUE}')" >/dev/null
sql_becomes 30 "select count(*) > 0 from amzmp.listing where step is not null and state = 'pending'" t || true
PGUSER=postgres sender_end KILL
ok "$(sql_becomes 90 "select count(*) from amzmp.listing where state = 'live' and step is null" 3 && echo 0 || echo 1)" 'all three are live' ||
	diag "$(sql "select sku, state, step, state_reason from amzmp.listing")"
ok "$(sql_becomes 30 "select (select count(*) from amzmp.content_diff) + (select count(*) from amzmp.price_diff) + (select count(*) from amzmp.stock_diff)" 0 &&
	echo 0 || echo 1)" 'with all that the shop has'
buyable()
{
	[[ $(control GET 'listings?sku=MUG-RED') == *BUYABLE* ]]
}
ok "$(wait_for 20 buyable && echo 0 || echo 1)" 'a member can be bought'
red=$(control GET 'listings?sku=MUG-RED' | tr -d ' \n')
like "$red" 'red-2.jpg' 'it has its images'
like "$red" '"parent_sku":"MUGS"' 'its family'
like "$red" '"quantity":5' 'and its stock'
unlike "$(control GET 'listings?sku=MUGS' | tr -d ' \n')" 'purchasable_offer' 'the family has no offer'

# The order in which Amazon got the parts of each member for the first time.
control GET 'requests?operation=patchListingsItem&limit=500' >"$RUN/$CLUSTER_PREFIX.requests.json"
chmod a+r "$RUN/$CLUSTER_PREFIX.requests.json"
is "$(PGUSER=postgres sql "select string_agg(part, ' ' order by first) from (
		select part, min(r.place) as first
		  from jsonb_array_elements(pg_read_file('$RUN/$CLUSTER_PREFIX.requests.json')::jsonb -> 'requests') with ordinality as r (request, place),
			   jsonb_path_query(r.request, 'strict \$.**.path ? (@ starts with \"/attributes/\")') as p (path),
			   substring(p.path #>> '{}', 'child_parent|main_product|purchasable|fulfillment') as part
		 where r.request::text like '%MUG-BLUE%' and part is not null group by part) x")" \
	'child_parent main_product purchasable fulfillment' 'step by step'
rm -f "$RUN/$CLUSTER_PREFIX.requests.json"

# ---- content that changes

sql "update shop.product set title = 'Scarlet mug', images = '{https://shop.example/scarlet.jpg}' where sku = 'MUG-RED'" >/dev/null
ok "$(sql_becomes 30 "select count(*) from amzmp.listing_content where sku = 'MUG-RED' and remote::text like '%carlet%'" 2 && echo 0 || echo 1)" \
	'a new name and image are sent'
red=$(control GET 'listings?sku=MUG-RED' | tr -d '\n')
like "$red" 'Scarlet mug' 'and are there'
unlike "$red" 'red-2.jpg' 'and what the shop took away is gone'

# ---- a price that Amazon does not believe

sql "update shop.product set price = 70000 where sku = 'MUG-RED'" >/dev/null
sql_becomes 20 "select remote_price = 70000 from amzmp.listing where sku = 'MUG-RED'" t || true
sleep 2 # a verdict takes one
sql "select amzmp.verify('DE', '{MUG-RED}')" >/dev/null
ok "$(sql_becomes 30 "select title from amzmp.listing_status where sku = 'MUG-RED'" 'deactivated for its price' && echo 0 || echo 1)" \
	'it is deactivated'
sql "update shop.product set price = 12 where sku = 'MUG-RED'" >/dev/null
ok "$(sql_becomes 60 "select state from amzmp.listing where sku = 'MUG-RED'" live && echo 0 || echo 1)" 'until it has another'
# ---- content in doubt

sql "call amzmp.wait('30 s')" "select amzmp.enqueue('shop', 'patchListingsItem', '{\"sellerId\": \"A1DEMOSELLER\", \"sku\": \"MUG-RED\", \"marketplaceIds\": [\"A1PA6795UKMFR9\"]}',
	'{\"productType\": \"MUG\", \"patches\": [{\"op\": \"replace\", \"path\": \"/attributes/item_name\", \"value\": [
	   {\"value\": \"Foreign mug\", \"language_tag\": \"de_DE\", \"marketplace_id\": \"A1PA6795UKMFR9\"}]}]}')" >/dev/null
sql "call amzmp.wait('30 s')" >/dev/null
like "$(control GET 'listings?sku=MUG-RED' | tr -d '\n')" 'Foreign mug' 'somebody else changes a name'
before=$(arrived patchListingsItem)
PGUSER=postgres sql "update amzmp.identity set node_identity = 'the other node'" 'select amzmp.confirm_identity()' >/dev/null
ok "$(sql_becomes 60 "select count(*) from amzmp.listing_content where in_doubt or differs or in_flight_request is not null" 0 && echo 0 || echo 1)" \
	'after a change of identity content is read back'
named()
{
	[[ $(control GET 'listings?sku=MUG-RED' | tr -d '\n') == *'Scarlet mug'* ]]
}
ok "$(wait_for 20 named && echo 0 || echo 1)" 'and what differs is sent'
is "$(($(arrived patchListingsItem) - before))" 1 'nothing else'
is "$(control GET violations | tr -d ' \n' | grep -o '"count":[0-9]*')" '"count":0' 'Amazon was asked nothing that it does not allow'
finish
