/*
 * fulfillment_check.sql
 *	  Is a SKU shipped by whom it shall be? What Amazon shows after a publication or a switch, and the view for people.
 */

-- Compare what Amazon shows with what it accepted, once that must have taken effect.
create function amzmp._check_fulfillment(account_id bigint, seen amzmp.seen_listing[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    odd record;
begin
    for odd in
        with shown as (
            select distinct on (s.sku) s.sku, case when s.by_amazon then 'amazon' else 'merchant' end as who
            from unnest(seen) as s
            join amzmp.fulfillment as f on (f.account_id, f.sku) = (_check_fulfillment.account_id, s.sku)
            where s.summary is not null
                and s.seen_at > coalesce(f.submitted_at + amzmp._account_interval(f.account_id, s.channel_id, 'verdict_wait'), '-infinity')
            order by s.sku, s.seen_at desc
        ), noted as (
            update amzmp.fulfillment as f
            set remote = s.who
            from shown as s
            where (f.account_id, f.sku) = (_check_fulfillment.account_id, s.sku)
                and f.in_flight_request is null
                and f.remote is distinct from s.who
            returning f.*
        )
        select n.sku, n.wanted, n.remote, n.submitted_at is not null and n.wanted <> n.remote as ignored, n.wanted = n.remote as mended
        from noted as n
    loop
        if odd.ignored then
            perform amzmp._penalise(account_id, 0, 'fulfillment', odd.sku, 'WRONG_FULFILLMENT',
                format('Amazon shows that the %s ships, wanted is %s', case odd.remote when 'amazon' then 'Amazon' else 'merchant' end, odd.wanted));
        elsif odd.mended then
            perform amzmp._unpenalise(account_id, 0, 'fulfillment', odd.sku);
        end if;
        perform amzmp._share_stock(account_id, array[odd.sku]);
    end loop;
end
$$;

comment on function amzmp._check_fulfillment(bigint, amzmp.seen_listing[]) is 'Inner: is a SKU shipped by whom it shall be?';

create view amzmp.fulfillment_status
    with (security_invoker = true)
as
    select a.name as account, f.sku, f.policy, f.wanted, f.wanted_reason, f.wanted_at, f.remote, f.differs,
        m.observed_quantity as amazon_quantity, m.observed_at as amazon_read_at, i.desired_quantity as own_quantity, f.agreeing
    from amzmp.fulfillment as f
    join amzmp.account as a using (account_id)
    left join amzmp.inventory as i on (i.account_id, i.sku, i.fulfillment_channel) = (f.account_id, f.sku, 'DEFAULT')
    left join lateral (
        select x.observed_quantity, x.observed_at
        from amzmp.inventory as x
        where (x.account_id, x.sku) = (f.account_id, f.sku)
            and x.fulfillment_channel <> 'DEFAULT'
        order by x.observed_at desc nulls last
        limit 1
    ) as m on true;

comment on view amzmp.fulfillment_status is 'Who ships each SKU for which a rule says, who shall, and why.';
comment on column amzmp.fulfillment_status.account is 'Name of the account.';
comment on column amzmp.fulfillment_status.sku is 'The SKU.';
comment on column amzmp.fulfillment_status.policy is 'What the rule says.';
comment on column amzmp.fulfillment_status.wanted is 'Who shall ship it now.';
comment on column amzmp.fulfillment_status.wanted_reason is 'Why.';
comment on column amzmp.fulfillment_status.wanted_at is 'Since when.';
comment on column amzmp.fulfillment_status.remote is 'Who ships it as far as we know.';
comment on column amzmp.fulfillment_status.differs is 'Is there something to send?';
comment on column amzmp.fulfillment_status.amazon_quantity is 'Units in Amazon''s warehouses that can be sold.';
comment on column amzmp.fulfillment_status.amazon_read_at is 'When they were read.';
comment on column amzmp.fulfillment_status.own_quantity is 'Units that the shop itself may offer.';
comment on column amzmp.fulfillment_status.agreeing is 'How many readings in a row ask for a switch.';
