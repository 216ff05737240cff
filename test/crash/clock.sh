#!/usr/bin/env bash
# The clock: a server without pg_cron, one without its extension, one that has it in another database. schedule() and
# health() say what is missing, and when a superuser has run what schedule() returned, pg_cron's own minute runs the flow.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

# The SQLSTATE of a statement that fails, else what it returned. told: its message and hint.
outcome()
{
	psql -XqAt -v VERBOSITY=sqlstate -c "$1" 2>&1 | sed 's/^ERROR:  //'
}

told()
{
	psql -XqAt -c "$1" 2>&1
}

as_shop()
{
	PGUSER=shop sql "$@"
}

clock_health()
{
	sql "select state || ': ' || detail || coalesce(' -> ' || remedy, '') from amzmp.health() where check_name = 'pg_cron'"
}

simulator_start s --rate-scale 0
cluster_start p "shared_preload_libraries = 'amzmp'"
shop_connect
sql "create role shop login" "grant amzmp_admin to shop" >/dev/null

is "$(PGUSER=shop outcome 'select * from amzmp.schedule()')" AZ003 'schedule() needs pg_cron'
like "$(PGUSER=shop told 'select * from amzmp.schedule()')" 'Install pg_cron .*shared_preload_libraries.*CREATE EXTENSION pg_cron' 'and says how to get it'
like "$(clock_health)" '^warning: nobody marks these flows due: .*get_orders \(never\).* -> Install pg_cron' 'health() does too'

# Loaded, but without its extension.
cluster_set p "shared_preload_libraries = 'pg_cron,amzmp'"
cluster_restart p
is "$(PGUSER=shop outcome 'select * from amzmp.schedule()')" AZ003 'schedule() needs the extension too'
like "$(PGUSER=shop told 'select * from amzmp.schedule()')" 'HINT:  CREATE EXTENSION pg_cron;' 'and says so'
like "$(clock_health)" 'CREATE EXTENSION pg_cron' 'as does health()'
sql 'create extension pg_cron'
is "$(PGUSER=shop outcome 'select * from amzmp.schedule()')" 42501 'a role needs the right to use pg_cron'
like "$(PGUSER=shop told 'select * from amzmp.schedule()')" 'GRANT USAGE ON SCHEMA cron TO shop;' 'and is told which'
sql 'drop extension pg_cron'

# pg_cron in another database.
cluster_set p "cron.database_name = 'postgres'"
cluster_restart p
psql -Xq -d postgres -c 'create extension pg_cron'
mapfile -t statements < <(as_shop "select substr(state, strpos(state, 'select')) from amzmp.schedule()")
is "${#statements[@]}" "$(sql 'select count(*) from amzmp.flow')" 'schedule() returns a statement for each flow'
like "$(as_shop 'select state from amzmp.schedule() limit 1')" '^run in database "postgres" as superuser' 'and says where to run it'
like "$(clock_health)" '^warning: nobody marks .* -> Let a superuser run in database "postgres"' 'health() knows that no job has run'
printf '%s\n' "${statements[@]}" | psql -Xq -d postgres -v ON_ERROR_STOP=1 >/dev/null
is "$(psql -XqAt -d postgres -c "select count(*) from cron.job where database = 'shop' and username = 'shop'")" "${#statements[@]}" 'a superuser runs them there'
sql_becomes 90 "select marked_at is not null from amzmp.flow_state where flow = 'send_updated_product_stock'" t || diag "$(psql -XqAt -d postgres -c 'select * from cron.job_run_details')"
unlike "$(clock_health)" 'send_updated_product_stock' 'health() sees that it runs'
sql_becomes 30 "select string_agg(distinct state, ' ') from amzmp.flow_run where flow = 'send_updated_product_stock'" 'done'
is "$(sql "select count(*) > 0 from amzmp.flow_run where flow = 'send_updated_product_stock' and state = 'done'")" t 'and the flow has run'
finish
