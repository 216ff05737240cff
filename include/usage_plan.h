/*
 * usage_plan.h
 *	  Token buckets in shared memory, shared by every process of the server.
 */
#ifndef AMZMP_USAGE_PLAN_H
#define AMZMP_USAGE_PLAN_H

#include "datatype/timestamp.h"

#define PLAN_NAME_LENGTH 48

/* What a bucket belongs to. Hashed as raw bytes: fill it by usage_plan_key, or zero the struct before. */
typedef struct PlanKey
{
	Oid database;                /* pg_database.oid */
	int32 scope;                 /* PlanScope */
	int64 owner;                 /* account_id or application id, by scope */
	char name[PLAN_NAME_LENGTH]; /* operation, class of operation, or feed type */
} PlanKey;

typedef enum PlanScope
{
	PLAN_ACCOUNT_OPERATION = 1,
	PLAN_APPLICATION_CLASS,
	PLAN_ACCOUNT_FEED_TYPE,
	PLAN_ACCOUNT_SANDBOX
} PlanScope;

/* A call falls under up to PLAN_MAX_PER_CALL different buckets and takes one token from each, or from none. */
#define PLAN_MAX_PER_CALL 4

/*
 * The rates are those that hold on the wall clock of this server: for a mock account whose time runs faster, the
 * caller multiplies rates (also the learned one) by its time_scale.
 */
typedef struct PlanDemand
{
	PlanKey key;
	double rate;  /* tokens per second; 0 = no limit */
	double burst; /* most tokens kept; less than 1 counts as 1 */
} PlanDemand;

extern void usage_plan_define_settings(void);
extern Size usage_plan_shmem_size(void);
extern void usage_plan_shmem_init(void); /* called with AddinShmemInitLock held */

/* A key of this database; a longer name is cut off. */
extern PlanKey usage_plan_key(PlanScope scope, int64 owner, const char *name);

/*
 * Take one token from each of `n` buckets at once. Returns 0 when taken, else the microseconds after which it is
 * worth asking again. Never waits. Throws only without preload: there is no shared memory then.
 */
extern int64 usage_plan_take(const PlanDemand *demand, int n);

/* As usage_plan_take, but up to `want` tokens; returns how many were taken (0..want), *wait_us set when < want. */
extern int usage_plan_take_many(const PlanDemand *demand, int n, int want, int64 *wait_us);

/* Give back `count` tokens that were taken and not used. */
extern void usage_plan_give_back(const PlanDemand *demand, int n, int count);

/*
 * An answer arrived: it is counted in each bucket. learned_rate is what x-amzn-RateLimit-Limit said (0 = absent); it
 * becomes the rate of the account's operation, the only plan that Amazon tells, unless that one demands no limit. http_status 0 = network fault. A 429
 * empties the buckets: a caller that knows from the message which plan it was passes that one alone.
 */
extern void usage_plan_note_answer(const PlanDemand *demand, int n, int http_status, double learned_rate, int64 latency_us);

#endif
