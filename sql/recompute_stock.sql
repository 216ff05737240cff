/*
 * recompute_stock.sql
 *	  What the shop and the rules say about the stock of each SKU, and what of it is new.
 */

-- The quantity of a SKU without rules; the steps are those of amzmp._stock_calc. (Without a search_path of its own, so that
-- it is not called but becomes a part of the statement; "offset 0" has each step computed once, not wherever it is named.)
create function amzmp._plain_stock(stock numeric, held bigint, buffer integer, days integer)
    returns table (stock numeric, unreserved numeric, offered numeric, available integer, days integer)
    rows 1
    language sql
    immutable
    parallel safe
begin atomic
    select _plain_stock.stock, o.unreserved, o.offered, amzmp._sendable(o.offered),
        _plain_stock.days
    from (
        select u.unreserved, case when u.unreserved is not null then greatest(u.unreserved - buffer, 0) end as offered
        from (
            select case when _plain_stock.stock is not null then greatest(_plain_stock.stock - held, 0) end as unreserved
            offset 0
        ) as u
        offset 0
    ) as o;
end;

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
    only_source constant bigint := amzmp._only_source(account_id, null);
begin
    return array(
        with place as materialized (
            select c.account_id, c.channel_id, amzmp._setting_int(c.account_id, c.channel_id, 'handling_days') as handling,
                'stock' = any (amzmp._switches(c.account_id, c.channel_id)) as sends
            from amzmp.channel as c
            where c.account_id = _shop_quantities.account_id
                and not c.dropped
        )
        select (i.sku, i.listed, i.desired_quantity, w.wanted, p.known, case
                when u.compiled is not null then amzmp._stock_calc(case when w.wanted then p.quantity else 0 end, r.held, p.lead_time,
                    p.row_values, case when w.wanted then u.compiled end, buffer, w.handling)
                else (q.stock, r.held, q.unreserved, q.offered, q.offered, q.offered, q.available, q.available, null, case
                        when q.days is null then '{}'
                        else jsonb_build_object('lead_time', q.days)
                    end, null)::amzmp.stock_calc
            end,
            -- what nobody sells any more never stays for sale
            not w.wanted or p.off or w.sends and coalesce(u.compiled -> 'send' ? 'stock', true), i.desired_terms, i.damping,
            i.sends, w.rejected)::amzmp.offer_stock
        from amzmp.inventory as i
        left join amzmp._rules_for(_shop_quantities.account_id, _shop_quantities.skus) as u on u.channel_id = 0 and u.sku = i.sku
        left join amzmp.product as o
            on (o.account_id, o.source_id, o.sku) = (i.account_id, only_source, i.sku)
        cross join lateral (
            select count(*) > 0 as wanted, coalesce(bool_or(c.sends), false) as sends, max(c.handling) as handling,
                coalesce(bool_or(l.state = 'rejected'), false) as rejected
            from place as c
            join amzmp.listing as l
                on (l.account_id, l.channel_id, l.sku) = (c.account_id, c.channel_id, i.sku)
            where l.wanted
        ) as w
        cross join lateral (
            select case
                    when only_source is null or u.compiled is not null then amzmp._shop_stock(i.account_id, i.sku, u.compiled)
                end as row
            offset 0 -- so that it is called once
        ) as s
        cross join lateral (
            select coalesce((s.row).known, o.sku is not null) as known, coalesce((s.row).off, o.gone or o.active is false, false) as off,
                case
                    when (s.row).known is not null then (s.row).quantity
                    when o.gone or o.active is false then 0
                    else o.quantity
                end as quantity,
                case when (s.row).known is not null then (s.row).lead_time when not o.gone then o.lead_time end as lead_time,
                (s.row).row_values
            offset 0
        ) as p
        cross join lateral (
            select coalesce(sum(v.quantity), 0) as held
            from amzmp.reservation as v
            where v.account_id = i.account_id
                and v.sku = i.sku
                and v.released_at is null
        ) as r
        cross join lateral amzmp._plain_stock(case when w.wanted then p.quantity else 0 end, r.held, buffer,
            coalesce(p.lead_time, w.handling)) as q
        where i.account_id = _shop_quantities.account_id
            and i.sku = any (_shop_quantities.skus)
            and i.fulfillment_channel = 'DEFAULT'
    );
end
$$;

create type amzmp.shop_stock as (known boolean, off boolean, quantity numeric, lead_time integer, row_values jsonb);

comment on type amzmp.shop_stock is 'Inner: what the rows of all sources say about the stock of a SKU.';

-- The shop's stock of a SKU, or what a rule takes instead of the source's quantity; row_values only where there are rules.
create function amzmp._shop_stock(account_id bigint, sku text, rules jsonb)
    returns amzmp.shop_stock
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    stock amzmp.shop_stock;
begin
    select count(*) > 0, coalesce(bool_and(q.gone or q.active is false), false),
        coalesce(
            min(case when q.gone or q.active is false then 0 else n.quantity end) filter (where s.channel_id = 0),
            min(n.quantity) filter (where not q.gone and q.active is not false),
            case when bool_and(q.gone or q.active is false) then 0 end
        ),
        coalesce(max(q.lead_time) filter (where s.channel_id = 0 and not q.gone), max(q.lead_time) filter (where not q.gone)),
        (array_agg(n.row_values order by s.channel_id, s.source_id) filter (where not q.gone))[1]
    into stock
    from amzmp.source as s
    join amzmp.product as q
        on (q.account_id, q.source_id, q.sku) = (s.account_id, s.source_id, _shop_stock.sku)
    cross join lateral (
        select v.row_values,
            case when rules ? 'quantity' then floor(amzmp._amount(rules -> 'quantity', v.row_values)) else q.quantity end as quantity
        from (select case when rules is not null then amzmp._row_values(q) end as row_values) as v
    ) as n
    where s.account_id = _shop_stock.account_id;
    return stock;
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
        select (0, q.sku, 'stock', q.desired, (q.calc).available, not q.listed or not q.wanted, null)::amzmp.desired_change
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
    cross join lateral (
        select case when s.known and s.wanted then amzmp._first_or_known((s.calc).terms, s.terms) else s.terms end as terms,
            case when s.known and s.wanted then (s.calc).damping else s.damping end as damping
    ) as n
    where (i.account_id, i.sku, i.fulfillment_channel) = (_set_stock_terms.account_id, s.sku, 'DEFAULT')
        and (n.terms, n.damping, s.sends) is distinct from (s.terms, s.damping, s.sent);
end
$$;
