/*
 * xml.c: documents of the older feeds. A document becomes a tree of JSON objects: name, text, children in their order,
 * and the attribute "currency" where an element has one. Whoever reads it asks for exactly the elements that Amazon's
 * schemas have, in their order.
 */
#include "sim.h"

#include <ctype.h>
#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_DEPTH 32

typedef struct Reader
{
	json_t *open[MOST_DEPTH];
	int depth;
	json_t *root;
	bool broken;
} Reader;

static void
element_opens(void *user, const char *name, const char **attributes)
{
	Reader *reader = user;
	json_t *element = json_pack("{s:s, s:s, s:[]}", "name", name, "text", "", "children");

	for (int i = 0; attributes[i] != NULL; i += 2)
		json_object_set_new(element, attributes[i], json_string(attributes[i + 1]));
	if (reader->depth == MOST_DEPTH)
		reader->broken = true;
	else if (reader->depth == 0)
		reader->root = element;
	else
		json_array_append_new(json_object_get(reader->open[reader->depth - 1], "children"), element);
	if (!reader->broken)
		reader->open[reader->depth++] = element;
	else
		json_decref(element);
}

static void
element_closes(void *user, const char *name)
{
	Reader *reader = user;

	(void) name;
	if (!reader->broken)
		reader->depth--;
}

static void
text_comes(void *user, const char *text, int length)
{
	Reader *reader = user;
	json_t *element = reader->depth == 0 || reader->broken ? NULL : reader->open[reader->depth - 1];
	char *whole;

	if (element == NULL)
		return;
	whole = xprintf("%s%.*s", json_get_text(element, "text"), length, text);
	json_object_set_new(element, "text", json_string(whole));
	free(whole);
}

/* NULL when it is no XML. */
json_t *
xml_parse(const char *bytes, size_t length)
{
	XML_Parser parser = XML_ParserCreate(NULL);
	Reader reader = {0};
	bool good;

	XML_SetUserData(parser, &reader);
	XML_SetElementHandler(parser, element_opens, element_closes);
	XML_SetCharacterDataHandler(parser, text_comes);
	good = XML_Parse(parser, bytes, (int) length, true) == XML_STATUS_OK && !reader.broken;
	XML_ParserFree(parser);
	if (good)
		return reader.root;
	json_decref(reader.root);
	return NULL;
}

/* The first child of a name, or NULL. */
json_t *
xml_child(const json_t *element, const char *name)
{
	size_t i;
	json_t *child;

	json_array_foreach(json_object_get(element, "children"), i, child)
	{
		if (strcmp(json_get_text(child, "name"), name) == 0)
			return child;
	}
	return NULL;
}

/* Its text, or NULL where there is no such child. */
const char *
xml_text(const json_t *element, const char *name)
{
	const json_t *child = xml_child(element, name);

	return child == NULL ? NULL : json_get_text(child, "text");
}

/*
 * Are the children those of the sequence, in its order? "A,B?,C*,D+": once, at most once, any number, at least one.
 */
bool
xml_has_sequence(const json_t *element, const char *sequence)
{
	const json_t *children = json_object_get(element, "children");
	size_t at = 0;

	for (const char *part = sequence; *part != '\0';)
	{
		size_t length = strcspn(part, ",");
		char mark = part[length - 1];
		size_t name = strchr("?*+", mark) != NULL ? length - 1 : length;
		size_t times = 0;

		for (; at < json_array_size(children); at++, times++)
		{
			const char *found = json_get_text(json_array_get(children, at), "name");

			if (strlen(found) != name || strncmp(found, part, name) != 0)
				break;
		}
		if ((times == 0 && mark != '?' && mark != '*') || (times > 1 && mark != '*' && mark != '+'))
			return false;
		part += length + (part[length] == ',');
	}
	return at == json_array_size(children);
}

/* What must not stand for itself in a text. */
char *
xml_escape(const char *text)
{
	char *out = NULL;
	size_t length;
	FILE *file = open_memstream(&out, &length);

	for (; *text != '\0'; text++)
	{
		if (strchr("<>&\"", *text) == NULL)
			fputc(*text, file);
		else
			fputs(*text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '&' ? "&amp;" : "&quot;", file);
	}
	fclose(file);
	return out;
}
