/*
 * cancellation.sql
 *	  Orders that shall not be shipped: the buyer asks for it, the shop cannot deliver, or Amazon has done it already.
 *
 *		            accept                    feed                    order read again
 *		requested ─────────▶ queued ─────────────▶ sent ──▶ accepted ─────────▶ cancelled
 *		   │   │               ▲ │                   │
 *		   │   └─▶ declined    │ └─▶ waiting         ├─▶ refused
 *		   └─────▶ withdrawn   └── cancel_order      └─▶ unknown ─▶ (the order is read, then queued again)
 *
 * An order has one cancellation, whoever wants it. Amazon has no call for it, so it goes by a feed of type
 * POST_ORDER_ACKNOWLEDGEMENT_DATA (acknowledgement.sql), which carries the reason for every line. Sending it twice does no
 * harm, so after a lost answer it is sent again; each time is a plan, and there are at most cancellation_plans of them.
 * A cancellation whose order is not paid, or not handed over to the shop yet, waits for that.
 *
 * There is no call to decline a buyer's request: the order is shipped. Nothing is shipped while it is open (shipment.sql).
 */
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, choices, description)
values
    (true, 'cancellation_code', 'account', 'text', 'Reason told to Amazon', '"NoInventory"', null, null,
        '["NoInventory", "ShippingAddressUndeliverable", "CustomerExchange", "BuyerCanceled", "GeneralAdjustment", "CarrierCreditDecision", "RiskAssessmentInformationNotValid", "CarrierCoverageFailure", "CustomerReturn", "MerchandiseNotReceived", "CannotVerifyInformation", "PricingError", "RejectOrder", "WeatherDelay"]',
        'Amazon''s code of the reason for cancellations by the shop where cancel_order names none. Where the buyer asked, it is BuyerCanceled.'),
    (true, 'cancellation_plans', 'account', 'integer', 'Tries of a cancellation', '6', 1, 100, null,
        'How often a cancellation is tried, at Amazon or by the shop''s function, before it is given up and listed.'),
    (true, 'cancel_failed_orders', 'account', 'boolean', 'Cancel what the shop refuses', 'false', null, null, null,
        'Cancels an order at Amazon when the shop''s function or stock refuses it: by an exception that it raises, a check constraint, or any error once its tries are used up. Every cancellation by the seller counts in Amazon''s metrics, so this is off unless switched on.');

create table amzmp.cancellation (
    account_id bigint not null,
    amazon_order_id text not null,
    state text not null,
    requested_by text not null,
    requested_at timestamptz not null default now(),
    buyer_reason text,
    code text,
    reason text,
    plans smallint not null default 0,
    feed_id bigint,
    decided_by name,
    decided_at timestamptz,
    cancelled_by text,
    cancelled_at timestamptz,
    told text not null default 'nothing',
    told_at timestamptz,
    told_tries smallint not null default 0,
    primary key (account_id, amazon_order_id),
    constraint cancellation_state_check check (state in ('requested', 'declined', 'withdrawn', 'waiting', 'queued', 'sent', 'accepted',
        'cancelled', 'refused', 'unknown')),
    constraint cancellation_told_check check (told in ('nothing', 'requested', 'cancelled', 'given_up'))
);

create index cancellation_open on amzmp.cancellation (state, account_id)
where state in ('requested', 'waiting', 'queued', 'sent', 'accepted', 'unknown');

comment on table amzmp.cancellation is 'Cancellations of orders: asked for by the buyer or the shop, or done by Amazon. One an order.';
comment on column amzmp.cancellation.account_id is 'The account that sold.';
comment on column amzmp.cancellation.amazon_order_id is 'The order.';
comment on column amzmp.cancellation.state is 'requested (a decision is wanted), declined, withdrawn (no longer asked for), waiting (see reason), queued, sent, accepted (by Amazon), cancelled, refused (see reason), unknown (the answer was lost, the order is read again).';
comment on column amzmp.cancellation.requested_by is 'BUYER, SELLER or AMAZON.';
comment on column amzmp.cancellation.requested_at is 'When it was first seen here.';
comment on column amzmp.cancellation.buyer_reason is 'Why, in Amazon''s words.';
comment on column amzmp.cancellation.code is 'The reason that Amazon is told, one of its codes.';
comment on column amzmp.cancellation.reason is 'Why it waits, or was refused.';
comment on column amzmp.cancellation.plans is 'How often it was sent.';
comment on column amzmp.cancellation.feed_id is 'The feed that carried it last.';
comment on column amzmp.cancellation.decided_by is 'Who accepted, declined or ordered it.';
comment on column amzmp.cancellation.decided_at is 'When.';
comment on column amzmp.cancellation.cancelled_by is 'Who cancelled, as Amazon says: BUYER, MERCHANT or AMAZON.';
comment on column amzmp.cancellation.cancelled_at is 'When the order was seen cancelled.';
comment on column amzmp.cancellation.told is 'What the shop''s function (cancel_orders_with) was told last: nothing, requested, cancelled; given_up: it failed too often.';
comment on column amzmp.cancellation.told_at is 'When.';
comment on column amzmp.cancellation.told_tries is 'How often it failed with what it is to be told next.';

