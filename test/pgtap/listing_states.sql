-- listing_states.sql
-- States in words, main switches, and sources that complete each other.

begin;
\ir listing_setup.psql

select set_eq($$select state from amzmp.listing_state$$, $$select (regexp_matches(pg_get_constraintdef(c.oid), '''(\w+)''', 'g'))[1]
    from pg_constraint as c where c.conname = 'listing_state_check'$$, 'every state is explained');

/* ---- in words ---- */

select shop('BARE', 5, 6) \g /dev/null
select amzmp.publish('DE', '{BARE}') \g /dev/null
select results_eq($$select state, title, reason, next from amzmp.listing_status$$,
    $$values ('queued', 'queued', 'asking what Amazon has', 'read from Amazon')$$, 'what is on its way says what comes next');
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select results_eq($$select title, reason, remedy, for_sale, next, next_at > now() from amzmp.listing_status$$,
    $$values ('rejected', 'the product has neither an ASIN nor a barcode',
        'Give the product one in the shop, or select amzmp.publish(channel, sku, asin).', false, 'tried again', true)$$,
    'a rejection says why, what to do, and when it is tried again');

/* ---- deactivated for its price ---- */

select live('DEAR', 60000, 3) \g /dev/null
select amzmp.verify('DE', '{DEAR}') \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, items(item('DEAR', '["DISCOVERABLE"]', 'B000000001', 60000, 3, '[{"code": "18155",
    "message": "Potential pricing error.", "severity": "ERROR", "categories": ["INVALID_PRICE"]}]'))) \g /dev/null
select results_eq($$select state, title, reason, remedy like '%minimum%' from amzmp.listing_status where sku = 'DEAR'$$,
    $$values ('deactivated', 'deactivated for its price', 'Potential pricing error. (18155)', true)$$, 'a price that Amazon does not believe is a state of its own');
