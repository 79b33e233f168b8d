#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "base/stats_text.h"

/* Where a text goes, and how long it may get. */
struct sheet {
	FILE *out;
	char *text;
	size_t len, max;
};

static double
share(uint64_t part, uint64_t whole)
{
	return whole == 0 ? 0 : 100.0 * (double)part / (double)whole;
}

/* All requests but users' commands, whose times are their own. */
static void
sum_up(const struct stats_snapshot *s, struct stats_kind_count *all)
{
	*all = (struct stats_kind_count){0};
	for (int i = 0; i < STATS_KINDS; i++) {
		const struct stats_kind_count *k = &s->kinds[i];

		all->requests += k->requests;
		all->retries += k->retries;
		all->errors += k->errors;
		all->out += k->out;
		all->in += k->in;
		all->under_way += k->under_way;
		if (i != STATS_EXEC)
			histogram_merge(&all->latency, &k->latency);
	}
}

/* Is there space for a transfer with this path, however it is escaped? */
static bool
has_space(struct sheet *s, const char *path)
{
	fflush(s->out);
	return s->len + 6 * strlen(path) + 512 < s->max;
}

/* --- for people ------------------------------------------------------------
 */

const char *
stats_bytes(char out[16], uint64_t n)
{
	static const char units[] = "KMGTPE";
	double x = (double)n;
	size_t i = 0;

	if (n < 1000)
		snprintf(out, 16, "%" PRIu64 " B", n);
	else {
		for (x /= 1000; x >= 999.5 && i < sizeof units - 2; i++)
			x /= 1000;
		snprintf(
		    out, 16, x < 10 ? "%.1f %cB" : "%.0f %cB", x, units[i]);
	}
	return out;
}

static const char *
duration(char out[32], uint64_t us)
{
	uint64_t s = us / 1000000;

	if (us < 10000)
		snprintf(out, 32, "%.1f ms", (double)us / 1e3);
	else if (s < 1)
		snprintf(out, 32, "%" PRIu64 " ms", us / 1000);
	else if (s < 60)
		snprintf(out, 32, "%.1f s", (double)us / 1e6);
	else if (s < 3600)
		snprintf(out, 32, "%d min %d s", (int)(s / 60), (int)(s % 60));
	else
		snprintf(out, 32, "%" PRIu64 " h %d min", s / 3600,
		    (int)(s / 60 % 60));
	return out;
}

/* One line, whatever bytes are in it. */
static void
put_name(FILE *out, const char *name)
{
	for (; *name != '\0'; name++)
		putc((unsigned char)*name < ' ' || *name == 0x7f ? '?' : *name,
		    out);
}

static void
put_kind(FILE *out, const char *name, const struct stats_kind_count *k)
{
	char in[16], sent[16];

	fprintf(out, "%-8s %7" PRIu64 " %5" PRIu64 " %6" PRIu64 " %3u %7s %7s",
	    name, k->requests, k->retries, k->errors, k->under_way,
	    stats_bytes(in, k->in), stats_bytes(sent, k->out));
	if (k->latency.count > 0)
		fprintf(out, " %6.1f %6.1f %6.1f %6.1f",
		    (double)histogram_percentile(&k->latency, 0.5) / 1e3,
		    (double)histogram_percentile(&k->latency, 0.9) / 1e3,
		    (double)histogram_percentile(&k->latency, 0.99) / 1e3,
		    (double)k->latency.max_us / 1e3);
	putc('\n', out);
}

static void
put_progress(FILE *out, const struct stats_progress *p)
{
	char done[16], total[16], speed[16];

	fprintf(out, "%-9s ", p->upload ? "upload" : "download");
	put_name(out, p->path);
	fprintf(out, ": %s of %s (%.0f %%)", stats_bytes(done, p->done),
	    stats_bytes(total, p->total), share(p->done, p->total));
	if (p->us > 100000)
		fprintf(out, ", %s/s",
		    stats_bytes(speed,
			(uint64_t)((double)p->done * 1e6 / (double)p->us)));
	putc('\n', out);
}

/* How long the recent past is: less, right after the start. */
static double
recent_seconds(const struct stats_snapshot *s)
{
	return s->us < (uint64_t)STATS_RECENT_S * 1000000 ? (double)s->us / 1e6
							  : STATS_RECENT_S;
}

