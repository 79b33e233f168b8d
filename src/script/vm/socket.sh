# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# Sockets, for Nd of name.sh.
#	Ns PATH		a socket with all that the umask U leaves;
#			EPERM: nothing here can make one
# No tool is meant for that, but an archive may hold one.
Ns() {
	d=${1%/*}
	if h python3; then
		m python3 -c 'import os,sys;sys.excepthook=lambda t,e,b:sys.stderr.write(": "+(getattr(e,"strerror",0)or"?"));os.mknod(sys.argv[1],0o140777)' "$1"
	elif h perl; then
		# Under a short name first: bind(2) wants one.
		# shellcheck disable=SC2016 # perl's variables
		m perl -MSocket -e '($p,$d,$t)=@ARGV;$r=chdir($d)&&socket(S,AF_UNIX,SOCK_STREAM,0)&&bind(S,pack_sockaddr_un($t))&&link($t,$p);$e=$!;unlink($t);$r||die": $e\n"' "$1" "${d:-/}" ".gentilityfs-$$"
	elif h cpio; then
		_o=$(id -u)
		if [ -g "${d:-/}" ]; then
			_g=$(stat -c %g "${d:-/}")
		else
			_g=$(id -g)
		fi
		_n=./${1##*/}
		o=$(cd "${d:-/}" && {
			# Mode, owner, links, and the length with the NUL.
			printf 07070100000001
			printf %08X $((49152 | 511 & ~0$U)) "$_o" "$_g" 1
			printf %048d 0
			printf %08X%08X $((${#_n} + 1)) 0
			# The header has 110 bytes; up to a multiple of 4.
			printf '%s\0' "$_n"
			printf %.$(((5 - ${#_n} % 4) % 4))s 000 | tr 0 '\000'
			printf '070701%088d0000000B00000000TRAILER!!!\0\0\0\0' 0
		} | cpio -i 2>&1 >/dev/null)
		[ -S "$1" ] || {
			T "$o"
			[ "$e" != EIO ] || E "$1"
		}
	else
		e=EPERM
	fi
}
