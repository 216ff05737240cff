-- notifications.sql
-- What messages mean: how they are read, whose they are, what follows, and how subscriptions are mended.

\ir orders_setup.psql

create function message(body text, id text default 'm1') returns jsonb language sql as $$
    select jsonb_build_object('MessageId', id, 'ReceiptHandle', 'r', 'Body', body, 'Attributes', '{"SentTimestamp": "1700000000000"}'::jsonb);
$$;

create function take(account bigint, variadic bodies text[]) returns void language sql as $$
    select amzmp._messages_received(account, (select jsonb_agg(message(b, 'm' || n)) from unnest(bodies) with ordinality x (b, n)));
$$;

create function order_change(notification text, id text, changed text, subscription text default 'none', seller text default 'A1SELLER')
    returns text language sql as $$
    select jsonb_build_object('NotificationVersion', '1.0', 'NotificationType', 'ORDER_CHANGE', 'EventTime', changed,
        'Payload', jsonb_build_object('OrderChangeNotification', jsonb_build_object('SellerId', seller, 'AmazonOrderId', id,
            'OrderChangeTrigger', jsonb_build_object('TimeOfOrderChange', changed),
            'Summary', '{"DestinationPostalCode": "21335", "OrderStatus": "Unshipped"}'::jsonb)),
        'NotificationMetadata', jsonb_build_object('NotificationId', notification, 'SubscriptionId', subscription))::text;
$$;

-- The answers to requests of an operation, oldest first.
create function answer_first(account bigint, operation_name text, status integer, body jsonb, outcome text default null) returns void
language plpgsql as $$
declare
    r amzmp.request;
begin
    select x.* into strict r from amzmp.request x
     where x.account_id = account and x.operation = operation_name order by x.request_id limit 1;
    delete from amzmp.request x where x.account_id = account and x.request_id = r.request_id;
    execute format('select amzmp.%I($1)', r.handler) using array[row(r, status,
        coalesce(outcome, case when status < 300 then 'success' else 'refused' end), body, null, null, 'id', now())::amzmp.answer_row];
end $$;

create function asked(account bigint) returns text language sql as $$
    select coalesce(string_agg(r.operation, ' ' order by r.request_id), '') from amzmp.request r where r.account_id = account;
$$;

/* ---- the queue ---- */

select throws_ok($$select amzmp.set_queue('orders', 'arn:aws:sqs:eu-west-1:123456789012:q.fifo', access_key_id => 'a', secret_access_key => 'b')$$,
    'AZ202', null, 'a FIFO queue is refused');
select amzmp.set_queue('orders', 'arn:aws:sqs:eu-west-1:123456789012:q', access_key_id => 'AK', secret_access_key => 'SK') \g /dev/null
select amzmp.create_account('orders2', 'EU', 'orders_app', 'A2SELLER', 'mock', 'http://127.0.0.1:9') as second_id \gset
select throws_ok($$select amzmp.set_queue('orders2', 'arn:aws:sqs:eu-west-1:123456789012:q', access_key_id => 'a', secret_access_key => 'b')$$,
    'AZ203', null, 'one account reads a queue');
select is(asked(:account_id), 'receiveMessage', 'a queue is read');
select results_eq(format($$select x.body ->> 'region', x.body ->> 'access_key_id', (x.body ->> 'payload')::jsonb -> 'WaitTimeSeconds'
    from amzmp._render_queue(array(select row(r.*)::amzmp.request from amzmp._take(%s, 'receiveMessage', 10) t, unnest(t) r)) x$$, :account_id),
    $$values ('eu-west-1', 'AK', '20'::jsonb)$$, 'by long polling, in the region of its ARN');
select ok(encode(q.credentials, 'escape') !~ 'SK', 'its keys are sealed') from amzmp.queue q;
select answer_first(:account_id, 'receiveMessage', 403, '{"__type": "x#AccessDenied"}') \g /dev/null
select is(q.state, 'failing', 'a queue that cannot be read is told') from amzmp.queue q;
select ok(r.not_before > now(), 'and read again later') from amzmp.request r where r.account_id = :account_id and r.operation = 'receiveMessage';
delete from amzmp.request where account_id = :account_id;

