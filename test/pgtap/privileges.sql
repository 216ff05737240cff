-- privileges.sql
-- Who may do what: each function by role, nothing for PUBLIC but what decides by itself, rows by account through tables
-- and views alike.

begin;
select no_plan();
set local client_min_messages = warning;
\getenv simulator AMZMP_SIMULATOR_URL
select amzmp.create_key() as key where amzmp._key_usable() is not null \g /dev/null

create role p_stranger login;
create role p_reader login in role amzmp_reader;
create role p_operator login in role amzmp_operator;
create role p_admin login in role amzmp_admin;
create role p_buyer login in role amzmp_reader, amzmp_buyer_data;
create role p_limited login in role amzmp_operator;
create role p_group in role amzmp_reader;
create role p_member login in role p_group;

-- Function by role. What is granted to PUBLIC decides by its caller, is harmless, or serves user runners, which get
-- only what is their own role's.
create temporary table for_all (name text);
insert into for_all values ('_fail'), ('_in_transaction_block'), ('_may_use_cron'), ('_check_clock'), ('_clock_database'), ('help'), ('mask'), ('schedule'), ('wait'),
    ('create_key'), ('next_task'), ('finish_task'), ('fail_task'), ('begin_import'), ('finish_import'), ('begin_delivery'), ('begin_item'), ('finish_item'),
    ('begin_cancellation_news'), ('finish_cancellation_news'), ('begin_return'), ('finish_return'),
    ('alarm_columns'), ('set_alarm'), ('finish_delivery'), ('fail_delivery'), ('begin_follow_up'), ('finish_follow_up'), ('begin_progress'), ('finish_progress'), ('take_rows'), ('normalize_gtin');
select is_empty($$select p.oid::regprocedure from pg_proc p
    where p.pronamespace = 'amzmp'::regnamespace and p.proname like '\_%' and has_function_privilege('p_stranger', p.oid, 'execute')
      and p.proname not in (select name from for_all)$$, 'no inner function is executable by everybody');
select is_empty($$select p.oid::regprocedure, r from pg_proc p, unnest(array['p_reader', 'p_operator', 'p_admin', 'p_buyer']) r
    where p.pronamespace = 'amzmp'::regnamespace and p.proname like '\_%' and has_function_privilege(r, p.oid, 'execute')
      and p.proname not in (select name from for_all) and p.proname not in ('_may_see', '_usage', '_sku_facts', '_unsettled_figures')$$, 'nor by any role of ours but the owner');
select is_empty($$select p.oid::regprocedure from pg_proc p
    where p.pronamespace = 'amzmp'::regnamespace and p.prosrc = 'amzmp_entry' and has_function_privilege('p_stranger', p.oid, 'execute')
      and p.proname not in (select name from for_all)
      and p.proname not in (select x.proname from pg_proc x where x.pronamespace = 'amzmp'::regnamespace and obj_description(x.oid, 'pg_proc') ~* 'runner|used by')$$,
    'no public verb is executable by everybody, but for what user runners call');
select is_empty($$select p.oid::regprocedure from pg_proc p
    where p.pronamespace = 'amzmp'::regnamespace and p.prosrc = 'amzmp_entry'
      and has_function_privilege('p_reader', p.oid, 'execute') and not has_function_privilege('p_operator', p.oid, 'execute')$$,
    'an operator may do what a reader may');
select is_empty($$select p.oid::regprocedure from pg_proc p
    where p.pronamespace = 'amzmp'::regnamespace and p.prosrc = 'amzmp_entry'
      and has_function_privilege('p_operator', p.oid, 'execute') and not has_function_privilege('p_admin', p.oid, 'execute')$$,
    'an administrator may do what an operator may');
