/*
 * shipment_send.sql
 *	  Confirming packages to Amazon by calls: the order is looked at once more, the call is made, its answer settles it.
 *
 * Somebody may have asked to cancel since the shop packed. So an order is read once more first. Where many wait for that, which
 * the usage plan of reading would hold up, the last poll serves if it was not longer ago than check_before_shipping, else the
 * next one. What is stored is looked at again when the call is rendered.
 */

-- Were the changes of the account's orders read lately?
create function amzmp._orders_are_fresh(account_id bigint)
    returns boolean
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(bool_or(c.watermark > amzmp._now(c.account_id) - x.age), false)
    from amzmp.order_cursor as c
    cross join (select amzmp._setting_interval($1, 0, 'check_before_shipping') as age) as x
    where c.account_id = $1
        and x.age > interval '0'
$$;

-- Send a package that was just noted, after its order was read once more. Corrections need no reading: what is shipped is not
-- cancelled any more.
create function amzmp._send_shipment(s amzmp.shipment, channel_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    most_reads constant integer := 20;
    shipped constant boolean := exists (
        select
        from amzmp.orders as o
        where (o.account_id, o.amazon_order_id, o.status) = (s.account_id, s.amazon_order_id, 'SHIPPED')
    );
    asked boolean;
    waiting integer;
begin
    select coalesce(bool_or(r.subject = s.amazon_order_id), false), count(*) into asked, waiting
    from amzmp.request as r
    where (r.account_id, r.operation, r.state) = (s.account_id, 'getOrder', 'due');
    if shipped or not asked and waiting >= most_reads and amzmp._orders_are_fresh(s.account_id) then
        perform amzmp._queue_shipment(s, channel_id);
        return;
    end if;
    update amzmp.shipment as x
    set state = 'verifying'
    where (x.account_id, x.amazon_order_id, x.package_reference) = (s.account_id, s.amazon_order_id, s.package_reference);
    if not asked and waiting < most_reads then
        perform amzmp._request_order(s.account_id, s.amazon_order_id,
            jsonb_build_object('shipment', s.package_reference, 'at', now()));
    elsif not asked then
        -- one poll reads for all that wait, and the next may be a quarter of an hour away
        perform amzmp._add_task(f.account_id, 'flow', f.flow || '/' || f.channel_id, null, now())
        from amzmp.account_flow as f
        where (f.account_id, f.flow) = (s.account_id, 'get_orders')
            and f.enabled;
    end if;
end
$$;

-- Queue the call, or the feed. A request that still waits will render what is written here, so there is never more than one.
create function amzmp._queue_shipment(s amzmp.shipment, channel_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    topic constant text := s.amazon_order_id || '/' || s.package_reference;
    request bigint;
begin
    if s.by_feed then
        perform amzmp._plan_order_feed(s.account_id, channel_id, 'POST_ORDER_FULFILLMENT_DATA');
    else
        select r.request_id into request
        from amzmp.request as r
        where (r.account_id, r.subject_kind, r.subject) = (s.account_id, 'shipment', topic)
            and r.state in ('due', 'held')
        limit 1;
        request := coalesce(request, amzmp._enqueue(s.account_id, 'confirmShipment', jsonb_build_object('orderId', s.amazon_order_id),
                null, '_handle_confirm_shipment', '_render_confirm_shipment', 40, now(), channel_id, 'shipment', topic,
                jsonb_build_object('role', s.created_by, 'at', now())));
    end if;
    update amzmp.shipment as x
    set state = 'queued',
        reason = null,
        request_id = request
    where (x.account_id, x.amazon_order_id, x.package_reference) = (s.account_id, s.amazon_order_id, s.package_reference);
end
$$;

-- Why a package that is to be sent now is not sent: null when nothing stops it. refused: for good.
create function amzmp._shipment_stops(s amzmp.shipment, o amzmp.orders, out reason text, out refused boolean)
    returns record
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case
            when x.cancelled then 'the order is ' || o.status
            when x.stopped = 'the buyer asks to cancel' and s.despite_cancellation then null
            when x.stopped = 'the buyer asks to cancel'
            then 'the buyer asks to cancel; decline_cancellation, or confirm again with force => true, to ship'
            else x.stopped
        end, x.cancelled
    from (
        select coalesce(o.status in ('CANCELLED', 'UNFULFILLABLE'), false) as cancelled,
            amzmp._cancellation_stops(o.account_id, o.amazon_order_id, o.cancellation_requested) as stopped
    ) as x
$$;

-- The last look before sending: a shipment whose order was cancelled, or whose buyer asks for that, is not sent.
create function amzmp._render_confirm_shipment(claimed amzmp.request[])
    returns table (request_id bigint, params jsonb, body jsonb)
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    with wanted as materialized (
        select r.request_id, r.params, o.marketplace_id, s.direct_payment, s.account_id, s.amazon_order_id, s.package_reference,
            case when b.reason is null then 'sent' when b.refused then 'refused' else 'held' end as state, b.reason,
            jsonb_strip_nulls(jsonb_build_object('packageReferenceId', s.package_reference, 'carrierCode', s.carrier_code,
                    'carrierName', s.carrier_name, 'shippingMethod', s.shipping_method, 'trackingNumber', s.tracking,
                    'shipDate', amzmp._iso_time(s.shipped_at), 'shipFromSupplySourceId', s.supply_source,
                    'orderItems', s.items)) as package
        from unnest(claimed) as r
        join amzmp.shipment as s
            on (s.account_id, s.amazon_order_id, s.package_reference) = (r.account_id, split_part(r.subject, '/', 1), split_part(r.subject, '/', 2))
        join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (s.account_id, s.amazon_order_id)
        cross join lateral amzmp._shipment_stops(s, o) as b
        where s.state in ('queued', 'sent')
            and not s.by_feed
    ), noted as (
        update amzmp.shipment as s
        set state = w.state,
            reason = w.reason
        from wanted as w
        where (s.account_id, s.amazon_order_id, s.package_reference) = (w.account_id, w.amazon_order_id, w.package_reference)
    )
    select w.request_id, w.params, jsonb_strip_nulls(jsonb_build_object('marketplaceId', w.marketplace_id, 'codCollectionMethod',
            case when w.direct_payment then 'DirectPayment' end, 'packageDetail', w.package))
    from wanted as w
    where w.state = 'sent'
$$;

/*
 * PackageToUpdateNotFound means that the order is fully shipped already, perhaps by this very package whose answer was
 * lost: the order is read again, and _settle_shipments decides by its packages. A carrier that Amazon does not know is
 * sent once more as Other, by its name: what that error looks like is told by rows of amzmp.issue_meaning (CARRIER_UNKNOWN).
 */
create function amzmp._handle_confirm_shipment(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    step record;
begin
    -- a loop, because each outcome leads elsewhere
    for step in
        update amzmp.shipment as s
        set state = a.state,
            confirmed_at = case when a.state = 'confirmed' then a.answered_at end,
            reason = case when a.state <> 'confirmed' then coalesce(a.error_message, a.error_code, 'no answer') end,
            code = a.error_code
        from (
            select (x.request).account_id, (x.request).channel_id, (x.request).request_id, (x.request).subject, x.answered_at,
                x.error_code, x.error_message,
                case
                    when x.outcome = 'success' then 'confirmed'
                    when x.error_code = 'PackageToUpdateNotFound' or x.outcome = 'lost' then 'checking'
                    else 'refused'
                end as state
            from unnest(answers) as x
        ) as a
        where s.account_id = a.account_id
            and s.amazon_order_id = split_part(a.subject, '/', 1)
            and s.package_reference = split_part(a.subject, '/', 2)
            and s.state in ('sent', 'queued')
            and s.request_id = a.request_id
        returning s as shipment, a.channel_id
    loop
        perform amzmp._shipment_ended(step.shipment, step.channel_id);
    end loop;
end
$$;

-- What follows from Amazon's word about a package: nothing more, a look at the order, another carrier, or a line in the log.
create function amzmp._shipment_ended(s amzmp.shipment, channel_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if s.state = 'checking' then
        perform amzmp._request_order(s.account_id, s.amazon_order_id, null);
    elsif s.state = 'refused' and s.carrier_code <> 'Other'
        and exists (select from amzmp.meaning_of(s.code, s.reason) as m where m.error = 'CARRIER_UNKNOWN')
    then
        perform amzmp._log(s.account_id, channel_id, 'warning', 'order', s.amazon_order_id,
            format('Amazon does not take carrier %s, shipment %s is sent as Other', s.carrier_code, s.package_reference));
        update amzmp.shipment as x
        set carrier_name = coalesce((amzmp._carrier(x.account_id, x.carrier)).amazon_name, btrim(x.carrier)),
            carrier_code = 'Other'
        where (x.account_id, x.amazon_order_id, x.package_reference) = (s.account_id, s.amazon_order_id, s.package_reference);
        -- the old request is being completed, so this makes a new one
        perform amzmp._queue_shipment(s, channel_id);
    elsif s.state = 'refused' then
        perform amzmp._log(s.account_id, channel_id, 'error', 'order', s.amazon_order_id,
            format('Amazon refused shipment %s: %s', s.package_reference, s.reason));
    end if;
end
$$;

/*
 * Part of settling orders: packages that waited for theirs to be read go on or are held; those whose answer was ambiguous
 * are decided by what Amazon shows of the order. A package without a number is ours when the order is shipped.
 */
create function amzmp._settle_shipments(account_id bigint, order_ids text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
as $$
#variable_conflict use_column
begin
    perform amzmp._queue_shipment_rows(account_id, order_ids);
    perform amzmp._settle_progress(account_id, order_ids);
    if not exists (
        select
        from amzmp.shipment as s
        where s.state in ('verifying', 'checking')
            and s.account_id = _settle_shipments.account_id
    ) then
        return;
    end if;
    perform amzmp._shipments_verified(s.s, o.o)
    from unnest(order_ids) as w (id)
    cross join lateral (
        select x as s
        from amzmp.shipment as x
        where (x.account_id, x.amazon_order_id) = (_settle_shipments.account_id, w.id)
            and x.state = 'verifying'
        offset 0
    ) as s
    cross join lateral (
        select x as o
        from amzmp.orders as x
        where (x.account_id, x.amazon_order_id) = (_settle_shipments.account_id, w.id)
        offset 0
    ) as o;

    update amzmp.shipment as s
    set state = case when d.ours then 'confirmed' else 'refused' end,
        confirmed_at = case when d.ours then now() end,
        reason = case
            when not d.ours
            then coalesce(s.reason, '') || ' (the order is ' || coalesce(d.status, 'of unknown status') || ' without this package)'
        end
    from (
        select o.account_id, o.amazon_order_id, o.status, c.package_reference,
            o.status in ('SHIPPED', 'PARTIALLY_SHIPPED') and (c.tracking is null and o.status = 'SHIPPED' or exists (
                    select
                    from amzmp.order_package as p
                    where (p.account_id, p.amazon_order_id) = (o.account_id, o.amazon_order_id)
                        and p.tracking = c.tracking
                )) as ours
        from unnest(order_ids) as w (id)
        cross join lateral (
            select x.*
            from amzmp.shipment as x
            where (x.account_id, x.amazon_order_id) = (_settle_shipments.account_id, w.id)
                and x.state = 'checking'
            offset 0
        ) as c
        cross join lateral (
            select x.*
            from amzmp.orders as x
            where (x.account_id, x.amazon_order_id) = (_settle_shipments.account_id, w.id)
            offset 0
        ) as o
    ) as d
    where (s.account_id, s.amazon_order_id, s.package_reference) = (d.account_id, d.amazon_order_id, d.package_reference)
        and s.state = 'checking';
end
$$;

-- The order of a package was read once more.
create function amzmp._shipments_verified(s amzmp.shipment, o amzmp.orders)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    stop constant record := amzmp._shipment_stops(s, o);
begin
    if stop.reason is null then
        perform amzmp._queue_shipment(s, o.channel_id);
        return;
    end if;
    update amzmp.shipment as x
    set state = case when stop.refused then 'refused' else 'held' end,
        reason = stop.reason
    where (x.account_id, x.amazon_order_id, x.package_reference) = (s.account_id, s.amazon_order_id, s.package_reference);
    perform amzmp._log(s.account_id, o.channel_id, 'warning', 'order', s.amazon_order_id,
        format('shipment %s was not sent: %s', s.package_reference, stop.reason));
end
$$;

-- A poll has ended, so every order is fresh: packages that waited for that go on.
create function amzmp._orders_were_read(account_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    verified bigint;
begin
    select count(amzmp._shipments_verified(s, o)) into verified
    from amzmp.shipment as s
    join amzmp.orders as o using (account_id, amazon_order_id)
    where s.account_id = _orders_were_read.account_id
        and s.state = 'verifying'
        and amzmp._orders_are_fresh(s.account_id)
        and not exists (
            select
            from amzmp.parked_order as p
            where (p.account_id, p.amazon_order_id) = (s.account_id, s.amazon_order_id)
                and p.failed_at is null
        );
    if verified > 0 then
        perform amzmp._balance_shipments(account_id);
    end if;
end
$$;

-- The order of a package could not be read: what the last poll said serves, if that was not too long ago.
create function amzmp._order_was_not_read(account_id bigint, amazon_order_id text, code text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if amzmp._orders_are_fresh(account_id) then
        perform amzmp._shipments_verified(s, o)
        from amzmp.shipment as s
        join amzmp.orders as o using (account_id, amazon_order_id)
        where (s.account_id, s.amazon_order_id, s.state) = (_order_was_not_read.account_id, _order_was_not_read.amazon_order_id, 'verifying');
        return;
    end if;
    update amzmp.shipment as s
    set state = 'held',
        reason = format('the order could not be read once more (%s)', coalesce(code, 'no answer'))
    where (s.account_id, s.amazon_order_id, s.state) = (_order_was_not_read.account_id, _order_was_not_read.amazon_order_id, 'verifying');
end
$$;

/*
 * Try held packages again, of one order or of all: also the rows of attached tables that could not become a package yet.
 */
create function amzmp._retry_shipments(account_id bigint, amazon_order_id text)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    tried integer;
begin
    select count(amzmp._send_shipment(s, o.channel_id)) into tried
    from amzmp.shipment as s
    join amzmp.orders as o using (account_id, amazon_order_id)
    where s.account_id = _retry_shipments.account_id
        and s.state = 'held'
        and (_retry_shipments.amazon_order_id is null or s.amazon_order_id = _retry_shipments.amazon_order_id)
        and (amzmp._shipment_stops(s, o)).reason is null;
    perform amzmp._queue_shipment_rows(account_id, case when amazon_order_id is not null then array[amazon_order_id] end);
    return tried;
end
$$;
