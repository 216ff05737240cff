/*
 * listing_feed_request.sql
 *	  Requests about listings that go along with a feed: new offers and products, content, deletions and ends.
 *
 *		due ──taken along──▶ message ──the feed's report──▶ answered: the handler of a single call takes it
 *		 ▲                     │  └──the feed is fatal or stuck──▶ answered: lost
 *		 └─────given back──────┘    cancelled, no room in the document, a deletion that is overtaken
 *
 * There is one way to say what Amazon shall have: a request that goes along is rendered by its own render function at the
 * moment the feed is built, and its body becomes the message (put: UPDATE, patch: PATCH, delete: DELETE). There is one way
 * to take a verdict: what the report says of a message becomes the answer that a call would have had. Only one thing
 * differs, and render functions see it by the state 'feed': nothing of it carries stock, which must be able to fall while
 * a feed is under way.
 *
 * The request is not in the queue meanwhile: it stands in its message, and amzmp._in_feeds says that the listing's own
 * values are in flight. The in_flight columns name it, so that its answer finds them; a stop, a deletion and an end go past
 * a feed, because these look at requests in the queue alone.
 *
 * A feed of requests says so in its argument: render, which of them it takes; upto, none that came later than its plan.
 *
 * Deletions and ends take something off sale. What goes by feed of them goes by single calls too, as soon as these
 * have no others left to make (amzmp._overtake_feed): so a feed that hangs never keeps an offer longer than if there were no feeds.
 */

-- The requests that may go along, by render function: which call each is, and what kind of message. leaving: it takes something
-- off sale.
create function amzmp._feed_requests()
    returns table (render text, operation text, message text, leaving boolean)
    rows 4
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    values ('_render_put', 'putListingsItem', 'UPDATE', false), ('_render_patch', 'patchListingsItem', 'PATCH', false),
        ('_render_delete', 'deleteListingsItem', 'DELETE', true), ('_render_end', 'patchListingsItem', 'PATCH', true)
$$;

/*
 * Taking along.
 */

