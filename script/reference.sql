-- reference.sql
-- The text of doc/reference.md, for script/reference.sh. Reads the catalogue only. Everything is sorted by name in the
-- C locale, so that the text depends on nothing but the version.
set search_path = pg_catalog, pg_temp;

-- In a table of Markdown, a | ends the cell.
create function pg_temp.cell(words text) returns text
    language sql immutable
    return replace(coalesce(words, ''), '|', '\|');

-- The catalogue's spelling of arguments without what a reader knows: casts of literals, capital DEFAULT.
create function pg_temp.arguments(function oid) returns text
    language sql stable
    return regexp_replace(regexp_replace(replace(pg_get_function_arguments(function), ' DEFAULT ', ' default '),
        '(''[^'']*''|NULL|null)::(character varying|timestamp with time zone|double precision|[a-z_]+(\[\])?)', '\1', 'g'), 'NULL', 'null', 'g');

-- Who may execute it: roles of ours, or everybody.
create function pg_temp.callers(function oid) returns text
    language sql stable
    return (
        select coalesce(string_agg(case a.grantee when 0 then 'everybody' else '`' || a.grantee::regrole || '`' end, ', '
                                   order by a.grantee::regrole::text collate "C"), 'superusers only')
          from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
         where p.oid = function and a.privilege_type = 'EXECUTE' and a.grantee <> p.proowner
    );

-- Public functions; machinery is what only amzmp's own processes and functions call.
create view pg_temp.function as
select p.oid, p.proname::text as name, p.prokind, obj_description(p.oid, 'pg_proc') as words,
       obj_description(p.oid, 'pg_proc') ~ '(^(Inner|User runners):|Used by |For the user runner |For tests\.)' as machinery
  from pg_proc p
 where p.pronamespace = 'amzmp'::regnamespace and p.proname !~ '^_';

-- Tables, views and composite types, without partitions.
create view pg_temp.relation as
select c.oid, c.relname::text as name, c.relkind,
       case c.relkind when 'c' then obj_description(c.reltype, 'pg_type') else obj_description(c.oid, 'pg_class') end as words,
       coalesce(obj_description(c.oid, 'pg_class') ~ '^Inner:', false) as machinery
  from pg_class c
 where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition;

create function pg_temp.relation_text(relation oid) returns text
    language sql stable
    return (
        select E'\n### ' || r.name || E'\n\n' || coalesce(r.words, '') || E'\n\n| column | type | |\n|---|---|---|\n' || string_agg(
                   format('| `%s` | %s | %s |', a.attname, format_type(a.atttypid, a.atttypmod),
                          pg_temp.cell(col_description(r.oid, a.attnum))), E'\n' order by a.attnum)
          from pg_temp.relation r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
         where r.oid = relation
         group by r.oid, r.name, r.words
    );

select $$# Reference

Made by `script/reference.sh` from the comments in the catalogue; do not edit. In psql, `select * from amzmp.help('word');` searches the same.

