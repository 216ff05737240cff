-- request.sql
-- The outbox: calls to make, in flight, answered, done.

create sequence amzmp.request_id_seq as bigint;

-- Hot and small: finished requests move to request_log.
create table amzmp.request (
    account_id bigint not null,
    request_id bigint not null default nextval('amzmp.request_id_seq'),
    operation text not null,
    state text not null default 'due' check (state in ('due', 'sending', 'answered', 'held')),
    priority smallint not null default 100,          -- smaller is sooner: 10 stop, 20 stock, 30 price, 50 content, 100 rest
    not_before timestamptz not null default now(),
    attempt smallint not null default 0,
    in_doubt boolean not null default false,         -- an earlier attempt's answer was lost
    max_attempts smallint not null default 8,
    params jsonb not null default '{}',              -- path and query parameters
    body jsonb,                                      -- only where the caller supplied it; else render makes it
    render text,                                     -- inner function that renders params and body at claim
    handler text,                                    -- inner function that takes the answers
    user_handler text,                               -- a user's function, run by a user runner as user_role
    user_role name,
    subject_kind text,                               -- listing, inventory, order, feed, report …
    subject text,                                    -- sku, order id …
    channel_id bigint not null default 0,
    cause jsonb,                                     -- {"flow_run":…} or {"role":…, "application":…, "xid":…, "at":…}
    flow_run_id bigint generated always as ((cause ->> 'flow_run')::bigint) stored,
    hold_reason text,
    created_at timestamptz not null default now(),
    claimed_at timestamptz,
    sent_body bytea,                                 -- sealed, only while the setting keep_bodies is on (body.sql)
    primary key (account_id, request_id)
) with (fillfactor = 70);

create index request_due on amzmp.request (account_id, operation, priority, not_before) where state = 'due';
create index request_next on amzmp.request (account_id, operation, not_before) where state = 'due';
create index request_subject on amzmp.request (account_id, subject_kind, subject);
create index request_flow_run on amzmp.request (account_id, flow_run_id) where flow_run_id is not null;
create index request_sending on amzmp.request (account_id, request_id) where state = 'sending';

-- Answers that an own runner applies; the body is sealed (purpose 'answer', row 'account_id/request_id').
create table amzmp.answer (
    account_id bigint not null,
    request_id bigint not null,
    status integer not null,
    outcome text not null,
    body bytea,
    error_code text,
    error_message text,
    amazon_request_id text,
    answered_at timestamptz not null,
    primary key (account_id, request_id)
);

create table amzmp.request_log (
    account_id bigint not null,
    request_id bigint not null,
    operation text not null,
    outcome text not null,                           -- success, refused, lost, expired, obsolete, cancelled, handler_failed
    status integer,
    attempt smallint not null,
    priority smallint not null,
    subject_kind text,
    subject text,
    channel_id bigint not null default 0,
    params jsonb,
    cause jsonb,
    error_code text,
    error_message text,
    amazon_request_id text,
    sent_body bytea,                                 -- sealed, only while the setting keep_bodies is on
    answer_body bytea,
    created_at timestamptz not null,
    finished_at timestamptz not null
) partition by range (finished_at);
create table amzmp.request_log_default partition of amzmp.request_log default;
-- As with activity, keys stand at the partitions.
alter table amzmp.request_log_default add primary key (account_id, finished_at, request_id);

create type amzmp.answer_row as (
    request amzmp.request,
    status integer,
    outcome text,
    body jsonb,
    error_code text,
    error_message text,
    amazon_request_id text,
    answered_at timestamptz
);

-- What a render function makes of one request.
create type amzmp.rendered as (request_id bigint, params jsonb, body jsonb);

