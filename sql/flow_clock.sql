-- flow_clock.sql
-- When flows run: their frequencies, pg_cron's jobs, and the clock of mock accounts whose time runs faster.
--
-- pg_cron marks a flow due for all accounts at once. Many accounts are cut into slices, each a task (kind flows) with a time of
-- its own within the flow's period, so that their calls are spread evenly. For a mock account with time_scale > 1 minutes are
-- too coarse: account_flow.next_at says when a flow is due by its own clock, and a task a flow (kind clock, of account 0) takes
-- those that are due and queues itself for the next. Whatever the clock, the places go to _run_places (flow_run.sql) as a set.

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
    step integer := case when every = '* * * * *' then 1 else substring(every from '^\*/([1-9]|[1-5][0-9]) \* \* \* \*$')::integer end;
begin
    -- every so many minutes of the hour: most flows, and the clocks of thousands of accounts ask
    if step is not null then
        return date_trunc('hour', since, 'UTC')
               + interval '1 minute' * least((extract(minute from since at time zone 'UTC')::integer / step + 1) * step, 60);
    end if;
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

-- Inner: where among these accounts a flow is on and can run.
create function amzmp._flow_places(flow text, account_ids bigint[]) returns setof amzmp.flow_place
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
begin
    return query
    select a.account_id, a.channel_id
      from unnest(account_ids) w (account_id)
      join amzmp.account_flow a using (account_id)
      join amzmp.flow f using (flow)
      join amzmp.account x using (account_id)
      left join amzmp.channel c using (account_id, channel_id)
     where a.flow = _flow_places.flow and a.enabled
       and case f.needs when 'credentials' then x.active and x.state not in ('invalid', 'dropped')
                        when 'activation' then x.active and x.state <> 'dropped'
                        else true end
       and (a.channel_id = 0 or c.active)
       and not (a.flow = 'get_orders' and amzmp._orders_rest(a.account_id));
end
$$;

-- Inner: accounts that go by the server's clock and have a flow on, or one slice of them.
create function amzmp._clock_accounts(flow text, slice integer, slices integer) returns bigint[]
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
begin
    return array(
        select distinct f.account_id
          from amzmp.account_flow f
          join amzmp.account a using (account_id)
         where f.flow = _clock_accounts.flow and f.enabled and a.time_scale <= 1
           and abs(hashint8(f.account_id)::bigint) % slices = slice);
end
$$;

-- Inner: over how much time the accounts of a flow are spread: most of its period where that is some minutes, a part of the hour
-- where it names a minute, else most of a minute. A few accounts are not spread.
create function amzmp._flow_spread(every text) returns interval
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
begin
    return case when not exists (select from amzmp.account offset 20) then interval '0'
                when every ~ '^[0-9]+ ' then interval '24 minutes'
                else coalesce(substring(every from '^\*/([2-9]|[1-5][0-9]) \* \* \* \*$')::integer, 1) * interval '48 s' end;
end
$$;

-- Inner: queue a flow where it is on and pg_cron is the clock. A slice has some fifty accounts; returns in how many places it is on.
create function amzmp._mark(flow text) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    spread constant interval := amzmp._flow_spread((select s.every from amzmp.flow_schedule s where s.flow = _mark.flow));
    places constant bigint := (select count(*) from amzmp._flow_places(flow, amzmp._clock_accounts(flow, 0, 1)));
    slices constant integer := case when spread = interval '0' then 1 else least(places / 50 + 1, extract(epoch from spread)) end;
begin
    if places > 0 then
        insert into amzmp.task (account_id, kind, subject, due_at)
        select 0, 'flows', format('%s/%s/%s', flow, i, slices), now() + spread * i / slices
          from generate_series(0, slices - 1) i
        on conflict on constraint task_account_id_kind_subject_key do nothing;
        perform amzmp._wake();
    end if;
    return places;
end
$$;

