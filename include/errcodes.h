/*
 * errcodes.h
 *	  Our own SQLSTATEs, class AZ. The comment above each is what doc/reference.md says about it.
 */
#ifndef AMZMP_ERRCODES_H
#define AMZMP_ERRCODES_H

/* A process of amzmp is needed and does not run: the library is not in shared_preload_libraries. */
#define ERRCODE_AMZMP_NOT_PRELOADED MAKE_SQLSTATE('A', 'Z', '0', '0', '1')
/* The key file is missing, unreadable, readable by others, or not the one that sealed this. */
#define ERRCODE_AMZMP_KEY_UNUSABLE MAKE_SQLSTATE('A', 'Z', '0', '0', '2')
/* Something has to be set first: credentials, a setting that a flow needs, the identity of the node. */
#define ERRCODE_AMZMP_NOT_CONFIGURED MAKE_SQLSTATE('A', 'Z', '0', '0', '3')
/* Not allowed here, whatever the rights: a call that writes, a secret in a statement, what Amazon does not offer. */
#define ERRCODE_AMZMP_REFUSED MAKE_SQLSTATE('A', 'Z', '0', '0', '4')
/* No answer: not reachable, the connection broke, or a time limit passed. */
#define ERRCODE_AMZMP_NETWORK MAKE_SQLSTATE('A', 'Z', '1', '0', '1')
/* Amazon answered with an error; the message is its own. */
#define ERRCODE_AMZMP_AMAZON_ERROR MAKE_SQLSTATE('A', 'Z', '1', '0', '2')
/* Amazon refused the credentials. */
#define ERRCODE_AMZMP_TOKEN_REFUSED MAKE_SQLSTATE('A', 'Z', '1', '0', '3')
/* The usage plan left no call in the time allowed. */
#define ERRCODE_AMZMP_THROTTLED MAKE_SQLSTATE('A', 'Z', '1', '0', '4')
/* The answer is truncated, too large, or not what was announced. */
#define ERRCODE_AMZMP_BAD_ANSWER MAKE_SQLSTATE('A', 'Z', '1', '0', '5')
/* There is no account, channel, setting, flow, operation … of that name. */
#define ERRCODE_AMZMP_UNKNOWN_NAME MAKE_SQLSTATE('A', 'Z', '2', '0', '1')
/* A value is wrong; the detail says what was expected. */
#define ERRCODE_AMZMP_BAD_VALUE MAKE_SQLSTATE('A', 'Z', '2', '0', '2')
/* Not in the present state of the thing: not active, shipped already, the identity not confirmed … */
#define ERRCODE_AMZMP_WRONG_STATE MAKE_SQLSTATE('A', 'Z', '2', '0', '3')
/* What was waited for did not happen in time. */
#define ERRCODE_AMZMP_TIMEOUT MAKE_SQLSTATE('A', 'Z', '2', '0', '4')

#endif
