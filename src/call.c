/*
 * call.c
 *	  amzmp.call: one operation that reads, performed now, in the backend that asks.
 *
 * The one place where a transaction is open while we wait for the network. That is why it must have written nothing, why
 * the wait is bounded by amzmp.call_timeout, and why it ends at once when the statement is cancelled. Everything that
 * changes something at Amazon goes through amzmp.enqueue and the sender instead.
 *
 * Order of things:
 *	1. who may call what is decided by SQL (amzmp._call_context), which also opens the credentials;
 *	2. an access token, from the cache or made now (lwa.c);
 *	3. one token of each usage plan the call falls under (usage_plan.c), waited for if it is near;
 *	4. the request; a token that turned out to be refused is renewed once.
 *
 * Credentials and the access token are wiped on every way out.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "call.h"
#include "compat.h"
#include "errcodes.h"
#include "lwa.h"
#include "processes.h"
#include "spapi.h"
#include "token.h"
#include "usage_plan.h"

#define DEFAULT_CALL_TIMEOUT_MS 30000
#define LEAST_CALL_TIMEOUT_MS   1000
#define MOST_CALL_TIMEOUT_MS    3600000

#define SANDBOX_RATE  5.0
#define SANDBOX_BURST 15.0

/* What amzmp._call_context says. Strings are palloc'd; those of `secrets` are wiped by forget_secrets. */
typedef struct AmazonCall
{
	SpapiCall call;
	TokenKey key;
	LwaSecrets secrets;
	PlanDemand demand[PLAN_MAX_PER_CALL];
	int demand_count;
	double time_scale; /* of a mock account's clock: Amazon's rates are per second of that */
	TimestampTz deadline;
	char token[TOKEN_MAX_LENGTH + 1];
} AmazonCall;

static int call_timeout_ms = DEFAULT_CALL_TIMEOUT_MS;

void
call_define_settings(void)
{
	DefineCustomIntVariable("amzmp.call_timeout", "How long a call of amzmp.call may take in all.",
							"It bounds the wait for a token, for the usage plan and for Amazon's answer together.",
							&call_timeout_ms, DEFAULT_CALL_TIMEOUT_MS, LEAST_CALL_TIMEOUT_MS, MOST_CALL_TIMEOUT_MS,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
}

/*---------------------------------------------------------------------------------------------------------------
 * The context
 */

/* A transaction that has written holds locks and keeps the horizon back while it waits: not for Amazon. */
static void
refuse_after_write(void)
{
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR, (errcode(ERRCODE_AMZMP_WRONG_STATE),
						errmsg("amzmp.call cannot be used in a transaction that has already written"),
						errdetail("It waits for Amazon, and the locks of the transaction would wait with it."),
						errhint("Commit first, or use amzmp.enqueue, which does its work after the commit.")));
}

/* SPI's results go away with SPI_finish; what is kept is copied into the function's own context. */
static Datum
context_column(const char *name, bool *isnull)
{
	int number = SPI_fnumber(SPI_tuptable->tupdesc, name);

	if (number <= 0)
		elog(ERROR, "amzmp._call_context returns no column \"%s\"", name);
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number, isnull);
}

static char *
context_text(const char *name, MemoryContext keep)
{
	bool isnull;
	Datum value = context_column(name, &isnull);

	return isnull ? NULL : MemoryContextStrdup(keep, TextDatumGetCString(value));
}

/* Our copy is the only one that stays: the row's bytes and the passing string are wiped. */
static char *
context_secret(const char *name, MemoryContext keep)
{
	bool isnull;
	Datum value = context_column(name, &isnull);
	struct varlena *stored = (struct varlena *) DatumGetPointer(value);
	char *passing;
	char *copy;

	if (isnull)
		return NULL;
	passing = TextDatumGetCString(value);
	copy = MemoryContextStrdup(keep, passing);
	explicit_bzero(passing, strlen(passing));
	if (!VARATT_IS_EXTERNAL(stored) && !VARATT_IS_COMPRESSED(stored))
		explicit_bzero(VARDATA_ANY(stored), VARSIZE_ANY_EXHDR(stored));
	return copy;
}

