/*
 * definitions.c: the Product Type Definitions API: which product types there are, and where the schema of one is. A schema
 * is a document behind a signed URL that lives seven days, and is announced with the Base64 of its MD5.
 */
#include "sim.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>

#define LINK_LIFETIME (7 * 24 * HOUR)

static json_t *
type_json(const char *name, const json_t *market_ids)
{
	return json_pack("{s:s, s:s, s:O}", "name", name, "displayName", product_type_title(name), "marketplaceIds",
					 market_ids);
}

static bool
has_word(const char *title, const char *word, size_t length)
{
	for (; length > 2 && *title != '\0'; title++)
		if (strncasecmp(title, word, length) == 0)
			return true;
	return false;
}

/* Does a word of the text stand in the title? */
static bool
words_meet(const char *title, const char *text)
{
	while (*text != '\0')
	{
		size_t length = 0;

		while (isalpha((unsigned char) text[length]))
			length++;
		if (has_word(title, text, length))
			return true;
		text += length == 0 ? 1 : length;
	}
	return false;
}

static bool
is_meant(const char *name, const json_t *keywords, const char *item_name)
{
	const char *title = product_type_title(name);
	size_t i;
	json_t *keyword;

	if (item_name != NULL)
		return words_meet(title, item_name);
	json_array_foreach(keywords, i, keyword)
	{
		if (words_meet(title, json_string_value(keyword)) || strcasecmp(name, json_string_value(keyword)) == 0)
			return true;
	}
	return keywords == NULL;
}

/* GET /definitions/2020-09-01/productTypes */
void
definitions_search(Call *call)
{
	const json_t *markets = json_object_get(call->query, "marketplaceIds");
	const json_t *keywords = json_object_get(call->query, "keywords");
	const char *item_name = json_get_text(call->query, "itemName");
	json_t *list;

	if (keywords != NULL && item_name != NULL)
		call_violation(call, 400, "InvalidInput", "keywords and itemName exclude each other.");
	if (call->status != 0 || !validate_markets(call, markets))
		return;
	list = json_array();
	for (size_t i = 0; i < product_type_count(); i++)
		if (is_meant(product_type_name(i), keywords, item_name))
			json_array_append_new(list, type_json(product_type_name(i), markets));
	call_answer(call, 200, json_pack("{s:o, s:s}", "productTypes", list, "productTypeVersion", "1"));
}

/* The document of a schema, and what announces it. Takes over the schema. */
static json_t *
link_json(Call *call, json_t *schema)
{
	Document *document = document_new(call->seller, "definition", "application/json");
	char *text = json_dumps(schema, JSON_COMPACT | JSON_SORT_KEYS);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned char checksum[2 * EVP_MAX_MD_SIZE];
	unsigned int length;

	json_decref(schema);
	EVP_Digest(text, strlen(text), digest, &length, EVP_md5(), NULL);
	EVP_EncodeBlock(checksum, digest, (int) length);
	document_fill(document, text, strlen(text), false);
	return json_pack("{s:{s:o, s:s}, s:s}", "link", "resource", document_url(document, LINK_LIFETIME), "verb", "GET",
					 "checksum", (char *) checksum);
}

static json_t *
groups_json(const json_t *schema)
{
	json_t *facts = json_array();
	json_t *terms = json_array();
	const char *name;
	json_t *value;

	json_object_foreach(json_object_get(schema, "properties"), name, value)
	{
		json_array_append_new(attribute_is_sales_term(name) ? terms : facts, json_string(name));
	}
	return json_pack("{s:{s:s, s:s, s:o}, s:{s:s, s:s, s:o}}", "product", "title", "Product", "description",
					 "What it is.", "propertyNames", facts, "offer", "title", "Offer", "description", "How it is sold.",
					 "propertyNames", terms);
}

/* GET /definitions/2020-09-01/productTypes/{productType}: a name that begins with LEGACY_ is answered with PRODUCT. */
void
definitions_get(Call *call)
{
	const char *name = starts_with(call->argument[0], "LEGACY_") ? "PRODUCT" : call->argument[0];
	const json_t *markets = json_object_get(call->query, "marketplaceIds");
	const char *seller = json_get_text(call->query, "sellerId");
	const char *requirements = json_get_text(call->query, "requirements");
	const char *enforced = json_get_text(call->query, "requirementsEnforced");
	const char *locale = json_get_text(call->query, "locale");
	const Marketplace *market;
	char *version;
	json_t *schema;
	json_t *groups;

	if (!validate_markets(call, markets))
		return;
	if (seller != NULL && strcmp(seller, call->seller->id) != 0)
		call_fail_detail(call, 403, "Unauthorized", "Access to requested resource is denied.",
						 "sellerId is not the selling partner of the access token.");
	else if (!product_type_exists(name))
		call_fail(call, 404, "NotFound", "Product type '%s' not found.", name);
	if (call->status != 0)
		return;
	market = marketplace_by_id(json_string_value(json_array_get(markets, 0)));
	requirements = requirements == NULL ? "LISTING" : requirements;
	enforced = enforced == NULL ? "ENFORCED" : enforced;
	schema = product_type_schema(name, requirements, strcmp(enforced, "ENFORCED") == 0, market);
	groups = groups_json(schema); /* before the schema is taken over: what comes first in a call is the compiler's choice */
	version = product_type_version(name);
	call_answer(call, 200,
				json_pack("{s:o, s:o, s:o, s:s, s:s, s:s, s:O, s:s, s:s, s:{s:s, s:b, s:b}}", "metaSchema",
						  link_json(call, json_pack("{s:s}", "title", "meta-schema")), "propertyGroups", groups, "schema",
						  link_json(call, schema), "requirements", requirements, "requirementsEnforced", enforced,
						  "locale", locale == NULL || strcmp(locale, "DEFAULT") == 0 ? market->language : locale,
						  "marketplaceIds", markets, "productType", name, "displayName", product_type_title(name),
						  "productTypeVersion", "version", version, "latest", 1, "releaseCandidate", 0));
	free(version);
}
