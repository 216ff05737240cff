/*
 * capture.c
 *	  The trigger on the shop's tables, and what it writes before commit.
 *
 * This is the only code of ours inside a shop's transaction. It may not fail, may not wait, and may cost next to
 * nothing. So a row event does no more than compare the watched columns byte by byte and remember the row's key in
 * memory; the keys are written once, just before the commit (after all deferred triggers have run), into amzmp.change.
 * It does not read the values and knows nothing of accounts: what a key means is found out by whoever takes it.
 *
 * Life of a key:
 *
 *		row event ──▶ KeySet of the transaction ──PRE_COMMIT / PRE_PREPARE──▶ amzmp.change (≤ 1,000 keys a row)
 *									│
 *									└─ too many keys, an unusable key, TRUNCATE, nobody who would take them
 *									   ──▶ amzmp.rescan_mark (at most one waiting row a relation)
 *
 * Writing happens in a subtransaction. If it fails, or a lock would have to be waited for, a rescan mark is tried in
 * another one; if that fails too, the server log says so (without any value) and the shop commits. The daily
 * comparison of every source then finds the difference.
 *
 * Savepoints need no care: a key noted in a part that is rolled back makes one row be read in vain. All memory belongs
 * to the transaction; parsed trigger arguments belong to the process and are dropped when the relation changes.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/xid8.h"

#include "compat.h"
#include "capture.h"
#include "owner.h"
#include "processes.h"

#define MAX_KEYS_DEFAULT  250000
#define KEYS_PER_ROW      1000
#define MAX_KEY_LENGTH    1000 /* bytes; a longer one is no SKU, and the relation is read whole instead */
#define FEW_KEYS          8    /* up to here looking through all is faster than hashing into buckets */
#define FIRST_BLOCK_BYTES 512
#define OTHER_BLOCK_BYTES 65536

/* Arguments of the trigger: amzmp.capture('watched_id', 'run_as', 'key column', 'watched column', …). */
enum
{
	ARG_WATCHED_ID,
	ARG_RUN_AS,
	ARG_KEY,
	ARG_FIRST_COLUMN
};

/* Columns of amzmp.change, in order. */
enum
{
	CHANGE_XID,
	CHANGE_PART,
	CHANGE_WATCHED_ID,
	CHANGE_RELATION,
	CHANGE_KEYS,
	CHANGE_ROLE,
	CHANGE_APPLICATION,
	CHANGE_AT,
	CHANGE_COLUMNS
};

static const Oid change_types[CHANGE_COLUMNS] = {XID8OID,      INT4OID, INT8OID, OIDOID,
												 TEXTARRAYOID, NAMEOID, TEXTOID, TIMESTAMPTZOID};

typedef struct WatchedColumn
{
	int index; /* attribute number - 1 */
	int16 length;
	bool by_value;
} WatchedColumn;

/* What a trigger's arguments mean for its relation. Lives in TopMemoryContext until the process ends. */
typedef struct ParsedTrigger
{
	Oid trigger; /* hash key */
	Oid relation;
	bool valid;  /* false: the relation changed, parse again */
	bool usable; /* false: a column that the arguments name is not there */
	int64 watched_id;
	Oid runner; /* role whose runner will want to know; a mere hint */
	WatchedColumn key;
	Oid key_type;
	FmgrInfo key_output;
	int needed; /* attributes to deform */
	int column_count;
	WatchedColumn *columns;
	struct KeySet *set; /* its set, while set_generation is the current one */
	uint64 set_generation;
} ParsedTrigger;

typedef struct KeyEntry
{
	uint32 hash;
	text *key;
} KeyEntry;

/* The keys of one relation that this transaction changed. Lives in the transaction's capture context. */
typedef struct KeySet
{
	struct KeySet *next;
	int64 watched_id;
	Oid relation;
	Oid runner;
	const char *rescan; /* why the relation must be read whole, or NULL */
	uint32 count;
	uint32 capacity;
	KeyEntry *entries;
	uint32 *buckets; /* open addressing, entry number + 1; NULL while there are few */
	uint32 bucket_mask;
	char *free;
	Size free_bytes;
} KeySet;

