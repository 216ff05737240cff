/*
 * listing.c: the items of a seller, and the operations of the Listings Items API on one of them.
 *
 * submission_apply() is the one way in, for put, patch and feed messages alike.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOCALES                                                                                                        \
	"ar,ar_AE,de,de_DE,en,en_AE,en_AU,en_CA,en_GB,en_IN,en_SG,en_US,es,es_ES,es_MX,es_US,fr,fr_CA,fr_FR,it,it_IT,ja,"  \
	"ja_JP,nl,nl_NL,pl,pl_PL,pt,pt_BR,pt_PT,sv,sv_SE,tr,tr_TR,zh,zh_CN,zh_TW,en_IE,en_ZA,fr_BE,nl_BE"

Item *
item_find(const Seller *seller, const char *sku)
{
	return table_get(seller->items, sku);
}

Item *
item_create(Seller *seller, const char *sku)
{
	Item *item = xalloc(sizeof(Item));

	item->seller = seller;
	item->sku = xstrdup(sku);
	item->product_type = xstrdup("PRODUCT");
	item->attributes = json_object();
	item->lost = ends_with(sku, "-LOST");
	table_put(seller->items, sku, item);
	list_add(&seller->item_list, item);
	return item;
}

void
item_free(void *value)
{
	Item *item = value;

	for (size_t i = 0; i < item->offers.count; i++)
		json_decref(((Offer *) item->offers.at[i])->issues);
	list_free(&item->offers, free);
	json_decref(item->attributes);
	free(item->product_type);
	free(item->fba_channel);
	free(item->sku);
	free(item);
}

Offer *
item_offer(const Item *item, const Marketplace *market)
{
	for (size_t i = 0; i < item->offers.count; i++)
		if (((Offer *) item->offers.at[i])->market == market)
			return item->offers.at[i];
	return NULL;
}

static Offer *
offer_ensure(Item *item, const Marketplace *market)
{
	Offer *offer = item_offer(item, market);

	if (offer == NULL)
	{
		offer = xalloc(sizeof(Offer));
		offer->market = market;
		offer->created = clock_now();
		offer->issues = json_array();
		list_add(&item->offers, offer);
	}
	offer->updated = clock_now();
	return offer;
}

json_t *
item_status(const Item *item, const Offer *offer)
{
	json_t *status = json_array();

	if (offer->sellable && (offer->starts == 0 || offer->starts <= clock_now()) &&
		(offer->ends == 0 || offer->ends > clock_now()) &&
		(item->fba ? item->fba_quantity + item->quantity : item->quantity) > 0)
		json_array_append_new(status, json_string("BUYABLE"));
	if (offer->discoverable)
		json_array_append_new(status, json_string("DISCOVERABLE"));
	return status;
}

static json_t *
summary_json(const Item *item, const Offer *offer)
{
	const json_t *condition = attribute_instance(item->attributes, "condition_type", "marketplace_id", offer->market->id);
	json_t *summary =
		json_pack("{s:s, s:s, s:o, s:o, s:o, s:s*}", "marketplaceId", offer->market->id, "productType",
				  item->product_type, "status", item_status(item, offer), "createdDate", time_json(offer->created),
				  "lastUpdatedDate", time_json(offer->updated), "conditionType", json_get_text(condition, "value"));
	char title[200];

	if (offer->asin[0] == '\0')
		return summary;
	catalog_title(offer->asin, title, sizeof(title));
	json_object_set_new(summary, "asin", json_string(offer->asin));
	json_object_set_new(summary, "itemName", json_string(title));
	json_object_set_new(summary, "mainImage",
						json_pack("{s:o, s:i, s:i}", "link", json_text("https://images.example.invalid/%s.jpg", offer->asin),
								  "height", 1000, "width", 1000));
	if (item->fba)
		json_object_set_new(summary, "fnSku", json_text("X00%s", offer->asin + 3));
	return summary;
}

/* What a buyer pays now: the sale's price while it lasts. */
int64_t
offer_current_price(const Offer *offer)
{
	bool sale = offer->has_sale && offer->sale_starts <= clock_now() && clock_now() < offer->sale_ends;

	return sale ? offer->sale_price : offer->price;
}

