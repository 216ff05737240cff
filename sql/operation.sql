-- operation.sql
-- What Amazon's Selling Partner API can do: one row an operation, with its path, its usage plan, whether it reads,
-- and what to do when its answer is lost.
--
-- Reference data: filled here, the same in every database, read by everybody, written by nobody. The code that makes
-- and judges calls knows no operation by name; supporting another one is a row here and a handler. Rates that Amazon
-- grants an account beyond these are learned from its answers and live in shared memory, not here.

create table amzmp.operation (
    name text primary key,
    api text not null,
    version text not null,
    method text not null,
    path text not null,
    fixed_params jsonb,
    plan text not null generated always as (coalesce(shares_plan_of, name)) stored,
    shares_plan_of text,
    rate numeric not null,
    burst numeric not null,
    app_class text,
    app_rate numeric,
    app_burst numeric,
    reads boolean not null,
    after_lost_answer text not null,
    restricted boolean not null default false,
    grantless boolean not null default false,
    grantless_scope text,
    personal boolean not null default false,
    secret boolean not null default false,
    wrapped boolean not null default false,
    apply_in text not null default 'sender',
    note text,
    constraint operation_name_check check (length(name) between 1 and 47),
    constraint operation_method_check check (method in ('GET', 'POST', 'PUT', 'PATCH', 'DELETE')),
    constraint operation_path_check check (path like '/%'),
    constraint operation_fixed_params_check check (jsonb_typeof(fixed_params) = 'object'),
    constraint operation_rate_check check (rate > 0 and burst >= 1),
    constraint operation_app_check check (
        num_nulls(app_class, app_rate, app_burst) in (0, 3) and length(app_class) <= 47 and app_rate > 0 and app_burst >= 1
    ),
    constraint operation_after_lost_answer_check check (after_lost_answer in ('repeat', 'look_up', 'ask')),
    constraint operation_reads_check check (not reads or after_lost_answer = 'repeat'),
    constraint operation_grantless_check check (grantless = (grantless_scope is not null)),
    constraint operation_apply_in_check check (apply_in in ('sender', 'runner'))
);

comment on table amzmp.operation is 'The operations of Amazon''s Selling Partner API that amzmp.call and amzmp.enqueue take.';
comment on column amzmp.operation.name is 'Amazon''s name of the operation. Where two versions share a name the older one carries its version: getOrderV0.';
comment on column amzmp.operation.api is 'The API it belongs to.';
comment on column amzmp.operation.version is 'The version of that API.';
comment on column amzmp.operation.method is 'The HTTP method.';
comment on column amzmp.operation.path is 'The path; parameters in braces are filled from the parameters of the call, the rest of which become the query.';
comment on column amzmp.operation.fixed_params is 'Query parameters that are always sent and cannot be overridden.';
comment on column amzmp.operation.plan is 'The account''s bucket from which a call takes a token. Operations that are one to Amazon share one.';
comment on column amzmp.operation.shares_plan_of is 'The operation whose bucket it shares, if it has none of its own.';
comment on column amzmp.operation.rate is 'Tokens that flow into the account''s bucket a second, as published; 1 where nothing is published.';
comment on column amzmp.operation.burst is 'Most tokens that the account''s bucket holds, the lower figure where two are published; 1 where none is.';
comment on column amzmp.operation.app_class is 'The bucket that all accounts of an application share for this operation, null if there is none.';
comment on column amzmp.operation.app_rate is 'Tokens that flow into the application''s bucket a second.';
comment on column amzmp.operation.app_burst is 'Most tokens that the application''s bucket holds. None is published: one second''s worth.';
comment on column amzmp.operation.reads is 'Has it no effect at Amazon? Only such operations can be performed at once by amzmp.call. Says more than the method: some POSTs read.';
comment on column amzmp.operation.after_lost_answer is 'When nobody knows whether a call arrived: repeat it, look up whether it took effect, or ask a person.';
comment on column amzmp.operation.restricted is 'Does it need a restricted data token instead of the ordinary access token?';
comment on column amzmp.operation.grantless is 'Is it called for the application itself, without a seller''s consent?';
comment on column amzmp.operation.grantless_scope is 'The scope of the access token of a grantless operation.';
comment on column amzmp.operation.personal is 'May answers hold personal data of buyers? They are sealed, and reading them needs the role amzmp_buyer_data.';
comment on column amzmp.operation.secret is 'Do answers hold tokens or links that grant access, or does it change a secret? Refused to users.';
comment on column amzmp.operation.wrapped is 'Is the answer wrapped in "payload"?';
comment on column amzmp.operation.apply_in is 'Which process treats the answer: the sender, or a runner because it is large or personal.';
comment on column amzmp.operation.note is 'What else to know before calling it.';

