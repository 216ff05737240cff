/*
 * send_answer.sql
 *	  What the answers to writes mean for what Amazon has, and for what is held back.
 */

/*
 * What an answer to put, patch or delete says: accepted, or why not. unknown: it may have taken effect all the same.
 * blamed: the attributes that Amazon finds at fault.
 */
create function amzmp._submission_verdict(answer amzmp.answer_row, out accepted boolean, out unknown boolean,
    out code text, out message text, out blamed text[])
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    first jsonb;
begin
    accepted := answer.outcome = 'success' and coalesce(answer.body ->> 'status', '') = 'ACCEPTED';
    unknown := not accepted and (answer.outcome in ('lost', 'expired') or answer.status is null or answer.status >= 500);
    blamed := '{}';
    if answer.body -> 'issues' <> '[]' then
        select (array_agg(i.issue order by i.position))[1], coalesce(array_agg(n.name) filter (where n.name is not null), '{}')
        into first, blamed
        from amzmp._issues_here(answer.body -> 'issues', null) with ordinality as i (issue, position)
        left join lateral unnest(amzmp._text_array(i.issue -> 'attributeNames')) as n (name) on true
        where i.issue ->> 'severity' = 'ERROR';
    end if;
    if answer.outcome = 'success' then
        code := coalesce(first ->> 'code', answer.body ->> 'status', 'NO_STATUS');
        message := coalesce(first ->> 'message', 'Amazon did not accept the submission');
    else
        code := coalesce(answer.error_code, upper(answer.outcome));
        message := coalesce(answer.error_message, 'the answer was lost');
    end if;
end
$$;

/*
 * Move what was in flight with these requests to submitted (accepted) or back. A value whose fate is unknown makes
 * what Amazon has unknown as well, so that it is sent again whatever the shop wants by then; and once more later, unless
 * it is known that none of it can take effect unseen.
 */
create function amzmp._land(account_id bigint, answers amzmp.answer_row[], unseen boolean default true)
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
    perform amzmp._lock_skus(account_id, array(select (a.request).subject from unnest(answers) as a));
    perform amzmp._note_lag(account_id, answers);

    update amzmp.inventory as i
    set submitted_quantity = case when v.accepted then i.in_flight_quantity else i.submitted_quantity end,
        submitted_quantity_at = case when v.accepted then amazon_now else i.submitted_quantity_at end,
        submitted_quantity_request = case when v.accepted then i.in_flight_request else i.submitted_quantity_request end,
        remote_quantity = case
            when v.accepted then i.in_flight_quantity
            when not v.unknown then i.remote_quantity
        end,
        remote_terms = case
            when v.accepted then coalesce(i.in_flight_terms, i.remote_terms)
            when not v.unknown then i.remote_terms
        end,
        in_flight_quantity = null,
        in_flight_terms = null,
        in_flight_request = null
    from unnest(answers) as a,
        lateral amzmp._submission_verdict(a) as v
    where (i.account_id, i.sku, i.in_flight_request)
            = (_land.account_id, (a.request).subject, (a.request).request_id);

    update amzmp.listing as l
    set submitted_price = case when p.accepted then l.in_flight_price else l.submitted_price end,
        submitted_price_at = case when p.accepted then a.answered_at else l.submitted_price_at end,
        submitted_price_request = case when p.accepted then l.in_flight_request else l.submitted_price_request end,
        remote_price = case
            when p.accepted then l.in_flight_price
            when not p.unknown then l.remote_price
        end,
        remote_terms = case
            when p.accepted then coalesce(l.in_flight_terms, l.remote_terms)
            when not p.unknown then l.remote_terms
        end,
        remote_details_at = case when l.in_flight_details is not null and v.accepted then a.answered_at else l.remote_details_at end,
        remote_details = case
            when l.in_flight_details is null or not v.accepted and not v.unknown then l.remote_details
            when v.accepted then l.in_flight_details
        end,
        in_flight_price = null,
        in_flight_terms = null,
        in_flight_details = null,
        in_flight_request = null
    from unnest(answers) as a,
        lateral amzmp._submission_verdict(a) as v,
        amzmp.listing as before,
        lateral (
            select before.in_flight_price is not null and v.accepted as accepted,
                before.in_flight_price is not null and v.unknown as unknown
        ) as p
    where (before.account_id, before.channel_id, before.sku, before.in_flight_request)
            = (_land.account_id, (a.request).channel_id, (a.request).subject, (a.request).request_id)
        and (l.account_id, l.channel_id, l.sku) = (before.account_id, before.channel_id, before.sku);

    perform amzmp._land_content(account_id, answers);
    perform amzmp._land_fulfillment(account_id, answers);

    -- an earlier attempt may still take effect
    perform amzmp._reassert_later(account_id, array(
            select (a.request).subject
            from unnest(answers) as a,
                lateral amzmp._submission_verdict(a) as v
            where (a.request).in_doubt
                or v.unknown and unseen
        ));
