-- feeds_requests.sql
-- New offers, content, deletions and ends that go along with feeds: which do, what the messages say, what the report's
-- verdicts mean, and what happens when a feed is cancelled, lost or late. test/crash/bulk.sh does it with real processes.

begin;
\ir listing_setup.psql
select amzmp.create_key() \g /dev/null
\ir feeds_setup.psql

-- Offers that are live, with content that Amazon has; then the shop changes it.
create function content(sku text, title text, price numeric default 10) returns void language plpgsql as $$
begin
    delete from amzmp.product as p where p.source_id = 900001 and p.sku = content.sku;
    insert into amzmp.product (account_id, source_id, sku, price, quantity, title, ean, extra)
    select t.account_id, 900001, content.sku, content.price, 5, content.title, '4006381333931', jsonb_build_object('product_type', 'MUG',
        'attributes', jsonb_build_object('item_name', content.title)::text, 'images', '["https://shop.example/a.jpg"]')
    from this as t;
    perform amzmp._recompute((select account_id from this), array[content.sku], '{"role": "shop"}');
end
$$;

-- Products that Amazon does not have are published: their puts wait.
create function publish_new(prefix text, number integer, place text default 'DE') returns void language plpgsql as $$
declare
    skus text[] := array(select prefix || lpad(i::text, 3, '0') from generate_series(1, number) as i);
begin
    perform shop(s.sku, 10, 5) from unnest(skus) as s (sku);
    perform amzmp.publish(place, skus, array(select 'B000000001' from unnest(skus)));
    for i in 1 .. (number + 19) / 20 loop
        perform count(*) from claim('searchListingsItems');
        perform answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}');
    end loop;
end
$$;

create function waiting(operation text) returns bigint language sql volatile as $$
    select count(*) from amzmp.request as r where r.operation = $1 and r.state = 'due'
$$;

create function clean() returns void language sql volatile as $$
    delete from amzmp.request;
    delete from amzmp.task;
    delete from amzmp.feed;
    delete from amzmp.feed_message;
    delete from amzmp.document;
    delete from amzmp.document_chunk;
    delete from amzmp.penalty;
    update amzmp.listing set remote_price = desired_price, step = null, state = case when listed and wanted then 'live' else 'not_listed' end;
    update amzmp.inventory set remote_quantity = desired_quantity;
$$;

-- Messages of the feed that a test is about; others may follow it.
create function message(number integer default null) returns setof amzmp.feed_message language sql stable as $$
    select m.* from amzmp.feed_message as m
    where m.feed_id = (select min(f.feed_id) from amzmp.feed as f) and m.message_id = coalesce(number, m.message_id)
$$;

update amzmp.source set rescan_due = 'infinity';
select amzmp.set('seller', 'bulk_feeds', 'true') \g /dev/null
select amzmp.set('seller', 'brake_minimum', '100000') \g /dev/null
select amzmp.set('seller', 'on_remove', 'delete') \g /dev/null
select amzmp.set('seller', 'feed_minimum', '5') \g /dev/null
select amzmp.set('seller', 'feed_expected', '10 seconds') \g /dev/null

/* ---- new offers: as many as single calls do not manage meanwhile ---- */

select publish_new('P', 100) \g /dev/null
select is(waiting('putListingsItem'), 100::bigint, 'new offers are queued one by one');
select results_eq($$select way, skus, seconds from amzmp.send_plan('DE') where way like 'new%'$$,
    $$values ('new offers: single calls', 50::bigint, 10.0), ('new offers: feeds', 50, 10.0)$$, 'the plan tells which way they go');
select run_tasks() \g /dev/null
select is(waiting('putListingsItem'), 50::bigint, 'what single calls manage while a feed would be under way stays with them');
select results_eq($$select state, messages, reason from amzmp.feed$$,
    $$values ('built', 50, '100 wait for putListingsItem, single calls alone would need 20 s')$$, 'the rest goes along with a feed');
select is_empty($$select from amzmp.feed_message as m join amzmp.request as r on r.subject = m.sku$$, 'no SKU goes both ways');
select results_eq($$select distinct facets, request_id is not null from amzmp.feed_message$$, $$values ('{offer}'::text[], true)$$,
    'a message tells what it is about');
