/*
 * order_for_shop.sql
 *	  An order in the shop's own words: number, customer, carrier, region, taxes, for the shop's delivery function.
 *
 * The function that takes an order (delivery.sql) asks amzmp.shop_order for everything that is no personal data, and
 * amzmp.shop_address for the address. Both translate by tables that the shop fills (map_service, map_address, set_tax_rule) and
 * by settings; nothing is translated at the import, so that a better table holds for orders that wait, too.
 */

/* ---- what the shop calls things ---- */

create table amzmp.service_map (
    account_id bigint not null,
    channel_id bigint not null default 0,
    service_level text not null,
    carrier text not null,
    method text,
    primary key (account_id, channel_id, service_level)
);

comment on table amzmp.service_map is 'With which carrier and method the shop ships an order of Amazon''s service level. Written by map_service.';
comment on column amzmp.service_map.account_id is 'The account.';
comment on column amzmp.service_map.channel_id is 'The channel; 0: all of the account.';
comment on column amzmp.service_map.service_level is 'Amazon''s service level, such as STANDARD.';
comment on column amzmp.service_map.carrier is 'The shop''s carrier.';
comment on column amzmp.service_map.method is 'The shop''s shipping method.';

create table amzmp.address_map (
    account_id bigint not null,
    channel_id bigint not null default 0,
    kind text not null,
    country_code text not null default '',
    code text not null,
    target text not null,
    primary key (account_id, channel_id, kind, country_code, code),
    constraint address_map_kind_check check (kind in ('country', 'region', 'city', 'district'))
);

comment on table amzmp.address_map is 'What the shop calls countries, regions, cities and districts. Written by map_address.';
comment on column amzmp.address_map.account_id is 'The account.';
comment on column amzmp.address_map.channel_id is 'The channel, where the setting address_per_channel is on; else 0.';
comment on column amzmp.address_map.kind is 'country, region, city or district.';
comment on column amzmp.address_map.country_code is 'The country that the name is of; empty: any.';
comment on column amzmp.address_map.code is 'Amazon''s word, in lower case.';
comment on column amzmp.address_map.target is 'The shop''s key or name of it.';

create table amzmp.tax_rule (
    account_id bigint not null,
    country_code text not null,
    region text not null default '',
    import_tax boolean not null,
    import_shipping_tax boolean not null,
    primary key (account_id, country_code, region)
);

comment on table amzmp.tax_rule is 'Where the taxes that Amazon states are booked by the shop, and where not because Amazon collects them. Written by set_tax_rule.';
comment on column amzmp.tax_rule.account_id is 'The account.';
comment on column amzmp.tax_rule.country_code is 'Country of the marketplace.';
comment on column amzmp.tax_rule.region is 'Region of the delivery as Amazon writes it, in upper case; empty: all others.';
comment on column amzmp.tax_rule.import_tax is 'Is the tax on items booked?';
comment on column amzmp.tax_rule.import_shipping_tax is 'Is the tax on shipping booked?';

insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, choices, description)
values
    (true, 'customer_mode', 'both', 'text', 'Customers', '"new"', '["guest", "fixed", "new"]',
        'For delivery functions: make a customer of each buyer (new), none (guest), or book every order on default_customer (fixed).'),
    (true, 'default_customer', 'both', 'text', 'Customer of all orders', null, null,
        'With customer_mode fixed: the shop''s customer, for example by e-mail address.'),
    (true, 'default_customer_billing', 'both', 'boolean', 'Bill to that customer''s address', 'false', null,
        'With customer_mode fixed: the invoice goes to that customer''s own address instead of the address of the delivery.'),
    (true, 'order_source', 'both', 'text', 'Source of orders', '"amazon"', null,
        'What the shop writes as the source of Amazon''s orders.'),
    (true, 'order_store', 'both', 'text', 'Store', null, null,
        'The shop''s store (sales channel, web site) to which orders belong.'),
    (true, 'payment_method', 'both', 'text', 'Payment method', '"amazon"', null,
        'The shop''s payment method of orders that Amazon was paid for.'),
    (true, 'import_tax', 'both', 'boolean', 'Book taxes on items', 'true', null,
        'Whether the taxes on items that Amazon states are booked, where no tax rule says so for the country and region.'),
    (true, 'import_shipping_tax', 'both', 'boolean', 'Book taxes on shipping', 'true', null,
        'Whether the taxes on shipping that Amazon states are booked, where no tax rule says so for the country and region.'),
    (true, 'import_collected_tax', 'both', 'boolean', 'Book taxes that Amazon collects', 'true', null,
        'Whether taxes are booked that Amazon itself withholds and pays for the seller, as it does in most states of the US and for imports into the EU and the UK. Off, they are left out whatever the tax rules say; Amazon tells it with each line.'),
    (true, 'create_region', 'both', 'boolean', 'New regions', 'false', null,
        'For delivery functions: make a region that the shop does not know, instead of leaving it to default_region.'),
    (true, 'default_region', 'both', 'text', 'Region where there is none', '""', null,
        'The region of an address whose own is missing, or not mapped while create_region is off. Not set: the address keeps Amazon''s.');

