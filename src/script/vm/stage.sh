# shellcheck shell=sh
# Keep a command's output in the VM, to be fetched in pieces.
#	keep_output ID		run the function C (the command), keep its output as
#			.gentilityfs-ID in the temporary directory, print its
#			size and a newline.  Done twice, the first output stays.
#	print_part ID OFFSET LENGTH LAST	print that part of it; nothing when it is gone;
#			remove it when LAST is 1
t=${TMPDIR:-/tmp}/.gentilityfs-
keep_output() {
	if [ ! -f "$t$1" ]; then
		# A second run of this command has another $$.
		(set -C; : >"$t$1.$$") && C >"$t$1.$$" </dev/null
		ln "$t$1.$$" "$t$1"
		rm -f "$t$1.$$"
	fi
	wc -c <"$t$1"
}
print_part() {
	dd if="$t$1" bs=131072 iflag=skip_bytes,count_bytes skip="$2" count="$3"
	[ "$4" = 0 ] || rm -f "$t$1"
}
