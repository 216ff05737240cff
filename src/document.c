/*
 * document.c
 *	  Documents of feeds and reports as streams of gzip, in chunks of a table.
 *
 * A document is written front to back, packed as it comes, and never whole in memory: the writer holds one chunk of
 * packed bytes, and amzmp._write_document takes its lines from a cursor. A reader gives it piece by piece as well
 * (report.c); document_read unpacks all of it for what needs it in one piece (an upload, a processing report).
 *
 * What is in a document, and whose it is, is sql/document.sql's affair; so is whether it holds buyers' data. Then each
 * chunk is sealed, bound to its place.
 */
#include "postgres.h"

#include <zlib.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "document.h"
#include "vault.h"

#define CHUNK_BYTES      (256 * 1024)
#define CURSOR_ROWS      500
#define GZIP_WINDOW      (15 + 16) /* zlib: largest window, gzip's header and trailer */
#define GZIP_MEMORY      8
#define MOST_READ        ((Size) 512 * 1024 * 1024)
#define DOCUMENT_PURPOSE "document" /* what sealed chunks are sealed for */

struct DocumentWriter
{
	int64 account_id;
	int64 document_id;
	int32 position; /* of the next chunk */
	int64 bytes;
	int64 packed_bytes;
	z_stream stream;
	SPIPlanPtr insert;
	bool sealed;
	bytea *chunk; /* CHUNK_BYTES of room behind its header */
};

/* zlib's memory goes with the memory context, whatever ends the transaction. */
static voidpf
zlib_alloc(voidpf context, uInt items, uInt size)
{
	return MemoryContextAllocExtended(context, (Size) items * size, MCXT_ALLOC_NO_OOM);
}

static void
zlib_free(voidpf context, voidpf memory)
{
	pfree(memory);
}

static void
zlib_prepare(z_stream *stream)
{
	memset(stream, 0, sizeof(*stream));
	stream->zalloc = zlib_alloc;
	stream->zfree = zlib_free;
	stream->opaque = CurrentMemoryContext;
}

/*
 * Writing
 */

static SPIPlanPtr
prepare(const char *sql, int count, Oid *types)
{
	SPIPlanPtr plan = SPI_prepare(sql, count, types);

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	return plan;
}

static void
execute(SPIPlanPtr plan, Datum *values, int expected)
{
	int code = SPI_execute_plan(plan, values, NULL, false, 0);

	if (code != expected)
		elog(ERROR, "writing a document: %s", SPI_result_code_string(code));
}

/* A number that amzmp.document knows of a document; 0 where it is null. */
static int64
document_number(int64 account_id, int64 document_id, const char *what)
{
	Oid types[2] = {INT8OID, INT8OID};
	Datum values[2] = {Int64GetDatum(account_id), Int64GetDatum(document_id)};
	bool isnull;
	Datum value;

	execute(prepare(psprintf("select (%s)::bigint from amzmp.document where account_id = $1 and document_id = $2", what),
					2, types),
			values, SPI_OK_SELECT);
	if (SPI_processed == 0)
		elog(ERROR, "there is no document " INT64_FORMAT, document_id);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? 0 : DatumGetInt64(value);
}

/* What a sealed chunk is bound to, as amzmp._sealed_columns says. */
static char *
chunk_row(int64 account_id, int64 document_id, int32 position)
{
	return psprintf(INT64_FORMAT "/" INT64_FORMAT "/%d", account_id, document_id, position);
}

static DocumentWriter *
make_writer(int64 account_id, int64 document_id)
{
	Oid types[4] = {INT8OID, INT8OID, INT4OID, BYTEAOID};
	DocumentWriter *writer = palloc0(sizeof(DocumentWriter));

	writer->account_id = account_id;
	writer->document_id = document_id;
	writer->sealed = document_number(account_id, document_id, "sealed::integer") != 0;
	writer->insert = prepare(psprintf("insert into amzmp.document_chunk (account_id, document_id, position, %s)"
									  " values ($1, $2, $3, $4)",
									  writer->sealed ? "sealed" : "content"),
							 4, types);
	writer->chunk = palloc(VARHDRSZ + CHUNK_BYTES);
	return writer;
}

