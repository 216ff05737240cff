-- capture.sql
-- The shop as a user attaches it: what is refused and how that is said, and that whatever the shop does arrives in
-- amzmp.product, through tables, views and partitions. Runs in autocommit: only what is committed is captured.

set client_min_messages = warning;
select no_plan();

-- Wait until a condition holds; the name of a test that never came true is worth more than a time-out's.
create function becomes(condition text, description text) returns text
language plpgsql as $$
declare
    holds boolean := false;
begin
    for i in 1 .. 300 loop
        execute 'select ' || condition into holds;
        exit when holds;
        perform pg_catalog.pg_sleep(0.1);
    end loop;
    return public.ok(holds, description);
end
$$;

select amzmp.create_application('app', 'amzn1.application-oa2-client.0123456789abcdef') > 0 as application;
select amzmp.create_account('acc', 'EU', 'app', mode => 'mock', endpoint => 'http://127.0.0.1:9',
    token_endpoint => 'http://127.0.0.1:9/token') > 0 as account;
select amzmp.create_account('acc2', 'EU', 'app', mode => 'mock', endpoint => 'http://127.0.0.1:9',
    token_endpoint => 'http://127.0.0.1:9/token') > 0 as account;
select amzmp.create_channel('de', 'acc', 'DE') > 0 as channel;

create role shop login;
create role other login;
create role group_role nologin;
grant amzmp_operator to shop, other, group_role;
create schema shop authorization shop;

set session authorization shop;
create table shop.product (
    sku text primary key, price numeric(10, 2), stock integer, title text, sold_as text, active boolean, note text
);
insert into shop.product (sku, price, stock, title) select 'S' || i, i, i, 'title ' || i from generate_series(1, 5000) as i;

-- What cannot be attached.
select throws_ok($$select amzmp.attach_source('acc', 'shop.product', price => 'prize')$$, 'AZ202',
    'price => ''prize'' cannot be read from shop.product', 'a missing column is named');
select throws_ok($$select amzmp.attach_source('acc', 'shop.product', sku => 'id')$$, 'AZ202',
    'sku => ''id'' cannot be read from shop.product', 'so is a missing key column');
select throws_ok($$select amzmp.attach_source('acc', 'shop.product', price => 'title')$$, 'AZ202',
    'price => ''title'' is of type text', 'a price must be a number');
select throws_ok($$select amzmp.attach_source('acc', 'shop.product', active => 'stock')$$, 'AZ202',
    'active => ''stock'' is of type integer', 'active must be a condition');
select throws_ok($$select amzmp.attach_source('acc', 'shop.product', price => 'price) from shop.product; drop table shop.product; --')$$,
    'AZ202', null, 'an expression is one expression');
select throws_ok($$select amzmp.attach_source('acc', 'shop.product', price => '1), (2')$$,
    'AZ202', null, 'and not two');
select throws_ok(format($$select amzmp.attach_source('acc', 'shop.product', price => %L)$$, e), 'AZ202',
    format('price => %L is about several rows', e), 'an expression is about one row: ' || e)
    from unnest('{sum(price),rank() over (order by price),"generate_series(1, 2)"}'::text[]) as e;
select throws_ok($$select amzmp.attach_source('nobody', 'shop.product')$$, 'AZ201', null, 'the account must exist');
select throws_ok($$select amzmp.attach_source('acc', 'shop.product', run_as => 'other')$$, 'AZ202',
    'only a superuser can attach a source for role "other"', 'nobody lends himself another''s rights');
select throws_ok($$select amzmp._register_source('acc', 'x', '{}', '', null, '', '', null, 'shop')$$, '42501', null,
    'the inner function is closed');
select throws_ok(
    $$select amzmp.register_source('acc', 'shop.product', '{}', 'null', null, 'sku', 'text', null, 'other')$$, 'AZ202', null,
    'and the outer one believes nobody');
reset session authorization;
select throws_ok($$select amzmp.attach_source('acc', 'shop.product')$$, 'AZ202', 'role "postgres" cannot read a source',
    'no source is read as a superuser');
select throws_ok($$select amzmp.attach_source('acc', 'shop.product', run_as => 'group_role')$$, 'AZ202',
    'role "group_role" cannot read a source', 'nor as a role that cannot log in');
select throws_ok($$select amzmp.attach_source('acc', 'shop.product', run_as => 'other')$$, 'AZ202', null,
    'nor as one that may not read the table');
