/*
 * publish.sql
 *	  The life of an offer: found in the catalogue, put, judged by Amazon, read again, taken off.
 *
 *		publish ──▶ queued ──look──▶ adopted (Amazon has the SKU): live, live_with_issues …
 *		              │
 *		              ├─ no ASIN yet ─▶ matching ──unique──▶ queued        none or several ──▶ rejected
 *		              └─ ASIN known ──▶ put ─▶ sent ──ACCEPTED──▶ pending   INVALID ──────────▶ rejected
 *
 *		pending ──read──▶ live · live_with_issues · rejected · (no verdict in time) rejected
 *		unpublish ──▶ quantity 0 ─▶ off_sale   or   delete ─▶ removed        vanished at Amazon ─▶ gone
 *
 * Each arrow is a request and the handler of its answer; nothing waits in between. What a lost answer left behind is
 * found by reading, and the flow send_products picks up whatever fell between two steps.
 *
 * Reading goes through searchListingsItems, 20 SKUs a call, and so does the look before a SKU is first put: whether an
 * offer is made, changed or adopted is decided by what Amazon has, not by the caller.
 */

/*
 * What the shop says about the products to publish.
 */
create function amzmp._listing_products(account_id bigint, channel_id bigint, skus text[])
    returns setof amzmp.product
    rows 20
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select p.*
    from (select distinct u.sku from unnest($3) as u (sku)) as k
    cross join lateral amzmp._offer_product($1, $2, k.sku) as p
    where p.sku is not null
$$;

/*
 * Publish.
 */

-- A list of SKUs as people give it: each once, none of them null.
create function amzmp._check_skus(skus text[], verb text)
    returns void
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    repeated text;
begin
    if coalesce(cardinality(skus), 0) = 0 or array_ndims(skus) > 1 or array_position(skus, null) is not null then
        perform amzmp._fail('AZ202', format('no SKUs to %s: %s', verb, case
                when skus is null then 'null'
                when cardinality(skus) = 0 then 'an empty array'
                when array_ndims(skus) > 1 then 'an array of arrays'
                else 'there is a null among them'
            end), null,
            format('Give an array of SKUs without nulls, for example array(select sku from product where sku is not null) or array[''A'', ''B''].'));
    end if;
    select string_agg(quote_literal(x.sku), ', ') into repeated
    from (
        select s.sku
        from unnest(skus) as s (sku)
        group by s.sku
        having count(*) > 1
        order by s.sku
        limit 10
    ) as x;
    if repeated is not null then
        perform amzmp._fail('AZ202', format('SKUs to %s are named twice: %s', verb, repeated), null, 'Name each once, for example by select distinct.');
    end if;
end
$$;

