/*
 * brake_excess.sql
 *	  Which changes are too many at once, or one too large: the brake's judgement, and the counts that it rests on.
 */

/*
 * Those that are too many, or one that is too much. Each comes back with the channel whose limit it exceeds; a
 * quantity, which belongs to all channels of its SKU, with the first of them. fresh counts the offers that were not
 * counted in this window yet; already are those that are held since an earlier look. A price that jumped and that the shop
 * has brought back within the limits is judged as if it had never been held.
 */
create function amzmp._brake_excess(account_id bigint, judged amzmp.desired_change[])
    returns amzmp.desired_change[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    part record;
    over text[];
    excess amzmp.desired_change[] := '{}';
begin
    for part in
        with place as materialized (
            select h.account_id, h.channel_id,
                now() - amzmp._setting_interval(h.account_id, h.channel_id, 'brake_window') as since
            from amzmp.channel as h
            where h.account_id = _brake_excess.account_id
                and not h.dropped
        ), held as materialized (
            select b.channel_id, b.facet, i.sku, i.new_value
            from amzmp.brake_batch as b
            join amzmp.brake_item as i using (account_id, batch_id)
            where b.account_id = _brake_excess.account_id
                and b.state = 'held'
        ), change as (
            -- a price that is judged is that of an offer; a quantity may be that of several
            select p.channel_id, c.sku, c.facet, c.old_value, c.new_value, c.changed_at,
                c.changed_at is null or c.changed_at <= p.since as fresh
            from unnest(judged) as c
            join place as p using (channel_id)
            where c.facet = 'price'
            union all
            select p.channel_id, c.sku, c.facet, c.old_value, c.new_value, c.changed_at, true
            from unnest(judged) as c
            join place as p on c.channel_id in (0, p.channel_id)
            join amzmp.listing as l
                on (l.account_id, l.channel_id, l.sku) = (p.account_id, p.channel_id, c.sku) and l.wanted and l.listed
            where c.facet <> 'price'
        )
        select c.channel_id, c.facet,
            array_agg((c.channel_id, c.sku, c.facet, c.old_value, c.new_value, false, c.changed_at)::amzmp.desired_change
                order by c.sku) as changes,
            coalesce(array_agg(c.sku) filter (where h.sku is not null), '{}') as already,
            count(*) filter (where h.sku is null and c.fresh)::integer as fresh
        from change as c
        left join held as h
            on (h.channel_id, h.facet, h.sku) = (c.channel_id, c.facet, c.sku)
            and not (h.facet = 'price'
                and amzmp._price_jumps(_brake_excess.account_id, c.channel_id, c.old_value, h.new_value)
                and not amzmp._price_jumps(_brake_excess.account_id, c.channel_id, c.old_value, c.new_value))
        group by c.channel_id, c.facet
        order by c.facet, c.channel_id
    loop
        over := amzmp._brake_over(account_id, part.channel_id, part.facet, part.changes, part.already, part.fresh);
        excess := excess || array(
            select p
            from unnest(part.changes) as p
            where p.sku = any (over)
                and not exists (select from unnest(excess) as e where (e.sku, e.facet) = (p.sku, 'stock'))
        );
    end loop;
    return excess;
end
$$;

-- Is a price so far from the old one that a person has to look? For one; amzmp._brake_over asks the same of many.
create function amzmp._price_jumps(account_id bigint, channel_id bigint, old_price numeric, new_price numeric)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return new_price < old_price * (1 - amzmp._setting_numeric(account_id, channel_id, 'brake_drop'))
        or new_price > old_price * (1 + amzmp._setting_numeric(account_id, channel_id, 'brake_rise'));
end
$$;

/*
 * The SKUs among a channel's changes of a facet that are to be held: all when there are too many, else single prices
 * that jump, and those that are held already.
 */
create function amzmp._brake_over(account_id bigint, channel_id bigint, facet text, changes amzmp.desired_change[],
    already text[], fresh integer)
    returns text[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    lowest constant numeric := 1 - amzmp._setting_numeric(account_id, channel_id, 'brake_drop');
    highest constant numeric := 1 + amzmp._setting_numeric(account_id, channel_id, 'brake_rise');
    too_many constant boolean := amzmp._brake_too_many(account_id, channel_id, facet, fresh);
begin
    return array(
        select c.sku
        from unnest(changes) as c
        where too_many
            or c.sku = any (already)
            or c.facet = 'price' and c.new_value not between c.old_value * lowest and c.old_value * highest
    );
end
$$;

/*
 * Do the changes of the window, with these, exceed the limit? Live offers are counted only when the fixed minimum is
 * exceeded, which is rare.
 */
create function amzmp._brake_too_many(account_id bigint, channel_id bigint, facet text, fresh integer)
    returns boolean
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    since constant timestamptz := now() - amzmp._setting_interval(account_id, channel_id, 'brake_window');
    minimum constant integer := amzmp._setting_int(account_id, channel_id, 'brake_minimum');
    share constant numeric := amzmp._setting_numeric(account_id, channel_id, 'brake_share');
    changed bigint;
begin
    if fresh > 0 then
        insert into amzmp.brake_count as k (account_id, channel_id, facet, minute, changes)
        values (account_id, channel_id, facet, date_trunc('minute', now()), fresh)
        on conflict (account_id, channel_id, facet, minute) do update
        set changes = k.changes + excluded.changes;
        delete from amzmp.brake_count as k
        where (k.account_id, k.channel_id, k.facet) = (_brake_too_many.account_id, _brake_too_many.channel_id,
                _brake_too_many.facet)
            and k.minute < since - interval '1 minute';
    end if;

    select coalesce(sum(k.changes), 0) into changed
    from amzmp.brake_count as k
    where (k.account_id, k.channel_id, k.facet) = (_brake_too_many.account_id, _brake_too_many.channel_id,
            _brake_too_many.facet)
        and k.minute > since - interval '1 minute';
    return changed > minimum
        and fresh > 0
        and changed > share * amzmp._brake_live(account_id, channel_id);
end
$$;

-- How many live offers a channel has. They are counted once a minute at most: a large change comes in many portions.
create function amzmp._brake_live(account_id bigint, channel_id bigint)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = on -- all of them are counted, and not SKU by SKU
as $$
#variable_conflict use_column
declare
    live integer;
begin
    select k.changes into live
    from amzmp.brake_count as k
    where (k.account_id, k.channel_id, k.facet, k.minute) = (_brake_live.account_id, _brake_live.channel_id, 'live',
            date_trunc('minute', now()));
    if live is null then
        select count(*) into live
        from amzmp.listing as l
        where (l.account_id, l.channel_id) = (_brake_live.account_id, _brake_live.channel_id)
            and l.listed
            and l.wanted;
        delete from amzmp.brake_count as k
        where (k.account_id, k.channel_id, k.facet) = (_brake_live.account_id, _brake_live.channel_id, 'live');
        insert into amzmp.brake_count (account_id, channel_id, facet, minute, changes)
        values (_brake_live.account_id, _brake_live.channel_id, 'live', date_trunc('minute', now()), live)
        on conflict do nothing;
    end if;
    return live;
end
$$;