static void
add_offers(json_t *offers, const Offer *offer)
{
	if (offer->has_price)
		json_array_append_new(offers, json_pack("{s:s, s:s, s:o, s:{s:s, s:s}}", "marketplaceId", offer->market->id,
												"offerType", "B2C", "price",
												money_json(offer_current_price(offer), offer->market), "audience",
												"value", "ALL", "displayName", "Sell on Amazon"));
	if (offer->has_b2b_price)
		json_array_append_new(offers, json_pack("{s:s, s:s, s:o, s:{s:s, s:s}}", "marketplaceId", offer->market->id,
												"offerType", "B2B", "price", money_json(offer->b2b_price, offer->market),
												"audience", "value", "B2B", "displayName", "Amazon Business"));
}

static json_t *
availability_json(const Item *item)
{
	json_t *list = json_array();

	if (item->has_quantity)
		json_array_append_new(list, json_pack("{s:s, s:I}", "fulfillmentChannelCode", "DEFAULT", "quantity",
											  (json_int_t) item->quantity));
	if (item->fba)
		json_array_append_new(list, json_pack("{s:s}", "fulfillmentChannelCode", item->fba_channel));
	return list;
}

/* What was submitted, as far as it concerns these marketplaces. */
static json_t *
attributes_json(const Item *item, const json_t *market_ids)
{
	json_t *attributes = json_object();
	const char *name;
	json_t *instances;

	json_object_foreach(item->attributes, name, instances)
	{
		json_t *kept = json_array();
		size_t i;
		json_t *instance;

		json_array_foreach(instances, i, instance)
		{
			const char *id = json_get_text(instance, "marketplace_id");

			if (id == NULL || json_array_has(market_ids, id))
				json_array_append(kept, instance);
		}
		if (json_array_size(kept) > 0)
			json_object_set(attributes, name, kept);
		json_decref(kept);
	}
	return attributes;
}

static void
take_list(json_t *item, const json_t *included, const char *name, json_t *list)
{
	if (json_array_has(included, name))
		json_object_set_new(item, name, list);
	else
		json_decref(list);
}

/* The item as get and search show it; NULL when none of these marketplaces has it. */
json_t *
item_json(const Item *item, const json_t *market_ids, const json_t *included)
{
	json_t *summaries = json_array();
	json_t *issues = json_array();
	json_t *offers = json_array();
	json_t *types = json_array();
	json_t *answer = json_pack("{s:s}", "sku", item->sku);
	size_t found = 0;

	for (size_t i = 0; i < item->offers.count; i++)
	{
		Offer *offer = item->offers.at[i];

		if (!json_array_has(market_ids, offer->market->id))
			continue;
		found++;
		json_array_append_new(summaries, summary_json(item, offer));
		json_array_extend(issues, offer->issues);
		add_offers(offers, offer);
		json_array_append_new(types, json_pack("{s:s, s:s}", "marketplaceId", offer->market->id, "productType",
											   item->product_type));
	}
	take_list(answer, included, "summaries", summaries);
	take_list(answer, included, "issues", issues);
	take_list(answer, included, "offers", offers);
	take_list(answer, included, "productTypes", types);
	if (json_array_has(included, "attributes"))
		json_object_set_new(answer, "attributes", attributes_json(item, market_ids));
	if (json_array_has(included, "fulfillmentAvailability"))
		json_object_set_new(answer, "fulfillmentAvailability", availability_json(item));
	if (json_array_has(included, "relationships"))
		json_object_set_new(answer, "relationships", json_array());
	if (found > 0 && !item->lost)
		return answer;
	json_decref(answer);
	return NULL;
}

static bool
own_items(Call *call)
{
	const char *locale = json_get_text(call->query, "issueLocale");

	if (strcmp(call->argument[0], call->seller->id) != 0)
		call_fail_detail(call, 403, "Unauthorized", "Access to requested resource is denied.",
						 "The selling partner of the path is not the one of the access token.");
	else if (locale != NULL && !text_is_one_of(locale, LOCALES))
		call_violation(call, 400, "InvalidInput", "Invalid value for query parameter 'issueLocale'.");
	return call->status == 0 && validate_markets(call, json_object_get(call->query, "marketplaceIds"));
}

