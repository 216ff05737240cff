-- setting_value.sql
-- The values of settings: checked and set by a person, looked up by everybody, and shown with where they come from.

-- Bring a value that a person typed into the type of its definition; error AZ202 says what was expected.
create function amzmp._parse_setting(definition amzmp.setting_definition, value text)
    returns jsonb
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
    set intervalstyle = 'postgres'
    set datestyle = 'ISO, YMD'
    set timezone = 'UTC'
as $$
declare
    parsed jsonb;
    size numeric;
    expected text;
begin
    expected := case definition.type
        when 'integer' then 'A whole number'
        when 'number' then 'A number'
        when 'boolean' then 'true or false'
        when 'interval' then 'A length of time such as ''10 minutes'''
        when 'timestamp' then 'A time such as ''2026-01-31T12:00:00Z'''
        when 'json' then 'A JSON value'
        when 'list' then 'A list: a JSON array of texts, or texts separated by commas'
        else 'A text'
    end;
    begin
        case definition.type
            when 'text' then
                parsed := to_jsonb(value);
            when 'integer' then
                size := value::bigint;
                parsed := to_jsonb(size);
            when 'number' then
                size := value::numeric;
                parsed := to_jsonb(size);
            when 'boolean' then
                parsed := to_jsonb(value::boolean);
            when 'interval' then
                size := extract(epoch from value::interval);
                parsed := to_jsonb(value::interval::text);
            when 'timestamp' then
                parsed := case when isfinite(value::timestamptz) then to_jsonb(value::timestamptz) end;
            when 'json' then
                parsed := value::jsonb;
            when 'list' then
                parsed := amzmp._parse_list(value);
        end case;
    exception
        when data_exception then
            parsed := null;
    end;
    expected := expected || case
        when definition.choices is not null then ', of: ' || (
            select string_agg(choice, ', ' order by position)
            from jsonb_array_elements_text(definition.choices) with ordinality as c (choice, position)
        )
        when definition.minimum is not null and definition.maximum is not null then
            format(' from %s to %s', definition.minimum, definition.maximum)
        when definition.minimum is not null then format(', at least %s', definition.minimum)
        when definition.maximum is not null then format(', at most %s', definition.maximum)
        when definition.pattern is not null then format(' that matches %s', definition.pattern)
        else ''
    end || case
        when definition.type = 'interval' and num_nonnulls(definition.minimum, definition.maximum) > 0 then ' seconds'
        else ''
    end;
    if parsed is null
        or size = 'NaN'
        or size in ('Infinity', '-Infinity')
        or size < definition.minimum
        or size > definition.maximum
        or not coalesce(definition.choices @> parsed, true)
        or not coalesce(value ~ definition.pattern, true)
    then
        raise exception using
            errcode = 'AZ202',
            message = format('invalid value %L for setting "%s"', value, definition.name),
            detail = format('Expected: %s.', expected),
            hint = definition.description;
    end if;
    return parsed;
end
$$;

-- The elements of a list, from JSON or from a comma separated text; error 22023 for JSON that is not a list of texts.
create function amzmp._parse_list(value text)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    parsed jsonb;
begin
    if ltrim(value) like '[%' then
        parsed := value::jsonb;
        if jsonb_path_exists(parsed, 'strict $[*] ? (@.type() != "string")') then
            raise exception using errcode = '22023', message = 'list of something else than texts';
        end if;
        return parsed;
    end if;
    return coalesce(
        (
            select jsonb_agg(btrim(element) order by position)
            from regexp_split_to_table(value, ',') with ordinality as e (element, position)
            where btrim(element) <> ''
        ),
        '[]'
    );
end
$$;

