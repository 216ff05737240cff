/*
 * json_scalar.c
 *	  A string of Amazon's JSON as a time, an amount and a count: nothing beyond its end is read, and what is taken
 *	  lies within what such a value can be.
 */
#include "postgres.h"

#include "json_scalar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Years 1 to 9999, an offset of up to 16 hours more. */
static const TimestampTz earliest = INT64CONST(-730120) * USECS_PER_DAY;
static const TimestampTz latest = INT64CONST(2921941) * USECS_PER_DAY;

static void
check_amount(const char *text, size_t size)
{
	if (size == 0 || text[size - 1] < '0' || text[size - 1] > '9')
		abort();
	for (size_t i = 0; i < size; i++)
		if (strchr("-.0123456789", text[i]) == NULL)
			abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + (size == 0)); /* just as long: the sanitizer sees what reads on */
	TimestampTz time;
	int32 count;

	memcpy(text, data, size);
	if (json_scalar_time(text, size, &time) && (time < earliest || time > latest))
		abort();
	if (json_scalar_count(text, size, &count) && (count < 0 || count > 999999999))
		abort();
	if (json_scalar_is_amount(text, size))
		check_amount(text, size);
	free(text);
	return 0;
}
