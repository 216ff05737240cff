-- listing_fulfillment.sql
-- Who ships: by rule, by Amazon's stock, checked afterwards; and how what Amazon ships goes off sale.

begin;
\ir listing_setup.psql

-- What the flow asks for, and Amazon's answer: SKU and units.
create function read_stock(variadic units jsonb[]) returns text language plpgsql as $$
declare
    asked text;
begin
    perform amzmp._flow_get_amazon_stock((select account_id from this), 0, 1);
    select string_agg(c.params ->> 'sellerSkus', '; ') into asked from claim('getInventorySummaries') as c;
    perform answer('getInventorySummaries', 200, jsonb_build_object('payload', jsonb_build_object('inventorySummaries', (
            select jsonb_agg(jsonb_build_object('sellerSku', u ->> 0, 'totalQuantity', (u ->> 1)::int + 7,
                'inventoryDetails', jsonb_build_object('fulfillableQuantity', (u ->> 1)::int))) from unnest(units) as u))));
    return asked;
end
$$;

create function patches(sku text) returns jsonb language sql volatile as $$
    select jsonb_agg(jsonb_build_array(p ->> 'op', substr(p ->> 'path', 13), p #> '{value,0,fulfillment_channel_code}', p #> '{value,0,quantity}'))
    from claim('patchListingsItem') as c, jsonb_array_elements(c.body -> 'patches') as p
    where c.sku = patches.sku
$$;

create function wanted(sku text) returns text language sql as $$
    select concat_ws(' ', f.policy, f.wanted, coalesce(f.remote, '?'), case when f.differs then 'differs' end) from amzmp.fulfillment as f where f.sku = $1
$$;

/* ---- by rule ---- */

select live('MUG', 10, 5) \g /dev/null
select is_empty($$select from amzmp.fulfillment$$, 'without a rule who ships is nobody''s business');
select throws_ok($$select amzmp.set_rule('DE', '{"fulfillment": "amazon"}')$$, 'AZ202', null, 'a rule of a channel cannot say it');
select throws_ok($$select amzmp.set_rule('seller', '{"fulfillment": "me"}')$$, 'AZ202', null, 'there are three policies');
select amzmp.set_rule('seller', '{"fulfillment": "amazon"}', 'MUG') \g /dev/null
select is(wanted('MUG'), 'amazon amazon merchant differs', 'a rule says that Amazon ships');
select is(patches('MUG'), '[["replace", "fulfillment_availability", "AMAZON_EU", null], ["delete", "fulfillment_availability", "DEFAULT", null]]',
    'one channel is taken, the other given up');
select accept('patchListingsItem') \g /dev/null
select is(wanted('MUG'), 'amazon amazon amazon', 'Amazon has taken it');
select shop('MUG', 10, 4) \g /dev/null
select is(due(), '', 'its quantity is not sent any more');
select amzmp.set_rule('seller', '{"fulfillment": "merchant"}', 'MUG') \g /dev/null
select is(patches('MUG'), '[["delete", "fulfillment_availability", "AMAZON_EU", null], ["replace", "fulfillment_availability", "DEFAULT", 4]]',
    'back with the stock of the shop');
select accept('patchListingsItem') \g /dev/null
select results_eq($$select listed, remote_quantity, quantity_differs from amzmp.inventory where sku = 'MUG'$$, $$values (true, 4, false)$$, 'which is known from then on');
select shop('MUG', 10, 3) \g /dev/null
select is(patches('MUG'), '[["merge", "fulfillment_availability", "DEFAULT", 3]]', 'and kept up to date');
select accept('patchListingsItem') \g /dev/null

/* ---- published at Amazon's warehouses ---- */

select amzmp.set_rule('seller', '{"fulfillment": "amazon"}', 'NEW') \g /dev/null
select shop('NEW', 5, null, null, jsonb_populate_record(null::amzmp.product, '{"asin": "B0000000N1"}')) \g /dev/null
select amzmp.publish('DE', '{NEW}') \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, '{"numberOfResults": 0, "items": []}') \g /dev/null
select is((select body #> '{attributes,fulfillment_availability}' from claim('putListingsItem')), '[{"fulfillment_channel_code": "AMAZON_EU"}]',
    'a new offer names Amazon''s channel and needs no stock of the shop');
select accept('putListingsItem') \g /dev/null
select is(wanted('NEW'), 'amazon amazon amazon', 'and is shipped by Amazon');

/* ---- is it so? ---- */

update amzmp.fulfillment set submitted_at = now() - interval '1 hour' where sku = 'NEW';
select hurry() \g /dev/null
select count(*) from claim('searchListingsItems') \g /dev/null
select answer('searchListingsItems', 200, items(item('NEW', '["BUYABLE"]', 'B0000000N1', 5, 0))) \g /dev/null
select results_eq($$select code, message from amzmp.penalty where kind = 'fulfillment'$$,
    $$values ('WRONG_FULFILLMENT', 'Amazon shows that the merchant ships, wanted is amazon')$$, 'an offer that came out otherwise is told');
select is(patches('NEW'), null, 'and not sent at once again');
select amzmp.release_penalty('seller', '{NEW}') \g /dev/null
select amzmp._plan_sends(:account_id, '{NEW}') \g /dev/null
select is(patches('NEW') -> 0, '["replace", "fulfillment_availability", "AMAZON_EU", null]', 'but when its penalty is over');
select accept('patchListingsItem') \g /dev/null

/* ---- as Amazon's stock says ---- */

select live('CUP', 10, 5) \g /dev/null
select amzmp.set_rule('seller', '{"fulfillment": "switch"}', 'CUP') \g /dev/null
select is(wanted('CUP'), 'switch merchant merchant', 'a switch begins as Amazon has it');
select is(read_stock('["CUP", 9]', '["NEW", 3]', '["HAT", 1]'), '["CUP", "NEW"]', 'what Amazon ships or might is asked for');
select results_eq($$select sku, fulfillment_channel, observed_quantity, listed from amzmp.inventory where fulfillment_channel <> 'DEFAULT' order by 1$$,
    $$values ('CUP', 'AMAZON_EU', 9, false), ('NEW', 'AMAZON_EU', 3, false)$$, 'and noted, but what nobody asked for');
select is(wanted('CUP'), 'switch merchant merchant', 'one reading switches nothing');
select read_stock('["NEW", 3]') \g /dev/null
select is(wanted('CUP'), 'switch merchant merchant', 'nor does one that leaves it out');
select read_stock('["CUP", 9]') \g /dev/null
select is(wanted('CUP'), 'switch amazon merchant differs', 'two that agree do');
select results_eq($$select amazon_quantity, own_quantity, wanted_reason from amzmp.fulfillment_status where sku = 'CUP'$$,
    $$values (9, 5, 'Amazon''s warehouses have 9 units')$$, 'and say why');
select is(patches('CUP') -> 0, '["replace", "fulfillment_availability", "AMAZON_EU", null]', 'which is sent');
select accept('patchListingsItem') \g /dev/null
select read_stock('["CUP", 0]'), read_stock('["CUP", 1]'), read_stock('["CUP", 0]') \g /dev/null
select is(wanted('CUP'), 'switch amazon amazon', 'readings that contradict each other begin anew');
select read_stock('["CUP", 0]') \g /dev/null
select is(patches('CUP'), '[["delete", "fulfillment_availability", "AMAZON_EU", null], ["replace", "fulfillment_availability", "DEFAULT", 5]]',
    'with Amazon''s stock sold out the shop''s own is offered');
select accept('patchListingsItem') \g /dev/null
select read_stock('["CUP", 4]'), read_stock('["CUP", 4]'), read_stock('["CUP", 4]') \g /dev/null
select is(wanted('CUP'), 'switch merchant merchant', 'a few units do not lead back');
select shop('CUP', 10, 0) \g /dev/null
select patches('CUP') \g /dev/null
select accept('patchListingsItem') \g /dev/null
select read_stock('["CUP", 4]'), read_stock('["CUP", 4]') \g /dev/null
select is(wanted('CUP'), 'switch amazon merchant differs', 'unless the shop has none at all');
select patches('CUP') \g /dev/null
select accept('patchListingsItem') \g /dev/null
select read_stock('["CUP", 0]'), read_stock('["CUP", 0]'), read_stock('["CUP", 0]') \g /dev/null
select is(wanted('CUP'), 'switch amazon amazon', 'and with nothing anywhere it stays');

/* ---- off sale ---- */

select amzmp.unpublish('DE', '{CUP}') \g /dev/null
select results_eq($$select body -> 'patches' from claim('patchListingsItem') where sku = 'CUP'$$, $$values ('[{"op": "delete",
    "path": "/attributes/purchasable_offer", "value": [{"marketplace_id": "A1PA6795UKMFR9", "currency": "EUR", "audience": "ALL"}]}]'::jsonb)$$,
    'what Amazon ships goes off sale by taking its offer away');
select accept('patchListingsItem') \g /dev/null
select results_eq($$select state, reason from amzmp.listing_status where sku = 'CUP'$$,
    $$values ('off_sale', 'its offer was taken away, the stock stays with Amazon')$$, 'and says so');
update amzmp.listing set state_at = state_at - interval '1 minute' where sku = 'CUP';
select amzmp.publish('DE', '{CUP}') \g /dev/null
select is(patches('CUP') -> 0 ->> 1, 'purchasable_offer', 'published again it comes back with its price');
select accept('patchListingsItem') \g /dev/null
select is(l.state, 'pending', 'for Amazon to judge') from amzmp.listing as l where l.sku = 'CUP';

select * from finish();
rollback;
