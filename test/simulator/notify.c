/*
 * notify.c: notifications that follow from what happens: orders, listings, feeds, reports. Each is put into the
 * queue of its subscription's destination; an EventBridge destination is a queue named eventbridge, its message the
 * event with the notification in "detail", as a rule that forwards to a queue would leave it.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

static void
deliver(const json_t *destination, const char *type, json_t *notification)
{
	const json_t *resource = json_object_get(destination, "resource");
	const json_t *bridge = json_object_get(resource, "eventBridge");
	json_t *message = json_incref(notification);
	json_t *arn = json_incref(json_object_get(json_object_get(resource, "sqs"), "arn"));
	char *text;

	if (bridge != NULL)
	{
		json_decref(message);
		arn = json_text("arn:aws:sqs:%s:%s:eventbridge", json_get_text(bridge, "region"),
						json_get_text(bridge, "accountId"));
		message = json_pack("{s:s, s:s, s:s, s:O}", "version", "0", "detail-type", type, "source",
							json_get_text(bridge, "name"), "detail", notification);
	}
	text = json_dumps(message, JSON_COMPACT);
	queue_send(json_string_value(arn), text);
	free(text);
	json_decref(message);
	json_decref(arn);
}

static json_t *
envelope(const json_t *subscription, const char *type, bool camel, json_t *payload)
{
	const char *client = json_get_text(subscription, "client");
	const char *id = json_get_text(subscription, "subscriptionId");
	const char *version = json_get_text(subscription, "payloadVersion");
	char notification[37];

	uuid_text(notification);
	if (strcmp(type, "LISTINGS_ITEM_STATUS_CHANGE") == 0)
		type = "LISTINGS_ITEM_STATUS_CHANGED"; /* the schema's spelling; the subscription's lacks the D */
	if (camel)
		return json_pack("{s:s, s:s, s:s, s:o, s:O, s:{s:s, s:s, s:o, s:s}}", "notificationVersion", version,
						 "notificationType", type, "payloadVersion", version, "eventTime", time_json(clock_now()),
						 "payload", payload, "notificationMetadata", "applicationId", client, "subscriptionId", id,
						 "publishTime", time_json(clock_now()), "notificationId", notification);
	return json_pack("{s:s, s:s, s:s, s:o, s:O, s:{s:s, s:s, s:o, s:s}}", "NotificationVersion", "1.0",
					 "NotificationType", type, "PayloadVersion", version, "EventTime", time_json(clock_now()),
					 "Payload", payload, "NotificationMetadata", "ApplicationId", client, "SubscriptionId", id,
					 "PublishTime", time_json(clock_now()), "NotificationId", notification);
}

static bool
filter_lets_pass(const json_t *subscription, const Marketplace *market)
{
	const json_t *filter = json_object_get(json_object_get(subscription, "processingDirective"), "eventFilter");
	const json_t *markets = json_object_get(filter, "marketplaceIds");

	return markets == NULL || market == NULL || json_array_has(markets, market->id);
}

/* Takes over payload. */
void
notify(const Seller *seller, const char *type, bool camel, const Marketplace *market, json_t *payload)
{
	size_t i;
	json_t *subscription;

	json_array_foreach(seller->subscriptions, i, subscription)
	{
		const json_t *destination = destination_by_id(json_get_text(subscription, "destinationId"));

		if (strcmp(json_get_text(subscription, "type"), type) == 0 && destination != NULL &&
			filter_lets_pass(subscription, market))
		{
			json_t *notification = envelope(subscription, type, camel, payload);

			deliver(destination, type, notification);
			json_decref(notification);
		}
	}
	json_decref(payload);
}

/* Notifications still use the words of Orders v0. */
static const char *
old_status(const char *status)
{
	static const char *const words[][2] = {
		{"PENDING_AVAILABILITY", "PendingAvailability"},
		{"PENDING", "Pending"},
		{"UNSHIPPED", "Unshipped"},
		{"PARTIALLY_SHIPPED", "PartiallyShipped"},
		{"SHIPPED", "Shipped"},
		{"CANCELLED", "Canceled"},
		{"UNFULFILLABLE", "Unfulfillable"},
	};

	for (size_t i = 0; i < lengthof(words); i++)
		if (strcmp(words[i][0], status) == 0)
			return words[i][1];
	return status;
}

