-- connection.sql
-- Is an account connected, and if not, what is wrong with it: amzmp.test_connection. Also what can be altered about
-- applications, accounts and channels after they were made.
--
-- The test reads at Amazon in the caller's own transaction, as amzmp.call does, and writes nothing there. Each of its calls
-- takes a token of its usage plan; those of the Sellers API allow one test a minute in the long run.

-- What one call of the test came to.
create type amzmp.probe as (
    state text,
    message text,
    detail text,
    hint text,
    answer jsonb,
    skew numeric,
    latency_ms integer
);

comment on type amzmp.probe is 'Inner: what one call of a connection test found.';

-- Inner: one call, its error as a value. Amazon's Date header has whole seconds, hence the half.
create function amzmp._probe(account text, operation text, params jsonb default '{}') returns amzmp.probe
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    p amzmp.probe;
    server_time timestamptz;
begin
    select c.answer, c.latency_ms, c.server_time into p.answer, p.latency_ms, server_time
      from amzmp._call_timed(account, operation, params, null) c;
    p.skew := extract(epoch from clock_timestamp() - server_time) - 0.5 - p.latency_ms / 2000.0;
    return p;
exception
    when query_canceled then
        raise;
    when others then
        get stacked diagnostics p.state = returned_sqlstate, p.message = message_text, p.detail = pg_exception_detail,
            p.hint = pg_exception_hint;
        return p;
end
$$;

-- Inner: Amazon's error code in a probe's message, e.g. Unauthorized; null when it is no refusal of Amazon's.
create function amzmp._refusal_code(p amzmp.probe) returns text
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select substring(p.message from '^Amazon refused operation \S+: ([^:]+):') where p.state in ('AZ102', 'AZ104');
    end;

-- Inner: was a token had? null: no way to tell.
create function amzmp._check_token(p amzmp.probe, out ok boolean, out detail text)
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
declare
    code text := substring(p.message from '^Login with Amazon refused the credentials: (\S+)');
begin
    ok := case when p.state is null or p.state = 'AZ102' then true
               when p.state = 'AZ103' or p.message like 'no access token%' then false end;
    detail := case
        when ok then 'Login with Amazon accepts client id, client secret and refresh token'
        when code in ('invalid_client', 'unauthorized_client') then 'client id or client secret is wrong, or the secret was rotated away (' || code || ')'
        when code = 'invalid_grant' then 'the refresh token was revoked or belongs to another application (invalid_grant): the seller must authorize again'
        else concat_ws(': ', p.message, p.detail)
    end;
end
$$;

-- Inner: does the account answer in its region?
create function amzmp._check_region(a amzmp.account, p amzmp.probe, out ok boolean, out detail text)
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
begin
    ok := case when p.state is null then true when p.state in ('AZ101', 'AZ102') then false end;
    detail := case
        when ok then format('%s answered in %s ms', a.endpoint, p.latency_ms)
        when amzmp._refusal_code(p) = 'Unauthorized' then
            format('refused at %s (403): the account is not of region %s, or the application lacks every role', a.endpoint, a.region)
        else concat_ws(': ', p.message, p.detail)
    end;
end
$$;