static void
put_warnings(FILE *out, const struct stats_view *v)
{
	char when[32];
	struct tm tm;
	size_t i;

	if (v->warning_count > 0)
		fprintf(out, "\nwarnings (the last %zu)\n", v->warning_count);
	for (i = 0; i < v->warning_count; i++) {
		localtime_r(&v->warnings[i].at, &tm);
		strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
		fprintf(out, "%s  %s\n", when, v->warnings[i].text);
	}
}

static void
write_lines(struct sheet *sheet, const struct stats_view *v)
{
	const struct stats_snapshot *s = v->counts;
	struct stats_kind_count all;
	char one[32], two[16], three[16];
	FILE *out = sheet->out;
	size_t i, left = s->transfers;

	sum_up(s, &all);
	put_name(out, v->source);
	fputs(" at ", out);
	put_name(out, v->mountpoint);
	fprintf(out, ", for %s\n", duration(one, s->us));
	fprintf(out, "service   %s, instance %s, ", v->url, v->instance);
	if (v->contact_ms == UINT64_MAX)
		fputs("no answer yet\n", out);
	else
		fprintf(out, "last answer %s ago\n",
		    duration(one, v->contact_ms * 1000));
	fprintf(out,
	    "requests  %" PRIu64 ", %" PRIu64 " of them again, %" PRIu64
	    " failed; %" PRIu64 " things given up\n",
	    all.requests, all.retries, all.errors, s->given_up);
	fprintf(out,
	    "recently  %" PRIu64 " requests, %s in, %s out in %.0f s\n",
	    s->recent.requests, stats_bytes(two, s->recent.in),
	    stats_bytes(three, s->recent.out), recent_seconds(s));
	fprintf(out, "unsent    %" PRIu64 " file%s, %s\n", v->unsent_files,
	    v->unsent_files == 1 ? "" : "s", stats_bytes(two, v->unsent_bytes));
	fprintf(out,
	    "names     %" PRIu64 " known, %" PRIu64 " asked for (%.0f %%)\n",
	    s->caches[STATS_NAMES].hits, s->caches[STATS_NAMES].misses,
	    share(s->caches[STATS_NAMES].hits,
		s->caches[STATS_NAMES].hits + s->caches[STATS_NAMES].misses));
	fprintf(out,
	    "contents  %" PRIu64 " reads from the cache (%s), %" PRIu64
	    " not (%.0f %%); %s of %s in use\n",
	    s->caches[STATS_BYTES].hits,
	    stats_bytes(one, s->caches[STATS_BYTES].bytes),
	    s->caches[STATS_BYTES].misses,
	    share(s->caches[STATS_BYTES].hits,
		s->caches[STATS_BYTES].hits + s->caches[STATS_BYTES].misses),
	    stats_bytes(two, v->cache_used),
	    stats_bytes(three, v->cache_limit));
	fprintf(out, "\n%-8s %7s %5s %6s %3s %7s %7s %6s %6s %6s %6s ms\n",
	    "requests", "sent", "again", "failed", "now", "in", "out", "50 %",
	    "90 %", "99 %", "max");
	for (i = 0; i < STATS_KINDS; i++)
		if (s->kinds[i].requests > 0 || s->kinds[i].under_way > 0)
			put_kind(out, stats_kind_name((enum stats_kind)i),
			    &s->kinds[i]);
	put_warnings(out, v);
	if (s->shown > 0)
		putc('\n', out);
	for (i = 0; i < s->shown && has_space(sheet, s->progress[i].path);
	     i++) {
		put_progress(out, &s->progress[i]);
		left--;
	}
	if (left > 0)
		fprintf(out, "and %zu more\n", left);
}

/* --- JSON ------------------------------------------------------------------
 */

static void
put_counts_json(FILE *out, const struct stats_kind_count *k)
{
	const struct histogram *h = &k->latency;

	fprintf(out,
	    "\"total\":%" PRIu64 ",\"retries\":%" PRIu64 ",\"errors\":%" PRIu64
	    ",\"under_way\":%u,\"sent_bytes\":%" PRIu64
	    ",\"received_bytes\":%" PRIu64
	    ",\"latency_ms\":{\"count\":%" PRIu64,
	    k->requests, k->retries, k->errors, k->under_way, k->out, k->in,
	    h->count);
	if (h->count > 0)
		fprintf(out,
		    ",\"mean\":%.3f,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,"
		    "\"max\":%.3f",
		    (double)h->sum_us / (double)h->count / 1e3,
		    (double)histogram_percentile(h, 0.5) / 1e3,
		    (double)histogram_percentile(h, 0.9) / 1e3,
		    (double)histogram_percentile(h, 0.99) / 1e3,
		    (double)h->max_us / 1e3);
	putc('}', out);
}

