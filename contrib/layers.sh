#!/bin/sh
# layers.sh
#
# Which folder of src/ may include headers of which: the table below, each line
# a folder and what it may use beside itself and base.  A header whose name
# ends in _impl.h or _internal.h belongs to its folder alone.  Below room/ no
# one knows FUSE; above it no one knows HTTP, JSON or shell.
# Exit: 0, or 1 with each include that the table does not allow.
set -eu
cd "$(dirname "$0")/../src"

table='
base
http
api      http
script
room     api script
store    room
content  store room
tree     room script/listing.h kernel/notify.h
kernel   tree content store room cli/options.h
ahead    kernel kernel/fs_impl.h tree
cli      room kernel
gx
main     cli kernel room
'
# The libraries that each storey may use.
libraries='
fuse_lowlevel.h  kernel
curl/            http cli/version.c
cJSON            api cli/rooms.c
'

allowed()
{
	from=$1 header=$2
	folder=${header%%/*}
	case $folder in
	"$from") return 0 ;;
	esac
	case " $(echo "$table" | sed -n "s/^$from  *//p") " in
	*" $header "*) return 0 ;;
	esac
	case $header in
	*_impl.h | *_internal.h) return 1 ;;
	esac
	[ "$folder" != base ] || return 0
	case " $(echo "$table" | sed -n "s/^$from  *//p") " in
	*" $folder "*) return 0 ;;
	esac
	return 1
}

bad=0
while IFS=: read -r file line; do
	from=${file%%/*}
	from=${from%.c}
	header=$(echo "$line" | sed 's/.*["<]\(.*\)[">].*/\1/')
	case $line in
	*'"'*)
		case $header in
		*/vm_scripts.h) continue ;;
		*/*) ;;
		*) header=$from/$header ;;
		esac
		allowed "$from" "$header" || {
			echo "$file may not include $header"
			bad=1
		} ;;
	*)
		while read -r name users; do
			case $header in
			"${name:-none}"*) ;;
			*) continue ;;
			esac
			case " $users " in
			*" $from "* | *" $file "*) ;;
			*)
				echo "$file may not include <$header>"
				bad=1 ;;
			esac
		done <<-END
		$libraries
		END
		;;
	esac
done <<END
$(grep -rE '^#include' --include='*.[ch]' . | sed 's,^\./,,')
END
exit $bad