static double
context_double(const char *name)
{
	bool isnull;
	Datum value = context_column(name, &isnull);

	return isnull ? 0 : DatumGetFloat8(value);
}

static int64
context_int64(const char *name)
{
	bool isnull;

	return DatumGetInt64(context_column(name, &isnull));
}

static bool
context_bool(const char *name)
{
	bool isnull;
	Datum value = context_column(name, &isnull);

	return !isnull && DatumGetBool(value);
}

static void
add_demand(AmazonCall *context, PlanScope scope, int64 owner, const char *name, double rate, double burst)
{
	PlanDemand *demand = &context->demand[context->demand_count++];

	demand->key = usage_plan_key(scope, owner, name);
	demand->rate = rate;
	demand->burst = burst;
}

/* All operations of a sandbox account share one plan, and it is the only one. */
static void
read_demand(AmazonCall *context, MemoryContext keep)
{
	int64 account_id = context_int64("account_id");
	char *app_class = context_text("app_class", keep);

	if (context_bool("sandbox"))
	{
		add_demand(context, PLAN_ACCOUNT_SANDBOX, account_id, "sandbox", SANDBOX_RATE, SANDBOX_BURST);
		return;
	}
	add_demand(context, PLAN_ACCOUNT_OPERATION, account_id, context_text("plan", keep), context_double("rate"),
			   context_double("burst"));
	if (app_class != NULL)
		add_demand(context, PLAN_APPLICATION_CLASS, context_int64("application_id"), app_class,
				   context_double("app_rate"), context_double("app_burst"));
}

static void
read_token_key(AmazonCall *context)
{
	TokenKey *key = &context->key;

	memset(key, 0, sizeof(*key));
	key->database = MyDatabaseId;
	key->scope = lwa_token_scope(context->secrets.scope);
	key->account_id = key->scope == TOKEN_SELLER ? context_int64("account_id") : 0;
	key->application_id = key->scope == TOKEN_SELLER ? 0 : context_int64("application_id");
	key->generation = context_int64("generation");
}

static void
read_context(AmazonCall *context, MemoryContext keep)
{
	bool isnull;
	Datum params = context_column("all_params", &isnull);

	context->time_scale = context_double("time_scale");
	context->call.method = context_text("method", keep);
	context->call.path = context_text("path", keep);
	context->call.endpoint = context_text("endpoint", keep);
	context->call.repeatable = true; /* it reads */
	if (!isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(keep);

		context->call.params = DatumGetJsonbPCopy(params);
		MemoryContextSwitchTo(old);
	}
	context->secrets.token_endpoint = context_text("token_endpoint", keep);
	context->secrets.client_id = context_text("client_id", keep);
	context->secrets.scope = context_text("grantless_scope", keep);
	context->secrets.client_secret = context_secret("client_secret", keep);
	context->secrets.refresh_token = context_secret("refresh_token", keep);
	read_token_key(context);
	read_demand(context, keep);
}

/* Ask SQL whether this may be called, and for all that the call needs. It raises the refusals. */
static void
load_context(FunctionCallInfo fcinfo, AmazonCall *context)
{
	static const char query[] = "select * from amzmp._call_context($1, $2, $3)";
	Oid types[] = {TEXTOID, TEXTOID, JSONBOID};
	Datum values[] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), PG_ARGISNULL(2) ? (Datum) 0 : PG_GETARG_DATUM(2)};
	char nulls[] = {' ', ' ', PG_ARGISNULL(2) ? 'n' : ' '};
	MemoryContext keep = CurrentMemoryContext;

	SPI_connect();
	if (SPI_execute_with_args(query, lengthof(types), types, values, nulls, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "amzmp._call_context returned no row");
	read_context(context, keep);
	SPI_finish();
}

