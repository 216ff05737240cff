/*
 * content_send.sql
 *	  Content on its way: what of it is sent now, the patches, what the answers mean, and the steps in which a product is
 *	  created that Amazon's catalogue does not have.
 *
 *		product ─▶ relation ─▶ image ─▶ price ─▶ stock ─▶ (null: complete)
 *
 * The product is put, all else follows by PATCH like any difference; listing.step says how far it has come and keeps
 * later facets back. product ends when Amazon shows the item without an error, every other step when Amazon has accepted
 * its facet. A step with nothing to send is passed. The family itself has neither price nor stock.
 */

-- May this content be sent now? Not before its step, and no member before its family is there.
create function amzmp._content_ready(content amzmp.listing_content, listing amzmp.listing)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return listing.listed
        and listing.wanted
        and content.sends
        and coalesce(case content.facet
                when 'product' then listing.step <> 'product'
                when 'relation' then listing.step <> 'product'
                when 'image' then listing.step = any ('{image,price,stock}')
            end, true)
        and (content.facet <> 'relation'
            or content.parent_sku = content.sku
            or exists (
                select
                from amzmp.listing as f
                where (f.account_id, f.channel_id, f.sku) = (content.account_id, content.channel_id, content.parent_sku)
                    and f.listed
                    and f.step is distinct from 'product'
            ))
        and not amzmp._penalised(content.account_id, content.facet, content.channel_id, content.sku);
end
$$;

