/*
 * charset.h
 *	  Bytes in the character sets that Amazon's documents come in, as UTF-8.
 */
#ifndef AMZMP_CHARSET_H
#define AMZMP_CHARSET_H

#include "lib/stringinfo.h"

typedef struct Charset Charset;

/*
 * A decoder for a document of this content type ("text/plain;charset=Cp1252"; NULL = none was told), palloc'd. It may
 * hold a library's handle: charset_close on every way out.
 */
extern Charset *charset_open(const char *content_type);
extern void charset_close(Charset *charset);

/*
 * Append these bytes to `out` as valid UTF-8. A character that the end of the piece cuts is kept for the next; `last`
 * says that there is none.
 */
extern void charset_decode(Charset *charset, const char *bytes, Size length, bool last, StringInfo out);

#endif
