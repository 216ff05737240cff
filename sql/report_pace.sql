/*
 * report_pace.sql
 *	  How soon Amazon may be asked for a report of a type again: what it wants is learned from what it did not make.
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
