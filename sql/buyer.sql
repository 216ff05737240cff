/*
 * buyer.sql
 *	  Buyers' personal data: kept sealed and apart, opened by one function, removed after its time.
 *
 * The import writes order_buyer (order_write.sql); nothing else holds personal data in clear. Whoever opens it is
 * written to the server's log, which a ROLLBACK cannot take back. What goes by itself, and when, is in personal_data.sql.
 */
create table amzmp.order_buyer (
    account_id bigint not null,
    amazon_order_id text not null,
    sealed bytea,
    raw bytea not null,
    primary key (account_id, amazon_order_id)
) with (toast_tuple_target = 8160);

-- What is sealed cannot be compressed, and most orders fit into a row.
alter table amzmp.order_buyer alter column sealed set storage external, alter column raw set storage external;

comment on table amzmp.order_buyer is 'Personal data of orders, sealed; amzmp.buyer() opens it.';
comment on column amzmp.order_buyer.account_id is 'The account that sold.';
comment on column amzmp.order_buyer.amazon_order_id is 'The order.';
comment on column amzmp.order_buyer.sealed is 'Buyer, recipient, tax registrations and gift messages as one sealed JSON document; null when Amazon sent none.';
comment on column amzmp.order_buyer.raw is 'Amazon''s answer as it came, sealed.';

