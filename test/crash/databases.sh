#!/usr/bin/env bash
# Nobody has to stop amzmp by hand to drop, rename or copy a database, or to drop the extension; a database that gets the
# extension is served; a copy is silent.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

senders()
{
	psql -XqAt -d postgres -c "select coalesce(string_agg(datname, ' ' order by datname), '') from pg_stat_activity where backend_type = 'amzmp sender'"
}

served()
{
	[ "$(senders)" = "$1" ]
}

# at DATABASE STATEMENT …
at()
{
	local PGDATABASE=$1
	shift
	sql "$@"
}

simulator_start s --rate-scale 0
# pg_cron stays connected to its database, so that is another one.
cluster_start s "cron.database_name = 'postgres'" "amzmp.databases = ''" "amzmp.node_identity = 'a'"
shop_connect
control POST faults '{"path": "/hang", "kind": "delay", "delay_ms": 600000, "count": -1}' >/dev/null
succeeds 'CREATE EXTENSION starts a sender' wait_for 20 served shop
look_at hang
sql_becomes 20 "select state from amzmp.request" sending

succeeds 'ALTER DATABASE RENAME works while a request hangs' at postgres 'alter database shop rename to store'
succeeds 'the sender comes back in the renamed database' wait_for 20 served store
export PGDATABASE=store
sql_becomes 30 "select attempt from amzmp.request where params ->> 'sku' = 'hang'" 2
pass 'and goes on with what was in flight'
is "$(sql "select state from amzmp.health() where check_name = 'identity'")" ok 'a renamed database may send'

succeeds 'CREATE DATABASE … TEMPLATE works' at postgres 'create database copy template store'
succeeds 'both are served' wait_for 20 served 'copy store'
sql_becomes 30 "select attempt from amzmp.request where params ->> 'sku' = 'hang'" 3
is "$(at copy "select state from amzmp.health() where check_name = 'identity'")" warning 'the copy may not send, and says so'
is "$(at copy "select remedy from amzmp.health() where check_name = 'identity'")" 'select amzmp.confirm_identity();' 'and what would let it'
control POST stats/reset '{}' >/dev/null
(PGDATABASE=copy && look_at from-the-copy)
look_at from-the-original
sql_becomes 30 "select count(*) from amzmp.request_log where params ->> 'sku' = 'from-the-original'" 1
is "$(at copy "select string_agg(state || ' ' || attempt, ', ' order by request_id) from amzmp.request")" 'due 2, due 0' 'a copy sends nothing, nor what the original had in flight'
is "$(control GET 'arrivals?operation=getListingsItem' | grep -c copy)" 0 'Amazon has heard nothing of it'
fails 'and it cannot call' at copy "select amzmp.call('shop', 'getMarketplaceParticipations')"
at copy 'select amzmp.confirm_identity()' >/dev/null
(PGDATABASE=copy && sql_becomes 30 "select count(*) from amzmp.request_log where params ->> 'sku' = 'from-the-copy'" 1)
pass 'once confirmed it sends'

# An encoding that cannot hold what Amazon sends.
at postgres "create database latin template template0 encoding 'LATIN1' locale 'C'"
like "$(at latin 'create extension amzmp' 2>&1 || true)" 'amzmp needs a database with encoding UTF8, this one has LATIN1.*HINT: .*restore it' 'another encoding is refused, and what to do is said'
is "$(at latin "select count(*) from pg_namespace where nspname = 'amzmp'")" 0 'nothing is left of the attempt'
at postgres 'drop database latin'

# Somebody who may not drop a database cannot make our processes leave it.
sql 'create role nobody login' 'revoke connect on database copy from public'
pid=$(sender_pid)
fails 'a stranger cannot drop the database' env PGUSER=nobody psql -Xq -d postgres -c 'drop database store'
is "$(sender_pid)" "$pid" 'nor disturb its sender'
fails 'a statement that fails' at postgres 'alter database store rename to copy'
succeeds 'leaves the sender where it was' wait_for 20 served 'copy store'

succeeds 'DROP DATABASE works' at postgres 'drop database copy'
succeeds 'the other is still served' wait_for 20 served store

# The extension leaves while requests hang.
control POST faults '{"operation": "getListingsItem", "kind": "delay", "delay_ms": 600000, "count": -1}' >/dev/null
look_at again-{1..5}
sql_becomes 20 "select count(*) from amzmp.request where state = 'sending'" 6
succeeds 'DROP EXTENSION works while requests hang' sql "set lock_timeout = '20s'" 'drop extension amzmp cascade'
control DELETE faults >/dev/null
control POST stats/reset '{}' >/dev/null
is "$(sql "select count(*) from pg_class where relnamespace = to_regnamespace('amzmp')")" 0 'nothing is left of it'
sql_becomes 30 "select count(*) from pg_stat_activity where datname = 'store' and backend_type like 'amzmp %'" 0 || true
is "$(sql "select count(*) from pg_stat_activity where datname = 'store' and backend_type like 'amzmp %'")" 0 'its processes leave'
shop_connect
sql_becomes 30 "select amzmp._processes()" running
look_at reborn
sql_becomes 30 'select count(*) from amzmp.request_log' 1
pass 'CREATE EXTENSION again: it works as before'

at postgres 'create database second' 
at second 'create extension amzmp' >/dev/null
succeeds 'CREATE EXTENSION in a second database starts a sender there' wait_for 20 served 'second store'
cluster_set s "amzmp.databases = 'store'"
sql 'select pg_reload_conf()' >/dev/null
at postgres 'drop database second'
at postgres 'create database second'
at second 'create extension amzmp' >/dev/null
look_at after-reload
sql_becomes 30 'select count(*) from amzmp.request_log' 2
is "$(senders)" store 'a database that the setting does not name is not served'
cluster_set s "amzmp.databases = ''"
sql 'select pg_reload_conf()' >/dev/null
succeeds 'after a reload that lifts the limit it is' wait_for 20 served 'second store'
finish