/* ---- messages ---- */

select take(:account_id, 'no JSON at all, from Zoë', '{"payload": 1', '"\u0000"', '[]', 'null', '17', '{"Payload": {"SellerId": {}}, "NotificationMetadata": 3}') \g /dev/null
select is(count(*), 6::bigint, 'what is no notification is noted') from amzmp.notification where state = 'unreadable';
select is(asked(:account_id), 'deleteMessageBatch', 'and leaves the queue');
select is(jsonb_array_length(r.params -> 'entries'), 7, 'all of it') from amzmp.request r where r.account_id = :account_id;
select is_empty($$select 1 from amzmp.notification n where n::text ~ 'Zoë'$$, 'its text is not kept');
delete from amzmp.request where account_id = :account_id;

select take(:account_id, order_change('n1', '501-0000001-0000001', '2026-03-01T10:05:00Z')) \g /dev/null
select results_eq($$select subject, state, event_at, sent_at from amzmp.notification where notification_id = 'n1'$$,
    $$values ('501-0000001-0000001', 'done', timestamptz '2026-03-01 10:05Z', to_timestamp(1700000000))$$, 'a change of an order');
select is(asked(:account_id), 'getOrder deleteMessageBatch', 'leads to the order');
select is(n.payload #> '{OrderChangeNotification,Summary,DestinationPostalCode}', null, 'where the buyer lives is not kept')
  from amzmp.notification n where n.notification_id = 'n1';
select is(amzmp._impersonal('{"a": [{"orderChangeNotification": {"summary": {"destinationPostalCode": "21335", "orderType": "X"}}}, 1], "BuyerInfo": {"x": 1}}'),
    '{"a": [{"orderChangeNotification": {"summary": {"orderType": "X"}}}, 1]}', 'in whatever spelling');
select take(:account_id, order_change('n1', '501-0000001-0000001', '2026-03-01T10:05:00Z'), order_change('n2', '501-0000001-0000001', '2026-03-01T10:04:00Z')) \g /dev/null
select is((select count(*) from amzmp.request r where r.account_id = :account_id and r.operation = 'getOrder'), 1::bigint, 'once while that waits');
select is(q.duplicates, 1::bigint, 'what comes twice is counted') from amzmp.queue q;
select arrives(:account_id, an_order('501-0000001-0000001', 'UNSHIPPED', 10, jsonb_build_array(item('1', 'MUG', 1)))) \g /dev/null
select is_empty(format($$select x.request_id from amzmp._render_noticed_order(array(select r from amzmp.request r
    where r.account_id = %s and r.operation = 'getOrder')) x$$, :account_id), 'an order that polling has brought meanwhile is not asked for');
delete from amzmp.request where account_id = :account_id;
-- an order that polling found first, and that is told of when it changes later
insert into amzmp.orders (account_id, amazon_order_id, order_number, status, purchased_at, last_updated_at, imported_at)
values (:account_id, '501-0000009-0000009', 'N9', 'UNSHIPPED', '2026-03-01 10:00Z', '2026-03-01 10:00Z', '2026-03-01 10:03Z');
insert into amzmp.notification (account_id, notification_id, type, subject, sent_at, received_at)
values (:account_id, 'late', 'ORDER_CHANGE', '501-0000009-0000009', '2026-03-02 09:00Z', '2026-03-02 09:01Z');
select results_eq($$select by_notification, import_lag from amzmp.order_lag where amazon_order_id = '501-0000009-0000009'$$,
    $$values (false, interval '3 minutes')$$, 'what is told later has no part in how long an order took');
update amzmp.notification set sent_at = '2026-03-01 10:02Z', received_at = '2026-03-01 10:02:30Z' where notification_id = 'late';
select results_eq($$select by_notification, import_lag from amzmp.order_lag where amazon_order_id = '501-0000009-0000009'$$,
    $$values (true, interval '1 minute')$$, 'what was told before has');
delete from amzmp.request where account_id = :account_id;
select take(:account_id, order_change('n3', '501-0000001-0000001', '2026-03-01T10:10:00Z'), order_change('n4', '501-0000001-0000001', '2026-03-01T10:11:00Z')) \g /dev/null
select results_eq($$select notification_id, state from amzmp.notification where notification_id in ('n3', 'n4') order by 1$$,
    $$values ('n3', 'known'), ('n4', 'done')$$, 'only what is newer than what we hold leads anywhere');

-- whose it is
update amzmp.account set active = true where account_id = :second_id;
insert into amzmp.subscription (account_id, type, subscription_id) values (:second_id, 'ORDER_CHANGE', 'sub-2');
select take(:account_id, order_change('n5', '502-0000001-0000001', '2026-03-01T10:10:00Z', 'sub-2'),
    order_change('n6', '502-0000002-0000002', '2026-03-01T10:10:00Z', 'none', 'A2SELLER'),
    order_change('n7', '502-0000003-0000003', '2026-03-01T10:10:00Z', 'none', 'A9NOBODY')) \g /dev/null
select results_eq($$select notification_id, a.name from amzmp.notification n join amzmp.account a using (account_id)
                     where notification_id in ('n5', 'n6', 'n7') order by 1$$,
    $$values ('n5', 'orders2'), ('n6', 'orders2'), ('n7', 'orders')$$, 'goes by subscription, else by seller, else to who reads the queue');
delete from amzmp.request where account_id in (:account_id, :second_id);

-- client secrets
update amzmp.application set secret_expires_at = null;
select p.generation as generation from amzmp.application p \gset
select take(:account_id, '{"notificationType": "APPLICATION_OAUTH_CLIENT_NEW_SECRET", "payload": {"applicationOAuthClientNewSecret": {"clientId": "amzn1.application-oa2-client.orders",
    "newClientSecret": "CANARY", "newClientSecretExpiryTime": "2027-01-01T00:00:00Z"}}, "notificationMetadata": {"notificationId": "s1"}}',
    '{"notificationType": "APPLICATION_OAUTH_CLIENT_NEW_SECRET", "payload": {"applicationOAuthClientNewSecret": {"clientId": "another",
    "newClientSecret": "CANARY"}}, "notificationMetadata": {"notificationId": "s2"}}') \g /dev/null
