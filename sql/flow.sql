-- flow.sql
-- Repeating pieces of work: what there is and where it is on. When they run stands in flow_clock.sql, how in flow_run.sql.

create table amzmp.flow (
    flow text primary key,
    scope text not null check (scope in ('account', 'channel')),
    every text not null,                   -- cron schedule, minutes at the finest
    on_by_default boolean not null,
    capability text,                       -- column of marketplace that must not be false
    title text not null,
    description text not null,
    needs text not null default 'credentials' check (needs in ('credentials', 'activation', 'nothing'))
);
comment on table amzmp.flow is 'Repeating pieces of work, with their default frequency as a cron schedule.';
comment on column amzmp.flow.flow is 'Name of the flow.';
comment on column amzmp.flow.scope is 'What it is switched for: account or channel.';
comment on column amzmp.flow.every is 'How often it runs, as a cron schedule.';
comment on column amzmp.flow.on_by_default is 'Does activate() switch it on?';
comment on column amzmp.flow.capability is 'Column of amzmp.marketplace that must not be false; null: it works everywhere.';
comment on column amzmp.flow.title is 'Short name for people.';
comment on column amzmp.flow.description is 'What it does.';
comment on column amzmp.flow.needs is 'What an account must have for it to run: credentials (that Amazon has not refused), activation, or nothing, because what it does is due whatever became of the account.';

insert into amzmp.flow (flow, scope, every, on_by_default, capability, title, description) values
    ('get_orders', 'account', '*/5 * * * *', true, 'orders', 'Import orders',
     'Polls searchOrders from the last watermark on and imports what changed; cancellations and status changes come with it.'),
    ('send_products', 'channel', '*/5 * * * *', true, 'offers', 'Publish products',
     'Continues publishing: matches, sends offers that are queued, asks for verdicts that are late.'),
    ('send_updated_product_price', 'account', '*/5 * * * *', true, 'offers', 'Send changed prices',
     'The backstop of price sync: sends what price_diff shows and no commit has sent yet.'),
    ('send_updated_product_stock', 'account', '* * * * *', true, 'offers', 'Send changed stock',
     'The backstop of stock sync: sends what stock_diff shows and no commit has sent yet.'),
    ('send_delete_products', 'account', '*/5 * * * *', true, 'offers', 'Take removed products off sale',
     'Products that left the shop''s table: quantity 0 or deletion, by the setting on_remove.'),
    ('count_offers', 'account', '*/5 * * * *', true, null, 'Count offers',
     'Brings the sums behind amzmp.dashboard and amzmp.sku_diff up to date, so that both answer at once.'),
    ('measure_lag', 'account', '*/5 * * * *', true, 'offers', 'Measure the lag',
     'Asks Amazon whether what changed last can be seen, for amzmp.offer_lag. One call a channel, only after changes.'),
    ('rescan', 'account', '17 * * * *', true, null, 'Compare whole sources',
     'Queues a full comparison of each source whose last one is older than rescan_interval.');
-- What is past its time goes, whether the account is switched off, refused by Amazon or dropped.
insert into amzmp.flow (flow, scope, every, on_by_default, capability, title, description, needs) values
    ('purge_personal_data', 'account', '23 3 * * *', true, null, 'Purge personal data',
     'Removes buyers'' data personal_data_retention after delivery, of accounts that are switched off or dropped too.', 'nothing'),
    ('housekeeping', 'account', '41 * * * *', true, null, 'Housekeeping',
     'Makes and drops day partitions of logs by their retention.', 'nothing');

create table amzmp.account_flow (
    account_id bigint not null references amzmp.account,
    channel_id bigint not null default 0,
    flow text not null references amzmp.flow,
    enabled boolean not null default false,
    next_at timestamptz,                   -- of an account whose clock runs faster (flow_clock.sql)
    primary key (account_id, channel_id, flow)
);
create index account_flow_on on amzmp.account_flow (flow, account_id) where enabled;
create index account_flow_next on amzmp.account_flow (flow, next_at) where next_at is not null;
comment on table amzmp.account_flow is 'Where a flow is switched on.';
comment on column amzmp.account_flow.account_id is 'The account.';
comment on column amzmp.account_flow.channel_id is 'The channel; 0: the account itself.';
comment on column amzmp.account_flow.flow is 'The flow.';
comment on column amzmp.account_flow.enabled is 'Is it switched on?';
comment on column amzmp.account_flow.next_at is 'When it runs next, for mock accounts whose time runs faster; null: pg_cron says when.';

-- Inner: rows for a new account or channel always exist, switched off.
create function amzmp._default_flows(account_id bigint, channel_id bigint) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    begin atomic
    insert into amzmp.account_flow (account_id, channel_id, flow)
    select _default_flows.account_id, _default_flows.channel_id, f.flow
      from amzmp.flow f
     where (f.scope = 'channel') = (_default_flows.channel_id <> 0)
    on conflict do nothing;
    end;

