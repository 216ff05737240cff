/*
 * product_types.c: the product types that have a definition, their schemas, and what a schema finds wrong with facts.
 *
 * A product type is a list of attributes, each of one of a few shapes; from it come the JSON schema that clients download
 * and, from that very schema, the judgement of submissions. One condition a type may have (something is required if
 * something else has a value) stands in the schema's allOf.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum Shape
{
	TEXT,
	CHOICE,   /* one of the values */
	PROPOSAL, /* free text, values are proposed */
	NUMBER,
	INTEGER,
	TRUTH,
	MEASURE, /* a number with a unit */
	SIZES,   /* length, width, height, each a measure */
	CODE,    /* type and value, as a barcode */
	LOCATOR,
	THEME,
	FAMILY,
	OFFER,
	STOCK,
	AMOUNT
} Shape;

#define REQUIRED 1
#define LANGUAGE 2 /* its texts are in a language */
#define FIXED    4 /* cannot be changed once it is there */
#define SALES    8 /* a sales term, no fact */

typedef struct Attribute
{
	const char *name;
	const char *title;
	Shape shape;
	unsigned flags;
	int low;            /* least length or number */
	int high;           /* greatest; 0 = no limit */
	int most;           /* instances with the same selectors */
	const char *values; /* code=label, separated by | */
} Attribute;

static const Attribute sales_terms[] = {
	{"condition_type", "Condition", CHOICE, REQUIRED | SALES, 0, 0, 1,
	 "new_new=New|new_open_box=Open box|used_like_new=Used, like new|used_very_good=Used, very good|used_good=Used, good|"
	 "used_acceptable=Used, acceptable"},
	{"condition_note", "Note on the condition", TEXT, LANGUAGE | SALES, 1, 1000, 1, NULL},
	{"purchasable_offer", "Price", OFFER, REQUIRED | SALES, 0, 0, 1, NULL},
	{"fulfillment_availability", "Stock", STOCK, SALES, 0, 0, 1, NULL},
	{"list_price", "List price", AMOUNT, SALES, 0, 0, 1, NULL},
	{"merchant_shipping_group", "Shipping template", CHOICE, SALES, 0, 0, 1,
	 "legacy-template-id=Default template|T-1=Parcels|T-2=Letters"},
	{"merchant_suggested_asin", "Suggested item", TEXT, FIXED | SALES, 10, 10, 1, NULL},
	{NULL},
};

