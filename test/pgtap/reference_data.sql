-- reference_data.sql
-- What a user sees of marketplaces, operations and settings: complete, consistent, typed, and closed to writing.

begin;
create extension if not exists pgtap;
select no_plan();

-- Marketplaces.
select results_eq(
    $$select region, count(*)::integer from amzmp.marketplace group by region order by region$$,
    $$values ('EU', 16), ('FE', 3), ('NA', 4)$$,
    'the 23 marketplaces stand in their regions'
);
select results_eq(
    $$select country_code from amzmp.marketplace where currency_decimals = 0$$,
    array['JP'],
    'only yen have no decimals'
);
select set_eq(
    $$select country_code from amzmp.marketplace where invoice_upload$$,
    array['DE', 'ES', 'FR', 'GB', 'IT', 'NL', 'PL', 'SE'],
    'invoices can be uploaded in eight countries'
);
select is_empty(
    $$select country_code from amzmp.marketplace as m left join pg_timezone_names as z on z.name = m.time_zone where z.name is null$$,
    'every time zone is one that PostgreSQL knows'
);
select is((amzmp._marketplace(' uk '::text)).marketplace_id, 'A1F83G8C2ARO7P', 'UK means GB, in any case');
select is((amzmp._marketplace('A1VC38T7YXB528'::text)).country_code, 'JP', 'an id works as well as a code');
select throws_ok(
    $$select amzmp._marketplace('XX'::text)$$, 'AZ201', 'unknown marketplace ''XX''', 'an unknown marketplace is refused'
);

-- Operations.
select is_empty(
    $$select method, path, fixed_params from amzmp.operation where name not like '%:%' group by method, path, fixed_params having count(*) > 1$$,
    'no operation stands there twice, but for feed types with a plan of their own'
);
select set_eq(
    $$select name from amzmp.operation where method <> 'GET' and reads$$,
    array['getFeaturedOfferExpectedPriceBatch', 'getCompetitiveSummary', 'getItemOffersBatch', 'getListingOffersBatch',
        'getMyFeesEstimateForSKU', 'getMyFeesEstimateForASIN', 'getMyFeesEstimates', 'createRestrictedDataToken',
        'previewPutListingsItem', 'previewPatchListingsItem'],
    'these read although their method is not GET'
);
select is_empty(
    $$select name from amzmp.operation where method = 'GET' and not reads$$,
    'every GET reads'
);
select set_eq(
    $$select name from amzmp.operation where after_lost_answer = 'ask'$$,
    array['confirmCustomizationDetails', 'createConfirmDeliveryDetails', 'createLegalDisclosure',
        'createConfirmOrderDetails', 'createConfirmServiceDetails', 'CreateWarranty', 'createDigitalAccessKey',
        'createUnexpectedProblem', 'sendInvoice'],
    'what would reach a buyer twice is left to a person'
);
select results_eq(
    $$select after_lost_answer from amzmp.operation where name in ('createFeed', 'createReport') order by name$$,
    array['look_up', 'look_up'],
    'feeds and reports are looked up before they are made again'
);
select set_eq(
    $$select name from amzmp.operation where restricted$$,
    array['getOrders', 'getOrderV0', 'getOrderBuyerInfo', 'getOrderAddress', 'getOrderItems', 'getOrderItemsBuyerInfo',
        'getOrderRegulatedInfo'],
    'the old orders need a restricted token, the new ones do not'
);
select is_empty(
    $$select name from amzmp.operation where personal and apply_in <> 'runner'$$,
    'answers with buyers'' data are never opened by the sender'
);
select ok(
    (select personal from amzmp.operation where name = 'searchOrders'), 'orders hold buyers'' data'
);
select ok(
    (select bool_and(secret) from amzmp.operation where path like '%/documents' or path like '%/documents/%' or api = 'tokens'),
    'whatever answers with a token or a link to a document is secret'
);
select results_eq(
    $$select name, plan, fixed_params ->> 'mode', app_rate::integer from amzmp.operation where fixed_params is not null order by name$$,
    $$values ('previewPatchListingsItem', 'patchListingsItem', 'VALIDATION_PREVIEW', 20),
        ('previewPutListingsItem', 'putListingsItem', 'VALIDATION_PREVIEW', 20)$$,
    'a preview takes its token from the bucket of the real operation, and from the application''s bucket of previews'
);
select results_eq(
    $$select rate, burst from amzmp.operation where name in ('searchOrders', 'putListingsItem', 'getInvoice') order by rate$$,
    $$values (0.0056, 20::numeric), (1, 1), (5, 5)$$,
    'plans: as published, the lower of two, and a careful one where none is'
);

-- Settings, as their owner would use them.
select amzmp.create_application('tap_app', 'amzn1.application-oa2-client.tap');
select amzmp.create_account('tap_acme', 'EU', 'tap_app', mode => 'mock', endpoint => 'http://127.0.0.1:9',
    token_endpoint => 'http://127.0.0.1:9/auth/o2/token');
select amzmp.create_channel('tap_acme_de', 'tap_acme', 'DE');
create temporary view effective as
select coalesce(channel, account) as place, setting, value #>> '{}' as value, set_at_level
from amzmp.setting_effective
where account = 'tap_acme';

