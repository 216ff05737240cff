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
 * account's source; only where the account has none, the smallest of its channels' sources. A value that the shop does
 * not give is no value: the offer stays as it is and the reason is a penalty.
 */

-- A difference between what is wanted and what was wanted so far. Stock belongs to no channel (0).
create type amzmp.desired_change as (
    channel_id bigint,
    sku text,
    facet text,             -- price or stock
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
    offered constant text[] := amzmp._offered_skus(account_id, skus);
    changes amzmp.desired_change[];
begin
    if offered = '{}' then
        return;
    end if;
    perform amzmp._lock_skus(account_id, offered);
    changes := amzmp._price_changes(account_id, offered) || amzmp._stock_changes(account_id, offered);
    changes := amzmp._brake(account_id, offered, changes, cause, decided);
    perform amzmp._set_desired(account_id, changes, cause);
    perform amzmp._report_incomplete(account_id, offered);
    perform amzmp._try_rejected(account_id, changes, cause);
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

/*
 * What the shop says about the price of each wanted offer, and what was wanted so far. given is the price as it stands in the shop's row; price is the
 * one to send, null where the given one cannot be sent.
 */
create function amzmp._shop_prices(account_id bigint, skus text[])
    returns table (channel_id bigint, sku text, listed boolean, desired numeric, known boolean, given numeric, price numeric)
    rows 20
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select c.channel_id, l.sku, l.listed, l.desired_price, p.sku is not null, p.price,
        case when round(p.price, m.currency_decimals) > 0 then round(p.price, m.currency_decimals) end
    from amzmp.channel as c
    join amzmp.marketplace as m using (marketplace_id)
    join amzmp.listing as l
        on (l.account_id, l.channel_id) = (c.account_id, c.channel_id) and l.sku = any (_shop_prices.skus)
    left join lateral (
        select r.sku, r.price
        from amzmp.source as s
        join amzmp.product as r
            on (r.account_id, r.source_id, r.sku) = (s.account_id, s.source_id, l.sku)
        where s.account_id = c.account_id
            and s.channel_id in (0, c.channel_id)
            and not r.gone
        order by r.price is null, s.channel_id = 0, s.source_id
        limit 1
    ) as p on true
    where c.account_id = _shop_prices.account_id
        and not c.dropped
        and l.wanted;
end
$$;

create function amzmp._price_changes(account_id bigint, skus text[])
    returns amzmp.desired_change[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return array(
        select (p.channel_id, p.sku, 'price', p.desired, p.price, not p.listed)::amzmp.desired_change
        from amzmp._shop_prices(_price_changes.account_id, _price_changes.skus) as p
        where p.price is distinct from p.desired
            and p.price is not null
    );
end
$$;

/*
 * What the shop says about the stock of each SKU. available is what may be offered, null where the shop does not say.
 * A row that is gone or inactive offers nothing; a source that cannot be read leaves its rows as they were.
 */
create function amzmp._shop_quantities(account_id bigint, skus text[])
    returns table (sku text, listed boolean, desired integer, wanted boolean, known boolean, available integer)
    rows 20
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    buffer constant integer := coalesce(amzmp._setting_int(account_id, 0, 'buffer_stock'), 0);
begin
    return query
    select i.sku, i.listed, i.desired_quantity, w.wanted, p.known,
        case
            when not w.wanted then 0
            when p.quantity is not null    -- neither greatest nor least is null for a null
            then greatest(0, least(p.quantity - coalesce(r.held, 0) - buffer, 2147483647))::integer
        end
    from amzmp.inventory as i
    cross join lateral (
        select count(*) > 0 as wanted
        from amzmp.channel as c
        join amzmp.listing as l using (account_id, channel_id)
        where c.account_id = i.account_id
            and l.sku = i.sku
            and l.wanted
            and not c.dropped
    ) as w
    cross join lateral (
        select count(*) > 0 as known,
            coalesce(
                min(case when q.gone or q.active is false then 0 else q.quantity end) filter (where s.channel_id = 0),
                min(q.quantity) filter (where not q.gone and q.active is not false),
                case when bool_and(q.gone or q.active is false) then 0 end
            ) as quantity
        from amzmp.source as s
        join amzmp.product as q
            on (q.account_id, q.source_id, q.sku) = (s.account_id, s.source_id, i.sku)
        where s.account_id = i.account_id
    ) as p
    left join lateral (
        select sum(v.quantity) as held
        from amzmp.reservation as v
        where v.account_id = i.account_id
            and v.sku = i.sku
            and v.released_at is null
    ) as r on true
    where i.account_id = _shop_quantities.account_id
        and i.sku = any (_shop_quantities.skus)
        and i.fulfillment_channel = 'DEFAULT';
end
$$;

create function amzmp._stock_changes(account_id bigint, skus text[])
    returns amzmp.desired_change[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return array(
        select (0, q.sku, 'stock', q.desired, q.available, not q.listed or not q.wanted)::amzmp.desired_change
        from amzmp._shop_quantities(_stock_changes.account_id, _stock_changes.skus) as q
        where q.available is distinct from q.desired
            and q.available is not null
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
 * Wanted offers for which the shop gives no price or no quantity that can be sent keep what they have at Amazon. The
 * penalty says why, and ends as soon as the shop gives one.
 */
create function amzmp._report_incomplete(account_id bigint, skus text[])
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
                coalesce('the shop''s price ' || p.given || ' cannot be sent', 'the shop gives no price') as message
            from amzmp._shop_prices(_report_incomplete.account_id, skus) as p
            where p.known
                and p.price is null
            union all
            select 0, q.sku, 'stock', 'NO_STOCK', 'the shop gives no quantity'
            from amzmp._shop_quantities(_report_incomplete.account_id, skus) as q
            where q.known
                and q.available is null
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
 * An order was imported (positive quantities) or gave units back (negative ones). Amazon has lowered what it offers by
 * itself when it sold, so what we want and what we expect there go down together and nothing is sent. An order that
 * is older than the last submission is contained in none of Amazon's numbers any more: only what we want goes down,
 * and the difference is sent. Units that came back are Amazon's no more, so they are computed anew and sent.
 *
 * Call it after the reservations of the order are written.
 */
create function amzmp._stock_moved(account_id bigint, skus text[], quantities integer[], order_created timestamptz)
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
            when order_created > i.submitted_quantity_at then greatest(0, i.remote_quantity - m.quantity)
            else i.remote_quantity
        end
    from (
        select u.sku, sum(u.quantity)::integer as quantity
        from unnest(skus, quantities) as u (sku, quantity)
        where u.quantity > 0
        group by u.sku
    ) as m
    where (i.account_id, i.sku, i.fulfillment_channel) = (_stock_moved.account_id, m.sku, 'DEFAULT');

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

comment on function amzmp._stock_moved(bigint, text[], integer[], timestamptz) is 'Inner: what an imported order does to desired and expected stock. Negative quantities are given back.';
