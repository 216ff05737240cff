-- account.sql
-- Applications, accounts, channels: who we are at Amazon, and with which secrets.

create sequence amzmp.application_id_seq as bigint;
create sequence amzmp.account_id_seq as bigint;
create sequence amzmp.channel_id_seq as bigint;

create table amzmp.application (
    application_id bigint primary key default nextval('amzmp.application_id_seq'),
    name text not null unique check (name ~ '^[[:alnum:]_.:-]{1,60}$'),
    client_id text not null,
    amazon_application_id text,
    redirect_uri text,
    client_secret bytea,
    secret_expires_at timestamptz,
    generation bigint not null default 1,
    created_at timestamptz not null default now()
);

create table amzmp.account (
    account_id bigint primary key default nextval('amzmp.account_id_seq'),
    name text not null check (name ~ '^[[:alnum:]_.:-]{1,60}$'),
    region text not null references amzmp.region,
    application_id bigint not null references amzmp.application,
    seller_id text check (seller_id ~ '^[A-Z0-9]{6,20}$'),
    mode text not null default 'production' check (mode in ('production', 'sandbox', 'mock')),
    endpoint text not null,
    token_endpoint text not null,
    refresh_token bytea,
    generation bigint not null default 1,
    state text not null default 'added' check (state in ('added', 'valid', 'invalid', 'dropped')),
    state_reason text,
    active boolean not null default false,
    time_scale numeric not null default 1 check (time_scale between 0.001 and 1000000),
    rate_scale numeric not null default 1 check (rate_scale >= 0),
    note text,
    created_at timestamptz not null default now(),
    check (mode = 'mock' or (time_scale = 1 and rate_scale = 1))
);

-- The few whose credentials were refused: new ones are for all of an application.
create index account_invalid on amzmp.account (application_id) where state = 'invalid';

create table amzmp.channel (
    account_id bigint not null references amzmp.account,
    channel_id bigint not null default nextval('amzmp.channel_id_seq'),
    name text not null check (name ~ '^[[:alnum:]_.:-]{1,60}$'),
    marketplace_id text not null references amzmp.marketplace,
    active boolean not null default false,
    dropped boolean not null default false,
    note text,
    created_at timestamptz not null default now(),
    primary key (account_id, channel_id),
    unique (account_id, marketplace_id)
);

-- A small reference table: one name space for accounts and channels, so that set(), attach_source() … take either.
create table amzmp.name (
    name text primary key,
    account_id bigint not null,
    channel_id bigint not null default 0,
    unique (account_id, channel_id)
);

-- Which roles see only some accounts. A role without a row (itself or through membership) sees all.
create table amzmp.account_access (
    account_id bigint not null references amzmp.account,
    role_name name not null,
    primary key (account_id, role_name)
);

