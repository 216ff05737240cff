#!/usr/bin/env bash
# A standby runs none of our processes. Promoted, it starts them, and sends nothing before its identity is confirmed:
# the old primary may still be alive.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# A streaming copy of cluster "a", under the name "b", with an identity of its own.
make_standby()
{
	local from to
	from=$(cluster_dir a)
	to=$(cluster_dir b)
	as_server mkdir "$to" "$to/s" "$to/keys" "$to/credentials"
	as_server chmod 700 "$to/s" "$to/keys" "$to/credentials"
	as_server "$(pg_bin)/pg_basebackup" -h "$from/s" -p "$CLUSTER_PORT" -U postgres -D "$to/data" -R --checkpoint=fast
	# The key is no part of the data directory: whoever runs a standby puts it there.
	as_server cp "$from/keys/amzmp.key" "$to/keys/amzmp.key"
	cluster_start b "unix_socket_directories = '$to/s'" "amzmp.key_file = '$to/keys/amzmp.key'" \
		"amzmp.credentials_dir = '$to/credentials'" "amzmp.node_identity = 'b'"
}

ours()
{
	sql "select count(*) from pg_stat_activity where backend_type like 'amzmp%'"
}

caught_up()
{
	cluster_use a
	sql_becomes 30 "select pg_current_wal_lsn() = replay_lsn from pg_stat_replication" t
}

simulator_start s --rate-scale 0
cluster_start a
shop_connect
look_at before
sql_becomes 30 'select count(*) from amzmp.request_log' 1
control POST faults '{"path": "/hang", "kind": "delay", "delay_ms": 600000, "count": -1}' >/dev/null
look_at hang
sql_becomes 20 "select count(*) from amzmp.request where state = 'sending'" 1

make_standby
is "$(ours)" 0 'a standby runs none of our processes'
is "$(sql 'select count(*) from amzmp.request_log')" 1 'it can be read'
is "$(sql "select state from amzmp.health() where check_name = 'processes'")" error 'and its health says that nothing works there'
fails 'nothing can be queued on it' look_at standby
caught_up
cluster_kill9 a
control POST stats/reset '{}' >/dev/null
control DELETE faults >/dev/null

cluster_ctl b -w promote
cluster_use b
succeeds 'promoted, it starts our processes' sql_becomes 30 "select count(*) from pg_stat_activity where backend_type in ('amzmp launcher', 'amzmp sender')" 2
is "$(sql "select state from amzmp.health() where check_name = 'identity'")" warning 'which tell that its identity is not confirmed'
look_at after
sql "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null
# A user-visible sign that the sender has looked at the queue since: work that needs no network is done.
sql_becomes 30 "select count(*) from amzmp.task where kind = 'flow'" 0
is "$(sql "select count(*) from amzmp.request where state = 'sending'")" 0 'nothing is sent'
is "$(control GET stats | grep -c '"requests":0,"throttled"')" 1 'Amazon has heard nothing of it'
fails 'and nothing can be called' sql "select amzmp.call('shop', 'getMarketplaceParticipations')"
sql 'select amzmp.confirm_identity()' >/dev/null
sql_becomes 60 "select count(*) from amzmp.request_log where params ->> 'sku' in ('hang', 'after')" 2
pass 'once confirmed it goes on where the old one stopped'
finish
