-- health.sql
-- Is everything well, and where is what explained? A role that is limited to some accounts is told of those only.

-- Inner: state of our processes, from shared memory.
create function amzmp._processes() returns text
    language c stable parallel restricted set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_processes';

-- Sources that cannot be read, or whose relation is not there any more: that is seen at once, not when it is read next.
create function amzmp._source_health() returns table (check_name text, state text, detail text, remedy text)
    language sql stable parallel restricted set search_path = pg_catalog, pg_temp
    begin atomic
    select 'source ' || s.source_id, 'error',
           case when r.name is null then format('the relation %s of "%s" does not exist', s.relation, n.name) else s.last_error end,
           case when r.name is null then format('Make it again, then select amzmp.rescan(%1$L); or select amzmp.detach_source(%1$L, %2$L);', n.name, s.relation)
                when s.last_error = s.relation || ' has no rows'
                then format('Fill it, or if it shall be empty: select amzmp.rescan(%L, %L, allow_empty => true);', n.name, s.relation)
                else format('Mend the relation, then select amzmp.rescan(%L);', n.name) end
      from amzmp.source s
      join amzmp._names() n using (account_id, channel_id)
      left join (select distinct format('%I.%I', x.nspname, c.relname) as name
                   from pg_class c join pg_namespace x on x.oid = c.relnamespace
                  where c.relkind in ('r', 'p', 'v', 'm', 'f')) r on r.name = s.relation
     where s.state <> 'ok' or r.name is null;
    end;

-- Client secrets end 180 days after they were made; from the deadline on every call fails.
create function amzmp._secret_health() returns table (check_name text, state text, detail text, remedy text)
    language sql stable parallel restricted set search_path = pg_catalog, pg_temp
    begin atomic
    select 'application ' || p.name, case when p.secret_expires_at <= now() then 'error' else 'warning' end,
           format('the client secret %s at %s', case when p.secret_expires_at <= now() then 'ended' else 'ends' end, p.secret_expires_at),
           format('select amzmp.rotate_client_secret(%L); or make a new one at Amazon (the old one goes on for 7 days), then select amzmp.set_credentials(%L, file => …);', p.name, a.name)
      from amzmp.application p
      join lateral (select x.name from amzmp.account x
                     where x.application_id = p.application_id and x.state <> 'dropped' and x.mode = 'production'
                       and amzmp._may_see(x.account_id, amzmp._caller())
                     order by x.account_id limit 1) a on true
     where p.secret_expires_at < now() + interval '30 days';
    end;

-- Calls that Amazon has refused again and again in the last two days because the application may not make them (403), and none
-- of which was answered since. One refusal may be about its subject alone.
create index request_log_forbidden on amzmp.request_log_default (account_id, operation, finished_at) where status = 403;

