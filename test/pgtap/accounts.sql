-- accounts.sql
-- Applications, accounts and channels: what is refused when they are made, that they are inactive at first, and what
-- dropping them leaves.

\ir connection_setup.psql

select throws_ok($$select amzmp.create_application('app', 'amzn1.application-oa2-client.other')$$, '42710', 'application "app" exists', 'names of applications are unique');
select throws_ok($$select amzmp.create_application('a b', 'amzn1.application-oa2-client.other')$$, 'AZ202', '"a b" is not a usable name', 'names have a form');
select throws_ok($$select amzmp.create_application('other', 'amzn1.sp.solution.1')$$, 'AZ202', null, 'an application id is no client id');

select throws_ok($$select amzmp.create_account('eu', 'EU', 'nothing')$$, 'AZ201', 'there is no application "nothing"', 'an account needs its application');
select throws_ok($$select amzmp.create_account('eu', 'Europe', 'app')$$, 'AZ202', '"Europe" is not a region', 'and a region');
select throws_ok($$select amzmp.create_account('eu', 'EU', 'app', mode => 'test')$$, 'AZ202', '"test" is not a mode', 'and a mode');
select throws_ok($$select amzmp.create_account('eu', 'EU', 'app', mode => 'mock')$$, 'AZ202', 'a mock account needs an endpoint', 'a mock one an endpoint');
select throws_ok($$select amzmp.create_account('eu', 'EU', 'app', mode => 'mock', endpoint => 'https://example.com')$$, 'AZ004',
    'host "example.com" is not allowed as an endpoint', 'on this machine');
select throws_ok($$select amzmp.create_account('eu', 'EU', 'app', endpoint => simulator())$$, 'AZ202', null, 'a real one has none of its own');
select throws_ok($$select amzmp.create_account('eu', 'EU', 'app', time_scale => 2)$$, 'AZ202', null, 'and lives in real time');
select throws_ok($$select amzmp.create_account('eu', 'EU', 'app', seller_id => 'me')$$, 'AZ202', '"me" is not a seller id', 'a seller id has a form');
select amzmp.create_account('real', 'NA', 'app') \g /dev/null
select results_eq($$select endpoint, token_endpoint, state, active from amzmp.account where name = 'real'$$,
    $$values ('https://sellingpartnerapi-na.amazon.com', 'https://api.amazon.com/auth/o2/token', 'added', false)$$,
    'endpoints follow from the region, and nothing runs yet');
select throws_ok($$select amzmp.set_credentials('real', client_secret => 'x')$$, 'AZ004', null, 'real credentials come from a file');
select throws_ok($$select amzmp.activate('real')$$, 'AZ003', 'account "real" has no credentials', 'without them it cannot be activated');

select amzmp.create_account('eu', 'eu', 'app', mode => 'mock', endpoint => simulator() || '/', rate_scale => 0) as account_id \gset
select throws_ok($$select amzmp.create_account('eu', 'EU', 'app')$$, '42710', 'the name "eu" is taken', 'names are unique');
select throws_ok($$select amzmp.create_channel('us', 'eu', 'US')$$, 'AZ202', 'marketplace US belongs to region NA, account "eu" to EU', 'a channel lies in the account''s region');
select throws_ok($$select amzmp.create_channel('eu', 'eu', 'DE')$$, '42710', 'the name "eu" is taken', 'accounts and channels share their names');
select lives_ok(format('select amzmp.create_channel(%L, ''eu'', %L)', 'c_' || country_code, case when country_code = 'GB' then 'UK' else marketplace_id end), 'a channel for ' || country_code)
  from amzmp.marketplace where region = 'EU';
