/*
 * feed.sql
 *	  Feeds: thousands of changes in one document, from the choice of SKUs to Amazon's verdict on each message.
 *
 *		planned ─▶ built ─▶ document_created ─▶ uploaded ─▶ submitted ─▶ in_queue ─▶ in_progress ─▶ processed ─▶ done
 *		           (own runner)  (sender)    (own runner)   (sender)              (sender polls)    (own runner)
 *
 * and out of any of them: cancelled (nothing of it was applied), fatal (a part may have been), stuck (nobody knows).
 *
 * A feed names how many SKUs of which channel it shall carry at most; which ones, and with what values, is read when it
 * is built. From then on feed_message is the only record of what is in flight with it: send.sql asks amzmp._in_feeds
 * and leaves those SKUs alone. There is one exception: a stop or a decrease of stock overtakes the feed
 * (overtaken_by), and is asserted again and read back when the feed ends.
 *
 * What ended fatal or stuck stays in flight until the SKU was read from Amazon, and only what differs then is sent
 * again. A stuck feed is watched on: should it end after all, what was sent meanwhile is asserted again.
 *
 * createFeed is the one call that must not be repeated blindly. At most one is under way per account, so that after a
 * lost answer getFeeds tells whether there is a feed that we do not know.
 */

-- A submission of listings falls under the plan of its type and not under createFeed's (usage_plan.c: scope feed_type).
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, wrapped, note)
select o.name || ':' || t.name, o.api, o.version, o.method, o.path, t.rate, t.burst, o.reads, o.after_lost_answer,
    o.wrapped, 'createFeed for feeds of this type, which have a usage plan of their own.'
from amzmp.operation as o, amzmp.feed_type as t
where o.name = 'createFeed'
    and t.name = 'JSON_LISTINGS_FEED';

insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'bulk_feeds', 'account', 'boolean', 'Large changes by feed', 'false', null, null,
        'Large changes of prices and rising stock go to Amazon as feeds, beside single calls, where that is sooner.'),
    (true, 'feed_chunk', 'account', 'integer', 'Messages in a feed', '25000', 1, 25000,
        'The most SKUs that one feed carries. Amazon takes 25,000.'),
    (true, 'feed_minimum', 'account', 'integer', 'Smallest feed', '200', 1, 25000,
        'Fewer SKUs than this are not worth a feed and go by single calls.'),
    (true, 'feed_expected', 'account', 'interval', 'Expected time of a feed', '"00:15:00"', 1, 86400,
        'How long Amazon is taken to need for a feed while the account has no history of its own.'),
    (true, 'feed_deadline', 'account', 'interval', 'A feed is stuck after', '"06:00:00"', 60, 604800,
        'A feed that has not ended by then counts as stuck: its SKUs are read from Amazon, and what still differs is sent another way.'),
    (true, 'feed_pause', 'account', 'interval', 'Pause after failed feeds', '"01:00:00"', 0, 604800,
        'How long no feed is made after two in a row failed. Everything goes by single calls meanwhile.'),
    (true, 'feed_retention', 'account', 'interval', 'Feeds are kept', '"30 days"', 86400, 31536000,
        'How long ended feeds, their messages and documents are kept.');

create table amzmp.feed (
    account_id bigint not null,
    feed_id bigint not null default nextval('amzmp.request_id_seq'),
    channel_id bigint not null,
    type text not null default 'JSON_LISTINGS_FEED',
    state text not null default 'planned',
    reason text,
    planned integer not null,
    messages integer,
    accepted integer,
    refused integer,
    document_id bigint,
    result_document_id bigint,
    amazon_document_id text,
    amazon_feed_id text,
    amazon_result_id text,
    tries smallint not null default 0,
    looks smallint not null default 0,
    polls smallint not null default 0,
    cause jsonb,
    created_at timestamptz not null default now(),
    built_at timestamptz,
    submitted_at timestamptz,
    processed_at timestamptz,
    ended_at timestamptz,
    open boolean not null
        generated always as (state not in ('done', 'cancelled', 'fatal', 'stuck')) stored,
    primary key (account_id, feed_id),
    constraint feed_state_check check (state in ('planned', 'built', 'document_created', 'uploaded', 'submitted', 'in_queue',
        'in_progress', 'processed', 'done', 'cancelled', 'fatal', 'stuck')),
    constraint feed_planned_check check (planned between 1 and 25000)
);

create index feed_open on amzmp.feed (account_id, feed_id) where open;
create index feed_amazon on amzmp.feed (account_id, amazon_feed_id);

comment on table amzmp.feed is 'Feeds: large changes that went to Amazon as one document, and what became of them.';
comment on column amzmp.feed.account_id is 'The account.';
comment on column amzmp.feed.feed_id is 'Our number of the feed; it shares its range with requests.';
comment on column amzmp.feed.channel_id is 'The channel, since a feed is for one marketplace.';
comment on column amzmp.feed.type is 'Amazon''s type of the feed.';
comment on column amzmp.feed.state is 'planned, built, document_created, uploaded, submitted, in_queue, in_progress, processed (its report is awaited), done, cancelled (nothing was applied), fatal (a part may have been), stuck (unknown).';
comment on column amzmp.feed.reason is 'Why it was made; once it failed, why.';
comment on column amzmp.feed.planned is 'The most SKUs that it was to carry.';
comment on column amzmp.feed.messages is 'How many it carries.';
comment on column amzmp.feed.accepted is 'How many Amazon accepted.';
comment on column amzmp.feed.refused is 'How many Amazon refused, see amzmp.feed_message.';
comment on column amzmp.feed.document_id is 'What was sent, see feed_document().';
comment on column amzmp.feed.result_document_id is 'What Amazon answered, see feed_response().';
comment on column amzmp.feed.amazon_document_id is 'Amazon''s id of the document.';
comment on column amzmp.feed.amazon_feed_id is 'Amazon''s id of the feed, unique for the seller only.';
comment on column amzmp.feed.amazon_result_id is 'Amazon''s id of the document that it answered with.';
comment on column amzmp.feed.tries is 'Failed transfers so far.';
comment on column amzmp.feed.looks is 'How often it was looked for after a lost answer.';
comment on column amzmp.feed.polls is 'How often its state was asked for.';
comment on column amzmp.feed.cause is 'What led to it.';
comment on column amzmp.feed.created_at is 'When it was planned.';
comment on column amzmp.feed.built_at is 'When its values were read.';
comment on column amzmp.feed.submitted_at is 'When Amazon took it.';
comment on column amzmp.feed.processed_at is 'When Amazon was seen to be done with it.';
comment on column amzmp.feed.ended_at is 'When it was over here.';
comment on column amzmp.feed.open is 'Is it still under way?';

