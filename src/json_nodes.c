/*
 * json_nodes.c
 *	  A JSON text as an array of nodes that point into it: where each value begins and ends, and which one comes after it.
 *
 * A page of Amazon's has some 30,000 values, of which a third are asked for. jsonb would copy and sort them all before the
 * first can be looked at; this leaves them where they are. Bytes become tokens by the server's own lexer, so that both
 * take the same for JSON; which token may follow which is here, without recursion.
 *
 * No state of its own. Nothing throws but for want of memory, and json_nodes_string for an escape that stands for no
 * character of ours.
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "compat.h"
#include "json_nodes.h"

#define NOBODY     PG_UINT32_MAX
#define FIRST_ROOM 256

/* Nobody here minds the depth, but jsonb reads by recursion, and throws when its stack ends. */
#define MOST_NESTING 1024

/* What may come next. */
typedef enum Expected
{
	A_VALUE,
	A_VALUE_OR_END, /* after [ */
	A_NAME,
	A_NAME_OR_END, /* after { */
	A_COLON,
	A_COMMA_OR_END,
	NOTHING
} Expected;

typedef struct Reader
{
	JsonNodes *nodes;
	JsonLexContext *lex;
	uint32 open; /* the innermost object or array that is not closed; its own is in its `next` until it is */
	int depth;   /* how many are not closed */
	Expected expected;
} Reader;

static uint32
add_node(Reader *reader, JsonNodeKind kind)
{
	JsonNodes *nodes = reader->nodes;
	JsonNode *node;

	if (nodes->count == nodes->room)
	{
		nodes->room *= 2;
		nodes->node = repalloc(nodes->node, sizeof(JsonNode) * nodes->room);
	}
	node = &nodes->node[nodes->count++];
	node->start = reader->lex->token_start - nodes->text;
	node->end = reader->lex->token_terminator - nodes->text;
	node->next = nodes->count;
	node->kind = kind;
	node->escaped = kind == JSON_NODE_STRING && memchr(reader->lex->token_start, '\\', node->end - node->start) != NULL;
	return nodes->count - 1;
}

static void
after_value(Reader *reader)
{
	reader->expected = reader->open == NOBODY ? NOTHING : A_COMMA_OR_END;
}

static bool
open_container(Reader *reader, JsonNodeKind kind)
{
	uint32 number;

	if (++reader->depth > MOST_NESTING)
		return false;
	number = add_node(reader, kind);
	reader->nodes->node[number].next = reader->open;
	reader->open = number;
	reader->expected = kind == JSON_NODE_OBJECT ? A_NAME_OR_END : A_VALUE_OR_END;
	return true;
}

static bool
close_container(Reader *reader, JsonNodeKind kind)
{
	JsonNode *node;

	if (reader->open == NOBODY)
		return false;
	node = &reader->nodes->node[reader->open];
	if (node->kind != kind)
		return false;
	reader->open = node->next;
	reader->depth--;
	node->next = reader->nodes->count;
	node->end = reader->lex->token_terminator - reader->nodes->text;
	after_value(reader);
	return true;
}

static bool
take_value(Reader *reader, JsonTokenType token)
{
	switch (token)
	{
		case JSON_TOKEN_OBJECT_START:
			return open_container(reader, JSON_NODE_OBJECT);
		case JSON_TOKEN_ARRAY_START:
			return open_container(reader, JSON_NODE_ARRAY);
		case JSON_TOKEN_STRING:
			add_node(reader, JSON_NODE_STRING);
			break;
		case JSON_TOKEN_NUMBER:
			add_node(reader, JSON_NODE_NUMBER);
			break;
		case JSON_TOKEN_TRUE:
			add_node(reader, JSON_NODE_TRUE);
			break;
		case JSON_TOKEN_FALSE:
			add_node(reader, JSON_NODE_FALSE);
			break;
		case JSON_TOKEN_NULL:
			add_node(reader, JSON_NODE_NULL);
			break;
		default:
			return false;
	}
	after_value(reader);
	return true;
}

static bool
take_name(Reader *reader, JsonTokenType token)
{
	if (token != JSON_TOKEN_STRING)
		return false;
	add_node(reader, JSON_NODE_STRING);
	reader->expected = A_COLON;
	return true;
}

