/*
 * notifications.c: the Notifications API v1: destinations of an application, subscriptions of a seller.
 *
 * Both are kept as the JSON that the API shows, with the client id beside it. What is sent is in notify.c.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TYPES                                                                                                          \
	"ACCOUNT_STATUS_CHANGED,ANY_OFFER_CHANGED,B2B_ANY_OFFER_CHANGED,BRANDED_ITEM_CONTENT_CHANGE,"                      \
	"FBA_INVENTORY_AVAILABILITY_CHANGES,FBA_OUTBOUND_SHIPMENT_STATUS,FEED_PROCESSING_FINISHED,"                        \
	"FULFILLMENT_ORDER_STATUS,ITEM_PRODUCT_TYPE_CHANGE,LISTINGS_ITEM_ISSUES_CHANGE,LISTINGS_ITEM_MFN_QUANTITY_CHANGE," \
	"LISTINGS_ITEM_STATUS_CHANGE,ORDER_CHANGE,PRICING_HEALTH,PRODUCT_TYPE_DEFINITIONS_CHANGE,"                         \
	"REPORT_PROCESSING_FINISHED,TRANSACTION_UPDATE"
#define BRIDGE_ONLY                                                                                                    \
	"BRANDED_ITEM_CONTENT_CHANGE,ITEM_PRODUCT_TYPE_CHANGE,LISTINGS_ITEM_ISSUES_CHANGE,"                                \
	"LISTINGS_ITEM_MFN_QUANTITY_CHANGE,LISTINGS_ITEM_STATUS_CHANGE,PRODUCT_TYPE_DEFINITIONS_CHANGE"

static json_t *destinations;

void
notifications_reset(void)
{
	json_decref(destinations);
	destinations = json_array();
}

/* What the API shows of an entry: everything but whose it is. */
static json_t *
shown(const json_t *entry)
{
	json_t *copy = json_copy((json_t *) entry);

	json_object_del(copy, "client");
	json_object_del(copy, "type");
	return copy;
}

static void
answer_payload(Call *call, json_t *payload)
{
	call_answer(call, 200, json_pack("{s:o}", "payload", payload));
}

static bool
is(const json_t *entry, const char *key, const char *value)
{
	return strcmp(json_get_text(entry, key), value) == 0;
}

static json_t *
destination_find(const Call *call, const char *key, const char *value)
{
	size_t i;
	json_t *entry;

	json_array_foreach(destinations, i, entry)
	{
		if (is(entry, key, value) && is(entry, "client", call->application->client_id))
			return entry;
	}
	return NULL;
}

const json_t *
destination_by_id(const char *id)
{
	size_t i;
	json_t *entry;

	json_array_foreach(destinations, i, entry)
	{
		if (is(entry, "destinationId", id))
			return entry;
	}
	return NULL;
}

static bool
destination_allowed(Call *call)
{
	static const Field request[] = {
		{"name", JSON_STRING, true, NULL},
		{"resourceSpecification", JSON_OBJECT, true, NULL},
	};
	static const Field resource[] = {
		{"sqs", JSON_OBJECT, false, NULL},
		{"eventBridge", JSON_OBJECT, false, NULL},
	};
	static const Field sqs[] = {{"arn", JSON_STRING, true, NULL}};
	static const Field bridge[] = {{"region", JSON_STRING, true, NULL}, {"accountId", JSON_STRING, true, NULL}};
	const json_t *specification = json_object_get(call->body, "resourceSpecification");
	const json_t *queue = json_object_get(specification, "sqs");
	const json_t *bus = json_object_get(specification, "eventBridge");

	if (!validate_object(call, call->body, "body", request, lengthof(request)) ||
		!validate_object(call, specification, "resourceSpecification", resource, lengthof(resource)) ||
		(queue != NULL && !validate_object(call, queue, "sqs", sqs, lengthof(sqs))) ||
		(bus != NULL && !validate_object(call, bus, "eventBridge", bridge, lengthof(bridge))))
		return false;
	if ((queue == NULL) == (bus == NULL))
		call_violation(call, 400, "InvalidInput", "Exactly one of sqs and eventBridge is required.");
	else if (queue != NULL && (!starts_with(json_get_text(queue, "arn"), "arn:aws:sqs:") ||
							   ends_with(json_get_text(queue, "arn"), ".fifo")))
		call_violation(call, 400, "InvalidInput", "arn is not the ARN of a standard queue.");
	else if (*json_get_text(call->body, "name") == '\0' || strlen(json_get_text(call->body, "name")) > 256)
		call_violation(call, 400, "InvalidInput", "name has 1 to 256 characters.");
	else if (destination_find(call, "name", json_get_text(call->body, "name")) != NULL)
		call_fail(call, 409, "Conflict", "A destination of this name exists.");
	return call->status == 0;
}

