/*
 * order_progress.sql
 *	  What becomes of orders after the shop has taken them: shipped, delivered; told to the shop's function, in that order
 *	  (what it has refused three times holds up nothing).
 *
 *		shipped ─▶ delivered          due ─▶ told
 *		                                └──▶ failed (tried three times; tell_progress tries again)
 *
 * Amazon shows packages of the merchant's as delivered where it can follow the carrier. Of orders that Amazon ships it shows no packages:
 * those are assumed to be delivered when the promised time has passed, and marked so. Progress is noted as orders are imported, and
 * by the flow get_updated_orders, which reads again the orders whose packages should have arrived.
 */
insert into amzmp.flow (flow, scope, every, on_by_default, capability, title, description)
values
    ('get_updated_orders', 'account', '0 6 * * *', false, 'orders', 'Hand over progress',
        'Notes which orders were shipped and delivered, tells the shop''s function (tell_progress_to), and reads orders again whose packages should have arrived.');

create table amzmp.order_progress (
    account_id bigint not null,
    amazon_order_id text not null,
    event text not null,
    at timestamptz not null,
    assumed boolean not null default false,
    carrier text,
    tracking text,
    state text not null default 'due',
    tries smallint not null default 0,
    failure_reason text,
    told_at timestamptz,
    primary key (account_id, amazon_order_id, event),
    constraint order_progress_event_check check (event in ('shipped', 'delivered')),
    constraint order_progress_state_check check (state in ('due', 'told', 'failed'))
);

create index order_progress_failed on amzmp.order_progress (account_id)
where state = 'failed';

comment on table amzmp.order_progress is 'Orders that were shipped and delivered, and whether the shop''s function was told.';
comment on column amzmp.order_progress.account_id is 'The account that sold.';
comment on column amzmp.order_progress.amazon_order_id is 'The order.';
comment on column amzmp.order_progress.event is 'shipped or delivered.';
comment on column amzmp.order_progress.at is 'When it happened, as far as Amazon says.';
comment on column amzmp.order_progress.assumed is 'Is it assumed, because the promised time has passed and Amazon shows no packages?';
comment on column amzmp.order_progress.carrier is 'Who carries it, by Amazon''s data.';
comment on column amzmp.order_progress.tracking is 'Its number.';
comment on column amzmp.order_progress.state is 'due (to be told), told, or failed (see failure_reason).';
comment on column amzmp.order_progress.tries is 'How often the function failed.';
comment on column amzmp.order_progress.failure_reason is 'Why, without personal data.';
comment on column amzmp.order_progress.told_at is 'When the shop''s function took it.';

create function amzmp._tell_progress_to(channel text, function regprocedure, run_as name default null)
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
    perform amzmp._set_hook(target.account_id, target.channel_id, 'progress', function,
        array['bigint', 'text', 'text', 'text']::regtype[], null, run_as);
end
$$;

select amzmp._expose('amzmp._tell_progress_to(text, regprocedure, name)', 'amzmp_admin',
    'Tells the shop''s function (account_id bigint, amazon_order_id text, event text, carrier text) once when an order that the shop has taken was shipped, and once when it was delivered. carrier: who carries it by Amazon''s data, for the shop''s row; null where the shop ships itself (send_shipping_info) or its carrier is one of keep_carriers. It runs as the caller, or as the role that a superuser names. A null function ends it.');

