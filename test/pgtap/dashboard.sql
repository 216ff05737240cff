-- dashboard.sql
-- The eight figures, against a plain count by their definitions: before anything was counted, while rows have changed
-- since, after counting, when SKUs and sources go; and sku_diff with the condition that fails.

begin;
\ir listing_setup.psql

update amzmp.source set expressions = '{"sku": "sku", "price": "price", "quantity": "stock", "category": "category", "image": "image"}';

-- The shop's row, offered or not.
create function row_of(sku text, price numeric, quantity bigint, category text default 'mugs', image text default 'https://shop/1.jpg',
    active boolean default null, source bigint default 900001) returns void language sql as $$
    insert into amzmp.product (account_id, source_id, sku, price, quantity, category, image, active)
    select t.account_id, $7, $1, $2, $3, $4, $5, $6 from this as t
    on conflict (account_id, source_id, sku) do update
    set price = excluded.price, quantity = excluded.quantity, category = excluded.category, image = excluded.image, active = excluded.active
$$;

-- The definitions, once more and in the plainest way, for a shop whose products stand in one source of the account.
create view plain as
with p as (select * from amzmp.product where source_id = 900001 and not gone and active is not false),
sale as (
    select l.channel_id, l.sku, coalesce(i.remote_quantity, i.submitted_quantity) as quantity
    from amzmp.listing l join amzmp.inventory i using (account_id, sku)
    where l.state in ('live', 'live_with_issues') and coalesce(i.remote_quantity, i.submitted_quantity) > 0)
select c.name as channel,
    (select count(*) from p) as catalog_skus,
    (select count(*) from sale s where s.channel_id = c.channel_id) as on_sale_skus,
    (select count(*) from p where price > 0 and quantity > 0 and category <> '' and image <> ''
        and not exists (select from sale s where (s.channel_id, s.sku) = (c.channel_id, p.sku))) as missing_skus,
    (select count(*) from amzmp.listing l where l.channel_id = c.channel_id and l.listed and l.wanted
        and l.desired_price is distinct from l.remote_price) as price_diff,
    (select coalesce(sum(quantity), 0)::bigint from p) as catalog_stock,
    (select coalesce(sum(quantity), 0)::bigint from sale s where s.channel_id = c.channel_id) as on_sale_stock,
    (select coalesce(sum(quantity), 0)::bigint from p where not exists (select from sale s where (s.channel_id,
        s.sku) = (c.channel_id, p.sku))) as missing_stock,
    (select count(*) from amzmp.listing l join amzmp.inventory i using (account_id, sku)
        where l.channel_id = c.channel_id and l.listed and i.listed and i.desired_quantity is distinct from i.remote_quantity) as stock_diff
from amzmp.channel c where not c.dropped;
create view shown as
    select channel, catalog_skus, on_sale_skus, missing_skus, price_diff, catalog_stock, on_sale_stock, missing_stock,
        stock_diff from amzmp.dashboard;

-- Count to the end, portion by portion.
create function count_all() returns void language plpgsql as $$
declare
    t amzmp.task;
    acc bigint := (select account_id from this);
begin
    perform amzmp._flow_count_offers(acc, 0, null);
    loop
        delete from amzmp.task x where x.kind = 'count' returning x.* into t;
        exit when t.task_id is null;
        perform amzmp._task_count(acc, '', t.argument);
    end loop;
end
$$;
create function holds(description text) returns setof text language plpgsql as $$
begin
    return next public.results_eq('select * from shown order by 1', 'select * from plain order by 1', description);
end
$$;

/* ---- the definitions ---- */

select live('MUG', 10, 5), row_of('MUG', 10, 5) \g /dev/null
select row_of('A-PRICE', null, 4), row_of('A-STOCK', 5, 0), row_of('A-CATEGORY', 5, 3, null), row_of('A-IMAGE', 5, 2, image => ''),
    row_of('A-NEW', 5, 7), row_of('A-OFF', 5, 8, active => false) \g /dev/null
select results_eq('select * from shown order by 1', $$values ('DE', 6::bigint, 1::bigint, 1::bigint, 0::bigint, 21::bigint, 5::bigint, 16::bigint, 0::bigint),
    ('FR', 6, 0, 2, 0, 21, 0, 21, 0)$$, 'the eight figures');
select holds('are those of their definitions');
select results_eq($$select sku, failing, is_complete from amzmp.sku_diff where channel = 'DE' order by 1$$,
    $$values ('A-CATEGORY', '{NO_CATEGORY}'::text[], false), ('A-IMAGE', '{NO_IMAGE}', false), ('A-NEW', '{NOT_PUBLISHED}', true), ('A-PRICE', '{NO_PRICE}', false),
             ('A-STOCK', '{NO_STOCK}', false)$$, 'sku_diff names the condition that fails');
select isnt_empty('select * from amzmp.uncounted_sku', 'nothing is counted yet');
select count_all() \g /dev/null
select is_empty('select * from amzmp.uncounted_sku', 'everything is counted');
select is_empty('select u.* from amzmp.channel as c, amzmp._unsettled_figures(c.account_id, c.channel_id) as u', 'so nothing has to be looked at');
select holds('and the figures are the same');
select is((select count(*) from amzmp.sku_diff), 5 + 6::bigint, 'so is sku_diff');
update amzmp.source set expressions = '{"sku": "sku", "price": "price", "quantity": "stock"}';
update amzmp.product set price = 6 where sku in ('A-CATEGORY', 'A-IMAGE');
update amzmp.product set counted = null where sku in ('A-CATEGORY', 'A-IMAGE');
select is(d.missing_skus, 3::bigint, 'a source without categories and images is not asked for them') from amzmp.dashboard as d where d.channel = 'DE';
update amzmp.source set expressions = '{"sku": "sku", "price": "price", "quantity": "stock", "category": "category", "image": "image"}';

