/*
 * shipment.c: confirmShipment and updateShipmentStatus of Orders v0.
 *
 * A confirmation is judged at once and becomes visible in the order after settings.verdict_delay. The same
 * packageReferenceId again edits that package.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

/* Some of Amazon's carrier codes; any other is refused, as Amazon does it. */
#define CARRIERS                                                                                                       \
	"Other,DHL,UPS,USPS,FedEx,DPD,GLS,Hermes,TNT,Deutsche Post,Royal Mail,Parcelforce,Yodel,La Poste,Chronopost,"      \
	"Colissimo,Mondial Relay,Correos,SEUR,MRW,Poste Italiane,BRT,SDA,PostNL,bpost,InPost,PostNord,Canada Post,"        \
	"Australia Post,Yamato,Sagawa,Japan Post,Aras Kargo,MNG Kargo,Yurtici Kargo"

bool
carrier_is_known(const char *code)
{
	return text_is_one_of(code, CARRIERS);
}

static OrderItem *
find_line(const Order *order, const char *id)
{
	for (size_t i = 0; i < order->items.count; i++)
		if (strcmp(((OrderItem *) order->items.at[i])->id, id) == 0)
			return order->items.at[i];
	return NULL;
}

static bool
body_allowed(Call *call)
{
	static const Field request[] = {
		{"packageDetail", JSON_OBJECT, true, NULL},
		{"codCollectionMethod", JSON_STRING, false, "DirectPayment"},
		{"marketplaceId", JSON_STRING, true, NULL},
	};
	static const Field detail[] = {
		{"packageReferenceId", JSON_STRING, true, NULL},
		{"carrierCode", JSON_STRING, true, NULL},
		{"carrierName", JSON_STRING, false, NULL},
		{"shippingMethod", JSON_STRING, false, NULL},
		{"trackingNumber", JSON_STRING, true, NULL},
		{"shipDate", JSON_STRING, true, NULL},
		{"shipFromSupplySourceId", JSON_STRING, false, NULL},
		{"orderItems", JSON_ARRAY, true, NULL},
	};
	static const Field line[] = {
		{"orderItemId", JSON_STRING, true, NULL},
		{"quantity", JSON_INTEGER, true, NULL},
		{"transparencyCodes", JSON_ARRAY, false, NULL},
	};
	const json_t *package = json_object_get(call->body, "packageDetail");
	size_t i;
	json_t *item;

	if (!validate_object(call, call->body, "body", request, lengthof(request)) ||
		!validate_object(call, package, "packageDetail", detail, lengthof(detail)))
		return false;
	json_array_foreach(json_object_get(package, "orderItems"), i, item)
	{
		if (!validate_object(call, item, "orderItems", line, lengthof(line)))
			return false;
	}
	return true;
}

static bool
details_allowed(Call *call, const Order *order)
{
	const json_t *package = json_object_get(call->body, "packageDetail");
	const char *reference = json_get_text(package, "packageReferenceId");
	const char *carrier = json_get_text(package, "carrierCode");
	Micros shipped = 0;

	if (strspn(reference, "0123456789") != strlen(reference) || strtoll(reference, NULL, 10) <= 0)
		call_violation(call, 400, "InvalidInput", "packageReferenceId is not a string of positive digits.");
	else if (*carrier == '\0' || *json_get_text(package, "trackingNumber") == '\0')
		call_violation(call, 400, "InvalidInput", "carrierCode and trackingNumber are required.");
	else if (strcmp(carrier, "Other") == 0 && json_object_get(package, "carrierName") == NULL)
		call_violation(call, 400, "InvalidInput", "carrierCode Other requires carrierName.");
	else if (!carrier_is_known(carrier))
		call_fail(call, 400, "InvalidInput", "The carrierCode '%s' is not valid.", carrier);
	else if (!time_parse(json_get_text(package, "shipDate"), &shipped))
		call_violation(call, 400, "InvalidInput", "shipDate is not a date-time in ISO 8601.");
	else if (strcmp(json_get_text(call->body, "marketplaceId"), order->market->id) != 0)
		call_fail(call, 400, "InvalidInput", "marketplaceId is not the marketplace of the order.");
	else if (json_object_get(call->body, "codCollectionMethod") != NULL && strcmp(order->market->country, "JP") != 0)
		call_violation(call, 400, "InvalidInput", "codCollectionMethod is for Japan only.");
	else if (json_array_size(json_object_get(package, "orderItems")) == 0)
		call_violation(call, 400, "InvalidInput", "orderItems is empty.");
	else if (settings.strict_ship_date && shipped > clock_now() + MINUTE)
		call_fail(call, 400, "InvalidInput", "shipDate is in the future.");
	else if (settings.strict_ship_date && shipped < order->created - order->created % SECOND)
		call_fail(call, 400, "InvalidInput", "shipDate is before the purchase.");
	return call->status == 0;
}