select results_eq($$select amzmp._open(p.client_secret, 'client_secret', 'application:' || p.application_id), p.secret_expires_at,
    p.generation from amzmp.application p$$, format($$values ('CANARY', timestamptz '2027-01-01Z', %s::bigint)$$, :generation + 1), 'a new client secret is stored');
select results_eq($$select notification_id, state from amzmp.notification where notification_id in ('s1', 's2') order by 1$$,
    $$values ('s1', 'done'), ('s2', 'failed')$$, 'for the application that it is for');
select is((select sum(jsonb_array_length(r.params -> 'entries')) from amzmp.request r where r.operation = 'deleteMessageBatch'), 1::bigint,
    'one that could not be stored stays in the queue, because it is the only copy');
select is((select state from amzmp.health() where check_name = 'new client secret orders'), 'error', 'and health() says so');
select take(:account_id, '{"notificationType": "APPLICATION_OAUTH_CLIENT_NEW_SECRET", "payload": {"applicationOAuthClientNewSecret": {"clientId": "another",
    "newClientSecret": "CANARY"}}, "notificationMetadata": {"notificationId": "s2"}}') \g /dev/null
select is((select count(*) from amzmp.activity a where a.subject = 's2'), 1::bigint, 'that is told once, however often it comes');
update amzmp.application set client_id = 'another';
select take(:account_id, '{"notificationType": "APPLICATION_OAUTH_CLIENT_NEW_SECRET", "eventTime": "2026-03-02T00:00:00Z",
    "payload": {"applicationOAuthClientNewSecret": {"clientId": "another", "newClientSecret": "CANARY-2"}},
    "notificationMetadata": {"notificationId": "s2"}}') \g /dev/null
