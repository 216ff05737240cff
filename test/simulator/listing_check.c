/*
 * listing_check.c: what Amazon finds wrong with a submission at once, that is by the product type's schema: types,
 * allowed values, required members. Any ERROR here makes the submission INVALID and changes nothing.
 */
#include "sim.h"

#include <stdio.h>
#include <string.h>

#define CHANNELS "DEFAULT,AMAZON_NA,AMAZON_EU,AMAZON_JP,AMAZON_IN,AMAZON_AU,AMAZON_SG"
#define CONDITIONS                                                                                                     \
	"new_new,new_open_box,new_oem,refurbished_refurbished,used_like_new,used_very_good,used_good,used_acceptable,"     \
	"collectible_like_new,collectible_very_good,collectible_good,collectible_acceptable,club_club"
#define KNOWN_ATTRIBUTES                                                                                               \
	"purchasable_offer,fulfillment_availability,condition_type,condition_note,merchant_suggested_asin,"                \
	"externally_assigned_product_identifier,supplier_declared_has_product_identifier_exemption,"                       \
	"merchant_shipping_group,list_price,main_product_image_locator,main_offer_image_locator,parentage_level,"          \
	"variation_theme,child_parent_sku_relationship,package_contains_sku,item_name,brand,manufacturer,bullet_point,"    \
	"product_description,generic_keyword,country_of_origin,item_type_keyword,recommended_browse_nodes,"                \
	"supplier_declared_dg_hz_regulation,batteries_required,product_tax_code,max_order_quantity,"                       \
	"merchant_release_date,gift_options,skip_offer,color,size,material,item_package_weight,"                           \
	"item_package_dimensions,model_number,part_number,swatch_product_image_locator"

json_t *
issue_new(const char *code, const char *severity, const char *attribute, const Marketplace *market,
		  const char *category, const char *format, ...)
{
	va_list args;
	char message[512];
	json_t *issue;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	issue = json_pack("{s:s, s:s, s:s, s:[]}", "code", code, "message", message, "severity", severity, "categories");
	if (category != NULL)
		json_array_append_new(json_object_get(issue, "categories"), json_string(category));
	if (attribute != NULL)
		json_object_set_new(issue, "attributeNames", json_pack("[s]", attribute));
	if (market != NULL)
		json_object_set_new(issue, "marketplaceIds", json_pack("[s]", market->id));
	return issue;
}

bool
issues_have_error(const json_t *issues)
{
	size_t i;
	json_t *issue;

	json_array_foreach(issues, i, issue)
	{
		if (strcmp(json_get_text(issue, "severity"), "ERROR") == 0)
			return true;
	}
	return false;
}

/* What a check needs to know about the instance it looks at. */
typedef struct Check
{
	const char *name;
	const Marketplace *market;
	AttributeUse use;
	json_t *issues;
} Check;

static void
invalid(const Check *check, const char *code, const char *why)
{
	json_array_append_new(check->issues, issue_new(code, "ERROR", check->name, check->market, "INVALID_ATTRIBUTE",
												   "The value of attribute '%s' is invalid: %s.", check->name, why));
}

static void
missing(const Check *check, const char *member)
{
	json_array_append_new(check->issues, issue_new("90220", "ERROR", check->name, check->market, "MISSING_ATTRIBUTE",
												   "'%s' of '%s' is required but not supplied.", member, check->name));
}

static void
check_price(const Check *check, const json_t *offer, const char *member)
{
	const json_t *schedule = json_object_get(json_array_get(json_object_get(offer, member), 0), "schedule");
	const json_t *price = json_object_get(json_array_get(schedule, 0), "value_with_tax");
	bool exact;

	if (json_object_get(offer, member) == NULL || json_is_null(json_object_get(offer, member)))
		return;
	if (price == NULL)
		missing(check, member);
	else if (!json_is_number(price))
		invalid(check, "4000001", "value_with_tax is a JSON number");
	else if (json_number_value(price) <= 0)
		invalid(check, "90000900", "a price is above zero");
	else if (money_from_number(price, check->market->decimals, &exact), !exact)
		invalid(check, "90000900", "more decimals than the currency has");
}

static void
check_sale(const Check *check, const json_t *offer)
{
	const json_t *schedule =
		json_array_get(json_object_get(json_array_get(json_object_get(offer, "discounted_price"), 0), "schedule"), 0);

	if (schedule != NULL && (json_get_text(schedule, "start_at") == NULL || json_get_text(schedule, "end_at") == NULL))
		missing(check, "discounted_price.schedule.start_at and end_at");
}

static void
check_offer(const Check *check, const json_t *offer)
{
	const char *currency = json_get_text(offer, "currency");
	const char *audience = json_get_text(offer, "audience");

	if (currency == NULL)
		missing(check, "currency");
	else if (strcmp(currency, check->market->currency) != 0)
		invalid(check, "90000900", "not the currency of the marketplace");
	if (audience != NULL && !text_is_one_of(audience, "ALL,B2B"))
		invalid(check, "90244", "audience is ALL or B2B");
	if (check->use == USE_DELETE)
		return;
	if (json_object_get(offer, "our_price") == NULL && check->use == USE_WHOLE)
		missing(check, "our_price");
	if (json_is_null(json_object_get(offer, "our_price")))
		invalid(check, "90000900", "our_price cannot be removed");
	check_price(check, offer, "our_price");
	check_price(check, offer, "discounted_price");
	check_price(check, offer, "minimum_seller_allowed_price");
	check_price(check, offer, "maximum_seller_allowed_price");
	check_price(check, offer, "map_price");
	check_sale(check, offer);
}

