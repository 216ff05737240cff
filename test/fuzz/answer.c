/*
 * answer.c
 *	  Fuzzed bytes as an answer of Amazon. Its memory is malloc'd as the real one's: http_answer_free frees it.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "answer.h"

static char *
copy_bytes(const uint8_t *data, size_t size)
{
	char *copy = malloc(size + 1);

	if (copy == NULL)
		abort();
	if (size > 0)
		memcpy(copy, data, size);
	copy[size] = '\0';
	return copy;
}

/* One line of the input is the value of every header that we look at. */
static void
make_headers(HttpAnswer *answer, char *value)
{
	static char *const names[] = {"x-amzn-requestid", "x-amzn-ratelimit-limit", "date"};
	size_t i;

	answer->headers = malloc(sizeof(HttpHeader) * lengthof(names));
	if (answer->headers == NULL)
		abort();
	for (i = 0; i < lengthof(names); i++)
	{
		answer->headers[i].name = names[i];
		answer->headers[i].value = value;
	}
	answer->header_count = lengthof(names);
}

HttpAnswer *
fuzz_answer(const uint8_t *data, size_t size)
{
	static const int statuses[] = {200, 204, 301, 400, 401, 403, 404, 408, 429, 500, 502, 503, 504, 599};
	HttpAnswer *answer = calloc(1, sizeof(HttpAnswer));
	size_t line = 0;

	if (answer == NULL)
		abort();
	answer->sent = true;
	answer->status = statuses[size > 0 ? data[0] % lengthof(statuses) : 0];
	if (size > 0)
		data++, size--;
	while (line < size && data[line] != '\n')
		line++;
	if (line < size)
	{
		/* Kept until the process ends, bounded by the input: http_answer_free does not know of it. */
		static char *value = NULL;

		free(value);
		value = copy_bytes(data, line);
		make_headers(answer, value);
		data += line + 1;
		size -= line + 1;
	}
	answer->body = copy_bytes(data, size);
	answer->body_length = size;
	return answer;
}

void
fuzz_check_text(const char *text, size_t room)
{
	size_t length = strnlen(text, room);
	size_t i;

	if (length == room || pg_encoding_verifymbstr(PG_UTF8, text, (int) length) != (int) length)
		abort();
	for (i = 0; i < length; i++)
		if ((unsigned char) text[i] < ' ' || text[i] == 0x7f)
			abort();
}
