/*
 * offer_lag.sql
 *	  How long a change takes from the shop's commit to Amazon's page: sent, accepted, seen there.
 *
 * When an answer lands (send_answer.sql, listing_feed_result.sql) a sample is noted for each price and quantity that it
 * accepts; of a portion of a feed fifty, which stand for the rest. When Amazon is seen to have that very value, by reading
 * the SKU (observe.sql) or in a listing report (remote_listing_doubt.sql), the sample has its last time. The flow
 * measure_lag reads what changed last, one SKU a channel and facet, until it shows; so "seen" is as exact as it is often
 * read, and never too early. Samples are kept for a day.
 */
create sequence amzmp.lag_sample_id_seq as bigint;

create table amzmp.lag_sample (
    account_id bigint not null,
    lag_sample_id bigint not null default nextval('amzmp.lag_sample_id_seq'),
    channel_id bigint not null,
    facet text not null check (facet in ('price', 'stock')),
    sku text not null,
    value numeric not null,
    weight integer not null default 1,
    committed_at timestamptz,
    sent_at timestamptz,
    accepted_at timestamptz not null,
    looked_at timestamptz,
    seen_at timestamptz,
    primary key (account_id, lag_sample_id)
);

create index lag_sample_recent on amzmp.lag_sample (account_id, accepted_at);
create index lag_sample_unseen on amzmp.lag_sample (account_id, sku) where seen_at is null;

comment on table amzmp.lag_sample is 'Changes that Amazon accepted in the last day, with their times. amzmp.offer_lag sums them up.';
comment on column amzmp.lag_sample.account_id is 'The account.';
comment on column amzmp.lag_sample.lag_sample_id is 'Number of the sample.';
comment on column amzmp.lag_sample.channel_id is 'The channel through which it was sent.';
comment on column amzmp.lag_sample.facet is 'price or stock.';
comment on column amzmp.lag_sample.sku is 'The SKU.';
comment on column amzmp.lag_sample.value is 'The price or the quantity.';
comment on column amzmp.lag_sample.weight is 'How many changes it stands for.';
comment on column amzmp.lag_sample.committed_at is 'When the shop changed it; null where the clock or an order did.';
comment on column amzmp.lag_sample.sent_at is 'When it was sent: the call, or the submission of the feed.';
comment on column amzmp.lag_sample.accepted_at is 'When Amazon had accepted it: the answer, or the feed''s report.';
comment on column amzmp.lag_sample.looked_at is 'When it was last asked for.';
comment on column amzmp.lag_sample.seen_at is 'When Amazon was first seen to have it.';

-- The time of the shop's change that led to a value: the row's cause where the row still wants that value, else the request's.
create function amzmp._caused_at(still_wanted boolean, row_cause jsonb, request_cause jsonb)
    returns timestamptz
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select (case when coalesce(still_wanted, false) then row_cause else request_cause end ->> 'at')::timestamptz
$$;

