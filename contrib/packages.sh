# shellcheck shell=sh
# Sourced by demo.sh and check.sh: install the packages that are missing.

# shellcheck disable=SC2034 # for those who source this file
packages_build='gcc make autoconf automake pkg-config libfuse3-dev fuse3
    libcurl4-openssl-dev libcjson-dev libbsd-dev libmd-dev zlib1g-dev
    libinih-dev
    libmicrohttpd-dev'

# What the checks need besides.
# shellcheck disable=SC2034
packages_check='build-essential clang clang-format-14 cppcheck libcmocka-dev busybox-static
    python3 python3-pytest python3-pytest-xdist shellcheck mandoc git rsync valgrind
    openssl dash procps util-linux file patch unzip zip sqlite3 vim nano zsh fish gcovr'

# What to say where there is no apt-get.
# shellcheck disable=SC2034
packages_fedora='gcc make autoconf automake pkgconf-pkg-config fuse3 fuse3-devel
    libcurl-devel cjson-devel libbsd-devel libmd-devel zlib-devel inih-devel libmicrohttpd-devel'

# Are the tools for building there, wherever they came from?
packages_can_build()
{
	for tool in gcc make autoreconf automake pkg-config fusermount3; do
		command -v "$tool" >/dev/null 2>&1 || return 1
	done
	pkg-config --exists 'fuse3 >= 3.10' 'libcurl >= 7.70' libcjson \
	    libbsd-overlay libmd zlib inih libmicrohttpd
}

# packages_install PACKAGE...: with apt-get, those that are missing.
packages_install()
{
	missing=
	for package in "$@"; do
		case $(dpkg-query -W -f '${db:Status-Status}' "$package" \
		    2>/dev/null) in
		installed) ;;
		*) missing="$missing $package" ;;
		esac
	done
	[ -n "$missing" ] || return 0

	sudo=
	if [ "$(id -u)" != 0 ]; then
		if ! command -v sudo >/dev/null 2>&1; then
			echo "Missing packages; install them as root:" >&2
			echo "    apt-get install$missing" >&2
			return 1
		fi
		sudo=sudo
	fi
	echo "Installing with apt-get:$missing"
	# An old package list names versions that are gone: renew it first.
	# shellcheck disable=SC2086 # words are meant to split
	log=$($sudo env DEBIAN_FRONTEND=noninteractive sh -c '
	    apt-get -q update && apt-get -q install -y \
	    --no-install-recommends "$@"' sh $missing 2>&1 </dev/null) || {
		printf '%s\n' "$log" | tail -n 20 >&2
		echo "Could not install:$missing" >&2
		return 1
	}
}
