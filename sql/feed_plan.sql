/*
 * feed_plan.sql
 *	  A feed comes into being: it is planned, and its document is written when its time has come, never earlier.
 *
 * The functions of a feed's type (amzmp.feed_type) and what they are told is the contract in doc/architecture.md.
 */

-- Call a function that a feed's type names; null where it names none.
create function amzmp._feed_function(feed amzmp.feed, function text)
    returns text
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    said text;
begin
    if function is not null then
        execute format('select amzmp.%I($1)::text', function) into said using feed;
    end if;
    return said;
end
$$;

/*
 * Plan a feed of a channel. One that is planned with the same options and argument and is not built yet is the same
 * feed: whoever builds it finds all that waits. Returns its number.
 */
create function amzmp._plan_feed(account_id bigint, channel_id bigint, type text, options jsonb default null,
    argument jsonb default null, reason text default null, cause jsonb default null)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    number bigint;
begin
    if not exists (
        select from amzmp.feed_type as t where t.name = _plan_feed.type and num_nulls(t.build_function, t.result_function) = 0
    ) then
        perform amzmp._fail('AZ203', format('amzmp makes no feeds of type "%s"', type), null,
            'select name from amzmp.feed_type where build_function is not null; lists those that it makes.');
    end if;
    select f.feed_id into number
    from amzmp.feed as f
    where (f.account_id, f.channel_id, f.type, f.state) = (_plan_feed.account_id, _plan_feed.channel_id, _plan_feed.type, 'planned')
        and f.open
        and f.options is not distinct from _plan_feed.options
        and f.argument is not distinct from _plan_feed.argument
    limit 1
    -- one that is being built may not see what its caller has just written
    for no key update;
    if number is null then
        insert into amzmp.feed as f (account_id, channel_id, type, options, argument, reason, cause)
        values (_plan_feed.account_id, _plan_feed.channel_id, _plan_feed.type, _plan_feed.options, _plan_feed.argument,
            _plan_feed.reason, _plan_feed.cause)
        returning f.feed_id into number;
        perform amzmp._add_task(account_id, 'feed', number::text, null, now());
    end if;
    return number;
end
$$;

-- How long a feed has to wait, because its type wants a pause since the last and that one to have ended; null: no longer.
create function amzmp._feed_waits(feed amzmp.feed)
    returns interval
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select max(greatest(b.created_at + t.pause / s.scale - now(), case when b.open then interval '1 minute' / s.scale end))
    from amzmp.feed_type as t
    cross join (
        select a.time_scale::double precision as scale from amzmp.account as a where a.account_id = feed.account_id
    ) as s
    join amzmp.feed as b
        on (b.account_id, b.channel_id, b.type) = (feed.account_id, feed.channel_id, t.name)
            and b.feed_id < feed.feed_id
            and b.state <> 'cancelled'
            and (b.open or b.created_at + t.pause / s.scale > now())
    where t.name = feed.type
        and t.pause is not null;
end;

-- The feed with a document for its type to fill.
create function amzmp._feed_with_document(feed amzmp.feed)
    returns amzmp.feed
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.feed as x
    set document_id = amzmp._new_document(x.account_id, t.content_type, t.personal)
    from amzmp.feed_type as t
    where (x.account_id, x.feed_id) = (feed.account_id, feed.feed_id)
        and x.document_id is null
        and t.name = x.type
    returning x.* into feed;
    return feed;
end
$$;

/*
 * Feeds that were planned just now are built in turn, after those of their type that are waiting for it: so the first
 * leaves early. Should one fail, the next does not wait for ever.
 */
create function amzmp._build_in_turn(account_id bigint, feed_ids bigint[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._add_task(account_id, 'feed', n.feed_id::text, null, now() + (w.ahead + n.place - 1) * interval '1 minute')
    from unnest(feed_ids) with ordinality as n (feed_id, place)
    cross join (
        select count(*) as ahead
        from amzmp.feed as f
        where (f.account_id, f.type, f.state) = (_build_in_turn.account_id, 'JSON_LISTINGS_FEED', 'planned')
            and f.open
            and f.feed_id <> all (feed_ids)
    ) as w;
end
$$;

-- A feed is built, or over: it is the next one's turn.
create function amzmp._build_next(feed amzmp.feed)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    next bigint;
begin
    select min(f.feed_id) into next
    from amzmp.feed as f
    where (f.account_id, f.type, f.state) = (feed.account_id, feed.type, 'planned')
        and f.open
        and f.feed_id > feed.feed_id;
    if next is not null then
        perform amzmp._add_task(feed.account_id, 'feed', next::text, null, now());
    end if;
end
$$;

/*
 * Inner, own runner: let a planned feed's type write its document, in as many steps as it wants, each a transaction of
 * its own.
 */
create function amzmp._task_feed(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    f amzmp.feed;
    pause interval;
    written integer;
begin
    select x.* into f
    from amzmp.feed as x
    where (x.account_id, x.feed_id) = (_task_feed.account_id, _task_feed.subject::bigint)
        and x.state = 'planned'
    for no key update;
    if f.feed_id is null then
        return;
    end if;
    pause := amzmp._feed_waits(f);
    if pause is not null then
        perform amzmp._add_task(account_id, 'feed', subject, null, now() + pause);
        return;
    end if;
    if f.document_id is null then
        f := amzmp._feed_with_document(f);
    end if;
    written := amzmp._feed_function(f, (select t.build_function from amzmp.feed_type as t where t.name = f.type));
    if written is null then
        perform amzmp._add_task(account_id, 'feed', subject, null, now());
    elsif written = 0 then
        perform amzmp._end_feed(f, 'cancelled', 'nothing was left to send');
    else
        update amzmp.feed as x
        set state = 'built',
            messages = written,
            built_at = now()
        where (x.account_id, x.feed_id) = (f.account_id, f.feed_id)
        returning x.* into f;
        perform amzmp._ask_for_document(f);
    end if;
    if written is not null then
        perform amzmp._build_next(f);
    end if;
end
$$;
