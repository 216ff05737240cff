#!/usr/bin/env bash
# How soon a large change of prices is at Amazon: from the commit of the shop's UPDATE until remote = desired for all of
# its rows, divided by the soonest that is possible within both usage plans. 100,000 prices, 5,000, 500 and 50: for the
# first two feeds are the right way, for the others single calls.
#
# The model, which the simulator follows: PATCH r = 5 a second after a burst of 5; 5 feeds at once, each takes twice D,
# and then 1/f seconds a message; all beside each other. So in T seconds
#
#	5 + r T + 5 max(0, min(25000, f (T - 2 D)))
#
# prices can be there, and the soonest is the least T for which that is all of them. The clocks of both sides run faster
# by the same factor, which is chosen for each size so that a round takes seconds and not a quarter of an hour.
#
#   SIZES="50:1 500:4 5000:4 100000:2" test/bench/planner.sh		(prices:factor)
. "$(dirname "$0")/../lib/scene.sh"
. "$(dirname "$0")/../lib/shop.sh"
. "$(dirname "$0")/../lib/bench.sh"

SIZES=${SIZES:-50:1 500:4 5000:4 100000:2}
DELAY=150
FEED_RATE=50
MOST=$(printf '%s\n' $SIZES | cut -d: -f1 | sort -n | tail -1)

# seconds of the account's clock
soonest()
{
	awk -v n="$1" -v d="$DELAY" -v f="$FEED_RATE" 'BEGIN {
		for (t = 0; t < 86400; t += 0.1) {
			feed = f * (t - 2 * d)
			feed = feed < 0 ? 0 : feed > 25000 ? 25000 : feed
			if (5 + 5 * t + 5 * feed >= n) { print (t > 0.1 ? t : 0.1); exit } } }'
}

simulator_start a --verdict-delay "$DELAY"
control POST settings "{\"feed_rate\": $FEED_RATE}" >/dev/null
bench_cluster bench 'autovacuum_naptime = 5s'
sql "select amzmp.create_account('acc', 'EU', 'app', 'A1DEMOSELLER', 'mock', '$AMZMP_SIMULATOR_URL')" \
	"select amzmp.set_credentials('acc', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo')" \
	"select amzmp.create_channel('acc-de', 'acc', 'DE')" "select amzmp.activate('acc')" "select amzmp.activate('acc-de')" \
	"select amzmp.set('acc', 'bulk_feeds', 'true')" "select amzmp.set('acc', 'brake_minimum', '1000000')" \
	"select amzmp.set('acc', 'feed_expected', '$((2 * DELAY)) s')" 'create role shop login' 'grant amzmp_operator to shop' \
	'create schema shop authorization shop' >/dev/null
export PGUSER=shop
sql 'create table shop.product (sku text primary key, price numeric(12, 2), stock integer)' \
	"select amzmp.attach_source('acc', 'shop.product')" >/dev/null
sql_becomes 60 'select rescan_due > now() from amzmp.source' t
export PGUSER=postgres

# Offers that are live; the rows come past the triggers, or they would all be compared first.
sql 'alter table shop.product disable trigger all' \
	"insert into shop.product select 'SKU-' || lpad(i::text, 7, '0'), 10, 5 from generate_series(1, $MOST + 1) as i" \
	'insert into amzmp.product (account_id, source_id, sku, price, quantity)
	 select s.account_id, s.source_id, p.sku, p.price, p.stock from amzmp.source as s, shop.product as p' \
	"insert into amzmp.inventory (account_id, sku, listed, desired_quantity, remote_quantity, submitted_quantity)
	 select s.account_id, p.sku, true, p.stock, p.stock, p.stock from amzmp.source as s, shop.product as p" \
	"insert into amzmp.listing (account_id, channel_id, sku, state, asin, desired_price, remote_price, submitted_price, submitted_price_at)
	 select c.account_id, c.channel_id, p.sku, 'live', 'B000000001', p.price, p.price, p.price, now() - interval '1 day'
	   from amzmp.channel as c, shop.product as p" \
	"do \$\$ declare t name; begin for t in select tgname from pg_trigger where tgrelid = 'shop.product'::regclass and not tgisinternal
	 loop execute format('alter table shop.product enable always trigger %I', t); end loop; end \$\$"
sql 'vacuum analyze' checkpoint

# milliseconds from the commit of a change of so many prices until Amazon has them
arrival()
{
	local begun
	sql "update shop.product set price = price + 1 where ${2:-sku <= 'SKU-' || lpad('$1', 7, '0')}" >/dev/null
	begun=$(clock_us)
	until [ "$(sql "select not exists (select from amzmp._sources_changed()) and not exists (select from amzmp.listing where price_differs)")" = t ]; do
		sleep 0.05
	done
	echo $((($(clock_us) - begun) / 1000))
}

for size in $SIZES; do
	prices=${size%:*}
	factor=${size#*:}
	control POST settings "{\"time_scale\": $factor}" >/dev/null
	sql "update amzmp.account set time_scale = $factor"
	# one more price, so that the buckets know of the new factor; then all are full, there and here
	arrival "$((MOST + 1))" "sku = 'SKU-' || lpad('$((MOST + 1))', 7, '0')" >/dev/null
	control POST rates/reset '{}' >/dev/null
	sleep $((60 / factor + 2))
	begun_s=$EPOCHREALTIME
	took=$(arrival "$prices")
	best=$(soonest "$prices" | awk -v s="$factor" '{ print 1000 * $1 / s }')
	figure "$prices prices" "$(awk -v t="$took" -v b="$best" 'BEGIN { print t / b }')" 'x' '<= 1.15'
	note "$(awk -v t="$took" -v b="$best" -v f="$factor" 'BEGIN { printf "%.1f s, the soonest is %.1f s (clocks %d times as fast)", t / 1000, b / 1000, f }')," \
		"$(sql "select coalesce(sum(f.accepted), 0) || ' by ' || count(*) || ' feeds' from amzmp.feed as f where extract(epoch from f.created_at) > $begun_s")"
	note "$(sql "select coalesce(format('feeds planned after %s s, submitted %s, seen done %s, applied %s',
			round(min(extract(epoch from f.created_at)) - $begun_s, 1), round(min(extract(epoch from f.submitted_at)) - $begun_s, 1),
			round(max(extract(epoch from f.processed_at)) - $begun_s, 1), round(max(extract(epoch from f.ended_at)) - $begun_s, 1)), 'no feed')
		from amzmp.feed as f where extract(epoch from f.created_at) > $begun_s")"
	[ "$(sql "select count(*) from amzmp.listing where submitted_price is distinct from desired_price")" = 0 ] || die 'not all arrived'
done
note "refused as too many (429): $(sql 'select coalesce(sum(throttled), 0) from amzmp.usage')"
