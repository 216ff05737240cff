/*
 * personal_data.sql
 *	  When buyers' data goes by itself, from wherever it is: the flow purge_personal_data, dropped accounts, and what an
 *	  auditor asks, personal_data().
 *
 *	 place                    goes
 *	 order_buyer              personal_data_retention after the delivery (_personal_until), in the night before
 *	 parked_order             with its import, or as old as that if it never is
 *	 task (handler)           when the user's handler has taken the answer, or as old as personal_data_retention
 *	 document of a report     a day after a handler took it; else when the oldest order in it may be past its time
 *	 kept bodies              of an order with the order; of anything else that holds buyers, the next night
 *
 * Invoices go with Amazon's verdict (invoice.sql), answers with their application. The flow runs whatever became of the
 * account (flow.needs): data of one that is switched off grows old too.
 */

-- Until when the data of an order may be kept: counted from the delivery, or from what comes nearest to it: the end of the
-- promised window, and for a cancelled order its last change.
create function amzmp._personal_until(o amzmp.orders, retention interval)
    returns timestamptz
    language sql
    stable
    parallel safe
begin atomic
    select case when o.status = 'CANCELLED' then o.last_updated_at else coalesce(o.arrived_at, o.deliver_by, o.last_updated_at) end + retention;
end;

-- By how much the flow, which runs once a day, is ahead of what is past its time: or it would be kept for up to a day longer than it may.
create function amzmp._purge_ahead(retention interval)
    returns interval
    language sql
    immutable
    parallel safe
begin atomic
    select least(interval '1 day', retention);
end;

/* ---- kept bodies ---- */

-- Forget what is kept of calls that hold many buyers, and of those about these orders.
create function amzmp._forget_bodies(account_id bigint, order_ids text[])
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    update amzmp.request_log as l
    set answer_body = null,
        sent_body = null
    where l.account_id = _forget_bodies.account_id
        and (l.answer_body is not null or l.sent_body is not null)
        and (l.subject_kind = 'order' and l.subject = any (order_ids)
            or l.subject_kind is distinct from 'order'
                and l.operation in (select o.name from amzmp.operation as o where o.personal));
end;

/* ---- reports ---- */

create function amzmp._personal_reports(account_id bigint)
    returns setof amzmp.report
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select r
    from amzmp.report as r
    where r.account_id = _personal_reports.account_id
        and r.document_id is not null
        and (amzmp._report_type(r.type)).personal
$$;

-- Until when a report that is over may be kept. Orders may have been delivered on the day on which its range begins, but a
-- night is left to read it in any case.
create function amzmp._report_until(r amzmp.report, retention interval)
    returns timestamptz
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case
            when (amzmp._report_type(r.type)).handler is not null then r.ended_at + interval '1 day'
            else greatest(r.ended_at + interval '1 day', coalesce(r.data_start, r.ended_at) + retention - amzmp._purge_ahead(retention))
        end
$$;

-- Does a report name one of these orders? One that has no rows to look into counts as if it did.
create function amzmp._names_orders(r amzmp.report, order_ids text[])
    returns boolean
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return r.form is null
        or r.form = 'other'
        or exists (
            select
            from amzmp._report_rows(r.account_id, r.report_id) as c
            cross join lateral jsonb_path_query(c.cells, 'strict $.** ? (@.type() == "string")') as v (value)
            where v.value #>> '{}' = any (order_ids)
        );
end
$$;

