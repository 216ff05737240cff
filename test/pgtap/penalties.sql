-- penalties.sql
-- What is held back after an error: for how long, how often it is tried, when it is given up, what its error means, and
-- how it is released: alone, by a query, from a file; and values that are sent again on request.

begin;
\ir listing_setup.psql

create function penalty() returns amzmp.penalty language sql as $$select p from amzmp.penalty as p where p.subject = 'A'$$;
create function fail(kind text default 'price', code text default 'X', message text default 'no') returns void language sql as $$
    select amzmp._penalise((select account_id from this), 0, $1, 'A', $2, $3)
$$;
-- As if so much time had passed.
create function later(by interval) returns void language sql as $$
    update amzmp.penalty as p set first_at = p.first_at - by, last_at = p.last_at - by, until = p.until - by,
        gives_up_at = p.gives_up_at - by
$$;

/* ---- the policy as documented ---- */

select results_eq(format($$select p.* from amzmp._penalty_policy((select account_id from this), 0, %L, null) as p$$, kind),
    format($$values ('28800 s'::interval, '57601 s'::interval, %s)$$, retries), 'the policy of ' || kind)
  from (values ('order', 3), ('publish', 2), ('price', 2), ('stock', 2), ('details', 2), ('shipment', 2)) as k (kind, retries);

select fail(message => 'first') \g /dev/null
select results_eq('select (p).tries, (p).until - now(), (p).gives_up_at - now(), (p).gave_up from penalty() as p',
    $$values (1, interval '28800 s', interval '57601 s', false)$$, 'after a failure it is left alone for eight hours');
select later('8 hours 20 minutes') \g /dev/null
select fail(message => 'second') \g /dev/null
select results_eq('select (p).tries, (p).until - now(), (p).gave_up from penalty() as p',
    $$values (2, interval '7 hours 40 minutes', false)$$, 'the second wait counts from when the try was due');
select later('7 hours 50 minutes') \g /dev/null
select fail(message => 'third') \g /dev/null
select results_eq('select (p).tries, (p).gave_up, (p).first_message, (p).message from penalty() as p',
    $$values (3, true, 'first', 'third')$$, 'after two retries it is given up; the first message is kept beside the last');
select isnt_empty($$select * from amzmp.given_up where subject = 'A' and first_message = 'first' and tries = 3$$, 'and is listed as given up');
select matches((select detail from amzmp.health() where check_name = 'given up'), '^1 subjects are given up', 'which health() counts');
delete from amzmp.penalty;

select fail('order') \g /dev/null
select later('8 hours') \g /dev/null
select fail('order') \g /dev/null
select ok(not (penalty()).gave_up, 'an order has more retries');
select later('9 hours') \g /dev/null
select fail('order') \g /dev/null
select ok((penalty()).gave_up, 'but no try begins after the expiration');
delete from amzmp.penalty;

/* ---- a change applies from the next failure on ---- */

select amzmp.set('seller', 'penalty_retry_interval', '3 hours'), amzmp.set('DE', 'price_retry_interval', '1 hour') \g /dev/null
select fail() \g /dev/null
select is((penalty()).until - now(), interval '3 hours', 'a setting of the account holds');
select amzmp.set('seller', 'penalty_retry_interval', '2 hours') \g /dev/null
select is((penalty()).until - now(), interval '3 hours', 'a changed interval leaves the running one alone');
select later('3 hours') \g /dev/null
select fail() \g /dev/null
select is((penalty()).until - now(), interval '2 hours', 'and holds from the next failure on');
select amzmp._penalise(:account_id, :de, 'price', 'B', 'X', 'no') \g /dev/null
select is(p.until - now(), interval '1 hour', 'the kind''s own setting goes before, the channel''s before the account''s') from amzmp.penalty as p where p.subject = 'B';
select amzmp.set('seller', 'price_max_retries', '0') \g /dev/null
select amzmp._penalise(:account_id, :fr, 'price', 'C', 'X', 'no') \g /dev/null
select ok(p.gave_up, 'without retries it is given up at once') from amzmp.penalty as p where p.subject = 'C';
select throws_ok($$select amzmp.set('seller', 'price_max_retries', '-1')$$, 'AZ202', null, 'settings are checked');
select amzmp.set('seller', 'price_max_retries', null), amzmp.set('seller', 'penalty_retry_interval', null), amzmp.set('DE', 'price_retry_interval', null) \g /dev/null
delete from amzmp.penalty;

