-- consent.sql
-- A seller's consent for an account that is not one's own: the link, what is refused, and the exchange of the code.

\ir connection_setup.psql

select amzmp.create_account('own', 'EU', 'app', mode => 'mock', endpoint => simulator()) as account_id \gset
select throws_ok($$select amzmp.auth_url('own')$$, 'AZ003', 'application "app" has no application id', 'a link needs the application''s id');
select throws_ok($$select amzmp.update_application('app', redirect_uri => 'http://example.com/')$$, 'AZ202', null, 'Amazon calls https only');
select amzmp.update_application('app', application_id => 'amzn1.sp.solution.1 2', redirect_uri => 'https://example.com/amazon?shop=ü') \g /dev/null
select throws_ok($$select amzmp.auth_url('own')$$, 'AZ003', 'application "app" has no client secret', 'and the client secret for what comes back');
select amzmp.set_credentials('own', client_secret => 'amzn1.oa2-cs.v1.demo') \g /dev/null
select throws_ok($$select amzmp.auth_url('own', valid_for => '31 days')$$, 'AZ202', null, 'a link does not live long');

-- The link.
create table link (name text, url text, state text generated always as (substring(url from 'state=([0-9a-f]+)')) stored);
insert into link values ('first', amzmp.auth_url('own')), ('second', amzmp.auth_url('own', draft => true)), ('third', amzmp.auth_url('own'));
create function state(name text) returns text language sql as $$select l.state from link l where l.name = $1$$;
select matches((select url from link where name = 'first'),
    '^https://sellercentral-europe\.amazon\.com/apps/authorize/consent\?application_id=amzn1\.sp\.solution\.1%202&state=[0-9a-f]{64}&redirect_uri=https%3A%2F%2Fexample\.com%2Famazon%3Fshop%3D%C3%BC$',
    'the link names application, state and redirect URI, encoded');
select matches((select url from link where name = 'second'), '&version=beta$', 'that of a draft says so');
select is((select count(distinct state)::integer from link), 3, 'each has a state of its own');
select is_empty($$select from amzmp.consent_state c, link l where strpos(c::text, l.state) > 0$$, 'which is not kept');
select amzmp.create_channel('own_pl', 'own', 'PL') \g /dev/null
select matches(amzmp.auth_url('own'), '^https://sellercentral\.amazon\.pl/', 'an account''s first channel says where consent is given');

-- What is refused.
select throws_ok($$select amzmp.complete_auth('0123', 'code', 'A1NEWSELLER')$$, 'AZ202', 'this state belongs to no consent link', 'an unknown state');
select throws_ok($$select amzmp.complete_auth(null, 'code', 'A1NEWSELLER')$$, 'AZ202', 'this state belongs to no consent link', 'none at all');
select throws_ok($$select amzmp.complete_auth(state('first'), 'co de', 'A1NEWSELLER')$$, 'AZ202', null, 'a code that is none');
select throws_ok($$select amzmp.complete_auth(state('first'), 'code', 'new seller')$$, 'AZ202', '"new seller" is not a seller id', 'a seller id that is none');
update amzmp.consent_state set expires_at = now() where state_hash = sha256(convert_to(state('second'), 'UTF8'));
select throws_matching($$select amzmp.complete_auth(state('second'), 'code', 'A1NEWSELLER')$$, 'expired at', 'a late answer');
create role clerk login;
grant amzmp_operator to clerk;
set role clerk;
select throws_ok($$select amzmp.complete_auth('x', 'code', 'A1NEWSELLER')$$, '42501', null, 'who may not connect accounts may not answer');
reset role;

-- The exchange.
select control('POST', 'codes', '{"code": "canary-code-1", "seller": "A1NEWSELLER", "client_id": "amzn1.application-oa2-client.demo", "redirect_uri": "https://example.com/amazon?shop=ü"}') \g /dev/null
select lives_ok($$select amzmp.complete_auth(state('first'), 'canary-code-1', 'A1NEWSELLER')$$, 'a state, a code and a seller are taken');
select becomes($$(select a.state = 'valid' and a.refresh_token is not null from amzmp.account a where a.name = 'own')$$,
    'the code is exchanged after commit, though the account is not active');
select is((select seller_id from amzmp.account where name = 'own'), 'A1NEWSELLER', 'the seller id is filled in');
select isnt(amzmp.call('own', 'getMarketplaceParticipations'), null, 'and the account can be used');
select results_eq($$select code, outcome from amzmp.consent_state where used_at is not null$$, $$values (null::bytea, 'granted')$$,
    'the code is gone');
select throws_matching($$select amzmp.complete_auth(state('first'), 'canary-code-1', 'A1NEWSELLER')$$, 'was used already', 'a link is answered once');
select lives_ok($$select amzmp.activate('own')$$, 'the account can be activated');
select throws_matching($$select amzmp.complete_auth(state('third'), 'code', 'A2OTHERSELLER')$$, 'seller A2OTHERSELLER gave consent',
    'another seller''s consent is not taken for this account');

-- What goes wrong.
select lives_ok($$select amzmp.complete_auth(state('third'), 'canary-code-unknown', 'A1NEWSELLER')$$, 'a code that Amazon does not know');
select becomes($$exists (select from amzmp.consent_state where outcome = 'invalid_grant')$$, 'is told apart');
select is((select state from amzmp.account where name = 'own'), 'valid', 'an account that works goes on with the consent it has');
select amzmp.create_account('late', 'EU', 'app', mode => 'mock', endpoint => simulator()) \g /dev/null
insert into link values ('late', amzmp.auth_url('late'));
select control('POST', 'codes', '{"code": "canary-code-2", "seller": "A1LATESELLER", "redirect_uri": "https://example.com/amazon?shop=ü"}') \g /dev/null
select control('POST', 'faults', '{"operation": "token", "kind": "drop_after"}') \g /dev/null
select lives_ok($$select amzmp.complete_auth(state('late'), 'canary-code-2', 'A1LATESELLER')$$, 'an answer that is lost');
select becomes($$(select state_reason ~ 'make another link' from amzmp.account where name = 'late')$$, 'asks for another link: a code is good for one exchange');
insert into link values ('again', amzmp.auth_url('late'));
select control('POST', 'codes', '{"code": "canary-code-3", "seller": "A1LATESELLER", "redirect_uri": "https://example.com/amazon?shop=ü"}') \g /dev/null
select control('POST', 'faults', '{"operation": "token", "kind": "status", "status": 503}') \g /dev/null
select lives_ok($$select amzmp.complete_auth(state('again'), 'canary-code-3', 'A1LATESELLER')$$, 'an outage');
select becomes($$(select state = 'valid' from amzmp.account where name = 'late')$$, 'is waited out');

select is_empty($$select from amzmp.activity x where x::text ~ 'canary|Atzr'$$, 'no code or token is in the log');
select is_empty($$select from amzmp.request_log x where x::text ~ 'canary|Atzr'$$, 'nor in the history of requests');
select is(control('GET', 'violations') ->> 'count', '0', 'Amazon would have nothing to object to');
select * from finish();
