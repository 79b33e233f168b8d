#include <sys/stat.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sha2.h>
#include <zlib.h>

#include "base/base64.h"
#include "script/listing.h"
#include "script/script.h"
#include "script/command.h"
#include "script/record.h"
#include "script/toolkit.h"
#include "script/vm_scripts.h"

/* The files of vm/ that a change needs besides change.sh. */
enum {
	NEEDS_NAME = 1,
	NEEDS_ATTR = 2,
	NEEDS_WRITE = 4,
	NEEDS_RANGE = 8,
	NEEDS_PIECE = 16,
	NEEDS_EVIDENCE = 32,
	NEEDS_COMMIT = 64,
	NEEDS_SOCKET = 128
};

static const struct {
	const char *function;
	unsigned needs;
	bool to, token;
} ops[] = {[SCRIPT_MKDIR] = {"make_directory", NEEDS_NAME, false, false},
    [SCRIPT_RMDIR] = {"remove_directory", NEEDS_NAME, false, false},
    [SCRIPT_UNLINK] = {"unlink_path", NEEDS_NAME, false, false},
    [SCRIPT_RENAME] = {"move_path", NEEDS_NAME, true, false},
    [SCRIPT_SYMLINK] = {"make_symlink", NEEDS_NAME, false, false},
    [SCRIPT_LINK] = {"make_link", NEEDS_NAME, true, false},
    [SCRIPT_MKNOD] = {"make_node", NEEDS_NAME, false, false},
    [SCRIPT_CHMOD] = {"set_mode", NEEDS_ATTR, false, false},
    [SCRIPT_CHOWN] = {"set_owner", NEEDS_ATTR, false, false},
    [SCRIPT_UTIMENS] = {"set_times", NEEDS_ATTR, false, false},
    [SCRIPT_TRUNCATE] = {"set_size", NEEDS_ATTR, false, false},
    [SCRIPT_CREATE] = {"create_file", NEEDS_WRITE | NEEDS_COMMIT, false, true},
    [SCRIPT_WRITE] = {"write_file", NEEDS_WRITE, false, true},
    [SCRIPT_RANGES] = {"change_ranges", NEEDS_WRITE | NEEDS_RANGE | NEEDS_ATTR,
	false, true},
    [SCRIPT_SPREAD] = {"spread_staged", NEEDS_WRITE | NEEDS_RANGE | NEEDS_ATTR,
	false, true},
    [SCRIPT_APPEND] = {"append_data", NEEDS_WRITE | NEEDS_RANGE, false, true},
    [SCRIPT_PIECE] = {"stage_piece", NEEDS_PIECE, false, true},
    [SCRIPT_COMMIT] = {"commit_file", NEEDS_WRITE | NEEDS_COMMIT, false, true},
    [SCRIPT_ABORT] = {"drop_staged", NEEDS_PIECE, false, true},
    [SCRIPT_COPY] = {"copy_range", NEEDS_WRITE | NEEDS_RANGE, true, false},
    [SCRIPT_LOOK] = {":", 0, false, false},
    [SCRIPT_CLEAN] = {
	"clean_directory", NEEDS_EVIDENCE | NEEDS_COMMIT, false, false}};

bool
script_has_two_paths(enum script_change_op op)
{
	return ops[op].to;
}

void
script_sha256(const void *data, size_t len, char out[65])
{
	SHA2_CTX ctx;

	SHA256Init(&ctx);
	SHA256Update(&ctx, data, len);
	SHA256End(&ctx, out);
}

static bool
is_hex(const char *text, size_t min, size_t max)
{
	size_t len;

	if (text == NULL)
		return false;
	len = strlen(text);
	return len >= min && len <= max &&
	    strspn(text, "0123456789abcdef") == len;
}

/* One that needs no quotes. */
static bool
is_plain_name(const char *name)
{
	return *name != '\0' &&
	    name[strspn(name, ".-0123456789abcdefghijklmnopqrstuvwxyz")] ==
	    '\0';
}

static unsigned
change_needs(const struct script_change *ch)
{
	unsigned needs = ops[ch->op].needs;

	if ((ch->op == SCRIPT_WRITE || ch->op == SCRIPT_COMMIT) &&
	    ch->set_times)
		needs |= NEEDS_ATTR;
	if (ch->op == SCRIPT_MKNOD && S_ISSOCK(ch->mode))
		needs |= NEEDS_SOCKET;
	if (ch->forget != NULL)
		needs |= NEEDS_EVIDENCE;
	if (needs & NEEDS_WRITE)
		needs |= NEEDS_PIECE | NEEDS_EVIDENCE;
	return needs;
}

