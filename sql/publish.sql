/*
 * publish.sql
 *	  The life of an offer: found in the catalogue, put, judged by Amazon, read again, taken off.
 *
 *		publish ──▶ queued ──look──▶ adopted (Amazon has the SKU): live, live_with_issues …
 *		              │
 *		              ├─ no ASIN yet ─▶ matching ──unique──▶ queued        none or several ──▶ rejected
 *		              └─ ASIN known ──▶ put ─▶ sent ──ACCEPTED──▶ pending   INVALID ──────────▶ rejected
 *
 *		pending ──read──▶ live · live_with_issues · rejected · (no verdict in time) rejected
 *		unpublish ──▶ quantity 0 ─▶ off_sale   or   delete ─▶ removed        vanished at Amazon ─▶ gone
 *
 * Each arrow is a request and the handler of its answer; nothing waits in between. What a lost answer left behind is
 * found by reading, and the flow send_products picks up whatever fell between two steps.
 *
 * Reading goes through searchListingsItems, 20 SKUs a call, and so does the look before a SKU is first put: whether an
 * offer is made, changed or adopted is decided by what Amazon has, not by the caller.
 *
 * Here is how an offer comes to be wanted; then publish_put.sql (the put), observe.sql (reading, the verdict),
 * listing_settle.sql (what follows from either), unpublish.sql and listing_leave.sql (how it goes).
 */

/*
 * What the shop says about the products to publish.
 */
create function amzmp._listing_products(account_id bigint, channel_id bigint, skus text[])
    returns setof amzmp.product
    rows 20
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select p.*
    from (select distinct u.sku from unnest($3) as u (sku)) as k
    cross join lateral amzmp._offer_product($1, $2, k.sku) as p
    where p.sku is not null
$$;

-- A list of SKUs as people give it: each once, none of them null.
create function amzmp._check_skus(skus text[], verb text)
    returns void
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    repeated text;
begin
    if coalesce(cardinality(skus), 0) = 0 or array_ndims(skus) > 1 or array_position(skus, null) is not null then
        perform amzmp._fail('AZ202', format('no SKUs to %s: %s', verb, case
                when skus is null then 'null'
                when cardinality(skus) = 0 then 'an empty array'
                when array_ndims(skus) > 1 then 'an array of arrays'
                else 'there is a null among them'
            end), null,
            format('Give an array of SKUs without nulls, for example array(select sku from product where sku is not null) or array[''A'', ''B''].'));
    end if;
    select string_agg(quote_literal(x.sku), ', ') into repeated
    from (
        select s.sku
        from unnest(skus) as s (sku)
        group by s.sku
        having count(*) > 1
        order by s.sku
        limit 10
    ) as x;
    if repeated is not null then
        perform amzmp._fail('AZ202', format('SKUs to %s are named twice: %s', verb, repeated), null, 'Name each once, for example by select distinct.');
    end if;
end
$$;

-- What cannot be published at all is an error that names it, before anything is changed.
create function amzmp._check_publication(place amzmp.channel, channel text, skus text[], asins text[])
    returns void
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    bad text;
begin
    if place.dropped or not place.active or not (select a.active from amzmp.account as a where a.account_id = place.account_id) then
        perform amzmp._fail('AZ203', format('channel "%s" is not active', channel),
            'Offers are made in active channels of active accounts only.', format('select amzmp.activate(%L);', channel));
    end if;
    perform amzmp._check_skus(skus, 'publish');
    if array_ndims(asins) > 1 then
        perform amzmp._fail('AZ202', 'the ASINs are an array of arrays', null, 'Give one ASIN for each SKU, in the same order.');
    end if;
    if asins is not null and cardinality(asins) <> cardinality(skus) then
        perform amzmp._fail('AZ202', format('%s ASINs for %s SKUs', cardinality(asins), cardinality(skus)), null,
            'Give one ASIN for each SKU, in the same order; null where the barcode shall decide.');
    end if;
    select string_agg(quote_literal(a.asin), ', ') into bad
    from unnest(asins) as a (asin)
    where upper(btrim(a.asin)) !~ '^[A-Z0-9]{10}$';
    if bad is not null then
        perform amzmp._fail('AZ202', format('not an ASIN: %s', bad), null,
            'An ASIN has ten letters and digits; it stands in the address of the product''s page.');
    end if;
    select string_agg(quote_literal(x.sku), ', ') into bad
    from (
        select s.sku
        from unnest(skus) as s (sku)
        where not amzmp._is_sku(s.sku)
        limit 10
    ) as x;
    if bad is not null then
        perform amzmp._fail('AZ202', format('Amazon takes no such SKU: %s', bad), null,
            'A SKU has 1 to 40 characters at Amazon and no blanks around it: Amazon takes these away, and knows the product by another SKU then. Trim it where the source is attached: sku => ''btrim(sku)''.');
    end if;
    select string_agg(quote_literal(x.sku), ', ') into bad
    from (
        select s.sku
        from unnest(skus) as s (sku)
        where not exists (
            select from amzmp._listing_products(place.account_id, place.channel_id, skus) as p where p.sku = s.sku
        )
        order by s.sku
        limit 10
    ) as x;
    if bad is not null then
        perform amzmp._fail('AZ202', format('no product with SKU %s', bad),
            'The attached sources have no such row, or it does not pass their filter.',
            'Look into amzmp.product; if the row is new, wait until it was read: call amzmp.wait();');
    end if;