static void
put_member(FILE *out, const char *name, const char *value)
{
	fprintf(out, "\"%s\":", name);
	json_write_string(out, value);
	putc(',', out);
}

static void
write_json(struct sheet *sheet, const struct stats_view *v)
{
	const struct stats_snapshot *s = v->counts;
	struct stats_kind_count all;
	FILE *out = sheet->out;
	size_t i, left = s->transfers;

	sum_up(s, &all);
	putc('{', out);
	put_member(out, "version", v->version);
	put_member(out, "source", v->source);
	put_member(out, "mountpoint", v->mountpoint);
	put_member(out, "url", v->url);
	put_member(out, "root", v->root);
	put_member(out, "instance_id", v->instance);
	put_member(out, "cache_dir", v->cache_dir);
	fprintf(out, "\"pid\":%d,\"uptime_s\":%.3f,\"last_contact_s\":", v->pid,
	    (double)s->us / 1e6);
	if (v->contact_ms == UINT64_MAX)
		fputs("null", out);
	else
		fprintf(out, "%.3f", (double)v->contact_ms / 1e3);
	fputs(",\"requests\":{", out);
	put_counts_json(out, &all);
	fprintf(out, ",\"given_up\":%" PRIu64 ",\"kinds\":{", s->given_up);
	for (i = 0; i < STATS_KINDS; i++) {
		fprintf(out, "%s\"%s\":{", i > 0 ? "," : "",
		    stats_kind_name((enum stats_kind)i));
		put_counts_json(out, &s->kinds[i]);
		putc('}', out);
	}
	fprintf(out,
	    "}},\"recent\":{\"seconds\":%d,\"requests\":%" PRIu64
	    ",\"sent_bytes\":%" PRIu64 ",\"received_bytes\":%" PRIu64 "}",
	    STATS_RECENT_S, s->recent.requests, s->recent.out, s->recent.in);
	fprintf(out,
	    ",\"cache\":{\"names\":{\"hits\":%" PRIu64 ",\"misses\":%" PRIu64
	    "},\"contents\":{\"hits\":%" PRIu64 ",\"misses\":%" PRIu64
	    ",\"hit_bytes\":%" PRIu64 "},\"bytes\":%" PRIu64
	    ",\"limit_bytes\":%" PRIu64 "}",
	    s->caches[STATS_NAMES].hits, s->caches[STATS_NAMES].misses,
	    s->caches[STATS_BYTES].hits, s->caches[STATS_BYTES].misses,
	    s->caches[STATS_BYTES].bytes, v->cache_used, v->cache_limit);
	fprintf(out,
	    ",\"unsent\":{\"files\":%" PRIu64 ",\"bytes\":%" PRIu64
	    "},\"warnings\":[",
	    v->unsent_files, v->unsent_bytes);
	for (i = 0; i < v->warning_count; i++) {
		fprintf(out, "%s{\"time\":%lld,\"text\":", i > 0 ? "," : "",
		    (long long)v->warnings[i].at);
		json_write_string(out, v->warnings[i].text);
		putc('}', out);
	}
	fputs("],\"transfers\":[", out);
	for (i = 0; i < s->shown && has_space(sheet, s->progress[i].path);
	     i++) {
		const struct stats_progress *p = &s->progress[i];

		fputs(i > 0 ? ",{" : "{", out);
		put_member(out, "direction", p->upload ? "upload" : "download");
		put_member(out, "path", p->path);
		fprintf(out,
		    "\"done_bytes\":%" PRIu64 ",\"total_bytes\":%" PRIu64
		    ",\"seconds\":%.3f}",
		    p->done, p->total, (double)p->us / 1e6);
		left--;
	}
	fprintf(out, "],\"transfers_left_out\":%zu}\n", left);
}

/* --- Prometheus ------------------------------------------------------------
 */

/* Buckets of request_seconds: powers of 2 of a microsecond, 1 ms to 67 s. */
enum { OCTAVE_FIRST = 10, OCTAVE_LAST = 26 };

