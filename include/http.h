/*
 * http.h
 *	  Concurrent HTTP for one process: curl_multi inside PostgreSQL's wait-event loop. Knows nothing of Amazon.
 */
#ifndef AMZMP_HTTP_H
#define AMZMP_HTTP_H

typedef enum HttpFault
{
	HTTP_OK = 0,      /* an answer arrived whole, whatever its status */
	HTTP_NOT_SENT,    /* failed before the request can have had an effect (resolve, connect, TLS) */
	HTTP_ANSWER_LOST, /* the request may have had its effect, the answer did not arrive whole */
	HTTP_TOO_LARGE,   /* the answer exceeded max_response */
	HTTP_CANCELLED
} HttpFault;

/* Everything is copied by http_start; strings may live anywhere. A body that is lent is not copied. */
typedef struct HttpRequest
{
	const char *method; /* "GET", "PUT", ... */
	const char *url;
	const char *const *headers; /* "Name: value", NULL-terminated array */
	const char *body;           /* NULL = none */
	size_t body_length;
	bool body_is_lent;          /* it stays where it is until the answer is there (a large one is held once) */
	int timeout_ms;             /* whole transfer */
	size_t max_response;        /* bytes */
	const char *aws_sigv4;      /* "aws:amz:REGION:SERVICE" or NULL */
	const char *user_password;  /* "access:secret" for SigV4, "user:password" for a mail server, or NULL */
	const char *mail_from;      /* then the URL is smtp or smtps, and the body a whole message; status is SMTP's code */
	const char *const *mail_to; /* NULL-terminated */
	bool once;                  /* libcurl must not repeat it by itself when a reused connection turns out dead */
	void *tag;                  /* returned with the answer */
} HttpRequest;

typedef struct HttpHeader
{
	char *name; /* lower case */
	char *value;
} HttpHeader;

typedef struct HttpAnswer
{
	void *tag;
	HttpFault fault;
	bool sent;  /* something of the request may have reached the server */
	int status; /* 0 unless HTTP_OK */
	char *body; /* malloc'd, NUL-terminated behind body_length; never NULL when HTTP_OK */
	size_t body_length;
	HttpHeader *headers;
	int header_count;
	int64 total_us, connect_us, first_byte_us;
	char error[256]; /* plain words when fault != HTTP_OK; never a secret */
} HttpAnswer;

typedef struct HttpPool HttpPool;

/* Settings: amzmp.max_connections, amzmp.max_response (kB). Defined once at load. */
extern int http_max_connections;
extern int http_max_response_kb;

extern void http_define_settings(void);

/*
 * A pool is made lazily and lives as long as `lifetime`: a callback of that context destroys it. Fewer connections
 * than asked for may be had when the process is short of descriptors.
 */
extern HttpPool *http_pool_create(MemoryContext lifetime, int max_connections);
extern void http_pool_resize(HttpPool *pool, int max_connections);

/* Begin a transfer. Throws only for a URL or scheme that the settings forbid. */
extern void http_start(HttpPool *pool, const HttpRequest *request);
extern int http_in_flight(const HttpPool *pool);

/*
 * Wait for sockets, the process latch, or timeout_ms (-1 = none), whichever is first, and let libcurl work.
 * Returns true when the latch was set (and resets it). Does not process interrupts: the caller does.
 */
extern bool http_wait(HttpPool *pool, long timeout_ms, uint32 wait_event);

/* Next finished transfer or NULL. The answer belongs to the caller: http_answer_free. */
extern HttpAnswer *http_next_answer(HttpPool *pool);
extern void http_answer_free(HttpAnswer *answer);
extern const char *http_answer_header(const HttpAnswer *answer, const char *lower_case_name);

/* The header Date as seconds since 1970, 0 when absent or unreadable. */
extern int64 http_answer_date(const HttpAnswer *answer);

/* Convenience for a backend: one request, waiting with interrupts processed; an error cancels it. */
extern HttpAnswer *http_perform(const HttpRequest *request);

#endif
