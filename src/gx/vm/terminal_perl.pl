# perl -e THIS DIR UMASK SHELL TOKEN FLAGS ROWS COLUMNS INNER: as the one in
# Python.
use strict;
use POSIX;
my $j = $ARGV[0];
my $inner = pop @ARGV;
sysopen(my $m, '/dev/ptmx', O_RDWR | O_NOCTTY | O_NONBLOCK) or die;
my $arg = pack('i', 0);
ioctl($m, 0x40045431, $arg) or die;
ioctl($m, 0x80045430, $arg) or die;
my $name = '/dev/pts/' . unpack('i', $arg);
my $pid = fork;
if ($pid == 0) {
	delete $ENV{GX_inner};
	$SIG{INT} = $SIG{QUIT} = 'DEFAULT';
	POSIX::setsid();
	sysopen(my $s, $name, O_RDWR) or die;
	ioctl($s, 0x540e, 0);
	POSIX::dup2(fileno($s), $_) for 0 .. 2;
	POSIX::close(fileno($s)) if fileno($s) > 2;
	exec 'sh', '-c', $inner, 'gx-run', @ARGV;
}
sysopen(my $wake, "$j/wake", O_RDWR | O_NONBLOCK) or die;
my ($n, $ended, $pending, $status) = (1, 0, '', undef);
sub part {
	open(my $f, '<', "$j/$_[0]") or return '';
	local $/;
	return scalar(<$f>) // '';
}
while (1) {
	my ($r, $w) = ('', '');
	vec($r, fileno($m), 1) = 1;
	vec($r, fileno($wake), 1) = 1;
	vec($w, fileno($m), 1) = 1 if $pending ne '';
	if (select($r, $w, undef, 0.5) < 0) {
		$r = $w = '';
	}
	if (vec($r, fileno($m), 1)) {
		my $data;
		my $got = sysread($m, $data, 65536);
		last if !$got && !$!{EAGAIN} && !$!{EINTR};
		while ($got && $data ne '') {
			my $k = syswrite(STDOUT, $data) // last;
			$data = substr($data, $k);
		}
	} elsif (defined $status) {
		last;
	}
	my $void;
	sysread($wake, $void, 65536) if vec($r, fileno($wake), 1);
	while (length($pending) < 65536 && -e "$j/in.$n") {
		$pending .= part("in.$n");
		unlink "$j/in.$n";
		if (open(my $f, '>', "$j/fed")) {
			print $f "$n\n";
			close $f;
		}
		$n++;
	}
	if (!$ended && part('in.end') =~ /^(\d+)/ && $1 == $n - 1) {
		$ended = 1;
		$pending .= "\4";
	}
	if ($pending ne '' && vec($w, fileno($m), 1)) {
		my $k = syswrite($m, substr($pending, 0, 1024));
		$pending = substr($pending, $k) if $k;
	}
	$status = $? if !defined $status && waitpid($pid, WNOHANG) > 0;
}
if (!defined $status) {
	waitpid($pid, 0);
	$status = $?;
}
POSIX::_exit($status & 127 ? 128 + ($status & 127) : $status >> 8);
