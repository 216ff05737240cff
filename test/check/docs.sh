#!/usr/bin/env bash
# The documents tell the truth: their examples run and print what they say, each name that they mention exists, the
# reference is that of this version, and links lead somewhere.
. "$(dirname "$0")/../lib/tap.sh"

# A simulator and a server as "make demo" leaves them, for those who follow a document with the demo running.
simulator_start docs --seed 1
cluster_start docs
sql 'create extension pg_cron' 'create extension amzmp' 'select amzmp.create_key()' >/dev/null
# amzmp looks for its databases every few seconds; whoever reads has been slower than that.
sql_becomes 30 "select state from amzmp.health() where check_name = 'processes'" ok ||
	diag 'amzmp does not start in the new database'

cd "$SOURCE_DIR"
files=$(ls -A)
for document in README.md doc/guide.md doc/prices-and-stock.md doc/feeds.md doc/failures.md doc/operations.md doc/reports.md doc/publishing.md doc/notifications.md doc/alarms.md doc/personal-data.md doc/bi.md; do
	succeeds "$document: its examples do what it says" perl test/lib/doctest.pl "$document"
done
is "$(curl -s "$AMZMP_SIMULATOR_URL/_control/violations" | tr -d ' ' | grep -o '"count":[0-9]*')" '"count":0' \
	'the examples asked Amazon nothing that it does not allow'
is "$(ls -A)" "$files" 'the examples leave no file behind'

# Names in prose and in examples that no test runs.
known_names()
{
	sql "select proname from pg_proc where pronamespace = 'amzmp'::regnamespace
		union select relname from pg_class where relnamespace = 'amzmp'::regnamespace
		union select typname from pg_type where typnamespace = 'amzmp'::regnamespace
		union select substr(name, 7) from pg_settings where name like 'amzmp.%'
		union values ('key'), ('control'), ('so')"
}

for document in README.md CHANGELOG.md doc/*.md; do
	unknown=$(grep -oE '\<amzmp\.[a-z_]+\>' "$document" | sed 's/^amzmp\.//' | sort -u |
		grep -v '_xxx' | grep -vxFf <(known_names) || true)
	is "$unknown" '' "$document: every amzmp.… that it names exists"
	# A link to another document, or to a heading in it, without what only a browser needs.
	broken=
	while read -r target; do
		[ -z "$target" ] || [ -e "$(dirname "$document")/$target" ] || broken+=" $target"
	done < <(grep -oE '\]\([^)#:]+[)#]' "$document" | sed 's/^](//; s/[)#]$//' || true)
	is "$broken" '' "$document: every file that it links to exists"
done

succeeds 'doc/reference.md is that of this version' script/reference.sh --check
like "$(grep -m1 '^## ' CHANGELOG.md)" "$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" amzmp.control | sed 's/\./\\./g')" \
	'the first heading of CHANGELOG.md names this version'
finish
