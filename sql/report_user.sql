/*
 * report_user.sql
 *	  What people do with reports: request, look at rows and documents, poll, cancel, try again, purge.
 */

create function amzmp._request_report(account_or_channel text, type text, data_start timestamptz default null,
    data_end timestamptz default null, options jsonb default '{}')
    returns bigint
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
    return amzmp._request_report(target.account_id,
        amzmp._check_report(target.account_id, target.channel_id, type, data_start, data_end, options),
        type, data_start, data_end, options, jsonb_build_object('role', amzmp._caller(), 'at', now(), 'verb', 'request_report'));
end
$$;

select amzmp._expose('amzmp._request_report(text, text, timestamptz, timestamptz, jsonb)', 'amzmp_operator',
    'Ask Amazon for a report of a channel, or of an account with all its marketplaces, for a range of time where the type has one. Returns its number in amzmp.report; that of the same report where one is under way.');

-- May the caller ask for this report? Returns the channel that it is about; 0: the account.
create function amzmp._check_report(account_id bigint, channel_id bigint, type text, data_start timestamptz, data_end timestamptz,
    options jsonb)
    returns bigint
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
declare
    t constant amzmp.report_type := amzmp._report_type(type);
begin
    if type is null or type !~ '^[A-Z][A-Z0-9_]{0,99}$' then
        perform amzmp._fail('AZ202', format('%L is no type of a report', type), 'Types are in capital letters, with underscores.',
            'select name, title from amzmp.report_type; lists those that amzmp knows.');
    elsif coalesce(data_start >= coalesce(data_end, now()), false) or data_start > now() or data_end is not null and data_start is null then
        perform amzmp._fail('AZ202', 'the range of time of a report must begin before it ends, and before now', null,
            'Give data_start, or data_start and data_end, or neither.');
    elsif coalesce(coalesce(data_end, now()) - data_start > t.longest + interval '1 hour', false) then
        perform amzmp._fail('AZ202', format('a report of type %s covers %s at most', type, t.longest), null,
            'Ask for several reports, one after the other in time.');
    elsif jsonb_typeof(options) is distinct from 'object' or jsonb_path_exists(options, '$.* ? (@.type() <> "string")') then
        perform amzmp._fail('AZ202', 'the options of a report must be a JSON object of strings', null,
            'For example {"preferredReportDocumentLocale": "en_GB"}.');
    elsif t.personal and not pg_has_role(amzmp._caller(), 'amzmp_buyer_data', 'usage') then
        perform amzmp._fail('42501', format('reports of type %s hold buyers'' data', type), 'Types that amzmp does not know count as such.',
            format('GRANT amzmp_buyer_data TO %I;', amzmp._caller()));
    end if;
    return case when t.one_marketplace and channel_id = 0 then amzmp._only_channel(account_id, type) else channel_id end;
end
$$;

-- The channel that an account without others must mean.
create function amzmp._only_channel(account_id bigint, type text)
    returns bigint
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    channels constant bigint[] := array(
        select c.channel_id from amzmp.channel as c where c.account_id = _only_channel.account_id and not c.dropped
    );
begin
    if cardinality(channels) <> 1 then
        perform amzmp._fail('AZ202', format('a report of type %s is about one marketplace', type), null,
            format('select amzmp.request_report(''<channel>'', %L);', type));
    end if;
    return channels[1];
end
$$;

-- A report of an account that the caller may look into; leaves a trace where it is personal.
create function amzmp._report(account text, report_id bigint)
    returns amzmp.report
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    a constant amzmp.account := amzmp._account(account);
    r amzmp.report;
begin
    select x.* into r
    from amzmp.report as x
    where (x.account_id, x.report_id) = (a.account_id, _report.report_id);
    if r.report_id is null then
        perform amzmp._fail('AZ201', format('account "%s" has no report %s', a.name, report_id), null,
            'select * from amzmp.report; lists them.');
    end if;
    return r;
end
$$;

create function amzmp._readable_report(account text, report_id bigint)
    returns amzmp.report
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    r constant amzmp.report := amzmp._report(account, report_id);
begin
    if not (amzmp._report_type(r.type)).personal then
        return r;
    elsif not pg_has_role(amzmp._caller(), 'amzmp_buyer_data', 'usage') then
        perform amzmp._fail('42501', format('report %s holds buyers'' data', report_id), null,
            format('GRANT amzmp_buyer_data TO %I;', amzmp._caller()));
    end if;
    perform amzmp._log_access(format('report %s of account %s opened by %s', r.report_id, r.account_id, amzmp._caller()));
    return r;
end
$$;

create function amzmp._report_rows(account text, report_id bigint, after bigint default 0, most bigint default null)
    returns table (place bigint, cells jsonb)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    r constant amzmp.report := amzmp._readable_report(account, report_id);
begin
    return query
    select d.place, d.cells
    from amzmp._report_rows(r.account_id, r.report_id, _report_rows.after, _report_rows.most) as d;
end
$$;

select amzmp._expose('amzmp._report_rows(text, bigint, bigint, bigint)', 'amzmp_reader',
    'The rows of a report, each as an object with the columns'' English names in lower case; empty cells are left out. All in memory: of a large report take a part by after and most. Reports with buyers'' data need the role amzmp_buyer_data.');

