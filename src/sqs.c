/*
 * sqs.c
 *	  Calls of Amazon SQS, in its JSON protocol: how one is built and how its answer is judged.
 *
 * The sender reads queues as it does everything else: a row of amzmp.request becomes a transfer among the others, and a
 * long poll that waits 20 s for a message holds up none of them. What is asked and what an answer means is in
 * sql/queue.sql; the AWS key pair is opened there and passes through here. The signature is libcurl's.
 */
#include "postgres.h"

#include "common/string.h"

#include "errcodes.h"
#include "json.h"
#include "sqs.h"
#include "vault.h"

#define MOST_HEADERS 4

void
sqs_build(const char *url, char *rendered, HttpRequest *request)
{
	JsonDoc *doc = json_doc_parse(rendered, strlen(rendered), NULL);
	char *action = json_doc_copy(doc, "action");
	char *region = json_doc_copy(doc, "region");
	char *payload = json_doc_copy(doc, "payload");
	char *key = json_doc_copy(doc, "access_key_id");
	char *secret = json_doc_copy(doc, "secret_access_key");
	char *session = json_doc_copy(doc, "session_token");
	const char **headers = palloc0(sizeof(char *) * MOST_HEADERS);

	json_doc_free(doc);
	explicit_bzero(rendered, strlen(rendered));
	memset(request, 0, sizeof(*request));
	request->headers = headers;
	if (action == NULL || region == NULL || payload == NULL || key == NULL || secret == NULL)
		ereport(ERROR, (errcode(ERRCODE_AMZMP_NOT_CONFIGURED), errmsg("the queue has no usable keys"),
						errhint("Set them with amzmp.set_queue(account, arn, file => …).")));
	headers[0] = pstrdup("content-type: application/x-amz-json-1.0");
	headers[1] = psprintf("x-amz-target: AmazonSQS.%s", action);
	if (session != NULL)
		headers[2] = psprintf("x-amz-security-token: %s", session);
	request->method = "POST";
	request->url = pstrdup(url);
	request->body = payload;
	request->body_length = strlen(payload);
	request->aws_sigv4 = psprintf("aws:amz:%s:sqs", region);
	request->user_password = psprintf("%s:%s", key, secret);
	vault_forget_text(key);
	vault_forget_text(secret);
	vault_forget_text(session);
}

/* Errors say "__type": "com.amazonaws.sqs#QueueDoesNotExist" and "message", in either case. */
static void
read_error(const HttpAnswer *answer, SpapiError *error)
{
	JsonDoc *doc = json_doc_parse(answer->body, answer->body_length, NULL);
	const char *type;
	const char *message;

	if (doc == NULL)
		return;
	type = json_doc_text(doc, JSON_PATH("__type"));
	message = json_doc_text(doc, JSON_PATH("message"));
	if (message == NULL)
		message = json_doc_text(doc, JSON_PATH("Message"));
	if (type != NULL && strchr(type, '#') != NULL)
		type = strchr(type, '#') + 1;
	if (type != NULL && pg_is_ascii(type))
		strlcpy(error->code, type, sizeof(error->code));
	if (message != NULL && pg_is_ascii(message))
		strlcpy(error->message, message, sizeof(error->message));
	json_doc_free(doc);
}

SpapiVerdict
sqs_judge(const HttpAnswer *answer, SpapiError *error)
{
	SpapiVerdict verdict = spapi_judge(answer, error);

	if (answer->fault == HTTP_OK && answer->status >= 400)
		read_error(answer, error);
	return verdict == SPAPI_RENEW_TOKEN ? SPAPI_PERMANENT : verdict;
}