-- What cannot be published at all is an error that names it, before anything is changed.
create function amzmp._check_publication(place amzmp.channel, channel text, skus text[], asins text[])
    returns void
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    bad text;
begin
    if place.dropped or not place.active or not (select a.active from amzmp.account as a where a.account_id = place.account_id) then
        perform amzmp._fail('AZ203', format('channel "%s" is not active', channel),
            'Offers are made in active channels of active accounts only.', format('select amzmp.activate(%L);', channel));
    end if;
    perform amzmp._check_skus(skus, 'publish');
    if array_ndims(asins) > 1 then
        perform amzmp._fail('AZ202', 'the ASINs are an array of arrays', null, 'Give one ASIN for each SKU, in the same order.');
    end if;
    if asins is not null and cardinality(asins) <> cardinality(skus) then
        perform amzmp._fail('AZ202', format('%s ASINs for %s SKUs', cardinality(asins), cardinality(skus)), null,
            'Give one ASIN for each SKU, in the same order; null where the barcode shall decide.');
    end if;
    select string_agg(quote_literal(a.asin), ', ') into bad
    from unnest(asins) as a (asin)
    where upper(btrim(a.asin)) !~ '^[A-Z0-9]{10}$';
    if bad is not null then
        perform amzmp._fail('AZ202', format('not an ASIN: %s', bad), null,
            'An ASIN has ten letters and digits; it stands in the address of the product''s page.');
    end if;
    select string_agg(quote_literal(x.sku), ', ') into bad
    from (
        select s.sku
        from unnest(skus) as s (sku)
        where not amzmp._is_sku(s.sku)
        limit 10
    ) as x;
    if bad is not null then
        perform amzmp._fail('AZ202', format('Amazon takes no such SKU: %s', bad), null,
            'A SKU has 1 to 40 characters at Amazon and no blanks around it: Amazon takes these away, and knows the product by another SKU then. Trim it where the source is attached: sku => ''btrim(sku)''.');
    end if;
    select string_agg(quote_literal(x.sku), ', ') into bad
    from (
        select s.sku
        from unnest(skus) as s (sku)
        where not exists (
            select from amzmp._listing_products(place.account_id, place.channel_id, skus) as p where p.sku = s.sku
        )
        order by s.sku
        limit 10
    ) as x;
    if bad is not null then
        perform amzmp._fail('AZ202', format('no product with SKU %s', bad),
            'The attached sources have no such row, or it does not pass their filter.',
            'Look into amzmp.product; if the row is new, wait until it was read: call amzmp.wait();');
    end if;
end
$$;

create function amzmp._publish(channel text, skus text[], asins text[] default null)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
    cause constant jsonb := jsonb_build_object('role', amzmp._caller(), 'at', now(), 'verb', 'publish');
begin
    perform amzmp._check_publication(place, channel, skus, asins);
    perform amzmp._want(place, skus, asins, cause);
    perform amzmp._recompute(place.account_id, skus, cause);
    perform amzmp._look(place.account_id, place.channel_id, array(
            select l.sku
            from amzmp.listing as l
            where (l.account_id, l.channel_id, l.state) = (place.account_id, place.channel_id, 'queued')
                and l.sku = any (_publish.skus)
        ), now(), cause);
    return cardinality(skus);
end
$$;

select amzmp._expose('amzmp._publish(text, text[], text[])', 'amzmp_operator',
    'Offer these SKUs in a channel: on the ASINs given in the same order, else on those that the shop knows, else by barcode where exactly one catalogue item has it. What becomes of each shows in amzmp.offer. Returns how many are on their way.');

create function amzmp._publish(channel text, sku text, asin text)
    returns integer
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    select amzmp._publish(channel, array[sku], array[asin])
$$;

select amzmp._expose('amzmp._publish(text, text, text)', 'amzmp_operator',
    'Offer a SKU on an ASIN, e.g. one of those in amzmp.match_candidate.');

/*
 * Note that these SKUs are wanted. A listing that Amazon has already keeps its state; a new or failed one begins anew.
 */
