/*
 * refusal.sql
 *	  What Amazon refused about orders, all in one place, each with what it means and what to do.
 */
create view amzmp.refusal with (security_invoker = true) as
select a.name as account, x.kind, x.amazon_order_id, x.subject, x.state, x.code, x.reason, m.error, m.meaning, m.remedy, x.since,
    x.account_id
from (
    select s.account_id, 'shipment' as kind, s.amazon_order_id, s.package_reference as subject, s.state, s.code, s.reason,
        s.created_at as since
    from amzmp.shipment as s
    where s.state = 'refused'
    union all
    select c.account_id, 'cancellation', c.amazon_order_id, c.code, c.state, null, c.reason, coalesce(c.decided_at, c.requested_at)
    from amzmp.cancellation as c
    where c.state = 'refused'
    union all
    select k.account_id, 'acknowledgement', k.amazon_order_id, k.shop_number, k.state, null, k.reason, k.queued_at
    from amzmp.acknowledgement as k
    where k.state = 'refused'
    union all
    select r.account_id, 'refund', r.amazon_order_id, r.refund_key, r.state, null, r.reason, coalesce(r.ended_at, r.created_at)
    from amzmp.refund as r
    where r.state in ('refused', 'unknown')
    union all
    select i.account_id, 'invoice', i.amazon_order_id, i.invoice_number, i.state, null, i.reason, coalesce(i.ended_at, i.created_at)
    from amzmp.invoice as i
    where i.state in ('refused', 'unknown')
) as x
join amzmp.account as a on a.account_id = x.account_id
left join lateral amzmp.meaning_of(coalesce(x.code, substring(x.reason from '^([0-9A-Za-z]+): ')), x.reason) as m on true;

comment on view amzmp.refusal is 'What Amazon refused about orders: shipments, cancellations, acknowledgements, refunds and invoices, each with what it means and what to do (amzmp.issue_meaning). What is held before it is sent is in amzmp.shipment_problem and amzmp.cancellation_request.';
comment on column amzmp.refusal.account is 'The account.';
comment on column amzmp.refusal.kind is 'shipment, cancellation, acknowledgement, refund or invoice.';
comment on column amzmp.refusal.amazon_order_id is 'The order.';
comment on column amzmp.refusal.subject is 'The package''s number, the reason of the cancellation, the shop''s number of the order, the refund''s key, or the number of the invoice.';
comment on column amzmp.refusal.state is 'refused, or unknown (the answer was lost).';
comment on column amzmp.refusal.code is 'Amazon''s code.';
comment on column amzmp.refusal.reason is 'Amazon''s words.';
comment on column amzmp.refusal.error is 'Name of the error, see amzmp.issue_meaning; null where nobody has explained it.';
comment on column amzmp.refusal.meaning is 'What it means.';
comment on column amzmp.refusal.remedy is 'What to do.';
comment on column amzmp.refusal.since is 'Since when.';
comment on column amzmp.refusal.account_id is 'The account''s id.';