select is(amzmp.feed_document('seller', (feed()).feed_id)::jsonb #> '{messages,0}',
    jsonb_build_object('messageId', 1, 'sku', (select sku from amzmp.feed_message where message_id = 1), 'operationType', 'UPDATE')
        || (select x.body #- '{attributes,fulfillment_availability}' from claim('putListingsItem') as x limit 1),
    'and says what a put says, without the stock');
select results_eq($$select l.state, l.step, l.in_flight_price from amzmp.listing as l join amzmp.feed_message as m using (sku)
    where m.message_id = 1$$,
    $$values ('sent', 'stock', 10::numeric)$$, 'which is the next step');
select upload_feed() \g /dev/null
select create_feed() \g /dev/null
select accept('putListingsItem') \g /dev/null
select amzmp._flow_send_products(:account_id, :de, 1), amzmp._plan_sends(:account_id) \g /dev/null
select is_empty($$select from amzmp.feed_message as m join amzmp.request as r on r.subject = m.sku$$, 'nothing is sent beside it');
select sku as unwanted from message(5) \gset
select amzmp.unpublish('DE', array[:'unwanted']) \g /dev/null
select amzmp.set('seller', 'feed_expected', '1 second') \g /dev/null
select report(jsonb_build_array(
        jsonb_build_object('messageId', 2, 'code', '90244', 'severity', 'ERROR', 'message', 'Not allowed.', 'attributeName', 'condition_type'),
        jsonb_build_object('messageId', 3, 'code', '18027', 'severity', 'WARNING', 'message', 'Hm.')), 49) \g /dev/null
select results_eq($$select state, messages, accepted, refused from amzmp.feed where argument ? 'render'$$, $$values ('done', 50, 49, 1)$$, 'the report is applied');
select results_eq($$select l.state, l.state_reason, p.kind, p.code from amzmp.listing as l join message(2) as m using (sku)
    join amzmp.penalty as p on p.subject = l.sku$$,
    $$values ('rejected', 'Not allowed.', 'publish', '90244')$$, 'a refusal is what it is for a single call');
select results_eq($$select i.code, i.severity from amzmp.listing_issue as i join message() as m using (sku)
    where m.message_id in (2, 3) order by 1$$,
    $$values ('18027', 'WARNING'), ('90244', 'ERROR')$$, 'and issues are kept');
select results_eq($$select l.state, l.remote_price, l.step, i.remote_quantity from amzmp.listing as l join message(1) as m using (sku)
    join amzmp.inventory as i using (sku)$$,
    $$values ('pending', 10::numeric, 'stock', null::integer)$$, 'what was accepted waits for its verdict');
select is((select count(*) from amzmp.request_log as r join message() as m using (request_id) where r.outcome = 'success'), 50::bigint,
    'its request has ended like any other');
select ok(exists (select from amzmp.request where operation = 'deleteListingsItem' and subject = :'unwanted'), 'what nobody wants any more is deleted');
select is((select count(*) from amzmp.stock_diff as d join message() as m using (sku) where d.sku <> :'unwanted'), 48::bigint,
    'now its stock differs');
select run_tasks() \g /dev/null
select results_eq($$select not f.argument ? 'render', count(m.quantity), count(m.price)
    from amzmp.feed_message as m join amzmp.feed as f using (feed_id)
    where f.feed_id = (feed()).feed_id group by 1$$, $$values (true, 43::bigint, 0::bigint)$$, 'and goes by a feed too, but for what single calls manage');


/* ---- cancelled: requests come back into the queue ---- */

select clean() \g /dev/null
select publish_new('Q', 30) \g /dev/null
select run_tasks() \g /dev/null
select results_eq($$select waiting('putListingsItem'), (feed()).messages$$, $$values (5::bigint, 25)$$, 'a feed of 25');
select upload_feed(), create_feed() \g /dev/null
select poll('CANCELLED') \g /dev/null
select amzmp.set('seller', 'bulk_feeds', 'false') \g /dev/null
select run_tasks() \g /dev/null
select results_eq($$select waiting('putListingsItem'), (select count(*) from amzmp.listing as l where l.sku like 'Q%' and l.state = 'queued' and l.in_flight_request is null)$$,
    $$values (30::bigint, 30::bigint)$$, 'what was in it waits as before');
select is((select count(*) from claim('putListingsItem')), 30::bigint, 'and goes by single calls');
select accept('putListingsItem') \g /dev/null
select is((select count(*) from amzmp.listing as l where l.sku like 'Q%' and l.state = 'pending'), 30::bigint, 'as if nothing had happened');
select amzmp.set('seller', 'bulk_feeds', 'true') \g /dev/null

/* ---- fatal: nobody knows, so Amazon is asked first ---- */

select clean() \g /dev/null
select publish_new('R', 30) \g /dev/null
select upload_feed(), create_feed() \g /dev/null
select poll('FATAL'), run_tasks() \g /dev/null
select results_eq($$select l.state, count(*) from amzmp.listing as l join amzmp.feed_message as m using (sku) group by 1$$, $$values ('queued', 25::bigint)$$,
    'what a fatal feed carried is unknown');
select is((select count(distinct i) from amzmp.request as r, jsonb_array_elements_text(r.params -> 'identifiers') as i
    where r.operation = 'searchListingsItems'), 25::bigint, 'and read');
delete from amzmp.request where operation = 'putListingsItem';
select hurry(), count(*) from claim('searchListingsItems') \g /dev/null
select sku as taken from message(1) \gset
select answer('searchListingsItems', 200, items(item(:'taken', '["BUYABLE"]', 'B000000001', 10, 0))) \g /dev/null
select results_eq($$select state, count(*) from amzmp.listing as l
    where l.sku in (select m.sku from amzmp.feed_message as m) group by 1 order by 1$$,
    $$values ('pending', 1::bigint), ('queued', 24)$$, 'what is there is adopted');
select is(waiting('putListingsItem'), 24::bigint, 'what is not is put again');

/* ---- content: one message for all that differs of a listing, but for its stock ---- */

select clean() \g /dev/null
select amzmp.set('DE', 'send_content', 'true'), amzmp.set('DE', 'send_images', 'true') \g /dev/null
select amzmp.set_rule('seller', '{"send": ["price", "stock", "details", "content", "images"]}') \g /dev/null
update amzmp.source set rescan_due = 'infinity';
select live('C' || lpad(i::text, 3, '0'), 10, 5) from generate_series(1, 30) as i \g /dev/null
delete from amzmp.request;
select content('C' || lpad(i::text, 3, '0'), 'Green mug', 11) from generate_series(1, 30) as i \g /dev/null
select run_tasks() \g /dev/null
select results_eq($$select distinct facets, f.argument ->> 'render' from message() as m join amzmp.feed as f using (feed_id)$$,
    $$values ('{image,price,product}'::text[], '_render_patch')$$, 'content goes along with a feed, and the price with it');
select is((select count(*) from message()), 25::bigint, 'but for what single calls manage');
select upload_feed(), create_feed() \g /dev/null
select is(jsonb_path_query_array(amzmp.feed_document('seller', (feed()).feed_id)::jsonb, '$.messages[0].patches[*].path'),
    '["/attributes/externally_assigned_product_identifier", "/attributes/item_name", "/attributes/main_product_image_locator",
      "/attributes/purchasable_offer"]', 'as a PATCH says it');
select sku as stopped from message(1) \gset
select sku as lowered from message(2) \gset
select sku as dearer from message(3) \gset
select sku as left_shop from message(4) \gset
select shop(:'stopped', 11, 0), content(:'dearer', 'Red mug', 12) \g /dev/null
update amzmp.inventory set desired_quantity = 3 where sku = :'lowered';
select amzmp._plan_sends(:account_id, array[:'stopped', :'lowered', :'dearer']) \g /dev/null
select results_eq($$select subject, priority from amzmp.request where operation = 'patchListingsItem' and subject in (select m.sku from message() as m) order by 1$$,
    format($$values (%L, 10::smallint), (%L, 20::smallint)$$, :'stopped', :'lowered'), 'stock that falls goes past it, all else waits');
select results_eq($$select sku, jsonb_path_query_array(body, '$.patches[*].path') from claim('patchListingsItem') where sku in (select m.sku from message() as m) order by 1$$,
    format($$values (%L, '["/attributes/fulfillment_availability"]'::jsonb), (%L, '["/attributes/fulfillment_availability"]')$$, :'stopped', :'lowered'),
    'alone');
select accept('patchListingsItem') \g /dev/null
select results_eq(format($$select remote_quantity from amzmp.inventory where sku in (%L, %L) order by sku$$, :'stopped', :'lowered'),
    $$values (0), (3)$$, 'and is there');
select amzmp.unpublish('DE', array[:'left_shop']) \g /dev/null
select results_eq($$select sku from claim('deleteListingsItem')$$, format($$values (%L)$$, :'left_shop'), 'a deletion goes past it as well');
select accept('deleteListingsItem') \g /dev/null
select report(jsonb_build_array(jsonb_build_object('messageId', 5, 'code', '20005', 'severity', 'ERROR', 'message', 'Bad image.',
        'attributeName', 'main_product_image_locator')), 24) \g /dev/null
select results_eq($$select p.kind, p.code from amzmp.penalty as p join message(5) as m on p.subject = m.sku$$, $$values ('image', '20005')$$,
    'what is at fault is held back, as after a single call');
select results_eq($$select l.remote_price, (select count(*) from amzmp.listing_content as d where d.sku = l.sku and not d.differs)
    from amzmp.listing as l join message(6) as m using (sku)$$, $$values (11.00, 2::bigint)$$, 'what was accepted is what we expect there');
select is((select state_reason from amzmp.listing where sku = :'left_shop'), 'a feed that was under way may have brought it back',
    'what was deleted past the feed may be back');
select ok(exists (select from amzmp.request where operation = 'deleteListingsItem' and subject = :'left_shop'), 'and is deleted again');
select ok(exists (select from amzmp.request where operation = 'patchListingsItem' and subject = :'dearer'), 'what changed meanwhile follows');

/* ---- stuck, and over after all ---- */

select clean() \g /dev/null
update amzmp.listing_content set remote = desired, in_flight = null, in_flight_request = null;
select content('C' || lpad(i::text, 3, '0'), 'Black mug', 11) from generate_series(10, 30) as i \g /dev/null
select run_tasks(), upload_feed(), create_feed() \g /dev/null
update amzmp.feed set submitted_at = now() - interval '7 hours' where feed_id = (select min(feed_id) from message());
select poll('IN_PROGRESS'), run_tasks() \g /dev/null
select results_eq($$select f.state, count(*), count(m.request) from amzmp.feed as f join message() as m using (feed_id) group by 1$$,
    $$values ('stuck', 16::bigint, 0::bigint)$$, 'what is stuck has lost its answers');
select is_empty($$select from amzmp.request as r join message() as m on m.sku = r.subject where r.operation = 'patchListingsItem'$$,
    'it is read before it is sent again');
update amzmp.feed_message set ended_at = ended_at - interval '1 minute';
select amzmp.set('seller', 'bulk_feeds', 'false') \g /dev/null
select hurry(), count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, items(variadic array(
    select item(m.sku, '["BUYABLE"]', 'B000000001', 11.00, 5) from message() as m))) \g /dev/null
