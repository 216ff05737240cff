/*
 * reconcile.sql
 *	  Is it really so at Amazon? What Amazon was seen to have against what we expect, and each channel at a glance.
 */

/*
 * An observation made before the last submission says nothing about it, so only later ones are compared.
 */
create view amzmp.drift
    with (security_invoker = true)
as
    select a.name as account, c.name as channel, l.sku, 'price' as facet, l.remote_price as expected,
        l.observed_price as observed, l.observed_at
    from amzmp.listing as l
    join amzmp.account as a using (account_id)
    join amzmp.channel as c using (account_id, channel_id)
    where l.listed
        and l.observed_price is distinct from l.remote_price
        and l.observed_price is not null
        and l.observed_at > coalesce(l.submitted_price_at, '-infinity')
    union all
    select a.name, null, i.sku, 'stock', i.remote_quantity, i.observed_quantity, i.observed_at
    from amzmp.inventory as i
    join amzmp.account as a using (account_id)
    where i.listed
        and i.observed_quantity is distinct from i.remote_quantity
        and i.observed_quantity is not null
        and i.observed_at > coalesce(i.submitted_quantity_at, '-infinity')
        and (i.observed_quantity > i.remote_quantity or i.remote_quantity is null or i.observed_at <= (
                select k.watermark from amzmp.order_cursor as k where k.account_id = i.account_id
            ));

comment on view amzmp.drift is 'Where Amazon was seen to have something else than we expect: changed by hand there, or not applied. Stock that is lower than expected is drift only when orders have been read up to the time of the observation: what sold until then is no drift.';
comment on column amzmp.drift.account is 'Name of the account.';
comment on column amzmp.drift.channel is 'Name of the channel; null for stock, which belongs to the account.';
comment on column amzmp.drift.sku is 'The SKU.';
comment on column amzmp.drift.facet is 'price or stock.';
comment on column amzmp.drift.expected is 'What we expected to be live.';
comment on column amzmp.drift.observed is 'What Amazon showed.';
comment on column amzmp.drift.observed_at is 'When Amazon showed it.';

create view amzmp.dashboard
    with (security_invoker = true)
as
    select a.name as account, c.name as channel, count(l.sku) as listings,
        count(*) filter (where l.state in ('live', 'live_with_issues')) as live,
        count(*) filter (where l.state = 'live_with_issues') as with_issues,
        count(*) filter (where l.state in ('matching', 'queued', 'sent', 'pending')) as under_way,
        count(*) filter (where l.state = 'rejected') as rejected,
        count(*) filter (where l.state in ('deactivated', 'off_sale', 'removed', 'gone')) as ended,
        count(*) filter (where l.price_differs) as price_diff,
        count(*) filter (where i.quantity_differs and l.listed) as stock_diff
    from amzmp.channel as c
    join amzmp.account as a using (account_id)
    left join amzmp.listing as l using (account_id, channel_id)
    left join amzmp.inventory as i
        on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
    where not c.dropped
    group by a.name, c.name;

comment on view amzmp.dashboard is 'Each channel at a glance.';
comment on column amzmp.dashboard.account is 'Name of the account.';
comment on column amzmp.dashboard.channel is 'Name of the channel.';
comment on column amzmp.dashboard.listings is 'SKUs that were ever published here.';
comment on column amzmp.dashboard.live is 'Offers that buyers can see.';
comment on column amzmp.dashboard.with_issues is 'Those of them about which Amazon complains.';
comment on column amzmp.dashboard.under_way is 'Offers whose fate is open.';
comment on column amzmp.dashboard.rejected is 'Offers that Amazon refused or that were not matched.';
comment on column amzmp.dashboard.ended is 'Offers that are no longer for sale.';
comment on column amzmp.dashboard.price_diff is 'Prices still to be sent.';
comment on column amzmp.dashboard.stock_diff is 'Offers whose stock is still to be sent.';