select is(amzmp._open(p.client_secret, 'client_secret', 'application:' || p.application_id), 'CANARY-2', 'when that is mended it is stored')
  from amzmp.application p;
update amzmp.notification set event_at = '2026-03-02T00:00:00Z' where notification_id = 's2';
select take(:account_id, '{"notificationType": "APPLICATION_OAUTH_CLIENT_NEW_SECRET", "eventTime": "2026-03-01T00:00:00Z",
    "payload": {"applicationOAuthClientNewSecret": {"clientId": "another", "newClientSecret": "CANARY-1"}},
    "notificationMetadata": {"notificationId": "s3"}}') \g /dev/null
select is(amzmp._open(p.client_secret, 'client_secret', 'application:' || p.application_id), 'CANARY-2', 'an older one that comes late changes nothing')
  from amzmp.application p;
select is((select sum(jsonb_array_length(r.params -> 'entries')) from amzmp.request r where r.operation = 'deleteMessageBatch'), 3::bigint,
    'both are deleted from the queue then');
update amzmp.application set client_id = 'amzn1.application-oa2-client.orders';
-- even one that cannot be read
select amzmp._messages_received(:account_id, jsonb_build_array(message('{"notificationType": "APPLICATION_OAUTH_CLIENT_NEW_SECRET", "payload": {}}', 'm9')
    || '{"Attributes": {"SentTimestamp": "yesterday"}}')) \g /dev/null
select is((select state from amzmp.notification where notification_id = 'message:m9'), 'unreadable', 'one that cannot be read');
select is((select sum(jsonb_array_length(r.params -> 'entries')) from amzmp.request r where r.operation = 'deleteMessageBatch'), 3::bigint, 'stays as well');
select is_empty($$select 1 from amzmp.notification n where n::text ~ 'CANARY' union all select 1 from amzmp.activity a where a::text ~ 'CANARY'$$,
    'and nowhere else');
delete from amzmp.request where account_id = :account_id;

/* ---- what the other kinds lead to ---- */

create function notice(kind text, id text, at timestamptz, payload jsonb) returns text language sql as $$
    select jsonb_build_object('NotificationType', kind, 'EventTime', at, 'Payload', payload,
        'NotificationMetadata', jsonb_build_object('NotificationId', id))::text;
$$;

create function state_of(id text) returns text language sql as $$select state from amzmp.notification where notification_id = id$$;

select c.channel_id as channel_id, c.marketplace_id as marketplace from amzmp.channel c
    where c.account_id = :account_id order by 1 limit 1 \gset
update amzmp.channel set active = true where account_id = :account_id and channel_id = :channel_id;
insert into amzmp.listing (account_id, channel_id, sku, state, asin, observed_at)
values (:account_id, :channel_id, 'HAT', 'live', 'B000000HAT', '2026-03-01T10:00:00Z'), (:account_id, :channel_id, 'CAP', 'live', 'B000000HAT', null);
insert into amzmp.inventory (account_id, sku, listed, remote_quantity) values (:account_id, 'HAT', true, 5);
delete from amzmp.request where account_id = :account_id;
select take(:account_id, notice('LISTINGS_ITEM_STATUS_CHANGED', 'l1', '2026-03-01T10:05:00Z', jsonb_build_object('MarketplaceId', :'marketplace', 'Sku', 'HAT')),
    notice('LISTINGS_ITEM_ISSUES_CHANGE', 'l2', '2026-03-01T09:55:00Z', jsonb_build_object('MarketplaceId', :'marketplace', 'Sku', 'HAT')),
    notice('LISTINGS_ITEM_ISSUES_CHANGE', 'l3', '2026-03-01T10:05:00Z', jsonb_build_object('MarketplaceId', 'A1ELSEWHERE', 'Sku', 'HAT'))) \g /dev/null
select is(state_of('l1'), 'done', 'an offer that changed, in either spelling of the kind');
select results_eq(format($$select r.params -> 'identifiers' from amzmp.request r where r.account_id = %s and r.operation = 'searchListingsItems'$$, :account_id),
    $$values ('["HAT"]'::jsonb)$$, 'is read');
