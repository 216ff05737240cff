-- orders_decision.sql
-- The decision table, row by row: an order is made in every situation there is, and what becomes of it is what the row
-- says that fits first. What people may decide otherwise, and how held orders go on, comes after.

\ir orders_setup.psql

select amzmp.reduce_stock('orders', relation => 'orders_test.product', run_as => 'orders_shop') \g /dev/null
insert into amzmp.source (account_id, source_id, run_as, relation, expressions, fields, sku_type)
values (:account_id, 900001, 'orders_shop', 'orders_test.product', '{"sku": "sku"}', 'sku', 'text');
insert into orders_test.product values ('OFF', 50), ('OUT', 0);
insert into amzmp.product (account_id, source_id, sku, quantity, active)
select :account_id, 900001, p.sku, p.stock, p.sku <> 'OFF' from orders_test.product p;

-- Every situation, with what the table says and what a real order shows.
create table situation (n integer, id text, fulfilled_by text, status text, item text, stock text, sku text);
insert into situation
select row_number() over (), null, f.v, s.v, i.v, k.v,
       case when i.v = 'unknown' then 'NOBODY' when i.v = 'disabled' then 'OFF' when k.v = 'short' then 'OUT' else 'PEN' end
  from (values ('AMAZON'), ('MERCHANT')) as f (v)
 cross join (values ('PENDING_AVAILABILITY'), ('PENDING'), ('UNSHIPPED'), ('PARTIALLY_SHIPPED'), ('SHIPPED'), ('CANCELLED'),
                    ('UNFULFILLABLE'), ('INVENTED_LATER')) as s (v)
 cross join (values ('known'), ('disabled'), ('unknown')) as i (v)
 cross join (values ('enough'), ('short')) as k (v)
 where i.v = 'known' or k.v = 'enough';
update situation set id = format('777-%s-%s', lpad(n::text, 7, '0'), lpad(n::text, 7, '0'));

select arrives(:account_id, an_order(s.id, s.status, 1, jsonb_build_array(
        item(s.n || '0', s.sku, 3, case s.status when 'SHIPPED' then 3 when 'PARTIALLY_SHIPPED' then 1 when 'CANCELLED' then 0 when 'UNFULFILLABLE' then 0 end,
             case s.status when 'SHIPPED' then 0 when 'PARTIALLY_SHIPPED' then 2 when 'UNSHIPPED' then 3 when 'CANCELLED' then 0 when 'UNFULFILLABLE' then 0 end)),
    jsonb_build_object('fulfillment', jsonb_build_object('fulfillmentStatus', s.status, 'fulfilledBy', s.fulfilled_by))))
  from situation s \g /dev/null

create view seen as
select s.*, o.import_state, d.position, d.import_state as wanted,
       coalesce((select sum(r.quantity) from amzmp.reservation r where r.amazon_order_id = s.id and r.released_at is null), 0) as reserved,
       case d.reserves when 'ordered' then 3 else 0 end * (s.item <> 'unknown')::integer as wanted_reserved,
       coalesce((select -sum(m.quantity) from amzmp.movement m where m.amazon_order_id = s.id), 0) as moved,
       case d.moves when 'sold' then 3 else 0 end * (s.item <> 'unknown')::integer as wanted_moved
  from situation s
  join amzmp.orders o on o.amazon_order_id = s.id
 cross join lateral amzmp._order_decision(s.fulfilled_by, s.status, s.item, s.stock) d;

select is(count(*), 64::bigint, 'every situation has an order and a row that decides it') from seen;
select is(s.import_state, s.wanted, format('%s: %s %s, item %s, stock %s: %s', s.position, s.fulfilled_by, s.status, s.item, s.stock, s.wanted))
  from seen s order by s.n;
select is_empty('select n, fulfilled_by, status, item, stock, reserved, wanted_reserved from seen where reserved <> wanted_reserved',
    'each holds what its row says (what is sold is in the shop''s stock at once, so nothing is held until then)');
select is_empty('select n, fulfilled_by, status, item, stock, moved, wanted_moved from seen where moved <> wanted_moved',
    'each moves what its row says');
select is_empty('select position from amzmp.order_decision where position not in (select position from seen)', 'every row decides something');