static int max_keys = MAX_KEYS_DEFAULT;

static HTAB *parsed_triggers = NULL;

/* This transaction's memory and sets; both NULL when nothing was captured. */
static MemoryContext capture_context = NULL;
static KeySet *key_sets = NULL;
static uint32 key_total = 0;
static int32 parts_written = 0;

/* Counts up whenever the sets are thrown away. */
static uint64 generation = 1;

/* Past the point where the keys were written: what is noted now must be written at once. */
static bool committing = false;

static void write_captured(void);

void
capture_define_settings(void)
{
	DefineCustomIntVariable("amzmp.capture_max_keys",
							"Most keys that one transaction notes; beyond it the whole source is compared.", NULL,
							&max_keys, MAX_KEYS_DEFAULT, 0, 10000000, PGC_SUSET, 0, NULL, NULL, NULL);
}

/*
 * What a trigger watches
 */

static void
forget_parsed(Datum arg, Oid relation)
{
	HASH_SEQ_STATUS scan;
	ParsedTrigger *parsed;

	hash_seq_init(&scan, parsed_triggers);
	while ((parsed = hash_seq_search(&scan)) != NULL)
		if (relation == InvalidOid || parsed->relation == relation)
			parsed->valid = false;
}

static bool
find_column(TupleDesc desc, const char *name, WatchedColumn *column)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped || strcmp(NameStr(attribute->attname), name) != 0)
			continue;
		column->index = i;
		column->length = attribute->attlen;
		column->by_value = attribute->attbyval;
		return true;
	}
	return false;
}

/* The watched columns among the arguments; false when one is not there (renamed or dropped since) or none is named. */
static bool
parse_columns(ParsedTrigger *parsed, const Trigger *trigger, TupleDesc desc)
{
	int count = trigger->tgnargs - ARG_FIRST_COLUMN;
	bool output_is_varlena;
	Oid output;

	if (count < 0)
		return false; /* a TRUNCATE trigger has none and needs none */
	if (!find_column(desc, trigger->tgargs[ARG_KEY], &parsed->key))
		return false;
	parsed->key_type = getBaseType(TupleDescAttr(desc, parsed->key.index)->atttypid);
	getTypeOutputInfo(parsed->key_type, &output, &output_is_varlena);
	fmgr_info_cxt(output, &parsed->key_output, TopMemoryContext);
	parsed->needed = parsed->key.index + 1;

	parsed->columns = MemoryContextAlloc(TopMemoryContext, sizeof(WatchedColumn) * (count + 1));
	for (int i = 0; i < count; i++)
	{
		if (!find_column(desc, trigger->tgargs[ARG_FIRST_COLUMN + i], &parsed->columns[i]))
			return false;
		parsed->needed = Max(parsed->needed, parsed->columns[i].index + 1);
	}
	parsed->column_count = count;
	return true;
}

static void
parse_trigger(ParsedTrigger *parsed, const TriggerData *data)
{
	const Trigger *trigger = data->tg_trigger;

	if (parsed->columns != NULL)
		pfree(parsed->columns);
	parsed->columns = NULL;
	parsed->column_count = 0;
	parsed->relation = RelationGetRelid(data->tg_relation);
	parsed->watched_id = trigger->tgnargs > ARG_WATCHED_ID ? strtoll(trigger->tgargs[ARG_WATCHED_ID], NULL, 10) : 0;
	parsed->runner = trigger->tgnargs > ARG_RUN_AS ? get_role_oid(trigger->tgargs[ARG_RUN_AS], true) : InvalidOid;
	parsed->usable = parse_columns(parsed, trigger, RelationGetDescr(data->tg_relation));
	parsed->valid = true;
}

static ParsedTrigger *
parsed_trigger(const TriggerData *data)
{
	bool found;
	ParsedTrigger *parsed;

	if (parsed_triggers == NULL)
	{
		HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(ParsedTrigger), .hcxt = TopMemoryContext};

		parsed_triggers = hash_create("amzmp triggers", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		CacheRegisterRelcacheCallback(forget_parsed, (Datum) 0);
	}
	parsed = hash_search(parsed_triggers, &data->tg_trigger->tgoid, HASH_ENTER, &found);
	if (!found)
	{
		parsed->columns = NULL;
		parsed->valid = false;
		parsed->set_generation = 0;
	}
	if (!parsed->valid)
		parse_trigger(parsed, data);
	return parsed;
}

