/*
 * order_apply.sql
 *	  Parked orders become rows: batches, one by one where a batch fails, never held up by one another.
 */

/*
 * Queue the import of these orders, or of all that wait and are not queued (order_ids null: once a poll, so that
 * nothing that went astray stays so). Where the shop's stock is written, one task an order, for the role that the shop
 * named; else tasks of up to 100 orders for an own runner.
 */
create function amzmp._queue_imports(account_id bigint, order_ids text[] default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    ids text[] := $2;
    role name;
begin
    if ids is null then
        perform amzmp._look_again(acc);
        select array_agg(w.id) into ids
          from (select p.amazon_order_id from amzmp.parked_order p
                 where p.account_id = acc and p.failed_at is null
                union
                select m.amazon_order_id
                  from amzmp.movement m
                  join amzmp.orders o on o.account_id = m.account_id and o.amazon_order_id = m.amazon_order_id
                 where m.account_id = acc and m.reduces_stock and m.applied_at is null
                   and o.import_state <> 'quarantined') as w (id)
         where not exists (
                   select from amzmp.task t
                    where t.account_id = acc and t.kind = 'import'
                      and (t.subject = w.id or t.argument -> 'orders' ? w.id));
    end if;
    if ids is null then
        return;
    end if;

    select h.run_as into role from amzmp.order_hook h where h.account_id = acc and h.channel_id = 0 and h.kind = 'stock';
    if found then
        perform amzmp._add_task(acc, 'import', i.id, role, now(), '{}')
           from (select distinct id from unnest(ids) as u (id) order by id) as i;
    else
        perform amzmp._add_task(acc, 'import', 'batch:' || nextval('amzmp.task_id_seq'), null, now(),
                                jsonb_build_object('orders', b.ids))
           from (select jsonb_agg(i.id order by i.id) as ids
                   from (select d.id, (row_number() over (order by d.id) - 1) / 100 as batch
                           from (select distinct u.id from unnest(ids) as u (id)) as d) as i
                  group by i.batch) as b;
    end if;
end
$$;

-- Once a poll: orders that are held for their stock, or a product not for sale, go on when there is enough again.
create function amzmp._look_again(account_id bigint) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    held text[] := array(
        select o.amazon_order_id from amzmp.orders o
         where o.account_id = _look_again.account_id and o.import_state in ('held_short_stock', 'held_disabled_item')
         order by o.purchased_at limit 1000);
begin
    if held <> '{}' then
        perform amzmp._settle_orders(account_id, held);
    end if;
end
$$;

-- The own runner's part: import a batch in one go, and one by one if that fails, so that a bad order stops no other.
create function amzmp._task_import(account_id bigint, subject text, argument jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    ids text[] := case when argument ? 'orders'
                       then array(select jsonb_array_elements_text(argument -> 'orders')) else array[subject] end;
    id text;
begin
    begin
        perform amzmp._import_orders(_task_import.account_id, ids);
        return;
    exception
        when serialization_failure or deadlock_detected or lock_not_available then
            raise;
        when others then
            null;
    end;
    foreach id in array ids loop
        perform amzmp._import_order(_task_import.account_id, id);
    end loop;
end
$$;

-- Import one order; if it cannot be, say so at its parked row and leave it there.
create function amzmp._import_order(account_id bigint, amazon_order_id text, stock_follows boolean default false) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
    state text;
    message text;
    broken text;
begin
    begin
        perform amzmp._import_orders(acc, array[id], $3);
    exception
        when serialization_failure or deadlock_detected or lock_not_available then
            raise;
        when others then
            get stacked diagnostics state = returned_sqlstate, message = message_text, broken = constraint_name;
            -- Another order has taken the number while this one was written: the runner tries again and sees it.
            if broken = 'orders_number' then
                perform amzmp._fail('40001', format('order number of %s is just being taken', id));
            end if;
            message := amzmp._safe_error(state, message);
            perform amzmp._import_failed(acc, id, message);
    end;
end
$$;

/*
 * Import parked orders: write what Amazon told. A version that is older than what we hold only loses its parked row.
 * What a newer version leaves out (a pending order has no amounts, an application without the role gets no address) does
 * not erase what an earlier one told. Returns what the lines of new orders claim; those of orders that change are left to
 * _settle_orders.
 *
 * A set a call, in one statement, whose lookups leave the planner no choice (see order_settle.sql).
 */
create function amzmp._import_parked(account_id bigint, order_ids text[]) returns amzmp.order_claim[]
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
    set enable_material = off set jit = off
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    ids alias for $2;
    has_source boolean := exists (select from amzmp.source s where s.account_id = acc and s.kind = 'product');
    by_asin boolean := amzmp._setting_text(acc, 0, 'item_key') = 'asin';
    claims amzmp.order_claim[];
begin
    perform from (select distinct u.id from unnest(ids) as u (id) order by u.id) as w
      cross join lateral (
            select from amzmp.parked_order x where x.account_id = acc and x.amazon_order_id = w.id for update offset 0) as p;

    with arrived as materialized (
        select p.amazon_order_id, p.last_updated_at, p.complete, p.sealed, o.order_number,
               o.personal_purged_at is not null as purged,
               amzmp._open(p.sealed, 'order', p.account_id || '/' || p.amazon_order_id)::jsonb as doc
          from unnest(ids) as w (id)
          cross join lateral (
                select x.* from amzmp.parked_order x where x.account_id = acc and x.amazon_order_id = w.id offset 0) as p
          left join lateral (
                select x.* from amzmp.orders x where x.account_id = acc and x.amazon_order_id = w.id offset 0) as o on true
         where (o.amazon_order_id is null or p.last_updated_at >= o.last_updated_at)
    ), place as materialized (
        select d.marketplace_id, coalesce(c.channel_id, 0) as channel_id, m.country_code,
               amzmp._setting_text(acc, coalesce(c.channel_id, 0), 'order_number_format') as format,
               amzmp._setting_text(acc, coalesce(c.channel_id, 0), 'order_number_prefix') as prefix
          from (select distinct a.doc #>> '{salesChannel,marketplaceId}' as marketplace_id from arrived a) as d
          left join amzmp.channel c on c.account_id = acc and c.marketplace_id = d.marketplace_id
          left join amzmp.marketplace m on m.marketplace_id = d.marketplace_id
    ), numbered as (
        select a.*, coalesce(l.channel_id, 0) as channel_id,
               coalesce(a.order_number, amzmp._order_number(a.amazon_order_id, l.format, l.country_code, l.prefix,
                                                            a.doc #>> '{fulfillment,fulfilledBy}')) as number
          from arrived a
          left join place l on l.marketplace_id is not distinct from a.doc #>> '{salesChannel,marketplaceId}'
    ), fresh as materialized (
        -- a number that another order has, or that comes twice, gives way to Amazon's
        select n.*,
               case when n.order_number is not null or n.number = n.amazon_order_id then n.number
                    when row_number() over (partition by n.number order by n.amazon_order_id) > 1 then n.amazon_order_id
                    when exists (select from amzmp.orders o where o.order_number = n.number and o.account_id = acc)
                    then n.amazon_order_id
                    else n.number end as final_number
          from numbered n
    ), parts as (
        select f.amazon_order_id, sum(b.amount) filter (where b.kind = 'ITEM') as item,
               sum(b.amount) filter (where b.kind = 'SHIPPING') as shipping,
               sum(b.amount) filter (where b.kind = 'TAX') as tax,
               sum(b.amount) filter (where b.kind = 'DISCOUNT') as discount,
               sum(b.amount) filter (where b.kind not in ('ITEM', 'SHIPPING', 'TAX', 'DISCOUNT')) as other
          from fresh f
          cross join lateral (
                select x ->> 'type' as kind, amzmp._money(x -> 'subtotal') as amount
                  from jsonb_array_elements(amzmp._array(f.doc #> '{proceeds,breakdowns}')) as x) as b
         group by f.amazon_order_id
    ), written as (
        insert into amzmp.orders (account_id, amazon_order_id, channel_id, order_number, status, fulfilled_by,
            purchased_at, last_updated_at, currency, grand_total, item_total, shipping_total, tax_total, discount_total,
            other_total, ship_after, ship_by, deliver_after, deliver_by, service_level, programs, sales_channel,
            marketplace_id, replaces_order_id, cancellation_requested, complete, has_address, arrived_at)
        select acc, f.amazon_order_id, f.channel_id, f.final_number,
               f.doc #>> '{fulfillment,fulfillmentStatus}', f.doc #>> '{fulfillment,fulfilledBy}',
               amzmp._time(f.doc ->> 'createdTime'), f.last_updated_at,
               f.doc #>> '{proceeds,grandTotal,currencyCode}', amzmp._money(f.doc #> '{proceeds,grandTotal}'),
               b.item, b.shipping, b.tax, b.discount, b.other,
               amzmp._time(f.doc #>> '{fulfillment,shipByWindow,earliestDateTime}'),
               amzmp._time(f.doc #>> '{fulfillment,shipByWindow,latestDateTime}'),
               amzmp._time(f.doc #>> '{fulfillment,deliverByWindow,earliestDateTime}'),
               amzmp._time(f.doc #>> '{fulfillment,deliverByWindow,latestDateTime}'),
               f.doc #>> '{fulfillment,fulfillmentServiceLevel}',
               array(select jsonb_array_elements_text(amzmp._array(f.doc -> 'programs'))),
               f.doc #>> '{salesChannel,channelName}', f.doc #>> '{salesChannel,marketplaceId}',
               f.doc #>> '{associatedOrders,0,orderId}',
               exists (select from jsonb_array_elements(amzmp._array(f.doc -> 'orderItems')) as i
                        where i #> '{cancellation,cancellationRequest}' is not null
                          and coalesce(amzmp._count(i #> '{fulfillment,quantityUnfulfilled}'), 1) > 0),
               f.complete, f.doc #>> '{recipient,deliveryAddress,addressLine1}' is not null,
               (select amzmp._time(f.doc ->> 'lastUpdatedTime')
                 where jsonb_array_length(amzmp._array(f.doc -> 'packages')) > 0
                   and not exists (select from jsonb_array_elements(amzmp._array(f.doc -> 'packages')) as p
                                    where coalesce(p #>> '{packageStatus,status}', '') not in ('DELIVERED', 'CANCELLED'))
                   and f.doc #>> '{fulfillment,fulfillmentStatus}' = 'SHIPPED')
          from fresh f
          left join parts b on b.amazon_order_id = f.amazon_order_id
         order by f.amazon_order_id
        on conflict (account_id, amazon_order_id) do update
           set channel_id = case when orders.channel_id = 0 then excluded.channel_id else orders.channel_id end,
               status = case when amzmp._status_rank(excluded.status) < amzmp._status_rank(orders.status)
                             then orders.status else coalesce(excluded.status, orders.status) end,
               fulfilled_by = coalesce(excluded.fulfilled_by, orders.fulfilled_by),
               last_updated_at = excluded.last_updated_at,
               currency = coalesce(excluded.currency, orders.currency),
               grand_total = coalesce(excluded.grand_total, orders.grand_total),
               item_total = coalesce(excluded.item_total, orders.item_total),
               shipping_total = coalesce(excluded.shipping_total, orders.shipping_total),
               tax_total = coalesce(excluded.tax_total, orders.tax_total),
               discount_total = coalesce(excluded.discount_total, orders.discount_total),
               other_total = coalesce(excluded.other_total, orders.other_total),
               ship_after = coalesce(excluded.ship_after, orders.ship_after),
               ship_by = coalesce(excluded.ship_by, orders.ship_by),
               deliver_after = coalesce(excluded.deliver_after, orders.deliver_after),
               deliver_by = coalesce(excluded.deliver_by, orders.deliver_by),
               service_level = coalesce(excluded.service_level, orders.service_level),
               programs = excluded.programs,
               sales_channel = coalesce(excluded.sales_channel, orders.sales_channel),
               marketplace_id = coalesce(excluded.marketplace_id, orders.marketplace_id),
               replaces_order_id = coalesce(excluded.replaces_order_id, orders.replaces_order_id),
               cancellation_requested = excluded.cancellation_requested,
               complete = excluded.complete,
               has_address = orders.has_address or excluded.has_address,
               arrived_at = coalesce(orders.arrived_at, excluded.arrived_at)
    ), lines as materialized (
        select distinct on (f.amazon_order_id, i.doc ->> 'orderItemId')
               f.amazon_order_id, i.doc ->> 'orderItemId' as order_item_id, i.position,
               coalesce(i.doc #>> '{product,sellerSku}', i.doc #>> '{product,asin}') as sku, i.doc #>> '{product,asin}' as asin,
               i.doc #>> '{product,title}' as title,
               concat_ws('/', i.doc #>> '{product,condition,conditionType}', i.doc #>> '{product,condition,conditionSubtype}') as condition,
               coalesce(amzmp._count(i.doc -> 'quantityOrdered'), 0) as ordered,
               amzmp._count(i.doc #> '{fulfillment,quantityFulfilled}') as fulfilled,
               amzmp._count(i.doc #> '{fulfillment,quantityUnfulfilled}') as unfulfilled,
               coalesce(i.doc #>> '{proceeds,proceedsTotal,currencyCode}',
                        i.doc #>> '{product,price,unitPrice,currencyCode}') as currency,
               amzmp._money(i.doc #> '{product,price,unitPrice}') as unit_price, b.*,
               amzmp._money(i.doc #> '{proceeds,proceedsTotal}') as total, i.doc -> 'cancellation' as cancellation,
               f.order_number is null as is_new, amzmp._time(f.doc ->> 'createdTime') as purchased_at,
               f.doc #>> '{fulfillment,fulfillmentStatus}' as status, f.doc #>> '{fulfillment,fulfilledBy}' as fulfilled_by
          from fresh f
          cross join lateral jsonb_array_elements(amzmp._array(f.doc -> 'orderItems')) with ordinality as i (doc, position)
          cross join lateral (
                select sum(x.amount) filter (where x.kind = 'ITEM') as item,
                       sum(x.amount) filter (where x.kind = 'SHIPPING') as shipping,
                       sum(x.amount) filter (where x.kind = 'GIFT_WRAP') as gift_wrap,
                       sum(x.amount) filter (where x.kind = 'DISCOUNT') as discount,
                       sum(x.amount) filter (where x.kind = 'TAX') as tax,
                       sum(x.on_items) filter (where x.kind = 'TAX') as item_tax,
                       sum(x.on_shipping) filter (where x.kind = 'TAX') as shipping_tax
                  from (select y ->> 'type' as kind, amzmp._money(y -> 'subtotal') as amount, d.on_items, d.on_shipping
                          from jsonb_array_elements(amzmp._array(i.doc #> '{proceeds,breakdowns}')) as y
                          left join lateral (
                                select sum(amzmp._money(z -> 'value')) filter (where z ->> 'subtype' = 'ITEM') as on_items,
                                       sum(amzmp._money(z -> 'value')) filter (where z ->> 'subtype' = 'SHIPPING') as on_shipping
                                  from jsonb_array_elements(amzmp._array(y -> 'detailedBreakdowns')) as z) as d
                            on y ->> 'type' = 'TAX') as x) as b
         where i.doc ->> 'orderItemId' is not null
    ), matched as materialized (
        select l.*, amzmp._shop_sku(acc, l.sku, l.asin, has_source, by_asin) as shop_sku,
               case when l.is_new then amzmp._claimed_units(l.status, l.fulfilled_by, l.ordered, l.fulfilled, l.unfulfilled,
                                           l.cancellation -> 'cancellationExecution' is not null) else 0 end as claims
          from lines l
    ), items as (
        insert into amzmp.order_item (account_id, amazon_order_id, order_item_id, position, sku, shop_sku, asin, title, condition,
            quantity_ordered, quantity_fulfilled, quantity_unfulfilled, currency, unit_price, item_price, item_tax,
            shipping_price, shipping_tax, gift_wrap_price, discount, tax_total, total, cancellation, claimed)
        select acc, l.amazon_order_id, l.order_item_id, l.position, l.sku, l.shop_sku, l.asin, l.title, l.condition,
               l.ordered, l.fulfilled, l.unfulfilled, l.currency, l.unit_price, l.item, l.item_tax, l.shipping, l.shipping_tax,
               l.gift_wrap, l.discount, l.tax, l.total, l.cancellation, case when l.shop_sku is not null then l.claims else 0 end
          from matched l
        on conflict (account_id, amazon_order_id, order_item_id) do update
           set sku = coalesce(excluded.sku, order_item.sku), shop_sku = coalesce(order_item.shop_sku, excluded.shop_sku),
               asin = coalesce(excluded.asin, order_item.asin),
               title = coalesce(excluded.title, order_item.title),
               condition = coalesce(nullif(excluded.condition, ''), order_item.condition),
               quantity_ordered = excluded.quantity_ordered,
               quantity_fulfilled = coalesce(excluded.quantity_fulfilled, order_item.quantity_fulfilled),
               quantity_unfulfilled = coalesce(excluded.quantity_unfulfilled, order_item.quantity_unfulfilled),
               currency = coalesce(excluded.currency, order_item.currency),
               unit_price = coalesce(excluded.unit_price, order_item.unit_price),
               item_price = coalesce(excluded.item_price, order_item.item_price),
               item_tax = coalesce(excluded.item_tax, order_item.item_tax),
               shipping_price = coalesce(excluded.shipping_price, order_item.shipping_price),
               shipping_tax = coalesce(excluded.shipping_tax, order_item.shipping_tax),
               gift_wrap_price = coalesce(excluded.gift_wrap_price, order_item.gift_wrap_price),
               discount = coalesce(excluded.discount, order_item.discount),
               tax_total = coalesce(excluded.tax_total, order_item.tax_total),
               total = coalesce(excluded.total, order_item.total),
               cancellation = coalesce(excluded.cancellation, order_item.cancellation)
    ), packages as (
        insert into amzmp.order_package (account_id, amazon_order_id, package_reference, status, detailed_status, carrier,
            tracking, shipping_service, shipped_at, items)
        select distinct on (f.amazon_order_id, p ->> 'packageReferenceId')
               acc, f.amazon_order_id, p ->> 'packageReferenceId', p #>> '{packageStatus,status}',
               p #>> '{packageStatus,detailedStatus}', p ->> 'carrier', p ->> 'trackingNumber', p ->> 'shippingService',
               amzmp._time(p ->> 'shipTime'), amzmp._array(p -> 'packageItems')
          from fresh f
          cross join lateral jsonb_array_elements(amzmp._array(f.doc -> 'packages')) as p
         where p ->> 'packageReferenceId' is not null
        on conflict (account_id, amazon_order_id, package_reference) do update
           set status = excluded.status, detailed_status = excluded.detailed_status, carrier = excluded.carrier,
               tracking = excluded.tracking, shipping_service = excluded.shipping_service,
               shipped_at = excluded.shipped_at, items = excluded.items
    ), buyers as (
        insert into amzmp.order_buyer (account_id, amazon_order_id, sealed, raw)
        select acc, f.amazon_order_id,
               case when x.part is null then b.sealed
                    else amzmp._seal((coalesce(amzmp._open(b.sealed, 'buyer', acc || '/' || f.amazon_order_id)::jsonb, '{}')
                                      || x.part)::text, 'buyer', acc || '/' || f.amazon_order_id) end,
               case when f.complete then f.sealed else coalesce(b.raw, f.sealed) end
          from fresh f
          cross join lateral (select amzmp._personal_part(f.doc) as part) as x
          left join lateral (
                select y.sealed, y.raw from amzmp.order_buyer y
                 where y.account_id = acc and y.amazon_order_id = f.amazon_order_id offset 0) as b on true
         where not f.purged
        on conflict (account_id, amazon_order_id) do update set sealed = excluded.sealed, raw = excluded.raw
    ), done as (
        delete from amzmp.parked_order p
         using (select x.ctid as place from unnest(ids) as w (id)
                 cross join lateral (
                       select y.ctid from amzmp.parked_order y
                        where y.account_id = acc and y.amazon_order_id = w.id offset 0) as x) as f
         where p.ctid = f.place
    )
    select array_agg(row(l.shop_sku, l.shop_sku = l.sku, l.claims, l.purchased_at)::amzmp.order_claim)
      into claims
      from matched l where l.shop_sku is not null and l.claims <> 0;
    return coalesce(claims, '{}');
end
$$;

-- Import orders and settle them.
create function amzmp._import_orders(account_id bigint, order_ids text[], stock_follows boolean default false) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    perform amzmp._settle_orders(account_id, order_ids, stock_follows, amzmp._import_parked(account_id, order_ids));
    perform amzmp._import_succeeded(account_id, order_ids);
    perform amzmp._notify_orders(account_id, order_ids);
end
$$;