comment on type amzmp.answer_row is 'Inner: a request with its answer, as handlers take it.';
comment on type amzmp.rendered is 'Inner: what a render function makes of one request.';
comment on table amzmp.request is 'Calls to make or in flight; finished ones are in request_log.';
comment on column amzmp.request.account_id is 'The account.';
comment on column amzmp.request.request_id is 'Number of the request.';
comment on column amzmp.request.operation is 'What is called, see amzmp.operation.';
comment on column amzmp.request.state is 'due, sending, answered (a runner applies the answer) or held (waits for a person, see hold_reason).';
comment on column amzmp.request.not_before is 'Not sent before.';
comment on column amzmp.request.attempt is 'How often it was sent; counted before sending.';
comment on column amzmp.request.in_doubt is 'An earlier attempt''s answer was lost: it may have had its effect, or may still have it.';
comment on column amzmp.request.max_attempts is 'After so many it is given up.';
comment on column amzmp.request.params is 'Parameters of path and query.';
comment on column amzmp.request.body is 'The body, where the caller gave one; else it is made when the request is claimed.';
comment on column amzmp.request.handler is 'Inner function that takes the answer.';
comment on column amzmp.request.user_handler is 'A function of a users that takes the answer.';
comment on column amzmp.request.user_role is 'The role as which that function runs.';
comment on column amzmp.request.subject_kind is 'What it is about: listing, inventory, order, shipment …';
comment on column amzmp.request.subject is 'The SKU, order id … that it is about.';
comment on column amzmp.request.channel_id is 'The channel; 0: the account itself.';
comment on column amzmp.request.flow_run_id is 'The run of a flow that made it.';
comment on column amzmp.request.hold_reason is 'Why it waits for a person.';
comment on column amzmp.request.created_at is 'When it was queued.';
comment on column amzmp.request.claimed_at is 'When it was last taken for sending.';
comment on column amzmp.request.sent_body is 'What was sent, sealed; only while the setting keep_bodies is on.';
comment on column amzmp.request.priority is 'Smaller is sooner: 10 stop, 20 stock that falls, 30 stock, 40 price, 50 content, 100 the rest.';
comment on column amzmp.request.render is 'Inner function that renders params and body when the request is claimed; values are never queued.';
comment on column amzmp.request.cause is 'What led to it: {"flow_run": id} or the role, application, transaction and time of a change.';
comment on table amzmp.answer is 'Answers waiting for an own runner; bodies are sealed.';
comment on column amzmp.answer.account_id is 'The account.';
comment on column amzmp.answer.request_id is 'The request.';
comment on column amzmp.answer.status is 'HTTP status.';
comment on column amzmp.answer.outcome is 'success, refused, lost or expired.';
comment on column amzmp.answer.body is 'The body, sealed.';
comment on column amzmp.answer.error_code is 'Amazons error code.';
comment on column amzmp.answer.error_message is 'Amazons error message.';
comment on column amzmp.answer.amazon_request_id is 'Amazons number of the call.';
comment on column amzmp.answer.answered_at is 'When it arrived.';
comment on table amzmp.request_log is 'Finished requests, partitioned by day, kept for request_retention.';
comment on column amzmp.request_log.account_id is 'The account.';
comment on column amzmp.request_log.request_id is 'Number of the request.';
comment on column amzmp.request_log.operation is 'What was called.';
comment on column amzmp.request_log.outcome is 'success, refused, lost (the answer), expired, obsolete (no longer needed), cancelled or handler_failed.';
comment on column amzmp.request_log.status is 'HTTP status of the last answer.';
comment on column amzmp.request_log.attempt is 'How often it was sent.';
comment on column amzmp.request_log.priority is 'Its priority.';
comment on column amzmp.request_log.subject_kind is 'What it was about.';
comment on column amzmp.request_log.subject is 'The SKU, order id … that it was about.';
comment on column amzmp.request_log.channel_id is 'The channel; 0: the account itself.';
comment on column amzmp.request_log.params is 'Parameters of path and query.';
comment on column amzmp.request_log.cause is 'What led to it.';
comment on column amzmp.request_log.error_code is 'Amazons error code.';
comment on column amzmp.request_log.error_message is 'Amazons error message.';
comment on column amzmp.request_log.amazon_request_id is 'Amazons number of the call, which its support asks for.';
comment on column amzmp.request_log.sent_body is 'What was sent, sealed; only where the setting keep_bodies was on.';
comment on column amzmp.request_log.answer_body is 'What was answered, sealed; likewise.';
comment on column amzmp.request_log.created_at is 'When it was queued.';
comment on column amzmp.request_log.finished_at is 'When it was finished.';