static void
forget_secrets(AmazonCall *context)
{
	const char *texts[] = {context->secrets.client_secret, context->secrets.refresh_token};
	size_t i;

	for (i = 0; i < lengthof(texts); i++)
		if (texts[i] != NULL)
			explicit_bzero(unconstify(char *, texts[i]), strlen(texts[i]));
	explicit_bzero(context->token, sizeof(context->token));
}

/*---------------------------------------------------------------------------------------------------------------
 * Waiting for the usage plan
 */

static long
milliseconds_left(const AmazonCall *context)
{
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), context->deadline);
}

/* Waiting in vain is worse than being told at once. */
static void
take_from_plan(const AmazonCall *context)
{
	int64 wait_us;

	while ((wait_us = usage_plan_take(context->demand, context->demand_count)) > 0)
	{
		long wait_ms = (long) ((wait_us + 999) / 1000);

		if (wait_ms > milliseconds_left(context))
			ereport(ERROR, (errcode(ERRCODE_AMZMP_THROTTLED),
							errmsg("operation %s has used up its usage plan", context->call.operation),
							errdetail("The next call is possible in %.1f seconds.", wait_us / 1000000.0),
							errhint("Try again then, or raise amzmp.call_timeout. amzmp.usage shows the plans.")));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait_ms, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*---------------------------------------------------------------------------------------------------------------
 * The exchange
 */

static HttpAnswer *
ask_amazon(AmazonCall *context)
{
	HttpRequest request;
	HttpAnswer *answer;

	lwa_wait_for_token(&context->key, &context->secrets, context->deadline, context->token);
	take_from_plan(context);

	context->call.token = context->token;
	spapi_build(&context->call, &request);
	request.timeout_ms = (int) Max(milliseconds_left(context), LEAST_CALL_TIMEOUT_MS);
	answer = http_perform(&request);
	spapi_forget(&request);
	usage_plan_note_answer(context->demand, context->demand_count, answer->status,
						   spapi_rate_limit(answer) * context->time_scale, answer->total_us);
	return answer;
}

static const char *
refusal_hint(int status)
{
	switch (status)
	{
		case 400:
			return "Compare the parameters with Amazon's description of the operation.";
		case 401:
		case 403:
			return "The application may lack a role that the operation needs, the seller may have to authorize it "
				   "again "
				   "after a role was added, or the account is not registered in that marketplace.";
		case 404:
			return "Amazon does not know it, or not yet: new objects can take minutes to be seen.";
		case 429:
			return "Try again later. Other programs that use the same application and account share its usage plan.";
		default:
			return status >= 500 ? "Amazon's service is disturbed; try again later."
								 : "Compare the call with Amazon's description of the operation.";
	}
}

static int
refusal_detail(const SpapiError *error)
{
	if (error->request_id[0] == '\0')
		return error->details[0] != '\0' ? errdetail("%s", error->details) : 0;
	return errdetail("%s%sAmazon's request id is %s.", error->details, error->details[0] != '\0' ? " " : "",
					 error->request_id);
}

/* Amazon answered, and did not do what was asked. */
static void
raise_refusal(const AmazonCall *context, int status, const SpapiError *error)
{
	ereport(ERROR, (errcode(status == 429 ? ERRCODE_AMZMP_THROTTLED : ERRCODE_AMZMP_AMAZON_ERROR),
					errmsg("Amazon refused operation %s: %s: %s", context->call.operation, error->code, error->message),
					refusal_detail(error), errhint("%s", refusal_hint(status))));
}

static void
raise_fault(const AmazonCall *context, HttpFault fault, const SpapiError *error)
{
	if (fault == HTTP_TOO_LARGE)
		ereport(ERROR,
				(errcode(ERRCODE_AMZMP_BAD_ANSWER),
				 errmsg("the answer to operation %s is larger than %d kB", context->call.operation, http_max_response_kb),
				 errhint("Ask for less, for example by a smaller page, or raise amzmp.max_response.")));
	ereport(ERROR, (errcode(ERRCODE_AMZMP_NETWORK),
					errmsg("operation %s got no answer: %s", context->call.operation, error->message),
					errdetail("The endpoint is %s.", context->call.endpoint),
					errhint("Check that this server can reach it; the operation only reads and can be repeated.")));
}

/* Only of a 2xx answer. NULL when the body is empty. */
static Jsonb *
answer_json(const AmazonCall *context, const HttpAnswer *answer, SpapiError *error)
{
	char *text = spapi_answer_text(answer, error);

	if (text == NULL && error->code[0] != '\0')
		ereport(ERROR, (errcode(ERRCODE_AMZMP_BAD_ANSWER),
						errmsg("the answer to operation %s cannot be read: %s", context->call.operation, error->message),
						refusal_detail(error), errhint("Try again; if it stays so, ask Amazon's support.")));
	return text == NULL ? NULL : DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

typedef struct CallResult
{
	Jsonb *body;       /* NULL = empty */
	int64 server_time; /* seconds since 1970, 0 = unknown */
	int64 latency_us;
} CallResult;

static void
read_answer(const AmazonCall *context, const HttpAnswer *answer, SpapiVerdict verdict, SpapiError *error, CallResult *result)
{
	if (answer->fault != HTTP_OK)
		raise_fault(context, answer->fault, error);
	if (verdict != SPAPI_SUCCESS)
		raise_refusal(context, answer->status, error);
	result->body = answer_json(context, answer, error);
	result->server_time = http_answer_date(answer);
	result->latency_us = answer->total_us;
}

/* The answer is malloc'd: freed on errors too. */
static void
perform(AmazonCall *context, CallResult *result)
{
	HttpAnswer *answer = ask_amazon(context);
	SpapiError error;
	SpapiVerdict verdict = spapi_judge(answer, &error);

	if (verdict == SPAPI_RENEW_TOKEN)
	{
		http_answer_free(answer);
		token_drop_refused(&context->key, context->token);
		answer = ask_amazon(context);
		verdict = spapi_judge(answer, &error);
	}
	PG_TRY();
	{
		read_answer(context, answer, verdict, &error, result);
	}
	PG_FINALLY();
	{
		http_answer_free(answer);
	}
	PG_END_TRY();
}

static void
call(FunctionCallInfo fcinfo, CallResult *result)
{
	AmazonCall *context = palloc0(sizeof(AmazonCall));

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_AMZMP_BAD_VALUE), errmsg("account and operation must not be null")));
	amzmp_require_preload("amzmp.call");
	refuse_after_write();

	context->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), call_timeout_ms);
	context->call.operation = TextDatumGetCString(PG_GETARG_DATUM(1));
	PG_TRY();
	{
		load_context(fcinfo, context);
		if (!PG_ARGISNULL(3))
		{
			Jsonb *body = PG_GETARG_JSONB_P(3);

			context->call.body = JsonbToCString(NULL, &body->root, VARSIZE(body));
		}
		perform(context, result);
	}
	PG_FINALLY();
	{
		forget_secrets(context);
	}
	PG_END_TRY();
}

PG_FUNCTION_INFO_V1(amzmp_call);
Datum
amzmp_call(PG_FUNCTION_ARGS)
{
	CallResult result = {0};

	call(fcinfo, &result);
	if (result.body == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(result.body);
}

/* The same with what a test of the connection wants to know: Amazon's clock and how long the answer took. */
PG_FUNCTION_INFO_V1(amzmp_call_timed);
Datum
amzmp_call_timed(PG_FUNCTION_ARGS)
{
	CallResult result = {0};
	TupleDesc row;
	Datum values[3];
	bool nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &row) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	call(fcinfo, &result);

	nulls[0] = result.body == NULL;
	values[0] = JsonbPGetDatum(result.body);
	nulls[1] = result.server_time == 0;
	values[1] = TimestampTzGetDatum(time_t_to_timestamptz((pg_time_t) result.server_time));
	values[2] = Int32GetDatum((int32) (result.latency_us / 1000));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls)));
}
