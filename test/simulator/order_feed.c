/*
 * order_feed.c: what one message of a feed does to an order: it is acknowledged, cancelled, shipped or refunded. Each
 * function returns what is wrong, with a code, or NULL when the message had its effect.
 *
 * The codes are the simulator's own but for 5004, a carrier that Amazon does not know.
 */
#include "sim.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CANCEL_REASONS                                                                                                 \
	"NoInventory,ShippingAddressUndeliverable,CustomerExchange,BuyerCanceled,GeneralAdjustment,"                       \
	"CarrierCreditDecision,RiskAssessmentInformationNotValid,CarrierCoverageFailure,CustomerReturn,"                   \
	"MerchandiseNotReceived,CannotVerifyInformation,PricingError,RejectOrder,WeatherDelay"
#define ADJUSTMENT_REASONS                                                                                             \
	"NoInventory,CustomerReturn,GeneralAdjustment,CouldNotShip,DifferentItem,Abandoned,CustomerCancel,PriceError,"     \
	"ProductOutofStock,CustomerAddressIncorrect,Exchange,Other,CarrierCreditDecision,"                                 \
	"RiskAssessmentInformationNotValid,CarrierCoverageFailure,TransactionRecord,Undeliverable,RefusedDelivery"
#define COMPONENTS                                                                                                     \
	"Principal,Shipping,Tax,ShippingTax,RestockingFee,RestockingFeeTax,GiftWrap,GiftWrapTax,Surcharge,ReturnShipping," \
	"Goodwill,ExportCharge,COD,CODTax,Other,FreeReplacementReturnShipping"

OrderItem *
order_line(const Order *order, const char *id)
{
	for (size_t i = 0; id != NULL && i < order->items.count; i++)
		if (strcmp(((OrderItem *) order->items.at[i])->id, id) == 0)
			return order->items.at[i];
	return NULL;
}

static char *
refuse(const char **code, const char *number, char *problem)
{
	*code = number;
	return problem;
}

/* Failure: every line with a reason; only before anything is shipped. */
static char *
cancel(Order *order, const json_t *message, const char **code)
{
	const char *reason = NULL;
	size_t listed = 0;
	size_t i;
	json_t *child;

	if (starts_with(order->status, "PENDING"))
		return refuse(code, "18028", xprintf("The order %s is pending.", order->id));
	if (strcmp(order->status, "UNSHIPPED") != 0)
		return refuse(code, "18029", xprintf("The order %s is %s and cannot be cancelled.", order->id, order->status));
	for (i = 0; i < order->items.count; i++)
		if (((OrderItem *) order->items.at[i])->confirmed > 0)
			return refuse(code, "18029", xprintf("A shipment of order %s is confirmed.", order->id));
	json_array_foreach(json_object_get(message, "children"), i, child)
	{
		if (strcmp(json_get_text(child, "name"), "Item") != 0)
			continue;
		reason = xml_text(child, "CancelReason");
		listed++;
		if (order_line(order, xml_text(child, "AmazonOrderItemCode")) == NULL)
			return refuse(code, "18005", xprintf("The order %s has no such item.", order->id));
		if (reason == NULL || !text_is_one_of(reason, CANCEL_REASONS))
			return refuse(code, "18006", xstrdup("CancelReason is missing or none of the allowed values."));
	}
	if (listed != order->items.count)
		return refuse(code, "18007", xprintf("Every item of order %s must be listed.", order->id));
	order_cancel(order, "MERCHANT", reason);
	return NULL;
}

char *
order_acknowledge(Order *order, const json_t *message, const char **code)
{
	const char *status = xml_text(message, "StatusCode");
	const char *number = xml_text(message, "MerchantOrderID");
	size_t i;
	json_t *child;

	json_array_foreach(json_object_get(message, "children"), i, child)
	{
		if (strcmp(json_get_text(child, "name"), "Item") == 0 &&
			!xml_has_sequence(child, "AmazonOrderItemCode,MerchantOrderItemID?,CancelReason?"))
			return refuse(code, "6001", xstrdup("The elements of an Item are not those of its schema."));
	}
	if (order->fba)
		return refuse(code, "18008", xprintf("The order %s is fulfilled by Amazon.", order->id));
	if (strcmp(status, "Failure") == 0)
		return cancel(order, message, code);
	if (strcmp(status, "Success") != 0)
		return refuse(code, "6001", xstrdup("StatusCode is Success or Failure."));
	if (starts_with(order->status, "PENDING") || strcmp(order->status, "CANCELLED") == 0)
		return refuse(code, "18028", xprintf("The order %s is %s.", order->id, order->status));
	if (number != NULL)
	{
		free(order->seller_order_id);
		order->seller_order_id = xstrdup(number);
	}
	order_touch(order);
	return NULL;
}

