/*
 * validate.sql
 *	  Would Amazon take this product? Our own checks, then what the product type's definition says, then Amazon's restrictions,
 *	  then a preview of the submission; none of them has an effect.
 *
 * What is checked is the very body that publishing would put: an offer on an item of the catalogue, or the product itself
 * where the catalogue does not have it. It asks Amazon in the caller's session (amzmp.call), so not in a transaction that
 * has written, and computes everything from the product as it was last read: no SQL of the shop's is run. What would be
 * published need not be published yet.
 */

-- What publishing would put. creation: the parts that create the product, null where it cannot be, or need not be, created.
create type amzmp.candidate as (
    place amzmp.channel,
    market amzmp.marketplace,
    product amzmp.product,
    listing amzmp.listing,
    contents amzmp.listing_content[],
    creation amzmp.listing_content[],
    available integer,
    stock_terms jsonb
);

comment on type amzmp.candidate is 'Inner: what publishing a SKU would put at Amazon.';

-- What the shop says about the product itself, where the switches and the product's rule let it through.
create function amzmp._candidate_contents(place amzmp.channel, market amzmp.marketplace, product amzmp.product, sends text[])
    returns amzmp.listing_content[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    made amzmp.listing_content[] := '{}';
    content amzmp.listing_content;
    f record;
begin
    -- a loop over three, which names the columns that it sets
    for f in
        select *
        from amzmp._content_facets(product, market,
            amzmp._attribute_tags(place.account_id, place.channel_id, nullif(product.extra ->> 'product_type', '')))
        where switch = any (sends)
            and switch = any (amzmp._switches(place.account_id, place.channel_id))
            and attributes is not null
    loop
        content.account_id := place.account_id;
        content.channel_id := place.channel_id;
        content.sku := product.sku;
        content.facet := f.facet;
        content.product_type := nullif(product.extra ->> 'product_type', '');
        content.parent_sku := nullif(product.extra ->> 'parent_sku', '');
        content.desired := f.attributes;
        content.sends := true;
        made := made || content;
    end loop;
    return made;
end
$$;

-- An existing listing, or what publish would make of the product, with the values wanted now.
create function amzmp._candidate(place amzmp.channel, sku text, asin text)
    returns amzmp.candidate
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    k amzmp.candidate;
    l amzmp.listing;
    p constant amzmp.product := amzmp._offer_product(place.account_id, place.channel_id, sku);
    c amzmp.offer_calc;
    stock amzmp.stock_calc;
begin
    k.market := (select m from amzmp.marketplace as m where m.marketplace_id = place.marketplace_id);
    select x.* into l
    from amzmp.listing as x
    where (x.account_id, x.channel_id, x.sku) = (place.account_id, place.channel_id, _candidate.sku);
    c := amzmp._offer_calc(place.account_id, amzmp._setting_text(place.account_id, place.channel_id, 'merchant_shipping_group'), p, (
                select r.compiled
                from amzmp._rules_for(place.account_id, array[_candidate.sku]) as r
                where r.channel_id = place.channel_id
            ), k.market);
    l.account_id := place.account_id;
    l.channel_id := place.channel_id;
    l.sku := sku;
    l.asin := coalesce(amzmp._asin(asin), l.asin, amzmp._asin(p.asin));
    l.ean := coalesce(l.ean, amzmp._gtin(p.ean));
    l.is_parent := coalesce(p.extra ->> 'parent_sku' = sku, false);
    l.desired_price := c.price;
    l.desired_terms := c.terms;
    l.desired_details := c.details;
    l.state_reason := c.problem;
    select (amzmp._stock_calc(q.quantity, 0, q.lead_time, q.row_values, r.compiled,
                amzmp._setting_int(place.account_id, 0, 'buffer_stock'), amzmp._setting_int(place.account_id, place.channel_id, 'handling_days'))).*
    into stock
    from (select 1) as one
    left join amzmp._rules_for(place.account_id, array[_candidate.sku]) as r on r.channel_id = 0
    cross join lateral amzmp._shop_stock(place.account_id, _candidate.sku, r.compiled) as q;
    k.place := place;
    k.product := p;
    k.contents := amzmp._candidate_contents(place, k.market, p, c.sends);
    k.creation := case when l.asin is null then amzmp._creating(k.contents, l.is_parent) end;
    k.listing := l;
    k.available := stock.available;
    k.stock_terms := stock.terms;
    return k;
end
$$;

-- Our own checks; what they find, one row each.
create function amzmp._own_checks(candidate amzmp.candidate)
    returns table (check_name text, state text, detail text)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    p constant amzmp.product := candidate.product;
    l constant amzmp.listing := candidate.listing;
    sold constant boolean := not l.is_parent;
begin
    return query
    select v.check_name, case when v.problem is null then 'ok' else v.severity end, v.problem
    from (
        values ('product', 'error', case when p.sku is null then 'no attached source has this product' end),
            ('sku', 'error', case when length(l.sku) not between 1 and 40 then 'Amazon takes SKUs of 1 to 40 characters' end),
            ('active', 'warning', case when p.active is false then 'the shop says that it is not sold at present' end),
            ('identifier', 'error', case
                when l.asin is null and l.ean is null and (candidate.creation is null or p.ean is not null)
                then coalesce((select g.message from amzmp._gtin_problem(p.ean) as g), 'the product has neither an ASIN nor a barcode')
            end),
            ('price', 'error', case
                when sold and l.desired_price is null
                then coalesce(l.state_reason, 'the shop''s price ' || p.price || ' cannot be sent', 'the shop gives no price')
            end),
            ('stock', 'error', case when sold and candidate.available is null then 'the shop gives no quantity' end),
            ('condition', 'warning', case
                when p.condition <> '' and not l.desired_details ? 'condition'
                then format('%L is no condition that Amazon knows; a rule''s condition_map can say which it is', p.condition)
            end)
    ) as v (check_name, severity, problem)
    where p.sku is not null
        or v.check_name = 'product';
end
$$;

/*
 * Which item of the catalogue has the barcode? One: the product is offered on it. None: it is created, where that can be.
 */
create function amzmp._check_catalog(candidate amzmp.candidate, account text, out asin text, out state text, out detail text)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    ean constant text := (candidate.listing).ean;
    here constant text := (candidate.market).marketplace_id;
    found constant text[] := array(
        select i.asin
        from amzmp._catalog_items(amzmp._call(account, 'searchCatalogItems', amzmp._catalog_params(here, array[ean])), here) as i
        where not i.family
            and exists (select from unnest(i.eans) as e (code) where lpad(e.code, 14, '0') = lpad(ean, 14, '0'))
    );
begin
    state := 'ok';
    if cardinality(found) = 1 then
        asin := found[1];
        detail := format('barcode %s is item %s', ean, asin);
    elsif cardinality(found) > 1 then
        state := 'error';
        detail := format('%s items in Amazon''s catalogue have barcode %s: %s; name one', cardinality(found), ean, array_to_string(found, ', '));
    elsif candidate.creation is not null then
        detail := format('no item in Amazon''s catalogue has barcode %s, the product is created', ean);
    else
        state := 'error';
        detail := format('no item in Amazon''s catalogue has barcode %s, and the shop does not give what creates one', ean);
    end if;
end
$$;

/*
 * What definitions say: of the body that is put, and of content that follows it by PATCH, which need not be complete.
 */
create function amzmp._check_definitions(candidate amzmp.candidate, body jsonb)
    returns table (check_name text, state text, detail text)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    with checked as materialized (
        select b.whole, b.body, amzmp._definition_for((candidate.place).account_id, (candidate.place).channel_id, b.body) as definition
        from (
            select true as whole, body
            union all
            select false, amzmp._creation_body(array[c::amzmp.listing_content])
            from unnest(candidate.contents) as c
            where c.facet = 'product'
                and c.product_type is not null
                and candidate.creation is null
        ) as b (whole, body)
    )
    select 'definition', case
            when (c.definition).known_at is not null then 'ok'
            when (c.definition).state = 'absent' then 'error'
            else 'skipped'
        end, case
            when (c.definition).known_at is not null
            then format('definition of %s, version %s', (c.definition).product_type, (c.definition).version)
            when (c.definition).state in ('absent', 'failed')
            then format('the definition of %s could not be had: %s', c.body ->> 'productType', (c.definition).reason)
            else format('the definition of %s is not here yet; select amzmp.fetch_product_type(%L, %L, %L); asks for it',
                c.body ->> 'productType', (candidate.place).name, c.body ->> 'productType', c.body ->> 'requirements')
        end
    from checked as c
    union all
    select 'definition', 'error', format('%s %s (%s)', p.path, p.message, p.code)
    from checked as c
    cross join lateral amzmp._definition_problems((c.definition).account_id, (c.definition).definition_id, c.body -> 'attributes') as p
    where (c.definition).known_at is not null
        and (c.whole or p.code <> 'ATTR_REQUIRED')
    union all
    select 'definition', 'warning', format('%s cannot be changed once the product exists', r.path)
    from checked as c
    join amzmp.product_type_attribute as r
        on (r.account_id, r.definition_id, r.parent) = ((c.definition).account_id, (c.definition).definition_id, '')
    join amzmp.listing_content as d
        on (d.account_id, d.channel_id, d.sku, d.facet)
            = ((candidate.place).account_id, (candidate.place).channel_id, (candidate.listing).sku, 'product')
    where not c.whole
        and not r.editable
        and d.remote -> r.attribute <> c.body -> 'attributes' -> r.attribute;
end
$$;

-- What a seller may not offer in the offer's condition, in Amazon's words. Amazon knows restrictions of items only, so not before there is one.
create function amzmp._check_restrictions(candidate amzmp.candidate, account text, seller_id text)
    returns table (check_name text, state text, detail text)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    answer jsonb;
begin
    if (candidate.listing).asin is null then
        return query select 'restrictions', 'skipped', 'Amazon names restrictions of items in its catalogue, and this product is none yet';
        return;
    end if;
    answer := amzmp._call(account, 'getListingsRestrictions', jsonb_build_object('asin', (candidate.listing).asin, 'sellerId', seller_id,
            'marketplaceIds', jsonb_build_array((candidate.market).marketplace_id), 'conditionType', coalesce(
                (candidate.listing).desired_details ->> 'condition',
                amzmp._setting_text((candidate.place).account_id, (candidate.place).channel_id, 'condition_default'), 'new_new'),
            'reasonLocale', (candidate.market).language));
    return query
    select 'restrictions', 'error', format('%s (%s)', r.reason ->> 'message', r.reason ->> 'reasonCode')
    from jsonb_path_query(answer, '$.restrictions[*].reasons[*]') as r (reason);
    if not found then
        return query select 'restrictions', 'ok', null::text;
    end if;
end
$$;

-- What Amazon would answer to the submission.
create function amzmp._check_preview(candidate amzmp.candidate, account text, seller_id text, body jsonb)
    returns table (check_name text, state text, detail text)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    market constant amzmp.marketplace := candidate.market;
    answer constant jsonb := amzmp._call(account, 'previewPutListingsItem',
        amzmp._listing_params(seller_id, (candidate.listing).sku, market.marketplace_id, market.language), body);
begin
    return query
    select 'preview', case answer ->> 'status' when 'VALID' then 'ok' else 'error' end, 'Amazon says ' || (answer ->> 'status');
    return query
    select 'preview', lower(coalesce(i.issue ->> 'severity', 'error')), format('%s (%s)', i.issue ->> 'message', i.issue ->> 'code')
    from amzmp._issues_here(answer -> 'issues', market.marketplace_id) as i (issue);
end
$$;

create function amzmp._validate(channel text, sku text, asin text default null)
    returns table (check_name text, state text, detail text)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
    account constant amzmp.account := (select a from amzmp.account as a where a.account_id = place.account_id);
    k amzmp.candidate := amzmp._candidate(place, sku, asin);
    in_catalog record;
    body jsonb;
begin
    return query select * from amzmp._own_checks(k);
    if exists (select from amzmp._own_checks(k) as c where c.state = 'error') then
        return query select 'amazon', 'skipped', 'Amazon is asked when our own checks find nothing';
        return;
    end if;
    if (k.listing).asin is null and (k.listing).ean is not null and not (k.listing).is_parent then
        select * into in_catalog from amzmp._check_catalog(k, account.name);
        return query select 'catalog', in_catalog.state, in_catalog.detail;
        if in_catalog.state <> 'ok' then
            return;
        elsif in_catalog.asin is not null then
            k.listing.asin := in_catalog.asin;
            k.creation := null;
        end if;
    end if;
    body := amzmp._put_body(k.listing, k.market, k.creation, k.available, k.stock_terms,
        case when amzmp._ships_from_amazon(place.account_id, sku) then 'amazon' end);
    return query select * from amzmp._check_definitions(k, body);
    return query select * from amzmp._check_restrictions(k, account.name, account.seller_id);
    return query select * from amzmp._check_preview(k, account.name, account.seller_id, body);
end
$$;

select amzmp._expose('amzmp._validate(text, text, text)', 'amzmp_operator',
    'Check a product before it is published: our own checks, then the definition of its product type, then Amazon''s restrictions for sellers, then a preview of what would be submitted, be it an offer or a new product. Has no effect. asin: the catalogue item, where neither the shop nor an earlier publication says; else its barcode is looked up. Asks Amazon now, so not in a transaction that has written.');
