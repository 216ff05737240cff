/*
 * planner.sql
 *	  Single calls or feeds: how a large backlog reaches Amazon soonest.
 *
 * Single calls (PATCH) begin to work at once, at the rate of their usage plan. A feed works for nobody until Amazon has
 * processed it, and then for all it carries. Both run beside each other, so a backlog of n is gone soonest when both
 * end at the same time T:
 *
 *		rate × T = what goes by single calls		T = base + pace × what goes by feed ÷ number of feeds
 *
 * because Amazon works on several feeds at once: what goes by feed is shared out evenly among as many as the usage plan
 * allows now. base and pace are learned from the account's own feeds. What single calls manage while a feed would be under way
 * (the window) is queued at once by amzmp._plan_sends; only what has no room there comes here, after a pause in which
 * the rest of a large change arrives. Whatever prevents overselling is always a single call. New offers, content, deletions
 * and ends are queued as requests in any case, and divided like that call by call (planner_request.sql).
 *
 * A feed is planned only when its usage plan has a token for it, so that values are read late.
 */

-- Calls of an operation a second of the wall clock; infinity where there is no limit. Without preload the plan is as Amazon
-- publishes it.
create function amzmp._call_rate(account_id bigint, operation text)
    returns double precision
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    learned double precision;
begin
    if amzmp._processes() <> 'not preloaded' then
        select u.rate into learned
        from amzmp._usage() as u
        join amzmp.operation as o on o.name = _call_rate.operation and o.plan = u.name
        where (u.scope, u.owner_id) = ('operation', _call_rate.account_id);
    end if;
    return (
        select coalesce(nullif(coalesce(learned, (o.rate * a.rate_scale * a.time_scale)::double precision), 0), 'infinity')
        from amzmp.account as a
        join amzmp.operation as o on o.name = _call_rate.operation
        where a.account_id = _call_rate.account_id
    );
end
$$;

-- Those of what changes offers.
create function amzmp._patch_rate(account_id bigint)
    returns double precision
    language sql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._call_rate(account_id, 'patchListingsItem');
end;

/*
 * How long feeds take: seconds for any, and seconds more for each message. The slope is taken from feeds of different
 * sizes only; one below 0 is noise.
 */
create function amzmp._feed_pace(account_id bigint, out base double precision, out pace double precision)
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    with recent as (
        select f.messages::double precision as messages,
            extract(epoch from f.processed_at - f.created_at)::double precision as seconds
        from amzmp.feed as f
        where f.account_id = _feed_pace.account_id
            and f.state = 'done'
            and f.processed_at > now() - interval '7 days'
        order by f.feed_id desc
        limit 10
    ), fitted as (
        select avg(r.messages) as messages, avg(r.seconds) as seconds,
            case
                when count(*) >= 3 and max(r.messages) > 2 * min(r.messages)
                then greatest(regr_slope(r.seconds, r.messages), 0)
                else 0
            end as slope
        from recent as r
    )
    select coalesce(case when f.seconds is not null then greatest(f.seconds - f.slope * f.messages, 0) end,
            extract(epoch from amzmp._account_interval(_feed_pace.account_id, 0, 'feed_expected'))::double precision),
        coalesce(f.slope, 0)
    from fitted as f;
end;

-- Why no feed is made now; null where feeds are made.
create function amzmp._no_feeds(account_id bigint)
    returns text
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    paused_until timestamptz;
begin
    if not coalesce(amzmp._setting_bool(account_id, 0, 'bulk_feeds'), false) then
        return 'the setting bulk_feeds is off';
    elsif amzmp._patch_rate(account_id) = 'infinity' then
        return 'single calls have no limit';
    end if;
    select max(r.ended_at) + amzmp._account_interval(_no_feeds.account_id, 0, 'feed_pause')
    into paused_until
    from (
        select f.state, f.ended_at
        from amzmp.feed as f
        where f.account_id = _no_feeds.account_id
            and not f.open
            and f.messages is not null
        order by f.ended_at desc
        limit 2
    ) as r
    having count(*) filter (where r.state <> 'done') = 2;
    if paused_until > now() then
        return format('the last two feeds failed, none is made before %s', paused_until::timestamptz(0));
    end if;
    return null;
end
$$;

-- How many single calls that can wait are queued.
create function amzmp._patches_waiting(account_id bigint, most bigint)
    returns bigint
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select count(*)
    from (
        select
        from amzmp.request as r
        where (r.account_id, r.operation, r.state) = (_patches_waiting.account_id, 'patchListingsItem', 'due')
            and r.priority > 20
        limit _patches_waiting.most
    ) as w;
end;

-- How many more single calls may be queued before feeds are the better way; null: any number, or the few that are asked
-- for, which are worth no feed.
create function amzmp._patch_room(account_id bigint, asked bigint)
    returns bigint
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
declare
    least_feed constant bigint := amzmp._setting_int(account_id, 0, 'feed_minimum');
    room bigint;
begin
    if asked + amzmp._patches_waiting(account_id, least_feed) <= least_feed or amzmp._no_feeds(account_id) is not null then
        return null;
    end if;
    room := greatest(least_feed,
        amzmp._patch_rate(account_id) * (amzmp._feed_pace(account_id)).base);
    return greatest(room - amzmp._patches_waiting(account_id, room), 0);
