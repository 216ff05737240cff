/*
 * http_transfer.c
 *	  One HTTP request: how it is set up, what libcurl reports about it, and the answer made of that.
 *
 * A transfer is malloc'd with its easy handle, is configured for one request after another, and ends with
 * http_transfer_discard. When many of them are served is http.c's affair.
 *
 * Nothing here throws (what is no allowed URL was refused by http_url.c). Everything libcurl or a callback fills is malloc'd, because palloc throws, and whatever may
 * hold a secret is wiped before it is freed.
 */
#include "postgres.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include "errcodes.h"
#include "http_transfer.h"

#if !CURL_AT_LEAST_VERSION(7, 80, 0)
#error "amzmp needs libcurl 7.80 or later"
#endif

#define DEFAULT_TIMEOUT_MS 60000
#define CONNECT_TIMEOUT_MS 10000
#define MAIL_PATIENCE_S    20   /* for each word of a mail server */
#define LOW_SPEED_BYTES    1    /* a transfer slower than this ... */
#define LOW_SPEED_SECONDS  60   /* ... for so long has died; long polls answer within 20 s */
#define FIRST_BODY_ROOM    8192 /* holds any token answer, so that growing leaves no copy of a secret behind */
#define MOST_HEADER_BYTES  65536
#define MAX_IDLE_S         45 /* load balancers drop idle connections after a minute; that must not look like a lost answer */

static void release_request(HttpTransfer *transfer);

/*---------------------------------------------------------------------------------------------------------------
 * What libcurl calls. Nothing here may throw or call libcurl.
 */

/* Programs that the server starts (COPY ... PROGRAM, archive commands) must not inherit our connections. */
static curl_socket_t
on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/*
 * The connection stands and the request is about to be written. That libcurl comes here a second time means that it
 * found a reused connection dead; whether the first writing reached anybody is unknown.
 */
static int
on_before_request(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	HttpTransfer *transfer = arg;

	if (transfer->once && transfer->tries > 0)
		return CURL_PREREQFUNC_ABORT;
	transfer->tries++;
	return CURL_PREREQFUNC_OK;
}

/* Make *buffer hold at least `needed` bytes, doubling. False when there is no memory. */
static bool
make_room(char **buffer, size_t *room, size_t needed, size_t first)
{
	size_t larger = *room == 0 ? first : *room;
	char *moved;

	if (needed <= *room)
		return true;
	while (larger < needed)
		larger *= 2;
	moved = realloc(*buffer, larger);
	if (moved == NULL)
		return false;
	*buffer = moved;
	*room = larger;
	return true;
}

static size_t
on_body(char *data, size_t size, size_t count, void *arg)
{
	HttpTransfer *transfer = arg;
	HttpAnswer *answer = transfer->answer;
	size_t length = size * count;

	if (length > transfer->max_response - answer->body_length)
	{
		transfer->too_large = true;
		return CURL_WRITEFUNC_ERROR;
	}
	if (!make_room(&answer->body, &transfer->body_room, answer->body_length + length + 1, FIRST_BODY_ROOM))
	{
		transfer->no_memory = true;
		return CURL_WRITEFUNC_ERROR;
	}
	memcpy(answer->body + answer->body_length, data, length);
	answer->body_length += length;
	return length;
}

/*
 * libcurl waits inside a call for a mail server's last words and its farewell, and calls this each second. Signals are
 * blocked meanwhile (http.c), so whether we are to end shows in those that are pending.
 */
static int
on_progress(void *arg, curl_off_t to_get, curl_off_t got, curl_off_t to_send, curl_off_t sent)
{
	sigset_t pending;

	return sigpending(&pending) == 0 && sigismember(&pending, SIGTERM) == 1;
}

/* A message is read by libcurl piece by piece. */
static size_t
on_read(char *buffer, size_t size, size_t count, void *arg)
{
	HttpTransfer *transfer = arg;
	size_t length = Min(size * count, transfer->body_length - transfer->body_read);

	memcpy(buffer, transfer->body + transfer->body_read, length);
	transfer->body_read += length;
	return length;
}

