-- setting.sql
-- Typed settings of accounts and channels, and the table that defines them: name, type, default, limits, label.
--
-- A setting is looked up at the channel, then at its account, then in its definition. What is set for the whole
-- server (files, databases, limits of processes) is not here but in PostgreSQL's own settings amzmp.*.
--
-- Users add definitions of their own by INSERT and read values from amzmp.setting_effective; values are written by
-- amzmp.set alone, which knows the types. The built-in definitions are filled by this script.

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

-- Bring a value that a person typed into the type of its definition; error AZ202 says what was expected.
create function amzmp._parse_setting(definition amzmp.setting_definition, value text)
    returns jsonb
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
    set intervalstyle = 'postgres'
    set datestyle = 'ISO, YMD'
    set timezone = 'UTC'
as $$
declare
    parsed jsonb;
    size numeric;
    expected text;
begin
    expected := case definition.type
        when 'integer' then 'A whole number'
        when 'number' then 'A number'
        when 'boolean' then 'true or false'
        when 'interval' then 'A length of time such as ''10 minutes'''
        when 'timestamp' then 'A time such as ''2026-01-31T12:00:00Z'''
        when 'json' then 'A JSON value'
        when 'list' then 'A list: a JSON array of texts, or texts separated by commas'
        else 'A text'
    end;
    begin
        case definition.type
            when 'text' then
                parsed := to_jsonb(value);
            when 'integer' then
                size := value::bigint;
                parsed := to_jsonb(size);
            when 'number' then
                size := value::numeric;
                parsed := to_jsonb(size);
            when 'boolean' then
                parsed := to_jsonb(value::boolean);
            when 'interval' then
                size := extract(epoch from value::interval);
                parsed := to_jsonb(value::interval::text);
            when 'timestamp' then
                parsed := case when isfinite(value::timestamptz) then to_jsonb(value::timestamptz) end;
            when 'json' then
                parsed := value::jsonb;
            when 'list' then
                parsed := amzmp._parse_list(value);
        end case;
    exception
        when data_exception then
            parsed := null;
    end;
    expected := expected || case
        when definition.choices is not null then ', of: ' || (
            select string_agg(choice, ', ' order by position)
            from jsonb_array_elements_text(definition.choices) with ordinality as c (choice, position)
        )
        when definition.minimum is not null and definition.maximum is not null then
            format(' from %s to %s', definition.minimum, definition.maximum)
        when definition.minimum is not null then format(', at least %s', definition.minimum)
        when definition.maximum is not null then format(', at most %s', definition.maximum)
        when definition.pattern is not null then format(' that matches %s', definition.pattern)
        else ''
    end || case
        when definition.type = 'interval' and num_nonnulls(definition.minimum, definition.maximum) > 0 then ' seconds'
        else ''
    end;
    if parsed is null
        or size = 'NaN'
        or size in ('Infinity', '-Infinity')
        or size < definition.minimum
        or size > definition.maximum
        or not coalesce(definition.choices @> parsed, true)
        or not coalesce(value ~ definition.pattern, true)
    then
        raise exception using
            errcode = 'AZ202',
            message = format('invalid value %L for setting "%s"', value, definition.name),
            detail = format('Expected: %s.', expected),
            hint = definition.description;
    end if;
    return parsed;
end
$$;

-- The elements of a list, from JSON or from a comma separated text; error 22023 for JSON that is not a list of texts.
create function amzmp._parse_list(value text)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    parsed jsonb;
begin
    if ltrim(value) like '[%' then
        parsed := value::jsonb;
        if jsonb_path_exists(parsed, 'strict $[*] ? (@.type() != "string")') then
            raise exception using errcode = '22023', message = 'list of something else than texts';
        end if;
        return parsed;
    end if;
    return coalesce(
        (
            select jsonb_agg(btrim(element) order by position)
            from regexp_split_to_table(value, ',') with ordinality as e (element, position)
            where btrim(element) <> ''
        ),
        '[]'
    );
end
$$;

