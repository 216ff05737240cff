/*
 * product_type_schema.sql
 *	  What a definition's JSON schema says about attributes, as rows: one for each attribute and each member of its values.
 *
 * Amazon's schemas share one shape: an attribute is an array of objects whose members are plain values, or again objects
 * or arrays of them. So a path of names says which value is meant, arrays do not count:
 *
 *		item_name                    the attribute: how many instances, what tells them apart
 *		item_name.value              a text: how long
 *		item_dimensions.length.unit  a text: which values are allowed
 *
 * Kept is what can be checked value by value. Conditions between attributes (allOf, if, then, else, not) are not: they are
 * thousands, and Amazon's own preview judges them.
 */
create table amzmp.product_type_attribute (
    account_id bigint not null,
    definition_id bigint not null,
    path text not null,
    attribute text not null,
    parent text not null,
    name text not null,
    position integer not null,
    title text,
    description text,
    types text[],
    required boolean not null,
    repeats boolean not null,
    editable boolean not null,
    hidden boolean not null,
    closed boolean not null,
    selectors text[],
    min_items integer,
    max_items integer,
    max_alike integer,
    allowed jsonb,
    suggested jsonb,
    labels jsonb,
    min_length integer,
    max_length integer,
    max_bytes integer,
    minimum numeric,
    maximum numeric,
    above numeric,
    below numeric,
    multiple_of numeric,
    primary key (account_id, definition_id, path)
);

comment on table amzmp.product_type_attribute is 'What definitions of product types say about attributes and the members of their values.';
comment on column amzmp.product_type_attribute.account_id is 'The account.';
comment on column amzmp.product_type_attribute.definition_id is 'The definition, see amzmp.product_type.';
comment on column amzmp.product_type_attribute.path is 'The attribute, and behind it, with dots, the member of its value that is meant.';
comment on column amzmp.product_type_attribute.attribute is 'The attribute.';
comment on column amzmp.product_type_attribute.parent is 'The path of what it is a member of; empty for an attribute itself.';
comment on column amzmp.product_type_attribute.name is 'Its own name.';
comment on column amzmp.product_type_attribute.position is 'Its place in the schema.';
comment on column amzmp.product_type_attribute.title is 'What Amazon calls it.';
comment on column amzmp.product_type_attribute.description is 'What Amazon says about it.';
comment on column amzmp.product_type_attribute.types is 'The JSON types that its value may have; null: any.';
comment on column amzmp.product_type_attribute.required is 'Must it be given, where what it is a member of is given?';
comment on column amzmp.product_type_attribute.repeats is 'Is it an array?';
comment on column amzmp.product_type_attribute.editable is 'Can it be changed once the listing exists?';
comment on column amzmp.product_type_attribute.hidden is 'Does Amazon''s own form hide it? Then amzmp or Amazon fills it.';
comment on column amzmp.product_type_attribute.closed is 'Does it forbid members that the definition does not name?';
comment on column amzmp.product_type_attribute.selectors is 'The members by which Amazon tells instances apart.';
comment on column amzmp.product_type_attribute.min_items is 'The fewest instances.';
comment on column amzmp.product_type_attribute.max_items is 'The most instances.';
comment on column amzmp.product_type_attribute.max_alike is 'The most instances with the same selectors.';
comment on column amzmp.product_type_attribute.allowed is 'The values that are allowed; null: any.';
comment on column amzmp.product_type_attribute.suggested is 'Values that Amazon proposes where others are allowed too.';
comment on column amzmp.product_type_attribute.labels is 'Names of those values for people, in the same order.';
comment on column amzmp.product_type_attribute.min_length is 'The fewest characters.';
comment on column amzmp.product_type_attribute.max_length is 'The most characters.';
comment on column amzmp.product_type_attribute.max_bytes is 'The most bytes in UTF-8.';
comment on column amzmp.product_type_attribute.minimum is 'The least number.';
comment on column amzmp.product_type_attribute.maximum is 'The greatest number.';
comment on column amzmp.product_type_attribute.above is 'A number must be greater than this.';
comment on column amzmp.product_type_attribute.below is 'A number must be less than this.';
comment on column amzmp.product_type_attribute.multiple_of is 'A number must be a multiple of this.';

-- A part of a schema with what it refers to put in; $defs may refer to each other, though not for ever.
create function amzmp._schema_part(part jsonb, defs jsonb)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    for depth in 1 .. 10
    loop
        exit when not coalesce(part ? '$ref', false);
        part := coalesce(defs -> substring(part ->> '$ref' from '^#/\$defs/(.*)$'), '{}') || (part - '$ref');
    end loop;
    return part;
end
$$;

-- What the elements of an array are; anything else is its own element.
create function amzmp._schema_element(part jsonb, defs jsonb)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    for depth in 1 .. 5
    loop
        exit when part ->> 'type' is distinct from 'array';
        part := amzmp._schema_part(part -> 'items', defs);
    end loop;
    return part;
end
$$;

create function amzmp._schema_number(part jsonb, keyword text)
    returns numeric
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case when jsonb_typeof(part -> keyword) = 'number' then (part -> keyword)::numeric end;
end
$$;

create function amzmp._schema_count(part jsonb, keyword text)
    returns integer
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case when amzmp._schema_number(part, keyword) <= 2147483647 then amzmp._schema_number(part, keyword)::integer end;
end
$$;

/*
 * The alternatives of a value: its own keywords, or those of anyOf and oneOf. Where one of them allows any value, the
 * listed ones are proposals.
 */
create function amzmp._schema_values(part jsonb, out types text[], out allowed jsonb, out suggested jsonb, out labels jsonb)
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    alternatives constant jsonb := coalesce(part -> 'anyOf', part -> 'oneOf', jsonb_build_array(part));
    listed jsonb;