comment on table amzmp.application is 'An application registered with Amazon: client id and sealed client secret, shared by accounts.';
comment on column amzmp.application.application_id is 'Number of the application.';
comment on column amzmp.application.name is 'Its name in calls.';
comment on column amzmp.application.client_id is 'LWA client id, amzn1.application-oa2-client.…';
comment on column amzmp.application.amazon_application_id is 'Amazon''s number of the application, amzn1.sp.solution.…; needed for consent links alone.';
comment on column amzmp.application.redirect_uri is 'Where Amazon sends a seller after the consent, as registered with Amazon.';
comment on column amzmp.application.client_secret is 'The client secret, sealed.';
comment on column amzmp.application.secret_expires_at is 'When Amazon ends the client secret: as Amazon said, else 180 days after it was first given to us. health() warns 30 days ahead.';
comment on column amzmp.application.generation is 'Grows with each new secret, so that cached tokens of the old one are left.';
comment on column amzmp.application.created_at is 'When it was registered here.';
comment on table amzmp.account is 'A selling partner in one region, with a sealed refresh token.';
comment on column amzmp.account.account_id is 'Number of the account; first column of every key that belongs to it.';
comment on column amzmp.account.name is 'Its name in calls.';
comment on column amzmp.account.region is 'NA, EU or FE, see amzmp.region.';
comment on column amzmp.account.application_id is 'The application that acts for it.';
comment on column amzmp.account.seller_id is 'Amazon''s id of the seller ("Merchant token").';
comment on column amzmp.account.mode is 'production, sandbox (Amazon''s, with fixed answers) or mock (a simulator).';
comment on column amzmp.account.endpoint is 'Where its calls go.';
comment on column amzmp.account.token_endpoint is 'Where its access tokens come from.';
comment on column amzmp.account.refresh_token is 'The refresh token, sealed.';
comment on column amzmp.account.generation is 'Grows with each new token, so that cached ones are left.';
comment on column amzmp.account.state is 'added: not yet checked; valid: test_connection succeeded or calls work; invalid: credentials refused (see state_reason); dropped.';
comment on column amzmp.account.state_reason is 'Why it is invalid, in Amazon''s words.';
comment on column amzmp.account.active is 'Has it been switched on by activate()?';
comment on column amzmp.account.time_scale is 'Mock accounts only: how much faster than the wall clock the simulator''s time runs.';
comment on column amzmp.account.rate_scale is 'Mock accounts only: factor on usage-plan rates; 0 switches the limits off.';
comment on column amzmp.account.note is 'For people.';
comment on column amzmp.account.created_at is 'When it was registered here.';
comment on table amzmp.channel is 'An account in one marketplace.';
comment on column amzmp.channel.account_id is 'The account.';
comment on column amzmp.channel.channel_id is 'Number of the channel.';
comment on column amzmp.channel.name is 'Its name in calls.';
comment on column amzmp.channel.marketplace_id is 'Amazon''s marketplace, see amzmp.marketplace.';
comment on column amzmp.channel.active is 'Has it been switched on by activate()?';
comment on column amzmp.channel.dropped is 'Was it given up by drop_channel()? Its orders and history stay.';
comment on column amzmp.channel.note is 'For people.';
comment on column amzmp.channel.created_at is 'When it was registered here.';
comment on table amzmp.name is 'The one name space of accounts and channels.';
comment on column amzmp.name.name is 'The name.';
comment on column amzmp.name.account_id is 'The account.';
comment on column amzmp.name.channel_id is 'The channel; 0: the name is that of the account.';
comment on table amzmp.account_access is 'Roles limited to some accounts; a role without a row here sees all.';
comment on column amzmp.account_access.account_id is 'An account that the role sees.';
comment on column amzmp.account_access.role_name is 'The role that is limited.';

-- Inner: may a role see an account? SECURITY DEFINER because row policies call it as the reader.
create function amzmp._may_see(account_id bigint, role_name name) returns boolean
    language sql stable parallel safe security definer set search_path = pg_catalog, pg_temp
    begin atomic
    select coalesce((select r.rolsuper from pg_roles r where r.rolname = _may_see.role_name), false)
        or not exists (select from amzmp.account_access x, pg_roles r
                        where r.rolname = x.role_name and pg_has_role(_may_see.role_name, r.oid, 'usage'))
        or exists (select from amzmp.account_access x, pg_roles r
                    where x.account_id = _may_see.account_id and r.rolname = x.role_name
                      and pg_has_role(_may_see.role_name, r.oid, 'usage'));
    end;

create function amzmp._check_access(name text) returns void
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
begin
    if exists (select from amzmp.name n where n.name = _check_access.name
                  and not amzmp._may_see(n.account_id, amzmp._caller())) then
        perform amzmp._fail('42501', format('role "%s" is limited to other accounts than that of "%s"', amzmp._caller(), name),
            null, format('A member of amzmp_admin can widen it: select amzmp.limit_role(%L, array[…]);', amzmp._caller()));
    end if;
end
$$;

-- Inner: what belongs to all accounts at once is not for a role that is limited to some, its own limit least of all.
create function amzmp._require_unlimited(verb text) returns void
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
begin
    -- no account has number 0, so only a role without any limit sees it
    if not amzmp._may_see(0, amzmp._caller()) then
        perform amzmp._fail('42501', format('role "%s" is limited to some accounts, and %s is about all', amzmp._caller(), verb),
            null, 'Ask a member of amzmp_admin that is not limited.');
    end if;
end
$$;

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

-- Inner: Amazon's clock as an account sees it. time_scale changes are rare, so the scaled clock starts at the account's birth.
create function amzmp._now(account_id bigint) returns timestamptz
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
begin
    return (select case when a.time_scale = 1 then now() else a.created_at + (now() - a.created_at) * a.time_scale::float8 end
              from amzmp.account a where a.account_id = _now.account_id);
end
$$;

-- A time as Amazon wants it: UTC, whole seconds.
create function amzmp._iso_time(at timestamptz) returns text
    language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
    as $$
begin
    return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
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

create function amzmp._create_application(name text, client_id text, application_id text default null,
    redirect_uri text default null) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    id bigint;
