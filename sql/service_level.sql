/*
 * service_level.sql
 *	  Amazon's shipping service levels, and with which of the shop's carriers and methods each is shipped.
 *
 * The levels are reference data; others that orders name are listed as well. Written by map_service (order_for_shop.sql).
 */
create table amzmp.service_level (
    service_level text primary key,
    meaning text not null
);

comment on table amzmp.service_level is 'Amazon''s shipping service levels that are known here. Others are kept as they come. Reference data.';
comment on column amzmp.service_level.service_level is 'Amazon''s word.';
comment on column amzmp.service_level.meaning is 'What the buyer chose.';

insert into amzmp.service_level (service_level, meaning)
values
    ('STANDARD', 'Standard shipping'),
    ('EXPEDITED', 'Faster than standard'),
    ('SECOND_DAY', 'Delivered on the second day'),
    ('NEXT_DAY', 'Delivered on the next day'),
    ('SAME_DAY', 'Delivered on the day of the order'),
    ('PRIORITY', 'Priority shipping'),
    ('SCHEDULED', 'Delivered at an appointed time'),
    ('FREE_ECONOMY', 'Slower than standard, and free');

create view amzmp.service_method with (security_invoker = true) as
with open as materialized (
    select o.account_id, o.channel_id, o.service_level, count(*) as orders
    from amzmp.orders as o
    where o.purchased_at > now() - interval '60 days'
        and o.status in ('UNSHIPPED', 'PARTIALLY_SHIPPED')
        and o.fulfilled_by is distinct from 'AMAZON'
        and o.service_level is not null
    group by o.account_id, o.channel_id, o.service_level
)
select a.name as account, c.name as channel, l.service_level, k.meaning, coalesce(m.carrier, n.carrier) as carrier,
    coalesce(m.method, n.method) as method, coalesce(m.carrier, n.carrier) is not null as mapped, coalesce(w.orders, 0) as open_orders,
    a.account_id, c.channel_id
from amzmp.channel as c
join amzmp.account as a on a.account_id = c.account_id
cross join lateral (
    select s.service_level from amzmp.service_level as s
    union
    select x.service_level from open as x where (x.account_id, x.channel_id) = (c.account_id, c.channel_id)
) as l
left join open as w on (w.account_id, w.channel_id, w.service_level) = (c.account_id, c.channel_id, l.service_level)
left join amzmp.service_level as k on k.service_level = l.service_level
left join amzmp.service_map as m on (m.account_id, m.channel_id, m.service_level) = (c.account_id, c.channel_id, l.service_level)
left join amzmp.service_map as n on (n.account_id, n.channel_id, n.service_level) = (c.account_id, 0, l.service_level) and m.carrier is null
where not c.dropped;

comment on view amzmp.service_method is 'With which carrier and method the shop ships each of Amazon''s service levels, by channel (map_service), and how many open orders have it. Those that are not mapped get the setting default_carrier.';
comment on column amzmp.service_method.account is 'The account.';
comment on column amzmp.service_method.channel is 'The channel.';
comment on column amzmp.service_method.service_level is 'Amazon''s service level.';
comment on column amzmp.service_method.meaning is 'What it means; null where it is not known here.';
comment on column amzmp.service_method.carrier is 'The shop''s carrier.';
comment on column amzmp.service_method.method is 'The shop''s shipping method.';
comment on column amzmp.service_method.mapped is 'Has map_service said so, for the channel or the account?';
comment on column amzmp.service_method.open_orders is 'Orders of the last 60 days that the merchant is still to ship so.';
comment on column amzmp.service_method.account_id is 'The account''s id.';
comment on column amzmp.service_method.channel_id is 'The channel''s id.';
