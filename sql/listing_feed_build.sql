/*
 * listing_feed_build.sql
 *	  Which changes a feed of listings carries, and its document: chosen when the feed is built, never earlier.
 */

-- Does an offer's stock rise? That of a new offer does, which has none until it is sent for the first time. (Without a
-- search_path of its own, so that it becomes a part of the statement.)
create function amzmp._stock_rises(inventory amzmp.inventory, listing amzmp.listing)
    returns boolean
    language sql
    immutable
    parallel safe
begin atomic
    select case
            when inventory.remote_quantity is not null then inventory.desired_quantity > inventory.remote_quantity
            else listing.step = 'stock' and inventory.submitted_quantity_at is null and inventory.desired_quantity > 0
        end;
end;

/*
 * What feeds may carry of these SKUs in a channel: prices, and merchant stock where it rises. Left out is whatever
 * waits for its own request, is in flight, is held back after an error, or waits for its price.
 */
create function amzmp._bulk_offers(account_id bigint, channel_id bigint, skus text[])
    returns table (sku text, price numeric, terms jsonb, quantity integer, stock_terms jsonb, since timestamptz)
    rows 1000
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    with flying as materialized (
        select f.channel_id, f.sku, f.price, f.quantity, f.request_id
        from amzmp._in_feeds(_bulk_offers.account_id, _bulk_offers.skus) as f
    ), flying_price as materialized (
        select f.sku from flying as f where f.channel_id = _bulk_offers.channel_id and num_nonnulls(f.price, f.request_id) > 0
    ), flying_stock as materialized (
        select f.sku from flying as f where f.quantity is not null
    ), held as materialized (
        select p.kind, p.subject
        from amzmp.penalty as p
        where p.account_id = _bulk_offers.account_id
            and (p.kind, p.channel_id) in (('price', _bulk_offers.channel_id), ('stock', 0))
            and (p.gave_up or p.until > now())
    ), waiting as materialized (
        select r.subject
        from amzmp.request as r
        where (r.account_id, r.subject_kind) = (_bulk_offers.account_id, 'listing')
            and r.channel_id = _bulk_offers.channel_id
            and r.operation in ('patchListingsItem', 'putListingsItem', 'deleteListingsItem')
    ), price_first as materialized (
        select w.sku from amzmp._price_first(_bulk_offers.account_id, _bulk_offers.skus) as w
    ), content as materialized (
        select d.sku
        from amzmp.listing_content as d
        where (d.account_id, d.channel_id) = (_bulk_offers.account_id, _bulk_offers.channel_id)
            and d.differs
    ), offer as (
        select l.sku,
            case
                when l.price_differs
                    -- these go along with their price in one message (listing_feed_request.sql)
                    and not l.details_differ
                    and l.step is distinct from 'price'
                    and l.sku not in (select d.sku from content as d)
                    and ('price', l.sku) not in (select h.kind, h.subject from held as h)
                    and l.sku not in (select f.sku from flying_price as f)
                then round(l.desired_price, c.currency_decimals)
            end as price,
            case
                when i.quantity_differs
                    and amzmp._stock_rises(i, l)
                    and l.fulfillment = 'merchant'
                    and l.sku not in (select w.sku from price_first as w)
                    and not (i.in_flight_request is not null
                        and amzmp._in_flight(i.account_id, i.in_flight_request, '{}'))
                    and ('stock', l.sku) not in (select h.kind, h.subject from held as h)
                    and l.sku not in (select f.sku from flying_stock as f)
                then i.desired_quantity
            end as quantity,
            least(l.desired_price_at, i.desired_quantity_at) as since, l.desired_terms as terms, i.desired_terms as stock_terms
        from (
            select x.account_id, x.channel_id, k.currency_decimals
            from amzmp.channel as x
            join amzmp.marketplace as k using (marketplace_id)
            where (x.account_id, x.channel_id) = (_bulk_offers.account_id, _bulk_offers.channel_id)
                and x.active
                and not x.dropped
        ) as c
        cross join unnest(_bulk_offers.skus) as s (sku)
        -- SKU by SKU, however few offers the planner believes to differ
        cross join lateral (
            select o.*
            from amzmp.listing as o
            where (o.account_id, o.channel_id, o.sku) = (c.account_id, c.channel_id, s.sku)
            offset 0
        ) as l
        left join lateral (
            select o.*
            from amzmp.inventory as o
            where (o.account_id, o.sku, o.fulfillment_channel) = (c.account_id, s.sku, 'DEFAULT')
            offset 0
        ) as i on true
        where l.listed
            and not (l.in_flight_request is not null and amzmp._in_flight(l.account_id, l.in_flight_request, '{}'))
    )
    select o.sku, o.price, o.terms, o.quantity, o.stock_terms, o.since
    from offer as o
    where num_nonnulls(o.price, o.quantity) > 0
        and o.sku not in (select w.subject from waiting as w);
