-- source_read.sql
-- Reading the shop: which source is next, the statements that a user runner executes, and what takes their rows.
--
-- A change goes: change or rescan_mark (C) → take_changes → the shop's rows as they are then → take_rows → product →
-- _recompute. A comparison goes page by page: rescan_position → a page of rows → take_page, each page a transaction; what
-- no page contained is gone when the last one is in.

-- Sources for which changes wait. With nothing captured this looks into three empty tables.
create function amzmp._sources_changed() returns setof bigint
    language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    return query
    select w.source_id
      from (select c.watched_id from amzmp.change c union select m.watched_id from amzmp.rescan_mark m) c
      join amzmp.source_watch w using (watched_id)
    union
    select x.source_id from amzmp.source_change x;
end
$$;

-- Roles that have something to read, and when. Changes wait for nothing; comparisons are found by a loose index scan over
-- the roles, so that thousands of idle sources of one role cost one look.
create function amzmp._sources_due() returns table (run_as name, due_at timestamptz)
    language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    return query
    with recursive first_of as (
        (select s.run_as, amzmp._source_due_at(s.rescan_due, s.retry_at) as due_at from amzmp.source s
          where s.state <> 'held'
          order by s.run_as, amzmp._source_due_at(s.rescan_due, s.retry_at) limit 1)
        union all
        select n.run_as, n.due_at
          from first_of f,
               lateral (select s.run_as, amzmp._source_due_at(s.rescan_due, s.retry_at) as due_at from amzmp.source s
                         where s.state <> 'held' and s.run_as > f.run_as
                         order by s.run_as, amzmp._source_due_at(s.rescan_due, s.retry_at) limit 1) n
    ), either as (
        select f.run_as, f.due_at from first_of f
        union all
        select s.run_as, greatest(s.retry_at, now())
          from amzmp._sources_changed() c (source_id) join amzmp.source s using (source_id)
         where s.state <> 'held'
    )
    select e.run_as, min(e.due_at) from either e group by e.run_as;
end
$$;
comment on function amzmp._sources_due() is 'Inner: roles for which a user runner has something to read, now or later, and when.';

create function amzmp._sources_with_work() returns table (run_as name)
    language sql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select d.run_as from amzmp._sources_due() d where d.due_at <= now()
$$;
comment on function amzmp._sources_with_work() is 'Inner: roles for which a user runner has something to read now.';

create function amzmp._prepared_pending() returns boolean
    language sql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select exists (select from pg_catalog.pg_prepared_xacts p where p.database = current_database())
$$;
comment on function amzmp._prepared_pending() is 'Inner: prepared transactions exist, whose captured keys appear with COMMIT PREPARED, which wakes nobody.';

-- The source that a role reads next: one with changes before one to compare.
create function amzmp._next_source(role name) returns amzmp.source
    language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    due amzmp.source;
begin
    select s.* into due
      from amzmp.source s left join amzmp._sources_changed() c (source_id) using (source_id)
     where s.run_as = role and s.state <> 'held' and (s.retry_at is null or s.retry_at <= now())
       and (c.source_id is not null or s.rescan_due <= now())
     order by c.source_id is null, s.retry_at nulls first, s.rescan_due, s.source_id
     limit 1;
    return due;
end
$$;

create function amzmp._source_work(role name) returns text[]
    language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    s amzmp.source := amzmp._next_source(role);
begin
    if s.source_id is null then
        return null;
    elsif exists (select from amzmp._sources_changed() c (source_id) where c.source_id = s.source_id) then
        return array[amzmp._changes_statement(s)];
    end if;
    return array[amzmp._page_statement(s)];
end
$$;
comment on function amzmp._source_work(name) is 'Inner: what a user runner of that role is to execute next at top level, or null. To be asked again until it is null.';

-- Lock a source for its own role. Everything that is read for it is stored one after the other under this lock, in the order
-- in which it was read.
create function amzmp._own_source(source_id bigint) returns amzmp.source
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    s amzmp.source;
begin
    select x.* into s from amzmp.source x where x.source_id = _own_source.source_id for no key update;
    if s.source_id is null or s.run_as <> amzmp._caller() then
        perform amzmp._fail('42501', format('source %s is not yours', _own_source.source_id), null,
                            'Only the role that attached a source reads it.');
    end if;
    return s;
end
$$;

-- Reading. Each statement is one block: it takes, reads under a snapshot that is younger, hands over; if reading fails
-- its subtransaction gives back what was taken and the failure is written down.

