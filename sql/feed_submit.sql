/*
 * feed_submit.sql
 *	  Handing a feed over: a document at Amazon, its upload, createFeed one at a time, and the lookup after a lost answer.
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
    select amzmp._feed_request(feed, 'createFeedDocument', '{}', jsonb_build_object('contentType', t.content_type),
        '_handle_feed_document', null, now())
    from amzmp.feed_type as t
    where t.name = feed.type;
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
            and (r.operation like 'createFeed:%' or r.operation in ('createFeed', 'getFeeds'))
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
        perform amzmp._feed_request(f, case when t.rate is null then 'createFeed' else 'createFeed:' || t.name end, '{}', null,
            '_handle_feed_created', '_render_feed', now())
        from amzmp.feed_type as t
        where t.name = f.type;
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
        || case when f.options is not null then jsonb_build_object('feedOptions', f.options) else '{}' end
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
            'createdSince', amzmp._iso_time(amzmp._now(feed.account_id) - (now() - sent_at) * scale - interval '1 hour')),
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
        elsif (select t.sent_once from amzmp.feed_type as t where t.name = f.type) then
            perform amzmp._end_feed(f, 'stuck', 'the answer was lost, and Amazon shows no such feed');
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
