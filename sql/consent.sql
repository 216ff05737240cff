-- consent.sql
-- Consent of sellers for accounts that are not one's own: a link to Amazon's consent page, and what comes back from it.
--
-- The link carries a random state, of which only a hash is kept: whoever answers with it must have got it from us, once,
-- and in time. What Amazon hands over then is a code that is good for minutes and for one exchange; it is sealed and the
-- sender exchanges it, as the request exchangeAuthorizationCode, for the refresh token. No other operation goes to the
-- token endpoint; the sender builds and judges it apart (exchange.c).

insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, secret, note)
values
    ('exchangeAuthorizationCode', 'lwa', 'o2', 'POST', '/auth/o2/token', 1, 5, false, 'look_up', true,
        'Not of the Selling Partner API: amzmp exchanges a consent code at Login with Amazon. A code can be used once.');

create sequence amzmp.consent_id_seq as bigint;
create table amzmp.consent_state (
    account_id bigint not null,
    consent_id bigint not null default nextval('amzmp.consent_id_seq'),
    state_hash bytea not null,
    redirect_uri text,
    created_at timestamptz not null default now(),
    created_by name not null,
    expires_at timestamptz not null,
    used_at timestamptz,
    seller_id text,
    code bytea,
    outcome text,
    primary key (account_id, consent_id)
);
create index consent_state_hash on amzmp.consent_state (state_hash);

comment on table amzmp.consent_state is 'Consent links that were made, and what became of them.';
comment on column amzmp.consent_state.account_id is 'The account that consent is asked for.';
comment on column amzmp.consent_state.consent_id is 'Number of the link.';
comment on column amzmp.consent_state.created_at is 'When the link was made.';
comment on column amzmp.consent_state.created_by is 'Who made it.';
comment on column amzmp.consent_state.state_hash is 'SHA-256 of the link''s state; the state itself is known to its recipient only.';
comment on column amzmp.consent_state.redirect_uri is 'The redirect URI that the link named, if any; the exchange must name the same.';
comment on column amzmp.consent_state.expires_at is 'The link is refused afterwards.';
comment on column amzmp.consent_state.used_at is 'When it was answered.';
comment on column amzmp.consent_state.seller_id is 'The seller who gave consent, as Amazon named him.';
comment on column amzmp.consent_state.code is 'The code, sealed, until it is exchanged.';
comment on column amzmp.consent_state.outcome is 'granted, or why the exchange failed; null while it is awaited.';

-- Inner: the host on which an account's seller gives consent: that of its first channel, else the region's largest.
create function amzmp._consent_host(account_id bigint) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select m.seller_central
      from amzmp.account a
      left join amzmp.channel c on c.account_id = a.account_id and not c.dropped
      join amzmp.marketplace m on m.marketplace_id = c.marketplace_id
        or c.marketplace_id is null and m.country_code = case a.region when 'NA' then 'US' when 'EU' then 'GB' else 'JP' end
     where a.account_id = _consent_host.account_id
     order by c.channel_id
     limit 1;
    end;

-- Percent-encoding of a query value.
create function amzmp._url_encode(value text) returns text
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select string_agg(case when c ~ '^[A-Za-z0-9._~-]$' then c
                           else (select string_agg('%' || upper(lpad(to_hex(get_byte(b, i)), 2, '0')), '' order by i)
                                   from convert_to(c, 'UTF8') b, generate_series(0, octet_length(b) - 1) i) end, '' order by n)
      from regexp_split_to_table(value, '') with ordinality x (c, n);
    end;

create function amzmp._auth_url(account text, draft boolean default false, valid_for interval default '1 day') returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account := amzmp._account(account);
    p amzmp.application;
    -- two random UUIDs hold 244 random bits
    secret_state text := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
