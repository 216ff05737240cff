/*
 * planner_feed.sql
 *	  Feeds are planned: what has no room beside the single calls that wait is divided (planner.sql), and the share of
 *	  feeds becomes feeds with candidates.
 *
 * The task bulk does it. While the shop's change is still being read it plans a feed as soon as there is enough for one,
 * so that the first are under way when the last rows are read; feed_plan.sql builds one after the other.
 */

/*
 * What is still to be read of the shop for an account: keys of changed rows, and whether whole sources are compared. A
 * thousand rows of keys are up to a million keys, and more make no difference: then all feeds are full.
 */
create function amzmp._still_to_read(account_id bigint, out keys bigint, out comparing boolean)
    language plpgsql
    stable
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    with readable as materialized (
        select s.source_id, s.rescan_due
        from amzmp.source as s
        where s.account_id = _still_to_read.account_id
            and s.state <> 'held'
            and (s.retry_at is null or s.retry_at <= now())
    )
    select coalesce((
            select sum(cardinality(n.keys))
            from (
                select c.keys
                from amzmp.change as c
                where c.watched_id in (
                        select w.watched_id
                        from readable as r
                        join amzmp.source_watch as w on (w.account_id, w.source_id) = (_still_to_read.account_id, r.source_id)
                    )
                limit 1000
            ) as n
        ), 0) + coalesce((
            select sum(cardinality(n.keys))
            from (
                select x.keys
                from amzmp.source_change as x
                where x.account_id = _still_to_read.account_id
                    and x.source_id in (select r.source_id from readable as r)
                limit 1000
            ) as n
        ), 0),
        exists (select from readable as r where r.rescan_due <= now())
        or exists (
            select
            from amzmp.rescan_mark as m
            join amzmp.source_watch as w using (watched_id)
            where w.account_id = _still_to_read.account_id
                and w.source_id in (select r.source_id from readable as r)
        )
    into keys, comparing;
end
$$;

/*
 * Plan feeds of a channel for these SKUs: at most so many, each with an even share of what is urgent. What finds no room
 * in them is left. Returns how many were planned.
 */
create function amzmp._plan_feeds(account_id bigint, channel_id bigint, skus text[], most integer, reason text,
    facets text[] default '{price,stock}')
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    chunk constant integer := amzmp._facet_chunk(account_id, 'feed_chunk', facets);
    portion constant integer := amzmp._facet_chunk(account_id, 'queue_chunk', facets);
    number constant integer := cardinality(skus);
    feeds constant integer := amzmp._feeds_for(number, chunk, most);
    planned bigint[];
begin
    if feeds <= 0 then
        return 0;
    end if;
    with added as (
        insert into amzmp.feed (account_id, channel_id, planned, reason, argument)
        select _plan_feeds.account_id, _plan_feeds.channel_id, least(chunk, ceil(number / feeds::numeric)), _plan_feeds.reason,
            jsonb_build_object('facets', facets)
        from generate_series(1, feeds) as n
        returning feed_id
    )
    select array_agg(a.feed_id order by a.feed_id) into planned from added as a;
    insert into amzmp.feed_candidate (account_id, feed_id, position, skus)
    select _plan_feeds.account_id, planned[(s.position - 1) % feeds + 1], (s.position - 1) / feeds / portion,
        array_agg(s.sku order by s.position)
    from unnest(skus) with ordinality as s (sku, position)
    where s.position <= feeds::bigint * chunk
    group by 2, 3;
    perform amzmp._build_in_turn(account_id, planned);
    return feeds;
end
$$;

-- How many feeds so many SKUs are worth: as many as are allowed, but their time does not depend on their size while that is small.
create function amzmp._feeds_for(number bigint, chunk integer, most bigint)
    returns integer
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select least(greatest(ceil($1 / $2::numeric), $1 / 500), $3)::integer
$$;

/*
 * What waits in a channel and how it is divided. by_feed, feeds and size (of one) count what is still to be read as well.
 */
create type amzmp.bulk_channel as (channel_id bigint, skus text[], facets text[], chunk integer, by_feed bigint, feeds integer,
    size integer, reason text);

comment on type amzmp.bulk_channel is 'Inner: a channel''s backlog and how it goes to Amazon.';

-- Channels with a backlog, divided; coming: SKUs that are still to be read, which may differ in every one of them.
create function amzmp._bulk_channels(account_id bigint, coming bigint, free integer)
    returns amzmp.bulk_channel[]
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    rate constant double precision := amzmp._patch_rate(account_id);
begin
    return array(
        with backlog as materialized (
            select b.channel_id, b.skus, b.facets, amzmp._facet_chunk(_bulk_channels.account_id, 'feed_chunk', b.facets) as chunk
            from amzmp._backlog(_bulk_channels.account_id) as b
            where b.skus <> '{}'
        ), divided as materialized (
            select d.*, sum(d.by_feed) over () as all_by_feed
            from (
                select array_agg(b.channel_id) as channel_ids, array_agg(cardinality(b.skus) + coming) as expected
                from backlog as b
            ) as n
            cross join lateral amzmp._divide_backlog(_bulk_channels.account_id, n.channel_ids, n.expected) as d
        ), shared as (
            select b.*, d.by_feed, d.backlog, d.queued, d.seconds, amzmp._feeds_for(d.by_feed, b.chunk,
                    least(free, greatest(ceil(d.by_feed / b.chunk::numeric),
                            floor(free * d.by_feed / nullif(d.all_by_feed, 0))))::bigint) as feeds
            from backlog as b
            join divided as d using (channel_id)
        )
        select (s.channel_id, s.skus, s.facets, s.chunk, s.by_feed, s.feeds,
                least(ceil(s.by_feed / nullif(s.feeds, 0)::numeric), s.chunk),
                format('%s SKUs wait, single calls alone would need %s s, with feeds %s s', s.backlog,
                    ((s.backlog + s.queued) / rate)::numeric(20, 0), s.seconds::numeric(20, 0)))::amzmp.bulk_channel
        from shared as s
        order by s.by_feed desc, s.channel_id
    );
