-- listing_brake.sql
-- What looks like a mistake waits for a person, and what does not goes through.

begin;
\ir listing_setup.psql

select live('P' || n, 10, 5) from generate_series(1, 100) as n \g /dev/null
select live('P' || n, 10, 5, :fr) from generate_series(1, 60) as n \g /dev/null

-- Many rows of the shop change in one transaction, and are read at once.
create function change(price numeric, quantity bigint, first integer, last integer) returns void language plpgsql as $$
begin
    update amzmp.product as p set price = change.price, quantity = change.quantity
    where p.source_id = 900001 and p.sku = any (array(select 'P' || n from generate_series(first, last) as n));
    perform amzmp._recompute((select account_id from this), array(select 'P' || n from generate_series(first, last) as n), '{"role": "shop"}');
end
$$;

create function batches() returns text language sql as $$
    select coalesce(string_agg(format('%s %s %s %s', b.channel, b.facet, b.state, b.changes), ', ' order by b.batch), '') from amzmp.brake as b
$$;

create function differences() returns bigint language sql as $$
    select (select count(*) from amzmp.price_diff) + (select count(*) from amzmp.stock_diff)
$$;

/* ---- so many at once, and no more ---- */

select change(11, 5, 1, 50) \g /dev/null
select is(batches(), '', 'fifty prices are no mistake');
select is(differences(), 100::bigint, 'they are to be sent, in both channels');
select change(12, 5, 1, 50) \g /dev/null
select is(batches(), '', 'the same offers again count once in the window');
select change(12, 5, 51, 51) \g /dev/null
select is(batches(), 'DE price held 1, FR price held 1', 'one more is too many, in each channel');
select change(12, 5, 52, 53) \g /dev/null
select is(batches(), 'DE price held 3, FR price held 3', 'and what follows joins the batch');
select results_eq($$select sku, old_value, new_value, cause from amzmp.brake_item order by batch_id, sku limit 1$$,
    $$values ('P51', 10::numeric, 12.00, '{"role": "shop"}'::jsonb)$$, 'the batch tells old and new, and who');
select is(differences(), 100::bigint, 'held values are no difference');
select ok(not exists (select from amzmp.request where subject in ('P51', 'P52')), 'and are not sent');
select change(10, 4, 51, 51) \g /dev/null
select is(batches(), 'DE price held 2, FR price held 2', 'what the shop takes back is held no longer');
select is(i.desired_quantity, 4, 'the brake of a price does not hold the stock') from amzmp.inventory as i where i.sku = 'P51';

/* ---- a person decides ---- */

select is(amzmp.release_brake('seller', (select batch from amzmp.brake where channel = 'DE')), 2, 'released');
select results_eq($$select o.channel, o.desired_price from amzmp.offer as o where o.sku = 'P52' order by 1$$,
    $$values ('DE', 12.00), ('FR', 10::numeric)$$, 'one channel''s batch is one channel''s');
select is(amzmp.discard_brake('seller', (select batch from amzmp.brake where channel = 'FR')), 2, 'the other is discarded');
select change(12, 5, 52, 53) \g /dev/null
select results_eq($$select o.desired_price from amzmp.offer as o where o.sku = 'P52' and channel = 'FR'$$, array[10::numeric],
    'what was discarded is not asked again');
select change(13, 5, 52, 53) \g /dev/null
select results_eq($$select o.desired_price from amzmp.offer as o where o.sku = 'P52' and channel = 'FR'$$, array[13.00],
    'until the shop wants something else');
select throws_ok($$select amzmp.release_brake('seller', 1)$$, 'AZ203', 'no batch 1 is held in this account', 'nothing is decided twice');
select results_eq($$select state, closed_by is not null from amzmp.brake order by batch$$, $$values ('released', true), ('discarded', true)$$, 'both are kept for the record');

/* ---- one price that jumps ---- */

select change(5.00, 5, 90, 90) \g /dev/null
select is((select count(*) from amzmp.brake where state = 'held'), 0::bigint, 'half is a sale');
select change(20.00, 5, 91, 91) \g /dev/null
select is((select count(*) from amzmp.brake where state = 'held'), 0::bigint, 'double is a rise');
select change(4.99, 5, 92, 92) \g /dev/null
select results_eq($$select channel, reason, changes from amzmp.brake where state = 'held'$$,
    $$values ('DE', 'a price changes by an unusual amount', 1::bigint)$$, 'less than half is held, alone');
select change(20.01, 5, 93, 93) \g /dev/null
select is((select count(*) from amzmp.brake_item where sku in ('P92', 'P93')), 2::bigint, 'more than double too');
select change(9.00, 5, 92, 92) \g /dev/null
select results_eq($$select l.desired_price, exists (select from amzmp.brake_item as i where i.sku = 'P92')
    from amzmp.listing as l where l.sku = 'P92'$$,
    $$values (9.00, false)$$, 'brought back within the limits it is let through');
