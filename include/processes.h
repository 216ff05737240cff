/*
 * processes.h
 *	  What the launcher, the senders, the runners and ordinary backends share: slots and latches in shared memory.
 */
#ifndef AMZMP_PROCESSES_H
#define AMZMP_PROCESSES_H

#include "datatype/timestamp.h"

#define MAX_SENDERS 64
#define MAX_RUNNERS 64
#define MAX_PAUSED  16

extern Size processes_shmem_size(void);
extern void processes_shmem_init(void); /* called with AddinShmemInitLock held */

/* Throws ERRCODE_AMZMP_NOT_PRELOADED with a hint when the library was not preloaded. */
extern void amzmp_require_preload(const char *what);

/*
 * Remember that this transaction queued work: its commit wakes the sender of this database. Idempotent, never throws,
 * a no-op without preload. After PREPARE TRANSACTION the sender looks each second until the prepared ones are gone.
 */
extern void amzmp_wake_at_commit(void);

/* The same when something was altered that may mend a source: the sender has those that fail read again. */
extern void processes_altered_at_commit(void);

/* The same for captured keys: also wakes the user runner of role `runner`; InvalidOid = all runners of the database. */
extern void amzmp_wake_runner_at_commit(Oid runner);

extern void database_register(Oid database);
extern void database_unregister(Oid database);
extern bool database_is_registered(Oid database);

/* Is a sender for this database alive? (capture appends nothing otherwise) */
extern bool amzmp_sender_alive(void);

/* The launcher's and workers' own side. */
extern void launcher_announce(void);
extern bool sender_announce(Oid database); /* false: another sender of this database lives */

/* Clear and return this sender's wake flag; the others are set when theirs was: a prepared transaction, altered relations. */
extern bool sender_take_wake(bool *prepared, bool *altered);
extern bool sender_is_running(Oid database);

/* Reserve a runner slot; -1 = one for this role is at work (then it is woken), or `most` of this database are. */
extern int runner_reserve(Oid database, Oid role, int most);
extern void runner_release(int slot); /* when registering the worker failed */
extern void runner_announce(int slot, Oid *database, Oid *role);
extern bool runner_take_wake(int slot);
extern uint32 runners_left(void); /* changes whenever a runner ends, however it ends */

/*
 * Databases that a DROP, RENAME or TEMPLATE statement has asked us to leave. database_pause returns what database_resume
 * takes, or -1 when too many are paused; database_leave waits for our processes to be gone, but not for ever.
 */
extern bool database_is_paused(Oid database);
extern int database_pause(Oid database);
extern void database_leave(Oid database);
extern void database_resume(int place);

#endif
