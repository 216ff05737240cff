/*
 * recompute_retry.sql
 *	  What a recompute means for offers that stand still: rejected ones are tried again when the shop mended what was wrong,
 *	  and an offer for which the shop gives no price or quantity says so.
 */

/*
 * Begin anew with rejected offers whose values have changed, where that may be what they were rejected for.
 */
create function amzmp._try_rejected(account_id bigint, changes amzmp.desired_change[], cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    again record;
begin
    for again in
        with tried as (
            update amzmp.listing as l
            set state = 'queued',
                state_reason = 'changed in the shop, tried again',
                state_at = now()
            from unnest(changes) as c,
                amzmp.penalty as p
            where l.account_id = _try_rejected.account_id
                and l.sku = c.sku
                and c.channel_id in (0, l.channel_id)
                and l.state = 'rejected'
                and l.wanted
                and (p.account_id, p.channel_id, p.kind, p.subject) = (l.account_id, l.channel_id, 'publish', l.sku)
                and p.code = any (case c.facet when 'price' then array['REJECTED', 'NO_PRICE'] else array['NO_STOCK'] end)
            returning l.channel_id, l.sku
        )
        select t.channel_id, array_agg(t.sku order by t.sku) as skus
        from tried as t
        group by t.channel_id
    loop
        perform amzmp._look(account_id, again.channel_id, again.skus, now(), cause);
    end loop;
end
$$;

/*
 * Begin anew with rejected offers that have no catalogue item yet and whose ASIN or barcode the shop has mended.
 */
create function amzmp._try_identified(account_id bigint, skus text[], cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    again record;
begin
    for again in
        with mended as (
            select l.channel_id, l.sku, amzmp._asin(p.asin) as asin, amzmp._gtin(p.ean) as ean
            from amzmp.listing as l
            cross join lateral amzmp._offer_product(l.account_id, l.channel_id, l.sku) as p
            where l.account_id = _try_identified.account_id
                and l.sku = any (_try_identified.skus)
                and l.state = 'rejected'
                and l.wanted
                and l.asin is null
        ), tried as (
            update amzmp.listing as l
            set asin = m.asin,
                ean = m.ean,
                step = null,
                state = 'queued',
                state_reason = 'changed in the shop, tried again',
                state_at = now()
            from mended as m
            where (l.account_id, l.channel_id, l.sku) = (_try_identified.account_id, m.channel_id, m.sku)
                and num_nonnulls(m.asin, m.ean) > 0
                and (m.asin, m.ean) is distinct from (l.asin, l.ean)
            returning l.channel_id, l.sku
        )
        select t.channel_id, array_agg(t.sku order by t.sku) as skus
        from tried as t
        group by t.channel_id
    loop
        perform amzmp._look(account_id, again.channel_id, again.skus, now(), cause);
    end loop;
end
$$;

/*
 * Wanted offers for which the shop gives no price or no quantity that can be sent keep what they have at Amazon. The
 * penalty says why, and ends as soon as the shop gives one. facets: those that prices and stocks say everything about.
 */
create function amzmp._report_incomplete(account_id bigint, skus text[], prices amzmp.offer_price[], stocks amzmp.offer_stock[],
    facets text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    problem record;
begin
    for problem in
        with incomplete as (
            select p.channel_id, p.sku, 'price' as kind, 'NO_PRICE' as code,
                coalesce((p.calc).problem, 'the shop''s price ' || p.given || ' cannot be sent', 'the shop gives no price') as message
            from unnest(prices) as p
            where p.known
                and (p.calc).price is null
                and not amzmp._is_parent(_report_incomplete.account_id, p.sku)
            union all
            select 0, q.sku, 'stock', 'NO_STOCK',
                coalesce('the shop''s stock ' || (q.calc).stock || ' cannot be sent', 'the shop gives no quantity')
            from unnest(stocks) as q
            where q.known
                and (q.calc).available is null
                and not amzmp._is_parent(_report_incomplete.account_id, q.sku)
                and not amzmp._ships_from_amazon(_report_incomplete.account_id, q.sku)
        ), reported as (
            select n.channel_id, n.subject as sku, n.kind, n.code
            from amzmp.penalty as n
            where n.account_id = _report_incomplete.account_id
                and n.subject in (select u.sku from unnest(skus) as u (sku))
                and n.kind = any (facets)
                and n.code in ('NO_PRICE', 'NO_STOCK')
        )
        select channel_id, sku, kind, code, i.message, r.code is null as begins, i.code is null as ends
        from incomplete as i
        full join reported as r using (channel_id, sku, kind, code)
        where i.code is null
            or r.code is null
    loop
        if problem.begins then
            perform amzmp._penalise(account_id, problem.channel_id, problem.kind, problem.sku, problem.code, problem.message);
        else
            perform amzmp._unpenalise(account_id, problem.channel_id, problem.kind, problem.sku);
        end if;
    end loop;
end
$$;
