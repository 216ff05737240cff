/*
 * order_settle.sql
 *	  What follows from an order's rows: the shop's number, items matched, movements, reservations, claims and states.
 */

-- The shop's number of a new order. A format that yields a number twice gives way to Amazon's number.
create function amzmp._new_order_number(account_id bigint, channel_id bigint, amazon_order_id text, marketplace text,
    fulfilled_by text) returns text
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $3;
    number text := amzmp.format_order_number(id, amzmp._setting_text(acc, $2, 'order_number_format'), $4,
                                             amzmp._setting_text(acc, $2, 'order_number_prefix'), $5);
begin
    if exists (select from amzmp.orders o
                where o.account_id = acc and o.order_number = number and o.amazon_order_id <> id) then
        return id;
    end if;
    return number;
end
$$;

/*
 * All of this is a function of the stored state and can be repeated at will. The order is locked first, so that two
 * processes never settle it at once. One order a call and not a set: every lookup is then by a whole primary key, and
 * no plan can go wrong while the tables are young and have no statistics.
 */
create function amzmp._settle_order(account_id bigint, amazon_order_id text, stock_follows boolean) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
    follows alias for $3;
begin
    perform from amzmp.orders o where o.account_id = acc and o.amazon_order_id = id for update;
    if not found then
        return;
    end if;
    perform amzmp._match_items(acc, id);
    perform amzmp._settle_movements(acc, id);
    perform amzmp._settle_reservations(acc, id, follows);
    perform amzmp._settle_claims(acc, id);
    perform amzmp._settle_states(acc, id);
    perform amzmp._settle_shipments(acc, id);
    if not follows then
        perform amzmp._queue_delivery(acc, id);
    end if;
end
$$;

/*
 * Which of the shop's products a line is: what link_item says, else the product of that SKU (or ASIN, by the setting
 * item_key). An account without a source has no products to compare with; there every SKU counts as known.
 */
