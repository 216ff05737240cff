#!/usr/bin/env bash
# Buyers' data: while it is here it stands nowhere in clear, whatever fails; and once it is purged nothing of it is left, in
# no column, sealed or not, in no document and no log: of orders delivered, cancelled, never delivered and never imported,
# of accounts that are at work, switched off and dropped.
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
    for c in select p.* from amzmp._sealed_places() p where p.relation <> 'document_chunk' loop
        execute format('select count(*) from amzmp.%1$I x where x.%2$I is not null and amzmp._open(x.%2$I, %3$L, %4$s) ~* $1',
            c.relation, c.column_name, c.purpose, c.row_key) into n using word;
        if n > 0 then return next c.relation || '.' || c.column_name || ' sealed'; end if;
    end loop;
    for c in select d.* from amzmp.document d where encode(amzmp._read_document(d.account_id, d.document_id), 'escape') ~* word loop
        return next 'document' || case when c.sealed then ' sealed' else ' in clear' end;
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

purge()
{
	sql "select amzmp.run_flow('purge_personal_data', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
}

poll()
{
	sql "select amzmp.run_flow('get_orders', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
}

# canaria NUMBER [REST]: place an order of hers
canaria()
{
	place "{\"items\": [{\"sku\": \"ANY\", \"quantity\": 1}], \"buyer_name\": \"Wilhelmine Canaria\",
		\"address\": {\"addressLine1\": \"Kanariengasse $1\", \"city\": \"Bremen\", \"postalCode\": \"28195\", \"countryCode\": \"DE\"}${2:-}}"
}

# report TYPE ORDER NAME [START]: a report that names somebody
report()
{
	local id
	control POST reports "{\"type\": \"$1\", \"status\": \"DONE\", \"content\": \"order-id\\tbuyer-name\\n$2\\t$3\\n\"}" >/dev/null
	id=$(sql "select amzmp.request_report('shop', '$1', ${4:-null})")
	sql_becomes 20 "select state from amzmp.report where report_id = $id" in_queue
	sql "select amzmp.poll_report('shop', $id)" >/dev/null
	sql_becomes 20 "select state from amzmp.report where report_id = $id" downloaded
}

simulator_start s --rate-scale 0
cluster_start s
control POST settings '{"order_lag": 0, "verdict_delay": 0}' >/dev/null
shop_connect
sql "select amzmp.set('shop', 'keep_bodies', 'true')" "update amzmp.report_type set spacing = '0'" >/dev/null

# A shop's function that fails and says what it saw.
sql 'create role clerk login' 'grant amzmp_admin, amzmp_buyer_data to clerk' 'create schema store authorization clerk' >/dev/null
export PGUSER=clerk
sql "create function store.take(account_id bigint, order_id text) returns text language plpgsql as \$\$
	begin raise exception 'no room for %', (select buyer_name || ', ' || address_line1 from amzmp.buyer('shop', array[order_id])); end\$\$" \
	"select amzmp.deliver_orders_to('DE', 'store.take(bigint, text)')" >/dev/null
export PGUSER=postgres
sql "select amzmp.set_alarm('shop', 'held', preset => 'held_orders')" "select amzmp.set_alarm('shop', 'orders', preset => 'new_orders')" >/dev/null

order=$(canaria 7)
poll
sql_becomes 30 "select import_state from amzmp.orders where amazon_order_id = '$order'" quarantined
sql "select amzmp.run_alarm('shop', 'held')" "select amzmp.run_alarm('shop', 'orders')" >/dev/null
is "$(sql "select buyer_name from amzmp.buyer('shop', array['$order'])")" 'Wilhelmine Canaria' 'the data is here'
unlike "$(found 'Canaria|Kanariengasse')" 'in clear' 'but stands in no column in clear, though the function failed with it'
like "$(found 'Canaria|Kanariengasse')" 'order_buyer.raw sealed, order_buyer.sealed sealed.*request_log' 'only sealed, kept bodies too'
is "$("$(pg_bin)/pg_dump" | grep -ciE 'Canaria|Kanariengasse')" 0 'a dump holds nothing of it'
like "$(sql "select failure_reason from amzmp.orders where amazon_order_id = '$order'")" 'no room for' 'the error is told'

