/*
 * usage_plan_table.h
 *	  The table of buckets, for the files of the usage plan alone (usage_plan*.c).
 */
#ifndef AMZMP_USAGE_PLAN_TABLE_H
#define AMZMP_USAGE_PLAN_TABLE_H

#include "storage/lwlock.h"
#include "usage_plan.h"
#include "utils/hsearch.h"

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
	bool standby; /* the server was started as a standby, and no token was asked for since it is none */
	int64 next_sweep_us;
} PlanShared;

extern int plan_max_buckets; /* amzmp.max_buckets */
extern PlanShared *plan_shared;
extern HTAB *plan_buckets;

/* Microseconds of a clock that no step of the system's time disturbs; it begins anew when the machine does. */
extern int64 plan_now_us(void);

/* Add what flowed in until `now`. */
extern void plan_refill(PlanBucket *bucket, int64 now);

/* The rate in force; 0 = no limit is known. */
extern double plan_rate(const PlanBucket *bucket);

/* What is not in the table counts as having been empty at `when`, which may lie before the machine's start. */
extern void plan_distrust_since(int64 when);

/* Once, in the postmaster: take over what a clean stop left, note that the server runs, and see to it that the end is saved. */
extern void plan_file_start(void);

#endif
