-- many_accounts.sql
-- Accounts that have nothing to do cost next to nothing, however many: their flows are looked at by one statement, take one
-- task together, and no flow's own function is called for them. Those with work are found among them. All in a transaction
-- that nobody else sees.

\ir connection_setup.psql

begin;
set local track_functions = 'all';
create temporary table many as
select i, amzmp.create_account('a' || i, 'EU', 'app', 'A1DEMOSELLER', 'mock', simulator(), time_scale => 1 + i % 2) as account_id
  from generate_series(1, 60) i;
select count(amzmp.set_credentials('a' || i, client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo')),
       count(amzmp.create_channel('a' || i || '-de', 'a' || i, 'DE')) from many \g /dev/null
select count(amzmp.activate('a' || i)), count(amzmp.activate('a' || i || '-de')) from many \g /dev/null
select count(amzmp._task_count(account_id, '', '{}')) from many \g /dev/null
delete from amzmp.task;

create temporary table often as
select f.flow, f.scope from amzmp.flow f where f.on_by_default and f.every ~ '^\*' and f.flow <> 'get_orders';
-- Calls of functions, of those whose names are like a pattern.
create function calls(pattern text) returns bigint language sql as $$
    select coalesce(sum(calls), 0)::bigint from pg_stat_xact_user_functions where schemaname = 'amzmp' and funcname like pattern
$$;
-- How many functions a flow's turn calls in the first accounts.
create function calls_of_turn(flow text, accounts bigint) returns bigint language plpgsql volatile as $$
declare
    before bigint := calls('%');
begin
    perform amzmp._run_places(flow, array(
        select row(f.account_id, f.channel_id)::amzmp.flow_place from amzmp.account_flow f join many m using (account_id)
         where f.flow = calls_of_turn.flow and f.enabled and m.i <= accounts));
    return calls('%') - before;
end
$$;
create function idle_runs(flow text) returns bigint language sql as $$
    select sum(r.idle_runs)::bigint from amzmp.flow_run r where r.flow = $1
$$;

select is_empty($$select o.flow from often o where to_regprocedure(format('amzmp._due_%s(bigint[])', o.flow)) is null$$,
    'each flow that is on by default and runs often says where there may be work');
select is(calls_of_turn(o.flow, 60), calls_of_turn(o.flow, 1), format('%s: sixty idle accounts cost as many calls as one', o.flow))
  from often o where o.flow <> 'send_delete_products';
select is(calls('\_flow\_%') - calls('\_flow\_places') - calls('\_flow\_spread'), 0::bigint,
    'no flow is begun where there is nothing to do');
select is_empty('select * from amzmp.task', 'and nothing is queued');
select is(calls_of_turn('send_delete_products', 60) > 0 and calls('\_flow\_send%') = 0, true,
    'neither where a setting has to be looked at');
select is(idle_runs('measure_lag'), 1::bigint, 'the second turn is counted in the row of the first');
select is((select count(*) from amzmp.flow_run where flow = 'measure_lag'), 60::bigint, 'which each account has');
update amzmp.flow_run r set state = 'failed', error = 'broken' from many m
 where r.account_id = m.account_id and m.i = 1 and r.flow = 'measure_lag';
select calls_of_turn('measure_lag', 1) \g /dev/null
select is((select string_agg(state, ' ' order by flow_run_id) from amzmp.flow_run r join many m using (account_id)
            where m.i = 1 and r.flow = 'measure_lag'), 'failed done', 'but one that failed is over');

-- Work is found.
insert into amzmp.inventory (account_id, sku, listed, desired_quantity)
select account_id, 'CUP', true, 5 from many where i = 7;
insert into amzmp.listing (account_id, channel_id, sku, wanted, state)
select m.account_id, c.channel_id, 'CUP', true, 'queued' from many m join amzmp.channel c using (account_id) where m.i = 9;
insert into amzmp.lag_sample (account_id, channel_id, sku, facet, value, committed_at, sent_at, accepted_at, weight)
select m.account_id, c.channel_id, 'CUP', 'price', 1, now(), now(), now(), 1
  from many m join amzmp.channel c using (account_id) where m.i = 11;
select calls_of_turn(flow, 60) from often \g /dev/null
select results_eq($$
    select m.i, split_part(t.subject, '/', 1) from amzmp.task t join many m using (account_id) where t.kind = 'flow' order by 1, 2$$,
    $$values (7, 'send_updated_product_stock'), (9, 'count_offers'), (9, 'send_products'), (11, 'measure_lag')$$,
    'who has work gets a task of his own');
delete from amzmp.task;

-- Flows that somebody has to switch on are as cheap, where nothing is due: each has its place in one account of the sixty.
create temporary table asked as
select x.flow, x.i from (values ('send_update_orders', 3), ('get_cancel_orders', 13), ('get_refund_orders', 23), ('get_transactions', 33),
                                ('watch_notifications', 43), ('watch_alarms', 53), ('purge_personal_data', 55)) x (flow, i);
update amzmp.account_flow f set enabled = true from asked x where f.flow = x.flow and f.channel_id = 0;
-- who sells nothing here is asked about once a day
insert into amzmp.finance_cursor (account_id, watermark) select account_id, now() - interval '2 hours' from many;
insert into amzmp.report (account_id, type, marketplace_ids, state, requested_at, ended_at)
select account_id, 'GET_FLAT_FILE_RETURNS_DATA_BY_RETURN_DATE', '{}', 'applied', now() - interval '2 minutes', now() from many;
select calls_of_turn(x.flow, 60) from asked x \g /dev/null
select is_empty($$select t.subject from amzmp.task t where t.kind = 'flow'$$, 'what was switched on costs nothing either while nothing is due');
select is(calls_of_turn(x.flow, 60), calls_of_turn(x.flow, 1), format('%s: sixty idle accounts cost as many calls as one', x.flow))
  from asked x where x.flow not in ('watch_alarms', 'get_transactions', 'purge_personal_data');
create function acc(of bigint) returns bigint language sql as $$select account_id from many where i = of$$;
insert into amzmp.shipment_row (account_id, source_id, row_key, order_reference, state) values (acc(3), 1, '1', 'X', 'held');
insert into amzmp.cancellation (account_id, amazon_order_id, state, requested_by) values (acc(13), '1', 'waiting', 'shop'), (acc(14), '1', 'requested', 'buyer');
insert into amzmp.return_item (account_id, return_key, returned_to, amazon_order_id, quantity) values (acc(23), 'r', 'merchant', '1', 1);
update amzmp.finance_cursor set watermark = now() - interval '25 hours' where account_id = acc(33);
insert into amzmp.destination (account_id, resource, name) values (acc(43), '{}', 'd');
insert into amzmp.alarm (account_id, alarm, preset, threshold, every, level, message, set_by, checked_at)
values (acc(53), 'brake', 'brake', 1, '1 hour', 'error', 'held', 'me', now() - interval '1 hour'), (acc(54), 'brake', 'brake', 1, '1 hour', 'error', 'held', 'me', now());
insert into amzmp.order_buyer (account_id, amazon_order_id, raw) values (acc(55), '1', '');
select calls_of_turn(x.flow, 60) from asked x \g /dev/null
select set_eq($$select split_part(t.subject, '/', 1), m.i from amzmp.task t join many m using (account_id) where t.kind = 'flow'$$,
    $$select flow, i from asked$$, 'and where something is, it is found');
delete from amzmp.task;
insert into amzmp.orders (account_id, amazon_order_id, order_number, status, purchased_at, last_updated_at)
values (acc(17), '1', '1', 'SHIPPED', now(), now());
select calls_of_turn(x.flow, 60) from asked x where x.flow in ('get_refund_orders', 'get_transactions') \g /dev/null
select set_eq($$select split_part(t.subject, '/', 1), m.i from amzmp.task t join many m using (account_id) where t.kind = 'flow'$$,
    $$values ('get_refund_orders', 17), ('get_refund_orders', 23), ('get_transactions', 17), ('get_transactions', 33)$$,
    'who sells is asked about each time');
delete from amzmp.task;

-- A function that fails must not stop a flow.
create function amzmp._due_rescan_broken(account_ids bigint[]) returns table (account_id bigint, channel_id bigint)
    language plpgsql as $$begin raise exception 'broken'; end$$;
alter function amzmp._due_rescan_broken(bigint[]) owner to amzmp_owner;
select is(amzmp._places_due('rescan_broken', array[row(1, 0)]::amzmp.flow_place[]), array[row(1, 0)]::amzmp.flow_place[],
    'if looking fails, all have their turn');
select isnt_empty($$select from amzmp.activity where subject = 'rescan_broken' and level = 'error'$$, 'and the log says so');

-- pg_cron's mark, and the clock of fast accounts.
select is(amzmp.mark_due('send_updated_product_stock'), 30::bigint, 'a mark is for the accounts that go by the server''s clock');
select is((select count(*) from amzmp.task), 1::bigint, 'and few tasks do for them');
select is(count(distinct place)::integer, 60, 'slices leave nobody out and take nobody twice') from (
    select unnest(amzmp._clock_accounts('send_updated_product_stock', s, 7)) as place from generate_series(0, 6) s
    union all select account_id from many where i % 2 = 1) x;
delete from amzmp.task;
select idle_runs('send_updated_product_price') as before \gset
select count(amzmp._task_clock(account_id, '', '{}')) from many where i % 2 = 1 \g /dev/null
select is((select count(distinct next_at) > 20 from amzmp.account_flow where flow = 'get_orders'), true,
    'fast accounts do not strike all at once');
select is((select count(*) from amzmp.task where kind = 'clock' and account_id = 0),
    (select count(distinct flow) from amzmp.account_flow where enabled), 'a flow has one clock for all of them');
update amzmp.account_flow set next_at = now() where next_at is not null;
select ok(amzmp._tick('send_updated_product_price') > now(), 'which strikes again');
select is(idle_runs('send_updated_product_price') - :before, 30::bigint, 'one tick runs the flow in all of them');
select is((select count(*) from amzmp.account_flow where flow = 'send_updated_product_price' and next_at <= now()),
    0::bigint, 'and sets their next times');

select * from finish();
