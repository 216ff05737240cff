/*
 * exchange.c
 *	  One request's way to Amazon and back, as the sender sees it.
 *
 * An answer is judged once (spapi.c), becomes one of three settlements, and a batch of settlements is written in one
 * transaction:
 *
 *	 complete	handlers run and the request ends (success, refused, lost)
 *	 park		the answer is sealed and left to an own runner (large or personal answers)
 *	 postpone	due again after a delay, or held for a person
 *
 * When that transaction fails, each settlement is redone in a transaction of its own, so that one answer that cannot be
 * applied undoes no other; if it fails alone too, the request ends as handler_failed with the error.
 *
 * Two exchanges are with Login with Amazon: a token request, which is no row anywhere, and the exchange of a consent code,
 * which is a request like others but for how it is built and judged. So are those with a queue (sqs.c), and those that tell
 * people (tell.c), whose answers have no body that matters.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "exchange.h"
#include "json.h"
#include "json_check.h"
#include "lwa.h"
#include "spapi.h"
#include "sqs.h"
#include "tell.h"
#include "token.h"
#include "vault.h"
#include "worker.h"

#define SETTLE_BATCH       256
#define SMALL_ANSWER       256
#define REQUEST_TIMEOUT_MS 60000
#define MAX_RESPONSE       (16 * 1024 * 1024)
#define SECRETS_LOG_MS     60000

typedef struct Exchange
{
	bool renews_token;
	char *token; /* what was sent, to tell a refused token from one renewed since */
	Lane lane;
	int64 request_id;
	int attempt;
	int max_attempts;
} Exchange;

typedef enum SettlementKind
{
	SETTLE_COMPLETE,
	SETTLE_PARK,
	SETTLE_POSTPONE
} SettlementKind;

typedef struct Settlement
{
	SettlementKind kind;
	int64 account_id;
	OutboxAnswer answer;
	OutboxDelay delay;
	bool asked_again; /* should a crash of the server take it back */
	HttpAnswer *came; /* whose body the answer's is, kept until it is written */
} Settlement;

typedef struct Batch
{
	Settlement *settlements;
	int count;
} Batch;

static MemoryContext in_flight = NULL; /* Exchanges */
static MemoryContext settling = NULL;  /* reset after each batch */

void
exchange_init(MemoryContext lifetime)
{
	in_flight = AllocSetContextCreate(lifetime, "amzmp exchanges", ALLOCSET_DEFAULT_SIZES);
	settling = AllocSetContextCreate(lifetime, "amzmp settling", ALLOCSET_DEFAULT_SIZES);
}

static Exchange *
make_exchange(const Lane *lane)
{
	Exchange *exchange = MemoryContextAllocZero(in_flight, sizeof(Exchange));

	exchange->lane = *lane;
	return exchange;
}

static void
forget_exchange(Exchange *exchange)
{
	if (exchange->token != NULL)
	{
		explicit_bzero(exchange->token, strlen(exchange->token));
		pfree(exchange->token);
	}
	pfree(exchange);
}

static void refuse(const Exchange *exchange, const ErrorData *error);

/* The claim rendered the form's fields as JSON, because only SQL may open what is sealed. */
static void
build_code_exchange(const Lane *lane, const OutboxItem *item, HttpRequest *request)
{
	JsonDoc *doc = json_doc_parse(item->body, strlen(item->body), NULL);

	if (doc == NULL)
		elog(ERROR, "a consent was rendered as something else than JSON");
	lwa_build_request(LWA_AUTHORIZATION_CODE, lane->endpoint, json_doc_text(doc, JSON_PATH("client_id")),
					  json_doc_text(doc, JSON_PATH("client_secret")), json_doc_text(doc, JSON_PATH("code")),
					  json_doc_text(doc, JSON_PATH("redirect_uri")), request);
	json_doc_free(doc);
	explicit_bzero(item->body, strlen(item->body));
}

static void
build_call(const Lane *lane, const OutboxItem *item, const char *access_token, HttpRequest *request)
{
	SpapiCall call = {
		.operation = lane->operation,
		.method = lane->method,
		.path = lane->path,
		.endpoint = lane->endpoint,
		.token = access_token,
		.params = item->params,
		.body = item->body,
	};

	spapi_build(&call, request);
}