/* ---- what errors mean ---- */

select fail(code => '5461') \g /dev/null
select is((penalty()).until - now(), interval '1 day', 'a blocking error is left alone for a day');
select results_eq($$select error, class, blocking from amzmp.penalised$$, $$values ('CREATION_NOT_ALLOWED', 'approval', true)$$, 'and explained');
select results_eq($$select code from amzmp.issue_meaning where error = any ('{NO_STOCK,NO_PRICE,ATTR_REQUIRED,ORDER_NOT_DELIVERED,ADDRESS_UNMAPPED}') and remedy <> ''
        and code = error order by 1$$, '{ADDRESS_UNMAPPED,ATTR_REQUIRED,NO_PRICE,NO_STOCK,ORDER_NOT_DELIVERED}'::text[], 'the documented errors have their names');
create role clerk;
grant amzmp_admin to clerk;
grant usage on schema listing_test to clerk;
set local role clerk;
insert into amzmp.issue_meaning (code, error, class, meaning, retry_after) values ('5461', 'ASK_ANNA', 'approval', 'Anna knows the brand''s contact.', '1 hour'), ('4711', 'OURS', 'warning', 'Ours.', null);
select throws_ok($$update amzmp.issue_meaning set built_in = true where code = '4711'$$, '42501', null, 'nobody makes a built-in row');
select throws_ok($$insert into amzmp.issue_meaning (code, error, class, meaning, built_in) values ('4712', 'OURS', 'warning', 'Ours.', true)$$, '42501', null, 'or adds one');
update amzmp.issue_meaning set meaning = 'changed' where code = '90220';
reset role;
select isnt(m.meaning, 'changed', 'or alters one') from amzmp.issue_meaning as m where m.code = '90220';
select results_eq($$select error, meaning from amzmp.penalised$$, $$values ('ASK_ANNA', 'Anna knows the brand''s contact.')$$, 'a user''s row goes before ours');
select later('1 day') \g /dev/null
select fail(code => '5461') \g /dev/null
select is((penalty()).until - now(), interval '1 hour', 'and its own wait before the policy''s');
delete from amzmp.penalty;

select live('MUG', 10, 5), live('HAT', 10, 5), live('PEN', 10, 5) \g /dev/null
insert into amzmp.listing_issue (account_id, channel_id, sku, position, code, message, severity, seen_at)
values (:account_id, :de, 'MUG', 1, '8541', 'The brand differs.', 'ERROR', now()), (:account_id, :de, 'MUG', 2, '99999', 'Something.', 'ERROR', now());
select results_eq($$select error, meaning is not null from amzmp.issue order by code$$, $$values ('CATALOG_CONFLICT', true), ('99999', false)$$,
    'issues are explained as well, and shown where nobody has explained them');

/* ---- release ---- */

