/*
 * rule.sql
 *	  Rules for prices, stock and terms: what they are called, for which offers they hold, and how they are set.
 *
 * A rule belongs to an account or a channel and holds for one product, for a group of products or for all. It names
 * parameters (amzmp.rule_parameter); each parameter is taken from the most specific rule that names it: product, then
 * group, then everything; in each of these the channel's rule before the account's. Stock is shared by the channels of
 * an account, so stock parameters are the account's.
 *
 * Amounts are numbers or arithmetic over the product's values, e.g. 'greatest(price, cost * 1.3)'. That is no SQL: it is
 * parsed when the rule is set, and amzmp evaluates the parse itself. SQL belongs into a value of the source
 * (amzmp.attach_value), which the role that attached the source evaluates; rules then use its name.
 *
 * What follows from rules is computed by rule_apply.sql.
 */
create table amzmp.rule_parameter (
    name text primary key,
    facet text not null,
    type text not null,
    minimum numeric,
    maximum numeric,
    choices text[],
    description text not null,
    constraint rule_parameter_facet_check check (facet in ('price', 'stock', 'details', 'send')),
    constraint rule_parameter_type_check check (type in ('amount', 'number', 'integer', 'time', 'text', 'map', 'list'))
);

comment on table amzmp.rule_parameter is 'What a rule can say.';
comment on column amzmp.rule_parameter.name is 'Name of the parameter, a key of the parameters of set_rule.';
comment on column amzmp.rule_parameter.facet is 'What it decides: price, stock, details of the offer, or what is sent. Stock parameters are set for accounts only.';
comment on column amzmp.rule_parameter.type is 'amount (number or arithmetic over the product''s values), number, integer, time (or the name of a value that holds one), text, map or list.';
comment on column amzmp.rule_parameter.minimum is 'Smallest number allowed.';
comment on column amzmp.rule_parameter.maximum is 'Greatest number allowed.';
comment on column amzmp.rule_parameter.choices is 'The values allowed.';
comment on column amzmp.rule_parameter.description is 'What it does.';

