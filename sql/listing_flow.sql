/*
 * listing_flow.sql
 *	  The repeating flows of listings. Each is a query over what differs or fell between two steps; none of them is
 *	  needed for a change to be sent, they are there for what was lost on the way.
 */

-- Begin anew with what failed for a reason that may be gone by now: its penalty ended, or was released. Returns the SKUs;
-- what Amazon has of them is asked first.
create function amzmp._retry_rejected(account_id bigint, channel_id bigint)
    returns text[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    begun text[];
begin
    with again as (
        select l.sku
        from amzmp.listing as l
        left join amzmp.penalty as p
            on (p.account_id, p.channel_id, p.kind, p.subject) = (l.account_id, l.channel_id, 'publish', l.sku)
        where (l.account_id, l.channel_id) = (_retry_rejected.account_id, _retry_rejected.channel_id)
            and l.state = 'rejected'
            and l.wanted
            and (p.subject is null or not p.gave_up and p.until <= now())
    ), tried as (
        update amzmp.listing as l
        set state = 'queued',
            state_reason = 'tried again',
            state_at = now()
        from again as g
        where (l.account_id, l.channel_id, l.sku) = (_retry_rejected.account_id, _retry_rejected.channel_id, g.sku)
        returning l.sku
    )
    select array(select t.sku from tried as t order by t.sku) into begun;
    return begun;
end
$$;

-- In which channels of these accounts something is between two steps.
create function amzmp._due_send_products(account_ids bigint[])
    returns table (account_id bigint, channel_id bigint)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select c.account_id, c.channel_id
    from unnest(account_ids) as a (id)
    join amzmp.channel as c
        on c.account_id = a.id
    where exists (
        select
        from amzmp.listing as l
        where (l.account_id, l.channel_id) = (c.account_id, c.channel_id)
            and (l.state in ('queued', 'rejected') and l.wanted
                or l.state in ('queued', 'pending') and l.read_due_at < now() - interval '10 minutes')
    );
end
$$;

create function amzmp._flow_send_products(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    cause constant jsonb := jsonb_build_object('flow_run', flow_run_id);
    begun text[];
    stale text[];
begin
    perform amzmp._plan_puts(account_id, channel_id, array(
            select l.sku
            from amzmp.listing as l
            where (l.account_id, l.channel_id) = (_flow_send_products.account_id, _flow_send_products.channel_id)
                and l.state = 'queued'
                and l.wanted
                and l.read_due_at is null
        ), cause);

    begun := amzmp._retry_rejected(account_id, channel_id);
    select array(
        select b.sku from unnest(begun) as b (sku)
        union
        select l.sku
        from amzmp.listing as l
        where (l.account_id, l.channel_id) = (_flow_send_products.account_id, _flow_send_products.channel_id)
            and l.read_due_at < now() - interval '10 minutes'
            and l.state in ('queued', 'pending')
    ) into stale;
    perform amzmp._look(account_id, channel_id, stale, now(), cause);
end
$$;

comment on function amzmp._flow_send_products(bigint, bigint, bigint) is 'Inner: the flow send_products: whatever fell between two steps of a publication.';

-- Which of these accounts have a price or details to send.
create function amzmp._due_send_updated_product_price(account_ids bigint[])
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
    where exists (select from amzmp.listing as l where l.account_id = a.id and l.price_differs)
        or exists (select from amzmp.listing as l where l.account_id = a.id and l.details_differ)
        or exists (select from amzmp.listing_content as d where d.account_id = a.id and d.differs);
end
$$;

create function amzmp._flow_send_updated_product_price(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._plan_sends(account_id, array(
            select l.sku
            from amzmp.listing as l
            where l.account_id = _flow_send_updated_product_price.account_id
                and _flow_send_updated_product_price.channel_id in (0, l.channel_id)
                and (l.price_differs or l.details_differ)
            union
            select d.sku
            from amzmp.listing_content as d
            where d.account_id = _flow_send_updated_product_price.account_id
                and _flow_send_updated_product_price.channel_id in (0, d.channel_id)
                and d.differs
        ), jsonb_build_object('flow_run', flow_run_id));
end
$$;

comment on function amzmp._flow_send_updated_product_price(bigint, bigint, bigint) is 'Inner: the flow send_updated_product_price: what amzmp.price_diff and details_diff show.';

-- Which of these accounts have stock to send, or something sent that stock may have to overtake.
create function amzmp._due_send_updated_product_stock(account_ids bigint[])
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
    where exists (select from amzmp.inventory as i where i.account_id = a.id and i.quantity_differs)
        or exists (
            select from amzmp.feed_message as m where m.account_id = a.id and (m.result is null or m.result = 'unknown') and m.sku is not null
        )
        or exists (
            select
            from amzmp.request as r
            where (r.account_id, r.operation, r.state) = (a.id, 'patchListingsItem', 'due')
                and r.priority > 20
        );
end
$$;

create function amzmp._flow_send_updated_product_stock(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._plan_sends(account_id, array(
            select i.sku
            from amzmp.inventory as i
            where i.account_id = _flow_send_updated_product_stock.account_id
                and i.quantity_differs
            union
            select o.sku
            from amzmp._overtaking_skus(_flow_send_updated_product_stock.account_id) as o (sku)
        ), jsonb_build_object('flow_run', flow_run_id));
    perform amzmp._age_requests(account_id);
end
$$;

comment on function amzmp._flow_send_updated_product_stock(bigint, bigint, bigint) is 'Inner: the flow send_updated_product_stock: what amzmp.stock_diff shows.';

-- Which of these accounts may have offers to take away.
create function amzmp._due_send_delete_products(account_ids bigint[])
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
    where exists (select from amzmp.listing as l where l.account_id = a.id and l.listed and not l.wanted)
        or exists (
            select
            from amzmp.channel as c
            where c.account_id = a.id
                and not c.dropped
                and amzmp._setting_text(c.account_id, c.channel_id, 'on_remove') = 'delete'
        )
        and exists (select from amzmp.product as p where p.account_id = a.id and p.gone);
end
$$;

/*
 * Products that left the shop have quantity 0 at Amazon by recompute, once the brake let it pass. Where on_remove says
 * so their offers are deleted here.
 */
create function amzmp._flow_send_delete_products(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    left_shop text[];
begin
    with gone as (
        update amzmp.listing as l
        set wanted = false,
            cause = jsonb_build_object('flow_run', flow_run_id)
        from amzmp.inventory as i
        where l.account_id = _flow_send_delete_products.account_id
            and _flow_send_delete_products.channel_id in (0, l.channel_id)
            and l.listed
            and l.wanted
            and (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
            and i.desired_quantity = 0
            and amzmp._setting_text(l.account_id, l.channel_id, 'on_remove') = 'delete'
            and exists (
                select from amzmp.product as p where (p.account_id, p.sku) = (l.account_id, l.sku) and p.gone
            )
            and not exists (
                select
                from amzmp.product as p
                join amzmp.source as s using (account_id, source_id)
                where (p.account_id, p.sku) = (l.account_id, l.sku)
                    and s.channel_id in (0, l.channel_id)
                    and not p.gone
            )
        returning l.sku
    )
    select array(
        select g.sku from gone as g
        union
        select l.sku
        from amzmp.listing as l
        where l.account_id = _flow_send_delete_products.account_id
            and l.listed
            and not l.wanted
    ) into left_shop;
    perform amzmp._settle_unwanted(account_id, left_shop, '{}');
    perform amzmp._overtake_feed(account_id, '_render_delete');
    perform amzmp._overtake_feed(account_id, '_render_end');
end
$$;

comment on function amzmp._flow_send_delete_products(bigint, bigint, bigint) is 'Inner: the flow send_delete_products: offers of products that left the shop.';
