-- product_types.sql
-- Definitions of product types: fetched, checked by checksum, kept as rows, used for the form of attributes, for validate, and before
-- a product is created; and what becomes of those that cannot be had.

\ir connection_setup.psql

select amzmp.create_account('seller', 'EU', 'app', 'A1DEMOSELLER', mode => 'mock', endpoint => simulator(), rate_scale => 0) as account_id \gset
select amzmp.set_credentials('seller', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo') \g /dev/null
select amzmp.create_channel('DE', 'seller', 'DE') as de \gset
select amzmp.activate('seller'), amzmp.activate('DE') \g /dev/null
select amzmp.set('DE', 'send_content', 'true') \g /dev/null
select amzmp.set_rule('seller', '{"send": ["price", "stock", "details", "content"]}') \g /dev/null
insert into amzmp.source (account_id, source_id, relation, expressions, fields, sku_type, run_as, state)
values (:account_id, 900001, 'shop.product', '{}', '', 'text', current_user, 'held');
create table this as select :account_id::bigint as account_id, :de::bigint as de;
-- A barcode that no item has.
select control('GET', 'catalog/eans?count=1&outcome=none') #>> '{eans,0,ean}' as ean \gset

create function product(sku text, attributes jsonb, product_type text default 'TABLE_LAMP', title text default 'Blue table lamp') returns void
    language sql as $$
    insert into amzmp.product (account_id, source_id, sku, price, quantity, title, ean, extra)
    select t.account_id, 900001, $1, 10, 5, $4, current_setting('test.ean'), jsonb_build_object('attributes', $2::text, 'product_type', $3) from this as t
    on conflict (account_id, source_id, sku) do update set extra = excluded.extra
$$;
select set_config('test.ean', :'ean', false) \g /dev/null
create function verdict(sku text) returns table (check_name text, state text, detail text) language sql as $$
    select * from amzmp.validate('DE', $1) as v where v.state <> 'ok'
$$;

/* ---- which type ---- */

select product('LAMP', '{"item_name": "Lamp", "brand": "Nordlicht", "power_source": "mains", "room_note": "Study", "style": "modern",
    "color": "blue", "bullet_point": ["1", "2", "3", "4", "5", "6"], "magic": true, "number_of_items": 0}') \g /dev/null
select is((select string_agg(product_type, ', ') from amzmp.search_product_types('DE', sku => 'LAMP')), 'TABLE_LAMP', 'a type is proposed by the shop''s title');
select is((select string_agg(product_type, ', ') from amzmp.search_product_types('DE', keywords => '{cup,mug}')), 'DRINKING_CUP, MUG', 'or by keywords');
select is((select display_name from amzmp.search_product_types('DE', item_name => 'A large mug')), 'Mug', 'or by a name');
select throws_like($$select * from amzmp.search_product_types('DE')$$, 'give keywords, a name, or the SKU%', 'one of the three is needed');
select throws_like($$select * from amzmp.search_product_types('DE', sku => 'NONE')$$, 'the shop gives no title%', 'a SKU without a title says nothing');

/* ---- fetched and read ---- */

select throws_ok($$select * from amzmp.product_type_rules('DE', 'TABLE_LAMP')$$, 'AZ201', 'the definition of product type ''TABLE_LAMP'' is not here',
    'what is not here is not shown');
select throws_like($$select amzmp.fetch_product_type('DE', 'table lamp')$$, 'not a product type%', 'names are checked');
select amzmp.fetch_product_type('DE', 'TABLE_LAMP') \g /dev/null
select amzmp.fetch_product_type('DE', 'TEA_COSY') \g /dev/null
select amzmp.fetch_product_type('DE', 'LEGACY_LAMP') \g /dev/null
select becomes($$(select count(*) from amzmp.product_type where state = 'known') = 1$$, 'a definition arrives');
select results_eq($$select display_name, version, locale, closed from amzmp.product_type where product_type = 'TABLE_LAMP'$$,
    $$values ('Table lamp', 'TABLE_LAMP-1', 'de_DE', true)$$, 'with its name and version');
select becomes($$(select count(*) from amzmp.product_type where state = 'absent') = 2$$, 'what Amazon does not have');
select set_eq($$select product_type, reason from amzmp.product_type where state = 'absent'$$,
    $$values ('TEA_COSY', 'Amazon has no such product type'), ('LEGACY_LAMP', 'Amazon answers with the definition of PRODUCT')$$, 'is told apart');
select results_eq($$select path, required, repeats, min_length, max_length, minimum, maximum, max_alike, allowed, suggested,
            selectors, editable
        from amzmp.product_type_rules('DE', 'TABLE_LAMP')
        where path in ('power_source', 'power_source.value', 'light_wattage.value', 'lamp_dimensions.length.unit', 'style.value', 'bullet_point',
            'room_note.value', 'room_note.language_tag', 'externally_assigned_product_identifier') order by path collate "C"$$,
    $$values ('bullet_point', false, true, null::integer, null::integer, null::numeric, null::numeric, 5, null::jsonb, null::jsonb,
            '{marketplace_id,language_tag}'::text[], true),
        ('externally_assigned_product_identifier', false, true, null, null, null, null, 1, null, null, '{marketplace_id,type}', false),
        ('lamp_dimensions.length.unit', true, false, null, null, null, null, null, '["centimeters", "inches"]', null, null, true),
        ('light_wattage.value', true, false, null, null, 1, 250, null, null, null, null, true),
        ('power_source', true, true, null, null, null, null, 1, null, null, '{marketplace_id}', true),
        ('power_source.value', true, false, null, null, null, null, null, '["corded", "battery", "solar"]', null, null, true),
        ('room_note.language_tag', false, false, null, null, null, null, null, '["de_DE"]', null, null, false),
        ('room_note.value', true, false, 1, 60, null, null, null, null, null, null, true),
        ('style.value', true, false, 1, 40, null, null, null, null, '["modern", "classic", "industrial"]', null, true)$$,
    'what its schema says stands in rows');
select is((select labels from amzmp.product_type_rules('DE', 'TABLE_LAMP') where path = 'power_source.value'), '["Mains", "Batteries", "Sunlight"]',
    'with names for people');

/* ---- the form of attributes ---- */

create function formed(attribute text, given jsonb) returns jsonb language sql as $$
    select amzmp._attribute_instances($1, $2, m, amzmp._attribute_tags(t.account_id, t.de, 'TABLE_LAMP'))
    from this as t, amzmp.marketplace as m where m.country_code = 'DE'
$$;
select is(formed('room_note', '"Study"'), '[{"value": "Study", "language_tag": "de_DE", "marketplace_id": "A1PA6795UKMFR9"}]', 'the definition says what has a language');
select is(formed('style', '"modern"'), '[{"value": "modern", "marketplace_id": "A1PA6795UKMFR9"}]', 'and what has none');
select is(formed('room_note', '{"value": "Study"}'), '[{"value": "Study", "language_tag": "de_DE", "marketplace_id": "A1PA6795UKMFR9"}]',
    'an object gets what the definition asks for');
select is(amzmp._attribute_instances('style', '"modern"', m, null), '[{"value": "modern", "language_tag": "de_DE", "marketplace_id": "A1PA6795UKMFR9"}]',
    'without a definition the usual names count') from amzmp.marketplace as m where m.country_code = 'DE';

/* ---- validate ---- */

select is((select string_agg(concat_ws(' ', check_name, state, detail), E'\n') from verdict('LAMP') where check_name in ('catalog', 'definition', 'restrictions')),
    E'definition error magic is not known to the product type (NO_SUCH_ATTRIBUTE)\n'
    'definition error bullet_point has 6 values, at most 5 are allowed (VALUE_INVALID)\n'
    'definition error light_wattage is required (ATTR_REQUIRED)\n'
    'definition error number_of_items.value 0 is less than 1 (VALUE_INVALID)\n'
    'definition error power_source.value ''mains'' is not allowed; allowed are ''corded'', ''battery'', ''solar'' (VALUE_NOT_ALLOWED)\n'
    'restrictions skipped Amazon names restrictions of items in its catalogue, and this product is none yet', 'a new product is compared with its definition');
select is((select count(*)::integer from verdict('LAMP') where check_name = 'preview'), 6, 'Amazon''s preview finds the same');
select is((select detail from amzmp.validate('DE', 'LAMP') where check_name = 'catalog'),
    format('no item in Amazon''s catalogue has barcode %s, the product is created', :'ean'), 'that it is created is said');
select product('LAMP', '{"item_name": "Lamp", "brand": "Nordlicht", "power_source": "battery", "light_wattage": {"value": 4.5, "unit": "watts"}}') \g /dev/null
select is((select string_agg(concat_ws(' ', check_name, state, detail), ', ') from verdict('LAMP') where check_name <> 'restrictions'),
    'preview error Amazon says INVALID, preview error ''number_of_batteries'' is required but not supplied. (90220)',
    'conditions between attributes are left to Amazon''s preview');
select product('LAMP', '{"item_name": "Lamp", "brand": "Nordlicht", "power_source": "corded", "style": "baroque",
    "light_wattage": {"value": 4.5, "unit": "watts"}, "lamp_dimensions": {"length": {"value": 10, "unit": "centimeters"}}}') \g /dev/null
select is((select string_agg(detail, ', ') from verdict('LAMP') where check_name <> 'restrictions'), null, 'a whole one passes');
select is((select string_agg(path || ' ' || message, '; ') from this as t, amzmp.product_type as p, amzmp._definition_problems(p.account_id, p.definition_id,
        '{"item_name": [{"value": 7}], "brand": [{"value": ""}], "power_source": [{"value": "solar", "marketplace_id": "X"}],
          "light_wattage": [{"value": 250.5}],
          "lamp_dimensions": [{"length": {"value": 1, "unit": "feet", "more": 1}}], "room_note": ["Study"]}')
      where p.product_type = 'TABLE_LAMP'),
    'lamp_dimensions.length.more is not known to the product type; room_note must be object, not string; '
    'brand.value has 0 characters, at least 1 are needed; item_name.value must be string, not number; light_wattage.unit is required; '
    'light_wattage.value 250.5 is more than 250; power_source.marketplace_id ''X'' is not allowed; allowed are ''A1PA6795UKMFR9''; '
    'lamp_dimensions.length.unit ''feet'' is not allowed; allowed are ''centimeters'', ''inches''', 'members of values are checked too');
select product('COSY', '{"item_name": "Cosy", "brand": "Nordlicht"}', 'TEA_COSY') \g /dev/null
select is((select detail from verdict('COSY') where check_name = 'definition'), 'the definition of TEA_COSY could not be had: Amazon has no such product type',
    'a type that is none is an error');
select is_empty($$select sku from amzmp.listing union all select sku from amzmp.listing_content$$, 'nothing has changed');

/* ---- before the product is created ---- */

select product('LAMP', '{"item_name": "Lamp", "brand": "Nordlicht", "power_source": "mains"}') \g /dev/null
select amzmp.publish('DE', '{LAMP}') \g /dev/null
select becomes($$(select state from amzmp.listing_status where sku = 'LAMP') = 'rejected'$$, 'what the definition refuses is not sent');
select results_eq($$select code, reason from amzmp.listing_status where sku = 'LAMP'$$,
    $$values ('ATTR_REQUIRED', 'light_wattage is required; power_source.value ''mains'' is not allowed; allowed are ''corded'', ''battery'', ''solar''')$$,
    'and says why');
select is_empty($$select from amzmp.request_log where operation = 'putListingsItem'$$, 'Amazon was not asked to create it');
select results_eq($$select sku, product_type, path, code, remedy is not null from amzmp.content_problems('DE')$$,
    $$values ('LAMP', 'TABLE_LAMP', 'light_wattage', 'ATTR_REQUIRED', true), ('LAMP', 'TABLE_LAMP', 'power_source.value', 'VALUE_NOT_ALLOWED', true)$$,
    'all of a channel can be looked through without asking Amazon');
select is_empty($$select * from amzmp.content_problems('DE', '{OTHER}')$$, 'or some of it');
select product('LAMP', '{"item_name": "Lamp", "brand": "Nordlicht", "power_source": "corded", "room_note": "Study", "style": "modern",
    "light_wattage": {"value": 4.5, "unit": "watts"}}') \g /dev/null
select amzmp._recompute(:account_id, '{LAMP}', '{"role": "shop"}') \g /dev/null
select becomes($$(select state from amzmp.listing where sku = 'LAMP') = 'live'$$, 'mended in the shop it is created');
select product('COSY', '{"item_name": "Cosy", "brand": "Nordlicht"}', 'TEA_COSY') \g /dev/null
select amzmp.publish('DE', '{COSY}') \g /dev/null
select becomes($$(select code from amzmp.listing_status where sku = 'COSY') = 'NO_PRODUCT_TYPE'$$, 'one of no type at all is not sent either');

select is_empty($$select * from amzmp.content_problems('DE', '{LAMP}')$$, 'mended, nothing is wrong');

/* ---- a definition that is on its way, or cannot be had ---- */

select control('POST', 'faults', '{"operation": "getDefinitionsProductType", "kind": "delay", "delay_ms": 2500, "count": 1}') \g /dev/null
select control('POST', 'faults', '{"operation": "downloadDocument", "kind": "truncate", "count": 1}') \g /dev/null
select product('MUG-1', '{"item_name": "Mug", "brand": "Nordlicht", "capacity": {"value": 300, "unit": "milliliters"}}', 'MUG') \g /dev/null
select amzmp.publish('DE', '{MUG-1}') \g /dev/null
select becomes($$(select reason from amzmp.listing_status where sku = 'MUG-1') = 'waits for Amazon''s definition of product type MUG'$$, 'a creation waits for its definition');
select becomes($$(select state from amzmp.product_type where product_type = 'MUG') = 'failed'$$, 'one whose document arrives damaged is not used');
select becomes($$(select state from amzmp.listing where sku = 'MUG-1') = 'live'$$, 'then Amazon alone judges');
select is_empty($$select from amzmp.product_type_attribute join amzmp.product_type as t using (account_id, definition_id)
    where t.product_type = 'MUG'$$,
    'nothing of it is kept');
select amzmp.run_flow('get_product_types', account => 'seller') \g /dev/null
select becomes($$(select state from amzmp.product_type where product_type = 'MUG') = 'known'$$, 'the flow asks for it again');
select becomes($$(select state from amzmp.product_type where product_type = 'PRODUCT') = 'known'$$, 'and for what concerns offers');
select is((select state from verdict('MUG-1') where check_name = 'definition'), null, 'by which offers are checked');

/* ---- kept up to date ---- */

select control('POST', 'product_types', '{"product_type": "MUG", "required": "capacity"}') \g /dev/null
select definition_id as mug, known_at from amzmp.product_type where product_type = 'MUG' \gset
select amzmp._notice_definitions((:account_id, 'n-1', 'PRODUCT_TYPE_DEFINITIONS_CHANGE', null, null, null, now(), 'stored', null,
    '{"MarketplaceId": "A1PA6795UKMFR9"}')::amzmp.notification) is not null as noticed \gset
select amzmp.run_flow('get_product_types', account => 'seller') \g /dev/null
select becomes($$(select version from amzmp.product_type where product_type = 'MUG') = 'MUG-2'$$, 'a notification leads to a look');
select becomes($$(select required from amzmp.product_type_rules('DE', 'MUG') where path = 'capacity')$$, 'and to the new version''s rules');
select is((select t.known_at < t.checked_at from amzmp.product_type as t where t.product_type = 'TABLE_LAMP'), true,
    'a schema that has not changed is not loaded again');
select is((control('GET', 'stats') #>> '{operations,downloadDocument,requests}'), '5', 'each was loaded once, but for the damaged and the changed one');
select is((select count(*)::integer from amzmp.document), 3, 'and one document is kept of each');
select amzmp.create_channel('FR', 'seller', 'FR') \g /dev/null
select amzmp.fetch_product_type('FR', 'TABLE_LAMP') \g /dev/null
select becomes($$(select state from amzmp.product_type where channel_id <> (select de from this)) = 'known'$$, 'each marketplace has its own');
update amzmp.product_type set asked_at = now() - interval '30 days' where channel_id <> :de;
select amzmp.run_flow('get_product_types', account => 'seller') \g /dev/null
select becomes($$not exists (select from amzmp.product_type where channel_id <> (select de from this))$$, 'what nothing needs is forgotten');
select is((control('GET', 'violations') ->> 'count')::integer, 0, 'Amazon was asked nothing that it does not allow');

select * from finish();
