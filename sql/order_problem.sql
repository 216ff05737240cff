/*
 * order_problem.sql
 *	  Every order that waits for somebody, in one place, with the reason and what to do.
 *
 * Held by the decision table (order_settle.sql), refused by the shop or not even imported (order_retry.sql), not followed up, its
 * progress not told, or with amounts that do not add up. Follow-ups and amounts concern orders of the last 60 days, which an index finds.
 */
create view amzmp.order_problem with (security_invoker = true) as
select a.name as account, c.name as channel, x.amazon_order_id, o.order_number, o.status, x.state, x.reason, x.remedy, x.next_try,
    o.purchased_at, o.ship_by, o.grand_total, o.currency, x.account_id
from (
    select w.account_id, w.amazon_order_id, w.import_state as state,
        case w.import_state
            when 'held_unknown_item' then 'the shop does not know ' || coalesce((
                    select string_agg(distinct i.sku, ', ' order by i.sku)
                    from amzmp.order_item as i
                    where (i.account_id, i.amazon_order_id) = (w.account_id, w.amazon_order_id)
                        and i.shop_sku is null
                ), 'one of its items')
            when 'held_short_stock' then 'the shop has less than it takes'
            when 'held_disabled_item' then 'the shop does not sell its product at present'
            else w.failure_reason
        end as reason,
        case w.import_state
            when 'held_unknown_item' then 'amzmp.link_item(account, amazon_sku, sku), or amzmp.create_item(account, amazon_sku).'
            when 'held_short_stock' then 'Stock that comes lets it go on; amzmp.redeliver(channel, order_ids) hands it over as a backorder.'
            when 'held_disabled_item' then 'Selling the product again lets it go on; so does amzmp.redeliver(channel, order_ids).'
            else concat_ws(' ', p.remedy, 'Then amzmp.redeliver(channel).')
        end as remedy,
        case when not p.gave_up then p.until end as next_try
    from amzmp.orders as w
    left join amzmp.penalised as p on (p.account_id, p.channel_id, p.kind, p.subject) = (w.account_id, w.channel_id, 'order', w.amazon_order_id)
    where w.import_state in ('held_unknown_item', 'held_short_stock', 'held_disabled_item', 'quarantined')
        and w.status is distinct from 'CANCELLED'
    union all
    select p.account_id, p.subject, 'not_imported', p.message, p.remedy, case when not p.gave_up then p.until end
    from amzmp.penalised as p
    where (p.channel_id, p.kind, p.code) = (0, 'order', 'ORDER_NOT_IMPORTED')
    union all
    select p.account_id, p.amazon_order_id, 'not_told', format('the shop''s function was not told that it is %s: %s', p.event, p.failure_reason),
        'Mend what the function says, then amzmp.tell_progress(account).', null
    from amzmp.order_progress as p
    where p.state = 'failed'
    union all
    select w.account_id, w.amazon_order_id, s.state, s.reason, s.remedy, null
    from amzmp.orders as w
    cross join lateral (
        values ('not_followed_up', w.follow_up_failure, 'Mend what the function says, then amzmp.follow_up(channel).',
                w.follow_up_failure is not null and w.followed_up_at is null),
            ('totals_differ', 'its parts do not add up to its grand total', 'Amazon''s grand total counts; look at the amounts before it is booked.',
                not w.totals_agree)
    ) as s (state, reason, remedy, holds)
    where w.purchased_at > now() - interval '60 days'
        and s.holds
) as x
join amzmp.account as a on a.account_id = x.account_id
left join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (x.account_id, x.amazon_order_id)
left join amzmp.channel as c on (c.account_id, c.channel_id) = (o.account_id, o.channel_id);

comment on view amzmp.order_problem is 'Orders that wait for somebody: held, refused by the shop, not imported, not followed up, their progress not told, or with amounts that do not add up; each with the reason and what to do. What stands in the way of their shipments is in amzmp.shipment_problem.';
comment on column amzmp.order_problem.account is 'The account that sold.';
comment on column amzmp.order_problem.channel is 'The channel; null: its marketplace is none, or the order was never imported.';
comment on column amzmp.order_problem.amazon_order_id is 'The order.';
comment on column amzmp.order_problem.order_number is 'Its number by the format of the account; null where it was never imported.';
comment on column amzmp.order_problem.status is 'Amazon''s status of it.';
comment on column amzmp.order_problem.state is 'held_unknown_item, held_short_stock, held_disabled_item, quarantined (see amzmp.orders.import_state); not_imported; not_followed_up; not_told (tell_progress_to); totals_differ.';
comment on column amzmp.order_problem.reason is 'Why, without personal data.';
comment on column amzmp.order_problem.remedy is 'What to do.';
comment on column amzmp.order_problem.next_try is 'When it is tried again by itself; null: not, or as soon as what it waits for happens.';
comment on column amzmp.order_problem.purchased_at is 'When the buyer ordered.';
comment on column amzmp.order_problem.ship_by is 'Latest time to ship.';
comment on column amzmp.order_problem.grand_total is 'What the buyer pays.';
comment on column amzmp.order_problem.currency is 'Its currency.';
comment on column amzmp.order_problem.account_id is 'The account''s id.';

-- Inner, for health(): orders, shipments and buyers that wait for somebody, by account. Counted by the indexes of what is open.
create function amzmp._order_health()
    returns table (check_name text, state text, detail text, remedy text)
    language sql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
begin atomic
    with waiting as (
        select o.account_id, 'orders' as kind, o.import_state as what, count(*) as n
        from amzmp.orders as o
        where o.import_state in ('held_unknown_item', 'held_short_stock', 'held_disabled_item', 'quarantined')
            and o.status is distinct from 'CANCELLED'
        group by o.account_id, o.import_state
        union all
        select s.account_id, 'shipments', s.state, count(*)
        from amzmp.shipment as s
        where s.state in ('held', 'refused')
        group by s.account_id, s.state
        union all
        select r.account_id, 'shipments', 'rows held', count(*)
        from amzmp.shipment_row as r
        where r.state = 'held'
        group by r.account_id
        union all
        select c.account_id, 'cancellations', 'asked for by the buyer', count(*)
        from amzmp.cancellation as c
        where c.state = 'requested'
        group by c.account_id
    )
    select w.kind || ' ' || n.name, 'warning', string_agg(format('%s %s', w.n, w.what), ', ' order by w.what),
        format('select * from amzmp.%s where account = %L;',
            case w.kind when 'orders' then 'order_problem' when 'shipments' then 'shipment_problem' else 'cancellation_request' end, n.name)
    from waiting as w
    join amzmp._names() as n on (n.account_id, n.channel_id) = (w.account_id, 0)
    group by w.kind, n.name
    order by 1;
end;
