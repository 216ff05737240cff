-- rules.sql
-- What is wanted at Amazon follows the shop's rows and the rules: which rule holds, and what each of them does.

begin;
\ir listing_setup.psql

select live('MUG', 10, 20) \g /dev/null
select live('MUG', 10, 20, :fr) \g /dev/null
-- nothing here is about the brake
select amzmp.set('seller', 'brake_drop', '1'), amzmp.set('seller', 'brake_rise', '1000') \g /dev/null
insert into amzmp.source_value (account_id, source_id, name, expression)
select account_id, 900001, v, v from this, unnest('{cost,msrp,sale_end,proposition}'::text[]) as v;

create function price(place text default 'DE') returns numeric language sql volatile as $$
    select o.desired_price from amzmp.offer as o where o.channel = $1 and o.sku = 'MUG'
$$;
create function quantity() returns integer language sql volatile as $$
    select i.desired_quantity from amzmp.inventory as i where i.sku = 'MUG'
$$;
create function terms(place text default 'DE') returns jsonb language sql volatile as $$
    select l.desired_terms from amzmp.listing as l join amzmp.channel as c using (account_id, channel_id) where c.name = $1 and l.sku = 'MUG'
$$;
-- The shop's row, with values that the source was given.
create function reads(price numeric, quantity bigint, extra jsonb default '{}', category text default null) returns void language sql volatile as $$
    update amzmp.product set price = $1, quantity = $2, extra = $3, category = $4 where sku = 'MUG';
    select amzmp._recompute((select account_id from this), '{MUG}', '{"role": "shop"}')
$$;

/* ---- which rule holds ---- */

select amzmp._task_recompute_all(:account_id, '', '{}') \g /dev/null
select is(price(), 10.00, 'without a rule the price is the shop''s');
select ok(amzmp.set_rule('seller', '{"percent": 5}') > 0, 'a rule for everything');
select amzmp._task_recompute_all(:account_id, '', '{}') \g /dev/null
select is(price(), 10.50, '100 with 5 is 105');
select amzmp.set_rule('FR', '{"percent": 20}') \g /dev/null
select amzmp._task_recompute_all(:account_id, '', '{}') \g /dev/null
select results_eq($$select price('DE'), price('FR')$$, $$values (10.50, 12.00)$$, 'the channel''s goes before the account''s');
select amzmp.set_rule('seller', '{"percent": -10}', product_group => 'mugs') \g /dev/null
select reads(10, 20, category => 'mugs') \g /dev/null
select results_eq($$select price('DE'), price('FR')$$, $$values (9.00, 9.00)$$, 'that of a group goes before both');
select reads(10, 20) \g /dev/null
select is(price(), 10.50, 'outside the group it does not hold');
select is(amzmp.set_group('seller', 'mugs', '{MUG}'), 1, 'a group can be a list');
select amzmp._task_recompute_all(:account_id, '', '{}') \g /dev/null
select is(price(), 9.00, 'and then holds for its products');
select amzmp.set_rule('seller', '{"amount": 1}', sku => 'MUG') \g /dev/null
select is(price(), 10.00, 'each parameter is taken from the most specific rule that names it');
select amzmp.set_rule('seller', '{"percent": 0, "amount": -1}', 'MUG') \g /dev/null
select is(price(), 9.00, 'that of the product goes before all');
select is(amzmp.set_rule('seller', '{"percent": null, "amount": null}', 'MUG'), null, 'a rule that says nothing is none');
select is(amzmp.drop_rule('seller', product_group => 'mugs'), true, 'rules are dropped');
select is(amzmp.drop_rule('seller', product_group => 'mugs'), false, 'once');
select amzmp.drop_rule('seller'), amzmp.drop_rule('FR') \g /dev/null

/* ---- prices ---- */

create function with_rule(parameters jsonb) returns numeric language plpgsql as $$
begin
    perform amzmp.drop_rule('DE', 'MUG');
    perform amzmp.set_rule('DE', parameters, 'MUG');
    return price();
end
$$;

