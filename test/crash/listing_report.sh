#!/usr/bin/env bash
# Is it really at Amazon? Somebody changes prices and stock there by hand, takes an offer away and makes another; Amazon's
# report of all listings tells, what contradicts it is read, and the shop's values come back. Killed while it is applied, it
# is applied once.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# Amazon's minutes are seconds, there and here.
simulator_start a --rate-scale 0 --time-scale 60 --verdict-delay 20
cluster_start a
sql 'create role shop login' 'create schema shop authorization shop'
shop_connect
sql 'grant amzmp_admin to shop' "update amzmp.account set time_scale = 60" "select amzmp.set('shop', 'report_age', '0')" \
	"update amzmp.report_type set spacing = '0'" >/dev/null
export PGUSER=shop
sql "create table shop.product (sku text primary key, ean text, price numeric(12,2), stock integer)" \
	"insert into shop.product select 'S' || lpad(i::text, 3, '0'), d || (10 - sum(substr(d, k, 1)::integer * (1 + 2 * ((k + 1) % 2))) % 10) % 10, 20, 5
	   from generate_series(1, 12) i, cast((401234500000 + i)::text as text) d, generate_series(1, 12) k group by i, d" \
	"select amzmp.attach_source('shop', 'shop.product', ean => 'ean')" >/dev/null
sql "call amzmp.wait('60 s')" "select amzmp.publish('DE', array(select sku from shop.product where sku <= 'S010'))" >/dev/null
sql_becomes 60 "select count(*) from amzmp.listing where state = 'live'" 10 || true
is "$(sql "select count(*) from amzmp.listing where state = 'live'")" 10 'all offers are live'

# reconciled: ask for the report and wait until it was applied and what contradicts it was read
reconciled()
{
	PGUSER=postgres sql "delete from amzmp.report_pace" "update amzmp.report set submitted_at = submitted_at - interval '2 days'" >/dev/null
	id=$(sql "select amzmp.reconcile('DE')")
	sql_becomes 40 "select ended_at is not null from amzmp.report where report_id = $id" t || true
	sql_becomes 20 "select count(*) from amzmp.request where operation = 'searchListingsItems'" 0 || true
	is "$(sql "select state from amzmp.report where report_id = $id")" "${1:-applied}" "${2:-the report is applied}"
}
sleep 18 # until what was published is older than Amazon's verdicts
reconciled
like "$(sql "select reason from amzmp.report where report_id = $id")" '^10 listings: 10 new, 0 changed, 0 vanished; 0 contradict' 'all is as we expect'
is "$(sql "select count(*) from amzmp.remote_listing where status = 'active' and price = 20 and quantity = 5")" 10 'as far as Amazon tells'

# ---- somebody else's hands

control POST listings '{"sku": "S001", "price": 33, "marketplace": "A1PA6795UKMFR9"}' >/dev/null
control POST listings '{"sku": "S002", "quantity": 50}' >/dev/null
eans=$(sql "select ean from shop.product where sku = 'S011'")
sql "select amzmp.enqueue('shop', 'deleteListingsItem', '{\"sellerId\": \"A1DEMOSELLER\", \"sku\": \"S003\", \"marketplaceIds\": [\"A1PA6795UKMFR9\"]}')" \
	"select amzmp.enqueue('shop', 'putListingsItem', jsonb_build_object('sellerId', 'A1DEMOSELLER', 'sku', sku,
	       'marketplaceIds', jsonb_build_array('A1PA6795UKMFR9')), jsonb_build_object('productType', 'PRODUCT', 'requirements', 'LISTING_OFFER_ONLY', 'attributes', jsonb_build_object(
	         'condition_type', '[{\"value\": \"new_new\", \"marketplace_id\": \"A1PA6795UKMFR9\"}]'::jsonb,
	         'externally_assigned_product_identifier', jsonb_build_array(jsonb_build_object('type', 'ean', 'value', '$eans', 'marketplace_id', 'A1PA6795UKMFR9')),
	         'purchasable_offer', '[{\"marketplace_id\": \"A1PA6795UKMFR9\", \"currency\": \"EUR\", \"our_price\": [{\"schedule\": [{\"value_with_tax\": 9.99}]}]}]'::jsonb,
	         'fulfillment_availability', '[{\"fulfillment_channel_code\": \"DEFAULT\", \"quantity\": 7}]'::jsonb)))
	   from (values ('S011'), ('FOREIGN')) as v (sku)" >/dev/null
sleep 2
reconciled
like "$(sql "select reason from amzmp.report where report_id = $id")" '2 new, .* changed, 1 vanished; 3 contradict' 'what was changed by hand is found'
is "$(sql "select state from amzmp.listing where sku = 'S003'")" gone 'what is gone is gone after it was looked for'
ok "$(sql_becomes 30 "select count(*) from amzmp.listing where state = 'live' and remote_price = 20" 9 && echo 0 || echo 1)" 'prices are as the shop wants them'
there()
{
	control GET "listings?sku=$1" | grep -q "\"amount\": *\"$2\""
}
ok "$(wait_for 20 there S001 20.00 && echo 0 || echo 1)" 'at Amazon too'
is "$(sql "select string_agg(sku, ' ' order by sku) from amzmp.unmanaged_listing")" 'FOREIGN S011' 'what was made elsewhere is told'
is "$(sql "select amzmp.adopt('DE')")" 1 'and taken into management'
ok "$(sql_becomes 30 "select state from amzmp.listing where sku = 'S011'" live && echo 0 || echo 1)" 'as it is'
ok "$(sql_becomes 30 "select remote_price from amzmp.listing where sku = 'S011'" 20.00 && echo 0 || echo 1)" 'then with the shop'\''s price'
is "$(sql "select amzmp.adopt('DE', by => 'ean')")" 0 'one whose product is sold already is not linked by chance'

# ---- killed

PGUSER=postgres hold "select from amzmp.remote_listing where sku = 'S001' for update"
control POST listings '{"sku": "S001", "price": 34, "marketplace": "A1PA6795UKMFR9"}' >/dev/null
PGUSER=postgres sql "delete from amzmp.report_pace" "update amzmp.report set submitted_at = submitted_at - interval '2 days'" >/dev/null
id=$(sql "select amzmp.reconcile('DE')")
ok "$(PGUSER=postgres sql_becomes 30 "select count(*) from pg_stat_activity where backend_type = 'amzmp runner' and wait_event_type = 'Lock'" 1 && echo 0 || echo 1)" 'while it is applied'
PGUSER=postgres sender_end KILL
ok "$(sql_becomes 40 "select state from amzmp.report where report_id = $id" applied && echo 0 || echo 1)" 'it is applied after all'
is "$(sql "select price from amzmp.remote_listing where report_id = $id and sku = 'S001'")" 34.00 'with what it had to say'

# ---- a report that is not believed

PGUSER=postgres sql "select amzmp.set('shop', 'vanish_minimum', '2')" >/dev/null
sql "select amzmp.enqueue('shop', 'deleteListingsItem', jsonb_build_object('sellerId', 'A1DEMOSELLER', 'sku', sku, 'marketplaceIds', '[\"A1PA6795UKMFR9\"]'::jsonb))
	from shop.product where sku between 'S005' and 'S009'" >/dev/null
sleep 2
reconciled refused 'a report in which much is missing is refused'
is "$(sql "select count(*) from amzmp.listing where state = 'gone'")" 1 'and nothing is taken for gone'
finish
