# mutate.pl NUMBER LIST FROM TO: writes FROM to TO with mutant NUMBER of LIST in it. For scripts/mutate.sh.
# In the list a mutant is a paragraph: "# title", the file, lines that begin with "-" (what stands there, as it stands
# there but for white space) and lines that begin with "+" (what stands there instead).
use strict;
use warnings;

my ($number, $list, $from, $to) = @ARGV;
sub text { open(my $file, '<', $_[0]) or die "$_[0]: $!"; local $/; return scalar <$file> }

my @mutants = grep { /^# / } split /\n\n+/, text($list);
my (@old, @new);
for my $line (split /\n/, $mutants[$number - 1]) {
    push @old, split(' ', $1) if $line =~ /^-(.*)/;
    push @new, $1 if $line =~ /^\+(.*)/;
}
my $pattern = join '\s+', map { quotemeta } @old;
my $new = join "\n", @new;
my $text = text($from);
$text =~ s/$pattern/$new/ or exit 1;
open(my $file, '>', $to) or die "$to: $!";
print $file $text;
