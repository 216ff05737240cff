/*
 * report_type.sql
 *	  What reports there are, and what amzmp does with them.
 *
 * A type that amzmp takes something from names a handler, an inner function
 *
 *		amzmp._apply_xxx(report amzmp.report) returns text
 *
 * which an own runner calls once for each report that Amazon has made, in the transaction that marks it applied. It reads
 * the rows by amzmp._report_rows(account_id, report_id), or stages them with amzmp._stage_report where there may be very
 * many, and takes them as a set. What it returns is kept as the report's reason: null when all is well. It may set
 * the report's state to refused. When it raises, nothing of it holds and the report has failed, with the error as the
 * reason. empty_when_cancelled: Amazon cancels a report without data, so a cancelled one is handed over too, without rows.
 *
 * A flow or a person asks for reports: amzmp._request_report(account_id, channel_id, type, …). Types not listed here can
 * be requested as well; they count as personal.
 */
create table amzmp.report_type (
    name text primary key,
    title text not null,
    one_marketplace boolean not null default false,
    personal boolean not null default false,
    restricted boolean not null default false,
    spacing interval not null default '30 minutes',
    longest interval,
    empty_when_cancelled boolean not null default false,
    options jsonb not null default '{}',
    handler text,
    buyer_columns text[] not null default '{}',
    constraint report_type_name_check check (name ~ '^[A-Z][A-Z0-9_]{0,99}$')
);

comment on table amzmp.report_type is 'Types of reports that amzmp knows: what they hold, and how often they can be had. Reference data.';
comment on column amzmp.report_type.name is 'Amazon''s name of the type.';
comment on column amzmp.report_type.title is 'What is in it.';
comment on column amzmp.report_type.one_marketplace is 'Is it about one marketplace, so that it is requested for a channel?';
comment on column amzmp.report_type.personal is 'Does it hold personal data of buyers? Then it is sealed, and reading it needs the role amzmp_buyer_data.';
comment on column amzmp.report_type.restricted is 'Does Amazon give its document out to a restricted data token only?';
comment on column amzmp.report_type.spacing is 'Amazon makes no newer one sooner than this after the last; what an account needs beyond is learned (amzmp.report_pace).';
comment on column amzmp.report_type.longest is 'The longest range of time that one report covers; null: it covers none, or any.';
comment on column amzmp.report_type.empty_when_cancelled is 'Is a report that Amazon cancels one without rows?';
comment on column amzmp.report_type.options is 'Options that are always sent, beside those of the request.';
comment on column amzmp.report_type.handler is 'Inner function that takes finished reports; null: amzmp takes nothing from them, report_rows() shows them.';

insert into amzmp.report_type (name, title, one_marketplace, personal, spacing, longest, empty_when_cancelled)
values
    ('GET_MERCHANT_LISTINGS_ALL_DATA', 'All listings with their state', true, false, '1 hour', null, false),
    ('GET_MERCHANT_LISTINGS_DATA', 'Active listings', true, false, '1 hour', null, false),
    ('GET_MERCHANT_LISTINGS_INACTIVE_DATA', 'Inactive listings', true, false, '1 hour', null, false),
    ('GET_MERCHANT_CANCELLED_LISTINGS_DATA', 'Cancelled listings', true, false, '1 hour', null, true),
    ('GET_MERCHANTS_LISTINGS_FYP_REPORT', 'Listings that are suppressed from search, with reasons', true, false, '1 hour', null, true),
    ('GET_FLAT_FILE_OPEN_LISTINGS_DATA', 'Open listings: SKU, ASIN, price, quantity', true, false, '1 hour', null, false),
    ('GET_AFN_INVENTORY_DATA', 'Stock in Amazon''s warehouses', false, false, '30 minutes', null, true),
    ('GET_FBA_MYI_UNSUPPRESSED_INVENTORY_DATA', 'Stock in Amazon''s warehouses, with what is reserved and inbound', false, false, '30 minutes', null, true),
    ('GET_FBA_MYI_ALL_INVENTORY_DATA', 'The same, archived items included', false, false, '30 minutes', null, true),
    ('GET_RESERVED_INVENTORY_DATA', 'Stock in Amazon''s warehouses that is reserved', false, false, '30 minutes', null, true),
    ('GET_FLAT_FILE_ALL_ORDERS_DATA_BY_LAST_UPDATE_GENERAL', 'Order items by the time of their last change', false, false, '30 minutes', '30 days', true),
    ('GET_FLAT_FILE_ALL_ORDERS_DATA_BY_ORDER_DATE_GENERAL', 'Order items by the time of the order', false, false, '30 minutes', '30 days', true),
    ('GET_FLAT_FILE_ACTIONABLE_ORDER_DATA_SHIPPING', 'Orders to be shipped, with addresses', false, true, '30 minutes', '60 days', true),
    ('GET_FLAT_FILE_ORDER_REPORT_DATA_SHIPPING', 'Orders with addresses', false, true, '30 minutes', '60 days', true),
    ('GET_FLAT_FILE_RETURNS_DATA_BY_RETURN_DATE', 'Returns to the merchant', false, false, '30 minutes', '60 days', true),
    ('GET_CSV_MFN_PRIME_RETURNS_REPORT', 'Returns of Seller Fulfilled Prime', false, false, '30 minutes', '60 days', true),
    ('GET_FBA_FULFILLMENT_CUSTOMER_RETURNS_DATA', 'Returns to Amazon''s warehouses', false, false, '4 hours', '60 days', true),
    ('GET_V2_SETTLEMENT_REPORT_DATA_FLAT_FILE_V2', 'Settlements; Amazon makes them, they cannot be requested', false, false, '4 hours', null, true);