-- Set one value, or take it away with null. See amzmp.set.
create function amzmp._set(account_or_channel text, setting text, value text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    target record;
    definition amzmp.setting_definition;
    previous jsonb;
    parsed jsonb;
begin
    select r.account_id, r.channel_id into strict target
    from amzmp._resolve(_set.account_or_channel) as r;
    definition := amzmp._find_setting(_set.setting);
    if definition.scope = 'account' and target.channel_id <> 0 then
        raise exception using
            errcode = 'AZ202',
            message = format('setting "%s" belongs to an account, and %L is a channel', definition.name, _set.account_or_channel),
            hint = (
                select format('Set it for the account: select amzmp.set(%L, %L, %L);', n.name, definition.name, _set.value)
                from amzmp.name as n
                where n.account_id = target.account_id and n.channel_id = 0
            );
    elsif definition.scope = 'channel' and target.channel_id = 0 then
        raise exception using
            errcode = 'AZ202',
            message = format('setting "%s" belongs to a channel, and %L is an account', definition.name, _set.account_or_channel),
            hint = 'Set it for each of the account''s channels.';
    end if;
    previous := amzmp._setting_value(target.account_id, target.channel_id, definition.name);
    if _set.value is null then
        delete from amzmp.setting as s
        where s.account_id = target.account_id and s.channel_id = target.channel_id and s.name = definition.name;
    else
        parsed := amzmp._parse_setting(definition, _set.value);
        insert into amzmp.setting (account_id, channel_id, name, value, set_at, set_by)
        values (target.account_id, target.channel_id, definition.name, parsed, now(), amzmp._caller())
        on conflict (account_id, channel_id, name) do update
        set value = excluded.value, set_at = excluded.set_at, set_by = excluded.set_by;
    end if;
    if definition.recomputes
        and amzmp._setting_value(target.account_id, target.channel_id, definition.name) is distinct from previous
    then
        perform amzmp._setting_recomputes(target.account_id);
    end if;
end
$$;

select amzmp._expose('amzmp._set(text, text, text)', 'amzmp_admin',
    'Set a setting of an account or a channel; null takes it away, so that the account''s value or the default holds again. amzmp.setting_effective lists settings and values.');

-- A value changed that prices or stock follow from: every source of the account is compared whole, and rows that the
-- shop did not change are computed anew as well.
create function amzmp._setting_recomputes(account_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    update amzmp.source as s
    set rescan_due = now(), rescan_requested_at = now(), rescan_reason = 'setting', rescan_force = true
    where s.account_id = _setting_recomputes.account_id;
    if found then
        perform amzmp._wake();
    end if;
end
$$;

-- The definition of a setting; error AZ201 if there is none. (Not named like the table: _table is its array type, and
-- a call with a bare literal would be taken for a cast to it.)
create function amzmp._find_setting(setting text)
    returns amzmp.setting_definition
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    definition amzmp.setting_definition;
begin
    select d.* into definition from amzmp.setting_definition as d where d.name = setting;
    if not found then
        raise exception using
            errcode = 'AZ201',
            message = format('unknown setting %L', setting),
            hint = 'The view amzmp.setting_effective lists them; a setting of your own is a row in amzmp.setting_definition.';
    end if;
    return definition;
end
$$;

-- What holds: the channel's value, else the account's, else the default; null if there is none.
create function amzmp._setting_value(account_id bigint, channel_id bigint, name text)
    returns jsonb
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    found_value jsonb;
begin
    select s.value into found_value
    from amzmp.setting as s
    where s.account_id = _setting_value.account_id
        and s.channel_id in (_setting_value.channel_id, 0)
        and s.name = _setting_value.name
    order by s.channel_id desc
    limit 1;
    if found_value is null then
        select d.default_value into found_value
        from amzmp.setting_definition as d
        where d.name = _setting_value.name;
    end if;
    return found_value;
end
$$;

-- The same in the type that its definition has. (Without a search_path of their own, so that they become a part of the caller.)
create function amzmp._setting_text(account_id bigint, channel_id bigint, name text)
    returns text
    language sql
    stable
    parallel safe
    return amzmp._setting_value(account_id, channel_id, name) #>> '{}';

create function amzmp._setting_int(account_id bigint, channel_id bigint, name text)
    returns integer
    language sql
    stable
    parallel safe
    return (amzmp._setting_value(account_id, channel_id, name) #>> '{}')::integer;

create function amzmp._setting_numeric(account_id bigint, channel_id bigint, name text)
    returns numeric
    language sql
    stable
    parallel safe
    return (amzmp._setting_value(account_id, channel_id, name) #>> '{}')::numeric;

create function amzmp._setting_bool(account_id bigint, channel_id bigint, name text)
    returns boolean
    language sql
    stable
    parallel safe
    return (amzmp._setting_value(account_id, channel_id, name) #>> '{}')::boolean;

create function amzmp._setting_interval(account_id bigint, channel_id bigint, name text)
    returns interval
    language sql
    stable
    parallel safe
    return (amzmp._setting_value(account_id, channel_id, name) #>> '{}')::interval;

create function amzmp._setting_timestamp(account_id bigint, channel_id bigint, name text)
    returns timestamptz
    language sql
    stable
    parallel safe
    return (amzmp._setting_value(account_id, channel_id, name) #>> '{}')::timestamptz;

create function amzmp._setting_list(account_id bigint, channel_id bigint, name text)
    returns text[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array(select jsonb_array_elements_text(amzmp._setting_value(account_id, channel_id, name)));
end
$$;

-- Settings that a flow needs and that have no value; enable() names them.
create function amzmp._settings_missing(account_id bigint, channel_id bigint, flow text)
    returns text[]
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array(
        select d.name
        from amzmp.setting_definition as d
        where _settings_missing.flow = any (d.required_by)
            and d.scope in ('both', case _settings_missing.channel_id when 0 then 'account' else 'channel' end)
            and amzmp._setting_value(_settings_missing.account_id, _settings_missing.channel_id, d.name) is null
        order by d.name
    );
$$;

create view amzmp.setting_effective
with (security_invoker = true)
as
with place as (
    select a.account_id, 0::bigint as channel_id, a.name as account, null::text as channel
    from amzmp.account as a
    where a.state <> 'dropped'
    union all
    select c.account_id, c.channel_id, a.name, c.name
    from amzmp.channel as c
    join amzmp.account as a on a.account_id = c.account_id
    where not c.dropped
)
select p.account_id, p.channel_id, p.account, p.channel, d.name as setting, d.label, d.type,
    coalesce(own.value, inherited.value, d.default_value) as value,
    case
        when own.value is not null then case p.channel_id when 0 then 'account' else 'channel' end
        when inherited.value is not null then 'account'
        when d.default_value is not null then 'default'
    end as set_at_level,
    coalesce(own.set_at, inherited.set_at) as set_at, coalesce(own.set_by, inherited.set_by) as set_by
from place as p
cross join amzmp.setting_definition as d
left join amzmp.setting as own
    on own.account_id = p.account_id and own.channel_id = p.channel_id and own.name = d.name
left join amzmp.setting as inherited
    on inherited.account_id = p.account_id and inherited.channel_id = 0 and inherited.name = d.name
where d.scope <> 'channel' or p.channel_id <> 0;

comment on view amzmp.setting_effective is 'The value that holds for each setting of each account and channel, and where it comes from.';
comment on column amzmp.setting_effective.account_id is 'The account.';
comment on column amzmp.setting_effective.channel_id is 'The channel; 0: the account itself.';
comment on column amzmp.setting_effective.account is 'Name of the account.';
comment on column amzmp.setting_effective.channel is 'Name of the channel; null: the account itself.';
comment on column amzmp.setting_effective.setting is 'Name of the setting.';
comment on column amzmp.setting_effective.label is 'Its short name for people.';
comment on column amzmp.setting_effective.type is 'Its type.';
comment on column amzmp.setting_effective.value is 'The value that holds; null: none.';
comment on column amzmp.setting_effective.set_at_level is 'Where the value comes from: channel, account or default; null: there is none.';
comment on column amzmp.setting_effective.set_at is 'When it was set; null for a default.';
comment on column amzmp.setting_effective.set_by is 'Who set it; null for a default.';

create view amzmp.settings_missing
with (security_invoker = true)
as
select e.account, e.channel, f.flow, e.setting, e.label
from amzmp.setting_effective as e
join amzmp.setting_definition as d on d.name = e.setting
cross join lateral unnest(d.required_by) as f (flow)
where e.value is null
    and (d.scope <> 'account' or e.channel_id = 0);

comment on view amzmp.settings_missing is 'Settings without a value, and the flows that cannot be enabled until they have one.';
comment on column amzmp.settings_missing.account is 'Name of the account.';
comment on column amzmp.settings_missing.channel is 'Name of the channel; null: the account itself.';
comment on column amzmp.settings_missing.flow is 'The flow that needs it.';
comment on column amzmp.settings_missing.setting is 'Name of the setting; give it a value with amzmp.set.';
comment on column amzmp.settings_missing.label is 'Its short name for people.';