-- Note how far these orders are, and queue the telling of what is due of them.
create function amzmp._note_progress(account_id bigint, order_ids text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
as $$
#variable_conflict use_column
declare
    clock constant timestamptz := amzmp._now(account_id);
begin
    insert into amzmp.order_progress as p (account_id, amazon_order_id, event, at, assumed, carrier, tracking)
    select o.account_id, o.amazon_order_id, e.event, e.at, e.assumed, k.carrier, k.tracking
    from unnest(order_ids) as w (id)
    join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (_note_progress.account_id, w.id)
    left join lateral (
        select x.carrier, x.tracking, x.shipped_at
        from amzmp.order_package as x
        where (x.account_id, x.amazon_order_id) = (o.account_id, o.amazon_order_id)
        order by x.shipped_at desc nulls last
        limit 1
    ) as k on true
    cross join lateral (
        values ('shipped', coalesce(k.shipped_at, o.last_updated_at), false, true),
            ('delivered', coalesce(o.arrived_at, o.deliver_by), o.arrived_at is null,
                o.arrived_at is not null or o.fulfilled_by = 'AMAZON' and o.deliver_by < clock)
    ) as e (event, at, assumed, holds)
    where o.status = 'SHIPPED'
        and e.holds
    on conflict on constraint order_progress_pkey do nothing;

    perform amzmp._add_task(o.account_id, 'progress', o.amazon_order_id, h.run_as, now())
    from unnest(order_ids) as w (id)
    join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (_note_progress.account_id, w.id)
    join amzmp.order_hook as h on (h.account_id, h.channel_id, h.kind) = (o.account_id, o.channel_id, 'progress')
    where o.delivered_at is not null
        and exists (
            select
            from amzmp.order_progress as p
            where (p.account_id, p.amazon_order_id, p.state) = (o.account_id, o.amazon_order_id, 'due')
        );
end
$$;

-- Part of settling orders: where the shop wants to be told.
create function amzmp._settle_progress(account_id bigint, order_ids text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from amzmp.order_hook as h where h.account_id = _settle_progress.account_id and h.kind = 'progress') then
        perform amzmp._note_progress(account_id, order_ids);
    end if;
end
$$;

/*
 * The flow: orders of the last 90 days that were shipped and are not known to be delivered. Those whose promised time has
 * passed are read again, a hundred a run.
 */
create function amzmp._flow_get_updated_orders(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc alias for $1;
    most_reads constant integer := 100;
    clock constant timestamptz := amzmp._now(acc);
begin
    perform amzmp._note_progress(acc, array(
            select o.amazon_order_id
            from amzmp.orders as o
            where o.account_id = acc
                and o.purchased_at > clock - interval '90 days'
                and o.status = 'SHIPPED'
                and not exists (
                    select
                    from amzmp.order_progress as p
                    where (p.account_id, p.amazon_order_id, p.event, p.state) = (o.account_id, o.amazon_order_id, 'delivered', 'told')
                )
        ));
    perform amzmp._request_order(acc, l.amazon_order_id, jsonb_build_object('flow_run', flow_run_id))
    from (
        select o.amazon_order_id
        from amzmp.orders as o
        where o.account_id = acc
            and o.purchased_at > clock - interval '90 days'
            and o.status = 'SHIPPED'
            and o.fulfilled_by is distinct from 'AMAZON'
            and o.arrived_at is null
            and o.deliver_by between clock - interval '30 days' and clock
            and not exists (
                select
                from amzmp.request as r
                where (r.account_id, r.subject_kind, r.subject) = (acc, 'order', o.amazon_order_id)
            )
        order by o.deliver_by
        limit most_reads
    ) as l;
end
$$;

comment on function amzmp._flow_get_updated_orders(bigint, bigint, bigint) is 'Inner: the flow get_updated_orders: note and hand over what was shipped and delivered.';

create function amzmp._tell_progress(account text, amazon_order_ids text[] default null)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc constant bigint := (amzmp._account(account)).account_id;
    ids text[];
begin
    with again as (
        update amzmp.order_progress as p
        set state = 'due',
            tries = 0
        where p.account_id = acc
            and p.state = 'failed'
            and (_tell_progress.amazon_order_ids is null or p.amazon_order_id = any (_tell_progress.amazon_order_ids))
        returning p.amazon_order_id
    )
    select coalesce(array_agg(distinct a.amazon_order_id), '{}') into ids from again as a;
    perform amzmp._note_progress(acc, ids);
    return cardinality(ids);
end
$$;

select amzmp._expose('amzmp._tell_progress(text, text[])', 'amzmp_operator',
    'Tells the function of tell_progress_to again what it failed to take, of an account or of some orders. Returns how many orders.');

/*
 * Telling. shipped goes before delivered.
 */
create function amzmp._begin_progress(account_id bigint, amazon_order_id text)
    returns table (event text, carrier text)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    o amzmp.orders;
begin
    select x.* into o from amzmp.orders as x where (x.account_id, x.amazon_order_id) = ($1, $2) for update;
    perform amzmp._hook_of_caller($1, o.channel_id, 'progress');
    return query
        select p.event, case
                when amzmp._setting_bool($1, 0, 'send_shipping_info') then null
                when coalesce((
                        select m.carrier
                        from amzmp.service_map as m
                        where m.account_id = $1
                            and m.channel_id in (o.channel_id, 0)
                            and m.service_level = o.service_level
                        order by m.channel_id desc
                        limit 1
                    ), amzmp._setting_text($1, o.channel_id, 'default_carrier')) = any (amzmp._setting_list($1, 0, 'keep_carriers')) then null
                else p.carrier
            end
        from amzmp.order_progress as p
        where (p.account_id, p.amazon_order_id, p.state) = ($1, $2, 'due')
            and o.delivered_at is not null
        order by p.event desc
        limit 1;
end
$$;

select amzmp._expose('amzmp._begin_progress(bigint, text)', 'public',
    'Inner: locks an order and says what is to be told of it. Refused to all but the role registered by tell_progress_to.');

create function amzmp._finish_progress(account_id bigint, amazon_order_id text, event text, failed_state text, failed_message text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    most_tries constant integer := 3;
    channel bigint;
    message text;
    p amzmp.order_progress;
begin
    select o.channel_id into channel from amzmp.orders as o where (o.account_id, o.amazon_order_id) = ($1, $2);
    perform amzmp._hook_of_caller($1, channel, 'progress');
    if failed_message is not null then
        message := amzmp._mask_personal($1, $2, amzmp._safe_error(failed_state, failed_message));
    end if;
    update amzmp.order_progress as x
    set state = case when message is null then 'told' when x.tries + 1 < most_tries then 'due' else 'failed' end,
        tries = x.tries + case when message is null then 0 else 1 end,
        failure_reason = message,
        told_at = case when message is null then now() end
    where (x.account_id, x.amazon_order_id, x.event, x.state) = ($1, $2, $3, 'due')
    returning x.* into p;
    if message is not null then
        perform amzmp._log($1, channel, 'error', 'order', $2, format('the shop''s function was not told that it is %s: %s', event, message));
    end if;
    if exists (select from amzmp.order_progress as x where (x.account_id, x.amazon_order_id, x.state) = ($1, $2, 'due')) then
        perform amzmp._add_task($1, 'progress', $2, amzmp._caller(), now() + case when message is null then interval '0' else interval '5 minutes' end);
    end if;
end
$$;

select amzmp._expose('amzmp._finish_progress(bigint, text, text, text, text)', 'public',
    'Inner: the shop''s function was told of an order''s progress, or that failed. Refused to all but the role registered by tell_progress_to.');

create function amzmp._statement_progress(account_id bigint, subject text, argument jsonb)
    returns text[]
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array[format($statement$do $amzmp$
declare
    step record;
    state text;
    message text;
begin
    select * into step from amzmp.begin_progress(%1$s, %2$L);
    if found then
        begin
            perform %3$s(%1$s::bigint, %2$L::text, step.event::text, step.carrier::text);
            set constraints all immediate;
        exception
            when lock_not_available or deadlock_detected or serialization_failure then
                raise;
            when others then
                get stacked diagnostics state = returned_sqlstate, message = message_text;
        end;
        perform amzmp.finish_progress(%1$s, %2$L, step.event, state, message);
    end if;
end
$amzmp$
$statement$, o.account_id, o.amazon_order_id, h.function_name)]
    from amzmp.orders as o
    join amzmp.order_hook as h on (h.account_id, h.channel_id, h.kind) = (o.account_id, o.channel_id, 'progress')
    where (o.account_id, o.amazon_order_id) = (_statement_progress.account_id, _statement_progress.subject);
$$;
