# shellcheck shell=bash
# A database with a connected account, and the simulator's door for tests. Source tap.sh or scene.sh first.
#
#   control METHOD PATH [BODY]      the simulator's control call, its answer on standard output
#   shop_connect                    the extension, a key, and the account "shop" with channel DE, ready to send
#   sell SKU …                      publish these SKUs of a new table shop.product (10.00, 5 pieces) in channel DE, until they are live
#   at_amazon SKU                   price and quantity that Amazon has of it
#   look_at SKU …                   queue a reading request (getListingsItem) for each SKU; looking_at says the statement
#   arrived OPERATION               how many requests of an operation have reached the simulator
#   finished                        how many requests have ended
#   sender_pid                      the sender of the current database, nothing when there is none
#   sender_end SIGNAL               end it and wait until it is gone; with KILL also until the server is up again
#   hold STATEMENT, release         keep a transaction open that has executed it, and end that

# By bash alone: a bare machine may have no curl.
control()
{
	local port=${AMZMP_SIMULATOR_URL##*:} answer body=${3:-} length
	# in bytes, which is what the simulator counts
	length=$(LC_ALL=C; echo ${#body})
	exec 4<>"/dev/tcp/127.0.0.1/$port"
	printf '%s /_control/%s HTTP/1.0\r\ncontent-length: %d\r\n\r\n%s' "$1" "$2" "$length" "$body" >&4
	answer=$(cat <&4)
	exec 4<&-
	printf '%s' "${answer##*$'\r\n\r\n'}"
}

shop_connect()
{
	sql "create extension if not exists amzmp" "select amzmp.create_key() where amzmp._key_usable() is not null" >/dev/null
	sql "select amzmp.create_application('app', 'amzn1.application-oa2-client.demo')" \
		"select amzmp.create_account('shop', 'EU', 'app', 'A1DEMOSELLER', 'mock', '$AMZMP_SIMULATOR_URL', rate_scale => 0)" \
		"select amzmp.set_credentials('shop', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo')" \
		"select amzmp.create_channel('DE', 'shop', 'DE')" "select amzmp.activate('shop')" "select amzmp.activate('DE')" >/dev/null
}

sell()
{
	sql 'create role shopkeeper login' 'grant amzmp_operator to shopkeeper' 'create schema shop authorization shopkeeper' \
		'create table shop.product (sku text primary key, price numeric(12, 2), stock integer)' 'alter table shop.product owner to shopkeeper' \
		"insert into shop.product select sku, 10, 5 from regexp_split_to_table('$*', ' ') sku"
	PGUSER=shopkeeper sql "select amzmp.attach_source('shop', 'shop.product')" >/dev/null
	sql "call amzmp.wait('60 s')" "select amzmp.publish('DE', sku, '$(control GET 'catalog/eans?count=1&outcome=single' | grep -o 'B0[A-Z0-9]*' | head -n 1)') from shop.product" \
		"call amzmp.wait('60 s', 'settled')" >/dev/null
}

at_amazon()
{
	control GET "listings?sku=$1" | grep -oE '"(amount":"|live":\{"quantity":)[0-9.]+' | grep -oE '[0-9.]+$' | paste -sd ' '
}

looking_at()
{
	echo "select count(amzmp.enqueue('shop', 'getListingsItem',
	          jsonb_build_object('sku', sku, 'marketplaceIds', jsonb_build_array('A1PA6795UKMFR9'))))
	        from regexp_split_to_table('$*', ' ') sku"
}

look_at()
{
	sql "$(looking_at "$@")" >/dev/null
}

arrived()
{
	control GET "arrivals?operation=$1&limit=65536" | grep -o '\[[0-9][0-9]*,' | wc -l
}

finished()
{
	sql "select count(*) from amzmp.request_log"
}

sender_pid()
{
	sql "select pid from pg_stat_activity where datname = current_database() and backend_type = 'amzmp sender'"
}

# test for wait_for: have so many requests of an operation arrived?
test_arrived()
{
	[ "$(arrived "$1")" = "$2" ]
}

# hold STATEMENT keeps a transaction open that has executed it (a lock, say); release ends it.
hold()
{
	PGAPPNAME=holder psql -XqAt -v ON_ERROR_STOP=1 -c begin -c "$1" -c 'select pg_sleep(600)' >/dev/null 2>&1 &
	sql_becomes 10 "select count(*) from pg_stat_activity where application_name = 'holder' and query like '%pg_sleep%'" 1
}

release()
{
	sql "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'holder'" >/dev/null
}

sender_end()
{
	local pid checkpointer
	pid=$(sender_pid)
	checkpointer=$(sql "select pid from pg_stat_activity where backend_type = 'checkpointer'")
	kill -s "$1" "$pid"
	wait_for 10 process_gone "$pid" || die "the sender survives SIG$1"
	# SIGKILL makes the postmaster end every process and begin anew.
	[ "$1" != KILL ] || sql_becomes 60 "select pid <> $checkpointer from pg_stat_activity where backend_type = 'checkpointer'" t
}
