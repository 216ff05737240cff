/*
 * match_title.sql
 *	  Catalogue items that may be a product by their titles, for products without a barcode, or whose barcode no item has. A
 *	  title proves nothing: nothing is chosen here. amzmp.match_candidate keeps what was found for a person, or for a query
 *	  that is sure enough, and publish(channel, sku, asin) chooses.
 */
create function amzmp._find_candidates(channel text, skus text[])
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
    asked integer;
begin
    perform amzmp._check_skus(skus, 'find');
    insert into amzmp.request (account_id, operation, priority, params, handler, subject_kind, subject, channel_id, cause)
    select place.account_id, 'searchCatalogItems', 70, jsonb_build_object('marketplaceIds', jsonb_build_array(place.marketplace_id),
            'keywords', to_jsonb(w.words), 'includedData', '["identifiers", "images", "productTypes", "summaries"]'::jsonb, 'pageSize', 20),
        '_handle_candidates', 'candidate', p.sku, place.channel_id, jsonb_build_object('role', amzmp._caller(), 'at', now(), 'verb', 'find_candidates')
    from amzmp._listing_products(place.account_id, place.channel_id, skus) as p
    cross join lateral (
        select (array_agg(x.word order by x.ordinality))[:20] as words
        from regexp_split_to_table(p.title, '\W+') with ordinality as x (word, ordinality)
        where x.word <> ''
    ) as w
    where w.words is not null
        and not exists (
            select
            from amzmp.request as r
            where (r.account_id, r.subject_kind, r.subject, r.channel_id) = (place.account_id, 'candidate', p.sku, place.channel_id)
        );
    get diagnostics asked = row_count;
    perform amzmp._wake();
    return asked;
end
$$;

select amzmp._expose('amzmp._find_candidates(text, text[])', 'amzmp_operator',
    'Search Amazon''s catalogue for these SKUs by the shop''s titles. What is found is in amzmp.match_candidate with a score, the share of the title''s words that the item has; publish(channel, sku, asin) chooses one. Returns for how many it is searched: those with a title.');

create function amzmp._handle_candidates(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc constant bigint := (answers[1].request).account_id;
begin
    perform amzmp._log(acc, (a.request).channel_id, 'warning', 'listing', (a.request).subject,
        format('the catalogue could not be searched by title: %s', coalesce(a.error_message, a.outcome)))
    from unnest(answers) as a
    where a.outcome <> 'success';

    delete from amzmp.match_candidate as k
    using unnest(answers) as a
    where a.outcome = 'success'
        and (k.account_id, k.channel_id, k.sku) = (acc, (a.request).channel_id, (a.request).subject)
        and k.method = 'title';

    insert into amzmp.match_candidate (account_id, channel_id, sku, asin, title, brand, image, product_type, method, score)
    select c.account_id, c.channel_id, p.sku, i.asin, i.title, i.brand, i.image, i.product_type, 'title', i.score
    from unnest(answers) as a
    join amzmp.channel as c on (c.account_id, c.channel_id) = (acc, (a.request).channel_id)
    cross join lateral amzmp._listing_products(c.account_id, c.channel_id, array[(a.request).subject]) as p
    cross join lateral (
        select x.*, amzmp._title_score(p.title, x.title) as score
        from amzmp._catalog_items(a.body, c.marketplace_id) as x
        where not x.family
        order by amzmp._title_score(p.title, x.title) desc, x.place
        limit 10
    ) as i
    where a.outcome = 'success'
        and i.score > 0
    on conflict do nothing;
end
$$;

comment on function amzmp._handle_candidates(amzmp.answer_row[]) is 'Inner: keep the catalogue items that a search by title has found.';
