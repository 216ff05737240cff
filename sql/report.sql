/*
 * report.sql
 *	  Reports: tables that Amazon makes when asked, from the request to what was taken from them.
 *
 *		requested ─▶ in_queue ─▶ in_progress ─▶ done ─▶ downloaded ─▶ applied
 *		(sender)        (sender polls)        (own runner)  (own runner)
 *
 * and out of them: cancelled (by Amazon: no data, or asked again too soon), fatal (Amazon gave up), refused (it cannot be
 * true: nothing was taken from it) and failed. A type from which amzmp takes nothing ends as downloaded.
 *
 * A report is resumed by Amazon's id of it whatever fails in between, and each document is fetched once. createReport is
 * not repeated blindly: one at a time is under way per account, so that after a lost answer getReports tells whether there
 * is a report that we do not know.
 *
 * Amazon has limits that it does not tell: what is asked again too soon comes back cancelled, or as the same document
 * once more. So reports of a type keep a distance, the type's own and what was learned beyond (amzmp.report_pace).
 *
 * Here are the tables and how a report is requested; then report_poll (waiting and fetching), report_reuse (those that were
 * made elsewhere), report_apply (what is taken from it) and report_user (what people do).
 */
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'report_deadline', 'account', 'interval', 'A report has failed after', '"1 day"', 60, 604800,
        'A report that Amazon has not made by then has failed.'),
    (true, 'report_retention', 'account', 'interval', 'Reports are kept', '"30 days"', 3600, 31536000,
        'How long ended reports and their documents are kept.');

create table amzmp.report (
    account_id bigint not null,
    report_id bigint not null default nextval('amzmp.request_id_seq'),
    channel_id bigint not null default 0,
    type text not null,
    marketplace_ids text[] not null,
    data_start timestamptz,
    data_end timestamptz,
    options jsonb not null default '{}',
    state text not null default 'requested',
    reason text,
    amazon_report_id text,
    amazon_document_id text,
    restricted boolean not null default false,
    document_id bigint,
    form text,
    columns text[],
    rows bigint,
    tries smallint not null default 0,
    looks smallint not null default 0,
    polls smallint not null default 0,
    due_at timestamptz not null default now(),
    sought_at timestamptz,
    found boolean not null default false,
    accepted_by name,
    cause jsonb,
    requested_at timestamptz not null default now(),
    submitted_at timestamptz,
    processed_at timestamptz,
    downloaded_at timestamptz,
    ended_at timestamptz,
    primary key (account_id, report_id),
    constraint report_state_check check (state in ('requested', 'in_queue', 'in_progress', 'done', 'downloaded', 'applied',
        'cancelled', 'fatal', 'refused', 'failed'))
);

create index report_open on amzmp.report (account_id, due_at) where ended_at is null;
create index report_type_recent on amzmp.report (account_id, type, report_id desc);
create index report_amazon on amzmp.report (account_id, amazon_report_id);
create index report_amazon_document on amzmp.report (account_id, amazon_document_id);
create index report_document on amzmp.report (account_id, document_id) where document_id is not null;

comment on table amzmp.report is 'Reports that were requested from Amazon, and what became of them. report_rows() shows their rows.';
comment on column amzmp.report.account_id is 'The account.';
comment on column amzmp.report.report_id is 'Our number of the report; it shares its range with requests.';
comment on column amzmp.report.channel_id is 'The channel; 0: the account, with all its marketplaces.';
comment on column amzmp.report.type is 'Amazon''s type of the report.';
comment on column amzmp.report.marketplace_ids is 'The marketplaces that it is about.';
comment on column amzmp.report.data_start is 'Where the range of time begins that it covers; null: Amazon''s own choice.';
comment on column amzmp.report.data_end is 'Where that range ends; null: now.';
comment on column amzmp.report.options is 'Amazon''s options of the report.';
comment on column amzmp.report.state is 'requested, in_queue, in_progress, done (the document is fetched), downloaded, applied; or cancelled (Amazon has no data, or was asked too soon), fatal (Amazon gave up), refused (it cannot be true), failed.';
comment on column amzmp.report.reason is 'Why it is in this state, in words.';
comment on column amzmp.report.amazon_report_id is 'Amazon''s id of the report, unique for the seller only.';
comment on column amzmp.report.amazon_document_id is 'Amazon''s id of the document.';
comment on column amzmp.report.restricted is 'Does Amazon give the document out to a restricted data token only?';
comment on column amzmp.report.document_id is 'Its content. Two reports share one where Amazon gave the same document twice.';
comment on column amzmp.report.form is 'table, json or xml; other: report_document() returns it, and it has no rows.';
comment on column amzmp.report.columns is 'The columns that it has, or the members of its rows.';
comment on column amzmp.report.rows is 'How many rows it has.';
comment on column amzmp.report.tries is 'Failed attempts at the present step.';
comment on column amzmp.report.looks is 'How often it was looked for after a lost answer.';
comment on column amzmp.report.polls is 'How often its state was asked for.';
comment on column amzmp.report.due_at is 'Not requested from Amazon before.';
comment on column amzmp.report.sought_at is 'When Amazon was asked whether there is one that was made elsewhere; see the setting report_reuse.';
comment on column amzmp.report.found is 'Was there one, so that Amazon was not asked for another? Then submitted_at is when that was asked for.';
comment on column amzmp.report.accepted_by is 'Who had a refused report applied all the same.';
comment on column amzmp.report.cause is 'What led to it.';
comment on column amzmp.report.requested_at is 'When it was asked for here.';
comment on column amzmp.report.submitted_at is 'When Amazon was asked for it.';
comment on column amzmp.report.processed_at is 'When Amazon was seen to be done with it.';
comment on column amzmp.report.downloaded_at is 'When its document was here.';
comment on column amzmp.report.ended_at is 'When it was over here; null: it is under way.';

