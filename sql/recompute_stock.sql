/*
 * recompute_stock.sql
 *	  What the shop and the rules say about the stock of each SKU, and what of it is new.
 */

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