select throws_ok($$select amzmp.attach_source('acc', 'pg_class', sku => 'relname', run_as => 'shop')$$, 'AZ202', 'pg_class is no relation of a shop',
    'the server''s own tables are no shop');
select throws_ok($$select amzmp.attach_source('acc', 'amzmp.account', sku => 'name', run_as => 'shop')$$, 'AZ202',
    'amzmp.account is no relation of a shop', 'nor are ours');
select is_empty('select from amzmp.source', 'nothing was left behind');

-- A table.
set session authorization shop;
select ok(amzmp.attach_source('acc', 'shop.product', title => 'title', filter => 'note is distinct from ''draft''') > 0, 'a table is attached');
select throws_ok($$select amzmp.attach_source('acc', 'shop.product')$$, 'AZ203', null, 'but not twice');
select ok(amzmp.attach_source('acc2', 'shop.product', price => 'price * 2', quantity => 'stock / 2.0') > 0, 'another account may have it too');
select is((select count(*)::integer from pg_trigger where tgrelid = 'shop.product'::regclass and tgname ~ '^amzmp_capture_\d'), 1,
    'several sources share one trigger');
select is((select array_agg(tgenabled::text) from pg_trigger where tgrelid = 'shop.product'::regclass), '{A,A}', 'which fires always');
reset session authorization;
create function first_source() returns bigint language sql as $$select min(source_id) from amzmp.source$$;
create function second_source() returns bigint language sql as $$
    select s.source_id from amzmp.source s join amzmp.account a using (account_id) where a.name = 'acc2'
$$;
create function read(sku text, source_id bigint default first_source()) returns text language sql stable as $$
    select case when p.gone then 'gone' else concat_ws(' ', p.price, p.quantity, p.title) end
      from amzmp.product p where p.source_id = $2 and p.sku = $1
$$;
select becomes($$(select count(*) = 10000 from amzmp.product)$$, 'all rows are read for both');
select becomes($$(select bool_and(rescan_finished_at is not null and rescan_due > now()) from amzmp.source)$$, 'and the comparison ends');

-- A comparison whose statement knew less than what is asked for by now is made again; however long it took to say so.
begin;
set local role shop;
select count(p) from (select source_id from amzmp.source order by source_id limit 1) s, amzmp.rescan_position(s.source_id, '2000-01-01') p \g /dev/null
reset role;
select is((select rescan_requested_at - rescan_started_at from amzmp.source where rescan_started_at is not null), interval '1 microsecond',
    'an older statement''s comparison counts as begun before the request');
rollback;
select is(read('S7'), '7.00 7 title 7', 'as the first account reads them');
select is(read('S7', second_source()), '14.00 3', 'and the second: fractions of stock are rounded down');

update shop.product set price = 70 where sku = 'S7';
select becomes($$read('S7') = '70.00 7 title 7' and read('S7', second_source()) = '140.00 3'$$, 'a price change arrives at both');
select is((select cause ->> 'role' from amzmp.product where source_id = first_source() and sku = 'S7'), 'postgres', 'with who made it');
delete from shop.product where sku = 'S8';
select becomes($$read('S8') = 'gone'$$, 'a deleted row is gone');
update shop.product set sku = 'T9' where sku = 'S9';
select becomes($$read('S9') = 'gone' and read('T9') = '9.00 9 title 9'$$, 'a changed key is two products');
update shop.product set note = 'draft' where sku = 'S10';
select becomes($$read('S10') = 'gone'$$, 'a row that the filter refuses is gone');
update shop.product set note = null where sku = 'S10';
select becomes($$read('S10') = '10.00 10 title 10'$$, 'and comes back');
insert into shop.product (sku, price, stock) values ('N1', 1, 1);
select becomes($$read('N1') = '1.00 1'$$, 'a new row is read');
set amzmp.capture_max_keys = 0;
update shop.product set stock = 500 where sku in ('S11', 'S12');
reset amzmp.capture_max_keys;
select becomes($$read('S11') = '11.00 500 title 11' and read('S12') = '12.00 500 title 12'$$, 'so is what was only marked');

