/*
 * order_settle.sql
 *	  What follows from orders' rows: items matched, movements, reservations, claims and states.
 *
 * All of this is a function of the stored state and can be repeated at will. Orders are locked first, in the order of their
 * numbers, so that two processes never settle one at once. Each step takes a set of orders and is one statement.
 *
 * Tables that are young have no statistics, and the plans of these statements are made once and kept. So they leave the
 * planner no choice: it goes from order to order ("lateral … offset 0"), looks up rows by a whole key, and updates them by
 * the place where it has found them; else it may read all orders of the account for each.
 */
-- Those of these orders that exist.
create function amzmp._lock_orders(account_id bigint, order_ids text[]) returns text[]
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
    set enable_material = off set jit = off
    as $$
declare
    acc alias for $1;
begin
    -- here and below: the plan for no orders would be made anew each time
    if order_ids = '{}' then
        return order_ids;
    end if;
    return array(
        select o.amazon_order_id
          from (select distinct u.id from unnest(order_ids) as u (id) order by u.id) as w
          cross join lateral (
                select x.amazon_order_id from amzmp.orders x
                 where x.account_id = acc and x.amazon_order_id = w.id for update offset 0) as o);
end
$$;

create function amzmp._settle_orders(account_id bigint, order_ids text[], stock_follows boolean default false,
    fresh amzmp.new_order_line[] default '{}') returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    new_ids constant text[] := array(select distinct f.amazon_order_id from unnest(fresh) as f);
    known constant text[] := amzmp._lock_orders(account_id, array(select unnest(order_ids) except select unnest(new_ids)));
    ids constant text[] := known || new_ids;
begin
    if ids = '{}' then
        return;
    end if;
    if known <> '{}' then
        perform amzmp._match_items(account_id, known);
        perform amzmp._settle_movements(account_id, known);
        perform amzmp._settle_reservations(account_id, known, stock_follows);
        perform amzmp._recompute_taken(account_id, known);
    end if;
    perform amzmp._settle_new_lines(account_id, fresh, stock_follows);
    perform amzmp._settle_claims(account_id, known, fresh);
    perform amzmp._settle_cancellations(account_id,
        known || array(select distinct f.amazon_order_id from unnest(fresh) as f where f.cancels));
    perform amzmp._settle_shipments(account_id, ids);
    if not stock_follows then
        -- without products to compare with, a new order is held for an unknown item or not at all
        perform amzmp._settle_states(account_id, case
            when exists (select from unnest(fresh) as f where f.shop_sku is null)
                or exists (select from amzmp.source s where s.account_id = _settle_orders.account_id and s.kind = 'product')
            then ids else known end);
        perform amzmp._queue_deliveries(account_id, ids);
    end if;
end
$$;

