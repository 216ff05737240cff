/*
 * json_check.c
 *	  Are these bytes JSON that the database will take? Asked of every answer before a statement sees it.
 *
 * An answer that jsonb refuses with an error would undo the transaction that settles it, and its neighbours with it. So
 * it is looked at first, where it can still be taken for a lost one: the server's own lexer reads it (json_nodes.c), and what
 * jsonb refuses beyond that is refused here already: bytes that are not UTF-8, escapes that stand for no character,
 * numbers beyond the range of numeric, and a nesting that would exhaust the stack of whoever reads it by recursion.
 *
 * Called where no transaction is open: nothing here throws but for want of memory, recurses or looks at the stack's
 * depth. What it allocates is freed, the token excepted. No state of its own.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "json_check.h"
#include "json_nodes.h"

/* Far beyond all that is a price or a count, and far within numeric. */
#define MOST_NUMBER_BYTES    1000
#define MOST_EXPONENT_DIGITS 3

static bool
is_within_numeric(const char *number, int length)
{
	const char *end = number + length;

	if (length > MOST_NUMBER_BYTES)
		return false;
	while (number < end && *number != 'e' && *number != 'E')
		number++;
	if (number < end)
		number++;
	if (number < end && (*number == '+' || *number == '-'))
		number++;
	return end - number <= MOST_EXPONENT_DIGITS;
}

static bool
stands_for_characters(const JsonNodes *nodes, uint32 string)
{
	char *value = json_nodes_try_string(nodes, string, NULL);

	if (value == NULL)
		return false;
	pfree(value);
	return true;
}

/* What the lexer, asked for tokens alone, lets pass. */
static const char *
check_values(const JsonNodes *nodes)
{
	for (uint32 i = 0; i < nodes->count; i++)
	{
		const JsonNode *node = &nodes->node[i];

		if (node->kind == JSON_NODE_NUMBER && !is_within_numeric(json_nodes_bytes(nodes, i), json_nodes_length(nodes, i)))
			return "a number is too large";
		if (node->escaped && !stands_for_characters(nodes, i))
			return "an escape stands for no character";
	}
	return NULL;
}

static char *
find_next_token(const JsonNodes *nodes)
{
	uint32 pagination = json_nodes_member(nodes, 0, "pagination", strlen("pagination"));
	uint32 token = pagination == 0 ? 0 : json_nodes_member(nodes, pagination, "nextToken", strlen("nextToken"));
	bool is_there = token != 0 && nodes->node[token].kind == JSON_NODE_STRING &&
					json_nodes_length(nodes, token) > (int) strlen("\"\"");

	return is_there ? json_nodes_try_string(nodes, token, NULL) : NULL;
}

const char *
json_check(const char *bytes, size_t length, char **next_token)
{
	JsonNodes nodes;
	const char *problem;

	if (next_token != NULL)
		*next_token = NULL;
	if (length > MaxAllocSize)
		return "too long";
	/* first, because the lexer trusts it; a zero byte is no text for us either */
	if (pg_encoding_verifymbstr(PG_UTF8, bytes, (int) length) != (int) length)
		return "not valid UTF-8";
	if (!json_nodes_read(&nodes, bytes, (int) length))
		return "not valid JSON, or nested too deeply";
	problem = check_values(&nodes);
	if (problem == NULL && next_token != NULL)
		*next_token = find_next_token(&nodes);
	pfree(nodes.node);
	return problem;
}
