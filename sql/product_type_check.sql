/*
 * product_type_check.sql
 *	  Attributes compared with a definition: what is missing, not allowed, too long, too many. Used by validate, and by
 *	  publishing before a product is created.
 *
 * A creation waits while its definition is on its way for the first time, an hour at most; where it could not be had,
 * Amazon alone judges.
 */

-- Everything that attributes contain, by path: arrays, objects and plain values. An array's elements have its path.
create function amzmp._attribute_values(attributes jsonb)
    returns table (path text, value jsonb)
    rows 100
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    with recursive given (path, value) as (
        select a.key, a.value
        from jsonb_each(attributes) as a
        union all
        select concat_ws('.', g.path, m.key), m.value
        from given as g
        cross join lateral (
            select null::text, e.value
            from jsonb_array_elements(case jsonb_typeof(g.value) when 'array' then g.value else '[]' end) as e (value)
            union all
            select o.key, o.value
            from jsonb_each(case jsonb_typeof(g.value) when 'object' then g.value else '{}' end) as o
        ) as m (key, value)
    )
    select g.path, g.value from given as g;
end
$$;

-- What is wrong with one plain value; null where nothing is.
create function amzmp._value_problem(rule amzmp.product_type_attribute, value jsonb, out code text, out message text)
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    plain constant text := value #>> '{}';
    kind constant text := jsonb_typeof(value);
    number constant numeric := case kind when 'number' then value::numeric end;
begin
    code := 'VALUE_INVALID';
    message := case
        when not (kind = any (rule.types) or number = trunc(number) and 'integer' = any (rule.types))
            then format('must be %s, not %s', array_to_string(rule.types, ' or '), kind)
        when kind = 'string' and length(plain) < rule.min_length then format('has %s characters, at least %s are needed', length(plain), rule.min_length)
        when kind = 'string' and length(plain) > rule.max_length then format('has %s characters, at most %s are allowed', length(plain), rule.max_length)
        when kind = 'string' and octet_length(plain) > rule.max_bytes
            then format('has %s bytes, at most %s are allowed', octet_length(plain), rule.max_bytes)
        when number < rule.minimum then format('%s is less than %s', number, rule.minimum)
        when number > rule.maximum then format('%s is more than %s', number, rule.maximum)
        when number <= rule.above then format('%s is not more than %s', number, rule.above)
        when number >= rule.below then format('%s is not less than %s', number, rule.below)
        when rule.multiple_of > 0 and number % rule.multiple_of <> 0 then format('%s is no multiple of %s', number, rule.multiple_of)
    end;
    if message is null and not rule.allowed @> value then
        code := 'VALUE_NOT_ALLOWED';
        message := format('%L is not allowed; allowed are %s', plain, (
                    select string_agg(quote_literal(a.value), ', ' order by a.ordinality)
                    from jsonb_array_elements_text(rule.allowed) with ordinality as a (value, ordinality)
                    where a.ordinality <= 10
                ) || case when jsonb_array_length(rule.allowed) > 10 then format(' and %s more', jsonb_array_length(rule.allowed) - 10) else '' end);
    end if;
end
$$;

-- What is wrong with an array as a whole.
create function amzmp._array_problem(rule amzmp.product_type_attribute, instances jsonb)
    returns text
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    count constant integer := jsonb_array_length(instances);
    alike integer;
begin
    if rule.max_alike is not null then
        select max(g.count) into alike
        from (
            select count(*) as count
            from jsonb_array_elements(instances) as e (instance)
            group by (
                select jsonb_object_agg(s.name, e.instance -> s.name) from unnest(rule.selectors) as s (name)
            )
        ) as g;
    end if;
    return case
            when not rule.repeats then 'must not be an array'
            when count < rule.min_items then format('has %s values, at least %s are needed', count, rule.min_items)
            when count > rule.max_items then format('has %s values, at most %s are allowed', count, rule.max_items)
            when alike > rule.max_alike then format('has %s values, at most %s are allowed', alike, rule.max_alike)
        end;
end
$$;

/*
 * What a definition finds wrong with attributes, the attributes in the schema's order. Nothing where it is not known.
 */
create function amzmp._definition_problems(account_id bigint, definition_id bigint, attributes jsonb)
    returns table (path text, code text, message text)
    rows 5
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    with rule as materialized (
        select r as whole, r.path, r.parent, r.name, r.required, r.position
        from amzmp.product_type_attribute as r
        where (r.account_id, r.definition_id) = (_definition_problems.account_id, _definition_problems.definition_id)
    ), given as materialized (
        select v.path, v.value, jsonb_typeof(v.value) as kind from amzmp._attribute_values(attributes) as v
    ), problem as (
        select r.position, r.path, 'ATTR_REQUIRED' as code, 'is required' as message
        from rule as r
        where r.required
            and r.parent = ''
            and not attributes ? r.name
        union all
        select distinct r.position, r.path, 'ATTR_REQUIRED', 'is required'
        from given as g
        join rule as r on r.parent = g.path
        where r.required
            and g.kind = 'object'
            and not g.value ? r.name
        union all
        select distinct 0, g.path, 'NO_SUCH_ATTRIBUTE', 'is not known to the product type'
        from given as g
        where not exists (select from rule as r where r.path = g.path)
            and case
                when g.path like '%.%'
                then (select (r.whole).closed from rule as r where r.path = regexp_replace(g.path, '\.[^.]*$', ''))
                else (
                    select t.closed
                    from amzmp.product_type as t
                    where (t.account_id, t.definition_id) = (_definition_problems.account_id, _definition_problems.definition_id)
                )
            end
        union all
        select r.position, r.path, 'VALUE_INVALID', a.message
        from given as g
        join rule as r on r.path = g.path
        cross join lateral amzmp._array_problem(r.whole, g.value) as a (message)
        where g.kind = 'array'
            and a.message is not null
        union all
        select distinct r.position, r.path, v.code, v.message
        from given as g
        join rule as r on r.path = g.path
        cross join lateral amzmp._value_problem(r.whole, g.value) as v
        where g.kind not in ('array', 'object')
            and v.message is not null
    )
    select p.path, p.code, p.message
    from problem as p
    where exists (select from rule)
    order by p.position, p.path, p.message;
