/*
 * invoice_wanted.sql
 *	  Which invoices and credit notes Amazon still wants, by its own report.
 *
 * The flow get_due_invoices asks for Amazon's report of what still needs an invoice (GET_FLAT_FILE_VAT_INVOICE_DATA_REPORT with
 * pendingInvoices). Its rows are kept without anything about the buyer:
 *
 *		wanted ──uploaded and accepted, or no longer in the newest report──▶ not wanted
 *
 * An invoice is due for each shipment, so an order may need several. A report without rows proves nothing: Amazon also
 * answers so when it was asked too soon. What it all comes to, together with our orders, is in invoice_due.sql.
 */
insert into amzmp.flow (flow, scope, every, on_by_default, capability, title, description)
values
    ('get_due_invoices', 'channel', '50 */12 * * *', false, 'invoice_upload', 'Ask which invoices are due',
        'Asks for Amazon''s report of shipments and refunds that still need an invoice. Needs the role Tax Invoicing.');

insert into amzmp.report_type (name, title, one_marketplace, personal, restricted, spacing, longest, empty_when_cancelled, handler)
values
    ('GET_FLAT_FILE_VAT_INVOICE_DATA_REPORT', 'Shipments and refunds with what an invoice needs', true, true, true, '30 minutes', '30 days', true,
        '_apply_due_invoices');

create table amzmp.invoice_wanted (
    account_id bigint not null,
    amazon_order_id text not null,
    type text not null,
    transaction_id text not null,
    shipping_id text,
    channel_id bigint,
    status text,
    explanation text,
    by_amazon boolean,
    currency text,
    total numeric,
    vat_total numeric,
    shipped_at timestamptz,
    wanted boolean not null,
    report_id bigint,
    asked_at timestamptz,
    primary key (account_id, amazon_order_id, type, transaction_id)
);

create index invoice_wanted_open on amzmp.invoice_wanted (channel_id, account_id) where wanted;

comment on table amzmp.invoice_wanted is 'Shipments and refunds of which Amazon''s report said how their invoice stands. amzmp.invoice_due lists what is to be uploaded.';
comment on column amzmp.invoice_wanted.account_id is 'The account that sold.';
comment on column amzmp.invoice_wanted.amazon_order_id is 'The order.';
comment on column amzmp.invoice_wanted.type is 'Invoice (of a shipment) or CreditNote (of a refund or return).';
comment on column amzmp.invoice_wanted.transaction_id is 'Amazon''s number of the shipment or refund.';
comment on column amzmp.invoice_wanted.shipping_id is 'Amazon''s number of the shipment.';
comment on column amzmp.invoice_wanted.channel_id is 'The channel.';
comment on column amzmp.invoice_wanted.status is 'How the invoice stands, in Amazon''s word.';
comment on column amzmp.invoice_wanted.explanation is 'What Amazon says about that: why it did not take an invoice.';
comment on column amzmp.invoice_wanted.by_amazon is 'Does Amazon make the invoice itself?';
comment on column amzmp.invoice_wanted.currency is 'Currency of the amounts.';
comment on column amzmp.invoice_wanted.total is 'What the invoice is about, with the tax.';
comment on column amzmp.invoice_wanted.vat_total is 'The tax in it.';
comment on column amzmp.invoice_wanted.shipped_at is 'When it was shipped, or given back.';
comment on column amzmp.invoice_wanted.wanted is 'Did Amazon still want it, when it was last asked?';
comment on column amzmp.invoice_wanted.report_id is 'The report.';
comment on column amzmp.invoice_wanted.asked_at is 'When Amazon was asked for that report.';

-- An amount as reports write it; null when it is none.
create function amzmp._report_amount(value text)
    returns numeric
    language sql
    immutable
    parallel safe
begin atomic
    select case when value ~ '^-?\d+([.,]\d{1,4})?$' then replace(value, ',', '.')::numeric end;
end;