insert into amzmp.penalty (account_id, channel_id, kind, subject, code, message, until, gives_up_at, gave_up)
select :account_id, :de, 'price', s, '90244', 'no', now() + interval '8 hours', now(), true from unnest('{MUG,HAT,PEN,CUP}'::text[]) as s;
update amzmp.listing set desired_price = 11;
select is_empty($$select * from amzmp._due_sends((select account_id from this), '{MUG,HAT,PEN}', '{}')$$, 'what is given up is not sent');
delete from amzmp.release_input where code = '90244' and subject = 'MUG';
select results_eq('select subject from amzmp.penalty order by 1', '{CUP,HAT,PEN}'::text[], 'released by a query');
grant select on this to clerk;
set local role clerk;
copy amzmp.release_input (account_or_channel, subject) from stdin (format csv);
DE,HAT
seller,PEN
DE,NONE
\.
reset role;
select results_eq('select subject from amzmp.penalty', array['CUP'], 'released from a file');
select throws_ok($$insert into amzmp.release_input (account_or_channel, subject) values ('DE', null)$$, 'AZ202', null, 'a row without a subject does not release everything');
select throws_ok($$insert into amzmp.release_input (account_or_channel, subject) values ('nobody', 'A')$$, 'AZ201', null, 'unknown names are errors');
select results_eq($$select kind, subject from amzmp.task where kind = 'released'$$, $$values ('released', '')$$, 'however many are released, they are planned once');
select amzmp._task_released(:account_id, '', '{}') \g /dev/null
select is((select count(*) from amzmp.request where operation = 'patchListingsItem'), 3::bigint, 'and sent');
delete from amzmp.request;

-- An offer that was rejected begins anew, and what fails again counts on.
insert into amzmp.listing (account_id, channel_id, sku, state, ean, desired_price) values (:account_id, :de, 'OLD', 'rejected', '4006381333931', 10);
insert into amzmp.inventory (account_id, sku, desired_quantity) values (:account_id, 'OLD', 1);
insert into amzmp.product (account_id, source_id, sku, price, quantity, ean) values (:account_id, 900001, 'OLD', 10, 1, '4006381333931');
select amzmp._penalise(:account_id, :de, 'publish', 'OLD', 'NO_MATCH', 'nothing') \g /dev/null
update amzmp.penalty set until = now() where kind = 'publish';
select is(amzmp._retry_rejected(:account_id, :de), '{OLD}', 'when its wait is over an offer is tried again');
select amzmp._plan_puts(:account_id, :de, '{OLD}') \g /dev/null
select is(l.state, 'matching', 'it is on its way') from amzmp.listing as l where l.sku = 'OLD';
select amzmp._enter(:account_id, array[(:de, 'OLD', 'rejected', 'nothing', 'NO_MATCH')::amzmp.new_state]) \g /dev/null
select is(p.tries, 2, 'a retry that fails as well is counted') from amzmp.penalty as p where p.kind = 'publish';
select is(amzmp._retry_rejected(:account_id, :de), '{}', 'and it waits once more');
select amzmp._enter(:account_id, array[(:de, 'OLD', 'live', null, null)::amzmp.new_state]) \g /dev/null
select is_empty($$select * from amzmp.penalty where kind = 'publish'$$, 'what comes out well is forgiven');

/* ---- send again ---- */

delete from amzmp.request;
delete from amzmp.listing where sku = 'OLD';
delete from amzmp.inventory where sku = 'OLD';
update amzmp.listing set desired_price = 10, remote_price = 10;
select is((select count(*) from amzmp.price_diff), 0::bigint, 'nothing differs');
select is(amzmp.resend('DE', '{MUG,HAT}', '{price}'), 2::bigint, 'two are to be sent again');
select results_eq('select sku from amzmp.price_diff order by 1', '{HAT,MUG}'::text[], 'so they differ');
select is_empty('select * from amzmp.stock_diff', 'their stock does not');
select amzmp._task_released(:account_id, '', '{}') \g /dev/null
select is((select count(*) from claim('patchListingsItem')), 2::bigint, 'they are sent');
select accept('patchListingsItem') \g /dev/null
select is_empty('select * from amzmp.price_diff', 'once');
select is(amzmp.resend('seller'), 3::bigint, 'all offers of an account');
select is((select count(*) from amzmp.stock_diff), 3::bigint, 'with price and stock') from (select amzmp._stock_moved(:account_id, '{MUG}', '{1}', array[now()])) as x;
select throws_ok($$select amzmp.resend('DE', '{MUG,NOPE}')$$, 'AZ202', 'never published in "DE": ''NOPE''', 'a SKU that was never offered is named');
select throws_ok($$select amzmp.resend('DE', '{MUG}', '{color}')$$, 'AZ202', null, 'so is an unknown facet');

select * from finish();
rollback;
