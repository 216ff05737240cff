#!/usr/bin/env bash
# A listing report of ROWS rows, packed, in Windows-1252, as an own runner takes it in: unpacked, decoded, staged, merged
# and compared with as many listings. Ratio to a plain COPY of the decoded file into a table with the same key, and the
# runner's memory. First all of it is new, then one row in a hundred has changed, then none. Meanwhile another account
# sends: from its commits to the wire, COMMITS of them while the first report is applied.
#
#   ROWS=1000000 test/bench/report.sh
. "$(dirname "$0")/../lib/scene.sh"
. "$(dirname "$0")/../lib/shop.sh"
. "$(dirname "$0")/../lib/bench.sh"

ROWS=${ROWS:-1000000}
COMMITS=${COMMITS:-200}
FILES=$RUN/${CLUSTER_PREFIX}files
COLUMNS_OF_PLAIN=item_name,item_description,listing_id,seller_sku,price,quantity,open_date,image_url,item_is_marketplace,product_id_type,zshop_shipping_fee,item_note,item_condition,zshop_category1,zshop_browse_path,zshop_storefront_feature,asin1,asin2,asin3,will_ship_internationally,expedited_shipping,zshop_boldface,product_id,bid_for_featured_placement,add_delete,pending_quantity,fulfillment_channel,merchant_shipping_group,status

simulator_start amazon --rate-scale 0
bench_cluster bench 'autovacuum = off'
connect shop
make_trickles postgres
connect acc http://127.0.0.1:9
sql "select amzmp.hold('acc', reason => 'a benchmark')" >/dev/null # nothing is read from Amazon here
mkdir -m 777 "$FILES"

# report_text CHANGED: the rows, every hundredth with another price if so
report_text()
{
	cat <<-SQL
		select 'Größe ' || i % 60 || ', Schuh Nr. ' || i || ' für drinnen und draußen' as item_name,
		  'Beschreibung ' || md5(i::text) || ' mit etwas Text, wie man ihn dort eben schreibt, und noch etwas mehr davon' as item_description,
		  lpad((i::bigint * 7919 % 100000000)::text, 10, '0') as listing_id, 'SKU-' || lpad((i::bigint * 7919 % $ROWS)::text, 8, '0') as seller_sku,
		  (10 + i % 90 + case when $1 and i % 100 = 0 then 0.5 else 0 end)::numeric(10, 2) as price, (i % 50)::text as quantity,
		  '15/03/2024 02:26:37 MET' as open_date, '' as image_url, 'y' as item_is_marketplace, '1' as product_id_type, '', '', '11', '', '', '',
		  'B0' || lpad(i::text, 8, '0') as asin1, '', '', '', '', '', 'B0' || lpad(i::text, 8, '0') as product_id, '', '', '0', 'DEFAULT',
		  'Migrated Template', case when i % 50 = 0 then 'Inactive' else 'Active' end
		from generate_series(0, $ROWS - 1) as i
	SQL
}

# write_files NAME CHANGED: NAME.txt as UTF-8 without a header for COPY, NAME.gz as Amazon sends it
write_files()
{
	sql "copy ($(report_text "$2")) to stdout" >"$FILES/$1.txt"
	{
		tr , '\t' <<<"$COLUMNS_OF_PLAIN" | tr _ -
		cat "$FILES/$1.txt"
	} | iconv -f UTF-8 -t WINDOWS-1252 | gzip -1 >"$FILES/$1.gz"
	chmod 644 "$FILES/$1".*
}

seconds_since()
{
	awk -v a="$1" -v b="$(clock_us)" 'BEGIN { printf "%.2f\n", (b - a) / 1e6 }'
}

plain_copy()
{
	sql 'set client_min_messages = warning' 'drop table if exists plain' "create table plain (account_id bigint not null default 1, channel_id bigint not null default 1,
		$(sed 's/,/ text, /g' <<<"$COLUMNS_OF_PLAIN") text, primary key (account_id, channel_id, seller_sku))" checkpoint
	local start
	start=$(clock_us)
	sql "copy plain ($COLUMNS_OF_PLAIN) from '$FILES/new.txt'"
	seconds_since "$start"
}