select results_eq($$select distinct f.name, has_function_privilege('p_reader', p.oid, 'execute'),
         has_function_privilege('p_operator', p.oid, 'execute'), has_function_privilege('p_admin', p.oid, 'execute')
    from pg_proc p join (values ('health'), ('pending'), ('mark_due'), ('enqueue'), ('call'), ('publish'), ('retry'), ('cancel_request'), ('create_account'),
        ('set_credentials'), ('activate'), ('drop_account'), ('limit_role'), ('confirm_identity'), ('reduce_stock')) f(name) on f.name = p.proname
    where p.pronamespace = 'amzmp'::regnamespace order by f.name$$,
    $$values ('activate', false, false, true), ('call', false, true, true), ('cancel_request', false, true, true), ('confirm_identity', false, false, true),
        ('create_account', false, false, true), ('drop_account', false, false, true), ('enqueue', false, true, true), ('health', true, true, true),
        ('limit_role', false, false, true), ('mark_due', false, true, true), ('pending', true, true, true), ('publish', false, true, true),
        ('reduce_stock', false, false, true), ('retry', false, true, true), ('set_credentials', false, false, true)$$,
    'reader, operator and administrator: who may call what');
select ok(not has_schema_privilege('p_stranger', 'amzmp', 'usage'), 'a stranger cannot even name our objects');
select ok(not has_schema_privilege('p_admin', 'amzmp', 'create'), 'an administrator cannot make objects among ours');
select is_empty($$select c.oid::regclass, a.privilege_type from pg_class c, aclexplode(c.relacl) a
    where c.relnamespace = 'amzmp'::regnamespace and a.grantee = 0$$, 'no table, view or sequence is granted to PUBLIC');
select is_empty($$select c.oid::regclass, r, x from pg_class c, unnest(array['p_reader', 'p_operator', 'p_admin', 'p_buyer']) r,
      unnest(array['insert', 'update', 'delete', 'truncate', 'references', 'trigger']) x
    where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p', 'v') and has_table_privilege(r, c.oid, x)
      and c.relname not in ('setting_definition', 'issue_meaning') and c.relname not like '%\_input'$$, 'nobody writes our tables');
select is_empty($$select c.oid::regclass from pg_class c, unnest(array['p_reader', 'p_operator', 'p_admin', 'p_buyer']) r
    where c.relname in ('answer', 'parked_order', 'order_buyer', 'identity', 'account_access') and c.relnamespace = 'amzmp'::regnamespace
      and has_table_privilege(r, c.oid, 'select')$$, 'nobody reads sealed answers, buyers and what guards access');
select is_empty($$select c.oid::regclass from pg_class c where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
    and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'account_id')
    and has_table_privilege('p_reader', c.oid, 'select') and not c.relrowsecurity$$, 'rows of accounts that can be read have row security');
select is_empty($$select c.oid::regclass from pg_class c where c.relnamespace = 'amzmp'::regnamespace and c.relkind = 'v'
    and not coalesce('security_invoker=true' = any (c.reloptions) or 'security_invoker=on' = any (c.reloptions), false)
    and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname in ('account_id', 'account', 'channel'))
    and has_table_privilege('p_reader', c.oid, 'select')$$, 'views read with the rights of who asks');

-- Two accounts.
select amzmp.create_application('app', 'amzn1.application-oa2-client.demo') \g /dev/null
select amzmp.create_account('mine', 'EU', 'app', 'A1DEMOSELLER', 'mock', :'simulator') as mine \gset
select amzmp.create_account('other', 'EU', 'app', 'A2DEMOSELLER', 'mock', :'simulator') as other \gset
select amzmp.create_channel('mine_DE', 'mine', 'DE'), amzmp.create_channel('other_DE', 'other', 'DE') \g /dev/null
select amzmp.set('mine', 'buffer_stock', '1'), amzmp.set('other', 'buffer_stock', '2') \g /dev/null
insert into amzmp.penalty (account_id, kind, subject, until, gives_up_at) values (:mine, 'listing', 'A', now(), now()), (:other, 'listing', 'B', now(), now());
select amzmp.limit_role('p_limited', array['mine']), amzmp.limit_role('p_group', array['other']) \g /dev/null

