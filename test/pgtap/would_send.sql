-- would_send.sql
-- A rehearsal shows exactly what is sent after the commit, and sends nothing itself; what was rolled back sends nothing.

\ir connection_setup.psql

select amzmp.create_account('seller', 'EU', 'app', 'A1DEMOSELLER', mode => 'mock', endpoint => simulator(), rate_scale => 0) as account_id \gset
select amzmp.set_credentials('seller', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo') \g /dev/null
select amzmp.create_channel('DE', 'seller', 'DE') as de \gset
select amzmp.set('seller', 'keep_bodies', 'true') \g /dev/null
select amzmp.activate('seller'), amzmp.activate('DE') \g /dev/null

create role shop login;
create role other login;
grant amzmp_operator to shop, other;
grant amzmp_admin to shop;
create schema shop authorization shop;
set session authorization shop;
create table shop.product (sku text primary key, price numeric, stock integer);
insert into shop.product select 'P' || n, 10, 5 from generate_series(1, 20) as n;
select amzmp.attach_source('DE', 'shop.product') \g /dev/null
reset session authorization;
select becomes($$(select count(*) = 20 from amzmp.product)$$, 'the shop is read');

-- Offers that are live; how they came there is not the matter here.
insert into amzmp.inventory (account_id, sku, listed, desired_quantity, remote_quantity, submitted_quantity, submitted_quantity_at)
select :account_id, 'P' || n, true, 5, 5, 5, now() - interval '1 day' from generate_series(1, 20) as n;
insert into amzmp.listing (account_id, channel_id, sku, state, asin, desired_price, remote_price, submitted_price,
    submitted_price_at, observed_price, observed_at)
select :account_id, :de, 'P' || n, 'live', 'B000000001', 10, 10, 10, now() - interval '1 day', 10, now() from generate_series(1, 20) as n;

create table public.rehearsed (sku text, operation text, body jsonb);
grant all on public.rehearsed to shop;
create function sent() returns table (sku text, operation text, body jsonb) language sql as $$
    select l.subject, l.operation, b.sent::jsonb -> 'body'
    from amzmp.request_log as l, amzmp.request_bodies('seller', l.request_id) as b
    where l.operation = 'patchListingsItem'
$$;

set session authorization shop;
select is_empty('select * from amzmp.would_send()', 'nothing changed, nothing would be sent');
begin;
update shop.product set price = 12 where sku = 'P1';
select results_eq($$select account, channel, sku, operation, body #>> '{patches,0,value,0,our_price,0,schedule,0,value_with_tax}', note from amzmp.would_send()$$,
    $$values ('seller', 'DE', 'P1', 'patchListingsItem', '12.00', null::text)$$, 'a change and its message');
select is((select count(*) from amzmp.would_send()), 1::bigint, 'asking changes nothing');
update shop.product set price = 1 where sku = 'P2';
select is((select note from amzmp.would_send() where sku = 'P2'), 'held by the brake: price 1 instead of 10 (a price changes by an unusual amount)', 'what the brake would hold');
delete from shop.product where sku = 'P3';
select is((select body #>> '{patches,0,value,0,quantity}' from amzmp.would_send() where sku = 'P3'), '0', 'a row that is gone');
rollback;
select is_empty('select * from amzmp.would_send()', 'rolled back, nothing would be sent');

begin;
savepoint before;
update shop.product set price = 12 where sku = 'P1';
rollback to before;
select is_empty('select * from amzmp.would_send()', 'nor after a savepoint');
update shop.product set stock = 4 where sku in ('P4', 'P5');
savepoint later;
update shop.product set price = 11 where sku = 'P5';
release later;
insert into public.rehearsed select sku, operation, body from amzmp.would_send();
select is((select count(*) from public.rehearsed), 2::bigint, 'one message for each');
commit;
reset session authorization;
select becomes($$(select count(*) >= 2 from amzmp.request_log where operation = 'patchListingsItem' and outcome = 'success')$$, 'after the commit it is sent');
select set_eq('select * from sent()', 'select * from public.rehearsed', 'exactly what the rehearsal had shown, and nothing else');

truncate public.rehearsed;
set session authorization shop;
begin;
select amzmp.set_rule('DE', '{"percent": 5}') is not null as done \g /dev/null
select is((select count(*) from amzmp.would_send()), 20::bigint, 'a rule for all products would reprice all of them');
rollback;
reset session authorization;
select is((select count(*) from amzmp.rule) + (select count(*) from amzmp.task where kind = 'recompute_all')
    + (select count(*) from amzmp.request where operation = 'patchListingsItem'),
    0::bigint, 'and leaves nothing behind when it is taken back');

set session authorization shop;
begin;
select amzmp.set_rule('DE', '{"percent": 5}') is not null as done \g /dev/null
insert into public.rehearsed select sku, operation, body from amzmp.would_send();
commit;
reset session authorization;
select becomes($$(select count(*) >= 22 from amzmp.request_log where operation = 'patchListingsItem' and outcome = 'success')$$, 'after the commit it does');
select set_eq($$select * from sent() where body #>> '{patches,0,path}' = '/attributes/purchasable_offer' and body #>> '{patches,0,value,0,our_price,0,schedule,0,value_with_tax}' in ('10.50', '11.55')$$,
    'select * from public.rehearsed', 'exactly as rehearsed');

-- Who may ask.
grant usage on schema shop to other;
grant all on shop.product to other;
set session authorization other;
begin;
update shop.product set price = 12 where sku = 'P1';
select throws_ok('select * from amzmp.would_send()', 'AZ204', 'only role "shop" can rehearse this', 'nobody else runs the shop''s functions');
rollback;
reset session authorization;
begin;
update shop.product set price = 12 where sku = 'P1';
select throws_ok('select * from amzmp.would_send()', 'AZ204', 'only role "shop" can rehearse this', 'not even a superuser');
rollback;

-- More than single calls manage soon.
update amzmp.account set rate_scale = 1;
select amzmp.set('seller', v.name, v.value)
from (values ('feed_minimum', '5'), ('feed_expected', '1 s'), ('brake_minimum', '1000')) as v (name, value)
\g /dev/null
set session authorization shop;
begin;
update shop.product set price = 12.5 where sku not in ('P1', 'P2', 'P3', 'P4', 'P5');
select results_eq($$select count(*), count(body) = count(*), count(note) between 1 and 14, min(note) from amzmp.would_send()$$,
    $$values (15::bigint, true, true, 'a feed may carry it, so many changes are there')$$, 'what a feed may carry is told as well');
rollback;
reset session authorization;

-- What ran in transactions that were rolled back is not in pgTAP's books.
\echo 1..18
