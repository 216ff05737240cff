-- call.sql
--   amzmp.call: one reading operation, performed now in the backend that asks (C: call.c). Who may call what is decided
--   here; what changes anything at Amazon goes through enqueue.

-- Refuses what call may not do, and returns all that one call needs, the credentials opened.
create function amzmp._call_context(account text, operation text, params jsonb)
    returns table (account_id bigint, application_id bigint, generation bigint, method text, path text, all_params jsonb,
        grantless_scope text, endpoint text, token_endpoint text, client_id text, client_secret text,
        refresh_token text, plan text, rate float8, burst float8, app_class text, app_rate float8, app_burst float8,
        sandbox boolean, time_scale float8)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    a amzmp.account := amzmp._account($1);
    o amzmp.operation;
    p amzmp.application;
begin
    select x.* into o from amzmp.operation x where x.name = $2;
    select x.* into strict p from amzmp.application x where x.application_id = a.application_id;
    if o.name is null then
        perform amzmp._fail('AZ201', format('there is no operation "%s"', $2), null,
            'select name, method, path from amzmp.operation; lists them.');
    elsif o.secret then
        perform amzmp._fail('AZ004', format('operation "%s" answers with secrets', o.name), null,
            'amzmp calls it by itself where it is needed.');
    elsif not o.reads then
        perform amzmp._fail('AZ004', format('operation "%s" changes something at Amazon', o.name),
            'amzmp.call performs operations that only read.',
            format('select amzmp.enqueue(%L, %L, params, body);', a.name, o.name));
    elsif o.personal and not pg_has_role(amzmp._caller(), 'amzmp_buyer_data', 'usage') then
        perform amzmp._fail('42501', format('operation "%s" answers with buyers'' data', o.name), null,
            format('GRANT amzmp_buyer_data TO %I;', amzmp._caller()));
    elsif amzmp._is_fenced() and exists (select from amzmp.identity) then
        perform amzmp._fail('AZ203', 'this database is a copy and does not talk to Amazon',
            'Its server, database or node is another than the one that was confirmed.',
            'If it is to take over: select amzmp.confirm_identity();');
    elsif p.client_secret is null or (a.refresh_token is null and not o.grantless) then
        perform amzmp._fail('AZ003', format('account "%s" has no credentials', a.name), null,
            format('select amzmp.set_credentials(%L, file => …);', a.name));
    end if;
    if o.personal then
        perform amzmp._log_access(format('role "%s" called operation %s of account "%s", which answers with buyers'' data',
            amzmp._caller(), o.name, a.name));
    end if;
    return query
    select a.account_id, a.application_id, a.generation + p.generation, o.method, o.path,
           case when o.path like '%{sellerId}%' and a.seller_id is not null
                then jsonb_build_object('sellerId', a.seller_id) else '{}' end
               || coalesce($3, '{}') || coalesce(o.fixed_params, '{}'),
           o.grantless_scope, a.endpoint, a.token_endpoint, p.client_id,
           amzmp._open(p.client_secret, 'client_secret', 'application:' || p.application_id),
           case when not o.grantless
                then amzmp._open(a.refresh_token, 'refresh_token', 'account:' || a.account_id) end,
           o.plan, (o.rate * a.rate_scale * a.time_scale)::float8, o.burst::float8,
           o.app_class, (o.app_rate * a.rate_scale * a.time_scale)::float8, o.app_burst::float8, a.mode = 'sandbox',
           a.time_scale::float8;
end
$$;
comment on function amzmp._call_context(text, text, jsonb) is
    'What amzmp.call needs to know about one call, or the reason why it is refused.';

create function amzmp._call(account text, operation text, params jsonb default '{}', body jsonb default null)
    returns jsonb
    language c volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_call';

-- The same with what test_connection wants to know: Amazon's clock and the time its answer took.
create function amzmp._call_timed(account text, operation text, params jsonb, body jsonb, out answer jsonb,
        out server_time timestamptz, out latency_ms integer)
    returns record
    language c volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_call_timed';
comment on function amzmp._call_timed(text, text, jsonb, jsonb) is
    'As call, with the server''s clock (to the second, null when it sent none) and the time its answer took.';

select amzmp._expose('amzmp._call(text, text, jsonb, jsonb)', 'amzmp_operator',
    'Perform an SP-API operation that reads, now, and return its answer. params holds what the path and the query need; sellerId is filled in. Refused in a transaction that has written; waits at most amzmp.call_timeout.');

-- How requests are built and answers judged (C: spapi.c, spapi_answer.c, lwa.c), to be looked at without a network.
create function amzmp._spapi_request(method text, path text, params jsonb, content text, out url text,
        out headers text[], out body text)
    returns record
    language c volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_spapi_request';
comment on function amzmp._spapi_request(text, text, jsonb, text) is 'The request that a call would become. For tests.';

create function amzmp._spapi_judge(fault text, status integer, headers text[], body bytea, out verdict text,
        out code text, out message text, out details text, out request_id text, out rate float8, out answer text,
        out answer_error text, out next_token text)
    returns record
    language c volatile strict parallel unsafe set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_spapi_judge';
comment on function amzmp._spapi_judge(text, integer, text[], bytea) is 'What an answer of Amazon means. For tests.';

create function amzmp._lwa_judge(fault text, status integer, headers text[], body bytea, out verdict text,
        out access_token text, out expires_in integer, out refresh_token text, out code text, out message text)
    returns record
    language c volatile strict parallel unsafe set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_lwa_judge';
comment on function amzmp._lwa_judge(text, integer, text[], bytea) is
    'What an answer of Login with Amazon means. For tests.';

create function amzmp._spapi_backoff(attempt integer, rate float8, random float8)
    returns bigint
    language c immutable strict parallel safe set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_spapi_backoff';
comment on function amzmp._spapi_backoff(integer, float8, float8) is
    'Milliseconds before a retry, of which random (0 to 1) chooses the share. For tests.';
