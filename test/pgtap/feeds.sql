-- feeds.sql
-- A large change as a feed: what it carries, what an answer at each step makes of it, what overtakes it, and how a
-- backlog is divided. Uploads and downloads are told to have happened; test/crash/feeds.sh performs them.

begin;
\ir listing_setup.psql
select amzmp.create_key() \g /dev/null

\ir feeds_setup.psql

update amzmp.source set rescan_due = 'infinity';
select amzmp.set('seller', 'bulk_feeds', 'true') \g /dev/null
select amzmp.set('seller', 'brake_minimum', '100000') \g /dev/null
select amzmp.set('seller', 'feed_minimum', '5') \g /dev/null
select amzmp.set('seller', 'feed_expected', '10 seconds') \g /dev/null

/* ---- the division ---- */

select live('P' || lpad(i::text, 3, '0'), 10, 5) from generate_series(1, 200) as i \g /dev/null
select shop('P' || lpad(i::text, 3, '0'), 11, 5) from generate_series(1, 200) as i \g /dev/null
select is((select count(*) from amzmp.request where operation = 'patchListingsItem'), 50::bigint,
    'what single calls manage while a feed would be under way goes by them');
select results_eq($$select way, skus, calls, seconds from amzmp.send_plan('DE')$$,
    $$values ('urgent single calls', 0::bigint, 0::bigint, 0.0), ('single calls', 50, 50, 10.0), ('feeds', 150, 1, 10.0)$$,
    'the plan says so');
select shop('P001', 11, 0), shop('P200', 11, 4) \g /dev/null
select results_eq($$select subject, priority from amzmp.request where priority <= 20 order by 1$$,
    $$values ('P001', 10::smallint), ('P200', 20::smallint)$$, 'what prevents overselling never waits for a feed');
select run_tasks() \g /dev/null
select results_eq($$select state, planned, messages from amzmp.feed$$, $$values ('built', 148, 148)$$, 'the rest is in a feed');
select is((select count(*) from amzmp.feed_message as m join amzmp.request as r on r.subject = m.sku), 0::bigint,
    'no SKU goes both ways');
select is(jsonb_array_length(amzmp.feed_document('seller', (feed()).feed_id)::jsonb -> 'messages'), 148, 'the document can be seen');
select is(amzmp.feed_document('seller', (feed()).feed_id)::jsonb -> 'header', '{"sellerId": "A1SELLER", "version": "2.0", "issueLocale": "de_DE"}',
    'its header names the seller');
select is(amzmp.feed_document('seller', (feed()).feed_id)::jsonb -> 'messages' -> 0,
    jsonb_build_object('messageId', 1, 'sku', (select sku from amzmp.feed_message where message_id = 1), 'operationType', 'PATCH',
        'productType', 'PRODUCT', 'patches', '[{"op": "merge", "path": "/attributes/purchasable_offer", "value": [
            {"marketplace_id": "A1PA6795UKMFR9", "currency": "EUR", "audience": "ALL",
             "our_price": [{"schedule": [{"value_with_tax": 11.00}]}]}]}]'::jsonb),
    'a message is a PATCH');

/* ---- its way to Amazon ---- */

select results_eq($$select body from claim('createFeedDocument')$$, $$values ('{"contentType": "application/json; charset=UTF-8"}'::jsonb)$$,
    'a place is asked for');
select answer('createFeedDocument', 201, '{"feedDocumentId": "doc-1", "url": "https://127.0.0.1/x?secret"}') \g /dev/null
select is((select count(*) from amzmp.task where kind = 'transfer'), 1::bigint, 'the upload is a task');
select ok(not exists (select from amzmp.transfer as t where t::text like '%' || encode('secret', 'hex') || '%' or t::text like '%secret%'),
    'the link is sealed');