/* Members that a listing cannot do without. */
static void
check_complete(const Submission *submission, json_t *issues)
{
	static const char *const always[] = {"condition_type", "purchasable_offer"};
	static const char *const facts[] = {"item_name", "brand"};
	bool listing = strcmp(submission->requirements, "LISTING") == 0;
	bool offer = strcmp(submission->requirements, "LISTING_PRODUCT_ONLY") != 0 &&
				 json_object_get(submission->attributes, "parentage_level") == NULL &&
				 json_object_get(submission->attributes, "skip_offer") == NULL;

	for (size_t i = 0; offer && i < lengthof(always); i++)
		if (json_object_get(submission->attributes, always[i]) == NULL)
			json_array_append_new(issues, issue_new("90220", "ERROR", always[i], NULL, "MISSING_ATTRIBUTE",
													"'%s' is required but not supplied.", always[i]));
	for (size_t i = 0; listing && i < lengthof(facts); i++)
		if (json_object_get(submission->attributes, facts[i]) == NULL)
			json_array_append_new(issues, issue_new("90220", "ERROR", facts[i], NULL, "MISSING_ATTRIBUTE",
													"'%s' is required but not supplied.", facts[i]));
}

static void
check_submission(const Submission *submission, bool is_new, json_t *issues)
{
	const char *name;
	json_t *value;
	size_t i;

	json_object_foreach((json_t *) submission->attributes, name, value)
	{
		attribute_check(submission->product_type, name, value, submission->market_ids, USE_WHOLE, issues);
	}
	if (submission->attributes != NULL && is_new && submission->requirements != NULL)
		check_complete(submission, issues);
	if (submission->attributes != NULL && submission->requirements != NULL &&
		strcmp(submission->requirements, "LISTING_OFFER_ONLY") != 0)
		schema_check_whole(submission->product_type, submission->attributes,
						   marketplace_by_id(json_string_value(json_array_get(submission->market_ids, 0))), issues);
	json_array_foreach(submission->patches, i, value)
	{
		const char *op = json_get_text(value, "op");

		attribute_check(submission->product_type, json_get_text(value, "path") + strlen("/attributes/"),
						json_object_get(value, "value"), submission->market_ids,
						strcmp(op, "merge") == 0    ? USE_MERGE
						: strcmp(op, "delete") == 0 ? USE_DELETE
													: USE_WHOLE,
						issues);
	}
}

static bool
touches(const Submission *submission, const char *name)
{
	size_t i;
	json_t *patch;

	if (json_object_get(submission->attributes, name) != NULL)
		return true;
	json_array_foreach(submission->patches, i, patch)
	{
		if (strcmp(json_get_text(patch, "path") + strlen("/attributes/"), name) == 0)
			return true;
	}
	return false;
}

static json_t *
attributes_after(const Submission *submission, const json_t *old)
{
	if (submission->patches != NULL)
		return attributes_patch(old, submission->patches);
	return attributes_put(old, submission->attributes, json_string_value(json_array_get(submission->market_ids, 0)),
						  submission->requirements == NULL || strcmp(submission->requirements, "LISTING_OFFER_ONLY") == 0);
}

static void
commit(const Submission *submission, Item **item, json_t *attributes)
{
	size_t i;
	json_t *id;

	if (*item == NULL)
		*item = item_create(submission->seller, submission->sku);
	json_decref((*item)->attributes);
	(*item)->attributes = json_incref(attributes);
	if (strcmp(submission->product_type, "PRODUCT") != 0) /* which stands for whatever the item is */
	{
		free((*item)->product_type);
		(*item)->product_type = xstrdup(submission->product_type);
	}
	json_array_foreach(submission->market_ids, i, id)
	{
		offer_ensure(*item, marketplace_by_id(json_string_value(id)));
	}
	writes_note(submission, attributes, touches(submission, "purchasable_offer"),
				touches(submission, "fulfillment_availability"));
	verdict_schedule(*item, submission->market_ids, touches(submission, "fulfillment_availability"));
}