select is(state_of('l2'), 'known', 'but not for what happened before it was last read');
select is(state_of('l3'), 'known', 'nor where we do not sell');
select take(:account_id, notice('PRICING_HEALTH', 'p1', '2026-03-01T10:05:00Z',
    jsonb_build_object('sellerId', 'A1SELLER', 'offerChangeTrigger', jsonb_build_object('marketplaceId', :'marketplace', 'asin', 'B000000HAT')))) \g /dev/null
select is(state_of('p1'), 'done', 'a price that lost the buy box');
select is_empty(format($$select 'HAT' except select jsonb_array_elements_text(r.params -> 'identifiers') from amzmp.request r where r.account_id = %1$s
    union all select 'CAP' except select jsonb_array_elements_text(r.params -> 'identifiers') from amzmp.request r where r.account_id = %1$s$$, :account_id),
    'leads to the offers of that item');
select take(:account_id, notice('LISTINGS_ITEM_MFN_QUANTITY_CHANGE', 'q1', '2026-03-01T10:05:00Z', '{"SellerId": "A1SELLER", "Sku": "HAT", "Quantity": 5, "FulfillmentChannelCode": "DEFAULT"}'),
    notice('LISTINGS_ITEM_MFN_QUANTITY_CHANGE', 'q2', '2026-03-01T10:05:00Z', '{"SellerId": "A1SELLER", "Sku": "HAT", "Quantity": 3, "FulfillmentChannelCode": "DEFAULT"}')) \g /dev/null
select is(state_of('q1') || ' ' || state_of('q2'), 'known done', 'a quantity leads to a look where it is not the one we expect');
select take(:account_id, notice('ACCOUNT_STATUS_CHANGED', 'a1', '2026-03-01T10:05:00Z',
    '{"AccountStatusChangeNotification": {"PreviousAccountStatus": "NORMAL", "CurrentAccountStatus": "AT_RISK"}}')) \g /dev/null
select results_eq($$select level from amzmp.activity where subject_kind = 'account' and subject = 'AT_RISK'$$, $$values ('error')$$, 'an account at risk is told');
insert into amzmp.feed (account_id, channel_id, type, state, planned, amazon_feed_id) values (:account_id, :channel_id, 'JSON_LISTINGS_FEED', 'submitted', 1, '4711');
select amzmp._poll_later(f) from amzmp.feed f where f.amazon_feed_id = '4711' \g /dev/null
select take(:account_id, notice('FEED_PROCESSING_FINISHED', 'f1', now(), '{"feedProcessingFinishedNotification": {"sellerId": "A1SELLER", "feedId": "4711"}}'),
    notice('FEED_PROCESSING_FINISHED', 'f2', now(), '{"feedProcessingFinishedNotification": {"sellerId": "A1SELLER", "feedId": "4712"}}'),
    notice('REPORT_PROCESSING_FINISHED', 'r1', now(), '{"reportProcessingFinishedNotification": {"sellerId": "A1SELLER", "reportId": "4713"}}')) \g /dev/null
select is(state_of('f1') || ' ' || state_of('f2') || ' ' || state_of('r1'), 'done known known', 'the end of a feed leads to its result, where it is ours');
select ok(r.not_before <= clock_timestamp(), 'at once') from amzmp.request r where r.operation = 'getFeed';
delete from amzmp.request where account_id = :account_id;

/* ---- is Amazon silent? ---- */

insert into amzmp.subscription (account_id, type, state, subscribed_at, events, last_event_at)
select :account_id, k.type, 'active', now() - interval '1 day', 3, now() - interval '20 hours'
  from unnest('{ORDER_CHANGE,FEED_PROCESSING_FINISHED,REPORT_PROCESSING_FINISHED,LISTINGS_ITEM_STATUS_CHANGE}'::text[]) k (type);