static const Attribute common_facts[] = {
	{"item_name", "Name", TEXT, REQUIRED | LANGUAGE, 1, 120, 1, NULL},
	{"brand", "Brand", TEXT, REQUIRED | LANGUAGE, 1, 80, 1, NULL},
	{"manufacturer", "Maker", TEXT, LANGUAGE, 1, 80, 1, NULL},
	{"model_number", "Model number", TEXT, 0, 1, 40, 1, NULL},
	{"part_number", "Part number", TEXT, 0, 1, 40, 1, NULL},
	{"bullet_point", "Key points", TEXT, LANGUAGE, 1, 300, 5, NULL},
	{"product_description", "Description", TEXT, LANGUAGE, 1, 2000, 1, NULL},
	{"generic_keyword", "Search terms", TEXT, LANGUAGE, 1, 200, 5, NULL},
	{"color", "Colour", TEXT, LANGUAGE, 1, 50, 1, NULL},
	{"size", "Size", TEXT, LANGUAGE, 1, 50, 1, NULL},
	{"material", "Material", PROPOSAL, LANGUAGE, 1, 50, 3, "Ceramic=Ceramic|Glass=Glass|Metal=Metal|Wood=Wood"},
	{"number_of_items", "Number of items", INTEGER, 0, 1, 1000, 1, NULL},
	{"country_of_origin", "Country of origin", CHOICE, 0, 0, 0, 1, "DE=Germany|DK=Denmark|FR=France|PL=Poland|PT=Portugal"},
	{"item_package_weight", "Weight of the parcel", MEASURE, 0, 0, 100000, 1, "grams=Grams|kilograms=Kilograms"},
	{"externally_assigned_product_identifier", "Barcode", CODE, FIXED, 8, 14, 1, "ean=EAN|upc=UPC|gtin=GTIN"},
	{"supplier_declared_has_product_identifier_exemption", "Is exempt from barcodes", TRUTH, 0, 0, 0, 1, NULL},
	{"parentage_level", "Level in a family", CHOICE, 0, 0, 0, 1, "parent=Family|child=Member"},
	{"variation_theme", "What members differ in", THEME, 0, 0, 0, 1, "COLOR=Colour|SIZE=Size|COLOR/SIZE=Colour and size"},
	{"child_parent_sku_relationship", "Family", FAMILY, 0, 0, 0, 1, NULL},
	{"main_product_image_locator", "Main image", LOCATOR, 0, 0, 0, 1, NULL},
	{"other_product_image_locator_1", "Image 2", LOCATOR, 0, 0, 0, 1, NULL},
	{"other_product_image_locator_2", "Image 3", LOCATOR, 0, 0, 0, 1, NULL},
	{"other_product_image_locator_3", "Image 4", LOCATOR, 0, 0, 0, 1, NULL},
	{"other_product_image_locator_4", "Image 5", LOCATOR, 0, 0, 0, 1, NULL},
	{"other_product_image_locator_5", "Image 6", LOCATOR, 0, 0, 0, 1, NULL},
	{"other_product_image_locator_6", "Image 7", LOCATOR, 0, 0, 0, 1, NULL},
	{"other_product_image_locator_7", "Image 8", LOCATOR, 0, 0, 0, 1, NULL},
	{"other_product_image_locator_8", "Image 9", LOCATOR, 0, 0, 0, 1, NULL},
	{NULL},
};

static const Attribute cup_facts[] = {
	{"capacity", "Capacity", MEASURE, 0, 0, 10000, 1, "milliliters=Millilitres|liters=Litres"},
	{"is_dishwasher_safe", "Is dishwasher-safe", TRUTH, 0, 0, 0, 1, NULL},
	{NULL},
};

/* style has no language here, room_note has one */
static const Attribute lamp_facts[] = {
	{"power_source", "Power", CHOICE, REQUIRED, 0, 0, 1, "corded=Mains|battery=Batteries|solar=Sunlight"},
	{"light_wattage", "Power of the bulb", MEASURE, REQUIRED, 1, 250, 1, "watts=Watts"},
	{"bulb_base", "Bulb base", CHOICE, 0, 0, 0, 1, "e14=E14|e27=E27|gu10=GU10|none=Built in"},
	{"number_of_batteries", "Number of batteries", INTEGER, 0, 1, 20, 1, NULL},
	{"lamp_dimensions", "Size of the lamp", SIZES, 0, 0, 500, 1, "centimeters=Centimetres|inches=Inches"},
	{"style", "Style", PROPOSAL, 0, 1, 40, 1, "modern=Modern|classic=Classic|industrial=Industrial"},
	{"room_note", "Where it looks best", TEXT, LANGUAGE, 1, 60, 1, NULL},
	{NULL},
};

static const Attribute no_facts[] = {{NULL}};

typedef struct ProductType
{
	const char *name;
	const char *title;
	const Attribute *facts;
	const char *condition[3]; /* if this attribute has this value, that one is required */
} ProductType;

static const ProductType types[] = {
	{"DRINKING_CUP", "Cup for drinks", cup_facts, {NULL}},
	{"MUG", "Mug", cup_facts, {NULL}},
	{"TABLE_LAMP", "Table lamp", lamp_facts, {"power_source", "battery", "number_of_batteries"}},
	{"PRODUCT", "Any product", no_facts, {NULL}},
};

/* What control has changed since: versions, and attributes that are required besides. */
static json_t *changes;

void
product_types_reset(void)
{
	json_decref(changes);
	changes = json_object();
}

