/*
 * operations.c: the operations served, one row each: path, usage plan, parameters as the published models have them,
 * handler. Where Amazon publishes two figures for a plan the lower one stands here.
 */
#include "sim.h"

#include <string.h>

#define LISTING_DATA "summaries,attributes,issues,offers,fulfillmentAvailability,procurement,relationships,productTypes"
#define CATALOG_DATA                                                                                                   \
	"attributes,classifications,dimensions,identifiers,images,productTypes,relationships,salesRanks,summaries,"        \
	"vendorDetails"
#define ORDER_DATA                                                                                                     \
	"BUYER,RECIPIENT,PROCEEDS,EXPENSE,PROMOTION,CANCELLATION,FULFILLMENT,PACKAGES,TAX,PAYMENT,FULFILLMENT_ORDERS"
#define ORDER_STATUSES "PENDING_AVAILABILITY,PENDING,UNSHIPPED,PARTIALLY_SHIPPED,SHIPPED,CANCELLED,UNFULFILLABLE"
#define CONDITIONS                                                                                                     \
	"new_new,new_open_box,new_oem,refurbished_refurbished,used_like_new,used_very_good,used_good,used_acceptable,"     \
	"collectible_like_new,collectible_very_good,collectible_good,collectible_acceptable,club_club"

static const Param none[] = {{.name = NULL}};

static const Param search_orders[] = {
	{.name = "createdAfter", .kind = PARAM_TIME},
	{.name = "createdBefore", .kind = PARAM_TIME},
	{.name = "lastUpdatedAfter", .kind = PARAM_TIME},
	{.name = "lastUpdatedBefore", .kind = PARAM_TIME},
	{.name = "fulfillmentStatuses", .kind = PARAM_ENUM_LIST, .allowed = ORDER_STATUSES},
	{.name = "marketplaceIds", .kind = PARAM_LIST, .high = 50},
	{.name = "fulfilledBy", .kind = PARAM_ENUM_LIST, .allowed = "MERCHANT,AMAZON"},
	{.name = "maxResultsPerPage", .kind = PARAM_INT, .low = 1, .high = 100},
	{.name = "paginationToken", .kind = PARAM_TEXT},
	{.name = "includedData", .kind = PARAM_ENUM_LIST, .allowed = ORDER_DATA},
	{.name = NULL},
};

static const Param get_order[] = {
	{.name = "includedData", .kind = PARAM_ENUM_LIST, .allowed = ORDER_DATA},
	{.name = NULL},
};

static const Param get_listing[] = {
	{.name = "marketplaceIds", .kind = PARAM_LIST, .required = true},
	{.name = "issueLocale", .kind = PARAM_TEXT},
	{.name = "includedData", .kind = PARAM_ENUM_LIST, .allowed = LISTING_DATA},
	{.name = NULL},
};

static const Param delete_listing[] = {
	{.name = "marketplaceIds", .kind = PARAM_LIST, .required = true, .high = 1},
	{.name = "issueLocale", .kind = PARAM_TEXT},
	{.name = NULL},
};

static const Param put_listing[] = {
	{.name = "marketplaceIds", .kind = PARAM_LIST, .required = true, .high = 1},
	{.name = "includedData", .kind = PARAM_ENUM_LIST, .allowed = "identifiers,issues"},
	{.name = "mode", .kind = PARAM_ENUM, .allowed = "VALIDATION_PREVIEW"},
	{.name = "issueLocale", .kind = PARAM_TEXT},
	{.name = NULL},
};

static const Param patch_listing[] = {
	{.name = "marketplaceIds", .kind = PARAM_LIST, .required = true},
	{.name = "includedData", .kind = PARAM_ENUM_LIST, .allowed = "identifiers,issues"},
	{.name = "mode", .kind = PARAM_ENUM, .allowed = "VALIDATION_PREVIEW"},
	{.name = "issueLocale", .kind = PARAM_TEXT},
	{.name = NULL},
};

