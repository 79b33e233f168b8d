/* The one file that sees both storeys, for their names alone. */
#include <curl/curl.h>

#include "kernel/fuse_api.h"
#include "cli/version.h"

void
version_print(FILE *out)
{
	fprintf(out, "gentilityfs %s\nfuse3 %s, libcurl %s\n", PACKAGE_VERSION,
	    fuse_pkgversion(), curl_version_info(CURLVERSION_NOW)->version);
}
