#include <sys/stat.h>

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "script/listing.h"
#include "script/record.h"

static const struct {
	const char *name;
	int error;
} errnos[] = {{"EACCES", EACCES}, {"EAGAIN", EAGAIN}, {"EBUSY", EBUSY},
    {"EDQUOT", EDQUOT}, {"EEXIST", EEXIST}, {"EFBIG", EFBIG},
    {"EINVAL", EINVAL}, {"EIO", EIO}, {"EISDIR", EISDIR}, {"ELOOP", ELOOP},
    {"EMLINK", EMLINK}, {"ENAMETOOLONG", ENAMETOOLONG}, {"ENODEV", ENODEV},
    {"ENOENT", ENOENT}, {"ENOSPC", ENOSPC}, {"ENOSYS", ENOSYS},
    {"ENOTCONN", ENOTCONN}, {"ENOTDIR", ENOTDIR}, {"ENOTEMPTY", ENOTEMPTY},
    {"ENOTSUP", ENOTSUP}, {"ENXIO", ENXIO}, {"EPERM", EPERM}, {"EROFS", EROFS},
    {"ESTALE", ESTALE}, {"ETIMEDOUT", ETIMEDOUT}, {"ETXTBSY", ETXTBSY},
    {"EXDEV", EXDEV}};

int
listing_errno(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++)
		if (strlen(errnos[i].name) == len &&
		    memcmp(errnos[i].name, name, len) == 0)
			return -errnos[i].error;
	return -EIO;
}

/* Digits of that base, at most max; false when there are none or too much. */
static bool
get_number(struct cursor *c, unsigned base, uint64_t max, uint64_t *out)
{
	const char *start = c->p;
	uint64_t n = 0;
	unsigned digit;
	char ch;

	for (; c->p < c->end; c->p++) {
		ch = *c->p;
		if (ch >= '0' && ch <= '9')
			digit = ch - '0';
		else if (ch >= 'a' && ch <= 'f')
			digit = ch - 'a' + 10;
		else
			break;
		if (digit >= base)
			break;
		if (digit > max || n > (max - digit) / base)
			return false;
		n = n * base + digit;
	}
	*out = n;
	return c->p > start;
}

bool
cursor_get_char(struct cursor *c, char ch)
{
	if (c->p == c->end || *c->p != ch)
		return false;
	c->p++;
	return true;
}

/* A decimal number and the blank after it. */
static bool
get_field(struct cursor *c, uint64_t max, uint64_t *out)
{
	return get_number(c, 10, max, out) && cursor_get_char(c, ' ');
}

static bool
get_field32(struct cursor *c, uint32_t *out)
{
	uint64_t n;

	if (!get_field(c, UINT32_MAX, &n))
		return false;
	*out = n;
	return true;
}

/* Nine digits of a fraction, if there is one; more are skipped. */
static int64_t
get_fraction(struct cursor *c)
{
	int64_t ns = 0;
	int i;

	if (!cursor_get_char(c, '.'))
		return 0;
	for (i = 0; c->p < c->end && isdigit((unsigned char)*c->p); i++) {
		if (i < 9)
			ns = ns * 10 + (*c->p - '0');
		c->p++;
	}
	for (; i < 9; i++)
		ns *= 10;
	return ns;
}

/*
 * find: seconds and a fraction.  The fraction counts upwards for negative
 * times, too: -0.5 s is printed as -1.5.
 */
static bool
get_time_gnu(struct cursor *c, int64_t *out)
{
	bool negative = cursor_get_char(c, '-');
	uint64_t n;

	if (!get_number(c, 10, INT64_MAX, &n))
		return false;
	*out = attr_time(negative ? -(int64_t)n : (int64_t)n, get_fraction(c));
	return true;
}

/* stat: "YYYY-MM-DD HH:MM:SS", maybe a fraction, " +0000". */
static bool
get_time_busybox(struct cursor *c, int64_t *out)
{
	static const char after[] = "-- ::";
	static const uint64_t max[] = {99999999, 12, 31, 23, 59, 60};
	uint64_t n[6];
	struct tm tm = {.tm_isdst = 0};
	bool negative = cursor_get_char(c, '-');
	int64_t ns;
	size_t i;

	for (i = 0; i < 6; i++)
		if (!get_number(c, 10, max[i], &n[i]) ||
		    (i < 5 && !cursor_get_char(c, after[i])))
			return false;
	ns = get_fraction(c);
	for (i = 0; i < 6; i++)
		if (!cursor_get_char(c, " +0000"[i]))
			return false;
	tm.tm_year = (negative ? -(int)n[0] : (int)n[0]) - 1900;
	tm.tm_mon = (int)n[1] - 1;
	tm.tm_mday = n[2];
	tm.tm_hour = n[3];
	tm.tm_min = n[4];
	tm.tm_sec = n[5];
	*out = attr_time(timegm(&tm), ns);
	return true;
}

