/*
 * rule_apply.sql
 *	  From a product's row and the rules that hold for it to prices, terms, details and quantities.
 *
 * amzmp._offer_calc and amzmp._stock_calc are the only places where this is computed. They return every step, so that
 * explain_offer shows what was really done; recompute.sql takes the results.
 */

/*
 * What rules say about each of these SKUs: every parameter from the most specific rule that names it, and which that
 * was. Stock belongs to channel 0.
 */
create function amzmp._rules_for(account_id bigint, skus text[])
    returns table (channel_id bigint, sku text, compiled jsonb, origin jsonb)
    rows 1000
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if not exists (select from amzmp.rule as r where r.account_id = _rules_for.account_id) then
        return;
    end if;
    return query
    with place as materialized (
        select 0::bigint as channel_id
        union all
        select c.channel_id from amzmp.channel as c where c.account_id = _rules_for.account_id and not c.dropped
    ), member as materialized (
        select g.product_group, g.sku
        from amzmp.group_member as g
        where g.account_id = _rules_for.account_id
            and g.sku = any (_rules_for.skus)
        union
        select p.category, p.sku
        from amzmp.product as p
        join amzmp.source as s using (account_id, source_id)
        where p.account_id = _rules_for.account_id
            and p.sku = any (_rules_for.skus)
            and p.category is not null
            and not p.gone
    ), holds as (
        select k.sku, r.channel_id, r.rule_id, r.compiled, 0 as narrow, r.rank
        from amzmp.rule as r
        cross join unnest(_rules_for.skus) as k (sku)
        where r.account_id = _rules_for.account_id
            and num_nonnulls(r.sku, r.product_group) = 0
        union all
        select m.sku, r.channel_id, r.rule_id, r.compiled, 1, r.rank
        from amzmp.rule as r
        join member as m using (product_group)
        where r.account_id = _rules_for.account_id
        union all
        select r.sku, r.channel_id, r.rule_id, r.compiled, 2, r.rank
        from amzmp.rule as r
        where r.account_id = _rules_for.account_id
            and r.sku = any (_rules_for.skus)
    ), chosen as (
        select distinct on (p.channel_id, h.sku, e.key) p.channel_id, h.sku, e.key, e.value, h.rule_id
        from place as p
        join holds as h on h.channel_id in (0, p.channel_id)
        cross join lateral jsonb_each(h.compiled) as e
        order by p.channel_id, h.sku, e.key, h.narrow desc, h.channel_id <> 0 desc, h.rank desc, h.rule_id
    )
    select c.channel_id, c.sku, jsonb_object_agg(c.key, c.value), jsonb_object_agg(c.key, c.rule_id)
    from chosen as c
    group by c.channel_id, c.sku;
end
$$;

-- The values of a product's row that arithmetic may use.
create function amzmp._row_values(product amzmp.product)
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('price', product.price, 'quantity', product.quantity, 'lead_time', product.lead_time)
        || coalesce(product.extra, '{}')
$$;

-- A time that a rule names, or the value of the row that it names; null where that is none.
create function amzmp._rule_time(given jsonb, row_values jsonb)
    returns timestamptz
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case jsonb_typeof(given) when 'object' then row_values ->> (given ->> 'n') else given #>> '{}' end::timestamptz;
exception
    when data_exception then
        return null;
end
$$;

-- A text that a rule gives as it is, or as the name of a value; then by the rule's map, where there is one.
create function amzmp._mapped(given text, names jsonb)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(names ->> given, given)
$$;

/*
 * Prices.
 */
create type amzmp.offer_calc as (
    source numeric,
    rate numeric,
    converted numeric,
    changed numeric,
    with_fees numeric,
    rounded numeric,
    minimum numeric,
    maximum numeric,
    price numeric,
    terms jsonb,
    details jsonb,
    sends text[],
    again_at timestamptz,
    problem text
);

comment on type amzmp.offer_calc is 'Inner: the steps from a product''s row to the price, and what travels with it. problem: why there is no price.';

-- A multiple of step, plus ending.
create function amzmp._rounded(price numeric, step numeric, ending numeric, mode text)
    returns numeric
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case
            when num_nonnulls(step, ending) = 0 then price
            else case coalesce(mode, 'nearest')
                    when 'up' then ceil(q.times)
                    when 'down' then floor(q.times)
                    else round(q.times)
                end * coalesce(step, 1) + coalesce(ending, 0)
        end
    from (select (price - coalesce(ending, 0)) / coalesce(step, 1) as times) as q
$$;

-- An amount of a rule in the marketplace's currency. A bare number is in that currency; all else is the shop's.
create function amzmp._converted(given jsonb, row_values jsonb, rate numeric)
    returns numeric
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select amzmp._amount(given, row_values) * case jsonb_typeof(given) when 'number' then 1 else rate end
$$;

-- Is this a price to send? A billion of any currency is a mistake in the shop. (NaN is above all numbers.)
create function amzmp._is_price(price numeric)
    returns boolean
    language sql
    immutable
    parallel safe
    return price > 0 and price < 1000000000;

