// client.mjs: Amazon's client, pointed at the simulator.
import assert from 'node:assert/strict'
import { misfits } from './model.mjs'

export const base = process.env.AMZMP_SIMULATOR_URL
export const market = 'A1PA6795UKMFR9'

// The client's own way to a token has Amazon's address built in, so the token is fetched here.
export async function token (grant) {
  const form = new URLSearchParams({
    client_id: 'amzn1.application-oa2-client.demo', client_secret: 'amzn1.oa2-cs.v1.demo', ...grant
  })
  const answer = await fetch(`${base}/auth/o2/token`, { method: 'POST', body: form })
  assert.equal(answer.status, 200)
  return (await answer.json()).access_token
}

export const sellerToken = () => token({ grant_type: 'refresh_token', refresh_token: 'Atzr|demo' })

// One of an API's classes, ready to call. The client's own rate limiter would only wait.
export function connect (api, name, accessToken) {
  const client = new api.ApiClient(base)
  client.applyXAmzAccessTokenToRequest(accessToken)
  client.disableRateLimiter()
  return new api[name](client)
}

// Call an operation and hand back its answer, which must fit the class that the client reads it into. What has no
// members is handed over as text or not at all.
export async function call (api, operation, ...parameters) {
  const { data, response } = await api[`${operation}WithHttpInfo`](...parameters)
  if (data === null || typeof data === 'string') assert.match(response.text, /^({})?$/, operation)
  else assert.deepEqual(misfits(data.constructor, response.body), [], operation)
  return data
}

// Call an operation that Amazon refuses: the status, and errors of the published form.
export async function refused (api, ErrorList, operation, status, ...parameters) {
  const error = await api[operation](...parameters).then(() => assert.fail(`${operation} was not refused`), e => e)
  assert.equal(error.status, status)
  assert.deepEqual(misfits(ErrorList, error.response.body), [], operation)
}

// The simulator's control endpoint.
export async function control (method, path, body) {
  const answer = await fetch(`${base}/_control/${path}`, { method, body: body && JSON.stringify(body) })
  assert.ok(answer.ok, `${path}: ${answer.status}`)
  return answer.json()
}

// Virtual time moves when it is told to; what is awaited is there after a few seconds of it.
export const later = seconds => control('POST', 'clock', { advance: seconds })