/*
 * The transaction's keys
 */

static void
forget_sets(void)
{
	key_sets = NULL;
	key_total = 0;
	generation++;
}

static void
at_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (key_sets != NULL)
				write_captured();
			committing = true;
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			/* the memory goes with TopTransactionContext */
			capture_context = NULL;
			forget_sets();
			parts_written = 0;
			committing = false;
			break;
		default:
			break;
	}
}

/* NULL when there is no memory. */
static void *
take_memory(Size size)
{
	return MemoryContextAllocExtended(capture_context, size, MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);
}

static KeySet *
find_set(const ParsedTrigger *parsed)
{
	static bool registered = false;
	KeySet *set;

	for (set = key_sets; set != NULL; set = set->next)
		if (set->watched_id == parsed->watched_id && set->relation == parsed->relation)
			return set;
	if (!registered)
	{
		RegisterXactCallback(at_transaction_event, NULL);
		registered = true;
	}
	if (capture_context == NULL)
		capture_context = AllocSetContextCreate(TopTransactionContext, "amzmp capture", ALLOCSET_SMALL_SIZES);
	set = MemoryContextAllocZero(capture_context, sizeof(KeySet));
	set->watched_id = parsed->watched_id;
	set->relation = parsed->relation;
	set->runner = parsed->runner;
	set->next = key_sets;
	key_sets = set;
	return set;
}

static KeySet *
key_set(ParsedTrigger *parsed)
{
	if (parsed->set_generation != generation)
	{
		parsed->set = find_set(parsed);
		parsed->set_generation = generation;
	}
	return parsed->set;
}

/* From here on the relation is to be read whole, and single keys are of no use. `why` is a constant. */
static void
need_rescan(KeySet *set, const char *why)
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

static void
note_bytes(KeySet *set, const char *bytes, Size length)
{
	uint32 hash;
	text *key;

	if (length > MAX_KEY_LENGTH)
	{
		need_rescan(set, "key too long");
		return;
	}
	hash = hash_bytes((const unsigned char *) bytes, (int) length);
	if (is_known(set, hash, bytes, length))
		return;
	if (key_total >= (uint32) max_keys)
	{
		need_rescan(set, "too many keys");
		return;
	}
	if ((set->count == set->capacity && !grow(set)) || (key = store_key(set, bytes, length)) == NULL)
	{
		need_rescan(set, "out of memory");
		return;
	}
	if (set->buckets != NULL)
		set->buckets[find_bucket(set, hash, bytes, length)] = set->count + 1;
	set->entries[set->count].hash = hash;
	set->entries[set->count].key = key;
	set->count++;
	key_total++;
}

/* Note the row's key as text. A row whose key is NULL cannot be asked for, so there is nothing to note. */
static void
note_key(KeySet *set, ParsedTrigger *parsed, TupleTableSlot *slot)
{
	Datum value = slot->tts_values[parsed->key.index];

	if (set->rescan != NULL || slot->tts_isnull[parsed->key.index])
		return;
	if (parsed->key.length == -1 && VARATT_IS_EXTENDED(DatumGetPointer(value)) && !VARATT_IS_SHORT(DatumGetPointer(value)))
	{
		/* compressed or out of line: far too long, and fetching it could fail */
		need_rescan(set, "key too long");
		return;
	}
	if (parsed->key_type == TEXTOID || parsed->key_type == VARCHAROID || parsed->key_type == BPCHAROID)
	{
		const char *bytes = VARDATA_ANY(DatumGetPointer(value));
		int length = VARSIZE_ANY_EXHDR(DatumGetPointer(value));

		if (parsed->key_type == BPCHAROID)
			length = bpchartruelen((char *) bytes, length);
		note_bytes(set, bytes, length);
	}
	else
	{
		char *printed = OutputFunctionCall(&parsed->key_output, value);

		note_bytes(set, printed, strlen(printed));
	}
}

