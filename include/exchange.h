/*
 * exchange.h
 *	  One request's way to Amazon and back, as the sender sees it: start, judge the answer, settle it in the tables.
 */
#ifndef AMZMP_EXCHANGE_H
#define AMZMP_EXCHANGE_H

#include "http.h"
#include "outbox.h"

/* Everything in flight lives in `lifetime`. */
extern void exchange_init(MemoryContext lifetime);

/* Begin the call of one claimed request. False when no call can be made of it: then it has ended as refused. */
extern bool exchange_start(HttpPool *pool, const Lane *lane, const OutboxItem *item, const char *access_token);

typedef enum Renewal
{
	RENEWAL_BEGUN,
	RENEWAL_REFUSED, /* there are no secrets that open; the account is marked invalid */
	RENEWAL_LATER    /* they cannot be had just now, through no fault of the account's */
} Renewal;

/* Begin a token request for the lane's key, whose lease the caller holds. */
extern Renewal exchange_renew_token(HttpPool *pool, const Lane *lane);

/* What settling leaves to the sender; members are set, never cleared. */
typedef struct ExchangeNews
{
	bool tokens; /* an access token arrived or was refused: waiting lanes can go on */
	bool lanes;  /* requests are due again, or an account became invalid: the lanes must be read again */
} ExchangeNews;

/* Take what has arrived (at most a batch), judge it, write it to the tables in one transaction. Returns how many transfers. */
extern int exchange_settle(HttpPool *pool, ExchangeNews *news);

#endif
