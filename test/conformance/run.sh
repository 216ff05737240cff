#!/usr/bin/env bash
# Does what amzmp and its simulator say to each other fit what Amazon publishes? Judged by Amazon's own JavaScript client:
#
#   answers.test.mjs    the client drives the simulator; every answer must fit its model classes
#   requests.test.mjs   bodies that amzmp sent, as the simulator recorded them, must fit them too
#
# Needs node and npm, which "script/setup.sh node" brings, and the package from npm's registry. With
# AMZMP_CONFORMANCE_OPTIONAL=1, as CI runs it, missing either is told and is no failure.
. "$(dirname "$0")/../lib/scene.sh"
. "$(dirname "$0")/../lib/shop.sh"

HERE=$SOURCE_DIR/test/conformance
CLIENT=$BUILD/conformance

# skip REASON: the end, a good one only where conformance is optional.
skip()
{
	[ "${AMZMP_CONFORMANCE_OPTIONAL:-0}" = 1 ] || die "$1"
	echo "conformance: skipped: $1"
	exit 0
}

# What the lock file says, and nothing that a package would like to run. The tests stand beside the packages, because
# that is where node looks for them.
install_client()
{
	mkdir -p "$CLIENT"
	if ! cmp -s "$HERE/package-lock.json" "$CLIENT/installed"; then
		cp "$HERE/package.json" "$HERE/package-lock.json" "$CLIENT"
		npm ci --prefix "$CLIENT" --ignore-scripts --no-audit --no-fund --loglevel=error >"$CLIENT/npm.log" 2>&1 ||
			skip "npm cannot install Amazon's client: $(tail -n 1 "$CLIENT/npm.log")"
		cp "$HERE/package-lock.json" "$CLIENT/installed"
	fi
	cp "$HERE"/*.mjs "$HERE/package.json" "$CLIENT"
}

as_shop()
{
	PGUSER=shop sql "$@" >/dev/null
}

# An order of what is on sale, and its id.
order()
{
	control POST orders '{"marketplace": "DE", "count": 1, "lines": 2}' >/dev/null
	control POST clock '{"advance": 130}' >/dev/null
	as_shop "select amzmp.run_flow('get_orders', account => 'shop')" "call amzmp.wait('60 s')"
	sql "select amazon_order_id from amzmp.orders where status = 'UNSHIPPED' order by purchased_at limit 1"
}

# One of each thing that amzmp sends: an offer, a price, a quantity, its end, a confirmation of shipment.
shop_at_work()
{
	local eans
	eans=$(control GET 'catalog/eans?count=3&from=20' | grep -oE '"ean": ?"[0-9]+"' | grep -oE '[0-9]{13}' | tr '\n' ',')
	shop_connect
	sql "create role shop login" "grant amzmp_admin to shop" "create schema shop authorization shop" \
		"alter role shop set search_path = shop"
	as_shop "create table product (sku text primary key, ean text, title text, price numeric, stock integer)" \
		"insert into product select 'CONF-' || i, e, 'Thing ' || i, 10 + i, 20 from unnest(string_to_array('${eans%,}', ',')) with ordinality t (e, i)" \
		"select amzmp.attach_source('shop', 'product', title => 'title', ean => 'ean')" "call amzmp.wait('60 s')" \
		"select amzmp.publish('DE', array(select sku from product))" "call amzmp.wait('120 s', 'settled')" \
		"update product set price = price + 1 where sku = 'CONF-1'" "update product set stock = 0 where sku = 'CONF-2'" \
		"call amzmp.wait('60 s', 'settled')"
	as_shop "select amzmp.confirm_shipment('shop', '$(order)', 'DHL', '00340434292135100186')" "call amzmp.wait('60 s')" \
		"select amzmp.unpublish('DE', array['CONF-3'])" "call amzmp.wait('60 s', 'settled')"
}

command -v node >/dev/null && command -v npm >/dev/null || skip 'node or npm is missing'
install_client
simulator_start conformance --rate-scale 0
cluster_start conformance
shop_at_work
control GET 'requests?limit=500' >"$RUN/requests.json"
cd "$CLIENT"
AMZMP_REQUESTS=$RUN/requests.json node --test --test-reporter=tap requests.test.mjs answers.test.mjs
