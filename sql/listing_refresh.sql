/*
 * listing_refresh.sql
 *	  Reading from Amazon what it has: some SKUs, or all of a channel that changed there since some time. The latter needs no
 *	  report, which an application may not be allowed to ask for, and fewer calls than SKUs.
 *
 *		refresh() ──▶ a page of 20, in the order of their last change ──▶ the next from the last one's change on … ──▶ ended
 *
 * Amazon shows the first 1,000 of what a search finds. So each page is a search of its own, from the change with which the last
 * page ended: what changes meanwhile moves to the end and is read once more, and nothing is passed over. Page tokens
 * are followed only where a whole page changed in the same moment.
 *
 * What a page shows of listings that amzmp manages is applied as any reading (observe.sql); all of it is kept in
 * remote_listing, as a report would, so that unmanaged listings show there. When all were read, managed listings that no page
 * has shown are asked for by name. A report that Amazon forbids (403) is made up for in this way.
 */
create table amzmp.listing_refresh (
    account_id bigint not null,
    channel_id bigint not null,
    changed_since timestamptz,
    reached timestamptz,
    page_token text,
    pages integer not null default 0,
    listings bigint not null default 0,
    request_id bigint,
    cause jsonb,
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    problem text,
    primary key (account_id, channel_id)
);

comment on table amzmp.listing_refresh is 'The last reading of all of a channel''s listings, page by page; started by refresh(), or where Amazon forbids its report.';
comment on column amzmp.listing_refresh.account_id is 'The account.';
comment on column amzmp.listing_refresh.channel_id is 'The channel.';
comment on column amzmp.listing_refresh.changed_since is 'Only what changed at Amazon since then; null: all.';
comment on column amzmp.listing_refresh.reached is 'Up to which change it has come, by Amazon''s clock.';
comment on column amzmp.listing_refresh.page_token is 'Amazon''s token of the next page, where many changed in the same moment.';
comment on column amzmp.listing_refresh.pages is 'How many pages were read.';
comment on column amzmp.listing_refresh.listings is 'How many listings were on them, some more than once.';
comment on column amzmp.listing_refresh.request_id is 'The request for the next page.';
comment on column amzmp.listing_refresh.cause is 'What led to it.';
comment on column amzmp.listing_refresh.started_at is 'When it began.';
comment on column amzmp.listing_refresh.ended_at is 'When it was over; null: it is under way.';
comment on column amzmp.listing_refresh.problem is 'What went wrong, in words; null: nothing.';

