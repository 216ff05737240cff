#!/usr/bin/env bash
# The inputs in test/fuzz/corpus, each run once by its target with the sanitizers on: what random bytes once found stays
# found. "make fuzz" looks for more.
. "$(dirname "$0")/../lib/tap.sh"

# Clang alone is not enough: the run-time library is a package of its own.
can_fuzz()
{
	local trial=$RUN/$CLUSTER_PREFIX.fuzz
	echo 'int LLVMFuzzerTestOneInput(const char *data, unsigned long size) { return 0; }' |
		clang-14 -fsanitize=fuzzer,address,undefined -o "$trial" -x c - 2>/dev/null
}

if ! can_fuzz; then
	echo '1..0 # SKIP clang-14 with libFuzzer is missing ("script/setup.sh clang" brings it)'
	exit 0
fi
succeeds 'the fuzzing targets build' make -C "$SOURCE_DIR/test/fuzz" -s all BUILD="$BUILD/fuzz" PG_CONFIG="$PG_CONFIG"
for target in "$SOURCE_DIR"/test/fuzz/corpus/*; do
	succeeds "${target##*/}: no input crashes it" "$BUILD/fuzz/${target##*/}" -verbosity=0 -artifact_prefix="$BUILD/fuzz/" "$target"/*
done
is "$(cd "$SOURCE_DIR/test/fuzz/corpus" && echo *)" "$(sed -n 's/^TARGETS = //p' "$SOURCE_DIR/test/fuzz/Makefile" | tr ' ' '\n' | sort | paste -sd' ')" \
	'each target has a corpus'
finish
