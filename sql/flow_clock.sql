-- flow_clock.sql
-- When flows run: their frequencies, pg_cron's jobs, and the clock of mock accounts whose time runs faster.
--
-- pg_cron marks a flow due for all accounts at once. For a mock account with time_scale > 1 minutes are too coarse: a task
-- of our own runners (kind clock) runs its flows at the same times of its own clock, and queues itself for the next.

create table amzmp.flow_state (
    flow text primary key references amzmp.flow,
    every text,
    set_at timestamptz,
    set_by name,
    marked_at timestamptz,
    marked_by name,
    scheduled_at timestamptz,
    scheduled_by name
);

comment on table amzmp.flow_state is 'What was set about flows, and when they were last marked due.';
comment on column amzmp.flow_state.flow is 'The flow.';
comment on column amzmp.flow_state.every is 'Its cron schedule, by set_frequency; null: the default.';
comment on column amzmp.flow_state.set_at is 'When that was set.';
comment on column amzmp.flow_state.set_by is 'The role that set it.';
comment on column amzmp.flow_state.marked_at is 'When mark_due was last called for it: pg_cron''s pulse.';
comment on column amzmp.flow_state.marked_by is 'The role that called it, the owner of the job as a rule.';
comment on column amzmp.flow_state.scheduled_at is 'When schedule() last made its job.';
comment on column amzmp.flow_state.scheduled_by is 'The role that called it.';

create view amzmp.flow_schedule with (security_invoker = true) as
    select f.flow, coalesce(s.every, f.every) as every, f.every as default_every, s.marked_at, s.scheduled_at
      from amzmp.flow f left join amzmp.flow_state s using (flow);

comment on view amzmp.flow_schedule is 'How often each flow runs, as a cron schedule (UTC), and when it was last marked due.';
comment on column amzmp.flow_schedule.flow is 'The flow.';
comment on column amzmp.flow_schedule.every is 'The schedule that holds; schedule() makes pg_cron''s jobs by it.';
comment on column amzmp.flow_schedule.default_every is 'The schedule that it comes with.';
comment on column amzmp.flow_schedule.marked_at is 'When it was last marked due.';
comment on column amzmp.flow_schedule.scheduled_at is 'When schedule() last made its job here.';

-- Inner: the values that a field of a cron schedule stands for; error AZ202 when it is none.
create function amzmp._cron_field(field text, low integer, high integer) returns integer[]
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
declare
    part text;
    piece text[];
    values_of integer[] := '{}';
begin
    foreach part in array string_to_array(field, ',')
    loop
        piece := regexp_match(part, '^(\*|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?$');
        if piece is null or piece[4] = '0' or piece[2]::integer < low or piece[2]::integer > high
           or piece[3]::integer > high or piece[3]::integer < piece[2]::integer then
            perform amzmp._fail('AZ202', format('"%s" is not part of a cron schedule', part),
                format('Expected are numbers from %s to %s, *, ranges and steps.', low, high),
                'Write minute, hour, day, month and weekday, for example */5 * * * *');
        end if;
        values_of := values_of || array(select generate_series(coalesce(piece[2]::integer, low),
            case when piece[1] = '*' then high else coalesce(piece[3]::integer, case when piece[4] is null then piece[2]::integer else high end) end,
            coalesce(piece[4]::integer, 1)));
    end loop;
    return values_of;
end
$$;

-- Inner: the first time after `since` that a cron schedule names, in UTC as pg_cron counts; error AZ202 for what is no schedule.
create function amzmp._cron_next(every text, since timestamptz) returns timestamptz
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
declare
    fields text[] := regexp_split_to_array(btrim(every), '\s+');
    minutes integer[];
    hours integer[];
    days integer[];
    months integer[];
    weekdays integer[];
