#!/usr/bin/env bash
# A shop that publishes and changes hundreds of products at once, by feeds and single calls beside each other: new offers by
# ASIN and by barcode, products that the catalogue does not have, their content, deletions. Meanwhile a feed is cancelled,
# another hangs, messages are refused, and the server is killed. In the end Amazon has what the shop wants.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# Amazon's minutes are seconds, there and here.
simulator_start a --rate-scale 0 --time-scale 60 --verdict-delay 60
cluster_start a
sql 'create extension pg_cron' 'create role shop login' 'create schema shop authorization shop'
shop_connect
sql 'grant amzmp_admin to shop' "update amzmp.account set time_scale = 60, rate_scale = 0.03" \
	"select amzmp.set('shop', s.name, s.value) from (values ('brake_minimum', '1000000'), ('feed_minimum', '20'), ('feed_expected', '60 s'),
	   ('on_remove', 'delete'), ('feed_pause', '0 s')) as s (name, value)" \
	"select amzmp.set('DE', s.name, 'true') from (values ('send_content'), ('send_images')) as s (name)" >/dev/null
export PGUSER=shop

# Seventy by ASIN, seventy by barcode, sixty that no catalogue has; some are refused.
control GET 'catalog/eans?count=140&outcome=single' >"$RUN/$CLUSTER_PREFIX.eans"
control GET 'catalog/eans?count=60&outcome=none' >"$RUN/$CLUSTER_PREFIX.new"
chmod a+r "$RUN/$CLUSTER_PREFIX.eans" "$RUN/$CLUSTER_PREFIX.new"
sql "create table shop.product (sku text primary key, asin text, ean text, price numeric(12,2), stock integer, title text, facts boolean)" >/dev/null
PGUSER=postgres sql "insert into shop.product
	select kind || lpad(n::text, 3, '0') || case when n % 10 = 7 and kind <> 'NEW' then '-REJECT' else '' end, case kind when 'ASIN' then e #>> '{asins,0}' end,
	       case when kind <> 'ASIN' then e ->> 'ean' end, 10 + n % 7, 5, 'Mug ' || n, kind = 'NEW'
	  from (select case when n <= 70 then 'ASIN' else 'EAN' end as kind, n, e
	          from jsonb_array_elements(pg_read_file('$RUN/$CLUSTER_PREFIX.eans')::jsonb -> 'eans') with ordinality as a (e, n)
	        union all
	        select 'NEW', n, e from jsonb_array_elements(pg_read_file('$RUN/$CLUSTER_PREFIX.new')::jsonb -> 'eans') with ordinality as a (e, n)) x" >/dev/null
rm -f "$RUN/$CLUSTER_PREFIX.eans" "$RUN/$CLUSTER_PREFIX.new"
sql "select amzmp.attach_source('shop', 'shop.product', ean => 'ean', asin => 'asin')" \
	"select amzmp.attach_value('shop', 'attributes', 'case when facts then jsonb_build_object(''item_name'', title, ''brand'', ''Nordlicht'') end')" \
	"select amzmp.attach_value('shop', 'product_type', 'case when facts then ''MUG'' end')" \
	"select amzmp.attach_value('shop', 'images', 'case when facts then array[''https://shop.example/'' || sku || ''.jpg''] end')" \
	"select amzmp.set_rule('shop', '{\"send\": [\"price\", \"stock\", \"details\", \"content\", \"images\"]}')" >/dev/null
sql "call amzmp.wait('60 s')" >/dev/null
good=$(sql "select count(*) from shop.product where sku not like '%-REJECT'")

state()
{
	diag "$(sql "select state, step, count(*), min(state_reason) from amzmp.listing group by 1, 2 order by 1, 2")" \
		"$(sql "select feed_id, state, argument ->> 'render', messages, accepted, refused, reason from amzmp.feed order by feed_id")" \
		"$(sql "select operation, state, priority, count(*) from amzmp.request group by 1, 2, 3")"
}

# eventually NAME STATEMENT VALUE
eventually()
{
	local failed=0
	sql_becomes 90 "$2" "$3" || failed=1
	ok "$failed" "$1"
	[ "$failed" = 0 ] || state
}

# ---- published, whatever happens on the way

control POST settings '{"verdict_delay": 1800}' >/dev/null
sql "select amzmp.publish('DE', array(select sku from shop.product))" >/dev/null
sql_becomes 60 "select count(*) > 0 from amzmp.feed where argument ->> 'render' = '_render_put' and state = 'in_queue'" t || state
sql "select amzmp.enqueue('shop', 'cancelFeed', jsonb_build_object('feedId', amazon_feed_id)) from amzmp.feed
	  where argument ->> 'render' = '_render_put' and state = 'in_queue' order by feed_id limit 1" >/dev/null
