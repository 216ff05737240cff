-- connection.sql
-- What amzmp.test_connection tells: which credential is wrong, which region, marketplace, seller id or role, and the clock.

\ir connection_setup.psql

select amzmp.create_account('eu', 'EU', 'app', 'A1DEMOSELLER', mode => 'mock', endpoint => simulator(), rate_scale => 0) \g /dev/null
select amzmp.create_channel('de', 'eu', 'DE'), amzmp.create_channel('pl', 'eu', 'PL') \g /dev/null

create function verdict(account text, check_name text) returns text language sql volatile as $$
    select format('%s: %s', coalesce(t.ok::text, 'unknown'), t.detail) from amzmp.test_connection($1) t where t.check_name = $2
$$;
create function account_state(name text) returns text language sql as $$
    select concat_ws(': ', a.state, a.state_reason) from amzmp.account a where a.name = $1
$$;

select throws_ok($$select amzmp.test_connection('nobody')$$, 'AZ201', null, 'the account must exist');
select throws_ok($$select amzmp.test_connection('eu')$$, 'AZ003', 'account "eu" has no credentials', 'and have credentials');
select amzmp.set_credentials('eu', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo') \g /dev/null
grant amzmp_buyer_data to postgres;

select results_eq($$select check_name, ok from amzmp.test_connection('eu')$$,
    $$values ('token', true), ('region', true), ('marketplace de', true), ('marketplace pl', true), ('selling plan', true),
             ('seller id and listings role', true), ('feeds role', true), ('reports role', true), ('orders role', true), ('clock', true)$$,
    'a connected account passes every check');
select is(account_state('eu'), 'valid', 'and is valid');
select set_eq($$select jsonb_object_keys(control('GET', 'stats') -> 'operations')$$,
    $$values ('token'), ('getMarketplaceParticipations'), ('getAccount'), ('searchListingsItems'), ('getFeeds'), ('getReports'), ('searchOrders')$$,
    'nothing was called that writes');

begin;
create table written (a integer);
select throws_ok($$select amzmp.test_connection('eu')$$, 'AZ203', null, 'a transaction that has written cannot test');
rollback;

-- Marketplaces and plan.
select control('POST', 'sellers', '{"seller": "A1DEMOSELLER", "plan": "INDIVIDUAL", "absent": ["A1C3SOZRARQ6R3"], "suspended": ["A1PA6795UKMFR9"]}') \g /dev/null
select is(verdict('eu', 'marketplace pl'), 'false: the account does not take part in PL', 'a marketplace without the account');
select is(verdict('eu', 'marketplace de'), 'false: the account''s listings in DE are suspended', 'one where it is suspended');
select is(verdict('eu', 'selling plan'), 'false: the plan is individual', 'the wrong plan');
select control('POST', 'sellers', '{"seller": "A1DEMOSELLER", "plan": "PROFESSIONAL", "absent": [], "suspended": []}') \g /dev/null

-- Seller id and roles.
select amzmp.set_seller_id('eu', 'A1SOMEBODYELSE') \g /dev/null
select matches(verdict('eu', 'seller id and listings role'), '^false: listings of seller A1SOMEBODYELSE are refused', 'a wrong seller id');
select throws_ok($$select amzmp.set_seller_id('eu', 'a1')$$, 'AZ202', '"a1" is not a seller id', 'one that cannot be one');
select amzmp.set_seller_id('eu', 'A1DEMOSELLER') \g /dev/null
select control('POST', 'faults', '{"operation": "getFeeds", "kind": "status", "status": 403, "code": "Unauthorized", "message": "no", "count": 2}') \g /dev/null
select is(verdict('eu', 'feeds role'), 'false: feeds are refused (403): a role is missing, or was added without authorizing again', 'a missing role');
select control('DELETE', 'faults') \g /dev/null
revoke amzmp_buyer_data from postgres;
create role clerk login;
grant amzmp_admin to clerk;
set role clerk;
select matches(verdict('eu', 'orders role'), '^unknown: not asked', 'who may not see buyers is not shown what Amazon would tell of them');
reset role;

-- The clock.
select control('POST', 'settings', '{"date_skew": -600}') \g /dev/null
select matches(verdict('eu', 'clock'), '^false: this server''s clock is (59\d|60\d) s ahead', 'a clock that is ahead');
select control('POST', 'settings', '{"date_skew": 20}') \g /dev/null
select matches(verdict('eu', 'clock'), '^unknown: this server''s clock is (19|20|21) s behind', 'one that is a little behind');
select control('POST', 'settings', '{"date_skew": 0}') \g /dev/null

-- Region, endpoint, credentials.
select control('POST', 'faults', '{"operation": "getMarketplaceParticipations", "kind": "status", "status": 403, "code": "Unauthorized", "message": "no", "count": 2}') \g /dev/null
select matches(verdict('eu', 'region'), '^false: refused at .* \(403\): the account is not of region EU', 'a wrong region');
select control('DELETE', 'faults') \g /dev/null
select is(account_state('eu'), 'valid', 'does not say that the credentials are wrong');
select amzmp.set_credentials('eu', refresh_token => 'Atzr|revoked') \g /dev/null
select matches(verdict('eu', 'token'), '^false: the refresh token was revoked', 'a wrong refresh token');
select matches(account_state('eu'), '^invalid: the refresh token', 'makes the account invalid, with the reason');
select amzmp.set_credentials('eu', client_secret => 'amzn1.oa2-cs.v1.wrong', refresh_token => 'Atzr|demo') \g /dev/null
select matches(verdict('eu', 'token'), '^false: client id or client secret is wrong', 'a wrong client secret is told from it');
select amzmp.set_credentials('eu', client_secret => 'amzn1.oa2-cs.v1.demo') \g /dev/null
select is(verdict('eu', 'token'), 'true: Login with Amazon accepts client id, client secret and refresh token', 'mended');
select is(account_state('eu'), 'valid', 'the account is valid again');
select control('POST', 'faults', '{"operation": "token", "kind": "status", "status": 503, "count": -1}') \g /dev/null
select amzmp.set_credentials('eu', refresh_token => 'Atzr|demo') \g /dev/null
select matches(verdict('eu', 'token'), '^false: no access token', 'a token service that is down');
select is(account_state('eu'), 'added', 'says nothing about the credentials');
select control('DELETE', 'faults') \g /dev/null

-- Another endpoint.
select amzmp.update_account('eu', note => 'by the demo') \g /dev/null
select is((select note from amzmp.account where name = 'eu'), 'by the demo', 'an account has a note');
select throws_ok($$select amzmp.update_account('eu', endpoint => 'https://elsewhere.example')$$, 'AZ004', null, 'credentials go to no strange host');
select amzmp.update_account('eu', endpoint => 'http://127.0.0.1:9') \g /dev/null
select is_empty($$select from amzmp.account where name = 'eu' and (refresh_token is not null or active or state <> 'added')$$,
    'another endpoint drops the refresh token');
select is((select token_endpoint from amzmp.account where name = 'eu'), 'http://127.0.0.1:9/auth/o2/token', 'and takes the token endpoint along');
select amzmp.create_account('prod', 'NA', 'app') \g /dev/null
select throws_ok($$select amzmp.update_account('prod', endpoint => 'http://127.0.0.1:9')$$, 'AZ202', null, 'that of a real account cannot be changed');
select amzmp.update_application('app', client_id => 'amzn1.application-oa2-client.other') \g /dev/null
select is((select client_secret from amzmp.application), null, 'another client id drops the client secret');
select is(control('GET', 'violations') ->> 'count', '0', 'Amazon would have nothing to object to');
select * from finish();
