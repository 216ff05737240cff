#!/usr/bin/env bash
# Ends the demo and removes what it made. Not an error when there is none.
. "$(dirname "$0")/../lib/env.sh"
. "$(dirname "$0")/../lib/cluster.sh"
. "$(dirname "$0")/../lib/simulator.sh"

quiet=${1:-}
if [ ! -f "$BUILD/demo.path" ]; then
	[ -n "$quiet" ] || say "there is no demo to stop"
	exit 0
fi
RUN=$(cat "$BUILD/demo.path")
if [ -d "$RUN" ]; then
	simulator_cleanup
	cluster_cleanup
	rm -rf "$RUN"
fi
rm -f "$BUILD/demo.path"
[ -n "$quiet" ] || say "the demo is stopped"
