/*
 * launcher.c
 *	  The process that starts a sender in each database that has one coming.
 *
 * A database has a sender when it has the extension. Without connecting to it that cannot be seen, so at its start the
 * launcher lets a sender look into each database once; one that finds no extension ends. CREATE EXTENSION then registers
 * its database in shared memory when it commits. amzmp.databases, when set, limits all this to some databases.
 *
 * Life: registered while preloading, started when recovery has ended (so never on a standby, and by itself after a
 * promotion), sleeps on its latch; woken by a commit that registered a database, by a worker's end, by a reload. A sender
 * that dies is started again RESTART_MS after its last start; one that ended because its database is paused (DROP,
 * RENAME, TEMPLATE) when the pause is over.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "compat.h"
#include "launcher.h"
#include "processes.h"

#define RESTART_MS 5000

/* A database that this launcher has met; kept for its whole life. */
typedef struct Candidate
{
	Oid database;
	bool looked;            /* a sender has looked into it once */
	bool registered;        /* it had the extension when last looked at */
	TimestampTz started_at; /* 0 = never */
} Candidate;

static char *databases_setting = NULL;

static List *candidates = NIL; /* in TopMemoryContext */

PGDLLEXPORT void amzmp_launcher_main(Datum arg);

void
launcher_define_settings(void)
{
	DefineCustomStringVariable("amzmp.databases", "Databases in which amzmp works.",
							   "A comma-separated list of names; empty: every database that has the extension.",
							   &databases_setting, "", PGC_SIGHUP, GUC_LIST_INPUT, NULL, NULL, NULL);
}

void
launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_MS / 1000;
	snprintf(worker.bgw_name, BGW_MAXLEN, "amzmp launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "amzmp launcher");
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "amzmp");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "amzmp_launcher_main");
	RegisterBackgroundWorker(&worker);
}

static bool
setting_allows(const char *database)
{
	char *copy = pstrdup(databases_setting ? databases_setting : "");
	List *names;
	ListCell *cell;

	if (copy[0] == '\0')
		return true;
	if (!SplitIdentifierString(copy, ',', &names))
	{
		ereport(LOG, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid list syntax in \"amzmp.databases\""),
					  errhint("Write a comma-separated list of database names.")));
		return false;
	}
	foreach (cell, names)
		if (strcmp((char *) lfirst(cell), database) == 0)
			return true;
	return false;
}

static Candidate *
candidate_for(Oid database)
{
	ListCell *cell;
	MemoryContext old;
	Candidate *candidate;

	foreach (cell, candidates)
		if (((Candidate *) lfirst(cell))->database == database)
			return lfirst(cell);
	old = MemoryContextSwitchTo(TopMemoryContext);
	candidate = palloc0(sizeof(Candidate));
	candidate->database = database;
	candidates = lappend(candidates, candidate);
	MemoryContextSwitchTo(old);
	return candidate;
}

/* The databases that should have a sender now; the list is in the current memory context. */
static List *
wanted_databases(void)
{
	Relation relation = table_open(DatabaseRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, NULL, 0, NULL);
	HeapTuple tuple;
	List *wanted = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		Candidate *candidate;
		bool registered;

		if (!form->datallowconn || form->datistemplate || database_is_paused(form->oid) ||
			!setting_allows(NameStr(form->datname)))
			continue;
		candidate = candidate_for(form->oid);
		registered = database_is_registered(form->oid);
		/* its last sender found no extension and left: the pause between starts is not meant for this */
		if (registered && !candidate->registered && candidate->looked)
			candidate->started_at = 0;
		candidate->registered = registered;
		if (!candidate->looked || registered)
			wanted = lappend(wanted, candidate);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return wanted;
}

static bool
start_sender(Oid database)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	snprintf(worker.bgw_name, BGW_MAXLEN, "amzmp sender for database %u", database);
	snprintf(worker.bgw_type, BGW_MAXLEN, "amzmp sender");
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "amzmp");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "amzmp_sender_main");
	if (RegisterDynamicBackgroundWorker(&worker, NULL))
		return true;
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("no slot for amzmp's sender of database %u", database),
			 errhint("Raise max_worker_processes: amzmp needs 2 + amzmp.max_runners in each database, beside what others need.")));
	return false;
}

/* Start what is missing; returns milliseconds until it is worth looking again, -1 = when woken. */
static long
start_missing_senders(void)
{
	TimestampTz now;
	long wait = -1;
	ListCell *cell;
	List *wanted;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	wanted = wanted_databases();
	now = GetCurrentTimestamp();
	foreach (cell, wanted)
	{
		Candidate *candidate = lfirst(cell);
		long since = candidate->started_at ? TimestampDifferenceMilliseconds(candidate->started_at, now) : RESTART_MS;

		if (sender_is_running(candidate->database))
			continue;
		if (since >= RESTART_MS)
		{
			candidate->started_at = now;
			/* its end will wake us; only a failure to start it is looked at again by time */
			if (start_sender(candidate->database))
			{
				candidate->looked = true;
				continue;
			}
			since = 0;
		}
		if (wait < 0 || RESTART_MS - since < wait)
			wait = RESTART_MS - since;
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	return wait;
}

void
amzmp_launcher_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("amzmp launcher");
	launcher_announce();
	for (;;)
	{
		long wait;
		int events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		wait = start_missing_senders();
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch, events | (wait >= 0 ? WL_TIMEOUT : 0), wait, PG_WAIT_EXTENSION);
	}
}