static bool
fully_confirmed(const Order *order)
{
	for (size_t i = 0; i < order->items.count; i++)
		if (((OrderItem *) order->items.at[i])->confirmed < ((OrderItem *) order->items.at[i])->ordered)
			return false;
	return true;
}

static bool
order_allows(Call *call, const Order *order, bool edit)
{
	if (order->fba)
		call_fail(call, 400, "InvalidInput", "The order is fulfilled by Amazon.");
	else if (edit && !starts_with(order->status, "CANCELLED"))
		return true;
	else if (fully_confirmed(order))
		call_fail(call, 400, "PackageToUpdateNotFound", "The order is shipped and has no package of this reference.");
	else if (!text_is_one_of(order->status, "UNSHIPPED,PARTIALLY_SHIPPED"))
		call_fail(call, 400, "InvalidInput", "The order's status is %s, it cannot be shipped.", order->status);
	return call->status == 0;
}

/* Quantities that the package held before an edit count as open again. */
static int64_t
quantity_before(const json_t *old_items, const char *id)
{
	size_t i;
	json_t *item;

	json_array_foreach(old_items, i, item)
	{
		if (strcmp(json_get_text(item, "orderItemId"), id) == 0)
			return json_get_int(item, "quantity", 0);
	}
	return 0;
}

static bool
quantities_allowed(Call *call, const Order *order, const json_t *items, const json_t *old_items)
{
	size_t i;
	json_t *item;

	json_array_foreach(items, i, item)
	{
		const char *id = json_get_text(item, "orderItemId");
		const OrderItem *line = find_line(order, id);
		int64_t quantity = json_get_int(item, "quantity", 0);

		if (line == NULL)
			call_fail(call, 400, "InvalidInput", "The order has no item '%s'.", id);
		else if (quantity <= 0 || quantity > line->ordered - line->confirmed + quantity_before(old_items, id))
			call_fail(call, 400, "InvalidInput", "The quantity of item '%s' is not within what is open.", id);
		if (call->status != 0)
			return false;
	}
	return true;
}

static void
count_confirmed(const Order *order, const json_t *items, int sign)
{
	size_t i;
	json_t *item;

	json_array_foreach(items, i, item)
	{
		find_line(order, json_get_text(item, "orderItemId"))->confirmed += sign * json_get_int(item, "quantity", 0);
	}
}

static void
show_package(const Order *order, json_t *package)
{
	const char *reference = json_get_text(package, "packageReferenceId");
	size_t i;
	json_t *other;

	json_array_foreach(order->packages, i, other)
	{
		if (strcmp(json_get_text(other, "packageReferenceId"), reference) != 0)
			continue;
		json_array_set(order->packages, i, package);
		return;
	}
	json_array_append(order->packages, package);
}

/* The confirmation shows: packages, shipped quantities, status. */
static void
shipment_arrives(void *subject, json_t *package)
{
	Order *order = subject;
	bool all = true;
	bool any = false;

	if (strcmp(order->status, "CANCELLED") == 0)
		return;
	show_package(order, package);
	for (size_t i = 0; i < order->items.count; i++)
	{
		OrderItem *line = order->items.at[i];

		line->shipped = line->confirmed;
		all = all && line->shipped >= line->ordered;
		any = any || line->shipped > 0;
	}
	order->status = all ? "SHIPPED" : any ? "PARTIALLY_SHIPPED" : order->status;
	if (all)
		finance_payment(order);
	order_touch(order);
}

