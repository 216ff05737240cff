/*
 * shipment.sql
 *	  Telling Amazon that an order, or a part of it, is on its way.
 *
 * A shipment is one package of one order. confirm_shipment checks and queues it, the request is rendered when it is
 * sent (and is held if the buyer has asked to cancel meanwhile), and Amazon's answer settles it. Sending the same
 * package again edits it at Amazon, so a repeat after a lost answer does no harm.
 */
create table amzmp.carrier_map (
    account_id bigint not null,
    carrier text not null,
    amazon_code text not null,
    amazon_name text,
    shipping_method text,
    primary key (account_id, carrier),
    constraint carrier_map_name_check check (amazon_code <> 'Other' or amazon_name is not null)
);

comment on table amzmp.carrier_map is 'What the shop''s carriers are called at Amazon. Written by map_carrier.';
comment on column amzmp.carrier_map.account_id is 'The account.';
comment on column amzmp.carrier_map.carrier is 'The shop''s word, in lower case.';
comment on column amzmp.carrier_map.amazon_code is 'Amazon''s carrier code; Other if it has none.';
comment on column amzmp.carrier_map.amazon_name is 'The carrier''s name for buyers, needed with Other.';
comment on column amzmp.carrier_map.shipping_method is 'The shipping method where a shipment names none.';

create table amzmp.shipment (
    account_id bigint not null,
    amazon_order_id text not null,
    package_reference text not null,
    state text not null,
    reason text,
    carrier text not null,
    carrier_code text not null,
    carrier_name text,
    tracking text not null,
    shipping_method text,
    shipped_at timestamptz not null,
    items jsonb not null,
    despite_cancellation boolean not null default false,
    request_id bigint,
    created_by name not null,
    created_at timestamptz not null default now(),
    confirmed_at timestamptz,
    primary key (account_id, amazon_order_id, package_reference),
    constraint shipment_state_check check (state in ('queued', 'sent', 'checking', 'held', 'confirmed', 'refused')),
    constraint shipment_reference_check check (package_reference ~ '^[1-9][0-9]{0,9}$')
);

create index shipment_open on amzmp.shipment (state, account_id) where state <> 'confirmed';

comment on table amzmp.shipment is 'Packages that the shop has shipped, and what Amazon said to that.';
comment on column amzmp.shipment.account_id is 'The account that sold.';
comment on column amzmp.shipment.amazon_order_id is 'The order.';
comment on column amzmp.shipment.package_reference is 'Number of the package within the order.';
comment on column amzmp.shipment.state is 'queued; sent; checking (Amazon''s answer is ambiguous, the order is read again); held (see reason); confirmed; refused (see reason).';
comment on column amzmp.shipment.reason is 'Why it is held or refused.';
comment on column amzmp.shipment.carrier is 'The carrier as the shop named it.';
comment on column amzmp.shipment.carrier_code is 'The carrier code sent to Amazon.';
comment on column amzmp.shipment.carrier_name is 'The carrier''s name sent to Amazon, where it has no code.';
comment on column amzmp.shipment.tracking is 'The tracking number.';
comment on column amzmp.shipment.shipping_method is 'The carrier''s service.';
comment on column amzmp.shipment.shipped_at is 'When the package was handed over.';
comment on column amzmp.shipment.items is 'What is in it: an array of objects with orderItemId and quantity.';
comment on column amzmp.shipment.despite_cancellation is 'Is it to be sent although the buyer asks to cancel?';
comment on column amzmp.shipment.request_id is 'The request that tells Amazon.';
comment on column amzmp.shipment.created_by is 'Who confirmed it.';
comment on column amzmp.shipment.created_at is 'When.';
comment on column amzmp.shipment.confirmed_at is 'When Amazon accepted it.';

