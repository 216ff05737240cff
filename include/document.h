/*
 * document.h
 *	  Documents of feeds and reports, kept as gzip in chunks (tables amzmp.document and amzmp.document_chunk).
 *
 * Every function here runs inside a transaction with SPI connected, as amzmp_owner.
 */
#ifndef AMZMP_DOCUMENT_H
#define AMZMP_DOCUMENT_H

typedef struct DocumentWriter DocumentWriter;

/* Pack what is appended into chunks of the document, whose row exists. What was packed is in the table at the end. */
extern DocumentWriter *document_begin(int64 account_id, int64 document_id);
extern void document_append(DocumentWriter *writer, const char *data, Size length);
extern void document_end(DocumentWriter *writer);

/* The same for bytes that are gzip already. */
extern void document_keep_packed(int64 account_id, int64 document_id, const char *data, Size length);

/* All of it, unpacked, palloc'd in `keep`; longer than `most` is an error. */
extern char *document_read(int64 account_id, int64 document_id, MemoryContext keep, Size most, Size *length);

#endif
