/*
 * listing_search.c: searchListingsItems with its filters, order and pages, and getListingsRestrictions.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define REACHABLE      1000
#define TOKEN_LIFETIME (24 * HOUR)

typedef struct Match
{
	const Item *item;
	Micros created;
	Micros updated;
} Match;

static bool
search_allowed(Call *call)
{
	const json_t *query = call->query;
	bool identifiers = json_object_get(query, "identifiers") != NULL;
	int ways = identifiers + (json_object_get(query, "variationParentSku") != NULL) +
			   (json_object_get(query, "packageHierarchySku") != NULL);

	if (strcmp(call->argument[0], call->seller->id) != 0)
		call_fail_detail(call, 403, "Unauthorized", "Access to requested resource is denied.",
						 "The selling partner of the path is not the one of the access token.");
	else if (ways > 1)
		call_violation(call, 400, "InvalidInput",
					   "Only one of identifiers, variationParentSku and packageHierarchySku is allowed.");
	else if (identifiers != (json_object_get(query, "identifiersType") != NULL))
		call_violation(call, 400, "InvalidInput", "identifiers and identifiersType go together.");
	return call->status == 0 && validate_markets(call, json_object_get(query, "marketplaceIds"));
}

static bool
identifier_fits(const Item *item, const Offer *offer, const char *type, const json_t *identifiers)
{
	char ean[14];

	if (strcmp(type, "SKU") == 0)
		return json_array_has(identifiers, item->sku);
	if (strcmp(type, "ASIN") == 0)
		return json_array_has(identifiers, offer->asin);
	return catalog_ean(offer->asin, ean) && json_array_has(identifiers, ean);
}

static bool
has_severity(const Offer *offer, const json_t *severities)
{
	size_t i;
	json_t *issue;

	json_array_foreach(offer->issues, i, issue)
	{
		if (json_array_has(severities, json_get_text(issue, "severity")))
			return true;
	}
	return false;
}

/* All wanted statuses hold, none of the unwanted. */
static bool
status_fits(const Item *item, const Offer *offer, const json_t *with, const json_t *without)
{
	json_t *status = item_status(item, offer);
	bool fits = true;
	size_t i;
	json_t *name;

	json_array_foreach(with, i, name)
	{
		fits = fits && json_array_has(status, json_string_value(name));
	}
	json_array_foreach(without, i, name)
	{
		fits = fits && !json_array_has(status, json_string_value(name));
	}
	json_decref(status);
	return fits;
}

static bool
in_window(const json_t *query, const char *after, const char *before, Micros when)
{
	return when >= json_get_int(query, after, INT64_MIN) && when <= json_get_int(query, before, INT64_MAX);
}

static bool
offer_fits(const Item *item, const Offer *offer, const json_t *query)
{
	const char *type = json_get_text(query, "identifiersType");
	const json_t *severities = json_object_get(query, "withIssueSeverity");

	return json_array_has(json_object_get(query, "marketplaceIds"), offer->market->id) &&
		   in_window(query, "createdAfter", "createdBefore", offer->created) &&
		   in_window(query, "lastUpdatedAfter", "lastUpdatedBefore", offer->updated) &&
		   (type == NULL || identifier_fits(item, offer, type, json_object_get(query, "identifiers"))) &&
		   (severities == NULL || has_severity(offer, severities)) &&
		   status_fits(item, offer, json_object_get(query, "withStatus"), json_object_get(query, "withoutStatus"));
}

static bool
parent_fits(const Item *item, const char *parent)
{
	size_t i;
	json_t *relationship;

	json_array_foreach(json_object_get(item->attributes, "child_parent_sku_relationship"), i, relationship)
	{
		const char *sku = json_get_text(relationship, "parent_sku");

		if (sku != NULL && strcmp(sku, parent) == 0)
			return true;
	}
	return false;
}

static void
consider(const Item *item, const json_t *query, List *matches)
{
	const char *parent = json_get_text(query, "variationParentSku");

	if (item->lost || json_object_get(query, "packageHierarchySku") != NULL ||
		(parent != NULL && !parent_fits(item, parent)))
		return;
	for (size_t i = 0; i < item->offers.count; i++)
	{
		const Offer *offer = item->offers.at[i];
		Match *match;

		if (!offer_fits(item, offer, query))
			continue;
		match = xalloc(sizeof(Match));
		*match = (Match){item, offer->created, offer->updated};
		list_add(matches, match);
		return;
	}
}

static void
find(const Call *call, List *matches)
{
	const char *type = json_get_text(call->query, "identifiersType");
	size_t i;
	json_t *sku;

	if (type == NULL || strcmp(type, "SKU") != 0)
	{
		for (i = 0; i < call->seller->item_list.count; i++)
			consider(call->seller->item_list.at[i], call->query, matches);
		return;
	}
	json_array_foreach(json_object_get(call->query, "identifiers"), i, sku)
	{
		const Item *item = item_find(call->seller, json_string_value(sku));

		if (item != NULL)
			consider(item, call->query, matches);
	}
}