static void
preview(const Submission *submission, const Item *item, const json_t *attributes, json_t *issues)
{
	Item as_if = {.seller = submission->seller, .sku = (char *) submission->sku, .product_type = "PRODUCT"}; /* what the item would be */
	size_t i;
	json_t *id;
	char asin[11];

	if (item != NULL)
		as_if = *item;
	if (strcmp(submission->product_type, "PRODUCT") != 0)
		as_if.product_type = (char *) submission->product_type;

	json_array_foreach(submission->market_ids, i, id)
	{
		json_t *more = verdict_issues(&as_if, attributes, marketplace_by_id(json_string_value(id)), asin);

		json_array_extend(issues, more);
		json_decref(more);
	}
}

/* Checks and, unless it is a preview, takes a submission. Returns the issues found at once. */
json_t *
submission_apply(const Submission *submission, Item **item)
{
	json_t *issues = json_array();
	json_t *none = json_object();
	json_t *attributes;

	*item = item_find(submission->seller, submission->sku);
	check_submission(submission, *item == NULL || (*item)->offers.count == 0, issues);
	if (issues_have_error(issues))
	{
		json_decref(none);
		stats_count("invalid_submissions");
		return issues;
	}
	attributes = attributes_after(submission, *item == NULL ? none : (*item)->attributes);
	if (submission->preview)
		preview(submission, *item, attributes, issues);
	else
		commit(submission, item, attributes);
	json_decref(attributes);
	json_decref(none);
	return issues;
}

static json_t *
identifiers_json(const Item *item, const json_t *market_ids)
{
	json_t *list = json_array();
	size_t i;
	json_t *id;

	json_array_foreach(market_ids, i, id)
	{
		const Offer *offer = item == NULL ? NULL : item_offer(item, marketplace_by_id(json_string_value(id)));

		if (offer != NULL && offer->asin[0] != '\0')
			json_array_append_new(list, json_pack("{s:O, s:s}", "marketplaceId", id, "asin", offer->asin));
	}
	return list;
}

static void
submit(Call *call, const Submission *submission)
{
	Item *item;
	json_t *issues = submission_apply(submission, &item);
	const json_t *included = json_object_get(call->query, "includedData");
	const char *status = issues_have_error(issues) ? "INVALID" : submission->preview ? "VALID" : "ACCEPTED";
	char id[37];
	json_t *answer;

	uuid_text(id);
	answer = json_pack("{s:s, s:s, s:s}", "sku", submission->sku, "status", status, "submissionId", id);
	if (included == NULL || call_included(call, "issues"))
		json_object_set(answer, "issues", issues);
	if (call_included(call, "identifiers"))
		json_object_set_new(answer, "identifiers", identifiers_json(item, submission->market_ids));
	json_decref(issues);
	call_answer(call, 200, answer);
}

static bool
take_special_plans(Call *call, const Submission *submission)
{
	char key[300];
	const char *client = call->application->client_id;
	bool facts = false;
	size_t i;
	json_t *patch;

	json_array_foreach(submission->patches, i, patch)
	{
		const char *name = json_get_text(patch, "path") + strlen("/attributes/");

		facts = facts || (!attribute_is_sales_term(name) && !attribute_is_relationship(name));
	}
	snprintf(key, sizeof(key), "preview|%s", client);
	if (submission->preview && !rate_take_named(call, key, 20, 20,
												"You exceeded your quota for the requested resource "
												"for the application."))
		return false;
	snprintf(key, sizeof(key), "relationships|%s", client);
	if ((touches(submission, "child_parent_sku_relationship") || touches(submission, "package_contains_sku")) &&
		!rate_take_named(call, key, 25, 25, "You exceeded your quota for the requested resource for relationships."))
		return false;
	snprintf(key, sizeof(key), "product data|%s", client);
	return !facts ||
		   rate_take_named(call, key, 100, 100, "You exceeded your quota for the requested resource for product data.");
}

static Submission
submission_of(const Call *call)
{
	return (Submission){.seller = call->seller,
						.sku = call->argument[1],
						.market_ids = json_object_get(call->query, "marketplaceIds"),
						.product_type = json_get_text(call->body, "productType"),
						.preview = json_object_get(call->query, "mode") != NULL,
						.sent = call->arrived};
}