insert into amzmp.rule_parameter (name, facet, type, minimum, maximum, choices, description)
values
    ('price', 'price', 'amount', null, null, null, 'The price to start from. Without it the source''s price.'),
    ('currency', 'price', 'text', null, null, null, 'Currency of the source''s amounts, where it is not the marketplace''s: they are converted by the newest rate of set_rate.'),
    ('percent', 'price', 'number', -100, 100000, null, 'Per cent added to the price; negative ones are taken off.'),
    ('amount', 'price', 'number', null, null, null, 'Amount added to the price after the per cent, in the marketplace''s currency; negative ones are taken off.'),
    ('fee_percent', 'price', 'number', 0, 99, null, 'Fee in per cent of the price: the price is raised so that what is left after the fees is the price so far.'),
    ('fee_amount', 'price', 'number', 0, null, null, 'Fixed fee, part of the same calculation.'),
    ('round_to', 'price', 'number', 0.0001, null, null, 'The price is rounded to a multiple of this.'),
    ('round_ending', 'price', 'number', 0, null, null, 'What a rounded price ends in: 0.99 with round_to 1 gives 4.99, 5.99 …'),
    ('round_mode', 'price', 'text', null, null, '{nearest,up,down}', 'Which way is rounded; nearest without it.'),
    ('minimum', 'price', 'amount', null, null, null, 'The price never falls below it; Amazon gets it together with the price.'),
    ('maximum', 'price', 'amount', null, null, null, 'The price never rises above it; Amazon gets it together with the price.'),
    ('sale_price', 'price', 'amount', null, null, null, 'Price of a sale. offer_price stands for the price as computed.'),
    ('sale_from', 'price', 'time', null, null, null, 'Start of the sale.'),
    ('sale_to', 'price', 'time', null, null, null, 'End of the sale.'),
    ('business_price', 'price', 'amount', null, null, null, 'Price for businesses. offer_price stands for the price as computed.'),
    ('business_discount', 'price', 'text', null, null, '{percent,fixed}', 'What the tiers'' numbers are: per cent off (without it), or fixed prices.'),
    ('business_tiers', 'price', 'map', null, null, null, 'Quantity tiers for businesses, up to five: {"5": 3, "20": 7} takes 3 per cent off from 5 units on.'),
    ('list_price', 'details', 'amount', null, null, null, 'Recommended retail price.'),
    ('condition', 'details', 'text', null, null, null, 'Condition of the offer, before the source''s.'),
    ('condition_map', 'details', 'map', null, null, null, 'The shop''s names of conditions and Amazon''s: {"B": "used_good"}.'),
    ('condition_note', 'details', 'text', null, null, null, 'Note on the condition, before the source''s.'),
    ('shipping_template', 'details', 'text', null, null, null, 'Shipping template: its id, or a name that shipping_map knows, or the name of a value of the source.'),
    ('shipping_map', 'details', 'map', null, null, null, 'The shop''s names of shipping templates and their ids at Amazon.'),
    ('send', 'send', 'list', null, null, '{price,stock,details,content,images}', 'What is sent of an offer that Amazon has; without a rule price, stock and details. Without price an external repricer keeps it, without stock Amazon''s stays. content and images are sent only where they are named, and the settings send_content and send_images of the channel are on. stock is a matter of rules for accounts.'),
    ('quantity', 'stock', 'amount', null, null, null, 'The quantity to start from. Without it the source''s quantity.'),
    ('fixed_quantity', 'stock', 'integer', 0, 1000000, null, 'This quantity whatever the stock is, for what is made or bought on demand.'),
    ('buffer', 'stock', 'integer', 0, 1000000, null, 'Units kept back; without it the setting buffer_stock.'),
    ('stock_percent', 'stock', 'number', 0, 100, null, 'Share of the stock that is offered, in per cent, rounded down.'),
    ('threshold', 'stock', 'integer', 0, 1000000, null, 'The quantity on which low_quantity and high_quantity turn.'),
    ('low_quantity', 'stock', 'integer', 0, 1000000, null, 'Offered when the quantity is the threshold or less, never more than there is.'),
    ('high_quantity', 'stock', 'integer', 0, 1000000, null, 'Offered when the quantity is above the threshold, never more than there is.'),
    ('minimum_quantity', 'stock', 'integer', 0, 1000000, null, 'Fewer units than this are offered as 0.'),
    ('maximum_quantity', 'stock', 'integer', 0, 1000000, null, 'More units than this are never offered.'),
    ('damping', 'stock', 'integer', 0, 1000000, null, 'While both the shop''s and Amazon''s quantity are above it, changes are not sent.'),
    ('lead_time', 'stock', 'amount', 0, 30, null, 'Days until it is shipped, 0 to 30, before the source''s lead time and the setting handling_days.'),
    ('restock_date', 'stock', 'time', null, null, null, 'Day on which stock is expected, while it lies ahead.');

create sequence amzmp.rule_id_seq as bigint;

create table amzmp.rule (
    account_id bigint not null,
    rule_id bigint not null default nextval('amzmp.rule_id_seq'),
    channel_id bigint not null default 0,
    sku text,
    product_group text,
    parameters jsonb not null,
    compiled jsonb not null,
    rank integer not null default 0,
    set_at timestamptz not null default now(),
    set_by name not null,
    primary key (account_id, rule_id),
    constraint rule_target_check check (num_nonnulls(sku, product_group) <= 1)
);

create unique index rule_target on amzmp.rule (account_id, channel_id, coalesce(sku, ''), coalesce(product_group, ''));
create index rule_sku on amzmp.rule (account_id, sku) where sku is not null;

comment on table amzmp.rule is 'Rules for prices, stock and terms. Written by set_rule and drop_rule, or in bulk through amzmp.rule_input.';
comment on column amzmp.rule.account_id is 'The account.';
comment on column amzmp.rule.rule_id is 'Number of the rule, as explain_offer names it.';
comment on column amzmp.rule.channel_id is 'The channel; 0: all channels of the account.';
comment on column amzmp.rule.sku is 'The product, where it holds for one.';
comment on column amzmp.rule.product_group is 'The group, where it holds for one: a category of the source, or a list of set_group.';
comment on column amzmp.rule.parameters is 'What it says, as it was given.';
comment on column amzmp.rule.compiled is 'Inner: the same, with arithmetic parsed.';
comment on column amzmp.rule.rank is 'Of several groups of a product that with the greater rank goes first.';
comment on column amzmp.rule.set_at is 'When it was last changed.';
comment on column amzmp.rule.set_by is 'Who changed it.';

