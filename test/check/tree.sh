#!/usr/bin/env bash
# The tree speaks of the project alone: no path of anybody's machine, no package registry's host, nothing generated.
. "$(dirname "$0")/../lib/tap.sh"

cd "$SOURCE_DIR"
# Outside a git clone (a release's archive) there is no list of files, and what is there is the release.
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
	mapfile -t files < <(git -c safe.directory='*' ls-files --cached --others --exclude-standard)
else
	mapfile -t files < <(find . -type f -not -path './build/*')
fi

# found PATTERN: lines that match, but for this file, which must name what it looks for.
found()
{
	printf '%s\0' "${files[@]}" | grep -zvx 'test/check/tree.sh' | xargs -0 grep -nIE "$1" 2>/dev/null
}

like "${#files[@]}" '^[0-9]{2,}$' 'there are files to look at'
is "$(found '(^|[^[:alnum:]_.])/(work|home|root|Users)/[[:alnum:]_.-]')" '' 'no path of a machine'
is "$(found '(registry\.npmjs|pypi|files\.pythonhosted|crates|proxy\.golang|rubygems|deb\.debian)\.(org|io)')" '' \
	'no package registry'
is "$(printf '%s\n' "${files[@]}" | grep -E '\.(o|so|bc|a|orig|rej|swp)$|^build/')" '' 'nothing generated'
is "$(printf '%s\0' "${files[@]}" | grep -zvE '^(expected|test/fuzz/corpus)/' | xargs -0 grep -lIP '\r$' 2>/dev/null)" '' 'no carriage returns at line ends, but in what a test expects and in what a connection said'
is "$(grep -vE '^ *(#|$)' sql/PARTS | sed 's/ *#.*//' | sort | uniq -d)" '' 'no part is listed twice'
is "$(cd sql && ls ./*.sql | sed 's,^\./,,' | sort | comm -3 - <(sed 's/#.*//; s/ //g; /^$/d' PARTS | sort))" '' \
	'sql/PARTS lists every file in sql/, and no other'

# not_in_table COLUMN FOLDER SUFFIX: files that the table "Where to look" does not name, and names in it without a file.
not_in_table()
{
	perl -CSD -Mutf8 -e '
		my ($column, $folder, $suffix) = @ARGV;
		my %left = map { m{([^/]+)\Q$suffix\E$} ? ($1 => 1) : () } glob("$folder/*$suffix");
		my @files = keys %left;
		open(my $in, "<", "doc/architecture.md") or die;
		while (<$in>)
		{
			next unless /^## Where to look/ .. /^## How SQL/ and /^\|/;
			my $cell = (split /\|/)[$column];
			while ($cell =~ /`(\w+)(…?)`(…?)/g)
			{
				my $name = $2 || $3 ? qr/^$1/ : qr/^$1$/;
				my @named = grep { /$name/ } @files;
				delete @left{@named};
				print "no $folder/$1$suffix\n" unless @named;
			}
		}
		print "$folder/$_$suffix\n" for sort keys %left;' "$@"
}

is "$(not_in_table 2 sql .sql; not_in_table 3 src .c)" '' 'the table "Where to look" names every file in sql/ and src/, and no other'
finish
