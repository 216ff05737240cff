/*
 * alternate_sku.sql
 *	  Several offers of one product: under other SKUs, with prices, conditions and shippers of their own.
 *
 * Each SKU is a row of its own to amzmp, so an offer under a second SKU needs nothing but a view that gives the product
 * once for each SKU (amzmp.split_skus reads a column that holds several). What the offers share is the stock: products
 * with the same value stock_group (amzmp.attach_value) have one pile between them, and what orders hold of one of them
 * is not offered under another.
 */

-- The SKUs in a text: one, or several as in ||SKU-1||SKU-2||.
create function amzmp.split_skus(given text)
    returns text[]
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array(
        select btrim(s.sku)
        from regexp_split_to_table(given, '\|\|') with ordinality as s (sku, place)
        where btrim(s.sku) <> ''
        group by btrim(s.sku)
        order by min(s.place)
    )
$$;

comment on function amzmp.split_skus(text) is 'The SKUs in a text: one, or several parted by ||, as in ||SKU-1||SKU-2||. For views that give a product once for each of its SKUs.';

create index product_stock_group on amzmp.product (account_id, source_id, (extra ->> 'stock_group')) where extra ? 'stock_group';

-- Other SKUs that share the stock of these.
create function amzmp._stock_siblings(account_id bigint, skus text[])
    returns table (sku text, sibling text)
    rows 20
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if not exists (
        select from amzmp.source_value as v where v.account_id = _stock_siblings.account_id and v.name = 'stock_group'
    ) then
        return;
    end if;
    return query
    select distinct p.sku, o.sku
    from amzmp.source as s
    join amzmp.product as p on (p.account_id, p.source_id) = (s.account_id, s.source_id) and p.sku = any (_stock_siblings.skus)
    join amzmp.product as o on (o.account_id, o.source_id) = (s.account_id, s.source_id) and o.extra ->> 'stock_group' = p.extra ->> 'stock_group'
    where s.account_id = _stock_siblings.account_id
        and p.extra ? 'stock_group'
        and o.extra ? 'stock_group'
        and o.sku <> p.sku;
end
$$;

-- Take from each quantity what orders hold of the same pile under other SKUs.
create function amzmp._share_reservations(account_id bigint, stocks amzmp.offer_stock[])
    returns amzmp.offer_stock[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    held record;
    stock amzmp.offer_stock;
    calc amzmp.stock_calc;
    place integer;
begin
    -- a loop because this concerns few SKUs, and a field of one of them
    for held in
        select b.sku, sum(v.quantity) as quantity
        from amzmp._stock_siblings(_share_reservations.account_id, array(select s.sku from unnest(stocks) as s)) as b
        join amzmp.reservation as v on (v.account_id, v.sku) = (_share_reservations.account_id, b.sibling)
        where v.released_at is null
        group by b.sku
    loop
        place := array_position(array(select s.sku from unnest(stocks) with ordinality as s order by s.ordinality), held.sku);
        stock := stocks[place];
        calc := stock.calc;
        if calc.available is not null then    -- greatest is not null for a null
            calc.available := greatest(calc.available - held.quantity, 0);
        end if;
        stock.calc := calc;
        stocks[place] := stock;
    end loop;
    return stocks;
end
$$;

comment on function amzmp._share_reservations(bigint, amzmp.offer_stock[]) is 'Inner: quantities of SKUs that share a pile, less what orders hold of it under the other SKUs.';
