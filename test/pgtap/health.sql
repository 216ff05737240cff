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
select matches(check_of('application app'), '^warning: the client secret ends at .* -> .*rotate_client_secret\(''app''\).*set_credentials\(''eu''', 'a warning comes ahead');
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
-- A role is missing.
create function refused(times integer, since interval, operation text default 'listTransactions', code integer default 403) returns void language sql as $$
    insert into amzmp.request_log (account_id, request_id, operation, outcome, status, attempt, priority, created_at, finished_at)
    select a.account_id, -i, operation, case code when 403 then 'refused' else 'success' end, code, 1, 100, now(), now() - since - i * interval '1 minute'
      from amzmp.account a, generate_series(1, times) i where a.name = 'eu';
$$;
select refused(1, '5 hours') \g /dev/null
select is(check_of('role %'), null, 'one refusal may be about its subject alone');
select refused(1, '3 hours') \g /dev/null
select matches(check_of('role eu listTransactions'), '^error: Amazon has refused listTransactions 2 times \(403\).* -> .*Finance and Accounting.*authorise it again',
    'refused again and again it is a missing role, and which');
select refused(1, '2 hours', 'getReports', 200) \g /dev/null
select isnt(check_of('role %'), null, 'that other calls are answered changes nothing');
select refused(1, '1 hour', 'listTransactions', 200) \g /dev/null
select is(check_of('role %'), null, 'once it is answered all is well');

-- Units that a pending order has held for very long.
insert into amzmp.reservation (account_id, amazon_order_id, order_item_id, sku, quantity, reserved_at)
values (:account_id, 'P-1', '1', 'CUP', 2, now() - interval '9 days'), (:account_id, 'P-2', '1', 'CUP', 1, now() - interval '1 day'),
       (:account_id, 'P-3', '1', 'CUP', 5, now() - interval '30 days');
update amzmp.reservation set released_at = now() where amazon_order_id = 'P-3';
select matches(check_of('reservations eu'), '^warning: 1 order has held 2 units for more than 7 days -> select \* from amzmp.held_stock',
    'old reservations are seen');
select results_eq($$select amazon_order_id, sku, units, held_for >= interval '9 days' from amzmp.held_stock order by reserved_at limit 1$$,
    $$values ('P-1', 'CUP', 2, true)$$, 'in a view, oldest first');
select is((select count(*) from amzmp.held_stock), 2::bigint, 'without those that were let go');
select results_eq(format($$select f.subject, f.value from (select jsonb_populate_record(null::amzmp.alarm, '{"account_id": %s, "threshold": 7}') as a) x,
    amzmp._alarm_old_reservations(x.a) f$$, :account_id), $$values ('P-1', 9.0)$$, 'and an alarm tells of them');

select is((select state from amzmp.health() where check_name = 'processes'), 'ok', 'everything is at work');
select * from finish();
