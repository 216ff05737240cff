/*
 * report_reuse.sql
 *	  A report that Amazon has already serves as well as a new one: made in the seller's portal, by a schedule there or by
 *	  another application. Before one is asked for, Amazon is asked once whether there is one that is young enough (the setting
 *	  report_reuse); it goes on as if we had asked for it then.
 *
 *		requested ──getReports──▶ found: in_queue (report.found) │ none, or no answer: createReport, as without it
 *
 * Only for reports without a range of time and without options: what options another one was made with is not told.
 */
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'report_reuse', 'account', 'interval', 'Reports made elsewhere may be old', '"01:00:00"', 0, 172800,
        'A report of the same type and marketplaces that was made elsewhere, and is no older than this, is fetched instead of asking for another; 0: it never is.');

-- Could there be one, and has nobody looked yet?
create function amzmp._may_be_made(report amzmp.report)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    t constant amzmp.report_type := amzmp._report_type(report.type);
begin
    return report.sought_at is null
        and report.data_start is null
        and t.longest is null
        and report.options = '{}'
        and cardinality(report.marketplace_ids) between 1 and 10
        and amzmp._setting_interval(report.account_id, 0, 'report_reuse') > interval '0';
end
$$;

create function amzmp._seek_report(report amzmp.report)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._report_request(report, 'getReports', jsonb_build_object('reportTypes', jsonb_build_array(report.type), 'pageSize', 100,
            'marketplaceIds', to_jsonb(report.marketplace_ids), 'processingStatuses', '["DONE", "IN_QUEUE", "IN_PROGRESS"]'::jsonb,
            'createdSince', amzmp._iso_time(amzmp._now(report.account_id) - amzmp._setting_interval(report.account_id, 0, 'report_reuse'))),
        '_handle_reports_sought', null, now());
    update amzmp.report as x
    set sought_at = now()
    where (x.account_id, x.report_id) = (report.account_id, report.report_id);
end
$$;

-- A time that has passed there, by our clock: a mock account's hours may pass faster.
create function amzmp._our_time(account_id bigint, there timestamptz)
    returns timestamptz
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select least(now(), now() - (amzmp._now(a.account_id) - _our_time.there) / a.time_scale::double precision)
    from amzmp.account as a
    where a.account_id = _our_time.account_id;
end;

/*
 * The youngest that is about the same marketplaces and is none of ours. Ours were used already, and how far apart they are
 * has its own rules.
 */
create function amzmp._handle_reports_sought(answers amzmp.answer_row[])
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
    found jsonb;
begin
    -- a loop, because there is one of them at a time
    foreach a in array answers
    loop
        r := amzmp._report_of(a);
        continue when r.state is distinct from 'requested' or r.ended_at is not null or a.outcome <> 'success';
        select e.report into found
        from jsonb_array_elements(coalesce(a.body -> 'reports', '[]')) as e (report)
        where e.report ->> 'reportType' = r.type
            and amzmp._text_array(e.report -> 'marketplaceIds') @> r.marketplace_ids
            and amzmp._text_array(e.report -> 'marketplaceIds') <@ r.marketplace_ids
            and not exists (
                select
                from amzmp.report as x
                where (x.account_id, x.amazon_report_id) = (r.account_id, e.report ->> 'reportId')
            )
        order by (e.report ->> 'createdTime')::timestamptz desc
        limit 1;
        if found is not null then
            update amzmp.report as x
            set found = true
            where (x.account_id, x.report_id) = (r.account_id, r.report_id);
            perform amzmp._report_submitted(r, found ->> 'reportId', amzmp._our_time(r.account_id, (found ->> 'createdTime')::timestamptz));
            perform amzmp._poll_report_now(r.account_id, r.report_id);
        end if;
    end loop;
    perform amzmp._create_reports((answers[1].request).account_id,
        array(select (x.request).request_id from unnest(answers) as x));
end
$$;

comment on function amzmp._handle_reports_sought(amzmp.answer_row[]) is 'Inner: has Amazon a report that serves? If not, it is asked for one.';
