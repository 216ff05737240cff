/*
 * sqs.c: queues, spoken to in the JSON protocol of SQS (header X-Amz-Target), whatever the path.
 *
 * A queue exists once a destination names its ARN or something was sent to it. Messages are delivered at least once: one that is received hides
 * for its visibility timeout, in virtual time, and comes back unless it is deleted. The signature is looked at for
 * its form and its date, not verified: the simulator knows no secret.
 */
#include "sim.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_QUEUED   120000
#define SIGNATURE_AGE (5 * MINUTE)

typedef struct Message
{
	char id[37];
	char receipt[65];
	char *body;
	Micros sent;
	Micros visible;
	int received;
} Message;

static Table *queues; /* "account/name" -> List of Message */

static void
message_free(void *value)
{
	Message *message = value;

	free(message->body);
	free(message);
}

static void
queue_free(void *value)
{
	list_free(value, message_free);
	free(value);
}

void
queues_reset(void)
{
	table_free(queues, queue_free);
	queues = table_new();
}

static void
push(List *queue, const char *body)
{
	Message *message = xalloc(sizeof(Message));

	uuid_text(message->id);
	message->body = xstrdup(body);
	message->sent = message->visible = clock_now();
	if (queue->count == MOST_QUEUED)
	{
		message_free(queue->at[0]);
		memmove(queue->at, queue->at + 1, --queue->count * sizeof(void *));
	}
	list_add(queue, message);
}

/* The queue of arn:aws:sqs:REGION:ACCOUNT:NAME, made when it is not there. */
static List *
queue_of_arn(const char *arn)
{
	char key[300];
	const char *account = arn;
	List *queue;

	for (int colon = 0; colon < 4 && account != NULL; colon++)
		account = strchr(account, ':') == NULL ? NULL : strchr(account, ':') + 1;
	snprintf(key, sizeof(key), "%s", account == NULL ? arn : account);
	if (strchr(key, ':') != NULL)
		*strchr(key, ':') = '/';
	queue = table_get(queues, key);
	if (queue == NULL)
	{
		queue = xalloc(sizeof(List));
		table_put(queues, key, queue);
	}
	return queue;
}

void
queue_open(const char *arn)
{
	queue_of_arn(arn);
}

void
queue_send(const char *arn, const char *body)
{
	push(queue_of_arn(arn), body);
}

static bool
list_queue(const char *key, void *value, void *arg)
{
	const List *queue = value;
	json_t *bodies = json_array();

	for (size_t i = 0; i < queue->count && i < 100; i++)
		json_array_append_new(bodies, json_string(((Message *) queue->at[i])->body));
	json_object_set_new(arg, key, json_pack("{s:I, s:o}", "messages", (json_int_t) queue->count, "first", bodies));
	return true;
}

json_t *
queues_json(void)
{
	json_t *all = json_object();

	table_each(queues, list_queue, all);
	return json_pack("{s:o}", "queues", all);
}

static void
refuse(Call *call, const char *code, const char *message)
{
	call_answer(call, 400, json_pack("{s:o, s:s}", "__type", json_text("com.amazonaws.sqs#%s", code), "message", message));
}

static void
refuse_violation(Call *call, const char *code, const char *message)
{
	call->violation = true;
	stats_violation(call, message);
	refuse(call, code, message);
}

static bool
signature_has_form(Call *call)
{
	const char *authorization = call_header(call, "authorization");
	const char *date = call_header(call, "x-amz-date");
	const char *type = call_header(call, "content-type");
	Micros when = 0;
	char text[32];

	if (type == NULL || strcmp(type, "application/x-amz-json-1.0") != 0)
		refuse_violation(call, "InvalidContentType", "The content-type is application/x-amz-json-1.0.");
	else if (authorization == NULL || !starts_with(authorization, "AWS4-HMAC-SHA256 ") ||
			 strstr(authorization, "/sqs/aws4_request") == NULL || strstr(authorization, "Signature=") == NULL)
		refuse_violation(call, "MissingAuthenticationToken", "The request is not signed for sqs.");
	else if (date == NULL || strlen(date) != 16)
		refuse_violation(call, "IncompleteSignature", "The X-Amz-Date header is missing.");
	if (call->status != 0)
		return false;
	snprintf(text, sizeof(text), "%.4s-%.2s-%.2sT%.2s:%.2s:%.2sZ", date, date + 4, date + 6, date + 9, date + 11,
			 date + 13);
	if (!time_parse(text, &when) || llabs(when - clock_real()) > SIGNATURE_AGE)
		refuse(call, "SignatureDoesNotMatch", "The signature has expired.");
	return call->status == 0;
}

/* The queue that the last two parts of QueueUrl name. */
static List *
queue_of_body(Call *call)
{
	const char *url = json_get_text(call->body, "QueueUrl");
	const char *key = url == NULL ? NULL : strrchr(url, '/');
	List *queue = NULL;

	while (key != NULL && key > url && key[-1] != '/')
		key--;
	if (key != NULL)
		queue = table_get(queues, key);
	if (queue == NULL)
		refuse(call, "QueueDoesNotExist", "The specified queue does not exist.");
	return queue;
}

static void
md5_text(const char *text, char out[33])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned length;

	EVP_Digest(text, strlen(text), digest, &length, EVP_md5(), NULL);
	for (unsigned i = 0; i < 16; i++)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