-- Every table and view with account_id or an account's name, as a role sees it.
create function pg_temp.foreign_rows(role_name name, hidden_id bigint, hidden_name text) returns setof text language plpgsql as $$
declare
    t record;
    found bigint;
begin
    for t in
        select c.oid::regclass as name, a.attname, a.atttypid = 'text'::regtype as by_name
          from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname in ('account_id', 'account')
         where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p', 'v') and has_table_privilege(role_name, c.oid, 'select')
    loop
        execute format('set local role %I', role_name);
        execute format('select count(*) from %s where %I::text = %L', t.name, t.attname, case when t.by_name then hidden_name else hidden_id::text end) into found;
        reset role;
        if found > 0 then
            return next t.name || ' ' || t.attname;
        end if;
    end loop;
end $$;
select is_empty(format($$select * from pg_temp.foreign_rows('p_limited', %L, 'other')$$, :'other'), 'a limited role sees nothing of another account, in no table and no view');
select is_empty(format($$select * from pg_temp.foreign_rows('p_member', %L, 'mine')$$, :'mine'), 'nor does a member of a limited role');
select cmp_ok((select count(*) from pg_temp.foreign_rows('p_operator', :'other', 'other')), '>', 3::bigint, 'a role without limits sees them');
set local role p_limited;
select is((select count(*) from amzmp.penalty), 1::bigint, 'its own rows it sees');
select is((select count(*) from amzmp.account), 1::bigint, 'its own account too');
reset role;

-- The same through every function that takes an account or channel by name: refused before anything else is looked at.
create function pg_temp.allowed(role_name name, target text) returns setof text language plpgsql as $$
declare
    p record;
    state text;
begin
    for p in
        select x.oid, x.proname, x.oid::regprocedure::text as signature, x.proargnames, x.pronargs, x.proargtypes
          from pg_proc x
         where x.pronamespace = 'amzmp'::regnamespace and x.prosrc = 'amzmp_entry' and has_function_privilege(role_name, x.oid, 'execute')
           and x.proargnames && array['account', 'channel', 'account_or_channel']
    loop
        begin
            execute format('set local role %I', role_name);
            execute format('select amzmp.%I(%s)', p.proname, (
                select string_agg(case when n in ('account', 'channel', 'account_or_channel') and ty = 'text'::regtype
                           then quote_literal(target) else 'null' end || '::' || ty::regtype, ', ' order by i)
                  from unnest(p.proargnames[1:p.pronargs], p.proargtypes::oid[]) with ordinality as a (n, ty, i)));
            state := '00000';
        exception when others then
            state := sqlstate;
        end;
        reset role;
        if state <> '42501' then
            return next p.signature || ' ' || state;
        end if;
    end loop;
end $$;
select is_empty($$select * from pg_temp.allowed('p_limited', 'other') x
    where x not like '%regprocedure%' and x not like '%regclass%'$$, 'no function works on another account than the role''s');
select isnt_empty($$select * from pg_temp.allowed('p_limited', 'mine')$$, 'on its own they are not refused');
set local role p_limited;
select throws_ok($$select amzmp.create_account('x', 'EU', 'app')$$, '42501', null, 'an operator cannot make accounts');
select throws_ok($$select amzmp.limit_role('p_limited', '{}')$$, '42501', null, 'nor lift the limit');
reset role;
update amzmp.account set active = true, state = 'valid' where account_id in (:mine, :other);
update amzmp.account_flow set enabled = true where flow = 'get_orders';
set local role p_limited;
select is(amzmp.mark_due('get_orders'), 1::bigint, 'it marks a flow due for its own accounts');
reset role;
select results_eq($$select t.account_id from amzmp.task t where t.kind = 'flow'$$, array[:mine::bigint], 'and for no other');
select is_empty($$select from amzmp.flow_state where marked_at is not null$$, 'that is no pulse of the clock');
update amzmp.account set active = false where account_id in (:mine, :other);
set local role p_limited;
select throws_ok($$select amzmp.hold('nowhere', 'x')$$, 'AZ201', null, 'a name that does not exist is told');
select is_empty($$select * from amzmp.health() h where h::text ~ '\yother\y'$$, 'health() tells nothing of another account');
select isnt_empty($$select * from amzmp.health() h where h.check_name = 'account mine'$$, 'but of its own');
create function pg_temp.told(statement text) returns text language plpgsql as $$
declare
    detail text;
