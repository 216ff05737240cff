/*
 * feed.sql
 *	  Feeds: thousands of changes in one document, from the choice of what goes into it to Amazon's verdict on each message.
 *
 *		planned ─▶ built ─▶ document_created ─▶ uploaded ─▶ submitted ─▶ in_queue ─▶ in_progress ─▶ processed ─▶ done
 *		           (own runner)  (sender)    (own runner)   (sender)              (sender polls)    (own runner)
 *
 * and out of any of them: cancelled (nothing of it was applied), fatal (a part may have been), stuck (nobody knows).
 *
 * This is the life of every feed. What makes a document, understands Amazon's report and must know of an end without a
 * report are functions that the feed's type names (amzmp.feed_type); those of the other types are where their subject
 * is. What follows is about listings (JSON_LISTINGS_FEED).
 *
 * A planned feed has candidates; whether there is something to send of them, and which values, is read when it is built.
 * From then on feed_message is the only record of what is in flight with it: send.sql asks amzmp._in_feeds
 * and leaves those SKUs alone. There is one exception: a stop or a decrease of stock overtakes the feed
 * (overtaken_by), and is asserted again and read back when the feed ends.
 *
 * Offers and products, content and deletions are requests that a feed takes along (listing_feed_request.sql): the request
 * moves from the queue into its message, and gets its answer from the feed's report.
 *
 * What ended fatal or stuck stays in flight until the SKU was read from Amazon, and only what differs then is sent
 * again. A stuck feed is watched on: should it end after all, what was sent meanwhile is asserted again.
 *
 * Here are the tables and the rules of who overtakes whom; then, in a feed's order of life: feed_plan, feed_submit,
 * feed_poll, feed_end; feed_xml is what XML types share; listing_feed_build and listing_feed_result are the listings';
 * feed_user is what people do with feeds.
 *
 * createFeed is the one call that must not be repeated blindly. At most one is under way per account, so that after a
 * lost answer getFeeds tells whether there is a feed that we do not know.
 */

-- Submissions of types with a plan of their own fall under that, or under both (usage_plan.c: scope feed_type).
insert into amzmp.operation (name, api, version, method, path, shares_plan_of, rate, burst, reads, after_lost_answer, wrapped,
    note)
select o.name || ':' || t.name, o.api, o.version, o.method, o.path,
    case when not t.replaces_operation_plan then o.name end,
    case when t.replaces_operation_plan then t.rate else o.rate end,
    case when t.replaces_operation_plan then t.burst else o.burst end, o.reads, o.after_lost_answer, o.wrapped,
    'createFeed for feeds of this type, which have a usage plan of their own.'
from amzmp.operation as o, amzmp.feed_type as t
where o.name = 'createFeed'
    and t.rate is not null;

insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'bulk_feeds', 'account', 'boolean', 'Large changes by feed', 'true', null, null,
        'Large changes of prices and rising stock go to Amazon as feeds, beside single calls, where that is sooner.'),
    (true, 'feed_chunk_price', 'account', 'integer', 'Prices in a feed', '25000', 1, 25000,
        'The most SKUs that a feed with prices carries. Amazon takes 25,000.'),
    (true, 'feed_chunk_stock', 'account', 'integer', 'Stock in a feed', '25000', 1, 25000,
        'The most SKUs that a feed with stock carries.'),
    (true, 'feed_chunk_product', 'account', 'integer', 'Products in a feed', '5000', 1, 25000,
        'The most SKUs that a feed with new products, their content or images carries.'),
    (true, 'feed_chunk_status', 'account', 'integer', 'Removals in a feed', '25000', 1, 25000,
        'The most SKUs that a feed with offers to be ended or deleted carries.'),
    (true, 'queue_chunk_price', 'account', 'integer', 'Prices at a time', '1000', 10, 25000,
        'How many messages with prices are written or applied in one transaction.'),
    (true, 'queue_chunk_stock', 'account', 'integer', 'Stock at a time', '1000', 10, 25000,
        'How many messages with stock are written or applied in one transaction.'),
    (true, 'queue_chunk_product', 'account', 'integer', 'Products at a time', '200', 10, 25000,
        'How many messages with new products, their content or images are written or applied in one transaction.'),
    (true, 'queue_chunk_status', 'account', 'integer', 'Removals at a time', '500', 10, 25000,
        'How many messages with offers to be ended or deleted are written or applied in one transaction.'),
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
    options jsonb,
    argument jsonb,
    state text not null default 'planned',
    reason text,
    planned integer,
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
comment on column amzmp.feed.options is 'Amazon''s options of the feed, null: none.';
comment on column amzmp.feed.argument is 'What its type needs to know about it.';
comment on column amzmp.feed.state is 'planned, built, document_created, uploaded, submitted, in_queue, in_progress, processed (its report is awaited), done, cancelled (nothing was applied), fatal (a part may have been), stuck (unknown).';
comment on column amzmp.feed.reason is 'Why it was made; once it failed, why.';
comment on column amzmp.feed.planned is 'The most SKUs that it was to carry; null where its type decides by itself.';
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

