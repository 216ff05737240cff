/*
 * subscription.sql
 *	  Who tells Amazon what to tell us: destinations (where notifications go) and subscriptions (which ones).
 *
 * subscribe() writes down what is wanted; a chain of requests then looks at what Amazon has, makes what is missing and
 * replaces what is wrong: getDestinations → createDestination → getSubscription → createSubscription. The flow
 * watch_notifications walks the same chain each hour, so what somebody removed at Amazon comes back. A lost answer leads
 * to looking again. Destinations belong to the application, subscriptions to the seller.
 */
insert into amzmp.flow (flow, scope, every, on_by_default, capability, title, description) values
    ('watch_notifications', 'account', '29 * * * *', false, null, 'Watch notifications',
     'Checks destination and subscriptions at Amazon and mends them, and removes old notifications. On as soon as an account has a queue or a subscription.');

insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'order_poll_rest', 'account', 'interval', 'Orders are polled at least every', '"00:15:00"', 0, 86400,
        'While notifications announce every order, polls that come sooner than this after the last are left out. 0: none is.');

create table amzmp.notification_type (
    type text primary key,
    payload_version text not null,
    event_bridge_only boolean not null default false,
    subscribable boolean not null default true,
    directive jsonb,
    subject_path text[],
    handler text,
    description text not null,
    only_copy boolean not null default false
);

comment on table amzmp.notification_type is 'The notifications that Amazon offers, and what amzmp does when one comes.';
comment on column amzmp.notification_type.type is 'Amazon''s name.';
comment on column amzmp.notification_type.payload_version is 'The version of the payload that is subscribed to.';
comment on column amzmp.notification_type.event_bridge_only is 'Can it be had by EventBridge only? A rule there forwards it to the queue.';
comment on column amzmp.notification_type.subscribable is 'Is it subscribed to? The others go to the queue that is named in the developer''s portal.';
comment on column amzmp.notification_type.directive is 'What is asked for beyond the type.';
comment on column amzmp.notification_type.subject_path is 'Where the payload says what it is about, in any spelling of the keys.';
comment on column amzmp.notification_type.handler is 'Inner function that does what follows; null: the notification is stored only.';
comment on column amzmp.notification_type.description is 'What it tells.';
comment on column amzmp.notification_type.only_copy is 'Is the message the only copy of what it tells? Then it stays in the queue until the handler has taken it.';

insert into amzmp.notification_type (type, payload_version, event_bridge_only, directive, subject_path, handler, description)
values
    ('ORDER_CHANGE', '1.0', false,
        '{"eventFilter": {"eventFilterType": "ORDER_CHANGE", "orderChangeTypes": ["OrderStatusChange", "BuyerRequestedChange"]}}',
        '{OrderChangeNotification,AmazonOrderId}', '_notice_order', 'An order is new or has changed: it is fetched.'),
    ('LISTINGS_ITEM_STATUS_CHANGE', '1.0', true, null, '{Sku}', '_notice_listing', 'An offer''s status has changed: it is read.'),
    ('LISTINGS_ITEM_ISSUES_CHANGE', '1.0', true, null, '{Sku}', '_notice_listing', 'An offer''s issues have changed: it is read.'),
    ('LISTINGS_ITEM_MFN_QUANTITY_CHANGE', '1.0', true, null, '{Sku}', '_notice_quantity', 'The quantity of an offer has changed: it is read where we expect another.'),
    ('FEED_PROCESSING_FINISHED', '2020-09-04', false, null, '{feedProcessingFinishedNotification,feedId}', '_notice_feed', 'A feed is finished: its result is fetched.'),
    ('REPORT_PROCESSING_FINISHED', '2020-09-04', false, null, '{reportProcessingFinishedNotification,reportId}', '_notice_report', 'A report is finished: it is fetched.'),
    ('ANY_OFFER_CHANGED', '1.0', false, null, '{AnyOfferChangedNotification,OfferChangeTrigger,ASIN}', null, 'Competitors'' offers have changed.'),
    ('B2B_ANY_OFFER_CHANGED', '1.0', false, null, '{B2BAnyOfferChangedNotification,OfferChangeTrigger,ASIN}', null, 'Competitors'' offers to businesses have changed.'),
    ('PRICING_HEALTH', '1.0', false, null, '{offerChangeTrigger,asin}', '_notice_pricing', 'An offer has lost the buy box by its price: it is read.'),
    ('FBA_INVENTORY_AVAILABILITY_CHANGES', '1.0', false, null, '{SKU}', null, 'Stock at Amazon has changed.'),
    ('ACCOUNT_STATUS_CHANGED', '1.0', false, null, '{AccountStatusChangeNotification,CurrentAccountStatus}', '_notice_account',
        'The seller''s account has changed its status: it is told in the log, and by the alarm account_status.'),
    ('TRANSACTION_UPDATE', '1.0', false, null, null, null, 'A transaction was booked.'),
    ('PRODUCT_TYPE_DEFINITIONS_CHANGE', '1.0', true, null, null, '_notice_definitions',
        'Definitions of product types have changed: those that are here are checked by the next run of get_product_types.'),
    ('FBA_OUTBOUND_SHIPMENT_STATUS', '1.0', false, null, '{FBAOutboundShipmentStatusNotification,AmazonOrderId}', '_notice_order',
        'A shipment of an order that Amazon ships has changed: the order is fetched.'),
    ('FULFILLMENT_ORDER_STATUS', '1.0', false, null, '{FulfillmentOrderStatusNotification,SellerFulfillmentOrderId}', null,
        'An order that Amazon ships for another shop has changed.'),
    ('ITEM_PRODUCT_TYPE_CHANGE', '1.0', true, null, '{Asin}', null, 'An item has another product type.'),
    ('BRANDED_ITEM_CONTENT_CHANGE', '1.0', true, null, '{Asin}', null, 'The content of an item has changed.');
