#!/usr/bin/env bash
# Every header can be included alone after postgres.h, twice, and in C the warnings of CI are silent.
. "$(dirname "$0")/../lib/tap.sh"

cd "$SOURCE_DIR"
server=$("$PG_CONFIG" --includedir-server)
for header in include/*.h; do
	succeeds "$header compiles alone" gcc -x c -fsyntax-only -Wall -Wextra -Wno-unused-parameter -Werror \
		-Iinclude -I"$server" - <<-C
			#include "postgres.h"
			#include "${header##*/}"
			#include "${header##*/}"
		C
done
finish
