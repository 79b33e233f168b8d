#include <stdlib.h>
#include <sys/stat.h>

#include "tree/node_impl.h"

struct times {
	int64_t atime, mtime, ctime;
};

struct shown {
	struct times here, vm; /* each of these, while the VM has that */
	uint64_t ino; /* instead of the VM's; 0: none */
	uint64_t ino_before; /* that the kernel still has; 0: it is as shown */
	bool told; /* the times here were */
	bool ino_told; /* since it is not empty */
};

static struct shown *
node_get_shown(struct node *n)
{
	/* Without memory the VM's are shown. */
	if (n->shown == NULL)
		n->shown = calloc(1, sizeof *n->shown);
	return n->shown;
}

void
node_show_vm(struct node *n)
{
	free(n->shown);
	n->shown = NULL;
}

struct attr
node_shown(const struct node *n)
{
	const struct shown *s = n->shown;
	struct attr a = n->attr;

	/* Unsent changes are in attr itself. */
	if (s == NULL || n->local)
		return a;
	if (a.atime == s->vm.atime)
		a.atime = s->here.atime;
	if (a.mtime == s->vm.mtime)
		a.mtime = s->here.mtime;
	if (a.ctime == s->vm.ctime)
		a.ctime = s->here.ctime;
	return a;
}

void
node_show(struct node *n, const struct attr *was)
{
	const struct attr *a = &n->attr;
	struct shown *s;

	if (was->atime == a->atime && was->mtime == a->mtime &&
	    was->ctime == a->ctime && node_kernel_ino(n) == 0) {
		node_show_vm(n);
		return;
	}
	if ((s = node_get_shown(n)) == NULL)
		return;
	s->vm = (struct times){a->atime, a->mtime, a->ctime};
	s->here = (struct times){was->atime, was->mtime, was->ctime};
}

uint64_t
node_shown_ino(const struct node *n)
{
	return n->shown == NULL ? 0 : n->shown->ino;
}

uint64_t
node_kernel_ino(const struct node *n)
{
	const struct shown *s = n->shown;

	return s == NULL ? 0 : s->ino != 0 ? s->ino : s->ino_before;
}

bool
node_is_shown(const struct node *n)
{
	const struct shown *s = n->shown;

	return s != NULL &&
	    (s->ino != 0 || s->here.mtime != s->vm.mtime ||
		s->here.ctime != s->vm.ctime);
}

void
node_show_ino(struct node *n, uint64_t ino)
{
	struct shown *s = node_get_shown(n);

	if (s != NULL)
		s->ino = ino;
}

void
node_settle_ino(struct node *n)
{
	struct attr was;

	if (n->shown == NULL || n->local || n->shown->ino_told)
		return;
	if (n->shown->ino != 0)
		n->shown->ino_before = n->shown->ino;
	n->shown->ino = 0;
	was = node_shown(n);
	node_show(n, &was);
}

void
node_tell_ino(struct node *n)
{
	struct attr was;

	if (n->shown == NULL || n->shown->ino_before == 0)
		return;
	n->shown->ino_before = 0;
	if (n->local)
		return;
	was = node_shown(n);
	node_show(n, &was);
}

void
node_change_here(struct node *n)
{
	n->seen = false;
	if (n->attr.size == 0 && n->shown != NULL)
		n->shown->ino_told = false;
}

void
node_see(struct node *n)
{
	n->seen = n->seen || n->local;
	if (n->shown != NULL)
		n->shown->told = n->shown->ino_told = true;
}

void
dir_change_here(struct node *dir, int64_t now)
{
	struct attr was = node_shown(dir);

	was.mtime = was.ctime = now;
	node_show(dir, &was);
	if (dir->shown != NULL)
		dir->shown->told = false;
}

bool
dir_was_told(const struct node *dir)
{
	const struct shown *s = dir->shown;

	return s != NULL && s->told && s->vm.mtime == dir->attr.mtime &&
	    s->vm.ctime == dir->attr.ctime;
}
