#!/usr/bin/perl
# The format of SQL: format-sql.pl check|format FILE …
#
# The case of every word is pg_format's (.pg_format: keywords and types in lower case). The line breaks are the
# author's: pg_format 5.5 lays out PL/pgSQL and BEGIN ATOMIC bodies so that they no longer show their structure ("begin"
# and "atomic" on two lines, left(a, 1) on three, the clauses of nested queries at the margin), and it
# adds a semicolon inside the library literal of C functions. So its answer is taken for the characters only: what is not white space in its
# output must be, letter by letter, what is not white space in the file. Format puts its letters into the file's layout.
#
# White space has rules of its own, which need no parser: no tabs, no blanks at a line's end, one newline at the end
# of the file, indentation by 4 (continuation lines may align), 140 columns not counting string literals.
use strict;
use warnings;

my $mode = shift // '';
$mode =~ /^(check|format)$/ or die "usage: $0 check|format FILE ...\n";
my $wrong = 0;
my $limit = 140;

sub complain
{
	my ($where, $what) = @_;
	print STDERR "$where: $what\n";
	$wrong++;
}

sub slurp
{
	my ($handle) = @_;
	local $/;
	return scalar(<$handle>) // '';
}

# A line's rules, for what format cannot mend by itself.
sub check_columns
{
	my ($file, $text) = @_;
	my $number = 0;
	for my $line (split /\n/, $text)
	{
		$number++;
		(my $bare = $line) =~ s/'(?:[^']|'')*'/''/g;
		# A literal that spans lines leaves half of itself here; its text is not ours to wrap.
		$bare =~ s/'[^']*$//;
		complain("$file:$number", length($bare) . " columns, at most $limit") if length($bare) > $limit;
	}
}

# The words of $text in pg_format's case, or nothing when pg_format changed more than case and white space.
sub in_its_case
{
	my ($file, $text) = @_;
	# Meta-commands are psql's, not SQL: pg_format would take them apart.
	return $text if $text =~ /^\s*\\/m;
	open(my $pipe, '-|', 'pg_format', '-c', '.pg_format', $file) or die "pg_format: $!\n";
	my $theirs = slurp($pipe);
	close($pipe) or die "pg_format fails on $file\n";
	$theirs =~ s/\s+//g;
	(my $ours = $text) =~ s/\s+//g;
	if (lc $ours ne lc $theirs)
	{
		print STDERR "$file: note: pg_format changes more than case and white space, so the case is not looked at\n";
		return $text;
	}
	my $at = 0;
	$text =~ s/(\S)/substr($theirs, $at++, 1)/ge;
	return $text;
}

for my $file (@ARGV)
{
	open(my $in, '<:raw', $file) or die "$file: $!\n";
	my $text = slurp($in);
	close($in);

	my $formatted = in_its_case($file, $text);
	$formatted =~ s/^(\t+)/' ' x (4 * length $1)/gme;
	$formatted =~ s/[ \t]+$//gm;
	$formatted =~ s/\n*\z/\n/ if $formatted ne '';

	if ($mode eq 'format' && $formatted ne $text)
	{
		open(my $out, '>:raw', $file) or die "$file: $!\n";
		print $out $formatted;
		close($out) or die "$file: $!\n";
	}
	elsif ($formatted ne $text)
	{
		my @ours = split /\n/, $text, -1;
		my @theirs = split /\n/, $formatted, -1;
		for my $i (0 .. $#ours)
		{
			next if $ours[$i] eq ($theirs[$i] // '');
			complain("$file:" . ($i + 1), "is \"$ours[$i]\", should be \"" . ($theirs[$i] // '') . '"');
		}
	}
	# Columns are characters, not bytes.
	utf8::decode($formatted);
	check_columns($file, $formatted);
}
exit($wrong ? 1 : 0);
