/*
 * json_check.c
 *	  An answer's body: what passes is what the server's own parser takes, and what does not pass is what it refuses, but
 *	  for what is refused by its size.
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"

#include "compat.h"
#include "json_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
server_takes(const char *bytes, size_t size)
{
	JsonLexContext *lex;
	bool taken;

	if (pg_encoding_verifymbstr(PG_UTF8, bytes, (int) size) != (int) size)
		return false;
	lex = amzmp_json_lexer(bytes, size, true);
	taken = pg_parse_json(lex, &nullSemAction) == JSON_SUCCESS;
	amzmp_json_lexer_free(lex);
	return taken;
}

/* Short enough to be neither nested too deeply nor a long number, and without an exponent. */
static bool
is_small(const char *bytes, size_t size)
{
	if (size > 1000)
		return false;
	for (size_t i = 1; i < size; i++)
		if ((bytes[i] == 'e' || bytes[i] == 'E') && isdigit((unsigned char) bytes[i - 1]))
			return false;
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *bytes = malloc(size + (size == 0)); /* just as long: the sanitizer sees what reads on */
	char *next_token;
	bool taken;

	memcpy(bytes, data, size);
	taken = json_check(bytes, size, &next_token) == NULL;
	if (taken ? !server_takes(bytes, size) : is_small(bytes, size) && server_takes(bytes, size))
		abort();
	if (next_token != NULL)
	{
		int length = (int) strlen(next_token);

		if (!taken || length == 0 || pg_encoding_verifymbstr(PG_UTF8, next_token, length) != length)
			abort();
		pfree(next_token);
	}
	free(bytes);
	return 0;
}
