/*
 * recompute_condition.sql
 *	  The shop's conditions: which offers are made, stopped and taken back by what stands in its rows.
 */

-- Offer what the shop's condition list_if asks for and what nobody has stopped or taken back before.
create function amzmp._list_by_rule(account_id bigint, skus text[], cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place amzmp.channel;
    fresh text[];
    unfit text[];
begin
    if not exists (
        select from amzmp.source_value as v where v.account_id = _list_by_rule.account_id and v.name = 'list_if'
    ) then
        return;
    end if;
    for place in
        select c.*
        from amzmp.channel as c
        join amzmp.account as a using (account_id)
        where c.account_id = _list_by_rule.account_id and c.active and not c.dropped and a.active
    loop
        fresh := array(
            select p.sku
            from amzmp._listing_products(place.account_id, place.channel_id, skus) as p
            where p.extra ->> 'list_if' = 'true'
                and p.extra ->> 'stop_if' is distinct from 'true'
                and p.active is not false
                and not exists (
                    select
                    from amzmp.listing as l
                    where (l.account_id, l.channel_id, l.sku) = (place.account_id, place.channel_id, p.sku)
                )
        );
        unfit := array(select s.sku from unnest(fresh) as s (sku) where not amzmp._is_sku(s.sku));
        if unfit <> '{}' then
            perform amzmp._log(place.account_id, place.channel_id, 'warning', 'listing', case when cardinality(unfit) = 1 then unfit[1] end,
                format('not published, Amazon takes no such SKU: %s',
                    (select string_agg(quote_literal(u.sku), ', ') from unnest(unfit[:10]) as u (sku))));
            fresh := array(select s.sku from unnest(fresh) as s (sku) where amzmp._is_sku(s.sku));
        end if;
        if fresh <> '{}' then
            perform amzmp._want(place, fresh, null, cause || jsonb_build_object('condition', 'list_if'));
            perform amzmp._look(place.account_id, place.channel_id, fresh, now(), cause);
        end if;
    end loop;
end
$$;

create type amzmp.stop_reason as (channel_id bigint, sku text, wanted boolean, listed boolean, reason text);

comment on type amzmp.stop_reason is 'Inner: who wants an offer to be stopped; nobody where reason is null.';

/*
 * Stop offers and take stops back: stop_if and relist_if of the source's values, and rows that are gone or inactive in
 * the channel's own source alone. What a person stopped is none of this function's business.
 */
create function amzmp._stop_by_rule(account_id bigint, skus text[], cause jsonb, decided bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    stops constant amzmp.stop_reason[] := amzmp._stop_reasons(account_id, skus);
    changes amzmp.desired_change[];
    part record;
begin
    changes := array(
        select (s.channel_id, s.sku, 'stop', s.wanted::integer, (s.reason is null)::integer, not s.listed or s.reason is null, null)::amzmp.desired_change
        from unnest(stops) as s
        where s.wanted = (s.reason is not null)
    );
    changes := amzmp._brake(account_id, skus, changes, cause, decided, '{stop}');
    for part in
        select c.channel_id, s.reason, array_agg(c.sku order by c.sku) as skus
        from unnest(changes) as c
        join unnest(stops) as s on (s.channel_id, s.sku) = (c.channel_id, c.sku)
        group by c.channel_id, s.reason
    loop
        if part.reason is null then
            perform amzmp._offer_again(account_id, part.channel_id, part.skus, cause);
        else
            perform amzmp._withdraw(account_id, part.channel_id, part.skus, cause, part.reason);
        end if;
    end loop;
end
$$;

-- Offers that conditions may stop, or have stopped.
create function amzmp._stop_reasons(account_id bigint, skus text[])
    returns amzmp.stop_reason[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if not exists (select from amzmp.source as s where s.account_id = _stop_reasons.account_id and s.channel_id <> 0)
        and not exists (
            select from amzmp.source_value as v
            where v.account_id = _stop_reasons.account_id and v.name = any ('{stop_if,relist_if}')
        )
    then
        return '{}';
    end if;
    return array(
        select (c.channel_id, l.sku, l.wanted, l.listed, case
                when p.off_here then 'shop'
                when p.stop or l.stopped_by = 'rule' and not p.relist then 'rule'
            end)::amzmp.stop_reason
        from amzmp.channel as c
        join amzmp.listing as l using (account_id, channel_id)
        cross join lateral (
            select coalesce(bool_and(r.gone or r.active is false) filter (where s.channel_id <> 0), false) as off_here,
                coalesce(bool_or(r.extra ->> 'stop_if' = 'true'), false) as stop,
                coalesce(bool_and(r.extra ->> 'relist_if' = 'true') filter (where r.extra ? 'relist_if'), true) as relist
            from amzmp.source as s
            join amzmp.product as r on (r.account_id, r.source_id, r.sku) = (s.account_id, s.source_id, l.sku)
            where s.account_id = c.account_id
                and s.channel_id in (0, c.channel_id)
        ) as p
        where c.account_id = _stop_reasons.account_id
            and not c.dropped
            and l.sku = any (_stop_reasons.skus)
            and (l.wanted or l.stopped_by <> 'person')
    );
end
$$;
