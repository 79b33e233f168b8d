#include <errno.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json_text.h"
#include "cli/recovered.h"

static int
compare(const void *a, const void *b)
{
	const struct recovered_file *x = a, *y = b;

	return strcmp(x->path, y->path);
}

static int
add(struct recovered *r, const char *path, size_t base, unsigned long long size)
{
	struct recovered_file *more =
	    reallocarray(r->files, r->count + 1, sizeof *more);

	if (more == NULL)
		return -ENOMEM;
	r->files = more;
	more += r->count;
	if ((more->path = strdup(path)) == NULL)
		return -ENOMEM;
	more->base = base;
	more->size = size;
	r->count++;
	return 0;
}

static int
list_folder(struct recovered *r, const char *base)
{
	char *folder = NULL, *paths[2] = {NULL, NULL};
	FTSENT *e;
	FTS *walk;
	int error = 0;

	if (asprintf(&folder, "%s/recovery", base) == -1)
		return -ENOMEM;
	paths[0] = folder;
	if ((walk = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL)) == NULL)
		error = -errno;
	while (error == 0 && (e = fts_read(walk)) != NULL) {
		if (e->fts_info == FTS_F || e->fts_info == FTS_SL)
			error = add(r, e->fts_path, strlen(folder) + 1,
			    (unsigned long long)e->fts_statp->st_size);
		else if ((e->fts_info == FTS_DNR || e->fts_info == FTS_NS) &&
		    e->fts_errno != ENOENT)
			error = -e->fts_errno;
	}
	if (walk != NULL)
		fts_close(walk);
	free(folder);
	return error;
}

int
recovered_list(struct recovered *r, const char *cache_dir)
{
	char elsewhere[64];
	int error;

	snprintf(elsewhere, sizeof elsewhere, "/var/tmp/gentilityfs-%u",
	    (unsigned)geteuid());
	error = list_folder(r, cache_dir);
	if (error == 0 && strcmp(cache_dir, elsewhere) != 0)
		error = list_folder(r, elsewhere);
	if (r->count > 0)
		qsort(r->files, r->count, sizeof *r->files, compare);
	return error;
}

void
recovered_free(struct recovered *r)
{
	for (size_t i = 0; i < r->count; i++)
		free(r->files[i].path);
	free(r->files);
	*r = (struct recovered){0};
}

static void
print_name(FILE *out, const char *name)
{
	for (; *name != '\0'; name++)
		putc((unsigned char)*name < ' ' || *name == 0x7f ? '?' : *name,
		    out);
}

void
recovered_print(FILE *out, const struct recovered *r)
{
	for (size_t i = 0; i < r->count; i++) {
		fprintf(out, "%12llu  ", r->files[i].size);
		print_name(out, r->files[i].path);
		putc('\n', out);
	}
}

void
recovered_print_json(FILE *out, const struct recovered *r)
{
	putc('[', out);
	for (size_t i = 0; i < r->count; i++) {
		fputs(i > 0 ? ",{\"path\":" : "{\"path\":", out);
		json_write_string(out, r->files[i].path);
		fprintf(out, ",\"size\":%llu}", r->files[i].size);
	}
	fputs("]\n", out);
}

size_t
recovered_print_new(
    FILE *out, const struct recovered *before, const struct recovered *after)
{
	size_t i, n = 0;

	for (i = 0; i < after->count; i++) {
		if (before->count > 0 &&
		    bsearch(&after->files[i], before->files, before->count,
			sizeof *before->files, compare) != NULL)
			continue;
		fputs("gentilityfs: not sent, kept here: ", out);
		print_name(out, after->files[i].path);
		putc('\n', out);
		n++;
	}
	return n;
}

int
recovered_forget(const struct recovered *r)
{
	struct recovered_file *f;
	int error = 0;
	char *slash;
	size_t i;

	for (i = 0; i < r->count; i++) {
		f = &r->files[i];
		if (unlink(f->path) == -1 && errno != ENOENT && error == 0)
			error = -errno;
		while ((slash = strrchr(f->path, '/')) != NULL &&
		    slash > f->path + f->base) {
			*slash = '\0';
			if (rmdir(f->path) == -1)
				break;
		}
	}
	return error;
}
