/*
 * content.sql
 *	  What the shop says about products themselves: attributes, images, and the family that they belong to.
 *
 * Content comes from values of the source (amzmp.attach_value) with these names:
 *
 *		attributes       jsonb object: {"item_name": "Mug", "bullet_point": ["holds tea", "holds coffee"]}
 *		product_type     Amazon's product type
 *		images           jsonb array of addresses, the main image first; without it the source's image
 *		parent_sku       the SKU of the family; the product whose own SKU it is, is the family itself and has no offer
 *		variation_theme  what the members of the family differ in
 *
 * It is sent where the channel's main switch is on and the product's rule names it in send (recompute.sql). A listing has
 * up to three facets of content, each a row: product, relation, image. The stages are those of listing: desired, in
 * flight, remote; what differs is sent by PATCH with all else (content_send.sql), attribute by attribute.
 *
 * A product that Amazon's catalogue does not have is created from its content, step by step: listing.step.
 *
 * Functions of one product or attribute are PL/pgSQL, which keeps its plans: a catalogue has millions of attributes.
 */

-- Attributes whose texts are in a language, where no definition says so: the usual ones.
create function amzmp._has_language(attribute text)
    returns boolean
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return attribute = any ('{item_name,brand,manufacturer,bullet_point,product_description,generic_keyword,color,size,material,style,
        pattern,model_name,included_components,special_feature,item_type_name,care_instructions,fabric_type,target_audience_keyword}');
end
$$;

/*
 * What an instance of an attribute carries beside its value: marketplace and language, as the definition says (tags); the
 * marketplace, and the language by its name, where the attribute is not in it.
 */
create function amzmp._instance_tags(attribute text, place amzmp.marketplace, tags jsonb)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case
            when coalesce(tags -> attribute ? 'marketplace_id', true) then jsonb_build_object('marketplace_id', place.marketplace_id)
            else '{}'
        end || case
            when coalesce(tags -> attribute ? 'language_tag', amzmp._has_language(attribute))
                then jsonb_build_object('language_tag', place.language)
            else '{}'
        end;
end
$$;

-- Attributes that the content does not contain, because amzmp keeps them from elsewhere.
create function amzmp._is_kept_attribute(attribute text)
    returns boolean
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return attribute = any ('{purchasable_offer,fulfillment_availability,condition_type,condition_note,list_price,merchant_shipping_group,
            merchant_suggested_asin,parentage_level,variation_theme,child_parent_sku_relationship}')
        or attribute ~ '_image_locator(_[0-9])?$';
end
$$;

create table amzmp.listing_content (
    account_id bigint not null,
    channel_id bigint not null,
    sku text not null,
    facet text not null,
    product_type text,
    parent_sku text,
    desired jsonb not null,
    desired_at timestamptz not null default now(),
    sends boolean not null default true,
    in_flight jsonb,
    in_flight_request bigint,
    remote jsonb,
    submitted_at timestamptz,
    submitted_request bigint,
    in_doubt boolean not null default false,
    differs boolean not null
        generated always as (sends and not in_doubt and desired is distinct from remote) stored,
    primary key (account_id, channel_id, sku, facet),
    constraint listing_content_facet_check check (facet in ('product', 'relation', 'image'))
);

create index listing_content_differs on amzmp.listing_content (account_id, channel_id, sku) where differs;
create index listing_content_type on amzmp.listing_content (account_id, channel_id, product_type, sku) where facet = 'product';
create index listing_content_parent on amzmp.listing_content (account_id, channel_id, parent_sku) where parent_sku is not null;
create index listing_content_in_doubt on amzmp.listing_content (account_id, channel_id, sku) where in_doubt;