static json_t *
order_summary(const Order *order)
{
	json_t *items = json_array();
	int64_t shipped = 0;
	int64_t open = 0;

	for (size_t i = 0; i < order->items.count; i++)
	{
		const OrderItem *item = order->items.at[i];

		shipped += item->shipped;
		open += item->ordered - item->shipped;
		json_array_append_new(items, json_pack("{s:s, s:s, s:s?, s:s, s:I, s:I, s:b}", "OrderItemId", item->id,
											   "SellerSKU", item->sku, "SupplySourceId", NULL, "OrderItemStatus",
											   old_status(order->status), "Quantity", (json_int_t) item->ordered,
											   "QuantityShipped", (json_int_t) item->shipped, "IsBuyerRequestedCancel",
											   item->cancel_request != NULL));
	}
	return json_pack("{s:s, s:s, s:o, s:s?, s:s, s:s, s:I, s:I, s:o}", "MarketplaceId", order->market->id,
					 "OrderStatus", old_status(order->status), "PurchaseDate", time_json(order->created),
					 "DestinationPostalCode", json_get_text(order->address, "postalCode"), "FulfillmentType",
					 order->fba ? "AFN" : "MFN", "OrderType", "StandardOrder", "NumberOfItemsShipped",
					 (json_int_t) shipped, "NumberOfItemsUnshipped", (json_int_t) open, "OrderItems", items);
}

void
notify_order(const Order *order, const char *change, const char *reason)
{
	if (json_array_size(order->seller->subscriptions) == 0)
		return;
	notify(order->seller, "ORDER_CHANGE", false, order->market,
		   json_pack("{s:{s:s, s:s, s:s, s:s, s:{s:o, s:s}, s:o}}", "OrderChangeNotification", "NotificationLevel",
					 "OrderLevel", "SellerId", order->seller->id, "AmazonOrderId", order->id, "OrderChangeType", change,
					 "OrderChangeTrigger", "TimeOfOrderChange", time_json(order->updated), "ChangeReason", reason,
					 "Summary", order_summary(order)));
}

void
notify_listing(const Item *item, const Offer *offer, bool deleted)
{
	json_t *severities;

	if (json_array_size(item->seller->subscriptions) == 0)
		return;
	notify(item->seller, "LISTINGS_ITEM_STATUS_CHANGE", false, offer->market,
		   json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "SellerId", item->seller->id, "MarketplaceId", offer->market->id,
					 "Asin", offer->asin, "Sku", item->sku, "CreatedDate", time_json(offer->created), "Status",
					 deleted ? json_pack("[s]", "DELETED") : item_status(item, offer)));
	severities = json_pack("[s]", issues_have_error(offer->issues)     ? "ERROR"
								  : json_array_size(offer->issues) > 0 ? "WARNING"
																	   : "NONE");
	notify(item->seller, "LISTINGS_ITEM_ISSUES_CHANGE", false, offer->market,
		   json_pack("{s:s, s:s, s:s, s:s, s:o, s:[]}", "SellerId", item->seller->id, "MarketplaceId", offer->market->id,
					 "Asin", offer->asin, "Sku", item->sku, "Severities", severities, "EnforcementActions"));
}

void
notify_job(const Job *job)
{
	json_t *inner;

	if (json_array_size(job->seller->subscriptions) == 0)
		return;
	inner = json_pack("{s:s, s:o, s:s, s:s, s:s}", "sellerId", job->seller->id, "accountId",
					  json_text("amzn1.merchant.o.%s", job->seller->id), job->feed ? "feedId" : "reportId", job->id,
					  job->feed ? "feedType" : "reportType", job->type, "processingStatus", job->status);
	if (job->result != NULL)
		json_object_set_new(inner, job->feed ? "resultFeedDocumentId" : "reportDocumentId", json_string(job->result->id));
	notify(job->seller, job->feed ? "FEED_PROCESSING_FINISHED" : "REPORT_PROCESSING_FINISHED", true, NULL,
		   json_pack("{s:o}", job->feed ? "feedProcessingFinishedNotification" : "reportProcessingFinishedNotification",
					 inner));
}
