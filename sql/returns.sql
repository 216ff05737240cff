/*
 * returns.sql
 *	  What buyers send back: read from Amazon's reports, matched to order lines, and handed to the shop.
 *
 * Amazon has no call for returns. Those to the merchant stand in one report, those of Seller Fulfilled Prime in another,
 * those to Amazon's warehouses in a third; the flow get_refund_orders asks for them (report_type.sql), each time for the
 * last weeks, because a return's state changes after its date. A return is known by Amazon's RMA number or, to a
 * warehouse, by the parcel's licence plate, so the same row read twice is one return.
 *
 * Each is handed once to the shop's function, when its order is there. One that was asked for later than refundable_days
 * after the order is kept, flagged, and not handed over unless somebody asks for it (accept_return).
 */
insert into amzmp.flow (flow, scope, every, on_by_default, capability, title, description)
values
    ('get_refund_orders', 'account', '*/30 * * * *', false, 'orders', 'Import returns',
        'Asks for Amazon''s reports of returns to the merchant and to its warehouses, and hands new returns to the shop''s function.');

create table amzmp.return_code (
    code text primary key,
    meaning text not null
);

comment on table amzmp.return_code is 'Amazon''s reasons for returns that are known here. Others are kept as they come. Reference data.';
comment on column amzmp.return_code.code is 'Amazon''s code.';
comment on column amzmp.return_code.meaning is 'What it means.';

insert into amzmp.return_code (code, meaning)
values
    ('CR-UNWANTED_ITEM', 'No longer wanted'),
    ('AMZ-PG-BAD-DESC', 'Not as described'),
    ('CR-DEFECTIVE', 'Defective'),
    ('CR-ORDERED_WRONG_ITEM', 'Ordered the wrong item'),
    ('CR-FOUND_BETTER_PRICE', 'Found a better price'),
    ('CR-DAMAGED_BY_FC', 'Damaged in the warehouse'),
    ('CR-MISSED_ESTIMATED_DELIVERY', 'Arrived too late'),
    ('CR-MISSING_PARTS', 'Parts are missing'),
    ('CR-DAMAGED_BY_CARRIER', 'Damaged by the carrier'),
    ('CR-SWITCHEROO', 'Another item was sent'),
    ('CR-EXTRA_ITEM', 'More was sent than ordered');

create table amzmp.return_item (
    account_id bigint not null,
    return_key text not null,
    returned_to text not null,
    amazon_order_id text not null,
    order_item_id text,
    sku text,
    asin text,
    quantity integer not null,
    requested_at timestamptz,
    received_at timestamptz,
    status text,
    resolution text,
    reason_code text,
    disposition text,
    currency text,
    refunded_amount numeric,
    late boolean not null default false,
    details jsonb not null default '{}',
    accepted_by name,
    state text not null default 'new',
    failure_reason text,
    tries smallint not null default 0,
    delivered_number text,
    delivered_at timestamptz,
    first_seen_at timestamptz not null default now(),
    last_seen_at timestamptz not null default now(),
    primary key (account_id, return_key),
    constraint return_item_to_check check (returned_to in ('merchant', 'amazon')),
    constraint return_item_state_check check (state in ('new', 'delivered', 'quarantined'))
);

create index return_item_order on amzmp.return_item (amazon_order_id, account_id);
create index return_item_new on amzmp.return_item (account_id) where state = 'new';

