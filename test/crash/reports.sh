#!/usr/bin/env bash
# Reports against the simulator, whole and with faults: what is downloaded in Amazon's encodings, creations whose answers
# are lost, downloads that break, and processes that are killed at each step.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# Amazon's minutes are seconds, there and here.
simulator_start a --rate-scale 0 --time-scale 60 --verdict-delay 20
cluster_start a
shop_connect
sql "update amzmp.account set time_scale = 60" >/dev/null

# report TYPE: its number
report()
{
	sql "select amzmp.request_report('DE', '$1')"
}

# ends NUMBER STATE NAME
ends()
{
	sql_becomes 40 "select ended_at is not null from amzmp.report where report_id = $1" t || true
	is "$(sql "select state from amzmp.report where report_id = $1")" "$2" "$3"
}

# What the seller has there: put by calls of our own, so that nothing else is tested with it.
put()
{
	sql "select amzmp.enqueue('shop', 'putListingsItem', jsonb_build_object('sellerId', 'A1DEMOSELLER', 'sku', '$1',
	       'marketplaceIds', jsonb_build_array('A1PA6795UKMFR9')), '{\"productType\": \"PRODUCT\", \"requirements\": \"LISTING_OFFER_ONLY\", \"attributes\": {
	         \"condition_type\": [{\"value\": \"new_new\", \"marketplace_id\": \"A1PA6795UKMFR9\"}],
	         \"merchant_suggested_asin\": [{\"value\": \"$2\", \"marketplace_id\": \"A1PA6795UKMFR9\"}],
	         \"purchasable_offer\": [{\"marketplace_id\": \"A1PA6795UKMFR9\", \"currency\": \"EUR\", \"our_price\": [{\"schedule\": [{\"value_with_tax\": 9.99}]}]}],
	         \"fulfillment_availability\": [{\"fulfillment_channel_code\": \"DEFAULT\", \"quantity\": 7}]}}')" >/dev/null
}
asins=$(control GET 'catalog/eans?count=3&outcome=single' | grep -o '"asin[s]*": *\[*"[A-Z0-9]*"' | grep -o 'B0[A-Z0-9]*')
i=0
for asin in $asins; do
	i=$((i + 1))
	put "REPORT-$i" "$asin"
done
sql "call amzmp.wait('30 s')" >/dev/null
sleep 1

# ---- as it should be

id=$(report GET_MERCHANT_LISTINGS_ALL_DATA)
ends "$id" applied 'a report arrives'
is "$(sql "select rows from amzmp.report where report_id = $id")" "$i" 'whole'
is "$(sql "select string_agg(cells ->> 'seller-sku' || ' ' || (cells ->> 'price') || ' ' || (cells ->> 'quantity'), ', ' order by 1) from amzmp.report_rows('shop', $id)")" \
	'REPORT-1 9.99 7, REPORT-2 9.99 7, REPORT-3 9.99 7' 'its rows can be read'
is "$(arrived getReportDocument)" 1 'its document was fetched once'
like "$(sql "select content_type from amzmp.document")" '^text/plain; *charset=Cp1252$' 'with the character set that Amazon told'
id=$(report GET_RESERVED_INVENTORY_DATA)
ends "$id" cancelled 'one without rows is cancelled'

# From here on each report may follow the last.
sql "update amzmp.report_type set spacing = '0'" >/dev/null
again()
{
	sql "delete from amzmp.report_pace" "update amzmp.report set submitted_at = submitted_at - interval '2 days'" >/dev/null
}

# ---- made elsewhere

elsewhere=GET_MERCHANT_LISTINGS_DATA
sql "select amzmp.enqueue('shop', 'createReport', '{}', '{\"reportType\": \"$elsewhere\", \"marketplaceIds\": [\"A1PA6795UKMFR9\"]}')" >/dev/null
sql "call amzmp.wait('30 s')" >/dev/null
before=$(arrived createReport)
id=$(report $elsewhere)
ends "$id" downloaded 'a report that was made elsewhere'
is "$(sql "select found from amzmp.report where report_id = $id") $(($(arrived createReport) - before))" 't 0' 'is not asked for again'
is "$(sql "select rows from amzmp.report where report_id = $id")" "$i" 'and is whole'

# ---- answers that are lost

again
control POST faults '{"operation": "createReport", "kind": "drop_after"}' >/dev/null
before=$(arrived createReport)
id=$(report GET_MERCHANT_LISTINGS_ALL_DATA)
ends "$id" applied 'one whose request was not answered arrives'
is "$(($(arrived createReport) - before))" 1 'and was not requested twice'
again
control POST faults '{"operation": "createReport", "kind": "drop_before"}' >/dev/null
id=$(report GET_MERCHANT_LISTINGS_ALL_DATA)
ends "$id" applied 'one whose request got lost is requested again'
again
control POST faults '{"operation": "getReport", "kind": "status", "status": 404, "count": 2}' >/dev/null
id=$(report GET_MERCHANT_LISTINGS_ALL_DATA)
ends "$id" applied 'that it is not found at first means nothing'

# ---- downloads that break

for kind in drop_before drop_after truncate; do
	again
	control POST faults "{\"path\": \"/_documents/\", \"kind\": \"$kind\"}" >/dev/null
	id=$(report GET_MERCHANT_LISTINGS_ALL_DATA)
	ends "$id" applied "a download with $kind is made again"
	is "$(sql "select rows from amzmp.report where report_id = $id")" "$i" 'and is whole'