-- Foreign keys into somebody else's source: the trigger function is for everybody, his numbers are not.
set session authorization other;
create temporary table forged (sku text);
create trigger forged after insert on forged for each row execute function amzmp.capture('1', '', 'sku');
insert into forged values ('S20'), ('nonsense');
select throws_ok($$select * from amzmp.take_changes(1)$$, '42501', null, 'nobody takes another''s changes');
select throws_ok($$select amzmp.take_rows(1, '{S20}', '{}', '{}')$$, '42501', null, 'nor hands in his rows');
select throws_ok($$select amzmp.detach_source('acc', 'shop.product')$$, null, null, 'nor detaches his source');
set session authorization shop;
select throws_ok($$select amzmp.reading_failed(1, 'XX000', 'a lie')$$, '42501', 'only a runner says why a source could not be read',
    'not even its own role says that a source fails');
reset session authorization;
update shop.product set price = 21 where sku = 'S21';
select becomes($$read('S21') = '21.00 21 title 21' and not exists (select from amzmp.change)$$, 'a forged key is dropped');
select isnt(read('S20'), 'gone', 'and does nothing');

-- An empty relation, a missing one and a hidden row hold what is known.
alter table shop.product rename to product_away;
update shop.product_away set price = 22.5 where sku = 'S22';
select becomes($$(select state = 'failing' and last_error ~ 'does not exist' from amzmp.source where source_id = first_source())$$,
    'a source that is not there is failing');
select is((select count(*)::integer from amzmp.product where source_id = first_source() and gone), 2, 'its products stay');
alter table shop.product_away rename to product;
select becomes($$read('S22') = '22.50 22 title 22' and (select state = 'ok' from amzmp.source where source_id = first_source())$$,
    'it is read again by itself, and nothing was lost');
-- A failure waits ever longer for its next try; what may mend it makes that now.
create function put_off() returns void language sql as $$update amzmp.source set retry_at = now() + interval '1 hour' where state = 'failing'$$;
alter table shop.product rename column price to cost;
update shop.product set stock = 24 where sku = 'S24';
select becomes($$(select state = 'failing' from amzmp.source where source_id = first_source())$$, 'a renamed column makes its source fail');
select put_off();
alter table shop.product rename column cost to price;
select becomes($$(select state = 'ok' from amzmp.source where source_id = first_source())$$, 'renamed back it is read at once');

alter table shop.product enable row level security;
alter table shop.product force row level security;
create policy few on shop.product for select using (stock > 100);
update shop.product set price = 23.5 where sku = 'S23';
select becomes($$(select state = 'failing' and last_error ~ 'row-level security' from amzmp.source where source_id = first_source())$$,
    'rows that a policy would hide are an error');
alter table shop.product disable row level security;
select amzmp.rescan('acc', 'shop.product');
select becomes($$read('S23') = '23.50 23 title 23'$$, 'and no product vanished meanwhile');
create table kept as table shop.product;
truncate shop.product;
select becomes($$(select state = 'failing' and last_error = 'shop.product has no rows' from amzmp.source where source_id = first_source())$$,
    'a truncated table holds its products');
select is((select count(*)::integer from amzmp.product where source_id = first_source() and gone), 2, 'all of them');
insert into shop.product select * from kept where sku <> 'S30';
select amzmp.rescan('acc');
select becomes($$read('S30') = 'gone' and read('S31') = '31.00 31 title 31'$$, 'a comparison finds what is missing');

-- Views, with the tables behind them.
set session authorization shop;
create table shop.article (id bigint primary key, code varchar(20), name text);
create table shop.price_list (line serial primary key, article bigint, amount numeric);
insert into shop.article select i, 'V' || i, 'n' from generate_series(1, 50) as i;
insert into shop.price_list (article, amount) select i, i from generate_series(1, 50) as i;
create view shop.offer as
    select a.id as article, a.code, l.amount from shop.article a join shop.price_list l on l.article = a.id;
select amzmp.attach_source('de', 'shop.offer', sku => 'code', price => 'amount', quantity => null) > 0 as attached;
select throws_ok($$select amzmp.watch('de', 'shop.price_list', 'nothing')$$, 'AZ202', 'shop.price_list has no column "nothing"',
    'a watched key column must be there');
select throws_ok($$select amzmp.watch('de', 'shop.offer', 'code')$$, 'AZ202', 'shop.offer is not a table', 'a view cannot be watched');
select throws_ok($$select amzmp.watch('de', 'shop.price_list', 'article', via => 'code')$$, 'AZ202', null,
    'key and via must be comparable');