end
$$;

comment on function amzmp._definition_problems(bigint, bigint, jsonb) is 'Inner: what a definition of a product type finds wrong with attributes.';

-- The definition by which a body for a channel is checked.
create function amzmp._definition_for(account_id bigint, channel_id bigint, body jsonb)
    returns amzmp.product_type
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select t
    from amzmp.product_type as t
    where (t.account_id, t.channel_id, t.product_type, t.requirements)
            = (_definition_for.account_id, _definition_for.channel_id, body ->> 'productType', coalesce(body ->> 'requirements', 'LISTING'));
end;

-- The first things that a definition finds wrong with a body, in one line, and the code of the first; null where nothing is.
create function amzmp._definition_verdict(definition amzmp.product_type, body jsonb, out code text, out message text)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    if definition.known_at is not null then
        select (array_agg(p.code order by p.ordinality))[1],
            string_agg(p.path || ' ' || p.message, '; ' order by p.ordinality) filter (where p.ordinality <= 3)
                || case when count(*) > 3 then format('; and %s more', count(*) - 3) else '' end
        into code, message
        from amzmp._definition_problems(definition.account_id, definition.definition_id, body -> 'attributes') with ordinality as p;
    elsif definition.state = 'absent' then
        code := 'NO_PRODUCT_TYPE';
        message := format('product type %s: %s', definition.product_type, definition.reason);
    end if;
end
$$;

-- Is a definition on its way for the first time? Who waits for it does so for an hour at most.
create function amzmp._definition_awaited(definition amzmp.product_type)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(definition.known_at is null and definition.state in ('asked', 'loading')
            and definition.asked_at > now() - interval '1 hour', false);
end
$$;

/*
 * Creations among these SKUs that cannot be put: those whose definition is on its way, which are returned, and those with
 * which it finds fault, which are rejected. The body is the one that would be put.
 */
create function amzmp._hold_creations(account_id bigint, channel_id bigint, skus text[])
    returns text[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    waiting text[];
    held amzmp.new_state[];
    refused amzmp.new_state[];
begin
    with creation as materialized (
        select l.sku, b.body, amzmp._definition_for(l.account_id, l.channel_id, b.body) as definition
        from amzmp.listing as l
        cross join lateral amzmp._creation_body(amzmp._creation_contents(l)) as b (body)
        where (l.account_id, l.channel_id, l.state) = (_hold_creations.account_id, _hold_creations.channel_id, 'queued')
            and l.sku = any (_hold_creations.skus)
            and l.step = 'product'
            and amzmp._creatable(l)
    ), judged as (
        select c.sku, c.body ->> 'productType' as product_type, amzmp._definition_awaited(c.definition) as awaited, v.code, v.message
        from creation as c
        cross join lateral amzmp._definition_verdict(c.definition, c.body) as v
    )
    select coalesce(array_agg(j.sku) filter (where j.awaited), '{}'),
        array_agg((_hold_creations.channel_id, j.sku, 'queued', format('waits for Amazon''s definition of product type %s', j.product_type),
                null)::amzmp.new_state) filter (where j.awaited),
        array_agg((_hold_creations.channel_id, j.sku, 'rejected', j.message, j.code)::amzmp.new_state) filter (where j.code is not null)
    into waiting, held, refused
    from judged as j;
    if num_nonnulls(held, refused) > 0 then
        perform amzmp._enter(account_id, held || refused);
    end if;
    return waiting;
end
$$;

comment on function amzmp._hold_creations(bigint, bigint, text[]) is 'Inner: creations that wait for a definition, or that it refuses.';

-- Have the definitions fetched that content of these SKUs names and that have never been asked for.
create function amzmp._want_definitions(account_id bigint, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._ask_definitions(n.account_id, n.channel_id, n.product_types, 'LISTING_PRODUCT_ONLY', null)
    from (
        select d.account_id, d.channel_id, array_agg(distinct d.product_type) as product_types
        from amzmp.channel as c
        join amzmp.listing_content as d using (account_id, channel_id)
        where c.account_id = _want_definitions.account_id
            and c.active
            and d.sku = any (_want_definitions.skus)
            and d.facet = 'product'
            and d.sends
            and d.product_type is not null
            and not exists (
                select
                from amzmp.product_type as t
                where (t.account_id, t.channel_id, t.product_type, t.requirements)
                        = (d.account_id, d.channel_id, d.product_type, 'LISTING_PRODUCT_ONLY')
            )
        group by d.account_id, d.channel_id
    ) as n;
end
$$;

-- Which of marketplace_id and language_tag each attribute takes, by a definition of a product's facts; null: not known. What is
-- returned is a copy in memory, because callers look into it for each attribute.
create function amzmp._attribute_tags(account_id bigint, channel_id bigint, product_type text)
    returns jsonb
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return (
        select t.tags || '{}'
        from amzmp.product_type as t
        where (t.account_id, t.channel_id, t.product_type)
                = (_attribute_tags.account_id, _attribute_tags.channel_id, _attribute_tags.product_type)
            and t.requirements <> 'LISTING_OFFER_ONLY'
            and t.tags is not null
        order by t.requirements desc
        limit 1
    );
end
$$;
