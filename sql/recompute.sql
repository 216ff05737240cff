/*
 * recompute.sql
 *	  From the shop's rows to what is wanted at Amazon: desired prices and quantities.
 *
 * amzmp._recompute is called with the SKUs whose product rows, settings or reservations may have changed, in the
 * transaction that changed them. It computes what is wanted now from what product says (nothing is handed in, so it
 * does not matter how often or for which reason it is called), lets the brake look at the changes, writes those that
 * pass, and plans the requests. amzmp._stock_moved is the short way for an imported order, which Amazon knows of.
 *
 * The price of an offer comes from the channel's own source, else from the account's. The quantity comes from the
 * account's source; only where the account has none, the smallest of its channels' sources. Rules are applied to both
 * (rule_apply.sql). A value that the shop does not give is no value: the offer stays as it is and the reason is a
 * penalty. What travels with a price (limits, sale) is written together with it, so a price that the brake holds keeps
 * the terms that it has.
 */

-- A difference between what is wanted and what was wanted so far. Stock belongs to no channel (0).
create type amzmp.desired_change as (
    channel_id bigint,
    sku text,
    facet text,             -- price, stock or stop (0: stopped, 1: no longer)
    old_value numeric,
    new_value numeric,
    free boolean            -- the brake does not look: first offers, and SKUs that no channel wants any more
);

comment on type amzmp.desired_change is 'Inner: a change of a desired value that the brake is to judge.';

create function amzmp._recompute(account_id bigint, skus text[], cause jsonb, decided bigint default null)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    offered text[];
    prices amzmp.offer_price[];
    stocks amzmp.offer_stock[];
    wanted amzmp.desired_change[];
    passed amzmp.desired_change[];
begin
    perform amzmp._list_by_rule(account_id, skus, cause);
    offered := amzmp._offered_skus(account_id, skus);
    if offered = '{}' then
        return;
    end if;
    perform amzmp._lock_skus(account_id, offered);
    perform amzmp._stop_by_rule(account_id, offered, cause, decided);
    prices := amzmp._shop_prices(account_id, offered);
    stocks := amzmp._shop_quantities(account_id, offered);
    wanted := amzmp._price_changes(prices) || amzmp._stock_changes(stocks);
    passed := amzmp._brake(account_id, offered, wanted, cause, decided, '{price,stock}');
    perform amzmp._set_desired(account_id, passed, cause);
    perform amzmp._set_price_terms(account_id, prices, amzmp._without(wanted, passed));
    perform amzmp._set_stock_terms(account_id, stocks);
    perform amzmp._set_clock(account_id, prices, stocks);
    perform amzmp._report_incomplete(account_id, offered, prices, stocks);
    perform amzmp._try_identified(account_id, offered, cause);
    perform amzmp._try_rejected(account_id, passed, cause);
    perform amzmp._plan_sends(account_id, offered);
end
$$;

comment on function amzmp._recompute(bigint, text[], jsonb, bigint) is 'Inner: bring desired prices and quantities of these SKUs up to date. decided: a batch of the brake that a person has just released, which passes.';

-- Most products of a shop may not be offered at all; these are, or were.
create function amzmp._offered_skus(account_id bigint, skus text[])
    returns text[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return array(
        select i.sku
        from amzmp.inventory as i
        where i.account_id = _offered_skus.account_id
            and i.sku = any (_offered_skus.skus)
        order by i.sku
    );
end
$$;

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
 * What the shop and the rules say about the price of each wanted offer, and what was wanted so far. given is the price
 * as it stands in the shop's row; calc.price is the one to send, null where there is none.
 */
create type amzmp.offer_price as (channel_id bigint, sku text, listed boolean, known boolean, desired numeric, given numeric,
    calc amzmp.offer_calc, switches text[]);

comment on type amzmp.offer_price is 'Inner: what the shop and the rules say about an offer.';

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
                amzmp._switches(c.account_id, c.channel_id) as switches
            from amzmp.channel as c
            where c.account_id = _shop_prices.account_id
                and not c.dropped
        )
        select (c.channel_id, l.sku, l.listed, (p.row).sku is not null, l.desired_price, (p.row).price,
            amzmp._offer_calc(c.account_id, c.shipping, p.row, r.compiled, m), c.switches)::amzmp.offer_price
        from place as c
        join amzmp.marketplace as m using (marketplace_id)
        join amzmp.listing as l
            on (l.account_id, l.channel_id) = (c.account_id, c.channel_id) and l.sku = any (_shop_prices.skus)
        left join amzmp._rules_for(_shop_prices.account_id, _shop_prices.skus) as r
            on (r.channel_id, r.sku) = (l.channel_id, l.sku)
        left join lateral (
            select x as row
            from amzmp._offer_product(c.account_id, c.channel_id, l.sku) as x
        ) as p on true
        where c.account_id = _shop_prices.account_id
            and not c.dropped
            and l.wanted
    );
