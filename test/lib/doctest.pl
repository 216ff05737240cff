#!/usr/bin/perl
# Runs the examples of a document as its reader would, in one psql session, and compares what they print with what the
# document says they print.
#
#   doctest.pl FILE        psql takes the connection from its environment
#
# ```sql        is executed; an error ends the run
# ```sql fails  is executed, and must end in an error
# ```sh         is executed line by line, between the statements around it; what it prints is not looked at
# ```text       right after one of these is what it prints, or whole lines of it, to the letter but for spaces at the
#               ends of lines
#
# Blocks of any other kind are only read. A document without a single example is an error, for then nothing was tested.
use strict;
use warnings;

my $file = shift @ARGV or die "usage: doctest.pl FILE\n";
my @examples = read_examples($file);
die "$file has no example\n" unless @examples;
my @printed = run(@examples);
my $wrong = 0;
for my $i (0 .. $#examples) {
	my $example = $examples[$i];
	if (!defined $printed[$i]) {
		complain($example, "it was not reached");
		last;
	}
	my ($output, $failed) = @{ $printed[$i] };
	if ($failed != $example->{fails}) {
		complain($example, $failed ? "it failed:" : "it did not fail", $output);
	}
	elsif (defined $example->{expected} && !holds($output, $example->{expected})) {
		complain($example, "it printed", plain($output), "and the document says", plain($example->{expected}));
	}
}
printf "%s: %d examples, %d wrong\n", $file, scalar @examples, $wrong;
exit($wrong ? 1 : 0);

sub complain
{
	my ($example, @lines) = @_;
	$wrong++;
	chomp @lines;
	print join("\n", "$file:$example->{line}: " . shift @lines, @lines), "\n";
}

# The examples in order: kind, first line, text, what is expected.
sub read_examples
{
	my ($name) = @_;
	my (@found, $fence, $block);
	open my $in, '<', $name or die "$name: $!\n";
	while (my $line = <$in>) {
		if (!defined $fence && $line =~ /^```(\S*) *(.*?)\s*$/) {
			$fence = $1;
			$block = { kind => $1, fails => ($2 eq 'fails' ? 1 : 0), line => $. + 1, text => '' };
		}
		elsif (defined $fence && $line =~ /^```\s*$/) {
			if ($fence eq 'sql' || $fence eq 'sh') {
				push @found, $block;
			}
			elsif ($fence eq 'text' && @found && !$found[-1]{closed}) {
				$found[-1]{expected} = $block->{text};
			}
			$fence = undef;
		}
		elsif (defined $fence) {
			$block->{text} .= $line;
		}
		elsif ($line =~ /\S/ && @found) {
			# prose between an example and a text block parts them
			$found[-1]{closed} = 1;
		}
	}
	return @found;
}

# What each example printed, and whether it failed, as far as the session got.
sub run
{
	my @session = @_;
	my $script = '';
	for my $i (0 .. $#session) {
		my $example = $session[$i];
		$script .= "\\set ON_ERROR_STOP " . ($example->{fails} ? 'off' : 'on') . "\n\\echo \@\@ $i\n";
		$script .=
		  $example->{kind} eq 'sql'
		  ? $example->{text}
		  : join('', map { "\\! ($_) >/dev/null || echo failed\n" } grep { /\S/ } split /\n/, $example->{text});
	}
	my $input = "$ENV{RUN}/doctest.$$.sql";
	open my $out, '>', $input or die "$input: $!\n";
	print $out $script;
	close $out or die "$input: $!\n";
	my $output = `psql -Xq -v SHOW_CONTEXT=never <'$input' 2>&1`;
	unlink $input;
	my @parts;
	for my $part (split /^@@ /m, $output) {
		next unless $part =~ s/^(\d+)\n//;
		my $number = $1;
		$parts[$number] = [ $part, $part =~ /^(?:ERROR|FATAL|failed|invalid command|psql: error)/m ? 1 : 0 ];
	}
	return @parts;
}

# Are the expected lines among those printed, in one piece? An empty block expects no output at all.
sub holds
{
	my ($output, $expected) = map { plain($_) } @_;
	return $output eq '' if $expected eq '';
	return index("\n$output\n", "\n$expected\n") >= 0;
}

sub plain
{
	my ($text) = @_;
	$text =~ s/[ \t]+$//mg;
	$text =~ s/\A\n+|\n+\z//g;
	return $text;
}
