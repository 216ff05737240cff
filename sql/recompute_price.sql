/*
 * recompute_price.sql
 *	  What the shop and the rules say about the price of each wanted offer, and what of it is new.
 */

-- What the main switches of a channel let through; what is really sent also has to be named for the product (send).
create function amzmp._switches(account_id bigint, channel_id bigint)
    returns text[]
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array(
        select v.facet
        from (values ('send_offers', 'price'), ('send_offers', 'stock'), ('send_offers', 'details'), ('send_content', 'content'),
                ('send_images', 'images')) as v (setting, facet)
        where amzmp._setting_text($1, $2, v.setting) = 'true'
    )
$$;

/*
 * Nearly all offers have one source and no rule. For these everything is in one statement, and the functions for all
 * other cases are not called: ten times as many prices are computed in the same time.
 */
create function amzmp._shop_prices(account_id bigint, skus text[])
    returns amzmp.offer_price[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return array(
        with place as materialized (
            select c.*, amzmp._setting_text(c.account_id, c.channel_id, 'merchant_shipping_group') as shipping,
                amzmp._switches(c.account_id, c.channel_id) as switches, m.currency_decimals as decimals, m as place,
                amzmp._only_source(c.account_id, c.channel_id) as only_source
            from amzmp.channel as c
            join amzmp.marketplace as m using (marketplace_id)
            where c.account_id = _shop_prices.account_id
                and not c.dropped
        )
        select (c.channel_id, l.sku, l.listed, num_nonnulls(o.sku, (p.row).sku) > 0, l.desired_price, coalesce(o.price, (p.row).price),
            case
                when r.compiled is null and c.shipping is null and num_nonnulls(o.condition, (p.row).condition) = 0
                then (v.price, 1, v.price, null, null, null, null, null,
                    case when amzmp._is_price(v.price) then v.price end, '{}', '{}', '{price,stock,details}', null,
                    null)::amzmp.offer_calc
                else amzmp._offer_calc(c.account_id, c.shipping, case when c.only_source is null then p.row else o end, r.compiled, c.place)
            end, c.switches, l.desired_price_at, l.desired_terms, l.desired_details, l.sends_price, l.sends_details,
            l.recompute_at, l.state = 'rejected')::amzmp.offer_price
        from place as c
        join amzmp.listing as l
            on (l.account_id, l.channel_id) = (c.account_id, c.channel_id) and l.sku = any (_shop_prices.skus)
        left join amzmp._rules_for(_shop_prices.account_id, _shop_prices.skus) as r
            on (r.channel_id, r.sku) = (l.channel_id, l.sku)
        left join amzmp.product as o
            on (o.account_id, o.source_id, o.sku) = (l.account_id, c.only_source, l.sku) and not o.gone
        cross join lateral (
            select case when c.only_source is null then amzmp._offer_product(c.account_id, c.channel_id, l.sku) end as row
            offset 0 -- so that it is called once
        ) as p
        cross join lateral (
            select round(coalesce(o.price, (p.row).price), c.decimals) as price
        ) as v
        where l.wanted
    );
end
$$;

-- The source that speaks for a channel; null where there are several, and channel_id null: for the stock of an account.
create function amzmp._only_source(account_id bigint, channel_id bigint)
    returns bigint
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select min(s.source_id)
    from amzmp.source as s
    where s.account_id = _only_source.account_id
        and (_only_source.channel_id is null or s.channel_id in (0, _only_source.channel_id))
    having count(*) = 1;
end;

/*
 * The row that speaks for an offer: that of the channel's own source before the account's. What it leaves open is taken
 * from the others.
 */
create function amzmp._offer_product(account_id bigint, channel_id bigint, sku text)
    returns amzmp.product
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    chosen amzmp.product;
    other amzmp.product;
begin
    -- a loop because there is one row nearly always
    for other in
        select r.*
        from amzmp.source as s
        join amzmp.product as r
            on (r.account_id, r.source_id, r.sku) = (s.account_id, s.source_id, _offer_product.sku)
        where s.account_id = _offer_product.account_id
            and s.channel_id in (0, _offer_product.channel_id)
            and not r.gone
        order by r.price is null, s.channel_id = 0, s.source_id
    loop
        chosen := case when chosen.sku is null then other else amzmp._filled(chosen, other) end;
    end loop;
    return chosen;
end
$$;

-- A product's row with what is missing in it taken from another.
create function amzmp._filled(product amzmp.product, other amzmp.product)
    returns amzmp.product
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    product.price := coalesce(product.price, other.price);
    product.quantity := coalesce(product.quantity, other.quantity);
    product.title := coalesce(product.title, other.title);
    product.ean := coalesce(product.ean, other.ean);
    product.asin := coalesce(product.asin, other.asin);
    product.condition := coalesce(product.condition, other.condition);
    product.condition_note := coalesce(product.condition_note, other.condition_note);
    product.lead_time := coalesce(product.lead_time, other.lead_time);
    product.image := coalesce(product.image, other.image);
    product.category := coalesce(product.category, other.category);
    product.active := coalesce(product.active, other.active);
    if other.extra is not null then
        product.extra := jsonb_strip_nulls(other.extra) || jsonb_strip_nulls(coalesce(product.extra, '{}'));
    end if;
    return product;
end
$$;

-- An offer that is there keeps its price while the shop gives none that can be sent; one that is not yet must not begin with it.
create function amzmp._price_changes(prices amzmp.offer_price[])
    returns amzmp.desired_change[]
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select (p.channel_id, p.sku, 'price', p.desired, (p.calc).price, not p.listed, p.desired_at)::amzmp.desired_change
        from unnest(prices) as p
        where (p.calc).price is distinct from p.desired
            and ((p.calc).price is not null or p.known and not p.listed)
        order by p.sku collate "C" -- neighbours are written together
    );
end
$$;

/*
 * What travels with prices, and what else an offer says. held: changes that the brake keeps back; the terms of these
 * offers stay with the price that they have.
 */
create function amzmp._set_price_terms(account_id bigint, prices amzmp.offer_price[], held amzmp.desired_change[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.listing as l
    set desired_terms = n.terms,
        desired_details = n.details,
        sends_price = n.sends_price,
        sends_details = n.sends_details
    from unnest(prices) as p
    cross join lateral (
        select case
                when (p.calc).price is null
                    or exists (select from unnest(held) as h where (h.channel_id, h.sku, h.facet) = (p.channel_id, p.sku, 'price'))
                then p.terms
                else amzmp._first_or_known((p.calc).terms, p.terms)
            end as terms,
            amzmp._first_or_known((p.calc).details, p.details) as details,
            'price' = any ((p.calc).sends) and 'price' = any (p.switches) as sends_price,
            'details' = any ((p.calc).sends) and 'details' = any (p.switches) as sends_details
    ) as n
    where p.known
        and (l.account_id, l.channel_id, l.sku) = (_set_price_terms.account_id, p.channel_id, p.sku)
        and (p.terms, p.details, p.sends_price, p.sends_details)
            is distinct from (n.terms, n.details, n.sends_price, n.sends_details);
end
$$;

-- What nobody ever named is no business of ours: nothing stays nothing until there is something. (Without a search_path of
-- its own, so that it is not called but becomes a part of the statement.)
create function amzmp._first_or_known(given jsonb, before jsonb)
    returns jsonb
    language sql
    immutable
    parallel safe
begin atomic
    select case when given = '{}' and before is null then null else given end;
end;
