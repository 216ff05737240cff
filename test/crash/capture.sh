#!/usr/bin/env bash
# A shop's transaction never fails and never waits because of amzmp: prepared transactions, locked, broken and missing
# tables of ours, a dead sender, a logical applier. And nothing is lost by any of it.
. "$(dirname "$0")/../lib/tap.sh"

cluster_start a 'max_prepared_transactions = 10' 'wal_level = logical'
sql 'create extension pg_cron' 'create extension amzmp' 'create role shop login' 'grant amzmp_operator to shop' \
	'create schema shop authorization shop' \
	"select amzmp.create_application('app', 'amzn1.application-oa2-client.0123456789abcdef')" \
	"select amzmp.create_account('acc', 'EU', 'app', mode => 'mock', endpoint => 'http://127.0.0.1:9', token_endpoint => 'http://127.0.0.1:9/token')" \
	'set role shop' 'create table shop.product (sku text primary key, price numeric, stock integer)' \
	"insert into shop.product select 'S' || i, i, i from generate_series(1, 100) as i" >/dev/null
PGUSER=shop sql "select amzmp.attach_source('acc', 'shop.product')" >/dev/null
compared='select bool_and(rescan_due > now() and rescan_finished_at is not null) from amzmp.source'
succeeds 'the source is read' sql_becomes 60 "$compared" t

price()
{
	echo "select price from amzmp.product where sku = '$1'"
}

# Keys that appear with COMMIT PREPARED, which runs no code of ours.
sql 'begin' "update shop.product set price = 101 where sku = 'S1'" "prepare transaction 'one'"
is "$(sql "$(price S1)")" 1 'a prepared change is not read yet'
sql "commit prepared 'one'"
succeeds 'once committed it is' sql_becomes 30 "$(price S1)" 101
sql 'begin' "update shop.product set price = 102 where sku = 'S2'" "prepare transaction 'two'" "rollback prepared 'two'"

# The mark of a prepared transaction must not be taken by whoever comes first.
sql 'set amzmp.capture_max_keys = 0' 'begin' "update shop.product set price = 103 where sku = 'S3'" "prepare transaction 'three'"
sql 'set amzmp.capture_max_keys = 0' "update shop.product set price = 104 where sku = 'S4'"
succeeds 'a mark of another transaction works meanwhile' sql_becomes 30 "$(price S4)" 104
sql "commit prepared 'three'"
succeeds 'and the prepared one works when it is committed' sql_becomes 30 "$(price S3)" 103
is "$(sql "$(price S2)")" 2 'what was rolled back changed nothing'

# Locks of ours that are held for long: the shop does not wait. statement_timeout would tell.
quick='set statement_timeout = 5000'
sql 'begin' 'lock table amzmp.change in access exclusive mode' "prepare transaction 'lock'"
succeeds 'the queue is locked: the shop goes on' sql "$quick" "update shop.product set price = 105 where sku = 'S5'"
sql "commit prepared 'lock'"
succeeds 'and nothing is lost' sql_becomes 30 "$(price S5)" 105
sql 'begin' 'lock table amzmp.change, amzmp.rescan_mark in access exclusive mode' "prepare transaction 'lock'"
succeeds 'the marks are locked too: the shop goes on' sql "$quick" "update shop.product set price = 106 where sku = 'S6'"
sql "commit prepared 'lock'"
ok "$(grep -c 'amzmp could not note what this transaction changed' "$(cluster_log a)" | grep -qx 1; echo $?)" 'and the log says so'
ok "$(grep -A3 'amzmp could not note' "$(cluster_log a)" | grep DETAIL | grep -q S6; echo $((1 - $?)))" 'without the key'
sql "select amzmp.rescan('acc')"
succeeds 'a comparison finds it' sql_becomes 30 "$(price S6)" 106

# Tables of ours that are not as they should be.
sql 'alter table amzmp.change alter column part type bigint'
succeeds 'the queue has another shape: the shop goes on' sql "update shop.product set price = 107 where sku = 'S7'"
succeeds 'by a mark' sql_becomes 30 "$(price S7)" 107
sql 'alter table amzmp.change alter column part type integer'
sql 'alter table amzmp.change rename to change_away' 'alter table amzmp.rescan_mark rename to mark_away'
succeeds 'the tables are not there: the shop goes on' sql "update shop.product set price = 108 where sku = 'S8'"
sql 'alter table amzmp.change_away rename to change' 'alter table amzmp.mark_away rename to rescan_mark' "select amzmp.rescan('acc')"
succeeds 'and a comparison finds it' sql_becomes 30 "$(price S8)" 108

# A logical applier of the same cluster; its slot is made first, because CREATE SUBSCRIPTION would wait for itself.
sql "create database origin"
psql -Xq -d origin -c 'create schema shop' -c 'create table shop.product (sku text primary key, price numeric, stock integer)' \
	-c 'create publication p for all tables' -c "select pg_create_logical_replication_slot('s', 'pgoutput')" >/dev/null
sql "create subscription s connection 'host=$PGHOST port=$PGPORT dbname=origin user=$PGUSER' publication p with (create_slot = false, slot_name = 's', copy_data = false)"
psql -Xq -d origin -c "insert into shop.product values ('replicated', 5, 5)"
succeeds 'what a logical applier writes is noted' sql_becomes 60 "$(price replicated)" 5
sql 'drop subscription s'

# Without our processes the queue stays small: one mark, however many transactions.
cluster_set a "shared_preload_libraries = 'pg_cron'"
cluster_restart a
for sku in S10 S11 S12; do
	sql "update shop.product set price = 200 where sku = '$sku'" "begin" "update shop.product set stock = 3 where sku = '$sku'" commit
done
is "$(sql 'select count(*) from amzmp.rescan_mark')|$(sql 'select count(*) from amzmp.change')" '1|0' 'not preloaded: one mark'
cluster_set a "shared_preload_libraries = 'pg_cron,amzmp'"
cluster_restart a
succeeds 'which is worked off when they are back' sql_becomes 60 "$(price S12)" 200

# Killed at any moment: what was committed is noted, and only that.
for round in 1 2 3; do
	for i in $(seq 1 200); do
		echo "begin; update shop.product set price = $round * 1000 + $i, stock = $round * 1000 + $i where sku = 'S$((i % 100 + 1))'; commit;"
	done | psql -Xq >/dev/null 2>&1 &
	writer=$!
	sleep "0.$round"
	cluster_kill9 a
	wait "$writer" || true # its server was killed under it
	cluster_start a
done
same="select not exists (select from shop.product s full join amzmp.product p on p.sku = s.sku and not p.gone where s.price is distinct from p.price)"
succeeds 'after kill -9 shop and product agree again' sql_becomes 90 "$same" t

# The extension goes in the shop's own transaction.
succeeds 'dropped in the transaction that changed the shop' sql "begin" "update shop.product set price = 1" "drop extension amzmp cascade" "commit"
is "$(sql 'select count(*) from shop.product where price = 1')" "$(sql 'select count(*) from shop.product')" 'which is committed'
finish