static bool
get_mode(struct cursor *c, char form, uint32_t *mode)
{
	static const char letters[] = "fdlpcbsU";
	static const uint32_t types[] = {
	    S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFCHR, S_IFBLK, S_IFSOCK, 0};
	const char *letter;
	uint64_t n;

	if (form == 'B') {
		if (!get_number(c, 16, 0xffff, &n))
			return false;
		*mode = n;
		return cursor_get_char(c, ' ');
	}
	if (c->p == c->end || *c->p == '\0' ||
	    (letter = strchr(letters, *c->p)) == NULL)
		return false;
	c->p++;
	if (!cursor_get_char(c, ' ') || !get_number(c, 8, 07777, &n))
		return false;
	*mode = types[letter - letters] | n;
	return cursor_get_char(c, ' ');
}

const char *
listing_parse_attr(
    char form, const char *text, const char *end, struct attr *a, bool *shut)
{
	struct cursor c = {text, end};
	bool (*get_time)(struct cursor *, int64_t *);

	if (form != 'G' && form != 'B')
		return NULL;
	get_time = form == 'G' ? get_time_gnu : get_time_busybox;
	*shut = cursor_get_char(&c, 'u');
	if (!get_mode(&c, form, &a->mode) || !get_field32(&c, &a->nlink) ||
	    !get_field32(&c, &a->uid) || !get_field32(&c, &a->gid) ||
	    !get_field(&c, UINT64_MAX, &a->size) ||
	    !get_field(&c, UINT64_MAX, &a->blocks) ||
	    !get_field(&c, UINT64_MAX, &a->dev) ||
	    !get_field(&c, UINT64_MAX, &a->ino) || !get_time(&c, &a->atime) ||
	    !cursor_get_char(&c, ' ') || !get_time(&c, &a->mtime) ||
	    !cursor_get_char(&c, ' ') || !get_time(&c, &a->ctime))
		return NULL;
	if (c.p < end && *c.p != ' ' && *c.p != '\0' && *c.p != '\n')
		return NULL;
	return c.p;
}

/* Up to the next NUL, which is taken, too. */
bool
cursor_get_text(struct cursor *c, const char **text, size_t *len)
{
	const char *nul;

	if (c->p == c->end || (nul = memchr(c->p, '\0', c->end - c->p)) == NULL)
		return false;
	*text = c->p;
	*len = nul - c->p;
	c->p = nul + 1;
	return true;
}

bool
cursor_get_number(struct cursor *c, uint64_t max, uint64_t *out)
{
	return get_number(c, 10, max, out);
}

/* Is this where a record ends: newline, and a record or the end after it? */
static bool
at_border(const char *p, const char *end)
{
	struct attr attr;
	bool shut;

	if (p == end || *p != '\n')
		return false;
	p++;
	if (p == end)
		return true;
	return end - p > 2 && p[0] == '/' && p[1] == '/' &&
	    listing_parse_attr('B', p + 2, end, &attr, &shut) != NULL;
}

/* The next newline at or after p that is a border, or NULL. */
static const char *
find_border(const char *p, const char *end)
{
	for (; p < end && (p = memchr(p, '\n', end - p)) != NULL; p++)
		if (at_border(p, end))
			return p;
	return NULL;
}

/*
 * The target in what stat's %N printed for a link: NAME -> TARGET, both in
 * quotes of one kind or none.  Its length is known from the link's size, but
 * sizes lie in /proc, and the link may have changed in between: then the
 * first border decides.  Empty when the link could not be read.
 */
static int
get_target(struct cursor *c, struct record *r)
{
	const char *p = c->p, *border;
	size_t quotes, size = r->attr.size;

	r->target = p;
	if (at_border(p, c->end))
		return 0;
	quotes = *p == '\'' || *p == '`';
	p += quotes;
	if ((size_t)(c->end - p) < r->path_len + 4 + 2 * quotes ||
	    memcmp(p, r->path, r->path_len) != 0)
		return -EPROTO;
	p += r->path_len + quotes;
	if (memcmp(p, " -> ", 4) != 0)
		return -EPROTO;
	p += 4 + quotes;
	r->target = p;
	if (size > 0 && size + quotes < (size_t)(c->end - p) &&
	    at_border(p + size + quotes, c->end)) {
		r->target_len = size;
		c->p = p + size + quotes;
		return 0;
	}
	do {
		if ((border = find_border(p, c->end)) == NULL)
			return -EPROTO;
		p = border + 1;
	} while (quotes && (border == r->target || border[-1] != '\''));
	r->target_len = border - r->target - quotes;
	c->p = border;
	return 0;
}

