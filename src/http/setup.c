#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>

#include "http/http_internal.h"

/* Text that goes into a header: a line break would start another one. */
static bool
is_header_text(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return false;
	return true;
}

static bool
is_loopback(const char *host)
{
	return strcasecmp(host, "localhost") == 0 ||
	    strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0;
}

/* Accept scheme://host[:port][/prefix] and nothing more. */
static int
setup_url(struct http_setup *setup, const char *url)
{
	char *scheme = NULL, *host = NULL, *part = NULL;
	CURLU *u;
	size_t len = strlen(url);
	int error = -EINVAL;

	if ((u = curl_url()) == NULL)
		return -ENOMEM;
	if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK)
		goto out;
	if (curl_url_get(u, CURLUPART_USER, &part, 0) == CURLUE_OK ||
	    curl_url_get(u, CURLUPART_QUERY, &part, 0) == CURLUE_OK ||
	    curl_url_get(u, CURLUPART_FRAGMENT, &part, 0) == CURLUE_OK)
		goto out;
	setup->https = strcasecmp(scheme, "https") == 0;
	if (!setup->https && strcasecmp(scheme, "http") != 0)
		goto out;
	setup->loopback = is_loopback(host);
	while (len > 0 && url[len - 1] == '/')
		len--;
	setup->base_url = strndup(url, len);
	error = setup->base_url == NULL ? -ENOMEM : 0;
out:
	curl_free(scheme);
	curl_free(host);
	curl_free(part);
	curl_url_cleanup(u);
	return error;
}

static int
header_add(struct curl_slist **list, const char *line)
{
	struct curl_slist *longer = curl_slist_append(*list, line);

	if (longer == NULL)
		return -ENOMEM;
	*list = longer;
	return 0;
}

static void
headers_free(struct curl_slist *list)
{
	for (struct curl_slist *l = list; l != NULL; l = l->next)
		explicit_bzero(l->data, strlen(l->data));
	curl_slist_free_all(list);
}

/* The one place that turns the key into bytes for the wire. */
static int
setup_headers(struct http_setup *setup, const char *key)
{
	char *line = NULL;
	int error = -ENOMEM;

	if (key != NULL && asprintf(&line, "Authorization: Bearer %s", key) < 0)
		return -ENOMEM;
	if (line != NULL &&
	    (header_add(&setup->get_headers, line) != 0 ||
		header_add(&setup->post_headers, line) != 0))
		goto out;
	if (line != NULL) {
		/* Out of swap, where that is allowed. */
		mlock(setup->get_headers->data, strlen(line) + 1);
		mlock(setup->post_headers->data, strlen(line) + 1);
	}
	/*
	 * Without "Expect:" libcurl waits up to a second for "100 Continue"
	 * before each large body.
	 */
	if (header_add(&setup->get_headers, "Accept: application/json") != 0 ||
	    header_add(&setup->post_headers, "Accept: application/json") != 0 ||
	    header_add(
		&setup->post_headers, "Content-Type: application/json") != 0 ||
	    header_add(&setup->post_headers, "Expect:") != 0 ||
	    header_add(
		&setup->anonymous_headers, "Accept-Encoding: identity") != 0 ||
	    header_add(&setup->anonymous_headers, "Expect:") != 0)
		goto out;
	error = 0;
out:
	if (line != NULL)
		explicit_bzero(line, strlen(line));
	free(line);
	return error;
}

int
http_setup_open(struct http_setup *setup, const struct http_config *config)
{
	int error;

	*setup = (struct http_setup){.connect_ms = config->connect_ms};
	if ((config->key != NULL && !is_header_text(config->key)) ||
	    (config->agent != NULL && !is_header_text(config->agent)))
		return -EINVAL;
	if ((error = setup_url(setup, config->base_url)) != 0)
		goto out;
	error = -ENOMEM;
	if (config->cacert != NULL &&
	    (setup->cacert = strdup(config->cacert)) == NULL)
		goto out;
	if (config->agent != NULL &&
	    (setup->agent = strdup(config->agent)) == NULL)
		goto out;
	/*
	 * Before 8.2 cancelled HTTP/2 streams leak flow-control window until
	 * the connection stalls (curl a9b7f72b and others).
	 */
	setup->http2 =
	    curl_version_info(CURLVERSION_NOW)->version_num >= 0x080200;
	error = setup_headers(setup, config->key);
out:
	if (error != 0)
		http_setup_close(setup);
	return error;
}

void
http_setup_close(struct http_setup *setup)
{
	headers_free(setup->get_headers);
	headers_free(setup->post_headers);
	headers_free(setup->anonymous_headers);
	free(setup->base_url);
	free(setup->cacert);
	free(setup->agent);
	*setup = (struct http_setup){0};
}