-- The next requests that a feed may take, the least urgent first: single calls come from the other end. Those that are locked
-- are being claimed. (What kind they are is looked up before, so that the index of the queue gives them in their order.)
create function amzmp._requests_for(feed amzmp.feed, most integer)
    returns amzmp.request[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    kind record;
begin
    select k.* into strict kind from amzmp._feed_requests() as k where k.render = feed.argument ->> 'render';
    return array(
        select jsonb_populate_record(r, '{"state": "feed"}')
        from amzmp.request as r
        where (r.account_id, r.operation, r.state, r.render) = (feed.account_id, kind.operation, 'due', kind.render)
            and r.channel_id = feed.channel_id
            and r.attempt = 0
            and (r.priority > 20 or kind.leaving)
            and r.not_before <= now()
            and r.request_id <= (feed.argument ->> 'upto')::bigint
        order by r.priority desc, r.not_before desc
        limit most
        for update of r skip locked
    );
end
$$;

-- What a message changes, in the words of amzmp.feed_message.facets.
create function amzmp._message_facets(render text, body jsonb)
    returns text[]
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case render
            when '_render_delete' then '{deletion}'
            when '_render_end' then '{end}'
            when '_render_put' then array[case body ->> 'requirements' when 'LISTING_OFFER_ONLY' then 'offer' else 'product' end]
            else array(
                select distinct case
                        when n.attribute = 'purchasable_offer' then 'price'
                        when n.attribute = any ('{condition_type,condition_note,list_price,merchant_shipping_group}') then 'details'
                        when n.attribute = any ('{parentage_level,variation_theme,child_parent_sku_relationship}') then 'relation'
                        when n.attribute ~ '_image_locator(_[0-9])?$' then 'image'
                        else 'product'
                    end
                from jsonb_array_elements(body -> 'patches') as p (patch)
                cross join lateral substr(p.patch ->> 'path', 13) as n (attribute)
                order by 1
            )
        end
$$;

/*
 * Move the next requests of a feed into messages. Those for which there is nothing to say by now end as obsolete, and
 * what still differs of their SKUs is planned anew. False when none are left, or the document is full.
 */
create function amzmp._fill_with_requests(feed amzmp.feed, portion integer)
    returns boolean
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    filled constant integer := (
        select coalesce(max(m.message_id), 0)
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
    );
    -- room for the header and for what stands around each message
    most_bytes constant bigint := amzmp._feed_most_bytes() - 10000;
    taken constant amzmp.request[] := amzmp._requests_for(feed, least(portion, feed.planned - filled));
    needless bigint[];
    bytes bigint;
begin
    if taken = '{}' then
        return false;
    end if;
    with rendered as materialized (
        select x.request_id, x.body from unnest(amzmp._render(feed.argument ->> 'render', taken)) as x
    ), said as (
        insert into amzmp.feed_message (account_id, feed_id, message_id, channel_id, sku, request_id, request, facets, body)
        select feed.account_id, feed.feed_id, filled + row_number() over (order by t.request_id), feed.channel_id, t.subject, t.request_id,
            jsonb_strip_nulls(to_jsonb(t) - 'state'), amzmp._message_facets(t.render, x.body),
            jsonb_build_object('operationType', k.message) || coalesce(x.body, '{}')
        from unnest(taken) as t
        join rendered as x on x.request_id = t.request_id
        join amzmp._feed_requests() as k on k.render = t.render
        returning request_id, octet_length(body::text) + octet_length(sku) + 40 as bytes
    ), gone as (
        delete from amzmp.request as r
        using said as s
        where (r.account_id, r.request_id) = (feed.account_id, s.request_id)
    )
    select array(select t.request_id from unnest(taken) as t except select s.request_id from said as s),
        coalesce((feed.argument ->> 'bytes')::bigint, 0) + (select coalesce(sum(s.bytes), 0) from said as s)
    into needless, bytes;
    update amzmp.feed as f
    set argument = f.argument || jsonb_build_object('bytes', bytes)
    where (f.account_id, f.feed_id) = (feed.account_id, feed.feed_id);
    if needless <> '{}' then
        perform amzmp._finish_obsolete(feed.account_id, needless);
        perform amzmp._plan_sends(feed.account_id, array(select t.subject from unnest(taken) as t where t.request_id = any (needless)));
    end if;
    if bytes > most_bytes then
        perform amzmp._give_back(feed, array(
                select x.request_id
                from (
                    select m.request_id, sum(octet_length(m.body::text) + octet_length(m.sku) + 40) over (order by m.message_id) as up_to
                    from amzmp.feed_message as m
                    where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
                ) as x
                where x.up_to > most_bytes
            ));
    end if;
    return bytes <= most_bytes;
end
$$;

-- The query of the lines of a feed of requests.
create function amzmp._request_lines()
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select $query$select (jsonb_build_object('messageId', m.message_id, 'sku', m.sku) || m.body)::text
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = ($1, $2)
        order by m.message_id$query$
$$;

/*
 * Giving back.
 */

-- Requests that were on their way are not any more, and nothing of them was applied.
create function amzmp._come_back(account_id bigint, request_ids bigint[], skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._lock_skus(account_id, skus);
    update amzmp.listing as l
    set in_flight_price = null,
        in_flight_terms = null,
        in_flight_details = null,
        in_flight_request = null,
        state = case l.state when 'sent' then 'queued' else l.state end,
        state_reason = case l.state when 'sent' then 'the feed did not take it along, it is sent another way' else l.state_reason end,
        state_at = case l.state when 'sent' then now() else l.state_at end
    from amzmp.channel as c
    where c.account_id = _come_back.account_id
        and (l.account_id, l.channel_id) = (c.account_id, c.channel_id)
        and l.sku = any (skus)
        and l.in_flight_request = any (request_ids);
    update amzmp.listing_content as d
    set in_flight = null,
        in_flight_request = null
    from amzmp.channel as c
    where c.account_id = _come_back.account_id
        and (d.account_id, d.channel_id) = (c.account_id, c.channel_id)
        and d.sku = any (skus)
        and d.in_flight_request = any (request_ids);
    update amzmp.fulfillment as f
    set in_flight = null,
        in_flight_request = null
    where f.account_id = _come_back.account_id
        and f.sku = any (skus)
        and f.in_flight_request = any (request_ids);
end
$$;

/*
 * Put requests of a feed back into the queue. Their messages are removed while the document is not written, and stay
 * else, because Amazon may come to them.
 */
create function amzmp._give_back(feed amzmp.feed, request_ids bigint[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    given amzmp.request[];
begin
    given := array(
        select jsonb_populate_record(null::amzmp.request, m.request)
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
            and m.request_id = any (_give_back.request_ids)
            and m.request is not null
        order by m.sku
    );
    perform amzmp._come_back(feed.account_id, array(select g.request_id from unnest(given) as g),
        array(select g.subject from unnest(given) as g));
    if feed.state = 'planned' then
        delete from amzmp.feed_message as m
        using unnest(given) as g
        where (m.account_id, m.feed_id, m.request_id) = (feed.account_id, feed.feed_id, g.request_id);
    else
        update amzmp.feed_message as m
        set request = null
        from unnest(given) as g
        where (m.account_id, m.feed_id, m.request_id) = (feed.account_id, feed.feed_id, g.request_id);
    end if;
    insert into amzmp.request (account_id, request_id, operation, priority, not_before, params, render, handler, subject_kind, subject,
        channel_id, cause, created_at)
    select g.account_id, g.request_id, g.operation, g.priority, g.not_before, '{}', g.render, g.handler, g.subject_kind, g.subject,
        g.channel_id, g.cause, g.created_at
    from unnest(given) as g;
    if given <> '{}' then
        perform amzmp._wake();
    end if;
end
$$;

/*
 * Single calls that take something off sale have none left to make: let them make those of a feed that is still under
 * way. Doing both does no harm, and the feed can only make it sooner, never later. finished: requests that are being completed.
 */
create function amzmp._overtake_feed(account_id bigint, render text, finished bigint[] default '{}')
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    few constant integer := 50;
    f amzmp.feed;
    next bigint[];
begin
    select x.* into f
    from amzmp.feed as x
    where x.account_id = _overtake_feed.account_id
        and x.open
        and x.state <> 'planned'
        and x.state <> 'processed'
        and x.argument ->> 'render' = _overtake_feed.render
        and exists (
            select
            from amzmp.feed_message as m
            where (m.account_id, m.feed_id) = (x.account_id, x.feed_id)
                and m.request is not null
        )
    order by x.feed_id
    limit 1
    -- one that is being built or whose report is being applied is left alone
    for no key update skip locked;
    if f.feed_id is null then
        return;
    end if;
    if few <= (
        select count(*)
        from (
            select
            from amzmp.request as r
            join amzmp._feed_requests() as k using (render, operation)
            where r.account_id = _overtake_feed.account_id
                and r.render = _overtake_feed.render
                and r.state in ('due', 'sending')
                and r.request_id <> all (finished)
            limit few
        ) as w
    ) then
        return;
    end if;
    next := array(
        select m.request_id
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = (f.account_id, f.feed_id)
            and m.request is not null
        order by m.message_id desc
        limit 2 * few
    );
    perform amzmp._give_back(f, next);
end
$$;

-- Is a listing on its way to being deleted, or its offer to being ended, by a feed?
create function amzmp._leaves_by_feed(listing amzmp.listing, render text)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
        from amzmp.feed_message as m
        where (m.account_id, m.sku, m.channel_id) = (listing.account_id, listing.sku, listing.channel_id)
            and m.request ->> 'render' = _leaves_by_feed.render
            and m.request is not null
    );
end
$$;