begin
    if cardinality(fields) is distinct from 5 then
        perform amzmp._fail('AZ202', format('"%s" is not a cron schedule', every), null,
            'Write minute, hour, day, month and weekday in UTC: */5 * * * * is each five minutes, 0 6 * * * each day at six.');
    end if;
    minutes := amzmp._cron_field(fields[1], 0, 59);
    hours := amzmp._cron_field(fields[2], 0, 23);
    days := amzmp._cron_field(fields[3], 1, 31);
    months := amzmp._cron_field(fields[4], 1, 12);
    weekdays := array(select w % 7 from unnest(amzmp._cron_field(fields[5], 0, 7)) w);
    -- as a rule every day will do, and then today or tomorrow has one: the same in a tenth of a millisecond
    if fields[3:5] = '{*,*,*}' then
        return (
            select min(t.at)
              from generate_series(0, 1) i, unnest(hours) h, unnest(minutes) m,
                   lateral (select ((since at time zone 'UTC')::date + i + make_time(h, m, 0)) at time zone 'UTC') t (at)
             where t.at > since);
    end if;
    -- eight years hold every date; where day and weekday are both limited, either will do
    return (
        select min(t.at)
          from (select d from generate_series(0, 2922) i,
                              lateral (select (since at time zone 'UTC')::date + i) x (d)
                 where extract(month from d) = any (months)
                   and case when fields[3] <> '*' and fields[5] <> '*'
                            then extract(day from d) = any (days) or extract(dow from d) = any (weekdays)
                            else extract(day from d) = any (days) and extract(dow from d) = any (weekdays) end
                 order by i limit 2) candidate,
               unnest(hours) h, unnest(minutes) m,
               lateral (select (candidate.d + make_time(h, m, 0)) at time zone 'UTC') t (at)
         where t.at > since);
end
$$;

create function amzmp._set_frequency(flow text, every text) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    f amzmp.flow := amzmp._flow($1);
    wanted text := regexp_replace(btrim($2), '\s+', ' ', 'g');
begin
    perform amzmp._require_unlimited('set_frequency');
    if wanted is not null and amzmp._cron_next(wanted, now()) is null then
        perform amzmp._fail('AZ202', format('"%s" never comes', wanted), 'No month has that day.',
            'Write minute, hour, day, month and weekday, for example */5 * * * *');
    end if;
    insert into amzmp.flow_state as s (flow, every, set_at, set_by)
    values (f.flow, wanted, now(), amzmp._caller())
    on conflict (flow) do update set every = excluded.every, set_at = excluded.set_at, set_by = excluded.set_by;
    perform amzmp._log(0, 0, 'notice', 'flow', f.flow, format('frequency set to %s by %s', coalesce(wanted, f.every || ' (default)'), amzmp._caller()));
    return 'now call amzmp.schedule() as the role that owns the jobs';
end
$$;
select amzmp._expose('amzmp._set_frequency(text, text)', 'amzmp_admin',
    'How often a flow runs, as a cron schedule in UTC (minutes at the finest); null: its default. Call schedule() afterwards.');

-- Inner: where a flow is on and can run, for one account or (null) all.
create function amzmp._flow_places(flow text, only_account bigint) returns table (account_id bigint, channel_id bigint)
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    return query
    select a.account_id, a.channel_id
      from amzmp.account_flow a
      join amzmp.account x using (account_id)
      left join amzmp.channel c using (account_id, channel_id)
     where a.flow = $1 and a.enabled and ($2 is null or a.account_id = $2) and x.active and x.state not in ('invalid', 'dropped')
       and (a.channel_id = 0 or c.active)
       and not (a.flow = 'get_orders' and amzmp._orders_rest(a.account_id));
end
$$;

-- Inner: queue a flow's tasks where it is on, for one account or (null) all; spread by a hash of the account so that not all
-- fall at once.
create function amzmp._mark(flow text, account_id bigint) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    marked bigint;
begin
    insert into amzmp.task (account_id, kind, subject, due_at)
    select a.account_id, 'flow', $1 || '/' || a.channel_id,
           now() + interval '1 millisecond' * (abs(hashint8(a.account_id)) % spread.ms)
      from amzmp._flow_places($1, $2) a,
           (select case when $2 is null and count(*) > 20 then 50000 else 1 end as ms from amzmp.account) spread
    on conflict on constraint task_account_id_kind_subject_key do nothing;
    get diagnostics marked = row_count;
    if marked > 0 then
        perform amzmp._wake();
    end if;
    return marked;
end
$$;

create function amzmp._mark_due(flow text) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    f amzmp.flow := amzmp._flow($1);
    caller name := amzmp._caller();
