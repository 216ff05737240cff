/*
 * why.sql
 *	  Why is this SKU not updating? Everything between the shop's table and Amazon, in that order, each with what to do.
 *
 * A person's question, so nothing here is quick at the cost of an answer: it looks at one SKU in one channel. What is
 * found is ok, waits (goes on by itself), or blocked (somebody has to do something). explain_offer tells how the values
 * are computed, trace what happened before.
 */
create type amzmp.finding as (place integer, looked_at text, state text, finding text, remedy text);

comment on type amzmp.finding is 'Inner: something that why() found.';

-- What holds for the whole account or channel.
create function amzmp._why_place(place amzmp.channel)
    returns setof amzmp.finding
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select 1, h.check_name, 'blocked', h.detail, h.remedy
    from amzmp._health() as h
    where h.check_name in ('processes', 'key', 'identity')
        and h.state <> 'ok';
    return query
    select 2, 'account', 'blocked', case when a.state = 'invalid' then a.state_reason else 'it is not active' end,
        format(case a.state when 'invalid' then 'select amzmp.set_credentials(%L, file => …);' else 'select amzmp.activate(%L);' end, a.name)
    from amzmp.account as a
    where a.account_id = place.account_id
        and (a.state = 'invalid' or not a.active);
    return query
    select 2, 'channel', 'blocked', 'it is not active', format('select amzmp.activate(%L);', place.name)
    where not place.active;
    return query
    select 2, 'hold', 'blocked', format('held by %s: %s', h.held_by, h.reason), format('select amzmp.resume(%L);', n.name)
    from amzmp.hold as h
    join amzmp.name as n using (account_id, channel_id)
    where h.account_id = place.account_id
        and h.channel_id in (0, place.channel_id);
end
$$;

-- What the shop says.
create function amzmp._why_source(place amzmp.channel, sku text)
    returns setof amzmp.finding
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select 3, 'source ' || s.relation,
        case when s.state <> 'ok' or p.sku is null or p.gone or p.active is false then 'blocked' when not w.waits then 'ok' else 'waits' end,
        case
            when s.state <> 'ok' then 'it cannot be read: ' || s.last_error
            when p.sku is null then 'it has no such row, or its filter leaves it out'
            when p.gone then 'it has no such row any more'
            when p.active is false then 'the shop says that it is not for sale'
            else format('price %s, stock %s, as read at %s%s', coalesce(p.price::text, 'none'), coalesce(p.quantity::text, 'none'),
                p.read_at::timestamp(0), case when w.waits then '; a comparison is under way' end)
        end,
        case
            when s.state <> 'ok' then format('Mend it, then select amzmp.rescan(%L);', place.name)
            when p.sku is null then 'SKUs are compared letter by letter.'
            when not p.gone and p.active is not false then 'If the shop has something else: a table behind a view without watch? select amzmp.rescan(…) reads at once.'
        end
    from amzmp.source as s
    left join amzmp.product as p on (p.account_id, p.source_id, p.sku) = (s.account_id, s.source_id, $2)
    cross join lateral (
        select s.rescan_due <= now() or s.rescan_started_at is not null as waits
    ) as w
    where s.account_id = ($1).account_id
        and s.channel_id in (0, ($1).channel_id)
    union all
    select 3, 'source', 'blocked', 'none is attached', format('select amzmp.attach_source(%L, …);', ($1).name)
    where not exists (
        select from amzmp.source as s where s.account_id = ($1).account_id and s.channel_id in (0, ($1).channel_id)
    )
$$;

