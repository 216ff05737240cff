/*
 * rule_set.sql
 *	  Setting rules and groups, one by one by a person or in bulk through amzmp.rule_input.
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
