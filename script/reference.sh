#!/usr/bin/env bash
# Writes doc/reference.md from the catalogue: the comments of functions, views, tables and columns, the definitions of
# settings, flows and operations, and the error codes of include/errcodes.h. Nothing in that file is written by hand.
#
#   script/reference.sh            writes it
#   script/reference.sh --check    fails, showing the difference, when it is not what would be written
#
# Asks the server that PGHOST … name, which must have this version preloaded; without PGHOST, one of its own.
set -eu -o pipefail
source_dir=$(cd "$(dirname "$0")/.." && pwd -P)
mode=${1:-}

if [ -z "${PGHOST:-}" ]; then
	# shellcheck source=../test/lib/scene.sh
	. "$source_dir/test/lib/scene.sh"
	cluster_start reference
	psql -Xq -v ON_ERROR_STOP=1 -c 'create extension amzmp'
fi

# Each code with the comment above it.
error_codes()
{
	awk -v quote="'" '
		/^\/\* .* \*\/$/ { words = substr($0, 4, length($0) - 6) }
		/^#define ERRCODE_AMZMP_/ {
			code = substr($0, index($0, "("))
			gsub("[(), " quote "]", "", code)
			print "| `" code "` | " words " |"
			words = ""
		}' "$source_dir/include/errcodes.h"
}

reference()
{
	psql -XqAt -v ON_ERROR_STOP=1 -v "error_codes=$(error_codes)" -f "$source_dir/script/reference.sql"
}

if [ "$mode" = --check ]; then
	diff -u "$source_dir/doc/reference.md" <(reference) || {
		echo 'doc/reference.md is not up to date: run script/reference.sh' >&2
		exit 1
	}
else
	# In two steps, so that a failure leaves the old file.
	text=$(reference)
	printf '%s\n' "$text" >"$source_dir/doc/reference.md"
fi
