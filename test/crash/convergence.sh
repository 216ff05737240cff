#!/usr/bin/env bash
# Whatever fails on the way: once the shop is quiet, Amazon has what the shop wants. Thousands of changes of price and
# stock while connections drop, answers are cut, late or errors, feeds are cancelled or fail, processes and the server are
# killed, and Amazon sells. No usage plan is exceeded meanwhile, no write overtakes another, and no quantity is told to
# Amazon that was not there when it was computed.
#
#   AMZMP_SEED=7 AMZMP_ROUNDS=60 SKUS=950 test/crash/convergence.sh       another course of events, longer, with more offers
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

seed=${AMZMP_SEED:-$RANDOM}
rounds=${AMZMP_ROUNDS:-20}
skus=${SKUS:-190}
scale=60 # Amazon's minutes are seconds, there and here
diag "AMZMP_SEED=$seed AMZMP_ROUNDS=$rounds SKUS=$skus"
RANDOM=$seed

simulator_start a --seed "$seed" --time-scale "$scale" --rate-scale 0 --verdict-delay 15
cluster_start a 'restart_after_crash = on' 'track_commit_timestamp = on'
control POST settings '{"order_lag": 0}' >/dev/null
sql 'create extension pg_cron' 'create extension amzmp' 'create role shop login' 'create schema shop authorization shop' "select amzmp.create_key()" \
	"select amzmp.create_application('app', 'amzn1.application-oa2-client.demo')" \
	"select amzmp.create_account('shop', 'EU', 'app', 'A1DEMOSELLER', 'mock', '$AMZMP_SIMULATOR_URL', time_scale => $scale, rate_scale => 0)" \
	"select amzmp.set_credentials('shop', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo')" 'grant amzmp_admin to shop' \
	"select amzmp.activate('shop')" "select amzmp.create_channel(c, 'shop', c), amzmp.activate(c) from unnest(array['DE', 'FR']) c" \
	"select amzmp.set('shop', s, v) from (values ('brake_minimum', '100000'), ('brake_drop', '1'), ('brake_rise', '1000'),
	        ('feed_minimum', '20'), ('feed_expected', '30 s'), ('feed_deadline', '600 s')) x (s, v)" >/dev/null

# One clock for both.
sql "update amzmp.account set created_at = to_timestamp(($scale * extract(epoch from now()) - extract(epoch from timestamptz
	'$(control GET clock | grep -o '"now":"[^"]*' | cut -d'"' -f4)')) / ($scale - 1))"

# The shop. Each change of a price is a higher one than any before, so that a write which overtook another is seen; its
# rows are remembered with every value that they ever had, and so is what amzmp wanted of each quantity.
export PGUSER=shop
sql 'create sequence shop.version' \
	'create table shop.product (sku text primary key, ean text, price numeric(12,2), stock integer, put integer)' \
	'create table shop.history (sku text, stock integer, row xid default pg_current_xact_id()::xid)' \
	"create function shop.remember() returns trigger language plpgsql security definer as
	 \$\$begin insert into shop.history (sku, stock) values (new.sku, new.stock); return null; end\$\$" \
	'create trigger history after insert or update of stock on shop.product for each row execute function shop.remember()' \
	"insert into shop.product select 'S' || i, d || (10 - sum(substr(d, k, 1)::integer * (1 + 2 * ((k + 1) % 2))) % 10) % 10, 20, 30, 30
	   from generate_series(1, $skus * 100 / 95) i, cast((401234500000 + i)::text as text) d, generate_series(1, 12) k where i % 100 < 95 group by i, d" \
	'create table shop.sale (amazon_order text)' \
	"create function shop.take(account_id bigint, amazon_order_id text) returns text language sql
	   begin atomic insert into shop.sale values (amazon_order_id) returning amazon_order; end" \
	"select amzmp.attach_source('shop', 'shop.product', ean => 'ean')" "select amzmp.reduce_stock('shop', 'shop.product')" \
	"select amzmp.deliver_orders_to(c, 'shop.take(bigint,text)') from unnest(array['DE', 'FR']) c" >/dev/null
PGUSER=postgres sql 'create table shop.wanted (sku text, quantity integer, row xid default pg_current_xact_id()::xid)' \
	"create function shop.want() returns trigger language plpgsql security definer as
	 \$\$begin insert into shop.wanted (sku, quantity) values (new.sku, new.desired_quantity); return null; end\$\$" \
	'create trigger wanted after insert or update of desired_quantity on amzmp.inventory for each row execute function shop.want()' \
	'grant select on shop.wanted to shop'

# What waits, in any form. The flows of a quick clock never rest, so this says more than amzmp.wait.
waiting="select (select count(*) from amzmp.price_diff) + (select count(*) from amzmp.stock_diff) + (select count(*) from amzmp.change)
	+ (select count(*) from amzmp.feed where open) + (select count(*) from amzmp.request where operation ~ 'Item|Feed|Order|atalog|Restrict')
	+ (select count(*) from amzmp.task where kind in ('import', 'deliver', 'apply')) + (select count(*) from amzmp.parked_order)"
