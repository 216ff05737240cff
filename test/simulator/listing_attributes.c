/*
 * listing_attributes.c: how a submission changes a SKU's attributes.
 *
 * An attribute is an array of instances, told apart by selectors. put replaces product facts and keeps the sales terms
 * it does not mention; patch works on instances: add and replace put whole ones in place of those with the same
 * selectors, merge changes members of them (null removes one), delete removes them.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

typedef struct Selectors
{
	const char *attribute;
	const char *members;
} Selectors;

static const Selectors selectors[] = {
	{"purchasable_offer", "marketplace_id,currency,audience"},
	{"fulfillment_availability", "fulfillment_channel_code"},
	{"list_price", "marketplace_id,currency"},
	{"externally_assigned_product_identifier", "marketplace_id,type"},
	{"merchant_suggested_asin", "marketplace_id,value"},
	{"package_contains_sku", "marketplace_id,sku"},
	{"item_name", "marketplace_id,language_tag"},
	{"brand", "marketplace_id,language_tag"},
	{"bullet_point", "marketplace_id,language_tag"},
	{"product_description", "marketplace_id,language_tag"},
	{"generic_keyword", "marketplace_id,language_tag"},
	{"condition_note", "marketplace_id,language_tag"},
};

bool
attribute_is_sales_term(const char *name)
{
	return text_is_one_of(name, "purchasable_offer,fulfillment_availability,condition_type,condition_note,list_price,"
								"product_tax_code,merchant_release_date,merchant_shipping_group,max_order_quantity,"
								"gift_options");
}

bool
attribute_is_relationship(const char *name)
{
	return text_is_one_of(name, "child_parent_sku_relationship,package_contains_sku");
}

static const char *
selectors_of(const char *attribute)
{
	for (size_t i = 0; i < lengthof(selectors); i++)
		if (strcmp(selectors[i].attribute, attribute) == 0)
			return selectors[i].members;
	return "marketplace_id";
}

static const char *
selector_value(const json_t *instance, const char *member)
{
	const char *value = json_get_text(instance, member);

	if (value != NULL)
		return value;
	return strcmp(member, "audience") == 0 ? "ALL" : "";
}

static bool
same_instance(const char *attribute, const json_t *a, const json_t *b)
{
	char members[64];
	char *left;

	strcpy(members, selectors_of(attribute));
	for (char *member = strtok_r(members, ",", &left); member != NULL; member = strtok_r(NULL, ",", &left))
		if (strcmp(selector_value(a, member), selector_value(b, member)) != 0)
			return false;
	return true;
}

static json_t *
find_instance(const char *attribute, const json_t *instances, const json_t *like)
{
	size_t i;
	json_t *instance;

	json_array_foreach(instances, i, instance)
	{
		if (same_instance(attribute, instance, like))
			return instance;
	}
	return NULL;
}

/* The first instance whose member has the value; audience B2B is never what is meant. */
json_t *
attribute_instance(const json_t *attributes, const char *name, const char *selector, const char *value)
{
	size_t i;
	json_t *instance;

	json_array_foreach(json_object_get(attributes, name), i, instance)
	{
		const char *found = json_get_text(instance, selector);

		if ((found == NULL || strcmp(found, value) == 0) && strcmp(selector_value(instance, "audience"), "B2B") != 0)
			return instance;
	}
	return NULL;
}

/* Removes the instances that `fresh` names, and puts those of `fresh` in (replace) or not (delete). */
static void
replace_instances(json_t *attributes, const char *name, const json_t *fresh, bool put_in)
{
	json_t *old = json_object_get(attributes, name);
	json_t *kept = json_array();
	size_t i;
	json_t *instance;

	json_array_foreach(old, i, instance)
	{
		if (find_instance(name, fresh, instance) == NULL)
			json_array_append(kept, instance);
	}
	if (put_in)
		json_array_extend(kept, (json_t *) fresh);
	if (json_array_size(kept) > 0)
		json_object_set(attributes, name, kept);
	else
		json_object_del(attributes, name);
	json_decref(kept);
}

static void
merge_members(json_t *target, const json_t *change)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *) change, key, value)
	{
		if (json_is_null(value))
			json_object_del(target, key);
		else
			json_object_set(target, key, value);
	}
}

static void
merge_instances(json_t *attributes, const char *name, const json_t *changes)
{
	json_t *instances = json_object_get(attributes, name);
	size_t i;
	json_t *change;

	if (instances == NULL)
	{
		instances = json_array();
		json_object_set_new(attributes, name, instances);
	}
	json_array_foreach(changes, i, change)
	{
		json_t *target = find_instance(name, instances, change);

		if (target == NULL)
		{
			target = json_object();
			json_array_append_new(instances, target);
		}
		merge_members(target, change);
	}
}

/* New attributes after the patches; the caller has checked their form. */
json_t *
attributes_patch(const json_t *old, const json_t *patches)
{
	json_t *attributes = json_deep_copy(old);
	size_t i;
	json_t *patch;

	json_array_foreach(patches, i, patch)
	{
		const char *name = json_get_text(patch, "path") + strlen("/attributes/");
		const char *op = json_get_text(patch, "op");
		json_t *value = json_deep_copy(json_object_get(patch, "value"));

		if (strcmp(op, "merge") == 0)
			merge_instances(attributes, name, value);
		else
			replace_instances(attributes, name, value, strcmp(op, "delete") != 0);
		json_decref(value);
	}
	return attributes;
}

/* Without what belongs to one marketplace alone; keep says which attributes stay nevertheless. */
static json_t *
drop_market(const json_t *old, const char *market_id, const json_t *fresh, bool only_facts)
{
	json_t *attributes = json_object();
	const char *name;
	json_t *instances;

	json_object_foreach((json_t *) old, name, instances)
	{
		bool keep = only_facts && attribute_is_sales_term(name) && json_object_get(fresh, name) == NULL;
		json_t *kept = json_array();
		size_t i;
		json_t *instance;

		json_array_foreach(instances, i, instance)
		{
			const char *id = json_get_text(instance, "marketplace_id");

			if (keep || id == NULL || strcmp(id, market_id) != 0)
				json_array_append_new(kept, json_deep_copy(instance));
		}
		if (json_array_size(kept) > 0)
			json_object_set(attributes, name, kept);
		json_decref(kept);
	}
	return attributes;
}

json_t *
attributes_put(const json_t *old, const json_t *fresh, const char *market_id, bool keep_facts)
{
	json_t *attributes = keep_facts ? json_deep_copy(old) : drop_market(old, market_id, fresh, true);
	const char *name;
	json_t *instances;

	json_object_foreach((json_t *) fresh, name, instances)
	{
		json_t *copy = json_deep_copy(instances);

		replace_instances(attributes, name, copy, true);
		json_decref(copy);
	}
	return attributes;
}

json_t *
attributes_without(const json_t *old, const char *market_id)
{
	return drop_market(old, market_id, NULL, false);
}
