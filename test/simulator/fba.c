/*
 * fba.c: getInventorySummaries: what lies in Amazon's warehouses of the SKUs that Amazon fulfils, or once did. Control sets it
 * (fba_quantity); orders that Amazon fulfils lower it. Page tokens live 30 seconds.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define PAGE           50
#define TOKEN_LIFETIME (30 * SECOND)

static bool
wanted(const Item *item, const json_t *query)
{
	const json_t *skus = json_object_get(query, "sellerSkus");
	const char *sku = json_get_text(query, "sellerSku");
	Micros start = json_get_int(query, "startDateTime", INT64_MIN);
	const Offer *offer = item->offers.count == 0 ? NULL : item->offers.at[0];

	return item->fba_channel != NULL && offer != NULL && offer->updated >= start &&
		   (skus == NULL || json_array_has(skus, item->sku)) && (sku == NULL || strcmp(sku, item->sku) == 0);
}

static json_t *
summary_json(const Item *item, bool details)
{
	const Offer *offer = item->offers.at[0];
	char title[200] = "";
	json_t *summary;

	if (offer->asin[0] != '\0')
		catalog_title(offer->asin, title, sizeof(title));
	summary = json_pack("{s:s, s:o, s:s, s:s, s:s, s:o, s:I, s:[]}", "asin", offer->asin, "fnSku",
						json_text("X00%s", offer->asin[0] == '\0' ? "" : offer->asin + 3), "sellerSku", item->sku,
						"condition", "NewItem", "productName", title, "lastUpdatedTime", time_json(offer->updated),
						"totalQuantity", (json_int_t) item->fba_quantity, "stores");
	if (details)
		json_object_set_new(summary, "inventoryDetails",
							json_pack("{s:I, s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i}}", "fulfillableQuantity",
									  (json_int_t) item->fba_quantity, "inboundWorkingQuantity", 0,
									  "inboundShippedQuantity", 0, "inboundReceivingQuantity", 0, "reservedQuantity",
									  "totalReservedQuantity", 0, "pendingCustomerOrderQuantity", 0,
									  "pendingTransshipmentQuantity", 0, "fcProcessingQuantity", 0));
	return summary;
}

static void
answer_page(Call *call, size_t skip, uint64_t binding)
{
	bool details = json_get_bool(call->query, "details", false);
	json_t *list = json_array();
	json_t *answer = json_pack("{s:{s:{s:s, s:s}, s:o}}", "payload", "granularity", "granularityType", "Marketplace",
							   "granularityId", json_get_text(call->query, "granularityId"), "inventorySummaries", list);
	size_t seen = 0;

	for (size_t i = 0; i < call->seller->item_list.count && seen <= skip + PAGE; i++)
	{
		const Item *item = call->seller->item_list.at[i];

		if (!wanted(item, call->query) || seen++ < skip || seen > skip + PAGE)
			continue;
		json_array_append_new(list, summary_json(item, details));
	}
	if (seen > skip + PAGE)
	{
		char *token = page_token(binding, json_pack("[I]", (json_int_t) (skip + PAGE)));

		json_object_set_new(answer, "pagination", json_pack("{s:s}", "nextToken", token));
		free(token);
	}
	call_answer(call, 200, answer);
}

/* GET /fba/inventory/v1/summaries */
void
fba_summaries(Call *call)
{
	const char *token = json_get_text(call->query, "nextToken");
	const char *problem = NULL;
	json_t *position = NULL;
	uint64_t binding = page_binding(call, "nextToken");

	if (!validate_markets(call, json_object_get(call->query, "marketplaceIds")))
		return;
	if (!json_array_has(json_object_get(call->query, "marketplaceIds"), json_get_text(call->query, "granularityId")))
		call_violation(call, 400, "InvalidInput", "granularityId is not the marketplace of the request.");
	else if (json_object_get(call->query, "sellerSku") != NULL && json_object_get(call->query, "sellerSkus") != NULL)
		call_violation(call, 400, "InvalidInput", "Only one of sellerSku and sellerSkus is allowed.");
	else if (token != NULL)
		position = page_open(token, binding, TOKEN_LIFETIME, &problem);
	if (problem != NULL)
		call_fail(call, 400, "InvalidInput", "%s", problem);
	if (call->status == 0)
		answer_page(call, (size_t) json_integer_value(json_array_get(position, 0)), binding);
	json_decref(position);
}
