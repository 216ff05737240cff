/*
 * patch.sql
 *	  The body of a PATCH, read from what is wanted at the moment it is sent.
 *
 * Functions of one row are PL/pgSQL, which keeps its plans: an SQL function with a search_path of its own is planned anew
 * at each call, which takes ten times as long as these expressions.
 */

-- An offer with its price, as an instance of the attribute purchasable_offer.
create function amzmp._offer_attribute(marketplace_id text, currency text, price numeric)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_build_object('marketplace_id', marketplace_id, 'currency', currency, 'audience', 'ALL',
        'our_price', jsonb_build_array(jsonb_build_object('schedule',
                jsonb_build_array(jsonb_build_object('value_with_tax', price)))));
end
$$;

-- An amount as it stands in an offer.
create function amzmp._offer_amount(amount jsonb)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_build_array(jsonb_build_object('schedule', jsonb_build_array(jsonb_build_object('value_with_tax', amount))));
end
$$;

-- What travels with the price in the same instance. Only what is known to be there, or may be, is taken away by name.
create function amzmp._offer_limits(terms jsonb, remote jsonb)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case
            when terms ? 'minimum' then jsonb_build_object('minimum_seller_allowed_price', amzmp._offer_amount(terms -> 'minimum'))
            when coalesce(remote ? 'minimum', true) then '{"minimum_seller_allowed_price": null}'
            else '{}'
        end || case
            when terms ? 'maximum' then jsonb_build_object('maximum_seller_allowed_price', amzmp._offer_amount(terms -> 'maximum'))
            when coalesce(remote ? 'maximum', true) then '{"maximum_seller_allowed_price": null}'
            else '{}'
        end || case
            when terms ? 'sale' then jsonb_build_object('discounted_price', jsonb_build_array(jsonb_build_object('schedule',
                jsonb_build_array(jsonb_build_object('start_at', terms #> '{sale,from}', 'end_at', terms #> '{sale,to}',
                    'value_with_tax', terms #> '{sale,price}')))))
            when coalesce(remote ? 'sale', true) then '{"discounted_price": null}'
            else '{}'
        end;
end
$$;

-- The offer for businesses: a price of its own with tiers by quantity.
create function amzmp._business_attribute(marketplace_id text, currency text, business jsonb)
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_strip_nulls(jsonb_build_object('marketplace_id', marketplace_id, 'currency', currency, 'audience', 'B2B',
            'our_price', amzmp._offer_amount(business -> 'price'),
            'quantity_discount_plan', (
                select jsonb_build_array(jsonb_build_object('schedule', jsonb_build_array(jsonb_build_object(
                    'discount_type', business ->> 'discount',
                    'levels', jsonb_agg(jsonb_build_object('lower_bound', t.key::integer, 'value', t.value) order by t.key::integer)))))
                from jsonb_each(business -> 'tiers') as t
                having count(*) > 0
            )))
$$;

-- The offer's price and terms as patches, so that everything else about the offer stays as it is.
create function amzmp._price_patches(marketplace_id text, currency text, price numeric, terms jsonb, remote jsonb)
    returns jsonb[]
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array_remove(array[
            jsonb_build_object('op', 'merge', 'path', '/attributes/purchasable_offer',
                'value', jsonb_build_array(amzmp._offer_attribute(marketplace_id, currency, price)
                    || case when terms is null then '{}' else amzmp._offer_limits(terms, remote) end)),
            case
                when terms ? 'business' then jsonb_build_object('op', 'replace', 'path', '/attributes/purchasable_offer',
                    'value', jsonb_build_array(amzmp._business_attribute(marketplace_id, currency, terms -> 'business')))
                when remote ? 'business' then jsonb_build_object('op', 'delete', 'path', '/attributes/purchasable_offer',
                    'value', jsonb_build_array(jsonb_build_object('marketplace_id', marketplace_id, 'currency', currency, 'audience', 'B2B')))
            end
        ], null);
end
$$;

/*
 * The quantity, with lead time and restock date where they are known to us: an update without them would leave, or
 * bring back, what Amazon has.
 */
create function amzmp._stock_attribute(fulfillment_channel text, quantity integer, terms jsonb, remote jsonb)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_build_object('fulfillment_channel_code', fulfillment_channel, 'quantity', quantity)
        || case
            when terms ? 'lead_time' then jsonb_build_object('lead_time_to_ship_max_days', terms -> 'lead_time')
            when remote ? 'lead_time' then '{"lead_time_to_ship_max_days": null}'
            else '{}'
        end || case
            when terms ? 'restock' then jsonb_build_object('restock_date', terms -> 'restock')
            when remote ? 'restock' then '{"restock_date": null}'
            else '{}'
        end;
end
$$;

create function amzmp._stock_patch(fulfillment_channel text, quantity integer, terms jsonb, remote jsonb)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_build_object('op', 'merge', 'path', '/attributes/fulfillment_availability',
        'value', jsonb_build_array(amzmp._stock_attribute(fulfillment_channel, quantity, terms, remote)));
end
$$;

-- The attributes of an offer's details.
create function amzmp._detail_attributes(place amzmp.marketplace, details jsonb)
    returns table (name text, attribute text, value jsonb)
    rows 4
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select v.name, v.attribute, jsonb_build_array(jsonb_build_object('marketplace_id', place.marketplace_id, 'value', details -> v.name) || v.more)
    from (
        values ('condition', 'condition_type', '{}'::jsonb),
            ('note', 'condition_note', jsonb_build_object('language_tag', place.language)),
            ('shipping', 'merchant_shipping_group', '{}'),
            ('list_price', 'list_price', jsonb_build_object('currency', place.currency))
    ) as v (name, attribute, more)
    where details ? v.name
$$;

-- Patches from the details that Amazon has to those that are wanted. A condition cannot be taken away: it becomes the default.
create function amzmp._details_patches(place amzmp.marketplace, details jsonb, remote jsonb, condition_default text)
    returns jsonb[]
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array(
        select jsonb_build_object('op', 'replace', 'path', '/attributes/' || w.attribute, 'value', w.value)
        from amzmp._detail_attributes(place, case
                when remote ? 'condition' and not details ? 'condition' then details || jsonb_build_object('condition', condition_default)
                else details
            end) as w
        where details -> w.name is distinct from remote -> w.name
        union all
        select jsonb_build_object('op', 'delete', 'path', '/attributes/' || g.attribute,
            'value', jsonb_build_array((g.value -> 0) - case g.name when 'shipping' then '' else 'value' end))
        from amzmp._detail_attributes(place, remote) as g
        where not details ? g.name
            and g.name <> 'condition'
    )
$$;

-- Path and query of a call about one SKU in one channel. Amazon's messages come in the marketplace's language.
create function amzmp._listing_params(seller_id text, sku text, marketplace_id text, language text)
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('sellerId', seller_id, 'sku', sku, 'marketplaceIds', jsonb_build_array(marketplace_id),
        'issueLocale', language)
$$;

/*
 * What each claimed request shall carry, as things stand now. Null facets are not sent: nothing differs, another
 * request has them in flight, they are held back after an error, or stock waits for a price. Of several requests for a
 * SKU the first takes the stock. What an earlier attempt of the same request carried is sent again even if nothing
 * differs by now, because that attempt may have taken effect. in_feed: a feed carries the listing's own values, so that
 * only stock may go past it. A request that goes along with a feed (state feed) leaves stock to others.
 */
create function amzmp._patch_facets(claimed amzmp.request[])
    returns table (request_id bigint, listing amzmp.listing, inventory amzmp.inventory, price numeric, quantity integer, details jsonb,
        fulfillment text, in_feed boolean)
    rows 20
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc constant bigint := claimed[1].account_id;
    asked constant text[] := array(select r.subject from unnest(claimed) as r);
begin
    perform amzmp._lock_skus(acc, asked);
    return query
    with flying as materialized (
        select f.channel_id, f.sku
        from amzmp._in_feeds(acc, asked) as f
        where num_nonnulls(f.price, f.request_id) > 0
    )
    select r.request_id, l, i,
        case
            when (l.price_differs or l.in_flight_request = r.request_id and l.in_flight_price is not null)
                and not n.in_feed
                and not amzmp._penalised(l.account_id, 'price', l.channel_id, l.sku)
            then round(l.desired_price, m.currency_decimals)
        end,
        case
            when r.state = 'feed' then null
            when u.fulfillment is not null then case
                when u.fulfillment = 'merchant' and row_number() over (partition by l.sku order by not l.price_differs, l.channel_id) = 1
                then i.desired_quantity
            end
            when (amzmp._stock_is_due(i.quantity_differs, i.desired_quantity, s.ceiling, s.overtaken)
                    or i.in_flight_request = r.request_id)
                and l.listed
                and l.fulfillment = 'merchant'
                and w.sku is null
                and not amzmp._penalised(i.account_id, 'stock', 0, i.sku)
                and not amzmp._in_flight(i.account_id, i.in_flight_request, array[r.request_id])
                and row_number() over (partition by l.sku order by not l.price_differs, l.channel_id) = 1
            then i.desired_quantity
        end,
        case
            when (l.details_differ or l.in_flight_request = r.request_id and l.in_flight_details is not null)
                and not n.in_feed
                and not amzmp._penalised(l.account_id, 'details', l.channel_id, l.sku)
            then l.desired_details
        end,
        case
            when r.state <> 'feed' and row_number() over (partition by l.sku order by not l.price_differs, l.channel_id) = 1
            then u.fulfillment
        end,
        n.in_feed
    from unnest(claimed) as r
    join amzmp.channel as c on (c.account_id, c.channel_id) = (r.account_id, r.channel_id)
    join amzmp.marketplace as m using (marketplace_id)
    join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (r.account_id, r.channel_id, r.subject)
    left join amzmp.inventory as i
        on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
    cross join lateral amzmp._fulfillment_to_send(l, r.request_id, array[r.request_id]) as u (fulfillment)
    cross join lateral (
        select (l.channel_id, l.sku) in (select f.channel_id, f.sku from flying as f) as in_feed
    ) as n
    left join amzmp._price_first(acc, asked) as w on w.sku = l.sku
    left join amzmp._stock_in_feeds(acc, asked) as s on s.sku = l.sku
    where c.active
        and not c.dropped
        and not amzmp._in_flight(l.account_id, l.in_flight_request, array[r.request_id]);
end
$$;

/*
 * The body of a PATCH that carries these facets of a listing; null ones are left out. An offer that is new on its product
 * says in which condition it is.
 */
create function amzmp._patch_body(place amzmp.marketplace, listing amzmp.listing, inventory amzmp.inventory, price numeric,
    quantity integer, details jsonb, contents amzmp.listing_content[], fulfillment text)
    returns jsonb
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_build_object('productType', coalesce((select max(d.product_type) from unnest(contents) as d),
            case when contents is not null then listing.product_type end, 'PRODUCT'), 'patches', to_jsonb(
            case when contents is not null then amzmp._content_patches(contents, place) else '{}'::jsonb[] end || case
                when price is not null
                then amzmp._price_patches(place.marketplace_id, place.currency, price, listing.desired_terms, listing.remote_terms)
                else '{}'::jsonb[]
            end || case
                when fulfillment is not null then amzmp._fulfillment_patches(fulfillment, place, inventory, quantity)
                when quantity is not null
                then array[amzmp._stock_patch('DEFAULT', quantity, inventory.desired_terms, inventory.remote_terms)]
                else '{}'::jsonb[]
            end || case
                when listing.step = 'price' and price is not null then amzmp._details_patches(place, jsonb_build_object('condition',
                        amzmp._setting_text(listing.account_id, listing.channel_id, 'condition_default')) || coalesce(details, '{}'), null, null)
                when details is not null then amzmp._details_patches(place, details, listing.remote_details,
                    amzmp._setting_text(listing.account_id, listing.channel_id, 'condition_default'))
                else '{}'::jsonb[]
            end));
end
$$;

create function amzmp._render_patch(claimed amzmp.request[])
    returns table (request_id bigint, params jsonb, body jsonb)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    account constant amzmp.account := (
        select a from amzmp.account as a where a.account_id = claimed[1].account_id
    );
begin
    return query
    with facet as materialized (
        select f.*, x.contents
        from amzmp._patch_facets(claimed) as f
        cross join lateral (
            select case when not f.in_feed then amzmp._content_to_send(f.request_id, f.listing) end as contents
        ) as x
        where num_nonnulls(f.price, f.quantity, f.details, x.contents, f.fulfillment) > 0
    ), offer_on_its_way as (
        update amzmp.listing as l
        set in_flight_price = f.price,
            in_flight_terms = case when f.price is not null then l.desired_terms end,
            in_flight_details = f.details,
            in_flight_request = f.request_id
        from facet as f
        where not f.in_feed
            and (l.account_id, l.channel_id, l.sku) = ((f.listing).account_id, (f.listing).channel_id, (f.listing).sku)
    ), stock_on_its_way as (
        update amzmp.inventory as i
        set in_flight_quantity = f.quantity,
            in_flight_terms = i.desired_terms,
            in_flight_request = f.request_id
        from facet as f
        where f.quantity is not null
            and (i.account_id, i.sku, i.fulfillment_channel) = (account.account_id, (f.listing).sku, 'DEFAULT')
    ), content_on_its_way as materialized (
        select count(amzmp._content_leaves(f.contents, f.request_id)) as leaving
        from facet as f
        where f.contents is not null
    ), shipper_on_its_way as materialized (
        select count(amzmp._fulfillment_leaves(account.account_id, (f.listing).sku, f.request_id)) as leaving
        from facet as f
        where f.fulfillment is not null
    ), overtaking as materialized (
        select amzmp._note_overtaking(account.account_id, array_agg((f.listing).sku), array_agg(f.quantity))
        from facet as f
        where f.quantity is not null
    )
    select f.request_id, amzmp._listing_params(account.seller_id, (f.listing).sku, m.marketplace_id, m.language),
        amzmp._patch_body(m, f.listing, f.inventory, f.price, f.quantity, f.details, f.contents, f.fulfillment)
    from overtaking as o
    cross join content_on_its_way as w
    cross join shipper_on_its_way as h
    cross join facet as f
    join amzmp.channel as c on (c.account_id, c.channel_id) = (account.account_id, (f.listing).channel_id)
    join amzmp.marketplace as m using (marketplace_id);
end
$$;

comment on function amzmp._render_patch(amzmp.request[]) is 'Inner: bodies of claimed PATCH requests, from what is wanted now; no row where nothing differs any more.';
