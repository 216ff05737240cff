/*
 * alarm_check.sql
 *	  Setting alarms and checking them.
 *
 * A query of the shop's is looked at with the rights of whoever sets it (set_alarm is an ordinary function: it makes a
 * temporary view, which parses the query and tells its columns, and executes nothing), and is executed by a user runner whose
 * session user is the role that it was registered for, at top level. That process hands (subject, value) to take_alarm, which
 * believes only that. A preset is an inner function, executed by an own runner.
 */

/* ---- setting ---- */

create function amzmp._register_alarm(account text, alarm text, preset text, query text, columns text[], threshold numeric, below boolean,
    every interval, quiet interval, level text, message text, targets text[], run_as name) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    a amzmp.account := amzmp._account(account);
    p amzmp.alarm_preset;
    wrong text;
    checked_at timestamptz;
begin
    perform amzmp._check_alarm_name(alarm);
    if num_nonnulls(preset, query) <> 1 then
        perform amzmp._fail('AZ202', 'an alarm has a preset or a query', null,
            format('select amzmp.set_alarm(%L, %L, preset => ''low_stock''); the presets are in amzmp.alarm_preset.', account, alarm));
    end if;
    select x.* into p from amzmp.alarm_preset x where x.preset = _register_alarm.preset;
    if preset is not null and not found then
        perform amzmp._fail('AZ201', format('there is no preset "%s"', preset),
            (select 'There are: ' || string_agg(x.preset, ', ' order by x.preset) || '.' from amzmp.alarm_preset x));
    end if;
    if query is not null and coalesce(cardinality(columns), 0) = 0 then
        perform amzmp._fail('AZ202', 'the columns of the query are not known', null, 'Call amzmp.set_alarm, which finds out.');
    end if;
    if coalesce(every, '1 minute') < interval '1 minute' or coalesce(quiet, '0') < interval '0' then
        perform amzmp._fail('AZ202', 'an alarm is checked every minute at the most');
    end if;
    if level is not null and level not in ('info', 'warning', 'error') then
        perform amzmp._fail('AZ202', format('%L is no level', level), 'Expected is info, warning or error.');
    end if;
    select t.name into wrong from unnest(targets) as t (name)
     where not exists (select from amzmp.alarm_target x where x.account_id = a.account_id and x.target = t.name) limit 1;
    if found then
        perform amzmp._fail('AZ201', format('account %L has no target %L', account, wrong), null,
            format('select amzmp.set_webhook(%L, %L, …); or amzmp.set_mail(…).', account, wrong));
    end if;
    -- what happened since the last check is told by the changed alarm
    delete from amzmp.alarm x where x.account_id = a.account_id and x.alarm = alarm
    returning case when x.preset = preset then x.checked_at end into checked_at;
    delete from amzmp.task t where t.account_id = a.account_id and t.kind = 'alarm' and t.subject = alarm;
    insert into amzmp.alarm (account_id, alarm, preset, query, columns, run_as, threshold, below, every, quiet, level, message,
        targets, checked_at, set_by)
    values (a.account_id, alarm, preset, query, columns, case when query is not null then amzmp._hook_role(run_as) end,
            coalesce(threshold, p.threshold, 1), coalesce(below, p.below, false), coalesce(every, p.every, '5 minutes'),
            coalesce(quiet, p.quiet, '0'), coalesce(level, p.level, 'warning'), coalesce(left(message, 200), p.message, alarm),
            coalesce(targets, '{}'), checked_at, amzmp._caller());
    update amzmp.account_flow f set enabled = true
     where f.account_id = a.account_id and f.channel_id = 0 and f.flow = 'watch_alarms';
    perform amzmp._start_clock(a.account_id);
    perform amzmp._put_off_alarms(a.account_id);
    perform amzmp._log(a.account_id, 0, 'notice', 'alarm', alarm, format('set by %s', amzmp._caller()));
end
$$;
select amzmp._expose('amzmp._register_alarm(text, text, text, text, text[], numeric, boolean, interval, interval, text, text, text[], name)',
    'amzmp_admin', 'Writes down an alarm whose query was looked at. Used by set_alarm.');

