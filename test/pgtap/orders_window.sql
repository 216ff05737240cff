-- orders_window.sql
-- The pages of a poll, parked as the sender parks them and applied as two runners may: in any order, one of them failing, one
-- of a try that was given up. The watermark moves when all pages are in, and not before.

\ir orders_setup.psql

create function order_of(page integer, restarts integer default 0) returns text language sql immutable as $$
    select format('321-000000%s-000000%s', page, restarts)
$$;

create function request_of(page integer, restarts integer default 0) returns amzmp.request language sql stable as $$
    select r from amzmp.request as r
     where r.operation = 'searchOrders' and amzmp._page_number(r) = page and amzmp._page_restarts(r) = restarts
$$;

-- Page N of the window's present try (or another one) has arrived with one order, and the token of the page behind it.
create function arrives_page(page integer, token text default null, restarts integer default 0) returns void language sql as $$
    select amzmp._park_answers(r.account_id, array[r.request_id], '{200}', '{success}', array[jsonb_build_object(
            'orders', jsonb_build_array(an_order(order_of(page, restarts), 'UNSHIPPED', page, jsonb_build_array(
                item(restarts || '0' || page, 'MUG', 1, 0, 1)))),
            'pagination', jsonb_strip_nulls(jsonb_build_object('nextToken', token)),
            'lastUpdatedBefore', format('2026-03-0%sT12:00:00Z', page))::text], '{null}', '{null}', '{null}', array[token])
      from request_of(page, restarts) as r
$$;

-- A runner takes the page.
create function apply_page(page integer, restarts integer default 0) returns void language plpgsql as $$
declare
    t amzmp.task;
begin
    delete from amzmp.task as x where x.kind = 'apply' and x.subject = (request_of(page, restarts)).request_id::text returning x.* into strict t;
    perform amzmp._task_apply(t.account_id, t.subject, t.argument);
end
$$;

create function refuse_page(page integer, restarts integer default 0) returns void language sql as $$
    select amzmp._park_answers(r.account_id, array[r.request_id], '{400}', '{refused}', array['{}'], '{InvalidInput}', '{old}', '{null}', '{null}')
      from request_of(page, restarts) as r
$$;

create function asked() returns text language sql stable as $$
    select coalesce(string_agg(concat_ws(':', amzmp._page_number(r), r.params ->> 'paginationToken'), ' ' order by r.request_id), 'none')
      from amzmp.request as r where r.operation = 'searchOrders' and r.state = 'due'
$$;

create function got() returns text language sql stable as $$
    select coalesce(string_agg(substr(o.amazon_order_id, 11, 1) || right(o.amazon_order_id, 1), ' ' order by o.amazon_order_id), 'none')
      from amzmp.orders as o
$$;

create view window_now as
    select c.window_open, c.pages, c.last_page, c.watermark from amzmp.order_cursor as c;

/* ---- who takes a page ---- */

select amzmp._flow_get_orders(:account_id, 0, 1) \g /dev/null
select arrives_page(1, 't1') \g /dev/null
select is(asked(), '2:t1', 'the page behind one that has arrived is asked for at once');
select results_eq($$select kind, run_as, subject = (request_of(1)).request_id::text from amzmp.task where kind = 'apply'$$,
    $$values ('apply', 'pg_amzmp_orders'::name, true)$$, 'the page is a task of its own');
select set_eq('select role_oid from amzmp._work()', '{0}'::oid[], 'for one, the own runner is enough');
select arrives_page(2, 't2') \g /dev/null
select set_eq('select role_oid from amzmp._work()', '{0, 2}'::oid[], 'for two there is a second one');
select arrives_page(3) \g /dev/null
select is(asked(), 'none', 'the last page has none behind it');

