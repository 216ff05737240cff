-- Requests as they go out, and what answers mean. No network: the functions of C are looked at directly.

-- paths: every segment is encoded once, whatever it holds; slashes stay in the resource of an upload alone
select r.url from unnest(array['plain', 'a/b', 'a b', '100%', 'a+b', 'a#b?c&d', 'Größe', '日本', '-._~', '%2F', '...', 'a.', ' ']) with ordinality as s (sku, n),
    amzmp._spapi_request('GET', '/listings/2021-08-01/items/{sellerId}/{sku}', jsonb_build_object('sellerId', 'A1', 'sku', s.sku), null) r order by s.n;
select url from amzmp._spapi_request('POST', '/uploads/2020-11-01/uploadDestinations/{resource}',
    '{"resource": "messaging/v1/orders/1-2 3/messages/invoice", "contentMD5": "a+b/c=="}', null);
select url from amzmp._spapi_request('GET', '/x/{a}/y/{b}', '{"a": 12, "b": 1.50}', null);

-- what has no place in a path
select amzmp._spapi_request('GET', '/x/{sku}', '{}', null);
select amzmp._spapi_request('GET', '/x/{sku}', null, null);
select amzmp._spapi_request('GET', '/x/{sku}', '{"sku": null}', null);
select amzmp._spapi_request('GET', '/x/{sku}', '{"sku": ""}', null);
select amzmp._spapi_request('GET', '/x/{sku}', '{"sku": "."}', null);
select amzmp._spapi_request('GET', '/x/{sku}', '{"sku": ".."}', null);
select amzmp._spapi_request('GET', '/x/{sku}', '{"sku": ["a"]}', null);
select amzmp._spapi_request('GET', '/uploads/{resource}', '{"resource": "a/../b"}', null);
select amzmp._spapi_request('GET', '/x', '["a"]', null);

-- the query: arrays joined by commas, absent members left out, no parameter twice
select url from amzmp._spapi_request('GET', '/x/{id}', '{"id": 1, "a": ["p", "q,r", "s t"], "b": true, "c": false, "d": 10.50, "e": null, "f": [], "g": "", "ü": "&="}', null);
select url from amzmp._spapi_request('GET', '/x', null, null);
select amzmp._spapi_request('GET', '/x', '{"a": {"b": 1}}', null);
select amzmp._spapi_request('GET', '/x', '{"a": [1, null]}', null);
select amzmp._spapi_request('GET', '/x', '{"a": [1, [2]]}', null);

-- headers; a body brings its type; parameters that Amazon wants as headers cannot bring another header along
select array_length(headers, 1), headers[1] ~ '^user-agent: amzmp/[0-9.]+ \(Language=C; Platform=PostgreSQL/[0-9]+\)$' as agent, headers[2:], body
    from amzmp._spapi_request('GET', '/x', null, null);
select headers[2:], body from amzmp._spapi_request('PATCH', '/x', '{}', '{"größe": 1}');
select url, headers[2:] from amzmp._spapi_request('POST', '/x', '{"x-amzn-idempotency-token": "k1", "a": 1}', null);
select amzmp._spapi_request('POST', '/x', '{"x-amzn-idempotency-token": "k1\r\nx-amz-access-token: other"}', null);
select amzmp._spapi_request('POST', '/x', '{"x-amzn-a\r\nb": "1"}', null);

-- verdicts by status
select s.status, j.verdict, j.code from unnest(array[200, 202, 204, 301, 400, 401, 403, 404, 408, 413, 415, 429, 500, 502, 503, 504]) s (status),
    amzmp._spapi_judge('ok', s.status, '{}', '') j order by s.status;
select f.fault, j.verdict, j.code from unnest(array['not_sent', 'answer_lost', 'too_large', 'cancelled']) f (fault),
    amzmp._spapi_judge(f.fault, 0, '{}', '') j order by f.fault;

-- a 403 that blames the token is worth a new one, another is not
select j.verdict, j.code, j.message, j.details, j.request_id from (values
    ('The access token you provided has expired.'), ('The access token you provided is revoked, malformed or invalid.'), ('')) d (details),
    amzmp._spapi_judge('ok', 403, '{x-amzn-requestid: 1b2c}',
        convert_to(format('{"errors":[{"code":"Unauthorized","message":"Access to requested resource is denied.","details":"%s"}]}', d.details), 'UTF8')) j
    order by d.details;

-- error bodies of all three kinds, and of none
select verdict, code, message from amzmp._spapi_judge('ok', 400, '{}', '{"errors":[{"code":"InvalidInput","message":"a"},{"code":"Other"}]}');
select verdict, code, message from amzmp._spapi_judge('ok', 400, '{}', '{"error":"invalid_grant","error_description":"b"}');
select verdict, code, message from amzmp._spapi_judge('ok', 400, '{}', '{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"c"}');
select verdict, code, message from amzmp._spapi_judge('ok', 503, '{}', '<html>Jane Doe, 1 Main Street</html>');
select verdict, code, message from amzmp._spapi_judge('ok', 400, '{}', '{"errors":[]}');
select verdict, code, message from amzmp._spapi_judge('ok', 400, '{}', '{"errors":[{"code":1,"message":null}]}');

-- long texts are cut between characters, control characters go
select length(code), length(message), octet_length(message), right(message, 2), details from amzmp._spapi_judge('ok', 400, '{}',
    convert_to(format('{"errors":[{"code":"%s","message":"x%s","details":"a\nb\tc"}]}', repeat('c', 200), repeat('ü', 400)), 'UTF8'));

