/*
 * order_gap.sql
 *	  What orders lack, and whether Amazon withholds it or it is not there: addresses that a role is missing for, and old orders
 *	  that only a report knows.
 *
 * The interface is the truth. A report's figures are provisional (of orders that merchants ship, its quantities may be wrong):
 * they stand in views of their own, make no order and move no stock, until confirm_orders has fetched the order itself.
 */
create view amzmp.address_gap with (security_invoker = true) as
select a.name as account, count(*) filter (where o.has_address) as with_address,
    count(*) filter (where not o.has_address) as without_address,
    case when count(*) filter (where not o.has_address) = 0 then 'none'
         when count(*) filter (where o.has_address) = 0 then 'role'
         -- the role was lost: none of those that came last has one
         when count(*) filter (where not o.has_address) >= 3
              and min(o.imported_at) filter (where not o.has_address) > max(o.imported_at) filter (where o.has_address) then 'role'
         else 'data' end as missing,
    coalesce(array_agg(o.amazon_order_id order by o.purchased_at desc) filter (where not o.has_address), '{}') as amazon_order_ids,
    o.account_id
from amzmp.orders o
join amzmp.account a on a.account_id = o.account_id
where o.status in ('UNSHIPPED', 'PARTIALLY_SHIPPED') and o.fulfilled_by = 'MERCHANT' and o.complete and o.personal_purged_at is null
group by o.account_id, a.name;

comment on view amzmp.address_gap is 'Orders that the merchant is to send and whose address Amazon has not sent. If that is so for all of an account, or for all of the last ones (three at least), the application lacks the role for it; if for some, Amazon has no address of just those.';
comment on column amzmp.address_gap.account is 'The account.';
comment on column amzmp.address_gap.with_address is 'Open orders whose address is there.';
comment on column amzmp.address_gap.without_address is 'Open orders without one.';
comment on column amzmp.address_gap.missing is 'none: nothing; role: the application may not see buyers'' data (Direct-to-Consumer Delivery); data: Amazon has not sent it for these orders, fetch_order asks again.';
comment on column amzmp.address_gap.amazon_order_ids is 'The orders without an address, newest first.';
comment on column amzmp.address_gap.account_id is 'The account''s id.';

-- Inner, for health(): accounts whose application may not see buyers' data, by the orders of the last two weeks (three at least):
-- these are found by an index, however many orders there are.
create function amzmp._address_health() returns table (check_name text, state text, detail text, remedy text)
    language sql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
    with recent as (
        select o.account_id, count(*) filter (where not o.has_address) as without_address,
               min(o.imported_at) filter (where not o.has_address) as first_without,
               max(o.imported_at) filter (where o.has_address) as last_with
          from amzmp.orders o
         where o.purchased_at > now() - interval '14 days'
           and o.status in ('UNSHIPPED', 'PARTIALLY_SHIPPED') and o.fulfilled_by = 'MERCHANT' and o.complete and o.personal_purged_at is null
         group by o.account_id
    )
    select 'addresses ' || n.name, 'warning',
           format('%s open orders have no address: the application may not see buyers'' data', r.without_address),
           format('Give the application the role Direct-to-Consumer Delivery at Amazon and have the seller authorise it again; then select amzmp.fetch_order(%L, unnest(amazon_order_ids)) from amzmp.address_gap where account = %1$L;',
                  n.name)
      from recent r
      join amzmp._names() n on n.account_id = r.account_id and n.channel_id = 0
     where r.without_address >= 3 and coalesce(r.first_without > r.last_with, true);
$$;

/* ---- old orders ---- */

create function amzmp._backfill_orders(account text, since timestamptz, until timestamptz default null) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    return amzmp._request_report(account, 'GET_FLAT_FILE_ALL_ORDERS_DATA_BY_ORDER_DATE_GENERAL', since, until);
end
$$;

select amzmp._expose('amzmp._backfill_orders(text, timestamptz, timestamptz)', 'amzmp_operator',
    'Asks Amazon for a report of the orders placed in a range of at most 30 days, and returns its number in amzmp.report. Its figures are provisional: amzmp.order_difference lists what is not imported, or differs; confirm_orders fetches those orders.');