select is((select count(*) from amzmp.request as r join message() as m on m.sku = r.subject where r.operation = 'patchListingsItem'), 16::bigint,
    'then it is sent again');
select count(*) from claim('patchListingsItem') \g /dev/null
select accept('patchListingsItem') \g /dev/null
select is((select count(*) from amzmp.content_diff as d join message() as m using (sku)), 0::bigint, 'and nothing differs');
select report('[]', 16) \g /dev/null
select is((feed()).state, 'done', 'should the feed end after all');
select is((select count(*) from amzmp.request as r join message() as m on m.sku = r.subject where r.operation = 'patchListingsItem'), 16::bigint,
    'everything is asserted once more');

select amzmp.set('seller', 'bulk_feeds', 'true') \g /dev/null

/* ---- deletions: feeds beside single calls, which then follow ---- */

select clean() \g /dev/null
update amzmp.listing_content set remote = desired, in_flight = null, in_flight_request = null;
select live('D' || lpad(i::text, 3, '0'), 10, 5) from generate_series(1, 120) as i \g /dev/null
delete from amzmp.request;
select amzmp.set('seller', 'feed_expected', '20 seconds') \g /dev/null
select amzmp.unpublish('DE', array(select 'D' || lpad(i::text, 3, '0') from generate_series(1, 120) as i)) \g /dev/null
select is(waiting('deleteListingsItem'), 120::bigint, 'deletions are queued at once');
select run_tasks() \g /dev/null
select results_eq($$select waiting('deleteListingsItem'), count(*), min(facets) from message()$$, $$values (100::bigint, 20::bigint, '{deletion}'::text[])$$,
    'and those that single calls would not come to meanwhile go along');
