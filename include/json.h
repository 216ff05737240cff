/*
 * json.h
 *	  The only door to jansson: small read helpers for answers of token services and SP-API errors.
 *
 * jansson's json_object() must never be called in the server (the server exports an SQL function of that name),
 * so nothing else includes jansson.h.
 */
#ifndef AMZMP_JSON_H
#define AMZMP_JSON_H

typedef struct JsonDoc JsonDoc;

/* NULL when the bytes are not one JSON value (then *error, of at least 160 bytes or NULL, says where). Freed by json_doc_free. */
extern JsonDoc *json_doc_parse(const char *bytes, size_t length, char *error);
extern void json_doc_free(JsonDoc *doc);

/*
 * Text of a string member found by a NULL-terminated path of object keys and array indexes ("errors", "0", "code"),
 * NULL when it is not there or no string. Points into the document.
 */
extern const char *json_doc_text(const JsonDoc *doc, const char *const *path);
extern bool json_doc_integer(const JsonDoc *doc, const char *const *path, int64 *value);

/* Such a path in place: JSON_PATH("errors", "0", "code"). */
#define JSON_PATH(...) ((const char *const[]){__VA_ARGS__, NULL})

/* A string member of the top, palloc'd. NULL when it is not there, and when there is no document. */
static inline char *
json_doc_copy(const JsonDoc *doc, const char *name)
{
	const char *text = json_doc_text(doc, JSON_PATH(name));

	return text ? pstrdup(text) : NULL;
}

#endif
