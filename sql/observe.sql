/*
 * observe.sql
 *	  What Amazon is seen to have: read out of its answer and noted. amzmp._handle_read then takes each listing its next step
 *	  (observe_verdict.sql has the states that follow); what is still open is read once more (observe_look.sql).
 */

-- What Amazon says about a listing, taken out of an answer. summary is null where the SKU is not in the marketplace.
create type amzmp.seen_listing as (
    channel_id bigint,
    sku text,
    summary jsonb,
    price numeric,
    quantity integer,
    by_amazon boolean,
    issues jsonb,
    attributes jsonb,
    seen_at timestamptz
);

comment on type amzmp.seen_listing is 'Inner: a listing as Amazon was seen to have it.';

-- The SKUs that a reading request asks for.
create function amzmp._asked_skus(params jsonb)
    returns setof text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select e.sku
    from jsonb_array_elements_text(coalesce(params -> 'identifiers', jsonb_build_array(params -> 'sku'))) as e (sku)
$$;

create function amzmp._seen_listings(answers amzmp.answer_row[])
    returns setof amzmp.seen_listing
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select (a.request).channel_id, q.sku, s.summary,
        (jsonb_path_query_first(i.item,
            '$.offers[*] ? (@.marketplaceId == $here && @.offerType == "B2C").price.amount', h.here) #>> '{}')::numeric,
        jsonb_path_query_first(i.item,
            '$.fulfillmentAvailability[*] ? (@.fulfillmentChannelCode == "DEFAULT").quantity')::integer,
        jsonb_path_exists(i.item, '$.fulfillmentAvailability[*] ? (@.fulfillmentChannelCode starts with "AMAZON")'),
        coalesce(i.item -> 'issues', '[]'), i.item -> 'attributes', a.answered_at
    from unnest(answers) as a
    join amzmp.channel as c on (c.account_id, c.channel_id) = ((a.request).account_id, (a.request).channel_id)
    cross join lateral (select jsonb_build_object('here', c.marketplace_id) as here) as h
    cross join lateral amzmp._asked_skus((a.request).params) as q (sku)
    left join lateral (
        select e.item
        from jsonb_array_elements(coalesce(a.body -> 'items', jsonb_build_array(a.body))) as e (item)
        where e.item ->> 'sku' = q.sku
        limit 1
    ) as i on true
    left join lateral (
        select jsonb_path_query_first(i.item, '$.summaries[*] ? (@.marketplaceId == $here)', h.here) as summary
    ) as s on true
    where a.outcome = 'success'
        or a.outcome = 'refused' and a.status = 404
$$;

create function amzmp._handle_read(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    account_id constant bigint := (answers[1].request).account_id;
    finished constant bigint[] := array(select (a.request).request_id from unnest(answers) as a);
    seen constant amzmp.seen_listing[] := array(select s from amzmp._seen_listings(answers) as s);
    skus constant text[] := array(select distinct s.sku from unnest(seen) as s);
begin
    perform amzmp._lock_skus(account_id, skus);
    perform amzmp._was_read(account_id, answers);
    perform amzmp._observe(account_id, seen);
    perform amzmp._note_seen(account_id, seen);
    perform amzmp._check_fulfillment(account_id, seen);
    perform amzmp._check_templates(account_id, seen);
    perform amzmp._settle_content(account_id, seen, answers);
    perform amzmp._keep_issues(account_id, array(
            select (s.channel_id, s.sku, s.issues, s.seen_at)::amzmp.issue_report from unnest(seen) as s
        ));
    perform amzmp._judge_listings(account_id, seen);
    perform amzmp._look_again(account_id, seen, answers);
    perform amzmp._after_write(account_id, skus, finished);
    perform amzmp._plan_sends(account_id, skus, null, finished);
end
$$;

comment on function amzmp._handle_read(amzmp.answer_row[]) is 'Inner: apply what Amazon was seen to have, and take each listing its next step.';

-- The readings that were due have been made, or were attempted.
create function amzmp._was_read(account_id bigint, answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.listing as l
    set read_due_at = null
    from unnest(answers) as a,
        lateral amzmp._asked_skus((a.request).params) as q (sku)
    where (l.account_id, l.channel_id, l.sku) = (_was_read.account_id, (a.request).channel_id, q.sku)
        and l.read_due_at is not null;

    perform amzmp._end_doubt(_was_read.account_id, (a.request).channel_id,
        array(select q.sku from amzmp._asked_skus((a.request).params) as q (sku)))
    from unnest(answers) as a
    where a.outcome <> 'lost';
end
$$;

/*
 * Note what was seen. What we expect to be live follows it where we never sent anything (the SKU is adopted), and for
 * prices also where the last submission is so old that it must have taken effect. Stock does not: what is missing there
 * may have been sold by orders that are not imported yet.
 */
create function amzmp._observe(account_id bigint, seen amzmp.seen_listing[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    amazon_now constant timestamptz := amzmp._now(account_id);
begin
    update amzmp.listing as l
    set asin = coalesce(s.summary ->> 'asin', l.asin),
        product_type = coalesce(s.summary ->> 'productType', l.product_type),
        fulfillment = case
            when exists (
                select
                from amzmp.fulfillment as f
                where (f.account_id, f.sku) = (l.account_id, l.sku)
                    and (f.in_flight_request is not null
                        or s.seen_at <= f.submitted_at + amzmp._account_interval(l.account_id, l.channel_id, 'verdict_wait'))
            ) then l.fulfillment
            when s.by_amazon then 'amazon'
            else 'merchant'
        end,
        observed_price = s.price,
        observed_at = s.seen_at,
        remote_price = case
            when l.in_flight_request is not null or s.price is null then l.remote_price
            when l.submitted_price_at is null then s.price
            when s.seen_at > l.submitted_price_at
                    + amzmp._account_interval(l.account_id, l.channel_id, 'verdict_wait') then s.price
            else l.remote_price
        end
    from unnest(seen) as s
    where (l.account_id, l.channel_id, l.sku) = (_observe.account_id, s.channel_id, s.sku)
        and s.summary is not null;

    update amzmp.inventory as i
    set observed_quantity = s.quantity,
        observed_at = amazon_now,
        remote_quantity = case
            when i.submitted_quantity_at is null and i.in_flight_request is null then s.quantity
            else i.remote_quantity
        end
    from (
        select distinct on (e.sku) e.sku, e.quantity
        from unnest(seen) as e
        where e.summary is not null
        order by e.sku, e.seen_at desc
    ) as s
    where (i.account_id, i.sku, i.fulfillment_channel) = (_observe.account_id, s.sku, 'DEFAULT');
end
$$;

-- Read once more what is still open, and what could not be read.
create function amzmp._look_again(account_id bigint, seen amzmp.seen_listing[], answers amzmp.answer_row[])
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
        select l.channel_id, array_agg(l.sku order by l.sku) as skus,
            now() + amzmp._read_delay(_look_again.account_id, max(now() - coalesce(l.submitted_price_at, l.state_at))) as at
        from unnest(seen) as s
        join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (_look_again.account_id, s.channel_id, s.sku)
        where l.state = 'pending'
            or l.state = 'deactivated'
            and l.submitted_price_at > now() - amzmp._account_interval(l.account_id, l.channel_id, 'verdict_wait')
        group by l.channel_id
        union all
        select (a.request).channel_id, array_agg(q.sku order by q.sku),
            now() + amzmp._read_delay(_look_again.account_id, interval '20 minutes')
        from unnest(answers) as a
        cross join lateral amzmp._asked_skus((a.request).params) as q (sku)
        where a.outcome <> 'success'
            and not (a.outcome = 'refused' and a.status between 400 and 499)
        group by (a.request).channel_id
    loop
        perform amzmp._look(account_id, again.channel_id, again.skus, again.at, null);
    end loop;
end
$$;
