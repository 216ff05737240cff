/*
 * orders.sql
 *	  What Amazon sold: orders, their lines and packages, the stock that they hold and move, and the lines whose SKU
 *	  the shop does not know.
 *
 * Tables and the pure functions over them. How orders arrive is in order_import.sql and what it names,
 * how they reach the shop in delivery.sql, how they are shipped in shipment.sql; buyers' personal data is in buyer.sql. An order is made by its
 * first import, follows Amazon's newer states (never older ones), and stays; only its personal data is purged. Its lines and
 * packages are written with it and by nothing else (order_write.sql); a foreign key would look it up again for each.
 */
-- Do an order's parts add up? Amazon tells neither the sign of discounts nor, for every country, whether prices contain
-- the tax; so they do when there is a way of reading them in which the sum is the total. Null without a total. It is part
-- of every order that is written, so it must be one that the planner puts in line.
create function amzmp._totals_agree(total numeric, parts numeric, tax numeric, discount numeric) returns boolean
    language sql immutable parallel safe
    begin atomic
    select total in (parts + tax + discount, parts + tax - discount, parts + discount, parts - discount);
    end;

create table amzmp.orders (
    account_id bigint not null,
    amazon_order_id text not null,
    channel_id bigint not null default 0,
    order_number text not null,
    status text,
    fulfilled_by text,
    purchased_at timestamptz not null,
    last_updated_at timestamptz not null,
    currency text,
    grand_total numeric,
    item_total numeric,
    shipping_total numeric,
    tax_total numeric,
    discount_total numeric,
    other_total numeric,
    totals_agree boolean generated always as (amzmp._totals_agree(grand_total, coalesce(item_total, 0) + coalesce(shipping_total, 0)
        + coalesce(other_total, 0), coalesce(tax_total, 0), coalesce(discount_total, 0))) stored,
    ship_after timestamptz,
    ship_by timestamptz,
    deliver_after timestamptz,
    deliver_by timestamptz,
    service_level text,
    programs text[] not null default '{}',
    payments jsonb,
    fulfillment_orders text[],
    sales_channel text,
    marketplace_id text,
    replaces_order_id text,
    is_business boolean not null generated always as ('AMAZON_BUSINESS' = any (programs)) stored,
    is_prime boolean not null generated always as ('PRIME' = any (programs)) stored,
    cancellation_requested boolean not null default false,
    complete boolean not null default true,
    has_address boolean not null default false,
    import_state text not null default 'imported',
    failure_reason text,
    short_stock boolean,
    accepted_at timestamptz,
    delivered_number text,
    delivered_at timestamptz,
    followed_up_at timestamptz,
    follow_up_failure text,
    arrived_at timestamptz,
    personal_purged_at timestamptz,
    imported_at timestamptz not null default now(),
    source text not null default 'amazon',
    primary key (account_id, amazon_order_id),
    constraint orders_amazon_order_id_check check (length(amazon_order_id) between 1 and 50),
    constraint orders_import_state_check check (import_state in ('imported', 'held_unknown_item', 'held_short_stock', 'held_disabled_item',
        'quarantined', 'delivered'))
);

-- No further index of these tables begins with account_id: a plan made while they are empty costs all indexes alike, and
-- one that knows the account alone would then be kept and read the whole account for every order. Numbers are unique in an
-- account; the index that sees to it holds only those that are not Amazon's own, and so serves no such plan.
create unique index orders_number on amzmp.orders (account_id, order_number) where order_number <> amazon_order_id;
create index orders_by_number on amzmp.orders (order_number, account_id);
create index orders_purchased on amzmp.orders (purchased_at);
create index orders_imported on amzmp.orders (imported_at, account_id);
create index orders_held on amzmp.orders (import_state, account_id)
    where import_state in ('held_unknown_item', 'held_short_stock', 'held_disabled_item', 'quarantined');
create index orders_incomplete on amzmp.orders (account_id) where not complete;

