-- bi.sql
-- What dashboards show: which orders are at risk and why, what was sold when, what came back, what failed.

\ir orders_setup.psql

create function put(id text, its_status text, purchased interval, due interval, total numeric default 20, by text default 'MERCHANT', chan bigint default null)
    returns void language sql as $$
    insert into amzmp.orders (account_id, amazon_order_id, channel_id, order_number, status, fulfilled_by, purchased_at,
        last_updated_at, ship_by,
        currency, grand_total)
    select a.account_id, id, coalesce(chan, (select c.channel_id from amzmp.channel c
        where c.account_id = a.account_id limit 1)), id, its_status, by,
           now() - purchased, now(), now() + due, 'EUR', total
      from amzmp.account a where a.name = 'orders';
    insert into amzmp.order_item (account_id, amazon_order_id, order_item_id, position, sku, shop_sku, quantity_ordered,
        quantity_unfulfilled)
    select a.account_id, id, '1', 1, 'MUG', 'MUG', 2, case when its_status = 'SHIPPED' then 0 else 2 end from amzmp.account a where a.name = 'orders';
$$;
insert into amzmp.product (account_id, source_id, sku, quantity) values (:account_id, 1, 'MUG', 4), (:account_id, 1, 'PEN', -1);

select put('late', 'UNSHIPPED', '2 days', '-1 hour'), put('soon', 'UNSHIPPED', '1 day', '5 hours'), put('fine', 'PARTIALLY_SHIPPED', '1 hour', '3 days'),
       put('oversold', 'UNSHIPPED', '1 hour', '3 days'), put('unknown', 'UNSHIPPED', '1 hour', '3 days'), put('gone', 'SHIPPED', '1 hour', '1 day'),
       put('theirs', 'UNSHIPPED', '1 hour', '1 day', 20, 'AMAZON'), put('cancelled', 'CANCELLED', '1 hour', '1 day', 99),
       put('old', 'SHIPPED', '40 days', '-39 days') \g /dev/null
update amzmp.order_item set sku = 'PEN', shop_sku = 'PEN' where amazon_order_id = 'oversold';
update amzmp.order_item set shop_sku = null where amazon_order_id = 'unknown';

select results_eq($$select amazon_order_id, risk, units, blocking_skus from amzmp.ship_risk order by amazon_order_id$$,
    $$values ('fine', 'on_track', 2::bigint, null::text[]), ('late', 'overdue', 2, null), ('oversold', 'stock_blocked', 2, '{PEN}'), ('soon', 'at_risk', 2, null),
             ('unknown', 'stock_blocked', 2, '{MUG}')$$, 'open orders of the merchant''s, each with its risk');
select amzmp.set('orders', 'ship_risk', '4 hours') \g /dev/null
select is((select risk from amzmp.ship_risk where amazon_order_id = 'soon'), 'on_track', 'what is near is a setting');
select is((select time_left from amzmp.ship_risk where amazon_order_id = 'fine'), interval '72 hours', 'time is counted');
select amzmp.set('orders', 'shipping_days', format('["%s"]', to_char(now() at time zone 'UTC' + interval '1 day', 'dy'))) \g /dev/null
select is((select time_left from amzmp.ship_risk where amazon_order_id = 'fine'), interval '24 hours', 'on the days on which is shipped');
select is((select sum(orders) from amzmp.open_shipments), 5::numeric, 'all of them are counted by when they are due');
select is((select sum(orders) from amzmp.open_shipments where due = 'overdue'), 1::numeric, 'the late one among them');
select results_eq($$select sum(orders)::bigint, sum(cancelled)::bigint, sum(sales) from amzmp.sales_by_day where currency = 'EUR'$$,
    $$values (8::bigint, 1::bigint, 140.0)$$, 'sales leave out what was cancelled, and what is long ago');
