/*
 * http.c: bytes in and out, with libmicrohttpd. It knows nothing of SP-API.
 *
 * A Call is made when the request line is read (its arrival time is taken there), filled while headers and body
 * arrive, and given to call_run(). A call that has to wait suspends its connection; one thread wakes it when its
 * time has come. Faults that spoil an answer (cut off, huge, wrong length ...) are made here.
 */
#include "sim.h"
#include "http.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <zlib.h>

#define MAX_BODY (256 * 1024 * 1024)
#define NESTED   100000

static struct MHD_Daemon *http_daemon;
static pthread_t waker;
static pthread_mutex_t wait_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wait_changed = PTHREAD_COND_INITIALIZER;
static List waiting;
static bool stopping;

static void *
on_request_line(void *cls, const char *uri, struct MHD_Connection *connection)
{
	Call *call = xalloc(sizeof(Call));
	size_t path_length = strcspn(uri, "?");

	(void) cls;
	call->arrived = clock_real();
	call->connection = connection;
	call->uri = xstrdup(uri);
	call->path = strndup(uri, path_length);
	call->query_text = uri[path_length] == '?' ? call->uri + path_length + 1 : NULL;
	return call;
}

static enum MHD_Result
on_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	Call *call = cls;

	(void) kind;
	if (call->header_count % 16 == 0)
		call->headers = realloc(call->headers, (call->header_count + 16) * sizeof(Header));
	if (call->headers == NULL)
		abort();
	call->headers[call->header_count].name = xstrdup(name);
	call->headers[call->header_count++].value = xstrdup(value == NULL ? "" : value);
	return MHD_YES;
}

static void
take_input(Call *call, const char *data, size_t size)
{
	if (call->input_length + size > MAX_BODY)
	{
		call->input_too_large = true;
		return;
	}
	if (call->input_length + size + 1 > call->input_room)
	{
		call->input_room = (call->input_length + size + 1) * 2;
		call->input = realloc(call->input, call->input_room);
		if (call->input == NULL)
			abort();
	}
	memcpy(call->input + call->input_length, data, size);
	call->input_length += size;
	call->input[call->input_length] = '\0';
}

/* An answer that is produced while it is sent, for the faults. */
typedef struct Stream
{
	char *bytes;
	size_t length;  /* of bytes */
	uint64_t total; /* announced */
	bool break_off; /* close the connection after bytes */
} Stream;

/* First the bytes; then, unless it breaks off there, a long text that is closed at the very end. */
static ssize_t
stream_read(void *cls, uint64_t position, char *out, size_t room)
{
	static const char tail[] = "\"}";
	Stream *stream = cls;
	uint64_t left = (position < stream->length || !stream->break_off) ? stream->total - position : 0;

	if (position < stream->length)
		left = stream->length - position;
	if (room > left)
		room = left;
	if (room == 0)
		return position < stream->total ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
	if (position < stream->length)
		memcpy(out, stream->bytes + position, room);
	else
		memset(out, 'a', room);
	for (int i = 0; i < 2 && position >= stream->length; i++)
		if (stream->total - 2 + i >= position && stream->total - 2 + i < position + room)
			out[stream->total - 2 + i - position] = tail[i];
	return (ssize_t) room;
}

static void
stream_free(void *cls)
{
	Stream *stream = cls;

	free(stream->bytes);
	free(stream);
}

static struct MHD_Response *
response_from_stream(char *bytes, size_t length, uint64_t total, bool break_off)
{
	Stream *stream = xalloc(sizeof(Stream));

	*stream = (Stream){bytes, length, total, break_off};
	return MHD_create_response_from_callback(total, 65536, stream_read, stream, stream_free);
}

static struct MHD_Response *
response_from_bytes(char *bytes, size_t length)
{
	return MHD_create_response_from_buffer(length, bytes, MHD_RESPMEM_MUST_FREE);
}

static char *
take_output(Call *call)
{
	char *bytes = call->output == NULL ? xstrdup("") : call->output;

	call->output = NULL;
	return bytes;
}

