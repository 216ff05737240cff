/*
 * alarm.sql
 *	  Telling people: what to look for, and whom to tell.
 *
 * Life of an alarm:
 *
 *	 alarm ──every so often──▶ its query's rows (subject, value) ──new ones──▶ alarm_event ──▶ alarm_delivery, one a target
 *	                             alarm_subject remembers                        NOTIFY          webhook or mail, by the sender
 *
 * An alarm is one of ours (a preset, checked by an own runner) or a query of the shop's, which a user runner executes as the
 * role that set it (alarm_check.sql). A subject is told once, and again only after it was gone. Presets are in
 * alarm_preset.sql, what is sent in alarm_send.sql.
 */
-- That Amazon refuses the credentials is the very thing to tell.
insert into amzmp.flow (flow, scope, every, on_by_default, capability, title, description, needs) values
    ('watch_alarms', 'account', '* * * * *', false, null, 'Watch alarms',
     'Checks the alarms that are due and removes old events. On as soon as an account has an alarm.', 'activation');

insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'alarm_give_up', 'account', 'interval', 'Alarms are sent for', '"24:00:00"', 60, 2592000,
        'How long a webhook or mail that cannot be delivered is tried again.'),
    (true, 'alarm_time_limit', 'account', 'interval', 'An alarm''s query may take', '"00:01:00"', 1, 540,
        'How long the query of an alarm may take before it is stopped and the alarm is failing. Other work of the same role waits for it.'),
    (true, 'alarm_retention', 'account', 'interval', 'Alarms are kept', '"90 days"', 86400, 31536000,
        'How long events of alarms and their deliveries are kept.');

create table amzmp.alarm_preset (
    preset text primary key,
    function_name text not null,
    threshold numeric not null,
    below boolean not null default false,
    every interval not null,
    quiet interval not null default '0',
    level text not null,
    message text not null,
    description text not null
);

comment on table amzmp.alarm_preset is 'Alarms that amzmp brings along; set_alarm(account, alarm, preset => …) uses one.';
comment on column amzmp.alarm_preset.preset is 'Name of the preset.';
comment on column amzmp.alarm_preset.function_name is 'Inner function that finds the subjects.';
comment on column amzmp.alarm_preset.threshold is 'The threshold, unless set_alarm names another.';
comment on column amzmp.alarm_preset.below is 'Does it fire at or below the threshold, rather than at or above it?';
comment on column amzmp.alarm_preset.every is 'How often it is checked, unless set_alarm says otherwise.';
comment on column amzmp.alarm_preset.quiet is 'How long a subject must be gone before it is told again.';
comment on column amzmp.alarm_preset.level is 'info, warning or error.';
comment on column amzmp.alarm_preset.message is 'What is told, after the number of subjects.';
comment on column amzmp.alarm_preset.description is 'What it looks for, and what subject, value and threshold are.';

create table amzmp.alarm (
    account_id bigint not null,
    alarm text not null,
    preset text,
    query text,
    columns text[],
    run_as name,
    threshold numeric not null,
    below boolean not null default false,
    every interval not null,
    quiet interval not null default '0',
    level text not null,
    message text not null,
    targets text[] not null default '{}',
    enabled boolean not null default true,
    state text not null default 'new',
    state_reason text,
    checked_at timestamptz,
    fired_at timestamptz,
    set_by name not null,
    set_at timestamptz not null default now(),
    primary key (account_id, alarm),
    constraint alarm_kind_check check (num_nonnulls(preset, query) = 1 and (query is null) = (run_as is null)),
    constraint alarm_level_check check (level in ('info', 'warning', 'error')),
    constraint alarm_state_check check (state in ('new', 'quiet', 'firing', 'failing'))
);

