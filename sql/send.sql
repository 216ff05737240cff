/*
 * send.sql
 *	  Differences become PATCH requests: which offers are due, and in which order. What is written into the body when it
 *	  is sent is in patch.sql, what the answer means in send_answer.sql.
 *
 * A request names a listing and carries no values: amzmp._render_patch reads what is wanted when the request is
 * claimed, and finds nothing to send when the difference is gone by then. One request carries price and stock of a
 * SKU together. The quantity of a SKU belongs to all channels of the account, so exactly one of their requests takes
 * it along.
 *
 * At most one write per listing and per inventory is in flight: in_flight_request says which, and it holds only while
 * that request exists, so a request that vanished blocks nothing. What changes meanwhile is planned by the handler of
 * the answer.
 *
 * When stock comes back (from 0) while the price differs, the price goes first: Amazon could sell at the old one. The
 * stock follows when the offer was seen with the new price, or after price_first_wait.
 */

/*
 * SKUs whose stock has to wait for a price, and until when at the latest (by our clock).
 */
create function amzmp._price_first(account_id bigint, skus text[])
    returns table (sku text, wait_until timestamptz)
    rows 1000
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    with place as materialized (
        select c.account_id, c.channel_id,
            amzmp._setting_interval(c.account_id, c.channel_id, 'price_first_wait')
                / (select a.time_scale::double precision from amzmp.account as a where a.account_id = c.account_id) as wait
        from amzmp.channel as c
        where c.account_id = _price_first.account_id
            and c.active
            and not c.dropped
    )
    select i.sku, max(w.wait_until)
    from amzmp.inventory as i
    join place as p on p.account_id = i.account_id
    join amzmp.listing as l
        on (l.account_id, l.channel_id, l.sku) = (p.account_id, p.channel_id, i.sku)
    cross join lateral (
        select case
                when l.price_differs then coalesce(l.desired_price_at, l.state_at) + p.wait
                when l.observed_price is distinct from l.submitted_price or l.observed_at < l.submitted_price_at
                    then l.submitted_price_at + p.wait
            end as wait_until
    ) as w
    where i.account_id = _price_first.account_id
        and i.sku = any (_price_first.skus)
        and i.remote_quantity = 0
        and i.desired_quantity > 0
        and l.wanted
        and l.listed
        and w.wait_until > now()
    group by i.sku;
end
$$;

