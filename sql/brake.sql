/*
 * brake.sql
 *	  What looks like a mistake waits for a person: many offers repriced or zeroed at once, or one price that falls or
 *	  rises out of proportion.
 *
 * amzmp._brake judges the changes of desired values that a recompute found, before they are written. What it holds is
 * kept in one batch per channel and facet until a person decides; the offer keeps its old desired value meanwhile, so
 * no diff view shows the change and nothing is sent. release_brake computes the SKUs anew and lets the facet pass;
 * discard_brake keeps the old values until the shop's row says something else than what was discarded.
 *
 * Changes are counted per channel, facet and minute, each offer once in the window, so the count costs one small row
 * and not a walk over the listings. First offers, and quantities that go to 0 because no channel wants the SKU or
 * because an imported order took the last unit, never come here.
 */
create sequence amzmp.brake_batch_id_seq as bigint;

create table amzmp.brake_batch (
    account_id bigint not null,
    batch_id bigint not null default nextval('amzmp.brake_batch_id_seq'),
    channel_id bigint not null,
    facet text not null,
    state text not null default 'held',
    reason text not null,
    opened_at timestamptz not null default now(),
    closed_at timestamptz,
    closed_by text,
    primary key (account_id, batch_id),
    constraint brake_batch_facet_check check (facet in ('price', 'stock', 'stop')),
    constraint brake_batch_state_check check (state in ('held', 'released', 'discarded')),
    constraint brake_batch_closed_check check ((state = 'held') = (closed_at is null))
);

create unique index brake_batch_held on amzmp.brake_batch (account_id, channel_id, facet) where state = 'held';

comment on table amzmp.brake_batch is 'Batches of changes that wait, or waited, for a person. amzmp.brake shows the same with names.';
comment on column amzmp.brake_batch.account_id is 'The account.';
comment on column amzmp.brake_batch.batch_id is 'Number of the batch.';
comment on column amzmp.brake_batch.channel_id is 'The channel whose limit was exceeded.';
comment on column amzmp.brake_batch.facet is 'price, stock or stop.';
comment on column amzmp.brake_batch.state is 'held, released or discarded.';
comment on column amzmp.brake_batch.reason is 'Why it is held.';
comment on column amzmp.brake_batch.opened_at is 'When the first change was held.';
comment on column amzmp.brake_batch.closed_at is 'When a person decided.';
comment on column amzmp.brake_batch.closed_by is 'Who decided.';

create table amzmp.brake_item (
    account_id bigint not null,
    batch_id bigint not null,
    sku text not null,
    old_value numeric,
    new_value numeric not null,
    held_at timestamptz not null default now(),
    cause jsonb,
    primary key (account_id, batch_id, sku)
);

create index brake_item_sku on amzmp.brake_item (account_id, sku);

comment on table amzmp.brake_item is 'The changes in a batch: what an offer has now and what it would get.';
comment on column amzmp.brake_item.account_id is 'The account.';
comment on column amzmp.brake_item.batch_id is 'The batch.';
comment on column amzmp.brake_item.sku is 'The SKU.';
comment on column amzmp.brake_item.old_value is 'Price or quantity that stays for now.';
comment on column amzmp.brake_item.new_value is 'Price or quantity that the shop asks for, as of the last look.';
comment on column amzmp.brake_item.held_at is 'When it was held.';
comment on column amzmp.brake_item.cause is 'What changed it in the shop: role, application, transaction and time.';

create table amzmp.brake_count (
    account_id bigint not null,
    channel_id bigint not null,
    facet text not null,
    minute timestamptz not null,
    changes integer not null,
    primary key (account_id, channel_id, facet, minute)
);

comment on table amzmp.brake_count is 'Inner: how many offers changed in each minute of the brake''s window.';
comment on column amzmp.brake_count.account_id is 'The account.';
comment on column amzmp.brake_count.channel_id is 'The channel.';
comment on column amzmp.brake_count.facet is 'price, stock or stop; live: the channel''s live offers, counted in that minute.';
comment on column amzmp.brake_count.minute is 'The minute.';
comment on column amzmp.brake_count.changes is 'How many offers changed in it.';

/*
 * The changes that may be written. Everything else about them is noted: what is held, what is no longer asked for,
 * what was counted. facets: those about which changes says everything.
 */
