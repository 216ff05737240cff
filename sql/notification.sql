/*
 * notification.sql
 *	  What Amazon tells by itself: each notification stored once, and what follows from it.
 *
 * A notification is a hint and never carries a value: "order X has changed" leads to getOrder X. Amazon delivers at least
 * once, in no order, sometimes late and sometimes not at all, so polling goes on beside it, and health() tells when
 * polling finds what no notification had announced. How messages arrive is in queue.sql, who subscribes in
 * subscription.sql. Rows are kept for 14 days, in which repeated ones are recognised.
 */
create table amzmp.notification (
    account_id bigint not null,
    notification_id text not null,
    type text not null,
    subject text,
    event_at timestamptz,
    sent_at timestamptz,
    received_at timestamptz not null default clock_timestamp(),
    state text not null default 'stored',
    reason text,
    payload jsonb,
    primary key (account_id, notification_id),
    constraint notification_state_check check (state in ('stored', 'done', 'known', 'failed', 'unreadable'))
);

create index notification_subject on amzmp.notification (subject, type, account_id);
create index notification_received on amzmp.notification (received_at);

comment on table amzmp.notification is 'What Amazon has told by itself, each once, for 14 days.';
comment on column amzmp.notification.account_id is 'The account that it is about.';
comment on column amzmp.notification.notification_id is 'Amazon''s number of it.';
comment on column amzmp.notification.type is 'Amazon''s word, see amzmp.notification_type.';
comment on column amzmp.notification.subject is 'What it is about: an order''s number, a SKU, a feed …';
comment on column amzmp.notification.event_at is 'When it happened, as Amazon says.';
comment on column amzmp.notification.sent_at is 'When it was put into the queue.';
comment on column amzmp.notification.received_at is 'When it was read from the queue.';
comment on column amzmp.notification.state is 'done; known (we were ahead of it); stored (nothing follows); failed or unreadable (see reason).';
comment on column amzmp.notification.reason is 'Why it failed.';
comment on column amzmp.notification.payload is 'What Amazon told, without personal data and secrets.';

/* ---- reading messages ---- */

create function amzmp._try_jsonb(value text) returns jsonb
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
begin
    return value::jsonb;
exception
    when data_exception then
        return null;
end
$$;

-- A member by its name in whatever spelling: Amazon writes NotificationId and notificationId.
create function amzmp._member(doc jsonb, name text) returns jsonb
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select m.value
    from jsonb_each(case when jsonb_typeof(doc) = 'object' then doc else '{}' end) as m
    where lower(m.key) = lower(name)
    limit 1;
$$;

create function amzmp._member(doc jsonb, path text[]) returns jsonb
    language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
    as $$
declare
    name text;
begin
    foreach name in array path loop
        doc := amzmp._member(doc, name);
    end loop;
    return doc;
end
$$;

-- A document without what says who a buyer is or where he lives, wherever it stands and however it is spelled.
create function amzmp._impersonal(doc jsonb) returns jsonb
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
declare
    names constant text := 'destinationpostalcode|postalcode|shippingaddress|deliveryaddress|buyerinfo|buyername|buyeremail|recipientname';
begin
    -- nearly none has any
    if doc is null or doc::text !~* format('"(%s)":', names) then
        return doc;
    end if;
    return case jsonb_typeof(doc)
        when 'object' then coalesce((select jsonb_object_agg(m.key, amzmp._impersonal(m.value)) from jsonb_each(doc) as m
                                      where lower(m.key) <> all (string_to_array(names, '|'))), '{}')
        when 'array' then (select jsonb_agg(amzmp._impersonal(m.value) order by m.n) from jsonb_array_elements(doc) with ordinality as m (value, n))
        else doc end;
end
$$;

-- Whom a notification is about: the account whose subscription it is, or whose seller; else who reads the queue.
create function amzmp._account_of_notification(reader bigint, subscription_id text, seller_id text) returns bigint
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select coalesce(
        (select s.account_id from amzmp.subscription s
          where s.subscription_id = _account_of_notification.subscription_id limit 1),
        (select a.account_id from amzmp.account a
          where a.seller_id = _account_of_notification.seller_id and a.state <> 'dropped'
            and a.application_id = (select r.application_id from amzmp.account r where r.account_id = reader)
          order by a.account_id <> reader, a.account_id limit 1),
        reader);
