/*
 * template_check.sql
 *	  Is a listing still in the shipping template that it was given? Templates are edited in Seller Central, where their ids
 *	  change with it.
 *
 * Where a rule or a setting names a template, readings ask for the attributes too. A template that is another one than
 * Amazon accepted is what Amazon has from then on: that differs, so the one that is wanted is sent again. Should Amazon not
 * know its id any more, the refusal is a penalty of kind details.
 */

-- Is a shipping template wanted for one of these?
create function amzmp._names_template(account_id bigint, channel_id bigint, skus text[])
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return exists (
        select
        from amzmp.listing as l
        where (l.account_id, l.channel_id) = (_names_template.account_id, _names_template.channel_id)
            and l.sku = any (_names_template.skus)
            and l.desired_details ? 'shipping'
    );
end
$$;

create function amzmp._check_templates(account_id bigint, seen amzmp.seen_listing[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    logged bigint;
begin
    with shown as (
        select s.channel_id, s.sku, s.seen_at, jsonb_path_query_first(s.attributes,
                '$.merchant_shipping_group[*] ? (@.marketplace_id == $here).value', jsonb_build_object('here', c.marketplace_id)) as template
        from unnest(seen) as s
        join amzmp.channel as c on (c.account_id, c.channel_id) = (_check_templates.account_id, s.channel_id)
        where s.attributes is not null
    ), moved as (
        update amzmp.listing as l
        set remote_details = l.remote_details || jsonb_build_object('shipping', s.template)
        from shown as s,
            amzmp.listing as o
        where (o.account_id, o.channel_id, o.sku) = (_check_templates.account_id, s.channel_id, s.sku)
            and (l.account_id, l.channel_id, l.sku) = (o.account_id, o.channel_id, o.sku)
            and s.template <> o.remote_details -> 'shipping'
            and o.in_flight_request is null
            and s.seen_at > coalesce(o.remote_details_at, '-infinity')
                    + amzmp._account_interval(o.account_id, o.channel_id, 'verdict_wait')
        returning l.channel_id, l.sku, s.template #>> '{}' as found, o.remote_details ->> 'shipping' as accepted
    )
    select count(amzmp._log(_check_templates.account_id, m.channel_id, 'warning', 'listing', m.sku,
                format('Amazon has shipping template %s, accepted was %s', m.found, m.accepted)))
    into logged
    from moved as m;
end
$$;

comment on function amzmp._check_templates(bigint, amzmp.seen_listing[]) is 'Inner: shipping templates that are others than Amazon accepted.';
