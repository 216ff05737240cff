/*
 * acknowledgement.sql
 *	  Telling Amazon that an order has arrived and what the shop calls it, and the feed that carries this and cancellations.
 *
 * With acknowledge_orders on, every order of the merchant's is acknowledged once it is handed over: Amazon then shows the
 * shop's number. Both kinds of message go by feeds of type POST_ORDER_ACKNOWLEDGEMENT_DATA (feed_plan.sql): what waits is
 * read when the feed is built, and looked at once more before it is written. Either may be sent twice without harm.
 */
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, description)
values
    (true, 'acknowledge_orders', 'account', 'boolean', 'Acknowledge orders', 'false',
        'Tells Amazon the shop''s number of each order that was handed over. Amazon takes about 1,000 an hour, and none of orders that it ships itself.');

create table amzmp.acknowledgement (
    account_id bigint not null,
    amazon_order_id text not null,
    state text not null,
    shop_number text not null,
    reason text,
    tries smallint not null default 0,
    feed_id bigint,
    queued_at timestamptz not null default now(),
    acknowledged_at timestamptz,
    primary key (account_id, amazon_order_id),
    constraint acknowledgement_state_check check (state in ('queued', 'sent', 'acknowledged', 'refused'))
);

create index acknowledgement_queued on amzmp.acknowledgement (account_id) where state = 'queued';

comment on table amzmp.acknowledgement is 'Orders whose number in the shop Amazon is told.';
comment on column amzmp.acknowledgement.account_id is 'The account that sold.';
comment on column amzmp.acknowledgement.amazon_order_id is 'The order.';
comment on column amzmp.acknowledgement.state is 'queued, sent, acknowledged or refused (see reason).';
comment on column amzmp.acknowledgement.shop_number is 'The number in the shop.';
comment on column amzmp.acknowledgement.reason is 'Why it was refused.';
comment on column amzmp.acknowledgement.tries is 'How often it was sent.';
comment on column amzmp.acknowledgement.feed_id is 'The feed that carried it last.';
comment on column amzmp.acknowledgement.queued_at is 'When it was queued.';
comment on column amzmp.acknowledgement.acknowledged_at is 'When Amazon accepted it.';

create function amzmp._acknowledge(o amzmp.orders)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    insert into amzmp.acknowledgement as a (account_id, amazon_order_id, state, shop_number)
    values (o.account_id, o.amazon_order_id, 'queued', coalesce(o.delivered_number, o.order_number))
    on conflict on constraint acknowledgement_pkey do update
    set state = excluded.state,
        shop_number = excluded.shop_number,
        tries = 0,
        reason = null;
    perform amzmp._plan_order_feed(o.account_id, o.channel_id, 'POST_ORDER_ACKNOWLEDGEMENT_DATA');
end
$$;