$$;

/*
 * Store one message, whatever it is. False: it had come before. One that cannot even be read is noted, or it would come for
 * ever; where the error is ours and passes, null is returned, and the message is left in the queue.
 */
create function amzmp._store_message(account_id bigint, message jsonb) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    why text;
begin
    return amzmp._take_message(account_id, message);
exception
    when transaction_rollback or object_not_in_prerequisite_state or insufficient_resources or operator_intervention then
        perform amzmp._log(account_id, 0, 'warning', 'queue', null, 'a message is left in the queue for now: ' || sqlerrm);
        return null;
    when others then
        get stacked diagnostics why = message_text;
        why := amzmp._safe_error(sqlstate, why);
        insert into amzmp.notification (account_id, notification_id, type, state, reason)
        values (account_id, 'message:' || (message ->> 'MessageId'), 'UNKNOWN', 'unreadable', why)
        on conflict on constraint notification_pkey do nothing;
        if found then
            perform amzmp._log(account_id, 0, 'error', 'queue', null, 'a message could not be read: ' || why,
                jsonb_build_object('message', message ->> 'MessageId'));
        end if;
        -- what may be the only copy of something stays, whatever is wrong with it
        return case when exists (select from amzmp.notification_type k where k.only_copy and strpos(upper(message ->> 'Body'), k.type) > 0)
                    then null else true end;
end
$$;

/*
 * Store a notification and do what follows. False: it had come before. EventBridge wraps the notification into "detail". A
 * message that is no notification is stored as unreadable, without its text, and not read again either. One that is the only
 * copy of what it tells (notification_type.only_copy) stays in the queue, null, until its handler has taken it.
 */
create function amzmp._take_message(account_id bigint, message jsonb) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    doc jsonb := amzmp._try_jsonb(message ->> 'Body');
    about jsonb;
    kind amzmp.notification_type;
    n amzmp.notification;
