-- recompute.sql
-- What follows from a change of the shop's rows: what of them changed is noted, and only what can follow is computed.

begin;
\ir listing_setup.psql

select amzmp.set('seller', 'brake_drop', '1'), amzmp.set('seller', 'brake_rise', '1000') \g /dev/null

/* ---- what of the rows is new ---- */

-- The source gives these rows.
create function gives(variadic given text[]) returns amzmp.source_news language sql volatile as $$
    select amzmp._store_rows(s, array(
        select (g.sku, g.price, g.quantity, g.title, null, null, null, null, null, null, null, null, null)::amzmp.shop_row
        from unnest(given) as r
        cross join lateral (
            select a[1] as sku, a[2]::numeric as price, a[3]::bigint as quantity, a[4] as title from string_to_array(r, ',') as a
        ) as g
    ), '{"role": "shop"}')
    from amzmp.source as s
    where s.source_id = 900001
$$;
create function news(given amzmp.source_news) returns text language sql as $$
    select coalesce((select string_agg(s, ' ' order by s) from unnest(given.skus) as s), '')
        || case when given.skus <> '{}' then ': ' || array_to_string(given.facets, ' ') else '' end
$$;

select is(news(gives('CUP,5,1', 'JUG,9,3')), 'CUP JUG: price stock', 'rows that are new say everything');
select is(news(gives('CUP,5,1', 'JUG,9,3')), '', 'those that are as they were say nothing');
select is(news(gives('CUP,5,1', 'JUG,9,3', 'PAN,7,7')), 'PAN: price stock', 'one that is new among others that are not');
select is(news(gives('CUP,6,1', 'JUG,8,3')), 'CUP JUG: price', 'from prices follow prices');
select is(news(gives('CUP,6,2', 'JUG,8,3')), 'CUP: stock', 'from a quantity stock');
select is(news(gives('CUP,7,2', 'JUG,8,2')), 'CUP JUG: price stock', 'from either both');
select is(news(gives('CUP,8,1')), 'CUP: price stock', 'one row can change in both');
select is(news(gives('CUP,8,1,Cup')), 'CUP: price stock', 'from anything else may follow anything');
select is(news(gives('CUP,9,1,Cup', 'CUP,8,1,Cup')), '', 'a SKU with two rows has none');
select is(news(gives(',9,1', 'JUG,8,1')), 'JUG: stock', 'a row without a SKU is nothing');
select results_eq($$select sku, price, quantity, title, changed from amzmp.product where source_id = 900001 order by sku$$,
    $$values ('CUP', 8.0, 1::bigint, 'Cup', 'all'), ('JUG', 8, 1, null, 'quantity'), ('PAN', 7, 7, null, 'all')$$,
    'the rows are as they were given, and say what changed last');
update amzmp.product set gone = true where sku = 'PAN';
select is(news(gives('PAN,8,7')), 'PAN: price stock', 'a row that is back says everything');
update amzmp.product set missing = true where sku = 'PAN';
select is(news(gives('PAN,8,7')), 'PAN: price stock', 'so does one that a comparison missed');
select is(missing or gone, false, 'which it does no longer') from amzmp.product where sku = 'PAN';

/* ---- only what can follow is computed ---- */

select live('MUG', 10, 20) \g /dev/null
create function computes(price numeric, quantity bigint, touched text[]) returns text language plpgsql as $$
begin
    update amzmp.product as p set price = computes.price, quantity = computes.quantity where p.sku = 'MUG';
    perform amzmp._recompute((select account_id from this), '{MUG}', '{"role": "shop"}', null, touched);
    return (
        select concat_ws(' ', l.desired_price::numeric(10, 2), i.desired_quantity)
        from amzmp.listing as l join amzmp.inventory as i using (account_id, sku)
        where (l.channel_id, l.sku) = ((select de from this), 'MUG')
    );
end
$$;
select is(computes(11, 21, '{price}'), '11.00 20', 'from prices follow no quantities');
select is(computes(12, 22, '{stock}'), '11.00 22', 'from quantities no prices');
select is(computes(13, 23, '{price,stock}'), '13.00 23', 'from all else both');

create function penalties() returns text language sql volatile as $$
    select coalesce(string_agg(p.code, ' ' order by p.code), '') from amzmp.penalty as p where p.subject = 'MUG'
$$;
select computes(null, null, '{price,stock}') \g /dev/null
select is(penalties(), 'NO_PRICE NO_STOCK', 'what the shop does not say is told');
select computes(14, null, '{price}') \g /dev/null
select is(penalties(), 'NO_STOCK', 'a price mends the lack of a price');
select computes(null, null, '{price}') \g /dev/null
select computes(null, 24, '{stock}') \g /dev/null
select is(penalties(), 'NO_PRICE', 'a quantity that of a quantity');

select amzmp.set_rule('seller', '{"quantity": "price * 2"}') \g /dev/null
select is(computes(15, 25, '{price}'), '15.00 30', 'with a rule anything may follow from anything');

select * from finish();
rollback;
