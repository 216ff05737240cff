/*
 * transfer.h
 *	  Documents to and from the links that Amazon names.
 */
#ifndef AMZMP_TRANSFER_H
#define AMZMP_TRANSFER_H

/* Perform a task of kind "transfer"; it is finished then. Returns an error (in `keep`) when it must be tried again. */
extern ErrorData *transfer_perform(int64 account_id, int64 task_id, MemoryContext keep);

#endif
