/*
 * capture_keys.h
 *	  The keys that a transaction changed, one set a relation (see capture_keys.c).
 */
#ifndef AMZMP_CAPTURE_KEYS_H
#define AMZMP_CAPTURE_KEYS_H

typedef struct KeyEntry
{
	uint32 hash;
	text *key;
} KeyEntry;

/* The keys of one relation that this transaction changed. */
typedef struct KeySet
{
	struct KeySet *next;
	int64 watched_id;
	Oid relation;
	Oid runner;         /* role whose runner will want to know; a mere hint */
	const char *rescan; /* why the relation must be read whole, or NULL */
	uint32 count;
	uint32 capacity;
	KeyEntry *entries;
	uint32 *buckets; /* open addressing, entry number + 1; NULL while there are few */
	uint32 bucket_mask;
	char *free;
	Size free_bytes;
} KeySet;

/* This transaction's sets, newest first. */
extern KeySet *key_sets;

/* Counts up whenever the sets are thrown away. */
extern uint64 key_sets_generation;

extern void capture_keys_define_settings(void);

/* The set of a relation, made when there is none yet. */
extern KeySet *key_set_of(int64 watched_id, Oid relation, Oid runner);

/* Note a key; not for a set that is to be read whole. */
extern void key_set_note(KeySet *set, const char *bytes, Size length);

/* From here on the relation is to be read whole, and single keys are of no use. `why` is a constant. */
extern void key_set_need_rescan(KeySet *set, const char *why);

/* Some of the keys as text[], in the current memory context. */
extern Datum key_set_array(const KeySet *set, uint32 first, uint32 count);

/* The sets were written: whatever is noted next goes into new ones. */
extern void key_sets_forget(void);

/* The transaction has ended, and its memory with it. */
extern void key_sets_end(void);

#endif
