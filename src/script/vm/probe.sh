# shellcheck shell=sh disable=SC2154
# probe: what the driver needs to know of the VM, as "KEY=VALUE\0", each key at
# most once but "pseudo":
#	tools	gnu: find has -printf; busybox: stat -c by find -exec does;
#		none: the driver can't work here
#	uid gid groups	numbers; groups separated by blanks
#	user home cwd	the name; directories, absolute
#	pseudo	st_dev of a mounted file system whose sizes lie
#	have	the names of the tools found, separated by blanks
#	touch	yes: it can set parts of seconds
#	clock	what time it is there: seconds since 1970 with a fraction
#	uname	for people
probe() {
	if [ "$kind" = G ]; then
		tools=gnu
	elif case $(find / -maxdepth 0 -exec stat -c '//%f' {} +) in
	//4*) ;;
	*) false ;;
	esac then
		tools=busybox
	else
		tools=none
	fi
	# The x keeps newlines at the end of a name.
	here=$(pwd -P && echo x)
	here=${here%?x}
	uid=$(id -u)
	home_directory=$(getent passwd "$uid" || grep "^[^:]*:[^:]*:$uid:" /etc/passwd)
	name=${home_directory%%:*}
	home_directory=${home_directory%:*}
	home_directory=${home_directory##*:}
	case ${HOME:-} in
	/*) home_directory=$HOME ;;
	esac
	case $home_directory in
	/*) ;;
	*) home_directory=/ ;;
	esac
	touch -cd @0.5 /.gentilityfs-none && touch=yes || touch=no
	printf '%s\0' "tools=$tools" "uid=$uid" "gid=$(id -g)" "groups=$(id -G)" \
	    "user=${name:-${USER:-}}" "home=$home_directory" "cwd=$here" "clock=$(date +%s.%N)" \
	    "touch=$touch" "uname=$(uname -srm)"
	tools=
	for name in gzip timeout python3 perl sha256sum cksum dd base64 openssl \
	    truncate mktemp touch mkfifo mknod; do
		! has "$name" || tools="$tools $name"
	done
	printf 'have=%s\0' "${tools# }"
	set --
	while read -r _ home_directory name _; do
		case $name in
		proc | sysfs | cgroup | cgroup2 | debugfs | tracefs | \
		securityfs | configfs | bpf | pstore | mqueue | efivarfs | \
		devpts)
			# Blanks in it are written as \040.
			case $home_directory in
			*\\*) home_directory=$(printf %b "$home_directory") ;;
			esac
			set -- "$@" "$home_directory"
		esac
	done </proc/mounts
	[ $# = 0 ] || stat -c 'pseudo=%d' "$@" | sort -u | tr '\n' '\000'
}
