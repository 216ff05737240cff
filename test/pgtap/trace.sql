-- trace.sql
-- From a value at Amazon back to the transaction that caused it: calls, feeds, orders, the brake, and what is under way.

begin;
\ir listing_setup.psql

select throws_ok($$select * from amzmp.trace('DE', 'NONE')$$, 'AZ201', null, 'what was never published has no history');
select live('MUG', 10, 5) \g /dev/null
create function change(price numeric, xid text, application text, ago interval) returns void language plpgsql as $$
begin
    update amzmp.product as p set price = change.price where p.sku = 'MUG';
    perform amzmp._recompute((select account_id from this), '{MUG}', jsonb_build_object('role', 'anna', 'application', application, 'xid', xid, 'at', now() - ago));
end
$$;
create view history as select * from amzmp.trace('DE', 'MUG');

select change(12, '4711', 'repricer', '3 minutes') \g /dev/null
select results_eq($$select step, role, application, xid, detail from history where step like 'queued%'$$,
    $$values ('queued, due', 'anna', 'repricer', '4711', 'patchListingsItem')$$, 'what waits is in it');
select count(*) from claim('patchListingsItem') \g /dev/null
select answer('patchListingsItem', 400, null, 'InvalidInput', 'No such thing') \g /dev/null
select results_eq($$select step, value, detail, amazon_request_id is not null from history where step = 'refused'$$,
    $$values ('refused', null, 'patchListingsItem, status 400, InvalidInput: No such thing', true)$$, 'a refusal with Amazon''s words and number');
select amzmp.release_penalty('seller') \g /dev/null
select change(13, '4712', 'psql', '2 minutes') \g /dev/null
select count(*) from claim('patchListingsItem') \g /dev/null
select accept('patchListingsItem') \g /dev/null
select results_eq($$select s.value, s.request_id = q.request_id, q.role, q.xid, c.step, c.application
    from history as s join history as q on q.request_id = s.request_id and q.step = 'queued'
    join history as c on c.xid = q.xid and c.step = 'the shop''s row changed'
    where s.step = 'Amazon answered'$$,
    $$values ('price 13.00', true, 'anna', '4712', 'the shop''s row changed', 'psql')$$,
    'from the value through the answer and the message to the row change, its application and its transaction');
select results_eq($$select xid from history where step = 'the shop''s row changed' order by at desc$$, '{4712,4711}'::text[], 'each change once, the newest first');
select ok(exists (select from history where step = 'noted' and detail like 'held back after failure 1: No such thing'), 'penalties are in it');

insert into amzmp.feed (account_id, feed_id, channel_id, state, submitted_at, amazon_feed_id) values (:account_id, 78, :de,
    'done', now() - interval '5 minutes', '50001');
insert into amzmp.feed_message (account_id, feed_id, message_id, channel_id, sku, price, quantity, result, ended_at)
values (:account_id, 78, 3, :de, 'MUG', 11, 4, 'accepted', now() - interval '4 minutes'), (:account_id, 78, 4, :de, 'HAT', 1, 1, 'accepted', now());
select results_eq($$select step, value, detail, amazon_request_id from history where request_id = 78 order by at$$,
    $$values ('sent in a feed', 'price 11, stock 4', 'message 3', '50001'), ('Amazon''s report: accepted', 'price 11, stock 4', '', '50001')$$, 'feeds are in it');
insert into amzmp.movement (account_id, order_item_id, revision, amazon_order_id, sku, quantity, cause, reduces_stock)
values (:account_id, '1', 1, '301-1', 'MUG', -2, 'sale', true);
select results_eq($$select facet, value, detail from history where step = 'an order moved stock'$$, $$values ('stock', '-2', 'sale, order 301-1')$$, 'orders are in it');
insert into amzmp.brake_batch (account_id, batch_id, channel_id, facet, reason) values (:account_id, 5, :de, 'price', 'many');
insert into amzmp.brake_item (account_id, batch_id, sku, old_value, new_value, cause) values (:account_id, 5, 'MUG', 13, 1,
    jsonb_build_object('role', 'bob', 'xid', '4713', 'at', now()));
select results_eq($$select facet, value, detail from history where step = 'held by the brake'$$, $$values ('price', '1', 'batch 5, held; it was 13')$$, 'the brake is in it');
select ok(exists (select from history where role = 'bob' and xid = '4713'), 'with who made the change');
select is_empty($$select * from history where value like '%1, stock 1%'$$, 'other SKUs are not');
select is(array_agg(at), array_agg(at order by at desc), 'the newest comes first') from history;

select * from finish();
rollback;
