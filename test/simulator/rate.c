/*
 * rate.c: usage plans. One token bucket per seller and operation, and one per application where Amazon has such a
 * plan; an empty one answers 429 QuotaExceeded.
 *
 * Buckets fill in virtual time. A quarter of a second of real time is forgiven, at most settings.forgiven tokens: two
 * requests sent exactly at the plan's pace may arrive a little closer together, and that is the network's doing. Where
 * the clock is quick, a busy machine's hiccup is worth several.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>

#define FORGIVEN_SECONDS 0.25

typedef struct Bucket
{
	double tokens;
	Micros filled;
} Bucket;

static Table *buckets;

void
rate_reset(void)
{
	table_free(buckets, free);
	buckets = table_new();
}

static Bucket *
bucket_fill(const char *key, double rate, double burst)
{
	Bucket *bucket = table_get(buckets, key);
	Micros now = clock_now();

	if (bucket == NULL)
	{
		bucket = xalloc(sizeof(Bucket));
		bucket->tokens = burst;
		bucket->filled = now;
		table_put(buckets, key, bucket);
	}
	if (now > bucket->filled)
		bucket->tokens += rate * (double) (now - bucket->filled) / (double) SECOND;
	bucket->filled = now;
	if (bucket->tokens > burst)
		bucket->tokens = burst;
	return bucket;
}

static void
refuse(Call *call, const char *message)
{
	stats_overrun(call);
	call_fail(call, 429, "QuotaExceeded", "%s", message);
}

bool
rate_take_named(Call *call, const char *key, double rate, double burst, const char *message)
{
	Bucket *bucket;
	double forgiven;

	if (settings.rate_scale <= 0 || rate <= 0)
		return true;
	rate *= settings.rate_scale;
	burst *= settings.rate_scale < 1 ? 1 : settings.rate_scale;
	bucket = bucket_fill(key, rate, burst);
	forgiven = rate * FORGIVEN_SECONDS * clock_scale();
	if (bucket->tokens - 1 < (forgiven < settings.forgiven ? -forgiven : -settings.forgiven))
	{
		refuse(call, message);
		return false;
	}
	bucket->tokens -= 1;
	return true;
}

/* The plans of the operation itself. */
bool
rate_take(Call *call)
{
	const Operation *operation = call->operation;
	const char *seller = call->seller == NULL ? call->application->client_id : call->seller->id;
	char key[512];

	call->limit = operation->rate * settings.rate_scale;
	snprintf(key, sizeof(key), "%s|%s", operation->name, seller);
	if (!rate_take_named(call, key, operation->rate, operation->burst, "You exceeded your quota for the requested resource."))
		return false;
	snprintf(key, sizeof(key), "%s|application %s", operation->name, call->application->client_id);
	return rate_take_named(call, key, operation->application_rate, operation->application_rate,
						   "You exceeded your quota for the requested resource for the application.");
}
