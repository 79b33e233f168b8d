#include <stdlib.h>
#include <sys/stat.h>

#include "tree/node_impl.h"

/* Files with several names are one node, found by device and inode. */
struct link {
	RB_ENTRY(link) by_ino;
	uint64_t dev, ino;
	struct node *node;
};

static int
link_compare(const struct link *a, const struct link *b)
{
	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	if (a->dev != b->dev)
		return a->dev < b->dev ? -1 : 1;
	return 0;
}

RB_GENERATE_LOCAL(links, link, by_ino, link_compare)

static struct link *
link_find(struct tree *t, const struct attr *a)
{
	struct link key = {.dev = a->dev, .ino = a->ino};

	return RB_FIND(links, &t->links, &key);
}

void
node_index(struct tree *t, struct node *n)
{
	struct link *l;

	/* How a symlink reads depends on where it is: each name is a node. */
	if (n->linked || S_ISDIR(n->attr.mode) || S_ISLNK(n->attr.mode) ||
	    n->attr.nlink < 2 || n->control)
		return;
	/* Without memory its names are files of their own. */
	if ((l = malloc(sizeof *l)) == NULL)
		return;
	*l = (struct link){.dev = n->attr.dev, .ino = n->attr.ino, .node = n};
	n->linked = RB_INSERT(links, &t->links, l) == NULL;
	if (!n->linked)
		free(l);
}

void
node_unlink_index(struct tree *t, struct node *n)
{
	struct link *l;

	if (n->linked && (l = link_find(t, &n->attr)) != NULL) {
		RB_REMOVE(links, &t->links, l);
		free(l);
	}
	n->linked = false;
}

struct node *
tree_find_linked(struct tree *t, const struct attr *a)
{
	struct link *l;

	if (S_ISDIR(a->mode) || a->nlink < 2 || (l = link_find(t, a)) == NULL)
		return NULL;
	/* A reused inode number is no link. */
	return (l->node->attr.mode ^ a->mode) & S_IFMT ? NULL : l->node;
}
