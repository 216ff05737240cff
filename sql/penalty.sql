/*
 * penalty.sql
 *	  Subjects held back after an error, so that one of them holds up nobody.
 *
 * Whoever sees a failure calls amzmp._penalise, whoever sees success amzmp._unpenalise; planners ask amzmp._penalised
 * (send.sql). A penalty is
 *
 *		held back ──"until" comes, tried again──▶ (succeeded: the row goes) or held back once more, tries + 1
 *		held back ──no retries left, or expired──▶ given up: not tried again until somebody releases it (penalty_release.sql)
 *
 * The policy is copied into the row when it fails, so a changed one applies from the next failure on. Three numbers make
 * it, for each kind: how long to wait between tries, how long to go on trying since the first failure, and how many
 * retries. They are settings; a setting for the kind goes before the general one. A code that amzmp.issue_meaning calls
 * blocking waits longer, whatever the kind.
 */
create table amzmp.penalty (
    account_id bigint not null,
    channel_id bigint not null default 0,
    kind text not null,
    subject text not null,
    code text,
    message text,
    tries integer not null default 1,
    first_at timestamptz not null default now(),
    first_code text,
    first_message text,
    last_at timestamptz not null default now(),
    until timestamptz not null,
    gives_up_at timestamptz not null,
    gave_up boolean not null default false,
    primary key (account_id, channel_id, kind, subject)
);

create index penalty_until on amzmp.penalty (account_id, until) where not gave_up;
create index penalty_subject on amzmp.penalty (account_id, subject);
create index penalty_gave_up on amzmp.penalty (account_id, channel_id) where gave_up;

comment on table amzmp.penalty is 'Subjects held back after an error: not tried before "until", given up after the policy is exhausted. release_penalty() lets them go. amzmp.penalised shows the same in words.';
comment on column amzmp.penalty.account_id is 'The account.';
comment on column amzmp.penalty.channel_id is 'The channel; 0: the account itself.';
comment on column amzmp.penalty.kind is 'What failed: publish, price, stock, details, order, shipment …';
comment on column amzmp.penalty.subject is 'The SKU or order.';
comment on column amzmp.penalty.code is 'Amazon''s error code, or ours, of the last failure.';
comment on column amzmp.penalty.message is 'Why it failed last, in words.';
comment on column amzmp.penalty.tries is 'Failures so far.';
comment on column amzmp.penalty.first_at is 'When it failed first.';
comment on column amzmp.penalty.first_code is 'Code of the first failure.';
comment on column amzmp.penalty.first_message is 'Why it failed first.';
comment on column amzmp.penalty.last_at is 'When it failed last.';
comment on column amzmp.penalty.until is 'It is not tried before.';
comment on column amzmp.penalty.gives_up_at is 'No try begins later; as the policy was at the last failure.';
comment on column amzmp.penalty.gave_up is 'Is it given up, until somebody releases it?';

/*
 * The policy.
 */
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'penalty_retry_interval', 'both', 'interval', 'Penalty: wait between tries', '"08:00:00"', 1, 2592000,
        'How long a subject that failed is left alone before it is tried again (RETRY_INTERVAL).'),
    (true, 'penalty_expiration', 'both', 'interval', 'Penalty: give up after', '"16:00:01"', 1, 31536000,
        'How long after its first failure a subject is tried at the latest (EXPIRATION_DATE).'),
    (true, 'penalty_max_retries', 'both', 'integer', 'Penalty: number of retries', '2', 0, 1000,
        'How often a subject that failed is tried again before it is given up (MAX_RETRY_COUNT).'),
    (true, 'blocking_retry_interval', 'both', 'interval', 'Penalty: wait after a blocking error', '"1 day"', 1, 31536000,
        'How long a subject is left alone after an error that stays until somebody changes something (blocking in amzmp.issue_meaning). Where penalty_retry_interval is longer, that holds.'),
    (true, 'sent_to_remote', 'both', 'interval', 'Amazon answers within', '"06:00:00"', 60, 2592000,
        'How long Amazon may take to process what was sent and to answer. A submission without a verdict by then counts as failed.');

-- The same for each kind; without a value the general one holds. Orders are tried once more than the rest.
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
select true, k.kind || '_' || p.name, 'both', p.type, p.label || ', ' || k.title,
    case when k.kind = 'order' and p.name = 'max_retries' then '3'::jsonb end, p.minimum, p.maximum,
    format('The same as penalty_%s for %s alone.', p.name, k.title)
