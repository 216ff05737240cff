-- listing_send.sql
-- From a change in the shop to a PATCH and back: what is sent and how, what is in flight only once, what an answer
-- makes of it, and what imported orders do.

begin;
\ir listing_setup.psql

/* ---- a change becomes a request; the body is made when it is taken ---- */

select live('MUG', 10, 5) \g /dev/null
select is(due(), '', 'nothing differs, nothing is due');
select shop('MUG', 12.499, 5) \g /dev/null
select is(due(), 'patchListingsItem/MUG', 'a price that changed is due');
select results_eq($$select sku, desired_price, remote_price from amzmp.price_diff$$, $$values ('MUG', 12.50, 10::numeric)$$,
    'price_diff shows it, rounded to the currency');
select shop('MUG', 13, 7) \g /dev/null
select is((select count(*) from amzmp.request), 1::bigint, 'what changes before it is sent needs no second request');
select is((select r.priority from amzmp.request as r), 30::smallint, 'but makes it more urgent');

create temporary table taken as select * from claim('patchListingsItem');
select is(t.params, '{"sellerId": "A1SELLER", "sku": "MUG", "marketplaceIds": ["A1PA6795UKMFR9"], "issueLocale": "de_DE"}',
    'the parameters name the SKU and the marketplace') from taken as t;
select is(t.body, '{"productType": "PRODUCT", "patches": [
    {"op": "merge", "path": "/attributes/purchasable_offer", "value": [{"marketplace_id": "A1PA6795UKMFR9", "currency": "EUR",
        "audience": "ALL", "our_price": [{"schedule": [{"value_with_tax": 13.00}]}]}]},
    {"op": "merge", "path": "/attributes/fulfillment_availability", "value": [{"fulfillment_channel_code": "DEFAULT", "quantity": 7}]}]}',
    'the body merges the price and the quantity of now') from taken as t;
select ok(t.body::text like '%13.00%', 'with the decimals of the currency') from taken as t;
drop table taken;

/* ---- one write in flight ---- */

select shop('MUG', 14, 8) \g /dev/null
select is(due(), '', 'while it is on its way nothing else is queued');
select is(accept('patchListingsItem'), 1::bigint, 'Amazon accepts');
select results_eq($$select submitted_price, remote_price, in_flight_price, in_flight_request from amzmp.listing$$,
    $$values (13.00, 13.00, null::numeric, null::bigint)$$, 'what was sent is what we expect there');
select is(due(), 'patchListingsItem/MUG', 'what changed meanwhile is due then');
select count(*) from claim('patchListingsItem') \g /dev/null
select accept('patchListingsItem') \g /dev/null
select results_eq($$select l.remote_price, i.remote_quantity, l.price_differs, i.quantity_differs
    from amzmp.listing l join amzmp.inventory i using (sku)$$,
    $$values (14.00, 8, false, false)$$, 'and at the end Amazon has what the shop wants');

select shop('MUG', 15, 8) \g /dev/null
select shop('MUG', 14, 8) \g /dev/null
select is_empty($$select * from claim('patchListingsItem')$$, 'a change that was taken back before it was sent is not sent');
select is((select l.outcome from amzmp.request_log as l order by l.request_id desc limit 1), 'obsolete', 'its request ends as obsolete');

/* ---- an answer that says no, or none ---- */

select shop('MUG', 16, 9) \g /dev/null
select count(*) from claim('patchListingsItem') \g /dev/null
select answer('patchListingsItem', 200, '{"sku": "MUG", "status": "INVALID", "submissionId": "f1dc2914", "issues": [
    {"code": "90244", "message": "The price is not allowed.", "severity": "ERROR", "attributeNames": ["purchasable_offer"],
     "categories": ["INVALID_ATTRIBUTE"]}]}') \g /dev/null
select results_eq($$select kind, subject, code, message from amzmp.penalty$$,
    $$values ('price', 'MUG', '90244', 'The price is not allowed.')$$, 'the facet at fault is held back');
select results_eq($$select code, severity, attribute_names from amzmp.listing_issue$$,
    $$values ('90244', 'ERROR', array['purchasable_offer'])$$, 'Amazon''s words are kept');
select results_eq($$select body -> 'patches' -> 0 ->> 'path', jsonb_array_length(body -> 'patches') from claim('patchListingsItem')$$,
    $$values ('/attributes/fulfillment_availability', 1)$$, 'the other facet is sent alone');
