/*
 * fulfillment.sql
 *	  Who ships a SKU, the merchant or Amazon, where a rule says (parameter fulfillment). Without a rule it is as Amazon has
 *	  it, and nobody's business here.
 *
 *		merchant   from the shop's own stock
 *		amazon     from Amazon's warehouses
 *		switch     from Amazon's warehouses while they have stock, else from the shop's own: decided by readings of Amazon's
 *		           stock (amazon_stock.sql), two of which have to agree, and back only from some units on
 *
 * Who ships belongs to the SKU, like stock, so exactly one PATCH takes it along. Stages are those of any other value:
 * wanted, in flight, remote. Switching gives up one channel and takes the other in one PATCH: an instance of each would
 * sell stock that is not meant.
 *
 * After a publication or a switch what Amazon shows is compared with what is wanted; where it stays different, that is a
 * penalty of kind fulfillment, and is tried again as that ends.
 */
create table amzmp.fulfillment (
    account_id bigint not null,
    sku text not null,
    policy text not null,
    wanted text not null,
    wanted_at timestamptz not null default now(),
    wanted_reason text not null,
    in_flight text,
    in_flight_request bigint,
    remote text,
    submitted_at timestamptz,
    agreeing integer not null default 0,
    differs boolean not null
        generated always as (wanted is distinct from remote) stored,
    primary key (account_id, sku),
    constraint fulfillment_policy_check check (policy in ('merchant', 'amazon', 'switch')),
    constraint fulfillment_wanted_check check (wanted in ('merchant', 'amazon'))
);

create index fulfillment_differs on amzmp.fulfillment (account_id, sku) where differs;

comment on table amzmp.fulfillment is 'Who ships a SKU, where a rule''s fulfillment says.';
comment on column amzmp.fulfillment.account_id is 'The account.';
comment on column amzmp.fulfillment.sku is 'The SKU.';
comment on column amzmp.fulfillment.policy is 'What the rule says: merchant, amazon or switch.';
comment on column amzmp.fulfillment.wanted is 'Who shall ship it now.';
comment on column amzmp.fulfillment.wanted_at is 'Since when.';
comment on column amzmp.fulfillment.wanted_reason is 'Why, in words.';
comment on column amzmp.fulfillment.in_flight is 'What a request says whose answer is awaited.';
comment on column amzmp.fulfillment.in_flight_request is 'That request.';
comment on column amzmp.fulfillment.remote is 'Who ships it as far as we know. Null: unknown.';
comment on column amzmp.fulfillment.submitted_at is 'When Amazon last accepted it from us.';
comment on column amzmp.fulfillment.agreeing is 'How many readings of Amazon''s stock in a row ask for a switch.';
comment on column amzmp.fulfillment.differs is 'Is there something to send?';

insert into amzmp.rule_parameter (name, facet, type, choices, description)
values ('fulfillment', 'stock', 'text', '{merchant,amazon,switch}',
        'Who ships: merchant, amazon, or switch: Amazon while its warehouses have stock, else the merchant.');

-- Most accounts have no such rule, and are to notice that at once.
create index rule_fulfillment on amzmp.rule (account_id) where compiled ? 'fulfillment';

insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'amazon_stock_return', 'account', 'integer', 'Back to Amazon''s stock from', '5', 1, 1000000,
        'How many units Amazon''s warehouses must have again before a SKU that was switched to the shop''s own stock goes back.'),
    (true, 'amazon_stock_reads', 'account', 'integer', 'Readings that must agree', '2', 1, 10,
        'How many readings of Amazon''s stock in a row must ask for a switch before it is made.');

-- What Amazon calls its own warehouses there.
create function amzmp._amazon_channel(place amzmp.marketplace)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select 'AMAZON_' || case when place.country_code = any ('{IN,JP,AU,SG}') then place.country_code::text else place.region end
$$;

-- Shall Amazon ship this SKU?
create function amzmp._ships_from_amazon(account_id bigint, sku text)
    returns boolean
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
        from amzmp.fulfillment as f
        where (f.account_id, f.sku, f.wanted) = (_ships_from_amazon.account_id, _ships_from_amazon.sku, 'amazon')
    );
end
$$;

-- Units in Amazon's warehouses as last read; null where they never were.
create function amzmp._amazon_quantity(account_id bigint, sku text)
    returns integer
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select max(i.observed_quantity)
    from amzmp.inventory as i
    where i.account_id = $1
        and i.sku = $2
        and i.fulfillment_channel <> 'DEFAULT'
