/*
 * recompute.sql
 *	  From the shop's rows to what is wanted at Amazon: desired prices and quantities.
 *
 * amzmp._recompute is called with the SKUs whose product rows, settings or reservations may have changed, in the
 * transaction that changed them. It computes what is wanted now from what product says (no value is handed in, so it
 * does not matter how often or for which reason it is called), lets the brake look at the changes, writes those that
 * pass, and plans the requests. Who knows that only prices changed in the shop's rows, or only quantities, may say so: without
 * rules nothing else follows from them, and half of the work is left out. amzmp._stock_moved is the short way for an
 * imported order, which Amazon knows of.
 *
 * The price of an offer comes from the channel's own source, else from the account's. The quantity comes from the
 * account's source; only where the account has none, the smallest of its channels' sources. Rules are applied to both
 * (rule_apply.sql). A value that the shop does not give is no value: the offer stays as it is and the reason is a
 * penalty. What travels with a price (limits, sale) is written together with it, so a price that the brake holds keeps
 * the terms that it has.
 *
 * Here are the types that are handed on, and the order of the steps; recompute_price and recompute_stock compute,
 * recompute_condition makes and stops offers, recompute_retry is about those that stand still.
 */

-- A difference between what is wanted and what was wanted so far. Stock belongs to no channel (0).
create type amzmp.desired_change as (
    channel_id bigint,
    sku text,
    facet text,             -- price, stock or stop (0: stopped, 1: no longer)
    old_value numeric,
    new_value numeric,
    free boolean,           -- the brake does not look: first offers, and SKUs that no channel wants any more
    changed_at timestamptz  -- when it was changed before; of prices alone
);

comment on type amzmp.desired_change is 'Inner: a change of a desired value that the brake is to judge.';

/*
 * What the shop and the rules say about the price of each wanted offer, and what the listing holds so far. given is the
 * price as it stands in the shop's row; calc.price is the one to send, null where there is none.
 */
create type amzmp.offer_price as (channel_id bigint, sku text, listed boolean, known boolean, desired numeric, given numeric,
    calc amzmp.offer_calc, switches text[], desired_at timestamptz, terms jsonb, details jsonb, sends_price boolean,
    sends_details boolean, recompute_at timestamptz, rejected boolean);

comment on type amzmp.offer_price is 'Inner: what the shop and the rules say about an offer.';

/*
 * What the shop and the rules say about the stock of each SKU. calc.available is what may be offered, null where the shop
 * does not say. A row that is gone or inactive offers nothing; a source that cannot be read leaves its rows as they were.
 * rejected: an offer of it is. The three before that are what the inventory holds so far.
 */
create type amzmp.offer_stock as (sku text, listed boolean, desired integer, wanted boolean, known boolean, calc amzmp.stock_calc,
    sends boolean, terms jsonb, damping integer, sent boolean, rejected boolean);

comment on type amzmp.offer_stock is 'Inner: what the shop and the rules say about the stock of a SKU.';

-- All of it looks up SKU by SKU, one or thousands, whatever the planner would think of their number: its plans are made once.
create function amzmp._recompute(account_id bigint, skus text[], cause jsonb, decided bigint default null,
    touched text[] default '{price,stock}')
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    facets constant text[] := case
        when exists (select from amzmp.rule as r where r.account_id = _recompute.account_id) then '{price,stock}'
        else touched
    end;
    offered text[];
    still text[];
    prices amzmp.offer_price[] := '{}';
    stocks amzmp.offer_stock[] := '{}';
    wanted amzmp.desired_change[];
    passed amzmp.desired_change[];
begin
    perform amzmp._list_by_rule(account_id, skus, cause);
    offered := amzmp._lock_offered(account_id, skus);
    if offered = '{}' then
        return;
    end if;
    perform amzmp._stop_by_rule(account_id, offered, cause, decided);
    perform amzmp._set_fulfillment(account_id, offered);
    if 'price' = any (facets) then
        prices := amzmp._shop_prices(account_id, offered);
    end if;
    if 'stock' = any (facets) then
        stocks := amzmp._share_reservations(account_id, amzmp._shop_quantities(account_id, offered));
    end if;
    wanted := amzmp._price_changes(prices) || amzmp._stock_changes(stocks);
    passed := amzmp._brake(account_id, offered, wanted, cause, decided, facets);
    if cardinality(passed) > 0 then
        perform amzmp._set_desired(account_id, passed, cause, facets);
    end if;
    perform amzmp._set_price_terms(account_id, prices,
        case when cardinality(passed) < cardinality(wanted) then amzmp._without(wanted, passed) else '{}' end);
    perform amzmp._set_content(account_id, prices);
    perform amzmp._set_stock_terms(account_id, stocks);
    perform amzmp._set_clock(account_id, prices, stocks);
    perform amzmp._report_incomplete(account_id, offered, prices, stocks, facets);
    still := array(
        select p.sku from unnest(prices) as p where p.rejected
        union
        select s.sku from unnest(stocks) as s where s.rejected
    );
    if still <> '{}' then
        perform amzmp._try_identified(account_id, still, cause);
        perform amzmp._try_rejected(account_id, passed, cause);
        perform amzmp._try_content(account_id, still, cause);
    end if;
    perform amzmp._plan_sends(account_id, offered);
