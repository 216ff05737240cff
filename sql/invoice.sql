/*
 * invoice.sql
 *	  Invoices and credit notes of the shop's, handed to Amazon as PDF.
 *
 *		queued ─▶ sent ─▶ accepted
 *		           ├────▶ refused (permanent: Amazon makes the invoices of this order itself, nothing helps)
 *		           └────▶ unknown (it may be uploaded again: the same number replaces it)
 *
 * Each goes by a feed of its own, of type UPLOAD_VAT_INVOICE, one in three seconds, with its figures as options. A PDF names
 * the buyer, so it is sealed while it waits and removed as soon as Amazon's verdict is in.
 */
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, description)
values
    (true, 'upload_invoices', 'both', 'boolean', 'The shop uploads invoices', 'false',
        'The shop makes the invoices and uploads them. Then amzmp.invoice_due lists the orders that still need one.');

create table amzmp.invoice (
    account_id bigint not null,
    amazon_order_id text not null,
    invoice_number text not null,
    type text not null,
    state text not null default 'queued',
    reason text,
    permanent boolean not null default false,
    currency text,
    total numeric not null,
    vat_total numeric not null,
    transaction_id text,
    shipping_id text,
    document_id bigint,
    feed_id bigint,
    tries smallint not null default 0,
    created_by name not null,
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    primary key (account_id, amazon_order_id, invoice_number),
    constraint invoice_type_check check (type in ('Invoice', 'CreditNote')),
    constraint invoice_state_check check (state in ('queued', 'sent', 'accepted', 'refused', 'unknown')),
    constraint invoice_number_check check (length(invoice_number) between 1 and 50 and invoice_number !~ '[/[:cntrl:]]')
);

comment on table amzmp.invoice is 'Invoices and credit notes that were uploaded to Amazon.';
comment on column amzmp.invoice.account_id is 'The account that sold.';
comment on column amzmp.invoice.amazon_order_id is 'The order.';
comment on column amzmp.invoice.invoice_number is 'The shop''s number of the invoice.';
comment on column amzmp.invoice.type is 'Invoice or CreditNote.';
comment on column amzmp.invoice.state is 'queued, sent, accepted, refused (see reason), unknown (it may have arrived).';
comment on column amzmp.invoice.reason is 'Why it was refused, in Amazon''s words.';
comment on column amzmp.invoice.permanent is 'Was it refused so that no other invoice helps?';
comment on column amzmp.invoice.currency is 'Currency of its amounts.';
comment on column amzmp.invoice.total is 'Its total.';
comment on column amzmp.invoice.vat_total is 'The tax in it.';
comment on column amzmp.invoice.transaction_id is 'Of a credit note, Amazon''s number of the refund.';
comment on column amzmp.invoice.shipping_id is 'The shipment that it is about, where that is not the whole order: Amazon''s number of it.';
comment on column amzmp.invoice.document_id is 'The sealed PDF, while it waits.';
comment on column amzmp.invoice.feed_id is 'The feed that carried it.';
comment on column amzmp.invoice.tries is 'How often it was sent.';
comment on column amzmp.invoice.created_by is 'Who uploaded it.';
comment on column amzmp.invoice.created_at is 'When.';
comment on column amzmp.invoice.ended_at is 'When Amazon''s verdict came.';

-- Why an invoice cannot be uploaded. No message: it can.
create function amzmp._invoice_obstacle(o amzmp.orders, type text, total numeric, vat_total numeric, transaction_id text,
    shipment amzmp.invoice_wanted, pdf bytea, out state text, out message text, out hint text)
    returns record
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    most_bytes constant integer := 10 * 1024 * 1024;
    place constant amzmp.marketplace := (select m from amzmp.marketplace as m where m.marketplace_id = o.marketplace_id);
