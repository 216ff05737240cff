/*
 * table_text.c
 *	  A table that comes as text, tab or comma separated, as rows of fields.
 *
 * The first row decides: with a tab in it the table is tab separated, else comma separated.
 *
 *		tab		no quoting: a quotation mark is a character like any other, and may stand alone
 *		comma	fields may be quoted, with doubled quotation marks and line breaks inside
 *
 * Lines end with LF or CR LF. Blank lines are passed over, a byte-order mark too. Any other control character (a stray CR, a NUL)
 * becomes a blank. Rows may have fewer or more fields than the first one; what to make of that is the caller's affair.
 *
 * Text in, pointers into that text out: the fields are cut in place. Lives as long as its owner; throws for lack of
 * memory only, and is used outside the server too (test/fuzz).
 */
#include "postgres.h"

#include "table_text.h"

#define BYTE_ORDER_MARK "\xEF\xBB\xBF"

void
table_text_init(TableText *table)
{
	memset(table, 0, sizeof(*table));
	initStringInfo(&table->text);
}

void
table_text_make_room(TableText *table)
{
	table->text.len -= table->start;
	memmove(table->text.data, table->text.data + table->start, table->text.len + 1);
	table->scanned = Max(table->scanned - table->start, 0);
	table->start = 0;
	table->count = 0;
}

/* Where the row ends that begins at start: the place of its LF, or -1. Remembers how far it looked. */
static int
find_end(TableText *table)
{
	const char *data = table->text.data;
	const char *end;

	if (table->separator != ',')
	{
		end = memchr(data + table->scanned, '\n', table->text.len - table->scanned);
		table->scanned = table->text.len;
		return end != NULL ? (int) (end - data) : -1;
	}
	for (; table->scanned < table->text.len; table->scanned++)
	{
		if (data[table->scanned] == '"')
			table->quoted = !table->quoted;
		else if (data[table->scanned] == '\n' && !table->quoted)
			return table->scanned;
	}
	return -1;
}

/* Cut a tab-separated row. */
static void
cut_plain(TableText *table, char *row, char *end)
{
	table->fields[table->count++] = row;
	for (char *at = row; at < end; at++)
	{
		if ((unsigned char) *at >= ' ')
			continue;
		if (*at != '\t')
			*at = ' ';
		else
		{
			*at = '\0';
			if (table->count == TABLE_MOST_FIELDS)
				return;
			table->fields[table->count++] = at + 1;
		}
	}
}

/* One field that may be quoted, unquoted in place. Returns where it ends: at a comma or at `end`. */
static char *
cut_quoted(char *at, char *end)
{
	char *to = at;
	bool quoted = false;

	for (; at < end && (quoted || *at != ','); at++)
	{
		if (*at == '"' && quoted && at + 1 < end && at[1] == '"')
			*to++ = *at++;
		else if (*at == '"')
			quoted = !quoted;
		else
			*to++ = (unsigned char) *at < ' ' ? ' ' : *at;
	}
	/* at most where the comma was, or behind the row */
	*to = '\0';
	return at;
}

static void
cut_commas(TableText *table, char *row, char *end)
{
	for (char *at = row; table->count < TABLE_MOST_FIELDS; at++)
	{
		table->fields[table->count++] = at;
		at = cut_quoted(at, end);
		if (at >= end)
			return;
	}
}

static bool
is_blank(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\r' || *at == '\t'))
		at++;
	return at >= end;
}

/* Cut the row from start to `end`; false when it is blank. */
static bool
cut(TableText *table, int end)
{
	char *row = table->text.data + table->start;
	char *behind = table->text.data + end;

	if (table->separator == 0 && strncmp(row, BYTE_ORDER_MARK, Min(3, behind - row)) == 0 && behind - row >= 3)
		row += 3;
	if (behind > row && behind[-1] == '\r')
		behind--;
	if (is_blank(row, behind))
		return false;
	if (table->separator == 0)
		table->separator = memchr(row, '\t', behind - row) != NULL || memchr(row, ',', behind - row) == NULL ? '\t' : ',';
	*behind = '\0';
	table->count = 0;
	if (table->separator == ',')
		cut_commas(table, row, behind);
	else
		cut_plain(table, row, behind);
	return true;
}

bool
table_text_next(TableText *table, bool last)
{
	while (!table->too_long)
	{
		int end;
		bool found;

		if (table->scanned < table->start)
			table->scanned = table->start;
		end = find_end(table);
		if (end < 0)
		{
			table->too_long = table->text.len - table->start > (int) TABLE_MOST_ROW;
			if (!last || table->too_long || table->start >= table->text.len)
				return false;
			end = table->text.len;
		}
		found = cut(table, end);
		table->start = Min(end + 1, table->text.len);
		table->scanned = table->start;
		table->quoted = false;
		if (found)
			return true;
	}
	return false;
}
