#!/usr/bin/env bash
# Canaries: a client secret, a refresh token, and a buyer's name and address are used in every way, also by statements
# that fail, and then looked for wherever somebody could read them.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

CANARIES='oa2-cs\.v1\.demo|Atzr\|canary|Atza\||Kanarienvogel|Federweg'

found()
{
	grep -acE "$CANARIES" "$1" || true
}

# What every table says as text, also those that no role may read.
tables()
{
	sql "select c.oid::regclass from pg_class c where relkind = 'r' and relnamespace in ('amzmp'::regnamespace, 'shop'::regnamespace)" |
		while read -r table; do
			sql "select t::text from $table t"
		done
}

simulator_start s --rate-scale 0
control POST settings '{"order_lag": 0}' >/dev/null
cluster_start s "shared_preload_libraries = 'pg_cron,amzmp,pg_stat_statements'" "pg_stat_statements.track = 'all'" \
	'track_activity_query_size = 16384' "log_min_error_statement = 'error'" 'log_min_duration_statement = -1'
control POST refresh_tokens '{"refresh_token": "Atzr|canary", "seller": "A1DEMOSELLER"}' >/dev/null
printf 'client_secret: amzn1.oa2-cs.v1.demo\nrefresh_token: Atzr|canary\n' |
	as_server tee "$(cluster_dir s)/credentials/shop.txt" >/dev/null
as_server chmod 600 "$(cluster_dir s)/credentials/shop.txt"
sql 'create extension pg_stat_statements' 'create extension amzmp' 'select amzmp.create_key()' >/dev/null
sql "select amzmp.create_application('app', 'amzn1.application-oa2-client.demo')" \
	"select amzmp.create_account('shop', 'EU', 'app', 'A1DEMOSELLER', 'mock', '$AMZMP_SIMULATOR_URL', rate_scale => 0)" \
	"select amzmp.set_credentials('shop', file => 'shop.txt')" "select amzmp.create_channel('DE', 'shop', 'DE')" \
	"select amzmp.activate('shop')" "select amzmp.activate('DE')" >/dev/null
sql 'create role shopkeeper login' 'grant amzmp_admin, amzmp_buyer_data to shopkeeper' 'create schema shop authorization shopkeeper'
PGUSER=shopkeeper sql 'create table shop.product (sku text primary key, price numeric, stock integer)' \
	"insert into shop.product values ('A', 10, 100)" "select amzmp.attach_source('shop', 'shop.product')" \
	"create function shop.take(account_id bigint, amazon_order_id text) returns text language plpgsql as
	 \$\$begin raise exception 'no room for order %', amazon_order_id; end\$\$" \
	"select amzmp.deliver_orders_to('DE', 'shop.take(bigint,text)')" >/dev/null

# Success, failure, and what cannot be parsed: each with the canaries in the request or the answer.
order='"marketplace": "DE", "buyer_name": "Karl Kanarienvogel", "address": {"addressLine1": "Federweg 1", "city": "Ulm", "postalCode": "89073", "countryCode": "DE"}'
control POST orders "{$order, \"items\": [{\"sku\": \"A\", \"quantity\": 1}]}" >/dev/null
control POST faults '{"operation": "searchOrders", "kind": "truncate"}' >/dev/null
control POST faults '{"operation": "token", "kind": "not_json"}' >/dev/null
sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
sql_becomes 60 'select count(*) from amzmp.orders' 1
# A handler of ours that fails with the answer in its hands.
control POST orders "{$order, \"items\": [{\"sku\": \"B\", \"quantity\": 1}]}" >/dev/null
sql 'alter table amzmp.orders add constraint broken check (amazon_order_id is null) not valid' \
	"select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
sql "call amzmp.wait('30 s')" >/dev/null 2>&1 || true
errors=$(sql "select count(*) from amzmp.activity where level = 'error'")
like "$errors" '^[1-9]' 'errors have been logged'
sql 'alter table amzmp.orders drop constraint broken'
id=$(sql 'select min(amazon_order_id) from amzmp.orders')
PGUSER=shopkeeper psql -XqAt -o /dev/null -c "select amzmp.call('shop', 'getOrder', '{\"orderId\": \"$id\"}')" >/dev/null 2>&1 || true
control POST faults '{"operation": "getOrder", "kind": "truncate"}' >/dev/null
PGUSER=shopkeeper psql -XqAt -o /dev/null -c "select amzmp.call('shop', 'getOrder', '{\"orderId\": \"$id\"}')" >/dev/null 2>&1 || true
like "$(PGUSER=shopkeeper sql "select b::text from amzmp.buyer('shop', array['$id']) b")" Kanarienvogel 'who may read the buyer can'
# A literal beside a mistyped name.
psql -XqAt -c "select amzmp.set_credentials('shup', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|canary')" >/dev/null 2>&1 || true
like "$(cat "$(cluster_log s)")" 'there is no account "shup"' 'a mistyped account name is in the log'

# The key cannot be read for a while: that is no fault of the account's.
is "$(sql 'select state from amzmp.account')" valid 'an account that Amazon has answered is valid'
as_server chmod 644 "$(cluster_dir s)/keys/amzmp.key"
control POST expire_tokens '{}' >/dev/null
look_at meanwhile
wait_for 30 grep -q "opening an account's secrets failed" "$(cluster_log s)" && pass 'without its key amzmp says so'
is "$(sql 'select state from amzmp.account')" valid 'and waits; the account is as good as before'
as_server chmod 600 "$(cluster_dir s)/keys/amzmp.key"
sql_becomes 60 "select count(*) from amzmp.request_log where params ->> 'sku' = 'meanwhile'" 1
pass 'and it goes on when the key is back'

control POST refresh_tokens '{"refresh_token": "Atzr|canary", "revoked": true}' >/dev/null
control POST expire_tokens '{}' >/dev/null
look_at gone
sql_becomes 30 'select state from amzmp.account' invalid

is "$(found "$(cluster_log s)")" 0 'the server log'
tables >"$RUN/$CLUSTER_PREFIX.tables"
is "$(grep -c . "$RUN/$CLUSTER_PREFIX.tables" | sed 's/^[1-9].*/some/')" some 'tables were read'
is "$(found "$RUN/$CLUSTER_PREFIX.tables")" 0 'every table as text'
pg_dump --inserts >"$RUN/$CLUSTER_PREFIX.dump"
is "$(found "$RUN/$CLUSTER_PREFIX.dump")" 0 'a plain dump'
sql 'table pg_stat_activity' 'table pg_stat_statements' >"$RUN/$CLUSTER_PREFIX.statistics"
is "$(found "$RUN/$CLUSTER_PREFIX.statistics")" 0 'pg_stat_activity and pg_stat_statements'
sql 'select * from amzmp.health()' 'table amzmp.usage' >"$RUN/$CLUSTER_PREFIX.views"
is "$(found "$RUN/$CLUSTER_PREFIX.views")" 0 'what amzmp tells of itself'
sql checkpoint
is "$(as_server find "$(cluster_dir s)/data/base" "$(cluster_dir s)/data/pg_wal" "$(cluster_dir s)/data/pg_stat" -type f -exec grep -alE "$CANARIES" {} + | wc -l)" 0 'the data directory, write-ahead log included'
PGUSER=shopkeeper psql -XqAt -c "select amzmp.set_credentials('shop', file => '../../data/PG_VERSION')" >"$RUN/$CLUSTER_PREFIX.error" 2>&1 || true
like "$(cat "$RUN/$CLUSTER_PREFIX.error")" ERROR 'no file outside the directory of credentials can be named'
finish
