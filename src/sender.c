/*
 * sender.c
 *	  The sender's loop: claim, send, apply, sleep. One sender a database.
 *
 * Life: started by the launcher; connects without a user name, works as amzmp_owner; ends with exit code 1 when it is told to
 * and the launcher starts it again; with 0 when the database has no extension.
 *
 * A turn:
 *	1. woken (a commit queued work) or a task fell due: read the lanes (account and operation with due requests) and
 *	   the roles with tasks, start runners;
 *	2. for each due lane, in turn: an access token, tokens of the usage plans, then claim as many requests as there are
 *	   tokens (committed before anything is sent) and start their transfers;
 *	3. settle what has arrived, in batches;
 *	4. sleep until a socket, the latch or the next due time.
 *
 * With nothing due it waits on its latch without a time-out and runs no query. No transaction is open while it waits.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "exchange.h"
#include "outbox.h"
#include "processes.h"
#include "runner.h"
#include "sender.h"
#include "worker.h"

#define CLAIM_BATCH       100
#define TOKEN_POLL_US     50000
#define PREPARED_POLL_US  1000000
#define SECRETS_PAUSE_US  5000000 /* until secrets that could not be opened are tried again */
#define ERROR_PAUSE_US    1000000
#define REFRESH_PAUSE     4 /* reading what is due is followed by a pause of as many times its length */
#define DEFAULT_IN_FLIGHT 128
#define MOST_IN_FLIGHT    1000

static int max_in_flight = DEFAULT_IN_FLIGHT;

typedef struct LaneKey
{
	int64 account_id;
	char operation[OPERATION_MAX];
} LaneKey;

typedef struct Sender
{
	HttpPool *pool;
	int connections; /* what the pool was last sized to */
	HTAB *lanes;
	MemoryContext turn;       /* reset every turn */
	bool usable;              /* the extension is here in our version */
	const char *last_why;     /* what was last logged when it was not */
	bool look_for_work;       /* the roles' tasks, too, once the lanes are served */
	uint32 runners_left;      /* as it was when tasks were last looked for */
	bool refresh;             /* the lanes must be read again */
	bool prepared_pending;    /* look each second: COMMIT PREPARED wakes nobody */
	bool shop_altered;        /* sources that fail may be readable again */
	bool look_again;          /* one may have been failing just while it was altered */
	uint32 round;             /* rounds over the lanes so far */
	TimestampTz next_refresh; /* a task falls due then; DT_NOEND = none */
	TimestampTz rested;       /* wake-ups are heeded again from then on */
} Sender;

PGDLLEXPORT void amzmp_sender_main(Datum arg);

void
sender_define_settings(void)
{
	DefineCustomIntVariable("amzmp.max_in_flight", "Most requests that one database's sender has claimed at a time.",
							NULL, &max_in_flight, DEFAULT_IN_FLIGHT, 1, MOST_IN_FLIGHT, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/*
 * Reading what is due
 */

static void
note_lane(const Lane *found, void *arg)
{
	Sender *sender = arg;
	LaneKey key;
	Lane *lane;
	bool known;

	memset(&key, 0, sizeof(key));
	key.account_id = found->account_id;
	strlcpy(key.operation, found->operation, sizeof(key.operation));
	lane = hash_search(sender->lanes, &key, HASH_ENTER, &known);
	*lane = *found;
	lane->seen = true;
}

static void
note_work(Oid role, TimestampTz due_at, void *arg)
{
	Sender *sender = arg;

	if (due_at <= GetCurrentTimestamp())
		runner_ensure(role);
	else
		sender->next_refresh = Min(sender->next_refresh, due_at);
}

static void
forget_unseen_lanes(Sender *sender)
{
	HASH_SEQ_STATUS scan;
	Lane *lane;

	hash_seq_init(&scan, sender->lanes);
	while ((lane = hash_seq_search(&scan)) != NULL)
	{
		if (!lane->seen)
			hash_search(sender->lanes, lane, HASH_REMOVE, NULL);
		else
			lane->seen = false;
	}
}

static void
read_due(void *arg)
{
	Sender *sender = arg;
	const char *why = NULL;

	sender->usable = outbox_usable(&why);
	sender->next_refresh = DT_NOEND;
	if (!sender->usable)
	{
		if (why != sender->last_why)
			ereport(LOG, (errmsg("amzmp: nothing is sent from database %u: %s", MyDatabaseId, why)));
		sender->last_why = why;
		return;
	}
	sender->last_why = NULL;
	worker_forget_stale_plans();
	outbox_lanes(note_lane, sender);
	if (sender->shop_altered || sender->look_again)
	{
		sender->look_again = outbox_retry_sources() && sender->shop_altered;
		sender->shop_altered = false;
	}
	if (sender->look_again)
		sender->next_refresh =
			Min(sender->next_refresh, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PREPARED_POLL_US / 1000));
	if (sender->prepared_pending)
		sender->prepared_pending = outbox_prepared_pending();
	if (sender->prepared_pending)
		sender->next_refresh =
			Min(sender->next_refresh, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PREPARED_POLL_US / 1000));
}