comment on table amzmp.orders is 'Orders that buyers placed at Amazon, in their latest known state.';
comment on column amzmp.orders.account_id is 'The account that sold.';
comment on column amzmp.orders.amazon_order_id is 'Amazon''s order number, such as 403-1234567-8765432.';
comment on column amzmp.orders.channel_id is 'The channel of the marketplace in which it was placed; 0 when that is no channel of ours.';
comment on column amzmp.orders.order_number is 'The number made by the setting order_number_format. It never changes after the first import.';
comment on column amzmp.orders.status is 'Amazon''s status, kept as Amazon writes it, also when we do not know it. Null while Amazon has not told it.';
comment on column amzmp.orders.fulfilled_by is 'AMAZON (FBA) or MERCHANT.';
comment on column amzmp.orders.purchased_at is 'When the buyer ordered.';
comment on column amzmp.orders.last_updated_at is 'Amazon''s time of the latest change that we hold. Older states that arrive later are ignored.';
comment on column amzmp.orders.currency is 'Currency of all amounts of the order. Null while the order is pending.';
comment on column amzmp.orders.grand_total is 'What the buyer pays, as Amazon states it.';
comment on column amzmp.orders.item_total is 'Of that, the items.';
comment on column amzmp.orders.shipping_total is 'Of that, shipping.';
comment on column amzmp.orders.tax_total is 'Of that, taxes.';
comment on column amzmp.orders.discount_total is 'Of that, discounts, with the sign that Amazon sends.';
comment on column amzmp.orders.other_total is 'Of that, everything else: gift wrap, cash on delivery fee, tip and unknown kinds.';
comment on column amzmp.orders.totals_agree is 'Do the parts add up to the grand total, as FALSE says they do not? Null while there is none. Amazon''s total counts.';
comment on column amzmp.orders.ship_after is 'Earliest time to ship.';
comment on column amzmp.orders.ship_by is 'Latest time to ship.';
comment on column amzmp.orders.deliver_after is 'Earliest promised delivery.';
comment on column amzmp.orders.deliver_by is 'Latest promised delivery.';
comment on column amzmp.orders.service_level is 'Amazon''s shipping service level, such as STANDARD or NEXT_DAY.';
comment on column amzmp.orders.payments is
    'How it was paid: an array of objects with paymentMethod and paymentAmount, as Amazon tells them (cards and codes are in the sealed order only). Null while Amazon has told none.';
comment on column amzmp.orders.fulfillment_orders is 'Amazon''s ids of the shipments that it has planned for an Easy Ship order. Null for others.';
comment on column amzmp.orders.programs is 'Amazon''s programs that the order belongs to, such as PRIME or AMAZON_BUSINESS.';
comment on column amzmp.orders.sales_channel is 'AMAZON or NON_AMAZON.';
comment on column amzmp.orders.marketplace_id is 'The marketplace in which it was placed.';
comment on column amzmp.orders.replaces_order_id is 'The order that this one replaces or exchanges.';
comment on column amzmp.orders.is_business is 'Is the buyer a business (Amazon Business)?';
comment on column amzmp.orders.is_prime is 'Is it a Prime order?';
comment on column amzmp.orders.cancellation_requested is 'Does the buyer ask to cancel a line that is not shipped yet?';
comment on column amzmp.orders.complete is 'False when Amazon could only be asked for a part of the data; it is fetched again by itself.';
comment on column amzmp.orders.has_address is 'Has Amazon ever sent the address of the delivery? amzmp.address_gap says why it may not.';
comment on column amzmp.orders.import_state is 'imported; held_unknown_item: waits for link_item; held_short_stock: more than the shop has; held_disabled_item: the shop does not sell it at present; quarantined: see failure_reason; delivered: the shop''s function has taken it.';
comment on column amzmp.orders.failure_reason is 'Why the order is quarantined, without personal data.';
comment on column amzmp.orders.short_stock is 'Did it take more than the shop had? Null while that has not mattered.';
comment on column amzmp.orders.accepted_at is 'When a person let it go on although it was held for its stock or a product not for sale.';
comment on column amzmp.orders.delivered_number is 'The shop''s own number of the order, as its delivery function returned it.';
comment on column amzmp.orders.delivered_at is 'When the shop''s delivery function took the order.';
comment on column amzmp.orders.followed_up_at is 'When the shop''s function of follow_up_with was done with it.';
comment on column amzmp.orders.follow_up_failure is 'Why that function failed, without personal data.';
comment on column amzmp.orders.arrived_at is 'When the last package was seen delivered at the buyer''s.';
comment on column amzmp.orders.personal_purged_at is 'When the buyer''s personal data was removed.';
comment on column amzmp.orders.imported_at is 'When the order was first imported.';
comment on column amzmp.orders.source is 'Where it came from: amazon is the orders API.';