[Roles](#roles) · [Functions](#functions) · [Views](#views) · [Tables](#tables) · [Settings of accounts and channels](#settings-of-accounts-and-channels) ·
[Parameters of rules](#parameters-of-rules) · [Settings of the server](#settings-of-the-server) · [Flows](#flows) · [Operations](#operations) · [Marketplaces](#marketplaces) · [Errors](#errors)

## Roles

| role | may |
|---|---|
| `amzmp_reader` | read the views and tables, without buyers' data and secrets |
| `amzmp_operator` | run and hold things: attach sources, publish, retry, release, confirm shipments, switch flows; includes `amzmp_reader` |
| `amzmp_admin` | connect accounts, change settings, register functions of the shop; includes `amzmp_operator` |
| `amzmp_buyer_data` | open buyers' data |
| `amzmp_owner` | own everything; granted to nobody |

Each can be limited to some accounts with `amzmp.limit_role`.

## Functions

All are in the schema `amzmp`. An argument named `account`, `channel` or `account_or_channel` takes the name of one.$$;

select E'\n### ' || f.name || E'\n\n```text\namzmp.' || f.name || '(' || pg_temp.arguments(f.oid) || ')'
       || case f.prokind when 'p' then E'   -- a procedure: CALL' else E'\n    returns ' || replace(pg_get_function_result(f.oid), 'TABLE(', 'table(') end
       || E'\n```\n\n' || coalesce(f.words, '') || E'\n\nMay call it: ' || pg_temp.callers(f.oid) || '.'
  from pg_temp.function f
 where not coalesce(f.machinery, false)
 order by f.name collate "C", pg_temp.arguments(f.oid) collate "C";

select E'\n### Called by amzmp itself\n\nThese check who calls, or run with no other rights than their caller''s.\n\n| function | what it does |\n|---|---|';
select format('| `%s(%s)` | %s |', f.name, pg_temp.cell(pg_get_function_identity_arguments(f.oid)), pg_temp.cell(f.words))
  from pg_temp.function f
 where f.machinery
 order by f.name collate "C", pg_temp.arguments(f.oid) collate "C";

select E'\n## Views';
select pg_temp.relation_text(r.oid) from pg_temp.relation r where r.relkind = 'v' order by r.name collate "C";

select E'\n## Tables\n\nRead them; write them by functions. Those that amzmp keeps for itself come last.';
select pg_temp.relation_text(r.oid) from pg_temp.relation r where r.relkind <> 'v' order by r.machinery, r.name collate "C";

select E'\n## Settings of accounts and channels\n\nSet with `amzmp.set`; rows of `amzmp.setting_definition`.\n\n| setting | of | type | default | |\n|---|---|---|---|---|';
select format('| `%s` | %s | %s%s | %s | %s |', d.name,
              case d.scope when 'both' then 'account, channel' else d.scope end, d.type,
              case when d.minimum is not null and d.maximum is not null then format(', %s to %s', d.minimum, d.maximum)
                   when d.minimum is not null then format(', from %s', d.minimum)
                   when d.maximum is not null then format(', to %s', d.maximum)
                   when d.choices is not null then ': ' || (select string_agg(c, ', ' order by n) from jsonb_array_elements_text(d.choices) with ordinality as x (c, n))
                   else '' end,
              coalesce('`' || (case when jsonb_typeof(d.default_value) = 'string' then nullif(d.default_value #>> '{}', '') else d.default_value::text end) || '`', ''),
              pg_temp.cell(d.description || case when d.required_by <> '{}' then ' Needed by ' || array_to_string(d.required_by, ', ') || '.' else '' end))
  from amzmp.setting_definition d
 where d.built_in
 order by d.name collate "C";

select E'\n## Parameters of rules\n\nFor `amzmp.set_rule`; rows of `amzmp.rule_parameter`.\n\n| parameter | decides | type | |\n|---|---|---|---|';
select format('| `%s` | %s | %s%s | %s |', r.name, r.facet, r.type, coalesce(': ' || array_to_string(r.choices, ', '), ''), pg_temp.cell(r.description))
  from amzmp.rule_parameter r
 order by r.facet collate "C", r.name collate "C";

select E'\n## Settings of the server\n\nIn postgresql.conf.\n\n| setting | default | change needs | |\n|---|---|---|---|';
select format('| `%s` | %s | %s | %s |', s.name, coalesce('`' || nullif(s.boot_val, '') || coalesce(' ' || s.unit, '') || '`', ''),
              case s.context when 'postmaster' then 'a restart' when 'sighup' then 'a reload' when 'superuser' then 'a superuser' else 'nothing' end,
              pg_temp.cell(concat_ws(' ', s.short_desc, s.extra_desc)))
  from pg_settings s
 where s.name like 'amzmp.%'
 order by s.name collate "C";

select E'\n## Flows\n\n| flow | of | every | on by default | |\n|---|---|---|---|---|';
select format('| `%s` | %s | `%s` | %s | %s |', f.flow, f.scope, f.every, case when f.on_by_default then 'yes' else 'no' end, pg_temp.cell(f.description))
  from amzmp.flow f
 order by f.flow collate "C";

select format($$
## Operations

%s operations of the Selling Partner API are rows of `amzmp.operation`, each with its method, path and usage plan: %s that read, which `amzmp.call`
performs at once, and %s that change something, which `amzmp.enqueue` queues.

```sql
select name, method, path, rate, burst from amzmp.operation where name ilike '%%orders%%';
```
$$, count(*), count(*) filter (where o.reads), count(*) filter (where not o.reads))
  from amzmp.operation o;

select E'## Marketplaces\n\n| code | region | id | currency |\n|---|---|---|---|';
select format('| %s | %s | `%s` | %s |', m.country_code, m.region, m.marketplace_id, m.currency)
  from amzmp.marketplace m
 order by m.region collate "C", m.country_code collate "C";

select E'\n## Errors\n\nBeside PostgreSQL''s own, with `42501` where a role is missing:\n\n| SQLSTATE | |\n|---|---|';
select :'error_codes';
