/*
 * shipment_confirm.sql
 *	  Confirming a package: what must hold for it, what is in it, and noting it. Nothing is sent here.
 *
 * What Amazon would refuse is refused here, with the remedy. The same conditions serve confirm_shipment, which raises
 * them, and the shop's attached tables, whose rows are held for them (shipment_source.sql).
 */

-- Units of an order's lines that no package accounts for yet, neither Amazon's nor one of ours on its way; skip is
-- the package that is being edited.
create function amzmp._open_units(account_id bigint, amazon_order_id text, skip text)
    returns table (order_item_id text, quantity integer)
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select i.order_item_id,
        greatest(0, least(coalesce(i.quantity_unfulfilled, i.quantity_ordered) + coalesce(own.in_edited, 0),
                coalesce(i.quantity_fulfilled + i.quantity_unfulfilled, i.quantity_ordered) - coalesce(own.in_others, 0)))::integer
    from amzmp.order_item as i
    left join lateral (
        select sum(x.quantity) filter (where s.package_reference is distinct from skip) as in_others,
            sum(x.quantity) filter (where s.package_reference = skip and s.state = 'confirmed') as in_edited
        from amzmp.shipment as s
        cross join lateral jsonb_to_recordset(s.items) as x ("orderItemId" text, quantity integer)
        where s.account_id = i.account_id
            and s.amazon_order_id = i.amazon_order_id
            and s.state <> 'refused'
            and x."orderItemId" = i.order_item_id
    ) as own on true
    where i.account_id = _open_units.account_id
        and i.amazon_order_id = _open_units.amazon_order_id
$$;

-- Contents in which every line stands once: parts of a line are added up, whatever else they say is kept together.
create function amzmp._merge_items(items jsonb)
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_agg(m.item order by m.place)
    from (
        select min(e.n) as place, jsonb_strip_nulls((array_agg(e.item order by e.n))[1] || jsonb_build_object('quantity',
                    case when count(*) = 1 then (array_agg(e.item -> 'quantity'))[1] else to_jsonb(sum(coalesce(amzmp._count(e.item -> 'quantity'), 0))) end,
                    'transparencyCodes', (
                        select jsonb_agg(c)
                        from jsonb_array_elements(jsonb_agg(e.item -> 'transparencyCodes') filter (where e.item ? 'transparencyCodes')) as l (codes)
                        cross join lateral jsonb_array_elements(case jsonb_typeof(l.codes) when 'array' then l.codes else '[]' end) as c
                    ))) as item
        from jsonb_array_elements(items) with ordinality as e (item, n)
        group by coalesce(e.item ->> 'orderItemId', e.n::text)
    ) as m
$$;

-- Contents that name SKUs, with Amazon's numbers of the lines; a SKU of several lines is spread over them in order.
create function amzmp._items_by_sku(account_id bigint, amazon_order_id text, items jsonb, skip text)
    returns jsonb
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    with wanted as (
        select e ->> 'sku' as sku, sum(coalesce(amzmp._count(e -> 'quantity'), 0)) as quantity
        from jsonb_array_elements(items) as e
        where e ? 'sku'
        group by e ->> 'sku'
    ), line as (
        select i.order_item_id, w.sku, w.quantity as wanted, u.quantity as open,
            sum(u.quantity) over (partition by w.sku order by i.position) - u.quantity as before,
            row_number() over (partition by w.sku order by i.position desc) = 1 as last_one
        from wanted as w
        join amzmp.order_item as i
            on (i.account_id, i.amazon_order_id) = (_items_by_sku.account_id, _items_by_sku.amazon_order_id)
                and w.sku in (i.sku, i.shop_sku)
        join amzmp._open_units($1, $2, skip) as u on u.order_item_id = i.order_item_id
    ), part as (
        -- what is too much stays with the last line, where it is refused
        select l.order_item_id, case when l.last_one then l.wanted - l.before else least(l.open, l.wanted - l.before) end as quantity
        from line as l
        where l.wanted > l.before
    )
    select jsonb_agg(x.item)
    from (
        select jsonb_build_object('orderItemId', p.order_item_id, 'quantity', p.quantity) as item
        from part as p
        where p.quantity > 0
        union all
        select e from jsonb_array_elements(items) as e where not e ? 'sku'
        union all
        select jsonb_build_object('orderItemId', w.sku, 'quantity', w.quantity)
        from wanted as w
        where not exists (select from line as l where l.sku = w.sku)
    ) as x