end
$$;

/*
 * What feeds may carry of a channel, as amzmp._bulk_offers says, but of all that differs: with sets instead of a look at
 * each SKU. What a planned feed has as its candidate is left out. raises: it is about stock.
 */
create function amzmp._bulk_waiting(account_id bigint, channel_id bigint)
    returns table (sku text, raises boolean, since timestamptz)
    rows 1000
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    with content as materialized (
        select d.sku
        from amzmp.listing_content as d
        where (d.account_id, d.channel_id) = (_bulk_waiting.account_id, _bulk_waiting.channel_id)
            and d.differs
    ), spoken_for as materialized (
        select r.subject as sku
        from amzmp.request as r
        where (r.account_id, r.subject_kind) = (_bulk_waiting.account_id, 'listing')
            and r.channel_id = _bulk_waiting.channel_id
            and r.operation in ('patchListingsItem', 'putListingsItem', 'deleteListingsItem')
        union all
        select k.sku
        from amzmp.feed as f
        join amzmp.feed_candidate as c using (account_id, feed_id)
        cross join unnest(c.skus) as k (sku)
        where (f.account_id, f.channel_id, f.state) = (_bulk_waiting.account_id, _bulk_waiting.channel_id, 'planned')
            and f.open
    ), carried as materialized (
        select m.channel_id, m.sku, num_nonnulls(m.price, m.request_id) > 0 as offer, m.quantity is not null as stock
        from amzmp.feed as f
        join amzmp.feed_message as m using (account_id, feed_id)
        where f.account_id = _bulk_waiting.account_id
            and f.open
            and m.result is null
            and m.sku is not null
    ), held as materialized (
        select p.kind, p.subject
        from amzmp.penalty as p
        where p.account_id = _bulk_waiting.account_id
            and (p.kind, p.channel_id) in (('price', _bulk_waiting.channel_id), ('stock', 0))
            and (p.gave_up or p.until > now())
    ), price as materialized (
        select l.sku, l.desired_price_at as since
        from amzmp.listing as l
        where (l.account_id, l.channel_id) = (_bulk_waiting.account_id, _bulk_waiting.channel_id)
            and l.price_differs
            and not l.details_differ
            and l.step is distinct from 'price'
            and l.sku not in (select d.sku from content as d)
            and not (l.in_flight_request is not null and amzmp._in_flight(l.account_id, l.in_flight_request, '{}'))
            and l.sku not in (select s.sku from spoken_for as s)
            and l.sku not in (select c.sku from carried as c where c.channel_id = _bulk_waiting.channel_id and c.offer)
            and l.sku not in (select h.subject from held as h where h.kind = 'price')
    ), stock as materialized (
        select i.sku, i.desired_quantity_at as since
        from amzmp.inventory as i
        cross join lateral (
            select o.*
            from amzmp.listing as o
            where (o.account_id, o.channel_id, o.sku) = (i.account_id, _bulk_waiting.channel_id, i.sku)
            offset 0
        ) as l
        where (i.account_id, i.fulfillment_channel) = (_bulk_waiting.account_id, 'DEFAULT')
            and i.quantity_differs
            and amzmp._stock_rises(i, l)
            and l.listed
            and l.fulfillment = 'merchant'
            and not (i.in_flight_request is not null and amzmp._in_flight(i.account_id, i.in_flight_request, '{}'))
            and not (l.in_flight_request is not null and amzmp._in_flight(l.account_id, l.in_flight_request, '{}'))
            and i.sku not in (select s.sku from spoken_for as s)
            and i.sku not in (select c.sku from carried as c where c.stock)
            and i.sku not in (select h.subject from held as h where h.kind = 'stock')
    ), doubtful as materialized (
        -- carried by a feed of which nobody knows what became of it
        select f.channel_id, f.sku, f.price, f.quantity, f.request_id
        from amzmp._in_feeds(_bulk_waiting.account_id, array(
                    select n.sku
                    from (select p.sku from price as p union select s.sku from stock as s) as n
                    where exists (
                            select
                            from amzmp.feed as f
                            where f.account_id = _bulk_waiting.account_id
                                and f.state in ('fatal', 'stuck')
                        )
                )) as f
    ), price_first as materialized (
        select w.sku from amzmp._price_first(_bulk_waiting.account_id, array(select s.sku from stock as s)) as w
    )
    select n.sku, bool_or(n.raises), min(n.since)
    from (
        select p.sku, false as raises, p.since
        from price as p
        where p.sku not in (
                select f.sku from doubtful as f where f.channel_id = _bulk_waiting.channel_id and num_nonnulls(f.price, f.request_id) > 0
            )
        union all
        select s.sku, true, s.since
        from stock as s
        where s.sku not in (select f.sku from doubtful as f where f.quantity is not null)
            and s.sku not in (select w.sku from price_first as w)
    ) as n
    group by n.sku;