/*
 * Do two stored values differ? By bytes and without fetching anything out of line: an unchanged toasted value keeps its
 * pointer, and a difference that is none costs one reading in vain.
 */
static bool
differs(const WatchedColumn *column, const TupleTableSlot *old, const TupleTableSlot *new)
{
	Datum a = old->tts_values[column->index];
	Datum b = new->tts_values[column->index];
	Size size;

	if (old->tts_isnull[column->index] || new->tts_isnull[column->index])
		return old->tts_isnull[column->index] != new->tts_isnull[column->index];
	if (column->by_value)
		return a != b;
	if (column->length > 0)
		size = column->length;
	else if (column->length == -1)
	{
		size = VARSIZE_ANY(DatumGetPointer(a));
		if (size != VARSIZE_ANY(DatumGetPointer(b)))
			return true;
	}
	else
		return strcmp(DatumGetCString(a), DatumGetCString(b)) != 0;
	return memcmp(DatumGetPointer(a), DatumGetPointer(b), size) != 0;
}

static void
note_update(ParsedTrigger *parsed, TupleTableSlot *old, TupleTableSlot *new)
{
	bool key_changed;
	bool changed;

	slot_getsomeattrs(old, parsed->needed);
	slot_getsomeattrs(new, parsed->needed);
	changed = key_changed = differs(&parsed->key, old, new);
	for (int i = 0; i < parsed->column_count && !changed; i++)
		changed = differs(&parsed->columns[i], old, new);
	if (!changed)
		return;
	if (key_changed)
		note_key(key_set(parsed), parsed, old);
	note_key(key_set(parsed), parsed, new);
}

static void
note_event(ParsedTrigger *parsed, const TriggerData *data)
{
	if (parsed->watched_id <= 0)
		return; /* not a trigger that we created */
	if (parsed->set_generation == generation && parsed->set->rescan != NULL)
		return; /* single rows are of no use any more */
	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		need_rescan(key_set(parsed), "truncated");
	else if (!parsed->usable)
		need_rescan(key_set(parsed), "a watched column is missing");
	else if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		note_update(parsed, data->tg_trigslot, data->tg_newslot);
	else
	{
		/* for INSERT and DELETE alike the row is in tg_trigslot */
		slot_getsomeattrs(data->tg_trigslot, parsed->needed);
		note_key(key_set(parsed), parsed, data->tg_trigslot);
	}
}

/*
 * amzmp.capture(): AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW, or AFTER TRUNCATE. Attached to a relation that nobody
 * registered it notes keys that nobody takes, and does no other harm.
 */
PG_FUNCTION_INFO_V1(amzmp_capture);
Datum
amzmp_capture(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("amzmp.capture can only be called by an AFTER trigger")));
	note_event(parsed_trigger(data), data);
	if (committing && key_sets != NULL)
		write_captured();
	PG_RETURN_POINTER(NULL);
}

/*
 * Writing
 */

/*
 * Lock one of our relations for writing without ever waiting (somebody may be changing or dropping it). Returns
 * InvalidOid when there is no such relation; throws when it is locked.
 */
static Oid
lock_ours(const char *name)
{
	Oid schema = get_namespace_oid("amzmp", true);
	Oid relation = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	if (OidIsValid(relation) && !ConditionalLockRelationOid(relation, RowExclusiveLock))
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("\"amzmp.%s\" is locked", name)));
	return relation;
}

static void
check_change_columns(TupleDesc desc)
{
	bool matches = desc->natts == CHANGE_COLUMNS;

	for (int i = 0; i < CHANGE_COLUMNS && matches; i++)
		matches = TupleDescAttr(desc, i)->atttypid == change_types[i];
	if (!matches)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("library and installed version of amzmp do not agree about \"amzmp.change\""),
						errhint("Run ALTER EXTENSION amzmp UPDATE.")));
}

