-- account_activate.sql
-- Switching accounts and channels on and off, and forgetting them.

create function amzmp._activate(account_or_channel text) returns text
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    target record;
    a amzmp.account;
    p amzmp.application;
begin
    select * into target from amzmp._resolve(account_or_channel);
    select x.* into a from amzmp.account x where x.account_id = target.account_id;
    select x.* into p from amzmp.application x where x.application_id = a.application_id;
    if p.client_secret is null or a.refresh_token is null then
        perform amzmp._fail('AZ003', format('account "%s" has no credentials', a.name), null,
            format('select amzmp.set_credentials(%L, file => …);', a.name));
    elsif a.seller_id is null then
        perform amzmp._fail('AZ003', format('account "%s" has no seller id', a.name), null,
            format('select amzmp.set_seller_id(%L, …);', a.name));
    elsif a.mode = 'production' and coalesce(current_setting('amzmp.node_identity', true), '') = '' then
        perform amzmp._fail('AZ003', 'amzmp.node_identity is not set',
            'It tells this node from its copies and must stand outside the data directory.',
            'Set it in postgresql.conf''s include outside the data directory, reload, and try again.');
    end if;
    perform amzmp._first_identity();
    if target.channel_id = 0 then
        update amzmp.account x set active = true where x.account_id = target.account_id;
    else
        if not a.active then
            perform amzmp._fail('AZ203', format('account "%s" is not active', a.name), null, format('select amzmp.activate(%L);', a.name));
        end if;
        update amzmp.channel x set active = true where x.account_id = target.account_id and x.channel_id = target.channel_id;
    end if;
    perform amzmp._enable_defaults(target.account_id, target.channel_id);
    perform amzmp._log(target.account_id, target.channel_id, 'notice', 'account', account_or_channel, format('activated by %s', amzmp._caller()));
    perform amzmp._read_back(target.account_id);    -- what was left in doubt
    perform amzmp._plan_sends(target.account_id);   -- what changed while it was off
    perform amzmp._wake();
    return case when target.channel_id = 0 then 'account active; now activate its channels' else 'channel active' end;
end
$$;
select amzmp._expose('amzmp._activate(text)', 'amzmp_admin', 'Switch an account or a channel on, with its default flows. Call schedule() once, as the role that shall own the pg_cron jobs.');

create function amzmp._deactivate(account_or_channel text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    target record;
begin
    select * into target from amzmp._resolve(account_or_channel);
    if target.channel_id = 0 then
        update amzmp.account x set active = false where x.account_id = target.account_id;
    else
        update amzmp.channel x set active = false where x.account_id = target.account_id and x.channel_id = target.channel_id;
    end if;
    perform amzmp._log(target.account_id, target.channel_id, 'notice', 'account', account_or_channel, format('deactivated by %s', amzmp._caller()));
end
$$;
select amzmp._expose('amzmp._deactivate(text)', 'amzmp_admin', 'Switch an account or a channel off: nothing is sent or polled; what is at Amazon stays as it is.');

create function amzmp._drop_channel(channel text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    c amzmp.channel := amzmp._channel(channel);
begin
    update amzmp.channel x set dropped = true, active = false where x.account_id = c.account_id and x.channel_id = c.channel_id;
    update amzmp.account_flow f set enabled = false where f.account_id = c.account_id and f.channel_id = c.channel_id;
    delete from amzmp.request r where r.account_id = c.account_id and r.channel_id = c.channel_id and r.state in ('due', 'held');
    delete from amzmp.name n where n.account_id = c.account_id and n.channel_id = c.channel_id;
    perform amzmp._log(c.account_id, c.channel_id, 'notice', 'channel', c.name, format('dropped by %s', amzmp._caller()));
end
$$;
select amzmp._expose('amzmp._drop_channel(text)', 'amzmp_admin', 'Stop a channel''s flows and forget it; orders and history stay.');

create function amzmp._drop_account(account text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account := amzmp._account(account);
begin
    update amzmp.account x
       set state = 'dropped', active = false, refresh_token = null, generation = x.generation + 1
     where x.account_id = a.account_id;
    update amzmp.channel x set dropped = true, active = false where x.account_id = a.account_id;
    update amzmp.account_flow x set enabled = false
      from amzmp.flow f
     where x.account_id = a.account_id and f.flow = x.flow and f.needs <> 'nothing';
    perform amzmp._forget_buyers(a.account_id);
    delete from amzmp.queue q where q.account_id = a.account_id;
    delete from amzmp.subscription s where s.account_id = a.account_id;
    delete from amzmp.destination d where d.account_id = a.account_id;
    delete from amzmp.alarm_target t where t.account_id = a.account_id;
    delete from amzmp.alarm x where x.account_id = a.account_id;
    delete from amzmp.request r where r.account_id = a.account_id and r.state in ('due', 'held');
    delete from amzmp.name n where n.account_id = a.account_id;
    perform amzmp._log(a.account_id, 0, 'notice', 'account', a.name, format('dropped by %s', amzmp._caller()));
end
$$;
select amzmp._expose('amzmp._drop_account(text)', 'amzmp_admin', 'Stop an account''s flows, drop its credentials and forget it, buyers'' personal data included; orders and history stay.');
