-- account_create.sql
-- Making applications, accounts and channels. What is made here is off until activate().

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