void
product_type_change(const char *name, const char *required)
{
	json_t *change = json_object_get(changes, name);

	if (change == NULL)
	{
		change = json_pack("{s:i, s:[]}", "version", 1, "required");
		json_object_set_new(changes, name, change);
	}
	json_object_set_new(change, "version", json_integer(json_get_int(change, "version", 1) + 1));
	if (required != NULL)
		json_array_append_new(json_object_get(change, "required"), json_string(required));
}

static const ProductType *
type_find(const char *name)
{
	for (size_t i = 0; i < lengthof(types); i++)
		if (strcmp(types[i].name, name) == 0)
			return &types[i];
	return NULL;
}

bool
product_type_exists(const char *name)
{
	return type_find(name) != NULL;
}

size_t
product_type_count(void)
{
	return lengthof(types) - 1; /* PRODUCT is no type to choose */
}

const char *
product_type_name(size_t i)
{
	return types[i].name;
}

const char *
product_type_title(const char *name)
{
	return type_find(name)->title;
}

char *
product_type_version(const char *name)
{
	return xprintf("%s-%d", name, (int) json_get_int(json_object_get(changes, name), "version", 1));
}

/* ---- the schema ---- */

/* Puts {"type": "string", "enum": [codes], "enumNames": [labels]} into an object, or what is left of it. */
static void
add_values(json_t *object, const char *values)
{
	json_t *codes = json_array();
	json_t *labels = json_array();
	char *copy = xstrdup(values);
	char *left;

	for (char *value = strtok_r(copy, "|", &left); value != NULL; value = strtok_r(NULL, "|", &left))
	{
		char *label = strchr(value, '=');

		*label = '\0';
		json_array_append_new(codes, json_string(value));
		json_array_append_new(labels, json_string(label + 1));
	}
	free(copy);
	json_object_set_new(object, "enum", codes);
	json_object_set_new(object, "enumNames", labels);
}

static json_t *
choice_json(const char *title, const char *values)
{
	json_t *object = json_pack("{s:s, s:s, s:b, s:b}", "title", title, "type", "string", "editable", 1, "hidden", 0);

	add_values(object, values);
	return object;
}

static json_t *
limited_json(const char *title, const char *type, const char *low_name, int low, const char *high_name, int high)
{
	json_t *object = json_pack("{s:s, s:s, s:b, s:b}", "title", title, "type", type, "editable", 1, "hidden", 0);

	json_object_set_new(object, low_name, json_integer(low));
	if (high > 0)
		json_object_set_new(object, high_name, json_integer(high));
	return object;
}

static json_t *
proposal_json(const Attribute *attribute)
{
	json_t *listed = json_pack("{s:s}", "type", "string");

	add_values(listed, attribute->values);
	return json_pack("{s:s, s:b, s:i, s:i, s:[{s:s}, o]}", "title", attribute->title, "editable", 1, "minLength",
					 attribute->low, "maxLength", attribute->high, "anyOf", "type", "string", listed);
}

static json_t *
measure_members_json(const Attribute *attribute)
{
	return json_pack("{s:o, s:o}", "unit", choice_json("Unit", attribute->values), "value",
					 limited_json("Value", "number", "minimum", attribute->low, "maximum", attribute->high));
}

static json_t *
measure_json(const Attribute *attribute)
{
	return json_pack("{s:s, s:b, s:[s,s], s:o}", "type", "object", "additionalProperties", 0, "required", "unit",
					 "value", "properties", measure_members_json(attribute));
}

static json_t *
price_json(const char *title)
{
	return json_pack("{s:s, s:s, s:i, s:i, s:{s:s, s:b, s:[s], s:{s:{s:s, s:i, s:i, s:{s:s, s:b, s:[s], s:{s:{s:s, s:i}, "
					 "s:{s:s}, s:{s:s}}}}}}}",
					 "title", title, "type", "array", "minItems", 1, "maxItems", 1, "items", "type", "object",
					 "additionalProperties", 0, "required", "schedule", "properties", "schedule", "type", "array",
					 "minItems", 1, "maxItems", 1, "items", "type", "object", "additionalProperties", 0, "required",
					 "value_with_tax", "properties", "value_with_tax", "type", "number", "exclusiveMinimum", 0,
					 "start_at", "type", "string", "end_at", "type", "string");
}

