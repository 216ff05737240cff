/*
 * job.c: feeds and reports as things that are queued, worked on and finished, and the lists of them.
 *
 * IN_QUEUE for settings.verdict_delay, IN_PROGRESS for as long again, then the work is done and says how it ended.
 */
#include "sim.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_LIFETIME (24 * HOUR)
#define HISTORY        (90 * 24 * HOUR)

static int64_t last_number = 50000000000;

void
job_free(void *value)
{
	Job *job = value;

	json_decref(job->market_ids);
	json_decref(job->options);
	json_decref(job->work);
	free(job->type);
	free(job);
}

static void
job_run(void *subject, json_t *detail)
{
	Job *job = subject;

	(void) detail;
	if (job->fate != NULL)
		job_end(job, job->fate);
	else
		job->run(job);
}

static void
job_start(void *subject, json_t *detail)
{
	Job *job = subject;

	(void) detail;
	if (strcmp(job->status, "IN_QUEUE") != 0)
		return;
	job->status = "IN_PROGRESS";
	job->started = clock_now();
	event_at(clock_now() + (Micros) (settings.verdict_delay * (double) SECOND), job_run, job, NULL);
}

Job *
job_new(Seller *seller, bool feed, const char *type, JobWork work)
{
	Job *job = xalloc(sizeof(Job));

	snprintf(job->id, sizeof(job->id), "%lld%06d", (long long) ++last_number, 20779);
	job->feed = feed;
	job->run = work;
	job->seller = seller;
	job->type = xstrdup(type);
	job->status = "IN_QUEUE";
	job->sent = clock_real();
	job->created = clock_now();
	list_add(feed ? &seller->feeds : &seller->reports, job);
	event_at(clock_now() + (Micros) (settings.verdict_delay * (double) SECOND), job_start, job, NULL);
	return job;
}

void
job_end(Job *job, const char *status)
{
	job->status = status;
	job->ended = clock_now();
	json_decref(job->work);
	job->work = NULL;
	notify_job(job);
}

/* The job of the path; else the call is answered. */
Job *
job_of_call(Call *call, bool feed)
{
	const List *jobs = feed ? &call->seller->feeds : &call->seller->reports;
	const char *id = call->argument[0];

	if (strspn(id, "0123456789") != strlen(id))
		call_violation(call, 400, "InvalidInput", "'%s' is not the id of a %s.", id, feed ? "feed" : "report");
	for (size_t i = jobs->count; i > 0 && call->status == 0; i--)
		if (strcmp(((Job *) jobs->at[i - 1])->id, id) == 0)
			return jobs->at[i - 1];
	if (call->status == 0)
		call_fail(call, 404, "NotFound", "There is no %s '%s'.", feed ? "feed" : "report", id);
	return NULL;
}

json_t *
job_json(const Job *job)
{
	json_t *answer = json_pack("{s:s, s:s, s:O, s:o, s:s}", job->feed ? "feedId" : "reportId", job->id,
							   job->feed ? "feedType" : "reportType", job->type, "marketplaceIds", job->market_ids,
							   "createdTime", time_json(job->created), "processingStatus", job->status);

	if (job->started != 0)
		json_object_set_new(answer, "processingStartTime", time_json(job->started));
	if (job->ended != 0)
		json_object_set_new(answer, "processingEndTime", time_json(job->ended));
	if (job->result != NULL)
		json_object_set_new(answer, job->feed ? "resultFeedDocumentId" : "reportDocumentId", json_string(job->result->id));
	if (!job->feed && job->data_start != 0)
		json_object_set_new(answer, "dataStartTime", time_json(job->data_start));
	if (!job->feed && job->data_end != 0)
		json_object_set_new(answer, "dataEndTime", time_json(job->data_end));
	return answer;
}

static bool
any_market(const Job *job, const json_t *wanted)
{
	size_t i;
	json_t *id;

	json_array_foreach(job->market_ids, i, id)
	{
		if (json_array_has(wanted, json_string_value(id)))
			return true;
	}
	return false;
}

static bool
job_fits(const Job *job, const json_t *query)
{
	const json_t *types = json_object_get(query, job->feed ? "feedTypes" : "reportTypes");
	const json_t *statuses = json_object_get(query, "processingStatuses");
	const json_t *markets = json_object_get(query, "marketplaceIds");

	return (types == NULL || json_array_has(types, job->type)) &&
		   (statuses == NULL || json_array_has(statuses, job->status)) && (markets == NULL || any_market(job, markets)) &&
		   job->created >= json_get_int(query, "createdSince", clock_now() - HISTORY) &&
		   job->created <= json_get_int(query, "createdUntil", clock_now());
}

/* The newest first; position says where to go on. */
static void
answer_page(Call *call, bool feed, json_t *query, size_t skip)
{
	const List *jobs = feed ? &call->seller->feeds : &call->seller->reports;
	size_t size = (size_t) json_get_int(query, "pageSize", 10);
	json_t *list = json_array();
	json_t *answer = json_pack("{s:o}", feed ? "feeds" : "reports", list);
	size_t seen = 0;

	for (size_t i = jobs->count; i > 0; i--)
	{
		if (!job_fits(jobs->at[i - 1], query) || seen++ < skip)
			continue;
		if (seen > skip + size)
			break;
		json_array_append_new(list, job_json(jobs->at[i - 1]));
	}
	if (seen > skip + size)
	{
		char *token = page_token(hash_text(call->seller->id, feed) & INT64_MAX,
								 json_pack("[O, I]", query, (json_int_t) (skip + size)));

		json_object_set_new(answer, "nextToken", json_string(token));
		free(token);
	}
	call_answer(call, 200, answer);
}

/* getFeeds and getReports: types, or a token and nothing else */
void
job_list(Call *call, bool feed)
{
	const char *token = json_get_text(call->query, "nextToken");
	const char *problem = NULL;
	json_t *position = NULL;

	if (token == NULL && json_object_get(call->query, feed ? "feedTypes" : "reportTypes") == NULL)
		call_violation(call, 400, "InvalidInput", "Either the types or nextToken is required.");
	else if (token != NULL && json_object_size(call->query) > 1)
		call_violation(call, 400, "InvalidInput", "nextToken takes no other parameter.");
	else if (token != NULL)
		position = page_open(token, hash_text(call->seller->id, feed) & INT64_MAX, TOKEN_LIFETIME, &problem);
	if (problem != NULL)
		call_fail(call, 400, "InvalidInput", "%s", problem);
	if (call->status == 0 && position != NULL)
		answer_page(call, feed, json_array_get(position, 0), (size_t) json_integer_value(json_array_get(position, 1)));
	else if (call->status == 0)
		answer_page(call, feed, call->query, 0);
	json_decref(position);
}

void
job_cancel(Call *call, bool feed)
{
	Job *job = job_of_call(call, feed);

	if (job == NULL)
		return;
	if (strcmp(job->status, "IN_QUEUE") != 0)
	{
		call_fail(call, 400, "InvalidInput", "Only what is IN_QUEUE can be cancelled; this is %s.", job->status);
		return;
	}
	job_end(job, "CANCELLED");
	call_bytes(call, 200, "application/json", xstrdup(""), 0);
}