eventually 'a feed of new offers is cancelled' "select count(*) > 0 from amzmp.feed where state = 'cancelled' and messages > 0" t
control POST settings '{"verdict_delay": 60}' >/dev/null
sql_becomes 30 "select count(*) > 0 from amzmp.feed where open and argument ? 'render'" t || true
PGUSER=postgres sender_end KILL
control POST clock '{"advance": 3600}' >/dev/null
eventually 'all that Amazon takes is on sale, with its stock' \
	"select count(*) from amzmp.listing where state = 'live' and step is null" "$good"
is "$(sql "select string_agg(distinct state, ' ') from amzmp.listing where state <> 'live'")" rejected 'and the rest is rejected'
is "$(sql "select sum(accepted) > 30 from amzmp.feed where argument ->> 'render' = '_render_put'")" t 'many of them by feeds'

# How long feeds took so far is forgotten, so that these few are worth one.
forget()
{
	PGUSER=postgres sql "update amzmp.feed set processed_at = processed_at - interval '30 days'"
}

# in_feed RENDER STATEMENT: a feed with such requests is at Amazon after the statement. Single calls wait until it is built.
in_feed()
{
	sql "select amzmp.hold('shop', 'a feed is built')" >/dev/null
	sql "$2" >/dev/null
	sql_becomes 60 "select count(*) > 0 from amzmp.feed where state = 'built' and argument ->> 'render' = '$1'" t || state
	sql "select amzmp.resume('shop')" >/dev/null
	ok "$(sql_becomes 60 "select count(*) > 0 from amzmp.feed where state in ('submitted', 'in_queue', 'in_progress') and argument ->> 'render' = '$1'" t &&
		echo 0 || echo 1)" "a feed is made ($1)"
}

# ---- content changes, and a feed hangs while the shop sells out

forget
control POST settings '{"verdict_delay": 1200}' >/dev/null
in_feed _render_patch "update shop.product set title = 'Large ' || title, price = price + 1 where facts"
flying="select m.sku from amzmp.feed_message m join amzmp.feed f using (feed_id) where f.open and m.request is not null"
is "$(sql "select distinct facets from amzmp.feed_message m join amzmp.feed f using (feed_id) where f.open and m.request is not null")" '{price,product}' \
	'with the price in the same message'
sold=$(sql "$flying order by 1 limit 1")
taken=$(sql "$flying order by 1 desc limit 1")
sql "update shop.product set stock = 0 where sku = '$sold'" "select amzmp.unpublish('DE', '{$taken}')" >/dev/null
ok "$(sql_becomes 15 "select remote_quantity from amzmp.inventory where sku = '$sold'" 0 && echo 0 || echo 1)" 'what is sold out stops'
ok "$(sql_becomes 15 "select state from amzmp.listing where sku = '$taken'" removed && echo 0 || echo 1)" 'and what is taken back goes'
is "$(sql "select count(*) > 0 from amzmp.feed where open and argument ->> 'render' = '_render_patch'")" t 'while the feed hangs'
control POST settings '{"verdict_delay": 60}' >/dev/null
control POST clock '{"advance": 4800}' >/dev/null
eventually 'then all content arrives' "select (select count(*) from amzmp.content_diff where sku <> '$taken') + (select count(*) from amzmp.price_diff) +
	(select count(*) from amzmp.stock_diff) + (select count(*) from amzmp.feed where open)" 0
like "$(control GET "listings?sku=$sold" | tr -d '\n')" '"Large Mug' 'and Amazon has it'
is "$(sql "select state from amzmp.listing where sku = '$taken'")" removed 'what was taken back stays away'

# ---- deletions: a feed that hangs keeps nothing on sale

forget
control POST settings '{"verdict_delay": 2400}' >/dev/null
in_feed _render_delete "select count(amzmp.unpublish('DE', array(select sku from amzmp.listing where wanted and sku not like 'NEW%')))"
eventually 'and all of them by single calls in the end' "select count(*) from amzmp.listing where listed and not wanted" 0
is "$(sql "select count(*) > 0 from amzmp.feed where open and argument ->> 'render' = '_render_delete'")" t 'before the feed ends'
control POST clock '{"advance": 9600}' >/dev/null
eventually 'whose end changes nothing' "select count(*) from amzmp.feed where open" 0
is "$(sql "select count(*) from amzmp.listing where listed and not wanted")" 0 'they stay deleted'
control GET 'listings?limit=1000' >"$RUN/$CLUSTER_PREFIX.listings"
chmod a+r "$RUN/$CLUSTER_PREFIX.listings"
is "$(PGUSER=postgres sql "select substring(l ->> 'sku', '^[A-Z]+') as kind, count(*)
	from jsonb_array_elements(pg_read_file('$RUN/$CLUSTER_PREFIX.listings')::jsonb -> 'listings') l where l -> 'offers' <> '[]' group by 1")" \
	'NEW|59' 'at Amazon only what was not deleted is left'
rm -f "$RUN/$CLUSTER_PREFIX.listings"
is "$(control GET violations | grep -o '"count":[0-9]*')" '"count":0' 'Amazon was asked nothing that it does not allow'
finish
