/*
 * outbox.c
 *	  Due requests out of the tables, answers back into them (SPI).
 *
 * Statements are few, constant and prepared once a process; every decision about the business is in the SQL functions
 * they call (sql/request_claim.sql, sql/request_answer.sql).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "outbox.h"

/* One prepared statement of this process. */
typedef struct Statement
{
	const char *sql;
	int nargs;
	Oid argtypes[9];
	SPIPlanPtr plan;
} Statement;

static Statement usable = {"select extversion from pg_catalog.pg_extension where extname = 'amzmp'", 0, {0}, NULL};
static Statement lanes = {"select * from amzmp._lanes()", 0, {0}, NULL};
static Statement work = {"select * from amzmp._work()", 0, {0}, NULL};
static Statement prepared = {"select amzmp._prepared_pending()", 0, {0}, NULL};
static Statement retry_sources = {"select amzmp._retry_sources()", 0, {0}, NULL};
static Statement claim = {"select * from amzmp._claim($1, $2, $3)", 3, {INT8OID, TEXTOID, INT4OID}, NULL};
static Statement lane_waits = {"select amzmp._lane_waits($1, $2)", 2, {INT8OID, TEXTOID}, NULL};
static Statement complete = {"select amzmp._complete($1, $2, $3, $4, $5, $6, $7, $8)",
							 8,
							 {INT8OID, INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
							  TEXTARRAYOID, TEXTARRAYOID},
							 NULL};
static Statement park = {"select amzmp._park_answers($1, $2, $3, $4, $5, $6, $7, $8, $9)",
						 9,
						 {INT8OID, INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
						  TEXTARRAYOID, TEXTARRAYOID},
						 NULL};
static Statement complete_failed = {"select amzmp._complete_failed($1, $2, $3, $4, $5, $6)",
									6,
									{INT8OID, INT8OID, INT4OID, TEXTOID, TEXTOID, TEXTOID},
									NULL};
static Statement postpone = {"select amzmp._postpone($1, $2, $3, $4, $5)",
							 5,
							 {INT8OID, INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, BOOLARRAYOID},
							 NULL};
static Statement recover = {"select amzmp._recover()", 0, {0}, NULL};
static Statement recover_tasks = {"select amzmp._recover_tasks()", 0, {0}, NULL};
static Statement token_context = {"select * from amzmp._token_context($1)", 1, {INT8OID}, NULL};
static Statement account_invalid = {"select amzmp._account_invalid($1, $2, $3)", 3, {INT8OID, TEXTOID, TEXTOID}, NULL};

static void
run(Statement *statement, Datum *values, const char *nulls)
{
	if (statement->plan == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(statement->sql, statement->nargs, statement->argtypes);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare \"%s\": %s", statement->sql, SPI_result_code_string(SPI_result));
		statement->plan = plan;
	}
	if (SPI_execute_plan(statement->plan, values, nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "\"%s\": %s", statement->sql, SPI_result_code_string(SPI_result));
}

/* Column readers of row i of the last result. */
static Datum
column(uint64 i, int attribute, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, attribute, isnull);
}

