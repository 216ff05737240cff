/*
 * table_text.h
 *	  A table that comes as text, tab or comma separated, as rows of fields.
 */
#ifndef AMZMP_TABLE_TEXT_H
#define AMZMP_TABLE_TEXT_H

#include "lib/stringinfo.h"

#define TABLE_MOST_FIELDS 500
#define TABLE_MOST_ROW    ((Size) 4 * 1024 * 1024) /* bytes */

typedef struct TableText
{
	StringInfoData text; /* what was fed and is not yet read: append to it */
	int start;           /* of the next row in it */
	int scanned;         /* how far a comma-separated row was looked at, and whether inside quotes there */
	bool quoted;
	char separator; /* 0 until the first row shows which one it is */
	bool too_long;  /* a row without an end: nothing more can be read */
	int count;
	char *fields[TABLE_MOST_FIELDS]; /* of the row read last, until more is fed; NUL-terminated, without control characters */
} TableText;

extern void table_text_init(TableText *table);

/* Before text is appended: forget what was read. */
extern void table_text_make_room(TableText *table);

/* The next row that is not blank; false when there is none in what was fed. `last`: nothing more will be. */
extern bool table_text_next(TableText *table, bool last);

#endif
