/*
 * report_poll.sql
 *	  Waiting for a report to be made at Amazon, and fetching its document, once.
 */

create function amzmp._poll_report(report amzmp.report)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._report_request(report, 'getReport', jsonb_build_object('reportId', report.amazon_report_id),
        '_handle_report_state', null, now() + amzmp._poll_pause(report.account_id, report.polls));
    update amzmp.report as x
    set polls = x.polls + 1
    where (x.account_id, x.report_id) = (report.account_id, report.report_id);
end
$$;

-- Ask now instead of later. False when the report does not wait for Amazon.
create function amzmp._poll_report_now(account_id bigint, report_id bigint)
    returns boolean
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.request as q
    set not_before = now()
    where (q.account_id, q.subject_kind, q.subject) = (_poll_report_now.account_id, 'report', _poll_report_now.report_id::text)
        and q.operation = 'getReport'
        and q.state = 'due';
    perform amzmp._wake();
    return found;
end
$$;

create function amzmp._report_finished(account_id bigint, amazon_report_id text)
    returns boolean
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(bool_or(amzmp._poll_report_now(r.account_id, r.report_id)), false)
    from amzmp.report as r
    where (r.account_id, r.amazon_report_id) = (_report_finished.account_id, _report_finished.amazon_report_id)
        and r.ended_at is null;
end;

comment on function amzmp._report_finished(bigint, text) is 'Inner: a notification says that Amazon has ended a report; ask for its state now. False when it is none that we wait for.';

create function amzmp._handle_report_state(answers amzmp.answer_row[])
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
    -- a loop, because each takes another way and there are few
    foreach a in array answers
    loop
        r := amzmp._report_of(a);
        continue when r.state is null or r.state not in ('in_queue', 'in_progress');
        case coalesce(a.body ->> 'processingStatus', '')
            when 'DONE', 'FATAL' then
                perform amzmp._report_processed(r, a.body);
            when 'CANCELLED' then
                perform amzmp._report_cancelled(r);
            else
                perform amzmp._report_goes_on(r, a);
        end case;
    end loop;
end
$$;

comment on function amzmp._handle_report_state(amzmp.answer_row[]) is 'Inner: how far Amazon is with a report.';

-- Not ended yet: ask again later. Past its deadline it has failed.
create function amzmp._report_goes_on(report amzmp.report, answer amzmp.answer_row)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.report as x
    set state = case answer.body ->> 'processingStatus' when 'IN_PROGRESS' then 'in_progress' else x.state end
    where (x.account_id, x.report_id) = (report.account_id, report.report_id)
    returning x.* into report;
    if now() > report.submitted_at + amzmp._account_interval(report.account_id, 0, 'report_deadline') then
        perform amzmp._end_report(report, 'failed', format('Amazon has not made it after %s',
                amzmp._setting_interval(report.account_id, 0, 'report_deadline')));
    else
        perform amzmp._poll_report(report);
    end if;
end
$$;

/*
 * Amazon cancels what has no rows, and what is asked for again too soon, and does not say which. For a type that is empty
 * then, it is taken as empty. For others it is a matter of time, if it is less than a day since the last one.
 */
create function amzmp._report_cancelled(report amzmp.report)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    t constant amzmp.report_type := amzmp._report_type(report.type);
    given constant interval := amzmp._since_last_report(report);
begin
    if t.empty_when_cancelled and t.handler is not null then
        update amzmp.report as x
        set processed_at = now(),
            rows = 0,
            reason = 'Amazon cancelled it: there are no rows'
        where (x.account_id, x.report_id) = (report.account_id, report.report_id);
        perform amzmp._add_task(report.account_id, 'report', report.report_id::text, null, now());
    elsif t.empty_when_cancelled then
        perform amzmp._end_report(report, 'cancelled', 'Amazon cancelled it: there are no rows');
    elsif given < interval '1 day' then
        perform amzmp._keep_distance(report, given);
        perform amzmp._end_report(report, 'cancelled', 'Amazon cancelled it, most likely because it was asked for too soon after the last one');
    else
        perform amzmp._end_report(report, 'cancelled', 'Amazon cancelled it; it has no rows for it');
    end if;
end
$$;

/*
 * Amazon is done with it. A fatal one may have a document that says why. A document that we have already, from an earlier
 * report, is not fetched again: Amazon was asked too soon.
 */
