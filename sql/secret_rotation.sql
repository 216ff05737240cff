/*
 * secret_rotation.sql
 *	  A new client secret in time: Amazon ends one 180 days after it was made, and then every call fails.
 *
 *	 rotate_client_secret(), or watch_notifications when the end is near (setting rotate_secrets)
 *	   └─▶ rotateApplicationClientSecret ──▶ message in the queue ──▶ stored, then deleted (notification.sql)
 *
 * Amazon's answer holds no secret: it comes by the queue that the developer's portal names for the application, and by nothing
 * else. So it is asked for only where a queue of the application's is read, and never a second time before the first has come:
 * the secret that we hold would be two behind, and dead. By itself only where Amazon's reminder came through that very queue.
 */
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'rotate_secrets', 'account', 'interval', 'Client secrets are rotated', '"00:00:00"', 0, 15552000,
        'How long before its end the client secret is rotated, by the account that reads the queue. Everything else that uses the application needs the new one within seven days. 0: never by itself.');

-- Which account of an application may ask for a new secret: one that reads a queue, without failing, and is valid.
create function amzmp._rotating_account(application_id bigint) returns bigint
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select a.account_id
    from amzmp.account a
    join amzmp.queue q on q.account_id = a.account_id
    where a.application_id = _rotating_account.application_id and a.active and a.state = 'valid' and a.mode <> 'sandbox'
      and q.state = 'reading'
    order by a.account_id
    limit 1;
$$;

-- Ask Amazon for a new secret, unless one is on its way.
create function amzmp._ask_for_secret(account_id bigint, application_id bigint, cause jsonb) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    client text;
begin
    update amzmp.application p set rotation_asked_at = now(), rotation_refused = null
     where p.application_id = _ask_for_secret.application_id
       -- had Amazon made one, the secret that we hold would be dead by then
       and (p.rotation_asked_at is null or p.rotation_refused is not null or p.rotation_asked_at < now() - interval '8 days')
    returning p.client_id into client;
    if client is null then
        return null;
    end if;
    return amzmp._enqueue(account_id, 'rotateApplicationClientSecret', '{}', null, '_handle_rotation', null, 60, now(), 0,
        'application', client, cause);
end
$$;

create function amzmp._rotate_client_secret(application text) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    p amzmp.application;
    reader bigint;
    id bigint;
begin
    perform amzmp._require_unlimited('rotate_client_secret');
    select x.* into p from amzmp.application x where x.name = application for update;
    if p.application_id is null then
        perform amzmp._fail('AZ201', format('there is no application "%s"', application), null, 'select name from amzmp.application; lists them.');
    end if;
    reader := amzmp._rotating_account(p.application_id);
    if reader is null then
        perform amzmp._fail('AZ003', format('no account of application "%s" reads a queue', application),
            'Amazon sends the new secret to the queue that the developer''s portal names for the application, and to nobody else.',
            'select amzmp.set_queue(account, arn, file => …); and name that queue in the portal. Or make a secret there, and select amzmp.set_credentials(account, file => …);');
    end if;
    id := amzmp._ask_for_secret(reader, p.application_id, jsonb_build_object('role', amzmp._caller(), 'at', now()));
    if id is null then
        perform amzmp._fail('AZ203', format('a new secret was asked for at %s and has not come', p.rotation_asked_at),
            'A second one would make the secret that is used here two behind, and Amazon takes the last but one only.',
            'See which queue the developer''s portal names; else make a secret there, and select amzmp.set_credentials(account, file => …);');
    end if;
    perform amzmp._log(reader, 0, 'notice', 'application', p.client_id, format('a new client secret is asked for by %s', amzmp._caller()));
    return id;
end
$$;

select amzmp._expose('amzmp._rotate_client_secret(text)', 'amzmp_admin',
    'Asks Amazon for a new client secret of an application. It comes by the queue that the developer''s portal names, which an account of the application must read (set_queue), and is then stored and used; the old one lives for seven days more. Returns the number of the request.');

-- Amazon's answer says only that it will. A lost one may have had its effect, so nothing is asked again.
create function amzmp._handle_rotation(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
    why text;
begin
    foreach answer in array answers loop
        continue when answer.outcome in ('success', 'lost');
        why := coalesce(concat_ws(': ', answer.error_code, answer.error_message), answer.outcome);
        update amzmp.application p set rotation_refused = why
          from amzmp.account a
         where a.account_id = (answer.request).account_id and p.application_id = a.application_id and p.rotation_asked_at is not null;
        perform amzmp._log((answer.request).account_id, 0, 'error', 'application', (answer.request).subject,
            'Amazon makes no new client secret: ' || why);
    end loop;
end
$$;

-- Inner, the flow watch_notifications: is the end near, and did Amazon's reminder come through this account's queue? What was refused is
-- asked for again after a day.
create function amzmp._rotate_in_time(account_id bigint, flow_run_id bigint) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    ahead constant interval := amzmp._setting_interval(account_id, 0, 'rotate_secrets');
begin
    if ahead > interval '0' then
        perform amzmp._ask_for_secret(a.account_id, p.application_id, jsonb_build_object('flow_run', flow_run_id))
           from amzmp.account a
           join amzmp.application p on p.application_id = a.application_id
          where a.account_id = _rotate_in_time.account_id and amzmp._rotating_account(p.application_id) = a.account_id
            and p.secret_expires_at < now() + ahead
            and coalesce(p.rotation_asked_at < now() - case when p.rotation_refused is null then interval '8 days' else interval '1 day' end, true)
            and exists (select from amzmp.notification n
                         where n.account_id = a.account_id and n.subject = p.client_id and n.state in ('done', 'known')
                           and n.type in ('APPLICATION_OAUTH_CLIENT_SECRET_EXPIRY', 'APPLICATION_OAUTH_CLIENT_NEW_SECRET'));
    end if;
end
$$;

create function amzmp._rotation_asked_health() returns table (check_name text, state text, detail text, remedy text)
    language sql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
    select 'rotation ' || p.name, 'error',
           coalesce('Amazon makes no new client secret: ' || p.rotation_refused,
                    format('a new client secret was asked for at %s and has not come; the old one ends seven days later',
                           to_char(p.rotation_asked_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'))),
           'See which queue the developer''s portal names; else make a secret there, and select amzmp.set_credentials(account, file => …);'
    from amzmp.application p
    where (p.rotation_refused is not null or p.rotation_asked_at < now() - interval '1 hour')
      and exists (select from amzmp.account a
                   where a.application_id = p.application_id and a.state <> 'dropped' and amzmp._may_see(a.account_id, amzmp._caller()));
$$;