create table amzmp.order_item (
    account_id bigint not null,
    amazon_order_id text not null,
    order_item_id text not null,
    position smallint not null,
    sku text,
    shop_sku text,
    asin text,
    title text,
    condition text,
    quantity_ordered integer not null,
    quantity_fulfilled integer,
    quantity_unfulfilled integer,
    currency text,
    unit_price numeric,
    item_price numeric,
    item_tax numeric,
    shipping_price numeric,
    shipping_tax numeric,
    gift_wrap_price numeric,
    discount numeric,
    tax_total numeric,
    total numeric,
    promotions text[],
    points jsonb,
    cancellation jsonb,
    claimed integer not null default 0,
    primary key (account_id, amazon_order_id, order_item_id)
);

create index order_item_unknown on amzmp.order_item (sku, account_id) where shop_sku is null;

comment on table amzmp.order_item is 'Lines of orders.';
comment on column amzmp.order_item.account_id is 'The account that sold.';
comment on column amzmp.order_item.amazon_order_id is 'The order.';
comment on column amzmp.order_item.order_item_id is 'Amazon''s number of the line.';
comment on column amzmp.order_item.position is 'The line''s place in the order, from 1.';
comment on column amzmp.order_item.sku is 'The seller''s SKU as Amazon knows it; the ASIN where Amazon tells no SKU.';
comment on column amzmp.order_item.shop_sku is 'The shop''s SKU: the same, or what link_item says. Null: the shop does not know the item, and the order is held.';
comment on column amzmp.order_item.asin is 'Amazon''s number of the product.';
comment on column amzmp.order_item.title is 'Amazon''s title of the product.';
comment on column amzmp.order_item.condition is 'Condition and subcondition, such as new/new.';
comment on column amzmp.order_item.quantity_ordered is 'Units ordered.';
comment on column amzmp.order_item.quantity_fulfilled is 'Units shipped, as far as Amazon knows.';
comment on column amzmp.order_item.quantity_unfulfilled is 'Units still to ship.';
comment on column amzmp.order_item.currency is 'Currency of the amounts. Null while the order is pending.';
comment on column amzmp.order_item.unit_price is 'Price of one unit.';
comment on column amzmp.order_item.item_price is 'Price of the line: all units, without shipping.';
comment on column amzmp.order_item.item_tax is 'Tax on the items of the line.';
comment on column amzmp.order_item.shipping_price is 'Shipping of the line.';
comment on column amzmp.order_item.shipping_tax is 'Tax on the shipping of the line.';
comment on column amzmp.order_item.gift_wrap_price is 'Gift wrap of the line.';
comment on column amzmp.order_item.discount is 'Discounts on the line, with the sign that Amazon sends.';
comment on column amzmp.order_item.tax_total is 'All taxes of the line.';
comment on column amzmp.order_item.total is 'Total of the line, as Amazon states it.';
comment on column amzmp.order_item.promotions is 'Amazon''s ids of the promotions that lowered its price. Null where there was none.';
comment on column amzmp.order_item.points is 'Amazon Points granted with it: pointsNumber and pointsMonetaryValue, as Amazon tells them (Japan).';
comment on column amzmp.order_item.cancellation is 'Amazon''s words on a requested or executed cancellation: who and why.';
comment on column amzmp.order_item.claimed is 'Inner: units by which the stock expected at Amazon was lowered for this line.';

create table amzmp.order_package (
    account_id bigint not null,
    amazon_order_id text not null,
    package_reference text not null,
    status text,
    detailed_status text,
    carrier text,
    tracking text,
    shipping_service text,
    shipped_at timestamptz,
    items jsonb not null default '[]',
    primary key (account_id, amazon_order_id, package_reference)
);