static int
parse_gnu(struct cursor *c, const char *path, struct record *r)
{
	c->p = listing_parse_attr('G', c->p, c->end, &r->attr, &r->shut);
	if (c->p == NULL || !cursor_get_char(c, '\0') ||
	    !cursor_get_text(c, &r->path, &r->path_len) ||
	    !cursor_get_text(c, &r->target, &r->target_len))
		return -EPROTO;
	if (path != NULL &&
	    (r->path_len != strlen(path) ||
		memcmp(r->path, path, r->path_len) != 0))
		return -EPROTO;
	return 0;
}

/* The cursor ends where the records do. */
static int
parse_busybox(struct cursor *c, const char *path, struct record *r)
{
	const char *p, *border;
	bool link;

	if (!cursor_get_char(c, '/') || !cursor_get_char(c, '/') ||
	    (p = listing_parse_attr('B', c->p, c->end, &r->attr, &r->shut)) ==
		NULL)
		return -EPROTO;
	c->p = p;
	if (!cursor_get_char(c, ' '))
		return -EPROTO;
	link = S_ISLNK(r->attr.mode);
	r->path = r->target = c->p;
	r->target_len = 0;
	if (path != NULL)
		r->path_len = strlen(path);
	else {
		/* A link's name ends at "//", any other's at the border. */
		p = link ? memmem(c->p, c->end - c->p, "//", 2)
			 : find_border(c->p, c->end);
		if (p == NULL)
			return -EPROTO;
		r->path_len = p - c->p;
	}
	if (path != NULL || link) {
		if ((size_t)(c->end - c->p) < r->path_len + 2 ||
		    memcmp(c->p + r->path_len, "//", 2) != 0 ||
		    (path != NULL && memcmp(c->p, path, r->path_len) != 0))
			return -EPROTO;
		c->p += r->path_len + 2;
		if (link && get_target(c, r) != 0)
			return -EPROTO;
	}
	if ((border = find_border(c->p, c->end)) == NULL)
		return -EPROTO;
	c->p = border + 1;
	return 0;
}

/* "" or components that are not empty, "." or ".."; finds the last one. */
static bool
path_check(struct record *r)
{
	const char *p = r->path, *end = p + r->path_len, *slash;
	size_t n;

	r->name = 0;
	if (r->path_len == 0)
		return true;
	for (;; p = slash + 1) {
		if ((slash = memchr(p, '/', end - p)) == NULL)
			slash = end;
		n = slash - p;
		if (n == 0 || (n == 1 && p[0] == '.') ||
		    (n == 2 && p[0] == '.' && p[1] == '.') ||
		    memchr(p, '\0', n) != NULL)
			return false;
		r->name = p - r->path;
		if (slash == end)
			return true;
	}
}

int
record_parse(struct cursor *c, char form, const char *path, struct record *r)
{
	int error;

	*r = (struct record){.path = NULL};
	error = form == 'G' ? parse_gnu(c, path, r) : parse_busybox(c, path, r);
	if (error != 0 || path != NULL)
		return error;
	if (form == 'B' && r->path_len == 1 && r->path[0] == '.') {
		r->path_len = 0;
	} else if (r->path_len >= 2 && memcmp(r->path, "./", 2) == 0) {
		r->path += 2;
		r->path_len -= 2;
	} else if (form == 'B') {
		return -EPROTO;
	}
	return path_check(r) ? 0 : -EPROTO;
}

const char *
record_peek_name(const struct cursor *c, char form)
{
	struct cursor copy = *c;
	struct attr attr;
	bool shut;

	if (form == 'B' &&
	    (!cursor_get_char(&copy, '/') || !cursor_get_char(&copy, '/')))
		return NULL;
	copy.p = listing_parse_attr(form, copy.p, copy.end, &attr, &shut);
	if (copy.p == NULL || !cursor_get_char(&copy, form == 'G' ? '\0' : ' '))
		return NULL;
	return copy.p;
}

bool
cursor_records_left(const struct cursor *c, char form)
{
	if (form == 'B')
		return c->p < c->end;
	return c->p < c->end && *c->p != '#';
}

struct cursor
cursor_records(const struct cursor *c, char form)
{
	struct cursor part = *c;
	const char *p;

	if (form != 'B' || part.p == part.end)
		return part;
	/* "#. 0\0" comes right after the last newline. */
	p = memchr(part.p, '\0', part.end - part.p);
	if (p == NULL) {
		part.end = part.p;
		return part;
	}
	if (*part.p == '#')
		part.end = part.p;
	else if ((p = memrchr(part.p, '\n', p - part.p)) != NULL)
		part.end = p + 1;
	return part;
}