select is(amzmp.feed_document('seller', (feed()).feed_id)::jsonb #> '{messages,0}',
    jsonb_build_object('messageId', 1, 'sku', (select sku from message(1)), 'operationType', 'DELETE'), 'as DELETE and nothing more');
select upload_feed(), create_feed() \g /dev/null
select amzmp._flow_send_delete_products(:account_id, :de, 1) \g /dev/null
select is(waiting('deleteListingsItem'), 100::bigint, 'none is queued twice');
select count(*) from claim('deleteListingsItem') \g /dev/null
select accept('deleteListingsItem') \g /dev/null
select is(waiting('deleteListingsItem'), 20::bigint, 'single calls that are done go on with those of the feed');
select sku as back from message(1) \gset
select count(*) from claim('deleteListingsItem') where sku <> :'back' \g /dev/null
select accept('deleteListingsItem') \g /dev/null
select is((select count(*) from amzmp.listing as l where l.sku like 'D%' and l.state = 'removed'), 120::bigint, 'so that a feed that hangs keeps nothing on sale');
select amzmp.publish('DE', array[:'back']) \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select is(waiting('putListingsItem'), 0::bigint, 'what is published anew waits for the feed, which may delete it');
select report('[]', 20) \g /dev/null
select ok(exists (select from amzmp.request where operation = 'searchListingsItems' and params -> 'identifiers' ? :'back'), 'and goes on then');
select is((select count(*) from amzmp.request where operation = 'deleteListingsItem'), 0::bigint, 'nothing else is left to do');

