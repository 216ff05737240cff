#!/usr/bin/env bash
# The demo's story: a small shop goes on sale at Amazon, changes prices and stock, gets orders, ships one.
#
# Runs against the cluster and the simulator that start.sh made (PGHOST …, AMZMP_SIMULATOR_URL). Everything that the shop
# does is ordinary SQL as the role "shop"; what happens "at Amazon" is asked of the simulator's control endpoint.
set -eu -o pipefail

title() { printf '\n\033[1m%s\033[0m\n' "$*"; }
say() { printf '%s\n' "$*"; }
as_admin() { psql -Xq -v ON_ERROR_STOP=1 -U postgres "$@"; }
as_shop() { psql -Xq -v ON_ERROR_STOP=1 -P footer=off -U shop "$@"; }
value() { psql -XqAt -v ON_ERROR_STOP=1 -U shop -c "$1"; }
amazon() { curl -sS --fail-with-body -o /dev/null -d "$2" "$AMZMP_SIMULATOR_URL/_control/$1"; }

title '1. A shop in PostgreSQL: 1,000 products in a table of its own'
as_admin <<'SQL'
create role shop login;
create schema shop authorization shop;
alter role shop set search_path = shop, public;
grant amzmp_admin, amzmp_buyer_data to shop;
grant usage on schema cron to shop;
grant execute on all functions in schema cron to shop;
SQL
as_shop <<'SQL'
create table product (
    sku text primary key,
    ean text not null,
    title text not null,
    price numeric(12,2) not null,
    stock integer not null
);

-- barcodes with a right check digit
insert into product
select 'SHOP-' || to_char(i, 'FM0000'), d || (10 - sum(substr(d, k, 1)::integer * (1 + 2 * ((k + 1) % 2))) % 10) % 10,
       'Thing number ' || i, 9.90 + i % 50, 5 + i % 30
  from generate_series(1, 1000) i, cast((401234500000 + i)::text as text) d, generate_series(1, 12) k
 group by i, d;

create table sale (number bigserial primary key, amazon_order text not null unique, total numeric, buyer_town text);
create function take_order(account_id bigint, amazon_order_id text) returns text
    language sql
    begin atomic
    insert into sale (amazon_order, total)
    select o.amazon_order_id, o.grand_total from amzmp.orders o
     where (o.account_id, o.amazon_order_id) = (take_order.account_id, take_order.amazon_order_id)
    returning 'S-' || number;
    end;

select * from product order by sku limit 3;
SQL

