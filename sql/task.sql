-- task.sql
-- Pieces of work for runners. run_as NULL: an own runner calls the inner function; else a user runner of that role
-- executes the statement. Two names that no role can have are queues of ours beside the plain one: pg_amzmp_network, for what
-- waits long for the network, has a runner that nothing else waits behind; pg_amzmp_orders, for orders that arrived, is worked
-- off by the own runner, and by a second one as soon as two such tasks wait.

create sequence amzmp.task_id_seq as bigint;

create table amzmp.task (
    account_id bigint not null,
    task_id bigint not null default nextval('amzmp.task_id_seq'),
    kind text not null,                   -- flow, apply, rescan, import, deliver, handler …
    subject text not null default '',     -- with kind: at most one waiting task
    run_as name,                          -- role of the user runner; NULL = own runner
    due_at timestamptz not null default now(),
    leased_until timestamptz,             -- due_at while a runner is at it
    runner_pid integer,                   -- that runner
    attempt smallint not null default 0,
    argument jsonb not null default '{}',
    sealed bytea,                         -- what is not for every reader's eyes
    last_error text,
    created_at timestamptz not null default now(),
    primary key (account_id, task_id),
    unique (account_id, kind, subject)
) with (fillfactor = 70);

create index task_due on amzmp.task (due_at);
create index task_role on amzmp.task ((coalesce(run_as, '')), due_at);

comment on table amzmp.task is 'Pieces of work waiting for a runner.';
comment on column amzmp.task.account_id is 'The account; 0 for what belongs to none.';
comment on column amzmp.task.task_id is 'Number of the task.';
comment on column amzmp.task.kind is 'What is to be done: flow, apply, import, deliver, handler …';
comment on column amzmp.task.due_at is 'Not before; while a runner is at it, when another may take it.';
comment on column amzmp.task.leased_until is 'Set while a runner is at it; due_at differs when it was asked for again meanwhile.';
comment on column amzmp.task.runner_pid is 'The process that took it last.';
comment on column amzmp.task.attempt is 'How often it was begun.';
comment on column amzmp.task.argument is 'What the work needs to know.';
comment on column amzmp.task.sealed is 'An answer of Amazon''s for a user''s handler, sealed.';
comment on column amzmp.task.last_error is 'Why the last attempt failed.';
comment on column amzmp.task.created_at is 'When it was queued.';
comment on column amzmp.task.run_as is 'The role as which a user runner performs it; NULL: an own runner; pg_amzmp_network: one for what waits for the network; pg_amzmp_orders: an own runner or the second one, for orders.';
comment on column amzmp.task.subject is 'With account and kind at most one task waits.';

-- Inner: queue a task, or bring a waiting one forward.
create function amzmp._add_task(account_id bigint, kind text, subject text, run_as name, due_at timestamptz,
    argument jsonb default '{}') returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    insert into amzmp.task as t (account_id, kind, subject, run_as, due_at, argument)
    values (_add_task.account_id, _add_task.kind, coalesce(_add_task.subject, ''), nullif(_add_task.run_as, ''),
            coalesce(_add_task.due_at, now()), coalesce(_add_task.argument, '{}'))
    on conflict on constraint task_account_id_kind_subject_key do update
       set due_at = case when t.due_at = t.leased_until then excluded.due_at else least(t.due_at, excluded.due_at) end,
           argument = excluded.argument, run_as = excluded.run_as;
    perform amzmp._wake();
end
$$;

-- Inner: who performs such a task, as _caller() tells it.
create function amzmp._performer(run_as name) returns name
    language sql immutable parallel safe
    begin atomic
    select case when run_as in ('pg_amzmp_network', 'pg_amzmp_orders') then 'amzmp_owner' else coalesce(run_as, 'amzmp_owner') end;
    end;

-- Inner, sender: roles with work and when it is due (0 = own runner, 1 = the one for the network, 2 = the second one for
-- orders, for which there is no work while the own runner has them all). Loose index scan over roles.
create function amzmp._work() returns table (role_oid oid, due_at timestamptz)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    return query
    with recursive first_of as (
        (select coalesce(t.run_as, '') as run_as, t.due_at from amzmp.task t
          order by coalesce(t.run_as, ''), t.due_at limit 1)
        union all
        select n.run_as, n.due_at
          from first_of f,
               lateral (select coalesce(t.run_as, '') as run_as, t.due_at from amzmp.task t
                         where coalesce(t.run_as, '') > f.run_as
                         order by coalesce(t.run_as, ''), t.due_at limit 1) n
    )
    -- of each role what is due now, and what falls due next: its runner does not tell when it has nothing left to do
    select k.role_oid, d.due_at
      from first_of f
      left join pg_roles r on r.rolname = f.run_as
      cross join lateral unnest(case
        when f.run_as = 'pg_amzmp_network' then '{1}'
        when f.run_as = 'pg_amzmp_orders' and (
            select count(*) from (select from amzmp.task t where coalesce(t.run_as, '') = f.run_as limit 2) as x) = 2 then '{0,2}'
        else array[coalesce(r.oid, 0)] end::oid[]) as k (role_oid)
      cross join lateral (
        select f.due_at
        union all
        (select t.due_at from amzmp.task t where coalesce(t.run_as, '') = f.run_as and t.due_at > greatest(f.due_at, now())
          order by t.due_at limit 1)) d
     where f.run_as in ('', 'pg_amzmp_network', 'pg_amzmp_orders') or r.oid is not null
    union all
    select r.oid, s.due_at from amzmp._sources_due() s join pg_roles r on r.rolname = s.run_as;
