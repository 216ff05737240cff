-- listing_publish.sql
-- The life of an offer: looked for, matched, put, judged, read again, taken off.

begin;
\ir listing_setup.psql

select shop('MUG', 10, 5, '4006381333931'), shop('HAT', 20, 4, '0036000291452'), shop('CUP', 5, 6, '96385074'),
    shop('BAD', 5, 6, '4006381333932'), shop('BARE', 5, 6), shop('FREE', null, 6, '9780306406157'), shop('PEN', 1, 3, '9780804429573') \g /dev/null
select is((select count(*) from amzmp.listing), 0::bigint, 'nothing is offered because it exists');

/* ---- what cannot be published ---- */

select throws_ok(format('select amzmp.publish(%s)', c.arguments), c.state, c.message, c.what)
from (
    values ('''NOWHERE'', ''{MUG}''', 'AZ201', null, 'a channel that does not exist'),
        ('''DE'', ''{MUG,NOPE}''', 'AZ202', 'no product with SKU ''NOPE''', 'a product that does not exist'),
        ('''DE'', ''{}''', 'AZ202', 'no SKUs to publish: an empty array', 'nothing at all'),
        ('''DE'', array[''MUG''], array[''B000000001'', ''B000000002'']', 'AZ202', '2 ASINs for 1 SKUs', 'lists that do not fit together'),
        ('''DE'', ''MUG'', ''B0-NO''', 'AZ202', 'not an ASIN: ''B0-NO''', 'what is no ASIN'),
        (quote_literal('DE') || ', array[repeat(''x'', 41)]', 'AZ202', null, 'a SKU too long for Amazon'),
        (quote_literal('DE') || ', array['' MUG'']', 'AZ202', 'Amazon takes no such SKU: '' MUG''', 'a SKU with blanks around it')
) as c (arguments, state, message, what);
update amzmp.channel set active = false where channel_id = :fr;
select throws_ok('select amzmp.publish(''FR'', ''{MUG}'')', 'AZ203', 'channel "FR" is not active', 'an inactive channel');
update amzmp.channel set active = true where channel_id = :fr;
select is((select count(*) from amzmp.listing), 0::bigint, 'none of that left anything behind');

/* ---- look first, then match ---- */

select is(amzmp.publish('DE', '{MUG,HAT,CUP,BAD,BARE,FREE,PEN}'), 7, 'seven are on their way');
select results_eq($$select params from claim('searchListingsItems')$$, $$values ('{"sellerId": "A1SELLER", "identifiers":
    ["BAD", "BARE", "CUP", "FREE", "HAT", "MUG", "PEN"], "identifiersType": "SKU", "pageSize": 20, "issueLocale": "de_DE",
    "marketplaceIds": ["A1PA6795UKMFR9"], "includedData": ["summaries", "issues", "offers", "fulfillmentAvailability"]}'::jsonb)$$,
    'Amazon is asked first what it has, about all at once');
select answer('searchListingsItems', 200, items(item('PEN', '["BUYABLE", "DISCOVERABLE"]', 'B0000PEN00', 3, 9))) \g /dev/null

select results_eq($$select sku, state, state_reason from amzmp.offer where state = 'rejected' order by sku$$,
    $$values ('BAD', 'rejected', 'check digit of ''4006381333932'' is 2, expected 1'),
             ('BARE', 'rejected', 'the product has neither an ASIN nor a barcode'),
             ('FREE', 'rejected', 'the shop gives no price')$$, 'what lacks something says what');
select shop('BARE', -5, 6) \g /dev/null
select is((select desired_price from amzmp.listing where sku = 'BARE'), null, 'what was never offered does not begin with an older price');
select shop('BARE', 5, 6) \g /dev/null
select results_eq($$select state, asin, observed_price, remote_price, observed_quantity, remote_quantity from amzmp.offer where sku = 'PEN'$$,
    $$values ('live', 'B0000PEN00', 3::numeric, 3::numeric, 9, 9)$$, 'what Amazon has already is adopted');
