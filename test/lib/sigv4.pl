#!/usr/bin/perl
# The signature that AWS Signature Version 4 demands of a request, worked out from its definition, so that what libcurl
# signs can be compared with something that is not libcurl.
#
#   sigv4.pl SECRET REGION/SERVICE METHOD PATH < lines "name: value" of the signed headers, an empty line, the body
#
# Prints the signature. The headers must hold x-amz-date; the query string is empty, as SQS has it.
use strict;
use warnings;
use Digest::SHA qw(sha256_hex hmac_sha256 hmac_sha256_hex);

my ($secret, $scope, $method, $path) = @ARGV;
my %headers;
while (my $line = <STDIN>)
{
	$line =~ s/\r?\n$//;
	last if $line eq '';
	my ($name, $value) = split /:\s*/, $line, 2;
	$headers{lc $name} = $value;
}
my $body = do { local $/; <STDIN> } // '';
my $names = join ';', sort keys %headers;
my $canonical = join "\n", $method, $path, '', (map { "$_:$headers{$_}" } sort keys %headers), '', $names, sha256_hex($body);
my ($date) = $headers{'x-amz-date'} =~ /^(\d{8})/;
my ($region, $service) = split m{/}, $scope;
my $key = "AWS4$secret";
$key = hmac_sha256($_, $key) for $date, $region, $service, 'aws4_request';
print hmac_sha256_hex(join("\n", 'AWS4-HMAC-SHA256', $headers{'x-amz-date'}, "$date/$scope/aws4_request", sha256_hex($canonical)), $key), "\n";