select lives_ok($$select amzmp.watch('de', 'shop.price_list', 'article', via => 'article')$$, 'a table behind it is watched by another key');
select lives_ok($$select amzmp.watch('de', 'shop.article', 'code')$$, 'and one by the SKU');
reset session authorization;
create function offer_source() returns bigint language sql as $$select source_id from amzmp.source where relation = 'shop.offer'$$;
select becomes($$(select count(*) = 50 from amzmp.product_key where source_id = offer_source())$$, 'it remembers which row depends on which key');
select becomes($$(select rescan_due > now() from amzmp.source where source_id = offer_source())$$, 'the view is compared');
update shop.price_list set amount = 99 where article = 7;
select becomes($$read('V7', offer_source()) = '99'$$, 'a change behind the view arrives');
delete from shop.price_list where article = 8;
select becomes($$read('V8', offer_source()) = 'gone'$$, 'so does a row that the view loses by it');
insert into shop.price_list (article, amount) values (8, 8.5);
select becomes($$read('V8', offer_source()) = '8.5'$$, 'and one that it gains');
update shop.article set code = 'W9' where id = 9;
select becomes($$read('V9', offer_source()) = 'gone' and read('W9', offer_source()) = '9'$$, 'and one that is called otherwise');
insert into shop.price_list (article, amount) values (10, 1);
select becomes($$exists (select from amzmp.activity where subject = 'V10' and message ~ '2 rows for this SKU')$$, 'a SKU with two rows is reported');
select is(read('V10', offer_source()), '10', 'and stays as it was');

-- Partitions and a key that is no SKU.
set session authorization shop;
create table shop.parted (id integer, stock integer) partition by range (id);
create table shop.parted_1 partition of shop.parted for values from (0) to (100);
create table shop.parted_2 partition of shop.parted for values from (100) to (200);
insert into shop.parted select i, i from generate_series(1, 150) as i;
select amzmp.detach_source('acc2', 'shop.product');
select amzmp.attach_source('acc2', 'shop.parted', sku => '''P'' || id', price => null) as parted \gset
reset session authorization;
select becomes(format($$(select count(*) = 150 from amzmp.product where source_id = %s)$$, :parted), 'a partitioned table is read');
update shop.parted set stock = 7 where id = 120;
select becomes(format($$read('P120', %s) = '7'$$, :parted), 'a change in a partition arrives, though its SKU is an expression');
delete from shop.parted where id = 121;
select becomes(format($$read('P121', %s) = 'gone'$$, :parted), 'a deleted row is found by the key that it had');
truncate shop.parted_2;
select becomes(format($$read('P130', %s) = 'gone' and read('P99', %s) = '99'$$, :parted, :parted), 'a truncated partition is compared');

-- Rows without a SKU.
set session authorization shop;
create table shop.nameless (sku text, price numeric, stock integer);
insert into shop.nameless values (null, 1, 1), ('', 2, 2), ('named', 3, 3);
select amzmp.attach_source('acc2', 'shop.nameless') as nameless \gset
reset session authorization;
select becomes(format($$(select rescan_finished_at is not null from amzmp.source where source_id = %s)$$, :nameless), 'rows without a SKU hold nothing up');
select is((select array_agg(sku) from amzmp.product where source_id = :nameless), '{named}', 'the others are read');
select is((select context ->> 'rows_seen' from amzmp.activity where message = 'shop.nameless has rows without a SKU; none of them is used'), '2',
    'and that there are some is told');

-- Detaching.
set session authorization shop;
select amzmp.detach_source('de');
select is_empty($$select from pg_trigger where tgrelid in ('shop.article'::regclass, 'shop.price_list'::regclass) and tgname ~ 'amzmp'$$,
    'triggers go with the last source');
select amzmp.detach_source('acc2', 'shop.parted');
select amzmp.detach_source('acc2', 'shop.nameless');
select is_empty($$select from pg_trigger where tgrelid in ('shop.parted'::regclass, 'shop.parted_1'::regclass, 'shop.parted_2'::regclass)$$,
    'also those of partitions');
reset session authorization;
select is((select count(*)::integer from amzmp.watched), 1, 'and are forgotten');

-- Whoever drops the extension keeps his shop.
drop extension amzmp cascade;
select lives_ok($$update shop.product set price = 1$$, 'without the extension the shop goes on');
select * from finish();
