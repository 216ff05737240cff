/*
 * listing_feed_result.sql
 *	  The report of a feed of listings applied message by message, and what becomes of its SKUs where there is none.
 */

/*
 * The report is judged first, which notes how many messages were refused; then its verdicts are applied in portions.
 * Stock that is being sent past the feed is waited for: what Amazon has after both is known only when both have ended.
 */
create function amzmp._apply_listings_report(feed amzmp.feed)
    returns interval
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    portion constant integer := amzmp._facet_chunk(feed.account_id, 'queue_chunk', amzmp._text_array(feed.argument -> 'facets'));
begin
    if feed.refused is null then
        perform amzmp._judge_messages(feed,
            convert_from(amzmp._read_document(feed.account_id, feed.result_document_id), 'UTF8')::jsonb);
        return interval '0';
    elsif feed.argument ? 'render' then
        return case when amzmp._land_requests(feed, portion) > 0 then interval '0' end;
    elsif amzmp._land_messages(feed, portion) > 0 then
        return interval '0';
    elsif exists (
        select
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
            and (m.result is null or m.result = 'unknown')
    ) then
        return interval '1 second';
    end if;
    return null;
end
$$;

/*
 * Note what the report says of messages that were refused, in code and message, and how many they are; one without an
 * error was accepted, and is not touched yet. An error that names no message is about all of them, if the report counts
 * none as accepted.
 */