create table amzmp.report_token (
    account_id bigint not null,
    report_id bigint not null,
    token bytea not null,
    primary key (account_id, report_id)
);

comment on table amzmp.report_token is 'Inner: restricted data tokens with which a document is about to be asked for.';
comment on column amzmp.report_token.account_id is 'The account.';
comment on column amzmp.report_token.report_id is 'The report.';
comment on column amzmp.report_token.token is 'The token, sealed: who has it may ask for the document.';

create table amzmp.report_pace (
    account_id bigint not null,
    channel_id bigint not null,
    type text not null,
    spacing interval not null,
    learned_at timestamptz not null default now(),
    primary key (account_id, channel_id, type)
);

comment on table amzmp.report_pace is 'How far apart Amazon wants reports of a type to be asked for, learned from those that it did not make anew.';
comment on column amzmp.report_pace.account_id is 'The account.';
comment on column amzmp.report_pace.channel_id is 'The channel; 0: the account.';
comment on column amzmp.report_pace.type is 'Amazon''s type of the report.';
comment on column amzmp.report_pace.spacing is 'The time between two of them.';
comment on column amzmp.report_pace.learned_at is 'When it was last changed.';

/*
 * Requesting.
 */

/*
 * When the next report of a type may be asked for. The type's own distance holds for those without a range of time: two
 * ranges are two different reports.
 */
create function amzmp._report_due_at(account_id bigint, channel_id bigint, type text, ranged boolean)
    returns timestamptz
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select greatest(now(), max(r.submitted_at + greatest(p.spacing, case when not ranged then t.spacing end, interval '0') / a.time_scale::double precision))
    from amzmp.account as a
    cross join lateral amzmp._report_type(_report_due_at.type) as t
    left join amzmp.report_pace as p
        on (p.account_id, p.channel_id, p.type) = (a.account_id, _report_due_at.channel_id, _report_due_at.type)
    left join lateral (
        select x.submitted_at
        from amzmp.report as x
        where (x.account_id, x.channel_id, x.type) = (a.account_id, _report_due_at.channel_id, _report_due_at.type)
            and x.submitted_at is not null
            and (p.spacing is not null or (x.data_start is not null) = ranged)
        order by x.submitted_at desc
        limit 1
    ) as r on true
    where a.account_id = _report_due_at.account_id;
end;

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

/*
 * What Amazon tolerates.
 */

-- It wants more time between two reports of the type than it got: one and a half times of what it was given, a day at most.
create function amzmp._keep_distance(report amzmp.report, given interval)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    insert into amzmp.report_pace as p (account_id, channel_id, type, spacing)
    values (report.account_id, report.channel_id, report.type, least(greatest(given * 1.5, interval '10 minutes'), interval '1 day'))
    on conflict on constraint report_pace_pkey do update
    set spacing = least(greatest(p.spacing, excluded.spacing), interval '1 day'),
        learned_at = now();
end
$$;

-- The report before this one of the same type, by the clock of the account: how long ago was it asked for?
create function amzmp._since_last_report(report amzmp.report)
    returns interval
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select (coalesce(report.submitted_at, now()) - max(x.submitted_at))
            * (select a.time_scale::double precision from amzmp.account as a where a.account_id = report.account_id)
    from amzmp.report as x
    where (x.account_id, x.channel_id, x.type) = (report.account_id, report.channel_id, report.type)
        and x.report_id <> report.report_id
        and x.submitted_at < coalesce(report.submitted_at, now());
end;

-- Amazon does not want to be asked for it now: later.
create function amzmp._report_too_soon(report amzmp.report)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._keep_distance(report, coalesce(amzmp._since_last_report(report), interval '20 minutes'));
    if report.tries >= 8 then
        perform amzmp._end_report(report, 'failed', 'Amazon refuses to make it so soon after others');
        return;
    end if;
    update amzmp.report as x
    set tries = x.tries + 1,
        due_at = greatest(amzmp._report_due_at(x.account_id, x.channel_id, x.type, x.data_start is not null),
            now() + interval '20 minutes' / (select a.time_scale::double precision from amzmp.account as a where a.account_id = x.account_id)),
        reason = 'Amazon refused it so soon after others; it is asked for again later'
    where (x.account_id, x.report_id) = (report.account_id, report.report_id);
end
$$;

-- It was made anew. Where that was learned to need a distance, try a little less of it next time.
create function amzmp._ease_distance(report amzmp.report)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    update amzmp.report_pace as p
    set spacing = p.spacing * 0.9,
        learned_at = now()
    where (p.account_id, p.channel_id, p.type) = (report.account_id, report.channel_id, report.type)
        and p.spacing > interval '1 minute'
        and amzmp._since_last_report(report) < p.spacing * 1.5;
end;
