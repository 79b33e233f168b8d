# shellcheck shell=sh disable=SC2154
# read_many PATH...: the contents of many small files.  Expects record_*.sh.
# Prints
#	"#0 OK K\0", records, "#d\0", DATA, "\0#e\0", records, "#.\0"
# DATA: the files one after another; the records (show_paths of record_*.sh, in
# the order of the paths, nothing for one that is missing) from before and after
# tell where each begins, and which have stayed the same.
read_many() {
	printf '#0 OK %s\0' "$kind"
	show_paths "$@"
	printf '#d\0'
	cat "$@"
	printf '\0#e\0'
	show_paths "$@"
	printf '#.\0'
}
