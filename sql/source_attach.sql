-- source_attach.sql
-- Attaching and watching the shop's relations: first what runs with the caller's rights, then what is written down.
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

/*
 * (Re)create the capture triggers of a relation as its sources need them, and remove those that nobody needs. Row
 * triggers reach partitions by themselves, also later ones; TRUNCATE triggers and the children of old-style inheritance
 * do not, so each relation below gets its own.
 */
create function amzmp.capture_triggers(relation regclass) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    member record;
    watch record;
    old record;
begin
    for member in
        with recursive below as (
            select relation::oid as oid, true as row_triggers
            union all
            select i.inhrelid, not c.relispartition
              from below b
              join pg_catalog.pg_inherits i on i.inhparent = b.oid
              join pg_catalog.pg_class c on c.oid = i.inhrelid
        )
        select b.oid::regclass as name, b.row_triggers from below b join pg_catalog.pg_class c on c.oid = b.oid
         where c.relkind in ('r', 'p')
         order by b.oid
    loop
        for old in
            select t.tgname from pg_catalog.pg_trigger t
             where t.tgrelid = member.name and t.tgfoid = 'amzmp.capture()'::regprocedure
               and not t.tgisinternal and t.tgparentid = 0
        loop
            execute format('drop trigger %I on %s', old.tgname, member.name);
        end loop;
        for watch in select d.* from amzmp.watched_definition(relation::text) d order by d.watched_id loop
            if member.row_triggers then
                execute format('create trigger amzmp_capture_%s after insert or update or delete on %s for each row execute function amzmp.capture(%L, %L, %L%s)',
                    watch.watched_id, member.name, watch.watched_id, watch.run_as, watch.key_column,
                    (select string_agg(format(', %L', c), '' order by c) from unnest(watch.columns) c));
                execute format('alter table %s enable always trigger amzmp_capture_%s', member.name, watch.watched_id);
            end if;
            execute format('create trigger amzmp_capture_truncate_%s after truncate on %s for each statement execute function amzmp.capture(%L, %L)',
                watch.watched_id, member.name, watch.watched_id, watch.run_as);
            execute format('alter table %s enable always trigger amzmp_capture_truncate_%s', member.name, watch.watched_id);
        end loop;
    end loop;
end
$$;
revoke all on function amzmp.capture_triggers(regclass) from public;
grant execute on function amzmp.capture_triggers(regclass) to amzmp_operator;
comment on function amzmp.capture_triggers(regclass) is 'Creates the capture triggers of an attached or watched relation anew, for example after partitions or child tables were added. Waits for transactions that write to the relation.';

create function amzmp.attach_source(
    account_or_channel text, relation regclass,
    sku text default 'sku', price text default 'price', quantity text default 'stock',
    title text default null, ean text default null, asin text default null,
    condition text default null, condition_note text default null, lead_time text default null,
    image text default null, category text default null, active text default null,
    filter text default null, run_as name default null) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    reader name := amzmp.source_reader(relation, run_as);
    names constant text[] := array['sku', 'price', 'quantity', 'title', 'ean', 'asin', 'condition', 'condition_note',
                                   'lead_time', 'image', 'category', 'active'];
    given constant text[] := array[sku, price, quantity, title, ean, asin, condition, condition_note,
                                   lead_time, image, category, active];
    kind "char" := (select c.relkind from pg_catalog.pg_class c where c.oid = relation);
    fields text[] := '{}';
    checked record;
    filter_sql text;
    query text;
    sku_type text;
    columns text[];
    expressions jsonb;
    stock_column text;
    source_id bigint;