-- Orders, 2026.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('searchOrders', 'orders', '2026-01-01', 'GET', '/orders/2026-01-01/orders', 0.0056, 20, true, 'repeat', false, 'Exactly one of createdAfter and lastUpdatedAfter; the status needs FULFILLMENT in includedData; page tokens live 24 hours. Buyers'' data comes with the applications roles.'),
    ('getOrder', 'orders', '2026-01-01', 'GET', '/orders/2026-01-01/orders/{orderId}', 0.5, 30, true, 'repeat', false, 'Same includedData as searchOrders. Buyers'' data comes with the applications roles.');

-- Orders, v0: what has no successor (the first four), and what ends on 2027-03-27.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('confirmShipment', 'orders', 'v0', 'POST', '/orders/v0/orders/{orderId}/shipmentConfirmation', 2, 10, false, 'repeat', false, 'Merchant orders only. Sending the same packageReferenceId again edits that package, so a repeat does no harm. packageReferenceId is a string of digits.'),
    ('updateShipmentStatus', 'orders', 'v0', 'POST', '/orders/v0/orders/{orderId}/shipment', 5, 15, false, 'repeat', false, 'Orders that are picked up in a shop, only.'),
    ('getOrderRegulatedInfo', 'orders', 'v0', 'GET', '/orders/v0/orders/{orderId}/regulatedInfo', 0.5, 30, true, 'repeat', true, 'Needs a restricted data token.'),
    ('updateVerificationStatus', 'orders', 'v0', 'PATCH', '/orders/v0/orders/{orderId}/regulatedInfo', 0.5, 30, false, 'look_up', false, 'After a lost answer getOrderRegulatedInfo tells the state.'),
    ('getOrders', 'orders', 'v0', 'GET', '/orders/v0/orders', 0.0167, 20, true, 'repeat', true, 'Ends on 2027-03-27; use searchOrders.'),
    ('getOrderV0', 'orders', 'v0', 'GET', '/orders/v0/orders/{orderId}', 0.5, 30, true, 'repeat', true, 'Ends on 2027-03-27; use getOrder.'),
    ('getOrderBuyerInfo', 'orders', 'v0', 'GET', '/orders/v0/orders/{orderId}/buyerInfo', 0.5, 30, true, 'repeat', true, 'Ends on 2027-03-27.'),
    ('getOrderAddress', 'orders', 'v0', 'GET', '/orders/v0/orders/{orderId}/address', 0.5, 30, true, 'repeat', true, 'Ends on 2027-03-27.'),
    ('getOrderItems', 'orders', 'v0', 'GET', '/orders/v0/orders/{orderId}/orderItems', 0.5, 30, true, 'repeat', true, 'Ends on 2027-03-27; searchOrders brings the items.'),
    ('getOrderItemsBuyerInfo', 'orders', 'v0', 'GET', '/orders/v0/orders/{orderId}/orderItems/buyerInfo', 0.5, 30, true, 'repeat', true, 'Ends on 2027-03-27.');

