#!/usr/bin/env bash
# A server that does not preload amzmp: each function that needs it says what is missing, everything else works, the shop
# above all, and what happened meanwhile is caught up with when it is preloaded.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# The SQLSTATE of a statement that fails, else what it returned. told: its message and hint.
outcome()
{
	psql -XqAt -v VERBOSITY=sqlstate -c "$1" 2>&1 | sed 's/^ERROR:  //'
}

told()
{
	psql -XqAt -c "$1" 2>&1
}

as_shop()
{
	PGUSER=shop sql "$@"
}

simulator_start s --rate-scale 0
cluster_start p "shared_preload_libraries = ''" 'max_prepared_transactions = 5'
shop_connect
pass 'CREATE EXTENSION, a key, an account and a channel need no preloading'
sql "create role shop login" "grant amzmp_admin to shop" "create schema shop authorization shop" "alter role shop set search_path = shop" >/dev/null
as_shop "create table product (sku text primary key, price numeric, stock integer)" \
	"insert into product select 'P-' || i, i, i from generate_series(1, 20) i" \
	"select amzmp.attach_source('shop', 'product')" >/dev/null
pass 'neither does attach_source'

# What needs our processes or their shared memory.
while IFS='|' read -r name statement; do
	is "$(outcome "$statement")" AZ001 "$name needs it"
	like "$(told "$statement")" 'Add amzmp to shared_preload_libraries' 'and says what to do'
done <<-'LIST'
	call|select amzmp.call('shop', 'getMarketplaceParticipations')
	search_catalog|select * from amzmp.search_catalog('DE', keywords => 'x')
	test_connection|select * from amzmp.test_connection('shop')
	usage|select * from amzmp.usage
	wait|call amzmp.wait('60 s')
LIST
is "$(sql "select state, detail from amzmp.health() where check_name = 'processes'")" 'error|not preloaded' 'health() says so'

# The shop goes on.
for i in {1..30}; do
	echo "update shop.product set price = price + 1, stock = stock + 1 where sku = 'P-$((i % 20 + 1))';"
done | psql -Xq -v ON_ERROR_STOP=1
as_shop "begin" "insert into product values ('P-21', 21, 21)" "savepoint a" "delete from product where sku = 'P-1'" "rollback to a" "prepare transaction 'shop'"
as_shop "commit prepared 'shop'"
as_shop "begin" "update product set price = 0" "rollback"
as_shop "alter table product add column note text" "truncate product" "insert into product select 'P-' || i, 100 + i, i from generate_series(1, 21) i"
is "$(sql 'select count(*), sum(price) from shop.product')" '21|2331' 'the shop inserts, updates, deletes, truncates, prepares and rolls back'
is "$(sql 'select count(*) from amzmp.change')" 0 'no keys pile up that nobody takes'
is "$(sql 'select count(*) from amzmp.rescan_mark')" 1 'one mark stands for all'
look_at later
is "$(sql "select count(*) from amzmp.request where state = 'due'")" 1 'requests are queued'
as_shop "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
is "$(sql 'select kind, subject from amzmp.task where run_as is null')" 'flow|get_orders/0' 'so are flows'

# Preloaded at last.
cluster_set p "shared_preload_libraries = 'pg_cron,amzmp'"
cluster_restart p
as_shop "call amzmp.wait('60 s')"
is "$(sql 'select count(*), sum(price), sum(quantity) from amzmp.product')" '21|2331|231' 'what the shop did meanwhile is read'
is "$(sql 'select count(*) from amzmp.rescan_mark')" 0 'and the mark is gone'
is "$(arrived getListingsItem)" 1 'what was queued is sent'
is "$(sql "select state from amzmp.flow_run where flow = 'get_orders'")" 'done' 'the flow has run'
is "$(sql "select state from amzmp.health() where check_name = 'processes'")" ok 'health() is content'
is "$(outcome "select jsonb_array_length(amzmp.call('shop', 'getMarketplaceParticipations') -> 'payload') > 0")" t 'call() works'
as_shop "update product set price = 7 where sku = 'P-7'" "call amzmp.wait('60 s')"
is "$(sql "select price from amzmp.product where sku = 'P-7'")" 7 'so does capture'
finish