create table amzmp.group_member (
    account_id bigint not null,
    product_group text not null,
    sku text not null,
    primary key (account_id, sku, product_group)
);

create index group_member_group on amzmp.group_member (account_id, product_group);

comment on table amzmp.group_member is 'Products in groups that are lists. Written by set_group.';
comment on column amzmp.group_member.account_id is 'The account.';
comment on column amzmp.group_member.product_group is 'Name of the group.';
comment on column amzmp.group_member.sku is 'The product.';

/*
 * Arithmetic.
 */

-- Names that arithmetic may use: numbers of the product's row, and values that the account's sources were given.
create function amzmp._amount_names(account_id bigint)
    returns text[]
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array['price', 'quantity', 'lead_time', 'offer_price'] || array(
        select distinct v.name from amzmp.source_value as v where v.account_id = $1
    )
$$;

create function amzmp._amount_tokens(expression text)
    returns text[]
    language sql
    immutable
    strict
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array(
        select m[1]
        from regexp_matches(expression, '([0-9]+(?:\.[0-9]+)?|[[:alpha:]_][[:alnum:]_]*|[^[:space:]])', 'g') as m
    )
$$;

/*
 * Parse tokens from a position on; the parse is a number, a name as {"n": name}, or {"f": function, "a": [arguments]}.
 * level: 0 sums, 1 products, 2 what they are made of. Error 22023 says what is wrong.
 */
create function amzmp._parse_amount(tokens text[], names text[], level integer, inout at integer, out parse jsonb)
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    operators constant text[] := (array['{+,-}', '{*,/}'])[level + 1];
    operator text;
    part record;
begin
    if level = 2 then
        select p.at, p.parse into at, parse from amzmp._parse_operand(tokens, names, at) as p;
        return;
    end if;
    select p.at, p.parse into at, parse from amzmp._parse_amount(tokens, names, level + 1, at) as p;
    while tokens[at] = any (operators) loop
        operator := tokens[at];
        select p.at, p.parse into part from amzmp._parse_amount(tokens, names, level + 1, at + 1) as p;
        parse := jsonb_build_object('f', operator, 'a', jsonb_build_array(parse, part.parse));
        at := part.at;
    end loop;
end
$$;

-- A number, a name, a call, a sum in parentheses, or one of these with a minus.
create function amzmp._parse_operand(tokens text[], names text[], inout at integer, out parse jsonb)
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    token constant text := coalesce(tokens[at], 'the end');
    arguments jsonb := '[]';
    part record;
begin
    if token ~ '^[0-9]' then
        parse := to_jsonb(token::numeric);
        at := at + 1;
    elsif token = '-' then
        select p.at, p.parse into part from amzmp._parse_operand(tokens, names, at + 1) as p;
        parse := jsonb_build_object('f', '-', 'a', jsonb_build_array(0, part.parse));
        at := part.at;
    elsif token = '(' or token = any ('{abs,ceil,coalesce,floor,greatest,least,round}') and tokens[at + 1] = '(' then
        at := at + case token when '(' then 0 else 1 end;
        loop
            select p.at, p.parse into part from amzmp._parse_amount(tokens, names, 0, at + 1) as p;
            arguments := arguments || jsonb_build_array(part.parse);
            at := part.at;
            exit when token = '(' or tokens[at] is distinct from ',';
        end loop;
        if tokens[at] is distinct from ')' then
            raise exception using errcode = '22023', message = format('a parenthesis is missing before %L', coalesce(tokens[at], 'the end'));
        end if;
        at := at + 1;
        parse := case token when '(' then arguments -> 0 else jsonb_build_object('f', token, 'a', arguments) end;
    elsif token = any (names) then
        parse := jsonb_build_object('n', token);
        at := at + 1;
    else
        raise exception using errcode = '22023', message = format('%L is no number, name or function', token);
    end if;
end
$$;

create function amzmp._compile_amount(account_id bigint, expression text)
    returns jsonb
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    tokens constant text[] := amzmp._amount_tokens(expression);
    result record;
