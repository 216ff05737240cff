#!/usr/bin/env bash
# How quickly the views answer that people and flows look at: price_diff, stock_diff and sku_diff with 1,000 differences
# (target ≤ 10 ms), and the dashboard (≤ 20 ms), each the median of RUNS, at LISTINGS offers and at a tenth of them in the
# same server. The last column is how much slower ten times the listings makes it (≤ 1.5).
#
#   LISTINGS=1000000 RUNS=21 test/bench/views.sh
. "$(dirname "$0")/../lib/scene.sh"
. "$(dirname "$0")/../lib/bench.sh"

LISTINGS=${LISTINGS:-1000000}
RUNS=${RUNS:-21}
DIFFERENCES=1000

cluster_start bench 'shared_buffers = 1GB' 'max_wal_size = 8GB' 'checkpoint_timeout = 1h' 'fsync = off' 'synchronous_commit = off'

# fill DATABASE OFFERS: a shop of that many products, all on sale, of which 1,000 differ in each way, counted.
fill()
{
	psql -Xq -d postgres -c "create database $1"
	export PGDATABASE=$1
	sql 'create extension amzmp' "select amzmp.create_application('app', 'amzn1.application-oa2-client.0123456789abcdef')" \
		"select amzmp.create_account('acc', 'EU', 'app', mode => 'mock', endpoint => 'http://127.0.0.1:9')" \
		"select amzmp.create_channel('DE', 'acc', 'DE')" >/dev/null
	sql "insert into amzmp.source (account_id, source_id, relation, expressions, fields, sku_type, run_as)
	     select account_id, 1, 'shop.product', '{\"category\": \"c\", \"image\": \"i\"}', '', 'text', current_user from amzmp.account" \
		"insert into amzmp.product (account_id, source_id, sku, price, quantity, title, category, image)
	     select account_id, 1, 'SKU-' || lpad(i::text, 8, '0'), 10 + i % 90, 1 + i % 9, 'A product of the shop', 'c' || i % 20, 'https://shop.example/' || i
	       from amzmp.account, generate_series(1, $2) as i" \
		"insert into amzmp.inventory (account_id, sku, listed, desired_quantity, remote_quantity, submitted_quantity)
	     select p.account_id, p.sku, true, p.quantity, p.quantity + (row_number() over () % ($2 / $DIFFERENCES) = 1)::integer, p.quantity from amzmp.product as p" \
		"insert into amzmp.listing (account_id, channel_id, sku, state, asin, desired_price, remote_price, cause)
	     select p.account_id, c.channel_id, p.sku, case row_number() over () % ($2 / $DIFFERENCES) when 2 then 'rejected' else 'live' end, 'B000000001', p.price,
	            p.price + (row_number() over () % ($2 / $DIFFERENCES) = 3)::integer, '{\"role\": \"shop\"}'
	       from amzmp.product as p join amzmp.channel as c using (account_id)" 'vacuum analyze'
	# the task's own steps, one transaction each, as its runner takes them
	psql -XqAt -v ON_ERROR_STOP=1 <<-'SQL'
		do $$
		declare
		    t amzmp.task;
		begin
		    perform amzmp._flow_count_offers((select account_id from amzmp.account), 0, null);
		    loop
		        delete from amzmp.task as x where x.kind = 'count' returning x.* into t;
		        exit when t.task_id is null;
		        perform amzmp._task_count(t.account_id, '', t.argument);
		        commit;
		    end loop;
		end
		$$;
	SQL
	sql 'vacuum analyze'
}

# median DATABASE STATEMENT: milliseconds, in one session that has run it once before
median()
{
	local i
	{
		echo "$2 \\g /dev/null"
		echo '\timing on'
		for ((i = 0; i < RUNS; i++)); do
			echo "$2 \\g /dev/null"
		done
	} | psql -XqAt -d "$1" | sed -n 's/^Time: \([0-9.]*\).*/\1/p' | percentile 50
}

# compare NAME TARGET STATEMENT
compare()
{
	local few many
	few=$(median "views_$small" "$3")
	many=$(median "views_$LISTINGS" "$3")
	figure "$1" "$many" ms "$2"
	figure "$1, ratio to a tenth of the listings" "$(awk -v a="$few" -v b="$many" 'BEGIN { printf "%.2f", b / a }')" '' '<= 1.5'
}

small=$((LISTINGS / 10))
for n in $small "$LISTINGS"; do
	begin=$(date +%s)
	fill "views_$n" "$n"
	note "$n offers filled and counted in $(($(date +%s) - begin)) s"
done
compare 'price_diff, 1,000 differences' '<= 10' 'select * from amzmp.price_diff'
compare 'stock_diff, 1,000 differences' '<= 10' 'select * from amzmp.stock_diff'
compare 'sku_diff, 1,000 differences' '<= 10' 'select * from amzmp.sku_diff'
compare 'dashboard' '<= 20' 'select * from amzmp.dashboard'
# Between two rounds of counting.
for n in $small "$LISTINGS"; do
	psql -Xq -d "views_$n" -c "update amzmp.product set quantity = quantity + 1
		where sku in (select sku from amzmp.product order by sku limit 200)"
done
compare 'dashboard, 200 SKUs changed since they were counted' '<= 20' 'select * from amzmp.dashboard'
