/*
 * report_apply.sql
 *	  What is taken from a report that is here, and its end, however it came about. Handlers are described in
 *	  report_type.sql.
 */

create function amzmp._document_rows(account_id bigint, document_id bigint, after bigint, most bigint)
    returns table (place bigint, cells jsonb)
    language c
    stable
    strict
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'amzmp_document_rows';

comment on function amzmp._document_rows(bigint, bigint, bigint, bigint) is 'Inner: rows of a document, those behind row number "after".';

create function amzmp._report_rows(account_id bigint, report_id bigint, after bigint default 0, most bigint default null)
    returns table (place bigint, cells jsonb)
    language sql
    stable
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select d.place, d.cells
    from amzmp.report as r
    cross join lateral amzmp._document_rows(r.account_id, r.document_id, coalesce(_report_rows.after, 0),
        coalesce(_report_rows.most, 9000000000000000)) as d
    where (r.account_id, r.report_id) = (_report_rows.account_id, _report_rows.report_id)
        and coalesce(r.form, 'table') = 'table'
    union all
    select d.place, d.cells
    from amzmp.report as r
    cross join lateral amzmp._tree_rows(r.account_id, r.document_id, r.form) as d
    where (r.account_id, r.report_id) = (_report_rows.account_id, _report_rows.report_id)
        and r.form in ('json', 'xml')
        and r.document_id is not null
        and d.place > coalesce(_report_rows.after, 0)
        and d.place <= coalesce(_report_rows.after, 0) + coalesce(_report_rows.most, 9000000000000000);
end;

comment on function amzmp._report_rows(bigint, bigint, bigint, bigint) is 'Inner: the rows of a report as objects; cells that are empty are left out. No rows when it has no document.';

create function amzmp._stage_report(account_id bigint, document_id bigint, staging regclass)
    returns bigint
    language c
    volatile
    strict
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'amzmp_stage_report';

comment on function amzmp._stage_report(bigint, bigint, regclass) is 'Inner: copy the rows of a document into a table whose text columns are named as the report''s, with _ for -; "place" takes the row''s number, "digest" (bigint) one that is the same for the same cells, "rest" (jsonb) what has no column. Returns how many.';

create function amzmp._report_shape(account_id bigint, document_id bigint, out columns text[], out rows bigint)
    language c
    stable
    strict
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'amzmp_report_shape';

comment on function amzmp._report_shape(bigint, bigint) is 'Inner: the columns of a document, and how many rows it has.';

/*
 * Inner, own runner: hand a report to the handler of its type. What a shop or another of our processes locked is no fault
 * of the report's, and the task is tried again; any other error is the report's end.
 */
