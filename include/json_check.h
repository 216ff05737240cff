/*
 * json_check.h
 *	  Are these bytes JSON that the database will take?
 */
#ifndef AMZMP_JSON_CHECK_H
#define AMZMP_JSON_CHECK_H

/*
 * NULL when the bytes are one JSON value in UTF-8 that jsonb takes, else a few words that say what is wrong and quote
 * nothing. `next_token`, unless NULL, gets the string pagination.nextToken, palloc'd, or NULL when there is none.
 */
extern const char *json_check(const char *bytes, size_t length, char **next_token);

#endif
