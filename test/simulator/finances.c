/*
 * finances.c: the Finances API 2024-06-19: what Amazon has booked for orders that were shipped and refunded.
 *
 * A transaction is posted when it happens and shows after settings.finance_lag, as Amazon's own shows late. Of each payment
 * Amazon keeps 15 percent as commission, of which a refund gives back the same share. A search that names neither a
 * time nor an order is refused; one that reaches less than two minutes back is, too; more than 180 days give nothing.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_LIFETIME   (24 * HOUR)
#define PAGE             100
#define LONGEST          (180 * 24 * HOUR)
#define COMMISSION_SHARE 15

static json_t *
amount(int64_t minor, const Order *order)
{
	char text[32];
	json_t *number;

	money_text(minor, order->market->decimals, text);
	number = json_loads(text, JSON_DECODE_ANY, NULL);
	return json_pack("{s:s, s:o}", "currencyCode", order->market->currency, "currencyAmount", number);
}

static json_t *
breakdown(const char *type, int64_t minor, const Order *order, json_t *parts)
{
	json_t *made = json_pack("{s:s, s:o}", "breakdownType", type, "breakdownAmount", amount(minor, order));

	if (parts != NULL)
		json_object_set_new(made, "breakdowns", parts);
	return made;
}

static int64_t
line_price(const OrderItem *line)
{
	return line->price * line->ordered;
}

int64_t
order_paid(const Order *order)
{
	int64_t sum = order->shipping;

	for (size_t i = 0; i < order->items.count; i++)
		sum += line_price(order->items.at[i]);
	return sum;
}

static json_t *
transaction(const Order *order, const char *type, const char *description, int64_t total, const char *id_name)
{
	char id[40];
	json_t *made;

	random_text(id, 30);
	made = json_pack("{s:{s:s, s:s, s:s}, s:[{s:s, s:s}], s:s, s:s, s:s, s:s, s:o, s:o, s:{s:s, s:s}, s:[], s:[]}",
					 "sellingPartnerMetadata", "sellingPartnerId", order->seller->id, "accountType", "Standard Orders",
					 "marketplaceId", order->market->id, "relatedIdentifiers", "relatedIdentifierName", "ORDER_ID",
					 "relatedIdentifierValue", order->id, "transactionType", type, "transactionId", id,
					 "transactionStatus", "RELEASED", "description", description, "postedDate", time_json(clock_now()),
					 "totalAmount", amount(total, order), "marketplaceDetails", "marketplaceId", order->market->id,
					 "marketplaceName", order->market->name, "items", "breakdowns");
	random_text(id, 14);
	json_array_append_new(json_object_get(made, "relatedIdentifiers"),
						  json_pack("{s:s, s:s}", "relatedIdentifierName", id_name, "relatedIdentifierValue", id));
	return made;
}

static void
post(const Order *order, json_t *made)
{
	json_array_append_new(order->seller->transactions,
						  json_pack("{s:I, s:o}", "at", (json_int_t) clock_now(), "transaction", made));
}

static json_t *
item(const Order *order, const OrderItem *line, int64_t total, json_t *breakdowns)
{
	return json_pack("{s:s, s:o, s:o, s:[{s:s, s:s, s:s, s:I, s:s}]}", "description", line->title, "totalAmount",
					 amount(total, order), "breakdowns", breakdowns, "contexts", "contextType", "ProductContext",
					 "asin", line->asin, "sku", line->sku, "quantityShipped", (json_int_t) line->ordered,
					 "fulfillmentNetwork", order->fba ? "AFN" : "MFN");
}

/* The order is shipped whole: what the buyer paid comes in, once. */
void
finance_payment(Order *order)
{
	int64_t gross = order_paid(order);
	int64_t fee = gross * COMMISSION_SHARE / 100;
	json_t *made;

	if (order->paid_out)
		return;
	order->paid_out = true;
	made = transaction(order, "Shipment", "Order Payment", gross - fee, "SHIPMENT_ID");
	json_array_append_new(json_object_get(made, "breakdowns"),
						  breakdown("Sales", gross, order,
									json_pack("[o, o]", breakdown("Product Charges", gross - order->shipping, order, NULL),
											  breakdown("Shipping", order->shipping, order, NULL))));
	json_array_append_new(json_object_get(made, "breakdowns"),
						  breakdown("Expenses", -fee, order,
									json_pack("[o]",
											  breakdown("Amazon Fees", -fee, order,
														json_pack("[o]", breakdown("Commission", -fee, order, NULL))))));
	for (size_t i = 0; i < order->items.count; i++)
	{
		const OrderItem *line = order->items.at[i];

		json_array_append_new(json_object_get(made, "items"),
							  item(order, line, line_price(line),
								   json_pack("[o]", breakdown("Product Charges", line_price(line), order, NULL))));
	}
	post(order, made);
}

