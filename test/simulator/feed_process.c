/*
 * feed_process.c: what a JSON_LISTINGS_FEED does: each message becomes a submission, as if it had been put or patched,
 * and the processing report tells which were refused. A document that is not of the published form is refused whole.
 *
 * A feed is worked through in portions, so that a large one does not hold up everybody else.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_MESSAGES 25000
#define PORTION       250

/* One line of the report; id 0 concerns the whole feed. */
static json_t *
report_issue(int64_t id, const char *sku, const char *code, const char *severity, const char *message, const char *attribute)
{
	json_t *issue = json_pack("{s:s, s:s, s:s, s:s*, s:s*}", "code", code, "severity", severity, "message", message,
							  "sku", sku, "attributeName", attribute);

	if (id > 0)
		json_object_set_new(issue, "messageId", json_integer(id));
	return issue;
}

static void
count_up(json_t *work, const char *name)
{
	json_object_set_new(work, name, json_integer(json_get_int(work, name, 0) + 1));
}

/* The items that the header asked for, as getListingsItem shows them now. */
static void
add_items(const Job *job, json_t *report)
{
	const json_t *wanted = json_object_get(job->work, "report");
	json_t *items = json_array();
	int64_t errors = 0;
	int64_t warnings = 0;
	size_t i;
	json_t *message;

	if (wanted == NULL)
	{
		json_decref(items);
		return;
	}
	json_array_foreach(json_object_get(job->work, "messages"), i, message)
	{
		const char *sku = json_get_text(message, "sku");
		const Item *item = sku == NULL ? NULL : item_find(job->seller, sku);
		json_t *shown = item == NULL ? NULL : item_json(item, job->market_ids, json_object_get(wanted, "includedData"));

		if (shown == NULL)
			continue;
		if (issues_have_error(json_object_get(shown, "issues")))
			errors++;
		else if (json_array_size(json_object_get(shown, "issues")) > 0)
			warnings++;
		json_array_append_new(items, shown);
	}
	json_object_set_new(json_object_get(report, "summary"), "itemSummary",
						json_pack("{s:I, s:I, s:I}", "items", (json_int_t) json_array_size(items), "errors",
								  (json_int_t) errors, "warnings", (json_int_t) warnings));
	json_object_set(json_object_get(report, "header"), "report", (json_t *) wanted);
	json_object_set_new(report, "items", items);
}

static void
finish(Job *job, const char *status)
{
	int64_t processed = json_get_int(job->work, "processed", 0);
	int64_t invalid = json_get_int(job->work, "invalid", 0);
	json_t *report =
		json_pack("{s:{s:s, s:s, s:s}, s:O, s:{s:I, s:I, s:I, s:I, s:I}}", "header", "sellerId", job->seller->id,
				  "version", "2.0", "feedId", job->id, "issues", json_object_get(job->work, "issues"), "summary",
				  "errors", (json_int_t) json_get_int(job->work, "errors", 0), "warnings",
				  (json_int_t) json_get_int(job->work, "warnings", 0), "messagesProcessed", (json_int_t) processed,
				  "messagesAccepted", (json_int_t) (processed - invalid), "messagesInvalid", (json_int_t) invalid);
	char *text;

	add_items(job, report);
	text = json_dumps(report, JSON_COMPACT | JSON_REAL_PRECISION(15));
	job->result = document_new(job->seller, "feed", "application/json; charset=UTF-8");
	document_fill(job->result, text, strlen(text), true);
	json_decref(report);
	job_end(job, status);
}

static void
take_issue(Job *job, json_t *issue)
{
	count_up(job->work, strcmp(json_get_text(issue, "severity"), "ERROR") == 0 ? "errors" : "warnings");
	json_array_append_new(json_object_get(job->work, "issues"), issue);
}

static void
refuse_feed(Job *job, const char *why)
{
	stats_note_violation(job->type, why);
	take_issue(job, report_issue(0, NULL, "4002008", "ERROR", why, NULL));
	finish(job, "FATAL");
}

/* A partial update is a replace of each attribute. */
static json_t *
patches_of_attributes(const json_t *attributes)
{
	json_t *patches = json_array();
	const char *name;
	json_t *value;

	json_object_foreach((json_t *) attributes, name, value)
	{
		json_array_append_new(patches, json_pack("{s:s, s:o, s:O}", "op", "replace", "path",
												 json_text("/attributes/%s", name), "value", value));
	}
	return patches;
}

