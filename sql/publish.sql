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
    select distinct on (p.sku) p.*
    from amzmp.source as s
    join amzmp.product as p using (account_id, source_id)
    where s.account_id = $1
        and s.channel_id in (0, $2)
        and p.sku = any ($3)
        and not p.gone
    order by p.sku, s.channel_id = 0, s.source_id
$$;

/*
 * The catalogue.
 */

-- Catalogue items of an answer, as they are in one marketplace.
create function amzmp._catalog_items(body jsonb, marketplace_id text)
    returns table (place integer, asin text, title text, brand text, eans text[], image text, product_type text, family boolean)
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select i.place::integer, i.item ->> 'asin', s.summary ->> 'itemName', s.summary ->> 'brand',
        array(
            select distinct e.code ->> 'identifier'
            from jsonb_path_query(i.item, '$.identifiers[*] ? (@.marketplaceId == $here).identifiers[*]', h.here) as e (code)
            where e.code ->> 'identifierType' in ('EAN', 'GTIN', 'ISBN', 'JAN', 'UPC')
        ),
        jsonb_path_query_first(i.item,
            '$.images[*] ? (@.marketplaceId == $here).images[*] ? (@.variant == "MAIN").link', h.here) #>> '{}',
        jsonb_path_query_first(i.item,
            '$.productTypes[*] ? (@.marketplaceId == $here).productType', h.here) #>> '{}',
        coalesce(s.summary ->> 'itemClassification' = 'VARIATION_PARENT', false)
    from jsonb_array_elements(case jsonb_typeof(body -> 'items') when 'array' then body -> 'items' else '[]' end)
            with ordinality as i (item, place),
        lateral (select jsonb_build_object('here', marketplace_id) as here) as h,
        lateral (
            select jsonb_path_query_first(i.item, '$.summaries[*] ? (@.marketplaceId == $here)', h.here) as summary
        ) as s
$$;

-- How much of what we know about a product is in a title: the share of its words, 0 to 1.
create function amzmp._title_score(wanted text, title text)
    returns numeric
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(round(avg((w.word = any (regexp_split_to_array(lower(title), '\W+')))::integer), 2), 0)
    from regexp_split_to_table(lower(wanted), '\W+') as w (word)
    where w.word <> ''
$$;

create function amzmp._identifier_type(gtin text)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case length(gtin) when 14 then 'GTIN' else 'EAN' end
$$;

create function amzmp._catalog_params(marketplace_id text, identifiers text[])
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('marketplaceIds', jsonb_build_array(marketplace_id), 'identifiers', to_jsonb(identifiers),
        'identifiersType', amzmp._identifier_type(identifiers[1]),
        'includedData', '["identifiers", "images", "productTypes", "summaries"]'::jsonb, 'pageSize', 20)
$$;

create function amzmp._search_catalog(channel text, ean text default null, keywords text default null)
    returns table (asin text, title text, brand text, eans text[], image text, product_type text, score numeric)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
    gtin text;
    params jsonb;
    answer jsonb;
begin
    if num_nonnulls(ean, nullif(btrim(keywords), '')) <> 1 then
        perform amzmp._fail('AZ202', 'give either a barcode or keywords', null,
            format('select * from amzmp.search_catalog(%L, ean => …); or keywords => …', channel));
    end if;
    if ean is not null then
        gtin := amzmp.normalize_gtin(ean);
        params := amzmp._catalog_params(place.marketplace_id, array[gtin]);
    else
        params := jsonb_build_object('marketplaceIds', jsonb_build_array(place.marketplace_id),
            'keywords', to_jsonb((regexp_split_to_array(btrim(keywords), '[\s,]+'))[:20]),
            'includedData', '["identifiers", "images", "productTypes", "summaries"]'::jsonb, 'pageSize', 20);
    end if;
    answer := amzmp._call((select a.name from amzmp.account as a where a.account_id = place.account_id),
        'searchCatalogItems', params, null);
    return query
    select i.asin, i.title, i.brand, i.eans, i.image, i.product_type,
        case
            when gtin is null then amzmp._title_score(_search_catalog.keywords, i.title)
            else 1
        end
    from amzmp._catalog_items(answer, place.marketplace_id) as i
    where not i.family
    order by 7 desc, i.place;
end
$$;

select amzmp._expose('amzmp._search_catalog(text, text, text)', 'amzmp_operator',
    'Catalogue items in a channel''s marketplace, by barcode or by keywords, best first (at most 20). Asks Amazon now, so not in a transaction that has written. score: 1 for the barcode, else the share of the keywords in the title.');

/*
 * Publish.
 */

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
    if coalesce(cardinality(skus), 0) = 0 or array_position(skus, null) is not null then
        perform amzmp._fail('AZ202', 'no SKU to publish', null, 'Give an array of SKUs, without nulls.');
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
        where s.sku = '' or length(s.sku) > 40
        limit 10
    ) as x;
    if bad is not null then
        perform amzmp._fail('AZ202', format('Amazon takes no such SKU: %s', bad), null, 'A SKU has 1 to 40 characters at Amazon.');
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
        state = case when l.listed or l.state = 'sent' then l.state else 'queued' end,
        state_reason = case when l.listed or l.state = 'sent' then l.state_reason else excluded.state_reason end,
        state_at = case when l.listed or l.state = 'sent' then l.state_at else now() end,
        asin = case when l.listed or l.state = 'sent' then l.asin else coalesce(excluded.asin, l.asin) end,
        ean = excluded.ean;

    delete from amzmp.penalty as p
    where (p.account_id, p.channel_id, p.kind) = (place.account_id, place.channel_id, 'publish')
        and p.subject = any (skus);
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

/*
 * Set the state of listings with the reason for it, and log what did not come out as wanted.
 */
create type amzmp.new_state as (channel_id bigint, sku text, state text, reason text, code text);

comment on type amzmp.new_state is 'Inner: a state that a listing enters. code: why it failed, for amzmp.penalty; null where it did not.';