/* A refund of the seller's, as its message said; sum in minor units. */
void
finance_refund(const Order *order, const json_t *message, int64_t sum)
{
	int64_t fee = sum * COMMISSION_SHARE / 100;
	json_t *made = transaction(order, "Refund", "Refund Order", fee - sum, "REFUND_ID");
	size_t i;
	json_t *child;

	json_array_append_new(json_object_get(made, "breakdowns"),
						  breakdown("Refunds", -sum, order,
									json_pack("[o]", breakdown("Product Charges", -sum, order, NULL))));
	json_array_append_new(json_object_get(made, "breakdowns"),
						  breakdown("Expenses", fee, order,
									json_pack("[o]",
											  breakdown("Amazon Fees", fee, order,
														json_pack("[o]", breakdown("Commission", fee, order, NULL))))));
	json_array_foreach(json_object_get(message, "children"), i, child)
	{
		const char *id = xml_text(child, "MerchantAdjustmentItemID");
		const OrderItem *line = order_line(order, xml_text(child, "AmazonOrderItemCode"));
		json_t *entry;

		if (line == NULL)
			continue;
		entry = item(order, line, -sum, json_array());
		if (id != NULL)
			json_object_set_new(entry, "relatedIdentifiers",
								json_pack("[{s:s, s:s}]", "itemRelatedIdentifierName", "ORDER_ADJUSTMENT_ITEM_ID",
										  "itemRelatedIdentifierValue", id));
		json_array_append_new(json_object_get(made, "items"), entry);
	}
	post(order, made);
}

static bool
is_about(const json_t *made, const char *name, const char *value)
{
	size_t i;
	json_t *id;

	json_array_foreach(json_object_get(made, "relatedIdentifiers"), i, id)
	{
		if (strcmp(json_get_text(id, "relatedIdentifierName"), name) == 0 &&
			strcmp(json_get_text(id, "relatedIdentifierValue"), value) == 0)
			return true;
	}
	return false;
}

static bool
fits(const json_t *entry, const json_t *query)
{
	const json_t *made = json_object_get(entry, "transaction");
	Micros at = json_get_int(entry, "at", 0);
	const char *name = json_get_text(query, "relatedIdentifierName");
	const char *market = json_get_text(query, "marketplaceId");
	const char *status = json_get_text(query, "transactionStatus");

	return at + (Micros) (settings.finance_lag * (double) SECOND) <= clock_now() &&
		   at >= json_get_int(query, "postedAfter", 0) && at < json_get_int(query, "postedBefore", INT64_MAX) &&
		   (name == NULL || is_about(made, name, json_get_text(query, "relatedIdentifierValue"))) &&
		   (market == NULL ||
			strcmp(json_get_text(json_object_get(made, "marketplaceDetails"), "marketplaceId"), market) == 0) &&
		   (status == NULL || strcmp(json_get_text(made, "transactionStatus"), status) == 0);
}

static void
answer(Call *call, json_t *query, size_t skip)
{
	json_t *list = json_array();
	json_t *payload = json_pack("{s:o}", "transactions", list);
	size_t seen = 0;
	size_t i;
	json_t *entry;

	json_array_foreach(call->seller->transactions, i, entry)
	{
		if (!fits(entry, query) || seen++ < skip)
			continue;
		if (seen > skip + PAGE)
			break;
		json_array_append(list, json_object_get(entry, "transaction"));
	}
	if (seen > skip + PAGE)
	{
		char *token = page_token(hash_text(call->seller->id, 7) & INT64_MAX,
								 json_pack("[O, I]", query, (json_int_t) (skip + PAGE)));

		json_object_set_new(payload, "nextToken", json_string(token));
		free(token);
	}
	call_answer(call, 200, json_pack("{s:o}", "payload", payload));
}

/* GET /finances/2024-06-19/transactions */
void
finance_transactions(Call *call)
{
	const char *token = json_get_text(call->query, "nextToken");
	bool related = json_object_get(call->query, "relatedIdentifierName") != NULL;
	Micros after = json_get_int(call->query, "postedAfter", -1);
	Micros before = json_get_int(call->query, "postedBefore", clock_now());
	const char *problem = NULL;
	json_t *position = NULL;

	if (related != (json_object_get(call->query, "relatedIdentifierValue") != NULL))
		call_violation(call, 400, "InvalidInput", "relatedIdentifierName and relatedIdentifierValue belong together.");
	else if (!related && after < 0)
		call_violation(call, 400, "InvalidInput", "postedAfter is required.");
	else if (after > clock_now() - 2 * MINUTE || (after >= 0 && before < after))
		call_violation(call, 400, "InvalidInput", "postedAfter is at least two minutes ago and not after postedBefore.");
	else if (token != NULL)
		position = page_open(token, hash_text(call->seller->id, 7) & INT64_MAX, TOKEN_LIFETIME, &problem);
	if (problem != NULL)
		call_fail(call, 400, "InvalidInput", "%s", problem);
	if (call->status != 0)
		return;
	if (after >= 0 && before - after > LONGEST)
		call_answer(call, 200, json_pack("{s:{s:[]}}", "payload", "transactions"));
	else if (position != NULL)
		answer(call, json_array_get(position, 0), (size_t) json_integer_value(json_array_get(position, 1)));
	else
		answer(call, call->query, 0);
	json_decref(position);
}
