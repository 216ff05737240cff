/*
 * return_import.sql
 *	  Returns out of Amazon's reports, and their way to the shop's function.
 */

-- A date or time as reports write it: ISO, or day-month-year with the month's English name.
create function amzmp._report_time(value text)
    returns timestamptz
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case
            when value ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.]\d+)?(Z|[+-]\d\d:?\d\d)$' then amzmp._time(value)
            when value ~ '^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$' then (value || ' 00:00:00+00')::timestamptz
            when value ~* '^(0?[1-9]|[12]\d|3[01])-(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)-\d{4}$'
            then to_timestamp(value || ' +00', 'DD-Mon-YYYY TZH')
        end
$$;

/*
 * One row of a report, whichever it is. Columns are found by name. The buyer's comment is his own words, and has been left out (report_type.buyer_columns).
 */
create function amzmp._return_of_row(account_id bigint, type text, cells jsonb)
    returns amzmp.return_item
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select (
            $1,
            case
                when x.fba then coalesce('lpn/' || (c ->> 'license-plate-number') || '/' || (c ->> 'order-id'),
                    concat_ws('/', 'fba', c ->> 'order-id', c ->> 'sku', c ->> 'return-date', c ->> 'fnsku'))
                else coalesce('rma/' || (c ->> 'amazon-rma-id') || '/' || coalesce(c ->> 'merchant-sku', c ->> 'asin', ''),
                    concat_ws('/', 'request', c ->> 'order-id', c ->> 'merchant-sku', c ->> 'return-request-date'))
            end,
            case when x.fba then 'amazon' else 'merchant' end,
            c ->> 'order-id', null, coalesce(c ->> 'merchant-sku', c ->> 'sku'), c ->> 'asin',
            coalesce(amzmp._count(coalesce(c -> 'return-quantity', c -> 'quantity')), 1),
            amzmp._report_time(coalesce(c ->> 'return-request-date', c ->> 'return-date')),
            amzmp._report_time(c ->> 'return-delivery-date'),
            coalesce(c ->> 'return-request-status', c ->> 'status'), c ->> 'resolution',
            coalesce(c ->> 'return-reason', c ->> 'reason'), c ->> 'detailed-disposition', c ->> 'currency-code',
            case when c ->> 'refunded-amount' ~ '^-?\d+([.]\d+)?$' then (c ->> 'refunded-amount')::numeric end,
            false, c - '{order-id,merchant-sku,sku,asin,return-quantity,quantity,return-request-status,status,resolution,return-reason,reason,detailed-disposition,currency-code,refunded-amount}'::text[],
            null, 'new', null, 0, null, null, now(), now())::amzmp.return_item
    from (select cells as c, type like 'GET_FBA_%' as fba) as x
$$;

-- Inner, report handler: store what the report names. A row without an order says nothing.
create function amzmp._apply_returns(report amzmp.report)
    returns text
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    since constant timestamptz := coalesce(amzmp._setting_timestamp(report.account_id, 0, 'refund_start'), '-infinity');
    days constant interval := make_interval(days => amzmp._setting_int(report.account_id, 0, 'refundable_days'));
begin
    insert into amzmp.return_item as r
    select (jsonb_populate_record(n.item, jsonb_build_object('order_item_id', n.order_item_id, 'late', n.late))).*
    from (
        select distinct on ((x.item).return_key) x.item, l.order_item_id,
            coalesce((x.item).requested_at > coalesce(o.purchased_at, amzmp._report_time((x.item).details ->> 'order-date')) + days, false) as late
        from amzmp._report_rows(report.account_id, report.report_id) as t
        cross join lateral (select amzmp._return_of_row(report.account_id, report.type, t.cells) as item) as x
        left join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (report.account_id, (x.item).amazon_order_id)
        left join lateral (
            select i.order_item_id
            from amzmp.order_item as i
            where (i.account_id, i.amazon_order_id) = (report.account_id, (x.item).amazon_order_id)
                and (i.sku = (x.item).sku or i.asin = (x.item).asin)
            order by i.sku is distinct from (x.item).sku, i.position
            limit 1
        ) as l on true
        where (x.item).amazon_order_id <> ''
            and coalesce((x.item).requested_at >= since, true)
        order by (x.item).return_key, t.place desc
    ) as n
    on conflict on constraint return_item_pkey do update
    set order_item_id = coalesce(excluded.order_item_id, r.order_item_id),
        quantity = excluded.quantity,
        requested_at = coalesce(excluded.requested_at, r.requested_at),
        received_at = coalesce(excluded.received_at, r.received_at),
        status = coalesce(excluded.status, r.status),
        resolution = coalesce(excluded.resolution, r.resolution),
        reason_code = coalesce(excluded.reason_code, r.reason_code),
        disposition = coalesce(excluded.disposition, r.disposition),
        refunded_amount = coalesce(excluded.refunded_amount, r.refunded_amount),
        late = excluded.late,
        details = excluded.details,
        last_seen_at = excluded.last_seen_at;
    perform amzmp._queue_returns(report.account_id);
    return null;
