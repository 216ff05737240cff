#!/usr/bin/env bash
# Two runners apply the pages of a poll at once: one of them ended, or the whole server with it, wherever they happen to be,
# and a page token refused while earlier pages are still being applied. Each order, movement and unit of stock counts once.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# place N: N times ten orders of three units; which SKUs they share changes from one to the next
place()
{
	local i
	for ((i = 0; i < $1; i++)); do
		control POST orders "{\"count\": 10, \"items\": [{\"sku\": \"S-$((i * 5 % 8))\", \"quantity\": 1}, {\"sku\": \"S-$((i * 3 % 8 + 8))\", \"quantity\": 2}]}" >/dev/null
	done
}

# The process is asked to end, or killed; then the whole server falls. Returns when it is up again.
end_runner()
{
	local pid checkpointer
	checkpointer=$(sql "select pid from pg_stat_activity where backend_type = 'checkpointer'")
	pid=$(sql "select pid from pg_stat_activity where backend_type = 'amzmp runner' order by random() limit 1")
	[ -n "$pid" ] || return 0
	kill -s "$1" "$pid" || return 0
	[ "$1" != KILL ] || sql_becomes 60 "select pid <> $checkpointer from pg_stat_activity where backend_type = 'checkpointer'" t
}

# both_stuck: two runners wait for a lock, each with a page of its own
both_stuck()
{
	sql_becomes 60 "select count(*) from pg_stat_activity where backend_type = 'amzmp runner' and wait_event_type = 'Lock'" 2
	is "$(sql "select count(distinct runner_pid), count(*) from amzmp.task where kind = 'apply' and due_at = leased_until")" '2|2' "$1"
}

# all_in ORDERS NAME: they are there, with their lines, movements and reservations, and their units are gone from what is offered
all_in()
{
	sql_becomes 120 'select count(*) from amzmp.orders' "$1" ||
		diag "$(sql 'select kind, subject, due_at - now(), attempt, last_error from amzmp.task' 'select * from amzmp.order_cursor')"
	sql "call amzmp.wait('120 s')"
	is "$(sql 'select count(*) from amzmp.orders' 'select count(*) from amzmp.order_item' 'select count(*), -sum(quantity) from amzmp.movement' \
		'select count(*), sum(quantity) from amzmp.reservation where released_at is null' 'select sum(1000000 - desired_quantity) from amzmp.inventory')" \
		"$1"$'\n'$((2 * $1))$'\n'"$((2 * $1))|$((3 * $1))"$'\n'"$((2 * $1))|$((3 * $1))"$'\n'$((3 * $1)) "$2"
	is "$(sql 'select count(*) from amzmp.parked_order' 'select count(*) from amzmp.answer' \
		"select count(*) from amzmp.task where kind in ('apply', 'import')" "select count(*) from amzmp.request where operation = 'searchOrders'" \
		"select window_open, watermark is null or watermark < now() - interval '1 hour', last_page = pages from amzmp.order_cursor")" \
		$'0\n0\n0\n0\nf|f|t' 'nothing is left over, and the watermark has moved'
}

simulator_start s --rate-scale 0
cluster_start s 'log_min_messages = log'
control POST settings '{"order_lag": 0}' >/dev/null
shop_connect
sql "insert into amzmp.inventory (account_id, sku, listed, desired_quantity, remote_quantity, submitted_quantity_at)
	select account_id, 'S-' || i, true, 1000000, 1000000, now() - interval '1 day' from amzmp.account, generate_series(0, 15) i"

place 80
hold 'lock table amzmp.movement in exclusive mode'
sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
both_stuck 'two runners apply a page each'
is "$(sql "select array_agg(role_oid::integer order by role_oid) from (select distinct role_oid from amzmp._work() where due_at <= now()) w")" '{0,2}' \
	'more pages wait for both'
end_runner TERM
sql_becomes 60 "select count(*) from pg_stat_activity where backend_type = 'amzmp runner' and wait_event_type = 'Lock'" 2
pass 'another runner takes the place of one that was ended'
release
for ((i = 1; i <= 4; i++)); do
	sql_becomes 60 "select count(*) > $((i * 150)) from amzmp.orders" t
	end_runner "$([ $((RANDOM % 3)) = 0 ] && echo KILL || echo TERM)"