insert into amzmp.notification_type (type, payload_version, subscribable, subject_path, handler, description, only_copy)
values
    ('APPLICATION_OAUTH_CLIENT_NEW_SECRET', '2023-11-30', false, '{applicationOAuthClientNewSecret,clientId}', '_notice_new_secret',
        'The application has a new client secret: it is stored.', true),
    ('APPLICATION_OAUTH_CLIENT_SECRET_EXPIRY', '2023-11-30', false, '{applicationOAuthClientSecretExpiry,clientId}', '_notice_expiry',
        'The application''s client secret expires: health() tells.', false);

create table amzmp.destination (
    account_id bigint primary key,
    resource jsonb not null,
    name text not null,
    destination_id text,
    state text not null default 'wanted',
    state_reason text,
    checked_at timestamptz,
    constraint destination_state_check check (state in ('wanted', 'ready', 'refused'))
);

comment on table amzmp.destination is 'Where an account''s notifications go.';
comment on column amzmp.destination.account_id is 'The account.';
comment on column amzmp.destination.resource is 'The queue ({"sqs": {"arn": …}}) or the event bus ({"eventBridge": {"region": …, "accountId": …}}).';
comment on column amzmp.destination.name is 'Its name at Amazon.';
comment on column amzmp.destination.destination_id is 'Amazon''s number of it.';
comment on column amzmp.destination.state is 'wanted: being made or checked; ready; refused (see state_reason).';
comment on column amzmp.destination.state_reason is 'Why Amazon refused it.';
comment on column amzmp.destination.checked_at is 'When it was last seen at Amazon.';

create table amzmp.subscription (
    account_id bigint not null,
    type text not null,
    state text not null default 'wanted',
    state_reason text,
    subscription_id text,
    subscribed_at timestamptz,
    checked_at timestamptz,
    last_event_at timestamptz,
    events bigint not null default 0,
    trusted boolean not null default false,
    missed bigint not null default 0,
    primary key (account_id, type),
    constraint subscription_state_check check (state in ('wanted', 'active', 'refused'))
);

create index subscription_id on amzmp.subscription (subscription_id);

comment on table amzmp.subscription is 'Notifications that accounts subscribe to. Written by subscribe and unsubscribe.';
comment on column amzmp.subscription.account_id is 'The account.';
comment on column amzmp.subscription.type is 'The kind of notification, see amzmp.notification_type.';
comment on column amzmp.subscription.state is 'wanted: being made or checked; active; refused (see state_reason).';
comment on column amzmp.subscription.state_reason is 'Why Amazon refused it.';
comment on column amzmp.subscription.subscription_id is 'Amazon''s number of it.';
comment on column amzmp.subscription.subscribed_at is 'When it was made or first seen.';
comment on column amzmp.subscription.checked_at is 'When it was last seen at Amazon.';
comment on column amzmp.subscription.last_event_at is 'When the last notification came.';
comment on column amzmp.subscription.events is 'How many came since it was made.';
comment on column amzmp.subscription.trusted is 'Do we rely on it: one has come, and at the last look polling had found nothing unannounced? Then polling may be rarer.';
comment on column amzmp.subscription.missed is 'What polling had found unannounced, at the last look.';