select is((select value from effective where place = 'tap_acme' and setting = 'buffer_stock'), '0', 'there is a default');
select amzmp.set('tap_acme', 'on_remove', 'delete');
select results_eq(
    $$select place, value, set_at_level from effective where setting = 'on_remove' order by place$$,
    $$values ('tap_acme', 'delete', 'account'), ('tap_acme_de', 'delete', 'account')$$,
    'a channel takes its account''s value'
);
select amzmp.set('tap_acme_de', 'on_remove', 'zero');
select results_eq(
    $$select place, value, set_at_level from effective where setting = 'on_remove' order by place$$,
    $$values ('tap_acme', 'delete', 'account'), ('tap_acme_de', 'zero', 'channel')$$,
    'unless it has one of its own'
);
select amzmp.set('tap_acme_de', 'on_remove', null);
select is(
    (select value from effective where place = 'tap_acme_de' and setting = 'on_remove'), 'delete', 'null takes a value away'
);
select is(
    (select set_by from amzmp.setting_effective where account = 'tap_acme' and channel is null and setting = 'on_remove'),
    current_user::text, 'it is known who set it'
);
select amzmp.set('tap_acme', 'order_start', '2026-01-31 12:00+02');
select is(
    (select value::timestamptz from effective where place = 'tap_acme' and setting = 'order_start'),
    timestamptz '2026-01-31 10:00+00', 'a time is kept with its zone'
);
select amzmp.set('tap_acme', 'order_overlap', '1 hour 30 minutes');
select is(
    (select value::interval from effective where place = 'tap_acme' and setting = 'order_overlap'),
    interval '90 minutes', 'a length of time is kept'
);
select amzmp.set('tap_acme', 'order_statuses', 'SHIPPED, UNSHIPPED');
select is(
    (select value::jsonb from effective where place = 'tap_acme' and setting = 'order_statuses'),
    '["SHIPPED", "UNSHIPPED"]'::jsonb, 'a list can be given with commas'
);

-- What is refused, and how.
select throws_ok(
    format('select amzmp.set(%L, %L, %L)', 'tap_acme', setting, value), 'AZ202',
    format('invalid value %L for setting "%s"', value, setting), format('%s is not %s', setting, value)
)
from (
    values
        ('buffer_stock', 'many'), ('buffer_stock', '-1'), ('buffer_stock', '1.5'), ('buffer_stock', '99999999999999999999'),
        ('brake_share', '1.01'), ('brake_share', 'NaN'), ('brake_rise', 'Infinity'),
        ('require_tracking', 'perhaps'),
        ('order_overlap', 'a while'), ('order_overlap', '1 minute'), ('order_overlap', '-1 day'),
        ('order_start', 'tomorrow or so'), ('order_start', 'infinity'),
        ('carrier_map', '{'),
        ('order_statuses', 'SHIPPED, LOST'), ('order_statuses', '["SHIPPED"'), ('order_statuses', '[1]'),
        ('on_remove', 'vanish')
) as wrong (setting, value);
select throws_ok(
    $$select amzmp.set('tap_acme_de', 'buffer_stock', '1')$$, 'AZ202', null, 'an account''s setting is refused to a channel'
);
select throws_ok(
    $$select amzmp.set('tap_acme', 'merchant_shipping_group', 'x')$$, 'AZ202', null, 'and the other way round'
);
select throws_ok(
    $$select amzmp.set('tap_acme', 'bufer_stock', '1')$$, 'AZ201', 'unknown setting ''bufer_stock''', 'an unknown setting is refused'
);
select throws_ok(
    $$select amzmp.set('tap_nobody', 'buffer_stock', '1')$$, 'AZ201', null, 'an unknown account is refused'
);

-- What is missing.
select results_eq(
    $$select flow, setting from amzmp.settings_missing where account = 'tap_acme' order by flow$$,
    $$values ('get_cancel_orders', 'cancellation_reason'), ('get_refund_orders', 'default_reason'),
        ('get_updated_orders', 'send_shipping_info'), ('send_update_orders', 'send_shipping_info')$$,
    'what has no safe default is named, with the flows that need it'
);
select amzmp.set('tap_acme', 'send_shipping_info', 'false');
select is_empty(
    $$select flow from amzmp.settings_missing where account = 'tap_acme' and setting = 'send_shipping_info'$$,
    'false is a value'
);

-- Settings of one's own, and hands off the others.
set local role amzmp_admin;
select lives_ok(
    $$insert into amzmp.setting_definition (name, scope, type, label, description, minimum)
        values ('tap_erp_code', 'account', 'integer', 'ERP code', 'Code of the account in the ERP.', 1)$$,
    'an administrator adds a setting'
);
select throws_ok(
    $$insert into amzmp.setting_definition (name, scope, type, label, description, built_in)
        values ('tap_ours', 'account', 'text', 'x', 'x', true)$$,
    '42501', null, 'but no built-in one'
);
select throws_ok(
    $$insert into amzmp.setting_definition (name, scope, type, label, description) values ('buffer_stock', 'both', 'text', 'x', 'x')$$,
    '23505', null, 'nor one that exists'
);
select throws_ok(
    $$insert into amzmp.setting_definition (name, scope, type, label, description, default_value)
        values ('tap_wrong', 'account', 'integer', 'x', 'x', '1.5')$$,
    '23514', null, 'nor one whose default is of another type'
);
update amzmp.setting_definition set default_value = '9' where name = 'buffer_stock';
delete from amzmp.setting_definition where built_in;
select is(
    (select default_value #>> '{}' from amzmp.setting_definition where name = 'buffer_stock'), '0',
    'built-in definitions stay as they are'
);
select throws_ok(
    $$update amzmp.setting set value = '9'$$, '42501', null, 'values are written by amzmp.set alone'
);
select throws_ok($$delete from amzmp.operation$$, '42501', null, 'operations cannot be altered');
select throws_ok($$update amzmp.marketplace set currency = 'EUR'$$, '42501', null, 'nor marketplaces');
reset role;
select amzmp.set('tap_acme', 'tap_erp_code', '7');
select is(
    (select value from effective where place = 'tap_acme' and setting = 'tap_erp_code'), '7', 'one''s own setting works like any'
);

select * from finish();
rollback;
