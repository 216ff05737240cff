/*
 * usage_plan_file.c
 *	  What is known of the usage plans' buckets when the server starts.
 *
 * What was spent before must not be spent again. A clean stop leaves the buckets in a file beside
 * the server's statistics. While the server runs, that file says "running"; whoever finds it so at start knows that the last
 * stop was none (a crash, a power loss, a copy of a live server) and trusts no bucket: each counts as having been empty at
 * that start, and has what flowed in since. No file at all: the library is here for the first time, and
 * buckets are full. A crash of one process, after which the server makes its shared memory anew, finds "running" too.
 *
 * A clean stop during which distrust was not over yet passes it on. That of a standby leaves nothing to rely on: what
 * its primary spends is not seen here.
 *
 * Everything here runs in the postmaster, before it has children or after they are gone.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xlog.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "usage_plan_table.h"

#define STATE_FILE    PGSTAT_STAT_PERMANENT_DIRECTORY "/amzmp_usage_plan.stat"
#define STATE_MAGIC   0x414d5a31 /* changes with PlanBucket's layout */
#define STATE_RUNNING ((int32) -1)

/* What stands at the head of the state file; `buckets` buckets follow, their times as ages at saved_at. */
typedef struct StateHeader
{
	uint32 magic;
	int32 buckets; /* STATE_RUNNING = none, the server runs or crashed */
	TimestampTz saved_at;
	int64 distrust_age_us; /* how long ago distrust began; -1 = none */
} StateHeader;

/* Replace the file by what `buckets_too` says; a failure is logged, the next start is then cautious or has old figures. */
static void
state_write(bool buckets_too)
{
	const char *fresh = STATE_FILE ".tmp";
	StateHeader header = {STATE_MAGIC, STATE_RUNNING, GetCurrentTimestamp(), -1};
	int64 now = plan_now_us();
	FILE *file = AllocateFile(fresh, PG_BINARY_W);
	bool ok = file != NULL;

	if (buckets_too)
		header.buckets = (int32) hash_get_num_entries(plan_buckets);
	if (plan_shared->distrust)
		header.distrust_age_us = now - plan_shared->distrust_us;
	ok = ok && fwrite(&header, sizeof(header), 1, file) == 1;
	if (ok && buckets_too)
	{
		HASH_SEQ_STATUS scan;
		PlanBucket *bucket;

		hash_seq_init(&scan, plan_buckets);
		while ((bucket = hash_seq_search(&scan)) != NULL)
		{
			PlanBucket copy = *bucket;

			/* The monotonic clock begins anew when the machine does: save ages. */
			plan_refill(&copy, now);
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

	if (hash_get_num_entries(plan_buckets) >= plan_max_buckets)
		return;
	bucket = hash_search(plan_buckets, &saved->key, HASH_ENTER_NULL, &exists);
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
		plan_distrust_since(now - elapsed - header.distrust_age_us);
	return true;
}

static void
state_load(void)
{
	int64 now = plan_now_us();
	FILE *file = AllocateFile(STATE_FILE, PG_BINARY_R);

	if (file == NULL && errno == ENOENT)
		return; /* the first start with this library: buckets are full */
	if (file == NULL || !state_read_buckets(file, now))
		plan_distrust_since(now);
	else if (hash_get_num_entries(plan_buckets) >= plan_max_buckets)
		plan_distrust_since(now); /* amzmp.max_buckets was lowered: some did not fit in */
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
	if (code != 0 || plan_shared->standby || !LWLockConditionalAcquire(&plan_shared->lock, LW_EXCLUSIVE))
		return;
	state_write(true);
	LWLockRelease(&plan_shared->lock);
}

void
plan_file_start(void)
{
	plan_shared->standby = access(STANDBY_SIGNAL_FILE, F_OK) == 0;
	state_load();
	state_write(false);
	on_shmem_exit(state_save_at_exit, (Datum) 0);
}