create table amzmp.feed_candidate (
    account_id bigint not null,
    feed_id bigint not null,
    position integer not null,
    skus text[] not null,
    primary key (account_id, feed_id, position)
);

comment on table amzmp.feed_candidate is 'SKUs that a planned feed shall carry if there is still something to send of them when it is built.';
comment on column amzmp.feed_candidate.account_id is 'The account.';
comment on column amzmp.feed_candidate.feed_id is 'The feed.';
comment on column amzmp.feed_candidate.position is 'The place of these SKUs among all of the feed.';
comment on column amzmp.feed_candidate.skus is 'As many SKUs as are treated in one transaction.';

create table amzmp.feed_message (
    account_id bigint not null,
    feed_id bigint not null,
    message_id integer not null,
    channel_id bigint not null,
    sku text,
    subject text,
    price numeric,
    terms jsonb,
    quantity integer,
    stock_terms jsonb,
    overtaken_by integer,
    request_id bigint,
    request jsonb,
    facets text[],
    body jsonb,
    issues jsonb,
    result text,
    code text,
    message text,
    ended_at timestamptz,
    primary key (account_id, feed_id, message_id),
    constraint feed_message_content_check check (
        num_nonnulls(sku, subject) = 1 and (sku is not null) = (num_nonnulls(price, quantity, request_id) > 0)
    ),
    constraint feed_message_result_check check (result in ('accepted', 'refused', 'unknown', 'released'))
);

create index feed_message_sku on amzmp.feed_message (account_id, sku) where sku is not null;
create index feed_message_in_flight on amzmp.feed_message (account_id, sku)
where (result is null or result = 'unknown' or request is not null) and sku is not null;

comment on table amzmp.feed_message is 'What each feed carries for each SKU, and Amazon''s verdict on it.';
comment on column amzmp.feed_message.account_id is 'The account.';
comment on column amzmp.feed_message.feed_id is 'The feed.';
comment on column amzmp.feed_message.message_id is 'Number of the message in the feed.';
comment on column amzmp.feed_message.channel_id is 'The channel.';
comment on column amzmp.feed_message.sku is 'The SKU whose listing it changes; null in feeds about something else.';
comment on column amzmp.feed_message.subject is 'What else it is about, such as an order.';
comment on column amzmp.feed_message.price is 'The price that is sent; null: none.';
comment on column amzmp.feed_message.terms is 'What travels with the price, see amzmp.listing.desired_terms.';
comment on column amzmp.feed_message.quantity is 'The quantity that is sent; null: none.';
comment on column amzmp.feed_message.stock_terms is 'Lead time and restock date.';
comment on column amzmp.feed_message.overtaken_by is 'A lower quantity that was sent since without waiting for the feed.';
comment on column amzmp.feed_message.request_id is 'The request that went along with the feed instead of being a call of its own; null: the message is about price or stock alone.';
comment on column amzmp.feed_message.request is 'That request, until it was answered or given back to the queue.';
comment on column amzmp.feed_message.facets is 'What it changes: offer, product, relation, image, price, details, or that the listing is deleted (deletion) or its offer ended (end).';
comment on column amzmp.feed_message.body is 'What it says, until it stands in the document.';
comment on column amzmp.feed_message.issues is 'All that Amazon''s report says about it.';
comment on column amzmp.feed_message.result is 'accepted, refused, unknown (the feed was fatal or stuck), released (the feed was cancelled); null: it is awaited.';
comment on column amzmp.feed_message.code is 'Amazon''s code of the first error.';
comment on column amzmp.feed_message.message is 'Amazon''s words for it.';
comment on column amzmp.feed_message.ended_at is 'When the result came.';

