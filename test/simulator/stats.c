/*
 * stats.c: what tests ask afterwards: requests, refusals, violations and arrival times per operation, and the last
 * requests in full. Everything is a ring or a counter, so a long run does not grow.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARRIVALS      65536
#define VIOLATIONS    200
#define RECORDED      500
#define RECORDED_BODY 65536
#define SUBJECT_ROOM  56

typedef struct Arrival
{
	Micros at;
	char subject[SUBJECT_ROOM];
} Arrival;

typedef struct Count
{
	int64_t requests;
	int64_t overruns;
	int64_t faults;
	int64_t violations;
	int64_t status[600];
	int64_t arrived; /* how many ever; the ring holds the last ones */
	Arrival *arrivals;
} Count;

static Table *counts;
static Table *named; /* further counters, boxed */
static json_t *violations;
static int64_t violation_count;
static json_t *recorded[RECORDED];
static int64_t recorded_count;

static void
count_free(void *value)
{
	Count *count = value;

	free(count->arrivals);
	free(count);
}

void
stats_reset(void)
{
	table_free(counts, count_free);
	table_free(named, free);
	counts = table_new();
	named = table_new();
	json_decref(violations);
	violations = json_array();
	violation_count = 0;
	for (size_t i = 0; i < RECORDED; i++)
	{
		json_decref(recorded[i]);
		recorded[i] = NULL;
	}
	recorded_count = 0;
}

static Count *
count_of(const Call *call)
{
	const char *name = call->operation == NULL ? "unknown" : call->operation->name;
	Count *count;

	if (counts == NULL)
		stats_reset();
	count = table_get(counts, name);
	if (count == NULL)
	{
		count = xalloc(sizeof(Count));
		table_put(counts, name, count);
	}
	return count;
}

void
stats_arrival(const Call *call)
{
	Count *count = count_of(call);
	const char *subject = call->argument[1] != NULL ? call->argument[1] : call->argument[0];
	Arrival *arrival;

	if (count->arrivals == NULL)
		count->arrivals = xalloc(ARRIVALS * sizeof(Arrival));
	arrival = &count->arrivals[count->arrived++ % ARRIVALS];
	arrival->at = call->arrived;
	snprintf(arrival->subject, SUBJECT_ROOM, "%s", subject == NULL ? "" : subject);
	count->requests++;
}

/* A signature of AWS is no secret, and a test wants to check it: against the body as it came. */
static bool
is_aws_signature(const char *value)
{
	return value != NULL && starts_with(value, "AWS4-HMAC-SHA256 ");
}

static bool
header_is_secret(const char *name, const char *value)
{
	return text_is_one_of(name, "x-amz-access-token,X-Amz-Access-Token,Authorization,authorization") &&
		   !is_aws_signature(value);
}

static void
record(const Call *call)
{
	json_t *headers = json_object();
	json_t *entry;
	bool keep_body = call->input_length > 0 && call->input_length <= RECORDED_BODY;
	bool as_it_came = call->body == NULL || is_aws_signature(call_header(call, "authorization"));

	for (size_t i = 0; i < call->header_count; i++)
		json_object_set_new(headers, call->headers[i].name,
							json_string(header_is_secret(call->headers[i].name, call->headers[i].value)
											? "***"
											: call->headers[i].value));
	if (call->operation != NULL && strcmp(call->operation->name, "token") == 0)
		keep_body = false;
	entry = json_pack("{s:s, s:s, s:s, s:s, s:I, s:i, s:o}", "operation",
					  call->operation == NULL ? "unknown" : call->operation->name, "method", call->method, "uri",
					  call->uri, "requestId", call->request_id, "arrived", (json_int_t) call->arrived, "status",
					  call->status, "headers", headers);
	if (keep_body && entry != NULL)
		json_object_set_new(entry, "body",
							as_it_came ? json_stringn(call->input, call->input_length) : json_incref(call->body));
	json_decref(recorded[recorded_count % RECORDED]);
	recorded[recorded_count++ % RECORDED] = entry;
}

void
stats_finished(const Call *call)
{
	Count *count = count_of(call);

	if (call->status >= 0 && call->status < 600)
		count->status[call->status]++;
	count->faults += call->fault != NULL;
	count->violations += call->violation;
	record(call);
}

