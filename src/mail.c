/*
 * mail.c
 *	  Mails that tell people of alarms: the work of a runner of its own.
 *
 * libcurl waits inside a call for a mail server's last words, up to 20 s if it is slow, and the sender must not: so mails
 * have a runner that does nothing else (RUNNER_NETWORK). Three steps, and no transaction is open during the second: read
 * what to say, say it, note how it ended (sql/alarm_send.sql). The task's attempt was counted before; a mail whose answer is
 * lost is repeated under the same Message-ID.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "mail.h"
#include "tell.h"
#include "worker.h"

#define MAIL_TIMEOUT_MS 60000

typedef struct Mail
{
	MemoryContext keep;
	int64 account_id;
	int64 task_id;
	char *subject; /* NULL = nothing to send any more */
	char *rendered;
	SpapiVerdict verdict;
	SpapiError error;
} Mail;

static void
begin(void *arg)
{
	Mail *mail = arg;
	Oid types[2] = {INT8OID, INT8OID};
	Datum values[2] = {Int64GetDatum(mail->account_id), Int64GetDatum(mail->task_id)};

	worker_execute("select * from amzmp._mail_begin($1, $2)", 2, types, values, NULL);
	if (SPI_processed == 0)
		return;
	mail->subject = worker_kept_text(1, mail->keep);
	mail->rendered = worker_kept_text(2, mail->keep);
}

static void
send_mail(Mail *mail)
{
	HttpRequest request;
	HttpAnswer *answer;

	tell_build(mail->rendered, &request);
	request.timeout_ms = MAIL_TIMEOUT_MS;
	answer = http_perform(&request);
	spapi_forget(&request);
	mail->verdict = tell_judge(answer, true, &mail->error);
	http_answer_free(answer);
}

/* What cannot even be begun is refused; that the runner was told to end is not ours to keep. */
static void
send_safely(Mail *mail)
{
	PG_TRY();
	{
		send_mail(mail);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(mail->keep);
		error = CopyErrorData();
		if (error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN || error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		FlushErrorState();
		mail->verdict = SPAPI_PERMANENT;
		strlcpy(mail->error.message, error->message, sizeof(mail->error.message));
	}
	PG_END_TRY();
}

static const char *
outcome(const Mail *mail)
{
	if (mail->verdict == SPAPI_SUCCESS)
		return "delivered";
	return mail->verdict == SPAPI_PERMANENT ? "refused" : "later";
}

static void
end(void *arg)
{
	Mail *mail = arg;
	Oid end_types[4] = {INT8OID, TEXTOID, TEXTOID, TEXTOID};
	Oid finish_types[2] = {INT8OID, INT8OID};
	Datum finish_values[2] = {Int64GetDatum(mail->account_id), Int64GetDatum(mail->task_id)};

	if (mail->subject != NULL)
	{
		Datum values[4] = {Int64GetDatum(mail->account_id), CStringGetTextDatum(mail->subject),
						   CStringGetTextDatum(outcome(mail)), CStringGetTextDatum(mail->error.message)};

		worker_execute("select amzmp._mail_end($1, $2, $3, $4)", 4, end_types, values, NULL);
	}
	worker_execute("select amzmp._finish_task($1, $2)", 2, finish_types, finish_values, NULL);
}

ErrorData *
mail_perform(int64 account_id, int64 task_id, MemoryContext keep)
{
	Mail mail = {.keep = keep, .account_id = account_id, .task_id = task_id};
	ErrorData *error = worker_transaction(begin, &mail, true, false, keep);

	if (error != NULL)
		return error;
	if (mail.subject != NULL)
		send_safely(&mail);
	return worker_transaction(end, &mail, true, false, keep);
}