# Listings as they are after a while: live, with price and stock.
make_listings()
{
	sql "insert into amzmp.inventory (account_id, sku, listed, desired_quantity, remote_quantity, submitted_quantity, submitted_quantity_at, observed_quantity, observed_at)
		   select c.account_id, r.seller_sku, true, r.quantity::int, r.quantity::int, r.quantity::int, now() - interval '2 days', r.quantity::int, now() - interval '1 day'
		     from amzmp.channel c, plain r where c.name = 'acc-de' order by 2" \
		"insert into amzmp.listing (account_id, channel_id, sku, state, state_at, asin, desired_price, remote_price, submitted_price, submitted_price_at, observed_price, observed_at, published_at)
		   select c.account_id, c.channel_id, r.seller_sku, 'live', now() - interval '2 days', r.asin1, r.price::numeric, r.price::numeric, r.price::numeric, now() - interval '2 days',
		          r.price::numeric, now() - interval '1 day', now() - interval '2 days'
		     from amzmp.channel c, plain r where c.name = 'acc-de' order by 3" "vacuum analyze amzmp.listing" "vacuum analyze amzmp.inventory"
}

# take_in FILE: seconds until the report is applied, and the most memory that the runner had, in MB
take_in()
{
	local start most=0 now pid
	sql "insert into amzmp.report (account_id, channel_id, type, marketplace_ids, state, document_id, submitted_at)
		  select account_id, channel_id, 'GET_MERCHANT_LISTINGS_ALL_DATA', '{A1PA6795UKMFR9}', 'downloaded',
		         amzmp._new_document(account_id, 'text/plain;charset=Cp1252'), now() from amzmp.channel where name = 'acc-de'" \
		"insert into amzmp.document_chunk (account_id, document_id, position, content)
		  select r.account_id, r.document_id, i, pg_read_binary_file('$FILES/$1.gz', i::bigint * 262144, 262144)
		    from (select account_id, max(document_id) as document_id from amzmp.report group by 1) as r,
		         generate_series(0, ((select size from pg_stat_file('$FILES/$1.gz')) - 1) / 262144) as i" checkpoint >/dev/null
	start=$(clock_us)
	sql "select amzmp._add_task(account_id, 'report', max(report_id)::text, null, now()) from amzmp.report group by account_id" >/dev/null
	until [ "$(sql 'select ended_at is not null from amzmp.report order by report_id desc limit 1')" = t ]; do
		for pid in $(sql "select pid from pg_stat_activity where backend_type = 'amzmp runner'"); do
			now=$(memory_mb "$pid" 2>/dev/null || echo 0)
			most=$(awk -v a="${now:-0}" -v b="$most" 'BEGIN { print (a > b ? a : b) }')
		done
		sleep 0.05
	done
	echo "$(seconds_since "$start") $most"
}

# line NAME FILE TARGET: between two plain COPYs, so that all meet the same machine
line()
{
	local result plain
	plain=$(plain_copy)
	result=$(take_in "$2")
	plain=$(awk -v a="$plain" -v b="$(plain_copy)" 'BEGIN { printf "%.2f", (a + b) / 2 }')
	is_applied || die "the report was not applied: $(sql 'select state, reason from amzmp.report order by report_id desc limit 1')"
	figure "$1" "$(awk -v a="${result% *}" -v b="$plain" 'BEGIN { printf "%.2f", a / b }')" x "$3"
	note "$(sql 'select reason from amzmp.report order by report_id desc limit 1'): ${result% *} s, plain COPY $plain s"
	figure 'memory of the runner' "${result#* }" MB '<= 128'
}

is_applied()
{
	[ "$(sql 'select state from amzmp.report order by report_id desc limit 1')" = applied ]
}

write_files new false
write_files changed true
note "$ROWS rows, $(du -m "$FILES/new.txt" | cut -f1) MB, packed $(du -m "$FILES/new.gz" | cut -f1) MB"
plain_copy >/dev/null
make_listings
# once it is being applied
measure_meanwhile()
{
	sql_becomes 120 "select count(*) > 0 from pg_stat_activity where backend_type = 'amzmp runner' and state = 'active'" t
	measure_wire getListingsItem "$ENQUEUE"
	note "$(sql "select count(*) from amzmp.report where ended_at is not null") reports were applied when it was measured"
	figure 'commit to wire, enqueue, while it is applied: median' "$median" ms '<= 5'
	figure 'commit to wire, enqueue, while it is applied: p99' "$p99" ms '<= 30'
}
measure_meanwhile &
line 'listing report, all new ÷ plain COPY' new '<= 5'
wait $!
sql 'vacuum analyze amzmp.remote_listing'
line 'listing report, 1 % changed ÷ plain COPY' changed '<= 3'
line 'listing report, nothing changed ÷ plain COPY' changed '<= 3'