-- A shop that takes its stock itself: what is sold is held until it has taken the order over.
select amzmp.reduce_stock('orders') \g /dev/null
select arrives(:account_id, an_order('778-0000001-0000001', 'UNSHIPPED', 1, jsonb_build_array(item('7781', 'MUG', 4, 0, 4)))) \g /dev/null
select arrives(:account_id, an_order('778-0000002-0000002', 'UNSHIPPED', 1, jsonb_build_array(item('7782', 'MUG', 6, 0, 6)))) \g /dev/null
select arrives(:account_id, an_order('778-0000003-0000003', 'UNSHIPPED', 1, jsonb_build_array(item('7783', 'MUG', 1, 0, 1)))) \g /dev/null
select results_eq($$select import_state, short_stock from amzmp.orders where amazon_order_id like '778%' order by amazon_order_id$$,
    $$values ('imported', false), ('imported', false), ('held_short_stock', true)$$, 'ten of ten are enough; the eleventh is one too many');
select is((select sum(r.quantity) from amzmp.reservation r where r.sku = 'MUG' and r.released_at is null), 11::bigint, 'all of them are held back from sale');
select arrives(:account_id, an_order('778-0000001-0000001', 'UNSHIPPED', 2, jsonb_build_array(item('7781', 'MUG', 4, 0, 4)))) \g /dev/null
select is((select o.import_state from amzmp.orders o where o.amazon_order_id = '778-0000001-0000001'), 'imported', 'who had enough keeps it');

-- How held orders go on.
update amzmp.product set quantity = 11 where sku = 'MUG';
select amzmp._queue_imports(:account_id) \g /dev/null
select is((select o.import_state from amzmp.orders o where o.amazon_order_id = '778-0000003-0000003'), 'imported', 'stock that comes lets it go on');
select arrives(:account_id, an_order('778-0000004-0000004', 'UNSHIPPED', 1, jsonb_build_array(item('7784', 'OUT', 1, 0, 1)))) \g /dev/null
select is((select o.import_state from amzmp.orders o where o.amazon_order_id = '778-0000004-0000004'), 'held_short_stock', 'nothing there, held');
select is(amzmp.redeliver('orders_DE'), 0, 'redeliver without names leaves what a person should look at');
select is(amzmp.redeliver('orders_DE', '{778-0000004-0000004}'), 1, 'named, it goes on as a backorder');
select arrives(:account_id, an_order('778-0000004-0000004', 'UNSHIPPED', 3, jsonb_build_array(item('7784', 'OUT', 1, 0, 1)))) \g /dev/null
select is((select o.import_state from amzmp.orders o where o.amazon_order_id = '778-0000004-0000004'), 'imported', 'and stays so');
select amzmp.set('orders_DE', 'on_short_stock', 'backorder') \g /dev/null
select amzmp.set('orders', 'on_disabled_item', 'import') \g /dev/null
select arrives(:account_id, an_order('778-0000005-0000005', 'UNSHIPPED', 1, jsonb_build_array(item('7785', 'OUT', 1, 0, 1), item('7786', 'OFF', 1, 0, 1)))) \g /dev/null
select results_eq($$select import_state, short_stock from amzmp.orders where amazon_order_id = '778-0000005-0000005'$$,
    $$values ('imported', true)$$, 'settings let both through, and the shortage is still to be seen');
select amzmp._queue_imports(:account_id) \g /dev/null
select is((select count(*) from amzmp.orders o where o.import_state in ('held_short_stock', 'held_disabled_item')), 0::bigint,
    'and those held before with them');

-- Rejecting, which no switch does by itself.
select is((select count(*) from amzmp.cancellation c where c.account_id = :account_id and c.requested_by = 'SELLER'), 0::bigint, 'every switch is off: nothing was cancelled');
select amzmp.set('orders_DE', 'on_short_stock', 'hold'), amzmp.set('orders', 'on_disabled_item', 'hold') \g /dev/null
select amzmp.set('orders', s, 'true') from unnest('{reject_unknown_item,reject_disabled_item,reject_short_stock}'::text[]) s \g /dev/null
select arrives(:account_id, an_order(format('781-000000%s-0000001', v.n), v.status, 1, jsonb_build_array(item('781' || v.n, v.sku, 1)),
    jsonb_build_object('fulfillment', jsonb_build_object('fulfillmentStatus', v.status, 'fulfilledBy', v.side))))
  from (values (1, 'UNSHIPPED', 'NOBODY', 'MERCHANT'), (2, 'UNSHIPPED', 'OFF', 'MERCHANT'), (3, 'UNSHIPPED', 'OUT', 'MERCHANT'), (4, 'UNSHIPPED', 'PEN', 'MERCHANT'),
               (5, 'PENDING', 'NOBODY', 'MERCHANT'), (6, 'UNSHIPPED', 'NOBODY', 'AMAZON'), (7, 'PARTIALLY_SHIPPED', 'NOBODY', 'MERCHANT')) as v (n, status, sku, side) \g /dev/null