-- Listings Items.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('getListingsItem', 'listings', '2021-08-01', 'GET', '/listings/2021-08-01/items/{sellerId}/{sku}', 5, 5, true, 'repeat', false, 'Two values are published for the burst, 5 and 10.'),
    ('searchListingsItems', 'listings', '2021-08-01', 'GET', '/listings/2021-08-01/items/{sellerId}', 5, 5, true, 'repeat', false, '20 a page; only the first 1,000 matches can be reached.'),
    ('putListingsItem', 'listings', '2021-08-01', 'PUT', '/listings/2021-08-01/items/{sellerId}/{sku}', 5, 5, false, 'repeat', false, 'One marketplace. Two values are published for the burst, 5 and 10. Product data and relations have slower plans of their own, for all accounts of an application together.'),
    ('patchListingsItem', 'listings', '2021-08-01', 'PATCH', '/listings/2021-08-01/items/{sellerId}/{sku}', 5, 5, false, 'repeat', false, 'An unknown SKU is created. Product data and relations have slower plans of their own, for all accounts of an application together.'),
    ('deleteListingsItem', 'listings', '2021-08-01', 'DELETE', '/listings/2021-08-01/items/{sellerId}/{sku}', 5, 5, false, 'repeat', false, 'One marketplace. An unknown SKU is no error.');

-- Listings Restrictions.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('getListingsRestrictions', 'restrictions', '2021-08-01', 'GET', '/listings/2021-08-01/restrictions', 5, 10, true, 'repeat', false, null);

-- Product Type Definitions.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('searchDefinitionsProductTypes', 'definitions', '2020-09-01', 'GET', '/definitions/2020-09-01/productTypes', 5, 5, true, 'repeat', false, 'Two values are published for the burst, 5 and 10.'),
    ('getDefinitionsProductType', 'definitions', '2020-09-01', 'GET', '/definitions/2020-09-01/productTypes/{productType}', 5, 5, true, 'repeat', false, 'One marketplace. Two values are published for the burst, 5 and 10.');

-- Catalog Items.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('searchCatalogItems', 'catalog', '2022-04-01', 'GET', '/catalog/2022-04-01/items', 2, 2, true, 'repeat', false, 'One marketplace; up to 20 identifiers or 20 keywords.'),
    ('getCatalogItem', 'catalog', '2022-04-01', 'GET', '/catalog/2022-04-01/items/{asin}', 2, 2, true, 'repeat', false, null);

-- Feeds.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('getFeeds', 'feeds', '2021-06-30', 'GET', '/feeds/2021-06-30/feeds', 0.0222, 10, true, 'repeat', false, '90 days; nextToken must be the only parameter.'),
    ('createFeed', 'feeds', '2021-06-30', 'POST', '/feeds/2021-06-30/feeds', 0.0083, 15, false, 'look_up', false, 'Some feed types have plans of their own (amzmp.feed_type). After a lost answer getFeeds tells whether the feed exists.'),
    ('getFeed', 'feeds', '2021-06-30', 'GET', '/feeds/2021-06-30/feeds/{feedId}', 2, 15, true, 'repeat', false, null),
    ('cancelFeed', 'feeds', '2021-06-30', 'DELETE', '/feeds/2021-06-30/feeds/{feedId}', 2, 15, false, 'repeat', false, 'Only while the feed is IN_QUEUE.'),
    ('createFeedDocument', 'feeds', '2021-06-30', 'POST', '/feeds/2021-06-30/documents', 0.5, 15, false, 'repeat', false, 'The upload link lives 5 minutes, the document id 2 days.'),
    ('getFeedDocument', 'feeds', '2021-06-30', 'GET', '/feeds/2021-06-30/documents/{feedDocumentId}', 0.0222, 10, true, 'repeat', false, 'The link lives 5 minutes; results are kept 28 days.');

