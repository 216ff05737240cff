/*
 * reconcile.sql
 *	  Is it really so at Amazon? What Amazon was seen to have against what we expect.
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