begin
    select x.* into strict p from amzmp.application x where x.application_id = a.application_id;
    if p.amazon_application_id is null then
        perform amzmp._fail('AZ003', format('application "%s" has no application id', p.name),
            'The consent page needs it; it is not the LWA client id.',
            format('select amzmp.update_application(%L, application_id => ''amzn1.sp.solution.…'');', p.name));
    elsif p.client_secret is null then
        perform amzmp._fail('AZ003', format('application "%s" has no client secret', p.name),
            'Without it the code that comes back could not be exchanged.',
            format('select amzmp.set_credentials(%L, file => …);', a.name));
    elsif valid_for is null or valid_for < '1 minute' or valid_for > '30 days' then
        perform amzmp._fail('AZ202', format('a link cannot be valid for %s', coalesce(valid_for::text, 'NULL')), null,
            'Choose something from one minute to 30 days.');
    end if;
    insert into amzmp.consent_state (account_id, state_hash, redirect_uri, created_by, expires_at)
    values (a.account_id, sha256(convert_to(secret_state, 'UTF8')), p.redirect_uri, amzmp._caller(), now() + valid_for);
    perform amzmp._log(a.account_id, 0, 'notice', 'account', a.name, format('consent link made by %s', amzmp._caller()));
    return format('https://%s/apps/authorize/consent?application_id=%s&state=%s%s%s', amzmp._consent_host(a.account_id),
        amzmp._url_encode(p.amazon_application_id), secret_state,
        '&redirect_uri=' || amzmp._url_encode(p.redirect_uri), case when draft then '&version=beta' else '' end);
end
$$;
select amzmp._expose('amzmp._auth_url(text, boolean, interval)', 'amzmp_admin',
    'Amazon''s consent link for an account that is not your own, good for one answer within valid_for. draft: the application is not published. complete_auth() takes what Amazon calls the redirect URI with.');

-- Inner: the consent that a state belongs to, locked; an error when it is not to be answered (any more).
create function amzmp._open_consent(state text) returns amzmp.consent_state
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    c amzmp.consent_state;
    name text;
begin
    select x.* into c from amzmp.consent_state x
     where x.state_hash = sha256(convert_to(coalesce(_open_consent.state, ''), 'UTF8')) for update;
    select a.name into name from amzmp.account a where a.account_id = c.account_id and a.state <> 'dropped';
    if name is null or not amzmp._may_see(c.account_id, amzmp._caller()) then
        perform amzmp._fail('AZ202', 'this state belongs to no consent link',
            'It was altered, or the link was made elsewhere.', 'Make a link with amzmp.auth_url(account).');
    elsif c.used_at is not null then
        perform amzmp._fail('AZ203', format('this consent link of account "%s" was used already', name), null,
            format('select amzmp.auth_url(%L); makes another.', name));
    elsif c.expires_at <= now() then
        perform amzmp._fail('AZ203', format('this consent link of account "%s" expired at %s', name, c.expires_at), null,
            format('select amzmp.auth_url(%L); makes another.', name));
    end if;
    return c;
end
$$;

create function amzmp._complete_auth(state text, code text, selling_partner_id text) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    c amzmp.consent_state := amzmp._open_consent(state);
    a amzmp.account;
    id bigint;
begin
    select x.* into strict a from amzmp.account x where x.account_id = c.account_id;
    if code is null or code !~ '^[!-~]+$' or length(code) > 2048 then
        perform amzmp._fail('AZ202', 'the code is not one of Amazon''s', null,
            'Pass what stands in spapi_oauth_code, decoded.');
    elsif selling_partner_id is null or selling_partner_id !~ '^[A-Z0-9]{6,20}$' then
        perform amzmp._fail('AZ202', format('"%s" is not a seller id', coalesce(selling_partner_id, 'NULL')), null,
            'Pass what stands in selling_partner_id.');
    elsif a.seller_id <> selling_partner_id then
        perform amzmp._fail('AZ203', format('seller %s gave consent, account "%s" belongs to seller %s', selling_partner_id,
            a.name, a.seller_id), 'The link was answered from another selling account.',
            format('If the new one is right: select amzmp.set_seller_id(%L, %L); and answer again.', a.name, selling_partner_id));
    end if;
    update amzmp.consent_state x
       set used_at = now(), seller_id = _complete_auth.selling_partner_id,
           code = amzmp._seal(_complete_auth.code, 'consent_code', 'consent:' || x.consent_id)
     where x.account_id = c.account_id and x.consent_id = c.consent_id;
    insert into amzmp.request (account_id, operation, priority, max_attempts, params, render, handler, subject_kind, subject, cause)
    values (c.account_id, 'exchangeAuthorizationCode', 5, 5, '{}', '_render_consent', '_handle_consent', 'consent',
            c.consent_id::text, jsonb_build_object('role', amzmp._caller(), 'at', now()))
    returning request_id into id;
    perform amzmp._wake();
    return id;