comment on table amzmp.order_package is 'Packages of merchant-fulfilled orders as Amazon sees them.';
comment on column amzmp.order_package.account_id is 'The account that sold.';
comment on column amzmp.order_package.amazon_order_id is 'The order.';
comment on column amzmp.order_package.package_reference is 'Number of the package within the order.';
comment on column amzmp.order_package.status is 'PENDING, IN_TRANSIT, SHIPPED, DELIVERED, CANCELLED, UNDELIVERABLE, or what Amazon invents next.';
comment on column amzmp.order_package.detailed_status is 'Amazon''s finer status.';
comment on column amzmp.order_package.carrier is 'The carrier.';
comment on column amzmp.order_package.tracking is 'The tracking number.';
comment on column amzmp.order_package.shipping_service is 'The carrier''s service.';
comment on column amzmp.order_package.shipped_at is 'When it was shipped.';
comment on column amzmp.order_package.items is 'What is in it: an array of objects with orderItemId and quantity.';

-- Stock that is sold or about to be, and that the shop has not taken off its own stock yet. Recompute subtracts what
-- is open here from what the shop says it has.
create table amzmp.reservation (
    account_id bigint not null,
    amazon_order_id text not null,
    order_item_id text not null,
    sku text not null,
    quantity integer not null,
    reserved_at timestamptz not null default now(),
    released_at timestamptz,
    release_cause text,
    primary key (account_id, amazon_order_id, order_item_id)
);

create index reservation_open on amzmp.reservation (sku, account_id) include (quantity) where released_at is null;

comment on table amzmp.reservation is 'Units held for orders: pending ones, and sold ones that the shop''s own stock does not reflect yet.';
comment on column amzmp.reservation.account_id is 'The account that sold.';
comment on column amzmp.reservation.amazon_order_id is 'The order.';
comment on column amzmp.reservation.order_item_id is 'Its line.';
comment on column amzmp.reservation.sku is 'The shop''s SKU.';
comment on column amzmp.reservation.quantity is 'Units held; after the release, units that were held.';
comment on column amzmp.reservation.reserved_at is 'When the units were first held.';
comment on column amzmp.reservation.released_at is 'When they were let go. Null: still held.';
comment on column amzmp.reservation.release_cause is 'sold: taken off the shop''s stock; delivered: the shop took the order over; cancelled; shipped.';

-- A reservation ends with its order and not with time, so whoever runs the shop has to see those that last.
create view amzmp.held_stock with (security_invoker = true) as
select a.name as account, c.name as channel, r.amazon_order_id, o.status, o.import_state, r.sku, r.quantity as units, r.reserved_at,
    now() - r.reserved_at as held_for, r.account_id
from amzmp.reservation r
join amzmp.account a on a.account_id = r.account_id
left join amzmp.orders o on o.account_id = r.account_id and o.amazon_order_id = r.amazon_order_id
left join amzmp.channel c on c.account_id = o.account_id and c.channel_id = o.channel_id
where r.released_at is null;

comment on view amzmp.held_stock is 'Units that orders hold, and for how long: pending orders, and those that wait for the shop.';
comment on column amzmp.held_stock.account is 'The account that sold.';
comment on column amzmp.held_stock.channel is 'The channel; null: a marketplace that is none.';
comment on column amzmp.held_stock.amazon_order_id is 'The order.';
comment on column amzmp.held_stock.status is 'Amazon''s status of it: PENDING while the buyer has not paid.';
comment on column amzmp.held_stock.import_state is 'Where it is on its way to the shop.';
comment on column amzmp.held_stock.sku is 'The shop''s SKU.';
comment on column amzmp.held_stock.units is 'Units held.';
comment on column amzmp.held_stock.reserved_at is 'Since when.';
comment on column amzmp.held_stock.held_for is 'For how long.';
comment on column amzmp.held_stock.account_id is 'Number of the account.';

create function amzmp._reservation_health() returns table (check_name text, state text, detail text, remedy text)
    language sql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
    select 'reservations ' || n.name, 'warning',
           format('%s held %s for more than 7 days', amzmp._count_of(count(distinct r.amazon_order_id), 'order has', 'orders have'),
                  amzmp._count_of(sum(r.quantity)::bigint, 'unit', 'units')),
           format('select * from amzmp.held_stock where account = %1$L order by reserved_at; then select amzmp.fetch_order(%1$L, amazon_order_id) looks whether Amazon still has it so.', n.name)
    from amzmp.reservation r
    join amzmp._names() n on n.account_id = r.account_id and n.channel_id = 0
    where r.released_at is null and r.reserved_at < now() - interval '7 days'
    group by n.name;
