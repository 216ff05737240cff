/*
 * report_reader.c
 *	  Reading a report that was downloaded, row by row.
 *
 * A document is unpacked, decoded and cut into rows piece by piece (document.c, charset.c, table_text.c), so memory does
 * not grow with it. Its first row names the columns; which names those are here, whatever language Amazon wrote them in,
 * amzmp._report_columns says. Columns are found by name, never by their place.
 *
 * A reader lives between SPI_connect and SPI_finish, in the context in which it was opened. What an error leaves of it
 * goes with that context.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "errcodes.h"
#include "report_reader.h"

#define PIECE_BYTES (64 * 1024)

static void
close_charset(void *arg)
{
	ReportReader *reader = arg;

	if (reader->charset != NULL)
		charset_close(reader->charset);
	reader->charset = NULL;
}

static char *
content_type_of(int64 account_id, int64 document_id)
{
	Oid types[2] = {INT8OID, INT8OID};
	Datum values[2] = {Int64GetDatum(account_id), Int64GetDatum(document_id)};

	SPI_execute_with_args("select content_type from amzmp.document where account_id = $1 and document_id = $2", 2,
						  types, values, NULL, true, 1);
	return SPI_processed == 1 ? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1) : NULL;
}

static void
feed(ReportReader *reader)
{
	Size read = document_next(reader->document, reader->piece, PIECE_BYTES);

	reader->ended = read == 0;
	table_text_make_room(&reader->table);
	charset_decode(reader->charset, reader->piece, read, reader->ended, &reader->table.text);
}

bool
report_next(ReportReader *reader)
{
	while (!table_text_next(&reader->table, reader->ended))
	{
		if (reader->table.too_long)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							errmsg("a row of the report is longer than %zu bytes", TABLE_MOST_ROW),
							errdetail("It is none of the tables that reports are.")));
		if (reader->ended)
			return false;
		feed(reader);
	}
	reader->rows++;
	return true;
}

char *
report_text(char *utf8)
{
	int length = (int) strlen(utf8);
	StringInfoData out;

	if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII)
		return utf8;
	initStringInfo(&out);
	while (length > 0)
	{
		Oid conversion = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
		char *piece = palloc(length * MAX_CONVERSION_GROWTH + 1);
		int used;

		if (!OidIsValid(conversion))
			return utf8;
		used = pg_do_encoding_conversion_buf(conversion, PG_UTF8, GetDatabaseEncoding(), (unsigned char *) utf8, length,
											 (unsigned char *) piece, length * MAX_CONVERSION_GROWTH + 1, true);
		appendStringInfoString(&out, piece);
		pfree(piece);
		utf8 += used;
		length -= used;
		if (length > 0)
		{
			int bad = Min(pg_utf_mblen((unsigned char *) utf8), length);

			appendStringInfoChar(&out, '?');
			utf8 += bad;
			length -= bad;
		}
	}
	return out.data;
}

static ArrayType *
headings(ReportReader *reader)
{
	Datum *values = palloc(sizeof(Datum) * reader->table.count);

	for (int i = 0; i < reader->table.count; i++)
		values[i] = CStringGetTextDatum(report_text(reader->table.fields[i]));
	return construct_array(values, reader->table.count, TEXTOID, -1, false, TYPALIGN_INT);
}

/* The first row, as our names. A document without one has no columns and no rows. */
static void
read_header(ReportReader *reader)
{
	Oid types[1] = {TEXTARRAYOID};
	Datum values[1];
	const char *first;
	Datum *names;
	bool isnull;

	if (!report_next(reader))
		return;
	first = reader->table.fields[0] + strspn(reader->table.fields[0], " ");
	if (*first != '\0' && strchr("<{[", *first) != NULL)
		ereport(ERROR, (errcode(ERRCODE_AMZMP_REFUSED), errmsg("the report is no table"),
						errdetail("It is XML or JSON."), errhint("amzmp.report_document() returns it as it is.")));
	values[0] = PointerGetDatum(headings(reader));
	if (SPI_execute_with_args("select amzmp._report_columns($1)", 1, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not name the columns of a report");
	deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)),
					  TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &reader->columns);
	for (int i = 0; i < reader->columns; i++)
		reader->names[i] = TextDatumGetCString(names[i]);
}

ReportReader *
report_open(int64 account_id, int64 document_id)
{
	ReportReader *reader = palloc0(sizeof(ReportReader));

	reader->charset = charset_open(content_type_of(account_id, document_id));
	reader->at_end.func = close_charset;
	reader->at_end.arg = reader;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &reader->at_end);
	table_text_init(&reader->table);
	reader->piece = palloc(PIECE_BYTES);
	reader->document = document_open(account_id, document_id);
	read_header(reader);
	reader->rows = 0; /* the header is none */
	return reader;
}

void
report_close(ReportReader *reader)
{
	document_close(reader->document);
	close_charset(reader);
}

char *
report_cell(const ReportReader *reader, int column)
{
	if (column < 0 || column >= reader->table.count || reader->table.fields[column][0] == '\0')
		return NULL;
	return reader->table.fields[column];
}

const char *
report_column_name(const ReportReader *reader, int column)
{
	return column < reader->columns ? reader->names[column] : psprintf("column-%d", column + 1);
}