comment on table amzmp.listing_content is 'Content of a listing, as attributes of Amazon''s: what the shop wants, and what Amazon accepted last.';
comment on column amzmp.listing_content.account_id is 'The account.';
comment on column amzmp.listing_content.channel_id is 'The channel.';
comment on column amzmp.listing_content.sku is 'The SKU.';
comment on column amzmp.listing_content.facet is 'product: the attributes; relation: its place in a family; image: its images.';
comment on column amzmp.listing_content.product_type is 'Amazon''s product type, as the shop says.';
comment on column amzmp.listing_content.parent_sku is 'The family that it belongs to, where it belongs to one.';
comment on column amzmp.listing_content.desired is 'Attributes that the shop wants.';
comment on column amzmp.listing_content.desired_at is 'When they last changed.';
comment on column amzmp.listing_content.sends is 'Are they kept up to date? The main switches and a rule''s send say.';
comment on column amzmp.listing_content.in_flight is 'Attributes in a request whose answer is awaited.';
comment on column amzmp.listing_content.in_flight_request is 'That request.';
comment on column amzmp.listing_content.remote is 'Attributes that Amazon accepted last. Null: none; an attribute that is null: unknown.';
comment on column amzmp.listing_content.submitted_at is 'When Amazon accepted them.';
comment on column amzmp.listing_content.submitted_request is 'The request that carried them.';
comment on column amzmp.listing_content.in_doubt is 'Is what Amazon has unknown until it is read back? See confirm_identity.';
comment on column amzmp.listing_content.differs is 'Is there content to send?';

create view amzmp.content_diff
    with (security_invoker = true)
as
    select a.name as account, c.name as channel, d.sku, d.facet, d.product_type,
        array(
            select k.name
            from (
                select n.name from jsonb_object_keys(d.desired) as n (name)
                union
                select n.name from jsonb_object_keys(coalesce(d.remote, '{}')) as n (name)
            ) as k
            where d.desired -> k.name is distinct from d.remote -> k.name
            order by k.name
        ) as attributes,
        d.submitted_at, l.step
    from amzmp.listing_content as d
    join amzmp.listing as l using (account_id, channel_id, sku)
    join amzmp.account as a using (account_id)
    join amzmp.channel as c using (account_id, channel_id)
    where d.differs;

comment on view amzmp.content_diff is 'Content that is to be sent: attributes in which the shop and Amazon differ.';
comment on column amzmp.content_diff.account is 'Name of the account.';
comment on column amzmp.content_diff.channel is 'Name of the channel.';
comment on column amzmp.content_diff.sku is 'The SKU.';
comment on column amzmp.content_diff.facet is 'product, relation or image.';
comment on column amzmp.content_diff.product_type is 'Amazon''s product type, as the shop says.';
comment on column amzmp.content_diff.attributes is 'The attributes that differ.';
comment on column amzmp.content_diff.submitted_at is 'When Amazon last accepted this facet.';
comment on column amzmp.content_diff.step is 'What the listing waits for while it is being created.';

/*
 * From the shop's values to Amazon's attributes.
 */

-- A value that is JSON, or null.
create function amzmp._json_or_null(given text)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return given::jsonb;
exception
    when data_exception then
        return null;
end
$$;

/*
 * An attribute in Amazon's form: an array of instances, each with its marketplace. A plain value becomes the member
 * "value", in the marketplace's language where the attribute has one; an object is taken as it is, and gets the language
 * only where a definition asks for it.
 */
create function amzmp._attribute_instances(attribute text, given jsonb, place amzmp.marketplace, tags jsonb)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select jsonb_agg(case
                    when jsonb_typeof(e.instance) <> 'object' then t.own || jsonb_build_object('value', e.instance)
                    when tags ? attribute then t.own || e.instance
                    else t.own - 'language_tag' || e.instance
                end order by e.ordinality)
        from jsonb_array_elements(case jsonb_typeof(given) when 'array' then given else jsonb_build_array(given) end)
                with ordinality as e (instance, ordinality)
        cross join amzmp._instance_tags(attribute, place, tags) as t (own)
        where jsonb_typeof(e.instance) <> 'null'
    );
end
$$;

