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
