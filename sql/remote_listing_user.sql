/*
 * remote_listing_user.sql
 *	  What people see of listing reports, and what they do with them: listings that are not managed here, and those that
 *	  vanished; asking for a report; taking listings into management.
 */

/*
 * Products of the shop that a listing at Amazon is: by the same SKU, or else by its barcode or its ASIN. One that several
 * fit is in here as often.
 */
create function amzmp._unmanaged_products(account_id bigint, channel_id bigint)
    returns table (amazon_sku text, sku text, by text)
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    with unmanaged as materialized (
        select r.sku, r.asin, case when r.product_id_type in ('2', '3', '4') then amzmp._gtin(r.product_id) end as ean
        from amzmp.remote_listing as r
        where (r.account_id, r.channel_id) = (_unmanaged_products.account_id, _unmanaged_products.channel_id)
            and r.vanished_at is null
            and not exists (
                select
                from amzmp.listing as l
                where (l.account_id, l.channel_id, l.sku) = (r.account_id, r.channel_id, r.sku)
                    and l.state not in ('not_listed', 'removed')
            )
    ), product as (
        select distinct p.sku, amzmp._gtin(p.ean) as ean, p.asin
        from amzmp.product as p
        join amzmp.source as s using (account_id, source_id)
        where p.account_id = _unmanaged_products.account_id
            and s.channel_id in (0, _unmanaged_products.channel_id)
            and not p.gone
    )
    select u.sku, p.sku, 'sku' as by from unmanaged as u join product as p on p.sku = u.sku
    union
    select u.sku, p.sku, 'ean' from unmanaged as u join product as p on p.ean = u.ean
    where u.sku not in (select x.sku from product as x)
    union
    select u.sku, p.sku, 'asin' from unmanaged as u join product as p on p.asin = u.asin
    where u.sku not in (select x.sku from product as x);
end;

create view amzmp.unmanaged_listing
    with (security_invoker = true)
as
    select a.name as account, c.name as channel, r.sku, r.asin, r.title, r.price, m.currency, r.quantity, r.status,
        r.fulfillment, r.product_id, k.sku as linked_to
    from amzmp.remote_listing as r
    join amzmp.account as a using (account_id)
    join amzmp.channel as c using (account_id, channel_id)
    join amzmp.marketplace as m using (marketplace_id)
    left join amzmp.sku_link as k on (k.account_id, k.amazon_sku) = (r.account_id, r.sku)
    where r.vanished_at is null
        and not exists (
            select
            from amzmp.listing as l
            where (l.account_id, l.channel_id, l.sku) = (r.account_id, r.channel_id, r.sku)
                and l.state not in ('not_listed', 'removed')
        );

comment on view amzmp.unmanaged_listing is 'Listings at Amazon that amzmp does not manage. adopt() takes those into management that the shop has.';
comment on column amzmp.unmanaged_listing.account is 'Name of the account.';
comment on column amzmp.unmanaged_listing.channel is 'Name of the channel.';
comment on column amzmp.unmanaged_listing.sku is 'The SKU at Amazon.';
comment on column amzmp.unmanaged_listing.asin is 'Amazon''s catalogue item.';
comment on column amzmp.unmanaged_listing.title is 'Its title.';
comment on column amzmp.unmanaged_listing.price is 'Its price.';
comment on column amzmp.unmanaged_listing.currency is 'Currency of the price.';
comment on column amzmp.unmanaged_listing.quantity is 'Units for sale; null: unknown.';
comment on column amzmp.unmanaged_listing.status is 'active, inactive or incomplete.';
comment on column amzmp.unmanaged_listing.fulfillment is 'Who ships: merchant or amazon.';
comment on column amzmp.unmanaged_listing.product_id is 'Its barcode or ASIN.';
comment on column amzmp.unmanaged_listing.linked_to is 'The shop''s SKU that it counts as, see link_item().';

create view amzmp.vanished_listing
    with (security_invoker = true)
