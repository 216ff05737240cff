-- penalty.sql
-- Subjects held back after an error, so that one of them holds up nobody.

create table amzmp.penalty (
    account_id bigint not null,
    channel_id bigint not null default 0,
    kind text not null,                    -- listing, inventory, order, shipment …
    subject text not null,
    code text,
    message text,
    tries integer not null default 1,
    first_at timestamptz not null default now(),
    until timestamptz not null,
    gives_up_at timestamptz not null,
    gave_up boolean not null default false,
    primary key (account_id, channel_id, kind, subject)
);
create index penalty_until on amzmp.penalty (account_id, until) where not gave_up;

comment on table amzmp.penalty is 'Subjects held back after an error: not tried before "until", given up after the policy is exhausted. release_penalty() lets them go.';
comment on column amzmp.penalty.account_id is 'The account.';
comment on column amzmp.penalty.channel_id is 'The channel; 0: the account itself.';
comment on column amzmp.penalty.kind is 'What failed: publish, price, stock, order …';
comment on column amzmp.penalty.subject is 'The SKU or order.';
comment on column amzmp.penalty.code is 'Amazon''s error code, or ours.';
comment on column amzmp.penalty.message is 'Why it failed, in words.';
comment on column amzmp.penalty.first_at is 'When it failed first.';
comment on column amzmp.penalty.until is 'It is not tried before.';
comment on column amzmp.penalty.gave_up is 'Is it given up, until somebody releases it?';
comment on column amzmp.penalty.tries is 'Failures so far.';
comment on column amzmp.penalty.gives_up_at is 'Copied from the policy at the first failure; a changed policy applies from the next failure on.';

-- Inner: one more failure of a subject. The policy is that of penalty_retry_interval, penalty_expiration, penalty_max_tries.
create function amzmp._penalise(account_id bigint, channel_id bigint, kind text, subject text, code text, message text)
    returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    retry_after interval := coalesce(amzmp._setting_interval(account_id, channel_id, 'penalty_retry_interval'), '28800 s');
    expires_after interval := coalesce(amzmp._setting_interval(account_id, channel_id, 'penalty_expiration'), '57601 s');
    max_tries integer := coalesce(amzmp._setting_int(account_id, channel_id, 'penalty_max_tries'), case kind when 'order' then 3 else 2 end);
    scale numeric := coalesce((select a.time_scale from amzmp.account a where a.account_id = _penalise.account_id), 1);
    p amzmp.penalty;
begin
    insert into amzmp.penalty as x (account_id, channel_id, kind, subject, code, message, until, gives_up_at, gave_up)
    values (_penalise.account_id, coalesce(_penalise.channel_id, 0), _penalise.kind, _penalise.subject, _penalise.code,
            _penalise.message, now() + retry_after / scale::float8, now() + expires_after / scale::float8, max_tries <= 1)
    on conflict on constraint penalty_pkey do update
       set code = excluded.code, message = excluded.message, tries = x.tries + 1, until = excluded.until,
           gave_up = x.tries + 1 >= max_tries or excluded.until > x.gives_up_at
    returning x.* into p;
    perform amzmp._log(account_id, channel_id, 'warning', kind, subject,
        format(case when p.gave_up then 'given up after %s failures: %s' else 'held back after failure %s: %s' end, p.tries, message),
        jsonb_build_object('code', code, 'until', p.until));
end
$$;

-- Inner: the subject succeeded.
create function amzmp._unpenalise(account_id bigint, channel_id bigint, kind text, subject text) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    begin atomic
    delete from amzmp.penalty p
     where p.account_id = _unpenalise.account_id and p.channel_id = coalesce(_unpenalise.channel_id, 0)
       and p.kind = _unpenalise.kind and p.subject = _unpenalise.subject;
    end;

create function amzmp._release_penalty(account_or_channel text, subjects text[] default null, kind text default null)
    returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    target record;
    released bigint;
begin
    select * into target from amzmp._resolve(account_or_channel);
    with gone as (
        delete from amzmp.penalty p
         where p.account_id = target.account_id and (target.channel_id = 0 or p.channel_id in (0, target.channel_id))
           and (subjects is null or p.subject = any (subjects))
           and (_release_penalty.kind is null or p.kind = _release_penalty.kind)
        returning p.subject
    )
    select count(*) into released from gone;
    if released > 0 then
        perform amzmp._log(target.account_id, target.channel_id, 'notice', 'penalty', null, format('%s released by %s', released, amzmp._caller()));
        perform amzmp._plan_sends(target.account_id, subjects);
    end if;
    return released;
end
$$;
select amzmp._expose('amzmp._release_penalty(text, text[], text)', 'amzmp_operator',
    'Let penalised subjects go (all of the account or channel, or those named) and send them again. Returns how many.');