delete from amzmp.feed;
update amzmp.listing set state_at = now() - interval '2 hours' where account_id = :account_id and sku = 'CAP';
insert into amzmp.feed (account_id, channel_id, type, state, planned, amazon_feed_id, created_at, ended_at)
values (:account_id, :channel_id, 'JSON_LISTINGS_FEED', 'done', 1, '5001', now() - interval '5 hours', now() - interval '4 hours'),
       (:account_id, :channel_id, 'JSON_LISTINGS_FEED', 'done', 1, '4711', now() - interval '5 hours', now() - interval '4 hours');
insert into amzmp.report (account_id, type, marketplace_ids, state, amazon_report_id, submitted_at, processed_at)
values (:account_id, 'GET_MERCHANT_LISTINGS_ALL_DATA', array[:'marketplace'], 'done', '6001', now() - interval '5 hours', now() - interval '4 hours');
select results_eq(format($$select type, missed from amzmp._silence(%s) order by 1$$, :account_id),
    $$values ('FEED_PROCESSING_FINISHED', 1::bigint), ('LISTINGS_ITEM_STATUS_CHANGE', 1), ('REPORT_PROCESSING_FINISHED', 1)$$,
    'silence is noticed for each kind, and what was announced is not counted');
insert into amzmp.subscription (account_id, type, state, subscribed_at, events, last_event_at)
values (:account_id, 'ANY_OFFER_CHANGED', 'active', now() - interval '11 days', 240, now() - interval '25 hours'),
       (:account_id, 'PRICING_HEALTH', 'active', now() - interval '11 days', 240, now() - interval '23 hours'),
       (:account_id, 'ACCOUNT_STATUS_CHANGED', 'active', now() - interval '11 days', 2, now() - interval '10 days'),
       (:account_id, 'TRANSACTION_UPDATE', 'active', now() - interval '400 days', 20, now() - interval '200 days');
select results_eq(format($$select type, usual from amzmp._quiet(%s)$$, :account_id), $$values ('ANY_OFFER_CHANGED', interval '59 min 45 s')$$,
    'of what nothing else tells, silence is what lasts much longer than usual');
select matches((select detail from amzmp.health() where check_name = 'notifications orders ANY_OFFER_CHANGED'), 'one came every 00:59:45', 'health() says how long');
select set_eq(format($$select f.subject from (select jsonb_populate_record(null::amzmp.alarm, '{"account_id": %s}') as a) x, amzmp._alarm_silent_notifications(x.a) f$$, :account_id),
    array['ANY_OFFER_CHANGED', 'FEED_PROCESSING_FINISHED', 'LISTINGS_ITEM_STATUS_CHANGE', 'REPORT_PROCESSING_FINISHED'], 'and the alarm tells of each kind');
delete from amzmp.subscription where account_id = :account_id and events in (2, 20, 240);
select amzmp._judge_subscriptions(:account_id) \g /dev/null
select results_eq(format($$select s.type from amzmp.subscription s where s.account_id = %s and s.trusted$$, :account_id), $$values ('ORDER_CHANGE')$$,
    'and only who is not silent is trusted');
insert into amzmp.order_cursor (account_id) values (:account_id) on conflict do nothing;
update amzmp.order_cursor set watermark = now(), window_started_at = now() - interval '6 minutes' where account_id = :account_id;
update amzmp.account_flow set enabled = true where account_id = :account_id and flow = 'get_orders' and channel_id = 0;
update amzmp.account set active = true, state = 'valid' where account_id = :account_id;
delete from amzmp.task where kind = 'flow';
select is((select count(*) from amzmp._flow_places('get_orders', array[:account_id]::bigint[])), 0::bigint, 'then orders are polled more seldom');
update amzmp.order_cursor c set watermark = c.watermark - interval '1 hour' where c.account_id = :account_id;
select is((select count(*) from amzmp._flow_places('get_orders', array[:account_id]::bigint[])), 1::bigint, 'but for a poll that was in vain');
update amzmp.order_cursor c set watermark = c.watermark + interval '1 hour' where c.account_id = :account_id;
update amzmp.order_cursor set window_started_at = now() - interval '16 minutes' where account_id = :account_id;
select is((select count(*) from amzmp._flow_places('get_orders', array[:account_id]::bigint[])), 1::bigint, 'but polled');
delete from amzmp.task where kind = 'flow';
update amzmp.order_cursor set window_started_at = now() - interval '6 minutes' where account_id = :account_id;
select amzmp._queue_failed(:account_id, 'QueueDoesNotExist', 'gone') \g /dev/null
select is((select count(*) from amzmp._flow_places('get_orders', array[:account_id]::bigint[])), 1::bigint, 'and as ever when the queue cannot be read');
delete from amzmp.subscription where account_id = :account_id;
delete from amzmp.request where account_id = :account_id;
delete from amzmp.task where kind = 'flow';
update amzmp.queue set state = 'reading';

