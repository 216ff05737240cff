-- orders_delivery.sql
-- How orders reach the shop's function, how shipments reach Amazon, and who may see a buyer.

\ir orders_setup.psql

grant amzmp_buyer_data to orders_shop;
create role orders_clerk login;
grant amzmp_operator to orders_clerk;
grant usage on schema orders_test to orders_clerk;
grant execute on all functions in schema orders_test to public;

set local role orders_shop;
create table orders_test.shop_order (number serial, amazon_order_id text primary key, name text, city text);
create table orders_test.switch (fail_for text, message text);
insert into orders_test.switch values ('none', '');
create function orders_test.take(account_id bigint, amazon_order_id text) returns text language plpgsql as $$
declare
    b record;
    made integer;
begin
    select * into b from amzmp.buyer('orders', array[take.amazon_order_id]);
    insert into orders_test.shop_order (amazon_order_id, name, city)
    values (take.amazon_order_id, b.recipient_name, b.city) returning number into made;
    if exists (select from orders_test.switch s where s.fail_for = take.amazon_order_id) then
        raise exception '% %', (select s.message from orders_test.switch s), b.recipient_name;
    end if;
    return 'S' || made;
end $$;
create function orders_test.wrong(account_id bigint) returns text language sql as 'select null::text';
reset role;

create function with_buyer() returns jsonb language sql as $$
    select '{"buyer": {"buyerName": "Zoë Quartermain", "buyerEmail": "zq@marketplace.example"},
             "recipient": {"deliveryAddress": {"name": "Zoë Quartermain", "addressLine1": "Törnallee 7", "city": "Lüneburg",
                           "postalCode": "21335", "countryCode": "DE", "phone": "0171 5550000"}}}'::jsonb;
$$;

/* ---- delivery ---- */

select throws_ok($$select amzmp.deliver_orders_to('orders_DE', 'orders_test.wrong(bigint)', run_as => 'orders_shop')$$, 'AZ202', null,
    'a function with other arguments is refused');
select throws_ok($$select amzmp.deliver_orders_to('orders_DE', 'orders_test.take(bigint, text)')$$, '42501', null,
    'a superuser must name the role as which it runs');