-- Reports.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('getReports', 'reports', '2021-06-30', 'GET', '/reports/2021-06-30/reports', 0.0222, 10, true, 'repeat', false, '90 days; nextToken must be the only parameter.'),
    ('createReport', 'reports', '2021-06-30', 'POST', '/reports/2021-06-30/reports', 0.0167, 15, false, 'look_up', false, 'Report types have hidden limits besides. After a lost answer getReports tells whether the report exists.'),
    ('getReport', 'reports', '2021-06-30', 'GET', '/reports/2021-06-30/reports/{reportId}', 2, 15, true, 'repeat', false, null),
    ('cancelReport', 'reports', '2021-06-30', 'DELETE', '/reports/2021-06-30/reports/{reportId}', 0.0222, 10, false, 'repeat', false, 'Only while the report is IN_QUEUE.'),
    ('getReportSchedules', 'reports', '2021-06-30', 'GET', '/reports/2021-06-30/schedules', 0.0222, 10, true, 'repeat', false, null),
    ('createReportSchedule', 'reports', '2021-06-30', 'POST', '/reports/2021-06-30/schedules', 0.0222, 10, false, 'repeat', false, 'Replaces the schedule of the same type and marketplaces.'),
    ('getReportSchedule', 'reports', '2021-06-30', 'GET', '/reports/2021-06-30/schedules/{reportScheduleId}', 0.0222, 10, true, 'repeat', false, null),
    ('cancelReportSchedule', 'reports', '2021-06-30', 'DELETE', '/reports/2021-06-30/schedules/{reportScheduleId}', 0.0222, 10, false, 'repeat', false, null),
    ('getReportDocument', 'reports', '2021-06-30', 'GET', '/reports/2021-06-30/documents/{reportDocumentId}', 0.0167, 15, true, 'repeat', false, 'Report types that hold buyers'' data need a restricted data token for this very path. The link lives 5 minutes.');

-- FBA Inventory.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('getInventorySummaries', 'fba_inventory', 'v1', 'GET', '/fba/inventory/v1/summaries', 2, 2, true, 'repeat', true, 'One marketplace, up to 50 SKUs; nextToken lives 30 seconds.'),
    ('createInventoryItem', 'fba_inventory', 'v1', 'POST', '/fba/inventory/v1/items', 1, 1, false, 'look_up', false, 'Sandbox only. No plan is published.'),
    ('deleteInventoryItem', 'fba_inventory', 'v1', 'DELETE', '/fba/inventory/v1/items/{sellerSku}', 1, 1, false, 'repeat', false, 'Sandbox only. No plan is published.'),
    ('addInventory', 'fba_inventory', 'v1', 'POST', '/fba/inventory/v1/items/inventory', 1, 1, false, 'repeat', false, 'Sandbox only; needs the header x-amzn-idempotency-token. No plan is published.');

-- Product Pricing.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('getFeaturedOfferExpectedPriceBatch', 'pricing', '2022-05-01', 'POST', '/batches/products/pricing/2022-05-01/offer/featuredOfferExpectedPrice', 0.033, 1, true, 'repeat', false, '40 SKUs a call. The plan follows the size of the business.'),
    ('getCompetitiveSummary', 'pricing', '2022-05-01', 'POST', '/batches/products/pricing/2022-05-01/items/competitiveSummary', 0.033, 1, true, 'repeat', false, '20 ASINs a call.'),
    ('getPricing', 'pricing', 'v0', 'GET', '/products/pricing/v0/price', 0.5, 1, true, 'repeat', true, '20 a call.'),
    ('getCompetitivePricing', 'pricing', 'v0', 'GET', '/products/pricing/v0/competitivePrice', 0.5, 1, true, 'repeat', true, '20 a call.'),
    ('getListingOffers', 'pricing', 'v0', 'GET', '/products/pricing/v0/listings/{SellerSKU}/offers', 1, 2, true, 'repeat', true, null),
    ('getItemOffers', 'pricing', 'v0', 'GET', '/products/pricing/v0/items/{Asin}/offers', 0.5, 1, true, 'repeat', true, null),
    ('getItemOffersBatch', 'pricing', 'v0', 'POST', '/batches/products/pricing/v0/itemOffers', 0.1, 1, true, 'repeat', false, '20 a call.'),
    ('getListingOffersBatch', 'pricing', 'v0', 'POST', '/batches/products/pricing/v0/listingOffers', 0.5, 1, true, 'repeat', false, '20 a call.');