begin
    select array_agg(distinct t.type) into types
    from jsonb_array_elements(case when part ? 'type' then jsonb_build_array(part) else alternatives end) as a (alternative)
    cross join jsonb_array_elements_text(case jsonb_typeof(a.alternative -> 'type')
            when 'array' then a.alternative -> 'type'
            when 'string' then jsonb_build_array(a.alternative -> 'type')
            else '[]'
        end) as t (type);
    select jsonb_agg(e.value order by a.ordinality, e.ordinality) into listed
    from jsonb_array_elements(alternatives) with ordinality as a (alternative, ordinality)
    cross join jsonb_array_elements(case
            when jsonb_typeof(a.alternative -> 'enum') = 'array' then a.alternative -> 'enum'
            when a.alternative ? 'const' then jsonb_build_array(a.alternative -> 'const')
            else '[]'
        end) with ordinality as e (value, ordinality);
    select a.alternative -> 'enumNames' into labels
    from jsonb_array_elements(alternatives) as a (alternative)
    where a.alternative ? 'enumNames'
    limit 1;
    if exists (select from jsonb_array_elements(alternatives) as a (alternative) where not a.alternative ?| '{enum,const}') then
        suggested := listed;
    else
        allowed := listed;
    end if;
end
$$;

-- All parts of a schema that have a name.
create function amzmp._schema_parts(schema jsonb)
    returns table (path text, attribute text, parent text, name text, place bigint, required boolean, part jsonb, element jsonb)
    rows 1000
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    defs constant jsonb := coalesce(schema -> '$defs', '{}');
begin
    return query
    with recursive found (path, attribute, parent, name, required, part, element, depth) as (
        select p.key, p.key, '', p.key, coalesce(schema -> 'required' ? p.key, false), n.part, amzmp._schema_element(n.part, defs), 1
        from jsonb_each(schema -> 'properties') as p
        cross join lateral (select amzmp._schema_part(p.value, defs) as part) as n
        union all
        select f.path || '.' || p.key, f.attribute, f.path, p.key, coalesce(f.element -> 'required' ? p.key, false), n.part,
            amzmp._schema_element(n.part, defs), f.depth + 1
        from found as f
        cross join lateral jsonb_each(f.element -> 'properties') as p
        cross join lateral (select amzmp._schema_part(p.value, defs) as part) as n
        where f.depth < 8
    )
    select f.path, f.attribute, f.parent, f.name, row_number() over (order by f.depth, f.path), f.required, f.part, f.element
    from found as f;
end
$$;

/*
 * Put what a schema says in the place of what its definition said so far.
 */
create function amzmp._learn_definition(definition amzmp.product_type, schema jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    shapes jsonb;
    rules integer;
begin
    delete from amzmp.product_type_attribute as r
    where (r.account_id, r.definition_id) = (definition.account_id, definition.definition_id);

    insert into amzmp.product_type_attribute (account_id, definition_id, path, attribute, parent, name, position, title, description,
        types, required, repeats, editable, hidden, closed, selectors, min_items, max_items, max_alike, allowed, suggested, labels,
        min_length, max_length, max_bytes, minimum, maximum, above, below, multiple_of)
    select definition.account_id, definition.definition_id, p.path, p.attribute, p.parent, p.name, p.place, p.part ->> 'title',
        p.part ->> 'description', v.types, p.required, coalesce(p.part ->> 'type' = 'array', false),
        coalesce(p.part -> 'editable' <> 'false', true), coalesce(p.part -> 'hidden' = 'true', false),
        coalesce(p.element -> 'additionalProperties' = 'false', false),
        case when p.part ? 'selectors' then amzmp._text_array(p.part -> 'selectors') end,
        greatest(amzmp._schema_count(p.part, 'minItems'), amzmp._schema_count(p.part, 'minUniqueItems')),
        amzmp._schema_count(p.part, 'maxItems'), amzmp._schema_count(p.part, 'maxUniqueItems'), v.allowed, v.suggested, v.labels,
        amzmp._schema_count(p.element, 'minLength'), amzmp._schema_count(p.element, 'maxLength'),
        amzmp._schema_count(p.element, 'maxUtf8ByteLength'), amzmp._schema_number(p.element, 'minimum'),
        amzmp._schema_number(p.element, 'maximum'), amzmp._schema_number(p.element, 'exclusiveMinimum'),
        amzmp._schema_number(p.element, 'exclusiveMaximum'), amzmp._schema_number(p.element, 'multipleOf')
    from amzmp._schema_parts(schema) as p
    cross join lateral amzmp._schema_values(p.element) as v;
    get diagnostics rules = row_count;
    if rules = 0 then
        raise data_corrupted using message = 'the schema names no attributes';
    end if;

    select jsonb_object_agg(a.name, coalesce(m.tags, '[]')) into shapes
    from amzmp.product_type_attribute as a
    cross join lateral (
        select jsonb_agg(r.name order by r.name) as tags
        from amzmp.product_type_attribute as r
        where (r.account_id, r.definition_id, r.parent) = (a.account_id, a.definition_id, a.path)
            and r.name in ('marketplace_id', 'language_tag')
    ) as m
    where (a.account_id, a.definition_id, a.parent) = (definition.account_id, definition.definition_id, '');
    update amzmp.product_type as t
    set state = 'known',
        reason = null,
        known_at = now(),
        closed = coalesce(schema -> 'additionalProperties' = 'false', false),
        tags = shapes
    where (t.account_id, t.definition_id) = (definition.account_id, definition.definition_id);
    perform amzmp._definition_settled(definition, shapes is distinct from definition.tags);
end
$$;

comment on function amzmp._learn_definition(amzmp.product_type, jsonb) is 'Inner: the rules of a definition''s schema in the place of the old ones.';
