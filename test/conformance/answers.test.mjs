// answers.test.mjs: Amazon's client works through the operations that amzmp uses, against the simulator.
import test from 'node:test'
import assert from 'node:assert/strict'
import { gunzipSync } from 'node:zlib'
import * as amazon from '@amazon-sp-api-release/amazon-sp-api-sdk-js'
import { call, connect, control, later, market, refused, sellerToken, token } from './client.mjs'

const seller = 'A1DEMOSELLER'
const accessToken = await sellerToken()
const api = (part, name) => connect(amazon[part], name, accessToken)

const offer = ({ asin, price, quantity }) => ({
  productType: 'PRODUCT',
  requirements: 'LISTING_OFFER_ONLY',
  attributes: {
    condition_type: [{ value: 'new_new', marketplace_id: market }],
    merchant_suggested_asin: [{ value: asin, marketplace_id: market }],
    purchasable_offer: [{ marketplace_id: market, currency: 'EUR', audience: 'ALL', our_price: [{ schedule: [{ value_with_tax: price }] }] }],
    fulfillment_availability: [{ fulfillment_channel_code: 'DEFAULT', quantity }]
  }
})

// Documents are fetched and sent without a token, as their addresses say.
async function download (document) {
  const answer = await fetch(document.url)
  assert.equal(answer.status, 200)
  const bytes = Buffer.from(await answer.arrayBuffer())
  return document.compressionAlgorithm === 'GZIP' ? gunzipSync(bytes) : bytes
}

// A feed or report, when Amazon has finished with it.
async function finished (api, operation, id) {
  for (let tries = 0; tries < 10; tries++) {
    await later(10)
    const job = await call(api, operation, id)
    if (!['IN_QUEUE', 'IN_PROGRESS'].includes(job.processingStatus)) return job
  }
  assert.fail(`${operation} ${id} does not end`)
}

test('participations', async () => {
  const sellers = api('SellersSpApi', 'SellersApi')
  const answer = await call(sellers, 'getMarketplaceParticipations')
  assert.ok(answer.payload.some(p => p.marketplace.id === market && p.participation.isParticipating))
})

test('catalogue', async () => {
  const catalog = api('CatalogitemsSpApi', 'CatalogApi')
  const everything = ['summaries', 'identifiers', 'images', 'productTypes', 'salesRanks']
  const [known] = (await control('GET', 'catalog/eans?count=1')).eans
  const byEan = await call(catalog, 'searchCatalogItems', [market], { identifiers: [known.ean], identifiersType: 'EAN', includedData: everything })
  assert.equal(byEan.items[0].asin, known.asins[0])
  const byKeyword = await call(catalog, 'searchCatalogItems', [market], { keywords: [byEan.items[0].summaries[0].itemName], pageSize: 5, includedData: everything })
  assert.ok(byKeyword.numberOfResults > 0)
  const item = await call(catalog, 'getCatalogItem', known.asins[0], [market], { includedData: everything })
  assert.equal(item.asin, known.asins[0])
  await refused(catalog, amazon.CatalogitemsSpApi.ErrorList, 'getCatalogItem', 404, 'BZZZZZZZZZ', [market])
})

