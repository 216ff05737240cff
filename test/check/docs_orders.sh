#!/usr/bin/env bash
# The chapters about what follows an order tell the truth: their examples run, each against a shop with orders in it.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# Amazon's ten minutes are a second.
simulator_start orders --seed 3 --rate-scale 0 --time-scale 600 --verdict-delay 60
control POST settings '{"order_lag": 0}' >/dev/null
cd "$SOURCE_DIR"

# What the chapters call simulate: a control call.
mkdir -p "$RUN/bin"
cat >"$RUN/bin/simulate" <<-'SCRIPT'
	#!/bin/sh
	exec curl -fs "$AMZMP_SIMULATOR_URL/_control/$1" -d "$2"
SCRIPT
chmod +x "$RUN/bin/simulate"
export PATH=$RUN/bin:$PATH AMZMP_SIMULATOR_URL

# place NAME SPECIFICATION [ACTION]: an order under a name, and what happens to it
place()
{
	local id
	id=$(control POST orders "$2" | grep -o '"orderId": *"[^"]*"' | head -n 1 | cut -d'"' -f4)
	[ -z "${3:-}" ] || control POST "orders/$id/$3" '{}' >/dev/null
	sql "insert into the_order values ('$1', '$id')"
	export "${1^^}=$id"
}

# shop NAME [TIME_SCALE]: a cluster with a connected account acme and the role whose shop it is; its channel is to be activated
shop()
{
	cluster_start "$1"
	sql 'create extension amzmp' 'select amzmp.create_key() where amzmp._key_usable() is not null' >/dev/null
	sql "select amzmp.create_application('app', 'amzn1.application-oa2-client.demo')" \
		"select amzmp.create_account('acme', 'EU', 'app', 'A1DEMOSELLER', 'mock', '$AMZMP_SIMULATOR_URL', rate_scale => 0)" \
		"select amzmp.set_credentials('acme', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo')" \
		"select amzmp.create_channel('acme-de', 'acme', 'DE')" "select amzmp.activate('acme')" "update amzmp.account set time_scale = ${2:-600}" \
		"create role owner login" \
		'grant amzmp_admin to owner' 'grant create on schema public to owner' 'create table the_order (name text, amazon_order_id text)' \
		'grant select on the_order to owner' >/dev/null
}

poll()
{
	sql "select amzmp.activate('acme-de')" "select amzmp.run_flow('get_orders', account => 'acme')" "call amzmp.wait('60 s')" >/dev/null
	is "$(sql 'select count(*) from amzmp.orders')" "$1" 'the orders are there'
}

shop shipping
place first '{"items": [{"sku": "MUG", "quantity": 3, "price": 11.9}, {"sku": "HAT", "quantity": 1, "price": 23.8}]}'
poll 1
PGUSER=owner succeeds 'doc/shipping.md: its examples do what it says' perl test/lib/doctest.pl doc/shipping.md

control POST reset '{}' >/dev/null
shop returns
place shipped '{"items": [{"sku": "MUG", "quantity": 2, "price": 23.8}]}' ship
place unwanted '{"items": [{"sku": "HAT", "quantity": 1, "price": 23.8}]}'
place wanted '{"items": [{"sku": "PEN", "quantity": 1, "price": 5.95}]}'
place regretted '{"items": [{"sku": "PEN", "quantity": 1, "price": 5.95}]}'
poll 4
PGUSER=owner succeeds 'doc/returns.md: its examples do what it says' perl test/lib/doctest.pl doc/returns.md

control POST reset '{}' >/dev/null
control POST clock '{"time_scale": 60}' >/dev/null
shop orders 60
place mugs '{"items": [{"sku": "MUG", "quantity": 2, "price": 11.9}], "address": {"addressLine1": "Lindenallee 3", "city": "Bayreuth", "stateOrRegion": "Bayern", "postalCode": "95444", "countryCode": "DE"}}'
place hats '{"items": [{"sku": "HAT", "quantity": 2, "price": 23.8}]}'
place cup '{"items": [{"sku": "CUP", "quantity": 1, "title": "Tea cup"}]}'
place old '{"ago": 2000000, "items": [{"sku": "MUG", "quantity": 1}]}'
sql 'grant amzmp_buyer_data to owner'
PGUSER=owner succeeds 'doc/orders.md: its examples do what it says' perl test/lib/doctest.pl doc/orders.md

is "$(control GET violations | grep -o '"count": *[0-9]*' | grep -o '[0-9]*')" 0 'the examples asked Amazon nothing that it does not allow'
finish
