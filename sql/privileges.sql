-- privileges.sql
-- Who owns and may use what. Last in the script, so that it sees everything.

-- Everything is owned by amzmp_owner; nothing is left to PUBLIC but what is exposed on purpose (loops: DDL per object).
do $$
declare
    o record;
begin
    for o in
        select p.oid::regprocedure as name, p.prokind, p.proname like '\_%' as inner_one
          from pg_catalog.pg_proc p where p.pronamespace = 'amzmp'::regnamespace
    loop
        execute format('alter routine %s owner to amzmp_owner', o.name);
        if o.inner_one then
            execute format('revoke all on routine %s from public', o.name);
        end if;
    end loop;
    for o in
        select c.oid::regclass as name, c.relkind from pg_catalog.pg_class c
         where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p', 'v', 'S')
           and not exists (select from pg_catalog.pg_depend d where d.objid = c.oid and d.deptype in ('a', 'i') and c.relkind = 'S')
    loop
        execute format('alter table %s owner to amzmp_owner', o.name);
    end loop;
    for o in
        select t.oid::regtype as name from pg_catalog.pg_type t
          left join pg_catalog.pg_class c on c.oid = t.typrelid
         where t.typnamespace = 'amzmp'::regnamespace and (t.typtype in ('d', 'e') or c.relkind = 'c')
    loop
        execute format('alter type %s owner to amzmp_owner', o.name);
    end loop;
end
$$;

-- Raising our errors is harmless, and functions that run as their caller need it.
grant execute on function amzmp._fail(text, text, text, text), amzmp._in_transaction_block() to public;
-- schedule() runs as its caller, and asks what that one may.
grant execute on function amzmp._may_use_cron(name) to public;
grant execute on function amzmp._check_clock(name) to public;
grant execute on function amzmp._clock_database() to public;
-- amzmp_owner needs the identity of the cluster to know a copy.
grant execute on function pg_catalog.pg_control_system() to amzmp_owner;

-- Readers see tables and views, but not what is sealed and not raw answers; account by account where a role is limited.
do $$
declare
    t record;
begin
    for t in
        select c.oid::regclass as name, c.relkind,
               exists (select from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attname = 'account_id' and not a.attisdropped) as by_account
          from pg_catalog.pg_class c
         where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p', 'v')
           and c.relname not in ('answer', 'document_chunk', 'transfer', 'report_token', 'parked_order', 'order_buyer', 'account_access', 'identity')
    loop
        execute format('grant select on %s to amzmp_reader', t.name);
        if t.by_account and t.relkind <> 'v' then
            execute format('alter table %s enable row level security', t.name);
            execute format('create policy account_access on %s for select to amzmp_reader using (account_id = 0 or amzmp._may_see(account_id, current_user))', t.name);
        end if;
    end loop;
end
$$;
grant execute on function amzmp._may_see(bigint, name) to amzmp_reader;
-- What belongs to no single account: keys of the shop's tables are for who may see every account (0 is nobody's number), an
-- application for who may see one of its accounts.
create policy account_access on amzmp.change for select to amzmp_reader using (amzmp._may_see(0, current_user));
create policy account_access on amzmp.rescan_mark for select to amzmp_reader using (amzmp._may_see(0, current_user));
create policy account_access on amzmp.watched for select to amzmp_reader using (amzmp._may_see(0, current_user));
create policy account_access on amzmp.application for select to amzmp_reader
    using (amzmp._may_see(0, current_user)
           or exists (select from amzmp.account a where a.application_id = application.application_id));
alter table amzmp.change enable row level security;
alter table amzmp.rescan_mark enable row level security;
alter table amzmp.watched enable row level security;
alter table amzmp.application enable row level security;
-- The dashboard's views evaluate it with the rights, and the row security, of who asks.
grant execute on function amzmp._sku_facts(bigint, bigint, text), amzmp._unsettled_figures(bigint, bigint) to amzmp_reader;

-- What a dump takes along: all that is the user's. A table that has rows by now is reference data, which the script of the
-- copy fills itself; setting_definition and issue_meaning hold both kinds.
do $$
declare
    t record;
    filled boolean;
begin
    for t in
        select c.oid::regclass as name, c.relkind from pg_catalog.pg_class c
         where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p', 'S')
           and c.relname not in ('setting_definition', 'issue_meaning')
    loop
        filled := false;
        if t.relkind = 'r' then
            execute format('select exists (select from %s)', t.name) into filled;
        end if;
        if not filled then
            perform pg_catalog.pg_extension_config_dump(t.name, '');
        end if;
    end loop;
    perform pg_catalog.pg_extension_config_dump('amzmp.setting_definition', 'where not built_in');
    perform pg_catalog.pg_extension_config_dump('amzmp.issue_meaning', 'where not built_in');
end
$$;