/* A label's value.  Of a long one its end must do. */
static void
put_label(FILE *out, const char *name, const char *value)
{
	size_t len = strlen(value);

	if (len > 96)
		value += len - 96;
	fprintf(out, "%s=\"", name);
	for (; *value != '\0'; value++) {
		unsigned char c = (unsigned char)*value;

		if (c == '\\' || c == '"')
			putc('\\', out);
		/* Names need not be UTF-8, but this text must. */
		if (c == '\n')
			fputs("\\n", out);
		else
			putc(c >= 0x80 ? '?' : c, out);
	}
	putc('"', out);
}

static void
put_head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP gentilityfs_%s %s\n# TYPE gentilityfs_%s %s\n",
	    name, help, name, type);
}

/* One metric with one value. */
static void
put_value(FILE *out, const struct stats_view *v, const char *name,
    const char *type, const char *help, double value)
{
	put_head(out, name, type, help);
	fprintf(out, "gentilityfs_%s{", name);
	put_label(out, "mount", v->mountpoint);
	fprintf(out, "} %.17g\n", value);
}

/* The start of a line about a kind of requests; the caller ends the labels. */
static void
put_kind_name(
    FILE *out, const struct stats_view *v, const char *name, size_t kind)
{
	fprintf(out, "gentilityfs_%s{", name);
	put_label(out, "mount", v->mountpoint);
	fprintf(out, ",kind=\"%s\"", stats_kind_name((enum stats_kind)kind));
}

static void
put_kinds(FILE *out, const struct stats_view *v, const char *name,
    const char *type, const char *help,
    uint64_t (*value)(const struct stats_kind_count *))
{
	put_head(out, name, type, help);
	for (size_t i = 0; i < STATS_KINDS; i++) {
		put_kind_name(out, v, name, i);
		fprintf(out, "} %" PRIu64 "\n", value(&v->counts->kinds[i]));
	}
}

#define KIND_VALUE(member)                                             \
	static uint64_t get_##member(const struct stats_kind_count *k) \
	{                                                              \
		return k->member;                                      \
	}
KIND_VALUE(requests)
KIND_VALUE(retries)
KIND_VALUE(errors)
KIND_VALUE(under_way)
KIND_VALUE(out)
KIND_VALUE(in)

static void
put_latencies(FILE *out, const struct stats_view *v)
{
	put_head(out, "request_seconds", "histogram",
	    "How long requests took, from when they were sent.");
	for (size_t i = 0; i < STATS_KINDS; i++) {
		const struct histogram *h = &v->counts->kinds[i].latency;

		for (unsigned o = OCTAVE_FIRST; o <= OCTAVE_LAST; o++) {
			put_kind_name(out, v, "request_seconds_bucket", i);
			fprintf(out, ",le=\"%.10g\"} %" PRIu64 "\n",
			    (double)((uint64_t)1 << o) / 1e6,
			    histogram_below(h, o));
		}
		put_kind_name(out, v, "request_seconds_bucket", i);
		fprintf(out, ",le=\"+Inf\"} %" PRIu64 "\n", h->count);
		put_kind_name(out, v, "request_seconds_sum", i);
		fprintf(out, "} %.6f\n", (double)h->sum_us / 1e6);
		put_kind_name(out, v, "request_seconds_count", i);
		fprintf(out, "} %" PRIu64 "\n", h->count);
	}
}

static void
put_caches(FILE *out, const struct stats_view *v, const char *name,
    const char *help, uint64_t names, uint64_t contents)
{
	const uint64_t values[] = {names, contents};
	static const char *const caches[] = {"names", "contents"};

	put_head(out, name, "counter", help);
	for (int i = 0; i < 2; i++) {
		fprintf(out, "gentilityfs_%s{", name);
		put_label(out, "mount", v->mountpoint);
		fprintf(
		    out, ",cache=\"%s\"} %" PRIu64 "\n", caches[i], values[i]);
	}
}

