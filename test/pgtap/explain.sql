-- explain.sql
-- explain_offer leads from the shop's row to the value at Amazon, step by step, with what was really computed.

begin;
\ir listing_setup.psql

select live('MUG', 10, 20) \g /dev/null
select throws_ok($$select amzmp.explain_offer('DE', 'NONE')$$, 'AZ201', null, 'there is nothing to explain about what was never published');
select results_eq($$select facet, step, before_value, after_value from amzmp.explain_offer('DE', 'MUG') where facet <> 'state'$$,
    $$values ('price', 'shop', null, '10'), ('price', 'desired', '10', '10'), ('price', 'submitted', null, '10'), ('price', 'expected', null, '10'),
        ('price', 'observed', null, '10'), ('stock', 'shop', null, '20'), ('stock', 'desired', '20', '20'), ('stock', 'submitted', null, '20'),
        ('stock', 'expected', null, '20'), ('stock', 'observed', null, null)$$, 'without rules there is little to tell');

select amzmp.set('seller', 'brake_rise', '1000') \g /dev/null
select amzmp.set_rule('seller', '{"percent": 10, "buffer": 2, "stock_percent": 50, "threshold": 5, "high_quantity": 6, "maximum_quantity": 4}') as general \gset
select amzmp.set_rate('seller', 'USD', 'EUR', 0.5) \g /dev/null
select amzmp.set_rule('DE', '{"currency": "USD", "amount": 1, "round_ending": 0.99, "minimum": 8, "maximum": 20}', 'MUG') as special \gset
insert into amzmp.reservation (account_id, amazon_order_id, order_item_id, sku, quantity) select account_id, 'o', 'i', 'MUG', 3 from this;
select shop('MUG', 10, 20) \g /dev/null
select results_eq($$select step, before_value::numeric, after_value::numeric, rule_id from amzmp.explain_offer('DE', 'MUG') where facet = 'price' limit 7$$,
    format($$values ('shop', null, 10, null), ('currency', 10, 5.0, %1$s), ('change', 5.0, 6.5, %1$s), ('rounding', 6.5, 6.99, %1$s),
        ('minimum', 6.99, 8, %1$s), ('maximum', 8, 8, %1$s), ('desired', 8::numeric, 8::numeric, null::bigint)$$, :special), 'each rule with its values and its number');
select results_eq($$select step, before_value::numeric, after_value::numeric, rule_id from amzmp.explain_offer('DE', 'MUG') where facet = 'stock' limit 7$$,
    format($$values ('shop', null, 20, null), ('reservations', 20, 17, null), ('buffer', 17, 15, %1$s), ('per cent', 15, 7, %1$s),
        ('threshold', 7, 6, %1$s), ('minimum and maximum', 6, 4, %1$s), ('desired', 4::numeric, 4::numeric, null::bigint)$$, :general), 'the same for stock');
select is(e.after_value::numeric, l.desired_price, 'the last step is what is wanted')
    from amzmp.explain_offer('DE', 'MUG') as e, amzmp.listing as l where e.facet = 'price' and e.step = 'desired' and l.sku = 'MUG';
select is(note, 'differs from desired, to be sent', 'a difference is told') from amzmp.explain_offer('DE', 'MUG') where facet = 'price' and step = 'expected';

select amzmp.set('seller', 'brake_rise', '0.1') \g /dev/null
select amzmp.set_rule('DE', '{"minimum": 12}', 'MUG') \g /dev/null
select matches(note, '^the brake keeps 12 in batch \d+ \(held\): a price changes', 'so is the brake') from amzmp.explain_offer('DE', 'MUG') where facet = 'price' and step = 'desired';
select count(*) from claim('patchListingsItem') \g /dev/null
select isnt_empty($$select from amzmp.explain_offer('DE', 'MUG') where facet = 'price' and step = 'in flight' and after_value = '8'$$, 'what is in flight');
select answer('patchListingsItem', 400, '{}', 'InvalidInput', 'no') \g /dev/null
select matches(note, '^InvalidInput: no; again ', 'and the penalty') from amzmp.explain_offer('DE', 'MUG') where facet = 'price' and step = 'penalty';
select amzmp.stop('DE', '{MUG}') \g /dev/null
select is(note, 'stopped by person', 'or who stopped it') from amzmp.explain_offer('DE', 'MUG') where step = 'not wanted';

select * from finish();
rollback;