/* Keep "Name: value" as "name" NUL "value" NUL. A status line begins a new answer: what came before was interim. */
static size_t
on_header(char *line, size_t size, size_t count, void *arg)
{
	HttpTransfer *transfer = arg;
	size_t length = size * count;
	char *colon = memchr(line, ':', length);
	char *end = line + length;
	char *value;
	char *to;

	if (length >= 5 && memcmp(line, "HTTP/", 5) == 0)
	{
		transfer->header_used = 0;
		transfer->answer->header_count = 0;
		return length;
	}
	if (colon == NULL || colon == line)
		return length;

	for (value = colon + 1; value < end && (*value == ' ' || *value == '\t'); value++)
		;
	while (end > value && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ' || end[-1] == '\t'))
		end--;

	if (transfer->header_used + length + 2 > MOST_HEADER_BYTES)
	{
		transfer->too_large = true;
		return CURL_WRITEFUNC_ERROR;
	}
	if (!make_room(&transfer->header_text, &transfer->header_room, transfer->header_used + length + 2, 1024))
	{
		transfer->no_memory = true;
		return CURL_WRITEFUNC_ERROR;
	}

	to = transfer->header_text + transfer->header_used;
	for (; line < colon; line++)
		*to++ = (*line >= 'A' && *line <= 'Z') ? *line + ('a' - 'A') : *line;
	*to++ = '\0';
	memcpy(to, value, end - value);
	to += end - value;
	*to++ = '\0';
	transfer->header_used = to - transfer->header_text;
	transfer->answer->header_count++;
	return length;
}

/*---------------------------------------------------------------------------------------------------------------
 * Setting up
 */

/* Options that never change while the easy handle lives. */
static bool
prepare_easy(HttpTransfer *transfer)
{
	CURL *easy = transfer->easy;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_before_request);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);

	/* The resolver must neither raise signals nor hold up the end of a transfer or of the process. */
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
#if CURL_AT_LEAST_VERSION(7, 87, 0)
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif

	/* A SKU may look like a dot segment; it is our caller who decides what a path means. */
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long) MAX_IDLE_S);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) CONNECT_TIMEOUT_MS);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, (long) LOW_SPEED_BYTES);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long) LOW_SPEED_SECONDS);

	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);

	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);

	/* Only without a directory does libcurl keep the parsed authorities; parsing them costs 20 times a handshake. */
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);

	/* An empty proxy is the one way to say that the environment's is not to be used. */
#if CURL_AT_LEAST_VERSION(7, 85, 0)
	if (curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https,smtp,smtps") != CURLE_OK)
		return false;
#else
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS | CURLPROTO_SMTP | CURLPROTO_SMTPS);
#endif
	return curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK;
}

HttpTransfer *
http_transfer_create(void)
{
	HttpTransfer *transfer = calloc(1, sizeof(HttpTransfer));

	if (transfer == NULL)
		return NULL;
	transfer->easy = curl_easy_init();
	if (transfer->easy == NULL || !prepare_easy(transfer))
	{
		http_transfer_discard(transfer);
		return NULL;
	}
	return transfer;
}

void
http_transfer_discard(HttpTransfer *transfer)
{
	if (transfer->easy != NULL)
		curl_easy_cleanup(transfer->easy);
	release_request(transfer);
	if (transfer->answer != NULL)
		http_answer_free(transfer->answer);
	free(transfer->header_text);
	free(transfer);
}

/* Wipe and free what the request brought: it may hold tokens, secrets, addresses. */
static void
release_request(HttpTransfer *transfer)
{
	struct curl_slist *header;

	for (header = transfer->headers; header != NULL; header = header->next)
		explicit_bzero(header->data, strlen(header->data));
	curl_slist_free_all(transfer->headers);
	transfer->headers = NULL;
	curl_slist_free_all(transfer->mail_to);
	transfer->mail_to = NULL;

	if (transfer->body != NULL && !transfer->body_is_lent)
	{
		explicit_bzero(transfer->body, transfer->body_length);
		free(transfer->body);
	}
	transfer->body = NULL;
	curl_url_cleanup(transfer->url);
	transfer->url = NULL;
}

