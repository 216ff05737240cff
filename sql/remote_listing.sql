/*
 * remote_listing.sql
 *	  What Amazon says that we sell there: its report of all listings, kept as a table and compared with what we expect.
 *
 *		report ──stage──▶ listing_stage (temporary) ──merge──▶ remote_listing ──compare──▶ doubts ──▶ read from Amazon
 *
 * remote_listing has a row for each SKU that a report has shown, ours or not. It is written where a report says something
 * new, so a report in which nothing changed writes nothing; what a report no longer shows is marked as vanished.
 *
 * A report may be hours old when it comes (the setting report_age), so it is no proof. Where it contradicts what we
 * expect, and nothing was sent since, observed values take what it says, so that amzmp.drift shows it at once, and the
 * SKU is read from Amazon; what is expected to be live, and a listing's state, change by that reading alone (observe.sql).
 * A few SKUs that agree are read as well, at random.
 *
 * A report without the columns that it must have, or in which too many known SKUs are missing, is refused: Amazon has
 * delivered empty, cut and foreign documents. retry_report(account, report_id) lets a person apply it all the same.
 */
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'report_age', 'account', 'interval', 'Age of listing reports', '"06:00:00"', 0, 172800,
        'How old a listing report may be when Amazon delivers it: it keeps them for some hours. What was sent since then is not compared with it.'),
    (true, 'vanish_minimum', 'both', 'integer', 'Listings that may vanish', '50', 0, null,
        'A listing report in which more listings than this are missing, and more than vanish_percent, is refused.'),
    (true, 'vanish_percent', 'both', 'number', 'Per cent of listings that may vanish', '10', 0, 100,
        'See vanish_minimum.'),
    (true, 'verify_most', 'both', 'integer', 'Listings to be verified', '1000', 0, 100000,
        'How many of the listings that contradict a report are read from Amazon at once.'),
    (true, 'verify_sample', 'both', 'integer', 'Listings to be verified at random', '20', 0, 10000,
        'How many of the listings that agree with a report are read from Amazon all the same.');

create table amzmp.remote_listing (
    account_id bigint not null,
    channel_id bigint not null,
    sku text not null,
    asin text,
    title text,
    description text,
    listing_id text,
    price numeric,
    quantity integer,
    status text,
    fulfillment text not null,
    fulfillment_channel text,
    condition text,
    condition_note text,
    product_id text,
    product_id_type text,
    shipping_group text,
    opened text,
    rest jsonb,
    digest bigint not null,
    report_id bigint not null,
    changed_at timestamptz not null,
    vanished_at timestamptz,
    primary key (account_id, channel_id, sku)
) with (fillfactor = 90);

create index remote_listing_vanished on amzmp.remote_listing (account_id, channel_id, vanished_at) where vanished_at is not null;

comment on table amzmp.remote_listing is 'Listings as Amazon''s last report of all listings shows them, those that amzmp does not manage included.';
comment on column amzmp.remote_listing.account_id is 'The account.';
comment on column amzmp.remote_listing.channel_id is 'The channel.';
comment on column amzmp.remote_listing.sku is 'The SKU at Amazon (seller-sku).';
comment on column amzmp.remote_listing.asin is 'Amazon''s catalogue item (asin1).';
comment on column amzmp.remote_listing.title is 'Its title (item-name).';
comment on column amzmp.remote_listing.description is 'Its description (item-description).';
comment on column amzmp.remote_listing.listing_id is 'Amazon''s number of the listing (listing-id).';
comment on column amzmp.remote_listing.price is 'Its price, without a sale.';
comment on column amzmp.remote_listing.quantity is 'Units for sale; null where Amazon ships, which means unknown and not zero.';
comment on column amzmp.remote_listing.status is 'active, inactive or incomplete; in another language as it came.';
comment on column amzmp.remote_listing.fulfillment is 'Who ships: merchant or amazon.';
comment on column amzmp.remote_listing.fulfillment_channel is 'Amazon''s code for that (fulfillment-channel).';
comment on column amzmp.remote_listing.condition is 'Amazon''s number of its condition: 11 is new, 1 to 4 used, 5 to 8 collectible, 10 refurbished.';
comment on column amzmp.remote_listing.condition_note is 'Note on the condition (item-note).';
comment on column amzmp.remote_listing.product_id is 'Its barcode or ASIN (product-id).';
comment on column amzmp.remote_listing.product_id_type is 'What that is: 1 ASIN, 2 ISBN, 3 UPC, 4 EAN.';
comment on column amzmp.remote_listing.shipping_group is 'Its shipping template (merchant-shipping-group).';
comment on column amzmp.remote_listing.opened is 'When it was made, as Amazon writes it (open-date).';
comment on column amzmp.remote_listing.rest is 'All other columns of the report that are not empty, by name.';
comment on column amzmp.remote_listing.digest is 'A number made of the whole row, by which a changed one is known.';
comment on column amzmp.remote_listing.report_id is 'The report that last said something new about it.';
comment on column amzmp.remote_listing.changed_at is 'When that report was asked for.';
comment on column amzmp.remote_listing.vanished_at is 'Since when reports do not show it any more.';

