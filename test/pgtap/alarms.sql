-- alarms.sql
-- What alarms remember: a subject is told once, also when the alarm is changed, and again after it was gone for long enough.

\ir orders_setup.psql

create function sold(id text, ago interval) returns void language sql as $$
    insert into amzmp.orders (account_id, amazon_order_id, order_number, status, purchased_at, last_updated_at, imported_at)
    select a.account_id, id, id, 'UNSHIPPED', now() - ago, now() - ago, now() - ago from amzmp.account a where a.name = 'orders';
$$;
-- The last check was so long ago.
create function checked(alarm_name text, ago interval) returns void language sql as $$
    update amzmp.alarm set checked_at = now() - ago, set_at = least(set_at, now() - ago) where alarm = alarm_name;
$$;
create function told(alarm_name text) returns text language sql as $$
    select coalesce(string_agg(s ->> 'subject', ' ' order by e.alarm_event_id, s ->> 'subject'), '')
      from amzmp.alarm_event e, jsonb_array_elements(e.subjects) s where e.alarm = alarm_name
$$;

select sold('before', '1 day') \g /dev/null
select amzmp.set_alarm('orders', 'new', preset => 'new_orders') \g /dev/null
select amzmp.run_alarm('orders', 'new') \g /dev/null
select is(told('new'), '', 'orders from before an alarm was set are no news');
select checked('new', '1 hour'), sold('first', '30 minutes') \g /dev/null
select amzmp.set_alarm('orders', 'new', preset => 'new_orders', level => 'warning') \g /dev/null
select amzmp.run_alarm('orders', 'new') \g /dev/null
select is(told('new'), 'first', 'what came before it was changed is told by the changed one');
select amzmp.run_alarm('orders', 'new') \g /dev/null
select amzmp.set_alarm('orders', 'new', preset => 'new_orders') \g /dev/null
select amzmp.run_alarm('orders', 'new') \g /dev/null
select is(told('new'), 'first', 'and once');

insert into amzmp.inventory (account_id, sku, listed, desired_quantity) values (:account_id, 'MUG', true, 2), (:account_id, 'HAT', true, 3);
select amzmp.set_alarm('orders', 'low', preset => 'low_stock', threshold => 2, quiet => '1 hour') \g /dev/null
select amzmp.run_alarm('orders', 'low') \g /dev/null
select is(told('low'), 'MUG', 'what is at the threshold');
update amzmp.inventory set desired_quantity = 9 where account_id = :account_id and sku = 'MUG';
select amzmp.run_alarm('orders', 'low') \g /dev/null
update amzmp.inventory set desired_quantity = 1 where account_id = :account_id and sku = 'MUG';
select amzmp.run_alarm('orders', 'low') \g /dev/null
select is(told('low'), 'MUG', 'back within its quiet time it is not told again');
update amzmp.inventory set desired_quantity = 9 where account_id = :account_id and sku = 'MUG';
update amzmp.alarm_subject set seen_at = now() - interval '61 minutes' where alarm = 'low';
select amzmp.run_alarm('orders', 'low') \g /dev/null
update amzmp.inventory set desired_quantity = 1 where account_id = :account_id and sku = 'MUG';
select amzmp.run_alarm('orders', 'low') \g /dev/null
select is(told('low'), 'MUG MUG', 'after that it is');
select is(state, 'firing', 'the alarm is firing') from amzmp.alarm where alarm = 'low';

-- Each preset can be checked.
select amzmp.set_alarm('orders', p.preset, preset => p.preset) from amzmp.alarm_preset p \g /dev/null
select amzmp.run_alarm('orders', p.preset) from amzmp.alarm_preset p \g /dev/null
select is_empty($$select alarm, state_reason from amzmp.alarm where state not in ('quiet', 'firing')$$, 'each preset can be checked');

select * from finish();
rollback;
