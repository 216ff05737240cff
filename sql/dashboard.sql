/*
 * dashboard.sql
 *	  Each channel at a glance, and the catalogue's SKUs that are not for sale with the reason. How the figures are kept is
 *	  in figure.sql.
 */
create view amzmp.dashboard
    with (security_invoker = true)
as
    with part as (
        select f.account_id, f.channel_id, f.state, f.in_catalog, f.on_sale, f.complete, f.skus, f.stock, f.on_sale_stock
        from amzmp.figure as f
        join amzmp.figure_channel as k using (account_id, channel_id)
        where k.complete
        union all
        select c.account_id, c.channel_id, u.state, u.in_catalog, u.on_sale, u.lacks = '{}', u.sign, u.sign * u.stock, u.sign * u.on_sale_stock
        from amzmp.channel as c
        cross join lateral amzmp._unsettled_figures(c.account_id, c.channel_id) as u
        where not c.dropped
    ), total as (
        select p.account_id, p.channel_id,
            sum(p.skus) filter (where p.in_catalog) as catalog_skus,
            sum(p.skus) filter (where p.on_sale) as on_sale_skus,
            sum(p.skus) filter (where p.in_catalog and p.complete and not p.on_sale) as missing_skus,
            sum(p.stock) filter (where p.in_catalog) as catalog_stock,
            sum(p.on_sale_stock) as on_sale_stock,
            sum(p.stock) filter (where p.in_catalog and not p.on_sale) as missing_stock,
            sum(p.skus) filter (where p.state <> 'not_listed') as listings,
            sum(p.skus) filter (where p.state in ('live', 'live_with_issues')) as live,
            sum(p.skus) filter (where p.state = 'live_with_issues') as with_issues,
            sum(p.skus) filter (where p.state in ('matching', 'queued', 'sent', 'pending')) as under_way,
            sum(p.skus) filter (where p.state = 'rejected') as rejected,
            sum(p.skus) filter (where p.state in ('deactivated', 'off_sale', 'removed', 'gone')) as ended
        from part as p
        group by p.account_id, p.channel_id
    )
    select a.name as account, c.name as channel, coalesce(t.catalog_skus, 0)::bigint as catalog_skus,
        coalesce(t.on_sale_skus, 0)::bigint as on_sale_skus, coalesce(t.missing_skus, 0)::bigint as missing_skus,
        d.price_diff, coalesce(t.catalog_stock, 0)::bigint as catalog_stock, coalesce(t.on_sale_stock, 0)::bigint as on_sale_stock,
        coalesce(t.missing_stock, 0)::bigint as missing_stock, s.stock_diff, coalesce(t.listings, 0)::bigint as listings,
        coalesce(t.live, 0)::bigint as live, coalesce(t.with_issues, 0)::bigint as with_issues,
        coalesce(t.under_way, 0)::bigint as under_way, coalesce(t.rejected, 0)::bigint as rejected,
        coalesce(t.ended, 0)::bigint as ended
    from amzmp.channel as c
    join amzmp.account as a using (account_id)
    left join total as t using (account_id, channel_id)
    cross join lateral (
        select count(*) as price_diff
        from amzmp.listing as l
        where (l.account_id, l.channel_id) = (c.account_id, c.channel_id)
            and l.price_differs
    ) as d
    cross join lateral (
        select count(*) as stock_diff
        from amzmp.inventory as i
        where i.account_id = c.account_id
            and i.quantity_differs
            and (
                select l.listed
                from amzmp.listing as l
                where (l.account_id, l.channel_id, l.sku) = (i.account_id, c.channel_id, i.sku)
            )
    ) as s
    where not c.dropped;