select results_eq($$select amazon_order_id, state, decided_by::text collate "default" from amzmp.cancellation where amazon_order_id like '781%' order by 1$$,
    $$values ('781-0000001-0000001', 'queued', 'reject_unknown_item'), ('781-0000002-0000001', 'queued', 'reject_disabled_item'),
             ('781-0000003-0000001', 'queued', 'reject_short_stock')$$, 'each switch cancels its own kind, and nothing that is not to be sent by the merchant, whole');

-- What Amazon may invent, or leave out of its list, can be handed over like any other.
select lives_ok($$select amzmp.set('orders_DE', 'order_statuses', 'UNSHIPPED, INVOICE_UNCONFIRMED')$$, 'a status that only some countries have can be chosen');

-- By channel: statuses handed over, and who ships.
create function orders_test.take(account_id bigint, amazon_order_id text) returns text language sql as 'select amazon_order_id';
grant execute on function orders_test.take(bigint, text) to orders_shop;
select amzmp.set('orders_DE', 'order_statuses', 'PENDING, SHIPPED') \g /dev/null
select amzmp.deliver_orders_to('orders_DE', 'orders_test.take(bigint, text)', run_as => 'orders_shop') \g /dev/null
select work(:account_id) \g /dev/null
select arrives(:account_id, an_order('782-0000001-0000001', 'UNSHIPPED', 1, jsonb_build_array(item('7821', 'PEN', 1)))) \g /dev/null
select is(amzmp.cancel_order('orders', '782-0000001-0000001'), 'queued', 'an order that is never to be handed over is cancelled without waiting for that');
select set_eq($$select distinct status from amzmp.orders where import_state = 'delivered'$$, array['PENDING', 'SHIPPED'],
    'a channel''s own choice of statuses is handed over');
select amzmp.set('orders_DE', 'order_fulfillment', 'merchant') \g /dev/null
select arrives(:account_id, an_order('779-0000001-0000001', 'UNSHIPPED', 1, jsonb_build_array(item('7791', 'PEN', 1)),
    '{"fulfillment": {"fulfillmentStatus": "UNSHIPPED", "fulfilledBy": "AMAZON"}}')) \g /dev/null
select arrives(:account_id, an_order('779-0000002-0000002', 'UNSHIPPED', 1, jsonb_build_array(item('7792', 'PEN', 1)),
    '{"fulfillment": {"fulfillmentStatus": "UNSHIPPED", "fulfilledBy": "AMAZON"}, "salesChannel": {"channelName": "AMAZON", "marketplaceId": "A13V1IB3VIYZZH"}}')) \g /dev/null
select results_eq($$select amazon_order_id from amzmp.orders where amazon_order_id like '779%'$$, array['779-0000002-0000002'],
    'and its own choice of who ships');

select amzmp.set('orders_DE', 'order_fulfillment', null) \g /dev/null

