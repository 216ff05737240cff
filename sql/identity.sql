/*
 * identity.sql
 *	  Which server, database and node may send; what a copy does before it sends.
 *
 * A copy of the database (a restored dump, a clone, a promoted standby) must not sell the stock a second time. So sending is
 * bound to an identity that the data does not bring along, and whoever takes over believes nothing of what the data says
 * was submitted: the original may have gone on after the copy was made.
 *
 *		here         the recorded identity is this one: sends
 *		successor    this database in a later life: promoted, or restored to an earlier point in time, on the same node or a
 *		             listed failover partner. Goes on by itself (task take_over), in doubt
 *		copy         anything else: silent until confirm_identity(), which goes on in doubt
 *		unconfirmed  nothing was ever activated; the first activate() records the identity
 *
 * In doubt (listing.in_doubt, inventory.in_doubt): what Amazon has is unknown, and no difference until it was read back
 * (task read_back, when the orders have been read), or until the shop changes the value, which is then sent at once. Content
 * (listing_content.in_doubt) waits for its reading in any case: content_check.sql.
 */
create table amzmp.identity (
    singleton boolean primary key default true,
    system_identifier bigint not null,
    database_oid oid not null,
    node_identity text not null,
    timeline integer not null,
    confirmed_at timestamptz not null,
    confirmed_by name not null,
    constraint identity_singleton_check check (singleton)
);

comment on table amzmp.identity is 'Which server, database and node may send. A copy does not match and stays silent until confirm_identity().';
comment on column amzmp.identity.singleton is 'Always true: there is one row at most.';
comment on column amzmp.identity.system_identifier is 'The server''s number, made by initdb; a physical copy has the same.';
comment on column amzmp.identity.database_oid is 'The database; another one after a restore, a clone or CREATE DATABASE … TEMPLATE.';
comment on column amzmp.identity.node_identity is 'The setting amzmp.node_identity at that time; it is kept outside the data directory.';
comment on column amzmp.identity.timeline is 'The server''s timeline at that time; a promotion, or a restore to a point in time, begins another.';
comment on column amzmp.identity.confirmed_at is 'When it was confirmed.';
comment on column amzmp.identity.confirmed_by is 'Who confirmed it, by the first activate() or by confirm_identity(); amzmp_owner: a failover partner that went on by itself.';

-- Inner: where we are. A standby has no timeline of its own yet.
create function amzmp._here()
    returns table (system_identifier bigint, database_oid oid, node_identity text, timeline integer)
    rows 1
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select c.system_identifier, d.oid, coalesce(current_setting('amzmp.node_identity', true), ''),
        case when not pg_is_in_recovery()
            then ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer
        end
    from pg_control_system() as c, pg_database as d
    where d.datname = current_database();
end
$$;

-- Inner: may these two nodes go on for each other? The same one may; an empty name is no name.
create function amzmp._are_partners(one text, other text)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return one <> ''
        and (one = other
            or array[one, other] <@ regexp_split_to_array(btrim(coalesce(current_setting('amzmp.failover_partners', true), '')), '\s*,\s*'));
end
$$;

-- Inner: here, successor, copy or unconfirmed, as the first comment of this file says.
create function amzmp._identity_state()
    returns text
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
declare
    state text;
begin
    select case
            when (i.system_identifier, i.database_oid, i.node_identity, i.timeline)
                    is not distinct from (h.system_identifier, h.database_oid, h.node_identity, h.timeline) then 'here'
            when (i.system_identifier, i.database_oid) = (h.system_identifier, h.database_oid)
                    and amzmp._are_partners(i.node_identity, h.node_identity) then 'successor'
            else 'copy'
        end into state
    from amzmp.identity as i, amzmp._here() as h;
    return coalesce(state, 'unconfirmed');
end
$$;

-- Inner: sending is allowed only where the identity was confirmed.
create function amzmp._is_fenced()
    returns boolean
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
begin
    return amzmp._identity_state() <> 'here';