end
$$;
select amzmp._expose('amzmp._complete_auth(text, text, text)', 'amzmp_admin',
    'Answer a consent link with what Amazon called the redirect URI with: state, spapi_oauth_code, selling_partner_id. The code is exchanged after commit; the account is valid then. Returns request_id.');

-- Inner: the form of the exchange, for the sender only. A consent that was withdrawn meanwhile renders nothing.
create function amzmp._render_consent(claimed amzmp.request[]) returns table (request_id bigint, params jsonb, body jsonb)
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    begin atomic
    select r.request_id, '{}'::jsonb,
           jsonb_strip_nulls(jsonb_build_object('client_id', p.client_id,
               'client_secret', amzmp._open(p.client_secret, 'client_secret', 'application:' || p.application_id),
               'code', amzmp._open(c.code, 'consent_code', 'consent:' || c.consent_id),
               'redirect_uri', c.redirect_uri))
      from unnest(claimed) r
      join amzmp.consent_state c on c.account_id = r.account_id and c.consent_id = r.subject::bigint and c.code is not null
      join amzmp.account a on a.account_id = c.account_id and a.state <> 'dropped'
      join amzmp.application p on p.application_id = a.application_id and p.client_secret is not null;
    end;

create function amzmp._handle_consent(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
begin
    -- a loop because each answer is another account's beginning; one at a time as a rule
    foreach answer in array answers
    loop
        if answer.outcome = 'success' and answer.body ->> 'refresh_token' <> '' then
            perform amzmp._consent_granted((answer.request).account_id, (answer.request).subject::bigint,
                answer.body ->> 'refresh_token');
        else
            perform amzmp._consent_failed((answer.request).account_id, (answer.request).subject::bigint,
                case answer.outcome when 'success' then 'BadTokenAnswer' else coalesce(answer.error_code, answer.outcome) end,
                answer.error_message);
        end if;
    end loop;
end
$$;

create function amzmp._consent_granted(account_id bigint, consent_id bigint, refresh_token text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    granted_by text;
begin
    update amzmp.consent_state c set code = null, outcome = 'granted'
     where c.account_id = _consent_granted.account_id and c.consent_id = _consent_granted.consent_id
    returning c.seller_id into granted_by;
    update amzmp.account a
       set refresh_token = amzmp._seal(_consent_granted.refresh_token, 'refresh_token', 'account:' || a.account_id),
           generation = a.generation + 1, seller_id = granted_by, state = 'valid', state_reason = null
     where a.account_id = _consent_granted.account_id;
    perform amzmp._log(account_id, 0, 'notice', 'account', (select a.name from amzmp.account a where a.account_id = _consent_granted.account_id),
        format('seller %s gave consent', granted_by));
    perform amzmp._wake();
end
$$;

-- An account that works with an earlier consent goes on with it.
create function amzmp._consent_failed(account_id bigint, consent_id bigint, code text, message text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account;
    advice text := case
        when code in ('invalid_client', 'unauthorized_client') then 'Client id or client secret is wrong: mend it with set_credentials(), then make another link.'
        when code = 'invalid_grant' then 'The code was used or older than Amazon allows, or the redirect URI differs: make another link.'
        else 'A code can be exchanged once: make another link.'
    end;
begin
    update amzmp.consent_state c set code = null, outcome = _consent_failed.code
     where c.account_id = _consent_failed.account_id and c.consent_id = _consent_failed.consent_id;
    update amzmp.account x
       set state = 'invalid', state_reason = format('consent not completed (%s): %s', _consent_failed.code, advice)
     where x.account_id = _consent_failed.account_id and x.refresh_token is null and x.state <> 'dropped';
    select x.* into a from amzmp.account x where x.account_id = _consent_failed.account_id;
    perform amzmp._log(account_id, 0, 'error', 'account', a.name,
        format('consent could not be completed (%s): %s', code, coalesce(message, 'no answer')), jsonb_build_object('hint', advice));
end
$$;

-- Inner, housekeeping: links that are long over.
create function amzmp._purge_consents(account_id bigint) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    begin atomic
    delete from amzmp.consent_state c
     where c.account_id = _purge_consents.account_id and c.expires_at < now() - interval '30 days'
       and not exists (select from amzmp.request r where r.account_id = c.account_id
                          and r.operation = 'exchangeAuthorizationCode' and r.subject = c.consent_id::text);
    end;
