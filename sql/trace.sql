/*
 * trace.sql
 *	  The history of an offer, newest first: from the value at Amazon back through every answer and message to the row that
 *	  the shop changed, with the role, the application and the transaction that changed it.
 *
 * Nothing is recorded for it alone. It puts together what is kept anyway: the causes beside desired values and requests,
 * the log of finished requests, messages of feeds, movements of orders, samples of the lag, the brake and the activity,
 * each for as long as its retention. explain_offer says how a value is computed; this says how it got there.
 */
create index movement_sku on amzmp.movement (account_id, sku, at);

create type amzmp.traced_step as (
    at timestamptz,
    facet text,
    step text,
    value text,
    role text,
    application text,
    xid text,
    request_id bigint,
    amazon_request_id text,
    detail text
);

comment on type amzmp.traced_step is 'Inner: a step of trace.';

-- What happened in the shop, or was asked for by a person: each cause that stands beside a value or a message, once.
create function amzmp._trace_causes(account_id bigint, channel_id bigint, sku text)
    returns setof amzmp.traced_step
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    with cause as (
        select 'price' as facet, l.cause, null::text as relation
        from amzmp.listing as l
        where (l.account_id, l.channel_id, l.sku) = ($1, $2, $3)
        union all
        select 'stock', i.cause, null
        from amzmp.inventory as i
        where (i.account_id, i.sku, i.fulfillment_channel) = ($1, $3, 'DEFAULT')
        union all
        select null, p.cause, s.relation
        from amzmp.source as s
        join amzmp.product as p on (p.account_id, p.source_id, p.sku) = (s.account_id, s.source_id, $3)
        where s.account_id = $1 and s.channel_id in (0, $2)
        union all
        select null, r.cause, null
        from amzmp.request_log as r
        where (r.account_id, r.subject_kind, r.subject) = ($1, 'listing', $3) and r.channel_id in (0, $2)
        union all
        select b.facet, x.cause, null
        from amzmp.brake_item as x
        join amzmp.brake_batch as b using (account_id, batch_id)
        where x.account_id = $1 and x.sku = $3 and b.channel_id in (0, $2)
    )
    select (c.cause ->> 'at')::timestamptz, string_agg(distinct c.facet, ', '),
        case when c.cause ? 'xid' then 'the shop''s row changed' else 'asked for' end, null::text,
        c.cause ->> 'role', c.cause ->> 'application', c.cause ->> 'xid', null::bigint, null::text,
        concat_ws(', ', max(c.relation), c.cause ->> 'reason', c.cause ->> 'verb')
    from cause as c
    where c.cause ? 'at'
    group by c.cause
$$;

-- Messages to Amazon and what came back, in calls.
create function amzmp._trace_requests(account_id bigint, channel_id bigint, sku text)
    returns setof amzmp.traced_step
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    with done as (
        select r.*, concat_ws(', ', 'price ' || p.value, 'stock ' || q.value) as carried
        from amzmp.request_log as r
        left join lateral (
            select coalesce(max(s.value), max(l.submitted_price)) as value
            from amzmp.listing as l
            left join amzmp.lag_sample as s
                on s.account_id = r.account_id and s.accepted_at = r.finished_at and s.sku = $3 and s.facet = 'price' and s.channel_id = $2
            where (l.account_id, l.channel_id, l.sku) = ($1, $2, $3)
                and (s.value is not null or l.submitted_price_request = r.request_id)
        ) as p on true
        left join lateral (
            select coalesce(max(s.value), max(i.submitted_quantity)) as value
            from amzmp.inventory as i
            left join amzmp.lag_sample as s
                on s.account_id = r.account_id and s.accepted_at = r.finished_at and s.sku = $3 and s.facet = 'stock'
            where (i.account_id, i.sku, i.fulfillment_channel) = ($1, $3, 'DEFAULT')
                and (s.value is not null or i.submitted_quantity_request = r.request_id)
        ) as q on true
        where (r.account_id, r.subject_kind, r.subject) = ($1, 'listing', $3)
            and r.channel_id in (0, $2)
    )
    select d.finished_at, null::text, case d.outcome when 'success' then 'Amazon answered' else d.outcome end, nullif(d.carried, ''),
        null::text, null::text, null::text, d.request_id, d.amazon_request_id,
        concat_ws(', ', d.operation, (
                select format('along with feed %s', m.feed_id)
                from amzmp.feed_message as m
                where (m.account_id, m.sku, m.request_id) = (d.account_id, d.subject, d.request_id)
                order by m.feed_id desc
                limit 1
            ), 'status ' || d.status, case when d.attempt > 1 then d.attempt || ' attempts' end,
            nullif(concat_ws(': ', d.error_code, d.error_message), ''),
            case when d.sent_body is not null then 'amzmp.request_bodies shows what was sent' end)
    from done as d
    union all
    select d.created_at, null, 'queued', null, d.cause ->> 'role', d.cause ->> 'application', d.cause ->> 'xid', d.request_id, null,
        concat_ws(', ', d.operation, (
            select format('by a run of the flow %s', f.flow) from amzmp.flow_run as f
            where (f.account_id, f.flow_run_id) = (d.account_id, (d.cause ->> 'flow_run')::bigint)
        ))
    from done as d
    union all
    select r.created_at, null, 'queued, ' || r.state, null, r.cause ->> 'role', r.cause ->> 'application', r.cause ->> 'xid',
        r.request_id, null, concat_ws(', ', r.operation, r.hold_reason)
    from amzmp.request as r
    where (r.account_id, r.subject_kind, r.subject) = ($1, 'listing', $3)
        and r.channel_id in (0, $2)
