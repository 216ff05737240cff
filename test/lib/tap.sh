# shellcheck shell=bash
# Sourced first by every shell test in test/check and test/crash: assertions that speak TAP. Clusters and their
# clean-up come with scene.sh.
#
#   . "$(dirname "$0")/../lib/tap.sh"
#   cluster_start a; simulator_start a
#   is "$(sql 'select 1')" 1 'the server answers'
#   finish
#
# A test that dies before finish does not pass, because prove misses the plan.

. "$(dirname "${BASH_SOURCE[0]}")/scene.sh"

TAP_COUNT=0
TAP_FAILED=0

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

finish()
{
	echo "1..$TAP_COUNT"
	[ "$TAP_FAILED" = 0 ]
	exit
}