end
$$;

/*
 * Facets that requests carried, as kinds of penalties. A facet failed if its request did, unless the other facet of
 * the same request alone is at fault: then it is neither accepted nor failed, and simply sent again.
 */
create function amzmp._carried(account_id bigint, answers amzmp.answer_row[])
    returns table (kind text, channel_id bigint, sku text, accepted boolean, failed boolean, code text, message text)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    with facet as (
        select 'price' as kind, '{purchasable_offer}'::text[] as own, l.channel_id, l.sku, l.in_flight_request as request_id
        from unnest(answers) as a
        join amzmp.listing as l
            on (l.account_id, l.channel_id, l.sku, l.in_flight_request)
                = (_carried.account_id, (a.request).channel_id, (a.request).subject, (a.request).request_id)
        where l.in_flight_price is not null
        union all
        select 'details', '{condition_type,condition_note,merchant_shipping_group,list_price}', l.channel_id, l.sku, l.in_flight_request
        from unnest(answers) as a
        join amzmp.listing as l
            on (l.account_id, l.channel_id, l.sku, l.in_flight_request)
                = (_carried.account_id, (a.request).channel_id, (a.request).subject, (a.request).request_id)
        where l.in_flight_details is not null
        union all
        select d.facet, array(select jsonb_object_keys(d.in_flight)), d.channel_id, d.sku, d.in_flight_request
        from unnest($2) as a
        join amzmp.listing_content as d
            on (d.account_id, d.channel_id, d.sku, d.in_flight_request)
                = ($1, (a.request).channel_id, (a.request).subject, (a.request).request_id)
        union all
        select 'fulfillment', '{fulfillment_availability}', 0, f.sku, f.in_flight_request
        from unnest($2) as a
        join amzmp.fulfillment as f
            on (f.account_id, f.sku, f.in_flight_request) = ($1, (a.request).subject, (a.request).request_id)
        union all
        select 'stock', '{fulfillment_availability}', 0, i.sku, i.in_flight_request
        from unnest(answers) as a
        join amzmp.inventory as i
            on (i.account_id, i.sku, i.in_flight_request) = (_carried.account_id, (a.request).subject, (a.request).request_id)
    ), paired as (
        select f.*, o.attributes
        from facet as f
        cross join lateral (
            select array_agg(n.name) as attributes
            from facet as x
            cross join lateral unnest(x.own) as n (name)
            where x.request_id = f.request_id
        ) as o
    )
    select p.kind, p.channel_id, p.sku, v.accepted,
        not v.accepted and (p.own && v.blamed or not p.attributes && v.blamed), v.code, v.message
    from unnest(answers) as a
    cross join lateral amzmp._submission_verdict(a) as v
    join paired as p on p.request_id = (a.request).request_id;
end
$$;

-- Hold back what failed, and lift penalties from what went through.
create function amzmp._judge_facets(account_id bigint, answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    facet record;
begin
    for facet in
        select f.*
        from amzmp._carried(_judge_facets.account_id, answers) as f
        where f.failed
            or f.accepted and exists (
                select
                from amzmp.penalty as p
                where (p.account_id, p.kind, p.channel_id, p.subject)
                        = (_judge_facets.account_id, f.kind, f.channel_id, f.sku)
            )
    loop
        if facet.accepted then
            perform amzmp._unpenalise(account_id, facet.channel_id, facet.kind, facet.sku);
        else
            perform amzmp._penalise(account_id, facet.channel_id, facet.kind, facet.sku, facet.code, facet.message);
        end if;
    end loop;
end
$$;

create function amzmp._handle_patch(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    account_id constant bigint := (answers[1].request).account_id;
    skus constant text[] := array(select distinct (a.request).subject from unnest(answers) as a);
    finished constant bigint[] := array(select (a.request).request_id from unnest(answers) as a);
begin
    perform amzmp._judge_facets(account_id, answers);
    perform amzmp._land(account_id, answers);
    perform amzmp._keep_issues(account_id, array(
            select ((a.request).channel_id, (a.request).subject, a.body -> 'issues', a.answered_at)::amzmp.issue_report
            from unnest(answers) as a
            where a.outcome = 'success'
                and jsonb_array_length(coalesce(a.body -> 'issues', '[]')) > 0
        ));
    perform amzmp._after_write(account_id, skus, finished);
    perform amzmp._plan_sends(account_id, amzmp._still_differing(account_id, skus), null, finished);
end
$$;

comment on function amzmp._handle_patch(amzmp.answer_row[]) is 'Inner: apply the answers to PATCH requests and plan what changed meanwhile.';