begin
    if cardinality(tokens) > 200 then
        raise exception using errcode = '22023', message = 'it is too long';
    end if;
    select p.at, p.parse into result from amzmp._parse_amount(tokens, amzmp._amount_names(account_id), 0, 1) as p;
    if result.at <= cardinality(tokens) then
        raise exception using errcode = '22023', message = format('%L is not expected there', tokens[result.at]);
    end if;
    return result.parse;
end
$$;

-- The value of a parse for a row; null where a value is missing or a divisor is 0.
create function amzmp._amount(parse jsonb, row_values jsonb)
    returns numeric
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    given text;
    a numeric[];
begin
    if parse is null then
        return null;
    elsif jsonb_typeof(parse) = 'number' then
        return parse::numeric;
    elsif parse ? 'n' then
        given := row_values ->> (parse ->> 'n');
        return case when given ~ '^\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*$' then given::numeric end;
    end if;
    a := array(select amzmp._amount(e.value, row_values) from jsonb_array_elements(parse -> 'a') with ordinality as e order by e.ordinality);
    return case parse ->> 'f'
            when '+' then a[1] + a[2]
            when '-' then a[1] - a[2]
            when '*' then a[1] * a[2]
            when '/' then a[1] / nullif(a[2], 0)
            when 'abs' then abs(a[1])
            when 'ceil' then ceil(a[1])
            when 'floor' then floor(a[1])
            when 'round' then round(a[1], coalesce(a[2], 0)::integer)
            when 'greatest' then (select max(x) from unnest(a) as x)
            when 'least' then (select min(x) from unnest(a) as x)
            when 'coalesce' then (select x from unnest(a) with ordinality as u (x, place) where x is not null order by place limit 1)
        end;
end
$$;

/*
 * Setting rules.
 */

-- One parameter brought into the form in which it is computed; error AZ202 says what was expected.
create function amzmp._compile_parameter(account_id bigint, definition amzmp.rule_parameter, given jsonb)
    returns jsonb
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    plain constant text := given #>> '{}';
    result jsonb;
    reason text;
begin
    begin
        case definition.type
            when 'amount' then
                result := amzmp._compile_amount(account_id, plain);
            when 'number' then
                result := to_jsonb(plain::numeric);
            when 'integer' then
                result := to_jsonb(plain::bigint);
            when 'time' then
                result := case
                    when plain = any (amzmp._amount_names(account_id)) then jsonb_build_object('n', plain)
                    else to_jsonb(plain::timestamptz)
                end;
            when 'text' then
                result := to_jsonb(nullif(plain, ''));
            when 'map' then
                result := case jsonb_typeof(given) when 'object' then given end;
            when 'list' then
                result := case jsonb_typeof(given) when 'array' then given end;
        end case;
    exception when data_exception then
        reason := sqlerrm;
    end;
    if result is null
        or jsonb_typeof(result) = 'number' and not coalesce(result::numeric between coalesce(definition.minimum, '-Infinity')
            and coalesce(definition.maximum, 'Infinity') and result::numeric <> 'NaN', false)
        or definition.choices is not null and not to_jsonb(definition.choices) @> result
    then
        perform amzmp._fail('AZ202', format('invalid value %s for %s', given, definition.name), reason || '.',
            definition.description || coalesce(format(' At least %s.', definition.minimum), '')
                || coalesce(format(' At most %s.', definition.maximum), '')
                || coalesce(' One of ' || array_to_string(definition.choices, ', ') || '.', ''));
    end if;
    return result;
end
$$;

create function amzmp._compile_rule(account_id bigint, channel_id bigint, parameters jsonb)
    returns jsonb
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    entry record;
    compiled jsonb := '{}';
