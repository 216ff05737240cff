-- listing_content.sql
-- Attributes, images and families: what is sent, in which steps a product is created, and what is sent again.

begin;
\ir listing_setup.psql

-- The shop's row with content, read as the source's values would give it.
create function content(sku text, attributes jsonb, more jsonb default '{}', price numeric default 10, ean text default '4006381333931')
    returns void language plpgsql as $$
begin
    delete from amzmp.product as p where p.source_id = 900001 and p.sku = content.sku;
    insert into amzmp.product (account_id, source_id, sku, price, quantity, title, ean, extra)
    select t.account_id, 900001, content.sku, content.price, 5, 'Blue mug', content.ean,
        jsonb_build_object('attributes', content.attributes::text, 'product_type', 'MUG') || more
    from this as t;
    perform amzmp._recompute((select account_id from this), array[content.sku], '{"role": "shop"}');
end
$$;

-- What a PATCH carries, in short: the attributes.
create function patched(sku text) returns text language sql volatile as $$
    select string_agg(format('%s %s', p ->> 'op', substr(p ->> 'path', 13)), ', ')
    from claim('patchListingsItem') as c, jsonb_array_elements(c.body -> 'patches') as p
    where c.sku = patched.sku
$$;

create function seen(sku text, status jsonb, asin text default 'B0000NEW01', price numeric default null) returns void language plpgsql as $$
begin
    perform hurry();
    perform 1 from claim('searchListingsItems');
    perform answer('searchListingsItems', 200, items(item(seen.sku, status, asin, price, 0)));
end
$$;

/* ---- off unless both switches are on ---- */

select live('OLD', 10, 5) \g /dev/null
select content('OLD', '{"item_name": "Old mug"}') \g /dev/null
select is_empty($$select from amzmp.listing_content$$, 'content is nobody''s business while the main switch is off');
select amzmp.set('DE', 'send_content', 'true'), amzmp.set('DE', 'send_images', 'true') \g /dev/null
select content('OLD', '{"item_name": "Old mug"}') \g /dev/null
select is_empty($$select from amzmp.listing_content$$, 'nor while the product''s rule does not name it');
select amzmp.set_rule('seller', '{"send": ["price", "stock", "details", "content", "images"]}') \g /dev/null
select content('OLD', '{"item_name": "Old mug", "bullet_point": ["tea", "coffee"], "purchasable_offer": [], "number_of_items": 1}') \g /dev/null
select results_eq($$select facet, product_type, attributes from amzmp.content_diff$$,
    $$values ('product', 'MUG', '{bullet_point,externally_assigned_product_identifier,item_name,number_of_items}'::text[])$$,
    'with both, what differs shows');
select results_eq($$select body from claim('patchListingsItem')$$, $$values ('{"productType": "MUG", "patches": [
    {"op": "replace", "path": "/attributes/bullet_point", "value": [
        {"value": "tea", "language_tag": "de_DE", "marketplace_id": "A1PA6795UKMFR9"},
        {"value": "coffee", "language_tag": "de_DE", "marketplace_id": "A1PA6795UKMFR9"}]},
    {"op": "replace", "path": "/attributes/externally_assigned_product_identifier", "value": [
        {"type": "ean", "value": "4006381333931", "marketplace_id": "A1PA6795UKMFR9"}]},
    {"op": "replace", "path": "/attributes/item_name", "value": [
        {"value": "Old mug", "language_tag": "de_DE", "marketplace_id": "A1PA6795UKMFR9"}]},
    {"op": "replace", "path": "/attributes/number_of_items", "value": [{"value": 1, "marketplace_id": "A1PA6795UKMFR9"}]}]}'::jsonb)$$,
    'and is sent, in Amazon''s form, under the product''s type');
