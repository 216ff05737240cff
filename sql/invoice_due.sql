/*
 * invoice_due.sql
 *	  Which invoices are to be uploaded: by Amazon's report (invoice_wanted.sql) and, for what was shipped since, or where it
 *	  is not read, by our orders.
 *
 * An invoice that Amazon took may be wanted again: half a day later its report says so, and why.
 */
create view amzmp.invoice_due with (security_invoker = true) as
with due as (
    select w.account_id, w.amazon_order_id, w.type, w.transaction_id, w.shipping_id, w.channel_id, w.currency, w.total, w.vat_total,
        w.explanation, w.asked_at, 'report' as known_by
    from amzmp.invoice_wanted as w
    where w.wanted
    union all
    select o.account_id, o.amazon_order_id, 'Invoice', null, null, o.channel_id, o.currency, o.grand_total, o.tax_total, null, null,
        'orders'
    from amzmp.orders as o
    where o.status in ('PARTIALLY_SHIPPED', 'SHIPPED')
        and 'INVOICE_BY_AMAZON' <> all (o.programs)
        and not exists (
            select
            from amzmp.invoice_wanted as w
            where (w.account_id, w.amazon_order_id, w.type) = (o.account_id, o.amazon_order_id, 'Invoice')
        )
        and not exists (
            select
            from amzmp.report as r
            where (r.account_id, r.channel_id, r.state) = (o.account_id, o.channel_id, 'applied')
                and r.type = 'GET_FLAT_FILE_VAT_INVOICE_DATA_REPORT'
                and r.options ->> 'pendingInvoices' = 'true'
                and r.rows > 0
                and coalesce((r.cause ->> 'amazon_time')::timestamptz, r.submitted_at) > o.last_updated_at + interval '1 hour'
        )
)
select a.name as account, d.amazon_order_id, o.order_number, o.delivered_number, m.country_code as country, o.purchased_at, o.status,
    d.currency, d.total as grand_total, d.vat_total as tax_total, coalesce(r.reason, d.explanation) as refused_because, d.type,
    d.shipping_id, d.transaction_id, d.known_by, d.account_id
from due as d
join amzmp.account as a on a.account_id = d.account_id
left join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (d.account_id, d.amazon_order_id)
left join amzmp.channel as c on (c.account_id, c.channel_id) = (d.account_id, d.channel_id)
join amzmp.marketplace as m on m.marketplace_id = coalesce(o.marketplace_id, c.marketplace_id)
left join lateral (
    select i.reason
    from amzmp.invoice as i
    where (i.account_id, i.amazon_order_id, i.type, i.state) = (d.account_id, d.amazon_order_id, d.type, 'refused')
    order by i.ended_at desc
    limit 1
) as r on true
where m.invoice_upload
    and (
        select s.value
        from amzmp.setting as s
        where s.account_id = d.account_id
            and s.channel_id in (0, d.channel_id)
            and s.name = 'upload_invoices'
        order by s.channel_id desc
        limit 1
    ) = 'true'
    and not exists (
        select
        from amzmp.invoice as i
        where (i.account_id, i.amazon_order_id, i.type) = (d.account_id, d.amazon_order_id, d.type)
            and (i.shipping_id is null or d.shipping_id is null or i.shipping_id = d.shipping_id)
            and (d.type = 'Invoice' or i.transaction_id = d.transaction_id)
            and (i.state <> 'refused' or i.permanent)
            and not coalesce(i.state = 'accepted' and d.asked_at > i.ended_at + interval '12 hours', false)
    );

comment on view amzmp.invoice_due is 'Invoices and credit notes that Amazon still wants, where the shop makes them (setting upload_invoices): by Amazon''s report, which the flow get_due_invoices reads, and for what was shipped since, or where it is not read, by the orders.';
comment on column amzmp.invoice_due.account is 'The account that sold.';
comment on column amzmp.invoice_due.amazon_order_id is 'The order.';
comment on column amzmp.invoice_due.order_number is 'Its number by the format of the account; null where it is not here.';
comment on column amzmp.invoice_due.delivered_number is 'Its number in the shop.';
comment on column amzmp.invoice_due.country is 'The country of its marketplace.';
comment on column amzmp.invoice_due.purchased_at is 'When the buyer ordered.';
comment on column amzmp.invoice_due.status is 'Amazon''s status of the order.';
comment on column amzmp.invoice_due.currency is 'Currency of the amounts.';
comment on column amzmp.invoice_due.grand_total is 'The total that the invoice must have.';
comment on column amzmp.invoice_due.tax_total is 'The tax in it.';
comment on column amzmp.invoice_due.refused_because is 'Why the last one was refused, or what Amazon''s report says about it.';
comment on column amzmp.invoice_due.type is 'Invoice or CreditNote.';
comment on column amzmp.invoice_due.shipping_id is 'The shipment, where Amazon''s report names it: for upload_invoice, if the order has several.';
comment on column amzmp.invoice_due.transaction_id is 'Amazon''s number of the shipment or, for a credit note, of the refund.';
comment on column amzmp.invoice_due.known_by is 'report: Amazon''s report says so; orders: computed from the orders.';
comment on column amzmp.invoice_due.account_id is 'The account''s id.';
