#!/usr/bin/env bash
# A used database, dumped while its processes work and restored into an empty one: nothing is missing, secrets stay
# sealed, privileges are as they were, and the copy is silent until it is confirmed. Then it reads back what Amazon has:
# the original may have gone on.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# Every table of ours with its number of rows and a digest of their content. What the processes write by themselves
# between dump and comparison is left out: nothing is due then.
content()
{
	sql "select c.oid::regclass from pg_class c where relnamespace = 'amzmp'::regnamespace and relkind = 'r' order by 1" |
		while read -r table; do
			sql "select '$table ' || count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from $table t"
		done
}

sequences()
{
	sql "select schemaname || '.' || sequencename || ' ' || coalesce(last_value, 0) from pg_sequences where schemaname = 'amzmp' order by 1"
}

privileges()
{
	sql "select c.oid::regclass || ' ' || coalesce(relacl::text, '') || ' ' || relowner::regrole || ' ' || relrowsecurity from pg_class c
	      where relnamespace = 'amzmp'::regnamespace order by 1" \
		"select p.oid::regprocedure || ' ' || coalesce(proacl::text, '') || ' ' || proowner::regrole from pg_proc p
		  where pronamespace = 'amzmp'::regnamespace order by 1" \
		"select polrelid::regclass || ' ' || polname || ' ' || pg_get_expr(polqual, polrelid) from pg_policy order by 1" \
		"select tgrelid::regclass || ' ' || tgname || ' ' || tgenabled::text from pg_trigger where not tgisinternal order by 1"
}

# within DATABASE COMMAND …
within()
{
	local PGDATABASE=$1
	shift
	"$@"
}

same()
{
	local name=$1 from to
	shift
	from=$("$@")
	to=$(within "$database" "$@")
	[ "$from" = "$to" ] || diag "$(diff <(echo "$from") <(echo "$to") | head -n 20)"
	ok "$([ "$from" = "$to" ] && echo 0 || echo 1)" "$name"
}

simulator_start s --rate-scale 0
cluster_start s "cron.database_name = 'postgres'" "amzmp.databases = ''"
shop_connect
sql 'create role shopkeeper login' 'grant amzmp_admin to shopkeeper' 'create schema shop authorization shopkeeper' \
	'create role limited login' 'create role stranger login' 'grant amzmp_reader to limited' "select amzmp.limit_role('limited', array['shop'])" >/dev/null
PGUSER=shopkeeper sql 'create table shop.product (sku text primary key, ean text, price numeric, stock integer)' \
	"insert into shop.product select 'SKU-' || g, null, g, g from generate_series(1, 50) g" \
	"select amzmp.attach_source('shop', 'shop.product', ean => 'ean')" \
	"select amzmp.reduce_stock('shop', 'shop.product')" "select amzmp.set('shop', 'buffer_stock', '2')" >/dev/null
control POST orders '{"items": [{"sku": "SKU-1", "quantity": 1}], "count": 5, "ago": 600, "buyer_name": "Canary Buyer"}' >/dev/null
sql "select amzmp.run_flow('get_orders', account => 'shop')" "select amzmp.run_flow('housekeeping', account => 'shop')" >/dev/null
asin=$(control GET 'catalog/eans?count=1&outcome=single' | grep -o 'B0[A-Z0-9]*' | head -n 1)
sql "call amzmp.wait('60 s')" "select amzmp.publish('DE', sku, '$asin') from unnest('{SKU-40,SKU-41}'::text[]) sku" \
	"call amzmp.wait('60 s', 'settled')" >/dev/null
look_at one two three
sql "call amzmp.wait('60 s')"
is "$(sql 'select count(*) from amzmp.orders')" 5 'the database is a used one'
sql "select amzmp.deactivate('shop')" "call amzmp.wait('60 s')" >/dev/null
secret=$(sql "select amzmp._open(refresh_token, 'refresh_token', 'account:' || account_id) from amzmp.account")

for format in plain custom; do
	database=restored_$format
	sql "create database $database" >/dev/null
	if [ $format = plain ]; then
		pg_dump >"$RUN/$CLUSTER_PREFIX.dump"
		succeeds 'a plain dump can be restored' psql -Xq -v ON_ERROR_STOP=1 -o /dev/null -d $database -f "$RUN/$CLUSTER_PREFIX.dump"
		is "$(grep -acE 'Atzr|oa2-cs|Canary' "$RUN/$CLUSTER_PREFIX.dump")" 0 'no secret and no buyer is in it in clear'
	else
		pg_dump -Fc -f "$RUN/$CLUSTER_PREFIX.dump"
		succeeds 'so can one in the custom format' pg_restore --exit-on-error -d $database "$RUN/$CLUSTER_PREFIX.dump"
	fi
	same 'all rows are there' content
	same 'the sequences go on where they were' sequences
	same 'privileges, policies and triggers are as they were' privileges
	is "$(within $database sql "select amzmp._open(refresh_token, 'refresh_token', 'account:' || account_id) from amzmp.account")" "$secret" 'what is sealed can be opened with the key'
	wait_for 20 within $database sql_says "select state from amzmp.health() where check_name = 'processes'" ok
	is "$(within $database sql "select state from amzmp.health() where check_name = 'identity'")" warning 'the copy may not send'
	within $database fails 'nor be activated' sql "select amzmp.activate('shop')"
	control POST listings '{"sku": "SKU-40", "price": 12.5, "marketplace": "DE"}' >/dev/null
	control POST stats/reset '{}' >/dev/null
	like "$(within $database sql 'select amzmp.confirm_identity()')" '2 listings in 1 channel' 'confirming says what will be read back'
	within $database sql "select amzmp.activate('shop')" "select amzmp.activate('DE')" >/dev/null
	within $database look_at "from-$format"
	within $database sql_becomes 30 "select count(*) from amzmp.request_log where params ->> 'sku' = 'from-$format'" 1
	pass 'confirmed, it works'
	within $database sql_becomes 30 "select not exists (select from amzmp.listing where in_doubt or price_differs)" t
	within $database sql "call amzmp.wait('60 s')"
	is "$(control GET stats | grep -o '"patchListingsItem":{"requests":[0-9]*')" '"patchListingsItem":{"requests":1' 'one offer was not as it had been submitted, and only that was sent'
	within $database sql "select amzmp.deactivate('shop')" 'update shop.product set stock = stock + 5' "call amzmp.wait('30 s')" >/dev/null
	is "$(within $database sql "select count(*) from shop.product s join amzmp.product p using (sku) where p.quantity is distinct from s.stock")" 0 'and captures what the shop changes'
done

fails 'a role without rights reads nothing' env PGUSER=stranger psql -Xq -c 'table amzmp.account'
succeeds 'DROP EXTENSION leaves the shop alone' sql 'drop extension amzmp cascade' 'update shop.product set stock = stock + 1'
is "$(sql "select count(*) from pg_trigger where not tgisinternal")" 0 'and no trigger of ours'
finish
