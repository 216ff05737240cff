/*
 * validate.sql
 *	  Would Amazon take this offer? Our own checks, then Amazon's restrictions, then a preview of the submission; none of
 *	  them has an effect.
 *
 * It asks Amazon in the caller's session (amzmp.call), so not in a transaction that has written, and computes the offer
 * from the product as it was last read: no SQL of the shop's is run. What would be published need not be published yet.
 */

-- The offer as it would be put: an existing listing, or what publish would make, with the values wanted now.
create function amzmp._offer_to_validate(place amzmp.channel, sku text, asin text)
    returns amzmp.listing
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    l amzmp.listing;
    p constant amzmp.product := amzmp._offer_product(place.account_id, place.channel_id, sku);
    c amzmp.offer_calc;
begin
    select x.* into l
    from amzmp.listing as x
    where (x.account_id, x.channel_id, x.sku) = (place.account_id, place.channel_id, _offer_to_validate.sku);
    select (amzmp._offer_calc(place.account_id, amzmp._setting_text(place.account_id, place.channel_id, 'merchant_shipping_group'), p, (
                    select r.compiled
                    from amzmp._rules_for(place.account_id, array[_offer_to_validate.sku]) as r
                    where r.channel_id = place.channel_id
                ), m)).*
    into c
    from amzmp.marketplace as m
    where m.marketplace_id = place.marketplace_id;
    l.account_id := place.account_id;
    l.channel_id := place.channel_id;
    l.sku := sku;
    l.asin := coalesce(amzmp._asin(asin), l.asin, amzmp._asin(p.asin));
    l.ean := coalesce(l.ean, amzmp._gtin(p.ean));
    l.desired_price := c.price;
    l.desired_terms := c.terms;
    l.desired_details := c.details;
    l.state_reason := c.problem;
    return l;
end
$$;

-- Our own checks; what they find, one row each.
create function amzmp._own_checks(place amzmp.channel, offer amzmp.listing, available integer)
    returns table (check_name text, state text, detail text)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    p constant amzmp.product := amzmp._offer_product(place.account_id, place.channel_id, offer.sku);
begin
    return query
    select v.check_name, case when v.problem is null then 'ok' else v.severity end, v.problem
    from (
        values ('product', 'error', case when p.sku is null then 'no attached source has this product' end),
            ('sku', 'error', case when length(offer.sku) not between 1 and 40 then 'Amazon takes SKUs of 1 to 40 characters' end),
            ('active', 'warning', case when p.active is false then 'the shop says that it is not sold at present' end),
            ('identifier', 'error', case
                when offer.asin is null and offer.ean is null
                then coalesce((select g.message from amzmp._gtin_problem(p.ean) as g), 'the product has neither an ASIN nor a barcode')
            end),
            ('price', 'error', case
                when offer.desired_price is null
                then coalesce(offer.state_reason, 'the shop''s price ' || p.price || ' cannot be sent', 'the shop gives no price')
            end),
            ('stock', 'error', case when available is null then 'the shop gives no quantity' end),
            ('condition', 'warning', case
                when p.condition <> '' and not offer.desired_details ? 'condition'
                then format('%L is no condition that Amazon knows; a rule''s condition_map can say which it is', p.condition)
            end)
    ) as v (check_name, severity, problem)
    where p.sku is not null
        or v.check_name = 'product';
end
$$;

-- What a seller may not offer, in Amazon's words.
create function amzmp._check_restrictions(place amzmp.channel, account text, offer amzmp.listing)
    returns table (check_name text, state text, detail text)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    answer constant jsonb := amzmp._call(account, 'getListingsRestrictions', jsonb_build_object(
            'asin', offer.asin, 'sellerId', (select a.seller_id from amzmp.account as a where a.account_id = place.account_id),
            'marketplaceIds', jsonb_build_array(place.marketplace_id)));
begin
    return query
    select 'restrictions', 'error', format('%s (%s)', r.reason ->> 'message', r.reason ->> 'reasonCode')
    from jsonb_path_query(answer, '$.restrictions[*].reasons[*]') as r (reason);
    if not found then
        return query select 'restrictions', 'ok', null::text;
    end if;
end
$$;

-- What Amazon would answer to the submission.
create function amzmp._check_preview(place amzmp.channel, account text, offer amzmp.listing, available integer, stock_terms jsonb)
    returns table (check_name text, state text, detail text)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    market amzmp.marketplace;
    answer jsonb;
begin
    select m.* into strict market from amzmp.marketplace as m where m.marketplace_id = place.marketplace_id;
    answer := amzmp._call(account, 'previewPutListingsItem',
        amzmp._listing_params((select a.seller_id from amzmp.account as a where a.account_id = place.account_id),
            offer.sku, market.marketplace_id, market.language),
        jsonb_build_object('productType', 'PRODUCT', 'requirements', 'LISTING_OFFER_ONLY',
            'attributes', amzmp._offer_attributes(offer, market, available, stock_terms)));
    return query
    select 'preview', case answer ->> 'status' when 'VALID' then 'ok' else 'error' end, 'Amazon says ' || (answer ->> 'status');
    return query
    select 'preview', lower(coalesce(i.issue ->> 'severity', 'error')), format('%s (%s)', i.issue ->> 'message', i.issue ->> 'code')
    from amzmp._issues_here(answer -> 'issues', place.marketplace_id) as i (issue);
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
    account constant text := (select a.name from amzmp.account as a where a.account_id = place.account_id);
    offer constant amzmp.listing := amzmp._offer_to_validate(place, sku, asin);
    stock amzmp.stock_calc;
    failed boolean;
begin
    select (amzmp._stock_calc(q.quantity, 0, q.lead_time, q.row_values, r.compiled,
                amzmp._setting_int(place.account_id, 0, 'buffer_stock'), amzmp._setting_int(place.account_id, place.channel_id, 'handling_days'))).*
    into stock
    from (select 1) as one
    left join amzmp._rules_for(place.account_id, array[_validate.sku]) as r on r.channel_id = 0
    cross join lateral amzmp._shop_stock(place.account_id, _validate.sku, r.compiled) as q;

    return query select * from amzmp._own_checks(place, offer, stock.available);
    select bool_or(c.state = 'error') into failed from amzmp._own_checks(place, offer, stock.available) as c;
    if failed then
        return query select 'amazon', 'skipped', 'Amazon is asked when our own checks find nothing';
    elsif offer.asin is null then
        return query select 'amazon', 'skipped', 'the ASIN is found by barcode when it is published; name one to ask Amazon now';
    else
        return query select * from amzmp._check_restrictions(place, account, offer);
        return query select * from amzmp._check_preview(place, account, offer, stock.available, stock.terms);
    end if;
end
$$;

select amzmp._expose('amzmp._validate(text, text, text)', 'amzmp_operator',
    'Check an offer before it is published: our own checks, then Amazon''s restrictions for sellers, then a preview of the submission. Has no effect. asin: the catalogue item, where neither the shop nor an earlier publication says. Asks Amazon now, so not in a transaction that has written.');