begin
    execute statement;
exception when others then
    get stacked diagnostics detail = pg_exception_detail;
    return detail;
end $$;
select is(pg_temp.told($$select amzmp.hold('nowhere', 'x')$$), 'There are: "mine", "mine_DE".', 'nor do the names in a hint');
reset role;

-- What belongs to no account of theirs.
select amzmp.create_application('somebody', 'amzn1.application-oa2-client.somebody') \g /dev/null
insert into amzmp.change (xid, part, watched_id, relation, keys, application, at) values (pg_current_xact_id(), 1, 1, 1, '{K}', '', now());
set local role p_limited;
select is((select array_agg(x.name order by x.name) from amzmp.application x), array['app'], 'applications of no account of theirs are hidden');
select is_empty($$select from amzmp.change$$, 'and captured keys');
reset role;
delete from amzmp.change;

-- An administrator who is limited: nothing that concerns all accounts, its own limit least of all.
create role p_limited_admin login in role amzmp_admin;
select amzmp.limit_role('p_limited_admin', array['mine', 'mine']) \g /dev/null
set local role p_limited_admin;
select throws_ok(s.statement, '42501', 'role "p_limited_admin" is limited to some accounts, and ' || s.verb || ' is about all', s.verb)
from (
    values ('limit_role', $$select amzmp.limit_role('p_limited_admin', '{}')$$),
        ('create_account', $$select amzmp.create_account('x', 'EU', 'app')$$),
        ('update_application', $$select amzmp.update_application('app', client_id => 'amzn1.application-oa2-client.x')$$),
        ('set_frequency', $$select amzmp.set_frequency('get_orders', '1 * * * *')$$),
        ('rotate_key', $$select amzmp.rotate_key()$$),
        ('confirm_identity', $$select amzmp.confirm_identity()$$)
) as s (verb, statement);
select throws_ok($$select amzmp.set_credentials('mine', client_secret => 'amzn1.oa2-cs.v1.other')$$, '42501', null, 'nor a shared secret');
select lives_ok($$select amzmp.set('mine', 'buffer_stock', '3')$$, 'its own account it administers');
reset role;
-- Rows that hold for all accounts are no matter of an admin of some.
insert into amzmp.issue_meaning (code, error, class, meaning) values ('P1', 'P1', 'order', 'somebody''s');
set local role p_limited_admin;
select throws_ok($$insert into amzmp.issue_meaning (code, error, class, meaning) values ('P2', 'P2', 'order', 'its own')$$, '42501', null,
    'an admin of some accounts does not say what errors mean in all');
select is_empty($$delete from amzmp.issue_meaning where code = 'P1' returning code$$, 'nor takes away what others said');
select throws_ok($$insert into amzmp.setting_definition (name, scope, type, label) values ('p_x', 'account', 'text', 'x')$$, '42501', null,
    'nor defines settings');
reset role;
set local role p_admin;
select lives_ok($$insert into amzmp.issue_meaning (code, error, class, meaning) values ('P2', 'P2', 'order', 'everybody''s')$$, 'an admin of all does');
reset role;
select lives_ok($$select amzmp.limit_role('p_limited', '{}')$$, 'an administrator can');
select cmp_ok((select count(*) from pg_temp.foreign_rows('p_limited', :'other', 'other')), '>', 3::bigint, 'and then it sees all');

select * from finish();
rollback;