comment on table amzmp.alarm is 'What is watched, and whom to tell. Written by set_alarm.';
comment on column amzmp.alarm.account_id is 'The account.';
comment on column amzmp.alarm.alarm is 'Its name.';
comment on column amzmp.alarm.preset is 'The preset that it uses; null: a query.';
comment on column amzmp.alarm.query is 'The query, executed as run_as with the search_path pg_catalog; null: a preset.';
comment on column amzmp.alarm.columns is 'What its columns are: subject, value, or both.';
comment on column amzmp.alarm.run_as is 'The role as which the query is executed.';
comment on column amzmp.alarm.threshold is 'A row counts when its value reaches this.';
comment on column amzmp.alarm.below is 'Does it count at or below the threshold, rather than at or above it?';
comment on column amzmp.alarm.every is 'How often it is checked, minutes at the finest.';
comment on column amzmp.alarm.quiet is 'How long a subject must be gone before it is told again.';
comment on column amzmp.alarm.level is 'info, warning or error.';
comment on column amzmp.alarm.message is 'What is told, after the number of subjects.';
comment on column amzmp.alarm.targets is 'Whom to tell, see amzmp.alarm_target. NOTIFY and the row in alarm_event need none.';
comment on column amzmp.alarm.enabled is 'Is it checked?';
comment on column amzmp.alarm.state is 'new; quiet; firing (something reaches the threshold); failing (see state_reason).';
comment on column amzmp.alarm.state_reason is 'Why the last check failed.';
comment on column amzmp.alarm.checked_at is 'When it was last checked.';
comment on column amzmp.alarm.fired_at is 'When it last told something.';
comment on column amzmp.alarm.set_by is 'Who set it.';
comment on column amzmp.alarm.set_at is 'When.';

create table amzmp.alarm_subject (
    account_id bigint not null,
    alarm text not null,
    subject text not null,
    value numeric,
    since timestamptz not null default now(),
    seen_at timestamptz not null,
    told_at timestamptz,
    primary key (account_id, alarm, subject)
);

comment on table amzmp.alarm_subject is 'What each alarm found, so that it is told once.';
comment on column amzmp.alarm_subject.account_id is 'The account.';
comment on column amzmp.alarm_subject.alarm is 'The alarm.';
comment on column amzmp.alarm_subject.subject is 'What the query called it: a SKU, an order, a flow …';
comment on column amzmp.alarm_subject.value is 'Its value when last seen.';
comment on column amzmp.alarm_subject.since is 'When it was first found.';
comment on column amzmp.alarm_subject.seen_at is 'When it was last found.';
comment on column amzmp.alarm_subject.told_at is 'When it was told.';

create table amzmp.alarm_target (
    account_id bigint not null,
    target text not null,
    kind text not null,
    url text not null,
    sender text,
    recipients text[],
    credentials bytea,
    state text not null default 'new',
    state_reason text,
    delivered_at timestamptz,
    set_by name not null,
    set_at timestamptz not null default now(),
    primary key (account_id, target),
    constraint alarm_target_kind_check check (kind in ('webhook', 'mail')),
    constraint alarm_target_state_check check (state in ('new', 'ok', 'failing'))
);

comment on table amzmp.alarm_target is 'Whom alarms tell. Written by set_webhook and set_mail.';
comment on column amzmp.alarm_target.account_id is 'The account.';
comment on column amzmp.alarm_target.target is 'Its name.';
comment on column amzmp.alarm_target.kind is 'webhook or mail.';
comment on column amzmp.alarm_target.url is 'Where the webhook goes, or the mail server.';
comment on column amzmp.alarm_target.sender is 'The address that mails come from.';
comment on column amzmp.alarm_target.recipients is 'The addresses that mails go to.';
comment on column amzmp.alarm_target.credentials is 'The webhook''s signing secret, or the mail server''s user and password, sealed.';
comment on column amzmp.alarm_target.state is 'new; ok; failing (see state_reason).';
comment on column amzmp.alarm_target.state_reason is 'Why the last attempt failed.';
comment on column amzmp.alarm_target.delivered_at is 'When something was last delivered.';
comment on column amzmp.alarm_target.set_by is 'Who set it.';
comment on column amzmp.alarm_target.set_at is 'When.';

create sequence amzmp.alarm_event_id_seq as bigint;

create table amzmp.alarm_event (
    account_id bigint not null,
    alarm_event_id bigint not null default nextval('amzmp.alarm_event_id_seq'),
    alarm text not null,
    level text not null,
    at timestamptz not null default now(),
    message text not null,
    subject_count integer not null,
    subjects jsonb not null,
    primary key (account_id, alarm_event_id)
);

create index alarm_event_at on amzmp.alarm_event (at);

