/*
 * cancellation_shop.sql
 *	  Telling the shop of cancellations, by a function of its own, and the flow that leaves none behind.
 *
 * The function is told that the buyer asks to cancel an order, which it may accept or decline, that it is cancelled, each at
 * most once, and that lines of it are cancelled while the rest goes on (cancelled_line.sql). It is told of an order only after
 * that was handed over to the shop; until then the request waits. An order that is cancelled before it was ever handed over is
 * never handed over, so nothing is told. The function runs in a process of the role that registered it (delivery.sql).
 */
insert into amzmp.flow (flow, scope, every, on_by_default, capability, title, description)
values
    ('get_cancel_orders', 'account', '*/5 * * * *', false, 'orders', 'Hand over cancellations',
        'The backstop of cancellations, which come with the orders: tells the shop''s function what it has not been told, and reads again the orders whose cancellation Amazon has not shown yet.');

create function amzmp._cancel_orders_with(channel text, function regprocedure, run_as name default null)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    target constant amzmp.channel := amzmp._channel(channel);
begin
    delete from amzmp.task as t
    using amzmp.orders as o
    where (t.account_id, t.kind) = (target.account_id, 'cancellation')
        and (o.account_id, o.amazon_order_id, o.channel_id) = (t.account_id, t.subject, target.channel_id);
    if amzmp._set_hook(target.account_id, target.channel_id, 'cancellation', function,
        array['bigint', 'text', 'text', 'text']::regtype[], 'text', run_as)
    then
        perform amzmp._queue_cancellations(target.account_id);
    end if;
end
$$;

select amzmp._expose('amzmp._cancel_orders_with(text, regprocedure, name)', 'amzmp_admin',
    'Names the shop''s function (account_id bigint, amazon_order_id text, event text, reason text) returns text that is told of cancellations. Event requested: the buyer asks; accept cancels at Amazon, decline ships all the same, null leaves it to a person. Event cancelled: the order is cancelled at Amazon. Event lines_cancelled: units of some lines are, amzmp.cancelled_line says what remains of them. The result of both does not matter. The reason is the setting cancellation_reason, else Amazon''s words. It runs as the caller, or as the role that a superuser names. A null function ends it.');

-- What the shop's function is to be told of an order next; null: nothing, or not yet.
create function amzmp._cancellation_news(c amzmp.cancellation)
    returns text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select case
            when c.state = 'cancelled' and c.told in ('nothing', 'requested') then 'cancelled'
            when c.state = 'requested' and c.told = 'nothing' then 'requested'
        end
    from amzmp.orders as o
    where (o.account_id, o.amazon_order_id) = (c.account_id, c.amazon_order_id)
        and o.delivered_at is not null;
end;

create function amzmp._queue_cancellation(account_id bigint, amazon_order_id text)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._add_task(c.account_id, 'cancellation', c.amazon_order_id, h.run_as, now(), '{}')
    from amzmp.cancellation as c
    join amzmp.orders as o using (account_id, amazon_order_id)
    join amzmp.order_hook as h using (account_id, channel_id)
    where (c.account_id, c.amazon_order_id) = (_queue_cancellation.account_id, _queue_cancellation.amazon_order_id)
        and h.kind = 'cancellation'
        and amzmp._cancellation_news(c) is not null;
end;

create function amzmp._queue_cancellations(account_id bigint)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._queue_cancellation(c.account_id, c.amazon_order_id)
    from amzmp.cancellation as c
    where c.account_id = _queue_cancellations.account_id
        and (c.state = 'requested' and c.told = 'nothing'
            or c.state = 'cancelled' and c.told in ('nothing', 'requested') and c.cancelled_at > now() - interval '30 days');
end;

-- Which of these accounts have a cancellation under way, or one that the shop's function was not told of.
create function amzmp._due_get_cancel_orders(account_ids bigint[])
    returns table (account_id bigint, channel_id bigint)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select a.id, 0::bigint
    from unnest(account_ids) as a (id)
    where exists (
            select
            from amzmp.cancellation as c
            where c.account_id = a.id
                and c.state in ('waiting', 'accepted', 'unknown')
        )
        or exists (
            select
            from amzmp.order_hook as h
            where h.account_id = a.id
                and h.kind = 'cancellation'
        ) and exists (
            select
            from amzmp.cancellation as c
            where c.account_id = a.id
                and (c.state = 'requested' and c.told = 'nothing'
                    or c.state = 'cancelled' and c.told in ('nothing', 'requested') and c.cancelled_at > now() - interval '30 days')
        );
end
$$;

/*
 * The flow: what was not told, waiting ones that may go on, and orders whose cancellation is not seen for half an hour.
 */