begin
    state := 'AZ203';
    if type is null or type not in ('Invoice', 'CreditNote') then
        state := 'AZ202';
        message := format('%L is neither Invoice nor CreditNote', type);
    elsif pdf is null or length(pdf) < 100 or substr(pdf, 1, 5) <> '%PDF-' or length(pdf) > most_bytes then
        state := 'AZ202';
        message := 'the document is no PDF of at most 10 MiB';
        hint := 'Give its bytes; upload_invoice_file and upload_invoice_object read them from a file of the server and from a large object.';
    elsif not coalesce(place.invoice_upload, false) then
        message := format('Amazon takes no invoices of sellers in %s', coalesce(place.country_code, 'this marketplace'));
        hint := 'It does where amzmp.marketplace.invoice_upload says so.';
    elsif 'INVOICE_BY_AMAZON' = any (o.programs) then
        message := format('Amazon makes the invoice of order %s itself', o.amazon_order_id);
        hint := 'Do not upload one.';
    elsif o.status is null or o.status in ('PENDING', 'PENDING_AVAILABILITY', 'CANCELLED', 'UNFULFILLABLE') then
        message := format('order %s is %s', o.amazon_order_id, coalesce(o.status, 'of unknown status'));
        hint := 'Only a paid order has an invoice.';
    elsif o.channel_id = 0 then
        message := format('the marketplace of order %s is no channel', o.amazon_order_id);
        hint := 'Create one with amzmp.create_channel(name, account, marketplace).';
    elsif total is null or vat_total is null or total < 0 or vat_total < 0 or vat_total > total then
        state := 'AZ202';
        message := 'the totals of the invoice are missing or impossible';
        hint := 'Give total and vat_total, both from zero, the tax contained in the total.';
    elsif type = 'Invoice' and shipment.shipping_id is null and total <> o.grand_total then
        state := 'AZ202';
        message := format('the invoice is about %s, the order about %s %s', total, o.grand_total, o.currency);
        hint := 'Amazon takes an invoice whose total is that of the order, to the cent; one of a shipment alone names its shipping_id.';
    elsif type = 'Invoice' and total <> coalesce(shipment.total, total) then
        state := 'AZ202';
        message := format('the invoice is about %s, the shipment about %s %s', total, shipment.total, shipment.currency);
        hint := 'Amazon takes an invoice whose total is that of the shipment, to the cent.';
    elsif type = 'CreditNote' and transaction_id is null then
        message := format('Amazon has booked no refund of order %s yet', o.amazon_order_id);
        hint := 'A credit note names the refund''s transaction: wait for it (amzmp.fetch_transactions(account, amazon_order_id)), or give transaction_id.';
    end if;
end
$$;

-- Amazon's options of an invoice.
create function amzmp._invoice_options(i amzmp.invoice)
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_strip_nulls(jsonb_build_object('metadata:orderid', case when i.shipping_id is null then i.amazon_order_id end,
            'metadata:shippingid', i.shipping_id, 'metadata:invoicenumber', i.invoice_number,
            'metadata:documenttype', i.type, 'metadata:totalamount', round(i.total, 2)::text,
            'metadata:totalvatamount', round(i.vat_total, 2)::text, 'metadata:transactionid', i.transaction_id))
$$;

create function amzmp._upload_invoice(account text, amazon_order_id text, invoice_number text, pdf bytea,
    total numeric default null, vat_total numeric default null, type text default 'Invoice', transaction_id text default null,
    shipping_id text default null)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    o constant amzmp.orders := amzmp._order(account, amazon_order_id);
    -- what Amazon's own report says of the shipment, or the shipment alone
    shipment constant amzmp.invoice_wanted := (
        select coalesce(w, (o.account_id, o.amazon_order_id, 'Invoice', given.id, given.id, null, null, null, null, null, null, null, null,
                    false, null, null)::amzmp.invoice_wanted)
        from (select shipping_id as id) as given
        left join amzmp.invoice_wanted as w
            on (w.account_id, w.amazon_order_id, w.type, w.shipping_id) = (o.account_id, o.amazon_order_id, 'Invoice', given.id)
        where given.id is not null
    );
    amount constant numeric := coalesce(total, case when type = 'Invoice' then case when shipping_id is null then o.grand_total else shipment.total end end);
    tax constant numeric := coalesce(vat_total, case
            when type = 'Invoice' then case when shipping_id is null then coalesce(o.tax_total, 0) else shipment.vat_total end
        end);
    refund constant text := coalesce(transaction_id, case
            when type = 'CreditNote' then (
                select t.transaction_id
                from amzmp.finance_transaction as t
                where (t.amazon_order_id, t.account_id, t.type) = (o.amazon_order_id, o.account_id, 'Refund')
                order by t.posted_at desc
                limit 1
            )
        end);
    obstacle constant record := amzmp._invoice_obstacle(o, type, amount, tax, refund, shipment, pdf);
    i amzmp.invoice;