test('listings', async () => {
  const listings = api('ListingsitemsSpApi', 'ListingsApi')
  const { ErrorList } = amazon.ListingsitemsSpApi
  const [known] = (await control('GET', 'catalog/eans?count=1&from=100')).eans
  const includedData = ['summaries', 'attributes', 'issues', 'offers', 'fulfillmentAvailability', 'procurement', 'relationships', 'productTypes']

  const put = await call(listings, 'putListingsItem', seller, 'SDK-1', [market], offer({ asin: known.asins[0], price: 19.9, quantity: 5 }), {})
  assert.equal(put.status, 'ACCEPTED')
  await later(30)
  const item = await call(listings, 'getListingsItem', seller, 'SDK-1', [market], { includedData })
  assert.deepEqual([...item.summaries[0].status].sort(), ['BUYABLE', 'DISCOVERABLE'])
  assert.equal(item.offers[0].price.amount, '19.90')

  const patch = await call(listings, 'patchListingsItem', seller, 'SDK-1', [market], {
    productType: 'PRODUCT',
    patches: [{ op: 'merge', path: '/attributes/fulfillment_availability', value: [{ fulfillment_channel_code: 'DEFAULT', quantity: 7 }] }]
  }, {})
  assert.equal(patch.status, 'ACCEPTED')
  await later(30)
  const found = await call(listings, 'searchListingsItems', seller, [market], { identifiers: ['SDK-1'], identifiersType: 'SKU', includedData, pageSize: 20 })
  assert.equal(found.items[0].fulfillmentAvailability[0].quantity, 7)

  const rejected = await call(listings, 'putListingsItem', seller, 'SDK-2-REJECT', [market], offer({ asin: known.asins[0], price: 5, quantity: 1 }), {})
  assert.equal(rejected.status, 'ACCEPTED')
  await later(30)
  const bad = await call(listings, 'getListingsItem', seller, 'SDK-2-REJECT', [market], { includedData })
  assert.equal(bad.issues[0].severity, 'ERROR')

  const invalid = await call(listings, 'patchListingsItem', seller, 'SDK-1', [market], {
    productType: 'PRODUCT',
    patches: [{ op: 'merge', path: '/attributes/fulfillment_availability', value: [{ fulfillment_channel_code: 'DEFAULT', quantity: 'many' }] }]
  }, {})
  assert.equal(invalid.status, 'INVALID')
  const preview = await call(listings, 'putListingsItem', seller, 'SDK-3', [market], offer({ asin: known.asins[0], price: 5, quantity: 1 }), { mode: 'VALIDATION_PREVIEW' })
  assert.equal(preview.status, 'VALID')

  const gone = await call(listings, 'deleteListingsItem', seller, 'SDK-1', [market], {})
  assert.equal(gone.status, 'ACCEPTED')
  await refused(listings, ErrorList, 'getListingsItem', 404, seller, 'SDK-never', [market], {})
})

test('orders', async () => {
  const search = api('Orders_v2026SpApi', 'SearchOrdersApi')
  const one = api('Orders_v2026SpApi', 'GetOrderApi')
  const shipment = api('OrdersSpApi', 'OrdersV0Api')
  const includedData = ['BUYER', 'RECIPIENT', 'PROCEEDS', 'EXPENSE', 'PROMOTION', 'CANCELLATION', 'FULFILLMENT', 'PACKAGES']
  const since = new Date((await control('GET', 'clock')).now)

  await control('POST', 'orders', { marketplace: 'DE', count: 3, items: [{ sku: 'SDK-ORDER', quantity: 2, price: 10.5, asin: 'B00000000A' }] })
  await control('POST', 'orders', { marketplace: 'DE', status: 'PENDING', items: [{ sku: 'SDK-ORDER', quantity: 1 }] })
  await control('POST', 'orders', { marketplace: 'DE', status: 'CANCELLED', items: [{ sku: 'SDK-ORDER', quantity: 1 }] })
  await later(130)
  const opts = { lastUpdatedAfter: since.toISOString(), marketplaceIds: [market], maxResultsPerPage: 2, includedData }
  const orders = []
  for (let page = await call(search, 'searchOrders', opts); ; page = await call(search, 'searchOrders', { ...opts, paginationToken: page.pagination.nextToken })) {
    orders.push(...page.orders)
    if (!page.pagination?.nextToken) break
  }
  const mine = orders.filter(o => o.orderItems.some(i => i.product.sellerSku === 'SDK-ORDER'))
  assert.equal(mine.length, 5)
  assert.deepEqual(mine.map(o => o.fulfillment.fulfillmentStatus).sort(), ['CANCELLED', 'PENDING', 'UNSHIPPED', 'UNSHIPPED', 'UNSHIPPED'])

  const order = mine.find(o => o.fulfillment.fulfillmentStatus === 'UNSHIPPED')
  const { order: whole } = await call(one, 'getOrder', order.orderId, { includedData })
  assert.equal(whole.orderItems[0].quantityOrdered, 2)

  const confirmation = {
    marketplaceId: market,
    packageDetail: {
      packageReferenceId: '1',
      carrierCode: 'DHL',
      trackingNumber: '00340434292135100186',
      shipDate: new Date((await control('GET', 'clock')).now).toISOString(),
      orderItems: whole.orderItems.map(i => ({ orderItemId: i.orderItemId, quantity: i.quantityOrdered }))
    }
  }
  await call(shipment, 'confirmShipment', order.orderId, confirmation)
  await later(30)
  const { order: shipped } = await call(one, 'getOrder', order.orderId, { includedData })
  assert.equal(shipped.fulfillment.fulfillmentStatus, 'SHIPPED')
  await refused(one, amazon.Orders_v2026SpApi.ErrorList, 'getOrder', 404, '111-1111111-1111111', {})
  await refused(shipment, amazon.OrdersSpApi.ConfirmShipmentErrorResponse, 'confirmShipment', 404, '111-1111111-1111111', confirmation)
})

