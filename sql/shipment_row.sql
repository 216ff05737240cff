/*
 * shipment_row.sql
 *	  What becomes of the rows of the shop's attached shipment tables (shipment_source.sql).
 *
 *		row read ─▶ taken ─▶ shipment          held and foreign rows are tried again when their order arrives, changes or
 *		         ├▶ held (see reason)          is handed over, when a carrier is mapped, and by the flow send_update_orders
 *		         └▶ foreign (no order of ours has that number)
 *
 * Rows of one order and the same package key are one package; one that comes later joins it, which corrects the package at
 * Amazon. A row keeps its package whatever is corrected in it, unless other rows of that package stay behind: then it
 * goes to the package of its new key. A row that is removed changes nothing.
 */
create table amzmp.shipment_row (
    account_id bigint not null,
    source_id bigint not null,
    row_key text not null,
    order_reference text,
    carrier text,
    tracking text,
    shipped_at timestamptz,
    shipping_method text,
    contents jsonb,
    force boolean not null default false,
    package_key text,
    state text not null default 'held',
    reason text,
    hint text,
    amazon_order_id text,
    package_reference text,
    cause jsonb,
    read_at timestamptz not null default now(),
    primary key (account_id, source_id, row_key),
    constraint shipment_row_state_check check (state in ('held', 'foreign', 'taken', 'gone'))
);

create index shipment_row_order on amzmp.shipment_row (order_reference, account_id);
create index shipment_row_waiting on amzmp.shipment_row (order_reference, account_id) where state in ('held', 'foreign');
create index shipment_row_held on amzmp.shipment_row (account_id) where state = 'held';
create index shipment_row_open on amzmp.shipment_row (account_id) where state in ('held', 'foreign');

comment on table amzmp.shipment_row is 'Rows of the shop''s attached shipment tables as they were last read.';
comment on column amzmp.shipment_row.account_id is 'The account.';
comment on column amzmp.shipment_row.source_id is 'The attached table, see amzmp.source.';
comment on column amzmp.shipment_row.row_key is 'What tells its rows apart.';
comment on column amzmp.shipment_row.order_reference is 'The order as the row names it: Amazon''s number, order_number or delivered_number.';
comment on column amzmp.shipment_row.carrier is 'The carrier; where the row has none, the setting default_carrier.';
comment on column amzmp.shipment_row.tracking is 'The tracking number.';
comment on column amzmp.shipment_row.shipped_at is 'When it was shipped; where the row has no time, when it was read.';
comment on column amzmp.shipment_row.shipping_method is 'The carrier''s service.';
comment on column amzmp.shipment_row.contents is 'What is in it; null: everything that is open.';
comment on column amzmp.shipment_row.force is 'Is it to be shipped although the buyer asks to cancel?';
comment on column amzmp.shipment_row.package_key is 'What the rows of one package have in common: what attach_shipments names as package, else the tracking number. Null: the row is a package by itself.';
comment on column amzmp.shipment_row.state is 'taken (see amzmp.shipment), held (see reason), foreign (no order of ours has that number), gone (the row was removed; what was told to Amazon stays).';
comment on column amzmp.shipment_row.reason is 'Why it is held.';
comment on column amzmp.shipment_row.hint is 'What to do about that.';
comment on column amzmp.shipment_row.amazon_order_id is 'The order that was found.';
comment on column amzmp.shipment_row.package_reference is 'Its package.';
comment on column amzmp.shipment_row.cause is 'The shop''s transaction that changed the row.';
comment on column amzmp.shipment_row.read_at is 'When it was read.';

-- The shop's number of an order leads to it as well.
create index orders_delivered_number on amzmp.orders (delivered_number, account_id) where delivered_number is not null;

/*
 * What the rows become.
 */

-- The order that a row means.
create function amzmp._shipped_order(account_id bigint, reference text)
    returns text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select x.amazon_order_id
    from (
        select 1 as rank, o.amazon_order_id
        from amzmp.orders as o
        where (o.account_id, o.amazon_order_id) = (_shipped_order.account_id, _shipped_order.reference)
        union all
        select 2, o.amazon_order_id
        from amzmp.orders as o
        where (o.order_number, o.account_id) = (_shipped_order.reference, _shipped_order.account_id)
        union all
        select 3, o.amazon_order_id
        from amzmp.orders as o
        where (o.delivered_number, o.account_id) = (_shipped_order.reference, _shipped_order.account_id)
    ) as x
    order by x.rank
    limit 1;
