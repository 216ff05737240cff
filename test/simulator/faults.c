/*
 * faults.c: trouble on demand. A fault says which requests it strikes (operation, part of the path, seller), how
 * often (the next N, or with a probability), and what it does. The first that fits a request strikes it.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"status",         "delay",          "drop_before",    "drop_after",
									"truncate",       "not_json",       "huge",           "nul",
									"bad_utf8",       "content_length", "expired_token",  "skew",
									"duplicate_page", "empty_page",     "feed_cancelled", "feed_fatal",
									"nested",         "escape"};

static List faults;
static int64_t last_id;

void
fault_free(Fault *fault)
{
	if (fault == NULL)
		return;
	free(fault->operation);
	free(fault->path);
	free(fault->seller);
	free(fault->code);
	free(fault->message);
	free(fault);
}

static void
free_fault(void *fault)
{
	fault_free(fault);
}

static char *
copy(const char *text)
{
	return text == NULL ? NULL : xstrdup(text);
}

static bool
fault_fits(const Fault *fault, const Call *call)
{
	const char *operation = call->operation == NULL ? "unknown" : call->operation->name;

	if (strcmp(fault->operation, "*") != 0 && strcmp(fault->operation, operation) != 0)
		return false;
	if (fault->path != NULL && strstr(call->path, fault->path) == NULL)
		return false;
	return fault->seller == NULL || (call->seller != NULL && strcmp(fault->seller, call->seller->id) == 0);
}

static void
fault_used(size_t at)
{
	Fault *fault = faults.at[at];

	fault->hits++;
	if (fault->remaining > 0 && --fault->remaining == 0)
	{
		fault_free(fault);
		memmove(&faults.at[at], &faults.at[at + 1], (--faults.count - at) * sizeof(void *));
	}
}

/* A copy of the fault that strikes this call, or NULL. */
Fault *
fault_pick(const Call *call)
{
	for (size_t i = 0; i < faults.count; i++)
	{
		Fault *fault = faults.at[i];
		Fault *picked;

		if (!fault_fits(fault, call))
			continue;
		if (fault->probability < 1 && (double) random_below(1000000) >= fault->probability * 1000000)
			continue;
		picked = xalloc(sizeof(Fault));
		*picked = *fault;
		picked->operation = copy(fault->operation);
		picked->path = copy(fault->path);
		picked->seller = copy(fault->seller);
		picked->code = copy(fault->code);
		picked->message = copy(fault->message);
		fault_used(i);
		return picked;
	}
	return NULL;
}

static json_t *
fault_json(const Fault *fault)
{
	return json_pack("{s:I, s:s, s:s, s:s*, s:s*, s:I, s:f, s:I, s:i, s:s, s:I, s:I, s:f, s:b}", "id",
					 (json_int_t) fault->id, "kind", names[fault->kind], "operation", fault->operation, "path",
					 fault->path, "seller", fault->seller, "count", (json_int_t) fault->remaining, "probability",
					 fault->probability, "hits", (json_int_t) fault->hits, "status", fault->status, "code", fault->code,
					 "delay_ms", (json_int_t) fault->delay_ms, "bytes", (json_int_t) fault->bytes, "seconds",
					 fault->seconds, "after", fault->after);
}

json_t *
faults_json(void)
{
	json_t *list = json_array();

	for (size_t i = 0; i < faults.count; i++)
		json_array_append_new(list, fault_json(faults.at[i]));
	return list;
}

static int
kind_by_name(const char *name)
{
	for (size_t i = 0; name != NULL && i < lengthof(names); i++)
		if (strcmp(names[i], name) == 0)
			return (int) i;
	return -1;
}

static const char *
usual_code(int status)
{
	return status == 429   ? "QuotaExceeded"
		   : status == 503 ? "ServiceUnavailable"
		   : status == 404 ? "NotFound"
		   : status == 403 ? "Unauthorized"
		   : status < 500  ? "InvalidInput"
						   : "InternalFailure";
}

json_t *
fault_add(const json_t *spec, char **problem)
{
	int kind = kind_by_name(json_get_text(spec, "kind"));
	const char *operation = json_get_text(spec, "operation");
	const char *code = json_get_text(spec, "code");
	const char *message = json_get_text(spec, "message");
	Fault *fault;

	if (kind < 0)
	{
		*problem = xprintf(
			"kind is one of status, delay, drop_before, drop_after, truncate, not_json, huge, nul, "
			"bad_utf8, content_length, expired_token, skew, duplicate_page, empty_page, feed_cancelled, feed_fatal, "
			"nested, escape");
		return NULL;
	}
	if (operation != NULL && strcmp(operation, "*") != 0 && strcmp(operation, "unknown") != 0 &&
		operation_by_name(operation) == NULL)
	{
		*problem = xprintf("no operation is called \"%s\"", operation);
		return NULL;
	}
	fault = xalloc(sizeof(Fault));
	fault->id = ++last_id;
	fault->kind = (FaultKind) kind;
	fault->operation = xstrdup(operation == NULL ? "*" : operation);
	fault->path = copy(json_get_text(spec, "path"));
	fault->seller = copy(json_get_text(spec, "seller"));
	fault->probability = json_get_number(spec, "probability", 1);
	fault->remaining = json_get_int(spec, "count", fault->probability < 1 ? -1 : 1);
	fault->status = (int) json_get_int(spec, "status", 500);
	fault->code = xstrdup(code != NULL ? code : usual_code(fault->status));
	fault->message = xstrdup(message != NULL ? message : "A fault that was asked for.");
	fault->delay_ms = json_get_int(spec, "delay_ms", kind == FAULT_DELAY ? 1000 : 0);
	fault->bytes = json_get_int(spec, "bytes", 1 << 20);
	fault->seconds = json_get_number(spec, "seconds", 600);
	fault->after = json_get_bool(spec, "after", false);
	list_add(&faults, fault);
	return fault_json(fault);
}

bool
fault_remove(int64_t id)
{
	for (size_t i = 0; i < faults.count; i++)
	{
		Fault *fault = faults.at[i];

		if (fault->id != id)
			continue;
		fault_free(fault);
		memmove(&faults.at[i], &faults.at[i + 1], (--faults.count - i) * sizeof(void *));
		return true;
	}
	return false;
}

void
faults_reset(void)
{
	list_free(&faults, free_fault);
}
