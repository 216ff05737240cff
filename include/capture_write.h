/*
 * capture_write.h
 *	  Writes the captured keys before the commit (see capture_write.c).
 */
#ifndef AMZMP_CAPTURE_WRITE_H
#define AMZMP_CAPTURE_WRITE_H

/* The commit (or PREPARE) of this transaction writes what was noted. Idempotent. */
extern void capture_write_at_commit(void);

/* After noting: when the keys of this transaction were written already, write the new ones too. Never throws. */
extern void capture_write_if_late(void);

#endif
