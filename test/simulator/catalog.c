/*
 * catalog.c: a catalogue that is computed, not stored, and the Catalog Items API.
 *
 * Every valid EAN-13 is known, and its two digits before the check digit say what comes of it:
 *   98 no match, 99 two matches, 97 one match that needs approval, 96 one match whose offers contradict the page;
 *   everything else: exactly one match.
 * ASIN and EAN are a bijection: "B0" and the first twelve digits, multiplied modulo 36^8, in base 36. A second match
 * is the same number plus 10^12. So an ASIN can be turned back into its EAN without any table.
 */
#include "sim.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SPACE       INT64_C(2821109907456) /* 36^8 */
#define FACTOR      INT64_C(1361923764205) /* odd and no multiple of three, so it has an inverse */
#define EANS        INT64_C(1000000000000)
#define SHELF_FIRST INT64_C(400000000000) /* keyword searches look through this part */
#define SHELF_SIZE  5000

static const char *const brands[] = {"Nordlicht", "Maison Élan", "Alto",    "Bergmann", "Kirei 綺麗",
									 "Lumio",     "Ferrovia",    "Castell", "Ópalo",    "Tamarind"};
static const char *const makes[] = {"Compact", "Foldable", "Insulated", "Cordless",  "Classic",
									"Merino",  "Ceramic",  "Bamboo",    "Stackable", "Waterproof"};
static const char *const things[] = {"Kettle",        "Backpack",    "Desk Lamp", "Bottle",   "Scarf",    "Mug",
									 "Cutting Board", "Storage Box", "Jacket",    "Notebook", "Umbrella", "Speaker"};
static const char *const colors[] = {"Black", "White", "Blue", "Green", "Red", "Grey"};

static int64_t
multiply(int64_t a, int64_t b)
{
	return (int64_t) ((__int128) a * b % SPACE);
}

/* FACTOR^-1 modulo 36^8, by Euler: the group's order divides phi = 36^8 / 3. */
static int64_t
inverse(void)
{
	static int64_t known;
	int64_t power = SPACE / 3 - 1;
	int64_t base = FACTOR;

	if (known != 0)
		return known;
	for (known = 1; power > 0; power /= 2, base = multiply(base, base))
		if (power % 2 == 1)
			known = multiply(known, base);
	return known;
}

static void
asin_from_number(int64_t number, char asin[11])
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

	number = multiply(number, FACTOR);
	asin[0] = 'B';
	asin[1] = '0';
	for (int i = 9; i >= 2; i--, number /= 36)
		asin[i] = digits[number % 36];
	asin[10] = '\0';
}

static int64_t
number_from_asin(const char *asin)
{
	int64_t number = 0;

	if (strlen(asin) != 10 || asin[0] != 'B' || asin[1] != '0')
		return -1;
	for (int i = 2; i < 10; i++)
	{
		if (!isdigit((unsigned char) asin[i]) && !(asin[i] >= 'A' && asin[i] <= 'Z'))
			return -1;
		number = number * 36 + (isdigit((unsigned char) asin[i]) ? asin[i] - '0' : asin[i] - 'A' + 10);
	}
	return multiply(number, inverse());
}

static int
check_digit(const char *twelve)
{
	int sum = 0;

	for (int i = 0; i < 12; i++)
		sum += (twelve[i] - '0') * (i % 2 == 0 ? 1 : 3);
	return (10 - sum % 10) % 10;
}

static bool
ean_valid(const char *ean)
{
	return strlen(ean) == 13 && strspn(ean, "0123456789") == 13 && check_digit(ean) == ean[12] - '0';
}

static void
ean_from_number(int64_t number, char ean[14])
{
	snprintf(ean, 14, "%012lld", (long long) (number % EANS));
	ean[12] = (char) ('0' + check_digit(ean));
	ean[13] = '\0';
}

static CatalogOutcome
outcome_of_number(int64_t number)
{
	switch (number % 100)
	{
		case 96:
			return CATALOG_CONFLICT;
		case 97:
			return CATALOG_APPROVAL;
		case 98:
			return CATALOG_NONE;
		case 99:
			return CATALOG_DOUBLE;
		default:
			return CATALOG_SINGLE;
	}
}

