/*
 * token.h
 *	  Login-with-Amazon access tokens: one per credential and scope, cached in shared memory for all processes.
 */
#ifndef AMZMP_TOKEN_H
#define AMZMP_TOKEN_H

#include "datatype/timestamp.h"

#define TOKEN_MAX_LENGTH 2048

/* Whom a token speaks for. Hashed as raw bytes: zero the struct before filling it. */
typedef struct TokenKey
{
	Oid database;
	int32 scope;          /* TokenScope */
	int64 account_id;     /* TOKEN_SELLER; else 0 */
	int64 application_id; /* grantless scopes */
	int64 generation;     /* account.generation or application.generation: changes with every set_credentials */
} TokenKey;

typedef enum TokenScope
{
	TOKEN_SELLER = 1,
	TOKEN_NOTIFICATIONS,
	TOKEN_ROTATION
} TokenScope;

typedef enum TokenState
{
	TOKEN_READY,         /* `token` is filled */
	TOKEN_BEING_RENEWED, /* somebody is at it, or just failed: come back when your latch is set, or in a second */
	TOKEN_YOURS_TO_RENEW /* the caller now holds the lease: it must call token_store or token_give_up */
} TokenState;

extern void token_define_settings(void);
extern Size token_shmem_size(void);
extern void token_shmem_init(void); /* called with AddinShmemInitLock held */

/*
 * `token` has room for TOKEN_MAX_LENGTH + 1; the caller wipes it. Never waits; throws only without preload. A lease
 * belongs to a process, not to a transaction: it ends by token_store, token_give_up, the end of the process, or
 * after 60 s. A process that holds it and asks again is told TOKEN_BEING_RENEWED like all others, and so is one that is
 * `patient` while a failed renewal pauses; `again` (may be NULL) is when the pause ends, or now.
 */
extern TokenState token_get(const TokenKey *key, char *token, bool patient, TimestampTz *again);

/*
 * Keep a token that Amazon gave out and end the lease. Throws ERRCODE_AMZMP_BAD_ANSWER, with the lease ended, for a token
 * that is empty or longer than TOKEN_MAX_LENGTH. Where there is no room the token is simply not kept.
 */
extern void token_store(const TokenKey *key, const char *token, int expires_in_seconds);

/* The renewal failed: end the lease. A token that is still valid stays. Safe to call without holding a lease. */
extern void token_give_up(const TokenKey *key);

/* The same, when it was Amazon who did not answer: the next renewal pauses. */
extern void token_failed(const TokenKey *key);

/*
 * Amazon answered 403 to `refused`: forget it, unless it was renewed meanwhile. Several calls that were in flight with
 * the same token thus cause one renewal, not one each.
 */
extern void token_drop_refused(const TokenKey *key, const char *refused);

#endif
