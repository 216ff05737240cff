/*
 * usage_plan_view.c
 *	  The usage plans' buckets as SQL shows them, and two functions by which tests take tokens and note answers.
 *
 * No state, no life cycle.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "processes.h"
#include "usage_plan_table.h"

PG_FUNCTION_INFO_V1(amzmp_usage);
PG_FUNCTION_INFO_V1(amzmp_usage_take);
PG_FUNCTION_INFO_V1(amzmp_usage_note);

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
	PlanBucket *copy = palloc_extended(sizeof(PlanBucket) * Max(plan_max_buckets, 1), MCXT_ALLOC_HUGE);
	HASH_SEQ_STATUS scan;
	PlanBucket *bucket;
	int64 now;

	*count = 0;
	LWLockAcquire(&plan_shared->lock, LW_SHARED);
	now = plan_now_us();
	hash_seq_init(&scan, plan_buckets);
	while ((bucket = hash_seq_search(&scan)) != NULL)
	{
		if (bucket->key.database != MyDatabaseId || *count >= plan_max_buckets)
			continue;
		copy[*count] = *bucket;
		plan_refill(&copy[(*count)++], now);
	}
	LWLockRelease(&plan_shared->lock);
	return copy;
}

static void
put_bucket_row(ReturnSetInfo *rsinfo, const PlanBucket *b)
{
	int64 answers = b->calls - b->network_faults;
	bool limited = plan_rate(b) > 0;
	Datum values[] = {
		CStringGetTextDatum(scope_name(b->key.scope)),
		Int64GetDatum(b->key.owner),
		CStringGetTextDatum(b->key.name),
		Float8GetDatum(plan_rate(b)),
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

	amzmp_require_preload("amzmp.usage");
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
