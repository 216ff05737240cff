/*
 * charset.c
 *	  Bytes in the character sets that Amazon's documents come in, as UTF-8, piece by piece.
 *
 * Documents say their character set in the content type: Cp1252 in most marketplaces, Windows-31J in Japan, UTF-8 in
 * newer ones. Some say none, and some say a wrong one. So nothing here is an error: what is no character becomes "?",
 * and in what counts as UTF-8 a byte that is none is taken for the one of Windows-1252 that it would be.
 *
 * Single bytes and UTF-8 are done here, anything else by iconv. No state but the handle of the latter and the few bytes
 * that the end of a piece has cut. It throws for lack of memory only, and is used outside the server too (test/fuzz).
 */
#include "postgres.h"

#include <ctype.h>
#include <iconv.h>

#include "mb/pg_wchar.h"

#include "charset.h"

#define MOST_NAME    40
#define MOST_PENDING 16
#define PIECE        512

typedef enum CharsetKind
{
	CHARSET_UTF8,
	CHARSET_CP1252,
	CHARSET_ICONV
} CharsetKind;

struct Charset
{
	CharsetKind kind;
	iconv_t converter;
	char pending[MOST_PENDING]; /* the beginning of a character */
	int pending_length;
};

/* Windows-1252 from 0x80 to 0x9F; what it does not define is a C1 control, as browsers have it. */
static const uint16 cp1252_upper[32] = {
	0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
	0x2039, 0x0152, 0x8D,   0x017D, 0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
	0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178,
};

/* Other names of what is done here, and names that iconv knows by another one. */
static const struct
{
	const char *name;
	CharsetKind kind;
	const char *iconv_name;
} known_names[] = {
	{"", CHARSET_UTF8, NULL},
	{"utf-8", CHARSET_UTF8, NULL},
	{"utf8", CHARSET_UTF8, NULL},
	{"cp1252", CHARSET_CP1252, NULL},
	{"windows-1252", CHARSET_CP1252, NULL},
	{"iso-8859-1", CHARSET_CP1252, NULL},
	{"latin1", CHARSET_CP1252, NULL},
	{"us-ascii", CHARSET_CP1252, NULL},
	{"windows-31j", CHARSET_ICONV, "CP932"},
	{"shift_jis", CHARSET_ICONV, "CP932"},
	{"shift-jis", CHARSET_ICONV, "CP932"},
	{"sjis", CHARSET_ICONV, "CP932"},
	{"ms932", CHARSET_ICONV, "CP932"},
	{"gb2312", CHARSET_ICONV, "GB18030"},
};

/* The name behind "charset=", in lower case; empty where there is none. */
static void
read_name(const char *content_type, char *name)
{
	static const char key[] = "charset=";
	int length = 0;

	for (; content_type != NULL && *content_type != '\0'; content_type++)
		if (pg_strncasecmp(content_type, key, strlen(key)) == 0)
			break;
	if (content_type != NULL && *content_type != '\0')
	{
		content_type += strlen(key);
		content_type += *content_type == '"';
		while (length < MOST_NAME - 1 &&
			   (isalnum((unsigned char) *content_type) || strchr("_-", *content_type) != NULL) && *content_type != '\0')
			name[length++] = pg_tolower((unsigned char) *content_type++);
	}
	name[length] = '\0';
}

Charset *
charset_open(const char *content_type)
{
	Charset *charset = palloc0(sizeof(Charset));
	char name[MOST_NAME];
	const char *iconv_name = name;

	read_name(content_type, name);
	charset->kind = CHARSET_ICONV;
	for (Size i = 0; i < lengthof(known_names); i++)
		if (strcmp(known_names[i].name, name) == 0)
		{
			charset->kind = known_names[i].kind;
			iconv_name = known_names[i].iconv_name;
		}
	if (charset->kind == CHARSET_ICONV)
	{
		charset->converter = iconv_open("UTF-8", iconv_name);
		/* one that nobody knows */
		if (charset->converter == (iconv_t) -1)
			charset->kind = CHARSET_UTF8;
	}
	return charset;
}

void
charset_close(Charset *charset)
{
	if (charset->kind == CHARSET_ICONV)
		iconv_close(charset->converter);
	pfree(charset);
}

static void
append_cp1252(StringInfo out, unsigned char byte)
{
	pg_wchar character = byte >= 0x80 && byte < 0xA0 ? cp1252_upper[byte - 0x80] : byte;
	unsigned char utf8[4];

	unicode_to_utf8(character, utf8);
	appendBinaryStringInfo(out, (char *) utf8, pg_utf_mblen(utf8));
}