select results_eq($$select body -> 'patches' -> 0 -> 'op', jsonb_array_length(body -> 'patches') from claim('patchListingsItem')$$,
    $$values ('"merge"'::jsonb, 2)$$, 'and changed to what the shop wants, not made anew');
select accept('patchListingsItem') \g /dev/null

select results_eq($$select params from claim('searchCatalogItems')$$, $$values ('{"identifiers": ["0036000291452", "4006381333931", "96385074"],
    "identifiersType": "EAN", "marketplaceIds": ["A1PA6795UKMFR9"], "pageSize": 20,
    "includedData": ["identifiers", "images", "productTypes", "summaries"]}'::jsonb)$$, 'the others are looked for by barcode, also at once');
select answer('searchCatalogItems', 200, items(
    catalog_item('B0000MUG01', '4006381333931'), catalog_item('B0000MUGXX', '4006381333931', 'A family', 'VARIATION_PARENT'),
    catalog_item('B0000HAT01', '036000291452', 'Blue hat'), catalog_item('B0000HAT02', '0036000291452', 'Two red hats'))) \g /dev/null
select results_eq($$select sku, state, asin, state_reason from amzmp.offer where sku in ('MUG', 'HAT', 'CUP') order by sku$$,
    $$values ('CUP', 'rejected', null, 'no item in Amazon''s catalogue has barcode 96385074'),
             ('HAT', 'rejected', null, '2 items in Amazon''s catalogue have barcode 0036000291452: choose one of amzmp.match_candidate with publish(channel, sku, asin)'),
             ('MUG', 'queued', 'B0000MUG01', 'found in Amazon''s catalogue by its barcode')$$, 'one match is taken, none or several are told');
select results_eq($$select sku, asin, title, score from amzmp.match_candidate order by score desc$$,
    $$values ('HAT', 'B0000HAT01', 'Blue hat', 0.75), ('HAT', 'B0000HAT02', 'Two red hats', 0.50)$$, 'candidates are kept, the likelier first');
select is(due(), 'putListingsItem/MUG', 'only the match goes on');

/* ---- by title ---- */

savepoint titles;
select is(amzmp.find_candidates('DE', '{CUP,HAT}'), 2, 'the catalogue is searched by title on request');
select is(amzmp.find_candidates('DE', '{CUP}'), 0, 'once');
select results_eq($$select sku, params -> 'keywords' from claim('searchCatalogItems')$$,
    $$values ('CUP', '["Blue", "mug"]'::jsonb), ('HAT', '["Blue", "mug"]')$$, 'by the words of the shop''s title');
select answer('searchCatalogItems', 200, items(catalog_item('B0000MUG07', '4006381333931', 'Blue mug, large'),
    catalog_item('B0000HAT01', '036000291452', 'Blue hat'), catalog_item('B0000PAN01', '96385074', 'Frying pan'))) \g /dev/null
select results_eq($$select sku, asin, method, score from amzmp.match_candidate order by sku, score desc, asin$$,
    $$values ('CUP', 'B0000MUG07', 'title', 1.00), ('CUP', 'B0000HAT01', 'title', 0.50), ('HAT', 'B0000MUG07', 'title', 1.00),
        ('HAT', 'B0000HAT01', 'ean', 0.75), ('HAT', 'B0000HAT02', 'ean', 0.50)$$, 'what is found is kept beside what has the barcode');
select is(l.state, 'rejected', 'and nothing is chosen') from amzmp.listing as l where l.sku = 'CUP';
select amzmp.publish('DE', 'CUP', 'B0000MUG07') \g /dev/null
select is_empty($$select from amzmp.match_candidate where sku = 'CUP'$$, 'whoever chooses has no candidates any more');
rollback to titles;

/* ---- what the shop mends is tried again ---- */

savepoint mended;
select shop('BAD', 5, 6, '4006381333931'), shop('BARE', 5, 6, null, jsonb_populate_record(null::amzmp.product, '{"asin": "B0000BARE1"}')),
    shop('CUP', 6, 6, '96385074') \g /dev/null
select results_eq($$select sku, state, asin from amzmp.offer where sku in ('BAD', 'BARE', 'CUP') order by sku$$,
    $$values ('BAD', 'queued', null), ('BARE', 'queued', 'B0000BARE1'), ('CUP', 'rejected', null)$$,
    'a new barcode or ASIN is a new try, another price is none');
select is(l.ean, amzmp.normalize_gtin('4006381333931'), 'with the new barcode') from amzmp.listing as l where l.sku = 'BAD';
rollback to mended;

/* ---- put ---- */

select amzmp.set_rule('seller', '{"lead_time": 2}', 'MUG') \g /dev/null
select results_eq($$select params, body from claim('putListingsItem')$$,
    $$values ('{"sellerId": "A1SELLER", "sku": "MUG", "marketplaceIds": ["A1PA6795UKMFR9"], "issueLocale": "de_DE"}'::jsonb,
    '{"productType": "PRODUCT", "requirements": "LISTING_OFFER_ONLY", "attributes": {
        "merchant_suggested_asin": [{"marketplace_id": "A1PA6795UKMFR9", "value": "B0000MUG01"}],
        "condition_type": [{"marketplace_id": "A1PA6795UKMFR9", "value": "new_new"}],
        "fulfillment_availability": [{"fulfillment_channel_code": "DEFAULT", "quantity": 5, "lead_time_to_ship_max_days": 2}],
        "purchasable_offer": [{"marketplace_id": "A1PA6795UKMFR9", "currency": "EUR", "audience": "ALL",
            "our_price": [{"schedule": [{"value_with_tax": 10.00}]}]}]}}'::jsonb)$$, 'an offer on the catalogue item');
select is(o.state, 'sent', 'it is sent') from amzmp.offer as o where o.sku = 'MUG';
select shop('MUG', 11, 5, '4006381333931') \g /dev/null
select is(due(), '', 'a change meanwhile waits');
select accept('putListingsItem') \g /dev/null
select results_eq($$select state, remote_price, remote_quantity, price_differs
    from amzmp.listing join amzmp.inventory using (sku) where sku = 'MUG'$$,
    $$values ('pending', 10.00, 5, true)$$, 'Amazon accepted, the verdict is awaited');
select is(due(), 'patchListingsItem/MUG', 'and the change can go');
select count(*) from claim('patchListingsItem') \g /dev/null
select accept('patchListingsItem') \g /dev/null

/* ---- the verdict ---- */

select hurry() \g /dev/null
select is((select string_agg(q.sku, ',' order by q.sku) from claim('searchListingsItems') as c, amzmp._asked_skus(c.params) as q (sku)),
    'MUG', 'Amazon is asked for the verdict');
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select is(o.state, 'pending', 'a SKU that cannot be seen yet is no failure') from amzmp.offer as o where o.sku = 'MUG';
select hurry() \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, items(item('MUG', '[]', 'B0000MUG01', 11, 5, '[{"code": "5665", "message": "Brand needs approval.",
    "severity": "ERROR", "categories": ["QUALIFICATION_REQUIRED"], "marketplaceIds": ["A1PA6795UKMFR9"]},
    {"code": "18027", "message": "Elsewhere.", "severity": "ERROR", "categories": [], "marketplaceIds": ["A13V1IB3VIYZZH"]}]'))) \g /dev/null
select results_eq($$select state, state_reason, issues from amzmp.offer where sku = 'MUG'$$,
    $$values ('rejected', 'Brand needs approval. (5665)', 1::bigint)$$, 'a rejection says why, and nothing about other marketplaces');
select is_empty($$select sku from amzmp.stock_diff where sku = 'MUG' union all select sku from amzmp.price_diff where sku = 'MUG'$$,
    'nothing is to be sent for it');
select shop('MUG', 9, 5, '4006381333931') \g /dev/null
select results_eq($$select state, state_reason from amzmp.offer where sku = 'MUG'$$, $$values ('queued', 'changed in the shop, tried again')$$,
    'another price is another chance');
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, items(item('MUG', '[]', 'B0000MUG01', 11, 5))) \g /dev/null
select is((select body #>> '{attributes,purchasable_offer,0,our_price,0,schedule,0,value_with_tax}' from claim('putListingsItem')), '9.00',
    'it is put again');
select accept('putListingsItem') \g /dev/null
select hurry() \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, items(item('MUG', '["BUYABLE", "DISCOVERABLE"]', 'B0000MUG01', 9, 5, '[{"code": "18027",
    "message": "Text on the image.", "severity": "WARNING", "categories": ["INVALID_IMAGE"],
    "enforcements": {"actions": [{"action": "SEARCH_SUPPRESSED"}], "exemption": {"status": "NOT_EXEMPT"}}}]'))) \g /dev/null
select results_eq($$select o.state, o.offer_url, i.severity, i.enforcement
    from amzmp.offer o join amzmp.listing_issue i using (sku) where o.sku = 'MUG'$$,
    $$values ('live_with_issues', 'https://www.amazon.de/dp/B0000MUG01', 'WARNING', array['SEARCH_SUPPRESSED'])$$, 'live, with what Amazon minds');
select is_empty($$select * from amzmp.penalty where subject = 'MUG'$$, 'and forgiven');

/* ---- a person chooses ---- */

select amzmp.publish('DE', 'HAT', 'b0000hat01') \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select is((select body #>> '{attributes,merchant_suggested_asin,0,value}' from claim('putListingsItem')), 'B0000HAT01', 'the item that a person chose is offered');
select answer('putListingsItem', 200, '{"sku": "HAT", "status": "INVALID", "submissionId": "f1dc2914", "issues": [
    {"code": "90220", "message": "''condition_type'' is required but not supplied.", "severity": "ERROR",
     "attributeNames": ["condition_type"], "categories": ["MISSING_ATTRIBUTE"]}]}') \g /dev/null
select results_eq($$select state, state_reason from amzmp.offer where sku = 'HAT'$$,
    $$values ('rejected', '''condition_type'' is required but not supplied.')$$, 'a submission that is not accepted is rejected');

/* ---- no verdict at all ---- */

select amzmp.publish('DE', 'HAT', 'B0000HAT01') \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select count(*) from claim('putListingsItem') \g /dev/null
select answer('putListingsItem', 0, null) \g /dev/null
select is(o.state, 'queued', 'a put whose answer was lost is looked for') from amzmp.offer as o where o.sku = 'HAT';
select hurry() \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select count(*) from claim('putListingsItem') \g /dev/null
select accept('putListingsItem') \g /dev/null
update amzmp.listing set verdict_due_at = now() - interval '1 second' where sku = 'HAT';
select hurry() \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select results_eq($$select state, state_reason from amzmp.offer where sku = 'HAT'$$,
    $$values ('rejected', 'Amazon gave no verdict in time')$$, 'no verdict is a failure when its time is over');
update amzmp.penalty set until = now() where subject = 'HAT';
select amzmp._flow_send_products(:account_id, :de, 5) \g /dev/null
select is((select string_agg(q.sku, ',') from claim('searchListingsItems') as c, amzmp._asked_skus(c.params) as q (sku)), 'HAT',
    'the flow asks again when the penalty is over');
select answer('searchListingsItems', 200, items(item('HAT', '["DISCOVERABLE"]', 'B0000HAT01', 20, 4))) \g /dev/null
select is(o.state, 'live', 'a verdict that comes late counts') from amzmp.offer as o where o.sku = 'HAT';

/* ---- the second channel shares the stock ---- */

select amzmp.publish('FR', 'MUG', 'B0000MUG01') \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, items(item('MUG', '["BUYABLE"]', 'B0000MUG01', 9, 5))) \g /dev/null
select results_eq($$select params -> 'marketplaceIds', params -> 'issueLocale' from claim('putListingsItem')$$,
    $$values ('["A13V1IB3VIYZZH"]'::jsonb, '"fr_FR"'::jsonb)$$, 'a SKU that is in another marketplace only is put in this one');
select accept('putListingsItem') \g /dev/null
select hurry() \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, items(item('MUG', '["BUYABLE"]', 'B0000MUG01', 9, 5, '[]', 'A13V1IB3VIYZZH'))) \g /dev/null
select is(states(), 'DE/BAD=rejected DE/BARE=rejected DE/CUP=rejected DE/FREE=rejected DE/HAT=live DE/MUG=live_with_issues DE/PEN=live FR/MUG=live', 'both are live');

/* ---- taking off ---- */

select is(amzmp.unpublish('FR', '{MUG}'), 1, 'one leaves a channel');
select results_eq($$select params -> 'marketplaceIds', body from claim('deleteListingsItem')$$, $$values ('["A13V1IB3VIYZZH"]'::jsonb, null::jsonb)$$,
    'leaving one of several deletes that marketplace''s offer');
select accept('deleteListingsItem') \g /dev/null
select results_eq($$select o.state, i.listed, i.remote_quantity
    from amzmp.offer o, amzmp.inventory i where o.channel = 'FR' and o.sku = 'MUG' and i.sku = 'MUG'$$,
    $$values ('removed', true, 5)$$, 'the stock stays for the other');
select amzmp.unpublish('DE', '{MUG}') \g /dev/null
select results_eq($$select body -> 'patches' -> 0 -> 'value' from claim('patchListingsItem')$$,
    $$values ('[{"fulfillment_channel_code": "DEFAULT", "quantity": 0, "lead_time_to_ship_max_days": 2}]'::jsonb)$$, 'leaving the last sets the quantity to 0');
select accept('patchListingsItem') \g /dev/null
select is(o.state, 'off_sale', 'it is off sale') from amzmp.offer as o where o.channel = 'DE' and o.sku = 'MUG';
select shop('MUG', 9, 7, '4006381333931') \g /dev/null
select is(due(), '', 'and stays so whatever the shop has');
select amzmp.publish('DE', '{MUG}') \g /dev/null
select is((select body #>> '{patches,0,value,0,quantity}' from claim('patchListingsItem')), '7', 'until it is published again');
select accept('patchListingsItem') \g /dev/null
select is(o.state, 'pending', 'and waits for Amazon to show it') from amzmp.offer as o where o.channel = 'DE' and o.sku = 'MUG';
select amzmp.set('DE', 'on_remove', 'delete') \g /dev/null
select amzmp.unpublish('DE', '{PEN,BARE}') \g /dev/null
select is((select string_agg(c.sku, ',') from claim('deleteListingsItem') as c), 'PEN', 'or it is deleted, where on_remove says so');
select answer('deleteListingsItem', 200, '{"sku": "PEN", "status": "ACCEPTED", "submissionId": "f1dc2914"}') \g /dev/null
select results_eq($$select sku, state from amzmp.offer where sku in ('PEN', 'BARE') order by sku$$, $$values ('BARE', 'not_listed'), ('PEN', 'removed')$$,
    'what Amazon never had is just not listed');
select throws_ok($$select amzmp.unpublish('DE', '{NOPE}')$$, 'AZ202', 'never published in channel "DE": ''NOPE''', 'what was never offered cannot leave');

/* ---- a product that left the shop ---- */

select shop('HAT', 20, 4, '0036000291452', (select p from (select true as gone) as g, lateral (select jsonb_populate_record(null::amzmp.product, '{"gone": true}') as p) as x)) \g /dev/null
select is((select body #>> '{patches,0,value,0,quantity}' from claim('patchListingsItem') where sku = 'HAT'), '0', 'sells nothing any more');
select accept('patchListingsItem') \g /dev/null
select amzmp._flow_send_delete_products(:account_id, 0, 9) \g /dev/null
select is((select string_agg(c.sku, ',') from claim('deleteListingsItem') as c), 'HAT',
    'and the flow deletes its offer, where on_remove says so');
select answer('deleteListingsItem', 400, null, 'InvalidInput', 'Not now') \g /dev/null
select results_eq($$select state, state_reason from amzmp.offer where sku = 'HAT'$$, $$values ('live', 'could not be deleted: Not now')$$, 'a refusal is told');

/* ---- changes at Amazon ---- */

select live('VASE', 30, 3) \g /dev/null
select is(amzmp.verify('DE', '{VASE}'), 1, 'one is read');
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, items(item('VASE', '["BUYABLE"]', 'B000000001', 33, 2))) \g /dev/null
select is_empty($$select from amzmp.drift where sku = 'VASE'$$, 'less stock than expected may have been sold');
insert into amzmp.order_cursor (account_id, watermark) select account_id, now() + interval '1 day' from this on conflict (account_id) do update set watermark = excluded.watermark;
select results_eq($$select sku, facet, expected, observed from amzmp.drift where sku = 'VASE'$$, $$values ('VASE', 'stock', 3::numeric, 2::numeric)$$,
    'once the orders up to then are read it is drift');
select is((select body #>> '{patches,0,value,0,our_price,0,schedule,0,value_with_tax}' from claim('patchListingsItem') where sku = 'VASE'), '30.00',
    'a price that was changed there is set right');
select accept('patchListingsItem') \g /dev/null
select amzmp.verify('DE', '{VASE}') \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select is(o.state, 'gone', 'what is not there any more is gone') from amzmp.offer as o where o.sku = 'VASE';

/* ---- lists as people write them ---- */

select throws_ok(format($$select amzmp.%s('DE', %s)$$, verb, list), 'AZ202', format('no SKUs to %s: %s', verb, why), verb || ': ' || why)
from (values ('publish'), ('unpublish')) as v (verb), (values ('null::text[]', 'null'), ($$'{}'$$, 'an empty array'),
    ($$array['VASE', null]$$, 'there is a null among them'), ($$array[array['VASE'], array['B']]$$, 'an array of arrays')) as l (list, why);
select throws_ok($$select amzmp.publish('DE', array['VASE', 'B', 'VASE'])$$, 'AZ202', 'SKUs to publish are named twice: ''VASE''', 'each SKU once');
select throws_ok($$select amzmp.publish('DE', array['VASE', 'B'], array[array['B000000001'], array['B000000002']])$$, 'AZ202',
    'the ASINs are an array of arrays', 'and an ASIN is not a list either');
select throws_ok($$select amzmp.publish(null, array['VASE'])$$, 'AZ201', 'no channel is named: null', 'a channel has to be named');

/* ---- more than fits into one call ---- */

select shop('A,B', 1, 1, '4006381333931') \g /dev/null
select shop('N' || n, 1, 1, '4006381333931') from generate_series(1, 45) as n \g /dev/null
select amzmp.publish('DE', array(select 'N' || n from generate_series(1, 45) as n) || 'A,B'::text) \g /dev/null
select results_eq($$select jsonb_array_length(params -> 'identifiers') from claim('searchListingsItems') order by 1$$, array[5, 20, 20], 'twenty SKUs a call');
select results_eq($$select params ->> 'sku' from claim('getListingsItem')$$, array['A,B'], 'one with a comma alone');
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}'), answer('getListingsItem', 404, null, 'NotFound') \g /dev/null
select results_eq($$select params -> 'identifiers' from claim('searchCatalogItems')$$, $$values ('["4006381333931"]'::jsonb), ('["4006381333931"]')$$,
    'the same barcode is asked for once a batch');

select * from finish();
rollback;