static const Param search_listings[] = {
	{.name = "marketplaceIds", .kind = PARAM_LIST, .required = true},
	{.name = "issueLocale", .kind = PARAM_TEXT},
	{.name = "includedData", .kind = PARAM_ENUM_LIST, .allowed = LISTING_DATA},
	{.name = "identifiers", .kind = PARAM_LIST, .high = 20},
	{.name = "identifiersType", .kind = PARAM_ENUM, .allowed = "ASIN,EAN,FNSKU,GTIN,ISBN,JAN,MINSAN,SKU,UPC"},
	{.name = "variationParentSku", .kind = PARAM_TEXT},
	{.name = "packageHierarchySku", .kind = PARAM_TEXT},
	{.name = "createdAfter", .kind = PARAM_TIME},
	{.name = "createdBefore", .kind = PARAM_TIME},
	{.name = "lastUpdatedAfter", .kind = PARAM_TIME},
	{.name = "lastUpdatedBefore", .kind = PARAM_TIME},
	{.name = "withIssueSeverity", .kind = PARAM_ENUM_LIST, .allowed = "WARNING,ERROR"},
	{.name = "withStatus", .kind = PARAM_ENUM_LIST, .allowed = "BUYABLE,DISCOVERABLE"},
	{.name = "withoutStatus", .kind = PARAM_ENUM_LIST, .allowed = "BUYABLE,DISCOVERABLE"},
	{.name = "sortBy", .kind = PARAM_ENUM, .allowed = "sku,createdDate,lastUpdatedDate"},
	{.name = "sortOrder", .kind = PARAM_ENUM, .allowed = "ASC,DESC"},
	{.name = "pageSize", .kind = PARAM_INT, .low = 1, .high = 20},
	{.name = "pageToken", .kind = PARAM_TEXT},
	{.name = NULL},
};

static const Param restrictions[] = {
	{.name = "asin", .kind = PARAM_TEXT, .required = true},
	{.name = "conditionType", .kind = PARAM_ENUM, .allowed = CONDITIONS},
	{.name = "sellerId", .kind = PARAM_TEXT, .required = true},
	{.name = "marketplaceIds", .kind = PARAM_LIST, .required = true},
	{.name = "reasonLocale", .kind = PARAM_TEXT},
	{.name = "productType", .kind = PARAM_TEXT},
	{.name = NULL},
};

#define DEFINITION_LOCALES                                                                                             \
	"DEFAULT,ar,ar_AE,de,de_DE,en,en_AE,en_AU,en_CA,en_GB,en_IN,en_SG,en_US,es,es_ES,es_MX,es_US,fr,fr_CA,fr_FR,it,"   \
	"it_IT,ja,ja_JP,nl,nl_NL,pl,pl_PL,pt,pt_BR,pt_PT,sv,sv_SE,tr,tr_TR,zh,zh_CN,zh_TW"

static const Param search_definitions[] = {
	{.name = "keywords", .kind = PARAM_LIST},     {.name = "marketplaceIds", .kind = PARAM_LIST, .required = true},
	{.name = "itemName", .kind = PARAM_TEXT},     {.name = "locale", .kind = PARAM_TEXT},
	{.name = "searchLocale", .kind = PARAM_TEXT}, {.name = NULL},
};

static const Param get_definition[] = {
	{.name = "sellerId", .kind = PARAM_TEXT},
	{.name = "marketplaceIds", .kind = PARAM_LIST, .required = true, .high = 1},
	{.name = "productTypeVersion", .kind = PARAM_TEXT},
	{.name = "requirements", .kind = PARAM_ENUM, .allowed = "LISTING,LISTING_PRODUCT_ONLY,LISTING_OFFER_ONLY"},
	{.name = "requirementsEnforced", .kind = PARAM_ENUM, .allowed = "ENFORCED,NOT_ENFORCED"},
	{.name = "locale", .kind = PARAM_ENUM, .allowed = DEFINITION_LOCALES},
	{.name = "parentageLevel", .kind = PARAM_ENUM, .allowed = "NONE,CHILD,PARENT"},
	{.name = NULL},
};