-- Set one value, or take it away with null. See amzmp.set.
create function amzmp._set(account_or_channel text, setting text, value text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    target record;
    definition amzmp.setting_definition;
    previous jsonb;
    parsed jsonb;
begin
    select r.account_id, r.channel_id into strict target
    from amzmp._resolve(_set.account_or_channel) as r;
    definition := amzmp._find_setting(_set.setting);
    if definition.scope = 'account' and target.channel_id <> 0 then
        raise exception using
            errcode = 'AZ202',
            message = format('setting "%s" belongs to an account, and %L is a channel', definition.name, _set.account_or_channel),
            hint = (
                select format('Set it for the account: select amzmp.set(%L, %L, %L);', n.name, definition.name, _set.value)
                from amzmp.name as n
                where n.account_id = target.account_id and n.channel_id = 0
            );
    elsif definition.scope = 'channel' and target.channel_id = 0 then
        raise exception using
            errcode = 'AZ202',
            message = format('setting "%s" belongs to a channel, and %L is an account', definition.name, _set.account_or_channel),
            hint = 'Set it for each of the account''s channels.';
    end if;
    previous := amzmp._setting_value(target.account_id, target.channel_id, definition.name);
    if _set.value is null then
        delete from amzmp.setting as s
        where s.account_id = target.account_id and s.channel_id = target.channel_id and s.name = definition.name;
    else
        parsed := amzmp._parse_setting(definition, _set.value);
        insert into amzmp.setting (account_id, channel_id, name, value, set_at, set_by)
        values (target.account_id, target.channel_id, definition.name, parsed, now(), amzmp._caller())
        on conflict (account_id, channel_id, name) do update
        set value = excluded.value, set_at = excluded.set_at, set_by = excluded.set_by;
    end if;
    if definition.recomputes
        and amzmp._setting_value(target.account_id, target.channel_id, definition.name) is distinct from previous
    then
        perform amzmp._setting_recomputes(target.account_id);
    end if;
end
$$;

select amzmp._expose('amzmp._set(text, text, text)', 'amzmp_admin',
    'Set a setting of an account or a channel; null takes it away, so that the account''s value or the default holds again. amzmp.setting_effective lists settings and values.');

-- A value changed that prices or stock follow from: every source of the account is compared whole, and rows that the
-- shop did not change are computed anew as well.
create function amzmp._setting_recomputes(account_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    update amzmp.source as s
    set rescan_due = now(), rescan_requested_at = now(), rescan_reason = 'setting', rescan_force = true
    where s.account_id = _setting_recomputes.account_id;
    if found then
        perform amzmp._wake();
    end if;
end
$$;

-- The definition of a setting; error AZ201 if there is none. (Not named like the table: _table is its array type, and
-- a call with a bare literal would be taken for a cast to it.)
create function amzmp._find_setting(setting text)
    returns amzmp.setting_definition
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    definition amzmp.setting_definition;
begin
    select d.* into definition from amzmp.setting_definition as d where d.name = setting;
    if not found then
        raise exception using
            errcode = 'AZ201',
            message = format('unknown setting %L', setting),
            hint = 'The view amzmp.setting_effective lists them; a setting of your own is a row in amzmp.setting_definition.';
    end if;
    return definition;
end
$$;

-- What holds: the channel's value, else the account's, else the default; null if there is none.
create function amzmp._setting_value(account_id bigint, channel_id bigint, name text)
    returns jsonb
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    found_value jsonb;
begin
    select s.value into found_value
    from amzmp.setting as s
    where s.account_id = _setting_value.account_id
        and s.channel_id in (_setting_value.channel_id, 0)
        and s.name = _setting_value.name
    order by s.channel_id desc
    limit 1;
    if found_value is null then
        select d.default_value into found_value
        from amzmp.setting_definition as d
        where d.name = _setting_value.name;
    end if;
    return found_value;
end
$$;

-- The same in the type that its definition has. (Without a search_path of their own, so that they become a part of the caller.)
create function amzmp._setting_text(account_id bigint, channel_id bigint, name text)
    returns text
    language sql
    stable
    parallel safe
    return amzmp._setting_value(account_id, channel_id, name) #>> '{}';

create function amzmp._setting_int(account_id bigint, channel_id bigint, name text)
    returns integer
    language sql
    stable
    parallel safe
    return (amzmp._setting_value(account_id, channel_id, name) #>> '{}')::integer;

create function amzmp._setting_numeric(account_id bigint, channel_id bigint, name text)
    returns numeric
    language sql
    stable
    parallel safe
    return (amzmp._setting_value(account_id, channel_id, name) #>> '{}')::numeric;

create function amzmp._setting_bool(account_id bigint, channel_id bigint, name text)
    returns boolean
    language sql
    stable
    parallel safe
    return (amzmp._setting_value(account_id, channel_id, name) #>> '{}')::boolean;

create function amzmp._setting_interval(account_id bigint, channel_id bigint, name text)
    returns interval
    language sql
    stable
    parallel safe
    return (amzmp._setting_value(account_id, channel_id, name) #>> '{}')::interval;

create function amzmp._setting_timestamp(account_id bigint, channel_id bigint, name text)
    returns timestamptz
    language sql
    stable
    parallel safe
    return (amzmp._setting_value(account_id, channel_id, name) #>> '{}')::timestamptz;

create function amzmp._setting_list(account_id bigint, channel_id bigint, name text)
    returns text[]
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array(select jsonb_array_elements_text(amzmp._setting_value(account_id, channel_id, name)));
end
$$;

-- Settings that a flow needs and that have no value; enable() names them.
create function amzmp._settings_missing(account_id bigint, channel_id bigint, flow text)
    returns text[]
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array(
        select d.name
        from amzmp.setting_definition as d
        where _settings_missing.flow = any (d.required_by)
            and d.scope in ('both', case _settings_missing.channel_id when 0 then 'account' else 'channel' end)
            and amzmp._setting_value(_settings_missing.account_id, _settings_missing.channel_id, d.name) is null
        order by d.name
    );
$$;

create view amzmp.setting_effective
with (security_invoker = true)
as
with place as (
    select a.account_id, 0::bigint as channel_id, a.name as account, null::text as channel
    from amzmp.account as a
    where a.state <> 'dropped'
    union all
    select c.account_id, c.channel_id, a.name, c.name
    from amzmp.channel as c
    join amzmp.account as a on a.account_id = c.account_id
    where not c.dropped
)
select p.account_id, p.channel_id, p.account, p.channel, d.name as setting, d.label, d.type,
    coalesce(own.value, inherited.value, d.default_value) as value,
    case
        when own.value is not null then case p.channel_id when 0 then 'account' else 'channel' end
        when inherited.value is not null then 'account'
        when d.default_value is not null then 'default'
    end as set_at_level,
    coalesce(own.set_at, inherited.set_at) as set_at, coalesce(own.set_by, inherited.set_by) as set_by
from place as p
cross join amzmp.setting_definition as d
left join amzmp.setting as own
    on own.account_id = p.account_id and own.channel_id = p.channel_id and own.name = d.name
left join amzmp.setting as inherited
    on inherited.account_id = p.account_id and inherited.channel_id = 0 and inherited.name = d.name
where d.scope <> 'channel' or p.channel_id <> 0;

comment on view amzmp.setting_effective is 'The value that holds for each setting of each account and channel, and where it comes from.';
comment on column amzmp.setting_effective.account_id is 'The account.';
comment on column amzmp.setting_effective.channel_id is 'The channel; 0: the account itself.';
comment on column amzmp.setting_effective.account is 'Name of the account.';
comment on column amzmp.setting_effective.channel is 'Name of the channel; null: the account itself.';
comment on column amzmp.setting_effective.setting is 'Name of the setting.';
comment on column amzmp.setting_effective.label is 'Its short name for people.';
comment on column amzmp.setting_effective.type is 'Its type.';
comment on column amzmp.setting_effective.value is 'The value that holds; null: none.';
comment on column amzmp.setting_effective.set_at_level is 'Where the value comes from: channel, account or default; null: there is none.';
comment on column amzmp.setting_effective.set_at is 'When it was set; null for a default.';
comment on column amzmp.setting_effective.set_by is 'Who set it; null for a default.';

create view amzmp.settings_missing
with (security_invoker = true)
as
select e.account, e.channel, f.flow, e.setting, e.label
from amzmp.setting_effective as e
join amzmp.setting_definition as d on d.name = e.setting
cross join lateral unnest(d.required_by) as f (flow)
where e.value is null
    and (d.scope <> 'account' or e.channel_id = 0);

comment on view amzmp.settings_missing is 'Settings without a value, and the flows that cannot be enabled until they have one.';
comment on column amzmp.settings_missing.account is 'Name of the account.';
comment on column amzmp.settings_missing.channel is 'Name of the channel; null: the account itself.';
comment on column amzmp.settings_missing.flow is 'The flow that needs it.';
comment on column amzmp.settings_missing.setting is 'Name of the setting; give it a value with amzmp.set.';
comment on column amzmp.settings_missing.label is 'Its short name for people.';
