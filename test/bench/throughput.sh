#!/usr/bin/env bash
# Requests a second of the sender, from the row in the table to the applied answer: limits off, logged tables, fsync on.
# Beside it, in the same run, its two peers: a bare curl_multi loop that sends as much to the same simulator with no
# database behind it, and the outbox's claim and complete with no network between them.
#
#   REQUESTS=50000 test/bench/throughput.sh
. "$(dirname "$0")/../lib/scene.sh"
. "$(dirname "$0")/../lib/shop.sh"
. "$(dirname "$0")/../lib/bench.sh"

REQUESTS=${REQUESTS:-50000}
PATHS=/listings/2021-08-01/items/A1DEMOSELLER

# A certificate for 127.0.0.1 that is its own authority.
make_certificate()
{
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 \
		-addext subjectAltName=IP:127.0.0.1 -keyout "$RUN/bench.key" -out "$RUN/bench.pem" 2>/dev/null
	chmod 644 "$RUN/bench.key" "$RUN/bench.pem"
}

bare()
{
	"$RUN/bin/bare_loop" "$@"
}

access_token()
{
	printf 'grant_type=refresh_token&refresh_token=Atzr|demo&client_id=%s&client_secret=%s' \
		amzn1.application-oa2-client.demo amzn1.oa2-cs.v1.demo |
		CONTENT_TYPE=application/x-www-form-urlencoded bare 1 1 POST "$1/auth/o2/token" "$RUN/bench.pem" 2>/dev/null |
		sed -n 's/.*"access_token": *"\([^"]*\)".*/\1/p'
}

# bare_rate METHOD ENDPOINT BODY: requests a second of the bare loop
bare_rate()
{
	printf '%s' "$3" | ACCESS_TOKEN=$(access_token "$2") bare "$REQUESTS" 64 "$1" \
		"$2$PATHS/BARE-%d?marketplaceIds=A1PA6795UKMFR9" "$RUN/bench.pem" | cut -d ' ' -f 1
}

