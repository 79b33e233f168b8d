#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "room/room_impl.h"

/*
 * The first contact: one command probes the VM and brings the top of the tree;
 * one more when PATH is relative to a home that isn't known before.
 */

#define ROOM_TOP_BOUND 1500 /* entries that the first command brings */

static void
room_replaced(void *arg, const char *old, const char *now)
{
	struct room *r = arg;

	pthread_mutex_lock(&r->lock);
	r->tools = SCRIPT_TOOLS_UNKNOWN;
	r->toolkit =
	    r->config.leave_nothing ? ROOM_TOOLKIT_NONE : ROOM_TOOLKIT_MISSING;
	r->toolkit_lost = 0;
	r->toolkit_plain = false;
	r->clock = (struct vm_clock){false, 0};
	pthread_mutex_unlock(&r->lock);
	log_warn("the room has a new VM (instance %s, was %s): all that was "
		 "known is dropped",
	    now, old);
	if (r->hooks.replaced != NULL)
		r->hooks.replaced(r->hooks.arg);
}

/* "a//b/./c/" as "/home/a/b/c"; NULL with errno. */
static char *
room_absolute(const char *path, const char *home)
{
	char *out, *to;
	size_t len;

	if (path == NULL || *path == '\0')
		return strdup("/");
	if (strcmp(path, "~") == 0)
		path = "";
	else if (strncmp(path, "~/", 2) == 0)
		path += 2;
	else if (*path == '/')
		home = "";
	if ((out = malloc(strlen(home) + strlen(path) + 3)) == NULL)
		return NULL;
	to = stpcpy(out, home);
	while (to > out && to[-1] == '/')
		to--;
	for (; *path != '\0'; path += len) {
		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (len == 0 || (len == 1 && *path == '.'))
			continue;
		if (len == 2 && strncmp(path, "..", 2) == 0) {
			free(out);
			errno = EINVAL;
			return NULL;
		}
		*to++ = '/';
		memcpy(to, path, len);
		to += len;
	}
	if (to == out)
		*to++ = '/';
	*to = '\0';
	return out;
}

/* Why the first contact failed, and what to do. */
static void
room_explain(
    const struct room_config *c, int error, const char *cause, char detail[512])
{
	const char *colon = *cause != '\0' ? ": " : "";

	switch (error) {
	case -EACCES:
		snprintf(detail, 512,
		    "%s refuses the key%s%.120s; check that it is valid and "
		    "may "
		    "use this profile",
		    c->base_url, colon, cause);
		break;
	case -ENODEV:
		snprintf(detail, 512,
		    "room %s of profile %s has no instance; check the names, "
		    "or use -o create to start one",
		    c->room, c->profile);
		break;
	case -ETIMEDOUT:
		snprintf(detail, 512,
		    "no answer from %s%s%.120s; is the VM still starting? Try "
		    "again, or a longer -o timeout=S",
		    c->base_url, colon, cause);
		break;
	case -EHOSTUNREACH:
	case -ECONNREFUSED:
		snprintf(detail, 512,
		    "cannot reach %s%s%.120s; check the network and -o url=URL",
		    c->base_url, colon, cause);
		break;
	case -ENOMEM:
		snprintf(detail, 512, "out of memory");
		break;
	case -ENOTSUP:
		snprintf(detail, 512,
		    "the VM lacks tools: it needs sh, find, stat and base64 "
		    "(GNU or busybox)");
		break;
	case -EKEYREJECTED:
		snprintf(detail, 512,
		    "%s has a certificate that is not trusted%s%.240s; for a "
		    "private one use -o cacert=FILE",
		    c->base_url, colon, cause);
		break;
	case -EBUSY:
		snprintf(detail, 512,
		    "the VM is still starting, or the service is "
		    "overloaded%s%.120s; try again in a while, or use -o "
		    "create, which waits for a VM that starts",
		    colon, cause);
		break;
	default:
		snprintf(detail, 512,
		    "no usable answer from %s%s%.120s; is it the service's "
		    "address?",
		    c->base_url, colon, *cause ? cause : strerror(-error));
	}
}

/*
 * One command for the start: the probe when the tools are unknown, and one
 * item, whose reply is the caller's.
 */
static int
room_first_command(struct room *r, const struct script_item *item,
    struct reply **reply, char cause[256])
{
	struct api_answer a = {0};
	struct probe probe = {0};
	char nonce[17], *command = NULL, *payload = NULL;
	size_t n = item->path != NULL, len, payload_len, used = 0;
	enum script_tools tools = room_tools(r);
	int error;