static bool
change_valid(const struct script_change *ch)
{
	size_t i;
	uint64_t total = 0;

	if ((size_t)ch->op >= sizeof(ops) / sizeof(ops[0]) ||
	    ch->path == NULL || ch->path[0] != '/' ||
	    ((ops[ch->op].to || ch->op == SCRIPT_SYMLINK) && ch->to == NULL) ||
	    (ops[ch->op].token && !is_hex(ch->token, 8, 64)) ||
	    (ch->forget != NULL && !is_hex(ch->forget, 8, 64)) ||
	    (ch->keep != NULL && !is_plain_name(ch->keep)) ||
	    (ch->sha256 != NULL && !is_hex(ch->sha256, 64, 64)) ||
	    (ch->op == SCRIPT_COMMIT && ch->staged == SCRIPT_SUMMED &&
		ch->sha256 == NULL) ||
	    (ch->op == SCRIPT_SPREAD && ch->sha256 == NULL))
		return false;
	if (ch->op != SCRIPT_RANGES && ch->op != SCRIPT_SPREAD)
		return true;
	for (i = 0; i < ch->nranges; i++)
		if (ch->ranges[i].len > ch->data_len - total)
			return false;
		else
			total += ch->ranges[i].len;
	return total == ch->data_len && ch->expect != NULL;
}

/*
 * Finding out in full what a picture or an archive does not yield takes more
 * time than sending it, so of larger ones slices are tried.
 */
bool
script_may_compress(const char *data, size_t len)
{
	enum { SLICES = 16, SLICE = 256 };
	Bytef sample[SLICES * SLICE], packed[SLICES * SLICE + 64];
	uLongf size = sizeof(packed);
	size_t i;

	if (len < 4 * sizeof(sample))
		return true;
	for (i = 0; i < SLICES; i++)
		memcpy(sample + i * SLICE,
		    data + i * (len - SLICE) / (SLICES - 1), SLICE);
	return compress2(packed, &size, sample, sizeof(sample), 1) != Z_OK ||
	    size < sizeof(sample) - sizeof(sample) / 32;
}

/*
 * What goes as it is: with the programs it still fits into the first packets of
 * a connection.
 */
enum { SMALL = 4096, SMALL_TEXT = 6144 };

/* May it stand in a command just so, and is no longer then than in base64? */
static bool
is_small_text(const char *data, size_t len)
{
	size_t i, quoted = len;

	if (len > SMALL_TEXT)
		return false;
	for (i = 0; i < len; i++) {
		if ((data[i] < ' ' && data[i] != '\n' && data[i] != '\t') ||
		    data[i] > '~')
			return false;
		quoted += data[i] == '\'' ? 3 : 0;
	}
	return quoted <= (len + 2) / 3 * 4;
}

/* gzip if it gets smaller: malloc'ed, or NULL. */
static unsigned char *
compress_data(const void *data, size_t len, size_t *out_len)
{
	z_stream z = {
	    .next_in = (unsigned char *)(uintptr_t)data, .avail_in = len};
	unsigned char *out = NULL;

	/* One more process there costs more than these bytes. */
	if (len <= SMALL || len > UINT_MAX || !script_may_compress(data, len) ||
	    (out = malloc(len)) == NULL)
		return NULL;
	if (deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) !=
	    Z_OK)
		goto fail;
	z.next_out = out;
	z.avail_out = len - 1;
	if (deflate(&z, Z_FINISH) != Z_STREAM_END) {
		deflateEnd(&z);
		goto fail;
	}
	*out_len = len - 1 - z.avail_out;
	deflateEnd(&z);
	return out;
fail:
	free(out);
	return NULL;
}

/* " SIZE SUM" */
static void
add_sum(struct command *c, const struct script_change *ch)
{
	char sum[65] = "-";

	if (ch->staged != SCRIPT_SUMMED) {
		command_addf(c, " %" PRIu64 " %c", ch->size,
		    ch->staged == SCRIPT_HOLE ? '+' : '-');
		return;
	}
	if (ch->sha256 == NULL && (ch->op != SCRIPT_PIECE || ch->verify))
		script_sha256(ch->data, ch->data_len, sum);
	command_addf(c, " %" PRIu64 " %s",
	    ch->op == SCRIPT_COMMIT ? ch->size : ch->data_len,
	    ch->sha256 == NULL ? sum : ch->sha256);
}