select is_empty($$select from amzmp.penalty where subject = 'DEAR'$$, 'that holds back no new price');
update amzmp.listing set state_at = state_at - interval '1 minute' where sku = 'DEAR';
select shop('DEAR', 45000, 3) \g /dev/null
select hurry() \g /dev/null
select is((select body #>> '{patches,0,value,0,our_price,0,schedule,0,value_with_tax}' from claim('patchListingsItem')), '45000.00', 'a new one is sent');
select accept('patchListingsItem') \g /dev/null
select results_eq($$select state, reason from amzmp.listing_status where sku = 'DEAR'$$,
    $$values ('pending', 'a new price was accepted, Amazon''s verdict is awaited')$$, 'and judged');
select hurry() \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, items(item('DEAR', '["DISCOVERABLE"]', 'B000000001', 60000, 3, '[{"code": "18155",
    "message": "Potential pricing error.", "severity": "ERROR", "categories": ["INVALID_PRICE"]}]'))) \g /dev/null
select is(s.state, 'pending', 'what Amazon said of the old one is no verdict on the new one') from amzmp.listing_status as s where sku = 'DEAR';
select hurry() \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, items(item('DEAR', '["BUYABLE"]', 'B000000001', 45000, 3))) \g /dev/null
select is(s.state, 'live', 'with which it is live again') from amzmp.listing_status as s where sku = 'DEAR';

/* ---- main switches ---- */

select live('VASE', 30, 3) \g /dev/null
select amzmp.set('DE', 'send_offers', 'false') \g /dev/null
select amzmp.set('FR', 'send_offers', 'false') \g /dev/null
select shop('VASE', 33, 2) \g /dev/null
select is_empty($$select from amzmp.price_diff$$, 'with offers switched off no price is sent');
select is_empty($$select from amzmp.stock_diff$$, 'and no stock');
select shop('VASE', 33, 2, null, jsonb_populate_record(null::amzmp.product, '{"active": false}')) \g /dev/null
select is((select body -> 'patches' from claim('patchListingsItem')),
    '[{"op": "merge", "path": "/attributes/fulfillment_availability", "value": [{"quantity": 0, "fulfillment_channel_code": "DEFAULT"}]}]',
    'but what the shop does not sell any more does not stay for sale');
select accept('patchListingsItem') \g /dev/null
select shop('NEW', 5, 6, null, jsonb_populate_record(null::amzmp.product, '{"asin": "B0000000N1"}')) \g /dev/null
select amzmp.publish('DE', '{NEW}') \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select results_eq($$select state, reason from amzmp.listing_status where sku = 'NEW'$$,
    $$values ('queued', 'waits for the channel''s main switch send_offers')$$, 'nothing is published');
select amzmp.set('DE', 'send_offers', 'true') \g /dev/null
select shop('VASE', 33, 2) \g /dev/null
select amzmp._flow_send_products(:account_id, :de, 1) \g /dev/null
select results_eq($$select sku, remote_price is not null from amzmp.price_diff$$, $$values ('VASE', true)$$, 'switched on again, what differs goes');
select results_eq($$select sku from claim('putListingsItem')$$, array['NEW'], 'and what waited');

/* ---- parts of an offer ---- */

select live('MUG', 10, 5) \g /dev/null
select amzmp.set_rule('seller', '{"send": ["price"]}', 'MUG') \g /dev/null
select shop('MUG', 11, 4) \g /dev/null
select is((select jsonb_agg(p -> 'path') from claim('patchListingsItem') as c, jsonb_array_elements(c.body -> 'patches') as p where c.sku = 'MUG'),
    '["/attributes/purchasable_offer"]', 'only prices where only prices are sent');
select accept('patchListingsItem') \g /dev/null
select amzmp.unpublish('DE', '{MUG}') \g /dev/null
select is((select body #> '{patches,0,value,0,quantity}' from claim('patchListingsItem') where sku = 'MUG'), '0', 'leaving sets the stock to 0 all the same');
select throws_ok($$select amzmp.set_rule('seller', '{"send": ["prices"]}')$$, 'AZ202', null, 'a facet that does not exist');

/* ---- a channel's own source ---- */

select shop('LAMP', 50, 7, '4006381333931', jsonb_populate_record(null::amzmp.product, '{"asin": "B00000LAMP"}')) \g /dev/null
insert into amzmp.source (account_id, source_id, channel_id, relation, expressions, fields, sku_type, run_as)
values (:account_id, 900002, :de, 'shop.german', '{}', '', 'text', current_user);
insert into amzmp.product (account_id, source_id, sku, price) values (:account_id, 900002, 'LAMP', 55);
select results_eq($$select price, title, ean, asin from this as t, amzmp._offer_product(t.account_id, t.de, 'LAMP')$$,
    $$values (55::numeric, 'Blue mug', '4006381333931', 'B00000LAMP')$$, 'a channel''s source is completed by the account''s');
select is((select price from this as t, amzmp._offer_product(t.account_id, t.fr, 'LAMP')), 50::numeric, 'and is none of other channels'' business');

/* ---- several offers of one product ---- */

select is(amzmp.split_skus('||AMZ-1|| AMZ-2||AMZ-1||'), '{AMZ-1,AMZ-2}', 'several SKUs in one text');
select is(amzmp.split_skus('AMZ-1'), '{AMZ-1}', 'or one');
select is(amzmp.split_skus(''), '{}', 'or none');
insert into amzmp.source_value (account_id, source_id, name, expression) values (:account_id, 900001, 'stock_group', 'id');
select live('TEA', 4, 9), live('TEA-USED', 3, 9) \g /dev/null
update amzmp.product set extra = '{"stock_group": "tea"}' where sku like 'TEA%';
insert into amzmp.reservation (account_id, order_item_id, amazon_order_id, sku, quantity) values (:account_id, '1', '1-1', 'TEA-USED', 4);
select amzmp._stock_moved(:account_id, '{TEA-USED}', '{4}', array[now()]) \g /dev/null
select results_eq($$select sku, desired_quantity from amzmp.inventory where sku like 'TEA%' order by sku$$, $$values ('TEA', 5), ('TEA-USED', 5)$$,
    'what is held under one SKU is not offered under the other');
select amzmp._recompute(:account_id, '{TEA,TEA-USED}', '{}') \g /dev/null
select results_eq($$select sku, desired_quantity from amzmp.inventory where sku like 'TEA%' order by sku$$, $$values ('TEA', 5), ('TEA-USED', 5)$$,
    'whenever it is computed');
select is((select array_agg(sku) from claim('patchListingsItem') where sku like 'TEA%'), '{TEA}', 'Amazon is told of the other one only');

/* ---- shipping templates ---- */

select live('POT', 20, 2) \g /dev/null
select amzmp.set_rule('DE', '{"shipping_template": "big", "shipping_map": {"big": "id-1"}}', 'POT') \g /dev/null
select count(*) from claim('patchListingsItem') \g /dev/null
select accept('patchListingsItem') \g /dev/null
update amzmp.listing set remote_details_at = now() - interval '1 hour' where sku = 'POT';
select amzmp.verify('DE', '{POT}') \g /dev/null
select ok((select params -> 'includedData' ? 'attributes' from claim('searchListingsItems')), 'where a template is wanted, attributes are read');
select answer('searchListingsItems', 200, items(item('POT', '["BUYABLE"]', 'B000000001', 20, 2)
    || '{"attributes": {"merchant_shipping_group": [{"marketplace_id": "A1PA6795UKMFR9", "value": "id-0"}]}}')) \g /dev/null
select is((select body #> '{patches,0,value}' from claim('patchListingsItem') where sku = 'POT'),
    '[{"value": "id-1", "marketplace_id": "A1PA6795UKMFR9"}]', 'a template that was changed there is set right');
select is((select message from amzmp.activity where subject = 'POT' and message like '%template%'),
    'Amazon has shipping template id-0, accepted was id-1', 'and told');

select * from finish();
rollback;
