/*
 * capture_keys.c
 *	  The keys that a transaction changed, one set a relation, in memory.
 *
 * A set knows each key once, however often its row was changed. What makes single keys useless (too many of them, one
 * that is too long, no memory) turns the whole set into a wish to read its relation whole; it never throws away a wish.
 *
 * All of it lives in a context below TopTransactionContext and goes with it; key_sets_end() only forgets the pointers.
 * Whoever keeps a pointer to a set compares key_sets_generation first.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "capture_keys.h"

#define MAX_KEYS_DEFAULT  250000
#define MAX_KEY_LENGTH    1000 /* bytes; a longer one is no SKU, and the relation is read whole instead */
#define FEW_KEYS          8    /* up to here looking through all is faster than hashing into buckets */
#define FIRST_BLOCK_BYTES 512
#define OTHER_BLOCK_BYTES 65536

static int max_keys = MAX_KEYS_DEFAULT;

/* This transaction's memory and sets; both NULL when nothing was captured. */
static MemoryContext context = NULL;
KeySet *key_sets = NULL;
static uint32 key_total = 0;

uint64 key_sets_generation = 1;

void
capture_keys_define_settings(void)
{
	DefineCustomIntVariable("amzmp.capture_max_keys",
							"Most keys that one transaction notes; beyond it the whole source is compared.", NULL,
							&max_keys, MAX_KEYS_DEFAULT, 0, 10000000, PGC_SUSET, 0, NULL, NULL, NULL);
}

void
key_sets_forget(void)
{
	key_sets = NULL;
	key_total = 0;
	key_sets_generation++;
}

void
key_sets_end(void)
{
	context = NULL;
	key_sets_forget();
}

/* NULL when there is no memory. */
static void *
take_memory(Size size)
{
	return MemoryContextAllocExtended(context, size, MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);
}

KeySet *
key_set_of(int64 watched_id, Oid relation, Oid runner)
{
	KeySet *set;

	for (set = key_sets; set != NULL; set = set->next)
		if (set->watched_id == watched_id && set->relation == relation)
			return set;
	if (context == NULL)
		context = AllocSetContextCreate(TopTransactionContext, "amzmp capture", ALLOCSET_SMALL_SIZES);
	set = MemoryContextAllocZero(context, sizeof(KeySet));
	set->watched_id = watched_id;
	set->relation = relation;
	set->runner = runner;
	set->next = key_sets;
	key_sets = set;
	return set;
}

void
key_set_need_rescan(KeySet *set, const char *why)
{
	if (set->rescan != NULL)
		return;
	set->rescan = why;
	key_total -= set->count;
	set->count = 0;
}

static bool
same_key(const KeyEntry *entry, uint32 hash, const char *bytes, Size length)
{
	return entry->hash == hash && VARSIZE(entry->key) - VARHDRSZ == length &&
		   memcmp(VARDATA(entry->key), bytes, length) == 0;
}

/* Bucket that holds the key, or the empty one where it belongs. */
static uint32
find_bucket(const KeySet *set, uint32 hash, const char *bytes, Size length)
{
	uint32 bucket = hash & set->bucket_mask;

	while (set->buckets[bucket] != 0 && !same_key(&set->entries[set->buckets[bucket] - 1], hash, bytes, length))
		bucket = (bucket + 1) & set->bucket_mask;
	return bucket;
}

static bool
is_known(const KeySet *set, uint32 hash, const char *bytes, Size length)
{
	if (set->buckets != NULL)
		return set->buckets[find_bucket(set, hash, bytes, length)] != 0;
	for (uint32 i = 0; i < set->count; i++)
		if (same_key(&set->entries[i], hash, bytes, length))
			return true;
	return false;
}

/* Room for as many entries again, and buckets that stay half empty. */
static bool
grow(KeySet *set)
{
	uint32 capacity = set->capacity == 0 ? FEW_KEYS : set->capacity * 4;
	KeyEntry *entries = take_memory(sizeof(KeyEntry) * capacity);
	uint32 *buckets = NULL;

	if (entries == NULL)
		return false;
	if (capacity > FEW_KEYS)
	{
		buckets = take_memory(sizeof(uint32) * capacity * 2);
		if (buckets == NULL)
			return false;
		memset(buckets, 0, sizeof(uint32) * capacity * 2);
	}
	if (set->count > 0)
		memcpy(entries, set->entries, sizeof(KeyEntry) * set->count);
	if (set->entries != NULL)
		pfree(set->entries);
	if (set->buckets != NULL)
		pfree(set->buckets);
	set->entries = entries;
	set->capacity = capacity;
	set->buckets = buckets;
	set->bucket_mask = capacity * 2 - 1;
	for (uint32 i = 0; buckets != NULL && i < set->count; i++)
	{
		KeyEntry *entry = &entries[i];
		uint32 bucket = find_bucket(set, entry->hash, VARDATA(entry->key), VARSIZE(entry->key) - VARHDRSZ);

		buckets[bucket] = i + 1;
	}
	return true;
}

/* A text of its own for the key, cut from a block; NULL when there is no memory. */
static text *
store_key(KeySet *set, const char *bytes, Size length)
{
	Size size = MAXALIGN(VARHDRSZ + length);
	text *key;

	if (set->free_bytes < size)
	{
		Size block = Max(set->free == NULL ? FIRST_BLOCK_BYTES : OTHER_BLOCK_BYTES, size);

		set->free = take_memory(block);
		if (set->free == NULL)
		{
			set->free_bytes = 0;
			return NULL;
		}
		set->free_bytes = block;
	}
	key = (text *) set->free;
	SET_VARSIZE(key, VARHDRSZ + length);
	memcpy(VARDATA(key), bytes, length);
	set->free += size;
	set->free_bytes -= size;
	return key;
}

void
key_set_note(KeySet *set, const char *bytes, Size length)
{
	uint32 hash;
	text *key;

	if (length > MAX_KEY_LENGTH)
	{
		key_set_need_rescan(set, "key too long");
		return;
	}
	hash = hash_bytes((const unsigned char *) bytes, (int) length);
	if (is_known(set, hash, bytes, length))
		return;
	if (key_total >= (uint32) max_keys)
	{
		key_set_need_rescan(set, "too many keys");
		return;
	}
	if ((set->count == set->capacity && !grow(set)) || (key = store_key(set, bytes, length)) == NULL)
	{
		key_set_need_rescan(set, "out of memory");
		return;
	}
	if (set->buckets != NULL)
		set->buckets[find_bucket(set, hash, bytes, length)] = set->count + 1;
	set->entries[set->count].hash = hash;
	set->entries[set->count].key = key;
	set->count++;
	key_total++;
}

Datum
key_set_array(const KeySet *set, uint32 first, uint32 count)
{
	Datum *keys = palloc(sizeof(Datum) * count);

	for (uint32 i = 0; i < count; i++)
		keys[i] = PointerGetDatum(set->entries[first + i].key);
	return PointerGetDatum(construct_array(keys, (int) count, TEXTOID, -1, false, TYPALIGN_INT));
}
