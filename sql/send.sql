/*
 * send.sql
 *	  Differences become PATCH requests: which offers are due, what is written into the body when it is sent, and what
 *	  the answer means.
 *
 * A request names a listing and carries no values: amzmp._render_patch reads what is wanted when the request is
 * claimed, and finds nothing to send when the difference is gone by then. One request carries price and stock of a
 * SKU together. The quantity of a SKU belongs to all channels of the account, so exactly one of their requests takes
 * it along.
 *
 * At most one write per listing and per inventory is in flight: in_flight_request says which, and it holds only while
 * that request exists, so a request that vanished blocks nothing. What changes meanwhile is planned by the handler of
 * the answer.
 *
 * When stock comes back (from 0) while the price differs, the price goes first: Amazon could sell at the old one. The
 * stock follows when the offer was seen with the new price, or after price_first_wait.
 */

/*
 * SKUs whose stock has to wait for a price, and until when at the latest (by our clock).
 */
create function amzmp._price_first(account_id bigint, skus text[])
    returns table (sku text, wait_until timestamptz)
    rows 20
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    with place as materialized (
        select c.account_id, c.channel_id,
            amzmp._setting_interval(c.account_id, c.channel_id, 'price_first_wait')
                / (select a.time_scale::double precision from amzmp.account as a where a.account_id = c.account_id) as wait
        from amzmp.channel as c
        where c.account_id = _price_first.account_id
            and c.active
            and not c.dropped
    )
    select i.sku, max(w.wait_until)
    from amzmp.inventory as i
    join place as p on p.account_id = i.account_id
    join amzmp.listing as l
        on (l.account_id, l.channel_id, l.sku) = (p.account_id, p.channel_id, i.sku)
    cross join lateral (
        select case
                when l.price_differs then coalesce(l.desired_price_at, l.state_at) + p.wait
                when l.observed_price is distinct from l.submitted_price or l.observed_at < l.submitted_price_at
                    then l.submitted_price_at + p.wait
            end as wait_until
    ) as w
    where i.account_id = _price_first.account_id
        and i.sku = any (_price_first.skus)
        and i.remote_quantity = 0
        and i.desired_quantity > 0
        and l.wanted
        and l.listed
        and w.wait_until > now()
    group by i.sku;
end
$$;

