-- catalog.sql
-- What must hold for every object of ours, also for those that are yet to come: read from the catalogue.

begin;
select no_plan();

create temporary view our_function as
    select p.*, p.oid::regprocedure::text as signature, l.lanname, p.proname like '\_%' as inner_one
      from pg_proc p join pg_language l on l.oid = p.prolang
     where p.pronamespace = 'amzmp'::regnamespace;
create temporary view our_table as
    select c.*, c.oid::regclass::text as name
      from pg_class c where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition;
-- Tables that belong to an account, and the partitions that hold their rows.
create temporary view account_table as
    select c.*, c.oid::regclass::text as name
      from pg_class c
     where c.relnamespace = 'amzmp'::regnamespace and c.relkind = 'r'
       and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'account_id' and not a.attisdropped)
       and c.relname <> 'name';

-- Functions.
select is_empty($$select signature from our_function where lanname in ('sql', 'plpgsql') and prokind = 'f'
    and not coalesce(array_to_string(proconfig, ','), '') ~ 'search_path="?pg_catalog, ' and provolatile <> 'i'
    and not (lanname = 'sql' and prosqlbody is not null)$$,
    'every SQL function has a search_path that begins with pg_catalog, or was bound when it was made');
select is_empty($$select signature, proconfig from our_function f, unnest(f.proconfig) c
    where c like 'search_path=%' and c !~ 'pg_temp"?$'$$, 'pg_temp is last in each');
select is_empty($$select signature from our_function where prosecdef and proname not in ('_may_see', 'normalize_gtin')$$,
    'no function but the row policies'' own, and one that only reckons, is SECURITY DEFINER');
select is_empty($$select signature from our_function where proowner <> 'amzmp_owner'::regrole$$, 'all belong to amzmp_owner');
select is_empty($$select signature from our_function where proparallel = 's' and provolatile = 'v' and prokind = 'f'$$,
    'no volatile function says that it is parallel safe');
select is_empty($$select signature from our_function f where not inner_one and lanname = 'c' and probin is not null
    and prosrc = 'amzmp_entry' and not exists (select from our_function i where i.proname = '_' || f.proname
        and i.proargtypes = f.proargtypes and i.prorettype = f.prorettype and i.proretset = f.proretset)$$,
    'every checked door leads to an inner function of its kind');
select is_empty($$select signature from our_function f where inner_one and lanname = 'internal'$$, 'no function is an alias of the server''s');

-- Comments.
select is_empty($$select signature from our_function f where not inner_one and obj_description(f.oid, 'pg_proc') is null$$,
    'every public function has a comment');
select is_empty($$select c.oid::regclass from pg_class c where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p', 'v')
    and c.relname not like '\_%' and obj_description(c.oid, 'pg_class') is null$$, 'every table and view has a comment');
select is_empty($$select c.oid::regclass || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
    where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition and c.relname not like '\_%'
      and a.attnum > 0 and not a.attisdropped and col_description(c.oid, a.attnum) is null$$, 'every column of theirs has a comment');
select is_empty($$select proname, obj_description(oid, 'pg_proc') from our_function where obj_description(oid, 'pg_proc') ~ '^\s|\s$|^$'$$,
    'no comment is empty or begins with blanks');

-- Tables.
select is_empty($$select name from our_table t where relkind = 'r' and relreplident = 'd'
    and not exists (select from pg_index i where i.indrelid = t.oid and i.indisprimary)$$, 'every table has a primary key or another replica identity');
select is_empty($$select c.oid::regclass from pg_class c where c.relnamespace = 'amzmp'::regnamespace and c.relispartition and c.relkind = 'r'
    and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)$$, 'every partition too');
select is_empty($$select i.indexrelid::regclass from account_table t join pg_index i on i.indrelid = t.oid
    join pg_attribute a on a.attrelid = t.oid and a.attname = 'account_id'
    where (i.indisunique or i.indisprimary) and i.indkey[0] <> a.attnum and t.relname not in ('account', 'name')$$,
    'each key of a table that belongs to an account begins with account_id');
select is_empty($$select t.name, g.tgname from account_table t join pg_trigger g on g.tgrelid = t.oid where not g.tgisinternal$$,
    'no trigger sits on a table that belongs to an account');
select is_empty($$select t.name, k.conname from account_table t join pg_constraint k on k.conrelid = t.oid and k.contype = 'f'
    join pg_class f on f.oid = k.confrelid
    join pg_attribute a on a.attrelid = t.oid and a.attname = 'account_id'
    where exists (select from account_table x where x.oid = f.oid) and not a.attnum = any (k.conkey)$$,
    'no foreign key crosses accounts');
select is_empty($$select c.oid::regclass, a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
    where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p', 'v') and a.attnum > 0 and a.atttypid in ('float4'::regtype, 'float8'::regtype, 'money'::regtype)
      and c.relname <> 'usage'$$, 'money and quantities are no floats');
select is_empty($$select c.oid::regclass, a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
    where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p') and a.atttypid in ('timestamp'::regtype, 'time'::regtype)$$,
    'times have a zone');
select is_empty($$select c.oid::regclass, a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
    where c.relnamespace = 'amzmp'::regnamespace and a.attidentity <> ''$$, 'no identity columns');
select is_empty($$select c.oid::regclass from pg_class c where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p', 'v', 'S')
    and c.relowner <> 'amzmp_owner'::regrole$$, 'tables, views and sequences belong to amzmp_owner');
select is_empty($$select c.oid::regclass from pg_class c where c.relnamespace = 'amzmp'::regnamespace and c.relpersistence <> 'p'$$,
    'every table survives a crash');

-- What a dump holds: tables that are empty after CREATE EXTENSION are the user's.
select is_empty($$select t.name from our_table t, pg_extension e where e.extname = 'amzmp' and t.relkind = 'r'
    and not t.oid = any (e.extconfig) and (xpath('count(/*/*)', query_to_xml('select 1 from ' || t.name || ' limit 1', false, false, '')))[1]::text = '0'$$,
    'every table that the script leaves empty is dumped');
select is_empty($$select s.oid::regclass from pg_class s, pg_extension e where e.extname = 'amzmp' and s.relkind = 'S'
    and s.relnamespace = 'amzmp'::regnamespace and not s.oid = any (e.extconfig)$$, 'so is every sequence');

-- Publications: a shop that publishes all its tables must not stop us.
create publication everything for all tables;
select lives_ok($$update amzmp.flow_run set error = null where false$$, 'a publication FOR ALL TABLES does not stop updates');
select is_empty($$select t.name from our_table t join pg_publication_tables p on p.schemaname = 'amzmp' and p.tablename = t.relname
    where t.relkind = 'r' and t.relreplident = 'n'$$, 'no published table is without an identity');

select * from finish();
rollback;
