-- feed_types.sql
-- Feeds of other types than listings: what a type gives (build, result, end) and what it is given. One is XML that comes
-- with a pause, one a file with buyers' data and options.

begin;
\ir listing_setup.psql
select amzmp.create_key() \g /dev/null

create function run_tasks() returns void language plpgsql as $$
declare
    t amzmp.task;
begin
    for i in 1 .. 10 loop
        select x.* into t from amzmp.task as x where x.kind in ('feed', 'feed_report') and x.due_at <= now() limit 1;
        exit when t.task_id is null;
        delete from amzmp.task as x where x.task_id = t.task_id;
        execute format('select amzmp.%I($1, $2, $3)', '_task_' || t.kind) using t.account_id, t.subject, t.argument;
    end loop;
end
$$;

create function feed(type text) returns amzmp.feed language sql as $$
    select f from amzmp.feed as f where f.type = $1 order by f.feed_id desc limit 1
$$;

-- What an owner of types keeps: what waits, and what became of it.
create table amzmp.thing (thing text primary key, feed_id bigint, message_id integer, outcome text);

create function amzmp._build_things(feed amzmp.feed) returns integer language plpgsql as $$
begin
    update amzmp.thing as t set feed_id = feed.feed_id, message_id = n.position
    from (select x.thing, row_number() over (order by x.thing) as position from amzmp.thing as x where x.outcome is null) as n
    where t.thing = n.thing;
    insert into amzmp.feed_message (account_id, feed_id, message_id, channel_id, subject)
    select feed.account_id, feed.feed_id, t.message_id, feed.channel_id, t.thing from amzmp.thing as t where t.feed_id = feed.feed_id;
    return amzmp._write_xml_feed(feed, 'Thing', $q$
        select xmlelement(name "Message", xmlforest(m.message_id as "MessageID"), xmlelement(name "Thing", m.subject))::text
        from amzmp.feed_message as m where (m.account_id, m.feed_id) = ($1, $2) order by m.message_id $q$);
end
$$;

create function amzmp._things_done(feed amzmp.feed) returns interval language plpgsql as $$
begin
    perform amzmp._judge_xml_report(feed);
    update amzmp.thing as t set outcome = m.result
    from amzmp.feed_message as m where (m.feed_id, m.message_id) = (t.feed_id, t.message_id) and m.feed_id = feed.feed_id;
    return null;
end
$$;

create function amzmp._things_ended(feed amzmp.feed) returns void language sql as $$
    update amzmp.thing as t set outcome = feed.state where t.feed_id = feed.feed_id
$$;

create function amzmp._build_paper(feed amzmp.feed) returns integer language plpgsql as $$
begin
    insert into amzmp.feed_message (account_id, feed_id, message_id, channel_id, subject)
    values (feed.account_id, feed.feed_id, 1, feed.channel_id, feed.argument ->> 'order');
    perform amzmp._write_content(feed.account_id, feed.document_id, '\x255044462d00ff'::bytea);
    return 1;
end
$$;

select throws_ok($$select amzmp._plan_feed(1, 1, 'POST_PRODUCT_DATA')$$, 'AZ203', null, 'a type without functions is refused');
update amzmp.feed_type
set build_function = '_build_things', result_function = '_things_done', end_function = '_things_ended'
where name = 'POST_ORDER_ACKNOWLEDGEMENT_DATA';
update amzmp.feed_type
set build_function = '_build_paper', result_function = '_things_done', end_function = null
where name = 'UPLOAD_VAT_INVOICE';

/* ---- XML ---- */

select amzmp._plan_feed(:account_id, :de, 'POST_ORDER_ACKNOWLEDGEMENT_DATA') \g /dev/null
select run_tasks() \g /dev/null
select is((feed('POST_ORDER_ACKNOWLEDGEMENT_DATA')).reason, 'nothing was left to send', 'a feed with nothing in it is not sent');