end
$$;

-- SKUs that feeds carry, or are planned to.
create function amzmp._in_open_feeds(account_id bigint)
    returns setof text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select k.sku
    from amzmp.feed as f
    join amzmp.feed_candidate as c using (account_id, feed_id)
    cross join unnest(c.skus) as k (sku)
    where f.account_id = _in_open_feeds.account_id
        and f.open
    union all
    select m.sku
    from amzmp.feed as f
    join amzmp.feed_message as m using (account_id, feed_id)
    where f.account_id = _in_open_feeds.account_id
        and f.open
        and m.result is null
        and m.sku is not null;
end;

/*
 * Turn the next candidates of a feed into messages, as far as there is still something to send of them. A few a
 * transaction, because the sender must not wait long for the locks. False when none are left.
 */
create function amzmp._fill_feed(feed amzmp.feed)
    returns boolean
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    before constant integer := (
        select coalesce(max(m.message_id), 0)
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
    );
    chosen text[];
begin
    delete from amzmp.feed_candidate as c
    where (c.account_id, c.feed_id) = (feed.account_id, feed.feed_id)
        and c.position = (
            select min(x.position)
            from amzmp.feed_candidate as x
            where (x.account_id, x.feed_id) = (feed.account_id, feed.feed_id)
        )
    returning c.skus into chosen;
    if chosen is null then
        return false;
    end if;
    perform amzmp._lock_skus(feed.account_id, chosen);
    insert into amzmp.feed_message (account_id, feed_id, message_id, channel_id, sku, price, terms, quantity,
        stock_terms)
    select feed.account_id, feed.feed_id, before + row_number() over (order by o.quantity is null, o.since, o.sku),
        feed.channel_id, o.sku, o.price, case when o.price is not null then o.terms end, o.quantity,
        case when o.quantity is not null then o.stock_terms end
    from amzmp._bulk_offers(feed.account_id, feed.channel_id, chosen) as o;
    return true;
end
$$;

-- Amazon takes documents of 10 MiB.
create function amzmp._feed_most_bytes()
    returns bigint
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select 10485760::bigint
$$;

-- One message as JSON, put together as text because there are thousands. Its patches are those that a PATCH of the same
-- SKU would carry; remote: what Amazon has of them.
create function amzmp._feed_line(message amzmp.feed_message, marketplace_id text, currency text, remote_terms jsonb,
    remote_stock_terms jsonb)
    returns text
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return '{"messageId": ' || message.message_id || ', "sku": ' || to_json(message.sku)
        || ', "operationType": "PATCH", "productType": "PRODUCT", "patches": [' || array_to_string(
            case
                when message.price is not null
                then amzmp._price_patches(marketplace_id, currency, message.price, message.terms, remote_terms)
            end || case
                when message.quantity is not null
                then array[amzmp._stock_patch('DEFAULT', message.quantity, message.stock_terms, remote_stock_terms)]
            end, ', ') || ']}';