create table amzmp.feed_message (
    account_id bigint not null,
    feed_id bigint not null,
    message_id integer not null,
    channel_id bigint not null,
    sku text not null,
    price numeric,
    terms jsonb,
    quantity integer,
    stock_terms jsonb,
    overtaken_by integer,
    result text,
    code text,
    message text,
    ended_at timestamptz,
    primary key (account_id, feed_id, message_id),
    constraint feed_message_content_check check (num_nonnulls(price, quantity) > 0),
    constraint feed_message_result_check check (result in ('accepted', 'refused', 'unknown', 'released'))
);

create index feed_message_in_flight on amzmp.feed_message (account_id, sku) where result is null or result = 'unknown';

comment on table amzmp.feed_message is 'What each feed carries for each SKU, and Amazon''s verdict on it.';
comment on column amzmp.feed_message.account_id is 'The account.';
comment on column amzmp.feed_message.feed_id is 'The feed.';
comment on column amzmp.feed_message.message_id is 'Number of the message in the feed.';
comment on column amzmp.feed_message.channel_id is 'The channel.';
comment on column amzmp.feed_message.sku is 'The SKU.';
comment on column amzmp.feed_message.price is 'The price that is sent; null: none.';
comment on column amzmp.feed_message.terms is 'What travels with the price, see amzmp.listing.desired_terms.';
comment on column amzmp.feed_message.quantity is 'The quantity that is sent; null: none.';
comment on column amzmp.feed_message.stock_terms is 'Lead time and restock date.';
comment on column amzmp.feed_message.overtaken_by is 'A lower quantity that was sent since without waiting for the feed.';
comment on column amzmp.feed_message.result is 'accepted, refused, unknown (the feed was fatal or stuck), released (the feed was cancelled); null: it is awaited.';
comment on column amzmp.feed_message.code is 'Amazon''s code of the first error.';
comment on column amzmp.feed_message.message is 'Amazon''s words for it.';
comment on column amzmp.feed_message.ended_at is 'When the result came.';

/*
 * What is in flight with feeds for these SKUs. Unknown results count until the SKU was read from Amazon, an hour at
 * the most.
 */
create function amzmp._in_feeds(account_id bigint, skus text[])
    returns table (channel_id bigint, sku text, price numeric, quantity integer, overtaken_by integer)
    rows 1
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if not exists (
        select
        from amzmp.feed as f
        where f.account_id = _in_feeds.account_id
            and (f.open or f.state in ('fatal', 'stuck'))
    ) then
        return;
    end if;
    return query
    select m.channel_id, m.sku, m.price, m.quantity, m.overtaken_by
    from amzmp.feed_message as m
    left join amzmp.listing as l
        on (l.account_id, l.channel_id, l.sku) = (m.account_id, m.channel_id, m.sku) and m.result is not null
    where m.account_id = _in_feeds.account_id
        and m.sku = any (_in_feeds.skus)
        and (m.result is null or m.result = 'unknown')
        and (m.result is null
            or m.ended_at > now() - interval '1 hour'
                / (select a.time_scale::double precision from amzmp.account as a where a.account_id = m.account_id)
                and coalesce(l.observed_at, '-infinity') <= m.ended_at);
end
$$;

-- The least that feeds leave room for: stock below that may be sent though a feed carries the SKU's. One row a SKU.
create function amzmp._stock_in_feeds(account_id bigint, skus text[])
    returns table (sku text, ceiling integer, overtaken boolean)
    rows 1
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select m.sku, min(coalesce(m.overtaken_by, m.quantity)), bool_or(m.overtaken_by is not null)
    from amzmp._in_feeds(_stock_in_feeds.account_id, _stock_in_feeds.skus) as m
    where m.quantity is not null
    group by m.sku;
end;

-- Is stock to be sent now? ceiling and overtaken: what _stock_in_feeds says, null where no feed carries it.
create function amzmp._stock_is_due(differs boolean, desired integer, ceiling integer, overtaken boolean)
    returns boolean
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case
            when ceiling is null then differs
            else desired < ceiling or overtaken and differs and desired <= ceiling
        end
$$;

-- SKUs whose stock a feed may raise though the shop has less by now: stock_diff need not show them.
create function amzmp._overtaking_skus(account_id bigint)
    returns setof text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select m.sku
    from amzmp.feed_message as m
    join amzmp.inventory as i
        on (i.account_id, i.sku, i.fulfillment_channel) = (m.account_id, m.sku, 'DEFAULT')
    where m.account_id = _overtaking_skus.account_id
        and (m.result is null or m.result = 'unknown')
        and i.desired_quantity < coalesce(m.overtaken_by, m.quantity);
end;