comment on table amzmp.alarm_event is 'What alarms have told. Kept for alarm_retention.';
comment on column amzmp.alarm_event.account_id is 'The account.';
comment on column amzmp.alarm_event.alarm_event_id is 'Number of the event.';
comment on column amzmp.alarm_event.alarm is 'The alarm.';
comment on column amzmp.alarm_event.level is 'info, warning or error.';
comment on column amzmp.alarm_event.at is 'When.';
comment on column amzmp.alarm_event.message is 'What happened, in a sentence.';
comment on column amzmp.alarm_event.subject_count is 'How many subjects were new.';
comment on column amzmp.alarm_event.subjects is 'The first hundred of them: [{"subject": …, "value": …}, …].';

create table amzmp.alarm_delivery (
    account_id bigint not null,
    alarm_event_id bigint not null,
    target text not null,
    state text not null default 'due',
    tries integer not null default 0,
    error text,
    delivered_at timestamptz,
    primary key (account_id, alarm_event_id, target),
    constraint alarm_delivery_state_check check (state in ('due', 'delivered', 'failed'))
);

create index alarm_delivery_open on amzmp.alarm_delivery (account_id, target) where state <> 'delivered';

comment on table amzmp.alarm_delivery is 'Events on their way to people, one row a target. resend_alarms() tries failed ones again.';
comment on column amzmp.alarm_delivery.account_id is 'The account.';
comment on column amzmp.alarm_delivery.alarm_event_id is 'The event.';
comment on column amzmp.alarm_delivery.target is 'Whom to tell.';
comment on column amzmp.alarm_delivery.state is 'due: being sent or tried again; delivered; failed (see error).';
comment on column amzmp.alarm_delivery.tries is 'Rounds of attempts that ended without success.';
comment on column amzmp.alarm_delivery.error is 'Why the last one did not succeed.';
comment on column amzmp.alarm_delivery.delivered_at is 'When the receiver said that it had it.';

/* ---- what people say: targets ---- */

-- Inner: a name that can stand in a header, a subject line and a statement.
create function amzmp._check_alarm_name(name text) returns void
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
begin
    if name is null or name !~ '^[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}$' then
        perform amzmp._fail('AZ202', format('%L is not a usable name', name), 'Letters, digits, spaces, _ . and - can be used, 63 at the most.');
    end if;
end
$$;

-- Inner: may alarms go there? On this machine, or where a superuser said so: else whoever may set a target could reach
-- servers that only this one reaches.
create function amzmp._check_target_host(url text, schemes text) returns void
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
declare
    host text := lower(substring(url from '^(?:' || schemes || ')://(\[[0-9a-fA-F:]+\]|[^/:?#@\s]+)(?::[0-9]+)?(?:/[^\s#]*)?$'));
begin
    if host is null then
        perform amzmp._fail('AZ202', format('"%s" is not a usable address', amzmp.mask(url)), null,
            case when schemes like 'http%' then 'Write https://HOST/PATH.' else 'Write smtps://HOST:465 or smtp://HOST:587.' end);
    elsif host not in ('127.0.0.1', 'localhost', '[::1]')
       and not host = any (string_to_array(lower(replace(coalesce(current_setting('amzmp.allowed_hosts', true), ''), ' ', '')), ',')) then
        perform amzmp._fail('AZ004', format('host "%s" is not allowed as a target', host), null,
            'A superuser can add it to amzmp.allowed_hosts in postgresql.conf.');
    end if;
end
$$;

-- Inner: a secret from a file or, except for production accounts, a literal.
create function amzmp._target_secrets(a amzmp.account, file text, literals jsonb, names text[]) returns jsonb
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    content text;
    found jsonb;
begin
    if file is null then
        if a.mode = 'production' and literals <> '{}' then
            perform amzmp._fail('AZ004', 'a production account takes its secrets from a file',
                'A literal would stand in the server log when the statement fails.',
                format('Write %s into a file in amzmp.credentials_dir and pass file => its name.',
                       (select string_agg(format('"%s: …"', n), ' and ') from unnest(names) n)));
        end if;
        return literals;
    end if;
    content := amzmp._read_credentials_file(file);
    select jsonb_object_agg(n, v) into found
      from unnest(names) n, substring(content from '(?n)^\s*' || n || '\s*[:=]\s*(\S.*?)\s*$') v
     where v is not null;
    if (select count(*) from jsonb_object_keys(coalesce(found, '{}'))) < cardinality(names) then
        perform amzmp._fail('AZ202', format('file "%s" does not hold what is needed', file), null,
            format('Expected are lines %s.', (select string_agg(format('"%s: …"', n), ' and ') from unnest(names) n)));
    end if;
    return found;
