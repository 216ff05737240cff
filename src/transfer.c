/*
 * transfer.c
 *	  Documents to and from the links that Amazon names: an own runner's work, because documents are large.
 *
 * Three steps, and no transaction is open during the second: read link and document, let HTTP do its work, note how it
 * ended (amzmp._transfer_end). The link is a key for whoever holds it: it goes into no log and no message. An upload
 * carries the announced content type and nothing else, and no access token.
 *
 * Doing it twice is harmless, so whatever ends the runner in between leaves a task that is performed again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/string.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "document.h"
#include "http.h"
#include "transfer.h"
#include "worker.h"

#define TRANSFER_TIMEOUT_MS (5 * 60 * 1000)
#define MOST_CONTENT_TYPE   200
#define MOST_UPLOAD         ((Size) 64 * 1024 * 1024)
#define MOST_DOWNLOAD       ((Size) 1024 * 1024 * 1024)

typedef struct Transfer
{
	MemoryContext keep;
	int64 account_id;
	int64 task_id;
	char *subject; /* NULL = nothing to transfer any more */
	char *url;
	int64 document_id;
	char *content_type;
	bool upload;
	char *body;
	Size body_length;
	HttpAnswer *answer;
	const char *failure;
} Transfer;

static void
begin(void *arg)
{
	Transfer *transfer = arg;
	Oid types[2] = {INT8OID, INT8OID};
	Datum values[2] = {Int64GetDatum(transfer->account_id), Int64GetDatum(transfer->task_id)};
	bool isnull;

	worker_execute("select * from amzmp._transfer_begin($1, $2)", 2, types, values, NULL);
	if (SPI_processed == 0)
		return;
	transfer->subject = worker_kept_text(1, transfer->keep);
	transfer->url = worker_kept_text(2, transfer->keep);
	transfer->document_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull));
	transfer->content_type = worker_kept_text(4, transfer->keep);
	transfer->upload = strncmp(transfer->subject, "upload/", 7) == 0;
	if (transfer->upload)
		transfer->body = document_read(transfer->account_id, transfer->document_id, transfer->keep, MOST_UPLOAD,
									   &transfer->body_length);
}

static void
perform(Transfer *transfer)
{
	const char *headers[2] = {NULL, NULL};
	HttpRequest request;

	memset(&request, 0, sizeof(request));
	request.method = transfer->upload ? "PUT" : "GET";
	request.url = transfer->url;
	if (transfer->upload)
		headers[0] = psprintf("Content-Type: %s", transfer->content_type);
	request.headers = headers;
	request.body = transfer->body;
	request.body_length = transfer->body_length;
	request.body_is_lent = true;
	request.timeout_ms = TRANSFER_TIMEOUT_MS;
	request.max_response = MOST_DOWNLOAD;
	transfer->answer = http_perform(&request);
}

/* Only what the settings forbid, or a lack of memory, comes here as an error; the link stands in no message of those. */
static void
perform_safely(Transfer *transfer)
{
	PG_TRY();
	{
		perform(transfer);
		if (transfer->answer->status == 0)
			transfer->failure = MemoryContextStrdup(transfer->keep, transfer->answer->error);
		else if (transfer->answer->status >= 300)
			transfer->failure = psprintf("HTTP status %d", transfer->answer->status);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(transfer->keep);
		error = CopyErrorData();
		/* the runner was told to end */
		if (error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN || error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		FlushErrorState();
		transfer->failure = error->message;
	}
	PG_END_TRY();
}

static bool
is_gzip(const HttpAnswer *answer)
{
	return answer->body_length > 2 && (uint8) answer->body[0] == 0x1f && (uint8) answer->body[1] == 0x8b;
}

/* What the document is, character set included, is told with it. */
static void
note_content_type(const Transfer *transfer)
{
	Oid types[3] = {INT8OID, INT8OID, TEXTOID};
	const char *content_type = http_answer_header(transfer->answer, "content-type");
	Datum values[3] = {Int64GetDatum(transfer->account_id), Int64GetDatum(transfer->document_id), (Datum) 0};

	if (content_type == NULL || strlen(content_type) > MOST_CONTENT_TYPE || !pg_is_ascii(content_type))
		return;
	values[2] = CStringGetTextDatum(content_type);
	worker_execute("update amzmp.document set content_type = $3 where account_id = $1 and document_id = $2", 3, types,
				   values, NULL);
}

static void
keep_answer(const Transfer *transfer)
{
	const HttpAnswer *answer = transfer->answer;
	DocumentWriter *writer;

	note_content_type(transfer);
	if (is_gzip(answer))
	{
		document_keep_packed(transfer->account_id, transfer->document_id, answer->body, answer->body_length);
		return;
	}
	writer = document_begin(transfer->account_id, transfer->document_id);
	document_append(writer, answer->body, answer->body_length);
	document_end(writer);
}

static void
end(void *arg)
{
	Transfer *transfer = arg;
	Oid end_types[4] = {INT8OID, TEXTOID, INT4OID, TEXTOID};
	Oid finish_types[2] = {INT8OID, INT8OID};
	Datum finish_values[2] = {Int64GetDatum(transfer->account_id), Int64GetDatum(transfer->task_id)};

	if (transfer->subject != NULL)
	{
		Datum values[4] = {Int64GetDatum(transfer->account_id), CStringGetTextDatum(transfer->subject),
						   Int32GetDatum(transfer->answer ? transfer->answer->status : 0),
						   transfer->failure ? CStringGetTextDatum(transfer->failure) : (Datum) 0};

		if (!transfer->upload && transfer->failure == NULL)
			keep_answer(transfer);
		worker_execute("select amzmp._transfer_end($1, $2, $3, $4)", 4, end_types, values,
					   transfer->failure ? "    " : "   n");
	}
	worker_execute("select amzmp._finish_task($1, $2)", 2, finish_types, finish_values, NULL);
}

ErrorData *
transfer_perform(int64 account_id, int64 task_id, MemoryContext keep)
{
	Transfer transfer = {.keep = keep, .account_id = account_id, .task_id = task_id};
	ErrorData *error = worker_transaction(begin, &transfer, true, false, keep);

	if (error != NULL)
		return error;
	if (transfer.subject != NULL)
		perform_safely(&transfer);
	error = worker_transaction(end, &transfer, true, false, keep);
	if (transfer.answer != NULL)
		http_answer_free(transfer.answer);
	if (transfer.url != NULL)
		explicit_bzero(transfer.url, strlen(transfer.url));
	if (transfer.body != NULL)
		explicit_bzero(transfer.body, transfer.body_length);
	return error;
}