create function amzmp._source_query(source amzmp.source, condition text, tail text) returns text
    language sql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select format('select row(%s, %s)::amzmp.shop_row as amzmp_row from %s where %s and %s %s',
                  source.fields,
                  coalesce((select 'jsonb_build_object(' || string_agg(format(E'%L, (%s\n)::text', x.name, x.expression), ', ' order by x.name) || ')'
                              from (select w.watched_id::text as name, w.via as expression from amzmp.source_watch w
                                     where w.account_id = source.account_id and w.source_id = source.source_id and w.via is not null
                                    union all
                                    select v.name, v.expression from amzmp.source_value v
                                     where v.account_id = source.account_id and v.source_id = source.source_id) x), 'null'),
                  source.relation, coalesce(source.filter, 'true'), condition, tail)
$$;

-- row_security = off: a row that a policy hides must be an error, it would look like a product that vanished.
-- synchronous_commit = off: what a crash takes back is read again, and whoever sends it commits, and so writes this, first.
-- random_page_cost = 1: what has just been written is in memory, so thousands of keys are looked up rather than the whole
-- relation read for them, page after page.
create function amzmp._reading_block(source_id bigint, declarations text, body text) returns text
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select 'do ' || quote_literal(format(
        E'declare\n    amzmp_state text;\n    amzmp_message text;\n%s\nbegin\n    set local search_path = pg_catalog, pg_temp;\n    set local row_security = off;\n'
        '    set local synchronous_commit = off;\n    set local random_page_cost = 1;\n%s\n'
        'exception when others then\n    get stacked diagnostics amzmp_state = returned_sqlstate, amzmp_message = message_text;\n'
        '    perform amzmp.reading_failed(%s, amzmp_state, amzmp_message);\nend', declarations, body, source_id))
$$;

create function amzmp._changes_statement(source amzmp.source) returns text
    language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    variables text := E'    amzmp_skus text[];\n    amzmp_cause jsonb;';
    results text := 'max(t.keys) filter (where t.watched_id = 0), max(t.cause::text)::jsonb';
    targets text := 'amzmp_skus, amzmp_cause';
    query text := amzmp._source_query(source, format(E'(%s\n) = any (amzmp_skus::%s[])', source.expressions ->> 'sku', source.sku_type), '');
    watch record;
begin
    for watch in
        select x.watched_id, x.via, w.key_type from amzmp.source_watch x join amzmp.watched w using (watched_id)
         where x.account_id = source.account_id and x.source_id = source.source_id and x.via is not null
         order by x.watched_id
    loop
        variables := variables || format(E'\n    amzmp_keys_%s text[];', watch.watched_id);
        results := results || format(', max(t.keys) filter (where t.watched_id = %s)', watch.watched_id);
        targets := targets || format(', amzmp_keys_%s', watch.watched_id);
        query := query || E'\n union ' || amzmp._source_query(source,
            format(E'(%s\n) = any (amzmp_keys_%s::%s[])', watch.via, watch.watched_id, watch.key_type), '');
    end loop;
    return amzmp._reading_block(source.source_id, variables, format(
        E'    select %s into %s from amzmp.take_changes(%s) t;\n'
        '    if amzmp_cause is not null then\n'
        '        perform amzmp.take_rows(%s, amzmp_skus, array(%s), amzmp_cause);\n'
        '    end if;',
        results, targets, source.source_id, source.source_id, query));
end
$$;

-- A page reads in the order of the SKUs, so it misses rows that have none. Some of these go with the first page, to be told.
create function amzmp._page_statement(source amzmp.source) returns text
    language sql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select amzmp._reading_block(source.source_id, E'    amzmp_after text;\n    amzmp_rows integer;', format(
        E'    select p.after_sku, p.page_rows into amzmp_after, amzmp_rows from amzmp.rescan_position(%s, %L) p;\n'
        '    perform amzmp.take_page(%s, amzmp_after, array((%s) union all (%s)));',
        source.source_id, source.rescan_requested_at, source.source_id,
        amzmp._source_query(source,
            format(E'(%s\n)::text collate pg_catalog."default" > amzmp_after', source.expressions ->> 'sku'),
            format(E'order by (%s\n)::text collate pg_catalog."default" limit amzmp_rows', source.expressions ->> 'sku')),
        amzmp._source_query(source,
            format(E'amzmp_after = \'\' and ((%1$s\n) is null or (%1$s\n)::text = \'\')', source.expressions ->> 'sku'), 'limit 20')))
$$;

-- How many rows the next page of a comparison shall have, after one that took so long to take in: a change of the shop's that
-- comes meanwhile waits for its end.
create function amzmp._next_page_rows(page_rows integer, took interval) returns integer
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select case when took > interval '20 milliseconds' then greatest(page_rows / 2, 50)
                when took < interval '8 milliseconds' then least(page_rows * 2, 2000)
                else page_rows end
$$;

-- Keys that are taken in one transaction.
create function amzmp._batch_size() returns integer
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$ select 5000 $$;