-- Refuse whoever may not see buyers' data, and leave a trace of whoever may that no ROLLBACK takes back.
create function amzmp._check_buyer_access(account text, order_ids text[], verb text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    if not pg_has_role(amzmp._caller(), 'amzmp_buyer_data', 'usage') then
        perform amzmp._fail('42501', 'buyers'' personal data needs the role amzmp_buyer_data', null,
            format('GRANT amzmp_buyer_data TO %I;', amzmp._caller()));
    end if;
    perform amzmp._log_access(format('role "%s" %s buyers'' data of account "%s", orders: %s',
        amzmp._caller(), verb, account,
        (select string_agg(regexp_replace(coalesce(i, ''), '[^0-9A-Za-z-]', '?', 'g'), ', ') from unnest(order_ids) as u (i))));
end
$$;

-- Not stable: each call leaves its trace.
create function amzmp._buyer(account text, order_ids text[])
    returns table (amazon_order_id text, buyer_name text, buyer_email text, buyer_company text, purchase_order_number text,
        recipient_name text, recipient_company text, address_line1 text, address_line2 text, address_line3 text, city text,
        district text, municipality text, state_or_region text, postal_code text, country_code text, phone text,
        address_type text, extended_address jsonb, delivery_preference jsonb, tax_registrations jsonb, items jsonb)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc bigint := (amzmp._account(_buyer.account)).account_id;
    ids alias for $2;
    id text;
begin
    perform amzmp._check_buyer_access(_buyer.account, ids, 'opened');
    for id in select distinct u.id from unnest(ids) as u (id) order by u.id loop
        return query
            select b.amazon_order_id, d.doc #>> '{buyer,buyerName}', d.doc #>> '{buyer,buyerEmail}',
                   d.doc #>> '{buyer,buyerCompanyName}', d.doc #>> '{buyer,buyerPurchaseOrderNumber}',
                   a.doc ->> 'name', a.doc ->> 'companyName', a.doc ->> 'addressLine1', a.doc ->> 'addressLine2',
                   a.doc ->> 'addressLine3', a.doc ->> 'city', a.doc ->> 'districtOrCounty', a.doc ->> 'municipality',
                   a.doc ->> 'stateOrRegion', a.doc ->> 'postalCode', a.doc ->> 'countryCode', a.doc ->> 'phone',
                   a.doc ->> 'addressType', a.doc -> 'extendedFields', d.doc #> '{recipient,deliveryPreference}',
                   d.doc -> 'tax_registrations', d.doc -> 'items'
              from amzmp.order_buyer b
              cross join lateral (
                    select amzmp._open(b.sealed, 'buyer', b.account_id || '/' || b.amazon_order_id)::jsonb as doc) as d
              cross join lateral (select d.doc #> '{recipient,deliveryAddress}' as doc) as a
             where b.account_id = acc and b.amazon_order_id = id and b.sealed is not null;
    end loop;
end
$$;

-- Whoever may use amzmp at all may ask; amzmp._check_buyer_access refuses him and says what is missing.
select amzmp._expose('amzmp._buyer(text, text[])', 'amzmp_reader, amzmp_buyer_data',
    'Opens the personal data of the orders named, of one account. Needs the role amzmp_buyer_data; every call is written to the server''s log. Orders without such data (not sent by Amazon, or removed after its time) give no row.');

/*
 * All that is stored about orders, for a buyer who asks for his data: the orders with their lines, packages, shipments,
 * returns and refunds, what Amazon booked and told of them, and what is sealed.
 */
create function amzmp._export_buyer(account text, order_ids text[]) returns jsonb
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    acc bigint := (amzmp._account(_export_buyer.account)).account_id;
    result jsonb;
begin
    perform amzmp._check_buyer_access(_export_buyer.account, order_ids, 'exported');
    select coalesce(jsonb_agg(
               to_jsonb(o) - 'account_id'
               || jsonb_build_object(
                    'items', (select coalesce(jsonb_agg(to_jsonb(i) - 'account_id' - 'amazon_order_id' order by i.position), '[]')
                                from amzmp.order_item i where i.account_id = acc and i.amazon_order_id = o.amazon_order_id),
                    'packages', (select coalesce(jsonb_agg(to_jsonb(p) - 'account_id' - 'amazon_order_id' order by p.package_reference), '[]')
                                   from amzmp.order_package p where p.account_id = acc and p.amazon_order_id = o.amazon_order_id),
                    'shipments', (select coalesce(jsonb_agg(to_jsonb(s) - 'account_id' - 'amazon_order_id' order by s.package_reference), '[]')
                                    from amzmp.shipment s where s.account_id = acc and s.amazon_order_id = o.amazon_order_id),
                    'cancellation', (select to_jsonb(c) - 'account_id' - 'amazon_order_id'
                                       from amzmp.cancellation c where c.account_id = acc and c.amazon_order_id = o.amazon_order_id),
                    'returns', (select coalesce(jsonb_agg(to_jsonb(r) - 'account_id' - 'amazon_order_id' order by r.return_key), '[]')
                                  from amzmp.return_item r where r.account_id = acc and r.amazon_order_id = o.amazon_order_id),
                    'refunds', (select coalesce(jsonb_agg(to_jsonb(r) - 'account_id' - 'amazon_order_id' order by r.created_at), '[]')
                                  from amzmp.refund r where r.account_id = acc and r.amazon_order_id = o.amazon_order_id),
                    'invoices', (select coalesce(jsonb_agg(to_jsonb(n) - 'account_id' - 'amazon_order_id' order by n.created_at), '[]')
                                   from amzmp.invoice n where n.account_id = acc and n.amazon_order_id = o.amazon_order_id),
                    'bookings', (select coalesce(jsonb_agg(to_jsonb(t) - 'account_id' - 'amazon_order_id' order by t.posted_at), '[]')
                                   from amzmp.finance_transaction t where t.account_id = acc and t.amazon_order_id = o.amazon_order_id),
                    'notifications', (select coalesce(jsonb_agg(to_jsonb(n) - 'account_id' order by n.received_at), '[]')
                                        from amzmp.notification n
                                       where n.account_id = acc and n.type = 'ORDER_CHANGE' and n.subject = o.amazon_order_id),
                    'personal', (select amzmp._open(b.sealed, 'buyer', acc || '/' || o.amazon_order_id)::jsonb
                                   from amzmp.order_buyer b where b.account_id = acc and b.amazon_order_id = o.amazon_order_id),
                    'raw', (select amzmp._open(b.raw, 'order', acc || '/' || o.amazon_order_id)::jsonb
                              from amzmp.order_buyer b where b.account_id = acc and b.amazon_order_id = o.amazon_order_id))
               order by o.amazon_order_id), '[]')
      into result
      from amzmp.orders o
     where o.account_id = acc and o.amazon_order_id = any (order_ids);
    return result;
end
$$;

select amzmp._expose('amzmp._export_buyer(text, text[])', 'amzmp_buyer_data',
    'Everything that is stored about the orders named, personal data included, as one JSON array: for a buyer who asks for his data. Needs the role amzmp_buyer_data; every call is written to the server''s log.');

/*
 * Remove the personal data of orders for good, before its time: sealed data, copies that wait for an import, reports that
 * name them, and kept bodies that may. A search's body holds many orders, so all kept ones of searches go. What was erased
 * does not come back when Amazon sends the order again. Amounts and lines stay: they are the shop's books.
 */
create function amzmp._erase_buyer(account text, order_ids text[]) returns integer
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
    waiting text;
    erased integer;
begin
    perform amzmp._check_buyer_access(account, order_ids, 'erased');
    select p.amazon_order_id into waiting
      from amzmp.parked_order p
     where p.account_id = acc and p.amazon_order_id = any (order_ids) and p.failed_at is null
     order by p.amazon_order_id limit 1;
    if found then
        perform amzmp._fail('AZ203', format('order %s is just being imported', waiting), null, 'Call it again in a moment.');
    end if;
    delete from amzmp.parked_order p where p.account_id = acc and p.amazon_order_id = any (order_ids);
    perform amzmp._import_succeeded(acc, order_ids);
    delete from amzmp.order_buyer b where b.account_id = acc and b.amazon_order_id = any (order_ids);
    update amzmp.orders o set personal_purged_at = now() where o.account_id = acc and o.amazon_order_id = any (order_ids);
    get diagnostics erased = row_count;
    perform amzmp._forget_reports(acc, array(
        select r.report_id from amzmp._personal_reports(acc) r where amzmp._names_orders(r, order_ids)));
    perform amzmp._forget_bodies(acc, order_ids);
    perform amzmp._log(acc, 0, 'notice', 'order', null, format('personal data of %s orders erased by %s', erased, amzmp._caller()));
    return erased;
end
$$;

select amzmp._expose('amzmp._erase_buyer(text, text[])', 'amzmp_buyer_data',
    'Removes the personal data of the orders named, for good; amounts and lines stay. Returns how many orders. Needs the role amzmp_buyer_data; every call is written to the server''s log.');

-- A text without this order's personal data: every value of it, and every word of three letters or more, is blanked.
create function amzmp._mask_personal(account_id bigint, amazon_order_id text, message text) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    masked text := $3;
    word text;
begin
    for word in
        select v.word
          from amzmp.order_buyer b
          cross join lateral jsonb_path_query(
                amzmp._open(b.sealed, 'buyer', b.account_id || '/' || b.amazon_order_id)::jsonb,
                'strict $.** ? (@.type() == "string")') as s (value)
          cross join lateral (
                select s.value #>> '{}' as word
                union select regexp_split_to_table(s.value #>> '{}', '[\s,;:@/()<>"]+')) as v
         where b.account_id = $1 and b.amazon_order_id = $2 and length(v.word) >= 3
         order by length(v.word) desc
    loop
        masked := regexp_replace(masked, regexp_replace(word, '([][\\.^$*+?(){}|])', '\\\1', 'g'), '…', 'gi');
    end loop;
    return masked;
end
$$;