select change(30, 5, 93, 93) \g /dev/null
select is((select new_value from amzmp.brake_item where sku = 'P93'), 30.00, 'corrected to another jump it stays held');
select amzmp.set('DE', 'brake_rise', '3') \g /dev/null
select change(30, 5, 94, 94) \g /dev/null
select is(l.desired_price, 30.00, 'the limit is a setting') from amzmp.listing as l where l.sku = 'P94';

/* ---- stock ---- */

select change(10, 3, 1, 100) \g /dev/null
select is((select count(*) from amzmp.brake where state = 'held' and facet = 'stock'), 0::bigint, 'less stock everywhere is a good day');
select change(10, 0, 1, 50) \g /dev/null
select is((select count(*) from amzmp.brake where state = 'held' and facet = 'stock'), 0::bigint, 'fifty that are sold out are one too');
select change(10, 0, 51, 60) \g /dev/null
select results_eq($$select channel, reason, changes from amzmp.brake where state = 'held' and facet = 'stock'$$,
    $$values ('DE', '10 offers would be sold out at once', 10::bigint)$$, 'sixty are held, once for all channels');
select is(i.desired_quantity, 3, 'they keep their stock') from amzmp.inventory as i where i.sku = 'P51';
select amzmp._stock_moved(:account_id, array['P70'], array[3], array[now() + interval '1 minute']) \g /dev/null
select is(i.desired_quantity, 0, 'an order takes the last unit whatever is held') from amzmp.inventory as i where i.sku = 'P70';
select amzmp.unpublish('DE', array['P71']) \g /dev/null
select is(i.desired_quantity, 0, 'and a person stops an offer') from amzmp.inventory as i where i.sku = 'P71';
select change(10, 2, 51, 60) \g /dev/null
select is((select count(*) from amzmp.brake where state = 'held' and facet = 'stock'), 0::bigint, 'a batch with nothing left is gone');
select change(10, 0, 61, 61) \g /dev/null
select is(i.desired_quantity, 0, 'and what led to it counts no more') from amzmp.inventory as i where i.sku = 'P61';

/* ---- what the brake has nothing to do with ---- */

select amzmp._recompute(:account_id, array(select 'P' || n from generate_series(1, 100) as n), '{}') \g /dev/null
insert into amzmp.product (account_id, source_id, sku, price, quantity)
select :account_id, 900001, 'NEW' || n, 10, 0 from generate_series(1, 200) as n;
insert into amzmp.inventory (account_id, sku) select :account_id, 'NEW' || n from generate_series(1, 200) as n;
insert into amzmp.listing (account_id, channel_id, sku, state) select :account_id, :de, 'NEW' || n, 'queued' from generate_series(1, 200) as n;
select amzmp._recompute(:account_id, array(select 'NEW' || n from generate_series(1, 200) as n), '{}') \g /dev/null
select is((select count(*) from amzmp.brake_item where sku like 'NEW%'), 0::bigint, 'first offers are never held');

/* ---- the share ---- */

insert into amzmp.product (account_id, source_id, sku, price, quantity)
select :account_id, 900001, 'M' || n, 10, 5 from generate_series(1, 1000) as n;
insert into amzmp.inventory (account_id, sku, listed, desired_quantity, remote_quantity)
select :account_id, 'M' || n, true, 5, 5 from generate_series(1, 1000) as n;
insert into amzmp.listing (account_id, channel_id, sku, state, desired_price, remote_price)
select :account_id, :fr, 'M' || n, 'live', 10, 10 from generate_series(1, 1000) as n;
delete from amzmp.brake_batch;
delete from amzmp.brake_item;
delete from amzmp.brake_count;
update amzmp.product set price = 11 where sku like 'M%';
select amzmp._recompute(:account_id, array(select 'M' || n from generate_series(1, 106) as n), '{}') \g /dev/null
select is(batches(), '', 'a tenth of 1,060 live offers may change');
select amzmp._recompute(:account_id, array(select 'M' || n from generate_series(107, 107) as n), '{}') \g /dev/null
select is(batches(), 'FR price held 1', 'and not one more');
update amzmp.brake_count set minute = minute - interval '12 minutes';
update amzmp.listing set desired_price_at = desired_price_at - interval '12 minutes' where sku like 'M%';
select amzmp._recompute(:account_id, array(select 'M' || n from generate_series(108, 200) as n), '{}') \g /dev/null
select is(batches(), 'FR price held 1', 'when the window has passed, a tenth may change again');

select * from finish();
rollback;