end
$$;

comment on function amzmp._apply_returns(amzmp.report) is 'Inner: takes returns from a report.';

update amzmp.report_type
set handler = '_apply_returns'
where name in ('GET_FLAT_FILE_RETURNS_DATA_BY_RETURN_DATE', 'GET_CSV_MFN_PRIME_RETURNS_REPORT',
    'GET_FBA_FULFILLMENT_CUSTOMER_RETURNS_DATA');

-- Which of these accounts may have returns: those that wait for the shop, and those of whom a report is due. Who has no order
-- here is asked about once a day, because buyers may still return what was sold before.
create function amzmp._due_get_refund_orders(account_ids bigint[])
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
    join amzmp.account as x on x.account_id = a.id
    where exists (
            select
            from amzmp.return_item as r
            where r.account_id = a.id
                and r.state = 'new'
                and (not r.late or r.accepted_by is not null)
        )
        or exists (select from amzmp.orders as o where o.account_id = a.id)
        or not exists (
            select
            from amzmp.report as r
            join amzmp.report_type as t on t.name = r.type
            where r.account_id = a.id
                and t.handler = '_apply_returns'
                and r.requested_at > now() - interval '1 day' / x.time_scale::float8
        );
end
$$;

/*
 * The flow. A report covers the last weeks, the first one all that the setting refund_start or Amazon's longest range (60 days)
 * lets. It reaches to its own making, so that no clock matters.
 */