/* FORM, what is between, and DATA. */
static void
add_form_and_data(
    struct command *c, const struct script_change *ch, const char *between)
{
	unsigned char *packed = NULL;
	const char *form;
	char *text;
	size_t len;

	if (ch->op != SCRIPT_PIECE && is_small_text(ch->data, ch->data_len)) {
		form = "t";
		text = strndup(ch->data, ch->data_len);
	} else if ((packed = compress_data(ch->data, ch->data_len, &len)) !=
	    NULL) {
		form = "z";
		text = base64_encode(packed, len, &len);
	} else {
		form = "r";
		text = base64_encode(ch->data, ch->data_len, &len);
	}
	if (text == NULL) {
		command_fail(c, ENOMEM);
		goto out;
	}
	command_add(c, form);
	command_add(c, between);
	command_add_quoted(c, text);
out:
	free(packed);
	free(text);
}

/* " FORM DATA" */
static void
add_data(struct command *c, const struct script_change *ch)
{
	command_add(c, " ");
	add_form_and_data(c, ch, " ");
}

/* As touch -d @ wants it: -1.5 is one and a half seconds before 1970. */
static void
add_time(struct command *c, int64_t ns)
{
	long fraction;
	int64_t sec = attr_time_split(ns, &fraction);

	if (ns < 0 && fraction > 0) {
		sec++;
		fraction = 1000000000 - fraction;
	}
	if (ns == SCRIPT_TIME_OMIT)
		command_add(c, " omit");
	else if (ns == SCRIPT_TIME_NOW)
		command_add(c, " now");
	else
		command_addf(c, " %s%" PRId64 ".%09ld", ns < 0 ? "-" : "",
		    sec < 0 ? -sec : sec, fraction);
}

/* " UID:GID", " UID", " :GID" */
static void
add_owner(struct command *c, const struct script_change *ch)
{
	bool uid = ch->uid != UINT32_MAX, gid = ch->gid != UINT32_MAX;

	command_add(c, " ");
	if (uid)
		command_addf(c, "%" PRIu32, ch->uid);
	if (gid)
		command_addf(c, ":%" PRIu32, ch->gid);
	if (!uid && !gid)
		command_add(c, ":");
}

/* " UID:GID" for something new. */
static void
add_new_owner(struct command *c, const struct script_change *ch)
{
	if (ch->set_owner && (ch->uid != UINT32_MAX || ch->gid != UINT32_MAX))
		add_owner(c, ch);
	else
		command_add(c, " ''");
}

/* " ATIME MTIME OWNER SPACE" of WRITE and COMMIT. */
static void
add_attributes(struct command *c, const struct script_change *ch)
{
	add_time(c, ch->set_times ? ch->atime : SCRIPT_TIME_OMIT);
	add_time(c, ch->set_times ? ch->mtime : SCRIPT_TIME_OMIT);
	add_new_owner(c, ch);
	command_addf(c, " %" PRIu64, ch->space);
}

/* " HOW MODE TOKEN" */
static void
add_how(struct command *c, const struct script_change *ch)
{
	command_addf(c, " %c ", "mcx"[ch->how]);
	if (ch->mode == UINT32_MAX)
		command_add(c, "''");
	else
		command_addf(c, "%05" PRIo32, ch->mode & 07777);
	command_addf(c, " %s", ch->token);
}

/* " KEEP" */
static void
add_keep(struct command *c, const struct script_change *ch)
{
	command_addf(c, " %s", ch->keep != NULL ? ch->keep : "''");
}

/* " UMASK MODE": MODE only when the umask can't say all. */
static void
add_umask(struct command *c, uint32_t mode, uint32_t most)
{
	command_addf(c, " %03" PRIo32, ~mode & 0777);
	if ((mode & 07777 & ~most) != 0)
		command_addf(c, " %05" PRIo32, mode & 07777);
	else
		command_add(c, " ''");
}

