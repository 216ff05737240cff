/*
 * shipment_source.sql
 *	  A shipment table of the shop's, attached like a product table: a new row confirms a shipment, a changed one corrects it.
 *
 * It is a source (source.sql) of kind shipment: the same triggers note changed keys, the same user runner reads the rows as
 * its role, and a daily comparison finds what no trigger saw. What it reads lands in shipment_row, and every row becomes a
 * package (shipment_confirm.sql) or is held with the reason:
 *
 *		row read ─▶ taken ─▶ shipment          held and foreign rows are tried again when their order arrives, changes or
 *		         ├▶ held (see reason)          is handed over, when a carrier is mapped, and by the flow send_update_orders
 *		         └▶ foreign (no order of ours has that number)
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

create index shipment_row_waiting on amzmp.shipment_row (order_reference, account_id) where state in ('held', 'foreign');

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
comment on column amzmp.shipment_row.state is 'taken (see amzmp.shipment), held (see reason), foreign (no order of ours has that number), gone (the row was removed; what was told to Amazon stays).';
comment on column amzmp.shipment_row.reason is 'Why it is held.';
comment on column amzmp.shipment_row.hint is 'What to do about that.';
comment on column amzmp.shipment_row.amazon_order_id is 'The order that was found.';
comment on column amzmp.shipment_row.package_reference is 'Its package.';
comment on column amzmp.shipment_row.cause is 'The shop''s transaction that changed the row.';
comment on column amzmp.shipment_row.read_at is 'When it was read.';

-- The shop's number of an order leads to it as well.
create index orders_delivered_number on amzmp.orders (delivered_number, account_id) where delivered_number is not null;

-- Check one expression of a shipment table; returns how it stands in the reading statement, always as text.
create function amzmp.shipment_field(relation regclass, field text, expression text)
    returns text
    language plpgsql
    stable
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    checked text;
    category "char";
    wanted constant text := case field when 'shipped_at' then 'D' when 'force' then 'B' when 'contents' then 'U' end;
begin
    if expression is null then
        return null;
    end if;
    checked := (amzmp.source_field(relation, 'value', expression)).expression;
    checked := substr(checked, 2, length(checked) - length(E'(\n)::text'));
    select t.typcategory into category
    from pg_catalog.pg_type as t
    where t.oid = (amzmp.query_types(format(E'select (%s\n) from %s', checked, relation)))[1];
    if category <> wanted then
        perform amzmp._fail('AZ202', format('%s => %L is of the wrong type', field, expression),
            case field
                when 'shipped_at' then 'A date or a time is needed.'
                when 'force' then 'A boolean is needed.'
                else 'A JSON array is needed: [{"sku": …, "quantity": …}].'
            end, 'Name another column, or convert it by an expression.');
    end if;
    -- a number of seconds reads the same whatever the reading session's settings are
    return case field
        when 'shipped_at' then format(E'(extract(epoch from (%s\n)::timestamptz))::text', checked)
        when 'force' then format(E'((%s\n)::boolean)::text', checked)
        else format(E'(%s\n)::text', checked)
    end;
end
$$;

revoke all on function amzmp.shipment_field(regclass, text, text) from public;
grant execute on function amzmp.shipment_field(regclass, text, text) to amzmp_operator;
comment on function amzmp.shipment_field(regclass, text, text) is 'Checks one expression of a shipment table. Used by attach_shipments.';

-- What tells the rows of a relation apart: the column or expression given, else its primary or only unique key.
create function amzmp.shipment_key(relation regclass, key text)
    returns text
    language plpgsql
    stable
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    found_key text := key;
begin
    if found_key is null then
        select a.attname into found_key
        from pg_catalog.pg_index as i
        join pg_catalog.pg_attribute as a on (a.attrelid, a.attnum) = (i.indrelid, i.indkey[0])
        where i.indrelid = relation
            and i.indisunique
            and i.indnkeyatts = 1
            and i.indpred is null
            and a.attnotnull
        order by i.indisprimary desc, i.indexrelid
        limit 1;
    end if;
    if found_key is null then
        perform amzmp._fail('AZ202', format('%s has no key of one column', relation), 'Each row is a package, and has to be told apart.',
            'Name a column or expression that is unique, for example key => ''shipment_id''.');
    end if;
    return found_key;
end
$$;

revoke all on function amzmp.shipment_key(regclass, text) from public;
grant execute on function amzmp.shipment_key(regclass, text) to amzmp_operator;
comment on function amzmp.shipment_key(regclass, text) is 'What tells the rows of a shipment table apart. Used by attach_shipments.';

create function amzmp.attach_shipments(
    account text, relation regclass, order_number text default 'amazon_order_id', carrier text default 'carrier',
    tracking text default 'tracking', shipped_at text default 'shipped_at', shipping_method text default null,
    items text default null, sku text default null, quantity text default null, force text default null,
    key text default null, filter text default null, run_as name default null)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    reader constant name := amzmp.source_reader(relation, run_as);
    kind constant "char" := (select c.relkind from pg_catalog.pg_class as c where c.oid = relation);
    row_key constant record := amzmp.source_field(relation, 'sku', amzmp.shipment_key(relation, key));
    key_expression constant text := substr(row_key.expression, 2, length(row_key.expression) - length(E'(\n)::text'));
    names constant text[] := '{order_number,carrier,tracking,shipped_at,shipping_method,contents,force}';
    given text[];
    filter_sql constant text := case when filter is not null then (amzmp.source_field(relation, 'filter', filter)).expression end;
    columns text[];
    source_id bigint;
begin
    if order_number is null then
        perform amzmp._fail('AZ202', 'a shipment needs the number of its order', null,
            'Name the column, for example order_number => ''order_no''.');
    elsif kind not in ('r', 'p', 'v', 'm', 'f') then
        perform amzmp._fail('AZ202', format('%s is no lasting table or view', relation), null, 'Attach a table or view that other sessions see.');
    elsif num_nonnulls(items, sku) = 2 or (quantity is not null) > (sku is not null) then
        perform amzmp._fail('AZ202', 'what a package holds is told in two ways', null,
            'Give either items, a JSON array, or sku with quantity for packages of one line; or neither, for everything that is open.');
    end if;
    if sku is not null then
        -- a row without a SKU is about everything that is open
        items := format('case when (%1$s) is not null then jsonb_build_array(jsonb_build_object(''sku'', (%1$s)::text, ''quantity'', (%2$s)::integer)) end',
            sku, coalesce(quantity, '1'));
    end if;
    given := array[order_number, carrier, tracking, shipped_at, shipping_method, items, force];
    given := array(
        select amzmp.shipment_field(relation, g.name, g.expression)
        from unnest(names, given) with ordinality as g (name, expression, position)
        order by g.position
    );
    columns := amzmp.query_columns(format('select %s, %s from %s where %s', key_expression,
            (select string_agg(g, ', ') from unnest(given) as g where g is not null), relation, coalesce(filter_sql, 'true')));
    source_id := amzmp.register_source(account, relation::text,
        (
            select jsonb_object_agg(g.name, g.expression)
            from unnest(names, given) as g (name, expression)
            where g.expression is not null
        ),
        row_key.expression || repeat(', null', 11), filter_sql, key_expression, row_key.type_name, null, reader, 'shipment');
    perform amzmp.register_value(source_id, g.name, g.expression)
    from unnest(names, given) as g (name, expression)
    where g.expression is not null;
    if kind in ('r', 'p') then
        perform amzmp.register_watch(source_id, relation::text, amzmp.source_key(relation, key_expression), null, columns);
        perform amzmp.capture_triggers(relation);
    end if;
    return source_id;
end
$$;

revoke all on function amzmp.attach_shipments(text, regclass, text, text, text, text, text, text, text, text, text, text, text, name)
    from public;
grant execute on function amzmp.attach_shipments(text, regclass, text, text, text, text, text, text, text, text, text, text, text, name)
    to amzmp_operator;
comment on function amzmp.attach_shipments(text, regclass, text, text, text, text, text, text, text, text, text, text, text, name) is
    'Attach a shipment table or view of the shop to an account: each row is a package, a new one confirms a shipment, a changed one corrects it. Each argument names a column or is an SQL expression over one row; order_number may be Amazon''s number, order_number or delivered_number. The caller must own a table, because capture triggers are created on it. amzmp.shipment_problem lists rows that cannot be sent. Ended by detach_source(account, relation).';

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

-- Note why a row became no package.
create function amzmp._hold_row(r amzmp.shipment_row, state text, reason text, hint text)
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
        amazon_order_id = r.amazon_order_id
    where (x.account_id, x.source_id, x.row_key) = (r.account_id, r.source_id, r.row_key);
    if state = 'held' and reason is distinct from r.reason then
        perform amzmp._log(r.account_id, 0, 'warning', 'order', coalesce(r.amazon_order_id, r.order_reference),
            format('the shipment in row %s is held: %s', r.row_key, reason), r.cause);
    end if;
end
$$;

-- Make a package of a row, or correct the one that it has become.
create function amzmp._ship_row(r amzmp.shipment_row, created_by name)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    o amzmp.orders;
    old amzmp.shipment;
    named text;
    shipped timestamptz;
    obstacle record;
    package record;
begin
    r.amazon_order_id := coalesce(amzmp._shipped_order(r.account_id, r.order_reference), r.amazon_order_id);
    select x.* into o
    from amzmp.orders as x
    where (x.account_id, x.amazon_order_id) = (r.account_id, r.amazon_order_id)
    for update;
    if o.amazon_order_id is null then
        perform amzmp._hold_row(r, case when r.order_reference ~ '^[0-9]{3}-[0-9]{7}-[0-9]{7}$' then 'held' else 'foreign' end,
            format('there is no order %s', r.order_reference),
            'It goes on by itself when the order arrives; amzmp.fetch_order(account, amazon_order_id) fetches one.');
        return;
    end if;
    select s.* into old
    from amzmp.shipment as s
    where (s.account_id, s.amazon_order_id, s.package_reference) = (o.account_id, o.amazon_order_id, r.package_reference);
    if old.package_reference is null and exists (
        select
        from amzmp.order_package as p
        where (p.account_id, p.amazon_order_id, p.tracking) = (o.account_id, o.amazon_order_id, r.tracking)
    ) then
        perform amzmp._hold_row(r, 'taken', 'Amazon has it already', null);
        return;
    end if;
    r.package_reference := coalesce(r.package_reference, amzmp._next_package(o.account_id, o.amazon_order_id));
    named := coalesce(nullif(btrim(r.carrier), ''), amzmp._setting_text(o.account_id, o.channel_id, 'default_carrier'));
    shipped := coalesce(r.shipped_at, old.shipped_at, greatest(amzmp._now(o.account_id), o.purchased_at));
    obstacle := amzmp._shipping_obstacle(o, named, r.tracking, shipped, r.package_reference, old.package_reference is not null, r.force);
    if obstacle.message is not null then
        perform amzmp._hold_row(r, 'held', obstacle.message, obstacle.hint);
        return;
    end if;
    package := amzmp._package_items(o.account_id, o.amazon_order_id, r.contents, r.package_reference);
    if package.message is not null then
        perform amzmp._hold_row(r, 'held', package.message, package.hint);
        return;
    end if;
    if old.package_reference is null or old.state in ('held', 'refused')
        or (old.carrier, old.tracking, old.shipped_at, old.items, old.despite_cancellation)
            is distinct from (named, nullif(btrim(r.tracking), ''), shipped, package.contents, r.force)
    then
        perform amzmp._put_shipment(o, r.package_reference, named, r.tracking, shipped, package.contents, r.shipping_method, r.force,
            created_by, r.source_id, r.row_key);
    end if;
    update amzmp.shipment_row as x
    set state = 'taken',
        reason = null,
        hint = null,
        amazon_order_id = o.amazon_order_id,
        package_reference = r.package_reference
    where (x.account_id, x.source_id, x.row_key) = (r.account_id, r.source_id, r.row_key);
end
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
begin
    with given as (
        select distinct on (r.sku) r.sku as row_key, nullif(btrim(r.extra ->> 'order_number'), '') as order_reference,
            r.extra ->> 'carrier' as carrier, r.extra ->> 'tracking' as tracking,
            to_timestamp((r.extra ->> 'shipped_at')::numeric::double precision) as shipped_at,
            r.extra ->> 'shipping_method' as shipping_method, (r.extra ->> 'contents')::jsonb as contents,
            coalesce((r.extra ->> 'force')::boolean, false) as force
        from unnest(_take_shipment_rows.rows) as r
        where r.sku <> ''
    ), stored as (
        insert into amzmp.shipment_row as x (account_id, source_id, row_key, order_reference, carrier, tracking, shipped_at,
            shipping_method, contents, force, cause)
        select source.account_id, source.source_id, g.row_key, g.order_reference, g.carrier, g.tracking, g.shipped_at,
            g.shipping_method, g.contents, g.force, _take_shipment_rows.cause
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
            state = 'held',
            cause = excluded.cause,
            read_at = excluded.read_at
        where x.state = 'gone'
            or (x.order_reference, x.carrier, x.tracking, x.shipped_at, x.shipping_method, x.contents, x.force)
                is distinct from (excluded.order_reference, excluded.carrier, excluded.tracking, excluded.shipped_at,
                    excluded.shipping_method, excluded.contents, excluded.force)
        returning x
    )
    select array_agg(s.x order by (s.x).order_reference, (s.x).row_key) into changed from stored as s;

    update amzmp.shipment_row as x
    set state = 'gone'
    where (x.account_id, x.source_id) = (source.account_id, source.source_id)
        and x.row_key = any (keys)
        and not exists (select from unnest(_take_shipment_rows.rows) as r where r.sku = x.row_key);

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