create function amzmp._flow_get_refund_orders(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc alias for $1;
    clock constant timestamptz := date_trunc('minute', amzmp._now(acc));
    side constant text := amzmp._setting_text(acc, 0, 'order_fulfillment');
begin
    perform amzmp._queue_returns(acc);
    if not exists (select from amzmp.channel as c where c.account_id = acc and c.active and not c.dropped) then
        return;
    end if;
    perform amzmp._request_report(acc, 0, t.name,
        greatest(clock - case when x.known then interval '21 days' else interval '59 days' end,
            amzmp._setting_timestamp(acc, 0, 'refund_start')),
        null, '{}', jsonb_build_object('flow_run', flow_run_id))
    from amzmp.report_type as t
    cross join lateral (
        select exists (
                select
                from amzmp.report as r
                where (r.account_id, r.type, r.state) = (acc, t.name, 'applied')
            ) as known
    ) as x
    where t.handler = '_apply_returns'
        and case
            when t.name like 'GET_FBA_%' then side <> 'merchant'
            when t.name like '%PRIME%' then side <> 'amazon' and exists (
                select
                from amzmp.orders as o
                where o.account_id = acc
                    and o.is_prime
                    and o.fulfilled_by = 'MERCHANT'
                    and o.purchased_at > clock - interval '90 days'
            )
            else side <> 'amazon'
        end
        and not exists (
            select
            from amzmp.report as r
            where (r.account_id, r.type) = (acc, t.name)
                and r.ended_at is null
        );
end
$$;

/*
 * To the shop.
 */

create function amzmp._deliver_returns_to(channel text, function regprocedure, run_as name default null)
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
    using amzmp.return_item as r, amzmp.orders as o
    where (t.account_id, t.kind) = (target.account_id, 'return')
        and (r.account_id, r.return_key) = (t.account_id, t.subject)
        and (o.account_id, o.amazon_order_id, o.channel_id) = (r.account_id, r.amazon_order_id, target.channel_id);
    if amzmp._set_hook(target.account_id, target.channel_id, 'return', function, array['bigint', 'text']::regtype[], 'text', run_as) then
        perform amzmp._queue_returns(target.account_id);
    end if;
end
$$;

select amzmp._expose('amzmp._deliver_returns_to(text, regprocedure, name)', 'amzmp_admin',
    'Hands each return of a channel''s orders once to the shop''s function (account_id bigint, return_key text) returns text, which reads amzmp.returns and returns the shop''s number of the return or null. Late returns are not handed over, see accept_return. It runs as the caller, or as the role that a superuser names. A null function ends it.');

create function amzmp._queue_returns(account_id bigint)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._add_task(r.account_id, 'return', r.return_key, h.run_as, now(), '{}')
    from amzmp.return_item as r
    join amzmp.orders as o using (account_id, amazon_order_id)
    join amzmp.order_hook as h using (account_id, channel_id)
    where r.account_id = _queue_returns.account_id
        and r.state = 'new'
        and (not r.late or r.accepted_by is not null)
        and h.kind = 'return';
end;

create function amzmp._accept_return(account text, return_key text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc constant bigint := (amzmp._account(account)).account_id;
begin
    update amzmp.return_item as r
    set accepted_by = amzmp._caller(),
        state = 'new',
        tries = 0,
        failure_reason = null
    where (r.account_id, r.return_key) = (acc, _accept_return.return_key)
        and r.state <> 'delivered';
    if not found then
        perform amzmp._fail('AZ201', format('account %L has no return %L that waits', account, return_key), null,
            'select return_key from amzmp.returns where state <> ''delivered''; lists them.');
    end if;
    perform amzmp._queue_returns(acc);
end
$$;

select amzmp._expose('amzmp._accept_return(text, text)', 'amzmp_operator',
    'Hands a return to the shop''s function although it is late, or once more after that failed.');

create function amzmp._begin_return(account_id bigint, return_key text)
    returns boolean
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    r amzmp.return_item;
begin
    select x.* into r from amzmp.return_item as x where (x.account_id, x.return_key) = ($1, $2) for update;
    perform amzmp._hook_of_caller($1, o.channel_id, 'return')
    from (select 1) as one
    left join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (r.account_id, r.amazon_order_id);
    return r.state = 'new' and (not r.late or r.accepted_by is not null);
end
$$;

select amzmp._expose('amzmp._begin_return(bigint, text)', 'public',
    'Inner: locks a return and says whether it is to be handed over. Refused to all but the role registered by deliver_returns_to.');

create function amzmp._finish_return(account_id bigint, return_key text, number text, failed_state text, failed_message text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    most_tries constant integer := 3;
    r amzmp.return_item;
    message text;
begin
    select x.* into r from amzmp.return_item as x where (x.account_id, x.return_key) = ($1, $2) for update;
    perform amzmp._hook_of_caller($1, o.channel_id, 'return')
    from (select 1) as one
    left join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (r.account_id, r.amazon_order_id);
    if failed_message is not null then
        message := amzmp._mask_personal($1, r.amazon_order_id, amzmp._safe_error(failed_state, failed_message));
    end if;
    update amzmp.return_item as x
    set state = case when message is null then 'delivered' when x.tries + 1 < most_tries then 'new' else 'quarantined' end,
        tries = x.tries + case when message is null then 0 else 1 end,
        failure_reason = message,
        delivered_number = case when message is null then number end,
        delivered_at = case when message is null then now() end
    where (x.account_id, x.return_key) = ($1, $2)
        and x.state = 'new'
    returning x.* into r;
    if message is not null then
        perform amzmp._log($1, 0, 'error', 'order', r.amazon_order_id,
            format('the shop''s function did not take return %s: %s', return_key, message));
        if r.state = 'new' then
            perform amzmp._add_task($1, 'return', return_key, amzmp._caller(), now() + interval '5 minutes');
        end if;
    end if;
end
$$;

select amzmp._expose('amzmp._finish_return(bigint, text, text, text, text)', 'public',
    'Inner: a return was handed over, or that failed. Refused to all but the role registered by deliver_returns_to.');

-- The function runs in a subtransaction together with its deferred constraints; the mark is in the same transaction.
create function amzmp._statement_return(account_id bigint, subject text, argument jsonb)
    returns text[]
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array[format($statement$do $amzmp$
declare
    number text;
    state text;
    message text;
begin
    if amzmp.begin_return(%1$s, %2$L) then
        begin
            number := %3$s(%1$s::bigint, %2$L::text);
            set constraints all immediate;
        exception
            when lock_not_available or deadlock_detected or serialization_failure then
                raise;
            when others then
                get stacked diagnostics state = returned_sqlstate, message = message_text;
        end;
        perform amzmp.finish_return(%1$s, %2$L, number, state, message);
    end if;
end
$amzmp$
$statement$, h.account_id, _statement_return.subject, h.function_name)]
    from amzmp.return_item as r
    join amzmp.orders as o using (account_id, amazon_order_id)
    join amzmp.order_hook as h on (h.account_id, h.channel_id, h.kind) = (o.account_id, o.channel_id, 'return')
    where (r.account_id, r.return_key) = (_statement_return.account_id, _statement_return.subject);
$$;
