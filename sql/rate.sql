/*
 * rate.sql
 *	  Rates by which rules convert the shop's currency into a marketplace's, each with the time from which it holds.
 *
 * A rate is never guessed: with none, or one older than rate_max_age, no new price is computed, and the offers keep what
 * they have. Rates that begin later take effect by the clock (listing.recompute_at).
 */
create table amzmp.fx_rate (
    account_id bigint not null,
    from_currency text not null,
    to_currency text not null,
    as_of timestamptz not null,
    rate numeric not null,
    set_by name not null,
    primary key (account_id, from_currency, to_currency, as_of),
    constraint fx_rate_currency_check check (from_currency ~ '^[A-Z]{3}$' and to_currency ~ '^[A-Z]{3}$'),
    constraint fx_rate_rate_check check (rate > 0 and rate < 'Infinity')
);

comment on table amzmp.fx_rate is 'Rates by which rules with a currency convert. Written by set_rate.';
comment on column amzmp.fx_rate.account_id is 'The account.';
comment on column amzmp.fx_rate.from_currency is 'Currency of the shop.';
comment on column amzmp.fx_rate.to_currency is 'Currency of the marketplace.';
comment on column amzmp.fx_rate.as_of is 'Since when it holds.';
comment on column amzmp.fx_rate.rate is 'Units of to_currency for one unit of from_currency.';
comment on column amzmp.fx_rate.set_by is 'Who set it.';

create function amzmp._set_rate(account text, from_currency text, to_currency text, rate numeric, as_of timestamptz default null)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc constant bigint := (amzmp._account(account)).account_id;
begin
    if not coalesce(upper(_set_rate.from_currency) ~ '^[A-Z]{3}$' and upper(_set_rate.to_currency) ~ '^[A-Z]{3}$'
            and _set_rate.rate > 0 and _set_rate.rate < 'Infinity', false)
    then
        perform amzmp._fail('AZ202', format('no rate: %s %s = %s', from_currency, to_currency, rate), null,
            format('select amzmp.set_rate(%L, ''EUR'', ''SEK'', 11.25);', account));
    end if;
    insert into amzmp.fx_rate as x (account_id, from_currency, to_currency, as_of, rate, set_by)
    values (acc, upper(_set_rate.from_currency), upper(_set_rate.to_currency), coalesce(_set_rate.as_of, now()), _set_rate.rate,
            amzmp._caller())
    on conflict (account_id, from_currency, to_currency, as_of) do update
    set rate = excluded.rate, set_by = excluded.set_by;
    -- rates are history only while somebody might ask for it
    delete from amzmp.fx_rate as x where x.account_id = acc and x.as_of < now() - interval '400 days';
    perform amzmp._rule_changed(acc, null, jsonb_build_object('role', amzmp._caller(), 'at', now(), 'rate', upper(from_currency || to_currency)));
end
$$;

select amzmp._expose('amzmp._set_rate(text, text, text, numeric, timestamptz)', 'amzmp_admin',
    'Set the rate by which rules with a currency convert: units of to_currency for one unit of from_currency, from as_of on (now).');

insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, recomputes, description)
values
    (true, 'rate_max_age', 'account', 'interval', 'Rates hold for', '"7 days"', 60, 31536000, true,
        'With an older rate no price is converted any more: offers keep the price that they have.');

/*
 * The rate that holds now, given or its inverse, and when the answer changes: it grows old, or a later one begins.
 */
create function amzmp._rate(account_id bigint, from_currency text, to_currency text, out rate numeric, out as_of timestamptz,
    out again_at timestamptz)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    oldest constant timestamptz := now() - amzmp._setting_interval(account_id, 0, 'rate_max_age');
begin
    select case x.from_currency when _rate.from_currency then x.rate else 1 / x.rate end, x.as_of
    into rate, as_of
    from amzmp.fx_rate as x
    where x.account_id = _rate.account_id
        and (x.from_currency, x.to_currency) in ((_rate.from_currency, _rate.to_currency), (_rate.to_currency, _rate.from_currency))
        and x.as_of <= now()
    order by x.as_of desc, x.from_currency = _rate.from_currency desc
    limit 1;
    again_at := least(
        case when as_of >= oldest then as_of + (now() - oldest) end,
        (
            select min(x.as_of)
            from amzmp.fx_rate as x
            where x.account_id = _rate.account_id
                and (x.from_currency, x.to_currency) in ((_rate.from_currency, _rate.to_currency), (_rate.to_currency, _rate.from_currency))
                and x.as_of > now()
        ));
    if as_of < oldest then
        rate := null;
    end if;
end
$$;
