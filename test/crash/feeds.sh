#!/usr/bin/env bash
# Feeds against the simulator, whole and with faults: what a large change needs, a feed whose creation was not answered,
# messages that Amazon refuses, and a feed that hangs while the shop sells out.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# Amazon's minutes are seconds, there and here.
simulator_start a --rate-scale 0 --time-scale 60 --verdict-delay 60
cluster_start a
sql 'create extension pg_cron' 'create role shop login' 'create schema shop authorization shop'
shop_connect
sql 'grant amzmp_admin to shop' "update amzmp.account set time_scale = 60" "select amzmp.set('shop', 'brake_minimum', '1000000')" >/dev/null
export PGUSER=shop
sql "create table shop.product (sku text primary key, ean text, price numeric(12,2), stock integer)" \
	"insert into shop.product select 'S' || lpad(i::text, 3, '0'), d || (10 - sum(substr(d, k, 1)::integer * (1 + 2 * ((k + 1) % 2))) % 10) % 10, 20, 5
	   from generate_series(1, 300) i, cast((401234500000 + i)::text as text) d, generate_series(1, 12) k
	  where i % 100 < 95 group by i, d" \
	"select amzmp.attach_source('shop', 'shop.product', ean => 'ean')" >/dev/null
sql "call amzmp.wait('60 s')" "select amzmp.publish('DE', array(select sku from shop.product))" >/dev/null
sql_becomes 90 "select count(*) from amzmp.listing where state <> 'live'" 0 || true
count=$(sql "select count(*) from shop.product")
is "$(sql "select count(*) from amzmp.listing where state = 'live'")" "$count" 'all offers are live'

# From here on single calls have a limit.
PGUSER=postgres sql "update amzmp.account set rate_scale = 0.1" \
	"select amzmp.set('shop', 'bulk_feeds', 'true')" "select amzmp.set('shop', 'feed_minimum', '20')" \
	"select amzmp.set('shop', 'feed_expected', '60 s')" >/dev/null

# What waits, in any form. The flows of a quick clock never rest, so this says more than amzmp.wait.
waiting="select (select count(*) from amzmp.price_diff) + (select count(*) from amzmp.stock_diff)
	+ (select count(*) from amzmp.feed where open) + (select count(*) from amzmp.request where operation ~ 'patch|Feed')
	+ (select count(*) from amzmp.change)"

# arrives NAME: everything arrives within a while
arrives()
{
	sleep 0.2
	ok "$(sql_becomes 60 "$waiting" 0 && echo 0 || echo 1)" "$1"
}

# ---- a large change

sql "update shop.product set price = 21, stock = 9" >/dev/null
arrives 'everything arrived'
is "$(sql "select state, messages > 150, messages = accepted from amzmp.feed")" 'done|t|t' 'most of it by a feed'
is "$(arrived createFeed)" 1 'which was created once'
is "$(sql "select amzmp.feed_document('shop', feed_id)::jsonb -> 'header' ->> 'sellerId' from amzmp.feed")" A1DEMOSELLER 'its document is kept'
is "$(sql "select (amzmp.feed_response('shop', feed_id)::jsonb #>> '{summary,messagesAccepted}')::int = messages from amzmp.feed")" t 'and the response'
sleep 2 # a verdict takes one
sql "select amzmp.verify('DE')" >/dev/null
sql_becomes 30 "select count(*) from amzmp.listing where observed_price <> 21" 0 || true
is "$(sql "select count(*) from amzmp.listing where observed_price = 21")" "$count" 'Amazon shows the prices'
is "$(sql "select count(*) from amzmp.drift")" 0 'and nothing else than we expect'

# ---- a creation whose answer is lost

control POST faults '{"operation": "createFeed", "kind": "drop_after"}' >/dev/null
sql "update shop.product set price = 22" >/dev/null
arrives 'everything arrived though an answer was lost'
is "$(arrived createFeed)" 2 'the feed was not created twice'
is "$(sql "select string_agg(state, ' ') from amzmp.feed")" 'done done' 'but found'

# ---- one that got lost itself

control POST faults '{"operation": "createFeed", "kind": "drop_before"}' >/dev/null
control POST faults '{"path": "/_documents/", "kind": "drop_before"}' >/dev/null
sql "update shop.product set price = 23" >/dev/null
arrives 'everything arrived though a feed and an upload were lost'
is "$(sql "select string_agg(state, ' ') from amzmp.feed")" 'done done done' 'by a feed that was created again'

# ---- a report that is somebody else's page

control POST faults '{"operation": "downloadDocument", "kind": "not_json"}' >/dev/null
sql "update shop.product set price = 23.5" >/dev/null
arrives 'everything arrived though a report could not be read'
is "$(sql "select count(*) from amzmp.activity where message ~ 'report of the feed cannot be read'")" 1 'which was noted'
is "$(sql "select string_agg(state, ' ') from amzmp.feed")" 'done done done done' 'and fetched anew'

# ---- messages that Amazon refuses

sql "update shop.product set price = case sku when 'S294' then 60000 else 24 end" >/dev/null
sql_becomes 60 "select count(*) from amzmp.listing where remote_price = 24" $((count - 1)) || true
is "$(sql "select count(*) from amzmp.feed where state = 'done'")" 5 'a feed with a bad message is done'
is "$(sql "select count(*) from amzmp.listing where remote_price = 24")" $((count - 1)) 'and the others went through'

# ---- a feed that hangs while the shop sells out

sql "update shop.product set price = 24 where sku = 'S294'" >/dev/null
sql "select amzmp.release_penalty('shop')" >/dev/null
sql_becomes 30 "$waiting" 0 || true
control POST settings '{"verdict_delay": 600}' >/dev/null
PGUSER=postgres sql "select amzmp.set('shop', 'feed_deadline', '360 s')" >/dev/null
sql "update shop.product set stock = 20" >/dev/null
sql_becomes 30 "select count(*) from amzmp.feed where state in ('submitted', 'in_queue', 'in_progress')" 1
sold=$(sql "select sku from amzmp.feed_message join amzmp.feed using (feed_id) where open and quantity = 20 order by sku limit 1")
sql "update shop.product set stock = 0 where sku = '$sold'" >/dev/null
ok "$(sql_becomes 20 "select submitted_quantity from amzmp.inventory where sku = '$sold'" 0 && echo 0 || echo 1)" 'a stop overtakes the feed'
is "$(sql "select count(*) from amzmp.feed where open")" 1 'which still hangs'
ok "$(sql_becomes 30 "select count(*) from amzmp.feed where state = 'stuck'" 1 && echo 0 || echo 1)" 'and is stuck in the end'
control POST settings '{"verdict_delay": 60}' >/dev/null
ok "$(sql_becomes 90 "select count(*) from amzmp.feed where state = 'stuck'" 0 && echo 0 || echo 1)" 'it ends after all'
arrives 'what the shop wants is there'
like "$(control GET "listings?sku=$sold")" '"quantity": *0' 'and nothing is sold that is not there'
finish