comment on table amzmp.return_item is 'Items that buyers return. The view amzmp.returns shows them with the shop''s reasons.';
comment on column amzmp.return_item.account_id is 'The account that sold.';
comment on column amzmp.return_item.return_key is 'What makes it the same return when it is read again: RMA number and SKU, or the licence plate.';
comment on column amzmp.return_item.returned_to is 'merchant, or amazon (to one of its warehouses).';
comment on column amzmp.return_item.amazon_order_id is 'The order.';
comment on column amzmp.return_item.order_item_id is 'The order line, found by the SKU.';
comment on column amzmp.return_item.sku is 'The SKU at Amazon.';
comment on column amzmp.return_item.asin is 'Amazon''s number of the product.';
comment on column amzmp.return_item.quantity is 'Units.';
comment on column amzmp.return_item.requested_at is 'When the return was asked for; in a warehouse, when it arrived there.';
comment on column amzmp.return_item.received_at is 'When it was delivered back.';
comment on column amzmp.return_item.status is 'Amazon''s status of it.';
comment on column amzmp.return_item.resolution is 'What Amazon says comes of it, such as StandardRefund.';
comment on column amzmp.return_item.reason_code is 'Amazon''s code of the buyer''s reason.';
comment on column amzmp.return_item.disposition is 'In what state a warehouse found it, such as SELLABLE.';
comment on column amzmp.return_item.currency is 'Currency of the amount.';
comment on column amzmp.return_item.refunded_amount is 'What Amazon says was given back.';
comment on column amzmp.return_item.late is 'Was it asked for later than refundable_days after the order?';
comment on column amzmp.return_item.details is 'What else the report says, by column; the buyer''s comment is not kept.';
comment on column amzmp.return_item.accepted_by is 'Who had it handed over although it is late.';
comment on column amzmp.return_item.state is 'new; delivered: the shop''s function has taken it; quarantined: that failed, see failure_reason.';
comment on column amzmp.return_item.failure_reason is 'Why it is quarantined.';
comment on column amzmp.return_item.tries is 'How often the shop''s function failed.';
comment on column amzmp.return_item.delivered_number is 'The shop''s number of the return.';
comment on column amzmp.return_item.delivered_at is 'When the shop''s function took it.';
comment on column amzmp.return_item.first_seen_at is 'When a report first named it.';
comment on column amzmp.return_item.last_seen_at is 'When a report last named it.';