-- Product Fees.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('getMyFeesEstimateForSKU', 'fees', 'v0', 'POST', '/products/fees/v0/listings/{SellerSKU}/feesEstimate', 1, 2, true, 'repeat', true, null),
    ('getMyFeesEstimateForASIN', 'fees', 'v0', 'POST', '/products/fees/v0/items/{Asin}/feesEstimate', 1, 2, true, 'repeat', true, null),
    ('getMyFeesEstimates', 'fees', 'v0', 'POST', '/products/fees/v0/feesEstimate', 0.5, 1, true, 'repeat', false, '20 a call.');

-- Finances.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('listTransactions', 'finances', '2024-06-19', 'GET', '/finances/2024-06-19/transactions', 0.5, 10, true, 'repeat', true, 'At most 180 days; a page may be empty; the last 48 hours may be incomplete.'),
    ('listBalances', 'finances', '2024-06-19', 'GET', '/finances/2024-06-19/balances', 0.5, 10, true, 'repeat', false, null),
    ('listSummary', 'finances', '2024-06-19', 'GET', '/finances/2024-06-19/summary', 0.5, 10, true, 'repeat', false, null);

-- Sellers.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('getMarketplaceParticipations', 'sellers', 'v1', 'GET', '/sellers/v1/marketplaceParticipations', 0.016, 15, true, 'repeat', true, 'The cheapest way to see whether credentials work.'),
    ('getAccount', 'sellers', 'v1', 'GET', '/sellers/v1/account', 0.016, 15, true, 'repeat', true, null);

-- Tokens.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('createRestrictedDataToken', 'tokens', '2021-03-01', 'POST', '/tokens/2021-03-01/restrictedDataToken', 1, 10, true, 'repeat', false, 'Up to 50 resources; the token lives an hour.');

-- Notifications.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('getSubscriptions', 'notifications', 'v1', 'GET', '/notifications/v1/subscriptions', 1, 5, true, 'repeat', true, 'One notificationType a call.'),
    ('getSubscription', 'notifications', 'v1', 'GET', '/notifications/v1/subscriptions/{notificationType}', 1, 5, true, 'repeat', true, null),
    ('createSubscription', 'notifications', 'v1', 'POST', '/notifications/v1/subscriptions/{notificationType}', 1, 5, false, 'look_up', true, 'One a type, payload version and application; a second one is refused with 409.'),
    ('getSubscriptionById', 'notifications', 'v1', 'GET', '/notifications/v1/subscriptions/{notificationType}/{subscriptionId}', 1, 5, true, 'repeat', true, null),
    ('deleteSubscriptionById', 'notifications', 'v1', 'DELETE', '/notifications/v1/subscriptions/{notificationType}/{subscriptionId}', 1, 5, false, 'repeat', false, null),
    ('sendTestNotification', 'notifications', 'v1', 'POST', '/notifications/v1/subscriptions/{notificationType}/testNotification', 1, 5, false, 'repeat', true, 'Sandbox only.'),
    ('getDestinations', 'notifications', 'v1', 'GET', '/notifications/v1/destinations', 1, 5, true, 'repeat', true, null),
    ('createDestination', 'notifications', 'v1', 'POST', '/notifications/v1/destinations', 1, 5, false, 'look_up', true, 'A name in use is refused with 409.'),
    ('getDestination', 'notifications', 'v1', 'GET', '/notifications/v1/destinations/{destinationId}', 1, 5, true, 'repeat', true, null),
    ('deleteDestination', 'notifications', 'v1', 'DELETE', '/notifications/v1/destinations/{destinationId}', 1, 5, false, 'repeat', false, null);

