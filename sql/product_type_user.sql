/*
 * product_type_user.sql
 *	  What people do with product types: find one for a product, have its definition fetched, read what it asks for.
 */

create function amzmp._search_product_types(channel text, keywords text[] default null, item_name text default null, sku text default null)
    returns table (product_type text, display_name text)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
    title constant text := coalesce(nullif(btrim(item_name), ''), case
            when sku is not null then coalesce(nullif((amzmp._offer_product(place.account_id, place.channel_id, sku)).title, ''), '')
        end);
    answer jsonb;
begin
    if num_nonnulls(keywords, item_name, sku) <> 1 or cardinality(keywords) = 0 then
        perform amzmp._fail('AZ202', 'give keywords, a name, or the SKU of a product', null,
            format('select * from amzmp.search_product_types(%L, sku => …); or keywords => array[…], or item_name => …', channel));
    elsif title = '' then
        perform amzmp._fail('AZ202', format('the shop gives no title for SKU %L', sku), null,
            format('Give the name itself: select * from amzmp.search_product_types(%L, item_name => …);', channel));
    end if;
    answer := amzmp._call((select a.name from amzmp.account as a where a.account_id = place.account_id), 'searchDefinitionsProductTypes',
        jsonb_build_object('marketplaceIds', jsonb_build_array(place.marketplace_id), case when title is null then 'keywords' else 'itemName' end,
            coalesce(to_jsonb(title), to_jsonb(keywords))));
    return query
    select t.type ->> 'name', t.type ->> 'displayName'
    from jsonb_array_elements(answer -> 'productTypes') with ordinality as t (type, ordinality)
    order by t.ordinality;
end
$$;

select amzmp._expose('amzmp._search_product_types(text, text[], text, text)', 'amzmp_operator',
    'Product types that Amazon proposes in a channel''s marketplace, best first: by keywords, by the name of an item, or by the title that the shop gives a SKU. Asks Amazon now, so not in a transaction that has written.');

create function amzmp._fetch_product_type(channel text, product_type text, requirements text default 'LISTING_PRODUCT_ONLY')
    returns text
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
begin
    if product_type is null or product_type !~ '^[A-Z][A-Z0-9_]*$' then
        perform amzmp._fail('AZ202', format('not a product type: %L', product_type), 'Amazon''s names of product types are like DRINKING_CUP.',
            format('select * from amzmp.search_product_types(%L, item_name => …); proposes some.', channel));
    elsif requirements is null or requirements <> all ('{LISTING,LISTING_PRODUCT_ONLY,LISTING_OFFER_ONLY}') then
        perform amzmp._fail('AZ202', format('no such set of requirements: %L', requirements), null,
            'Give LISTING_PRODUCT_ONLY, LISTING_OFFER_ONLY or LISTING.');
    end if;
    perform amzmp._ask_definitions(place.account_id, place.channel_id, array[product_type], requirements,
        jsonb_build_object('role', amzmp._caller(), 'at', now(), 'verb', 'fetch_product_type'));
    return (
        select t.state
        from amzmp.product_type as t
        where (t.account_id, t.channel_id, t.product_type, t.requirements)
                = (place.account_id, place.channel_id, _fetch_product_type.product_type, _fetch_product_type.requirements)
    );
end
$$;

select amzmp._expose('amzmp._fetch_product_type(text, text, text)', 'amzmp_operator',
    'Ask Amazon for the definition of a product type, or whether there is a newer one. What becomes of it shows in amzmp.product_type. Definitions that content names are fetched without being asked for.');

/*
 * Content that definitions find fault with, without asking Amazon. Of what Amazon has already, nothing need be complete.
 */
create function amzmp._content_problems(channel text, skus text[] default null)
    returns table (sku text, product_type text, path text, code text, message text, remedy text)
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
begin
    return query
    select d.sku, d.product_type, p.path, p.code, p.message, m.remedy
    from amzmp.listing_content as d
    join amzmp.listing as l using (account_id, channel_id, sku)
    join amzmp.product_type as t
        on (t.account_id, t.channel_id, t.product_type, t.requirements) = (d.account_id, d.channel_id, d.product_type, 'LISTING_PRODUCT_ONLY')
    cross join lateral amzmp._definition_problems(t.account_id, t.definition_id, d.desired) as p
    left join amzmp.meaning as m on m.code = p.code
    where (d.account_id, d.channel_id, d.facet) = (place.account_id, place.channel_id, 'product')
        and d.sends
        and (_content_problems.skus is null or d.sku = any (_content_problems.skus))
        and t.known_at is not null
        and (p.code <> 'ATTR_REQUIRED' or not l.listed and l.asin is null)
    order by d.sku, p.path, p.message;
end
$$;

select amzmp._expose('amzmp._content_problems(text, text[])', 'amzmp_reader',
    'What the definitions of their product types find wrong with the content of a channel''s listings, all of them or those named: which attribute, what, and what to do. Does not ask Amazon.');

create function amzmp._product_type_rules(channel text, product_type text, requirements text default 'LISTING_PRODUCT_ONLY')
    returns setof amzmp.product_type_attribute
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
    t amzmp.product_type;
begin
    select x.* into t
    from amzmp.product_type as x
    where (x.account_id, x.channel_id, x.product_type, x.requirements)
            = (place.account_id, place.channel_id, _product_type_rules.product_type, _product_type_rules.requirements);
    if t.known_at is null then
        perform amzmp._fail('AZ201', format('the definition of product type %L is not here', product_type),
            coalesce('Fetching it has ended so: ' || t.reason || '.', case when t.state is not null then 'It is on its way.' end),
            format('select amzmp.fetch_product_type(%L, %L, %L); asks Amazon for it.', channel, product_type, requirements));
    end if;
    return query
    select r.*
    from amzmp.product_type_attribute as r
    where (r.account_id, r.definition_id) = (t.account_id, t.definition_id)
    order by r.position;
end
$$;

select amzmp._expose('amzmp._product_type_rules(text, text, text)', 'amzmp_reader',
    'What a product type asks for: its attributes and the members of their values, with what is required, allowed, and how long it may be.');