-- The content that a claimed PATCH carries. What an earlier attempt of it carried is sent again in any case.
create function amzmp._content_to_send(request_id bigint, listing amzmp.listing)
    returns amzmp.listing_content[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return nullif(array(
            select d
            from amzmp.listing_content as d
            where (d.account_id, d.channel_id, d.sku) = (listing.account_id, listing.channel_id, listing.sku)
                and (d.differs or d.in_flight_request = _content_to_send.request_id)
                and amzmp._content_ready(d, listing)
            order by array_position('{product,relation,image}', d.facet)
        ), '{}');
end
$$;

-- From the attributes that Amazon has to those that are wanted. One whose value is not known is sent anew.
create function amzmp._content_patches(contents amzmp.listing_content[], place amzmp.marketplace)
    returns jsonb[]
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array(
        select p.patch
        from unnest(contents) with ordinality as d
        cross join lateral (
            select w.key, jsonb_build_object('op', 'replace', 'path', '/attributes/' || w.key, 'value', w.value) as patch
            from jsonb_each(d.desired) as w
            where w.value is distinct from d.remote -> w.key
            union all
            select g.key, jsonb_build_object('op', 'delete', 'path', '/attributes/' || g.key, 'value', jsonb_build_array(
                        amzmp._instance_tags(g.key, place, amzmp._attribute_tags(d.account_id, d.channel_id, d.product_type))))
            from jsonb_each(d.remote) as g
            where not d.desired ? g.key
        ) as p
        order by d.ordinality, p.key
    )
$$;

create function amzmp._creation_body(contents amzmp.listing_content[])
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('productType', max(d.product_type), 'requirements', 'LISTING_PRODUCT_ONLY',
            'attributes', jsonb_object_agg(a.key, a.value))
    from unnest(contents) as d
    cross join lateral jsonb_each(d.desired) as a
$$;

-- This content is on its way with a request.
create function amzmp._content_leaves(contents amzmp.listing_content[], request_id bigint)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    update amzmp.listing_content as d
    set in_flight = c.desired,
        in_flight_request = $2
    from unnest($1) as c
    where (d.account_id, d.channel_id, d.sku, d.facet) = (c.account_id, c.channel_id, c.sku, c.facet)
$$;

/*
 * What answers mean for content in flight. Of what may or may not have arrived only the names of its attributes are
 * known.
 */
create function amzmp._land_content(account_id bigint, answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.listing_content as d
    set remote = case
            when v.accepted then d.in_flight
            when v.unknown then amzmp._names_only(coalesce(d.remote, '{}') || d.in_flight)
            else d.remote
        end,
        submitted_at = case when v.accepted then a.answered_at else d.submitted_at end,
        submitted_request = case when v.accepted then d.in_flight_request else d.submitted_request end,
        in_flight = null,
        in_flight_request = null
    from unnest(answers) as a,
        lateral amzmp._submission_verdict(a) as v
    where (d.account_id, d.channel_id, d.sku, d.in_flight_request)
            = (_land_content.account_id, (a.request).channel_id, (a.request).subject, (a.request).request_id);
end
$$;

create function amzmp._names_only(attributes jsonb)
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_object_agg(a.key, null) from jsonb_each(attributes) as a
$$;

-- What Amazon has of these SKUs' content is not known any more; gone: it is known that it has none.
create function amzmp._forget_content(account_id bigint, skus text[], gone boolean)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.listing_content as d
    set remote = case when not _forget_content.gone then amzmp._names_only(d.remote) end
    from amzmp.channel as c
    join amzmp.listing as l using (account_id, channel_id)
    where c.account_id = _forget_content.account_id
        and l.sku = any (skus)
        and (not _forget_content.gone or not l.listed and l.state <> 'sent')
        and (d.account_id, d.channel_id, d.sku) = (l.account_id, l.channel_id, l.sku)
        and d.remote is not null
        and d.in_flight_request is null;
end
$$;

/*
 * Take listings that are being created as far as what Amazon has accepted lets them come.
 */
create function amzmp._advance_steps(account_id bigint, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    moved amzmp.listing[];
begin
    with reached as (
        select l.channel_id, l.sku, case
                when l.step = 'product' and (not l.listed or l.asin is null) then 'product'
                when o.relation then 'relation'
                when o.image then 'image'
                when l.is_parent then null
                when l.sends_price and l.submitted_price_at is null and (l.step <> 'price' or l.price_differs) then 'price'
                when i.sends and i.submitted_quantity_at is null and l.fulfillment = 'merchant'
                    and (l.step <> 'stock' or not i.listed or i.quantity_differs) then 'stock'
            end as step
        from amzmp.channel as c
        join amzmp.listing as l using (account_id, channel_id)
        left join amzmp.inventory as i on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
        cross join lateral (
            select coalesce(bool_or(d.facet = 'relation'), false) as relation, coalesce(bool_or(d.facet = 'image'), false) as image
            from amzmp.listing_content as d
            where (d.account_id, d.channel_id, d.sku) = (l.account_id, l.channel_id, l.sku)
                and d.sends
                and d.remote is null
        ) as o
        where c.account_id = _advance_steps.account_id
            and l.sku = any (skus)
            and l.step is not null
    ), stepped as (
        update amzmp.listing as l
        set step = r.step,
            state_reason = case when l.state <> 'pending' then l.state_reason else amzmp._step_reason(r.step) end
        from reached as r
        where (l.account_id, l.channel_id, l.sku) = (_advance_steps.account_id, r.channel_id, r.sku)
            and l.step is distinct from r.step
        returning l.*
    )
    select array_agg(s::amzmp.listing) into moved from stepped as s;
    if moved is null then
        return;
    end if;

    perform amzmp._share_stock(account_id, array(select m.sku from unnest(moved) as m));
    perform amzmp._plan_sends(account_id, array(
            select m.sku from unnest(moved) as m
            union
            select d.sku
            from unnest(moved) as m
            join amzmp.listing_content as d
                on (d.account_id, d.channel_id, d.parent_sku) = (m.account_id, m.channel_id, m.sku)
            where m.is_parent
                and d.differs
        ));
end
$$;

comment on function amzmp._advance_steps(bigint, text[]) is 'Inner: the next step of listings that are being created.';

create function amzmp._step_reason(step text)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case
            when step is null then 'created and complete, Amazon''s verdict is awaited'
            else format('created at Amazon, next comes its %s', step)
        end
$$;

/*
 * Begin anew with rejected listings whose content has just changed.
 */
create function amzmp._try_content(account_id bigint, skus text[], cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    again record;
begin
    for again in
        with tried as (
            update amzmp.listing as l
            set state = 'queued',
                state_reason = 'changed in the shop, tried again',
                state_at = now()
            from amzmp.listing_content as d
            where d.account_id = _try_content.account_id
                and d.sku = any (skus)
                and d.desired_at = now()
                and (l.account_id, l.channel_id, l.sku) = (d.account_id, d.channel_id, d.sku)
                and l.state = 'rejected'
                and l.wanted
            returning l.channel_id, l.sku
        )
        select t.channel_id, array_agg(distinct t.sku) as skus
        from tried as t
        group by t.channel_id
    loop
        perform amzmp._look(account_id, again.channel_id, again.skus, now(), cause);
    end loop;
end
$$;