# Every member of Amazon's that may be about her holds her name; the simulator knows few of them.
sql "select count(amzmp._take_orders(b.account_id, array(select o from amzmp._read_orders(x.doc::text, '', true) as o), true))
       from amzmp.order_buyer b,
            lateral (select amzmp._open(b.raw, 'order', b.account_id || '/' || b.amazon_order_id)::jsonb as doc) d,
            lateral (select d.doc || jsonb_build_object(
                'lastUpdatedTime', to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
                'buyer', '{\"buyerName\": \"Wilhelmine Canaria\", \"buyerEmail\": \"canaria@marketplace.amazon.de\", \"buyerCompanyName\": \"Canaria KG\", \"buyerPurchaseOrderNumber\": \"CANARIA-1\"}'::jsonb,
                'recipient', '{\"deliveryAddress\": {\"name\": \"W. Canaria\", \"companyName\": \"Canaria\", \"addressLine1\": \"Kanariengasse 7\", \"addressLine2\": \"at Canaria''s\",
                    \"addressLine3\": \"canaria\", \"city\": \"Canariahausen\", \"districtOrCounty\": \"Canaria\", \"municipality\": \"Canaria\", \"stateOrRegion\": \"Canaria\",
                    \"postalCode\": \"CANARIA7\", \"countryCode\": \"DE\", \"phone\": \"+49 CANARIA\", \"extendedFields\": {\"streetName\": \"Canaria\", \"neighborhood\": \"Canaria\"}},
                    \"deliveryPreference\": {\"dropOffLocation\": \"Canaria\", \"addressInstruction\": \"ring at Canaria\"}}'::jsonb,
                'tax', '{\"taxRegistrations\": [{\"taxRegistrationType\": \"VAT\", \"taxRegistrationId\": \"DECANARIA\"}]}'::jsonb,
                'orderItems', jsonb_build_array((d.doc #> '{orderItems,0}') || jsonb_build_object(
                    'product', (d.doc #> '{orderItems,0,product}') || '{\"customization\": {\"customizedUrl\": \"https://amazon.example/canaria\"}}'::jsonb,
                    'fulfillment', coalesce(d.doc #> '{orderItems,0,fulfillment}', '{}') || '{\"packing\": {\"giftOption\": {\"giftMessage\": \"To my Canaria\"}}}'::jsonb))) as doc) x
      where b.amazon_order_id = '$order'" "call amzmp.wait('60 s')" >/dev/null
is "$(sql "select buyer_email, city, postal_code, phone, delivery_preference ->> 'dropOffLocation', items::text ~ 'To my Canaria' from amzmp.buyer('shop', array['$order'])")" \
	'canaria@marketplace.amazon.de|Canariahausen|CANARIA7|+49 CANARIA|Canaria|t' 'whatever Amazon tells of her'
unlike "$(found 'Canaria|Kanariengasse')" 'in clear' 'is sealed'

# An answer for a handler that fails with it: nobody but the handler sees it, and its words are not kept.
export PGUSER=clerk
sql "create function store.handle(account_id bigint, request_id bigint, status integer, answer jsonb) returns void language plpgsql as \$\$
	begin raise exception 'no room for %', answer; end\$\$" \
	"select amzmp.enqueue('shop', 'getOrder', '{\"orderId\": \"$order\", \"includedData\": [\"BUYER\", \"RECIPIENT\"]}', handler => 'store.handle')" >/dev/null
export PGUSER=postgres
sql_becomes 20 "select count(*) from amzmp.task where kind = 'handler' and last_error is not null" 1
like "$(sql "select last_error from amzmp.task where kind = 'handler'")" 'failed with error P0001' 'a handler that fails with an answer'
like "$(found 'Canaria|Kanariengasse')" 'task.sealed sealed' 'has it sealed'
unlike "$(found 'Canaria|Kanariengasse')" 'in clear' 'and in clear nowhere'
id=$(sql "select subject from amzmp.task where kind = 'handler'")
is "$(psql -XqAt -v VERBOSITY=sqlstate -c "select amzmp.handler_answer((select account_id from amzmp.account), $id)" 2>&1)" 'ERROR:  42501' 'nor does anybody else get it'
like "$(cat "$(cluster_log s)")" "role \"clerk\" took the answer to request $id \(getOrder\)" 'that it was opened is in the log'

# Her name in everything else that holds buyers: other orders, a report of them, an invoice, bodies of calls by hand.
cancelled=$(canaria 8)
undelivered=$(canaria 9)
recent=$(canaria 10)
poll
control POST "orders/$cancelled/cancel" '{}' >/dev/null
poll
report GET_FLAT_FILE_ACTIONABLE_ORDER_DATA_SHIPPING "$order" 'Wilhelmine Canaria' "now() - interval '20 days'"
sql "select amzmp.enqueue('shop', 'getOrder', '{\"orderId\": \"$order\"}')" "call amzmp.wait('60 s')" >/dev/null
id=$(sql "select amzmp.backfill_orders('shop', now() - interval '1 day')")
sql_becomes 20 "select state from amzmp.report where report_id = $id" in_queue
sql "select amzmp.poll_report('shop', $id)" >/dev/null
sql_becomes 20 "select state from amzmp.report where report_id = $id" downloaded
is "$(sql "select count(*), count(c.cells ->> 'ship-country'), count(c.cells ->> 'ship-postal-code'), count(c.cells ->> 'sku') from amzmp.report_rows('shop', $id) c")" '4|4|0|4' \
	'the report of all orders comes without where buyers live'
unlike "$(found '28195|Bremen')" 'document' 'which is not kept at all'
sql "insert into amzmp.parked_order (account_id, amazon_order_id, last_updated_at, complete, sealed, parked_at)
     select b.account_id, '999-0000000-0000001', now() - interval '20 days', true,
            amzmp._seal(amzmp._open(b.raw, 'order', b.account_id || '/' || b.amazon_order_id), 'order', b.account_id || '/999-0000000-0000001'), now() - interval '20 days'
       from amzmp.order_buyer b where b.amazon_order_id = '$order'" \
	"select amzmp._new_document(account_id, 'application/pdf', true) from amzmp.account" \
	"select amzmp._write_content(account_id, max(document_id), 'Invoice for Wilhelmine Canaria') from amzmp.document group by account_id" >/dev/null
like "$(found 'Canaria|Kanariengasse')" 'document sealed, document sealed.*order_buyer.*parked_order' 'it is in many places, and sealed in each'
unlike "$(found 'Canaria|Kanariengasse')" 'in clear' 'reports and invoices are no exception'
is "$(sql "select string_agg(place || ' ' || held || ' ' || overdue, ', ' order by place) from amzmp.personal_data('shop') where held > 0 and place <> 'kept bodies'")" \
	'answers that no handler has taken 1 0, invoices 1 0, orders 4 0, orders that are not imported 1 0, reports 1 0' 'personal_data() tells where'

# Its time is over, of all but one order.
sql "update amzmp.orders set arrived_at = now() - interval '32 days' where amazon_order_id = '$order'" \
	"update amzmp.orders set last_updated_at = now() - interval '32 days' where amazon_order_id = '$cancelled'" \
	"update amzmp.orders set deliver_by = now() - interval '29 days 12 hours' where amazon_order_id = '$undelivered'" \
	"update amzmp.orders set arrived_at = now() - interval '28 days' where amazon_order_id = '$recent'" \
	"update amzmp.report set data_start = now() - interval '32 days', ended_at = now() - interval '3 days'" \
	"update amzmp.task set created_at = now() - interval '32 days' where kind = 'handler'" >/dev/null
is "$(sql "select string_agg(place || ' ' || overdue, ', ' order by place) from amzmp.personal_data('shop') where overdue > 0")" 'answers that no handler has taken 1, orders 2, reports 1' \
	'what should be gone is counted'
sql "select amzmp._drop_documents(account_id, array_agg(document_id)) from amzmp.document where content_type = 'application/pdf' group by account_id" \
	"update amzmp.parked_order set last_updated_at = now() - interval '32 days', parked_at = now() - interval '32 days'" >/dev/null
sql "update amzmp.account set state = 'invalid', active = false" "select amzmp.mark_due('purge_personal_data')" >/dev/null
sql_becomes 30 "select count(*) from amzmp.flow_run where flow = 'purge_personal_data' and state = 'done'" 1
pass 'an account that is switched off, and that Amazon refuses, is purged too'
sql "update amzmp.account set state = 'valid', active = true" >/dev/null
is "$(sql "select count(*) from amzmp.orders where personal_purged_at is not null")" 3 'in time it is purged, delivered, cancelled or never delivered: what would be late before the next night, too'
is "$(found 'Kanariengasse (7|8|9)')" nowhere 'and nothing of it is left, sealed or not'
is "$(found 'Canaria')" 'order_buyer.raw sealed, order_buyer.sealed sealed' 'but that of the order whose time has not come'
is "$(sql "select sum(overdue) from amzmp.personal_data('shop')")" 0 'personal_data() says the same'
like "$(sql "select reason from amzmp.report where type like '%ACTIONABLE%'")" 'buyers. data' 'a report without its document says why'
control POST "orders/$order/touch" '{}' >/dev/null
poll
is "$(sql "select count(*) from amzmp.buyer('shop', array['$order'])")" 0 'nor does it come back when Amazon sends the order again'
purge
is "$(found 'Kanariengasse (7|8|9)')" nowhere 'the body of that answer goes too'

# A buyer asks before that time, while a report and a body have the data as well.
report GET_FLAT_FILE_ORDER_REPORT_DATA_SHIPPING "$recent" 'Wilhelmine Canaria'
report GET_FLAT_FILE_ORDER_REPORT_DATA_SHIPPING 1 'Ottokar Andersch'
sql "select amzmp.enqueue('shop', 'getOrder', '{\"orderId\": \"$recent\"}')" "call amzmp.wait('60 s')" >/dev/null
is "$(sql "select jsonb_path_exists(amzmp.export_buyer('shop', array['$recent']), '\$[*].personal.recipient.deliveryAddress.addressLine1')")" t 'it can be exported'
is "$(sql "select amzmp.erase_buyer('shop', array['$recent'])")" 1 'and erased'
is "$(found 'Canaria|Kanariengasse')" nowhere 'from orders, reports and bodies alike'
is "$(found 'Ottokar Andersch')" 'document sealed' 'a report that does not name the order stays'

# Whoever opened it stands there, though the transaction was rolled back and the client wanted no messages.
is "$(sql 'begin' 'set local client_min_messages = error' "select count(*) from amzmp.buyer('shop', array['111-1111111-1111111'])" 'rollback')" 0 'a look that is rolled back'
is "$(grep -c "role \"postgres\" opened buyers' data of account \"shop\", orders: 111-1111111-1111111" "$(cluster_log s)")" 1 'is in the log all the same'
like "$(psql -XqAt -c 'set log_min_messages = fatal' -c "select * from amzmp.buyer('shop', array['222-2222222-2222222'])" 2>&1)" 'could not be written' \
	'and where the server would not write it down, nothing is opened'
# An account that is dropped takes it along.
last=$(canaria 11)
poll
is "$(sql "select count(*) from amzmp.buyer('shop', array['$last'])")" 1 'the data of another order is here'
sql "select amzmp.drop_account('shop')" >/dev/null
is "$(found 'Canaria|Kanariengasse')" nowhere 'and gone with the account'
is "$(sql "select count(*) from amzmp.orders where amazon_order_id = '$last'")" 1 'the order itself stays'
is "$(grep -ciE 'Canaria|Kanariengasse' "$(cluster_log s)")" 0 'the server log never had it'

finish