-- Inner, own runner: the turn of one slice. subject: flow/slice/slices.
create function amzmp._task_flows(account_id bigint, subject text, argument jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    flow constant text := split_part(subject, '/', 1);
begin
    perform amzmp._commit_soon('flows');
    perform amzmp._run_places(flow, array(
        select p from amzmp._flow_places(flow,
            amzmp._clock_accounts(flow, split_part(subject, '/', 2)::integer, split_part(subject, '/', 3)::integer)) p));
end
$$;

create function amzmp._mark_due(flow text) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    f amzmp.flow := amzmp._flow($1);
    caller name := amzmp._caller();
    places amzmp.flow_place[];
begin
    -- a role that is limited to some accounts marks those, which is no pulse of the clock
    if not amzmp._may_see(0, caller) then
        places := array(select p from amzmp._flow_places(f.flow, array(
                select a.account_id from amzmp.account a where a.time_scale <= 1 and amzmp._may_see(a.account_id, caller))) p);
        perform amzmp._run_places(f.flow, places);
        return cardinality(places);
    end if;
    insert into amzmp.flow_state (flow, marked_at, marked_by) values (f.flow, now(), caller)
    on conflict (flow) do update set marked_at = excluded.marked_at, marked_by = excluded.marked_by;
    return amzmp._mark(f.flow);
end
$$;
select amzmp._expose('amzmp._mark_due(text)', 'amzmp_operator', 'What the pg_cron job of a flow calls: queues the flow for every account where it is on and that the caller may see.');

-- Inner: when a schedule strikes next for fast mock accounts, by our clock. Where there are many, each has a shift of its own.
-- The schedule is read once a minute that some of them are in, which are few: they come here as their minutes strike.
create function amzmp._next_ticks(every text, account_ids bigint[]) returns table (account_id bigint, next_at timestamptz)
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    spread constant interval := amzmp._flow_spread(every);
begin
    return query
    with clock as materialized (
        select a.account_id, a.created_at, a.time_scale::float8 as scale, x.shift,
               date_trunc('minute', a.created_at + (now() - a.created_at) * a.time_scale::float8 - x.shift, 'UTC') as minute
          from unnest(account_ids) w (account_id)
          join amzmp.account a using (account_id)
          cross join lateral (select spread * (abs(hashint8(a.account_id)::bigint) % 1000) / 1000 as shift) x
         where a.active and a.time_scale > 1
    ), strike as materialized (
        select m.minute, amzmp._cron_next(every, m.minute) as at from (select distinct c.minute from clock c) m
    )
    -- a microsecond later, so that rounding does not make it the same minute once more
    select c.account_id, c.created_at + (s.at + c.shift - c.created_at) / c.scale + interval '1 microsecond'
      from clock c join strike s using (minute);
end
$$;

-- Inner: start the clock of a fast mock account for the flows that are on; others have none. Whoever calls locks nothing that
-- belongs to others: the account's own task puts it among them.
create function amzmp._start_clock(account_id bigint) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    if exists (select from amzmp.account a where a.account_id = _start_clock.account_id and a.time_scale > 1 and a.active) then
        perform amzmp._add_task(account_id, 'clock', '', null, now(), '{}');
    end if;
end
$$;

-- Inner: the clock of a flow strikes at that time, or sooner.
create function amzmp._set_clock(flow text, at timestamptz) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    if at is not null then
        perform amzmp._add_task(0, 'clock', flow, null, at, '{}');
    end if;
end
$$;

-- Inner: the flow's turn has come for these fast accounts; returns when the next of all has its turn. A place that somebody is
-- just switching is left to the next tick, and ticks that come thick are taken together.
create function amzmp._tick(flow text) returns timestamptz
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    most constant integer := 500;
    every constant text := (select s.every from amzmp.flow_schedule s where s.flow = _tick.flow);
    longest_pause constant interval := interval '0.2 s';
    due constant amzmp.flow_place[] := array(
        select row(f.account_id, f.channel_id)::amzmp.flow_place
          from amzmp.account_flow f
         where f.flow = _tick.flow and f.next_at <= now()
         order by f.next_at
         limit most
           for update skip locked);
    account_ids constant bigint[] := array(select distinct d.account_id from unnest(due) d);
    soonest timestamptz;
    coming timestamptz;
begin
    with moved as (
        update amzmp.account_flow f
           set next_at = case when f.enabled then n.next_at end
          from unnest(due) d
          left join amzmp._next_ticks(every, account_ids) n using (account_id)
         where (f.account_id, f.channel_id, f.flow) = (d.account_id, d.channel_id, _tick.flow)
        returning f.next_at
    )
    select min(m.next_at) into soonest from moved m;
    perform amzmp._run_places(flow, array(
        select p from amzmp._flow_places(flow, account_ids) p join unnest(due) d using (account_id, channel_id)));
    coming := (select min(f.next_at) from amzmp.account_flow f where f.flow = _tick.flow and f.next_at is not null);
    if cardinality(due) < most then
        coming := case when coming is not null then greatest(coming, now() + least((soonest - now()) / 4, longest_pause)) end;
    end if;
    return coming;
end
$$;

-- Inner, own runner: a tick of a flow (account 0), or an account whose clock starts.
create function amzmp._task_clock(account_id bigint, subject text, argument jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    flows bigint;
begin
    perform amzmp._commit_soon('clock');
    if account_id = 0 then
        perform amzmp._set_clock(subject, amzmp._tick(subject));
        return;
    end if;
    with begun as (
        update amzmp.account_flow f
           set next_at = n.next_at
          from (select distinct s.every from amzmp.flow_schedule s) e
          cross join lateral amzmp._next_ticks(e.every, array[_task_clock.account_id]) n
          join amzmp.flow_schedule s using (every)
         where f.account_id = _task_clock.account_id and f.flow = s.flow and f.enabled
        returning f.flow, f.next_at
    )
    select count(amzmp._set_clock(x.flow, x.at)) into flows
      from (select b.flow, min(b.next_at) as at from begun b group by b.flow) x;
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
