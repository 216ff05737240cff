-- source_check.sql
-- What attach_source, attach_value, attach_shipments and watch check before anything is written down: who will read a
-- relation, and whether its expressions mean something.
--
-- Ordinary functions, run as whoever calls them.

create function amzmp.query_types(query text) returns regtype[]
    language c volatile strict parallel restricted set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_query_types';
create function amzmp.query_columns(query text) returns text[]
    language c volatile strict parallel restricted set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_query_columns';
revoke all on function amzmp.query_types(text), amzmp.query_columns(text) from public;
grant execute on function amzmp.query_types(text), amzmp.query_columns(text) to amzmp_operator;
comment on function amzmp.query_types(text) is 'Types of a query''s result columns, without running it.';
comment on function amzmp.query_columns(text) is 'Columns of a query''s first relation that it uses, without running it.';

-- The role that will read the source: the caller, or the one that a superuser names.
create function amzmp.source_reader(relation regclass, run_as name) returns name
    language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    reader pg_catalog.pg_roles;
    by_superuser boolean := (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user);
begin
    if run_as is not null and run_as <> current_user and not by_superuser then
        perform amzmp._fail('AZ202', format('only a superuser can attach a source for role "%s"', run_as),
                             'A source is read with the rights of the role that attaches it.',
                             'Leave run_as out, or let that role attach it.');
    end if;
    select r.* into reader from pg_catalog.pg_roles r where r.rolname = coalesce(run_as, current_user);
    if reader.rolname is null then
        perform amzmp._fail('AZ202', format('role "%s" does not exist', run_as), null, 'Name an existing role with LOGIN as run_as.');
    elsif reader.rolsuper or not reader.rolcanlogin then
        perform amzmp._fail('AZ202', format('role "%s" cannot read a source', reader.rolname),
                             'A background worker reads the source as this role, which must be allowed to log in and must not be a superuser.',
                             'As a superuser add run_as => ''role'' with the role that owns the shop''s tables; else attach it as such a role.');
    elsif not has_schema_privilege(reader.rolname, 'amzmp', 'usage') then
        perform amzmp._fail('AZ202', format('role "%s" may not use schema amzmp', reader.rolname), null,
                             format('grant usage on schema amzmp to %I;', reader.rolname));
    elsif not has_any_column_privilege(reader.rolname, relation, 'select') then
        perform amzmp._fail('AZ202', format('role "%s" may not read %s', reader.rolname, relation), null,
                             format('grant select on %s to %I;', relation, reader.rolname));
    end if;
    return reader.rolname;
end
$$;
revoke all on function amzmp.source_reader(regclass, name) from public;
grant execute on function amzmp.source_reader(regclass, name) to amzmp_operator;
comment on function amzmp.source_reader(regclass, name) is 'The role that will read a relation; refuses one that cannot. Used by attach_source.';

-- Check one expression. Returns how it stands in the select list; type_name is its type.
create function amzmp.source_field(relation regclass, field text, inout expression text, out type_name text)
    returns record
    language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    found_types regtype[];
    found_type oid;
    category "char";
    wanted text := case field when 'price' then 'N' when 'quantity' then 'N' when 'lead_time' then 'N'
                              when 'active' then 'B' when 'filter' then 'B' when 'sku' then 'SNU' end;
    reason text;
begin
    -- a column may be given as it is called, whatever its letters
    if exists (select from pg_catalog.pg_attribute a
                where a.attrelid = relation and a.attname = expression and a.attnum > 0 and not a.attisdropped) then
        expression := quote_ident(expression);
    end if;
    begin
        found_types := amzmp.query_types(format(E'select (%s\n) from %s', expression, relation));
        if cardinality(found_types) <> 1 then
            raise syntax_error using message = 'it is not one expression';
        end if;
        found_type := found_types[1];
        -- what may not stand in a condition (aggregates, window functions, sets) is about more than one row
        begin
            perform amzmp.query_types(format(E'select 1 from %s where ((%s\n)) is not null', relation, expression));
        exception when grouping_error or windowing_error or feature_not_supported then
            perform amzmp._fail('AZ202', format('%s => %L is about several rows', field, expression),
                format('Each row of %s is read by itself.', relation),
                'Make a view in which each row has the value (with GROUP BY, for example), and attach that.');
        end;
    exception when undefined_column or undefined_table or undefined_function or syntax_error or ambiguous_column
                   or datatype_mismatch or invalid_text_representation or grouping_error or insufficient_privilege
                   or undefined_object or wrong_object_type or feature_not_supported or ambiguous_function then
        get stacked diagnostics reason = message_text;
        perform amzmp._fail('AZ202', format('%s => %L cannot be read from %s', field, expression, relation), reason || '.',
                             format('Name a column of %s or an SQL expression over one row of it, with functions outside pg_catalog schema-qualified%s.',
                                    relation, case when field in ('price', 'quantity') then format('; %s => null if there is none', field) else '' end));
    end;
    select t.typcategory into category from pg_catalog.pg_type t where t.oid = found_type;
    if wanted is not null and strpos(wanted, category::text) = 0 then
        perform amzmp._fail('AZ202', format('%s => %L is of type %s', field, expression, found_type::regtype),
                             case wanted when 'N' then 'A number is needed.' when 'B' then 'A boolean is needed.'
                                         else 'A text, a number or a uuid is needed.' end,
                             case wanted when 'N' then format('Convert it, for example %s => %L.', field, '(' || expression || ')::numeric')
                                         when 'B' then format('Make it a condition, for example %s => %L.', field, '(' || expression || ') is not null')
                                         else format('Convert it: %s => %L.', field, '(' || expression || ')::text') end);
    end if;
    type_name := pg_catalog.format_type(found_type, -1);
    expression := case field
        when 'price' then format(E'(%s\n)::numeric', expression)
        when 'quantity' then case when found_type in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
                                  then format(E'(%s\n)::bigint', expression)
                                  else format(E'floor((%s\n)::numeric)::bigint', expression) end
        when 'lead_time' then format(E'(%s\n)::integer', expression)
        when 'active' then format(E'(%s\n)::boolean', expression)
        when 'filter' then format(E'(%s\n)', expression)
        else format(E'(%s\n)::text', expression) end;
end
$$;
revoke all on function amzmp.source_field(regclass, text, text) from public;
grant execute on function amzmp.source_field(regclass, text, text) to amzmp_operator;
comment on function amzmp.source_field(regclass, text, text) is 'Checks one expression of a source. Used by attach_source and watch.';

-- The column by which changes of a table are remembered when its SKU is an expression: a key of one column, else what
-- the expression uses first.
create function amzmp.source_key(relation regclass, sku text) returns text
    language sql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select coalesce(
        (select a.attname::text from pg_catalog.pg_attribute a
          where a.attrelid = relation and quote_ident(a.attname) = sku and a.attnum > 0 and not a.attisdropped),
        (select a.attname::text
           from pg_catalog.pg_index i
           join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
          where i.indrelid = relation and i.indisunique and i.indnkeyatts = 1 and i.indpred is null and a.attnotnull
          order by i.indisprimary desc, i.indexrelid limit 1),
        (amzmp.query_columns(format(E'select (%s\n) from %s', sku, relation)))[1])
$$;
revoke all on function amzmp.source_key(regclass, text) from public;
grant execute on function amzmp.source_key(regclass, text) to amzmp_operator;
comment on function amzmp.source_key(regclass, text) is 'The column by which changed rows of a table are remembered. Used by attach_source.';