-- Did the trigger fire on the registered relation or below it? Anybody can attach our trigger function to a table of his own.
-- A registered relation that is not there (renamed, dropped) is believed: reading it will fail, and that is to be seen.
create function amzmp._is_part_of(part oid, watched_id bigint) returns boolean
    language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    registered text := (select w.relation from amzmp.watched w where w.watched_id = _is_part_of.watched_id);
    whole oid := amzmp._relation_oid(registered);
begin
    if part = whole or whole is null then
        return registered is not null;
    end if;
    return exists (
        with recursive above as (
            select part as oid
            union
            select i.inhparent from above a join pg_catalog.pg_inherits i on i.inhrelid = a.oid
        )
        select from above a where a.oid = whole);
end
$$;

create function amzmp._shop_cause(xid xid8, role text, application text, at timestamptz) returns jsonb
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select jsonb_build_object('role', role, 'application', application, 'xid', xid::text, 'at', at)
$$;

-- Marks become waiting comparisons of every source that depends on the relation.
create function amzmp._take_marks(source amzmp.source) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    -- as a rule there is none
    if not exists (select from amzmp.rescan_mark) then
        return;
    end if;
    with taken as (
        delete from amzmp.rescan_mark m
         where m.mark_id in (
            select x.mark_id from amzmp.rescan_mark x
             where x.watched_id in (select w.watched_id from amzmp.source_watch w
                                     where w.account_id = source.account_id and w.source_id = source.source_id)
               for update skip locked)
        returning m.*
    )
    insert into amzmp.source_change (account_id, source_id, watched_id, keys, cause)
    select w.account_id, w.source_id, t.watched_id, null,
           amzmp._shop_cause(t.xid, t.role, t.application, t.at) || jsonb_build_object('reason', t.reason)
      from taken t join amzmp.source_watch w using (watched_id)
     where amzmp._is_part_of(t.relation, t.watched_id);
end
$$;

-- Take what waits for a source: keys by watched relation, those that are SKUs (also the remembered ones) as watched_id 0.
create function amzmp._take_changes(source_id bigint) returns table (watched_id bigint, keys text[], cause jsonb)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    s amzmp.source := amzmp._own_source(_take_changes.source_id);
    taken amzmp.source_change[];
    newest jsonb;
    removed_count bigint;
begin
    perform amzmp._take_marks(s);
    with due as materialized (
        select c.xid, c.part, cardinality(c.keys) as size from amzmp.change c
         where c.watched_id in (select w.watched_id from amzmp.source_watch w
                                 where w.account_id = s.account_id and w.source_id = s.source_id)
         order by c.xid, c.part limit amzmp._batch_size() for update skip locked
    ), chosen as (
        select d.xid, d.part
          from (select e.*, sum(e.size) over (order by e.xid, e.part) - e.size as before from due e) d
         where d.before < amzmp._batch_size()
    ), removed as (
        delete from amzmp.change c using chosen where c.xid = chosen.xid and c.part = chosen.part returning c.*
    ), parts as materialized (
        select distinct x.watched_id, x.relation from removed x
    ), genuine as (
        select r.* from removed r join (
            select p.watched_id, p.relation from parts p where amzmp._is_part_of(p.relation, p.watched_id)) p
             using (watched_id, relation)
    ), passed_on as (
        insert into amzmp.source_change (account_id, source_id, watched_id, keys, cause)
        select w.account_id, w.source_id, g.watched_id, g.keys, amzmp._shop_cause(g.xid, g.role, g.application, g.at)
          from genuine g join amzmp.source_watch w using (watched_id)
         where w.source_id <> s.source_id
         order by g.xid, g.part
    ), own as (
        delete from amzmp.source_change x
         where x.account_id = s.account_id and x.source_id = s.source_id
           and x.source_change_id in (
            select d.source_change_id
              from (select y.source_change_id, sum(cardinality(y.keys)) over (order by y.source_change_id) - cardinality(y.keys) as before
                      from (select z.* from amzmp.source_change z
                             where z.account_id = s.account_id and z.source_id = s.source_id
                             order by z.source_change_id limit amzmp._batch_size()) y) d
             where coalesce(d.before, 0) < amzmp._batch_size())
        returning x.*
    )
    select array_agg(a), (array_agg(a.cause order by a.cause ->> 'at' desc))[1], (select count(*) from removed)
      into taken, newest, removed_count
      from (select row(s.account_id, s.source_id, 0, g.watched_id, g.keys,
                       amzmp._shop_cause(g.xid, g.role, g.application, g.at))::amzmp.source_change as a
              from genuine g
            union all
            select o::amzmp.source_change from own o) x, lateral (select (x.a).*) as a;
    if taken is null then
        if removed_count = 0 then
            -- what was seen is held by a transaction that has not ended: look again in a second
            update amzmp.source x set retry_at = now() + interval '1 second'
             where x.account_id = s.account_id and x.source_id = s.source_id;
            perform amzmp._wake();
        end if;
        return;
    end if;
    if exists (select from unnest(taken) t where t.keys is null) then
        update amzmp.source x
           set rescan_due = least(x.rescan_due, now()), rescan_requested_at = clock_timestamp(),
               rescan_reason = coalesce((select t.cause ->> 'reason' from unnest(taken) t where t.keys is null limit 1), 'asked for')
         where x.account_id = s.account_id and x.source_id = s.source_id;
    end if;
    -- An import that moves stock of these SKUs has either ended, and the read that follows sees what it wrote, or waits for
    -- our end: units that it has just taken from the shelf and released from their reservation are never added back.
    perform amzmp._lock_skus(s.account_id, array(select distinct k.key from unnest(taken) t, unnest(t.keys) as k (key)));
    return query
        with keyed as (
            select distinct t.watched_id, k.key, w.via is null as is_sku
              from unnest(taken) t
              join amzmp.source_watch w on w.account_id = s.account_id and w.source_id = s.source_id and w.watched_id = t.watched_id,
                   unnest(t.keys) as k (key)
        )
        select 0::bigint, array_agg(x.sku), newest
          from (select k.key as sku from keyed k where k.is_sku
                union
                select p.sku from keyed k
                  join amzmp.product_key p on p.account_id = s.account_id and p.source_id = s.source_id
                                          and p.watched_id = k.watched_id and p.key = k.key
                 where not k.is_sku) x
        union all
        select k.watched_id, array_agg(k.key), newest from keyed k where not k.is_sku group by k.watched_id;