-- What the columns of a query are; an error when it cannot be used. It runs with the caller's rights and executes nothing.
create function amzmp.alarm_columns(query text) returns text[]
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    why text;
    types "char"[];
begin
    begin
        execute format(E'create temporary view amzmp_alarm_check as select * from (%s\n) as q', query);
    exception
        when insufficient_privilege then
            raise;
        when others then
            get stacked diagnostics why = message_text;
            perform amzmp._fail('AZ202', 'the query of the alarm cannot be used: ' || why, null,
                'Write one SELECT, with names qualified by their schema: it is executed with the search_path pg_catalog.');
    end;
    select array_agg(t.typcategory order by a.attnum) into types
      from pg_attribute a join pg_type t on t.oid = a.atttypid
     where a.attrelid = 'pg_temp.amzmp_alarm_check'::regclass and a.attnum > 0;
    drop view pg_temp.amzmp_alarm_check;
    if cardinality(types) = 1 then
        return array[case types[1] when 'N' then 'value' else 'subject' end];
    elsif cardinality(types) = 2 and types[2] = 'N' then
        return '{subject,value}';
    end if;
    perform amzmp._fail('AZ202', 'the query of an alarm returns a subject and a number, or one of them',
        format('It returns %s columns.', cardinality(types)), 'For example: select sku, stock from public.product');
end
$$;
comment on function amzmp.alarm_columns(text) is 'What the columns of an alarm''s query are: subject, value or both. Used by set_alarm.';

