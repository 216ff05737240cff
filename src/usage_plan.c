/*
 * usage_plan.c
 *	  Token buckets in shared memory: no call of any process exceeds a usage plan.
 *
 * A bucket holds at most `burst` tokens, `rate` flow in each second, a call takes one from each bucket it falls
 * under. Buckets are refilled when they are looked at, by the monotonic clock, which no step of the system's time
 * disturbs. Who asks first when several could is the sender's business; here one token is never given twice.
 *
 * One lock guards all buckets. A take holds it for about a microsecond and a call takes milliseconds on the network,
 * so that thousands of calls a second do not make it a queue; and one lock is what makes "from each or from none" simple.
 *
 * Room. The table is of fixed size (amzmp.max_buckets). A bucket that is full says nothing that its absence does
 * not say, so full ones make room for others when the table is full: first those unused for an hour, then those
 * that have not learned a rate from Amazon within a day, then all. Their counts go with them. If none is full, the
 * answer is "wait": calling without an account of it would exceed a plan sooner or later.
 *
 * After a start. What was spent before must not be spent again. A clean stop leaves the buckets in a file beside
 * the server's statistics. While the server runs, that file says "running"; whoever finds it so at start knows that the last
 * stop was none (a crash, a power loss, a copy of a live server) and trusts no bucket: each counts as having been empty at
 * that start, and has what flowed in since. No file at all: the library is here for the first time, and
 * buckets are full. A crash of one process, after which the server makes its shared memory anew, finds "running" too.
 *
 * Life cycle: the postmaster makes the table at start, reads the file, and writes it when the last process is gone.
 */
#include "postgres.h"

#include <math.h>
#include <unistd.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "processes.h"
#include "usage_plan.h"

#define BUCKETS_DEFAULT 16384
#define BUCKETS_MIN     64
#define BUCKETS_MAX     1048576

#define STATE_FILE    PGSTAT_STAT_PERMANENT_DIRECTORY "/amzmp_usage_plan.stat"
#define STATE_MAGIC   0x414d5a31 /* changes with PlanBucket's layout */
#define STATE_RUNNING ((int32) -1)

#define SECOND_US         INT64CONST(1000000)
#define RECENTLY_USED_US  (3600 * SECOND_US)
#define LEARNED_KEEPS_US  (86400 * SECOND_US)
#define NO_ROOM_WAIT_US   SECOND_US
#define SWEEP_INTERVAL_US SECOND_US

/* Slack for sums of floating point: a token of which a billionth is missing is one. */
#define WHOLE 1e-9

typedef struct PlanBucket
{
	PlanKey key;
	double rate; /* as last demanded */
	double burst;
	double tokens;
	int64 refilled_us;   /* monotonic time at which `tokens` was true */
	double learned_rate; /* 0 = none */
	int64 learned_us;
	int64 used_us;
	TimestampTz since;     /* counting from here */
	TimestampTz last_used; /* 0 = no call was answered yet */
	int64 calls;           /* answers and faults */
	int64 throttled;
	int64 errors;
	int64 network_faults;
	int64 latency_sum_us; /* of answers */
	int64 latency_max_us;
} PlanBucket;

typedef struct PlanShared
{
	LWLock lock;
	int tranche;
	bool distrust; /* a bucket that is not in the table was empty at distrust_us; else it is full */
	int64 distrust_us;
	int64 next_sweep_us;
} PlanShared;

/* What stands at the head of the state file; `buckets` buckets follow, their times as ages at saved_at. */
typedef struct StateHeader
{
	uint32 magic;
	int32 buckets; /* STATE_RUNNING = none, the server runs or crashed */
	TimestampTz saved_at;
	int64 distrust_age_us; /* how long ago distrust began; -1 = none */
} StateHeader;

static int max_buckets = BUCKETS_DEFAULT;
static PlanShared *shared;
static HTAB *buckets;

PG_FUNCTION_INFO_V1(amzmp_usage);
PG_FUNCTION_INFO_V1(amzmp_usage_take);
PG_FUNCTION_INFO_V1(amzmp_usage_note);

