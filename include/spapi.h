/*
 * spapi.h
 *	  An SP-API operation and its parameters become an HTTP request; Amazon's answers and errors are read.
 *
 * Functions over strings and answers: no SQL, no network. Only what builds throws. Tokens are lwa.c's affair.
 */
#ifndef AMZMP_SPAPI_H
#define AMZMP_SPAPI_H

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

#include "http.h"

/* What the caller read from the table amzmp.operation and the account. */
typedef struct SpapiCall
{
	const char *operation;
	const char *method;
	const char *path;     /* template: /orders/2026-01-01/orders/{orderId} */
	const char *endpoint; /* https://host, no trailing slash */
	const char *token;    /* access token, or NULL */
	Jsonb *params;        /* object; {x} of the path, the rest becomes the query; arrays are csv; NULL = none */
	const char *body;     /* JSON text or NULL */
	bool repeatable;      /* libcurl may write it again on a new connection; not where a plan or a newer value counts */
} SpapiCall;

/*
 * Fill `request` (palloc'd strings in the current context, limits left at their defaults). Throws AZ SQLSTATEs for a
 * missing path parameter or a value that has no place in a URL. Parameters whose name begins with x-amzn- become
 * headers.
 */
extern void spapi_build(const SpapiCall *call, HttpRequest *request);

/* Wipe and free what a build function made: it contains tokens and secrets. http_start has its own copy. */
extern void spapi_forget(HttpRequest *request);

/* How an answer is to be treated, by its HTTP status. */
typedef enum SpapiVerdict
{
	SPAPI_SUCCESS,
	SPAPI_RETRY,       /* 408, 429, 5xx, faults before the effect */
	SPAPI_RENEW_TOKEN, /* 401 or 403 that speaks of the access token: renew once, then retry */
	SPAPI_PERMANENT,   /* all other answers: no blind retry */
	SPAPI_UNKNOWN      /* the answer was lost (502 and 504 too): operation.after_lost_answer decides */
} SpapiVerdict;

typedef struct SpapiError
{
	char code[64];
	char message[512];
	char details[512];
	char request_id[64]; /* x-amzn-RequestId: Amazon's support asks for it; may be empty */
} SpapiError;

/* Everything in `error` is valid in the database's encoding, cut to fit, without control characters. */
extern SpapiVerdict spapi_judge(const HttpAnswer *answer, SpapiError *error);

/*
 * The body as text in the database's encoding (palloc'd) that jsonb_in accepts; NULL when it is empty, and NULL with
 * error->code filled when it is no JSON.
 */
extern char *spapi_answer_text(const HttpAnswer *answer, SpapiError *error);

/* Milliseconds before attempt number `attempt` (1 = first retry): exponential with full jitter, capped. */
extern int64 spapi_backoff_ms(int attempt, double rate, double random01);

/* value of x-amzn-RateLimit-Limit, 0 when absent or unreadable */
extern double spapi_rate_limit(const HttpAnswer *answer);

/* Percent-encode once, as UTF-8, everything outside RFC 3986's unreserved characters. */
extern void spapi_append_encoded(StringInfo to, const char *text, int length);

#endif
