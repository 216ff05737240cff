#!/usr/bin/env bash
# Notifications: the queue is read all the time, each message counts once, orders come in without polling, and what is
# broken at Amazon is mended.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

arn=arn:aws:sqs:eu-west-1:123456789012:amzmp
key=wJalrXUtnFEMI.CANARY.bPxRfiCYEXAMPLEKEY

place()
{
	control POST orders "$1" | grep -o '"orderId": *"[^"]*"' | cut -d'"' -f4
}

# send BODY: a message into the queue, as Amazon or a rule of EventBridge would leave it
send()
{
	control POST queues "{\"arn\": \"$arn\", \"body\": $(sql "select to_json(\$body\$$1\$body\$::text)")}" >/dev/null
}

# order_change NOTIFICATION ORDER TIME
order_change()
{
	printf '{"NotificationVersion": "1.0", "NotificationType": "ORDER_CHANGE", "PayloadVersion": "1.0", "EventTime": "%s",
		"Payload": {"OrderChangeNotification": {"NotificationLevel": "OrderLevel", "SellerId": "A1DEMOSELLER", "AmazonOrderId": "%s",
			"OrderChangeType": "OrderStatusChange", "OrderChangeTrigger": {"TimeOfOrderChange": "%s", "ChangeReason": ""},
			"Summary": {"DestinationPostalCode": "21335", "OrderStatus": "Unshipped"}}},
		"NotificationMetadata": {"NotificationId": "%s", "SubscriptionId": "none", "PublishTime": "%s"}}' "$3" "$2" "$3" "$1" "$3"
}

told()
{
	sql "select state from amzmp.notification where notification_id = '$1'"
}

becomes_told()
{
	sql_becomes 20 "select state from amzmp.notification where notification_id = '$1'" "$2"
}

in_queue()
{
	control GET queues | grep -o '"messages": *[0-9]*' | grep -o '[0-9]*'
}

queue_empty()
{
	[ "$(in_queue)" = 0 ]
}

code()
{
	psql -XqAt -v VERBOSITY=sqlstate -c "$1" 2>&1 | sed -n 's/^ERROR:  //p' | head -n 1
}

simulator_start s --rate-scale 0
cluster_start s
control POST settings '{"order_lag": 0}' >/dev/null
shop_connect

is "$(code "select amzmp.set_queue('shop', '$arn.fifo', access_key_id => 'A', secret_access_key => 'B')")" AZ202 'a FIFO queue is refused'
is "$(code "select amzmp.set_queue('shop', '$arn', access_key_id => 'A')")" AZ202 'so is half a key pair'
is "$(code "select amzmp.subscribe('shop')")" AZ003 'nobody can be told without a queue'
is "$(code "select amzmp.subscribe('shop', '{ORDER_STATUS_CHANGE}', '$arn')")" AZ202 'what Amazon does not offer cannot be had'
is "$(code "select amzmp.subscribe('shop', '{LISTINGS_ITEM_STATUS_CHANGE}', '$arn')")" AZ004 'nor by a queue what comes by EventBridge'
is "$(sql "select count(*) from amzmp.request")" 0 'without a queue nothing is asked'

# From nothing to the first notification.
sql "select amzmp.set_queue('shop', '$arn', access_key_id => 'AKIDEXAMPLE', secret_access_key => '$key')" >/dev/null
sql_becomes 20 "select state from amzmp.queue" failing
like "$(sql "select detail from amzmp.health() where check_name = 'queue shop'")" 'QueueDoesNotExist' 'health() says why a queue cannot be read'
sql "select amzmp.subscribe('shop', '{ORDER_CHANGE, FEED_PROCESSING_FINISHED}')" >/dev/null
sql_becomes 20 "select string_agg(state, ' ') from amzmp.subscription" 'active active'
is "$(sql "select state from amzmp.destination")" ready 'the destination is made'
is "$(sql "select string_agg(state, ' ') from amzmp.subscription")" 'active active' 'and the subscriptions'
sql_becomes 20 "select state from amzmp.queue" reading
sql_becomes 20 "select count(*) from amzmp.request where operation = 'receiveMessage' and state = 'sending'" 1
sql "call amzmp.wait('20 s')" >/dev/null
pass 'a queue that is waited for counts as idle'

# The signature, worked out from its definition, which a published example of it confirms first.
signature()
{
	perl "$SOURCE_DIR/test/lib/sigv4.pl" "$@"
}
is "$(printf 'host: example.amazonaws.com\nx-amz-date: 20150830T123600Z\n\n' | signature wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY us-east-1/service GET /)" \
	5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31 'the example of the documentation comes out'