CatalogOutcome
catalog_outcome(const char *ean)
{
	return outcome_of_number(strtoll(ean, NULL, 10) / 10);
}

static bool
number_exists(int64_t number)
{
	if (number < 0 || number >= 2 * EANS)
		return false;
	if (number >= EANS)
		return outcome_of_number(number) == CATALOG_DOUBLE;
	return outcome_of_number(number) != CATALOG_NONE;
}

bool
catalog_exists(const char *asin)
{
	return number_exists(number_from_asin(asin));
}

bool
catalog_ean(const char *asin, char ean[14])
{
	int64_t number = number_from_asin(asin);

	if (!number_exists(number))
		return false;
	ean_from_number(number, ean);
	return true;
}

/* Brings an identifier into thirteen digits; false when it cannot be one. */
static bool
normalise(const char *type, const char *identifier, char ean[14])
{
	size_t length = strlen(identifier);

	if (strspn(identifier, "0123456789") != length)
		return false;
	if (text_is_one_of(type, "UPC,upc") && length == 12)
		snprintf(ean, 14, "0%s", identifier);
	else if (text_is_one_of(type, "GTIN,gtin") && length == 14 && identifier[0] == '0')
		snprintf(ean, 14, "%s", identifier + 1);
	else if (length == 13)
		snprintf(ean, 14, "%s", identifier);
	else
		return false;
	return ean_valid(ean);
}

/*
 * The ASIN of a page that a seller's facts make: a barcode leads to the number that it would have in the catalogue, any
 * other key to one of those that the catalogue leaves out.
 */
void
catalog_new_page(const char *key, char asin[11])
{
	uint64_t hash = UINT64_C(14695981039346656037);

	if (ean_valid(key))
	{
		asin_from_number(strtoll(key, NULL, 10) / 10, asin);
		return;
	}
	for (const char *c = key; *c != '\0'; c++)
		hash = (hash ^ (unsigned char) *c) * UINT64_C(1099511628211);
	asin_from_number((int64_t) (hash % (uint64_t) (EANS / 100)) * 100 + 98, asin);
}

/* How many ASINs an identifier matches (0 to 2). */
int
catalog_match(const char *type, const char *identifier, char asins[2][11])
{
	char ean[14];
	int64_t number;

	if (strcmp(type, "ASIN") == 0)
	{
		if (!catalog_exists(identifier))
			return 0;
		snprintf(asins[0], 11, "%s", identifier);
		return 1;
	}
	if (!normalise(type, identifier, ean) || catalog_outcome(ean) == CATALOG_NONE)
		return 0;
	number = strtoll(ean, NULL, 10) / 10;
	asin_from_number(number, asins[0]);
	if (catalog_outcome(ean) != CATALOG_DOUBLE)
		return 1;
	asin_from_number(number + EANS, asins[1]);
	return 2;
}

typedef struct Page
{
	const char *brand;
	const char *thing;
	const char *color;
	char title[160];
} Page;

static void
page_of_number(int64_t number, Page *page)
{
	uint64_t pick = (uint64_t) multiply(number % EANS + 17, FACTOR) ^ (uint64_t) number << 7;

	page->brand = brands[pick / 7 % lengthof(brands)];
	page->thing = things[pick / 101 % lengthof(things)];
	page->color = colors[pick / 1009 % lengthof(colors)];
	snprintf(page->title, sizeof(page->title), "%s %s %s, %s%s", page->brand, makes[pick / 10007 % lengthof(makes)],
			 page->thing, page->color, number >= EANS ? " (Pack of 2)" : "");
}

void
catalog_title(const char *asin, char *out, size_t room)
{
	Page page = {.title = "Unknown item"};

	if (catalog_exists(asin))
		page_of_number(number_from_asin(asin), &page);
	snprintf(out, room, "%s", page.title);
}