create function amzmp._enable_defaults(account_id bigint, channel_id bigint) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    update amzmp.account_flow a set enabled = true
      from amzmp.flow f
     where a.account_id = _enable_defaults.account_id and a.channel_id = _enable_defaults.channel_id
       and f.flow = a.flow and f.on_by_default
       and (f.capability is null or amzmp._offers(a.account_id, a.channel_id, f.capability) is not false)
       and amzmp._settings_missing(a.account_id, a.channel_id, f.flow) = '{}';
    perform amzmp._start_clock(account_id);
end
$$;

-- Inner: a flow by its name.
create function amzmp._flow(flow text) returns amzmp.flow
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
declare
    f amzmp.flow;
begin
    select x.* into f from amzmp.flow x where x.flow = _flow.flow;
    if f.flow is null then
        perform amzmp._fail('AZ201', format('there is no flow "%s"', flow),
            (select 'There are: ' || string_agg(x.flow, ', ' order by x.flow) || '.' from amzmp.flow x));
    end if;
    return f;
end
$$;

create function amzmp._switch_flow(flow text, account text, channel text, wanted boolean) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    target record;
    f amzmp.flow;
    missing text;
begin
    f := amzmp._flow(flow);
    if (f.scope = 'channel') <> (channel is not null) or (account is null) = (channel is null) then
        perform amzmp._fail('AZ202', format('flow "%s" is switched per %s', flow, f.scope), null,
            format('select amzmp.enable(%L, %s => …);', flow, f.scope));
    end if;
    select * into target from amzmp._resolve(coalesce(channel, account));
    if wanted then
        missing := array_to_string(amzmp._settings_missing(target.account_id, target.channel_id, f.flow), ', ');
        if missing <> '' then
            perform amzmp._fail('AZ003', format('flow "%s" needs settings that are empty: %s', flow, missing), null,
                format('select amzmp.set(%L, %L, …);', coalesce(channel, account), split_part(missing, ', ', 1)));
        end if;
        perform amzmp._check_capability(f, target.account_id, target.channel_id);
    end if;
    update amzmp.account_flow a set enabled = wanted
     where a.account_id = target.account_id and a.channel_id = target.channel_id and a.flow = f.flow;
    if wanted then
        perform amzmp._start_clock(target.account_id);
    end if;
    perform amzmp._log(target.account_id, target.channel_id, 'notice', 'flow', flow,
        format('%s by %s', case when wanted then 'enabled' else 'disabled' end, amzmp._caller()));
end
$$;

-- Inner: does Amazon offer a capability where an account or a channel sells? For an account one channel is enough; null: not known.
create function amzmp._offers(account_id bigint, channel_id bigint, capability text) returns boolean
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select bool_or((to_jsonb(m) ->> _offers.capability)::boolean)
           or case when count(*) > count(to_jsonb(m) ->> _offers.capability) or count(*) = 0 then null else false end
      from amzmp.channel c
      join amzmp.marketplace m using (marketplace_id)
     where c.account_id = _offers.account_id and not c.dropped
       and (_offers.channel_id = 0 or c.channel_id = _offers.channel_id);
    end;

-- Inner: what Amazon does not offer there cannot be switched on; the unknown is allowed with a notice.
create function amzmp._check_capability(f amzmp.flow, account_id bigint, channel_id bigint) returns void
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
declare
    offered boolean := amzmp._offers(account_id, channel_id, f.capability);
    places text := (select string_agg(m.country_code, ', ' order by c.channel_id)
                      from amzmp.channel c join amzmp.marketplace m using (marketplace_id)
                     where c.account_id = _check_capability.account_id and not c.dropped
                       and (_check_capability.channel_id = 0 or c.channel_id = _check_capability.channel_id));
begin
    if f.capability is null or places is null then
        return;
    elsif not offered then
        perform amzmp._fail('AZ004', format('flow "%s" needs %s, which Amazon does not offer in %s', f.flow, f.capability, places), null,
            'table amzmp.marketplace; shows what is offered where.');
    elsif offered is null then
        raise notice 'whether Amazon offers % in % is not known here; the flow is allowed', f.capability, places;
    end if;
end
$$;

create function amzmp._enable(flow text, account text default null, channel text default null) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    begin atomic
    select amzmp._switch_flow(flow, account, channel, true);
    end;
select amzmp._expose('amzmp._enable(text, text, text)', 'amzmp_operator', 'Switch a flow on for an account or a channel. Refuses, naming them, while settings it needs are empty.');

create function amzmp._disable(flow text, account text default null, channel text default null) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    begin atomic
    select amzmp._switch_flow(flow, account, channel, false);
    end;
select amzmp._expose('amzmp._disable(text, text, text)', 'amzmp_operator', 'Switch a flow off for an account or a channel.');

