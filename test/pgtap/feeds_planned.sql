-- feeds_planned.sql
-- How many feeds are planned, of which size and when: sizes by facet, feeds that leave while the shop's change is still being
-- read, and one that is built after the other.

begin;
\ir listing_setup.psql
select amzmp.create_key() \g /dev/null
\ir feeds_setup.psql

create function bulk() returns void language sql as $$
    select amzmp._task_bulk(t.account_id, '', jsonb_build_object('since', now())) from this as t
$$;

-- Nothing is planned, and so many prices differ beside 50 single calls; some have rising stock, too.
create function begin_anew(prices integer, stocks integer default 0) returns void language plpgsql as $$
begin
    delete from amzmp.request;
    delete from amzmp.task;
    delete from amzmp.feed;
    delete from amzmp.feed_candidate;
    delete from amzmp.feed_message;
    delete from amzmp.source_change;
    update amzmp.listing set remote_price = desired_price;
    update amzmp.inventory set remote_quantity = desired_quantity;
    perform shop(i.sku, (select max(l.desired_price) + 1 from amzmp.listing as l),
        i.desired_quantity + (i.sku > 'P' || 250 - stocks)::integer)
    from amzmp.inventory as i
    where i.sku > 'P' || lpad((200 - prices)::text, 3, '0');
end
$$;

create function unread(number integer) returns void language sql as $$
    delete from amzmp.source_change;
    insert into amzmp.source_change (account_id, source_id, watched_id, keys, cause)
    select t.account_id, 900001, 0, array(select 'X' || i from generate_series(1, unread.number) as i), '{}'
    from this as t
    where unread.number > 0
$$;

update amzmp.source set rescan_due = 'infinity';
select amzmp.set('seller', s.name, s.value)
from (values ('bulk_feeds', 'true'), ('brake_minimum', '100000'), ('feed_minimum', '5'), ('feed_expected', '10 seconds')) as s (name, value)
\g /dev/null
select live('P' || lpad(i::text, 3, '0'), 10, 5) from generate_series(1, 250) as i \g /dev/null

/* ---- sizes ---- */

select begin_anew(150) \g /dev/null
select bulk() \g /dev/null
select results_eq('select planned from amzmp.feed', 'values (150)', 'what fits into one small feed is not split');
select begin_anew(150), amzmp.set('seller', 'feed_chunk_price', '40'), amzmp.set('seller', 'queue_chunk_price', '10') \g /dev/null
select results_eq($$select p.facets, p.backlog, p.size from (select c.facets, cardinality(c.skus) as backlog, c.size
        from this as t, unnest(amzmp._bulk_channels(t.account_id, 0, 5)) as c) as p$$,
    $$values ('{price}'::text[], 150, 38)$$, 'four feeds have room for all');
select bulk() \g /dev/null
select results_eq('select planned from amzmp.feed', 'values (38), (38), (38), (38)', 'and are of one size');
select results_eq($$select cardinality(c.skus), count(*) from amzmp.feed_candidate as c group by 1 order by 1 desc$$,
    $$values (10, 12::bigint), (8, 2), (7, 2)$$, 'ten of their SKUs are treated at a time');
select results_eq($$select t.due_at <= now() from amzmp.task as t where t.kind = 'feed' order by t.task_id$$,
    'values (true), (false), (false), (false)', 'one is built after the other');
select amzmp._task_feed(t.account_id, min(f.feed_id)::text, '{}')
from this as t, amzmp.feed as f, generate_series(1, 6) group by t.account_id, generate_series \g /dev/null
select results_eq($$select f.state, t.due_at <= now() from amzmp.feed as f
        join amzmp.task as t on (t.kind, t.subject) = ('feed', f.feed_id::text)
        where f.state = 'planned' order by f.feed_id$$,
    $$values ('planned', true), ('planned', false), ('planned', false)$$, 'when one is built the next begins');
select results_eq($$select state, messages from amzmp.feed where state <> 'planned'$$, $$values ('built', 38)$$,
    'with all that it was to carry');
select bulk() \g /dev/null
select is((select count(*) from amzmp.feed), 4::bigint, 'what a feed is to carry is planned once');
select is((select count(*) from amzmp.request where operation = 'patchListingsItem'), 50::bigint, 'and goes by no single call');

select begin_anew(150, 50), amzmp.set('seller', 'feed_chunk_stock', '30') \g /dev/null
select bulk() \g /dev/null
select results_eq($$select max(planned), argument -> 'facets' from amzmp.feed group by 2$$, $$values (30, '["price", "stock"]'::jsonb)$$,
    'of a feed with prices and stock the smaller size holds');

/* ---- while the shop's change is still being read ---- */

select begin_anew(150), amzmp.set('seller', 'feed_chunk_price', '60'), unread(100) \g /dev/null
select results_eq($$select (amzmp._still_to_read(t.account_id)).* from this as t$$, 'values (100::bigint, false)',
    'a hundred rows are to be read');
select bulk() \g /dev/null
select results_eq('select planned from amzmp.feed', 'values (50)', 'a fifth of all leaves as soon as it is there');
select is((select argument ->> 'keys' from amzmp.task where kind = 'bulk'), null, 'there may be enough for the next');
select bulk(), bulk() \g /dev/null
select results_eq('select planned from amzmp.feed', 'values (50), (50), (50)', 'there is');
select bulk() \g /dev/null
select is((select count(*) from amzmp.feed), 3::bigint, 'for a fourth there is not');
select begin_anew(20), unread(200) \g /dev/null
select bulk() \g /dev/null
select results_eq($$select (t.argument ->> 'keys')::integer, t.due_at > now() from amzmp.task as t where t.kind = 'bulk'$$,
    'values (165, true)', 'it looks again when enough has been read');
select unread(180) \g /dev/null
select amzmp._task_bulk(t.account_id, '', k.argument) from this as t, amzmp.task as k where k.kind = 'bulk' \g /dev/null
select is((select count(*) from amzmp.feed), 0::bigint, 'not before');
select amzmp._task_bulk(t.account_id, '', jsonb_build_object('since', now() - interval '1 minute')) from this as t \g /dev/null
select results_eq('select planned from amzmp.feed', 'values (20)', 'a shop that never rests is not waited for');
update amzmp.task set due_at = now() + interval '1 hour', argument = '{"since": "2020-01-01T00:00:00Z"}' where kind = 'bulk';
insert into amzmp.task (account_id, kind, due_at, argument)
select :account_id, 'bulk', now() + interval '1 hour', '{"since": "2020-01-01T00:00:00Z"}'
where not exists (select from amzmp.task where kind = 'bulk');
select amzmp._plan_bulk(:account_id, '1 s') \g /dev/null
select results_eq($$select argument ->> 'since', due_at < now() + interval '1 minute' from amzmp.task where kind = 'bulk'$$,
    $$values ('2020-01-01T00:00:00Z', true)$$, 'who asks again does not put it off');

select * from finish();
rollback;