end
$$;

-- How long a claimed task is left to its runner before another may take it (the runner was killed).
create function amzmp._task_lease() returns interval
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select interval '10 minutes';
    end;

-- Inner: claim the next due task of a role, or of a queue of ours (NULL and '' are the plain one).
create function amzmp._claim_task(run_as name) returns amzmp.task
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    claimed amzmp.task;
begin
    with picked as (
        select t.account_id, t.task_id from amzmp.task t
         where coalesce(t.run_as, '') = coalesce(_claim_task.run_as, '') and t.due_at <= now()
         order by t.due_at limit 1 for update skip locked
    ), lease as (
        select now() + amzmp._task_lease() as until
    )
    update amzmp.task t set attempt = t.attempt + 1, due_at = lease.until, leased_until = lease.until,
           runner_pid = pg_backend_pid()
      from picked p, lease
     where t.account_id = p.account_id and t.task_id = p.task_id
    returning t.* into claimed;
    return claimed;
end
$$;

-- Inner: is a runner of that process id at work? (From shared memory.)
create function amzmp._runner_lives(pid integer) returns boolean
    language c volatile strict parallel restricted set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_runner_lives';

-- Inner, sender at its start and when a runner has ended: what killed ones have left is due soon, not when the lease
-- ends; later each time, because it may be what kills them.
create function amzmp._recover_tasks() returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    begin atomic
    update amzmp.task t set due_at = r.at + least(interval '0.1 s' * power(4, least(t.attempt, 10)), amzmp._task_lease()), leased_until = null
      from (select now() as at) r
     where t.due_at = t.leased_until and not amzmp._runner_lives(t.runner_pid);
    end;

