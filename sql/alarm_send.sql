/*
 * alarm_send.sql
 *	  What alarms found on its way to people: the event, NOTIFY, webhooks by the sender (src/tell.c) and mails by a runner
 *	  of their own (src/mail.c).
 *
 * A webhook is a request like any other, to the host of its target, and needs neither an access token nor a valid account:
 * that an account became invalid is worth telling. A mail is a task (kind mail), because libcurl waits in a call for a mail
 * server's last words, and the sender must not. A receiver that does not answer is tried for alarm_give_up. Whatever is
 * repeated carries the same id (Amzmp-Id, Message-ID), because a lost answer leaves unknown whether it arrived.
 *
 * Nothing but the alarm's own words and the subjects (SKUs, order numbers, names of flows) is told.
 */
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, secret, wrapped, note)
values
    ('postWebhook', 'alarm', '1', 'POST', '/webhook', 5, 20, false, 'repeat', true, false, 'No operation of Amazon''s: an alarm to a URL, see set_webhook.');

-- Inner: write down what is to be told and queue its deliveries.
create function amzmp._tell(account_id bigint, alarm text, level text, message text, targets text[], subjects jsonb) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    found_count integer := jsonb_array_length(subjects);
    text_of text := case when found_count = 1 and subjects #>> '{0,subject}' = '' then message
                         else format('%s: %s', message, case found_count when 1 then subjects #>> '{0,subject}' else found_count::text end) end;
    event amzmp.alarm_event;
begin
    insert into amzmp.alarm_event (account_id, alarm, level, message, subject_count, subjects)
    values (account_id, alarm, level, text_of, found_count,
            (select jsonb_agg(s.one order by s.n) from jsonb_array_elements(subjects) with ordinality s (one, n) where s.n <= 100))
    returning * into event;
    insert into amzmp.alarm_delivery (account_id, alarm_event_id, target)
    select event.account_id, event.alarm_event_id, t.target
      from amzmp.alarm_target t where t.account_id = event.account_id and t.target = any (targets);
    perform amzmp._queue_alarm(event.account_id, event.alarm_event_id, d.target, now())
       from amzmp.alarm_delivery d where d.account_id = event.account_id and d.alarm_event_id = event.alarm_event_id;
    perform amzmp._notify(account_id, 'amzmp_alarm', jsonb_build_object('id', event.alarm_event_id, 'alarm', alarm, 'level', level,
        'message', text_of, 'count', found_count,
        'subjects', (select jsonb_agg(s.one ->> 'subject' order by s.n) from jsonb_array_elements(event.subjects) with ordinality s (one, n) where s.n <= 20)));
    perform amzmp._log(account_id, 0, level, 'alarm', alarm, text_of);
    return event.alarm_event_id;
end
$$;

create function amzmp._queue_alarm(account_id bigint, alarm_event_id bigint, target text, not_before timestamptz) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    subject text := alarm_event_id || '/' || target;
begin
    if (select t.kind from amzmp.alarm_target t where t.account_id = _queue_alarm.account_id and t.target = _queue_alarm.target) = 'mail' then
        perform amzmp._add_task(account_id, 'mail', subject, 'pg_amzmp_network', not_before);
    else
        perform amzmp._enqueue(account_id, 'postWebhook', '{}', null, '_handle_webhook', '_render_webhook', 50, not_before, 0,
            'alarm_delivery', subject, null);
    end if;
end
$$;

-- Inner: a delivery that is due, with its target's secrets opened. One whose target or event is gone has no row, and is dropped.
create function amzmp._due_delivery(account_id bigint, subject text)
    returns table (event amzmp.alarm_event, target amzmp.alarm_target, secrets jsonb, account text)
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select e, t, amzmp._open(t.credentials, 'alarm_target', t.account_id || '/' || t.target)::jsonb, a.name
    from amzmp.alarm_delivery d
    join amzmp.alarm_event e on e.account_id = d.account_id and e.alarm_event_id = d.alarm_event_id
    join amzmp.alarm_target t on t.account_id = d.account_id and t.target = d.target
    join amzmp.account a on a.account_id = d.account_id
    where d.account_id = _due_delivery.account_id and d.alarm_event_id = split_part(subject, '/', 1)::bigint
      and d.target = split_part(subject, '/', 2) and d.state = 'due';
$$;

-- Inner: unique for the event wherever it is told, and the same in each repetition.
create function amzmp._event_id(event amzmp.alarm_event) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select format('%s-%s-%s', left(md5(current_database() || (select s.system_identifier from pg_control_system() s)), 12), event.account_id,
                  event.alarm_event_id);
$$;

create function amzmp._render_webhook(claimed amzmp.request[]) returns table (request_id bigint, params jsonb, body jsonb)
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select r.request_id, '{}'::jsonb,
           jsonb_strip_nulls(jsonb_build_object('url', (c.target).url, 'secret', c.secrets ->> 'secret', 'id', amzmp._event_id(c.event),
               'body', jsonb_build_object('id', amzmp._event_id(c.event), 'account', c.account, 'alarm', (c.event).alarm,
                   'level', (c.event).level, 'at', (c.event).at, 'message', (c.event).message, 'count', (c.event).subject_count,
                   'subjects', (c.event).subjects)::text))
    from unnest(claimed) as r
    cross join lateral amzmp._due_delivery(r.account_id, r.subject) c
    where (c.target).kind = 'webhook';
$$;

-- Inner: a header's text, as RFC 2047 asks where it is not plain.
create function amzmp._mail_header(value text) returns text
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select case when value ~ '^[ -~]*$' then left(value, 200)
                else '=?utf-8?B?' || replace(encode(convert_to(left(value, 30), 'utf8'), 'base64'), E'\n', '') || '?=' end;
$$;

create function amzmp._mail_text(event amzmp.alarm_event, account text) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select format(E'%s\n\nAccount  %s\nAlarm    %s (%s)\nAt       %s\n\n%s%s\n', event.message, account, event.alarm, event.level,
               to_char(event.at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
               (select string_agg(format('  %s  %s', s.one ->> 'subject', s.one ->> 'value'), E'\n' order by s.n)
                  from jsonb_array_elements(event.subjects) with ordinality s (one, n)),
               case when event.subject_count > 100 then format(E'\n  and %s more', event.subject_count - 100) else '' end);
$$;

create function amzmp._render_mail(event amzmp.alarm_event, target amzmp.alarm_target, account text) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select concat_ws(E'\r\n',
        'Date: ' || to_char(event.at at time zone 'UTC', 'Dy, DD Mon YYYY HH24:MI:SS "+0000"'),
        'From: ' || target.sender,
        'To: ' || array_to_string(target.recipients, E',\r\n '),
        'Subject: ' || amzmp._mail_header(format('[%s] %s', account, event.message)),
        format('Message-ID: <%s@%s>', amzmp._event_id(event), split_part(target.sender, '@', 2)),
        'Auto-Submitted: auto-generated', 'MIME-Version: 1.0', 'Content-Type: text/plain; charset=utf-8',
        'Content-Transfer-Encoding: base64', '',
        replace(encode(convert_to(amzmp._mail_text(event, account), 'utf8'), 'base64'), E'\n', E'\r\n'), '');
$$;

-- Inner, network runner: what to send for a task. In a copy that is not confirmed nothing is.
create function amzmp._mail_begin(account_id bigint, task_id bigint, out subject text, out rendered text) returns setof record
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select t.subject,
           (jsonb_strip_nulls(jsonb_build_object('url', (c.target).url, 'user', c.secrets ->> 'user', 'password', c.secrets ->> 'password',
               'from', (c.target).sender, 'message', amzmp._render_mail(c.event, c.target, c.account)))
            || (select jsonb_object_agg('to' || (n - 1), r.address) from unnest((c.target).recipients) with ordinality r (address, n)))::text
    from amzmp.task t
    cross join lateral amzmp._due_delivery(t.account_id, t.subject) c
    where t.account_id = _mail_begin.account_id and t.task_id = _mail_begin.task_id and (c.target).kind = 'mail' and not amzmp._is_fenced();
$$;

-- Inner, network runner: delivered, refused, or to be tried later.
create function amzmp._mail_end(account_id bigint, subject text, outcome text, message text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    perform amzmp._alarm_ended(account_id, subject, outcome = 'delivered', outcome = 'later', coalesce(nullif(message, ''), 'no answer'));
end
$$;

create function amzmp._handle_webhook(answers amzmp.answer_row[]) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select amzmp._alarm_ended((a.request).account_id, (a.request).subject, a.outcome = 'success',
        a.outcome = 'lost' or a.error_code = 'TemporaryFailure', coalesce(a.error_message, 'no answer'))
    from unnest(answers) a;
$$;

-- Inner: an attempt ended: delivered, or again later, or given up.
create function amzmp._alarm_ended(account_id bigint, subject text, delivered boolean, temporary boolean, reason text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    d amzmp.alarm_delivery;
begin
    select x.* into d from amzmp.alarm_delivery x
     where x.account_id = _alarm_ended.account_id and x.alarm_event_id = split_part(subject, '/', 1)::bigint
       and x.target = split_part(subject, '/', 2) for update;
    if not found or d.state <> 'due' then
        return;
    elsif not delivered then
        perform amzmp._alarm_undelivered(d, reason, temporary);
        return;
    end if;
    update amzmp.alarm_delivery x set state = 'delivered', delivered_at = now(), error = null
     where x.account_id = d.account_id and x.alarm_event_id = d.alarm_event_id and x.target = d.target;
    update amzmp.alarm_target t set state = 'ok', state_reason = null, delivered_at = now()
     where t.account_id = d.account_id and t.target = d.target;
end
$$;

create function amzmp._alarm_undelivered(d amzmp.alarm_delivery, reason text, temporary boolean) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    told_before boolean := (select t.state = 'failing' from amzmp.alarm_target t where t.account_id = d.account_id and t.target = d.target);
    again boolean := temporary and (select e.at > now() - amzmp._setting_interval(d.account_id, 0, 'alarm_give_up')
                                      from amzmp.alarm_event e where e.account_id = d.account_id and e.alarm_event_id = d.alarm_event_id);
begin
    update amzmp.alarm_delivery x set state = case when again then 'due' else 'failed' end, tries = x.tries + 1, error = reason
     where x.account_id = d.account_id and x.alarm_event_id = d.alarm_event_id and x.target = d.target;
    update amzmp.alarm_target t set state = 'failing', state_reason = reason where t.account_id = d.account_id and t.target = d.target;
    if again then
        perform amzmp._queue_alarm(d.account_id, d.alarm_event_id, d.target,
            now() + least(interval '10 s' * power(2, least(d.tries, 10)), interval '1 hour'));
    end if;
    if not told_before or not again then
        perform amzmp._log(d.account_id, 0, 'error', 'alarm_target', d.target,
            case when again then 'cannot be reached, tried again: ' else 'an alarm was not delivered: ' end || reason);
    end if;
end
$$;

-- Inner: what waits for its next attempt (at one target, or any) goes now.
create function amzmp._hurry_alarms(account_id bigint, target text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
begin
    update amzmp.request r set not_before = now()
     where r.account_id = _hurry_alarms.account_id and r.subject_kind = 'alarm_delivery' and r.state = 'due'
       and (target is null or split_part(r.subject, '/', 2) = target);
    update amzmp.task t set due_at = now()
     where t.account_id = _hurry_alarms.account_id and t.kind = 'mail' and t.due_at is distinct from t.leased_until
       and (target is null or split_part(t.subject, '/', 2) = target);
    perform amzmp._wake();
end
$$;

create function amzmp._resend_alarms(account text, target text default null) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
    again bigint;
begin
    with due as (
        update amzmp.alarm_delivery d set state = 'due', tries = 0
          from amzmp.alarm_target t
         where d.account_id = acc and d.state = 'failed' and t.account_id = acc and t.target = d.target
           and (_resend_alarms.target is null or d.target = _resend_alarms.target)
        returning d.alarm_event_id, d.target
    )
    select count(amzmp._queue_alarm(acc, d.alarm_event_id, d.target, now())) into again from due d;
    perform amzmp._hurry_alarms(acc, target);
    return again;
end
$$;
select amzmp._expose('amzmp._resend_alarms(text, text)', 'amzmp_operator',
    'Try again now what could not be delivered to an account''s targets (or to one). Returns how many had been given up.');

create function amzmp._test_target(account text, target text) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
begin
    if not exists (select from amzmp.alarm_target t where t.account_id = acc and t.target = _test_target.target) then
        perform amzmp._fail('AZ201', format('account %L has no target %L', account, target), null,
            format('select amzmp.set_webhook(%L, %L, …); or amzmp.set_mail(…).', account, target));
    end if;
    return amzmp._tell(acc, 'test', 'info', format('this is a test, sent by %s', amzmp._caller()), array[target],
        '[{"subject": "", "value": 1}]');
end
$$;
select amzmp._expose('amzmp._test_target(text, text)', 'amzmp_operator',
    'Send a test to a target. Returns the number of its event, whose delivery is in amzmp.alarm_delivery.');

create function amzmp._alarm_health() returns table (check_name text, state text, detail text, remedy text)
    language sql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
    select format('alarm %s %s', n.name, a.alarm), case a.state when 'failing' then 'error' when 'firing' then 'warning' end,
           case a.state when 'failing' then a.state_reason
                else (select e.message from amzmp.alarm_event e where e.account_id = a.account_id and e.alarm = a.alarm
                       order by e.alarm_event_id desc limit 1) end,
           case a.state when 'failing' then format('Mend what its query reads, or select amzmp.set_alarm(%L, %L, …);', n.name, a.alarm)
                else format('select * from amzmp.alarm_subject where alarm = %L;', a.alarm) end
    from amzmp.alarm a join amzmp._names() n on n.account_id = a.account_id and n.channel_id = 0
    where a.enabled and (a.state = 'failing' or a.state = 'firing' and a.level <> 'info')
    union all
    select format('target %s %s', n.name, t.target), 'error', t.state_reason,
           format('Mend it with set_%s, then select amzmp.resend_alarms(%L, %L);', t.kind, n.name, t.target)
    from amzmp.alarm_target t join amzmp._names() n on n.account_id = t.account_id and n.channel_id = 0
    where t.state = 'failing';
$$;
