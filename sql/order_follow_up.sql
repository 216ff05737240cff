/*
 * order_follow_up.sql
 *	  What the shop does about an order after it has taken it, such as writing the invoice.
 *
 * Apart from the delivery function, in a transaction of its own after that one is committed: what fails here leaves the
 * order in the shop. finish_delivery queues it, a process of the role that registered the function runs it once for each
 * order, and marks it done in the same transaction. A failure is kept at the order until follow_up tries again.
 */
create function amzmp._follow_up_with(channel text, function regprocedure, run_as name default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    target amzmp.channel := amzmp._channel(channel);
begin
    perform amzmp._set_hook(target.account_id, target.channel_id, 'follow_up', function, array['bigint', 'text']::regtype[], null, run_as);
end
$$;

select amzmp._expose('amzmp._follow_up_with(text, regprocedure, name)', 'amzmp_admin',
    'Names the shop''s function (account_id bigint, amazon_order_id text) that runs once for each order after the shop has taken it, in a transaction of its own: to write the invoice, say. It runs as the caller, or as the role that a superuser names, for orders delivered from now on. A null function ends it.');

-- Queue it for these orders, as far as they are delivered and it has not been done.
create function amzmp._queue_follow_ups(account_id bigint, order_ids text[]) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select amzmp._add_task(o.account_id, 'follow_up', o.amazon_order_id, h.run_as, now(), '{}')
    from amzmp.orders o
    join amzmp.order_hook h on h.account_id = o.account_id and h.channel_id = o.channel_id and h.kind = 'follow_up'
    where o.account_id = _queue_follow_ups.account_id and o.amazon_order_id = any (order_ids)
      and o.delivered_at is not null and o.followed_up_at is null;
$$;

create function amzmp._follow_up(channel text, amazon_order_ids text[] default null) returns integer
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    target amzmp.channel := amzmp._channel(channel);
    ids text[] := array(
        select o.amazon_order_id from amzmp.orders o
         where o.account_id = target.account_id and o.channel_id = target.channel_id
           and o.delivered_at is not null and o.followed_up_at is null
           and (amazon_order_ids is null and o.follow_up_failure is not null or o.amazon_order_id = any (amazon_order_ids))
         order by o.amazon_order_id);
begin
    perform amzmp._queue_follow_ups(target.account_id, ids);
    return cardinality(ids);
end
$$;

select amzmp._expose('amzmp._follow_up(text, text[])', 'amzmp_operator',
    'Runs the function of follow_up_with for orders for which it failed, or for the delivered orders named (such as those from before it was registered). Where it has succeeded it does not run again. Returns how many orders.');

create function amzmp._begin_follow_up(account_id bigint, amazon_order_id text) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    o amzmp.orders;
begin
    select x.* into o from amzmp.orders x where x.account_id = $1 and x.amazon_order_id = $2 for update;
    perform amzmp._hook_of_caller($1, o.channel_id, 'follow_up');
    return o.delivered_at is not null and o.followed_up_at is null;
end
$$;

select amzmp._expose('amzmp._begin_follow_up(bigint, text)', 'public',
    'Inner: locks an order and says whether it is to be followed up. Refused to all but the role registered by follow_up_with.');

create function amzmp._finish_follow_up(account_id bigint, amazon_order_id text, failed_state text, failed_message text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    message text := amzmp._mask_personal($1, $2, amzmp._safe_error($3, $4));
    channel bigint;
begin
    update amzmp.orders o
       set followed_up_at = case when $4 is null then now() end, follow_up_failure = case when $4 is not null then message end
     where o.account_id = $1 and o.amazon_order_id = $2 and o.delivered_at is not null and o.followed_up_at is null
    returning o.channel_id into channel;
    perform amzmp._hook_of_caller($1, channel, 'follow_up');
    if $4 is not null then
        perform amzmp._log($1, channel, 'error', 'order', $2, 'the function after the delivery failed: ' || message);
    end if;
end
$$;

select amzmp._expose('amzmp._finish_follow_up(bigint, text, text, text)', 'public',
    'Inner: notes that an order was followed up, or why not. Refused to all but the role registered by follow_up_with.');

create function amzmp._statement_follow_up(account_id bigint, subject text, argument jsonb) returns text[]
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select array[format($statement$do $amzmp$
declare
    state text;
    message text;
begin
    if amzmp.begin_follow_up(%1$s, %2$L) then
        begin
            perform %3$s(%1$s::bigint, %2$L::text);
            set constraints all immediate;
        exception
            when lock_not_available or deadlock_detected or serialization_failure then
                raise;
            when others then
                get stacked diagnostics state = returned_sqlstate, message = message_text;
        end;
        perform amzmp.finish_follow_up(%1$s, %2$L, state, message);
    end if;
end
$amzmp$
$statement$, o.account_id, o.amazon_order_id, h.function_name)]
    from amzmp.orders o
    join amzmp.order_hook h on h.account_id = o.account_id and h.channel_id = o.channel_id and h.kind = 'follow_up'
    where o.account_id = _statement_follow_up.account_id and o.amazon_order_id = _statement_follow_up.subject;
$$;
