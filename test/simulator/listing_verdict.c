/*
 * listing_verdict.c: what becomes of an accepted submission, settings.verdict_delay virtual seconds later.
 *
 * The rules are fixed, so that a test can foresee them (README.md lists them): the ASIN and its EAN's ending decide
 * whether the page matches, the price whether it is plausible, the SKU's ending forces further outcomes. Stock counts
 * from the moment of acceptance: units that Amazon sold in between are not put back by the verdict.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HIGHEST_PRICE 50000 /* in a currency with decimals */
#define SLOW_FACTOR   10

static json_t *
suppressed(json_t *issue)
{
	json_object_set_new(issue, "enforcements",
						json_pack("{s:[{s:s}], s:{s:s}}", "actions", "action", "LISTING_SUPPRESSED", "exemption",
								  "status", "NOT_EXEMPT"));
	return issue;
}

static bool
offer_price(const json_t *attributes, const Marketplace *market, const char *member, int64_t *price)
{
	const json_t *offer = attribute_instance(attributes, "purchasable_offer", "marketplace_id", market->id);
	const json_t *schedule =
		json_array_get(json_object_get(json_array_get(json_object_get(offer, member), 0), "schedule"), 0);
	const json_t *value = json_object_get(schedule, "value_with_tax");
	bool exact;

	if (!json_is_number(value))
		return false;
	*price = money_from_number(value, market->decimals, &exact);
	return true;
}

static bool
business_price(const json_t *attributes, const Marketplace *market, int64_t *price)
{
	size_t i;
	json_t *offer;

	json_array_foreach(json_object_get(attributes, "purchasable_offer"), i, offer)
	{
		const char *audience = json_get_text(offer, "audience");
		json_t *only = json_pack("{s:[{}]}", "purchasable_offer");
		bool found = false;

		if (audience != NULL && strcmp(audience, "B2B") == 0)
		{
			json_object_update(json_array_get(json_object_get(only, "purchasable_offer"), 0), offer);
			json_object_del(json_array_get(json_object_get(only, "purchasable_offer"), 0), "audience");
			found = offer_price(only, market, "our_price", price) &&
					strcmp(json_get_text(offer, "marketplace_id"), market->id) == 0;
		}
		json_decref(only);
		if (found)
			return true;
	}
	return false;
}

/* Facts that suffice for a page of its own. */
static bool
makes_page(const Item *item, const json_t *attributes)
{
	return item != NULL && strcmp(item->product_type, "PRODUCT") != 0 &&
		   json_object_get(attributes, "item_name") != NULL && json_object_get(attributes, "brand") != NULL;
}

/* Matches by barcode; true when there is one page, or the facts make one. */
static bool
match_identifier(const Item *item, const json_t *attributes, const json_t *identifier, const Marketplace *market,
				 char asin[11], json_t *issues)
{
	char asins[2][11];
	int matches = catalog_match(json_get_text(identifier, "type"), json_get_text(identifier, "value"), asins);

	if (matches == 1)
		strcpy(asin, asins[0]);
	else if (matches == 0 && makes_page(item, attributes))
	{
		catalog_new_page(json_get_text(identifier, "value"), asin);
		return true;
	}
	else if (matches == 0)
		json_array_append_new(issues, issue_new("8560", "ERROR", "externally_assigned_product_identifier", market,
												"MISSING_ATTRIBUTE",
												"No page of the catalogue matches '%s', and the data does "
												"not suffice to create one.",
												json_get_text(identifier, "value")));
	else
		json_array_append_new(issues, issue_new("8541", "ERROR", "externally_assigned_product_identifier", market,
												"DUPLICATE", "'%s' matches several pages (%s, %s); suggest one.",
												json_get_text(identifier, "value"), asins[0], asins[1]));
	return matches == 1;
}

/* A family has no barcode, and whoever is exempted needs none. */
static bool
needs_no_identifier(const json_t *attributes, const Marketplace *market)
{
	const json_t *level = attribute_instance(attributes, "parentage_level", "marketplace_id", market->id);
	const char *value = json_get_text(level, "value");

	return (value != NULL && strcmp(value, "parent") == 0) ||
		   json_object_get(attributes, "supplier_declared_has_product_identifier_exemption") != NULL;
}