end
$$;
select amzmp._expose('amzmp._take_changes(bigint)', 'public', 'Takes the captured keys that wait for a source. For the user runner of its role.');

-- The source was read as it should be.
create function amzmp._source_read(source amzmp.source) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    if source.state = 'failing' or source.retry_at is not null then
        update amzmp.source x set state = 'ok', last_error = null, failures = 0, retry_at = null
         where x.account_id = source.account_id and x.source_id = source.source_id;
    end if;
    if source.state = 'failing' then
        perform amzmp._log(source.account_id, source.channel_id, 'info', 'source', source.relation, 'can be read again');
    end if;
end
$$;

-- The rows that were asked for by SKU or key, as they are now. A SKU without a row is gone.
create function amzmp._take_rows(source_id bigint, skus text[], rows amzmp.shop_row[], cause jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    s amzmp.source := amzmp._own_source(_take_rows.source_id);
    news amzmp.source_news;
    vanished text[];
begin
    if s.kind = 'shipment' then
        perform amzmp._take_shipment_rows(s, _take_rows.skus, _take_rows.rows, _take_rows.cause);
        perform amzmp._source_read(s);
        return;
    end if;
    news := amzmp._store_rows(s, _take_rows.rows, _take_rows.cause);
    vanished := array(select unnest(_take_rows.skus) except select r.sku from unnest(_take_rows.rows) r);
    if vanished <> '{}' then
        with lost as (
            update amzmp.product p set gone = true, missing = false, changed = 'all', read_at = now(), cause = _take_rows.cause
             where p.account_id = s.account_id and p.source_id = s.source_id and p.sku = any (vanished) and not p.gone
            returning p.sku
        )
        select coalesce(array_agg(l.sku), '{}') into vanished from lost l;
    end if;
    if vanished <> '{}' then
        news := row(news.skus || vanished, '{price,stock}');
    end if;
    perform amzmp._source_read(s);
    if news.skus <> '{}' then
        perform amzmp._recompute(s.account_id, news.skus, _take_rows.cause, null, news.facets);
    end if;
end
$$;
select amzmp._expose('amzmp._take_rows(bigint, text[], amzmp.shop_row[], jsonb)', 'public',
    'Takes the shop''s rows that were read for captured keys. For the user runner of the source''s role.');

-- Keys that nobody will ever take: their relation was detached, or somebody uses our trigger on a table of his own.
create function amzmp._clean_changes() returns bigint
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    with orphans as (
        delete from amzmp.change c
         where not exists (select from amzmp.source_watch w where w.watched_id = c.watched_id)
        returning 1
    ), marks as (
        delete from amzmp.rescan_mark m
         where not exists (select from amzmp.source_watch w where w.watched_id = m.watched_id)
        returning 1
    )
    select (select count(*) from orphans) + (select count(*) from marks)
$$;
comment on function amzmp._clean_changes() is 'Inner: removes captured keys that no source waits for. To be called by maintenance.';
