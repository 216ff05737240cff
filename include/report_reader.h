/*
 * report_reader.h
 *	  Reading a report that was downloaded, row by row.
 */
#ifndef AMZMP_REPORT_READER_H
#define AMZMP_REPORT_READER_H

#include "charset.h"
#include "document.h"
#include "table_text.h"

typedef struct ReportReader
{
	DocumentReader *document;
	Charset *charset;
	MemoryContextCallback at_end;
	TableText table;
	bool ended; /* the document, not the table */
	char *piece;
	char *names[TABLE_MOST_FIELDS]; /* of the columns */
	int columns;
	int64 rows;
} ReportReader;

/*
 * Open a document that is a table and read its header. SPI is connected, and stays so until it is closed. Throws AZ004
 * for what is no table, ERRCODE_DATA_CORRUPTED for what is no whole document.
 */
extern ReportReader *report_open(int64 account_id, int64 document_id);
extern void report_close(ReportReader *reader);

/* Read the next row into reader->table and count it; false behind the last. */
extern bool report_next(ReportReader *reader);

/* The cell in a column of the present row, as UTF-8; NULL when the row is too short or the cell is empty. */
extern char *report_cell(const ReportReader *reader, int column);

/* The name of a column; cells beyond the header have their number. */
extern const char *report_column_name(const ReportReader *reader, int column);

/* UTF-8 in the server's encoding, what that lacks as "?". The result may be the argument. */
extern char *report_text(char *utf8);

#endif
