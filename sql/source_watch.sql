-- source_watch.sql
-- Which tables a source depends on, and the capture triggers on them: first what runs with the caller's rights, then what is
-- written down.

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

-- Registering: inner functions. They believe nothing but who called.

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