/* How many bytes from here on are ASCII? */
static Size
ascii_run(const char *bytes, Size length)
{
	Size run = 0;

	while (run + sizeof(uint64) <= length)
	{
		uint64 word;

		memcpy(&word, bytes + run, sizeof(word));
		if (word & UINT64CONST(0x8080808080808080))
			break;
		run += sizeof(word);
	}
	while (run < length && !IS_HIGHBIT_SET(bytes[run]))
		run++;
	return run;
}

static void
decode_cp1252(const char *bytes, Size length, StringInfo out)
{
	while (length > 0)
	{
		Size run = ascii_run(bytes, length);

		appendBinaryStringInfo(out, bytes, (int) run);
		bytes += run;
		length -= run;
		for (; length > 0 && IS_HIGHBIT_SET(*bytes); bytes++, length--)
			append_cp1252(out, (unsigned char) *bytes);
	}
}

/* Could these bytes, fewer than its first one asks for, become a character? */
static bool
may_begin_utf8(const unsigned char *bytes, Size length)
{
	for (Size i = 1; i < length; i++)
		if ((bytes[i] & 0xC0) != 0x80)
			return false;
	return bytes[0] >= 0xC2 && bytes[0] <= 0xF4;
}

/* Returns how many bytes were used; the rest may be the beginning of a character. */
static Size
decode_utf8(const char *bytes, Size length, bool last, StringInfo out)
{
	Size at = 0;

	while (at < length)
	{
		const unsigned char *here = (const unsigned char *) bytes + at;
		Size run = ascii_run(bytes + at, length - at);
		Size wanted;

		if (run > 0)
		{
			appendBinaryStringInfo(out, bytes + at, (int) run);
			at += run;
			continue;
		}
		wanted = pg_utf_mblen(here);
		if (wanted > length - at)
		{
			if (!last && may_begin_utf8(here, length - at))
				break;
			wanted = 1;
		}
		if (wanted > 1 && pg_utf8_islegal(here, (int) wanted))
			appendBinaryStringInfo(out, bytes + at, (int) wanted);
		else
		{
			append_cp1252(out, *here);
			wanted = 1;
		}
		at += wanted;
	}
	return at;
}

/* The same by the library. */
static Size
decode_iconv(Charset *charset, const char *bytes, Size length, bool last, StringInfo out)
{
	char *from = unconstify(char *, bytes);
	Size left = length;

	while (left > 0)
	{
		char piece[PIECE];
		char *to = piece;
		Size room = sizeof(piece);
		Size result = iconv(charset->converter, &from, &left, &to, &room);
		int problem = errno;

		appendBinaryStringInfo(out, piece, (int) (to - piece));
		if (result != (Size) -1 || problem == E2BIG)
			continue;
		if (problem == EINVAL && !last && left < MOST_PENDING)
			break;
		appendStringInfoChar(out, '?');
		from++;
		left--;
	}
	return length - left;
}

/* Returns how many bytes were used. */
static Size
decode(Charset *charset, const char *bytes, Size length, bool last, StringInfo out)
{
	switch (charset->kind)
	{
		case CHARSET_CP1252:
			decode_cp1252(bytes, length, out);
			return length;
		case CHARSET_UTF8:
			return decode_utf8(bytes, length, last, out);
		case CHARSET_ICONV:
			break;
	}
	return decode_iconv(charset, bytes, length, last, out);
}

/* Add bytes to what is pending, one by one, until that is used up. Returns how many were taken. */
static Size
decode_pending(Charset *charset, const char *bytes, Size length, bool last, StringInfo out)
{
	Size taken = 0;

	while (charset->pending_length > 0 && taken < length)
	{
		Size used;
		bool ends;

		charset->pending[charset->pending_length++] = bytes[taken++];
		ends = (last && taken == length) || charset->pending_length == MOST_PENDING;
		used = decode(charset, charset->pending, charset->pending_length, ends, out);
		charset->pending_length -= (int) used;
		memmove(charset->pending, charset->pending + used, charset->pending_length);
	}
	return taken;
}

void
charset_decode(Charset *charset, const char *bytes, Size length, bool last, StringInfo out)
{
	Size at = decode_pending(charset, bytes, length, last, out);

	if (charset->pending_length > 0)
	{
		/* all was taken, and it is no whole character yet */
		if (last)
			charset->pending_length -= (int) decode(charset, charset->pending, charset->pending_length, true, out);
		return;
	}
	at += decode(charset, bytes + at, length - at, last, out);
	charset->pending_length = (int) (length - at);
	if (charset->pending_length > 0)
		memcpy(charset->pending, bytes + at, charset->pending_length);
}