select throws_ok($$select amzmp.create_channel('again', 'eu', 'DE')$$, '42710', 'account "eu" has a channel for DE already', 'one a marketplace');
select amzmp.set_credentials('eu', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo') \g /dev/null
select throws_ok($$select amzmp.activate('eu')$$, 'AZ003', 'account "eu" has no seller id', 'an account needs its seller id');
select amzmp.set_seller_id('eu', 'A1DEMOSELLER') \g /dev/null
select throws_ok($$select amzmp.activate('c_DE')$$, 'AZ203', 'account "eu" is not active', 'a channel its account');
select amzmp.activate('eu'), amzmp.activate('c_DE') \g /dev/null
select results_eq($$select a.active, c.active from amzmp.account a join amzmp.channel c using (account_id) where c.name = 'c_DE'$$,
    $$values (true, true)$$, 'then they are active');
select amzmp.update_channel('c_DE', 'the big one') \g /dev/null
select is((select note from amzmp.channel where name = 'c_DE'), 'the big one', 'a channel has a note');

-- Limits.
create role clerk login;
grant amzmp_operator to clerk;
select amzmp.limit_role('clerk', array['real']) \g /dev/null
set role clerk;
select throws_ok($$select amzmp.hold('eu', 'why')$$, '42501', null, 'a limited role acts on its accounts only');
select set_eq('select name from amzmp.account', array['real'], 'and sees no others');
reset role;
select amzmp.limit_role('clerk', '{}') \g /dev/null
set role clerk;
select set_eq('select name from amzmp.account', array['real', 'eu'], 'the limit can be lifted');
select throws_ok($$select amzmp.drop_account('eu')$$, '42501', null, 'but an operator drops nothing');
reset role;

-- What is wrong with a client secret is wrong with its application.
select amzmp.create_account('twin', 'EU', 'app', 'A1DEMOTWIN', 'mock', 'http://127.0.0.1:9') \g /dev/null
select amzmp.set_credentials('twin', refresh_token => 'Atzr|demo') \g /dev/null
select amzmp._account_invalid(:account_id, 'invalid_grant', 'revoked') \g /dev/null
select results_eq($$select name, state from amzmp.account where name in ('eu', 'twin') order by 1$$, $$values ('eu', 'invalid'), ('twin', 'added')$$,
    'a refresh token that is refused stops its account alone');
select amzmp._account_invalid(:account_id, 'invalid_client', 'Client authentication failed') \g /dev/null
select results_eq($$select name, state, state_reason from amzmp.account where name in ('eu', 'twin') order by 1$$,
    $$select n, 'invalid', 'application "app": invalid_client: Client authentication failed' from unnest('{eu,twin}'::text[]) n order by 1$$,
    'a client secret that is refused stops all accounts of its application, which the reason names');
select is_empty($$select from amzmp.account where name = 'real' and state = 'invalid'$$, 'but those of another mode go elsewhere');
select amzmp.set_credentials('eu', client_secret => 'amzn1.oa2-cs.v1.demo') \g /dev/null
select results_eq($$select distinct state from amzmp.account where name in ('eu', 'twin')$$, array['added'], 'another one, set for any of them, starts them all');

-- A handler is looked at when the call is queued.
create function no_handler(text) returns void language sql as '';
create function a_handler(account_id bigint, request_id bigint, status integer, answer jsonb) returns void language sql as '';
set session authorization clerk;
select throws_ok($$select amzmp.enqueue('eu', 'getFeeds', '{}', null, 'no_handler')$$, 'AZ202', 'public.no_handler(text) cannot handle an answer',
    'a function of other arguments handles no answer');
select lives_ok($$select amzmp.enqueue('eu', 'getFeeds', '{}', null, 'a_handler')$$, 'one of these does');
reset session authorization;
revoke execute on function a_handler from public;
set session authorization clerk;
select throws_ok($$select amzmp.enqueue('eu', 'getFeeds', '{}', null, 'a_handler')$$, '42501', null, 'if the caller may execute it');
reset session authorization;
select throws_ok($$select amzmp.set_credentials(null, client_secret => 'x')$$, 'AZ201', 'no account is named: null', 'a null is no name');
select throws_ok($$select amzmp.create_application('nothing', null)$$, 'AZ202', '"NULL" is not an LWA client id', 'nor a client id');
begin;
select throws_ok($$call amzmp.wait()$$, '25001', 'amzmp.wait cannot be called inside a transaction block', 'nobody waits for what he has not committed');
rollback;

-- Dropping.
select amzmp.hold('eu', 'keep it queued') \g /dev/null
select throws_ok($$select amzmp.enqueue('eu', 'getFeeds', '[]')$$, 'AZ202', 'the parameters of an operation must be a JSON object', 'parameters have names');
select amzmp.enqueue('eu', 'getFeeds', '{"feedTypes": ["JSON_LISTINGS_FEED"]}') \g /dev/null
select amzmp.drop_channel('c_DE') \g /dev/null
select throws_ok($$select amzmp.activate('c_DE')$$, 'AZ201', null, 'a dropped channel is unknown');
select lives_ok($$select amzmp.create_channel('c_DE', 'eu', 'DE')$$, 'its name and marketplace are free');
select is((select count(*)::integer from amzmp.channel where marketplace_id = 'A1PA6795UKMFR9'), 1, 'and it is the same again');
select amzmp.set_queue('eu', 'arn:aws:sqs:eu-west-1:123456789012:q', access_key_id => 'AK', secret_access_key => 'SK') \g /dev/null
select amzmp.subscribe('eu') \g /dev/null
select amzmp.drop_account('eu') \g /dev/null
select is((select count(*) from amzmp.queue) + (select count(*) from amzmp.subscription) + (select count(*) from amzmp.destination),
    0::bigint, 'a dropped account reads no queue, and its keys are gone');
select is_empty($$select from amzmp.account where name = 'eu' and (refresh_token is not null or active or state <> 'dropped')$$, 'a dropped account has no credentials');
select set_eq(format('select flow from amzmp.account_flow where account_id = %s and enabled', :account_id),
    array['housekeeping', 'purge_personal_data'], 'no flows but those that rid it of what has to go');
select is_empty(format('select from amzmp.request where account_id = %s and state <> ''sending''', :account_id), 'nothing to send');
select isnt_empty(format('select from amzmp.activity where account_id = %s', :account_id), 'and a history');
select throws_ok($$select amzmp.call('eu', 'getFeeds')$$, 'AZ201', null, 'calls do not know it');
select lives_ok($$select amzmp.create_account('eu', 'EU', 'app')$$, 'its name is free');
select * from finish();
