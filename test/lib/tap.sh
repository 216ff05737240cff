# shellcheck shell=bash
# Sourced first by every shell test in test/check and test/crash: assertions that speak TAP, and clusters that go away
# when the test ends. Below prove the run directory is the whole run's; started by hand, a test makes its own:
#
#   . "$(dirname "$0")/../lib/tap.sh"
#   cluster_start a; simulator_start a
#   is "$(sql 'select 1')" 1 'the server answers'
#   finish

. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
. "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
. "$(dirname "${BASH_SOURCE[0]}")/simulator.sh"

TAP_COUNT=0
TAP_FAILED=0
CLUSTER_PREFIX=$$.
TAP_OWN_RUN=

# A test that dies must not pass because what it printed so far was fine: prove wants the plan, which finish prints.
tap_exit()
{
	local status=$? log
	trap - EXIT INT TERM
	if [ "$status" != 0 ] || [ "$TAP_FAILED" != 0 ]; then
		for log in "$RUN/$CLUSTER_PREFIX"*/log "$RUN/$CLUSTER_PREFIX"*.simulator.log; do
			[ -f "$log" ] || continue
			echo "# the last lines of ${log##*/"$CLUSTER_PREFIX"}:"
			tail -n 30 "$log" | sed 's/^/#   /'
		done >&2
	fi
	simulator_cleanup
	cluster_cleanup
	if [ -n "$TAP_OWN_RUN" ]; then
		rm -rf "$RUN"
	else
		rm -rf "$RUN/$CLUSTER_PREFIX"*
	fi
	exit "$status"
}
trap tap_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -z "${RUN:-}" ]; then
	run_dir_make "$BUILD/run/test.XXXXXX"
	TAP_OWN_RUN=1
	build_and_install
fi

# ok STATUS NAME: the assertion that all others use.
ok()
{
	TAP_COUNT=$((TAP_COUNT + 1))
	if [ "$1" = 0 ]; then
		echo "ok $TAP_COUNT - $2"
	else
		TAP_FAILED=$((TAP_FAILED + 1))
		echo "not ok $TAP_COUNT - $2"
	fi
}

diag()
{
	printf '%s\n' "$*" | sed 's/^/# /' >&2
}

pass()
{
	ok 0 "$1"
}

fail()
{
	ok 1 "$1"
}

# succeeds NAME COMMAND …
succeeds()
{
	local name=$1 output
	shift
	if output=$("$@" 2>&1); then
		pass "$name"
	else
		fail "$name"
		diag "$output"
	fi
}

# fails NAME COMMAND …
fails()
{
	local name=$1 output
	shift
	if output=$("$@" 2>&1); then
		fail "$name"
		diag "succeeded: $output"
	else
		pass "$name"
	fi
}

# is GOT EXPECTED NAME
is()
{
	if [ "$1" = "$2" ]; then
		pass "$3"
	else
		fail "$3"
		diag "     got: $1"
		diag "expected: $2"
	fi
}

# like GOT PATTERN NAME, an extended regular expression; unlike is its opposite
like()
{
	if [[ $1 =~ $2 ]]; then
		pass "$3"
	else
		fail "$3"
		diag "          got: $1"
		diag "should match: $2"
	fi
}

unlike()
{
	if [[ $1 =~ $2 ]]; then
		fail "$3"
		diag "             got: $1"
		diag "should not match: $2"
	else
		pass "$3"
	fi
}

# sql STATEMENT …: bare rows, columns parted by |, and an error ends the statement; where to is cluster_use's matter.
sql()
{
	local arguments=() statement
	for statement in "$@"; do
		arguments+=(-c "$statement")
	done
	psql -XqAt -v ON_ERROR_STOP=1 "${arguments[@]}"
}

# Waits until a query says so: sql_becomes SECONDS QUERY VALUE
sql_becomes()
{
	wait_for "$1" sql_says "$2" "$3"
}

sql_says()
{
	[ "$(sql "$1" 2>/dev/null)" = "$2" ]
}

finish()
{
	echo "1..$TAP_COUNT"
	[ "$TAP_FAILED" = 0 ]
	exit
}
