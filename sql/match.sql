/*
 * match.sql
 *	  Which catalogue item of Amazon's is the product? Searching the catalogue by hand, and matching listings by barcode.
 *
 * A listing without an ASIN waits in state matching until the catalogue has answered: with exactly one item for its
 * barcode it goes on (publish_put.sql), with none or several it is rejected and amzmp.match_candidate keeps the choice.
 */
create table amzmp.match_candidate (
    account_id bigint not null,
    channel_id bigint not null,
    sku text not null,
    asin text not null,
    title text,
    brand text,
    image text,
    product_type text,
    method text not null,
    score numeric not null,
    seen_at timestamptz not null default now(),
    primary key (account_id, channel_id, sku, asin),
    constraint match_candidate_score_check check (score between 0 and 1)
);

comment on table amzmp.match_candidate is 'Catalogue items that may be a product: several with its barcode, or found by its title. publish(channel, sku, asin) chooses one.';
comment on column amzmp.match_candidate.account_id is 'The account.';
comment on column amzmp.match_candidate.channel_id is 'The channel.';
comment on column amzmp.match_candidate.sku is 'The SKU.';
comment on column amzmp.match_candidate.asin is 'The catalogue item.';
comment on column amzmp.match_candidate.title is 'Its title at Amazon.';
comment on column amzmp.match_candidate.brand is 'Its brand at Amazon.';
comment on column amzmp.match_candidate.image is 'URL of its main picture.';
comment on column amzmp.match_candidate.product_type is 'Its product type at Amazon.';
comment on column amzmp.match_candidate.method is 'How it was found: ean, by its barcode; title, by find_candidates().';
comment on column amzmp.match_candidate.score is 'How well it fits, 0 to 1.';
comment on column amzmp.match_candidate.seen_at is 'When it was found.';

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
                    when -1 then (l.channel_id, l.sku, 'queued', 'not in Amazon''s catalogue, it is created there', null)::amzmp.new_state
                    when 0 then (l.channel_id, l.sku, 'rejected', format('no item in Amazon''s catalogue has barcode %s', l.ean),
                            'NO_MATCH')::amzmp.new_state
                    else (l.channel_id, l.sku, 'rejected', format(
                                '%s items in Amazon''s catalogue have barcode %s: choose one of amzmp.match_candidate with publish(channel, sku, asin)',
                                k.found, l.ean), 'SEVERAL_MATCHES')::amzmp.new_state
                end
            from unnest(waiting) as l
            cross join lateral (
                select case when count(*) = 0 and amzmp._creatable(l) then -1 else count(*) end as found
                from amzmp.match_candidate as m
                where (m.account_id, m.channel_id, m.sku) = (l.account_id, l.channel_id, l.sku)
            ) as k
        ));

    update amzmp.listing as l
    set step = 'product'
    where (l.account_id, l.channel_id, l.state) = (_match.account_id, _match.channel_id, 'queued')
        and l.sku = any (skus)
        and l.asin is null;
    delete from amzmp.match_candidate as k
    using amzmp.listing as l
    where (k.account_id, k.channel_id) = (_match.account_id, _match.channel_id)
        and k.sku = any (skus)
        and (l.account_id, l.channel_id, l.sku) = (k.account_id, k.channel_id, k.sku)
        and l.state = 'queued';
    perform amzmp._plan_puts(account_id, channel_id, skus);
end
$$;