select amzmp._transfer_end(:account_id, 'upload/' || (feed()).feed_id, 403, 'HTTP status 403') \g /dev/null
select is((feed()).state, 'built', 'a link that ended is replaced');
select count(*) from claim('createFeedDocument') \g /dev/null
select answer('createFeedDocument', 201, '{"feedDocumentId": "doc-2", "url": "https://127.0.0.1/x?secret"}') \g /dev/null
select amzmp._transfer_end(:account_id, 'upload/' || (feed()).feed_id, 200, null) \g /dev/null
select results_eq($$select body from claim('createFeed:JSON_LISTINGS_FEED')$$,
    $$values ('{"feedType": "JSON_LISTINGS_FEED", "marketplaceIds": ["A1PA6795UKMFR9"], "inputFeedDocumentId": "doc-2"}'::jsonb)$$,
    'then the feed is created');

/* ---- a lost answer ---- */

select answer('createFeed:JSON_LISTINGS_FEED', 0, null) \g /dev/null
select hurry() \g /dev/null
select is_empty($$select * from claim('createFeed:JSON_LISTINGS_FEED')$$, 'after a lost answer it is not sent again');
select is(c.params -> 'feedTypes', '["JSON_LISTINGS_FEED"]', 'but looked for') from claim('getFeeds') as c;
select answer('getFeeds', 200, '{"feeds": []}') \g /dev/null
select is_empty($$select * from claim('createFeed:JSON_LISTINGS_FEED')$$, 'twice');
select hurry() \g /dev/null
select count(*) from claim('getFeeds') \g /dev/null
select answer('getFeeds', 200, '{"feeds": [{"feedId": "77", "feedType": "JSON_LISTINGS_FEED", "marketplaceIds": ["A1PA6795UKMFR9"],
    "createdTime": "2026-01-01T00:00:00Z", "processingStatus": "IN_QUEUE"}]}') \g /dev/null
select results_eq($$select state, amazon_feed_id from amzmp.feed$$, $$values ('submitted', '77')$$, 'what is found is ours');
select poll('IN_QUEUE') \g /dev/null
select is((feed()).state, 'in_queue', 'it is waited for');
select ok(amzmp.poll_feed('seller', (feed()).feed_id), 'asking now is possible');

/* ---- meanwhile ---- */

select amzmp._plan_sends(:account_id) \g /dev/null
select is((select count(*) from amzmp.request as r join amzmp.feed_message as m on m.sku = r.subject), 0::bigint,
    'what is in a feed is not sent beside it');
select shop((select sku from amzmp.feed_message where message_id = 1), 13, 5) \g /dev/null
select is((select count(*) from amzmp.request as r join amzmp.feed_message as m on m.sku = r.subject), 0::bigint,
    'not even another price');

/* ---- the report ---- */

select report(jsonb_build_array(jsonb_build_object('messageId', 2, 'code', '90244', 'severity', 'ERROR', 'message', 'Not allowed.',
        'attributeName', 'purchasable_offer'), '{"messageId": 3, "code": "18027", "severity": "WARNING", "message": "Hm."}'), 147) \g /dev/null
select results_eq($$select state, messages, accepted, refused from amzmp.feed$$, $$values ('done', 148, 147, 1)$$, 'it is done');
select results_eq($$select code, message from amzmp.feed_message where result = 'refused'$$, $$values ('90244', 'Not allowed.')$$,
    'what was refused is told');
select results_eq($$select p.kind, p.code from amzmp.penalty as p$$, $$values ('price', '90244')$$, 'and held back');
select is((select count(*) from amzmp.listing as l join amzmp.feed_message as m using (sku)
    where m.result = 'accepted' and l.remote_price = 11 and l.submitted_price_request = m.feed_id), 147::bigint, 'the rest is what we expect there');
select is((select string_agg(r.subject, ' ') from amzmp.request as r join amzmp.feed_message as m on m.sku = r.subject where r.operation = 'patchListingsItem'),
    (select sku from amzmp.feed_message where message_id = 1), 'what changed meanwhile follows');
select ok(amzmp.feed_response('seller', (feed()).feed_id) like '%90244%', 'the response can be seen');
select is((select base < 10 from amzmp._feed_pace(:account_id)), true, 'how long it took is remembered');

/* ---- cancelled: nothing of it was applied ---- */

