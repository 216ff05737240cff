# shellcheck shell=bash
# Sourced first by every script that builds or runs something: where things are, which user runs the server, and
# the throwaway run directory with its clean-up. Knows nothing of clusters or of the simulator.
#
# A run directory holds all that one run makes: the installed copy of the extension, data directories, sockets, the
# simulator. It lives in build/run/ and goes when the run ends. Servers refuse to run as root, so for root it
# belongs to the user "postgres"; when that user cannot reach the tree (a clone under /root), or the path would be
# too long for a socket's name (107 bytes), the run directory is made by mktemp instead, and a line says so.

set -euo pipefail

SOURCE_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
BUILD=$(realpath -m "${BUILD:-$SOURCE_DIR/build}")
PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
[ -x "$PG_CONFIG" ] || PG_CONFIG=$(command -v pg_config || echo pg_config)
export PG_CONFIG BUILD
# No locale, time zone or psqlrc of the caller's may change what a test prints.
export LC_ALL=C.UTF-8 PSQLRC=/dev/null
# The makes that are started here are not part of the one that started us.
unset MAKEFLAGS MFLAGS MAKELEVEL
unset PGHOST PGPORT PGDATABASE PGUSER PGOPTIONS PGSERVICE PGPASSWORD PGSSLMODE

pg_bin()
{
	"$PG_CONFIG" --bindir
}

say()
{
	printf '%s\n' "$*" >&2
}

die()
{
	say "$(basename "$0"): $*"
	exit 1
}

# Runs a command as the user the server runs as: "postgres" for root, who may not run one, else the caller. Paths must
# be absolute: the caller's directory may be closed to that user.
as_server()
{
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid postgres --regid postgres --init-groups --inh-caps=-all env -C / HOME=/nonexistent "$@"
	else
		"$@"
	fi
}

# The longest name of a socket below a run directory: <run>/<cluster>/s/.s.PGSQL.54150, limited to 107 bytes.
run_path_fits()
{
	[ $((${#1} + 40)) -le 107 ]
}

# run_dir_make PATH: makes a run directory there and sets RUN. A trailing XXXXXX becomes a name of its own.
run_dir_make()
{
	local parent=${1%/*}
	mkdir -p "$parent"
	if run_path_fits "$1" && as_server test -x "$parent"; then
		case $1 in
			*XXXXXX) RUN=$(mktemp -d "$1") ;;
			*) RUN=$1 && mkdir -p "$RUN" ;;
		esac
	else
		RUN=$(mktemp -d "${TMPDIR:-/tmp}/amzmp.XXXXXX")
		say "note: the server's user cannot use $parent (path not reachable, or too long for a socket); using $RUN"
	fi
	export RUN
	[ "$(id -u)" != 0 ] || chown postgres: "$RUN"
	chmod 755 "$RUN"
	process_mark $$ >"$RUN/owner"
}

# A process as its id and its start time: an id alone may be somebody else's by the time it is looked at.
process_mark()
{
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	stat=${stat##*) }
	# shellcheck disable=SC2086
	set -- "$1" $stat
	echo "$1 ${21}"
}

process_is()
{
	[ -n "${1:-}" ] && [ "$(process_mark "${1%% *}" 2>/dev/null)" = "$1" ]
}

process_gone()
{
	[ ! -e "/proc/$1" ]
}

# Waits until a command succeeds, 50 ms between tries; fails after so many seconds. For states, never for time.
wait_for()
{
	local seconds=$1 tries
	shift
	tries=$((seconds * 20))
	until "$@"; do
		((tries-- > 0)) || return 1
		sleep 0.05
	done
}

# Builds everything and installs it into $RUN/root, from where this run's servers load it. An amzmp that is installed
# in the system is neither used nor touched.
build_and_install()
{
	mkdir -p "$BUILD"
	# A demo and a test may be started together.
	(
		flock 9
		build_locked
	) 9>"$BUILD/.lock"
}

build_locked()
{
	make -C "$SOURCE_DIR" --no-print-directory -s -j "$(nproc)" all BUILD="$BUILD" PG_CONFIG="$PG_CONFIG"
	make -C "$SOURCE_DIR" --no-print-directory -s install DESTDIR="$RUN/root" BUILD="$BUILD" PG_CONFIG="$PG_CONFIG" \
		>/dev/null
	make -C "$SOURCE_DIR/test/simulator" --no-print-directory -s BUILD="$BUILD" >&2
	mkdir -p "$RUN/bin"
	# A copy, because the server's user may not be able to reach the tree.
	install -m 755 "$BUILD/amzmp-simulator" "$RUN/bin/simulator"
}
