-- hold.sql
-- A person's stop: for a held account or channel nothing is sent, while capture and recompute go on, so that the
-- difference views show what would be sent. The sender's lanes look here (request_claim.sql).
--
-- Not to be confused with a request that is held for a person (amzmp.request.state) or with the brake, which holds what
-- looks like a mistake by itself.

create table amzmp.hold (
    account_id bigint not null,
    channel_id bigint not null default 0,
    reason text not null,
    held_at timestamptz not null default now(),
    held_by name not null,
    primary key (account_id, channel_id)
);

comment on table amzmp.hold is 'Accounts and channels for which nothing is sent until amzmp.resume().';
comment on column amzmp.hold.account_id is 'The account.';
comment on column amzmp.hold.channel_id is 'The channel; 0: the whole account.';
comment on column amzmp.hold.reason is 'Why, in the words of the one who held it.';
comment on column amzmp.hold.held_at is 'Since when.';
comment on column amzmp.hold.held_by is 'The role that held it.';

create function amzmp._hold(account_or_channel text, reason text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    target record;
begin
    select * into target from amzmp._resolve(account_or_channel);
    if coalesce(btrim(reason), '') = '' then
        perform amzmp._fail('AZ202', 'a hold needs a reason', 'Others will wonder why nothing is sent.',
            format('select amzmp.hold(%L, ''…'');', account_or_channel));
    end if;
    insert into amzmp.hold (account_id, channel_id, reason, held_by)
    values (target.account_id, target.channel_id, btrim(_hold.reason), amzmp._caller())
    on conflict (account_id, channel_id) do update
       set reason = excluded.reason, held_at = excluded.held_at, held_by = excluded.held_by;
    perform amzmp._log(target.account_id, target.channel_id, 'notice', 'account', account_or_channel,
        format('held by %s: %s', amzmp._caller(), btrim(reason)));
    perform amzmp._wake();
end
$$;
select amzmp._expose('amzmp._hold(text, text)', 'amzmp_operator',
    'Send nothing for an account or a channel until resume(); what is in flight ends. Changes are still captured and computed, so the difference views show what waits.');

create function amzmp._resume(account_or_channel text) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    target record;
begin
    select * into target from amzmp._resolve(account_or_channel);
    delete from amzmp.hold h where h.account_id = target.account_id and h.channel_id = target.channel_id;
    if not found then
        return false;
    end if;
    perform amzmp._log(target.account_id, target.channel_id, 'notice', 'account', account_or_channel,
        format('resumed by %s', amzmp._caller()));
    perform amzmp._wake();
    return true;
end
$$;
select amzmp._expose('amzmp._resume(text)', 'amzmp_operator',
    'Send again for an account or a channel that was held. False when it was not.');

-- Inner: may a request of this place go out as things stand? What cannot is nothing to wait for.
create function amzmp._goes_out(account_id bigint, channel_id bigint, operation text) returns boolean
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select exists (
        select from amzmp.account a
         where a.account_id = _goes_out.account_id
           and (a.active and a.state not in ('invalid', 'dropped') or _goes_out.operation in ('exchangeAuthorizationCode', 'postWebhook')
                or a.active and a.state <> 'dropped' and _goes_out.operation in ('receiveMessage', 'deleteMessageBatch'))
           and (_goes_out.operation = 'postWebhook' or not exists (select from amzmp.hold h where h.account_id = a.account_id
                              and h.channel_id in (0, _goes_out.channel_id))));
    end;
