/*
 * feeds.c: the operations of the Feeds API 2021-06-30. What a feed does is in feed_process.c.
 */
#include "sim.h"

#include <stdio.h>
#include <string.h>

#define DOCUMENT_LIFETIME (48 * HOUR)
#define GONE_TYPES                                                                                                     \
	"POST_PRODUCT_DATA,POST_INVENTORY_AVAILABILITY_DATA,POST_PRODUCT_OVERRIDES_DATA,POST_PRODUCT_PRICING_DATA,"        \
	"POST_PRODUCT_IMAGE_DATA,POST_PRODUCT_RELATIONSHIP_DATA,POST_FLAT_FILE_INVLOADER_DATA,"                            \
	"POST_FLAT_FILE_LISTINGS_DATA,POST_FLAT_FILE_BOOKLOADER_DATA,POST_FLAT_FILE_CONVERGENCE_LISTINGS_DATA,"            \
	"POST_FLAT_FILE_PRICEANDQUANTITYONLY_UPDATE_DATA,POST_UIEE_BOOKLOADER_DATA"

/* POST /feeds/2021-06-30/documents */
void
feed_document_create(Call *call)
{
	static const Field fields[] = {{"contentType", JSON_STRING, true, NULL}};
	Document *document;

	if (!validate_object(call, call->body, "body", fields, lengthof(fields)))
		return;
	document = document_new(call->seller, "feed", json_get_text(call->body, "contentType"));
	call_answer(call, 201,
				json_pack("{s:s, s:o}", "feedDocumentId", document->id, "url", document_url(document, URL_LIFETIME)));
}

/*
 * JSON_LISTINGS_FEED has a plan of its own, five in five minutes, in place of the operation's; UPLOAD_VAT_INVOICE one of
 * one in three seconds beside it.
 */
static bool
take_plan(Call *call, const char *type)
{
	char key[300];

	if (strcmp(type, "UPLOAD_VAT_INVOICE") == 0)
	{
		snprintf(key, sizeof(key), "UPLOAD_VAT_INVOICE|%s", call->seller->id);
		return rate_take_named(call, key, 1.0 / 3, 1, "You exceeded your quota for invoices.") && rate_take(call);
	}
	if (strcmp(type, "JSON_LISTINGS_FEED") != 0)
		return rate_take(call);
	snprintf(key, sizeof(key), "JSON_LISTINGS_FEED|%s", call->seller->id);
	return rate_take_named(call, key, 5.0 / 300, 5, "You exceeded your quota for JSON_LISTINGS_FEED submissions.");
}

static bool
create_allowed(Call *call)
{
	static const Field fields[] = {
		{"feedType", JSON_STRING, true, NULL},
		{"marketplaceIds", JSON_ARRAY, true, NULL},
		{"inputFeedDocumentId", JSON_STRING, true, NULL},
		{"feedOptions", JSON_OBJECT, false, NULL},
	};
	const json_t *markets = json_object_get(call->body, "marketplaceIds");
	const Document *document;

	if (!validate_object(call, call->body, "body", fields, lengthof(fields)) ||
		!take_plan(call, json_get_text(call->body, "feedType")))
		return false;
	document = document_find(call->seller, json_get_text(call->body, "inputFeedDocumentId"));
	if (json_array_size(markets) == 0 || json_array_size(markets) > 25)
		call_violation(call, 400, "InvalidInput", "marketplaceIds has 1 to 25 entries.");
	else if (strcmp(json_get_text(call->body, "feedType"), "JSON_LISTINGS_FEED") == 0 && json_array_size(markets) > 1)
		call_violation(call, 400, "InvalidInput", "A JSON_LISTINGS_FEED is for one marketplace.");
	else if (document == NULL || document->created + DOCUMENT_LIFETIME < clock_now())
		call_fail(call, 400, "InvalidInput", "inputFeedDocumentId names no document, or it has expired.");
	return call->status == 0 && validate_markets(call, markets);
}

/* Types that are gone end FATAL; what the simulator does not process, or nobody uploaded, Amazon would cancel. */
static void
work(Job *job)
{
	if (text_is_one_of(job->type, GONE_TYPES))
		job_end(job, "FATAL");
	else if (job->input->bytes == NULL || job->input->length == 0)
		job_end(job, "CANCELLED");
	else if (feed_is_xml(job->type))
		feed_xml_process(job);
	else if (strcmp(job->type, "UPLOAD_VAT_INVOICE") == 0)
		feed_invoice_process(job);
	else if (strcmp(job->type, "JSON_LISTINGS_FEED") == 0)
		feed_process(job);
	else
		job_end(job, "CANCELLED");
}

/* POST /feeds/2021-06-30/feeds */
void
feed_create(Call *call)
{
	Job *job;

	if (!create_allowed(call))
		return;
	job = job_new(call->seller, true, json_get_text(call->body, "feedType"), work);
	job->market_ids = json_deep_copy(json_object_get(call->body, "marketplaceIds"));
	job->options = json_deep_copy(json_object_get(call->body, "feedOptions"));
	job->input = document_find(call->seller, json_get_text(call->body, "inputFeedDocumentId"));
	if (call->fault != NULL && call->fault->kind == FAULT_FEED_CANCELLED)
		job->fate = "CANCELLED";
	if (call->fault != NULL && call->fault->kind == FAULT_FEED_FATAL)
		job->fate = "FATAL";
	call_answer(call, 202, json_pack("{s:s}", "feedId", job->id));
}

void
feed_get(Call *call)
{
	const Job *job = job_of_call(call, true);

	if (job != NULL)
		call_answer(call, 200, job_json(job));
}

void
feeds_get(Call *call)
{
	job_list(call, true);
}

void
feed_cancel(Call *call)
{
	job_cancel(call, true);
}

void
feed_document_get(Call *call)
{
	Document *document = document_find(call->seller, call->argument[0]);

	if (document == NULL)
		call_fail(call, 404, "NotFound", "There is no feed document '%s'.", call->argument[0]);
	else
		call_answer(call, 200, document_json(call, document, "feedDocumentId"));
}
