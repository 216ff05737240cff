/*
 * feed_end.sql
 *	  Amazon's report applied by the functions of a feed's type, and the end of a feed, however it came about.
 */

/*
 * Inner, own runner: let the type apply the report, in as many steps as it wants. It says after which time it wants to
 * be called again, and null when all is applied. A report that cannot be read, such as some gateway's page, is fetched anew.
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
    f amzmp.feed;
    again_after interval;
    problem text;
begin
    select x.* into f
    from amzmp.feed as x
    where (x.account_id, x.feed_id) = (_task_feed_report.account_id, _task_feed_report.subject::bigint)
        and x.state = 'processed'
    for no key update;
    if f.feed_id is null then
        return;
    end if;
    begin
        again_after := amzmp._feed_function(f, (select t.result_function from amzmp.feed_type as t where t.name = f.type));
    exception
        when data_exception then
            get stacked diagnostics problem = message_text;
            perform amzmp._fetch_unreadable(f, problem);
            return;
    end;
    if again_after is null then
        perform amzmp._end_feed(f, 'done', null);
    else
        perform amzmp._add_task(account_id, 'feed_report', subject, null, now() + again_after);
    end if;
end
$$;

create function amzmp._fetch_unreadable(feed amzmp.feed, problem text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform amzmp._log(feed.account_id, feed.channel_id, 'warning', 'feed', feed.feed_id::text, 'the report of the feed cannot be read: ' || problem);
    perform amzmp._drop_documents(feed.account_id, array[feed.result_document_id]);
    update amzmp.feed as x
    set result_document_id = null
    where (x.account_id, x.feed_id) = (feed.account_id, feed.feed_id)
    returning x.* into feed;
    perform amzmp._fetch_report(feed);
end
$$;

/*
 * End a feed. What has no result was released where nothing of it was applied, and is unknown else. done: the report
 * was applied, so only the counts are left.
 */
create function amzmp._end_feed(feed amzmp.feed, state text, reason text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.feed_message as m
    set result = case _end_feed.state when 'cancelled' then 'released' else 'unknown' end,
        ended_at = now()
    where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
        and _end_feed.state <> 'done'
        and (m.result is null or m.result = 'unknown');

    delete from amzmp.feed_candidate as c
    where (c.account_id, c.feed_id) = (feed.account_id, feed.feed_id);

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
    where (x.account_id, x.feed_id) = (feed.account_id, feed.feed_id)
    returning x.* into feed;

    perform amzmp._log(feed.account_id, feed.channel_id, case state when 'done' then 'info' else 'warning' end, 'feed',
        feed.feed_id::text, format('feed %s%s', state, ': ' || reason));
    if state <> 'done' then
        perform amzmp._feed_function(feed, (select t.end_function from amzmp.feed_type as t where t.name = feed.type));
    end if;
end
$$;

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
