/*
 * shipment_feed.sql
 *	  Packages that go to Amazon together, as a feed of type POST_ORDER_FULFILLMENT_DATA.
 *
 * That is every package without a tracking number, and a backlog: calls need half a second each, a feed about
 * feed_expected whatever it carries. So what calls would not have sent by the time a feed is done goes into the feed, if
 * it is at least shipment_feed_minimum. Both ways ask Amazon for the same, and which package is in which feed is written
 * at the package before the feed is sent; so none goes both ways.
 */
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'shipment_feed_minimum', 'account', 'integer', 'Shipments worth a feed', '200', 1, 100000,
        'Fewer waiting shipments than this are confirmed one by one.');

insert into amzmp.flow (flow, scope, every, on_by_default, capability, title, description)
values
    ('send_update_orders', 'account', '*/5 * * * *', false, 'orders', 'Send dispatch information',
        'The backstop of shipments: tries held ones again, reads the orders of ambiguous ones, and moves a backlog into a feed.');

-- Packages wait for their calls: give those to a feed that calls would reach too late. Returns how many.
create function amzmp._balance_shipments(account_id bigint)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    by_call constant bigint := (
        select ceil(coalesce(o.rate, 1) * a.rate_scale * extract(epoch from amzmp._setting_interval(a.account_id, 0, 'feed_expected')))
        from amzmp.account as a, amzmp.operation as o
        where a.account_id = _balance_shipments.account_id
            and o.name = 'confirmShipment'
    );
    least_many constant integer := amzmp._setting_int(account_id, 0, 'shipment_feed_minimum');
    moved bigint;
begin
    if (
        select count(*)
        from amzmp.request as r
        where (r.account_id, r.operation, r.state) = (_balance_shipments.account_id, 'confirmShipment', 'due')
    ) < by_call + least_many then
        return 0;
    end if;
    with waiting as (
        select r.request_id, r.subject
        from amzmp.request as r
        where (r.account_id, r.operation, r.state, r.attempt) = (_balance_shipments.account_id, 'confirmShipment', 'due', 0)
        order by r.priority, r.not_before, r.request_id
        offset by_call
        for update skip locked
    ), chosen as (
        update amzmp.shipment as s
        set by_feed = true,
            request_id = null
        from waiting as w
        join amzmp.orders as o
            on (o.account_id, o.amazon_order_id) = (_balance_shipments.account_id, split_part(w.subject, '/', 1))
        where (s.account_id, s.amazon_order_id, s.package_reference) = (o.account_id, o.amazon_order_id, split_part(w.subject, '/', 2))
            and s.state = 'queued'
            and s.supply_source is null
            and not s.direct_payment
            and o.channel_id <> 0
        returning w.request_id, o.channel_id
    ), removed as (
        delete from amzmp.request as r
        using chosen as c
        where (r.account_id, r.request_id) = (_balance_shipments.account_id, c.request_id)
    ), planned as (
        select amzmp._plan_order_feed(_balance_shipments.account_id, d.channel_id, 'POST_ORDER_FULFILLMENT_DATA')
        from (select distinct c.channel_id from chosen as c) as d
    )
    select count(*) + 0 * (select count(*) from planned) into moved from chosen;
    if moved > 0 then
        perform amzmp._log(account_id, 0, 'info', 'shipment', null,
            format('%s shipments go by feed, because calls would take longer', moved));
    end if;
    return moved;
end
$$;

-- A package as Amazon's message; the subject is the order and the package.
create function amzmp._fulfillment_message(account_id bigint, message_id integer, subject text)
    returns text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select xmlelement(name "Message", xmlelement(name "MessageID", message_id),
            xmlelement(name "OrderFulfillment",
                xmlforest(s.amazon_order_id as "AmazonOrderID",
                    amzmp._iso_time(s.shipped_at) as "FulfillmentDate"),
                xmlelement(name "FulfillmentData",
                    xmlforest(nullif(s.carrier_code, 'Other') as "CarrierCode",
                        case when s.carrier_code = 'Other' then s.carrier_name end as "CarrierName",
                        s.shipping_method as "ShippingMethod", s.tracking as "ShipperTrackingNumber")),
                (
                    select xmlagg(xmlelement(name "Item",
                            xmlforest(x."orderItemId" as "AmazonOrderItemCode", x.quantity as "Quantity")) order by x."orderItemId")
                    from jsonb_to_recordset(s.items) as x ("orderItemId" text, quantity integer)
                )))::text
    from amzmp.shipment as s
    where (s.account_id, s.amazon_order_id, s.package_reference)
        = (_fulfillment_message.account_id, split_part(subject, '/', 1), split_part(subject, '/', 2))
$$;

