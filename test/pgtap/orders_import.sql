-- orders_import.sql
-- What becomes of the orders that Amazon sends: parked, imported once, in whatever order they arrive; what they hold
-- and move; what is held because the shop does not know it. Amazon's answers are given to the handlers as the sender
-- would give them; the shop's SQL runs as the shop's role.

\ir orders_setup.psql

create function stock() returns text language sql as $$
    select string_agg(sku || '=' || stock, ' ' order by sku) from orders_test.product;
$$;
grant execute on all functions in schema orders_test to public;

/* ---- the poll: window, pages, watermark ---- */

select amzmp.set('orders', 'order_start', null) \g /dev/null
select amzmp._flow_get_orders(:account_id, 0, 1) \g /dev/null
select amzmp.set('orders', 'order_start', '2026-01-01T00:00:00Z') \g /dev/null
select is(r.params - 'lastUpdatedAfter', '{"includedData": ["FULFILLMENT", "PROCEEDS", "CANCELLATION", "PACKAGES", "BUYER", "RECIPIENT", "TAX",
    "PAYMENT", "PROMOTION", "EXPENSE", "FULFILLMENT_ORDERS"], "marketplaceIds": ["A1PA6795UKMFR9"],
    "maxResultsPerPage": 100}'::jsonb, 'the poll asks for all data of the active marketplaces')
  from amzmp.request r where r.account_id = :account_id;
select ok((r.params ->> 'lastUpdatedAfter')::timestamptz between now() - interval '12 hours 5 minutes' and now() - interval '11 hours 55 minutes',
    'the first one looks back as far as order_look_back says')
  from amzmp.request r where r.account_id = :account_id;

select amzmp._flow_get_orders(:account_id, 0, 2) \g /dev/null
select is(count(*), 1::bigint, 'a poll that is under way is not overtaken by the next')
  from amzmp.request r where r.account_id = :account_id;

