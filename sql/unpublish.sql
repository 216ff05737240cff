/*
 * unpublish.sql
 *	  Taking offers off: stock 0 or deletion, and what follows from any write or reading for offers that nobody wants.
 *
 * An offer that other channels still sell is deleted in this marketplace alone. The last one goes off sale (its
 * quantity goes to 0 by recompute.sql) or is deleted, as the setting on_remove says.
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
 * Taking offers off.
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
    insert into amzmp.request (account_id, operation, priority, render, handler, subject_kind, subject, channel_id, cause)
    select l.account_id, 'deleteListingsItem', 10, '_render_delete', '_handle_delete', 'listing', l.sku, l.channel_id, l.cause
    from amzmp.channel as c
    join amzmp.listing as l using (account_id, channel_id)
    where c.account_id = _settle_unwanted.account_id
        and l.sku = any (skus)
        and amzmp._to_delete(l)
        and not amzmp._penalised(l.account_id, 'publish', l.channel_id, l.sku)
        and not amzmp._leaves_by_feed(l, '_render_delete')
        and not exists (
            select
            from amzmp.request as r
            where (r.account_id, r.subject_kind, r.subject, r.channel_id) = (l.account_id, 'listing', l.sku, l.channel_id)
                and (r.operation = 'deleteListingsItem' or r.state <> 'due')
                and r.request_id <> all (finished)
        );
    if found then
        perform amzmp._wake();
        perform amzmp._plan_many(account_id, 'deleteListingsItem');
    end if;

    perform amzmp._end_offers(account_id, skus, finished);

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

/*
 * What Amazon ships has no quantity that we could lower, and deleting the SKU would strand its stock: the offer itself is
 * taken away, and comes back with the next price.
 */
