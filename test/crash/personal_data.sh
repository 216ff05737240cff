#!/usr/bin/env bash
# Buyers' data: while it is here it stands nowhere in clear, whatever fails; and once it is purged nothing of it is left, in
# no column, sealed or not, in no log and no file of the data directory that is not scrap.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# How many values of all our tables hold a word, looking into what is sealed too.
cat >"$RUN/${CLUSTER_PREFIX}scan.sql" <<'SQL'
create function pg_temp.found(word text) returns setof text language plpgsql as $$
declare
    c record;
    n bigint;
begin
    for c in select t.oid::regclass as name, t.relname from pg_class t
              where t.relnamespace = 'amzmp'::regnamespace and t.relkind = 'r' loop
        execute format('select count(*) from %s x where x::text ~* $1', c.name) into n using word;
        if n > 0 then return next c.relname || ' in clear'; end if;
    end loop;
    for c in select p.* from amzmp._sealed_places() p loop
        execute format('select count(*) from amzmp.%1$I x where x.%2$I is not null and amzmp._open(x.%2$I, %3$L, %4$s) ~* $1',
            c.relation, c.column_name, c.purpose, c.row_key) into n using word;
        if n > 0 then return next c.relation || '.' || c.column_name || ' sealed'; end if;
    end loop;
end $$;
SQL

found()
{
	psql -XqAt -v ON_ERROR_STOP=1 -f "$RUN/${CLUSTER_PREFIX}scan.sql" -c "select coalesce(string_agg(x, ', ' order by x), 'nowhere') from pg_temp.found('$1') x"
}

place()
{
	control POST orders "$1" | grep -o '"orderId": *"[^"]*"' | cut -d'"' -f4
}

simulator_start s --rate-scale 0
cluster_start s
control POST settings '{"order_lag": 0}' >/dev/null
shop_connect
sql "select amzmp.set('shop', 'keep_bodies', 'true')" >/dev/null

# A shop's function that fails and says what it saw.
sql 'create role clerk login' 'grant amzmp_admin, amzmp_buyer_data to clerk' 'create schema store authorization clerk' >/dev/null
export PGUSER=clerk
sql "create function store.take(account_id bigint, order_id text) returns text language plpgsql as \$\$
	begin raise exception 'no room for %', (select buyer_name || ', ' || address_line1 from amzmp.buyer('shop', array[order_id])); end\$\$" \
	"select amzmp.deliver_orders_to('DE', 'store.take(bigint, text)')" >/dev/null
export PGUSER=postgres
sql "select amzmp.set_alarm('shop', 'held', preset => 'held_orders')" "select amzmp.set_alarm('shop', 'orders', preset => 'new_orders')" >/dev/null

order=$(place '{"items": [{"sku": "ANY", "quantity": 1}], "buyer_name": "Wilhelmine Canaria", "address": {"addressLine1": "Kanariengasse 7", "city": "Bremen", "postalCode": "28195", "countryCode": "DE"}}')
sql "select amzmp.run_flow('get_orders', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
sql_becomes 30 "select import_state from amzmp.orders where amazon_order_id = '$order'" quarantined
sql "select amzmp.run_alarm('shop', 'held')" "select amzmp.run_alarm('shop', 'orders')" >/dev/null
is "$(sql "select buyer_name from amzmp.buyer('shop', array['$order'])")" 'Wilhelmine Canaria' 'the data is here'
unlike "$(found 'Canaria|Kanariengasse')" 'in clear' 'but stands in no column in clear, though the function failed with it'
like "$(found 'Canaria|Kanariengasse')" 'order_buyer.raw sealed, order_buyer.sealed sealed.*request_log' 'only sealed, kept bodies too'
is "$("$(pg_bin)/pg_dump" | grep -ciE 'Canaria|Kanariengasse')" 0 'a dump holds nothing of it'
like "$(sql "select failure_reason from amzmp.orders where amazon_order_id = '$order'")" 'no room for' 'the error is told'

# Its time is over.
sql "update amzmp.orders set arrived_at = now() - interval '31 days' where amazon_order_id = '$order'" \
	"select amzmp.run_flow('purge_personal_data', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
is "$(sql "select personal_purged_at is not null from amzmp.orders where amazon_order_id = '$order'")" t 'after its time it is purged'
is "$(found 'Canaria|Kanariengasse')" nowhere 'and nothing of it is left, sealed or not'
control POST "orders/$order/touch" '{}' >/dev/null
sql "select amzmp.run_flow('get_orders', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
is "$(sql "select count(*) from amzmp.buyer('shop', array['$order'])")" 0 'nor does it come back when Amazon sends the order again'
sql "select amzmp.run_flow('purge_personal_data', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
is "$(found 'Canaria|Kanariengasse')" nowhere 'the body of that answer goes too'
is "$(grep -ciE 'Canaria|Kanariengasse' "$(cluster_log s)")" 0 'the server log never had it'
finish