/* ---- changes by every way ---- */

select count_all() \g /dev/null
select shop('MUG', 12, 9) \g /dev/null
select row_of('MUG', 12, 9) \g /dev/null
select holds('a change of the shop shows at once');
select is((select price_diff + stock_diff from amzmp.dashboard where channel = 'DE'), 2::bigint, 'as two differences');
select count(*) from claim('patchListingsItem') \g /dev/null
select accept('patchListingsItem') \g /dev/null
select holds('an answer too');
select amzmp._stock_moved(:account_id, '{MUG}', '{4}', array[now() + interval '1 minute']) \g /dev/null
select holds('an order too');
select live('HAT', 20, 3, :fr), row_of('HAT', 20, 3) \g /dev/null
select holds('a SKU that is new too');
select isnt_empty('select * from amzmp.uncounted_sku', 'none of which was counted');
select amzmp._count_skus(:account_id, '{HAT}') \g /dev/null
select holds('when a part of them is counted, too');
select count_all() \g /dev/null
select holds('and when all are');
select amzmp._enter(:account_id, array[(:de, 'MUG', 'rejected', 'no', null)::amzmp.new_state]) \g /dev/null
select holds('what is rejected is not on sale');
select results_eq($$select failing, reason from amzmp.sku_diff where channel = 'DE' and sku = 'MUG'$$, $$values ('{REJECTED}'::text[], 'no')$$, 'and named so');
select amzmp._enter(:account_id, array[(:de, 'MUG', 'live', null, null)::amzmp.new_state]) \g /dev/null
update amzmp.inventory set remote_quantity = 0 where sku = 'MUG';
select results_eq($$select failing from amzmp.sku_diff where channel = 'DE' and sku = 'MUG'$$, $$values ('{NO_STOCK_AT_AMAZON}'::text[])$$, 'so is one without stock there');
select results_eq('select * from amzmp.dashboard order by channel', 'select * from amzmp.dashboard order by channel', 'reading changes nothing');

/* ---- many, at random, counted now and then ---- */

select setseed(0.42) \g /dev/null
create function storm() returns text language plpgsql as $$
declare
    n integer;
    wrong integer := 0;
begin
    for n in 1 .. 60 loop
        perform row_of('R' || i, nullif(floor(random() * 3)::numeric, 0), floor(random() * 4)::bigint, nullif('c', substr('cx', 1 + (random() * 1.99)::integer, 1)),
            'i', random() < 0.8) from generate_series(1, 5) as g, lateral (select floor(random() * 30) as i) as x;
        insert into amzmp.inventory (account_id, sku, listed, desired_quantity, remote_quantity, submitted_quantity)
        select t.account_id, 'R' || n % 30, true, 1, nullif(floor(random() * 5)::integer - 1, -1), null from this as t
        on conflict on constraint inventory_pkey do update set remote_quantity = excluded.remote_quantity;
        insert into amzmp.listing (account_id, channel_id, sku, state, desired_price, remote_price)
        select t.account_id, case when random() < 0.5 then t.de else t.fr end, 'R' || n % 30, (array['live', 'live_with_issues', 'queued', 'rejected', 'off_sale'])[1 + floor(random() * 5)::integer], 1, 1 from this as t
        on conflict on constraint listing_pkey do update set state = excluded.state;
        update amzmp.product set gone = not gone where sku = 'R' || (n * 7) % 30;
        if n % 4 = 0 then
            perform amzmp._count_skus((select account_id from this), amzmp._next_to_count((select account_id from this), '', false, 3));
        end if;
        if n % 20 = 0 then
            perform count_all();
        end if;
        wrong := wrong + (exists (table shown except table plain) or exists (table plain except table shown))::integer;
    end loop;
    return public.is(wrong, 0, 'whatever changes, and however much of it is counted, the figures are right');
end
$$;
select storm();

/* ---- what goes ---- */

select amzmp.create_channel('IT', 'seller', 'IT') \g /dev/null
select holds('a new channel has its figures at once');
select count_all() \g /dev/null
select holds('and when they are kept');
select is((select count(*) from amzmp.figure_channel where complete), 3::bigint, 'all channels are');
delete from amzmp.product where sku between 'R1' and 'R2';
select amzmp._recount(:account_id) \g /dev/null
select holds('after a source is detached they are counted anew');
select count_all() \g /dev/null
select holds('and kept again');
select is_empty($$select sku from amzmp.sku_figure as f where sku between 'R1' and 'R2' and state = 'not_listed'$$, 'without what is gone');
select results_eq('select channel_id, state, in_catalog, on_sale, complete, skus, stock, on_sale_stock from amzmp.figure where skus <> 0 order by 1, 2, 3, 4, 5',
    $$select channel_id, state, in_catalog, on_sale, lacks = '{}', count(*), sum(stock), sum(on_sale_stock)::numeric from amzmp.sku_figure group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5$$,
    'the sums are those of the SKUs');

/* ---- who may see ---- */

create role limited;
grant amzmp_reader to limited;
grant usage on schema listing_test to limited;
select amzmp.create_account('other', 'EU', 'listing_app', 'A2SELLER', 'mock', 'http://127.0.0.1:9') as other_id \gset
select amzmp.create_channel('ES', 'other', 'ES') \g /dev/null
select amzmp.limit_role('limited', '{other}') \g /dev/null
set local role limited;
select results_eq('select channel, catalog_skus from amzmp.dashboard', $$values ('ES', 0::bigint)$$, 'a limited role sees its own channels');
select is_empty('select * from amzmp.sku_diff', 'and SKUs');
reset role;

select * from finish();
rollback;
