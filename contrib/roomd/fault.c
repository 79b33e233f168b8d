/*
 * Faults on request.  Every rule counts the requests that match it, whether
 * or not an earlier rule hits them; the first rule that fires wins.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"

struct fault_rule {
	cJSON *json; /* as it was posted, checked; owned */
	long seen;
	long fired;
	uint64_t random;
};

static const char *const kinds[] = {
    "any", "command", "file", "raw", "create", NULL};
static const char *const match_keys[] = {
    "kind", "nth", "every", "percent", "seed", "contains", "times", NULL};
static const char *const fault_keys[] = {"status", "retry_after", "html",
    "reset", "close", "json", "hang", "lost", "lost_hang", "instance_id",
    "redirect", "body_base64", "run", NULL};
static const char *const json_modes[] = {
    "none", "cut", "malformed", "wrong_types", "missing_fields", NULL};

static int
word_index(const char *const *words, const char *word)
{
	int i;

	for (i = 0; words[i] != NULL; i++) {
		if (strcmp(words[i], word) == 0)
			return i;
	}
	return -1;
}

static const cJSON *
get(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

static double
number(const cJSON *object, const char *name, double fallback)
{
	const cJSON *item = get(object, name);

	return cJSON_IsNumber(item) ? item->valuedouble : fallback;
}

static const char *
text(const cJSON *object, const char *name)
{
	return cJSON_GetStringValue(get(object, name));
}

/* Decode base64; -EINVAL when it is none. */
static int
decode(const char *s, struct buf *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "abcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t v = 0;
	int bits = 0;
	const char *p;
	char c;

	for (; *s != '\0' && *s != '='; s++) {
		p = strchr(digits, *s);
		if (p == NULL)
			return -EINVAL;
		v = v << 6 | (uint32_t)(p - digits);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			c = (char)(v >> bits & 0xff);
			buf_put(out, &c, 1);
		}
	}
	return s[strspn(s, "=")] == '\0' ? 0 : -EINVAL;
}

static const char *
check_rule(const cJSON *rule)
{
	const cJSON *match = get(rule, "match"), *fault = get(rule, "fault");
	const cJSON *item;
	const char *s;
	struct buf body = {0};
	int error;

	if (!cJSON_IsObject(rule) || !cJSON_IsObject(fault) ||
	    (match != NULL && !cJSON_IsObject(match)))
		return "wants {\"match\":{...},\"fault\":{...}}";
	cJSON_ArrayForEach (item, rule) {
		if (strcmp(item->string, "match") != 0 &&
		    strcmp(item->string, "fault") != 0)
			return "has a member besides 'match' and 'fault'";
	}
	cJSON_ArrayForEach (item, match) {
		if (word_index(match_keys, item->string) < 0)
			return "has an unknown member in 'match'";
	}
	s = text(match, "kind");
	if (get(match, "kind") != NULL &&
	    (s == NULL || word_index(kinds, s) < 0))
		return "has an unknown kind";
	cJSON_ArrayForEach (item, fault) {
		if (word_index(fault_keys, item->string) < 0)
			return "has an unknown fault";
	}
	if (cJSON_GetArraySize(fault) == 0)
		return "has no fault";
	if (get(fault, "status") != NULL &&
	    !(number(fault, "status", 0) >= 100 &&
		number(fault, "status", 0) <= 599))
		return "has a bad status";
	s = text(fault, "json");
	if (get(fault, "json") != NULL &&
	    (s == NULL || word_index(json_modes, s) < 1))
		return "has an unknown 'json'";
	s = text(fault, "reset");
	if (get(fault, "reset") != NULL &&
	    (s == NULL ||
		(strcmp(s, "before") != 0 && strcmp(s, "middle") != 0)))
		return "has an unknown 'reset'";
	if (get(fault, "body_base64") != NULL) {
		s = text(fault, "body_base64");
		error = s == NULL ? -EINVAL : decode(s, &body);
		buf_free(&body);
		if (error != 0)
			return "has a bad 'body_base64'";
	}
	return NULL;
}

/* Whether a list can be set; -EINVAL with the reason in words. */
int
faults_check(const cJSON *list, char *why, size_t why_len)
{
	const char *wrong;
	const cJSON *rule;
	int i = 0;

	if (!cJSON_IsArray(list)) {
		(void)snprintf(why, why_len, "'faults' wants a list");
		return -EINVAL;
	}
	cJSON_ArrayForEach (rule, list) {
		wrong = check_rule(rule);
		if (wrong != NULL) {
			(void)snprintf(why, why_len, "fault %d %s", i, wrong);
			return -EINVAL;
		}
		i++;
	}
	return 0;
}

void
faults_init(struct faults *f)
{
	memset(f, 0, sizeof(*f));
	(void)pthread_mutex_init(&f->lock, NULL);
}

static void
free_rules(struct fault_rule *rules, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		cJSON_Delete(rules[i].json);
	free(rules);
}

void
faults_destroy(struct faults *f)
{
	free_rules(f->rules, f->count);
	(void)pthread_mutex_destroy(&f->lock);
}

/* Put a checked list in force; all counting begins anew. */
int
faults_set(struct faults *f, const cJSON *list)
{
	struct fault_rule *rules, *old;
	size_t n = (size_t)cJSON_GetArraySize(list), old_n, i = 0;
	const cJSON *rule;

	rules = calloc(n + 1, sizeof(*rules));
	if (rules == NULL)
		return -ENOMEM;
	cJSON_ArrayForEach (rule, list) {
		rules[i].json = cJSON_Duplicate(rule, 1);
		if (rules[i].json == NULL) {
			free_rules(rules, i);
			return -ENOMEM;
		}
		rules[i].random =
		    (uint64_t)number(get(rule, "match"), "seed", 1);
		i++;
	}
	(void)pthread_mutex_lock(&f->lock);
	old = f->rules;
	old_n = f->count;
	f->rules = rules;
	f->count = n;
	(void)pthread_mutex_unlock(&f->lock);
	free_rules(old, old_n);
	return 0;
}