create function amzmp._brake(account_id bigint, skus text[], changes amzmp.desired_change[], cause jsonb, decided bigint,
    facets text[])
    returns amzmp.desired_change[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    judged constant amzmp.desired_change[] := amzmp._brake_judged(account_id, changes, decided);
    discarded amzmp.desired_change[];
    held amzmp.desired_change[];
begin
    perform amzmp._brake_forget(account_id, skus, judged, facets);
    if judged = '{}' then
        return changes;
    end if;
    discarded := amzmp._brake_discarded(account_id, judged);
    held := amzmp._brake_excess(account_id, amzmp._without(judged, discarded));
    if held <> '{}' then
        perform amzmp._brake_hold(account_id, held, cause);
    end if;
    -- what was held and is let through now
    if exists (select from amzmp.brake_batch as b where (b.account_id, b.state) = (_brake.account_id, 'held')) then
        perform amzmp._brake_forget(account_id, skus, discarded || held, facets);
    end if;
    return amzmp._without(amzmp._without(changes, discarded), held);
end
$$;

-- Changes that the brake looks at at all: not those of a batch that a person has just decided.
create function amzmp._brake_judged(account_id bigint, changes amzmp.desired_change[], decided bigint)
    returns amzmp.desired_change[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return array(
        select c
        from unnest(_brake_judged.changes) as c
        where not c.free
            and c.old_value is not null
            and (c.facet = 'price' or c.new_value = 0)
            and (decided is null or not exists (
                select
                from amzmp.brake_batch as b
                where (b.account_id, b.batch_id, b.facet) = (_brake_judged.account_id, _brake_judged.decided, c.facet)
                    and c.channel_id in (0, b.channel_id)
            ))
    );
end
$$;

-- The changes of the first list that are not in the second.
create function amzmp._without(changes amzmp.desired_change[], others amzmp.desired_change[])
    returns amzmp.desired_change[]
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return case others
            when '{}' then changes
            else array(
                select c
                from unnest(changes) as c
                where not exists (
                    select from unnest(others) as o
                    where (o.facet, o.sku) = (c.facet, c.sku)
                        and c.channel_id in (0, o.channel_id)
                )
            )
        end;
end
$$;

/*
 * What was held or discarded no longer counts once the shop asks for something else: a held change is taken back
 * when the wanted value is no longer one to hold, a discarded one when it is any other than the discarded.
 */
create function amzmp._brake_forget(account_id bigint, skus text[], judged amzmp.desired_change[], facets text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    delete from amzmp.brake_item as i
    using amzmp.brake_batch as b
    where i.account_id = _brake_forget.account_id
        and i.sku in (select u.sku from unnest(skus) as u (sku))
        and (b.account_id, b.batch_id) = (i.account_id, i.batch_id)
        and b.state <> 'released'
        and b.facet = any (facets)
        and not exists (
            select from unnest(judged) as c
            where c.sku = i.sku
                and c.facet = b.facet
                and c.channel_id in (0, b.channel_id)
                and (b.state = 'held' or c.new_value = i.new_value)
        );

    -- A batch from which the last change was taken back has nothing left to decide, and what led to it no longer counts.
    with over as (
        delete from amzmp.brake_batch as b
        where b.account_id = _brake_forget.account_id
            and b.state = 'held'
            and not exists (
                select from amzmp.brake_item as i
                where (i.account_id, i.batch_id) = (b.account_id, b.batch_id)
            )
        returning b.account_id, b.channel_id, b.facet
    )
    delete from amzmp.brake_count as k
    using over as o
    where (k.account_id, k.channel_id, k.facet) = (o.account_id, o.channel_id, o.facet);
end
$$;

-- Those that a person has discarded and that the shop still asks for.
create function amzmp._brake_discarded(account_id bigint, judged amzmp.desired_change[])
    returns amzmp.desired_change[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return array(
        select c
        from unnest(judged) as c
        where exists (
            select
            from amzmp.brake_item as i
            join amzmp.brake_batch as b using (account_id, batch_id)
            where i.account_id = _brake_discarded.account_id
                and i.sku = c.sku
                and i.new_value = c.new_value
                and b.state = 'discarded'
                and b.facet = c.facet
                and c.channel_id in (0, b.channel_id)
        )
    );
end
$$;

/*
 * Those that are too many, or one that is too much. Each comes back with the channel whose limit it exceeds; a
 * quantity, which belongs to all channels of its SKU, with the first of them. fresh counts the offers that were not
 * counted in this window yet; already are those that are held since an earlier look. A price that jumped and that the shop
 * has brought back within the limits is judged as if it had never been held.
 */
create function amzmp._brake_excess(account_id bigint, judged amzmp.desired_change[])
    returns amzmp.desired_change[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    part record;
    over text[];
    excess amzmp.desired_change[] := '{}';
begin
    for part in
        with place as materialized (
            select h.account_id, h.channel_id,
                now() - amzmp._setting_interval(h.account_id, h.channel_id, 'brake_window') as since
            from amzmp.channel as h
            where h.account_id = _brake_excess.account_id
                and not h.dropped
        ), held as materialized (
            select b.channel_id, b.facet, i.sku, i.new_value
            from amzmp.brake_batch as b
            join amzmp.brake_item as i using (account_id, batch_id)
            where b.account_id = _brake_excess.account_id
                and b.state = 'held'
        ), change as (
            -- a price that is judged is that of an offer; a quantity may be that of several
            select p.channel_id, c.sku, c.facet, c.old_value, c.new_value, c.changed_at,
                c.changed_at is null or c.changed_at <= p.since as fresh
            from unnest(judged) as c
            join place as p using (channel_id)
            where c.facet = 'price'
            union all
            select p.channel_id, c.sku, c.facet, c.old_value, c.new_value, c.changed_at, true
            from unnest(judged) as c
            join place as p on c.channel_id in (0, p.channel_id)
            join amzmp.listing as l
                on (l.account_id, l.channel_id, l.sku) = (p.account_id, p.channel_id, c.sku) and l.wanted and l.listed
            where c.facet <> 'price'
        )
        select c.channel_id, c.facet,
            array_agg((c.channel_id, c.sku, c.facet, c.old_value, c.new_value, false, c.changed_at)::amzmp.desired_change
                order by c.sku) as changes,
            coalesce(array_agg(c.sku) filter (where h.sku is not null), '{}') as already,
            count(*) filter (where h.sku is null and c.fresh)::integer as fresh
        from change as c
        left join held as h
            on (h.channel_id, h.facet, h.sku) = (c.channel_id, c.facet, c.sku)
            and not (h.facet = 'price'
                and amzmp._price_jumps(_brake_excess.account_id, c.channel_id, c.old_value, h.new_value)
                and not amzmp._price_jumps(_brake_excess.account_id, c.channel_id, c.old_value, c.new_value))
        group by c.channel_id, c.facet
        order by c.facet, c.channel_id
    loop
        over := amzmp._brake_over(account_id, part.channel_id, part.facet, part.changes, part.already, part.fresh);
        excess := excess || array(
            select p
            from unnest(part.changes) as p
            where p.sku = any (over)
                and not exists (select from unnest(excess) as e where (e.sku, e.facet) = (p.sku, 'stock'))
        );
    end loop;
    return excess;
end
$$;

-- Is a price so far from the old one that a person has to look? For one; amzmp._brake_over asks the same of many.
create function amzmp._price_jumps(account_id bigint, channel_id bigint, old_price numeric, new_price numeric)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return new_price < old_price * (1 - amzmp._setting_numeric(account_id, channel_id, 'brake_drop'))
        or new_price > old_price * (1 + amzmp._setting_numeric(account_id, channel_id, 'brake_rise'));
end
$$;

/*
 * The SKUs among a channel's changes of a facet that are to be held: all when there are too many, else single prices
 * that jump, and those that are held already.
 */
create function amzmp._brake_over(account_id bigint, channel_id bigint, facet text, changes amzmp.desired_change[],
    already text[], fresh integer)
    returns text[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    lowest constant numeric := 1 - amzmp._setting_numeric(account_id, channel_id, 'brake_drop');
    highest constant numeric := 1 + amzmp._setting_numeric(account_id, channel_id, 'brake_rise');
    too_many constant boolean := amzmp._brake_too_many(account_id, channel_id, facet, fresh);
begin
    return array(
        select c.sku
        from unnest(changes) as c
        where too_many
            or c.sku = any (already)
            or c.facet = 'price' and c.new_value not between c.old_value * lowest and c.old_value * highest
    );
end
$$;

/*
 * Do the changes of the window, with these, exceed the limit? Live offers are counted only when the fixed minimum is
 * exceeded, which is rare.
 */
create function amzmp._brake_too_many(account_id bigint, channel_id bigint, facet text, fresh integer)
    returns boolean
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    since constant timestamptz := now() - amzmp._setting_interval(account_id, channel_id, 'brake_window');
    minimum constant integer := amzmp._setting_int(account_id, channel_id, 'brake_minimum');
    share constant numeric := amzmp._setting_numeric(account_id, channel_id, 'brake_share');
    changed bigint;
begin
    if fresh > 0 then
        insert into amzmp.brake_count as k (account_id, channel_id, facet, minute, changes)
        values (account_id, channel_id, facet, date_trunc('minute', now()), fresh)
        on conflict (account_id, channel_id, facet, minute) do update
        set changes = k.changes + excluded.changes;
        delete from amzmp.brake_count as k
        where (k.account_id, k.channel_id, k.facet) = (_brake_too_many.account_id, _brake_too_many.channel_id,
                _brake_too_many.facet)
            and k.minute < since - interval '1 minute';
    end if;

    select coalesce(sum(k.changes), 0) into changed
    from amzmp.brake_count as k
    where (k.account_id, k.channel_id, k.facet) = (_brake_too_many.account_id, _brake_too_many.channel_id,
            _brake_too_many.facet)
        and k.minute > since - interval '1 minute';
    return changed > minimum
        and fresh > 0
        and changed > share * amzmp._brake_live(account_id, channel_id);
end
$$;

-- How many live offers a channel has. They are counted once a minute at most: a large change comes in many portions.
create function amzmp._brake_live(account_id bigint, channel_id bigint)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = on -- all of them are counted, and not SKU by SKU
as $$
#variable_conflict use_column
declare
    live integer;
begin
    select k.changes into live
    from amzmp.brake_count as k
    where (k.account_id, k.channel_id, k.facet, k.minute) = (_brake_live.account_id, _brake_live.channel_id, 'live',
            date_trunc('minute', now()));
    if live is null then
        select count(*) into live
        from amzmp.listing as l
        where (l.account_id, l.channel_id) = (_brake_live.account_id, _brake_live.channel_id)
            and l.listed
            and l.wanted;
        delete from amzmp.brake_count as k
        where (k.account_id, k.channel_id, k.facet) = (_brake_live.account_id, _brake_live.channel_id, 'live');
        insert into amzmp.brake_count (account_id, channel_id, facet, minute, changes)
        values (_brake_live.account_id, _brake_live.channel_id, 'live', date_trunc('minute', now()), live)
        on conflict do nothing;
    end if;
    return live;
end
$$;

-- A number with its noun.
create function amzmp._count_of(number bigint, one text, many text)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select number || ' ' || case number when 1 then one else many end
$$;

-- Put changes into the open batches of their channels and facets, and tell whoever listens.
create function amzmp._brake_hold(account_id bigint, held amzmp.desired_change[], cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    batch record;
begin
    insert into amzmp.brake_batch (account_id, channel_id, facet, reason)
    select _brake_hold.account_id, h.channel_id, h.facet,
        case h.facet
            when 'price' then case count(*)
                when 1 then 'a price changes by an unusual amount'
                else format('%s prices change at once', count(*))
            end
            when 'stop' then format('%s would be stopped at once', amzmp._count_of(count(*), 'offer', 'offers'))
            else format('%s would be sold out at once', amzmp._count_of(count(*), 'offer', 'offers'))
        end
    from unnest(held) as h
    group by h.channel_id, h.facet
    order by h.channel_id, h.facet
    on conflict (account_id, channel_id, facet) where state = 'held' do nothing;

    insert into amzmp.brake_item (account_id, batch_id, sku, old_value, new_value, cause)
    select b.account_id, b.batch_id, h.sku, h.old_value, h.new_value, _brake_hold.cause
    from unnest(held) as h
    join amzmp.brake_batch as b
        on (b.account_id, b.channel_id, b.facet, b.state) = (_brake_hold.account_id, h.channel_id, h.facet, 'held')
    on conflict (account_id, batch_id, sku) do update
    set new_value = excluded.new_value,
        cause = excluded.cause;

    for batch in
        select b.batch_id, b.channel_id, b.facet, count(*) as added
        from unnest(held) as h
        join amzmp.brake_batch as b
            on (b.account_id, b.channel_id, b.facet, b.state) = (_brake_hold.account_id, h.channel_id, h.facet, 'held')
        group by b.batch_id, b.channel_id, b.facet
    loop
        perform amzmp._log(account_id, batch.channel_id, 'warning', 'brake', batch.batch_id::text,
            format('%s of %s held for a person', amzmp._count_of(batch.added, 'change', 'changes'), batch.facet),
            jsonb_build_object('batch', batch.batch_id, 'cause', cause));
        perform pg_notify('amzmp_brake', jsonb_build_object('account_id', account_id, 'channel_id', batch.channel_id,
                'batch', batch.batch_id, 'facet', batch.facet, 'held', batch.added)::text);
    end loop;
end
$$;

/*
 * What a person decides.
 */

-- Close a batch and count anew; its SKUs. Error AZ203 where there is nothing to decide.
create function amzmp._brake_close(account_id bigint, batch bigint, state text, out skus text[])
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    channel_id bigint;
begin
    update amzmp.brake_batch as b
    set state = _brake_close.state,
        closed_at = now(),
        closed_by = amzmp._caller()
    where (b.account_id, b.batch_id, b.state) = (_brake_close.account_id, _brake_close.batch, 'held')
    returning b.channel_id into channel_id;
    if not found then
        perform amzmp._fail('AZ203', format('no batch %s is held in this account', batch), null,
            'Look into amzmp.brake for the batches that wait.');
    end if;
    delete from amzmp.brake_count as k
    using amzmp.brake_batch as b
    where (b.account_id, b.batch_id) = (_brake_close.account_id, _brake_close.batch)
        and (k.account_id, k.channel_id, k.facet) = (b.account_id, b.channel_id, b.facet);
    skus := array(
        select i.sku
        from amzmp.brake_item as i
        where (i.account_id, i.batch_id) = (_brake_close.account_id, _brake_close.batch)
    );
    perform amzmp._log(account_id, channel_id, 'notice', 'brake', batch::text,
        format('batch of %s changes %s by %s', cardinality(skus), state, amzmp._caller()),
        jsonb_build_object('batch', batch));
end
$$;

create function amzmp._release_brake(account text, batch bigint)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    account_id constant bigint := (amzmp._account(account)).account_id;
    skus text[];
begin
    skus := amzmp._brake_close(account_id, batch, 'released');
    perform amzmp._recompute(account_id, skus, jsonb_build_object('role', amzmp._caller(), 'released_batch', batch), batch);
    return cardinality(skus);
end
$$;

select amzmp._expose('amzmp._release_brake(text, bigint)', 'amzmp_operator',
    'Let the changes of a held batch pass, as the shop''s rows ask for them now. Returns the number of SKUs.');

create function amzmp._discard_brake(account text, batch bigint)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return cardinality(amzmp._brake_close((amzmp._account(account)).account_id, batch, 'discarded'));
end
$$;

select amzmp._expose('amzmp._discard_brake(text, bigint)', 'amzmp_operator',
    'Keep the old values of a held batch until the shop asks for other ones than those discarded. Returns the number of SKUs.');

create view amzmp.brake
    with (security_invoker = true)
as
    select a.name as account, c.name as channel, b.batch_id as batch, b.facet, b.state, b.reason, b.opened_at,
        b.closed_at, b.closed_by,
        (
            select count(*)
            from amzmp.brake_item as i
            where (i.account_id, i.batch_id) = (b.account_id, b.batch_id)
        ) as changes
    from amzmp.brake_batch as b
    join amzmp.account as a using (account_id)
    join amzmp.channel as c using (account_id, channel_id);

comment on view amzmp.brake is 'Batches of changes that look like a mistake. Those held wait for release_brake(account, batch) or discard_brake(account, batch); amzmp.brake_item lists what is in them.';
comment on column amzmp.brake.account is 'Name of the account.';
comment on column amzmp.brake.channel is 'Name of the channel whose limit was exceeded.';
comment on column amzmp.brake.batch is 'Number of the batch.';
comment on column amzmp.brake.facet is 'price, stock or stop.';
comment on column amzmp.brake.state is 'held, released or discarded.';
comment on column amzmp.brake.reason is 'Why it is held.';
comment on column amzmp.brake.opened_at is 'When the first change was held.';
comment on column amzmp.brake.closed_at is 'When a person decided.';
comment on column amzmp.brake.closed_by is 'Who decided.';
comment on column amzmp.brake.changes is 'How many offers it holds.';
