/*
 * mail.h
 *	  Mails that tell people of alarms: the work of a runner of its own.
 */
#ifndef AMZMP_MAIL_H
#define AMZMP_MAIL_H

/* Perform a task of kind "mail"; it is finished, or due again, then. Returns an error (in `keep`) when that failed. */
extern ErrorData *mail_perform(int64 account_id, int64 task_id, MemoryContext keep);

#endif
