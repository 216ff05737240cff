#!/usr/bin/env bash
# One format for C (clang-format 14, .clang-format) and one for SQL (format-sql.pl, .pg_format).
#
#   script/format.sh format          rewrites the files
#   script/format.sh check-format    changes nothing, says what differs, and fails if something does
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t c_files < <(find src include test -name '*.[ch]' | sort)
# What pg_regress reads is left alone: its expected output repeats it byte by byte.
mapfile -t sql_files < <(find sql test/pgtap test/demo -name '*.sql' | sort)

case ${1:-} in
	format)
		clang-format-14 -i "${c_files[@]}"
		perl script/format-sql.pl format "${sql_files[@]}"
		;;
	check-format)
		status=0
		clang-format-14 --dry-run --Werror --ferror-limit=3 "${c_files[@]}" || status=1
		perl script/format-sql.pl check "${sql_files[@]}" || status=1
		[ "$status" = 0 ] || echo 'The format is not right: "make format" mends most of it.' >&2
		exit "$status"
		;;
	*)
		echo "usage: $0 format|check-format" >&2
		exit 2
		;;
esac