end
$$;

create function amzmp._record_identity()
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete from amzmp.identity;
    insert into amzmp.identity (system_identifier, database_oid, node_identity, timeline, confirmed_at, confirmed_by)
    select h.system_identifier, h.database_oid, h.node_identity, h.timeline, now(), amzmp._caller()
    from amzmp._here() as h;
    perform amzmp._wake();
end
$$;

-- Inner: the first activation in a fresh installation counts as confirmation.
create function amzmp._first_identity()
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    state constant text := amzmp._identity_state();
begin
    if state = 'unconfirmed' then
        perform amzmp._record_identity();
    elsif state <> 'here' then
        perform amzmp._fail('AZ203', 'this database is a copy: its identity is not confirmed', null, 'select amzmp.confirm_identity();');
    end if;
end
$$;

/*
 * Doubt.
 */

-- Inner: what was submitted for an account is unknown from now on, for all that Amazon has accepted.
create function amzmp._doubt(account_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    -- as amzmp._lock_skus does it
    perform 1
    from amzmp.inventory as i
    where i.account_id = _doubt.account_id
    order by i.sku, i.fulfillment_channel
    for no key update;

    update amzmp.listing as l
    set in_doubt = true,
        remote_price = null,
        remote_terms = null,
        remote_details = null,
        submitted_price_at = null,
        read_due_at = null
    where l.account_id = _doubt.account_id
        and l.listed
        and l.wanted;
    perform amzmp._doubt_content(account_id);

    update amzmp.inventory as i
    set in_doubt = true,
        remote_quantity = null,
        remote_terms = null,
        submitted_quantity_at = null
    where i.account_id = _doubt.account_id
        and i.listed;
end
$$;

-- Inner: have an active account read back what is in doubt. Its orders come first: a unit that Amazon sold and we do not know
-- of would look like one to add.
create function amzmp._read_back(account_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    insert into amzmp.task (account_id, kind, subject)
    select distinct l.account_id, w.kind, case w.kind when 'flow' then 'get_orders/0' else l.channel_id::text end
    from amzmp.account as a
    join amzmp.listing as l using (account_id)
    cross join (values ('flow'), ('read_back')) as w (kind)
    where a.account_id = _read_back.account_id
        and a.active
        and l.in_doubt
        and (w.kind = 'read_back' or amzmp._imports_orders(a.account_id))
    on conflict on constraint task_account_id_kind_subject_key do update
    set due_at = excluded.due_at;
    perform amzmp._wake();
end
$$;

create function amzmp._imports_orders(account_id bigint)
    returns boolean
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select exists (select from amzmp.account_flow as f where (f.account_id, f.flow, f.enabled) = ($1, 'get_orders', true))
$$;

-- Inner: have the orders been read since the identity changed? After some minutes nobody waits for them any longer.
create function amzmp._orders_are_in(account_id bigint)
    returns boolean
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select not amzmp._imports_orders($1)
        or i.confirmed_at < now() - interval '10 minutes'
        or exists (
            select
            from amzmp.flow_run as r
            where (r.account_id, r.flow) = ($1, 'get_orders')
                and r.ended_at > i.confirmed_at
        )
    from amzmp.identity as i
$$;

-- Own runner: ask Amazon for what is in doubt in a channel (subject), so many at a time.
create function amzmp._task_read_back(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    at_once constant integer := 2000;
    skus constant text[] := array(
        select l.sku
        from amzmp.listing as l
        where (l.account_id, l.channel_id) = (_task_read_back.account_id, _task_read_back.subject::bigint)
            and l.in_doubt
            and l.read_due_at is null
        union
        select d.sku
        from amzmp.listing_content as d
        join amzmp.listing as l using (account_id, channel_id, sku)
        where (d.account_id, d.channel_id) = (_task_read_back.account_id, _task_read_back.subject::bigint)
            and d.in_doubt
            and l.read_due_at is null
        order by sku
        limit at_once
    );
begin
    if not amzmp._orders_are_in(account_id) then
        perform amzmp._add_task(account_id, 'read_back', subject, null, clock_timestamp() + interval '1 second');
        return;
    end if;
    perform amzmp._look(account_id, subject::bigint, skus, now(), jsonb_build_object('reason', 'read back after a change of identity'));
    if cardinality(skus) = at_once then
        perform amzmp._add_task(account_id, 'read_back', subject, null, clock_timestamp());
    end if;
end
$$;

-- Inner: these SKUs of a channel were read, or Amazon refused to tell: what differs from what was seen is to be sent.
create function amzmp._end_doubt(account_id bigint, channel_id bigint, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.listing as l
    set in_doubt = false
    where (l.account_id, l.channel_id) = (_end_doubt.account_id, _end_doubt.channel_id)
        and l.sku = any (_end_doubt.skus)
        and l.in_doubt;

    update amzmp.inventory as i
    set in_doubt = false
    where i.account_id = _end_doubt.account_id
        and i.sku = any (_end_doubt.skus)
        and i.in_doubt;
end
$$;

/*
 * Taking over.
 */

-- Inner, sender at its start: a successor goes on by itself. Nothing is sent until the task is done.
create function amzmp._succeed()
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    if amzmp._identity_state() = 'successor' then
        perform amzmp._add_task(0, 'take_over', '', null, now());
    end if;
end
$$;

create function amzmp._task_take_over(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    if amzmp._identity_state() = 'successor' then
        perform amzmp._take_over();
    end if;
end
$$;

-- Inner: what will be read back, and what the queue holds besides, in words.
create function amzmp._doubt_in_words()
    returns text
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    doubt record;
    queued text;
begin
    select sum(c.listings) as listings, sum(ceil(c.listings / 20.0)) as calls, count(*) as channels into doubt
    from (
        select count(*) as listings
        from amzmp.listing as l
        where l.in_doubt
        group by l.account_id, l.channel_id
    ) as c;

    select string_agg(format('%s %s', r.requests, r.operation), ', ' order by r.operation) into queued
    from (
        select w.operation, count(*) as requests
        from amzmp.request as w
        join amzmp.operation as o on o.name = w.operation
        where w.state = 'due'
            and not o.reads
        group by w.operation
    ) as r;

    return concat_ws('. ',
        case
            when doubt.listings > 0 then format('%s in %s: what Amazon has of them is read back first (%s), and what differs then is sent',
                amzmp._count_of(doubt.listings::bigint, 'listing', 'listings'), amzmp._count_of(doubt.channels, 'channel', 'channels'),
                amzmp._count_of(doubt.calls::bigint, 'call', 'calls'))
            else 'Nothing is to be read back'
        end,
        'The queue holds besides: ' || queued);
end
$$;

-- Inner: this database is the one that sends from now on, and believes nothing of what it submitted.
create function amzmp._take_over()
    returns text
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    message text;
begin
    perform amzmp._doubt(a.account_id)
    from (select x.account_id from amzmp.account as x where x.state <> 'dropped' order by x.account_id) as a;
    perform amzmp._record_identity();
    perform amzmp._read_back(a.account_id)
    from amzmp.account as a;
    message := 'confirmed: this database sends from now on. ' || amzmp._doubt_in_words();
    perform amzmp._log(0, 0, 'notice', 'identity', (select h.node_identity from amzmp._here() as h), message,
        jsonb_build_object('by', amzmp._caller()));
    return message;
end
$$;

create function amzmp._confirm_identity()
    returns text
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform amzmp._require_unlimited('confirm_identity');
    if amzmp._identity_state() = 'here' then
        return 'confirmed already: nothing has changed';
    end if;
    return amzmp._take_over();
end
$$;

select amzmp._expose('amzmp._confirm_identity()', 'amzmp_admin',
    'This server, database and node may send. Needed once after a restore, a clone or the promotion of a standby that is no listed failover partner. Reads back first what Amazon has, and says how much that is.');