-- Inner, report handler: how the invoices of shipments and refunds stand. Nothing about the buyer leaves the sealed report.
create function amzmp._apply_due_invoices(report amzmp.report)
    returns text
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    only_pending constant boolean := coalesce(report.options ->> 'pendingInvoices' = 'true', false);
begin
    insert into amzmp.invoice_wanted as x
    select report.account_id, t.order_id, t.type, t.transaction_id, min(t.shipping_id), report.channel_id, min(t.status),
        min(t.explanation), bool_or(t.by_amazon), min(t.currency), sum(t.total), sum(t.vat_total), min(t.shipped_at),
        not coalesce(bool_or(t.by_amazon), false) and (only_pending or coalesce(min(t.status) ~* 'pending', false)), report.report_id,
        report.submitted_at
    from (
        select c ->> 'order-id' as order_id, case when c ->> 'transaction-type' ~* '^(refund|return)' then 'CreditNote' else 'Invoice' end as type,
            coalesce(c ->> 'transaction-id', c ->> 'shipping-id', '') as transaction_id, c ->> 'shipping-id' as shipping_id,
            c ->> 'invoice-status' as status, left(c ->> 'invoice-status-description', 500) as explanation,
            (c ->> 'is-amazon-invoiced') ~* '^(true|yes|y|1)$' as by_amazon, c ->> 'currency' as currency,
            coalesce(amzmp._report_amount(c ->> 'item-vat-incl-amount'), 0) + coalesce(amzmp._report_amount(c ->> 'shipping-vat-incl-amount'), 0)
                + coalesce(amzmp._report_amount(c ->> 'gift-wrap-vat-incl-amount'), 0)
                - abs(coalesce(amzmp._report_amount(c ->> 'item-promo-vat-incl-amount'), 0))
                - abs(coalesce(amzmp._report_amount(c ->> 'shipping-promo-vat-incl-amount'), 0))
                - abs(coalesce(amzmp._report_amount(c ->> 'gift-wrap-promo-vat-incl-amount'), 0)) as total,
            coalesce(amzmp._report_amount(c ->> 'item-vat-amount'), 0) + coalesce(amzmp._report_amount(c ->> 'shipping-vat-amount'), 0)
                + coalesce(amzmp._report_amount(c ->> 'gift-wrap-vat-amount'), 0)
                - abs(coalesce(amzmp._report_amount(c ->> 'item-promo-vat-amount'), 0))
                - abs(coalesce(amzmp._report_amount(c ->> 'shipping-promo-vat-amount'), 0))
                - abs(coalesce(amzmp._report_amount(c ->> 'gift-wrap-promo-vat-amount'), 0)) as vat_total,
            amzmp._report_time(c ->> 'shipment-date') as shipped_at
        from amzmp._report_rows(report.account_id, report.report_id) as r
        cross join lateral (select r.cells as c) as cells
        where c ->> 'order-id' ~ '^[0-9A-Za-z-]{1,50}$'
    ) as t
    group by t.order_id, t.type, t.transaction_id
    order by t.order_id, t.type, t.transaction_id
    on conflict on constraint invoice_wanted_pkey do update
    set shipping_id = excluded.shipping_id,
        channel_id = excluded.channel_id,
        status = excluded.status,
        explanation = excluded.explanation,
        by_amazon = excluded.by_amazon,
        currency = excluded.currency,
        total = excluded.total,
        vat_total = excluded.vat_total,
        shipped_at = coalesce(excluded.shipped_at, x.shipped_at),
        wanted = excluded.wanted,
        report_id = excluded.report_id,
        asked_at = excluded.asked_at
    where x.asked_at is null
        or x.asked_at <= excluded.asked_at;
    if only_pending and report.rows > 0 then
        update amzmp.invoice_wanted as x
        set wanted = false
        where (x.account_id, x.channel_id) = (report.account_id, report.channel_id)
            and x.wanted
            and x.asked_at < report.submitted_at;
    end if;
    return null;
end
$$;

comment on function amzmp._apply_due_invoices(amzmp.report) is 'Inner: takes from a report which invoices Amazon wants.';

create function amzmp._flow_get_due_invoices(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    if amzmp._setting_bool(account_id, channel_id, 'upload_invoices') then
        perform amzmp._request_report(account_id, channel_id, 'GET_FLAT_FILE_VAT_INVOICE_DATA_REPORT', null, null,
            '{"pendingInvoices": "true"}', jsonb_build_object('flow_run', flow_run_id, 'amazon_time', amzmp._now(account_id)));
    else
        perform amzmp._log(account_id, channel_id, 'info', 'flow', 'get_due_invoices', 'the setting upload_invoices is off, nothing asked for',
            null, flow_run_id);
    end if;
end
$$;

comment on function amzmp._flow_get_due_invoices(bigint, bigint, bigint) is 'Inner: the flow get_due_invoices: ask which invoices Amazon wants.';