create function amzmp._role_health() returns table (check_name text, state text, detail text, remedy text)
    language sql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
    with refused as materialized (
        select l.account_id, l.operation, count(*) as times, max(l.finished_at) as last_at
          from amzmp.request_log l
         where l.status = 403 and l.finished_at > now() - interval '2 days'
         group by l.account_id, l.operation
        having count(*) >= 2
    )
    select format('role %s %s', n.name, r.operation), 'error',
           format('Amazon has refused %s %s times (403), last at %s', r.operation, r.times, to_char(r.last_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')),
           format('Give the application %s at Amazon, and have the seller authorise it again; select * from amzmp.test_connection(%L); tells more.',
                  coalesce('the role ' || case o.api when 'finances' then 'Finance and Accounting' when 'orders' then 'Inventory and Order Tracking'
                                                     when 'listings' then 'Product Listing' when 'definitions' then 'Product Listing'
                                                     when 'catalog' then 'Product Listing' when 'pricing' then 'Pricing'
                                                     when 'fba_inventory' then 'Amazon Fulfillment' when 'invoices' then 'Tax Invoicing'
                                                     when 'messaging' then 'Buyer Communication' end, 'the role that this call needs'),
                  n.name)
      from refused r
      join amzmp._names() n on n.account_id = r.account_id and n.channel_id = 0
      join amzmp.account a on a.account_id = r.account_id and a.state <> 'invalid'
      left join amzmp.operation o on o.name = r.operation
     where not exists (select from amzmp.request_log l
                        where l.account_id = r.account_id and l.finished_at > r.last_at and l.operation = r.operation and l.outcome = 'success');
$$;

create function amzmp._health() returns table (check_name text, state text, detail text, remedy text)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    processes text := amzmp._processes();
    key_problem text := amzmp._key_usable();
    identity constant text := amzmp._identity_state();
begin
    return query values
        ('processes', case processes when 'running' then 'ok' when 'starting' then 'warning' else 'error' end, processes,
         case processes when 'not preloaded' then 'Add amzmp to shared_preload_libraries and restart the server.'
                        when 'starting' then 'Look again in ten seconds.'
                        when 'no sender' then 'Does amzmp.databases leave this database out? Else look into the server log: is max_worker_processes large enough?' end),
        ('key', case when key_problem is null then 'ok' else 'error' end, key_problem,
         case when key_problem is not null then 'Set amzmp.key_file, then select amzmp.create_key();' end),
        ('identity', case identity when 'here' then 'ok' else 'warning' end,
         case identity
             when 'here' then (select format('in doubt about %s, which are being read back', amzmp._count_of(count(*), 'listing', 'listings'))
                                 from amzmp.listing l where l.in_doubt having count(*) > 0)
             when 'successor' then 'nothing is sent: this node is taking over'
             else 'nothing is sent: the identity of this database is not confirmed' end,
         case identity when 'copy' then 'select amzmp.confirm_identity();' when 'unconfirmed' then 'select amzmp.activate(account);'
                       when 'successor' then 'Look again in ten seconds; if it stays so: select amzmp.confirm_identity();' end);
    return query select * from amzmp._clock_health();
    return query
        select 'account ' || a.name, case a.state when 'invalid' then 'error' else 'ok' end,
               coalesce(a.state_reason, a.state || case when a.active then ', active' else ', not active' end),
               case a.state when 'invalid' then format('select amzmp.set_credentials(%L, file => …);', a.name) end
          from amzmp.account a where a.state <> 'dropped' and amzmp._may_see(a.account_id, amzmp._caller());
    return query select * from amzmp._rotation_health();
    return query select * from amzmp._notification_health();
    return query select * from amzmp._report_health();
    return query select * from amzmp._alarm_health();
    return query select * from amzmp._address_health();
    return query select * from amzmp._order_health();
    return query select * from amzmp._personal_health();
    return query select * from amzmp._role_health();
    return query select * from amzmp._reservation_health();
    return query
        select 'hold ' || n.name, 'warning', format('held by %s: %s', h.held_by, h.reason), format('select amzmp.resume(%L);', n.name)
          from amzmp.hold h join amzmp._names() n using (account_id, channel_id);
    return query select * from amzmp._source_health();
    return query select * from amzmp._secret_health();
    return query select * from amzmp._rotation_asked_health();
    return query
        select 'flow ' || f.flow, 'warning', format('the last run for "%s" failed at %s: %s', n.name, f.started_at, f.error),
               format('select * from amzmp.activity where subject = %L order by at desc;', f.flow)
          from amzmp.flow_run f join amzmp._names() n using (account_id, channel_id)
         where f.state = 'failed' and f.started_at > now() - interval '1 day'
           and not exists (select from amzmp.flow_run later
                            where later.account_id = f.account_id and later.flow = f.flow and later.channel_id = f.channel_id
                              and later.started_at > f.started_at and later.state <> 'running');
    return query
        select 'given up', 'warning', count(*) || ' subjects are given up',
               'table amzmp.given_up; mend them, then select amzmp.release_penalty(…);'
          from amzmp.penalty p where p.gave_up and amzmp._may_see(p.account_id, amzmp._caller()) having count(*) > 0;
    return query
        select 'held requests', 'warning', count(*) || ' requests wait for a person',
               'select * from amzmp.request where state = ''held''; then amzmp.retry(…) or amzmp.cancel_request(…).'
          from amzmp.request r where r.state = 'held' and amzmp._may_see(r.account_id, amzmp._caller()) having count(*) > 0;
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