static json_t *
message_json(Message *message, Micros hidden)
{
	char md5[33];

	message->received++;
	message->visible = clock_now() + hidden;
	random_text(message->receipt, 64);
	md5_text(message->body, md5);
	return json_pack("{s:s, s:s, s:s, s:s, s:{s:o, s:o}}", "MessageId", message->id, "ReceiptHandle", message->receipt,
					 "MD5OfBody", md5, "Body", message->body, "Attributes", "SentTimestamp",
					 json_text("%lld", (long long) (message->sent / 1000)), "ApproximateReceiveCount",
					 json_text("%d", message->received));
}

/* Long polling: nothing there yet means to be asked again until the time is over. */
static void
receive(Call *call, List *queue)
{
	int64_t most = json_get_int(call->body, "MaxNumberOfMessages", 1);
	int64_t wait = json_get_int(call->body, "WaitTimeSeconds", 0);
	Micros hidden = json_get_int(call->body, "VisibilityTimeout", 30) * SECOND;
	json_t *messages;

	if (most < 1 || most > 10 || wait < 0 || wait > 20)
	{
		refuse_violation(call, "InvalidParameterValue", "MaxNumberOfMessages is 1 to 10, WaitTimeSeconds 0 to 20.");
		return;
	}
	messages = json_array();
	for (size_t i = 0; i < queue->count && (int64_t) json_array_size(messages) < most; i++)
		if (((Message *) queue->at[i])->visible <= clock_now())
			json_array_append_new(messages, message_json(queue->at[i], hidden));
	if (call->poll_until == 0)
		call->poll_until = clock_real() + wait * SECOND;
	if (json_array_size(messages) > 0)
		call_answer(call, 200, json_pack("{s:O}", "Messages", messages));
	else if (clock_real() >= call->poll_until)
		call_answer(call, 200, json_object());
	json_decref(messages);
}

static Message *
message_by_receipt(const List *queue, const char *receipt, size_t *at)
{
	for (*at = 0; receipt != NULL && *at < queue->count; ++*at)
		if (strcmp(((Message *) queue->at[*at])->receipt, receipt) == 0)
			return queue->at[*at];
	return NULL;
}

/* A receipt of a message that is gone already is no error. */
static bool
delete_one(List *queue, const char *receipt)
{
	size_t at;
	Message *message = message_by_receipt(queue, receipt, &at);

	if (receipt == NULL || strlen(receipt) != 64)
		return false;
	if (message == NULL)
		return true;
	message_free(message);
	memmove(&queue->at[at], &queue->at[at + 1], (--queue->count - at) * sizeof(void *));
	return true;
}

static void
delete_batch(Call *call, List *queue)
{
	const json_t *entries = json_object_get(call->body, "Entries");
	json_t *done = json_array();
	json_t *failed = json_array();
	json_t *seen = json_object();
	size_t i;
	json_t *entry;

	if (json_array_size(entries) == 0 || json_array_size(entries) > 10)
		refuse_violation(call, "TooManyEntriesInBatchRequest", "A batch has 1 to 10 entries.");
	json_array_foreach(entries, i, entry)
	{
		const char *id = json_get_text(entry, "Id");

		if (call->status != 0)
			break;
		if (id == NULL || strlen(id) > 80 || json_object_get(seen, id) != NULL)
			refuse_violation(call, "BatchEntryIdsNotDistinct", "The ids of a batch are distinct, 1 to 80 characters.");
		else if (delete_one(queue, json_get_text(entry, "ReceiptHandle")))
			json_array_append_new(done, json_pack("{s:s}", "Id", id));
		else
			json_array_append_new(failed, json_pack("{s:s, s:b, s:s, s:s}", "Id", id, "SenderFault", true, "Code",
													"ReceiptHandleIsInvalid", "Message", "The receipt is not valid."));
		if (id != NULL)
			json_object_set_new(seen, id, json_true());
	}
	json_decref(seen);
	if (call->status == 0)
		call_answer(call, 200, json_pack("{s:O, s:O}", "Successful", done, "Failed", failed));
	json_decref(done);
	json_decref(failed);
}

static void
change_visibility(Call *call, const List *queue)
{
	size_t at;
	Message *message = message_by_receipt(queue, json_get_text(call->body, "ReceiptHandle"), &at);

	if (message == NULL)
	{
		refuse(call, "ReceiptHandleIsInvalid", "The receipt is not valid.");
		return;
	}
	message->visible = clock_now() + json_get_int(call->body, "VisibilityTimeout", 30) * SECOND;
	call_answer(call, 200, json_object());
}

void
sqs_run(Call *call)
{
	const char *target = call_header(call, "x-amz-target");
	List *queue;

	if (target == NULL || !starts_with(target, "AmazonSQS."))
	{
		refuse_violation(call, "InvalidAction", "The X-Amz-Target header is AmazonSQS and an action.");
		return;
	}
	if (call->body == NULL && call->input_length > 0)
		call->body = json_loadb(call->input, call->input_length, 0, NULL);
	queue = signature_has_form(call) ? queue_of_body(call) : NULL;
	if (queue == NULL)
		return;
	target += strlen("AmazonSQS.");
	if (strcmp(target, "ReceiveMessage") == 0)
		receive(call, queue);
	else if (strcmp(target, "DeleteMessageBatch") == 0)
		delete_batch(call, queue);
	else if (strcmp(target, "ChangeMessageVisibility") == 0)
		change_visibility(call, queue);
	else if (strcmp(target, "DeleteMessage") == 0 && delete_one(queue, json_get_text(call->body, "ReceiptHandle")))
		call_answer(call, 200, json_object());
	else
		refuse_violation(call, "InvalidAction", "The action is not known, or its receipt is not valid.");
}
