#include <stdlib.h>
#include <string.h>

#include "tree/node_impl.h"

#define SUFFIX ".json"

bool
control_name_parse(
    const char *control, const char *name, struct control_name *out)
{
	static const char id_chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				       "abcdefghijklmnopqrstuvwxyz"
				       "0123456789._-";
	size_t len, n = control == NULL ? 0 : strlen(control);

	*out = (struct control_name){.json = false};
	if (control == NULL || strncmp(name, control, n) != 0)
		return false;
	name += n;
	len = strlen(name);
	if (len >= strlen(SUFFIX) &&
	    strcmp(name + len - strlen(SUFFIX), SUFFIX) == 0) {
		out->json = true;
		len -= strlen(SUFFIX);
	}
	if (len == 0)
		return true;
	if (*name != '@' || len < 2 || len - 1 > CONTROL_ID_MAX ||
	    strspn(name + 1, id_chars) < len - 1)
		return false;
	memcpy(out->id, name + 1, len - 1);
	return true;
}

static struct control_file *
find(struct tree *t, const struct node *n)
{
	struct node *dir = tree_control_dir(t, n);
	struct control_file *c = NULL;

	if (dir != NULL)
		SLIST_FOREACH (c, &dir->dir->controls, next)
			if (c->node == n)
				break;
	return c;
}

struct node *
tree_control(struct tree *t, struct node *dir, const struct control_name *name)
{
	struct attr attr = {.mode = S_IFREG | 0600, .nlink = 1};
	struct control_file *c;
	size_t len = strlen(name->id) + 1;

	SLIST_FOREACH (c, &dir->dir->controls, next)
		if (c->node->json == name->json && strcmp(c->id, name->id) == 0)
			return c->node;
	attr.ino = dir->id; /* the directory it acts in */
	if ((c = malloc(sizeof *c + len)) == NULL)
		return NULL;
	if ((c->node = node_new(t, &attr, NULL)) == NULL) {
		free(c);
		return NULL;
	}
	memcpy(c->id, name->id, len);
	c->node->control = true;
	c->node->json = name->json;
	SLIST_INSERT_HEAD(&dir->dir->controls, c, next);
	return c->node;
}

struct node *
tree_control_dir(struct tree *t, const struct node *control)
{
	return tree_get(t, control->attr.ino);
}

const char *
tree_control_id(struct tree *t, const struct node *control)
{
	struct control_file *c = find(t, control);

	return c == NULL ? "" : c->id;
}

void
tree_control_drop(struct tree *t, struct node *control)
{
	struct node *dir = tree_control_dir(t, control);
	struct control_file *c = find(t, control);

	if (c == NULL)
		return;
	SLIST_REMOVE(&dir->dir->controls, c, control_file, next);
	free(c);
}

void
tree_control_free(struct dir *dir)
{
	struct control_file *c;

	while ((c = SLIST_FIRST(&dir->controls)) != NULL) {
		SLIST_REMOVE_HEAD(&dir->controls, next);
		free(c);
	}
}