rests()
{
	PGUSER=postgres sql_becomes "$1" "$waiting" 0
}

sql "call amzmp.wait('60 s')"
sql "select amzmp.publish('DE', array(select sku from shop.product))" \
	"select amzmp.publish('FR', array(select sku from shop.product where sku like '%1'))" >/dev/null
PGUSER=postgres sql_becomes 120 "select count(*) from amzmp.listing where state <> 'live'" 0 || true
is "$(sql "select count(*) > 100, count(*) filter (where state <> 'live') from amzmp.listing")" 't|0' 'all offers are live'

# From here on calls have their limits, such that a large change goes by feed.
control POST settings '{"rate_scale": 0.1, "forgiven": 8}' >/dev/null
PGUSER=postgres sql 'update amzmp.account set rate_scale = 0.1'
sleep 1
control POST rates/reset '{}' >/dev/null
control POST stats/reset '{}' >/dev/null

faults()
{
	local kind
	for kind in feed_cancelled feed_fatal; do
		control POST faults "{\"operation\": \"createFeed\", \"kind\": \"$kind\", \"probability\": 0.15}" >/dev/null
	done
	for kind in drop_before drop_after truncate not_json; do
		control POST faults "{\"kind\": \"$kind\", \"probability\": 0.04, \"count\": -1}" >/dev/null
	done
	# Late answers, not late requests: a quick clock would make minutes of the network's delay.
	control POST faults '{"kind": "delay", "probability": 0.1, "count": -1, "delay_ms": 300, "after": true}' >/dev/null
	for kind in 429 500 503; do
		control POST faults "{\"kind\": \"status\", \"status\": $kind, \"probability\": 0.04, \"count\": -1}" >/dev/null
	done
	control POST faults '{"operation": "searchOrders", "kind": "duplicate_page", "probability": 0.2, "count": -1}' >/dev/null
}

# Many small changes, now and then a large one, and what is never committed.
change()
{
	local i statements=()
	for i in 1 2 3 4; do
		statements+=("update shop.product set price = 20 + nextval('shop.version') / 100.0 where sku like '%$((RANDOM % 10))$((RANDOM % 10))'"
			"update shop.product set stock = 0, put = put - stock where sku like '%$((RANDOM % 10))$((RANDOM % 10))'"
			"with a as (select $((RANDOM % 9)) as n) update shop.product set stock = stock + a.n, put = put + a.n from a where sku like '%$((RANDOM % 10))'")
	done
	[ $((RANDOM % 3)) != 0 ] || statements+=("update shop.product set price = 20 + nextval('shop.version') / 100.0")
	sql "${statements[@]}" begin 'update shop.product set price = 1, stock = 999' rollback
}

end_somebody()
{
	local victim
	victim=$(PGUSER=postgres sql "select pid from pg_stat_activity where datname = 'shop' and backend_type like 'amzmp %' order by random() limit 1")
	[ -z "$victim" ] || kill -s "$1" "$victim" || true
}

server_falls()
{
	local checkpointer
	checkpointer=$(PGUSER=postgres sql "select pid from pg_stat_activity where backend_type = 'checkpointer'")
	end_somebody KILL
	PGUSER=postgres sql_becomes 60 "select pid <> $checkpointer from pg_stat_activity where backend_type = 'checkpointer'" t
}

faults
for ((round = 1; round <= rounds; round++)); do
	change
	control POST orders "{\"count\": $((RANDOM % 3)), \"marketplace\": \"DE\", \"lines\": 3}" >/dev/null
	[ $((RANDOM % 3)) != 0 ] || control POST orders '{"count": 1, "marketplace": "DE", "status": "PENDING", "lines": 2}' >/dev/null
	[ $((RANDOM % 2)) != 0 ] || sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
	[ $((RANDOM % 4)) != 0 ] || end_somebody TERM
	[ "$round" != $((rounds / 2)) ] || server_falls
	sleep 0.$((RANDOM % 7))
done
control DELETE faults >/dev/null
overruns=$(control GET stats | grep -o '^{[^{]*"overruns":[0-9]*' | grep -o '[0-9]*$')

# Quiet, at the full pace: the sweeps would come by themselves within minutes.
control POST settings '{"rate_scale": 1}' >/dev/null
PGUSER=postgres sql 'update amzmp.account set rate_scale = 1'
PGUSER=postgres sql_becomes 30 "select count(*) from pg_stat_activity where backend_type = 'amzmp sender'" 1
settle()
{
	sql "select amzmp.run_flow(f, account => 'shop') from unnest(array['get_orders', 'send_updated_product_price', 'send_updated_product_stock']) f" >/dev/null
	sleep 1
	rests 240 || diag "$(sql "select operation, state, count(*) from amzmp.request group by 1, 2")"
}
succeeds 'it falls quiet' settle
succeeds 'and stays so' settle
diag "$(sql "select count(*) || ' values of the shop, ' || (select last_value from shop.version) || ' prices, ' || (select count(*) from amzmp.feed) || ' feeds: '
	|| (select string_agg(n || ' ' || state, ', ') from (select state, count(*) as n from amzmp.feed group by 1) f) from shop.history")"
