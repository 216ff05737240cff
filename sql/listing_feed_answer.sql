/*
 * listing_feed_answer.sql
 *	  What becomes of requests that went along with a feed (listing_feed_request.sql): the report's verdicts as answers for
 *	  the handlers of single calls, a report that comes late, and a feed that ends without one.
 */

-- What the report says of each message, as a call would have said it.
create function amzmp._keep_message_issues(feed amzmp.feed, report jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.feed_message as m
    set issues = i.issues
    from (
        select (e.issue ->> 'messageId')::integer as message_id, e.issue ->> 'sku' as sku,
            jsonb_agg(jsonb_strip_nulls(jsonb_build_object('code', e.issue -> 'code', 'message', e.issue -> 'message',
                    'severity', e.issue -> 'severity', 'attributeNames', case
                        when e.issue ->> 'attributeName' is not null then jsonb_build_array(e.issue -> 'attributeName')
                    end)) order by e.position) as issues
        from jsonb_array_elements(coalesce(report -> 'issues', '[]')) with ordinality as e (issue, position)
        where num_nonnulls(e.issue ->> 'messageId', e.issue ->> 'sku') > 0
        group by 1, 2
    ) as i
    where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
        and (m.message_id = i.message_id or i.message_id is null and m.sku = i.sku);
end
$$;

-- The answer to the request of a message: Amazon's verdict, or that it is lost.
create function amzmp._message_answer(feed amzmp.feed, message amzmp.feed_message, lost boolean)
    returns amzmp.answer_row
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    request constant amzmp.request := jsonb_populate_record(null::amzmp.request, message.request
        || jsonb_build_object('claimed_at', feed.submitted_at, 'attempt', 1, 'state', 'sending'));
begin
    if lost then
        return (request, null, 'lost', null, upper(feed.state), format('feed %s: %s', feed.feed_id, feed.reason),
            feed.amazon_feed_id, now())::amzmp.answer_row;
    end if;
    return (request, 200, 'success', jsonb_build_object('sku', message.sku, 'submissionId', feed.amazon_feed_id,
            'status', case when message.code is null then 'ACCEPTED' else 'INVALID' end,
            'issues', coalesce(message.issues, case
                    when message.code is null then '[]'
                    else jsonb_build_array(jsonb_build_object('code', message.code, 'message', message.message, 'severity', 'ERROR'))
                end)), null, null, feed.amazon_feed_id, now())::amzmp.answer_row;
end
$$;

-- Hand answers to their handlers; where one of them cannot be applied, one by one.
create function amzmp._apply_messages(account_id bigint, answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    one amzmp.answer_row;
    failed_state text;
    failed_text text;
begin
    perform amzmp._apply(account_id, answers);
exception
    when others then
        -- a loop because the one that fails must not undo its neighbours
        foreach one in array answers
        loop
            begin
                perform amzmp._apply(account_id, array[one]);
            exception
                when others then
                    get stacked diagnostics failed_state = returned_sqlstate, failed_text = message_text;
                    perform amzmp._end_failed(one, failed_state, failed_text);
            end;
        end loop;
end
$$;

/*
 * Apply the verdicts on up to `most` messages. Returns how many.
 */
create function amzmp._land_requests(feed amzmp.feed, most integer)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    landed constant amzmp.feed_message[] := array(
        select m
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
            and (m.result is null or m.result = 'unknown')
        order by m.message_id
        limit most
    );
    answered constant amzmp.feed_message[] := array(select l from unnest(landed) as l where l.request is not null);
    -- what was sent another way since, though this took effect after all
    late constant text[] := array(select l.sku from unnest(landed) as l where l.request is null and l.code is null);
    here text[];
begin
    perform amzmp._lock_skus(feed.account_id, array(select l.sku from unnest(landed) as l));
    update amzmp.feed_message as m
    set result = case when l.code is null then 'accepted' else 'refused' end,
        request = null,
        ended_at = now()
    from unnest(landed) as l
    where (m.account_id, m.feed_id, m.message_id) = (l.account_id, l.feed_id, l.message_id);
    if answered <> '{}' then
        perform amzmp._apply_messages(feed.account_id, array(select amzmp._message_answer(feed, a, false) from unnest(answered) as a));
    end if;
    if feed.argument ->> 'render' <> '_render_delete' then
        here := array(select l.sku from unnest(landed) as l where l.code is null);
        here := amzmp._not_for_sale(feed, here);
        perform amzmp._settle_unwanted(feed.account_id, here, '{}');
    end if;
    if late <> '{}' then
        perform amzmp._late_effect(feed, late);
    end if;
    return cardinality(landed);
end
$$;

/*
 * A feed took effect on these SKUs later than we waited for it. What is wanted is sent once more, and what Amazon has is
 * read; what a deletion may have taken away though it is wanted begins anew.
 */
create function amzmp._late_effect(feed amzmp.feed, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if feed.argument ->> 'render' = '_render_delete' then
        perform amzmp._enter(feed.account_id, array(
                select (l.channel_id, l.sku, 'queued', 'a deletion that was late may have taken it away, asking what Amazon has', null)::amzmp.new_state
                from amzmp.listing as l
                where (l.account_id, l.channel_id) = (feed.account_id, feed.channel_id)
                    and l.sku = any (skus)
                    and l.wanted
                    and l.listed
            ));
    end if;
    update amzmp.listing as l
    set remote_price = null,
        remote_details = null
    where (l.account_id, l.channel_id) = (feed.account_id, feed.channel_id)
        and l.sku = any (skus)
        and l.listed
        and not amzmp._in_flight(l.account_id, l.in_flight_request, '{}');
    perform amzmp._forget_content(feed.account_id, skus, false);
    perform amzmp._look(feed.account_id, feed.channel_id, array(
            select l.sku
            from amzmp.listing as l
            where (l.account_id, l.channel_id) = (feed.account_id, feed.channel_id)
                and l.sku = any (skus)
                and l.wanted
        ), now(), feed.cause);
    perform amzmp._plan_sends(feed.account_id, skus);
end
$$;

/*
 * Nobody knows what became of these requests. That is no fault of theirs, so nothing is held back: what Amazon has is
 * asked, and sent is what differs then. Should a stuck feed end after all, amzmp._late_effect knows.
 */
create function amzmp._lose_requests(feed amzmp.feed, answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    skus constant text[] := array(select (a.request).subject from unnest(answers) as a);
begin
    perform amzmp._land(feed.account_id, answers, false);
    perform amzmp._enter(feed.account_id, array(
            select (l.channel_id, l.sku, 'queued', format('feed %s ended without a report, asking what Amazon has', feed.feed_id),
                    null)::amzmp.new_state
            from amzmp.listing as l
            where (l.account_id, l.channel_id) = (feed.account_id, feed.channel_id)
                and l.sku = any (skus)
                and l.state = 'sent'
                and feed.argument ->> 'render' = '_render_put'
        ));
    perform amzmp._end_requests(feed.account_id, answers);
    perform amzmp._after_write(feed.account_id, skus, '{}');
    perform amzmp._look(feed.account_id, feed.channel_id, skus, now(), feed.cause);
end
$$;

/*
 * Inner, own runner: a feed ended without a report. Its requests go back where nothing of it was applied, or where doing
 * it twice does no harm; else their answers are lost.
 */
create function amzmp._task_feed_requests(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    portion constant integer := 500;
    f constant amzmp.feed := (
        select x
        from amzmp.feed as x
        where (x.account_id, x.feed_id) = (_task_feed_requests.account_id, _task_feed_requests.subject::bigint)
    );
    open constant amzmp.feed_message[] := array(
        select m
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = (f.account_id, f.feed_id)
            and m.request is not null
        order by m.sku
        limit portion
    );
    lost constant boolean := f.state in ('fatal', 'stuck')
        and not (select k.leaving from amzmp._feed_requests() as k where k.render = f.argument ->> 'render');
begin
    if open = '{}' then
        return;
    elsif lost then
        update amzmp.feed_message as m
        set request = null
        from unnest(open) as o
        where (m.account_id, m.feed_id, m.message_id) = (o.account_id, o.feed_id, o.message_id);
        perform amzmp._lose_requests(f, array(select amzmp._message_answer(f, o, true) from unnest(open) as o));
    else
        perform amzmp._give_back(f, array(select o.request_id from unnest(open) as o));
        perform amzmp._plan_bulk(account_id, interval '1 second');
    end if;
    perform amzmp._add_task(account_id, 'feed_requests', subject, null, now());
end
$$;

comment on function amzmp._task_feed_requests(bigint, text, jsonb) is 'Inner, own runner: what becomes of requests whose feed ended without a report.';