select is((select sum(sales) from amzmp.sales_by_hour), (select sum(sales) from amzmp.sales_by_day), 'the hours add up to the days');
select put('otherwhere', 'UNSHIPPED', '1 hour', '3 days', 20, 'MERCHANT', 0) \g /dev/null
select is((select count(*) from amzmp.sales_by_hour where channel is null), 1::bigint, 'a marketplace that is no channel is shown too');
-- Days are those of whoever looks, hours are the same everywhere; currencies are never added up.
select put('sterling', 'SHIPPED', '3 days', '1 day', 7) \g /dev/null
update amzmp.orders set currency = 'GBP', purchased_at = date_trunc('day', now() at time zone 'UTC' - interval '3 days') at time zone 'UTC' + interval '1 hour'
 where amazon_order_id = 'sterling';
select results_eq($$select currency, sum(sales) from amzmp.sales_by_day where currency is not null group by 1 order by 1$$,
    $$values ('EUR', 160.0), ('GBP', 7.0)$$, 'each currency by itself');
set local timezone = 'UTC';
select is((select day from amzmp.sales_by_day where currency = 'GBP'), (now() at time zone 'UTC')::date - 3, 'one in the morning in UTC');
select extract(epoch from hour) as hour from amzmp.sales_by_hour where currency = 'GBP' \gset
set local timezone = 'America/Los_Angeles';
select is((select day from amzmp.sales_by_day where currency = 'GBP'), (now() at time zone 'UTC')::date - 4, 'is the evening before in California');
select is((select extract(epoch from hour) from amzmp.sales_by_hour where currency = 'GBP'), :hour, 'in the same hour');
select amzmp.set('orders', 'shipping_days', jsonb_build_array(to_char(now(), 'dy'))::text) \g /dev/null
select is((select time_left from amzmp.ship_risk where amazon_order_id = 'fine'), date_trunc('day', now()) + interval '1 day' - now(),
    'where only today counts, what is left of it is the time');
select amzmp.set('orders', 'shipping_days', null) \g /dev/null
reset timezone;

-- What Amazon booked.
select amzmp._store_transactions(:account_id, '[
    {"transactionId": "t1", "transactionType": "Shipment", "totalAmount": {"currencyCode": "EUR", "currencyAmount": 8.5},
     "relatedIdentifiers": [{"relatedIdentifierName": "ORDER_ID", "relatedIdentifierValue": "gone"}],
     "breakdowns": [{"breakdownType": "Sales", "breakdownAmount": {"currencyAmount": 10}},
                    {"breakdownType": "Expenses", "breakdownAmount": {"currencyAmount": -1.5}}]},
    {"transactionId": "t2", "transactionType": "ServiceFee", "totalAmount": {"currencyCode": "EUR", "currencyAmount": -0.25},
     "relatedIdentifiers": [{"relatedIdentifierName": "ORDER_ID", "relatedIdentifierValue": "gone"}]},
    {"transactionId": "t3", "transactionType": "Shipment", "totalAmount": {"currencyCode": "GBP", "currencyAmount": 3},
     "relatedIdentifiers": [{"relatedIdentifierName": "ORDER_ID", "relatedIdentifierValue": "gone"}]}]') \g /dev/null
select results_eq($$select currency, transactions, sales, fees, net from amzmp.order_finance where amazon_order_id = 'gone' order by 1$$,
    $$values ('EUR', 2::bigint, 10.0, -1.75, 8.25), ('GBP', 1, 3, 0, 3)$$, 'each currency by itself, with what has no parts');
select amzmp._store_transactions(:account_id, '[
    {"transactionId": "t1", "transactionType": "Shipment", "totalAmount": {"currencyCode": "EUR", "currencyAmount": 9},
     "relatedIdentifiers": [{"relatedIdentifierName": "ORDER_ID", "relatedIdentifierValue": "gone"}],
     "breakdowns": [{"breakdownType": "Sales", "breakdownAmount": {"currencyAmount": 10}},
                    {"breakdownType": "Fees", "breakdownAmount": {"currencyAmount": -1}}]}]') \g /dev/null
select results_eq($$select sales, fees, net from amzmp.order_finance where amazon_order_id = 'gone' and currency = 'EUR'$$,
    $$values (10.0, -1.25, 8.75)$$, 'a transaction that Amazon shows anew loses the parts that it had');
