/*
 * spapi_token.c
 *	  Answers of Login with Amazon: a token that is accepted can stand in a header.
 */
#include "postgres.h"

#include "answer.h"
#include "lwa.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_token(const char *token, size_t room, bool may_be_empty)
{
	size_t length = strnlen(token, room);
	size_t i;

	if (length == room || (length == 0 && !may_be_empty))
		abort();
	for (i = 0; i < length; i++)
		if (token[i] <= ' ' || token[i] > '~')
			abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	HttpAnswer *answer = fuzz_answer(data, size);
	char access[64];
	char refresh[64];
	int expires_in = 0;
	SpapiError error;

	if (lwa_read_answer(answer, access, sizeof(access), &expires_in, refresh, sizeof(refresh), &error) == SPAPI_SUCCESS)
	{
		check_token(access, sizeof(access), false);
		check_token(refresh, sizeof(refresh), true);
		if (expires_in <= 0 || expires_in > 86400)
			abort();
	}
	fuzz_check_text(error.code, sizeof(error.code));
	http_answer_free(answer);
	return 0;
}