create function amzmp._report_processed(report amzmp.report, status jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    fatal constant boolean := status ->> 'processingStatus' = 'FATAL';
    document_name constant text := status ->> 'reportDocumentId';
    known bigint;
begin
    select x.document_id into known
    from amzmp.report as x
    where (x.account_id, x.amazon_document_id) = (report.account_id, document_name)
        and x.report_id <> report.report_id
        and x.document_id is not null
    limit 1;
    update amzmp.report as x
    set state = case when fatal then 'fatal' else 'done' end,
        reason = case when fatal then 'Amazon gave up on it' end,
        processed_at = now(),
        amazon_document_id = document_name,
        document_id = known,
        restricted = (amzmp._report_type(x.type)).restricted,
        tries = 0
    where (x.account_id, x.report_id) = (report.account_id, report.report_id)
    returning x.* into report;
    if document_name is null then
        perform amzmp._end_report(report, 'fatal', coalesce(report.reason, 'Amazon has no document of it'));
    elsif known is not null then
        perform amzmp._keep_distance(report, amzmp._since_last_report(report));
        perform amzmp._report_is_here(report);
    else
        perform amzmp._ease_distance(report);
        perform amzmp._fetch_report_document(report);
    end if;
end
$$;

/*
 * The document.
 */

/*
 * Ask where it is; after a failure once more a little later. A link lives five minutes, so another try begins here. Where
 * Amazon wants a restricted data token, that is asked for first.
 */
create function amzmp._fetch_report_document(report amzmp.report)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    not_before constant timestamptz := (
        select now() + report.tries * interval '1 minute' / a.time_scale::double precision
        from amzmp.account as a
        where a.account_id = report.account_id
    );
begin
    if report.tries >= 5 then
        perform amzmp._end_report(report, case report.state when 'fatal' then 'fatal' else 'failed' end,
            coalesce('its document could not be fetched: ' || report.reason, 'its document could not be fetched'));
        return;
    end if;
    if report.restricted then
        perform amzmp._enqueue(report.account_id, 'createRestrictedDataToken', '{}', jsonb_build_object('restrictedResources',
                jsonb_build_array(jsonb_build_object('method', 'GET', 'path', '/reports/2021-06-30/documents/' || report.amazon_document_id))),
            '_handle_report_token', null, 70, not_before, report.channel_id, 'report', report.report_id::text, report.cause);
    else
        perform amzmp._report_request(report, 'getReportDocument', jsonb_build_object('reportDocumentId', report.amazon_document_id),
            '_handle_report_document', null, not_before);
    end if;
    update amzmp.report as x
    set tries = x.tries + 1,
        restricted = report.restricted
    where (x.account_id, x.report_id) = (report.account_id, report.report_id);
end
$$;

create function amzmp._awaits_document(report amzmp.report)
    returns boolean
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(report.state in ('done', 'fatal') and report.document_id is null and report.ended_at is null, false)
$$;

create function amzmp._handle_report_token(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    a amzmp.answer_row;
    r amzmp.report;
begin
    -- a loop, because each has a document of its own
    foreach a in array answers
    loop
        r := amzmp._report_of(a);
        continue when not amzmp._awaits_document(r);
        if a.outcome = 'success' and a.body ->> 'restrictedDataToken' is not null then
            insert into amzmp.report_token as t (account_id, report_id, token)
            values (r.account_id, r.report_id, amzmp._seal(a.body ->> 'restrictedDataToken', 'restricted_token', r.account_id || '/' || r.report_id))
            on conflict on constraint report_token_pkey do update
            set token = excluded.token;
            perform amzmp._report_request(r, 'getReportDocument', jsonb_build_object('reportDocumentId', r.amazon_document_id),
                '_handle_report_document', '_render_report_document', now());
        else
            r.reason := amzmp._answer_failure(a);
            perform amzmp._fetch_report_document(r);
        end if;
    end loop;
end
$$;

comment on function amzmp._handle_report_token(amzmp.answer_row[]) is 'Inner: a token for a report''s document; ask where that is.';

create function amzmp._render_report_document(claimed amzmp.request[])
    returns table (request_id bigint, params jsonb, body jsonb)
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select q.request_id,
        q.params || jsonb_build_object('restrictedDataToken', amzmp._open(t.token, 'restricted_token', t.account_id || '/' || t.report_id)),
        null::jsonb
    from unnest(claimed) as q
    join amzmp.report_token as t on (t.account_id, t.report_id) = (q.account_id, q.subject::bigint);
end;

comment on function amzmp._render_report_document(amzmp.request[]) is 'Inner: getReportDocument with the restricted data token that it needs.';

create function amzmp._handle_report_document(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    a amzmp.answer_row;
    r amzmp.report;
begin
    -- a loop, because each has a document of its own
    foreach a in array answers
    loop
        delete from amzmp.report_token as t
        where (t.account_id, t.report_id) = ((a.request).account_id, (a.request).subject::bigint);
        r := amzmp._report_of(a);
        continue when not amzmp._awaits_document(r);
        if a.outcome = 'success' and a.body ->> 'url' is not null then
            perform amzmp._add_transfer(r.account_id, 'report/' || r.report_id,
                amzmp._new_document(r.account_id, 'application/octet-stream', t.personal or t.buyer_columns <> '{}'), a.body ->> 'url')
            from amzmp._report_type(r.type) as t;
        else
            r.restricted := r.restricted or coalesce(a.status = 403, false);
            r.reason := amzmp._answer_failure(a);
            perform amzmp._fetch_report_document(r);
        end if;
    end loop;
end
$$;

comment on function amzmp._handle_report_document(amzmp.answer_row[]) is 'Inner: where a report''s document is; fetch it. One that Amazon denies may need a restricted data token.';

-- A download is over.
create function amzmp._report_downloaded(account_id bigint, report_id bigint, document_id bigint, done boolean, failure text)
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
    update amzmp.report as x
    set document_id = case when done then _report_downloaded.document_id end
    where (x.account_id, x.report_id) = (_report_downloaded.account_id, _report_downloaded.report_id)
        and x.state in ('done', 'fatal')
        and x.ended_at is null
        and x.document_id is null
    returning x.* into r;
    if not done or r.report_id is null then
        perform amzmp._drop_documents(account_id, array[document_id]);
    end if;
    if done and r.report_id is not null then
        perform amzmp._report_is_here(r);
    elsif r.report_id is not null then
        r.reason := failure;
        perform amzmp._fetch_report_document(r);
    end if;
end
$$;

-- The document is in our hands: an own runner takes it from here.
create function amzmp._report_is_here(report amzmp.report)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.report as x
    set state = case x.state when 'fatal' then 'fatal' else 'downloaded' end,
        downloaded_at = now()
    where (x.account_id, x.report_id) = (report.account_id, report.report_id)
    returning x.* into report;
    if report.state = 'fatal' then
        perform amzmp._end_report(report, 'fatal', 'Amazon gave up on it; report_document() shows why');
    else
        perform amzmp._add_task(report.account_id, 'report', report.report_id::text, null, now());
    end if;
end
$$;

/*
 * What fell between two steps goes on: reports under way with nothing queued for them. Part of housekeeping, and needed
 * only where a request was cancelled by a person or its answer could not be treated.
 */
create function amzmp._resume_reports(account_id bigint)
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
    -- a loop, because each goes on another way and there are few
    for r in
        select x.*
        from amzmp.report as x
        where x.account_id = _resume_reports.account_id
            and x.ended_at is null
            and x.state <> 'requested'
            and not exists (
                select
                from amzmp.request as q
                where (q.account_id, q.subject_kind, q.subject) = (x.account_id, 'report', x.report_id::text)
            )
            and not exists (
                select from amzmp.task as t where (t.account_id, t.kind, t.subject) = (x.account_id, 'report', x.report_id::text)
            )
            and not exists (
                select from amzmp.transfer as t where (t.account_id, t.subject) = (x.account_id, 'report/' || x.report_id)
            )
        for no key update
    loop
        if r.state in ('in_queue', 'in_progress') and r.rows is null then
            perform amzmp._poll_report(r);
        elsif r.state in ('done', 'fatal') then
            perform amzmp._fetch_report_document(r);
        else
            perform amzmp._add_task(r.account_id, 'report', r.report_id::text, null, now());
        end if;
    end loop;
    perform amzmp._create_reports(account_id, '{}');
end
$$;