static void
write_chunk(DocumentWriter *writer, Size length)
{
	Datum values[4] = {Int64GetDatum(writer->account_id), Int64GetDatum(writer->document_id),
					   Int32GetDatum(writer->position), PointerGetDatum(writer->chunk)};

	if (length == 0)
		return;
	SET_VARSIZE(writer->chunk, VARHDRSZ + length);
	if (writer->sealed)
		values[3] = PointerGetDatum(vault_seal(VARDATA(writer->chunk), length, DOCUMENT_PURPOSE,
											   chunk_row(writer->account_id, writer->document_id, writer->position)));
	execute(writer->insert, values, SPI_OK_INSERT);
	if (writer->sealed)
		pfree(DatumGetPointer(values[3]));
	writer->position++;
	writer->packed_bytes += length;
}

static void
offer_chunk(DocumentWriter *writer)
{
	writer->stream.next_out = (Bytef *) VARDATA(writer->chunk);
	writer->stream.avail_out = CHUNK_BYTES;
}

DocumentWriter *
document_begin(int64 account_id, int64 document_id)
{
	DocumentWriter *writer = make_writer(account_id, document_id);

	zlib_prepare(&writer->stream);
	if (deflateInit2(&writer->stream, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	offer_chunk(writer);
	return writer;
}

void
document_append(DocumentWriter *writer, const char *data, Size length)
{
	writer->stream.next_in = (Bytef *) data;
	writer->stream.avail_in = length;
	writer->bytes += length;
	while (writer->stream.avail_in > 0)
	{
		if (deflate(&writer->stream, Z_NO_FLUSH) != Z_OK)
			elog(ERROR, "packing a document failed");
		if (writer->stream.avail_out == 0)
		{
			write_chunk(writer, CHUNK_BYTES);
			offer_chunk(writer);
		}
	}
}

static void
note_size(DocumentWriter *writer)
{
	Oid types[4] = {INT8OID, INT8OID, INT8OID, INT8OID};
	Datum values[4] = {Int64GetDatum(writer->account_id), Int64GetDatum(writer->document_id),
					   Int64GetDatum(writer->bytes), Int64GetDatum(writer->packed_bytes)};

	execute(prepare("update amzmp.document set bytes = nullif($3, 0), packed_bytes = $4"
					" where account_id = $1 and document_id = $2",
					4, types),
			values, SPI_OK_UPDATE);
}

void
document_end(DocumentWriter *writer)
{
	int code;

	do
	{
		code = deflate(&writer->stream, Z_FINISH);
		if (code != Z_OK && code != Z_STREAM_END)
			elog(ERROR, "packing a document failed");
		write_chunk(writer, CHUNK_BYTES - writer->stream.avail_out);
		offer_chunk(writer);
	} while (code != Z_STREAM_END);
	deflateEnd(&writer->stream);
	note_size(writer);
	pfree(writer->chunk);
	pfree(writer);
}

void
document_keep_packed(int64 account_id, int64 document_id, const char *data, Size length)
{
	DocumentWriter *writer = make_writer(account_id, document_id);

	for (Size at = 0; at < length; at += CHUNK_BYTES)
	{
		Size part = Min(CHUNK_BYTES, length - at);

		memcpy(VARDATA(writer->chunk), data + at, part);
		write_chunk(writer, part);
	}
	note_size(writer);
	pfree(writer->chunk);
	pfree(writer);
}

/*
 * Reading
 */

struct DocumentReader
{
	int64 account_id;
	int64 document_id;
	Portal chunks;
	char *chunk; /* what zlib has not yet read of it lies in stream.next_in */
	Size chunk_length;
	bool sealed;
	bool ended;
	z_stream stream;
};

DocumentReader *
document_open(int64 account_id, int64 document_id)
{
	Oid types[2] = {INT8OID, INT8OID};
	Datum values[2] = {Int64GetDatum(account_id), Int64GetDatum(document_id)};
	DocumentReader *reader = palloc0(sizeof(DocumentReader));

	reader->account_id = account_id;
	reader->document_id = document_id;
	reader->chunks = SPI_cursor_open(NULL,
									 prepare("select position, content, sealed from amzmp.document_chunk"
											 " where account_id = $1 and document_id = $2 order by position",
											 2, types),
									 values, NULL, true);
	zlib_prepare(&reader->stream);
	if (inflateInit2(&reader->stream, GZIP_WINDOW) != Z_OK)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return reader;
}

static void
forget_chunk(DocumentReader *reader)
{
	if (reader->chunk == NULL)
		return;
	if (reader->sealed)
		vault_forget(reader->chunk, reader->chunk_length);
	else
		pfree(reader->chunk);
	reader->chunk = NULL;
}

/* A copy of a column's bytes in zlib's context, where the reader lives; opened if sealed. */
static void
take_chunk(DocumentReader *reader, HeapTuple row, TupleDesc columns)
{
	MemoryContext old = MemoryContextSwitchTo((MemoryContext) reader->stream.opaque);
	bool isnull;
	int32 position = DatumGetInt32(SPI_getbinval(row, columns, 1, &isnull));
	Datum content = SPI_getbinval(row, columns, 2, &isnull);
	Datum sealed = isnull ? SPI_getbinval(row, columns, 3, &isnull) : (Datum) 0;
	bytea *bytes = DatumGetByteaPP(sealed ? sealed : content);

	reader->sealed = sealed != 0;
	if (sealed)
		reader->chunk = vault_open(bytes, DOCUMENT_PURPOSE,
								   chunk_row(reader->account_id, reader->document_id, position), &reader->chunk_length);
	else
	{
		reader->chunk_length = VARSIZE_ANY_EXHDR(bytes);
		reader->chunk = palloc(reader->chunk_length);
		memcpy(reader->chunk, VARDATA_ANY(bytes), reader->chunk_length);
	}
	if ((Pointer) bytes != DatumGetPointer(sealed ? sealed : content))
		pfree(bytes);
	MemoryContextSwitchTo(old);
	reader->stream.next_in = (Bytef *) reader->chunk;
	reader->stream.avail_in = reader->chunk_length;
}

/* The next chunk for zlib; false when there is none. */
static bool
next_chunk(DocumentReader *reader)
{
	bool found;

	CHECK_FOR_INTERRUPTS();
	forget_chunk(reader);
	SPI_cursor_fetch(reader->chunks, true, 1);
	found = SPI_processed > 0;
	if (found)
		take_chunk(reader, SPI_tuptable->vals[0], SPI_tuptable->tupdesc);
	SPI_freetuptable(SPI_tuptable);
	return found;
}

Size
document_next(DocumentReader *reader, char *buffer, Size room)
{
	z_stream *stream = &reader->stream;

	stream->next_out = (Bytef *) buffer;
	stream->avail_out = Min(room, (Size) PG_INT32_MAX);
	room = stream->avail_out;
	while (!reader->ended && stream->avail_out > 0)
	{
		int code;

		if (stream->avail_in == 0 && !next_chunk(reader))
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("document " INT64_FORMAT " is not whole", reader->document_id)));
		code = inflate(stream, Z_NO_FLUSH);
		/* Z_BUF_ERROR: nothing was left to do, more comes with the next chunk */
		if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a document is no gzip")));
		reader->ended = code == Z_STREAM_END;
	}
	return room - stream->avail_out;
}