/* ---- what people say ---- */

create function amzmp._subscribe(account text, types text[] default '{ORDER_CHANGE}', arn text default null,
    event_bridge_account text default null, event_bridge_region text default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    a amzmp.account := amzmp._account(account);
    wrong text;
    bridge boolean := event_bridge_account is not null;
    target jsonb;
begin
    select t.name into wrong from unnest(types) as t (name)
     where not exists (select from amzmp.notification_type k where k.type = t.name and k.subscribable);
    if found then
        perform amzmp._fail('AZ202', format('Amazon has no notification %L to subscribe to', wrong),
            (select 'There are: ' || string_agg(k.type, ', ' order by k.type) || '.' from amzmp.notification_type k where k.subscribable));
    end if;
    if bridge and (event_bridge_account !~ '^\d{12}$' or coalesce(event_bridge_region, '') !~ '^[a-z0-9-]{2,30}$') then
        perform amzmp._fail('AZ202', 'an event bus needs an AWS account of twelve digits and a region', null,
            'For example event_bridge_account => ''123456789012'', event_bridge_region => ''eu-west-1''.');
    end if;
    target := case
        when bridge then jsonb_build_object('eventBridge', jsonb_build_object('region', event_bridge_region, 'accountId', event_bridge_account))
        when arn is not null then jsonb_build_object('sqs', jsonb_build_object('arn', arn))
        else coalesce((select d.resource from amzmp.destination d where d.account_id = a.account_id),
                      (select jsonb_build_object('sqs', jsonb_build_object('arn', q.arn)) from amzmp.queue q where q.account_id = a.account_id))
        end;
    if target is null then
        perform amzmp._fail('AZ003', format('account %L has no queue', account), null,
            format('select amzmp.set_queue(%L, ''arn:aws:sqs:…'', file => …); or name the queue that another account reads: arn => ….', account));
    end if;
    select t.name into wrong from unnest(types) as t (name)
      join amzmp.notification_type k on k.type = t.name and k.event_bridge_only
     where not target ? 'eventBridge';
    if found then
        perform amzmp._fail('AZ004', format('%s comes by EventBridge only', wrong), null,
            'Name event_bridge_account and event_bridge_region, and let a rule there forward to the queue.');
    end if;
    insert into amzmp.destination (account_id, resource, name)
    values (a.account_id, target, 'amzmp-' || a.name || '-' || left(md5(target::text), 8))
    on conflict on constraint destination_pkey do update
        set resource = excluded.resource, name = excluded.name, destination_id = null, state = 'wanted', state_reason = null
      where destination.resource <> excluded.resource or destination.state = 'refused';
    insert into amzmp.subscription (account_id, type)
    select a.account_id, t.name from unnest(types) as t (name)
    on conflict on constraint subscription_pkey do update set state = 'wanted', state_reason = null, trusted = false;
    update amzmp.account_flow f set enabled = true
     where f.account_id = a.account_id and f.channel_id = 0 and f.flow = 'watch_notifications';
    perform amzmp._check_destination(a.account_id);
end
$$;

select amzmp._expose('amzmp._subscribe(text, text[], text, text, text)', 'amzmp_admin',
    'Lets Amazon tell an account of changes: makes, checks and mends the destination (the queue of set_queue, another queue by its ARN, or an event bus) and the subscriptions. Progress is in amzmp.destination and amzmp.subscription.');

create function amzmp._unsubscribe(account text, types text[]) returns integer
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
    gone amzmp.subscription;
    removed integer := 0;
begin
    for gone in
        delete from amzmp.subscription s where s.account_id = acc and s.type = any (types) returning s.*
    loop
        removed := removed + 1;
        if gone.subscription_id is not null then
            perform amzmp._remove_subscription(acc, gone.type, gone.subscription_id);
        end if;
    end loop;
    return removed;
end
$$;

select amzmp._expose('amzmp._unsubscribe(text, text[])', 'amzmp_admin',
    'Ends subscriptions of an account, also at Amazon. Returns how many there were.');

/* ---- the chain ---- */

create function amzmp._check_destination(account_id bigint) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
begin
    if not exists (select from amzmp.request r
                    where r.account_id = _check_destination.account_id and r.subject_kind = 'destination') then
        perform amzmp._enqueue(account_id, 'getDestinations', '{}', null, '_handle_destinations', null, 60, now(), 0,
            'destination', 'all', null);
    end if;
end
$$;

-- Amazon lists the application's destinations: take ours, or make it.
create function amzmp._handle_destinations(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
    d amzmp.destination;
    id text;
begin
    foreach answer in array answers loop
        select x.* into d from amzmp.destination x where x.account_id = (answer.request).account_id for update;
        continue when not found;
        if answer.outcome <> 'success' then
            perform amzmp._destination_failed(d, answer);
            continue;
        end if;
        select e ->> 'destinationId' into id
          from jsonb_array_elements(amzmp._array(amzmp._unwrapped(answer.body))) as e
         where e -> 'resource' @> d.resource
         limit 1;
        if id is not null then
            perform amzmp._destination_ready(d, id);
        else
            perform amzmp._enqueue(d.account_id, 'createDestination', '{}',
                jsonb_build_object('name', d.name, 'resourceSpecification', d.resource), '_handle_create_destination', null, 60,
                now(), 0, 'destination', d.name, null);
        end if;
    end loop;
end
$$;

-- Answers of Notifications are wrapped; whether the wrapping is still there depends on who asked.
create function amzmp._unwrapped(body jsonb) returns jsonb
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select case when jsonb_typeof(body) = 'object' and body ? 'payload' then body -> 'payload' else body end;
$$;

create function amzmp._handle_create_destination(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
    d amzmp.destination;
    id text;
begin
    foreach answer in array answers loop
        select x.* into d from amzmp.destination x
         where x.account_id = (answer.request).account_id and x.name = (answer.request).subject for update;
        continue when not found;
        id := amzmp._unwrapped(answer.body) ->> 'destinationId';
        if answer.outcome = 'success' and id is not null then
            perform amzmp._destination_ready(d, id);
        elsif answer.outcome = 'lost' then
            perform amzmp._enqueue(d.account_id, 'getDestinations', '{}', null, '_handle_destinations', null, 60,
                now() + interval '5 s', 0, 'destination', 'all', null);
        else
            perform amzmp._destination_failed(d, answer);
        end if;
    end loop;
end
$$;

create function amzmp._destination_failed(d amzmp.destination, answer amzmp.answer_row) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    why text := coalesce(concat_ws(': ', answer.error_code, answer.error_message), 'no answer');
begin
    update amzmp.destination x set state = 'refused', state_reason = why where x.account_id = d.account_id;
    perform amzmp._log(d.account_id, 0, 'error', 'destination', d.name,
        'notifications cannot be set up, orders still come by polling: ' || why);
end
$$;

create function amzmp._destination_ready(d amzmp.destination, id text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    update amzmp.destination x
       set state = 'ready', state_reason = null, destination_id = id, checked_at = now()
     where x.account_id = d.account_id;
    -- what kept the queue from being read may be mended too
    perform amzmp._read_queue(q.account_id, now()) from amzmp.queue q where q.account_id = d.account_id and q.state = 'failing';
    perform amzmp._check_subscription(s.account_id, s.type)
       from amzmp.subscription s where s.account_id = d.account_id;
end
$$;

create function amzmp._check_subscription(account_id bigint, type text, not_before timestamptz default now()) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
begin
    perform amzmp._enqueue(account_id, 'getSubscription',
        jsonb_build_object('notificationType', type, 'payloadVersion', (select t.payload_version from amzmp.notification_type t where t.type = _check_subscription.type)),
        null, '_handle_subscription', null, 60, not_before, 0, 'subscription', type, null);
end
$$;

create function amzmp._remove_subscription(account_id bigint, type text, subscription_id text) returns bigint
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select amzmp._enqueue(account_id, 'deleteSubscriptionById',
        jsonb_build_object('notificationType', type, 'subscriptionId', subscription_id), null, '_handle_removed_subscription', null, 60,
        now(), 0, 'subscription', type, null);
$$;

-- Amazon says what it has of one type: fine, missing, or one that goes elsewhere and makes room for ours.
create function amzmp._handle_subscription(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
    s amzmp.subscription;
    d amzmp.destination;
    there jsonb;
begin
    foreach answer in array answers loop
        select x.* into s from amzmp.subscription x
         where x.account_id = (answer.request).account_id and x.type = (answer.request).subject for update;
        continue when not found;
        select x.* into d from amzmp.destination x where x.account_id = s.account_id;
        there := amzmp._unwrapped(answer.body);
        if answer.status = 404 then
            perform amzmp._create_subscription(s, d);
        elsif answer.outcome <> 'success' then
            perform amzmp._subscription_failed(s, answer);
        elsif there ->> 'destinationId' = d.destination_id then
            perform amzmp._subscription_active(s, there ->> 'subscriptionId');
        else
            perform amzmp._remove_subscription(s.account_id, s.type, there ->> 'subscriptionId');
        end if;
    end loop;
end
$$;

create function amzmp._create_subscription(s amzmp.subscription, d amzmp.destination) returns bigint
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select amzmp._enqueue(s.account_id, 'createSubscription', jsonb_build_object('notificationType', s.type),
        jsonb_strip_nulls(jsonb_build_object('payloadVersion', t.payload_version, 'destinationId', d.destination_id,
                                             'processingDirective', t.directive)),
        '_handle_create_subscription', null, 60, now(), 0, 'subscription', s.type, null)
    from amzmp.notification_type t
    where t.type = s.type;
$$;

create function amzmp._handle_create_subscription(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
    s amzmp.subscription;
    id text;
begin
    foreach answer in array answers loop
        select x.* into s from amzmp.subscription x
         where x.account_id = (answer.request).account_id and x.type = (answer.request).subject for update;
        id := amzmp._unwrapped(answer.body) ->> 'subscriptionId';
        if s.type is null then
            -- unsubscribed meanwhile
            if id is not null then
                perform amzmp._remove_subscription((answer.request).account_id, (answer.request).subject, id);
            end if;
        elsif answer.outcome = 'success' and id is not null then
            perform amzmp._subscription_active(s, id);
        elsif answer.outcome = 'lost' then
            perform amzmp._check_subscription(s.account_id, s.type, now() + interval '5 s');
        else
            perform amzmp._subscription_failed(s, answer);
        end if;
    end loop;
end
$$;

-- One that was in the way is gone: look again, if it is still wanted.
create function amzmp._handle_removed_subscription(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
    s amzmp.subscription;
begin
    foreach answer in array answers loop
        select x.* into s from amzmp.subscription x
         where x.account_id = (answer.request).account_id and x.type = (answer.request).subject for update;
        if answer.outcome <> 'success' and answer.status <> 404 then
            perform amzmp._log((answer.request).account_id, 0, 'error', 'subscription', (answer.request).subject,
                'a subscription could not be removed: ' || coalesce(concat_ws(': ', answer.error_code, answer.error_message), 'no answer'));
            if s.type is not null then
                perform amzmp._subscription_failed(s, answer);
            end if;
        elsif s.type is not null then
            perform amzmp._check_subscription(s.account_id, s.type);
        end if;
    end loop;
end
$$;

create function amzmp._subscription_active(s amzmp.subscription, id text) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    update amzmp.subscription x
       set state = 'active', state_reason = null, checked_at = now(), subscription_id = id,
           subscribed_at = case when x.subscription_id = id then x.subscribed_at else now() end,
           events = case when x.subscription_id = id then x.events else 0 end
     where x.account_id = s.account_id and x.type = s.type;
$$;

create function amzmp._subscription_failed(s amzmp.subscription, answer amzmp.answer_row) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    why text := coalesce(concat_ws(': ', answer.error_code, answer.error_message), 'no answer');
begin
    update amzmp.subscription x set state = 'refused', state_reason = why
     where x.account_id = s.account_id and x.type = s.type;
    perform amzmp._log(s.account_id, 0, 'error', 'subscription', s.type, 'Amazon refused the subscription: ' || why);
end
$$;

/* ---- the backstop ---- */

-- Which of these accounts are told by Amazon, or have old notifications to be removed.
create function amzmp._due_watch_notifications(account_ids bigint[])
    returns table (account_id bigint, channel_id bigint)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select a.id, 0::bigint
    from unnest(account_ids) as a (id)
    where exists (select from amzmp.destination as d where d.account_id = a.id)
        or exists (select from amzmp.subscription as s where s.account_id = a.id)
        or exists (select from amzmp.queue as q where q.account_id = a.id)
        or exists (select from amzmp.notification as n where n.account_id = a.id and n.received_at < now() - interval '14 days');
end
$$;

create function amzmp._flow_watch_notifications(account_id bigint, channel_id bigint, flow_run_id bigint) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
begin
    delete from amzmp.notification n where n.account_id = acc and n.received_at < now() - interval '14 days';
    perform amzmp._judge_subscriptions(acc);
    perform amzmp._rotate_in_time(acc, $3);
    if exists (select from amzmp.queue q where q.account_id = acc)
        and not exists (select from amzmp.request r where r.account_id = acc and r.operation = 'receiveMessage') then
        perform amzmp._read_queue(acc, now());
    end if;
    if exists (select from amzmp.destination d where d.account_id = acc) then
        perform amzmp._check_destination(acc);
    end if;
end
$$;