-- Without order_start, what was placed before the channel was here comes in while somebody has to do something about it.
select amzmp.set('orders', 'order_start', null) \g /dev/null
select arrives(:account_id, an_order(format('783-000000%s-0000001', v.n), v.status, 1, jsonb_build_array(item('783' || v.n, 'PEN', 1)), v.extra))
  from (values (1, 'SHIPPED', '{}'::jsonb), (2, 'CANCELLED', '{}'), (3, 'UNFULFILLABLE', '{}'), (4, 'PENDING', '{}'), (5, 'UNSHIPPED', '{}'),
               (6, 'SHIPPED', jsonb_build_object('createdTime', to_char(now() at time zone 'UTC' - interval '11 hours', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))) as v (n, status, extra) \g /dev/null
select results_eq($$select substr(amazon_order_id, 11, 1), status from amzmp.orders where amazon_order_id ~ '^783' order by 1$$,
    $$values ('4', 'PENDING'), ('5', 'UNSHIPPED'), ('6', 'SHIPPED')$$, 'what was over before that moves no stock and is not handed over');
select arrives(:account_id, an_order('783-0000005-0000001', 'SHIPPED', 2, jsonb_build_array(item('7835', 'PEN', 1)))) \g /dev/null
select is(o.status, 'SHIPPED', 'what came in is followed to its end') from amzmp.orders o where o.amazon_order_id = '783-0000005-0000001';
select amzmp.set('orders', 'order_start', '2026-01-01T00:00:00Z') \g /dev/null

-- Documented numbers.
select is(amzmp.format_order_number('403-1234567-8765432', v.format, v.marketplace, v.prefix, v.side, 1100001), v.number, v.format)
  from (values ('', null, null, null, '403-1234567-8765432'),
               ('AMZ-{n1}{n3}{n2}', null, null, null, 'AMZ-40387654321234567'),
               ('{marketplace}-{number}', 'US', null, null, 'US-1100001'),
               ('{amazon_id}', 'US', 'AMZ', 'AMAZON', '403-1234567-8765432'),
               ('{prefix}-{number}', null, 'AMZN', null, 'AMZN-1100001'),
               ('{fulfillment}-{number}', null, null, 'AMAZON', 'AFN-1100001'),
               ('{fulfillment}-{number}', null, null, 'MERCHANT', 'MFN-1100001'),
               ('{fulfilment}-{number}', null, null, 'MERCHANT', 'MFN-1100001'),
               ('{prefix}-{fulfillment}-{marketplace}{amazon_id}', 'US', 'AMZ', 'AMAZON', 'AMZ-AFN-US403-1234567-8765432'))
       as v (format, marketplace, prefix, side, number);
select throws_ok($$select amzmp.set('orders_DE', 'order_number_format', 'AMZ-{n4}')$$, 'AZ202', null, 'a placeholder that there is not is refused');
select throws_ok($$select amzmp.set('orders_DE', 'order_number_format', 'AMZ-{n1')$$, 'AZ202', null, 'and one that does not end');
select lives_ok($$select amzmp.set('orders_DE', 'order_number_format', '')$$, 'an empty format is Amazon''s number');
select amzmp.set('orders_DE', 'order_number_format', '{marketplace}-{number}') \g /dev/null
select arrives(:account_id, an_order('780-0000001-0000001', 'PENDING', 1, jsonb_build_array(item('7801', 'PEN', 1)))) \g /dev/null
select arrives(:account_id, an_order('780-0000001-0000001', 'UNSHIPPED', 2, jsonb_build_array(item('7801', 'PEN', 1)))) \g /dev/null
select matches(o.order_number, '^DE-11\d{5}$', 'a running number is given once') from amzmp.orders o where o.amazon_order_id = '780-0000001-0000001';

select amzmp.set('orders_DE', 'order_number_format', '{prefix}{n1}'), amzmp.set('orders', 'order_number_prefix', 'O-'), amzmp.set('orders', 'order_number_prefix_business', 'B-'),
    amzmp.set('orders_DE', 'order_number_prefix_prime', 'P-'), amzmp.set('orders', 'order_number_prefix_amazon', 'A-') \g /dev/null
select arrives(:account_id, an_order(v.n || '-0000001-0000001', 'PENDING', 1, jsonb_build_array(item(v.n, 'PEN', 1)), jsonb_build_object('programs', v.programs,
        'fulfillment', jsonb_build_object('fulfillmentStatus', 'PENDING', 'fulfilledBy', v.side))))
  from (values ('791', '[]'::jsonb, 'MERCHANT'), ('792', '["PRIME", "AMAZON_BUSINESS"]', 'AMAZON'), ('793', '["PRIME"]', 'MERCHANT'), ('794', '[]', 'AMAZON')) as v (n, programs, side) \g /dev/null
select results_eq($$select order_number from amzmp.orders where amazon_order_id ~ '^79' order by amazon_order_id$$, array['O-791', 'B-792', 'P-793', 'A-794'],
    'ordinary orders, those of businesses, Prime orders and Amazon''s own have their prefixes');

-- Items by ASIN.
select amzmp.set('orders', 'item_key', 'asin') \g /dev/null
update amzmp.product set asin = 'B00LATER' where sku = 'HAT';
select arrives(:account_id, an_order('780-0000002-0000002', 'UNSHIPPED', 1, jsonb_build_array(item('7802', 'LATER', 1)))) \g /dev/null
select is((select i.shop_sku from amzmp.order_item i where i.order_item_id = '7802'), 'HAT', 'a line is found by its ASIN where the setting says so');

select * from finish();
rollback;
