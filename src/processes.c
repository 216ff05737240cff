/*
 * processes.c
 *	  Slots in shared memory by which our processes and ordinary backends find and wake each other.
 *
 * Shared memory holds numbers and flags only, under one LWLock that nobody holds while waiting. A waker sets the flag,
 * then the latch of the PGPROC whose number the slot keeps; the woken process clears the flag before it looks at the
 * queue. A wake-up that reaches a wrong process (the slot's owner has just died) is one spurious wake-up.
 *
 * The same file knows which databases must be left alone for a while: DROP DATABASE, ALTER DATABASE … RENAME and
 * CREATE DATABASE … TEMPLATE refuse while anybody is connected, so our processes are stopped there first (statements.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "errcodes.h"
#include "processes.h"

#define LEAVE_TIMEOUT_MS 10000
#define STARTING_MS      10000

typedef struct WorkerSlot
{
	Oid database; /* InvalidOid = free */
	Oid role;     /* runners: InvalidOid = own runner */
	int pid;      /* 0 = reserved, not yet started */
	int procno;
	bool wake;
	bool prepared; /* senders: a transaction with our work was prepared */
	bool altered;  /* senders: a relation or a privilege was altered */
	TimestampTz reserved_at;
} WorkerSlot;

typedef struct Processes
{
	LWLock *lock;
	int launcher_procno;
	WorkerSlot senders[MAX_SENDERS];
	WorkerSlot runners[MAX_RUNNERS];
	Oid paused[MAX_PAUSED];
	Oid registered[MAX_SENDERS]; /* databases that have the extension */
	TimestampTz registered_at[MAX_SENDERS];
	uint32 runners_left; /* how many runners have ended so far */
} Processes;

static Processes *shared = NULL;

/* what this transaction will wake when it commits */
static bool callback_registered = false;
static bool wake_sender = false;
static bool wake_runners = false;
static Oid wake_runner_role = InvalidOid;
static bool shop_altered = false;
static bool register_database = false;

Size
processes_shmem_size(void)
{
	return MAXALIGN(sizeof(Processes));
}

void
processes_shmem_init(void)
{
	bool found;

	shared = ShmemInitStruct("amzmp processes", sizeof(Processes), &found);
	if (found)
		return;
	memset(shared, 0, sizeof(Processes));
	shared->launcher_procno = -1;
	shared->lock = &(GetNamedLWLockTranche("amzmp"))[0].lock;
}

void
amzmp_require_preload(const char *what)
{
	if (shared == NULL)
		ereport(ERROR, (errcode(ERRCODE_AMZMP_NOT_PRELOADED), errmsg("%s needs amzmp to be preloaded", what),
						errhint("Add amzmp to shared_preload_libraries in postgresql.conf and restart the server.")));
}

/*
 * Waking
 */

static void
set_latch_of(int procno)
{
	if (procno >= 0)
		SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

/* Needs the lock, shared at least. Whoever finds the flag set leaves the latch alone: the one who set it set both. */
static void
wake_slot(WorkerSlot *slot)
{
	if (slot->wake)
		return;
	slot->wake = true;
	if (slot->pid != 0)
		set_latch_of(slot->procno);
}

static void
wake_database(Oid database, bool prepared)
{
	/* Flags are only ever set here, and cleared under the exclusive lock: every commit of the shop comes this way. */
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < MAX_SENDERS; i++)
		if (shared->senders[i].database == database)
		{
			if (prepared)
				shared->senders[i].prepared = true;
			if (shop_altered)
				shared->senders[i].altered = true;
			wake_slot(&shared->senders[i]);
		}
	for (int i = 0; wake_runners && !prepared && i < MAX_RUNNERS; i++)
	{
		WorkerSlot *slot = &shared->runners[i];

		if (slot->database == database && OidIsValid(slot->role) &&
			(!OidIsValid(wake_runner_role) || slot->role == wake_runner_role))
			wake_slot(slot);
	}
	LWLockRelease(shared->lock);
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
	{
		if (wake_sender)
			wake_database(MyDatabaseId, event == XACT_EVENT_PREPARE);
		if (register_database)
		{
			database_register(MyDatabaseId);
			set_latch_of(shared->launcher_procno);
		}
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		wake_sender = wake_runners = shop_altered = register_database = false;
}

static bool
ready_to_wake(void)
{
	if (shared == NULL)
		return false;
	if (!callback_registered)
	{
		RegisterXactCallback(at_transaction_end, NULL);
		callback_registered = true;
	}
	return true;
}

void
amzmp_wake_at_commit(void)
{
	if (ready_to_wake())
		wake_sender = true;
}

void
processes_altered_at_commit(void)
{
	shop_altered = true;
	amzmp_wake_at_commit();
}

void
amzmp_wake_runner_at_commit(Oid runner)
{
	if (!ready_to_wake())
		return;
	if (wake_runners && wake_runner_role != runner)
		runner = InvalidOid; /* several roles: all of them */
	wake_sender = wake_runners = true;
	wake_runner_role = runner;
}

PG_FUNCTION_INFO_V1(amzmp_wake);
Datum
amzmp_wake(PG_FUNCTION_ARGS)
{
	amzmp_wake_at_commit();
	PG_RETURN_VOID();
}

/* amzmp._register_database(): called by the install script. Its commit tells the launcher that the extension is here. */
PG_FUNCTION_INFO_V1(amzmp_register_database);
Datum
amzmp_register_database(PG_FUNCTION_ARGS)
{
	if (ready_to_wake())
		register_database = true;
	PG_RETURN_VOID();
}

/* The launcher has not had its time yet: the server has just started, or the extension has just been created. */
static bool
sender_is_starting(Oid database)
{
	TimestampTz since = PgStartTime;

	if (RecoveryInProgress())
		return false;
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < MAX_SENDERS; i++)
		if (shared->registered[i] == database)
			since = Max(since, shared->registered_at[i]);
	LWLockRelease(shared->lock);
	return !TimestampDifferenceExceeds(since, GetCurrentTimestamp(), STARTING_MS);
}