/* Good JSON that no sane reader follows to its depth. */
static char *
nested_arrays(void)
{
	char *bytes = xalloc(2 * NESTED);

	memset(bytes, '[', NESTED);
	memset(bytes + NESTED, ']', NESTED);
	return bytes;
}

/* The answer as the fault wants it, NULL when no fault touches the body. */
static struct MHD_Response *
spoiled_response(Call *call)
{
	static const char html[] = "<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>\n";
	size_t length = call->output_length;

	if (call->fault == NULL)
		return NULL;
	switch (call->fault->kind)
	{
		case FAULT_TRUNCATE:
			return response_from_stream(take_output(call), length / 2, length < 2 ? 2 : length, true);
		case FAULT_CONTENT_LENGTH:
			return response_from_stream(take_output(call), length, length + 64, true);
		case FAULT_HUGE:
			return response_from_stream(xstrdup("{\"padding\":\""), 12, (uint64_t) call->fault->bytes, false);
		case FAULT_NOT_JSON:
			return response_from_bytes(xstrdup(html), sizeof(html) - 1);
		case FAULT_NUL:
			return response_from_bytes(memcpy(xalloc(16), "{\"a\":\"b\0c\"}", 11), 11);
		case FAULT_BAD_UTF8:
			return response_from_bytes(xstrdup("{\"a\":\"\xC3\x28\xFF\"}"), 11);
		case FAULT_NESTED:
			return response_from_bytes(nested_arrays(), 2 * NESTED);
		case FAULT_ESCAPE:
			return response_from_bytes(xstrdup("{\"a\":\"\\u0000\"}"), 14);
		default:
			return NULL;
	}
}

static bool
accepts_gzip(const Call *call)
{
	const char *accepted = call_header(call, "accept-encoding");

	return call->compress && accepted != NULL && strstr(accepted, "gzip") != NULL && call->output_length > 200;
}

static void
compress_output(Call *call)
{
	size_t length;
	char *packed = gzip_bytes(call->output, call->output_length, &length);

	free(call->output);
	call->output = packed;
	call->output_length = length;
}