-- Inner, build function. The last look comes first, as for a call.
create function amzmp._build_fulfillments(feed amzmp.feed)
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
    update amzmp.shipment as s
    set state = case when b.refused then 'refused' else 'held' end,
        reason = b.reason
    from amzmp.shipment as q
    join amzmp.orders as o using (account_id, amazon_order_id)
    cross join lateral amzmp._shipment_stops(q, o) as b
    where (q.account_id, q.state, o.channel_id) = (feed.account_id, 'queued', feed.channel_id)
        and q.by_feed
        and b.reason is not null
        and (s.account_id, s.amazon_order_id, s.package_reference) = (q.account_id, q.amazon_order_id, q.package_reference);
    insert into amzmp.feed_message (account_id, feed_id, message_id, channel_id, subject)
    select feed.account_id, feed.feed_id, row_number() over (order by s.created_at, s.amazon_order_id, s.package_reference),
        feed.channel_id, s.amazon_order_id || '/' || s.package_reference
    from amzmp.shipment as s
    join amzmp.orders as o using (account_id, amazon_order_id)
    where (s.account_id, s.state, o.channel_id) = (feed.account_id, 'queued', feed.channel_id)
        and s.by_feed;
    if not found then
        return 0;
    end if;
    written := amzmp._write_xml_feed(feed, 'OrderFulfillment',
        'select amzmp._fulfillment_message(m.account_id, m.message_id, m.subject)
        from amzmp.feed_message as m where (m.account_id, m.feed_id) = ($1, $2) order by m.message_id');
    update amzmp.shipment as s
    set state = 'sent',
        feed_id = feed.feed_id
    from amzmp.feed_message as m
    where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
        and (s.account_id, s.amazon_order_id, s.package_reference)
            = (m.account_id, split_part(m.subject, '/', 1), split_part(m.subject, '/', 2));
    perform amzmp._plan_left_fulfillments(feed);
    return written;
end
$$;

comment on function amzmp._build_fulfillments(amzmp.feed) is 'Inner: the document of a feed that confirms shipments.';

-- Plan another feed for packages that this one left.
create function amzmp._plan_left_fulfillments(feed amzmp.feed)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._plan_order_feed(feed.account_id, feed.channel_id, feed.type)
    where exists (
            select
            from amzmp.shipment as s
            join amzmp.orders as o using (account_id, amazon_order_id)
            where (s.account_id, s.state, o.channel_id) = (feed.account_id, 'queued', feed.channel_id)
                and s.by_feed
        );
end;

-- Inner, result function.
create function amzmp._judge_fulfillments(feed amzmp.feed)
    returns interval
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    judged amzmp.shipment[];
begin
    perform amzmp._judge_xml_report(feed);
    with ended as (
        update amzmp.shipment as s
        set state = case m.result when 'accepted' then 'confirmed' else 'refused' end,
            reason = m.message,
            code = m.code,
            confirmed_at = case m.result when 'accepted' then now() end
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
            and (s.account_id, s.feed_id, s.amazon_order_id || '/' || s.package_reference) = (m.account_id, m.feed_id, m.subject)
            and s.state in ('sent', 'checking')
        returning s
    )
    select array_agg(e.s) into judged from ended as e where (e.s).state = 'refused';
    perform amzmp._shipment_ended(j, feed.channel_id) from unnest(judged) as j;
    return null;
end
$$;

comment on function amzmp._judge_fulfillments(amzmp.feed) is 'Inner: Amazon''s report about shipments.';

-- Inner, end function: what was not applied is held, and tried again by the flow; of what may have been, the orders are
-- read.
create function amzmp._end_fulfillments(feed amzmp.feed)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    doubtful text[];
begin
    with ended as (
        update amzmp.shipment as s
        set state = case feed.state when 'cancelled' then 'held' else 'checking' end,
            reason = feed.reason
        where (s.account_id, s.feed_id, s.state) = (feed.account_id, feed.feed_id, 'sent')
        returning s.amazon_order_id, s.state
    )
    select array_agg(distinct e.amazon_order_id) filter (where e.state = 'checking') into doubtful from ended as e;
    perform amzmp._request_order(feed.account_id, d.id, feed.cause) from unnest(doubtful) as d (id);
    perform amzmp._plan_left_fulfillments(feed);
end
$$;

comment on function amzmp._end_fulfillments(amzmp.feed) is 'Inner: a feed of shipments ended without a report.';

update amzmp.feed_type
set build_function = '_build_fulfillments',
    result_function = '_judge_fulfillments',
    end_function = '_end_fulfillments'
where name = 'POST_ORDER_FULFILLMENT_DATA';

-- Which of these accounts have a package that is not told yet, or a row of a shipment table that waits.
create function amzmp._due_send_update_orders(account_ids bigint[])
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
    where exists (
            select
            from amzmp.shipment as s
            where s.account_id = a.id
                and s.state in ('held', 'verifying', 'checking', 'queued')
        )
        or exists (
            select
            from amzmp.shipment_row as r
            where r.account_id = a.id
                and r.state in ('held', 'foreign')
        );
end
$$;

create function amzmp._flow_send_update_orders(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    cause constant jsonb := jsonb_build_object('flow_run', flow_run_id);
begin
    perform amzmp._retry_shipments(account_id, null);
    perform amzmp._orders_were_read(account_id);
    perform amzmp._request_order(d.account_id, d.amazon_order_id, cause)
    from (
        select distinct s.account_id, s.amazon_order_id
        from amzmp.shipment as s
        where s.account_id = _flow_send_update_orders.account_id
            and s.state in ('checking', 'verifying')
            and not exists (
                select
                from amzmp.request as r
                where (r.account_id, r.subject_kind, r.subject) = (s.account_id, 'order', s.amazon_order_id)
            )
        limit 20
    ) as d;
    perform amzmp._balance_shipments(account_id);
end
$$;
