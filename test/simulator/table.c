/*
 * table.c: a hash table from strings to pointers, and a growing list.
 *
 * Keys are copied. Values belong to the caller. Chained, doubling when full; nothing is ever iterated while it grows.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

typedef struct Entry
{
	struct Entry *next;
	uint64_t hash;
	void *value;
	char key[];
} Entry;

struct Table
{
	Entry **bucket;
	size_t size; /* a power of two */
	size_t count;
};

Table *
table_new(void)
{
	Table *table = xalloc(sizeof(Table));

	table->size = 64;
	table->bucket = xalloc(table->size * sizeof(Entry *));
	return table;
}

static Entry **
table_slot(const Table *table, const char *key, uint64_t hash)
{
	Entry **slot = &table->bucket[hash & (table->size - 1)];

	while (*slot != NULL && ((*slot)->hash != hash || strcmp((*slot)->key, key) != 0))
		slot = &(*slot)->next;
	return slot;
}

static void
table_grow(Table *table)
{
	size_t old_size = table->size;
	Entry **old = table->bucket;

	table->size *= 2;
	table->bucket = xalloc(table->size * sizeof(Entry *));
	for (size_t i = 0; i < old_size; i++)
	{
		Entry *next;

		for (Entry *entry = old[i]; entry != NULL; entry = next)
		{
			Entry **head = &table->bucket[entry->hash & (table->size - 1)];

			next = entry->next;
			entry->next = *head;
			*head = entry;
		}
	}
	free(old);
}

void *
table_get(const Table *table, const char *key)
{
	Entry *entry = *table_slot(table, key, hash_text(key, 0));

	return entry == NULL ? NULL : entry->value;
}

void
table_put(Table *table, const char *key, void *value)
{
	uint64_t hash = hash_text(key, 0);
	Entry **slot = table_slot(table, key, hash);
	size_t length = strlen(key) + 1;

	if (*slot != NULL)
	{
		(*slot)->value = value;
		return;
	}
	if (table->count >= table->size)
	{
		table_grow(table);
		slot = table_slot(table, key, hash);
	}
	*slot = xalloc(sizeof(Entry) + length);
	(*slot)->hash = hash;
	(*slot)->value = value;
	memcpy((*slot)->key, key, length);
	table->count++;
}

void *
table_remove(Table *table, const char *key)
{
	Entry **slot = table_slot(table, key, hash_text(key, 0));
	Entry *entry = *slot;
	void *value;

	if (entry == NULL)
		return NULL;
	value = entry->value;
	*slot = entry->next;
	free(entry);
	table->count--;
	return value;
}

size_t
table_count(const Table *table)
{
	return table->count;
}

/* Visits until one visit returns false. The visit must not change the table. */
void
table_each(Table *table, TableVisit visit, void *arg)
{
	for (size_t i = 0; i < table->size; i++)
		for (Entry *entry = table->bucket[i]; entry != NULL; entry = entry->next)
			if (!visit(entry->key, entry->value, arg))
				return;
}

void
table_free(Table *table, void (*free_value)(void *))
{
	if (table == NULL)
		return;
	for (size_t i = 0; i < table->size; i++)
	{
		Entry *next;

		for (Entry *entry = table->bucket[i]; entry != NULL; entry = next)
		{
			next = entry->next;
			if (free_value != NULL)
				free_value(entry->value);
			free(entry);
		}
	}
	free(table->bucket);
	free(table);
}

void
list_add(List *list, void *value)
{
	if (list->count == list->room)
	{
		list->room = list->room == 0 ? 4 : list->room * 2;
		list->at = realloc(list->at, list->room * sizeof(void *));
		if (list->at == NULL)
			abort();
	}
	list->at[list->count++] = value;
}

void
list_free(List *list, void (*free_value)(void *))
{
	for (size_t i = 0; i < list->count && free_value != NULL; i++)
		free_value(list->at[i]);
	free(list->at);
	*list = (List){0};
}