-- Inner: queue one request. Set-based planners insert into amzmp.request themselves and call _wake().
create function amzmp._enqueue(account_id bigint, operation text, params jsonb, body jsonb, handler text, render text,
    priority integer, not_before timestamptz, channel_id bigint, subject_kind text, subject text, cause jsonb)
    returns bigint
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    begin atomic
    select amzmp._wake();
    insert into amzmp.request (account_id, operation, params, body, handler, render, priority, not_before, channel_id,
                               subject_kind, subject, cause)
    values (_enqueue.account_id, _enqueue.operation, coalesce(_enqueue.params, '{}'), _enqueue.body, _enqueue.handler,
            _enqueue.render, coalesce(_enqueue.priority, 100), coalesce(_enqueue.not_before, now()),
            coalesce(_enqueue.channel_id, 0), _enqueue.subject_kind, _enqueue.subject, _enqueue.cause)
    returning request_id;
    end;

-- Public: any operation, by the sender, after commit. handler: a function f(account_id bigint, request_id bigint,
-- status integer, answer jsonb) of the caller's, run by a user runner as the caller.
create function amzmp._enqueue(account text, operation text, params jsonb default '{}', body jsonb default null,
    handler regproc default null)
    returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account := amzmp._account(account);
    o amzmp.operation;
    id bigint;
begin
    select x.* into o from amzmp.operation x where x.name = _enqueue.operation;
    if o.name is null then
        perform amzmp._fail('AZ201', format('there is no operation "%s"', operation), null,
            'select name, method, path from amzmp.operation; lists them.');
    elsif jsonb_typeof(params) <> 'object' then
        perform amzmp._fail('AZ202', 'the parameters of an operation must be a JSON object', null,
            'Give Amazon''s names with their values, for example {"marketplaceIds": ["A1PA6795UKMFR9"]}.');
    elsif o.secret then
        perform amzmp._fail('AZ004', format('operation "%s" answers with secrets', operation), null,
            'amzmp calls it by itself where it is needed.');
    elsif o.personal and not pg_has_role(amzmp._caller(), 'amzmp_buyer_data', 'usage') then
        perform amzmp._fail('42501', format('operation "%s" answers with buyers'' data', operation), null,
            format('GRANT amzmp_buyer_data TO %I;', amzmp._caller()));
    elsif handler is not null
      and exists (select from pg_roles r where r.rolname = amzmp._caller() and (r.rolsuper or not r.rolcanlogin)) then
        perform amzmp._fail('AZ004', format('role "%s" cannot own a handler', amzmp._caller()),
            'A handler runs in a process whose session user is the role that queued the request.',
            'Queue it as a role with LOGIN that is not a superuser.');
    end if;
    insert into amzmp.request (account_id, operation, params, body, user_handler, user_role, cause)
    values (a.account_id, o.name, coalesce(params, '{}'), body, handler::text, amzmp._caller(),
            jsonb_build_object('role', amzmp._caller(), 'application', current_setting('application_name'),
                               'xid', pg_current_xact_id()::text, 'at', now()))
    returning request_id into id;
    perform amzmp._wake();
    return id;
end
$$;
select amzmp._expose('amzmp._enqueue(text, text, jsonb, jsonb, regproc)', 'amzmp_operator',
    'Queue a call of any SP-API operation for the sender; it is sent after commit. Returns request_id. handler: f(account_id bigint, request_id bigint, status integer, answer jsonb), run as the caller.');

