/*
 * shipment_problem.sql
 *	  What stands in the way of shipments, with the remedy, and trying again.
 */
create table amzmp.remedy (
    position smallint primary key,
    pattern text not null,
    meaning text not null,
    remedy text not null
);

comment on table amzmp.remedy is 'What Amazon''s refusals of shipments, refunds and invoices mean, and what to do. The first pattern that fits counts. Reference data.';
comment on column amzmp.remedy.position is 'The order in which patterns are looked at.';
comment on column amzmp.remedy.pattern is 'A regular expression over Amazon''s code and words, whatever the case.';
comment on column amzmp.remedy.meaning is 'What it means.';
comment on column amzmp.remedy.remedy is 'What to do.';

insert into amzmp.remedy (position, pattern, meaning, remedy)
values
    (10, 'PackageToUpdateNotFound|without this package', 'Amazon has the whole order shipped, by other packages than this one.',
        'Nothing is left to confirm. Correct one of Amazon''s packages by its package_reference (amzmp.order_package), or leave it.'),
    (20, 'packageReferenceId', 'The number of the package is not one that Amazon takes.', 'Leave package_reference out, so that the next free one is taken.'),
    (30, '5004|carrier', 'Amazon does not know the carrier.', 'amzmp.map_carrier(account, carrier, code), or with code Other and the carrier''s name; then amzmp.retry_shipments(account).'),
    (40, 'tracking', 'The tracking number is missing or not of the carrier''s form.', 'Correct it in the shop''s row, or confirm the package again with its package_reference.'),
    (50, 'ship ?date|FulfillmentDate|time of shipment', 'The time of shipment is in the future, or before the order.', 'Correct the time, and see that the server''s clock and time zone are right.'),
    (60, 'quantity|units of line|left to ship', 'More units than are open.', 'Amazon counts packages that it has already: amzmp.order_package and amzmp.shipment tell which.'),
    (70, 'no item|no line|no such item', 'The order has no such line.', 'Name one of amzmp.order_item.'),
    (80, 'fulfilled by Amazon|shipped by Amazon', 'Amazon ships this order itself.', 'Do not confirm it; leave such orders out of the attached table by its filter.'),
    (90, 'being cancelled|asks to cancel', 'Somebody wants the order cancelled.', 'amzmp.accept_cancellation or amzmp.decline_cancellation (account, amazon_order_id).'),
    (100, 'is CANCELLED|UNFULFILLABLE', 'The order was cancelled.', 'Do not ship it; if it is under way already, call it back.'),
    (110, 'PENDING|not paid', 'The order is not paid yet.', 'Wait: it goes on by itself when Amazon releases the order.'),
    (120, 'no order|not found|404', 'Amazon, or this account, has no such order.', 'Look at the number and at the account; amzmp.fetch_order(account, amazon_order_id) fetches one.'),
    (130, 'marketplaceId', 'The order belongs to another marketplace.', 'amzmp.fetch_order reads it anew, then amzmp.retry_shipments(account).'),
    (140, '403|Unauthorized|denied', 'The application lacks a role, or the seller withdrew its consent.', 'Give the application the role for orders in the developer''s portal, renew the consent, then amzmp.retry_shipments(account).'),
    (150, '79513', 'An option of the invoice is missing or misspelt.', 'Upload it again with all amounts; a credit note needs the refund''s transaction.'),
    (160, '79525|generates the invoices', 'Amazon makes the invoices of this order itself.', 'Nothing: do not upload one.'),
    (170, 'exceed', 'More than what was paid would be given back.', 'amzmp.refund_booking tells what was given back already.');

create function amzmp._remedy(said text)
    returns text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select r.remedy
    from amzmp.remedy as r
    where said ~* r.pattern
    order by r.position
    limit 1;
end;

comment on function amzmp._remedy(text) is 'Inner: what to do about Amazon''s words.';

create view amzmp.shipment_problem with (security_invoker = true) as
select a.name as account, x.amazon_order_id, x.order_reference, x.package_reference, x.source_id, x.row_key, x.state, x.reason,
    coalesce(x.hint, (
            select r.remedy
            from amzmp.remedy as r
            where x.reason ~* r.pattern
            order by r.position
            limit 1
        )) as remedy,
    x.carrier, x.tracking, x.since, o.ship_by, x.account_id
from (
    select s.account_id, s.amazon_order_id, s.amazon_order_id as order_reference, s.package_reference, s.source_id, s.row_key,
        s.state, s.reason, null as hint, s.carrier, s.tracking, s.created_at as since
    from amzmp.shipment as s
    where s.state in ('held', 'refused')
    union all
    select r.account_id, r.amazon_order_id, r.order_reference, r.package_reference, r.source_id, r.row_key, r.state, r.reason,
        r.hint, r.carrier, r.tracking, r.read_at
    from amzmp.shipment_row as r
    where r.state = 'held'
) as x
join amzmp.account as a on a.account_id = x.account_id
left join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (x.account_id, x.amazon_order_id);

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