/* "INO SIZE MTIME" as find -printf or stat -c print it (vm/range.sh). */
static void
add_expected(struct command *c, enum script_tools tools, const struct attr *a)
{
	long ns;
	time_t sec = attr_time_split(a->mtime, &ns);
	struct tm tm;
	char date[64];

	command_addf(c, " '%" PRIu64 " %" PRIu64 " ", a->ino, a->size);
	if (a->mtime >= ATTR_TIME_NS || a->mtime < -ATTR_TIME_NS)
		/* The fraction is not known; a beginning will do. */
		command_add(c, "'");
	else if (tools == SCRIPT_TOOLS_GNU)
		command_addf(c, "%" PRId64 ".%09ld0'", (int64_t)sec, ns);
	else if (gmtime_r(&sec, &tm) == NULL ||
	    strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm) == 0)
		command_fail(c, ENAMETOOLONG);
	else
		command_addf(c, "%s.%09ld +0000'", date, ns);
}

static void
add_arguments(
    struct command *c, enum script_tools tools, const struct script_change *ch)
{
	size_t i;

	switch (ch->op) {
	case SCRIPT_RMDIR:
	case SCRIPT_LINK:
	case SCRIPT_LOOK:
	case SCRIPT_CLEAN:
		break;
	case SCRIPT_UNLINK:
		add_keep(c, ch);
		break;
	case SCRIPT_SYMLINK:
		command_add(c, " ");
		command_add_quoted(c, ch->to);
		add_new_owner(c, ch);
		break;
	case SCRIPT_MKDIR:
		/* Of the special bits mkdir(2) knows only the sticky one; what
		 * the directory inherits stays. */
		command_addf(c, " %03" PRIo32 " %s", ~ch->mode & 0777,
		    ch->mode & 01000 ? "+t" : "''");
		add_new_owner(c, ch);
		break;
	case SCRIPT_RENAME:
		command_addf(
		    c, " %" PRIu64 " %s", ch->ino, ch->noreplace ? "n" : "''");
		add_keep(c, ch);
		break;
	case SCRIPT_MKNOD:
		add_umask(c, ch->mode & 0777, S_ISSOCK(ch->mode) ? 0777 : 0666);
		if (S_ISFIFO(ch->mode))
			command_add(c, " p '' ''");
		else if (S_ISSOCK(ch->mode))
			command_add(c, " s '' ''");
		else if (S_ISCHR(ch->mode) || S_ISBLK(ch->mode))
			command_addf(c, " %c %" PRIu32 " %" PRIu32,
			    S_ISCHR(ch->mode) ? 'c' : 'b', ch->major,
			    ch->minor);
		else
			command_fail(c, ENAMETOOLONG);
		add_new_owner(c, ch);
		break;
	case SCRIPT_CHMOD:
		command_addf(c, " %05" PRIo32, ch->mode & 07777);
		break;
	case SCRIPT_CHOWN:
		add_owner(c, ch);
		break;
	case SCRIPT_UTIMENS:
		add_time(c, ch->atime);
		add_time(c, ch->mtime);
		break;
	case SCRIPT_TRUNCATE:
		command_addf(c, " %" PRIu64, ch->size);
		break;
	case SCRIPT_CREATE:
		add_how(c, ch);
		add_new_owner(c, ch);
		break;
	case SCRIPT_WRITE:
		add_how(c, ch);
		add_sum(c, ch);
		add_attributes(c, ch);
		add_data(c, ch);
		break;
	case SCRIPT_RANGES:
		add_expected(c, tools, ch->expect);
		command_addf(c, " %" PRIu64 " %s", ch->size, ch->token);
		add_sum(c, ch);
		add_data(c, ch);
		for (i = 0; i < ch->nranges; i++)
			command_addf(c, " %" PRIu64 " %" PRIu64,
			    ch->ranges[i].offset, ch->ranges[i].len);
		break;
	case SCRIPT_SPREAD:
		add_expected(c, tools, ch->expect);
		command_addf(c, " %" PRIu64 " %s %zu %s", ch->size, ch->token,
		    ch->data_len, ch->sha256);
		for (i = 0; i < ch->nranges; i++)
			command_addf(c, " %" PRIu64 " %" PRIu64,
			    ch->ranges[i].offset, ch->ranges[i].len);
		break;
	case SCRIPT_APPEND:
		command_addf(c, " %" PRIu64 " %s", ch->size, ch->token);
		add_sum(c, ch);
		add_data(c, ch);
		break;
	case SCRIPT_PIECE:
		command_addf(c, " %s %" PRIu64, ch->token, ch->offset);
		add_sum(c, ch);
		break;
	case SCRIPT_COMMIT:
		add_how(c, ch);
		add_sum(c, ch);
		add_attributes(c, ch);
		for (i = 0; i < ch->nranges; i++)
			command_addf(c, "%s%" PRIu64 " %" PRIu64,
			    i == 0 ? " '" : " ", ch->ranges[i].offset,
			    ch->ranges[i].len);
		command_add(c, i == 0 ? "" : "'");
		break;
	case SCRIPT_ABORT:
		command_addf(c, " %s", ch->token);
		break;
	case SCRIPT_COPY:
		command_addf(c, " %" PRIu64 " %" PRIu64 " %" PRIu64, ch->offset,
		    ch->to_offset, ch->size);
		break;
	}
}

