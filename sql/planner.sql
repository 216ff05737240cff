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