create function amzmp._judge_messages(feed amzmp.feed, report jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if feed.argument ? 'render' then
        perform amzmp._keep_message_issues(feed, report);
    end if;
    with issue as materialized (
        select (e.issue ->> 'messageId')::integer as message_id, e.issue ->> 'sku' as sku,
            coalesce(nullif(e.issue ->> 'code', ''), 'ERROR') as code, e.issue ->> 'message' as message, e.position
        from jsonb_array_elements(coalesce(report -> 'issues', '[]')) with ordinality as e (issue, position)
        where e.issue ->> 'severity' = 'ERROR'
    ), whole as (
        select i.code, i.message
        from issue as i
        where num_nonnulls(i.message_id, i.sku) = 0
            and (report #>> '{summary,messagesAccepted}')::integer = 0
        order by i.position
        limit 1
    ), verdict as (
        select distinct on (m.message_id) m.message_id, i.code, i.message
        from amzmp.feed_message as m
        join issue as i on i.message_id = m.message_id or i.message_id is null and i.sku = m.sku
        where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
        order by m.message_id, i.position
    ), refused as (
        update amzmp.feed_message as m
        set code = coalesce(v.code, w.code),
            message = coalesce(v.message, w.message)
        from amzmp.feed_message as n
        left join verdict as v on v.message_id = n.message_id
        left join whole as w on true
        where (n.account_id, n.feed_id) = (feed.account_id, feed.feed_id)
            and (m.account_id, m.feed_id, m.message_id) = (n.account_id, n.feed_id, n.message_id)
            and coalesce(v.code, w.code) is not null
        returning 1
    )
    update amzmp.feed as f
    set refused = r.number,
        accepted = f.messages - r.number
    from (select count(*) as number from refused) as r
    where (f.account_id, f.feed_id) = (feed.account_id, feed.feed_id);
end
$$;

/*
 * Move the values of up to `most` judged messages to submitted, or hold them back. What was sent past the feed or after
 * it counts as unknown at Amazon, so that it is sent again, and is read back. Returns how many.
 */
create function amzmp._land_messages(feed amzmp.feed, most integer)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    landed amzmp.feed_message[];
    skus text[];
    doubtful text[];
begin
    -- message by message from the first: the rest of the feed is not even looked at
    landed := array(
        select m
        from amzmp.feed_message as m
        left join lateral (
            select o.in_flight_request
            from amzmp.inventory as o
            where (o.account_id, o.sku, o.fulfillment_channel) = (m.account_id, m.sku, 'DEFAULT')
                and m.quantity is not null
            offset 0
        ) as i on true
        where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
            and (m.result is null or m.result = 'unknown')
            and not (i.in_flight_request is not null and amzmp._in_flight(m.account_id, i.in_flight_request, '{}'))
        order by m.message_id
        limit most
    );
    skus := array(select m.sku from unnest(landed) as m);
    if skus = '{}' then
        return 0;
    end if;
    perform amzmp._lock_skus(feed.account_id, skus);
    perform amzmp._note_feed_lag(feed, landed);
    doubtful := amzmp._land_stock(feed, landed) || amzmp._land_prices(feed, landed);
    doubtful := doubtful || amzmp._not_for_sale(feed, skus);
    perform amzmp._judge_messages_facets(feed.account_id, landed);
    update amzmp.feed_message as m
    set result = case when m.code is null then 'accepted' else 'refused' end,
        ended_at = now()
    from unnest(landed) as l
    where (m.account_id, m.feed_id, m.message_id) = (l.account_id, l.feed_id, l.message_id);
    perform amzmp._after_write(feed.account_id, skus, '{}');
    if doubtful <> '{}' then
        perform amzmp._look(feed.account_id, feed.channel_id, array(select distinct d.sku from unnest(doubtful) as d (sku)), now(),
            feed.cause);
    end if;
    perform amzmp._plan_sends(feed.account_id, amzmp._still_differing(feed.account_id, skus));
    return cardinality(skus);
end
$$;

/*
 * SKUs of a feed that were taken back or are being published anew. What was deleted while the feed was under way may have
 * been brought back by it, so it counts as being there, and is deleted again.
 */
create function amzmp._not_for_sale(feed amzmp.feed, skus text[])
    returns text[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    odd constant amzmp.listing[] := array(
        select l
        from amzmp.listing as l
        where (l.account_id, l.channel_id) = (feed.account_id, feed.channel_id)
            and l.sku = any (skus)
            and not (l.wanted and l.listed)
    );
begin
    if odd = '{}' then
        return '{}';
    end if;
    perform amzmp._enter(feed.account_id, array(
            select (l.channel_id, l.sku, 'pending', 'a feed that was under way may have brought it back', null)::amzmp.new_state
            from unnest(odd) as l
            where l.state = 'removed'
                and not l.wanted
        ));
    return array(select l.sku from unnest(odd) as l);
end
$$;

-- Prices of judged messages. Returns the SKUs of which nobody knows what Amazon has: a price was accepted since.
create function amzmp._land_prices(feed amzmp.feed, landed amzmp.feed_message[])
    returns text[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    doubtful text[];
begin
    with accepted as (
        select m.channel_id, m.sku, m.price, m.terms
        from unnest(landed) as m
        where m.price is not null
            and m.code is null
    ), changed as (
        update amzmp.listing as l
        set submitted_price = case when l.submitted_price_at >= feed.submitted_at or l.in_flight_price is not null
                then l.submitted_price else a.price end,
            submitted_price_at = case when l.submitted_price_at >= feed.submitted_at or l.in_flight_price is not null
                then l.submitted_price_at else now() end,
            submitted_price_request = case when l.submitted_price_at >= feed.submitted_at or l.in_flight_price is not null
                then l.submitted_price_request else feed.feed_id end,
            remote_price = case when l.submitted_price_at >= feed.submitted_at or l.in_flight_price is not null
                then null else a.price end,
            remote_terms = coalesce(a.terms, l.remote_terms)
        from accepted as a
        where (l.account_id, l.channel_id, l.sku) = (feed.account_id, a.channel_id, a.sku)
        returning l.sku, l.submitted_price_request
    )
    select array(select c.sku from changed as c where c.submitted_price_request is distinct from feed.feed_id) into doubtful;
    return doubtful;
end
$$;

-- Stock of judged messages, likewise.
create function amzmp._land_stock(feed amzmp.feed, landed amzmp.feed_message[])
    returns text[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    amazon_now constant timestamptz := amzmp._now(feed.account_id);
    scale constant double precision := (
        select a.time_scale from amzmp.account as a where a.account_id = feed.account_id
    );
    taken_at constant timestamptz := amazon_now - (now() - feed.submitted_at) * scale;
    doubtful text[];
begin
    with changed as (
        update amzmp.inventory as i
        set submitted_quantity = case when v.newer then i.submitted_quantity else m.quantity end,
            submitted_quantity_at = case when v.newer then i.submitted_quantity_at else amazon_now end,
            submitted_quantity_request = case when v.newer then i.submitted_quantity_request else feed.feed_id end,
            remote_quantity = case when not v.newer then m.quantity end,
            remote_terms = coalesce(m.stock_terms, i.remote_terms)
        from unnest(landed) as m
        join amzmp.inventory as b
            on (b.account_id, b.sku, b.fulfillment_channel) = (m.account_id, m.sku, 'DEFAULT')
        cross join lateral (
            select m.overtaken_by is not null or coalesce(b.submitted_quantity_at >= taken_at, false) as newer
        ) as v
        where m.quantity is not null
            and m.code is null
            and (i.account_id, i.sku, i.fulfillment_channel) = (b.account_id, b.sku, b.fulfillment_channel)
        returning i.sku, v.newer
    )
    select array(select c.sku from changed as c where c.newer) into doubtful;
    return doubtful;
end
$$;

-- Hold back what was refused, and lift penalties from what went through.
create function amzmp._judge_messages_facets(account_id bigint, landed amzmp.feed_message[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    delete from amzmp.penalty as p
    using unnest(landed) as m
    where p.account_id = _judge_messages_facets.account_id
        and p.subject = m.sku
        and m.code is null
        and (p.kind = 'price' and p.channel_id = m.channel_id and m.price is not null
            or p.kind = 'stock' and p.channel_id = 0 and m.quantity is not null);

    perform amzmp._penalise(account_id, f.channel_id, f.kind, f.sku, f.code, f.message)
    from (
        select 'price' as kind, m.channel_id, m.sku, m.code, m.message
        from unnest(landed) as m
        where m.code is not null
            and m.price is not null
        union all
        select 'stock', 0, m.sku, m.code, m.message
        from unnest(landed) as m
        where m.code is not null
            and m.quantity is not null
            and m.price is null
    ) as f;
end
$$;

/*
 * A feed of listings ended without a report. What it carried goes another way where nothing of it was applied, and is
 * read back where nobody knows.
 */
create function amzmp._listings_feed_ended(feed amzmp.feed)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    left_open constant text[] := array(
        select m.sku
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
            and m.result in ('released', 'unknown')
        order by m.sku
    );
begin
    if feed.argument ? 'render' then
        perform amzmp._add_task(feed.account_id, 'feed_requests', feed.feed_id::text, null, now());
    elsif feed.state in ('fatal', 'stuck') then
        update amzmp.inventory as i
        set remote_quantity = null
        where i.account_id = feed.account_id
            and i.in_flight_request is null
            and i.sku in (select o.sku from amzmp._overtaken(feed) as o (sku));
        perform amzmp._not_for_sale(feed, left_open);
        perform amzmp._settle_unwanted(feed.account_id, left_open, '{}');
        perform amzmp._look(feed.account_id, feed.channel_id, left_open, now(), feed.cause);
    elsif left_open <> '{}' then
        perform amzmp._plan_bulk(feed.account_id, interval '0');
        perform amzmp._plan_sends(feed.account_id, array(
                select o.sku from amzmp._overtaken(feed) as o (sku)
            ));
    end if;
end
$$;

-- SKUs whose stock was sent past a feed.
create function amzmp._overtaken(feed amzmp.feed)
    returns setof text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select m.sku
    from amzmp.feed_message as m
    where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
        and m.overtaken_by is not null;
end;

update amzmp.feed_type as t
set build_function = '_build_listings_feed',
    result_function = '_apply_listings_report',
    end_function = '_listings_feed_ended'
where t.name = 'JSON_LISTINGS_FEED';
