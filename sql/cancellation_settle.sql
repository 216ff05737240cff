/*
 * cancellation_settle.sql
 *	  What an order's latest state says about its cancellation, and what becomes of one that Amazon or the shop did not take.
 */

-- Is a cancellation in the way of shipping? Null: none; else what to tell.
create function amzmp._cancellation_stops(account_id bigint, amazon_order_id text, cancellation_requested boolean)
    returns text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case
            when c.state in ('waiting', 'queued', 'sent', 'accepted', 'unknown') then 'the order is being cancelled'
            when cancellation_requested and c.state is distinct from 'declined' then 'the buyer asks to cancel'
        end
    from (select 1) as one
    left join amzmp.cancellation as c
        on (c.account_id, c.amazon_order_id) = (_cancellation_stops.account_id, _cancellation_stops.amazon_order_id)
$$;

-- Part of settling orders: of those few that anybody wants to cancel.
create function amzmp._settle_cancellations(account_id bigint, order_ids text[])
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
begin
    if order_ids = '{}' then
        return;
    end if;
    perform amzmp._settle_cancellation(o.account_id, o.amazon_order_id)
    from unnest(order_ids) as w (id)
    cross join lateral (
        select x.*
        from amzmp.orders as x
        where (x.account_id, x.amazon_order_id) = (_settle_cancellations.account_id, w.id)
        offset 0
    ) as o
    where o.cancellation_requested
        or o.status = 'CANCELLED'
        or exists (
            select
            from amzmp.cancellation as c
            where (c.account_id, c.amazon_order_id) = (o.account_id, o.amazon_order_id)
        );
    perform amzmp._settle_cancelled_lines(account_id, order_ids);
end
$$;

/*
 * What an order's latest state says about its cancellation. A function of the stored state, to be repeated at will.
 */
