# shellcheck shell=bash
# What one test or benchmark stands on: clusters and simulators of its own, which go away when the script ends, however
# it ends. Sourced by tap.sh, by benchmarks, and by the stand-in for psql.
#
# Under test/run.sh the run directory is the whole run's, where amzmp is built and installed already, and a prefix keeps
# apart the scripts that run at once. Started by hand, a script makes its own run directory and builds first.

. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
. "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
. "$(dirname "${BASH_SOURCE[0]}")/simulator.sh"

CLUSTER_PREFIX=$$.
SCENE_OWN_RUN=

# The logs go with the clusters, so what they said last is shown when the script failed.
scene_end()
{
	local status=$? log
	# Whatever ended the script, perhaps together with the reader of its output, nothing ends this half way.
	trap - EXIT
	trap '' INT TERM PIPE
	set +e
	if [ "$status" != 0 ]; then
		for log in "$RUN/$CLUSTER_PREFIX"*/log "$RUN/$CLUSTER_PREFIX"*.simulator.log; do
			[ -s "$log" ] || continue
			echo "# the last lines of ${log##*/"$CLUSTER_PREFIX"}:"
			tail -n 30 "$log" | sed 's/^/#   /'
		done >&2
	fi
	simulator_cleanup
	cluster_cleanup
	rm -rf "${RUN:?}/$CLUSTER_PREFIX"*
	[ -z "$SCENE_OWN_RUN" ] || rm -rf "$RUN"
	exit "$status"
}
trap scene_end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -z "${RUN:-}" ]; then
	run_dir_make "$BUILD/run/test.XXXXXX"
	SCENE_OWN_RUN=1
	build_and_install
fi

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