create function amzmp._match_items(account_id bigint, amazon_order_id text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    update amzmp.order_item i
       set shop_sku = k.sku
      from (select u.amazon_order_id, u.order_item_id,
                   coalesce((select l.sku from amzmp.sku_link l
                              where l.account_id = u.account_id and l.amazon_sku = u.sku),
                            case when amzmp._setting_text(u.account_id, 0, 'item_key') = 'asin'
                                 then (select p.sku from amzmp.product p
                                        where p.account_id = u.account_id and p.asin = u.asin and not p.gone
                                        order by p.sku limit 1)
                                 else (select p.sku from amzmp.product p
                                        where p.account_id = u.account_id and p.sku = u.sku and not p.gone limit 1)
                                 end,
                            case when not exists (select from amzmp.source s where s.account_id = u.account_id)
                                 then u.sku end) as sku
              from amzmp.order_item u
             where u.account_id = _match_items.account_id and u.amazon_order_id = _match_items.amazon_order_id
               and u.shop_sku is null) as k
     where i.account_id = _match_items.account_id and i.amazon_order_id = k.amazon_order_id
       and i.order_item_id = k.order_item_id and k.sku is not null;
end
$$;

-- A line's movements must add up to what its latest state asks for; the difference becomes the next movement.
create function amzmp._settle_movements(account_id bigint, amazon_order_id text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    insert into amzmp.movement (account_id, order_item_id, revision, amazon_order_id, sku, quantity, cause, reduces_stock)
    select i.account_id, i.order_item_id, coalesce(m.revision, 0) + 1, i.amazon_order_id, i.shop_sku,
           -(s.sold + coalesce(m.moved, 0)),
           case when s.sold + coalesce(m.moved, 0) > 0 and m.revision is null then 'sale'
                when s.sold + coalesce(m.moved, 0) < 0 and (o.status = 'CANCELLED' or s.cancelled) then 'cancellation'
                else 'correction' end,
           exists (select from amzmp.order_hook h
                    where h.account_id = i.account_id and h.channel_id = 0 and h.kind = 'stock')
      from amzmp.orders o
      join amzmp.order_item i on i.account_id = o.account_id and i.amazon_order_id = o.amazon_order_id
      cross join lateral (
            select i.cancellation -> 'cancellationExecution' is not null as cancelled,
                   amzmp._sold_units(o.status, o.fulfilled_by, i.quantity_ordered, i.quantity_fulfilled,
                                     i.quantity_unfulfilled, i.cancellation -> 'cancellationExecution' is not null) as sold
           ) as s
      left join lateral (
            select max(x.revision) as revision, sum(x.quantity)::integer as moved
              from amzmp.movement x
             where x.account_id = i.account_id and x.order_item_id = i.order_item_id
           ) as m on true
     where o.account_id = _settle_movements.account_id and o.amazon_order_id = _settle_movements.amazon_order_id
       and i.shop_sku is not null and s.sold + coalesce(m.moved, 0) <> 0
       and (amzmp._status_rank(o.status) is not null or m.revision is null);
end
$$;

/*
 * What is held back from sale for a line: units ordered and not paid; units sold that are still to be written into the
 * shop's stock; and where amzmp does not write it, units sold until the shop has taken the order over (its delivery
 * function ran) or the order is closed. stock_follows: the shop's stock is written next in this very transaction, so
 * that nothing needs to be held for it.
 */
create function amzmp._settle_reservations(account_id bigint, amazon_order_id text, stock_follows boolean) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    with held as materialized (
        select i.account_id, i.amazon_order_id, i.order_item_id, i.shop_sku, o.status, o.delivered_at, i.claimed,
               greatest(0, amzmp._claimed_units(o.status, o.fulfilled_by, i.quantity_ordered, i.quantity_fulfilled,
                                    i.quantity_unfulfilled, i.cancellation -> 'cancellationExecution' is not null)
                           + m.moved)
               + case when stock_follows then 0 else greatest(0, -m.to_apply) end
               + case when o.delivered_at is null and o.status in ('UNSHIPPED', 'PARTIALLY_SHIPPED')
                      then greatest(0, -m.not_ours) else 0 end as quantity
          from amzmp.orders o
          join amzmp.order_item i on i.account_id = o.account_id and i.amazon_order_id = o.amazon_order_id
          cross join lateral (
                select coalesce(sum(x.quantity), 0)::integer as moved,
                       coalesce(sum(x.quantity) filter (where x.reduces_stock and x.applied_at is null), 0)::integer as to_apply,
                       coalesce(sum(x.quantity) filter (where not x.reduces_stock), 0)::integer as not_ours
                  from amzmp.movement x
                 where x.account_id = i.account_id and x.order_item_id = i.order_item_id) as m
         where o.account_id = _settle_reservations.account_id and o.amazon_order_id = _settle_reservations.amazon_order_id
           and i.shop_sku is not null
    ), kept as (
        insert into amzmp.reservation (account_id, amazon_order_id, order_item_id, sku, quantity)
        select h.account_id, h.amazon_order_id, h.order_item_id, h.shop_sku, h.quantity
          from held h where h.quantity > 0
        on conflict (account_id, amazon_order_id, order_item_id) do update
           set quantity = excluded.quantity, sku = excluded.sku, released_at = null, release_cause = null
         where (reservation.quantity, reservation.sku) is distinct from (excluded.quantity, excluded.sku)
            or reservation.released_at is not null
    )
    update amzmp.reservation r
       set released_at = now(),
           release_cause = case when h.status = 'CANCELLED' then 'cancelled'
                                when h.delivered_at is not null then 'delivered'
                                when h.status = 'SHIPPED' then 'shipped' else 'sold' end
      from held h
     where h.quantity = 0 and r.account_id = h.account_id and r.amazon_order_id = h.amazon_order_id
       and r.order_item_id = h.order_item_id and r.released_at is null;
end
$$;

/*
 * Tell the stock side by how many units Amazon has lowered, or raised, what it offers, in SKU order. Where the line is
 * sold under another SKU than the shop's, Amazon has not touched what we offer: there the desired stock is computed
 * anew and sent.
 */
create function amzmp._settle_claims(account_id bigint, amazon_order_id text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
    changes jsonb;
    linked text[];
    step record;
begin
    with noted as (
        update amzmp.order_item i set claimed = c.claimed
          from (select x.amazon_order_id, x.order_item_id, x.claimed as before, o.purchased_at,
                       amzmp._claimed_units(o.status, o.fulfilled_by, x.quantity_ordered, x.quantity_fulfilled,
                           x.quantity_unfulfilled, x.cancellation -> 'cancellationExecution' is not null) as claimed
                  from amzmp.orders o
                  join amzmp.order_item x on x.account_id = o.account_id and x.amazon_order_id = o.amazon_order_id
                 where o.account_id = acc and o.amazon_order_id = id and x.shop_sku is not null) as c
         where i.account_id = acc and i.amazon_order_id = c.amazon_order_id and i.order_item_id = c.order_item_id
           and c.claimed <> c.before
        returning i.shop_sku, i.shop_sku = i.sku as same, c.claimed - c.before as quantity, c.purchased_at
    )
    select jsonb_agg(jsonb_build_object('sku', n.shop_sku, 'quantity', n.quantity, 'at', n.purchased_at))
               filter (where n.same),
           array_agg(distinct n.shop_sku order by n.shop_sku) filter (where not n.same)
      into changes, linked
      from noted n;

    for step in
        select c.at, array_agg(c.sku order by c.sku) as skus, array_agg(c.quantity order by c.sku) as quantities
          from (select r.at, r.sku, sum(r.quantity)::integer as quantity
                  from jsonb_to_recordset(coalesce(changes, '[]')) as r (sku text, quantity integer, at timestamptz)
                 group by r.at, r.sku) as c
         group by c.at order by c.at
    loop
        perform amzmp._stock_moved(acc, step.skus, step.quantities, step.at);
    end loop;
    if linked is not null then
        perform amzmp._recompute(acc, linked, jsonb_build_object('order', id));
    end if;
end
$$;

-- Held while a line is unknown, released by itself when none is any more. A cancelled order is held for nobody.
create function amzmp._settle_states(account_id bigint, amazon_order_id text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
    o amzmp.orders;
    unknown text;
    wanted text;
begin
    select x.* into strict o from amzmp.orders x where x.account_id = acc and x.amazon_order_id = id;
    select string_agg(distinct i.sku, ', ' order by i.sku) filter (where i.shop_sku is null) into unknown
      from amzmp.order_item i where i.account_id = acc and i.amazon_order_id = id;
    wanted := case when unknown is not null and o.status is distinct from 'CANCELLED' then 'held_unknown_item'
                   else 'imported' end;
    if o.import_state not in ('imported', 'held_unknown_item') or o.import_state = wanted then
        return;
    end if;
    update amzmp.orders x set import_state = wanted where x.account_id = acc and x.amazon_order_id = id;
    if wanted = 'imported' then
        perform amzmp._log(acc, o.channel_id, 'info', 'order', id, 'the order is no longer held');
    else
        perform amzmp._log(acc, o.channel_id, 'warning', 'order', id, 'the order is held, the shop does not know ' || unknown);
        perform amzmp._queue_items(acc, i.sku)
           from amzmp.order_item i
           join amzmp.order_hook h on h.account_id = acc and h.channel_id = 0 and h.kind = 'item' and h.automatic
          where i.account_id = acc and i.amazon_order_id = id and i.shop_sku is null;
    end if;
end
$$;