-- as in runner.c; what is claimed here is given back
insert into amzmp.task (account_id, kind, subject, due_at) values (:account_id, 'flow', 'nothing', now() - interval '2 hours');
update amzmp.task set due_at = now() - interval '3 hours' where subject = (request_of(2)).request_id::text;
update amzmp.task set due_at = now() - interval '1 hour' where subject = (request_of(1)).request_id::text;
savepoint claiming;
select ok((select n.statements[1] like '%''' || (request_of(2)).request_id || '''%' from amzmp._next_own_task('', 'pg_amzmp_orders') as n),
    'the own runner takes what has waited longest,');
select is((select kind from amzmp._next_own_task('', 'pg_amzmp_orders')), 'flow', 'a page or anything else');
rollback to claiming;
select is((select count(*) from amzmp._next_own_task('pg_amzmp_orders') union all select count(*) from amzmp._next_own_task('pg_amzmp_orders')
    union all select count(*) from amzmp._next_own_task('pg_amzmp_orders') union all select count(*) from amzmp._next_own_task('pg_amzmp_orders')
    order by 1 limit 1), 0::bigint, 'the second one takes nothing but orders,');
select is((select count(*) from amzmp.task where kind = 'apply' and leased_until is not null), 3::bigint, 'each of them');
rollback to claiming;
delete from amzmp.task where kind = 'flow';

/* ---- the last page first ---- */

select apply_page(3) \g /dev/null
select results_eq('table window_now', $$values (true, 1, 3, null::timestamptz)$$, 'the last page does not close the window while others are missing');
select apply_page(1) \g /dev/null
select is(asked(), 'none', 'a page whose follower has come and gone does not ask for it again');
select apply_page(2) \g /dev/null
select results_eq('table window_now', $$values (false, 3, 3, '2026-03-01 12:00Z'::timestamptz)$$,
    'the last one that was missing closes it, and the watermark is where the earliest search ended');
select is(got(), '10 20 30', 'all orders are in');
select results_eq($$select -sum(quantity), count(*) from amzmp.movement$$, $$values (3::bigint, 3::bigint)$$, 'once');
select is((select count(*) from amzmp.task where kind = 'apply'), 0::bigint, 'nothing is left to do');
select lives_ok(format($$select amzmp._task_apply(%s, '4711', '{}')$$, :account_id), 'a page that is done already is passed over');

/* ---- too many wait ---- */

select amzmp._flow_get_orders(:account_id, 0, 2) \g /dev/null
select arrives_page(p, 't' || p) from generate_series(1, 6) as p \g /dev/null
select is(asked(), 'none', 'six wait: no more are asked for');
select apply_page(3) \g /dev/null
select is(asked(), '7:t6', 'when one is done the next is asked for, whichever it was');
select apply_page(6) \g /dev/null
select is(asked(), '7:t6', 'once');

/* ---- a page cannot be applied ---- */

alter function amzmp._count_page(amzmp.order_cursor, amzmp.request, amzmp.order_page) rename to _count_page_as_ever;
create function amzmp._count_page(current amzmp.order_cursor, asked amzmp.request, page amzmp.order_page) returns void
    language plpgsql as $$
begin
    if amzmp._page_number(asked) = current_setting('test.bad_page')::integer then
        raise exception 'not this page';
    end if;
    perform amzmp._count_page_as_ever(current, asked, page);
end $$;
set test.bad_page = 2;

select apply_page(2) \g /dev/null
select results_eq('select window_open, pages from window_now', 'values (true, 2)', 'the others are waited for');
select arrives_page(7) \g /dev/null
select apply_page(p) from unnest('{7,1,4,5}'::integer[]) as p \g /dev/null
select results_eq('table window_now', $$values (false, 6, 7, '2026-03-01 12:00Z'::timestamptz)$$,
    'when all have ended the window closes, and the watermark stays');
select is(count(*), 1::bigint, 'which is said') from amzmp.activity where message like 'pages of orders are missing%';
select is((select count(*) from amzmp.request_log where outcome = 'handler_failed'), 1::bigint, 'the page that failed can be seen');

select amzmp._flow_get_orders(:account_id, 0, 3) \g /dev/null
select results_eq('select window_open, pages, last_page from window_now', 'values (true, 0, null::integer)', 'the next poll reads it again');
select arrives_page(1, 't1') \g /dev/null
select arrives_page(2) \g /dev/null
select apply_page(1) \g /dev/null
select apply_page(2) \g /dev/null
select results_eq('table window_now', $$values (false, 1, null::integer, '2026-03-01 12:00Z'::timestamptz)$$,
    'where the page that fails is the last to end, it closes the window itself');
select amzmp._flow_get_orders(:account_id, 0, 4) \g /dev/null
select arrives_page(p, 't' || p) from generate_series(1, 6) as p \g /dev/null
select apply_page(2) \g /dev/null
select is(asked(), '7:t6', 'one that fails makes room as any other does');
select is(amzmp.cancel_request('orders', (request_of(7)).request_id), true, 'the page behind them is cancelled by hand');
select results_eq('select window_open, pages from window_now', 'values (true, 0)', 'those that have arrived are waited for');
select apply_page(p) from unnest('{6,1,4,3,5}'::integer[]) as p \g /dev/null
select results_eq('select window_open, pages, last_page from window_now', 'values (false, 5, null::integer)', 'and then it is over');
set test.bad_page = 0;

/* ---- a token is refused while earlier pages are still on their way ---- */

update amzmp.order_cursor set watermark = null;
delete from amzmp.order_buyer;
delete from amzmp.order_item;
delete from amzmp.orders;
delete from amzmp.movement;
delete from amzmp.reservation;
select amzmp._flow_get_orders(:account_id, 0, 5) \g /dev/null
select arrives_page(1, 't1') \g /dev/null
select arrives_page(2, 't2') \g /dev/null
select refuse_page(3) \g /dev/null
select apply_page(1) \g /dev/null
select apply_page(3) \g /dev/null
select results_eq('table window_now', 'values (true, 0, null::integer, null::timestamptz)', 'the window begins again');
select is(asked(), '1', 'with its first page');
select arrives_page(1, 't1b', 1) \g /dev/null
select is(asked(), '2:t1b', 'a late page of the first try does not stand for that of the second');
select arrives_page(2, null, 1) \g /dev/null
select apply_page(2, 1) \g /dev/null
select apply_page(2) \g /dev/null
select is(got(), '10 20 21', 'the late page brings its orders');
select results_eq('table window_now', 'values (true, 1, 2, null::timestamptz)', 'but counts for nothing');
select is(asked(), 'none', 'and asks for nothing');
select apply_page(1, 1) \g /dev/null
select results_eq('table window_now', $$values (false, 2, 2, '2026-03-01 12:00Z'::timestamptz)$$, 'the second try closes the window');
select is(got(), '10 11 20 21', 'with all that it read');
select is(count(*), 0::bigint, 'nothing is left') from amzmp.request where operation = 'searchOrders';

/* ---- a page that was altered, while bodies are kept ---- */

select amzmp.set('orders', 'keep_bodies', 'true') \g /dev/null
select amzmp._flow_get_orders(:account_id, 0, 6) \g /dev/null
select arrives_page(1) \g /dev/null
update amzmp.answer as x set body = set_byte(x.body, length(x.body) - 1, get_byte(x.body, length(x.body) - 1) # 1);
select apply_page(1) \g /dev/null
select results_eq('select outcome, answer_body is null from amzmp.request_log order by finished_at desc limit 1', $$values ('handler_failed', true)$$,
    'ends all the same');
select is(window_open, false, 'and its window with it') from window_now;

/* ---- a marketplace that is new, and polls that come to nothing ---- */

create function answer_page(http integer, outcome text, content text) returns void language plpgsql as $$
begin
    perform amzmp._park_answers(r.account_id, array[r.request_id], array[http], array[outcome], array[content], '{null}', '{null}', '{null}', '{null}')
       from request_of(1) as r;
    perform apply_page(1);
end
$$;

create function read_from() returns text language sql stable as $$ select (request_of(1)).params ->> 'lastUpdatedAfter' $$;

select amzmp.create_channel('orders_FR', 'orders', 'FR') \g /dev/null
update amzmp.channel set active = true where account_id = :account_id;
select amzmp._flow_get_orders(:account_id, 0, 6) \g /dev/null
select is(read_from(), '2026-01-01T00:00:00Z', 'a marketplace that is new is read from the beginning on,');
select answer_page(500, 'refused', null) \g /dev/null
select amzmp._flow_get_orders(:account_id, 0, 7) \g /dev/null
select is(read_from(), '2026-01-01T00:00:00Z', 'once more after a poll that came to nothing,');
select arrives_page(1) \g /dev/null
select apply_page(1) \g /dev/null
select amzmp._flow_get_orders(:account_id, 0, 8) \g /dev/null
select is(read_from(), '2026-03-01T11:50:00Z', 'until it has been read');

select answer_page(200, 'success', '{"pagination": {}}') \g /dev/null
select results_eq('select window_open, watermark from window_now', $$values (false, '2026-03-01 12:00Z'::timestamptz)$$,
    'an answer without a list of orders is no last page');
select amzmp._flow_get_orders(:account_id, 0, 9) \g /dev/null
select answer_page(200, 'success', null) \g /dev/null
select results_eq('select window_open, watermark from window_now', $$values (false, '2026-03-01 12:00Z'::timestamptz)$$, 'nor is an empty one');
select amzmp._flow_get_orders(:account_id, 0, 9) \g /dev/null
select answer_page(200, 'success', '{"orders": "none"}') \g /dev/null
select results_eq('select window_open, watermark from window_now', $$values (false, '2026-03-01 12:00Z'::timestamptz)$$, 'nor is what is no list');
select is(count(*), 3::bigint, 'which can be seen') from amzmp.request_log
 where outcome = 'handler_failed' and error_message = 'a page of orders came without its list of orders (22000)';
select amzmp._flow_get_orders(:account_id, 0, 10) \g /dev/null
select answer_page(200, 'success', '{"orders": []}') \g /dev/null
select ok(c.watermark > now() - interval '5 minutes', 'one whose list is empty is') from amzmp.order_cursor as c;

/* ---- answers of other kinds ---- */

insert into amzmp.request (account_id, operation, state, handler, subject_kind, subject)
values (:account_id, 'getOrder', 'sending', '_handle_get_order', 'order', '399-0000001-0000001'),
       (:account_id, 'listTransactions', 'sending', '_handle_transactions', 'finances', 'x'),
       (:account_id, 'listTransactions', 'sending', null, 'finances', 'y');
select amzmp._park_answers(:account_id, array_agg(r.request_id order by r.request_id), '{404,400,400}', '{refused,refused,refused}',
    '{null,null,null}', '{NotFound,No,No}', '{null,null,null}', '{null,null,null}', '{null,null,null}')
from amzmp.request as r where r.state = 'sending' \g /dev/null
select results_eq($$select subject = '', run_as from amzmp.task where kind = 'apply' order by 1$$,
    $$values (false, 'pg_amzmp_orders'::name), (true, null)$$, 'a single order is a task of its own too, all others are one');

/* ---- a run whose last two requests were ended by two runners at once: each saw the other's ---- */

insert into amzmp.flow_run (account_id, flow) values (:account_id, 'get_orders') returning flow_run_id \gset
select amzmp._task_flow(:account_id, 'get_orders/0', '{}') \g /dev/null
select is(r.state, 'done', 'the next run ends it') from amzmp.flow_run as r where r.flow_run_id = :flow_run_id;

/* ---- a page that is on its way while its account is dropped ---- */

select count(*) as orders from amzmp.orders \gset
delete from amzmp.task where kind = 'apply';
select amzmp.drop_account('orders') \g /dev/null
insert into amzmp.request (account_id, operation, state, handler, subject_kind, subject, cause)
values (:account_id, 'searchOrders', 'sending', '_handle_search_orders', 'orders', 'x', '{"page": 9}');
select arrives_page(9) \g /dev/null
select apply_page(9) \g /dev/null
select results_eq('select (select count(*) from amzmp.orders), (select count(*) from amzmp.order_buyer), (select count(*) from amzmp.answer)',
    format('values (%s::bigint, 0::bigint, 0::bigint)', :orders), 'brings no order, and no buyer');

select * from finish();
rollback;
