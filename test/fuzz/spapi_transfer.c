/*
 * spapi_transfer.c
 *	  The bytes of an HTTP connection: a real libcurl reads them from a socket pair, and what its callbacks collected is a
 *	  whole answer or a fault, within its bounds.
 */
#include "postgres.h"

#include <sys/socket.h>
#include <unistd.h>

#include "http_transfer.h"

#define MOST_BODY 4096

char *http_ca_file = NULL;
int http_max_response_kb = 64;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static curl_socket_t
hand_out_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	return *(int *) arg;
}

static int
is_connected(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	return CURL_SOCKOPT_ALREADY_CONNECTED;
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
run_transfer(HttpTransfer *transfer)
{
	CURLM *multi = curl_multi_init();
	CURLMsg *message;
	CURLcode result = CURLE_OPERATION_TIMEDOUT;
	int running = 1;
	int left;

	curl_multi_add_handle(multi, transfer->easy);
	while (running > 0 && curl_multi_perform(multi, &running) == CURLM_OK)
		if (running > 0)
			curl_multi_poll(multi, NULL, 0, 10, NULL);
	while ((message = curl_multi_info_read(multi, &left)) != NULL)
		if (message->msg == CURLMSG_DONE)
			result = message->data.result;
	http_transfer_end(transfer, result, false);
	curl_multi_remove_handle(multi, transfer->easy);
	curl_multi_cleanup(multi);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	HttpRequest request = {.method = "GET", .timeout_ms = 1000, .max_response = MOST_BODY, .once = true};
	HttpTransfer *transfer = http_transfer_create();
	CURLU *url = curl_url();
	int pair[2];

	if (transfer == NULL || url == NULL || curl_url_set(url, CURLUPART_URL, "http://127.0.0.1/", 0) != CURLUE_OK ||
		socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		abort();
	if (size > 65536 || write(pair[1], data, size) != (ssize_t) size || shutdown(pair[1], SHUT_WR) != 0 ||
		!http_transfer_configure(transfer, &request, url))
		abort();
	curl_easy_setopt(transfer->easy, CURLOPT_OPENSOCKETFUNCTION, hand_out_socket);
	curl_easy_setopt(transfer->easy, CURLOPT_OPENSOCKETDATA, &pair[0]);
	curl_easy_setopt(transfer->easy, CURLOPT_SOCKOPTFUNCTION, is_connected);

	run_transfer(transfer);
	check_answer(transfer->answer);
	http_transfer_discard(transfer);
	close(pair[1]);
	return 0;
}
