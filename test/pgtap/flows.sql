-- flows.sql
-- Flows: what switching one on needs, how often they run, who marks them due, how a run ends, and a fast account's clock.

\ir connection_setup.psql

select amzmp.create_account('eu', 'EU', 'app', 'A1DEMOSELLER', mode => 'mock', endpoint => simulator(), rate_scale => 0) as account_id \gset
select amzmp.set_credentials('eu', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo') \g /dev/null
select amzmp.create_channel('de', 'eu', 'DE'), amzmp.create_channel('ie', 'eu', 'IE') \g /dev/null
create function is_on(flow text, name text) returns boolean language sql as $$
    select f.enabled from amzmp.account_flow f join amzmp.name n using (account_id, channel_id) where f.flow = $1 and n.name = $2
$$;
create function runs(flow text, account_id bigint default null) returns bigint language sql as $$
    select coalesce(sum(1 + r.idle_runs), 0) from amzmp.flow_run r where r.flow = $1 and ($2 is null or r.account_id = $2)
$$;

-- Switching on.
select throws_ok($$select amzmp.enable('get_order', account => 'eu')$$, 'AZ201', 'there is no flow "get_order"', 'an unknown flow');
select throws_ok($$select amzmp.enable('get_orders', channel => 'de')$$, 'AZ202', 'flow "get_orders" is switched per account', 'the wrong kind of place');
select throws_ok($$select amzmp.enable('send_products', account => 'eu', channel => 'de')$$, 'AZ202', null, 'two places at once');
insert into amzmp.setting_definition (name, scope, type, label, description, required_by)
values ('rescan_reason', 'account', 'text', 'Why', 'Why we compare.', '{rescan}'), ('rescan_person', 'account', 'text', 'Who', 'Who compares.', '{rescan}');
select throws_ok($$select amzmp.enable('rescan', account => 'eu')$$, 'AZ003', 'flow "rescan" needs settings that are empty: rescan_person, rescan_reason',
    'missing settings are named');
select set_eq($$select setting from amzmp.settings_missing where flow = 'rescan'$$, array['rescan_reason', 'rescan_person'], 'a view lists them');
select amzmp.activate('eu') \g /dev/null
select ok(is_on('get_orders', 'eu'), 'activation switches the default flows on');
select ok(not is_on('rescan', 'eu'), 'but none that lacks settings');
select amzmp.set('eu', 'rescan_reason', 'because'), amzmp.set('eu', 'rescan_person', 'me') \g /dev/null
select lives_ok($$select amzmp.enable('rescan', account => 'eu')$$, 'with its settings it can be enabled');
select ok(is_on('rescan', 'eu'), 'and is');
select amzmp.disable('rescan', account => 'eu') \g /dev/null
select ok(not is_on('rescan', 'eu'), 'until it is disabled');

-- What Amazon does not offer.
update amzmp.marketplace set offers = false where country_code = 'IE';
select throws_ok($$select amzmp.enable('send_products', channel => 'ie')$$, 'AZ004', 'flow "send_products" needs offers, which Amazon does not offer in IE',
    'what Amazon does not offer there is refused');
select lives_ok($$select amzmp.enable('send_updated_product_price', account => 'eu')$$, 'for an account one of its marketplaces is enough');
select amzmp.activate('ie') \g /dev/null
select ok(not is_on('send_products', 'ie'), 'activation knows that too');
update amzmp.marketplace set offers = null where country_code = 'IE';
select lives_ok($$select amzmp.enable('send_products', channel => 'ie')$$, 'the unknown is allowed');

-- Frequencies.
select throws_ok(format('select amzmp.set_frequency(''get_orders'', %L)', every), 'AZ202', null, 'no schedule: ' || every)
  from (values ('5'), ('* * * *'), ('60 * * * *'), ('* 24 * * *'), ('*/0 * * * *'), ('5-1 * * * *'), ('1,, * * * *'), ('0 0 31 2 *'), ('mon * * * *'), ('* * * * * *')) v (every);
select is(amzmp._cron_next(every, '2026-02-27 23:58:30+00')::text, next::timestamptz::text, 'after ' || every)
  from (values ('* * * * *', '2026-02-27 23:59+00'), ('*/5 * * * *', '2026-02-28 00:00+00'), ('30 4 29 2 *', '2028-02-29 04:30+00'),
               ('0 12 * * 1', '2026-03-02 12:00+00'), ('0 12 * * 7', '2026-03-01 12:00+00'), ('0 0 15 * 6', '2026-02-28 00:00+00'),
               ('10-20/5,40 23 27 2 *', '2027-02-27 23:10+00')) v (every, next);
select amzmp.set_frequency('get_orders', ' */10  * * * * ') \g /dev/null
select results_eq($$select every, default_every from amzmp.flow_schedule where flow = 'get_orders'$$, $$values ('*/10 * * * *', '*/5 * * * *')$$,
    'a frequency is set');

-- pg_cron's jobs.
create role clerk login;
grant amzmp_operator to clerk;
set role clerk;
select throws_ok('select amzmp.set_frequency(''get_orders'', null)', '42501', null, 'not by everybody');
select throws_ok('select * from amzmp.schedule()', '42501', 'role "clerk" may not use pg_cron', 'who may not use pg_cron is told');
select lives_ok('select * from amzmp.health()', 'and can look at health all the same');
reset role;
select matches((select detail from amzmp.health() where check_name = 'pg_cron'), 'nobody marks these flows due: .*get_orders \(never\)', 'health says that the clock is missing');
grant usage on schema cron to clerk;
set role clerk;
select set_has($$select job, state from amzmp.schedule()$$, $$values ('amzmp get_orders', 'scheduled */10 * * * *')$$, 'jobs are made');
reset role;
select set_eq('select jobname, schedule, username from cron.job',
    $$select 'amzmp ' || flow as jobname, every as schedule, 'clerk' as username from amzmp.flow_schedule$$, 'one a flow, owned by the caller');
select amzmp.set_frequency('get_orders', null) \g /dev/null
set role clerk;
select isnt_empty('select * from amzmp.schedule()', 'made again');
reset role;
select results_eq($$select schedule, count(*) over () from cron.job where jobname = 'amzmp get_orders'$$, $$values ('*/5 * * * *', 1::bigint)$$,
    'they follow the frequencies and are not doubled');
select cron.unschedule(jobid) from cron.job \g /dev/null
select is((select state from amzmp.health() where check_name = 'pg_cron'), 'ok', 'jobs that were just made are given time');
update amzmp.flow_state set scheduled_at = now() - interval '2 hours 1 second' where flow <> 'purge_personal_data';
select matches((select detail from amzmp.health() where check_name = 'pg_cron'), 'get_orders \(never\).*housekeeping \(never\)', 'but no more than two periods');

-- Runs.
select is(amzmp.mark_due('get_orders'), 1::bigint, 'a flow is marked due');
select becomes($$(select state = 'done' and requests = 1 and refused = 0 from amzmp.flow_run where flow = 'get_orders')$$, 'it runs, and its requests are counted');
select doesnt_match((select detail from amzmp.health() where check_name = 'pg_cron'), 'get_orders', 'health saw the mark');
select throws_ok($$select amzmp.mark_due('nothing')$$, 'AZ201', null, 'an unknown flow is not marked');
create function amzmp._flow_break(account_id bigint, channel_id bigint, flow_run_id bigint) returns void
    language plpgsql as $$begin raise exception 'broken'; end$$;
alter function amzmp._flow_break(bigint, bigint, bigint) owner to amzmp_owner;
insert into amzmp.flow (flow, scope, every, on_by_default, title, description) values ('break', 'account', '0 0 1 1 *', false, 'Break', 'Breaks.');
insert into amzmp.account_flow (account_id, flow) values (:account_id, 'break');
select amzmp.run_flow('break', account => 'eu') \g /dev/null
select becomes($$(select state = 'failed' and error = 'broken' from amzmp.flow_run where flow = 'break')$$, 'a run that fails says why');
select becomes($$not exists (select from amzmp.task where subject = 'break/0')$$, 'and is over');

-- What an account must have for a flow to run. That credentials are refused is worth telling, and what is past its time goes anyway.
create function places(id bigint) returns text language sql as $$
    select string_agg(f.flow, ' ' order by f.flow)
      from unnest('{get_orders,watch_alarms,purge_personal_data,housekeeping}'::text[]) f (flow)
     where exists (select from amzmp._flow_places(f.flow, array[id]) p)
$$;
begin;
update amzmp.account_flow set enabled = true where account_id = :account_id and flow = 'watch_alarms';
select is(places(:account_id), 'get_orders housekeeping purge_personal_data watch_alarms', 'an account that is at work has all its flows');
update amzmp.account set state = 'invalid' where account_id = :account_id;
select is(places(:account_id), 'housekeeping purge_personal_data watch_alarms', 'one whose credentials were refused still tells and cleans up');
update amzmp.account set active = false where account_id = :account_id;
select is(places(:account_id), 'housekeeping purge_personal_data', 'one that is switched off still cleans up');
select amzmp.drop_account('eu') \g /dev/null
select is(places(:account_id), 'housekeeping purge_personal_data', 'and so does one that was dropped');
rollback;

-- A fast account.
select amzmp.create_account('fast', 'EU', 'app', 'A1DEMOSELLER', mode => 'mock', endpoint => simulator(), rate_scale => 0, time_scale => 600) as fast_id \gset
select amzmp.set_credentials('fast', refresh_token => 'Atzr|demo') \g /dev/null
select runs('send_updated_product_stock') as runs \gset
select amzmp.activate('fast') \g /dev/null
select becomes(format($$runs('send_updated_product_stock', %s) > 3$$, :fast_id),
    'a flow of a minute runs every tenth of a second where time runs 600 times as fast');
select is(runs('send_updated_product_stock') - runs('send_updated_product_stock', :fast_id), :runs::bigint,
    'and other accounts go by their own time');
select amzmp.deactivate('fast') \g /dev/null
select becomes($$not exists (select from amzmp.task where kind = 'clock' and due_at < now() + interval '1 second')$$, 'a clock stops with its account');
select is(control('GET', 'violations') ->> 'count', '0', 'Amazon would have nothing to object to');
select is_empty($$select f.flow from amzmp.flow f where to_regprocedure(format('amzmp.%I(bigint, bigint, bigint)', '_flow_' || f.flow)) is null$$,
    'each flow has its function');

select * from finish();
