#!/usr/bin/env bash
# Runs suites of tests, or the benchmarks, in a run directory of its own, and leaves no process and no cluster behind.
#
#   test/run.sh SUITE …            all files of each suite: check simulator regress pgtap crash bench
#   test/run.sh SUITE FILE …       only these
#
# Exits with 0 only when every suite passed. What failed is kept in build/results: regression.diffs and its files.
. "$(dirname "$0")/lib/env.sh"
. "$(dirname "$0")/lib/cluster.sh"
. "$(dirname "$0")/lib/simulator.sh"

cd "$SOURCE_DIR"
RESULTS=$BUILD/results
FILES=()

# A suite runs in a process group of its own, and this script waits for it: a shell that runs a command in its
# foreground hears of a signal only when that command has ended.
SUITE=

run_suite()
{
	local status
	set -m
	(
		set -e
		"suite_$1"
	) &
	SUITE=$!
	# Not "wait || …": inside a condition, "set -e" would mean nothing to the suite.
	set +me
	wait "$SUITE"
	status=$?
	set -e
	SUITE=
	[ "$status" = 0 ] || failed+=("$1")
}

# Its tests clean up after themselves; that is waited for, because they need the run directory to do it.
end_suite()
{
	[ -n "$SUITE" ] || return 0
	kill -TERM -- "-$SUITE" 2>/dev/null || return 0
	wait_for 30 group_gone "$SUITE" || kill -KILL -- "-$SUITE" 2>/dev/null
}

group_gone()
{
	! kill -0 -- "-$1" 2>/dev/null
}

clean()
{
	local status=$?
	trap - EXIT
	trap '' INT TERM PIPE
	set +e
	end_suite
	simulator_cleanup
	cluster_cleanup
	rm -rf "$RUN"
	exit "$status"
}

# What a run that was killed with -9 could not clean up itself.
sweep()
{
	local left
	for left in "$BUILD"/run/*/; do
		left=${left%/}
		[ -f "$left/owner" ] || continue
		! process_is "$(cat "$left/owner")" || continue
		say "note: cleaning up after a run that was killed: ${left##*/}"
		(RUN=$left && simulator_cleanup && cluster_cleanup && rm -rf "$left") || true
	done
}

# files_of SUITE PATTERN …: the files asked for, else those that match. A suite without a file is an error.
files_of()
{
	local suite=$1
	shift
	if [ ${#FILES[@]} -gt 0 ]; then
		printf '%s\n' "${FILES[@]}"
		return
	fi
	# shellcheck disable=SC2086
	compgen -G "$1" || die "suite $suite has no file"
}

suite_check()
{
	local files
	files=$(files_of check 'test/check/*.sh')
	mapfile -t files <<<"$files"
	prove --exec bash "${files[@]}"
}

# The simulator's own test: what stands in for Amazon has to be right before anything is judged by it.
suite_simulator()
{
	make -C test/simulator --no-print-directory -s check BUILD="$BUILD"
}

suite_crash()
{
	local files
	files=$(files_of crash 'test/crash/*.sh')
	mapfile -t files <<<"$files"
	prove -j "$(nproc)" --timer --exec bash "${files[@]}"
}

suite_pgtap()
{
	local files
	files=$(files_of pgtap 'test/pgtap/*.sql')
	mapfile -t files <<<"$files"
	pg_prove -j "$(nproc)" --timer --psql-bin test/lib/psql-own-cluster "${files[@]}"
}

# Regression files run in one database and in order of name, except that install comes first and uninstall last.
regress_order()
{
	local files rest
	files=$(files_of regress 'test/sql/*.sql' | sed 's,.*/,,; s,\.sql$,,' | sort)
	rest=$(grep -vxE 'install|uninstall' <<<"$files" || true)
	grep -x install <<<"$files" || true
	[ -z "$rest" ] || echo "$rest"
	grep -x uninstall <<<"$files" || true
}

suite_regress()
{
	local tests status=0
	tests=$(regress_order)
	mapfile -t tests <<<"$tests"
	simulator_start regress
	cluster_start regress
	psql -Xq -v ON_ERROR_STOP=1 -c 'create extension pg_cron'
	# A single file needs the extension that install would have made.
	[ "${tests[0]}" = install ] || psql -Xq -v ON_ERROR_STOP=1 -c 'create extension amzmp'
	rm -rf "$RESULTS/regress"
	mkdir -p "$RESULTS/regress"
	"$(dirname "$("$PG_CONFIG" --pgxs)")/../test/regress/pg_regress" --use-existing --dbname="$PGDATABASE" \
		--host="$PGHOST" --port="$PGPORT" --user="$PGUSER" --bindir="$(pg_bin)" \
		--inputdir=test --outputdir="$RESULTS/regress" "${tests[@]}" || status=$?
	if [ "$status" != 0 ]; then
		cat "$RESULTS/regress/regression.diffs" 2>/dev/null || tail -n 30 "$(cluster_log regress)"
	fi
	simulator_stop regress || status=1
	cluster_drop regress
	return "$status"
}

# One after the other: two at once would measure each other.
suite_bench()
{
	local files file failed=0
	files=$(files_of bench 'test/bench/*.sh')
	for file in $files; do
		echo "== ${file##*/}"
		# A poor figure fails nothing, a benchmark that cannot run does.
		bash "$file" || failed=1
	done
	return "$failed"
}

[ $# -gt 0 ] || die "name at least one suite: check simulator regress pgtap crash bench"
suites=()
for argument in "$@"; do
	case $argument in
		check | simulator | regress | pgtap | crash | bench) suites+=("$argument") ;;
		*) FILES+=("$argument") ;;
	esac
done
[ ${#FILES[@]} = 0 ] || [ ${#suites[@]} = 1 ] || die "files can be named for one suite only"

run_dir_make "$BUILD/run/test.XXXXXX"
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
sweep
build_and_install

failed=()
for suite in "${suites[@]}"; do
	echo "=== $suite"
	run_suite "$suite"
done
if [ ${#failed[@]} -gt 0 ]; then
	echo "FAILED: ${failed[*]}"
	exit 1
fi
echo "passed: ${suites[*]}"