/* qsort() takes no argument of its own; the state lock makes these two safe. */
static const char *sort_by;
static int sort_sign;

static int
compare(const void *left, const void *right)
{
	const Match *a = *(Match *const *) left;
	const Match *b = *(Match *const *) right;
	Micros difference = 0;

	if (strcmp(sort_by, "createdDate") == 0)
		difference = a->created - b->created;
	else if (strcmp(sort_by, "lastUpdatedDate") == 0)
		difference = a->updated - b->updated;
	if (difference != 0)
		return difference < 0 ? -sort_sign : sort_sign;
	return sort_sign * strcmp(a->item->sku, b->item->sku);
}

static void
sort_matches(const json_t *query, List *matches)
{
	const char *order = json_get_text(query, "sortOrder");

	sort_by = json_get_text(query, "sortBy");
	if (sort_by == NULL)
		sort_by = "lastUpdatedDate";
	sort_sign = order != NULL && strcmp(order, "ASC") == 0 ? 1 : -1;
	if (matches->count > 1)
		qsort(matches->at, matches->count, sizeof(void *), compare);
}

static void
add_token(json_t *pagination, const char *name, uint64_t binding, size_t first)
{
	char *token = page_token(binding, json_pack("[I]", (json_int_t) first));

	json_object_set_new(pagination, name, json_string(token));
	free(token);
}

static void
answer_page(Call *call, const List *matches, size_t first, uint64_t binding)
{
	json_t *included = json_object_get(call->query, "includedData");
	size_t size = (size_t) json_get_int(call->query, "pageSize", 10);
	size_t end = matches->count < REACHABLE ? matches->count : REACHABLE;
	json_t *items = json_array();
	json_t *pagination = json_object();

	included = included != NULL ? json_incref(included) : json_pack("[s]", "summaries");
	for (size_t i = first; i < end && i < first + size; i++)
		json_array_append_new(items, item_json(((Match *) matches->at[i])->item,
											   json_object_get(call->query, "marketplaceIds"), included));
	if (first + size < end)
		add_token(pagination, "nextToken", binding, first + size);
	if (first > 0)
		add_token(pagination, "previousToken", binding, first > size ? first - size : 0);
	json_decref(included);
	call_answer(call, 200,
				json_pack("{s:I, s:o, s:o}", "numberOfResults", (json_int_t) matches->count, "pagination", pagination,
						  "items", items));
}

/* GET /listings/2021-08-01/items/{sellerId} */
void
listing_search(Call *call)
{
	const char *token = json_get_text(call->query, "pageToken");
	const char *problem = NULL;
	json_t *position = NULL;
	List matches = {0};
	uint64_t binding;

	if (!search_allowed(call))
		return;
	binding = page_binding(call, "pageToken");
	if (token != NULL)
		position = page_open(token, binding, TOKEN_LIFETIME, &problem);
	if (problem != NULL)
	{
		call_fail(call, 400, "InvalidInput", "%s", problem);
		return;
	}
	find(call, &matches);
	sort_matches(call->query, &matches);
	answer_page(call, &matches, (size_t) json_integer_value(json_array_get(position, 0)), binding);
	json_decref(position);
	list_free(&matches, free);
}

/* GET /listings/2021-08-01/restrictions */
void
restrictions_get(Call *call)
{
	const char *asin = json_get_text(call->query, "asin");
	const char *condition = json_get_text(call->query, "conditionType");
	const json_t *markets = json_object_get(call->query, "marketplaceIds");
	json_t *list = json_array();
	char ean[14];
	bool exists = catalog_ean(asin, ean);
	size_t i;
	json_t *id;

	if (strcmp(json_get_text(call->query, "sellerId"), call->seller->id) != 0)
		call_fail_detail(call, 403, "Unauthorized", "Access to requested resource is denied.",
						 "sellerId is not the selling partner of the access token.");
	if (call->status != 0 || !validate_markets(call, markets))
	{
		json_decref(list);
		return;
	}
	json_array_foreach(markets, i, id)
	{
		const char *code = !exists ? "ASIN_NOT_FOUND" : "APPROVAL_REQUIRED";
		const char *message = !exists ? "The ASIN does not exist in this marketplace." : "You need approval to list.";

		if (exists ? catalog_outcome(ean) != CATALOG_APPROVAL : seller_has_page(call->seller, asin))
			continue;
		json_array_append_new(list, json_pack("{s:O, s:s*, s:[{s:s, s:s}]}", "marketplaceId", id, "conditionType",
											  condition, "reasons", "message", message, "reasonCode", code));
	}
	call_answer(call, 200, json_pack("{s:o}", "restrictions", list));
}
