/*
 * listing_settle.sql
 *	  What follows from any write or reading: the next step of what is unfinished, and the end of what nobody wants.
 *
 * An offer that other channels still sell is deleted in this marketplace alone. The last one goes off sale (its
 * quantity goes to 0 by recompute.sql) or is deleted, as the setting on_remove says. listing_leave.sql has the requests.
 */

/*
 * What follows from any write or reading. Almost all offers are as they should be, and cost no more than being looked at.
 */
create function amzmp._after_write(account_id bigint, skus text[], finished bigint[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    unsettled constant text[] := array(
        select l.sku
        from amzmp.channel as c
        cross join unnest(_after_write.skus) as s (sku)
        cross join lateral (
            select o.sku, o.wanted, o.step, o.state
            from amzmp.listing as o
            where (o.account_id, o.channel_id, o.sku) = (c.account_id, c.channel_id, s.sku)
            offset 0 -- SKU by SKU, see _due_sends
        ) as l
        where c.account_id = _after_write.account_id
            and (not l.wanted or l.step is not null or l.state in ('pending', 'off_sale', 'deactivated'))
    );
    open record;
    back amzmp.new_state[];
begin
    if unsettled = '{}' then
        return;
    end if;
    perform amzmp._settle_unwanted(account_id, unsettled, finished);
    perform amzmp._advance_steps(account_id, unsettled);

    -- An offer that was off sale and got stock again, or had a bad price and got another, waits for Amazon to show it.
    back := array(
        select (l.channel_id, l.sku, 'pending',
            case l.state when 'off_sale' then 'on sale again, Amazon''s verdict is awaited' else amzmp._new_price_reason() end,
            null)::amzmp.new_state
        from amzmp.listing as l
        join amzmp.inventory as i
            on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
        join amzmp.channel as c on (c.account_id, c.channel_id) = (l.account_id, l.channel_id)
        where c.account_id = _after_write.account_id
            and l.sku = any (unsettled)
            and l.wanted
            and (l.state = 'off_sale' and i.remote_quantity > 0 and l.state_reason is not distinct from amzmp._off_sale_reason()
                or l.state = 'off_sale' and l.fulfillment = 'amazon' and l.submitted_price_at > l.state_at
                or l.state = 'deactivated' and l.submitted_price_at > l.state_at)
    );
    perform amzmp._enter(account_id, back);
    update amzmp.listing as l
    set verdict_due_at = now() + amzmp._account_interval(l.account_id, l.channel_id,
            case b.reason when amzmp._new_price_reason() then 'verdict_wait' else 'sent_to_remote' end)
    from unnest(back) as b
    where (l.account_id, l.channel_id, l.sku) = (_after_write.account_id, b.channel_id, b.sku);

    for open in
        select l.channel_id, array_agg(l.sku order by l.sku) as skus
        from amzmp.channel as c
        join amzmp.listing as l using (account_id, channel_id)
        where c.account_id = _after_write.account_id
            and l.sku = any (unsettled)
            and l.state = 'pending'
            and l.read_due_at is null
        group by l.channel_id
    loop
        perform amzmp._look(account_id, open.channel_id, open.skus, now() + amzmp._read_delay(account_id, '0'), null);
    end loop;
end
$$;

create function amzmp._off_sale_reason()
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select 'no channel offers it any more, its stock at Amazon is 0'
$$;

/*
 * Listings that are at Amazon and not wanted: delete them where another channel still sells the SKU or on_remove says
 * so; else their quantity goes to 0 as any other (recompute), and when it is there they are off sale.
 */
create function amzmp._settle_unwanted(account_id bigint, skus text[], finished bigint[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._plan_leaving(account_id, skus, finished, true);
    perform amzmp._plan_leaving(account_id, skus, finished, false);
    perform amzmp._enter(account_id, array(
            select (l.channel_id, l.sku, 'off_sale', amzmp._off_sale_reason(), null)::amzmp.new_state
            from amzmp.channel as c
            join amzmp.listing as l using (account_id, channel_id)
            join amzmp.inventory as i
                on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
            where c.account_id = _settle_unwanted.account_id
                and l.sku = any (skus)
                and l.listed
                and not l.wanted
                and l.state <> 'off_sale'
                and l.fulfillment = 'merchant'
                and i.remote_quantity = 0
                and i.desired_quantity = 0
                and not amzmp._to_delete(l)
        ));
end
$$;