create function amzmp._want(place amzmp.channel, skus text[], asins text[], cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    other record;
begin
    insert into amzmp.inventory (account_id, sku)
    select place.account_id, s.sku
    from (select distinct u.sku from unnest(skus) as u (sku)) as s
    order by s.sku
    on conflict do nothing;
    perform amzmp._lock_skus(place.account_id, skus);

    select l.sku, l.asin, upper(btrim(w.asin)) as wanted into other
    from unnest(skus, asins) as w (sku, asin)
    join amzmp.listing as l
        on (l.account_id, l.channel_id, l.sku) = (place.account_id, place.channel_id, w.sku)
    where l.listed
        and l.asin <> upper(btrim(w.asin))
    limit 1;
    if found then
        perform amzmp._fail('AZ203', format('SKU %L is offered on ASIN %s already', other.sku, other.asin), null,
            'Amazon does not move an offer to another item. Delete it first, or use another SKU.');
    end if;

    insert into amzmp.listing as l (account_id, channel_id, sku, wanted, state, state_reason, asin, ean, cause)
    select distinct on (w.sku) place.account_id, place.channel_id, w.sku, true, 'queued', 'asking what Amazon has',
        coalesce(upper(btrim(w.asin)), amzmp._asin(p.asin)), amzmp._gtin(p.ean), _want.cause
    from unnest(skus, asins) as w (sku, asin)
    join amzmp._listing_products(place.account_id, place.channel_id, skus) as p on p.sku = w.sku
    on conflict (account_id, channel_id, sku) do update
    set wanted = true,
        stopped_by = null,
        stopped_at = null,
        state = case when l.listed or l.state = 'sent' then l.state else 'queued' end,
        state_reason = case when l.listed or l.state = 'sent' then l.state_reason else excluded.state_reason end,
        state_at = case when l.listed or l.state = 'sent' then l.state_at else now() end,
        asin = case when l.listed or l.state = 'sent' then l.asin else coalesce(excluded.asin, l.asin) end,
        ean = excluded.ean,
        step = case when l.listed or l.state = 'sent' then l.step end;
    perform amzmp._forget_content(place.account_id, skus, true);

    delete from amzmp.penalty as p
    where (p.account_id, p.channel_id, p.kind) = (place.account_id, place.channel_id, 'publish')
        and p.subject = any (skus);
    delete from amzmp.match_candidate as k
    using unnest(skus, asins) as w (sku, asin)
    where (k.account_id, k.channel_id, k.sku) = (place.account_id, place.channel_id, w.sku)
        and w.asin is not null;
    perform amzmp._grew(grown, cardinality(skus)) from unnest(array['amzmp.listing', 'amzmp.inventory']::regclass[]) as grown;
end
$$;

-- What the shop has for an ASIN, where it is one.
create function amzmp._asin(given text)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case when upper(btrim(given)) ~ '^[A-Z0-9]{10}$' then upper(btrim(given)) end
$$;

/*
 * Putting the offer.
 */

/*
 * Queue the put of queued listings that have all it takes; send those without ASIN to the catalogue, and reject what
 * lacks something, saying what.
 */
create function amzmp._plan_puts(account_id bigint, channel_id bigint, skus text[], cause jsonb default null)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    to_match text[];
    waiting text[];
begin
    if amzmp._setting_text(account_id, channel_id, 'send_offers') <> 'true' then
        perform amzmp._enter(account_id, array(
                select (_plan_puts.channel_id, l.sku, 'queued', 'waits for the channel''s main switch send_offers', null)::amzmp.new_state
                from amzmp.listing as l
                where (l.account_id, l.channel_id, l.state) = (_plan_puts.account_id, _plan_puts.channel_id, 'queued')
                    and l.sku = any (skus)
            ));
        return;
    end if;
    perform amzmp._enter(account_id, array(
            select (l.channel_id, l.sku, 'rejected', w.reason, w.code)::amzmp.new_state
            from amzmp._listing_lacks(_plan_puts.account_id, _plan_puts.channel_id, skus) as w
            join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (_plan_puts.account_id, _plan_puts.channel_id, w.sku)
        ));

    update amzmp.listing as l
    set step = 'product'
    where (l.account_id, l.channel_id, l.state) = (_plan_puts.account_id, _plan_puts.channel_id, 'queued')
        and l.sku = any (skus)
        and l.asin is null
        and l.step is null
        and (l.ean is null or l.is_parent)
        and amzmp._creatable(l);
    to_match := array(
        select l.sku
        from amzmp.listing as l
        where (l.account_id, l.channel_id, l.state) = (_plan_puts.account_id, _plan_puts.channel_id, 'queued')
            and l.sku = any (skus)
            and l.asin is null
            and l.step is null
    );
    if to_match <> '{}' then
        perform amzmp._plan_matches(account_id, channel_id, to_match);
    end if;
    waiting := amzmp._hold_creations(account_id, channel_id, skus);

    insert into amzmp.request (account_id, operation, priority, render, handler, subject_kind, subject, channel_id, cause)
    select l.account_id, 'putListingsItem', 50, '_render_put', '_handle_put', 'listing', l.sku, l.channel_id,
        coalesce(_plan_puts.cause, l.cause)
    from amzmp.listing as l
    where (l.account_id, l.channel_id, l.state) = (_plan_puts.account_id, _plan_puts.channel_id, 'queued')
        and l.sku = any (skus)
        and (l.asin is not null or l.step = 'product')
        and l.sku <> all (waiting)
        and not exists (
            select
            from amzmp.request as r
            where (r.account_id, r.subject_kind, r.subject, r.channel_id, r.operation)
                    = (l.account_id, 'listing', l.sku, l.channel_id, 'putListingsItem')
        )
        -- what a feed still carries could overtake it; when the feed ends, the SKU is read and planned again
        and not exists (
            select from amzmp._in_feeds(l.account_id, array[l.sku]) as f where f.channel_id = l.channel_id
        );
    perform amzmp._wake();
    perform amzmp._plan_many(account_id, 'putListingsItem');
end
$$;

-- What queued listings lack to be put, the first thing of each.
create function amzmp._listing_lacks(account_id bigint, channel_id bigint, skus text[])
    returns table (sku text, code text, reason text)
    rows 20
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select l.sku, w.code, w.reason
    from amzmp.listing as l
    left join amzmp.inventory as i
        on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
    left join amzmp._listing_products(_listing_lacks.account_id, _listing_lacks.channel_id, _listing_lacks.skus) as p
        on p.sku = l.sku
    cross join lateral (
        select case
                when p.sku is null then 'NO_PRODUCT'
                when l.asin is null and l.ean is null and p.ean is not null then 'BAD_BARCODE'
                when l.asin is null and l.ean is null and not amzmp._creatable(l) then 'NO_BARCODE'
                when l.is_parent then null
                when l.desired_price is null then 'NO_PRICE'
                when i.desired_quantity is null and not amzmp._ships_from_amazon(l.account_id, l.sku) then 'NO_STOCK'
            end as code,
            case
                when p.sku is null then 'the shop has no such product any more'
                when l.asin is null and l.ean is null and p.ean is not null
                    then (select g.message from amzmp._gtin_problem(p.ean) as g)
                when l.asin is null and l.ean is null and not amzmp._creatable(l) then 'the product has neither an ASIN nor a barcode'
                when l.desired_price is null then coalesce('the shop''s price ' || p.price || ' cannot be sent', 'the shop gives no price')
                when i.desired_quantity is null then 'the shop gives no quantity'
            end as reason
    ) as w
    where (l.account_id, l.channel_id, l.state) = (_listing_lacks.account_id, _listing_lacks.channel_id, 'queued')
        and l.sku = any (_listing_lacks.skus)
        and w.code is not null;
end
$$;

/*
 * The whole attributes of an offer on an existing catalogue item. The quantity is left out where another request has
 * it in flight: sales terms that a put does not name stay as they are.
 */
create function amzmp._offer_attributes(listing amzmp.listing, place amzmp.marketplace, quantity integer, stock_terms jsonb,
    fulfillment text default null)
    returns jsonb
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_strip_nulls(jsonb_build_object(
            'merchant_suggested_asin', jsonb_build_array(jsonb_build_object(
                    'marketplace_id', place.marketplace_id, 'value', listing.asin)),
            'fulfillment_availability', case
                when fulfillment = 'amazon'
                then jsonb_build_array(jsonb_build_object('fulfillment_channel_code', amzmp._amazon_channel(place)))
                when quantity is not null then jsonb_build_array(amzmp._stock_attribute('DEFAULT', quantity, stock_terms, null))
            end,
            'purchasable_offer', to_jsonb(array_remove(array[
                        amzmp._offer_attribute(place.marketplace_id, place.currency, round(listing.desired_price, place.currency_decimals))
                            || coalesce(amzmp._offer_limits(listing.desired_terms, '{}'), '{}'),
                        case
                            when listing.desired_terms ? 'business'
                            then amzmp._business_attribute(place.marketplace_id, place.currency, listing.desired_terms -> 'business')
                        end
                    ], null))
        )) || (
            select jsonb_object_agg(d.attribute, d.value)
            from amzmp._detail_attributes(place, jsonb_build_object('condition', coalesce(
                        amzmp._setting_text(listing.account_id, listing.channel_id, 'condition_default'), 'new_new'))
                    || coalesce(listing.desired_details, '{}')) as d
        )
$$;

-- What a put says: the product that is created, or the offer on an item of the catalogue.
create function amzmp._put_body(listing amzmp.listing, place amzmp.marketplace, creation amzmp.listing_content[], quantity integer,
    stock_terms jsonb, fulfillment text)
    returns jsonb
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case
            when creation is not null then amzmp._creation_body(creation)
            else jsonb_build_object('productType', 'PRODUCT', 'requirements', 'LISTING_OFFER_ONLY',
                'attributes', amzmp._offer_attributes(listing, place, quantity, stock_terms, fulfillment))
        end;
end
$$;

/*
 * Which claimed puts can still be sent, and which of them carry the quantity of their SKU. In a feed none does: nobody
 * could lower it before Amazon has the offer. It is the next step, as for a product that is created.
 */
create function amzmp._put_facets(claimed amzmp.request[])
    returns table (request_id bigint, channel_id bigint, sku text, quantity integer, stock_terms jsonb, contents amzmp.listing_content[],
        fulfillment text, step text)
    rows 20
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._lock_skus(claimed[1].account_id, array(select r.subject from unnest(claimed) as r));
    return query
    select r.request_id, l.channel_id, l.sku,
        case
            when l.step is null
                and r.state <> 'feed'
                and not u.by_amazon
                and not amzmp._in_flight(i.account_id, i.in_flight_request, array[r.request_id])
                and not exists (select from amzmp._in_feeds(l.account_id, array[l.sku]) as f where f.quantity is not null)
                and row_number() over (partition by l.sku order by l.channel_id) = 1
            then i.desired_quantity
        end,
        i.desired_terms, case when l.step = 'product' then amzmp._creation_contents(l) end,
        case when l.step is null and u.by_amazon then 'amazon' end,
        case when l.step is null and r.state = 'feed' and not u.by_amazon then 'stock' else l.step end
    from unnest(claimed) as r
    join amzmp.channel as c on (c.account_id, c.channel_id) = (r.account_id, r.channel_id)
    join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (r.account_id, r.channel_id, r.subject)
    join amzmp.inventory as i on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
    cross join lateral amzmp._ships_from_amazon(l.account_id, l.sku) as u (by_amazon)
    where c.active
        and not c.dropped
        and l.wanted
        and l.state in ('queued', 'sent')
        and (l.step = 'product' and amzmp._creatable(l)
            or l.asin is not null and l.desired_price is not null and (u.by_amazon or i.desired_quantity is not null))
        and not amzmp._in_flight(l.account_id, l.in_flight_request, array[r.request_id])
        and not exists (
            select from amzmp._in_feeds(l.account_id, array[l.sku]) as f where f.channel_id = l.channel_id
        );
end
$$;

create function amzmp._render_put(claimed amzmp.request[])
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
        select f.* from amzmp._put_facets(claimed) as f
    ), price_on_its_way as (
        update amzmp.listing as l
        set in_flight_price = case when f.contents is null then l.desired_price end,
            in_flight_terms = case when f.contents is null then coalesce(l.desired_terms, '{}') end,
            in_flight_details = case when f.contents is null then coalesce(l.desired_details, '{}') end,
            in_flight_request = f.request_id,
            step = f.step,
            state = 'sent',
            state_reason = 'sent to Amazon',
            state_at = now()
        from facet as f
        where (l.account_id, l.channel_id, l.sku) = (account.account_id, f.channel_id, f.sku)
        returning l.*
    ), stock_on_its_way as (
        update amzmp.inventory as i
        set in_flight_quantity = f.quantity,
            in_flight_terms = coalesce(i.desired_terms, '{}'),
            in_flight_request = f.request_id
        from facet as f
        where f.quantity is not null
            and (i.account_id, i.sku, i.fulfillment_channel) = (account.account_id, f.sku, 'DEFAULT')
    ), shipper_on_its_way as materialized (
        select count(amzmp._fulfillment_leaves(account.account_id, f.sku, f.request_id)) as leaving
        from facet as f
        where f.fulfillment is not null
            or f.quantity is not null
    ), content_on_its_way as materialized (
        select count(amzmp._content_leaves(f.contents, f.request_id)) as leaving
        from facet as f
        where f.contents is not null
    )
    select f.request_id, amzmp._listing_params(account.seller_id, f.sku, m.marketplace_id, m.language),
        amzmp._put_body(l::amzmp.listing, m, f.contents, f.quantity, f.stock_terms, f.fulfillment)
    from content_on_its_way as w
    cross join shipper_on_its_way as h
    cross join facet as f
    join price_on_its_way as l on (l.channel_id, l.sku) = (f.channel_id, f.sku)
    join amzmp.channel as c on (c.account_id, c.channel_id) = (account.account_id, f.channel_id)
    join amzmp.marketplace as m using (marketplace_id);