begin
    for entry in
        select p.key, p.value, d as definition, d.name is not null as known, d.facet
        from jsonb_each(parameters) as p
        left join amzmp.rule_parameter as d on d.name = p.key
    loop
        if not entry.known then
            perform amzmp._fail('AZ202', format('a rule has no parameter "%s"', entry.key), null,
                'amzmp.rule_parameter lists them.');
        elsif channel_id <> 0 and (entry.facet = 'stock' or entry.key = 'send' and entry.value ? 'stock') then
            perform amzmp._fail('AZ202', format('"%s" belongs to the account, not to a channel', entry.key),
                'Amazon keeps one quantity for all marketplaces of an account.', 'Set the rule for the account.');
        end if;
        compiled := compiled || jsonb_build_object(entry.key, amzmp._compile_parameter(account_id, entry.definition, entry.value));
    end loop;
    if compiled ? 'sale_price' and not (compiled ?& '{sale_from,sale_to}') then
        perform amzmp._fail('AZ202', 'a sale needs a start and an end', null, 'Give sale_from and sale_to in the same rule.');
    end if;
    return compiled;
end
$$;

/*
 * Add parameters to a rule, or make it; a null takes its parameter away, and a rule that says nothing is dropped.
 */
create function amzmp._set_rule(account_or_channel text, parameters jsonb, sku text default null,
    product_group text default null, rank integer default null)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    target record;
    old amzmp.rule;
    merged jsonb;
    id bigint;
begin
    select r.account_id, r.channel_id into strict target from amzmp._resolve(account_or_channel) as r;
    if jsonb_typeof(_set_rule.parameters) is distinct from 'object' or num_nonnulls(_set_rule.sku, _set_rule.product_group) > 1 then
        perform amzmp._fail('AZ202', 'a rule is an object of parameters, for a product, a group or all', null,
            format('select amzmp.set_rule(%L, ''{"percent": 5}'', sku => …); or product_group => …, or neither.', account_or_channel));
    end if;
    select r.* into old
    from amzmp.rule as r
    where (r.account_id, r.channel_id) = (target.account_id, target.channel_id)
        and coalesce(r.sku, '') = coalesce(_set_rule.sku, '')
        and coalesce(r.product_group, '') = coalesce(_set_rule.product_group, '')
    for update;
    merged := jsonb_strip_nulls(coalesce(old.parameters, '{}') || _set_rule.parameters);
    if merged = '{}' then
        delete from amzmp.rule as r where (r.account_id, r.rule_id) = (old.account_id, old.rule_id);
    elsif old.rule_id is null then
        insert into amzmp.rule (account_id, channel_id, sku, product_group, parameters, compiled, rank, set_by)
        values (target.account_id, target.channel_id, _set_rule.sku, _set_rule.product_group, merged,
            amzmp._compile_rule(target.account_id, target.channel_id, merged), coalesce(_set_rule.rank, 0), amzmp._caller())
        returning rule_id into id;
    else
        update amzmp.rule as r
        set parameters = merged,
            compiled = amzmp._compile_rule(target.account_id, target.channel_id, merged),
            rank = coalesce(_set_rule.rank, r.rank),
            set_at = now(),
            set_by = amzmp._caller()
        where (r.account_id, r.rule_id) = (old.account_id, old.rule_id)
        returning rule_id into id;
    end if;
    perform amzmp._rule_changed(target.account_id, _set_rule.sku, jsonb_build_object('role', amzmp._caller(), 'at', now(), 'rule', coalesce(id, old.rule_id)));
    return id;
end
$$;

select amzmp._expose('amzmp._set_rule(text, jsonb, text, text, integer)', 'amzmp_admin',
    'Set parameters of the rule of an account or channel for a product, a group, or all; null takes one away. amzmp.rule_parameter lists what there is. Returns the number of the rule, null when nothing is left of it.');

create function amzmp._drop_rule(account_or_channel text, sku text default null, product_group text default null)
    returns boolean
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    target record;
    old bigint;
begin
    select r.account_id, r.channel_id into strict target from amzmp._resolve(account_or_channel) as r;
    delete from amzmp.rule as r
    where (r.account_id, r.channel_id) = (target.account_id, target.channel_id)
        and coalesce(r.sku, '') = coalesce(_drop_rule.sku, '')
        and coalesce(r.product_group, '') = coalesce(_drop_rule.product_group, '')
    returning r.rule_id into old;
    if old is not null then
        perform amzmp._rule_changed(target.account_id, _drop_rule.sku, jsonb_build_object('role', amzmp._caller(), 'at', now(), 'rule', old));
    end if;
    return old is not null;
end
$$;

