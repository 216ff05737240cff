/*
 * spapi.h
 *	  An SP-API operation and its parameters become an HTTP request; Amazon's answers and errors are read.
 *
 * Functions over strings and answers: no SQL, no network. Only spapi_build and spapi_build_token_request throw.
 */
#ifndef AMZMP_SPAPI_H
#define AMZMP_SPAPI_H

#include "http.h"
#include "token.h"
#include "utils/jsonb.h"

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
	bool repeatable;      /* doing it twice is harmless: it reads, or operation.after_lost_answer = 'repeat' */
} SpapiCall;

/*
 * Fill `request` (palloc'd strings in the current context, limits left at their defaults). Throws AZ SQLSTATEs for a
 * missing path parameter or a value that has no place in a URL. Parameters whose name begins with x-amzn- become
 * headers.
 */
extern void spapi_build(const SpapiCall *call, HttpRequest *request);

/* Wipe and free what a build function made: it contains tokens and secrets. http_start has its own copy. */
extern void spapi_forget(HttpRequest *request);

/* How an answer is to be treated, FACTS of HTTP codes. */
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

typedef enum SpapiGrant
{
	SPAPI_GRANT_REFRESH,     /* refresh_token */
	SPAPI_GRANT_CREDENTIALS, /* scope */
	SPAPI_GRANT_CODE         /* code and redirect_uri */
} SpapiGrant;

typedef struct SpapiTokenCall
{
	SpapiGrant grant;
	const char *token_endpoint; /* whole URL */
	const char *client_id;
	const char *client_secret;
	const char *refresh_token;
	const char *scope;
	const char *code;
	const char *redirect_uri; /* may be NULL */
} SpapiTokenCall;

extern void spapi_build_token_request(const SpapiTokenCall *call, HttpRequest *request);

/* What Login with Amazon gave. The caller wipes it. */
typedef struct SpapiToken
{
	char access_token[TOKEN_MAX_LENGTH + 1];
	char refresh_token[TOKEN_MAX_LENGTH + 1]; /* empty when there was none */
	int expires_in;                           /* seconds */
} SpapiToken;

/* Never SPAPI_RENEW_TOKEN. SPAPI_UNKNOWN (the answer was lost) may be retried for every grant but the code's. */
extern SpapiVerdict spapi_read_token(const HttpAnswer *answer, SpapiToken *token, SpapiError *error);

#endif