-- SKUs of an account with something to send, in one channel or all.
create function amzmp._differing_skus(account_id bigint)
    returns text[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return array(
        select l.sku
        from amzmp.listing as l
        where l.account_id = _differing_skus.account_id
            and l.price_differs
        union
        select l.sku
        from amzmp.listing as l
        where l.account_id = _differing_skus.account_id
            and l.details_differ
        union
        select i.sku
        from amzmp.inventory as i
        where i.account_id = _differing_skus.account_id
            and i.quantity_differs
        union
        select o.sku
        from amzmp._overtaking_skus(_differing_skus.account_id) as o (sku)
    );
end
$$;

/*
 * What has to be sent for these SKUs, and how urgently: one row per listing. Priorities: 10 sold out, 20 less stock,
 * 30 more or unknown stock, 40 price, 50 details. finished are requests that are being completed and no longer count.
 * What a feed carries is left to it, but for stock that falls below what the feed says.
 */
create function amzmp._due_sends(account_id bigint, skus text[], finished bigint[])
    returns table (channel_id bigint, sku text, priority smallint, not_before timestamptz, cause jsonb)
    rows 20
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    with flying as materialized (
        select f.channel_id, f.sku
        from amzmp._in_feeds(_due_sends.account_id, _due_sends.skus) as f
        where f.price is not null
    ), price as (
        select l.channel_id, l.sku, 40 as priority, now() as not_before, l.cause
        from amzmp.channel as c
        join amzmp.listing as l
            on (l.account_id, l.channel_id) = (c.account_id, c.channel_id) and l.sku = any (_due_sends.skus)
        where c.account_id = _due_sends.account_id
            and c.active
            and not c.dropped
            and l.price_differs
            and not exists (select from flying as f where (f.channel_id, f.sku) = (l.channel_id, l.sku))
            and not amzmp._penalised(l.account_id, 'price', l.channel_id, l.sku)
    ), details as (
        select l.channel_id, l.sku, 50 as priority, now() as not_before, l.cause
        from amzmp.channel as c
        join amzmp.listing as l
            on (l.account_id, l.channel_id) = (c.account_id, c.channel_id) and l.sku = any (_due_sends.skus)
        where c.account_id = _due_sends.account_id
            and c.active
            and not c.dropped
            and l.details_differ
            and not exists (select from flying as f where (f.channel_id, f.sku) = (l.channel_id, l.sku))
            and not amzmp._penalised(l.account_id, 'details', l.channel_id, l.sku)
    ), stock as (
        select distinct on (i.sku) l.channel_id, i.sku,
            case
                when i.desired_quantity = i.remote_quantity and s.ceiling is null then 50
                when i.desired_quantity = 0 then 10
                when i.desired_quantity < i.remote_quantity or i.desired_quantity < s.ceiling then 20
                else 30
            end as priority,
            coalesce(w.wait_until, now()) as not_before, i.cause
        from amzmp.inventory as i
        join amzmp.channel as c
            on c.account_id = i.account_id and c.active and not c.dropped
        join amzmp.listing as l
            on (l.account_id, l.channel_id, l.sku) = (c.account_id, c.channel_id, i.sku)
        left join amzmp._price_first(_due_sends.account_id, _due_sends.skus) as w on w.sku = i.sku
        left join amzmp._stock_in_feeds(_due_sends.account_id, _due_sends.skus) as s on s.sku = i.sku
        where i.account_id = _due_sends.account_id
            and i.sku = any (_due_sends.skus)
            and amzmp._stock_is_due(i.quantity_differs, i.desired_quantity, s.ceiling, s.overtaken)
            and l.listed
            and l.fulfillment = 'merchant'
            and not amzmp._penalised(i.account_id, 'stock', 0, i.sku)
            and not amzmp._in_flight(i.account_id, i.in_flight_request, finished)
        order by i.sku, not l.price_differs, not l.wanted, l.channel_id
    )
    select n.channel_id, n.sku, min(n.priority)::smallint, min(n.not_before),
        (array_agg(n.cause order by n.priority))[1]
    from (select * from price union all select * from stock union all select * from details) as n
    group by n.channel_id, n.sku;
end
$$;

-- Is a write in flight? It is while its request exists; one that is being completed does not count.
create function amzmp._in_flight(account_id bigint, request_id bigint, finished bigint[])
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return _in_flight.request_id is not null
        and _in_flight.request_id <> all (_in_flight.finished)
        and exists (
            select
            from amzmp.request as r
            where (r.account_id, r.request_id) = (_in_flight.account_id, _in_flight.request_id)
        );
end
$$;

-- Is a subject held back after an error?
create function amzmp._penalised(account_id bigint, kind text, channel_id bigint, subject text)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
        from amzmp.penalty as p
        where (p.account_id, p.kind, p.channel_id, p.subject)
                = (_penalised.account_id, _penalised.kind, _penalised.channel_id, _penalised.subject)
            and (p.gave_up or p.until > now())
    );
end
$$;

/*
 * Queue what is due. A listing with a request that waits gets no second one, the first is made more urgent where need
 * be (not one that is being retried: it waits for a reason); one whose request is under way is planned again by the
 * handler of the answer. Where bulk is allowed, what has no room beside the requests that wait is left to feeds
 * (planner.sql), unless it prevents overselling. Returns how many requests were made.
 */
create function amzmp._plan_sends(account_id bigint, skus text[] default null, cause jsonb default null,
    finished bigint[] default '{}', bulk boolean default true)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    room constant bigint := case when bulk then amzmp._patch_room(account_id) end;
    planned bigint;
    hurried bigint;
    unplanned bigint;
