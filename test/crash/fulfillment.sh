#!/usr/bin/env bash
# Who ships, by the running system: an offer begins in Amazon's warehouses, sells out there, goes over to the shop's own
# stock and back, while answers are lost; somebody turns it round in Seller Central; and at the end it is taken off sale.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

simulator_start a --rate-scale 0 --time-scale 60 --verdict-delay 60
cluster_start a
sql 'create extension pg_cron' 'create role shop login' 'create schema shop authorization shop'
shop_connect
sql 'grant amzmp_admin to shop' "update amzmp.account set time_scale = 60" "select amzmp.disable('get_amazon_stock', account => 'shop')" >/dev/null
export PGUSER=shop
asin=$(control GET 'catalog/eans?count=1&outcome=single' | grep -o '"asins": *\["[^"]*' | grep -o '[^"]*$')
sql "create table shop.product (sku text primary key, asin text, price numeric(12,2), stock integer)" \
	"insert into shop.product values ('LAMP', '$asin', 20, 7)" \
	"select amzmp.attach_source('shop', 'shop.product', asin => 'asin')" \
	"select amzmp.set_rule('shop', '{\"fulfillment\": \"amazon\"}')" >/dev/null
sql "call amzmp.wait('60 s')" "select amzmp.publish('DE', '{LAMP}')" >/dev/null

# What the simulator has of the SKU, without spaces.
lamp()
{
	control GET 'listings?sku=LAMP' | tr -d ' \n'
}

shows()
{
	[[ $(lamp) == *"$1"* ]]
}

# amazon_has UNITS: somebody counts in Amazon's warehouse, and we look twice
amazon_has()
{
	control POST listings "{\"sku\": \"LAMP\", \"fba_quantity\": $1}" >/dev/null
	for _ in 1 2; do
		sql "select amzmp.run_flow('get_amazon_stock', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
	done
}

ok "$(wait_for 30 shows '"fba":true' && echo 0 || echo 1)" 'the offer is made in Amazon'"'"'s warehouses'
unlike "$(lamp)" '"fulfillment_channel_code":"DEFAULT"' 'and nowhere else'
amazon_has 12
ok "$(sql_becomes 30 "select state || ' ' || fulfillment from amzmp.listing" 'live amazon' && echo 0 || echo 1)" 'where it is live' ||
	diag "$(sql "select state, state_reason, fulfillment from amzmp.listing")"
is "$(sql "select observed_quantity from amzmp.inventory where fulfillment_channel = 'AMAZON_EU'")" 12 'with the stock that lies there'

sql "select amzmp.set_rule('shop', '{\"fulfillment\": \"switch\"}')" "call amzmp.wait('60 s')" >/dev/null
control POST faults '{"operation": "patchListingsItem", "kind": "drop_after"}' >/dev/null
amazon_has 0
ok "$(wait_for 30 shows '"quantity":7' && echo 0 || echo 1)" 'sold out there, the shop ships'
ok "$(wait_for 30 shows '"fba":false' && echo 0 || echo 1)" 'alone'
ok "$(sql_becomes 30 "select wanted || ' ' || remote from amzmp.fulfillment" 'merchant merchant' && echo 0 || echo 1)" 'and we know it'
amazon_has 3
is "$(sql "select wanted from amzmp.fulfillment")" merchant 'three units do not lead back'
amazon_has 30
ok "$(wait_for 30 shows '"fba":true' && echo 0 || echo 1)" 'thirty do'
ok "$(sql_becomes 30 "select wanted || ' ' || remote from amzmp.fulfillment" 'amazon amazon' && echo 0 || echo 1)" 'which we know as well'

sql "select amzmp.unpublish('DE', '{LAMP}')" >/dev/null
ok "$(wait_for 30 shows '"status":["DISCOVERABLE"]' && echo 0 || echo 1)" 'unpublished, nobody can buy it'
like "$(lamp)" '"fba_quantity":30' 'though its stock is still there'
sql "select amzmp.publish('DE', '{LAMP}')" >/dev/null
ok "$(wait_for 30 shows BUYABLE && echo 0 || echo 1)" 'published again, it is for sale'
is "$(control GET violations | tr -d ' \n' | grep -o '"count":[0-9]*')" '"count":0' 'Amazon was asked nothing that it does not allow'
finish