insert into amzmp.thing values ('a & b'), ('c'), ('d');
select amzmp._plan_feed(:account_id, :de, 'POST_ORDER_ACKNOWLEDGEMENT_DATA') as feed_id \gset
select is(amzmp._plan_feed(:account_id, :de, 'POST_ORDER_ACKNOWLEDGEMENT_DATA'), :feed_id::bigint, 'one that waits takes what comes');
select run_tasks() \g /dev/null
select results_eq($$select state, messages from amzmp.feed where feed_id = $$ || :feed_id, $$values ('built', 3)$$, 'its type builds it');
select is(amzmp.feed_document('seller', :feed_id), format(E'<?xml version="1.0" encoding="UTF-8"?>\n%s\n%s\n%s\n%s\n</AmazonEnvelope>\n',
        '<AmazonEnvelope xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="amzn-envelope.xsd">'
        || '<Header><DocumentVersion>1.01</DocumentVersion><MerchantIdentifier>A1SELLER</MerchantIdentifier></Header><MessageType>Thing</MessageType>',
        '<Message><MessageID>1</MessageID><Thing>a &amp; b</Thing></Message>', '<Message><MessageID>2</MessageID><Thing>c</Thing></Message>',
        '<Message><MessageID>3</MessageID><Thing>d</Thing></Message>'), 'in Amazon''s envelope');
select results_eq($$select body from claim('createFeedDocument')$$, $$values ('{"contentType": "text/xml; charset=UTF-8"}'::jsonb)$$,
    'announced as what it is');
select answer('createFeedDocument', 201, '{"feedDocumentId": "doc-1", "url": "https://127.0.0.1/x?secret"}') \g /dev/null
select amzmp._transfer_end(:account_id, 'upload/' || :feed_id, 200, null) \g /dev/null
select results_eq($$select body from claim('createFeed')$$,
    $$values ('{"feedType": "POST_ORDER_ACKNOWLEDGEMENT_DATA", "marketplaceIds": ["A1PA6795UKMFR9"], "inputFeedDocumentId": "doc-1"}'::jsonb)$$,
    'its plan is createFeed''s');
select answer('createFeed', 202, '{"feedId": "77"}') \g /dev/null

-- The next one waits: for the pause, and for this one's end.
select amzmp._plan_feed(:account_id, :de, 'POST_ORDER_ACKNOWLEDGEMENT_DATA') as next_id \gset
select run_tasks() \g /dev/null
select is((select state from amzmp.feed where feed_id = :next_id), 'planned', 'the next feed of a channel waits for the pause');
select ok((select due_at > now() + interval '19 minutes' from amzmp.task where kind = 'feed'), 'which Amazon recommends');
update amzmp.feed set created_at = created_at - interval '21 minutes' where feed_id = :feed_id;
select is(amzmp._feed_waits((select f from amzmp.feed as f where feed_id = :next_id)), '1 minute'::interval, 'and for the end of the one before');

-- Amazon tells that it has ended.
select is(amzmp._feed_finished(:account_id, '78'), false, 'a feed that is not known is no affair of ours');
select is((select count(*) from claim('getFeed')), 0::bigint, 'a state is asked for in a minute');
select is(amzmp._feed_finished(:account_id, '77'), true, 'unless Amazon tells');
select is((select count(*) from claim('getFeed')), 1::bigint, 'then at once');
select is(amzmp._feed_finished(:account_id, '77'), false, 'and once');
select answer('getFeed', 200, '{"feedId": "77", "processingStatus": "DONE", "resultFeedDocumentId": "result"}') \g /dev/null
select count(*) from claim('getFeedDocument') \g /dev/null
select answer('getFeedDocument', 200, '{"feedDocumentId": "result", "url": "https://127.0.0.1/y?secret"}') \g /dev/null
select amzmp._write_content(:account_id, t.document_id, convert_to($$<?xml version="1.0" encoding="UTF-8"?>
<AmazonEnvelope><Header><DocumentVersion>1.02</DocumentVersion></Header><MessageType>ProcessingReport</MessageType>
<Message><MessageID>1</MessageID><ProcessingReport><StatusCode>Complete</StatusCode>
<ProcessingSummary><MessagesProcessed>3</MessagesProcessed><MessagesSuccessful>2</MessagesSuccessful></ProcessingSummary>
<Result><MessageID>1</MessageID><ResultCode>Warning</ResultCode><ResultMessageCode>1</ResultMessageCode></Result>
<Result><MessageID>2</MessageID><ResultCode>Error</ResultCode><ResultMessageCode>18028</ResultMessageCode>
<ResultDescription>Too late &#8211; shipped.</ResultDescription></Result>
</ProcessingReport></Message></AmazonEnvelope>$$, 'UTF8')) from amzmp.transfer as t \g /dev/null
select amzmp._transfer_end(:account_id, 'download/' || :feed_id, 200, null) \g /dev/null
select run_tasks() \g /dev/null
select results_eq($$select state, accepted, refused from amzmp.feed where feed_id = $$ || :feed_id, $$values ('done', 2, 1)$$, 'the report is applied');
select results_eq($$select subject, result, code, message from amzmp.feed_message where feed_id = $$ || :feed_id || $$ order by 1$$,
    $$values ('a & b', 'accepted', null, null), ('c', 'refused', '18028', 'Too late – shipped.'), ('d', 'accepted', null, null)$$,
    'message by message');