-- Uploads.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('createUploadDestinationForResource', 'uploads', '2020-11-01', 'POST', '/uploads/2020-11-01/uploadDestinations/{resource}', 10, 10, false, 'repeat', true, 'contentMD5 is required. The resource is a path whose slashes stay as they are.');

-- Messaging.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('getMessagingActionsForOrder', 'messaging', 'v1', 'GET', '/messaging/v1/orders/{amazonOrderId}', 1, 5, true, 'repeat', false, null),
    ('GetAttributes', 'messaging', 'v1', 'GET', '/messaging/v1/orders/{amazonOrderId}/attributes', 1, 5, true, 'repeat', false, null),
    ('confirmCustomizationDetails', 'messaging', 'v1', 'POST', '/messaging/v1/orders/{amazonOrderId}/messages/confirmCustomizationDetails', 1, 5, false, 'ask', false, null),
    ('createConfirmDeliveryDetails', 'messaging', 'v1', 'POST', '/messaging/v1/orders/{amazonOrderId}/messages/confirmDeliveryDetails', 1, 5, false, 'ask', false, null),
    ('createLegalDisclosure', 'messaging', 'v1', 'POST', '/messaging/v1/orders/{amazonOrderId}/messages/legalDisclosure', 1, 5, false, 'ask', false, null),
    ('createConfirmOrderDetails', 'messaging', 'v1', 'POST', '/messaging/v1/orders/{amazonOrderId}/messages/confirmOrderDetails', 1, 5, false, 'ask', false, null),
    ('createConfirmServiceDetails', 'messaging', 'v1', 'POST', '/messaging/v1/orders/{amazonOrderId}/messages/confirmServiceDetails', 1, 5, false, 'ask', false, null),
    ('CreateWarranty', 'messaging', 'v1', 'POST', '/messaging/v1/orders/{amazonOrderId}/messages/warranty', 1, 5, false, 'ask', false, null),
    ('createDigitalAccessKey', 'messaging', 'v1', 'POST', '/messaging/v1/orders/{amazonOrderId}/messages/digitalAccessKey', 1, 5, false, 'ask', false, null),
    ('createUnexpectedProblem', 'messaging', 'v1', 'POST', '/messaging/v1/orders/{amazonOrderId}/messages/unexpectedProblem', 1, 5, false, 'ask', false, null),
    ('sendInvoice', 'messaging', 'v1', 'POST', '/messaging/v1/orders/{amazonOrderId}/messages/invoice', 1, 1, false, 'ask', false, 'No plan is published.');

-- Invoices.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('getInvoicesAttributes', 'invoices', '2024-06-19', 'GET', '/tax/invoices/2024-06-19/attributes', 1, 1, true, 'repeat', false, 'No plan is published.'),
    ('getInvoicesDocument', 'invoices', '2024-06-19', 'GET', '/tax/invoices/2024-06-19/documents/{invoicesDocumentId}', 1, 1, true, 'repeat', false, 'No plan is published.'),
    ('createInvoicesExport', 'invoices', '2024-06-19', 'POST', '/tax/invoices/2024-06-19/exports', 1, 1, false, 'look_up', false, 'No plan is published.'),
    ('getInvoicesExports', 'invoices', '2024-06-19', 'GET', '/tax/invoices/2024-06-19/exports', 1, 1, true, 'repeat', false, 'No plan is published.'),
    ('getInvoicesExport', 'invoices', '2024-06-19', 'GET', '/tax/invoices/2024-06-19/exports/{exportId}', 1, 1, true, 'repeat', false, 'No plan is published.'),
    ('createGovernmentInvoice', 'invoices', '2024-06-19', 'POST', '/tax/invoices/2024-06-19/governmentInvoiceRequests', 1, 1, false, 'look_up', false, 'No plan is published.'),
    ('getGovernmentInvoiceStatus', 'invoices', '2024-06-19', 'GET', '/tax/invoices/2024-06-19/governmentInvoiceRequests', 1, 1, true, 'repeat', false, 'No plan is published.'),
    ('getGovernmentInvoiceDocument', 'invoices', '2024-06-19', 'GET', '/tax/invoices/2024-06-19/governmentInvoiceRequests/{shipmentId}', 1, 1, true, 'repeat', false, 'No plan is published.'),
    ('getInvoices', 'invoices', '2024-06-19', 'GET', '/tax/invoices/2024-06-19/invoices', 1, 1, true, 'repeat', false, 'No plan is published.'),
    ('getInvoice', 'invoices', '2024-06-19', 'GET', '/tax/invoices/2024-06-19/invoices/{invoiceId}', 1, 1, true, 'repeat', false, 'No plan is published.');

