/*
 * json.c
 *	  The only door to jansson: parse an answer, read a few members by path, forget it.
 *
 * Meant for small things whose shape we know (token answers, error bodies). Not for business data: that is SQL's work,
 * and whether an answer is JSON at all is json_check.c's.
 *
 * Nothing here throws or uses palloc. A document is malloc'd by jansson, belongs to the caller and ends with
 * json_doc_free, which wipes every string first because token answers are among them.
 *
 * jansson's json_object() must never be called: the server exports an SQL function of that name and the dynamic
 * linker would choose it. That is also why no server header with SQL function prototypes is included here.
 */
#include "postgres.h"

#include <errno.h>
#include <jansson.h>

#include "json.h"

#define JSON_ERROR_SIZE 160

static void wipe_strings(json_t *value);

JsonDoc *
json_doc_parse(const char *bytes, size_t length, char *error)
{
	json_error_t why;
	json_t *root = json_loadb(bytes, length, JSON_DECODE_ANY, &why);

	if (root == NULL && error != NULL)
	{
		/* jansson's own text quotes what it stumbled over, which may be a secret or a buyer's name: only the place. */
		snprintf(error, JSON_ERROR_SIZE, "not valid JSON at line %d, column %d", why.line, why.column);
	}
	return (JsonDoc *) root;
}

void
json_doc_free(JsonDoc *doc)
{
	if (doc == NULL)
		return;
	wipe_strings((json_t *) doc);
	json_decref((json_t *) doc);
}

/* jansson limits nesting to 2,048 when it parses, so recursion is bounded. */
static void
wipe_strings(json_t *value)
{
	if (json_is_string(value))
		explicit_bzero(unconstify(char *, json_string_value(value)), json_string_length(value));
	else if (json_is_array(value))
	{
		size_t i;
		json_t *element;

		json_array_foreach(value, i, element) wipe_strings(element);
	}
	else if (json_is_object(value))
	{
		const char *key;
		json_t *member;

		json_object_foreach(value, key, member) wipe_strings(member);
	}
}

/* One step of a path: a key of an object, or an index of an array written in decimal. */
static json_t *
member_of(json_t *value, const char *step)
{
	if (json_is_object(value))
		return json_object_get(value, step);
	if (json_is_array(value))
	{
		char *end;
		unsigned long index;

		errno = 0;
		index = strtoul(step, &end, 10);
		if (errno == 0 && end != step && *end == '\0')
			return json_array_get(value, index);
	}
	return NULL;
}

static json_t *
find(const JsonDoc *doc, const char *const *path)
{
	json_t *value = (json_t *) unconstify(JsonDoc *, doc);

	for (; value != NULL && *path != NULL; path++)
		value = member_of(value, *path);
	return value;
}

const char *
json_doc_text(const JsonDoc *doc, const char *const *path)
{
	return json_string_value(find(doc, path));
}

bool
json_doc_integer(const JsonDoc *doc, const char *const *path, int64 *value)
{
	json_t *found = find(doc, path);

	if (!json_is_integer(found))
		return false;
	*value = json_integer_value(found);
	return true;
}