select amzmp._expose('amzmp._drop_rule(text, text, text)', 'amzmp_admin',
    'Drop the rule of an account or channel for a product, a group, or all. Returns whether there was one.');

create function amzmp._set_group(account text, product_group text, skus text[])
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc constant bigint := (amzmp._account(account)).account_id;
begin
    delete from amzmp.group_member as g
    where (g.account_id, g.product_group) = (acc, _set_group.product_group)
        and g.sku <> all (_set_group.skus);
    insert into amzmp.group_member (account_id, product_group, sku)
    select distinct acc, _set_group.product_group, s from unnest(_set_group.skus) as s
    on conflict do nothing;
    perform amzmp._rule_changed(acc, null, jsonb_build_object('role', amzmp._caller(), 'at', now(), 'group', _set_group.product_group));
    return cardinality(skus);
end
$$;

select amzmp._expose('amzmp._set_group(text, text, text[])', 'amzmp_admin',
    'Make a group of products that rules can name, or change which products it has; an empty array dissolves it.');

/*
 * A rule changed what follows from products that were read already: one SKU is computed at once, all others by an own
 * runner, page by page.
 */
create function amzmp._rule_changed(account_id bigint, sku text, cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    if sku is not null then
        perform amzmp._recompute(account_id, array[sku], cause);
    else
        perform amzmp._add_task(account_id, 'recompute_all', '', null, now(), jsonb_build_object('cause', cause));
    end if;
end
$$;

-- Compute a page of an account's SKUs anew; the next page is a task of its own.
create function amzmp._task_recompute_all(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    skus constant text[] := array(
        select i.sku
        from amzmp.inventory as i
        where i.account_id = _task_recompute_all.account_id
            and i.sku > coalesce(argument ->> 'after', '')
            and i.fulfillment_channel = 'DEFAULT'
        order by i.sku
        limit 2000
    );
begin
    perform amzmp._recompute(account_id, skus, argument -> 'cause');
    if cardinality(skus) = 2000 then
        perform amzmp._add_task(account_id, 'recompute_all', skus[2000], null, now(), argument || jsonb_build_object('after', skus[2000]));
    end if;
end
$$;

-- What depends on the clock: ends of sales, rates that grow old, days on which stock is expected.
create function amzmp._task_recompute_due(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    skus constant text[] := array(
        select l.sku
        from amzmp.listing as l
        where l.account_id = _task_recompute_due.account_id
            and l.recompute_at <= now()
        order by l.recompute_at
        limit 2000
    );
begin
    perform amzmp._recompute(account_id, skus, jsonb_build_object('reason', 'the clock', 'at', now()));
end
$$;

/*
 * In bulk: insert or COPY into the view, one row a rule.
 */
create view amzmp.rule_input
    with (security_invoker = true)
as
    select n.name as account_or_channel, r.sku, r.product_group, r.parameters, r.rank
    from amzmp.rule as r
    join amzmp.name as n using (account_id, channel_id);

comment on view amzmp.rule_input is 'Rules as they can be written in bulk: an inserted row is a set_rule, a deleted one a drop_rule.';
comment on column amzmp.rule_input.account_or_channel is 'Name of the account or channel.';
comment on column amzmp.rule_input.sku is 'The product, where it holds for one.';
comment on column amzmp.rule_input.product_group is 'The group, where it holds for one.';
comment on column amzmp.rule_input.parameters is 'What it says.';
comment on column amzmp.rule_input.rank is 'Rank among groups.';

create function amzmp.write_rule_input()
    returns trigger
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op <> 'INSERT' then
        perform amzmp.drop_rule(old.account_or_channel, old.sku, old.product_group);
    end if;
    if tg_op = 'DELETE' then
        return old;
    end if;
    perform amzmp.set_rule(new.account_or_channel, new.parameters, new.sku, new.product_group, new.rank);
    return new;
end
$$;

comment on function amzmp.write_rule_input() is 'Trigger function of amzmp.rule_input.';
revoke all on function amzmp.write_rule_input() from public;
grant execute on function amzmp.write_rule_input() to amzmp_admin;

create trigger rule_input_write instead of insert or update or delete on amzmp.rule_input
    for each row execute function amzmp.write_rule_input();
grant insert, update, delete on amzmp.rule_input to amzmp_admin;