-- bodies: JSON that jsonb takes, or a reason; no throw whatever arrives
select n, answer is not null as readable, answer_error from (values
    (1, '{"a": [1, "ü"]}'::text::bytea), (2, ''), (3, '{"a": 1'), (4, '\x7b2261223a22ff227d'), (5, '{"a": "\\u0000"}'),
    (6, '\x7b2261223a220022 7d'), (7, '{"a": 1e400}'), (8, convert_to(repeat('[', 100000), 'UTF8')), (9, '"text"'), (10, '{} {}'),
    (11, '{"a": 1e1000}'), (12, '{"a": -1.5E-999}'), (13, convert_to(repeat('9', 1000), 'UTF8')), (14, convert_to(repeat('9', 1001), 'UTF8')),
    (15, '{"a": "\\ud83d"}'), (16, '{"a": "\\ude00\\ud83d"}'), (17, '{"a": "\\ud83d\\ude00 \\"\\/\\n"}'), (18, '{"\\u0000": 1}'), (19, '{"a": "\\x"}'),
    (20, convert_to(repeat('[', 1024) || repeat(']', 1024), 'UTF8')), (21, convert_to(repeat('{"a":', 1025) || 1 || repeat('}', 1025), 'UTF8')),
    (22, '[1,]'), (23, '{"a" 1}'), (24, '{"a": 1]'), (25, 'nul'), (26, ' '), (27, '{1: 2}'), (28, '01'), (29, '\xefbbbf7b7d')) b (n, body),
    amzmp._spapi_judge('ok', 200, '{}', b.body) order by n;
-- what passes is taken by jsonb
select count(answer::jsonb), max(length(answer)) from (values (convert_to(repeat('[', 1024) || repeat(']', 1024), 'UTF8')),
    ('[-1.5E-999, 9e999, "\\ud83d\\ude00"]'), (convert_to(repeat('9', 1000), 'UTF8')), (convert_to('0.' || repeat('9', 994) || 'e999', 'UTF8')),
    (convert_to('0.' || repeat('9', 993) || 'e-999', 'UTF8'))) b (body), amzmp._spapi_judge('ok', 200, '{}', b.body);

-- the token of the next page, there and nowhere else
select n, next_token from (values
    (1, '{"orders": [], "pagination": {"nextToken": "abc"}}'::text), (2, '{"pagination": {"next": 1, "nextToken": "a\"\\\/\u00fc\ud83d\ude00"}}'),
    (3, '{"p\u0061gination": {"next\u0054oken": "spelt otherwise"}}'), (4, '{"nextToken": "outside"}'),
    (5, '{"payload": {"pagination": {"nextToken": "too deep"}}}'), (6, '[{"pagination": {"nextToken": "in an array"}}]'),
    (7, '{"pagination": [{"nextToken": "in another"}]}'), (8, '{"pagination": {"a": {"nextToken": "deeper"}}}'),
    (9, '{"pagination": {"nextToken": ["of another kind"]}}'), (10, '{"pagination": {"nextToken": 5}}'), (11, '{"pagination": {"nextToken": null}}'),
    (12, '{"pagination": {"nextToken": ""}}'), (13, '{"pagination": "nextToken"}'), (14, '{"orders": [{"pagination": 1, "nextToken": "an order"}]}'),
    (15, '{"pagination": {"nextToken": "of no JSON"}'), (16, '"nextToken"')) b (n, body),
    amzmp._spapi_judge('ok', 200, '{}', convert_to(b.body, 'UTF8')) order by n;

-- the rate that Amazon names
select h, rate from unnest(array['0.5', '5.0', '0', '-1', 'nan', 'inf', '1e9', '5 ', 'five', '']) with ordinality u (h, n),
    amzmp._spapi_judge('ok', 200, array['x-amzn-ratelimit-limit: ' || h], '') order by n;

-- retries: doubling, jitter over the whole range, a cap that follows slow operations, never at once
select a, amzmp._spapi_backoff(a, 5, 1) as fast, amzmp._spapi_backoff(a, 0.0056, 1) as slow, amzmp._spapi_backoff(a, 5, 0) as least, amzmp._spapi_backoff(a, 0, 0.5) as half
    from unnest(array[-1, 0, 1, 2, 3, 7, 9, 40]) a order by a;

-- tokens
select verdict, access_token, expires_in, refresh_token from amzmp._lwa_judge('ok', 200, '{}', '{"access_token":"Atza|a","token_type":"bearer","expires_in":3600,"refresh_token":"Atzr|r"}');
select verdict, access_token, expires_in, refresh_token from amzmp._lwa_judge('ok', 200, '{}', '{"access_token":"Atza|a"}');
select j.verdict, j.code, j.access_token from (values (1, '{}'), (2, 'oops'), (3, '{"access_token":""}'), (4, '{"access_token":"a b"}'), (5, '{"access_token":"a\nx-other: 1"}'),
    (6, format('{"access_token":"%s"}', repeat('a', 2049))), (7, '{"access_token":"a","expires_in":0}'), (8, '{"access_token":7}')) b (n, body),
    amzmp._lwa_judge('ok', 200, '{}', convert_to(b.body, 'UTF8')) j order by n;
select verdict, length(access_token) from amzmp._lwa_judge('ok', 200, '{}', convert_to(format('{"access_token":"%s"}', repeat('a', 2048)), 'UTF8'));
select j.verdict, j.code from (values (400, 'invalid_grant'), (401, 'invalid_client'), (400, 'unauthorized_client'), (500, 'server_error'), (400, 'server_error'),
    (503, 'temporarily_unavailable'), (429, 'slow_down')) e (status, error),
    amzmp._lwa_judge('ok', e.status, '{}', convert_to(format('{"error":"%s"}', e.error), 'UTF8')) j order by e.error, e.status;