control GET 'requests?operation=sqs&limit=1' >"$RUN/$CLUSTER_PREFIX.signed"
of_signed()
{
	sql "select $1 from (select (\$json\$$(cat "$RUN/$CLUSTER_PREFIX.signed")\$json\$::jsonb #> '{requests,0}') as r) x,
		lateral (select jsonb_object_agg(lower(k), v) as h from jsonb_each_text(r -> 'headers') e (k, v)) y"
}
signed=$(of_signed "substring(h ->> 'authorization' from 'SignedHeaders=([^,]+)')")
like "$signed" '^content-type;host;x-amz-(content-sha256;x-amz-)?date;x-amz-target$' 'what makes a call of SQS what it is, is signed'
is "$({
	for name in ${signed//;/ }; do echo "$name: $(of_signed "h ->> '$name'")"; done
	echo
	of_signed "r ->> 'body'" | tr -d '\n'
} | signature "$key" eu-west-1/sqs POST "$(of_signed "r ->> 'uri'")")" \
	"$(of_signed "substring(h ->> 'authorization' from 'Signature=([0-9a-f]+)')")" 'and the signature of a real call is what it should be'

# An order.
order=$(place '{"items": [{"sku": "ANY", "quantity": 1}]}')
sql_becomes 20 "select count(*) from amzmp.orders where amazon_order_id = '$order'" 1
is "$(sql "select by_notification from amzmp.order_lag where amazon_order_id = '$order'")" t 'an order comes in by its notification'
is "$(arrived searchOrders)" 0 'without a poll'
wait_for 20 queue_empty
is "$(in_queue)" 0 'the message is deleted'
is "$(sql "select count(*) from amzmp.request_log where operation = 'receiveMessage' and outcome = 'success'")" 0 'reading a queue fills no log'
sql "select amzmp.run_flow('get_orders', account => 'shop')" "call amzmp.wait('60 s')" >/dev/null
is "$(sql "select count(*) from amzmp.orders")" 1 'a poll finds nothing new'
before=$(arrived getOrder)

# Twice, late, in other spellings, and nonsense.
send "$(order_change twice "$order" 2020-01-01T00:00:00Z)"
becomes_told twice known
send "$(order_change twice "$order" 2099-01-01T00:00:00Z)"
sql_becomes 20 "select duplicates from amzmp.queue" 1
is "$(told twice)" known 'a late notification is known to be late, and one that comes twice counts once'
is "$(arrived getOrder)" "$before" 'neither asks Amazon anything'
send "{\"version\": \"0\", \"detail-type\": \"ORDER_CHANGE\", \"detail\": $(order_change bridged "$order" 2099-01-01T00:00:00Z)}"
becomes_told bridged 'done'
wait_for 20 test_arrived getOrder $((before + 1))
is "$(arrived getOrder)" $((before + 1)) 'an event of EventBridge is understood'
send '{"notificationVersion": "2020-09-04", "notificationType": "FEED_PROCESSING_FINISHED", "payloadVersion": "2020-09-04",
	"eventTime": "2026-01-01T00:00:00Z", "payload": {"feedProcessingFinishedNotification": {"sellerId": "A1DEMOSELLER", "feedId": "777"}},
	"notificationMetadata": {"notificationId": "camel"}}'
becomes_told camel known
is "$(sql "select type || ' ' || subject from amzmp.notification where notification_id = 'camel'")" 'FEED_PROCESSING_FINISHED 777' \
	'the other spelling of the envelope too'
send 'no JSON at all, whatever it is'
send '{"payload": 1'
sql_becomes 20 "select count(*) from amzmp.notification where state = 'unreadable'" 2
send '{"NotificationType": "ORDER_CHANGE", "Payload": {"OrderChangeNotification": {"AmazonOrderId": "no; such id"}},
	"NotificationMetadata": {"NotificationId": "odd"}}'
becomes_told odd failed
send '{"NotificationType": "WHAT_COMES_NEXT", "Payload": {"x": 1}, "NotificationMetadata": {"NotificationId": "new"}}'
becomes_told new stored
wait_for 20 queue_empty
is "$(in_queue) $(sql "select count(*) from amzmp.notification where state = 'unreadable'")" '0 2' 'what cannot be understood is noted and not read for ever'
is "$(told odd) $(told new)" 'failed stored' 'a wrong one fails alone, one of an unknown kind is kept'
is "$(sql "select count(*) from amzmp.notification where payload::text like '%21335%'")" 0 'where a buyer lives is not kept'