void
document_close(DocumentReader *reader)
{
	forget_chunk(reader);
	SPI_cursor_close(reader->chunks);
	inflateEnd(&reader->stream);
	pfree(reader);
}

char *
document_read(int64 account_id, int64 document_id, MemoryContext keep, Size most, Size *length)
{
	/* more room than is needed, so that the end is seen without growing; what came packed has to grow */
	Size room = Min(Max((Size) document_number(account_id, document_id, "bytes") + 1, CHUNK_BYTES), most);
	DocumentReader *reader = document_open(account_id, document_id);
	char *data = MemoryContextAllocHuge(keep, room + 1);
	Size read;

	*length = 0;
	while ((read = document_next(reader, data + *length, room - *length)) > 0)
	{
		*length += read;
		if (*length < room)
			continue;
		if (room >= most)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a document is larger than %zu bytes", most)));
		room = Min(room * 2, most);
		data = repalloc_huge(data, room + 1);
	}
	document_close(reader);
	data[*length] = '\0';
	return data;
}

PG_FUNCTION_INFO_V1(amzmp_read_document);

Datum
amzmp_read_document(PG_FUNCTION_ARGS)
{
	MemoryContext keep = CurrentMemoryContext;
	Size length;
	char *data;
	bytea *result;

	SPI_connect();
	data = document_read(PG_GETARG_INT64(0), PG_GETARG_INT64(1), keep, MOST_READ, &length);
	SPI_finish();
	result = MemoryContextAllocHuge(CurrentMemoryContext, VARHDRSZ + length);
	SET_VARSIZE(result, VARHDRSZ + length);
	memcpy(VARDATA(result), data, length);
	pfree(data);
	PG_RETURN_BYTEA_P(result);
}