$$;

create table amzmp.movement (
    account_id bigint not null,
    amazon_order_id text not null,
    order_item_id text not null,
    revision integer not null,
    sku text not null,
    quantity integer not null check (quantity <> 0),
    cause text not null,
    at timestamptz not null default now(),
    reduces_stock boolean not null,
    applied_at timestamptz,
    note text,
    primary key (account_id, amazon_order_id, order_item_id, revision)
);

create index movement_open on amzmp.movement (amazon_order_id, account_id) where reduces_stock and applied_at is null;

comment on table amzmp.movement is 'Changes of the shop''s stock that orders caused. Their sum per line is always what the line''s latest state asks for.';
comment on column amzmp.movement.account_id is 'The account that sold.';
comment on column amzmp.movement.amazon_order_id is 'The order.';
comment on column amzmp.movement.order_item_id is 'The order line.';
comment on column amzmp.movement.revision is 'First, second … movement of the line.';
comment on column amzmp.movement.sku is 'The shop''s SKU.';
comment on column amzmp.movement.quantity is 'Units: negative left the stock, positive came back.';
comment on column amzmp.movement.cause is 'sale, cancellation, or correction (the line was changed).';
comment on column amzmp.movement.at is 'When it was computed.';
comment on column amzmp.movement.reduces_stock is 'Was the account told, when it arose, to write it into the shop''s stock (reduce_stock)?';
comment on column amzmp.movement.applied_at is 'When it was written into the shop''s stock.';
comment on column amzmp.movement.note is 'What was odd about that, such as a product that is no longer there.';

create table amzmp.sku_link (
    account_id bigint not null,
    amazon_sku text not null,
    sku text not null,
    linked_by name not null,
    linked_at timestamptz not null default now(),
    primary key (account_id, amazon_sku)
);

comment on table amzmp.sku_link is 'SKUs under which Amazon sells something that the shop knows by another SKU. Written by link_item.';
comment on column amzmp.sku_link.account_id is 'The account that sells.';
comment on column amzmp.sku_link.amazon_sku is 'The SKU at Amazon.';
comment on column amzmp.sku_link.sku is 'The SKU in the shop.';
comment on column amzmp.sku_link.linked_by is 'Who said so.';
comment on column amzmp.sku_link.linked_at is 'When.';

-- What the shop wants done with orders by its own SQL: written by reduce_stock and deliver_orders_to. Names are kept as
-- text, so that a dump can be restored in any order.
create table amzmp.order_hook (
    account_id bigint not null,
    channel_id bigint not null default 0,
    kind text not null,
    run_as name not null,
    function_name text,
    relation_name text,
    key_column name,
    stock_column name,
    automatic boolean not null default false,
    registered_by name not null,
    registered_at timestamptz not null default now(),
    primary key (account_id, channel_id, kind),
    constraint order_hook_kind_check check (kind in ('stock', 'item', 'delivery', 'cancellation', 'return', 'follow_up', 'progress')),
    constraint order_hook_target_check check (
        kind = 'stock' and channel_id = 0 and num_nonnulls(function_name, relation_name) < 2
            and num_nonnulls(relation_name, key_column, stock_column) in (0, 3)
        or kind = 'item' and channel_id = 0 and function_name is not null and relation_name is null
        or kind in ('delivery', 'cancellation', 'return', 'follow_up', 'progress') and channel_id <> 0
            and function_name is not null and relation_name is null
    )
);