# Killed where the message is stored and not deleted yet.
hold "lock table amzmp.request_log in exclusive mode"
send "$(order_change killed "$order" 2099-01-02T00:00:00Z)"
sql_becomes 20 "select count(*) > 0 from pg_locks l join pg_stat_activity a using (pid) where not l.granted and a.backend_type = 'amzmp sender'" t
sender_end KILL
release
control POST clock '{"advance": 130}' >/dev/null
becomes_told killed 'done'
wait_for 30 queue_empty
is "$(sql "select count(*) from amzmp.notification where notification_id = 'killed'") $(in_queue)" '1 0' 'a message survives whoever reads it, and counts once'

# The client secret is rotated; the message is its only copy.
secret=amzn1.oa2-cs.v1.CANARY-rotated
control POST rotate "{\"client_id\": \"amzn1.application-oa2-client.demo\", \"client_secret\": \"$secret\", \"overlap\": 0}" >/dev/null
send "{\"notificationVersion\": \"1.0\", \"notificationType\": \"APPLICATION_OAUTH_CLIENT_NEW_SECRET\", \"payloadVersion\": \"2023-11-30\",
	\"eventTime\": \"2026-01-01T00:00:00Z\", \"payload\": {\"applicationOAuthClientNewSecret\": {\"clientId\": \"amzn1.application-oa2-client.demo\",
	\"newClientSecret\": \"$secret\", \"newClientSecretExpiryTime\": \"2027-01-01T00:00:00Z\"}}, \"notificationMetadata\": {\"notificationId\": \"rotated\"}}"
becomes_told rotated 'done'
control POST expire_tokens '{}' >/dev/null
sql "truncate amzmp.request_log" "select amzmp.enqueue('shop', 'getMarketplaceParticipations')" >/dev/null
sql_becomes 20 "select outcome from amzmp.request_log where operation = 'getMarketplaceParticipations'" success
is "$(sql "select outcome from amzmp.request_log where operation = 'getMarketplaceParticipations'")" success 'a rotated client secret is used at once'
is "$(sql "select secret_expires_at::date from amzmp.application")" 2027-01-01 'and its end is known'
is "$("$(pg_bin)/pg_dump" | grep -c CANARY)" 0 'neither it nor the AWS key stands anywhere in clear'
is "$(grep -c CANARY "$(cluster_log s)")" 0 'nor in the log'

# Amazon can be asked for a new one, by hand or before the end of the old one, and never twice before it has come.
expires()
{
	sql "update amzmp.application set secret_expires_at = now() + interval '20 days'" >/dev/null
}
is "$(code "select amzmp.rotate_client_secret('nobody')")" AZ201 'an application must exist'
sql "select amzmp.rotate_client_secret('app')" >/dev/null
sql_becomes 20 'select rotation_refused is not null from amzmp.application' t
like "$(sql "select detail from amzmp.health() where check_name = 'rotation app'")" 'InvalidInput: No queue' 'that Amazon makes none is told'
control POST applications "{\"client_id\": \"amzn1.application-oa2-client.demo\", \"queue\": \"$arn\"}" >/dev/null
expires
sql "select amzmp.rotate_client_secret('app')" >/dev/null
sql_becomes 20 "select secret_expires_at > now() + interval '170 days' and rotation_asked_at is null from amzmp.application" t
control POST expire_tokens '{}' >/dev/null
control POST clock '{"advance": 691200}' >/dev/null
sql "truncate amzmp.request_log" "select amzmp.enqueue('shop', 'getMarketplaceParticipations')" >/dev/null
sql_becomes 20 "select outcome from amzmp.request_log where operation = 'getMarketplaceParticipations'" success
pass 'a new secret is asked for, comes by the queue, and is what counts after the old one has died'
expires
sql "select amzmp.run_flow('watch_notifications', account => 'shop')" "call amzmp.wait('20 s')" >/dev/null
is "$(arrived rotateApplicationClientSecret)" 2 'by itself nothing is rotated'
sql "select amzmp.set('shop', 'rotate_secrets', '30 days')" "select amzmp.run_flow('watch_notifications', account => 'shop')" >/dev/null
sql_becomes 20 "select secret_expires_at > now() + interval '170 days' from amzmp.application" t
is "$(arrived rotateApplicationClientSecret)" 3 'unless somebody wants it so'
control POST applications '{"client_id": "amzn1.application-oa2-client.demo", "queue": "arn:aws:sqs:eu-west-1:123456789012:elsewhere"}' >/dev/null
expires
sql "select amzmp.run_flow('watch_notifications', account => 'shop')" >/dev/null
wait_for 20 test_arrived rotateApplicationClientSecret 4
sql "call amzmp.wait('20 s')" "select amzmp.run_flow('watch_notifications', account => 'shop')" "call amzmp.wait('20 s')" >/dev/null
is "$(arrived rotateApplicationClientSecret) $(code "select amzmp.rotate_client_secret('app')")" '4 AZ203' 'one that does not come is not asked for again'
sql "update amzmp.application set rotation_asked_at = now() - interval '2 hours'" >/dev/null
like "$(sql "select detail from amzmp.health() where check_name = 'rotation app'")" 'has not come' 'and health() says so'

