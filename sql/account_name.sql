-- account_name.sql
-- From the names that people use to accounts and channels. Nobody learns the names of accounts that he may not see.

-- Inner: the names that the caller may know, for messages and for health().
create function amzmp._names() returns setof amzmp.name
    language sql stable parallel restricted set search_path = pg_catalog, pg_temp
    begin atomic
    select n.* from amzmp.name n where amzmp._may_see(n.account_id, amzmp._caller());
    end;

-- Inner: names to ids. All raise AZ201 with the statement that is missing.
create function amzmp._resolve(name text, out account_id bigint, out channel_id bigint)
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
begin
    select n.account_id, n.channel_id into account_id, channel_id from amzmp.name n where n.name = _resolve.name;
    if name is null then
        perform amzmp._fail('AZ201', 'no account or channel is named: null', null, 'select name from amzmp.name; lists them.');
    elsif account_id is null then
        perform amzmp._fail('AZ201', format('there is no account or channel "%s"', name),
            (select 'There are: ' || string_agg(format('"%s"', n.name), ', ' order by n.name) || '.' from amzmp._names() n),
            'select amzmp.create_account(…); and select amzmp.create_channel(…); make them.');
    end if;
end
$$;

create function amzmp._account(name text) returns amzmp.account
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account;
begin
    select x.* into a from amzmp.account x join amzmp.name n using (account_id)
     where n.name = _account.name and n.channel_id = 0;
    if name is null then
        perform amzmp._fail('AZ201', 'no account is named: null', null, 'select name from amzmp.account; lists them.');
    elsif a.account_id is null then
        perform amzmp._fail('AZ201', format('there is no account "%s"', name),
            (select 'There are: ' || string_agg(format('"%s"', n.name), ', ' order by n.name) || '.' from amzmp._names() n where n.channel_id = 0),
            format('select amzmp.create_account(%L, ''EU'', …);', name));
    end if;
    return a;
end
$$;

create function amzmp._channel(name text) returns amzmp.channel
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
declare
    c amzmp.channel;
begin
    select x.* into c from amzmp.channel x join amzmp.name n using (account_id, channel_id)
     where n.name = _channel.name and not x.dropped;
    if name is null then
        perform amzmp._fail('AZ201', 'no channel is named: null', null, 'select name from amzmp.channel; lists them.');
    elsif c.account_id is null then
        perform amzmp._fail('AZ201', format('there is no channel "%s"', name),
            (select 'There are: ' || string_agg(format('"%s"', n.name), ', ' order by n.name) || '.' from amzmp._names() n where n.channel_id <> 0),
            format('select amzmp.create_channel(%L, account, marketplace);', name));
    end if;
    return c;
end
$$;

create function amzmp._check_name(name text) returns void
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
begin
    if name is null or name !~ '^[[:alnum:]_.:-]{1,60}$' then
        perform amzmp._fail('AZ202', format('"%s" is not a usable name', coalesce(name, 'NULL')), null,
            'Use 1 to 60 letters, digits or any of _ . : -');
    end if;
end
$$;