end
$$;

/*
 * Inner, own runner: divide what has no room beside the single calls that wait. argument: since when something waits,
 * and the number of unread keys below which it is worth another look.
 */
create function amzmp._task_bulk(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    unread constant record := amzmp._still_to_read(account_id);
    -- do not wait for a shop that never rests
    reading constant boolean := (unread.keys > 0 or unread.comparing)
        and now() < (argument ->> 'since')::timestamptz + interval '30 seconds';
    leaving_left boolean;
begin
    if reading and unread.keys > (argument ->> 'keys')::bigint then
        perform amzmp._add_task(account_id, 'bulk', '', null, now() + interval '0.2 seconds', argument);
        return;
    end if;
    perform amzmp._drop_late_feeds(account_id);
    -- what takes something off sale comes first
    leaving_left := amzmp._plan_request_feeds(account_id, true);
    if reading then
        perform amzmp._plan_early(account_id, unread.keys, argument);
    else
        perform amzmp._plan_backlog(account_id, argument, leaving_left);
    end if;
end
$$;

/*
 * The shop's change is still being read. What is unread counts as if it waited already: so the size of feeds is known,
 * and one leaves as soon as there is enough for it. A comparison does not tell what it will find: then feeds are full.
 */
create function amzmp._plan_early(account_id bigint, unread bigint, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    free constant integer := (amzmp._feed_tokens(account_id)).free;
    channel record;
    missing bigint;
    made integer := 0;
begin
    for channel in
        select c.channel_id, c.skus, c.facets, c.reason, case when unread > 0 then c.size else c.chunk end as size
        from unnest(case when free > 0 then amzmp._bulk_channels(account_id, unread, free) end) as c
        where c.size > 0
    loop
        if made < free and cardinality(channel.skus) >= channel.size then
            made := made + amzmp._plan_feeds(account_id, channel.channel_id, channel.skus[:channel.size], 1, channel.reason,
                channel.facets);
        end if;
        missing := least(missing, greatest(channel.size - cardinality(channel.skus), 1));
    end loop;
    if made > 0 then
        perform amzmp._add_task(account_id, 'bulk', '', null, now(), jsonb_build_object('since', now()));
    else
        perform amzmp._add_task(account_id, 'bulk', '', null,
            now() + case when unread > 0 then interval '0.2 seconds' else interval '2 seconds' end,
            jsonb_build_object('since', argument -> 'since', 'keys', greatest(unread - coalesce(missing, unread), 0)));
    end if;
end
$$;

-- Everything is read: divide it. more: something else is left for which there was no feed.
create function amzmp._plan_backlog(account_id bigint, argument jsonb, more boolean)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    tokens constant record := amzmp._feed_tokens(account_id);
    channels constant amzmp.bulk_channel[] := amzmp._bulk_channels(account_id, 0, tokens.free);
    channel record;
    made integer := 0;
    wanted integer := 0;
begin
    for channel in
        select c.*, cardinality(c.skus) - c.by_feed as by_call
        from unnest(channels) as c
    loop
        -- single calls take what is most urgent
        if channel.by_call > 0 then
            perform amzmp._plan_sends(account_id, channel.skus[:channel.by_call], null, '{}', false);
        end if;
        wanted := wanted + ceil(channel.by_feed / channel.chunk::numeric);
        if channel.by_feed > 0 then
            made := made + amzmp._plan_feeds(account_id, channel.channel_id, channel.skus[channel.by_call + 1:],
                least(tokens.free - made, channel.feeds), channel.reason, channel.facets);
        end if;
    end loop;
    -- what no feed can carry has no other way; what one carries is planned when it ends
    perform amzmp._plan_sends(account_id, array(
            select d.sku
            from unnest(amzmp._differing_skus(_plan_backlog.account_id)) as d (sku)
            except
            select o.sku
            from unnest(channels) as c
            cross join unnest(c.skus) as o (sku)
            except
            select s.sku
            from amzmp._in_open_feeds(_plan_backlog.account_id) as s (sku)
        ), null, '{}', false);
    more := amzmp._plan_request_feeds(account_id, false) or made < wanted or more;
    if more then
        perform amzmp._add_task(account_id, 'bulk', '', null, (amzmp._feed_tokens(account_id)).next_at, argument);
    end if;
end
$$;

-- Feeds that were not submitted in time carry old values: give them up.
create function amzmp._drop_late_feeds(account_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._end_feed(f, 'cancelled', 'it was not submitted in time')
    from amzmp.feed as f
    where f.account_id = _drop_late_feeds.account_id
        and f.state in ('planned', 'built', 'document_created', 'uploaded')
        and f.created_at < now() - amzmp._account_interval(f.account_id, 0, 'feed_deadline')
        and not exists (
            select
            from amzmp.request as r
            where (r.account_id, r.subject_kind, r.subject) = (f.account_id, 'feed', f.feed_id::text)
                and (r.state <> 'due' or r.operation = 'getFeeds')
        );
end
$$;
