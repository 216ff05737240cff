/*
 * token.c
 *	  Login-with-Amazon access tokens, cached in shared memory for all processes.
 *
 * Amazon throttles whoever asks for a token with every call. So each token is asked for once and used by all, and
 * one process at a time renews it: it holds a lease. Asking Amazon is the holder's business (sender, amzmp.call); this file
 * only keeps the tokens, and knows neither the network nor the credentials.
 *
 * A token is renewed 60 s before it expires. While somebody renews it the others go on using the old one, which is
 * why an account that is busy does not notice renewals.
 *
 * Whoever is told that a token is being renewed may sleep on its latch: it is set when the lease ends. Only the first
 * few waiters of a token are noted; for the rest, and when a note is lost, there is the second after which to ask again.
 *
 * After a failed renewal the patient (the sender) wait a second, then twice as long each time, up to half a minute; who was
 * called by a person asks at once.
 *
 * Room. amzmp.max_tokens entries of fixed size, all allocated at start. When they are in use, expired tokens go first,
 * then the one that was not used for longest; a leased one never goes. With more accounts than entries that costs a request
 * for nearly every call, so it is told, once an hour.
 *
 * Secrecy. A token is in clear in shared memory, as it is in the memory of each process that uses it; it is wiped when
 * it expires, is dropped or makes room. No SQL function leads here, and it must stay so.
 *
 * Life cycle: made at server start, empty; nothing is saved.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "errcodes.h"
#include "processes.h"
#include "token.h"

#define TOKENS_DEFAULT 8192
#define TOKENS_MIN     16
#define TOKENS_MAX     131072

#define RENEW_BEFORE_S 60 /* no longer handed out as fresh */
#define STALE_BEFORE_S 5  /* not handed out at all: a call takes time to arrive */
#define LEASE_S        60
#define MAX_PAUSE_S    30
#define MAX_WAITERS    8
#define TELL_CROWD_US  (SECS_PER_HOUR * USECS_PER_SEC)

typedef struct TokenEntry
{
	TokenKey key;
	TimestampTz expires_at; /* 0 = there is no token */
	TimestampTz renew_at;
	TimestampTz used_at;
	TimestampTz lease_until;
	int lease_pid;        /* 0 = nobody renews it */
	int failures;         /* renewals that failed in a row */
	TimestampTz retry_at; /* not before, for who is patient */
	int waiters;
	int waiter[MAX_WAITERS]; /* numbers of PGPROCs */
	char token[TOKEN_MAX_LENGTH + 1];
} TokenEntry;

typedef struct TokenShared
{
	LWLock lock;
	int tranche;
	TimestampTz crowd_told_at; /* when it was last told that a good token had to make room */
} TokenShared;

/* Whose latches to set once the lock is released. */
typedef struct Wakeup
{
	int count;
	int waiter[MAX_WAITERS];
} Wakeup;

static int max_tokens = TOKENS_DEFAULT;
static TokenShared *shared;
static HTAB *entries;

/* ---------------------------------------------------------------------------
 * One entry. Everything here wants the lock held exclusively.
 * ---------------------------------------------------------------------------
 */

static bool
entry_has_token(const TokenEntry *entry, TimestampTz now)
{
	return entry->expires_at != 0 && now < entry->expires_at - STALE_BEFORE_S * USECS_PER_SEC;
}

static bool
entry_is_leased(const TokenEntry *entry, TimestampTz now)
{
	/* The second comparison ends a lease whose end moved away because the system's time went back. */
	return entry->lease_pid != 0 && now < entry->lease_until && entry->lease_until <= now + LEASE_S * USECS_PER_SEC;
}

static void
entry_wipe_token(TokenEntry *entry)
{
	explicit_bzero(entry->token, sizeof(entry->token));
	entry->expires_at = entry->renew_at = 0;
}

/* Wake whoever waits for this entry; the latches are set by wake() after the lock is released. */
static void
entry_collect_waiters(TokenEntry *entry, Wakeup *wakeup)
{
	memcpy(wakeup->waiter, entry->waiter, sizeof(wakeup->waiter));
	wakeup->count = entry->waiters;
	entry->waiters = 0;
}

static void
entry_note_waiter(TokenEntry *entry)
{
	int me = AMZMP_MY_PROC_NUMBER;

	for (int i = 0; i < entry->waiters; i++)
	{
		if (entry->waiter[i] == me)
			return;
	}
	if (entry->waiters < MAX_WAITERS)
		entry->waiter[entry->waiters++] = me;
}

