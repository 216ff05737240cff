/*
 * delivery.sql
 *	  How imported orders reach the shop: taking sold units off its stock, handing orders to its function, and linking
 *	  items that it does not know.
 *
 * The shop's own SQL never runs inside a function of ours. A process whose session user is the shop's role executes,
 * at top level, a statement that is made here: it asks a checking function of ours what to do, does it with that
 * role's rights, and reports back, all in one transaction. Those functions (begin_import, finish_import,
 * begin_delivery …) are open to everybody and refuse whoever is not the role that was registered.
 */

/* ---- registering ---- */

create function amzmp._reduce_stock(account text, relation regclass default null, key_column text default 'sku',
    stock_column text default 'stock', function regprocedure default null, run_as name default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
    role_name name;
begin
    if relation is not null and function is not null then
        perform amzmp._fail('AZ202', 'stock is reduced by a column or by a function, not by both', null,
            'Give either relation or function.');
    end if;
    delete from amzmp.order_hook h where h.account_id = acc and h.channel_id = 0 and h.kind = 'stock';
    if relation is not null or function is not null then
        role_name := amzmp._hook_role(run_as);
        insert into amzmp.order_hook (account_id, kind, run_as, function_name, relation_name, key_column, stock_column,
            registered_by)
        values (acc, 'stock', role_name,
            case when function is not null
                 then amzmp._hook_function(function, array['text', 'integer']::regtype[], null, role_name) end,
            case when relation is not null
                 then amzmp._hook_relation(relation, key_column, stock_column, role_name) end,
            case when relation is not null then key_column end, case when relation is not null then stock_column end,
            amzmp._caller());
    end if;
    -- What waits under the old arrangement is queued anew under the new one.
    delete from amzmp.task t where t.account_id = acc and t.kind = 'import';
    perform amzmp._queue_imports(acc);
end
$$;

select amzmp._expose('amzmp._reduce_stock(text, regclass, text, text, regprocedure, name)', 'amzmp_admin',
    'From now on, importing an order changes the shop''s stock in the same transaction: a column of a table or updatable view, or by a function (sku text, change integer), where a sale is a negative change. What Amazon has sold is sold: the stock may become negative. Runs as the caller, or as the role that a superuser names. With neither relation nor function, it ends.');

create function amzmp._deliver_orders_to(channel text, function regprocedure, run_as name default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    target amzmp.channel := amzmp._channel(channel);
begin
    delete from amzmp.task t
     using amzmp.orders o
     where t.account_id = target.account_id and t.kind = 'deliver'
       and o.account_id = t.account_id and o.amazon_order_id = t.subject and o.channel_id = target.channel_id;
    if amzmp._set_hook(target.account_id, target.channel_id, 'delivery', function, array['bigint', 'text']::regtype[], 'text', run_as) then
        perform amzmp._queue_deliveries(target.account_id);
    end if;
end
$$;

select amzmp._expose('amzmp._deliver_orders_to(text, regprocedure, name)', 'amzmp_admin',
    'Hands each order of a channel once to the shop''s function (account_id bigint, amazon_order_id text) returns text, which returns the shop''s order number or NULL. Runs as the caller, or as the role that a superuser names, in the transaction that marks the order delivered; orders that wait are handed over too. A null function ends it.');

/* ---- what the shop's processes call ---- */

create function amzmp._begin_import(account_id bigint, amazon_order_id text) returns table (sku text, quantity integer)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
begin
    perform amzmp._hook_of_caller(acc, 0, 'stock');
    if exists (select from amzmp.parked_order p where p.account_id = acc and p.amazon_order_id = id and p.failed_at is null) then
        perform amzmp._import_order(acc, id, true);
    else
        perform amzmp._settle_orders(acc, array[id], true);
    end if;
    return query
        select m.sku, sum(m.quantity)::integer
          from amzmp.movement m
         where m.account_id = acc and m.amazon_order_id = id and m.reduces_stock and m.applied_at is null
         group by m.sku having sum(m.quantity) <> 0
         order by m.sku collate "C";
end
$$;

select amzmp._expose('amzmp._begin_import(bigint, text)', 'public',
    'Inner: first half of the statement that imports one order with its stock. Refused to all but the role registered by reduce_stock.');

/*
 * The stock is written, or could not be. Of refused SKUs the shop does not let the stock fall so far (a check constraint): they
 * stay to be taken, and held until then, and the order is short of them. The shop's quantity as last read is corrected with it, so that nobody adds the
 * units again between this commit and the next reading. A failure keeps the order imported and its units held.
 */
create function amzmp._finish_import(account_id bigint, amazon_order_id text, missing text[], short text[], failed_state text,
    failed_message text, refused text[] default '{}') returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
    absent alias for $3;
    short_skus constant text[] := $4 || refused;
    message text;
begin
    perform amzmp._hook_of_caller(acc, 0, 'stock');
    if failed_message is not null then
        message := amzmp._mask_personal(acc, id, amzmp._safe_error(failed_state, failed_message));
        update amzmp.orders o
           set import_state = 'quarantined', failure_reason = 'stock: ' || message
         where o.account_id = acc and o.amazon_order_id = id;
        perform amzmp._settle_reservations(acc, array[id], false);
        perform amzmp._log(acc, 0, 'error', 'order', id, 'the shop''s stock could not be changed: ' || message);
        perform amzmp._order_failed(acc, id, failed_state, message);
        perform amzmp._cancel_failed(acc, id, failed_state);
        return;
    end if;

    with applied as (
        update amzmp.movement m
           set applied_at = now(), note = case when m.sku = any (absent) then 'the shop has no row of this SKU' end
         where m.account_id = acc and m.amazon_order_id = id and m.reduces_stock and m.applied_at is null
           and m.sku <> all (refused)
        returning m.sku, m.quantity
    )
    update amzmp.product p
       set quantity = p.quantity + a.quantity
      from (select x.sku, sum(x.quantity) as quantity from applied x group by x.sku) as a
     where p.account_id = acc and p.sku = a.sku and p.quantity is not null;
    if cardinality(absent) > 0 then
        perform amzmp._log(acc, 0, 'warning', 'order', id,
            'sold, but the shop has no such row: ' || array_to_string(absent, ', '));
    end if;
    if refused <> '{}' then
        perform amzmp._settle_reservations(acc, array[id], false);
    end if;
    perform amzmp._settle_states(acc, array[id], short_skus);
    perform amzmp._queue_deliveries(acc, array[id]);
    -- what is still to be delivered has not succeeded yet
    perform amzmp._order_forgiven(acc, array(
        select o.amazon_order_id from amzmp.orders o
         where o.account_id = acc and o.amazon_order_id = id and o.failure_reason is null
           and not exists (select from amzmp.task t where t.account_id = acc and t.kind = 'deliver' and t.subject = id)));
end
$$;

select amzmp._expose('amzmp._finish_import(bigint, text, text[], text[], text, text, text[])', 'public',
    'Inner: second half of the statement that imports one order with its stock. Refused to all but the role registered by reduce_stock.');

create function amzmp._begin_delivery(account_id bigint, amazon_order_id text) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    wanted amzmp.orders;
begin
    select o.* into wanted from amzmp.orders o where o.account_id = acc and o.amazon_order_id = $2 for update;
    perform amzmp._hook_of_caller(acc, wanted.channel_id, 'delivery');
    return wanted.import_state = 'imported' and wanted.delivered_at is null
        and wanted.status = any (amzmp._setting_list(acc, wanted.channel_id, 'order_statuses'));
end
$$;

select amzmp._expose('amzmp._begin_delivery(bigint, text)', 'public',
    'Inner: locks an order for its delivery and says whether it is to be delivered. Refused to all but the role registered by deliver_orders_to.');

create function amzmp._finish_delivery(account_id bigint, amazon_order_id text, number text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
    channel bigint;
begin
    update amzmp.orders o
       set import_state = 'delivered', delivered_at = now(), delivered_number = $3, failure_reason = null
     where o.account_id = acc and o.amazon_order_id = id and o.import_state = 'imported' and o.delivered_at is null
    returning o.channel_id into channel;
    perform amzmp._hook_of_caller(acc, channel, 'delivery');
    perform amzmp._settle_reservations(acc, array[id], false);
    perform amzmp._order_forgiven(acc, array[id]);
    perform amzmp._log(acc, channel, 'info', 'order', id, 'delivered to the shop' || coalesce(' as ' || $3, ''));
    perform amzmp._acknowledge_delivered(acc, id);
    perform amzmp._settle_cancellations(acc, array[id]);
    perform amzmp._queue_shipment_rows(acc, array[id]);
    perform amzmp._queue_follow_ups(acc, array[id]);
    perform amzmp._settle_progress(acc, array[id]);
end
$$;

select amzmp._expose('amzmp._finish_delivery(bigint, text, text)', 'public',
    'Inner: marks an order as delivered. Refused to all but the role registered by deliver_orders_to.');

create function amzmp._fail_delivery(account_id bigint, amazon_order_id text, failed_state text, failed_message text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
    channel bigint;
    message text := amzmp._mask_personal($1, $2, amzmp._safe_error($3, $4));
begin
    update amzmp.orders o
       set import_state = 'quarantined', failure_reason = 'delivery: ' || message
     where o.account_id = acc and o.amazon_order_id = id and o.import_state = 'imported' and o.delivered_at is null
    returning o.channel_id into channel;
    perform amzmp._hook_of_caller(acc, channel, 'delivery');
    perform amzmp._log(acc, channel, 'error', 'order', id, 'the delivery function failed: ' || message);
    perform amzmp._order_failed(acc, id, failed_state, message);
    perform amzmp._cancel_failed(acc, id, failed_state);
end
$$;

select amzmp._expose('amzmp._fail_delivery(bigint, text, text, text)', 'public',
    'Inner: quarantines an order whose delivery failed. Refused to all but the role registered by deliver_orders_to.');

/* ---- the statements that those processes execute ---- */

/*
 * Import one order and write its stock. Rows are taken in SKU order, one by one, and never waited for longer than a
 * fifth of a second, well under the time after which the server looks for deadlocks: the storefront never becomes the
 * victim of one. Whoever gives up gives the whole order back, and the runner tries it again later.
 *
 * Where the shop does not let its stock fall so far (a check constraint, or a function that raises check_violation), all is done
 * once more with each row in a subtransaction, so that it is seen which rows those are. Any other error of the shop's SQL undoes
 * only the stock; the order is imported all the same and put aside.
 */
create function amzmp._statement_import(account_id bigint, subject text, argument jsonb) returns text[]
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select array[format($statement$do $amzmp$
declare
    step record;
    missing text[];
    short text[];
    refused text[];
    apart boolean := false;
    remaining numeric;
    state text;
    message text;
begin
    perform pg_catalog.set_config('lock_timeout', '200ms', true);
    loop
        missing := '{}';
        short := '{}';
        refused := '{}';
        begin
            for step in select sku, quantity from amzmp.begin_import(%1$s, %2$L) loop
                if apart then
                    begin
                        %3$s
                    exception
                        when check_violation then
                            refused := refused || step.sku;
                    end;
                else
                    %3$s
                end if;
            end loop;
            set constraints all immediate;
            exit;
        exception
            when lock_not_available or deadlock_detected or serialization_failure then
                raise;
            when others then
                if sqlstate <> '23514' or apart then
                    get stacked diagnostics state = returned_sqlstate, message = message_text;
                    perform from amzmp.begin_import(%1$s, %2$L);
                    exit;
                end if;
                apart := true;
        end;
    end loop;
    perform amzmp.finish_import(%1$s, %2$L, missing, short, state, message, refused);
end
$amzmp$
$statement$,
        h.account_id, _statement_import.subject,
        case when h.function_name is not null then format('perform %s(step.sku, step.quantity);', h.function_name)
             else format('update %s set %I = %I + step.quantity where %I = step.sku returning %I into remaining;
                if not found then
                    missing := missing || step.sku;
                elsif remaining < 0 and step.quantity < 0 then
                    short := short || step.sku;
                end if;', h.relation_name, h.stock_column, h.stock_column, h.key_column, h.stock_column) end)]
    from amzmp.order_hook h
    where h.account_id = _statement_import.account_id and h.channel_id = 0 and h.kind = 'stock';
$$;

/*
 * Hand one order over. The function runs in a subtransaction together with the mark, and its deferred constraints are
 * checked there: either both hold or neither. An error that passes by itself is left to the runner, which tries again;
 * any other puts the order aside.
 */
create function amzmp._statement_deliver(account_id bigint, subject text, argument jsonb) returns text[]
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select array[format($statement$do $amzmp$
declare
    number text;
    state text;
    message text;
begin
    begin
        if amzmp.begin_delivery(%1$s, %2$L) then
            number := %3$s(%1$s::bigint, %2$L::text);
            set constraints all immediate;
            perform amzmp.finish_delivery(%1$s, %2$L, number);
        end if;
    exception
        when lock_not_available or deadlock_detected or serialization_failure then
            raise;
        when others then
            get stacked diagnostics state = returned_sqlstate, message = message_text;
            perform amzmp.fail_delivery(%1$s, %2$L, state, message);
    end;
end
$amzmp$
$statement$, o.account_id, o.amazon_order_id, h.function_name)]
    from amzmp.orders o
    join amzmp.order_hook h on h.account_id = o.account_id and h.channel_id = o.channel_id and h.kind = 'delivery'
    where o.account_id = _statement_deliver.account_id and o.amazon_order_id = _statement_deliver.subject;
$$;

-- Queue the delivery of these orders, or of all that wait (order_ids null), as far as they are to be delivered.
create function amzmp._queue_deliveries(account_id bigint, order_ids text[] default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    ids alias for $2;
    hook record;
begin
    -- a loop over the few channels that have a function: each has its own statuses and role
    for hook in
        select h.channel_id, h.run_as, amzmp._setting_list(acc, h.channel_id, 'order_statuses') as statuses
          from amzmp.order_hook h
         where h.account_id = acc and h.kind = 'delivery'
    loop
        perform amzmp._add_task(acc, 'deliver', o.amazon_order_id, hook.run_as, now(), '{}')
           from amzmp.orders o
          where o.account_id = acc and (ids is null or o.amazon_order_id = any (ids)) and o.channel_id = hook.channel_id
            and o.import_state = 'imported' and o.delivered_at is null and o.status = any (hook.statuses)
            and not exists (select from amzmp.task t
                             where t.account_id = acc and t.kind = 'deliver' and t.subject = o.amazon_order_id);
    end loop;
end
$$;

/* ---- what people do about orders that wait ---- */

create function amzmp._redeliver(channel text, amazon_order_ids text[] default null, again boolean default false) returns integer
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    target amzmp.channel := amzmp._channel(channel);
    found_ids text[];
    taken text;
begin
    select array_agg(o.amazon_order_id order by o.amazon_order_id),
           min(o.amazon_order_id) filter (where o.delivered_at is not null)
      into found_ids, taken
      from amzmp.orders o
     where o.account_id = target.account_id and o.channel_id = target.channel_id
       and (amazon_order_ids is null and o.import_state = 'quarantined' or o.amazon_order_id = any (amazon_order_ids));
    if taken is not null and not again then
        perform amzmp._fail('AZ203', format('order %s is in the shop already', taken), null,
            'Leave it out, or repeat the call with again => true if the shop really has lost it.');
    end if;
    update amzmp.orders o
       set import_state = 'imported', failure_reason = null, delivered_at = null, delivered_number = null,
           accepted_at = case when o.import_state in ('held_short_stock', 'held_disabled_item') then now() else o.accepted_at end
     where o.account_id = target.account_id and o.amazon_order_id = any (found_ids)
       and o.import_state in ('quarantined', 'delivered', 'held_short_stock', 'held_disabled_item');
    perform amzmp._order_forgiven(target.account_id, found_ids);
    perform amzmp._settle_states(target.account_id, found_ids);
    -- Orders that could not even be read belong to no channel yet: those of the account are tried again.
    perform amzmp._order_forgiven(target.account_id, array(
        select p.amazon_order_id from amzmp.parked_order p
         where p.account_id = target.account_id and p.failed_at is not null
           and (amazon_order_ids is null or p.amazon_order_id = any (amazon_order_ids))));
    perform amzmp._retry_parked(target.account_id, true);
    perform amzmp._queue_imports(target.account_id);
    perform amzmp._queue_deliveries(target.account_id, found_ids);
    return coalesce(cardinality(found_ids), 0);
end
$$;

select amzmp._expose('amzmp._redeliver(text, text[], boolean)', 'amzmp_operator',
    'Tries quarantined orders of a channel again: those named, or all. An order that is held for its stock, or a product not for sale, goes on when it is named. One that the shop has taken is handed over a second time only with again => true. Returns how many.');

-- Note a link and let the orders go on that wait for it.
create function amzmp._link(account_id bigint, amazon_sku text, sku text, linked_by name) returns integer
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    waiting text[];
begin
    insert into amzmp.sku_link (account_id, amazon_sku, sku, linked_by)
    values (account_id, amazon_sku, sku, linked_by)
    on conflict on constraint sku_link_pkey do update
        set sku = excluded.sku, linked_by = excluded.linked_by, linked_at = excluded.linked_at;
    select array_agg(distinct i.amazon_order_id) into waiting
      from amzmp.order_item i
     where i.account_id = _link.account_id and i.sku = amazon_sku and i.shop_sku is null;
    if waiting is not null then
        perform amzmp._queue_imports(account_id, waiting);
    end if;
    perform amzmp._log(account_id, 0, 'info', 'sku', amazon_sku, format('linked to the shop''s %L', sku));
    return coalesce(cardinality(waiting), 0);
end
$$;

create function amzmp._link_item(account text, amazon_sku text, sku text) returns integer
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
begin
    if coalesce(amazon_sku, '') = '' then
        perform amzmp._fail('AZ202', 'the SKU at Amazon is missing', null, 'See amzmp.unknown_item for those that wait.');
    end if;
    if exists (select from amzmp.source s where s.account_id = acc and s.kind = 'product')
        and not exists (select from amzmp.product p where p.account_id = acc and p.sku = _link_item.sku and not p.gone) then
        perform amzmp._fail('AZ202', format('the shop has no SKU %L', sku), null,
            'Name a SKU of an attached source; amzmp.product lists them.');
    end if;
    return amzmp._link(acc, amazon_sku, sku, amzmp._caller());
end
$$;

select amzmp._expose('amzmp._link_item(text, text, text)', 'amzmp_operator',
    'Says which of the shop''s SKUs is meant by a SKU at Amazon, and lets the orders go on that waited for it. Returns how many.');