done
is "$(sql "select count(*) from amzmp.document where document_id not in (select document_id from amzmp.report where document_id is not null)")" 0 \
	'of what broke nothing is left'

# ---- documents as Amazon sends them

# comes_as JSON STATE NAME: a report that comes to that
comes_as()
{
	control POST reports "{\"type\": \"GET_RESERVED_INVENTORY_DATA\", $1}" >/dev/null
	again
	id=$(report GET_RESERVED_INVENTORY_DATA)
	ends "$id" "$2" "$3"
}
cells()
{
	sql "select string_agg(cells::text, ' ' order by place) from amzmp.report_rows('shop', $id)"
}
comes_as '"status": "DONE", "content": "sku\treserved_qty\nGröße\t5\n", "charset": "WINDOWS-1252", "content_type": "text/plain;charset=Cp1252"' downloaded 'Windows-1252'
is "$(cells)" '{"sku": "Größe", "reserved_qty": "5"}' 'is read'
comes_as '"status": "DONE", "content": "sku\t数量\nあ～①\t5\n", "charset": "CP932", "content_type": "text/plain; charset=Windows-31J"' downloaded 'Windows-31J'
is "$(cells)" '{"sku": "あ～①", "quantity": "5"}' 'too'
comes_as '"status": "DONE", "content": "sku\tproduct-name\nA\tGröße\n", "charset": "WINDOWS-1252", "content_type": "text/plain;charset=UTF-8"' downloaded 'a wrong character set'
is "$(cells)" '{"sku": "A", "product-name": "Größe"}' 'costs no character'
comes_as '"status": "DONE", "content": "[{\"sku\": \"Größe\"}]", "content_type": "application/json"' downloaded 'JSON'
is "$(cells)" '{"sku": "Größe"}' 'too'
comes_as '"status": "DONE", "content": "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><r><i><sku>Größe</sku></i></r>", "charset": "ISO-8859-1", "content_type": "text/xml"' downloaded 'XML'
is "$(cells)" '{"sku": "Größe"}' 'in the character set that it names'
comes_as '"status": "FATAL", "content": "The range is too old."' fatal 'a fatal one'
is "$(sql "select convert_from(amzmp.report_document('shop', $id), 'UTF8')")" 'The range is too old.' 'says why'
comes_as '"status": "CANCELLED"' cancelled 'a cancelled one'
comes_as '"status": "DONE", "cut": true, "content": "sku\tproduct-name\nA\tB\n"' failed 'one that is never whole'
like "$(sql "select reason from amzmp.report where report_id = $id")" 'could not be fetched: document .* is not whole' 'says so'

# ---- buyers' data

control POST reports '{"type": "GET_FLAT_FILE_ACTIONABLE_ORDER_DATA_SHIPPING", "status": "DONE", "content": "order-id\tbuyer-name\n1\tJane Roe\n"}' >/dev/null
id=$(report GET_FLAT_FILE_ACTIONABLE_ORDER_DATA_SHIPPING)
ends "$id" downloaded 'a report with buyers'\'' data'
is "$(cells)" '{"order-id": "1", "buyer-name": "Jane Roe"}' 'is read by who may'
is "$(arrived createRestrictedDataToken)" 1 'with a token for it alone'
is "$(sql "select count(*) from amzmp.document_chunk c join amzmp.report r using (document_id) where r.report_id = $id and c.content is not null")" 0 'and lies sealed'
is "$(sql "select count(*) from amzmp.report_token")" 0 'the token is gone'
is "$(control GET 'requests?operation=getReportDocument' | grep -c restrictedDataToken)" 0 'and was in no address'

# ---- killed at each step

step()
{
	again
	control POST settings "{\"verdict_delay\": ${3:-20}}" >/dev/null
	[ -z "${4:-}" ] || control POST faults "$4" >/dev/null
	id=$(report GET_MERCHANT_LISTINGS_ALL_DATA)
	sql_becomes 20 "$1" t || diag "the step was not seen: $2"
	sender_end KILL
	ends "$id" applied "killed $2, it arrives"
	is "$(sql "select rows from amzmp.report where report_id = $id")" "$i" 'whole'
}
latest="from amzmp.report where report_id = (select max(report_id) from amzmp.report)"
before=$(arrived createReport)
step "select state = 'sending' from amzmp.request where operation = 'createReport'" 'while it is requested' 20 \
	'{"operation": "createReport", "kind": "delay", "delay_ms": 2000, "after": true}'
is "$(($(arrived createReport) - before))" 1 'it was not requested twice'
before=$(arrived createReport)
step "select state = 'in_queue' $latest" 'while it is queued' 120
step "select state = 'in_progress' $latest" 'while Amazon is at it' 120
step "select exists (select from amzmp.transfer)" 'while it is downloaded' 20 '{"path": "/_documents/", "kind": "delay", "delay_ms": 2000}'
is "$(($(arrived createReport) - before))" 3 'each was requested once'
is "$(control GET violations | tr -d ' ' | grep -o '"count":[0-9]*')" '"count":0' 'Amazon was asked nothing that it does not allow'
finish