/* A method that usually carries a body says "Content-Length: 0" when it has none. */
static bool
expects_body(const HttpRequest *request)
{
	return request->body != NULL || strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0 ||
		   strcmp(request->method, "PATCH") == 0;
}

static bool
add_header(HttpTransfer *transfer, const char *line)
{
	struct curl_slist *longer = curl_slist_append(transfer->headers, line);

	if (longer == NULL)
		return false;
	transfer->headers = longer;
	return true;
}

static bool
copy_headers(HttpTransfer *transfer, const HttpRequest *request)
{
	const char *const *line;
	bool has_type = false;

	for (line = request->headers; line != NULL && *line != NULL; line++)
	{
		if (!add_header(transfer, *line))
			return false;
		has_type = has_type || pg_strncasecmp(*line, "content-type:", 13) == 0;
	}

	/* Without these, libcurl would claim to send a form and wait for a go-ahead before a large body. */
	if (!expects_body(request))
		return true;
	if (!has_type && !add_header(transfer, "Content-Type:"))
		return false;
	/* libcurl would sign the header that it leaves out; what is signed is small */
	return request->aws_sigv4 != NULL || add_header(transfer, "Expect:");
}

static bool
take_body(HttpTransfer *transfer, const HttpRequest *request)
{
	transfer->body_length = request->body != NULL ? request->body_length : 0;
	transfer->body_is_lent = request->body != NULL && request->body_is_lent;
	if (transfer->body_is_lent)
	{
		transfer->body = (char *) request->body;
		return true;
	}
	transfer->body = malloc(transfer->body_length + 1);
	if (transfer->body == NULL)
		return false;
	if (transfer->body_length > 0)
		memcpy(transfer->body, request->body, transfer->body_length);
	transfer->body[transfer->body_length] = '\0';
	return true;
}

/*
 * A mail: the server must speak TLS before it hears a word of ours, unless it is on this machine. A connection is not used
 * again: mail servers close idle ones, and an alarm must not find that out.
 */
static bool
configure_mail(HttpTransfer *transfer, const HttpRequest *request)
{
	CURL *easy = transfer->easy;
	char *host = NULL;
	bool here = curl_url_get(transfer->url, CURLUPART_HOST, &host, 0) == CURLUE_OK && http_is_loopback(host);

	curl_free(host);
	for (const char *const *to = request->mail_to; *to != NULL; to++)
	{
		struct curl_slist *longer = curl_slist_append(transfer->mail_to, *to);

		if (longer == NULL)
			return false;
		transfer->mail_to = longer;
	}
	if (!take_body(transfer, request))
		return false;
	transfer->body_read = 0;
	curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(easy, CURLOPT_SERVER_RESPONSE_TIMEOUT, (long) MAIL_PATIENCE_S);
	curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t) transfer->body_length);
	curl_easy_setopt(easy, CURLOPT_MAIL_RCPT, transfer->mail_to);
	return curl_easy_setopt(easy, CURLOPT_MAIL_FROM, request->mail_from) == CURLE_OK &&
		   curl_easy_setopt(easy, CURLOPT_USE_SSL, (long) (here ? CURLUSESSL_TRY : CURLUSESSL_ALL)) == CURLE_OK;
}

static bool
configure_http(HttpTransfer *transfer, const HttpRequest *request)
{
	CURL *easy = transfer->easy;

	if (!copy_headers(transfer, request))
		return false;
	curl_easy_setopt(easy, CURLOPT_UPLOAD, 0L);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 1L);
	if (!expects_body(request))
	{
		curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
		return true;
	}
	if (!take_body(transfer, request))
		return false;
	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) transfer->body_length);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, transfer->body);
	return true;
}

