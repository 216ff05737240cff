/*
 * report_view.sql
 *	  Reports of some types as views with typed columns: the newest one of each account that is here; of orders, all of them, because each
 *	  covers its own days. A listing report is
 *	  the table amzmp.remote_listing. Each query decodes the report anew, so who asks often keeps what was found.
 */
create view amzmp.fba_inventory_report
    with (security_invoker = true)
as
    select a.name as account, r.report_id, r.submitted_at as as_of, x.sku, x.fnsku, x.asin, x."product-name" as title,
        x.condition, x."your-price" as price, x."afn-fulfillable-quantity" as fulfillable,
        x."afn-unsellable-quantity" as unsellable, x."afn-reserved-quantity" as reserved,
        x."afn-inbound-working-quantity" as inbound_working, x."afn-inbound-shipped-quantity" as inbound_shipped,
        x."afn-inbound-receiving-quantity" as inbound_receiving, x."afn-researching-quantity" as researching,
        x."afn-total-quantity" as total
    from (
        select distinct on (n.account_id) n.account_id, n.report_id, n.submitted_at
        from amzmp.report as n
        where n.type in ('GET_FBA_MYI_UNSUPPRESSED_INVENTORY_DATA', 'GET_FBA_MYI_ALL_INVENTORY_DATA')
            and n.state in ('downloaded', 'applied')
            and n.document_id is not null
        order by n.account_id, n.report_id desc
    ) as r
    join amzmp.account as a using (account_id)
    cross join lateral amzmp.report_rows(a.name, r.report_id) as c
    cross join lateral jsonb_to_record(c.cells) as x (sku text, fnsku text, asin text, "product-name" text, condition text,
        "your-price" numeric, "afn-fulfillable-quantity" integer, "afn-unsellable-quantity" integer,
        "afn-reserved-quantity" integer, "afn-inbound-working-quantity" integer, "afn-inbound-shipped-quantity" integer,
        "afn-inbound-receiving-quantity" integer, "afn-researching-quantity" integer, "afn-total-quantity" integer);

comment on view amzmp.fba_inventory_report is 'Stock in Amazon''s warehouses as the newest report of it shows (GET_FBA_MYI_UNSUPPRESSED_INVENTORY_DATA or …_ALL_…).';
comment on column amzmp.fba_inventory_report.account is 'Name of the account.';
comment on column amzmp.fba_inventory_report.report_id is 'The report.';
comment on column amzmp.fba_inventory_report.as_of is 'When Amazon was asked for it.';
comment on column amzmp.fba_inventory_report.sku is 'The SKU at Amazon.';
comment on column amzmp.fba_inventory_report.fnsku is 'Amazon''s number of the goods.';
comment on column amzmp.fba_inventory_report.asin is 'The catalogue item.';
comment on column amzmp.fba_inventory_report.title is 'Its title.';
comment on column amzmp.fba_inventory_report.condition is 'Its condition.';
comment on column amzmp.fba_inventory_report.price is 'The price of the offer.';
comment on column amzmp.fba_inventory_report.fulfillable is 'Units that can be sold.';
comment on column amzmp.fba_inventory_report.unsellable is 'Units that cannot: damaged, expired.';
comment on column amzmp.fba_inventory_report.reserved is 'Units that are sold already, or being moved.';
comment on column amzmp.fba_inventory_report.inbound_working is 'Units that are announced.';
comment on column amzmp.fba_inventory_report.inbound_shipped is 'Units on their way.';
comment on column amzmp.fba_inventory_report.inbound_receiving is 'Units that are being received.';
comment on column amzmp.fba_inventory_report.researching is 'Units that Amazon looks for.';
comment on column amzmp.fba_inventory_report.total is 'All units.';

create view amzmp.order_report
    with (security_invoker = true)
