-- orders_problem.sql
-- One view lists every order that waits for somebody, with the reason and the remedy, and lets go of those that go on.

\ir orders_setup.psql

insert into amzmp.source (account_id, source_id, run_as, relation, expressions, fields, sku_type)
values (:account_id, 900001, 'orders_shop', 'orders_test.product', '{"sku": "sku"}', 'sku', 'text');
insert into amzmp.product (account_id, source_id, sku, quantity, active)
values (:account_id, 900001, 'MUG', 10, true), (:account_id, 900001, 'HAT', 0, true), (:account_id, 900001, 'PEN', 5, false);

create function orders_test.take(account_id bigint, amazon_order_id text) returns text language plpgsql as $$
begin
    if amazon_order_id like '905%' and current_setting('orders_test.open', true) is distinct from 'yes' then
        raise exception 'ADDRESS_UNMAPPED: township 137_Merkez';
    end if;
    return amazon_order_id;
end $$;
create function orders_test.bill(account_id bigint, amazon_order_id text) returns void language plpgsql as $$
begin
    if amazon_order_id like '906%' then
        raise exception 'no paper';
    end if;
end $$;
grant execute on function orders_test.take(bigint, text), orders_test.bill(bigint, text) to orders_shop;
select amzmp.deliver_orders_to('orders_DE', 'orders_test.take(bigint, text)', run_as => 'orders_shop'),
       amzmp.follow_up_with('orders_DE', 'orders_test.bill(bigint, text)', run_as => 'orders_shop') \g /dev/null

-- Orders of today, because old ones that were not followed up are history.
create function today(id text, sku text, extra jsonb default '{}') returns bigint language sql as $$
    select arrives(a.account_id, an_order(id, 'UNSHIPPED', 0, jsonb_build_array(item(left(id, 3), sku, 1, 0, 1)),
        jsonb_build_object('createdTime', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) || extra))
      from amzmp.account a where a.name = 'orders';
$$;
select today('901-0000001-0000001', 'NOBODY'), today('902-0000001-0000001', 'HAT'), today('903-0000001-0000001', 'PEN'),
    today('905-0000001-0000001', 'MUG'), today('906-0000001-0000001', 'MUG'), today('904-0000001-0000001', 'MUG'),
    today('907-0000001-0000001', 'MUG', '{"proceeds": {"grandTotal": {"amount": "30.00", "currencyCode": "EUR"},
        "breakdowns": [{"type": "ITEM", "subtotal": {"amount": "25.00", "currencyCode": "EUR"}}]}}') \g /dev/null

select results_eq($$select left(amazon_order_id, 3), channel, state, reason, next_try > now() from amzmp.order_problem order by 1$$,
    $$values ('901', 'orders_DE', 'held_unknown_item', 'the shop does not know NOBODY', null::boolean),
             ('902', 'orders_DE', 'held_short_stock', 'the shop has less than it takes', null),
             ('903', 'orders_DE', 'held_disabled_item', 'the shop does not sell its product at present', null),
             ('905', 'orders_DE', 'quarantined', 'delivery: ADDRESS_UNMAPPED: township 137_Merkez (P0001)', true),
             ('906', 'orders_DE', 'not_followed_up', 'no paper (P0001)', null),
             ('907', 'orders_DE', 'totals_differ', 'its parts do not add up to its grand total', null)$$,
    'each order that waits is listed with its reason, and none that went well');
select is_empty('select * from amzmp.order_problem where remedy is null', 'and with what to do');
select matches(remedy, '^Map the code.*redeliver', 'what the error''s name means, where the shop''s function gave one')
  from amzmp.order_problem where state = 'quarantined';

select results_eq($$select state, detail, remedy from amzmp.health() where check_name = 'orders orders'$$,
    $$values ('warning', '1 held_disabled_item, 1 held_short_stock, 1 held_unknown_item, 1 quarantined', 'select * from amzmp.order_problem where account = ''orders'';')$$,
    'health() tells');
set local role orders_shop;
select results_eq('select count(*) from amzmp.order_problem', array[6::bigint], 'every reader may see it');
select lives_ok('select * from amzmp.service_method, amzmp.cancelled_line', 'and what else there is to be read about orders');
reset role;
select amzmp.create_account('orders_other', 'EU', 'orders_app', 'A2SELLER', 'mock', 'http://127.0.0.1:9'), amzmp.limit_role('orders_shop', '{orders_other}') \g /dev/null
set local role orders_shop;
select is_empty('select * from amzmp.order_problem', 'of the accounts that he may see');
reset role;
select amzmp.limit_role('orders_shop', null) \g /dev/null

set local orders_test.open = 'yes';
select amzmp.link_item('orders', 'NOBODY', 'MUG'), amzmp.redeliver('orders_DE'),
    amzmp.redeliver('orders_DE', '{902-0000001-0000001,903-0000001-0000001}') \g /dev/null
select work(:account_id) \g /dev/null
select results_eq('select state from amzmp.order_problem order by 1', array['not_followed_up', 'totals_differ'], 'what goes on leaves the list');
select is_empty($$select * from amzmp.health() where check_name = 'orders orders'$$, 'and health() is content');

-- a package that waits, and a buyer who asks
select today('908-0000001-0000001', 'MUG', '{"orderItems": [{"orderItemId": "908", "quantityOrdered": 1, "product": {"sellerSku": "MUG"},
    "cancellation": {"cancellationRequest": {"requester": "BUYER", "cancelReason": "Wrong colour"}}}]}') \g /dev/null
insert into amzmp.shipment (account_id, amazon_order_id, package_reference, state, carrier, carrier_code, tracking, shipped_at, items,
    created_by)
select o.account_id, o.amazon_order_id, '1', 'held', 'DHL', 'DHL', 'T', now(), '[]', 'shop' from amzmp.orders o where o.amazon_order_id like '908%';
select results_eq($$select check_name, detail from amzmp.health() where check_name ~ '^(shipments|cancellations) ' order by 1$$,
    $$values ('cancellations orders', '1 asked for by the buyer'), ('shipments orders', '1 held')$$, 'it tells of packages and of buyers that wait, too');

select * from finish();
rollback;
