/*
 * report_text.c
 *	  A report's document in any character set, in pieces of any size: what is read is valid UTF-8 without control
 *	  characters, and the same however the pieces were cut.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "charset.h"
#include "table_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const content_types[] = {
	NULL,
	"text/plain;charset=Cp1252",
	"text/plain; charset=\"Windows-31J\"",
	"text/plain;charset=UTF-8",
	"text/csv; CHARSET=gb2312",
	"text/plain;charset=ISO-2022-JP",
	"text/plain;charset=",
	"text/plain;charset=nobody-knows",
};

static void
check_field(const char *field)
{
	for (const unsigned char *at = (const unsigned char *) field; *at != '\0'; at += pg_utf_mblen(at))
		if (*at < ' ' || (int) strnlen((const char *) at, 4) < pg_utf_mblen(at) || !pg_utf8_islegal(at, pg_utf_mblen(at)))
			abort();
}

/* Everything that is read, with its cells and rows told apart, goes into `seen`. */
static void
take_rows(TableText *table, bool last, StringInfo seen)
{
	while (table_text_next(table, last))
	{
		if (table->count < 1 || table->count > TABLE_MOST_FIELDS)
			abort();
		for (int i = 0; i < table->count; i++)
		{
			check_field(table->fields[i]);
			appendStringInfo(seen, "%s|", table->fields[i]);
		}
		appendStringInfoChar(seen, '\n');
	}
}

static void
read_all(const char *content_type, const uint8_t *data, size_t size, size_t piece, StringInfo seen)
{
	Charset *charset = charset_open(content_type);
	TableText table;

	table_text_init(&table);
	for (size_t at = 0; at < size; at += piece)
	{
		table_text_make_room(&table);
		charset_decode(charset, (const char *) data + at, Min(piece, size - at), false, &table.text);
		take_rows(&table, false, seen);
	}
	table_text_make_room(&table);
	charset_decode(charset, "", 0, true, &table.text);
	take_rows(&table, true, seen);
	charset_close(charset);
	pfree(table.text.data);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *content_type;
	StringInfoData whole;
	StringInfoData pieces;

	if (size < 2)
		return 0;
	content_type = content_types[data[0] % lengthof(content_types)];
	initStringInfo(&whole);
	initStringInfo(&pieces);
	read_all(content_type, data + 2, size - 2, size, &whole);
	read_all(content_type, data + 2, size - 2, data[1] % 32 + 1, &pieces);
	if (whole.len != pieces.len || memcmp(whole.data, pieces.data, whole.len) != 0)
		abort();
	pfree(whole.data);
	pfree(pieces.data);
	return 0;
}