-- The attributes of a product; its barcode is one of them. Null where the shop names none.
create function amzmp._product_attributes(product amzmp.product, place amzmp.marketplace, tags jsonb)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select jsonb_strip_nulls(jsonb_build_object('externally_assigned_product_identifier', jsonb_build_array(jsonb_build_object(
                        'marketplace_id', place.marketplace_id, 'type', case length(g.code) when 14 then 'gtin' else 'ean' end, 'value', g.code)))
                - case when g.code is null then 'externally_assigned_product_identifier' else '' end
                || jsonb_object_agg(a.key, amzmp._attribute_instances(a.key, a.value, place, tags)))
        from jsonb_each(case jsonb_typeof(amzmp._json_or_null(product.extra ->> 'attributes'))
                when 'object' then amzmp._json_or_null(product.extra ->> 'attributes')
            end) as a
        cross join (select amzmp._gtin(product.ean) as code) as g
        where not amzmp._is_kept_attribute(a.key)
        group by g.code
    );
end
$$;

-- Its place in a family; null where it belongs to none.
create function amzmp._relation_attributes(product amzmp.product, place amzmp.marketplace)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select jsonb_strip_nulls(jsonb_build_object(
                'parentage_level', jsonb_build_array(jsonb_build_object('marketplace_id', place.marketplace_id,
                        'value', case product.extra ->> 'parent_sku' when product.sku then 'parent' else 'child' end)),
                'child_parent_sku_relationship', case
                    when product.extra ->> 'parent_sku' <> product.sku then jsonb_build_array(jsonb_build_object(
                        'marketplace_id', place.marketplace_id, 'child_relationship_type', 'variation', 'parent_sku', product.extra ->> 'parent_sku'))
                end,
                'variation_theme', case
                    when product.extra ? 'variation_theme' then jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
                        'marketplace_id', place.marketplace_id, 'name', product.extra ->> 'variation_theme')))
                end))
        where product.extra ->> 'parent_sku' <> ''
    );
end
$$;

-- Its images, the main one first; null where there are none.
create function amzmp._image_attributes(product amzmp.product, place amzmp.marketplace)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select jsonb_object_agg(
                case i.place when 1 then 'main_product_image_locator' else 'other_product_image_locator_' || i.place - 1 end,
                jsonb_build_array(jsonb_build_object('marketplace_id', place.marketplace_id, 'media_location', i.address)))
        from (
            select e.address, row_number() over (order by e.ordinality) as place
            from jsonb_array_elements_text(case
                    when jsonb_typeof(amzmp._json_or_null(product.extra ->> 'images')) = 'array' then (product.extra ->> 'images')::jsonb
                    else jsonb_build_array(product.image)
                end) with ordinality as e (address, ordinality)
            where e.address ~ '^https?://'
        ) as i
        where i.place <= 9
    );
end
$$;

-- What the shop says about a product, by facet, and the switch that each facet needs. Null attributes: nothing.
create function amzmp._content_facets(product amzmp.product, place amzmp.marketplace, tags jsonb)
    returns table (facet text, switch text, attributes jsonb)
    rows 3
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    values ('product', 'content', amzmp._product_attributes(product, place, tags)),
        ('relation', 'content', amzmp._relation_attributes(product, place)),
        ('image', 'images', amzmp._image_attributes(product, place));
end
$$;

/*
 * Bring the desired content of these offers up to date. Without a main switch that is on this is nobody's business.
 */