begin
    if not exists (
        select
        from amzmp.account as a
        where a.account_id = _plan_sends.account_id
            and a.active
    ) then
        return 0;
    end if;

    with due as (
        select d.*
        from amzmp._due_sends(_plan_sends.account_id,
                coalesce(_plan_sends.skus, amzmp._differing_skus(_plan_sends.account_id)), finished) as d
    ), waiting as (
        select r.request_id, r.channel_id, r.subject, r.state, r.attempt, r.operation
        from due as d
        join amzmp.request as r
            on (r.account_id, r.subject_kind, r.subject) = (_plan_sends.account_id, 'listing', d.sku)
            and r.channel_id = d.channel_id
        where r.operation in ('patchListingsItem', 'putListingsItem', 'deleteListingsItem')
            and r.request_id <> all (finished)
    ), sooner as (
        update amzmp.request as r
        set priority = least(r.priority, d.priority),
            not_before = least(r.not_before, d.not_before)
        from waiting as w
        join due as d on (d.channel_id, d.sku) = (w.channel_id, w.subject)
        where (r.account_id, r.request_id) = (_plan_sends.account_id, w.request_id)
            and r.state = 'due'
            and r.attempt = 0
            and r.operation = 'patchListingsItem'
            and (r.priority > d.priority or r.not_before > d.not_before)
        returning 1
    ), fresh as (
        select d.*, row_number() over (order by d.priority, d.not_before, d.sku) as place
        from due as d
        where not exists (
            select from waiting as w where (w.channel_id, w.subject) = (d.channel_id, d.sku)
        )
    ), added as (
        insert into amzmp.request (account_id, operation, priority, not_before, params, render, handler, subject_kind,
            subject, channel_id, cause)
        select _plan_sends.account_id, 'patchListingsItem', d.priority, d.not_before, '{}', '_render_patch',
            '_handle_patch', 'listing', d.sku, d.channel_id, coalesce(_plan_sends.cause, d.cause)
        from fresh as d
        where d.priority <= 20
            or room is null
            or d.place <= room
        returning 1
    )
    select (select count(*) from added), (select count(*) from sooner), (select count(*) from fresh)
    into planned, hurried, unplanned;
    unplanned := unplanned - planned;

    if planned + hurried > 0 then
        perform amzmp._wake();
        perform amzmp._look_for_prices(account_id, skus);
    end if;
    if unplanned > 0 then
        perform amzmp._plan_bulk(account_id, interval '1 second');
    end if;
    return planned;
end
$$;

comment on function amzmp._plan_sends(bigint, text[], jsonb, bigint[], boolean) is 'Inner: queue PATCH requests for what differs, for these SKUs or for all of the account.';