create function amzmp._map_carrier(account text, carrier text, amazon_code text, amazon_name text default null,
    shipping_method text default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
begin
    if coalesce(btrim(carrier), '') = '' then
        perform amzmp._fail('AZ202', 'the shop''s carrier is missing');
    end if;
    if coalesce(btrim(amazon_code), '') = '' or amazon_code = 'Other' and coalesce(btrim(amazon_name), '') = '' then
        perform amzmp._fail('AZ202', 'the carrier''s code at Amazon is missing, or its name where the code is Other', null,
            'For a carrier without a code: amzmp.map_carrier(account, carrier, ''Other'', ''Name of the carrier'').');
    end if;
    insert into amzmp.carrier_map (account_id, carrier, amazon_code, amazon_name, shipping_method)
    values (acc, lower(btrim(carrier)), amazon_code, amazon_name, shipping_method)
    on conflict on constraint carrier_map_pkey do update
        set amazon_code = excluded.amazon_code, amazon_name = excluded.amazon_name, shipping_method = excluded.shipping_method;
end
$$;

select amzmp._expose('amzmp._map_carrier(text, text, text, text, text)', 'amzmp_operator',
    'Says what one of the shop''s carriers is called at Amazon. A carrier that is not mapped is sent by its name.');

-- Units of an order's lines that no package accounts for yet, neither Amazon's nor one of ours on its way; skip is
-- the package that is being edited.
create function amzmp._open_units(account_id bigint, amazon_order_id text, skip text)
    returns table (order_item_id text, quantity integer)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select i.order_item_id,
           greatest(0, least(coalesce(i.quantity_unfulfilled, i.quantity_ordered) + coalesce(own.in_edited, 0),
                             coalesce(i.quantity_fulfilled + i.quantity_unfulfilled, i.quantity_ordered)
                             - coalesce(own.in_others, 0)))::integer
      from amzmp.order_item i
      left join lateral (
            select sum(x.quantity) filter (where s.package_reference is distinct from skip) as in_others,
                   sum(x.quantity) filter (where s.package_reference = skip and s.state = 'confirmed') as in_edited
              from amzmp.shipment s
              cross join lateral jsonb_to_recordset(s.items) as x ("orderItemId" text, quantity integer)
             where s.account_id = i.account_id and s.amazon_order_id = i.amazon_order_id and s.state <> 'refused'
               and x."orderItemId" = i.order_item_id) as own on true
     where i.account_id = _open_units.account_id and i.amazon_order_id = _open_units.amazon_order_id;
$$;

-- What a package holds: the items given, checked, or everything that is open.
create function amzmp._package_items(account_id bigint, amazon_order_id text, items jsonb, skip text) returns jsonb
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
declare
    wrong record;
    result jsonb;
begin
    if items is null then
        select jsonb_agg(jsonb_build_object('orderItemId', u.order_item_id, 'quantity', u.quantity) order by u.order_item_id)
          into result from amzmp._open_units($1, $2, skip) u where u.quantity > 0;
        if result is null then
            perform amzmp._fail('AZ203', format('nothing of order %s is left to ship', $2), null,
                'To correct a shipment, name its package_reference.');
        end if;
        return result;
    end if;
    if jsonb_typeof(items) <> 'array' or jsonb_array_length(items) = 0 then
        perform amzmp._fail('AZ202', 'items is no array of order lines', null,
            'For example: [{"orderItemId": "12345678901234", "quantity": 1}].');
    end if;
    select e.doc ->> 'orderItemId' as id, e.doc ->> 'quantity' as quantity, u.quantity as open into wrong
      from (select jsonb_build_object('orderItemId', x ->> 'orderItemId',
                                      'quantity', sum(coalesce(amzmp._count(x -> 'quantity'), 0))) as doc
              from jsonb_array_elements(items) as x group by x ->> 'orderItemId') as e
      left join amzmp._open_units($1, $2, skip) u on u.order_item_id = e.doc ->> 'orderItemId'
     where u.order_item_id is null or (e.doc ->> 'quantity')::integer not between 1 and u.quantity
     limit 1;
    if found and wrong.open is null then
        perform amzmp._fail('AZ202', format('order %s has no line %L', $2, wrong.id), null,
            'amzmp.order_item lists its lines.');
    elsif found then
        perform amzmp._fail('AZ202', format('%s units of line %s cannot be shipped, %s are open', wrong.quantity, wrong.id, wrong.open),
            null, 'To correct a shipment, name its package_reference.');
    end if;
    return items;
end
$$;

create function amzmp._confirm_shipment(account text, amazon_order_id text, carrier text, tracking text,
    shipped_at timestamptz default now(), items jsonb default null, package_reference text default null,
    shipping_method text default null, force boolean default false) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
    o amzmp.orders;
    old amzmp.shipment;
    map amzmp.carrier_map;
    reference text := package_reference;
    contents jsonb;
    request bigint;
begin
    select x.* into o from amzmp.orders x
     where x.account_id = acc and x.amazon_order_id = _confirm_shipment.amazon_order_id for update;
    if not found then
        perform amzmp._fail('AZ201', format('account %L has no order %L', account, amazon_order_id), null,
            'amzmp.fetch_order(account, amazon_order_id) fetches one that was not imported.');
    end if;
    select s.* into old from amzmp.shipment s
     where s.account_id = acc and s.amazon_order_id = o.amazon_order_id and s.package_reference = reference;
    perform amzmp._check_shippable(o, carrier, tracking, shipped_at, reference, old.package_reference is not null, force);
    if reference is null then
        select (coalesce(max(r.n), 0) + 1)::text into reference
          from (select s.package_reference::bigint as n from amzmp.shipment s
                 where s.account_id = acc and s.amazon_order_id = o.amazon_order_id
                union all
                select p.package_reference::bigint from amzmp.order_package p
                 where p.account_id = acc and p.amazon_order_id = o.amazon_order_id
                   and p.package_reference ~ '^[0-9]{1,10}$') as r;
    end if;
    contents := case when items is null and old.package_reference is not null then old.items
                     else amzmp._package_items(acc, o.amazon_order_id, items, reference) end;
    select m.* into map from amzmp.carrier_map m where m.account_id = acc and m.carrier = lower(btrim(_confirm_shipment.carrier));

    -- A request that still waits will render what is written here, so there is never more than one.
    select r.request_id into request from amzmp.request r
     where r.account_id = acc and r.subject_kind = 'shipment' and r.subject = o.amazon_order_id || '/' || reference
       and r.state in ('due', 'held')
     limit 1;
    if request is null then
        request := amzmp._enqueue(acc, 'confirmShipment', jsonb_build_object('orderId', o.amazon_order_id), null,
            '_handle_confirm_shipment', '_render_confirm_shipment', 40, now(), o.channel_id, 'shipment',
            o.amazon_order_id || '/' || reference, jsonb_build_object('role', amzmp._caller(), 'at', now()));
    end if;
    insert into amzmp.shipment (account_id, amazon_order_id, package_reference, state, carrier, carrier_code, carrier_name,
        tracking, shipping_method, shipped_at, items, despite_cancellation, request_id, created_by)
    values (acc, o.amazon_order_id, reference, 'queued', carrier, coalesce(map.amazon_code, 'Other'),
        case when coalesce(map.amazon_code, 'Other') = 'Other' then coalesce(map.amazon_name, btrim(carrier)) end,
        tracking, coalesce(shipping_method, map.shipping_method), shipped_at, contents, force, request, amzmp._caller())
    on conflict on constraint shipment_pkey do update
        set state = excluded.state, reason = null, carrier = excluded.carrier, carrier_code = excluded.carrier_code,
            carrier_name = excluded.carrier_name, tracking = excluded.tracking, shipping_method = excluded.shipping_method,
            shipped_at = excluded.shipped_at, items = excluded.items,
            despite_cancellation = excluded.despite_cancellation, request_id = excluded.request_id,
            created_by = excluded.created_by, created_at = excluded.created_at, confirmed_at = null;
    return reference;
end
$$;

-- What Amazon would refuse is refused here, with the remedy.
create function amzmp._check_shippable(o amzmp.orders, carrier text, tracking text, shipped_at timestamptz, reference text,
    editing boolean, force boolean) returns void
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
begin
    if o.fulfilled_by = 'AMAZON' then
        perform amzmp._fail('AZ203', format('order %s is shipped by Amazon', o.amazon_order_id), null,
            'Only orders that the merchant fulfils are confirmed.');
    end if;
    if o.status is null or o.status not in ('UNSHIPPED', 'PARTIALLY_SHIPPED')
        and not (editing and o.status = 'SHIPPED') then
        perform amzmp._fail('AZ203', format('order %s is %s', o.amazon_order_id, coalesce(o.status, 'of unknown status')), null,
            'An order is shipped while it is UNSHIPPED or PARTIALLY_SHIPPED; of a SHIPPED one, shipments can be corrected by their package_reference. amzmp.fetch_order reads its state anew.');
    end if;
    if o.cancellation_requested and not force then
        perform amzmp._fail('AZ203', format('the buyer of order %s asks to cancel it', o.amazon_order_id), null,
            'Cancel it, or ship all the same with force => true.');
    end if;
    if coalesce(btrim(carrier), '') = '' or coalesce(btrim(tracking), '') = '' then
        perform amzmp._fail('AZ202', 'carrier or tracking number is missing', null, 'Amazon takes no shipment without both.');
    end if;
    if reference !~ '^[1-9][0-9]{0,9}$' then
        perform amzmp._fail('AZ202', format('%L is no package reference', reference), null,
            'Amazon takes a whole number from 1, as text; leave it out for the next free one.');
    end if;
    if shipped_at is null or shipped_at > amzmp._now(o.account_id) + interval '1 minute' or shipped_at < o.purchased_at then
        perform amzmp._fail('AZ202', format('the time of shipment %s is impossible', coalesce(shipped_at::text, 'is missing and')), null,
            format('It lies between the order (%s) and now.', o.purchased_at));
    end if;
end
$$;

select amzmp._expose('amzmp._confirm_shipment(text, text, text, text, timestamptz, jsonb, text, text, boolean)', 'amzmp_operator',
    'Confirms a package to Amazon: everything that is open, or the items given as [{"orderItemId": …, "quantity": …}]. Returns the package''s number; the same number again corrects that package. Progress is in amzmp.shipment.');

/* ---- sending and settling ---- */

-- The last look before sending: a shipment whose order was cancelled, or whose buyer asks for that, is not sent.
create function amzmp._render_confirm_shipment(claimed amzmp.request[]) returns table (request_id bigint, params jsonb, body jsonb)
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    with wanted as materialized (
        select r.request_id, r.params, o.marketplace_id, s.account_id, s.amazon_order_id, s.package_reference,
               case when o.status in ('CANCELLED', 'UNFULFILLABLE') then 'refused'
                    when o.cancellation_requested and not s.despite_cancellation then 'held'
                    else 'sent' end as state,
               case when o.status in ('CANCELLED', 'UNFULFILLABLE') then 'the order is ' || o.status
                    when o.cancellation_requested and not s.despite_cancellation
                    then 'the buyer asks to cancel; confirm again with force => true to ship' end as reason,
               jsonb_strip_nulls(jsonb_build_object(
                   'packageReferenceId', s.package_reference, 'carrierCode', s.carrier_code, 'carrierName', s.carrier_name,
                   'shippingMethod', s.shipping_method, 'trackingNumber', s.tracking,
                   'shipDate', to_char(s.shipped_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                   'orderItems', s.items)) as package
          from unnest(claimed) as r
          join amzmp.shipment s on s.account_id = r.account_id and s.amazon_order_id = split_part(r.subject, '/', 1)
                               and s.package_reference = split_part(r.subject, '/', 2)
          join amzmp.orders o on o.account_id = s.account_id and o.amazon_order_id = s.amazon_order_id
         where s.state in ('queued', 'sent')
    ), noted as (
        update amzmp.shipment s set state = w.state, reason = w.reason
          from wanted w
         where s.account_id = w.account_id and s.amazon_order_id = w.amazon_order_id
           and s.package_reference = w.package_reference
    )
    select w.request_id, w.params, jsonb_build_object('marketplaceId', w.marketplace_id, 'packageDetail', w.package)
      from wanted w where w.state = 'sent';
$$;

/*
 * PackageToUpdateNotFound means that the order is fully shipped already, perhaps by this very package whose answer was
 * lost: the order is read again, and _settle_shipments decides by its packages.
 */
create function amzmp._handle_confirm_shipment(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    step record;
begin
    for step in
        update amzmp.shipment s
           set state = a.state, confirmed_at = case when a.state = 'confirmed' then a.answered_at end,
               reason = case when a.state <> 'confirmed'
                             then coalesce(a.error_message, a.error_code, 'no answer') end
          from (select (x.request).account_id, (x.request).request_id, (x.request).subject, x.answered_at, x.error_code,
                       x.error_message,
                       case when x.outcome = 'success' then 'confirmed'
                            when x.error_code = 'PackageToUpdateNotFound' or x.outcome = 'lost' then 'checking'
                            else 'refused' end as state
                  from unnest(answers) as x) as a
         where s.account_id = a.account_id and s.amazon_order_id = split_part(a.subject, '/', 1)
           and s.package_reference = split_part(a.subject, '/', 2)
           and s.state in ('sent', 'queued') and s.request_id = a.request_id
        returning s.account_id, s.amazon_order_id, s.package_reference, s.state, s.reason
    loop
        if step.state = 'checking' then
            perform amzmp._request_order(step.account_id, step.amazon_order_id, null);
        elsif step.state = 'refused' then
            perform amzmp._log(step.account_id, 0, 'error', 'order', step.amazon_order_id,
                format('Amazon refused shipment %s: %s', step.package_reference, step.reason));
        end if;
    end loop;
end
$$;

-- Part of settling orders: decide the shipments whose answer was ambiguous by what Amazon shows of the order.
create function amzmp._settle_shipments(account_id bigint, order_ids text[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
    as $$
#variable_conflict use_column
begin
    update amzmp.shipment s
       set state = case when d.ours then 'confirmed' else 'refused' end,
           confirmed_at = case when d.ours then now() end,
           reason = case when not d.ours
                         then coalesce(s.reason, '') || ' (the order is ' || coalesce(d.status, 'of unknown status')
                              || ' without this package)' end
      from (select o.account_id, o.amazon_order_id, o.status, s2.package_reference,
                   o.status in ('SHIPPED', 'PARTIALLY_SHIPPED')
                   and exists (select from amzmp.order_package p
                                where p.account_id = o.account_id and p.amazon_order_id = o.amazon_order_id
                                  and p.tracking = s2.tracking) as ours
              from amzmp.orders o
              join amzmp.shipment s2 on s2.account_id = o.account_id and s2.amazon_order_id = o.amazon_order_id
             where o.account_id = _settle_shipments.account_id and o.amazon_order_id = any (order_ids)
               and s2.state = 'checking') as d
     where s.account_id = d.account_id and s.amazon_order_id = d.amazon_order_id
       and s.package_reference = d.package_reference and s.state = 'checking';
end
$$;