select accept('patchListingsItem') \g /dev/null
select is_empty($$select from amzmp.content_diff$$, 'once accepted nothing differs');
select content('OLD', '{"item_name": "Old mug", "bullet_point": ["cocoa"]}') \g /dev/null
select results_eq($$select body -> 'patches' from claim('patchListingsItem')$$, $$values ('[
    {"op": "replace", "path": "/attributes/bullet_point", "value": [{"value": "cocoa", "language_tag": "de_DE",
        "marketplace_id": "A1PA6795UKMFR9"}]},
    {"op": "delete", "path": "/attributes/number_of_items", "value": [{"marketplace_id": "A1PA6795UKMFR9"}]}]'::jsonb)$$,
    'later only what changed; what the shop names no more is taken away');
select answer('patchListingsItem', 200, '{"sku": "?", "status": "INVALID", "submissionId": "f1dc2914", "issues": [{"code": "99022",
    "message": "Too few values.", "severity": "ERROR", "attributeNames": ["bullet_point"], "categories": ["INVALID_ATTRIBUTE"]}]}') \g /dev/null
select results_eq($$select kind, code from amzmp.penalty where subject = 'OLD'$$, $$values ('product', '99022')$$, 'a refusal holds back this facet');
select content('OLD', '{"item_name": "Old mug", "bullet_point": ["cocoa"]}', price => 9) \g /dev/null
select is(patched('OLD'), 'merge purchasable_offer', 'and no other');
select answer('patchListingsItem', 0, null) \g /dev/null
delete from amzmp.penalty;
delete from amzmp.task where kind = 'reassert';
update amzmp.listing set remote_price = 9 where sku = 'OLD';
select amzmp._plan_sends(:account_id, '{OLD}') \g /dev/null
select count(*) from claim('patchListingsItem') \g /dev/null
select answer('patchListingsItem', 0, null) \g /dev/null
select is((select remote from amzmp.listing_content where sku = 'OLD'),
    '{"item_name": null, "bullet_point": null, "number_of_items": null, "externally_assigned_product_identifier": null}',
    'a lost answer leaves the names of what may have arrived');
delete from amzmp.penalty;
select amzmp._plan_sends(:account_id, '{OLD}') \g /dev/null
select is(patched('OLD'), 'replace bullet_point, replace externally_assigned_product_identifier, replace item_name, delete number_of_items',
    'all of which is sent anew');
select accept('patchListingsItem') \g /dev/null

/* ---- created where the catalogue has nothing ---- */

select content('NEW', '{"item_name": "New mug", "brand": "Nordlicht"}', '{"images": "[\"https://shop.example/1.jpg\", \"https://shop.example/2.jpg\"]"}') \g /dev/null
select amzmp.publish('DE', '{NEW}') \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select count(*) from claim('searchCatalogItems') \g /dev/null
select answer('searchCatalogItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select results_eq($$select state, reason from amzmp.listing_status where sku = 'NEW'$$,
    $$values ('queued', 'not in Amazon''s catalogue, it is created there')$$, 'what nobody sells yet is created');
select results_eq($$select body from claim('putListingsItem')$$, $$values ('{"productType": "MUG", "requirements": "LISTING_PRODUCT_ONLY", "attributes": {
    "externally_assigned_product_identifier": [{"type": "ean", "value": "4006381333931", "marketplace_id": "A1PA6795UKMFR9"}],
    "brand": [{"value": "Nordlicht", "language_tag": "de_DE", "marketplace_id": "A1PA6795UKMFR9"}],
    "item_name": [{"value": "New mug", "language_tag": "de_DE", "marketplace_id": "A1PA6795UKMFR9"}]}}'::jsonb)$$, 'its facts first');
select accept('putListingsItem') \g /dev/null
select results_eq($$select state, step from amzmp.listing where sku = 'NEW'$$, $$values ('pending', 'product')$$, 'the product has to be there');
select is(due(), '', 'before anything else is sent');
select seen('NEW', '["DISCOVERABLE"]') \g /dev/null
select results_eq($$select state, state_reason, asin from amzmp.listing where sku = 'NEW'$$,
    $$values ('pending', 'created at Amazon, next comes its image', 'B0000NEW01')$$, 'when Amazon shows it, the images are next');