create function amzmp._set_content(account_id bigint, prices amzmp.offer_price[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if not exists (
        select from unnest(prices) as p where p.switches && '{content,images}'
    ) then
        update amzmp.listing_content as d
        set sends = false
        from unnest(prices) as p
        where (d.account_id, d.channel_id, d.sku) = (_set_content.account_id, p.channel_id, p.sku)
            and d.sends;
        return;
    end if;

    with said as (
        select p.channel_id, p.sku, f.facet, f.switch = any ((p.calc).sends) and f.switch = any (p.switches) as sends, f.attributes,
            nullif(r.extra ->> 'product_type', '') as product_type, nullif(r.extra ->> 'parent_sku', '') as parent_sku
        from unnest(prices) as p
        join amzmp.channel as c on (c.account_id, c.channel_id) = (_set_content.account_id, p.channel_id)
        join amzmp.marketplace as m using (marketplace_id)
        cross join lateral amzmp._offer_product(c.account_id, c.channel_id, p.sku) as r
        cross join lateral amzmp._content_facets(r, m,
            amzmp._attribute_tags(c.account_id, c.channel_id, nullif(r.extra ->> 'product_type', ''))) as f
        where p.known
    ), stored as (
        insert into amzmp.listing_content as d (account_id, channel_id, sku, facet, product_type, parent_sku, desired)
        select _set_content.account_id, s.channel_id, s.sku, s.facet, s.product_type, s.parent_sku, s.attributes
        from said as s
        where s.sends
            and s.attributes is not null
        on conflict (account_id, channel_id, sku, facet) do update
        set product_type = excluded.product_type,
            parent_sku = excluded.parent_sku,
            desired = excluded.desired,
            desired_at = now(),
            sends = true
        where (d.product_type, d.parent_sku, d.desired, d.sends)
            is distinct from (excluded.product_type, excluded.parent_sku, excluded.desired, true)
    )
    update amzmp.listing_content as d
    set sends = false
    from said as s
    where (d.account_id, d.channel_id, d.sku, d.facet) = (_set_content.account_id, s.channel_id, s.sku, s.facet)
        and d.sends
        and (not s.sends or s.attributes is null);
    perform amzmp._want_definitions(account_id, array(select distinct p.sku from unnest(prices) as p where p.known));

    update amzmp.listing as l
    set is_parent = n.is_parent
    from (
        select p.channel_id, p.sku, exists (
                select
                from amzmp.listing_content as d
                where (d.account_id, d.channel_id, d.sku, d.facet) = (_set_content.account_id, p.channel_id, p.sku, 'relation')
                    and d.parent_sku = p.sku
            ) as is_parent
        from unnest(prices) as p
        where p.known
    ) as n
    where (l.account_id, l.channel_id, l.sku) = (_set_content.account_id, n.channel_id, n.sku)
        and l.is_parent <> n.is_parent;
end
$$;

comment on function amzmp._set_content(bigint, amzmp.offer_price[]) is 'Inner: desired content of offers, from the product''s values.';

-- Is this SKU a family, which has neither price nor stock?
create function amzmp._is_parent(account_id bigint, sku text)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return exists (
        select
        from amzmp.channel as c
        join amzmp.listing as l using (account_id, channel_id)
        where c.account_id = _is_parent.account_id
            and l.sku = _is_parent.sku
            and l.is_parent
    );
end
$$;

/*
 * The parts of content that create a product that Amazon's catalogue does not have: its facts, and for a family that it is
 * one. Null where they do not suffice: Amazon wants a product type, and a barcode or an exemption.
 */
create function amzmp._creating(contents amzmp.listing_content[], is_parent boolean)
    returns amzmp.listing_content[]
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select array_agg(d order by d.facet)
        from unnest(contents) as d
        where d.sends
            and (d.facet = 'product' or d.facet = 'relation' and is_parent)
        having bool_or(d.facet = 'product'
                and d.product_type is not null
                and (is_parent or d.desired ?| '{externally_assigned_product_identifier,supplier_declared_has_product_identifier_exemption}'))
    );
end
$$;

create function amzmp._creation_contents(listing amzmp.listing)
    returns amzmp.listing_content[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return amzmp._creating(array(
            select d
            from amzmp.listing_content as d
            where (d.account_id, d.channel_id, d.sku) = (listing.account_id, listing.channel_id, listing.sku)
        ), listing.is_parent);
end
$$;

-- Can a product that Amazon's catalogue does not have be created from its content?
create function amzmp._creatable(listing amzmp.listing)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return amzmp._creation_contents(listing) is not null;
end
$$;
