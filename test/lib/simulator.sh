# shellcheck shell=bash
# The simulator as a process: start, stop, its address. Source env.sh first. What it does is in test/simulator.
#
#   simulator_start NAME [option …]    starts one in $RUN/<name>.simulator and sets AMZMP_SIMULATOR_URL
#   simulator_stop NAME [signal]       ends it, and fails if it was not alive
#   simulator_use NAME                 sets AMZMP_SIMULATOR_URL

simulator_dir()
{
	echo "$RUN/${CLUSTER_PREFIX:-}$1.simulator"
}

simulator_start()
{
	local name=$1 dir pid
	dir=$(simulator_dir "$name")
	shift
	rm -rf "$dir"
	as_server mkdir "$dir"
	# setsid: an interrupt at the terminal ends the test, whose clean-up ends the simulator; and the demo's one stays.
	as_server setsid --fork "$RUN/bin/simulator" --port 0 --port-file "$dir/port" --pid-file "$dir/pid" "$@" \
		</dev/null >"$dir.log" 2>&1 3>&- 9>&-
	if ! wait_for 20 test -s "$dir/port" || ! wait_for 5 test -s "$dir/pid"; then
		cat "$dir.log" >&2
		die "the simulator does not start"
	fi
	pid=$(cat "$dir/pid")
	process_mark "$pid" >"$dir.mark" || die "the simulator ended at once: $(cat "$dir.log")"
	simulator_use "$name"
}

simulator_use()
{
	AMZMP_SIMULATOR_URL=http://127.0.0.1:$(cat "$(simulator_dir "$1")/port")
	export AMZMP_SIMULATOR_URL
}

simulator_running()
{
	process_is "$(cat "$(simulator_dir "$1").mark" 2>/dev/null)"
}

simulator_gone()
{
	! simulator_running "$1"
}

simulator_stop()
{
	local mark
	mark=$(cat "$(simulator_dir "$1").mark" 2>/dev/null) || return 1
	process_is "$mark" || return 1
	kill -s "${2:-TERM}" "${mark%% *}"
	wait_for 10 simulator_gone "$1" || kill -9 "${mark%% *}"
}

simulator_cleanup()
{
	local mark name
	for mark in "$RUN/${CLUSTER_PREFIX:-}"*.simulator.mark; do
		[ -f "$mark" ] || continue
		name=${mark##*/}
		name=${name%.simulator.mark}
		simulator_stop "${name#"${CLUSTER_PREFIX:-}"}" || true
	done
}
