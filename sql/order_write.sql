/*
 * order_write.sql
 *	  Orders that arrived become rows: orders, lines, packages and the sealed personal part, a set at a time.
 *
 * Called by whatever imports (order_take.sql, order_apply.sql), which then settles what follows from the rows
 * (order_settle.sql). What is read of Amazon's document, and where it stands in it, is in _read_orders, of lines and packages in
 * _write_orders, and nowhere else.
 */
-- An order as it arrived: what is read of it for its row, its lines, packages and the rest as they came.
create type amzmp.arrived_order as (
    amazon_order_id text,
    last_updated_at timestamptz,
    status text,
    fulfilled_by text,
    purchased_at timestamptz,
    currency text,
    grand_total numeric,
    item numeric,
    shipping numeric,
    tax numeric,
    discount numeric,
    other numeric,
    ship_after timestamptz,
    ship_by timestamptz,
    deliver_after timestamptz,
    deliver_by timestamptz,
    service_level text,
    programs text[],
    sales_channel text,
    marketplace_id text,
    replaces text,
    cancellation_requested boolean,
    has_address boolean,
    buyer jsonb,
    recipient jsonb,
    tax_registrations jsonb,
    has_message boolean,
    is_customized boolean,
    payments jsonb,
    fulfillment_orders text[],
    packages text,
    items text,
    doc text,
    next_token text,
    searched_until timestamptz,
    complete boolean
);

comment on type amzmp.arrived_order is 'Inner: an order as Amazon sent it, taken apart, with what the page says that it came in; complete when everything was asked for.';

-- Orders out of an answer: those (or that) of the member that is named, '' where the text is the order, or an array of them.
create function amzmp._read_orders(answer text, member text, complete boolean) returns setof amzmp.arrived_order
    language sql stable parallel safe
    begin atomic
    select h.*, _read_orders.complete
      from amzmp._member_rows(answer, member, 'orderId', 'lastUpdatedTime', 'fulfillment.fulfillmentStatus', 'fulfillment.fulfilledBy', 'createdTime',
            'proceeds.grandTotal.currencyCode', 'proceeds.grandTotal.amount',
            'proceeds.breakdowns[type=ITEM].subtotal.amount', 'proceeds.breakdowns[type=SHIPPING].subtotal.amount',
            'proceeds.breakdowns[type=TAX].subtotal.amount', 'proceeds.breakdowns[type=DISCOUNT].subtotal.amount',
            'proceeds.breakdowns[type!=ITEM|SHIPPING|TAX|DISCOUNT].subtotal.amount',
            'fulfillment.shipByWindow.earliestDateTime', 'fulfillment.shipByWindow.latestDateTime',
            'fulfillment.deliverByWindow.earliestDateTime', 'fulfillment.deliverByWindow.latestDateTime',
            'fulfillment.fulfillmentServiceLevel', 'programs[]', 'salesChannel.channelName', 'salesChannel.marketplaceId',
            'associatedOrders[].orderId', 'orderItems[].cancellation.cancellationRequest',
            'recipient.deliveryAddress.addressLine1', 'buyer', 'recipient', 'tax.taxRegistrations',
            'orderItems[].fulfillment.packing.giftOption.giftMessage', 'orderItems[].product.customization.customizedUrl',
            'payment.paymentExecutions', 'fulfillmentOrders[].fulfillmentOrderId', 'packages', 'orderItems', '',
            '^.pagination.nextToken', '^.lastUpdatedBefore')
         as h (amazon_order_id text, last_updated_at timestamptz, status text, fulfilled_by text, purchased_at timestamptz,
               currency text, grand_total numeric, item numeric, shipping numeric, tax numeric, discount numeric, other numeric,
               ship_after timestamptz, ship_by timestamptz, deliver_after timestamptz, deliver_by timestamptz, service_level text,
               programs text[], sales_channel text, marketplace_id text, replaces text, cancellation_requested boolean,
               has_address boolean, buyer jsonb, recipient jsonb, tax_registrations jsonb, has_message boolean,
               is_customized boolean, payments jsonb, fulfillment_orders text[], packages text, items text, doc text,
               next_token text, searched_until timestamptz);
    end;

