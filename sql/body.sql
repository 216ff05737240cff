-- body.sql
-- What was sent and answered, kept for finding faults while an account's setting keep_bodies is on: masked, sealed, for
-- body_retention. Whatever is kept hangs on the request (sent) and then on its row in the log (sent and answered).
--
-- Requests that carry secrets are never kept, not even masked.

create index request_log_bodies on amzmp.request_log_default (account_id, finished_at)
    where sent_body is not null or answer_body is not null;

-- Inner: does an account keep the bodies of an operation?
create function amzmp._keeps_bodies(account_id bigint, operation text) returns boolean
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
begin
    return coalesce(amzmp._setting_bool(account_id, 0, 'keep_bodies'), false)
       and exists (select from amzmp.operation o where o.name = _keeps_bodies.operation and not o.secret);
end
$$;

-- Inner: seal what is about to be sent, or was answered. purpose: sent_body or answer_body.
create function amzmp._seal_body(body text, purpose text, account_id bigint, request_id bigint) returns bytea
    language sql volatile parallel restricted set search_path = pg_catalog, pg_temp
    begin atomic
    select amzmp._seal(amzmp.mask(body), purpose, account_id || '/' || request_id);
    end;

-- Inner, at the claim: keep what these requests will send; a later attempt's takes the place of an earlier one's.
create function amzmp._keep_sent(account_id bigint, sent amzmp.rendered[]) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    begin atomic
    update amzmp.request r
       set sent_body = amzmp._seal_body(jsonb_build_object('params', s.params, 'body', s.body)::text, 'sent_body',
                                        r.account_id, r.request_id)
      from unnest(sent) s
     where r.account_id = _keep_sent.account_id and r.request_id = s.request_id;
    end;

-- Inner, housekeeping.
create function amzmp._purge_bodies(account_id bigint) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    begin atomic
    update amzmp.request_log l set sent_body = null, answer_body = null
     where l.account_id = _purge_bodies.account_id and (l.sent_body is not null or l.answer_body is not null)
       and l.finished_at < now() - amzmp._setting_interval(_purge_bodies.account_id, 0, 'body_retention');
    end;

create function amzmp._request_bodies(account text, request_id bigint)
    returns table (operation text, outcome text, finished_at timestamptz, sent text, answer text)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    a amzmp.account := amzmp._account($1);
    l amzmp.request_log;
begin
    select x.* into l from amzmp.request_log x where x.account_id = a.account_id and x.request_id = $2;
    if l.request_id is null then
        perform amzmp._fail('AZ201', format('account "%s" has no finished request %s', a.name, $2), null,
            'select * from amzmp.request_log; lists them, amzmp.request those that are not finished.');
    elsif l.sent_body is null and l.answer_body is null then
        perform amzmp._fail('AZ203', format('no body of request %s is kept', $2), null,
            format('select amzmp.set(%L, ''keep_bodies'', ''true''); keeps those of later ones, for body_retention.', a.name));
    elsif exists (select from amzmp.operation o where o.name = l.operation and o.personal) then
        if not pg_has_role(amzmp._caller(), 'amzmp_buyer_data', 'usage') then
            perform amzmp._fail('42501', format('request %s may hold buyers'' data', $2), null,
                format('GRANT amzmp_buyer_data TO %I;', amzmp._caller()));
        end if;
        perform amzmp._log_access(format('role "%s" read the bodies of request %s (%s) of account "%s"', amzmp._caller(),
            $2, l.operation, a.name));
    end if;
    return query select l.operation, l.outcome, l.finished_at,
        amzmp._open(l.sent_body, 'sent_body', l.account_id || '/' || l.request_id),
        amzmp._open(l.answer_body, 'answer_body', l.account_id || '/' || l.request_id);
end
$$;
select amzmp._expose('amzmp._request_bodies(text, bigint)', 'amzmp_admin',
    'What a finished request sent (path and query parameters, body) and what was answered, tokens masked. Kept only while the setting keep_bodies is on; that of orders needs amzmp_buyer_data too.');