comment on view amzmp.dashboard is 'Each channel at a glance, as of now: eight figures of catalogue and sale, and offers by state.';
comment on column amzmp.dashboard.account is 'Name of the account.';
comment on column amzmp.dashboard.channel is 'Name of the channel.';
comment on column amzmp.dashboard.catalog_skus is 'Total SKUs in the catalogue: active products of the attached sources.';
comment on column amzmp.dashboard.on_sale_skus is 'SKUs on sale: visible at Amazon, with stock there.';
comment on column amzmp.dashboard.missing_skus is 'SKU difference: in the catalogue with price, stock, category and image (the latter two where the source has them), and not on sale. amzmp.sku_diff names them.';
comment on column amzmp.dashboard.price_diff is 'SKUs whose price in the shop differs from that at Amazon, and is being sent. amzmp.price_diff names them.';
comment on column amzmp.dashboard.catalog_stock is 'Total stock in the catalogue.';
comment on column amzmp.dashboard.on_sale_stock is 'Total stock on sale at Amazon.';
comment on column amzmp.dashboard.missing_stock is 'Stock difference: stock of catalogue products that are not on sale.';
comment on column amzmp.dashboard.stock_diff is 'SKUs whose stock in the shop differs from that at Amazon, and is being sent. amzmp.stock_diff names them.';
comment on column amzmp.dashboard.listings is 'SKUs that were ever published here.';
comment on column amzmp.dashboard.live is 'Offers that Amazon shows.';
comment on column amzmp.dashboard.with_issues is 'Those of them about which Amazon complains.';
comment on column amzmp.dashboard.under_way is 'Offers whose fate is open.';
comment on column amzmp.dashboard.rejected is 'Offers that Amazon refused or that were not matched.';
comment on column amzmp.dashboard.ended is 'Offers that are no longer for sale.';

create view amzmp.sku_diff
    with (security_invoker = true)
as
    -- what was counted, less what of it is not so any more, and what is so now
    with missing as (
        select x.account_id, x.channel_id, x.sku, x.state, x.lacks, x.stock
        from (
            select o.account_id, o.channel_id, o.sku, o.state, o.lacks, o.stock, 1 as sign
            from amzmp.sku_figure as o
            join amzmp.figure_channel as k using (account_id, channel_id)
            where k.complete
                and o.in_catalog
                and not o.on_sale
            union all
            select c.account_id, c.channel_id, u.sku, u.state, u.lacks, u.stock, u.sign
            from amzmp.channel as c
            cross join lateral amzmp._unsettled_figures(c.account_id, c.channel_id) as u
            where not c.dropped
                and u.in_catalog
                and not u.on_sale
        ) as x
        group by x.account_id, x.channel_id, x.sku, x.state, x.lacks, x.stock
        having sum(x.sign) > 0
    )
    select a.name as account, c.name as channel, m.sku,
        case
            when m.lacks <> '{}' then m.lacks
            when m.state = 'not_listed' then '{NOT_PUBLISHED}'
            when not l.wanted then '{STOPPED}'
            when m.state in ('live', 'live_with_issues') then '{NO_STOCK_AT_AMAZON}'
            else array[upper(m.state)]
        end as failing,
        coalesce(l.state_reason, case
            when m.lacks <> '{}' then 'the product is not complete'
            when m.state = 'not_listed' then 'it was never published in this channel'
            when m.state in ('live', 'live_with_issues') then 'Amazon has no stock of it yet'
        end) as reason,
        m.lacks = '{}' as is_complete, m.state, m.stock, m.account_id, m.channel_id
    from missing as m
    join amzmp.account as a using (account_id)
    join amzmp.channel as c using (account_id, channel_id)
    left join amzmp.listing as l using (account_id, channel_id, sku)
    where not c.dropped;

comment on view amzmp.sku_diff is 'SKUs of the catalogue that are not on sale in a channel, with the condition that fails.';
comment on column amzmp.sku_diff.account is 'Name of the account.';
comment on column amzmp.sku_diff.channel is 'Name of the channel.';
comment on column amzmp.sku_diff.sku is 'The SKU.';
comment on column amzmp.sku_diff.failing is 'What fails: NO_PRICE, NO_STOCK, NO_CATEGORY, NO_IMAGE of the product; for a complete one NOT_PUBLISHED, STOPPED, NO_STOCK_AT_AMAZON, or the state of its offer, e.g. REJECTED.';
comment on column amzmp.sku_diff.reason is 'Why, in words.';
comment on column amzmp.sku_diff.is_complete is 'Does it lack nothing, so that it counts for the dashboard''s missing_skus?';
comment on column amzmp.sku_diff.state is 'State of its offer.';
comment on column amzmp.sku_diff.stock is 'Its units in the shop.';
comment on column amzmp.sku_diff.account_id is 'The account.';
comment on column amzmp.sku_diff.channel_id is 'The channel.';