begin
    if obstacle.message is not null then
        perform amzmp._fail(obstacle.state, obstacle.message, null, obstacle.hint);
    elsif coalesce(length(invoice_number) not between 1 and 50 or invoice_number ~ '[/[:cntrl:]]', true) then
        perform amzmp._fail('AZ202', format('%L is no number of an invoice', invoice_number), null, 'Up to 50 characters without a slash.');
    end if;
    select x.* into i
    from amzmp.invoice as x
    where (x.account_id, x.amazon_order_id, x.invoice_number) = (o.account_id, o.amazon_order_id, invoice_number)
    for update;
    if i.state in ('queued', 'sent', 'accepted') then
        perform amzmp._fail('AZ203', format('invoice %s of order %s is %s', invoice_number, o.amazon_order_id, i.state), null,
            'A corrected invoice has another number.');
    end if;
    insert into amzmp.invoice as x (account_id, amazon_order_id, invoice_number, type, currency, total, vat_total, transaction_id,
        shipping_id, document_id, created_by)
    values (o.account_id, o.amazon_order_id, invoice_number, type, o.currency, amount, tax, refund, shipping_id,
        amzmp._new_document(o.account_id, 'application/pdf', true), amzmp._caller())
    on conflict on constraint invoice_pkey do update
    set type = excluded.type,
        state = 'queued',
        reason = null,
        permanent = false,
        total = excluded.total,
        vat_total = excluded.vat_total,
        transaction_id = excluded.transaction_id,
        shipping_id = excluded.shipping_id,
        document_id = excluded.document_id,
        tries = 0,
        created_by = excluded.created_by,
        created_at = excluded.created_at,
        ended_at = null
    returning x.* into i;
    perform amzmp._write_content(i.account_id, i.document_id, pdf);
    perform amzmp._plan_invoice(i, o.channel_id);
end
$$;

select amzmp._expose('amzmp._upload_invoice(text, text, text, bytea, numeric, numeric, text, text, text)', 'amzmp_operator',
    'Uploads an invoice or credit note (type) of an order as PDF. Without total and vat_total an invoice has those of the order; a credit note names the refund''s transaction, by default the last that Amazon booked; shipping_id: the shipment alone that it is about (amzmp.invoice_due). Progress is in amzmp.invoice.');

create function amzmp._plan_invoice(i amzmp.invoice, channel_id bigint)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._plan_feed(i.account_id, _plan_invoice.channel_id, 'UPLOAD_VAT_INVOICE', amzmp._invoice_options(i),
        jsonb_build_object('order', i.amazon_order_id, 'invoice', i.invoice_number, 'try', i.tries));
end;

/*
 * Other places where a PDF may be. These run with their caller's own rights: a file of the server is read only by whom the
 * server lets read it (pg_read_server_files), a large object by whom it is granted to.
 */
create function amzmp.upload_invoice_file(account text, amazon_order_id text, invoice_number text, path text,
    total numeric default null, vat_total numeric default null, type text default 'Invoice', transaction_id text default null,
    shipping_id text default null)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp.upload_invoice(account, amazon_order_id, invoice_number, pg_read_binary_file(path), total, vat_total, type,
        transaction_id, shipping_id);
end;

revoke all on function amzmp.upload_invoice_file(text, text, text, text, numeric, numeric, text, text, text) from public;
grant execute on function amzmp.upload_invoice_file(text, text, text, text, numeric, numeric, text, text, text) to amzmp_operator;
comment on function amzmp.upload_invoice_file(text, text, text, text, numeric, numeric, text, text, text) is
    'upload_invoice with the PDF from a file of the server. The caller needs the right to read it: pg_read_server_files and EXECUTE on pg_read_binary_file.';

create function amzmp.upload_invoice_object(account text, amazon_order_id text, invoice_number text, object oid,
    total numeric default null, vat_total numeric default null, type text default 'Invoice', transaction_id text default null,
    shipping_id text default null)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp.upload_invoice(account, amazon_order_id, invoice_number, lo_get(object), total, vat_total, type, transaction_id,
        shipping_id);
end;

revoke all on function amzmp.upload_invoice_object(text, text, text, oid, numeric, numeric, text, text, text) from public;
grant execute on function amzmp.upload_invoice_object(text, text, text, oid, numeric, numeric, text, text, text) to amzmp_operator;
comment on function amzmp.upload_invoice_object(text, text, text, oid, numeric, numeric, text, text, text) is
    'upload_invoice with the PDF from a large object, which the caller must be allowed to read.';

