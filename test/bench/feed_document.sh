#!/usr/bin/env bash
# The document of a feed with 25,000 prices and quantities, from rows to gzip in its table: megabytes of JSON a second,
# and the memory of the process that writes it. Once as most feeds are, once with limits, sale and lead time in each
# message.
#
#   MESSAGES=25000 ROUNDS=5 test/bench/feed_document.sh
. "$(dirname "$0")/../lib/scene.sh"
. "$(dirname "$0")/../lib/shop.sh"
. "$(dirname "$0")/../lib/bench.sh"

MESSAGES=${MESSAGES:-25000}
ROUNDS=${ROUNDS:-5}

simulator_start a
bench_cluster bench 'autovacuum = off'
connect acc
sql "insert into amzmp.inventory (account_id, sku, listed, desired_quantity)
	 select c.account_id, 'SKU-' || lpad(i::text, 7, '0'), true, 5 from amzmp.channel as c, generate_series(1, $MESSAGES) as i" \
	"insert into amzmp.listing (account_id, channel_id, sku, state, desired_price)
	 select c.account_id, c.channel_id, i.sku, 'live', 10 from amzmp.channel as c join amzmp.inventory as i using (account_id)"

# feed TERMS STOCK_TERMS: one that is filled, with an empty document
feed()
{
	sql 'delete from amzmp.feed' 'delete from amzmp.feed_message' \
		"insert into amzmp.feed (account_id, channel_id, planned, messages, document_id)
		 select c.account_id, c.channel_id, $MESSAGES, $MESSAGES, amzmp._new_document(c.account_id, 'application/json; charset=UTF-8') from amzmp.channel as c" \
		"insert into amzmp.feed_message (account_id, feed_id, message_id, channel_id, sku, price, terms, quantity, stock_terms)
		 select f.account_id, f.feed_id, row_number() over (order by l.sku), f.channel_id, l.sku, 19.99, $1::jsonb, 7, $2::jsonb
		   from amzmp.feed as f join amzmp.listing as l using (account_id, channel_id)" \
		'vacuum analyze amzmp.feed_message'
}

# The largest anonymous memory of a process while it lives, in kB.
watch_memory()
{
	local now most=0
	while now=$(sed -n 's/^RssAnon:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$1/status" 2>/dev/null) && [ -n "$now" ]; do
		((now > most)) && most=$now && echo "$most" >"$RUN/memory"
		sleep 0.01
	done
}

# written NAME TARGET
written()
{
	local round
	rm -f "$RUN/took" "$RUN/pid"
	{
		echo "select pg_backend_pid() \\g $RUN/pid"
		echo "select pg_sleep(0.3) \\g /dev/null"
		for ((round = 0; round < ROUNDS; round++)); do
			echo 'delete from amzmp.document_chunk;'
			echo '\timing on'
			echo 'select amzmp._write_listings_feed(f) from amzmp.feed as f;'
			echo '\timing off'
		done
	} >"$RUN/write.sql"
	psql -XqAt -v ON_ERROR_STOP=1 -f "$RUN/write.sql" >"$RUN/took" &
	wait_for 10 test -s "$RUN/pid"
	watch_memory "$(cat "$RUN/pid")"
	wait $!
	sql "select bytes from amzmp.document join amzmp.feed using (account_id, document_id)" >"$RUN/bytes"
	figure "$1" "$(sed -n 's/^Time: \([0-9.]*\).*/\1/p' "$RUN/took" | percentile 50 | awk -v b="$(cat "$RUN/bytes")" '{ printf "%.1f", b / $1 / 1000 }')" \
		'MB/s' "$2"
	figure "$1: memory" "$(awk '{ printf "%.1f", $1 / 1024 }' "$RUN/memory")" 'MB' '<= 64'
	note "$MESSAGES messages, $(awk '{ printf "%.1f MB", $1 / 1e6 }' "$RUN/bytes"), $(sed -n 's/^Time: \([0-9.]*\).*/\1/p' "$RUN/took" | percentile 50) ms"
}

feed null null
written 'feed document: price and quantity' '>= 15'
feed "'{\"minimum\": 15, \"maximum\": 30, \"sale\": {\"price\": 17.5, \"from\": \"2026-01-01T00:00:00Z\", \"to\": \"2027-01-01T00:00:00Z\"}}'" \
	"'{\"lead_time\": 3}'"
written 'feed document: with limits, sale and lead time' ''