/* The rules in force, with what they saw and did, as a JSON list. */
void
faults_put(struct faults *f, struct buf *out)
{
	char *s;
	size_t i;

	buf_puts(out, "[");
	(void)pthread_mutex_lock(&f->lock);
	for (i = 0; i < f->count; i++) {
		s = cJSON_PrintUnformatted(f->rules[i].json);
		if (s == NULL) {
			out->failed = true;
			break;
		}
		s[strlen(s) - 1] = '\0';
		buf_printf(out, "%s%s,\"seen\":%ld,\"fired\":%ld}",
		    i > 0 ? "," : "", s, f->rules[i].seen, f->rules[i].fired);
		cJSON_free(s);
	}
	(void)pthread_mutex_unlock(&f->lock);
	buf_puts(out, "]");
}

/* From 0 to below 100; splitmix64, so that a seed means the same anywhere. */
static double
roll(struct fault_rule *rule)
{
	uint64_t z = rule->random += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	z ^= z >> 31;
	return (double)(z >> 11) * 100.0 / 9007199254740992.0;
}

static bool
rule_fires(struct fault_rule *rule, const char *kind, const char *what)
{
	const cJSON *match = get(rule->json, "match");
	const char *want = text(match, "kind");
	long every = (long)number(match, "every", 0);
	const char *part = text(match, "contains");

	if (want != NULL && strcmp(want, "any") != 0 && strcmp(want, kind) != 0)
		return false;
	if (part != NULL && strstr(what, part) == NULL)
		return false;
	rule->seen++;
	if (get(match, "nth") != NULL &&
	    rule->seen != (long)number(match, "nth", 0))
		return false;
	if (every > 0 && rule->seen % every != 0)
		return false;
	if (get(match, "percent") != NULL &&
	    roll(rule) >= number(match, "percent", 0))
		return false;
	return get(match, "times") == NULL ||
	    rule->fired < (long)number(match, "times", 0);
}

static void
set_name(struct fault *f, const char *name)
{
	(void)strlcpy(f->name, name, sizeof(f->name));
}

/* Translate a rule's fault; a rule may combine several. */
static void
apply_rule(const struct fault_rule *rule, struct fault *f)
{
	const cJSON *j = get(rule->json, "fault"), *item;
	const char *s;

	set_name(f, j->child->string);
	f->retry_after = (int)number(j, "retry_after", -1);
	f->html = cJSON_IsTrue(get(j, "html"));
	f->hang = number(j, "hang", 0);
	if (f->hang < 0) {
		f->end = FAULT_END_HANG;
		f->skip = true;
	}
	if (get(j, "status") != NULL) {
		f->status = (int)number(j, "status", 500);
		f->skip = true;
	}
	if ((s = text(j, "redirect")) != NULL) {
		f->redirect = strdup(s);
		if (f->status == 0)
			f->status = 302;
		f->skip = true;
	}
	if ((s = text(j, "body_base64")) != NULL) {
		(void)decode(s, &f->body);
		f->has_body = true;
		if (f->status == 0)
			f->status = 200;
		f->skip = true;
	}
	if ((s = text(j, "reset")) != NULL) {
		f->skip = strcmp(s, "before") == 0;
		f->end = f->skip ? FAULT_END_RESET : FAULT_END_RESET_MIDDLE;
		set_name(f, f->skip ? "reset_before" : "reset_middle");
	}
	item = get(j, "close");
	if (item != NULL && !cJSON_IsFalse(item)) {
		f->end = FAULT_END_CLOSE;
		f->skip = true;
	}
	item = get(j, "lost");
	if (item != NULL && !cJSON_IsFalse(item)) {
		s = cJSON_GetStringValue(item);
		f->end = s != NULL && strcmp(s, "reset") == 0 ? FAULT_END_RESET
							      : FAULT_END_CLOSE;
		f->skip = false;
	}
	if (cJSON_IsTrue(get(j, "lost_hang"))) {
		f->end = FAULT_END_HANG;
		f->skip = false;
	}
	if ((s = text(j, "json")) != NULL) {
		f->json = (enum fault_json)word_index(json_modes, s);
		(void)snprintf(f->name, sizeof(f->name), "json_%s", s);
	}
	if ((s = text(j, "instance_id")) != NULL)
		f->instance_id = strdup(s);
	if (cJSON_IsTrue(get(j, "run")))
		f->skip = false;
}

/* The fault that hits a request, if any; free it with fault_free(). */
void
faults_match(
    struct faults *f, const char *kind, const char *what, struct fault *out)
{
	struct fault_rule *hit = NULL;
	size_t i;

	memset(out, 0, sizeof(*out));
	out->retry_after = -1;
	(void)pthread_mutex_lock(&f->lock);
	for (i = 0; i < f->count; i++) {
		if (rule_fires(&f->rules[i], kind, what) && hit == NULL)
			hit = &f->rules[i];
	}
	if (hit != NULL) {
		hit->fired++;
		apply_rule(hit, out);
	}
	(void)pthread_mutex_unlock(&f->lock);
}

void
fault_free(struct fault *fault)
{
	free(fault->instance_id);
	free(fault->redirect);
	buf_free(&fault->body);
}