select results_eq($$select fee, amount from amzmp.order_fee where amazon_order_id = 'gone'$$, $$values ('Fees', -1.0)$$, 'fees too');
-- Who was away for long catches up in windows that Amazon answers.
insert into amzmp.finance_cursor (account_id, watermark) values (:account_id, amzmp._now(:account_id) - interval '400 days');
create function window_of_reading() returns interval language sql as $$
    select coalesce((r.params ->> 'postedBefore')::timestamptz, amzmp._now(r.account_id)) - (r.params ->> 'postedAfter')::timestamptz
      from amzmp.request r where r.operation = 'listTransactions' and r.subject = ''
$$;
select amzmp._flow_get_transactions(:account_id, 0, 1) \g /dev/null
select is(window_of_reading(), interval '170 days', 'a long absence is read in parts');
select answer(:account_id, 'listTransactions', 200, '{"payload": {"transactions": []}}') \g /dev/null
select ok(watermark between amzmp._now(:account_id) - interval '234 days' and amzmp._now(:account_id) - interval '232 days', 'and nothing passed over')
  from amzmp.finance_cursor where account_id = :account_id;
select amzmp._flow_get_transactions(:account_id, 0, 1), answer(:account_id, 'listTransactions', 200, '{"payload": {"transactions": []}}') \g /dev/null
select amzmp._flow_get_transactions(:account_id, 0, 1) \g /dev/null
select ok(window_of_reading() < interval '100 days', 'until it is at the present');
select is((select count(*) from amzmp.request r where r.operation = 'listTransactions' and r.params ? 'postedBefore'), 0::bigint, 'which needs no end');
delete from amzmp.request where account_id = :account_id;
insert into amzmp.return_item (account_id, return_key, returned_to, amazon_order_id, sku, quantity, requested_at, reason_code,
    currency, refunded_amount)
values (:account_id, 'r1', 'merchant', 'gone', 'MUG', 1, now(), 'CR-DEFECTIVE', 'EUR', 10), (:account_id, 'r2', 'merchant', 'gone', 'PEN', 2, now(), 'CR-DEFECTIVE', 'EUR', 5);
select results_eq($$select meaning, returns, units, skus, refunded from amzmp.returns_by_reason$$, $$values ('Defective', 2::bigint, 3::bigint, 2::bigint, 15::numeric)$$,
    'returns by reason');
select amzmp._log(:account_id, 0, 'error', 'order', 'x', 'no'), amzmp._log(:account_id, 0, 'warning', 'order', 'x', 'perhaps') \g /dev/null
select results_eq($$select errors, warnings from amzmp.errors_by_day where account = 'orders' and subject_kind = 'order'$$,
    $$values (1::bigint, 1::bigint)$$, 'errors by day');

-- Who is limited to another account sees none of it.
select amzmp.create_account('orders2', 'EU', 'orders_app', 'A2SELLER', 'mock', 'http://127.0.0.1:9') \g /dev/null
create role bi_reader login in role amzmp_reader;
select amzmp.limit_role('bi_reader', array['orders2']) \g /dev/null
set local role bi_reader;
select is((select count(*) from amzmp.order_finance) + (select count(*) from amzmp.order_fee)
    + (select count(*) from amzmp.ship_risk) + (select count(*) from amzmp.open_shipments) + (select count(*) from amzmp.sales_by_hour)
    + (select count(*) from amzmp.sales_by_day) + (select count(*) from amzmp.returns_by_reason)
    + (select count(*) from amzmp.errors_by_day where account_id <> 0), 0::bigint, 'a role sees its own accounts only');
reset role;
select amzmp.limit_role('bi_reader', array['orders']) \g /dev/null
set local role bi_reader;
select is((select count(*) from amzmp.ship_risk), 6::bigint, 'and those it sees');
select ok((select count(*) from amzmp.sales_by_hour) > 0, 'sales too');
reset role;

select * from finish();
rollback;