as
    select a.name as account, r.report_id, r.submitted_at as as_of, x."amazon-order-id" as amazon_order_id,
        x."merchant-order-id" as merchant_order_id, x."purchase-date" as purchased_at,
        x."last-updated-date" as last_updated_at, x."order-status" as order_status, x."item-status" as item_status,
        x."fulfillment-channel" as fulfillment_channel, x."sales-channel" as sales_channel,
        x."ship-service-level" as ship_service_level, x.sku, x.asin, x."product-name" as title, x.quantity, x.currency,
        x."item-price" as item_price, x."item-tax" as item_tax, x."shipping-price" as shipping_price,
        x."shipping-tax" as shipping_tax, x."item-promotion-discount" as item_discount,
        x."ship-promotion-discount" as shipping_discount, x."ship-country" as ship_country
    from (
        select o.*, max(o.report_id) over (partition by o.account_id, o.cells ->> 'amazon-order-id') as newest
        from (
            select n.account_id, n.report_id, n.submitted_at, c.cells
            from amzmp.report as n
            join amzmp.account as b on b.account_id = n.account_id
            cross join lateral amzmp.report_rows(b.name, n.report_id) as c
            where n.type in ('GET_FLAT_FILE_ALL_ORDERS_DATA_BY_LAST_UPDATE_GENERAL', 'GET_FLAT_FILE_ALL_ORDERS_DATA_BY_ORDER_DATE_GENERAL')
                and n.state in ('downloaded', 'applied')
                and n.document_id is not null
        ) as o
    ) as r
    join amzmp.account as a using (account_id)
    cross join lateral jsonb_to_record(r.cells) as x ("amazon-order-id" text, "merchant-order-id" text,
        "purchase-date" timestamptz, "last-updated-date" timestamptz, "order-status" text, "item-status" text,
        "fulfillment-channel" text, "sales-channel" text, "ship-service-level" text, sku text, asin text, "product-name" text,
        quantity integer, currency text, "item-price" numeric, "item-tax" numeric, "shipping-price" numeric,
        "shipping-tax" numeric, "item-promotion-discount" numeric, "ship-promotion-discount" numeric, "ship-country" text)
    where r.report_id = r.newest;

comment on view amzmp.order_report is 'Order items as reports of all orders show them (GET_FLAT_FILE_ALL_ORDERS_DATA_BY_…_GENERAL), each order by the newest report that has it. No buyers'' data are in it.';
comment on column amzmp.order_report.account is 'Name of the account.';
comment on column amzmp.order_report.report_id is 'The report.';
comment on column amzmp.order_report.as_of is 'When Amazon was asked for it.';
comment on column amzmp.order_report.amazon_order_id is 'The order.';
comment on column amzmp.order_report.merchant_order_id is 'The shop''s number of it, where it was told.';
comment on column amzmp.order_report.purchased_at is 'When the buyer ordered.';
comment on column amzmp.order_report.last_updated_at is 'When it last changed.';
comment on column amzmp.order_report.order_status is 'Amazon''s state of the order.';
comment on column amzmp.order_report.item_status is 'Amazon''s state of the item.';
comment on column amzmp.order_report.fulfillment_channel is 'Who ships: Amazon or Merchant.';
comment on column amzmp.order_report.sales_channel is 'Where it was sold.';
comment on column amzmp.order_report.ship_service_level is 'The service that the buyer chose.';
comment on column amzmp.order_report.sku is 'The SKU at Amazon.';
comment on column amzmp.order_report.asin is 'The catalogue item.';
comment on column amzmp.order_report.title is 'Its title.';
comment on column amzmp.order_report.quantity is 'Units.';
comment on column amzmp.order_report.currency is 'Currency of the amounts.';
comment on column amzmp.order_report.item_price is 'Price of all units.';
comment on column amzmp.order_report.item_tax is 'Tax on it.';
comment on column amzmp.order_report.shipping_price is 'Price of shipping.';
comment on column amzmp.order_report.shipping_tax is 'Tax on it.';
comment on column amzmp.order_report.item_discount is 'Discount on the price.';
comment on column amzmp.order_report.shipping_discount is 'Discount on shipping.';
comment on column amzmp.order_report.ship_country is 'Where it goes.';

create view amzmp.listing_report
    with (security_invoker = true)
