-- escalation.sql
-- A role that may attach sources tries to become more than it is: through a function in its view, a deferred trigger, an
-- operator, a search_path, its handler, and by calling what only our processes call. Its SQL runs in a user runner, whose
-- session user it is, so nothing is to be won. Each attempt notes as whom it ran.
\set ON_ERROR_STOP 1
\getenv simulator AMZMP_SIMULATOR_URL
set client_min_messages = warning;

create role mallory login;
create role victim login;
grant amzmp_admin to mallory, victim;
create schema shop authorization mallory;
select amzmp.create_key() as key where amzmp._key_usable() is not null \g /dev/null
select amzmp.create_application('app', 'amzn1.application-oa2-client.demo') \g /dev/null
select amzmp.create_account('shop', 'EU', 'app', 'A1DEMOSELLER', 'mock', :'simulator', rate_scale => 0) \g /dev/null
select amzmp.set_credentials('shop', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo') \g /dev/null
select amzmp.activate('shop') \g /dev/null

set session authorization mallory;
create table shop.seen (at text, session_role name, role name, super text, got_more boolean);
-- Whatever it runs as, it tries to make itself a superuser and to open what is sealed.
create function shop.try(place text) returns void language plpgsql as $$
declare
    more boolean := false;
begin
    begin
        execute 'alter role mallory superuser';
        more := true;
    exception when others then null;
    end;
    begin
        execute 'set role amzmp_owner';
        more := true;
    exception when others then null;
    end;
    begin
        perform amzmp._open(a.refresh_token, 'refresh_token', 'account:' || a.account_id) from amzmp.account a;
        more := true;
    exception when others then null;
    end;
    insert into shop.seen values (place, session_user, current_user, current_setting('is_superuser'), more);
end $$;
create function shop.price(n integer) returns numeric language plpgsql as $$begin perform shop.try('view'); return n; end$$;
create function shop.add(a integer, b integer) returns integer language plpgsql as $$begin perform shop.try('operator'); return a; end$$;
create operator shop.+ (leftarg = integer, rightarg = integer, function = shop.add);
create function shop.lower(a text) returns text language plpgsql as $$begin perform shop.try('search_path'); return a; end$$;
create function shop.fire() returns trigger language plpgsql as $$begin perform shop.try(tg_argv[0]); return null; end$$;
create table shop.product (sku text primary key, stock integer);
create table shop.deferred (i integer);
create constraint trigger late after insert on shop.deferred deferrable initially deferred for each row execute function shop.fire('deferred trigger');
create function shop.later(n integer) returns integer language plpgsql as $$begin insert into shop.deferred values (n); return n; end$$;
create view shop.offer as
    select p.sku, shop.price(p.stock) as price, shop.later(p.stock operator(shop.+) 1) as stock from shop.product p;
insert into shop.product values ('A', 5), ('B', 6);
alter role mallory set search_path = shop, pg_catalog;
create function shop.handle(account_id bigint, request_id bigint, status integer, answer jsonb) returns void language plpgsql as
    $$begin perform shop.try('handler'); end$$;

select amzmp.attach_source('shop', 'shop.offer') \g /dev/null
select amzmp.enqueue('shop', 'getMarketplaceParticipations', handler => 'shop.handle') \g /dev/null
call amzmp.wait('60 s');
reset session authorization;

select no_plan();
select bag_hasnt($$select role from shop.seen$$, $$values ('postgres'::name), ('amzmp_owner')$$, 'nothing of mallory''s ran as somebody else');
select is_empty($$select * from shop.seen where session_role <> 'mallory' or role <> 'mallory' or super <> 'off'$$, 'every attempt ran as mallory, in mallory''s session');
select is_empty($$select * from shop.seen where got_more$$, 'and won nothing');
select set_has($$select at from shop.seen$$, $$values ('view'), ('operator'), ('deferred trigger'), ('handler')$$, 'each of them was really tried');
select is((select rolsuper from pg_roles where rolname = 'mallory'), false, 'mallory is no superuser');
select cmp_ok((select count(*) from amzmp.product), '>', 0::bigint, 'and the source is read all the same');

-- Direct calls.
set role mallory;
create temporary table _public_inner (name text);
insert into _public_inner values ('_fail'), ('_in_transaction_block'), ('_may_use_cron'), ('_check_clock'), ('_clock_database'), ('_may_see'), ('_usage'), ('_sku_facts'), ('_unsettled_figures');
select is_empty($$select p.oid::regprocedure from pg_proc p where p.pronamespace = 'amzmp'::regnamespace and p.proname like '\_%'
    and has_function_privilege(p.oid, 'execute') and p.proname not in (select name from _public_inner)$$, 'no inner function can be called');
select throws_ok($$select amzmp._open('\x00', 'refresh_token', 'account:1')$$, '42501', null, 'nothing can be opened');
select throws_ok($$select amzmp._claim(1, 'getOrder', 1)$$, '42501', null, 'no request claimed');
select throws_ok($$select amzmp._next_own_task('')$$, '42501', null, 'no task of ours taken');
select throws_ok($$select amzmp._expose('amzmp._health()', 'public', '')$$, '42501', null, 'no door made');
select throws_ok($$create function amzmp.mine() returns void language sql as 'select'$$, '42501', null, 'nothing added to our schema');
select throws_ok($$create function shop.door() returns void language c as 'amzmp', 'amzmp_entry'$$, '42501', null, 'our C functions cannot be given another name');
select throws_ok($$update amzmp.account set active = false$$, '42501', null, 'our tables cannot be written');
select throws_ok($$create trigger t after insert on amzmp.request for each row execute function shop.fire('x')$$, '42501', null, 'nor get a trigger');
select throws_ok($$create rule r as on insert to amzmp.request do also select 1$$, '42501', null, 'nor a rule');
select throws_ok($$table amzmp.answer$$, '42501', null, 'sealed answers cannot be read');
select throws_ok($$select * from amzmp.buyer('shop', array['x'])$$, '42501', null, 'nor buyers, without the role for it');
reset role;

-- What user runners call, called by another role: it gets what is its own, which is nothing.
select amzmp.deactivate('shop') \g /dev/null
insert into amzmp.task (account_id, kind, subject, run_as) select account_id, 'handler', '4711', 'victim' from amzmp.account;
-- not due yet, or the server's own runner would take it meanwhile
insert into amzmp.task (account_id, kind, subject, due_at) select account_id, 'flow', 'get_orders/0', now() + interval '1 hour' from amzmp.account;
-- only these two: tasks of the server's own come and go
create temporary table task_before as select * from amzmp.task where subject in ('4711', 'get_orders/0');
grant select on task_before to mallory;
set role mallory;
select is_empty($$select * from amzmp.next_task() where kind <> 'source'$$, 'mallory is given no task of another');
select lives_ok($$select amzmp.finish_task(account_id, task_id) from task_before$$, 'finishing another''s task is no error');
select lives_ok($$select amzmp.fail_task(account_id, task_id, 'P0001', 'mine now') from task_before$$, 'nor is failing it');
reset role;
select bag_eq(
    $$select account_id, task_id, due_at, attempt, last_error from amzmp.task where task_id in (select task_id from task_before)$$,
    $$select account_id, task_id, due_at, attempt, last_error from task_before$$, 'and changes nothing');

-- Who may own a source: neither a superuser nor one that cannot log in, and nobody in another's name.
select throws_ok($$select amzmp.attach_source('shop', 'shop.product', price => null, run_as => 'postgres')$$, null, null, 'a superuser''s session is not for a source');
set session authorization mallory;
select throws_ok($$select amzmp.attach_source('shop', 'shop.product', price => null, run_as => 'victim')$$, null, null, 'mallory cannot attach in the name of another');
reset session authorization;
select * from finish();
