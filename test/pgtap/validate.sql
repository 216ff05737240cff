-- validate.sql
-- A product is checked before it is published: by ourselves, by its product type's definition, by Amazon's restrictions, and by a
-- preview. Nothing changes.

\ir connection_setup.psql

select amzmp.create_account('seller', 'EU', 'app', 'A1DEMOSELLER', mode => 'mock', endpoint => simulator(), rate_scale => 0) as account_id \gset
select amzmp.set_credentials('seller', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo') \g /dev/null
select amzmp.create_channel('DE', 'seller', 'DE') as de \gset
select amzmp.activate('seller'), amzmp.activate('DE') \g /dev/null
insert into amzmp.source (account_id, source_id, relation, expressions, fields, sku_type, run_as, state)
values (:account_id, 900001, 'shop.product', '{}', '', 'text', current_user, 'held');
create function known(outcome text) returns jsonb language sql as $$
    select control('GET', 'catalog/eans?count=1&outcome=' || outcome) #> '{eans,0}'
$$;
select known('single') ->> 'ean' as good, known('single') #>> '{asins,0}' as asin, known('approval') ->> 'ean' as restricted,
    known('approval') #>> '{asins,0}' as restricted_asin \gset
insert into amzmp.product (account_id, source_id, sku, price, quantity, ean, asin, condition)
values (:account_id, 900001, 'GOOD', 10, 5, :'good', :'asin', 'new_new'),
    (:account_id, 900001, 'RESTRICTED', 10, 5, :'restricted', :'restricted_asin', null),
    (:account_id, 900001, 'BAD', 0, null, '4006381333932', null, 'rather worn'),
    (:account_id, 900001, 'UNMATCHED', 10, 5, :'good', null, null);

-- Amazon is asked in the statement itself, before pgTAP writes down what came of it.
select is((select string_agg(concat(check_name, ' ', state), ', ') from amzmp.validate('DE', 'GOOD')),
    'product ok, sku ok, active ok, identifier ok, price ok, stock ok, condition ok, definition skipped, restrictions ok, preview ok',
    'nothing against it');
select is((select detail from amzmp.validate('DE', 'RESTRICTED') where check_name = 'restrictions' and state = 'error'),
    'You need approval to list. (APPROVAL_REQUIRED)', 'what the seller may not offer');
select set_eq($$select check_name, state, detail from amzmp.validate('DE', 'BAD') where state <> 'ok'$$,
    $$values ('identifier', 'error', 'check digit of ''4006381333932'' is 2, expected 1'), ('price', 'error', 'the shop''s price 0 cannot be sent'),
        ('stock', 'error', 'the shop gives no quantity'),
        ('condition', 'warning', '''rather worn'' is no condition that Amazon knows; a rule''s condition_map can say which it is'),
        ('amazon', 'skipped', 'Amazon is asked when our own checks find nothing')$$, 'what we find ourselves');
select is((select string_agg(concat_ws(' ', check_name, state, detail), ', ') from amzmp.validate('DE', 'UNMATCHED') where check_name in ('catalog', 'preview')),
    format('catalog ok barcode %s is item %s, preview ok Amazon says VALID', :'good', :'asin'), 'an ASIN that is not given is looked up');
select is((select state from amzmp.validate('DE', 'UNMATCHED', :'asin') where check_name = 'preview'), 'ok', 'one can be named');
select set_eq($$select check_name, state, detail from amzmp.validate('DE', 'NONE') where state <> 'ok'$$,
    $$values ('product', 'error', 'no attached source has this product'), ('amazon', 'skipped', 'Amazon is asked when our own checks find nothing')$$, 'a product that is not there');
select amzmp.set_rule('DE', '{"minimum": 8, "maximum": 20, "sale_price": "offer_price * 0.9", "sale_from": "2026-01-01", "sale_to": "2099-01-01",
    "business_price": 9, "business_tiers": {"5": 3, "10": 5}, "list_price": 15, "condition": "used_good",
    "condition_note": "a scratch", "shipping_template": "T-1"}') \g /dev/null
select amzmp.set_rule('seller', '{"lead_time": 3, "restock_date": "2099-01-01"}') \g /dev/null
select is((select string_agg(concat(check_name, ': ', detail), ', ') from amzmp.validate('DE', 'GOOD') where state <> 'ok' and check_name <> 'definition'), null,
    'Amazon understands all that a rule can say');
select results_eq($$select (select count(*) from amzmp.listing), (select count(*) from amzmp.request)$$,
    $$values (0::bigint, 0::bigint)$$, 'and nothing has changed');

select * from finish();