as
    select a.name as account, k.name as channel, r.type, r.report_id, r.submitted_at as as_of, coalesce(x."seller-sku", x.sku) as sku,
        coalesce(x.asin1, x.asin) as asin, x."item-name" as title, x."item-description" as description,
        x."listing-id" as listing_id, x.price, x.quantity, x."open-date" as opened, x."image-url" as image_url,
        x."item-is-marketplace" as item_is_marketplace, x."product-id-type" as product_id_type,
        x."zshop-shipping-fee" as zshop_shipping_fee, x."item-note" as condition_note, x."item-condition" as condition,
        x."zshop-category1" as zshop_category1, x."zshop-browse-path" as zshop_browse_path,
        x."zshop-storefront-feature" as zshop_storefront_feature, x.asin2, x.asin3,
        x."will-ship-internationally" as will_ship_internationally, x."expedited-shipping" as expedited_shipping,
        x."zshop-boldface" as zshop_boldface, x."product-id" as product_id,
        x."bid-for-featured-placement" as bid_for_featured_placement, x."add-delete" as add_delete,
        x."pending-quantity" as pending_quantity, x."fulfillment-channel" as fulfillment_channel,
        x."merchant-shipping-group" as shipping_group, x.status
    from (
        select distinct on (n.account_id, n.channel_id, n.type) n.account_id, n.channel_id, n.type, n.report_id, n.submitted_at
        from amzmp.report as n
        where n.type in ('GET_MERCHANT_LISTINGS_ALL_DATA', 'GET_MERCHANT_LISTINGS_DATA', 'GET_MERCHANT_LISTINGS_INACTIVE_DATA',
                'GET_FLAT_FILE_OPEN_LISTINGS_DATA')
            and n.state in ('downloaded', 'applied')
            and n.document_id is not null
        order by n.account_id, n.channel_id, n.type, n.report_id desc
    ) as r
    join amzmp.account as a using (account_id)
    join amzmp.channel as k using (account_id, channel_id)
    cross join lateral amzmp.report_rows(a.name, r.report_id) as c
    -- a comma may part the cents or the thousands
    cross join lateral (
        select case
                when c.cells ->> 'price' ~ ',\d{1,2}$'
                    then jsonb_build_object('price', replace(replace(c.cells ->> 'price', '.', ''), ',', '.'))
                when c.cells ? 'price' then jsonb_build_object('price', replace(c.cells ->> 'price', ',', ''))
                else '{}'
            end as price
    ) as p
    cross join lateral jsonb_to_record(c.cells || p.price) as x ("seller-sku" text, sku text, asin1 text, asin text,
        "item-name" text, "item-description" text, "listing-id" text, price numeric, quantity integer, "open-date" text, "image-url" text,
        "item-is-marketplace" text, "product-id-type" text, "zshop-shipping-fee" text, "item-note" text, "item-condition" text,
        "zshop-category1" text, "zshop-browse-path" text, "zshop-storefront-feature" text, asin2 text, asin3 text,
        "will-ship-internationally" text, "expedited-shipping" text, "zshop-boldface" text, "product-id" text,
        "bid-for-featured-placement" text, "add-delete" text, "pending-quantity" integer, "fulfillment-channel" text,
        "merchant-shipping-group" text, status text);

comment on view amzmp.listing_report is 'Listings as the newest listing report of each type shows them, with Amazon''s 26 columns and those that came later. amzmp.remote_listing keeps what the report of all listings says.';
comment on column amzmp.listing_report.account is 'Name of the account.';
comment on column amzmp.listing_report.channel is 'Name of the channel.';
comment on column amzmp.listing_report.type is 'Amazon''s type of the report.';
comment on column amzmp.listing_report.report_id is 'The report.';
comment on column amzmp.listing_report.as_of is 'When Amazon was asked for it.';
comment on column amzmp.listing_report.sku is 'The SKU at Amazon (seller-sku).';
comment on column amzmp.listing_report.asin is 'The catalogue item (asin1).';
comment on column amzmp.listing_report.title is 'Its title (item-name).';
comment on column amzmp.listing_report.description is 'Its description (item-description).';
comment on column amzmp.listing_report.listing_id is 'Amazon''s number of the listing.';
comment on column amzmp.listing_report.price is 'Its price, without a sale.';
comment on column amzmp.listing_report.quantity is 'Units for sale; null where Amazon ships, which means unknown and not zero.';
comment on column amzmp.listing_report.opened is 'When it was made, as Amazon writes it (open-date).';
comment on column amzmp.listing_report.image_url is 'Address of its image.';
comment on column amzmp.listing_report.item_is_marketplace is 'y for an offer of a seller.';
comment on column amzmp.listing_report.product_id_type is 'What product_id is: 1 ASIN, 2 ISBN, 3 UPC, 4 EAN.';
comment on column amzmp.listing_report.zshop_shipping_fee is 'Of an old programme.';
comment on column amzmp.listing_report.condition_note is 'Note on the condition (item-note).';
comment on column amzmp.listing_report.condition is 'Amazon''s number of its condition (item-condition): 11 is new.';
comment on column amzmp.listing_report.zshop_category1 is 'Of an old programme.';
comment on column amzmp.listing_report.zshop_browse_path is 'Of an old programme.';
comment on column amzmp.listing_report.zshop_storefront_feature is 'Of an old programme.';
comment on column amzmp.listing_report.asin2 is 'A further catalogue item.';
comment on column amzmp.listing_report.asin3 is 'A further catalogue item.';
comment on column amzmp.listing_report.will_ship_internationally is 'Is it shipped abroad?';
comment on column amzmp.listing_report.expedited_shipping is 'Is it shipped express?';
comment on column amzmp.listing_report.zshop_boldface is 'Of an old programme.';
comment on column amzmp.listing_report.product_id is 'Its barcode or ASIN.';
comment on column amzmp.listing_report.bid_for_featured_placement is 'Of an old programme.';
comment on column amzmp.listing_report.add_delete is 'What was done with it last: a or d.';
comment on column amzmp.listing_report.pending_quantity is 'Units in orders that are not paid yet.';
comment on column amzmp.listing_report.fulfillment_channel is 'Amazon''s code for who ships.';
comment on column amzmp.listing_report.shipping_group is 'Its shipping template (merchant-shipping-group).';
comment on column amzmp.listing_report.status is 'Active, Inactive or Incomplete, in the language of the report.';