static int64
column_int64(uint64 i, int attribute)
{
	bool isnull;
	Datum value = column(i, attribute, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static double
column_double(uint64 i, int attribute)
{
	bool isnull;
	Datum value = column(i, attribute, &isnull);

	return isnull ? 0 : DatumGetFloat8(value);
}

static char *
column_text(uint64 i, int attribute)
{
	return SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, attribute);
}

static void
copy_text(char *target, Size size, uint64 i, int attribute)
{
	char *value = column_text(i, attribute);

	strlcpy(target, value ? value : "", size);
}

bool
outbox_usable(const char **why)
{
	char *version;

	run(&usable, NULL, NULL);
	if (SPI_processed == 0)
	{
		*why = "the extension is not in this database";
		return false;
	}
	version = column_text(0, 1);
	if (strcmp(version, AMZMP_VERSION) != 0)
	{
		*why = "its version is not the library's: run ALTER EXTENSION amzmp UPDATE, or restart the server if the library is older";
		return false;
	}
	return true;
}

static void
add_demand(Lane *lane, PlanScope scope, int64 owner, const char *name, double rate, double burst)
{
	PlanDemand *demand = &lane->demand[lane->demand_count++];

	memset(demand, 0, sizeof(PlanDemand));
	demand->key.database = MyDatabaseId;
	demand->key.scope = scope;
	demand->key.owner = owner;
	strlcpy(demand->key.name, name, sizeof(demand->key.name));
	demand->rate = rate;
	demand->burst = burst;
}

static TokenScope
token_scope(const char *grantless)
{
	if (grantless == NULL)
		return TOKEN_SELLER;
	return strstr(grantless, "rotation") ? TOKEN_ROTATION : TOKEN_NOTIFICATIONS;
}

static void
read_lane(Lane *lane, uint64 i)
{
	bool isnull;
	char *grantless = column_text(i, 9);
	char *app_class = column_text(i, 14);
	int64 application = column_int64(i, 10);
	bool sandbox = DatumGetBool(column(i, 17, &isnull)) && !isnull;
	const char *feed_type;

	memset(lane, 0, sizeof(Lane));
	lane->account_id = column_int64(i, 1);
	copy_text(lane->operation, sizeof(lane->operation), i, 2);
	lane->next_at = DatumGetTimestampTz(column(i, 3, &isnull));
	copy_text(lane->method, sizeof(lane->method), i, 4);
	copy_text(lane->path, sizeof(lane->path), i, 5);
	copy_text(lane->endpoint, sizeof(lane->endpoint), i, 6);
	copy_text(lane->after_lost_answer, sizeof(lane->after_lost_answer), i, 7);
	lane->apply_in_runner = strcmp(column_text(i, 8), "runner") == 0;
	lane->exchanges_code = strcmp(lane->operation, "exchangeAuthorizationCode") == 0;
	lane->talks_to_queue =
		strcmp(lane->operation, "receiveMessage") == 0 || strcmp(lane->operation, "deleteMessageBatch") == 0;
	lane->tells_people = strcmp(lane->operation, "postWebhook") == 0;
	feed_type = column_text(i, 20);
	lane->rate = column_double(i, 12);
	lane->time_scale = column_double(i, 19);

	lane->token.database = MyDatabaseId;
	lane->token.scope = token_scope(grantless);
	lane->token.account_id = lane->token.scope == TOKEN_SELLER ? lane->account_id : 0;
	lane->token.application_id = lane->token.scope == TOKEN_SELLER ? 0 : application;
	lane->token.generation = column_int64(i, 11);

	if (sandbox)
	{
		add_demand(lane, PLAN_ACCOUNT_SANDBOX, lane->account_id, "sandbox", 5, 15);
		return;
	}
	/* an operation for one type of feeds, whose plan takes the operation's place or comes on top of it (sql/feed.sql) */
	if (feed_type != NULL)
		add_demand(lane, PLAN_ACCOUNT_FEED_TYPE, lane->account_id, feed_type, column_double(i, 21), column_double(i, 22));
	if (feed_type == NULL || !(DatumGetBool(column(i, 23, &isnull)) && !isnull))
		add_demand(lane, PLAN_ACCOUNT_OPERATION, lane->account_id, column_text(i, 18), lane->rate, column_double(i, 13));
	if (app_class != NULL)
		add_demand(lane, PLAN_APPLICATION_CLASS, application, app_class, column_double(i, 15), column_double(i, 16));
}

void
outbox_lanes(OutboxLaneFn found, void *arg)
{
	run(&lanes, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Lane lane;

		read_lane(&lane, i);
		found(&lane, arg);
	}
}

void
outbox_work(OutboxWorkFn found, void *arg)
{
	run(&work, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		Oid role = DatumGetObjectId(column(i, 1, &isnull));

		found(isnull ? InvalidOid : role, DatumGetTimestampTz(column(i, 2, &isnull)), arg);
	}
}

bool
outbox_retry_sources(void)
{
	bool isnull;

	run(&retry_sources, NULL, NULL);
	return SPI_processed == 1 && DatumGetBool(column(0, 1, &isnull));
}

bool
outbox_prepared_pending(void)
{
	bool isnull;

	run(&prepared, NULL, NULL);
	return SPI_processed == 1 && DatumGetBool(column(0, 1, &isnull));
}

int
outbox_claim(const Lane *lane, int most, MemoryContext keep, OutboxItem **items)
{
	Datum values[3] = {Int64GetDatum(lane->account_id), CStringGetTextDatum(lane->operation), Int32GetDatum(most)};
	MemoryContext old;

	run(&claim, values, NULL);
	old = MemoryContextSwitchTo(keep);
	*items = palloc0(sizeof(OutboxItem) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		OutboxItem *item = &(*items)[i];
		bool isnull;
		Datum params = column(i, 4, &isnull);

		item->request_id = column_int64(i, 1);
		item->params = isnull ? NULL : DatumGetJsonbPCopy(params);
		item->attempt = DatumGetInt32(column(i, 2, &isnull));
		item->max_attempts = DatumGetInt32(column(i, 3, &isnull));
		item->body = column_text(i, 5);
	}
	MemoryContextSwitchTo(old);
	return (int) SPI_processed;
}

bool
outbox_lane_waits(const Lane *lane)
{
	Datum values[2] = {Int64GetDatum(lane->account_id), CStringGetTextDatum(lane->operation)};
	bool isnull;

	run(&lane_waits, values, NULL);
	return DatumGetBool(column(0, 1, &isnull));
}

static Datum
int64_array(const Datum *values, int count)
{
	return PointerGetDatum(
		construct_array((Datum *) values, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static Datum
int32_array(const Datum *values, int count)
{
	return PointerGetDatum(construct_array((Datum *) values, count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

/* NULL pointers become SQL NULLs. */
static Datum
text_array(const char *const *strings, int count)
{
	Datum *values = palloc(sizeof(Datum) * count);
	bool *nulls = palloc(sizeof(bool) * count);
	int lower = 1;

	for (int i = 0; i < count; i++)
	{
		nulls[i] = strings[i] == NULL;
		values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(strings[i]);
	}
	return PointerGetDatum(construct_md_array(values, nulls, 1, &count, &lower, TEXTOID, -1, false, TYPALIGN_INT));
}

void
outbox_complete(int64 account_id, const OutboxAnswer *answers, int count, bool parked)
{
	Datum *ids = palloc(sizeof(Datum) * count);
	Datum *statuses = palloc(sizeof(Datum) * count);
	const char **texts[6];
	Datum values[9];

	for (int t = 0; t < 6; t++)
		texts[t] = palloc(sizeof(char *) * count);
	for (int i = 0; i < count; i++)
	{
		ids[i] = Int64GetDatum(answers[i].request_id);
		statuses[i] = Int32GetDatum(answers[i].status);
		texts[0][i] = answers[i].outcome;
		texts[1][i] = answers[i].body;
		texts[2][i] = answers[i].error_code;
		texts[3][i] = answers[i].error_message;
		texts[4][i] = answers[i].amazon_request_id;
		texts[5][i] = answers[i].next_token;
	}
	values[0] = Int64GetDatum(account_id);
	values[1] = int64_array(ids, count);
	values[2] = int32_array(statuses, count);
	for (int t = 0; t < 6; t++)
		values[3 + t] = text_array(texts[t], count);
	run(parked ? &park : &complete, values, NULL);
}

void
outbox_complete_failed(int64 account_id, const OutboxAnswer *answer, const char *state, const char *message)
{
	Datum values[6] = {Int64GetDatum(account_id),     Int64GetDatum(answer->request_id),
					   Int32GetDatum(answer->status), CStringGetTextDatum(state),
					   CStringGetTextDatum(message),  answer->body ? CStringGetTextDatum(answer->body) : (Datum) 0};

	run(&complete_failed, values, answer->body ? "      " : "     n");
}

void
outbox_postpone(int64 account_id, const OutboxDelay *delays, int count)
{
	Datum *ids = palloc(sizeof(Datum) * count);
	Datum *milliseconds = palloc(sizeof(Datum) * count);
	Datum *in_doubt = palloc(sizeof(Datum) * count);
	const char **reasons = palloc(sizeof(char *) * count);
	Datum values[5];

	for (int i = 0; i < count; i++)
	{
		ids[i] = Int64GetDatum(delays[i].request_id);
		milliseconds[i] = Int64GetDatum(delays[i].delay_ms);
		reasons[i] = delays[i].hold_reason;
		in_doubt[i] = BoolGetDatum(delays[i].in_doubt);
	}
	values[0] = Int64GetDatum(account_id);
	values[1] = int64_array(ids, count);
	values[2] = int64_array(milliseconds, count);
	values[3] = text_array(reasons, count);
	values[4] = PointerGetDatum(construct_array(in_doubt, count, BOOLOID, sizeof(bool), true, TYPALIGN_CHAR));
	run(&postpone, values, NULL);
}

int64
outbox_recover(void)
{
	run(&recover, NULL, NULL);
	return column_int64(0, 1);
}

void
outbox_recover_tasks(void)
{
	run(&recover_tasks, NULL, NULL);
}

void
outbox_token_secrets(int64 account_id, MemoryContext keep, TokenSecrets *secrets)
{
	Datum values[1] = {Int64GetDatum(account_id)};
	MemoryContext old;

	memset(secrets, 0, sizeof(TokenSecrets));
	run(&token_context, values, NULL);
	if (SPI_processed == 0)
		return;
	old = MemoryContextSwitchTo(keep);
	secrets->endpoint = column_text(0, 1);
	secrets->client_id = column_text(0, 2);
	secrets->client_secret = column_text(0, 3);
	secrets->refresh_token = column_text(0, 4);
	MemoryContextSwitchTo(old);
}

void
outbox_account_invalid(int64 account_id, const char *code, const char *reason)
{
	Datum values[3] = {Int64GetDatum(account_id), CStringGetTextDatum(code), CStringGetTextDatum(reason)};

	run(&account_invalid, values, NULL);
}