static const Param search_catalog[] = {
	{.name = "identifiers", .kind = PARAM_LIST, .high = 20},
	{.name = "identifiersType", .kind = PARAM_ENUM, .allowed = "ASIN,EAN,GTIN,ISBN,JAN,MINSAN,SKU,UPC"},
	{.name = "marketplaceIds", .kind = PARAM_LIST, .required = true, .high = 1},
	{.name = "includedData", .kind = PARAM_ENUM_LIST, .allowed = CATALOG_DATA},
	{.name = "locale", .kind = PARAM_TEXT},
	{.name = "sellerId", .kind = PARAM_TEXT},
	{.name = "keywords", .kind = PARAM_LIST, .high = 20},
	{.name = "brandNames", .kind = PARAM_LIST},
	{.name = "classificationIds", .kind = PARAM_LIST},
	{.name = "pageSize", .kind = PARAM_INT, .low = 1, .high = 20},
	{.name = "pageToken", .kind = PARAM_TEXT},
	{.name = "keywordsLocale", .kind = PARAM_TEXT},
	{.name = NULL},
};

static const Param get_catalog[] = {
	{.name = "marketplaceIds", .kind = PARAM_LIST, .required = true},
	{.name = "includedData", .kind = PARAM_ENUM_LIST, .allowed = CATALOG_DATA},
	{.name = "locale", .kind = PARAM_TEXT},
	{.name = NULL},
};

#define NOTIFICATION_SCOPE "sellingpartnerapi::notifications"
#define ROTATION_SCOPE     "sellingpartnerapi::client_credential:rotation"

static const Param get_subscriptions[] = {
	{.name = "notificationTypes", .kind = PARAM_LIST, .required = true, .high = 1},
	{.name = "payloadVersion", .kind = PARAM_TEXT},
	{.name = "pageSize", .kind = PARAM_INT, .low = 30, .high = 100},
	{.name = "nextToken", .kind = PARAM_TEXT},
	{.name = NULL},
};

static const Param get_subscription[] = {
	{.name = "payloadVersion", .kind = PARAM_TEXT},
	{.name = NULL},
};

#define JOB_STATUSES "CANCELLED,DONE,FATAL,IN_PROGRESS,IN_QUEUE"

static const Param get_feeds[] = {
	{.name = "feedTypes", .kind = PARAM_LIST, .high = 10},
	{.name = "marketplaceIds", .kind = PARAM_LIST, .high = 10},
	{.name = "pageSize", .kind = PARAM_INT, .low = 1, .high = 100},
	{.name = "processingStatuses", .kind = PARAM_ENUM_LIST, .allowed = JOB_STATUSES},
	{.name = "createdSince", .kind = PARAM_TIME},
	{.name = "createdUntil", .kind = PARAM_TIME},
	{.name = "nextToken", .kind = PARAM_TEXT},
	{.name = NULL},
};

static const Param get_reports[] = {
	{.name = "reportTypes", .kind = PARAM_LIST, .high = 10},
	{.name = "marketplaceIds", .kind = PARAM_LIST, .high = 10},
	{.name = "pageSize", .kind = PARAM_INT, .low = 1, .high = 100},
	{.name = "processingStatuses", .kind = PARAM_ENUM_LIST, .allowed = JOB_STATUSES},
	{.name = "createdSince", .kind = PARAM_TIME},
	{.name = "createdUntil", .kind = PARAM_TIME},
	{.name = "nextToken", .kind = PARAM_TEXT},
	{.name = NULL},
};

static const Param get_document[] = {
	{.name = "enableContentEncodingUrlHeader", .kind = PARAM_BOOL},
	{.name = NULL},
};

static const Param get_summaries[] = {
	{.name = "details", .kind = PARAM_BOOL},
	{.name = "granularityType", .kind = PARAM_ENUM, .required = true, .allowed = "Marketplace"},
	{.name = "granularityId", .kind = PARAM_TEXT, .required = true},
	{.name = "startDateTime", .kind = PARAM_TIME},
	{.name = "sellerSkus", .kind = PARAM_LIST, .high = 50},
	{.name = "sellerSku", .kind = PARAM_TEXT},
	{.name = "nextToken", .kind = PARAM_TEXT},
	{.name = "marketplaceIds", .kind = PARAM_LIST, .required = true, .high = 1},
	{.name = NULL},
};

