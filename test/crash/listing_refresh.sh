#!/usr/bin/env bash
# Reading all that the seller has in a channel, page by page, without a report: what is made elsewhere shows, what somebody
# changed is seen, whatever is lost on the way and though the sender is killed; and instead of a report that Amazon forbids.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# Amazon's minutes are seconds, there and here.
simulator_start a --rate-scale 0 --time-scale 60 --verdict-delay 20
cluster_start a
shop_connect
sell KEPT MOVED
sql "update amzmp.account set time_scale = 60" "select amzmp.set('shop', 'report_reuse', '0')" >/dev/null

# Made elsewhere: put by calls of our own, so that nothing else is tested with it.
mapfile -t asins < <(control GET 'catalog/eans?count=1&outcome=single' | grep -o '"asin[s]*": *\[*"[A-Z0-9]*"' | grep -o 'B0[A-Z0-9]*')
sql "select amzmp.enqueue('shop', 'putListingsItem', jsonb_build_object('sellerId', 'A1DEMOSELLER', 'sku', 'OTHER-' || i,
	       'marketplaceIds', jsonb_build_array('A1PA6795UKMFR9')), '{\"productType\": \"PRODUCT\", \"requirements\": \"LISTING_OFFER_ONLY\", \"attributes\": {
	         \"condition_type\": [{\"value\": \"new_new\", \"marketplace_id\": \"A1PA6795UKMFR9\"}],
	         \"merchant_suggested_asin\": [{\"value\": \"${asins[0]}\", \"marketplace_id\": \"A1PA6795UKMFR9\"}],
	         \"purchasable_offer\": [{\"marketplace_id\": \"A1PA6795UKMFR9\", \"currency\": \"EUR\", \"our_price\": [{\"schedule\": [{\"value_with_tax\": 9.99}]}]}],
	         \"fulfillment_availability\": [{\"fulfillment_channel_code\": \"DEFAULT\", \"quantity\": 7}]}}')
	   from generate_series(1, 65) as i" "call amzmp.wait('60 s')" >/dev/null
sleep 1

# refreshed NAME: the reading has come to its end
refreshed()
{
	ok "$(sql_becomes 60 'select ended_at is not null from amzmp.listing_refresh' t && echo 0 || echo 1)" "$1"
	is "$(sql 'select problem from amzmp.listing_refresh')" '' 'without a problem'
}

# ---- all, though pages are lost and the sender is killed

control POST listings '{"sku": "MOVED", "price": 12.5, "marketplace": "DE"}' >/dev/null
control POST faults '{"operation": "searchListingsItems", "kind": "drop_after"}' >/dev/null
control POST faults '{"operation": "searchListingsItems", "kind": "status", "status": 503}' >/dev/null
control POST faults '{"operation": "searchListingsItems", "kind": "delay", "delay_ms": 1500, "count": 2}' >/dev/null
sql "select amzmp.refresh('DE')" >/dev/null
sql_becomes 30 "select count(*) from amzmp.request where subject_kind = 'refresh' and state = 'sending'" 1 || diag 'no page was seen on its way'
sender_end KILL
refreshed 'all is read'
is "$(sql "select count(*) from amzmp.unmanaged_listing where sku like 'OTHER-%' and price = 9.99 and quantity = 7")" 65 'what was made elsewhere shows'
ok "$(sql 'select case when pages >= 4 then 0 else 1 end from amzmp.listing_refresh')" 'on pages'
is "$(sql "select observed_price from amzmp.listing where sku = 'MOVED'")" 12.50 'what somebody changed is seen'

# ---- what changed since

since=$(sql 'select reached from amzmp.listing_refresh')
control POST listings '{"sku": "OTHER-7", "price": 8.5, "marketplace": "DE"}' >/dev/null
sql "select amzmp.refresh('DE', changed_since => '$since'::timestamptz + interval '1 millisecond')" >/dev/null
refreshed 'what changed is read'
is "$(sql "select price from amzmp.remote_listing where sku = 'OTHER-7'")" 8.50 'as it is now'
is "$(sql 'select pages from amzmp.listing_refresh')" 1 'and not the rest'

# ---- a report that Amazon forbids

control POST faults '{"operation": "createReport", "kind": "status", "status": 403}' >/dev/null
control POST listings '{"sku": "OTHER-8", "price": 8.25, "marketplace": "DE"}' >/dev/null
sql "select amzmp.reconcile('DE')" >/dev/null
ok "$(sql_becomes 30 "select price from amzmp.remote_listing where sku = 'OTHER-8'" 8.25 && echo 0 || echo 1)" 'without the report listings are read page by page'
refreshed 'all of them'
is "$(control GET violations | tr -d ' ' | grep -o '"count":[0-9]*')" '"count":0' 'Amazon was asked nothing that it does not allow'
finish