end
$$;

comment on function amzmp._recompute(bigint, text[], jsonb, bigint, text[]) is
    'Inner: bring desired prices and quantities of these SKUs up to date. decided: a batch of the brake that a person has just released, which passes. touched: what can follow from what changed, if there are no rules.';

-- Most products of a shop may not be offered at all; these are, or were. Locked as amzmp._lock_skus does.
create function amzmp._lock_offered(account_id bigint, skus text[])
    returns text[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    offered text[];
begin
    select array_agg(i.sku) filter (where i.fulfillment_channel = 'DEFAULT')
    into offered
    from (
        select x.sku, x.fulfillment_channel
        from amzmp.inventory as x
        where x.account_id = _lock_offered.account_id
            and x.sku = any (_lock_offered.skus)
        order by x.sku, x.fulfillment_channel
        for no key update
    ) as i;
    return coalesce(offered, '{}');
end
$$;

-- A value that changes is sent at once, whatever is in doubt about what Amazon has.
create function amzmp._set_desired(account_id bigint, changes amzmp.desired_change[], cause jsonb, facets text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if 'stock' = any (facets) then
        update amzmp.inventory as i
        set desired_quantity = c.new_value::integer,
            desired_quantity_at = now(),
            in_doubt = false,
            cause = _set_desired.cause
        from unnest(changes) as c
        where c.facet = 'stock'
            and (i.account_id, i.sku, i.fulfillment_channel) = (_set_desired.account_id, c.sku, 'DEFAULT');
    end if;
    if 'price' = any (facets) then
        update amzmp.listing as l
        set desired_price = c.new_value,
            desired_price_at = case when not c.free then now() end,
            in_doubt = false,
            cause = _set_desired.cause
        from unnest(changes) as c
        where c.facet = 'price'
            and (l.account_id, l.channel_id, l.sku) = (_set_desired.account_id, c.channel_id, c.sku);
    end if;
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
    with stock as materialized (
        select s.sku, (s.calc).again_at as at
        from unnest(stocks) as s
        where (s.calc).again_at is not null
    ), moved as materialized (
        -- nearly always none
        select p.channel_id, p.sku, least((p.calc).again_at, s.at) as at
        from unnest(prices) as p
        left join stock as s using (sku)
        where p.recompute_at is distinct from least((p.calc).again_at, s.at)
    )
    update amzmp.listing as l
    set recompute_at = m.at
    from moved as m
    where (l.account_id, l.channel_id, l.sku) = (_set_clock.account_id, m.channel_id, m.sku);

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
 * Orders were imported (positive quantities) or gave units back (negative ones). Amazon has lowered what it offers by
 * itself when it sold, so what we want and what we expect there go down together and nothing is sent. An order that
 * is older than the last submission is contained in none of Amazon's numbers any more: only what we want goes down,
 * and the difference is sent. As old counts whatever came within 15 seconds after it: so far may our clock and Amazon's be
 * apart (connection.sql), and to tell a number twice is harmless, to leave one too high is not. Units that came back are Amazon's no more, so they are computed anew and sent.
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
    siblings constant text[] := array(select distinct b.sibling from amzmp._stock_siblings(account_id, skus) as b);
    given_back text[];
begin
    -- those that are computed anew, too: whoever sells a sibling at the same time begins with that
    perform amzmp._lock_skus(account_id, skus || siblings);
    update amzmp.inventory as i
    set desired_quantity = greatest(0, i.desired_quantity - m.quantity),
        desired_quantity_at = now(),
        remote_quantity = case
            when i.remote_quantity is not null then greatest(0, i.remote_quantity - (
                select coalesce(sum(u.quantity), 0)::integer
                from unnest(m.quantities, m.times) as u (quantity, ordered_at)
                where u.ordered_at > i.submitted_quantity_at + interval '15 seconds'
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
        union
        select b.sibling from unnest(siblings) as b (sibling)
    );
    if given_back <> '{}' then
        perform amzmp._recompute(account_id, given_back, jsonb_build_object('reason', 'units held or given back by an order'));
    end if;
end
$$;

comment on function amzmp._stock_moved(bigint, text[], integer[], timestamptz[]) is 'Inner: what imported orders do to desired and expected stock. Negative quantities are given back.';
