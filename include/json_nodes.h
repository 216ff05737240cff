/*
 * json_nodes.h
 *	  A JSON text as an array of nodes that point into it.
 */
#ifndef AMZMP_JSON_NODES_H
#define AMZMP_JSON_NODES_H

typedef enum JsonNodeKind
{
	JSON_NODE_OBJECT,
	JSON_NODE_ARRAY,
	JSON_NODE_STRING,
	JSON_NODE_NUMBER,
	JSON_NODE_TRUE,
	JSON_NODE_FALSE,
	JSON_NODE_NULL
} JsonNodeKind;

/* A value, or the name of a member; the member's value is the node after it. */
typedef struct JsonNode
{
	uint32 start; /* its first byte in the text, */
	uint32 end;   /* the one after its last, */
	uint32 next;  /* and the node after it and all that is in it */
	uint8 kind;
	bool escaped; /* a string with escapes in it */
} JsonNode;

typedef struct JsonNodes
{
	const char *text; /* not copied */
	uint32 count;
	uint32 room;
	JsonNode *node; /* palloc'd; node 0 is the whole document */
} JsonNodes;

/* False, and nothing to free, when the text is no JSON, or nested too deeply for jsonb. */
extern bool json_nodes_read(JsonNodes *nodes, const char *text, int length);

/* The node of an object's member, or 0. Of members with the same name the first counts. */
extern uint32 json_nodes_member(const JsonNodes *nodes, uint32 object, const char *name, int length);

/* What stands in a string, without quotes and escapes, palloc'd and ended by a zero; `length` may be NULL. */
extern char *json_nodes_string(const JsonNodes *nodes, uint32 string, int *length);

/* The same, but NULL instead of an error when an escape in it stands for no character. */
extern char *json_nodes_try_string(const JsonNodes *nodes, uint32 string, int *length);

/* The bytes of a value as they stand in the text. */
#define json_nodes_bytes(nodes, number)  ((nodes)->text + (nodes)->node[number].start)
#define json_nodes_length(nodes, number) ((int) ((nodes)->node[number].end - (nodes)->node[number].start))

/* for (uint32 i = json_nodes_first(array); i < array's next; i = node[i].next) walks through an array's elements. */
#define json_nodes_first(array) ((array) + 1)

#endif