create function amzmp._report_document(account text, report_id bigint)
    returns bytea
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    r constant amzmp.report := amzmp._readable_report(account, report_id);
begin
    return amzmp._read_document(r.account_id, r.document_id);
end
$$;

select amzmp._expose('amzmp._report_document(text, bigint)', 'amzmp_reader',
    'The document of a report, unpacked, in the character set in which it came; null while there is none. Reports with buyers'' data need the role amzmp_buyer_data.');

create function amzmp._poll_report(account text, report_id bigint)
    returns boolean
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    r constant amzmp.report := amzmp._report(account, report_id);
begin
    return amzmp._poll_report_now(r.account_id, r.report_id);
end
$$;

select amzmp._expose('amzmp._poll_report(text, bigint)', 'amzmp_operator',
    'Ask for the state of a report now. False when it is not waiting for Amazon.');

/*
 * A report that is there already: made by Amazon itself (settlements), by a schedule there, or in the seller's portal.
 */
create function amzmp._fetch_report(account_or_channel text, type text, amazon_report_id text)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    target record;
    r amzmp.report;
begin
    select * into target from amzmp._resolve(account_or_channel);
    target.channel_id := amzmp._check_report(target.account_id, target.channel_id, type, null, null, '{}');
    if coalesce(amazon_report_id, '') !~ '^[0-9]{1,40}$' then
        perform amzmp._fail('AZ202', format('%L is not Amazon''s id of a report', amazon_report_id), null,
            format('select amzmp.call(%L, ''getReports'', %L); lists them.', account_or_channel, jsonb_build_object('reportTypes', jsonb_build_array(type))));
    end if;
    perform from amzmp.account as a where a.account_id = target.account_id for no key update;
    select x.* into r
    from amzmp.report as x
    where (x.account_id, x.amazon_report_id) = (target.account_id, _fetch_report.amazon_report_id);
    if r.report_id is null then
        insert into amzmp.report as x (account_id, channel_id, type, marketplace_ids, state, amazon_report_id, submitted_at, cause)
        values (target.account_id, target.channel_id, type, '{}', 'in_queue', amazon_report_id, now(),
            jsonb_build_object('role', amzmp._caller(), 'at', now(), 'verb', 'fetch_report'))
        returning x.* into r;
        perform amzmp._poll_report(r);
        perform amzmp._poll_report_now(r.account_id, r.report_id);
    end if;
    return r.report_id;
end
$$;

select amzmp._expose('amzmp._fetch_report(text, text, text)', 'amzmp_operator',
    'Fetch a report that Amazon has already, by Amazon''s id of it: one that Amazon makes itself (settlements), or one made in the seller''s portal. Returns its number in amzmp.report.');

create function amzmp._cancel_report(account text, report_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    r constant amzmp.report := amzmp._report(account, report_id);
begin
    if r.ended_at is not null then
        perform amzmp._fail('AZ203', format('report %s has ended', r.report_id), format('It is %s.', r.state));
    end if;
    delete from amzmp.request as q
    where (q.account_id, q.subject_kind, q.subject) = (r.account_id, 'report', r.report_id::text)
        and q.state = 'due'
        and not q.in_doubt;
    if r.state = 'in_queue' then
        perform amzmp._report_request(r, 'cancelReport', jsonb_build_object('reportId', r.amazon_report_id), null, null, now());
    end if;
    perform amzmp._end_report(r, 'cancelled', format('cancelled by %s', amzmp._caller()));
    perform amzmp._create_reports(r.account_id, '{}');
end
$$;

select amzmp._expose('amzmp._cancel_report(text, bigint)', 'amzmp_operator',
    'Give up a report that is under way.');

create function amzmp._retry_report(account text, report_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    r amzmp.report := amzmp._report(account, report_id);
begin
    if r.ended_at is null then
        perform amzmp._fail('AZ203', format('report %s is under way', r.report_id), format('It is %s.', r.state));
    elsif r.amazon_report_id is null and r.document_id is null then
        perform amzmp._fail('AZ203', format('report %s was never made', r.report_id), r.reason, 'Request it again.');
    end if;
    update amzmp.report as x
    set ended_at = null,
        tries = 0,
        polls = 0,
        state = case
            when x.document_id is not null then 'downloaded'
            when x.amazon_document_id is not null then 'done'
            else 'in_queue'
        end,
        rows = case when x.document_id is not null then x.rows end,
        submitted_at = case when x.amazon_document_id is null then now() else x.submitted_at end,
        accepted_by = case when x.state = 'refused' then amzmp._caller() end
    where (x.account_id, x.report_id) = (r.account_id, r.report_id)
    returning x.* into r;
    perform amzmp._log(r.account_id, r.channel_id, 'notice', 'report', r.report_id::text, format('tried again by %s', amzmp._caller()));
    perform amzmp._resume_reports(r.account_id);
end
$$;

select amzmp._expose('amzmp._retry_report(text, bigint)', 'amzmp_operator',
    'Go on with a report that has failed, from where it stopped. One that was refused is applied all the same.');

create function amzmp._purge_reports(account text, older_than interval)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    a constant amzmp.account := amzmp._account(account);
begin
    return amzmp._purge_reports(a.account_id, older_than);
end
$$;

select amzmp._expose('amzmp._purge_reports(text, interval)', 'amzmp_operator',
    'Remove ended reports that are older than an interval, with their documents. Returns how many.');
