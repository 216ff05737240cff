/*
 * report_request.sql
 *	  Asking for a report: here, then at Amazon, one at a time; and looking for it when the answer was lost.
 */

/*
 * Ask for a report; one under way that is the same serves as well. Returns its number. channel_id 0: the account, with
 * all marketplaces in which it has channels.
 */
create function amzmp._request_report(account_id bigint, channel_id bigint, type text, data_start timestamptz default null,
    data_end timestamptz default null, options jsonb default '{}', cause jsonb default null)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    t constant amzmp.report_type := amzmp._report_type(type);
    wanted_options constant jsonb := t.options || coalesce(options, '{}');
    marketplaces constant text[] := array(
        select distinct c.marketplace_id
        from amzmp.channel as c
        where c.account_id = _request_report.account_id
            and not c.dropped
            and _request_report.channel_id in (0, c.channel_id)
        order by 1
    );
    report bigint;
begin
    -- two that ask at once must not both find none
    perform from amzmp.account as a where a.account_id = _request_report.account_id for no key update;
    select r.report_id into report
    from amzmp.report as r
    where r.account_id = _request_report.account_id
        and r.ended_at is null
        and (r.channel_id, r.type, r.options) = (_request_report.channel_id, _request_report.type, wanted_options)
        and (r.data_start, r.data_end) is not distinct from (_request_report.data_start, _request_report.data_end);
    if report is not null then
        return report;
    end if;
    insert into amzmp.report (account_id, channel_id, type, marketplace_ids, data_start, data_end, options, cause, due_at)
    values (_request_report.account_id, _request_report.channel_id, _request_report.type, marketplaces, _request_report.data_start,
        _request_report.data_end, wanted_options, _request_report.cause,
        amzmp._report_due_at(account_id, channel_id, type, data_start is not null))
    returning report_id into report;
    perform amzmp._create_reports(account_id, '{}');
    return report;
end
$$;

comment on function amzmp._request_report(bigint, bigint, text, timestamptz, timestamptz, jsonb, jsonb) is 'Inner: ask for a report of a channel, or with 0 of the account. Returns the number in amzmp.report; that of the same report where one is under way.';

-- Queue a request about a report.
create function amzmp._report_request(report amzmp.report, operation text, params jsonb, handler text, render text,
    not_before timestamptz)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._enqueue(report.account_id, operation, params, null, handler, render, 70, not_before, report.channel_id,
        'report', report.report_id::text, report.cause);
end;

-- The report that an answer is about, locked; null where it is over.
create function amzmp._report_of(answer amzmp.answer_row)
    returns amzmp.report
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select r
    from amzmp.report as r
    where (r.account_id, r.report_id) = ((answer.request).account_id, (answer.request).subject::bigint)
    for no key update;
end;

/*
 * Ask Amazon for the next report that is due, unless one is being asked for or looked for; come back when the next one
 * falls due. finished: requests that are being completed.
 */