$$;

/*
 * Bring policies into line with the rules. A SKU that comes under switch begins as Amazon has it.
 */
create function amzmp._set_fulfillment(account_id bigint, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if not exists (select from amzmp.rule as r where r.account_id = _set_fulfillment.account_id and r.compiled ? 'fulfillment')
        and not exists (select from amzmp.fulfillment as f where f.account_id = _set_fulfillment.account_id)
    then
        return;
    end if;
    with ruled as (
        select r.sku, r.compiled ->> 'fulfillment' as policy, l.by_amazon
        from amzmp._rules_for(_set_fulfillment.account_id, _set_fulfillment.skus) as r
        cross join lateral (
            select bool_or(x.fulfillment = 'amazon') as by_amazon
            from amzmp.channel as c
            join amzmp.listing as x using (account_id, channel_id)
            where c.account_id = _set_fulfillment.account_id
                and x.sku = r.sku
                and x.observed_at is not null
        ) as l
        where r.channel_id = 0
            and r.compiled ? 'fulfillment'
    ), gone as (
        delete from amzmp.fulfillment as f
        where f.account_id = _set_fulfillment.account_id
            and f.sku = any (_set_fulfillment.skus)
            and not exists (select from ruled as r where r.sku = f.sku)
    )
    insert into amzmp.fulfillment as f (account_id, sku, policy, wanted, wanted_reason, remote)
    select _set_fulfillment.account_id, r.sku, r.policy,
        case r.policy
            when 'switch' then case
                when coalesce(r.by_amazon, amzmp._amazon_quantity(_set_fulfillment.account_id, r.sku) > 0) then 'amazon' else 'merchant'
            end
            else r.policy
        end, 'a rule says ' || r.policy, case when r.by_amazon then 'amazon' when not r.by_amazon then 'merchant' end
    from ruled as r
    on conflict (account_id, sku) do update
    set policy = excluded.policy,
        wanted = case excluded.policy when 'switch' then f.wanted else excluded.wanted end,
        wanted_reason = excluded.wanted_reason,
        wanted_at = now(),
        agreeing = 0
    where f.policy <> excluded.policy;
end
$$;

comment on function amzmp._set_fulfillment(bigint, text[]) is 'Inner: who shall ship these SKUs, by the rules.';

/*
 * Amazon's stock of these SKUs was read: count the readings that ask for a switch, and switch when enough agree.
 */
create function amzmp._decide_fulfillment(account_id bigint, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    reads constant integer := amzmp._setting_int(account_id, 0, 'amazon_stock_reads');
    return_at constant integer := amzmp._setting_int(account_id, 0, 'amazon_stock_return');
    switched text[];
begin
    with seen as (
        select f.sku, a.units, case
                when f.wanted = 'amazon' then a.units = 0 and i.desired_quantity > 0
                else a.units >= return_at or a.units > 0 and coalesce(i.desired_quantity, 0) = 0
            end as asks
        from amzmp.fulfillment as f
        join amzmp.inventory as i on (i.account_id, i.sku, i.fulfillment_channel) = (f.account_id, f.sku, 'DEFAULT')
        cross join lateral amzmp._amazon_quantity(f.account_id, f.sku) as a (units)
        where f.account_id = _decide_fulfillment.account_id
            and f.sku = any (_decide_fulfillment.skus)
            and f.policy = 'switch'
            and a.units is not null
    ), counted as (
        update amzmp.fulfillment as f
        set agreeing = case when s.asks and f.agreeing + 1 < reads then f.agreeing + 1 else 0 end,
            wanted = case
                when not s.asks or f.agreeing + 1 < reads then f.wanted
                when f.wanted = 'amazon' then 'merchant'
                else 'amazon'
            end,
            wanted_at = case when s.asks and f.agreeing + 1 >= reads then now() else f.wanted_at end,
            wanted_reason = case
                when s.asks and f.agreeing + 1 >= reads then format('Amazon''s warehouses have %s units', s.units)
                else f.wanted_reason
            end
        from seen as s
        where (f.account_id, f.sku) = (_decide_fulfillment.account_id, s.sku)
            and (s.asks or f.agreeing > 0)
        returning f.sku, f.wanted, f.wanted_reason, s.asks and f.agreeing = 0 as switched
    ), logged as (
        select amzmp._log(_decide_fulfillment.account_id, null, 'notice', 'fulfillment', c.sku,
            format('%s ships from now on: %s', c.wanted, c.wanted_reason))
        from counted as c
        where c.switched
    )
    select array_agg(c.sku) into switched from counted as c where c.switched and (select count(*) from logged) >= 0;
    if switched is not null then
        perform amzmp._plan_sends(account_id, switched);
    end if;
end
$$;

comment on function amzmp._decide_fulfillment(bigint, text[]) is 'Inner: switch between Amazon''s warehouses and the shop''s, as readings of Amazon''s stock say.';

-- The instances that make Amazon, or the merchant, ship.
create function amzmp._fulfillment_patches(wanted text, place amzmp.marketplace, inventory amzmp.inventory, quantity integer)
    returns jsonb[]
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case wanted
            when 'amazon' then array[
                jsonb_build_object('op', 'replace', 'path', '/attributes/fulfillment_availability', 'value', jsonb_build_array(n.amazon)),
                jsonb_build_object('op', 'delete', 'path', '/attributes/fulfillment_availability', 'value', jsonb_build_array(n.merchant))]
            else array[
                jsonb_build_object('op', 'delete', 'path', '/attributes/fulfillment_availability', 'value', jsonb_build_array(n.amazon)),
                jsonb_build_object('op', 'replace', 'path', '/attributes/fulfillment_availability', 'value', jsonb_build_array(
                        amzmp._stock_attribute('DEFAULT', quantity, coalesce(inventory.desired_terms, '{}'), null)))]
        end
    from (
        select jsonb_build_object('fulfillment_channel_code', amzmp._amazon_channel(place)) as amazon,
            jsonb_build_object('fulfillment_channel_code', 'DEFAULT') as merchant
    ) as n
$$;

-- Who shall ship, where a write of this listing is to say so.
create function amzmp._fulfillment_to_send(listing amzmp.listing, request_id bigint, finished bigint[])
    returns text
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return (
        select f.wanted
        from amzmp.fulfillment as f
        join amzmp.inventory as i on (i.account_id, i.sku, i.fulfillment_channel) = (f.account_id, f.sku, 'DEFAULT')
        where (f.account_id, f.sku) = (listing.account_id, listing.sku)
            and (f.differs or f.in_flight_request = _fulfillment_to_send.request_id)
            and listing.listed
            and listing.wanted
            and not listing.is_parent
            and (listing.step is null or listing.step = 'stock')
            and (f.wanted = 'amazon' or i.desired_quantity is not null)
            and not amzmp._penalised(f.account_id, 'fulfillment', 0, f.sku)
            and not amzmp._in_flight(f.account_id, f.in_flight_request, finished)
            and not amzmp._in_flight(i.account_id, i.in_flight_request, finished)
            and not exists (select from amzmp._in_feeds(f.account_id, array[f.sku]) as n
                where n.quantity is not null or n.request_id = f.in_flight_request)
    );
end
$$;

create function amzmp._fulfillment_leaves(account_id bigint, sku text, request_id bigint)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    update amzmp.fulfillment as f
    set in_flight = f.wanted,
        in_flight_request = $3
    where (f.account_id, f.sku) = ($1, $2)
$$;

-- What answers mean for who ships.
create function amzmp._land_fulfillment(account_id bigint, answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    landed text[];
begin
    with done as (
        update amzmp.fulfillment as f
        set remote = case when v.accepted then f.in_flight when not v.unknown then f.remote end,
            submitted_at = case when v.accepted then a.answered_at else f.submitted_at end,
            in_flight = null,
            in_flight_request = null
        from unnest(answers) as a,
            lateral amzmp._submission_verdict(a) as v
        where (f.account_id, f.sku, f.in_flight_request)
                = (_land_fulfillment.account_id, (a.request).subject, (a.request).request_id)
        returning f.sku, f.remote
    ), shown as (
        update amzmp.listing as l
        set fulfillment = d.remote
        from done as d,
            amzmp.channel as c
        where c.account_id = _land_fulfillment.account_id
            and (l.account_id, l.channel_id, l.sku) = (c.account_id, c.channel_id, d.sku)
            and l.fulfillment <> d.remote
    )
    select array_agg(d.sku) into landed from done as d;
    if landed is not null then
        perform amzmp._share_stock(account_id, landed);
    end if;
end
$$;