select accept('patchListingsItem') \g /dev/null
select is(due(), '', 'the price waits');
select results_eq($$select sku from amzmp.price_diff$$, array['MUG'], 'and still shows as a difference');
select is(amzmp.release_penalty('seller', code => '1'), 0::bigint, 'a code that nobody has releases nothing');
select is(amzmp.release_penalty('seller', '{MUG}', 'price', '90244'), 1::bigint, 'a penalty is released');
select amzmp._task_released(:account_id, '', '{}') \g /dev/null
select count(*) from claim('patchListingsItem') \g /dev/null
select answer('patchListingsItem', 0, null) \g /dev/null
select is(l.remote_price, null, 'after a lost answer nobody knows what Amazon has') from amzmp.listing as l;
delete from amzmp.penalty;
select shop('MUG', 14, 9) \g /dev/null
select is(due(), 'patchListingsItem/MUG', 'so the old price is sent again when the shop goes back to it');
select count(*) from claim('patchListingsItem') \g /dev/null
select answer('patchListingsItem', 400, null, 'InvalidInput', 'No such thing') \g /dev/null
select results_eq($$select code, message from amzmp.penalty$$, $$values ('InvalidInput', 'No such thing')$$, 'a refusal is a penalty');
delete from amzmp.penalty;
select amzmp._plan_sends(:account_id) \g /dev/null
select count(*) from claim('patchListingsItem') \g /dev/null
select accept('patchListingsItem') \g /dev/null

/* ---- one quantity for all channels ---- */

select live('HAT', 20, 4) \g /dev/null
select live('HAT', 20, 4, :fr) \g /dev/null
select shop('HAT', 20, 3) \g /dev/null
select results_eq($$select sku, channel_id from claim('patchListingsItem')$$, format($$values ('HAT', %s::bigint)$$, :de),
    'a quantity travels with one channel''s request');
select accept('patchListingsItem') \g /dev/null
select shop('HAT', 21, 2) \g /dev/null
select results_eq($$select channel_id, jsonb_path_query_array(body, '$.patches[*].path') from claim('patchListingsItem')$$,
    format($$values (%s::bigint, '["/attributes/purchasable_offer", "/attributes/fulfillment_availability"]'::jsonb),
                    (%s, '["/attributes/purchasable_offer"]')$$, :de, :fr), 'prices go to each channel, the quantity once');
select accept('patchListingsItem') \g /dev/null
select is_empty('select sku from amzmp.stock_diff union all select sku from amzmp.price_diff where sku = ''HAT''',
    'both are done');

/* ---- what must not oversell goes first ---- */

select live('CUP', 5, 6) \g /dev/null
select live('PEN', 1, 6) \g /dev/null
select live('BAG', 9, 6) \g /dev/null
select shop('CUP', 6, 6), shop('PEN', 1, 0), shop('BAG', 9, 2) \g /dev/null
select results_eq($$select subject, priority from amzmp.request where state = 'due' order by priority$$,
    $$values ('PEN', 10::smallint), ('BAG', 20::smallint), ('CUP', 40::smallint)$$, 'sold out before less, less before a price');
select count(*) from claim('patchListingsItem') \g /dev/null
select accept('patchListingsItem') \g /dev/null

/* ---- stock that comes back waits for its price ---- */

select shop('PEN', 2, 8) \g /dev/null
select results_eq($$select jsonb_path_query_array(body, '$.patches[*].path') from claim('patchListingsItem')$$,
    $$values ('["/attributes/purchasable_offer"]'::jsonb)$$, 'the price goes first');
select accept('patchListingsItem') \g /dev/null
select is(due(), '', 'the stock waits');
select is((select count(*) from amzmp.request where operation = 'patchListingsItem' and not_before > now()), 1::bigint, 'not for ever');
select is((select r.params -> 'identifiers' from amzmp.request as r where r.operation = 'searchListingsItems'), '["PEN"]',
    'and Amazon is asked whether the offer shows the price');
select hurry() \g /dev/null
select is_empty($$select * from claim('patchListingsItem') where body::text like '%fulfillment%'$$, 'no request carries it before');
select amzmp._plan_sends(:account_id) \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
update amzmp.listing set submitted_price_at = submitted_price_at - interval '1 second' where sku = 'PEN';
select answer('searchListingsItems', 200, items(item('PEN', '["BUYABLE", "DISCOVERABLE"]', 'B000000001', 2.00, 0))) \g /dev/null
select results_eq($$select jsonb_path_query_array(body, '$.patches[*].value[0].quantity') from claim('patchListingsItem')$$,
    $$values ('[8]'::jsonb)$$, 'when it does the stock follows');
select accept('patchListingsItem') \g /dev/null

/* ---- orders ---- */