begin
    if relation is null then
        perform amzmp._fail('AZ202', 'no relation is named: null', null, 'Name a table or view of yours, for example ''public.product''.');
    elsif sku is null then
        perform amzmp._fail('AZ202', 'a source needs a SKU', null, 'Name the column, for example sku => ''article_number''.');
    end if;
    if kind not in ('r', 'p', 'v', 'm', 'f')
       or exists (select from pg_catalog.pg_class c where c.oid = relation and c.relpersistence = 't') then
        perform amzmp._fail('AZ202', format('%s is no lasting table or view', relation), null, 'Attach a table or view that other sessions see.');
    elsif (select n.nspname ~ '^pg_|^(information_schema|amzmp)$' from pg_catalog.pg_class c
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = relation) then
        perform amzmp._fail('AZ202', format('%s is no relation of a shop', relation), 'It belongs to the server or to amzmp.',
            'Attach a table or view of your own, in a schema of your own.');
    end if;
    for i in 1 .. cardinality(names) loop
        if given[i] is null then
            fields := fields || 'null'::text;
            continue;
        end if;
        checked := amzmp.source_field(relation, names[i], given[i]);
        fields := fields || checked.expression;
        if i = 1 then
            sku_type := checked.type_name;
            sku := substr(checked.expression, 2, length(checked.expression) - length(E'(\n)::text'));
        end if;
    end loop;
    if filter is not null then
        checked := amzmp.source_field(relation, 'filter', filter);
        filter_sql := checked.expression;
    end if;
    query := format('select %s from %s where %s', array_to_string(fields, ', '), relation, coalesce(filter_sql, 'true'));
    columns := amzmp.query_columns(query);
    if reader = current_user then
        execute 'explain ' || query;   -- plans it and checks our rights, reads nothing
    end if;
    select jsonb_object_agg(n.name, n.expression) into expressions
      from unnest(names, given) as n (name, expression) where n.expression is not null;
    select a.attname::text into stock_column from pg_catalog.pg_attribute a
     where a.attrelid = relation and a.attname = quantity and a.attnum > 0 and not a.attisdropped and a.attgenerated = '';
    -- a plain call, so that an error's context does not quote the statement
    source_id := amzmp.register_source(account_or_channel, relation::text, expressions, array_to_string(fields, ', '), filter_sql, sku,
                                       sku_type, stock_column, reader);
    if kind in ('r', 'p') then
        perform amzmp.register_watch(source_id, relation::text, amzmp.source_key(relation, sku), null, columns);
        perform amzmp.capture_triggers(relation);
    end if;
    return source_id;
end
$$;
revoke all on function amzmp.attach_source(text, regclass, text, text, text, text, text, text, text, text,
    text, text, text, text, text, name) from public;
grant execute on function amzmp.attach_source(text, regclass, text, text, text, text, text, text, text, text,
    text, text, text, text, text, name) to amzmp_operator;
comment on function amzmp.attach_source(text, regclass, text, text, text, text, text, text, text, text,
    text, text, text, text, text, name) is
    'Attach a table or view of the shop to an account or channel. Each argument names a column of it or is an SQL expression over one row. The caller must own a table, because capture triggers are created on it; a view''s tables are told by amzmp.watch(). Returns the number of the source.';

