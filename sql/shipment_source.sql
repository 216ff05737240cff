/*
 * shipment_source.sql
 *	  Attaching a shipment table of the shop's, like a product table: a new row confirms a shipment, a changed one corrects it.
 *
 * It is a source (source.sql) of kind shipment: the same triggers note changed keys, the same user runner reads the rows as
 * its role, and a daily comparison finds what no trigger saw. What becomes of the rows is in shipment_row.sql.
 */

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
        perform amzmp._fail('AZ202', format('%s has no key of one column', relation), 'Its rows have to be told apart.',
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
    package text default null, key text default null, filter text default null, run_as name default null)
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
    names constant text[] := '{order_number,carrier,tracking,shipped_at,shipping_method,contents,force,package}';
    given text[];
    filter_sql constant text := case when filter is not null then (amzmp.source_field(relation, 'filter', filter)).expression end;
    columns text[];
    source_id bigint;
begin
    if order_number is null then
        perform amzmp._fail('AZ202', 'a shipment needs the number of its order', null,
            'Name the column, for example order_number => ''order_no''.');
    elsif kind not in ('r', 'p', 'v', 'm', 'f') then
        perform amzmp._fail('AZ202', format('%s is no lasting table or view', relation), null,
            'Attach a table or view that other sessions see.');
    elsif num_nonnulls(items, sku) = 2 or (quantity is not null) > (sku is not null) then
        perform amzmp._fail('AZ202', 'what a package holds is told in two ways', null,
            'Give either items, a JSON array, or sku with quantity for rows of one line each; or neither, for everything that is open.');
    end if;
    if sku is not null then
        -- a row without a SKU is about everything that is open
        items := format('case when (%1$s) is not null then
            jsonb_build_array(jsonb_build_object(''sku'', (%1$s)::text, ''quantity'', (%2$s)::integer)) end', sku,
            coalesce(quantity, '1'));
    end if;
    given := array[order_number, carrier, tracking, shipped_at, shipping_method, items, force, package];
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

revoke all on function amzmp.attach_shipments(text, regclass, text, text, text, text, text, text, text, text, text, text, text, text, name)
    from public;
grant execute on function amzmp.attach_shipments(text, regclass, text, text, text, text, text, text, text, text, text, text, text, text,
    name) to amzmp_operator;
comment on function amzmp.attach_shipments(text, regclass, text, text, text, text, text, text, text, text, text, text, text, text, name) is
    'Attach a shipment table or view of the shop to an account: a new row confirms a shipment, a changed one corrects it. Rows of one order with the same tracking number, or the same package where that is given, are one package. Each argument names a column or is an SQL expression over one row; order_number may be Amazon''s number, order_number or delivered_number. The caller must own a table, because capture triggers are created on it. amzmp.shipment_problem lists rows that cannot be sent. Ended by detach_source(account, relation).';