/* Options of this request. All of them are set each time: the handle remembers those of its last transfer. */
bool
http_transfer_configure(HttpTransfer *transfer, const HttpRequest *request, CURLU *url)
{
	CURL *easy = transfer->easy;
	int timeout_ms = request->timeout_ms > 0 ? request->timeout_ms : DEFAULT_TIMEOUT_MS;
	bool fine = true;

	transfer->url = url;
	transfer->is_mail = request->mail_from != NULL;
	transfer->answer = calloc(1, sizeof(HttpAnswer));
	if (transfer->answer == NULL)
		return false;
	transfer->answer->tag = request->tag;
	if (!(transfer->is_mail ? configure_mail(transfer, request) : configure_http(transfer, request)))
		return false;

	fine &= curl_easy_setopt(easy, CURLOPT_CURLU, transfer->url) == CURLE_OK;
	fine &= curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, transfer->is_mail ? NULL : request->method) == CURLE_OK;
	fine &= curl_easy_setopt(easy, CURLOPT_CAINFO, http_ca_file) == CURLE_OK;
	fine &= curl_easy_setopt(easy, CURLOPT_AWS_SIGV4, request->aws_sigv4) == CURLE_OK;
	fine &= curl_easy_setopt(easy, CURLOPT_USERPWD, request->user_password) == CURLE_OK;
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) timeout_ms);
	curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, transfer->is_mail ? 1L : 0L);

	/*
	 * One HTTP/2 connection carries many requests, if we wait to learn whether there is one: the TLS handshake tells.
	 * Without TLS only the first answer would, and a request that hangs would hold up all others.
	 */
	curl_easy_setopt(easy, CURLOPT_PIPEWAIT, pg_strncasecmp(request->url, "https:", 6) == 0 ? 1L : 0L);

	transfer->max_response = request->max_response > 0 ? request->max_response : (size_t) http_max_response_kb * 1024;
	curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) transfer->max_response);

	transfer->once = request->once;
	transfer->tries = 0;
	transfer->too_large = transfer->no_memory = false;
	transfer->body_room = transfer->header_used = 0;
	transfer->error[0] = '\0';
	return fine;
}

/*---------------------------------------------------------------------------------------------------------------
 * The answer
 */

static HttpFault
classify(const HttpTransfer *transfer, CURLcode result, bool cancelled)
{
	if (cancelled)
		return HTTP_CANCELLED;
	if (transfer->too_large || result == CURLE_FILESIZE_EXCEEDED)
		return HTTP_TOO_LARGE;
	if (result == CURLE_OK && !transfer->no_memory)
		return HTTP_OK;

	/* Before it writes the first byte, libcurl has told us so. */
	return transfer->tries == 0 ? HTTP_NOT_SENT : HTTP_ANSWER_LOST;
}

