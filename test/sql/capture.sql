-- What the trigger notes of a shop's transactions. The triggers here carry numbers that no source has, so nobody takes
-- what they note, and it can be looked at.

-- Without a sender there are only marks; it starts with the extension.
do $$
begin
    for i in 1 .. 600 loop
        exit when amzmp._processes() = 'running';
        perform pg_sleep(0.1);
    end loop;
end
$$;
select amzmp._processes();

create schema capture_test;
set search_path = capture_test;
create table shop (sku text, price numeric, stock integer, content text, note text);
create trigger amzmp_capture after insert or update or delete on shop
    for each row execute function amzmp.capture('9000001', '', 'sku', 'price', 'stock', 'content');
create trigger amzmp_capture_truncate after truncate on shop
    for each statement execute function amzmp.capture('9000001', '');

-- What the last transaction left behind.
create function noted() returns table (watched_id bigint, relation text, keys text[], key_count integer)
language sql as $$
    with c as (delete from amzmp.change where change.watched_id > 9000000 returning *)
    select c.watched_id, c.relation::regclass::text, c.keys[1:6], cardinality(c.keys) from c order by c.xid, c.part
$$;
create function marked() returns table (watched_id bigint, relation text, reason text)
language sql as $$
    with m as (delete from amzmp.rescan_mark where rescan_mark.watched_id > 9000000 returning *)
    select m.watched_id, m.relation::regclass::text, m.reason from m order by m.mark_id
$$;

-- Insert, delete, and only what is watched of an update.
insert into shop (sku, price, stock) select 'a' || i, i, i from generate_series(1, 4) as i;
select * from noted();
update shop set note = 'nobody asked', price = price + 0;
select * from noted();
update shop set price = 5 where sku = 'a1';
select * from noted();
update shop set stock = null where sku = 'a2';
select * from noted();
delete from shop where sku = 'a3';
select * from noted();

-- A changed key is two keys, and a key is noted once.
update shop set sku = 'b1' where sku = 'a1';
select * from noted();
begin;
update shop set price = 6 where sku = 'b1';
update shop set price = 7 where sku = 'b1';
update shop set stock = 7 where sku = 'b1';
commit;
select * from noted();

-- COPY, MERGE, ON CONFLICT.
copy shop (sku, price) from stdin;
c1	1
c2	2
\.
select * from noted();
merge into shop using (values ('c1', 9), ('c9', 1)) as v (sku, price) on shop.sku = v.sku
when matched then update set price = v.price
when not matched then insert (sku, price) values (v.sku, v.price);
select * from noted();
create unique index on shop (sku);
insert into shop (sku, price) values ('c1', 11), ('d1', 1) on conflict (sku) do update set price = excluded.price;
select * from noted();

-- Savepoints: what was rolled back may be noted, what was kept is.
begin;
update shop set price = price + 1 where sku = 'c1';
savepoint one;
update shop set price = price + 1 where sku = 'c2';
savepoint two;
update shop set price = price + 1 where sku = 'd1';
rollback to two;
release one;
commit;
select count(*) from noted() where keys @> '{c1,c2}';
begin;
update shop set price = 0;
rollback;
select * from noted();

-- A deferred trigger runs before the keys are written, and what it changes is noted too.
create function later() returns trigger language plpgsql as $$
begin
    update capture_test.shop set price = 77 where sku = 'c2';
    return null;
end
$$;
create constraint trigger later after update on shop deferrable initially deferred
    for each row when (new.sku = 'c1') execute function later();
update shop set stock = 6 where sku = 'c1';
select * from noted();
drop trigger later on shop;

-- Replication roles, isolation levels, and a transaction that became read only.
alter table shop enable always trigger amzmp_capture;
set session_replication_role = replica;
update shop set stock = 7 where sku = 'c1';
reset session_replication_role;
select * from noted();
begin isolation level serializable;
update shop set stock = 8 where sku = 'c1';
commit;
select * from noted();
begin;
update shop set stock = 9 where sku = 'c1';
set transaction read only;
commit;
select * from noted();

-- Values out of line are compared without being fetched.
insert into shop (sku, content) select 'toast', string_agg(md5(i::text), '') from generate_series(1, 500) as i;
select * from noted();
update shop set note = 'x' where sku = 'toast';
select * from noted();
update shop set content = content || 'x' where sku = 'toast';
select * from noted();

-- A thousand keys a row.
truncate shop;
select * from noted();
select * from marked();
insert into shop (sku, stock) select 'k' || i, i from generate_series(1, 2500) as i;
select * from noted();
begin;
update shop set stock = stock + 1;
update shop set stock = stock + 1;
commit;
select * from noted();

-- Too many, too long, none at all: the relation is to be read whole, and one mark is enough.
begin;
set local amzmp.capture_max_keys = 3;
update shop set stock = 0;
commit;
select * from noted();
select * from marked();
set amzmp.capture_max_keys = 0;
update shop set stock = 1 where sku = 'k1';
update shop set stock = 2 where sku = 'k1';
update shop set stock = 3 where sku = 'k1';
reset amzmp.capture_max_keys;
select * from marked();
insert into shop (sku) values (repeat('x', 1001));
select * from noted();
select * from marked();
insert into shop (sku, stock) values (null, 1);
select * from noted();
select * from marked();

-- A watched column is renamed: no error, but no way to tell what changed either. Renamed back it works again.
alter table shop rename column price to amount;
insert into shop (sku) values ('r1');
select * from noted();
select * from marked();
alter table shop rename column amount to price;
insert into shop (sku) values ('r2');
select * from noted();

-- Keys of other types.
create table typed (id bigint, code char(8), id2 uuid, n numeric(8, 2), v integer);
create trigger by_id after insert on typed for each row execute function amzmp.capture('9000002', '', 'id', 'v');
create trigger by_code after insert on typed for each row execute function amzmp.capture('9000003', '', 'code', 'v');
create trigger by_id2 after insert on typed for each row execute function amzmp.capture('9000004', '', 'id2', 'v');
create trigger by_n after insert on typed for each row execute function amzmp.capture('9000005', '', 'n', 'v');
insert into typed values (9007199254740993, 'ab', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 1.5, 1);
select * from noted() order by watched_id;

-- Partitions: also with other column numbers, also made later, also when a row moves.
create table parted (id integer, stock integer, note text) partition by range (id);
create table parted_1 partition of parted for values from (0) to (10);
create table parted_2 (note text, dropped integer, stock integer, id integer);
alter table parted_2 drop column dropped;
alter table parted attach partition parted_2 for values from (10) to (20);
create trigger amzmp_capture after insert or update or delete on parted
    for each row execute function amzmp.capture('9000006', '', 'id', 'stock');
create table parted_3 partition of parted for values from (20) to (30);
insert into parted values (1, 1), (11, 1), (21, 1);
select * from noted() order by relation;
update parted set id = 15 where id = 1;
select * from noted() order by relation;
update parted_2 set stock = 2;
select relation, key_count from noted();

-- Attached in no sensible way it does no harm.
create table odd (id integer);
create trigger odd after insert on odd for each row execute function amzmp.capture();
insert into odd values (1);
select * from marked();
create trigger odd_before before insert on odd for each row execute function amzmp.capture('9000007', '', 'id');
insert into odd values (2);
select amzmp.capture();

set client_min_messages = warning;
drop schema capture_test cascade;