/* Is the SKU on this page already? The page may be one that its facts have made. */
static bool
is_on_page(const Item *item, const char *asin)
{
	for (size_t i = 0; item != NULL && i < item->offers.count; i++)
		if (strcmp(((const Offer *) item->offers.at[i])->asin, asin) == 0)
			return true;
	return false;
}

bool
seller_has_page(const Seller *seller, const char *asin)
{
	for (size_t i = 0; i < seller->item_list.count; i++)
		if (is_on_page(seller->item_list.at[i], asin))
			return true;
	return false;
}

/* Finds the page that the offer belongs to. */
static bool
match_page(const Item *item, const json_t *attributes, const Marketplace *market, char asin[11], json_t *issues)
{
	const json_t *suggested = attribute_instance(attributes, "merchant_suggested_asin", "marketplace_id", market->id);
	const json_t *identifier =
		attribute_instance(attributes, "externally_assigned_product_identifier", "marketplace_id", market->id);
	const char *text = json_get_text(suggested, "value");
	char asins[2][11];
	int matches;

	if (text == NULL && identifier != NULL)
		return match_identifier(item, attributes, identifier, market, asin, issues);
	if (text == NULL && makes_page(item, attributes) && needs_no_identifier(attributes, market))
	{
		catalog_new_page(item->sku, asin);
		return true;
	}
	if (text == NULL)
	{
		json_array_append_new(issues, issue_new("8560", "ERROR", "merchant_suggested_asin", market, "MISSING_ATTRIBUTE",
												"No page of the catalogue matches: neither an ASIN nor a product "
												"identifier was supplied."));
		return false;
	}
	if (is_on_page(item, text))
	{
		snprintf(asin, 11, "%s", text);
		return true;
	}
	matches = identifier == NULL
				  ? 1
				  : catalog_match(json_get_text(identifier, "type"), json_get_text(identifier, "value"), asins);
	if (!catalog_exists(text) ||
		(identifier != NULL &&
		 (matches == 0 || (strcmp(asins[0], text) != 0 && (matches == 1 || strcmp(asins[1], text) != 0)))))
	{
		json_array_append_new(issues, issue_new("4005015", "ERROR", "merchant_suggested_asin", market, "INVALID_ATTRIBUTE",
												"The suggested ASIN '%s' does not match an item of the catalogue.", text));
		return false;
	}
	snprintf(asin, 11, "%s", text);
	return true;
}

static void
judge_page(const char *asin, const Marketplace *market, json_t *issues)
{
	char ean[14];

	if (!catalog_ean(asin, ean))
		return;
	if (catalog_outcome(ean) == CATALOG_APPROVAL)
		json_array_append_new(issues, suppressed(issue_new("5665", "ERROR", "brand", market, "QUALIFICATION_REQUIRED",
														   "You need approval to list this brand.")));
	if (catalog_outcome(ean) == CATALOG_CONFLICT)
		json_array_append_new(issues, suppressed(issue_new("8541", "ERROR", "brand", market, "INVALID_ATTRIBUTE",
														   "The data sent contradicts the page of ASIN %s: brand.", asin)));
}

static void
judge_price(const json_t *attributes, const Marketplace *market, json_t *issues)
{
	int64_t price;
	int64_t bound;

	if (!offer_price(attributes, market, "our_price", &price))
		return;
	if (offer_price(attributes, market, "minimum_seller_allowed_price", &bound) && price < bound)
		json_array_append_new(issues, suppressed(issue_new("18155", "ERROR", "purchasable_offer", market,
														   "INVALID_PRICE", "The price is below the minimum price.")));
	if (offer_price(attributes, market, "maximum_seller_allowed_price", &bound) && price > bound)
		json_array_append_new(issues, suppressed(issue_new("18155", "ERROR", "purchasable_offer", market,
														   "INVALID_PRICE", "The price is above the maximum price.")));
	if (price >= (int64_t) HIGHEST_PRICE * 100)
		json_array_append_new(issues, suppressed(issue_new("18155", "ERROR", "purchasable_offer", market, "INVALID_PRICE",
														   "Potential pricing error: the price is far "
														   "above the reference price.")));
}