-- Application Management.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('rotateApplicationClientSecret', 'applications', '2023-11-30', 'POST', '/applications/2023-11-30/clientSecret', 0.0167, 1, false, 'look_up', false, 'The new secret arrives in the queue registered for the application, not in the answer; see rotate_client_secret.');

-- External Fulfillment: returns.
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
values
    ('listReturns', 'external_fulfillment', '2024-09-11', 'GET', '/externalFulfillment/2024-09-11/returns', 10, 20, true, 'repeat', false, 'Sellers of the External Fulfillment programme only.'),
    ('getReturn', 'external_fulfillment', '2024-09-11', 'GET', '/externalFulfillment/2024-09-11/returns/{returnId}', 10, 20, true, 'repeat', false, 'Sellers of the External Fulfillment programme only.');

-- Previews: to Amazon the same operation with another mode, to us one that reads.
insert into amzmp.operation (name, api, version, method, path, fixed_params, shares_plan_of, rate, burst, app_class, app_rate,
    app_burst, reads, after_lost_answer, wrapped, note)
select p.preview, o.api, o.version, o.method, o.path, '{"mode": "VALIDATION_PREVIEW"}', o.name, o.rate, o.burst,
    'previewListingsItem', 20, 20, true, 'repeat', o.wrapped, 'Checks the body and changes nothing.'
from (
    values
        ('putListingsItem', 'previewPutListingsItem'),
        ('patchListingsItem', 'previewPatchListingsItem')
) as p (name, preview)
join amzmp.operation as o using (name);

-- Buckets that all accounts of an application share.
update amzmp.operation as o
set app_class = o.name, app_rate = a.rate, app_burst = a.rate
from (
    values
        ('getListingsItem', 100),
        ('putListingsItem', 100),
        ('deleteListingsItem', 100),
        ('patchListingsItem', 500),
        ('getListingsRestrictions', 100),
        ('searchDefinitionsProductTypes', 100),
        ('getDefinitionsProductType', 100),
        ('getCatalogItem', 250),
        ('searchCatalogItems', 500)
) as a (name, rate)
where o.name = a.name;

-- Called for the application itself.
update amzmp.operation
set grantless = true,
    grantless_scope = case api
        when 'applications' then 'sellingpartnerapi::client_credential:rotation'
        else 'sellingpartnerapi::notifications'
    end
where name in ('rotateApplicationClientSecret', 'getSubscriptionById', 'deleteSubscriptionById', 'sendTestNotification',
    'getDestinations', 'createDestination', 'getDestination', 'deleteDestination');

-- Needs a restricted data token.
update amzmp.operation
set restricted = true
where api = 'orders' and version = 'v0' and method = 'GET';

-- Answers with buyers' data are opened by a process that may take its time, and that holds the key.
update amzmp.operation
set personal = true, apply_in = 'runner'
where (api = 'orders' and method = 'GET')
    or api = 'external_fulfillment'
    or name in ('GetAttributes', 'getInvoices', 'getInvoice', 'getInvoicesDocument', 'getGovernmentInvoiceDocument');