-- What the lines of an order hold about a person. Null when there is nothing.
create function amzmp._personal_items(items text) returns jsonb
    language sql stable parallel safe
    begin atomic
    select jsonb_object_agg(i.id, jsonb_strip_nulls(jsonb_build_object('gift_message', i.message, 'customized_url', i.url)))
      from amzmp._rows(items, 'orderItemId', 'fulfillment.packing.giftOption.giftMessage',
                       'product.customization.customizedUrl') as i (id text, message jsonb, url jsonb)
     where i.id is not null and (i.message is not null or i.url is not null);
    end;

-- Everything in an order that is about a person. Null when there is nothing.
create function amzmp._personal_part(buyer jsonb, recipient jsonb, tax_registrations jsonb, items jsonb) returns jsonb
    language sql stable parallel safe
    begin atomic
    select nullif(jsonb_strip_nulls(jsonb_build_object('buyer', nullif(buyer, '{}'), 'recipient', nullif(recipient, '{}'),
                                                       'tax_registrations', nullif(tax_registrations, '[]'), 'items', items)), '{}');
    end;

/*
 * Write what Amazon told. A version that is older than what we hold is passed over. What a newer version leaves out (a
 * pending order has no amounts, an application without the role gets no address) does not erase what an earlier one told.
 * Returns the lines of new orders, of which _settle_orders need not look up what is known.
 *
 * A set a call, in one statement, whose lookups leave the planner no choice (see order_settle.sql). The caller has locked
 * the orders that are there, so that their rows stay as the statement finds them; one that another process has written since,
 * or writes at the same time, is a unique_violation, and the caller begins anew.
 */
create function amzmp._write_orders(account_id bigint, orders amzmp.arrived_order[], locked text[]) returns amzmp.new_order_line[]
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
    set enable_material = off set jit = off
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    has_source boolean := exists (select from amzmp.source s where s.account_id = acc and s.kind = 'product');
    -- without products or links to compare with, every SKU is the shop's
    compares boolean := has_source or exists (select from amzmp.sku_link l where l.account_id = acc);
    by_asin boolean := amzmp._setting_text(acc, 0, 'item_key') = 'asin';
    fresh amzmp.new_order_line[];