/* ---- ends of offers that Amazon ships ---- */

select clean() \g /dev/null
select amzmp.set('seller', 'on_remove', null), amzmp.set('seller', 'feed_expected', '1 second') \g /dev/null
select live('E' || lpad(i::text, 3, '0'), 10, 5) from generate_series(1, 30) as i \g /dev/null
update amzmp.listing set fulfillment = 'amazon' where sku like 'E%';
delete from amzmp.request;
select amzmp.unpublish('DE', array(select 'E' || lpad(i::text, 3, '0') from generate_series(1, 30) as i)) \g /dev/null
select run_tasks(), upload_feed(), create_feed() \g /dev/null
select results_eq($$select distinct facets, body from message()$$, $$values ('{end}'::text[], null::jsonb)$$, 'ends go along as well');
select is(jsonb_path_query_array(amzmp.feed_document('seller', (feed()).feed_id)::jsonb, '$.messages[*].patches[*].op'),
    (select jsonb_agg('delete'::text) from message()), 'as patches that take the offer away');
select report('[]', (feed()).messages) \g /dev/null
select is((select count(*) from amzmp.listing as l join message() as m using (sku) where l.state = 'off_sale' and l.remote_price is null),
    (select count(*) from message()), 'and they are off sale');

/* ---- a document that is full ---- */

select clean() \g /dev/null
create or replace function amzmp._feed_most_bytes() returns bigint language sql immutable as 'select 13000::bigint';
select amzmp.set('seller', 'feed_expected', '1 second') \g /dev/null
select publish_new('F', 60) \g /dev/null
select run_tasks() \g /dev/null
select ok((feed()).messages between 3 and 20, 'a document holds what Amazon takes');
select is((select count(*) from message()) + waiting('putListingsItem'), 60::bigint, 'all else waits in the queue');

/* ---- an answer that cannot be applied ---- */

select clean() \g /dev/null
create or replace function amzmp._feed_most_bytes() returns bigint language sql immutable as 'select 10485760::bigint';
select publish_new('G', 30) \g /dev/null
select run_tasks(), upload_feed(), create_feed() \g /dev/null
select sku as bad from message(1) \gset
create function pg_temp.fail() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
select format('create trigger fail before update on amzmp.listing for each row when (new.sku = %L and new.state = ''pending'') execute function pg_temp.fail()',
    :'bad') \gexec
select report('[]', (feed()).messages) \g /dev/null
select is((select state from amzmp.feed where feed_id = (select min(feed_id) from message())), 'done', 'a feed ends though an answer cannot be applied');
select results_eq($$select r.outcome, count(*) from amzmp.request_log as r join message() as m using (request_id) group by 1 order by 1$$,
    $$values ('handler_failed', 1::bigint), ('success', 24)$$, 'and its neighbours are applied');

select * from finish();
rollback;
