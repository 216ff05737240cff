/*
 * lwa.h
 *	  Login-with-Amazon token requests: built and read here, sent by whoever needs the token.
 */
#ifndef AMZMP_LWA_H
#define AMZMP_LWA_H

#include "datatype/timestamp.h"

#include "http.h"
#include "spapi.h"
#include "token.h"

typedef enum LwaGrant
{
	LWA_REFRESH,            /* `what` is the refresh token */
	LWA_CLIENT_CREDENTIALS, /* `what` is the scope */
	LWA_AUTHORIZATION_CODE  /* `what` is the code */
} LwaGrant;

/*
 * Fill method, url, headers and body (palloc'd; the caller wipes them with spapi_forget after http_start). redirect_uri is
 * for the code's exchange only and may be NULL.
 */
extern void lwa_build_request(LwaGrant grant, const char *token_endpoint, const char *client_id, const char *client_secret,
							  const char *what, const char *redirect_uri, HttpRequest *request);

/*
 * Read the answer. SPAPI_SUCCESS: access_token is filled, *expires_in in seconds, refresh_token too when asked for (may be
 * NULL). SPAPI_PERMANENT: invalid_grant, invalid_client …, in error->code. SPAPI_RETRY: outage. SPAPI_UNKNOWN: the answer was
 * lost, which is as good as an outage for every grant but the code's, which can be exchanged once. Never throws.
 */
extern SpapiVerdict lwa_read_answer(const HttpAnswer *answer, char *access_token, size_t access_size, int *expires_in,
									char *refresh_token, size_t refresh_size, SpapiError *error);

/* What a backend needs to have a token made. `scope` is NULL for a seller's token. */
typedef struct LwaSecrets
{
	const char *token_endpoint;
	const char *client_id;
	const char *client_secret;
	const char *refresh_token;
	const char *scope;
} LwaSecrets;

/*
 * For a backend: the token from the cache, or made by us, or waited for until `deadline` when another process is making
 * it. `token` has room for TOKEN_MAX_LENGTH + 1; the caller wipes it. Processes interrupts. Throws
 * ERRCODE_AMZMP_TOKEN_REFUSED, _NETWORK or _TIMEOUT.
 */
extern void lwa_wait_for_token(const TokenKey *key, const LwaSecrets *secrets, TimestampTz deadline, char *token);

/* The scope of the cache that a grantless scope (NULL = none) belongs to. */
extern TokenScope lwa_token_scope(const char *grantless_scope);

#endif