update amzmp.report_type
set handler = '_apply_listing_report'
where name = 'GET_MERCHANT_LISTINGS_ALL_DATA';

/*
 * Inner, handler of GET_MERCHANT_LISTINGS_ALL_DATA. Returns what came of it in one line.
 */
create function amzmp._apply_listing_report(report amzmp.report)
    returns text
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    problem text := amzmp._wrong_columns(report.columns);
    merged record;
    doubts record;
begin
    if problem is null then
        perform amzmp._stage_listings(report);
        perform amzmp._find_listing_news(report);
        problem := amzmp._implausible_listings(report);
    end if;
    if problem is not null then
        perform amzmp._refuse_report(report);
        return problem;
    end if;
    perform amzmp._note_seen_in_report(report);
    merged := amzmp._merge_listings(report);
    doubts := amzmp._doubt_listings(report);
    drop table pg_temp.listing_stage, pg_temp.listing_news cascade;
    return format('%s listings: %s new, %s changed, %s vanished; %s contradict what we expect, %s are read from Amazon',
        report.rows, merged.added, merged.changed, merged.vanished, doubts.doubted, doubts.read);
end
$$;

create function amzmp._refuse_report(report amzmp.report)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    update amzmp.report as x
    set state = 'refused'
    where (x.account_id, x.report_id) = (report.account_id, report.report_id);
end;

-- Documents of another type have been delivered: a listing report has these columns at least.
create function amzmp._wrong_columns(columns text[])
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select format('it is no listing report: it has no column %s', string_agg(n.name, ', ' order by n.place))
        || ', but ' || coalesce(nullif(array_to_string(columns[:10], ', '), ''), 'none at all')
    from unnest('{seller-sku,price,quantity,asin1}'::text[]) with ordinality as n (name, place)
    where n.name <> all (coalesce(columns, '{}'))
    having count(*) > 0
$$;

create function amzmp._stage_listings(report amzmp.report)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    drop table if exists pg_temp.listing_stage cascade;
    create temporary table listing_stage (
        digest bigint,
        seller_sku text,
        item_name text,
        item_description text,
        listing_id text,
        price text,
        quantity text,
        open_date text,
        product_id_type text,
        item_note text,
        item_condition text,
        asin1 text,
        product_id text,
        fulfillment_channel text,
        merchant_shipping_group text,
        status text,
        rest jsonb
    ) on commit drop;
    perform amzmp._stage_report(report.account_id, report.document_id, 'pg_temp.listing_stage');
    analyze pg_temp.listing_stage (digest, seller_sku, price, quantity);
    perform amzmp._read_stage();
end
$$;

/*
 * What the texts mean: numbers in which a comma may part the thousands or the cents, states in the languages in which they
 * come. A view with expressions and no functions, because there may be millions of rows.
 */
create function amzmp._read_stage()
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    create temporary view listing_read as
    select s.*,
        case
            when s.price ~ '^\d{1,12}(\.\d{1,6})?$' then s.price::numeric
            when s.price ~ '^\d{1,3}(\.?\d{3}){0,3},\d{1,2}$' then replace(replace(s.price, '.', ''), ',', '.')::numeric
            when s.price ~ '^\d{1,3}(,\d{3}){1,3}(\.\d{1,6})?$' then replace(s.price, ',', '')::numeric
        end as amount,
        case when s.quantity ~ '^\d{1,9}$' then s.quantity::integer end as units,
        case
            when lower(s.status) in ('active', 'aktiv', 'actif', 'attivo', 'activo', '出品中') then 'active'
            when lower(s.status) in ('inactive', 'inaktiv', 'inactif', 'inattivo', 'inactivo', '停止中') then 'inactive'
            when lower(s.status) in ('incomplete', 'unvollständig', 'incomplet', 'incompleto', '未完了') then 'incomplete'
            else lower(s.status)
        end as state,
        case when s.fulfillment_channel like 'AMAZON%' then 'amazon' else 'merchant' end as shipped_by
    from pg_temp.listing_stage as s
    where s.seller_sku is not null;
end
$$;

/*
 * What the report says anew, by SKU alone: one comparison with what the last one said, by digest. Into a channel of which
 * nothing is known yet everything goes as it is.
 */