begin
    perform amzmp._check_name(name);
    if coalesce(client_id, '') !~ '^amzn1\.application-oa2-client\.' then
        perform amzmp._fail('AZ202', format('"%s" is not an LWA client id', coalesce(client_id, 'NULL')), null,
            'It begins with amzn1.application-oa2-client. and is shown under "LWA credentials" in the developer portal.');
    elsif exists (select from amzmp.application x where x.name = _create_application.name) then
        perform amzmp._fail('42710', format('application "%s" exists', name));
    end if;
    insert into amzmp.application as x (name, client_id, amazon_application_id, redirect_uri)
    values (_create_application.name, _create_application.client_id, _create_application.application_id,
            _create_application.redirect_uri)
    returning x.application_id into id;
    return id;
end
$$;
select amzmp._expose('amzmp._create_application(text, text, text, text)', 'amzmp_admin',
    'Register an application: its LWA client id and, for consent links, its application id (amzn1.sp.solution…) and redirect URI.');

-- Inner: an endpoint of a mock account is loopback, or a host that a superuser allowed.
create function amzmp._check_endpoint(url text) returns void
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
declare
    host text := substring(url from '^https?://(\[[0-9a-f:]+\]|[^/:?#@]+)(?::[0-9]+)?(?:/[^?#]*)?$');
begin
    if host is null then
        perform amzmp._fail('AZ202', format('"%s" is not a usable endpoint', url), null, 'Write http://127.0.0.1:PORT or https://HOST.');
    elsif host not in ('127.0.0.1', 'localhost', '[::1]')
       and not host = any (string_to_array(replace(coalesce(current_setting('amzmp.allowed_hosts', true), ''), ' ', ''), ',')) then
        perform amzmp._fail('AZ004', format('host "%s" is not allowed as an endpoint', host),
            'An account''s credentials would be sent there.', 'A superuser can add it to amzmp.allowed_hosts.');
    end if;
end
$$;

create function amzmp._create_account(name text, region text, application text, seller_id text default null,
    mode text default 'production', endpoint text default null, token_endpoint text default null,
    time_scale numeric default 1, rate_scale numeric default 1) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    r amzmp.region;
    p amzmp.application;
    id bigint;
begin
    perform amzmp._require_unlimited('create_account');
    perform amzmp._check_name(name);
    select x.* into r from amzmp.region x where x.region = upper(_create_account.region);
    select x.* into p from amzmp.application x where x.name = _create_account.application;
    if r.region is null then
        perform amzmp._fail('AZ202', format('"%s" is not a region', region), null, 'Regions are NA, EU and FE.');
    elsif p.application_id is null then
        perform amzmp._fail('AZ201', format('there is no application "%s"', application), null,
            format('select amzmp.create_application(%L, client_id);', application));
    elsif exists (select from amzmp.name n where n.name = _create_account.name) then
        perform amzmp._fail('42710', format('the name "%s" is taken', name));
    elsif mode not in ('production', 'sandbox', 'mock') then
        perform amzmp._fail('AZ202', format('"%s" is not a mode', mode), null, 'Modes are production, sandbox and mock.');
    elsif mode = 'mock' and endpoint is null then
        perform amzmp._fail('AZ202', 'a mock account needs an endpoint', null, 'Name the simulator, for example http://127.0.0.1:8080.');
    elsif mode <> 'mock' and (endpoint is not null or token_endpoint is not null or time_scale <> 1 or rate_scale <> 1) then
        perform amzmp._fail('AZ202', 'endpoints, time_scale and rate_scale are for mock accounts', null,
            'Leave them out: they follow from region and mode.');
    elsif seller_id is not null and seller_id !~ '^[A-Z0-9]{6,20}$' then
        perform amzmp._fail('AZ202', format('"%s" is not a seller id', seller_id), null,
            'It is 6 to 20 capital letters and digits (Seller Central, "Merchant token").');
    end if;
    if mode = 'mock' then
        perform amzmp._check_endpoint(endpoint);
        perform amzmp._check_endpoint(coalesce(token_endpoint, endpoint));
    end if;
    insert into amzmp.account (name, region, application_id, seller_id, mode, endpoint, token_endpoint, time_scale, rate_scale)
    values (_create_account.name, r.region, p.application_id, _create_account.seller_id, _create_account.mode,
            rtrim(case _create_account.mode when 'mock' then _create_account.endpoint
                      when 'sandbox' then r.sandbox_endpoint else r.endpoint end, '/'),
            case when _create_account.mode = 'mock'
                 then coalesce(_create_account.token_endpoint, rtrim(_create_account.endpoint, '/') || '/auth/o2/token')
                 else 'https://api.amazon.com/auth/o2/token' end,
            _create_account.time_scale, _create_account.rate_scale)
    returning account_id into id;
    insert into amzmp.name (name, account_id) values (_create_account.name, id);
    perform amzmp._default_flows(id, 0);
    return id;