void
destination_create(Call *call)
{
	const json_t *specification = json_object_get(call->body, "resourceSpecification");
	json_t *resource = json_deep_copy(specification);
	json_t *entry;
	char id[37];

	if (!destination_allowed(call))
	{
		json_decref(resource);
		return;
	}
	uuid_text(id);
	if (json_object_get(resource, "sqs") != NULL)
		queue_open(json_get_text(json_object_get(resource, "sqs"), "arn"));
	else
		json_object_set_new(json_object_get(resource, "eventBridge"), "name",
							json_text("aws.partner/sellingpartnerapi.example.invalid/%s", id));
	entry = json_pack("{s:s, s:s, s:o, s:s}", "name", json_get_text(call->body, "name"), "destinationId", id,
					  "resource", resource, "client", call->application->client_id);
	json_array_append_new(destinations, entry);
	answer_payload(call, shown(entry));
}

void
destinations_get(Call *call)
{
	json_t *list = json_array();
	size_t i;
	json_t *entry;

	json_array_foreach(destinations, i, entry)
	{
		if (is(entry, "client", call->application->client_id))
			json_array_append_new(list, shown(entry));
	}
	answer_payload(call, list);
}

void
destination_get(Call *call)
{
	const json_t *entry = destination_find(call, "destinationId", call->argument[0]);

	if (entry == NULL)
		call_fail(call, 404, "NotFound", "There is no destination '%s'.", call->argument[0]);
	else
		answer_payload(call, shown(entry));
}

/* Looks through every seller's subscriptions. */
typedef struct Wanted
{
	const char *key;
	const char *value;
	const char *client;
	json_t *found;
	json_t *list; /* that holds it */
	size_t at;
} Wanted;

static bool
look_at_seller(const char *id, void *value, void *arg)
{
	const Seller *seller = value;
	Wanted *wanted = arg;
	size_t i;
	json_t *entry;

	(void) id;
	json_array_foreach(seller->subscriptions, i, entry)
	{
		if (!is(entry, wanted->key, wanted->value) || !is(entry, "client", wanted->client))
			continue;
		wanted->found = entry;
		wanted->list = seller->subscriptions;
		wanted->at = i;
		return false;
	}
	return true;
}

static Wanted
subscription_find(const Call *call, const char *key, const char *value)
{
	Wanted wanted = {.key = key, .value = value, .client = call->application->client_id};

	sellers_each(look_at_seller, &wanted);
	return wanted;
}

void
destination_delete(Call *call)
{
	size_t i;
	json_t *entry;

	if (destination_find(call, "destinationId", call->argument[0]) == NULL)
		call_fail(call, 404, "NotFound", "There is no destination '%s'.", call->argument[0]);
	else if (subscription_find(call, "destinationId", call->argument[0]).found != NULL)
		call_fail(call, 409, "Conflict", "The destination has subscriptions.");
	if (call->status != 0)
		return;
	json_array_foreach(destinations, i, entry)
	{
		if (is(entry, "destinationId", call->argument[0]))
			break;
	}
	json_array_remove(destinations, i);
	call_answer(call, 200, json_object());
}

static json_t *
own_subscription(const Call *call, const char *type)
{
	size_t i;
	json_t *entry;

	json_array_foreach(call->seller->subscriptions, i, entry)
	{
		if (is(entry, "type", type) && is(entry, "client", call->application->client_id))
			return entry;
	}
	return NULL;
}

