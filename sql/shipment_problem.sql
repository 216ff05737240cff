/*
 * shipment_problem.sql
 *	  What stands in the way of shipments, with the remedy, and trying again.
 */
create view amzmp.shipment_problem with (security_invoker = true) as
select a.name as account, x.amazon_order_id, x.order_reference, x.package_reference, x.source_id, x.row_key, x.state, x.reason,
    coalesce(x.hint, m.remedy) as remedy, x.carrier, x.tracking, x.since, o.ship_by, m.error, m.meaning, x.account_id
from (
    select s.account_id, s.amazon_order_id, s.amazon_order_id as order_reference, s.package_reference, s.source_id, s.row_key,
        s.state, s.code, s.reason, null as hint, s.carrier, s.tracking, s.created_at as since
    from amzmp.shipment as s
    where s.state in ('held', 'refused')
    union all
    select r.account_id, r.amazon_order_id, r.order_reference, r.package_reference, r.source_id, r.row_key, r.state, null, r.reason,
        r.hint, r.carrier, r.tracking, r.read_at
    from amzmp.shipment_row as r
    where r.state = 'held'
) as x
join amzmp.account as a on a.account_id = x.account_id
left join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (x.account_id, x.amazon_order_id)
left join lateral amzmp.meaning_of(x.code, x.reason) as m on true;

comment on view amzmp.shipment_problem is 'Packages that Amazon was not told about, or refused, with the reason and what to do. Held ones are tried again by themselves; amzmp.retry_shipments(account) does it now.';
comment on column amzmp.shipment_problem.account is 'The account.';
comment on column amzmp.shipment_problem.amazon_order_id is 'The order; null where there is none of that number.';
comment on column amzmp.shipment_problem.order_reference is 'The order as the shop''s row names it.';
comment on column amzmp.shipment_problem.package_reference is 'Number of the package within the order.';
comment on column amzmp.shipment_problem.source_id is 'The shop''s attached table that it came from.';
comment on column amzmp.shipment_problem.row_key is 'The row of that table.';
comment on column amzmp.shipment_problem.state is 'held (it is tried again) or refused (by Amazon).';
comment on column amzmp.shipment_problem.reason is 'Why.';
comment on column amzmp.shipment_problem.remedy is 'What to do.';
comment on column amzmp.shipment_problem.carrier is 'The carrier.';
comment on column amzmp.shipment_problem.tracking is 'The tracking number.';
comment on column amzmp.shipment_problem.since is 'Since when.';
comment on column amzmp.shipment_problem.ship_by is 'When Amazon wants it shipped.';
comment on column amzmp.shipment_problem.error is 'Name of the error, see amzmp.issue_meaning; null where nobody has explained it.';
comment on column amzmp.shipment_problem.meaning is 'What it means.';
comment on column amzmp.shipment_problem.account_id is 'The account''s id.';

create function amzmp._retry_shipments(account text, amazon_order_id text default null)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    acc constant bigint := (amzmp._account(account)).account_id;
begin
    update amzmp.shipment as s
    set state = 'held'
    where s.account_id = acc
        and s.state = 'refused'
        and (amazon_order_id is null or s.amazon_order_id = amazon_order_id)
        and exists (
            select
            from amzmp.orders as o
            where (o.account_id, o.amazon_order_id) = (s.account_id, s.amazon_order_id)
                and o.status in ('UNSHIPPED', 'PARTIALLY_SHIPPED', 'SHIPPED')
        );
    return amzmp._retry_shipments(acc, amazon_order_id);
end
$$;

select amzmp._expose('amzmp._retry_shipments(text, text)', 'amzmp_operator',
    'Tries held and refused shipments again, of an account or of one order, and rows of attached tables that were held. Returns how many packages are sent again.');
