/*
 * schema_check.c: what the schema of a product type finds wrong with facts that are submitted. It knows the keywords that
 * product_types.c writes, and no others.
 */
#include "sim.h"

#include <stdio.h>
#include <string.h>

typedef struct Judge
{
	const json_t *defs;
	const char *attribute;
	const Marketplace *market;
	json_t *issues;
} Judge;

static void judge_value(const Judge *judge, const json_t *schema, const json_t *value);

static void
complain(const Judge *judge, const char *code, const char *category, const char *why)
{
	json_array_append_new(judge->issues, issue_new(code, "ERROR", judge->attribute, judge->market, category,
												   "The value of attribute '%s' is invalid: %s.", judge->attribute, why));
}

static const json_t *
resolved(const Judge *judge, const json_t *schema)
{
	const char *target = json_get_text(schema, "$ref");

	return target == NULL ? schema : json_object_get(judge->defs, target + strlen("#/$defs/"));
}

static bool
type_fits(const char *type, const json_t *value)
{
	if (strcmp(type, "string") == 0)
		return json_is_string(value);
	if (strcmp(type, "boolean") == 0)
		return json_is_boolean(value);
	if (strcmp(type, "integer") == 0)
		return json_is_integer(value);
	if (strcmp(type, "number") == 0)
		return json_is_number(value);
	return strcmp(type, "array") == 0 ? json_is_array(value) : json_is_object(value);
}

static bool
is_listed(const json_t *list, const json_t *value)
{
	size_t i;
	json_t *entry;

	json_array_foreach(list, i, entry)
	{
		if (json_equal(entry, value))
			return true;
	}
	return list == NULL;
}

static size_t
characters(const char *text)
{
	size_t count = 0;

	for (; *text != '\0'; text++)
		count += ((unsigned char) *text & 0xC0) != 0x80;
	return count;
}

static void
judge_limits(const Judge *judge, const json_t *schema, const json_t *value)
{
	double number = json_number_value(value);
	double length = json_is_string(value) ? (double) characters(json_string_value(value)) : 0;

	if (!is_listed(json_object_get(schema, "enum"), value))
		complain(judge, "90244", "INVALID_ATTRIBUTE", "it is not in the allowed set");
	if (json_is_string(value) &&
		(length < json_get_number(schema, "minLength", 0) || length > json_get_number(schema, "maxLength", 1e9)))
		complain(judge, "90000900", "INVALID_ATTRIBUTE", "it is too short or too long");
	if (json_is_number(value) &&
		(number < json_get_number(schema, "minimum", -1e18) || number > json_get_number(schema, "maximum", 1e18)))
		complain(judge, "90000900", "INVALID_ATTRIBUTE", "the number is too small or too large");
}

static void
judge_members(const Judge *judge, const json_t *schema, const json_t *value)
{
	const json_t *members = json_object_get(schema, "properties");
	const char *name;
	json_t *member;
	size_t i;

	json_array_foreach(json_object_get(schema, "required"), i, member)
	{
		if (json_object_get(value, json_string_value(member)) == NULL)
			json_array_append_new(judge->issues, issue_new("90220", "ERROR", judge->attribute, judge->market,
														   "MISSING_ATTRIBUTE", "'%s' of '%s' is required but not supplied.",
														   json_string_value(member), judge->attribute));
	}
	json_object_foreach((json_t *) value, name, member)
	{
		if (json_object_get(members, name) != NULL)
			judge_value(judge, json_object_get(members, name), member);
		else
			complain(judge, "90000900", "INVALID_ATTRIBUTE", "it has a member that the schema does not allow");
	}
}

static void
judge_value(const Judge *judge, const json_t *schema, const json_t *value)
{
	const char *type;
	size_t i;
	json_t *element;

	schema = resolved(judge, schema);
	type = json_get_text(schema, "type");
	if (type != NULL && !type_fits(type, value))
	{
		complain(judge, "4000001", "INVALID_ATTRIBUTE", "it has the wrong JSON type");
		return;
	}
	if (json_is_object(value))
		judge_members(judge, schema, value);
	else if (json_is_array(value))
		json_array_foreach(value, i, element)
		{
			judge_value(judge, json_object_get(schema, "items"), element);
		}
	else
		judge_limits(judge, schema, value);
	if (json_is_array(value) && (int64_t) json_array_size(value) > json_get_int(schema, "maxUniqueItems", INT64_MAX))
		complain(judge, "90000900", "INVALID_ATTRIBUTE", "it has too many values");
}

/* Required attributes that are missing, by name and by the conditions. */
static void
judge_required(const Judge *judge, const json_t *required, const json_t *attributes)
{
	size_t i;
	json_t *name;

	json_array_foreach(required, i, name)
	{
		if (json_object_get(attributes, json_string_value(name)) == NULL)
			json_array_append_new(judge->issues, issue_new("90220", "ERROR", json_string_value(name), judge->market,
														   "MISSING_ATTRIBUTE", "'%s' is required but not supplied.",
														   json_string_value(name)));
	}
}

static bool
condition_holds(const json_t *condition, const json_t *attributes)
{
	const char *name = json_string_value(json_array_get(json_object_get(condition, "required"), 0));
	const json_t *wanted = json_object_get(json_object_get(json_object_get(condition, "properties"), name), "contains");
	const json_t *values = json_object_get(json_object_get(json_object_get(wanted, "properties"), "value"), "enum");
	size_t i;
	json_t *instance;

	json_array_foreach(json_object_get(attributes, name), i, instance)
	{
		if (is_listed(values, json_object_get(instance, "value")))
			return true;
	}
	return false;
}

/* One attribute of a typed product, in whatever submission. Sales terms are judged elsewhere. */
void
schema_check_attribute(const char *product_type, const char *name, const json_t *value, const Marketplace *market,
					   json_t *issues)
{
	json_t *schema;
	const json_t *property;
	Judge judge = {NULL, name, market, issues};

	if (strcmp(product_type, "PRODUCT") == 0 || !product_type_exists(product_type))
		return;
	schema = product_type_schema(product_type, "LISTING", false, market);
	judge.defs = json_object_get(schema, "$defs");
	property = json_object_get(json_object_get(schema, "properties"), name);
	if (property == NULL)
		complain(&judge, "90000900", "INVALID_ATTRIBUTE", "the product type has no such attribute");
	else if (!attribute_is_sales_term(name))
		judge_value(&judge, property, value);
	json_decref(schema);
}

/* The facts of a whole product. */
void
schema_check_whole(const char *product_type, const json_t *attributes, const Marketplace *market, json_t *issues)
{
	json_t *schema;
	size_t i;
	json_t *condition;
	Judge judge = {NULL, NULL, market, issues};

	if (strcmp(product_type, "PRODUCT") == 0 || !product_type_exists(product_type))
		return;
	schema = product_type_schema(product_type, "LISTING_PRODUCT_ONLY", true, market);
	judge_required(&judge, json_object_get(schema, "required"), attributes);
	json_array_foreach(json_object_get(schema, "allOf"), i, condition)
	{
		if (condition_holds(json_object_get(condition, "if"), attributes))
			judge_required(&judge, json_object_get(json_object_get(condition, "then"), "required"), attributes);
	}
	json_decref(schema);
}