-- Reports state prices with the tax in them where the marketplace's prices have it, the interface without; and they have
-- words of their own for states: Canceled, Shipped - Delivered to Buyer.
create view amzmp.order_difference with (security_invoker = true) as
with reported as (
    select r.account, r.amazon_order_id, r.sku, max(r.as_of) as as_of, min(r.purchased_at) as purchased_at,
        coalesce(max(r.last_updated_at), max(r.as_of)) as last_updated_at, min(r.order_status) as status,
        sum(r.quantity) as quantity, sum(r.item_price) as item_price
    from amzmp.order_report r
    group by r.account, r.amazon_order_id, r.sku
)
select r.account, r.amazon_order_id, r.sku, r.purchased_at, d.difference, d.reported, d.imported, r.as_of, a.account_id
from reported r
join amzmp.account a on a.name = r.account
left join amzmp.orders o on o.account_id = a.account_id and o.amazon_order_id = r.amazon_order_id
left join lateral (
        select sum(x.quantity_ordered) as quantity, sum(x.item_price) as item_price, sum(x.item_price + coalesce(x.item_tax, 0)) as with_tax
          from amzmp.order_item x
         where x.account_id = a.account_id and x.amazon_order_id = r.amazon_order_id and x.sku = r.sku) as i on true
cross join lateral (
        select upper(regexp_replace(regexp_replace(split_part(r.status, ' - ', 1), '([a-z])([A-Z])', '\1_\2', 'g'), '\s+', '_', 'g')) as word
       ) as s
cross join lateral (
        values ('not imported', r.quantity::text, null, o.amazon_order_id is null),
               ('status', r.status, o.status, case s.word when 'CANCELED' then 'CANCELLED' when 'SHIPPING' then 'UNSHIPPED' else s.word end <> o.status
                and o.last_updated_at <= r.last_updated_at),
               ('quantity', r.quantity::text, i.quantity::text, o.status <> 'CANCELLED' and r.quantity is distinct from i.quantity),
               ('item price', r.item_price::text, i.item_price::text,
                o.status <> 'CANCELLED' and r.item_price not in (i.item_price, i.with_tax))
       ) as d (difference, reported, imported, holds)
where d.holds;

comment on view amzmp.order_difference is 'Where order reports (backfill_orders) and the imported orders differ. What was imported counts: the report''s figures are provisional and move no stock.';
comment on column amzmp.order_difference.account is 'The account.';
comment on column amzmp.order_difference.amazon_order_id is 'The order.';
comment on column amzmp.order_difference.sku is 'The SKU at Amazon.';
comment on column amzmp.order_difference.purchased_at is 'When it was ordered.';
comment on column amzmp.order_difference.difference is 'not imported, status, quantity or item price.';
comment on column amzmp.order_difference.reported is 'What the report says: the units of an order that is not imported.';
comment on column amzmp.order_difference.imported is 'What the interface said.';
comment on column amzmp.order_difference.as_of is 'When Amazon was asked for the report.';
comment on column amzmp.order_difference.account_id is 'The account''s id.';

create function amzmp._confirm_orders(account text, amazon_order_ids text[] default null) returns integer
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    acc bigint := (amzmp._account(account)).account_id;
    asked integer;
begin
    select count(amzmp._request_order(acc, u.id, jsonb_build_object('role', amzmp._caller(), 'at', now()))) into asked
      from (select distinct d.amazon_order_id as id
              from amzmp.order_difference d
             where d.account_id = acc and (amazon_order_ids is null or d.amazon_order_id = any (amazon_order_ids))) as u
     where not exists (select from amzmp.request r where r.account_id = acc and r.subject_kind = 'order' and r.subject = u.id);
    return asked;
end
$$;

select amzmp._expose('amzmp._confirm_orders(text, text[])', 'amzmp_operator',
    'Fetches the orders of amzmp.order_difference from Amazon''s interface, those named or all, and imports them as any other. Returns how many are asked for.');
