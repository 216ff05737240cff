/*
 * page.c: page tokens. A token holds the position and is bound to the request that began the walk: another parameter,
 * a changed byte or too great an age makes it invalid.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

/* A number that stands for seller, operation, path and every parameter that must stay the same. */
uint64_t
page_binding(const Call *call, const char *except)
{
	json_t *kept = json_copy(call->query);
	const char *key;
	json_t *value;
	char *text;
	uint64_t binding;

	json_object_foreach(call->query, key, value)
	{
		if (text_is_one_of(key, except))
			json_object_del(kept, key);
	}
	text = json_dumps(kept, JSON_SORT_KEYS | JSON_COMPACT);
	binding = hash_text(text, hash_text(call->operation->name, 7));
	if (call->seller != NULL)
		binding = hash_text(call->seller->id, binding);
	free(text);
	json_decref(kept);
	return binding & INT64_MAX;
}

static uint64_t
page_seal(uint64_t binding, int64_t made, const char *position)
{
	return hash_text(position, binding ^ (uint64_t) made ^ UINT64_C(0x5EED5EED)) & INT64_MAX;
}

/* Takes over position. */
char *
page_token(uint64_t binding, json_t *position)
{
	char *text = json_dumps(position, JSON_COMPACT);
	Micros made = clock_now();
	json_t *sealed = json_pack("[I, I, I, o]", (json_int_t) binding, (json_int_t) made,
							   (json_int_t) page_seal(binding, made, text), position);
	char *plain = json_dumps(sealed, JSON_COMPACT);
	char *token = base64url_encode(plain, strlen(plain));

	free(text);
	free(plain);
	json_decref(sealed);
	return token;
}

/* The position, or NULL with the reason. */
json_t *
page_open(const char *token, uint64_t binding, Micros lifetime, const char **problem)
{
	size_t length;
	char *plain = base64url_decode(token, &length);
	json_t *sealed = plain == NULL ? NULL : json_loadb(plain, length, 0, NULL);
	json_t *position = json_array_get(sealed, 3);
	int64_t bound = json_integer_value(json_array_get(sealed, 0));
	int64_t made = json_integer_value(json_array_get(sealed, 1));
	char *text = json_dumps(position, JSON_COMPACT | JSON_ENCODE_ANY);

	*problem = NULL;
	if (text == NULL || json_integer_value(json_array_get(sealed, 2)) != (int64_t) page_seal((uint64_t) bound, made, text))
		*problem = "The page token is invalid.";
	else if (clock_now() - made > lifetime)
		*problem = "The page token has expired.";
	else if ((uint64_t) bound != binding)
		*problem = "The page token belongs to a request with other parameters.";
	position = *problem == NULL ? json_incref(position) : NULL;
	free(text);
	free(plain);
	json_decref(sealed);
	return position;
}
