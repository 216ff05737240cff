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
-- what is sealed cannot be compressed
alter table amzmp.answer alter column body set storage external;

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
create index request_log_subject on amzmp.request_log_default (account_id, subject) where subject_kind = 'listing';

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

comment on type amzmp.answer_row is 'Inner: a request with its answer, as handlers take it. The body of a page of orders stays where it is parked, see _page_text.';
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
comment on table amzmp.request_log_default is 'Inner: finished requests for whose day there is no partition.';
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
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    id bigint;
begin
    perform amzmp._wake();
    insert into amzmp.request (account_id, operation, params, body, handler, render, priority, not_before, channel_id,
                               subject_kind, subject, cause)
    values (_enqueue.account_id, _enqueue.operation, coalesce(_enqueue.params, '{}'), _enqueue.body, _enqueue.handler,
            _enqueue.render, coalesce(_enqueue.priority, 100), coalesce(_enqueue.not_before, now()),
            coalesce(_enqueue.channel_id, 0), _enqueue.subject_kind, _enqueue.subject, _enqueue.cause)
    returning request_id into id;
    return id;
end
$$;

-- Inner: a handler that cannot be called is refused now, not when the answer is there.
create function amzmp._check_handler(handler regproc) returns void
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
declare
    p pg_proc;
begin
    select x.* into p from pg_proc x where x.oid = handler;
    if p.oid is null or p.prokind <> 'f' or p.proargtypes <> array_to_string('{int8,int8,int4,jsonb}'::regtype[]::oid[], ' ')::oidvector then
        perform amzmp._fail('AZ202', format('%s cannot handle an answer', coalesce(p.oid::regprocedure::text, 'that function')),
            'A handler is a function of (account_id bigint, request_id bigint, status integer, answer jsonb).',
            format('create function %s(account_id bigint, request_id bigint, status integer, answer jsonb) returns void …', handler));
    elsif not has_function_privilege(amzmp._caller(), p.oid, 'execute') then
        perform amzmp._fail('42501', format('role "%s" may not execute %s', amzmp._caller(), p.oid::regprocedure), null,
            format('grant execute on function %s to %I;', p.oid::regprocedure, amzmp._caller()));
    end if;
end
$$;

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
    elsif handler is not null then
        perform amzmp._check_handler(handler);
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
