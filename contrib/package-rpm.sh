#!/bin/sh
# package-rpm.sh RELEASE.tar.gz [DIR]   build the RPM packages of a release
#                        (`make dist' makes one) into DIR (./build-rpm).
# RPMBUILD_FLAGS are for rpmbuild (-ba): -bs for the source package only, --nodeps
# where the system's packages are not RPM's.
# Exit: 0, or 1 when something fails.
set -eu

if [ $# = 0 ] || [ ! -f "$1" ]; then
	echo "usage: package-rpm.sh RELEASE.tar.gz [DIR]" >&2
	exit 2
fi
command -v rpmbuild >/dev/null 2>&1 || {
	echo "package-rpm.sh: rpmbuild is missing: dnf install rpm-build" >&2
	exit 1
}
top=$(cd "$(dirname "$0")/.." && pwd -P)
mkdir -p "${2:-build-rpm}"
out=$(cd "${2:-build-rpm}" && pwd -P)
work=$(mktemp -d "${TMPDIR:-/tmp}/gentilityfs-rpm.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/SOURCES"
cp "$1" "$work/SOURCES"

# shellcheck disable=SC2086 # words are meant to split
rpmbuild --define "_topdir $work" ${RPMBUILD_FLAGS:--ba} \
    "$top/contrib/rpm/gentilityfs.spec"
find "$work/SRPMS" "$work/RPMS" -name '*.rpm' -exec cp {} "$out" \;
echo "Packages in $out:"
cd "$out"
ls -- *.rpm