create view amzmp.cancellation_request with (security_invoker = true) as
select a.name as account, c.amazon_order_id, o.order_number, o.delivered_number, c.requested_by, c.requested_at,
    c.buyer_reason, c.state, c.reason, c.code, o.status, o.ship_by, o.channel_id, c.account_id
from amzmp.cancellation as c
join amzmp.account as a on a.account_id = c.account_id
join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (c.account_id, c.amazon_order_id)
where c.state not in ('cancelled', 'declined', 'withdrawn');

comment on view amzmp.cancellation_request is 'Cancellations that are not settled. In state requested the buyer asks: amzmp.accept_cancellation(account, amazon_order_id) or amzmp.decline_cancellation(account, amazon_order_id).';
comment on column amzmp.cancellation_request.account is 'The account that sold.';
comment on column amzmp.cancellation_request.amazon_order_id is 'The order.';
comment on column amzmp.cancellation_request.order_number is 'Its number by the format of the account.';
comment on column amzmp.cancellation_request.delivered_number is 'Its number in the shop.';
comment on column amzmp.cancellation_request.requested_by is 'BUYER, SELLER or AMAZON.';
comment on column amzmp.cancellation_request.requested_at is 'When it was first seen.';
comment on column amzmp.cancellation_request.buyer_reason is 'Why, in Amazon''s words.';
comment on column amzmp.cancellation_request.state is 'See amzmp.cancellation.state.';
comment on column amzmp.cancellation_request.reason is 'Why it waits, or was refused.';
comment on column amzmp.cancellation_request.code is 'The reason that Amazon is told.';
comment on column amzmp.cancellation_request.status is 'Amazon''s status of the order.';
comment on column amzmp.cancellation_request.ship_by is 'Latest time to ship, if it is to be shipped all the same.';
comment on column amzmp.cancellation_request.channel_id is 'The channel; 0 where its marketplace is none of ours.';
comment on column amzmp.cancellation_request.account_id is 'The account''s id.';

-- Why an order cannot be cancelled by a feed, and whether that passes by itself. No reason: it can.
create function amzmp._cancel_obstacle(o amzmp.orders, out reason text, out waits boolean, out hint text)
    returns record
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select x.reason, x.waits, x.hint
    from (values
        (1, o.fulfilled_by = 'AMAZON', false, 'Amazon ships it', 'What Amazon ships only Amazon cancels: ask its support, or wait for the return.'),
        (2, o.status = 'CANCELLED', false, 'it is cancelled already', null),
        (3, o.status in ('SHIPPED', 'PARTIALLY_SHIPPED') or exists (
                select
                from amzmp.shipment as s
                where (s.account_id, s.amazon_order_id) = (o.account_id, o.amazon_order_id)
                    and s.state in ('sent', 'checking', 'confirmed')
            ), false, 'it is shipped, at least in part', 'Give the money back with amzmp.refund_order(account, amazon_order_id, …).'),
        (4, o.channel_id = 0, false, 'its marketplace is no channel', 'Create one with amzmp.create_channel(name, account, marketplace).'),
        (5, o.status is null or o.status in ('PENDING', 'PENDING_AVAILABILITY'), true, 'it is not paid yet', null),
        (6, o.delivered_at is null and o.import_state = 'imported'
            and o.status = any (amzmp._setting_list(o.account_id, o.channel_id, 'order_statuses')) and exists (
                select
                from amzmp.order_hook as h
                where (h.account_id, h.channel_id, h.kind) = (o.account_id, o.channel_id, 'delivery')
            ), true, 'it is not handed over to the shop yet', null),
        (7, true, false, null, null)  -- nothing stands in the way, said by a row, because null would be no record
    ) as x (rank, holds, waits, reason, hint)
    where x.holds
    order by x.rank
    limit 1
$$;

-- Begin to cancel: queue it, or let it wait. Returns the new state.
create function amzmp._begin_cancellation(o amzmp.orders, by_whom text, code text, decided_by name)
    returns text
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    obstacle constant record := amzmp._cancel_obstacle(o);
    wanted constant text := case
        when obstacle.reason is null then 'queued'
        when obstacle.waits then 'waiting'
        else 'refused'
    end;
begin
    insert into amzmp.cancellation as c (account_id, amazon_order_id, state, requested_by, code, reason, decided_by, decided_at)
    values (o.account_id, o.amazon_order_id, wanted, by_whom, _begin_cancellation.code, obstacle.reason,
        _begin_cancellation.decided_by, now())
    on conflict on constraint cancellation_pkey do update
    set state = excluded.state,
        code = excluded.code,
        reason = excluded.reason,
        plans = 0,
        decided_by = excluded.decided_by,
        decided_at = excluded.decided_at;
    perform amzmp._log(o.account_id, o.channel_id, 'notice', 'order', o.amazon_order_id,
        format('cancellation %s%s', wanted, ': ' || obstacle.reason), jsonb_build_object('code', code, 'role', decided_by));
    if wanted = 'queued' then
        perform amzmp._plan_order_feed(o.account_id, o.channel_id, 'POST_ORDER_ACKNOWLEDGEMENT_DATA');
    end if;
    return wanted;