static void
add_data(json_t *item, const json_t *included, const char *name, const char *market, const char *key, json_t *value)
{
	if (!json_array_has(included, name))
		json_decref(value);
	else if (key == NULL)
		json_object_set_new(item, name, value);
	else
		json_object_set_new(item, name, json_pack("[{s:s, s:o}]", "marketplaceId", market, key, value));
}

static json_t *
product_type(const char *thing)
{
	char name[40];
	size_t i;

	for (i = 0; thing[i] != '\0' && i < sizeof(name) - 1; i++)
		name[i] = thing[i] == ' ' ? '_' : (char) toupper((unsigned char) thing[i]);
	name[i] = '\0';
	return json_string(name);
}

static json_t *
summary_json(const Page *page, const char *market, int64_t number)
{
	return json_pack("[{s:s, s:b, s:b, s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:b, s:s, s:s}]", "marketplaceId", market,
					 "adultProduct", false, "autographed", false, "brand", page->brand, "color", page->color,
					 "itemClassification", "BASE_PRODUCT", "itemName", page->title, "manufacturer", page->brand,
					 "memorabilia", false, "packageQuantity", number >= EANS ? 2 : 1, "tradeInEligible", false,
					 "websiteDisplayGroup", "home_display_on_website", "websiteDisplayGroupName", "Home");
}

static json_t *
item_of_number(int64_t number, const json_t *included, const char *market)
{
	char asin[11];
	char ean[14];
	Page page;
	json_t *item;

	page_of_number(number, &page);
	asin_from_number(number, asin);
	ean_from_number(number, ean);
	item = json_pack("{s:s}", "asin", asin);
	if (json_array_has(included, "summaries"))
		json_object_set_new(item, "summaries", summary_json(&page, market, number));
	add_data(item, included, "identifiers", market, "identifiers",
			 json_pack("[{s:s, s:s}]", "identifierType", "EAN", "identifier", ean));
	add_data(item, included, "images", market, "images",
			 json_pack("[{s:s, s:o, s:i, s:i}]", "variant", "MAIN", "link",
					   json_text("https://images.example.invalid/%s.jpg", asin), "height", 1000, "width", 1000));
	add_data(item, included, "productTypes", market, "productType", product_type(page.thing));
	add_data(item, included, "relationships", market, "relationships", json_array());
	add_data(item, included, "classifications", market, "classifications",
			 json_pack("[{s:s, s:s}]", "displayName", page.thing, "classificationId", "3167641"));
	add_data(item, included, "salesRanks", market, "displayGroupRanks",
			 json_pack("[{s:s, s:s, s:i}]", "websiteDisplayGroup", "home_display_on_website", "title", "Home", "rank",
					   (int) (number % 90000) + 1));
	add_data(item, included, "dimensions", market, "package",
			 json_pack("{s:{s:s, s:f}}", "weight", "unit", "kilograms", "value", 0.5));
	add_data(item, included, "attributes", market, NULL,
			 json_pack("{s:[{s:s, s:s}], s:[{s:s, s:s}]}", "item_name", "value", page.title, "marketplace_id", market,
					   "brand", "value", page.brand, "marketplace_id", market));
	return item;
}

static bool
title_has_all(const char *title, const json_t *keywords)
{
	size_t i;
	json_t *keyword;

	json_array_foreach(keywords, i, keyword)
	{
		if (strcasestr(title, json_string_value(keyword)) == NULL)
			return false;
	}
	return true;
}

/* The numbers that a search finds, in order. */
static void
find_by_keywords(const json_t *query, json_t *found)
{
	const json_t *brand_names = json_object_get(query, "brandNames");
	Page page;

	for (int64_t number = SHELF_FIRST; number < SHELF_FIRST + SHELF_SIZE; number++)
	{
		if (!number_exists(number))
			continue;
		page_of_number(number, &page);
		if (title_has_all(page.title, json_object_get(query, "keywords")) &&
			(brand_names == NULL || json_array_has(brand_names, page.brand)))
			json_array_append_new(found, json_integer(number));
	}
}