select reads(10, 20, '{"cost": "6.5", "msrp": "14.99"}') \g /dev/null
select is(with_rule('{"price": "cost * 2"}'), 13.00, 'the price may come from another value');
select is(with_rule('{"price": "greatest(price, (cost + 1) * 1.5, -3)"}'), 11.25, 'or be calculated');
select is(with_rule('{"price": "coalesce(cost / 0, price - 1)"}'), 9.00, 'what cannot be calculated is missing');
select is(with_rule('{"price": "10 - 2 - 3"}'), 5.00, 'from left to right');
select is(with_rule('{"percent": 10, "amount": 2}'), 13.00, 'per cent first, then the amount');
select is(with_rule('{"fee_percent": 15, "fee_amount": 0.35}'), 12.18, 'after the fees of 15 per cent and 0.35 the price is left');
select is(with_rule('{"round_to": 0.05, "amount": 0.07}'), 10.05, 'a step');
select is(with_rule('{"round_ending": 0.99}'), 9.99, 'an ending');
select is(with_rule('{"round_ending": 0.99, "round_mode": "up"}'), 10.99, 'upwards');
select is(with_rule('{"round_to": 10, "round_ending": 9.9, "amount": 12, "round_mode": "down"}'), 19.90, 'downwards, in tens');
select is(with_rule('{"minimum": "cost * 2"}'), 13.00, 'never below the minimum');
select is(with_rule('{"maximum": 8}'), 8.00, 'never above the maximum');
select is(with_rule('{"minimum": 5, "maximum": "msrp"}'), 10.00, 'in between it is itself');
select is(terms(), '{"minimum": 5, "maximum": 14.99}', 'the limits travel with it');
select is(with_rule('{"minimum": 12, "maximum": 11}'), 10.00, 'limits that contradict each other are no price');
select results_eq($$select code, message from amzmp.penalty where subject = 'MUG' and channel_id = (select de from this)$$,
    $$values ('NO_PRICE', 'the minimum price 12.00 is above the maximum 11.00')$$, 'which is said');
select throws_ok($$select amzmp.set_rule('DE', '{"price": "cost; drop table x"}')$$, 'AZ202', null, 'arithmetic is no SQL');
select throws_ok($$select amzmp.set_rule('DE', '{"price": "pg_sleep(10)"}')$$, 'AZ202', null, 'it calls no function but its own');
select throws_ok($$select amzmp.set_rule('DE', '{"price": "(cost + 1"}')$$, 'AZ202', null, 'it is parsed when it is set');
select throws_ok($$select amzmp.set_rule('DE', '{"discount": 1}')$$, 'AZ202', 'a rule has no parameter "discount"', 'what there is not is refused');
select throws_ok($$select amzmp.set_rule('DE', '{"percent": "much"}')$$, 'AZ202', null, 'so is what is no number');
select throws_ok($$select amzmp.set_rule('DE', '{"buffer": 1}')$$, 'AZ202', '"buffer" belongs to the account, not to a channel', 'stock is the account''s');

/* ---- currencies ---- */

select is(with_rule('{"currency": "usd"}'), 10.00, 'without a rate the price stays');
select is((select message from amzmp.penalty where subject = 'MUG' and channel_id = (select de from this)), 'there is no rate from USD to EUR', 'which is said');
select amzmp.set_rate('seller', 'USD', 'EUR', 0.9, now() - interval '6 days') \g /dev/null
select is(with_rule('{"currency": "USD", "amount": 1, "minimum": 9.5}'), 10.00, 'converted, then changed in the marketplace''s currency');
select ok(l.recompute_at between now() + interval '23 hours' and now() + interval '25 hours', 'it is computed again when the rate grows old')
    from amzmp.listing as l where l.sku = 'MUG' and l.channel_id = :de;
select ok(exists (select from amzmp.task where kind = 'recompute_due' and due_at > now()), 'by a task that waits for that');
update amzmp.task set subject = 'under way', due_at = now() + interval '10 minutes' where kind = 'recompute_due';
update amzmp.listing set recompute_at = now() where sku = 'MUG';
select amzmp._task_recompute_due(:account_id, 'under way', '{}') \g /dev/null
select ok(exists (select from amzmp.task where kind = 'recompute_due' and subject <> 'under way' and due_at > now() + interval '23 hours'),
    'the next time does not end with the task that is performed');