-- Inner, sender: accounts and operations with due requests, when the next of each is due, and all that sending needs
-- but the secrets. A loose index scan: its cost follows the lanes with work, not accounts or requests.
create function amzmp._lanes()
    returns table (account_id bigint, operation text, next_at timestamptz, method text, path text, endpoint text,
        after_lost_answer text, apply_in text, grantless_scope text, application_id bigint, generation bigint,
        rate float8, burst float8, app_class text, app_rate float8, app_burst float8, sandbox boolean, plan text,
        time_scale float8)
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    return query
    with recursive lane as (
        (select r.account_id, r.operation from amzmp.request r where r.state = 'due'
          order by r.account_id, r.operation limit 1)
        union all
        select n.account_id, n.operation
          from lane l,
               lateral (select r.account_id, r.operation from amzmp.request r
                         where r.state = 'due' and (r.account_id, r.operation) > (l.account_id, l.operation)
                         order by r.account_id, r.operation limit 1) n
    )
    select l.account_id, l.operation, n.next_at,
           o.method, o.path, case when l.operation = 'exchangeAuthorizationCode' then a.token_endpoint
                               when o.api = 'sqs' then amzmp._queue_url(l.account_id) else a.endpoint end,
           o.after_lost_answer, o.apply_in, o.grantless_scope, a.application_id,
           a.generation + p.generation,
           (coalesce(o.rate, 1) * a.rate_scale * a.time_scale)::float8, coalesce(o.burst, 1)::float8,
           o.app_class, (o.app_rate * a.rate_scale * a.time_scale)::float8, o.app_burst::float8, a.mode = 'sandbox',
           o.plan, a.time_scale::float8
      from lane l
      join amzmp.account a using (account_id)
      join amzmp.application p using (application_id)
      join amzmp.operation o on o.name = l.operation
      cross join (select amzmp._is_fenced() as fenced, exists (select from amzmp.identity) as known) here
      cross join lateral (
        select r.not_before as next_at from amzmp.request r
         where r.account_id = l.account_id and r.operation = l.operation and r.state = 'due'
           and not exists (select from amzmp.hold h where h.account_id = r.account_id and h.channel_id in (0, r.channel_id))
         order by r.account_id, r.operation, r.not_before limit 1) n
     -- consent is what makes an account active and valid in the first place
     where case when l.operation = 'exchangeAuthorizationCode' then a.state <> 'dropped' and not (here.fenced and here.known)
                else a.active and a.state <> 'invalid' and not here.fenced end;
end
$$;

-- Inner, sender: the secrets of an account's token request, opened.
create function amzmp._token_context(account_id bigint)
    returns table (token_endpoint text, client_id text, client_secret text, refresh_token text)
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    begin atomic
    select a.token_endpoint, p.client_id,
           amzmp._open(p.client_secret, 'client_secret', 'application:' || p.application_id),
           amzmp._open(a.refresh_token, 'refresh_token', 'account:' || a.account_id)
      from amzmp.account a
      join amzmp.application p using (application_id)
     where a.account_id = _token_context.account_id;
    end;

-- Inner: the bodies of a set of claimed requests, by their render function.
create function amzmp._render(render_function text, claimed amzmp.request[]) returns amzmp.rendered[]
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    done amzmp.rendered[];
begin
    execute format('select array_agg(row(x.request_id, x.params, x.body)::amzmp.rendered) from amzmp.%I($1) x', render_function)
       into done using claimed;
    return done;
end
$$;

-- Inner: the same one by one, because one of them fails: that one ends with the error, its neighbours are sent.
create function amzmp._render_alone(account_id bigint, render_function text, claimed amzmp.request[])
    returns amzmp.rendered[]
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    one amzmp.request;
    done amzmp.rendered[];
    failed_state text;
    failed_text text;
begin
    foreach one in array claimed
    loop
        begin
            done := done || amzmp._render(render_function, array[one]);
        exception when others then
            get stacked diagnostics failed_state = returned_sqlstate, failed_text = message_text;
            perform amzmp._complete_failed(account_id, one.request_id, null, failed_state, failed_text);
        end;
    end loop;
    return done;
end
$$;

-- Inner: the claim proper: up to `most` due requests of a lane, most urgent first, marked as being sent.
create function amzmp._take(account_id bigint, operation text, most integer) returns amzmp.request[]
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    claimed amzmp.request[];
begin
    with picked as (
        select r.request_id from amzmp.request r
         where r.account_id = _take.account_id and r.operation = _take.operation
           and r.state = 'due' and r.not_before <= now()
           and not exists (select from amzmp.hold h where h.account_id = r.account_id and h.channel_id in (0, r.channel_id))
         order by r.priority, r.not_before
         limit most
           for update skip locked
    ), taken as (
        update amzmp.request r
           set state = 'sending', attempt = r.attempt + 1, claimed_at = t.at
          from picked p, (select clock_timestamp() as at) t
         where r.account_id = _take.account_id and r.request_id = p.request_id
        returning r as row
    )
    select array_agg(taken.row order by (taken.row).priority, (taken.row).not_before) into claimed from taken;
    return claimed;
