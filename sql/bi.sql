/*
 * bi.sql
 *	  Views for dashboards: what sold when, what has to be shipped and whether it can be, what failed.
 *
 * They read as whoever asks, so that a role limited to accounts sees its own, hold nothing of buyers, and read by an index on
 * time or on what is open: their cost follows what they show, not how many orders there ever were.
 */
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, choices, description)
values
    (true, 'ship_risk', 'account', 'interval', 'Shipping is at risk within', '"24:00:00"', 0, 2592000, null,
        'An order that must be shipped within this time, counted on shipping_days, is at risk in amzmp.ship_risk.'),
    (true, 'shipping_days', 'account', 'list', 'Days on which is shipped', '["mon", "tue", "wed", "thu", "fri", "sat", "sun"]', null, null,
        '["mon", "tue", "wed", "thu", "fri", "sat", "sun"]', 'The days (of the session''s time zone) whose hours count in amzmp.ship_risk.');

create index orders_to_ship on amzmp.orders (ship_by) where status in ('UNSHIPPED', 'PARTIALLY_SHIPPED') and fulfilled_by = 'MERCHANT';

/* ---- what has to be shipped ---- */

-- Open orders of the merchant's: one row each. Stock blocks an order when a line's product is not known to the shop, or sold
-- beyond what the shop has.
create view amzmp.ship_risk with (security_invoker = true) as
select a.name as account, c.name as channel, o.amazon_order_id, o.order_number, o.purchased_at, o.ship_by, l.time_left,
    i.units, i.blocking_skus,
    case when o.ship_by < now() then 'overdue'
         when i.blocking_skus <> '{}' or o.short_stock then 'stock_blocked'
         when l.time_left <= s.at_risk then 'at_risk'
         else 'on_track' end as risk,
    o.is_prime, o.account_id, o.channel_id