void
stats_violation(const Call *call, const char *reason)
{
	if (counts == NULL)
		stats_reset();
	violation_count++;
	json_array_append_new(violations,
						  json_pack("{s:o, s:s, s:s?, s:s?, s:s, s:s}", "time", time_json(clock_now()), "operation",
									call->operation == NULL ? "unknown" : call->operation->name, "method", call->method,
									"uri", call->uri, "requestId", call->request_id, "reason", reason));
	if (json_array_size(violations) > VIOLATIONS)
		json_array_remove(violations, 0);
}

/* What is wrong with a document, which no call is to blame for any more. */
void
stats_note_violation(const char *what, const char *reason)
{
	if (counts == NULL)
		stats_reset();
	violation_count++;
	json_array_append_new(violations, json_pack("{s:o, s:s, s:s}", "time", time_json(clock_now()), "operation", what,
												"reason", reason));
}

void
stats_overrun(const Call *call)
{
	count_of(call)->overruns++;
}

void
stats_count(const char *name)
{
	int64_t *value;

	if (counts == NULL)
		stats_reset();
	value = table_get(named, name);
	if (value == NULL)
	{
		value = xalloc(sizeof(int64_t));
		table_put(named, name, value);
	}
	++*value;
}

typedef struct Totals
{
	json_t *operations;
	json_t *counters;
	int64_t requests;
	int64_t overruns;
	int64_t throttled;
	int64_t faults;
} Totals;

static bool
sum_count(const char *name, void *value, void *arg)
{
	Count *count = value;
	Totals *totals = arg;
	json_t *status = json_object();
	char code[16];

	for (int i = 1; i < 600; i++)
		if (count->status[i] > 0)
		{
			snprintf(code, sizeof(code), "%d", i);
			json_object_set_new(status, code, json_integer(count->status[i]));
		}
	totals->requests += count->requests;
	totals->overruns += count->overruns;
	totals->throttled += count->status[429];
	totals->faults += count->faults;
	json_object_set_new(totals->operations, name,
						json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "requests", (json_int_t) count->requests, "throttled",
								  (json_int_t) count->status[429], "overruns", (json_int_t) count->overruns, "violations",
								  (json_int_t) count->violations, "faults", (json_int_t) count->faults, "status", status));
	return true;
}

static bool
sum_named(const char *name, void *value, void *arg)
{
	Totals *totals = arg;

	json_object_set_new(totals->counters, name, json_integer(*(int64_t *) value));
	return true;
}

json_t *
stats_json(void)
{
	Totals totals = {json_object(), json_object(), 0, 0, 0, 0};

	if (counts == NULL)
		stats_reset();
	table_each(counts, sum_count, &totals);
	table_each(named, sum_named, &totals);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "requests", (json_int_t) totals.requests, "throttled",
					 (json_int_t) totals.throttled, "overruns", (json_int_t) totals.overruns, "violations",
					 (json_int_t) violation_count, "faults", (json_int_t) totals.faults, "counters", totals.counters,
					 "operations", totals.operations);
}

json_t *
stats_violations(void)
{
	if (counts == NULL)
		stats_reset();
	return json_pack("{s:I, s:O}", "count", (json_int_t) violation_count, "last", violations);
}

/* The last arrivals of an operation, oldest first, as [microseconds, subject]. */
json_t *
stats_arrivals(const char *operation, int64_t limit)
{
	const Count *count = counts == NULL ? NULL : table_get(counts, operation);
	json_t *list = json_array();
	int64_t first;

	if (count == NULL)
		return list;
	if (limit > ARRIVALS)
		limit = ARRIVALS;
	first = count->arrived > limit ? count->arrived - limit : 0;
	for (int64_t i = first; i < count->arrived; i++)
	{
		const Arrival *arrival = &count->arrivals[i % ARRIVALS];
		json_t *subject = json_string(arrival->subject);

		json_array_append_new(list,
							  json_pack("[I, o]", (json_int_t) arrival->at, subject != NULL ? subject : json_string("")));
	}
	return list;
}

json_t *
stats_requests(const char *operation, int64_t limit)
{
	json_t *list = json_array();
	int64_t first = recorded_count > RECORDED ? recorded_count - RECORDED : 0;

	for (int64_t i = recorded_count - 1; i >= first && (int64_t) json_array_size(list) < limit; i--)
	{
		json_t *entry = recorded[i % RECORDED];

		if (operation == NULL || strcmp(operation, json_get_text(entry, "operation")) == 0)
			json_array_insert(list, 0, entry);
	}
	return list;
}