end
$$;

-- Inner, sender: take up to `most` due requests of a lane. Committed before anything is sent.
create function amzmp._claim(account_id bigint, operation text, most integer)
    returns table (request_id bigint, attempt integer, max_attempts integer, params jsonb, body text)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    claimed amzmp.request[] := amzmp._take(account_id, operation, most);
    mine amzmp.request[];
    done amzmp.rendered[];
    render_function text;
    keep boolean := amzmp._keeps_bodies(account_id, operation);
begin
    if keep then
        perform amzmp._keep_sent(_claim.account_id, array_agg(row(c.request_id, c.params, c.body)::amzmp.rendered))
           from unnest(claimed) c where c.render is null;
    end if;

    return query
        select c.request_id, c.attempt::integer, c.max_attempts::integer, o.seller || c.params || o.fixed, c.body::text
          from unnest(claimed) c,
               (select case when x.path like '%{sellerId}%' then jsonb_build_object('sellerId', a.seller_id) else '{}' end as seller,
                       coalesce(x.fixed_params, '{}') as fixed
                  from amzmp.operation x, amzmp.account a
                 where x.name = _claim.operation and a.account_id = _claim.account_id) o
         where c.render is null;
    -- one function as a rule, two at the most: each renders its whole share as a set
    for render_function in select distinct c.render from unnest(claimed) c where c.render is not null
    loop
        select array_agg(c) into mine from unnest(claimed) c where c.render = render_function;
        begin
            done := amzmp._render(render_function, mine);
        exception when others then
            done := amzmp._render_alone(account_id, render_function, mine);
        end;
        return query
            select c.request_id, c.attempt::integer, c.max_attempts::integer, x.params, x.body::text
              from unnest(mine) c
              join unnest(done) x on x.request_id = c.request_id;
        if keep then
            perform amzmp._keep_sent(account_id, done);
        end if;
        perform amzmp._finish_obsolete(account_id, (
            select array_agg(c.request_id) from unnest(mine) c
             where c.request_id not in (select x.request_id from unnest(done) x)));
    end loop;
end
$$;