$$;

/*
 * What a package holds: the items given, or everything that is open. message: why it cannot hold that, with a hint.
 */
create function amzmp._package_items(account_id bigint, amazon_order_id text, items jsonb, skip text, out contents jsonb,
    out state text, out message text, out hint text)
    returns record
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    wrong record;
begin
    if items is null then
        select jsonb_agg(jsonb_build_object('orderItemId', u.order_item_id, 'quantity', u.quantity) order by u.order_item_id)
        into contents
        from amzmp._open_units($1, $2, skip) as u
        where u.quantity > 0;
        if contents is null then
            state := 'AZ203';
            message := format('nothing of order %s is left to ship', $2);
            hint := 'To correct a shipment, name its package_reference.';
        end if;
        return;
    elsif jsonb_typeof(items) <> 'array' or jsonb_array_length(items) = 0 then
        state := 'AZ202';
        message := 'items is no array of order lines';
        hint := 'For example: [{"orderItemId": "12345678901234", "quantity": 1}], or with "sku" instead of "orderItemId".';
        return;
    end if;
    contents := case when jsonb_path_exists(items, '$[*].sku') then amzmp._items_by_sku($1, $2, items, skip) else items end;
    contents := amzmp._merge_items(contents);
    select e.id, e.quantity, u.quantity as open into wrong
    from (
        select x ->> 'orderItemId' as id, sum(coalesce(amzmp._count(x -> 'quantity'), 0)) as quantity
        from jsonb_array_elements(contents) as x
        group by x ->> 'orderItemId'
    ) as e
    left join amzmp._open_units($1, $2, skip) as u on u.order_item_id = e.id
    where u.order_item_id is null or e.quantity not between 1 and u.quantity
    limit 1;
    if found then
        state := 'AZ202';
        message := case
            when wrong.id is null then 'an element of items names neither "orderItemId" nor "sku"'
            when wrong.open is null then format('order %s has no line %L', $2, wrong.id)
            else format('%s units of line %s cannot be shipped, %s are open', wrong.quantity, wrong.id, wrong.open)
        end;
        hint := case
            when wrong.open is null then 'amzmp.order_item lists its lines.'
            else 'To correct a shipment, name its package_reference.'
        end;
    end if;
end
$$;

/*
 * Why a package cannot be confirmed, by its order and its own details. No message: it can.
 */