-- SKUs of an account with something to send, in one channel or all.
create function amzmp._differing_skus(account_id bigint)
    returns text[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return array(
        select l.sku
        from amzmp.listing as l
        where l.account_id = _differing_skus.account_id
            and l.price_differs
        union
        select l.sku
        from amzmp.listing as l
        where l.account_id = _differing_skus.account_id
            and l.details_differ
        union
        select d.sku
        from amzmp.listing_content as d
        where d.account_id = _differing_skus.account_id
            and d.differs
        union
        select f.sku
        from amzmp.fulfillment as f
        where f.account_id = _differing_skus.account_id
            and f.differs
        union
        select i.sku
        from amzmp.inventory as i
        where i.account_id = _differing_skus.account_id
            and i.quantity_differs
        union
        select o.sku
        from amzmp._overtaking_skus(_differing_skus.account_id) as o (sku)
    );
end
$$;

-- Those of these SKUs that have something to send. Cheaper than planning all of them where few have.
create function amzmp._still_differing(account_id bigint, skus text[])
    returns text[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return array(
        select k.sku
        from amzmp.channel as c
        cross join unnest(_still_differing.skus) as k (sku)
        cross join lateral (
            select o.price_differs, o.details_differ
            from amzmp.listing as o
            where (o.account_id, o.channel_id, o.sku) = (c.account_id, c.channel_id, k.sku)
            offset 0 -- SKU by SKU, see _due_sends
        ) as l
        where c.account_id = _still_differing.account_id
            and (l.price_differs or l.details_differ)
        union
        select k.sku
        from amzmp.channel as c
        cross join unnest(_still_differing.skus) as k (sku)
        cross join lateral (
            select
            from amzmp.listing_content as o
            where (o.account_id, o.channel_id, o.sku) = (c.account_id, c.channel_id, k.sku)
                and o.differs
            limit 1
        ) as d
        where c.account_id = _still_differing.account_id
        union
        select k.sku
        from unnest(_still_differing.skus) as k (sku)
        cross join lateral (
            select
            from amzmp.fulfillment as o
            where (o.account_id, o.sku) = (_still_differing.account_id, k.sku)
                and o.differs
            offset 0
        ) as f
        union
        select k.sku
        from unnest(_still_differing.skus) as k (sku)
        cross join lateral (
            select o.desired_quantity, o.quantity_differs
            from amzmp.inventory as o
            where (o.account_id, o.sku) = (_still_differing.account_id, k.sku)
            offset 0
        ) as i
        left join amzmp._stock_in_feeds(_still_differing.account_id, _still_differing.skus) as s using (sku)
        where i.quantity_differs
            or i.desired_quantity < s.ceiling
    );
end
$$;

/*
 * What has to be sent for these SKUs, and how urgently: one row per listing. Priorities: 10 sold out, 20 less stock,
 * 30 more or unknown stock, 40 price, 50 details, 55 content. finished are requests that are being completed and no longer count.
 * What a feed carries is left to it, but for stock that falls below what the feed says. urgent: only what prevents
 * overselling, priorities 10 and 20.
 */
create function amzmp._due_sends(account_id bigint, skus text[], finished bigint[], urgent boolean default false)
    returns table (channel_id bigint, sku text, priority smallint, not_before timestamptz, cause jsonb)
    rows 1000
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    -- The planner believes that few rows differ, which is so but for the large changes for which this must be quick. Each
    -- "offset 0" keeps to looking up SKU by SKU, each "not in" to a hash; both are linear, whatever it believes.
    return query
    with flying as materialized (
        select f.channel_id, f.sku
        from amzmp._in_feeds(_due_sends.account_id, _due_sends.skus) as f
        where num_nonnulls(f.price, f.request_id) > 0
    ), offer as materialized (
        select l.account_id, l.channel_id, l.sku, l.price_differs, l.details_differ, l.cause
        from amzmp.channel as c
        cross join unnest(_due_sends.skus) as k (sku)
        cross join lateral (
            select o.*
            from amzmp.listing as o
            where (o.account_id, o.channel_id, o.sku) = (c.account_id, c.channel_id, k.sku)
            offset 0
        ) as l
        where c.account_id = _due_sends.account_id
            and c.active
            and not c.dropped
            and (l.price_differs or l.details_differ)
            and (l.channel_id, l.sku) not in (select f.channel_id, f.sku from flying as f)
            and not urgent
    ), price as (
        select l.channel_id, l.sku, case v.facet when 'price' then 40 else 50 end as priority, now() as not_before, l.cause
        from offer as l
        cross join lateral (
            values ('price', l.price_differs), ('details', l.details_differ)
        ) as v (facet, differs)
        where v.differs
            and not exists (
                select
                from amzmp.penalty as p
                where (p.account_id, p.kind, p.channel_id, p.subject) = (l.account_id, v.facet, l.channel_id, l.sku)
                    and (p.gave_up or p.until > now())
            )
    ), content as (
        select l.channel_id, l.sku, 55 as priority, now() as not_before, l.cause
        from amzmp.channel as c
        cross join unnest(_due_sends.skus) as k (sku)
        cross join lateral (
            select o.*
            from amzmp.listing_content as o
            where (o.account_id, o.channel_id, o.sku) = (c.account_id, c.channel_id, k.sku)
            offset 0
        ) as d
        cross join lateral (
            select o.*
            from amzmp.listing as o
            where (o.account_id, o.channel_id, o.sku) = (d.account_id, d.channel_id, d.sku)
            offset 0
        ) as l
        where c.account_id = _due_sends.account_id
            and c.active
            and not c.dropped
            and d.differs
            and amzmp._content_ready(d, l)
            and (l.channel_id, l.sku) not in (select f.channel_id, f.sku from flying as f)
            and not urgent
    ), shipper as (
        select distinct on (f.sku) l.channel_id, f.sku, 30 as priority, now() as not_before, l.cause
        from unnest(_due_sends.skus) as k (sku)
        cross join lateral (
            select o.*
            from amzmp.fulfillment as o
            where (o.account_id, o.sku) = (_due_sends.account_id, k.sku)
            offset 0
        ) as f
        join amzmp.channel as c
            on c.account_id = f.account_id and c.active and not c.dropped
        join amzmp.listing as l
            on (l.account_id, l.channel_id, l.sku) = (c.account_id, c.channel_id, f.sku)
        where f.differs
            and amzmp._fulfillment_to_send(l, null, finished) is not null
            and not urgent
        order by f.sku, not l.price_differs, l.channel_id
    ), differing as materialized (
        select i.account_id, i.sku, i.desired_quantity, i.remote_quantity, i.in_flight_request, i.cause, s.ceiling
        from unnest(_due_sends.skus) as k (sku)
        cross join lateral (
            select o.*
            from amzmp.inventory as o
            where (o.account_id, o.sku) = (_due_sends.account_id, k.sku)
            offset 0
        ) as i
        left join amzmp._stock_in_feeds(_due_sends.account_id, _due_sends.skus) as s on s.sku = i.sku
        where amzmp._stock_is_due(i.quantity_differs, i.desired_quantity, s.ceiling, s.overtaken)
            and (not urgent or i.desired_quantity = 0 or i.desired_quantity < i.remote_quantity or i.desired_quantity < s.ceiling)
            -- of a change of prices alone: asked once
            and (not urgent
                or exists (select from amzmp.inventory as o where o.account_id = _due_sends.account_id and o.quantity_differs)
                or exists (select from amzmp.feed as f where f.account_id = _due_sends.account_id and (f.open or f.state in ('fatal', 'stuck'))))
    ), stock as (
        select distinct on (i.sku) l.channel_id, i.sku,
            case
                when i.desired_quantity = i.remote_quantity and i.ceiling is null then 50
                when i.desired_quantity = 0 then 10
                when i.desired_quantity < i.remote_quantity or i.desired_quantity < i.ceiling then 20
                else 30
            end as priority,
            coalesce(w.wait_until, now()) as not_before, i.cause
        from differing as i
        join amzmp.channel as c
            on c.account_id = i.account_id and c.active and not c.dropped
        cross join lateral (
            select o.*
            from amzmp.listing as o
            where (o.account_id, o.channel_id, o.sku) = (c.account_id, c.channel_id, i.sku)
            offset 0
        ) as l
        left join amzmp._price_first(_due_sends.account_id, array(select d.sku from differing as d)) as w on w.sku = i.sku
        where l.listed
            and l.fulfillment = 'merchant'
            and not exists (
                select
                from amzmp.penalty as p
                where (p.account_id, p.kind, p.channel_id, p.subject) = (i.account_id, 'stock', 0, i.sku)
                    and (p.gave_up or p.until > now())
            )
            and not (i.in_flight_request is not null and amzmp._in_flight(i.account_id, i.in_flight_request, finished))
        order by i.sku, not l.price_differs, not l.wanted, l.channel_id
    )
    select n.channel_id, n.sku, min(n.priority)::smallint, min(n.not_before),
        (array_agg(n.cause order by n.priority))[1]
    from (
        select * from price union all select * from stock union all select * from content union all select * from shipper
    ) as n
    group by n.channel_id, n.sku;
end
$$;

-- Is a write in flight? It is while its request exists; one that is being completed does not count.
create function amzmp._in_flight(account_id bigint, request_id bigint, finished bigint[])
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return _in_flight.request_id is not null
        and _in_flight.request_id <> all (_in_flight.finished)
        and exists (
            select
            from amzmp.request as r
            where (r.account_id, r.request_id) = (_in_flight.account_id, _in_flight.request_id)
        );
end
$$;

-- Is a subject held back after an error?
create function amzmp._penalised(account_id bigint, kind text, channel_id bigint, subject text)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
        from amzmp.penalty as p
        where (p.account_id, p.kind, p.channel_id, p.subject)
                = (_penalised.account_id, _penalised.kind, _penalised.channel_id, _penalised.subject)
            and (p.gave_up or p.until > now())
    );
end
$$;

/*
 * Queue what is due. A listing with a request that waits gets no second one, the first is made more urgent where need
 * be (not one that is being retried: it waits for a reason); one whose request is under way is planned again by the
 * handler of the answer. Where bulk is allowed, what has no room beside the requests that wait is left to feeds
 * (planner.sql), unless it prevents overselling. Returns how many requests were made.
 */
create function amzmp._plan_sends(account_id bigint, skus text[] default null, cause jsonb default null,
    finished bigint[] default '{}', bulk boolean default true)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    differing constant text[] := coalesce(_plan_sends.skus, amzmp._differing_skus(_plan_sends.account_id));
    room constant bigint := case when bulk then amzmp._patch_room(account_id, cardinality(skus)) end;
    -- of a large change that has no room the planner of feeds looks up what differs, once for all of it
    urgent constant boolean := coalesce(room = 0, false) and cardinality(differing) > 100;
    planned bigint;
    hurried bigint;
    unplanned bigint;
begin
    if not exists (
        select
        from amzmp.account as a
        where a.account_id = _plan_sends.account_id
            and a.active
    ) then
        return 0;
    end if;
    -- most runs of the flows find nothing, and what follows costs twenty milliseconds to plan alone
    if differing = '{}' then
        return 0;
    end if;

    with due as (
        select d.*
        from amzmp._due_sends(_plan_sends.account_id, differing, finished, urgent) as d
    ), waiting as (
        select r.request_id, r.channel_id, r.subject, r.state, r.attempt, r.operation
        from due as d
        cross join lateral (
            select q.*
            from amzmp.request as q
            where (q.account_id, q.subject_kind, q.subject) = (_plan_sends.account_id, 'listing', d.sku)
            offset 0 -- SKU by SKU, however few requests the planner believes to wait
        ) as r
        where r.channel_id = d.channel_id
            and r.operation in ('patchListingsItem', 'putListingsItem', 'deleteListingsItem')
            and r.request_id <> all (finished)
    ), hurried as materialized (
        -- one that is locked is being claimed, by a sender that waits for the SKUs that we hold
        select r.request_id, d.priority, d.not_before
        from waiting as w
        join due as d on (d.channel_id, d.sku) = (w.channel_id, w.subject)
        join amzmp.request as r on (r.account_id, r.request_id) = (_plan_sends.account_id, w.request_id)
        where r.state = 'due'
            and r.attempt = 0
            and r.operation = 'patchListingsItem'
            -- in these words no index but that of the numbers seems to be of use
            and (least(r.priority, d.priority), least(r.not_before, d.not_before)) <> (r.priority, r.not_before)
        for update of r skip locked
    ), sooner as (
        update amzmp.request as r
        set priority = least(r.priority, h.priority),
            not_before = least(r.not_before, h.not_before)
        from hurried as h
        where (r.account_id, r.request_id) = (_plan_sends.account_id, h.request_id)
        returning 1
    ), fresh as (
        select d.*, row_number() over (order by d.priority, d.not_before, d.sku) as place
        from due as d
        where (d.channel_id, d.sku) not in (select w.channel_id, w.subject from waiting as w)
    ), added as (
        insert into amzmp.request (account_id, operation, priority, not_before, params, render, handler, subject_kind,
            subject, channel_id, cause)
        select _plan_sends.account_id, 'patchListingsItem', d.priority, d.not_before, '{}', '_render_patch',
            '_handle_patch', 'listing', d.sku, d.channel_id, coalesce(_plan_sends.cause, d.cause)
        from fresh as d
        where d.priority <= 20
            or room is null
            or d.place <= room
        returning 1
    )
    select (select count(*) from added), (select count(*) from sooner), (select count(*) from fresh)
    into planned, hurried, unplanned;
    unplanned := unplanned - planned;

    if planned + hurried > 0 then
        perform amzmp._wake();
        perform amzmp._look_for_prices(account_id, skus);
    end if;
    if unplanned > 0 or urgent then
        perform amzmp._plan_bulk(account_id, interval '1 second');
    end if;
    return planned;
end
$$;

comment on function amzmp._plan_sends(bigint, text[], jsonb, bigint[], boolean) is 'Inner: queue PATCH requests for what differs, for these SKUs or for all of the account.';

-- Stock that waits until an offer shows its price: look whether it does. Whoever reads the answer plans again.
create function amzmp._look_for_prices(account_id bigint, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    hidden record;
begin
    for hidden in
        select l.channel_id, array_agg(l.sku order by l.sku) as skus
        from amzmp._price_first(_look_for_prices.account_id, _look_for_prices.skus) as w
        join amzmp.channel as c
            on c.account_id = _look_for_prices.account_id and c.active and not c.dropped
        join amzmp.listing as l
            on (l.account_id, l.channel_id, l.sku) = (c.account_id, c.channel_id, w.sku)
        where l.wanted
            and l.listed
            and not l.price_differs
            and l.read_due_at is null
        group by l.channel_id
    loop
        perform amzmp._look(account_id, hidden.channel_id, hidden.skus, now() + amzmp._read_delay(account_id, '0'), null);
    end loop;
end
$$;