-- The offer and its differences.
create function amzmp._why_offer(place amzmp.channel, sku text)
    returns setof amzmp.finding
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select 4, 'offer',
        case
            when not l.wanted or t.state in ('rejected', 'gone', 'deactivated', 'removed', 'not_listed') then 'blocked'
            when t.for_sale then 'ok'
            else 'waits'
        end,
        concat_ws(': ', t.title, case when l.wanted then l.state_reason else 'not wanted, ' || coalesce('stopped by ' || l.stopped_by, 'unpublished') end),
        case when not l.wanted then format('select amzmp.publish(%L, array[%L]);', ($1).name, $2) else t.remedy end
    from amzmp.listing as l
    join amzmp.listing_state as t using (state)
    where (l.account_id, l.channel_id, l.sku) = (($1).account_id, ($1).channel_id, $2)
    union all
    select 4, 'offer', 'blocked', 'it was never published here', format('select amzmp.publish(%L, array[%L]);', ($1).name, $2)
    where not exists (
        select from amzmp.listing as l where (l.account_id, l.channel_id, l.sku) = (($1).account_id, ($1).channel_id, $2)
    )
    union all
    select 5, 'brake', 'blocked',
        format('%s stays at %s, the shop asks for %s: %s', b.facet, x.old_value, x.new_value, b.reason),
        format('Look at amzmp.brake_item; select amzmp.release_brake(%L, %s);', a.name, b.batch_id)
    from amzmp.brake_item as x
    join amzmp.brake_batch as b using (account_id, batch_id)
    join amzmp.account as a using (account_id)
    where x.account_id = ($1).account_id
        and x.sku = $2
        and b.channel_id in (0, ($1).channel_id)
        and b.state = 'held'
    union all
    select 6, 'price', case when l.price_differs then 'waits' when not l.sends_price then 'blocked' else 'ok' end,
        case
            when l.in_flight_price is not null then l.in_flight_price || ' is on its way'
            when l.price_differs then format('%s is to be sent, Amazon has %s', l.desired_price, coalesce(l.remote_price::text, 'an unknown one'))
            when not l.sends_price then format('%s is wanted and not sent: a rule''s send or the channel''s main switch leaves it out', coalesce(l.desired_price::text, 'none'))
            else 'Amazon has it: ' || coalesce(l.remote_price::text, 'none')
        end, null
    from amzmp.listing as l
    where (l.account_id, l.channel_id, l.sku) = (($1).account_id, ($1).channel_id, $2)
        and l.listed
    union all
    select 6, 'stock', case when i.quantity_differs then 'waits' when not i.sends then 'blocked' else 'ok' end,
        case
            when i.in_flight_quantity is not null then i.in_flight_quantity || ' is on its way'
            when i.quantity_differs then format('%s is to be sent, Amazon has %s', i.desired_quantity, coalesce(i.remote_quantity::text, 'an unknown one'))
            when not i.sends then format('%s is wanted and not sent: a rule''s send or the main switch leaves it out', coalesce(i.desired_quantity::text, 'none'))
            else 'Amazon has it: ' || coalesce(i.remote_quantity::text, 'none')
        end, null
    from amzmp.inventory as i
    where (i.account_id, i.sku, i.fulfillment_channel) = (($1).account_id, $2, 'DEFAULT')
        and i.listed
$$;

-- What keeps it from being sent, or has failed.
create function amzmp._why_sending(place amzmp.channel, sku text)
    returns setof amzmp.finding
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select 7, 'penalty', case when p.gave_up then 'blocked' else 'waits' end,
        format('%s failed %s times, last because: %s (%s); %s', p.kind, p.tries, p.message, coalesce(m.error, p.code),
            case when p.gave_up then 'given up' else 'again at ' || p.until::timestamp(0) end),
        concat_ws(' ', m.remedy, format('select amzmp.release_penalty(%L, array[%L]); tries at once.', ($1).name, $2))
    from amzmp.penalty as p
    left join amzmp.meaning as m on m.code = p.code
    where p.account_id = ($1).account_id
        and p.channel_id in (0, ($1).channel_id)
        and p.subject = $2
    union all
    select 7, 'issue', case i.severity when 'ERROR' then 'blocked' else 'ok' end, format('%s (%s)', i.message, i.code), m.remedy
    from amzmp.listing_issue as i
    left join amzmp.meaning as m on m.code = i.code
    where (i.account_id, i.channel_id, i.sku) = (($1).account_id, ($1).channel_id, $2)
    union all
    select 8, 'request', case r.state when 'held' then 'blocked' else 'waits' end,
        concat_ws(', ', format('%s is %s', r.operation, r.state), r.hold_reason,
            case when r.not_before > now() then 'not before ' || r.not_before::timestamp(0) end,
            case when r.attempt > 0 then r.attempt || ' attempts so far' end),
        case r.state
            when 'held' then format('select amzmp.retry(%L, %s); or amzmp.cancel_request.', a.name, r.request_id)
            when 'due' then 'If it waits for long: amzmp.usage shows whether the usage plan is used up.'
        end
    from amzmp.request as r
    join amzmp.account as a using (account_id)
    where (r.account_id, r.subject_kind, r.subject) = (($1).account_id, 'listing', $2)
        and r.channel_id in (0, ($1).channel_id)
    union all
    select 8, 'feed', 'waits', format('feed %s that carries it is %s', f.feed_id, f.state), 'Nothing: what is urgent goes past it by itself.'
    from amzmp.feed_message as m
    join amzmp.feed as f using (account_id, feed_id)
    where m.account_id = ($1).account_id
        and m.sku = $2
        and m.channel_id in (0, ($1).channel_id)
        and m.ended_at is null
        and f.open
$$;

create function amzmp._why(channel text, sku text)
    returns table (looked_at text, state text, finding text, remedy text)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
begin
    return query
    select f.looked_at, f.state, f.finding, f.remedy
    from (
        select * from amzmp._why_place(place)
        union all
        select * from amzmp._why_source(place, _why.sku)
        union all
        select * from amzmp._why_offer(place, _why.sku)
        union all
        select * from amzmp._why_sending(place, _why.sku)
    ) as f
    order by f.place, f.looked_at;
end
$$;

select amzmp._expose('amzmp._why(text, text)', 'amzmp_reader',
    'Why is this SKU not updating? Everything between the shop''s table and Amazon in that order: ok, waits (goes on by itself) or blocked, with what to do.');
