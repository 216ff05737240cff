#!/usr/bin/env bash
# One version: the control file's. META.json repeats it, the change log begins with it, and no upgrade leads past it.
. "$(dirname "$0")/../lib/tap.sh"

cd "$SOURCE_DIR"
version=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" amzmp.control)
like "$version" '^[0-9]+\.[0-9]+\.[0-9]+$' 'the control file has a version'

json()
{
	perl -MJSON::PP -e '
		local $/;
		my $value = JSON::PP->new->decode(<STDIN>);
		$value = ref $value eq "ARRAY" ? $value->[$_] : $value->{$_} for @ARGV;
		print defined $value ? $value : "(missing)";' "$@" <META.json
}

is "$(json version)" "$version" 'META.json has the same'
is "$(json provides amzmp version)" "$version" 'also for what it provides'
succeeds 'the script that META.json names exists' test -f "$(json provides amzmp file)"
succeeds 'the document that META.json names exists' test -f "$(json provides amzmp docfile)"
for key in name abstract maintainer license meta-spec; do
	unlike "$(json "$key")" '^\(missing\)$' "META.json has $key, which PGXN demands"
done
like "$(json name)" '^amzmp$' 'META.json is about amzmp'
succeeds 'the install script of that version is installed' \
	test -f "$RUN/root$("$PG_CONFIG" --sharedir)/extension/amzmp--$version.sql"
like "$(grep -m 1 '^## ' CHANGELOG.md)" "$version" 'the change log begins with it'
finish
