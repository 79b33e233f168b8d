#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "log.h"
#include "room_impl.h"

/* More than this of one answer, unpacked, is not believed. */
#define ROOM_PAYLOAD_MAX ((size_t)256 * 1024 * 1024)
#define ROOM_TOP_BOUND	 1500 /* entries that the first command brings */

uint64_t
room_now(void)
{
	struct timespec now;

	/* Goes on in suspend: what was known before it is old afterwards. */
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + 1;
}

void
room_nonce(char nonce[17])
{
	uint64_t bits;

	if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
		bits = room_now() * 0x9e3779b97f4a7c15u;
	snprintf(nonce, 17, "%016llx", (unsigned long long)bits);
}

enum script_tools
room_tools(struct room *r)
{
	enum script_tools tools;

	pthread_mutex_lock(&r->lock);
	tools = r->tools;
	pthread_mutex_unlock(&r->lock);
	return tools;
}

int
room_adopt_probe(struct room *r, struct probe *probe)
{
	struct probe_list *p;

	if ((p = malloc(sizeof *p)) == NULL)
		return -ENOMEM;
	p->probe = *probe;
	*probe = (struct probe){0};
	pthread_mutex_lock(&r->lock);
	p->next = r->probes;
	r->probes = p;
	r->tools = p->probe.gnu ? SCRIPT_TOOLS_GNU : SCRIPT_TOOLS_BUSYBOX;
	pthread_mutex_unlock(&r->lock);
	log_info("VM: %s", p->probe.system);
	return 0;
}

const struct probe *
room_probe(struct room *r)
{
	const struct probe *p;

	pthread_mutex_lock(&r->lock);
	p = &r->probes->probe;
	pthread_mutex_unlock(&r->lock);
	return p;
}

bool
room_is_pseudo(struct room *r, uint64_t dev)
{
	const struct probe *p = room_probe(r);
	size_t i;

	for (i = 0; i < p->npseudo; i++)
		if (p->pseudo[i] == dev)
			return true;
	return false;
}

/* A command's output that the room cuts, taken in pieces from a file there. */
static int
room_script_staged(struct room *r, enum api_kind kind, const char *command,
    const char *nonce, size_t cut_at, char **out, size_t *out_len)
{
	struct api_answer a = {0};
	char *stage = NULL, *piece = NULL, *payload = NULL, *all = NULL;
	size_t len, payload_len;
	uint64_t size, at = 0, step;
	int error, tries = 0;

	/* Base64 in a frame must fit where it was cut. */
	step = cut_at > 1024 ? (uint64_t)(cut_at - 512) / 4 * 3 : 512;
	log_info(
	    "the room cuts outputs at %zu bytes: asking in pieces", cut_at);
	if ((stage = script_compose_stage(command, nonce, &len)) == NULL)
		return -ENOMEM;
	if ((error = api_command(r->api, kind, stage, len, &a)) != 0 ||
	    (error = script_unwrap(
		 a.output, a.len, nonce, 4096, &payload, &payload_len)) != 0 ||
	    (error = script_parse_stage(payload, &size)) != 0)
		goto out;
	if (size > ROOM_PAYLOAD_MAX) {
		error = -EFBIG;
		goto out;
	}
	if ((all = malloc(size + 1)) == NULL) {
		error = -ENOMEM;
		goto out;
	}
	while (at < size) {
		free(piece);
		free(payload);
		payload = NULL;
		api_answer_free(&a);
		if (step > size - at)
			step = size - at;
		piece = script_compose_piece(
		    nonce, at, step, at + step == size, &len);
		if (piece == NULL) {
			error = -ENOMEM;
			goto out;
		}
		if ((error = api_command(r->api, kind, piece, len, &a)) != 0)
			goto out;
		error = script_unwrap(
		    a.output, a.len, nonce, step, &payload, &payload_len);
		if (error == -EAGAIN && step > 512 && ++tries < 20) {
			step /= 2;
			continue;
		}
		if (error == 0 && payload_len != step)
			error = -EIO;
		if (error != 0)
			goto out;
		memcpy(all + at, payload, payload_len);
		at += payload_len;
	}
	all[size] = '\0';
	error = script_unwrap(all, size, nonce, ROOM_PAYLOAD_MAX, out, out_len);
out:
	if (error == -EAGAIN || error == -EPROTO)
		error = -EIO;
	api_answer_free(&a);
	free(stage);
	free(piece);
	free(payload);
	free(all);
	return error;
}