end
$$;
select amzmp._expose('amzmp._create_account(text, text, text, text, text, text, text, numeric, numeric)', 'amzmp_admin',
    'Register a selling account in one region (NA, EU, FE). mode: production, sandbox or mock (endpoint, token_endpoint, time_scale and rate_scale are for mock only). Inactive until activate().');

create function amzmp._create_channel(name text, account text, marketplace text) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account := amzmp._account(account);
    m amzmp.marketplace := amzmp._marketplace(marketplace);
    id bigint;
begin
    perform amzmp._check_name(name);
    if m.region <> a.region then
        perform amzmp._fail('AZ202', format('marketplace %s belongs to region %s, account "%s" to %s', m.country_code, m.region, a.name, a.region),
            null, 'Create an account in that region: a refresh token covers one region.');
    elsif exists (select from amzmp.name n where n.name = _create_channel.name) then
        perform amzmp._fail('42710', format('the name "%s" is taken', name));
    elsif exists (select from amzmp.channel c
                   where c.account_id = a.account_id and c.marketplace_id = m.marketplace_id and not c.dropped) then
        perform amzmp._fail('42710', format('account "%s" has a channel for %s already', a.name, m.country_code));
    end if;
    insert into amzmp.channel (account_id, name, marketplace_id)
    values (a.account_id, _create_channel.name, m.marketplace_id)
    on conflict (account_id, marketplace_id) do update set name = excluded.name, dropped = false
    returning channel_id into id;
    insert into amzmp.name (name, account_id, channel_id) values (_create_channel.name, a.account_id, id);
    perform amzmp._default_flows(a.account_id, id);
    return id;
end
$$;
select amzmp._expose('amzmp._create_channel(text, text, text)', 'amzmp_admin',
    'An account in one marketplace, by country code (DE) or marketplace id. Inactive until activate().');

-- Inner: is this the client secret that we have? One that cannot be opened (its key is lost) is not.
create function amzmp._opens_to(sealed bytea, row_key text, secret text) returns boolean
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
begin
    return coalesce(amzmp._open(sealed, 'client_secret', row_key) = secret, false);
exception when others then
    return false;
end
$$;