	room_nonce(nonce);
	r->first_checked = room_now();
	if (tools == SCRIPT_TOOLS_UNKNOWN)
		command = script_compose_probe(nonce, item, n, &len);
	else
		command = script_compose(tools, nonce, item, n, &len);
	if (command == NULL) {
		error = -errno;
		goto out;
	}
	if ((error = room_command(r,
		 &(struct room_command){.kind = API_META,
		     .tools = tools,
		     .nonce = nonce,
		     .text = command,
		     .len = len},
		 &a)) != 0)
		goto out;
	error = script_unwrap(
	    a.output, a.len, nonce, ROOM_PAYLOAD_MAX, &payload, &payload_len);
	if (error == -EAGAIN)
		error = room_script_staged(
		    r, API_META, command, nonce, a.len, &payload, &payload_len);
	if (error == 0 && tools == SCRIPT_TOOLS_UNKNOWN &&
	    (error = probe_parse(payload, payload_len, &probe, &used)) == 0)
		error = room_adopt_probe(r, &probe, r->first_checked);
	if (error == 0 && n > 0)
		error = listing_parse(
		    payload + used, payload_len - used, item, n, reply);
	if (error == -EPROTO && a.detail[0] == '\0')
		snprintf(a.detail, sizeof a.detail,
		    "its commands print something else");
out:
	if (error == -EIO && a.unready)
		error = -EBUSY;
	snprintf(cause, 256, "%s", a.detail);
	probe_free(&probe);
	api_answer_free(&a);
	free(command);
	free(payload);
	return error;
}

/* Where a symlink at path leads, in the place of path. */
static int
room_follow_root(struct room *r, char **path, char cause[256])
{
	struct script_item item = {.op = SCRIPT_STAT, .path = *path};
	struct reply *reply = NULL;
	char *slash, *next;
	int error;

	if ((error = room_first_command(r, &item, &reply, cause)) != 0)
		return error;
	if ((error = reply[0].error) == 0 && reply[0].entry.target == NULL)
		error = -ENOTDIR;
	if (error == 0) {
		if ((slash = strrchr(*path, '/')) != NULL)
			*slash = '\0';
		next = room_absolute(reply[0].entry.target, *path);
		if (next == NULL)
			error = -errno;
		free(*path);
		*path = next;
	}
	reply_free_all(reply, 1);
	return error;
}

int
room_find_root(struct room *r, char detail[512])
{
	const char *given = r->config.path;
	struct script_item top = {SCRIPT_LIST, NULL, ROOM_TOP_BOUND};
	char cause[256] = "", *path = NULL;
	int error, links;

	if (given == NULL || *given == '/') {
		if ((path = room_absolute(given, "")) == NULL)
			goto bad_path;
	} else {
		error = room_first_command(r, &top, NULL, cause);
		if (error != 0)
			goto no_contact;
		path = room_absolute(given, room_probe(r)->home);
		if (path == NULL)
			goto bad_path;
	}
	for (links = 0;; links++) {
		top.path = path;
		error = room_first_command(r, &top, &r->first, cause);
		if (error != 0)
			goto no_contact;
		if ((error = r->first->error) != -ENOTDIR || links == 16)
			break;
		reply_free_all(r->first, 1);
		r->first = NULL;
		if ((error = room_follow_root(r, &path, cause)) != 0)
			break;
	}
	r->root = path;
	if (error == 0)
		return 0;
	errno = -error;
bad_path:
	error = -errno;
	snprintf(detail, 512,
	    "PATH %s in the VM: %s; give a directory that exists there, "
	    "without \"..\"",
	    given == NULL ? "/" : given, strerror(errno));
	if (r->root == NULL)
		free(path);
	return error;
no_contact:
	room_explain(&r->config, error, cause, detail);
	free(path);
	return error;
}

static char *
copy(const char *s)
{
	return s == NULL ? NULL : strdup(s);
}

int
room_begin(
    struct room **out, const struct room_config *config, char detail[512])
{
	struct api_config ac = {
	    .profile = config->profile,
	    .room = config->room,
	    .base_url = config->base_url,
	    .key = config->key,
	    .cacert = config->cacert,
	    .max_connections = config->max_connections,
	    .stall_ms = config->timeout_ms,
	    .limit_ms = config->timeout_ms,
	    .create = config->create,
	    .replaced = room_replaced,
	};
	struct room *r;
	int error;

	*out = NULL;
	if ((r = calloc(1, sizeof *r)) == NULL)
		return -ENOMEM;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->piece_done, NULL);
	TAILQ_INIT(&r->out);
	r->config = *config;
	r->config.key = NULL;
	r->config.profile = copy(config->profile);
	r->config.room = copy(config->room);
	r->config.base_url = copy(config->base_url);
	r->config.path = copy(config->path);
	r->config.cacert = NULL;
	if (config->leave_nothing)
		r->toolkit = ROOM_TOOLKIT_NONE;
	ac.arg = r;
	snprintf(detail, 512, "cannot start");
	if ((error = stats_open(&r->stats)) == 0) {
		ac.stats = r->stats;
		error = pool_open(&r->pool);
	}
	if (error != 0 || (error = api_open(&r->api, &ac)) != 0)
		room_close(r);
	else
		*out = r;
	return error;
}

int
room_open(struct room **out, const struct room_config *config, char detail[512])
{
	struct room *r;
	int error;

	if ((error = room_begin(&r, config, detail)) != 0)
		return error;
	if ((error = room_find_root(r, detail)) != 0) {
		room_close(r);
		return error;
	}
	*out = r;
	return 0;
}