static void
check_availability(const Check *check, const json_t *availability)
{
	const char *channel = json_get_text(availability, "fulfillment_channel_code");
	const json_t *quantity = json_object_get(availability, "quantity");
	const json_t *lead_time = json_object_get(availability, "lead_time_to_ship_max_days");
	const char *member;
	json_t *value;

	if (channel == NULL)
		missing(check, "fulfillment_channel_code");
	else if (!text_is_one_of(channel, CHANNELS))
		invalid(check, "90244", "fulfillment_channel_code is not in the allowed set");
	else if (strcmp(channel, "DEFAULT") != 0 && quantity != NULL)
		invalid(check, "90000900", "an FBA instance carries no quantity");
	if (quantity != NULL && !json_is_null(quantity) && !json_is_integer(quantity))
		invalid(check, "4000001", "quantity is an integer");
	else if (quantity != NULL && json_integer_value(quantity) < 0)
		invalid(check, "90000900", "quantity is not negative");
	if (lead_time != NULL && !json_is_null(lead_time) &&
		(!json_is_integer(lead_time) || json_integer_value(lead_time) < 0 || json_integer_value(lead_time) > 30))
		invalid(check, "90000900", "lead_time_to_ship_max_days is 0 to 30");
	json_object_foreach((json_t *) availability, member, value)
	{
		if (!text_is_one_of(member, "fulfillment_channel_code,quantity,lead_time_to_ship_max_days,restock_date,"
									"is_inventory_available"))
			invalid(check, "90000900", "it has a member that the schema does not allow");
	}
}

static void
check_value(const Check *check, const json_t *instance)
{
	const char *value = json_get_text(instance, "value");

	if (strcmp(check->name, "condition_type") == 0 && (value == NULL || !text_is_one_of(value, CONDITIONS)))
		invalid(check, "90244", "not in the allowed set");
	else if (strcmp(check->name, "merchant_suggested_asin") == 0 && (value == NULL || strlen(value) != 10))
		invalid(check, "90000900", "an ASIN has ten characters");
	else if (strcmp(check->name, "externally_assigned_product_identifier") == 0)
	{
		const char *type = json_get_text(instance, "type");

		if (value == NULL)
			invalid(check, "4000001", "the identifier is a JSON string");
		if (type == NULL || !text_is_one_of(type, "ean,upc,gtin"))
			invalid(check, "90244", "type is ean, upc or gtin");
	}
	else if (strcmp(check->name, "parentage_level") == 0 && (value == NULL || !text_is_one_of(value, "parent,child")))
		invalid(check, "90244", "parentage_level is parent or child");
	else if (strcmp(check->name, "child_parent_sku_relationship") == 0 && json_get_text(instance, "parent_sku") == NULL)
		missing(check, "parent_sku");
	else if (strstr(check->name, "_image_locator") != NULL && json_get_text(instance, "media_location") == NULL)
		missing(check, "media_location");
	else if (text_is_one_of(check->name, "item_name,brand,condition_note,product_description,bullet_point") &&
			 (value == NULL || *value == '\0'))
		invalid(check, "99022", "too few values");
}

static void
check_instance(Check *check, const json_t *instance, const json_t *market_ids)
{
	const char *id = json_get_text(instance, "marketplace_id");

	check->market = marketplace_by_id(json_string_value(json_array_get(market_ids, 0)));
	if (!json_is_object(instance) || json_object_size(instance) == 0)
	{
		invalid(check, "99022", "an instance is an object that is not empty");
		return;
	}
	if (strcmp(check->name, "fulfillment_availability") == 0)
	{
		check_availability(check, instance);
		return;
	}
	if (id == NULL)
	{
		missing(check, "marketplace_id");
		return;
	}
	if (!json_array_has(market_ids, id))
	{
		invalid(check, "90000900", "its marketplace is not one of the request's");
		return;
	}
	check->market = marketplace_by_id(id);
	if (strcmp(check->name, "purchasable_offer") == 0)
		check_offer(check, instance);
	else if (check->use == USE_WHOLE)
		check_value(check, instance);
}

void
attribute_check(const char *product_type, const char *name, const json_t *instances, const json_t *market_ids,
				AttributeUse use, json_t *issues)
{
	Check check = {name, NULL, use, issues};
	size_t i;
	json_t *instance;

	if (strcmp(product_type, "PRODUCT") == 0 && !text_is_one_of(name, KNOWN_ATTRIBUTES) &&
		!starts_with(name, "other_product_image_locator_") && !starts_with(name, "other_offer_image_locator_"))
		invalid(&check, "90000900", "the product type has no such attribute");
	else if (use == USE_MERGE && !text_is_one_of(name, "fulfillment_availability,purchasable_offer"))
		invalid(&check, "90000900", "merge is not supported for it");
	else if (!json_is_array(instances) || json_array_size(instances) == 0)
		invalid(&check, "99022", "too few values");
	else
	{
		json_array_foreach(instances, i, instance)
		{
			check_instance(&check, instance, market_ids);
		}
		if (use == USE_WHOLE && json_array_size(market_ids) == 1)
			schema_check_attribute(product_type, name, instances,
								   marketplace_by_id(json_string_value(json_array_get(market_ids, 0))), issues);
	}
}