control POST clock '{"advance": 60}' >/dev/null # Amazon applied what it accepted

# What Amazon has, and in which order it came, as tables.
amazon()
{
	PGUSER=postgres psql -XqAt -v ON_ERROR_STOP=1 <<-SQL
		create table amazon.$1 (doc jsonb);
		\\copy amazon.$1 from '$RUN/$CLUSTER_PREFIX.$1' with (format csv, quote e'\\x01', delimiter e'\\x02')
	SQL
}
PGUSER=postgres sql 'create schema amazon'
for what in listings orders writes; do
	control GET "$what?limit=65536" >"$RUN/$CLUSTER_PREFIX.$what"
	amazon "$what"
done
export PGUSER=postgres
sql "create view amazon.written as
	select row_number() over () as number, w ->> 'sku' as sku, w ->> 'facet' as facet, w ->> 'marketplaceId' as marketplace_id, (w ->> 'value')::numeric as value,
	       to_timestamp((w ->> 'sent')::bigint / 1e6) as sent, to_timestamp((w ->> 'at')::bigint / 1e6) as at, w ->> 'feedId' as feed
	  from amazon.writes, jsonb_array_elements(doc -> 'writes') w" \
	"create table amazon.quantity as select * from amazon.written where facet = 'quantity'" 'create index on amazon.quantity (sku, at)' \
	"create function amazon.spans(rows regclass) returns table (sku text, quantity integer, since timestamptz, until timestamptz) language plpgsql as \$\$begin
	   return query execute format('select sku, quantity, at, coalesce(lead(at) over (partition by sku order by at), ''infinity'')
	     from (select sku, quantity, pg_xact_commit_timestamp(row) as at from %s as r (sku, quantity, row)) h', rows); end\$\$" \
	"create table amazon.stock as select * from amazon.spans('shop.history')" "create table amazon.wanted as select * from amazon.spans('shop.wanted')"

is "$(sql "select count(*) from amazon.listings, jsonb_array_elements(doc -> 'listings') l, jsonb_array_elements(l -> 'offers') o, amzmp.channel c, shop.product p
            where c.marketplace_id = o ->> 'marketplaceId' and p.sku = l ->> 'sku' and (o #>> '{price,amount}')::numeric <> p.price")" \
	0 'every price at Amazon is the shop'\''s'
is "$(sql "select count(*) from amazon.listings, jsonb_array_elements(doc -> 'listings') l, shop.product p
             left join (select r.sku, sum(r.quantity) as held from amzmp.reservation r where r.released_at is null group by 1) h using (sku)
            where p.sku = l ->> 'sku' and (l #>> '{live,quantity}')::integer <> greatest(p.stock - coalesce(h.held, 0), 0)")" 0 'every quantity too'
is "$(sql 'select (select count(*) from amzmp.price_diff) + (select count(*) from amzmp.stock_diff)')" 0 'no difference is seen'
is "$(sql "select count(*) from shop.product p left join (select sku, sum(quantity) as moved from amzmp.movement group by 1) m using (sku)
            where p.stock <> p.put + coalesce(m.moved, 0)")" 0 'the stock is what was put there less what was sold'
is "$(sql 'select count(*) - count(distinct amazon_order) from shop.sale')" 0 'no order was handed over twice'
is "$(sql 'select count(*) from amzmp.orders')" "$(sql "select jsonb_array_length(doc -> 'orders') from amazon.orders")" 'every order is here'
is "$(control GET violations | grep -o '"count":[0-9]*')" '"count":0' 'nothing was sent that the models do not allow'
is "$overruns" 0 'no usage plan was exceeded'
ok "$(sql "select case when count(*) > 0 then 0 else 1 end from amzmp.feed")" 'large changes went by feed'
is "$(sql "select sku || ' ' || value from (select sku, value, max(value) over (partition by sku, marketplace_id order by number) as highest
              from amazon.written where facet = 'price') w where value < highest limit 5")" '' 'no price was overtaken by an older one'

# The snapshot of a quantity is one of the shop's between what was wanted before and what was wanted then.
is "$(sql "select count(*) from (select *, lag(since, 1, '-infinity') over (partition by sku order by since) as before from amazon.wanted) w
            where quantity > 0 and not exists (select from amazon.stock s where s.sku = w.sku and s.quantity >= w.quantity and s.since <= w.since and s.until >= w.before)")" \
	0 'no quantity was wanted that was not there'
# A call tells what is wanted after the write before it, a feed what was wanted since it was planned.
is "$(sql "select q.sku || ' ' || q.value || ' at ' || q.at from amazon.quantity q left join amzmp.feed f on f.amazon_feed_id = q.feed,
                  lateral (select coalesce(f.created_at, max(p.at), '-infinity') as since from amazon.quantity p where p.sku = q.sku and p.at < q.sent) b
            where not exists (select from amazon.wanted w where w.sku = q.sku and w.quantity = q.value and w.since <= q.sent and w.until >= b.since) limit 5")" \
	'' 'and none was told to Amazon that was no longer wanted'
finish