-- A quantity that Amazon takes, or null: a stock beyond what an integer holds is a mistake too, and no number is better.
create function amzmp._sendable(quantity numeric)
    returns integer
    language sql
    immutable
    parallel safe
    return case when quantity <= 2147483647 then quantity::integer end;


-- shipping: the template that the channel's setting names. Most offers have no rule, so each step is taken only when named.
create function amzmp._offer_calc(account_id bigint, shipping text, product amzmp.product, rules jsonb, place amzmp.marketplace)
    returns amzmp.offer_calc
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    c amzmp.offer_calc;
    row_values jsonb;
    rate record;
begin
    c.source := product.price;
    c.sends := '{price,stock,details}';
    c.rate := 1;
    if rules is not null then
        row_values := amzmp._row_values(product);
        c.source := case when rules ? 'price' then amzmp._amount(rules -> 'price', row_values) else product.price end;
        c.sends := case when rules ? 'send' then amzmp._text_array(rules -> 'send') else c.sends end;
        if upper(rules ->> 'currency') <> place.currency then
            rate := amzmp._rate(account_id, upper(rules ->> 'currency'), place.currency);
            c.rate := rate.rate;
            c.again_at := rate.again_at;
            if c.rate is null then
                c.problem := case
                    when rate.as_of is null then format('there is no rate from %s to %s', upper(rules ->> 'currency'), place.currency)
                    else format('the rate from %s to %s of %s is too old', upper(rules ->> 'currency'), place.currency,
                            to_char(rate.as_of at time zone 'UTC', 'YYYY-MM-DD'))
                end;
            end if;
        end if;
    end if;
    c.converted := c.source * c.rate;
    if c.problem is null and rules is not null then
        c := amzmp._ruled_price(c, rules, row_values, place);
    else
        c.price := round(c.converted, place.currency_decimals);
        c.terms := '{}';
    end if;
    if not amzmp._is_price(c.price) or c.problem is not null then
        c.price := null;
    end if;
    c.details := case
        when rules is null and product.condition is null and shipping is null then '{}'
        else amzmp._offer_details(shipping, product, rules, row_values, c)
    end;
    return c;
end
$$;

comment on function amzmp._offer_calc(bigint, text, amzmp.product, jsonb, amzmp.marketplace) is 'Inner: an offer''s price with all its steps, from a product''s row and the parameters that hold for it.';

-- The steps of a price that follow rules, and the terms that travel with it.
create function amzmp._ruled_price(inout c amzmp.offer_calc, rules jsonb, row_values jsonb, place amzmp.marketplace)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    unit constant numeric := 10.0 ^ (- place.currency_decimals);
begin
    c.changed := c.converted * (1 + coalesce((rules ->> 'percent')::numeric, 0) / 100) + coalesce((rules ->> 'amount')::numeric, 0);
    c.with_fees := (c.changed + coalesce((rules ->> 'fee_amount')::numeric, 0)) / (1 - coalesce((rules ->> 'fee_percent')::numeric, 0) / 100);
    c.rounded := round(case when not rules ?| '{round_to,round_ending}' then c.with_fees else amzmp._rounded(c.with_fees, (rules ->> 'round_to')::numeric, (rules ->> 'round_ending')::numeric,
            rules ->> 'round_mode') end, place.currency_decimals);
    if rules ? 'minimum' then
        c.minimum := round(ceil(amzmp._converted(rules -> 'minimum', row_values, c.rate) / unit) * unit, place.currency_decimals);
    end if;
    if rules ? 'maximum' then
        c.maximum := round(floor(amzmp._converted(rules -> 'maximum', row_values, c.rate) / unit) * unit, place.currency_decimals);
    end if;
    c.price := case when c.rounded is not null then round(least(greatest(c.rounded, c.minimum), c.maximum), place.currency_decimals) end;
    c.problem := case
        when c.minimum > c.maximum then format('the minimum price %s is above the maximum %s', c.minimum, c.maximum)
        when rules ? 'minimum' and c.minimum is null then 'the minimum price has no value'
        when rules ? 'maximum' and c.maximum is null then 'the maximum price has no value'
    end;
    c.terms := jsonb_strip_nulls(jsonb_build_object('minimum', c.minimum, 'maximum', c.maximum));
    if rules ?| '{sale_price,business_price}' then
        c := amzmp._offer_terms(c, rules, row_values || jsonb_build_object('offer_price', c.price / nullif(c.rate, 0)), place);
    end if;
end
$$;

-- What travels with the price besides its limits: sale and business price. A sale that is over, or no cheaper, is none.
create function amzmp._offer_terms(inout c amzmp.offer_calc, rules jsonb, row_values jsonb, place amzmp.marketplace)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    sale constant numeric := round(amzmp._converted(rules -> 'sale_price', row_values, c.rate), place.currency_decimals);
    sale_from constant timestamptz := amzmp._rule_time(rules -> 'sale_from', row_values);
    sale_to constant timestamptz := amzmp._rule_time(rules -> 'sale_to', row_values);
    business constant numeric := round(amzmp._converted(rules -> 'business_price', row_values, c.rate), place.currency_decimals);