begin
    -- a role that is limited to some accounts marks those, which is no pulse of the clock
    if not amzmp._may_see(0, caller) then
        return (select coalesce(sum(amzmp._mark(f.flow, a.account_id)), 0)
                  from amzmp.account a where amzmp._may_see(a.account_id, caller));
    end if;
    insert into amzmp.flow_state (flow, marked_at, marked_by) values (f.flow, now(), caller)
    on conflict (flow) do update set marked_at = excluded.marked_at, marked_by = excluded.marked_by;
    return amzmp._mark(f.flow, null);
end
$$;
select amzmp._expose('amzmp._mark_due(text)', 'amzmp_operator', 'What the pg_cron job of a flow calls: queues the flow for every account where it is on and that the caller may see.');

-- Inner: when a flow of a fast mock account falls due next, by our clock.
create function amzmp._next_tick(a amzmp.account, flow text) returns timestamptz
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select a.created_at + (amzmp._cron_next(s.every, amzmp._now(a.account_id)) - a.created_at) / a.time_scale::float8
      from amzmp.flow_schedule s where s.flow = _next_tick.flow;
    end;

-- Inner: start the clock of a fast mock account for the flows that are on; others have none.
create function amzmp._start_clock(account_id bigint) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    insert into amzmp.task (account_id, kind, subject, due_at)
    select distinct a.account_id, 'clock', f.flow, amzmp._next_tick(a, f.flow)
      from amzmp.account a
      join amzmp.account_flow f using (account_id)
     where a.account_id = $1 and a.time_scale > 1 and a.active and f.enabled
    on conflict on constraint task_account_id_kind_subject_key do nothing;
    if found then
        perform amzmp._wake();
    end if;
end
$$;

