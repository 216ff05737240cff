/*
 * observe_look.sql
 *	  When listings are read from Amazon, and how the reading is queued: 20 SKUs a call of searchListingsItems, soon after a
 *	  submission, then ever more seldom; and verify, by which a person asks.
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