int
room_script(struct room *r, enum api_kind kind, const char *command, size_t len,
    const char *nonce, size_t max, char **payload, size_t *payload_len)
{
	struct api_answer a;
	int error, tries;

	for (tries = 0;; tries++) {
		if ((error = api_command(r->api, kind, command, len, &a)) != 0)
			break;
		error = script_unwrap(
		    a.output, a.len, nonce, max, payload, payload_len);
		if (error == -EAGAIN) {
			error = room_script_staged(r, kind, command, nonce,
			    a.len, payload, payload_len);
			break;
		}
		if (error != -EPROTO || tries == 2)
			break;
		/* Noise in the middle of it: perhaps not the next time. */
		api_answer_free(&a);
	}
	if (error == -EPROTO) {
		log_error("the VM's answer makes no sense: %.200s",
		    a.output == NULL ? "" : a.output);
		error = -EIO;
	} else if (error != 0 && a.detail[0] != '\0' && error != -ECANCELED)
		log_warn("%s", a.detail);
	api_answer_free(&a);
	return room_errno(error);
}

static void
room_replaced(void *arg, const char *old, const char *now)
{
	struct room *r = arg;

	pthread_mutex_lock(&r->lock);
	r->tools = SCRIPT_TOOLS_UNKNOWN;
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
	case -ENOTSUP:
		snprintf(detail, 512,
		    "the VM lacks tools: it needs sh, find, stat and base64 "
		    "(GNU or busybox)");
		break;
	case -EKEYREJECTED:
		snprintf(detail, 512,
		    "%s has a certificate that is not trusted%s%.120s; for a "
		    "private one use -o cacert=FILE",
		    c->base_url, colon, cause);
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
		error = -ENAMETOOLONG;
		goto out;
	}
	if ((error = api_command(r->api, API_META, command, len, &a)) != 0)
		goto out;
	error = script_unwrap(
	    a.output, a.len, nonce, ROOM_PAYLOAD_MAX, &payload, &payload_len);
	if (error == -EAGAIN)
		error = room_script_staged(
		    r, API_META, command, nonce, a.len, &payload, &payload_len);
	if (error == 0 && tools == SCRIPT_TOOLS_UNKNOWN &&
	    (error = probe_parse(payload, payload_len, &probe, &used)) == 0)
		error = room_adopt_probe(r, &probe);
	if (error == 0 && n > 0)
		error = listing_parse(
		    payload + used, payload_len - used, item, n, reply);
	if (error == -EPROTO && a.detail[0] == '\0')
		snprintf(a.detail, sizeof a.detail,
		    "its commands print something else");
out:
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

/*
 * First contact: one command probes the VM and brings the top of the tree;
 * one more when PATH is relative to a home that isn't known before.
 */
static int
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
room_open(struct room **out, const struct room_config *config, char detail[512])
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

	if ((r = calloc(1, sizeof *r)) == NULL)
		return -ENOMEM;
	pthread_mutex_init(&r->lock, NULL);
	TAILQ_INIT(&r->out);
	r->config = *config;
	r->config.key = NULL;
	r->config.profile = copy(config->profile);
	r->config.room = copy(config->room);
	r->config.base_url = copy(config->base_url);
	r->config.path = copy(config->path);
	r->config.cacert = NULL;
	ac.arg = r;
	snprintf(detail, 512, "cannot start");
	if ((error = pool_open(&r->pool)) != 0 ||
	    (error = api_open(&r->api, &ac)) != 0 ||
	    (error = room_find_root(r, detail)) != 0) {
		room_close(r);
		return error;
	}
	*out = r;
	return 0;
}

void
room_set_hooks(struct room *r, const struct room_hooks *hooks)
{
	size_t i;

	r->hooks = *hooks;
	if (r->first == NULL)
		return;
	for (i = 0; i < r->first->nlistings; i++)
		hooks->adopt_listing(hooks->arg, &r->first->listings[i],
		    hooks->epoch(hooks->arg), r->first_checked);
	reply_free_all(r->first, 1);
	r->first = NULL;
}

void
room_interrupt(struct room *r)
{
	pool_interrupt(r->pool);
}

/* A room without a VM, or a certificate that nobody vouches for, is an error
 * like others once it is mounted. */
int
room_errno(int error)
{
	return error == -ENODEV || error == -EKEYREJECTED ? -EIO : error;
}

void
room_shutdown(struct room *r)
{
	pthread_mutex_lock(&r->lock);
	r->closing = true;
	pthread_mutex_unlock(&r->lock);
	api_shutdown(r->api);
}

void
room_finish(struct room *r)
{
	pool_close(r->pool);
	r->pool = NULL;
}

void
room_close(struct room *r)
{
	struct probe_list *p;

	if (r == NULL)
		return;
	if (r->api != NULL)
		room_shutdown(r);
	pool_close(r->pool);
	api_close(r->api);
	while ((p = r->probes) != NULL) {
		r->probes = p->next;
		probe_free(&p->probe);
		free(p);
	}
	if (r->first != NULL)
		reply_free_all(r->first, 1);
	free((char *)r->config.profile);
	free((char *)r->config.room);
	free((char *)r->config.base_url);
	free((char *)r->config.path);
	free(r->root);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

const char *
room_root(struct room *r)
{
	return r->root;
}

void
room_instance(struct room *r, char out[37])
{
	api_get_instance(r->api, out);
}

const char *
room_url(struct room *r)
{
	return api_base_url(r->api);
}
