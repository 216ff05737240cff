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
 * The sets are capture_keys.c's matter, writing them capture_write.c's.
 *
 * Savepoints need no care: a key noted in a part that is rolled back makes one row be read in vain. All memory belongs
 * to the transaction; parsed trigger arguments belong to the process and are dropped when the relation changes.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "capture_keys.h"
#include "capture_write.h"

/* Arguments of the trigger: amzmp.capture('watched_id', 'run_as', 'key column', 'watched column', …). */
enum
{
	ARG_WATCHED_ID,
	ARG_RUN_AS,
	ARG_KEY,
	ARG_FIRST_COLUMN
};

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
	KeySet *set; /* its set, while set_generation is the current one */
	uint64 set_generation;
} ParsedTrigger;

static HTAB *parsed_triggers = NULL;

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
 * What an event notes
 */

static KeySet *
key_set(ParsedTrigger *parsed)
{
	if (parsed->set_generation != key_sets_generation)
	{
		capture_write_at_commit(); /* first, because it may fail and the set must not be left behind then */
		parsed->set = key_set_of(parsed->watched_id, parsed->relation, parsed->runner);
		parsed->set_generation = key_sets_generation;
	}
	return parsed->set;
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
		key_set_need_rescan(set, "key too long");
		return;
	}
	if (parsed->key_type == TEXTOID || parsed->key_type == VARCHAROID || parsed->key_type == BPCHAROID)
	{
		const char *bytes = VARDATA_ANY(DatumGetPointer(value));
		int length = VARSIZE_ANY_EXHDR(DatumGetPointer(value));

		if (parsed->key_type == BPCHAROID)
			length = bpchartruelen((char *) bytes, length);
		key_set_note(set, bytes, length);
	}
	else
	{
		char *printed = OutputFunctionCall(&parsed->key_output, value);

		key_set_note(set, printed, strlen(printed));
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
	if (parsed->set_generation == key_sets_generation && parsed->set->rescan != NULL)
		return; /* single rows are of no use any more */
	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		key_set_need_rescan(key_set(parsed), "truncated");
	else if (!parsed->usable)
		key_set_need_rescan(key_set(parsed), "a watched column is missing");
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
	capture_write_if_late();
	PG_RETURN_POINTER(NULL);
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
		values[CAPTURED_KEYS] = key_set_array(set, 0, set->count);
		nulls[CAPTURED_RESCAN] = set->rescan == NULL;
		if (set->rescan != NULL)
			values[CAPTURED_RESCAN] = CStringGetTextDatum(set->rescan);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
