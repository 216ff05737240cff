/*
 * figure_count.sql
 *	  Counting: the sums of the dashboard brought up to date, portion by portion.
 *
 *		flow count_offers ──▶ task count ──portion by portion──▶ … ──▶ done
 *
 * A channel that was never walked through (new, or a source was detached) is counted as it is read, which takes a second
 * or so for a million SKUs; its walk goes over all SKUs and then marks it complete. The task waits for no row lock: what
 * somebody else is writing stays uncounted until the next time.
 */

/*
 * Note in the rows of these SKUs that they are counted as they are, and hold all of them until our end: one that changed
 * and changed back behind our back would look counted. Returns the SKUs of which nobody else is writing a row.
 */
create function amzmp._mark_counted(account_id bigint, skus text[])
    returns text[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    theirs text[];
    ours text[];
begin
    -- by source and channel, so that indexes find the rows
    with product_row as materialized (
        select p.sku
        from amzmp.source as s
        join amzmp.product as p using (account_id, source_id)
        where s.account_id = _mark_counted.account_id and p.sku = any (skus)
        for no key update of p skip locked
    ), listing_row as materialized (
        select l.sku
        from amzmp.channel as c
        join amzmp.listing as l using (account_id, channel_id)
        where c.account_id = _mark_counted.account_id and l.sku = any (skus)
        for no key update of l skip locked
    ), inventory_row as materialized (
        select i.sku from amzmp.inventory as i where i.account_id = _mark_counted.account_id and i.sku = any (skus)
        for no key update skip locked
    ), balance as (
        select p.sku, 1 as rows
        from amzmp.source as s
        join amzmp.product as p using (account_id, source_id)
        where s.account_id = _mark_counted.account_id and p.sku = any (skus)
        union all
        select l.sku, 1
        from amzmp.channel as c
        join amzmp.listing as l using (account_id, channel_id)
        where c.account_id = _mark_counted.account_id and l.sku = any (skus)
        union all
        select i.sku, 1 from amzmp.inventory as i where i.account_id = _mark_counted.account_id and i.sku = any (skus)
        union all
        select p.sku, -1 from product_row as p
        union all
        select l.sku, -1 from listing_row as l
        union all
        select i.sku, -1 from inventory_row as i
    )
    select array(select b.sku from balance as b group by b.sku having sum(b.rows) <> 0) into theirs;
    ours := array(select unnest(skus) except select unnest(theirs));

    update amzmp.product as p
    set counted = amzmp._product_mark(p.gone, p.active, p.price, p.quantity, p.category, p.image)
    where p.account_id = _mark_counted.account_id and p.uncounted and p.sku = any (ours);

    update amzmp.listing as l
    set counted = l.state || ' ' || l.fulfillment
    where l.account_id = _mark_counted.account_id and l.uncounted and l.sku = any (ours);

    update amzmp.inventory as i
    set counted = coalesce(i.remote_quantity, i.submitted_quantity, i.observed_quantity)
    where i.account_id = _mark_counted.account_id and i.uncounted and i.sku = any (ours);
    return ours;
end
$$;

/*
 * Bring the sums up to date for these SKUs. Marks come first: a row that is marked stays as it is until our end, so that
 * what is looked up afterwards is what was marked. SKUs that somebody else is writing wait for the next time; a walk through
 * all SKUs cannot leave one out.
 */
create function amzmp._count_skus(account_id bigint, skus text[], walking boolean default false)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    ours constant text[] := amzmp._mark_counted(account_id, skus);
begin
    with now_so as materialized (
        select c.channel_id, s.sku, f.*
        from amzmp.channel as c
        cross join unnest(case when walking then skus else ours end) as s (sku)
        cross join lateral amzmp._sku_facts(c.account_id, c.channel_id, s.sku) as f
        where c.account_id = _count_skus.account_id
            and not c.dropped
    ), before as materialized (
        -- one look-up each, whatever the planner thinks of a million rows
        select b.*
        from now_so as n
        cross join lateral (
            select o.*
            from amzmp.sku_figure as o
            where (o.account_id, o.channel_id, o.sku) = (_count_skus.account_id, n.channel_id, n.sku)
            limit 1
        ) as b
    ), changed as materialized (
        select n.*
        from now_so as n
        left join before as b using (channel_id, sku)
        where (n.state, n.in_catalog, n.on_sale, n.lacks, n.stock, n.on_sale_stock)
            is distinct from (b.state, b.in_catalog, b.on_sale, b.lacks, b.stock, b.on_sale_stock)
    ), removed as (
        delete from amzmp.sku_figure as o
        using changed as n
        where (o.account_id, o.channel_id, o.sku) = (_count_skus.account_id, n.channel_id, n.sku)
            and n.state = 'not_listed'
            and not n.in_catalog
    ), stored as (
        insert into amzmp.sku_figure (account_id, channel_id, sku, state, in_catalog, on_sale, lacks, stock, on_sale_stock)
        select _count_skus.account_id, n.channel_id, n.sku, n.state, n.in_catalog, n.on_sale, n.lacks, n.stock, n.on_sale_stock
        from changed as n
        where n.state <> 'not_listed'
            or n.in_catalog
        on conflict on constraint sku_figure_pkey do update
        set state = excluded.state, in_catalog = excluded.in_catalog, on_sale = excluded.on_sale, lacks = excluded.lacks,
            stock = excluded.stock, on_sale_stock = excluded.on_sale_stock
    ), delta as (
        select n.channel_id, n.state, n.in_catalog, n.on_sale, n.lacks = '{}' as complete, 1 as skus, n.stock, n.on_sale_stock
        from changed as n
        where n.state <> 'not_listed'
            or n.in_catalog
        union all
        select b.channel_id, b.state, b.in_catalog, b.on_sale, b.lacks = '{}', -1, -b.stock, -b.on_sale_stock
        from before as b
        join changed as n using (channel_id, sku)
    )
    insert into amzmp.figure as f (account_id, channel_id, state, in_catalog, on_sale, complete, skus, stock, on_sale_stock)
    select _count_skus.account_id, d.channel_id, d.state, d.in_catalog, d.on_sale, d.complete,
        sum(d.skus), sum(d.stock), sum(d.on_sale_stock)
    from delta as d
    group by d.channel_id, d.state, d.in_catalog, d.on_sale, d.complete
    on conflict on constraint figure_pkey do update
    set skus = f.skus + excluded.skus, stock = f.stock + excluded.stock, on_sale_stock = f.on_sale_stock + excluded.on_sale_stock;
end
$$;

comment on function amzmp._count_skus(bigint, text[], boolean) is 'Inner: bring the dashboard''s sums up to date for these SKUs.';

-- The next SKUs to count, in order: those with uncounted rows, or (walk) all there are and were.
create function amzmp._next_to_count(account_id bigint, after text, walk boolean, most integer)
    returns text[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if walk then
        return array(
            select sku from (
                select p.sku
                from amzmp.source as s
                cross join lateral (
                    select r.sku from amzmp.product as r
                    where (r.account_id, r.source_id) = (s.account_id, s.source_id) and r.sku > after
                    order by r.sku limit most
                ) as p
                where s.account_id = _next_to_count.account_id
                union
                select o.sku
                from amzmp.channel as c
                cross join lateral (
                    (select r.sku from amzmp.listing as r
                    where (r.account_id, r.channel_id) = (c.account_id, c.channel_id) and r.sku > after
                    order by r.sku limit most)
                    union all
                    (select r.sku from amzmp.sku_figure as r
                    where (r.account_id, r.channel_id) = (c.account_id, c.channel_id) and r.sku > after
                    order by r.sku limit most)
                ) as o
                where c.account_id = _next_to_count.account_id
            ) as k
            order by sku
            limit most
        );
    end if;
    return array(
        select sku from (
            (select p.sku from amzmp.product as p
                where p.account_id = _next_to_count.account_id and p.uncounted and p.sku > after order by p.sku limit most)
            union
            (select l.sku from amzmp.listing as l
                where l.account_id = _next_to_count.account_id and l.uncounted and l.sku > after order by l.sku limit most)
            union
            (select i.sku from amzmp.inventory as i
                where i.account_id = _next_to_count.account_id and i.uncounted and i.sku > after order by i.sku limit most)
        ) as k
        order by sku
        limit most
    );
end
$$;

-- Channels that are there and not complete.
create function amzmp._uncounted_channels(account_id bigint)
    returns bigint[]
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array(
        select c.channel_id
        from amzmp.channel as c
        left join amzmp.figure_channel as f using (account_id, channel_id)
        where c.account_id = $1
            and not c.dropped
            and not coalesce(f.complete, false)
        order by c.channel_id
    )
$$;

-- Inner, own runner: count a portion, and leave the rest to the next. argument: after, the SKU up to which it has come, and
-- channels that are complete when the walk has come to its end.
create function amzmp._task_count(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    portion constant integer := 2000;
    walked constant bigint[] := case
        when argument ? 'walk' then array(select w.id::bigint from jsonb_array_elements_text(argument -> 'walk') as w (id))
        else amzmp._uncounted_channels(account_id)
    end;
    skus constant text[] := amzmp._next_to_count(account_id, coalesce(argument ->> 'after', ''), walked <> '{}', portion);
begin
    perform amzmp._commit_soon('count');
    perform 1 from amzmp.figure_channel as f where f.account_id = _task_count.account_id order by f.channel_id for update;
    delete from amzmp.figure_channel as f
    using amzmp.channel as c
    where f.account_id = _task_count.account_id
        and (c.account_id, c.channel_id) = (f.account_id, f.channel_id)
        and c.dropped;
    if skus <> '{}' then
        perform amzmp._count_skus(account_id, skus, walked <> '{}');
    end if;
    if cardinality(skus) = portion then
        perform amzmp._add_task(account_id, 'count', '', null, now(),
            jsonb_build_object('after', skus[portion], 'walk', to_jsonb(walked)));
    else
        insert into amzmp.figure_channel (account_id, channel_id, complete)
        select _task_count.account_id, w.id, true
        from unnest(walked) as w (id)
        on conflict on constraint figure_channel_pkey do update set complete = true;
    end if;
end
$$;

-- The figures of an account's channels have to be counted anew: rows have gone. A walk under way is ended, in the order in
-- which it takes its own locks.
create function amzmp._recount(account_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    insert into amzmp.figure_channel (account_id, channel_id)
    select c.account_id, c.channel_id
    from amzmp.channel as c
    where c.account_id = _recount.account_id
    order by c.channel_id
    on conflict on constraint figure_channel_pkey do update set complete = false;
    delete from amzmp.task as t
    where (t.account_id, t.kind) = (_recount.account_id, 'count');
end
$$;

-- Which of these accounts have something to count.
create function amzmp._due_count_offers(account_ids bigint[])
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
            from amzmp.channel as c
            left join amzmp.figure_channel as f using (account_id, channel_id)
            where c.account_id = a.id
                and not c.dropped
                and not coalesce(f.complete, false)
        )
        or exists (select from amzmp.product as p where p.account_id = a.id and p.uncounted)
        or exists (select from amzmp.listing as l where l.account_id = a.id and l.uncounted)
        or exists (select from amzmp.inventory as i where i.account_id = a.id and i.uncounted);
end
$$;

create function amzmp._flow_count_offers(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if amzmp._uncounted_channels(account_id) <> '{}' or amzmp._next_to_count(account_id, '', false, 1) <> '{}' then
        insert into amzmp.task (account_id, kind)
        values (_flow_count_offers.account_id, 'count')
        on conflict on constraint task_account_id_kind_subject_key do nothing;
        perform amzmp._wake();
    end if;
end
$$;

comment on function amzmp._flow_count_offers(bigint, bigint, bigint) is 'Inner: the flow count_offers.';
