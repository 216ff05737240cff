/*
 * text.c: memory that does not fail, random numbers with a seed, base64, and short ways to read JSON objects.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void *
xalloc(size_t size)
{
	void *memory = calloc(1, size);

	if (memory == NULL)
		abort();
	return memory;
}

char *
xprintf(const char *format, ...)
{
	va_list args;
	char *text = NULL;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		abort();
	va_end(args);
	return text;
}

char *
xstrdup(const char *text)
{
	char *copy = strdup(text);

	if (copy == NULL)
		abort();
	return copy;
}

/* splitmix64: small, and the same on every machine */
static uint64_t random_state;

void
random_seed(uint64_t seed)
{
	random_state = seed;
}

static uint64_t
random_next(void)
{
	uint64_t mixed = (random_state += UINT64_C(0x9E3779B97F4A7C15));

	mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94D049BB133111EB);
	return mixed ^ (mixed >> 31);
}

uint64_t
random_below(uint64_t limit)
{
	return limit == 0 ? 0 : random_next() % limit;
}

void
random_text(char *out, size_t length)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

	for (size_t i = 0; i < length; i++)
		out[i] = letters[random_below(64)];
	out[length] = '\0';
}

void
uuid_text(char out[37])
{
	uint64_t high = random_next();
	uint64_t low = random_next();

	snprintf(out, 37, "%08x-%04x-4%03x-%04x-%012llx", (unsigned) (high >> 32), (unsigned) (high >> 16) & 0xFFFF,
			 (unsigned) high & 0xFFF, (unsigned) ((low >> 48) & 0x3FFF) | 0x8000,
			 (unsigned long long) (low & UINT64_C(0xFFFFFFFFFFFF)));
}

/* FNV-1a, finished with a mix so that the low bits are good enough for tables */
uint64_t
hash_text(const char *text, uint64_t start)
{
	uint64_t hash = start ^ UINT64_C(0xCBF29CE484222325);

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char) *text) * UINT64_C(0x100000001B3);
	hash ^= hash >> 32;
	return hash * UINT64_C(0x9E3779B97F4A7C15) >> 7;
}

static const char base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

char *
base64url_encode(const void *data, size_t length)
{
	const unsigned char *in = data;
	char *out = xalloc(length / 3 * 4 + 5);
	size_t used = 0;

	for (size_t i = 0; i < length; i += 3)
	{
		unsigned group = in[i] << 16 | (i + 1 < length ? in[i + 1] << 8 : 0) | (i + 2 < length ? in[i + 2] : 0);

		out[used++] = base64url[group >> 18];
		out[used++] = base64url[group >> 12 & 63];
		if (i + 1 < length)
			out[used++] = base64url[group >> 6 & 63];
		if (i + 2 < length)
			out[used++] = base64url[group & 63];
	}
	return out;
}

/* NULL when the text is not base64url. The result is followed by a NUL. */
char *
base64url_decode(const char *text, size_t *length)
{
	size_t room = strlen(text);
	char *out = xalloc(room + 1);
	unsigned group = 0;
	int bits = 0;

	*length = 0;
	for (; *text != '\0'; text++)
	{
		const char *digit = strchr(base64url, *text);

		if (digit == NULL)
		{
			free(out);
			return NULL;
		}
		group = group << 6 | (unsigned) (digit - base64url);
		bits += 6;
		if (bits >= 8)
		{
			bits -= 8;
			out[(*length)++] = (char) (group >> bits & 0xFF);
		}
	}
	return out;
}

bool
text_is_one_of(const char *text, const char *comma_list)
{
	size_t length = strlen(text);
	const char *at = comma_list;

	if (length == 0 || strchr(text, ',') != NULL)
		return false;
	while ((at = strstr(at, text)) != NULL)
	{
		if ((at == comma_list || at[-1] == ',') && (at[length] == ',' || at[length] == '\0'))
			return true;
		at += length;
	}
	return false;
}

bool
starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool
ends_with(const char *text, const char *suffix)
{
	size_t length = strlen(text);
	size_t tail = strlen(suffix);

	return length >= tail && strcmp(text + length - tail, suffix) == 0;
}

json_t *
json_text(const char *format, ...)
{
	va_list args;
	json_t *value;

	va_start(args, format);
	value = json_vsprintf(format, args);
	va_end(args);
	return value;
}

const char *
json_get_text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

int64_t
json_get_int(const json_t *object, const char *key, int64_t fallback)
{
	const json_t *value = json_object_get(object, key);

	return json_is_integer(value) ? json_integer_value(value) : fallback;
}

bool
json_get_bool(const json_t *object, const char *key, bool fallback)
{
	const json_t *value = json_object_get(object, key);

	return json_is_boolean(value) ? json_is_true(value) : fallback;
}

double
json_get_number(const json_t *object, const char *key, double fallback)
{
	const json_t *value = json_object_get(object, key);

	return json_is_number(value) ? json_number_value(value) : fallback;
}

bool
json_array_has(const json_t *array, const char *text)
{
	size_t i;
	json_t *value;

	json_array_foreach(array, i, value)
	{
		if (json_is_string(value) && strcmp(json_string_value(value), text) == 0)
			return true;
	}
	return false;
}
