/*
 * bare_loop.c
 *	  The bare peer of the sender: requests through one curl_multi handle, with no database behind them.
 *
 *	  bare_loop COUNT CONNECTIONS METHOD URL [CA-FILE] < BODY
 *
 * "%d" in the URL becomes the number of the request, from 1. The access token is taken from ACCESS_TOKEN, the body's type
 * from CONTENT_TYPE. Prints requests per second and how many were answered with 2xx; with COUNT 1 the answer's body goes before that. It holds as many easy
 * handles as connections and starts the next request when one ends.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_BODY 65536
#define MOST_URL  2048

typedef struct Loop
{
	CURLM *multi;
	struct curl_slist *headers;
	const char *method;
	const char *url;
	const char *ca_file;
	char body[MOST_BODY];
	size_t body_length;
	long count;
	long started;
	long ended;
	long good;
} Loop;

static void
die(const char *why)
{
	fprintf(stderr, "bare_loop: %s\n", why);
	exit(1);
}

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static size_t
on_body(char *data, size_t size, size_t count, void *arg)
{
	const Loop *loop = arg;

	if (loop->count == 1)
		fwrite(data, size, count, stdout);
	return size * count;
}

static void
read_body(Loop *loop)
{
	loop->body_length = fread(loop->body, 1, sizeof(loop->body), stdin);
	if (loop->body_length == sizeof(loop->body))
		die("the body is too long");
}

static void
make_headers(Loop *loop)
{
	const char *token = getenv("ACCESS_TOKEN");
	const char *type = getenv("CONTENT_TYPE");
	char line[4096];

	snprintf(line, sizeof(line), "Content-Type: %s", type != NULL ? type : "application/json");
	loop->headers = curl_slist_append(NULL, line);
	loop->headers = curl_slist_append(loop->headers, "User-Agent: bench/1.0 (Language=C)");
	loop->headers = curl_slist_append(loop->headers, "Expect:");
	if (token == NULL)
		return;
	snprintf(line, sizeof(line), "x-amz-access-token: %s", token);
	loop->headers = curl_slist_append(loop->headers, line);
}

static void
make_url(const Loop *loop, char *url)
{
	const char *place = strstr(loop->url, "%d");

	if (place == NULL)
		snprintf(url, MOST_URL, "%s", loop->url);
	else
		snprintf(url, MOST_URL, "%.*s%ld%s", (int) (place - loop->url), loop->url, loop->started, place + 2);
}

static CURL *
make_handle(Loop *loop)
{
	CURL *easy = curl_easy_init();

	if (easy == NULL)
		die("out of memory");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, loop->method);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, loop->headers);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, loop);
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	if (loop->ca_file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, loop->ca_file);
	if (loop->body_length > 0)
	{
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long) loop->body_length);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, loop->body);
	}
	return easy;
}

static void
start(Loop *loop, CURL *easy)
{
	char url[MOST_URL];

	loop->started++;
	make_url(loop, url);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	if (curl_multi_add_handle(loop->multi, easy) != CURLM_OK)
		die("a request cannot be added");
}

static void
end(Loop *loop, CURL *easy, CURLcode result)
{
	long status = 0;

	if (result != CURLE_OK)
		die(curl_easy_strerror(result));
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	loop->ended++;
	loop->good += status >= 200 && status < 300;
	curl_multi_remove_handle(loop->multi, easy);
	if (loop->started < loop->count)
		start(loop, easy);
	else
		curl_easy_cleanup(easy);
}

static void
run(Loop *loop)
{
	CURLMsg *message;
	int running;
	int left;

	while (loop->ended < loop->count)
	{
		curl_multi_perform(loop->multi, &running);
		while ((message = curl_multi_info_read(loop->multi, &left)) != NULL)
			end(loop, message->easy_handle, message->data.result);
		if (running > 0)
			curl_multi_poll(loop->multi, NULL, 0, 1000, NULL);
	}
}

int
main(int argc, char **argv)
{
	static Loop loop;
	int connections;
	double began;

	if (argc < 5)
		die("usage: bare_loop COUNT CONNECTIONS METHOD URL [CA-FILE] < BODY");
	loop.count = atol(argv[1]);
	connections = atoi(argv[2]);
	loop.method = argv[3];
	loop.url = argv[4];
	loop.ca_file = argc > 5 ? argv[5] : NULL;
	curl_global_init(CURL_GLOBAL_DEFAULT);
	read_body(&loop);
	make_headers(&loop);
	loop.multi = curl_multi_init();
	curl_multi_setopt(loop.multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) connections);

	began = seconds();
	for (int i = 0; i < connections && i < loop.count; i++)
		start(&loop, make_handle(&loop));
	run(&loop);
	fprintf(loop.count == 1 ? stderr : stdout, "%.0f %ld\n", (double) loop.count / (seconds() - began), loop.good);
	curl_multi_cleanup(loop.multi);
	curl_slist_free_all(loop.headers);
	curl_global_cleanup();
	return 0;
}
