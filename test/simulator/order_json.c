/*
 * order_json.c: an order as Orders 2026-01-01 shows it, each data set only when asked for, buyers' personal data only
 * to an application with the roles, and nothing about price, buyer or address while an order is pending.
 */
#include "sim.h"

#include <string.h>

#define DAY (24 * HOUR)

static bool
is_pending(const Order *order)
{
	return starts_with(order->status, "PENDING");
}

static bool
is_cancelled(const Order *order)
{
	return strcmp(order->status, "CANCELLED") == 0;
}

/* Prices contain the tax of the marketplace; proceeds show it apart. */
int64_t
order_net_price(const Order *order, int64_t gross)
{
	int percent = order->market->tax_percent;

	return (gross * 100 + (100 + percent) / 2) / (100 + percent);
}

typedef struct Totals
{
	int64_t goods;
	int64_t tax;
} Totals;

static Totals
item_totals(const Order *order, const OrderItem *item)
{
	int64_t net = order_net_price(order, item->price);

	return (Totals){net * item->ordered, (item->price - net) * item->ordered};
}

static json_t *
breakdown(const char *type, int64_t amount, const Order *order)
{
	return json_pack("{s:s, s:o}", "type", type, "subtotal", money_json(amount, order->market));
}

static json_t *
item_proceeds(const Order *order, const OrderItem *item)
{
	Totals totals = item_totals(order, item);
	json_t *list = json_array();
	json_t *tax;

	json_array_append_new(list, breakdown("ITEM", totals.goods, order));
	if (totals.tax > 0)
	{
		tax = breakdown("TAX", totals.tax, order);
		json_object_set_new(tax, "detailedBreakdowns",
							json_pack("[{s:s, s:o}]", "subtype", "ITEM", "value", money_json(totals.tax, order->market)));
		json_array_append_new(list, tax);
	}
	return json_pack("{s:o, s:o}", "proceedsTotal", money_json(totals.goods + totals.tax, order->market), "breakdowns",
					 list);
}

static json_t *
order_proceeds(const Order *order)
{
	Totals sum = {0, 0};
	json_t *list = json_array();
	int64_t shipping = order_net_price(order, order->shipping);

	for (size_t i = 0; i < order->items.count; i++)
	{
		Totals totals = item_totals(order, order->items.at[i]);

		sum.goods += totals.goods;
		sum.tax += totals.tax;
	}
	sum.tax += order->shipping - shipping;
	json_array_append_new(list, breakdown("ITEM", sum.goods, order));
	if (shipping > 0)
		json_array_append_new(list, breakdown("SHIPPING", shipping, order));
	if (sum.tax > 0)
		json_array_append_new(list, breakdown("TAX", sum.tax, order));
	return json_pack("{s:o, s:o}", "grandTotal", money_json(sum.goods + shipping + sum.tax, order->market),
					 "breakdowns", list);
}

static json_t *
product_json(const Order *order, const OrderItem *item)
{
	json_t *product = json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "asin", item->asin, "title", item->title, "sellerSku",
								item->sku, "condition", "conditionType", "NEW", "conditionSubtype", "NEW");

	if (!is_pending(order))
		json_object_set_new(product, "price",
							json_pack("{s:o}", "unitPrice", money_json(order_net_price(order, item->price), order->market)));
	return product;
}

static json_t *
cancellation_json(const OrderItem *item)
{
	json_t *cancellation = json_object();

	if (item->cancel_request != NULL)
		json_object_set_new(cancellation, "cancellationRequest",
							json_pack("{s:s, s:s}", "requester", "BUYER", "cancelReason", item->cancel_request));
	if (item->cancel_by != NULL)
		json_object_set_new(cancellation, "cancellationExecution",
							json_pack("{s:s, s:s}", "cancelledBy", item->cancel_by, "cancelReason", item->cancel_reason));
	return cancellation;
}

static json_t *
item_json_of_order(const Order *order, const OrderItem *item, const json_t *included)
{
	json_t *answer = json_pack("{s:s, s:I, s:o}", "orderItemId", item->id, "quantityOrdered",
							   (json_int_t) item->ordered, "product", product_json(order, item));

	if (json_array_has(included, "FULFILLMENT"))
		json_object_set_new(answer, "fulfillment",
							json_pack("{s:I, s:I}", "quantityFulfilled", (json_int_t) item->shipped, "quantityUnfulfilled",
									  (json_int_t) (is_cancelled(order) ? 0 : item->ordered - item->shipped)));
	if (json_array_has(included, "PROCEEDS") && !is_pending(order) && !is_cancelled(order))
		json_object_set_new(answer, "proceeds", item_proceeds(order, item));
	if (json_array_has(included, "CANCELLATION") && (item->cancel_request != NULL || item->cancel_by != NULL))
		json_object_set_new(answer, "cancellation", cancellation_json(item));
	if (json_array_has(included, "TAX") && strcmp(order->market->country, "US") == 0)
		json_object_set_new(answer, "tax",
							json_pack("{s:[{s:s, s:s}]}", "taxCollections", "model", "MARKETPLACE_FACILITATOR",
									  "responsibleParty", "Amazon Services, Inc."));
	return answer;
}

