/*
 * listing_leave.sql
 *	  Offers leave Amazon: a listing is deleted, or its offer alone is taken away where Amazon ships it. Either is a request
 *	  and the handler of its answer.
 */

/*
 * Queue the requests by which listings leave: they are deleted, or ended. What Amazon ships has no quantity that we could
 * lower, and deleting the SKU would strand its stock: the offer itself is taken away, and comes back with the next price.
 */
create function amzmp._plan_leaving(account_id bigint, skus text[], finished bigint[], deleted boolean)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    way constant text := case when deleted then '_render_delete' else '_render_end' end;
    call constant text := case when deleted then 'deleteListingsItem' else 'patchListingsItem' end;
begin
    insert into amzmp.request (account_id, operation, priority, render, handler, subject_kind, subject, channel_id, cause)
    select l.account_id, call, 10, way, case when deleted then '_handle_delete' else '_handle_end' end,
        'listing', l.sku, l.channel_id, l.cause
    from amzmp.channel as c
    join amzmp.listing as l using (account_id, channel_id)
    where c.account_id = _plan_leaving.account_id
        and l.sku = any (skus)
        and case when deleted then amzmp._to_delete(l) else amzmp._to_end(l) end
        and not amzmp._penalised(l.account_id, 'publish', l.channel_id, l.sku)
        and not amzmp._leaves_by_feed(l, way)
        and not exists (
            select
            from amzmp.request as r
            where (r.account_id, r.subject_kind, r.subject, r.channel_id) = (l.account_id, 'listing', l.sku, l.channel_id)
                and (r.render = way or r.state <> 'due')
                and r.request_id <> all (finished)
        );
    if found then
        perform amzmp._wake();
        perform amzmp._plan_many(account_id, call);
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
