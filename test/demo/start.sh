#!/usr/bin/env bash
# Starts the demo: a cluster and a simulator in build/demo, then the story (story.sh, else *.sql in order of name).
# Everything stays up afterwards, until stop.sh. An earlier demo is ended first.
. "$(dirname "$0")/../lib/env.sh"
. "$(dirname "$0")/../lib/cluster.sh"
. "$(dirname "$0")/../lib/simulator.sh"

CLUSTER_PORT=54140
"$SOURCE_DIR/test/demo/stop.sh" --quiet

# A demo that does not come up leaves nothing running; one whose story fails stays, to be looked at.
undo()
{
	local status=$?
	[ "$status" = 0 ] || "$SOURCE_DIR/test/demo/stop.sh" --quiet || true
	exit "$status"
}

run_dir_make "$BUILD/demo"
echo "$RUN" >"$BUILD/demo.path"
trap undo EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
say "building"
build_and_install
say "starting a cluster and the simulator in $RUN"
# shellcheck disable=SC2086
simulator_start demo --seed 1 ${AMZMP_DEMO_SIMULATOR:-}
cluster_start demo
psql -Xq -v ON_ERROR_STOP=1 -c 'create extension pg_cron' -c 'create extension amzmp'
trap - EXIT INT TERM

how_to_connect()
{
	cat <<-TEXT

		The demo goes on running. Look at it with

		    psql -h $PGHOST -p $PGPORT -U $PGUSER $PGDATABASE

		The simulator answers at $AMZMP_SIMULATOR_URL, the server's log is $(cluster_log demo).
		"make demo-stop" ends both and removes them.
	TEXT
}

status=0
if [ -f "$SOURCE_DIR/test/demo/story.sh" ]; then
	bash "$SOURCE_DIR/test/demo/story.sh" || status=$?
else
	for story in "$SOURCE_DIR"/test/demo/*.sql; do
		[ -f "$story" ] || die "there is no story in test/demo"
		psql -Xq -v ON_ERROR_STOP=1 -f "$story" || status=$?
		[ "$status" = 0 ] || break
	done
fi
how_to_connect
[ "$status" = 0 ] || say "The story ended with an error, see above."
exit "$status"