static void
require_two(json_t *required, const char *one, const char *other)
{
	json_array_append_new(required, json_string(one));
	json_array_append_new(required, json_string(other));
}

/* The members of one instance but for the tags; required gets the names of those it cannot do without. */
static json_t *
members_json(const Attribute *attribute, json_t *required)
{
	const char *title = attribute->title;
	json_t *member;

	switch (attribute->shape)
	{
		case MEASURE:
			require_two(required, "unit", "value");
			return measure_members_json(attribute);
		case SIZES:
			return json_pack("{s:o, s:o, s:o}", "length", measure_json(attribute), "width", measure_json(attribute),
							 "height", measure_json(attribute));
		case CODE:
			require_two(required, "type", "value");
			return json_pack("{s:o, s:o}", "type", choice_json("Type", attribute->values), "value",
							 limited_json(title, "string", "minLength", attribute->low, "maxLength", attribute->high));
		case LOCATOR:
			json_array_append_new(required, json_string("media_location"));
			return json_pack("{s:{s:s, s:s, s:s}}", "media_location", "title", "Address", "type", "string", "format",
							 "uri");
		case THEME:
			json_array_append_new(required, json_string("name"));
			return json_pack("{s:o}", "name", choice_json(title, attribute->values));
		case FAMILY:
			json_array_append_new(required, json_string("parent_sku"));
			return json_pack("{s:o, s:o}", "child_relationship_type", choice_json("Kind", "variation=Variation"),
							 "parent_sku", limited_json("SKU of the family", "string", "minLength", 1, "maxLength", 40));
		case OFFER:
			require_two(required, "currency", "our_price");
			return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:{s:s}}", "currency",
							 limited_json("Currency", "string", "minLength", 3, "maxLength", 3), "audience",
							 choice_json("Audience", "ALL=Everybody|B2B=Businesses"), "our_price", price_json("Price"),
							 "discounted_price", price_json("Sale price"), "minimum_seller_allowed_price",
							 price_json("Minimum"), "maximum_seller_allowed_price", price_json("Maximum"),
							 "quantity_discount_plan", "type", "array");
		case STOCK:
			json_array_append_new(required, json_string("fulfillment_channel_code"));
			return json_pack("{s:o, s:o, s:o, s:{s:s}, s:{s:s}}", "fulfillment_channel_code",
							 choice_json("Channel", "DEFAULT=Merchant|AMAZON_EU=Amazon|AMAZON_NA=Amazon|AMAZON_JP=Amazon"),
							 "quantity", limited_json("Quantity", "integer", "minimum", 0, "maximum", 0),
							 "lead_time_to_ship_max_days",
							 limited_json("Days to dispatch", "integer", "minimum", 0, "maximum", 30), "restock_date",
							 "type", "string", "is_inventory_available", "type", "boolean");
		case AMOUNT:
			require_two(required, "currency", "value");
			return json_pack("{s:o, s:o}", "currency", limited_json("Currency", "string", "minLength", 3, "maxLength", 3),
							 "value", limited_json(title, "number", "minimum", 0, "maximum", 0));
		default:
			break;
	}
	json_array_append_new(required, json_string("value"));
	if (attribute->shape == CHOICE)
		member = choice_json(title, attribute->values);
	else if (attribute->shape == PROPOSAL)
		member = proposal_json(attribute);
	else if (attribute->shape == TRUTH)
		member = json_pack("{s:s, s:s, s:[b,b], s:[s,s]}", "title", title, "type", "boolean", "enum", 1, 0, "enumNames",
						   "Yes", "No");
	else if (attribute->shape == TEXT)
		member = limited_json(title, "string", "minLength", attribute->low, "maxLength", attribute->high);
	else
		member = limited_json(title, attribute->shape == INTEGER ? "integer" : "number", "minimum", attribute->low,
							  "maximum", attribute->high);
	return json_pack("{s:o}", "value", member);
}