/* Words of libcurl, perhaps with bytes of the other side in them: printable ASCII only. */
static void
describe_fault(HttpTransfer *transfer, CURLcode result)
{
	HttpAnswer *answer = transfer->answer;
	const char *words = transfer->error[0] != '\0' ? transfer->error : curl_easy_strerror(result);
	char *c;

	if (answer->fault == HTTP_CANCELLED)
		words = "the request was cancelled";
	else if (answer->fault == HTTP_TOO_LARGE)
		words = "the answer is larger than allowed";
	else if (transfer->no_memory)
		words = "out of memory while receiving the answer";
	else if (result == CURLE_ABORTED_BY_CALLBACK)
		words = "the connection was lost while the request was being sent";

	strlcpy(answer->error, words, sizeof(answer->error));
	for (c = answer->error; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

/* Hand the collected headers to the answer as an array of pairs in one block. False when there is no memory. */
static bool
hand_over_headers(HttpTransfer *transfer)
{
	HttpAnswer *answer = transfer->answer;
	size_t array_size = sizeof(HttpHeader) * answer->header_count;
	char *text;
	int i;

	if (answer->header_count == 0)
		return true;
	answer->headers = malloc(array_size + transfer->header_used);
	if (answer->headers == NULL)
	{
		answer->header_count = 0;
		return false;
	}
	text = (char *) answer->headers + array_size;
	memcpy(text, transfer->header_text, transfer->header_used);
	for (i = 0; i < answer->header_count; i++)
	{
		answer->headers[i].name = text;
		text += strlen(text) + 1;
		answer->headers[i].value = text;
		text += strlen(text) + 1;
	}
	return true;
}

static bool
hand_over_answer(HttpTransfer *transfer)
{
	HttpAnswer *answer = transfer->answer;
	long status = 0;

	if (!make_room(&answer->body, &transfer->body_room, answer->body_length + 1, 1) || !hand_over_headers(transfer))
		return false;
	answer->body[answer->body_length] = '\0';
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	answer->status = (int) status;
	return true;
}

static void
note_timings(HttpTransfer *transfer)
{
	HttpAnswer *answer = transfer->answer;
	curl_off_t total = 0;
	curl_off_t connect = 0;
	curl_off_t first_byte = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_TOTAL_TIME_T, &total);
	curl_easy_getinfo(transfer->easy, CURLINFO_PRETRANSFER_TIME_T, &connect);
	curl_easy_getinfo(transfer->easy, CURLINFO_STARTTRANSFER_TIME_T, &first_byte);
	answer->total_us = total;
	answer->connect_us = connect;
	answer->first_byte_us = first_byte;
}

/* It may hold a token or a buyer's address. */
static void
drop_body(HttpAnswer *answer)
{
	if (answer->body == NULL)
		return;
	explicit_bzero(answer->body, answer->body_length);
	free(answer->body);
	answer->body = NULL;
	answer->body_length = 0;
}

/*
 * A mail server's refusal is an answer, though libcurl calls it an error. A smaller code is one of an earlier step, before
 * the connection broke.
 */
static bool
mail_was_refused(const HttpTransfer *transfer, CURLcode result, bool cancelled)
{
	long code = 0;

	if (!transfer->is_mail || cancelled || result == CURLE_OK)
		return false;
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &code);
	transfer->answer->status = (int) code;
	return code >= 400;
}

void
http_transfer_end(HttpTransfer *transfer, CURLcode result, bool cancelled)
{
	HttpAnswer *answer = transfer->answer;

	answer->sent = transfer->tries > 0;
	note_timings(transfer);
	if (mail_was_refused(transfer, result, cancelled))
	{
		describe_fault(transfer, result);
		drop_body(answer);
		answer->header_count = 0;
		return;
	}
	answer->status = 0;
	answer->fault = classify(transfer, result, cancelled);
	if (answer->fault == HTTP_OK && !hand_over_answer(transfer))
	{
		transfer->no_memory = true;
		answer->fault = HTTP_ANSWER_LOST;
	}
	if (answer->fault != HTTP_OK)
	{
		describe_fault(transfer, result);
		drop_body(answer);
		answer->header_count = 0;
	}
}

/* The easy handle keeps pointers into the request, and a copy of the password. */
void
http_transfer_forget_request(HttpTransfer *transfer)
{
	curl_easy_setopt(transfer->easy, CURLOPT_USERPWD, NULL);
	curl_easy_setopt(transfer->easy, CURLOPT_CURLU, NULL);
	curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, NULL);
	curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDS, NULL);
	curl_easy_setopt(transfer->easy, CURLOPT_MAIL_FROM, NULL);
	curl_easy_setopt(transfer->easy, CURLOPT_MAIL_RCPT, NULL);
	release_request(transfer);
}

void
http_answer_free(HttpAnswer *answer)
{
	drop_body(answer);
	free(answer->headers);
	free(answer);
}

const char *
http_answer_header(const HttpAnswer *answer, const char *lower_case_name)
{
	int i;

	for (i = 0; i < answer->header_count; i++)
		if (strcmp(answer->headers[i].name, lower_case_name) == 0)
			return answer->headers[i].value;
	return NULL;
}

int64
http_answer_date(const HttpAnswer *answer)
{
	const char *date = http_answer_header(answer, "date");
	time_t seconds = date != NULL ? curl_getdate(date, NULL) : -1;

	return seconds < 0 ? 0 : (int64) seconds;
}
