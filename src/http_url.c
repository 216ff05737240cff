/*
 * http_url.c
 *	  Which URLs are allowed: https, smtps and smtp anywhere, plain http on this machine.
 *
 * Who may name which host is the caller's affair (accounts, targets of alarms).
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <curl/curl.h>

#include "errcodes.h"
#include "http_transfer.h"

/* Plain http is for a server on this machine only: the simulator, a test. */
bool
http_is_loopback(const char *host)
{
	struct in_addr address;

	if (pg_strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, host, &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
}

typedef enum UrlFault
{
	URL_FINE,
	URL_MALFORMED,
	URL_SCHEME,
	URL_USER
} UrlFault;

/* The URL is judged as libcurl has parsed it, and the parsed form is what it will use: there is no second reading. */
static UrlFault
judge_url(CURLU *parsed, const char *url, bool is_mail)
{
	const char *sealed = is_mail ? "smtps" : "https";
	char *scheme = NULL;
	char *host = NULL;
	char *user = NULL;
	UrlFault fault = URL_FINE;

	if (curl_url_set(parsed, CURLUPART_URL, url, CURLU_PATH_AS_IS) != CURLUE_OK ||
		curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
		curl_url_get(parsed, CURLUPART_HOST, &host, 0) != CURLUE_OK)
		fault = URL_MALFORMED;
	else if (curl_url_get(parsed, CURLUPART_USER, &user, 0) == CURLUE_OK)
		fault = URL_USER;
	/* plain smtp is upgraded to TLS before anything is said, see configure_mail */
	else if (strcmp(scheme, sealed) != 0 && !(is_mail && strcmp(scheme, "smtp") == 0) &&
			 !(!is_mail && strcmp(scheme, "http") == 0 && http_is_loopback(host)))
		fault = URL_SCHEME;
	curl_free(scheme);
	curl_free(host);
	curl_free(user);
	return fault;
}

/* The messages do not quote the URL: the signed address of a document is itself a secret. */
CURLU *
http_parse_url(const char *url, bool is_mail)
{
	CURLU *parsed = curl_url();
	UrlFault fault;

	if (parsed == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	fault = judge_url(parsed, url, is_mail);
	if (fault == URL_FINE)
		return parsed;

	curl_url_cleanup(parsed);
	if (fault == URL_MALFORMED)
		ereport(ERROR, (errcode(ERRCODE_AMZMP_BAD_VALUE), errmsg("malformed URL or unsupported scheme")));
	if (fault == URL_SCHEME && is_mail)
		ereport(ERROR, (errcode(ERRCODE_AMZMP_REFUSED), errmsg("a mail server's URL begins with smtps:// or smtp://")));
	if (fault == URL_USER)
		ereport(ERROR, (errcode(ERRCODE_AMZMP_REFUSED), errmsg("a URL must not contain a user name or password")));
	ereport(ERROR, (errcode(ERRCODE_AMZMP_REFUSED), errmsg("only https is allowed for servers on other machines"),
					errhint("Plain http works for localhost, 127.0.0.0/8 and [::1].")));
	return NULL; /* not reached */
}