comment on table amzmp.order_hook is 'The shop''s functions and columns that imported orders are handed to, and the role as which that is done.';
comment on column amzmp.order_hook.account_id is 'The account.';
comment on column amzmp.order_hook.channel_id is 'The channel whose orders, cancellations or returns are handed over; 0 for the account''s stock and items.';
comment on column amzmp.order_hook.kind is 'stock (reduce_stock; without function and relation: queue_movements), item (create_items_with), delivery (deliver_orders_to), cancellation (cancel_orders_with), return (deliver_returns_to), follow_up (follow_up_with) or progress (tell_progress_to).';
comment on column amzmp.order_hook.run_as is 'The role as which it is done.';
comment on column amzmp.order_hook.function_name is 'The function, quoted and with its schema.';
comment on column amzmp.order_hook.relation_name is 'The table or view whose stock is written, quoted and with its schema.';
comment on column amzmp.order_hook.key_column is 'Its column with the SKU.';
comment on column amzmp.order_hook.stock_column is 'Its column with the stock.';
comment on column amzmp.order_hook.automatic is 'For items: is a product made as soon as an order names an unknown one?';
comment on column amzmp.order_hook.registered_by is 'Who registered it.';
comment on column amzmp.order_hook.registered_at is 'When.';

create view amzmp.unknown_item with (security_invoker = true) as
select a.name as account, i.sku, max(i.asin) as asin, max(i.title) as title, count(distinct o.amazon_order_id) as orders,
    sum(i.quantity_ordered) as units, min(o.purchased_at) as first_ordered_at,
    array_agg(distinct o.amazon_order_id order by o.amazon_order_id) as amazon_order_ids, i.account_id
from amzmp.order_item i
join amzmp.orders o on o.account_id = i.account_id and o.amazon_order_id = i.amazon_order_id
join amzmp.account a on a.account_id = i.account_id
where i.shop_sku is null and o.status is distinct from 'CANCELLED'
group by i.account_id, a.name, i.sku;

comment on view amzmp.unknown_item is 'Ordered SKUs that the shop does not know. Their orders are held until amzmp.link_item(account, amazon_sku, sku), or amzmp.create_item(account, amazon_sku).';
comment on column amzmp.unknown_item.account is 'The account that sold.';
comment on column amzmp.unknown_item.sku is 'The SKU at Amazon.';
comment on column amzmp.unknown_item.asin is 'Amazon''s number of the product.';
comment on column amzmp.unknown_item.title is 'Amazon''s title of the product.';
comment on column amzmp.unknown_item.orders is 'How many orders wait for it.';
comment on column amzmp.unknown_item.units is 'How many units they want.';
comment on column amzmp.unknown_item.first_ordered_at is 'When the first of them was placed.';
comment on column amzmp.unknown_item.amazon_order_ids is 'Which orders.';
comment on column amzmp.unknown_item.account_id is 'The account''s id.';

-- The running number that {number} stands for. Numbers of orders that could not be imported are left out.
create sequence amzmp.order_running_number as bigint start 1100001;

-- The number that a shop gives an order, from Amazon's number and a format.
create function amzmp.format_order_number(amazon_order_id text, format text, marketplace text default null,
    prefix text default null, fulfillment text default null, number bigint default null) returns text
    language sql immutable parallel safe
    begin atomic
    select case when coalesce(format, '') = '' then amazon_order_id
        else replace(replace(replace(replace(replace(replace(replace(replace(replace(format, '{fulfilment}', '{fulfillment}'),
            '{n1}', split_part(amazon_order_id, '-', 1)),
            '{n2}', split_part(amazon_order_id, '-', 2)),
            '{n3}', split_part(amazon_order_id, '-', 3)),
            '{amazon_id}', amazon_order_id),
            '{marketplace}', coalesce(marketplace, '')),
            '{prefix}', coalesce(prefix, '')),
            '{number}', coalesce(number::text, '')),
            '{fulfillment}', case upper(fulfillment) when 'AMAZON' then 'AFN' when 'MERCHANT' then 'MFN'
                             else coalesce(fulfillment, '') end)
        end;
    end;

comment on function amzmp.format_order_number(text, text, text, text, text, bigint) is
    'An order number by a format: {n1} {n2} {n3} are the groups of Amazon''s number, {amazon_id} all of it, {marketplace} the country code, {prefix} the prefix, {fulfillment} AFN or MFN, {number} a running number. An empty format gives Amazon''s number.';