-- Inner: flows, clocks, answers and figures of thousands of accounts must not wait for the disk one by one. What a crash of the server
-- takes back of them is done again (an answer is still parked then), and whatever led to a call that writes was written before
-- the call: its claim waits for the disk.
create function amzmp._commit_soon(kind text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    if kind in ('flow', 'flows', 'clock', 'apply', 'count') then
        perform set_config('synchronous_commit', 'off', true);
    end if;
end
$$;

-- Inner, own runners: the next task of these queues as statements.
create function amzmp._next_own_task(variadic queues name[]) returns table (account_id bigint, task_id bigint, kind text, statements text[])
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    queue name;
    t amzmp.task;
begin
    -- a loop over one or two: what has waited longest comes first, and what another runner has just taken is passed over
    for queue in
        select q.queue
          from unnest(queues) as q (queue)
         cross join lateral (
               select x.due_at from amzmp.task x
                where coalesce(x.run_as, '') = q.queue and x.due_at <= now() order by x.due_at limit 1) as waits
         order by waits.due_at
    loop
        t := amzmp._claim_task(queue);
        exit when t.task_id is not null;
    end loop;
    if t.task_id is not null then
        perform amzmp._commit_soon(t.kind);
        return query select t.account_id, t.task_id, t.kind,
            array[format('select amzmp.%I(%L::bigint, %L::text, %L::jsonb)', '_task_' || t.kind, t.account_id, t.subject, t.argument)];
    end if;
end
$$;

-- Public, user runners: the caller's next piece of work. Captured changes go first, or tasks do: the runner alternates, so
-- that neither a burst of changes nor one of orders holds up the other. Harmless to call by hand: a role gets only what
-- it registered itself.
create function amzmp._next_task(tasks_first boolean default false)
    returns table (account_id bigint, task_id bigint, kind text, statements text[])
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    source_statements text[];
    t amzmp.task;
    made text[];
begin
    if tasks_first then
        t := amzmp._claim_task(amzmp._caller());
    end if;
    if t.task_id is null then
        source_statements := amzmp._source_work(amzmp._caller());
    end if;
    if t.task_id is null and source_statements is null and not tasks_first then
        t := amzmp._claim_task(amzmp._caller());
    end if;
    if source_statements is not null then
        return query select 0::bigint, 0::bigint, 'source'::text, source_statements;
    elsif t.task_id is not null then
        execute format('select amzmp.%I($1, $2, $3)', '_statement_' || t.kind) into made using t.account_id, t.subject, t.argument;
        return query select t.account_id, t.task_id, t.kind, coalesce(made, '{}');
    end if;
end
$$;
select amzmp._expose('amzmp._next_task(boolean)', 'public', 'User runners: the calling role''s next piece of work, as statements.');

create function amzmp._finish_task(account_id bigint, task_id bigint) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    -- the claim made due_at the end of the lease; another one means that it was asked for again meanwhile
    delete from amzmp.task t
     where t.account_id = _finish_task.account_id and t.task_id = _finish_task.task_id and t.due_at = t.leased_until
       and amzmp._performer(t.run_as) = amzmp._caller();
    if found then
        return;
    end if;
    update amzmp.task t set attempt = 0, last_error = null, leased_until = null
     where t.account_id = _finish_task.account_id and t.task_id = _finish_task.task_id
       and amzmp._performer(t.run_as) = amzmp._caller();
end
$$;
select amzmp._expose('amzmp._finish_task(bigint, bigint)', 'public', 'User runners: the calling role''s task is done.');

create function amzmp._fail_task(account_id bigint, task_id bigint, error_state text, error_text text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    gave_way constant boolean := error_state in ('55P03', '40P01', '40001');
    t amzmp.task;
begin
    -- the sender shall know when it is due again
    perform amzmp._wake();
    if task_id = 0 then
        perform amzmp._source_failed(amzmp._caller(), error_state, error_text);
        return;
    end if;
    -- whoever treats an answer about buyers may have quoted it
    if exists (select from amzmp.task x
                where x.account_id = _fail_task.account_id and x.task_id = _fail_task.task_id and x.argument @> '{"personal": true}') then
        error_text := format('its handler failed with error %s; the words may quote a buyer''s data', error_state);
    end if;
    -- a lock that the shop held, or a serialization failure, is no fault: again soon
    update amzmp.task x
       set due_at = now() + case when gave_way then least(interval '0.2 s' * power(2, least(x.attempt, 8)), interval '30 s')
                                 else least(interval '1 s' * power(4, least(x.attempt, 8)), interval '1 hour') end,
           last_error = error_text, leased_until = null
     where x.account_id = _fail_task.account_id and x.task_id = _fail_task.task_id
       and amzmp._performer(x.run_as) = amzmp._caller()
    returning x.* into t;
    if t.kind = 'alarm' and not gave_way then
        perform amzmp._alarm_task_failed(t, error_state, error_text);
    elsif t.task_id is not null then
        perform amzmp._log(t.account_id, 0, case when gave_way then 'info' else 'error' end, t.kind, t.subject, format('%s failed (attempt %s): %s', t.kind, t.attempt, error_text),
            jsonb_build_object('sqlstate', error_state, 'again_at', t.due_at));
    end if;
end
$$;
select amzmp._expose('amzmp._fail_task(bigint, bigint, text, text)', 'public', 'User runners: the calling role''s task failed; it is tried again later.');

-- A user's handler of an enqueued request: f(account_id, request_id, status, answer). The answer stands in no statement: it is
-- opened where the function takes it.
create function amzmp._statement_handler(account_id bigint, subject text, argument jsonb) returns text[]
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select array[format('select %s(%L::bigint, %L::bigint, %L::integer, amzmp.handler_answer(%L::bigint, %L::bigint))',
                        argument ->> 'function', account_id, subject, argument ->> 'status', account_id, subject)];
    end;

create function amzmp._handler_answer(account_id bigint, request_id bigint) returns jsonb
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    t amzmp.task;
begin
    select x.* into t from amzmp.task x
     where x.account_id = _handler_answer.account_id and x.kind = 'handler' and x.subject = request_id::text;
    if t.run_as is distinct from amzmp._caller() then
        perform amzmp._fail('42501', 'this is for the role that queued the request', null,
            'Queue it with amzmp.enqueue(account, operation, params, handler => …); the handler is then called by itself.');
    end if;
    if t.argument @> '{"personal": true}' then
        if not pg_has_role(amzmp._caller(), 'amzmp_buyer_data', 'usage') then
            perform amzmp._fail('42501', 'the answer may hold buyers'' data', null, format('GRANT amzmp_buyer_data TO %I;', amzmp._caller()));
        end if;
        perform amzmp._log_access(format('role "%s" took the answer to request %s (%s) of account %s, which may hold buyers'' data',
            amzmp._caller(), request_id, t.argument ->> 'operation', account_id));
    end if;
    return amzmp._open(t.sealed, 'handler_answer', account_id || '/' || request_id)::jsonb;
end
$$;
select amzmp._expose('amzmp._handler_answer(bigint, bigint)', 'public',
    'User runners: the answer that a handler is called with. Refused to all but the role that queued the request.');