end
$$;

comment on function amzmp._render_put(amzmp.request[]) is 'Inner: bodies of claimed puts, from what is wanted now.';

create function amzmp._handle_put(answers amzmp.answer_row[])
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
    perform amzmp._land(account_id, answers);
    perform amzmp._keep_issues(account_id, array(
            select ((a.request).channel_id, (a.request).subject, a.body -> 'issues', a.answered_at)::amzmp.issue_report
            from unnest(answers) as a
            where a.outcome = 'success'
        ));
    perform amzmp._enter(account_id, array(
            select ((a.request).channel_id, (a.request).subject,
                case
                    when v.accepted then 'pending'
                    when v.unknown then 'queued'
                    else 'rejected'
                end,
                case
                    when v.accepted then 'Amazon''s verdict is awaited'
                    when v.unknown then 'the answer was lost, asking what Amazon has'
                    else v.message
                end,
                case when not v.accepted and not v.unknown then v.code end)::amzmp.new_state
            from unnest(answers) as a,
                lateral amzmp._submission_verdict(a) as v
        ));
    perform amzmp._accepted(account_id, answers);
    perform amzmp._look_after_put(account_id, answers);
    perform amzmp._after_write(account_id, skus, finished);
    perform amzmp._plan_sends(account_id, skus, null, finished);