end;

-- Does a number, which is neither Amazon's nor made by order_number_format, belong to several orders? The shop's function may have
-- returned it more than once.
create function amzmp._is_ambiguous(account_id bigint, reference text)
    returns boolean
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select count(*) > 1
    from amzmp.orders as o
    where (o.delivered_number, o.account_id) = (_is_ambiguous.reference, _is_ambiguous.account_id)
        and not exists (
            select
            from amzmp.orders as x
            where (x.account_id, x.amazon_order_id) = (_is_ambiguous.account_id, _is_ambiguous.reference)
                or (x.order_number, x.account_id) = (_is_ambiguous.reference, _is_ambiguous.account_id)
        );
end;

-- Note why a row became no package; amazon_order_id: its order, where there is one.
create function amzmp._hold_row(r amzmp.shipment_row, amazon_order_id text, state text, reason text, hint text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.shipment_row as x
    set state = _hold_row.state,
        reason = _hold_row.reason,
        hint = _hold_row.hint,
        amazon_order_id = coalesce(_hold_row.amazon_order_id, x.amazon_order_id)
    where (x.account_id, x.source_id, x.row_key) = (r.account_id, r.source_id, r.row_key);
    if state = 'held' and reason is distinct from r.reason then
        perform amzmp._log(r.account_id, 0, 'warning', 'order', coalesce(amazon_order_id, r.order_reference),
            format('the shipment in row %s is held: %s', r.row_key, reason), r.cause);
    end if;
end
$$;

/*
 * The package of a row that has none yet: that of other rows with its key (live ones first, and no package that has
 * gone over to another key), else the next free number.
 */
create function amzmp._package_of_row(r amzmp.shipment_row, o amzmp.orders)
    returns text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(r.package_reference, (
                select x.package_reference
                from amzmp.shipment_row as x
                where x.account_id = r.account_id
                    and x.source_id = r.source_id
                    and x.order_reference in (r.order_reference, o.amazon_order_id, o.order_number, o.delivered_number)
                    and x.amazon_order_id = o.amazon_order_id
                    and x.package_reference is not null
                    and x.package_key = r.package_key
                    and (x.state <> 'gone' or not exists (
                            select
                            from amzmp.shipment_row as y
                            where y.account_id = x.account_id
                                and y.source_id = x.source_id
                                and y.order_reference = x.order_reference
                                and y.package_reference = x.package_reference
                                and y.state <> 'gone'
                                and y.package_key is distinct from x.package_key
                        ))
                order by x.state = 'gone', x.package_reference::bigint
                limit 1
            ), amzmp._next_package(o.account_id, o.amazon_order_id))
$$;

-- The rows of a package: those that are in it, and those of its key that are in none.
create function amzmp._rows_of_package(r amzmp.shipment_row, o amzmp.orders)
    returns setof amzmp.shipment_row
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select x.*
    from amzmp.shipment_row as x
    where x.account_id = r.account_id
        and x.source_id = r.source_id
        and x.order_reference in (r.order_reference, o.amazon_order_id, o.order_number, o.delivered_number)
        and x.state <> 'gone'
        and (x.row_key = r.row_key
            or x.package_reference = r.package_reference and x.amazon_order_id = o.amazon_order_id
            or x.package_reference is null and x.package_key = r.package_key)
$$;

-- What the rows of a package say together. message: why they are no package.
create function amzmp._parcel(rows amzmp.shipment_row[], out carrier text, out tracking text, out shipped_at timestamptz,
    out shipping_method text, out contents jsonb, out force boolean, out message text, out hint text)
    returns record
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    carriers text[];
    trackings text[];
begin
    select coalesce(array_agg(distinct btrim(r.carrier)) filter (where btrim(r.carrier) <> ''), '{}'),
        coalesce(array_agg(distinct btrim(r.tracking)) filter (where btrim(r.tracking) <> ''), '{}'), max(r.shipped_at),
        min(r.shipping_method), coalesce(bool_or(r.force), false)
    into carriers, trackings, _parcel.shipped_at, _parcel.shipping_method, _parcel.force
    from unnest(rows) as r;
    carrier := carriers[1];
    tracking := trackings[1];
    if cardinality(carriers) > 1 or cardinality(trackings) > 1 then
        message := format('rows of one package name several %s', case when cardinality(carriers) > 1 then 'carriers' else 'tracking numbers' end);
        hint := 'Give all rows of the package the same; what makes rows a package is the argument package of attach_shipments, else the tracking number.';
    elsif not exists (select from unnest(rows) as r where r.contents is null) then
        -- what is no array stays as it is, and is refused as that
        select coalesce((select x.contents from unnest(rows) as x where jsonb_typeof(x.contents) <> 'array' limit 1),
            jsonb_agg(e.item order by r.row_key, e.n), '[]')
        into contents
        from unnest(rows) as r
        cross join lateral jsonb_array_elements(case jsonb_typeof(r.contents) when 'array' then r.contents else '[]' end)
            with ordinality as e (item, n);
    end if;
end
$$;

-- Note why rows became no package.
create function amzmp._hold_rows(rows amzmp.shipment_row[], amazon_order_id text, state text, reason text, hint text)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    select amzmp._hold_row(r, _hold_rows.amazon_order_id, _hold_rows.state, _hold_rows.reason, _hold_rows.hint)
    from unnest(rows) as r
    where r.state in ('held', 'foreign')
$$;

/*
 * Make a package of a row and of those that belong to it, or correct the package that they have become. The order is
 * locked first, so that rows that are looked at by two processes become one package.
 */
create function amzmp._ship_row(waiting amzmp.shipment_row, created_by name)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    o amzmp.orders;
    r amzmp.shipment_row;
    rows amzmp.shipment_row[];
    old amzmp.shipment;
    parcel record;
    named text;
    shipped timestamptz;
    obstacle record;
    package record;
begin
    select x.* into o
    from amzmp.orders as x
    where (x.account_id, x.amazon_order_id)
            = (waiting.account_id, coalesce(amzmp._shipped_order(waiting.account_id, waiting.order_reference), waiting.amazon_order_id))
    for update;
    select x.* into r
    from amzmp.shipment_row as x
    where (x.account_id, x.source_id, x.row_key) = (waiting.account_id, waiting.source_id, waiting.row_key)
    for update;
    if r.row_key is null or r.state not in ('held', 'foreign') then
        return;
    elsif o.amazon_order_id is null then
        perform amzmp._hold_row(r, null, case when r.order_reference ~ '^[0-9]{3}-[0-9]{7}-[0-9]{7}$' then 'held' else 'foreign' end,
            format('there is no order %s', r.order_reference),
            'It goes on by itself when the order arrives; amzmp.fetch_order(account, amazon_order_id) fetches one.');
        return;
    end if;
    if r.amazon_order_id is null and amzmp._is_ambiguous(r.account_id, r.order_reference) then
        perform amzmp._hold_row(r, null, 'held', format('several orders have the number %s', r.order_reference),
            'Name the order by Amazon''s number in the shop''s row.');
        return;
    end if;
    r.package_reference := amzmp._package_of_row(r, o);
    rows := array(select x from amzmp._rows_of_package(r, o) as x order by x.row_key);
    select s.* into old
    from amzmp.shipment as s
    where (s.account_id, s.amazon_order_id, s.package_reference) = (o.account_id, o.amazon_order_id, r.package_reference);
    parcel := amzmp._parcel(rows);
    if old.package_reference is null and exists (
        select
        from amzmp.order_package as p
        where (p.account_id, p.amazon_order_id, p.tracking) = (o.account_id, o.amazon_order_id, parcel.tracking)
    ) then
        perform amzmp._hold_rows(rows, o.amazon_order_id, 'taken', 'Amazon has it already', null);
        return;
    elsif parcel.message is not null then
        perform amzmp._hold_rows(rows, o.amazon_order_id, 'held', parcel.message, parcel.hint);
        return;
    end if;
    named := coalesce(parcel.carrier, amzmp._setting_text(o.account_id, o.channel_id, 'default_carrier'));
    shipped := coalesce(parcel.shipped_at, old.shipped_at, greatest(amzmp._now(o.account_id), o.purchased_at));
    obstacle := amzmp._shipping_obstacle(o, named, parcel.tracking, shipped, r.package_reference, old.package_reference is not null,
            parcel.force);
    if obstacle.message is not null then
        perform amzmp._hold_rows(rows, o.amazon_order_id, 'held', obstacle.message, obstacle.hint);
        return;
    end if;
    package := amzmp._package_items(o.account_id, o.amazon_order_id, parcel.contents, r.package_reference);
    if package.message is not null then
        perform amzmp._hold_rows(rows, o.amazon_order_id, 'held', package.message, package.hint);
        return;
    end if;
    if old.package_reference is null or old.state in ('held', 'refused')
        or (old.carrier, old.tracking, old.shipped_at, old.items, old.despite_cancellation)
            is distinct from (named, parcel.tracking, shipped, package.contents, parcel.force)
    then
        perform amzmp._put_shipment(o, r.package_reference, named, parcel.tracking, shipped, package.contents, parcel.shipping_method,
            parcel.force, created_by, r.source_id, (rows[1]).row_key);
    end if;
    update amzmp.shipment_row as x
    set state = 'taken',
        reason = null,
        hint = null,
        amazon_order_id = o.amazon_order_id,
        package_reference = r.package_reference
    from unnest(rows) as m
    where (x.account_id, x.source_id, x.row_key) = (m.account_id, m.source_id, m.row_key);
end
$$;

/*
 * Rows whose package key was changed while others of their package kept it leave that package; the rows that stay behind
 * are to be looked at again, and are returned. Where all have changed, the package goes with the first one's key.
 */
create function amzmp._part_rows(account_id bigint, source_id bigint, rekeyed text[])
    returns amzmp.shipment_row[]
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    with touched as (
        select distinct x.order_reference, x.package_reference
        from amzmp.shipment_row as x
        where (x.account_id, x.source_id) = ($1, $2)
            and x.row_key = any (rekeyed)
    ), keeper as (
        select distinct on (x.order_reference, x.package_reference) x.order_reference, x.package_reference, x.package_key
        from amzmp.shipment_row as x
        join touched as t using (order_reference, package_reference)
        where (x.account_id, x.source_id) = ($1, $2)
            and x.state <> 'gone'
        order by x.order_reference, x.package_reference, x.row_key = any (rekeyed), x.row_key
    ), moved as (
        update amzmp.shipment_row as x
        set package_reference = null
        from keeper as k
        where (x.account_id, x.source_id, x.order_reference, x.package_reference) = ($1, $2, k.order_reference, k.package_reference)
            and x.row_key = any (rekeyed)
            and x.package_key is distinct from k.package_key
        returning k.*
    ), behind as (
        update amzmp.shipment_row as x
        set state = 'held'
        from (select distinct m.* from moved as m) as k
        where (x.account_id, x.source_id, x.order_reference, x.package_reference) = ($1, $2, k.order_reference, k.package_reference)
            and x.package_key is not distinct from k.package_key
            and x.state <> 'gone'
        returning x
    )
    select array_agg(b.x order by (b.x).row_key) from behind as b
$$;

/*
 * Rows as they were read. What is not as it was becomes a package or is held; a row that is gone changes nothing at Amazon.
 * skus: the keys that were asked for, null in a comparison.
 */
create function amzmp._take_shipment_rows(source amzmp.source, keys text[], rows amzmp.shop_row[], cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    changed amzmp.shipment_row[];
    rekeyed text[];
begin
    with given as (
        select distinct on (r.sku) r.sku as row_key, nullif(btrim(r.extra ->> 'order_number'), '') as order_reference,
            r.extra ->> 'carrier' as carrier, r.extra ->> 'tracking' as tracking,
            to_timestamp((r.extra ->> 'shipped_at')::numeric::double precision) as shipped_at,
            r.extra ->> 'shipping_method' as shipping_method, (r.extra ->> 'contents')::jsonb as contents,
            coalesce((r.extra ->> 'force')::boolean, false) as force,
            coalesce('=' || nullif(btrim(r.extra ->> 'package'), ''), nullif(btrim(r.extra ->> 'tracking'), '')) as package_key
        from unnest(_take_shipment_rows.rows) as r
        where r.sku <> ''
    ), before as (
        select x.row_key, x.package_key
        from amzmp.shipment_row as x
        join given as g using (row_key)
        where (x.account_id, x.source_id) = (source.account_id, source.source_id)
    ), stored as (
        insert into amzmp.shipment_row as x (account_id, source_id, row_key, order_reference, carrier, tracking, shipped_at,
            shipping_method, contents, force, package_key, cause)
        select source.account_id, source.source_id, g.row_key, g.order_reference, g.carrier, g.tracking, g.shipped_at,
            g.shipping_method, g.contents, g.force, g.package_key, _take_shipment_rows.cause
        from given as g
        where g.order_reference is not null
        on conflict on constraint shipment_row_pkey do update
        set order_reference = excluded.order_reference,
            carrier = excluded.carrier,
            tracking = excluded.tracking,
            shipped_at = excluded.shipped_at,
            shipping_method = excluded.shipping_method,
            contents = excluded.contents,
            force = excluded.force,
            package_key = excluded.package_key,
            -- another order has other packages
            amazon_order_id = case when x.order_reference = excluded.order_reference then x.amazon_order_id end,
            package_reference = case when x.order_reference = excluded.order_reference then x.package_reference end,
            state = 'held',
            cause = excluded.cause,
            read_at = excluded.read_at
        where x.state = 'gone'
            or (x.order_reference, x.carrier, x.tracking, x.shipped_at, x.shipping_method, x.contents, x.force, x.package_key)
                is distinct from (excluded.order_reference, excluded.carrier, excluded.tracking, excluded.shipped_at,
                    excluded.shipping_method, excluded.contents, excluded.force, excluded.package_key)
        returning x
    )
    select array_agg(s.x order by (s.x).order_reference, (s.x).row_key),
        array_agg((s.x).row_key) filter (where (s.x).package_reference is not null and b.package_key is distinct from (s.x).package_key)
    into changed, rekeyed
    from stored as s
    left join before as b on b.row_key = (s.x).row_key;

    update amzmp.shipment_row as x
    set state = 'gone'
    where (x.account_id, x.source_id) = (source.account_id, source.source_id)
        and x.row_key = any (keys)
        and not exists (select from unnest(_take_shipment_rows.rows) as r where r.sku = x.row_key);

    if rekeyed is not null then
        changed := amzmp._part_rows(source.account_id, source.source_id, rekeyed) || changed;
    end if;
    perform amzmp._ship_row(c, source.run_as) from unnest(changed) as c;
    if changed is not null then
        perform amzmp._balance_shipments(source.account_id);
    end if;
end
$$;

-- Rows may wait for something about these orders (null: about any), and that has changed. Where no rows wait at all this
-- is one look into an index.
create function amzmp._queue_shipment_rows(account_id bigint, order_ids text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
as $$
#variable_conflict use_column
begin
    if not exists (
        select
        from amzmp.shipment_row as r
        where r.account_id = _queue_shipment_rows.account_id
            and r.state in ('held', 'foreign')
    ) then
        return;
    end if;
    if order_ids is null then
        perform amzmp._add_task(account_id, 'ship_rows', '', null, now());
        return;
    end if;
    perform amzmp._add_task(o.account_id, 'ship_rows', o.amazon_order_id, null, now())
    from amzmp.orders as o
    where o.account_id = _queue_shipment_rows.account_id
        and o.amazon_order_id = any (order_ids)
        and exists (
            select
            from amzmp.shipment_row as r
            where r.order_reference in (o.amazon_order_id, o.order_number, o.delivered_number)
                and r.account_id = o.account_id
                and r.state in ('held', 'foreign')
        );
end
$$;

-- Inner, own runner: try the rows of an order again, or all that are held.
create function amzmp._task_ship_rows(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._ship_row(r, s.run_as)
    from amzmp.shipment_row as r
    join amzmp.source as s using (account_id, source_id)
    left join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (r.account_id, _task_ship_rows.subject)
    where r.account_id = _task_ship_rows.account_id
        and (subject = '' and r.state = 'held'
            or subject <> '' and r.state in ('held', 'foreign')
            and r.order_reference in (o.amazon_order_id, o.order_number, o.delivered_number));
end
$$;