create function amzmp._run_flow(flow text, account text default null, channel text default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    target record;
    f amzmp.flow;
begin
    f := amzmp._flow(flow);
    if coalesce(account, channel) is null then
        perform amzmp._fail('AZ202', 'name an account or a channel', null, format('select amzmp.run_flow(%L, %s => …);', flow, f.scope));
    end if;
    select * into target from amzmp._resolve(coalesce(channel, account));
    insert into amzmp.task as t (account_id, kind, subject, argument)
    select a.account_id, 'flow', a.flow || '/' || a.channel_id, jsonb_build_object('asked_by', amzmp._caller())
      from amzmp.account_flow a
     where a.account_id = target.account_id and a.flow = _run_flow.flow
       and (a.channel_id = target.channel_id or target.channel_id = 0 or a.channel_id = 0)
    on conflict on constraint task_account_id_kind_subject_key do update set due_at = least(t.due_at, excluded.due_at);
    perform amzmp._wake();
end
$$;
select amzmp._expose('amzmp._run_flow(text, text, text)', 'amzmp_operator', 'Run a flow now, whether it is enabled or not.');

-- Inner: is work waiting? 'idle' looks at what is due or in flight, 'settled' also at what is awaited.
create function amzmp._pending(until text) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    pending text := case
        when exists (select from amzmp._sources_with_work()) then 'captured changes wait for recompute'
        when until = 'settled' and exists (
            select from amzmp.source s left join amzmp._sources_changed() c (source_id) using (source_id)
             where s.state <> 'held' and (c.source_id is not null or s.rescan_due <= now() + interval '1 second'))
            then 'captured changes wait for recompute'
        -- a fast account's clock always ticks
        when exists (select from amzmp.task t where t.kind <> 'clock' and t.due_at <= now() + interval '1 second')
            then 'tasks are due: ' || (select string_agg(distinct t.kind, ', ') from amzmp.task t where t.kind <> 'clock')
        when exists (select from amzmp.task t where t.kind <> 'clock' and t.attempt > 0 and t.last_error is null) then 'a task is at work'
        when exists (select from amzmp.request r where r.state in ('sending', 'answered') and r.operation <> 'receiveMessage') then 'requests are in flight'
        when exists (select from amzmp.request r where r.state = 'due' and r.not_before <= now() + interval '1 second'
                         and amzmp._goes_out(r.account_id, r.channel_id, r.operation))
            then 'requests are due'
        when until = 'settled' and exists (select from amzmp.task t where t.kind not in ('flow', 'flows', 'clock', 'alarms'))
            then 'tasks wait for their time: ' || (select string_agg(distinct t.kind, ', ') from amzmp.task t where t.kind not in ('flow', 'flows', 'clock', 'alarms'))
        when until = 'settled' and exists (select from amzmp.request r where r.state = 'due' and amzmp._goes_out(r.account_id, r.channel_id, r.operation))
            then 'requests wait for their time'
        when until = 'settled' and exists (select from amzmp.feed f where f.open)
            then 'feeds are under way'
        when until = 'settled' and exists (select from amzmp.listing l where l.wanted and l.state in ('matching', 'queued', 'sent', 'pending'))
            then 'verdicts are awaited'
    end;
begin
    if pending is not null and amzmp._processes() = 'not preloaded' then
        perform amzmp._fail('AZ001', 'waiting for amzmp needs amzmp to be preloaded', format('Nobody does it: %s.', pending),
            'Add amzmp to shared_preload_libraries in postgresql.conf and restart the server.');
    end if;
    return pending;
end
$$;
select amzmp._expose('amzmp._pending(text)', 'amzmp_reader', 'What amzmp is still busy with: NULL when idle (or settled: also no verdict awaited).');

create procedure amzmp.wait(timeout interval default '60 s', until text default 'idle')
    language plpgsql
    as $$
declare
    give_up_at timestamptz := pg_catalog.clock_timestamp() operator(pg_catalog.+) timeout;
    pending text;
begin
    if until operator(pg_catalog.<>) all (array['idle', 'settled']) then
        perform amzmp._fail('AZ202', pg_catalog.format('"%s" is not a state to wait for', until), null, 'Wait for idle or settled.');
    end if;
    if amzmp._in_transaction_block() then
        perform amzmp._fail('25001', 'amzmp.wait cannot be called inside a transaction block',
            'Nobody sees what this transaction has done before it commits, so there would be nothing to wait for.',
            'COMMIT first, then CALL amzmp.wait(…) as a statement of its own.');
    end if;
    loop
        commit;
        pending := amzmp.pending(until);
        exit when pending is null;
        if pg_catalog.clock_timestamp() operator(pg_catalog.>) give_up_at then
            perform amzmp._fail('AZ204', pg_catalog.format('not %s within %s', until, timeout), pending, 'select * from amzmp.health(); shows what is wrong.');
        end if;
        perform pg_catalog.pg_sleep(0.02);
    end loop;
end
$$;
comment on procedure amzmp.wait(interval, text) is 'Wait until nothing is due or in flight (idle), or nothing is awaited either (settled); an error on time-out. Call it outside a transaction block.';
