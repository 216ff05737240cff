/*
 * unpublish.sql
 *	  Offers that are no longer wanted, or wanted again: by unpublish, or stopped by a person, a rule or the shop. What then
 *	  becomes of them at Amazon is in listing_settle.sql.
 */

create function amzmp._unpublish(channel text, skus text[])
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
    reason constant jsonb := jsonb_build_object('role', amzmp._caller(), 'at', now(), 'verb', 'unpublish');
    unknown text;
    leaving text[];
begin
    perform amzmp._check_skus(skus, 'unpublish');
    select string_agg(quote_literal(x.sku), ', ') into unknown
    from (
        select s.sku
        from unnest(skus) as s (sku)
        where not exists (
            select
            from amzmp.listing as l
            where (l.account_id, l.channel_id, l.sku) = (place.account_id, place.channel_id, s.sku)
        )
        order by s.sku
        limit 10
    ) as x;
    if unknown is not null then
        perform amzmp._fail('AZ202', format('never published in channel "%s": %s', channel, unknown), null,
            format('select sku, state from amzmp.offer where channel = %L; shows what was.', channel));
    end if;

    leaving := amzmp._withdraw(place.account_id, place.channel_id, skus, reason, null);
    perform amzmp._recompute(place.account_id, leaving, reason);
    return cardinality(leaving);
end
$$;

select amzmp._expose('amzmp._unpublish(text, text[])', 'amzmp_operator',
    'Stop offering SKUs in a channel. Where other channels still offer a SKU, only this marketplace''s offer is deleted; else its stock is set to 0 or the offer deleted, as the setting on_remove says. Returns how many left.');

/*
 * Offers are no longer wanted in a channel: unpublished, or stopped by somebody. Returns those that were wanted so far.
 */
create function amzmp._withdraw(account_id bigint, channel_id bigint, skus text[], cause jsonb, stopped_by text)
    returns text[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    leaving text[];
begin
    perform amzmp._lock_skus(account_id, skus);
    with left_channel as (
        update amzmp.listing as l
        set wanted = false,
            stopped_by = _withdraw.stopped_by,
            stopped_at = case when _withdraw.stopped_by is not null then now() end,
            cause = _withdraw.cause
        where (l.account_id, l.channel_id) = (_withdraw.account_id, _withdraw.channel_id)
            and l.sku = any (skus)
            and (l.wanted or coalesce(_withdraw.stopped_by, 'person') = 'person' and l.stopped_by is distinct from _withdraw.stopped_by)
        returning l.sku
    )
    select coalesce(array_agg(x.sku order by x.sku), '{}') into leaving from left_channel as x;

    perform amzmp._enter(account_id, array(
            select (l.channel_id, l.sku, 'not_listed', 'taken back before Amazon had it', null)::amzmp.new_state
            from amzmp.listing as l
            where (l.account_id, l.channel_id) = (_withdraw.account_id, _withdraw.channel_id)
                and l.sku = any (leaving)
                and l.state in ('queued', 'matching', 'rejected')
        ));
    perform amzmp._settle_unwanted(account_id, leaving, '{}');
    return leaving;
end
$$;

-- Offers that were stopped are wanted again: what Amazon still has gets its stock back, all else begins anew.
create function amzmp._offer_again(account_id bigint, channel_id bigint, skus text[], cause jsonb)
    returns text[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    back text[];
    anew text[];
begin
    perform amzmp._lock_skus(account_id, skus);
    with again as (
        update amzmp.listing as l
        set wanted = true,
            stopped_by = null,
            stopped_at = null,
            cause = _offer_again.cause,
            state = case when l.listed or l.state = 'sent' then l.state else 'queued' end,
            state_reason = case when l.listed or l.state = 'sent' then l.state_reason else 'asking what Amazon has' end,
            state_at = case when l.listed or l.state = 'sent' then l.state_at else now() end
        where (l.account_id, l.channel_id) = (_offer_again.account_id, _offer_again.channel_id)
            and l.sku = any (skus)
            and not l.wanted
            and l.stopped_by is not null
        returning l.sku, l.state
    )
    select coalesce(array_agg(a.sku order by a.sku), '{}'), coalesce(array_agg(a.sku order by a.sku) filter (where a.state = 'queued'), '{}')
    into back, anew
    from again as a;
    perform amzmp._look(account_id, channel_id, anew, now(), cause);
    return back;
end
$$;

create function amzmp._stop(channel text, skus text[])
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    place constant amzmp.channel := amzmp._channel(channel);
    reason constant jsonb := jsonb_build_object('role', amzmp._caller(), 'at', now(), 'verb', 'stop');
    stopped constant text[] := amzmp._withdraw(place.account_id, place.channel_id, skus, reason, 'person');
begin
    perform amzmp._recompute(place.account_id, stopped, reason);
    return cardinality(stopped);
end
$$;

select amzmp._expose('amzmp._stop(text, text[])', 'amzmp_operator',
    'Stop offers of a channel until a person relists them: no condition and no change in the shop brings them back. Where other channels offer a SKU, this marketplace''s offer is deleted, else its stock goes to 0. Returns how many were not stopped by a person yet.');

create function amzmp._relist(channel text, skus text[])
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    place constant amzmp.channel := amzmp._channel(channel);
    reason constant jsonb := jsonb_build_object('role', amzmp._caller(), 'at', now(), 'verb', 'relist');
    back constant text[] := amzmp._offer_again(place.account_id, place.channel_id, skus, reason);
begin
    perform amzmp._recompute(place.account_id, back, reason);
    return cardinality(back);
end
$$;

select amzmp._expose('amzmp._relist(text, text[])', 'amzmp_operator',
    'Offer again what was stopped, by a person or by a condition; a condition that still holds stops it once more. Returns how many.');
