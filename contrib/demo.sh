#!/bin/sh
# demo.sh        try gentilityfs on this machine, without an account: build it,
#                start a local room with a small project in it, mount the room
# demo.sh stop   unmount it and end everything
# Exit: 0; 1 with a message when something is missing or does not work.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$top"
# shellcheck source=contrib/packages.sh
. contrib/packages.sh

build=build
state=$top/build/demo
room=$state/room
mount=demo-mount

die()
{
	echo "demo.sh: $*" >&2
	exit 1
}

is_mounted()
{
	grep -qF " $top/$mount " /proc/self/mountinfo
}

# The local room's process, if it lives; a pid may be somebody else's by now.
room_pid()
{
	[ -f "$state/pid" ] || return 1
	pid=$(cat "$state/pid")
	case $(readlink "/proc/$pid/exe" 2>/dev/null) in
	*/gentility-roomd*) ;;
	*) return 1 ;;
	esac
}

# until_true COMMAND...: wait for it, 15 seconds at most
until_true()
{
	tries=150
	until "$@" 2>/dev/null; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.1
	done
}

room_gone()
{
	! room_pid
}

# The mount's process goes on for a moment after the unmount.
mount_gone()
{
	case $(readlink "/proc/$mount_pid/exe" 2>/dev/null) in
	*/gentilityfs*) return 1 ;;
	esac
}

stop()
{
	if is_mounted && ! fusermount3 -u "$mount"; then
		die "$mount is in use: leave it (a shell inside? an editor?)" \
		    "and run contrib/demo.sh stop again"
	fi
	if [ -s "$state/mount-pid" ]; then
		mount_pid=$(cat "$state/mount-pid")
		until_true mount_gone || kill -TERM "$mount_pid" 2>/dev/null || :
	fi
	if room_pid; then
		kill "$pid"
		until_true room_gone || kill -KILL "$pid" 2>/dev/null || :
	fi
	[ ! -d "$mount" ] || rmdir "$mount" 2>/dev/null || :
	rm -rf "$state"
}

check_fuse()
{
	[ -c /dev/fuse ] || modprobe fuse 2>/dev/null || :
	[ -c /dev/fuse ] || die "this machine has no /dev/fuse, so nothing can" \
	    "be mounted. Load the module (modprobe fuse), or start the" \
	    "container with: docker run --device /dev/fuse --cap-add SYS_ADMIN" \
	    "--security-opt apparmor=unconfined"
}

get_packages()
{
	if packages_can_build; then
		return
	fi
	if command -v apt-get >/dev/null 2>&1; then
		# shellcheck disable=SC2086 # words are meant to split
		packages_install $packages_build || exit 1
	else
		# shellcheck disable=SC2086 # words are meant to split
		die missing packages, on Fedora: sudo dnf install \
		    $packages_fedora
	fi
}

build_step()
{
	"$@" >>"$log" 2>&1 </dev/null || {
		tail -n 20 "$log" >&2
		die "building failed at: $* (all of it: $log)"
	}
}

build()
{
	echo "Building in ./$build ..."
	mkdir -p "$build" "$top/build"
	log=$top/build/demo.log
	: >"$log"
	[ -x configure ] || build_step autoreconf -fi
	[ -f "$build/config.status" ] ||
	    (cd "$build" && build_step "$top/configure" -q) || exit 1
	build_step make -C "$build" -j "$(nproc)" gentilityfs gentility-roomd gx
}

ready_value()
{
	sed -n 's/.*"'"$1"'": *"\([^"]*\)".*/\1/p' "$state/ready"
}

# The local room answers, or never will.
room_decided()
{
	[ -s "$state/ready" ] || ! kill -0 "$(cat "$state/pid")"
}

start_room()
{
	mkdir -p "$room"
	chmod 700 "$state"
	nohup "./$build/gentility-roomd" --dir "$room" \
	    --key-file "$state/key" --ready-file "$state/ready" --port 0 \
	    >"$state/roomd.log" 2>&1 </dev/null &
	echo $! >"$state/pid"
	if ! until_true room_decided || [ ! -s "$state/ready" ]; then
		cat "$state/roomd.log" >&2
		why=
		if grep -q namespaces "$state/roomd.log"; then
			why=": its commands run within walls of namespaces, which this
machine does not give you. Run it as root; in a container, start that with:
docker run --device /dev/fuse --cap-add SYS_ADMIN --security-opt
seccomp=unconfined --security-opt apparmor=unconfined"
		fi
		stop
		die "the local room did not start$why"
	fi
	# The sample project becomes part of the VM user's home.
	home=$(ready_value home)
	cp -R contrib/demo/weather "$home/"
	if [ "$(id -u)" = 0 ]; then
		chown -R --reference="$home" "$home/weather"
	fi
}

mount_room()
{
	mkdir -p "$mount"
	"./$build/gentilityfs" \
	    -o "key_file=$state/key,url=$(ready_value url),cache_dir=$state/cache" \
	    "$(ready_value profile)/$(ready_value room)" "$mount" || {
		stop
		exit 1
	}
	"./$build/gentilityfs" --stats --json "$mount" |
	    sed -n 's/.*"pid":\([0-9]*\).*/\1/p' >"$state/mount-pid"
}

# show COMMAND: as if it were typed
show()
{
	printf '\n$ %s\n' "$1"
	sh -c "$1" || die "this should not have failed"
}

session()
{
	echo
	echo "A room is mounted at $mount. In $top:"
	show "cd $mount/home/user/weather && ls -l && cat README"
	show "cd $mount/home/user/weather && echo './warmest.sh > warmest.txt && wc -l *.csv' > .exec && cat .exec"
	show "cat $mount/home/user/weather/warmest.txt"
	show "cd $mount/home/user/weather && $top/$build/gx -v ./warmest.sh"
	cat <<END

Every .exec runs what is written to it, in the room; the file it made is
there for any local program. gx does the same for a command that you type, and
gx alone is a shell there. The mount stays: play in $mount.
To have gx in this shell:

    PATH=$(cd "$build" && pwd):\$PATH

Unmount and end everything with:

    contrib/demo.sh stop
END
}

# Somebody built in the source directory itself: go on there.
[ ! -f config.status ] || build=.

case ${1-} in
'')
	if is_mounted && room_pid; then
		echo "The demo is running already: the room is mounted at" \
		    "$top/$mount. End it with: contrib/demo.sh stop"
		exit 0
	fi
	check_fuse
	get_packages
	build
	stop # what an earlier run may have left
	start_room
	mount_room
	session
	;;
stop)
	stop
	echo "Stopped."
	;;
*)
	echo "usage: demo.sh [stop]" >&2
	exit 2
	;;
esac