/* Does an object have only members of this list? */
static bool
has_only(const json_t *object, const char *names)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *) object, name, value)
	{
		if (!text_is_one_of(name, names))
			return false;
	}
	return true;
}

/* As strict as listing_patch(): what a call would be refused for must not pass in a feed. */
static bool
patches_have_form(const json_t *patches)
{
	size_t i;
	json_t *patch;

	json_array_foreach(patches, i, patch)
	{
		const char *op = json_get_text(patch, "op");
		const char *path = json_get_text(patch, "path");

		if (op == NULL || !text_is_one_of(op, "add,replace,merge,delete") || path == NULL ||
			!starts_with(path, "/attributes/") || path[12] == '\0' || strchr(path + 12, '/') != NULL ||
			!json_is_array(json_object_get(patch, "value")) || !has_only(patch, "op,path,value"))
			return false;
	}
	return json_array_size(patches) > 0;
}

/* What is wrong with the form of a message, or NULL. */
static const char *
message_problem(const json_t *message)
{
	const char *type = json_get_text(message, "operationType");
	const char *requirements = json_get_text(message, "requirements");
	const json_t *attributes = json_object_get(message, "attributes");
	const json_t *patches = json_object_get(message, "patches");

	if (json_get_text(message, "sku") == NULL || *json_get_text(message, "sku") == '\0')
		return "sku is required.";
	if (type == NULL || !text_is_one_of(type, "UPDATE,PARTIAL_UPDATE,PATCH,DELETE"))
		return "operationType is UPDATE, PARTIAL_UPDATE, PATCH or DELETE.";
	if (strcmp(type, "DELETE") == 0)
		return json_object_size(message) == 3 ? NULL : "DELETE allows nothing else.";
	if (!has_only(message, "messageId,sku,operationType,productType,requirements,attributes,patches"))
		return "The message has an unknown member.";
	if (json_get_text(message, "productType") == NULL || *json_get_text(message, "productType") == '\0')
		return "productType is required.";
	if (requirements != NULL &&
		(strcmp(type, "UPDATE") != 0 || !text_is_one_of(requirements, "LISTING,LISTING_PRODUCT_ONLY,LISTING_OFFER_ONLY")))
		return "requirements belong to UPDATE and have three values.";
	if (strcmp(type, "PATCH") == 0)
		return attributes == NULL && patches_have_form(patches) ? NULL : "patches are missing or malformed.";
	return json_object_size(attributes) > 0 && patches == NULL ? NULL : "attributes are required.";
}

static json_t *
submit(Job *job, const json_t *message)
{
	const char *type = json_get_text(message, "operationType");
	Submission submission = {.seller = job->seller,
							 .sku = json_get_text(message, "sku"),
							 .market_ids = job->market_ids,
							 .product_type = json_get_text(message, "productType"),
							 .sent = job->sent,
							 .feed_id = job->id};
	json_t *made = NULL;
	Item *item = item_find(job->seller, submission.sku);
	json_t *issues;

	if (strcmp(type, "DELETE") == 0)
	{
		if (item != NULL)
			verdict_schedule_delete(item, marketplace_by_id(json_string_value(json_array_get(job->market_ids, 0))));
		return json_array();
	}
	if (strcmp(type, "UPDATE") == 0)
	{
		submission.requirements = json_get_text(message, "requirements");
		submission.requirements = submission.requirements == NULL ? "LISTING" : submission.requirements;
		submission.attributes = json_object_get(message, "attributes");
	}
	else if (strcmp(type, "PATCH") == 0)
		submission.patches = json_object_get(message, "patches");
	else
		submission.patches = made = patches_of_attributes(json_object_get(message, "attributes"));
	issues = submission_apply(&submission, &item);
	json_decref(made);
	return issues;
}

static void
process_message(Job *job, const json_t *message)
{
	int64_t id = json_get_int(message, "messageId", 0);
	const char *sku = json_get_text(message, "sku");
	const char *problem = message_problem(message);
	json_t *issues;
	size_t i;
	json_t *issue;

	count_up(job->work, "processed");
	if (problem != NULL)
	{
		stats_note_violation(job->type, problem);
		count_up(job->work, "invalid");
		take_issue(job, report_issue(id, sku, "4002008", "ERROR", problem, NULL));
		return;
	}
	issues = submit(job, message);
	if (issues_have_error(issues))
		count_up(job->work, "invalid");
	json_array_foreach(issues, i, issue)
	{
		take_issue(job, report_issue(id, sku, json_get_text(issue, "code"), json_get_text(issue, "severity"),
									 json_get_text(issue, "message"),
									 json_string_value(json_array_get(json_object_get(issue, "attributeNames"), 0))));
	}
	json_decref(issues);
}

