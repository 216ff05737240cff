/*
 * document.h
 *	  Documents of feeds and reports, kept as gzip in chunks (tables amzmp.document and amzmp.document_chunk).
 *
 * Every function here runs inside a transaction with SPI connected, as amzmp_owner.
 */
#ifndef AMZMP_DOCUMENT_H
#define AMZMP_DOCUMENT_H

typedef struct DocumentWriter DocumentWriter;
typedef struct DocumentReader DocumentReader;

/*
 * Pack what is appended into chunks of the document, whose row exists and says whether they are to be sealed. What was
 * packed is in the table at the end.
 */
extern DocumentWriter *document_begin(int64 account_id, int64 document_id);
extern void document_append(DocumentWriter *writer, const char *data, Size length);
extern void document_end(DocumentWriter *writer);

/* The same for bytes that are gzip already. */
extern void document_keep_packed(int64 account_id, int64 document_id, const char *data, Size length);

/*
 * Piece by piece, unpacked: up to `room` bytes, fewer only at the end, 0 behind it. Throws ERRCODE_DATA_CORRUPTED for
 * what is no whole gzip. An error leaves nothing behind that the transaction's end does not clear.
 */
extern DocumentReader *document_open(int64 account_id, int64 document_id);
extern Size document_next(DocumentReader *reader, char *buffer, Size room);
extern void document_close(DocumentReader *reader);

/* All of it, unpacked, palloc'd in `keep`; longer than `most` is an error. */
extern char *document_read(int64 account_id, int64 document_id, MemoryContext keep, Size most, Size *length);

#endif
