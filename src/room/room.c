#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"
#include "room/room_impl.h"

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
room_adopt_probe(struct room *r, struct probe *probe, uint64_t began)
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
	if (p->probe.clock != 0)
		room_note_clock(r, p->probe.clock, began, true);
	return 0;
}

static int64_t
clock_ns(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void
room_note_clock(struct room *r, int64_t there, uint64_t began, bool within)
{
	pthread_mutex_lock(&r->lock);
	vm_clock_note(&r->clock, there, (int64_t)(began - 1) * 1000000,
	    clock_ns(CLOCK_BOOTTIME), within);
	pthread_mutex_unlock(&r->lock);
}

int64_t
room_vm_now(struct room *r)
{
	int64_t now;

	pthread_mutex_lock(&r->lock);
	now = vm_clock_now(
	    &r->clock, clock_ns(CLOCK_BOOTTIME), clock_ns(CLOCK_REALTIME));
	pthread_mutex_unlock(&r->lock);
	return now;
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

int
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
	if ((error = room_send_text(r, kind, stage, len, NULL, 0, NULL, &a)) !=
		0 ||
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
		if ((error = room_send_text(
			 r, kind, piece, len, NULL, 0, NULL, &a)) != 0)
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
room_script(struct room *r, const struct room_command *c, size_t max,
    char **payload, size_t *payload_len)
{
	struct api_answer a;
	int error, tries;

	*payload = NULL;
	*payload_len = 0;
	for (tries = 0;; tries++) {
		if ((error = room_command(r, c, &a)) != 0)
			break;
		error = script_unwrap(
		    a.output, a.len, c->nonce, max, payload, payload_len);
		if (error == -EAGAIN) {
			error = room_script_staged(r, c->kind, c->text,
			    c->nonce, a.len, payload, payload_len);
			break;
		}
		if (error != -EPROTO || tries == 2)
			break;
		room_doubt_toolkit(r);
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
	return error == -ENODEV || error == -EKEYREJECTED || error == -E2BIG
	    ? -EIO
	    : error;
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
	stats_close(r->stats);
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
	pthread_cond_destroy(&r->piece_done);
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

uint64_t
room_contact(struct room *r)
{
	return api_last_contact(r->api);
}

const char *
room_url(struct room *r)
{
	return api_base_url(r->api);
}

struct stats *
room_stats(struct room *r)
{
	return r->stats;
}

uint64_t
room_contact_age(struct room *r)
{
	return api_contact_age(r->api);
}