/* When so many messages are worked through, at settings.feed_rate. */
static Micros
portion_due(const Job *job, size_t messages)
{
	if (settings.feed_rate <= 0)
		return clock_now();
	return job->started + (Micros) ((settings.verdict_delay + (double) messages / settings.feed_rate) * (double) SECOND);
}

static void
process_rest(void *subject, json_t *detail)
{
	(void) detail;
	finish(subject, "DONE");
}

static void
process_portion(void *subject, json_t *detail)
{
	Job *job = subject;
	json_t *messages = json_object_get(job->work, "messages");
	size_t first = (size_t) json_get_int(job->work, "processed", 0);

	(void) detail;
	for (size_t i = first; i < first + PORTION && i < json_array_size(messages); i++)
		process_message(job, json_array_get(messages, i));
	if (first + PORTION < json_array_size(messages))
		event_at(portion_due(job, first + PORTION), process_portion, job, NULL);
	else if (portion_due(job, json_array_size(messages)) > clock_now())
		event_at(portion_due(job, json_array_size(messages)), process_rest, job, NULL);
	else
		finish(job, "DONE");
}

/* Ids are there, positive and different; a SKU comes once. */
static const char *
messages_problem(const json_t *messages)
{
	json_t *seen = json_object();
	const char *problem = NULL;
	size_t i;
	json_t *message;

	json_array_foreach(messages, i, message)
	{
		char id[32];
		int64_t number = json_get_int(message, "messageId", 0);
		json_t *sku = json_text("sku %s", json_get_text(message, "sku") == NULL ? "" : json_get_text(message, "sku"));

		snprintf(id, sizeof(id), "id %lld", (long long) number);
		if (number < 1 || number > INT32_MAX)
			problem = "A messageId is missing or not between 1 and 2147483647.";
		else if (json_object_get(seen, id) != NULL)
			problem = "A messageId appears twice.";
		else if (json_object_get(seen, json_string_value(sku)) != NULL)
			problem = "A SKU appears twice.";
		json_object_set_new(seen, id, json_true());
		json_object_set_new(seen, json_string_value(sku), json_true());
		json_decref(sku);
	}
	json_decref(seen);
	return problem;
}

static const char *
document_problem(const Job *job, const json_t *document)
{
	const json_t *header = json_object_get(document, "header");
	const char *seller = json_get_text(header, "sellerId");
	const char *version = json_get_text(header, "version");
	const json_t *messages = json_object_get(document, "messages");

	if (document == NULL)
		return "The document is not JSON in UTF-8.";
	if (seller == NULL || strcmp(seller, job->seller->id) != 0)
		return "header.sellerId is not the seller of the feed.";
	if (version == NULL || strcmp(version, "2.0") != 0)
		return "header.version is 2.0.";
	if (json_object_get(header, "report") != NULL &&
		!json_is_array(json_object_get(json_object_get(header, "report"), "includedData")))
		return "header.report.includedData is an array.";
	if (!json_is_array(messages) || json_array_size(messages) == 0)
		return "messages is empty.";
	if (json_array_size(messages) > MOST_MESSAGES)
		return "feed messages list beyond allowed size";
	return messages_problem(messages);
}

void
feed_process(Job *job)
{
	json_t *document = json_loadb(job->input->bytes, job->input->length, 0, NULL);
	const char *problem = document_problem(job, document);

	job->work = json_pack("{s:[]}", "issues");
	if (problem != NULL)
		refuse_feed(job, problem);
	else
	{
		json_object_set(job->work, "messages", json_object_get(document, "messages"));
		if (json_object_get(json_object_get(document, "header"), "report") != NULL)
			json_object_set(job->work, "report", json_object_get(json_object_get(document, "header"), "report"));
		process_portion(job, NULL);
	}
	json_decref(document);
	free(job->input->bytes); /* it has been used up */
	job->input->bytes = NULL;
	job->input->length = 0;
}