end
$$;

-- Something has no room beside the single calls that wait: look at it in a while. Who keeps asking does not put it off.
create function amzmp._plan_bulk(account_id bigint, pause interval)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    waiting constant jsonb := (
        select t.argument
        from amzmp.task as t
        where (t.account_id, t.kind, t.subject) = (_plan_bulk.account_id, 'bulk', '')
            and t.due_at is distinct from t.leased_until
    );
begin
    perform amzmp._add_task(account_id, 'bulk', '', null, now() + pause,
        coalesce(waiting, jsonb_build_object('since', now())));
end
$$;

-- How many of n go by feed, so that single calls and feeds end at the same time.
create function amzmp._feed_share(n numeric, rate double precision, base double precision, pace double precision, feeds integer)
    returns bigint
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select greatest(floor((n - rate * base) / (1 + rate * pace / feeds)), 0)::bigint
$$;

/*
 * The division of an account's backlog, given by channel; one row per channel. seconds: until all of the account's is at
 * Amazon, the same in each row.
 */
create function amzmp._divide_backlog(account_id bigint, channel_ids bigint[], backlogs bigint[])
    returns table (channel_id bigint, backlog bigint, by_feed bigint, queued bigint, seconds double precision)
    rows 5
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    rate constant double precision := amzmp._patch_rate(account_id);
    base double precision;
    pace double precision;
    least_feed constant integer := amzmp._setting_int(account_id, 0, 'feed_minimum');
    waiting constant bigint := amzmp._patches_waiting(account_id, null);
    feeds constant integer := greatest((amzmp._feed_tokens(account_id)).free, 1);
    possible constant boolean := amzmp._no_feeds(account_id) is null;
begin
    select p.base, p.pace into base, pace from amzmp._feed_pace(_divide_backlog.account_id) as p;
    return query
    with place as (
        select u.channel_id, u.backlog
        from unnest(channel_ids, backlogs) as u (channel_id, backlog)
    ), best as (
        select sum(p.backlog) as total,
            case when possible then amzmp._feed_share(sum(p.backlog) + waiting, rate, base, pace, feeds) else 0 end as by_feed
        from place as p
    ), shared as (
        select p.channel_id, p.backlog, b.total,
            least(p.backlog, greatest(b.by_feed - coalesce(sum(p.backlog) over (
                order by p.backlog desc, p.channel_id rows between unbounded preceding and 1 preceding), 0), 0))::bigint as by_feed
        from place as p, best as b
    ), decided as (
        select s.channel_id, s.backlog, s.total, case when s.by_feed >= least_feed then s.by_feed else 0 end as by_feed
        from shared as s
    )
    select d.channel_id, d.backlog, d.by_feed, waiting,
        greatest((d.total + waiting - sum(d.by_feed) over ()) / rate,
            case when sum(d.by_feed) over () > 0 then base + pace * sum(d.by_feed) over () / feeds else 0 end)
    from decided as d;
end
$$;

-- What feeds could carry of each channel, the most urgent first, and which facets that is.
create function amzmp._backlog(account_id bigint)
    returns table (channel_id bigint, skus text[], facets text[])
    rows 5
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select c.channel_id, w.skus, w.facets
    from amzmp.channel as c
    cross join lateral (
        select coalesce(array_agg(o.sku order by not o.raises, o.since, o.sku collate "C"), '{}') as skus,
            array_remove(array['price', case when bool_or(o.raises) then 'stock' end], null) as facets
        from amzmp._bulk_waiting(c.account_id, c.channel_id) as o
    ) as w
    where c.account_id = _backlog.account_id
        and c.active
        and not c.dropped;
end;

/*
 * What is still to be read of the shop for an account: keys of changed rows, and whether whole sources are compared.
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
            select sum(cardinality(c.keys))
            from amzmp.change as c
            where c.watched_id in (
                    select w.watched_id
                    from readable as r
                    join amzmp.source_watch as w on (w.account_id, w.source_id) = (_still_to_read.account_id, r.source_id)
                )
        ), 0) + coalesce((
            select sum(cardinality(x.keys))
            from amzmp.source_change as x
            where x.account_id = _still_to_read.account_id
                and x.source_id in (select r.source_id from readable as r)
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
 * When the next feed may be submitted, and how many may be by now beside those under way to it.
 */
create function amzmp._feed_tokens(account_id bigint, out free integer, out next_at timestamptz)
    language sql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
begin atomic
    with plan as (
        select coalesce(u.tokens, t.burst)::double precision as tokens,
            coalesce(u.rate, (t.rate * a.rate_scale * a.time_scale)::double precision) as rate,
            (
                select count(*)
                from amzmp.feed as f
                where f.account_id = a.account_id
                    and f.state in ('planned', 'built', 'document_created', 'uploaded')
            ) as waiting
        from amzmp.account as a
        join amzmp.feed_type as t on t.name = 'JSON_LISTINGS_FEED'
        left join amzmp._usage() as u on (u.scope, u.owner_id, u.name) = ('feed_type', a.account_id, t.name)
        where a.account_id = _feed_tokens.account_id
    )
    select greatest(floor(p.tokens) - p.waiting, 0)::integer,
        now() + make_interval(secs => least(greatest(p.waiting + 1 - p.tokens, 0.1) / nullif(p.rate, 0), 600))
    from plan as p;