create function amzmp._settle_cancellation(account_id bigint, amazon_order_id text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
    o amzmp.orders;
    c amzmp.cancellation;
    asked jsonb;
    done jsonb;
begin
    select x.* into o from amzmp.orders as x where (x.account_id, x.amazon_order_id) = (acc, id);
    select x.* into c from amzmp.cancellation as x where (x.account_id, x.amazon_order_id) = (acc, id) for update;
    if c.amazon_order_id is null and not o.cancellation_requested and o.status is distinct from 'CANCELLED' then
        return;
    end if;
    select (array_agg(i.cancellation -> 'cancellationRequest' order by i.position)
                filter (where i.cancellation -> 'cancellationRequest' is not null))[1],
        (array_agg(i.cancellation -> 'cancellationExecution' order by i.position)
                filter (where i.cancellation -> 'cancellationExecution' is not null))[1]
    into asked, done
    from amzmp.order_item as i
    where (i.account_id, i.amazon_order_id) = (acc, id);

    if o.status = 'CANCELLED' then
        if c.state is distinct from 'cancelled' then
            insert into amzmp.cancellation as x (account_id, amazon_order_id, state, requested_by, buyer_reason, cancelled_by,
                cancelled_at)
            values (acc, id, 'cancelled', coalesce(nullif(done ->> 'cancelledBy', 'MERCHANT'),
                    case when done is null then 'AMAZON' else 'SELLER' end),
                coalesce(asked ->> 'cancelReason', done ->> 'cancelReason'), done ->> 'cancelledBy', now())
            on conflict on constraint cancellation_pkey do update
            set state = excluded.state,
                reason = null,
                buyer_reason = coalesce(excluded.buyer_reason, x.buyer_reason),
                cancelled_by = excluded.cancelled_by,
                cancelled_at = excluded.cancelled_at;
        end if;
    elsif c.state in ('requested', 'waiting', 'queued', 'refused') and o.status in ('SHIPPED', 'PARTIALLY_SHIPPED') then
        update amzmp.cancellation as x
        set state = case when x.requested_by = 'BUYER' then 'declined' else 'refused' end,
            reason = 'the order was shipped'
        where (x.account_id, x.amazon_order_id) = (acc, id);
    elsif c.state = 'requested' and not o.cancellation_requested then
        update amzmp.cancellation as x
        set state = 'withdrawn'
        where (x.account_id, x.amazon_order_id) = (acc, id);
    elsif o.cancellation_requested and (c.state is null or c.state = 'withdrawn') then
        insert into amzmp.cancellation as x (account_id, amazon_order_id, state, requested_by, buyer_reason)
        values (acc, id, 'requested', coalesce(asked ->> 'requester', 'BUYER'), asked ->> 'cancelReason')
        on conflict on constraint cancellation_pkey do update
        set state = excluded.state,
            buyer_reason = excluded.buyer_reason,
            told = 'nothing',
            told_tries = 0;
        perform amzmp._log(acc, o.channel_id, 'notice', 'order', id, 'the buyer asks to cancel the order',
            jsonb_build_object('reason', asked ->> 'cancelReason'));
    elsif c.state = 'waiting' then
        perform amzmp._resume_cancellation(o);
    elsif c.state = 'unknown' then
        perform amzmp._repeat_cancellation(o, c, coalesce(c.reason, 'the answer was lost'));
    end if;
    perform amzmp._queue_cancellation(acc, id);
end
$$;

-- A cancellation that waited goes on when nothing stops it any more.
create function amzmp._resume_cancellation(o amzmp.orders)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    obstacle constant record := amzmp._cancel_obstacle(o);
begin
    update amzmp.cancellation as c
    set state = case when obstacle.reason is null then 'queued' when obstacle.waits then 'waiting' else 'refused' end,
        reason = obstacle.reason
    where (c.account_id, c.amazon_order_id) = (o.account_id, o.amazon_order_id)
        and c.state = 'waiting';
    if found and obstacle.reason is null then
        perform amzmp._plan_order_feed(o.account_id, o.channel_id, 'POST_ORDER_ACKNOWLEDGEMENT_DATA');
    end if;
end
$$;

-- A plan had no success: make the next, or give up.
create function amzmp._repeat_cancellation(o amzmp.orders, c amzmp.cancellation, reason text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    over constant boolean := c.plans >= amzmp._setting_int(c.account_id, 0, 'cancellation_plans');
begin
    update amzmp.cancellation as x
    set state = case when over then 'refused' else 'queued' end,
        reason = case when over then format('%s, after %s plans', _repeat_cancellation.reason, c.plans) end
    where (x.account_id, x.amazon_order_id) = (c.account_id, c.amazon_order_id);
    if over then
        perform amzmp._log(c.account_id, o.channel_id, 'error', 'order', c.amazon_order_id,
            format('the cancellation is given up after %s plans: %s', c.plans, reason));
    else
        perform amzmp._plan_order_feed(c.account_id, o.channel_id, 'POST_ORDER_ACKNOWLEDGEMENT_DATA');
    end if;
end
$$;

-- An order failed at the shop (delivery.sql): cancel it, where the account wants that, if the shop has refused it in so many words
-- (it raised an exception, or a check such as that of the stock is violated), or the policy has given it up. What the decision
-- table rejects is order_settle.sql's affair.
create function amzmp._cancel_failed(account_id bigint, amazon_order_id text, failed_state text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    o amzmp.orders;
begin
    if not amzmp._setting_bool(account_id, 0, 'cancel_failed_orders')
        or failed_state not in ('P0001', '23514') and not exists (
            select
            from amzmp.penalty as p
            where (p.account_id, p.kind, p.subject) = (_cancel_failed.account_id, 'order', _cancel_failed.amazon_order_id)
                and p.gave_up
        )
    then
        return;
    end if;
    select x.* into o
    from amzmp.orders as x
    where (x.account_id, x.amazon_order_id) = (_cancel_failed.account_id, _cancel_failed.amazon_order_id)
        and x.import_state = 'quarantined'
        and not exists (
            select
            from amzmp.cancellation as c
            where (c.account_id, c.amazon_order_id) = (x.account_id, x.amazon_order_id)
                and c.state in ('waiting', 'queued', 'sent', 'accepted', 'unknown', 'cancelled')
        );
    if o.amazon_order_id is not null then
        perform amzmp._begin_cancellation(o, 'SELLER', amzmp._setting_text(account_id, 0, 'cancellation_code'), amzmp._caller());
    end if;
end
$$;