create function amzmp.set_alarm(account text, alarm text, query text default null, preset text default null, threshold numeric default null,
    below boolean default null, every interval default null, quiet interval default null, level text default null,
    message text default null, targets text[] default null, run_as name default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    plain text := rtrim(query, E'; \n\t');
begin
    perform amzmp.register_alarm(account, alarm, preset, plain,
        case when plain is not null then amzmp.alarm_columns(plain) end, threshold, below, every, quiet, level, message, targets, run_as);
end
$$;
comment on function amzmp.set_alarm(text, text, text, text, numeric, boolean, interval, interval, text, text, text[], name) is
    'Watch something for an account: a preset (amzmp.alarm_preset), or a query that returns (subject, value), (subject) or (value) and runs as the caller or the role that a superuser names. It tells what reaches the threshold: by a row in alarm_event, by NOTIFY amzmp_alarm, and to the targets. Call it again to change it.';

create function amzmp._drop_alarm(account text, alarm text) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
begin
    delete from amzmp.alarm_subject s where s.account_id = acc and s.alarm = alarm;
    delete from amzmp.task t where t.account_id = acc and t.kind = 'alarm' and t.subject = alarm;
    delete from amzmp.alarm a where a.account_id = acc and a.alarm = alarm;
    return found;
end
$$;
select amzmp._expose('amzmp._drop_alarm(text, text)', 'amzmp_admin', 'Forget an alarm; its events stay. False when there was none.');

/* ---- checking ---- */

-- What an alarm found: tell what is new, forget what is gone.
create function amzmp._alarm_found(a amzmp.alarm, subjects text[], found_values numeric[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    hits jsonb;
    news jsonb;
begin
    perform from amzmp.alarm x where x.account_id = a.account_id and x.alarm = a.alarm for update;
    -- subjects are identifiers, so that no text finds its way out in them
    select jsonb_object_agg(h.subject, h.value) into hits
      from (select left(regexp_replace(coalesce(u.subject, ''), '[[:cntrl:]]+', ' ', 'g'), 80) as subject, max(coalesce(u.value, 1)) as value
              from unnest(subjects, found_values) as u (subject, value)
             where case when a.below then coalesce(u.value, 1) <= a.threshold else coalesce(u.value, 1) >= a.threshold end
             group by 1) h;
    hits := coalesce(hits, '{}');
    delete from amzmp.alarm_subject s
     where s.account_id = a.account_id and s.alarm = a.alarm and not hits ? s.subject and s.seen_at <= now() - a.quiet;
    insert into amzmp.alarm_subject as s (account_id, alarm, subject, value, seen_at)
    select a.account_id, a.alarm, h.key, h.value::text::numeric, now() from jsonb_each(hits) h
    on conflict on constraint alarm_subject_pkey do update set value = excluded.value, seen_at = excluded.seen_at;
    with fresh as (
        update amzmp.alarm_subject s set told_at = now()
         where s.account_id = a.account_id and s.alarm = a.alarm and s.told_at is null
        returning s.subject, s.value
    )
    select jsonb_agg(jsonb_build_object('subject', f.subject, 'value', f.value) order by f.subject) into news from fresh f;
    update amzmp.alarm x
       set state = case when hits = '{}' then 'quiet' else 'firing' end, state_reason = null, checked_at = now(),
           fired_at = case when news is null then x.fired_at else now() end
     where x.account_id = a.account_id and x.alarm = a.alarm;
    if news is not null then
        perform amzmp._tell(a.account_id, a.alarm, a.level, a.message, a.targets, news);
    end if;
end
$$;

-- Inner: one check failed. It is told once, and the alarm is checked again in its turn.
create function amzmp._alarm_failed(a amzmp.alarm, reason text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    update amzmp.alarm x set state = 'failing', state_reason = reason, checked_at = now()
     where x.account_id = a.account_id and x.alarm = a.alarm;
    if a.state <> 'failing' then
        perform amzmp._log(a.account_id, 0, 'error', 'alarm', a.alarm, 'could not be checked: ' || reason);
    end if;
end
$$;

-- Inner: the same for a query that a user runner executed.
create function amzmp._alarm_task_failed(t amzmp.task, error_state text, error_text text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    reason text := case error_state
        when '57014' then format('its query was stopped (alarm_time_limit is %s): %s',
            amzmp._setting_interval(t.account_id, 0, 'alarm_time_limit'), error_text)
        else amzmp._safe_error(error_state, error_text) end;
begin
    perform amzmp._alarm_failed(a, reason) from amzmp.alarm a where a.account_id = t.account_id and a.alarm = t.subject;
    delete from amzmp.task x where x.account_id = t.account_id and x.task_id = t.task_id;
end
$$;

-- Inner: check an alarm now: a preset here, a query by its role's runner.
create function amzmp._check_alarm(a amzmp.alarm) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    subjects text[];
    found_values numeric[];
    reason text;
begin
    if a.query is not null then
        perform amzmp._add_task(a.account_id, 'alarm', a.alarm, a.run_as, now());
        return;
    end if;
    begin
        execute format('select array_agg(x.subject), array_agg(x.value) from amzmp.%I($1) x',
                       (select p.function_name from amzmp.alarm_preset p where p.preset = a.preset))
           into subjects, found_values using a;
        perform amzmp._alarm_found(a, subjects, found_values);
    exception when others then
        get stacked diagnostics reason = message_text;
        perform amzmp._alarm_failed(a, reason);
    end;
end
$$;

/*
 * That flows do not run is what an alarm should tell, and then nobody marks this one due either: so an account with alarms has a
 * task that each run puts off, and that runs the flow when nothing else has for a quarter of an hour. Fast mock accounts have
 * a clock of their own.
 */
create function amzmp._put_off_alarms(account_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    next_at constant timestamptz := now() + interval '15 minutes';
begin
    insert into amzmp.task as t (account_id, kind, subject, due_at)
    select a.account_id, 'alarms', '', next_at
    from amzmp.account as a
    where a.account_id = _put_off_alarms.account_id
        and a.active
        and a.time_scale <= 1
        and exists (select from amzmp.alarm as l where l.account_id = a.account_id and l.enabled)
        and exists (
            select
            from amzmp.account_flow as f
            where (f.account_id, f.flow) = (a.account_id, 'watch_alarms')
                and f.enabled
        )
    on conflict on constraint task_account_id_kind_subject_key do update
    set due_at = next_at;
    if found then
        perform amzmp._wake();
    end if;
end
$$;

create function amzmp._task_alarms(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform amzmp._run_places('watch_alarms', array(select p from amzmp._flow_places('watch_alarms', array[account_id]) as p));
    perform amzmp._put_off_alarms(account_id);
end
$$;

-- When an alarm is to be checked next. A run that comes a little early is that minute's all the same.
create function amzmp._alarm_due_at(a amzmp.alarm, time_scale numeric)
    returns timestamptz
    language sql
    stable
    parallel safe
begin atomic
    select a.checked_at + (a.every - interval '10 s') / time_scale::float8;
end;

-- Which of these accounts have an alarm to be checked, or events that are too old.
create function amzmp._due_watch_alarms(account_ids bigint[])
    returns table (account_id bigint, channel_id bigint)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select a.id, 0::bigint
    from unnest(account_ids) as a (id)
    join amzmp.account as x on x.account_id = a.id
    where exists (
            select
            from amzmp.alarm as l
            where l.account_id = a.id
                and l.enabled
                and coalesce(amzmp._alarm_due_at(l, x.time_scale) <= now(), true)
        )
        or exists (
            select
            from amzmp.alarm_event as e
            where e.account_id = a.id
                and e.at < now() - amzmp._setting_interval(a.id, 0, 'alarm_retention')
        );
end
$$;

create function amzmp._flow_watch_alarms(account_id bigint, channel_id bigint, flow_run_id bigint) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    keep interval := amzmp._setting_interval(acc, 0, 'alarm_retention');
begin
    perform amzmp._check_alarm(a) from amzmp.alarm a
       join amzmp.account x on x.account_id = a.account_id
      where a.account_id = acc and a.enabled and coalesce(amzmp._alarm_due_at(a, x.time_scale) <= now(), true);
    delete from amzmp.alarm_delivery d using amzmp.alarm_event e
     where e.account_id = acc and e.at < now() - keep and d.account_id = acc and d.alarm_event_id = e.alarm_event_id;
    delete from amzmp.alarm_event e where e.account_id = acc and e.at < now() - keep;
    perform amzmp._put_off_alarms(acc);
end
$$;

create function amzmp._run_alarm(account text, alarm text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
    a amzmp.alarm;
begin
    select x.* into a from amzmp.alarm x where x.account_id = acc and x.alarm = _run_alarm.alarm;
    if not found then
        perform amzmp._fail('AZ201', format('account %L has no alarm %L', account, alarm), null, 'select * from amzmp.alarm; lists them.');
    end if;
    perform amzmp._check_alarm(a);
end
$$;
select amzmp._expose('amzmp._run_alarm(text, text)', 'amzmp_operator', 'Check an alarm now.');

/* ---- what a user runner does ---- */

-- The query as one statement of its role's session, and no more than it may say.
create function amzmp._statement_alarm(account_id bigint, subject text, argument jsonb) returns text[]
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select array['set local search_path = pg_catalog, pg_temp',
        format('set local statement_timeout = %L',
               round(extract(epoch from amzmp._setting_interval(a.account_id, 0, 'alarm_time_limit')) * 1000)),
        format(E'select amzmp.take_alarm(%L::bigint, %L, array_agg(%s), array_agg(%s)) from (select * from (%s\n) as x (%s) limit 10000) as q',
               a.account_id, a.alarm,
               case when 'subject' = any (a.columns) then 'q.subject::text' else $q$''::text$q$ end,
               case when 'value' = any (a.columns) then 'q.value::numeric' else '1::numeric' end,
               a.query, array_to_string(a.columns, ', '))]
    from amzmp.alarm a
    where a.account_id = _statement_alarm.account_id and a.alarm = subject and a.query is not null;
$$;

create function amzmp._take_alarm(account_id bigint, alarm text, subjects text[], found_values numeric[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.alarm;
begin
    select x.* into a from amzmp.alarm x where x.account_id = _take_alarm.account_id and x.alarm = _take_alarm.alarm;
    if a.run_as is distinct from amzmp._caller() then
        perform amzmp._fail('42501', 'this is for the role that the alarm was set for', null,
            'Set it with amzmp.set_alarm; it is then checked by itself.');
    end if;
    perform amzmp._alarm_found(a, subjects, found_values);
end
$$;
select amzmp._expose('amzmp._take_alarm(bigint, text, text[], numeric[])', 'public',
    'User runners: what an alarm''s query found. Refused to all but the role it was set for.');
