/*
 * planner_request.sql
 *	  Which of the requests that wait go along with a feed (listing_feed_request.sql).
 *
 * They are queued one by one, as if there were no feeds, and single calls take them from the urgent end. Where more wait
 * than single calls manage while a feed is under way, the other end is given to feeds, so that both end at the
 * same time (planner.sql). Each operation has a usage plan of its own, so each is divided by itself; all of them share the feeds.
 */

-- Requests that wait and may go along, by channel.
create function amzmp._waiting_requests(account_id bigint)
    returns table (render text, operation text, leaving boolean, channel_id bigint, waiting bigint)
    rows 5
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select k.render, k.operation, k.leaving, r.channel_id, count(*)
    from amzmp._feed_requests() as k
    join amzmp.request as r
        on (r.account_id, r.operation, r.state, r.render) = (_waiting_requests.account_id, k.operation, 'due', k.render)
    join amzmp.channel as c on (c.account_id, c.channel_id) = (r.account_id, r.channel_id)
    where c.active
        and not c.dropped
        and r.attempt = 0
        and (r.priority > 20 or k.leaving)
        and r.not_before <= now()
    group by k.render, k.operation, k.leaving, r.channel_id;
end
$$;

-- The division of those requests. by_feed 0: the feeds would be too small, or none are made.
create function amzmp._divide_requests(account_id bigint)
    returns table (render text, operation text, leaving boolean, channel_id bigint, waiting bigint, by_feed bigint, rate double precision)
    rows 5
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    least_feed constant integer := amzmp._setting_int(account_id, 0, 'feed_minimum');
    feeds constant integer := greatest((amzmp._feed_tokens(account_id)).free, 1);
    possible constant boolean := amzmp._no_feeds(account_id) is null;
    base double precision;
    pace double precision;
begin
    select p.base, p.pace into base, pace from amzmp._feed_pace(_divide_requests.account_id) as p;
    return query
    with rated as (
        select w.*, amzmp._call_rate(_divide_requests.account_id, w.operation) as rate,
            sum(w.waiting) over (partition by w.operation) as of_all,
            coalesce(sum(w.waiting) over (
                partition by w.operation order by w.waiting desc, w.channel_id, w.render
                rows between unbounded preceding and 1 preceding), 0) as before
        from amzmp._waiting_requests(_divide_requests.account_id) as w
    ), shared as (
        select r.*, case
                when possible
                then least(r.waiting, greatest(amzmp._feed_share(r.of_all, r.rate, base, pace, feeds) - r.before, 0))::bigint
                else 0
            end as by_feed
        from rated as r
    )
    select s.render, s.operation, s.leaving, s.channel_id, s.waiting, case when s.by_feed >= least_feed then s.by_feed else 0 end, s.rate
    from shared as s;
end
$$;

-- Which settings say how large a feed of such requests may be.
create function amzmp._request_facets(render text)
    returns text[]
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case when $1 in ('_render_delete', '_render_end') then '{status}' else '{product}' end::text[]
$$;

/*
 * Plan feeds for requests that wait: those that take something off sale, or the others. True if more are wanted than are
 * allowed by now.
 */
create function amzmp._plan_request_feeds(account_id bigint, leaving boolean)
    returns boolean
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    worth_splitting constant integer := 500;
    upto constant bigint := nextval('amzmp.request_id_seq');
    free integer := (amzmp._feed_tokens(account_id)).free;
    wanted integer;
    share record;
    planned bigint[];
    more boolean := false;
begin
    perform amzmp._overtake_feed(account_id, k.render) from amzmp._feed_requests() as k where k.leaving and _plan_request_feeds.leaving;
    for share in
        select d.*, amzmp._request_facets(d.render) as facets,
            amzmp._facet_chunk(_plan_request_feeds.account_id, 'feed_chunk', amzmp._request_facets(d.render)) as chunk, d.by_feed - (
                select coalesce(sum(f.planned), 0)
                from amzmp.feed as f
                where (f.account_id, f.channel_id, f.state) = (_plan_request_feeds.account_id, d.channel_id, 'planned')
                    and f.argument ->> 'render' = d.render
            ) as number
        from amzmp._divide_requests(_plan_request_feeds.account_id) as d
        where d.leaving = _plan_request_feeds.leaving
            and d.by_feed > 0
        order by d.by_feed desc
    loop
        continue when share.number <= 0;
        wanted := greatest(ceil(share.number / share.chunk::numeric), least(free, share.number / worth_splitting));
        more := more or wanted > free;
        with added as (
            insert into amzmp.feed (account_id, channel_id, planned, reason, argument)
            select _plan_request_feeds.account_id, share.channel_id, least(share.chunk, ceil(share.number / wanted::numeric)),
                format('%s wait for %s, single calls alone would need %s s', share.waiting, share.operation,
                    (share.waiting / share.rate)::numeric(20, 0)),
                jsonb_build_object('render', share.render, 'upto', upto, 'facets', share.facets)
            from generate_series(1, least(wanted, free)) as n
            returning feed_id
        )
        select array_agg(a.feed_id order by a.feed_id) into planned from added as a;
        perform amzmp._build_in_turn(account_id, planned);
        free := free - coalesce(cardinality(planned), 0);
    end loop;
    return more;
end
$$;

-- Requests were queued that may go along with a feed: look at them in a while, if they are many.
create function amzmp._plan_many(account_id bigint, operation text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    least_feed constant integer := amzmp._setting_int(account_id, 0, 'feed_minimum');
begin
    if least_feed <= (
        select count(*)
        from (
            select
            from amzmp.request as r
            where (r.account_id, r.operation, r.state) = (_plan_many.account_id, _plan_many.operation, 'due')
            limit least_feed
        ) as w
    ) and amzmp._no_feeds(account_id) is null then
        perform amzmp._plan_bulk(account_id, interval '1 second');
    end if;
end
$$;