from (
    values ('order', 'orders'), ('publish', 'products'), ('price', 'prices'), ('stock', 'stock'), ('details', 'details of offers'),
        ('product', 'attributes of products'), ('relation', 'families of products'), ('image', 'images'),
        ('fulfillment', 'who ships')
) as k (kind, title)
cross join (
    values ('retry_interval', 'interval', 'Penalty: wait between tries', 1, 2592000),
        ('expiration', 'interval', 'Penalty: give up after', 1, 31536000),
        ('max_retries', 'integer', 'Penalty: number of retries', 0, 1000)
) as p (name, type, label, minimum, maximum);

-- The policy of a kind, as it is now; code: the error, which may ask for a longer wait.
create function amzmp._penalty_policy(account_id bigint, channel_id bigint, kind text, code text, out retry_after interval,
    out expires_after interval, out max_retries integer)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    known amzmp.meaning;
begin
    retry_after := coalesce(amzmp._setting_interval(account_id, channel_id, kind || '_retry_interval'),
        amzmp._setting_interval(account_id, channel_id, 'penalty_retry_interval'));
    expires_after := coalesce(amzmp._setting_interval(account_id, channel_id, kind || '_expiration'),
        amzmp._setting_interval(account_id, channel_id, 'penalty_expiration'));
    max_retries := coalesce(amzmp._setting_int(account_id, channel_id, kind || '_max_retries'),
        amzmp._setting_int(account_id, channel_id, 'penalty_max_retries'));
    select m.* into known from amzmp.meaning as m where m.code = _penalty_policy.code;
    if known.retry_after is not null then
        retry_after := known.retry_after;
    elsif known.blocking then
        retry_after := greatest(retry_after, amzmp._setting_interval(account_id, channel_id, 'blocking_retry_interval'));
    end if;
    -- whatever is tried at all has its first retry
    expires_after := greatest(expires_after, retry_after);
end
$$;

/*
 * One more failure of a subject. The wait counts from when the try was due, not from when its answer came: two waits of
 * eight hours end within sixteen, as the policy means it, however late a flow or an answer was.
 */
create function amzmp._penalise(account_id bigint, channel_id bigint, kind text, subject text, code text, message text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    scale constant double precision := coalesce(
        (select a.time_scale from amzmp.account as a where a.account_id = _penalise.account_id), 1);
    policy record;
    retry_after interval;
    expires_after interval;
    p amzmp.penalty;
begin
    select * into policy from amzmp._penalty_policy(account_id, coalesce(channel_id, 0), kind, code);
    retry_after := policy.retry_after / scale;
    expires_after := policy.expires_after / scale;
    insert into amzmp.penalty as x (account_id, channel_id, kind, subject, code, message, first_code, first_message, until,
        gives_up_at, gave_up)
    values (_penalise.account_id, coalesce(_penalise.channel_id, 0), _penalise.kind, _penalise.subject, _penalise.code,
        _penalise.message, _penalise.code, _penalise.message, now() + retry_after, now() + expires_after, policy.max_retries < 1)
    on conflict on constraint penalty_pkey do update
    set code = excluded.code,
        message = excluded.message,
        tries = x.tries + 1,
        last_at = excluded.last_at,
        until = greatest(least(x.until, excluded.last_at) + retry_after, excluded.last_at),
        gives_up_at = x.first_at + expires_after,
        gave_up = x.tries >= policy.max_retries
            or least(x.until, excluded.last_at) + retry_after > x.first_at + expires_after
    returning x.* into p;
    perform amzmp._log(account_id, channel_id, 'warning', kind, subject,
        format(case when p.gave_up then 'given up after %s failures: %s' else 'held back after failure %s: %s' end, p.tries, message),
        jsonb_build_object('code', code, 'until', p.until));
    if p.gave_up then
        perform amzmp._notify(account_id, 'amzmp_penalty', jsonb_build_object('kind', kind, 'subject', subject, 'code', code,
            'channel', (select c.name from amzmp.channel c where c.account_id = p.account_id and c.channel_id = p.channel_id)));
    end if;
end
$$;

comment on function amzmp._penalise(bigint, bigint, text, text, text, text) is 'Inner: one more failure of a subject, by the policy of its kind.';

-- The subject succeeded.
create function amzmp._unpenalise(account_id bigint, channel_id bigint, kind text, subject text)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    delete from amzmp.penalty as p
    where p.account_id = _unpenalise.account_id
        and p.channel_id = coalesce(_unpenalise.channel_id, 0)
        and p.kind = _unpenalise.kind
        and p.subject = _unpenalise.subject;
end;

comment on function amzmp._unpenalise(bigint, bigint, text, text) is 'Inner: a subject succeeded.';
