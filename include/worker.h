/*
 * worker.h
 *	  What the sender and the runners have in common: start, transactions, reload.
 */
#ifndef AMZMP_WORKER_H
#define AMZMP_WORKER_H

/* Signals, connection (role InvalidOid = the bootstrap superuser), name in pg_stat_activity. */
extern void worker_start(Oid database, Oid role, const char *application_name);

/* Call in every turn: interrupts, reload of the configuration. */
extern void worker_check_in(void);

/*
 * Run `work` in a transaction of its own, as amzmp_owner when as_owner. Returns NULL when it committed, else the error
 * (copied into `keep`) after it was rolled back; nothing is logged. `lazy` commits without waiting for the disk: only
 * for what may be lost and repeated.
 */
typedef void (*WorkerFn)(void *arg);
extern ErrorData *worker_transaction(WorkerFn work, void *arg, bool as_owner, bool lazy, MemoryContext keep);

/* Inside a transaction: one statement, and a text of the first row of its answer, copied into `keep`; NULL where it is null. */
extern void worker_execute(const char *sql, int count, Oid *types, Datum *values, const char *nulls);
extern char *worker_kept_text(int column, MemoryContext keep);

/* Inside a transaction, before work: plans that were made when our tables had another size are made anew. */
extern void worker_forget_stale_plans(void);

/* An error of ours into the server log, without statement or context. */
extern void worker_log_error(const char *doing, const ErrorData *error);

#endif