/*
 * How many SKUs a feed that carries these facets (price, stock, product, status) may have, or a transaction treats of it:
 * chunk is feed_chunk or queue_chunk. The smallest of the settings holds, because each says how much of its facet is too much.
 */
create function amzmp._facet_chunk(account_id bigint, chunk text, facets text[])
    returns integer
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(min(amzmp._setting_int(_facet_chunk.account_id, 0, _facet_chunk.chunk || '_' || f.name)), 1000)
        from unnest(facets) as f (name)
    );
end
$$;

/*
 * What is in flight with feeds for these SKUs: price, stock, or a request that went along. Unknown results count until
 * the SKU was read from Amazon, an hour at the most; those of requests no longer once a feed is known to be over.
 */
create function amzmp._in_feeds(account_id bigint, skus text[])
    returns table (channel_id bigint, sku text, price numeric, quantity integer, overtaken_by integer, request_id bigint)
    rows 1000
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
    select m.channel_id, m.sku, m.price, m.quantity, m.overtaken_by, m.request_id
    from unnest(_in_feeds.skus) as k (sku)
    cross join lateral (
        select o.*
        from amzmp.feed_message as o
        where (o.account_id, o.sku) = (_in_feeds.account_id, k.sku)
            and (o.result is null or o.result = 'unknown' or o.request is not null)
        offset 0 -- SKU by SKU, however few messages the planner believes to be in flight
    ) as m
    left join amzmp.listing as l
        on (l.account_id, l.channel_id, l.sku) = (m.account_id, m.channel_id, m.sku) and m.result is not null
    where m.result is null
        or m.request is not null
        or m.ended_at > now() - interval '1 hour'
                / (select a.time_scale::double precision from amzmp.account as a where a.account_id = m.account_id)
            and coalesce(l.observed_at, '-infinity') <= m.ended_at
            and (m.request_id is null or exists (
                select
                from amzmp.feed as f
                where (f.account_id, f.feed_id, f.state) = (m.account_id, m.feed_id, 'stuck')
            ));
end
$$;

-- The least that feeds leave room for: stock below that may be sent though a feed carries the SKU's. One row a SKU.
create function amzmp._stock_in_feeds(account_id bigint, skus text[])
    returns table (sku text, ceiling integer, overtaken boolean)
    rows 1000
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select m.sku, min(coalesce(m.overtaken_by, m.quantity)), bool_or(m.overtaken_by is not null)
    from amzmp._in_feeds(_stock_in_feeds.account_id, _stock_in_feeds.skus) as m
    where m.quantity is not null
    group by m.sku;
end
$$;

-- Is stock to be sent now? ceiling and overtaken: what _stock_in_feeds says, null where no feed carries it. (Without a
-- search_path of its own, so that it is not called but becomes a part of the statement.)
create function amzmp._stock_is_due(differs boolean, desired integer, ceiling integer, overtaken boolean)
    returns boolean
    language sql
    immutable
    parallel safe
begin atomic
    select case
            when ceiling is null then differs
            else desired < ceiling or overtaken and differs and desired <= ceiling
        end;
end;

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