create function amzmp._find_listing_news(report amzmp.report)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    set work_mem = '16MB'
as $$
#variable_conflict use_column
begin
    drop table if exists pg_temp.listing_news cascade;
    create temporary table listing_news (sku text, kind text) on commit drop;
    if not exists (
        select
        from amzmp.remote_listing as r
        where (r.account_id, r.channel_id) = (report.account_id, report.channel_id)
    ) then
        create temporary view listing_new as
        select n.* from pg_temp.listing_read as n;
        return;
    end if;
    insert into pg_temp.listing_news (sku, kind)
    select coalesce(s.seller_sku, r.sku),
        case when s.seller_sku is null then 'missing' when r.sku is null then 'new' else 'changed' end
    from (
        select n.seller_sku, n.digest from pg_temp.listing_stage as n where n.seller_sku is not null
    ) as s
    full join (
        select o.sku, o.digest, o.vanished_at
        from amzmp.remote_listing as o
        where (o.account_id, o.channel_id) = (report.account_id, report.channel_id)
    ) as r on r.sku = s.seller_sku
    where r.sku is null
        or s.seller_sku is null and r.vanished_at is null
        or s.seller_sku is not null and (r.vanished_at is not null or r.digest <> s.digest);
    create temporary view listing_new as
    select n.*
    from pg_temp.listing_read as n
    join pg_temp.listing_news as w on w.sku = n.seller_sku
    where w.kind = 'new';
    analyze pg_temp.listing_news;
end
$$;

/*
 * Too many of the listings that were there are missing in the report: of those that the last one had, or, if it is the
 * first, of ours. Null: it may be true.
 */
create function amzmp._implausible_listings(report amzmp.report)
    returns text
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    set work_mem = '16MB'
as $$
#variable_conflict use_column
declare
    settled_before constant timestamptz := report.submitted_at - amzmp._account_interval(report.account_id, 0, 'report_age');
    missing bigint := (select count(*) from pg_temp.listing_news as n where n.kind = 'missing');
    known bigint := (
        select count(*)
        from amzmp.remote_listing as r
        where (r.account_id, r.channel_id) = (report.account_id, report.channel_id)
            and r.vanished_at is null
    );
begin
    if known = 0 then
        select count(*), count(*) filter (where s.seller_sku is null) into known, missing
        from amzmp.listing as l
        left join pg_temp.listing_stage as s on s.seller_sku = l.sku
        where (l.account_id, l.channel_id) = (report.account_id, report.channel_id)
            and l.state in ('live', 'live_with_issues', 'off_sale')
            and l.published_at < settled_before;
    end if;
    if report.accepted_by is null
            and missing > amzmp._setting_int(report.account_id, report.channel_id, 'vanish_minimum')
            and missing > known * amzmp._setting_numeric(report.account_id, report.channel_id, 'vanish_percent') / 100 then
        return format('%s of %s listings that were there are missing in it; retry_report() applies it all the same', missing, known);
    end if;
    return null;
end
$$;

/*
 * Write what is new. Rows are told apart by their digest, so most of them are not even looked at.
 */
create function amzmp._merge_listings(report amzmp.report, out added bigint, out changed bigint, out vanished bigint)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    set work_mem = '16MB'
as $$
#variable_conflict use_column
begin
    update amzmp.remote_listing as r
    set vanished_at = report.submitted_at
    from pg_temp.listing_news as w
    where (r.account_id, r.channel_id, r.sku) = (report.account_id, report.channel_id, w.sku)
        and w.kind = 'missing';
    get diagnostics vanished = row_count;

    update amzmp.remote_listing as r
    set asin = n.asin1, title = n.item_name, description = n.item_description, listing_id = n.listing_id,
        price = n.amount, quantity = n.units, status = n.state, fulfillment = n.shipped_by,
        fulfillment_channel = n.fulfillment_channel, condition = n.item_condition, condition_note = n.item_note,
        product_id = n.product_id, product_id_type = n.product_id_type, shipping_group = n.merchant_shipping_group,
        opened = n.open_date, rest = n.rest, digest = n.digest, report_id = report.report_id,
        changed_at = report.submitted_at, vanished_at = null
    from pg_temp.listing_read as n
    join pg_temp.listing_news as w on w.sku = n.seller_sku and w.kind = 'changed'
    where (r.account_id, r.channel_id, r.sku) = (report.account_id, report.channel_id, w.sku);
    get diagnostics changed = row_count;

    -- Amazon should not, but may, show a SKU twice. In the order of the key, because an index takes a million rows in order in
    -- half the time, and without ON CONFLICT, which writes each row twice over.
    insert into amzmp.remote_listing (account_id, channel_id, sku, asin, title, description, listing_id, price, quantity,
        status, fulfillment, fulfillment_channel, condition, condition_note, product_id, product_id_type, shipping_group,
        opened, rest, digest, report_id, changed_at)
    select distinct on (n.seller_sku) report.account_id, report.channel_id, n.seller_sku, n.asin1, n.item_name,
        n.item_description, n.listing_id, n.amount, n.units, n.state, n.shipped_by, n.fulfillment_channel, n.item_condition,
        n.item_note, n.product_id, n.product_id_type, n.merchant_shipping_group, n.open_date, n.rest, n.digest,
        report.report_id, report.submitted_at
    from pg_temp.listing_new as n
    order by n.seller_sku;
    get diagnostics added = row_count;
end
$$;