create view amzmp.returns with (security_invoker = true) as
select a.name as account, r.return_key, r.returned_to, r.amazon_order_id, o.order_number, o.delivered_number as shop_order,
    r.order_item_id, r.sku, i.shop_sku, r.quantity, r.requested_at, r.received_at, r.status, r.resolution, r.reason_code,
    coalesce(m.value ->> r.reason_code, d.value #>> '{}') as shop_reason, c.meaning, r.disposition, r.late, r.state,
    r.failure_reason, r.delivered_number, r.refunded_amount, r.currency, r.account_id
from amzmp.return_item as r
join amzmp.account as a on a.account_id = r.account_id
left join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (r.account_id, r.amazon_order_id)
left join amzmp.order_item as i
    on (i.account_id, i.amazon_order_id, i.order_item_id) = (r.account_id, r.amazon_order_id, r.order_item_id)
left join amzmp.return_code as c on c.code = r.reason_code
left join amzmp.setting as m on (m.account_id, m.channel_id, m.name) = (r.account_id, 0, 'refund_reasons')
left join amzmp.setting as d on (d.account_id, d.channel_id, d.name) = (r.account_id, 0, 'default_reason');

comment on view amzmp.returns is 'Returns with the shop''s reasons (settings refund_reasons and default_reason).';
comment on column amzmp.returns.account is 'The account that sold.';
comment on column amzmp.returns.return_key is 'The return.';
comment on column amzmp.returns.returned_to is 'merchant or amazon.';
comment on column amzmp.returns.amazon_order_id is 'The order.';
comment on column amzmp.returns.order_number is 'Its number by the format of the account; null where the order was not imported.';
comment on column amzmp.returns.shop_order is 'Its number in the shop.';
comment on column amzmp.returns.order_item_id is 'The order line.';
comment on column amzmp.returns.sku is 'The SKU at Amazon.';
comment on column amzmp.returns.shop_sku is 'The shop''s SKU.';
comment on column amzmp.returns.quantity is 'Units.';
comment on column amzmp.returns.requested_at is 'When the return was asked for.';
comment on column amzmp.returns.received_at is 'When it was delivered back.';
comment on column amzmp.returns.status is 'Amazon''s status.';
comment on column amzmp.returns.resolution is 'What comes of it.';
comment on column amzmp.returns.reason_code is 'Amazon''s code of the reason.';
comment on column amzmp.returns.shop_reason is 'The shop''s reason.';
comment on column amzmp.returns.meaning is 'What Amazon''s code means.';
comment on column amzmp.returns.disposition is 'In what state a warehouse found it.';
comment on column amzmp.returns.late is 'Was it asked for too late?';
comment on column amzmp.returns.state is 'new, delivered or quarantined.';
comment on column amzmp.returns.failure_reason is 'Why it is quarantined.';
comment on column amzmp.returns.delivered_number is 'The shop''s number of the return.';
comment on column amzmp.returns.refunded_amount is 'What was given back, by the report.';
comment on column amzmp.returns.currency is 'Currency of the amount.';
comment on column amzmp.returns.account_id is 'The account''s id.';

create view amzmp.return_reason with (security_invoker = true) as
select a.name as account, k.code, c.meaning, coalesce(m.value ->> k.code, d.value #>> '{}') as shop_reason,
    m.value ->> k.code is not null as mapped, k.items, a.account_id
from amzmp.account as a
cross join lateral (
    select x.code, sum(x.items)::bigint as items
    from (
        select r.code, 0 as items from amzmp.return_code as r
        union all
        select r.reason_code, count(*)
        from amzmp.return_item as r
        where r.account_id = a.account_id
            and r.reason_code is not null
        group by r.reason_code
    ) as x
    group by x.code
) as k
left join amzmp.return_code as c on c.code = k.code
left join amzmp.setting as m on (m.account_id, m.channel_id, m.name) = (a.account_id, 0, 'refund_reasons')
left join amzmp.setting as d on (d.account_id, d.channel_id, d.name) = (a.account_id, 0, 'default_reason');

comment on view amzmp.return_reason is 'Amazon''s reasons for returns, those known and those seen, with the shop''s reason for each account.';
comment on column amzmp.return_reason.account is 'The account.';
comment on column amzmp.return_reason.code is 'Amazon''s code.';
comment on column amzmp.return_reason.meaning is 'What it means; null where it is not known here.';
comment on column amzmp.return_reason.shop_reason is 'The shop''s reason.';
comment on column amzmp.return_reason.mapped is 'Is it in refund_reasons? Else it gets default_reason.';
comment on column amzmp.return_reason.items is 'How many returns had it.';
comment on column amzmp.return_reason.account_id is 'The account''s id.';

create function amzmp._map_return_reason(account text, code text, shop_reason text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    acc constant bigint := (amzmp._account(account)).account_id;
    mapping constant jsonb := coalesce(amzmp._setting_value(acc, 0, 'refund_reasons'), '{}');
begin
    if coalesce(btrim(code), '') = '' then
        perform amzmp._fail('AZ202', 'Amazon''s code of the reason is missing', null, 'select code, meaning from amzmp.return_code;');
    end if;
    insert into amzmp.setting (account_id, channel_id, name, value, set_by)
    values (acc, 0, 'refund_reasons',
        case when shop_reason is null then mapping - code else mapping || jsonb_build_object(code, shop_reason) end, amzmp._caller())
    on conflict on constraint setting_pkey do update
    set value = excluded.value,
        set_at = excluded.set_at,
        set_by = excluded.set_by;
end
$$;

select amzmp._expose('amzmp._map_return_reason(text, text, text)', 'amzmp_operator',
    'Says which of the shop''s reasons one of Amazon''s reasons for returns is; null: none, so that it gets default_reason. Writes the setting refund_reasons.');

-- Has a return of an order begun, that is not over?
create function amzmp._return_has_begun(account_id bigint, amazon_order_id text)
    returns boolean
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select exists (
            select
            from amzmp.return_item as r
            where (r.account_id, r.amazon_order_id) = (_return_has_begun.account_id, _return_has_begun.amazon_order_id)
                and coalesce(r.status, '') !~* '(closed|reject|denied|declin|cancel)'
        );
end;