begin
    with channel as materialized (
        select d.marketplace_id, coalesce(c.channel_id, 0) as channel_id, m.country_code,
               amzmp._setting_text(acc, coalesce(c.channel_id, 0), 'order_number_format') as format,
               amzmp._setting_text(acc, coalesce(c.channel_id, 0), 'order_number_prefix') as prefix,
               amzmp._setting_text(acc, coalesce(c.channel_id, 0), 'order_number_prefix_business') as business_prefix,
               amzmp._setting_text(acc, coalesce(c.channel_id, 0), 'order_number_prefix_prime') as prime_prefix,
               amzmp._setting_text(acc, coalesce(c.channel_id, 0), 'order_number_prefix_amazon') as amazon_prefix
          from (select distinct (u.a).marketplace_id from (select unnest($2) as a offset 0) as u) as d
          left join amzmp.channel c on c.account_id = acc and c.marketplace_id = d.marketplace_id
          left join amzmp.marketplace m on m.marketplace_id = d.marketplace_id
    ), numbered as materialized (
        select a.*, o.place, o.order_number, o.personal_purged_at is not null as purged, coalesce(l.channel_id, 0) as channel_id,
               coalesce(o.order_number, amzmp._order_number(a.amazon_order_id, l.format, l.country_code,
                    coalesce(case when 'AMAZON_BUSINESS' = any (a.programs) then l.business_prefix end,
                             case when 'PRIME' = any (a.programs) then l.prime_prefix end,
                             case when a.fulfilled_by = 'AMAZON' then l.amazon_prefix end, l.prefix), a.fulfilled_by)) as number
          from unnest($2) as a
          left join channel l on l.marketplace_id is not distinct from a.marketplace_id
          left join lateral (
                select x.ctid as place, x.order_number, x.last_updated_at, x.personal_purged_at from amzmp.orders x
                 where x.account_id = acc and x.amazon_order_id = a.amazon_order_id and x.amazon_order_id = any (locked)
                offset 0) as o on true
         where o.place is null or a.last_updated_at >= o.last_updated_at
    ), taken as materialized (
        -- a number that another order has, or that comes twice, gives way to Amazon's
        select m.amazon_order_id
          from (select n.amazon_order_id, n.number, row_number() over (partition by n.number order by n.amazon_order_id) as turn
                  from numbered n where n.order_number is null and n.number <> n.amazon_order_id) as m
         where m.turn > 1 or exists (select from amzmp.orders o where o.order_number = m.number and o.account_id = acc)
    ), told as materialized (
        select n.*, case when n.amazon_order_id in (select t.amazon_order_id from taken t) then n.amazon_order_id
                         else n.number end as final_number,
               coalesce(n.cancellation_requested, false) and exists (
                    select from amzmp._rows(n.items, 'cancellation.cancellationRequest', 'fulfillment.quantityUnfulfilled')
                             as i (requested boolean, unfulfilled integer)
                     where i.requested and coalesce(i.unfulfilled, 1) > 0) as to_cancel,
               case when n.payments is not null then (
                    select jsonb_agg(e.payment - '{acquirerId,cardBrand,authorizationCode}'::text[])
                      from jsonb_array_elements(amzmp._array(n.payments)) as e (payment) where jsonb_typeof(e.payment) = 'object')
               end as paid,
               case when n.status = 'SHIPPED' and (
                        select bool_and(coalesce(p.status, '') in ('DELIVERED', 'CANCELLED'))
                          from amzmp._rows(n.packages, 'packageStatus.status') as p (status text))
                    then n.last_updated_at end as arrived_at
          from numbered n
    ), new_orders as (
        insert into amzmp.orders (account_id, amazon_order_id, channel_id, order_number, status, fulfilled_by,
            purchased_at, last_updated_at, currency, grand_total, item_total, shipping_total, tax_total, discount_total,
            other_total, ship_after, ship_by, deliver_after, deliver_by, service_level, programs, payments,
            fulfillment_orders, sales_channel, marketplace_id, replaces_order_id, cancellation_requested, complete, has_address,
            arrived_at)
        select acc, f.amazon_order_id, f.channel_id, f.final_number, f.status, f.fulfilled_by, f.purchased_at, f.last_updated_at,
               f.currency, f.grand_total, f.item, f.shipping, f.tax, f.discount, f.other, f.ship_after, f.ship_by,
               f.deliver_after, f.deliver_by, f.service_level, coalesce(f.programs, '{}'), f.paid, f.fulfillment_orders,
               f.sales_channel, f.marketplace_id, f.replaces, f.to_cancel, f.complete, coalesce(f.has_address, false), f.arrived_at
          from told f
         where f.place is null
         order by f.amazon_order_id
    ), known_orders as (
        update amzmp.orders o
           set channel_id = case when o.channel_id = 0 then f.channel_id else o.channel_id end,
               status = case when amzmp._status_rank(f.status) < amzmp._status_rank(o.status) then o.status
                             else coalesce(f.status, o.status) end,
               fulfilled_by = coalesce(f.fulfilled_by, o.fulfilled_by),
               last_updated_at = f.last_updated_at,
               currency = coalesce(f.currency, o.currency),
               grand_total = coalesce(f.grand_total, o.grand_total),
               item_total = coalesce(f.item, o.item_total),
               shipping_total = coalesce(f.shipping, o.shipping_total),
               tax_total = coalesce(f.tax, o.tax_total),
               discount_total = coalesce(f.discount, o.discount_total),
               other_total = coalesce(f.other, o.other_total),
               ship_after = coalesce(f.ship_after, o.ship_after),
               ship_by = coalesce(f.ship_by, o.ship_by),
               deliver_after = coalesce(f.deliver_after, o.deliver_after),
               deliver_by = coalesce(f.deliver_by, o.deliver_by),
               service_level = coalesce(f.service_level, o.service_level),
               programs = coalesce(f.programs, '{}'),
               payments = coalesce(f.paid, o.payments),
               fulfillment_orders = coalesce(f.fulfillment_orders, o.fulfillment_orders),
               sales_channel = coalesce(f.sales_channel, o.sales_channel),
               marketplace_id = coalesce(f.marketplace_id, o.marketplace_id),
               replaces_order_id = coalesce(f.replaces, o.replaces_order_id),
               cancellation_requested = f.to_cancel,
               complete = f.complete,
               has_address = o.has_address or coalesce(f.has_address, false),
               arrived_at = coalesce(o.arrived_at, f.arrived_at)
          from told f
         where o.ctid = f.place
    ), lines as materialized (
        select distinct on (f.amazon_order_id, i.order_item_id) f.amazon_order_id, i.*, coalesce(i.seller_sku, i.asin) as sku,
               concat_ws('/', i.condition_type, i.condition_subtype) as condition,
               f.place is null as is_new, f.purchased_at, f.status, f.fulfilled_by, f.to_cancel or f.status = 'CANCELLED' as cancels
          from told f
          cross join lateral amzmp._rows(f.items, 'orderItemId', '#', 'product.sellerSku', 'product.asin',
                'product.title', 'product.condition.conditionType', 'product.condition.conditionSubtype', 'quantityOrdered',
                'fulfillment.quantityFulfilled', 'fulfillment.quantityUnfulfilled', 'proceeds.proceedsTotal.currencyCode',
                'product.price.unitPrice.currencyCode', 'product.price.unitPrice.amount',
                'proceeds.breakdowns[type=ITEM].subtotal.amount', 'proceeds.breakdowns[type=SHIPPING].subtotal.amount',
                'proceeds.breakdowns[type=GIFT_WRAP].subtotal.amount', 'proceeds.breakdowns[type=DISCOUNT].subtotal.amount',
                'proceeds.breakdowns[type=TAX].subtotal.amount',
                'proceeds.breakdowns[type=TAX].detailedBreakdowns[subtype=ITEM].value.amount',
                'proceeds.breakdowns[type=TAX].detailedBreakdowns[subtype=SHIPPING].value.amount',
                'proceeds.proceedsTotal.amount', 'promotion.breakdowns[].promotionId', 'expense.pointsCost.pointsGranted', 'cancellation',
                'cancellation.cancellationExecution')
             as i (order_item_id text, position integer, seller_sku text, asin text, title text, condition_type text,
                   condition_subtype text, ordered integer, fulfilled integer, unfulfilled integer, currency text,
                   price_currency text, unit_price numeric, item numeric, shipping numeric, gift_wrap numeric, discount numeric,
                   tax numeric, item_tax numeric, shipping_tax numeric, total numeric,
                   promotions text[], points jsonb, cancellation jsonb, cancelled boolean)
         where i.order_item_id is not null
    ), matched as materialized (
        select l.*, k.place, case when compares then amzmp._shop_sku(acc, l.sku, l.asin, has_source, by_asin) else l.sku end as shop_sku,
               case when l.is_new then amzmp._claimed_units(l.status, l.fulfilled_by, coalesce(l.ordered, 0), l.fulfilled,
                                           l.unfulfilled, coalesce(l.cancelled, false)) else 0 end as claimed,
               case when l.is_new then amzmp._sold_units(l.status, l.fulfilled_by, coalesce(l.ordered, 0), l.fulfilled,
                                           l.unfulfilled, coalesce(l.cancelled, false)) else 0 end as sold
          from lines l
          left join lateral (
                select x.ctid as place from amzmp.order_item x
                 where not l.is_new and x.account_id = acc and x.amazon_order_id = l.amazon_order_id
                   and x.order_item_id = l.order_item_id offset 0) as k on true
    ), new_items as (
        insert into amzmp.order_item (account_id, amazon_order_id, order_item_id, position, sku, shop_sku, asin, title, condition,
            quantity_ordered, quantity_fulfilled, quantity_unfulfilled, currency, unit_price, item_price, item_tax,
            shipping_price, shipping_tax, gift_wrap_price, discount, tax_total, total, promotions, points, cancellation,
            claimed)
        select acc, l.amazon_order_id, l.order_item_id, l.position, l.sku, l.shop_sku, l.asin, l.title,
               l.condition, coalesce(l.ordered, 0), l.fulfilled, l.unfulfilled,
               coalesce(l.currency, l.price_currency), l.unit_price, l.item, l.item_tax, l.shipping, l.shipping_tax,
               l.gift_wrap, l.discount, l.tax, l.total, l.promotions, l.points, l.cancellation,
               case when l.shop_sku is not null then l.claimed else 0 end
          from matched l
         where l.place is null
    ), known_items as (
        update amzmp.order_item i
           set sku = coalesce(l.sku, i.sku), shop_sku = coalesce(i.shop_sku, l.shop_sku),
               asin = coalesce(l.asin, i.asin),
               title = coalesce(l.title, i.title),
               condition = coalesce(nullif(l.condition, ''), i.condition),
               quantity_ordered = coalesce(l.ordered, 0),
               quantity_fulfilled = coalesce(l.fulfilled, i.quantity_fulfilled),
               quantity_unfulfilled = coalesce(l.unfulfilled, i.quantity_unfulfilled),
               currency = coalesce(l.currency, l.price_currency, i.currency),
               unit_price = coalesce(l.unit_price, i.unit_price),
               item_price = coalesce(l.item, i.item_price),
               item_tax = coalesce(l.item_tax, i.item_tax),
               shipping_price = coalesce(l.shipping, i.shipping_price),
               shipping_tax = coalesce(l.shipping_tax, i.shipping_tax),
               gift_wrap_price = coalesce(l.gift_wrap, i.gift_wrap_price),
               discount = coalesce(l.discount, i.discount),
               tax_total = coalesce(l.tax, i.tax_total),
               total = coalesce(l.total, i.total),
               promotions = coalesce(l.promotions, i.promotions),
               points = coalesce(l.points, i.points),
               cancellation = coalesce(l.cancellation, i.cancellation)
          from matched l
         where i.ctid = l.place
    ), packages as (
        insert into amzmp.order_package (account_id, amazon_order_id, package_reference, status, detailed_status, carrier,
            tracking, shipping_service, shipped_at, items)
        select distinct on (f.amazon_order_id, p.reference) acc, f.amazon_order_id, p.reference, p.status, p.detailed_status,
               p.carrier, p.tracking, p.service, p.shipped_at, amzmp._array(p.items)
          from told f
          cross join lateral amzmp._rows(f.packages, 'packageReferenceId', 'packageStatus.status', 'packageStatus.detailedStatus',
                'carrier', 'trackingNumber', 'shippingService', 'shipTime', 'packageItems')
             as p (reference text, status text, detailed_status text, carrier text, tracking text, service text,
                   shipped_at timestamptz, items jsonb)
         where p.reference is not null
        on conflict (account_id, amazon_order_id, package_reference) do update
           set status = excluded.status, detailed_status = excluded.detailed_status, carrier = excluded.carrier,
               tracking = excluded.tracking, shipping_service = excluded.shipping_service,
               shipped_at = excluded.shipped_at, items = excluded.items
    ), personal as materialized (
        select f.amazon_order_id, f.place is null as is_new,
               case when x.part is null then b.sealed
                    else amzmp._seal((coalesce(amzmp._open(b.sealed, 'buyer', acc || '/' || f.amazon_order_id)::jsonb, '{}')
                                      || x.part)::text, 'buyer', acc || '/' || f.amazon_order_id) end as sealed,
               case when f.complete or b.raw is null then amzmp._seal(f.doc, 'order', acc || '/' || f.amazon_order_id)
                    else b.raw end as raw
          from told f
          cross join lateral (
                select amzmp._personal_part(f.buyer, f.recipient, f.tax_registrations,
                           case when f.has_message or f.is_customized then amzmp._personal_items(f.items) end) as part offset 0) as x
          left join lateral (
                select y.sealed, y.raw from amzmp.order_buyer y
                 where f.place is not null and y.account_id = acc and y.amazon_order_id = f.amazon_order_id offset 0) as b on true
         where not f.purged
    ), new_buyers as (
        insert into amzmp.order_buyer (account_id, amazon_order_id, sealed, raw)
        select acc, p.amazon_order_id, p.sealed, p.raw from personal p where p.is_new
    ), known_buyers as (
        insert into amzmp.order_buyer (account_id, amazon_order_id, sealed, raw)
        select acc, p.amazon_order_id, p.sealed, p.raw from personal p where not p.is_new
        on conflict (account_id, amazon_order_id) do update set sealed = excluded.sealed, raw = excluded.raw
    )
    select array_agg(row(l.amazon_order_id, l.order_item_id, l.shop_sku, l.shop_sku = l.sku, l.status, l.sold, l.claimed,
                         l.purchased_at, l.cancels)::amzmp.new_order_line)
      into fresh
      from matched l where l.is_new;
    return coalesce(fresh, '{}');
end
$$;
