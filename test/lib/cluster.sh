# shellcheck shell=bash
# Throwaway PostgreSQL clusters for tests, benchmarks and the demo. Source env.sh first.
#
# A cluster lives in $RUN/<name>: data/ s/ (socket, the only way in: it listens on no address) log, and keys/ and
# credentials/, which amzmp's settings name. It is made by initdb once per run and copied after that, which takes a
# tenth of the time. Whoever sources this owns the clusters: call cluster_cleanup from a trap.
#
#   cluster_start NAME ['setting = value' …]   make it if it does not exist, start it, and point psql at it
#   cluster_stop NAME [fast|immediate|smart]    cluster_restart NAME     cluster_kill9 NAME
#   cluster_use NAME                            point psql at it: PGHOST, PGPORT, PGUSER, PGDATABASE
#   cluster_set NAME 'setting = value' …        append to its postgresql.conf; reload or restart is the caller's
#   cluster_log NAME                            its log file's name
#   cluster_postmaster NAME                     its postmaster's process id
#   cluster_drop NAME                           stop it and remove it

CLUSTER_DATABASE=${CLUSTER_DATABASE:-shop}
CLUSTER_PORT=${CLUSTER_PORT:-54150}
# Test files that run at once share a run directory; the prefix keeps their clusters apart.
CLUSTER_PREFIX=${CLUSTER_PREFIX:-}

cluster_dir()
{
	echo "$RUN/$CLUSTER_PREFIX$1"
}

cluster_log()
{
	echo "$(cluster_dir "$1")/log"
}

# The database exists before the first start, so that pg_cron and amzmp find it and log no complaint.
cluster_template()
{
	local template=$RUN/template
	# Two tests that run at once must not both make it.
	(
		flock 9
		[ -f "$template/done" ] && exit 0
		rm -rf "$template"
		as_server mkdir "$template"
		as_server "$(pg_bin)/initdb" -D "$template/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 \
			--no-sync --no-instructions >"$RUN/initdb.log" 2>&1 || { cat "$RUN/initdb.log" >&2; exit 1; }
		echo "create database $CLUSTER_DATABASE" |
			as_server "$(pg_bin)/postgres" --single -F -D "$template/data" postgres >>"$RUN/initdb.log" 2>&1
		as_server touch "$template/done"
	) 9>"$RUN/template.lock"
}

cluster_create()
{
	local dir
	dir=$(cluster_dir "$1")
	cluster_template
	as_server mkdir "$dir" "$dir/s" "$dir/keys" "$dir/credentials"
	as_server chmod 700 "$dir/s" "$dir/keys" "$dir/credentials"
	as_server cp -a "$RUN/template/data" "$dir/data"
	cluster_conf "$dir" | as_server tee -a "$dir/data/postgresql.conf" >/dev/null
}

# Debian's extension_destdir is where control files, scripts and "$libdir/…" are looked for first; a bare name such as
# shared_preload_libraries = 'amzmp' goes by dynamic_library_path instead.
# log_min_messages stays at its default: tests read the log for what an operator would see there.
cluster_conf()
{
	cat <<-CONF
		listen_addresses = ''
		unix_socket_directories = '$1/s'
		port = $CLUSTER_PORT
		extension_destdir = '$RUN/root'
		dynamic_library_path = '$RUN/root$("$PG_CONFIG" --pkglibdir):\$libdir'
		shared_preload_libraries = 'pg_cron,amzmp'
		cron.database_name = '$CLUSTER_DATABASE'
		cron.use_background_workers = on
		max_worker_processes = 32
		shared_buffers = 64MB
		fsync = off
		timezone = 'UTC'
		log_line_prefix = '%m [%p] %q%u@%d/%a '
		amzmp.databases = '$CLUSTER_DATABASE'
		amzmp.key_file = '$1/keys/amzmp.key'
		amzmp.credentials_dir = '$1/credentials'
		amzmp.node_identity = 'test-${1##*/}'
		amzmp.ca_file = '/etc/ssl/certs/ca-certificates.crt'
	CONF
}

cluster_set()
{
	local dir line
	dir=$(cluster_dir "$1")
	shift
	for line in "$@"; do
		echo "$line" | as_server tee -a "$dir/data/postgresql.conf" >/dev/null
	done
}

cluster_use()
{
	PGHOST=$(cluster_dir "$1")/s
	export PGHOST PGPORT=$CLUSTER_PORT PGUSER=postgres PGDATABASE=${2:-$CLUSTER_DATABASE}
}

cluster_ctl()
{
	local dir
	dir=$(cluster_dir "$1")
	shift
	as_server "$(pg_bin)/pg_ctl" -D "$dir/data" -s "$@"
}

cluster_start()
{
	local name=$1
	shift
	[ -d "$(cluster_dir "$name")/data" ] || cluster_create "$name"
	cluster_set "$name" "$@"
	# Without the caller's descriptors, or a pipe that the caller is read through would never end.
	if ! cluster_ctl "$name" -w -t 60 -l "$(cluster_log "$name")" start </dev/null >/dev/null 2>&1 3>&- 9>&-; then
		tail -n 20 "$(cluster_log "$name")" >&2
		die "cluster $name does not start"
	fi
	cluster_use "$name"
}

cluster_stop()
{
	cluster_ctl "$1" -w -t 60 -m "${2:-fast}" stop
}

cluster_restart()
{
	cluster_stop "$1" "${2:-fast}"
	cluster_start "$1"
}

cluster_postmaster()
{
	head -n 1 "$(cluster_dir "$1")/data/postmaster.pid" 2>/dev/null
}

# Is this process the postmaster of that data directory? A pid file left by a crash may name somebody else's.
cluster_owns()
{
	[ -n "$2" ] && [ "$(readlink "/proc/$2/cwd" 2>/dev/null)" = "$(cluster_dir "$1")/data" ]
}

# kill -9 of the postmaster. Its children notice and leave; the next start needs them gone.
cluster_kill9()
{
	local postmaster children process
	postmaster=$(cluster_postmaster "$1")
	cluster_owns "$1" "$postmaster" || die "cluster $1 is not running"
	children=$(cat "/proc/$postmaster/task/$postmaster/children")
	kill -9 "$postmaster"
	for process in $postmaster $children; do
		wait_for 30 process_gone "$process" || die "process $process outlives its postmaster"
	done
}

cluster_running()
{
	cluster_owns "$1" "$(cluster_postmaster "$1")"
}

cluster_drop()
{
	local dir
	dir=$(cluster_dir "$1")
	if cluster_running "$1"; then
		cluster_stop "$1" immediate || say "cluster $1 does not stop"
	fi
	rm -rf "$dir"
}

# Every cluster under this prefix, running or not; with no prefix, every one of this run.
cluster_cleanup()
{
	local data name
	for data in "$RUN/$CLUSTER_PREFIX"*/data; do
		[ -d "$data" ] || continue
		name=${data%/data}
		name=${name##*/}
		cluster_drop "${name#"$CLUSTER_PREFIX"}"
	done
}