/* PUT /listings/2021-08-01/items/{sellerId}/{sku} */
void
listing_put(Call *call)
{
	static const Field fields[] = {
		{"productType", JSON_STRING, true, NULL},
		{"requirements", JSON_STRING, false, "LISTING,LISTING_PRODUCT_ONLY,LISTING_OFFER_ONLY"},
		{"attributes", JSON_OBJECT, true, NULL},
	};
	Submission submission;

	if (!own_items(call) || !validate_object(call, call->body, "body", fields, lengthof(fields)))
		return;
	submission = submission_of(call);
	submission.requirements = json_get_text(call->body, "requirements");
	if (submission.requirements == NULL)
		submission.requirements = "LISTING";
	submission.attributes = json_object_get(call->body, "attributes");
	if (take_special_plans(call, &submission))
		submit(call, &submission);
}

/* Patches name one top-level attribute and carry an array of objects. */
static bool
patches_allowed(Call *call)
{
	static const Field fields[] = {
		{"op", JSON_STRING, true, "add,replace,merge,delete"},
		{"path", JSON_STRING, true, NULL},
		{"value", JSON_ARRAY, false, NULL},
	};
	const json_t *patches = json_object_get(call->body, "patches");
	size_t i;
	json_t *patch;

	if (json_array_size(patches) == 0)
		call_violation(call, 400, "InvalidInput", "body.patches is empty.");
	json_array_foreach(patches, i, patch)
	{
		const char *path;

		if (!validate_object(call, patch, "patch", fields, lengthof(fields)))
			return false;
		path = json_get_text(patch, "path");
		if (!starts_with(path, "/attributes/") || strlen(path) == 12 || strchr(path + 12, '/') != NULL)
			call_violation(call, 400, "InvalidInput", "Invalid path '%s': a patch names one top-level attribute.", path);
		else if (json_object_get(patch, "value") == NULL)
			call_violation(call, 400, "InvalidInput", "A patch of '%s' has no value.", path);
		if (call->status != 0)
			return false;
	}
	return call->status == 0;
}

/* PATCH /listings/2021-08-01/items/{sellerId}/{sku} */
void
listing_patch(Call *call)
{
	static const Field fields[] = {
		{"productType", JSON_STRING, true, NULL},
		{"patches", JSON_ARRAY, true, NULL},
	};
	Submission submission;

	if (!own_items(call) || !validate_object(call, call->body, "body", fields, lengthof(fields)) || !patches_allowed(call))
		return;
	submission = submission_of(call);
	submission.patches = json_object_get(call->body, "patches");
	if (take_special_plans(call, &submission))
		submit(call, &submission);
}

/* GET /listings/2021-08-01/items/{sellerId}/{sku} */
void
listing_get(Call *call)
{
	json_t *included = json_object_get(call->query, "includedData");
	const Item *item;
	json_t *answer;

	if (!own_items(call))
		return;
	included = included != NULL ? json_incref(included) : json_pack("[s]", "summaries");
	item = item_find(call->seller, call->argument[1]);
	answer = item == NULL ? NULL : item_json(item, json_object_get(call->query, "marketplaceIds"), included);
	json_decref(included);
	if (answer == NULL)
		call_fail(call, 404, "NotFound", "SKU '%s' not found in the marketplace(s) of the request.", call->argument[1]);
	else
		call_answer(call, 200, answer);
}

/* DELETE /listings/2021-08-01/items/{sellerId}/{sku} */
void
listing_delete(Call *call)
{
	json_t *markets = json_object_get(call->query, "marketplaceIds");
	Item *item;
	char id[37];

	if (!own_items(call))
		return;
	item = item_find(call->seller, call->argument[1]);
	if (item != NULL)
		verdict_schedule_delete(item, marketplace_by_id(json_string_value(json_array_get(markets, 0))));
	uuid_text(id);
	call_answer(call, 200,
				json_pack("{s:s, s:s, s:s, s:[]}", "sku", call->argument[1], "status", "ACCEPTED", "submissionId", id,
						  "issues"));
}