comment on column amzmp.report_type.buyer_columns is 'Columns about buyers, or in their words, of a report that is not personal as a whole: they are left out as soon as it is here.';

update amzmp.report_type
set restricted = true
where personal;

update amzmp.report_type
set buyer_columns = '{ship-city,ship-state,ship-postal-code,buyer-company-name,buyer-identification-number,buyer-identification-type,purchase-order-number,customized-url,customized-page}'
where name like 'GET_FLAT_FILE_ALL_ORDERS_DATA_BY_%';

update amzmp.report_type
set buyer_columns = '{customer-comments}'
where name in ('GET_FBA_FULFILLMENT_CUSTOMER_RETURNS_DATA', 'GET_FLAT_FILE_RETURNS_DATA_BY_RETURN_DATE', 'GET_CSV_MFN_PRIME_RETURNS_REPORT');

/*
 * The names of columns. Amazon writes them with hyphens, blanks or underscores, and in some marketplaces in the seller's
 * language; here they are in lower case, with hyphens for blanks, and in Amazon's own English words.
 */
create table amzmp.report_heading (
    heading text primary key,
    name text not null
);

comment on table amzmp.report_heading is 'What translated columns of reports are called in English. Reference data.';
comment on column amzmp.report_heading.heading is 'The heading as it comes, in lower case, with hyphens for blanks.';
comment on column amzmp.report_heading.name is 'Amazon''s English name of the column.';

insert into amzmp.report_heading (heading, name)
values
    ('artikelbezeichnung', 'item-name'),
    ('artikelbeschreibung', 'item-description'),
    ('angebotsnummer', 'listing-id'),
    ('händler-sku', 'seller-sku'),
    ('preis', 'price'),
    ('menge', 'quantity'),
    ('erstellungsdatum', 'open-date'),
    ('bild-url', 'image-url'),
    ('artikel-ist-marketplace-angebot', 'item-is-marketplace'),
    ('produkt-id-typ', 'product-id-type'),
    ('anmerkung-zum-artikel', 'item-note'),
    ('artikelzustand', 'item-condition'),
    ('asin-1', 'asin1'),
    ('asin-2', 'asin2'),
    ('asin-3', 'asin3'),
    ('internationaler-versand', 'will-ship-internationally'),
    ('expressversand', 'expedited-shipping'),
    ('produkt-id', 'product-id'),
    ('hinzufügen-löschen', 'add-delete'),
    ('anzahl-bestellungen', 'pending-quantity'),
    ('versender', 'fulfillment-channel'),
    ('händlerversandgruppe', 'merchant-shipping-group'),
    ('商品名', 'item-name'),
    ('出品id', 'listing-id'),
    ('出品者sku', 'seller-sku'),
    ('価格', 'price'),
    ('数量', 'quantity'),
    ('出品日', 'open-date'),
    ('商品idタイプ', 'product-id-type'),
    ('コンディション説明', 'item-note'),
    ('コンディション', 'item-condition'),
    ('国外へ配送可', 'will-ship-internationally'),
    ('迅速な配送', 'expedited-shipping'),
    ('商品id', 'product-id'),
    ('在庫数', 'pending-quantity'),
    ('フルフィルメント・チャンネル', 'fulfillment-channel'),
    ('ステータス', 'status'),
    ('nom-du-produit', 'item-name'),
    ('référence-vendeur', 'seller-sku'),
    ('prix', 'price'),
    ('quantité', 'quantity'),
    ('canal-d''expédition', 'fulfillment-channel'),
    ('statut', 'status'),
    ('sku-vendeur', 'seller-sku'),
    ('sku-venditore', 'seller-sku'),
    ('prezzo', 'price'),
    ('quantità', 'quantity'),
    ('stato', 'status'),
    ('sku-del-vendedor', 'seller-sku'),
    ('precio', 'price'),
    ('cantidad', 'quantity'),
    ('estado', 'status');

-- Our names of a report's columns. A name that comes twice gets its number behind it, an empty one is "column-N".
create function amzmp._report_columns(headings text[])
    returns text[]
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(array_agg(case n.times when 1 then n.name else n.name || '-' || n.times end order by n.position), '{}')
    from (
        select m.position, m.name, row_number() over (partition by m.name order by m.position) as times
        from (
            select h.position, coalesce(t.name, nullif(c.heading, ''), 'column-' || h.position) as name
            from unnest(_report_columns.headings) with ordinality as h (heading, position)
            cross join lateral (
                select regexp_replace(lower(btrim(h.heading, ' "')), '[[:space:]]+', '-', 'g') as heading
            ) as c
            left join amzmp.report_heading as t on t.heading = c.heading
        ) as m
    ) as n;
end;

-- What is known about a type, also where it is none of ours.
create function amzmp._report_type(type text)
    returns amzmp.report_type
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select case
            when t.name is not null then t
            else (u.name, u.name, false, true, false, interval '30 minutes', null, false, '{}'::jsonb, null, '{}'::text[])::amzmp.report_type
        end
    from (select _report_type.type as name) as u
    left join amzmp.report_type as t using (name);
end;