select is(patched('NEW'), 'replace main_product_image_locator, replace other_product_image_locator_1', 'alone');
select accept('patchListingsItem') \g /dev/null
select is(patched('NEW'), 'merge purchasable_offer, replace condition_type', 'then the price, and the condition of the offer');
select accept('patchListingsItem') \g /dev/null
select seen('NEW', '["DISCOVERABLE"]', price => 10) \g /dev/null
select is(patched('NEW'), 'merge fulfillment_availability', 'the stock at last, when Amazon shows the price');
select accept('patchListingsItem') \g /dev/null
select results_eq($$select step, state from amzmp.listing where sku = 'NEW'$$, $$values (null::text, 'pending')$$, 'then it is complete');
select seen('NEW', '["BUYABLE", "DISCOVERABLE"]', price => 10) \g /dev/null
select is(l.state, 'live', 'and live') from amzmp.listing as l where l.sku = 'NEW';
select is(due(), '', 'with nothing left to do');

/* ---- an item of the catalogue is not created twice ---- */

select content('KNOWN', '{"item_name": "Known mug"}', ean => '0036000291452') \g /dev/null
select amzmp.publish('DE', '{KNOWN}') \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select count(*) from claim('searchCatalogItems') \g /dev/null
select answer('searchCatalogItems', 200, items(catalog_item('B0000KNOWN', '0036000291452'))) \g /dev/null
select is((select body ->> 'requirements' from claim('putListingsItem')), 'LISTING_OFFER_ONLY', 'a catalogue item only gets an offer');
select accept('putListingsItem') \g /dev/null
select is(patched('KNOWN'), 'replace externally_assigned_product_identifier, replace item_name', 'and the content afterwards');
select accept('patchListingsItem') \g /dev/null

/* ---- what is refused begins anew when the content changes ---- */

select content('BAD', '{"item_name": ""}', ean => '9780306406157') \g /dev/null
select amzmp.publish('DE', '{BAD}') \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select count(*) from claim('searchCatalogItems') \g /dev/null
select answer('searchCatalogItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select count(*) from claim('putListingsItem') \g /dev/null
select answer('putListingsItem', 200, '{"sku": "?", "status": "INVALID", "submissionId": "f1dc2914", "issues": [{"code": "90220",
    "message": "Name is required.", "severity": "ERROR", "attributeNames": ["item_name"], "categories": ["MISSING_ATTRIBUTE"]}]}') \g /dev/null
select is(l.state, 'rejected', 'refused facts reject the listing') from amzmp.listing as l where l.sku = 'BAD';
select content('BAD', '{"item_name": "Good mug"}', ean => '9780306406157') \g /dev/null
select is(l.state, 'queued', 'until the shop mends them') from amzmp.listing as l where l.sku = 'BAD';

/* ---- families ---- */

select content('FAMILY', '{"item_name": "Mugs"}', '{"parent_sku": "FAMILY", "variation_theme": "COLOR"}', price => null, ean => null) \g /dev/null
select content('MEMBER', '{"item_name": "Red mug", "color": "red"}', '{"parent_sku": "FAMILY", "variation_theme": "COLOR"}', ean => '9780804429573') \g /dev/null
select amzmp.publish('DE', '{FAMILY,MEMBER}') \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select results_eq($$select sku, body -> 'attributes' -> 'parentage_level' -> 0 ->> 'value', body -> 'attributes' ? 'purchasable_offer' from claim('putListingsItem') where sku <> 'BAD'$$,
    $$values ('FAMILY', 'parent', false)$$, 'a family needs neither barcode nor offer');
select is_empty($$select from amzmp.penalty where subject = 'FAMILY'$$, 'nor price and stock');
select count(*) from claim('searchCatalogItems') \g /dev/null
select answer('searchCatalogItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select sku from claim('putListingsItem') where sku = 'MEMBER' \g /dev/null
select accept('putListingsItem') \g /dev/null
select seen('MEMBER', '["DISCOVERABLE"]', 'B00MEMBER1') \g /dev/null
select is((select step from amzmp.listing where sku = 'MEMBER'), 'relation', 'a member comes to its relation');
select is(patched('MEMBER'), null, 'which waits for the family');
select seen('FAMILY', '["DISCOVERABLE"]', 'B00FAMILY1') \g /dev/null
select is((select body -> 'patches' -> 0 from claim('patchListingsItem') where sku = 'MEMBER'),
    '{"op": "replace", "path": "/attributes/child_parent_sku_relationship", "value": [{"parent_sku": "FAMILY", "child_relationship_type": "variation",
      "marketplace_id": "A1PA6795UKMFR9"}]}', 'and follows it');
