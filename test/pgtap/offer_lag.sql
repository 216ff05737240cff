-- offer_lag.sql
-- How long changes take: what is noted when they are accepted, by PATCH and by feed, what when they are seen, and the
-- median and 99th percentile of it.

begin;
\ir listing_setup.psql

select live('MUG', 10, 5) \g /dev/null
update amzmp.product set cause = null;
create function change(sku text, price numeric, quantity integer, ago interval) returns void language plpgsql as $$
begin
    update amzmp.product as p set price = change.price, quantity = change.quantity where p.sku = change.sku;
    perform amzmp._recompute((select account_id from this), array[change.sku], jsonb_build_object('role', 'shop', 'at', now() - ago));
end
$$;
select change('MUG', 12, 7, '10 seconds') \g /dev/null
select count(*) from claim('patchListingsItem') \g /dev/null
select accept('patchListingsItem') \g /dev/null
select results_eq('select facet, value, committed_at, sent_at is not null, accepted_at >= sent_at, seen_at from amzmp.lag_sample order by facet',
    $$values ('price', 12::numeric, now() - interval '10 seconds', true, true, null::timestamptz), ('stock', 7, now() - interval '10 seconds', true, true, null)$$,
    'an accepted change is noted with its times');
select change('MUG', 13, 7, '1 second') \g /dev/null
select count(*) from claim('patchListingsItem') \g /dev/null
select answer('patchListingsItem', 400, null, 'InvalidInput', 'no') \g /dev/null
select is((select count(*) from amzmp.lag_sample), 2::bigint, 'a refused one is not');

/* ---- seen ---- */

select amzmp._flow_measure_lag(:account_id, 0, null) \g /dev/null
select results_eq($$select r.params -> 'identifiers' from amzmp.request r where r.operation = 'searchListingsItems'$$, $$values ('["MUG"]'::jsonb)$$,
    'Amazon is asked for what changed last');
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, items(item('MUG', '["BUYABLE"]', 'B000000001', 10, 7))) \g /dev/null
select results_eq('select facet, seen_at is not null from amzmp.lag_sample order by 1', $$values ('price', false), ('stock', true)$$,
    'what Amazon has is seen, what it has not yet is not');
select amzmp._flow_measure_lag(:account_id, 0, null) \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, items(item('MUG', '["BUYABLE"]', 'B000000001', 12, 3))) \g /dev/null
select is((select count(*) from amzmp.lag_sample where seen_at is null), 0::bigint, 'it is asked for again until it shows');
select amzmp._flow_measure_lag(:account_id, 0, null) \g /dev/null
select is_empty($$select * from claim('searchListingsItems')$$, 'and then no more');

/* ---- a feed: some stand for all ---- */

insert into amzmp.feed (account_id, feed_id, channel_id, state, submitted_at) values (:account_id, 77, :de, 'processed', now() - interval '5 minutes');
insert into amzmp.feed_message (account_id, feed_id, message_id, channel_id, sku, price, quantity, code)
select :account_id, 77, i, :de, 'F' || i, i, null, case when i % 10 = 0 then '90244' end from generate_series(1, 1000) as i;
select amzmp._note_feed_lag(f, array(select m from amzmp.feed_message as m)) from amzmp.feed as f \g /dev/null
select ok(count(*) between 40 and 50 and sum(weight) between 855 and 945, 'fifty samples stand for nine hundred') from amzmp.lag_sample where sku like 'F%';
select ok(bool_and(accepted_at - sent_at = interval '5 minutes'), 'sent is when the feed was submitted') from amzmp.lag_sample where sku like 'F%';

/* ---- the view ---- */

delete from amzmp.lag_sample;
insert into amzmp.lag_sample (account_id, channel_id, facet, sku, value, committed_at, sent_at, accepted_at)
select :account_id, :de, 'price', 'S' || i, 1, now() - interval '1 hour', now() - interval '1 hour' + i * interval '1 second', now() - interval '1 minute'
from generate_series(1, 200) as i;
insert into amzmp.lag_sample (account_id, channel_id, facet, sku, value, weight, committed_at, sent_at, accepted_at)
values (:account_id, :de, 'price', 'OLD', 1, 800, now() - interval '3 hours', now() - interval '2 hours', now() - interval '2 hours');
select results_eq($$select period, changes, median, p99 from amzmp.offer_lag where stage = 'commit to sent'$$,
    $$values ('hour', 200::bigint, interval '100 seconds', interval '198 seconds'), ('day', 1000, interval '1 hour', interval '1 hour')$$,
    'median and 99th percentile over the hour and the day, by weight');
select is_empty($$select * from amzmp.offer_lag where stage = 'accepted to seen'$$, 'what was never seen has no time');
update amzmp.lag_sample set accepted_at = now() - interval '25 hours' where sku = 'OLD';
select amzmp._purge_lag_samples(:account_id) \g /dev/null
select is((select count(*) from amzmp.lag_sample), 200::bigint, 'samples go after a day');

select * from finish();
rollback;