/* amzmp._processes(): 'not preloaded', 'starting', 'no sender' or 'running', for health() and hints. */
PG_FUNCTION_INFO_V1(amzmp_processes);
Datum
amzmp_processes(PG_FUNCTION_ARGS)
{
	const char *state = "running";

	if (shared == NULL)
		state = "not preloaded";
	else if (!amzmp_sender_alive())
		state = sender_is_starting(MyDatabaseId) ? "starting" : "no sender";
	PG_RETURN_DATUM(DirectFunctionCall1(textin, CStringGetDatum(state)));
}

bool
amzmp_sender_alive(void)
{
	return shared != NULL && sender_is_running(MyDatabaseId);
}

/*
 * The workers' side
 */

static void
forget_slot(int code, Datum arg)
{
	WorkerSlot *slot = (WorkerSlot *) DatumGetPointer(arg);

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	memset(slot, 0, sizeof(WorkerSlot));
	LWLockRelease(shared->lock);
}

static void
wake_sender_of(Oid database)
{
	bool runners = wake_runners;

	wake_runners = false;
	wake_database(database, false);
	wake_runners = runners;
}

/* A runner ends: the sender may have work for which there was no room, or that came too late for this one. */
static void
forget_runner(int code, Datum arg)
{
	Oid database = ((WorkerSlot *) DatumGetPointer(arg))->database;

	forget_slot(code, arg);
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->runners_left++;
	LWLockRelease(shared->lock);
	wake_sender_of(database);
}

uint32
runners_left(void)
{
	uint32 count;

	LWLockAcquire(shared->lock, LW_SHARED);
	count = shared->runners_left;
	LWLockRelease(shared->lock);
	return count;
}

/* amzmp._runner_lives(pid): is a runner of that process id at work? */
PG_FUNCTION_INFO_V1(amzmp_runner_lives);
Datum
amzmp_runner_lives(PG_FUNCTION_ARGS)
{
	bool lives = false;

	if (shared == NULL)
		PG_RETURN_BOOL(false);
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < MAX_RUNNERS && !lives; i++)
		lives = shared->runners[i].pid == PG_GETARG_INT32(0);
	LWLockRelease(shared->lock);
	PG_RETURN_BOOL(lives);
}

static void
occupy_slot(WorkerSlot *slot)
{
	slot->pid = MyProcPid;
	slot->procno = AMZMP_MY_PROC_NUMBER;
	slot->wake = true; /* look at the queue once */
}

static void
launcher_withdraw(int code, Datum arg)
{
	shared->launcher_procno = -1;
}

void
launcher_announce(void)
{
	shared->launcher_procno = AMZMP_MY_PROC_NUMBER;
	before_shmem_exit(launcher_withdraw, (Datum) 0);
}

bool
sender_announce(Oid database)
{
	WorkerSlot *mine = NULL;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_SENDERS; i++)
	{
		WorkerSlot *slot = &shared->senders[i];

		if (slot->database == database)
		{
			mine = NULL;
			break;
		}
		if (mine == NULL && !OidIsValid(slot->database))
			mine = slot;
	}
	if (mine != NULL)
	{
		mine->database = database;
		mine->prepared = true; /* prepared transactions may have survived a restart */
		occupy_slot(mine);
	}
	LWLockRelease(shared->lock);
	if (mine != NULL)
		before_shmem_exit(forget_slot, PointerGetDatum(mine));
	return mine != NULL;
}

bool
sender_take_wake(bool *prepared, bool *altered)
{
	bool wake = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_SENDERS; i++)
		if (shared->senders[i].pid == MyProcPid)
		{
			wake = shared->senders[i].wake;
			*prepared |= shared->senders[i].prepared;
			*altered |= shared->senders[i].altered;
			shared->senders[i].wake = shared->senders[i].prepared = shared->senders[i].altered = false;
		}
	LWLockRelease(shared->lock);
	return wake;
}

