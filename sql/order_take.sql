/*
 * order_take.sql
 *	  What becomes of the orders in an answer: imported at once, or parked.
 *
 * Whoever applies the answer (an own runner) imports its orders in the same transaction, as one set. They are parked, one
 * sealed row an order, where that cannot be: when the shop's stock is written with each order, which only a process of the
 * shop's role may do; when one of them is parked already; and when the set could not be imported, so that a bad order costs
 * itself alone. What is parked is imported by tasks (order_apply.sql).
 */

-- What each marketplace's orders are compared with: by whom they are to be shipped (null: by either), and since when its channel
-- looks back.
create function amzmp._order_places(account_id bigint, places text[]) returns table (place text, side text, since timestamptz)
    language sql stable parallel safe
    begin atomic
    select p.place,
           nullif(upper(amzmp._setting_text(_order_places.account_id, coalesce(c.channel_id, 0), 'order_fulfillment')), 'ALL'),
           c.created_at - amzmp._setting_interval(_order_places.account_id, 0, 'order_look_back')
      from (select distinct u.place from unnest(_order_places.places) as u (place)) as p
      left join amzmp.channel c on c.account_id = _order_places.account_id and c.marketplace_id = p.place;
    end;

-- Is an order that is not here yet one that the account wants?
create function amzmp._order_comes(placed_at timestamptz, status text, fulfilled_by text, start timestamptz, since timestamptz,
    side text) returns boolean
    language sql immutable parallel safe
    begin atomic
    select (placed_at >= coalesce(start, since, '-infinity')
            or start is null and coalesce(status, '') not in ('SHIPPED', 'CANCELLED', 'UNFULFILLABLE'))
           and (side is null or coalesce(fulfilled_by, side) = side);
    end;

/*
 * The orders of one answer that the account wants. What is older than order_start, fulfilled by the other side, or
 * here already in that version is left out; force keeps the same version too. Without order_start, what was placed before the
 * channel was here and is over is left out as well: another system has sent it and taken its stock, whatever changes of it now.
 */
create function amzmp._wanted_orders(account_id bigint, arrived amzmp.arrived_order[], force boolean) returns amzmp.arrived_order[]
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
    set enable_material = off set jit = off
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    forced alias for $3;
    wanted amzmp.arrived_order[];
    malformed bigint;
    start constant timestamptz := amzmp._setting_timestamp(acc, 0, 'order_start');
begin
    with arrived as materialized (
        -- "select unnest", or each column of each order would be copied
        select u.a, coalesce((u.a).amazon_order_id ~ '^[0-9A-Za-z-]{1,50}$', false) and (u.a).last_updated_at is not null
                    and (u.a).purchased_at is not null as usable
          from (select unnest($2) as a offset 0) as u
    ), place as materialized (
        select p.* from amzmp._order_places(acc, array(select (r.a).marketplace_id from arrived r)) as p
    ), newest as (
        select distinct on (u.id) u.*
          from (select r.a, (r.a).amazon_order_id as id, (r.a).last_updated_at as updated from arrived r where r.usable) as u
         order by u.id, u.updated desc
    )
    select (select array_agg(u.a order by u.id)
              from newest u
              left join place p on p.place is not distinct from (u.a).marketplace_id
              left join lateral (
                    select x.amazon_order_id, x.last_updated_at, x.complete from amzmp.orders x
                     where x.account_id = acc and x.amazon_order_id = u.id offset 0) as o on true
             where (o.amazon_order_id is not null or forced
                    or amzmp._order_comes((u.a).purchased_at, (u.a).status, (u.a).fulfilled_by, start, p.since, p.side))
               and (o.amazon_order_id is null or forced or u.updated > o.last_updated_at
                    or u.updated = o.last_updated_at and (u.a).complete and not o.complete)),
           (select count(*) from arrived r where not r.usable)
      into wanted, malformed;
    if malformed > 0 then
        perform amzmp._log(acc, 0, 'error', 'orders', null,
            format('%s orders without a usable number or time were left out', malformed));
    end if;
    return wanted;
end
$$;

-- Park orders and queue their import. Of two versions the newer one stays. Returns how many were parked.
create function amzmp._park_orders(account_id bigint, wanted amzmp.arrived_order[]) returns integer
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    parked text[];
begin
    with kept as (
        insert into amzmp.parked_order (account_id, amazon_order_id, last_updated_at, complete, sealed)
        select acc, w.amazon_order_id, w.last_updated_at, w.complete,
               amzmp._seal(w.doc, 'order', acc || '/' || w.amazon_order_id)
          from unnest(wanted) as w
         order by w.amazon_order_id
        on conflict (account_id, amazon_order_id) do update
           set last_updated_at = excluded.last_updated_at, complete = excluded.complete, sealed = excluded.sealed,
               parked_at = excluded.parked_at, failed_at = null, failure_reason = null
         where excluded.last_updated_at > parked_order.last_updated_at
            -- one that failed is not tried again because a poll brings the same version once more
            or excluded.last_updated_at = parked_order.last_updated_at and excluded.complete
               and (parked_order.failed_at is null or not parked_order.complete)
        returning amazon_order_id
    )
    select array_agg(k.amazon_order_id) into parked from kept k;
    perform amzmp._queue_imports(acc, parked);
    return coalesce(cardinality(parked), 0);
end
$$;

-- Import orders as they arrived, all or none. False: they are to be parked.
create function amzmp._import_at_once(account_id bigint, wanted amzmp.arrived_order[]) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    ids constant text[] := array(select (u.w).amazon_order_id from (select unnest(wanted) as w offset 0) as u);
begin
    if exists (select from amzmp.order_hook h where h.account_id = acc and h.channel_id = 0 and h.kind = 'stock')
       or exists (select from unnest(ids) as w (id)
                  cross join lateral (
                        select from amzmp.parked_order p where p.account_id = acc and p.amazon_order_id = w.id offset 0) as p)
    then
        return false;
    end if;
    begin
        perform amzmp._settle_orders(acc, ids, false, amzmp._write_orders(acc, wanted, amzmp._lock_orders(acc, ids)));
    exception
        -- whatever it is, it comes again when they are imported one by one, and is told of the order that has it
        when others then
            return false;
    end;
    perform amzmp._notify_orders(acc, ids);
    return true;
end
$$;

-- The orders of one answer. Returns how many were wanted. An account that was dropped meanwhile wants none: its buyers' data has gone.
create function amzmp._take_orders(account_id bigint, arrived amzmp.arrived_order[], force boolean) returns integer
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    dropped constant boolean := exists (
        select from amzmp.account a where a.account_id = $1 and a.state = 'dropped');
    wanted constant amzmp.arrived_order[] := case when not dropped then amzmp._wanted_orders(account_id, arrived, force) end;
begin
    if wanted is not null and not amzmp._import_at_once(account_id, wanted) then
        perform amzmp._park_orders(account_id, wanted);
    end if;
    return coalesce(cardinality(wanted), 0);
end
$$;