/* A family that a member names must be there, and be one. */
static void
judge_relation(const Item *item, const json_t *attributes, const Marketplace *market, json_t *issues)
{
	const char *parent_sku =
		json_get_text(attribute_instance(attributes, "child_parent_sku_relationship", "marketplace_id", market->id),
					  "parent_sku");
	const Item *parent = parent_sku == NULL ? NULL : item_find(item->seller, parent_sku);
	const char *level =
		parent == NULL
			? NULL
			: json_get_text(attribute_instance(parent->attributes, "parentage_level", "marketplace_id", market->id),
							"value");

	if (parent_sku != NULL && (level == NULL || strcmp(level, "parent") != 0))
		json_array_append_new(issues, issue_new("13013", "ERROR", "child_parent_sku_relationship", market,
												"INVALID_ATTRIBUTE", "The parent '%s' is not known.", parent_sku));
}

static void
judge_image(const json_t *attributes, const Marketplace *market, json_t *issues)
{
	const json_t *image = attribute_instance(attributes, "main_product_image_locator", "marketplace_id", market->id);
	const char *address = json_get_text(image, "media_location");

	if (address != NULL && strstr(address, "missing") != NULL)
		json_array_append_new(issues, issue_new("20005", "WARNING", "main_product_image_locator", market,
												"INVALID_IMAGE", "The image could not be fetched."));
}

static void
judge_sku(const char *sku, const Marketplace *market, json_t *issues)
{
	if (ends_with(sku, "-REJECT"))
		json_array_append_new(issues, suppressed(issue_new("8105", "ERROR", "item_name", market, "INVALID_ATTRIBUTE",
														   "The value of 'item_name' has an invalid format.")));
	if (ends_with(sku, "-IMAGE"))
		json_array_append_new(issues, issue_new("20005", "WARNING", "main_product_image_locator", market,
												"INVALID_IMAGE", "The image could not be fetched."));
	if (ends_with(sku, "-WARN"))
		json_array_append_new(issues, issue_new("18027", "WARNING", NULL, market, NULL,
												"Part of the data was not used for the page."));
}

/* A SKU that is on a page already stays there, in every marketplace of the region. */
static void
known_asin(const Item *item, char asin[11])
{
	for (size_t i = 0; i < item->offers.count && asin[0] == '\0'; i++)
		strcpy(asin, ((const Offer *) item->offers.at[i])->asin);
}

/* What Amazon would say about these attributes in this marketplace; asin is empty when no page matches. */
json_t *
verdict_issues(const Item *item, const json_t *attributes, const Marketplace *market, char asin[11])
{
	json_t *issues = json_array();

	asin[0] = '\0';
	if (item != NULL && attribute_instance(attributes, "merchant_suggested_asin", "marketplace_id", market->id) == NULL &&
		attribute_instance(attributes, "externally_assigned_product_identifier", "marketplace_id", market->id) == NULL)
		known_asin(item, asin);
	if (asin[0] != '\0' || match_page(item, attributes, market, asin, issues))
		judge_page(asin, market, issues);
	judge_price(attributes, market, issues);
	judge_image(attributes, market, issues);
	if (item != NULL)
		judge_relation(item, attributes, market, issues);
	if (item != NULL)
		judge_sku(item->sku, market, issues);
	return issues;
}

static void
apply_channels(Item *item)
{
	size_t i;
	json_t *instance;

	item->fba = false;
	json_array_foreach(json_object_get(item->attributes, "fulfillment_availability"), i, instance)
	{
		const char *channel = json_get_text(instance, "fulfillment_channel_code");

		if (strcmp(channel, "DEFAULT") == 0)
			continue;
		item->fba = true;
		free(item->fba_channel);
		item->fba_channel = xstrdup(channel);
	}
}

/* The quantity was set when the submission was accepted; what was sold since is gone. */
static void
apply_quantity(Item *item, const json_t *detail)
{
	int64_t quantity = json_get_int(detail, "quantity", -1);

	if (quantity < 0)
		return;
	quantity -= item->sold - json_get_int(detail, "sold", 0);
	item->quantity = quantity < 0 ? 0 : quantity;
	item->has_quantity = true;
}