create function amzmp.watch(account_or_channel text, relation regclass, key text, via text default null,
                            columns text[] default null, source regclass default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    attached record;
    missing text;
    checked record;
begin
    select s.* into strict attached from amzmp.find_source(account_or_channel, source::text) s;
    if (select c.relkind from pg_catalog.pg_class c where c.oid = relation) not in ('r', 'p') then
        perform amzmp._fail('AZ202', format('%s is not a table', relation), 'Only tables have triggers that see changes.',
                             'Watch the tables behind a view; other relations are compared once per rescan_interval, or by amzmp.rescan().');
    end if;
    select c into missing
      from unnest(array[key] || coalesce(columns, '{}')) c
     where not exists (select from pg_catalog.pg_attribute a
                        where a.attrelid = relation and a.attname = c and a.attnum > 0 and not a.attisdropped)
     limit 1;
    if missing is not null then
        perform amzmp._fail('AZ202', format('%s has no column "%s"', relation, missing), null, 'Give the column''s exact name.');
    end if;
    if via is not null then
        checked := amzmp.source_field(attached.attached_relation::regclass, 'via', via);
        perform amzmp.query_types(format(E'select (%s\n) = any (array[]::%s[]) from %s', via,
            (select format_type(a.atttypid, -1) from pg_catalog.pg_attribute a where a.attrelid = relation and a.attname = key),
            attached.attached_relation));
    end if;
    perform amzmp.register_watch(attached.source_id, relation::text, key, via,
        coalesce(columns, array(select a.attname::text from pg_catalog.pg_attribute a
                                 where a.attrelid = relation and a.attnum > 0 and not a.attisdropped)));
    perform amzmp.capture_triggers(relation);
exception
    when undefined_function then
        perform amzmp._fail('AZ202', format('via => %L cannot be compared with column "%s" of %s', via, key, relation), sqlerrm || '.',
                             'Convert one to the type of the other.');
end
$$;
revoke all on function amzmp.watch(text, regclass, text, text, text[], regclass) from public;
grant execute on function amzmp.watch(text, regclass, text, text, text[], regclass) to amzmp_operator;
comment on function amzmp.watch(text, regclass, text, text, text[], regclass) is
    'Capture changes of a table that an attached view reads. key: the table''s column that says which products a row concerns; via: the expression over the view''s row that equals it (null: it is the SKU); columns: those that matter (null: all); source: the attached relation, where the account or channel has several.';

create function amzmp.unwatch(account_or_channel text, relation regclass, source regclass default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    perform amzmp.unregister_watch(s.source_id, relation::text) from amzmp.find_source(account_or_channel, source::text) s;
    perform amzmp.capture_triggers(relation);
end
$$;
revoke all on function amzmp.unwatch(text, regclass, regclass) from public;
grant execute on function amzmp.unwatch(text, regclass, regclass) to amzmp_operator;
comment on function amzmp.unwatch(text, regclass, regclass) is 'Stop capturing changes of a table for a source.';

create function amzmp.detach_source(account_or_channel text, relation text default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    was_watched text;
begin
    for was_watched in
        select u.watched_relation
          from amzmp.unregister_source(account_or_channel, coalesce(to_regclass(relation)::text, relation)) u
    loop
        if to_regclass(was_watched) is not null then
            perform amzmp.capture_triggers(was_watched::regclass);
        end if;
    end loop;
end
$$;
revoke all on function amzmp.detach_source(text, text) from public;
grant execute on function amzmp.detach_source(text, text) to amzmp_operator;
comment on function amzmp.detach_source(text, text) is
    'Detach a source: nothing is read any more, capture triggers that no other source needs are removed. What is live at Amazon stays as it is.';

-- Registering: inner functions. They believe nothing but who called.

-- amzmp_owner may look at no schema of the shop's, so names are looked up in the catalogs; null if there is none.
create function amzmp._relation_oid(relation text) returns oid
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
declare
    parts text[] := parse_ident(relation);
begin
    return (select c.oid
              from pg_catalog.pg_namespace n join pg_catalog.pg_class c on c.relnamespace = n.oid
             where n.nspname = parts[1] and c.relname = parts[2]);
end
$$;

create function amzmp._find_source(account_or_channel text, relation text default null)
    returns table (source_id bigint, attached_relation text)
    language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    found bigint;
begin
    return query
        select s.source_id, s.relation
          from amzmp._resolve(_find_source.account_or_channel) r
          join amzmp.source s on s.account_id = r.account_id and s.channel_id = r.channel_id
         where case when _find_source.relation is null then s.kind = 'product' else s.relation = _find_source.relation end;
    get diagnostics found = row_count;
    if found <> 1 then
        perform amzmp._fail('AZ202',
            format('"%s" has %s', _find_source.account_or_channel,
                   case when found > 1 then 'several sources' when _find_source.relation is null then 'no source'
                        else format('no source %s', _find_source.relation) end),
            null, 'Name the attached relation; amzmp.source lists them.');
    end if;
end
$$;
select amzmp._expose('amzmp._find_source(text, text)', 'amzmp_operator', 'The one source of an account or channel, or the one that is named. Used by watch.');

create function amzmp._register_source(account_or_channel text, relation text, expressions jsonb, fields text, filter text,
                                       sku text, sku_type text, stock_column text, run_as name,
                                       kind text default 'product') returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    target record;
    new_id bigint;
    caller pg_catalog.pg_roles;
begin
    select r.* into strict caller from pg_catalog.pg_roles r where r.rolname = amzmp._caller();
    if _register_source.run_as is distinct from caller.rolname and not caller.rolsuper then
        perform amzmp._fail('AZ202', format('only a superuser can attach a source for role "%s"', _register_source.run_as));
    end if;
    if not exists (select from pg_catalog.pg_roles r
                    where r.rolname = _register_source.run_as and r.rolcanlogin and not r.rolsuper) then
        perform amzmp._fail('AZ202', format('role "%s" cannot read a source', _register_source.run_as), null,
                            'It must be allowed to log in and must not be a superuser.');
    end if;
    select r.account_id, r.channel_id into strict target from amzmp._resolve(_register_source.account_or_channel) r;
    insert into amzmp.source (account_id, channel_id, kind, relation, expressions, fields, filter, sku_type, stock_column, run_as)
    values (target.account_id, target.channel_id, _register_source.kind, _register_source.relation,
            _register_source.expressions || jsonb_build_object('sku', _register_source.sku), _register_source.fields,
            _register_source.filter, _register_source.sku_type, _register_source.stock_column, _register_source.run_as)
    on conflict (account_id, channel_id, relation) do nothing
    returning source_id into new_id;
    if new_id is null then
        perform amzmp._fail('AZ203', format('%s is attached to "%s" already', _register_source.relation, _register_source.account_or_channel),
            null, format('To change it, first: select amzmp.detach_source(%L, %L);', _register_source.account_or_channel, _register_source.relation));
    end if;
    perform amzmp._log(target.account_id, target.channel_id, 'info', 'source', _register_source.relation, 'attached',
                       jsonb_build_object('source_id', new_id, 'run_as', _register_source.run_as));
    perform amzmp._wake();
    return new_id;
end
$$;
select amzmp._expose('amzmp._register_source(text, text, jsonb, text, text, text, text, text, name, text)', 'amzmp_operator',
    'Writes down a source for the calling role. Used by attach_source and attach_shipments, which check it first.');

-- A source may only be changed by the role that reads it or by a superuser.
create function amzmp._check_source_owner(source_id bigint) returns amzmp.source
    language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    s amzmp.source;
begin
    select x.* into s from amzmp.source x where x.source_id = _check_source_owner.source_id;
    if s.source_id is null
       or (s.run_as <> amzmp._caller()
           and not (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = amzmp._caller())) then
        perform amzmp._fail('42501', format('source %s is not yours', _check_source_owner.source_id),
                            null, 'Only the role that attached a source, or a superuser, changes it.');
    end if;
    return s;
end
$$;

-- One trigger a relation, as long as its sources can share a key: a table that is captured by some column already is
-- captured by that one for everybody who attaches it, and each source says how its rows lead there (via).
create function amzmp._register_watch(source_id bigint, relation text, key_column text, via text, columns text[]) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    s amzmp.source := amzmp._check_source_owner(_register_watch.source_id);
    attached boolean := s.relation = _register_watch.relation;
    w amzmp.watched;
begin
    select x.* into w from amzmp.watched x
     where x.relation = _register_watch.relation and (x.key_column = _register_watch.key_column or attached)
     order by x.key_column = _register_watch.key_column desc, x.watched_id limit 1;
    if w.watched_id is null then
        insert into amzmp.watched (relation, key_column, key_type)
        select _register_watch.relation, a.attname, format_type(a.atttypid, -1)
          from pg_catalog.pg_attribute a
         where a.attrelid = amzmp._relation_oid(_register_watch.relation) and a.attname = _register_watch.key_column
        returning * into strict w;
    end if;
    insert into amzmp.source_watch (account_id, source_id, watched_id, via, columns)
    values (s.account_id, s.source_id, w.watched_id,
            case when attached then nullif(quote_ident(w.key_column), s.expressions ->> 'sku') else _register_watch.via end,
            array(select c from unnest(_register_watch.columns) c where c <> w.key_column order by c))
    on conflict (account_id, source_id, watched_id) do update set via = excluded.via, columns = excluded.columns;
    update amzmp.source x
       set rescan_due = now(), rescan_requested_at = clock_timestamp(), rescan_reason = 'watched', retry_at = null
     where x.account_id = s.account_id and x.source_id = s.source_id;
    perform amzmp._wake();
    return w.watched_id;
end
$$;
select amzmp._expose('amzmp._register_watch(bigint, text, text, text, text[])', 'amzmp_operator',
    'Writes down which table a source depends on. Used by attach_source and watch.');

create function amzmp._drop_unneeded_watched() returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    delete from amzmp.watched w where not exists (select from amzmp.source_watch x where x.watched_id = w.watched_id)
$$;

create function amzmp._unregister_watch(source_id bigint, relation text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    s amzmp.source := amzmp._check_source_owner(_unregister_watch.source_id);
begin
    delete from amzmp.source_watch x using amzmp.watched w
     where x.account_id = s.account_id and x.source_id = s.source_id and w.watched_id = x.watched_id
       and w.relation = _unregister_watch.relation;
    perform amzmp._drop_unneeded_watched();
end
$$;
select amzmp._expose('amzmp._unregister_watch(bigint, text)', 'amzmp_operator', 'Forgets that a source depends on a table. Used by unwatch.');

create function amzmp._unregister_source(account_or_channel text, relation text) returns table (watched_relation text)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    s amzmp.source;
    relations text[];
    skus text[];
begin
    select c.* into s
      from amzmp._find_source(_unregister_source.account_or_channel, _unregister_source.relation) f,
           amzmp._check_source_owner(f.source_id) c;
    relations := array(select distinct w.relation from amzmp.source_watch x join amzmp.watched w using (watched_id)
                        where x.account_id = s.account_id and x.source_id = s.source_id);
    delete from amzmp.source_watch x where x.account_id = s.account_id and x.source_id = s.source_id;
    delete from amzmp.source_value x where x.account_id = s.account_id and x.source_id = s.source_id;
    delete from amzmp.source_change x where x.account_id = s.account_id and x.source_id = s.source_id;
    delete from amzmp.product_key x where x.account_id = s.account_id and x.source_id = s.source_id;
    delete from amzmp.shipment_row x where x.account_id = s.account_id and x.source_id = s.source_id;
    delete from amzmp.source x where x.account_id = s.account_id and x.source_id = s.source_id;
    perform amzmp._drop_unneeded_watched();
    -- where another source of the account has the product it now speaks alone; elsewhere nothing changes
    with dropped as (
        delete from amzmp.product p where p.account_id = s.account_id and p.source_id = s.source_id returning p.sku
    )
    select array_agg(d.sku) into skus from dropped d
     where exists (select from amzmp.product o
                    where o.account_id = s.account_id and o.source_id <> s.source_id and o.sku = d.sku and not o.gone);
    perform amzmp._recount(s.account_id);
    if skus is not null then
        perform amzmp._recompute(s.account_id, skus, jsonb_build_object('reason', 'source detached', 'role', amzmp._caller(), 'at', now()));
    end if;
    perform amzmp._log(s.account_id, s.channel_id, 'info', 'source', s.relation, 'detached', jsonb_build_object('source_id', s.source_id));
    return query select unnest(relations);
end
$$;
select amzmp._expose('amzmp._unregister_source(text, text)', 'amzmp_operator', 'Forgets a source. Used by detach_source, which also removes the triggers.');

-- What the triggers of a relation must be told; run_as is only a hint whom to wake.
create function amzmp._watched_definition(relation text)
    returns table (watched_id bigint, run_as name, key_column text, columns text[])
    language sql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select w.watched_id,
           (select min(s.run_as::text)::name from amzmp.source_watch x join amzmp.source s using (account_id, source_id)
             where x.watched_id = w.watched_id),
           w.key_column,
           array(select distinct c from amzmp.source_watch x, unnest(x.columns) c where x.watched_id = w.watched_id order by c)
      from amzmp.watched w
     where w.relation = _watched_definition.relation
$$;
select amzmp._expose('amzmp._watched_definition(text)', 'amzmp_operator', 'What the capture triggers of a relation note. Used by capture_triggers.');

create function amzmp._rescan(account_or_channel text, relation text default null, allow_empty boolean default false) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    update amzmp.source s
       set rescan_due = now(), rescan_requested_at = clock_timestamp(), rescan_reason = 'asked for', rescan_force = true,
           accept_empty = s.accept_empty or _rescan.allow_empty, retry_at = null
      from amzmp._resolve(_rescan.account_or_channel) r
     where s.account_id = r.account_id and (r.channel_id = 0 or s.channel_id = r.channel_id)
       and (_rescan.relation is null or s.relation = _rescan.relation);
    if not found and _rescan.relation is not null then
        perform amzmp._fail('AZ202', format('"%s" has no source %s', _rescan.account_or_channel, _rescan.relation), null,
                            'amzmp.source lists the attached relations, with their schemas.');
    end if;
    perform amzmp._wake();
end
$$;
select amzmp._expose('amzmp._rescan(text, text, boolean)', 'amzmp_operator',
    'Read every source of an account or channel (or one relation) anew and compute everything from it. allow_empty: an empty relation is meant, its products are gone.');