$$;

-- The same in feeds.
create function amzmp._trace_feeds(account_id bigint, channel_id bigint, sku text)
    returns setof amzmp.traced_step
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    with message as (
        select f.submitted_at, f.amazon_feed_id, f.state, m.*, concat_ws(', ', 'price ' || m.price, 'stock ' || m.quantity, array_to_string(m.facets, ', ')) as carried
        from amzmp.feed_message as m
        join amzmp.feed as f using (account_id, feed_id)
        where m.account_id = $1
            and m.sku = $3
            and m.channel_id in (0, $2)
    )
    select m.ended_at, null::text, coalesce('Amazon''s report: ' || m.result, m.state), m.carried, null::text, null::text, null::text,
        m.feed_id, m.amazon_feed_id, concat_ws(': ', m.code, m.message)
    from message as m
    where m.ended_at is not null
    union all
    select m.submitted_at, null, 'sent in a feed', m.carried, null, null, null, m.feed_id, m.amazon_feed_id, 'message ' || m.message_id
    from message as m
    where m.submitted_at is not null
$$;

-- What was wanted, sold, held, seen and noted.
create function amzmp._trace_states(account_id bigint, channel_id bigint, sku text)
    returns setof amzmp.traced_step
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select t.at, t.facet, t.step, t.value, null::text, null::text, null::text, t.request_id, null::text, t.detail
    from (
        select l.desired_price_at, 'price', 'wanted', l.desired_price::text, null::bigint, null::text
        from amzmp.listing as l
        where (l.account_id, l.channel_id, l.sku) = ($1, $2, $3)
        union all
        select l.observed_at, 'price', 'Amazon has it', l.observed_price::text, null,
            case when l.observed_price is distinct from l.remote_price then 'expected was ' || coalesce(l.remote_price::text, 'nothing certain') end
        from amzmp.listing as l
        where (l.account_id, l.channel_id, l.sku) = ($1, $2, $3)
        union all
        select i.desired_quantity_at, 'stock', 'wanted', i.desired_quantity::text, null, null
        from amzmp.inventory as i
        where (i.account_id, i.sku, i.fulfillment_channel) = ($1, $3, 'DEFAULT')
        union all
        select i.observed_at, 'stock', 'Amazon has it', i.observed_quantity::text, null,
            case when i.observed_quantity is distinct from i.remote_quantity then 'expected was ' || coalesce(i.remote_quantity::text, 'nothing certain') end
        from amzmp.inventory as i
        where (i.account_id, i.sku, i.fulfillment_channel) = ($1, $3, 'DEFAULT')
        union all
        select s.seen_at, s.facet, 'first seen at Amazon', s.value::text, null, 'accepted at ' || s.accepted_at
        from amzmp.lag_sample as s
        where s.account_id = $1 and s.sku = $3 and s.channel_id = $2 and s.seen_at is not null
        union all
        select m.at, 'stock', 'an order moved stock', m.quantity::text, null, format('%s, order %s', m.cause, m.amazon_order_id)
        from amzmp.movement as m
        where m.account_id = $1 and m.sku = $3
        union all
        select x.held_at, b.facet, 'held by the brake', x.new_value::text, null, format('batch %s, %s; it was %s', b.batch_id, b.state, x.old_value)
        from amzmp.brake_item as x
        join amzmp.brake_batch as b using (account_id, batch_id)
        where x.account_id = $1 and x.sku = $3 and b.channel_id in (0, $2)
        union all
        select o.seen_at, null, 'Amazon complains', null, null, format('%s: %s', o.code, o.message)
        from amzmp.listing_issue as o
        where (o.account_id, o.channel_id, o.sku) = ($1, $2, $3)
        union all
        select a.at, null, 'noted', null, null, a.message
        from amzmp.activity as a
        where a.account_id = $1
            and a.subject_kind = any ('{sku,listing,inventory,product,publish,price,stock,details,penalty}')
            and a.subject = $3
            and a.channel_id in (0, $2)
    ) as t (at, facet, step, value, request_id, detail)
    where t.at is not null
$$;

create function amzmp._trace(channel text, sku text)
    returns table (at timestamptz, facet text, step text, value text, role text, application text, xid text, request_id bigint,
        amazon_request_id text, detail text)
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
begin
    if not exists (
        select from amzmp.listing as l where (l.account_id, l.channel_id, l.sku) = (place.account_id, place.channel_id, _trace.sku)
    ) then
        perform amzmp._fail('AZ201', format('SKU %L was never published in channel "%s"', sku, channel), null,
            format('select amzmp.publish(%L, array[%L]);', channel, sku));
    end if;
    return query
    select t.*
    from (
        select * from amzmp._trace_causes(place.account_id, place.channel_id, _trace.sku)
        union all
        select * from amzmp._trace_requests(place.account_id, place.channel_id, _trace.sku)
        union all
        select * from amzmp._trace_feeds(place.account_id, place.channel_id, _trace.sku)
        union all
        select * from amzmp._trace_states(place.account_id, place.channel_id, _trace.sku)
    ) as t
    order by t.at desc, t.request_id desc nulls last;
end
$$;

select amzmp._expose('amzmp._trace(text, text)', 'amzmp_reader',
    'The history of an offer, newest first: what Amazon has and was seen to have, every message and answer, and the change of the shop''s row that led to it, with role, application and transaction.');
