/*
 * shipment.sql
 *	  Packages that the shop has shipped: the tables, and what the shop's carriers are called at Amazon.
 *
 *		                 ┌─▶ verifying ─┐          ┌─▶ confirmed
 *		confirm_shipment │   (getOrder) ▼          │
 *		or a shop's row ─┴────────▶ queued ─▶ sent ┼─▶ refused   (see reason, amzmp.shipment_problem tells the remedy)
 *		                              ▲            └─▶ checking ─▶ confirmed or refused, when the order was read
 *		                              └── held
 *
 * A shipment is one package of one order. It goes by a call, or by a feed: one without a tracking number, which the call
 * would not take, and what is left of a backlog for which a feed is faster. Sending the same package again edits it at
 * Amazon, so a repeat after a lost answer does no harm. How it is asked for is in shipment_confirm.sql and
 * shipment_source.sql, how it is sent in shipment_send.sql and shipment_feed.sql.
 */
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'require_carrier', 'account', 'boolean', 'Carrier must be mapped', 'false', null, null,
        'Shipments whose carrier is not mapped are held and listed. Else such a carrier is sent as Other, with its name.'),
    (true, 'check_before_shipping', 'account', 'interval', 'Read the order before shipping', '"00:10:00"', 0, 86400,
        'An order is read from Amazon once more before a shipment of it is confirmed. Where many shipments wait for that, the last poll serves that was not longer ago than this. 0: never, each order is read.');

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
    code text,
    carrier text not null,
    carrier_code text not null,
    carrier_name text,
    tracking text,
    shipping_method text,
    shipped_at timestamptz not null,
    items jsonb not null,
    despite_cancellation boolean not null default false,
    supply_source text,
    direct_payment boolean not null default false,
    by_feed boolean not null default false,
    request_id bigint,
    feed_id bigint,
    source_id bigint,
    row_key text,
    created_by name not null,
    created_at timestamptz not null default now(),
    confirmed_at timestamptz,
    primary key (account_id, amazon_order_id, package_reference),
    constraint shipment_state_check check (state in ('verifying', 'queued', 'sent', 'checking', 'held', 'confirmed', 'refused')),
    constraint shipment_reference_check check (package_reference ~ '^[1-9][0-9]{0,9}$'),
    constraint shipment_way_check check (by_feed or tracking is not null)
);

create index shipment_open on amzmp.shipment (state, account_id) where state <> 'confirmed';

comment on table amzmp.shipment is 'Packages that the shop has shipped, and what Amazon said to that.';
comment on column amzmp.shipment.account_id is 'The account that sold.';
comment on column amzmp.shipment.amazon_order_id is 'The order.';
comment on column amzmp.shipment.package_reference is 'Number of the package within the order.';
comment on column amzmp.shipment.state is 'verifying (the order is read once more), queued, sent, checking (Amazon''s answer is ambiguous, the order is read again), held (see reason), confirmed, refused (see reason).';
comment on column amzmp.shipment.reason is 'Why it is held or refused.';
comment on column amzmp.shipment.code is 'Amazon''s code of the last refusal.';
comment on column amzmp.shipment.carrier is 'The carrier as the shop named it.';
comment on column amzmp.shipment.carrier_code is 'The carrier code sent to Amazon.';
comment on column amzmp.shipment.carrier_name is 'The carrier''s name sent to Amazon, where it has no code.';
comment on column amzmp.shipment.tracking is 'The tracking number; null: none, so it goes by a feed.';
comment on column amzmp.shipment.shipping_method is 'The carrier''s service.';
comment on column amzmp.shipment.shipped_at is 'When the package was handed over.';
comment on column amzmp.shipment.items is 'What is in it: an array of objects with orderItemId and quantity.';
comment on column amzmp.shipment.despite_cancellation is 'Is it to be sent although the buyer asks to cancel?';
comment on column amzmp.shipment.supply_source is 'Amazon''s number of the place from which it was sent, for sellers with several.';
comment on column amzmp.shipment.direct_payment is 'Does the carrier collect the money (cash on delivery, Japan only)?';
comment on column amzmp.shipment.by_feed is 'Does it go by a feed and not by a call of its own?';
comment on column amzmp.shipment.request_id is 'The request that tells Amazon.';
comment on column amzmp.shipment.feed_id is 'The feed that told Amazon.';
comment on column amzmp.shipment.source_id is 'The shop''s attached table that it came from; null: confirm_shipment.';
comment on column amzmp.shipment.row_key is 'The row of that table.';
comment on column amzmp.shipment.created_by is 'Who confirmed it.';
comment on column amzmp.shipment.created_at is 'When.';
comment on column amzmp.shipment.confirmed_at is 'When Amazon accepted it.';

create function amzmp._map_carrier(account text, carrier text, amazon_code text, amazon_name text default null,
    shipping_method text default null)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    acc constant bigint := (amzmp._account(account)).account_id;
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
    set amazon_code = excluded.amazon_code,
        amazon_name = excluded.amazon_name,
        shipping_method = excluded.shipping_method;
    perform amzmp._retry_shipments(acc, null);
end
$$;

select amzmp._expose('amzmp._map_carrier(text, text, text, text, text)', 'amzmp_operator',
    'Says what one of the shop''s carriers is called at Amazon. A carrier that is not mapped is sent by its name. Shipments that were held for it go on.');

/*
 * What a carrier is called at Amazon: what map_carrier says, else the setting carrier_map; null where neither knows it.
 */
create function amzmp._carrier(account_id bigint, carrier text)
    returns amzmp.carrier_map
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select k.map
    from (
        select 1 as rank, m as map
        from amzmp.carrier_map as m
        where (m.account_id, m.carrier) = ($1, lower(btrim($2)))
        union all
        select 2, (s.account_id, lower(btrim($2)), s.value ->> btrim($2), null, null)::amzmp.carrier_map
        from amzmp.setting as s
        where (s.account_id, s.channel_id, s.name) = ($1, 0, 'carrier_map')
            and s.value ->> btrim($2) <> 'Other'
    ) as k
    order by k.rank
    limit 1
$$;