/* End the lease if it is ours. One that ran out may be somebody else's by now. */
static void
entry_end_lease(TokenEntry *entry)
{
	if (entry->lease_pid == MyProcPid)
		entry->lease_pid = 0;
}

/* Outside the lock. The slot may belong to another process by now, whom a set latch does not hurt. */
static void
wake(const Wakeup *wakeup)
{
	for (int i = 0; i < wakeup->count; i++)
		SetLatch(&ProcGlobal->allProcs[wakeup->waiter[i]].procLatch);
}

/* ---------------------------------------------------------------------------
 * The table. Here, too, the lock is held exclusively.
 * ---------------------------------------------------------------------------
 */

static void
remove_entry(TokenEntry *entry)
{
	entry_wipe_token(entry);
	hash_search(entries, &entry->key, HASH_REMOVE, NULL);
}

/*
 * Remove expired tokens, and if that is not enough the least recently used one. This walks the whole table, which
 * is nothing beside the request to Amazon that follows; and it is what wipes tokens nobody asks for any more.
 */
static bool
make_room(TimestampTz now, bool *crowded)
{
	HASH_SEQ_STATUS scan;
	TokenEntry *entry;
	TokenEntry *oldest = NULL;

	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry_is_leased(entry, now))
			continue;
		if (!entry_has_token(entry, now))
			remove_entry(entry);
		else if (oldest == NULL || entry->used_at < oldest->used_at)
			oldest = entry;
	}
	if (hash_get_num_entries(entries) >= max_tokens && oldest != NULL)
	{
		remove_entry(oldest);
		*crowded = now >= shared->crowd_told_at + TELL_CROWD_US;
		if (*crowded)
			shared->crowd_told_at = now;
	}
	return hash_get_num_entries(entries) < max_tokens;
}

/* Not while the lock is held: the log may be slow. */
static void
tell_crowd(bool crowded)
{
	if (crowded)
		ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("amzmp has more accounts at work than room for access tokens"),
					  errdetail("Tokens are dropped while they are good, and asked for again: %d are kept.", max_tokens),
					  errhint("Raise amzmp.max_tokens above the number of accounts, and restart the server.")));
}

/* The key's entry, made if it is missing; NULL when all others are being renewed. */
static TokenEntry *
find_or_add(const TokenKey *key, TimestampTz now, bool *crowded)
{
	TokenEntry *entry = hash_search(entries, key, HASH_FIND, NULL);

	if (entry != NULL || !make_room(now, crowded))
		return entry;
	entry = hash_search(entries, key, HASH_ENTER_NULL, NULL);
	if (entry != NULL)
		memset((char *) entry + sizeof(TokenKey), 0, sizeof(*entry) - sizeof(TokenKey));
	return entry;
}

/* ---------------------------------------------------------------------------
 * Getting, storing, dropping
 * ---------------------------------------------------------------------------
 */

/* A process that ends without having said what became of its renewals must not hold up the others for a minute. */
static void
end_all_leases(int code, Datum arg)
{
	HASH_SEQ_STATUS scan;
	TokenEntry *entry;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
		entry_end_lease(entry);
	LWLockRelease(&shared->lock);
}

static void
end_leases_at_exit(void)
{
	static int registered_for = 0;

	if (registered_for != MyProcPid)
		before_shmem_exit(end_all_leases, (Datum) 0);
	registered_for = MyProcPid;
}

/* Did a renewal fail a short while ago? As with leases, the second comparison is for a clock that went back. */
static bool
entry_pauses(const TokenEntry *entry, TimestampTz now)
{
	return now < entry->retry_at && entry->retry_at <= now + MAX_PAUSE_S * USECS_PER_SEC;
}

static TokenState
entry_get(TokenEntry *entry, char *token, bool patient, TimestampTz now)
{
	bool usable = entry_has_token(entry, now);
	bool renew = !usable || now >= entry->renew_at;

	entry->used_at = now;
	if (renew && !entry_is_leased(entry, now) && !(patient && entry_pauses(entry, now)))
	{
		entry->lease_pid = MyProcPid;
		entry->lease_until = now + LEASE_S * USECS_PER_SEC;
		return TOKEN_YOURS_TO_RENEW;
	}
	if (usable)
	{
		strlcpy(token, entry->token, TOKEN_MAX_LENGTH + 1);
		return TOKEN_READY;
	}
	entry_note_waiter(entry);
	return TOKEN_BEING_RENEWED;
}