create function amzmp._create_reports(account_id bigint, finished bigint[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    r amzmp.report;
begin
    perform from amzmp.account as a where a.account_id = _create_reports.account_id for no key update;
    if exists (
        select
        from amzmp.request as q
        where (q.account_id, q.subject_kind) = (_create_reports.account_id, 'report')
            and q.operation in ('createReport', 'getReports')
            and q.request_id <> all (finished)
    ) then
        return;
    end if;
    select x.* into r
    from amzmp.report as x
    where x.account_id = _create_reports.account_id
        and x.state = 'requested'
        and x.ended_at is null
    order by x.due_at, x.report_id
    limit 1;
    if r.due_at <= now() and amzmp._may_be_made(r) then
        perform amzmp._seek_report(r);
    elsif r.due_at <= now() then
        perform amzmp._report_request(r, 'createReport', '{}', '_handle_report_created', '_render_report', now());
    elsif r.report_id is not null then
        perform amzmp._add_task(account_id, 'create_reports', '', null, r.due_at);
    end if;
end
$$;

create function amzmp._task_create_reports(account_id bigint, subject text, argument jsonb)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._create_reports(account_id, '{}');
end;

create function amzmp._render_report(claimed amzmp.request[])
    returns table (request_id bigint, params jsonb, body jsonb)
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select q.request_id, '{}'::jsonb, jsonb_strip_nulls(jsonb_build_object('reportType', r.type, 'marketplaceIds', to_jsonb(r.marketplace_ids),
            'dataStartTime', amzmp._iso_time(r.data_start), 'dataEndTime', amzmp._iso_time(r.data_end),
            'reportOptions', nullif(r.options, '{}')))
    from unnest(claimed) as q
    join amzmp.report as r on (r.account_id, r.report_id) = (q.account_id, q.subject::bigint) and r.state = 'requested'
    where r.ended_at is null;
end;

comment on function amzmp._render_report(amzmp.request[]) is 'Inner: bodies of createReport; no row where the report is over.';

-- Amazon has the request.
create function amzmp._report_submitted(report amzmp.report, amazon_report_id text, submitted_at timestamptz)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.report as x
    set state = 'in_queue',
        amazon_report_id = _report_submitted.amazon_report_id,
        submitted_at = _report_submitted.submitted_at,
        tries = 0
    where (x.account_id, x.report_id) = (report.account_id, report.report_id)
    returning x.* into report;
    perform amzmp._poll_report(report);
end
$$;

create function amzmp._handle_report_created(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    a amzmp.answer_row;
    r amzmp.report;
begin
    -- a loop, because there is one of them at a time
    foreach a in array answers
    loop
        r := amzmp._report_of(a);
        continue when r.state is distinct from 'requested' or r.ended_at is not null;
        if a.outcome = 'success' and a.body ->> 'reportId' is not null then
            perform amzmp._report_submitted(r, a.body ->> 'reportId', coalesce((a.request).claimed_at, now()));
        elsif a.outcome in ('lost', 'success') or a.status is null or a.status >= 500 then
            perform amzmp._look_for_report(r, a);
        elsif a.status = 429 then
            perform amzmp._report_too_soon(r);
        else
            perform amzmp._end_report(r, 'failed', amzmp._answer_failure(a));
            if a.status = 403 and r.type = 'GET_MERCHANT_LISTINGS_ALL_DATA' then
                perform amzmp._refresh_instead(r);
            end if;
        end if;
    end loop;
    perform amzmp._create_reports((answers[1].request).account_id,
        array(select (x.request).request_id from unnest(answers) as x));
end
$$;

comment on function amzmp._handle_report_created(amzmp.answer_row[]) is 'Inner: Amazon took the request for a report, or refused it, or nobody knows.';

-- Look whether a request with a lost answer had its effect: at once, and once more a minute later.
create function amzmp._look_for_report(report amzmp.report, answer amzmp.answer_row)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    scale constant double precision := (
        select x.time_scale from amzmp.account as x where x.account_id = report.account_id
    );
    asked_at constant timestamptz := coalesce((answer.request).cause ->> 'asked_at', (answer.request).claimed_at::text, now()::text);
begin
    report.cause := coalesce(report.cause, '{}') || jsonb_build_object('asked_at', asked_at);
    perform amzmp._report_request(report, 'getReports', jsonb_build_object('reportTypes', jsonb_build_array(report.type), 'pageSize', 100,
            'marketplaceIds', to_jsonb(report.marketplace_ids[:10]), 'createdSince',
            amzmp._iso_time(amzmp._now(report.account_id) - (now() - asked_at) * scale - interval '5 minutes')),
        '_handle_report_lookup', null,
        now() + case report.looks when 0 then interval '5 seconds' else interval '1 minute' end / scale);
    update amzmp.report as x
    set looks = x.looks + 1
    where (x.account_id, x.report_id) = (report.account_id, report.report_id);
end
$$;

/*
 * A report there that we do not know, of the same type and range, serves: ours, or one that a person asked for just now.
 * The newest, if there are several. If there is none, it is asked for again.
 */
create function amzmp._handle_report_lookup(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    a amzmp.answer_row;
    r amzmp.report;
    found_id text;
begin
    -- a loop, because there is one of them at a time
    foreach a in array answers
    loop
        r := amzmp._report_of(a);
        continue when r.state is distinct from 'requested' or r.ended_at is not null;
        select e.report ->> 'reportId' into found_id
        from jsonb_array_elements(coalesce(a.body -> 'reports', '[]')) as e (report)
        where e.report ->> 'reportType' = r.type
            and (r.data_start is null or (e.report ->> 'dataStartTime')::timestamptz = date_trunc('second', r.data_start))
            and amzmp._text_array(e.report -> 'marketplaceIds') @> r.marketplace_ids
            and not exists (
                select
                from amzmp.report as x
                where (x.account_id, x.amazon_report_id) = (r.account_id, e.report ->> 'reportId')
            )
        order by e.report ->> 'createdTime' desc
        limit 1;
        if found_id is not null then
            perform amzmp._report_submitted(r, found_id, now());
        elsif r.looks < 2 or a.outcome <> 'success' and r.looks < 5 then
            perform amzmp._look_for_report(r, a);
        else
            update amzmp.report as x
            set looks = 0
            where (x.account_id, x.report_id) = (r.account_id, r.report_id);
        end if;
    end loop;
    perform amzmp._create_reports((answers[1].request).account_id,
        array(select (x.request).request_id from unnest(answers) as x));
end
$$;

comment on function amzmp._handle_report_lookup(amzmp.answer_row[]) is 'Inner: is there a report, though the answer was lost?';
