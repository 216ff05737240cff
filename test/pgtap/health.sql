-- health.sql
-- What health() tells before it hurts: a source whose table was dropped, a client secret that ends soon, a flow that failed.

\ir connection_setup.psql

select amzmp.create_account('eu', 'EU', 'app', 'A1DEMOSELLER', mode => 'mock', endpoint => simulator(), rate_scale => 0) as account_id \gset
create function check_of(name text) returns text language sql as $$
    select string_agg(state || ': ' || detail || coalesce(' -> ' || remedy, ''), '; ') from amzmp.health() where check_name like name
$$;

-- A client secret ends 180 days after it was made.
select amzmp.set_credentials('eu', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo') \g /dev/null
select ok(secret_expires_at between now() + interval '179 days' and now() + interval '180 days', 'a new secret has 180 days') from amzmp.application;
update amzmp.application set secret_expires_at = now() + interval '20 days';
select amzmp.set_credentials('eu', client_secret => 'amzn1.oa2-cs.v1.demo') \g /dev/null
select ok(secret_expires_at < now() + interval '21 days', 'the same one set again is no younger') from amzmp.application;
select is(check_of('application %'), null, 'a simulator''s secrets do not end');
update amzmp.account set mode = 'production', rate_scale = 1 where account_id = :account_id;
select matches(check_of('application app'), '^warning: the client secret ends at .* -> Make a new one .*set_credentials\(''eu''', 'a warning comes ahead');
update amzmp.application set secret_expires_at = now() - interval '1 minute';
select matches(check_of('application app'), '^error: the client secret ended at', 'and an error when it has ended');
update amzmp.account set mode = 'mock', rate_scale = 0 where account_id = :account_id;
select amzmp.update_application('app', client_id => 'amzn1.application-oa2-client.other') \g /dev/null
select is(secret_expires_at, null, 'another client has no secret that could end') from amzmp.application;

-- A dropped table is told at once.
create schema shop;
create table shop."Odd name" (sku text primary key, price numeric, stock integer);
create role keeper login;
grant amzmp_admin to keeper;
alter schema shop owner to keeper;
alter table shop."Odd name" owner to keeper;
set session authorization keeper;
select amzmp.attach_source('eu', 'shop."Odd name"') \g /dev/null
reset session authorization;
select becomes($$(select rescan_due > now() from amzmp.source)$$, 'the source was read');
select is(check_of('source %'), null, 'a source that can be read is no matter');
drop table shop."Odd name";
select matches(check_of('source %'), '^error: the relation shop."Odd name" of "eu" does not exist -> .*detach_source\(''eu'', ''shop."Odd name"''\)', 'a dropped one is told at once');

-- The last run of a flow failed.
insert into amzmp.flow_run (account_id, flow, state, started_at, error) values (:account_id, 'housekeeping', 'failed', now() - interval '1 hour', 'disk full');
select matches(check_of('flow housekeeping'), '^warning: the last run for "eu" failed at .*: disk full', 'a flow whose last run failed');
insert into amzmp.flow_run (account_id, flow, state, started_at) values (:account_id, 'housekeeping', 'done', now());
select is(check_of('flow housekeeping'), null, 'until it runs again');
select is((select state from amzmp.health() where check_name = 'processes'), 'ok', 'everything is at work');
select * from finish();