select is((select string_agg(outcome, ' ' order by thing) from amzmp.thing), 'accepted refused accepted', 'and its type knows');

-- One that ends without a report.
insert into amzmp.thing values ('e');
update amzmp.feed set created_at = created_at - interval '1 hour';
update amzmp.task set due_at = now() where kind = 'feed';
select run_tasks() \g /dev/null
select count(*) from claim('createFeedDocument') \g /dev/null
select answer('createFeedDocument', 403, null, 'Unauthorized', 'Access is denied') \g /dev/null
select results_eq($$select f.state, m.result, t.outcome from amzmp.feed as f join amzmp.feed_message as m using (feed_id)
        join amzmp.thing as t on t.thing = m.subject where f.feed_id = $$ || :next_id,
    $$values ('cancelled', 'released', 'cancelled')$$, 'of an end without a report the type is told');

/* ---- a file with buyers' data ---- */

select amzmp._plan_feed(:account_id, :de, 'UPLOAD_VAT_INVOICE', '{"metadata:orderid": "302-1"}', '{"order": "302-1"}') as feed_id \gset
select isnt(amzmp._plan_feed(:account_id, :de, 'UPLOAD_VAT_INVOICE', '{"metadata:orderid": "302-2"}', '{"order": "302-2"}'), :feed_id::bigint,
    'another argument is another feed');
select run_tasks() \g /dev/null
select is((select count(*) from amzmp.feed where type = 'UPLOAD_VAT_INVOICE' and state = 'built'), 2::bigint, 'without a pause');
select results_eq($$select c.content is null, substr(c.sealed, 18, 2) <> '\x1f8b' from amzmp.document_chunk as c join amzmp.feed as f using (document_id)
        where f.feed_id = $$ || :feed_id, $$values (true, true)$$, 'what holds buyers'' data is sealed');
select is(amzmp.feed_file('seller', :feed_id), '\x255044462d00ff'::bytea, 'and can be opened');
select throws_ok($$select amzmp.feed_document('seller', $$ || :feed_id || ')', 'AZ203', null, 'as bytes, for it is no text');
create role feed_reader login in role amzmp_reader;
set local role feed_reader;
select throws_ok($$select amzmp.feed_file('seller', $$ || :feed_id || ')', '42501', null, 'not by everybody');
reset role;
select is((select body ->> 'contentType' from claim('createFeedDocument') limit 1), 'application/pdf', 'a file is announced as one');
select answer('createFeedDocument', 201, '{"feedDocumentId": "doc-7", "url": "https://127.0.0.1/x?secret"}') \g /dev/null
select amzmp._transfer_end(:account_id, 'upload/' || :feed_id, 200, null) \g /dev/null
select is((select body -> 'feedOptions' from claim('createFeed:UPLOAD_VAT_INVOICE')), '{"metadata:orderid": "302-1"}', 'options go along');
update amzmp.request set state = 'due', not_before = now() where operation = 'createFeed:UPLOAD_VAT_INVOICE';
select amzmp.confirm_identity() \g /dev/null
select results_eq($$select plan, rate, burst, feed_type, feed_rate::numeric(9, 4), feed_burst, feed_replaces
        from amzmp._lanes() where operation like 'createFeed:%'$$,
    $$values ('createFeed', 0.0083::float8, 15::float8, 'UPLOAD_VAT_INVOICE', 0.3333, 1::float8, false)$$,
    'and it falls under two plans');

select * from finish();
rollback;
