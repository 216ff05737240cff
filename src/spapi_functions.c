/*
 * spapi_functions.c
 *	  The request builder and the judge of answers as inner SQL functions, so that tests can look at them without a
 *	  network. No process of ours calls them.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "errcodes.h"
#include "json_check.h"
#include "lwa.h"
#include "spapi.h"

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL || *text == '\0';
	return *isnull ? (Datum) 0 : CStringGetTextDatum(text);
}

static Datum
make_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc row;

	if (get_call_result_type(fcinfo, NULL, &row) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls));
}

/* _spapi_request(method, path, params, body, out url, out headers, out body) */
PG_FUNCTION_INFO_V1(amzmp_spapi_request);
Datum
amzmp_spapi_request(PG_FUNCTION_ARGS)
{
	SpapiCall call = {
		.operation = "test",
		.method = text_to_cstring(PG_GETARG_TEXT_PP(0)),
		.path = text_to_cstring(PG_GETARG_TEXT_PP(1)),
		.endpoint = "https://amazon.test",
		.params = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2),
		.body = PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3)),
	};
	HttpRequest request;
	ArrayBuildState *headers = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	const char *const *line;
	Datum values[3];
	bool nulls[3] = {false, false, false};

	spapi_build(&call, &request);
	for (line = request.headers; *line != NULL; line++)
		headers = accumArrayResult(headers, CStringGetTextDatum(*line), false, TEXTOID, CurrentMemoryContext);
	values[0] = CStringGetTextDatum(request.url);
	values[1] = makeArrayResult(headers, CurrentMemoryContext);
	values[2] = text_or_null(request.body, &nulls[2]);
	PG_RETURN_DATUM(make_row(fcinfo, values, nulls));
}

/* "name: value" elements become headers. Everything is palloc'd: such an answer must not be given to http_answer_free. */
static void
read_headers(ArrayType *array, HttpAnswer *answer)
{
	Datum *lines;
	int count;
	int i;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &lines, NULL, &count);
	answer->headers = palloc(sizeof(HttpHeader) * Max(count, 1));
	answer->header_count = count;
	for (i = 0; i < count; i++)
	{
		char *line = TextDatumGetCString(lines[i]);
		char *separator = strstr(line, ": ");

		if (separator == NULL)
			ereport(ERROR, (errcode(ERRCODE_AMZMP_BAD_VALUE), errmsg("\"%s\" is not a header", line)));
		*separator = '\0';
		answer->headers[i].name = line;
		answer->headers[i].value = separator + 2;
	}
}

static HttpFault
fault_of(const char *name)
{
	static const char *const names[] = {
		[HTTP_OK] = "ok",
		[HTTP_NOT_SENT] = "not_sent",
		[HTTP_ANSWER_LOST] = "answer_lost",
		[HTTP_TOO_LARGE] = "too_large",
		[HTTP_CANCELLED] = "cancelled",
	};
	size_t i;

	for (i = 0; i < lengthof(names); i++)
		if (strcmp(names[i], name) == 0)
			return (HttpFault) i;
	ereport(ERROR, (errcode(ERRCODE_AMZMP_BAD_VALUE), errmsg("\"%s\" is not a fault", name)));
	return HTTP_OK; /* not reached */
}

static void
read_answer(FunctionCallInfo fcinfo, HttpAnswer *answer)
{
	bytea *body = PG_GETARG_BYTEA_PP(3);

	memset(answer, 0, sizeof(*answer));
	answer->fault = fault_of(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	answer->sent = answer->fault != HTTP_NOT_SENT;
	answer->status = PG_GETARG_INT32(1);
	read_headers(PG_GETARG_ARRAYTYPE_P(2), answer);
	answer->body_length = VARSIZE_ANY_EXHDR(body);
	answer->body = palloc(answer->body_length + 1);
	memcpy(answer->body, VARDATA_ANY(body), answer->body_length);
	answer->body[answer->body_length] = '\0';
}

static const char *const verdicts[] = {
	[SPAPI_SUCCESS] = "success",     [SPAPI_RETRY] = "retry",     [SPAPI_RENEW_TOKEN] = "renew_token",
	[SPAPI_PERMANENT] = "permanent", [SPAPI_UNKNOWN] = "unknown",
};

/* _spapi_judge(fault, status, headers, body, out verdict, code, message, details, request_id, rate, answer, answer_error) */
PG_FUNCTION_INFO_V1(amzmp_spapi_judge);
Datum
amzmp_spapi_judge(PG_FUNCTION_ARGS)
{
	HttpAnswer answer;
	SpapiError error;
	SpapiError body_error;
	char *next_token;
	Datum values[9];
	bool nulls[9] = {false};

	read_answer(fcinfo, &answer);
	values[0] = CStringGetTextDatum(verdicts[spapi_judge(&answer, &error)]);
	values[1] = text_or_null(error.code, &nulls[1]);
	values[2] = text_or_null(error.message, &nulls[2]);
	values[3] = text_or_null(error.details, &nulls[3]);
	values[4] = text_or_null(error.request_id, &nulls[4]);
	values[5] = Float8GetDatum(spapi_rate_limit(&answer));
	memset(&body_error, 0, sizeof(body_error));
	values[6] = text_or_null(spapi_answer_text(&answer, &body_error), &nulls[6]);
	values[7] = text_or_null(body_error.message, &nulls[7]);
	(void) json_check(answer.body, answer.body_length, &next_token);
	values[8] = text_or_null(next_token, &nulls[8]);
	PG_RETURN_DATUM(make_row(fcinfo, values, nulls));
}

/* _lwa_judge(fault, status, headers, body, out verdict, access_token, expires_in, refresh_token, code, message) */
PG_FUNCTION_INFO_V1(amzmp_lwa_judge);
Datum
amzmp_lwa_judge(PG_FUNCTION_ARGS)
{
	HttpAnswer answer;
	SpapiError error;
	char token[TOKEN_MAX_LENGTH + 1] = "";
	char refresh[TOKEN_MAX_LENGTH + 1] = "";
	int expires_in = 0;
	SpapiVerdict verdict;
	Datum values[6];
	bool nulls[6] = {false};

	read_answer(fcinfo, &answer);
	verdict = lwa_read_answer(&answer, token, sizeof(token), &expires_in, refresh, sizeof(refresh), &error);
	values[0] = CStringGetTextDatum(verdicts[verdict]);
	values[1] = text_or_null(verdict == SPAPI_SUCCESS ? token : NULL, &nulls[1]);
	values[2] = Int32GetDatum(expires_in);
	nulls[2] = verdict != SPAPI_SUCCESS;
	values[3] = text_or_null(verdict == SPAPI_SUCCESS ? refresh : NULL, &nulls[3]);
	values[4] = text_or_null(error.code, &nulls[4]);
	values[5] = text_or_null(error.message, &nulls[5]);
	PG_RETURN_DATUM(make_row(fcinfo, values, nulls));
}

/* _spapi_backoff(attempt, rate, random) */
PG_FUNCTION_INFO_V1(amzmp_spapi_backoff);
Datum
amzmp_spapi_backoff(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(spapi_backoff_ms(PG_GETARG_INT32(0), PG_GETARG_FLOAT8(1), PG_GETARG_FLOAT8(2)));
}