static bool
take_comma_or_end(Reader *reader, JsonTokenType token)
{
	switch (token)
	{
		case JSON_TOKEN_COMMA:
			reader->expected = reader->nodes->node[reader->open].kind == JSON_NODE_OBJECT ? A_NAME : A_VALUE;
			return true;
		case JSON_TOKEN_OBJECT_END:
			return close_container(reader, JSON_NODE_OBJECT);
		case JSON_TOKEN_ARRAY_END:
			return close_container(reader, JSON_NODE_ARRAY);
		default:
			return false;
	}
}

/* Take the next token. False when it must not stand there. */
static bool
take_token(Reader *reader, JsonTokenType token)
{
	switch (reader->expected)
	{
		case A_VALUE:
			return take_value(reader, token);
		case A_VALUE_OR_END:
			return token == JSON_TOKEN_ARRAY_END ? close_container(reader, JSON_NODE_ARRAY) : take_value(reader, token);
		case A_NAME:
			return take_name(reader, token);
		case A_NAME_OR_END:
			return token == JSON_TOKEN_OBJECT_END ? close_container(reader, JSON_NODE_OBJECT) : take_name(reader, token);
		case A_COLON:
			reader->expected = A_VALUE;
			return token == JSON_TOKEN_COLON;
		case A_COMMA_OR_END:
			return take_comma_or_end(reader, token);
		case NOTHING:
			return false;
	}
	return false;
}

bool
json_nodes_read(JsonNodes *nodes, const char *text, int length)
{
	Reader reader = {.nodes = nodes, .open = NOBODY, .expected = A_VALUE};

	*nodes = (JsonNodes){.text = text, .room = FIRST_ROOM, .node = palloc(sizeof(JsonNode) * FIRST_ROOM)};
	reader.lex = amzmp_json_lexer(text, length, false);
	for (;;)
	{
		if (json_lex(reader.lex) != JSON_SUCCESS)
			break;
		if (reader.lex->token_type == JSON_TOKEN_END && reader.expected == NOTHING)
		{
			amzmp_json_lexer_free(reader.lex);
			return true;
		}
		if (!take_token(&reader, reader.lex->token_type))
			break;
	}
	amzmp_json_lexer_free(reader.lex);
	pfree(nodes->node);
	return false;
}

char *
json_nodes_try_string(const JsonNodes *nodes, uint32 string, int *length)
{
	const char *bytes = json_nodes_bytes(nodes, string);
	int size = json_nodes_length(nodes, string);
	JsonLexContext *lex;
	char *value = NULL;

	if (!nodes->node[string].escaped)
	{
		if (length != NULL)
			*length = size - 2;
		return pnstrdup(bytes + 1, size - 2);
	}
	lex = amzmp_json_lexer(bytes, size, true);
	if (json_lex(lex) == JSON_SUCCESS)
	{
		if (length != NULL)
			*length = lex->strval->len;
		value = pnstrdup(lex->strval->data, lex->strval->len);
	}
	amzmp_json_lexer_free(lex);
	return value;
}

char *
json_nodes_string(const JsonNodes *nodes, uint32 string, int *length)
{
	char *value = json_nodes_try_string(nodes, string, length);

	if (value == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
						errmsg("JSON text has an escape that stands for no character"),
						errdetail("It may be \\u0000, or half a surrogate pair.")));
	return value;
}

static bool
is_named(const JsonNodes *nodes, uint32 string, const char *name, int length)
{
	char *value;
	int value_length;
	bool same;

	if (!nodes->node[string].escaped)
		return json_nodes_length(nodes, string) - 2 == length &&
			   memcmp(json_nodes_bytes(nodes, string) + 1, name, length) == 0;
	value = json_nodes_string(nodes, string, &value_length);
	same = value_length == length && memcmp(value, name, length) == 0;
	pfree(value);
	return same;
}

uint32
json_nodes_member(const JsonNodes *nodes, uint32 object, const char *name, int length)
{
	if (nodes->node[object].kind != JSON_NODE_OBJECT)
		return 0;
	for (uint32 at = object + 1; at < nodes->node[object].next; at = nodes->node[at + 1].next)
		if (is_named(nodes, at, name, length))
			return at + 1;
	return 0;
}
