// requests.test.mjs: what amzmp sent while a small shop worked (run.sh), as the simulator recorded it.
import test from 'node:test'
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import * as amazon from '@amazon-sp-api-release/amazon-sp-api-sdk-js'
import { control } from './client.mjs'
import { misfits } from './model.mjs'

const { requests } = JSON.parse(readFileSync(process.env.AMZMP_REQUESTS))

const bodies = {
  putListingsItem: amazon.ListingsitemsSpApi.ListingsItemPutRequest,
  patchListingsItem: amazon.ListingsitemsSpApi.ListingsItemPatchRequest,
  confirmShipment: amazon.OrdersSpApi.ConfirmShipmentRequest
}

for (const [operation, Class] of Object.entries(bodies)) {
  test(`bodies of ${operation}`, () => {
    const sent = requests.filter(r => r.operation === operation)
    assert.notEqual(sent.length, 0, 'none was sent')
    for (const { body } of sent) assert.deepEqual(misfits(Class, typeof body === 'string' ? JSON.parse(body) : body), [])
  })
}

test('operations without a body send none', () => {
  for (const { operation, method, body } of requests) {
    if (['GET', 'DELETE'].includes(method)) assert.ok(!body, operation)
  }
})

test('the simulator found nothing to object to', async () => {
  const { count, last } = await control('GET', 'violations')
  assert.equal(count, 0, JSON.stringify(last))
})

test('a body that does not fit is told', () => {
  const patch = { op: 'merge', path: '/attributes/purchasable_offer', value: [{}] }
  const Class = bodies.patchListingsItem
  assert.deepEqual(misfits(Class, { productType: 'PRODUCT', patches: [patch] }), [])
  assert.match(misfits(Class, { patches: [patch] })[0], /needs productType/)
  assert.match(misfits(Class, { productType: 'PRODUCT', patches: [patch], extra: 1 })[0], /has no extra/)
  assert.match(misfits(Class, { productType: 7, patches: [patch] })[0], /should be a string/)
  assert.match(misfits(Class, { productType: 'PRODUCT', patches: [{ ...patch, op: 'move' }] })[0], /is none of/)
})