create function amzmp._end_offers(account_id bigint, skus text[], finished bigint[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    insert into amzmp.request (account_id, operation, priority, render, handler, subject_kind, subject, channel_id, cause)
    select l.account_id, 'patchListingsItem', 10, '_render_end', '_handle_end', 'listing', l.sku, l.channel_id, l.cause
    from amzmp.channel as c
    join amzmp.listing as l using (account_id, channel_id)
    where c.account_id = _end_offers.account_id
        and l.sku = any (skus)
        and amzmp._to_end(l)
        and not amzmp._penalised(l.account_id, 'publish', l.channel_id, l.sku)
        and not amzmp._leaves_by_feed(l, '_render_end')
        and not exists (
            select
            from amzmp.request as r
            where (r.account_id, r.subject_kind, r.subject, r.channel_id) = (l.account_id, 'listing', l.sku, l.channel_id)
                and (r.render = '_render_end' or r.state <> 'due')
                and r.request_id <> all (finished)
        );
    if found then
        perform amzmp._wake();
        perform amzmp._plan_many(account_id, 'patchListingsItem');
    end if;
end
$$;

-- Is the offer of a listing to be taken away, because Amazon ships it?
create function amzmp._to_end(listing amzmp.listing)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return listing.listed
        and not listing.wanted
        and listing.state <> 'off_sale'
        and listing.fulfillment = 'amazon'
        and not amzmp._to_delete(listing);
end
$$;

/*
 * Listings whose offer goes with these requests, marked as on their way: deleted, or ended (Amazon ships it). One that is
 * wanted again by now has no row.
 */
create function amzmp._mark_leaving(claimed amzmp.request[], deleted boolean)
    returns table (request_id bigint, params jsonb, listing amzmp.listing, place amzmp.marketplace)
    rows 20
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    account constant amzmp.account := (
        select a from amzmp.account as a where a.account_id = claimed[1].account_id
    );
begin
    perform amzmp._lock_skus(account.account_id, array(select r.subject from unnest(claimed) as r));
    return query
    update amzmp.listing as l
    set in_flight_request = r.request_id
    from unnest(claimed) as r,
        amzmp.channel as c,
        amzmp.marketplace as m
    where (l.account_id, l.channel_id, l.sku) = (r.account_id, r.channel_id, r.subject)
        and (c.account_id, c.channel_id) = (l.account_id, l.channel_id)
        and m.marketplace_id = c.marketplace_id
        and case when deleted then amzmp._to_delete(l) else amzmp._to_end(l) end
        and not amzmp._in_flight(l.account_id, l.in_flight_request, array[r.request_id])
    returning r.request_id, amzmp._listing_params(account.seller_id, l.sku, m.marketplace_id, m.language), l, m;
end
$$;

create function amzmp._render_end(claimed amzmp.request[])
    returns table (request_id bigint, params jsonb, body jsonb)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select x.request_id, x.params, jsonb_build_object('productType', 'PRODUCT', 'patches', jsonb_build_array(jsonb_build_object(
                'op', 'delete', 'path', '/attributes/purchasable_offer', 'value', (
                    select jsonb_agg(jsonb_build_object('marketplace_id', (x.place).marketplace_id, 'currency', (x.place).currency,
                            'audience', v.audience))
                    from (
                        values ('ALL'), (case when (x.listing).remote_terms ? 'business' then 'B2B' end)
                    ) as v (audience)
                    where v.audience is not null
                ))))
    from amzmp._mark_leaving(claimed, false) as x;
end
$$;

comment on function amzmp._render_end(amzmp.request[]) is 'Inner: bodies that take offers away which Amazon ships; none where the offer is wanted again.';

create function amzmp._handle_end(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    account_id constant bigint := (answers[1].request).account_id;
    skus constant text[] := array(select distinct (a.request).subject from unnest(answers) as a);
    finished constant bigint[] := array(select (a.request).request_id from unnest(answers) as a);
begin
    perform amzmp._land(account_id, answers);
    update amzmp.listing as l
    set remote_price = null,
        remote_terms = null
    from unnest(answers) as a,
        lateral amzmp._submission_verdict(a) as v
    where (v.accepted or v.unknown)
        and (l.account_id, l.channel_id, l.sku) = ((a.request).account_id, (a.request).channel_id, (a.request).subject);
    perform amzmp._enter(account_id, array(
            select (l.channel_id, l.sku,
                case when v.accepted then 'off_sale' else l.state end,
                case when v.accepted then 'its offer was taken away, the stock stays with Amazon' else format('could not be taken off sale: %s', v.message) end,
                case when not v.accepted then v.code end)::amzmp.new_state
            from unnest(answers) as a
            cross join lateral amzmp._submission_verdict(a) as v
            join amzmp.listing as l
                on (l.account_id, l.channel_id, l.sku)
                    = ((a.request).account_id, (a.request).channel_id, (a.request).subject)
        ));
    perform amzmp._after_write(account_id, skus, finished);
    perform amzmp._plan_sends(account_id, skus, null, finished);
    perform amzmp._overtake_feed(account_id, '_render_end', finished);
end
$$;

comment on function amzmp._handle_end(amzmp.answer_row[]) is 'Inner: apply the answers to requests that take offers away.';

-- Is a listing to be deleted at Amazon?
create function amzmp._to_delete(listing amzmp.listing)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return listing.listed
        and not listing.wanted
        and (
            amzmp._setting_text(listing.account_id, listing.channel_id, 'on_remove') = 'delete'
            or exists (
                select
                from amzmp.channel as c
                join amzmp.listing as l using (account_id, channel_id)
                where c.account_id = listing.account_id
                    and c.channel_id <> listing.channel_id
                    and not c.dropped
                    and l.sku = listing.sku
                    and l.wanted
            )
        );
end
$$;

create function amzmp._render_delete(claimed amzmp.request[])
    returns table (request_id bigint, params jsonb, body jsonb)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select x.request_id, x.params, null::jsonb
    from amzmp._mark_leaving(claimed, true) as x;
end
$$;

comment on function amzmp._render_delete(amzmp.request[]) is 'Inner: parameters of claimed deletions; none where the offer is wanted again.';

create function amzmp._handle_delete(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    account_id constant bigint := (answers[1].request).account_id;
    skus constant text[] := array(select distinct (a.request).subject from unnest(answers) as a);
    finished constant bigint[] := array(select (a.request).request_id from unnest(answers) as a);
begin
    perform amzmp._land(account_id, answers);
    perform amzmp._enter(account_id, array(
            select (l.channel_id, l.sku,
                case when v.accepted or a.status = 404 then 'removed' else l.state end,
                case when v.accepted or a.status = 404 then 'deleted at Amazon' else format('could not be deleted: %s', v.message) end,
                case when not v.accepted and a.status is distinct from 404 then v.code end)::amzmp.new_state
            from unnest(answers) as a
            cross join lateral amzmp._submission_verdict(a) as v
            join amzmp.listing as l
                on (l.account_id, l.channel_id, l.sku)
                    = ((a.request).account_id, (a.request).channel_id, (a.request).subject)
        ));
    perform amzmp._forget_removed(account_id, skus);
    perform amzmp._begin_anew(account_id, answers);
    perform amzmp._after_write(account_id, skus, finished);
    perform amzmp._overtake_feed(account_id, '_render_delete', finished);
end
$$;

comment on function amzmp._handle_delete(amzmp.answer_row[]) is 'Inner: apply the answers to deletions.';

-- What was wanted again while it was being deleted begins anew.
create function amzmp._begin_anew(account_id bigint, answers amzmp.answer_row[])
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
        select l.channel_id, array_agg(l.sku order by l.sku) as skus, (array_agg(l.cause))[1] as cause
        from unnest(answers) as a
        join amzmp.listing as l
            on (l.account_id, l.channel_id, l.sku) = ((a.request).account_id, (a.request).channel_id, (a.request).subject)
        where l.state = 'removed'
            and l.wanted
        group by l.channel_id
    loop
        perform amzmp._enter(account_id, array(
                select (again.channel_id, s.sku, 'queued', 'wanted again while it was deleted, asking what Amazon has', null)::amzmp.new_state
                from unnest(again.skus) as s (sku)
            ));
        perform amzmp._look(account_id, again.channel_id, again.skus, now() + amzmp._read_delay(account_id, '0'), again.cause);
    end loop;
end
$$;

-- Nothing is live any more of what was deleted.
create function amzmp._forget_removed(account_id bigint, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.listing as l
    set remote_price = null,
        remote_terms = null,
        remote_details = null,
        submitted_price = null,
        submitted_price_at = null,
        submitted_price_request = null
    from amzmp.channel as c
    where c.account_id = _forget_removed.account_id
        and (l.account_id, l.channel_id) = (c.account_id, c.channel_id)
        and l.sku = any (skus)
        and l.state = 'removed';
    perform amzmp._forget_content(account_id, skus, true);
end
$$;
