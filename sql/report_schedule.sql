/*
 * report_schedule.sql
 *	  Reports that are asked for again and again, and what health() says about reports.
 *
 * Amazon has schedules of its own, but not for every type, and forgets them with the consent. So the clock is ours: the
 * flow get_reports asks for what is due. It is switched on with an account's first schedule. Types from which amzmp takes
 * something have flows of their own (reconcile).
 */
insert into amzmp.flow (flow, scope, every, on_by_default, capability, title, description) values
    ('get_reports', 'account', '*/15 * * * *', false, null, 'Ask for reports',
     'Asks for the reports that schedule_report() names, when they are due.');

create table amzmp.report_schedule (
    account_id bigint not null,
    channel_id bigint not null,
    type text not null,
    every interval not null,
    span interval,
    options jsonb not null default '{}',
    next_at timestamptz not null default now(),
    report_id bigint,
    set_by name not null,
    set_at timestamptz not null default now(),
    primary key (account_id, channel_id, type),
    constraint report_schedule_every_check check (every >= interval '15 minutes'),
    constraint report_schedule_span_check check (span > interval '0')
);

comment on table amzmp.report_schedule is 'Reports that are asked for again and again. Written by schedule_report.';
comment on column amzmp.report_schedule.account_id is 'The account.';
comment on column amzmp.report_schedule.channel_id is 'The channel; 0: the account.';
comment on column amzmp.report_schedule.type is 'Amazon''s type of the report.';
comment on column amzmp.report_schedule.every is 'How often.';
comment on column amzmp.report_schedule.span is 'How far back each goes; null: the type has no range of time.';
comment on column amzmp.report_schedule.options is 'Amazon''s options.';
comment on column amzmp.report_schedule.next_at is 'When the next one is due.';
comment on column amzmp.report_schedule.report_id is 'The last one, see amzmp.report.';
comment on column amzmp.report_schedule.set_by is 'Who asked for it.';
comment on column amzmp.report_schedule.set_at is 'When.';

create function amzmp._schedule_report(account_or_channel text, type text, every interval, span interval default null,
    options jsonb default '{}')
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    target record;
begin
    select * into target from amzmp._resolve(account_or_channel);
    target.channel_id := amzmp._check_report(target.account_id, target.channel_id, type, now() - span, null, options);
    if every is null then
        delete from amzmp.report_schedule as s
        where (s.account_id, s.channel_id, s.type) = (target.account_id, target.channel_id, _schedule_report.type);
        return;
    elsif every < interval '15 minutes' or span <= interval '0' then
        perform amzmp._fail('AZ202', format('reports cannot be asked for every %s', every), 'The flow get_reports runs four times an hour.',
            'Give an interval of at least 15 minutes, and a span of time that has passed.');
    end if;
    insert into amzmp.report_schedule as s (account_id, channel_id, type, every, span, options, set_by)
    values (target.account_id, target.channel_id, type, every, span, options, amzmp._caller())
    on conflict on constraint report_schedule_pkey do update
    set every = excluded.every,
        span = excluded.span,
        options = excluded.options,
        next_at = least(s.next_at, now() + excluded.every),
        set_by = excluded.set_by,
        set_at = now();
    update amzmp.account_flow as f
    set enabled = true
    where (f.account_id, f.channel_id, f.flow) = (target.account_id, 0, 'get_reports');
    perform amzmp._start_clock(target.account_id);
end
$$;

select amzmp._expose('amzmp._schedule_report(text, text, interval, interval, jsonb)', 'amzmp_operator',
    'Ask for a report of a channel or an account again and again, each going back as far as span where the type has a range of time. Null instead of the interval ends it.');

-- Which of these accounts have a report due.
create function amzmp._due_get_reports(account_ids bigint[])
    returns table (account_id bigint, channel_id bigint)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select distinct s.account_id, 0::bigint
    from amzmp.report_schedule as s
    where s.account_id = any (account_ids)
        and s.next_at <= now();
end
$$;

create function amzmp._flow_get_reports(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    amazon_now constant timestamptz := amzmp._now(account_id);
begin
    update amzmp.report_schedule as s
    set report_id = amzmp._request_report(s.account_id, s.channel_id, s.type, amazon_now - s.span, null, s.options,
            jsonb_build_object('flow_run', flow_run_id)),
        next_at = now() + s.every / a.time_scale::double precision
    from amzmp.account as a
    where s.account_id = _flow_get_reports.account_id
        and a.account_id = s.account_id
        and s.next_at <= now();
end
$$;

comment on function amzmp._flow_get_reports(bigint, bigint, bigint) is 'Inner: the flow get_reports: ask for the scheduled reports that are due.';

-- Inner, for health(): types whose last report did not come to its end well.
create function amzmp._report_health()
    returns table (check_name text, state text, detail text, remedy text)
    language sql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
    select format('report %s %s', n.name, r.type), case r.state when 'refused' then 'error' else 'warning' end,
        format('report %s is %s: %s', r.report_id, r.state, r.reason),
        case r.state
            when 'refused' then format('Look at it; if it is true, select amzmp.retry_report(%L, %s);', o.name, r.report_id)
            when 'failed' then format('select amzmp.retry_report(%L, %s);', o.name, r.report_id)
            else format('select amzmp.report_document(%L, %s); may say why. Request it again.', o.name, r.report_id)
        end
    from (
        select distinct on (x.account_id, x.channel_id, x.type) x.*
        from amzmp.report as x
        where x.ended_at is not null
        order by x.account_id, x.channel_id, x.type, x.report_id desc
    ) as r
    join amzmp._names() as n on (n.account_id, n.channel_id) = (r.account_id, r.channel_id)
    join amzmp.name as o on (o.account_id, o.channel_id) = (r.account_id, 0)
    where r.state in ('refused', 'failed', 'fatal')
$$;
