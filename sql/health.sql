-- health.sql
-- Is everything well, and where is what explained?

-- Inner: state of our processes, from shared memory.
create function amzmp._processes() returns text
    language c stable parallel restricted set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_processes';

create function amzmp._health() returns table (check_name text, state text, detail text, remedy text)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    processes text := amzmp._processes();
    key_problem text := amzmp._key_usable();
begin
    return query values
        ('processes', case processes when 'running' then 'ok' else 'error' end, processes,
         case processes when 'not preloaded' then 'Add amzmp to shared_preload_libraries and restart the server.'
                        when 'no sender' then 'Look into the server log; is max_worker_processes large enough?' end),
        ('key', case when key_problem is null then 'ok' else 'error' end, key_problem,
         case when key_problem is not null then 'Set amzmp.key_file, then select amzmp.create_key();' end),
        ('identity', case when amzmp._is_fenced() then 'warning' else 'ok' end,
         case when amzmp._is_fenced() then 'nothing is sent: the identity of this database is not confirmed' end,
         case when amzmp._is_fenced() then case when exists (select from amzmp.identity)
             then 'select amzmp.confirm_identity();' else 'select amzmp.activate(account);' end end);
    return query select * from amzmp._clock_health();
    return query
        select 'account ' || a.name, case a.state when 'invalid' then 'error' else 'ok' end,
               coalesce(a.state_reason, a.state || case when a.active then ', active' else ', not active' end),
               case a.state when 'invalid' then format('select amzmp.set_credentials(%L, file => …);', a.name) end
          from amzmp.account a where a.state <> 'dropped';
    return query select * from amzmp._rotation_health();
    return query select * from amzmp._notification_health();
    return query
        select 'hold ' || n.name, 'warning', format('held by %s: %s', h.held_by, h.reason), format('select amzmp.resume(%L);', n.name)
          from amzmp.hold h join amzmp.name n using (account_id, channel_id);
    return query
        select 'source ' || s.source_id, 'error', s.last_error, 'Mend the relation, then select amzmp.rescan(…);'
          from amzmp.source s where s.state <> 'ok';
    return query
        select 'given up', 'warning', count(*) || ' subjects are given up',
               'select * from amzmp.penalty where gave_up; mend them, then select amzmp.release_penalty(…);'
          from amzmp.penalty p where p.gave_up having count(*) > 0;
    return query
        select 'held requests', 'warning', count(*) || ' requests wait for a person',
               'select * from amzmp.request where state = ''held''; then amzmp.retry(…) or amzmp.cancel_request(…).'
          from amzmp.request r where r.state = 'held' having count(*) > 0;
end
$$;
select amzmp._expose('amzmp._health()', 'amzmp_reader', 'One row per check: ok, warning or error, and the statement or step that mends it.');

create function amzmp.help(topic text default null) returns table (name text, kind text, description text)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select x.name, x.kind, x.description
      from (select p.proname || '(' || pg_get_function_arguments(p.oid) || ')' as name, 'function' as kind, obj_description(p.oid, 'pg_proc') as description
              from pg_proc p where p.pronamespace = 'amzmp'::regnamespace and p.proname not like '\_%'
            union all
            select c.relname, case c.relkind when 'v' then 'view' else 'table' end, obj_description(c.oid, 'pg_class')
              from pg_class c where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p', 'v')
            union all
            select f.flow, 'flow', f.description from amzmp.flow f
            union all
            select d.name, 'setting', d.description from amzmp.setting_definition d) x
     where x.description is not null
       and (topic is null or x.name ilike '%' || topic || '%' or x.description ilike '%' || topic || '%')
     order by x.kind, x.name;
    end;
comment on function amzmp.help(text) is 'Functions, views, flows and settings whose name or description holds the topic.';

-- The launcher shall know that this database has the extension.
create function amzmp._register_database() returns void
    language c volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_register_database';
select amzmp._register_database();