char *
script_compose_changes(enum script_tools tools, const char *nonce,
    const struct script_change *changes, size_t n, size_t *len)
{
	struct command c;
	unsigned needs = 0;
	size_t i;
	uint32_t lend = 0;
	int again = 0;
	bool forget = false;

	command_start(&c, nonce);
	for (i = 0; i < n; i++)
		if (change_valid(&changes[i]))
			needs |= change_needs(&changes[i]);
		else
			command_fail(&c, ENAMETOOLONG);
	if (tools == SCRIPT_TOOLS_UNKNOWN)
		command_fail(&c, ENAMETOOLONG);
	command_add_records(&c, tools);
	command_add(&c, vm_change);
	if (needs & NEEDS_NAME)
		command_add(&c, vm_name);
	if (needs & NEEDS_SOCKET)
		command_add(&c, vm_socket);
	if (needs & NEEDS_ATTR)
		command_add(&c, vm_attr);
	if (needs & NEEDS_PIECE)
		command_add(&c, vm_piece);
	if (needs & NEEDS_EVIDENCE)
		command_add(&c, vm_evidence);
	if (needs & NEEDS_WRITE)
		command_add(&c, vm_write);
	if (needs & NEEDS_COMMIT)
		command_add(&c, vm_commit);
	if (needs & NEEDS_RANGE)
		command_add(&c, vm_range);
	command_add(&c, "calls() {\n:\n");
	for (i = 0; i < n && c.text != NULL; i++) {
		const struct script_change *ch = &changes[i];

		if (ch->forget != NULL) {
			command_addf(&c, "forget %s\n", ch->forget);
			forget = true;
		}
		if (!ch->again != !again)
			command_addf(&c, "again=%d\n", again = ch->again != 0);
		if (ch->lend != lend) {
			lend = ch->lend;
			command_addf(&c, "lent_right=%s%s%s\n",
			    lend != 0 ? "u-" : "", lend & 0400 ? "r" : "",
			    lend & 0200 ? "w" : "");
		}
		if (ch->op == SCRIPT_PIECE) {
			command_add(&c, "data_form=");
			add_form_and_data(&c, ch, " piece_data=");
			command_add(&c, "\n");
		}
		command_open_deep(&c, 8, ch->path);
		if (ops[ch->op].to)
			command_open_deep(&c, 9, ch->to);
		if (ch->chained && i > 0)
			command_add(&c, "[ $error != OK ] || ");
		command_addf(&c, "change %zu %s ", i, ops[ch->op].function);
		command_add_path(&c, 8, ch->path);
		if (ops[ch->op].to) {
			command_add(&c, " ");
			command_add_path(&c, 9, ch->to);
		}
		add_arguments(&c, tools, ch);
		command_add(&c, "\n");
	}
	command_addf(
	    &c, "%s}\nanswer_plain %s\n", forget ? "forget_now\n" : "", nonce);
	return command_end(&c, len);
}

size_t
script_data_max(enum script_tools tools, const struct script_change *ch,
    bool toolkit, size_t command_max)
{
	struct script_change empty = *ch;
	size_t len;
	char *text;

	empty.data = "";
	empty.data_len = 0;
	empty.nranges = 0;
	text =
	    script_compose_changes(tools, "0123456789abcdef", &empty, 1, &len);
	if (text == NULL)
		return 0;
	if (toolkit)
		len -= script_programs_size(text) - SCRIPT_LOAD_MAX;
	free(text);
	/* The nonce (64 at most) stands there thrice, numbers get longer. */
	len += 3 * 64 + 32 + ch->nranges * 42;
	return len > command_max ? 0 : (command_max - len) / 4 * 3;
}