/*
 * amzmp._write_document(account_id, document_id, subject_id, head, query, tail, most_bytes, separator): head, the lines
 * that the query gives for $1 = account_id and $2 = subject_id, parted by the separator, and tail. Returns how many
 * lines found room.
 */

static void
append_text(DocumentWriter *writer, const char *text, int length)
{
	char *utf8 = pg_server_to_any(text, length, PG_UTF8);

	document_append(writer, utf8, utf8 == text ? (Size) length : strlen(utf8));
	if (utf8 != text)
		pfree(utf8);
}

/* Write what the cursor gives, until it is empty or the next line has no room. */
static int64
append_lines(DocumentWriter *writer, Portal portal, int64 most_bytes, const text *separator)
{
	int64 lines = 0;
	bool full = false;

	do
	{
		SPI_cursor_fetch(portal, true, CURSOR_ROWS);
		CHECK_FOR_INTERRUPTS();
		for (uint64 i = 0; i < SPI_processed && !full; i++)
		{
			bool isnull;
			Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
			text *line = DatumGetTextPP(value);

			full = writer->bytes + (int64) (VARSIZE_ANY_EXHDR(line) + VARSIZE_ANY_EXHDR(separator)) > most_bytes;
			if (full)
				break;
			if (lines++ > 0)
				document_append(writer, VARDATA_ANY(separator), VARSIZE_ANY_EXHDR(separator));
			append_text(writer, VARDATA_ANY(line), VARSIZE_ANY_EXHDR(line));
		}
		full = full || SPI_processed < CURSOR_ROWS;
		SPI_freetuptable(SPI_tuptable);
	} while (!full);
	return lines;
}

PG_FUNCTION_INFO_V1(amzmp_write_document);

Datum
amzmp_write_document(PG_FUNCTION_ARGS)
{
	int64 account_id = PG_GETARG_INT64(0);
	Oid types[2] = {INT8OID, INT8OID};
	Datum values[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(2)};
	text *head = PG_GETARG_TEXT_PP(3);
	char *query = text_to_cstring(PG_GETARG_TEXT_PP(4));
	text *tail = PG_GETARG_TEXT_PP(5);
	int64 most_bytes = PG_GETARG_INT64(6) - VARSIZE_ANY_EXHDR(tail);
	DocumentWriter *writer;
	Portal portal;
	int64 lines;

	SPI_connect();
	writer = document_begin(account_id, PG_GETARG_INT64(1));
	append_text(writer, VARDATA_ANY(head), VARSIZE_ANY_EXHDR(head));
	portal = SPI_cursor_open(NULL, prepare(query, 2, types), values, NULL, true);
	lines = append_lines(writer, portal, most_bytes, PG_GETARG_TEXT_PP(7));
	SPI_cursor_close(portal);
	append_text(writer, VARDATA_ANY(tail), VARSIZE_ANY_EXHDR(tail));
	document_end(writer);
	SPI_finish();
	PG_RETURN_INT64(lines);
}

PG_FUNCTION_INFO_V1(amzmp_write_content);

Datum
amzmp_write_content(PG_FUNCTION_ARGS)
{
	bytea *content = PG_GETARG_BYTEA_PP(2);
	DocumentWriter *writer;

	SPI_connect();
	writer = document_begin(PG_GETARG_INT64(0), PG_GETARG_INT64(1));
	document_append(writer, VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content));
	document_end(writer);
	SPI_finish();
	PG_RETURN_VOID();
}
