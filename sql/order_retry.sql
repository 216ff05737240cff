/*
 * order_retry.sql
 *	  Orders that could not be imported, or that the shop could not take, are tried again by themselves, by the policy of
 *	  penalties (penalty.sql).
 *
 * A failed import leaves the order parked, as a penalty of kind order that belongs to the account: an order that was not
 * read has no channel. A newer version of it is tried at once.
 *
 * A failed delivery or stock change puts the order aside (quarantined, delivery.sql) and makes it a penalty of kind order.
 * The flow get_orders tries again what has waited long enough; after the policy it is given up, listed, and waits for
 * redeliver or release_penalty. A message of the shop's function that begins with the name of an error and a colon, such
 * as "ADDRESS_UNMAPPED: township 137_Merkez", is filed under that name (amzmp.issue_meaning).
 */

-- Inner: an order failed; message is free of the buyer's data.
create function amzmp._order_failed(account_id bigint, amazon_order_id text, failed_state text, message text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._penalise(o.account_id, o.channel_id, 'order', o.amazon_order_id,
        coalesce(substring(_order_failed.message from '^([A-Z][A-Z_]{2,40}): '), _order_failed.failed_state), _order_failed.message)
    from amzmp.orders as o
    where (o.account_id, o.amazon_order_id) = (_order_failed.account_id, _order_failed.amazon_order_id);
end
$$;

-- Inner: a parked order could not be imported; message is free of the buyer's data.
create function amzmp._import_failed(account_id bigint, amazon_order_id text, message text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.parked_order as p
    set failed_at = now(),
        failure_reason = message
    where (p.account_id, p.amazon_order_id) = (_import_failed.account_id, _import_failed.amazon_order_id);
    perform amzmp._penalise(account_id, 0, 'order', amazon_order_id, 'ORDER_NOT_IMPORTED', message);
end
$$;

-- Inner: orders are no longer parked: that they could not be imported is over. What failed at the shop's stays.
create function amzmp._import_succeeded(account_id bigint, order_ids text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if exists (select from amzmp.penalty as p where (p.account_id, p.channel_id, p.kind) = (_import_succeeded.account_id, 0, 'order')) then
        delete from amzmp.penalty as p
        where (p.account_id, p.channel_id, p.kind, p.code) = (_import_succeeded.account_id, 0, 'order', 'ORDER_NOT_IMPORTED')
            and p.subject = any (order_ids);
    end if;
end
$$;

-- Inner: parked orders that are to be tried again: their penalty is gone, or (unless released) their wait is over.
create function amzmp._retry_parked(account_id bigint, released boolean)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    tried integer;
begin
    update amzmp.parked_order as p
    set failed_at = null,
        failure_reason = null
    from (
        select f.amazon_order_id
        from amzmp.parked_order as f
        left join amzmp.penalty as x
            on (x.account_id, x.channel_id, x.kind, x.subject) = (f.account_id, 0, 'order', f.amazon_order_id)
        where f.account_id = _retry_parked.account_id
            and f.failed_at is not null
            and (x.subject is null or not released and not x.gave_up and x.until <= now())
        order by f.amazon_order_id
        limit 500
    ) as w
    where (p.account_id, p.amazon_order_id) = (_retry_parked.account_id, w.amazon_order_id);
    get diagnostics tried = row_count;
    return tried;
end
$$;

-- Inner: the shop has taken an order, or somebody begins anew with it.
create function amzmp._order_forgiven(account_id bigint, amazon_order_ids text[])
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    delete from amzmp.penalty as p
    where p.account_id = _order_forgiven.account_id
        and p.kind = 'order'
        and p.subject = any (_order_forgiven.amazon_order_ids);
end;

-- Inner: try again orders whose wait is over, or (released) those whose penalty is gone. Returns how many.
create function amzmp._retry_orders(account_id bigint, released boolean default false)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    ids constant text[] := array(
        select o.amazon_order_id
        from amzmp.orders as o
        left join amzmp.penalty as p
            on (p.account_id, p.channel_id, p.kind, p.subject) = (o.account_id, o.channel_id, 'order', o.amazon_order_id)
        where o.account_id = _retry_orders.account_id
            and o.import_state = 'quarantined'
            and case when released then p.subject is null else not p.gave_up and p.until <= now() end
            and not exists (
                select
                from amzmp.cancellation as c
                where (c.account_id, c.amazon_order_id) = (o.account_id, o.amazon_order_id)
                    and c.state in ('waiting', 'queued', 'sent', 'accepted', 'unknown', 'cancelled')
            )
        order by o.amazon_order_id
        limit 500
    );
    parked constant integer := amzmp._retry_parked(account_id, released);
begin
    if ids <> '{}' then
        update amzmp.orders as o
        set import_state = 'imported',
            failure_reason = null
        where o.account_id = _retry_orders.account_id
            and o.amazon_order_id = any (ids)
            and o.import_state = 'quarantined';
        perform amzmp._settle_states(account_id, ids);
    end if;
    if ids <> '{}' or parked > 0 then
        perform amzmp._queue_imports(account_id);
    end if;
    if ids <> '{}' then
        perform amzmp._queue_deliveries(account_id, ids);
    end if;
    return cardinality(ids) + parked;
end
$$;