create function amzmp._shipping_obstacle(o amzmp.orders, carrier text, tracking text, shipped_at timestamptz, reference text,
    editing boolean, force boolean, out state text, out message text, out hint text)
    returns record
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    stopped constant text := amzmp._cancellation_stops(o.account_id, o.amazon_order_id, o.cancellation_requested);
begin
    state := 'AZ203';
    if o.fulfilled_by = 'AMAZON' then
        message := format('order %s is shipped by Amazon', o.amazon_order_id);
        hint := 'Only orders that the merchant fulfils are confirmed.';
    elsif amzmp._setting_bool(o.account_id, 0, 'send_shipping_info') is false then
        message := 'the account does not tell Amazon about dispatch';
        hint := 'Change the setting send_shipping_info to true.';
    elsif o.status is null or o.status not in ('UNSHIPPED', 'PARTIALLY_SHIPPED') and not (editing and o.status = 'SHIPPED') then
        message := format('order %s is %s', o.amazon_order_id, coalesce(o.status, 'of unknown status'));
        hint := 'An order is shipped while it is UNSHIPPED or PARTIALLY_SHIPPED; of a SHIPPED one, shipments can be corrected by their package_reference. amzmp.fetch_order reads its state anew.';
    elsif stopped is not null and not (force and stopped = 'the buyer asks to cancel') then
        message := case stopped
            when 'the buyer asks to cancel' then format('the buyer of order %s asks to cancel it', o.amazon_order_id)
            else format('order %s is being cancelled', o.amazon_order_id)
        end;
        hint := 'amzmp.accept_cancellation cancels it, amzmp.decline_cancellation or force => true ships all the same.';
    elsif editing and amzmp._return_has_begun(o.account_id, o.amazon_order_id) then
        message := format('a return of order %s has begun', o.amazon_order_id);
        hint := 'Amazon takes no more changes of its shipments.';
    elsif coalesce(btrim(carrier), '') = '' then
        state := 'AZ202';
        message := 'the carrier is missing';
        hint := 'Name it, or set default_carrier.';
    elsif coalesce(btrim(tracking), '') = '' and amzmp._setting_bool(o.account_id, 0, 'require_tracking') then
        state := 'AZ202';
        message := 'the tracking number is missing';
        hint := 'Give it, or change the setting require_tracking: without one, a shipment goes by a feed.';
    elsif amzmp._setting_bool(o.account_id, 0, 'require_carrier') and amzmp._carrier(o.account_id, carrier) is null then
        state := 'AZ202';
        message := format('carrier %L is not mapped', carrier);
        hint := format('select amzmp.map_carrier(account, %L, ''Amazon''''s code'');', carrier);
    elsif reference !~ '^[1-9][0-9]{0,9}$' then
        state := 'AZ202';
        message := format('%L is no package reference', reference);
        hint := 'Amazon takes a whole number from 1, as text; leave it out for the next free one.';
    elsif shipped_at is null or shipped_at > greatest(amzmp._now(o.account_id), o.purchased_at) + interval '1 minute' or shipped_at < o.purchased_at then
        state := 'AZ202';
        message := format('the time of shipment %s is impossible', coalesce(shipped_at::text, 'is missing and'));
        hint := format('It lies between the order (%s) and now.', o.purchased_at);
    elsif coalesce(btrim(tracking), '') = '' and o.channel_id = 0 then
        message := format('the marketplace of order %s is no channel', o.amazon_order_id);
        hint := 'A shipment without a tracking number goes by a feed of its channel. Create one with amzmp.create_channel(name, account, marketplace).';
    end if;
end
$$;

-- The next free number for a package of an order.
create function amzmp._next_package(account_id bigint, amazon_order_id text)
    returns text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select (coalesce(max(r.n), 0) + 1)::text
    from (
        select s.package_reference::bigint as n
        from amzmp.shipment as s
        where (s.account_id, s.amazon_order_id) = (_next_package.account_id, _next_package.amazon_order_id)
        union all
        select p.package_reference::bigint
        from amzmp.order_package as p
        where (p.account_id, p.amazon_order_id) = (_next_package.account_id, _next_package.amazon_order_id)
            and p.package_reference ~ '^[0-9]{1,10}$'
    ) as r;
end;

/*
 * Note a package that was checked, and let it be sent. A corrected one replaces what waits.
 */
create function amzmp._put_shipment(o amzmp.orders, reference text, carrier text, tracking text, shipped_at timestamptz,
    contents jsonb, shipping_method text, force boolean, created_by name, source_id bigint, row_key text,
    supply_source text default null, direct_payment boolean default false)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    map constant amzmp.carrier_map := amzmp._carrier(o.account_id, _put_shipment.carrier);
    number constant text := nullif(btrim(_put_shipment.tracking), '');
    s amzmp.shipment;
begin
    insert into amzmp.shipment as x (account_id, amazon_order_id, package_reference, state, carrier, carrier_code, carrier_name,
        tracking, shipping_method, shipped_at, items, despite_cancellation, supply_source, direct_payment, by_feed, source_id, row_key,
        created_by)
    values (o.account_id, o.amazon_order_id, reference, 'queued', _put_shipment.carrier, coalesce(map.amazon_code, 'Other'),
        case when coalesce(map.amazon_code, 'Other') = 'Other' then coalesce(map.amazon_name, btrim(_put_shipment.carrier)) end,
        number, coalesce(_put_shipment.shipping_method, map.shipping_method), _put_shipment.shipped_at, contents,
        force, _put_shipment.supply_source, _put_shipment.direct_payment, number is null, _put_shipment.source_id, _put_shipment.row_key,
        _put_shipment.created_by)
    on conflict on constraint shipment_pkey do update
    set state = excluded.state,
        reason = null,
        code = null,
        carrier = excluded.carrier,
        carrier_code = excluded.carrier_code,
        carrier_name = excluded.carrier_name,
        tracking = excluded.tracking,
        shipping_method = excluded.shipping_method,
        shipped_at = excluded.shipped_at,
        items = excluded.items,
        despite_cancellation = excluded.despite_cancellation,
        supply_source = excluded.supply_source,
        direct_payment = excluded.direct_payment,
        by_feed = excluded.by_feed,
        feed_id = null,
        created_by = excluded.created_by,
        created_at = excluded.created_at,
        confirmed_at = null
    returning x.* into s;
    perform amzmp._send_shipment(s, o.channel_id);
end
$$;

create function amzmp._confirm_shipment(account text, amazon_order_id text, carrier text default null, tracking text default null,
    shipped_at timestamptz default null, items jsonb default null, package_reference text default null,
    shipping_method text default null, force boolean default false, supply_source text default null, direct_payment boolean default false)
    returns text
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    o constant amzmp.orders := amzmp._order(account, amazon_order_id);
    named constant text := coalesce(carrier, amzmp._setting_text(o.account_id, o.channel_id, 'default_carrier'));
    shipped constant timestamptz := coalesce(shipped_at, greatest(amzmp._now(o.account_id), o.purchased_at));
    reference constant text := coalesce(package_reference, amzmp._next_package(o.account_id, o.amazon_order_id));
    old amzmp.shipment;
    obstacle record;
    package record;
begin
    select s.* into old
    from amzmp.shipment as s
    where (s.account_id, s.amazon_order_id, s.package_reference) = (o.account_id, o.amazon_order_id, reference);
    obstacle := amzmp._shipping_obstacle(o, named, tracking, shipped, reference, old.package_reference is not null, force);
    if obstacle.message is not null then
        perform amzmp._fail(obstacle.state, obstacle.message, null, obstacle.hint);
    elsif direct_payment and not exists (
        select from amzmp.marketplace as m where (m.marketplace_id, m.country_code) = (o.marketplace_id, 'JP')
    ) then
        perform amzmp._fail('AZ202', format('order %s is not of Japan', o.amazon_order_id), 'Only there a carrier may collect the money.',
            'Leave direct_payment out.');
    elsif (direct_payment or supply_source is not null) and coalesce(btrim(tracking), '') = '' then
        perform amzmp._fail('AZ202', 'the tracking number is missing', 'Without one the shipment goes by a feed, which cannot say supply_source nor direct_payment.',
            'Give it, or leave those out.');
    end if;
    if items is not null or old.package_reference is null then
        package := amzmp._package_items(o.account_id, o.amazon_order_id, items, reference);
        if package.message is not null then
            perform amzmp._fail(package.state, package.message, null, package.hint);
        end if;
        items := package.contents;
    end if;
    perform amzmp._put_shipment(o, reference, named, tracking, shipped, coalesce(items, old.items), shipping_method, force,
        amzmp._caller(), null, null, coalesce(supply_source, old.supply_source), direct_payment or coalesce(old.direct_payment, false));
    return reference;
end
$$;

select amzmp._expose('amzmp._confirm_shipment(text, text, text, text, timestamptz, jsonb, text, text, boolean, text, boolean)', 'amzmp_operator',
    'Confirms a package to Amazon: everything that is open, or the items given as [{"orderItemId": …, "quantity": …}] or with "sku". Without a tracking number it goes by a feed; without a time it was shipped now. Returns the package''s number; the same number again corrects that package. supply_source: Amazon''s number of the place from which it was sent; direct_payment: the carrier collects the money (Japan). Progress is in amzmp.shipment.');
