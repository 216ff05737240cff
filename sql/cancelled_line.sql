/*
 * cancelled_line.sql
 *	  Lines of orders that are cancelled, wholly or in part, while the rest of the order goes on.
 *
 *		order settled ─▶ noted (remaining) ──cancel_orders_with──▶ told (told_remaining)
 *		                       ▲                                        │
 *		                       └───────── more units are cancelled ─────┘
 *
 * The stock is order_settle.sql's affair. Here is what the shop has to be told, because it has the line among what it will
 * send: by the function that is told of cancellations (cancellation_shop.sql), after the order was handed over, once for each
 * change. Where no channel of the account has that function nothing is noted.
 */
create table amzmp.cancelled_line (
    account_id bigint not null,
    amazon_order_id text not null,
    order_item_id text not null,
    remaining integer not null,
    cancelled_by text,
    reason text,
    seen_at timestamptz not null default now(),
    told_remaining integer,
    told_at timestamptz,
    told_tries smallint not null default 0,
    primary key (account_id, amazon_order_id, order_item_id)
);

create index cancelled_line_untold on amzmp.cancelled_line (account_id, amazon_order_id)
where told_remaining is distinct from remaining;

comment on table amzmp.cancelled_line is 'Lines that were cancelled, wholly or in part, of orders that the shop has and that go on. The shop''s function (cancel_orders_with) is told of them.';
comment on column amzmp.cancelled_line.account_id is 'The account that sold.';
comment on column amzmp.cancelled_line.amazon_order_id is 'The order.';
comment on column amzmp.cancelled_line.order_item_id is 'The line.';
comment on column amzmp.cancelled_line.remaining is 'Units of it that were sent or are still to be sent.';
comment on column amzmp.cancelled_line.cancelled_by is 'Who cancelled, as Amazon says: BUYER, MERCHANT or AMAZON.';
comment on column amzmp.cancelled_line.reason is 'Why, in Amazon''s words.';
comment on column amzmp.cancelled_line.seen_at is 'When it was last seen to change.';
comment on column amzmp.cancelled_line.told_remaining is 'What the shop''s function was last told; null: nothing yet.';
comment on column amzmp.cancelled_line.told_at is 'When.';
comment on column amzmp.cancelled_line.told_tries is 'How often it failed with what it is to be told next; after cancellation_plans it is given up.';

-- Units of a line that were sent or are still to be sent, whoever ships.
create function amzmp._remaining_units(o amzmp.orders, i amzmp.order_item)
    returns integer
    language sql
    immutable
    parallel safe
begin atomic
    select amzmp._claimed_units(o.status, null, i.quantity_ordered, i.quantity_fulfilled, i.quantity_unfulfilled,
            i.cancellation -> 'cancellationExecution' is not null);
end;

-- Part of settling orders: note what was cancelled of those that the shop has, and queue the telling.
create function amzmp._settle_cancelled_lines(account_id bigint, order_ids text[])
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
    if not exists (
        select from amzmp.order_hook as h where (h.account_id, h.kind) = (_settle_cancelled_lines.account_id, 'cancellation')
    ) then
        return;
    end if;
    insert into amzmp.cancelled_line as l (account_id, amazon_order_id, order_item_id, remaining, cancelled_by, reason)
    select o.account_id, o.amazon_order_id, i.order_item_id, r.units, e.execution ->> 'cancelledBy', e.execution ->> 'cancelReason'
    from unnest(order_ids) as w (id)
    cross join lateral (
        select x.*
        from amzmp.orders as x
        where (x.account_id, x.amazon_order_id) = (_settle_cancelled_lines.account_id, w.id)
            and x.delivered_at is not null
            and x.status in ('PENDING', 'UNSHIPPED', 'PARTIALLY_SHIPPED', 'SHIPPED')
        offset 0
    ) as o
    cross join lateral (
        select x.*
        from amzmp.order_item as x
        where (x.account_id, x.amazon_order_id) = (o.account_id, o.amazon_order_id)
        offset 0
    ) as i
    cross join lateral (select i.cancellation -> 'cancellationExecution' as execution) as e
    cross join lateral (select amzmp._remaining_units(o, i) as units) as r
    where e.execution is not null
        or r.units < i.quantity_ordered
    on conflict on constraint cancelled_line_pkey do update
    set remaining = excluded.remaining,
        cancelled_by = excluded.cancelled_by,
        reason = excluded.reason,
        seen_at = excluded.seen_at,
        told_tries = 0
    where l.remaining <> excluded.remaining;
    perform amzmp._queue_cancelled_lines(account_id, order_ids);
end
$$;

-- Queue the telling of what was not told, of these orders or of all.
create function amzmp._queue_cancelled_lines(account_id bigint, order_ids text[] default null)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._add_task(n.account_id, 'cancellation', n.amazon_order_id, n.run_as, now(), '{}')
    from (
        select distinct l.account_id, l.amazon_order_id, h.run_as
        from amzmp.cancelled_line as l
        join amzmp.orders as o using (account_id, amazon_order_id)
        join amzmp.order_hook as h using (account_id, channel_id)
        where l.account_id = _queue_cancelled_lines.account_id
            and l.told_remaining is distinct from l.remaining
            and l.told_tries < amzmp._setting_int(l.account_id, 0, 'cancellation_plans')
            and (order_ids is null or l.amazon_order_id = any (order_ids))
            and h.kind = 'cancellation'
    ) as n;
end;

-- What the shop's function is to be told of an order's lines: one row, or none. Why: Amazon's words.
create function amzmp._cancelled_line_news(o amzmp.orders)
    returns table (reason text)
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select string_agg(distinct l.reason, ', ' order by l.reason)
    from amzmp.cancelled_line as l
    where (l.account_id, l.amazon_order_id) = (o.account_id, o.amazon_order_id)
        and l.told_remaining is distinct from l.remaining
        and o.status in ('PENDING', 'UNSHIPPED', 'PARTIALLY_SHIPPED', 'SHIPPED')
    having count(*) > 0;
end;

-- The shop's function was told, or failed: then it is tried again later.
create function amzmp._cancelled_lines_told(o amzmp.orders, failure text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    most_tries constant integer := amzmp._setting_int(o.account_id, 0, 'cancellation_plans');
    tries integer;
begin
    with told as (
        update amzmp.cancelled_line as l
        set told_remaining = case when failure is null then l.remaining else l.told_remaining end,
            told_at = case when failure is null then now() else l.told_at end,
            told_tries = case when failure is null then 0 else l.told_tries + 1 end
        where (l.account_id, l.amazon_order_id) = (o.account_id, o.amazon_order_id)
            and l.told_remaining is distinct from l.remaining
        returning l.told_tries
    )
    select max(t.told_tries) into tries from told as t;
    if failure is not null then
        perform amzmp._log(o.account_id, o.channel_id, case when tries >= most_tries then 'error' else 'warning' end, 'order', o.amazon_order_id,
            format('the shop''s function did not take that lines were cancelled (try %s): %s', tries, failure));
        if tries < most_tries then
            perform amzmp._add_task(o.account_id, 'cancellation', o.amazon_order_id, amzmp._caller(), now() + interval '1 minute' * power(2, tries));
        end if;
    end if;
end
$$;