end
$$;

create function amzmp._publish(channel text, skus text[], asins text[] default null)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
    cause constant jsonb := jsonb_build_object('role', amzmp._caller(), 'at', now(), 'verb', 'publish');
begin
    perform amzmp._check_publication(place, channel, skus, asins);
    perform amzmp._want(place, skus, asins, cause);
    perform amzmp._recompute(place.account_id, skus, cause);
    perform amzmp._look(place.account_id, place.channel_id, array(
            select l.sku
            from amzmp.listing as l
            where (l.account_id, l.channel_id, l.state) = (place.account_id, place.channel_id, 'queued')
                and l.sku = any (_publish.skus)
        ), now(), cause);
    return cardinality(skus);
end
$$;

select amzmp._expose('amzmp._publish(text, text[], text[])', 'amzmp_operator',
    'Offer these SKUs in a channel: on the ASINs given in the same order, else on those that the shop knows, else by barcode where exactly one catalogue item has it. What becomes of each shows in amzmp.offer. Returns how many are on their way.');

create function amzmp._publish(channel text, sku text, asin text)
    returns integer
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    select amzmp._publish(channel, array[sku], array[asin])
$$;

select amzmp._expose('amzmp._publish(text, text, text)', 'amzmp_operator',
    'Offer a SKU on an ASIN, e.g. one of those in amzmp.match_candidate.');

/*
 * Note that these SKUs are wanted. A listing that Amazon has already keeps its state; a new or failed one begins anew.
 */
create function amzmp._want(place amzmp.channel, skus text[], asins text[], cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    other record;
begin
    insert into amzmp.inventory (account_id, sku)
    select place.account_id, s.sku
    from (select distinct u.sku from unnest(skus) as u (sku)) as s
    order by s.sku
    on conflict do nothing;
    perform amzmp._lock_skus(place.account_id, skus);

    select l.sku, l.asin, upper(btrim(w.asin)) as wanted into other
    from unnest(skus, asins) as w (sku, asin)
    join amzmp.listing as l
        on (l.account_id, l.channel_id, l.sku) = (place.account_id, place.channel_id, w.sku)
    where l.listed
        and l.asin <> upper(btrim(w.asin))
    limit 1;
    if found then
        perform amzmp._fail('AZ203', format('SKU %L is offered on ASIN %s already', other.sku, other.asin), null,
            'Amazon does not move an offer to another item. Delete it first, or use another SKU.');
    end if;

    insert into amzmp.listing as l (account_id, channel_id, sku, wanted, state, state_reason, asin, ean, cause)
    select distinct on (w.sku) place.account_id, place.channel_id, w.sku, true, 'queued', 'asking what Amazon has',
        coalesce(upper(btrim(w.asin)), amzmp._asin(p.asin)), amzmp._gtin(p.ean), _want.cause
    from unnest(skus, asins) as w (sku, asin)
    join amzmp._listing_products(place.account_id, place.channel_id, skus) as p on p.sku = w.sku
    on conflict (account_id, channel_id, sku) do update
    set wanted = true,
        stopped_by = null,
        stopped_at = null,
        state = case when l.listed or l.state = 'sent' then l.state else 'queued' end,
        state_reason = case when l.listed or l.state = 'sent' then l.state_reason else excluded.state_reason end,
        state_at = case when l.listed or l.state = 'sent' then l.state_at else now() end,
        asin = case when l.listed or l.state = 'sent' then l.asin else coalesce(excluded.asin, l.asin) end,
        ean = excluded.ean,
        step = case when l.listed or l.state = 'sent' then l.step end;
    perform amzmp._forget_content(place.account_id, skus, true);

    delete from amzmp.penalty as p
    where (p.account_id, p.channel_id, p.kind) = (place.account_id, place.channel_id, 'publish')
        and p.subject = any (skus);
    delete from amzmp.match_candidate as k
    using unnest(skus, asins) as w (sku, asin)
    where (k.account_id, k.channel_id, k.sku) = (place.account_id, place.channel_id, w.sku)
        and w.asin is not null;
    perform amzmp._grew(grown, cardinality(skus)) from unnest(array['amzmp.listing', 'amzmp.inventory']::regclass[]) as grown;
end
$$;

-- What the shop has for an ASIN, where it is one.
create function amzmp._asin(given text)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case when upper(btrim(given)) ~ '^[A-Z0-9]{10}$' then upper(btrim(given)) end
$$;
