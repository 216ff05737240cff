/*
 * send_ageing.sql
 *	  What waits long becomes more urgent, so that nothing waits for ever behind what is.
 *
 * Single calls leave by priority: 10 sold out, 20 less stock, 30 more stock, 40 price, 50 details, 55 content. Once a minute the
 * flow send_updated_product_stock lets those that wait grow old, in quarters of the setting send_patience:
 *
 *		1/4: as urgent as details	2/4: as prices	3/4: as more stock	all: as less stock	twice: see below
 *
 * Of one priority the oldest goes first, so whatever arrives later of the next one does not hold it up any more. Stops alone could:
 * a shop that takes ten thousand offers off sale needs all single calls for half an hour. What has waited twice its
 * patience then goes before them, but only as much as a share of the usage plan (send_old_share), so that stops lose
 * no more than that share by it.
 */

insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'send_patience', 'account', 'interval', 'Patience of what can wait', '"00:30:00"', 1, 86400,
        'Whatever waited this long for its single call is as urgent as stock that falls; each quarter of it lifts it a class.'),
    (true, 'send_old_share', 'account', 'integer', 'Share of what is old', '20', 0, 50,
        'Per cent of the single calls that go to what waited twice its patience, even while offers are to be stopped.');

-- The least urgent class in which a request may be that is so old.
create function amzmp._aged_priority(age interval, patience interval)
    returns smallint
    language sql
    immutable
    parallel safe
begin atomic
    select case
            when age >= patience then 20
            when age >= 0.75 * patience then 30
            when age >= 0.5 * patience then 40
            when age >= 0.25 * patience then 50
            else 32767
        end::smallint;
end;

-- Returns how many became more urgent.
create function amzmp._age_requests(account_id bigint)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    patience constant interval := amzmp._account_interval(account_id, 0, 'send_patience');
    hurried bigint;
begin
    update amzmp.request as r
    set priority = old.priority
    from (
        -- one that is locked is being claimed
        select q.request_id, amzmp._aged_priority(now() - q.created_at, patience) as priority
        from amzmp.request as q
        where (q.account_id, q.operation, q.state) = (_age_requests.account_id, 'patchListingsItem', 'due')
            and q.priority > 20
            and q.priority > amzmp._aged_priority(now() - q.created_at, patience)
        for update skip locked
    ) as old
    where (r.account_id, r.request_id) = (_age_requests.account_id, old.request_id);
    get diagnostics hurried = row_count;
    return hurried + amzmp._let_old_pass(account_id, 2 * patience);
end
$$;

-- Let the oldest of what waits so long go before stops, as many as their share of a minute is. Where nothing is stopped they
-- are next anyway.
create function amzmp._let_old_pass(account_id bigint, patience interval)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    share constant double precision := (
        select amzmp._setting_int(a.account_id, 0, 'send_old_share') / 100.0 * 60 / a.time_scale
        from amzmp.account as a
        where a.account_id = _let_old_pass.account_id
    );
    room bigint := greatest(1, least(amzmp._patch_rate(account_id) * share, 100000));
    passed bigint;
begin
    if share = 0 then
        return 0;
    end if;
    -- those that passed before and still wait
    room := room - (
        select count(*)
        from amzmp.request as r
        where (r.account_id, r.operation, r.state, r.priority) = (_let_old_pass.account_id, 'patchListingsItem', 'due', 9)
    );
    update amzmp.request as r
    set priority = 9
    from (
        select q.request_id
        from amzmp.request as q
        where (q.account_id, q.operation, q.state) = (_let_old_pass.account_id, 'patchListingsItem', 'due')
            and q.priority between 11 and 20
            and q.created_at < now() - patience
            and q.not_before <= now()
        order by q.created_at
        limit greatest(room, 0)
        for update skip locked
    ) as old
    where (r.account_id, r.request_id) = (_let_old_pass.account_id, old.request_id);
    get diagnostics passed = row_count;
    return passed;
end
$$;