begin
    doc := coalesce(amzmp._try_jsonb(doc #>> '{}'), doc);
    doc := coalesce(amzmp._member(doc, 'detail'), doc);
    about := amzmp._member(doc, 'notificationMetadata');
    n.type := upper(coalesce(amzmp._member(doc, 'notificationType') #>> '{}', 'UNKNOWN'));
    n.type := case n.type when 'LISTINGS_ITEM_STATUS_CHANGED' then 'LISTINGS_ITEM_STATUS_CHANGE' else n.type end;
    select t.* into kind from amzmp.notification_type t where t.type = n.type;

    n.notification_id := coalesce(amzmp._member(about, 'notificationId') #>> '{}', 'message:' || (message ->> 'MessageId'));
    n.payload := amzmp._member(doc, 'payload');
    n.subject := amzmp._member(n.payload, kind.subject_path) #>> '{}';
    n.event_at := amzmp._time(amzmp._member(doc, 'eventTime') #>> '{}');
    n.sent_at := to_timestamp((message #>> '{Attributes,SentTimestamp}')::double precision / 1000);
    n.received_at := clock_timestamp();
    n.account_id := amzmp._account_of_notification(account_id, amzmp._member(about, 'subscriptionId') #>> '{}',
        coalesce(jsonb_path_query_first(n.payload, '$.**.SellerId'), jsonb_path_query_first(n.payload, '$.**.sellerId')) #>> '{}');
    n.state := case when n.payload is null then 'unreadable' else 'stored' end;

    insert into amzmp.notification (account_id, notification_id, type, subject, event_at, sent_at, received_at, state, payload)
    values (n.account_id, n.notification_id, n.type, n.subject, n.event_at, n.sent_at, n.received_at, n.state,
            case when coalesce(kind.subscribable, true) then amzmp._impersonal(n.payload) end)
    on conflict on constraint notification_pkey do nothing;
    if not found then
        if kind.only_copy and (select x.state in ('failed', 'unreadable') from amzmp.notification x
                                where x.account_id = n.account_id and x.notification_id = n.notification_id) then
            return nullif(amzmp._treat_notification(n, kind.handler) = 'failed', true);
        end if;
        return false;
    end if;
    if n.state = 'unreadable' and not coalesce(kind.only_copy, false) then
        perform amzmp._log(n.account_id, 0, 'warning', 'queue', null, 'a message in the queue is no notification',
            jsonb_build_object('message', message ->> 'MessageId'));
    else
        update amzmp.subscription s set last_event_at = greatest(s.last_event_at, n.received_at), events = s.events + 1
         where s.account_id = n.account_id and s.type = n.type;
        if kind.handler is not null and amzmp._treat_notification(n, kind.handler) = 'failed' and kind.only_copy then
            return null;
        end if;
    end if;
    return true;
end
$$;

-- What follows from a notification, and the state that it is in then; an error is written at its row, told once, and undoes
-- nothing else.
create function amzmp._treat_notification(n amzmp.notification, handler text) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    message text;
begin
    begin
        execute format('select amzmp.%I($1)', handler) into n.state using n;
    exception
        when others then
            get stacked diagnostics message = message_text;
            n.state := 'failed';
            n.reason := amzmp._safe_error(sqlstate, message);
    end;
    if n.state = 'failed' and not exists (select from amzmp.notification x
            where x.account_id = n.account_id and x.notification_id = n.notification_id and x.reason = n.reason) then
        perform amzmp._log(n.account_id, 0, 'error', 'notification', n.notification_id,
            format('%s could not be treated: %s', n.type, n.reason));
    end if;
    update amzmp.notification x set state = n.state, reason = n.reason
     where x.account_id = n.account_id and x.notification_id = n.notification_id;
    return n.state;
end
$$;

/* ---- what follows ---- */

create function amzmp._notice_feed(n amzmp.notification) returns text
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select case when amzmp._feed_finished(n.account_id, n.subject) then 'done' else 'known' end;
$$;

-- Definitions of product types have changed, but not which: all of the marketplace are checked when the flow runs next.
create function amzmp._notice_definitions(n amzmp.notification) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    update amzmp.product_type t set checked_at = '-infinity'
      from amzmp.channel c
     where t.account_id = n.account_id and t.state = 'known'
       and c.account_id = t.account_id and c.channel_id = t.channel_id
       and c.marketplace_id = coalesce(amzmp._member(n.payload, '{MarketplaceId}'::text[]) #>> '{}', c.marketplace_id);
    return case when found then 'done' else 'known' end;
end
$$;

create function amzmp._notice_report(n amzmp.notification) returns text
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select case when amzmp._report_finished(n.account_id, n.subject) then 'done' else 'known' end;
$$;

/*
 * An order has changed. Nothing to do when we hold a state as new, or a request for it waits. The request is rendered
 * when it is sent and left out if polling has brought the order meanwhile.
 */
create function amzmp._notice_order(n amzmp.notification) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    changed_at timestamptz := coalesce(
        amzmp._time(amzmp._member(n.payload, '{OrderChangeNotification,OrderChangeTrigger,TimeOfOrderChange}'::text[]) #>> '{}'),
        n.event_at, now());
begin
    if n.subject is null or n.subject !~ '^[0-9A-Za-z-]{1,50}$' then
        perform amzmp._fail('AZ202', 'the notification names no order');
    end if;
    if amzmp._has_order(n.account_id, n.subject, changed_at)
        or exists (select from amzmp.request r
                    where r.account_id = n.account_id and r.subject_kind = 'order' and r.subject = n.subject
                      and r.operation = 'getOrder' and r.state = 'due') then
        return 'known';
    end if;
    perform amzmp._enqueue(n.account_id, 'getOrder',
        jsonb_build_object('orderId', n.subject, 'includedData', amzmp._order_data_sets(amzmp._order_detail(n.account_id))), null, '_handle_get_order',
        '_render_noticed_order', 20, now(), 0, 'order', n.subject,
        jsonb_build_object('notification', n.notification_id, 'changed_at', changed_at));
    return 'done';
end
$$;

-- Do we hold this order, whole, in a state as new as this?
create function amzmp._has_order(account_id bigint, amazon_order_id text, changed_at timestamptz) returns boolean
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    return exists (select from amzmp.orders o
                    where o.account_id = $1 and o.amazon_order_id = $2 and o.complete and o.last_updated_at >= $3)
        or exists (select from amzmp.parked_order p
                    where p.account_id = $1 and p.amazon_order_id = $2 and p.complete and p.last_updated_at >= $3);
end
$$;

create function amzmp._render_noticed_order(claimed amzmp.request[]) returns table (request_id bigint, params jsonb, body jsonb)
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select r.request_id, r.params, null::jsonb
    from unnest(claimed) as r
    where not amzmp._has_order(r.account_id, r.subject, (r.cause ->> 'changed_at')::timestamptz);
$$;

-- An offer has changed: read it.
create function amzmp._notice_listing(n amzmp.notification) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    channel bigint;
begin
    select l.channel_id into channel
      from amzmp.channel c
      join amzmp.listing l on l.account_id = c.account_id and l.channel_id = c.channel_id and l.sku = n.subject
     where c.account_id = n.account_id and c.active and not c.dropped
       and c.marketplace_id = amzmp._member(n.payload, 'MarketplaceId') #>> '{}'
       -- what was read after it happened needs no second look
       and (l.observed_at is null or n.event_at is null or l.observed_at < n.event_at);
    if not found then
        return 'known';
    end if;
    perform amzmp._look(n.account_id, channel, array[n.subject], now(), jsonb_build_object('notification', n.notification_id));
    return 'done';
end
$$;

-- A price is no longer competitive: read the offers of that item.
create function amzmp._notice_pricing(n amzmp.notification) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    channel bigint;
    skus text[];
begin
    select l.channel_id, array_agg(l.sku order by l.sku) into channel, skus
      from amzmp.channel c
      join amzmp.listing l on l.account_id = c.account_id and l.channel_id = c.channel_id
     where l.asin = n.subject and l.listed and l.account_id = n.account_id and c.active and not c.dropped
       and c.marketplace_id = amzmp._member(n.payload, '{offerChangeTrigger,marketplaceId}'::text[]) #>> '{}'
     group by l.channel_id;
    if not found then
        return 'known';
    end if;
    perform amzmp._look(n.account_id, channel, skus, now(), jsonb_build_object('notification', n.notification_id));
    return 'done';
end
$$;

-- A quantity at Amazon that is not the one we expect: read the offer, in one of its channels, for stock is theirs together.
create function amzmp._notice_quantity(n amzmp.notification) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    channel bigint;
begin
    select l.channel_id into channel
      from amzmp.inventory i
      join amzmp.channel c on c.account_id = i.account_id and c.active and not c.dropped
      join amzmp.listing l on l.account_id = i.account_id and l.channel_id = c.channel_id and l.sku = i.sku and l.listed
     where i.account_id = n.account_id and i.sku = n.subject
       and i.fulfillment_channel = coalesce(amzmp._member(n.payload, 'FulfillmentChannelCode') #>> '{}', 'DEFAULT')
       and i.remote_quantity is distinct from (amzmp._member(n.payload, 'Quantity') #>> '{}')::integer
       and i.in_flight_request is null
     order by l.channel_id limit 1;
    if not found then
        return 'known';
    end if;
    perform amzmp._look(n.account_id, channel, array[n.subject], now(), jsonb_build_object('notification', n.notification_id));
    return 'done';
end
$$;

-- Nothing of ours can mend it, so it is told: in the log, and by the alarm account_status.
create function amzmp._notice_account(n amzmp.notification) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    perform amzmp._log(n.account_id, 0, case when n.subject = 'NORMAL' then 'notice' else 'error' end, 'account', n.subject,
        format('Amazon has changed the status of the selling account to %s', coalesce(n.subject, 'something unknown')));
    return 'done';
end
$$;

/*
 * A new client secret. The message is its only copy, so it is stored in the transaction after which the message is
 * deleted, and stays in the queue while it cannot be; its text is kept nowhere else. It is taken for the application that
 * the reader of the queue belongs to. An older one that comes late does not replace a newer.
 */
create function amzmp._notice_new_secret(n amzmp.notification) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    news jsonb := amzmp._member(n.payload, 'applicationOAuthClientNewSecret');
    secret text := amzmp._member(news, 'newClientSecret') #>> '{}';
    application bigint := (select p.application_id from amzmp.account a join amzmp.application p on p.application_id = a.application_id
                            where a.account_id = n.account_id and p.client_id = n.subject);
begin
    if coalesce(secret, '') = '' then
        perform amzmp._fail('AZ202', 'the notification carries no secret');
    elsif exists (select from amzmp.notification x
                   where x.account_id = n.account_id and x.type = n.type and x.subject = n.subject and x.state = 'done'
                     and x.event_at > n.event_at) then
        return 'known';
    elsif application is null then
        perform amzmp._fail('AZ201', 'the notification is about another application', null,
            'Let the application''s notifications go to a queue that one of its own accounts reads.');
    end if;
    perform amzmp._store_secret(application, secret,
        coalesce(amzmp._time(amzmp._member(news, 'newClientSecretExpiryTime') #>> '{}'), now() + interval '180 days'));
    perform amzmp._log(n.account_id, 0, 'notice', 'application', n.subject, 'a new client secret was stored');
    return 'done';
end
$$;

create function amzmp._notice_expiry(n amzmp.notification) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    update amzmp.application p
       set secret_expires_at = amzmp._time(amzmp._member(n.payload, '{applicationOAuthClientSecretExpiry,clientSecretExpiryTime}'::text[]) #>> '{}')
      from amzmp.account a
     where a.account_id = n.account_id and p.application_id = a.application_id and p.client_id = n.subject;
    return 'done';
end
$$;

/* ---- how long it takes ---- */

create view amzmp.order_lag with (security_invoker = true) as
select o.account_id, o.channel_id, o.amazon_order_id, o.purchased_at, n.announced_at, o.imported_at, o.delivered_at,
    n.announced_at is not null and n.announced_at <= o.imported_at as by_notification,
    o.imported_at - coalesce(n.sent_at, o.purchased_at) as import_lag, o.delivered_at - o.imported_at as delivery_lag
from amzmp.orders o
left join lateral (
    -- what is told of an order that is here already has no part in how it came
    select min(x.received_at) as announced_at, min(x.sent_at) filter (where x.received_at <= o.imported_at) as sent_at
    from amzmp.notification x
    where x.subject = o.amazon_order_id and x.type = 'ORDER_CHANGE' and x.account_id = o.account_id
) as n on true;

comment on view amzmp.order_lag is 'How long each order took from Amazon into the shop.';
comment on column amzmp.order_lag.account_id is 'The account that sold.';
comment on column amzmp.order_lag.channel_id is 'The channel; 0 when the marketplace is no channel of ours.';
comment on column amzmp.order_lag.amazon_order_id is 'The order.';
comment on column amzmp.order_lag.purchased_at is 'When the buyer ordered.';
comment on column amzmp.order_lag.announced_at is 'When its first notification was read from the queue.';
comment on column amzmp.order_lag.imported_at is 'When it was first imported.';
comment on column amzmp.order_lag.delivered_at is 'When the shop''s function took it.';
comment on column amzmp.order_lag.by_notification is 'Was it imported after a notification, rather than found by polling?';
comment on column amzmp.order_lag.import_lag is 'From the notification, or without one from the purchase, to the import.';
comment on column amzmp.order_lag.delivery_lag is 'From the import to the shop''s function.';

/* ---- is Amazon silent? ---- */

/*
 * What polling brought and no notification had announced, an hour after the fact, while a subscription is active: orders
 * since the last notification, or since the subscription was made.
 */
create function amzmp._silent_orders(account_id bigint) returns bigint
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select count(*)
    from amzmp.subscription s
    join amzmp.orders o on o.account_id = s.account_id
    where s.account_id = _silent_orders.account_id and s.type = 'ORDER_CHANGE' and s.state = 'active'
      and o.imported_at > greatest(s.last_event_at, s.subscribed_at) and o.imported_at < now() - interval '1 hour'
      and o.purchased_at > s.subscribed_at
      and not exists (select from amzmp.notification n
                       where n.subject = o.amazon_order_id and n.type = s.type and n.account_id = o.account_id);
$$;

/*
 * The same for each kind of notification that polling can answer for: what happened, an hour ago and more, since the last one
 * came or the subscription was made, and was not announced. Kinds that nothing but a notification tells of have no row.
 */
create function amzmp._silence(account_id bigint) returns table (type text, missed bigint, last_event_at timestamptz)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select s.type, x.missed, s.last_event_at
    from amzmp.subscription s
    cross join lateral (select greatest(s.last_event_at, s.subscribed_at) as since, now() - interval '1 hour' as until) w
    cross join lateral (
        select amzmp._silent_orders(s.account_id) as missed where s.type = 'ORDER_CHANGE'
        union all
        select count(*) from amzmp.feed f
         where s.type = 'FEED_PROCESSING_FINISHED' and f.account_id = s.account_id and f.amazon_feed_id is not null
           and f.ended_at > w.since and f.ended_at < w.until and f.created_at > s.subscribed_at
           and not exists (select from amzmp.notification n
                            where n.subject = f.amazon_feed_id and n.type = s.type and n.account_id = f.account_id)
        union all
        select count(*) from amzmp.report r
         where s.type = 'REPORT_PROCESSING_FINISHED' and r.account_id = s.account_id and r.amazon_report_id is not null
           and r.processed_at > w.since and r.processed_at < w.until and r.submitted_at > s.subscribed_at
           and not exists (select from amzmp.notification n
                            where n.subject = r.amazon_report_id and n.type = s.type and n.account_id = r.account_id)
        union all
        select count(*) from amzmp.channel c
          join amzmp.listing l on l.account_id = c.account_id and l.channel_id = c.channel_id
         where s.type = 'LISTINGS_ITEM_STATUS_CHANGE' and c.account_id = s.account_id
           and l.state in ('live', 'live_with_issues', 'off_sale', 'gone') and l.state_at > w.since and l.state_at < w.until
           and not exists (select from amzmp.notification n
                            where n.subject = l.sku and n.type = s.type and n.account_id = l.account_id)) as x
    where s.account_id = _silence.account_id and s.state = 'active' and x.missed > 0;
$$;

/*
 * Of the kinds that only a notification tells of: those that came again and again, and for a day and twenty times as long as
 * usual have not. That may be true, so it is a hint, and nothing else depends on it.
 */
create function amzmp._quiet(account_id bigint) returns table (type text, last_event_at timestamptz, usual interval)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select s.type, s.last_event_at, x.usual
    from amzmp.subscription s
    cross join lateral (select (s.last_event_at - s.subscribed_at) / s.events as usual where s.events >= 10) x
    where s.account_id = _quiet.account_id and s.state = 'active'
      and s.type not in ('ORDER_CHANGE', 'FEED_PROCESSING_FINISHED', 'REPORT_PROCESSING_FINISHED', 'LISTINGS_ITEM_STATUS_CHANGE')
      and now() - s.last_event_at > greatest(interval '1 day', 20 * x.usual);
$$;

/*
 * Which kinds can be relied upon, looked at each hour. Polling goes on in any case, but orders may be polled more seldom
 * (order_poll_rest) while their notifications are believed; that ends as soon as the queue cannot be read.
 */
create function amzmp._judge_subscriptions(account_id bigint) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    update amzmp.subscription s
       set missed = x.missed, trusted = s.state = 'active' and s.events > 0 and x.missed = 0
      from (select t.type, coalesce(q.missed, 0) as missed
              from amzmp.subscription t left join amzmp._silence(t.account_id) q on q.type = t.type
             where t.account_id = _judge_subscriptions.account_id) x
     where s.account_id = _judge_subscriptions.account_id and s.type = x.type
       and (s.missed, s.trusted) is distinct from (x.missed, s.state = 'active' and s.events > 0 and x.missed = 0);
$$;

-- Inner: a queue cannot be read: nothing that comes by it is relied upon, of whichever account.
create function amzmp._distrust(reader bigint) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    update amzmp.subscription s set trusted = false
     where s.trusted
       and (s.account_id = reader
            or s.account_id in (select d.account_id from amzmp.queue q join amzmp.destination d on d.resource #>> '{sqs,arn}' = q.arn
                                 where q.account_id = reader));
$$;

-- Inner: were orders polled so lately, and not in vain, that, with notifications that are believed, this poll can be left out?
create function amzmp._orders_rest(account_id bigint) returns boolean
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
begin
    return exists (
        select from amzmp.subscription s
        join amzmp.order_cursor c on c.account_id = s.account_id
        where s.account_id = _orders_rest.account_id and s.type = 'ORDER_CHANGE' and s.trusted and s.state = 'active'
          and c.watermark >= coalesce(c.window_end, c.window_started_at - interval '2 minutes')
          and amzmp._now(s.account_id) < c.window_started_at + amzmp._setting_interval(s.account_id, 0, 'order_poll_rest') - interval '30 s');
end
$$;

create function amzmp._notification_health() returns table (check_name text, state text, detail text, remedy text)
    language sql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
    select 'queue ' || n.name, case q.state when 'failing' then 'error' else 'ok' end, coalesce(q.state_reason, q.state),
           case q.state when 'failing' then format('Mend the queue''s policy or its keys: select amzmp.set_queue(%L, %L, file => …);', n.name, q.arn) end
    from amzmp.queue q join amzmp._names() n on n.account_id = q.account_id and n.channel_id = 0
    union all
    select 'destination ' || n.name, 'error', d.state_reason,
           format('Mend what Amazon says (the queue''s policy, mostly), then select amzmp.run_flow(''watch_notifications'', account => %L);', n.name)
    from amzmp.destination d join amzmp._names() n on n.account_id = d.account_id and n.channel_id = 0
    where d.state = 'refused'
    union all
    select 'new client secret ' || n.name, 'error', 'it could not be stored, and waits in the queue: ' || x.reason,
           'Mend that before Amazon''s queue forgets the message: it is tried again every two minutes. The one before ends seven days after the rotation.'
    from amzmp.notification_type k
    join amzmp.notification x on x.type = k.type and x.state = 'failed'
    join amzmp._names() n on n.account_id = x.account_id and n.channel_id = 0
    where k.only_copy
    union all
    select format('subscription %s %s', n.name, s.type), 'error', s.state_reason,
           format('select amzmp.subscribe(%L, %L);', n.name, array[s.type])
    from amzmp.subscription s join amzmp._names() n on n.account_id = s.account_id and n.channel_id = 0
    where s.state = 'refused'
    union all
    select format('notifications %s %s', n.name, q.type), 'warning',
           format('%s %s came by polling and were never announced; the last notification came %s', q.missed,
                  case q.type when 'ORDER_CHANGE' then 'orders' when 'FEED_PROCESSING_FINISHED' then 'feeds'
                       when 'REPORT_PROCESSING_FINISHED' then 'reports' else 'changes of offers' end,
                  coalesce(to_char(q.last_event_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'), 'never')),
           format('select amzmp.run_flow(''watch_notifications'', account => %L); if that mends nothing, ask Amazon''s support.', n.name)
    from (select distinct s.account_id from amzmp.subscription s) as s
    join amzmp._names() n on n.account_id = s.account_id and n.channel_id = 0
    cross join lateral amzmp._silence(s.account_id) as q
    union all
    select format('notifications %s %s', n.name, q.type), 'warning',
           format('none has come since %s, where one came every %s', to_char(q.last_event_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'),
                  date_trunc('second', q.usual)),
           format('It may be true. Else select amzmp.run_flow(''watch_notifications'', account => %L); and look at the rules that forward it.', n.name)
    from (select distinct s.account_id from amzmp.subscription s) as s
    join amzmp._names() n on n.account_id = s.account_id and n.channel_id = 0
    cross join lateral amzmp._quiet(s.account_id) as q;
$$;