bool
sender_is_running(Oid database)
{
	bool alive = false;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < MAX_SENDERS && !alive; i++)
		alive = shared->senders[i].database == database && shared->senders[i].pid != 0;
	LWLockRelease(shared->lock);
	return alive;
}

/* A reservation whose worker never came (it failed to start) may be taken over after a minute. */
static bool
reservation_is_stale(const WorkerSlot *slot)
{
	return slot->pid == 0 && TimestampDifferenceExceeds(slot->reserved_at, GetCurrentTimestamp(), 60000);
}

int
runner_reserve(Oid database, Oid role, int most)
{
	int free_slot = -1;
	int running = 0;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_RUNNERS; i++)
	{
		WorkerSlot *slot = &shared->runners[i];

		if (OidIsValid(slot->database) && reservation_is_stale(slot))
			memset(slot, 0, sizeof(WorkerSlot));
		if (!OidIsValid(slot->database))
			free_slot = free_slot < 0 ? i : free_slot;
		running += slot->database == database;
		if (slot->database == database && slot->role == role)
		{
			wake_slot(slot);
			running = most;
			break;
		}
	}
	if (running >= most)
		free_slot = -1;
	if (free_slot >= 0)
	{
		WorkerSlot *slot = &shared->runners[free_slot];

		memset(slot, 0, sizeof(WorkerSlot));
		slot->database = database;
		slot->role = role;
		slot->reserved_at = GetCurrentTimestamp();
	}
	LWLockRelease(shared->lock);
	return free_slot;
}

void
runner_release(int slot)
{
	forget_slot(0, PointerGetDatum(&shared->runners[slot]));
}

void
runner_announce(int slot, Oid *database, Oid *role)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	*database = shared->runners[slot].database;
	*role = shared->runners[slot].role;
	occupy_slot(&shared->runners[slot]);
	LWLockRelease(shared->lock);
	before_shmem_exit(forget_runner, PointerGetDatum(&shared->runners[slot]));
}

bool
runner_take_wake(int slot)
{
	bool wake;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	wake = shared->runners[slot].wake;
	shared->runners[slot].wake = false;
	LWLockRelease(shared->lock);
	return wake;
}

/*
 * Databases that have the extension. A sender that finds it registers its database too, so the list is whole soon
 * after each start; when it is full a dead sender is simply not replaced, which the log tells.
 */

static void
replace_registered(Oid from, Oid to)
{
	int place = -1;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_SENDERS; i++)
	{
		if (OidIsValid(to) && shared->registered[i] == to)
		{
			LWLockRelease(shared->lock);
			return;
		}
		if (place < 0 && shared->registered[i] == from)
			place = i;
	}
	if (place >= 0)
	{
		shared->registered[place] = to;
		shared->registered_at[place] = GetCurrentTimestamp();
	}
	LWLockRelease(shared->lock);
	if (place < 0 && OidIsValid(to))
		ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("amzmp works in %d databases already", MAX_SENDERS)));
}

void
database_register(Oid database)
{
	replace_registered(InvalidOid, database);
}

void
database_unregister(Oid database)
{
	replace_registered(database, InvalidOid);
}

bool
database_is_registered(Oid database)
{
	bool found = false;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < MAX_SENDERS && !found; i++)
		found = shared->registered[i] == database;
	LWLockRelease(shared->lock);
	return found;
}

/*
 * Leaving a database that somebody wants to drop, rename or copy
 */

bool
database_is_paused(Oid database)
{
	bool paused = false;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < MAX_PAUSED && !paused; i++)
		paused = shared->paused[i] == database;
	LWLockRelease(shared->lock);
	return paused;
}

int
database_pause(Oid database)
{
	int place = -1;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_PAUSED && place < 0; i++)
		if (!OidIsValid(shared->paused[i]))
			place = i;
	if (place >= 0)
		shared->paused[place] = database;
	LWLockRelease(shared->lock);
	return place;
}

void
database_resume(int place)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->paused[place] = InvalidOid;
	LWLockRelease(shared->lock);
	set_latch_of(shared->launcher_procno);
}

/* Ask our processes of a database to end; returns how many there still are. */
static int
terminate_workers(WorkerSlot *slots, int count, Oid database)
{
	int alive = 0;

	for (int i = 0; i < count; i++)
		if (slots[i].database == database)
		{
			alive++;
			if (slots[i].pid != 0)
				kill(slots[i].pid, SIGTERM);
		}
	return alive;
}

void
database_leave(Oid database)
{
	for (int waited = 0; waited < LEAVE_TIMEOUT_MS; waited += 20)
	{
		int alive;

		LWLockAcquire(shared->lock, LW_SHARED);
		alive = terminate_workers(shared->senders, MAX_SENDERS, database) +
				terminate_workers(shared->runners, MAX_RUNNERS, database);
		LWLockRelease(shared->lock);
		if (alive == 0)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}