static bool
directive_allowed(Call *call, const json_t *directive)
{
	static const Field fields[] = {
		{"eventFilter", JSON_OBJECT, false, NULL},
		{"filterExpression", JSON_STRING, false, NULL},
	};
	const char *expression = json_get_text(directive, "filterExpression");
	const json_t *filter = json_object_get(directive, "eventFilter");

	if (directive == NULL)
		return true;
	if (!validate_object(call, directive, "processingDirective", fields, lengthof(fields)))
		return false;
	if ((filter == NULL) == (expression == NULL))
		call_violation(call, 400, "InvalidInput", "Exactly one of eventFilter and filterExpression is required.");
	else if (expression != NULL && (*expression == '\0' || strlen(expression) > 256))
		call_violation(call, 400, "InvalidInput", "filterExpression has 1 to 256 characters.");
	else if (filter != NULL && json_get_text(filter, "eventFilterType") == NULL)
		call_violation(call, 400, "InvalidInput", "eventFilter.eventFilterType is required.");
	return call->status == 0;
}

static bool
subscription_allowed(Call *call)
{
	static const Field fields[] = {
		{"payloadVersion", JSON_STRING, true, NULL},
		{"destinationId", JSON_STRING, true, NULL},
		{"processingDirective", JSON_OBJECT, false, NULL},
	};
	const char *type = call->argument[0];
	const json_t *destination;

	if (!text_is_one_of(type, TYPES))
		call_violation(call, 400, "InvalidInput", "'%s' is not a notification type.", type);
	else if (validate_object(call, call->body, "body", fields, lengthof(fields)) &&
			 directive_allowed(call, json_object_get(call->body, "processingDirective")))
	{
		destination = destination_find(call, "destinationId", json_get_text(call->body, "destinationId"));
		if (destination == NULL)
			call_fail(call, 404, "NotFound", "There is no such destination.");
		else if (own_subscription(call, type) != NULL)
			call_fail(call, 409, "Conflict", "A subscription to this type exists.");
		else if (text_is_one_of(type, BRIDGE_ONLY) &&
				 json_object_get(json_object_get(destination, "resource"), "eventBridge") == NULL)
			call_fail(call, 400, "InvalidInput", "This type can be delivered by EventBridge only.");
	}
	return call->status == 0;
}

void
subscription_create(Call *call)
{
	json_t *entry;
	char id[37];

	if (!subscription_allowed(call))
		return;
	uuid_text(id);
	entry = json_deep_copy(call->body);
	json_object_set_new(entry, "subscriptionId", json_string(id));
	json_object_set_new(entry, "type", json_string(call->argument[0]));
	json_object_set_new(entry, "client", json_string(call->application->client_id));
	json_array_append_new(call->seller->subscriptions, entry);
	answer_payload(call, shown(entry));
}

void
subscription_get(Call *call)
{
	const json_t *entry = own_subscription(call, call->argument[0]);

	if (entry == NULL)
		call_fail(call, 404, "NotFound", "There is no subscription to '%s'.", call->argument[0]);
	else
		answer_payload(call, shown(entry));
}

void
subscriptions_get(Call *call)
{
	const char *type = json_string_value(json_array_get(json_object_get(call->query, "notificationTypes"), 0));
	const json_t *entry = own_subscription(call, type);
	json_t *list = json_array();

	if (entry != NULL)
		json_array_append_new(list, shown(entry));
	answer_payload(call, json_pack("{s:o}", "subscriptions", list));
}

void
subscription_get_by_id(Call *call)
{
	Wanted wanted = subscription_find(call, "subscriptionId", call->argument[1]);

	if (wanted.found == NULL || !is(wanted.found, "type", call->argument[0]))
		call_fail(call, 404, "NotFound", "There is no subscription '%s'.", call->argument[1]);
	else
		answer_payload(call, shown(wanted.found));
}

void
subscription_delete(Call *call)
{
	Wanted wanted = subscription_find(call, "subscriptionId", call->argument[1]);

	if (wanted.found == NULL || !is(wanted.found, "type", call->argument[0]))
	{
		call_fail(call, 404, "NotFound", "There is no subscription '%s'.", call->argument[1]);
		return;
	}
	json_array_remove(wanted.list, wanted.at);
	call_answer(call, 200, json_object());
}
