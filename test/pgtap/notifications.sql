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
select take(:account_id, order_change('n1', '501-0000001-0000001', '2026-03-01T10:05:00Z'), order_change('n2', '501-0000001-0000001', '2026-03-01T10:04:00Z')) \g /dev/null
select is((select count(*) from amzmp.request r where r.account_id = :account_id and r.operation = 'getOrder'), 1::bigint, 'once while that waits');
select is(q.duplicates, 1::bigint, 'what comes twice is counted') from amzmp.queue q;
select arrives(:account_id, an_order('501-0000001-0000001', 'UNSHIPPED', 10, jsonb_build_array(item('1', 'MUG', 1)))) \g /dev/null
select is_empty(format($$select x.request_id from amzmp._render_noticed_order(array(select r from amzmp.request r
    where r.account_id = %s and r.operation = 'getOrder')) x$$, :account_id), 'an order that polling has brought meanwhile is not asked for');
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
select is_empty($$select 1 from amzmp.notification n where n::text ~ 'CANARY' union all select 1 from amzmp.activity a where a::text ~ 'CANARY'$$,
    'and nowhere else');
delete from amzmp.request where account_id = :account_id;

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