/* A date or a date-time; 0 when there is none. */
static Micros
moment(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	const char *text = json_is_object(value) ? json_get_text(value, "value") : json_string_value(value);
	char whole[64];
	Micros when;

	if (text == NULL)
		return 0;
	snprintf(whole, sizeof(whole), "%s%s", text, strlen(text) == 10 ? "T00:00:00Z" : "");
	return time_parse(whole, &when) ? when : 0;
}

static void
apply_sale(const Item *item, Offer *offer)
{
	const json_t *instance =
		attribute_instance(item->attributes, "purchasable_offer", "marketplace_id", offer->market->id);
	const json_t *schedule =
		json_array_get(json_object_get(json_array_get(json_object_get(instance, "discounted_price"), 0), "schedule"), 0);

	offer->has_sale = offer_price(item->attributes, offer->market, "discounted_price", &offer->sale_price);
	offer->sale_starts = moment(schedule, "start_at");
	offer->sale_ends = moment(schedule, "end_at");
	offer->starts = moment(instance, "start_at");
	offer->ends = moment(instance, "end_at");
}

static bool
offer_is_skipped(const Item *item, const Marketplace *market)
{
	const json_t *skip = attribute_instance(item->attributes, "skip_offer", "marketplace_id", market->id);

	return json_is_true(json_object_get(skip, "value"));
}

static void
verdict_arrives(void *subject, json_t *detail)
{
	Item *item = subject;
	const Marketplace *market = marketplace_by_id(json_get_text(detail, "market"));
	Offer *offer = item_offer(item, market);
	char asin[11];

	if (offer == NULL)
		return;
	apply_channels(item);
	apply_quantity(item, detail);
	json_decref(offer->issues);
	offer->issues = verdict_issues(item, item->attributes, market, asin);
	offer->judged = true;
	offer->updated = clock_now();
	strcpy(offer->asin, asin);
	offer->discoverable = asin[0] != '\0' && !issues_have_error(offer->issues);
	offer->sellable = offer->discoverable;
	if (!issues_have_error(offer->issues))
	{
		offer->has_price = offer_price(item->attributes, market, "our_price", &offer->price);
		offer->has_b2b_price = business_price(item->attributes, market, &offer->b2b_price);
		offer->sellable = offer->sellable && offer->has_price && !offer_is_skipped(item, market);
		apply_sale(item, offer);
	}
	notify_listing(item, offer, false);
}

static json_t *
submitted_quantity(const Item *item)
{
	const json_t *instance =
		attribute_instance(item->attributes, "fulfillment_availability", "fulfillment_channel_code", "DEFAULT");

	return json_object_get(instance, "quantity");
}

void
verdict_schedule(Item *item, const json_t *market_ids, bool stock_touched)
{
	double delay = settings.verdict_delay * (ends_with(item->sku, "-SLOW") ? SLOW_FACTOR : 1);
	Micros when = clock_now() + (Micros) (delay * (double) SECOND);
	size_t i;
	json_t *id;

	json_array_foreach(market_ids, i, id)
	{
		json_t *detail = json_pack("{s:O, s:I}", "market", id, "sold", (json_int_t) item->sold);

		if (stock_touched && json_is_integer(submitted_quantity(item)))
			json_object_set(detail, "quantity", submitted_quantity(item));
		event_at(when, verdict_arrives, item, detail);
	}
}

static void
delete_arrives(void *subject, json_t *detail)
{
	Item *item = subject;
	const char *market = json_get_text(detail, "market");
	json_t *attributes = attributes_without(item->attributes, market);

	json_decref(item->attributes);
	item->attributes = attributes;
	for (size_t i = 0; i < item->offers.count; i++)
	{
		Offer *offer = item->offers.at[i];

		if (strcmp(offer->market->id, market) != 0)
			continue;
		notify_listing(item, offer, true);
		json_decref(offer->issues);
		free(offer);
		item->offers.at[i] = item->offers.at[--item->offers.count];
		break;
	}
	if (item->offers.count > 0)
		return;
	json_object_clear(item->attributes);
	item->has_quantity = item->fba = false;
	item->quantity = 0;
}

void
verdict_schedule_delete(Item *item, const Marketplace *market)
{
	event_at(clock_now() + (Micros) (settings.verdict_delay * (double) SECOND), delete_arrives, item,
			 json_pack("{s:s}", "market", market->id));
}