-- Inner, own runner: a tick of that clock.
create function amzmp._task_clock(account_id bigint, subject text, argument jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    a amzmp.account;
begin
    perform amzmp._commit_soon('clock');
    select x.* into a from amzmp.account x
     where x.account_id = $1 and x.active and x.time_scale > 1
       and exists (select from amzmp.account_flow f where f.account_id = $1 and f.flow = $2 and f.enabled);
    if a.account_id is not null then
        perform amzmp._task_flow(p.account_id, $2 || '/' || p.channel_id, '{}') from amzmp._flow_places($2, $1) p;
        perform amzmp._add_task($1, 'clock', $2, null, amzmp._next_tick(a, $2), '{}');
    end if;
end
$$;

-- Is pg_cron in this database, and may a role use it? One who may not is told by an error as soon as a name in its schema is looked up.
create function amzmp._may_use_cron(role_name name) returns boolean
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select has_schema_privilege(role_name, n.oid, 'usage')
      from pg_extension e
      join pg_proc p on p.proname = 'schedule'
      join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.refobjid = e.oid and d.deptype = 'e'
      join pg_namespace n on n.oid = p.pronamespace
     where e.extname = 'pg_cron'
     limit 1;
    end;

-- The database in which pg_cron keeps its jobs, NULL when it is not loaded.
create function amzmp._clock_database() returns text
    language c stable parallel restricted set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_clock_database';

-- Why a role cannot own jobs of pg_cron here, as an error that says what is missing.
create function amzmp._check_clock(role_name name) returns void
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
begin
    if not (select r.rolcanlogin from pg_roles r where r.rolname = role_name) then
        perform amzmp._fail('AZ004', format('role "%s" cannot own pg_cron jobs', role_name), null, 'Call schedule() as a role with LOGIN.');
    elsif not pg_has_role(role_name, 'amzmp_operator', 'usage') then
        perform amzmp._fail('42501', format('role "%s" may not run flows', role_name), null, format('GRANT amzmp_operator TO %I;', role_name));
    elsif amzmp._clock_database() is null then
        perform amzmp._fail('AZ003', 'schedule() needs pg_cron, which is not loaded', null,
            'Install pg_cron (Debian: postgresql-15-cron), add pg_cron to shared_preload_libraries, restart the server and CREATE EXTENSION pg_cron. Until then run_flow() runs a flow.');
    elsif amzmp._clock_database() <> current_database() then
        return;
    elsif amzmp._may_use_cron(role_name) is null then
        perform amzmp._fail('AZ003', 'schedule() needs pg_cron, whose extension is not in this database', null, 'CREATE EXTENSION pg_cron;');
    elsif not amzmp._may_use_cron(role_name) then
        perform amzmp._fail('42501', format('role "%s" may not use pg_cron', role_name), null,
            format('A superuser allows it: GRANT USAGE ON SCHEMA cron TO %I;', role_name));
    end if;
end
$$;

create function amzmp._note_schedule() returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    begin atomic
    insert into amzmp.flow_state (flow, scheduled_at, scheduled_by)
    select f.flow, x.at, x.who from amzmp.flow f, (select now() as at, amzmp._caller() as who) x
    on conflict (flow) do update set scheduled_at = excluded.scheduled_at, scheduled_by = excluded.scheduled_by;
    end;
select amzmp._expose('amzmp._note_schedule()', 'amzmp_operator',
    'Notes that the jobs of all flows were just made, so that health() gives them time. Used by schedule(); call it after running what schedule() returned in another database.');

-- The jobs of pg_cron, owned by the role that calls: an ordinary function, because cron.schedule records current_user.
create function amzmp.schedule() returns table (job text, state text)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    f record;
begin
    perform amzmp._check_clock(current_user);
    -- one statement a job: there are as many as flows
    for f in select x.flow, x.every, format('select amzmp.mark_due(%L)', x.flow) as command from amzmp.flow_schedule x order by x.flow
    loop
        job := 'amzmp ' || f.flow;
        if amzmp._clock_database() = current_database() then
            execute 'select cron.schedule($1, $2, $3)' using job, f.every, f.command;
            state := 'scheduled ' || f.every;
        else
            state := format('run in database "%s" as superuser: select cron.schedule_in_database(%L, %L, %L, %L, %L);',
                amzmp._clock_database(), job, f.every, f.command, current_database(), current_user);
        end if;
        return next;
    end loop;
    if amzmp._clock_database() = current_database() then
        perform amzmp.note_schedule();
    end if;
end
$$;
comment on function amzmp.schedule() is 'Make pg_cron''s jobs, one per flow, owned by the caller (LOGIN, member of amzmp_operator, USAGE on schema cron), or bring them up to date with flow_schedule. Where pg_cron lives in another database, returns the statements for a superuser to run there.';

-- Inner, for health(): does pg_cron mark the flows that are on? The jobs themselves may be in another database, and are not ours to see.
create function amzmp._clock_health() returns table (check_name text, state text, detail text, remedy text)
    language sql stable parallel restricted set search_path = pg_catalog, pg_temp
    begin atomic
    with late as (
        -- a job that was just made has two of its periods to begin
        select s.flow, s.marked_at
          from amzmp.flow_schedule s
         where exists (select from amzmp.account_flow f join amzmp.account a using (account_id)
                        where f.flow = s.flow and f.enabled and a.active and a.state not in ('invalid', 'dropped') and a.time_scale <= 1)
           and (s.marked_at is null or amzmp._cron_next(s.every, s.marked_at) < now() - interval '2 minutes')
           and (s.scheduled_at is null or amzmp._cron_next(s.every, amzmp._cron_next(s.every, s.scheduled_at)) < now())
    )
    select 'pg_cron', case when l.flows is null then 'ok' else 'warning' end,
           case when l.flows is not null then format('nobody marks these flows due: %s', l.flows)
                when amzmp._clock_database() <> current_database() then format('pg_cron is in database "%s"', amzmp._clock_database()) end,
           case when l.flows is null then null
                when amzmp._clock_database() is null
                then 'Install pg_cron, add it to shared_preload_libraries, restart the server, CREATE EXTENSION pg_cron; then select amzmp.schedule();'
                when amzmp._clock_database() <> current_database()
                then format('Let a superuser run in database "%s", where pg_cron is, what select * from amzmp.schedule() returns.', amzmp._clock_database())
                when amzmp._may_use_cron('amzmp_owner') is null then 'CREATE EXTENSION pg_cron; then select amzmp.schedule();'
                else 'select amzmp.schedule(); as the role that shall own the jobs. If they are there, cron.job_run_details tells why they fail.' end
      from (select string_agg(x.flow || coalesce(' (last at ' || x.marked_at || ')', ' (never)'), ', ' order by x.flow) as flows from late x) l;
    end;