-- Stock that waits until an offer shows its price: look whether it does. Whoever reads the answer plans again.
create function amzmp._look_for_prices(account_id bigint, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    hidden record;
begin
    for hidden in
        select l.channel_id, array_agg(l.sku order by l.sku) as skus
        from amzmp._price_first(_look_for_prices.account_id, _look_for_prices.skus) as w
        join amzmp.channel as c
            on c.account_id = _look_for_prices.account_id and c.active and not c.dropped
        join amzmp.listing as l
            on (l.account_id, l.channel_id, l.sku) = (c.account_id, c.channel_id, w.sku)
        where l.wanted
            and l.listed
            and not l.price_differs
            and l.read_due_at is null
        group by l.channel_id
    loop
        perform amzmp._look(account_id, hidden.channel_id, hidden.skus, now() + amzmp._read_delay(account_id, '0'), null);
    end loop;
end
$$;

/*
 * The body of a PATCH.
 */

-- An offer with its price, as an instance of the attribute purchasable_offer.
create function amzmp._offer_attribute(marketplace_id text, currency text, price numeric)
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('marketplace_id', marketplace_id, 'currency', currency, 'audience', 'ALL',
        'our_price', jsonb_build_array(jsonb_build_object('schedule',
                jsonb_build_array(jsonb_build_object('value_with_tax', price)))))
$$;

-- An amount as it stands in an offer.
create function amzmp._offer_amount(amount jsonb)
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_array(jsonb_build_object('schedule', jsonb_build_array(jsonb_build_object('value_with_tax', amount))))
$$;

-- What travels with the price in the same instance. Only what is known to be there, or may be, is taken away by name.
create function amzmp._offer_limits(terms jsonb, remote jsonb)
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_object_agg(k.attribute, case k.name
                when 'sale' then jsonb_build_array(jsonb_build_object('schedule', jsonb_build_array(jsonb_build_object(
                    'start_at', terms #> '{sale,from}', 'end_at', terms #> '{sale,to}', 'value_with_tax', terms #> '{sale,price}'))))
                else amzmp._offer_amount(terms -> k.name)
            end) filter (where terms ? k.name), '{}')
        || coalesce(jsonb_object_agg(k.attribute, null) filter (where not terms ? k.name and coalesce(remote ? k.name, true)), '{}')
    from (
        values ('minimum', 'minimum_seller_allowed_price'), ('maximum', 'maximum_seller_allowed_price'), ('sale', 'discounted_price')
    ) as k (name, attribute)
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
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array_remove(array[
            jsonb_build_object('op', 'merge', 'path', '/attributes/purchasable_offer',
                'value', jsonb_build_array(amzmp._offer_attribute(marketplace_id, currency, price)
                    || case when terms is null then '{}' else amzmp._offer_limits(terms, remote) end)),
            case
                when terms ? 'business' then jsonb_build_object('op', 'replace', 'path', '/attributes/purchasable_offer',
                    'value', jsonb_build_array(amzmp._business_attribute(marketplace_id, currency, terms -> 'business')))
                when remote ? 'business' then jsonb_build_object('op', 'delete', 'path', '/attributes/purchasable_offer',
                    'value', jsonb_build_array(jsonb_build_object('marketplace_id', marketplace_id, 'currency', currency, 'audience', 'B2B')))
            end
        ], null)
$$;

/*
 * The quantity, with lead time and restock date where they are known to us: an update without them would leave, or
 * bring back, what Amazon has.
 */
create function amzmp._stock_attribute(fulfillment_channel text, quantity integer, terms jsonb, remote jsonb)
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('fulfillment_channel_code', fulfillment_channel, 'quantity', quantity)
        || coalesce(jsonb_object_agg(k.attribute, terms -> k.name) filter (where terms ? k.name), '{}')
        || coalesce(jsonb_object_agg(k.attribute, null) filter (where not terms ? k.name and remote ? k.name), '{}')
    from (values ('lead_time', 'lead_time_to_ship_max_days'), ('restock', 'restock_date')) as k (name, attribute)
$$;

create function amzmp._stock_patch(fulfillment_channel text, quantity integer, terms jsonb, remote jsonb)
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('op', 'merge', 'path', '/attributes/fulfillment_availability',
        'value', jsonb_build_array(amzmp._stock_attribute(fulfillment_channel, quantity, terms, remote)))
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
 * differs by now, because that attempt may have taken effect.
 */
create function amzmp._patch_facets(claimed amzmp.request[])
    returns table (request_id bigint, listing amzmp.listing, inventory amzmp.inventory, price numeric, quantity integer, details jsonb)
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
    select r.request_id, l, i,
        case
            when (l.price_differs or l.in_flight_request = r.request_id and l.in_flight_price is not null)
                and not exists (
                    select
                    from amzmp._in_feeds(acc, array[l.sku]) as f
                    where f.channel_id = l.channel_id and f.price is not null
                )
                and not amzmp._penalised(l.account_id, 'price', l.channel_id, l.sku)
            then round(l.desired_price, m.currency_decimals)
        end,
        case
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
                and not exists (
                    select
                    from amzmp._in_feeds(acc, array[l.sku]) as f
                    where f.channel_id = l.channel_id and f.price is not null
                )
                and not amzmp._penalised(l.account_id, 'details', l.channel_id, l.sku)
            then l.desired_details
        end
    from unnest(claimed) as r
    join amzmp.channel as c on (c.account_id, c.channel_id) = (r.account_id, r.channel_id)
    join amzmp.marketplace as m using (marketplace_id)
    join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (r.account_id, r.channel_id, r.subject)
    left join amzmp.inventory as i
        on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
    left join amzmp._price_first(acc, asked) as w on w.sku = l.sku
    left join amzmp._stock_in_feeds(acc, asked) as s on s.sku = l.sku
    where c.active
        and not c.dropped
        and not amzmp._in_flight(l.account_id, l.in_flight_request, array[r.request_id]);
end
$$;

-- The body of a PATCH that carries these facets of a listing; null ones are left out.
create function amzmp._patch_body(place amzmp.marketplace, listing amzmp.listing, inventory amzmp.inventory, price numeric,
    quantity integer, details jsonb)
    returns jsonb
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('productType', 'PRODUCT', 'patches', to_jsonb(
            case
                when price is not null
                then amzmp._price_patches(place.marketplace_id, place.currency, price, listing.desired_terms, listing.remote_terms)
                else '{}'::jsonb[]
            end || case
                when quantity is not null
                then array[amzmp._stock_patch('DEFAULT', quantity, inventory.desired_terms, inventory.remote_terms)]
                else '{}'::jsonb[]
            end || case
                when details is not null then amzmp._details_patches(place, details, listing.remote_details,
                    amzmp._setting_text(listing.account_id, listing.channel_id, 'condition_default'))
                else '{}'::jsonb[]
            end))
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
        select f.*
        from amzmp._patch_facets(claimed) as f
        where num_nonnulls(f.price, f.quantity, f.details) > 0
    ), offer_on_its_way as (
        update amzmp.listing as l
        set in_flight_price = f.price,
            in_flight_terms = case when f.price is not null then l.desired_terms end,
            in_flight_details = f.details,
            in_flight_request = f.request_id
        from facet as f
        where (l.account_id, l.channel_id, l.sku) = ((f.listing).account_id, (f.listing).channel_id, (f.listing).sku)
    ), stock_on_its_way as (
        update amzmp.inventory as i
        set in_flight_quantity = f.quantity,
            in_flight_terms = i.desired_terms,
            in_flight_request = f.request_id
        from facet as f
        where f.quantity is not null
            and (i.account_id, i.sku, i.fulfillment_channel) = (account.account_id, (f.listing).sku, 'DEFAULT')
    ), overtaking as materialized (
        select amzmp._note_overtaking(account.account_id, array_agg((f.listing).sku), array_agg(f.quantity))
        from facet as f
        where f.quantity is not null
    )
    select f.request_id, amzmp._listing_params(account.seller_id, (f.listing).sku, m.marketplace_id, m.language),
        amzmp._patch_body(m, f.listing, f.inventory, f.price, f.quantity, f.details)
    from overtaking as o
    cross join facet as f
    join amzmp.channel as c on (c.account_id, c.channel_id) = (account.account_id, (f.listing).channel_id)
    join amzmp.marketplace as m using (marketplace_id);
end
$$;

comment on function amzmp._render_patch(amzmp.request[]) is 'Inner: bodies of claimed PATCH requests, from what is wanted now; no row where nothing differs any more.';

/*
 * The answers.
 */

/*
 * What an answer to put, patch or delete says: accepted, or why not. unknown: it may have taken effect all the same.
 * blamed: the attributes that Amazon finds at fault.
 */
create function amzmp._submission_verdict(answer amzmp.answer_row, out accepted boolean, out unknown boolean,
    out code text, out message text, out blamed text[])
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select v.accepted,
        not v.accepted and (answer.outcome in ('lost', 'expired') or answer.status is null or answer.status >= 500),
        case
            when answer.outcome = 'success' then coalesce(e.first ->> 'code', answer.body ->> 'status', 'NO_STATUS')
            else coalesce(answer.error_code, upper(answer.outcome))
        end,
        case
            when answer.outcome = 'success' then coalesce(e.first ->> 'message', 'Amazon did not accept the submission')
            else coalesce(answer.error_message, 'the answer was lost')
        end,
        coalesce(e.blamed, '{}')
    from (
        select answer.outcome = 'success' and coalesce(answer.body ->> 'status', '') = 'ACCEPTED' as accepted
    ) as v
    cross join lateral (
        select (array_agg(i.issue order by i.position))[1] as first,
            array_agg(n.name) filter (where n.name is not null) as blamed
        from amzmp._issues_here(answer.body -> 'issues', null) with ordinality as i (issue, position)
        left join lateral unnest(amzmp._text_array(i.issue -> 'attributeNames')) as n (name) on true
        where i.issue ->> 'severity' = 'ERROR'
    ) as e
$$;

/*
 * Move what was in flight with these requests to submitted (accepted) or back. A value whose fate is unknown makes
 * what Amazon has unknown as well, so that it is sent again whatever the shop wants by then.
 */
create function amzmp._land(account_id bigint, answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    amazon_now constant timestamptz := amzmp._now(account_id);
begin
    perform amzmp._lock_skus(account_id, array(select (a.request).subject from unnest(answers) as a));

    update amzmp.inventory as i
    set submitted_quantity = case when v.accepted then i.in_flight_quantity else i.submitted_quantity end,
        submitted_quantity_at = case when v.accepted then amazon_now else i.submitted_quantity_at end,
        submitted_quantity_request = case when v.accepted then i.in_flight_request else i.submitted_quantity_request end,
        remote_quantity = case
            when v.accepted then i.in_flight_quantity
            when not v.unknown then i.remote_quantity
        end,
        remote_terms = case
            when v.accepted then coalesce(i.in_flight_terms, i.remote_terms)
            when not v.unknown then i.remote_terms
        end,
        in_flight_quantity = null,
        in_flight_terms = null,
        in_flight_request = null
    from unnest(answers) as a,
        lateral amzmp._submission_verdict(a) as v
    where (i.account_id, i.sku, i.in_flight_request)
            = (_land.account_id, (a.request).subject, (a.request).request_id);

    update amzmp.listing as l
    set submitted_price = case when p.accepted then l.in_flight_price else l.submitted_price end,
        submitted_price_at = case when p.accepted then a.answered_at else l.submitted_price_at end,
        submitted_price_request = case when p.accepted then l.in_flight_request else l.submitted_price_request end,
        remote_price = case
            when p.accepted then l.in_flight_price
            when not p.unknown then l.remote_price
        end,
        remote_terms = case
            when p.accepted then coalesce(l.in_flight_terms, l.remote_terms)
            when not p.unknown then l.remote_terms
        end,
        remote_details = case
            when l.in_flight_details is null or not v.accepted and not v.unknown then l.remote_details
            when v.accepted then l.in_flight_details
        end,
        in_flight_price = null,
        in_flight_terms = null,
        in_flight_details = null,
        in_flight_request = null
    from unnest(answers) as a,
        lateral amzmp._submission_verdict(a) as v,
        amzmp.listing as before,
        lateral (
            select before.in_flight_price is not null and v.accepted as accepted,
                before.in_flight_price is not null and v.unknown as unknown
        ) as p
    where (before.account_id, before.channel_id, before.sku, before.in_flight_request)
            = (_land.account_id, (a.request).channel_id, (a.request).subject, (a.request).request_id)
        and (l.account_id, l.channel_id, l.sku) = (before.account_id, before.channel_id, before.sku);

    -- an earlier attempt may still take effect
    perform amzmp._reassert_later(account_id, array(
            select (a.request).subject
            from unnest(answers) as a,
                lateral amzmp._submission_verdict(a) as v
            where (a.request).in_doubt or v.unknown
        ));
end
$$;

/*
 * Facets that requests carried, as kinds of penalties. A facet failed if its request did, unless the other facet of
 * the same request alone is at fault: then it is neither accepted nor failed, and simply sent again.
 */
create function amzmp._carried(account_id bigint, answers amzmp.answer_row[])
    returns table (kind text, channel_id bigint, sku text, accepted boolean, failed boolean, code text, message text)
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    with facet as (
        select 'price' as kind, '{purchasable_offer}'::text[] as own, l.channel_id, l.sku, l.in_flight_request as request_id
        from unnest($2) as a
        join amzmp.listing as l
            on (l.account_id, l.channel_id, l.sku, l.in_flight_request)
                = ($1, (a.request).channel_id, (a.request).subject, (a.request).request_id)
        where l.in_flight_price is not null
        union all
        select 'details', '{condition_type,condition_note,merchant_shipping_group,list_price}', l.channel_id, l.sku, l.in_flight_request
        from unnest($2) as a
        join amzmp.listing as l
            on (l.account_id, l.channel_id, l.sku, l.in_flight_request)
                = ($1, (a.request).channel_id, (a.request).subject, (a.request).request_id)
        where l.in_flight_details is not null
        union all
        select 'stock', '{fulfillment_availability}', 0, i.sku, i.in_flight_request
        from unnest($2) as a
        join amzmp.inventory as i
            on (i.account_id, i.sku, i.in_flight_request) = ($1, (a.request).subject, (a.request).request_id)
    ), paired as (
        select f.*, o.attributes
        from facet as f
        cross join lateral (
            select array_agg(n.name) as attributes
            from facet as x
            cross join lateral unnest(x.own) as n (name)
            where x.request_id = f.request_id
        ) as o
    )
    select p.kind, p.channel_id, p.sku, v.accepted,
        not v.accepted and (p.own && v.blamed or not p.attributes && v.blamed), v.code, v.message
    from unnest($2) as a
    cross join lateral amzmp._submission_verdict(a) as v
    join paired as p on p.request_id = (a.request).request_id
$$;

-- Hold back what failed, and lift penalties from what went through.
create function amzmp._judge_facets(account_id bigint, answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    facet record;
begin
    for facet in
        select f.*
        from amzmp._carried(_judge_facets.account_id, answers) as f
        where f.failed
            or f.accepted and exists (
                select
                from amzmp.penalty as p
                where (p.account_id, p.kind, p.channel_id, p.subject)
                        = (_judge_facets.account_id, f.kind, f.channel_id, f.sku)
            )
    loop
        if facet.accepted then
            perform amzmp._unpenalise(account_id, facet.channel_id, facet.kind, facet.sku);
        else
            perform amzmp._penalise(account_id, facet.channel_id, facet.kind, facet.sku, facet.code, facet.message);
        end if;
    end loop;
end
$$;

create function amzmp._handle_patch(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    account_id constant bigint := (answers[1].request).account_id;
    skus constant text[] := array(select distinct (a.request).subject from unnest(answers) as a);
    finished constant bigint[] := array(select (a.request).request_id from unnest(answers) as a);
begin
    perform amzmp._judge_facets(account_id, answers);
    perform amzmp._land(account_id, answers);
    perform amzmp._keep_issues(account_id, array(
            select ((a.request).channel_id, (a.request).subject, a.body -> 'issues', a.answered_at)::amzmp.issue_report
            from unnest(answers) as a
            where a.outcome = 'success'
                and jsonb_array_length(coalesce(a.body -> 'issues', '[]')) > 0
        ));
    perform amzmp._after_write(account_id, skus, finished);
    perform amzmp._plan_sends(account_id, skus, null, finished);
end
$$;

comment on function amzmp._handle_patch(amzmp.answer_row[]) is 'Inner: apply the answers to PATCH requests and plan what changed meanwhile.';
