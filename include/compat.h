/*
 * compat.h
 *	  The one place that knows PostgreSQL's major versions. Minimum: 15.
 */
#ifndef AMZMP_COMPAT_H
#define AMZMP_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "amzmp needs PostgreSQL 15 or later"
#endif

/* 16 moved the varlena macros out of postgres.h. Removable when 15 is no longer supported. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 17 made CreateWaitEventSet take a resource owner instead of a memory context. Removable with 16. */
#if PG_VERSION_NUM >= 170000
#define amzmp_create_wait_event_set(nevents) CreateWaitEventSet(NULL, (nevents))
#else
#define amzmp_create_wait_event_set(nevents) CreateWaitEventSet(TopMemoryContext, (nevents))
#endif

/* 18 split the wait-event set out of storage/latch.h. Removable with 17. */
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

/* 17 replaced PGPROC.pgprocno by MyProcNumber. Removable with 16. */
#if PG_VERSION_NUM >= 170000
#define AMZMP_MY_PROC_NUMBER MyProcNumber
#else
#define AMZMP_MY_PROC_NUMBER (MyProc->pgprocno)
#endif

/* 16 replaced the ownercheck functions by object_ownercheck. Removable with 15. */
#if PG_VERSION_NUM >= 160000
#define amzmp_database_ownercheck(database, role) object_ownercheck(DatabaseRelationId, (database), (role))
#else
#define amzmp_database_ownercheck(database, role) pg_database_ownercheck((database), (role))
#endif

/* 16 moved the columns that a query reads from the range table to a list of its own. Removable with 15. */
#if PG_VERSION_NUM >= 160000
#define amzmp_selected_columns(query, entry) (getRTEPermissionInfo((query)->rteperminfos, (entry))->selectedCols)
#else
#define amzmp_selected_columns(query, entry) ((entry)->selectedCols)
#endif

/* 17 lets the caller bring the lexer's memory, and frees what is in it. Removable with 16. */
#if PG_VERSION_NUM >= 170000
#define amzmp_json_lexer(json, length, need_escapes)                                                                   \
	makeJsonLexContextCstringLen(NULL, (json), (length), PG_UTF8, (need_escapes))
#define amzmp_json_lexer_free(lex) freeJsonLexContext(lex)
#else
#define amzmp_json_lexer(json, length, need_escapes)                                                                   \
	makeJsonLexContextCstringLen(unconstify(char *, (json)), (length), PG_UTF8, (need_escapes))
#define amzmp_json_lexer_free(lex)                                                                                     \
	((lex)->strval == NULL ? (void) 0 : (pfree((lex)->strval->data), pfree((lex)->strval)), pfree(lex))
#endif

#endif
