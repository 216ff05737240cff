-- listing_refresh.sql
-- Reading all that the seller has in a channel, page by page: from one change to the next, by tokens where many changed at
-- once, what of it is applied and kept, and when it ends.

begin;
\ir listing_setup.psql

-- A page: SKUs with the second of their last change.
create function page(skus text[], seconds integer[], token text default null, results integer default null, price numeric default 10)
    returns void language plpgsql as $$
begin
    perform answer('searchListingsItems', 200, jsonb_build_object('numberOfResults', coalesce(results, cardinality(skus)),
        'pagination', jsonb_strip_nulls(jsonb_build_object('nextToken', token)), 'items', (
            select jsonb_agg(jsonb_set(items(item(s.sku, '["BUYABLE"]', 'B000000001', page.price, 5)) #> '{items,0}', '{summaries,0,lastUpdatedDate}',
                to_jsonb('2026-01-01T00:00:' || to_char(s.second, 'FM00') || '.000Z')))
            from unnest(skus, seconds) as s (sku, second))));
end
$$;
create function asked() returns table (after text, token text, sku text) language sql as $$
    select c.params ->> 'lastUpdatedAfter', c.params ->> 'pageToken', c.params #>> '{identifiers,0}' from claim('searchListingsItems') as c
$$;
create function run() returns amzmp.listing_refresh language sql as $$ select r from amzmp.listing_refresh as r $$;

select live('L' || i, 10, 5) from generate_series(1, 3) as i \g /dev/null
delete from amzmp.request;
update amzmp.listing set read_due_at = null, observed_at = now() - interval '1 day';

/* ---- some ---- */

select is(amzmp.refresh('DE', '{L1}'), '1 listing to be read', 'some SKUs can be read');
select results_eq('select sku from asked()', $$values ('L1')$$, 'by name');
select throws_ok($$select amzmp.refresh('DE', '{L1}', now())$$, 'AZ202', null, 'either by name or by change');
delete from amzmp.request;
update amzmp.listing set read_due_at = null;

/* ---- all ---- */

select matches(amzmp.refresh('DE'), '^all listings are read', 'all can be read');
select results_eq('select * from asked()', $$values (null::text, null::text, null::text)$$, 'from the first change on');
select page(array(select 'X' || i from generate_series(1, 18) as i) || '{L1,L2}', array_fill(1, '{19}') || 7, 'more', 25) \g /dev/null
select results_eq('select * from asked()', $$values ('2026-01-01T00:00:07.000Z', null::text, null::text)$$, 'then from the last one''s change');
select page(array(select 'Y' || i from generate_series(1, 20) as i), array_fill(7, '{20}'), 'more', 25) \g /dev/null
select results_eq('select * from asked()', $$values ('2026-01-01T00:00:07.000Z', 'more', null::text)$$, 'by token where a page changed at once');
select answer('searchListingsItems', 400, '{}', 'InvalidInput', 'The token has ended.') \g /dev/null
select results_eq('select * from asked()', $$values ('2026-01-01T00:00:07.000Z', null::text, null::text)$$, 'and anew where the token has ended');
select page(array(select 'Y' || i from generate_series(1, 20) as i), array_fill(7, '{20}'), null, 1025) \g /dev/null
select results_eq('select * from asked()', $$values ('2026-01-01T00:00:07.001Z', null::text, null::text)$$, 'behind the moment of which Amazon does not show all');
select matches((run()).problem, 'more changed in one moment', 'which is told');
select is((run()).ended_at, null, 'it is under way');
select page('{Z1}', '{9}') \g /dev/null
select results_eq('select pages, listings, ended_at is not null from amzmp.listing_refresh', $$values (4, 61::bigint, true)$$, 'a page that is not full is the last');
select results_eq('select sku from asked()', $$values ('L3')$$, 'what is managed and was not seen is asked for by name');
select is((select count(*) from amzmp.listing where observed_at > now() - interval '1 hour'), 2::bigint, 'what is managed and was seen is observed');
select is((select count(*) from amzmp.unmanaged_listing), 18 + 20 + 1::bigint, 'what is not managed shows');
select results_eq($$select asin, price, quantity, status, fulfillment from amzmp.remote_listing where sku = 'Z1'$$,
    $$values ('B000000001', 10::numeric, 5, 'active', 'merchant')$$, 'as it is there');

/* ---- what changed ---- */

delete from amzmp.request;
select amzmp.refresh('DE', changed_since => '2026-01-01 00:00:09 UTC') \g /dev/null
select results_eq('select * from asked()', $$values ('2026-01-01T00:00:09.000Z', null::text, null::text)$$, 'only what changed since');
select page('{L1}', '{9}', price => 12) \g /dev/null
select is((select observed_price from amzmp.listing where sku = 'L1'), 12::numeric, 'a price that somebody else changed is observed');
select is((run()).problem, null, 'and all is well');
select is_empty('select * from asked()', 'nothing else is asked for');

/* ---- instead of a report ---- */

select amzmp.set('seller', 'report_reuse', '0'), amzmp.reconcile('DE') \g /dev/null
select count(*) from claim('createReport') \g /dev/null
select answer('createReport', 403, '{}', 'Unauthorized', 'No.') \g /dev/null
select results_eq('select * from asked()', $$values (null::text, null::text, null::text)$$, 'where Amazon forbids the report, all are read');
select amzmp._refresh_instead(r) from amzmp.report r limit 1 \g /dev/null
select is((select count(*) from amzmp.request where operation = 'searchListingsItems'), 1::bigint, 'once while that is under way');
delete from amzmp.request where operation = 'searchListingsItems';
select amzmp._refresh_instead(r) from amzmp.report r limit 1 \g /dev/null
select results_eq('select * from asked()', $$values (null::text, null::text, null::text)$$, 'and anew where its request is gone');
select answer('searchListingsItems', 403, '{}', 'Unauthorized', 'No.') \g /dev/null
select matches((run()).problem, 'Unauthorized', 'if it forbids that too, it is told');

select * from finish();
rollback;