-- The number of a new order.
create function amzmp._order_number(amazon_order_id text, format text, marketplace text, prefix text, fulfilled_by text) returns text
    language sql volatile parallel unsafe
    begin atomic
    select case when format = '{amazon_id}' then amazon_order_id
        else amzmp.format_order_number(amazon_order_id, format, marketplace, prefix, fulfilled_by,
            case when format like '%{number}%' then nextval('amzmp.order_running_number') end) end;
    end;

-- By how many units an order has lowered (or given back) what Amazon offers of a product; same when Amazon sells it
-- under the shop's own SKU.
create type amzmp.order_claim as (
    shop_sku text,
    same boolean,
    quantity integer,
    purchased_at timestamptz
);

comment on type amzmp.order_claim is 'Inner: by how much an order changes what Amazon offers of a product.';

-- A line of an order that was just written for the first time, and what follows from it.
create type amzmp.new_order_line as (
    amazon_order_id text,
    order_item_id text,
    shop_sku text,
    same boolean,
    status text,
    sold integer,
    claimed integer,
    purchased_at timestamptz,
    cancels boolean
);

comment on type amzmp.new_order_line is 'Inner: a line of a new order, with the units that it has sold and those that Amazon offers less for it; cancels: the order is cancelled, or is to be.';

-- The shop's product that an ordered SKU means. PL/pgSQL keeps its plan; it is called for each line.
create function amzmp._shop_sku(account_id bigint, sku text, asin text, has_source boolean, by_asin boolean) returns text
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    linked text;
begin
    select l.sku into linked from amzmp.sku_link l where l.account_id = $1 and l.amazon_sku = $2;
    return case
        when found then linked
        when not has_source then $2
        when by_asin then (
            select x.sku from amzmp.product x where x.asin = $3 and x.account_id = $1 and not x.gone order by x.sku limit 1)
        else (
            select x.sku from amzmp.source s
              join amzmp.product x on x.account_id = s.account_id and x.source_id = s.source_id and x.sku = $2
             where s.account_id = $1 and not x.gone limit 1)
        end;
end
$$;

-- How far an order has come. It never goes back; null for a status that we do not know, which Amazon's time orders.
create function amzmp._status_rank(status text) returns integer
    language sql immutable parallel safe
    begin atomic
    select case status
        when 'PENDING_AVAILABILITY' then 0
        when 'PENDING' then 1
        when 'UNSHIPPED' then 2
        when 'PARTIALLY_SHIPPED' then 3
        when 'SHIPPED' then 4
        when 'CANCELLED' then 5
        when 'UNFULFILLABLE' then 5
        end;
    end;

/*
 * Units of a line that have left the merchant's stock for good, by its latest state. Nothing of an order that Amazon
 * fulfils, of one that is not paid yet, or whose status we do not know. Of a cancelled order, what had been shipped
 * before. Where Amazon tells how the line is split, what is neither shipped nor to be shipped is not sold.
 */
create function amzmp._sold_units(status text, fulfilled_by text, ordered integer, fulfilled integer, unfulfilled integer,
    cancelled boolean) returns integer
    language sql immutable parallel safe
    begin atomic
    select case
        when fulfilled_by = 'AMAZON' then 0
        when status in ('CANCELLED', 'UNFULFILLABLE') then coalesce(fulfilled, 0)
        when status in ('UNSHIPPED', 'PARTIALLY_SHIPPED', 'SHIPPED') then
            coalesce(fulfilled + unfulfilled, case when cancelled then coalesce(fulfilled, 0) end, ordered)
        else 0
        end;
    end;

-- Units by which Amazon has lowered what it offers: those sold, and before that all that was ordered.
create function amzmp._claimed_units(status text, fulfilled_by text, ordered integer, fulfilled integer,
    unfulfilled integer, cancelled boolean) returns integer
    language sql immutable parallel safe
    begin atomic
    select case
        when fulfilled_by = 'AMAZON' then 0
        when status in ('UNSHIPPED', 'PARTIALLY_SHIPPED', 'SHIPPED', 'CANCELLED', 'UNFULFILLABLE') then
            amzmp._sold_units(status, fulfilled_by, ordered, fulfilled, unfulfilled, cancelled)
        when cancelled then coalesce(fulfilled, 0)
        else ordered
        end;
    end;