delete from amzmp.penalty;
delete from amzmp.request;
delete from amzmp.feed;
delete from amzmp.feed_message;
delete from amzmp.document;
delete from amzmp.document_chunk;
update amzmp.listing set remote_price = desired_price;
update amzmp.inventory set remote_quantity = desired_quantity;
select shop('P' || lpad(i::text, 3, '0'), 14, 9) from generate_series(11, 20) as i \g /dev/null
delete from amzmp.request;
select submit_feed() \g /dev/null
select results_eq($$select count(*), min(price), min(quantity) from amzmp.feed_message$$, $$values (10::bigint, 14.00, 9)$$,
    'stock that rises goes along');
select poll('CANCELLED') \g /dev/null
select results_eq($$select distinct f.state, m.result from amzmp.feed as f join amzmp.feed_message as m using (feed_id)$$,
    $$values ('cancelled', 'released')$$, 'a cancelled feed gives back what it carried');
select run_tasks() \g /dev/null
select is((select count(*) from amzmp.request where operation = 'patchListingsItem' and state = 'due'), 10::bigint, 'it is sent another way');

/* ---- stuck, with a stock-out meanwhile ---- */

delete from amzmp.request;
delete from amzmp.feed;
delete from amzmp.feed_message;
delete from amzmp.document;
delete from amzmp.document_chunk;
select submit_feed() \g /dev/null
select shop('P011', 14, 0), shop('P012', 14, 7), shop('P013', 14, 5), shop('P014', 14, 12) \g /dev/null
select results_eq($$select subject, priority from amzmp.request where operation = 'patchListingsItem' order by 1$$,
    $$values ('P011', 10::smallint), ('P012', 20::smallint), ('P013', 20::smallint)$$, 'less than the feed says overtakes it, more does not');
select results_eq($$select sku, jsonb_path_query_array(body, '$.patches[*].value[0].quantity') from claim('patchListingsItem')$$,
    $$values ('P011', '[0]'::jsonb), ('P012', '[7]'), ('P013', '[5]')$$, 'with the stock alone');
select accept('patchListingsItem') \g /dev/null
select shop('P011', 14, 3) \g /dev/null
select is_empty($$select subject from amzmp.request where operation = 'patchListingsItem' and subject = 'P011'$$, 'then it waits');
update amzmp.feed set submitted_at = now() - interval '7 hours';
select poll('IN_QUEUE') \g /dev/null
select is((feed()).state, 'stuck', 'after the deadline it is stuck');
select is((select count(*) from amzmp.request where operation = 'cancelFeed'), 1::bigint, 'and cancelled if it still waits');
select is((select sum(jsonb_array_length(params -> 'identifiers')) from amzmp.request where operation = 'searchListingsItems'), 10::bigint,
    'what it carried is read');
select is_empty($$select subject from amzmp.request where operation = 'patchListingsItem' and subject > 'P014'$$, 'before it is sent again');
select count(*) from claim('searchListingsItems') \g /dev/null
update amzmp.feed_message set ended_at = ended_at - interval '1 minute';
update amzmp.listing set submitted_price_at = now() - interval '1 day';
select answer('searchListingsItems', 200, items(variadic array(
    select item('P0' || i, '["BUYABLE"]', 'B000000001', case i when 16 then 10.00 else 14.00 end, 5) from generate_series(11, 20) as i))) \g /dev/null
select results_eq($$select sku, jsonb_path_query_array(body, '$.patches[*].path') from claim('patchListingsItem') where sku in ('P015', 'P016')$$,
    $$values ('P015', '["/attributes/fulfillment_availability"]'::jsonb), ('P016', '["/attributes/purchasable_offer", "/attributes/fulfillment_availability"]')$$,
    'what is there is not sent again');
select accept('patchListingsItem') \g /dev/null
select report('[]', 10) \g /dev/null
select is((feed()).state, 'done', 'should it end after all');
select ok((select i.quantity_differs from amzmp.inventory as i where i.sku = 'P012'), 'what overtook it is asserted again');
select ok(exists (select from amzmp.request where operation = 'patchListingsItem' and subject = 'P012'), 'by a single call');
select ok(exists (select from amzmp.request where operation = 'searchListingsItems' and params -> 'identifiers' ? 'P012'), 'and read back');