test('feeds', async () => {
  const feeds = api('FeedsSpApi', 'FeedsApi')
  const contentType = 'application/json; charset=UTF-8'
  const document = await call(feeds, 'createFeedDocument', { contentType })
  const content = {
    header: { sellerId: seller, version: '2.0', issueLocale: 'en_US' },
    messages: [{
      messageId: 1,
      sku: 'SDK-FEED',
      operationType: 'PATCH',
      productType: 'PRODUCT',
      patches: [{ op: 'replace', path: '/attributes/fulfillment_availability', value: [{ fulfillment_channel_code: 'DEFAULT', quantity: 3 }] }]
    }]
  }
  const upload = await fetch(document.url, { method: 'PUT', headers: { 'content-type': contentType }, body: JSON.stringify(content) })
  assert.equal(upload.status, 200)
  const { feedId } = await call(feeds, 'createFeed', { feedType: 'JSON_LISTINGS_FEED', marketplaceIds: [market], inputFeedDocumentId: document.feedDocumentId })
  assert.equal((await call(feeds, 'getFeed', feedId)).processingStatus, 'IN_QUEUE')
  const feed = await finished(feeds, 'getFeed', feedId)
  assert.equal(feed.processingStatus, 'DONE')
  const report = JSON.parse(await download(await call(feeds, 'getFeedDocument', feed.resultFeedDocumentId)))
  assert.equal(report.summary.messagesProcessed, 1)
  const listed = await call(feeds, 'getFeeds', { feedTypes: ['JSON_LISTINGS_FEED'] })
  assert.ok(listed.feeds.some(f => f.feedId === feedId))
  await refused(feeds, amazon.FeedsSpApi.ErrorList, 'getFeed', 404, '99999999999')
})

test('reports', async () => {
  const reports = api('ReportsSpApi', 'ReportsApi')
  const reportType = 'GET_MERCHANT_LISTINGS_ALL_DATA'
  const { reportId } = await call(reports, 'createReport', { reportType, marketplaceIds: [market] })
  const report = await finished(reports, 'getReport', reportId)
  assert.equal(report.processingStatus, 'DONE')
  const text = (await download(await call(reports, 'getReportDocument', report.reportDocumentId))).toString('latin1')
  assert.match(text.split('\n')[0], /seller-sku/)
  assert.ok((await call(reports, 'getReports', { reportTypes: [reportType] })).reports.some(r => r.reportId === reportId))
  const cancelled = await call(reports, 'createReport', { reportType, marketplaceIds: [market] })
  await call(reports, 'cancelReport', cancelled.reportId)
  await refused(reports, amazon.ReportsSpApi.ErrorList, 'getReport', 404, '99999999999')
})

test('notifications', async () => {
  const grantless = await token({ grant_type: 'client_credentials', scope: 'sellingpartnerapi::notifications' })
  const application = connect(amazon.NotificationsSpApi, 'NotificationsApi', grantless)
  const account = api('NotificationsSpApi', 'NotificationsApi')
  const { payload: destination } = await call(application, 'createDestination', { name: 'sdk', resourceSpecification: { sqs: { arn: 'arn:aws:sqs:eu-west-1:123456789012:sdk' } } })
  assert.ok((await call(application, 'getDestinations')).payload.some(d => d.destinationId === destination.destinationId))
  const { payload: made } = await call(account, 'createSubscription', 'ORDER_CHANGE', { payloadVersion: '1.0', destinationId: destination.destinationId })
  assert.equal((await call(account, 'getSubscription', 'ORDER_CHANGE', {})).payload.subscriptionId, made.subscriptionId)
  assert.equal((await call(application, 'getSubscriptionById', made.subscriptionId, 'ORDER_CHANGE')).payload.subscriptionId, made.subscriptionId)
  await call(application, 'deleteSubscriptionById', made.subscriptionId, 'ORDER_CHANGE')
  await call(application, 'deleteDestination', destination.destinationId)
})

test('restricted tokens', async () => {
  const tokens = api('TokensSpApi', 'TokensApi')
  const answer = await call(tokens, 'createRestrictedDataToken', { restrictedResources: [{ method: 'GET', path: '/orders/v0/orders/111-1111111-1111111/address' }] })
  assert.ok(answer.expiresIn > 0)
})