# The old secret has died, and Amazon refuses the account; the message that mends it comes all the same.
control POST expire_tokens '{}' >/dev/null
control POST clock '{"advance": 691200}' >/dev/null
sql "select amzmp.enqueue('shop', 'getMarketplaceParticipations')" >/dev/null
sql_becomes 20 'select state from amzmp.account' invalid
secret=amzn1.oa2-cs.v1.CANARY-late
control POST rotate "{\"client_id\": \"amzn1.application-oa2-client.demo\", \"client_secret\": \"$secret\"}" >/dev/null
send "{\"notificationType\": \"APPLICATION_OAUTH_CLIENT_NEW_SECRET\", \"payloadVersion\": \"2023-11-30\", \"eventTime\": \"2036-01-01T00:00:00Z\",
	\"payload\": {\"applicationOAuthClientNewSecret\": {\"clientId\": \"amzn1.application-oa2-client.demo\", \"newClientSecret\": \"$secret\"}},
	\"notificationMetadata\": {\"notificationId\": \"rotated late\"}}"
becomes_told 'rotated late' 'done'
sql_becomes 20 "select state from amzmp.account" valid
pass 'an account that was refused for its old secret goes on with the new one'
is "$("$(pg_bin)/pg_dump" | grep -c CANARY) $(grep -c CANARY "$(cluster_log s)")" '0 0' 'and still no secret stands in clear'

# Somebody removes the subscription at Amazon, and the destination points elsewhere.
subscription=$(sql "select subscription_id from amzmp.subscription where type = 'ORDER_CHANGE'")
sql "select amzmp.enqueue('shop', 'deleteSubscriptionById', '{\"notificationType\": \"ORDER_CHANGE\", \"subscriptionId\": \"$subscription\"}')" \
	"call amzmp.wait('20 s')" "select amzmp.run_flow('watch_notifications', account => 'shop')" "call amzmp.wait('20 s')" >/dev/null
is "$(sql "select state || ' ' || (subscription_id <> '$subscription') from amzmp.subscription where type = 'ORDER_CHANGE'")" 'active true' \
	'a subscription that is gone is made again'
moved=arn:aws:sqs:eu-west-1:123456789012:moved
sql "select amzmp.set_queue('shop', '$moved', access_key_id => 'AKIDEXAMPLE', secret_access_key => '$key')" \
	"select amzmp.subscribe('shop', '{ORDER_CHANGE, FEED_PROCESSING_FINISHED}', '$moved')" >/dev/null
sql_becomes 20 "select string_agg(state, ' ') from amzmp.subscription" 'active active'
arn=$moved
order=$(place '{"items": [{"sku": "ANY", "quantity": 1}]}')
sql_becomes 30 "select count(*) from amzmp.orders where amazon_order_id = '$order'" 1
is "$(sql "select by_notification from amzmp.order_lag where amazon_order_id = '$order'")" t 'with another queue the subscriptions follow'

# Silence: polling finds what was never announced.
is "$(sql "select amzmp.unsubscribe('shop', '{ORDER_CHANGE}')")" 1 'a subscription can be ended'
sql "call amzmp.wait('20 s')" >/dev/null
sql "insert into amzmp.subscription (account_id, type, state, subscribed_at) select account_id, 'ORDER_CHANGE', 'active', now() - interval '1 day' from amzmp.account" >/dev/null
order=$(place '{"items": [{"sku": "ANY", "quantity": 1}]}')
sql "select amzmp.run_flow('get_orders', account => 'shop')" "call amzmp.wait('60 s')" \
	"update amzmp.orders set imported_at = now() - interval '2 hours' where amazon_order_id = '$order'" >/dev/null
like "$(sql "select state || ' ' || detail from amzmp.health() where check_name like 'notifications %'")" '^warning 1 orders came by polling' \
	'silence is noticed'

sql "select amzmp.set_queue('shop', null)" >/dev/null
sql_becomes 30 "select count(*) from amzmp.request" 0
is "$(sql "select count(*) from amzmp.queue")" 0 'a queue can be given up'
is "$(control GET violations | grep -o '"count": *[0-9]*' | grep -o '[0-9]*')" 0 'and nothing that Amazon would not take was sent'
finish
