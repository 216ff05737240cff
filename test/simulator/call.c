/*
 * call.c: one request from the wire to its answer: route, authenticate, throttle, validate, handle, print.
 *
 * A call may be run more than once: a fault can delay it before its effect, a long poll looks again. call_run()
 * returns false when the call must wait until resume_at; http.c then suspends the connection.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_SEGMENTS 12

pthread_mutex_t state_lock = PTHREAD_MUTEX_INITIALIZER;
Settings settings;
int state_generation;

const char *
call_header(const Call *call, const char *name)
{
	for (size_t i = 0; i < call->header_count; i++)
		if (strcasecmp(call->headers[i].name, name) == 0)
			return call->headers[i].value;
	return NULL;
}

static void
call_error(Call *call, int status, const char *code, const char *message, const char *detail)
{
	json_t *error = json_pack("{s:s, s:s, s:s}", "code", code, "message", message, "details", detail);

	call->status = status;
	if (call->errors == NULL)
		call->errors = json_array();
	json_array_append_new(call->errors, error);
}

void
call_fail(Call *call, int status, const char *code, const char *format, ...)
{
	va_list args;
	char message[1024];

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	call_error(call, status, code, message, "");
}

void
call_fail_detail(Call *call, int status, const char *code, const char *message, const char *detail)
{
	call_error(call, status, code, message, detail);
}

/* The request itself is not one the published models allow: answered as Amazon would, and counted. */
void
call_violation(Call *call, int status, const char *code, const char *format, ...)
{
	va_list args;
	char message[1024];

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	call->violation = true;
	stats_violation(call, message);
	call_error(call, status, code, message, "");
}

void
call_answer(Call *call, int status, json_t *answer)
{
	json_decref(call->answer);
	call->status = status;
	call->answer = answer;
}

/* Takes over bytes. */
void
call_bytes(Call *call, int status, const char *type, char *bytes, size_t length)
{
	call->status = status;
	call->output = bytes;
	call->output_length = length;
	call->output_type = xstrdup(type);
}

bool
call_included(const Call *call, const char *data_set)
{
	return json_array_has(json_object_get(call->query, "includedData"), data_set);
}

static size_t
split(const char *path, const char *segment[MAX_SEGMENTS], size_t length[MAX_SEGMENTS])
{
	size_t count = 0;

	while (*path == '/' && count < MAX_SEGMENTS)
	{
		segment[count] = ++path;
		length[count] = strcspn(path, "/");
		path += length[count++];
	}
	return count;
}

static bool
path_matches(const char *template, const char *const *segment, const size_t *length, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		size_t width;

		if (*template ++ != '/')
			return false;
		width = strcspn(template, "/");
		if (*template != '{' && (width != length[i] || strncmp(template, segment[i], width) != 0))
			return false;
		template += width;
	}
	return *template == '\0';
}

/* Decodes the segments that stand for {parameters}. */
static bool
take_arguments(Call *call, const char *const *segment, const size_t *length, size_t count)
{
	const char *template = call->operation->path;
	size_t used = 0;

	for (size_t i = 0; i < count; i++)
	{
		const char *problem = NULL;

		if (*++template == '{' && used < lengthof(call->argument))
		{
			call->argument[used++] = percent_decode(segment[i], length[i], &problem);
			if (problem != NULL || length[i] == 0)
			{
				call_violation(call, 400, "InvalidInput", "Path segment %zu is not encoded as a path: %s", i + 1,
							   problem != NULL ? problem : "it is empty");
				return false;
			}
		}
		template += strcspn(template, "/");
	}
	return true;
}

static bool
route(Call *call)
{
	const char *segment[MAX_SEGMENTS];
	size_t length[MAX_SEGMENTS];
	size_t count = split(call->path, segment, length);
	bool path_known = false;

	if (call_header(call, "x-amz-target") != NULL)
	{
		call->operation = operation_by_name("sqs");
		return true;
	}
	for (size_t i = 0; i < operation_count; i++)
	{
		if (!path_matches(operations[i].path, segment, length, count))
			continue;
		path_known = true;
		if (strcmp(operations[i].method, call->method) != 0)
			continue;
		call->operation = &operations[i];
		return take_arguments(call, segment, length, count);
	}
	call_violation(call, 403, "Unauthorized", "Access to requested resource is denied. (%s %s: %s)", call->method,
				   call->path, path_known ? "no such method on this path" : "no such path");
	return false;
}

/* A fault that replaces the effect. */
static bool
fault_replaces(Call *call)
{
	const Fault *fault = call->fault;

	if (fault == NULL || fault->after)
		return false;
	if (fault->kind == FAULT_STATUS)
	{
		call_fail(call, fault->status, fault->code, "%s", fault->message);
		return true;
	}
	if (fault->kind == FAULT_EXPIRED_TOKEN)
	{
		call_fail_detail(call, 403, "Unauthorized", "Access to requested resource is denied.",
						 "The access token you provided has expired.");
		return true;
	}
	return fault->kind == FAULT_DROP_BEFORE;
}

