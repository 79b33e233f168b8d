/*
 * MIME types of changed and served files.
 */
#include <string.h>
#include <strings.h>

#include "buf.h"
#include "mime.h"

static const struct {
	const char *ext;
	const char *type;
} mime_table[] = {
    {"txt", "text/plain"},
    {"log", "text/plain"},
    {"md", "text/markdown"},
    {"csv", "text/csv"},
    {"tsv", "text/tab-separated-values"},
    {"html", "text/html"},
    {"htm", "text/html"},
    {"css", "text/css"},
    {"js", "text/javascript"},
    {"mjs", "text/javascript"},
    {"ts", "text/plain"},
    {"c", "text/x-c"},
    {"h", "text/x-c"},
    {"py", "text/x-python"},
    {"sh", "text/x-shellscript"},
    {"json", "application/json"},
    {"xml", "application/xml"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
    {"pdf", "application/pdf"},
    {"zip", "application/zip"},
    {"gz", "application/gzip"},
    {"tgz", "application/gzip"},
    {"bz2", "application/x-bzip2"},
    {"xz", "application/x-xz"},
    {"tar", "application/x-tar"},
    {"bin", "application/octet-stream"},
    {"png", "image/png"},
    {"jpg", "image/jpeg"},
    {"jpeg", "image/jpeg"},
    {"gif", "image/gif"},
    {"svg", "image/svg+xml"},
    {"webp", "image/webp"},
    {"ico", "image/x-icon"},
    {"mp3", "audio/mpeg"},
    {"wav", "audio/wav"},
    {"mp4", "video/mp4"},
    {"webm", "video/webm"},
    {"wasm", "application/wasm"},
};

/* The type that the name promises, or NULL. */
const char *
mime_by_name(const char *path)
{
	const char *base = strrchr(path, '/');
	const char *ext;
	size_t i;

	base = base != NULL ? base + 1 : path;
	ext = strrchr(base, '.');
	if (ext == NULL || ext == base)
		return NULL;
	for (i = 0; i < sizeof(mime_table) / sizeof(mime_table[0]); i++) {
		if (strcasecmp(ext + 1, mime_table[i].ext) == 0)
			return mime_table[i].type;
	}
	return NULL;
}

/* The type of a file that starts so. */
const char *
mime_by_head(const void *head, size_t len)
{
	const unsigned char *p = head;
	size_t n;

	if (len == 0)
		return "inode/x-empty";
	if (memchr(p, 0, len) != NULL)
		return "application/octet-stream";
	while (len > 0) {
		n = utf8_sequence(p, len);
		if (n == 0) {
			/* A head may end in the middle of a character. */
			if (len < 4 && p[0] >= 0xc2 && p[0] <= 0xf4)
				break;
			return "application/octet-stream";
		}
		p += n;
		len -= n;
	}
	return "text/plain";
}