update amzmp.fx_rate set as_of = as_of - interval '2 days';
select is(with_rule('{"currency": "USD", "amount": 5}'), 10.00, 'an old rate makes no new price');
select alike((select message from amzmp.penalty where subject = 'MUG' and channel_id = (select de from this)), 'the rate from USD to EUR of % is too old', 'which is said');
select amzmp.set_rate('seller', 'EUR', 'USD', 1.25) \g /dev/null
select is(with_rule('{"currency": "USD"}'), 8.00, 'the other way round is a rate too');

/* ---- what travels with the price ---- */

select is(with_rule('{"minimum": 8, "maximum": 20, "sale_price": "offer_price * 0.9", "sale_from": "2026-01-01", "sale_to": "sale_end", "business_price": 9.5, "business_tiers": {"10": 5, "5": 3}}'),
    10.00, 'a sale leaves the price');
select is(terms(), '{"minimum": 8, "maximum": 20, "business": {"price": 9.5, "discount": "percent", "tiers": {"5": 3, "10": 5}}}', 'without an end there is no sale');
select reads(10, 20, jsonb_build_object('sale_end', now() + interval '1 day')) \g /dev/null
select is(terms() #>> '{sale,price}', '9.00', 'with one there is');
select ok(l.recompute_at = date_trunc('milliseconds', now() + interval '1 day') or abs(extract(epoch from l.recompute_at - now() - interval '1 day')) < 1, 'and it is computed again at its end')
    from amzmp.listing as l where l.sku = 'MUG' and l.channel_id = :de;
select hurry() \g /dev/null
create temporary table sent as select * from claim('patchListingsItem');
select is((select jsonb_path_query_array(body, '$.patches[*].op') from sent where channel_id = :de), '["merge", "replace"]', 'two patches: the offer, and that for businesses');
select is((select array_agg(k order by k) from sent, jsonb_object_keys(body #> '{patches,0,value,0}') as k where channel_id = :de),
    '{audience,currency,discounted_price,marketplace_id,maximum_seller_allowed_price,minimum_seller_allowed_price,our_price}'::text[],
    'price, limits and sale travel in one instance');
select is((select body #> '{patches,1,value,0}' from sent where channel_id = :de),
    '{"audience": "B2B", "currency": "EUR", "marketplace_id": "A1PA6795UKMFR9", "our_price": [{"schedule": [{"value_with_tax": 9.50}]}],
    "quantity_discount_plan": [{"schedule": [{"discount_type": "percent", "levels":
        [{"lower_bound": 5, "value": 3}, {"lower_bound": 10, "value": 5}]}]}]}'::jsonb, 'tiers in order');
select accept('patchListingsItem') \g /dev/null
select is_empty($$select from amzmp.price_diff where sku = 'MUG' and channel = 'DE'$$, 'accepted, nothing differs');
select reads(10, 20, jsonb_build_object('sale_end', now() - interval '1 second')) \g /dev/null
select hurry() \g /dev/null
select is((select body #> '{patches,0,value,0,discounted_price}' from claim('patchListingsItem') where channel_id = :de), 'null'::jsonb, 'a sale that is over is taken away');
select accept('patchListingsItem') \g /dev/null
select with_rule('{"amount": 0}') \g /dev/null
select hurry() \g /dev/null
select is((select jsonb_path_query_array(body, '$.patches[*].op') from claim('patchListingsItem') where channel_id = :de), '["merge", "delete"]', 'so is what rules no longer want');
select accept('patchListingsItem') \g /dev/null
select is(terms(), '{}', 'then nothing is wanted');

/* ---- the brake holds the terms with the price ---- */

select amzmp.set('seller', 'brake_drop', '0.5') \g /dev/null
select is(with_rule('{"price": 2, "minimum": 1, "maximum": 3}'), 10.00, 'a price that falls by much is held');
select is(terms(), '{}', 'and the limits that belong to it');
select amzmp.release_brake('seller', (select max(batch) from amzmp.brake)) \g /dev/null
select results_eq($$select price(), terms()$$, $$values (2.00, '{"minimum": 1, "maximum": 3}'::jsonb)$$, 'both are released together');
select with_rule('{"price": 10}') \g /dev/null
select amzmp.set('seller', 'brake_drop', '1') \g /dev/null

/* ---- details ---- */

select amzmp.set_rule('DE', '{"condition": "B", "condition_map": {"B": "used_good"}, "condition_note": "a scratch", "list_price": "msrp", "shipping_template": "proposition", "shipping_map": {"fast": "T-1"}}', 'MUG') \g /dev/null
select reads(10, 20, '{"msrp": 14.99, "proposition": "fast"}') \g /dev/null
select results_eq($$select desired_details from amzmp.details_diff where channel = 'DE'$$,
    $$values ('{"condition": "used_good", "note": "a scratch", "list_price": 14.99, "shipping": "T-1"}'::jsonb)$$, 'condition, note, list price and shipping are compared');
select hurry() \g /dev/null
drop table sent;
create temporary table sent as select * from claim('patchListingsItem');
select results_eq($$select p ->> 'op', p ->> 'path', p -> 'value' -> 0 ->> 'value' from sent, jsonb_array_elements(body -> 'patches') as p
        where channel_id = (select de from this) and p ->> 'path' !~ 'offer' order by 2$$,
    $$values ('replace', '/attributes/condition_note', 'a scratch'), ('replace', '/attributes/condition_type', 'used_good'),
        ('replace', '/attributes/list_price', '14.99'), ('replace', '/attributes/merchant_shipping_group', 'T-1')$$, 'and sent');
select accept('patchListingsItem') \g /dev/null
select is_empty($$select from amzmp.details_diff$$, 'once');
select amzmp.set_rule('DE', '{"condition": null, "condition_note": null, "list_price": null}', 'MUG') \g /dev/null
select hurry() \g /dev/null
select is((select jsonb_agg(jsonb_build_array(p -> 'op', p -> 'path', p #> '{value,0,value}') order by p ->> 'path') from claim('patchListingsItem'), jsonb_array_elements(body -> 'patches') as p
        where channel_id = :de),
    '[["delete", "/attributes/condition_note", null], ["replace", "/attributes/condition_type", "new_new"], ["delete", "/attributes/list_price", null]]',
    'what is named no longer is taken away; a condition becomes the default');
select answer('patchListingsItem', 400, '{}', 'InvalidInput', 'no such attribute') \g /dev/null
select is((select kind from amzmp.penalty where subject = 'MUG' and channel_id = :de), 'details', 'a refusal holds back the details alone');

/* ---- stock ---- */

create function with_stock_rule(parameters jsonb) returns integer language plpgsql as $$
begin
    perform amzmp.drop_rule('seller', 'MUG');
    perform amzmp.set_rule('seller', parameters, 'MUG');
    return quantity();
end
$$;
insert into amzmp.reservation (account_id, amazon_order_id, order_item_id, sku, quantity) select account_id, 'o', 'i', 'MUG', 2 from this;
select amzmp.set('seller', 'buffer_stock', '3') \g /dev/null
select is(with_stock_rule('{"lead_time": 1}'), 15, 'reservations and the buffer of the setting are kept back');
select is(with_stock_rule('{"buffer": 1}'), 17, 'a rule''s buffer goes before the setting');
select is(with_stock_rule('{"buffer": 1, "stock_percent": 50}'), 8, 'a share, rounded down');
select is(with_stock_rule('{"maximum_quantity": 7}'), 7, 'no more than the maximum');
select is(with_stock_rule('{"minimum_quantity": 16}'), 0, 'fewer than the minimum is none');
select is(with_stock_rule('{"threshold": 15, "low_quantity": 4, "high_quantity": 9}'), 4, 'at the threshold the low quantity');
select is(with_stock_rule('{"threshold": 14, "low_quantity": 4, "high_quantity": 9}'), 9, 'above it the high one');
select is(with_stock_rule('{"threshold": 14, "high_quantity": 90}'), 15, 'never more than there is');
select is(with_stock_rule('{"fixed_quantity": 999}'), 999, 'a fixed quantity is one whatever there is');
select is(with_stock_rule('{"quantity": "quantity * 2"}'), 35, 'the quantity may be calculated');
select throws_ok($$select amzmp.set_rule('seller', '{"quantity": "nothing_known"}')$$, 'AZ202', null, 'from values that there are');

update amzmp.inventory set remote_quantity = 40, submitted_quantity = 40 where sku = 'MUG';
select is(with_stock_rule('{"damping": 5}'), 15, 'damping does not change what is wanted');
select is_empty($$select from amzmp.stock_diff where sku = 'MUG' and desired_terms is null$$, 'but while both are above it nothing differs');
select is((select i.quantity_differs from amzmp.inventory as i where i.sku = 'MUG'), true, 'but for the lead time that is no longer wanted');
update amzmp.inventory set desired_terms = null where sku = 'MUG';
select reads(10, 9) \g /dev/null
select is((select i.quantity_differs from amzmp.inventory as i where i.sku = 'MUG'), true, 'few units are sent as they are');

/* ---- lead time ---- */

update amzmp.inventory set remote_quantity = 15, remote_terms = '{}', in_flight_request = null where sku = 'MUG';
delete from amzmp.request;
select reads(10, 20) \g /dev/null
select is_empty($$select from amzmp.stock_diff$$, 'nothing differs');
select with_stock_rule(jsonb_build_object('lead_time', 4, 'restock_date', current_date + 10)) \g /dev/null
select results_eq($$select desired_quantity, remote_quantity, desired_terms ->> 'lead_time' from amzmp.stock_diff$$, $$values (15, 15, '4')$$, 'a lead time is a difference by itself');
select is((select body #> '{patches,0}' from claim('patchListingsItem')), jsonb_build_object('op', 'merge', 'path', '/attributes/fulfillment_availability', 'value',
        jsonb_build_array(jsonb_build_object('fulfillment_channel_code', 'DEFAULT', 'quantity', 15, 'lead_time_to_ship_max_days', 4, 'restock_date', current_date + 10))),
    'and is sent, with the quantity');
select accept('patchListingsItem') \g /dev/null
select is_empty($$select from amzmp.stock_diff$$, 'once');
select reads(10, 18) \g /dev/null
select is((select body #>> '{patches,0,value,0,lead_time_to_ship_max_days}' from claim('patchListingsItem')), '4', 'a later quantity does not reset it');
select accept('patchListingsItem') \g /dev/null
select with_stock_rule('{"lead_time": "lead_time"}') \g /dev/null
select is((select body #> '{patches,0,value,0}' from claim('patchListingsItem')), '{"quantity": 13, "restock_date": null, "lead_time_to_ship_max_days": null, "fulfillment_channel_code": "DEFAULT"}'::jsonb,
    'what is no longer wanted is taken away');
select accept('patchListingsItem') \g /dev/null

/* ---- what is not sent ---- */

select amzmp.set_rule('DE', '{"send": ["details"]}', 'MUG') \g /dev/null
select reads(12, 18) \g /dev/null
select results_eq($$select channel from amzmp.price_diff$$, array['FR'], 'without price in send the price is left to others');
select amzmp.set_rule('seller', '{"send": ["price", "details"]}', 'MUG') \g /dev/null
select reads(12, 5) \g /dev/null
select is_empty($$select from amzmp.stock_diff$$, 'without stock the stock is');
select amzmp.set_rule('seller', '{"send": null}', 'MUG') \g /dev/null
select isnt_empty($$select from amzmp.stock_diff$$, 'and is sent again when it may');

/* ---- in bulk ---- */

insert into amzmp.rule_input (account_or_channel, sku, parameters) values ('FR', 'MUG', '{"percent": 50}'), ('FR', 'VASE', '{"percent": 1}');
select is(price('FR'), 18.00, 'rows of the view are rules');
select is((select parameters from amzmp.rule_input where account_or_channel = 'FR' and sku = 'VASE'), '{"percent": 1}', 'and are shown by it');
delete from amzmp.rule_input where account_or_channel = 'FR';
select is(price('FR'), 12.00, 'deleting drops them');

select * from finish();
rollback;