static json_t *
package_of(const json_t *detail)
{
	const char *name = json_get_text(detail, "carrierName");

	return json_pack("{s:s, s:o, s:{s:s, s:s}, s:s, s:s, s:s*, s:s*, s:O}", "packageReferenceId",
					 json_get_text(detail, "packageReferenceId"), "createdTime", time_json(clock_now()),
					 "packageStatus", "status", "SHIPPED", "detailedStatus", "PICKED_UP", "carrier",
					 name != NULL ? name : json_get_text(detail, "carrierCode"), "shipTime",
					 json_get_text(detail, "shipDate"), "shippingService", json_get_text(detail, "shippingMethod"),
					 "trackingNumber", json_get_text(detail, "trackingNumber"), "packageItems",
					 json_object_get(detail, "orderItems"));
}

/* A confirmation that was judged takes effect. */
static void
confirm(Order *order, const json_t *detail, const json_t *old_items)
{
	json_t *items = json_object_get(detail, "orderItems");

	count_confirmed(order, old_items, -1);
	count_confirmed(order, items, 1);
	json_object_set(order->references, json_get_text(detail, "packageReferenceId"), items);
	event_at(clock_now() + (Micros) (settings.verdict_delay * (double) SECOND), shipment_arrives, order,
			 package_of(detail));
}

/* The same by a feed, which knows no reference: what is open and whole is shipped. Returns what is wrong, or NULL. */
char *
shipment_take(Order *order, json_t *detail)
{
	Call call = {0};
	json_t *items = json_object_get(detail, "orderItems");
	Micros shipped = 0;
	char *problem = NULL;

	if (!time_parse(json_get_text(detail, "shipDate"), &shipped))
		return xstrdup("FulfillmentDate is not a date-time in ISO 8601.");
	if (settings.strict_ship_date && (shipped > clock_now() + MINUTE || shipped < order->created - order->created % SECOND))
		return xstrdup("FulfillmentDate is in the future or before the purchase.");
	if (json_array_size(items) == 0)
		for (size_t i = 0; i < order->items.count; i++)
		{
			const OrderItem *line = order->items.at[i];

			if (line->ordered > line->confirmed)
				json_array_append_new(items, json_pack("{s:s, s:I}", "orderItemId", line->id, "quantity",
													   (json_int_t) (line->ordered - line->confirmed)));
		}
	if (order_allows(&call, order, false) && quantities_allowed(&call, order, items, NULL))
		confirm(order, detail, NULL);
	else
		problem = xstrdup(json_get_text(json_array_get(call.errors, 0), "message"));
	json_decref(call.errors);
	return problem;
}

/* POST /orders/v0/orders/{orderId}/shipmentConfirmation */
void
shipment_confirm(Call *call)
{
	Order *order = order_of_call(call);
	const json_t *detail = json_object_get(call->body, "packageDetail");
	json_t *items = json_object_get(detail, "orderItems");
	const char *reference = json_get_text(detail, "packageReferenceId");
	const json_t *old_items;

	if (order == NULL || !body_allowed(call) || !details_allowed(call, order))
		return;
	old_items = json_object_get(order->references, reference);
	if (!order_allows(call, order, old_items != NULL) || !quantities_allowed(call, order, items, old_items))
		return;
	confirm(order, detail, old_items);
	call->status = 204;
}

/* POST /orders/v0/orders/{orderId}/shipment */
void
shipment_status(Call *call)
{
	static const Field request[] = {
		{"marketplaceId", JSON_STRING, true, NULL},
		{"shipmentStatus", JSON_STRING, true, "ReadyForPickup,PickedUp,RefusedPickup"},
		{"orderItems", JSON_ARRAY, false, NULL},
	};
	Order *order = order_of_call(call);

	if (order == NULL || !validate_object(call, call->body, "body", request, lengthof(request)))
		return;
	if (strcmp(json_get_text(call->body, "marketplaceId"), order->market->id) != 0)
		call_fail(call, 400, "InvalidInput", "marketplaceId is not the marketplace of the order.");
	else if (!order->pickup)
		call_fail(call, 400, "InvalidInput", "The order is not an in-store pick-up.");
	if (call->status != 0)
		return;
	if (strcmp(json_get_text(call->body, "shipmentStatus"), "PickedUp") == 0)
		order->status = "SHIPPED";
	order_touch(order);
	call->status = 204;
}