/* What all rows that this transaction writes have in common. */
static void
fill_cause(Datum *values, bool *nulls)
{
	char *role = GetUserNameFromId(GetUserId(), true);

	values[CHANGE_XID] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	nulls[CHANGE_ROLE] = role == NULL;
	if (role != NULL)
		values[CHANGE_ROLE] = DirectFunctionCall1(namein, CStringGetDatum(role));
	values[CHANGE_APPLICATION] = CStringGetTextDatum(application_name ? application_name : "");
	values[CHANGE_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
}

static Datum
keys_array(const KeySet *set, uint32 first, uint32 count)
{
	Datum *keys = palloc(sizeof(Datum) * count);

	for (uint32 i = 0; i < count; i++)
		keys[i] = PointerGetDatum(set->entries[first + i].key);
	return PointerGetDatum(construct_array(keys, (int) count, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * The keys as rows of amzmp.change. Straight into the heap and its primary key: the executor would take three times as
 * long, and the table has neither triggers, constraints nor other indexes to look after.
 */
static void
write_keys(void)
{
	Oid table = lock_ours("change");
	Relation change;
	CatalogIndexState indexes;
	Datum values[CHANGE_COLUMNS] = {0};
	bool nulls[CHANGE_COLUMNS] = {false};

	if (!OidIsValid(table))
		return; /* the extension is being dropped in this very transaction */
	change = table_open(table, NoLock);
	check_change_columns(RelationGetDescr(change));
	indexes = CatalogOpenIndexes(change);
	fill_cause(values, nulls);
	for (KeySet *set = key_sets; set != NULL; set = set->next)
	{
		values[CHANGE_WATCHED_ID] = Int64GetDatum(set->watched_id);
		values[CHANGE_RELATION] = ObjectIdGetDatum(set->relation);
		for (uint32 first = 0; first < set->count; first += KEYS_PER_ROW)
		{
			HeapTuple row;

			values[CHANGE_PART] = Int32GetDatum(++parts_written);
			values[CHANGE_KEYS] = keys_array(set, first, Min(set->count - first, KEYS_PER_ROW));
			row = heap_form_tuple(RelationGetDescr(change), values, nulls);
			CatalogTupleInsertWithInfo(change, row, indexes);
			heap_freetuple(row);
			pfree(DatumGetPointer(values[CHANGE_KEYS]));
		}
	}
	CatalogCloseIndexes(indexes);
	table_close(change, NoLock);
}

/*
 * A waiting mark is enough for any number of transactions, but only while we hold it: whoever takes it deletes it and
 * then reads, and must not do so before we have committed. SKIP LOCKED on both sides, so that nobody waits.
 */
#define MARK_STATEMENT                                                                                                 \
	"with waiting as materialized ("                                                                                   \
	"  select from amzmp.rescan_mark m"                                                                                \
	"   where m.watched_id operator(pg_catalog.=) $1 and m.relation operator(pg_catalog.=) $2"                         \
	"   limit 1 for key share skip locked) "                                                                           \
	"insert into amzmp.rescan_mark (watched_id, relation, reason, xid, role, application, at) "                        \
	"select $1, $2, $3, $4, $5, $6, $7 where not exists (select from waiting)"

static void
write_mark(const KeySet *set, Datum *cause, bool *cause_nulls)
{
	Oid types[] = {INT8OID, OIDOID, TEXTOID, XID8OID, NAMEOID, TEXTOID, TIMESTAMPTZOID};
	Datum values[] = {Int64GetDatum(set->watched_id),
					  ObjectIdGetDatum(set->relation),
					  CStringGetTextDatum(set->rescan ? set->rescan : "keys not written"),
					  cause[CHANGE_XID],
					  cause[CHANGE_ROLE],
					  cause[CHANGE_APPLICATION],
					  cause[CHANGE_AT]};
	char nulls[] = {' ', ' ', ' ', ' ', cause_nulls[CHANGE_ROLE] ? 'n' : ' ', ' ', ' ', '\0'};
	int result = SPI_execute_with_args(MARK_STATEMENT, lengthof(types), types, values, nulls, false, 0);

	if (result != SPI_OK_INSERT)
		elog(ERROR, "could not mark: %s", SPI_result_code_string(result));
}

/* Marks for the sets that need one, or (without any keys written) for all. */
static void
write_marks(bool all)
{
	Datum cause[CHANGE_COLUMNS] = {0};
	bool nulls[CHANGE_COLUMNS] = {false};
	OwnerScope scope;

	if (!OidIsValid(lock_ours("rescan_mark")) || !OidIsValid(lock_ours("rescan_mark_id_seq")))
		return;
	fill_cause(cause, nulls);
	PushActiveSnapshot(GetTransactionSnapshot());
	owner_enter(&scope);
	SPI_connect();
	for (KeySet *set = key_sets; set != NULL; set = set->next)
		if (all || set->rescan != NULL)
			write_mark(set, cause, nulls);
	SPI_finish();
	owner_leave(&scope);
	PopActiveSnapshot();
}

static void
write_all(void)
{
	bool keys = false;
	bool marks = false;

	for (KeySet *set = key_sets; set != NULL; set = set->next)
	{
		keys |= set->count > 0;
		marks |= set->rescan != NULL;
	}
	if (keys)
		write_keys();
	if (marks)
		write_marks(false);
}

static void
write_only_marks(void)
{
	write_marks(true);
}

/*
 * Run `work` in a subtransaction of its own. Returns 0, or the SQLSTATE of what went wrong: never throws. The subtransaction
 * restores the user, the read-only flag and the locks by itself.
 */
static int
try_in_subtransaction(void (*work)(void))
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool started = false;
	volatile int sqlstate = 0;

	PG_TRY();
	{
		BeginInternalSubTransaction(NULL);
		started = true;
		MemoryContextSwitchTo(CurTransactionContext);
		XactReadOnly = false; /* SET TRANSACTION READ ONLY after the changes is the shop's right */
		work();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		sqlstate = geterrcode();
		FlushErrorState();
		if (started)
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return sqlstate;
}

/* Without anybody to take the keys they would only pile up. */
static bool
nobody_takes_keys(void)
{
	return !amzmp_sender_alive();
}

/* Write what this transaction captured. Never throws. */
static void
write_captured(void)
{
	uint32 held = InterruptHoldoffCount;
	Oid runner = key_sets->runner;
	int sqlstate;

	/* A cancel that arrives now must not cost us the keys; an error resets the counter, so it is set back by hand. */
	HOLD_INTERRUPTS();
	sqlstate = try_in_subtransaction(nobody_takes_keys() ? write_only_marks : write_all);
	if (sqlstate != 0)
	{
		int first = sqlstate;

		InterruptHoldoffCount = held + 1;
		sqlstate = try_in_subtransaction(write_only_marks);
		if (sqlstate != 0)
			ereport(LOG, (errcode(sqlstate), errmsg("amzmp could not note what this transaction changed"),
						  errdetail("Writing keys failed with SQLSTATE %s.", unpack_sql_state(first)),
						  errhint("The next comparison of the whole source, or amzmp.rescan(), will find the changes.")));
	}
	InterruptHoldoffCount = held;

	for (KeySet *set = key_sets; set != NULL; set = set->next)
		if (set->runner != runner)
			runner = InvalidOid; /* several roles: let the sender sort it out */
	amzmp_wake_runner_at_commit(runner);
	forget_sets();
}

/* Columns of amzmp._captured(). */
enum
{
	CAPTURED_WATCHED_ID,
	CAPTURED_RELATION,
	CAPTURED_KEYS,
	CAPTURED_RESCAN,
	CAPTURED_COLUMNS
};

/* What this transaction has captured so far, one row a relation; the sets stay as they are. For would_send. */
PG_FUNCTION_INFO_V1(amzmp_captured);
Datum
amzmp_captured(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (KeySet *set = key_sets; set != NULL; set = set->next)
	{
		Datum values[CAPTURED_COLUMNS] = {0};
		bool nulls[CAPTURED_COLUMNS] = {false};

		values[CAPTURED_WATCHED_ID] = Int64GetDatum(set->watched_id);
		values[CAPTURED_RELATION] = ObjectIdGetDatum(set->relation);
		values[CAPTURED_KEYS] = keys_array(set, 0, set->count);
		nulls[CAPTURED_RESCAN] = set->rescan == NULL;
		if (set->rescan != NULL)
			values[CAPTURED_RESCAN] = CStringGetTextDatum(set->rescan);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