-- Stock was sent past a feed.
create function amzmp._note_overtaking(account_id bigint, skus text[], quantities integer[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.feed_message as m
    set overtaken_by = s.quantity
    from unnest(skus, quantities) as s (sku, quantity)
    where m.account_id = _note_overtaking.account_id
        and m.sku = s.sku
        and (m.result is null or m.result = 'unknown')
        and m.quantity is not null
        and s.quantity is not null;
end
$$;

/*
 * Building.
 */

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
    with held as materialized (
        select p.kind, p.subject
        from amzmp.penalty as p
        where p.account_id = _bulk_offers.account_id
            and (p.kind, p.channel_id) in (('price', _bulk_offers.channel_id), ('stock', 0))
            and (p.gave_up or p.until > now())
    ), flying as materialized (
        select m.channel_id, m.sku, m.price, m.quantity
        from amzmp._in_feeds(_bulk_offers.account_id, _bulk_offers.skus) as m
    ), offer as (
        select l.sku,
            case
                when l.price_differs
                    and not exists (select from held as h where (h.kind, h.subject) = ('price', l.sku))
                    and not exists (
                        select
                        from flying as f
                        where (f.channel_id, f.sku) = (l.channel_id, l.sku) and f.price is not null
                    )
                then round(l.desired_price, k.currency_decimals)
            end as price,
            case
                when i.quantity_differs
                    and i.desired_quantity > i.remote_quantity
                    and l.fulfillment = 'merchant'
                    and w.sku is null
                    and not (i.in_flight_request is not null
                        and amzmp._in_flight(i.account_id, i.in_flight_request, '{}'))
                    and not exists (select from held as h where (h.kind, h.subject) = ('stock', l.sku))
                    and not exists (select from flying as f where f.sku = l.sku and f.quantity is not null)
                then i.desired_quantity
            end as quantity,
            least(l.desired_price_at, i.desired_quantity_at) as since, l.desired_terms as terms, i.desired_terms as stock_terms
        from amzmp.channel as c
        join amzmp.marketplace as k using (marketplace_id)
        join amzmp.listing as l on (l.account_id, l.channel_id) = (c.account_id, c.channel_id)
        left join amzmp.inventory as i
            on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
        left join amzmp._price_first(_bulk_offers.account_id, _bulk_offers.skus) as w on w.sku = l.sku
        where (c.account_id, c.channel_id) = (_bulk_offers.account_id, _bulk_offers.channel_id)
            and c.active
            and not c.dropped
            and l.sku = any (_bulk_offers.skus)
            and l.listed
            and not (l.in_flight_request is not null and amzmp._in_flight(l.account_id, l.in_flight_request, '{}'))
    )
    select o.sku, o.price, o.terms, o.quantity, o.stock_terms, o.since
    from offer as o
    where num_nonnulls(o.price, o.quantity) > 0
        and not exists (
            select
            from amzmp.request as r
            where (r.account_id, r.subject_kind, r.subject) = (_bulk_offers.account_id, 'listing', o.sku)
                and r.channel_id = _bulk_offers.channel_id
                and r.operation in ('patchListingsItem', 'putListingsItem', 'deleteListingsItem')
        );
end
$$;

-- SKUs of a channel that differ so that a feed might carry them.
create function amzmp._bulk_skus(account_id bigint, channel_id bigint)
    returns text[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return array(
        select l.sku
        from amzmp.listing as l
        where (l.account_id, l.channel_id) = (_bulk_skus.account_id, _bulk_skus.channel_id)
            and l.price_differs
        union
        select i.sku
        from amzmp.inventory as i
        join amzmp.listing as l
            on (l.account_id, l.channel_id, l.sku) = (i.account_id, _bulk_skus.channel_id, i.sku)
        where i.account_id = _bulk_skus.account_id
            and i.quantity_differs
            and i.desired_quantity > i.remote_quantity
            and l.listed
    );
end
$$;

/*
 * Add up to `most` messages to a feed: rising stock first, then what waits longest. A portion a transaction, because
 * the sender must not wait long for the locks. Returns how many were added.
 */
create function amzmp._fill_feed(feed amzmp.feed, most integer)
    returns integer
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
    added integer;
begin
    chosen := array(
        select o.sku
        from amzmp._bulk_offers(feed.account_id, feed.channel_id, amzmp._bulk_skus(feed.account_id, feed.channel_id)) as o
        order by o.quantity is null, o.since, o.sku
        limit least(most, feed.planned - before)
    );
    perform amzmp._lock_skus(feed.account_id, chosen);
    insert into amzmp.feed_message (account_id, feed_id, message_id, channel_id, sku, price, terms, quantity,
        stock_terms)
    select feed.account_id, feed.feed_id, before + row_number() over (order by o.quantity is null, o.since, o.sku),
        feed.channel_id, o.sku, o.price, case when o.price is not null then o.terms end, o.quantity,
        case when o.quantity is not null then o.stock_terms end
    from amzmp._bulk_offers(feed.account_id, feed.channel_id, chosen) as o;
    get diagnostics added = row_count;
    return added;
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
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select format('{"messageId": %s, "sku": %s, "operationType": "PATCH", "productType": "PRODUCT", "patches": [%s]}',
        message.message_id, to_json(message.sku), array_to_string(
            case
                when message.price is not null
                then amzmp._price_patches(marketplace_id, currency, message.price, message.terms, remote_terms)
            end || case
                when message.quantity is not null
                then array[amzmp._stock_patch('DEFAULT', message.quantity, message.stock_terms, remote_stock_terms)]
            end, ', '))
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

-- Write the document of a feed that is filled. Messages that found no room are given back.
create function amzmp._write_feed(feed amzmp.feed)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    document constant bigint := amzmp._new_document(feed.account_id, 'application/json; charset=UTF-8');
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
    written := amzmp._write_document(feed.account_id, document, feed.feed_id, format(E'{"header": %s, "messages": [\n', header),
        amzmp._feed_query(place), E'\n]}', amzmp._feed_most_bytes());
    delete from amzmp.feed_message as m
    where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
        and m.message_id > written;
    update amzmp.feed as f
    set state = 'built',
        document_id = document,
        messages = written,
        built_at = now()
    where (f.account_id, f.feed_id) = (feed.account_id, feed.feed_id);
end
$$;

-- Inner, own runner: fill a planned feed portion by portion, then write its document.
create function amzmp._task_feed(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    portion constant integer := 2500;
    f amzmp.feed;
    added integer;
begin
    select x.* into f
    from amzmp.feed as x
    where (x.account_id, x.feed_id) = (_task_feed.account_id, _task_feed.subject::bigint)
        and x.state = 'planned'
    for no key update;
    if f.feed_id is null then
        return;
    end if;
    if argument ? 'filled' then
        perform amzmp._write_feed(f);
        perform amzmp._ask_for_document(f);
        return;
    end if;
    added := amzmp._fill_feed(f, portion);
    if added = portion then
        perform amzmp._add_task(account_id, 'feed', subject, null, now());
    elsif exists (
        select from amzmp.feed_message as m where (m.account_id, m.feed_id) = (f.account_id, f.feed_id)
    ) then
        perform amzmp._add_task(account_id, 'feed', subject, null, now(), '{"filled": true}');
    else
        perform amzmp._end_feed(f, 'cancelled', 'nothing was left to send');
    end if;
end
$$;

/*
 * Handing it over.
 */

-- Queue a request about a feed.
create function amzmp._feed_request(feed amzmp.feed, operation text, params jsonb, body jsonb, handler text, render text,
    not_before timestamptz)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._enqueue(feed.account_id, operation, params, body, handler, render, 45, not_before, feed.channel_id, 'feed',
        feed.feed_id::text, feed.cause);
end;

create function amzmp._ask_for_document(feed amzmp.feed)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._feed_request(feed, 'createFeedDocument', '{}',
        '{"contentType": "application/json; charset=UTF-8"}', '_handle_feed_document', null, now());
end;

-- The feed that an answer is about, locked; null where it is over.
create function amzmp._feed_of(answer amzmp.answer_row)
    returns amzmp.feed
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select f
    from amzmp.feed as f
    where (f.account_id, f.feed_id) = ((answer.request).account_id, (answer.request).subject::bigint)
    for no key update;
end;

create function amzmp._answer_failure(answer amzmp.answer_row)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select format('%s: %s (%s)', (answer.request).operation, coalesce(answer.error_message, 'the answer was lost'),
        coalesce(answer.error_code, answer.outcome))
$$;

create function amzmp._handle_feed_document(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    a amzmp.answer_row;
    f amzmp.feed;
begin
    foreach a in array answers
    loop
        f := amzmp._feed_of(a);
        continue when f.state is distinct from 'built';
        if a.outcome = 'success' and a.body ->> 'url' is not null then
            update amzmp.feed as x
            set state = 'document_created',
                amazon_document_id = a.body ->> 'feedDocumentId'
            where (x.account_id, x.feed_id) = (f.account_id, f.feed_id);
            perform amzmp._add_transfer(f.account_id, 'upload/' || f.feed_id, f.document_id, a.body ->> 'url');
        else
            perform amzmp._end_feed(f, 'cancelled', amzmp._answer_failure(a));
        end if;
    end loop;
end
$$;

comment on function amzmp._handle_feed_document(amzmp.answer_row[]) is 'Inner: Amazon named a place for a feed''s document; upload it.';

-- An upload is over. A link lives five minutes, so another try begins with another link.
create function amzmp._feed_uploaded(account_id bigint, feed_id bigint, done boolean, failure text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    f amzmp.feed;
begin
    update amzmp.feed as x
    set state = case when done then 'uploaded' else 'built' end,
        tries = case when done then 0 else x.tries + 1 end
    where (x.account_id, x.feed_id) = (_feed_uploaded.account_id, _feed_uploaded.feed_id)
        and x.state = 'document_created'
    returning x.* into f;
    if f.feed_id is null then
        return;
    elsif done then
        perform amzmp._submit_feeds(account_id, '{}');
    elsif f.tries < 4 then
        perform amzmp._ask_for_document(f);
    else
        perform amzmp._end_feed(f, 'cancelled', 'the document could not be uploaded: ' || failure);
    end if;
end
$$;

-- Submit the next feed, unless one is being submitted or looked for. finished: requests that are being completed.
create function amzmp._submit_feeds(account_id bigint, finished bigint[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    f amzmp.feed;
begin
    -- two runners must not both find that none is under way
    perform from amzmp.account as a where a.account_id = _submit_feeds.account_id for no key update;
    if exists (
        select
        from amzmp.request as r
        where (r.account_id, r.subject_kind) = (_submit_feeds.account_id, 'feed')
            and (r.operation like 'createFeed:%' or r.operation = 'getFeeds')
            and r.request_id <> all (finished)
    ) then
        return;
    end if;
    select x.* into f
    from amzmp.feed as x
    where x.account_id = _submit_feeds.account_id
        and x.state = 'uploaded'
    order by x.feed_id
    limit 1;
    if f.feed_id is not null then
        perform amzmp._feed_request(f, 'createFeed:' || f.type, '{}', null, '_handle_feed_created', '_render_feed', now());
    end if;
end
$$;

create function amzmp._render_feed(claimed amzmp.request[])
    returns table (request_id bigint, params jsonb, body jsonb)
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select r.request_id, '{}'::jsonb, jsonb_build_object('feedType', f.type, 'marketplaceIds', jsonb_build_array(c.marketplace_id),
        'inputFeedDocumentId', f.amazon_document_id)
    from unnest(claimed) as r
    join amzmp.feed as f on (f.account_id, f.feed_id) = (r.account_id, r.subject::bigint) and f.state = 'uploaded'
    join amzmp.channel as c on (c.account_id, c.channel_id) = (f.account_id, f.channel_id);
end;

comment on function amzmp._render_feed(amzmp.request[]) is 'Inner: bodies of createFeed; no row where the feed is over.';

-- Amazon has the feed.
create function amzmp._feed_submitted(feed amzmp.feed, amazon_feed_id text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.feed as x
    set state = 'submitted',
        amazon_feed_id = _feed_submitted.amazon_feed_id,
        submitted_at = now()
    where (x.account_id, x.feed_id) = (feed.account_id, feed.feed_id)
    returning x.* into feed;
    perform amzmp._poll_later(feed);
end
$$;

create function amzmp._handle_feed_created(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    a amzmp.answer_row;
    f amzmp.feed;
begin
    foreach a in array answers
    loop
        f := amzmp._feed_of(a);
        continue when f.state is distinct from 'uploaded';
        if a.outcome = 'success' and a.body ->> 'feedId' is not null then
            perform amzmp._feed_submitted(f, a.body ->> 'feedId');
        elsif a.outcome in ('lost', 'success') or a.status is null or a.status >= 500 then
            perform amzmp._look_for_feed(f, a);
        else
            perform amzmp._end_feed(f, 'cancelled', amzmp._answer_failure(a));
        end if;
    end loop;
    perform amzmp._submit_feeds((answers[1].request).account_id,
        array(select (x.request).request_id from unnest(answers) as x));
end
$$;

comment on function amzmp._handle_feed_created(amzmp.answer_row[]) is 'Inner: Amazon took a feed, or refused it, or nobody knows.';

-- Look whether a submission with a lost answer had its effect: at once, and once more a minute later.
create function amzmp._look_for_feed(feed amzmp.feed, answer amzmp.answer_row)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    scale constant double precision := (
        select x.time_scale from amzmp.account as x where x.account_id = feed.account_id
    );
    sent_at constant timestamptz := coalesce((answer.request).claimed_at, now());
begin
    perform amzmp._feed_request(feed, 'getFeeds', jsonb_build_object('feedTypes', jsonb_build_array(feed.type), 'pageSize', 100,
            'createdSince', to_char((amzmp._now(feed.account_id) - (now() - sent_at) * scale - interval '1 hour')
                    at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
        null, '_handle_feed_lookup', null,
        now() + case feed.looks when 0 then interval '5 seconds' else interval '1 minute' end / scale);
    update amzmp.feed as x
    set looks = x.looks + 1
    where (x.account_id, x.feed_id) = (feed.account_id, feed.feed_id);
end
$$;

-- A feed there that we do not know is ours; if there are several, nobody can say which.
create function amzmp._handle_feed_lookup(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    a amzmp.answer_row;
    f amzmp.feed;
    found_ids text[];
begin
    foreach a in array answers
    loop
        f := amzmp._feed_of(a);
        continue when f.state is distinct from 'uploaded';
        found_ids := array(
            select e.feed ->> 'feedId'
            from jsonb_array_elements(coalesce(a.body -> 'feeds', '[]')) as e (feed)
            where (e.feed -> 'marketplaceIds' is null or exists (
                    select
                    from amzmp.channel as c
                    where (c.account_id, c.channel_id) = (f.account_id, f.channel_id)
                        and e.feed -> 'marketplaceIds' ? c.marketplace_id
                ))
                and not exists (
                    select
                    from amzmp.feed as x
                    where (x.account_id, x.amazon_feed_id) = (f.account_id, e.feed ->> 'feedId')
                )
        );
        if a.outcome <> 'success' or cardinality(found_ids) > 1 then
            perform amzmp._end_feed(f, 'stuck', case
                    when a.outcome <> 'success' then amzmp._answer_failure(a)
                    else 'the answer was lost, and Amazon has several feeds that it might be'
                end);
        elsif cardinality(found_ids) = 1 then
            perform amzmp._feed_submitted(f, found_ids[1]);
        elsif f.looks < 2 then
            perform amzmp._look_for_feed(f, a);
        else
            update amzmp.feed as x
            set looks = 0
            where (x.account_id, x.feed_id) = (f.account_id, f.feed_id);
        end if;
    end loop;
    perform amzmp._submit_feeds((answers[1].request).account_id,
        array(select (x.request).request_id from unnest(answers) as x));
end
$$;

comment on function amzmp._handle_feed_lookup(amzmp.answer_row[]) is 'Inner: was a feed created, though the answer was lost?';

/*
 * Waiting for it.
 */

-- Ask after 1, 2, 5 and then every 10 minutes, by the clock of the account.
create function amzmp._poll_later(feed amzmp.feed)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    minutes constant integer[] := '{1, 1, 3, 5}';
    pause constant interval := (
        select make_interval(mins => coalesce(minutes[feed.polls + 1], 10)) / a.time_scale::double precision
        from amzmp.account as a
        where a.account_id = feed.account_id
    );
begin
    perform amzmp._feed_request(feed, 'getFeed', jsonb_build_object('feedId', feed.amazon_feed_id), null,
        '_handle_feed_state', null, now() + greatest(pause, interval '0.2 seconds'));
    update amzmp.feed as x
    set polls = x.polls + 1
    where (x.account_id, x.feed_id) = (feed.account_id, feed.feed_id);
end
$$;

create function amzmp._handle_feed_state(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    a amzmp.answer_row;
    f amzmp.feed;
begin
    foreach a in array answers
    loop
        f := amzmp._feed_of(a);
        continue when f.state is null or f.state not in ('submitted', 'in_queue', 'in_progress', 'stuck');
        case coalesce(a.body ->> 'processingStatus', '')
            when 'DONE', 'FATAL' then
                perform amzmp._feed_processed(f, a.body);
            when 'CANCELLED' then
                perform amzmp._end_feed(f, 'cancelled', 'Amazon cancelled the feed');
            else
                perform amzmp._feed_goes_on(f, a);
        end case;
    end loop;
end
$$;

comment on function amzmp._handle_feed_state(amzmp.answer_row[]) is 'Inner: how far Amazon is with a feed.';

-- Not ended yet: ask again later. Past its deadline it is stuck, and cancelled if Amazon has not begun with it. A stuck
-- one is watched for three days.
create function amzmp._feed_goes_on(feed amzmp.feed, answer amzmp.answer_row)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    status constant text := answer.body ->> 'processingStatus';
begin
    if feed.state = 'stuck' then
        if feed.ended_at > now() - interval '3 days' then
            perform amzmp._poll_later(feed);
        end if;
        return;
    end if;
    update amzmp.feed as x
    set state = case status when 'IN_QUEUE' then 'in_queue' when 'IN_PROGRESS' then 'in_progress' else x.state end
    where (x.account_id, x.feed_id) = (feed.account_id, feed.feed_id);
    if now() > feed.submitted_at + amzmp._account_interval(feed.account_id, 0, 'feed_deadline') then
        perform amzmp._end_feed(feed, 'stuck', format('not done after %s',
                amzmp._setting_interval(feed.account_id, 0, 'feed_deadline')));
        if status = 'IN_QUEUE' then
            perform amzmp._feed_request(feed, 'cancelFeed', jsonb_build_object('feedId', feed.amazon_feed_id), null, null, null,
                now());
        end if;
    end if;
    perform amzmp._poll_later(feed);
end
$$;

-- Amazon is done with it; what became of the messages is in a document.
create function amzmp._feed_processed(feed amzmp.feed, status jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    fatal constant boolean := status ->> 'processingStatus' = 'FATAL';
begin
    if fatal then
        perform amzmp._end_feed(feed, 'fatal', 'Amazon gave up on the feed');
    end if;
    update amzmp.feed as x
    set state = case when fatal then 'fatal' else 'processed' end,
        processed_at = now(),
        amazon_result_id = status ->> 'resultFeedDocumentId',
        tries = 0
    where (x.account_id, x.feed_id) = (feed.account_id, feed.feed_id)
    returning x.* into feed;
    if feed.amazon_result_id is not null then
        perform amzmp._fetch_report(feed);
    elsif not fatal then
        perform amzmp._end_feed(feed, 'fatal', 'Amazon has no report of the feed');
    end if;
end
$$;

/*
 * The processing report.
 */

-- Ask for the report; after a failure once more a little later.
create function amzmp._fetch_report(feed amzmp.feed)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    pause constant interval := (
        select feed.tries * interval '1 minute' / a.time_scale::double precision
        from amzmp.account as a
        where a.account_id = feed.account_id
    );
begin
    if feed.tries < 5 then
        perform amzmp._feed_request(feed, 'getFeedDocument', jsonb_build_object('feedDocumentId', feed.amazon_result_id), null,
            '_handle_feed_result', null, now() + pause);
        update amzmp.feed as x
        set tries = x.tries + 1
        where (x.account_id, x.feed_id) = (feed.account_id, feed.feed_id);
    elsif feed.state = 'processed' then
        perform amzmp._end_feed(feed, 'fatal', 'the report of the feed could not be fetched');
    end if;
end
$$;

create function amzmp._handle_feed_result(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    a amzmp.answer_row;
    f amzmp.feed;
begin
    foreach a in array answers
    loop
        f := amzmp._feed_of(a);
        continue when f.state is null or f.state not in ('processed', 'fatal');
        if a.outcome = 'success' and a.body ->> 'url' is not null then
            perform amzmp._add_transfer(f.account_id, 'download/' || f.feed_id,
                amzmp._new_document(f.account_id, 'application/json; charset=UTF-8'), a.body ->> 'url');
        else
            perform amzmp._fetch_report(f);
        end if;
    end loop;
end
$$;

comment on function amzmp._handle_feed_result(amzmp.answer_row[]) is 'Inner: where a feed''s processing report is; fetch it.';

-- A download is over.
create function amzmp._feed_downloaded(account_id bigint, feed_id bigint, document_id bigint, done boolean)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    f amzmp.feed;
begin
    update amzmp.feed as x
    set result_document_id = case when done then _feed_downloaded.document_id end
    where (x.account_id, x.feed_id) = (_feed_downloaded.account_id, _feed_downloaded.feed_id)
        and x.state in ('processed', 'fatal')
        and x.result_document_id is null
    returning x.* into f;
    if not done or f.feed_id is null then
        perform amzmp._drop_documents(account_id, array[document_id]);
    end if;
    if done and f.state = 'processed' then
        perform amzmp._add_task(account_id, 'feed_report', f.feed_id::text, null, now());
    elsif not done and f.feed_id is not null then
        perform amzmp._fetch_report(f);
    end if;
end
$$;

/*
 * Inner, own runner: apply the report, message by message in portions. Stock that is being sent past the feed is waited
 * for: what Amazon has after both is known only when both have ended.
 */
create function amzmp._task_feed_report(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    portion constant integer := 1000;
    f amzmp.feed;
    judged integer;
begin
    select x.* into f
    from amzmp.feed as x
    where (x.account_id, x.feed_id) = (_task_feed_report.account_id, _task_feed_report.subject::bigint)
        and x.state = 'processed'
    for no key update;
    if f.feed_id is null then
        return;
    end if;
    if not argument ? 'judged' then
        perform amzmp._judge_messages(f, convert_from(amzmp._read_document(f.account_id, f.result_document_id), 'UTF8')::jsonb);
        perform amzmp._add_task(account_id, 'feed_report', subject, null, now(), '{"judged": true}');
        return;
    end if;
    judged := amzmp._land_messages(f, portion);
    if judged > 0 then
        perform amzmp._add_task(account_id, 'feed_report', subject, null, now(), '{"judged": true}');
    elsif exists (
        select
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = (f.account_id, f.feed_id)
            and m.ended_at is null
    ) then
        perform amzmp._add_task(account_id, 'feed_report', subject, null, now() + interval '1 second', '{"judged": true}');
    else
        perform amzmp._end_feed(f, 'done', null);
    end if;
end
$$;

/*
 * Note what the report says about each message, in code and message; a message without an error was accepted. An error
 * that names no message is about all of them, if the report counts none as accepted. code '' means accepted.
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
    with issue as materialized (
        select (e.issue ->> 'messageId')::integer as message_id, e.issue ->> 'sku' as sku, e.issue ->> 'code' as code,
            e.issue ->> 'message' as message, e.position
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
    )
    update amzmp.feed_message as m
    set code = coalesce(v.code, w.code, case when coalesce(v.message, w.message) is null then '' else 'ERROR' end),
        message = coalesce(v.message, w.message),
        ended_at = null
    from amzmp.feed_message as n
    left join verdict as v on v.message_id = n.message_id
    left join whole as w on true
    where (n.account_id, n.feed_id) = (feed.account_id, feed.feed_id)
        and (m.account_id, m.feed_id, m.message_id) = (n.account_id, n.feed_id, n.message_id);
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
    landed := array(
        select m
        from amzmp.feed_message as m
        left join amzmp.inventory as i
            on (i.account_id, i.sku, i.fulfillment_channel) = (m.account_id, m.sku, 'DEFAULT') and m.quantity is not null
        where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
            and m.ended_at is null
            and not (i.in_flight_request is not null and amzmp._in_flight(i.account_id, i.in_flight_request, '{}'))
        order by m.sku
        limit most
    );
    skus := array(select m.sku from unnest(landed) as m);
    if skus = '{}' then
        return 0;
    end if;
    perform amzmp._lock_skus(feed.account_id, skus);
    doubtful := amzmp._land_stock(feed, landed) || amzmp._land_prices(feed, landed);
    perform amzmp._judge_messages_facets(feed.account_id, landed);
    update amzmp.feed_message as m
    set result = case l.code when '' then 'accepted' else 'refused' end,
        code = nullif(l.code, ''),
        ended_at = now()
    from unnest(landed) as l
    where (m.account_id, m.feed_id, m.message_id) = (l.account_id, l.feed_id, l.message_id);
    perform amzmp._after_write(feed.account_id, skus, '{}');
    perform amzmp._look(feed.account_id, feed.channel_id, array(select distinct d.sku from unnest(doubtful) as d (sku)), now(),
        feed.cause);
    perform amzmp._plan_sends(feed.account_id, skus);
    return cardinality(skus);
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
    with changed as (
        update amzmp.listing as l
        set submitted_price = case when v.newer then l.submitted_price else m.price end,
            submitted_price_at = case when v.newer then l.submitted_price_at else now() end,
            submitted_price_request = case when v.newer then l.submitted_price_request else feed.feed_id end,
            remote_price = case when not v.newer then m.price end,
            remote_terms = coalesce(m.terms, l.remote_terms)
        from unnest(landed) as m
        join amzmp.listing as b on (b.account_id, b.channel_id, b.sku) = (m.account_id, m.channel_id, m.sku)
        cross join lateral (
            select coalesce(b.submitted_price_at >= feed.submitted_at, false) or b.in_flight_price is not null as newer
        ) as v
        where m.price is not null
            and m.code = ''
            and (l.account_id, l.channel_id, l.sku) = (b.account_id, b.channel_id, b.sku)
        returning l.sku, v.newer
    )
    select array(select c.sku from changed as c where c.newer) into doubtful;
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
            and m.code = ''
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
        and m.code = ''
        and (p.kind = 'price' and p.channel_id = m.channel_id and m.price is not null
            or p.kind = 'stock' and p.channel_id = 0 and m.quantity is not null);

    perform amzmp._penalise(account_id, f.channel_id, f.kind, f.sku, f.code, f.message)
    from (
        select 'price' as kind, m.channel_id, m.sku, m.code, m.message
        from unnest(landed) as m
        where m.code <> ''
            and m.price is not null
        union all
        select 'stock', 0, m.sku, m.code, m.message
        from unnest(landed) as m
        where m.code <> ''
            and m.quantity is not null
            and m.price is null
    ) as f;
end
$$;

/*
 * The end of a feed.
 */

/*
 * End a feed. What it carried is released where nothing of it was applied, and read back where nobody knows. done:
 * the report was applied, so only the counts are left.
 */
create function amzmp._end_feed(feed amzmp.feed, state text, reason text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    left_open text[];
begin
    with ended as (
        update amzmp.feed_message as m
        set result = case _end_feed.state when 'cancelled' then 'released' else 'unknown' end,
            ended_at = now()
        where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
            and _end_feed.state <> 'done'
            and (m.result is null or m.result = 'unknown')
        returning m.sku
    )
    select array(select e.sku from ended as e order by e.sku) into left_open;

    update amzmp.feed as x
    set state = _end_feed.state,
        reason = coalesce(_end_feed.reason, x.reason),
        ended_at = now(),
        accepted = c.accepted,
        refused = c.refused
    from (
        select count(*) filter (where m.result = 'accepted') as accepted, count(*) filter (where m.result = 'refused') as refused
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
    ) as c
    where (x.account_id, x.feed_id) = (feed.account_id, feed.feed_id);

    perform amzmp._log(feed.account_id, feed.channel_id, case state when 'done' then 'info' else 'warning' end, 'feed',
        feed.feed_id::text, format('feed %s%s', state, ': ' || reason));
    if state in ('fatal', 'stuck') then
        update amzmp.inventory as i
        set remote_quantity = null
        where i.account_id = feed.account_id
            and i.in_flight_request is null
            and i.sku in (select o.sku from amzmp._overtaken(feed) as o (sku));
        perform amzmp._look(feed.account_id, feed.channel_id, left_open, now(), feed.cause);
    elsif state = 'cancelled' and left_open <> '{}' then
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

-- Inner, housekeeping.
create function amzmp._purge_feeds(account_id bigint, older_than interval)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    gone amzmp.feed[];
begin
    with old as (
        delete from amzmp.feed as f
        where f.account_id = _purge_feeds.account_id
            and not f.open
            and f.ended_at < now() - older_than
        returning f as feed
    )
    select array_agg(o.feed) into gone from old as o;
    delete from amzmp.feed_message as m
    using unnest(gone) as g
    where (m.account_id, m.feed_id) = (g.account_id, g.feed_id);
    perform amzmp._drop_documents(account_id, array(
            select d.id from unnest(gone) as g, unnest(array[g.document_id, g.result_document_id]) as d (id) where d.id is not null
        ));
    return coalesce(cardinality(gone), 0);
end
$$;

/*
 * What people do with feeds.
 */
create function amzmp._feed(account text, feed_id bigint)
    returns amzmp.feed
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    a constant amzmp.account := amzmp._account(account);
    f amzmp.feed;
begin
    select x.* into f
    from amzmp.feed as x
    where (x.account_id, x.feed_id) = (a.account_id, _feed.feed_id);
    if f.feed_id is null then
        perform amzmp._fail('AZ201', format('account "%s" has no feed %s', a.name, feed_id), null,
            'select * from amzmp.feed; lists them.');
    end if;
    return f;
end
$$;

create function amzmp._feed_text(feed amzmp.feed, document_id bigint)
    returns text
    language sql
    stable
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select convert_from(amzmp._read_document(feed.account_id, document_id), 'UTF8')
    where document_id is not null;
end;

create function amzmp._feed_document(account text, feed_id bigint)
    returns text
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._feed_text(f, f.document_id) from amzmp._feed(account, feed_id) as f;
end;

select amzmp._expose('amzmp._feed_document(text, bigint)', 'amzmp_reader',
    'The document that a feed sent; null while it is not built.');

create function amzmp._feed_response(account text, feed_id bigint)
    returns text
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._feed_text(f, f.result_document_id) from amzmp._feed(account, feed_id) as f;
end;

select amzmp._expose('amzmp._feed_response(text, bigint)', 'amzmp_reader',
    'Amazon''s processing report of a feed; null while there is none.');

create function amzmp._poll_feed(account text, feed_id bigint)
    returns boolean
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    f constant amzmp.feed := amzmp._feed(account, feed_id);
begin
    update amzmp.request as r
    set not_before = now()
    where (r.account_id, r.subject_kind, r.subject) = (f.account_id, 'feed', f.feed_id::text)
        and r.operation = 'getFeed'
        and r.state = 'due';
    perform amzmp._wake();
    return found;
end
$$;

select amzmp._expose('amzmp._poll_feed(text, bigint)', 'amzmp_operator',
    'Ask for the state of a feed now. False when it is not waiting for Amazon.');

create function amzmp._resend_feed(account text, feed_id bigint)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    f constant amzmp.feed := amzmp._feed(account, feed_id);
    skus constant text[] := array(
        select m.sku
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = (f.account_id, f.feed_id)
    );
begin
    if f.open then
        perform amzmp._fail('AZ203', format('feed %s is under way', f.feed_id), format('It is %s.', f.state),
            'Wait until it has ended; amzmp.poll_feed() asks for its state now.');
    end if;
    perform amzmp._lock_skus(f.account_id, skus);
    update amzmp.listing as l
    set remote_price = null
    where (l.account_id, l.channel_id) = (f.account_id, f.channel_id)
        and l.sku = any (skus)
        and l.listed
        and l.in_flight_request is null;
    update amzmp.inventory as i
    set remote_quantity = null
    where i.account_id = f.account_id
        and i.sku in (
            select m.sku
            from amzmp.feed_message as m
            where (m.account_id, m.feed_id) = (f.account_id, f.feed_id)
                and m.quantity is not null
        )
        and i.in_flight_request is null;
    perform amzmp._log(f.account_id, f.channel_id, 'notice', 'feed', f.feed_id::text,
        format('%s SKUs are sent again, asked for by %s', cardinality(skus), amzmp._caller()));
    perform amzmp._plan_sends(f.account_id, skus);
    return cardinality(skus);
end
$$;

select amzmp._expose('amzmp._resend_feed(text, bigint)', 'amzmp_operator',
    'Send all SKUs of an ended feed again, with the values that the shop wants now. Returns how many.');

create function amzmp._purge_feeds(account text, older_than interval)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    a constant amzmp.account := amzmp._account(account);
begin
    return amzmp._purge_feeds(a.account_id, older_than);
end
$$;

select amzmp._expose('amzmp._purge_feeds(text, interval)', 'amzmp_operator',
    'Remove ended feeds that are older than an interval, with their messages and documents. Returns how many.');
