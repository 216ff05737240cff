-- send_ageing.sql
-- Single calls that wait grow more urgent, class by class, and in the end go before stops: nothing waits for ever. Stops keep
-- the larger share.

begin;
\ir listing_setup.psql
update amzmp.source set rescan_due = 'infinity';
select amzmp.set('seller', 'bulk_feeds', 'false'), amzmp.set('seller', 'send_patience', '40 minutes') \g /dev/null

create function wait(sku text, priority integer, age interval) returns void language sql as $$
    insert into amzmp.request (account_id, operation, priority, created_at, not_before, params, subject_kind, subject, channel_id)
    select t.account_id, 'patchListingsItem', wait.priority, now() - wait.age, now() - wait.age, '{}', 'listing', wait.sku, t.de
    from this as t
$$;

-- SKUs of so many calls, in the order in which they leave.
create function leave(number integer) returns setof text language sql volatile as $$
    select x.subject
    from this as t
    cross join unnest(amzmp._take(t.account_id, 'patchListingsItem', leave.number)) with ordinality as x
    order by x.ordinality
$$;

/* ---- class by class ---- */

select wait(n.sku, n.priority, n.age)
from (
    values ('content-new', 55, interval '9 minutes'), ('content-10', 55, '11 minutes'), ('content-20', 55, '21 minutes'),
        ('content-30', 55, '31 minutes'), ('content-40', 55, '41 minutes'), ('price-20', 40, '21 minutes'),
        ('price-30', 40, '31 minutes'), ('stock-20', 30, '21 minutes'), ('less-20', 20, '21 minutes'), ('stop', 10, '50 minutes')
) as n (sku, priority, age) \g /dev/null
select is(amzmp._age_requests(:account_id), 5::bigint, 'five have waited long enough for their next class');
select results_eq($$select subject, priority::integer from amzmp.request order by subject collate "C"$$,
    $$values ('content-10', 50), ('content-20', 40), ('content-30', 30), ('content-40', 20), ('content-new', 55), ('less-20', 20),
        ('price-20', 40), ('price-30', 30), ('stock-20', 30), ('stop', 10)$$,
    'each quarter of the patience lifts by a class, and none is lowered');
select is(amzmp._age_requests(:account_id), 0::bigint, 'once');
select results_eq($$select * from leave(5)$$, $$values ('stop'), ('content-40'), ('less-20'), ('content-30'), ('price-30')$$,
    'of one class the oldest leaves first');

/* ---- stops that never end ---- */

delete from amzmp.request;
-- a tenth of a call a second: a fifth of a minute's is one call
update amzmp.account set rate_scale = 0.02 where account_id = :account_id;
select wait('old-' || i, 40, interval '81 minutes' + i * interval '1 minute') from generate_series(1, 3) as i \g /dev/null
select wait('stop-' || i, 10, i * interval '1 second') from generate_series(1, 20) as i \g /dev/null
select is_empty($$select * from leave(6) as l (sku) where sku !~ '^stop'$$, 'more stops come than calls can be made');
select amzmp._age_requests(:account_id) \g /dev/null
select results_eq($$select l.sku from leave(6) with ordinality as l (sku, place) where place in (1, 2)$$, $$values ('old-3'), ('stop-14')$$,
    'the oldest that waits leaves before stops, one in a minute');
select wait('stop-new-' || i, 10, '0') from generate_series(1, 20) as i \g /dev/null
select amzmp._age_requests(:account_id), amzmp._age_requests(:account_id) \g /dev/null
select is((select count(*) from leave(6) as l (sku) where sku ~ '^old'), 1::bigint, 'asking twice is no second share');
select amzmp._age_requests(:account_id) \g /dev/null
select is((select count(*) from leave(6) as l (sku) where sku ~ '^old'), 1::bigint, 'none of them is left in the end');

select amzmp.set('seller', 'send_old_share', '0'), wait('late', 40, '90 minutes') \g /dev/null
select amzmp._age_requests(:account_id) \g /dev/null
select is((select priority from amzmp.request where subject = 'late'), 20::smallint, 'without a share stops go first');

select * from finish();
rollback;