/* One package, as confirmShipment takes it, but that the tracking number may be missing. */
static json_t *
package_of(const Order *order, const json_t *message)
{
	const json_t *data = xml_child(message, "FulfillmentData");
	const char *carrier = xml_text(data, "CarrierCode");
	json_t *items = json_array();
	size_t i;
	json_t *child;
	int number = 1;
	char reference[16];

	json_array_foreach(json_object_get(message, "children"), i, child)
	{
		if (strcmp(json_get_text(child, "name"), "Item") == 0)
			json_array_append_new(items,
								  json_pack("{s:s, s:I}", "orderItemId", xml_text(child, "AmazonOrderItemCode"),
											"quantity", (json_int_t) strtoll(xml_text(child, "Quantity"), NULL, 10)));
	}
	do
		snprintf(reference, sizeof(reference), "%d", number++);
	while (json_object_get(order->references, reference) != NULL);
	return json_pack("{s:s, s:s, s:s*, s:s*, s:s*, s:s, s:o}", "packageReferenceId", reference, "carrierCode",
					 carrier != NULL ? carrier : "Other", "carrierName", xml_text(data, "CarrierName"), "shippingMethod",
					 xml_text(data, "ShippingMethod"), "trackingNumber", xml_text(data, "ShipperTrackingNumber"),
					 "shipDate", xml_text(message, "FulfillmentDate"), "orderItems", items);
}

char *
order_fulfill(Order *order, const json_t *message, const char **code)
{
	const json_t *data = xml_child(message, "FulfillmentData");
	json_t *detail;
	char *problem;
	size_t i;
	json_t *child;

	if (data != NULL && !xml_has_sequence(data, "CarrierCode,ShippingMethod?,ShipperTrackingNumber?") &&
		!xml_has_sequence(data, "CarrierName,ShippingMethod?,ShipperTrackingNumber?"))
		return refuse(code, "6001", xstrdup("FulfillmentData has a CarrierCode or a CarrierName, then method and number."));
	json_array_foreach(json_object_get(message, "children"), i, child)
	{
		if (strcmp(json_get_text(child, "name"), "Item") == 0 && !xml_has_sequence(child, "AmazonOrderItemCode,Quantity"))
			return refuse(code, "6001", xstrdup("The elements of an Item are not those of its schema."));
	}
	if (xml_text(data, "CarrierCode") != NULL && !carrier_is_known(xml_text(data, "CarrierCode")))
		return refuse(code, "5004", xprintf("The carrier code '%s' is invalid.", xml_text(data, "CarrierCode")));
	detail = package_of(order, message);
	*code = "18009";
	problem = shipment_take(order, detail);
	json_decref(detail);
	return problem;
}

/* An amount with its currency, in minor units; false when it is none of the marketplace's. */
static bool
amount_of(const json_t *component, const Order *order, int64_t *minor)
{
	const json_t *amount = xml_child(component, "Amount");
	const char *currency = json_get_text(amount, "currency");
	const char *text = json_get_text(amount, "text");
	char *end;
	double value;

	if (currency == NULL || strcmp(currency, order->market->currency) != 0 || text == NULL || *text == '\0')
		return false;
	value = strtod(text, &end);
	for (int i = 0; i < order->market->decimals; i++)
		value *= 10;
	*minor = (int64_t) (value + (value < 0 ? -0.5 : 0.5));
	return *end == '\0';
}

/* One line: its components, and the sum that goes to the buyer. */
static char *
adjust_line(Order *order, const json_t *adjusted, int64_t *sum, const char **code)
{
	const char *reason = xml_text(adjusted, "AdjustmentReason");
	const json_t *parts = xml_child(adjusted, "ItemPriceAdjustments");
	size_t i;
	json_t *part;

	if (!xml_has_sequence(adjusted, "AmazonOrderItemCode,MerchantAdjustmentItemID?,AdjustmentReason,ItemPriceAdjustments,"
									"PromotionAdjustments?,QuantityCancelled?") ||
		!xml_has_sequence(parts, "Component+"))
		return refuse(code, "6001", xstrdup("The elements of an AdjustedItem are not those of its schema."));
	if (order_line(order, xml_text(adjusted, "AmazonOrderItemCode")) == NULL)
		return refuse(code, "18005", xprintf("The order %s has no such item.", order->id));
	if (!text_is_one_of(reason, ADJUSTMENT_REASONS))
		return refuse(code, "18010", xprintf("AdjustmentReason '%s' is none of the allowed values.", reason));
	json_array_foreach(json_object_get(parts, "children"), i, part)
	{
		int64_t minor;

		if (!xml_has_sequence(part, "Type,Amount") || !text_is_one_of(xml_text(part, "Type"), COMPONENTS))
			return refuse(code, "18011", xstrdup("The Type of a component is none of the allowed values."));
		if (!amount_of(part, order, &minor))
			return refuse(code, "18012", xstrdup("An amount is no number in the currency of the order."));
		*sum += minor;
	}
	return NULL;
}

/* Refunds the same as often as it is asked, until all that was paid is given back. */
char *
order_adjust(Order *order, const json_t *message, const char **code)
{
	int64_t sum = 0;
	char *problem = NULL;
	size_t i;
	json_t *child;

	if (starts_with(order->status, "PENDING"))
		return refuse(code, "18028", xprintf("The order %s is pending.", order->id));
	json_array_foreach(json_object_get(message, "children"), i, child)
	{
		if (problem == NULL && strcmp(json_get_text(child, "name"), "AdjustedItem") == 0)
			problem = adjust_line(order, child, &sum, code);
	}
	if (problem != NULL)
		return problem;
	if (sum <= 0)
		return refuse(code, "18013", xstrdup("The refund is not above zero."));
	if (order->refunded + sum > order_paid(order))
		return refuse(code, "18014", xprintf("The refunds of order %s exceed what was paid.", order->id));
	order->refunded += sum;
	finance_refund(order, message, sum);
	return NULL;
}