-- Inner: seal credentials; NULL leaves what is there.
create function amzmp._store_credentials(account_id bigint, client_secret text, refresh_token text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account;
begin
    select x.* into strict a from amzmp.account x where x.account_id = _store_credentials.account_id;
    if client_secret is not null then
        -- Amazon ends a secret 180 days after it was made; one that we had already is no younger for being set again
        update amzmp.application p
           set client_secret = amzmp._seal(_store_credentials.client_secret, 'client_secret', 'application:' || p.application_id),
               secret_expires_at = case when amzmp._opens_to(p.client_secret, 'application:' || p.application_id, _store_credentials.client_secret)
                                        then p.secret_expires_at else now() + interval '180 days' end,
               generation = p.generation + 1
         where p.application_id = a.application_id;
    end if;
    update amzmp.account x
       set refresh_token = case when _store_credentials.refresh_token is null then x.refresh_token
               else amzmp._seal(_store_credentials.refresh_token, 'refresh_token', 'account:' || x.account_id) end,
           generation = x.generation + 1, state = 'added', state_reason = null
     where x.account_id = a.account_id;
    if client_secret is not null then
        -- what stopped for the old secret goes on with this one
        update amzmp.account x set state = 'added', state_reason = null, generation = x.generation + 1
         where x.application_id = a.application_id and x.state = 'invalid' and x.state_reason like 'application "%';
    end if;
    perform amzmp._log(a.account_id, 0, 'notice', 'account', a.name, format('credentials set by %s', amzmp._caller()));
    perform amzmp._wake();
end
$$;

-- A file in amzmp.credentials_dir (lines "client_secret: …" and "refresh_token: …"), so that no statement holds a secret;
-- literals for mock and sandbox accounts only.
create function amzmp._set_credentials(account text, file text default null, client_secret text default null,
    refresh_token text default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account := amzmp._account(account);
    content text;
begin
    if (file is null) = (client_secret is null and refresh_token is null) then
        perform amzmp._fail('AZ202', 'name a file, or give literals, not both', null,
            format('select amzmp.set_credentials(%L, file => ''%s.txt'');', a.name, a.name));
    elsif file is null and a.mode = 'production' then
        perform amzmp._fail('AZ004', 'a production account takes its credentials from a file',
            'A literal would stand in the server log when the statement fails.',
            'Write "client_secret: …" and "refresh_token: …" into a file in amzmp.credentials_dir and pass file => its name.');
    end if;
    if file is not null then
        content := amzmp._read_credentials_file(file);
        client_secret := substring(content from '(?n)^\s*client_secret\s*[:=]\s*(\S+)\s*$');
        refresh_token := substring(content from '(?n)^\s*refresh_token\s*[:=]\s*(\S+)\s*$');
        if client_secret is null and refresh_token is null then
            perform amzmp._fail('AZ202', format('file "%s" holds no credentials', file), null,
                'Expected are lines "client_secret: …" and "refresh_token: …".');
        end if;
    end if;
    -- who is limited to no account (0 is nobody's number) may see them all, however many they are
    if client_secret is not null and not amzmp._may_see(0, amzmp._caller()) and exists (
            select from amzmp.account x
             where x.application_id = a.application_id and not amzmp._may_see(x.account_id, amzmp._caller())) then
        perform amzmp._fail('42501',
            format('the client secret of account %L is shared with accounts that role "%s" may not see', a.name, amzmp._caller()), null,
            'Give the refresh token only, or ask a member of amzmp_admin that is not limited.');
    end if;
    perform amzmp._store_credentials(a.account_id, client_secret, refresh_token);
end
$$;
select amzmp._expose('amzmp._set_credentials(text, text, text, text)', 'amzmp_admin',
    'Store client secret and refresh token, sealed: from a file in amzmp.credentials_dir, or (mock and sandbox accounts only) as literals.');

-- Inner: one file of the directory that a superuser named. Superuser rights are needed to read it: C does it.
create function amzmp._read_credentials_file(file text) returns text
    language c volatile strict parallel unsafe set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_read_credentials_file';

-- Inner, sender: Amazon refused the credentials; the account's flows stop until they are set again.
-- A client secret is the application's: where that is what was refused, all its accounts wait for another one.
create function amzmp._account_invalid(account_id bigint, code text, reason text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    told bigint;
begin
    with refused as (
        select a.account_id, a.name, format('%s%s: %s', case when code = 'invalid_client' then format('application "%s": ', p.name) end,
                                            code, reason) as why
          from amzmp.account this
          join amzmp.application p using (application_id)
          join amzmp.account a on a.account_id = this.account_id or code = 'invalid_client' and a.application_id = p.application_id
         where this.account_id = _account_invalid.account_id and a.state <> 'dropped' and a.mode = this.mode
    ), marked as (
        update amzmp.account a set state = 'invalid', state_reason = r.why
          from refused r
         where a.account_id = r.account_id and (a.state, a.state_reason) is distinct from ('invalid', r.why)
        returning a.account_id, a.name, r.why
    )
    select count(amzmp._log(m.account_id, 0, 'error', 'account', m.name, 'credentials refused: ' || m.why,
                            jsonb_build_object('hint', 'Mend them with set_credentials(); the flows go on by themselves.')))
      into told from marked m;
    notify amzmp_account;
end
$$;

create function amzmp._activate(account_or_channel text) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    target record;
    a amzmp.account;
    p amzmp.application;
begin
    select * into target from amzmp._resolve(account_or_channel);
    select x.* into a from amzmp.account x where x.account_id = target.account_id;
    select x.* into p from amzmp.application x where x.application_id = a.application_id;
    if p.client_secret is null or a.refresh_token is null then
        perform amzmp._fail('AZ003', format('account "%s" has no credentials', a.name), null,
            format('select amzmp.set_credentials(%L, file => …);', a.name));
    elsif a.seller_id is null then
        perform amzmp._fail('AZ003', format('account "%s" has no seller id', a.name), null,
            format('select amzmp.set_seller_id(%L, …);', a.name));
    elsif a.mode = 'production' and coalesce(current_setting('amzmp.node_identity', true), '') = '' then
        perform amzmp._fail('AZ003', 'amzmp.node_identity is not set',
            'It tells this node from its copies and must stand outside the data directory.',
            'Set it in postgresql.conf''s include outside the data directory, reload, and try again.');
    end if;
    perform amzmp._first_identity();
    if target.channel_id = 0 then
        update amzmp.account x set active = true where x.account_id = target.account_id;
    else
        if not a.active then
            perform amzmp._fail('AZ203', format('account "%s" is not active', a.name), null, format('select amzmp.activate(%L);', a.name));
        end if;
        update amzmp.channel x set active = true where x.account_id = target.account_id and x.channel_id = target.channel_id;
    end if;
    perform amzmp._enable_defaults(target.account_id, target.channel_id);
    perform amzmp._log(target.account_id, target.channel_id, 'notice', 'account', account_or_channel, format('activated by %s', amzmp._caller()));
    perform amzmp._read_back(target.account_id);    -- what was left in doubt
    perform amzmp._plan_sends(target.account_id);   -- what changed while it was off
    perform amzmp._wake();
    return case when target.channel_id = 0 then 'account active; now activate its channels' else 'channel active' end;
end
$$;
select amzmp._expose('amzmp._activate(text)', 'amzmp_admin', 'Switch an account or a channel on, with its default flows. Call schedule() once, as the role that shall own the pg_cron jobs.');

create function amzmp._deactivate(account_or_channel text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    target record;
begin
    select * into target from amzmp._resolve(account_or_channel);
    if target.channel_id = 0 then
        update amzmp.account x set active = false where x.account_id = target.account_id;
    else
        update amzmp.channel x set active = false where x.account_id = target.account_id and x.channel_id = target.channel_id;
    end if;
    perform amzmp._log(target.account_id, target.channel_id, 'notice', 'account', account_or_channel, format('deactivated by %s', amzmp._caller()));
end
$$;
select amzmp._expose('amzmp._deactivate(text)', 'amzmp_admin', 'Switch an account or a channel off: nothing is sent or polled; what is at Amazon stays as it is.');

create function amzmp._drop_channel(channel text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    c amzmp.channel := amzmp._channel(channel);
begin
    update amzmp.channel x set dropped = true, active = false where x.account_id = c.account_id and x.channel_id = c.channel_id;
    update amzmp.account_flow f set enabled = false where f.account_id = c.account_id and f.channel_id = c.channel_id;
    delete from amzmp.request r where r.account_id = c.account_id and r.channel_id = c.channel_id and r.state in ('due', 'held');
    delete from amzmp.name n where n.account_id = c.account_id and n.channel_id = c.channel_id;
    perform amzmp._log(c.account_id, c.channel_id, 'notice', 'channel', c.name, format('dropped by %s', amzmp._caller()));
end
$$;
select amzmp._expose('amzmp._drop_channel(text)', 'amzmp_admin', 'Stop a channel''s flows and forget it; orders and history stay.');

create function amzmp._drop_account(account text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account := amzmp._account(account);
begin
    update amzmp.account x
       set state = 'dropped', active = false, refresh_token = null, generation = x.generation + 1
     where x.account_id = a.account_id;
    update amzmp.channel x set dropped = true, active = false where x.account_id = a.account_id;
    update amzmp.account_flow x set enabled = false
      from amzmp.flow f
     where x.account_id = a.account_id and f.flow = x.flow and f.needs <> 'nothing';
    perform amzmp._forget_buyers(a.account_id);
    delete from amzmp.alarm_target t where t.account_id = a.account_id;
    delete from amzmp.alarm x where x.account_id = a.account_id;
    delete from amzmp.request r where r.account_id = a.account_id and r.state in ('due', 'held');
    delete from amzmp.name n where n.account_id = a.account_id;
    perform amzmp._log(a.account_id, 0, 'notice', 'account', a.name, format('dropped by %s', amzmp._caller()));
end
$$;
select amzmp._expose('amzmp._drop_account(text)', 'amzmp_admin', 'Stop an account''s flows, drop its credentials and forget it, buyers'' personal data included; orders and history stay.');

create function amzmp._limit_role(role_name name, accounts text[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    perform amzmp._require_unlimited('limit_role');
    if not exists (select from pg_roles r where r.rolname = _limit_role.role_name) then
        perform amzmp._fail('42704', format('role "%s" does not exist', role_name));
    end if;
    delete from amzmp.account_access x where x.role_name = _limit_role.role_name;
    insert into amzmp.account_access (account_id, role_name)
    select distinct (amzmp._account(name)).account_id, _limit_role.role_name from unnest(accounts) name;
end
$$;
select amzmp._expose('amzmp._limit_role(name, text[])', 'amzmp_admin',
    'Limit a role (and its members) to some accounts, in functions and views. An empty array lifts the limit. What concerns all accounts at once, this function too, is refused to a role that is limited.');
