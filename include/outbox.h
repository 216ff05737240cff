/*
 * outbox.h
 *	  Due requests out of the tables, answers back into them (SPI).
 *
 * Every function here runs inside a transaction that the caller has opened with worker_transaction(), as amzmp_owner.
 */
#ifndef AMZMP_OUTBOX_H
#define AMZMP_OUTBOX_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "token.h"
#include "usage_plan.h"

#define OPERATION_MAX 64

/* The due requests of one account and operation: they share a usage plan, a token and an endpoint. */
typedef struct Lane
{
	int64 account_id;
	char operation[OPERATION_MAX]; /* with account_id the hash key */
	TimestampTz next_at;           /* when to look at it again; DT_NOEND = nothing due */
	bool seen;                     /* by the refresh in progress */
	char method[8];
	char path[160];
	char endpoint[200];
	char after_lost_answer[8]; /* repeat, look_up, ask */
	bool apply_in_runner;
	bool exchanges_code; /* not a call: a consent code goes to Login with Amazon (sql/consent.sql) */
	bool talks_to_queue; /* not a call: Amazon SQS, signed instead of carrying a token (sql/queue.sql) */
	bool tells_people;   /* not a call: a webhook, wherever its target is (sql/alarm_send.sql) */
	double rate;         /* of the operation, for the back-off */
	double time_scale;   /* of a mock account's clock: Amazon's rates are per second of that */
	TokenKey token;
	PlanDemand demand[PLAN_MAX_PER_CALL];
	int demand_count;
} Lane;

/* Does a call of this lane carry an access token? */
static inline bool
lane_needs_token(const Lane *lane)
{
	return !lane->exchanges_code && !lane->talks_to_queue && !lane->tells_people;
}

typedef struct OutboxItem
{
	int64 request_id;
	int attempt;
	int max_attempts;
	Jsonb *params;
	char *body; /* NULL = none */
} OutboxItem;

typedef struct OutboxAnswer
{
	int64 request_id;
	int status;
	const char *outcome; /* success, refused, lost */
	const char *body;    /* JSON text or NULL */
	const char *error_code;
	const char *error_message;
	const char *amazon_request_id;
	const char *next_token; /* of the page after this one, NULL when the answer names none */
} OutboxAnswer;

typedef struct OutboxDelay
{
	int64 request_id;
	int64 delay_ms;
	const char *hold_reason; /* NULL = due again after the delay */
	bool in_doubt;           /* the attempt may have had its effect, or may still have it */
} OutboxDelay;

typedef struct TokenSecrets
{
	char *endpoint;
	char *client_id;
	char *client_secret;
	char *refresh_token;
} TokenSecrets;

typedef void (*OutboxLaneFn)(const Lane *lane, void *arg);
typedef void (*OutboxWorkFn)(Oid role, TimestampTz due_at, void *arg);

/* Is the extension here, in the version of this library? Else *why says what is missing (static text). */
extern bool outbox_usable(const char **why);
extern void outbox_lanes(OutboxLaneFn found, void *arg);
extern void outbox_work(OutboxWorkFn found, void *arg); /* roles with tasks; InvalidOid = own runner */
extern bool outbox_prepared_pending(void);
extern bool outbox_retry_sources(void); /* is there one that fails? */

/* Rows and strings are palloc'd in `keep`. */
extern int outbox_claim(const Lane *lane, int most, MemoryContext keep, OutboxItem **items);
extern bool outbox_lane_waits(const Lane *lane); /* are there others in it, due later or held? */
extern void outbox_complete(int64 account_id, const OutboxAnswer *answers, int count, bool park);
extern void outbox_complete_failed(int64 account_id, const OutboxAnswer *answer, const char *state, const char *message);
extern void outbox_postpone(int64 account_id, const OutboxDelay *delays, int count);
extern int64 outbox_recover(void);
extern void outbox_recover_tasks(void);
extern void outbox_token_secrets(int64 account_id, MemoryContext keep, TokenSecrets *secrets);
extern void outbox_account_invalid(int64 account_id, const char *code, const char *reason);

#endif
