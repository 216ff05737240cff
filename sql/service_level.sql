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
select a.name as account, c.name as channel, l.service_level, k.meaning, coalesce(m.carrier, o.carrier) as carrier,
    coalesce(m.method, o.method) as method, coalesce(m.carrier, o.carrier) is not null as mapped, l.open_orders, a.account_id, c.channel_id
from amzmp.channel as c
join amzmp.account as a on a.account_id = c.account_id
cross join lateral (
    select x.service_level, sum(x.orders)::bigint as open_orders
    from (
        select s.service_level, 0 as orders from amzmp.service_level as s
        union all
        select w.service_level, count(*)
        from amzmp.orders as w
        where w.purchased_at > now() - interval '60 days'
            and (w.account_id, w.channel_id) = (c.account_id, c.channel_id)
            and w.status in ('UNSHIPPED', 'PARTIALLY_SHIPPED')
            and w.fulfilled_by is distinct from 'AMAZON'
            and w.service_level is not null
        group by w.service_level
    ) as x
    group by x.service_level
) as l
left join amzmp.service_level as k on k.service_level = l.service_level
left join amzmp.service_map as m on (m.account_id, m.channel_id, m.service_level) = (c.account_id, c.channel_id, l.service_level)
left join amzmp.service_map as o on (o.account_id, o.channel_id, o.service_level) = (c.account_id, 0, l.service_level) and m.carrier is null
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