static void
put_transfers(struct sheet *sheet, const struct stats_view *v, const char *name,
    const char *help, bool total)
{
	const struct stats_snapshot *s = v->counts;
	FILE *out = sheet->out;

	put_head(out, name, "gauge", help);
	for (size_t i = 0;
	     i < s->shown && has_space(sheet, s->progress[i].path); i++) {
		const struct stats_progress *p = &s->progress[i];

		fprintf(out, "gentilityfs_%s{", name);
		put_label(out, "mount", v->mountpoint);
		fprintf(out, ",direction=\"%s\",",
		    p->upload ? "upload" : "download");
		put_label(out, "path", p->path);
		/* Two that are called the same must not be one. */
		fprintf(out, ",id=\"%zu\"} %" PRIu64 "\n", i,
		    total ? p->total : p->done);
	}
}

static void
write_prometheus(struct sheet *sheet, const struct stats_view *v)
{
	const struct stats_snapshot *s = v->counts;
	FILE *out = sheet->out;

	put_head(out, "info", "gauge", "What is mounted.");
	fputs("gentilityfs_info{", out);
	put_label(out, "mount", v->mountpoint);
	putc(',', out);
	put_label(out, "source", v->source);
	putc(',', out);
	put_label(out, "instance", v->instance);
	putc(',', out);
	put_label(out, "version", v->version);
	fputs("} 1\n", out);
	put_value(out, v, "uptime_seconds", "gauge", "Since the mount.",
	    (double)s->us / 1e6);
	if (v->contact_ms != UINT64_MAX)
		put_value(out, v, "last_contact_seconds", "gauge",
		    "Since the service last answered.",
		    (double)v->contact_ms / 1e3);
	put_kinds(out, v, "requests_total", "counter", "Requests sent.",
	    get_requests);
	put_kinds(out, v, "request_retries_total", "counter",
	    "Those that were sent again.", get_retries);
	put_kinds(out, v, "request_errors_total", "counter",
	    "Those without a good answer.", get_errors);
	put_kinds(out, v, "requests_under_way", "gauge",
	    "Requests without an answer yet.", get_under_way);
	put_kinds(out, v, "sent_bytes_total", "counter",
	    "Bytes of requests' bodies.", get_out);
	put_kinds(out, v, "received_bytes_total", "counter",
	    "Bytes of answers' bodies, as they were transferred.", get_in);
	put_latencies(out, v);
	put_value(out, v, "given_up_total", "counter",
	    "What failed for good after all attempts.", (double)s->given_up);
	put_caches(out, v, "cache_hits_total",
	    "What was asked for and known already.",
	    s->caches[STATS_NAMES].hits, s->caches[STATS_BYTES].hits);
	put_caches(out, v, "cache_misses_total",
	    "What had to be asked of the service.",
	    s->caches[STATS_NAMES].misses, s->caches[STATS_BYTES].misses);
	put_value(out, v, "cache_hit_bytes_total", "counter",
	    "Bytes read from the cache.", (double)s->caches[STATS_BYTES].bytes);
	put_value(out, v, "cache_bytes", "gauge", "Cached contents.",
	    (double)v->cache_used);
	put_value(out, v, "cache_limit_bytes", "gauge",
	    "How much may be cached.", (double)v->cache_limit);
	put_value(out, v, "unsent_files", "gauge",
	    "Files with changes that the room does not have.",
	    (double)v->unsent_files);
	put_value(out, v, "unsent_bytes", "gauge", "Bytes of these changes.",
	    (double)v->unsent_bytes);
	put_value(out, v, "transfers", "gauge", "Files on their way.",
	    (double)s->transfers);
	put_transfers(sheet, v, "transfer_done_bytes",
	    "How much of a file is there.", false);
	put_transfers(
	    sheet, v, "transfer_total_bytes", "How much of it there is.", true);
}

int
stats_format(const struct stats_view *v, enum stats_form form, size_t max,
    char **text, size_t *len)
{
	struct sheet sheet = {.max = max};
	int error = 0;

	if ((sheet.out = open_memstream(&sheet.text, &sheet.len)) == NULL)
		return -ENOMEM;
	switch (form) {
	case STATS_LINES:
		write_lines(&sheet, v);
		break;
	case STATS_JSON:
		write_json(&sheet, v);
		break;
	case STATS_PROMETHEUS:
		write_prometheus(&sheet, v);
		break;
	}
	if (ferror(sheet.out))
		error = -ENOMEM;
	if (fclose(sheet.out) != 0)
		error = -ENOMEM;
	if (error != 0) {
		free(sheet.text);
		return error;
	}
	*text = sheet.text;
	*len = sheet.len;
	return 0;
}
