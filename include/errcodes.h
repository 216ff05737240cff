/*
 * errcodes.h
 *	  Our own SQLSTATEs, class AZ. One line each; doc/reference.md lists them.
 */
#ifndef AMZMP_ERRCODES_H
#define AMZMP_ERRCODES_H

#define ERRCODE_AMZMP_NOT_PRELOADED		 MAKE_SQLSTATE('A', 'Z', '0', '0', '1')
#define ERRCODE_AMZMP_KEY_UNUSABLE		 MAKE_SQLSTATE('A', 'Z', '0', '0', '2')
#define ERRCODE_AMZMP_NOT_CONFIGURED	 MAKE_SQLSTATE('A', 'Z', '0', '0', '3')
#define ERRCODE_AMZMP_REFUSED			 MAKE_SQLSTATE('A', 'Z', '0', '0', '4')
#define ERRCODE_AMZMP_NETWORK			 MAKE_SQLSTATE('A', 'Z', '1', '0', '1')
#define ERRCODE_AMZMP_AMAZON_ERROR		 MAKE_SQLSTATE('A', 'Z', '1', '0', '2')
#define ERRCODE_AMZMP_TOKEN_REFUSED		 MAKE_SQLSTATE('A', 'Z', '1', '0', '3')
#define ERRCODE_AMZMP_THROTTLED			 MAKE_SQLSTATE('A', 'Z', '1', '0', '4')
#define ERRCODE_AMZMP_BAD_ANSWER		 MAKE_SQLSTATE('A', 'Z', '1', '0', '5')
#define ERRCODE_AMZMP_UNKNOWN_NAME		 MAKE_SQLSTATE('A', 'Z', '2', '0', '1')
#define ERRCODE_AMZMP_BAD_VALUE			 MAKE_SQLSTATE('A', 'Z', '2', '0', '2')
#define ERRCODE_AMZMP_WRONG_STATE		 MAKE_SQLSTATE('A', 'Z', '2', '0', '3')
#define ERRCODE_AMZMP_TIMEOUT			 MAKE_SQLSTATE('A', 'Z', '2', '0', '4')

#endif
