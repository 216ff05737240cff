#!/usr/bin/env bash
# Definitions of product types in the running system: a shop's first product of a type waits for the definition, which is
# fetched although answers are lost, documents arrive damaged and the server is killed; what the definition refuses is not
# sent; what it asks for in another form is sent in that form; and a new version is found by the flow.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

simulator_start a --rate-scale 0 --time-scale 60 --verdict-delay 60
cluster_start a
sql 'create extension pg_cron' 'create role shop login' 'create schema shop authorization shop'
shop_connect
sql 'grant amzmp_admin to shop' "update amzmp.account set time_scale = 60" >/dev/null
export PGUSER=shop

mapfile -t eans < <(control GET 'catalog/eans?count=2&outcome=none' | grep -o '"ean": *"[0-9]*"' | grep -o '[0-9][0-9]*')
sql "create table shop.lamp (sku text primary key, ean text, price numeric(12,2), stock integer, title text, power text, watts numeric, room text)" \
	"insert into shop.lamp values ('READER', '${eans[0]}', 40, 5, 'Reading lamp', 'corded', 9.5, 'Study'),
	   ('GLOW', '${eans[1]}', 20, 6, 'Night lamp', 'mains', 900, null)" >/dev/null

# ---- fetched, whatever is lost on the way

control POST faults '{"operation": "getDefinitionsProductType", "kind": "drop_after", "count": 1}' >/dev/null
control POST faults '{"operation": "getDefinitionsProductType", "kind": "status", "status": 503, "count": 1}' >/dev/null
control POST faults '{"operation": "downloadDocument", "kind": "delay", "delay_ms": 3000, "count": 1}' >/dev/null
sql "select amzmp.attach_source('shop', 'shop.lamp', ean => 'ean', title => 'title')" \
	"select amzmp.attach_value('shop', 'attributes', 'jsonb_build_object(''item_name'', title, ''brand'', ''Nordlicht'', ''power_source'', power, ''room_note'', room,
	   ''style'', ''modern'', ''light_wattage'', jsonb_build_object(''value'', watts, ''unit'', ''watts''))')" \
	"select amzmp.attach_value('shop', 'product_type', '''TABLE_LAMP''')" "select amzmp.set('DE', 'send_content', 'true')" \
	"select amzmp.set_rule('shop', '{\"send\": [\"price\", \"stock\", \"details\", \"content\"]}')" >/dev/null
sql_becomes 30 "select count(*) from amzmp.product where extra ? 'product_type'" 2 || true
sql "select amzmp.publish('DE', '{READER,GLOW}')" >/dev/null
ok "$(sql_becomes 30 "select count(*) from amzmp.listing_status where reason = 'waits for Amazon''s definition of product type TABLE_LAMP'" 2 && echo 0 || echo 1)" \
	'the first of a type wait for its definition' || diag "$(sql "select sku, state, state_reason from amzmp.listing")"
PGUSER=postgres sql_becomes 30 "select state from amzmp.product_type" loading || true
PGUSER=postgres sender_end KILL
ok "$(sql_becomes 60 "select state from amzmp.product_type where product_type = 'TABLE_LAMP'" known && echo 0 || echo 1)" 'it arrives' ||
	diag "$(sql "select state, reason from amzmp.product_type")"

# ---- what it means

ok "$(sql_becomes 60 "select state || coalesce(step, '') from amzmp.listing where sku = 'READER'" live && echo 0 || echo 1)" 'what it allows is created' ||
	diag "$(sql "select sku, state, step, state_reason from amzmp.listing")"
is "$(sql "select state || ': ' || reason from amzmp.listing_status where sku = 'GLOW'")" \
	"rejected: light_wattage.value 900 is more than 250; power_source.value 'mains' is not allowed; allowed are 'corded', 'battery', 'solar'" \
	'what it refuses is not'
is "$(control GET 'requests?operation=putListingsItem&limit=500' | grep -c 'items/A1DEMOSELLER/GLOW')" 0 'Amazon never saw it'
reader=$(control GET 'listings?sku=READER' | tr -d ' \n')
like "$reader" '"room_note":.."value":"Study","language_tag":"de_DE"' 'a text in a language carries it, because the definition says so'
like "$reader" '"style":.."value":"modern","marketplace_id"' 'and one in none does not'
sql "update shop.lamp set power = 'solar', watts = 5 where sku = 'GLOW'" >/dev/null
ok "$(sql_becomes 60 "select state from amzmp.listing where sku = 'GLOW'" live && echo 0 || echo 1)" 'mended in the shop it is created at once' ||
	diag "$(sql "select sku, state, step, state_reason from amzmp.listing")"

# ---- checked beforehand

is "$(sql "select check_name || ' ' || state from amzmp.validate('DE', 'GLOW')" | grep -v ' ok$')" 'definition skipped' 'nothing is wrong with it any more; what offers need has not been asked for yet'
sql "insert into shop.lamp values ('TORCH', '$(control GET 'catalog/eans?count=3&outcome=none' | grep -o '"ean": *"[0-9]*"' | grep -o '[0-9][0-9]*' | tail -n 1)', 15, 3, 'Torch lamp', 'battery', 3, null)" >/dev/null
sql_becomes 30 "select count(*) from amzmp.product where sku = 'TORCH'" 1 || true
is "$(sql "select detail from amzmp.validate('DE', 'TORCH') where state = 'error' and check_name = 'preview'" | tail -n 1)" \
	"'number_of_batteries' is required but not supplied. (90220)" 'what only Amazon knows, its preview says'
is "$(sql "select count(*) from amzmp.listing where sku = 'TORCH'")" 0 'and nothing of it stays'

# ---- a new version

control POST product_types '{"product_type": "TABLE_LAMP", "required": "bulb_base"}' >/dev/null
PGUSER=postgres sql "update amzmp.product_type set checked_at = now() - interval '8 days'" >/dev/null
sql "select amzmp.run_flow('get_product_types', account => 'shop')" >/dev/null
ok "$(sql_becomes 30 "select required from amzmp.product_type_rules('DE', 'TABLE_LAMP') where path = 'bulb_base'" t && echo 0 || echo 1)" \
	'is found when the one that is here has grown old'
sql "select amzmp.publish('DE', '{TORCH}')" >/dev/null
ok "$(sql_becomes 30 "select reason from amzmp.listing_status where sku = 'TORCH'" 'bulb_base is required' && echo 0 || echo 1)" 'and is what counts'
is "$(control GET violations | tr -d ' \n' | grep -o '"count":[0-9]*')" '"count":0' 'Amazon was asked nothing that it does not allow'
finish
