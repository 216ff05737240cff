/*
 * spapi_transfer.c
 *	  The bytes of an HTTP connection: a real libcurl reads them from a socket, and what its callbacks collected is a
 *	  whole answer or a fault, within its bounds.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "http_transfer.h"

#define MOST_BODY 4096

char *http_ca_file = NULL;
int http_max_response_kb = 64;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A name in the abstract space: no file, and gone with the process. */
static char *
listener_name(void)
{
	static char name[64];

	snprintf(name, sizeof(name), "amzmp-fuzz-%d", (int) getpid());
	return name;
}

static int
listener(void)
{
	static int fd = -1;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(listener_name());

	if (fd >= 0)
		return fd;
	memcpy(address.sun_path + 1, listener_name(), length);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *) &address, offsetof(struct sockaddr_un, sun_path) + 1 + length) != 0 ||
		listen(fd, 8) != 0)
		abort();
	return fd;
}

/* Accept libcurl's connection if it has come, and say all that there is to say. The request is never read. */
static void
serve(int *connection, const uint8_t *data, size_t size)
{
	if (*connection >= 0 || (*connection = accept(listener(), NULL, NULL)) < 0)
		return;
	if (send(*connection, data, size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t) size)
		abort();
	shutdown(*connection, SHUT_WR);
}

static void
check_answer(const HttpAnswer *answer)
{
	int i;

	if (answer->fault != HTTP_OK)
	{
		if (answer->body != NULL || answer->header_count != 0 || answer->error[0] == '\0')
			abort();
		return;
	}
	if (answer->body_length > MOST_BODY || answer->body[answer->body_length] != '\0')
		abort();
	for (i = 0; i < answer->header_count; i++)
		if (answer->headers[i].name[0] == '\0' || strchr(answer->headers[i].value, '\n') != NULL)
			abort();
	(void) http_answer_date(answer);
}

/* As http.c does it, but one at a time: perform until libcurl has reached a result. */
static void
run_transfer(HttpTransfer *transfer, const uint8_t *data, size_t size)
{
	CURLM *multi = curl_multi_init();
	CURLMsg *message;
	CURLcode result = CURLE_OPERATION_TIMEDOUT;
	int connection = -1;
	int running = 1;
	int left;

	curl_multi_add_handle(multi, transfer->easy);
	while (running > 0 && curl_multi_perform(multi, &running) == CURLM_OK)
	{
		serve(&connection, data, size);
		if (running > 0)
			curl_multi_poll(multi, NULL, 0, 1, NULL);
	}
	while ((message = curl_multi_info_read(multi, &left)) != NULL)
		if (message->msg == CURLMSG_DONE)
			result = message->data.result;
	http_transfer_end(transfer, result, false);
	curl_multi_remove_handle(multi, transfer->easy);
	curl_multi_cleanup(multi);

	/* Were it never so, this would test nothing. */
	if (connection < 0 || !transfer->answer->sent)
		abort();
	close(connection);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	HttpRequest request = {.method = "GET",
						   .url = "http://127.0.0.1/",
						   .timeout_ms = 1000,
						   .max_response = MOST_BODY,
						   .once = true};
	HttpTransfer *transfer = http_transfer_create();
	CURLU *url = curl_url();

	(void) listener();
	if (transfer == NULL || url == NULL || curl_url_set(url, CURLUPART_URL, "http://127.0.0.1/", 0) != CURLUE_OK ||
		!http_transfer_configure(transfer, &request, url))
		abort();
	curl_easy_setopt(transfer->easy, CURLOPT_ABSTRACT_UNIX_SOCKET, listener_name());

	run_transfer(transfer, data, size);
	check_answer(transfer->answer);
	http_transfer_discard(transfer);
	return 0;
}
