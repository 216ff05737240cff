-- orders_retry.sql
-- Orders that cannot be imported are held back, tried again and given up by the policy for orders.

\ir orders_setup.psql

-- An order that arrives and cannot be imported: what was parked is not what was sealed.
create function arrives_damaged(account bigint, id text, minute integer default 0) returns void language sql as $$
    select amzmp._park_orders(account, amzmp._wanted_orders(account, array(
        select a from amzmp._read_orders(an_order(id, 'UNSHIPPED', minute, jsonb_build_array(item('11', 'MUG', 1, 0, 1)))::text, '', true) as a),
        false));
    update amzmp.parked_order p set sealed = set_byte(p.sealed, length(p.sealed) - 1, get_byte(p.sealed, length(p.sealed) - 1) # 1)
     where p.account_id = account and p.amazon_order_id = id;
    select work(account);
$$;

-- The wait is over.
create function later(account bigint) returns integer language sql as $$
    update amzmp.penalty p set until = now() where p.account_id = account;
    select amzmp._retry_orders(account);
$$;

select take(:account_id, jsonb_build_array(
    an_order('701-0000002-0000002', 'UNSHIPPED', 0, jsonb_build_array(item('21', 'MUG', 1, 0, 1))))::text, true, false) \g /dev/null
select arrives_damaged(:account_id, '701-0000001-0000001') \g /dev/null
select results_eq($$select amazon_order_id from amzmp.orders$$, array['701-0000002-0000002'], 'an order that cannot be imported holds up no other');
select results_eq($$select channel, error, class, tries, gave_up, message <> '', remedy like '%redeliver%' from amzmp.penalised where kind = 'order'$$,
    $$values (null::text, 'ORDER_NOT_IMPORTED', 'order', 1, false, true, true)$$, 'it is listed with its reason and what to do');
select is(amzmp._retry_orders(:account_id), 0, 'it is left alone for its time');
select is(later(:account_id), 1, 'and then tried again');
select work(:account_id) \g /dev/null
select is(p.tries, 2, 'a second failure is counted') from amzmp.penalty p where p.subject = '701-0000001-0000001';
select amzmp.set('orders', 'order_expiration', '"30 days"') \g /dev/null
select later(:account_id), work(:account_id) \g /dev/null
select results_eq($$select tries, gave_up from amzmp.penalty$$, $$values (3, false)$$, 'so is a third');
select later(:account_id), work(:account_id) \g /dev/null
select results_eq($$select tries, gave_up from amzmp.penalty$$, $$values (4, true)$$, 'after three retries it is given up');
select is(later(:account_id), 0, 'and not tried any more');
select results_eq($$select kind, subject, error from amzmp.given_up$$, $$values ('order', '701-0000001-0000001', 'ORDER_NOT_IMPORTED')$$, 'it is listed so');
select is(amzmp.release_penalty('orders', '{701-0000001-0000001}'), 1::bigint, 'released');
select is(amzmp._retry_orders(:account_id, true), 1, 'it is tried at once');
select work(:account_id) \g /dev/null
select results_eq($$select tries, gave_up from amzmp.penalty$$, $$values (1, false)$$, 'and counted anew');
select is((select count(*) from amzmp.parked_order p where p.failed_at is not null), 1::bigint, 'it is still as it came');
select amzmp.redeliver('orders_DE') \g /dev/null
select is_empty($$select * from amzmp.penalty$$, 'redeliver begins anew as well');
select work(:account_id) \g /dev/null
select is(p.tries, 1, 'it fails again') from amzmp.penalty p;

select arrives(:account_id, an_order('701-0000001-0000001', 'UNSHIPPED', 1, jsonb_build_array(item('11', 'MUG', 1, 0, 1)))) \g /dev/null
select is((select count(*) from amzmp.orders), 2::bigint, 'a newer state of it is tried at once');
select is_empty($$select * from amzmp.penalty$$, 'and when it is imported, nothing is held against it');

-- an order that is here already and whose newer state cannot be read
select arrives_damaged(:account_id, '701-0000002-0000002', 5) \g /dev/null
select is(p.code, 'ORDER_NOT_IMPORTED', 'so is a newer state of an order that is here') from amzmp.penalty p;
select amzmp._flow_purge_personal_data(:account_id, 0, 0) \g /dev/null
select is_empty($$select * from amzmp.parked_order$$, 'past the time of personal data it is kept no longer');
select is_empty($$select * from amzmp.penalty$$, 'nor is the penalty');

-- What the shop refuses is cancelled at Amazon, where it wants that; what merely failed only when it is given up.
create function orders_test.take(account_id bigint, amazon_order_id text) returns text language plpgsql as $$
begin
    if amazon_order_id like '704%' then
        return 1 / (length(amazon_order_id) - 19);
    end if;
    raise exception 'no such postcode';
end $$;
grant execute on function orders_test.take(bigint, text) to orders_shop;
select amzmp.deliver_orders_to('orders_DE', 'orders_test.take(bigint, text)', run_as => 'orders_shop') \g /dev/null
select arrives(:account_id, an_order('702-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('31', 'MUG', 1, 0, 1)))) \g /dev/null
select is((select o.import_state from amzmp.orders o where o.amazon_order_id like '702%'), 'quarantined', 'the shop refuses an order');
select is_empty('select * from amzmp.cancellation', 'which is not cancelled by itself');
select amzmp.set('orders', 'cancel_failed_orders', 'true') \g /dev/null
select arrives(:account_id, an_order(v.id, 'UNSHIPPED', 0, jsonb_build_array(item(left(v.id, 3), 'MUG', 1, 0, 1))))
  from (values ('703-0000001-0000001'), ('704-0000001-0000001')) as v (id) \g /dev/null
select results_eq('select amazon_order_id, state, code from amzmp.cancellation', $$values ('703-0000001-0000001', 'queued', 'NoInventory')$$,
    'unless the account wants that; an error of another kind may pass');
select later(:account_id), work(:account_id), later(:account_id), work(:account_id), later(:account_id), work(:account_id) \g /dev/null
select ok(p.gave_up, 'that order is given up') from amzmp.penalty p where p.subject like '704%';
select is((select c.state from amzmp.cancellation c where c.amazon_order_id like '704%'), 'queued', 'and then cancelled, too');

select * from finish();
rollback;
