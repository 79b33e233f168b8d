#!/bin/sh
# package-deb.sh [DIR]   build the Debian packages into DIR (./build-deb): makes
#                        a release, puts contrib/debian into it as debian/, and
#                        runs dpkg-buildpackage, and lintian where it is.
# Needs build-essential, debhelper, libcmocka-dev and the packages for building.
# DEB_BUILD_OPTIONS=nocheck leaves the unit tests out.
# Exit: 0, or 1 when something fails or lintian complains.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd -P)
mkdir -p "${1:-build-deb}"
out=$(cd "${1:-build-deb}" && pwd -P)

for tool in dpkg-buildpackage dh autoreconf; do
	command -v $tool >/dev/null 2>&1 || {
		echo "package-deb.sh: $tool is missing: apt install" \
		    "build-essential debhelper autoconf automake" >&2
		exit 1
	}
done

work=$(mktemp -d "${TMPDIR:-/tmp}/gentilityfs-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The release, from a copy, so that the tree stays as it is.
mkdir "$work/tree" "$work/build"
(cd "$top" && tar cf - --exclude=./.git --exclude=./demo-mount \
    --exclude=./build --exclude='./build-[!a]*' .) | tar xf - -C "$work/tree"
(
	cd "$work/tree"
	[ ! -f config.status ] || make -s distclean
	autoreconf -fi
	cd "$work/build"
	../tree/configure -q
	make -s dist
) >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
release=$(cd "$work/build" && echo gentilityfs-*.tar.gz)
version=${release#gentilityfs-}
version=${version%.tar.gz}
cp "$work/build/$release" "$work/gentilityfs_$version.orig.tar.gz"
tar xzf "$work/gentilityfs_$version.orig.tar.gz" -C "$work"
cd "$work/gentilityfs-$version"
cp -R contrib/debian debian

dpkg-buildpackage -us -uc
cd ..
cp -- *.deb *.dsc *.changes *.buildinfo *.tar.* "$out"
if command -v lintian >/dev/null 2>&1; then
	lintian --allow-root --fail-on error,warning --info ./*.changes
fi
echo "Packages in $out:"
cd "$out"
ls -- *.deb
