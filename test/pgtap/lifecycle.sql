-- lifecycle.sql
-- Who may stop an offer and who may bring it back: persons, conditions of the shop, and the channel's own source.

begin;
\ir listing_setup.psql

select live('MUG', 10, 5) \g /dev/null
select live('MUG', 10, 5, :fr) \g /dev/null
select live('CUP', 10, 5) \g /dev/null
insert into amzmp.source_value (account_id, source_id, name, expression)
select account_id, 900001, v, v from this, unnest('{list_if,stop_if,relist_if}'::text[]) as v;

create function says(sku text, extra jsonb) returns void language sql volatile as $$
    update amzmp.product as p set extra = says.extra where p.sku = says.sku and p.source_id = 900001;
    select amzmp._recompute((select account_id from this), array[says.sku], '{"role": "shop"}')
$$;
create function stopped(sku text, place text default 'DE') returns text language sql volatile as $$
    select concat_ws(' ', case when l.wanted then 'wanted' else 'off' end, l.stopped_by)
    from amzmp.listing as l join amzmp.channel as c using (account_id, channel_id) where l.sku = stopped.sku and c.name = place
$$;
create function quantity(sku text) returns integer language sql volatile as $$
    select i.desired_quantity from amzmp.inventory as i where i.sku = quantity.sku
$$;

/* ---- a person ---- */

select is(amzmp.stop('DE', '{CUP}'), 1, 'a person stops an offer');
select results_eq($$select stopped('CUP'), quantity('CUP')$$, $$values ('off person', 0)$$, 'it goes off sale');
select is(amzmp.stop('DE', '{CUP}'), 0, 'once');
select says('CUP', '{"relist_if": "true"}') \g /dev/null
select is(stopped('CUP'), 'off person', 'no condition brings it back');
select shop('CUP', 10, 50) \g /dev/null
select is(quantity('CUP'), 0, 'nor does new stock');
select is(amzmp.relist('DE', '{CUP}'), 1, 'a person does');
select results_eq($$select stopped('CUP'), quantity('CUP')$$, $$values ('wanted', 50)$$, 'with the stock of now');
select is(amzmp.relist('DE', '{CUP}'), 0, 'once');
select is(amzmp.stop('DE', '{MUG}'), 1, 'where another channel offers it');
select is(quantity('MUG'), 5, 'the stock stays');
select is(due(), 'deleteListingsItem/MUG patchListingsItem/CUP', 'and this marketplace''s offer is deleted');
select count(*) from claim('deleteListingsItem') \g /dev/null
select accept('deleteListingsItem') \g /dev/null
select is(o.state, 'removed', 'it is gone there') from amzmp.offer as o where o.sku = 'MUG' and o.channel = 'DE';
select is(amzmp.relist('DE', '{MUG}'), 1, 'brought back');
select is(o.state, 'queued', 'it begins anew') from amzmp.offer as o where o.sku = 'MUG' and o.channel = 'DE';
select is(amzmp.stop('DE', '{MUG}'), 1, 'stopped once more');
select amzmp.unpublish('DE', '{MUG}') \g /dev/null
select is(stopped('MUG'), 'off', 'what is unpublished is stopped by nobody');
select is(amzmp.relist('DE', '{MUG}'), 0, 'and is no matter of relist');
select throws_ok($$select amzmp.stop('NO', '{MUG}')$$, 'AZ201', null, 'the channel must exist');

/* ---- conditions ---- */

select says('CUP', '{"stop_if": "true"}') \g /dev/null
select results_eq($$select stopped('CUP'), quantity('CUP')$$, $$values ('off rule', 0)$$, 'stop_if stops');
select says('CUP', '{"stop_if": "false"}') \g /dev/null
select results_eq($$select stopped('CUP'), quantity('CUP')$$, $$values ('wanted', 50)$$, 'and lets go');
select says('CUP', '{"stop_if": "true", "relist_if": "false"}') \g /dev/null
select says('CUP', '{"stop_if": "false", "relist_if": "false"}') \g /dev/null
select is(stopped('CUP'), 'off rule', 'relist_if may ask for more');
select says('CUP', '{"stop_if": "false", "relist_if": "true"}') \g /dev/null
select is(stopped('CUP'), 'wanted', 'until it holds');
select amzmp.stop('DE', '{CUP}') \g /dev/null
select says('CUP', '{"stop_if": "true"}'), says('CUP', '{"stop_if": "false"}') \g /dev/null
select is(stopped('CUP'), 'off person', 'a person''s stop is not undone by a condition');
select amzmp.relist('DE', '{CUP}') \g /dev/null