-- Inner: requests that need no call any more leave the hot table. One that was sent before, and whose answer was lost, may
-- have changed what Amazon has: its subject is asserted once more.
create function amzmp._finish_obsolete(account_id bigint, request_ids bigint[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    sent_before text[];
begin
    if request_ids is null then
        return;
    end if;
    with gone as (
        delete from amzmp.request r
         where r.account_id = _finish_obsolete.account_id and r.request_id = any (request_ids)
        returning r.*
    ), logged as (
        insert into amzmp.request_log (account_id, request_id, operation, outcome, attempt, priority, subject_kind, subject,
                                       channel_id, params, cause, created_at, finished_at)
        select g.account_id, g.request_id, g.operation, 'obsolete', g.attempt, g.priority, g.subject_kind, g.subject,
               g.channel_id, g.params, g.cause, g.created_at, clock_timestamp()
          from gone g
    )
    select array_agg(g.subject) into sent_before from gone g where g.in_doubt and g.subject_kind = 'listing';
    perform amzmp._reassert_later(account_id, sent_before);
end
$$;

-- Inner: answers with the requests that they belong to; those of requests that are gone are left out.
create function amzmp._answers(account_id bigint, request_ids bigint[], statuses integer[], outcomes text[],
    bodies text[], error_codes text[], error_messages text[], amazon_request_ids text[]) returns amzmp.answer_row[]
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answers amzmp.answer_row[];
begin
    select array_agg(row(r, x.status, x.outcome, x.body::jsonb, x.error_code, x.error_message, x.amazon_request_id,
                         clock_timestamp())::amzmp.answer_row order by x.position)
      into answers
      from unnest(request_ids, statuses, outcomes, bodies, error_codes, error_messages, amazon_request_ids)
           with ordinality as x (request_id, status, outcome, body, error_code, error_message, amazon_request_id, position)
      join amzmp.request r on r.account_id = _answers.account_id and r.request_id = x.request_id;
    return answers;
end
$$;

-- Inner, sender: answers of one account arrived. Handlers and the requests' end are one transaction.
create function amzmp._complete(account_id bigint, request_ids bigint[], statuses integer[], outcomes text[],
    bodies text[], error_codes text[], error_messages text[], amazon_request_ids text[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answers constant amzmp.answer_row[] := amzmp._answers(account_id, request_ids, statuses, outcomes, bodies, error_codes,
        error_messages, amazon_request_ids);
begin
    if answers is not null then
        perform amzmp._apply(account_id, answers);
    end if;
end
$$;

-- Inner: call the handlers of a set of answers, then move their requests to the log.
create function amzmp._apply(account_id bigint, answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    handler_function text;
begin
    -- all at once and in order: handler after handler would take these locks in an order that meets recompute's
    perform amzmp._lock_skus(account_id, array(
        select (a.request).subject from unnest(answers) a where (a.request).subject_kind = 'listing'
        union
        select i.sku from unnest(answers) a, jsonb_array_elements_text((a.request).params -> 'identifiers') as i (sku)
         where (a.request).subject_kind = 'listings'));
    -- one handler as a rule: each takes its whole share as a set
    for handler_function in
        select distinct (a.request).handler from unnest(answers) a where (a.request).handler is not null
    loop
        execute format('select amzmp.%I(array_agg(a)) from unnest($1) a where (a.request).handler = %L',
                       handler_function, handler_function) using answers;
    end loop;
    insert into amzmp.task (account_id, kind, subject, run_as, argument)
    select _apply.account_id, 'handler', (a.request).request_id::text, (a.request).user_role,
           jsonb_build_object('function', (a.request).user_handler, 'status', a.status, 'answer', a.body)
      from unnest(answers) a
     where (a.request).user_handler is not null;
    if found then
        perform amzmp._wake();
    end if;
    perform amzmp._end_requests(account_id, answers);
end
$$;

-- Inner: move answered requests to the log and close flow runs whose last request this was.
create function amzmp._end_requests(account_id bigint, answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    ended_runs bigint[];
    kept constant text[] := array(
        select d.operation from (select distinct (a.request).operation from unnest(answers) a) d
         where amzmp._keeps_bodies(_end_requests.account_id, d.operation));
begin
    delete from amzmp.request r
     where r.account_id = _end_requests.account_id
       and r.request_id in (select (a.request).request_id from unnest(answers) a);
    insert into amzmp.request_log (account_id, request_id, operation, outcome, status, attempt, priority, subject_kind,
                                   subject, channel_id, params, cause, error_code, error_message, amazon_request_id,
                                   sent_body, answer_body, created_at, finished_at)
    select (a.request).account_id, (a.request).request_id, (a.request).operation, a.outcome, a.status,
           (a.request).attempt, (a.request).priority, (a.request).subject_kind, (a.request).subject,
           (a.request).channel_id, (a.request).params, (a.request).cause, a.error_code, a.error_message,
           a.amazon_request_id, (a.request).sent_body,
           case when (a.request).operation = any (kept)
                then amzmp._seal_body(a.body::text, 'answer_body', (a.request).account_id, (a.request).request_id) end,
           (a.request).created_at, a.answered_at
      from unnest(answers) a
     -- a queue is read all day long; what came of it is in its row
     where not ((a.request).operation = 'receiveMessage' and a.outcome = 'success');
    ended_runs := array(select distinct (a.request).flow_run_id from unnest(answers) a where (a.request).flow_run_id is not null);
    if ended_runs <> '{}' then
        perform amzmp._end_flow_runs(account_id, ended_runs);
    end if;
end
$$;

-- Inner, sender: a handler failed for this one answer even alone.
create function amzmp._complete_failed(account_id bigint, request_id bigint, status integer, error_state text,
    error_text text, body text default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    r amzmp.request;
begin
    select x.* into r from amzmp.request x
     where x.account_id = _complete_failed.account_id and x.request_id = _complete_failed.request_id;
    if r.request_id is null then
        return;
    end if;
    perform amzmp._end_requests(account_id, array[row(r, status, 'handler_failed', body::jsonb, error_state, error_text, null,
        clock_timestamp())::amzmp.answer_row]);
    perform amzmp._release_subject(r);
    perform amzmp._log(account_id, r.channel_id, 'error', r.subject_kind, r.subject,
        format('the answer to %s could not be applied: %s', r.operation, error_text),
        jsonb_build_object('sqlstate', error_state, 'request_id', r.request_id));
    -- planners hold a listing back by facet
    perform amzmp._penalise(account_id, facet.channel_id, facet.kind, r.subject, error_state, error_text)
       from (values ('listing', 'price', r.channel_id), ('listing', 'stock', 0), ('inventory', 'stock', 0),
                    (r.subject_kind, r.subject_kind, r.channel_id)) as facet (subject_kind, kind, channel_id)
      where facet.subject_kind = r.subject_kind and r.subject is not null;
end
$$;

-- Inner: a request ended without its handler: its subject is no longer in flight, and if it was sent nobody knows what
-- Amazon has now, so that it differs until it is sent again.
create function amzmp._release_subject(request amzmp.request) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    sent constant boolean := request.attempt > 0;
begin
    update amzmp.listing l
       set in_flight_request = null, in_flight_price = null,
           remote_price = case when sent and l.in_flight_price is not null then null else l.remote_price end
     where l.account_id = request.account_id and l.sku = request.subject and l.in_flight_request = request.request_id;
    update amzmp.inventory i
       set in_flight_request = null, in_flight_quantity = null,
           remote_quantity = case when sent and i.in_flight_quantity is not null then null else i.remote_quantity end
     where i.account_id = request.account_id and i.sku = request.subject and i.in_flight_request = request.request_id;
end
$$;

-- Inner, sender: large or personal answers are sealed and left to an own runner.
create function amzmp._park_answers(account_id bigint, request_ids bigint[], statuses integer[], outcomes text[],
    bodies text[], error_codes text[], error_messages text[], amazon_request_ids text[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    insert into amzmp.answer (account_id, request_id, status, outcome, body, error_code, error_message,
                              amazon_request_id, answered_at)
    select _park_answers.account_id, x.request_id, x.status, x.outcome,
           amzmp._seal(x.body, 'answer', _park_answers.account_id || '/' || x.request_id),
           x.error_code, x.error_message, x.amazon_request_id, clock_timestamp()
      from unnest(request_ids, statuses, outcomes, bodies, error_codes, error_messages, amazon_request_ids)
           as x (request_id, status, outcome, body, error_code, error_message, amazon_request_id);
    update amzmp.request r set state = 'answered'
     where r.account_id = _park_answers.account_id and r.request_id = any (request_ids);
    perform amzmp._add_task(account_id, 'apply', '', null, now(), '{}');
end
$$;

-- Inner, own runner: apply the account's parked answers, oldest first, each in a subtransaction of its own.
create function amzmp._task_apply(account_id bigint, subject text, argument jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a record;
    one amzmp.answer_row;
    failed_state text;
    failed_text text;
begin
    -- a loop because one answer that cannot be applied must not undo its neighbours; at most 20 a transaction
    for a in
        select x as answer, r as request
          from amzmp.answer x
          join amzmp.request r using (account_id, request_id)
         where x.account_id = _task_apply.account_id
         order by x.answered_at
         limit 20
    loop
        one := row(a.request, (a.answer).status, (a.answer).outcome,
                   amzmp._open((a.answer).body, 'answer', account_id || '/' || (a.answer).request_id)::jsonb,
                   (a.answer).error_code, (a.answer).error_message, (a.answer).amazon_request_id,
                   (a.answer).answered_at)::amzmp.answer_row;
        begin
            perform amzmp._apply(account_id, array[one]);
        exception when others then
            get stacked diagnostics failed_state = returned_sqlstate, failed_text = message_text;
            perform amzmp._complete_failed(account_id, (a.answer).request_id, (a.answer).status, failed_state, failed_text,
                one.body::text);
        end;
        delete from amzmp.answer x
         where x.account_id = _task_apply.account_id and x.request_id = (a.answer).request_id;
    end loop;
    if exists (select from amzmp.answer x where x.account_id = _task_apply.account_id) then
        perform amzmp._add_task(account_id, 'apply', '', null, now(), '{}');
    end if;
end
$$;

-- Inner, sender: try again later.
create function amzmp._postpone(account_id bigint, request_ids bigint[], delays_ms bigint[], hold_reasons text[],
    in_doubt boolean[]) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    begin atomic
    update amzmp.request r
       set state = case when x.hold_reason is null then 'due' else 'held' end,
           hold_reason = x.hold_reason,
           in_doubt = r.in_doubt or x.in_doubt,
           not_before = x.at
      from (select u.request_id, u.hold_reason, u.in_doubt, now() + u.delay_ms * interval '1 millisecond' as at
              from unnest(request_ids, delays_ms, hold_reasons, _postpone.in_doubt)
                   as u (request_id, delay_ms, hold_reason, in_doubt)) x
     where r.account_id = _postpone.account_id and r.request_id = x.request_id and r.state = 'sending';
    end;

-- Inner, sender at its start: what an earlier sender had in flight. Only one sender lives in a database. As after any lost
-- answer (exchange.c): repeat, ask a person, or tell the handler that the answer is lost.
create function amzmp._recover() returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    one amzmp.request;
    recovered bigint;
    failed_state text;
    failed_text text;
begin
    perform amzmp._recover_tasks();
    update amzmp.request r
       set state = case o.after_lost_answer when 'ask' then 'held' else 'due' end,
           in_doubt = true,
           hold_reason = case o.after_lost_answer when 'ask'
               then 'the server stopped while the answer was awaited and repeating is not safe: look at Amazon, then retry or cancel' end
      from amzmp.operation o
     where r.state = 'sending' and o.name = r.operation
       and (o.after_lost_answer = 'ask' or o.after_lost_answer = 'repeat' and r.attempt < r.max_attempts);
    get diagnostics recovered = row_count;
    -- a loop because a handler that fails must not undo its neighbours; there are few
    for one in select r.* from amzmp.request r where r.state = 'sending'
    loop
        begin
            perform amzmp._complete(one.account_id, array[one.request_id], array[0], array['lost'], array[null::text],
                array['AnswerLost'], array['the server stopped while the answer was awaited'], array[null::text]);
        exception when others then
            get stacked diagnostics failed_state = returned_sqlstate, failed_text = message_text;
            perform amzmp._complete_failed(one.account_id, one.request_id, 0, failed_state, failed_text);
        end;
        recovered := recovered + 1;
    end loop;
    return recovered;
end
$$;

create function amzmp._cancel_request(account text, request_id bigint) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account := amzmp._account(account);
    r amzmp.request;
begin
    delete from amzmp.request x
     where x.account_id = a.account_id and x.request_id = _cancel_request.request_id and x.state in ('due', 'held')
    returning x.* into r;
    if r.request_id is null then
        return false;
    end if;
    insert into amzmp.request_log (account_id, request_id, operation, outcome, attempt, priority, subject_kind, subject,
                                   channel_id, params, cause, created_at, finished_at)
    values (r.account_id, r.request_id, r.operation, 'cancelled', r.attempt, r.priority, r.subject_kind, r.subject,
            r.channel_id, r.params, r.cause, r.created_at, clock_timestamp());
    perform amzmp._release_subject(r);
    perform amzmp._end_flow_runs(r.account_id, array[r.flow_run_id]);
    perform amzmp._log(r.account_id, r.channel_id, 'notice', r.subject_kind, r.subject,
        format('%s cancelled by %s', r.operation, amzmp._caller()), jsonb_build_object('request_id', r.request_id));
    return true;
end
$$;
select amzmp._expose('amzmp._cancel_request(text, bigint)', 'amzmp_operator',
    'Cancel a request that is due or held. False when it is unknown, in flight or done.');

create function amzmp._retry(account text, request_id bigint, priority integer default null) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account := amzmp._account(account);
begin
    update amzmp.request r
       set state = 'due', not_before = t.at, hold_reason = null, priority = coalesce(_retry.priority, r.priority)
      from (select now() as at) t
     where r.account_id = a.account_id and r.request_id = _retry.request_id and r.state in ('due', 'held');
    if not found then
        return false;
    end if;
    perform amzmp._wake();
    return true;
end
$$;
select amzmp._expose('amzmp._retry(text, bigint, integer)', 'amzmp_operator',
    'Send a held or waiting request now, optionally with another priority (smaller is sooner).');
