#!/usr/bin/env bash
# What the library shows to the server, and what it may be given by it: a symbol that both a library and the server
# export is the server's at run time. json_object() is one, and calling it crashes the backend.
. "$(dirname "$0")/../lib/tap.sh"

library=$RUN/root$("$PG_CONFIG" --pkglibdir)/amzmp.so

exported=$(nm -D --defined-only "$library" | awk '{ print $3 }' | sort -u)
like "$exported" '(^|[[:space:]])Pg_magic_func' 'the library has symbols to look at'
is "$(grep -vxE 'amzmp_[a-z0-9_]+|pg_finfo_amzmp_[a-z0-9_]+|Pg_magic_func|_PG_init' <<<"$exported")" '' \
	'nothing is exported but amzmp_*, their pg_finfo records and what the server looks up'
is "$(comm -12 <(grep '^pg_finfo_' <<<"$exported" | sed 's/^pg_finfo_//') <(echo "$exported") | wc -l)" \
	"$(grep -c '^pg_finfo_' <<<"$exported")" 'every pg_finfo record has its function'

defined()
{
	nm -D --defined-only "$1" | awk '$2 ~ /[TWDBRVi]/ { sub(/@.*/, "", $3); print $3 }' | sort -u
}

# The libraries that the linker recorded, without libc and its kin, whose symbols the server never defines.
libraries=$(ldd "$library" | awk '$3 ~ /^\// { print $3 }' | grep -vE '/(libc|libm|ld-linux[^/]*|libpthread|libdl)\.so')
like "$libraries" 'libcurl.*' 'the library is linked with libcurl'
server=$(defined "$(pg_bin)/postgres")
both=$(for file in $libraries; do defined "$file"; done | sort -u | comm -12 - <(echo "$server"))
wanted=$(nm -D --undefined-only "$library" | awk '{ sub(/@.*/, "", $NF); print $NF }' | sort -u)
is "$(comm -12 <(echo "$both") <(echo "$wanted"))" '' 'no symbol that we want is both a library'\''s and the server'\''s'
finish
