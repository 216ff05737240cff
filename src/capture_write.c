/*
 * capture_write.c
 *	  Writes the captured keys, once, just before the commit.
 *
 * That is when all deferred triggers have run; what one of another extension's callbacks changes later still is written
 * at once. Writing happens in a subtransaction. If it fails, or a lock would have to be waited for, a rescan mark is
 * tried in another one; if that fails too, the server log says so (without any value) and the shop commits. The daily
 * comparison of every source then finds the difference.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "compat.h"
#include "capture_keys.h"
#include "capture_write.h"
#include "owner.h"
#include "processes.h"

#define KEYS_PER_ROW 1000

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
												 TEXTARRAYOID, TEXTOID, TEXTOID, TIMESTAMPTZOID};

static int32 parts_written = 0;

/* Past the point where the keys were written: what is noted now must be written at once. */
static bool committing = false;

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
		values[CHANGE_ROLE] = CStringGetTextDatum(role);
	values[CHANGE_APPLICATION] = CStringGetTextDatum(application_name ? application_name : "");
	values[CHANGE_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
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
			values[CHANGE_KEYS] = key_set_array(set, first, Min(set->count - first, KEYS_PER_ROW));
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
	Oid types[] = {INT8OID, OIDOID, TEXTOID, XID8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
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
	key_sets_forget();
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
			key_sets_end();
			parts_written = 0;
			committing = false;
			break;
		default:
			break;
	}
}

void
capture_write_at_commit(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(at_transaction_event, NULL);
	registered = true;
}

void
capture_write_if_late(void)
{
	if (committing && key_sets != NULL)
		write_captured();
}