done
all_in 800 'all orders come in once, whatever is ended'
is "$(sql "select count(*) from amzmp.request_log where outcome = 'handler_failed'" \
	"select count(*) from amzmp.activity where message like 'pages of orders are missing%'")" $'0\n0' 'and no page was given up'

# A page token is refused behind pages that are being applied: the search begins again, they count for nothing.
place 80
hold 'lock table amzmp.movement in exclusive mode'
sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
both_stuck 'two runners again'
sql_becomes 60 "select count(*) from amzmp.answer" 6
control POST faults '{"operation": "searchOrders", "kind": "status", "status": 400}' >/dev/null
release
all_in 1600 'what the first try has read and what the second reads are the same orders'
is "$(sql 'select restarts from amzmp.order_cursor')" 1 'the search began again once'

# An order that another process writes at the same time for the first time: it is found there, and comes in all the same.
sql 'create table public.go (now boolean)'
order=$(control POST orders '{"items": [{"sku": "S-1", "quantity": 1}, {"sku": "S-2", "quantity": 2}]}' | grep -o '"orderId":"[^"]*"' | cut -d'"' -f4)
psql -XqAt -c begin -c "insert into amzmp.orders (account_id, amazon_order_id, order_number, purchased_at, last_updated_at)
	select account_id, '$order', '$order', now(), now() - interval '1 day' from amzmp.account" -c "do \$\$ begin
	while not exists (select from public.go) loop perform pg_sleep(0.02); end loop; end \$\$" -c commit &
sql_becomes 10 "select count(*) from pg_stat_activity where query like 'do%public.go%' and pid <> pg_backend_pid()" 1
sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
sql_becomes 60 "select count(*) from pg_stat_activity where backend_type = 'amzmp runner' and wait_event_type = 'Lock'" 1
sql 'insert into public.go values (true)'
all_in 1601 'an order that two write at once comes in once'
is "$(sql "select status from amzmp.orders where amazon_order_id = '$order'")" UNSHIPPED 'as Amazon tells it'

sql_becomes 10 "select count(*) from pg_stat_activity where backend_type = 'amzmp runner' and state <> 'idle'" 0
is "$(sql 'select count(*) from amzmp._work() where due_at <= now()')" 0 'and then nobody has anything to do'

# Two offers of one stock, sold by two processes at once: each computes the other anew, and both lock them in one order.
sql "insert into amzmp.source (account_id, source_id, run_as, relation, expressions, fields, sku_type, state)
		select account_id, 1000, 'postgres', 'pg_class', '{\"sku\": \"relname\"}', 'sku', 'text', 'held' from amzmp.account" \
	"insert into amzmp.source_value (account_id, source_id, name, expression) select account_id, 1000, 'stock_group', 'x' from amzmp.account" \
	"insert into amzmp.product (account_id, source_id, sku, quantity, extra)
		select account_id, 1000, sku, 100, '{\"stock_group\": \"tea\"}' from amzmp.account, unnest('{TEA,TEA-USED}'::text[]) sku" \
	"insert into amzmp.inventory (account_id, sku, desired_quantity) select account_id, sku, 100 from amzmp.account, unnest('{TEA,TEA-USED}'::text[]) sku"
hold "select from amzmp.inventory where sku = 'TEA-USED' for update"
sold=()
for sku in TEA-USED TEA; do
	sql "select amzmp._stock_moved(account_id, '{$sku}', '{1}', array[now()]) from amzmp.account" >/dev/null 2>"$RUN/${CLUSTER_PREFIX}$sku.error" &
	sold+=($!)
	sql_becomes 10 "select count(*) from pg_stat_activity where query like '%_stock_moved%' and wait_event_type = 'Lock'" ${#sold[@]}
done
release
status=0
wait "${sold[0]}" && wait "${sold[1]}" || status=1
ok $status 'neither waits for the other for ever'
[ $status = 0 ] || diag "$(cat "$RUN/${CLUSTER_PREFIX}"TEA*.error)"
is "$(control GET violations | grep -o '"count": *[0-9]*' | grep -o '[0-9]*')" 0 'nothing that Amazon would not take was sent'
finish
