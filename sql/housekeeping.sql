/*
 * housekeeping.sql
 *	  What grows is bounded: the flow housekeeping removes what is past its retention. Most accounts have nothing that old
 *	  in most hours, and they are told apart first. What belongs to all accounts (days of the logs, captured keys that nobody
 *	  waits for) is done once a day by the first run of one of them.
 */

-- Inner: is the day after tomorrow still missing in a log? Then the day has changed since somebody looked.
create function amzmp._day_is_new()
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
declare
    suffix constant text := to_char(current_date + 2, '_YYYYMMDD');
begin
    return to_regclass('amzmp.activity' || suffix) is null or to_regclass('amzmp.request_log' || suffix) is null;
end
$$;

-- Which of these accounts have something to remove, or a report to go on with.
create function amzmp._due_housekeeping(account_ids bigint[])
    returns table (account_id bigint, channel_id bigint)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    for_all constant bigint := case when amzmp._day_is_new() then (select min(a.id) from unnest(account_ids) as a (id)) end;
begin
    return query
    select a.id, 0::bigint
    from unnest(account_ids) as a (id)
    cross join lateral (
        select amzmp._setting_interval(a.id, 0, 'activity_retention') as activity,
            amzmp._setting_interval(a.id, 0, 'request_retention') as request,
            amzmp._setting_interval(a.id, 0, 'body_retention') as body,
            amzmp._setting_interval(a.id, 0, 'feed_retention') as feed,
            amzmp._setting_interval(a.id, 0, 'report_retention') as report
        offset 0
    ) as keep
    where a.id = for_all
        -- who keeps less than others, and what came before the first day of its own
        or exists (select from amzmp.setting as s where s.account_id = a.id and s.name in ('activity_retention', 'request_retention'))
        or exists (select from amzmp.activity_default as l where l.account_id = a.id and l.at < now() - keep.activity)
        or exists (select from amzmp.request_log_default as l where l.account_id = a.id and l.finished_at < now() - keep.request)
        or exists (
            select
            from amzmp.request_log as l
            where l.account_id = a.id
                and (l.sent_body is not null or l.answer_body is not null)
                and l.finished_at < now() - keep.body
        )
        or exists (select from amzmp.consent_state as c where c.account_id = a.id and c.expires_at < now() - interval '30 days')
        or exists (
            select
            from amzmp.account_flow as f
            join amzmp.flow_run as r using (account_id, flow, channel_id)
            where f.account_id = a.id
                and r.started_at < now() - interval '30 days'
        )
        or exists (select from amzmp.brake_batch as b where b.account_id = a.id and b.closed_at < now() - interval '30 days')
        or exists (select from amzmp.lag_sample as s where s.account_id = a.id and s.accepted_at < now() - interval '1 day')
        or exists (select from amzmp.feed as f where f.account_id = a.id and not f.open and f.ended_at < now() - keep.feed)
        or exists (select from amzmp.report as r where r.account_id = a.id and r.ended_at < now() - keep.report)
        or exists (select from amzmp.report as r where r.account_id = a.id and r.ended_at is null and r.state <> 'requested');
end
$$;

create function amzmp._flow_housekeeping(account_id bigint, channel_id bigint, flow_run_id bigint) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    perform amzmp._keep_log(account_id, 'activity', 'at', 'activity_retention');
    perform amzmp._keep_log(account_id, 'request_log', 'finished_at', 'request_retention');
    perform amzmp._purge_bodies(account_id);
    perform amzmp._purge_consents(account_id);
    perform amzmp._purge_flow_runs(account_id, interval '30 days');
    with old as (
        delete from amzmp.brake_batch b
         where b.account_id = _flow_housekeeping.account_id and b.closed_at < now() - interval '30 days'
        returning b.batch_id
    )
    delete from amzmp.brake_item i using old
     where i.account_id = _flow_housekeeping.account_id and i.batch_id = old.batch_id;
    perform amzmp._purge_lag_samples(account_id);
    perform amzmp._purge_feeds(account_id, amzmp._setting_interval(account_id, 0, 'feed_retention'));
    perform amzmp._purge_reports(account_id, amzmp._setting_interval(account_id, 0, 'report_retention'));
    if exists (select from amzmp.account a where a.account_id = _flow_housekeeping.account_id and a.active) then
        perform amzmp._resume_reports(account_id);
    end if;
    perform amzmp._clean_changes();
end
$$;
