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
 *
 * Here are the tables, and what is done with changes; brake_excess.sql judges whether they are too many or too large, and
 * brake_release.sql has what a person decides.
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