static json_t *
window_json(Micros earliest, Micros latest)
{
	return json_pack("{s:o, s:o}", "earliestDateTime", time_json(earliest), "latestDateTime", time_json(latest));
}

static json_t *
fulfillment_json(const Order *order)
{
	json_t *fulfillment = json_pack("{s:s, s:s, s:s}", "fulfillmentStatus", order->status, "fulfilledBy",
									order->fba ? "AMAZON" : "MERCHANT", "fulfillmentServiceLevel", "STANDARD");

	if (is_pending(order))
		return fulfillment;
	json_object_set_new(fulfillment, "shipByWindow", window_json(order->created, order->created + 2 * DAY));
	json_object_set_new(fulfillment, "deliverByWindow", window_json(order->created + 2 * DAY, order->created + 6 * DAY));
	return fulfillment;
}

static json_t *
buyer_json(const Order *order)
{
	json_t *buyer = json_pack("{s:s, s:s*}", "buyerName", order->buyer_name, "buyerCompanyName", order->buyer_company);

	if (!order->fba && !is_cancelled(order))
		json_object_set_new(buyer, "buyerEmail", json_string(order->buyer_email));
	return buyer;
}

/* Without the roles only what does not lead to a person is left of an address. */
static json_t *
recipient_json(const Order *order, bool personal)
{
	static const char *const hidden[] = {"name",         "companyName", "addressLine1", "addressLine2",
										 "addressLine3", "postalCode",  "phone",        "extendedFields"};
	json_t *address = json_copy(order->address);

	for (size_t i = 0; !personal && i < lengthof(hidden); i++)
		json_object_del(address, hidden[i]);
	if (order->fba)
		json_object_del(address, "phone");
	return json_pack("{s:o}", "deliveryAddress", address);
}

static void
add_data_sets(json_t *answer, const Order *order, const json_t *included, bool personal)
{
	bool known = !is_pending(order);

	if (json_array_has(included, "FULFILLMENT"))
		json_object_set_new(answer, "fulfillment", fulfillment_json(order));
	if (json_array_has(included, "PROCEEDS") && known && !is_cancelled(order))
		json_object_set_new(answer, "proceeds", order_proceeds(order));
	if (json_array_has(included, "BUYER") && known && personal)
		json_object_set_new(answer, "buyer", buyer_json(order));
	if (json_array_has(included, "RECIPIENT") && known)
		json_object_set_new(answer, "recipient", recipient_json(order, personal));
	if (json_array_has(included, "PACKAGES") && !order->fba && json_array_size(order->packages) > 0)
		json_object_set(answer, "packages", order->packages);
	if (json_array_has(included, "TAX"))
		json_object_set_new(answer, "tax", json_pack("{s:[]}", "taxRegistrations"));
	if (json_array_has(included, "PAYMENT") && known)
		json_object_set_new(answer, "payment", json_pack("{s:[{s:s}]}", "paymentExecutions", "paymentMethod", "Standard"));
}

json_t *
order_json(const Order *order, const json_t *included, bool personal)
{
	json_t *items = json_array();
	json_t *answer;

	for (size_t i = 0; i < order->items.count; i++)
		json_array_append_new(items, item_json_of_order(order, order->items.at[i], included));
	answer = json_pack("{s:s, s:o, s:o, s:O, s:{s:s, s:s, s:s}, s:o}", "orderId", order->id, "createdTime",
					   time_json(order->created), "lastUpdatedTime", time_json(order->updated), "programs",
					   order->programs, "salesChannel", "channelName", "AMAZON", "marketplaceId", order->market->id,
					   "marketplaceName", order->market->name, "orderItems", items);
	if (order->seller_order_id != NULL)
		json_object_set_new(answer, "orderAliases",
							json_pack("[{s:s, s:s}]", "aliasId", order->seller_order_id, "aliasType", "SELLER_ORDER_ID"));
	add_data_sets(answer, order, included, personal);
	return answer;
}