/* ---- destination and subscriptions ---- */

select throws_ok($$select amzmp.subscribe('orders2')$$, 'AZ003', null, 'notifications need somewhere to go');
select throws_ok($$select amzmp.subscribe('orders', '{ITEM_PRODUCT_TYPE_CHANGE}')$$, 'AZ004', null, 'some come by EventBridge only');
select amzmp.subscribe('orders', '{ORDER_CHANGE, FEED_PROCESSING_FINISHED}') \g /dev/null
select is(asked(:account_id), 'getDestinations', 'first a look at what there is');
select answer_first(:account_id, 'getDestinations', 200, '{"payload": [{"name": "x", "destinationId": "other", "resource": {"sqs": {"arn": "arn:other"}}}]}') \g /dev/null
select is(asked(:account_id), 'createDestination', 'a destination that is missing is made');
select answer_first(:account_id, 'createDestination', 0, null, 'lost') \g /dev/null
select is(asked(:account_id), 'getDestinations', 'an answer that is lost leads to another look');
select answer_first(:account_id, 'getDestinations', 200, '{"payload": [{"name": "x", "destinationId": "d1", "resource": {"sqs": {"arn": "arn:aws:sqs:eu-west-1:123456789012:q"}}}]}') \g /dev/null
select is(asked(:account_id), 'getSubscription getSubscription', 'then at the subscriptions');
select answer_first(:account_id, 'getSubscription', 404, null) \g /dev/null
select answer_first(:account_id, 'getSubscription', 200, '{"payload": {"subscriptionId": "old", "payloadVersion": "x", "destinationId": "d0"}}') \g /dev/null
select is(asked(:account_id), 'createSubscription deleteSubscriptionById', 'one is made, one that goes elsewhere removed');
select is(r.body #>> '{destinationId}', 'd1', 'to our destination') from amzmp.request r where r.operation = 'createSubscription';
select answer_first(:account_id, 'createSubscription', 200, '{"payload": {"subscriptionId": "s1"}}') \g /dev/null
select answer_first(:account_id, 'deleteSubscriptionById', 200, '{}') \g /dev/null
select answer_first(:account_id, 'getSubscription', 404, null) \g /dev/null
select answer_first(:account_id, 'createSubscription', 0, null, 'lost') \g /dev/null
select answer_first(:account_id, 'getSubscription', 200, '{"payload": {"subscriptionId": "s2", "destinationId": "d1"}}') \g /dev/null
select results_eq(format($$select state, subscription_id from amzmp.subscription where account_id = %s order by 2$$, :account_id),
    $$values ('active', 's1'), ('active', 's2')$$, 'until all is as it should be');
select is(asked(:account_id), '', 'and nothing more is asked');
select amzmp._flow_watch_notifications(:account_id, 0, 1) \g /dev/null
select is(asked(:account_id), 'receiveMessage getDestinations', 'the hourly look mends the reading too');
delete from amzmp.request where account_id = :account_id;
select is(amzmp.unsubscribe('orders', '{ORDER_CHANGE}'), 1, 'a subscription can be ended');
select is(asked(:account_id), 'deleteSubscriptionById', 'at Amazon too');

select * from finish();
rollback;