-- Answers without buyers' data that are too large for the sender.
update amzmp.operation
set apply_in = 'runner'
where name = 'listTransactions';

-- Tokens, links that are keys, and the change of a secret.
update amzmp.operation
set secret = true
where name in ('createRestrictedDataToken', 'createFeedDocument', 'getFeedDocument', 'getReportDocument',
    'createUploadDestinationForResource', 'getInvoicesDocument', 'getGovernmentInvoiceDocument',
    'rotateApplicationClientSecret');

-- Types of feeds: how often they may be submitted, and who makes and understands them (doc/architecture.md, "Feeds").
-- Where a type has a plan of its own, a submission takes a token from the account's bucket of that type, and from
-- createFeed's only if the type's plan does not replace it. The functions are named by the file that has them.
create table amzmp.feed_type (
    name text primary key,
    rate numeric,
    burst numeric,
    replaces_operation_plan boolean not null default false,
    content_type text not null,
    personal boolean not null default false,
    sent_once boolean not null default false,
    pause interval,
    build_function text,
    result_function text,
    end_function text,
    note text,
    constraint feed_type_name_check check (length(name) between 1 and 36),
    constraint feed_type_rate_check check (rate > 0 and burst >= 1 and num_nulls(rate, burst) in (0, 2)),
    constraint feed_type_replaces_check check (rate is not null or not replaces_operation_plan)
);

comment on table amzmp.feed_type is 'Types of feeds, with their usage plans.';
comment on column amzmp.feed_type.name is 'Amazon''s name of the feed type.';
comment on column amzmp.feed_type.rate is 'Submissions a second, for one account; null where the type has no plan of its own.';
comment on column amzmp.feed_type.burst is 'Most submissions at once.';
comment on column amzmp.feed_type.replaces_operation_plan is 'Does its plan take the place of createFeed''s, or come on top of it?';
comment on column amzmp.feed_type.content_type is 'What its documents are.';
comment on column amzmp.feed_type.personal is 'Do its documents hold buyers'' data? They are sealed then.';
comment on column amzmp.feed_type.sent_once is 'Would it do harm to send one twice? Then one whose creation was not answered, and which Amazon does not show, counts as stuck, and a person decides.';
comment on column amzmp.feed_type.pause is 'Shortest time from one feed of a channel to the next, which also waits for the end of the one before; null: none.';
comment on column amzmp.feed_type.build_function is 'The inner function that writes the document; null where amzmp makes no such feeds.';
comment on column amzmp.feed_type.result_function is 'The inner function that applies Amazon''s report.';
comment on column amzmp.feed_type.end_function is 'The inner function that is told of a feed that ended without a report; null: nobody needs to know.';
comment on column amzmp.feed_type.note is 'What else to know about it.';

insert into amzmp.feed_type (name, rate, burst, replaces_operation_plan, content_type, personal, pause, note)
values
    ('JSON_LISTINGS_FEED', 0.0166, 5, true, 'application/json; charset=UTF-8', false, null,
        '5 submissions in 5 minutes, of up to 25,000 messages each, one marketplace a feed.'),
    ('UPLOAD_VAT_INVOICE', 0.3333, 1, false, 'application/pdf', true, null, 'One invoice a feed, about one in 3 seconds.'),
    ('POST_ORDER_ACKNOWLEDGEMENT_DATA', null, null, false, 'text/xml; charset=UTF-8', false, '20 minutes',
        'Takes orders, or cancels them.'),
    ('POST_ORDER_FULFILLMENT_DATA', null, null, false, 'text/xml; charset=UTF-8', false, '20 minutes', 'Shipments in bulk.'),
    ('POST_PAYMENT_ADJUSTMENT_DATA', null, null, false, 'text/xml; charset=UTF-8', false, '20 minutes',
        'Refunds. Sent twice it refunds twice.');