-- Units that the shop took from the queue (movement_queue.sql) are held until here, though its stock is known without them
-- since then: what was computed in between, where the shop changed the row, has them twice.
create function amzmp._recompute_taken(account_id bigint, order_ids text[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    acc alias for $1;
    skus text[];
begin
    if not amzmp._movements_queued(acc) then
        return;
    end if;
    skus := array(
        select distinct r.sku from amzmp.reservation r
         where r.account_id = acc and r.amazon_order_id = any (order_ids) and r.released_at = now());
    if skus <> '{}' then
        perform amzmp._recompute(acc, skus, jsonb_build_object('reason', 'movements taken by the shop'));
    end if;
end
$$;

/*
 * Movements and reservations of new orders: the same as of others (see the next functions), of lines that have moved and
 * hold nothing yet, so that nothing has to be looked up.
 */
create function amzmp._settle_new_lines(account_id bigint, fresh amzmp.new_order_line[], stock_follows boolean) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    acc alias for $1;
    ours boolean := exists (select from amzmp.order_hook h where h.account_id = acc and h.channel_id = 0 and h.kind = 'stock');
begin
    insert into amzmp.movement (account_id, order_item_id, revision, amazon_order_id, sku, quantity, cause, reduces_stock)
    select acc, f.order_item_id, 1, f.amazon_order_id, f.shop_sku, -f.sold, 'sale', ours
      from unnest(fresh) as f
     where f.shop_sku is not null and f.sold > 0;

    insert into amzmp.reservation (account_id, amazon_order_id, order_item_id, sku, quantity)
    select acc, h.amazon_order_id, h.order_item_id, h.shop_sku, h.quantity
      from (select f.*, greatest(0, f.claimed - f.sold)
                        + case when ours and stock_follows or not ours and f.status not in ('UNSHIPPED', 'PARTIALLY_SHIPPED') then 0
                               else f.sold end as quantity
              from unnest(fresh) as f) as h
     where h.shop_sku is not null and h.quantity > 0;
end
$$;

/*
 * Which of the shop's products a line is: what link_item says, else the product of that SKU (or ASIN, by the setting
 * item_key). An account without a source has no products to compare with; there every SKU counts as known. New lines are
 * matched as they are written (order_write.sql); here are those that were not known then.
 */
create function amzmp._match_items(account_id bigint, order_ids text[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
    set enable_material = off set jit = off
    as $$
declare
    acc alias for $1;
    has_source boolean := exists (select from amzmp.source s where s.account_id = acc and s.kind = 'product');
    by_asin boolean := amzmp._setting_text(acc, 0, 'item_key') = 'asin';
begin
    update amzmp.order_item i
       set shop_sku = k.sku
      from (select u.place, amzmp._shop_sku(acc, u.sku, u.asin, has_source, by_asin) as sku
              from unnest(order_ids) as w (id)
              cross join lateral (
                    select x.ctid as place, x.sku, x.asin from amzmp.order_item x
                     where x.account_id = acc and x.amazon_order_id = w.id and x.shop_sku is null offset 0) as u) as k
     where i.ctid = k.place and k.sku is not null;
end
$$;

-- A line's movements must add up to what its latest state asks for; the difference becomes the next movement.
create function amzmp._settle_movements(account_id bigint, order_ids text[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
    set enable_material = off set jit = off
    as $$
declare
    acc alias for $1;
    ours boolean := exists (select from amzmp.order_hook h where h.account_id = acc and h.channel_id = 0 and h.kind = 'stock');
begin
    insert into amzmp.movement (account_id, order_item_id, revision, amazon_order_id, sku, quantity, cause, reduces_stock)
    select acc, i.order_item_id, coalesce(m.revision, 0) + 1, i.amazon_order_id, i.shop_sku,
           -(s.sold + coalesce(m.moved, 0)),
           case when s.sold + coalesce(m.moved, 0) > 0 and m.revision is null then 'sale'
                when s.sold + coalesce(m.moved, 0) < 0 and (o.status = 'CANCELLED' or s.cancelled) then 'cancellation'
                else 'correction' end,
           ours
      from unnest(order_ids) as w (id)
      cross join lateral (
            select x.* from amzmp.orders x where x.account_id = acc and x.amazon_order_id = w.id offset 0) as o
      cross join lateral (
            select x.* from amzmp.order_item x where x.account_id = acc and x.amazon_order_id = w.id offset 0) as i
      cross join lateral (
            select i.cancellation -> 'cancellationExecution' is not null as cancelled,
                   amzmp._sold_units(o.status, o.fulfilled_by, i.quantity_ordered, i.quantity_fulfilled,
                                     i.quantity_unfulfilled, i.cancellation -> 'cancellationExecution' is not null) as sold
           ) as s
      left join lateral (
            select max(x.revision) as revision, sum(x.quantity)::integer as moved
              from amzmp.movement x
             where x.account_id = acc and x.amazon_order_id = w.id and x.order_item_id = i.order_item_id
           ) as m on true
     where i.shop_sku is not null and s.sold + coalesce(m.moved, 0) <> 0
       and (amzmp._status_rank(o.status) is not null or m.revision is null);
end
$$;

/*
 * What is held back from sale for a line: units ordered and not paid; units sold that are still to be written into the
 * shop's stock; and where amzmp does not write it, units sold until the shop has taken the order over (its delivery
 * function ran) or the order is closed. stock_follows: the shop's stock is written next in this very transaction, so
 * that nothing needs to be held for it.
 */
create function amzmp._settle_reservations(account_id bigint, order_ids text[], stock_follows boolean) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
    set enable_material = off set jit = off
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    ids alias for $2;
begin
    with held as materialized (
        select i.amazon_order_id, i.order_item_id, i.shop_sku, o.status, o.delivered_at,
               greatest(0, amzmp._claimed_units(o.status, o.fulfilled_by, i.quantity_ordered, i.quantity_fulfilled,
                                    i.quantity_unfulfilled, i.cancellation -> 'cancellationExecution' is not null)
                           + m.moved)
               + case when stock_follows then 0 else greatest(0, -m.to_apply) end
               + case when o.delivered_at is null and o.status in ('UNSHIPPED', 'PARTIALLY_SHIPPED')
                      then greatest(0, -m.not_ours) else 0 end as quantity
          from unnest(ids) as w (id)
          cross join lateral (
                select x.* from amzmp.orders x where x.account_id = acc and x.amazon_order_id = w.id offset 0) as o
          cross join lateral (
                select x.* from amzmp.order_item x where x.account_id = acc and x.amazon_order_id = w.id offset 0) as i
          cross join lateral (
                select coalesce(sum(x.quantity), 0)::integer as moved,
                       coalesce(sum(x.quantity) filter (where x.reduces_stock and x.applied_at is null), 0)::integer as to_apply,
                       coalesce(sum(x.quantity) filter (where not x.reduces_stock), 0)::integer as not_ours
                  from amzmp.movement x
                 where x.account_id = acc and x.amazon_order_id = w.id and x.order_item_id = i.order_item_id) as m
         where i.shop_sku is not null
    ), kept as (
        insert into amzmp.reservation (account_id, amazon_order_id, order_item_id, sku, quantity)
        select acc, h.amazon_order_id, h.order_item_id, h.shop_sku, h.quantity
          from held h where h.quantity > 0
        on conflict (account_id, amazon_order_id, order_item_id) do update
           set quantity = excluded.quantity, sku = excluded.sku, released_at = null, release_cause = null
         where (reservation.quantity, reservation.sku) is distinct from (excluded.quantity, excluded.sku)
            or reservation.released_at is not null
    )
    update amzmp.reservation r
       set released_at = now(), release_cause = f.cause
      from (select x.place,
                   case when h.status = 'CANCELLED' then 'cancelled'
                        when h.delivered_at is not null then 'delivered'
                        when h.status = 'SHIPPED' then 'shipped' else 'sold' end as cause
              from held h
              cross join lateral (
                    select y.ctid as place from amzmp.reservation y
                     where y.account_id = acc and y.amazon_order_id = h.amazon_order_id and y.order_item_id = h.order_item_id
                       and y.released_at is null offset 0) as x
             where h.quantity = 0) as f
     where r.ctid = f.place;
end
$$;

/*
 * Tell the stock side by how many units Amazon has lowered, or raised, what it offers. Where the line is sold under
 * another SKU than the shop's, Amazon has not touched what we offer: there the desired stock is computed anew and sent.
 * What new orders claim was noted as they were written, and comes along.
 */
create function amzmp._settle_claims(account_id bigint, order_ids text[], fresh amzmp.new_order_line[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    acc alias for $1;
    skus text[];
    quantities integer[];
    times timestamptz[];
    linked text[];
begin
    select array_agg(n.shop_sku) filter (where n.same), array_agg(n.quantity) filter (where n.same),
           array_agg(n.purchased_at) filter (where n.same), array_agg(distinct n.shop_sku) filter (where not n.same)
      into skus, quantities, times, linked
      from (select f.shop_sku, f.same, f.claimed as quantity, f.purchased_at
              from unnest(fresh) as f where f.shop_sku is not null and f.claimed <> 0
            union all
            select c.* from amzmp._note_claims(acc, order_ids) as c) as n;
    if skus is not null and linked is not null then
        -- both at once: another runner may settle orders of the same SKUs
        perform amzmp._lock_skus(acc, skus || linked || array(select b.sibling from amzmp._stock_siblings(acc, skus) as b));
    end if;
    if skus is not null then
        perform amzmp._stock_moved(acc, skus, quantities, times);
    end if;
    if linked is not null then
        perform amzmp._recompute(acc, linked, jsonb_build_object('orders', to_jsonb(order_ids)));
    end if;
end
$$;

-- Write down what lines claim now, and return the differences.
create function amzmp._note_claims(account_id bigint, order_ids text[])
    returns setof amzmp.order_claim
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
    set enable_material = off set jit = off
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    ids alias for $2;
begin
    if ids = '{}' then
        return;
    end if;
    return query
        update amzmp.order_item i set claimed = c.claimed
          from (select x.place, x.claimed as before, o.purchased_at,
                       amzmp._claimed_units(o.status, o.fulfilled_by, x.quantity_ordered, x.quantity_fulfilled,
                           x.quantity_unfulfilled, x.cancellation -> 'cancellationExecution' is not null) as claimed
                  from unnest(ids) as w (id)
                  cross join lateral (
                        select x.* from amzmp.orders x where x.account_id = acc and x.amazon_order_id = w.id offset 0) as o
                  cross join lateral (
                        select y.ctid as place, y.* from amzmp.order_item y
                         where y.account_id = acc and y.amazon_order_id = w.id and y.shop_sku is not null offset 0) as x) as c
         where i.ctid = c.place and c.claimed <> c.before
        returning i.shop_sku, i.shop_sku = i.sku, c.claimed - c.before, c.purchased_at;
end
$$;

/* ---- states ---- */

/*
 * Did the merchant's orders that are to be sent take more than there is? Judged when it first matters, and again while
 * it is so; an order that had enough keeps it, whoever comes after. What is there is what the shop's row says, less what is
 * held for earlier orders; short_skus are those of which the shop was just seen to have less than nothing.
 */
create function amzmp._settle_short(account_id bigint, order_ids text[], short_skus text[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
    set enable_material = off set jit = off
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    ids alias for $2;
begin
    update amzmp.orders o
       set short_stock = s.short
      from (select x.place,
                   bool_or(coalesce(i.shop_sku = any (short_skus), false) or coalesce(p.quantity < h.quantity, false)) as short
              from unnest(ids) as w (id)
              cross join lateral (
                    select y.ctid as place, y.* from amzmp.orders y
                     where y.account_id = acc and y.amazon_order_id = w.id offset 0) as x
              cross join lateral (
                    select x.* from amzmp.order_item x where x.account_id = acc and x.amazon_order_id = w.id offset 0) as i
              left join lateral (
                    select y.quantity from amzmp.source c
                      join amzmp.product y on y.account_id = c.account_id and y.source_id = c.source_id and y.sku = i.shop_sku
                     where c.account_id = acc and not y.gone
                     order by y.quantity limit 1) as p on true
              left join lateral (
                    select coalesce(sum(r.quantity), 0) as quantity
                      from amzmp.reservation r
                     where r.sku = i.shop_sku and r.account_id = acc and r.released_at is null
                       and (r.reserved_at, r.amazon_order_id) <= (
                            coalesce((select own.reserved_at from amzmp.reservation own
                                       where own.account_id = acc and own.amazon_order_id = i.amazon_order_id
                                         and own.order_item_id = i.order_item_id), now()), i.amazon_order_id)) as h on true
             where x.fulfilled_by is distinct from 'AMAZON' and x.status = 'UNSHIPPED' and x.delivered_at is null
               and x.short_stock is distinct from false and i.shop_sku is not null
             group by x.place, x.short_stock) as s
     where o.ctid = s.place and o.short_stock is distinct from s.short;
end
$$;

-- The state that the decision table gives, for orders that are neither delivered nor put aside.
create function amzmp._settle_states(account_id bigint, order_ids text[], short_skus text[] default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
    set enable_material = off set jit = off
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    ids alias for $2;
    has_source boolean := exists (select from amzmp.source s where s.account_id = acc and s.kind = 'product');
    changed amzmp.orders[];
begin
    if ids = '{}' then
        return;
    end if;
    if has_source or short_skus <> '{}' then
        perform amzmp._settle_short(acc, ids, short_skus);
    end if;
    with judged as (
        -- most orders are in the plain case, which needs no look at the table
        select o.place, case when l.item = 'known' and o.short_stock is not true then 'imported'
                                       else amzmp._wanted_state(o.whole, l.item) end as wanted
          from unnest(ids) as w (id)
          cross join lateral (
                select x.ctid as place, x as whole, x.short_stock, x.import_state from amzmp.orders x
                 where x.account_id = acc and x.amazon_order_id = w.id offset 0) as o
          cross join lateral (
                select case when bool_or(i.shop_sku is null) then 'unknown'
                            when has_source
                                 and bool_or(exists (select from amzmp.source s
                                                       join amzmp.product p on p.account_id = s.account_id
                                                                           and p.source_id = s.source_id and p.sku = i.shop_sku
                                                      where s.account_id = acc and not p.gone and not p.active)) then 'disabled'
                            else 'known' end as item
                  from amzmp.order_item i
                 where i.account_id = acc and i.amazon_order_id = w.id) as l
         where o.import_state not in ('quarantined', 'delivered')
    ), moved as (
        update amzmp.orders o set import_state = j.wanted
          from judged j
         where o.ctid = j.place and o.import_state <> j.wanted
        returning o
    )
    select array_agg(m.o) into changed from moved m;
    if changed is not null then
        perform amzmp._state_changed(o) from unnest(changed) as o;
    end if;
end
$$;

-- What the decision table and the shop's settings say of an order.
create function amzmp._wanted_state(o amzmp.orders, item text) returns text
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
declare
    d amzmp.order_decision;
begin
    d := amzmp._order_decision(o.fulfilled_by, o.status, item, case when o.short_stock then 'short' else 'enough' end);
    if d.unless_setting is not null
        and (o.accepted_at is not null or amzmp._setting_text(o.account_id, o.channel_id, d.unless_setting) <> 'hold') then
        return 'imported';
    end if;
    return d.import_state;
end
$$;

-- Say that an order is held, or held no longer, and make products that the shop wants made.
create function amzmp._state_changed(o amzmp.orders) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    if o.import_state = 'imported' then
        perform amzmp._log(o.account_id, o.channel_id, 'info', 'order', o.amazon_order_id, 'the order is no longer held');
        return;
    end if;
    perform amzmp._log(o.account_id, o.channel_id, 'warning', 'order', o.amazon_order_id,
        case o.import_state
            when 'held_unknown_item' then 'the order is held, the shop does not know ' || (
                select string_agg(distinct i.sku, ', ' order by i.sku) from amzmp.order_item i
                 where i.account_id = o.account_id and i.amazon_order_id = o.amazon_order_id and i.shop_sku is null)
            when 'held_short_stock' then 'the order is held, the shop has less than it takes'
            else 'the order is held, the shop does not sell its product at present' end);
    if amzmp._reject(o) then
        return;
    end if;
    if o.import_state = 'held_unknown_item' then
        perform amzmp._queue_items(o.account_id, i.sku)
           from amzmp.order_item i
           join amzmp.order_hook h on h.account_id = o.account_id and h.channel_id = 0 and h.kind = 'item' and h.automatic
          where i.account_id = o.account_id and i.amazon_order_id = o.amazon_order_id and i.shop_sku is null;
    end if;
end
$$;

-- Cancel an order at Amazon that the shop rejects by one of its switches. True if it does.
create function amzmp._reject(o amzmp.orders) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    switch text;
begin
    select d.reject_setting into switch
      from amzmp.order_decision d
     where d.import_state = o.import_state and o.status = any (d.statuses) and d.reject_setting is not null
       and (d.fulfilled_by is null and o.fulfilled_by is distinct from 'AMAZON' or d.fulfilled_by = o.fulfilled_by);
    if switch is null or not amzmp._setting_bool(o.account_id, o.channel_id, switch) then
        return false;
    end if;
    if not exists (select from amzmp.cancellation c where c.account_id = o.account_id and c.amazon_order_id = o.amazon_order_id) then
        perform amzmp._begin_cancellation(o, 'SELLER', amzmp._setting_text(o.account_id, 0, 'cancellation_code'), switch);
    end if;
    return true;
end
$$;