begin
    if sale > 0 and sale < c.price and sale >= coalesce(c.minimum, sale) and sale_from < sale_to and sale_to > now() then
        c.terms := c.terms || jsonb_build_object('sale', jsonb_build_object('price', sale,
            'from', amzmp._iso_time(sale_from),
            'to', amzmp._iso_time(sale_to)));
        c.again_at := least(c.again_at, sale_to);
    end if;
    if amzmp._is_price(business) then
        c.terms := c.terms || jsonb_build_object('business', jsonb_strip_nulls(jsonb_build_object('price', business,
            'discount', case when rules ? 'business_tiers' then coalesce(rules ->> 'business_discount', 'percent') end,
            'tiers', rules -> 'business_tiers')));
    end if;
end
$$;

-- What Amazon calls a condition.
create function amzmp._is_condition(given text)
    returns boolean
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select d.choices ? given from amzmp.setting_definition as d where d.name = 'condition_default'
$$;

/*
 * Details of an offer that the shop, a rule or a setting names; what nobody names is no business of ours.
 */
create function amzmp._offer_details(shipping text, product amzmp.product, rules jsonb, row_values jsonb, c amzmp.offer_calc)
    returns jsonb
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    named constant text := coalesce(rules ->> 'condition', product.condition);
    condition constant text := case when named is not null then amzmp._mapped(named, rules -> 'condition_map') end;
    template constant text := rules ->> 'shipping_template';
begin
    if template is not null then
        shipping := amzmp._mapped(case when row_values ? template then row_values ->> template else template end, rules -> 'shipping_map');
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
            'condition', case when condition is not null and amzmp._is_condition(condition) then condition end,
            'note', case
                when condition <> 'new_new' then nullif(coalesce(rules ->> 'condition_note', product.condition_note), '')
            end,
            'shipping', nullif(shipping, ''),
            'list_price', case
                when rules ? 'list_price' then round(amzmp._converted(rules -> 'list_price',
                    row_values || jsonb_build_object('offer_price', c.price / nullif(c.rate, 0)), c.rate), 2)
            end));
end
$$;

/*
 * Stock.
 */
create type amzmp.stock_calc as (
    stock numeric,
    held bigint,
    unreserved numeric,
    buffered numeric,
    shared numeric,
    by_threshold numeric,
    limited numeric,
    available integer,
    damping integer,
    terms jsonb,
    again_at timestamptz
);

comment on type amzmp.stock_calc is 'Inner: the steps from the shop''s stock to the quantity that is offered, and what travels with it.';

-- stock: what the shop says, null where it does not; buffer and handling: what settings say.
create function amzmp._stock_calc(stock numeric, held bigint, lead_time integer, row_values jsonb, rules jsonb, buffer integer,
    handling integer)
    returns amzmp.stock_calc
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    c amzmp.stock_calc;
    restock date;
    ruled numeric;
    days integer := coalesce(lead_time, handling);
begin
    c.stock := stock;
    c.held := coalesce(held, 0);
    if stock is not null then    -- greatest is not null for a null
        c.unreserved := greatest(stock - c.held, 0);
        c.buffered := greatest(c.unreserved - coalesce((rules ->> 'buffer')::integer, buffer, 0), 0);
    end if;
    c.shared := case when rules ? 'stock_percent' then floor(c.buffered * (rules ->> 'stock_percent')::numeric / 100) else c.buffered end;
    c.by_threshold := c.shared;
    if rules ? 'threshold' and c.shared is not null then
        c.by_threshold := least(c.shared, case
                when c.shared <= (rules ->> 'threshold')::integer then coalesce((rules ->> 'low_quantity')::integer, c.shared)
                else coalesce((rules ->> 'high_quantity')::integer, c.shared)
            end);
    end if;
    c.limited := case
        when c.by_threshold is null then null
        when c.by_threshold < (rules ->> 'minimum_quantity')::integer then 0
        else amzmp._sendable(least(c.by_threshold, (rules ->> 'maximum_quantity')::integer))
    end;
    c.available := coalesce(case when stock is not null then (rules ->> 'fixed_quantity')::integer end, c.limited);
    c.damping := (rules ->> 'damping')::integer;
    if rules ? 'lead_time' then
        ruled := amzmp._amount(rules -> 'lead_time', row_values);
        days := case when ruled is null then days else least(greatest(round(ruled), 0), 30) end;
    end if;
    restock := amzmp._rule_time(rules -> 'restock_date', row_values)::date;
    c.again_at := case when restock > current_date then restock end;
    c.terms := jsonb_strip_nulls(jsonb_build_object('lead_time', days, 'restock', case when restock > current_date then restock end));
    return c;
end
$$;

comment on function amzmp._stock_calc(numeric, bigint, integer, jsonb, jsonb, integer, integer) is 'Inner: the quantity of a SKU with all its steps.';