static const Param list_transactions[] = {
	{.name = "postedAfter", .kind = PARAM_TIME},
	{.name = "postedBefore", .kind = PARAM_TIME},
	{.name = "marketplaceId", .kind = PARAM_TEXT},
	{.name = "transactionStatus", .kind = PARAM_ENUM, .allowed = "DEFERRED,RELEASED,DEFERRED_RELEASED"},
	{.name = "relatedIdentifierName", .kind = PARAM_ENUM, .allowed = "ORDER_ID,FINANCIAL_EVENT_GROUP_ID"},
	{.name = "relatedIdentifierValue", .kind = PARAM_TEXT},
	{.name = "nextToken", .kind = PARAM_TEXT},
	{.name = NULL},
};

/* name, method, path, rate, burst, rate of the application, flags, parameters, handler */
#define ITEM_PATH "/listings/2021-08-01/items/{sellerId}/{sku}"

const Operation operations[] = {
	{"token", "POST", "/auth/o2/token", 0, 0, 0, OPERATION_OPEN, none, lwa_token, NULL},
	{"getMarketplaceParticipations", "GET", "/sellers/v1/marketplaceParticipations", 0.016, 15, 0, 0, none,
	 sellers_participations, NULL},
	{"getAccount", "GET", "/sellers/v1/account", 0.016, 15, 0, 0, none, sellers_account, NULL},
	{"searchCatalogItems", "GET", "/catalog/2022-04-01/items", 2, 2, 500, 0, search_catalog, catalog_search, NULL},
	{"getCatalogItem", "GET", "/catalog/2022-04-01/items/{asin}", 2, 2, 250, 0, get_catalog, catalog_get, NULL},
	{"patchListingsItem", "PATCH", ITEM_PATH, 5, 5, 500, OPERATION_BODY, patch_listing, listing_patch, NULL},
	{"getListingsItem", "GET", ITEM_PATH, 5, 5, 100, 0, get_listing, listing_get, NULL},
	{"putListingsItem", "PUT", ITEM_PATH, 5, 5, 100, OPERATION_BODY, put_listing, listing_put, NULL},
	{"deleteListingsItem", "DELETE", ITEM_PATH, 5, 5, 100, 0, delete_listing, listing_delete, NULL},
	{"searchListingsItems", "GET", "/listings/2021-08-01/items/{sellerId}", 5, 5, 100, 0, search_listings,
	 listing_search, NULL},
	{"getListingsRestrictions", "GET", "/listings/2021-08-01/restrictions", 5, 10, 100, 0, restrictions,
	 restrictions_get, NULL},
	{"searchDefinitionsProductTypes", "GET", "/definitions/2020-09-01/productTypes", 5, 5, 100, 0, search_definitions,
	 definitions_search, NULL},
	{"getDefinitionsProductType", "GET", "/definitions/2020-09-01/productTypes/{productType}", 5, 5, 100, 0,
	 get_definition, definitions_get, NULL},
	{"searchOrders", "GET", "/orders/2026-01-01/orders", 0.0056, 20, 0, 0, search_orders, orders_search, NULL},
	{"getOrder", "GET", "/orders/2026-01-01/orders/{orderId}", 0.5, 30, 0, 0, get_order, orders_get, NULL},
	{"confirmShipment", "POST", "/orders/v0/orders/{orderId}/shipmentConfirmation", 2, 10, 0, OPERATION_BODY, none,
	 shipment_confirm, NULL},
	{"updateShipmentStatus", "POST", "/orders/v0/orders/{orderId}/shipment", 5, 15, 0, OPERATION_BODY, none,
	 shipment_status, NULL},
	{"createFeedDocument", "POST", "/feeds/2021-06-30/documents", 0.5, 15, 0, OPERATION_BODY, none,
	 feed_document_create, NULL},
	{"getFeedDocument", "GET", "/feeds/2021-06-30/documents/{feedDocumentId}", 0.0222, 10, 0, 0, get_document,
	 feed_document_get, NULL},
	{"createFeed", "POST", "/feeds/2021-06-30/feeds", 0.0083, 15, 0, OPERATION_BODY | OPERATION_OWN_PLAN, none,
	 feed_create, NULL},
	{"getFeeds", "GET", "/feeds/2021-06-30/feeds", 0.0222, 10, 0, 0, get_feeds, feeds_get, NULL},
	{"getFeed", "GET", "/feeds/2021-06-30/feeds/{feedId}", 2, 15, 0, 0, none, feed_get, NULL},
	{"cancelFeed", "DELETE", "/feeds/2021-06-30/feeds/{feedId}", 2, 15, 0, 0, none, feed_cancel, NULL},
	{"listTransactions", "GET", "/finances/2024-06-19/transactions", 0.5, 10, 0, 0, list_transactions,
	 finance_transactions, NULL},
	{"createReport", "POST", "/reports/2021-06-30/reports", 0.0167, 15, 0, OPERATION_BODY, none, report_create, NULL},
	{"getReports", "GET", "/reports/2021-06-30/reports", 0.0222, 10, 0, 0, get_reports, reports_get, NULL},
	{"getReport", "GET", "/reports/2021-06-30/reports/{reportId}", 2, 15, 0, 0, none, report_get, NULL},
	{"cancelReport", "DELETE", "/reports/2021-06-30/reports/{reportId}", 0.0222, 10, 0, 0, none, report_cancel, NULL},
	{"getReportDocument", "GET", "/reports/2021-06-30/documents/{reportDocumentId}", 0.0167, 15, 0, 0, get_document,
	 report_document_get, NULL},
	{"uploadDocument", "PUT", "/_documents/{documentId}", 0, 0, 0, OPERATION_OPEN, none, document_upload, NULL},
	{"downloadDocument", "GET", "/_documents/{documentId}", 0, 0, 0, OPERATION_OPEN, none, document_download, NULL},
	{"getInventorySummaries", "GET", "/fba/inventory/v1/summaries", 2, 2, 0, 0, get_summaries, fba_summaries, NULL},
	{"createRestrictedDataToken", "POST", "/tokens/2021-03-01/restrictedDataToken", 1, 10, 0, OPERATION_BODY, none,
	 tokens_create, NULL},
	{"getSubscriptions", "GET", "/notifications/v1/subscriptions", 1, 5, 0, 0, get_subscriptions, subscriptions_get, NULL},
	{"createSubscription", "POST", "/notifications/v1/subscriptions/{notificationType}", 1, 5, 0, OPERATION_BODY, none,
	 subscription_create, NULL},
	{"getSubscription", "GET", "/notifications/v1/subscriptions/{notificationType}", 1, 5, 0, 0, get_subscription,
	 subscription_get, NULL},
	{"getSubscriptionById", "GET", "/notifications/v1/subscriptions/{notificationType}/{subscriptionId}", 1, 5, 0,
	 OPERATION_GRANTLESS, none, subscription_get_by_id, NOTIFICATION_SCOPE},
	{"deleteSubscriptionById", "DELETE", "/notifications/v1/subscriptions/{notificationType}/{subscriptionId}", 1, 5, 0,
	 OPERATION_GRANTLESS, none, subscription_delete, NOTIFICATION_SCOPE},
	{"getDestinations", "GET", "/notifications/v1/destinations", 1, 5, 0, OPERATION_GRANTLESS, none, destinations_get,
	 NOTIFICATION_SCOPE},
	{"createDestination", "POST", "/notifications/v1/destinations", 1, 5, 0, OPERATION_GRANTLESS | OPERATION_BODY, none,
	 destination_create, NOTIFICATION_SCOPE},
	{"getDestination", "GET", "/notifications/v1/destinations/{destinationId}", 1, 5, 0, OPERATION_GRANTLESS, none,
	 destination_get, NOTIFICATION_SCOPE},
	{"deleteDestination", "DELETE", "/notifications/v1/destinations/{destinationId}", 1, 5, 0, OPERATION_GRANTLESS,
	 none, destination_delete, NOTIFICATION_SCOPE},
	{"rotateApplicationClientSecret", "POST", "/applications/2023-11-30/clientSecret", 0.0167, 1, 0,
	 OPERATION_GRANTLESS, none, application_rotate, ROTATION_SCOPE},
	{"sqs", "POST", "/_sqs", 0, 0, 0, OPERATION_OPEN, none, sqs_run, NULL},
	{"webhook", "POST", "/_hook/{name}", 0, 0, 0, OPERATION_OPEN, none, hook_receive, NULL},
};

const size_t operation_count = lengthof(operations);

const Operation *
operation_by_name(const char *name)
{
	for (size_t i = 0; i < operation_count; i++)
		if (strcmp(operations[i].name, name) == 0)
			return &operations[i];
	return NULL;
}