end
$$;

comment on function amzmp._handle_put(amzmp.answer_row[]) is 'Inner: apply the answers to puts and begin to ask for the verdict.';

-- Amazon has taken these SKUs; its verdict is due.
create function amzmp._accepted(account_id bigint, answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.listing as l
    set published_at = coalesce(l.published_at, a.answered_at),
        verdict_due_at = a.answered_at + amzmp._account_interval(l.account_id, l.channel_id, 'sent_to_remote')
    from unnest(answers) as a,
        lateral amzmp._submission_verdict(a) as v
    where v.accepted
        and (l.account_id, l.channel_id, l.sku) = (_accepted.account_id, (a.request).channel_id, (a.request).subject);
end
$$;

-- Ask for the verdict on what was accepted, and what became of what was lost.
create function amzmp._look_after_put(account_id bigint, answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    part record;
begin
    for part in
        select (a.request).channel_id as channel_id, array_agg((a.request).subject order by (a.request).subject) as skus,
            (array_agg((a.request).cause))[1] as cause
        from unnest(answers) as a,
            lateral amzmp._submission_verdict(a) as v
        where v.accepted
            or v.unknown
        group by (a.request).channel_id
    loop
        perform amzmp._look(account_id, part.channel_id, part.skus, now() + amzmp._read_delay(account_id, '0'), part.cause);
    end loop;
end
$$;
