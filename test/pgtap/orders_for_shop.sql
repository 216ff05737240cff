-- orders_for_shop.sql
-- An order in the shop's words: customer, store, carrier, region and taxes, as the shop's function asks for them.

\ir orders_setup.psql

grant amzmp_buyer_data to orders_shop;
create role orders_reader login in role amzmp_reader;
create function address(region text, district text default null) returns jsonb language sql as $$
    select jsonb_build_object('recipient', jsonb_build_object('deliveryAddress', jsonb_strip_nulls(jsonb_build_object('name', 'Zoë Quartermain', 'addressLine1',
        'Törnallee 7', 'city', 'Lüneburg', 'postalCode', '21335', 'countryCode', 'DE', 'stateOrRegion', region, 'districtOrCounty', district))),
        'fulfillment', '{"fulfillmentStatus": "UNSHIPPED", "fulfilledBy": "MERCHANT", "fulfillmentServiceLevel": "SECOND_DAY"}'::jsonb);
$$;
select arrives(:account_id, an_order('501-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('11', 'MUG', 2, 0, 2)), address('Niedersachsen'))) \g /dev/null
select arrives(:account_id, an_order('501-0000002-0000002', 'UNSHIPPED', 0, jsonb_build_array(item('12', 'MUG', 1, 0, 1)), address('Bayern', 'Kreideberg')
    || '{"associatedOrders": [{"orderId": "501-0000001-0000001", "associationType": "REPLACEMENT_ORIGINAL_ID"}]}')) \g /dev/null

-- nothing said yet
select results_eq(format($$select order_number, source, store, payment_method, customer_mode, customer, bill_to_customer,
    carrier, shipping_method, tax_on_items, tax_on_shipping
    from amzmp.shop_order(%s, '501-0000001-0000001')$$, :account_id),
    $$values ('501-0000001-0000001', 'amazon', null::text, 'amazon', 'new', null::text, false, null::text, null::text, 4.00, 0.75)$$, 'what holds by itself');
select is_empty(format($$select from amzmp.shop_order(%s, '599-0000000-0000000')$$, :account_id), 'an order that is not there gives no row');

-- customers, store, carrier
select amzmp.set('orders', 'order_store', 'main'), amzmp.set('orders_DE', 'order_store', 'german'), amzmp.set('orders', 'customer_mode', 'fixed'),
       amzmp.set('orders', 'default_customer', 'amazon@shop.example'), amzmp.set('orders', 'default_customer_billing', 'true'),
       amzmp.set('orders', 'default_carrier', 'post') \g /dev/null
select results_eq(format($$select store, customer_mode, customer, bill_to_customer, carrier, shipping_method from amzmp.shop_order(%s, '501-0000001-0000001')$$, :account_id),
    $$values ('german', 'fixed', 'amazon@shop.example', true, 'post', null::text)$$, 'every order on one customer; the channel''s store; the default carrier');
select amzmp.map_service('orders', 'SecondDay', 'dhl', 'express') \g /dev/null
select results_eq(format($$select carrier, shipping_method from amzmp.shop_order(%s, '501-0000001-0000001')$$, :account_id),
    $$values ('dhl', 'express')$$, 'a service level has its carrier and method');
select amzmp.map_service('orders_DE', 'SECOND_DAY', 'ups') \g /dev/null
select is((select s.carrier from amzmp.shop_order(:account_id, '501-0000001-0000001') s), 'ups', 'the channel''s goes first');
select amzmp.map_service('orders_DE', 'SECOND_DAY', null) \g /dev/null
select is((select s.carrier from amzmp.shop_order(:account_id, '501-0000001-0000001') s), 'dhl', 'and can be taken away');
update amzmp.orders set purchased_at = now() where amazon_order_id = '501-0000001-0000001';
select results_eq($$select service_level, carrier, method, mapped, open_orders from amzmp.service_method
    where service_level in ('STANDARD', 'EXPEDITED', 'SECOND_DAY', 'NEXT_DAY') order by 1$$,
    $$values ('EXPEDITED', null, null, false, 0::bigint), ('NEXT_DAY', null, null, false, 0), ('SECOND_DAY', 'dhl', 'express', true, 1),
             ('STANDARD', null, null, false, 0)$$,
    'the levels are listed with what they are mapped to');
select throws_ok($$select amzmp.map_service('orders', '2nd day!', 'dhl')$$, 'AZ202', null, 'a level that is none is refused');

-- taxes
select amzmp.set_tax_rule('orders', 'DE', null, false, true) \g /dev/null
select results_eq(format($$select tax_on_items, tax_on_shipping, items #> '{0,item_tax}', items #>> '{0,shipping_tax}' from amzmp.shop_order(%s, '501-0000001-0000001')$$, :account_id),
    $$values (null::numeric, 0.75, 'null'::jsonb, '0.75')$$, 'a rule of the country');
select amzmp.set_tax_rule('orders', 'DE', 'Niedersachsen', true, false) \g /dev/null
select results_eq(format($$select tax_on_items, tax_on_shipping from amzmp.shop_order(%s, '501-0000001-0000001')$$, :account_id),
    $$values (4.00, null::numeric)$$, 'that of the region goes first');
select results_eq(format($$select tax_on_items, tax_on_shipping from amzmp.shop_order(%s, '501-0000002-0000002')$$, :account_id),
    $$values (null::numeric, null::numeric)$$, 'what replaces an order is not taxed again');

-- without a rule, the settings; and the shop's words for where an order comes from
select amzmp.set_tax_rule('orders', 'DE', 'Niedersachsen', null, null), amzmp.set_tax_rule('orders', 'DE', null, null, null), amzmp.set('orders', 'import_tax', 'false'),
       amzmp.set('orders', 'order_source', 'amz'), amzmp.set('orders_DE', 'payment_method', 'amazon pay') \g /dev/null
select results_eq(format($$select tax_on_items, tax_on_shipping, source, payment_method from amzmp.shop_order(%s, '501-0000001-0000001')$$, :account_id),
    $$values (null::numeric, 0.75, 'amz', 'amazon pay')$$, 'taxes on items are not booked');
select amzmp.set('orders', 'import_tax', 'true'), amzmp.set('orders_DE', 'import_shipping_tax', 'false') \g /dev/null
select results_eq(format($$select tax_on_items, tax_on_shipping from amzmp.shop_order(%s, '501-0000001-0000001')$$, :account_id),
    $$values (4.00, null::numeric)$$, 'or those on shipping');

-- what Amazon withholds itself
select arrives(:account_id, an_order('501-0000003-0000003', 'UNSHIPPED', 0, jsonb_build_array(item('13', 'MUG', 1, 0, 1),
    item('14', 'HAT', 1, 0, 1, '{"tax": {"taxCollections": [{"model": "MARKETPLACE_FACILITATOR", "responsibleParty": "Amazon"}]}}')), address('Niedersachsen'))) \g /dev/null
select amzmp.set_tax_rule('orders', 'DE', 'Niedersachsen', true, true) \g /dev/null
select results_eq(format($$select tax_on_items, tax_on_shipping, items @> '[{"order_item_id": "14", "tax_collected_by_amazon": true, "item_tax": 4.00}]',
    items @> '[{"order_item_id": "13", "tax_collected_by_amazon": false}]' from amzmp.shop_order(%s, '501-0000003-0000003')$$, :account_id),
    $$values (8.00, 1.50, true, true)$$, 'whose taxes Amazon collects is told with each line');
select amzmp.set('orders', 'import_collected_tax', 'false') \g /dev/null
select results_eq(format($$select tax_on_items, tax_on_shipping, items @> '[{"order_item_id": "14", "item_tax": null, "shipping_tax": null}]'
    from amzmp.shop_order(%s, '501-0000003-0000003')$$, :account_id), $$values (4.00, 0.75, true)$$, 'and those are left out where the shop does not book them');
select throws_ok($$select amzmp.set_tax_rule('orders', 'XX', null, true, true)$$, 'AZ202', null, 'a country without a marketplace is refused');

-- addresses
select throws_ok($$select amzmp.map_address('orders_DE', 'region', 'Bayern', 'BY')$$, 'AZ202', null, 'addresses are the account''s, unless switched over');
set local role orders_shop;
select results_eq($$select district, region, region_is_new, country from amzmp.shop_address('orders', '{501-0000001-0000001}')$$,
    $$values (null::text, '', false, 'DE')$$, 'a region that is not mapped becomes the default one');
reset role;
select amzmp.set('orders', 'default_region', 'elsewhere') \g /dev/null
select is(a.region, 'elsewhere', 'which may have a name') from amzmp.shop_address('orders', '{501-0000001-0000001}') a;
select amzmp.map_address('orders', 'region', 'niedersachsen', 'NI', 'DE'), amzmp.map_address('orders', 'country', 'de', '49'),
       amzmp.set('orders', 'use_neighborhood', 'true') \g /dev/null
select results_eq($$select district, region, region_is_new, country from amzmp.shop_address('orders', '{501-0000001-0000001}')$$,
    $$values ('Lüneburg', 'NI', false, '49')$$, 'mapped; and a district from what is nearest to one');
select amzmp.set('orders', 'create_region', 'true'), amzmp.set('orders', 'address_per_channel', 'true'), amzmp.map_address('orders_DE', 'region', 'Niedersachsen', 'DE-NI') \g /dev/null
select results_eq($$select district, region, region_is_new, address_key like '%\_de\_21335\_%' from amzmp.shop_address('orders', '{501-0000001-0000001,501-0000002-0000002}') order by amazon_order_id$$,
    $$values ('Lüneburg', 'DE-NI', false, true), ('Kreideberg', 'Bayern', true, true)$$, 'by channel; and a region to be made');
set local role orders_reader;
select throws_ok($$select * from amzmp.shop_address('orders', '{501-0000001-0000001}')$$, '42501', null, 'addresses are for the role amzmp_buyer_data');
select is((select s.carrier from amzmp.shop_order(:account_id, '501-0000001-0000001') s), 'dhl', 'the rest is for every reader');
reset role;
select amzmp.create_account('orders_other', 'EU', 'orders_app', 'A2SELLER', 'mock', 'http://127.0.0.1:9'), amzmp.limit_role('orders_reader', '{orders_other}') \g /dev/null
set local role orders_reader;
select is_empty(format($$select from amzmp.shop_order(%s, '501-0000001-0000001')$$, :account_id), 'of the accounts that he may see');
reset role;

/* ---- after the delivery ---- */

create table orders_test.invoice (amazon_order_id text);
grant insert, select on orders_test.invoice to orders_shop;
create function orders_test.take(account_id bigint, amazon_order_id text) returns text language sql as 'select amazon_order_id';
create function orders_test.bill(account_id bigint, amazon_order_id text) returns void language plpgsql as $$
begin
    insert into orders_test.invoice values (amazon_order_id);
    if amazon_order_id like '502-%' and (select count(*) from orders_test.invoice i where i.amazon_order_id like '502-%') = 1
        and current_setting('orders_test.printer', true) is distinct from 'on' then
        raise exception 'no paper for Quartermain';
    end if;
end $$;
grant execute on function orders_test.take(bigint, text), orders_test.bill(bigint, text) to orders_shop;
select amzmp.follow_up_with('orders_DE', 'orders_test.bill(bigint, text)', run_as => 'orders_shop'),
       amzmp.deliver_orders_to('orders_DE', 'orders_test.take(bigint, text)', run_as => 'orders_shop') \g /dev/null
select work(:account_id) \g /dev/null
select results_eq('select amazon_order_id from orders_test.invoice order by 1', array['501-0000001-0000001', '501-0000002-0000002', '501-0000003-0000003'],
    'each order is followed up, once the shop has it');
select arrives(:account_id, an_order('502-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('21', 'MUG', 1, 0, 1)), address('Bayern'))) \g /dev/null
select results_eq($$select import_state, followed_up_at is null, follow_up_failure from amzmp.orders where amazon_order_id like '502-%'$$,
    $$values ('delivered', true, 'no paper for … (P0001)')$$, 'a failure leaves the order in the shop, and says why without the buyer''s data');
select is((select count(*) from orders_test.invoice i where i.amazon_order_id like '502-%'), 0::bigint, 'what the function had written is undone');
set local orders_test.printer = 'on';
select is(amzmp.follow_up('orders_DE'), 1, 'it is tried again on demand');
select work(:account_id) \g /dev/null
select is((select count(*) from orders_test.invoice), 4::bigint, 'and then done');
select is(amzmp.follow_up('orders_DE', '{501-0000001-0000001}'), 0, 'never twice');

select * from finish();
rollback;