/*
 * The feed.
 */

-- Inner, build function: the PDF as it is.
create function amzmp._build_invoice(feed amzmp.feed)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    i amzmp.invoice;
begin
    update amzmp.invoice as x
    set state = 'sent',
        tries = x.tries + 1,
        feed_id = feed.feed_id
    where (x.account_id, x.amazon_order_id, x.invoice_number, x.state)
        = (feed.account_id, feed.argument ->> 'order', feed.argument ->> 'invoice', 'queued')
        and x.document_id is not null
    returning x.* into i;
    if i.invoice_number is null then
        return 0;
    end if;
    perform amzmp._write_content(feed.account_id, feed.document_id, amzmp._read_document(i.account_id, i.document_id));
    insert into amzmp.feed_message (account_id, feed_id, message_id, channel_id, subject)
    values (feed.account_id, feed.feed_id, 1, feed.channel_id, i.amazon_order_id || '/' || i.invoice_number);
    return 1;
end
$$;

comment on function amzmp._build_invoice(amzmp.feed) is 'Inner: the document of a feed that uploads an invoice.';

-- The invoice is over: its PDF goes, wherever it is.
create function amzmp._end_invoice(feed amzmp.feed, state text, reason text, permanent boolean)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    ended amzmp.invoice;
begin
    select x.* into ended
    from amzmp.invoice as x
    where (x.account_id, x.amazon_order_id, x.invoice_number, x.feed_id)
        = (feed.account_id, feed.argument ->> 'order', feed.argument ->> 'invoice', feed.feed_id)
        and x.state in ('sent', 'unknown')
    for update;
    if ended.invoice_number is null then
        return;
    end if;
    update amzmp.invoice as x
    set state = _end_invoice.state,
        reason = _end_invoice.reason,
        permanent = _end_invoice.permanent,
        document_id = null,
        ended_at = now()
    where (x.account_id, x.amazon_order_id, x.invoice_number) = (ended.account_id, ended.amazon_order_id, ended.invoice_number);
    update amzmp.feed as f
    set document_id = null
    where (f.account_id, f.feed_id) = (feed.account_id, feed.feed_id);
    perform amzmp._drop_documents(feed.account_id, array_remove(array[ended.document_id, feed.document_id], null));
    if state <> 'accepted' then
        perform amzmp._log(feed.account_id, feed.channel_id, 'error', 'order', ended.amazon_order_id,
            format('invoice %s %s: %s', ended.invoice_number, state, reason));
    end if;
end
$$;

-- Inner, result function.
create function amzmp._judge_invoice(feed amzmp.feed)
    returns interval
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform amzmp._judge_xml_report(feed);
    perform amzmp._end_invoice(feed, m.result, nullif(concat_ws(': ', m.code, m.message), ''), coalesce(m.code = '79525', false))
    from amzmp.feed_message as m
    where (m.account_id, m.feed_id, m.message_id) = (feed.account_id, feed.feed_id, 1);
    return null;
end
$$;

comment on function amzmp._judge_invoice(amzmp.feed) is 'Inner: Amazon''s report about an invoice.';

-- Inner, end function: a cancelled feed is tried again, a few times.
create function amzmp._end_invoice_feed(feed amzmp.feed)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    most_tries constant integer := 3;
    i amzmp.invoice;
begin
    update amzmp.invoice as x
    set state = 'queued'
    where (x.account_id, x.amazon_order_id, x.invoice_number, x.feed_id, x.state)
        = (feed.account_id, feed.argument ->> 'order', feed.argument ->> 'invoice', feed.feed_id, 'sent')
        and feed.state = 'cancelled'
        and x.tries < most_tries
    returning x.* into i;
    if i.invoice_number is not null then
        perform amzmp._plan_invoice(i, feed.channel_id);
    else
        perform amzmp._end_invoice(feed, case feed.state when 'cancelled' then 'refused' else 'unknown' end, feed.reason, false);
    end if;
end
$$;

comment on function amzmp._end_invoice_feed(amzmp.feed) is 'Inner: a feed with an invoice ended without a report.';

update amzmp.feed_type
set build_function = '_build_invoice',
    result_function = '_judge_invoice',
    end_function = '_end_invoice_feed'
where name = 'UPLOAD_VAT_INVOICE';