create function amzmp._flow_get_cancel_orders(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc alias for $1;
    scale constant double precision := (select a.time_scale from amzmp.account as a where a.account_id = acc);
begin
    perform amzmp._queue_cancellations(acc);
    perform amzmp._queue_cancelled_lines(acc);
    perform amzmp._resume_cancellation(o)
    from amzmp.cancellation as c
    join amzmp.orders as o using (account_id, amazon_order_id)
    where (c.account_id, c.state) = (acc, 'waiting');
    perform amzmp._request_order(c.account_id, c.amazon_order_id, jsonb_build_object('flow_run', flow_run_id))
    from amzmp.cancellation as c
    left join amzmp.feed as f using (account_id, feed_id)
    where c.account_id = acc
        and c.state in ('accepted', 'unknown')
        and coalesce(f.ended_at, '-infinity') < now() - interval '30 minutes' / scale
        and not exists (
            select
            from amzmp.request as r
            where (r.account_id, r.subject_kind, r.subject) = (c.account_id, 'order', c.amazon_order_id)
        )
    limit 20;
end
$$;

/*
 * What the role's process executes.
 */

create function amzmp._begin_cancellation_news(account_id bigint, amazon_order_id text)
    returns table (event text, reason text)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    o amzmp.orders;
    c amzmp.cancellation;
begin
    select x.* into o from amzmp.orders as x where (x.account_id, x.amazon_order_id) = ($1, $2) for update;
    perform amzmp._hook_of_caller($1, o.channel_id, 'cancellation');
    select x.* into c from amzmp.cancellation as x where (x.account_id, x.amazon_order_id) = ($1, $2) for update;
    return query
    select n.event, coalesce(amzmp._setting_text($1, 0, 'cancellation_reason'), c.buyer_reason)
    from (select amzmp._cancellation_news(c) as event) as n
    where n.event is not null
    union all
    select 'lines_cancelled', coalesce(amzmp._setting_text($1, 0, 'cancellation_reason'), l.reason)
    from amzmp._cancelled_line_news(o) as l;
end
$$;

select amzmp._expose('amzmp._begin_cancellation_news(bigint, text)', 'public',
    'Inner: what the shop is to be told of a cancellation. Refused to all but the role registered by cancel_orders_with.');

create function amzmp._finish_cancellation_news(account_id bigint, amazon_order_id text, event text, decision text,
    failed_state text, failed_message text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    o amzmp.orders;
    message text;
begin
    select x.* into o
    from amzmp.orders as x
    where (x.account_id, x.amazon_order_id) = (_finish_cancellation_news.account_id, _finish_cancellation_news.amazon_order_id);
    perform amzmp._hook_of_caller(account_id, o.channel_id, 'cancellation');
    if failed_message is not null then
        message := amzmp._mask_personal(account_id, amazon_order_id, amzmp._safe_error(failed_state, failed_message));
    end if;
    if event = 'lines_cancelled' then
        perform amzmp._cancelled_lines_told(o, message);
        return;
    elsif message is not null then
        perform amzmp._cancellation_not_taken(o, message);
        return;
    end if;
    update amzmp.cancellation as c
    set told = event,
        told_at = now(),
        told_tries = 0
    where (c.account_id, c.amazon_order_id) = (o.account_id, o.amazon_order_id);
    if event <> 'requested' then
        return;
    elsif decision = 'accept' then
        perform amzmp._begin_cancellation(o, 'BUYER', 'BuyerCanceled', amzmp._caller());
    elsif decision = 'decline' then
        perform amzmp._decline(o.account_id, o.amazon_order_id, amzmp._caller());
    elsif decision is not null then
        perform amzmp._log(o.account_id, o.channel_id, 'warning', 'order', o.amazon_order_id,
            format('the shop''s function answered %L to a request to cancel; a person decides', left(decision, 50)));
    end if;
end
$$;

select amzmp._expose('amzmp._finish_cancellation_news(bigint, text, text, text, text, text)', 'public',
    'Inner: the shop''s function was told of a cancellation. Refused to all but the role registered by cancel_orders_with.');

-- The shop's function failed: try again later, cancellation_plans times, then give up.
create function amzmp._cancellation_not_taken(o amzmp.orders, message text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    tries smallint;
    over boolean;
begin
    update amzmp.cancellation as c
    set told_tries = c.told_tries + 1,
        told = case when c.told_tries + 1 >= amzmp._setting_int(o.account_id, 0, 'cancellation_plans') then 'given_up' else c.told end
    where (c.account_id, c.amazon_order_id) = (o.account_id, o.amazon_order_id)
    returning c.told_tries, c.told = 'given_up' into tries, over;
    perform amzmp._log(o.account_id, o.channel_id, case when over then 'error' else 'warning' end, 'order', o.amazon_order_id,
        format('the shop''s function did not take the cancellation (try %s): %s', tries, message));
    if not over then
        perform amzmp._add_task(o.account_id, 'cancellation', o.amazon_order_id, amzmp._caller(),
            now() + interval '1 minute' * power(2, tries));
    end if;
end
$$;

create function amzmp._statement_cancellation(account_id bigint, subject text, argument jsonb)
    returns text[]
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array[format($statement$do $amzmp$
declare
    news record;
    decision text;
    state text;
    message text;
begin
    for news in select event, reason from amzmp.begin_cancellation_news(%1$s, %2$L) loop
        state := null;
        message := null;
        begin
            decision := %3$s(%1$s::bigint, %2$L::text, news.event, news.reason);
            set constraints all immediate;
        exception
            when lock_not_available or deadlock_detected or serialization_failure then
                raise;
            when others then
                get stacked diagnostics state = returned_sqlstate, message = message_text;
        end;
        perform amzmp.finish_cancellation_news(%1$s, %2$L, news.event, decision, state, message);
    end loop;
end
$amzmp$
$statement$, h.account_id, _statement_cancellation.subject, h.function_name)]
    from amzmp.orders as o
    join amzmp.order_hook as h on (h.account_id, h.channel_id, h.kind) = (o.account_id, o.channel_id, 'cancellation')
    where (o.account_id, o.amazon_order_id) = (_statement_cancellation.account_id, _statement_cancellation.subject);
$$;
