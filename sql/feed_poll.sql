/*
 * feed_poll.sql
 *	  Waiting for a feed to end at Amazon, and fetching the report of what became of its messages.
 */

/*
 * How long to wait before the state of something that Amazon works on (a report) is asked for again: it is asked for
 * after 1, 2, 5 and then every 10 minutes, by the clock of the account.
 */
create function amzmp._poll_pause(account_id bigint, polls integer)
    returns interval
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select greatest(make_interval(mins => coalesce(('{1, 1, 3, 5}'::integer[])[_poll_pause.polls + 1], 10)) / a.time_scale::double precision,
        interval '0.2 seconds')
    from amzmp.account as a
    where a.account_id = _poll_pause.account_id;
end;

/*
 * A feed is asked for every 10 seconds, and later each time that 1 % more has passed since its submission, every 10 minutes
 * at least. So it is seen to have ended 1 % late at the worst, for sixty calls in ten minutes and 230 in an hour, of a plan
 * that allows two a second. A notification makes it sooner.
 */
create function amzmp._feed_pause(feed amzmp.feed)
    returns interval
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select least(greatest(interval '10 seconds' / s.scale, (now() - coalesce(feed.submitted_at, feed.created_at)) * 0.01,
            interval '0.2 seconds'), interval '10 minutes' / s.scale)
    from (select a.time_scale::double precision as scale from amzmp.account as a where a.account_id = feed.account_id) as s;
end;

create function amzmp._poll_later(feed amzmp.feed)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._feed_request(feed, 'getFeed', jsonb_build_object('feedId', feed.amazon_feed_id), null,
        '_handle_feed_state', null, now() + amzmp._feed_pause(feed));
    update amzmp.feed as x
    set polls = x.polls + 1
    where (x.account_id, x.feed_id) = (feed.account_id, feed.feed_id);
end
$$;

/*
 * Amazon told that a feed has ended: ask for its state now. False where no such feed is waited for, because it is
 * somebody else's or has been asked for already. Whatever is missed here is found by polling.
 */
create function amzmp._feed_finished(account_id bigint, amazon_feed_id text)
    returns boolean
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.request as r
    set not_before = now()
    from amzmp.feed as f
    where (f.account_id, f.amazon_feed_id) = (_feed_finished.account_id, _feed_finished.amazon_feed_id)
        and (r.account_id, r.subject_kind, r.subject) = (f.account_id, 'feed', f.feed_id::text)
        and (r.operation, r.state) = ('getFeed', 'due')
        and r.not_before > now();
    if not found then
        return false;
    end if;
    perform amzmp._wake();
    return true;
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
        tries = 0,
        -- its report, which may come after all, is not judged yet
        accepted = case when fatal then x.accepted end,
        refused = case when fatal then x.refused end
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
        perform amzmp._end_feed(feed, 'fatal', 'the report of the feed could not be fetched, or not be read');
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
                amzmp._new_document(f.account_id, case
                        when t.content_type ~ 'UTF-8' then t.content_type
                        else 'text/xml; charset=UTF-8'
                    end, t.personal), a.body ->> 'url')
            from amzmp.feed_type as t
            where t.name = f.type;
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
