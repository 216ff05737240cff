/*
 * publish_put.sql
 *	  Putting an offer: which queued listings have all it takes, what a put says, and what Amazon's answer means.
 *
 * What is put goes to a listing's price and, where nothing else has it in flight, to its stock; a product that is created
 * gets both in later steps. An accepted put waits for Amazon's verdict, which only reading tells (observe.sql).
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