select shop('NEW', 10, 5, '4006381333931') \g /dev/null
select is_empty($$select from amzmp.listing where sku = 'NEW'$$, 'a new product is not offered by itself');
select says('NEW', '{"list_if": "true"}') \g /dev/null
select results_eq($$select channel, state from amzmp.offer where sku = 'NEW' order by 1$$, $$values ('DE', 'queued'), ('FR', 'queued')$$, 'but where list_if holds');
select shop(' PAD', 10, 5, '4006381333931'), says(' PAD', '{"list_if": "true"}') \g /dev/null
select is_empty($$select from amzmp.listing where sku ~ 'PAD'$$, 'and the SKU is one that Amazon takes');
select isnt_empty($$select from amzmp.activity where subject = ' PAD' and message like 'not published, Amazon takes no such SKU%'$$, 'else it is said');
select amzmp.unpublish('FR', '{NEW}') \g /dev/null
select says('NEW', '{"list_if": "true"}') \g /dev/null
select is(stopped('NEW', 'FR'), 'off', 'what a person took back stays so');

/* ---- the channel's own source ---- */

insert into amzmp.source (account_id, source_id, channel_id, relation, expressions, fields, sku_type, run_as)
select account_id, 900002, de, 'shop.only_de', '{}', '', 'text', current_user from this;
select live('VASE', 20, 7) \g /dev/null
select live('VASE', 20, 7, :fr) \g /dev/null
insert into amzmp.product (account_id, source_id, sku, price, active) select account_id, 900002, 'VASE', 19, true from this;
select amzmp._recompute(:account_id, '{VASE}', '{}') \g /dev/null
select is(stopped('VASE'), 'wanted', 'active in its own source');
update amzmp.product set active = false where source_id = 900002;
select amzmp._recompute(:account_id, '{VASE}', '{}') \g /dev/null
select results_eq($$select stopped('VASE'), stopped('VASE', 'FR'), quantity('VASE')$$, $$values ('off shop', 'wanted', 7)$$,
    'inactive in the channel''s own source it goes off there, and nowhere else');
update amzmp.product set active = true where source_id = 900002;
select amzmp._recompute(:account_id, '{VASE}', '{}') \g /dev/null
select is(stopped('VASE'), 'wanted', 'and comes back');
update amzmp.product set gone = true where source_id = 900002;
select amzmp._recompute(:account_id, '{VASE}', '{}') \g /dev/null
select is(stopped('VASE'), 'off shop', 'so it does when it leaves that source');

/* ---- the brake ---- */

select live('B' || n, 10, 5) from generate_series(1, 60) as n \g /dev/null
update amzmp.product set extra = '{"stop_if": "true"}' where sku like 'B%';
select amzmp._recompute(:account_id, array(select 'B' || n from generate_series(1, 60) as n), '{"role": "shop"}') \g /dev/null
select results_eq($$select channel, facet, reason, changes from amzmp.brake where state = 'held'$$,
    $$values ('DE', 'stop', '60 offers would be stopped at once', 60::bigint)$$, 'a condition that stops many is held');
select is(stopped('B1'), 'wanted', 'they stay on sale');
update amzmp.product set extra = '{"stop_if": "false"}' where sku = 'B1';
select amzmp._recompute(:account_id, '{B1}', '{"role": "shop"}') \g /dev/null
select is((select changes from amzmp.brake where state = 'held'), 59::bigint, 'what is no longer asked for is held no longer');
select is(amzmp.release_brake('seller', (select batch from amzmp.brake where state = 'held')), 59, 'a person releases them');
select results_eq($$select stopped('B1'), stopped('B2'), quantity('B2')$$, $$values ('wanted', 'off rule', 0)$$, 'then they stop');

select * from finish();
rollback;
