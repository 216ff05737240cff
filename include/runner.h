/*
 * runner.h
 *	  Processes that perform tasks: ours, or a user's SQL as that user (see runner.c).
 */
#ifndef AMZMP_RUNNER_H
#define AMZMP_RUNNER_H

#include "datatype/timestamp.h"

/*
 * Whose tasks a runner performs: a role's, or ours, or those of ours that wait long for the network and must hold up no
 * other, or orders that arrived, of which the own runner has too many. No role has the numbers of the last two, which
 * amzmp._work() knows them by.
 */
#define RUNNER_OWN     InvalidOid
#define RUNNER_NETWORK ((Oid) 1)
#define RUNNER_ORDERS  ((Oid) 2)

extern void runner_define_settings(void);

/* Make sure that a runner for `role` is at work in this database; called by the sender. */
extern void runner_ensure(Oid role);

#endif
