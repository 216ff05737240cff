-- bodies.sql
-- Bodies of requests: kept when an account asks for it, masked and sealed, shown to whom they may be shown, and gone in time.

\ir connection_setup.psql

select amzmp.create_account('eu', 'EU', 'app', 'A1DEMOSELLER', mode => 'mock', endpoint => simulator(), rate_scale => 0) as account_id \gset
select amzmp.set_credentials('eu', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo') \g /dev/null
select amzmp.activate('eu') \g /dev/null

create function done(request_id bigint) returns text language sql as $$
    select format('exists (select from amzmp.request_log where request_id = %s)', $1)
$$;
create role boss login;
grant amzmp_admin to boss;
create role operator login;
grant amzmp_operator to operator;

select amzmp.enqueue('eu', 'getFeeds', '{"feedTypes": ["JSON_LISTINGS_FEED"]}') as before \gset
select becomes(done(:before), 'a request ends');
select throws_matching(format($$select amzmp.request_bodies('eu', %s)$$, :before), 'no body of request .* is kept', 'as a rule nothing is kept');
select throws_ok($$select amzmp.request_bodies('eu', 0)$$, 'AZ201', null, 'an unknown request is told apart');

select amzmp.set('eu', 'keep_bodies', 'true') \g /dev/null
select amzmp.enqueue('eu', 'createReport', '{}', '{"reportType": "GET_MERCHANT_LISTINGS_ALL_DATA", "marketplaceIds": ["A1PA6795UKMFR9"], "reportOptions": {"note": "Atzr|IwEBcanary"}}') as refused \gset
select amzmp.enqueue('eu', 'getFeeds', '{"feedTypes": ["JSON_LISTINGS_FEED"]}') as feeds \gset
select amzmp.enqueue('eu', 'searchOrders', '{"lastUpdatedAfter": "2026-01-01T00:00:00Z", "marketplaceIds": ["A1PA6795UKMFR9"]}') as orders \gset
select becomes(done(:refused), 'a request with a body ends');
select becomes(done(:feeds), 'one without too');
select becomes(done(:orders), 'and one about buyers');

set role boss;
select results_eq(format($$select operation, (sent::jsonb -> 'params')::text, answer is not null from amzmp.request_bodies('eu', %s)$$, :feeds),
    $$values ('getFeeds', '{"feedTypes": ["JSON_LISTINGS_FEED"]}', true)$$, 'what was asked and answered can be read');
select doesnt_match(b.sent || b.answer, 'canary', 'tokens are masked') from amzmp.request_bodies('eu', :refused) b;
select matches(b.sent, 'GET_MERCHANT_LISTINGS_ALL_DATA', 'and nothing else') from amzmp.request_bodies('eu', :refused) b;
select throws_ok(format($$select * from amzmp.request_bodies('eu', %s)$$, :orders), '42501', null, 'orders need the right to see buyers');
reset role;
grant amzmp_buyer_data to boss;
set role boss;
select matches((select answer from amzmp.request_bodies('eu', :orders)), 'orders', 'with it they are shown');
reset role;
set role operator;
select throws_ok(format($$select * from amzmp.request_bodies('eu', %s)$$, :feeds), '42501', null, 'bodies are for admins');
reset role;
select is_empty($$select from amzmp.request_log l where position('JSON_LISTINGS_FEED'::bytea in l.sent_body) > 0$$, 'they are sealed');

-- A consent's exchange carries secrets and is never kept.
select amzmp.update_application('app', application_id => 'amzn1.sp.solution.1') \g /dev/null
select control('POST', 'codes', '{"code": "canary-code", "seller": "A1DEMOSELLER"}') \g /dev/null
select amzmp.complete_auth(substring(amzmp.auth_url('eu') from 'state=([0-9a-f]+)'), 'canary-code', 'A1DEMOSELLER') as consent \gset
select becomes(done(:consent), 'a consent is exchanged');
select is_empty(format($$select from amzmp.request_log where request_id = %s
    and (sent_body is not null or answer_body is not null)$$, :consent),
    'and not kept');

-- An answer that could not be applied is the one to look at.
create function amzmp._handle_nothing(answers amzmp.answer_row[]) returns void language plpgsql as $$begin raise exception 'no handler'; end$$;
alter function amzmp._handle_nothing(amzmp.answer_row[]) owner to amzmp_owner;
select amzmp._enqueue(:account_id, 'getFeeds', '{"feedTypes": ["JSON_LISTINGS_FEED"]}', null, '_handle_nothing', null, 100, null, 0, null, null, null) as failed \gset
select amzmp._wake() \g /dev/null
select becomes(done(:failed), 'an answer that cannot be applied');
select results_eq(format($$select outcome, answer is not null from amzmp.request_bodies('eu', %s)$$, :failed),
    $$values ('handler_failed', true)$$, 'is kept too');

-- An error may quote what it could not take.
create function amzmp._handle_quoted(answers amzmp.answer_row[]) returns void language plpgsql
    as $$begin raise exception 'cannot take "Jane Roe"'; end$$;
alter function amzmp._handle_quoted(amzmp.answer_row[]) owner to amzmp_owner;
select amzmp._enqueue(:account_id, 'searchOrders', '{"createdAfter": "2026-01-01T00:00:00Z", "marketplaceIds": ["A1PA6795UKMFR9"]}',
    null, '_handle_quoted', null, 100, null, 0, 'order', '403-0000001-0000001', null) as quoted \gset
select amzmp._wake() \g /dev/null
select becomes(done(:quoted), 'an answer with buyers'' data that cannot be applied');
select results_eq(format($$select outcome, error_message from amzmp.request_log where request_id = %s$$, :quoted),
    $$values ('handler_failed', 'cannot take "…" (P0001)')$$, 'is told without them');
select is_empty($$select from amzmp.activity where message like '%Jane Roe%' union all select from amzmp.penalty where message like '%Jane Roe%'$$,
    'wherever it is told');

select amzmp._purge_bodies(:account_id) \g /dev/null
select isnt_empty('select from amzmp.request_log where sent_body is not null', 'they stay for a while');
select amzmp.set('eu', 'body_retention', '0') \g /dev/null
select amzmp._purge_bodies(:account_id) \g /dev/null
select is_empty('select from amzmp.request_log where sent_body is not null or answer_body is not null', 'and then go, the history stays');
select * from finish();
