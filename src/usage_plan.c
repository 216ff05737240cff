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
 * What was spent before a start must not be spent again: usage_plan_file.c says what is known then. Nor what another
 * primary spent: a standby trusts no bucket once it is promoted.
 *
 * Life cycle: the postmaster makes the table when the server starts; all processes use it until the last one is gone.
 */
#include "postgres.h"

#include <math.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "processes.h"
#include "usage_plan.h"
#include "usage_plan_table.h"

#define BUCKETS_DEFAULT 16384
#define BUCKETS_MIN     64
#define BUCKETS_MAX     1048576

#define SECOND_US         INT64CONST(1000000)
#define RECENTLY_USED_US  (3600 * SECOND_US)
#define LEARNED_KEEPS_US  (86400 * SECOND_US)
#define NO_ROOM_WAIT_US   SECOND_US
#define SWEEP_INTERVAL_US SECOND_US

/* Slack for sums of floating point: a token of which a billionth is missing is one. */
#define WHOLE 1e-9

int plan_max_buckets = BUCKETS_DEFAULT;
PlanShared *plan_shared;
HTAB *plan_buckets;

int64
plan_now_us(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/* ---------------------------------------------------------------------------
 * One bucket
 * ---------------------------------------------------------------------------
 */

double
plan_rate(const PlanBucket *bucket)
{
	/* Who demands no limit (a mock account whose limits are off) gets none, whatever an answer says. */
	if (bucket->rate <= 0)
		return 0;
	return bucket->learned_rate > 0 ? bucket->learned_rate : bucket->rate;
}

static bool
bucket_limits(const PlanBucket *bucket)
{
	return plan_rate(bucket) > 0;
}

void
plan_refill(PlanBucket *bucket, int64 now)
{
	/* Another process may have read the clock before us and taken the lock after us. */
	if (now <= bucket->refilled_us)
		return;
	bucket->tokens = Min(bucket->burst, bucket->tokens + plan_rate(bucket) * (now - bucket->refilled_us) / 1e6);
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

	plan_refill(bucket, now);
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
	bucket->tokens = plan_shared->distrust ? 0 : bucket->burst;
	bucket->refilled_us = plan_shared->distrust ? plan_shared->distrust_us : now;
	bucket->used_us = now;
	bucket->since = GetCurrentTimestamp();
	plan_refill(bucket, now);
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

	plan_refill(bucket, now);
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

	hash_seq_init(&scan, plan_buckets);
	while ((bucket = hash_seq_search(&scan)) != NULL)
	{
		if (may_remove(bucket, level, now))
		{
			hash_search(plan_buckets, &bucket->key, HASH_REMOVE, NULL);
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

	if (hash_get_num_entries(plan_buckets) + n <= plan_max_buckets)
		return true;
	if (now < plan_shared->next_sweep_us)
		return false;
	for (SweepLevel level = SWEEP_UNUSED; level <= SWEEP_FULL && removed < plan_max_buckets / 16; level++)
		removed += sweep(level, now);
	if (removed == 0)
		plan_shared->next_sweep_us = now + SWEEP_INTERVAL_US;
	return hash_get_num_entries(plan_buckets) + n <= plan_max_buckets;
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
		if (!has_room && hash_search(plan_buckets, &demand[i].key, HASH_FIND, NULL) == NULL)
			return false;
	}
	for (int i = 0; i < n; i++)
	{
		bool exists;

		found[i] = hash_search(plan_buckets, &demand[i].key, HASH_ENTER_NULL, &exists);
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
			wait = Max(wait, ceil((1 - found[i]->tokens) / plan_rate(found[i]) * 1e6));
	}
	return (int64) Min(wait, 1e15);
}

/* A standby that was promoted: the old primary has spent what nobody here saw. The lock is held. */
static void
distrust_once_promoted(int64 now)
{
	HASH_SEQ_STATUS scan;
	PlanBucket *bucket;

	if (!plan_shared->standby || RecoveryInProgress())
		return;
	plan_shared->standby = false;
	plan_distrust_since(now);
	hash_seq_init(&scan, plan_buckets);
	while ((bucket = hash_seq_search(&scan)) != NULL)
	{
		bucket->tokens = 0;
		bucket->refilled_us = now;
	}
}

int
usage_plan_take_many(const PlanDemand *demand, int n, int want, int64 *wait_us)
{
	PlanBucket *found[PLAN_MAX_PER_CALL];
	int64 now;
	int taken = 0;

	amzmp_require_preload("keeping to usage plans");
	*wait_us = 0;
	if (n == 0)
		return want;

	LWLockAcquire(&plan_shared->lock, LW_EXCLUSIVE);
	now = plan_now_us();
	distrust_once_promoted(now);
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
	LWLockRelease(&plan_shared->lock);
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

	amzmp_require_preload("keeping to usage plans");
	LWLockAcquire(&plan_shared->lock, LW_EXCLUSIVE);
	now = plan_now_us();
	for (int i = 0; i < n; i++)
	{
		/* A bucket that is gone was full: there is nothing to give back to. */
		PlanBucket *bucket = hash_search(plan_buckets, &demand[i].key, HASH_FIND, NULL);

		if (bucket == NULL)
			continue;
		plan_refill(bucket, now);
		bucket->tokens = Min(bucket->burst, bucket->tokens + count);
	}
	LWLockRelease(&plan_shared->lock);
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

	amzmp_require_preload("keeping to usage plans");
	LWLockAcquire(&plan_shared->lock, LW_EXCLUSIVE);
	now = plan_now_us();
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
	LWLockRelease(&plan_shared->lock);
}

void
plan_distrust_since(int64 when)
{
	plan_shared->distrust = true;
	plan_shared->distrust_us = when;
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
	DefineCustomIntVariable("amzmp.max_buckets", "Sets how many usage-plan buckets are kept in shared memory.",
							"A bucket is needed for each plan of an account or application that is not full; it takes about 250 bytes.",
							&plan_max_buckets, BUCKETS_DEFAULT, BUCKETS_MIN, BUCKETS_MAX, PGC_POSTMASTER, 0, NULL, NULL,
							NULL);
}

Size
usage_plan_shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(PlanShared)), hash_estimate_size(plan_max_buckets, sizeof(PlanBucket)));
}

void
usage_plan_shmem_init(void)
{
	HASHCTL info = {.keysize = sizeof(PlanKey), .entrysize = sizeof(PlanBucket)};
	bool exists;

	plan_shared = ShmemInitStruct("amzmp usage plan", sizeof(PlanShared), &exists);
	plan_buckets =
		ShmemInitHash("amzmp usage plan buckets", plan_max_buckets, plan_max_buckets, &info, HASH_ELEM | HASH_BLOBS);
	if (!exists)
	{
		memset(plan_shared, 0, sizeof(*plan_shared));
		plan_shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&plan_shared->lock, plan_shared->tranche);
	}
	LWLockRegisterTranche(plan_shared->tranche, "AmzmpUsagePlan");
	if (exists || IsUnderPostmaster)
		return;

	plan_file_start();
}