static void
begin_transfer(HttpPool *pool, HttpRequest *request, Exchange *exchange)
{
	request->timeout_ms = REQUEST_TIMEOUT_MS;
	request->max_response = MAX_RESPONSE;
	request->tag = exchange;
	http_start(pool, request);
	spapi_forget(request);
}

static void
start(HttpPool *pool, const Lane *lane, const OutboxItem *item, const char *access_token, Exchange *exchange)
{
	HttpRequest request;

	memset(&request, 0, sizeof(request));
	exchange->token = MemoryContextStrdup(in_flight, access_token);
	if (lane->exchanges_code)
		build_code_exchange(lane, item, &request);
	else if (lane->talks_to_queue)
		sqs_build(lane->endpoint, item->body, &request);
	else if (lane->tells_people)
		tell_build(item->body, &request);
	else
		build_call(lane, item, access_token, &request);
	begin_transfer(pool, &request, exchange);
}

bool
exchange_start(HttpPool *pool, const Lane *lane, const OutboxItem *item, const char *access_token)
{
	MemoryContext old = CurrentMemoryContext;
	Exchange *exchange = make_exchange(lane);
	ErrorData *volatile error = NULL;

	exchange->request_id = item->request_id;
	exchange->attempt = item->attempt;
	exchange->max_attempts = item->max_attempts;
	PG_TRY();
	{
		start(pool, lane, item, access_token, exchange);
	}
	PG_CATCH();
	{
		/* no transaction is open, so there is nothing else to clean up */
		MemoryContextSwitchTo(settling);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	if (error != NULL)
	{
		refuse(exchange, error);
		forget_exchange(exchange);
		MemoryContextReset(settling);
	}
	MemoryContextSwitchTo(old);
	return error == NULL;
}

/*
 * Tokens
 */

typedef struct SecretsWanted
{
	int64 account_id;
	TokenSecrets secrets;
} SecretsWanted;

static void
fetch_secrets(void *arg)
{
	SecretsWanted *wanted = arg;

	outbox_token_secrets(wanted->account_id, settling, &wanted->secrets);
}

typedef struct Invalid
{
	int64 account_id;
	const char *code;
	const char *reason;
} Invalid;

static void
mark_invalid(void *arg)
{
	Invalid *invalid = arg;

	outbox_account_invalid(invalid->account_id, invalid->code, invalid->reason);
}

static void
account_is_invalid(int64 account_id, const char *code, const char *reason)
{
	Invalid invalid = {account_id, code, reason};
	ErrorData *error = worker_transaction(mark_invalid, &invalid, true, false, settling);

	if (error != NULL)
		worker_log_error("marking an account invalid", error);
}

static const char *
scope_text(TokenScope scope)
{
	switch (scope)
	{
		case TOKEN_NOTIFICATIONS:
			return "sellingpartnerapi::notifications";
		case TOKEN_ROTATION:
			return "sellingpartnerapi::client_credential:rotation";
		default:
			return NULL;
	}
}

/* Whatever is thrown here, the lease must not outlive it. */
static void
ask_for_token(HttpPool *pool, const Lane *lane, const TokenSecrets *secrets, const char *scope)
{
	Exchange *exchange = make_exchange(lane);
	HttpRequest request;

	exchange->renews_token = true;
	PG_TRY();
	{
		lwa_build_request(scope ? LWA_CLIENT_CREDENTIALS : LWA_REFRESH, secrets->endpoint, secrets->client_id,
						  secrets->client_secret, scope ? scope : secrets->refresh_token, NULL, &request);
		begin_transfer(pool, &request, exchange);
	}
	PG_CATCH();
	{
		token_give_up(&lane->token);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* An unreadable key or a locked table is no fault of the account's, and many accounts may meet it at once: said once a minute. */
static void
log_secrets_error(const ErrorData *error)
{
	static TimestampTz said = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (said != 0 && !TimestampDifferenceExceeds(said, now, SECRETS_LOG_MS))
		return;
	said = now;
	worker_log_error("opening an account's secrets", error);
}

Renewal
exchange_renew_token(HttpPool *pool, const Lane *lane)
{
	MemoryContext old = MemoryContextSwitchTo(settling);
	SecretsWanted wanted = {.account_id = lane->account_id};
	ErrorData *error = worker_transaction(fetch_secrets, &wanted, true, false, settling);
	const char *scope = scope_text(lane->token.scope);
	Renewal renewal = RENEWAL_REFUSED;

	if (error != NULL && error->sqlerrcode != ERRCODE_DATA_CORRUPTED)
	{
		log_secrets_error(error);
		renewal = RENEWAL_LATER;
	}
	else if (error != NULL)
		account_is_invalid(lane->account_id, "SecretsUnusable", error->message);
	else if (wanted.secrets.client_secret == NULL || (scope == NULL && wanted.secrets.refresh_token == NULL))
		account_is_invalid(lane->account_id, "CredentialsMissing", "no credentials are stored for this account");
	else
	{
		ask_for_token(pool, lane, &wanted.secrets, scope);
		renewal = RENEWAL_BEGUN;
	}
	if (renewal != RENEWAL_BEGUN)
		token_give_up(&lane->token);
	if (wanted.secrets.client_secret)
		vault_forget(wanted.secrets.client_secret, strlen(wanted.secrets.client_secret));
	if (wanted.secrets.refresh_token)
		vault_forget(wanted.secrets.refresh_token, strlen(wanted.secrets.refresh_token));
	MemoryContextSwitchTo(old);
	return renewal;
}

static void
token_arrived(const Exchange *exchange, const HttpAnswer *answer)
{
	char token[TOKEN_MAX_LENGTH + 1];
	int expires_in = 0;
	SpapiError error;

	switch (lwa_read_answer(answer, token, sizeof(token), &expires_in, NULL, 0, &error))
	{
		case SPAPI_SUCCESS:
			token_store(&exchange->lane.token, token, expires_in);
			break;
		case SPAPI_PERMANENT:
			token_give_up(&exchange->lane.token);
			account_is_invalid(exchange->lane.account_id, error.code, error.message);
			break;
		default:
			token_failed(&exchange->lane.token);
			break;
	}
	explicit_bzero(token, sizeof(token));
}

/*
 * Judging
 */

/*
 * The body as JSON text that the database will accept, NULL when empty; *bad is set when it is something else. It stays
 * where it arrived: a page of orders is large, and is copied often enough on its way into the table.
 * By the way, the token of the next page: whoever applies a page of orders shall not have to begin for it to be asked for.
 */
static const char *
body_text(const HttpAnswer *answer, bool *bad, char **next_token)
{
	*bad = false;
	*next_token = NULL;
	if (answer->body_length == 0)
		return NULL;
	*bad = json_check(answer->body, answer->body_length, next_token) != NULL;
	return *bad ? NULL : answer->body;
}

static void
settle_finally(Settlement *settlement, const char *outcome, int status, const char *body, const SpapiError *error)
{
	settlement->kind = SETTLE_COMPLETE;
	settlement->answer.outcome = outcome;
	settlement->answer.status = status;
	settlement->answer.body = body;
	settlement->answer.error_code = error->code[0] ? pstrdup(error->code) : NULL;
	settlement->answer.error_message =
		error->message[0] ? psprintf("%s%s%s", error->message, error->details[0] ? ": " : "", error->details) : NULL;
}

static void
settle_later(Settlement *settlement, int64 delay_ms, const char *hold_reason)
{
	settlement->kind = SETTLE_POSTPONE;
	settlement->delay.request_id = settlement->answer.request_id;
	settlement->delay.delay_ms = delay_ms;
	settlement->delay.hold_reason = hold_reason;
}

/* The answer was lost, or what arrived cannot be read: whether it had its effect is unknown. */
static void
settle_unknown(Settlement *settlement, const Exchange *exchange, const SpapiError *error, int64 delay_ms)
{
	bool attempts_left = exchange->attempt < exchange->max_attempts;

	if (strcmp(exchange->lane.after_lost_answer, "repeat") == 0 && attempts_left)
		settle_later(settlement, delay_ms, NULL);
	else if (strcmp(exchange->lane.after_lost_answer, "ask") == 0)
		settle_later(settlement, 0, "the answer was lost and repeating is not safe: look at Amazon, then retry or cancel");
	else
		settle_finally(settlement, "lost", 0, NULL, error);
	settlement->delay.in_doubt = true;
}

static SpapiVerdict
verdict_of(const Exchange *exchange, const HttpAnswer *answer, SpapiError *error)
{
	char token[TOKEN_MAX_LENGTH + 1];
	char refresh_token[TOKEN_MAX_LENGTH + 1];
	int expires_in;
	SpapiVerdict verdict;

	if (exchange->lane.talks_to_queue)
		return sqs_judge(answer, error);
	if (exchange->lane.tells_people)
		return tell_judge(answer, false, error);
	if (!exchange->lane.exchanges_code)
		return spapi_judge(answer, error);
	verdict = lwa_read_answer(answer, token, sizeof(token), &expires_in, refresh_token, sizeof(refresh_token), error);
	explicit_bzero(token, sizeof(token));
	explicit_bzero(refresh_token, sizeof(refresh_token));
	return verdict;
}

/* An answer that is too short to hold anything: most polls bring one, and it is sooner applied than parked for a runner. */
static bool
says_nothing(const OutboxAnswer *answer)
{
	return strcmp(answer->outcome, "success") == 0 && answer->body != NULL && strlen(answer->body) <= SMALL_ANSWER;
}

static void
judge(Settlement *settlement, const Exchange *exchange, const HttpAnswer *answer)
{
	SpapiError error;
	SpapiVerdict verdict = verdict_of(exchange, answer, &error);
	int64 delay_ms = spapi_backoff_ms(exchange->attempt, exchange->lane.rate, pg_prng_double(&pg_global_prng_state));
	bool attempts_left = exchange->attempt < exchange->max_attempts;
	bool bad_body = false;
	bool has_body = answer->fault == HTTP_OK && !exchange->lane.tells_people;
	char *next_token = NULL;
	const char *body = has_body ? body_text(answer, &bad_body, &next_token) : NULL;
	const char *request_id = http_answer_header(answer, "x-amzn-requestid");

	settlement->account_id = exchange->lane.account_id;
	settlement->answer.request_id = exchange->request_id;
	settlement->answer.amazon_request_id = request_id ? pstrdup(request_id) : NULL;
	settlement->answer.next_token = next_token;
	if (verdict == SPAPI_SUCCESS && bad_body)
	{
		strlcpy(error.code, "BadAnswer", sizeof(error.code));
		strlcpy(error.message, "the answer is not JSON in UTF-8", sizeof(error.message));
		verdict = SPAPI_UNKNOWN;
	}
	switch (verdict)
	{
		case SPAPI_SUCCESS:
			settle_finally(settlement, "success", answer->status, body, &error);
			break;
		case SPAPI_RETRY:
			if (attempts_left)
				settle_later(settlement, delay_ms, NULL);
			else
				settle_finally(settlement, "refused", answer->status, body, &error);
			break;
		case SPAPI_RENEW_TOKEN:
			token_drop_refused(&exchange->lane.token, exchange->token);
			/* at once while attempts are few; how many there were says nothing about tokens after an outage */
			if (attempts_left)
				settle_later(settlement, exchange->attempt < 3 ? 0 : delay_ms, NULL);
			else
				settle_finally(settlement, "refused", answer->status, body, &error);
			break;
		case SPAPI_PERMANENT:
			settle_finally(settlement, "refused", answer->status, body, &error);
			break;
		case SPAPI_UNKNOWN:
			settle_unknown(settlement, exchange, &error, delay_ms);
			break;
	}
	if (settlement->kind == SETTLE_COMPLETE && exchange->lane.apply_in_runner && !says_nothing(&settlement->answer))
		settlement->kind = SETTLE_PARK;
	/* a parked answer has had no effect yet, and _recover() asks again for one that is gone */
	settlement->asked_again =
		settlement->kind == SETTLE_PARK && attempts_left && strcmp(exchange->lane.after_lost_answer, "repeat") == 0;
}

/*
 * Settling
 */

static int
by_account_and_kind(const void *a, const void *b)
{
	const Settlement *x = a;
	const Settlement *y = b;

	if (x->account_id != y->account_id)
		return x->account_id < y->account_id ? -1 : 1;
	return (int) x->kind - (int) y->kind;
}

/* Write settlements of one account and kind. */
static void
write_group(const Settlement *group, int count)
{
	OutboxAnswer *answers = palloc(sizeof(OutboxAnswer) * count);
	OutboxDelay *delays = palloc(sizeof(OutboxDelay) * count);

	for (int i = 0; i < count; i++)
	{
		answers[i] = group[i].answer;
		delays[i] = group[i].delay;
	}
	if (group->kind == SETTLE_POSTPONE)
		outbox_postpone(group->account_id, delays, count);
	else
		outbox_complete(group->account_id, answers, count, group->kind == SETTLE_PARK);
}

static void
write_batch(void *arg)
{
	Batch *batch = arg;

	for (int start = 0, end; start < batch->count; start = end)
	{
		for (end = start + 1; end < batch->count; end++)
			if (by_account_and_kind(&batch->settlements[start], &batch->settlements[end]) != 0)
				break;
		write_group(&batch->settlements[start], end - start);
	}
}

/* The disk is not waited for when all of it would be asked for again: pages of orders are large and come in a row. */
static ErrorData *
write_committed(Batch *batch)
{
	bool lazy = true;

	for (int i = 0; i < batch->count; i++)
		lazy = lazy && batch->settlements[i].asked_again;
	return worker_transaction(write_batch, batch, true, lazy, settling);
}

typedef struct Failure
{
	const Settlement *settlement;
	const ErrorData *error;
} Failure;

static void
write_failure(void *arg)
{
	Failure *failure = arg;

	outbox_complete_failed(failure->settlement->account_id, &failure->settlement->answer,
						   unpack_sql_state(failure->error->sqlerrcode), failure->error->message);
}

static void
write_alone(Settlement *settlement)
{
	Batch one = {settlement, 1};
	Failure failure = {settlement, write_committed(&one)};
	ErrorData *error;

	if (failure.error == NULL)
		return;
	error = worker_transaction(write_failure, &failure, true, false, settling);
	if (error != NULL)
		worker_log_error("ending a request whose answer could not be applied", error);
}

/* A request that cannot even be built would fail for ever: it ends as one that Amazon refused. */
static void
refuse(const Exchange *exchange, const ErrorData *error)
{
	Settlement settlement = {.account_id = exchange->lane.account_id};
	SpapiError why;

	memset(&why, 0, sizeof(why));
	strlcpy(why.code, unpack_sql_state(error->sqlerrcode), sizeof(why.code));
	strlcpy(why.message, error->message, sizeof(why.message));
	settlement.answer.request_id = exchange->request_id;
	settle_finally(&settlement, "refused", 0, NULL, &why);
	if (exchange->lane.apply_in_runner)
		settlement.kind = SETTLE_PARK;
	write_alone(&settlement);
}

static void
write_settlements(Batch *batch)
{
	qsort(batch->settlements, batch->count, sizeof(Settlement), by_account_and_kind);
	if (write_committed(batch) == NULL)
		return;
	for (int i = 0; i < batch->count; i++)
		write_alone(&batch->settlements[i]);
}

static void
forget_answers(Batch *batch)
{
	for (int i = 0; i < batch->count; i++)
		http_answer_free(batch->settlements[i].came);
}

int
exchange_settle(HttpPool *pool, ExchangeNews *news)
{
	MemoryContext old = MemoryContextSwitchTo(settling);
	Batch batch = {palloc0(sizeof(Settlement) * SETTLE_BATCH), 0};
	int settled = 0;
	HttpAnswer *answer;

	while (batch.count < SETTLE_BATCH && (answer = http_next_answer(pool)) != NULL)
	{
		Exchange *exchange = answer->tag;

		settled++;
		if (exchange->renews_token)
		{
			token_arrived(exchange, answer);
			news->tokens = news->lanes = true;
			http_answer_free(answer);
		}
		else
		{
			Settlement *settlement = &batch.settlements[batch.count++];

			usage_plan_note_answer(exchange->lane.demand, exchange->lane.demand_count, answer->status,
								   spapi_rate_limit(answer) * exchange->lane.time_scale, answer->total_us);
			judge(settlement, exchange, answer);
			settlement->came = answer;
			news->lanes |= settlement->kind == SETTLE_POSTPONE;
		}
		forget_exchange(exchange);
	}
	if (batch.count > 0)
		write_settlements(&batch);
	forget_answers(&batch);
	MemoryContextSwitchTo(old);
	MemoryContextReset(settling);
	return settled;
}
