/*
 * observe.sql
 *	  What Amazon is seen to have, and the state of a listing that follows from it.
 *
 * Reading goes through searchListingsItems, 20 SKUs a call. amzmp._look queues it, amzmp._handle_read notes what was
 * seen and takes each listing its next step; amzmp._enter is the one place where a listing changes its state.
 */

/*
 * Set the state of listings with the reason for it, and log what did not come out as wanted.
 */
create type amzmp.new_state as (channel_id bigint, sku text, state text, reason text, code text);

comment on type amzmp.new_state is 'Inner: a state that a listing enters. code: why it failed, for amzmp.penalty; null where it did not.';

create function amzmp._enter(account_id bigint, states amzmp.new_state[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    failure amzmp.new_state;
begin
    perform amzmp._notify_listings(_enter.account_id, array_agg(s.channel_id), array_agg(s.sku), array_agg(s.state))
    from unnest(states) as s
    join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (_enter.account_id, s.channel_id, s.sku) and l.state <> s.state;

    update amzmp.listing as l
    set state = s.state,
        state_reason = s.reason,
        state_at = case when l.state = s.state then l.state_at else now() end
    from unnest(states) as s
    where (l.account_id, l.channel_id, l.sku) = (_enter.account_id, s.channel_id, s.sku)
        and (l.state, l.state_reason) is distinct from (s.state, s.reason);

    perform amzmp._share_stock(account_id, array(select s.sku from unnest(states) as s));

    foreach failure in array array(select s from unnest(states) as s where s.code is not null)
    loop
        perform amzmp._penalise(account_id, failure.channel_id, 'publish', failure.sku, failure.code, failure.reason);
    end loop;

    -- what is on its way once more may fail once more; only what came out well is forgiven
    delete from amzmp.penalty as p
    using unnest(states) as s
    where (p.account_id, p.channel_id, p.kind, p.subject) = (_enter.account_id, s.channel_id, 'publish', s.sku)
        and s.code is null
        and s.state not in ('queued', 'matching', 'sent', 'pending');
end
$$;

-- Stock can be sent while an offer that the merchant ships is listed in any channel. What was live is forgotten with
-- the last one.
create function amzmp._share_stock(account_id bigint, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.inventory as i
    set listed = s.listed,
        remote_quantity = case when s.listed then i.remote_quantity end,
        remote_terms = case when s.listed then i.remote_terms end,
        submitted_quantity_at = case when s.listed then i.submitted_quantity_at end
    from (
        select k.sku, exists (
                select
                from amzmp.channel as c
                join amzmp.listing as l using (account_id, channel_id)
                where c.account_id = _share_stock.account_id
                    and l.sku = k.sku
                    and l.listed
                    and not l.is_parent
                    and (l.step is null or l.step = 'stock')
                    and l.fulfillment = 'merchant'
            ) as listed
        from (select distinct u.sku from unnest(_share_stock.skus) as u (sku)) as k
    ) as s
    where (i.account_id, i.sku, i.fulfillment_channel) = (_share_stock.account_id, s.sku, 'DEFAULT')
        and i.listed is distinct from s.listed;
end
$$;

/*
 * Reading.
 */

-- Amazon takes a while; ask soon at first, then ever more seldom. age: since the submission. A mock account's hours
-- may pass faster.
create function amzmp._read_delay(account_id bigint, age interval)
    returns interval
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select greatest(interval '5 seconds' / a.time_scale::double precision, interval '0.2 seconds',
        least($2 / 2, interval '10 minutes' / a.time_scale::double precision))
    from amzmp.account as a
    where a.account_id = $1
$$;

create function amzmp._account_interval(account_id bigint, channel_id bigint, setting text)
    returns interval
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select amzmp._setting_interval($1, $2, $3) / a.time_scale::double precision
    from amzmp.account as a
    where a.account_id = $1
$$;

/*
 * Queue the reading of SKUs of a channel, 20 a call. A SKU with a comma cannot stand in a list and is asked for alone.
 * Requests that wait for about the same time are filled up first.
 */
create function amzmp._look(account_id bigint, channel_id bigint, skus text[], not_before timestamptz, cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    rest text[] := array(select s.sku from unnest(skus) as s (sku) where s.sku !~ ',' order by s.sku);
    with_attributes constant boolean := amzmp._wants_attributes(account_id, channel_id, skus);
    waiting record;
begin
    if skus = '{}' then
        return;
    end if;
    update amzmp.listing as l
    set read_due_at = _look.not_before
    where (l.account_id, l.channel_id) = (_look.account_id, _look.channel_id)
        and l.sku = any (skus);

    for waiting in
        select r.request_id, 20 - jsonb_array_length(r.params -> 'identifiers') as room
        from amzmp.request as r
        where (r.account_id, r.subject_kind, r.subject) = (_look.account_id, 'listings', _look.channel_id::text)
            and r.operation = 'searchListingsItems'
            and r.state = 'due'
            and r.attempt = 0
            and r.not_before > now()
            and abs(extract(epoch from r.not_before - _look.not_before))
                <= greatest(1, extract(epoch from _look.not_before - now()) / 4)
            and jsonb_array_length(r.params -> 'identifiers') < 20
            and (not with_attributes or r.params -> 'includedData' ? 'attributes')
        for no key update skip locked
    loop
        exit when rest = '{}';
        update amzmp.request as r
        set params = jsonb_set(r.params, '{identifiers}', (r.params -> 'identifiers') || to_jsonb(rest[:waiting.room]))
        where (r.account_id, r.request_id) = (_look.account_id, waiting.request_id);
        rest := rest[waiting.room + 1:];
    end loop;

    insert into amzmp.request (account_id, operation, priority, not_before, params, handler, subject_kind, subject,
        channel_id, cause)
    select _look.account_id, b.operation, 60, _look.not_before, b.params || jsonb_build_object(
            'sellerId', a.seller_id, 'marketplaceIds', jsonb_build_array(m.marketplace_id), 'issueLocale', m.language,
            'includedData', '["summaries", "issues", "offers", "fulfillmentAvailability"]'::jsonb
                || case when with_attributes then '["attributes"]'::jsonb else '[]' end),
        '_handle_read', 'listings', _look.channel_id::text, _look.channel_id, _look.cause
    from (
        select 'searchListingsItems' as operation,
            jsonb_build_object('identifiers', jsonb_agg(s.sku order by s.place), 'identifiersType', 'SKU', 'pageSize', 20) as params
        from unnest(rest) with ordinality as s (sku, place)
        group by (s.place - 1) / 20
        union all
        select 'getListingsItem', jsonb_build_object('sku', s.sku)
        from unnest(skus) as s (sku)
        where s.sku ~ ','
    ) as b
    join amzmp.account as a on a.account_id = _look.account_id
    join amzmp.channel as c on (c.account_id, c.channel_id) = (_look.account_id, _look.channel_id)
    join amzmp.marketplace as m using (marketplace_id);
    perform amzmp._wake();
end
$$;

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

-- What Amazon says about the price of an offer that it does not let anybody buy; null where it is not the price.
create function amzmp._price_complaint(seen amzmp.seen_listing, marketplace_id text)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format('%s (%s)', i.issue ->> 'message', i.issue ->> 'code'), '; ')
    from amzmp._issues_here(seen.issues, marketplace_id) as i (issue)
    where seen.summary is not null
        and not coalesce(seen.summary -> 'status' ? 'BUYABLE', false)
        and i.issue ->> 'severity' = 'ERROR'
        and i.issue -> 'categories' ? 'INVALID_PRICE'
$$;

-- Amazon judges a new price of an offer that it had taken off sale.
create function amzmp._new_price_reason()
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select 'a new price was accepted, Amazon''s verdict is awaited'
$$;

/*
 * The state that follows from what was seen. Null where the verdict is still open.
 */
create function amzmp._verdict(listing amzmp.listing, marketplace_id text, seen amzmp.seen_listing)
    returns amzmp.new_state
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    visible constant boolean := coalesce(jsonb_array_length(seen.summary -> 'status'), 0) > 0;
    complaint constant text := amzmp._issue_summary(seen.issues, marketplace_id);
    complaints constant boolean := exists (
        select from amzmp._issues_here(seen.issues, marketplace_id) as i where i ->> 'severity' <> 'INFO'
    );
    priced_out constant text := case when listing.wanted then amzmp._price_complaint(seen, marketplace_id) end;
    late constant boolean := listing.state = 'pending' and listing.verdict_due_at < seen.seen_at;
    state text;
    reason text;
    code text;
begin
    if visible and listing.step is not null then
        return null;    -- there is more to come
    elsif priced_out is not null and listing.state = 'pending' and listing.state_reason = amzmp._new_price_reason() and not late then
        return null;    -- what Amazon said about the price before
    elsif priced_out is not null then
        state := 'deactivated';
        reason := priced_out;
    elsif visible and complaints then
        state := 'live_with_issues';
        reason := coalesce(complaint, 'Amazon has warnings, see amzmp.listing_issue');
    elsif visible then
        state := case when listing.wanted or listing.state <> 'off_sale' then 'live' else 'off_sale' end;
    elsif seen.summary is not null and complaint is not null then
        state := 'rejected';
        reason := complaint;
        code := 'REJECTED';
    elsif late then
        state := 'rejected';
        reason := 'Amazon gave no verdict in time';
        code := 'NO_VERDICT';
    elsif listing.state in ('live', 'live_with_issues') and seen.summary is null then
        state := 'gone';
        reason := 'Amazon no longer has this SKU in the marketplace';
    elsif listing.state in ('live', 'live_with_issues') then
        state := 'off_sale';
        reason := 'Amazon shows it neither as buyable nor as discoverable';
    end if;
    if state is not null then
        return (listing.channel_id, listing.sku, state, reason, code)::amzmp.new_state;
    end if;
    return null;
end
$$;

/*
 * Take each listing that was read to its next state: adopt what Amazon has, make what it has not, keep the verdict.
 */
create function amzmp._judge_listings(account_id bigint, seen amzmp.seen_listing[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    verdicts amzmp.new_state[];
    absent record;
begin
    verdicts := array(
        select case
                when l.state = 'queued' and l.in_flight_request is null and v is null
                    then (l.channel_id, l.sku, 'pending', 'Amazon knows the SKU, its verdict is awaited', null)::amzmp.new_state
                else v
            end
        from unnest(seen) as s
        join amzmp.channel as c on (c.account_id, c.channel_id) = (_judge_listings.account_id, s.channel_id)
        join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (c.account_id, s.channel_id, s.sku)
        cross join lateral amzmp._verdict(l, c.marketplace_id, s) as v
        where l.state not in ('not_listed', 'removed', 'sent', 'matching')
            and (l.state <> 'queued' or s.summary is not null and jsonb_array_length(s.summary -> 'status') > 0)
            and (not v is null or l.state = 'queued')
    );
    perform amzmp._enter(account_id, verdicts);

    update amzmp.listing as l
    set published_at = coalesce(l.published_at, now())
    from unnest(verdicts) as v
    where (l.account_id, l.channel_id, l.sku) = (_judge_listings.account_id, v.channel_id, v.sku)
        and v.state in ('live', 'live_with_issues', 'deactivated', 'pending');

    for absent in
        select l.channel_id, array_agg(l.sku order by l.sku) as skus
        from unnest(seen) as s
        join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (_judge_listings.account_id, s.channel_id, s.sku)
        where l.state = 'queued'
            and l.wanted
        group by l.channel_id
    loop
        perform amzmp._plan_puts(account_id, absent.channel_id, absent.skus);
    end loop;
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

/*
 * Ask Amazon.
 */
create function amzmp._verify(channel text, skus text[] default null)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
    to_read constant text[] := array(
        select l.sku
        from amzmp.listing as l
        where (l.account_id, l.channel_id) = (place.account_id, place.channel_id)
            and (_verify.skus is null and l.listed or l.sku = any (_verify.skus))
    );
begin
    perform amzmp._look(place.account_id, place.channel_id, to_read, now(),
        jsonb_build_object('role', amzmp._caller(), 'at', now(), 'verb', 'verify'));
    return cardinality(to_read);
end
$$;

select amzmp._expose('amzmp._verify(text, text[])', 'amzmp_operator',
    'Read SKUs of a channel (all that Amazon has accepted, if none are named) from Amazon again. Returns how many.');