static int64
monotonic_us(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/* ---------------------------------------------------------------------------
 * One bucket
 * ---------------------------------------------------------------------------
 */

static double
bucket_rate(const PlanBucket *bucket)
{
	return bucket->learned_rate > 0 ? bucket->learned_rate : bucket->rate;
}

/* Does this demand limit anything? What Amazon said counts even where the operation's row knows no plan. */
static bool
bucket_limits(const PlanBucket *bucket)
{
	return bucket_rate(bucket) > 0;
}

static void
bucket_refill(PlanBucket *bucket, int64 now)
{
	/* Another process may have read the clock before us and taken the lock after us. */
	if (now <= bucket->refilled_us)
		return;
	bucket->tokens = Min(bucket->burst, bucket->tokens + bucket_rate(bucket) * (now - bucket->refilled_us) / 1e6);
	bucket->refilled_us = now;
}

static bool
bucket_is_full(const PlanBucket *bucket)
{
	return !bucket_limits(bucket) || bucket->tokens >= bucket->burst - WHOLE;
}

/* Take over what the caller knows of the plan. The tokens that flowed in until now did so at the old rate. */
static void
bucket_adopt(PlanBucket *bucket, const PlanDemand *demand, int64 now)
{
	double burst = Max(demand->burst, 1.0);

	bucket_refill(bucket, now);
	if (bucket->burst != burst)
	{
		/* A larger bucket was not filled before it was known to be larger; a smaller one holds no more than it can. */
		bucket->burst = burst;
		bucket->tokens = Min(bucket->tokens, burst);
	}
	bucket->rate = Max(demand->rate, 0.0);
}

/* A bucket that was not in the table: full, or empty at the time since which we know what was spent. */
static void
bucket_init(PlanBucket *bucket, const PlanDemand *demand, int64 now)
{
	PlanKey key = bucket->key;

	memset(bucket, 0, sizeof(*bucket));
	bucket->key = key;
	bucket->rate = Max(demand->rate, 0.0);
	bucket->burst = Max(demand->burst, 1.0);
	bucket->tokens = shared->distrust ? 0 : bucket->burst;
	bucket->refilled_us = shared->distrust ? shared->distrust_us : now;
	bucket->used_us = now;
	bucket->since = GetCurrentTimestamp();
	bucket_refill(bucket, now);
}

/* ---------------------------------------------------------------------------
 * The table. Everything here wants the lock held exclusively.
 * ---------------------------------------------------------------------------
 */

typedef enum SweepLevel
{
	SWEEP_UNUSED,    /* full and unused for an hour */
	SWEEP_UNLEARNED, /* full, no rate learned within a day */
	SWEEP_FULL       /* full */
} SweepLevel;

static bool
may_remove(PlanBucket *bucket, SweepLevel level, int64 now)
{
	bool learned = bucket->learned_rate > 0 && now - bucket->learned_us < LEARNED_KEEPS_US;

	bucket_refill(bucket, now);
	if (!bucket_is_full(bucket))
		return false;
	switch (level)
	{
		case SWEEP_UNUSED:
			return !learned && now - bucket->used_us >= RECENTLY_USED_US;
		case SWEEP_UNLEARNED:
			return !learned;
		case SWEEP_FULL:
			return true;
	}
	return false;
}

static int
sweep(SweepLevel level, int64 now)
{
	HASH_SEQ_STATUS scan;
	PlanBucket *bucket;
	int removed = 0;

	hash_seq_init(&scan, buckets);
	while ((bucket = hash_seq_search(&scan)) != NULL)
	{
		if (may_remove(bucket, level, now))
		{
			hash_search(buckets, &bucket->key, HASH_REMOVE, NULL);
			removed++;
		}
	}
	return removed;
}

/*
 * See to it that `n` buckets fit in. A sweep walks the whole table, so it must be worth it: it goes to the next level
 * unless it freed a sixteenth, and when it has freed nothing it is not repeated within a second.
 */
static bool
make_room(int n, int64 now)
{
	int removed = 0;

	if (hash_get_num_entries(buckets) + n <= max_buckets)
		return true;
	if (now < shared->next_sweep_us)
		return false;
	for (SweepLevel level = SWEEP_UNUSED; level <= SWEEP_FULL && removed < max_buckets / 16; level++)
		removed += sweep(level, now);
	if (removed == 0)
		shared->next_sweep_us = now + SWEEP_INTERVAL_US;
	return hash_get_num_entries(buckets) + n <= max_buckets;
}

/* The demands' buckets, made where they are missing, refilled. False when there is no room: nothing was changed then. */
static bool
find_buckets(const PlanDemand *demand, int n, PlanBucket **found, int64 now)
{
	bool has_room;

	Assert(n <= PLAN_MAX_PER_CALL);

	/* Room is made first: it may remove what was found. */
	has_room = make_room(n, now);
	for (int i = 0; i < n; i++)
	{
		if (!has_room && hash_search(buckets, &demand[i].key, HASH_FIND, NULL) == NULL)
			return false;
	}
	for (int i = 0; i < n; i++)
	{
		bool exists;

		found[i] = hash_search(buckets, &demand[i].key, HASH_ENTER_NULL, &exists);
		if (found[i] == NULL)
			return false;
		if (exists)
			bucket_adopt(found[i], &demand[i], now);
		else
			bucket_init(found[i], &demand[i], now);
	}
	return true;
}

/* ---------------------------------------------------------------------------
 * Taking and giving back
 * ---------------------------------------------------------------------------
 */

PlanKey
usage_plan_key(PlanScope scope, int64 owner, const char *name)
{
	PlanKey key;

	memset(&key, 0, sizeof(key));
	key.database = MyDatabaseId;
	key.scope = scope;
	key.owner = owner;
	memcpy(key.name, name, strnlen(name, sizeof(key.name) - 1));
	return key;
}

/* How many tokens all of the buckets have, at most `want`. */
static int
tokens_in_all(PlanBucket *const *found, int n, int want)
{
	for (int i = 0; i < n; i++)
	{
		if (bucket_limits(found[i]))
			want = Min(want, Max(0, (int) floor(Min(found[i]->tokens + WHOLE, (double) want))));
	}
	return want;
}

/* When each of the buckets will have a token; at least a microsecond from now. */
static int64
wait_for_token(PlanBucket *const *found, int n)
{
	double wait = 1;

	for (int i = 0; i < n; i++)
	{
		if (bucket_limits(found[i]) && found[i]->tokens < 1)
			wait = Max(wait, ceil((1 - found[i]->tokens) / bucket_rate(found[i]) * 1e6));
	}
	return (int64) Min(wait, 1e15);
}

int
usage_plan_take_many(const PlanDemand *demand, int n, int want, int64 *wait_us)
{
	PlanBucket *found[PLAN_MAX_PER_CALL];
	int64 now;
	int taken = 0;

	amzmp_require_preload("usage plans");
	*wait_us = 0;
	if (n == 0)
		return want;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	now = monotonic_us();
	if (!find_buckets(demand, n, found, now))
		*wait_us = NO_ROOM_WAIT_US;
	else
	{
		taken = tokens_in_all(found, n, want);
		for (int i = 0; i < n; i++)
		{
			if (bucket_limits(found[i]))
				found[i]->tokens -= taken;
			found[i]->used_us = now;
		}
		if (taken < want)
			*wait_us = wait_for_token(found, n);
	}
	LWLockRelease(&shared->lock);
	return taken;
}

int64
usage_plan_take(const PlanDemand *demand, int n)
{
	int64 wait_us;

	usage_plan_take_many(demand, n, 1, &wait_us);
	return wait_us;
}

void
usage_plan_give_back(const PlanDemand *demand, int n, int count)
{
	int64 now;

	amzmp_require_preload("usage plans");
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	now = monotonic_us();
	for (int i = 0; i < n; i++)
	{
		/* A bucket that is gone was full: there is nothing to give back to. */
		PlanBucket *bucket = hash_search(buckets, &demand[i].key, HASH_FIND, NULL);

		if (bucket == NULL)
			continue;
		bucket_refill(bucket, now);
		bucket->tokens = Min(bucket->burst, bucket->tokens + count);
	}
	LWLockRelease(&shared->lock);
}

/* ---------------------------------------------------------------------------
 * Answers
 * ---------------------------------------------------------------------------
 */

static void
count_answer(PlanBucket *bucket, int http_status, int64 latency_us)
{
	bucket->calls++;
	bucket->last_used = GetCurrentTimestamp();
	if (http_status == 0)
	{
		bucket->network_faults++;
		return;
	}
	bucket->latency_sum_us += latency_us;
	bucket->latency_max_us = Max(bucket->latency_max_us, latency_us);
	if (http_status == 429)
	{
		bucket->throttled++;
		bucket->tokens = 0;
	}
	else if (http_status >= 400)
		bucket->errors++;
}

void
usage_plan_note_answer(const PlanDemand *demand, int n, int http_status, double learned_rate, int64 latency_us)
{
	PlanBucket *found[PLAN_MAX_PER_CALL];
	int64 now;

	amzmp_require_preload("usage plans");
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	now = monotonic_us();
	if (find_buckets(demand, n, found, now))
	{
		for (int i = 0; i < n; i++)
		{
			count_answer(found[i], http_status, latency_us);
			if (learned_rate > 0 && isfinite(learned_rate) && demand[i].key.scope == PLAN_ACCOUNT_OPERATION)
			{
				found[i]->learned_rate = learned_rate;
				found[i]->learned_us = now;
			}
		}
	}
	LWLockRelease(&shared->lock);
}

/* What is not in the table counts as having been empty at `when`, which may lie before the machine's start. */
static void
distrust_since(int64 when)
{
	shared->distrust = true;
	shared->distrust_us = when;
}

void
usage_plan_distrust(void)
{
	HASH_SEQ_STATUS scan;
	PlanBucket *bucket;

	amzmp_require_preload("usage plans");
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	distrust_since(monotonic_us());
	hash_seq_init(&scan, buckets);
	while ((bucket = hash_seq_search(&scan)) != NULL)
	{
		bucket->tokens = 0;
		bucket->refilled_us = shared->distrust_us;
	}
	LWLockRelease(&shared->lock);
}

/* ---------------------------------------------------------------------------
 * The state file. Runs in the postmaster alone, so there is nobody to lock out.
 * ---------------------------------------------------------------------------
 */

/* Replace the file by what `buckets_too` says; a failure is logged, the next start is then cautious or has old figures. */
static void
state_write(bool buckets_too)
{
	const char *fresh = STATE_FILE ".tmp";
	StateHeader header = {STATE_MAGIC, STATE_RUNNING, GetCurrentTimestamp(), -1};
	int64 now = monotonic_us();
	FILE *file = AllocateFile(fresh, PG_BINARY_W);
	bool ok = file != NULL;

	if (buckets_too)
		header.buckets = (int32) hash_get_num_entries(buckets);
	if (shared->distrust)
		header.distrust_age_us = now - shared->distrust_us;
	ok = ok && fwrite(&header, sizeof(header), 1, file) == 1;
	if (ok && buckets_too)
	{
		HASH_SEQ_STATUS scan;
		PlanBucket *bucket;

		hash_seq_init(&scan, buckets);
		while ((bucket = hash_seq_search(&scan)) != NULL)
		{
			PlanBucket copy = *bucket;

			/* The monotonic clock begins anew when the machine does: save ages. */
			bucket_refill(&copy, now);
			copy.refilled_us = 0;
			copy.learned_us = now - copy.learned_us;
			copy.used_us = now - copy.used_us;
			ok = ok && fwrite(&copy, sizeof(copy), 1, file) == 1;
		}
	}
	if (file != NULL && FreeFile(file) != 0)
		ok = false;
	if (!ok)
	{
		ereport(LOG, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", fresh)));
		unlink(fresh);
		return;
	}
	(void) durable_rename(fresh, STATE_FILE, LOG);
}

static void
state_add_bucket(const PlanBucket *saved, int64 now, int64 elapsed)
{
	bool exists;
	PlanBucket *bucket;

	if (hash_get_num_entries(buckets) >= max_buckets)
		return;
	bucket = hash_search(buckets, &saved->key, HASH_ENTER_NULL, &exists);
	if (bucket == NULL)
		return;
	*bucket = *saved;
	bucket->refilled_us = now - elapsed;
	bucket->learned_us = now - elapsed - saved->learned_us;
	bucket->used_us = now - elapsed - saved->used_us;
}

/* Read what a clean stop left. False when it was no clean stop, or the file cannot be relied on. */
static bool
state_read_buckets(FILE *file, int64 now)
{
	StateHeader header;
	int64 elapsed;

	if (fread(&header, sizeof(header), 1, file) != 1 || header.magic != STATE_MAGIC || header.buckets == STATE_RUNNING)
		return false;

	/* Across a stop there is only the system's time. If it went back, nothing flowed in. */
	elapsed = Max(GetCurrentTimestamp() - header.saved_at, 0);
	for (int32 i = 0; i < header.buckets; i++)
	{
		PlanBucket saved;

		if (fread(&saved, sizeof(saved), 1, file) != 1)
			return false;
		state_add_bucket(&saved, now, elapsed);
	}
	if (header.distrust_age_us >= 0)
		distrust_since(now - elapsed - header.distrust_age_us);
	return true;
}

static void
state_load(void)
{
	int64 now = monotonic_us();
	FILE *file = AllocateFile(STATE_FILE, PG_BINARY_R);

	if (file == NULL && errno == ENOENT)
		return; /* the first start with this library: buckets are full */
	if (file == NULL || !state_read_buckets(file, now))
		distrust_since(now);
	else if (hash_get_num_entries(buckets) >= max_buckets)
		distrust_since(now); /* amzmp.max_buckets was lowered: some did not fit in */
	if (file != NULL)
		FreeFile(file);
}

/*
 * Last act of the postmaster; all other processes are gone. `code` is not 0 after a crash. An immediate shutdown may
 * have ended a process in the middle of a change: then the lock is still held, and the file goes on saying "running".
 */
static void
state_save_at_exit(int code, Datum arg)
{
	if (code != 0 || !LWLockConditionalAcquire(&shared->lock, LW_EXCLUSIVE))
		return;
	state_write(true);
	LWLockRelease(&shared->lock);
}

/* ---------------------------------------------------------------------------
 * Start
 * ---------------------------------------------------------------------------
 */

void
usage_plan_define_settings(void)
{
	/* A size of shared memory cannot be defined once the server runs. */
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable(
		"amzmp.max_buckets", "Sets how many usage-plan buckets are kept in shared memory.",
		"A bucket is needed for each plan of an account or application that is not full; it takes about 250 bytes.",
		&max_buckets, BUCKETS_DEFAULT, BUCKETS_MIN, BUCKETS_MAX, PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

Size
usage_plan_shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(PlanShared)), hash_estimate_size(max_buckets, sizeof(PlanBucket)));
}

void
usage_plan_shmem_init(void)
{
	HASHCTL info = {.keysize = sizeof(PlanKey), .entrysize = sizeof(PlanBucket)};
	bool exists;

	shared = ShmemInitStruct("amzmp usage plan", sizeof(PlanShared), &exists);
	buckets = ShmemInitHash("amzmp usage plan buckets", max_buckets, max_buckets, &info, HASH_ELEM | HASH_BLOBS);
	if (!exists)
	{
		memset(shared, 0, sizeof(*shared));
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
	}
	LWLockRegisterTranche(shared->tranche, "AmzmpUsagePlan");
	if (exists || IsUnderPostmaster)
		return;

	state_load();
	state_write(false);
	on_shmem_exit(state_save_at_exit, (Datum) 0);
}

/* ---------------------------------------------------------------------------
 * SQL
 * ---------------------------------------------------------------------------
 */

static const char *
scope_name(int32 scope)
{
	switch ((PlanScope) scope)
	{
		case PLAN_ACCOUNT_OPERATION:
			return "operation";
		case PLAN_APPLICATION_CLASS:
			return "application";
		case PLAN_ACCOUNT_FEED_TYPE:
			return "feed_type";
		case PLAN_ACCOUNT_SANDBOX:
			return "sandbox";
	}
	return "unknown";
}

/* A copy of this database's buckets, refilled, so that building rows needs no lock. */
static PlanBucket *
copy_buckets(int *count)
{
	PlanBucket *copy = palloc_extended(sizeof(PlanBucket) * Max(max_buckets, 1), MCXT_ALLOC_HUGE);
	HASH_SEQ_STATUS scan;
	PlanBucket *bucket;
	int64 now;

	*count = 0;
	LWLockAcquire(&shared->lock, LW_SHARED);
	now = monotonic_us();
	hash_seq_init(&scan, buckets);
	while ((bucket = hash_seq_search(&scan)) != NULL)
	{
		if (bucket->key.database != MyDatabaseId || *count >= max_buckets)
			continue;
		copy[*count] = *bucket;
		bucket_refill(&copy[(*count)++], now);
	}
	LWLockRelease(&shared->lock);
	return copy;
}

static void
put_bucket_row(ReturnSetInfo *rsinfo, const PlanBucket *b)
{
	int64 answers = b->calls - b->network_faults;
	bool limited = bucket_limits(b);
	Datum values[] = {
		CStringGetTextDatum(scope_name(b->key.scope)),
		Int64GetDatum(b->key.owner),
		CStringGetTextDatum(b->key.name),
		Float8GetDatum(bucket_rate(b)),
		Float8GetDatum(b->burst),
		Float8GetDatum(b->tokens),
		Float8GetDatum(b->learned_rate),
		Int64GetDatum(b->calls),
		Int64GetDatum(b->throttled),
		Int64GetDatum(b->errors),
		Int64GetDatum(b->network_faults),
		Float8GetDatum(answers > 0 ? b->latency_sum_us / 1000.0 / answers : 0),
		Float8GetDatum(b->latency_max_us / 1000.0),
		TimestampTzGetDatum(b->last_used),
		TimestampTzGetDatum(b->since),
	};
	bool nulls[lengthof(values)] = {false};

	nulls[3] = nulls[4] = nulls[5] = !limited;
	nulls[6] = b->learned_rate <= 0;
	nulls[11] = nulls[12] = answers == 0;
	nulls[13] = b->last_used == 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
amzmp_usage(PG_FUNCTION_ARGS)
{
	PlanBucket *copy;
	int count;

	amzmp_require_preload("usage plans");
	InitMaterializedSRF(fcinfo, 0);
	copy = copy_buckets(&count);
	for (int i = 0; i < count; i++)
		put_bucket_row((ReturnSetInfo *) fcinfo->resultinfo, &copy[i]);
	pfree(copy);
	return (Datum) 0;
}

static PlanDemand
demand_from_arguments(FunctionCallInfo fcinfo)
{
	PlanDemand demand;

	demand.key = usage_plan_key(PLAN_ACCOUNT_OPERATION, PG_GETARG_INT64(0), text_to_cstring(PG_GETARG_TEXT_PP(1)));
	demand.rate = PG_GETARG_FLOAT8(2);
	demand.burst = PG_GETARG_FLOAT8(3);
	return demand;
}

Datum
amzmp_usage_take(PG_FUNCTION_ARGS)
{
	PlanDemand demand = demand_from_arguments(fcinfo);

	PG_RETURN_FLOAT8(usage_plan_take(&demand, 1) / 1e6);
}

Datum
amzmp_usage_note(PG_FUNCTION_ARGS)
{
	PlanDemand demand = demand_from_arguments(fcinfo);

	usage_plan_note_answer(&demand, 1, PG_GETARG_INT32(4), PG_GETARG_FLOAT8(5), PG_GETARG_INT64(6));
	PG_RETURN_VOID();
}