as
    select a.name as account, c.name as channel, r.sku, r.asin, r.title, r.vanished_at, l.state
    from amzmp.remote_listing as r
    join amzmp.account as a using (account_id)
    join amzmp.channel as c using (account_id, channel_id)
    left join amzmp.listing as l using (account_id, channel_id, sku)
    where r.vanished_at is not null;

comment on view amzmp.vanished_listing is 'Listings that Amazon''s reports showed once and do not show any more.';
comment on column amzmp.vanished_listing.account is 'Name of the account.';
comment on column amzmp.vanished_listing.channel is 'Name of the channel.';
comment on column amzmp.vanished_listing.sku is 'The SKU at Amazon.';
comment on column amzmp.vanished_listing.asin is 'Amazon''s catalogue item.';
comment on column amzmp.vanished_listing.title is 'Its title.';
comment on column amzmp.vanished_listing.vanished_at is 'Since when it is missing.';
comment on column amzmp.vanished_listing.state is 'Its state here; null: amzmp does not manage it.';

create function amzmp._reconcile(channel text)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    place constant amzmp.channel := amzmp._channel(channel);
begin
    return amzmp._request_report(place.account_id, place.channel_id, 'GET_MERCHANT_LISTINGS_ALL_DATA',
        cause => jsonb_build_object('role', amzmp._caller(), 'at', now(), 'verb', 'reconcile'));
end
$$;

select amzmp._expose('amzmp._reconcile(text)', 'amzmp_operator',
    'Compare a channel with Amazon''s report of all its listings: amzmp.remote_listing holds it afterwards, amzmp.drift what differs. Returns the number of the report.');

/*
 * Take listings into management that were made elsewhere. By SKU they are published, which finds them there; by barcode
 * or ASIN they have another SKU at Amazon and are linked, so that their orders count as the shop's product.
 */
create function amzmp._adopt(channel text, skus text[] default null, by text default 'sku')
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
    amazon_skus text[];
    shop_skus text[];
begin
    if coalesce(by, '') not in ('sku', 'ean', 'asin') then
        perform amzmp._fail('AZ202', format('listings are not adopted by %L', by), null, 'Adopt them by sku, ean or asin.');
    end if;
    select array_agg(u.amazon_sku), array_agg(u.sku) into amazon_skus, shop_skus
    from (
        select p.amazon_sku, min(p.sku) as sku
        from amzmp._unmanaged_products(place.account_id, place.channel_id) as p
        where p.by = _adopt.by
            and (_adopt.skus is null or p.amazon_sku = any (_adopt.skus))
            and not exists (
                select from amzmp.sku_link as k where (k.account_id, k.amazon_sku) = (place.account_id, p.amazon_sku)
            )
        group by p.amazon_sku
        having count(*) = 1
        order by p.amazon_sku
    ) as u;
    if amazon_skus is null then
        return 0;
    elsif by = 'sku' then
        return amzmp._publish(channel, array(
                select p.sku from amzmp._listing_products(place.account_id, place.channel_id, shop_skus) as p
            ));
    end if;
    perform amzmp._link(place.account_id, u.amazon_sku, u.sku, amzmp._caller())
    from unnest(amazon_skus, shop_skus) as u (amazon_sku, sku);
    return cardinality(amazon_skus);
end
$$;

select amzmp._expose('amzmp._adopt(text, text[], text)', 'amzmp_operator',
    'Take listings that Amazon has (amzmp.unmanaged_listing; all of the channel, or those named) into management, where the shop has the product: by sku they are published, by ean or asin linked, so that their orders count as it. Returns how many.');

-- The flow: ask for the report. What follows comes with it.
insert into amzmp.flow (flow, scope, every, on_by_default, capability, title, description) values
    ('reconcile', 'channel', '37 2 * * *', true, 'offers', 'Compare with Amazon',
     'Asks for Amazon''s report of all listings of the channel, and reads what contradicts it.');

create function amzmp._flow_reconcile(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._request_report(account_id, channel_id, 'GET_MERCHANT_LISTINGS_ALL_DATA',
        cause => jsonb_build_object('flow_run', flow_run_id));
end;

comment on function amzmp._flow_reconcile(bigint, bigint, bigint) is 'Inner: the flow reconcile: ask for the report of all listings.';