select accept('patchListingsItem') \g /dev/null
select seen('FAMILY', '["DISCOVERABLE"]', 'B00FAMILY1') \g /dev/null
select results_eq($$select state, step from amzmp.listing where sku = 'FAMILY'$$, $$values ('live', null::text)$$, 'the family itself is complete with that');

/* ---- in doubt after a change of identity ---- */

delete from amzmp.request;
select live('DOUBT', 10, 5) \g /dev/null
select content('DOUBT', '{"item_name": "Mug", "bullet_point": ["tea", "coffee"], "number_of_items": 1, "material": "clay"}') \g /dev/null
select patched('DOUBT') \g /dev/null
select accept('patchListingsItem') \g /dev/null
select content('DOUBT', '{"item_name": "Mug", "bullet_point": ["tea", "coffee"], "number_of_items": 1, "color": "blue"}') \g /dev/null
delete from amzmp.request;
update amzmp.listing_content set in_flight = null, in_flight_request = null;
update amzmp.listing set read_due_at = null, in_flight_request = null where sku = 'DOUBT';
select amzmp._doubt(:account_id) \g /dev/null
select is_empty($$select from amzmp.content_diff where sku = 'DOUBT'$$, 'after a change of identity no content differs');
select amzmp._task_read_back(:account_id, :de::text, '{}') \g /dev/null
select ok(bool_and(c.params -> 'includedData' ? 'attributes') and count(*) > 0, 'Amazon is asked for it') from claim('searchListingsItems') as c;
select answer('searchListingsItems', 200, items(item('DOUBT', '["BUYABLE"]', 'B000000001', 10, 5) || '{"attributes": {
    "item_name": [{"value": "Mug", "language_tag": "de_DE", "marketplace_id": "A1PA6795UKMFR9", "added": "by Amazon"}],
    "bullet_point": [{"value": "tea", "language_tag": "de_DE", "marketplace_id": "A1PA6795UKMFR9"}],
    "material": [{"value": "glass", "language_tag": "de_DE", "marketplace_id": "A1PA6795UKMFR9"}],
    "externally_assigned_product_identifier": [{"type": "ean", "value": "4006381333931", "marketplace_id": "A1PA6795UKMFR9"}],
    "brand": [{"value": "theirs", "language_tag": "de_DE", "marketplace_id": "A1PA6795UKMFR9"}]}}')) \g /dev/null
select is(patched('DOUBT'), 'replace bullet_point, replace color, delete material, replace number_of_items', 'only what Amazon has otherwise is sent');
select accept('patchListingsItem') \g /dev/null
select is_empty($$select from amzmp.listing_content where sku = 'DOUBT' and (in_doubt or differs)$$, 'then nothing is in doubt');
delete from amzmp.request;
update amzmp.listing set read_due_at = null where sku = 'DOUBT';
select amzmp._look(:account_id, :de, '{DOUBT}', now(), null), amzmp._doubt(:account_id) \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, items(item('DOUBT', '["BUYABLE"]', 'B000000001', 10, 5))) \g /dev/null
select results_eq($$select in_doubt, differs from amzmp.listing_content where sku = 'DOUBT'$$, $$values (true, false)$$,
    'a reading that did not ask for attributes ends no doubt');
select ok(count(*) = 1 and bool_and(c.params -> 'includedData' ? 'attributes'), 'it is read once more') from claim('searchListingsItems') as c;
select answer('searchListingsItems', 403, '{}', 'Unauthorized', 'No.') \g /dev/null
select results_eq($$select in_doubt, differs from amzmp.listing_content where sku = 'DOUBT'$$, $$values (false, true)$$,
    'where Amazon refuses to tell, all is sent again');

select * from finish();
rollback;
