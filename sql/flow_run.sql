/*
 * flow_run.sql
 *	  Runs of flows, of many accounts at once.
 *
 * Of five thousand accounts whose clock strikes, few have anything to do. So a tick (flow_clock.sql) hands over places, and
 * of a flow that has a function _due_xxx(account_ids) that function says in which of them there may be work. The others are
 * counted as runs that found nothing (flow_run.idle_runs), all by one statement. Each of the rest gets a task, and a
 * transaction, of its own:
 *
 *	  tick ──▶ places ──_due_xxx──▶ task flow ──▶ running ──requests answered──▶ done
 *	                └── nothing to do: idle_runs + 1             └── error: failed
 */

create sequence amzmp.flow_run_id_seq as bigint;
create table amzmp.flow_run (
    account_id bigint not null,
    flow_run_id bigint not null default nextval('amzmp.flow_run_id_seq'),
    flow text not null,
    channel_id bigint not null default 0,
    state text not null default 'running' check (state in ('running', 'done', 'failed')),
    started_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    requests integer not null default 0,
    refused integer not null default 0,
    error text,
    idle_runs integer not null default 0,
    last_idle_at timestamptz,
    longest_pause interval,
    primary key (account_id, flow_run_id)
) with (fillfactor = 80);
create index flow_run_recent on amzmp.flow_run (account_id, flow, channel_id, started_at desc);
create index flow_run_running on amzmp.flow_run (account_id, flow, channel_id) where state = 'running';
create index flow_run_failed on amzmp.flow_run (started_at) where state = 'failed';
comment on table amzmp.flow_run is 'Runs of flows: when, how many requests, how many were refused, and the error if one ended it. Runs that find nothing to do are counted in the row before them.';
comment on column amzmp.flow_run.account_id is 'The account.';
comment on column amzmp.flow_run.flow_run_id is 'Number of the run.';
comment on column amzmp.flow_run.flow is 'The flow.';
comment on column amzmp.flow_run.channel_id is 'The channel; 0: the account itself.';
comment on column amzmp.flow_run.state is 'running, done or failed.';
comment on column amzmp.flow_run.started_at is 'When it began.';
comment on column amzmp.flow_run.ended_at is 'When its last request was answered.';
comment on column amzmp.flow_run.requests is 'How many requests it led to.';
comment on column amzmp.flow_run.refused is 'How many of them did not succeed.';
comment on column amzmp.flow_run.error is 'What ended it, if it failed.';
comment on column amzmp.flow_run.idle_runs is 'How often the flow ran after that, found nothing to do and has no row of its own. A new row is begun each day.';
comment on column amzmp.flow_run.last_idle_at is 'When it did so last.';
comment on column amzmp.flow_run.longest_pause is 'The longest time between two of these runs.';

create type amzmp.flow_place as (account_id bigint, channel_id bigint);

comment on type amzmp.flow_place is 'Inner: where a flow is on; channel_id 0: the account itself.';

