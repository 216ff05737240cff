-- source_attach.sql
-- Attaching and detaching the shop's relations: first what runs with the caller's rights, then what is written down.

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