end
$$;

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

create function amzmp._price_changes(prices amzmp.offer_price[])
    returns amzmp.desired_change[]
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select (p.channel_id, p.sku, 'price', p.desired, (p.calc).price, not p.listed)::amzmp.desired_change
        from unnest(prices) as p
        where (p.calc).price is distinct from p.desired
            and (p.calc).price is not null
    );
end
$$;

/*
 * What the shop and the rules say about the stock of each SKU. calc.available is what may be offered, null where the shop
 * does not say. A row that is gone or inactive offers nothing; a source that cannot be read leaves its rows as they were.
 */
create type amzmp.offer_stock as (sku text, listed boolean, desired integer, wanted boolean, known boolean, calc amzmp.stock_calc,
    sends boolean);

comment on type amzmp.offer_stock is 'Inner: what the shop and the rules say about the stock of a SKU.';

create function amzmp._shop_quantities(account_id bigint, skus text[])
    returns amzmp.offer_stock[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    buffer constant integer := coalesce(amzmp._setting_int(account_id, 0, 'buffer_stock'), 0);
begin
    return array(
        with place as materialized (
            select c.account_id, c.channel_id, amzmp._setting_int(c.account_id, c.channel_id, 'handling_days') as handling,
                'stock' = any (amzmp._switches(c.account_id, c.channel_id)) as sends
            from amzmp.channel as c
            where c.account_id = _shop_quantities.account_id
                and not c.dropped
        )
        select (i.sku, i.listed, i.desired_quantity, w.wanted, p.known, amzmp._stock_calc(
                case when w.wanted then p.quantity else 0 end, r.held, p.lead_time, p.row_values,
                case when w.wanted then u.compiled end, buffer, w.handling),
            -- what nobody sells any more never stays for sale
            not w.wanted or p.off or w.sends and coalesce(u.compiled -> 'send' ? 'stock', true))::amzmp.offer_stock
        from amzmp.inventory as i
        left join amzmp._rules_for(_shop_quantities.account_id, _shop_quantities.skus) as u on u.channel_id = 0 and u.sku = i.sku
        cross join lateral (
            select count(*) > 0 as wanted, coalesce(bool_or(c.sends), false) as sends, max(c.handling) as handling
            from place as c
            join amzmp.listing as l
                on (l.account_id, l.channel_id, l.sku) = (c.account_id, c.channel_id, i.sku)
            where l.wanted
        ) as w
        cross join lateral amzmp._shop_stock(i.account_id, i.sku, u.compiled) as p
        left join lateral (
            select sum(v.quantity) as held
            from amzmp.reservation as v
            where v.account_id = i.account_id
                and v.sku = i.sku
                and v.released_at is null
        ) as r on true
        where i.account_id = _shop_quantities.account_id
            and i.sku = any (_shop_quantities.skus)
            and i.fulfillment_channel = 'DEFAULT'
    );
end
$$;

-- The shop's stock of a SKU, or what a rule takes instead of the source's quantity; row_values only where there are rules.
create function amzmp._shop_stock(account_id bigint, sku text, rules jsonb, out known boolean, out off boolean, out quantity numeric,
    out lead_time integer, out row_values jsonb)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    select count(*) > 0, coalesce(bool_and(q.gone or q.active is false), false),
        coalesce(
            min(case when q.gone or q.active is false then 0 else n.quantity end) filter (where s.channel_id = 0),
            min(n.quantity) filter (where not q.gone and q.active is not false),
            case when bool_and(q.gone or q.active is false) then 0 end
        ),
        coalesce(max(q.lead_time) filter (where s.channel_id = 0 and not q.gone), max(q.lead_time) filter (where not q.gone)),
        (array_agg(n.row_values order by s.channel_id, s.source_id) filter (where not q.gone))[1]
    into known, off, quantity, lead_time, row_values
    from amzmp.source as s
    join amzmp.product as q
        on (q.account_id, q.source_id, q.sku) = (s.account_id, s.source_id, _shop_stock.sku)
    cross join lateral (
        select v.row_values,
            case when rules ? 'quantity' then floor(amzmp._amount(rules -> 'quantity', v.row_values)) else q.quantity end as quantity
        from (select case when rules is not null then amzmp._row_values(q) end as row_values) as v
    ) as n
    where s.account_id = _shop_stock.account_id;
end
$$;

create function amzmp._stock_changes(stocks amzmp.offer_stock[])
    returns amzmp.desired_change[]
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select (0, q.sku, 'stock', q.desired, (q.calc).available, not q.listed or not q.wanted)::amzmp.desired_change
        from unnest(stocks) as q
        where (q.calc).available is distinct from q.desired
            and (q.calc).available is not null
    );