-- Note what these answers accept. Called before they land: the values are still in flight.
create function amzmp._note_lag(account_id bigint, answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    insert into amzmp.lag_sample (account_id, channel_id, facet, sku, value, committed_at, sent_at, accepted_at)
    select _note_lag.account_id, (a.request).channel_id, v.facet, (a.request).subject, v.value, v.committed_at,
        (a.request).claimed_at, a.answered_at
    from unnest(answers) as a
    cross join lateral amzmp._submission_verdict(a) as s
    cross join lateral (
        select 'price' as facet, l.in_flight_price as value,
            amzmp._caused_at(l.desired_price = l.in_flight_price, l.cause, (a.request).cause) as committed_at
        from amzmp.listing as l
        where (l.account_id, l.channel_id, l.sku, l.in_flight_request)
                = (_note_lag.account_id, (a.request).channel_id, (a.request).subject, (a.request).request_id)
        union all
        select 'stock', i.in_flight_quantity,
            amzmp._caused_at(i.desired_quantity = i.in_flight_quantity, i.cause, (a.request).cause)
        from amzmp.inventory as i
        where (i.account_id, i.sku, i.in_flight_request) = (_note_lag.account_id, (a.request).subject, (a.request).request_id)
    ) as v
    where s.accepted
        and v.value is not null;
end
$$;

-- The same for a portion of a feed's messages.
create function amzmp._note_feed_lag(feed amzmp.feed, landed amzmp.feed_message[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    insert into amzmp.lag_sample (account_id, channel_id, facet, sku, value, weight, committed_at, sent_at, accepted_at)
    select feed.account_id, feed.channel_id, v.facet, v.sku, v.value, (v.of_all + 49) / 50,
        amzmp._caused_at(
            case v.facet when 'price' then l.desired_price else i.desired_quantity end = v.value,
            case v.facet when 'price' then l.cause else i.cause end, feed.cause),
        feed.submitted_at, now()
    from (
        select x.*, row_number() over (partition by x.facet order by x.sku) as place, count(*) over (partition by x.facet) as of_all
        from unnest(landed) as m
        cross join lateral (
            values ('price', m.sku, m.price), ('stock', m.sku, m.quantity::numeric)
        ) as x (facet, sku, value)
        where m.code is null
            and x.value is not null
    ) as v
    left join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (feed.account_id, feed.channel_id, v.sku)
    left join amzmp.inventory as i on (i.account_id, i.sku, i.fulfillment_channel) = (feed.account_id, v.sku, 'DEFAULT')
    where v.place % ((v.of_all + 49) / 50) = 0;
end
$$;

-- Amazon was seen to have these values.
create function amzmp._note_seen(account_id bigint, seen amzmp.seen_listing[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.lag_sample as s
    set seen_at = o.seen_at
    from unnest(seen) as o
    where s.account_id = _note_seen.account_id
        and s.seen_at is null
        and s.sku = o.sku
        and s.accepted_at <= o.seen_at
        and (s.facet = 'price' and s.channel_id = o.channel_id and s.value = o.price or s.facet = 'stock' and s.value = o.quantity);
end
$$;

-- Which of these accounts have a change to look for.
create function amzmp._due_measure_lag(account_ids bigint[])
    returns table (account_id bigint, channel_id bigint)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select a.id, 0::bigint
    from unnest(account_ids) as a (id)
    where exists (
        select
        from amzmp.lag_sample as s
        where s.account_id = a.id
            and s.seen_at is null
            and s.accepted_at > now() - interval '1 hour'
    );
end
$$;

/*
 * Look at what changed last: of each channel and facet the youngest value that was not seen yet, and those that were
 * looked at before. What another value has replaced since is never seen.
 */
create function amzmp._flow_measure_lag(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place record;
begin
    for place in
        with unseen as (
            select s.*, row_number() over (partition by s.channel_id, s.facet order by s.accepted_at desc) as age
            from amzmp.lag_sample as s
            where s.account_id = _flow_measure_lag.account_id
                and s.seen_at is null
                and s.accepted_at > now() - interval '1 hour'
        ), chosen as (
            update amzmp.lag_sample as s
            set looked_at = now()
            from unseen as u
            where (s.account_id, s.lag_sample_id) = (u.account_id, u.lag_sample_id)
                and (u.age = 1 or u.looked_at is not null)
            returning s.channel_id, s.sku
        )
        select c.channel_id, array_agg(distinct c.sku) as skus
        from chosen as c
        group by c.channel_id
    loop
        perform amzmp._look(account_id, place.channel_id, place.skus, now(), jsonb_build_object('flow_run', flow_run_id));
    end loop;
end
$$;

comment on function amzmp._flow_measure_lag(bigint, bigint, bigint) is 'Inner: the flow measure_lag: ask whether what changed last can be seen.';

-- Inner, housekeeping.
create function amzmp._purge_lag_samples(account_id bigint)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    delete from amzmp.lag_sample as s
    where s.account_id = _purge_lag_samples.account_id
        and s.accepted_at < now() - interval '1 day';
end;

create view amzmp.offer_lag
    with (security_invoker = true)
as
    with lag as (
        select s.account_id, s.channel_id, s.facet, v.stage, v.position, p.period, s.weight, v.lag
        from amzmp.lag_sample as s
        cross join lateral (
            values (1, 'commit to sent', s.sent_at - s.committed_at), (2, 'sent to accepted', s.accepted_at - s.sent_at),
                (3, 'accepted to seen', s.seen_at - s.accepted_at), (4, 'commit to seen', s.seen_at - s.committed_at)
        ) as v (position, stage, lag)
        join (
            values ('hour', interval '1 hour'), ('day', interval '1 day')
        ) as p (period, length) on s.accepted_at > now() - p.length
        where v.lag is not null
    ), ranked as (
        select l.*, sum(l.weight) over (stage order by l.lag rows unbounded preceding) as up_to, sum(l.weight) over stage as total
        from lag as l
        window stage as (partition by l.account_id, l.channel_id, l.facet, l.stage, l.period)
    )
    select a.name as account, c.name as channel, r.facet, r.stage, r.period, max(r.total)::bigint as changes,
        min(r.lag) filter (where r.up_to * 2 >= r.total) as median, min(r.lag) filter (where r.up_to * 100 >= r.total * 99) as p99,
        r.account_id, r.channel_id
    from ranked as r
    join amzmp.account as a using (account_id)
    left join amzmp.channel as c using (account_id, channel_id)
    group by r.account_id, r.channel_id, a.name, c.name, r.facet, r.stage, r.position, r.period
    order by a.name, c.name, r.facet, r.period desc, r.position;

comment on view amzmp.offer_lag is 'How long changes of prices and stock take: from the shop''s commit to being sent, to Amazon''s acceptance, to being seen there; median and 99th percentile over the last hour and day.';
comment on column amzmp.offer_lag.account is 'Name of the account.';
comment on column amzmp.offer_lag.channel is 'Name of the channel.';
comment on column amzmp.offer_lag.facet is 'price or stock.';
comment on column amzmp.offer_lag.stage is 'commit to sent, sent to accepted, accepted to seen (at the latest: it is as exact as Amazon is asked often), commit to seen.';
comment on column amzmp.offer_lag.period is 'hour or day.';
comment on column amzmp.offer_lag.changes is 'How many changes it is about.';
comment on column amzmp.offer_lag.median is 'Half of them took no longer.';
comment on column amzmp.offer_lag.p99 is 'Of a hundred of them 99 took no longer.';
comment on column amzmp.offer_lag.account_id is 'The account.';
comment on column amzmp.offer_lag.channel_id is 'The channel.';
