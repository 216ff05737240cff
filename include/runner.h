/*
 * runner.h
 *	  Processes that perform tasks: ours, or a user's SQL as that user (see runner.c).
 */
#ifndef AMZMP_RUNNER_H
#define AMZMP_RUNNER_H

#include "datatype/timestamp.h"

extern void runner_define_settings(void);

/* Make sure that a runner for `role` (InvalidOid = own) is at work in this database; called by the sender. */
extern void runner_ensure(Oid role);

#endif
