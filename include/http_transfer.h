/*
 * http_transfer.h
 *	  One HTTP request on its way: shared by http.c, which keeps many of them going, and http_transfer.c, which sets one
 *	  up and takes it down. For nobody else.
 */
#ifndef AMZMP_HTTP_TRANSFER_H
#define AMZMP_HTTP_TRANSFER_H

#include <curl/curl.h>

#include "http.h"
#include "lib/ilist.h"

typedef struct HttpTransfer
{
	dlist_node node; /* in one of the pool's three lists */
	CURL *easy;
	CURLU *url;
	struct curl_slist *headers;
	struct curl_slist *mail_to;
	bool is_mail;
	char *body; /* of the request */
	bool body_is_lent;
	size_t body_length;
	size_t body_read; /* of a message, by libcurl */
	bool once;
	size_t max_response;

	HttpAnswer *answer;
	size_t body_room;  /* bytes allocated for answer->body */
	char *header_text; /* name NUL value NUL ... */
	size_t header_used;
	size_t header_room;
	int tries; /* how often libcurl stood before sending the request */
	bool too_large;
	bool no_memory;
	char error[CURL_ERROR_SIZE];
} HttpTransfer;

/* The setting amzmp.ca_file. */
extern char *http_ca_file;

/* Throws, without quoting it, when the URL is malformed or forbidden. Freed by curl_url_cleanup. */
extern CURLU *http_parse_url(const char *url, bool is_mail);
extern bool http_is_loopback(const char *host);

/* NULL when there is no memory. None of the following throws. */
extern HttpTransfer *http_transfer_create(void);

/* Takes over `url` in any case. False when there is no memory: then only http_transfer_discard is allowed. */
extern bool http_transfer_configure(HttpTransfer *transfer, const HttpRequest *request, CURLU *url);

/* Fill transfer->answer. The easy handle must still be in its multi handle. */
extern void http_transfer_end(HttpTransfer *transfer, CURLcode result, bool cancelled);

/* Wipe what the request brought. The easy handle must be out of its multi handle. */
extern void http_transfer_forget_request(HttpTransfer *transfer);
extern void http_transfer_discard(HttpTransfer *transfer);

#endif
