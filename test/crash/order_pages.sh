#!/usr/bin/env bash
# Pages of orders that are imported at once, because none of the shop's SQL is involved: the server is killed while they
# are imported, between them and wherever it happens to be, pages come twice, one cannot be applied. Each order comes in once.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# The whole server falls with any of its processes that is killed so; returns when it is up again.
kill_process()
{
	local pid checkpointer
	checkpointer=$(sql "select pid from pg_stat_activity where backend_type = 'checkpointer'")
	pid=$(sql "select pid from pg_stat_activity where backend_type = '$1' order by state = 'active' desc limit 1")
	[ -n "$pid" ] && kill -9 "$pid" || return 1
	sql_becomes 60 "select pid <> $checkpointer from pg_stat_activity where backend_type = 'checkpointer'" t
}

stuck()
{
	sql_becomes 60 "select count(*) > 0 from pg_stat_activity where backend_type = '$1' and wait_event_type = 'Lock'" t
}

# place N: N times ten orders of three units each
place()
{
	local i
	for ((i = 0; i < $1; i++)); do
		control POST orders "{\"count\": 10, \"items\": [{\"sku\": \"S-$((i % 8))\", \"quantity\": 1}, {\"sku\": \"T-$((i % 8))\", \"quantity\": 2}]}" >/dev/null
	done
}

simulator_start s --rate-scale 0
cluster_start s 'log_min_messages = log'
control POST settings '{"order_lag": 0}' >/dev/null
shop_connect

# What is left changes while it is read, so that the last page is empty: it overtakes the page that is being imported, and
# the search ends with that one.
place 11
control POST faults '{"operation": "searchOrders", "kind": "empty_page", "count": 2}' >/dev/null
hold 'lock table amzmp.movement in exclusive mode'
sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
stuck 'amzmp runner'
sql_becomes 30 'select last_page from amzmp.order_cursor' 2
is "$(sql 'select pages, window_open from amzmp.order_cursor' "select count(*) from pg_stat_activity where backend_type = 'amzmp sender' and wait_event_type = 'Lock'")" \
	$'1|t\n0' 'an empty last page is applied while the one before it is imported'
release
sql "call amzmp.wait('120 s')"
is "$(sql 'select count(*) from amzmp.orders' 'select watermark is not null and not window_open from amzmp.order_cursor' \
	"select count(*) from amzmp.activity where message like 'pages of orders are missing%'")" $'100\nt\n0' 'and the search ends when that is done'

place 80
control POST faults '{"operation": "searchOrders", "kind": "duplicate_page"}' >/dev/null
# killed while a page is imported: it has been asked for what comes after it already,
hold 'lock table amzmp.movement in exclusive mode'
sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
stuck 'amzmp runner'
sql_becomes 60 'select count(*) > 1 from amzmp.answer' t
is "$(sql 'select count(*) from amzmp.orders')" 100 'the next page is here while the first one waits'
kill_process 'amzmp runner'
# and wherever the processes happen to be.
for share in 200 400 600; do
	sql_becomes 60 "select count(*) > $share from amzmp.orders" t
	kill_process 'amzmp runner' || kill_process 'amzmp sender'
done
sql_becomes 120 'select count(*) from amzmp.orders' 910 ||
	diag "$(sql 'select kind, due_at - now(), attempt, last_error from amzmp.task' 'select * from amzmp.order_cursor')"
sql "call amzmp.wait('120 s')"
is "$(sql 'select count(*) from amzmp.orders' 'select count(*) from amzmp.order_item' 'select count(*) from amzmp.order_buyer')" $'910\n1820\n910' \
	'all orders of all pages come in once, whatever is killed'
is "$(sql 'select count(*), -sum(quantity) from amzmp.movement' 'select count(*), sum(quantity) from amzmp.reservation where released_at is null')" \
	$'1820|2730\n1820|2730' 'with their movements, and their units held until the shop takes them'
is "$(sql 'select count(*) from amzmp.parked_order' 'select count(*) from amzmp.answer')" $'0\n0' 'and nothing is left over'

# A page with new orders that cannot be applied: those behind it come in, but the search is not at its end. A poll reads it all again.
before=$(sql 'select watermark from amzmp.order_cursor')
place 15
bad=$(control POST orders '{"items": [{"sku": "S-0", "quantity": 1}]}' | grep -o '"orderId":"[^"]*"' | cut -d'"' -f4)
place 15
sql 'alter function amzmp._take_orders(bigint, amzmp.arrived_order[], boolean) rename to _take_orders_as_ever' \
	"create function amzmp._take_orders(account_id bigint, arrived amzmp.arrived_order[], force boolean) returns integer language plpgsql as \$\$
	begin
		if '$bad' in (select amazon_order_id from unnest(arrived)) and not exists (select from amzmp.request_log where outcome = 'handler_failed') then
			raise exception 'not this page';
		end if;
		return amzmp._take_orders_as_ever(account_id, arrived, force);
	end \$\$" "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
sql_becomes 60 "select count(*) from amzmp.request_log where outcome = 'handler_failed'" 1
sql_becomes 60 'select window_open from amzmp.order_cursor' f
is "$(sql "select watermark = '$before' from amzmp.order_cursor" 'select count(*) < 1211 from amzmp.orders')" $'t\nt' \
	'the watermark does not pass orders that were not read'
is "$(sql "select count(*) from amzmp.activity where level = 'error' and message like 'pages of orders are missing%'")" 1 'which is said'
sql "select amzmp.run_flow('get_orders', account => 'shop')" "call amzmp.wait('120 s')" >/dev/null
is "$(sql 'select count(*) from amzmp.orders' "select watermark > '$before' from amzmp.order_cursor")" $'1211\nt' 'the next poll brings them'
is "$(control GET violations | grep -o '"count": *[0-9]*' | grep -o '[0-9]*')" 0 'and nothing that Amazon would not take was sent'
finish
