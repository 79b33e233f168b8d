# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# Sockets, for make_node of name.sh.
#	make_socket PATH
#		a socket with all that the umask mask leaves; EPERM: nothing
#		here can make one
# No tool is meant for that, but an archive may hold one.
make_socket() {
	directory=${1%/*}
	if has python3; then
		try python3 -c 'import os,sys;sys.excepthook=lambda t,e,b:sys.stderr.write(": "+(getattr(e,"strerror",0)or"?"));os.mknod(sys.argv[1],0o140777)' "$1"
	elif has perl; then
		# Under a short name first: bind(2) wants one.
		# shellcheck disable=SC2016 # perl's variables
		try perl -MSocket -e '($p,$d,$t)=@ARGV;$r=chdir($d)&&socket(S,AF_UNIX,SOCK_STREAM,0)&&bind(S,pack_sockaddr_un($t))&&link($t,$p);$e=$!;unlink($t);$r||die": $e\n"' "$1" "${directory:-/}" ".gentilityfs-$$"
	elif has cpio; then
		own_uid=$(id -u)
		if [ -g "${directory:-/}" ]; then
			own_gid=$(stat -c %g "${directory:-/}")
		else
			own_gid=$(id -g)
		fi
		short_name=./${1##*/}
		said=$(cd "${directory:-/}" && {
			# Mode, owner, links, and the length with the NUL.
			printf 07070100000001
			printf %08X $((49152 | 511 & ~0$mask)) "$own_uid" "$own_gid" 1
			printf %048d 0
			printf %08X%08X $((${#short_name} + 1)) 0
			# The header has 110 bytes; up to a multiple of 4.
			printf '%s\0' "$short_name"
			printf %.$(((5 - ${#short_name} % 4) % 4))s 000 | tr 0 '\000'
			printf '070701%088d0000000B00000000TRAILER!!!\0\0\0\0' 0
		} | cpio -i 2>&1 >/dev/null)
		[ -S "$1" ] || {
			text_error "$said"
			[ "$error" != EIO ] || path_error "$1"
		}
	else
		error=EPERM
	fi
}