static void
read_work(void *arg)
{
	Sender *sender = arg;
	uint32 left = runners_left();

	/* one that was killed leaves a task behind */
	if (left != sender->runners_left)
		outbox_recover_tasks();
	sender->runners_left = left;
	outbox_work(note_work, sender);
}

static bool
sql_failed(Sender *sender, const char *doing, ErrorData *error)
{
	if (error == NULL)
		return false;
	worker_log_error(doing, error);
	sender->next_refresh = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ERROR_PAUSE_US / 1000);
	return true;
}

static void
look_for_extension(void *arg)
{
	*(bool *) arg = OidIsValid(get_extension_oid("amzmp", true));
}

/*
 * Keeps the list of databases that have the extension right. The second look is after this one was taken off the list: a
 * CREATE EXTENSION that commits later still puts it back.
 */
static bool
extension_is_here(Sender *sender)
{
	bool here = true;

	for (int look = 0; look < 2; look++)
	{
		if (look > 0)
			database_unregister(MyDatabaseId);
		(void) sql_failed(sender, "looking for the extension",
						  worker_transaction(look_for_extension, &here, false, true, sender->turn));
		if (here)
		{
			database_register(MyDatabaseId);
			break;
		}
	}
	return here;
}

/* What an earlier sender had in flight. */
static void
recover(void *arg)
{
	const char *why;

	if (outbox_usable(&why))
		outbox_recover();
}

/* Each commit of a busy shop may ask for this, so it pauses in proportion: it takes a fifth of the sender's time at most. */
static void
refresh(Sender *sender)
{
	TimestampTz began = GetCurrentTimestamp();
	TimestampTz ended;

	sender->refresh = false;
	if (!sql_failed(sender, "looking for due requests", worker_transaction(read_due, sender, true, true, sender->turn)))
	{
		forget_unseen_lanes(sender);
		sender->look_for_work = sender->usable;
	}
	ended = GetCurrentTimestamp();
	sender->rested = ended + (ended - began) * REFRESH_PAUSE;
}

static bool
refresh_is_due(const Sender *sender)
{
	TimestampTz now = GetCurrentTimestamp();

	return sender->next_refresh <= now || (sender->refresh && sender->rested <= now);
}

/*
 * Claiming and sending
 */

typedef struct Claim
{
	const Lane *lane;
	int most;
	MemoryContext keep;
	OutboxItem *items;
	int count;
	bool others_wait; /* in a lane that could not give as many as asked for */
} Claim;

static void
claim(void *arg)
{
	Claim *claim = arg;

	claim->count = outbox_claim(claim->lane, claim->most, claim->keep, &claim->items);
	claim->others_wait = claim->count < claim->most && outbox_lane_waits(claim->lane);
}

/* An access token for the lane; when there is none yet the lane waits, and its renewal is under way somewhere. */
static bool
lane_token(Sender *sender, Lane *lane, char *token, TimestampTz now)
{
	TimestampTz again;
	TokenState state = token_get(&lane->token, token, true, &again);

	if (state == TOKEN_READY)
		return true;
	lane->next_at = Max(now + TOKEN_POLL_US, again);
	if (state == TOKEN_YOURS_TO_RENEW)
		switch (exchange_renew_token(sender->pool, lane))
		{
			case RENEWAL_BEGUN:
				break;
			case RENEWAL_REFUSED:
				sender->refresh = true;
				break;
			case RENEWAL_LATER:
				lane->next_at = now + SECRETS_PAUSE_US;
				break;
		}
	return false;
}

/* Send what the lane's usage plans and `room` allow. */
static void
serve_lane(Sender *sender, Lane *lane, int room, TimestampTz now)
{
	char token[TOKEN_MAX_LENGTH + 1] = "";
	int64 wait_us = 0;
	Claim c = {.lane = lane, .keep = sender->turn};

	if (lane_needs_token(lane) && !lane_token(sender, lane, token, now))
		return;
	c.most = usage_plan_take_many(lane->demand, lane->demand_count, Min(room, CLAIM_BATCH), &wait_us);
	if (c.most == 0)
	{
		lane->next_at = now + Max(wait_us, 1000);
		return;
	}
	if (sql_failed(sender, "claiming requests", worker_transaction(claim, &c, true, false, sender->turn)))
	{
		usage_plan_give_back(lane->demand, lane->demand_count, c.most);
		lane->next_at = now + ERROR_PAUSE_US;
		return;
	}
	if (c.count < c.most)
	{
		usage_plan_give_back(lane->demand, lane->demand_count, c.most - c.count);
		lane->next_at = DT_NOEND; /* drained; a refresh says when its next request is due */
		sender->refresh |= c.others_wait;
	}
	for (int i = 0; i < c.count; i++)
		if (!exchange_start(sender->pool, lane, &c.items[i], token))
			sender->refresh = true;
	explicit_bzero(token, sizeof(token));
}