create function amzmp._refresh_all(account_id bigint, channel_id bigint, changed_since timestamptz, cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    delete from amzmp.request as q
    where (q.account_id, q.subject_kind, q.subject, q.state) = (_refresh_all.account_id, 'refresh', _refresh_all.channel_id::text, 'due');
    delete from amzmp.listing_refresh as r
    where (r.account_id, r.channel_id) = (_refresh_all.account_id, _refresh_all.channel_id);
    insert into amzmp.listing_refresh (account_id, channel_id, changed_since, reached, cause)
    values (_refresh_all.account_id, _refresh_all.channel_id, _refresh_all.changed_since, _refresh_all.changed_since, _refresh_all.cause);
    perform amzmp._ask_page(account_id, channel_id);
end
$$;

-- Amazon forbids the report of all listings: page by page then, unless that is under way. One whose request was cancelled, or
-- whose answer could not be applied, is not.
create function amzmp._refresh_instead(report amzmp.report)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if report.channel_id <> 0 and not exists (
        select
        from amzmp.listing_refresh as r
        join amzmp.request as q using (account_id, request_id)
        where (r.account_id, r.channel_id) = (report.account_id, report.channel_id)
            and r.ended_at is null
    ) then
        perform amzmp._refresh_all(report.account_id, report.channel_id, null, report.cause);
    end if;
end
$$;

-- Queue the next page. Times go to the millisecond, which is as exact as Amazon tells them.
create function amzmp._ask_page(account_id bigint, channel_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.listing_refresh as r
    set request_id = amzmp._enqueue(r.account_id, 'searchListingsItems', jsonb_strip_nulls(jsonb_build_object(
                'sellerId', a.seller_id, 'marketplaceIds', jsonb_build_array(m.marketplace_id), 'issueLocale', m.language,
                'includedData', '["summaries", "issues", "offers", "fulfillmentAvailability"]'::jsonb, 'pageSize', 20,
                'sortBy', 'lastUpdatedDate', 'sortOrder', 'ASC', 'pageToken', r.page_token,
                'lastUpdatedAfter', to_char(r.reached at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))),
            null, '_handle_page', null, 90, now(), r.channel_id, 'refresh', r.channel_id::text, r.cause)
    from amzmp.account as a
    join amzmp.channel as c using (account_id)
    join amzmp.marketplace as m using (marketplace_id)
    where (r.account_id, r.channel_id) = (_ask_page.account_id, _ask_page.channel_id)
        and (c.account_id, c.channel_id) = (r.account_id, r.channel_id);
end
$$;

create function amzmp._handle_page(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    a amzmp.answer_row;
    r amzmp.listing_refresh;
begin
    -- a loop, because each goes on another way and there is one of them at a time in a channel
    foreach a in array answers
    loop
        select x.* into r
        from amzmp.listing_refresh as x
        where (x.account_id, x.channel_id, x.request_id) = ((a.request).account_id, (a.request).channel_id, (a.request).request_id)
            and x.ended_at is null
        for no key update;
        continue when r.account_id is null;
        if a.outcome = 'success' then
            perform amzmp._take_page(r, a);
        elsif r.page_token is not null and a.outcome = 'refused' then
            -- tokens end some time; the search begins anew at the change that it had come to
            update amzmp.listing_refresh as x
            set page_token = null
            where (x.account_id, x.channel_id) = (r.account_id, r.channel_id);
            perform amzmp._ask_page(r.account_id, r.channel_id);
        else
            perform amzmp._end_refresh(r, amzmp._answer_failure(a));
        end if;
    end loop;
end
$$;

comment on function amzmp._handle_page(amzmp.answer_row[]) is 'Inner: a page of all that the seller has in a channel.';

/*
 * Apply a page, and ask for the next: from the last change on, by the token where all of the page changed at once, and a
 * millisecond later where Amazon shows no more of that moment.
 */
create function amzmp._take_page(refresh amzmp.listing_refresh, answer amzmp.answer_row)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    page_size constant integer := 20;
    reachable constant integer := 1000;
    page constant amzmp.seen_listing[] := amzmp._page_listings(answer);
    next_token constant text := answer.body #>> '{pagination,nextToken}';
    found constant integer := coalesce(jsonb_array_length(answer.body -> 'items'), 0);
    last_change constant timestamptz := (
        select max((s.summary ->> 'lastUpdatedDate')::timestamptz) from unnest(page) as s
    );
    moves constant boolean := coalesce(last_change > refresh.reached, last_change is not null);
    -- no more is shown, though there is more, all of one moment
    stuck constant boolean := not moves and next_token is null and (answer.body ->> 'numberOfResults')::bigint > reachable;
begin
    perform amzmp._keep_page(refresh, page);
    perform amzmp._apply_page(refresh, page, answer);
    update amzmp.listing_refresh as x
    set pages = x.pages + 1,
        listings = x.listings + found,
        reached = case
            when moves then last_change
            when stuck then x.reached + interval '1 millisecond'
            else x.reached
        end,
        page_token = case when not moves then next_token end,
        problem = case
            when stuck then 'more changed in one moment than Amazon shows; a report would show all'
            else x.problem
        end
    where (x.account_id, x.channel_id) = (refresh.account_id, refresh.channel_id)
    returning x.* into refresh;
    if next_token is null and not stuck and (found < page_size or not moves) then
        perform amzmp._end_refresh(refresh, refresh.problem);
    else
        perform amzmp._ask_page(refresh.account_id, refresh.channel_id);
    end if;
end
$$;

-- The listings of a page, as a reading by name shows them.
create function amzmp._page_listings(answer amzmp.answer_row)
    returns amzmp.seen_listing[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    answer.request.params := jsonb_build_object('identifiers', jsonb_path_query_array(answer.body, '$.items[*].sku'));
    return array(select s from amzmp._seen_listings(array[answer]) as s);
end
$$;

-- What we manage of a page is applied as if it had been asked for by name.
create function amzmp._apply_page(refresh amzmp.listing_refresh, page amzmp.seen_listing[], answer amzmp.answer_row)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    managed constant jsonb := (
        select jsonb_agg(l.sku)
        from unnest(page) as s
        join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (refresh.account_id, refresh.channel_id, s.sku)
        where l.state <> 'not_listed'
    );
begin
    if managed is not null then
        answer.request.params := jsonb_build_object('identifiers', managed);
        perform amzmp._handle_read(array[answer]);
    end if;
end
$$;

-- Keep what a page says in remote_listing. A digest of 0 lets the next report say it all again.
create function amzmp._keep_page(refresh amzmp.listing_refresh, page amzmp.seen_listing[])
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    insert into amzmp.remote_listing as o (account_id, channel_id, sku, asin, title, price, quantity, status, fulfillment, digest,
        report_id, changed_at)
    select refresh.account_id, refresh.channel_id, s.sku, s.summary ->> 'asin', s.summary ->> 'itemName', s.price,
        case when not s.by_amazon then s.quantity end,
        case when s.summary -> 'status' ? 'BUYABLE' then 'active' when s.summary ? 'asin' then 'inactive' else 'incomplete' end,
        case when s.by_amazon then 'amazon' else 'merchant' end, 0, 0, s.seen_at
    from (select distinct on (p.sku) p.* from unnest(page) as p where p.summary is not null order by p.sku) as s
    on conflict on constraint remote_listing_pkey do update
    set asin = coalesce(excluded.asin, o.asin),
        title = coalesce(excluded.title, o.title),
        price = excluded.price,
        quantity = excluded.quantity,
        status = excluded.status,
        fulfillment = excluded.fulfillment,
        digest = 0,
        report_id = 0,
        changed_at = excluded.changed_at,
        vanished_at = null
    where (o.price, o.quantity, o.status, o.fulfillment, o.vanished_at)
        is distinct from (excluded.price, excluded.quantity, excluded.status, excluded.fulfillment, null)
$$;

-- The last page was read, or none can be. Managed listings that were not seen meanwhile are asked for by name.
create function amzmp._end_refresh(refresh amzmp.listing_refresh, problem text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.listing_refresh as r
    set ended_at = now(),
        page_token = null,
        problem = _end_refresh.problem
    where (r.account_id, r.channel_id) = (refresh.account_id, refresh.channel_id);
    perform amzmp._log(refresh.account_id, refresh.channel_id, case when problem is null then 'info' else 'warning' end, 'refresh', '',
        format('%s read from Amazon%s', amzmp._count_of(refresh.listings, 'listing', 'listings'), ': ' || problem));
    if refresh.changed_since is null then
        perform amzmp._look(refresh.account_id, refresh.channel_id, array(
                select l.sku
                from amzmp.listing as l
                where (l.account_id, l.channel_id) = (refresh.account_id, refresh.channel_id)
                    and l.listed
                    and l.read_due_at is null
                    and coalesce(l.observed_at < refresh.started_at, true)
            ), now(), refresh.cause);
    end if;
end
$$;

create function amzmp._refresh(channel text, skus text[] default null, changed_since timestamptz default null)
    returns text
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    place constant amzmp.channel := amzmp._channel(channel);
    cause constant jsonb := jsonb_build_object('role', amzmp._caller(), 'at', now(), 'verb', 'refresh');
begin
    if skus is not null and changed_since is not null then
        perform amzmp._fail('AZ202', 'either SKUs are read or what changed since some time', null,
            'Leave out skus, or changed_since.');
    elsif skus is not null then
        return format('%s to be read', amzmp._count_of(amzmp._verify(channel, skus)::bigint, 'listing', 'listings'));
    end if;
    perform amzmp._refresh_all(place.account_id, place.channel_id, changed_since, cause);
    return 'all listings are read, 20 a call; amzmp.listing_refresh shows how far that is';
end
$$;

select amzmp._expose('amzmp._refresh(text, text[], timestamptz)', 'amzmp_operator',
    'Read from Amazon what it has: some SKUs of a channel, or all that the seller has there, or all that changed there since some time, by Amazon''s clock. Needs no report; what amzmp does not manage shows in amzmp.unmanaged_listing afterwards.');
