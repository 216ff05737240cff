/*
 * worker.c
 *	  What the sender and the runners have in common: start, transactions, reload.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "owner.h"
#include "worker.h"

#define PLAN_SIZE_FACTOR  4
#define PLAN_SLACK_BLOCKS 16

void
worker_start(Oid database, Oid role, const char *application_name)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, role, 0);
	/* Statements here are small and many: compiling one costs a hundred times what it saves. */
	SetConfigOption("jit", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("application_name", application_name, PGC_USERSET, PGC_S_OVERRIDE);
	pgstat_report_appname(application_name);
}

void
worker_check_in(void)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

ErrorData *
worker_transaction(WorkerFn work, void *arg, bool as_owner, bool lazy, MemoryContext keep)
{
	ErrorData *volatile error = NULL;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	MemoryContextSwitchTo(CurTransactionContext);
	PG_TRY();
	{
		OwnerScope scope;

		if (lazy)
			SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION);
		PushActiveSnapshot(GetTransactionSnapshot());
		SPI_connect();
		if (as_owner)
			owner_enter(&scope);
		work(arg);
		if (as_owner)
			owner_leave(&scope);
		SPI_finish();
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(keep);
		/* neither a time limit nor a cancellation reaches into what comes next */
		disable_all_timeouts(false);
		QueryCancelPending = false;
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	if (lazy)
		SetConfigOption("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION);
	MemoryContextSwitchTo(keep);
	pgstat_report_stat(true);
	return error;
}

void
worker_execute(const char *sql, int count, Oid *types, Datum *values, const char *nulls)
{
	int code = SPI_execute_with_args(sql, count, types, values, nulls, false, 0);

	if (code < 0)
		elog(ERROR, "\"%s\": %s", sql, SPI_result_code_string(code));
}

char *
worker_kept_text(int column, MemoryContext keep)
{
	char *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);

	return value ? MemoryContextStrdup(keep, value) : NULL;
}

/*
 * Plans follow the sizes that tables had when the plans were made, and our processes live long: one made while the queue
 * was empty, or before a shop's first million products came in, would walk through all of them for each row. So plans
 * are made anew when a size has changed by more than a factor. (Autovacuum has the same effect, but a minute later.)
 */
void
worker_forget_stale_plans(void)
{
	static const char *const growing[] = {"request", "product", "listing", "inventory", "account_flow", "flow_run"};
	static BlockNumber planned_for[lengthof(growing)] = {0};
	Oid schema = get_namespace_oid("amzmp", true);
	bool stale = false;

	for (int i = 0; i < (int) lengthof(growing); i++)
	{
		Oid table = OidIsValid(schema) ? get_relname_relid(growing[i], schema) : InvalidOid;
		Relation relation = OidIsValid(table) ? try_relation_open(table, AccessShareLock) : NULL;
		BlockNumber blocks;

		if (relation == NULL)
			continue;
		blocks = RelationGetNumberOfBlocks(relation) + PLAN_SLACK_BLOCKS;
		relation_close(relation, AccessShareLock);
		if (blocks <= planned_for[i] * PLAN_SIZE_FACTOR && planned_for[i] <= blocks * PLAN_SIZE_FACTOR)
			continue;
		planned_for[i] = blocks;
		stale = true;
	}
	if (stale)
		ResetPlanCache();
}

void
worker_log_error(const char *doing, const ErrorData *error)
{
	ereport(LOG, (errcode(error->sqlerrcode), errmsg("amzmp: %s failed: %s", doing, error->message),
				  error->detail ? errdetail_internal("%s", error->detail) : 0,
				  error->hint ? errhint("%s", error->hint) : 0, errhidestmt(true), errhidecontext(true)));
}
