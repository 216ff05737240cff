/*
 * sellers.c: selling partners, made when first mentioned, and the Sellers API.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

static Table *sellers;

static void
seller_free(void *value)
{
	Seller *seller = value;

	list_free(&seller->item_list, item_free);
	list_free(&seller->orders, order_free);
	list_free(&seller->feeds, job_free);
	list_free(&seller->reports, job_free);
	table_free(seller->items, NULL);
	json_decref(seller->absent);
	json_decref(seller->suspended);
	json_decref(seller->subscriptions);
	json_decref(seller->transactions);
	json_decref(seller->returns);
	free(seller->store_name);
	free(seller->region);
	free(seller->plan);
	free(seller->id);
	free(seller);
}

void
sellers_reset(void)
{
	table_free(sellers, seller_free);
	sellers = table_new();
}

Seller *
seller_find(const char *id)
{
	return table_get(sellers, id);
}

Seller *
seller_get(const char *id)
{
	Seller *seller = seller_find(id);

	if (seller != NULL)
		return seller;
	seller = xalloc(sizeof(Seller));
	seller->id = xstrdup(id);
	seller->region = xstrdup("EU");
	seller->plan = xstrdup("PROFESSIONAL");
	seller->store_name = xprintf("Store of %s", id);
	seller->absent = json_array();
	seller->suspended = json_array();
	seller->subscriptions = json_array();
	seller->transactions = json_array();
	seller->returns = json_array();
	seller->items = table_new();
	table_put(sellers, id, seller);
	return seller;
}

void
sellers_each(TableVisit visit, void *arg)
{
	table_each(sellers, visit, arg);
}

bool
seller_in_market(const Seller *seller, const Marketplace *market)
{
	return strcmp(seller->region, market->region) == 0 && !json_array_has(seller->absent, market->id);
}

static json_t *
participation_list(const Seller *seller)
{
	json_t *list = json_array();

	for (size_t i = 0; i < MARKETPLACE_COUNT; i++)
	{
		const Marketplace *market = &marketplaces[i];

		if (strcmp(seller->region, market->region) != 0)
			continue;
		json_array_append_new(list, json_pack("{s:{s:s, s:s, s:s, s:s, s:s, s:s}, s:{s:b, s:b}, s:s}", "marketplace",
											  "id", market->id, "name", market->name, "countryCode", market->country,
											  "defaultCurrencyCode", market->currency, "defaultLanguageCode",
											  market->language, "domainName", market->domain, "participation",
											  "isParticipating", !json_array_has(seller->absent, market->id),
											  "hasSuspendedListings", json_array_has(seller->suspended, market->id),
											  "storeName", seller->store_name));
	}
	return list;
}

void
sellers_participations(Call *call)
{
	call_answer(call, 200, json_pack("{s:o}", "payload", participation_list(call->seller)));
}

void
sellers_account(Call *call)
{
	json_t *address = json_pack("{s:s, s:s, s:s, s:s}", "addressLine1", "1 Warehouse Road", "countryCode", "IE", "city",
								"Dublin", "postalCode", "D01 F5P2");

	call_answer(call, 200,
				json_pack("{s:{s:o, s:s, s:s, s:{s:s, s:O}, s:{s:s, s:o}}}", "payload", "marketplaceParticipationList",
						  participation_list(call->seller), "businessType", "PRIVATE_LIMITED", "sellingPlan",
						  call->seller->plan, "business", "name", call->seller->store_name, "registeredBusinessAddress",
						  address, "primaryContact", "name", "Demo Seller", "address", address));
}
