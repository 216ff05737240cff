-- orders_stock.sql
-- A shop whose stock must not become negative: what it does not have is held, seen, and taken when it comes.

\ir orders_setup.psql

alter table orders_test.product add constraint enough check (stock >= 0);
insert into orders_test.product values ('LAST', 1), ('GONE', 0);
insert into amzmp.source (account_id, source_id, run_as, relation, expressions, fields, sku_type)
values (:account_id, 900001, 'orders_shop', 'orders_test.product', '{"sku": "sku"}', 'sku', 'text');
insert into amzmp.product (account_id, source_id, sku, quantity, active)
select :account_id, 900001, p.sku, p.stock, true from orders_test.product p;
create function orders_test.take(account_id bigint, amazon_order_id text) returns text language sql as 'select amazon_order_id';
grant execute on function orders_test.take(bigint, text) to orders_shop;
select amzmp.reduce_stock('orders', relation => 'orders_test.product', run_as => 'orders_shop'),
       amzmp.deliver_orders_to('orders_DE', 'orders_test.take(bigint, text)', run_as => 'orders_shop') \g /dev/null

create function stock(wanted text) returns integer language sql as $$select stock from orders_test.product where sku = wanted$$;
create function held(wanted text) returns bigint language sql as
    $$select coalesce(sum(quantity), 0) from amzmp.reservation where sku = wanted and released_at is null$$;

-- the checkout takes the last piece while Amazon's order is on its way, which we have not read yet
update orders_test.product set stock = 0 where sku = 'LAST';
select arrives(:account_id, an_order('601-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('11', 'LAST', 1, 0, 1), item('12', 'MUG', 2, 0, 2)))) \g /dev/null
select results_eq($$select import_state, short_stock, failure_reason from amzmp.orders$$, $$values ('held_short_stock', true, null::text)$$,
    'an order for the last piece that is gone is held as short');
select results_eq($$select sku, quantity, applied_at is null from amzmp.movement order by sku$$, $$values ('LAST', -1, true), ('MUG', -2, false)$$,
    'what is there is taken, the rest stays to be taken');
select is(array[stock('MUG'), stock('LAST')], array[8, 0], 'and no stock is negative');
select is(array[held('MUG'), held('LAST')], array[0, 1]::bigint[], 'what is to be taken is held');
select is_empty('select * from amzmp.penalty', 'nothing has failed');

-- that the checkout has taken it is read a moment later
update amzmp.product set quantity = 0 where sku = 'LAST';
select amzmp._queue_imports(:account_id) \g /dev/null
select work(:account_id) \g /dev/null
select results_eq($$select import_state from amzmp.orders$$, array['held_short_stock'], 'a poll alone changes nothing');
update orders_test.product set stock = 3 where sku = 'LAST';
update amzmp.product set quantity = 3 where sku = 'LAST';
select amzmp._queue_imports(:account_id) \g /dev/null
select work(:account_id) \g /dev/null
select results_eq($$select import_state from amzmp.orders$$, array['delivered'], 'stock that comes lets it go on');
select is(array[stock('MUG'), stock('LAST'), held('LAST')::integer], array[8, 2, 0], 'takes its units, once, and lets go of what was held');

-- as a backorder, and cancelled before the stock comes
select amzmp.set('orders', 'on_short_stock', 'backorder') \g /dev/null
select arrives(:account_id, an_order('602-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('21', 'GONE', 2, 0, 2)))) \g /dev/null
select results_eq($$select import_state, short_stock from amzmp.orders where amazon_order_id like '602%'$$, $$values ('delivered', true)$$, 'a backorder is handed over');
select is(held('GONE'), 2::bigint, 'its units stay held');
select arrives(:account_id, an_order('602-0000001-0000001', 'CANCELLED', 1, jsonb_build_array(item('21', 'GONE', 2, 0, 0)))) \g /dev/null
select is(array[stock('GONE'), held('GONE')::integer], array[0, 0], 'cancelled, they were never taken');
select is_empty('select * from amzmp.movement where applied_at is null', 'and nothing is left to be taken');

-- the same by a function, and an error of another kind
create function orders_test.sold(sku text, change integer) returns void language plpgsql as $$
begin
    if sku = 'HAT' then
        raise exception 'the hat shop is closed';
    end if;
    update orders_test.product p set stock = p.stock + change where p.sku = sold.sku and p.stock + change >= 0;
    if not found then
        raise check_violation using message = 'not enough of ' || sku;
    end if;
end $$;
grant execute on function orders_test.sold(text, integer) to orders_shop;
select amzmp.reduce_stock('orders', function => 'orders_test.sold(text, integer)', run_as => 'orders_shop'), amzmp.set('orders', 'on_short_stock', null) \g /dev/null
select arrives(:account_id, an_order('603-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('31', 'GONE', 1, 0, 1), item('32', 'PEN', 1, 0, 1)))) \g /dev/null
select results_eq($$select import_state, short_stock from amzmp.orders where amazon_order_id like '603%'$$, $$values ('held_short_stock', true)$$, 'a function may say it, too');
select is(array[stock('PEN'), held('GONE')::integer], array[99, 1], 'row by row');
select arrives(:account_id, an_order('604-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('41', 'GONE', 1, 0, 1), item('42', 'HAT', 1, 0, 1), item('43', 'PEN', 1, 0, 1)))) \g /dev/null
select results_eq($$select import_state, failure_reason from amzmp.orders where amazon_order_id like '604%'$$,
    $$values ('quarantined', 'stock: the hat shop is closed (P0001)')$$, 'any other error puts the order aside');
select is(array[stock('PEN'), held('PEN')::integer], array[99, 1], 'and takes nothing');

select * from finish();
rollback;
