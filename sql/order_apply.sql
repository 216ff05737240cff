/*
 * order_apply.sql
 *	  Parked orders become rows: batches, one by one where a batch fails, never held up by one another.
 */

/*
 * Queue the import of these orders, or of all that wait and are not queued (order_ids null: once a poll, so that
 * nothing that went astray stays so). Where the shop's stock is written, one task an order, for the role that the shop
 * named; else tasks of up to 100 orders for the own runners (the queue of orders, task.sql).
 */
create function amzmp._queue_imports(account_id bigint, order_ids text[] default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    ids text[] := $2;
    -- who takes units off the shop's stock; nobody where it has a queue instead, or has ended all that
    role constant name := (
        select h.run_as from amzmp.order_hook h
         where h.account_id = acc and h.channel_id = 0 and h.kind = 'stock' and num_nonnulls(h.function_name, h.relation_name) = 1);
begin
    if ids is null then
        perform amzmp._look_again(acc);
        select array_agg(w.id) into ids
          from (select p.amazon_order_id from amzmp.parked_order p
                 where p.account_id = acc and p.failed_at is null
                union
                select m.amazon_order_id
                  from amzmp.movement m
                  join amzmp.orders o on o.account_id = m.account_id and o.amazon_order_id = m.amazon_order_id
                 where m.account_id = acc and m.reduces_stock and m.applied_at is null
                   and o.import_state <> 'quarantined' and role is not null) as w (id)
         where not exists (
                   select from amzmp.task t
                    where t.account_id = acc and t.kind = 'import'
                      and (t.subject = w.id or t.argument -> 'orders' ? w.id));
    end if;
    if ids is null then
        return;
    end if;

    if role is not null then
        perform amzmp._add_task(acc, 'import', i.id, role, now(), '{}')
           from (select distinct id from unnest(ids) as u (id) order by id) as i;
    else
        perform amzmp._add_task(acc, 'import', 'batch:' || nextval('amzmp.task_id_seq'), 'pg_amzmp_orders', now(),
                                jsonb_build_object('orders', b.ids))
           from (select jsonb_agg(i.id order by i.id) as ids
                   from (select d.id, (row_number() over (order by d.id) - 1) / 100 as batch
                           from (select distinct u.id from unnest(ids) as u (id)) as d) as i
                  group by i.batch) as b;
    end if;
end
$$;

-- Once a poll: orders that are held for their stock, or a product not for sale, go on when there is enough again.
create function amzmp._look_again(account_id bigint) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    held text[] := array(
        select o.amazon_order_id from amzmp.orders o
         where o.account_id = _look_again.account_id and o.import_state in ('held_short_stock', 'held_disabled_item')
         order by o.purchased_at limit 1000);
begin
    if held <> '{}' then
        perform amzmp._settle_orders(account_id, held);
    end if;
end
$$;

-- The own runner's part: import a batch in one go, and one by one if that fails, so that a bad order stops no other.
create function amzmp._task_import(account_id bigint, subject text, argument jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    ids text[] := case when argument ? 'orders'
                       then array(select jsonb_array_elements_text(argument -> 'orders')) else array[subject] end;
    id text;
begin
    begin
        perform amzmp._import_orders(_task_import.account_id, ids);
        return;
    exception
        when serialization_failure or deadlock_detected or lock_not_available then
            raise;
        when others then
            null;
    end;
    foreach id in array ids loop
        perform amzmp._import_order(_task_import.account_id, id);
    end loop;
end
$$;

-- Import one order; if it cannot be, say so at its parked row and leave it there.
create function amzmp._import_order(account_id bigint, amazon_order_id text, stock_follows boolean default false) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
    state text;
    message text;
    broken text;
begin
    begin
        perform amzmp._import_orders(acc, array[id], $3);
    exception
        when serialization_failure or deadlock_detected or lock_not_available then
            raise;
        when others then
            get stacked diagnostics state = returned_sqlstate, message = message_text, broken = constraint_name;
            -- Another process has written the order, or its number, at the same time: the runner tries again and sees it.
            if broken in ('orders_number', 'orders_pkey') then
                perform amzmp._fail('40001', format('order %s, or its number, is just being written', id));
            end if;
            message := amzmp._safe_error(state, message);
            perform amzmp._import_failed(acc, id, message);
    end;
end
$$;

/*
 * Import parked orders: write what they say and take them out of the parking. Returns the lines of new ones.
 */
create function amzmp._import_parked(account_id bigint, order_ids text[]) returns amzmp.new_order_line[]
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
    set enable_material = off set jit = off
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    locked constant text[] := amzmp._lock_orders(acc, order_ids);
    arrived amzmp.arrived_order[];
begin
    with taken as (
        delete from amzmp.parked_order p
         using (select x.place
                  from (select distinct u.id from unnest(order_ids) as u (id) order by u.id) as w
                  cross join lateral (
                        select y.ctid as place from amzmp.parked_order y
                         where y.account_id = acc and y.amazon_order_id = w.id for update offset 0) as x) as f
         where p.ctid = f.place
        returning p.*
    )
    select array_agg(a)
      into arrived
      from taken t
      cross join lateral amzmp._read_orders(amzmp._open(t.sealed, 'order', acc || '/' || t.amazon_order_id), '', t.complete) as a;
    return amzmp._write_orders(acc, arrived, locked);
end
$$;

-- Import orders and settle them.
create function amzmp._import_orders(account_id bigint, order_ids text[], stock_follows boolean default false) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    perform amzmp._settle_orders(account_id, order_ids, stock_follows, amzmp._import_parked(account_id, order_ids));
    perform amzmp._import_succeeded(account_id, order_ids);
    perform amzmp._notify_orders(account_id, order_ids);
end
$$;