select amzmp._stock_moved(:account_id, array['BAG', 'BAG'], array[1, 0], array[now() + interval '1 minute', now() + interval '1 minute']) \g /dev/null
select results_eq($$select desired_quantity, remote_quantity from amzmp.inventory where sku = 'BAG'$$, $$values (1, 1)$$,
    'what an order took is gone here and there');
select is(due(), '', 'and nothing is sent');
select amzmp._stock_moved(:account_id, array['BAG'], array[1], array[now() - interval '2 days']) \g /dev/null
select results_eq($$select desired_quantity, remote_quantity from amzmp.inventory where sku = 'BAG'$$, $$values (0, 1)$$,
    'an order older than the last submission is not in Amazon''s number');
select amzmp._stock_moved(:account_id, array['BAG'], array[5], array[now() + interval '1 minute']) \g /dev/null
select results_eq($$select desired_quantity, remote_quantity from amzmp.inventory where sku = 'BAG'$$, $$values (0, 0)$$,
    'no quantity falls below nothing');
insert into amzmp.reservation (account_id, amazon_order_id, order_item_id, sku, quantity) values (:account_id, '1', '1', 'CUP', 4);
select shop('CUP', 6, 6) \g /dev/null
select is(i.desired_quantity, 2, 'reserved units are not offered') from amzmp.inventory as i where i.sku = 'CUP';
select amzmp.set('seller', 'buffer_stock', '3') \g /dev/null
select shop('CUP', 6, 6) \g /dev/null
select is(i.desired_quantity, 0, 'nor is the buffer') from amzmp.inventory as i where i.sku = 'CUP';
update amzmp.reservation set released_at = now();
select amzmp._stock_moved(:account_id, array['CUP'], array[-4], array[now()]) \g /dev/null
select is(i.desired_quantity, 3, 'units that came back are offered again, but for the buffer') from amzmp.inventory as i where i.sku = 'CUP';
select ok(due() like '%patchListingsItem/CUP%', 'and sent');
select count(*) from claim('patchListingsItem') \g /dev/null
select accept('patchListingsItem') \g /dev/null

/* ---- values that cannot be sent ---- */

select shop('MUG', -1, 20) \g /dev/null
select results_eq($$select kind, code, message from amzmp.penalty where subject = 'MUG'$$,
    $$values ('price', 'NO_PRICE', 'the shop''s price -1 cannot be sent')$$, 'a negative price is told');
select shop('MUG', 'NaN', 20) \g /dev/null
select is(l.desired_price, 14.00, 'and changes nothing, nor does what is no number') from amzmp.listing as l where l.sku = 'MUG';
select is(i.desired_quantity, 17, 'the stock is sent all the same') from amzmp.inventory as i where i.sku = 'MUG';
select shop('MUG', 1e30, 20) \g /dev/null
select is(l.desired_price, 14.00, 'nor does one that no shop can mean') from amzmp.listing as l where l.sku = 'MUG';
select shop('MUG', 14, 9999999999) \g /dev/null
select results_eq($$select kind, code, message from amzmp.penalty where subject = 'MUG'$$,
    $$values ('stock', 'NO_STOCK', 'the shop''s stock 9999999999 cannot be sent')$$, 'a stock beyond all numbers of Amazon''s is told, not cut');
select is(i.desired_quantity, 17, 'and changes nothing') from amzmp.inventory as i where i.sku = 'MUG';
select shop('MUG', 14, null) \g /dev/null
select results_eq($$select kind, code from amzmp.penalty where subject = 'MUG'$$, $$values ('stock', 'NO_STOCK')$$,
    'a penalty ends with its reason, and another begins');
select is(i.desired_quantity, 17, 'no quantity is no reason to change one') from amzmp.inventory as i where i.sku = 'MUG';
select shop('MUG', 14, 20) \g /dev/null
select is_empty($$select * from amzmp.penalty where subject = 'MUG'$$, 'and that ends too');

/* ---- who does not sell does not send ---- */

update amzmp.channel set active = false where channel_id = :de;
select is_empty($$select * from claim('patchListingsItem')$$, 'an inactive channel sends nothing');
select shop('CUP', 7, 9) \g /dev/null
select is(due(), '', 'and queues nothing');
update amzmp.channel set active = true where channel_id = :de;
select amzmp._flow_send_updated_product_price(:account_id, 0, 77) \g /dev/null
select results_eq($$select subject, flow_run_id from amzmp.request where state = 'due' and subject = 'CUP'$$, $$values ('CUP', 77::bigint)$$,
    'the flow picks up what was left, under its own name');

select * from finish();
rollback;