create function amzmp._map_service(account_or_channel text, service_level text, carrier text, method text default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    place record;
    -- Standard, SecondDay and SECOND_DAY are one spelling here
    level text := upper(regexp_replace(btrim(service_level), '([a-z])([A-Z])', '\1_\2', 'g'));
begin
    select r.account_id, r.channel_id into strict place from amzmp._resolve(account_or_channel) as r;
    if coalesce(level, '') !~ '^[A-Z][A-Z_]{1,40}$' then
        perform amzmp._fail('AZ202', format('%L is no service level', service_level), null,
            'Amazon has STANDARD, EXPEDITED, SECOND_DAY, NEXT_DAY, SAME_DAY, PRIORITY, SCHEDULED and FREE_ECONOMY.');
    end if;
    delete from amzmp.service_map m
     where m.account_id = place.account_id and m.channel_id = place.channel_id and m.service_level = level;
    if carrier is not null then
        insert into amzmp.service_map (account_id, channel_id, service_level, carrier, method)
        values (place.account_id, place.channel_id, level, carrier, method);
    end if;
end
$$;

select amzmp._expose('amzmp._map_service(text, text, text, text)', 'amzmp_operator',
    'Says with which of the shop''s carriers and methods orders of one of Amazon''s service levels (STANDARD, EXPEDITED, SECOND_DAY, NEXT_DAY …) are shipped, for an account or a channel. A null carrier takes it away; then the setting default_carrier holds.');

create function amzmp._map_address(account_or_channel text, kind text, code text, target text, country text default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    place record;
begin
    select r.account_id, r.channel_id into strict place from amzmp._resolve(account_or_channel) as r;
    if kind is null or kind not in ('country', 'region', 'city', 'district') or coalesce(btrim(code), '') = '' then
        perform amzmp._fail('AZ202', format('%s %L cannot be mapped', coalesce(kind, 'null'), code), null,
            'Kinds are country, region, city and district; the code is the word that Amazon sends.');
    end if;
    if place.channel_id <> 0 and not amzmp._setting_bool(place.account_id, 0, 'address_per_channel') then
        perform amzmp._fail('AZ202', 'addresses are mapped for the whole account', null,
            format('Name the account, or switch it over: select amzmp.set(%L, ''address_per_channel'', ''true'');',
                (select a.name from amzmp.account a where a.account_id = place.account_id)));
    end if;
    delete from amzmp.address_map m
     where m.account_id = place.account_id and m.channel_id = place.channel_id and m.kind = _map_address.kind
       and m.country_code = coalesce(upper(country), '') and m.code = lower(btrim(_map_address.code));
    if target is not null then
        insert into amzmp.address_map (account_id, channel_id, kind, country_code, code, target)
        values (place.account_id, place.channel_id, kind, coalesce(upper(country), ''), lower(btrim(code)), target);
    end if;
end
$$;

select amzmp._expose('amzmp._map_address(text, text, text, text, text)', 'amzmp_operator',
    'Says what the shop calls a country, region, city or district that Amazon sends, for an account, or for a channel where address_per_channel is on. A null target takes it away.');

create function amzmp._set_tax_rule(account text, country text, region text, import_tax boolean, import_shipping_tax boolean) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
begin
    if country is null or not exists (select from amzmp.marketplace m where m.country_code = upper(country)) then
        perform amzmp._fail('AZ202', format('%L is no country of a marketplace', country), null, 'amzmp.marketplace lists them.');
    end if;
    delete from amzmp.tax_rule r
     where r.account_id = acc and r.country_code = upper(country) and r.region = coalesce(upper(btrim(_set_tax_rule.region)), '');
    if import_tax is not null then
        insert into amzmp.tax_rule (account_id, country_code, region, import_tax, import_shipping_tax)
        values (acc, upper(country), coalesce(upper(btrim(region)), ''), import_tax, coalesce(import_shipping_tax, import_tax));
    end if;
end
$$;

select amzmp._expose('amzmp._set_tax_rule(text, text, text, boolean, boolean)', 'amzmp_admin',
    'Says whether the shop books the taxes on items and on shipping of orders in a marketplace''s country, for one region of the delivery (such as GA) or with a null region for all others. Without a rule the settings import_tax and import_shipping_tax hold; a null import_tax takes the rule away.');

/* ---- what the shop's function asks for ---- */

-- The region of an order's delivery as Amazon wrote it, for tax rules alone. Null once personal data is removed.
create function amzmp._delivery_region(account_id bigint, amazon_order_id text) returns text
    language sql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
    select upper(btrim(amzmp._open(b.sealed, 'buyer', b.account_id || '/' || b.amazon_order_id)::jsonb
                       #>> '{recipient,deliveryAddress,stateOrRegion}'))
    from amzmp.order_buyer b
    where b.account_id = $1 and b.amazon_order_id = $2;
$$;

-- Are the taxes of an order booked? The rule of its region, else of its country, else the settings. What replaces another
-- order was taxed with that one.
create function amzmp._tax_booked(o amzmp.orders, out items boolean, out shipping boolean)
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
declare
    country text := (select m.country_code from amzmp.marketplace m where m.marketplace_id = o.marketplace_id);
    regional boolean := exists (select from amzmp.tax_rule r
                                 where r.account_id = o.account_id and r.country_code = country and r.region <> '');
    delivered_to text := case when regional then amzmp._delivery_region(o.account_id, o.amazon_order_id) end;
begin
    if o.replaces_order_id is not null then
        items := false;
        shipping := false;
        return;
    end if;
    select r.import_tax, r.import_shipping_tax into items, shipping
      from amzmp.tax_rule r
     where r.account_id = o.account_id and r.country_code = country and r.region in (coalesce(delivered_to, ''), '')
     order by r.region desc limit 1;
    if not found then
        items := amzmp._setting_bool(o.account_id, o.channel_id, 'import_tax');
        shipping := amzmp._setting_bool(o.account_id, o.channel_id, 'import_shipping_tax');
    end if;
end
$$;

-- The lines of an order whose taxes Amazon withholds and pays itself, as the order says. None once personal data is removed,
-- and the order as it came with it.
create function amzmp._lines_taxed_by_amazon(account_id bigint, amazon_order_id text) returns text[]
    language sql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
    select coalesce(array_agg(i.id), '{}')
    from amzmp.order_buyer b
    cross join lateral amzmp._rows(amzmp._open(b.raw, 'order', b.account_id || '/' || b.amazon_order_id), 'orderItems') as o (items text)
    cross join lateral amzmp._rows(o.items, 'orderItemId', 'tax.taxCollections[model=MARKETPLACE_FACILITATOR].model')
        as i (id text, collected boolean)
    where b.account_id = $1 and b.amazon_order_id = $2 and i.collected;
$$;

create function amzmp._shop_order(account_id bigint, amazon_order_id text)
    returns table (order_number text, source text, store text, payment_method text, customer_mode text, customer text,
        bill_to_customer boolean, carrier text, shipping_method text, service_level text, status text, fulfilled_by text,
        short_stock boolean, currency text, grand_total numeric, tax_on_items numeric, tax_on_shipping numeric, items jsonb)
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    o amzmp.orders;
    booked record;
    collected text[];
begin
    select x.* into o from amzmp.orders x
     where x.account_id = acc and x.amazon_order_id = $2 and amzmp._may_see(acc, amzmp._caller());
    if not found then
        return;
    end if;
    select * into booked from amzmp._tax_booked(o);
    collected := amzmp._lines_taxed_by_amazon(acc, o.amazon_order_id);
    return query
        select o.order_number, amzmp._setting_text(acc, o.channel_id, 'order_source'), amzmp._setting_text(acc, o.channel_id, 'order_store'),
               amzmp._setting_text(acc, o.channel_id, 'payment_method'), c.mode,
               case when c.mode = 'fixed' then amzmp._setting_text(acc, o.channel_id, 'default_customer') end,
               c.mode = 'fixed' and amzmp._setting_bool(acc, o.channel_id, 'default_customer_billing'),
               coalesce(s.carrier, amzmp._setting_text(acc, o.channel_id, 'default_carrier')), s.method, o.service_level, o.status,
               o.fulfilled_by, o.short_stock, o.currency, o.grand_total, i.on_items, i.on_shipping, i.items
          from (select amzmp._setting_text(acc, o.channel_id, 'customer_mode') as mode) as c
          left join lateral (
                select m.carrier, m.method from amzmp.service_map m
                 where m.account_id = acc and m.channel_id in (o.channel_id, 0) and m.service_level = o.service_level
                 order by m.channel_id desc limit 1) as s on true
         cross join lateral (
                select sum(x.item_tax) filter (where booked.items and k.ours) as on_items,
                       sum(x.shipping_tax) filter (where booked.shipping and k.ours) as on_shipping,
                       jsonb_agg(jsonb_build_object('order_item_id', x.order_item_id, 'sku', x.shop_sku, 'amazon_sku', x.sku, 'title', x.title,
                           'quantity', x.quantity_ordered, 'remaining', amzmp._remaining_units(o, x), 'unit_price', x.unit_price, 'item_price', x.item_price,
                           'item_tax', case when booked.items and k.ours then x.item_tax end, 'shipping_price', x.shipping_price,
                           'shipping_tax', case when booked.shipping and k.ours then x.shipping_tax end, 'discount', x.discount,
                           'total', x.total, 'tax_collected_by_amazon', x.order_item_id = any (collected)) order by x.position) as items
                  from amzmp.order_item x
                 cross join lateral (
                        select x.order_item_id <> all (collected)
                               or amzmp._setting_bool(acc, o.channel_id, 'import_collected_tax') as ours) as k
                 where x.account_id = acc and x.amazon_order_id = o.amazon_order_id) as i;
end
$$;

select amzmp._expose('amzmp._shop_order(bigint, text)', 'amzmp_reader',
    'An order in the shop''s words, for its delivery function: number, source, store, payment method, how to book the customer, carrier and shipping method of the service level, taxes as far as the shop books them (null: not booked), and the lines as JSON (remaining: units ordered and not cancelled). No personal data; see shop_address.');

-- What the shop calls a part of an address; null when that is not mapped.
create function amzmp._mapped_address(account_id bigint, channel_id bigint, kind text, country text, code text) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select m.target
    from amzmp.address_map m
    where m.account_id = $1
      and m.channel_id in (0, case when amzmp._setting_bool($1, 0, 'address_per_channel') then $2 else 0 end)
      and m.kind = $3 and m.country_code in (upper($4), '') and m.code = lower(btrim($5))
    order by m.channel_id desc, m.country_code desc
    limit 1;
$$;

/*
 * The address of a delivery as the shop's tables want it. Where an address must name its district (use_neighborhood), it
 * comes from whatever Amazon sends that is nearest to one.
 */
create function amzmp._shop_address(account text, amazon_order_ids text[])
    returns table (amazon_order_id text, address_key text, name text, company text, line1 text, line2 text, line3 text, district text,
        city text, region text, region_is_new boolean, postal_code text, country text, phone text, email text)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc bigint := (amzmp._account($1)).account_id;
    need_district boolean := amzmp._setting_bool(acc, 0, 'use_neighborhood');
    by_channel boolean := amzmp._setting_bool(acc, 0, 'address_per_channel');
begin
    return query
        select b.amazon_order_id,
               case when by_channel then o.channel_id || '_' else '' end
                   || concat_ws('_', lower(b.country_code), b.postal_code, md5(concat_ws('|', lower(b.recipient_name), lower(b.address_line1)))),
               b.recipient_name, b.recipient_company, b.address_line1, b.address_line2, b.address_line3,
               coalesce(amzmp._mapped_address(acc, o.channel_id, 'district', b.country_code, d.district), d.district),
               coalesce(amzmp._mapped_address(acc, o.channel_id, 'city', b.country_code, b.city), b.city),
               coalesce(r.known, case when r.make_it then b.state_or_region
                                      else coalesce(amzmp._setting_text(acc, o.channel_id, 'default_region'), b.state_or_region) end),
               r.known is null and r.make_it, b.postal_code,
               coalesce(amzmp._mapped_address(acc, o.channel_id, 'country', b.country_code, b.country_code), b.country_code), b.phone,
               b.buyer_email
          from amzmp._buyer($1, $2) b
          join amzmp.orders o on o.account_id = acc and o.amazon_order_id = b.amazon_order_id
         cross join lateral (
                select case when need_district
                            then coalesce(nullif(b.district, ''), b.extended_address ->> 'neighborhood', b.municipality, b.city)
                            else b.district end as district) as d
         cross join lateral (
                select amzmp._mapped_address(acc, o.channel_id, 'region', b.country_code, b.state_or_region) as known,
                       coalesce(b.state_or_region, '') <> ''
                       and amzmp._setting_bool(acc, o.channel_id, 'create_region') as make_it) as r;
end
$$;

select amzmp._expose('amzmp._shop_address(text, text[])', 'amzmp_buyer_data',
    'The addresses of orders as the shop''s tables want them: country, region, city and district in the shop''s words (map_address), a district where use_neighborhood asks for one, a key by which the shop may find the address again, and whether the region is to be made. Needs the role amzmp_buyer_data; every call is written to the server''s log, as buyer() does.');
