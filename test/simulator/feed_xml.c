/*
 * feed_xml.c: feeds about orders: POST_ORDER_ACKNOWLEDGEMENT_DATA, POST_ORDER_FULFILLMENT_DATA and
 * POST_PAYMENT_ADJUSTMENT_DATA. Envelope and messages are judged by the sequences of Amazon's schemas; a document that does
 * not keep to them ends FATAL as a whole. What a message does is in order_feed.c; the processing report tells which were
 * refused.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct
{
	const char *type;
	const char *message;
	const char *sequence; /* of the element in a message */
	OrderMessage work;
} kinds[] = {
	{"POST_ORDER_ACKNOWLEDGEMENT_DATA", "OrderAcknowledgement", "AmazonOrderID,MerchantOrderID?,StatusCode,Item*",
	 order_acknowledge},
	{"POST_ORDER_FULFILLMENT_DATA", "OrderFulfillment", "AmazonOrderID,FulfillmentDate,FulfillmentData?,Item*",
	 order_fulfill},
	{"POST_PAYMENT_ADJUSTMENT_DATA", "OrderAdjustment", "AmazonOrderID,ActionType?,AdjustedItem+", order_adjust},
};

bool
feed_is_xml(const char *type)
{
	for (size_t i = 0; i < lengthof(kinds); i++)
		if (strcmp(kinds[i].type, type) == 0)
			return true;
	return false;
}

static void
write_result(FILE *out, const char *id, const char *code, const char *text)
{
	char *escaped = xml_escape(text);

	fprintf(out,
			"<Result><MessageID>%s</MessageID><ResultCode>Error</ResultCode><ResultMessageCode>%s</ResultMessageCode>"
			"<ResultDescription>%s</ResultDescription></Result>",
			id, code, escaped);
	free(escaped);
}

/* The processing report; results are its Result elements. */
static void
finish(Job *job, const char *status, int processed, int failed, const char *results)
{
	char *text =
		xprintf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<AmazonEnvelope xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" "
				"xsi:noNamespaceSchemaLocation=\"amzn-envelope.xsd\"><Header><DocumentVersion>1.02</DocumentVersion>"
				"<MerchantIdentifier>%s</MerchantIdentifier></Header><MessageType>ProcessingReport</MessageType><Message>"
				"<MessageID>1</MessageID><ProcessingReport><DocumentTransactionID>%s</DocumentTransactionID>"
				"<StatusCode>Complete</StatusCode><ProcessingSummary><MessagesProcessed>%d</MessagesProcessed>"
				"<MessagesSuccessful>%d</MessagesSuccessful><MessagesWithError>%d</MessagesWithError>"
				"<MessagesWithWarning>0</MessagesWithWarning></ProcessingSummary>%s</ProcessingReport></Message></AmazonEnvelope>\n",
				job->seller->id, job->id, processed, processed - failed, failed, results);

	job->result = document_new(job->seller, "feed", "text/xml; charset=UTF-8");
	document_fill(job->result, text, strlen(text), true);
	job_end(job, status);
}

/* The end of a feed of one message, which was taken (code NULL) or refused. */
void
feed_xml_end(Job *job, const char *code, const char *why)
{
	char *results = NULL;
	size_t length;
	FILE *out = open_memstream(&results, &length);

	if (code != NULL)
		write_result(out, "1", code, why);
	fclose(out);
	finish(job, "DONE", 1, code != NULL, results);
	free(results);
}

static void
refuse_feed(Job *job, const char *code, const char *why)
{
	char *results = NULL;
	size_t length;
	FILE *out = open_memstream(&results, &length);

	write_result(out, "0", code, why);
	fclose(out);
	finish(job, "FATAL", 0, 0, results);
	free(results);
}

/* Ids are there, positive and different. */
static const char *
ids_problem(const json_t *messages)
{
	json_t *seen = json_object();
	const char *problem = NULL;
	size_t i;
	json_t *message;

	json_array_foreach(messages, i, message)
	{
		const char *id = xml_text(message, "MessageID");

		if (id == NULL || *id == '\0' || strspn(id, "0123456789") != strlen(id) || strtoll(id, NULL, 10) < 1)
			problem = "A MessageID is missing or no positive number.";
		else if (json_object_get(seen, id) != NULL)
			problem = "A MessageID appears twice.";
		else
			json_object_set_new(seen, id, json_true());
	}
	json_decref(seen);
	return problem;
}

/* The messages of a document, with what is wrong with it, or NULL. */
static const char *
envelope_problem(const Job *job, const json_t *root, size_t kind, json_t *messages)
{
	const json_t *header = xml_child(root, "Header");
	char *sequence = xprintf("MessageID,%s", kinds[kind].message);
	const char *problem = NULL;
	size_t i;
	json_t *child;

	if (root == NULL || strcmp(json_get_text(root, "name"), "AmazonEnvelope") != 0)
		problem = "The document is no AmazonEnvelope.";
	else if (!xml_has_sequence(root, "Header,MessageType,Message+"))
		problem = "The envelope has a Header, a MessageType and Messages.";
	else if (!xml_has_sequence(header, "DocumentVersion,MerchantIdentifier") ||
			 strcmp(xml_text(header, "DocumentVersion"), "1.01") != 0)
		problem = "The Header has DocumentVersion 1.01 and a MerchantIdentifier.";
	else if (strcmp(xml_text(header, "MerchantIdentifier"), job->seller->id) != 0)
		problem = "The MerchantIdentifier is not the seller of the feed.";
	else if (strcmp(xml_text(root, "MessageType"), kinds[kind].message) != 0)
		problem = "The MessageType is not that of the feed.";
	json_array_foreach(json_object_get(root, "children"), i, child)
	{
		if (problem != NULL || strcmp(json_get_text(child, "name"), "Message") != 0)
			continue;
		if (!xml_has_sequence(child, sequence))
			problem = "A Message has a MessageID and what the MessageType says.";
		else if (!xml_has_sequence(xml_child(child, kinds[kind].message), kinds[kind].sequence))
			problem = "The elements of a message are not those of its schema, in their order.";
		json_array_append(messages, child);
	}
	free(sequence);
	return problem != NULL ? problem : ids_problem(messages);
}

static void
process(Job *job, size_t kind, const json_t *messages)
{
	char *results = NULL;
	size_t length;
	FILE *out = open_memstream(&results, &length);
	int failed = 0;
	size_t i;
	json_t *message;

	json_array_foreach(messages, i, message)
	{
		const json_t *body = xml_child(message, kinds[kind].message);
		Order *order = order_find(xml_text(body, "AmazonOrderID"));
		const char *code = "18004";
		char *problem = NULL;

		if (order == NULL || order->seller != job->seller)
			problem = xprintf("There is no order %s.", xml_text(body, "AmazonOrderID"));
		else
			problem = kinds[kind].work(order, body, &code);
		if (problem == NULL)
			continue;
		failed++;
		write_result(out, xml_text(message, "MessageID"), code, problem);
		free(problem);
	}
	fclose(out);
	finish(job, "DONE", (int) json_array_size(messages), failed, results);
	free(results);
}

void
feed_xml_process(Job *job)
{
	json_t *root = xml_parse(job->input->bytes, job->input->length);
	json_t *messages = json_array();
	const char *problem;
	size_t kind = 0;

	while (strcmp(kinds[kind].type, job->type) != 0)
		kind++;
	problem = envelope_problem(job, root, kind, messages);
	if (problem != NULL)
	{
		stats_note_violation(job->type, problem);
		refuse_feed(job, "6001", problem);
	}
	else
		process(job, kind, messages);
	json_decref(messages);
	json_decref(root);
}