-- Remove documents; the reports stay, and say so. retry_report() fetches one anew while Amazon has it.
create function amzmp._forget_reports(account_id bigint, report_ids bigint[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    documents constant bigint[] := array(
        select r.document_id
        from amzmp.report as r
        where r.account_id = _forget_reports.account_id
            and r.report_id = any (report_ids)
    );
begin
    -- two reports share a document where Amazon gave the same one twice
    update amzmp.report as r
    set document_id = null,
        reason = concat_ws('; ', r.reason, 'its document was removed, because it held buyers'' data')
    where r.account_id = _forget_reports.account_id
        and r.document_id = any (documents);
    perform amzmp._drop_documents(account_id, documents);
end
$$;

/* ---- the flow ---- */

create function amzmp._purge_orders(account_id bigint, retention interval)
    returns text[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc alias for $1;
    clock constant timestamptz := amzmp._now(acc);
    purged text[];
begin
    with removed as (
        delete from amzmp.order_buyer as b
        using amzmp.orders as o
        where b.account_id = acc
            and o.account_id = acc
            and o.amazon_order_id = b.amazon_order_id
            and amzmp._personal_until(o, retention) < clock + amzmp._purge_ahead(retention)
        returning b.amazon_order_id
    ), marked as (
        update amzmp.orders as o
        set personal_purged_at = now()
        from removed as r
        where o.account_id = acc
            and o.amazon_order_id = r.amazon_order_id
        returning o.amazon_order_id
    )
    select coalesce(array_agg(m.amazon_order_id), '{}') into purged from marked as m;
    return purged;
end
$$;

-- An order that was never imported: it failed, or nobody has come to it in all that time.
create function amzmp._purge_parked(account_id bigint, retention interval)
    returns text[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc alias for $1;
    clock constant timestamptz := amzmp._now(acc);
    purged text[];
begin
    with removed as (
        delete from amzmp.parked_order as p
        where p.account_id = acc
            and p.last_updated_at < clock - retention + amzmp._purge_ahead(retention)
            and (p.failed_at is not null or p.parked_at < now() - retention + amzmp._purge_ahead(retention))
        returning p.amazon_order_id
    )
    select coalesce(array_agg(r.amazon_order_id), '{}') into purged from removed as r;
    perform amzmp._import_succeeded(acc, purged);
    return purged;
end
$$;

-- Which of these accounts hold data of buyers, whether it is past its time or not.
create function amzmp._due_purge_personal_data(account_ids bigint[])
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
    where exists (select from amzmp.order_buyer as b where b.account_id = a.id)
        or exists (select from amzmp.parked_order as p where p.account_id = a.id)
        or exists (select from amzmp._personal_reports(a.id))
        or exists (select from amzmp.task as t where t.account_id = a.id and t.kind = 'handler')
        or exists (
            select
            from amzmp.request_log as l
            where l.account_id = a.id
                and (l.sent_body is not null or l.answer_body is not null)
        );
end
$$;

create function amzmp._flow_purge_personal_data(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    retention constant interval := amzmp._setting_interval(account_id, 0, 'personal_data_retention');
    reports constant bigint[] := array(
        select r.report_id from amzmp._personal_reports(account_id) as r where amzmp._report_until(r, retention) < now()
    );
    orders constant text[] := amzmp._purge_orders(account_id, retention);
    parked constant text[] := amzmp._purge_parked(account_id, retention);
begin
    perform amzmp._forget_reports(account_id, reports);
    delete from amzmp.task as t
    where t.account_id = _flow_purge_personal_data.account_id
        and t.kind = 'handler'
        and t.created_at < now() - retention + amzmp._purge_ahead(retention);
    -- orders that were purged before and that somebody asked for once more are among them
    perform amzmp._forget_bodies(account_id, array(
            select l.subject
            from amzmp.request_log as l
            join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (l.account_id, l.subject)
            where l.account_id = _flow_purge_personal_data.account_id
                and (l.answer_body is not null or l.sent_body is not null)
                and l.subject_kind = 'order'
                and o.personal_purged_at is not null
        ));
    if orders <> '{}' or parked <> '{}' or reports <> '{}' then
        perform amzmp._log(account_id, 0, 'info', 'flow', 'purge_personal_data',
            format('personal data of %s removed', amzmp._count_of(cardinality(orders) + cardinality(parked), 'order', 'orders')),
            jsonb_build_object('orders', cardinality(orders), 'never_imported', cardinality(parked), 'reports', cardinality(reports)),
            flow_run_id);
    end if;
end
$$;

-- Inner: all of an account's, at once: it was dropped, and nobody can open it any more.
create function amzmp._forget_buyers(account_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc alias for $1;
begin
    -- in the order in which a buyer's data comes in: what a runner is at is waited for, and what that brings goes next
    delete from amzmp.answer as a where a.account_id = acc;
    delete from amzmp.task as t where t.account_id = acc and t.kind = 'handler';
    delete from amzmp.request as r where r.account_id = acc and r.state = 'answered';
    delete from amzmp.parked_order as p where p.account_id = acc;
    with removed as (
        delete from amzmp.order_buyer as b where b.account_id = acc returning b.amazon_order_id
    )
    update amzmp.orders as o
    set personal_purged_at = now()
    from removed as r
    where (o.account_id, o.amazon_order_id) = (acc, r.amazon_order_id);
    perform amzmp._forget_reports(acc, array(select r.report_id from amzmp._personal_reports(acc) as r));
    perform amzmp._drop_documents(acc, array(select d.document_id from amzmp.document as d where d.account_id = acc and d.sealed));
    update amzmp.request_log as l
    set sent_body = null,
        answer_body = null
    where l.account_id = acc
        and (l.sent_body is not null or l.answer_body is not null);
end
$$;

/* ---- what an auditor asks ---- */

create function amzmp._personal_data(account text)
    returns table (place text, held bigint, overdue bigint, oldest timestamptz)
    language plpgsql
    stable
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    acc constant bigint := (amzmp._account(account)).account_id;
    retention constant interval := amzmp._setting_interval(acc, 0, 'personal_data_retention');
    clock constant timestamptz := amzmp._now(acc);
begin
    return query
    select 'orders', count(*), count(*) filter (where x.until < clock), min(x.until) - retention
    from (
        select amzmp._personal_until(o, retention) as until
        from amzmp.order_buyer as b
        join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (b.account_id, b.amazon_order_id)
        where b.account_id = acc
    ) as x
    union all
    select 'orders that are not imported', count(*),
        count(*) filter (
            where p.last_updated_at < clock - retention
                and (p.failed_at is not null or p.parked_at < now() - retention)
        ),
        min(p.parked_at)
    from amzmp.parked_order as p
    where p.account_id = acc
    union all
    select 'answers that are not applied', count(*), count(*) filter (where a.answered_at < now() - interval '1 day'), min(a.answered_at)
    from amzmp.answer as a
    where a.account_id = acc
    union all
    select 'answers that no handler has taken', count(*), count(*) filter (where t.created_at < now() - retention),
        min(t.created_at)
    from amzmp.task as t
    where t.account_id = acc
        and t.kind = 'handler'
        and t.argument @> '{"personal": true}'
    union all
    select 'reports', count(*), count(*) filter (where amzmp._report_until(r, retention) < now() - interval '1 day'), min(r.downloaded_at)
    from amzmp._personal_reports(acc) as r
    union all
    select 'invoices', count(*), count(*) filter (where d.made_at < now() - retention), min(d.made_at)
    from amzmp.document as d
    where d.account_id = acc
        and d.sealed
        and not exists (select from amzmp.report as r where (r.account_id, r.document_id) = (d.account_id, d.document_id))
    union all
    select 'kept bodies', count(*), count(*) filter (where l.finished_at < now() - retention - interval '1 day'), min(l.finished_at)
    from amzmp.request_log as l
    where l.account_id = acc
        and (l.sent_body is not null or l.answer_body is not null)
        and exists (select from amzmp.operation as o where o.name = l.operation and o.personal);
end
$$;

select amzmp._expose('amzmp._personal_data(text)', 'amzmp_operator',
    'Where buyers'' data of an account lies (sealed), how much of it, how much is past its time (0, as long as purge_personal_data runs), and since when the oldest. For whoever has to prove that it goes.');

-- Inner, for health(): accounts that hold buyers' data and whose purge has not run. It comes once a day.
create function amzmp._personal_health()
    returns table (check_name text, state text, detail text, remedy text)
    language sql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
    select 'personal data ' || a.name, 'error',
        format('purge_personal_data has not run since %s', to_char(x.since at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')),
        format('select amzmp.enable(''purge_personal_data'', account => %1$L), amzmp.run_flow(''purge_personal_data'', account => %1$L); and see that pg_cron marks it.', a.name)
    from amzmp.account as a
    cross join lateral (
        select coalesce(
                (
                    select coalesce(r.last_idle_at, r.started_at)
                    from amzmp.flow_run as r
                    where r.account_id = a.account_id
                        and r.flow = 'purge_personal_data'
                        and r.channel_id = 0
                        and r.state = 'done'
                    order by r.started_at desc
                    limit 1
                ), a.created_at) as since
    ) as x
    where a.state <> 'dropped'
        and a.time_scale <= 1
        and amzmp._may_see(a.account_id, amzmp._caller())
        and x.since < now() - interval '50 hours'
        and exists (select from amzmp.order_buyer as b where b.account_id = a.account_id)
$$;
