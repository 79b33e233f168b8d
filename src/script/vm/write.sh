# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# Whole files, for X of change.sh; with piece.sh and evidence.sh.  New bytes are first staged
# in a hidden file (piece.sh) and checked there by length and SHA-256; only
# then is the target touched.
# TOKEN: 16 hex digits or so, new for each file sent, the same on a repeat.
# HOW: x: the target must not exist; c: it may; m: it must.
#	Wr PATH HOW MODE TOKEN SIZE SUM ATIME MTIME OWNER SPACE FORM DATA
#				the whole contents.  MODE, OWNER: "" keeps an
#				existing file's.  SPACE: bytes that an existing
#				one is known to take.  FORM of the DATA: t: as
#				they are; r: in base64; z: gzipped before that
# An existing target is written in place, so it keeps inode, links and mode.
# When that fails half-way, the staged file takes its place as a whole.

# Not empty: what is staged has holes, and no sum.
_h=''
# Are two files the same?
Q() {
	if h cmp; then
		cmp -s "$1" "$2"
	else
		[ "$(H <"$1")" = "$(H <"$2")" ]
	fi
}
# Has file $3 length $1 and sum $2?
V() {
	[ -f "$3" ] && [ "$(stat -L -c %s "$3")" -eq "$1" ] &&
	    { [ -n "$_h" ] || Hs "$2" "$3"; }
}
# What the mode denies (V) the owner grants himself until L, to write and to
# check what was written.  (A first run may have been stopped before L.)
Ld() {
	[ -O "$1" ] && [ ! -L "$1" ] || return
	[ "$A" = 1 ] || [ ! -r "$1" ] || [ ! -w "$1" ] || return
	_W=$1
	trap 'L; exit 1' HUP INT TERM
	chmod "u+${V#u-}" "$1"
}
# The mode as it was, but for what writing has cleared of it.
L() {
	chmod "$V" "$_W"
	_W=''
	trap - HUP INT TERM
}
# Can the target be opened for writing?  Sets e when not.  (True, since a
# failed redirection of ":" would end the shell.)
W() {
	[ -z "$V" ] || Ld "$1"
	true >>"$1" || {
		To "$( { : >>"$1"; } 2>&1)"
		return 1
	}
}
# Make the empty hidden file, with the mode $1 if the umask can.
Yo() {
	# Decimal, but no digit borrows from the next.
	case $1 in
	006[0246][0246]) umask $((1777 - 1${1#00})) ;;
	esac
	if true >"$g"; then
		umask 077
	else
		umask 077
		To "$( { : >"$g"; } 2>&1)"
		return 1
	fi
}
# Print the bytes of form $1 and data $2.
u() {
	case $1 in
	z) printf %s "$2" | a | gzip -dc ;;
	r) printf %s "$2" | a ;;
	*) printf %s "$2" ;;
	esac
}
# Form $1, data $2, size $3, sum $4, mode $5 if that matters: stage it.
Y() {
	Yo "$5" || return
	_s=$3
	[ "$_s" != 0 ] || [ -s "$g" ] || return 0
	u "$1" "$2" >"$g"
	# The sum says that the length is right, too.
	Hs "$4" "$g" || {
		# Once more, to hear the reason.
		o=$( { u "$1" "$2" | cat >"$g"; } 2>&1)
		rm -f "$g"
		if O "$3"; then
			To "$o"
		else
			e=ENOSPC
		fi
		return 1
	}
}
# The staged bytes into a file that is there.
Ic() {
	if [ -n "$_h" ]; then
		Ih "$1" && N "$G" "$(i "$1")"
	else
		o=$(cat "$g" 2>&1 >"$1") || return
		# What may be written but not read is checked by its length.
		if [ -r "$1" ]; then
			Q "$g" "$1"
		else
			[ "$(stat -c %s "$1")" = "$_s" ]
		fi
	fi
}
# The same, of _n bytes, with holes around the parts _l.
Ih() {
	_f=$1
	# shellcheck disable=SC2086 # offsets and lengths
	set -- $_l
	o=$({ : >"$_f"; } 2>&1) || return
	o=$(dd of="$_f" bs=1 seek="$_n" count=0 2>&1) || return
	while [ $# -gt 1 ]; do
		o=$(dd if="$g" of="$_f" bs=65536 skip="$1" count="$2" \
		    seek="$1" iflag=skip_bytes,count_bytes \
		    oflag=seek_bytes conv=notrunc 2>&1) || return
		shift 2
	done
}
# The staged file's bytes, _s of them, into the existing target, which takes _b.
Ip() {
	W "$1" || return
	case $g in
	"${1%/*}"/*) ;;
	*) _b=0 ;; # there is no way out, below: look
	esac
	if [ "$_s" -gt "$_b" ]; then
		o=$(stat -c %b "$1")
		O $((_s - ${o:-0} * 512)) || {
			e=ENOSPC
			return
		}
	fi
	Ic "$1" && return
	T "$o"
	# Not half of it: the whole file, if it lies beside.  (If not, because
	# the directory can't be written, the staged file is on another disk
	# maybe, and the space was checked.)
	case $g in
	"${1%/*}"/*)
		chown "$(stat -c %u:%g "$1")" "$g"
		chmod "$(stat -c %a "$1")" "$g" && mv -fT "$g" "$1" && {
			e=OK
			w=$((w | 2))
		} ;;
	esac
}
# The staged file becomes the target, which does not exist: path, how, mode,
# token.  1: now it does exist.
Iq() {
	# Of a new file it may be right already.
	o=$(stat -c '%a %d:%i' "$g")
	_v=1
	[ $((0${o%% *})) -eq $((0$3)) ] || chmod "$3" "$g" || _v=''
	# So that a repeat knows this file from one of somebody else.
	Nh "$2" && N "$4" "${o#* }"
	case $g in
	"${1%/*}"/*) m ln -T "$g" "$1" && _y=$_v && return ;;
	esac
	x "$1" && return 1
	# No hard links here, or the directory can't be written: then this
	# says why.  Exclusive, too, by -C.
	e=OK
	o=$( (set -C; : >"$1") 2>&1) || {
		x "$1" && return 1
		To "$o"
		return 0
	}
	Nh "$2" && N "$4" "$(i "$1")"
	Ic "$1" && chmod "$3" "$1" && return
	rm -f "$1"
	e=ENOSPC
	! O "$_s" || e=EIO
}
# Put the staged file in place: path, how, mode, token.  _y: its mode is set.
In() {
	G=$4
	if ! x "$1"; then
		if [ "$2" = m ]; then
			E "$1"
			return
		fi
		Iq "$1" "$2" "${3:-00600}" "$4" && return
		e=OK
	fi
	if [ "$2" = x ]; then
		Ev "$4" "$1" || e=EEXIST
	elif [ -L "$1" ]; then
		e=ESTALE
	elif [ -d "$1" ]; then
		e=EISDIR
	elif [ ! -f "$1" ]; then
		e=EINVAL
	else
		Ip "$1"
	fi
}
# Does only evidence tell that it was us?  How.
Nh() { [ "$1" = x ] || [ -n "$_h" ]; }
# Has the target these bytes already, and is it the one to have them?  Path,
# how, token, size, sum.
B() {
	[ -z "$V" ] || Ld "$1"
	{ ! Nh "$2" || Ev "$3" "$1"; } && [ ! -L "$1" ] && V "$4" "$5" "$1"
}
# The rest of Wr and Ct.  When another run of the same was faster, something
# may have failed here, but the result counts.
Fn() {
	[ "$e" = OK ] || ! B "$1" "$2" "$4" "$5" "$6" || e=OK
	[ -z "$_W" ] || L
	[ "$e" = OK ] || return
	# The owner first: it clears setuid.
	[ -z "$9" ] || m chown -h "$9" "$1" || return
	[ -z "$3" ] || { [ -n "$_y" ] && [ -z "$9" ]; } || m chmod "$3" "$1" ||
	    return
	[ "$7$8" = omitomit ] || Ut "$1" "$7" "$8"
}
Wr() {
	j "$1" "$4"
	g=$g.$$ _y='' _h='' _b=${10}
	if [ "$A" = 0 ] || ! B "$1" "$2" "$4" "$5" "$6"; then
		if [ "$2" = x ] && x "$1"; then
			e=EEXIST
		else
			Y "${11}" "${12}" "$5" "$6" "$3" &&
			    In "$1" "$2" "$3" "$4"
		fi
	fi
	rr "$g"
	Fn "$@"
}