end;

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

/*
 * What waits long becomes more urgent, a step for each patience, up to where only what prevents overselling goes
 * before it.
 */
create function amzmp._age_requests(account_id bigint)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    patience constant interval := amzmp._account_interval(account_id, 0, 'send_patience');
    hurried bigint;
begin
    update amzmp.request as r
    set priority = 20
    from (
        -- one that is locked is being claimed
        select q.request_id
        from amzmp.request as q
        where (q.account_id, q.operation, q.state) = (_age_requests.account_id, 'patchListingsItem', 'due')
            and q.priority > 20
            and q.created_at < now() - patience
        for update skip locked
    ) as old
    where (r.account_id, r.request_id) = (_age_requests.account_id, old.request_id);
    get diagnostics hurried = row_count;
    return hurried;
end
$$;

insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'send_patience', 'account', 'interval', 'Patience of what can wait', '"00:30:00"', 1, 86400,
        'Prices and rising stock that waited this long are as urgent as stock that falls.');

/*
 * The plan for what waits now.
 */
create function amzmp._send_plan(channel text)
    returns table (way text, skus bigint, calls bigint, seconds numeric, reason text)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
    rate constant double precision := amzmp._patch_rate(place.account_id);
    refusal constant text := amzmp._no_feeds(place.account_id);
    feeds constant integer := greatest((amzmp._feed_tokens(place.account_id)).free, 1);
    pace record;
    plan record;
    urgent bigint;
    by_call bigint;
    by_feed bigint;
begin
    select d.*, n.chunks[array_position(n.channel_ids, d.channel_id)] as chunk into plan
    from (
        select array_agg(b.channel_id) as channel_ids, array_agg(cardinality(b.skus)::bigint) as backlogs,
            array_agg(amzmp._facet_chunk(place.account_id, 'feed_chunk', b.facets)) as chunks
        from amzmp._backlog(place.account_id) as b
    ) as n
    cross join lateral amzmp._divide_backlog(place.account_id, n.channel_ids, n.backlogs) as d
    where d.channel_id = place.channel_id;
    select * into pace from amzmp._feed_pace(place.account_id);
    select count(*) into urgent
    from amzmp.request as r
    where (r.account_id, r.operation, r.state) = (place.account_id, 'patchListingsItem', 'due')
        and r.channel_id = place.channel_id
        and r.priority <= 20;
    -- those that wait already are among the queued
    select plan.by_feed + coalesce(sum(d.by_feed), 0), plan.queued + plan.backlog - plan.by_feed - coalesce(sum(d.by_feed), 0)
    into by_feed, by_call
    from amzmp._divide_requests(place.account_id) as d
    where (d.channel_id, d.render) = (place.channel_id, '_render_patch');
    return query
    select v.way, v.skus, v.calls, v.seconds::numeric(20, 1), v.reason
    from (
        values ('urgent single calls', urgent, urgent, urgent / rate, 'stops and stock that falls go before everything else'),
            ('single calls', by_call, by_call, by_call / rate,
                format('%s a second; queued calls of all the account''s channels count', rate)),
            ('feeds', by_feed, ceil(by_feed / plan.chunk::numeric)::bigint,
                case when by_feed > 0 then pace.base + pace.pace * by_feed / feeds else 0 end,
                coalesce(refusal, format('a feed takes about %s s and %s ms a message', pace.base::numeric(20, 1),
                    (1000 * pace.pace)::numeric(20, 3))))
    ) as v (way, skus, calls, seconds, reason)
    union all
    select v.way, v.skus, v.calls, v.seconds::numeric(20, 1), v.reason
    from amzmp._divide_requests(place.account_id) as d
    join (
        values ('_render_put', 'new offers'), ('_render_delete', 'deletions'), ('_render_end', 'ends')
    ) as n (render, name) using (render)
    cross join lateral (
        values (n.name || ': single calls', d.waiting - d.by_feed, d.waiting - d.by_feed, (d.waiting - d.by_feed) / d.rate,
                format('%s a second', d.rate)),
            (n.name || ': feeds', d.by_feed, ceil(d.by_feed / amzmp._facet_chunk(place.account_id, 'feed_chunk', amzmp._request_facets(d.render))::numeric)::bigint,
                case when d.by_feed > 0 then pace.base + pace.pace * d.by_feed / feeds else 0 end,
                coalesce(refusal, case
                        when d.leaving then 'single calls follow until the feed has ended'
                        else 'their stock follows when Amazon has them'
                    end))
    ) as v (way, skus, calls, seconds, reason)
    where d.channel_id = place.channel_id;
end
$$;

select amzmp._expose('amzmp._send_plan(text)', 'amzmp_reader',
    'How what waits in a channel would go to Amazon, and how long that takes: urgent single calls, single calls, feeds; new offers, deletions and ends where there are any.');