# Connections to a simulator: established ones, seen from this side.
connections_to()
{
	awk -v port="$(printf ':%04X' "${1##*:}")" '$3 ~ port "$" && $4 == "01"' /proc/net/tcp | wc -l
}

# The most connections and memory that the sender was seen with, until it has nothing left: watch_sender ENDPOINT
watch_sender()
{
	local pid now memory
	most_connections=0
	most_memory=0
	pid=$(sender_pid)
	until sql_says 'select exists (select from amzmp.request)' f; do
		now=$(connections_to "$1")
		memory=$(memory_mb "$pid")
		most_connections=$((now > most_connections ? now : most_connections))
		most_memory=$(awk -v a="$memory" -v b="$most_memory" 'BEGIN { print (a > b ? a : b) }')
		sleep 0.3
	done
}

# rate_of ENDPOINT STATEMENT: requests a second between the commit of the statement that queues them and the last answer applied
rate_of()
{
	local began
	sql 'truncate amzmp.request_log' 'vacuum analyze amzmp.request'
	began=$(sql "begin; $2; select amzmp._wake() is null; select extract(epoch from clock_timestamp()); commit" | tail -n 1)
	watch_sender "$1"
	rate=$(sql "select round(count(*) / (extract(epoch from max(finished_at)) - $began)) from amzmp.request_log where outcome = 'success'")
}

# Requests with an empty handler, of an operation that changes something.
empty_handler()
{
	cat <<-SQL
		insert into amzmp.request (account_id, operation, params, body, handler)
		select a.account_id, 'patchListingsItem',
		       jsonb_build_object('sku', 'EMPTY-' || i, 'marketplaceIds', '{A1PA6795UKMFR9}'::text[]), '$PATCH', '_bench_nothing'
		  from amzmp.account a, generate_series(1, $REQUESTS) i where a.name = '$1'
	SQL
}

# Offers of which price and stock differ: what plan and render make of them is the shop's everyday request.
make_offers()
{
	sql "insert into amzmp.listing (account_id, channel_id, sku, state, desired_price, remote_price)
	     select account_id, channel_id, 'REAL-' || i, 'live', 19.99, 18.99
	       from amzmp.channel, generate_series(1, $REQUESTS) i where name = '$1-de'" \
		"insert into amzmp.inventory (account_id, sku, listed, desired_quantity, remote_quantity)
	     select account_id, 'REAL-' || i, true, 7, 8
	       from amzmp.account, generate_series(1, $REQUESTS) i where name = '$1'" \
		'analyze amzmp.listing' 'analyze amzmp.inventory'
}

# Claim and complete in the sender's batches, each in a transaction of its own, in one session.
claim_and_complete()
{
	local seconds
	sql "update amzmp.account set active = false" "$(empty_handler http)" 'vacuum analyze amzmp.request'
	sql "create procedure amzmp._bench_claim_and_complete() language plpgsql as \$\$
		declare
		    acc bigint := account_id from amzmp.account where name = 'http';
		    ids bigint[];
		begin
		    loop
		        select array_agg(c.request_id) into ids from amzmp._claim(acc, 'patchListingsItem', 100) c;
		        commit;
		        exit when ids is null;
		        perform amzmp._complete(acc, ids, array_fill(200, array[cardinality(ids)]), array_fill('success'::text, array[cardinality(ids)]),
		            array_fill('$ANSWER'::text, array[cardinality(ids)]), array_fill(null::text, array[cardinality(ids)]),
		            array_fill(null::text, array[cardinality(ids)]), array_fill('0'::text, array[cardinality(ids)]));
		        commit;
		    end loop;
		end \$\$"
	seconds=$(psql -XqAt -c '\timing on' -c "call amzmp._bench_claim_and_complete()" |
		sed -n 's/^Time: \([0-9.]*\).*/\1/p')
	alone=$(awk -v n="$REQUESTS" -v ms="$seconds" 'BEGIN { printf "%.0f", n * 1000 / ms }')
	sql "update amzmp.account set active = true"
}

PATCH='{"productType":"PRODUCT","patches":[{"op":"merge","path":"/attributes/fulfillment_availability","value":[{"fulfillment_channel_code":"DEFAULT","quantity":7}]}]}'
ANSWER='{"sku":"EMPTY-1","status":"ACCEPTED","submissionId":"f1dc2914-75dd-11ea-bc55-0242ac130003","issues":[]}'

bench_tools
make_certificate
simulator_start plain --rate-scale 0
plain=$AMZMP_SIMULATOR_URL
simulator_start tls --rate-scale 0 --tls-cert "$RUN/bench.pem" --tls-key "$RUN/bench.key"
tls=${AMZMP_SIMULATOR_URL/http:/https:}
bench_cluster bench "amzmp.ca_file = '$RUN/bench.pem'" 'autovacuum_naptime = 1s'
connect http "$plain"
connect tls "$tls"
sql "create function amzmp._bench_nothing(answers amzmp.answer_row[]) returns void language sql begin atomic select; end"

bare_plain=$(bare_rate PATCH "$plain" "$PATCH")
bare_tls=$(bare_rate PATCH "$tls" "$PATCH")
note "a bare curl_multi loop: $bare_plain/s over HTTP, $bare_tls/s over TLS"
claim_and_complete
note "claim and complete alone: $alone/s"

rate_of "$plain" "$(empty_handler http)"
figure "throughput, HTTP, empty handler" "$rate" /s '>= 4000' "$bare_plain"
figure "  the same, beside claim and complete alone" "$rate" /s '' "$alone"
figure "  connections" "$most_connections" '' '<= 64'
figure "  memory of the sender" "$most_memory" MB '<= 64'
rate_of "$tls" "$(empty_handler tls)"
figure "throughput, TLS, empty handler" "$rate" /s '>= 2000' "$bare_tls"
figure "  connections" "$most_connections" '' '<= 64'
figure "  memory of the sender" "$most_memory" MB '<= 64'

make_offers http
rate_of "$plain" "select amzmp._plan_sends(account_id) from amzmp.account where name = 'http'"
figure "throughput, HTTP, PATCH of price and stock" "$rate" /s '' "$bare_plain"
make_offers tls
rate_of "$tls" "select amzmp._plan_sends(account_id) from amzmp.account where name = 'tls'"
figure "throughput, TLS, PATCH of price and stock" "$rate" /s '' "$bare_tls"