static void
fault_overrides_answer(Call *call)
{
	const Fault *fault = call->fault;

	if (fault == NULL || !fault->after || fault->kind != FAULT_STATUS)
		return;
	json_decref(call->answer);
	call->answer = NULL;
	json_decref(call->errors);
	call->errors = NULL;
	free(call->output);
	call->output = NULL;
	call_fail(call, fault->status, fault->code, "%s", fault->message);
}

/* Route, authenticate and choose a fault; once per call. False: the answer stands already. */
static bool
prepare(Call *call)
{
	bool known = route(call);
	bool trusted = known && (call->operation->flags & OPERATION_OPEN || lwa_authenticate(call));

	stats_arrival(call);
	call->fault = fault_pick(call);
	call->prepared = true;
	call->generation = state_generation;
	return known && trusted;
}

/* Amazon answers a refused token first, then the usage plan, then looks at the request. */
static void
perform(Call *call)
{
	const Operation *operation = call->operation;

	if (!(operation->flags & (OPERATION_OPEN | OPERATION_OWN_PLAN)) && !rate_take(call))
		return;
	if (!(operation->flags & OPERATION_OPEN) && (!validate_headers(call) || !validate_query(call) || !validate_body(call)))
		return;
	operation->handler(call);
}

static bool
must_wait(Call *call)
{
	if (call->fault == NULL || call->fault->delay_ms == 0 || call->delayed)
		return false;
	call->delayed = true;
	call->resume_at = clock_real() + call->fault->delay_ms * 1000;
	return true;
}

/* True when the call is answered, false when it has to wait. */
static bool
run_api(Call *call)
{
	if (!call->prepared)
	{
		bool go_on = prepare(call);

		if (call->fault != NULL && fault_replaces(call))
			return call->delayed || !must_wait(call);
		if (!go_on)
			return true;
		if (call->fault != NULL && !call->fault->after && must_wait(call))
			return false;
	}
	if (call->generation != state_generation)
		call_fail(call, 503, "ServiceUnavailable", "The simulator was reset.");
	if (call->status == 0 && !(call->fault != NULL && call->fault->kind == FAULT_DROP_BEFORE))
		perform(call);
	if (call->poll_until != 0 && call->status == 0)
	{
		call->resume_at = clock_real() + SECOND / 20;
		return false;
	}
	fault_overrides_answer(call);
	return call->fault == NULL || !call->fault->after || !must_wait(call);
}

/* Login with Amazon has a form of its own for errors. */
static json_t *
errors_json(const Call *call)
{
	const json_t *first = json_array_get(call->errors, 0);

	if (call->operation == NULL || strcmp(call->operation->name, "token") != 0)
		return json_pack("{s:O}", "errors", call->errors);
	return json_pack("{s:s, s:s}", "error",
					 call->status == 503  ? "temporarily_unavailable"
					 : call->status > 499 ? "server_error"
										  : json_get_text(first, "code"),
					 "error_description", json_get_text(first, "message"));
}

static void
print_answer(Call *call)
{
	if (call->errors != NULL && call->output == NULL)
	{
		json_decref(call->answer);
		call->answer = errors_json(call);
	}
	if (call->answer == NULL || call->output != NULL)
		return;
	call->output = json_dumps(call->answer, JSON_COMPACT | JSON_REAL_PRECISION(15));
	call->output_length = call->output == NULL ? 0 : strlen(call->output);
}

static void
date_answer(Call *call)
{
	double skew = settings.date_skew;

	if (call->fault != NULL && call->fault->kind == FAULT_SKEW)
		skew += call->fault->seconds;
	time_http(clock_now() + (Micros) (skew * (double) SECOND), call->date);
}

bool
call_run(Call *call)
{
	bool done = true;

	call->resume_at = 0;
	pthread_mutex_lock(&state_lock);
	events_run();
	if (call->request_id[0] == '\0')
		uuid_text(call->request_id);
	if (starts_with(call->path, "/_control/"))
		control_run(call);
	else
		done = run_api(call);
	if (done)
	{
		print_answer(call);
		date_answer(call);
		call->compress = settings.compress;
		if (!starts_with(call->path, "/_control/"))
			stats_finished(call);
	}
	pthread_mutex_unlock(&state_lock);
	return done;
}

void
call_free(Call *call)
{
	for (size_t i = 0; i < call->header_count; i++)
	{
		free(call->headers[i].name);
		free(call->headers[i].value);
	}
	pthread_mutex_lock(&state_lock); /* answers may share values with the state */
	json_decref(call->query);
	json_decref(call->body);
	json_decref(call->answer);
	json_decref(call->errors);
	pthread_mutex_unlock(&state_lock);
	fault_free(call->fault);
	free(call->headers);
	free(call->argument[0]);
	free(call->argument[1]);
	free(call->input);
	free(call->output);
	free(call->output_type);
	free(call->extra_name);
	free(call->extra_value);
	free(call->method);
	free(call->uri);
	free(call->path);
	free(call);
}