char *
gzip_bytes(const void *data, size_t length, size_t *packed_length)
{
	z_stream stream = {0};
	char *packed;

	if (deflateInit2(&stream, 5, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		abort();
	packed = xalloc(deflateBound(&stream, length));
	stream.next_in = (Bytef *) data;
	stream.avail_in = (uInt) length;
	stream.next_out = (Bytef *) packed;
	stream.avail_out = (uInt) deflateBound(&stream, length);
	deflate(&stream, Z_FINISH);
	*packed_length = stream.total_out;
	deflateEnd(&stream);
	return packed;
}

static void
add_headers(const Call *call, struct MHD_Response *response, bool packed)
{
	char text[64];

	MHD_add_response_header(response, "Date", call->date);
	MHD_add_response_header(response, "x-amzn-RequestId", call->request_id);
	if (call->status != 204)
		MHD_add_response_header(response, "Content-Type",
								call->output_type != NULL ? call->output_type : "application/json");
	if (packed)
		MHD_add_response_header(response, "Content-Encoding", "gzip");
	if (call->limit > 0 && (call->status < 300 || call->status == 400 || call->status == 404))
	{
		snprintf(text, sizeof(text), "%.10g", call->limit);
		MHD_add_response_header(response, "x-amzn-RateLimit-Limit", text);
	}
	if (call->errors != NULL)
		MHD_add_response_header(response, "x-amzn-ErrorType", json_get_text(json_array_get(call->errors, 0), "code"));
	if (call->extra_name != NULL)
		MHD_add_response_header(response, call->extra_name, call->extra_value);
}

static enum MHD_Result
send_answer(Call *call)
{
	struct MHD_Response *response;
	enum MHD_Result sent;
	bool packed = false;

	if (call->fault != NULL && (call->fault->kind == FAULT_DROP_BEFORE || call->fault->kind == FAULT_DROP_AFTER))
		return MHD_NO;
	response = spoiled_response(call);
	if (response == NULL)
	{
		packed = accepts_gzip(call);
		if (packed)
			compress_output(call);
		response = response_from_bytes(take_output(call), call->output_length);
	}
	if (response == NULL)
		return MHD_NO;
	add_headers(call, response, packed);
	sent = MHD_queue_response(call->connection, (unsigned) call->status, response);
	MHD_destroy_response(response);
	return sent;
}

static void
wait_for(Call *call)
{
	pthread_mutex_lock(&wait_lock);
	MHD_suspend_connection(call->connection);
	list_add(&waiting, call);
	pthread_cond_signal(&wait_changed);
	pthread_mutex_unlock(&wait_lock);
}

static enum MHD_Result
on_data(void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
		const char *data, size_t *size, void **request)
{
	Call *call = *request;

	(void) cls;
	(void) url;
	(void) version;
	if (call->method == NULL)
	{
		call->method = xstrdup(method);
		MHD_get_connection_values(connection, MHD_HEADER_KIND, on_header, call);
		return MHD_YES;
	}
	if (*size > 0)
	{
		take_input(call, data, *size);
		*size = 0;
		return MHD_YES;
	}
	if (!call_run(call))
	{
		wait_for(call);
		return MHD_YES;
	}
	return send_answer(call);
}

static void
on_completed(void *cls, struct MHD_Connection *connection, void **request, enum MHD_RequestTerminationCode code)
{
	(void) cls;
	(void) connection;
	(void) code;
	if (*request != NULL)
		call_free(*request);
	*request = NULL;
}

/* Wakes what is due, returns when the next one is. */
static Micros
wake_due(void)
{
	Micros now = clock_real();
	Micros next = now + SECOND;
	size_t kept = 0;

	for (size_t i = 0; i < waiting.count; i++)
	{
		Call *call = waiting.at[i];

		if (stopping || call->resume_at <= now)
			MHD_resume_connection(call->connection);
		else
		{
			next = call->resume_at < next ? call->resume_at : next;
			waiting.at[kept++] = call;
		}
	}
	waiting.count = kept;
	return next;
}

static void *
waker_main(void *arg)
{
	(void) arg;
	pthread_mutex_lock(&wait_lock);
	while (!stopping)
	{
		Micros next = wake_due();
		struct timespec until = {next / SECOND, next % SECOND * 1000};

		if (waiting.count == 0)
			pthread_cond_wait(&wait_changed, &wait_lock);
		else
			pthread_cond_timedwait(&wait_changed, &wait_lock, &until);
	}
	wake_due();
	pthread_mutex_unlock(&wait_lock);
	return NULL;
}

int
http_start(const struct sockaddr_in *address, const char *certificate, const char *key, unsigned threads)
{
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_SUPPRESS_DATE_NO_CLOCK;
	struct MHD_OptionItem tls[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, (void *) certificate},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, (void *) key},
		{MHD_OPTION_END, 0, NULL},
	};
	struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
	const union MHD_DaemonInfo *info;

	if (certificate != NULL)
		flags |= MHD_USE_TLS;
	http_daemon =
		MHD_start_daemon(flags, 0, NULL, NULL, on_data, NULL, MHD_OPTION_SOCK_ADDR, address,
						 MHD_OPTION_THREAD_POOL_SIZE, threads, MHD_OPTION_CONNECTION_LIMIT, 4000u,
						 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) 65536, MHD_OPTION_LISTEN_BACKLOG_SIZE, 1024u,
						 MHD_OPTION_URI_LOG_CALLBACK, on_request_line, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
						 NULL, MHD_OPTION_ARRAY, certificate != NULL ? tls : none, MHD_OPTION_END);
	if (http_daemon == NULL)
		return -1;
	if (pthread_create(&waker, NULL, waker_main, NULL) != 0)
		abort();
	info = MHD_get_daemon_info(http_daemon, MHD_DAEMON_INFO_BIND_PORT);
	return info == NULL ? -1 : info->port;
}

void
http_stop(void)
{
	pthread_mutex_lock(&wait_lock);
	stopping = true;
	pthread_cond_signal(&wait_changed);
	pthread_mutex_unlock(&wait_lock);
	pthread_join(waker, NULL);
	MHD_stop_daemon(http_daemon);
}
