#!/usr/bin/env bash
# A real minute through pg_cron: its jobs, made by an ordinary role, mark the flows due, and runners perform them.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

simulator_start cron --rate-scale 0
cluster_start cron
sql 'create extension pg_cron'
shop_connect
sql 'create role clerk login' 'grant amzmp_operator to clerk' 'grant usage on schema cron to clerk'
is "$(sql "select state from amzmp.health() where check_name = 'pg_cron'")" warning 'health misses the clock'
is "$(sql 'set role clerk' "select count(*) from amzmp.schedule() where job = 'amzmp send_updated_product_stock'")" 1 'an operator makes the jobs'
is "$(sql 'select count(*) from amzmp.flow_run')" 0 'nothing has run yet'

runs="select count(*) > 0 from amzmp.flow_run where flow = 'send_updated_product_stock' and state = 'done'"
if sql_becomes 130 "$runs" t; then
	pass 'the flow that runs each minute ran'
else
	fail 'the flow that runs each minute ran'
	diag "$(sql 'select status, return_message, command from cron.job_run_details order by runid desc limit 5')"
fi
is "$(sql "select marked_by from amzmp.flow_state where flow = 'send_updated_product_stock'")" clerk 'marked by the owner of the job'
is "$(sql "select count(*) from cron.job_run_details where status = 'failed'")" 0 'no job failed'
unlike "$(sql "select detail from amzmp.health() where check_name = 'pg_cron'")" send_updated_product_stock 'health has seen it'
finish