-- An order was handed over (delivery.sql).
create function amzmp._acknowledge_delivered(account_id bigint, amazon_order_id text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if amzmp._setting_bool(account_id, 0, 'acknowledge_orders') then
        perform amzmp._acknowledge(o)
        from amzmp.orders as o
        where (o.account_id, o.amazon_order_id) = (_acknowledge_delivered.account_id, _acknowledge_delivered.amazon_order_id)
            and o.fulfilled_by is distinct from 'AMAZON'
            and o.status in ('UNSHIPPED', 'PARTIALLY_SHIPPED', 'SHIPPED')
            and o.channel_id <> 0;
    end if;
end
$$;

create function amzmp._acknowledge_order(account text, amazon_order_id text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    o constant amzmp.orders := amzmp._order(account, amazon_order_id);
begin
    if o.fulfilled_by = 'AMAZON' or o.channel_id = 0 or o.status is null
        or o.status not in ('UNSHIPPED', 'PARTIALLY_SHIPPED', 'SHIPPED') then
        perform amzmp._fail('AZ203', format('order %s cannot be acknowledged', o.amazon_order_id),
            format('It is %s, shipped by %s.', coalesce(o.status, 'of unknown status'), coalesce(o.fulfilled_by, 'nobody knows whom')),
            'Only paid orders that the merchant ships, of a marketplace that is a channel, take a number of the shop''s.');
    end if;
    perform amzmp._acknowledge(o);
end
$$;

select amzmp._expose('amzmp._acknowledge_order(text, text)', 'amzmp_operator',
    'Tells Amazon the shop''s number of an order: what the delivery function returned, else order_number. The setting acknowledge_orders does it for every order.');

/*
 * The feed.
 */

create function amzmp._plan_order_feed(account_id bigint, channel_id bigint, type text)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._plan_feed(_plan_order_feed.account_id, _plan_order_feed.channel_id, _plan_order_feed.type);
end;

-- An acknowledgement or a cancellation as Amazon's message. The subject is the kind and the order.
create function amzmp._acknowledgement_message(account_id bigint, message_id integer, subject text)
    returns text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select xmlelement(name "Message", xmlelement(name "MessageID", message_id),
            xmlelement(name "OrderAcknowledgement",
                xmlforest(o.amazon_order_id as "AmazonOrderID", a.shop_number as "MerchantOrderID",
                    case k.kind when 'cancel' then 'Failure' else 'Success' end as "StatusCode"),
                (
                    select xmlagg(xmlelement(name "Item",
                            xmlforest(i.order_item_id as "AmazonOrderItemCode", c.code as "CancelReason")) order by i.position)
                    from amzmp.order_item as i
                    where (i.account_id, i.amazon_order_id) = (o.account_id, o.amazon_order_id)
                )))::text
    from (select split_part(subject, ' ', 1) as kind, split_part(subject, ' ', 2) as id) as k
    join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (_acknowledgement_message.account_id, k.id)
    left join amzmp.cancellation as c
        on (c.account_id, c.amazon_order_id) = (o.account_id, o.amazon_order_id) and k.kind = 'cancel'
    left join amzmp.acknowledgement as a
        on (a.account_id, a.amazon_order_id) = (o.account_id, o.amazon_order_id) and k.kind = 'acknowledge'
$$;

-- Cancellations whose order has moved on since they were queued: let them wait, or refuse them.
create function amzmp._recheck_cancellations(account_id bigint, channel_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.cancellation as c
    set state = case when b.waits then 'waiting' else 'refused' end,
        reason = b.reason
    from amzmp.orders as o
    cross join lateral amzmp._cancel_obstacle(o) as b
    where c.account_id = _recheck_cancellations.account_id
        and c.state = 'queued'
        and (o.account_id, o.amazon_order_id) = (c.account_id, c.amazon_order_id)
        and o.channel_id = _recheck_cancellations.channel_id
        and b.reason is not null;
end
$$;

-- Inner, build function: cancellations first, then acknowledgements; an order is in one message at most.
create function amzmp._build_acknowledgements(feed amzmp.feed)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    written integer;
begin
    perform amzmp._recheck_cancellations(feed.account_id, feed.channel_id);
    insert into amzmp.feed_message (account_id, feed_id, message_id, channel_id, subject)
    select feed.account_id, feed.feed_id, row_number() over (order by q.urgency, q.queued_at, q.subject), feed.channel_id, q.subject
    from (
        select 1 as urgency, coalesce(c.decided_at, c.requested_at) as queued_at, 'cancel ' || c.amazon_order_id as subject,
            c.amazon_order_id
        from amzmp.cancellation as c
        where c.account_id = feed.account_id
            and c.state = 'queued'
        union all
        select 2, a.queued_at, 'acknowledge ' || a.amazon_order_id, a.amazon_order_id
        from amzmp.acknowledgement as a
        where a.account_id = feed.account_id
            and a.state = 'queued'
            and amzmp._cancellation_stops(a.account_id, a.amazon_order_id, false) is null
    ) as q
    join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (feed.account_id, q.amazon_order_id)
    where o.channel_id = feed.channel_id;
    if not found then
        return 0;
    end if;
    written := amzmp._write_xml_feed(feed, 'OrderAcknowledgement',
        'select amzmp._acknowledgement_message(m.account_id, m.message_id, m.subject)
        from amzmp.feed_message as m where (m.account_id, m.feed_id) = ($1, $2) order by m.message_id');
    update amzmp.cancellation as c
    set state = 'sent',
        plans = c.plans + 1,
        feed_id = feed.feed_id
    from amzmp.feed_message as m
    where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
        and (c.account_id, 'cancel ' || c.amazon_order_id) = (m.account_id, m.subject);
    update amzmp.acknowledgement as a
    set state = 'sent',
        tries = a.tries + 1,
        feed_id = feed.feed_id
    from amzmp.feed_message as m
    where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
        and (a.account_id, 'acknowledge ' || a.amazon_order_id) = (m.account_id, m.subject);
    if amzmp._more_acknowledgements(feed) then
        perform amzmp._plan_order_feed(feed.account_id, feed.channel_id, feed.type);
    end if;
    return written;
end
$$;

comment on function amzmp._build_acknowledgements(amzmp.feed) is 'Inner: the document of a feed that acknowledges and cancels orders.';

-- Is more waiting than found room?
create function amzmp._more_acknowledgements(feed amzmp.feed)
    returns boolean
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select exists (
            select
            from amzmp.cancellation as c
            join amzmp.orders as o using (account_id, amazon_order_id)
            where (c.account_id, c.state, o.channel_id) = (feed.account_id, 'queued', feed.channel_id)
        ) or exists (
            select
            from amzmp.acknowledgement as a
            join amzmp.orders as o using (account_id, amazon_order_id)
            where (a.account_id, a.state, o.channel_id) = (feed.account_id, 'queued', feed.channel_id)
                and amzmp._cancellation_stops(a.account_id, a.amazon_order_id, false) is null
        );
end;

/*
 * Inner, result function. A cancellation that Amazon took is believed when the order shows it, so the order is read
 * again. One that was refused is tried again after the order was read, until its plans are used up.
 */
create function amzmp._judge_acknowledgements(feed amzmp.feed)
    returns interval
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    read_again bigint[];
begin
    perform amzmp._judge_xml_report(feed);
    update amzmp.acknowledgement as a
    set state = case m.result when 'accepted' then 'acknowledged' else 'refused' end,
        reason = m.message,
        acknowledged_at = case m.result when 'accepted' then now() end
    from amzmp.feed_message as m
    where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
        and (a.account_id, a.feed_id, 'acknowledge ' || a.amazon_order_id) = (m.account_id, m.feed_id, m.subject)
        and a.state = 'sent';

    with judged as (
        update amzmp.cancellation as c
        set state = case m.result when 'accepted' then 'accepted' else 'unknown' end,
            reason = concat_ws(': ', m.code, m.message)
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
            and (c.account_id, c.feed_id, 'cancel ' || c.amazon_order_id) = (m.account_id, m.feed_id, m.subject)
            and c.state in ('sent', 'unknown')
        returning c.account_id, c.amazon_order_id
    )
    select array_agg(amzmp._request_order(j.account_id, j.amazon_order_id, feed.cause)) into read_again
    from judged as j;
    return null;
end
$$;

comment on function amzmp._judge_acknowledgements(amzmp.feed) is 'Inner: Amazon''s report about acknowledgements and cancellations.';

-- Inner, end function: what was not applied is queued again; of what may have been, the orders are read.
create function amzmp._end_acknowledgements(feed amzmp.feed)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    ended amzmp.cancellation[];
begin
    update amzmp.acknowledgement as a
    set state = case when a.tries < 6 then 'queued' else 'refused' end,
        reason = feed.reason
    where (a.account_id, a.feed_id, a.state) = (feed.account_id, feed.feed_id, 'sent');
    with unheard as (
        update amzmp.cancellation as c
        set state = 'unknown',
            reason = feed.reason
        where (c.account_id, c.feed_id, c.state) = (feed.account_id, feed.feed_id, 'sent')
        returning c
    )
    select array_agg(u.c) into ended from unheard as u;
    if feed.state = 'cancelled' then
        perform amzmp._repeat_cancellation(o, e, feed.reason)
        from unnest(ended) as e
        join amzmp.orders as o using (account_id, amazon_order_id);
    else
        perform amzmp._request_order(e.account_id, e.amazon_order_id, feed.cause) from unnest(ended) as e;
    end if;
    if amzmp._more_acknowledgements(feed) then
        perform amzmp._plan_order_feed(feed.account_id, feed.channel_id, feed.type);
    end if;
end
$$;

comment on function amzmp._end_acknowledgements(amzmp.feed) is 'Inner: a feed of acknowledgements ended without a report.';

update amzmp.feed_type
set build_function = '_build_acknowledgements',
    result_function = '_judge_acknowledgements',
    end_function = '_end_acknowledgements'
where name = 'POST_ORDER_ACKNOWLEDGEMENT_DATA';