static void
find_by_identifiers(const Call *call, json_t *found)
{
	const char *type = json_get_text(call->query, "identifiersType");
	size_t i;
	json_t *identifier;

	json_array_foreach(json_object_get(call->query, "identifiers"), i, identifier)
	{
		const char *text = json_string_value(identifier);
		char asins[2][11];
		int matches;

		if (strcmp(type, "SKU") == 0)
		{
			const Seller *seller = seller_find(json_get_text(call->query, "sellerId"));
			const Item *item = seller == NULL ? NULL : item_find(seller, text);
			const char *market = json_string_value(json_array_get(json_object_get(call->query, "marketplaceIds"), 0));
			const Offer *offer = item == NULL ? NULL : item_offer(item, marketplace_by_id(market));

			matches = offer == NULL ? 0 : catalog_match("ASIN", offer->asin, asins);
		}
		else
			matches = catalog_match(type, text, asins);
		for (int match = 0; match < matches; match++)
			json_array_append_new(found, json_integer(number_from_asin(asins[match])));
	}
}

static bool
search_allowed(Call *call)
{
	const json_t *query = call->query;
	bool identifiers = json_object_get(query, "identifiers") != NULL;
	const char *type = json_get_text(query, "identifiersType");

	if (identifiers == (json_object_get(query, "keywords") != NULL))
		call_violation(call, 400, "InvalidInput", "Exactly one of identifiers and keywords is required.");
	else if (identifiers != (type != NULL))
		call_violation(call, 400, "InvalidInput", "identifiers and identifiersType go together.");
	else if (identifiers && (json_object_get(query, "brandNames") || json_object_get(query, "classificationIds") ||
							 json_object_get(query, "keywordsLocale")))
		call_violation(call, 400, "InvalidInput",
					   "brandNames, classificationIds and keywordsLocale cannot be used with identifiers.");
	else if (type != NULL && strcmp(type, "SKU") == 0 && json_object_get(query, "sellerId") == NULL)
		call_violation(call, 400, "InvalidInput", "sellerId is required when identifiersType is SKU.");
	else if (json_array_has(json_object_get(query, "includedData"), "vendorDetails"))
		call_violation(call, 400, "InvalidInput", "vendorDetails are for vendors only.");
	return call->status == 0 && validate_markets(call, json_object_get(query, "marketplaceIds"));
}

static json_t *
included_or_summaries(const Call *call)
{
	json_t *included = json_object_get(call->query, "includedData");

	return included != NULL ? json_incref(included) : json_pack("[s]", "summaries");
}

static json_t *
pagination_json(uint64_t binding, int64_t first, int64_t size, int64_t count)
{
	json_t *pagination = json_object();
	char *token;

	if (first + size < count)
	{
		token = page_token(binding, json_pack("[I]", (json_int_t) (first + size)));
		json_object_set_new(pagination, "nextToken", json_string(token));
		free(token);
	}
	if (first > 0)
	{
		token = page_token(binding, json_pack("[I]", (json_int_t) (first > size ? first - size : 0)));
		json_object_set_new(pagination, "previousToken", json_string(token));
		free(token);
	}
	return pagination;
}

static json_t *
refinements_json(const json_t *found)
{
	json_t *names = json_object();
	json_t *list = json_array();
	const char *name;
	json_t *value;
	size_t i;

	json_array_foreach(found, i, value)
	{
		Page page;

		page_of_number(json_integer_value(value), &page);
		json_object_set_new(names, page.brand, json_integer(json_get_int(names, page.brand, 0) + 1));
	}
	json_object_foreach(names, name, value)
	{
		json_array_append_new(list, json_pack("{s:s, s:O}", "brandName", name, "numberOfResults", value));
	}
	json_decref(names);
	return json_pack("{s:o, s:[]}", "brands", list, "classifications");
}

