/*
 * runner.c
 *	  Processes that perform tasks: an own runner those of ours, a user runner one role's SQL with that role as its
 *	  session user.
 *
 * A user's function, trigger or operator can do whatever its session user may (SET ROLE inside a superuser's session
 * gives no protection: a deferred trigger fires as the session user). So a user runner connects as the role that
 * registered the SQL, holds no key and no token, and talks to amzmp through public functions only. An own runner connects
 * as the bootstrap superuser, becomes amzmp_owner around our own SQL and runs nothing else. Two more of that kind have less to
 * do: one takes the tasks that wait long for the network (mail.c), so that imports and flows never wait behind them; one helps
 * the first with the orders that have arrived, while there are many.
 *
 * Life: started by the sender when the role has due work; takes one task after the other; when nothing is left it waits
 * LINGER_MS on its latch for more, then exits. Claiming a task commits its attempt before it is performed; performing
 * and finishing it are one transaction; an error is recorded in a third.
 *
 * How long a statement may take is for its task to say, by SET LOCAL statement_timeout before it; what is configured for
 * the role's own sessions is not meant for our work.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "mail.h"
#include "processes.h"
#include "runner.h"
#include "transfer.h"
#include "worker.h"

#define LINGER_MS           60000
#define TASKS_IN_TURN       8
#define DEFAULT_MAX_RUNNERS 5

typedef struct Task
{
	MemoryContext keep;
	Oid role;
	bool own;
	bool found;
	bool gone; /* the extension was dropped */
	int64 account_id;
	int64 task_id;
	char *kind;
	char **statements;
	int statement_count;
	const ErrorData *error;
} Task;

static int max_runners = DEFAULT_MAX_RUNNERS;

/* How many tasks a user runner still takes before it looks at captured changes (task 0) again. */
static int tasks_in_turn = 0;

PGDLLEXPORT void amzmp_runner_main(Datum arg);

void
runner_define_settings(void)
{
	DefineCustomIntVariable("amzmp.max_runners", "Most runners of one database at a time.",
							"Each takes one slot of max_worker_processes.", &max_runners, DEFAULT_MAX_RUNNERS, 1,
							MAX_RUNNERS, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static bool
is_own(Oid role)
{
	return role == RUNNER_OWN || role == RUNNER_NETWORK || role == RUNNER_ORDERS;
}

void
runner_ensure(Oid role)
{
	BackgroundWorker worker;
	/* the second one for orders never takes the last place: whoever else has work could not do it at all */
	int slot = runner_reserve(MyDatabaseId, role, role == RUNNER_ORDERS ? max_runners - 1 : max_runners);

	if (slot < 0)
		return; /* at work already, or no room: the sender looks again when one ends */
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = Int32GetDatum(slot);
	snprintf(worker.bgw_name, BGW_MAXLEN, is_own(role) ? "amzmp runner" : "amzmp user runner");
	snprintf(worker.bgw_type, BGW_MAXLEN, is_own(role) ? "amzmp runner" : "amzmp user runner");
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "amzmp");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "amzmp_runner_main");
	if (RegisterDynamicBackgroundWorker(&worker, NULL))
		return;
	runner_release(slot);
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("no slot for a runner of amzmp"),
			 errhint("Raise max_worker_processes: amzmp needs 2 + amzmp.max_runners in each database, beside what others need.")));
}

static void
read_statements(Task *task, Datum array)
{
	Datum *elements;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &task->statement_count);
	task->statements = palloc(sizeof(char *) * Max(task->statement_count, 1));
	for (int i = 0; i < task->statement_count; i++)
		task->statements[i] = TextDatumGetCString(elements[i]);
}

/* An own runner asks the inner function, for what is in its queues (task.sql); a user runner its public, checked twin. */
static const char *
claiming(const Task *task)
{
	switch (task->role)
	{
		case RUNNER_OWN:
			return "select * from amzmp._next_own_task('', 'pg_amzmp_orders')";
		case RUNNER_NETWORK:
			return "select * from amzmp._next_own_task('pg_amzmp_network')";
		case RUNNER_ORDERS:
			return "select * from amzmp._next_own_task('pg_amzmp_orders')";
		default:
			return tasks_in_turn > 0 ? "select * from amzmp.next_task(true)" : "select * from amzmp.next_task(false)";
	}
}

