-- account_credentials.sql
-- The secrets of an account, from a file to their sealed place, and what happens when Amazon refuses them.

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

-- Inner: an application has a new client secret.
create function amzmp._store_secret(application_id bigint, client_secret text, expires_at timestamptz) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    update amzmp.application p
       set client_secret = amzmp._seal(_store_secret.client_secret, 'client_secret', 'application:' || p.application_id),
           secret_expires_at = expires_at, rotation_asked_at = null, rotation_refused = null, generation = p.generation + 1
     where p.application_id = _store_secret.application_id;
    -- what stopped for the old secret goes on with this one
    update amzmp.account x set state = 'added', state_reason = null, generation = x.generation + 1
     where x.application_id = _store_secret.application_id and x.state = 'invalid' and x.state_reason like 'application "%';
    perform amzmp._wake();
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
        perform amzmp._store_secret(p.application_id, _store_credentials.client_secret,
            case when amzmp._opens_to(p.client_secret, 'application:' || p.application_id, _store_credentials.client_secret)
                 then p.secret_expires_at else now() + interval '180 days' end)
           from amzmp.application p where p.application_id = a.application_id;
    end if;
    update amzmp.account x
       set refresh_token = case when _store_credentials.refresh_token is null then x.refresh_token
               else amzmp._seal(_store_credentials.refresh_token, 'refresh_token', 'account:' || x.account_id) end,
           generation = x.generation + 1, state = 'added', state_reason = null
     where x.account_id = a.account_id;
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