title '2. Connect: a mock account in Europe with channels for Germany and France'
as_admin -c "select amzmp.create_key() as key_made"
as_shop -o /dev/null -v url="$AMZMP_SIMULATOR_URL" <<'SQL'
select amzmp.create_application('demo-app', 'amzn1.application-oa2-client.demo');
select amzmp.create_account('europe', 'EU', 'demo-app', seller_id => 'A1DEMOSELLER', mode => 'mock', endpoint => :'url');
select amzmp.set_credentials('europe', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo');
select amzmp.create_channel('amazon.de', 'europe', 'DE');
select amzmp.create_channel('amazon.fr', 'europe', 'FR');
select amzmp.attach_source('europe', 'product', title => 'title', ean => 'ean');
select amzmp.reduce_stock('europe', 'product');
select amzmp.deliver_orders_to('amazon.de', 'take_order(bigint,text)');
select amzmp.deliver_orders_to('amazon.fr', 'take_order(bigint,text)');
select amzmp.activate(name) from unnest(array['europe', 'amazon.de', 'amazon.fr']) name;
call amzmp.wait('60 s');
SQL
as_shop -c "select * from amzmp.schedule()" -c "select count(*) as products_that_amzmp_knows from amzmp.product"

title '3. What is in Amazon'\''s catalogue for one of our barcodes?'
as_shop -c "select asin, title, brand, eans from amzmp.search_catalog('amazon.de', ean => (select ean from product where sku = 'SHOP-0001'))"

title '4. Publish 200 offers and wait for Amazon'\''s verdict'
as_shop -o /dev/null <<'SQL'
select amzmp.publish('amazon.de', array(select sku from product order by sku limit 150));
select amzmp.publish('amazon.fr', array(select sku from product order by sku limit 50));
call amzmp.wait('180 s', 'settled');
SQL
as_shop <<'SQL'
select c.name as channel, l.state, count(*) as offers
  from amzmp.listing l join amzmp.channel c using (account_id, channel_id)
 group by 1, 2 order by 1, 2;
select l.sku, l.state, l.state_reason
  from amzmp.listing l where l.state = 'rejected' order by l.sku;
SQL

title '5. Change 40 prices and 40 stocks with ordinary UPDATEs'
say 'Sending is paused for a moment, so that the differences can be seen:'
as_shop -o /dev/null -c "select amzmp.hold('europe', 'to look at the differences')"
as_shop <<'SQL'
update product set price = price + 0.50 where sku <= 'SHOP-0040';
update product set stock = stock + 2 where sku > 'SHOP-0040' and sku <= 'SHOP-0080';
call amzmp.wait('60 s');
select (select count(*) from amzmp.price_diff) as prices_that_differ, (select count(*) from amzmp.stock_diff) as stocks_that_differ;
SQL
as_shop -c "select channel, sku, desired_price, remote_price, currency, cause ->> 'role' as changed_by from amzmp.price_diff order by 1, 2 limit 3" \
    -c "select sku, desired_quantity, remote_quantity, cause ->> 'role' as changed_by from amzmp.stock_diff order by 1 limit 3"
as_shop -o /dev/null <<'SQL'
select amzmp.resume('europe');
call amzmp.wait('120 s');
SQL
say 'And a moment later, at Amazon:'
as_shop -c "select (select count(*) from amzmp.price_diff) as prices_that_differ, (select count(*) from amzmp.stock_diff) as stocks_that_differ"

title '6. Amazon sells: 30 orders, among them a pending one, a cancelled one, an unknown SKU, addresses from everywhere'
before=$(value "select sum(stock) from product")
amazon orders '{"marketplace": "DE", "count": 20, "lines": 3}'
amazon orders '{"marketplace": "FR", "count": 6, "buyer_name": "Héloïse Lefèvre-Brûlé", "address": {"addressLine1": "3 rue de l’Évêché", "city": "Besançon", "postalCode": "25000", "countryCode": "FR"}}'
amazon orders '{"marketplace": "DE", "count": 1, "buyer_name": "山田 花子", "address": {"addressLine1": "千代田区丸の内1-9-1", "city": "東京", "postalCode": "100-0005", "countryCode": "JP"}}'
amazon orders '{"marketplace": "DE", "status": "PENDING", "items": [{"sku": "SHOP-0005", "quantity": 2}]}'
amazon orders '{"marketplace": "DE", "status": "CANCELLED", "items": [{"sku": "SHOP-0006", "quantity": 1}]}'
amazon orders '{"marketplace": "DE", "items": [{"sku": "OLD-SKU-7", "quantity": 1}]}'
amazon settings '{"order_lag": 0}' # else Amazon shows orders two minutes late
as_shop -o /dev/null <<'SQL'
select amzmp.run_flow('get_orders', account => 'europe');
call amzmp.wait('120 s');
SQL
as_shop <<'SQL'
select status, import_state, count(*) as orders, sum(grand_total) as total
  from amzmp.orders group by 1, 2 order by 1, 2;
select sku, title, units, amazon_order_ids from amzmp.unknown_item;
SQL
after=$(value "select sum(stock) from product")
sold=$(value "select -sum(quantity) from amzmp.movement")
reserved=$(value "select coalesce(sum(quantity), 0) from amzmp.reservation where released_at is null")
say "The shop's stock went from $before to $after: down by $((before - after)). Sold: $sold. Reserved by pending orders: $reserved."
[ $((before - after)) = "$sold" ] || { say 'That does not agree!'; exit 1; }

title '7. Link the unknown item: its order is released'
as_shop <<'SQL'
select amzmp.link_item('europe', 'OLD-SKU-7', 'SHOP-0007') as orders_released;
call amzmp.wait('60 s');
select count(*) as orders_in_the_shop, sum(total) as worth from sale;
SQL

title '8. Ship one'
as_shop <<'SQL'
select o.amazon_order_id, o.delivered_number as shop_number, b.recipient_name, b.city
  from amzmp.orders o, amzmp.buyer('europe', array[o.amazon_order_id]) b
 where o.status = 'UNSHIPPED' and o.import_state = 'delivered'
 order by o.amazon_order_id limit 1 \gset
\echo Order :amazon_order_id, which is :shop_number in the shop, goes to :recipient_name in :city.
select amzmp.confirm_shipment('europe', :'amazon_order_id', 'DHL', '00340434292135100186') as package;
call amzmp.wait('60 s');
select amazon_order_id, state, carrier_code, tracking from amzmp.shipment;
SQL

title '9. How Amazon was asked'
as_shop -c "select operation, outcome, count(*) as calls from amzmp.request_log group by 1, 2 order by 1, 2"
as_shop -c "select * from amzmp.health()"

title 'Try it yourself'
cat <<'TEXT'
As the role "shop" (psql … -U shop):

    update product set price = 19.99 where sku = 'SHOP-0001';
    select * from amzmp.listing where sku = 'SHOP-0001';
    select * from amzmp.activity order by at desc limit 10;
    select * from amzmp.help('publish');
TEXT