end
$$;

create function amzmp._set_desired(account_id bigint, changes amzmp.desired_change[], cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.inventory as i
    set desired_quantity = c.new_value::integer,
        desired_quantity_at = now(),
        cause = _set_desired.cause
    from unnest(changes) as c
    where c.facet = 'stock'
        and (i.account_id, i.sku, i.fulfillment_channel) = (_set_desired.account_id, c.sku, 'DEFAULT');

    update amzmp.listing as l
    set desired_price = c.new_value,
        desired_price_at = case when not c.free then now() end,
        cause = _set_desired.cause
    from unnest(changes) as c
    where c.facet = 'price'
        and (l.account_id, l.channel_id, l.sku) = (_set_desired.account_id, c.channel_id, c.sku);
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
    join amzmp.listing as o
        on (o.account_id, o.channel_id, o.sku) = (_set_price_terms.account_id, p.channel_id, p.sku)
    cross join lateral (
        select case
                when (p.calc).price is null
                    or exists (select from unnest(held) as h where (h.channel_id, h.sku, h.facet) = (p.channel_id, p.sku, 'price'))
                then o.desired_terms
                else amzmp._first_or_known((p.calc).terms, o.desired_terms)
            end as terms,
            amzmp._first_or_known((p.calc).details, o.desired_details) as details,
            'price' = any ((p.calc).sends) and 'price' = any (p.switches) as sends_price,
            'details' = any ((p.calc).sends) and 'details' = any (p.switches) as sends_details
    ) as n
    where p.known
        and (l.account_id, l.channel_id, l.sku) = (o.account_id, o.channel_id, o.sku)
        and (o.desired_terms, o.desired_details, o.sends_price, o.sends_details)
            is distinct from (n.terms, n.details, n.sends_price, n.sends_details);
end
$$;

-- What nobody ever named is no business of ours: nothing stays nothing until there is something.
create function amzmp._first_or_known(given jsonb, before jsonb)
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case when given = '{}' and before is null then null else given end
$$;

create function amzmp._set_stock_terms(account_id bigint, stocks amzmp.offer_stock[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.inventory as i
    set desired_terms = n.terms,
        damping = n.damping,
        sends = s.sends
    from unnest(stocks) as s
    join amzmp.inventory as o
        on (o.account_id, o.sku, o.fulfillment_channel) = (_set_stock_terms.account_id, s.sku, 'DEFAULT')
    cross join lateral (
        select case when s.known and s.wanted then amzmp._first_or_known((s.calc).terms, o.desired_terms) else o.desired_terms end as terms,
            case when s.known and s.wanted then (s.calc).damping else o.damping end as damping
    ) as n
    where (i.account_id, i.sku, i.fulfillment_channel) = (o.account_id, o.sku, o.fulfillment_channel)
        and (n.terms, n.damping, s.sends) is distinct from (o.desired_terms, o.damping, o.sends);
end
$$;

-- Note when the clock changes what is wanted, and have somebody look then. Each time is a task of its own: one that is being
-- performed ends, and must not take the next time with it.
create function amzmp._set_clock(account_id bigint, prices amzmp.offer_price[], stocks amzmp.offer_stock[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    next timestamptz;
begin
    update amzmp.listing as l
    set recompute_at = n.at
    from unnest(prices) as p
    left join unnest(stocks) as s on s.sku = p.sku
    cross join lateral (
        select least((p.calc).again_at, (s.calc).again_at) as at
    ) as n
    where (l.account_id, l.channel_id, l.sku) = (_set_clock.account_id, p.channel_id, p.sku)
        and l.recompute_at is distinct from n.at;

    select min(l.recompute_at) into next
    from amzmp.listing as l
    where l.account_id = _set_clock.account_id
        and l.recompute_at is not null;
    if next is not null then
        perform amzmp._add_task(account_id, 'recompute_due', to_char(next at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), null, next);
    end if;
end
$$;

/*
 * Conditions.
 */

-- Offer what the shop's condition list_if asks for and what nobody has stopped or taken back before.
create function amzmp._list_by_rule(account_id bigint, skus text[], cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place amzmp.channel;
    fresh text[];
begin
    if not exists (
        select from amzmp.source_value as v where v.account_id = _list_by_rule.account_id and v.name = 'list_if'
    ) then
        return;
    end if;
    for place in
        select c.*
        from amzmp.channel as c
        join amzmp.account as a using (account_id)
        where c.account_id = _list_by_rule.account_id and c.active and not c.dropped and a.active
    loop
        fresh := array(
            select p.sku
            from amzmp._listing_products(place.account_id, place.channel_id, skus) as p
            where p.extra ->> 'list_if' = 'true'
                and p.extra ->> 'stop_if' is distinct from 'true'
                and p.active is not false
                and length(p.sku) <= 40
                and not exists (
                    select
                    from amzmp.listing as l
                    where (l.account_id, l.channel_id, l.sku) = (place.account_id, place.channel_id, p.sku)
                )
        );
        if fresh <> '{}' then
            perform amzmp._want(place, fresh, null, cause || jsonb_build_object('condition', 'list_if'));
            perform amzmp._look(place.account_id, place.channel_id, fresh, now(), cause);
        end if;
    end loop;
end
$$;

create type amzmp.stop_reason as (channel_id bigint, sku text, wanted boolean, listed boolean, reason text);

comment on type amzmp.stop_reason is 'Inner: who wants an offer to be stopped; nobody where reason is null.';

/*
 * Stop offers and take stops back: stop_if and relist_if of the source's values, and rows that are gone or inactive in
 * the channel's own source alone. What a person stopped is none of this function's business.
 */
create function amzmp._stop_by_rule(account_id bigint, skus text[], cause jsonb, decided bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    stops constant amzmp.stop_reason[] := amzmp._stop_reasons(account_id, skus);
    changes amzmp.desired_change[];
    part record;
begin
    changes := array(
        select (s.channel_id, s.sku, 'stop', s.wanted::integer, (s.reason is null)::integer, not s.listed or s.reason is null)::amzmp.desired_change
        from unnest(stops) as s
        where s.wanted = (s.reason is not null)
    );
    changes := amzmp._brake(account_id, skus, changes, cause, decided, '{stop}');
    for part in
        select c.channel_id, s.reason, array_agg(c.sku order by c.sku) as skus
        from unnest(changes) as c
        join unnest(stops) as s on (s.channel_id, s.sku) = (c.channel_id, c.sku)
        group by c.channel_id, s.reason
    loop
        if part.reason is null then
            perform amzmp._offer_again(account_id, part.channel_id, part.skus, cause);
        else
            perform amzmp._withdraw(account_id, part.channel_id, part.skus, cause, part.reason);
        end if;
    end loop;
end
$$;

-- Offers that conditions may stop, or have stopped.
create function amzmp._stop_reasons(account_id bigint, skus text[])
    returns amzmp.stop_reason[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if not exists (select from amzmp.source as s where s.account_id = _stop_reasons.account_id and s.channel_id <> 0)
        and not exists (
            select from amzmp.source_value as v
            where v.account_id = _stop_reasons.account_id and v.name = any ('{stop_if,relist_if}')
        )
    then
        return '{}';
    end if;
    return array(
        select (c.channel_id, l.sku, l.wanted, l.listed, case
                when p.off_here then 'shop'
                when p.stop or l.stopped_by = 'rule' and not p.relist then 'rule'
            end)::amzmp.stop_reason
        from amzmp.channel as c
        join amzmp.listing as l using (account_id, channel_id)
        cross join lateral (
            select coalesce(bool_and(r.gone or r.active is false) filter (where s.channel_id <> 0), false) as off_here,
                coalesce(bool_or(r.extra ->> 'stop_if' = 'true'), false) as stop,
                coalesce(bool_and(r.extra ->> 'relist_if' = 'true') filter (where r.extra ? 'relist_if'), true) as relist
            from amzmp.source as s
            join amzmp.product as r on (r.account_id, r.source_id, r.sku) = (s.account_id, s.source_id, l.sku)
            where s.account_id = c.account_id
                and s.channel_id in (0, c.channel_id)
        ) as p
        where c.account_id = _stop_reasons.account_id
            and not c.dropped
            and l.sku = any (_stop_reasons.skus)
            and (l.wanted or l.stopped_by <> 'person')
    );
end
$$;

/*
 * Begin anew with rejected offers whose values have changed, where that may be what they were rejected for.
 */
create function amzmp._try_rejected(account_id bigint, changes amzmp.desired_change[], cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    again record;
begin
    for again in
        with tried as (
            update amzmp.listing as l
            set state = 'queued',
                state_reason = 'changed in the shop, tried again',
                state_at = now()
            from unnest(changes) as c,
                amzmp.penalty as p
            where l.account_id = _try_rejected.account_id
                and l.sku = c.sku
                and c.channel_id in (0, l.channel_id)
                and l.state = 'rejected'
                and l.wanted
                and (p.account_id, p.channel_id, p.kind, p.subject) = (l.account_id, l.channel_id, 'publish', l.sku)
                and p.code = any (case c.facet when 'price' then array['REJECTED', 'NO_PRICE'] else array['NO_STOCK'] end)
            returning l.channel_id, l.sku
        )
        select t.channel_id, array_agg(t.sku order by t.sku) as skus
        from tried as t
        group by t.channel_id
    loop
        perform amzmp._look(account_id, again.channel_id, again.skus, now(), cause);
    end loop;
end
$$;

/*
 * Begin anew with rejected offers that have no catalogue item yet and whose ASIN or barcode the shop has mended.
 */
create function amzmp._try_identified(account_id bigint, skus text[], cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    again record;
begin
    for again in
        with mended as (
            select l.channel_id, l.sku, amzmp._asin(p.asin) as asin, amzmp._gtin(p.ean) as ean
            from amzmp.listing as l
            cross join lateral amzmp._offer_product(l.account_id, l.channel_id, l.sku) as p
            where l.account_id = _try_identified.account_id
                and l.sku = any (_try_identified.skus)
                and l.state = 'rejected'
                and l.wanted
                and l.asin is null
        ), tried as (
            update amzmp.listing as l
            set asin = m.asin,
                ean = m.ean,
                state = 'queued',
                state_reason = 'changed in the shop, tried again',
                state_at = now()
            from mended as m
            where (l.account_id, l.channel_id, l.sku) = (_try_identified.account_id, m.channel_id, m.sku)
                and num_nonnulls(m.asin, m.ean) > 0
                and (m.asin, m.ean) is distinct from (l.asin, l.ean)
            returning l.channel_id, l.sku
        )
        select t.channel_id, array_agg(t.sku order by t.sku) as skus
        from tried as t
        group by t.channel_id
    loop
        perform amzmp._look(account_id, again.channel_id, again.skus, now(), cause);
    end loop;
end
$$;

/*
 * Wanted offers for which the shop gives no price or no quantity that can be sent keep what they have at Amazon. The
 * penalty says why, and ends as soon as the shop gives one.
 */
create function amzmp._report_incomplete(account_id bigint, skus text[], prices amzmp.offer_price[], stocks amzmp.offer_stock[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    problem record;
begin
    for problem in
        with incomplete as (
            select p.channel_id, p.sku, 'price' as kind, 'NO_PRICE' as code,
                coalesce((p.calc).problem, 'the shop''s price ' || p.given || ' cannot be sent', 'the shop gives no price') as message
            from unnest(prices) as p
            where p.known
                and (p.calc).price is null
            union all
            select 0, q.sku, 'stock', 'NO_STOCK', 'the shop gives no quantity'
            from unnest(stocks) as q
            where q.known
                and (q.calc).available is null
        ), reported as (
            select n.channel_id, n.subject as sku, n.kind, n.code
            from amzmp.penalty as n
            where n.account_id = _report_incomplete.account_id
                and n.subject = any (skus)
                and n.kind in ('price', 'stock')
                and n.code in ('NO_PRICE', 'NO_STOCK')
        )
        select channel_id, sku, kind, code, i.message, r.code is null as begins, i.code is null as ends
        from incomplete as i
        full join reported as r using (channel_id, sku, kind, code)
        where i.code is null
            or r.code is null
    loop
        if problem.begins then
            perform amzmp._penalise(account_id, problem.channel_id, problem.kind, problem.sku, problem.code, problem.message);
        else
            perform amzmp._unpenalise(account_id, problem.channel_id, problem.kind, problem.sku);
        end if;
    end loop;
end
$$;

/*
 * Orders were imported (positive quantities) or gave units back (negative ones). Amazon has lowered what it offers by
 * itself when it sold, so what we want and what we expect there go down together and nothing is sent. An order that
 * is older than the last submission is contained in none of Amazon's numbers any more: only what we want goes down,
 * and the difference is sent. Units that came back are Amazon's no more, so they are computed anew and sent.
 *
 * Call it after the reservations of the order are written.
 */
create function amzmp._stock_moved(account_id bigint, skus text[], quantities integer[], ordered timestamptz[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    given_back text[];
begin
    perform amzmp._lock_skus(account_id, skus);
    update amzmp.inventory as i
    set desired_quantity = greatest(0, i.desired_quantity - m.quantity),
        desired_quantity_at = now(),
        remote_quantity = case
            when i.remote_quantity is not null then greatest(0, i.remote_quantity - (
                select coalesce(sum(u.quantity), 0)::integer
                from unnest(m.quantities, m.times) as u (quantity, ordered_at)
                where u.ordered_at > i.submitted_quantity_at
            ))
        end
    from (
        select u.sku, sum(u.quantity)::integer as quantity, array_agg(u.quantity) as quantities, array_agg(u.ordered_at) as times
        from unnest(skus, quantities, ordered) as u (sku, quantity, ordered_at)
        where u.quantity > 0
        group by u.sku
    ) as m
    where (i.account_id, i.sku, i.fulfillment_channel) = (_stock_moved.account_id, m.sku, 'DEFAULT');

    -- An order from before the last submission was not known to it: what was submitted is too much by its units.
    if exists (
        select from amzmp.inventory as i
        where (i.account_id, i.fulfillment_channel) = (_stock_moved.account_id, 'DEFAULT')
            and i.sku = any (skus)
            and i.quantity_differs
    ) then
        perform amzmp._plan_sends(account_id, skus);
    end if;

    given_back := array(
        select distinct u.sku
        from unnest(skus, quantities) as u (sku, quantity)
        where u.quantity < 0
    );
    if given_back <> '{}' then
        perform amzmp._recompute(account_id, given_back, jsonb_build_object('reason', 'units given back by an order'));
    end if;
end
$$;

comment on function amzmp._stock_moved(bigint, text[], integer[], timestamptz[]) is 'Inner: what imported orders do to desired and expected stock. Negative quantities are given back.';