select answer(:account_id, 'searchOrders', 200, jsonb_build_object(
    'orders', jsonb_build_array(an_order('301-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('11', 'MUG', 2, 0, 2)))),
    'pagination', '{"nextToken": "t1"}'::jsonb, 'lastUpdatedBefore', '2026-03-01T12:00:00Z')) \g /dev/null
select is(r.params ->> 'paginationToken', 't1', 'the next page is asked for by its token')
  from amzmp.request r where r.account_id = :account_id;
select is((select c.watermark from amzmp.order_cursor c where c.account_id = :account_id), null,
    'the watermark does not move before the last page is in');

select answer(:account_id, 'searchOrders', 400, null, 'InvalidInput') \g /dev/null
select ok(not r.params ? 'paginationToken', 'a refused page token begins the window again')
  from amzmp.request r where r.account_id = :account_id;
select answer(:account_id, 'searchOrders', 200, jsonb_build_object(
    'orders', jsonb_build_array(an_order('301-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('11', 'MUG', 2, 0, 2))),
                                '{"orderId": "not one"}'::jsonb,
                                an_order('301-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('11', 'MUG', 2, 0, 2)))),
    'lastUpdatedBefore', '2026-03-01T12:00:00Z')) \g /dev/null
select is((select c.watermark from amzmp.order_cursor c where c.account_id = :account_id), '2026-03-01 12:00Z'::timestamptz,
    'the last page moves the watermark to where Amazon''s search ended');
select results_eq(format($$select (select count(*) from amzmp.orders o where o.account_id = a.account_id),
        (select count(*) from amzmp.parked_order p where p.account_id = a.account_id)
      from amzmp.account a where a.account_id = %s$$, :account_id),
    $$values (1::bigint, 0::bigint)$$,
    'an order that is in several pages, or twice in one, is imported once, with its page; a malformed one stops nothing');
select ok((select position('A MUG' in encode(b.raw, 'escape')) = 0 from amzmp.order_buyer b where b.account_id = :account_id),
    'what is kept of it is sealed');

update amzmp.order_cursor set watermark = now() - interval '1 hour' where account_id = :account_id;
select amzmp._flow_get_orders(:account_id, 0, 3) \g /dev/null
select ok((r.params ->> 'lastUpdatedAfter')::timestamptz between now() - interval '71 minutes' and now() - interval '69 minutes',
    'a later poll begins at the watermark less the overlap')
  from amzmp.request r where r.account_id = :account_id;
select answer(:account_id, 'searchOrders', 400, null, 'InvalidInput') \g /dev/null
select is(r.params -> 'includedData', '["FULFILLMENT", "PROCEEDS", "CANCELLATION", "PACKAGES", "BUYER", "RECIPIENT", "TAX"]'::jsonb,
    'refused data sets: what is not served everywhere is left out')
  from amzmp.request r where r.account_id = :account_id;
select amzmp._request_order(:account_id, '399-0000001-0000001', null) \g /dev/null
select is(r.params ->> 'includedData' like '%PAYMENT%', false, 'of single orders too')
  from amzmp.request r where r.account_id = :account_id and r.operation = 'getOrder';
delete from amzmp.request where operation = 'getOrder';
select answer(:account_id, 'searchOrders', 400, null, 'InvalidInput') \g /dev/null
select is(r.params -> 'includedData', '["FULFILLMENT", "PROCEEDS", "CANCELLATION"]'::jsonb, 'refused again: less is asked for')
  from amzmp.request r where r.account_id = :account_id;
select answer(:account_id, 'searchOrders', 403, null, 'Unauthorized') \g /dev/null
select results_eq(format('select window_open, watermark > now() - interval ''61 minutes'' from amzmp.order_cursor where account_id = %s', :account_id),
    $$values (false, true)$$, 'a poll that fails leaves the watermark where it was and lets the next one begin');
update amzmp.order_cursor set detail = 0 where account_id = :account_id;

/* ---- importing without any SQL of the shop's ---- */

alter table amzmp.order_item add constraint order_item_test check (sku <> 'BROKEN');
select take(:account_id, jsonb_build_array(
    an_order('398-0000001-0000001', 'CANCELLED', 0, jsonb_build_array(item('3981', 'MUG', 1))),
    an_order('398-0000002-0000002', 'CANCELLED', 0, jsonb_build_array(item('3982', 'BROKEN', 1))),
    an_order('398-0000003-0000003', 'CANCELLED', 0, jsonb_build_array(item('3985', 'MUG', 1))))::text, true, false) \g /dev/null
select results_eq($$select amazon_order_id from amzmp.parked_order order by 1$$,
    $$values ('398-0000001-0000001'), ('398-0000002-0000002'), ('398-0000003-0000003')$$, 'a page that cannot be imported as one is parked');
select ok((select bool_and(position('A MUG' in encode(p.sealed, 'escape')) = 0) from amzmp.parked_order p), 'sealed');
select work(:account_id) \g /dev/null
select results_eq($$select amazon_order_id from amzmp.orders where amazon_order_id like '398-%' order by 1$$,
    $$values ('398-0000001-0000001'), ('398-0000003-0000003')$$, 'and a bad order costs itself alone');
select results_eq($$select amazon_order_id, failed_at is not null, failure_reason like '%constraint%' from amzmp.parked_order$$,
    $$values ('398-0000002-0000002', true, true)$$, 'it stays parked with its reason; imported ones do not');
alter table amzmp.order_item drop constraint order_item_test;
delete from amzmp.orders where amazon_order_id like '398-%';
delete from amzmp.order_item where amazon_order_id like '398-%';
delete from amzmp.parked_order;
delete from amzmp.penalty where subject like '398-%';
select results_eq(format($$select order_number, status, fulfilled_by, is_prime, channel_id, import_state
    from amzmp.orders where account_id = %s$$, :account_id),
    format($$values ('301-0000001-0000001', 'UNSHIPPED', 'MERCHANT', true, %s::bigint, 'imported')$$, :channel_id), 'the order is there');
select results_eq(format($$select sku, shop_sku, quantity_ordered, currency, unit_price, item_price, item_tax,
    shipping_tax, tax_total, total
                             from amzmp.order_item where account_id = %s$$, :account_id),
    $$values ('MUG', 'MUG', 2, 'EUR', 12.50, 25.00, 4.00, 0.75, 4.75, 29.75)$$, 'so are its lines, with money as numeric');
select results_eq(format($$select sku, quantity, cause, reduces_stock from amzmp.movement where account_id = %s$$, :account_id),
    $$values ('MUG', -2, 'sale', false)$$, 'the sale is one movement');
select is((select sum(r.quantity) from amzmp.reservation r where r.account_id = :account_id and r.released_at is null), 2::bigint,
    'and holds its units until the shop has taken the order over');

select arrives(:account_id, an_order('301-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('11', 'MUG', 2, 0, 2)))) \g /dev/null
select arrives(:account_id, an_order('301-0000001-0000001', 'PENDING', -5, jsonb_build_array(item('11', 'MUG', 7)))) \g /dev/null
select results_eq(format($$select o.status, i.quantity_ordered from amzmp.orders o
    join amzmp.order_item i using (account_id, amazon_order_id) where o.account_id = %s$$, :account_id),
    $$values ('UNSHIPPED', 2)$$, 'the same version again, and an older one, change nothing');
select arrives(:account_id, an_order('301-0000001-0000001', 'PENDING', 5, jsonb_build_array(item('11', 'MUG', 2, 0, 2)))) \g /dev/null
select is(o.status, 'UNSHIPPED', 'a status never goes back') from amzmp.orders o where o.account_id = :account_id;
select arrives(:account_id, an_order('301-0000001-0000001', 'SHIPPED', 10, jsonb_build_array(item('11', 'MUG', 2, 2, 0)))) \g /dev/null
select is((select count(*) from amzmp.movement m where m.account_id = :account_id), 1::bigint, 'shipping moves no stock again');
select is((select r.release_cause from amzmp.reservation r where r.account_id = :account_id), 'shipped', 'an order that is shipped holds nothing');

/* ---- the shop's stock is written in the transaction of the import ---- */

select throws_ok($$select amzmp.reduce_stock('orders', relation => 'orders_test.product')$$, '42501', null,
    'a superuser must name a role for the shop''s SQL');
select throws_ok($$select amzmp.reduce_stock('orders', relation => 'orders_test.product', run_as => 'amzmp_admin')$$, '42501', null,
    'and that role must be able to log in');
select throws_ok($$select amzmp.reduce_stock('orders', relation => 'orders_test.product', stock_column => 'stokc', run_as => 'orders_shop')$$,
    'AZ202', null, 'a column that is not there is refused');
create view orders_test.stock_of_all as select sku, sum(stock)::integer as stock from orders_test.product group by sku;
grant select, update on orders_test.stock_of_all to orders_shop;
select throws_ok($$select amzmp.reduce_stock('orders', relation => 'orders_test.stock_of_all', run_as => 'orders_shop')$$,
    'AZ202', 'orders_test.stock_of_all cannot be updated', 'nor can a view be written that nobody can write');
select amzmp.reduce_stock('orders', relation => 'orders_test.product', run_as => 'orders_shop') \g /dev/null

select arrives(:account_id, an_order('302-0000002-0000002', 'PENDING', 0, jsonb_build_array(item('21', 'MUG', 3), item('22', 'HAT', 1)))) \g /dev/null
select is(stock(), 'HAT=5 MUG=10 PEN=100', 'a pending order moves nothing');
select results_eq(format($$select sku, quantity from amzmp.reservation
    where account_id = %s and released_at is null order by sku$$, :account_id),
    $$values ('HAT', 1), ('MUG', 3)$$, 'it reserves');
select arrives(:account_id, an_order('302-0000002-0000002', 'UNSHIPPED', 1, jsonb_build_array(item('21', 'MUG', 3, 0, 3), item('22', 'HAT', 1, 0, 1)))) \g /dev/null
select is(stock(), 'HAT=4 MUG=7 PEN=100', 'a paid one takes its units off the shop''s stock');
select is((select count(*) from amzmp.reservation r where r.account_id = :account_id and r.released_at is null), 0::bigint,
    'and then holds them no longer');
select arrives(:account_id, an_order('302-0000002-0000002', 'UNSHIPPED', 2, jsonb_build_array(item('21', 'MUG', 3, 0, 3), item('22', 'HAT', 1, 0, 1)))) \g /dev/null
select is(stock(), 'HAT=4 MUG=7 PEN=100', 'a change that concerns no quantity moves nothing');
select arrives(:account_id, an_order('302-0000002-0000002', 'CANCELLED', 3, jsonb_build_array(item('21', 'MUG', 3, 0, 0), item('22', 'HAT', 1, 0, 0)))) \g /dev/null
select is(stock(), 'HAT=5 MUG=10 PEN=100', 'a cancelled one gives them back');
select results_eq(format($$select order_item_id, revision, quantity, cause, applied_at is not null from amzmp.movement
                            where account_id = %s and amazon_order_id = '302-0000002-0000002' order by 1, 2$$, :account_id),
    $$values ('21', 1, -3, 'sale', true), ('21', 2, 3, 'cancellation', true), ('22', 1, -1, 'sale', true), ('22', 2, 1, 'cancellation', true)$$,
    'every movement is kept with its cause');

select arrives(:account_id, an_order('303-0000003-0000003', 'CANCELLED', 9, jsonb_build_array(item('31', 'MUG', 3)))) \g /dev/null
select arrives(:account_id, an_order('303-0000003-0000003', 'UNSHIPPED', 4, jsonb_build_array(item('31', 'MUG', 3)))) \g /dev/null
select is(stock(), 'HAT=5 MUG=10 PEN=100', 'a cancellation that arrives before the order leaves the stock alone');
select arrives(:account_id, an_order('304-0000004-0000004', 'UNSHIPPED', 1, jsonb_build_array(item('41', 'MUG', 3)),
    '{"fulfillment": {"fulfillmentStatus": "UNSHIPPED", "fulfilledBy": "AMAZON"}}')) \g /dev/null
select is(stock(), 'HAT=5 MUG=10 PEN=100', 'what Amazon ships moves no merchant stock');
select is((select count(*) from amzmp.movement m where m.amazon_order_id = '304-0000004-0000004'), 0::bigint, 'nor makes a movement');
select arrives(:account_id, an_order('305-0000005-0000005', 'PARTIALLY_SHIPPED', 1, jsonb_build_array(
    item('51', 'PEN', 10, 4, 0, '{"cancellation": {"cancellationExecution": {"cancelledBy": "MERCHANT"}}}')))) \g /dev/null
select is(stock(), 'HAT=5 MUG=10 PEN=96', 'of a line cancelled in part, what was shipped is sold');
select arrives(:account_id, an_order('306-0000006-0000006', 'INVOICE_UNCONFIRMED', 1, jsonb_build_array(item('61', 'HAT', 1)))) \g /dev/null
select results_eq($$select o.status, r.quantity from amzmp.orders o join amzmp.reservation r using (account_id, amazon_order_id)
                     where o.amazon_order_id = '306-0000006-0000006'$$,
    $$values ('INVOICE_UNCONFIRMED', 1)$$, 'a status that we do not know is kept, and holds stock');
select arrives(:account_id, an_order('307-0000007-0000007', 'UNSHIPPED', 1, jsonb_build_array(item('71', 'HAT', 9)))) \g /dev/null
select is(stock(), 'HAT=-4 MUG=10 PEN=96', 'what Amazon has sold is sold, even below nothing');

-- The shop refuses: the order is there all the same, its units stay held, and nothing is lost.
create function orders_test.refuse() returns trigger language plpgsql as $$begin raise exception 'no hats in this weather'; end$$;
create trigger never_hats before update on orders_test.product for each row when (new.sku = 'HAT') execute function orders_test.refuse();
select arrives(:account_id, an_order('308-0000008-0000008', 'UNSHIPPED', 1, jsonb_build_array(item('81', 'HAT', 2, 0, 2), item('82', 'PEN', 1, 0, 1)))) \g /dev/null
select is(stock(), 'HAT=-4 MUG=10 PEN=96', 'when one row of the shop refuses, none is changed');
select results_eq($$select import_state, failure_reason like 'stock: %(P0001)' from amzmp.orders where amazon_order_id = '308-0000008-0000008'$$,
    $$values ('quarantined', true)$$, 'the order is put aside with the reason');
select is((select sum(r.quantity) from amzmp.reservation r where r.amazon_order_id = '308-0000008-0000008' and r.released_at is null), 3::bigint,
    'its units stay held');
drop trigger never_hats on orders_test.product;
select is(amzmp.redeliver('orders_DE'), 1, 'redeliver tries it again');
select work(:account_id) \g /dev/null
select is(stock(), 'HAT=-6 MUG=10 PEN=95', 'and now each unit has moved once');

select throws_ok(format($$select amzmp.begin_import(%s, '301-0000001-0000001')$$, :account_id), '42501', null,
    'nobody but the registered role may do the runner''s steps');

/* ---- items that the shop does not know ---- */

insert into amzmp.source (account_id, source_id, run_as, relation, expressions, fields, sku_type)
values (:account_id, 900001, 'orders_shop', 'orders_test.product', '{"sku": "sku"}', 'sku', 'text');
insert into amzmp.product (account_id, source_id, sku, quantity) select :account_id, 900001, p.sku, p.stock from orders_test.product p;

select arrives(:account_id, an_order('309-0000009-0000009', 'UNSHIPPED', 1, jsonb_build_array(item('91', 'PEN', 5), item('92', 'OLD-MUG', 4)))) \g /dev/null
select is(stock(), 'HAT=-6 MUG=10 PEN=90', 'the known line has moved');
select results_eq($$select account, sku, orders, units, amazon_order_ids from amzmp.unknown_item$$,
    $$values ('orders', 'OLD-MUG', 1::bigint, 4::bigint, array['309-0000009-0000009'])$$, 'the unknown one is listed');
select is(o.import_state, 'held_unknown_item', 'and holds its order') from amzmp.orders o where o.amazon_order_id = '309-0000009-0000009';
select throws_ok($$select amzmp.link_item('orders', 'OLD-MUG', 'NOT-THERE')$$, 'AZ202', null, 'it cannot be linked to nothing');
select is(amzmp.link_item('orders', 'OLD-MUG', 'MUG'), 1, 'linking it lets the order go on');
select work(:account_id) \g /dev/null
select is(stock(), 'HAT=-6 MUG=6 PEN=90', 'its units leave the product that was meant');
select is(o.import_state, 'imported', 'and the order is held no longer') from amzmp.orders o where o.amazon_order_id = '309-0000009-0000009';
select is((select p.quantity from amzmp.product p where p.source_id = 900001 and p.sku = 'MUG'), 6::bigint,
    'what was last read of the shop is corrected with it');

-- the shop makes it
create table orders_test.made (sku text, asin text, title text);
grant insert on orders_test.made to orders_shop;
create function orders_test.make(account_id bigint, amazon_sku text, asin text, title text) returns text language plpgsql as $$
begin
    if amazon_sku = 'BAD' then
        raise exception 'no place for "%"', title;
    end if;
    insert into orders_test.made values (amazon_sku, asin, title);
    return case amazon_sku when 'NO' then null else 'PEN' end;
end $$;
grant execute on function orders_test.make(bigint, text, text, text) to orders_shop;
select throws_ok($$select amzmp.create_item('orders', 'NEW-PEN')$$, 'AZ003', null, 'nothing is made without a function for it');
select amzmp.create_items_with('orders', 'orders_test.make(bigint, text, text, text)', run_as => 'orders_shop') \g /dev/null
select throws_ok($$select amzmp.create_item('orders', 'NEW-PEN')$$, 'AZ203', null, 'nor what nobody has ordered');
select take(:account_id, jsonb_build_array(
    an_order('313-0000001-0000001', 'UNSHIPPED', 1, jsonb_build_array(item('131', 'NEW-PEN', 1))),
    an_order('313-0000002-0000002', 'UNSHIPPED', 1, jsonb_build_array(item('132', 'NEW-PEN', 2), item('133', 'BAD', 1))),
    an_order('313-0000003-0000003', 'UNSHIPPED', 1, jsonb_build_array(item('134', 'NO', 1))))::text, true, false) \g /dev/null
select work(:account_id) \g /dev/null
select is((select count(*) from amzmp.unknown_item), 3::bigint, 'unknown products wait for somebody');
select amzmp.create_item('orders', u.sku) from amzmp.unknown_item u \g /dev/null
select work(:account_id) \g /dev/null
select results_eq($$select sku, title from orders_test.made order by 1$$, $$values ('NEW-PEN', 'A NEW-PEN'), ('NO', 'A NO')$$,
    'each is made once, however many orders wait for it');
select results_eq($$select amazon_order_id, import_state from amzmp.orders where amazon_order_id like '313%' order by 1$$,
    $$values ('313-0000001-0000001', 'imported'), ('313-0000002-0000002', 'held_unknown_item'), ('313-0000003-0000003', 'held_unknown_item')$$,
    'its orders go on, those of refused ones stay');
select is(stock(), 'HAT=-6 MUG=6 PEN=87', 'and the units of all linked lines are sold');
select ok(exists (select from amzmp.activity a where a.subject = 'BAD' and a.level = 'error' and a.message ~ 'no place for …' or a.message ~ 'no place for "…"'),
    'why one was refused is in the log');
select amzmp.create_items_with('orders', 'orders_test.make(bigint, text, text, text)', automatic => true, run_as => 'orders_shop') \g /dev/null
select arrives(:account_id, an_order('313-0000004-0000004', 'UNSHIPPED', 1, jsonb_build_array(item('135', 'NEWER-PEN', 1)))) \g /dev/null
select is((select o.import_state from amzmp.orders o where o.amazon_order_id = '313-0000004-0000004'), 'imported', 'or as soon as it is ordered');
select amzmp.create_items_with('orders', null) \g /dev/null

/* ---- totals ---- */

select results_eq($$select amzmp._totals_agree(t, p, x, d)
    from (values (119, 100, 19, 0), (119, 119, 19, 0), (109, 100, 19, -10), (109, 100, 19, 10),
                        (120, 100, 19, 0), (null, 0, 0, 0)) as v (t, p, x, d)$$,
    array[true, true, true, true, false, null], 'parts add up in one way of reading them, or the order is flagged');

/* ---- the invariant, over everything that happened ---- */

select is_empty(format($$
    select i.order_item_id
      from amzmp.orders o
      join amzmp.order_item i using (account_id, amazon_order_id)
      left join amzmp.movement m on m.account_id = i.account_id and m.order_item_id = i.order_item_id
     where o.account_id = %s and i.shop_sku is not null
     group by i.order_item_id, o.status, o.fulfilled_by, i.quantity_ordered, i.quantity_fulfilled, i.quantity_unfulfilled, i.cancellation
    having coalesce(-sum(m.quantity), 0) <> amzmp._sold_units(o.status, o.fulfilled_by, i.quantity_ordered, i.quantity_fulfilled,
               i.quantity_unfulfilled, i.cancellation -> 'cancellationExecution' is not null)$$, :account_id),
    'the movements of every line add up to what its latest state asks for');

/* ---- payment, promotions, points, Easy Ship ---- */

select amzmp._request_order(:account_id, '312-0000012-0000012', null) \g /dev/null
select ok(r.params ->> 'includedData' like '%PAYMENT%', 'a single order is asked for with everything')
  from amzmp.request r where r.account_id = :account_id and r.operation = 'getOrder';
select answer(:account_id, 'getOrder', 400, null, 'InvalidInput') \g /dev/null
select ok(r.params ->> 'includedData' not like '%PAYMENT%', 'and where that is refused, with less')
  from amzmp.request r where r.account_id = :account_id and r.operation = 'getOrder';
select answer(:account_id, 'getOrder', 200, jsonb_build_object('order', an_order('312-0000012-0000012', 'UNSHIPPED', 1, jsonb_build_array(
    item('121', 'PEN', 1, extra => '{"promotion": {"breakdowns": [{"promotionId": "SAVE-5"}, {"promotionId": "COUPON"}]},
        "expense": {"pointsCost": {"pointsGranted": {"pointsNumber": 12, "pointsMonetaryValue": {"amount": "12", "currencyCode": "JPY"}}}}}'),
    item('122', 'PEN', 1)),
    '{"payment": {"paymentExecutions": [{"paymentMethod": "CreditCard", "paymentAmount": {"amount": "9", "currencyCode": "EUR"},
        "authorizationCode": "4711", "cardBrand": "X", "acquirerId": "Y"}, {"paymentMethod": "GiftCard"}]},
      "fulfillmentOrders": [{"fulfillmentOrderId": "FO-1"}]}'))) \g /dev/null
select work(:account_id) \g /dev/null
select results_eq($$select payments, fulfillment_orders, complete from amzmp.orders where amazon_order_id = '312-0000012-0000012'$$,
    $$values ('[{"paymentMethod": "CreditCard", "paymentAmount": {"amount": "9", "currencyCode": "EUR"}}, {"paymentMethod": "GiftCard"}]'::jsonb,
        array['FO-1'], true)$$, 'how an order was paid is kept, without cards and codes; it is complete all the same');
select results_eq($$select promotions, (points ->> 'pointsNumber')::integer from amzmp.order_item where amazon_order_id = '312-0000012-0000012' order by position$$,
    $$values (array['SAVE-5', 'COUPON'], 12), (null::text[], null::integer)$$, 'and which promotions and points came with a line');

/* ---- order numbers ---- */

select is(amzmp.format_order_number('403-1234567-8765432', f.format, 'US', 'AMZ', 'AMAZON'), f.number, f.format)
  from (values ('', '403-1234567-8765432'), ('AMZ-{n1}{n3}{n2}', 'AMZ-40387654321234567'), ('{marketplace}-{n2}', 'US-1234567'),
               ('{prefix}-{fulfillment}-{marketplace}{amazon_id}', 'AMZ-AFN-US403-1234567-8765432')) as f (format, number);
select amzmp.set('orders', 'order_number_format', 'same for all') \g /dev/null
select take(:account_id, jsonb_build_array(
    an_order('310-0000010-0000010', 'UNSHIPPED', 1, jsonb_build_array(item('101', 'PEN', 1))),
    an_order('311-0000011-0000011', 'UNSHIPPED', 1, jsonb_build_array(item('111', 'PEN', 1))))::text, true, false) \g /dev/null
select work(:account_id) \g /dev/null
select set_eq($$select order_number from amzmp.orders where amazon_order_id in ('310-0000010-0000010', '311-0000011-0000011')$$,
    array['same for all', '311-0000011-0000011'], 'a number that is taken gives way to Amazon''s');

select take(:account_id, jsonb_build_array(
    an_order('320-0000001-0000001', 'UNSHIPPED', 1, jsonb_build_array(item('201', 'PEN', 1, 0, 1))),
    an_order('321-0000001-0000001', 'UNSHIPPED', 1, jsonb_build_array(item('201', 'PEN', 2, 0, 2))))::text, true, false) \g /dev/null
select work(:account_id) \g /dev/null
select results_eq($$select amazon_order_id, order_item_id, quantity from amzmp.movement where amazon_order_id ~ '^32[01]-' order by 1$$,
    $$values ('320-0000001-0000001', '201', -1), ('321-0000001-0000001', '201', -2)$$, 'two orders may give a line the same number');

select throws_ok(format($$select amzmp._write_orders(%s, array(
        select o from amzmp._read_orders(an_order('320-0000001-0000001', 'SHIPPED', 2, '[]')::text, '', true) as o), '{}')$$, :account_id),
    '23505', null, 'an order that is there, and was not when orders were locked, is not written past its lock');

select * from finish();
rollback;