/* ---- taken back while a feed is under way ---- */

update amzmp.listing set remote_price = desired_price, in_flight_price = null, in_flight_request = null;
update amzmp.inventory set remote_quantity = desired_quantity, in_flight_quantity = null, in_flight_request = null;
delete from amzmp.request;
delete from amzmp.feed;
delete from amzmp.feed_message;
delete from amzmp.document;
delete from amzmp.document_chunk;
select amzmp.set('seller', 'on_remove', 'delete') \g /dev/null
select shop('P' || lpad(i::text, 3, '0'), 15, 9) from generate_series(21, 30) as i \g /dev/null
delete from amzmp.request;
select submit_feed() \g /dev/null
select is(amzmp._pending('settled') is not null, true, 'settled waits for feeds');
select amzmp.unpublish('DE', '{P021,P022}') \g /dev/null
select results_eq($$select sku from claim('deleteListingsItem')$$, $$values ('P021'), ('P022')$$, 'what is taken back is deleted past the feed');
select answer('deleteListingsItem', 200, '{"sku": "?", "status": "ACCEPTED", "submissionId": "d1", "issues": []}') \g /dev/null
select is((select state from amzmp.listing where sku = 'P021'), 'removed', 'and is gone');
update amzmp.listing set wanted = true, state = 'queued' where sku = 'P022';
select amzmp._plan_puts(:account_id, :de, '{P022}', null) \g /dev/null
select is_empty($$select subject from amzmp.request where operation = 'putListingsItem'$$, 'what is wanted again waits for the feed');
select report('[]', 10) \g /dev/null
select is((select state_reason from amzmp.listing where sku = 'P021'), 'a feed that was under way may have brought it back', 'the feed may bring it back');
select ok(exists (select from amzmp.request where operation = 'deleteListingsItem' and subject = 'P021'), 'so it is deleted again');
select ok((select params -> 'identifiers' ? 'P022' from amzmp.request where operation = 'searchListingsItems' and state = 'due' limit 1),
    'and what waited is read, and goes on from there');
select amzmp.set('seller', 'on_remove', null) \g /dev/null

/* ---- fatal, and no more feeds for a while ---- */

update amzmp.listing set remote_price = desired_price;
update amzmp.inventory set remote_quantity = desired_quantity;
delete from amzmp.request;
delete from amzmp.feed;
delete from amzmp.feed_message;
delete from amzmp.document;
delete from amzmp.document_chunk;
select shop('P' || lpad(i::text, 3, '0'), 16, 9) from generate_series(31, 40) as i \g /dev/null
delete from amzmp.request;
select submit_feed() \g /dev/null
select poll('FATAL') \g /dev/null
select results_eq($$select distinct f.state, m.result from amzmp.feed as f join amzmp.feed_message as m using (feed_id)$$,
    $$values ('fatal', 'unknown')$$, 'a part of a fatal feed may have been applied');
select is((select sum(jsonb_array_length(params -> 'identifiers')) from amzmp.request where operation = 'searchListingsItems'), 10::bigint,
    'so it is read back');
update amzmp.feed_message set ended_at = ended_at - interval '2 hours';
select submit_feed() \g /dev/null
select is(amzmp._no_feeds(:account_id), null, 'one failure is none');
select poll('FATAL') \g /dev/null
select ok(amzmp._no_feeds(:account_id) like 'the last two feeds failed%', 'two are');
update amzmp.feed_message set ended_at = ended_at - interval '2 hours';
select amzmp._plan_sends(:account_id) \g /dev/null
select ok((select count(*) >= 10 from amzmp.request where operation = 'patchListingsItem'), 'then everything goes by single calls');

/* ---- by hand ---- */

select ok(amzmp.resend_feed('seller', (feed()).feed_id) = 10, 'a feed can be sent again');
select throws_ok($$select amzmp.feed_document('seller', 1)$$, 'AZ201', null, 'one that does not exist is told');
select is(amzmp.purge_feeds('seller', '-1 s'), 2::bigint, 'feeds can be removed');
select is((select count(*) from amzmp.document), 0::bigint, 'with their documents');

select * from finish();
rollback;
