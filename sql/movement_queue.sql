/*
 * movement_queue.sql
 *	  Movements for a shop that keeps its stock itself: it takes them from a queue, in transactions of its own.
 *
 *		order imported ─▶ movement, its units held ──take_movements──▶ applied, no longer held
 *
 * queue_movements puts a queue where reduce_stock puts a column or a function. A movement is handed out once: the
 * transaction that takes it marks it as applied, so what the shop does with it there holds or falls with that mark.
 */

-- Does the shop take the movements of an account from the queue?
create function amzmp._movements_queued(account_id bigint)
    returns boolean
    language sql
    stable
    parallel safe
begin atomic
    select exists (
            select
            from amzmp.order_hook as h
            where (h.account_id, h.channel_id, h.kind) = (_movements_queued.account_id, 0, 'stock')
                and num_nonnulls(h.function_name, h.relation_name) = 0
        );
end;

create function amzmp._queue_movements(account text, wanted boolean default true)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    acc constant bigint := (amzmp._account(account)).account_id;
begin
    perform amzmp._reduce_stock(account);
    if wanted then
        insert into amzmp.order_hook (account_id, kind, run_as, registered_by)
        values (acc, 'stock', amzmp._caller(), amzmp._caller());
    end if;
end
$$;

select amzmp._expose('amzmp._queue_movements(text, boolean)', 'amzmp_admin',
    'From now on, movements of an account''s orders wait for take_movements, instead of being written into the shop''s stock (reduce_stock, which this ends). False ends it; units of movements that nobody has taken stay held, until they are taken or written after all.');

create function amzmp._take_movements(account text, most integer default 1000)
    returns table (sku text, quantity integer, amazon_order_id text, order_item_id text, revision integer, cause text, moved_at timestamptz)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc constant bigint := (amzmp._account(account)).account_id;
    taken amzmp.movement[];
begin
    if not amzmp._movements_queued(acc) then
        perform amzmp._fail('AZ203', format('the movements of account %L are not queued', account), null,
            format('select amzmp.queue_movements(%L);', account));
    elsif coalesce(most < 1, true) then
        perform amzmp._fail('AZ202', 'at least one movement is taken');
    end if;
    with due as (
        select m.account_id, m.amazon_order_id, m.order_item_id, m.revision
        from amzmp.movement as m
        where m.account_id = acc
            and m.reduces_stock
            and m.applied_at is null
        order by m.at, m.amazon_order_id, m.order_item_id, m.revision
        limit most
        for update skip locked
    ), marked as (
        update amzmp.movement as m
        set applied_at = now()
        from due as d
        where (m.account_id, m.amazon_order_id, m.order_item_id, m.revision)
            = (d.account_id, d.amazon_order_id, d.order_item_id, d.revision)
        returning m
    )
    select coalesce(array_agg(k.m order by (k.m).at, (k.m).amazon_order_id, (k.m).order_item_id, (k.m).revision), '{}')
    into taken
    from marked as k;

    -- the shop's row has that much less now; until it is read again, what was read of it has, too
    update amzmp.product as p
    set quantity = p.quantity + t.quantity
    from (
        select x.sku, sum(x.quantity) as quantity
        from unnest(taken) as x
        group by x.sku
    ) as t
    where (p.account_id, p.sku) = (acc, t.sku)
        and p.quantity is not null;
    if taken <> '{}' then
        perform amzmp._queue_imports(acc, array(select distinct x.amazon_order_id from unnest(taken) as x));
    end if;
    return query
        select x.sku, x.quantity, x.amazon_order_id, x.order_item_id, x.revision, x.cause, x.at
        from unnest(taken) as x;
end
$$;

select amzmp._expose('amzmp._take_movements(text, integer)', 'amzmp_operator',
    'Takes changes of stock from an account''s queue (queue_movements), oldest first: a sale is negative, what comes back positive. Each is handed out once; what the shop does with them in the same transaction holds or falls with that. Two that take at once get different ones.');
