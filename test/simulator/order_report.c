/*
 * order_report.c: the reports of all orders, by the time of the order or of its last change: a row for each line, nothing
 * about the buyer but where it goes. As at Amazon, prices contain the tax where the marketplace's do, a pending line has none, and
 * figures of orders that the merchant ships may be wrong: settings.report_error is added to their quantities.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST    (31 * 24 * HOUR)
#define BY_ORDER   "GET_FLAT_FILE_ALL_ORDERS_DATA_BY_ORDER_DATE_GENERAL"
#define BY_CHANGED "GET_FLAT_FILE_ALL_ORDERS_DATA_BY_LAST_UPDATE_GENERAL"

static const char columns[] =
	"amazon-order-id\tmerchant-order-id\tpurchase-date\tlast-updated-date\torder-status\tfulfillment-channel\tsales-channel\t"
	"order-channel\tship-service-level\tproduct-name\tsku\tasin\titem-status\tquantity\tcurrency\titem-price\titem-tax\t"
	"shipping-price\tshipping-tax\tgift-wrap-price\tgift-wrap-tax\titem-promotion-discount\tship-promotion-discount\t"
	"ship-city\tship-state\tship-postal-code\tship-country\tpromotion-ids\r\n";

bool
report_is_of_orders(const char *type)
{
	return text_is_one_of(type, BY_ORDER "," BY_CHANGED);
}

/* The state in this report's own words. */
static const char *
status_word(const Order *order)
{
	static const char *const words[][2] = {
		{"PENDING_AVAILABILITY", "Pending Availability"}, {"PENDING", "Pending"}, {"UNSHIPPED", "Unshipped"},
		{"PARTIALLY_SHIPPED", "Partially Shipped"},       {"SHIPPED", "Shipped"}, {"CANCELLED", "Cancelled"},
	};
	const json_t *package = json_array_get(order->packages, 0);
	const char *state = json_get_text(json_object_get(package, "packageStatus"), "status");

	if (strcmp(order->status, "SHIPPED") == 0 && state != NULL && strcmp(state, "DELIVERED") == 0)
		return "Shipped - Delivered to Buyer";
	for (size_t i = 0; i < lengthof(words); i++)
		if (strcmp(order->status, words[i][0]) == 0)
			return words[i][1];
	return order->status;
}

static void
write_line(FILE *out, const Order *order, const OrderItem *line, bool first)
{
	bool cancelled = strcmp(order->status, "CANCELLED") == 0;
	bool priced = !cancelled && !starts_with(order->status, "PENDING");
	int64_t price = line->price * line->ordered;
	int64_t quantity = cancelled ? 0 : line->ordered + (order->fba ? 0 : settings.report_error);
	char amounts[4][32] = {"", "", "", ""};
	char created[32];
	char changed[32];

	if (priced)
	{
		money_text(price, order->market->decimals, amounts[0]);
		money_text(price - order_net_price(order, line->price) * line->ordered, order->market->decimals, amounts[1]);
	}
	if (priced && first && order->shipping > 0)
	{
		money_text(order->shipping, order->market->decimals, amounts[2]);
		money_text(order->shipping - order_net_price(order, order->shipping), order->market->decimals, amounts[3]);
	}
	fprintf(out,
			"%s\t%s\t%s\t%s\t%s\t%s\tAmazon.%s\t\tStandard\t%s\t%s\t%s\t%s\t%lld\t%s\t%s\t%s\t%s\t%s\t\t\t\t\t%s\t\t%s\t%s\t\r\n",
			order->id, order->seller_order_id != NULL ? order->seller_order_id : "", time_text(order->created, created),
			time_text(order->updated, changed), status_word(order), order->fba ? "Amazon" : "Merchant",
			order->market->country, line->title, line->sku, line->asin, status_word(order), (long long) quantity,
			priced ? order->market->currency : "", amounts[0], amounts[1], amounts[2], amounts[3],
			json_get_text(order->address, "city"), json_get_text(order->address, "postalCode"), order->market->country);
}

/* The text of a report, or NULL with the status that it ends with. */
char *
order_report(const Job *job, size_t *length, const char **status)
{
	bool by_order = strcmp(job->type, BY_ORDER) == 0;
	Micros end = job->data_end == 0 ? clock_now() : job->data_end;
	Micros start = job->data_start == 0 ? end - 30 * 24 * HOUR : job->data_start;
	char *text = NULL;
	size_t rows = 0;
	FILE *out;

	*status = "FATAL";
	if (end - start > LONGEST)
		return NULL;
	out = open_memstream(&text, length);
	fputs(columns, out);
	for (size_t i = 0; i < job->seller->orders.count; i++)
	{
		const Order *order = job->seller->orders.at[i];
		Micros at = by_order ? order->created : order->updated;

		if (at < start || at > end || !json_array_has(job->market_ids, order->market->id))
			continue;
		for (size_t n = 0; n < order->items.count; n++, rows++)
			write_line(out, order, order->items.at[n], n == 0);
	}
	fclose(out);
	*status = "CANCELLED";
	if (rows > 0)
		return text;
	free(text);
	return NULL;
}