end
$$;

/*
 * The query of a feed's lines. A function call for each of thousands would take longer than all the rest, so messages
 * without terms are cut from patterns: the patches of a number that stands for the value.
 */
create function amzmp._feed_query(place amzmp.marketplace)
    returns text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select format('select case
            when num_nonnulls(m.terms, l.remote_terms, m.stock_terms, i.remote_terms) = 0
            then ''{"messageId": '' || m.message_id || '', "sku": '' || to_json(m.sku)
                || '', "operationType": "PATCH", "productType": "PRODUCT", "patches": ['' || concat_ws('', '',
                    %L || m.price || %L, %L || m.quantity || %L) || '']}''
            else amzmp._feed_line(m, %L, %L, l.remote_terms, i.remote_terms)
        end
        from amzmp.feed_message as m
        left join amzmp.listing as l using (account_id, channel_id, sku)
        left join amzmp.inventory as i
            on (i.account_id, i.sku, i.fulfillment_channel) = (m.account_id, m.sku, ''DEFAULT'')
        where (m.account_id, m.feed_id) = ($1, $2)
        order by m.message_id',
        split_part(p.price, p.mark::text, 1), split_part(p.price, p.mark::text, 2),
        split_part(p.stock, p.mark::text, 1), split_part(p.stock, p.mark::text, 2), place.marketplace_id, place.currency)
    from (
        select m.mark, array_to_string(amzmp._price_patches(place.marketplace_id, place.currency, m.mark, null, null), ', ') as price,
            amzmp._stock_patch('DEFAULT', m.mark, null, null)::text as stock
        from (select 987654321 as mark) as m
    ) as p
$$;

-- Write the document of a feed that is filled. Messages that found no room are given back. Returns how many have.
create function amzmp._write_listings_feed(feed amzmp.feed)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    header constant jsonb := (
        select jsonb_build_object('sellerId', a.seller_id, 'version', '2.0', 'issueLocale', m.language)
        from amzmp.account as a
        join amzmp.channel as c on (c.account_id, c.channel_id) = (a.account_id, feed.channel_id)
        join amzmp.marketplace as m using (marketplace_id)
        where a.account_id = feed.account_id
    );
    place constant amzmp.marketplace := (
        select m
        from amzmp.channel as c
        join amzmp.marketplace as m using (marketplace_id)
        where (c.account_id, c.channel_id) = (feed.account_id, feed.channel_id)
    );
    written bigint;
begin
    written := amzmp._write_document(feed.account_id, feed.document_id, feed.feed_id,
        format(E'{"header": %s, "messages": [\n', header),
        case when feed.argument ? 'render' then amzmp._request_lines() else amzmp._feed_query(place) end, E'\n]}',
        amzmp._feed_most_bytes());
    delete from amzmp.feed_message as m
    where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
        and m.message_id > written;
    update amzmp.feed_message as m
    set body = null
    where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
        and m.body is not null;
    return written;
end
$$;

-- Fill a feed step by step; then, in one more, write its document.
create function amzmp._build_listings_feed(feed amzmp.feed)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    more boolean;
begin
    if feed.messages > 0 then
        return amzmp._write_listings_feed(feed);
    elsif feed.messages = 0 then
        return 0;
    elsif feed.argument ? 'render' then
        more := amzmp._fill_with_requests(feed, amzmp._facet_chunk(feed.account_id, 'queue_chunk', amzmp._text_array(feed.argument -> 'facets')));
    else
        more := amzmp._fill_feed(feed);
    end if;
    if not more then
        update amzmp.feed as f
        set messages = (
                select count(*)
                from amzmp.feed_message as m
                where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
            )
        where (f.account_id, f.feed_id) = (feed.account_id, feed.feed_id);
    end if;
    return null;
end
$$;