static json_t *
attribute_json(const Attribute *attribute)
{
	json_t *required = json_array();
	json_t *members = members_json(attribute, required);
	json_t *selectors = json_array();

	if (attribute->shape != STOCK)
	{
		json_object_set_new(members, "marketplace_id", json_pack("{s:s}", "$ref", "#/$defs/marketplace_id"));
		json_array_append_new(selectors, json_string("marketplace_id"));
	}
	if (attribute->flags & LANGUAGE)
	{
		json_object_set_new(members, "language_tag", json_pack("{s:s}", "$ref", "#/$defs/language_tag"));
		json_array_append_new(selectors, json_string("language_tag"));
	}
	if (attribute->shape == STOCK)
		json_array_append_new(selectors, json_string("fulfillment_channel_code"));
	if (attribute->shape == OFFER || attribute->shape == AMOUNT)
		json_array_append_new(selectors, json_string("currency"));
	if (attribute->shape == OFFER)
		json_array_append_new(selectors, json_string("audience"));
	if (attribute->shape == CODE)
		json_array_append_new(selectors, json_string("type"));
	return json_pack("{s:s, s:s, s:s, s:b, s:b, s:i, s:i, s:i, s:o, s:{s:s, s:b, s:o, s:o}}", "title", attribute->title,
					 "description", attribute->title, "type", "array", "editable", !(attribute->flags & FIXED), "hidden",
					 0, "minItems", 1, "minUniqueItems", 1, "maxUniqueItems", attribute->most, "selectors", selectors,
					 "items", "type", "object", "additionalProperties", 0, "required", required, "properties", members);
}

static void
add_attributes(const Attribute *list, bool enforced, json_t *properties, json_t *required)
{
	for (; list->name != NULL; list++)
	{
		json_object_set_new(properties, list->name, attribute_json(list));
		if (enforced && (list->flags & REQUIRED))
			json_array_append_new(required, json_string(list->name));
	}
}

static json_t *
conditions_json(const ProductType *type)
{
	if (type->condition[0] == NULL)
		return json_array();
	return json_pack("[{s:{s:[s], s:{s:{s:{s:[s], s:{s:{s:[s]}}}}}}, s:{s:[s]}}]", "if", "required", type->condition[0],
					 "properties", type->condition[0], "contains", "required", "value", "properties", "value", "enum",
					 type->condition[1], "then", "required", type->condition[2]);
}

/* The schema of a product type: product facts, sales terms, or both. */
json_t *
product_type_schema(const char *name, const char *requirements, bool enforced, const Marketplace *market)
{
	const ProductType *type = type_find(name);
	json_t *properties = json_object();
	json_t *required = json_array();

	if (strcmp(requirements, "LISTING_OFFER_ONLY") != 0)
	{
		add_attributes(common_facts, enforced, properties, required);
		add_attributes(type->facts, enforced, properties, required);
		if (enforced)
			json_array_extend(required, json_object_get(json_object_get(changes, name), "required"));
	}
	if (strcmp(requirements, "LISTING_PRODUCT_ONLY") != 0)
		add_attributes(sales_terms, enforced, properties, required);
	return json_pack("{s:s, s:s, s:s, s:{s:{s:s, s:s, s:s, s:[s], s:[s], s:b, s:b}, s:{s:s, s:s, s:s, s:[s], s:[s], s:b, s:b}}, "
					 "s:s, s:b, s:o, s:o, s:o}",
					 "$schema", "https://schemas.amazon.com/selling-partners/definitions/product-types/meta-schema/v1",
					 "$id", "https://schemas.example.invalid/definition", "$comment", "Made by the simulator.", "$defs",
					 "marketplace_id", "title", "Marketplace", "type", "string", "default", market->id, "enum",
					 market->id, "enumNames", market->name, "editable", 0, "hidden", 1, "language_tag", "title",
					 "Language", "type", "string", "default", market->language, "enum", market->language, "enumNames",
					 market->language, "editable", 0, "hidden", 1, "type", "object", "additionalProperties", 0,
					 "required", required, "properties", properties, "allOf", conditions_json(type));
}