static void
search_page(Call *call, const json_t *found, int64_t first, uint64_t binding)
{
	const char *market = json_string_value(json_array_get(json_object_get(call->query, "marketplaceIds"), 0));
	int64_t size = json_get_int(call->query, "pageSize", 10);
	int64_t count = (int64_t) json_array_size(found) < 1000 ? (int64_t) json_array_size(found) : 1000;
	json_t *included = included_or_summaries(call);
	json_t *items = json_array();
	json_t *answer;

	for (int64_t i = first; i < first + size && i < count; i++)
		json_array_append_new(items,
							  item_of_number(json_integer_value(json_array_get(found, (size_t) i)), included, market));
	answer = json_pack("{s:I, s:o, s:o}", "numberOfResults", (json_int_t) json_array_size(found), "pagination",
					   pagination_json(binding, first, size, count), "items", items);
	if (json_object_get(call->query, "keywords") != NULL)
		json_object_set_new(answer, "refinements", refinements_json(found));
	json_decref(included);
	call_answer(call, 200, answer);
}

/* GET /catalog/2022-04-01/items */
void
catalog_search(Call *call)
{
	const char *token = json_get_text(call->query, "pageToken");
	const char *problem = NULL;
	json_t *position = NULL;
	json_t *found;
	uint64_t binding;

	if (!search_allowed(call))
		return;
	binding = page_binding(call, "pageToken,includedData");
	if (token != NULL)
		position = page_open(token, binding, 24 * HOUR, &problem);
	if (problem != NULL)
	{
		call_fail(call, 400, "InvalidInput", "%s", problem);
		return;
	}
	found = json_array();
	if (json_object_get(call->query, "keywords") != NULL)
		find_by_keywords(call->query, found);
	else
		find_by_identifiers(call, found);
	search_page(call, found, json_integer_value(json_array_get(position, 0)), binding);
	json_decref(found);
	json_decref(position);
}

/* GET /catalog/2022-04-01/items/{asin} */
void
catalog_get(Call *call)
{
	const json_t *markets = json_object_get(call->query, "marketplaceIds");
	json_t *included;

	if (!validate_markets(call, markets))
		return;
	if (call_included(call, "vendorDetails"))
		call_violation(call, 400, "InvalidInput", "vendorDetails are for vendors only.");
	else if (!catalog_exists(call->argument[0]))
		call_fail(call, 404, "NotFound", "Requested item '%s' not found in marketplace(s) %s.", call->argument[0],
				  json_string_value(json_array_get(markets, 0)));
	if (call->status != 0)
		return;
	included = included_or_summaries(call);
	call_answer(call, 200,
				item_of_number(number_from_asin(call->argument[0]), included,
							   json_string_value(json_array_get(markets, 0))));
	json_decref(included);
}

/* For tests and the demo: EANs whose outcome is known. */
json_t *
catalog_eans(const char *outcome, int64_t count, int64_t from, char **problem)
{
	static const char *const outcomes[] = {"single", "conflict", "approval", "none", "double"};
	json_t *list = json_array();
	int wanted = -1;

	for (size_t i = 0; outcome != NULL && i < lengthof(outcomes); i++)
		if (strcmp(outcomes[i], outcome) == 0)
			wanted = (int) i;
	if (outcome != NULL && wanted < 0)
		*problem = xstrdup("outcome is one of single, conflict, approval, none, double");
	for (int64_t number = SHELF_FIRST + from;
		 wanted >= -1 && *problem == NULL && (int64_t) json_array_size(list) < count; number++)
	{
		int is = (int) outcome_of_number(number);
		char ean[14];
		char asins[2][11];
		Page page;
		json_t *matches = json_array();
		int matched;

		ean_from_number(number, ean);
		matched = catalog_match("EAN", ean, asins);
		for (int i = 0; i < matched; i++)
			json_array_append_new(matches, json_string(asins[i]));
		page_of_number(number, &page);
		if (wanted < 0 || wanted == is)
			json_array_append_new(list, json_pack("{s:s, s:s, s:O, s:s, s:s}", "ean", ean, "outcome", outcomes[is],
												  "asins", matches, "title", page.title, "brand", page.brand));
		json_decref(matches);
	}
	return list;
}
