# shellcheck shell=sh
# Keep a command's output in the VM, to be fetched in pieces.
#	keep_output ID
#		run the function kept_command, keep its output as
#		.gentilityfs-ID in the temporary directory, print its size and
#		a newline.  Done twice, the first output stays.
#	print_part ID OFFSET LENGTH LAST
#		print that part of it; nothing when it is gone; remove it when
#		LAST is 1
prefix=${TMPDIR:-/tmp}/.gentilityfs-
keep_output() {
	if [ ! -f "$prefix$1" ]; then
		# A second run of this command has another $$.
		(set -C; : >"$prefix$1.$$") && kept_command >"$prefix$1.$$" </dev/null
		ln "$prefix$1.$$" "$prefix$1"
		rm -f "$prefix$1.$$"
	fi
	wc -c <"$prefix$1"
}
print_part() {
	dd if="$prefix$1" bs=131072 iflag=skip_bytes,count_bytes skip="$2" count="$3"
	[ "$4" = 0 ] || rm -f "$prefix$1"
}
