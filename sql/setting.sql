-- setting.sql
-- Typed settings of accounts and channels, and the table that defines them: name, type, default, limits, label.
--
-- A setting is looked up at the channel, then at its account, then in its definition. What is set for the whole
-- server (files, databases, limits of processes) is not here but in PostgreSQL's own settings amzmp.*.
--
-- Users add definitions of their own by INSERT and read values from amzmp.setting_effective; values are written by
-- amzmp.set alone, which knows the types. The built-in definitions are filled by this script.
-- The values themselves are read and written by setting_value.sql.

create table amzmp.setting_definition (
    name text primary key,
    scope text not null,
    type text not null,
    label text not null,
    description text not null,
    required_by text[] not null default '{}',
    default_value jsonb,
    choices jsonb,
    minimum numeric,
    maximum numeric,
    pattern text,
    recomputes boolean not null default false,
    built_in boolean not null default false,
    constraint setting_definition_name_check check (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    constraint setting_definition_scope_check check (scope in ('account', 'channel', 'both')),
    constraint setting_definition_type_check check (
        type in ('text', 'integer', 'number', 'boolean', 'interval', 'timestamp', 'json', 'list')
    ),
    constraint setting_definition_default_check check (
        default_value is null
        or case type
            when 'integer' then jsonb_typeof(default_value) = 'number' and mod((default_value #>> '{}')::numeric, 1) = 0
            when 'number' then jsonb_typeof(default_value) = 'number'
            when 'boolean' then jsonb_typeof(default_value) = 'boolean'
            when 'list' then jsonb_typeof(default_value) = 'array'
            when 'json' then true
            else jsonb_typeof(default_value) = 'string'
        end
    ),
    constraint setting_definition_choices_check check (
        choices is null
        or jsonb_typeof(choices) = 'array' and type in ('text', 'list') and (default_value is null or choices @> default_value)
    ),
    -- an expression that is none is an error by itself
    constraint setting_definition_pattern_check check (pattern is null or type = 'text' and coalesce(default_value #>> '{}', '') ~ pattern),
    constraint setting_definition_limits_check check (
        (num_nonnulls(minimum, maximum) = 0 or type in ('integer', 'number', 'interval')) and minimum <= maximum
    )
);

comment on table amzmp.setting_definition is 'The settings there are. Complete enough to make a form from. Add your own by INSERT; the built-in ones cannot be altered.';
comment on column amzmp.setting_definition.name is 'Name of the setting, as amzmp.set takes it.';
comment on column amzmp.setting_definition.scope is 'Where it can be set: account, channel, or both (then the channel''s value goes before the account''s).';
comment on column amzmp.setting_definition.type is 'text, integer, number, boolean, interval, timestamp, json or list (of texts).';
comment on column amzmp.setting_definition.label is 'Short name for people.';
comment on column amzmp.setting_definition.description is 'What it does, in whole sentences.';
comment on column amzmp.setting_definition.required_by is 'Flows that cannot be enabled while it has no value.';
comment on column amzmp.setting_definition.default_value is 'The value where nothing is set; null: none.';
comment on column amzmp.setting_definition.choices is 'The values allowed, a JSON array of texts; null: any. For a list, of its elements.';
comment on column amzmp.setting_definition.minimum is 'Smallest number allowed; seconds for an interval.';
comment on column amzmp.setting_definition.maximum is 'Greatest number allowed; seconds for an interval.';
comment on column amzmp.setting_definition.pattern is 'A regular expression that a text must match; null: any text.';
comment on column amzmp.setting_definition.recomputes is 'Does a change alter prices or stock, so that attached sources are read anew?';
comment on column amzmp.setting_definition.built_in is 'Does it belong to amzmp?';

-- The owner passes; everybody else sees all definitions and writes only those of their own making, and who is limited to some
-- accounts none, because they hold for all. Policies and not a trigger, because a reference table carries none.
alter table amzmp.setting_definition enable row level security;
create policy setting_definition_read on amzmp.setting_definition for select using (true);
create policy setting_definition_add on amzmp.setting_definition for insert with check (not built_in and amzmp._may_see(0, current_user));
create policy setting_definition_change on amzmp.setting_definition for update using (not built_in and amzmp._may_see(0, current_user))
    with check (not built_in);
create policy setting_definition_remove on amzmp.setting_definition for delete using (not built_in and amzmp._may_see(0, current_user));
grant insert, update, delete on amzmp.setting_definition to amzmp_admin;

create table amzmp.setting (
    account_id bigint not null,
    channel_id bigint not null default 0,
    name text not null,
    value jsonb not null,
    set_at timestamptz not null default now(),
    set_by text not null,
    primary key (account_id, channel_id, name)
);

comment on table amzmp.setting is 'The values that have been set, by amzmp.set. amzmp.setting_effective shows what holds, defaults included.';
comment on column amzmp.setting.account_id is 'The account.';
comment on column amzmp.setting.channel_id is 'The channel; 0: the account itself.';
comment on column amzmp.setting.name is 'The setting.';
comment on column amzmp.setting.value is 'Its value, of the type that the definition names.';
comment on column amzmp.setting.set_at is 'When it was set.';
comment on column amzmp.setting.set_by is 'The role that set it.';

-- Stock and price.
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, choices, recomputes, description)
values
    (true, 'buffer_stock', 'account', 'integer', 'Buffer stock', '0', 0, 1000000, null, true,
        'Units that are kept back: Amazon is told the stock less this number, never less than 0.'),
    (true, 'handling_days', 'both', 'integer', 'Handling time in days', null, 0, 30, null, true,
        'Days between order and dispatch that offers promise, where the source names no lead time of its own. Without it the offer says nothing and Amazon''s default holds.'),
    (true, 'condition_default', 'both', 'text', 'Condition', '"new_new"', null, null,
        '["new_new", "new_open_box", "new_oem", "refurbished_refurbished", "used_like_new", "used_very_good", "used_good", "used_acceptable", "collectible_like_new", "collectible_very_good", "collectible_good", "collectible_acceptable", "club_club"]', true,
        'Condition of offers whose source names none.'),
    (true, 'merchant_shipping_group', 'channel', 'text', 'Shipping template', null, null, null, null, true,
        'Id of the shipping template that offers use. Without it the seller''s default template holds.'),
    (true, 'send_offers', 'both', 'boolean', 'Offers are sent', 'true', null, null, null, true,
        'Main switch for prices, stock and details. While it is off nothing is published or revised; what is stopped or has left the shop still goes off sale.'),
    (true, 'send_content', 'both', 'boolean', 'Content is sent', 'false', null, null, null, true,
        'Main switch for product attributes and relations. A product''s are sent where its rule''s send names content, too.'),
    (true, 'send_images', 'both', 'boolean', 'Images are sent', 'false', null, null, null, true,
        'Main switch for images; off means that they are managed at Amazon. A product''s are sent where its rule''s send names images, too.'),
    (true, 'on_remove', 'both', 'text', 'When a product leaves the shop', '"zero"', null, null, '["zero", "delete"]', false,
        'zero sets the stock at Amazon to 0 and keeps the offer; delete removes the offer.'),
    (true, 'price_first_wait', 'both', 'interval', 'Stock waits for the price', '"00:10:00"', 0, 86400, null, false,
        'When stock comes back and the price differs, the price goes first; stock follows when the offer shows that price, or after this time.'),
    (true, 'lost_answer_grace', 'account', 'interval', 'Grace after a lost answer', '"00:02:00"', 0, 86400, null, false,
        'How long a write whose answer was lost may still take effect at Amazon. After it the values are sent once more.'),
    (true, 'verdict_wait', 'both', 'interval', 'A price shows within', '"00:15:00"', 60, 604800, null, false,
        'How long a price that Amazon accepted may take to show. Until then a different one that is seen there is the one before.'),
    (true, 'rescan_interval', 'account', 'interval', 'Compare everything every', '"1 day"', 60, 31536000, null, false,
        'How often a source is read whole, for changes that no trigger sees.');

-- The brake: what holds a change that looks like a mistake.
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'brake_share', 'both', 'number', 'Brake: share of offers', '0.10', 0, 1,
        'When more than this share of the live offers would be stopped, zeroed or greatly repriced within brake_window, the change is held for a person.'),
    (true, 'brake_minimum', 'both', 'integer', 'Brake: number of offers', '50', 0, null,
        'Fewer offers than this never trip the brake.'),
    (true, 'brake_window', 'both', 'interval', 'Brake: window', '"00:10:00"', 1, 86400,
        'The time within which changes are counted together.'),
    (true, 'brake_drop', 'both', 'number', 'Brake: price cut', '0.5', 0, 1,
        'A price that falls by more than this share counts for the brake: 0.5 means to less than half.'),
    (true, 'brake_rise', 'both', 'number', 'Brake: price rise', '1.0', 0, null,
        'A price that rises by more than this share counts for the brake: 1.0 means to more than double.');

-- Orders coming in.
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, choices, description)
values
    (true, 'order_start', 'account', 'timestamp', 'Orders from', null, null, null, null,
        'Orders placed earlier are not imported. Without it, the first run looks back for order_look_back and imports what has changed since, but for orders placed before and shipped or cancelled by now.'),
    (true, 'order_look_back', 'account', 'interval', 'First look-back', '"12:00:00"', 0, 2592000, null,
        'How far the very first run looks back. Later ones go on where the last one ended.'),
    (true, 'order_overlap', 'account', 'interval', 'Overlap', '"00:10:00"', 120, 86400, null,
        'How far each run goes back behind the end of the last one, because Amazon shows some changes late.'),
    (true, 'order_statuses', 'both', 'list', 'Statuses imported', '["UNSHIPPED", "PARTIALLY_SHIPPED", "SHIPPED"]', null, null,
        '["PENDING_AVAILABILITY", "PENDING", "UNSHIPPED", "PARTIALLY_SHIPPED", "SHIPPED", "INVOICE_UNCONFIRMED", "CANCELLED", "UNFULFILLABLE"]',
        'An order is handed to the shop when it reaches one of these. Pending orders reserve stock all the same, and cancelled ones release it.'),
    (true, 'order_fulfillment', 'both', 'text', 'Orders shipped by', '"all"', null, null, '["all", "merchant", "amazon"]',
        'Import all orders, only those that the merchant ships, or only those that Amazon ships.'),
    (true, 'item_key', 'account', 'text', 'Items are found by', '"sku"', null, null, '["sku", "asin"]',
        'Whether an ordered item is looked for among the shop''s products by its SKU or by its ASIN.'),
    (true, 'order_number_prefix', 'both', 'text', 'Order number prefix', '""', null, null, null,
        'What {prefix} stands for in order_number_format.'),
    (true, 'order_number_prefix_business', 'both', 'text', 'Prefix of businesses'' orders', null, null, null, null,
        'What {prefix} stands for in orders of businesses (Amazon Business). Not set: as for others.'),
    (true, 'order_number_prefix_prime', 'both', 'text', 'Prefix of Prime orders', null, null, null, null,
        'What {prefix} stands for in Prime orders that are none of a business. Not set: as for others.'),
    (true, 'order_number_prefix_amazon', 'both', 'text', 'Prefix of orders that Amazon ships', null, null, null, null,
        'What {prefix} stands for in orders that Amazon ships and that are neither. Not set: as for others.'),
    (true, 'use_neighborhood', 'account', 'boolean', 'Neighborhood required', 'false', null, null, null,
        'For delivery functions: must an address name its district or neighborhood?'),
    (true, 'address_per_channel', 'account', 'boolean', 'Addresses by channel', 'false', null, null, null,
        'For delivery functions: are codes of addresses mapped for each channel apart?');

insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, pattern, description)
values
    (true, 'order_number_format', 'both', 'text', 'Order number', '"{amazon_id}"',
        '^([^{}]|\{(amazon_id|n[123]|prefix|marketplace|fulfill?ment|number)\})*$',
        'How the shop''s order number is made. Placeholders: {amazon_id}, its three blocks {n1} {n2} {n3}, {prefix}, {marketplace}, {fulfillment}, a running {number}. Example: AMZ-{n1}{n3}{n2}. Empty: Amazon''s number.');

-- Orders going on: dispatch, cancellation, return.
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, required_by, description)
values
    (true, 'send_shipping_info', 'account', 'boolean', 'We tell Amazon about dispatch', null, null, null, '{send_update_orders,get_updated_orders}',
        'True: the shop ships and sends carrier and tracking number to Amazon. False: Amazon ships, and carriers of imported orders are taken from its data. There is no default, because either may be wrong.'),
    (true, 'default_carrier', 'both', 'text', 'Carrier', null, null, null, '{}',
        'Carrier of imported orders, and of shipments for which none is named.'),
    (true, 'keep_carriers', 'account', 'list', 'Carriers left alone', '[]', null, null, '{}',
        'Carriers that are not overwritten by Amazon''s data where Amazon ships.'),
    (true, 'carrier_map', 'account', 'json', 'Carrier names', '{}', null, null, '{}',
        'The shop''s carriers and Amazon''s codes for them, e.g. {"dhl_paket": "DHL"}. Others are sent as Other, with their name.'),
    (true, 'require_tracking', 'account', 'boolean', 'Tracking number required', 'false', null, null, '{}',
        'Shipments without a tracking number are held and listed instead of being sent.'),
    (true, 'cancellation_reason', 'account', 'text', 'Reason of cancellations', null, null, null, '{get_cancel_orders}',
        'The shop''s own reason, written on orders that were cancelled at Amazon.'),
    (true, 'default_reason', 'account', 'text', 'Reason of returns', null, null, null, '{get_refund_orders}',
        'The shop''s own reason for returns whose reason at Amazon is not in refund_reasons.'),
    (true, 'refund_reasons', 'account', 'json', 'Reasons of returns, mapped', '{}', null, null, '{}',
        'Amazon''s reason codes and the shop''s reasons for them, e.g. {"CR-DEFECTIVE": "4"}.'),
    (true, 'refund_start', 'account', 'timestamp', 'Returns from', null, null, null, '{}',
        'Returns requested earlier are not imported. Without it, all that Amazon still shows are.'),
    (true, 'refundable_days', 'account', 'integer', 'Days for returns', '7', 0, 3650, '{}',
        'Returns later than this after the order are kept, and marked as late.');

-- What is kept, and for how long.
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, choices, description)
values
    (true, 'request_retention', 'account', 'interval', 'Finished requests are kept for', '"7 days"', 0, null, null,
        'How long finished requests stay in the log.'),
    (true, 'keep_bodies', 'account', 'boolean', 'Keep bodies', 'false', null, null, null,
        'Keep what was sent and answered, for finding faults. Tokens are masked, buyers'' data is sealed.'),
    (true, 'body_retention', 'account', 'interval', 'Bodies are kept for', '"1 day"', 0, 2592000, null,
        'How long such bodies are kept.'),
    (true, 'activity_level', 'both', 'text', 'Log from', '"info"', null, null, '["debug", "info", "notice", "warning", "error"]',
        'The least severe entries that are written to the activity log.'),
    (true, 'activity_retention', 'account', 'interval', 'The log is kept for', '"30 days"', 0, null, null,
        'How long entries of the activity log are kept.'),
    (true, 'personal_data_retention', 'account', 'interval', 'Buyers'' data is kept for', '"30 days"', 0, 2592000, null,
        'How long buyers'' personal data is kept after delivery. Amazon''s policy allows 30 days.');