TokenState
token_get(const TokenKey *key, char *token, bool patient, TimestampTz *again)
{
	TokenEntry *entry;
	TokenState state = TOKEN_BEING_RENEWED;
	TimestampTz now;
	bool crowded = false;

	amzmp_require_preload("keeping access tokens");
	end_leases_at_exit();
	token[0] = '\0';

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	now = GetCurrentTimestamp();
	entry = find_or_add(key, now, &crowded);
	if (entry != NULL)
		state = entry_get(entry, token, patient, now);
	if (again != NULL)
		*again = entry != NULL && entry_pauses(entry, now) ? entry->retry_at : now;
	LWLockRelease(&shared->lock);
	tell_crowd(crowded);
	return state;
}

void
token_store(const TokenKey *key, const char *token, int expires_in_seconds)
{
	Wakeup wakeup = {0};
	TokenEntry *entry;
	TimestampTz now;
	bool crowded = false;

	amzmp_require_preload("keeping access tokens");
	if (token[0] == '\0' || strlen(token) > TOKEN_MAX_LENGTH)
	{
		token_give_up(key);
		ereport(ERROR, (errcode(ERRCODE_AMZMP_BAD_ANSWER),
						errmsg("access token is empty or longer than %d bytes", TOKEN_MAX_LENGTH)));
	}

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	now = GetCurrentTimestamp();
	entry = find_or_add(key, now, &crowded);
	if (entry != NULL)
	{
		entry_wipe_token(entry);
		strlcpy(entry->token, token, sizeof(entry->token));
		entry->expires_at = now + Max(expires_in_seconds, 0) * USECS_PER_SEC;
		/* A token that lives only minutes (a mock account's, whose time runs faster) is used for most of its life. */
		entry->renew_at = entry->expires_at - Min(RENEW_BEFORE_S, expires_in_seconds / 4) * USECS_PER_SEC;
		entry->used_at = now;
		entry->failures = 0;
		entry->retry_at = 0;
		entry_end_lease(entry);
		entry_collect_waiters(entry, &wakeup);
	}
	LWLockRelease(&shared->lock);
	tell_crowd(crowded);
	wake(&wakeup);
}

static void
end_renewal(const TokenKey *key, bool failed)
{
	Wakeup wakeup = {0};
	TokenEntry *entry;

	amzmp_require_preload("keeping access tokens");
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	entry = hash_search(entries, key, HASH_FIND, NULL);
	if (entry != NULL)
	{
		if (failed)
		{
			int pause_s = entry->failures < 5 ? 1 << entry->failures++ : MAX_PAUSE_S;

			entry->retry_at = GetCurrentTimestamp() + pause_s * USECS_PER_SEC;
		}
		entry_end_lease(entry);
		entry_collect_waiters(entry, &wakeup);
	}
	LWLockRelease(&shared->lock);
	wake(&wakeup);
}

void
token_give_up(const TokenKey *key)
{
	end_renewal(key, false);
}

void
token_failed(const TokenKey *key)
{
	end_renewal(key, true);
}

void
token_drop_refused(const TokenKey *key, const char *refused)
{
	TokenEntry *entry;

	amzmp_require_preload("keeping access tokens");
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	entry = hash_search(entries, key, HASH_FIND, NULL);
	if (entry != NULL && strcmp(entry->token, refused) == 0)
		entry_wipe_token(entry); /* the entry stays: it may be leased, or waited for */
	LWLockRelease(&shared->lock);
}

/* ---------------------------------------------------------------------------
 * Start
 * ---------------------------------------------------------------------------
 */

void
token_define_settings(void)
{
	/* A size of shared memory cannot be defined once the server runs. */
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable("amzmp.max_tokens", "Sets how many access tokens are kept in shared memory.",
							"One is needed for each account that is in use; it takes about 2.2 kB.", &max_tokens,
							TOKENS_DEFAULT, TOKENS_MIN, TOKENS_MAX, PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

Size
token_shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(TokenShared)), hash_estimate_size(max_tokens, sizeof(TokenEntry)));
}

void
token_shmem_init(void)
{
	HASHCTL info = {.keysize = sizeof(TokenKey), .entrysize = sizeof(TokenEntry)};
	bool exists;

	shared = ShmemInitStruct("amzmp tokens", sizeof(TokenShared), &exists);
	entries = ShmemInitHash("amzmp token entries", max_tokens, max_tokens, &info, HASH_ELEM | HASH_BLOBS);
	if (!exists)
	{
		shared->tranche = LWLockNewTrancheId();
		shared->crowd_told_at = 0;
		LWLockInitialize(&shared->lock, shared->tranche);
	}
	LWLockRegisterTranche(shared->tranche, "AmzmpTokens");
}