from amzmp.orders o
join amzmp.account a on a.account_id = o.account_id
left join amzmp.channel c on c.account_id = o.account_id and c.channel_id = o.channel_id
cross join lateral (
    select (max(v.value #>> '{}') filter (where v.name = 'ship_risk'))::interval as at_risk,
           max(v.value::text) filter (where v.name = 'shipping_days')::jsonb as days
    from (select f.name, coalesce(x.value, f.default_value) as value
            from amzmp.setting_definition f
            left join amzmp.setting x on x.account_id = o.account_id and x.channel_id = 0 and x.name = f.name
           where f.name in ('ship_risk', 'shipping_days')) as v) as s
cross join lateral (
    -- of each day until then the part that lies ahead; a year at the most, whatever Amazon says
    select coalesce(sum(least(o.ship_by, d + interval '1 day') - greatest(now(), d)), '0') as time_left
    from generate_series(date_trunc('day', now()), least(o.ship_by, now() + interval '1 year'), interval '1 day') d
    where s.days ? to_char(d, 'dy')) as l
cross join lateral (
    select sum(coalesce(x.quantity_unfulfilled, x.quantity_ordered)) as units,
           array_agg(distinct coalesce(x.shop_sku, x.sku)) filter (where x.shop_sku is null or p.quantity < 0) as blocking_skus
    from amzmp.order_item x
    left join lateral (select sum(q.quantity) as quantity from amzmp.product q
                        where q.account_id = x.account_id and q.sku = x.shop_sku and not q.gone) as p on true
    where x.account_id = o.account_id and x.amazon_order_id = o.amazon_order_id
      and coalesce(x.quantity_unfulfilled, x.quantity_ordered) > 0) as i
where o.status in ('UNSHIPPED', 'PARTIALLY_SHIPPED') and o.fulfilled_by = 'MERCHANT';

comment on view amzmp.ship_risk is 'Open orders that the merchant ships, and whether they can be shipped in time. Days are those of the session''s time zone.';
comment on column amzmp.ship_risk.account is 'The account.';
comment on column amzmp.ship_risk.channel is 'The channel; null: a marketplace that is none.';
comment on column amzmp.ship_risk.amazon_order_id is 'Amazon''s order number.';
comment on column amzmp.ship_risk.order_number is 'The order''s number here.';
comment on column amzmp.ship_risk.purchased_at is 'When the buyer ordered.';
comment on column amzmp.ship_risk.ship_by is 'The latest time to ship.';
comment on column amzmp.ship_risk.time_left is 'The time until then that lies on shipping_days.';
comment on column amzmp.ship_risk.units is 'Units still to ship.';
comment on column amzmp.ship_risk.blocking_skus is 'SKUs that the shop does not know, or has sold more of than it has.';
comment on column amzmp.ship_risk.risk is 'overdue; stock_blocked (see blocking_skus); at_risk (less time than the setting ship_risk); on_track.';
comment on column amzmp.ship_risk.is_prime is 'Is it a Prime order?';
comment on column amzmp.ship_risk.account_id is 'Number of the account.';
comment on column amzmp.ship_risk.channel_id is 'Number of the channel; 0 where it is none.';

-- The same counted by when it is due, in the session's time zone.
create view amzmp.open_shipments with (security_invoker = true) as
select a.name as account, c.name as channel, d.due, count(*) as orders, min(o.ship_by) as first_ship_by,
    count(*) filter (where o.is_prime) as prime_orders, o.account_id, o.channel_id
from amzmp.orders o
join amzmp.account a on a.account_id = o.account_id
left join amzmp.channel c on c.account_id = o.account_id and c.channel_id = o.channel_id
cross join lateral (
    select case when o.ship_by < now() then 'overdue'
                when o.ship_by < date_trunc('day', now()) + interval '1 day' then 'today'
                when o.ship_by < date_trunc('day', now()) + interval '2 days' then 'tomorrow'
                when o.ship_by is null then 'unknown'
                else 'later' end as due) as d
where o.status in ('UNSHIPPED', 'PARTIALLY_SHIPPED') and o.fulfilled_by = 'MERCHANT'
group by o.account_id, o.channel_id, a.name, c.name, d.due;

comment on view amzmp.open_shipments is 'Open orders that the merchant ships, counted by when they are due.';
comment on column amzmp.open_shipments.account is 'The account.';
comment on column amzmp.open_shipments.channel is 'The channel; null: a marketplace that is none.';
comment on column amzmp.open_shipments.due is 'overdue, today, tomorrow, later, or unknown.';
comment on column amzmp.open_shipments.orders is 'How many orders.';
comment on column amzmp.open_shipments.first_ship_by is 'The first of their latest times to ship.';
comment on column amzmp.open_shipments.prime_orders is 'How many of them are Prime.';
comment on column amzmp.open_shipments.account_id is 'Number of the account.';
comment on column amzmp.open_shipments.channel_id is 'Number of the channel; 0 where it is none.';

/* ---- what was sold ---- */

create view amzmp.sales_by_hour with (security_invoker = true) as
select a.name as account, c.name as channel, date_trunc('hour', o.purchased_at) as hour, o.currency, count(*) as orders,
    count(*) filter (where o.status = 'CANCELLED') as cancelled, count(*) filter (where o.status = 'PENDING') as pending,
    sum(o.grand_total) filter (where o.status is distinct from 'CANCELLED') as sales, o.account_id, o.channel_id
from amzmp.orders o
join amzmp.account a on a.account_id = o.account_id
left join amzmp.channel c on c.account_id = o.account_id and c.channel_id = o.channel_id
where o.purchased_at >= date_trunc('hour', now()) - interval '7 days'
group by o.account_id, o.channel_id, a.name, c.name, 3, o.currency;

comment on view amzmp.sales_by_hour is 'Orders and sales of the last seven days by the hour in which they were placed. Currencies stand apart: none is converted.';
comment on column amzmp.sales_by_hour.account is 'The account.';
comment on column amzmp.sales_by_hour.channel is 'The channel; null: a marketplace that is none.';
comment on column amzmp.sales_by_hour.hour is 'The hour.';
comment on column amzmp.sales_by_hour.currency is 'Currency of sales; null: Amazon has told no amounts yet.';
comment on column amzmp.sales_by_hour.orders is 'Orders placed.';
comment on column amzmp.sales_by_hour.cancelled is 'How many of them were cancelled since.';
comment on column amzmp.sales_by_hour.pending is 'How many are not paid yet.';
comment on column amzmp.sales_by_hour.sales is 'What buyers pay for those that were not cancelled.';
comment on column amzmp.sales_by_hour.account_id is 'Number of the account.';
comment on column amzmp.sales_by_hour.channel_id is 'Number of the channel; 0 where it is none.';

create view amzmp.sales_by_day with (security_invoker = true) as
select a.name as account, c.name as channel, date_trunc('day', o.purchased_at)::date as day, o.currency, count(*) as orders,
    count(*) filter (where o.status = 'CANCELLED') as cancelled, count(*) filter (where o.status = 'PENDING') as pending,
    sum(o.grand_total) filter (where o.status is distinct from 'CANCELLED') as sales, o.account_id, o.channel_id
from amzmp.orders o
join amzmp.account a on a.account_id = o.account_id
left join amzmp.channel c on c.account_id = o.account_id and c.channel_id = o.channel_id
where o.purchased_at >= date_trunc('day', now()) - interval '31 days'
group by o.account_id, o.channel_id, a.name, c.name, 3, o.currency;

comment on view amzmp.sales_by_day is 'Orders and sales of the last 31 days by the day (of the session''s time zone) on which they were placed. Currencies stand apart: none is converted.';
comment on column amzmp.sales_by_day.account is 'The account.';
comment on column amzmp.sales_by_day.channel is 'The channel; null: a marketplace that is none.';
comment on column amzmp.sales_by_day.day is 'The day.';
comment on column amzmp.sales_by_day.currency is 'Currency of sales; null: Amazon has told no amounts yet.';
comment on column amzmp.sales_by_day.orders is 'Orders placed.';
comment on column amzmp.sales_by_day.cancelled is 'How many of them were cancelled since.';
comment on column amzmp.sales_by_day.pending is 'How many are not paid yet.';
comment on column amzmp.sales_by_day.sales is 'What buyers pay for those that were not cancelled.';
comment on column amzmp.sales_by_day.account_id is 'Number of the account.';
comment on column amzmp.sales_by_day.channel_id is 'Number of the channel; 0 where it is none.';

/* ---- what came back, what failed ---- */

create index return_item_requested on amzmp.return_item (requested_at);

create view amzmp.returns_by_reason with (security_invoker = true) as
select a.name as account, date_trunc('month', r.requested_at)::date as month, r.returned_to, r.reason_code, m.meaning, r.currency,
    count(*) as returns, sum(r.quantity) as units, count(distinct r.sku) as skus, sum(r.refunded_amount) as refunded, r.account_id
from amzmp.return_item r
join amzmp.account a on a.account_id = r.account_id
left join amzmp.return_code m on m.code = r.reason_code
where r.requested_at >= date_trunc('month', now()) - interval '12 months'
group by r.account_id, a.name, 2, r.returned_to, r.reason_code, m.meaning, r.currency;

comment on view amzmp.returns_by_reason is 'Returns of the last twelve months by month and reason.';
comment on column amzmp.returns_by_reason.account is 'The account.';
comment on column amzmp.returns_by_reason.month is 'The month in which they were asked for.';
comment on column amzmp.returns_by_reason.returned_to is 'merchant or amazon.';
comment on column amzmp.returns_by_reason.reason_code is 'Amazon''s reason.';
comment on column amzmp.returns_by_reason.meaning is 'What it means, where that is known.';
comment on column amzmp.returns_by_reason.currency is 'Currency of what was refunded.';
comment on column amzmp.returns_by_reason.returns is 'How many returns.';
comment on column amzmp.returns_by_reason.units is 'How many units.';
comment on column amzmp.returns_by_reason.skus is 'How many different SKUs.';
comment on column amzmp.returns_by_reason.refunded is 'What was refunded.';
comment on column amzmp.returns_by_reason.account_id is 'Number of the account.';

create view amzmp.errors_by_day with (security_invoker = true) as
select a.name as account, date_trunc('day', l.at)::date as day, l.subject_kind, count(*) filter (where l.level = 'error') as errors,
    count(*) filter (where l.level = 'warning') as warnings, l.account_id
from amzmp.activity l
left join amzmp.account a on a.account_id = l.account_id
where l.at >= date_trunc('day', now()) - interval '7 days' and l.level in ('warning', 'error')
group by l.account_id, a.name, 2, l.subject_kind;

comment on view amzmp.errors_by_day is 'Errors and warnings of the last seven days, counted by day and kind.';
comment on column amzmp.errors_by_day.account is 'The account; null: what belongs to none.';
comment on column amzmp.errors_by_day.day is 'The day, in the session''s time zone.';
comment on column amzmp.errors_by_day.subject_kind is 'What they were about: listing, order, flow …';
comment on column amzmp.errors_by_day.errors is 'Errors.';
comment on column amzmp.errors_by_day.warnings is 'Warnings.';
comment on column amzmp.errors_by_day.account_id is 'Number of the account, 0 for what belongs to none.';