create function amzmp._task_report(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    r amzmp.report;
    failed_state text;
    failed_text text;
begin
    select x.* into r
    from amzmp.report as x
    where (x.account_id, x.report_id) = (_task_report.account_id, _task_report.subject::bigint)
        and x.ended_at is null
        and (x.state = 'downloaded' or x.rows = 0)
    for no key update;
    if r.report_id is null then
        return;
    end if;
    begin
        perform amzmp._apply_report(r);
    exception
        when lock_not_available or deadlock_detected or serialization_failure or out_of_memory or admin_shutdown then
            raise;
        when data_corrupted then
            get stacked diagnostics failed_text = message_text;
            perform amzmp._refetch_report(r, failed_text);
        when others then
            get stacked diagnostics failed_state = returned_sqlstate, failed_text = message_text;
            perform amzmp._end_report(r, 'failed', amzmp._safe_report_error(r, failed_state, failed_text));
    end;
end
$$;

-- An error's words may quote what was in a row.
create function amzmp._safe_report_error(report amzmp.report, state text, message text)
    returns text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case
            when (amzmp._report_type(report.type)).personal and state not like 'AZ%' then 'it could not be applied: error ' || state
            else 'it could not be applied: ' || message
        end
$$;

-- The report without some columns: its document is written anew, tab separated.
create function amzmp._leave_out(report amzmp.report, columns text[])
    returns amzmp.report
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    kept constant text[] := array(
        select c.name from unnest(report.columns) with ordinality as c (name, n) where c.name <> all (_leave_out.columns) order by c.n
    );
    document constant bigint := amzmp._new_document(report.account_id, 'text/tab-separated-values; charset=UTF-8');
begin
    perform amzmp._write_document(report.account_id, document, report.report_id, array_to_string(kept, E'\t') || E'\n', format(
            $query$select string_agg(regexp_replace(coalesce(d.cells ->> c.name, ''), '[[:cntrl:]]', ' ', 'g'), E'\t' order by c.n)
                     from amzmp._report_rows($1, $2) as d cross join unnest(%L::text[]) with ordinality as c (name, n)
                    group by d.place order by d.place$query$, kept),
        E'\n', 9000000000000000, E'\n');
    update amzmp.report as x
    set document_id = document,
        columns = kept
    where (x.account_id, x.document_id) = (report.account_id, report.document_id);
    perform amzmp._drop_documents(report.account_id, array[report.document_id]);
    report.document_id := document;
    report.columns := kept;
    return report;
end
$$;

create function amzmp._apply_report(report amzmp.report)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    t constant amzmp.report_type := amzmp._report_type(report.type);
    shape record;
    told text;
begin
    if report.document_id is not null and report.columns is null then
        shape := amzmp._shape_of(report);
        update amzmp.report as x
        set form = shape.form,
            columns = shape.columns,
            rows = shape.rows
        where (x.account_id, x.report_id) = (report.account_id, report.report_id)
        returning x.* into report;
    end if;
    if report.form = 'table' and report.columns && t.buyer_columns then
        report := amzmp._leave_out(report, t.buyer_columns);
    end if;
    if t.handler is null then
        perform amzmp._end_report(report, 'downloaded', null);
        return;
    end if;
    execute format('select amzmp.%I($1)', t.handler) into told using report;
    select x.* into report
    from amzmp.report as x
    where (x.account_id, x.report_id) = (report.account_id, report.report_id);
    perform amzmp._end_report(report, case report.state when 'refused' then 'refused' else 'applied' end, told);
end
$$;

-- What a document is, the columns that it has, and how many rows. What is neither a table nor JSON nor XML has none.
create function amzmp._shape_of(report amzmp.report, out form text, out columns text[], out rows bigint)
    language plpgsql
    stable
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    begin
        select 'table', s.columns, s.rows into form, columns, rows
        from amzmp._report_shape(report.account_id, report.document_id) as s;
        return;
    exception
        when sqlstate 'AZ004' then
            form := amzmp._content_form(amzmp._read_document(report.account_id, report.document_id));
    end;
    with row_of as materialized (
        select t.cells from amzmp._tree_rows(report.account_id, report.document_id, form) as t
    )
    select array(select distinct k.name from row_of as r cross join lateral jsonb_object_keys(r.cells) as k (name) order by 1),
        (select count(*) from row_of)
    into columns, rows;
exception
    when sqlstate 'AZ004' then
        form := 'other';
        columns := '{}';
end
$$;

-- What arrived is no whole document: fetch it once more.
create function amzmp._refetch_report(report amzmp.report, problem text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    broken constant bigint := report.document_id;
begin
    update amzmp.report as x
    set state = 'done',
        document_id = null,
        downloaded_at = null
    where (x.account_id, x.report_id) = (report.account_id, report.report_id)
    returning x.* into report;
    perform amzmp._drop_report_documents(report.account_id, array[broken]);
    report.reason := problem;
    perform amzmp._fetch_report_document(report);
end
$$;

-- Documents that no report names any more.
create function amzmp._drop_report_documents(account_id bigint, document_ids bigint[])
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._drop_documents(account_id, array(
                select d.id
                from unnest(document_ids) as d (id)
                where not exists (
                        select
                        from amzmp.report as r
                        where (r.account_id, r.document_id) = (_drop_report_documents.account_id, d.id)
                    )
            ));
end;

create function amzmp._end_report(report amzmp.report, state text, reason text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.report as x
    set state = _end_report.state,
        reason = coalesce(_end_report.reason, x.reason),
        ended_at = now()
    where (x.account_id, x.report_id) = (report.account_id, report.report_id);
    delete from amzmp.report_token as t
    where (t.account_id, t.report_id) = (report.account_id, report.report_id);
    perform amzmp._log(report.account_id, report.channel_id,
        case when state in ('applied', 'downloaded', 'cancelled') then 'info' else 'warning' end,
        'report', report.report_id::text, format('%s %s%s', report.type, state, ': ' || reason));
end
$$;

-- Inner, housekeeping.
create function amzmp._purge_reports(account_id bigint, older_than interval)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    gone amzmp.report[];
begin
    with old as (
        delete from amzmp.report as r
        where r.account_id = _purge_reports.account_id
            and r.ended_at < now() - older_than
        returning r as report
    )
    select array_agg(o.report) into gone from old as o;
    perform amzmp._drop_report_documents(account_id, array(
            select distinct g.document_id from unnest(gone) as g where g.document_id is not null
        ));
    return coalesce(cardinality(gone), 0);
end
$$;