-- Inner: which of these places a run may find something to do in. _due_xxx may name too many, never too few. One that fails
-- must not stop the flow: then each place has its run.
create function amzmp._places_due(flow text, places amzmp.flow_place[])
    returns amzmp.flow_place[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    decides constant text := format('amzmp.%I', '_due_' || flow);
    due amzmp.flow_place[];
begin
    if to_regprocedure(decides || '(bigint[])') is null then
        return places;
    end if;
    execute format('select array(select p from unnest($1) as p join %s($2) as d using (account_id, channel_id))', decides)
    into due using places, array(select distinct p.account_id from unnest(places) as p);
    return due;
exception when others then
    perform amzmp._log(0, 0, 'error', 'flow', flow, 'looking for work failed: ' || sqlerrm, jsonb_build_object('sqlstate', sqlstate));
    return places;
end
$$;

-- Inner: these runs had nothing to do. A row goes on counting for a day; a failed or unfinished run has its successor in a
-- row of its own, which shows that it is over.
create function amzmp._note_idle_runs(flow text, places amzmp.flow_place[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    with latest as materialized (
        select p.account_id, p.channel_id, r.flow_run_id, r.at
        from unnest(places) as p
        left join lateral (
            select x.flow_run_id, coalesce(x.last_idle_at, x.started_at) as at, x.state, x.started_at
            from amzmp.flow_run as x
            where x.account_id = p.account_id
                and x.flow = _note_idle_runs.flow
                and x.channel_id = p.channel_id
            order by x.started_at desc
            limit 1
        ) as r
            on r.state = 'done' and r.started_at > now() - interval '1 day'
    ), counted as (
        update amzmp.flow_run as r
        set idle_runs = r.idle_runs + 1,
            last_idle_at = now(),
            longest_pause = greatest(r.longest_pause, now() - l.at)
        from latest as l
        where (r.account_id, r.flow_run_id) = (l.account_id, l.flow_run_id)
    )
    insert into amzmp.flow_run (account_id, flow, channel_id, state, started_at, ended_at)
    select l.account_id, _note_idle_runs.flow, l.channel_id, 'done', now(), now()
    from latest as l
    where l.flow_run_id is null;
end
$$;

-- Inner, own runner: a flow's turn has come in all these places.
create function amzmp._run_places(flow text, places amzmp.flow_place[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    due constant amzmp.flow_place[] := amzmp._places_due(flow, places);
begin
    if cardinality(due) < cardinality(places) then
        perform amzmp._note_idle_runs(flow, array(select p from unnest(places) as p except select d from unnest(due) as d));
    end if;
    if due <> '{}' then
        insert into amzmp.task (account_id, kind, subject)
        select d.account_id, 'flow', _run_places.flow || '/' || d.channel_id
        from unnest(due) as d
        on conflict on constraint task_account_id_kind_subject_key do nothing;
        perform amzmp._wake();
    end if;
end
$$;

-- Inner, own runner: one run of a flow. Overlap is impossible: a run whose requests are still out is waited for.
create function amzmp._task_flow(account_id bigint, subject text, argument jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    wanted_flow text := split_part(subject, '/', 1);
    wanted_channel bigint := split_part(subject, '/', 2)::bigint;
    not_ended constant bigint[] := array(
        select r.flow_run_id from amzmp.flow_run r
         where r.account_id = _task_flow.account_id and r.flow = wanted_flow and r.channel_id = wanted_channel and r.state = 'running');
    run_id bigint;
begin
    perform amzmp._commit_soon('flow');
    if exists (select from amzmp.request q where q.account_id = _task_flow.account_id and q.flow_run_id = any (not_ended)) then
        perform amzmp._log(account_id, wanted_channel, 'info', 'flow', wanted_flow, 'skipped: the run before is still at work');
        return;
    elsif not_ended <> '{}' then
        -- two processes that ended its last two requests at once each saw the other's
        perform amzmp._end_flow_runs(account_id, not_ended);
    end if;
    insert into amzmp.flow_run (account_id, flow, channel_id) values (_task_flow.account_id, wanted_flow, wanted_channel)
    returning flow_run_id into run_id;
    begin
        execute format('select amzmp.%I($1, $2, $3)', '_flow_' || wanted_flow) using account_id, wanted_channel, run_id;
    exception when others then
        -- the run is over, and says why; the next one is due in its turn
        update amzmp.flow_run r set state = 'failed', ended_at = clock_timestamp(), error = sqlerrm
         where r.account_id = _task_flow.account_id and r.flow_run_id = run_id;
        perform amzmp._log(account_id, wanted_channel, 'error', 'flow', wanted_flow, 'failed: ' || sqlerrm,
            jsonb_build_object('sqlstate', sqlstate), run_id);
        return;
    end;
    -- most runs find nothing to ask for, and looking into the log for their requests would cost more than they did
    update amzmp.flow_run r set state = 'done', ended_at = clock_timestamp()
     where r.account_id = _task_flow.account_id and r.flow_run_id = run_id and r.state = 'running'
       and not exists (select from amzmp.request q where q.account_id = r.account_id and q.flow_run_id = r.flow_run_id);
end
$$;

-- Inner: close runs that have no request left.
create function amzmp._end_flow_runs(account_id bigint, run_ids bigint[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    update amzmp.flow_run r
       set state = 'done', ended_at = clock_timestamp(), requests = coalesce(done.requests, 0), refused = coalesce(done.refused, 0)
      from unnest(run_ids) ended (flow_run_id)
      left join (select (l.cause ->> 'flow_run')::bigint as flow_run_id, count(*)::integer as requests,
                        count(*) filter (where l.outcome not in ('success', 'obsolete'))::integer as refused
                   from amzmp.request_log l
                  where l.account_id = _end_flow_runs.account_id and (l.cause ->> 'flow_run')::bigint = any (run_ids)
                  group by 1) done using (flow_run_id)
     where r.account_id = _end_flow_runs.account_id and r.flow_run_id = ended.flow_run_id and r.state = 'running'
       and not exists (select from amzmp.request q where q.account_id = r.account_id and q.flow_run_id = r.flow_run_id);
end
$$;
create index request_log_flow_run on amzmp.request_log_default (account_id, ((cause ->> 'flow_run')::bigint))
    where (cause ->> 'flow_run')::bigint is not null;

-- Inner, housekeeping: flow by flow, so that only what goes is read.
create function amzmp._purge_flow_runs(account_id bigint, older_than interval)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete from amzmp.flow_run as r
    using amzmp.account_flow as f
    where f.account_id = _purge_flow_runs.account_id
        and (r.account_id, r.flow, r.channel_id) = (f.account_id, f.flow, f.channel_id)
        and r.started_at < now() - older_than;
end
$$;
