/*
 * entry.h
 *	  The checked door of every public function (see entry.c).
 */
#ifndef AMZMP_ENTRY_H
#define AMZMP_ENTRY_H

/* The role that called the outermost public function in progress; InvalidOid outside one. */
extern Oid entry_caller(void);

#endif
