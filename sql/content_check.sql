/*
 * content_check.sql
 *	  Content in doubt: after a change of identity (identity.sql) the original may have sent content that this database does
 *	  not know of, so what Amazon has is read back, attribute by attribute.
 *
 *		taken over ──▶ in doubt: nothing of it is sent ──reading with attributes──▶ remote is what was seen; what differs is sent
 *
 * An attribute that Amazon has as it is wanted is taken for sent; one that it has otherwise is unknown, and so sent or taken
 * away again; one that it has not is known not to be there. Amazon adds members to instances (defaults), so an instance is as
 * wanted when it holds at least that.
 */

-- Inner: what Amazon has of the account's content is unknown from now on. Called with its listings in doubt.
create function amzmp._doubt_content(account_id bigint)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    update amzmp.listing_content as d
    set in_doubt = true
    from amzmp.listing as l
    where d.account_id = _doubt_content.account_id
        and (l.account_id, l.channel_id, l.sku) = (d.account_id, d.channel_id, d.sku)
        and l.in_doubt
$$;

-- Do readings of these SKUs have to ask for their attributes: because of a template, or of content in doubt?
create function amzmp._wants_attributes(account_id bigint, channel_id bigint, skus text[])
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return amzmp._names_template(account_id, channel_id, skus)
        or exists (
            select
            from amzmp.listing_content as d
            where (d.account_id, d.channel_id) = (_wants_attributes.account_id, _wants_attributes.channel_id)
                and d.in_doubt
                and d.sku = any (skus)
        );
end
$$;

-- Has Amazon an attribute as it is wanted: as many instances in the same order, each with at least its members?
create function amzmp._holds_instances(seen jsonb, wanted jsonb)
    returns boolean
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_typeof(seen) = 'array'
        and jsonb_typeof(wanted) = 'array'
        and jsonb_array_length(seen) = jsonb_array_length(wanted)
        and not exists (
            select
            from jsonb_array_elements(case jsonb_typeof(wanted) when 'array' then wanted end) with ordinality as w (instance, place)
            where not seen -> (w.place - 1)::integer @> w.instance
        )
$$;

-- What is known of content from the attributes that were seen; null: Amazon has none of it.
create function amzmp._content_seen(content amzmp.listing_content, attributes jsonb)
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_object_agg(k.name, case
                when amzmp._holds_instances(attributes -> k.name, content.desired -> k.name) then content.desired -> k.name
            end)
    from (
        select n.name from jsonb_object_keys(content.desired) as n (name)
        union
        select n.name from jsonb_object_keys(coalesce(content.remote, '{}')) as n (name)
    ) as k
    where attributes ? k.name
$$;

/*
 * End the doubt about the content of SKUs that were read. A reading that was queued before may not have asked for
 * attributes; then it is read once more. Where Amazon refuses to tell, all of it is sent again.
 */
create function amzmp._settle_content(account_id bigint, seen amzmp.seen_listing[], answers amzmp.answer_row[])
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
    if not exists (
        select
        from amzmp.listing_content as d
        where d.account_id = _settle_content.account_id
            and d.in_doubt
    ) then
        return;
    end if;
    update amzmp.listing_content as d
    set in_doubt = false,
        remote = case
            when d.in_flight_request is not null then d.remote
            when a.outcome <> 'success' and a.status is distinct from 404 then amzmp._names_only(coalesce(d.remote, d.desired))
            when s.summary is not null then amzmp._content_seen(d, s.attributes)
        end
    from unnest(answers) as a
    cross join lateral amzmp._asked_skus((a.request).params) as q (sku)
    left join unnest(seen) as s on (s.channel_id, s.sku) = ((a.request).channel_id, q.sku)
    where (d.account_id, d.channel_id, d.sku) = (_settle_content.account_id, (a.request).channel_id, q.sku)
        and d.in_doubt
        and case
            when a.outcome = 'success' then s.summary is null or s.attributes is not null
            else a.outcome = 'refused'
        end;

    for again in
        select (a.request).channel_id, array_agg(distinct q.sku) as skus
        from unnest(answers) as a
        cross join lateral amzmp._asked_skus((a.request).params) as q (sku)
        join amzmp.listing_content as d
            on (d.account_id, d.channel_id, d.sku) = (_settle_content.account_id, (a.request).channel_id, q.sku) and d.in_doubt
        where a.outcome = 'success'
        group by (a.request).channel_id
    loop
        perform amzmp._look(account_id, again.channel_id, again.skus, now(), jsonb_build_object('reason', 'content in doubt'));
    end loop;
end
$$;

comment on function amzmp._settle_content(bigint, amzmp.seen_listing[], amzmp.answer_row[]) is 'Inner: end the doubt about the content of SKUs that were read.';