-- Inner: a channel's marketplace against what Amazon says the account takes part in.
create function amzmp._check_channels(a amzmp.account, p amzmp.probe)
    returns table (check_name text, ok boolean, detail text)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select 'marketplace ' || c.name,
           coalesce((e.value #>> '{participation,isParticipating}')::boolean, false)
               and not coalesce((e.value #>> '{participation,hasSuspendedListings}')::boolean, false),
           case
               when e.value is null then format('the account is not registered in %s', m.country_code)
               when not (e.value #>> '{participation,isParticipating}')::boolean then format('the account does not take part in %s', m.country_code)
               when (e.value #>> '{participation,hasSuspendedListings}')::boolean then format('the account''s listings in %s are suspended', m.country_code)
               else format('the account takes part in %s', m.country_code) || coalesce(format(' as "%s"', e.value ->> 'storeName'), '')
           end
      from amzmp.channel c
      join amzmp.marketplace m using (marketplace_id)
      left join jsonb_array_elements(p.answer -> 'payload') e on e.value #>> '{marketplace,id}' = c.marketplace_id
     where c.account_id = a.account_id and not c.dropped and p.state is null
     order by c.channel_id;
    end;

-- Inner: a probe of something that needs a role.
create function amzmp._check_role(p amzmp.probe, what text, out ok boolean, out detail text)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select case when p.state is null then true when p.state = 'AZ102' then false end,
           case when p.state is null then what || ' can be read'
                when amzmp._refusal_code(p) = 'Unauthorized'
                then what || ' are refused (403): a role is missing, or was added without authorizing again'
                else concat_ws(': ', p.message, p.detail) end;
    end;

-- Inner: our clock against Amazon's.
create function amzmp._check_clock(p amzmp.probe, out ok boolean, out detail text)
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select case when abs(p.skew) <= 15 then true when abs(p.skew) > 30 then false end,
           case when p.skew is null then 'Amazon''s answer carried no time'
                when abs(p.skew) <= 15 then format('at most %s s off', ceil(abs(p.skew)))
                else format('this server''s clock is %s s %s: set up NTP', round(abs(p.skew)),
                            case when p.skew > 0 then 'ahead' else 'behind' end) end;
    end;

-- Inner: what only an answering account can be asked. The orders probe may see buyers' data, and is left out for whoever may not.
create function amzmp._check_account(a amzmp.account, marketplace_ids jsonb)
    returns table (check_name text, ok boolean, detail text)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    p amzmp.probe;
begin
    p := amzmp._probe(a.name, 'getAccount');
    return query select 'selling plan', p.answer #>> '{payload,sellingPlan}' = 'PROFESSIONAL',
        coalesce('the plan is ' || lower(p.answer #>> '{payload,sellingPlan}'), 'Amazon does not tell: ' || p.message, 'Amazon does not tell');
    if a.seller_id is null then
        return query values ('seller id', false, format('none is set: select amzmp.set_seller_id(%L, …);', a.name));
    elsif marketplace_ids <> '[]' then
        p := amzmp._probe(a.name, 'searchListingsItems', jsonb_build_object('marketplaceIds', marketplace_ids -> 0, 'pageSize', 1));
        return query select 'seller id and listings role',
            case when p.state is null then true when p.state = 'AZ102' then false end,
            case when p.state is null then format('listings of seller %s can be read', a.seller_id)
                 when p.state = 'AZ102' then format('listings of seller %s are refused (%s): the seller id or a role is wrong', a.seller_id, amzmp._refusal_code(p))
                 else p.message end;
    end if;
    p := amzmp._probe(a.name, 'getFeeds', '{"feedTypes": ["JSON_LISTINGS_FEED"], "pageSize": 1}');
    return query select 'feeds role', r.ok, r.detail from amzmp._check_role(p, 'feeds') r;
    p := amzmp._probe(a.name, 'getReports', '{"reportTypes": ["GET_MERCHANT_LISTINGS_ALL_DATA"], "pageSize": 1}');
    return query select 'reports role', r.ok, r.detail from amzmp._check_role(p, 'reports') r;
    if marketplace_ids = '[]' then
        return;
    elsif not pg_has_role(amzmp._caller(), 'amzmp_buyer_data', 'usage') then
        return query values ('orders role', null::boolean, 'not asked: answers may hold buyers'' data, which needs amzmp_buyer_data');
    else
        p := amzmp._probe(a.name, 'searchOrders', jsonb_build_object('marketplaceIds', marketplace_ids, 'maxResultsPerPage', 1,
            'lastUpdatedAfter', amzmp._iso_time(amzmp._now(a.account_id) - interval '10 minutes')));
        return query select 'orders role', r.ok, r.detail from amzmp._check_role(p, 'orders') r;
    end if;
end
$$;

create function amzmp._test_connection(account text) returns table (check_name text, ok boolean, detail text)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    a amzmp.account := amzmp._account($1);
    p amzmp.probe;
    token record;
    region record;
    marketplace_ids jsonb;
begin
    p := amzmp._probe(a.name, 'getMarketplaceParticipations');
    if p.state is not null and p.state not like 'AZ1%' then
        -- nothing was sent: what is missing here is an error like any other
        perform amzmp._fail(p.state, p.message, nullif(p.detail, ''), coalesce(nullif(p.hint, ''), format('select amzmp.set_credentials(%L, file => …);', a.name)));
    end if;
    select * into token from amzmp._check_token(p);
    select * into region from amzmp._check_region(a, p);
    return query values ('token', token.ok, token.detail);
    if token.ok is not false then
        return query values ('region', region.ok, region.detail);
    end if;
    if region.ok and token.ok then
        return query select * from amzmp._check_channels(a, p);
        select coalesce(jsonb_agg(c.marketplace_id order by c.channel_id), '[]') into marketplace_ids
          from amzmp.channel c where c.account_id = a.account_id and not c.dropped;
        return query select * from amzmp._check_account(a, marketplace_ids);
        if a.time_scale = 1 then
            return query select 'clock', c.ok, c.detail from amzmp._check_clock(p) c;
        end if;
    end if;
    perform amzmp._note_connection(a, token.ok, region.ok, token.detail);
end
$$;

-- Inner: the test's verdict, written last: until then nothing may be written. What could not be told changes nothing.
create function amzmp._note_connection(a amzmp.account, token_ok boolean, region_ok boolean, reason text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    verdict text := case when token_ok and region_ok then 'valid' when not token_ok and reason !~ '^no access token' then 'invalid' end;
begin
    if verdict is null or verdict = a.state and verdict = 'valid' then
        return;
    end if;
    update amzmp.account x
       set state = verdict, state_reason = case verdict when 'invalid' then reason end
     where x.account_id = a.account_id and x.state <> 'dropped';
    perform amzmp._log(a.account_id, 0, case verdict when 'valid' then 'notice' else 'error' end, 'account', a.name,
        'connection tested: ' || verdict || case verdict when 'invalid' then ': ' || reason else '' end);
    perform amzmp._wake();
end
$$;
select amzmp._expose('amzmp._test_connection(text)', 'amzmp_admin',
    'Ask Amazon whether an account is connected; one row a check, ok is null where it cannot be told. Changes nothing at Amazon; sets the account''s state. Not in a transaction that has written.');

create function amzmp._set_seller_id(account text, seller_id text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account := amzmp._account(account);
begin
    if seller_id is null or seller_id !~ '^[A-Z0-9]{6,20}$' then
        perform amzmp._fail('AZ202', format('"%s" is not a seller id', coalesce(seller_id, 'NULL')), null,
            'It is 6 to 20 capital letters and digits (Seller Central, "Merchant token").');
    end if;
    update amzmp.account x set seller_id = _set_seller_id.seller_id where x.account_id = a.account_id;
    perform amzmp._log(a.account_id, 0, 'notice', 'account', a.name,
        format('seller id set to %s by %s', seller_id, amzmp._caller()));
    perform amzmp._wake();
end
$$;
select amzmp._expose('amzmp._set_seller_id(text, text)', 'amzmp_admin',
    'Tell an account its seller id (Seller Central, "Merchant token"); no call of Amazon''s tells it.');

create function amzmp._update_application(application text, client_id text default null, application_id text default null,
    redirect_uri text default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    p amzmp.application;
begin
    perform amzmp._require_unlimited('update_application');
    select x.* into p from amzmp.application x where x.name = _update_application.application for update;
    if p.application_id is null then
        perform amzmp._fail('AZ201', format('there is no application "%s"', application), null,
            format('select amzmp.create_application(%L, client_id);', application));
    elsif client_id !~ '^amzn1\.application-oa2-client\.' then
        perform amzmp._fail('AZ202', format('"%s" is not an LWA client id', client_id), null,
            'It begins with amzn1.application-oa2-client. and is shown under "LWA credentials" in the developer portal.');
    elsif redirect_uri !~ '^https://[^[:space:]]+$' then
        perform amzmp._fail('AZ202', format('"%s" is not a redirect URI', redirect_uri), null, 'Amazon calls https only.');
    end if;
    -- a secret belongs to its client id
    update amzmp.application x
       set client_secret = case when x.client_id = coalesce(_update_application.client_id, x.client_id) then x.client_secret end,
           secret_expires_at = case when x.client_id = coalesce(_update_application.client_id, x.client_id) then x.secret_expires_at end,
           client_id = coalesce(_update_application.client_id, x.client_id),
           amazon_application_id = coalesce(_update_application.application_id, x.amazon_application_id),
           redirect_uri = coalesce(_update_application.redirect_uri, x.redirect_uri),
           generation = x.generation + 1
     where x.application_id = p.application_id;
end
$$;
select amzmp._expose('amzmp._update_application(text, text, text, text)', 'amzmp_admin',
    'Alter an application; what is null stays. Another client id drops the client secret.');

create function amzmp._update_account(account text, note text default null, endpoint text default null,
    token_endpoint text default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account := amzmp._account(account);
    moved boolean := endpoint is not null or token_endpoint is not null;
begin
    if moved and a.mode <> 'mock' then
        perform amzmp._fail('AZ202', format('account "%s" is no mock account', a.name),
            'Its endpoints follow from region and mode.', 'Create another account for another region or mode.');
    elsif moved then
        perform amzmp._check_endpoint(coalesce(endpoint, a.endpoint));
        perform amzmp._check_endpoint(coalesce(token_endpoint, a.token_endpoint));
    end if;
    -- credentials are meant for where they were given to go
    update amzmp.account x
       set note = coalesce(_update_account.note, x.note),
           endpoint = rtrim(coalesce(_update_account.endpoint, x.endpoint), '/'),
           token_endpoint = coalesce(_update_account.token_endpoint,
               rtrim(_update_account.endpoint, '/') || '/auth/o2/token', x.token_endpoint),
           refresh_token = case when not moved then x.refresh_token end,
           state = case when moved then 'added' else x.state end,
           state_reason = case when not moved then x.state_reason end,
           active = x.active and not moved,
           generation = x.generation + moved::integer
     where x.account_id = a.account_id;
    if moved then
        perform amzmp._log(a.account_id, 0, 'notice', 'account', a.name,
            format('endpoint changed by %s: credentials dropped', amzmp._caller()));
        perform amzmp._wake();
    end if;
end
$$;
select amzmp._expose('amzmp._update_account(text, text, text, text)', 'amzmp_admin',
    'Alter an account; what is null stays. Another endpoint (mock accounts only) drops the refresh token and deactivates the account.');

create function amzmp._update_channel(channel text, note text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    c amzmp.channel := amzmp._channel(channel);
begin
    update amzmp.channel x set note = _update_channel.note where x.account_id = c.account_id and x.channel_id = c.channel_id;
end
$$;
select amzmp._expose('amzmp._update_channel(text, text)', 'amzmp_admin', 'Write a note to a channel.');