end
$$;

-- An order of an account, locked; error AZ201 where there is none.
create function amzmp._order(account text, amazon_order_id text)
    returns amzmp.orders
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc constant bigint := (amzmp._account(account)).account_id;
    o amzmp.orders;
begin
    select x.* into o
    from amzmp.orders as x
    where (x.account_id, x.amazon_order_id) = (acc, _order.amazon_order_id)
    for update;
    if o.amazon_order_id is null then
        perform amzmp._fail('AZ201', format('account %L has no order %L', account, amazon_order_id), null,
            'amzmp.fetch_order(account, amazon_order_id) fetches one that was not imported.');
    end if;
    return o;
end
$$;

create function amzmp._cancel_order(account text, amazon_order_id text, code text default null)
    returns text
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    o constant amzmp.orders := amzmp._order(account, amazon_order_id);
    chosen constant text := coalesce(code, case when o.cancellation_requested then 'BuyerCanceled' end,
        amzmp._setting_text(o.account_id, 0, 'cancellation_code'));
    codes constant jsonb := (select d.choices from amzmp.setting_definition as d where d.name = 'cancellation_code');
    obstacle constant record := amzmp._cancel_obstacle(o);
    now_in text;
begin
    if not codes ? chosen then
        perform amzmp._fail('AZ202', format('Amazon knows no reason %L for cancellations', chosen), null,
            format('Give one of %s.', (select string_agg(x, ', ') from jsonb_array_elements_text(codes) as x)));
    end if;
    if obstacle.reason is not null and not obstacle.waits then
        perform amzmp._fail('AZ203', format('order %s cannot be cancelled', o.amazon_order_id), format('Because %s.', obstacle.reason), obstacle.hint);
    end if;
    select c.state into now_in
    from amzmp.cancellation as c
    where (c.account_id, c.amazon_order_id) = (o.account_id, o.amazon_order_id);
    if now_in in ('queued', 'sent', 'accepted', 'unknown') then
        return now_in;
    end if;
    return amzmp._begin_cancellation(o, case when o.cancellation_requested then 'BUYER' else 'SELLER' end, chosen,
        amzmp._caller());
end
$$;

select amzmp._expose('amzmp._cancel_order(text, text, text)', 'amzmp_operator',
    'Cancels an order that is not shipped, with one of Amazon''s reasons (default: BuyerCanceled where the buyer asks, else the setting cancellation_code). It waits while the order is not paid or not handed over to the shop. Returns the state of the cancellation; calling it again changes nothing.');

-- The buyer's request for an order, which has to be open.
create function amzmp._open_cancellation(account text, amazon_order_id text)
    returns amzmp.orders
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    o constant amzmp.orders := amzmp._order(account, amazon_order_id);
begin
    if not exists (
        select
        from amzmp.cancellation as c
        where (c.account_id, c.amazon_order_id) = (o.account_id, o.amazon_order_id)
            and c.state = 'requested'
    ) then
        perform amzmp._fail('AZ203', format('nobody asks to cancel order %s', o.amazon_order_id), null,
            'amzmp.cancellation_request lists the requests; amzmp.cancel_order(account, amazon_order_id) cancels without one.');
    end if;
    return o;
end
$$;

create function amzmp._accept_cancellation(account text, amazon_order_id text)
    returns text
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._begin_cancellation(o, 'BUYER', 'BuyerCanceled', amzmp._caller())
    from amzmp._open_cancellation(account, amazon_order_id) as o;
end;

select amzmp._expose('amzmp._accept_cancellation(text, text)', 'amzmp_operator',
    'Does what the buyer asks for: cancels the order at Amazon with the reason BuyerCanceled. Returns the state of the cancellation.');

create function amzmp._decline_cancellation(account text, amazon_order_id text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    o constant amzmp.orders := amzmp._open_cancellation(account, amazon_order_id);
begin
    perform amzmp._decline(o.account_id, o.amazon_order_id, amzmp._caller());
end
$$;

select amzmp._expose('amzmp._decline_cancellation(text, text)', 'amzmp_operator',
    'Declines a buyer''s request to cancel: the order is shipped. Amazon has no call for it, so it learns that by the shipment, which is no longer held.');

create function amzmp._decline(account_id bigint, amazon_order_id text, decided_by name)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.cancellation as c
    set state = 'declined',
        decided_by = _decline.decided_by,
        decided_at = now(),
        reason = null
    where (c.account_id, c.amazon_order_id) = (_decline.account_id, _decline.amazon_order_id)
        and c.state = 'requested';
    perform amzmp._log(account_id, 0, 'notice', 'order', amazon_order_id, 'the buyer''s request to cancel was declined',
        jsonb_build_object('role', decided_by));
    perform amzmp._retry_shipments(account_id, amazon_order_id);
end
$$;