/* The lanes that are due, in the turn's memory: no scan of a hash table may span the transactions of serving them. */
static List *
due_lanes(Sender *sender, TimestampTz now)
{
	HASH_SEQ_STATUS scan;
	Lane *lane;
	List *due = NIL;

	hash_seq_init(&scan, sender->lanes);
	while ((lane = hash_seq_search(&scan)) != NULL)
		if (lane->next_at <= now)
			due = lappend(due, lane);
	return due;
}

/* One round over the due lanes, beginning one further each time, so that none is always last. */
static void
serve_lanes(Sender *sender)
{
	TimestampTz now = GetCurrentTimestamp();
	List *due = due_lanes(sender, now);
	int count = list_length(due);

	sender->round++;
	for (int i = 0; i < count; i++)
	{
		int room = max_in_flight - http_in_flight(sender->pool);

		if (room <= 0)
			return;
		serve_lane(sender, list_nth(due, (sender->round + i) % count), room, now);
	}
}

/* Milliseconds until something falls due, -1 = nothing does. */
static long
time_to_sleep(Sender *sender)
{
	TimestampTz next = sender->next_refresh;
	bool full = http_in_flight(sender->pool) >= max_in_flight;
	HASH_SEQ_STATUS scan;
	Lane *lane;

	if (sender->refresh)
		next = Min(next, sender->rested);
	hash_seq_init(&scan, sender->lanes);
	while ((lane = hash_seq_search(&scan)) != NULL)
		if (!full)
			next = Min(next, lane->next_at);
	if (next == DT_NOEND)
		return -1;
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next);
}

static void
wake_waiting_lanes(Sender *sender)
{
	HASH_SEQ_STATUS scan;
	Lane *lane;
	TimestampTz now = GetCurrentTimestamp();

	hash_seq_init(&scan, sender->lanes);
	while ((lane = hash_seq_search(&scan)) != NULL)
		if (lane->next_at <= now + TOKEN_POLL_US)
			lane->next_at = now;
}

/* What was just claimed is on its way first. True if the latch was set meanwhile: then the turn ends without a sleep. */
static bool
look_for_work(Sender *sender)
{
	bool woken = http_wait(sender->pool, 0, PG_WAIT_EXTENSION);

	sender->look_for_work = false;
	(void) sql_failed(sender, "looking for due tasks", worker_transaction(read_work, sender, true, true, sender->turn));
	return woken;
}

static void
turn(Sender *sender)
{
	ExchangeNews news = {false, false};
	bool woken = false;
	long sleep_ms;

	worker_check_in();
	if (sender->connections != http_max_connections)
	{
		sender->connections = http_max_connections;
		http_pool_resize(sender->pool, http_max_connections);
	}
	if (sender_take_wake(&sender->prepared_pending, &sender->shop_altered))
		sender->refresh = true;
	if (refresh_is_due(sender))
	{
		refresh(sender);
		if (!sender->usable && !extension_is_here(sender))
			proc_exit(0);
	}
	if (sender->usable)
		serve_lanes(sender);
	if (sender->look_for_work)
		woken = look_for_work(sender);
	while (exchange_settle(sender->pool, &news) > 0)
		;
	/* what a handler queued has woken us as any other commit does */
	if (news.lanes)
		sender->refresh = true;
	if (news.tokens)
		wake_waiting_lanes(sender);
	MemoryContextReset(sender->turn);

	/* a wake-up that came during our own SQL may have lost its latch to a wait for a lock */
	if (sender_take_wake(&sender->prepared_pending, &sender->shop_altered))
		sender->refresh = true;
	sleep_ms = woken ? 0 : time_to_sleep(sender);
	if (sleep_ms != 0)
		pgstat_report_activity(STATE_IDLE, NULL);
	http_wait(sender->pool, sleep_ms, PG_WAIT_EXTENSION);
}

void
amzmp_sender_main(Datum arg)
{
	Sender sender;
	HASHCTL control;

	worker_start(DatumGetObjectId(arg), InvalidOid, "amzmp sender");
	if (!sender_announce(MyDatabaseId))
		proc_exit(1);
	memset(&sender, 0, sizeof(sender));
	sender.turn = AllocSetContextCreate(TopMemoryContext, "amzmp turn", ALLOCSET_DEFAULT_SIZES);
	memset(&control, 0, sizeof(control));
	control.keysize = sizeof(LaneKey);
	control.entrysize = sizeof(Lane);
	sender.lanes = hash_create("amzmp lanes", 64, &control, HASH_ELEM | HASH_BLOBS);
	sender.next_refresh = DT_NOEND;
	sender.refresh = true;
	exchange_init(TopMemoryContext);
	MemoryContextSwitchTo(sender.turn);
	if (!extension_is_here(&sender))
		proc_exit(0);
	(void) sql_failed(&sender, "recovering requests in flight",
					  worker_transaction(recover, NULL, true, false, sender.turn));
	sender.connections = http_max_connections;
	sender.pool = http_pool_create(TopMemoryContext, http_max_connections);
	for (;;)
		turn(&sender);
}