select arrives(:account_id, an_order('401-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('11', 'MUG', 2, 0, 2)), with_buyer())) \g /dev/null
select is((select sum(r.quantity) from amzmp.reservation r where r.account_id = :account_id and r.released_at is null), 2::bigint,
    'before the shop has an order, its units are held');
select amzmp.deliver_orders_to('orders_DE', 'orders_test.take(bigint, text)', run_as => 'orders_shop') \g /dev/null
select work(:account_id) \g /dev/null
select results_eq($$select amazon_order_id, name, city from orders_test.shop_order$$,
    $$values ('401-0000001-0000001', 'Zoë Quartermain', 'Lüneburg')$$, 'orders that wait are handed over, and the function may read the address');
select results_eq($$select import_state, delivered_number, delivered_at is not null from amzmp.orders$$,
    $$values ('delivered', 'S1', true)$$, 'with the number that the shop gave');
select is((select r.release_cause from amzmp.reservation r where r.account_id = :account_id), 'delivered', 'the units are the shop''s matter now');
select arrives(:account_id, an_order('401-0000001-0000001', 'UNSHIPPED', 3, jsonb_build_array(item('11', 'MUG', 2, 0, 2)), with_buyer())) \g /dev/null
select is((select count(*) from orders_test.shop_order), 1::bigint, 'a later version is not handed over again');

select arrives(:account_id, an_order('402-0000002-0000002', 'PENDING', 0, jsonb_build_array(item('21', 'MUG', 1)))) \g /dev/null
select is((select count(*) from orders_test.shop_order), 1::bigint, 'a pending order is not handed over');

update orders_test.switch set fail_for = '403-0000003-0000003', message = 'no carrier to Lüneburg for';
select take(:account_id, jsonb_build_array(
    an_order('403-0000003-0000003', 'UNSHIPPED', 0, jsonb_build_array(item('31', 'MUG', 1, 0, 1)), with_buyer()),
    an_order('404-0000004-0000004', 'UNSHIPPED', 0, jsonb_build_array(item('41', 'MUG', 1, 0, 1)), with_buyer()))::text, true, false) \g /dev/null
select work(:account_id) \g /dev/null
select results_eq($$select amazon_order_id, import_state from amzmp.orders where amazon_order_id > '403' order by 1$$,
    $$values ('403-0000003-0000003', 'quarantined'), ('404-0000004-0000004', 'delivered')$$,
    'an order whose function fails is put aside, the next one goes on');
select is((select count(*) from orders_test.shop_order where amazon_order_id like '403%'), 0::bigint, 'what the function had written is undone');
select is(o.failure_reason, 'delivery: no carrier to … for … (P0001)', 'the reason is kept without the buyer''s data')
  from amzmp.orders o where o.amazon_order_id = '403-0000003-0000003';
select is_empty($$select message from amzmp.activity where (message || coalesce(context::text, '')) ~* 'quartermain|neburg|marketplace.example'$$,
    'the log has none of it either');
select results_eq($$select error, tries, message !~ 'Lüneburg' from amzmp.penalised where kind = 'order' and subject = '403-0000003-0000003'$$,
    $$values ('SHOP_REFUSED', 1, true)$$, 'an order that was refused has a penalty, without the buyer''s data');
select is(amzmp._retry_orders(:account_id), 0, 'it is left alone for its time');
update orders_test.switch set message = 'ADDRESS_UNMAPPED: township 137_Merkez of';
update amzmp.penalty set until = now() where subject = '403-0000003-0000003';
select is(amzmp._retry_orders(:account_id), 1, 'and then tried again');
select work(:account_id) \g /dev/null
select results_eq($$select error, tries from amzmp.penalised where subject = '403-0000003-0000003'$$, $$values ('ADDRESS_UNMAPPED', 2)$$,
    'a refusal under a name of its own is filed under it');
update amzmp.penalty set gave_up = true, until = now() where subject = '403-0000003-0000003';
select is(amzmp._retry_orders(:account_id), 0, 'what is given up is not tried');
select is(amzmp.release_penalty('orders_DE', '{403-0000003-0000003}'), 1::bigint, 'until somebody releases it');
select amzmp._retry_orders(:account_id, true) \g /dev/null
select work(:account_id) \g /dev/null
select is(p.tries, 1, 'from then on it is counted anew') from amzmp.penalty as p where p.subject = '403-0000003-0000003';
update orders_test.switch set fail_for = 'none';
select throws_ok($$select amzmp.redeliver('orders_DE', array['401-0000001-0000001'])$$, 'AZ203', null,
    'an order that the shop has is not handed over again by mistake');
select is(amzmp.redeliver('orders_DE'), 1, 'those put aside can be tried again');
select work(:account_id) \g /dev/null
select is((select o.delivered_number from amzmp.orders o where o.amazon_order_id = '403-0000003-0000003'), 'S6', 'and then arrive');
select is_empty($$select * from amzmp.penalty where kind = 'order'$$, 'forgiven');

set local role orders_clerk;
select throws_ok(format($$select amzmp.finish_delivery(%s, '402-0000002-0000002', 'X')$$, :account_id), '42501', null,
    'nobody but the registered role may do the runner''s steps');
select throws_ok($$select amzmp._statement_deliver(1, '402-0000002-0000002', '{}')$$, '42501', null, 'nor call the inner functions');

/* ---- buyers ---- */

select throws_ok($$select * from amzmp.buyer('orders', array['401-0000001-0000001'])$$, '42501', null,
    'buyers are not for every operator');
reset role;
set local role orders_shop;
select results_eq($$select buyer_email, phone from amzmp.buyer('orders', array['401-0000001-0000001', '402-0000002-0000002'])$$,
    $$values ('zq@marketplace.example', '0171 5550000')$$, 'the role amzmp_buyer_data sees them; an order without such data gives no row');
select throws_ok($$select sealed from amzmp.order_buyer$$, '42501', null, 'but not the table');
reset role;
select is_empty($$select b.amazon_order_id from amzmp.order_buyer b
                   where encode(b.sealed, 'escape') ~* 'quartermain' or encode(b.raw, 'escape') ~* 'quartermain'$$, 'it is sealed, the raw order too');
select throws_ok($$select amzmp._open(b.sealed, 'buyer', b.account_id || '/402-0000002-0000002') from amzmp.order_buyer b
                    where b.amazon_order_id = '401-0000001-0000001'$$, null, null, 'and bound to its order');
select arrives(:account_id, an_order('401-0000001-0000001', 'SHIPPED', 9, jsonb_build_array(item('11', 'MUG', 2, 2, 0)),
    '{"recipient": {"deliveryAddress": {"city": "Lüneburg"}}}')) \g /dev/null
select is(b.buyer_email, 'zq@marketplace.example', 'what a later version leaves out is not lost') from amzmp.buyer('orders', array['401-0000001-0000001']) b;

select amzmp._flow_purge_personal_data(:account_id, 0, 1) \g /dev/null
select is((select count(*) from amzmp.order_buyer b where b.account_id = :account_id), 0::bigint,
    'a month after delivery everything personal is gone')
 where now() > '2026-04-10';
select arrives(:account_id, an_order('401-0000001-0000001', 'SHIPPED', 10, jsonb_build_array(item('11', 'MUG', 2, 2, 0)), with_buyer())) \g /dev/null
select is_empty($$select from amzmp.buyer('orders', array['401-0000001-0000001'])$$, 'and does not come back');

/* ---- a buyer's own data ---- */

select arrives(:account_id, an_order('411-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('91', 'MUG', 1)), with_buyer())) \g /dev/null
set local role orders_clerk;
select throws_ok($$select amzmp.export_buyer('orders', array['411-0000001-0000001'])$$, '42501', null, 'a buyer''s data is not for every operator');
select throws_ok($$select amzmp.erase_buyer('orders', array['411-0000001-0000001'])$$, '42501', null, 'to export or to erase');
reset role;
set local role orders_shop;
select results_eq($$select e ->> 'amazon_order_id', e #>> '{items,0,sku}', e #>> '{personal,buyer,buyerName}', e #>> '{raw,orderId}'
                      from jsonb_array_elements(amzmp.export_buyer('orders', array['411-0000001-0000001', '499-0000000-0000000'])) e$$,
    $$values ('411-0000001-0000001', 'MUG', 'Zoë Quartermain', '411-0000001-0000001')$$, 'all that is stored about an order can be exported');
select is(amzmp.erase_buyer('orders', array['411-0000001-0000001', '499-0000000-0000000']), 1, 'and what is personal erased');
select is(amzmp.export_buyer('orders', array['411-0000001-0000001']) #> '{0,raw}', 'null', 'nothing of it is left');
reset role;
select arrives(:account_id, an_order('411-0000001-0000001', 'UNSHIPPED', 5, jsonb_build_array(item('91', 'MUG', 1)), with_buyer())) \g /dev/null
select is_empty($$select from amzmp.order_buyer where amazon_order_id = '411-0000001-0000001'$$, 'nor does it come back');

/* ---- shipments ---- */

-- The orders' changes were read just now, so none is read again before it is shipped.
insert into amzmp.order_cursor (account_id, watermark) values (:account_id, now())
on conflict (account_id) do update set watermark = excluded.watermark;

select arrives(:account_id, an_order('405-0000005-0000005', 'UNSHIPPED', 0, jsonb_build_array(item('51', 'MUG', 2, 0, 2), item('52', 'PEN', 4, 0, 4)))) \g /dev/null
select arrives(:account_id, an_order('406-0000006-0000006', 'UNSHIPPED', 0, jsonb_build_array(item('61', 'MUG', 1)),
    '{"fulfillment": {"fulfillmentStatus": "UNSHIPPED", "fulfilledBy": "AMAZON"}}')) \g /dev/null
select throws_ok($$select amzmp.confirm_shipment('orders', '499-0000000-0000000', 'DHL', 'T1')$$, 'AZ201', null, 'an unknown order cannot be shipped');
select throws_ok($$select amzmp.confirm_shipment('orders', '406-0000006-0000006', 'DHL', 'T1')$$, 'AZ203', null, 'nor one that Amazon ships');
select throws_ok($$select amzmp.confirm_shipment('orders', '402-0000002-0000002', 'DHL', 'T1')$$, 'AZ203', null, 'nor a pending one');
select amzmp.set('orders', 'require_tracking', 'true') \g /dev/null
select throws_ok($$select amzmp.confirm_shipment('orders', '405-0000005-0000005', 'DHL', ' ')$$, 'AZ202', null, 'nor without a tracking number where one is required');
select throws_ok($$select amzmp.confirm_shipment('orders', '405-0000005-0000005')$$, 'AZ202', 'the carrier is missing', 'nor without a carrier');
select throws_ok($$select amzmp.confirm_shipment('orders', '405-0000005-0000005', 'DHL', 'T1', now() + interval '1 day')$$, 'AZ202', null, 'nor in the future');
select throws_ok($$select amzmp.confirm_shipment('orders', '405-0000005-0000005', 'DHL', 'T1', items => '[{"orderItemId": "51", "quantity": 3}]')$$,
    'AZ202', '3 units of line 51 cannot be shipped, 2 are open', 'nor more than is open');
select throws_ok($$select amzmp.confirm_shipment('orders', '405-0000005-0000005', 'DHL', 'T1', items => '[{"orderItemId": "99", "quantity": 1}]')$$,
    'AZ202', null, 'nor a line that it has not');
select throws_ok($$select amzmp.confirm_shipment('orders', '405-0000005-0000005', 'DHL', 'T1', package_reference => 'a1')$$,
    'AZ202', null, 'a package reference is a whole number');

-- What the order is read for once more before its packages are told.
create function read_again(account bigint, id text) returns bigint language sql as $$
    select amzmp._settle_orders(account, array[id]);
    with gone as (delete from amzmp.request r where r.account_id = account and r.operation = 'getOrder' and r.subject = id returning 1)
    select count(*) from gone;
$$;

select amzmp.map_carrier('orders', 'Post', 'DHL') \g /dev/null
select is(amzmp.confirm_shipment('orders', '405-0000005-0000005', 'POST', 'T1', items => '[{"orderItemId": "51", "quantity": 1}]'), '1', 'the first package');
select is(amzmp.confirm_shipment('orders', '405-0000005-0000005', 'Van Oost', 'T2'), '2', 'the second one');
select results_eq($$select package_reference, state from amzmp.shipment order by 1$$, $$values ('1', 'verifying'), ('2', 'verifying')$$, 'both wait');
select is(read_again(:account_id, '405-0000005-0000005'), 1::bigint, 'until the order is read once more, once for both');
select results_eq($$select package_reference, state, carrier_code, carrier_name, items from amzmp.shipment order by 1$$,
    $$values ('1', 'queued', 'DHL', null, '[{"orderItemId": "51", "quantity": 1}]'::jsonb),
             ('2', 'queued', 'Other', 'Van Oost', '[{"orderItemId": "51", "quantity": 1}, {"orderItemId": "52", "quantity": 4}]'::jsonb)$$,
    'takes what the first has left; carriers are mapped, or sent by name');
select throws_ok($$select amzmp.confirm_shipment('orders', '405-0000005-0000005', 'DHL', 'T3')$$, 'AZ203', null, 'then nothing is left');
select is(amzmp.confirm_shipment('orders', '405-0000005-0000005', 'Post', 'T1b', package_reference => '1'), '1', 'a package is corrected by its number');
select read_again(:account_id, '405-0000005-0000005') \g /dev/null
select is((select count(*) from amzmp.request r where r.account_id = :account_id and r.operation = 'confirmShipment'), 2::bigint,
    'while its request waits there is no second one');

select results_eq(format($$
    select x.params, x.body -> 'marketplaceId', x.body -> 'packageDetail' -> 'packageReferenceId', x.body -> 'packageDetail' -> 'trackingNumber'
      from amzmp._render_confirm_shipment(array(select r from amzmp.request r where r.account_id = %s and r.operation = 'confirmShipment'
                                                 and r.subject = '405-0000005-0000005/1')) as x$$, :account_id),
    $$values ('{"orderId": "405-0000005-0000005"}'::jsonb, '"A1PA6795UKMFR9"'::jsonb, '"1"'::jsonb, '"T1b"'::jsonb)$$,
    'the request says what holds when it is sent, the reference as text');
select amzmp._handle_confirm_shipment(array[row(r, 204, 'success', null, null, null, 'id', now())::amzmp.answer_row])
  from amzmp.request r where r.account_id = :account_id and r.subject = '405-0000005-0000005/1' \g /dev/null
select is((select s.state from amzmp.shipment s where s.package_reference = '1'), 'confirmed', 'Amazon''s answer confirms it');

select arrives(:account_id, an_order('405-0000005-0000005', 'UNSHIPPED', 1, jsonb_build_array(
    item('51', 'MUG', 2, 1, 1, '{"cancellation": {"cancellationRequest": {"requester": "BUYER", "cancelReason": "no longer needed"}}}'),
    item('52', 'PEN', 4, 0, 4)))) \g /dev/null
select is_empty(format($$select x.request_id from amzmp._render_confirm_shipment(array(select r from amzmp.request r
    where r.account_id = %s and r.subject = '405-0000005-0000005/2')) as x$$, :account_id), 'a buyer who asks to cancel in between stops the package');
select results_eq($$select state, reason like 'the buyer asks to cancel%' from amzmp.shipment where package_reference = '2'$$,
    $$values ('held', true)$$, 'it is held with the reason');
delete from amzmp.request where account_id = :account_id;
select throws_ok($$select amzmp.confirm_shipment('orders', '405-0000005-0000005', 'Van Oost', 'T2', package_reference => '2')$$, 'AZ203', null, 'confirming it again says so too');
select is(amzmp.confirm_shipment('orders', '405-0000005-0000005', 'Van Oost', 'T2', package_reference => '2', force => true), '2', 'unless told to ship all the same');
select read_again(:account_id, '405-0000005-0000005') \g /dev/null

-- The answer was lost, and the repeat finds the order shipped.
select * from amzmp._render_confirm_shipment(array(select r from amzmp.request r where r.account_id = :account_id)) \g /dev/null
select amzmp._handle_confirm_shipment(array[row(r, 400, 'refused', null, 'PackageToUpdateNotFound', 'no such package', 'id', now())::amzmp.answer_row])
  from amzmp.request r where r.account_id = :account_id and r.subject = '405-0000005-0000005/2' \g /dev/null
delete from amzmp.request where account_id = :account_id and operation = 'confirmShipment';
select is((select s.state from amzmp.shipment s where s.package_reference = '2'), 'checking', 'an ambiguous refusal is looked into');
select answer(:account_id, 'getOrder', 200, jsonb_build_object('order', an_order('405-0000005-0000005', 'SHIPPED', 2,
    jsonb_build_array(item('51', 'MUG', 2, 2, 0), item('52', 'PEN', 4, 4, 0)),
    '{"packages": [{"packageReferenceId": "2", "trackingNumber": "T2", "packageStatus": {"status": "SHIPPED"}}]}'))) \g /dev/null
select work(:account_id) \g /dev/null
select is((select s.state from amzmp.shipment s where s.package_reference = '2'), 'confirmed', 'the order with our package in it settles it');

-- From which place it was sent, and who collects the money.
select arrives(:account_id, an_order('409-0000009-0000009', 'UNSHIPPED', 0, jsonb_build_array(item('91', 'MUG', 1, 0, 1)))) \g /dev/null
select throws_ok($$select amzmp.confirm_shipment('orders', '409-0000009-0000009', 'Post', 'T9', direct_payment => true)$$, 'AZ202', null, 'money is collected by carriers in Japan alone');
select amzmp.set('orders', 'require_tracking', 'false') \g /dev/null
select throws_ok($$select amzmp.confirm_shipment('orders', '409-0000009-0000009', 'Post', supply_source => 'place-1')$$, 'AZ202', null, 'a feed cannot say where it comes from');
select amzmp.confirm_shipment('orders', '409-0000009-0000009', 'Post', 'T9', supply_source => 'place-1') \g /dev/null
update amzmp.orders set marketplace_id = 'A1VC38T7YXB528' where amazon_order_id = '409-0000009-0000009';
select amzmp.confirm_shipment('orders', '409-0000009-0000009', 'Post', 'T9', package_reference => '1', direct_payment => true) \g /dev/null
select read_again(:account_id, '409-0000009-0000009') \g /dev/null
select results_eq(format($$select x.body -> 'codCollectionMethod', x.body #> '{packageDetail,shipFromSupplySourceId}'
      from amzmp._render_confirm_shipment(array(select r from amzmp.request r where r.account_id = %s and r.subject = '409-0000009-0000009/1')) as x$$, :account_id),
    $$values ('"DirectPayment"'::jsonb, '"place-1"'::jsonb)$$, 'both are told, and a correction keeps what it does not name');

select * from finish();
rollback;