end
$$;

create function amzmp._put_target(account_id bigint, target text, kind text, url text, sender text, recipients text[], secrets jsonb)
    returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
begin
    insert into amzmp.alarm_target (account_id, target, kind, url, sender, recipients, credentials, set_by)
    values (account_id, target, kind, url, sender, recipients,
            case when secrets <> '{}' then amzmp._seal(secrets::text, 'alarm_target', account_id || '/' || target) end, amzmp._caller())
    on conflict on constraint alarm_target_pkey do update
        set kind = excluded.kind, url = excluded.url, sender = excluded.sender, recipients = excluded.recipients,
            credentials = excluded.credentials, state = 'new', state_reason = null, set_by = excluded.set_by, set_at = now();
    -- what waits for its next attempt goes the new way at once
    perform amzmp._hurry_alarms(account_id, target);
end
$$;

create function amzmp._set_webhook(account text, target text, url text, file text default null, secret text default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    a amzmp.account := amzmp._account(account);
    secrets jsonb;
begin
    perform amzmp._check_alarm_name(target);
    perform amzmp._check_target_host(url, 'https?');
    secrets := amzmp._target_secrets(a, file, jsonb_strip_nulls(jsonb_build_object('secret', secret)), '{secret}');
    if length(secrets ->> 'secret') < 16 then
        perform amzmp._fail('AZ202', 'the secret is too short to sign with', 'Expected are sixteen characters or more.');
    end if;
    perform amzmp._put_target(a.account_id, target, 'webhook', url, null, null, secrets);
end
$$;
select amzmp._expose('amzmp._set_webhook(text, text, text, text, text)', 'amzmp_admin',
    'Names a URL that alarms of an account are posted to, and the secret that signs them (HMAC-SHA256): a line "secret: …" of a file in amzmp.credentials_dir, or (mock and sandbox accounts only) a literal. Hosts other than this machine must be in amzmp.allowed_hosts.');

create function amzmp._set_mail(account text, target text, server text, sender text, recipients text[], file text default null,
    "user" text default null, password text default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    a amzmp.account := amzmp._account(account);
    wrong text;
begin
    perform amzmp._check_alarm_name(target);
    perform amzmp._check_target_host(server, 'smtps?');
    select x.address into wrong from unnest(sender || recipients) as x (address)
     where x.address is null or x.address !~ '^[!-~]+@[A-Za-z0-9.-]+$' or x.address ~ '[<>,;:"()\\\[\]]' limit 1;
    if found or coalesce(cardinality(recipients), 0) not between 1 and 50 then
        perform amzmp._fail('AZ202', format('%L is not a list of e-mail addresses', coalesce(wrong, recipients::text)), null,
            'Write plain addresses, such as ''{ops@example.com}'', fifty at the most.');
    end if;
    if ("user" is null) <> (password is null) then
        perform amzmp._fail('AZ202', 'a mail server takes a user and a password, or neither');
    end if;
    perform amzmp._put_target(a.account_id, target, 'mail', server, sender, recipients,
        amzmp._target_secrets(a, file, jsonb_strip_nulls(jsonb_build_object('user', "user", 'password', password)), '{user,password}'));
end
$$;
select amzmp._expose('amzmp._set_mail(text, text, text, text, text[], text, text, text)', 'amzmp_admin',
    'Names a mail server (smtps://host:465, or smtp://host:587 with STARTTLS; TLS is required and verified except on this machine), a sender and the recipients of an account''s alarms. Lines "user: …" and "password: …" stand in a file in amzmp.credentials_dir; literals are for mock and sandbox accounts.');

create function amzmp._drop_target(account text, target text) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
begin
    delete from amzmp.alarm_target t where t.account_id = acc and t.target = target;
    if not found then
        return false;
    end if;
    update amzmp.alarm a set targets = array_remove(a.targets, target) where a.account_id = acc and target = any (a.targets);
    update amzmp.alarm_delivery d set state = 'failed', error = 'the target was dropped'
     where d.account_id = acc and d.target = target and d.state = 'due';
    return true;
end
$$;
select amzmp._expose('amzmp._drop_target(text, text)', 'amzmp_admin', 'Forgets whom to tell; alarms that named it no longer do. False when there was none.');
