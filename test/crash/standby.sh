#!/usr/bin/env bash
# A standby runs none of our processes. Promoted, it starts them, and sends nothing before its identity is confirmed:
# the old primary may still be alive. A listed failover partner goes on by itself. Either reads back first what Amazon
# has: the old primary may have sent what the standby never heard of.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# make_standby NAME: a streaming copy of cluster "a", with an identity of its own.
make_standby()
{
	local from to
	from=$(cluster_dir a)
	to=$(cluster_dir "$1")
	as_server mkdir "$to" "$to/s" "$to/keys" "$to/credentials"
	as_server chmod 700 "$to/s" "$to/keys" "$to/credentials"
	as_server "$(pg_bin)/pg_basebackup" -h "$from/s" -p "$CLUSTER_PORT" -U postgres -D "$to/data" -R --checkpoint=fast
	# As if amzmp had never run there: buckets count as full, were it not for the primary.
	as_server rm "$to/data/pg_stat/amzmp_usage_plan.stat"
	# The key is no part of the data directory: whoever runs a standby puts it there.
	as_server cp "$from/keys/amzmp.key" "$to/keys/amzmp.key"
	cluster_start "$1" "unix_socket_directories = '$to/s'" "amzmp.key_file = '$to/keys/amzmp.key'" \
		"amzmp.credentials_dir = '$to/credentials'" "amzmp.node_identity = '$1'" "amzmp.failover_partners = 'a, c'"
}

ours()
{
	sql "select count(*) from pg_stat_activity where backend_type like 'amzmp%'"
}

caught_up()
{
	cluster_use a
	sql_becomes 30 "select bool_and(pg_current_wal_lsn() = replay_lsn) from pg_stat_replication" t
}

heard()
{
	control GET stats | grep -o '"requests":[0-9]*,"throttled"' | grep -o '[0-9]*'
}

# How often an operation arrived, or 0.
times()
{
	control GET stats | grep -o "\"$1\":{\"requests\":[0-9]*" | grep -o '[0-9]*$' || echo 0
}

# The price of KEPT is as it was submitted; that of MOVED is not, and nobody here knows.
somebody_else_sends()
{
	control POST listings '{"sku": "MOVED", "price": 12.5, "marketplace": "DE"}' >/dev/null
	control POST stats/reset '{}' >/dev/null
}

# read_back NAME: what Amazon had was read, and only what differed was sent.
read_back()
{
	sql_becomes 60 "select not exists (select from amzmp.listing where in_doubt or price_differs) and not exists (select from amzmp.request where operation = 'patchListingsItem')" t
	is "$(times searchListingsItems) $(times patchListingsItem)" '1 1' "$1: two offers were read in one call, and the one that differed was sent"
	wait_for 20 test_at_amazon MOVED '10.00 5' || true
	is "$(at_amazon MOVED)|$(at_amazon KEPT)" '10.00 5|10.00 5' "$1: and Amazon has what the shop wants"
}

test_at_amazon()
{
	[ "$(at_amazon "$1")" = "$2" ]
}

simulator_start s --rate-scale 0
cluster_start a "amzmp.node_identity = 'a'" "amzmp.failover_partners = 'a, c'"
shop_connect
sell KEPT MOVED
look_at before
known="select count(*) from amzmp.request_log where operation = 'getListingsItem'"
sql_becomes 30 "$known" 1
control POST faults '{"path": "/hang", "kind": "delay", "delay_ms": 600000, "count": -1}' >/dev/null
look_at hang
sql_becomes 20 "select count(*) from amzmp.request where state = 'sending'" 1

make_standby c
make_standby b
is "$(ours)" 0 'a standby runs none of our processes'
is "$(sql "$known")" 1 'it can be read'
is "$(sql "select state from amzmp.health() where check_name = 'processes'")" error 'and its health says that nothing works there'
fails 'nothing can be queued on it' look_at standby
caught_up
cluster_kill9 a
control DELETE faults >/dev/null
somebody_else_sends

cluster_ctl b -w promote
cluster_use b
succeeds 'promoted, it starts our processes' sql_becomes 30 "select count(*) from pg_stat_activity where backend_type in ('amzmp launcher', 'amzmp sender')" 2
is "$(sql "select state from amzmp.health() where check_name = 'identity'")" warning 'which tell that its identity is not confirmed'
is "$(sql "select count(*) filter (where amzmp._usage_take(1, 'slow', 0.000001, 5) = 0) from generate_series(1, 5)")" 0 \
	'and trusts no bucket: the old primary may have spent what was in it'
look_at after
sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
# A user-visible sign that the sender has looked at the queue since: work that needs no network is done.
sql_becomes 30 "select count(*) from amzmp.task where kind = 'flow'" 0
is "$(sql "select count(*) from amzmp.request where state = 'sending'")" 0 'nothing is sent'
is "$(heard)" 0 'Amazon has heard nothing of it'
fails 'and nothing can be called' sql "select amzmp.call('shop', 'getMarketplaceParticipations')"
like "$(sql 'select amzmp.confirm_identity()')" '2 listings in 1 channel: .* read back first \(1 call\)' 'confirming says what will be read back'
sql_becomes 60 "select count(*) from amzmp.request_log where params ->> 'sku' in ('hang', 'after')" 2
pass 'once confirmed it goes on where the old one stopped'
read_back confirmed
is "$(sql 'select amzmp.confirm_identity()')" 'confirmed already: nothing has changed' 'confirming twice changes nothing'
cluster_stop b

# A listed partner is asked nothing.
somebody_else_sends
cluster_ctl c -w promote
cluster_use c
succeeds 'a listed partner goes on by itself' sql_becomes 60 "select count(*) from amzmp.request_log where params ->> 'sku' = 'hang'" 1
read_back partner
is "$(sql "select node_identity || ' ' || confirmed_by from amzmp.identity")" 'c amzmp_owner' 'and is the one that sends from now on'
is "$(sql "select state from amzmp.health() where check_name = 'identity'")" ok 'as its health says'

# Restarted it knows itself; its timeline is the same.
control POST stats/reset '{}' >/dev/null
cluster_restart c
look_at again
sql_becomes 60 "select count(*) from amzmp.request_log where params ->> 'sku' = 'again'" 1
is "$(times searchListingsItems)" 0 'a restart is no change of identity'
finish