static void
claim(void *arg)
{
	Task *task = arg;
	MemoryContext old;
	bool isnull;
	HeapTuple row;

	worker_forget_stale_plans();
	task->gone = !OidIsValid(get_relname_relid("task", get_namespace_oid("amzmp", true)));
	if (task->gone)
		return;
	worker_execute(claiming(task), 0, NULL, NULL, NULL);
	task->found = SPI_processed == 1;
	if (!task->found)
		return;
	row = SPI_tuptable->vals[0];
	old = MemoryContextSwitchTo(task->keep);
	task->account_id = DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull));
	task->task_id = DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull));
	task->kind = SPI_getvalue(row, SPI_tuptable->tupdesc, 3);
	read_statements(task, SPI_getbinval(row, SPI_tuptable->tupdesc, 4, &isnull));
	MemoryContextSwitchTo(old);
	tasks_in_turn = task->task_id == 0 ? TASKS_IN_TURN : Max(tasks_in_turn - 1, 0);
}

/* One statement of a task, within the time that the task has set for it. */
static void
run_limited(const char *statement)
{
	if (StatementTimeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);
	worker_execute(statement, 0, NULL, NULL, NULL);
	if (get_timeout_active(STATEMENT_TIMEOUT))
		disable_timeout(STATEMENT_TIMEOUT, false);
}

static void
perform(void *arg)
{
	Task *task = arg;
	Oid types[2] = {INT8OID, INT8OID};
	Datum values[2] = {Int64GetDatum(task->account_id), Int64GetDatum(task->task_id)};

	for (int i = 0; i < task->statement_count; i++)
		run_limited(task->statements[i]);
	worker_execute(task->own ? "select amzmp._finish_task($1, $2)" : "select amzmp.finish_task($1, $2)", 2, types,
				   values, NULL);
}

static void
record_failure(void *arg)
{
	Task *task = arg;
	Oid types[4] = {INT8OID, INT8OID, TEXTOID, TEXTOID};
	Datum values[4] = {Int64GetDatum(task->account_id), Int64GetDatum(task->task_id),
					   CStringGetTextDatum(unpack_sql_state(task->error->sqlerrcode)),
					   CStringGetTextDatum(task->error->message)};

	worker_execute(task->own ? "select amzmp._fail_task($1, $2, $3, $4)" : "select amzmp.fail_task($1, $2, $3, $4)", 4,
				   types, values, NULL);
}

/* Perform one task. False when there was none, or when our own bookkeeping failed (then the runner pauses). */
static bool
perform_one(Oid role, MemoryContext keep)
{
	bool own = is_own(role);
	Task task = {.keep = keep, .role = role, .own = own};
	ErrorData *error = worker_transaction(claim, &task, own, true, keep);

	if (error != NULL)
	{
		worker_log_error("claiming a task", error);
		return false;
	}
	if (task.gone)
		proc_exit(0);
	if (!task.found)
		return false;
	debug_query_string = task.kind;
	pgstat_report_activity(STATE_RUNNING, task.kind);
	/* the tasks that wait for the network, so they bring their own transactions */
	if (own && strcmp(task.kind, "transfer") == 0)
		task.error = transfer_perform(task.account_id, task.task_id, keep);
	else if (role == RUNNER_NETWORK && strcmp(task.kind, "mail") == 0)
		task.error = mail_perform(task.account_id, task.task_id, keep);
	else
		task.error = worker_transaction(perform, &task, own, false, keep);
	if (task.error != NULL && (error = worker_transaction(record_failure, &task, own, false, keep)) != NULL)
	{
		worker_log_error("recording a task's failure", error);
		return false;
	}
	return true;
}

void
amzmp_runner_main(Datum arg)
{
	int slot = DatumGetInt32(arg);
	MemoryContext context;
	Oid database;
	Oid role;

	runner_announce(slot, &database, &role);
	worker_start(database, is_own(role) ? InvalidOid : role, is_own(role) ? "amzmp runner" : "amzmp user runner");
	SetConfigOption("statement_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	context = AllocSetContextCreate(TopMemoryContext, "amzmp runner", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		worker_check_in();
		MemoryContextSwitchTo(context);
		/* the flag, not the latch, says that there is work: waiting for a lock uses up latches */
		while (runner_take_wake(slot))
			while (perform_one(role, context))
			{
				worker_check_in();
				MemoryContextReset(context);
			}
		pgstat_report_activity(STATE_IDLE, NULL);
		debug_query_string = NULL;
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LINGER_MS, PG_WAIT_EXTENSION) & WL_TIMEOUT)
			break;
		ResetLatch(MyLatch);
	}
	/* free the slot first: whoever finds it free afterwards starts a new runner */
	proc_exit(0);
}
