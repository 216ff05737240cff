/*
 * amazon_stock.sql
 *	  What lies in Amazon's warehouses: the flow get_amazon_stock asks for it, 50 SKUs a call, and notes it in inventory
 *	  under Amazon's fulfillment channel, where it is never sent from.
 *
 * Only SKUs that Amazon ships, or might (fulfillment.sql), are asked for, so the answer never has a second page. Stock
 * within a region is repeated for each marketplace, so one marketplace is asked and nothing is added up. A SKU that is
 * missing in an answer says nothing: Amazon leaves some out now and then.
 */
insert into amzmp.flow (flow, scope, every, on_by_default, capability, title, description)
values ('get_amazon_stock', 'account', '*/15 * * * *', true, 'offers', 'Read Amazon''s stock',
        'Reads what Amazon''s warehouses have of the SKUs that Amazon ships, and switches those with fulfillment switch.');

-- Which of these accounts have SKUs that Amazon ships.
create function amzmp._due_get_amazon_stock(account_ids bigint[])
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
    where exists (select from amzmp.fulfillment as f where f.account_id = a.id and f.policy <> 'merchant')
        or exists (select from amzmp.listing as l where l.account_id = a.id and l.listed and l.fulfillment = 'amazon');
end
$$;

create function amzmp._flow_get_amazon_stock(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    insert into amzmp.request (account_id, operation, priority, params, handler, subject_kind, subject, channel_id, cause)
    select c.account_id, 'getInventorySummaries', 60, jsonb_build_object('granularityType', 'Marketplace',
            'granularityId', c.marketplace_id, 'marketplaceIds', jsonb_build_array(c.marketplace_id), 'details', true,
            'sellerSkus', jsonb_agg(s.sku order by s.sku)),
        '_handle_amazon_stock', 'amazon_stock', min(s.sku), c.channel_id, jsonb_build_object('flow_run', _flow_get_amazon_stock.flow_run_id)
    from (
        select h.account_id, h.channel_id, h.marketplace_id
        from amzmp.channel as h
        where h.account_id = _flow_get_amazon_stock.account_id
            and h.active
            and not h.dropped
        order by h.channel_id
        limit 1
    ) as c
    cross join (
        select k.sku, row_number() over (order by k.sku) - 1 as place
        from (
            select f.sku
            from amzmp.fulfillment as f
            where f.account_id = _flow_get_amazon_stock.account_id
                and f.policy <> 'merchant'
            union
            select l.sku
            from amzmp.listing as l
            where l.account_id = _flow_get_amazon_stock.account_id
                and l.listed
                and l.fulfillment = 'amazon'
        ) as k
    ) as s
    where not exists (
        select
        from amzmp.request as r
        where (r.account_id, r.subject_kind) = (_flow_get_amazon_stock.account_id, 'amazon_stock')
    )
    group by c.account_id, c.channel_id, c.marketplace_id, s.place / 50;
    perform amzmp._wake();
end
$$;

comment on function amzmp._flow_get_amazon_stock(bigint, bigint, bigint) is 'Inner: the flow get_amazon_stock: what Amazon''s warehouses have.';

create function amzmp._handle_amazon_stock(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc constant bigint := (answers[1].request).account_id;
    amazon_now constant timestamptz := amzmp._now(acc);
    skus text[];
begin
    skus := array(
        select distinct e.item ->> 'sellerSku'
        from unnest(answers) as a
        cross join lateral jsonb_path_query(a.body, '$.payload.inventorySummaries[*]') as e (item)
        where a.outcome = 'success'
        order by 1
    );
    perform amzmp._lock_skus(acc, skus);
    insert into amzmp.inventory as i (account_id, sku, fulfillment_channel, observed_quantity, remote_quantity, observed_at)
    select distinct on (e.item ->> 'sellerSku') acc, e.item ->> 'sellerSku', amzmp._amazon_channel(m), q.units, q.units, amazon_now
    from unnest(answers) as a
    join amzmp.channel as c on (c.account_id, c.channel_id) = (acc, (a.request).channel_id)
    join amzmp.marketplace as m using (marketplace_id)
    cross join lateral jsonb_path_query(a.body, '$.payload.inventorySummaries[*]') as e (item)
    cross join lateral (
        select least((e.item #>> '{inventoryDetails,fulfillableQuantity}')::bigint, 2147483647)::integer as units
    ) as q
    where a.outcome = 'success'
        and q.units >= 0
        and (a.request).params -> 'sellerSkus' ? (e.item ->> 'sellerSku')
    order by e.item ->> 'sellerSku', a.answered_at desc
    on conflict (account_id, sku, fulfillment_channel) do update
    set observed_quantity = excluded.observed_quantity,
        remote_quantity = excluded.remote_quantity,
        observed_at = excluded.observed_at;
    perform amzmp._decide_fulfillment(acc, skus);
end
$$;

comment on function amzmp._handle_amazon_stock(amzmp.answer_row[]) is 'Inner: note what Amazon''s warehouses have, and switch what depends on it.';
