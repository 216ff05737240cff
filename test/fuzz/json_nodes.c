/*
 * json_nodes.c
 *	  A page of Amazon's as nodes: they are taken for JSON when the server's own parser takes the bytes for it, each lies
 *	  in the text and within the one that holds it, and looking for members and strings reads nothing else.
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"

#include "json_nodes.h"
#include "thrown.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_options(void);

/* What is palloc'd goes with its context, of which there is none here. */
const char *
__lsan_default_options(void)
{
	return "detect_leaks=0";
}

static void
check_node(const JsonNodes *nodes, uint32 number, int length)
{
	const JsonNode *node = &nodes->node[number];

	if (node->start >= node->end || node->end > (uint32) length || node->next <= number || node->next > nodes->count)
		abort();
	for (uint32 i = number + 1; i < node->next; i++)
		if (nodes->node[i].start < node->start || nodes->node[i].end > node->end || nodes->node[i].next > node->next)
			abort();
}

static void
read_values(const JsonNodes *nodes, int length)
{
	for (uint32 i = 0; i < nodes->count && i < 64; i++)
	{
		check_node(nodes, i, length);
		(void) FUZZ_CAUGHT((void) json_nodes_member(nodes, i, "name", 4));
		if (nodes->node[i].kind == JSON_NODE_STRING)
			(void) FUZZ_CAUGHT((void) json_nodes_string(nodes, i, NULL));
	}
}

/* The server's parser goes deeper with each level, and looks at the stack with what is not here. */
static bool
is_shallow(const char *text, size_t size)
{
	size_t levels = 0;

	for (size_t i = 0; i < size; i++)
		levels += text[i] == '[' || text[i] == '{';
	return levels < 100;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + (size == 0)); /* just as long: the sanitizer sees what reads on */
	JsonNodes nodes;
	bool taken;

	memcpy(text, data, size);
	taken = json_nodes_read(&nodes, text, size);
	if (is_shallow(text, size) &&
		taken != (pg_parse_json(makeJsonLexContextCstringLen(text, size, PG_UTF8, false), &nullSemAction) == JSON_SUCCESS))
		abort();
	if (taken)
	{
		read_values(&nodes, size);
		pfree(nodes.node);
	}
	free(text);
	return 0;
}