create function amzmp._enter(account_id bigint, states amzmp.new_state[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    failure amzmp.new_state;
begin
    update amzmp.listing as l
    set state = s.state,
        state_reason = s.reason,
        state_at = case when l.state = s.state then l.state_at else now() end
    from unnest(states) as s
    where (l.account_id, l.channel_id, l.sku) = (_enter.account_id, s.channel_id, s.sku)
        and (l.state, l.state_reason) is distinct from (s.state, s.reason);

    perform amzmp._share_stock(account_id, array(select s.sku from unnest(states) as s));

    foreach failure in array array(select s from unnest(states) as s where s.code is not null)
    loop
        perform amzmp._penalise(account_id, failure.channel_id, 'publish', failure.sku, failure.code, failure.reason);
    end loop;

    delete from amzmp.penalty as p
    using unnest(states) as s
    where (p.account_id, p.channel_id, p.kind, p.subject) = (_enter.account_id, s.channel_id, 'publish', s.sku)
        and s.code is null;
end
$$;

-- Stock can be sent while an offer that the merchant ships is listed in any channel. What was live is forgotten with
-- the last one.
create function amzmp._share_stock(account_id bigint, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.inventory as i
    set listed = s.listed,
        remote_quantity = case when s.listed then i.remote_quantity end,
        submitted_quantity_at = case when s.listed then i.submitted_quantity_at end
    from (
        select k.sku, exists (
                select
                from amzmp.channel as c
                join amzmp.listing as l using (account_id, channel_id)
                where c.account_id = _share_stock.account_id
                    and l.sku = k.sku
                    and l.listed
                    and l.fulfillment = 'merchant'
            ) as listed
        from (select distinct u.sku from unnest(_share_stock.skus) as u (sku)) as k
    ) as s
    where (i.account_id, i.sku, i.fulfillment_channel) = (_share_stock.account_id, s.sku, 'DEFAULT')
        and i.listed is distinct from s.listed;
end
$$;

/*
 * Reading.
 */

-- Amazon takes a while; ask soon at first, then ever more seldom. age: since the submission. A mock account's hours
-- may pass faster.
create function amzmp._read_delay(account_id bigint, age interval)
    returns interval
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select greatest(interval '5 seconds' / a.time_scale::double precision, interval '0.2 seconds',
        least($2 / 2, interval '10 minutes' / a.time_scale::double precision))
    from amzmp.account as a
    where a.account_id = $1
$$;

create function amzmp._account_interval(account_id bigint, channel_id bigint, setting text)
    returns interval
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select amzmp._setting_interval($1, $2, $3) / a.time_scale::double precision
    from amzmp.account as a
    where a.account_id = $1
$$;

/*
 * Queue the reading of SKUs of a channel, 20 a call. A SKU with a comma cannot stand in a list and is asked for alone.
 * Requests that wait for about the same time are filled up first.
 */
create function amzmp._look(account_id bigint, channel_id bigint, skus text[], not_before timestamptz, cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    rest text[] := array(select s.sku from unnest(skus) as s (sku) where s.sku !~ ',' order by s.sku);
    waiting record;
begin
    if skus = '{}' then
        return;
    end if;
    update amzmp.listing as l
    set read_due_at = _look.not_before
    where (l.account_id, l.channel_id) = (_look.account_id, _look.channel_id)
        and l.sku = any (skus);

    for waiting in
        select r.request_id, 20 - jsonb_array_length(r.params -> 'identifiers') as room
        from amzmp.request as r
        where (r.account_id, r.subject_kind, r.subject) = (_look.account_id, 'listings', _look.channel_id::text)
            and r.operation = 'searchListingsItems'
            and r.state = 'due'
            and r.attempt = 0
            and r.not_before > now()
            and abs(extract(epoch from r.not_before - _look.not_before))
                <= greatest(1, extract(epoch from _look.not_before - now()) / 4)
            and jsonb_array_length(r.params -> 'identifiers') < 20
        for no key update skip locked
    loop
        exit when rest = '{}';
        update amzmp.request as r
        set params = jsonb_set(r.params, '{identifiers}', (r.params -> 'identifiers') || to_jsonb(rest[:waiting.room]))
        where (r.account_id, r.request_id) = (_look.account_id, waiting.request_id);
        rest := rest[waiting.room + 1:];
    end loop;

    insert into amzmp.request (account_id, operation, priority, not_before, params, handler, subject_kind, subject,
        channel_id, cause)
    select _look.account_id, b.operation, 60, _look.not_before, b.params || jsonb_build_object(
            'sellerId', a.seller_id, 'marketplaceIds', jsonb_build_array(m.marketplace_id), 'issueLocale', m.language,
            'includedData', '["summaries", "issues", "offers", "fulfillmentAvailability"]'::jsonb),
        '_handle_read', 'listings', _look.channel_id::text, _look.channel_id, _look.cause
    from (
        select 'searchListingsItems' as operation,
            jsonb_build_object('identifiers', jsonb_agg(s.sku order by s.place), 'identifiersType', 'SKU', 'pageSize', 20) as params
        from unnest(rest) with ordinality as s (sku, place)
        group by (s.place - 1) / 20
        union all
        select 'getListingsItem', jsonb_build_object('sku', s.sku)
        from unnest(skus) as s (sku)
        where s.sku ~ ','
    ) as b
    join amzmp.account as a on a.account_id = _look.account_id
    join amzmp.channel as c on (c.account_id, c.channel_id) = (_look.account_id, _look.channel_id)
    join amzmp.marketplace as m using (marketplace_id);
    perform amzmp._wake();
end
$$;

-- What Amazon says about a listing, taken out of an answer. summary is null where the SKU is not in the marketplace.
create type amzmp.seen_listing as (
    channel_id bigint,
    sku text,
    summary jsonb,
    price numeric,
    quantity integer,
    by_amazon boolean,
    issues jsonb,
    seen_at timestamptz
);

comment on type amzmp.seen_listing is 'Inner: a listing as Amazon was seen to have it.';

-- The SKUs that a reading request asks for.
create function amzmp._asked_skus(params jsonb)
    returns setof text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select e.sku
    from jsonb_array_elements_text(coalesce(params -> 'identifiers', jsonb_build_array(params -> 'sku'))) as e (sku)
$$;

create function amzmp._seen_listings(answers amzmp.answer_row[])
    returns setof amzmp.seen_listing
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select (a.request).channel_id, q.sku, s.summary,
        (jsonb_path_query_first(i.item,
            '$.offers[*] ? (@.marketplaceId == $here && @.offerType == "B2C").price.amount', h.here) #>> '{}')::numeric,
        jsonb_path_query_first(i.item,
            '$.fulfillmentAvailability[*] ? (@.fulfillmentChannelCode == "DEFAULT").quantity')::integer,
        jsonb_path_exists(i.item, '$.fulfillmentAvailability[*] ? (@.fulfillmentChannelCode starts with "AMAZON")'),
        coalesce(i.item -> 'issues', '[]'), a.answered_at
    from unnest(answers) as a
    join amzmp.channel as c on (c.account_id, c.channel_id) = ((a.request).account_id, (a.request).channel_id)
    cross join lateral (select jsonb_build_object('here', c.marketplace_id) as here) as h
    cross join lateral amzmp._asked_skus((a.request).params) as q (sku)
    left join lateral (
        select e.item
        from jsonb_array_elements(coalesce(a.body -> 'items', jsonb_build_array(a.body))) as e (item)
        where e.item ->> 'sku' = q.sku
        limit 1
    ) as i on true
    left join lateral (
        select jsonb_path_query_first(i.item, '$.summaries[*] ? (@.marketplaceId == $here)', h.here) as summary
    ) as s on true
    where a.outcome = 'success'
        or a.outcome = 'refused' and a.status = 404
$$;

create function amzmp._handle_read(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    account_id constant bigint := (answers[1].request).account_id;
    finished constant bigint[] := array(select (a.request).request_id from unnest(answers) as a);
    seen constant amzmp.seen_listing[] := array(select s from amzmp._seen_listings(answers) as s);
    skus constant text[] := array(select distinct s.sku from unnest(seen) as s);
begin
    perform amzmp._lock_skus(account_id, skus);
    perform amzmp._was_read(account_id, answers);
    perform amzmp._observe(account_id, seen);
    perform amzmp._keep_issues(account_id, array(
            select (s.channel_id, s.sku, s.issues, s.seen_at)::amzmp.issue_report from unnest(seen) as s
        ));
    perform amzmp._judge_listings(account_id, seen);
    perform amzmp._look_again(account_id, seen, answers);
    perform amzmp._after_write(account_id, skus, finished);
    perform amzmp._plan_sends(account_id, skus, null, finished);
end
$$;

comment on function amzmp._handle_read(amzmp.answer_row[]) is 'Inner: apply what Amazon was seen to have, and take each listing its next step.';

-- The readings that were due have been made, or were attempted.
create function amzmp._was_read(account_id bigint, answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.listing as l
    set read_due_at = null
    from unnest(answers) as a,
        lateral amzmp._asked_skus((a.request).params) as q (sku)
    where (l.account_id, l.channel_id, l.sku) = (_was_read.account_id, (a.request).channel_id, q.sku)
        and l.read_due_at is not null;
end
$$;

/*
 * Note what was seen. What we expect to be live follows it where we never sent anything (the SKU is adopted), and for
 * prices also where the last submission is so old that it must have taken effect. Stock does not: what is missing there
 * may have been sold by orders that are not imported yet.
 */
create function amzmp._observe(account_id bigint, seen amzmp.seen_listing[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    amazon_now constant timestamptz := amzmp._now(account_id);
begin
    update amzmp.listing as l
    set asin = coalesce(s.summary ->> 'asin', l.asin),
        product_type = coalesce(s.summary ->> 'productType', l.product_type),
        fulfillment = case when s.by_amazon then 'amazon' else 'merchant' end,
        observed_price = s.price,
        observed_at = s.seen_at,
        remote_price = case
            when l.in_flight_request is not null or s.price is null then l.remote_price
            when l.submitted_price_at is null then s.price
            when s.seen_at > l.submitted_price_at
                    + amzmp._account_interval(l.account_id, l.channel_id, 'verdict_wait') then s.price
            else l.remote_price
        end
    from unnest(seen) as s
    where (l.account_id, l.channel_id, l.sku) = (_observe.account_id, s.channel_id, s.sku)
        and s.summary is not null;

    update amzmp.inventory as i
    set observed_quantity = s.quantity,
        observed_at = amazon_now,
        remote_quantity = case
            when i.submitted_quantity_at is null and i.in_flight_request is null then s.quantity
            else i.remote_quantity
        end
    from (
        select distinct on (e.sku) e.sku, e.quantity
        from unnest(seen) as e
        where e.summary is not null
        order by e.sku, e.seen_at desc
    ) as s
    where (i.account_id, i.sku, i.fulfillment_channel) = (_observe.account_id, s.sku, 'DEFAULT');
end
$$;

/*
 * The state that follows from what was seen. Null where the verdict is still open.
 */
create function amzmp._verdict(listing amzmp.listing, marketplace_id text, seen amzmp.seen_listing)
    returns amzmp.new_state
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    visible constant boolean := coalesce(jsonb_array_length(seen.summary -> 'status'), 0) > 0;
    complaint constant text := amzmp._issue_summary(seen.issues, marketplace_id);
    complaints constant boolean := exists (
        select from amzmp._issues_here(seen.issues, marketplace_id) as i where i ->> 'severity' <> 'INFO'
    );
    late constant boolean := listing.state = 'pending' and listing.verdict_due_at < seen.seen_at;
    state text;
    reason text;
    code text;
begin
    if visible and complaints then
        state := 'live_with_issues';
        reason := coalesce(complaint, 'Amazon has warnings, see amzmp.listing_issue');
    elsif visible then
        state := case when listing.wanted or listing.state <> 'off_sale' then 'live' else 'off_sale' end;
    elsif seen.summary is not null and complaint is not null then
        state := 'rejected';
        reason := complaint;
        code := 'REJECTED';
    elsif late then
        state := 'rejected';
        reason := 'Amazon gave no verdict in time';
        code := 'NO_VERDICT';
    elsif listing.state in ('live', 'live_with_issues') and seen.summary is null then
        state := 'gone';
        reason := 'Amazon no longer has this SKU in the marketplace';
    elsif listing.state in ('live', 'live_with_issues') then
        state := 'off_sale';
        reason := 'Amazon shows it neither as buyable nor as discoverable';
    end if;
    if state is not null then
        return (listing.channel_id, listing.sku, state, reason, code)::amzmp.new_state;
    end if;
    return null;
end
$$;

/*
 * Take each listing that was read to its next state: adopt what Amazon has, make what it has not, keep the verdict.
 */
create function amzmp._judge_listings(account_id bigint, seen amzmp.seen_listing[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    verdicts amzmp.new_state[];
    absent record;
begin
    verdicts := array(
        select case
                when l.state = 'queued' and l.in_flight_request is null and v is null
                    then (l.channel_id, l.sku, 'pending', 'Amazon knows the SKU, its verdict is awaited', null)::amzmp.new_state
                else v
            end
        from unnest(seen) as s
        join amzmp.channel as c on (c.account_id, c.channel_id) = (_judge_listings.account_id, s.channel_id)
        join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (c.account_id, s.channel_id, s.sku)
        cross join lateral amzmp._verdict(l, c.marketplace_id, s) as v
        where l.state not in ('not_listed', 'removed', 'sent', 'matching')
            and (l.state <> 'queued' or s.summary is not null and jsonb_array_length(s.summary -> 'status') > 0)
            and (not v is null or l.state = 'queued')
    );
    perform amzmp._enter(account_id, verdicts);

    update amzmp.listing as l
    set published_at = coalesce(l.published_at, now())
    from unnest(verdicts) as v
    where (l.account_id, l.channel_id, l.sku) = (_judge_listings.account_id, v.channel_id, v.sku)
        and v.state in ('live', 'live_with_issues', 'pending');

    for absent in
        select l.channel_id, array_agg(l.sku order by l.sku) as skus
        from unnest(seen) as s
        join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (_judge_listings.account_id, s.channel_id, s.sku)
        where l.state = 'queued'
            and l.wanted
        group by l.channel_id
    loop
        perform amzmp._plan_puts(account_id, absent.channel_id, absent.skus);
    end loop;
end
$$;

-- Read once more what is still open, and what could not be read.
create function amzmp._look_again(account_id bigint, seen amzmp.seen_listing[], answers amzmp.answer_row[])
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
        select l.channel_id, array_agg(l.sku order by l.sku) as skus,
            now() + amzmp._read_delay(_look_again.account_id, max(now() - coalesce(l.submitted_price_at, l.state_at))) as at
        from unnest(seen) as s
        join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (_look_again.account_id, s.channel_id, s.sku)
        where l.state = 'pending'
        group by l.channel_id
        union all
        select (a.request).channel_id, array_agg(q.sku order by q.sku),
            now() + amzmp._read_delay(_look_again.account_id, interval '20 minutes')
        from unnest(answers) as a
        cross join lateral amzmp._asked_skus((a.request).params) as q (sku)
        where a.outcome <> 'success'
            and not (a.outcome = 'refused' and a.status between 400 and 499)
        group by (a.request).channel_id
    loop
        perform amzmp._look(account_id, again.channel_id, again.skus, again.at, null);
    end loop;
end
$$;

/*
 * Matching by barcode.
 */

-- Queue the search for these listings' barcodes, 20 a call.
create function amzmp._plan_matches(account_id bigint, channel_id bigint, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    batch record;
begin
    perform amzmp._enter(account_id, array(
            select (_plan_matches.channel_id, s.sku, 'matching', 'looking for the barcode in Amazon''s catalogue',
                null)::amzmp.new_state
            from unnest(skus) as s (sku)
        ));
    for batch in
        select array_agg(e.ean order by e.ean) as eans
        from (
            select g.ean, row_number() over (partition by amzmp._identifier_type(g.ean) order by g.ean) - 1 as place
            from (
                select distinct l.ean
                from amzmp.listing as l
                where (l.account_id, l.channel_id) = (_plan_matches.account_id, _plan_matches.channel_id)
                    and l.sku = any (skus)
            ) as g
        ) as e
        group by amzmp._identifier_type(e.ean), e.place / 20
    loop
        perform amzmp._search_eans(account_id, channel_id, batch.eans);
    end loop;
end
$$;

create function amzmp._search_eans(account_id bigint, channel_id bigint, eans text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    insert into amzmp.request (account_id, operation, priority, params, handler, subject_kind, subject, channel_id)
    select c.account_id, 'searchCatalogItems', 50, amzmp._catalog_params(c.marketplace_id, eans), '_handle_match', 'match',
        c.channel_id::text, c.channel_id
    from amzmp.channel as c
    where (c.account_id, c.channel_id) = (_search_eans.account_id, _search_eans.channel_id);
    perform amzmp._wake();
end
$$;

create function amzmp._handle_match(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    account_id constant bigint := (answers[1].request).account_id;
    answer amzmp.answer_row;
    eans text[];
begin
    foreach answer in array answers
    loop
        eans := amzmp._text_array((answer.request).params -> 'identifiers');
        if answer.outcome <> 'success' then
            perform amzmp._match_failed(account_id, answer, eans);
        elsif answer.body #>> '{pagination,nextToken}' is not null and cardinality(eans) > 1 then
            -- More items than fit into an answer: nobody can say yet which barcode is unique.
            perform amzmp._search_eans(account_id, (answer.request).channel_id, eans[:cardinality(eans) / 2]);
            perform amzmp._search_eans(account_id, (answer.request).channel_id, eans[cardinality(eans) / 2 + 1:]);
        else
            perform amzmp._match(account_id, (answer.request).channel_id, eans, answer.body);
        end if;
    end loop;
end
$$;

comment on function amzmp._handle_match(amzmp.answer_row[]) is 'Inner: choose the catalogue item of a barcode where there is exactly one, keep the candidates where there are several.';

-- Listings of a channel that wait for these barcodes.
create function amzmp._matching(account_id bigint, channel_id bigint, eans text[])
    returns setof amzmp.listing
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select l.*
    from amzmp.listing as l
    where l.account_id = $1
        and l.channel_id = $2
        and l.state = 'matching'
        and l.ean = any ($3)
$$;

create function amzmp._match_failed(account_id bigint, answer amzmp.answer_row, eans text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform amzmp._enter(account_id, array(
            select (l.channel_id, l.sku, 'rejected', format('the catalogue could not be searched: %s',
                    coalesce(answer.error_message, answer.outcome)), coalesce(answer.error_code, 'NO_SEARCH'))::amzmp.new_state
            from amzmp._matching(account_id, (answer.request).channel_id, eans) as l
        ));
end
$$;

create function amzmp._match(account_id bigint, channel_id bigint, eans text[], body jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    waiting constant amzmp.listing[] := array(select l from amzmp._matching(account_id, channel_id, eans) as l);
    skus constant text[] := array(select l.sku from unnest(waiting) as l);
begin
    delete from amzmp.match_candidate as k
    where (k.account_id, k.channel_id) = (_match.account_id, _match.channel_id)
        and k.sku = any (skus);

    insert into amzmp.match_candidate (account_id, channel_id, sku, asin, title, brand, image, product_type, method, score)
    select _match.account_id, _match.channel_id, l.sku, i.asin, i.title, i.brand, i.image, i.product_type, 'ean',
        round(0.5 + amzmp._title_score(p.title, i.title) / 2, 2)
    from unnest(waiting) as l
    join amzmp.channel as c on (c.account_id, c.channel_id) = (l.account_id, l.channel_id)
    join amzmp._catalog_items(body, c.marketplace_id) as i
        on exists (select from unnest(i.eans) as e (code) where lpad(e.code, 14, '0') = lpad(l.ean, 14, '0'))
    left join amzmp._listing_products(_match.account_id, _match.channel_id, skus) as p on p.sku = l.sku
    where not i.family
    on conflict do nothing;

    update amzmp.listing as l
    set asin = k.asin
    from (
        select m.sku, min(m.asin) as asin
        from amzmp.match_candidate as m
        where (m.account_id, m.channel_id) = (_match.account_id, _match.channel_id)
            and m.sku = any (skus)
        group by m.sku
        having count(*) = 1
    ) as k
    where (l.account_id, l.channel_id, l.sku) = (_match.account_id, _match.channel_id, k.sku);

    perform amzmp._enter(account_id, array(
            select case k.found
                    when 1 then (l.channel_id, l.sku, 'queued', 'found in Amazon''s catalogue by its barcode', null)::amzmp.new_state
                    when 0 then (l.channel_id, l.sku, 'rejected', format('no item in Amazon''s catalogue has barcode %s', l.ean),
                            'NO_MATCH')::amzmp.new_state
                    else (l.channel_id, l.sku, 'rejected', format(
                                '%s items in Amazon''s catalogue have barcode %s: choose one of amzmp.match_candidate with publish(channel, sku, asin)',
                                k.found, l.ean), 'SEVERAL_MATCHES')::amzmp.new_state
                end
            from unnest(waiting) as l
            cross join lateral (
                select count(*) as found
                from amzmp.match_candidate as m
                where (m.account_id, m.channel_id, m.sku) = (l.account_id, l.channel_id, l.sku)
            ) as k
        ));

    delete from amzmp.match_candidate as k
    using amzmp.listing as l
    where (k.account_id, k.channel_id) = (_match.account_id, _match.channel_id)
        and k.sku = any (skus)
        and (l.account_id, l.channel_id, l.sku) = (k.account_id, k.channel_id, k.sku)
        and l.state = 'queued';
    perform amzmp._plan_puts(account_id, channel_id, skus);
end
$$;

/*
 * Putting the offer.
 */

/*
 * Queue the put of queued listings that have all it takes; send those without ASIN to the catalogue, and reject what
 * lacks something, saying what.
 */
create function amzmp._plan_puts(account_id bigint, channel_id bigint, skus text[], cause jsonb default null)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    to_match text[];
begin
    perform amzmp._enter(account_id, array(
            select (l.channel_id, l.sku, 'rejected', w.reason, w.code)::amzmp.new_state
            from amzmp._listing_lacks(_plan_puts.account_id, _plan_puts.channel_id, skus) as w
            join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (_plan_puts.account_id, _plan_puts.channel_id, w.sku)
        ));

    to_match := array(
        select l.sku
        from amzmp.listing as l
        where (l.account_id, l.channel_id, l.state) = (_plan_puts.account_id, _plan_puts.channel_id, 'queued')
            and l.sku = any (skus)
            and l.asin is null
    );
    if to_match <> '{}' then
        perform amzmp._plan_matches(account_id, channel_id, to_match);
    end if;

    insert into amzmp.request (account_id, operation, priority, render, handler, subject_kind, subject, channel_id, cause)
    select l.account_id, 'putListingsItem', 50, '_render_put', '_handle_put', 'listing', l.sku, l.channel_id,
        coalesce(_plan_puts.cause, l.cause)
    from amzmp.listing as l
    where (l.account_id, l.channel_id, l.state) = (_plan_puts.account_id, _plan_puts.channel_id, 'queued')
        and l.sku = any (skus)
        and l.asin is not null
        and not exists (
            select
            from amzmp.request as r
            where (r.account_id, r.subject_kind, r.subject, r.channel_id, r.operation)
                    = (l.account_id, 'listing', l.sku, l.channel_id, 'putListingsItem')
        );
    perform amzmp._wake();
end
$$;

-- What queued listings lack to be put, the first thing of each.
create function amzmp._listing_lacks(account_id bigint, channel_id bigint, skus text[])
    returns table (sku text, code text, reason text)
    rows 20
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select l.sku, w.code, w.reason
    from amzmp.listing as l
    left join amzmp.inventory as i
        on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
    left join amzmp._listing_products(_listing_lacks.account_id, _listing_lacks.channel_id, _listing_lacks.skus) as p
        on p.sku = l.sku
    cross join lateral (
        select case
                when p.sku is null then 'NO_PRODUCT'
                when l.asin is null and l.ean is null and p.ean is not null then 'BAD_BARCODE'
                when l.asin is null and l.ean is null then 'NO_BARCODE'
                when l.desired_price is null then 'NO_PRICE'
                when i.desired_quantity is null then 'NO_STOCK'
            end as code,
            case
                when p.sku is null then 'the shop has no such product any more'
                when l.asin is null and l.ean is null and p.ean is not null
                    then (select g.message from amzmp._gtin_problem(p.ean) as g)
                when l.asin is null and l.ean is null then 'the product has neither an ASIN nor a barcode'
                when l.desired_price is null then coalesce('the shop''s price ' || p.price || ' cannot be sent', 'the shop gives no price')
                when i.desired_quantity is null then 'the shop gives no quantity'
            end as reason
    ) as w
    where (l.account_id, l.channel_id, l.state) = (_listing_lacks.account_id, _listing_lacks.channel_id, 'queued')
        and l.sku = any (_listing_lacks.skus)
        and w.code is not null;
end
$$;

/*
 * The whole attributes of an offer on an existing catalogue item. The quantity is left out where another request has
 * it in flight: sales terms that a put does not name stay as they are.
 */
create function amzmp._offer_attributes(listing amzmp.listing, product amzmp.product, place amzmp.marketplace, quantity integer)
    returns jsonb
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_strip_nulls(jsonb_build_object(
            'merchant_suggested_asin', jsonb_build_array(jsonb_build_object(
                    'marketplace_id', place.marketplace_id, 'value', listing.asin)),
            'condition_type', jsonb_build_array(jsonb_build_object(
                    'marketplace_id', place.marketplace_id, 'value', o.condition)),
            'condition_note', case
                when o.condition <> 'new_new' and product.condition_note <> '' then jsonb_build_array(jsonb_build_object(
                        'marketplace_id', place.marketplace_id, 'language_tag', place.language, 'value', product.condition_note))
            end,
            'merchant_shipping_group', case
                when o.shipping is not null then jsonb_build_array(jsonb_build_object(
                        'marketplace_id', place.marketplace_id, 'value', o.shipping))
            end,
            'fulfillment_availability', case
                when quantity is not null then jsonb_build_array(jsonb_build_object(
                        'fulfillment_channel_code', 'DEFAULT', 'quantity', quantity, 'lead_time_to_ship_max_days', o.lead_time))
            end,
            'purchasable_offer', jsonb_build_array(amzmp._offer_attribute(place.marketplace_id, place.currency,
                    round(listing.desired_price, place.currency_decimals)))
        ))
    from (
        select coalesce(product.condition, amzmp._setting_text(listing.account_id, listing.channel_id, 'condition_default'), 'new_new') as condition,
            amzmp._setting_text(listing.account_id, listing.channel_id, 'merchant_shipping_group') as shipping,
            coalesce(product.lead_time, amzmp._setting_int(listing.account_id, listing.channel_id, 'handling_days')) as lead_time
    ) as o
$$;

-- Which claimed puts can still be sent, and which of them carry the quantity of their SKU.
create function amzmp._put_facets(claimed amzmp.request[])
    returns table (request_id bigint, channel_id bigint, sku text, quantity integer)
    rows 20
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._lock_skus(claimed[1].account_id, array(select r.subject from unnest(claimed) as r));
    return query
    select r.request_id, l.channel_id, l.sku,
        case
            when not amzmp._in_flight(i.account_id, i.in_flight_request, array[r.request_id])
                and row_number() over (partition by l.sku order by l.channel_id) = 1
            then i.desired_quantity
        end
    from unnest(claimed) as r
    join amzmp.channel as c on (c.account_id, c.channel_id) = (r.account_id, r.channel_id)
    join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (r.account_id, r.channel_id, r.subject)
    join amzmp.inventory as i on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
    where c.active
        and not c.dropped
        and l.wanted
        and l.state in ('queued', 'sent')
        and l.asin is not null
        and l.desired_price is not null
        and i.desired_quantity is not null
        and not amzmp._in_flight(l.account_id, l.in_flight_request, array[r.request_id]);
end
$$;

create function amzmp._render_put(claimed amzmp.request[])
    returns table (request_id bigint, params jsonb, body jsonb)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    account constant amzmp.account := (
        select a from amzmp.account as a where a.account_id = claimed[1].account_id
    );
begin
    return query
    with facet as materialized (
        select f.* from amzmp._put_facets(claimed) as f
    ), price_on_its_way as (
        update amzmp.listing as l
        set in_flight_price = l.desired_price,
            in_flight_request = f.request_id,
            state = 'sent',
            state_reason = 'sent to Amazon',
            state_at = now()
        from facet as f
        where (l.account_id, l.channel_id, l.sku) = (account.account_id, f.channel_id, f.sku)
        returning l.*
    ), stock_on_its_way as (
        update amzmp.inventory as i
        set in_flight_quantity = f.quantity,
            in_flight_request = f.request_id
        from facet as f
        where f.quantity is not null
            and (i.account_id, i.sku, i.fulfillment_channel) = (account.account_id, f.sku, 'DEFAULT')
    )
    select f.request_id, amzmp._listing_params(account.seller_id, f.sku, m.marketplace_id, m.language),
        jsonb_build_object('productType', 'PRODUCT', 'requirements', 'LISTING_OFFER_ONLY',
            'attributes', amzmp._offer_attributes(l::amzmp.listing, p.product, m, f.quantity))
    from facet as f
    join price_on_its_way as l on (l.channel_id, l.sku) = (f.channel_id, f.sku)
    join amzmp.channel as c on (c.account_id, c.channel_id) = (account.account_id, f.channel_id)
    join amzmp.marketplace as m using (marketplace_id)
    left join lateral (
        select g as product
        from amzmp._listing_products(account.account_id, f.channel_id, array[f.sku]) as g
    ) as p on true;
end
$$;

comment on function amzmp._render_put(amzmp.request[]) is 'Inner: bodies of claimed puts, from what is wanted now.';

create function amzmp._handle_put(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    account_id constant bigint := (answers[1].request).account_id;
    skus constant text[] := array(select distinct (a.request).subject from unnest(answers) as a);
    finished constant bigint[] := array(select (a.request).request_id from unnest(answers) as a);
begin
    perform amzmp._land(account_id, answers);
    perform amzmp._keep_issues(account_id, array(
            select ((a.request).channel_id, (a.request).subject, a.body -> 'issues', a.answered_at)::amzmp.issue_report
            from unnest(answers) as a
            where a.outcome = 'success'
        ));
    perform amzmp._enter(account_id, array(
            select ((a.request).channel_id, (a.request).subject,
                case
                    when v.accepted then 'pending'
                    when v.unknown then 'queued'
                    else 'rejected'
                end,
                case
                    when v.accepted then 'Amazon''s verdict is awaited'
                    when v.unknown then 'the answer was lost, asking what Amazon has'
                    else v.message
                end,
                case when not v.accepted and not v.unknown then v.code end)::amzmp.new_state
            from unnest(answers) as a,
                lateral amzmp._submission_verdict(a) as v
        ));
    perform amzmp._accepted(account_id, answers);
    perform amzmp._look_after_put(account_id, answers);
    perform amzmp._after_write(account_id, skus, finished);
    perform amzmp._plan_sends(account_id, skus, null, finished);
end
$$;

comment on function amzmp._handle_put(amzmp.answer_row[]) is 'Inner: apply the answers to puts and begin to ask for the verdict.';

-- Amazon has taken these SKUs; its verdict is due.
create function amzmp._accepted(account_id bigint, answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.listing as l
    set published_at = coalesce(l.published_at, a.answered_at),
        verdict_due_at = a.answered_at + amzmp._account_interval(l.account_id, l.channel_id, 'verdict_wait')
    from unnest(answers) as a,
        lateral amzmp._submission_verdict(a) as v
    where v.accepted
        and (l.account_id, l.channel_id, l.sku) = (_accepted.account_id, (a.request).channel_id, (a.request).subject);
end
$$;

-- Ask for the verdict on what was accepted, and what became of what was lost.
create function amzmp._look_after_put(account_id bigint, answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    part record;
begin
    for part in
        select (a.request).channel_id as channel_id, array_agg((a.request).subject order by (a.request).subject) as skus,
            (array_agg((a.request).cause))[1] as cause
        from unnest(answers) as a,
            lateral amzmp._submission_verdict(a) as v
        where v.accepted
            or v.unknown
        group by (a.request).channel_id
    loop
        perform amzmp._look(account_id, part.channel_id, part.skus, now() + amzmp._read_delay(account_id, '0'), part.cause);
    end loop;
end
$$;

/*
 * What follows from any write or reading.
 */
create function amzmp._after_write(account_id bigint, skus text[], finished bigint[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    open record;
begin
    perform amzmp._settle_unwanted(account_id, skus, finished);

    -- An offer that was off sale and got stock again waits for Amazon to show it.
    perform amzmp._enter(account_id, array(
            select (l.channel_id, l.sku, 'pending', 'on sale again, Amazon''s verdict is awaited', null)::amzmp.new_state
            from amzmp.listing as l
            join amzmp.inventory as i
                on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
            join amzmp.channel as c on (c.account_id, c.channel_id) = (l.account_id, l.channel_id)
            where c.account_id = _after_write.account_id
                and l.sku = any (skus)
                and l.state = 'off_sale'
                and l.wanted
                and i.remote_quantity > 0
                and l.state_reason is not distinct from amzmp._off_sale_reason()
        ));

    for open in
        select l.channel_id, array_agg(l.sku order by l.sku) as skus
        from amzmp.channel as c
        join amzmp.listing as l using (account_id, channel_id)
        where c.account_id = _after_write.account_id
            and l.sku = any (_after_write.skus)
            and l.state = 'pending'
            and l.read_due_at is null
        group by l.channel_id
    loop
        perform amzmp._look(account_id, open.channel_id, open.skus, now() + amzmp._read_delay(account_id, '0'), null);
    end loop;
end
$$;

create function amzmp._off_sale_reason()
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select 'no channel offers it any more, its stock at Amazon is 0'
$$;

/*
 * Taking offers off.
 */
create function amzmp._unpublish(channel text, skus text[])
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
    reason constant jsonb := jsonb_build_object('role', amzmp._caller(), 'at', now(), 'verb', 'unpublish');
    unknown text;
    leaving text[];
begin
    select string_agg(quote_literal(x.sku), ', ') into unknown
    from (
        select s.sku
        from unnest(skus) as s (sku)
        where not exists (
            select
            from amzmp.listing as l
            where (l.account_id, l.channel_id, l.sku) = (place.account_id, place.channel_id, s.sku)
        )
        order by s.sku
        limit 10
    ) as x;
    if unknown is not null then
        perform amzmp._fail('AZ202', format('never published in channel "%s": %s', channel, unknown), null,
            format('select sku, state from amzmp.offer where channel = %L; shows what was.', channel));
    end if;

    perform amzmp._lock_skus(place.account_id, skus);
    with left_channel as (
        update amzmp.listing as l
        set wanted = false,
            cause = reason
        where (l.account_id, l.channel_id) = (place.account_id, place.channel_id)
            and l.sku = any (skus)
            and l.wanted
        returning l.sku
    )
    select coalesce(array_agg(x.sku order by x.sku), '{}') into leaving from left_channel as x;

    perform amzmp._enter(place.account_id, array(
            select (l.channel_id, l.sku, 'not_listed', 'taken back before Amazon had it', null)::amzmp.new_state
            from amzmp.listing as l
            where (l.account_id, l.channel_id) = (place.account_id, place.channel_id)
                and l.sku = any (leaving)
                and l.state in ('queued', 'matching', 'rejected')
        ));
    perform amzmp._settle_unwanted(place.account_id, leaving, '{}');
    perform amzmp._recompute(place.account_id, leaving, reason);
    return cardinality(leaving);
end
$$;

select amzmp._expose('amzmp._unpublish(text, text[])', 'amzmp_operator',
    'Stop offering SKUs in a channel. Where other channels still offer a SKU, only this marketplace''s offer is deleted; else its stock is set to 0 or the offer deleted, as the setting on_remove says. Returns how many left.');

/*
 * Listings that are at Amazon and not wanted: delete them where another channel still sells the SKU or on_remove says
 * so; else their quantity goes to 0 as any other (recompute), and when it is there they are off sale.
 */
create function amzmp._settle_unwanted(account_id bigint, skus text[], finished bigint[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    insert into amzmp.request (account_id, operation, priority, render, handler, subject_kind, subject, channel_id, cause)
    select l.account_id, 'deleteListingsItem', 10, '_render_delete', '_handle_delete', 'listing', l.sku, l.channel_id, l.cause
    from amzmp.channel as c
    join amzmp.listing as l using (account_id, channel_id)
    where c.account_id = _settle_unwanted.account_id
        and l.sku = any (skus)
        and amzmp._to_delete(l)
        and not amzmp._penalised(l.account_id, 'publish', l.channel_id, l.sku)
        and not exists (
            select
            from amzmp.request as r
            where (r.account_id, r.subject_kind, r.subject, r.channel_id) = (l.account_id, 'listing', l.sku, l.channel_id)
                and (r.operation = 'deleteListingsItem' or r.state <> 'due')
                and r.request_id <> all (finished)
        );
    if found then
        perform amzmp._wake();
    end if;

    perform amzmp._enter(account_id, array(
            select (l.channel_id, l.sku, 'off_sale', amzmp._off_sale_reason(), null)::amzmp.new_state
            from amzmp.channel as c
            join amzmp.listing as l using (account_id, channel_id)
            join amzmp.inventory as i
                on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
            where c.account_id = _settle_unwanted.account_id
                and l.sku = any (skus)
                and l.listed
                and not l.wanted
                and l.state <> 'off_sale'
                and i.remote_quantity = 0
                and i.desired_quantity = 0
                and not amzmp._to_delete(l)
        ));
end
$$;

-- Is a listing to be deleted at Amazon?
create function amzmp._to_delete(listing amzmp.listing)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return listing.listed
        and not listing.wanted
        and (
            amzmp._setting_text(listing.account_id, listing.channel_id, 'on_remove') = 'delete'
            or exists (
                select
                from amzmp.channel as c
                join amzmp.listing as l using (account_id, channel_id)
                where c.account_id = listing.account_id
                    and c.channel_id <> listing.channel_id
                    and not c.dropped
                    and l.sku = listing.sku
                    and l.wanted
            )
        );
end
$$;

create function amzmp._render_delete(claimed amzmp.request[])
    returns table (request_id bigint, params jsonb, body jsonb)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    account constant amzmp.account := (
        select a from amzmp.account as a where a.account_id = claimed[1].account_id
    );
begin
    perform amzmp._lock_skus(account.account_id, array(select r.subject from unnest(claimed) as r));
    return query
    update amzmp.listing as l
    set in_flight_request = r.request_id
    from unnest(claimed) as r,
        amzmp.channel as c,
        amzmp.marketplace as m
    where (l.account_id, l.channel_id, l.sku) = (r.account_id, r.channel_id, r.subject)
        and (c.account_id, c.channel_id) = (l.account_id, l.channel_id)
        and m.marketplace_id = c.marketplace_id
        and amzmp._to_delete(l)
        and not amzmp._in_flight(l.account_id, l.in_flight_request, array[r.request_id])
    returning r.request_id, amzmp._listing_params(account.seller_id, l.sku, m.marketplace_id, m.language), null::jsonb;
end
$$;

comment on function amzmp._render_delete(amzmp.request[]) is 'Inner: parameters of claimed deletions; none where the offer is wanted again.';

create function amzmp._handle_delete(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    account_id constant bigint := (answers[1].request).account_id;
    skus constant text[] := array(select distinct (a.request).subject from unnest(answers) as a);
    finished constant bigint[] := array(select (a.request).request_id from unnest(answers) as a);
begin
    perform amzmp._land(account_id, answers);
    perform amzmp._enter(account_id, array(
            select (l.channel_id, l.sku,
                case when v.accepted or a.status = 404 then 'removed' else l.state end,
                case when v.accepted or a.status = 404 then 'deleted at Amazon' else format('could not be deleted: %s', v.message) end,
                case when not v.accepted and a.status is distinct from 404 then v.code end)::amzmp.new_state
            from unnest(answers) as a
            cross join lateral amzmp._submission_verdict(a) as v
            join amzmp.listing as l
                on (l.account_id, l.channel_id, l.sku)
                    = ((a.request).account_id, (a.request).channel_id, (a.request).subject)
        ));
    perform amzmp._forget_removed(account_id, skus);
    perform amzmp._after_write(account_id, skus, finished);
end
$$;

comment on function amzmp._handle_delete(amzmp.answer_row[]) is 'Inner: apply the answers to deletions.';

-- Nothing is live any more of what was deleted.
create function amzmp._forget_removed(account_id bigint, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.listing as l
    set remote_price = null,
        submitted_price = null,
        submitted_price_at = null,
        submitted_price_request = null
    from amzmp.channel as c
    where c.account_id = _forget_removed.account_id
        and (l.account_id, l.channel_id) = (c.account_id, c.channel_id)
        and l.sku = any (skus)
        and l.state = 'removed';
end
$$;

/*
 * Ask Amazon.
 */
create function amzmp._verify(channel text, skus text[] default null)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
    to_read constant text[] := array(
        select l.sku
        from amzmp.listing as l
        where (l.account_id, l.channel_id) = (place.account_id, place.channel_id)
            and (_verify.skus is null and l.listed or l.sku = any (_verify.skus))
    );
begin
    perform amzmp._look(place.account_id, place.channel_id, to_read, now(),
        jsonb_build_object('role', amzmp._caller(), 'at', now(), 'verb', 'verify'));
    return cardinality(to_read);
end
$$;

select amzmp._expose('amzmp._verify(text, text[])', 'amzmp_operator',
    'Read SKUs of a channel (all that Amazon has accepted, if none are named) from Amazon again. Returns how many.');

/*
 * The flows.
 */
create function amzmp._flow_send_products(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    cause constant jsonb := jsonb_build_object('flow_run', flow_run_id);
    stale text[];
begin
    perform amzmp._plan_puts(account_id, channel_id, array(
            select l.sku
            from amzmp.listing as l
            where (l.account_id, l.channel_id) = (_flow_send_products.account_id, _flow_send_products.channel_id)
                and l.state = 'queued'
                and l.wanted
                and l.read_due_at is null
        ), cause);

    -- Begin anew with what failed for a reason that may be gone by now (its penalty ended, or was released), and read
    -- what should have been read.
    with again as (
        select l.sku
        from amzmp.listing as l
        left join amzmp.penalty as p
            on (p.account_id, p.channel_id, p.kind, p.subject) = (l.account_id, l.channel_id, 'publish', l.sku)
        where (l.account_id, l.channel_id) = (_flow_send_products.account_id, _flow_send_products.channel_id)
            and l.state = 'rejected'
            and l.wanted
            and (p.subject is null or not p.gave_up and p.until <= now())
    ), begun as (
        update amzmp.listing as l
        set state = 'queued',
            state_reason = 'tried again',
            state_at = now()
        from again as g
        where (l.account_id, l.channel_id, l.sku) = (_flow_send_products.account_id, _flow_send_products.channel_id, g.sku)
        returning l.sku
    )
    select array(
        select b.sku from begun as b
        union
        select l.sku
        from amzmp.listing as l
        where (l.account_id, l.channel_id) = (_flow_send_products.account_id, _flow_send_products.channel_id)
            and l.read_due_at < now() - interval '10 minutes'
            and l.state in ('queued', 'pending')
    ) into stale;
    perform amzmp._look(account_id, channel_id, stale, now(), cause);
end
$$;

comment on function amzmp._flow_send_products(bigint, bigint, bigint) is 'Inner: the flow send_products: whatever fell between two steps of a publication.';

create function amzmp._flow_send_updated_product_price(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._plan_sends(account_id, array(
            select l.sku
            from amzmp.listing as l
            where l.account_id = _flow_send_updated_product_price.account_id
                and _flow_send_updated_product_price.channel_id in (0, l.channel_id)
                and l.price_differs
        ), jsonb_build_object('flow_run', flow_run_id));
end
$$;

comment on function amzmp._flow_send_updated_product_price(bigint, bigint, bigint) is 'Inner: the flow send_updated_product_price: what amzmp.price_diff shows.';

create function amzmp._flow_send_updated_product_stock(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._plan_sends(account_id, array(
            select i.sku
            from amzmp.inventory as i
            where i.account_id = _flow_send_updated_product_stock.account_id
                and i.quantity_differs
        ), jsonb_build_object('flow_run', flow_run_id));
end
$$;

comment on function amzmp._flow_send_updated_product_stock(bigint, bigint, bigint) is 'Inner: the flow send_updated_product_stock: what amzmp.stock_diff shows.';

/*
 * Products that left the shop have quantity 0 at Amazon by recompute, once the brake let it pass. Where on_remove says
 * so their offers are deleted here.
 */
create function amzmp._flow_send_delete_products(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    left_shop text[];
begin
    with gone as (
        update amzmp.listing as l
        set wanted = false,
            cause = jsonb_build_object('flow_run', flow_run_id)
        from amzmp.inventory as i
        where l.account_id = _flow_send_delete_products.account_id
            and _flow_send_delete_products.channel_id in (0, l.channel_id)
            and l.listed
            and l.wanted
            and (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
            and i.desired_quantity = 0
            and amzmp._setting_text(l.account_id, l.channel_id, 'on_remove') = 'delete'
            and exists (
                select from amzmp.product as p where (p.account_id, p.sku) = (l.account_id, l.sku) and p.gone
            )
            and not exists (
                select
                from amzmp.product as p
                join amzmp.source as s using (account_id, source_id)
                where (p.account_id, p.sku) = (l.account_id, l.sku)
                    and s.channel_id in (0, l.channel_id)
                    and not p.gone
            )
        returning l.sku
    )
    select array(
        select g.sku from gone as g
        union
        select l.sku
        from amzmp.listing as l
        where l.account_id = _flow_send_delete_products.account_id
            and l.listed
            and not l.wanted
    ) into left_shop;
    perform amzmp._settle_unwanted(account_id, left_shop, '{}');
end
$$;

comment on function amzmp._flow_send_delete_products(bigint, bigint, bigint) is 'Inner: the flow send_delete_products: offers of products that left the shop.';
