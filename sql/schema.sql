-- schema.sql
-- Roles, the schema itself, and the few types that several nouns share.

-- Before anything else, and in ASCII: a database of another encoding reads this script as something else.
do $$
begin
    if pg_catalog.current_setting('server_encoding') operator(pg_catalog.<>) 'UTF8' then
        raise exception 'amzmp needs a database with encoding UTF8, this one has %', pg_catalog.current_setting('server_encoding')
            using errcode = 'feature_not_supported',
                  detail = 'Names, addresses and product texts come from Amazon in every script of the world.',
                  hint = 'Dump this database and restore it into one made by CREATE DATABASE ... TEMPLATE template0 ENCODING ''UTF8''.';
    end if;
end
$$;

-- Each role is made only if it is missing; one that exists with rights that would undo our checks is refused.
do $$
declare
    role_name text;
    found pg_catalog.pg_roles;
begin
    foreach role_name in array array['amzmp_owner', 'amzmp_admin', 'amzmp_operator', 'amzmp_reader', 'amzmp_buyer_data']
    loop
        select r.* into found from pg_catalog.pg_roles r where r.rolname = role_name;
        if found.rolname is null then
            execute pg_catalog.format('create role %I nologin', role_name);
        elsif found.rolcanlogin or found.rolsuper or found.rolcreaterole or found.rolbypassrls then
            raise exception 'role "%" exists with LOGIN, SUPERUSER, CREATEROLE or BYPASSRLS', role_name
                using errcode = 'invalid_role_specification',
                      hint = pg_catalog.format('Take these away (ALTER ROLE %I NOLOGIN NOSUPERUSER NOCREATEROLE NOBYPASSRLS) or rename that role, then run CREATE EXTENSION again.', role_name);
        end if;
    end loop;
end
$$;

grant amzmp_reader to amzmp_operator;
grant amzmp_operator to amzmp_admin;
grant usage on schema amzmp to amzmp_owner, amzmp_reader, amzmp_operator, amzmp_admin, amzmp_buyer_data;
grant create on schema amzmp to amzmp_owner;

-- The role that called the public function in progress (see entry.c), else the current user.
create function amzmp._caller() returns name
    language c stable parallel restricted set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_caller';

-- Raised by inner functions: one place that knows how our errors look. detail and hint may be NULL.
create function amzmp._fail(state text, message text, detail text default null, hint text default null) returns void
    language c volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_fail';

-- Has somebody said BEGIN? Then a procedure cannot commit.
create function amzmp._in_transaction_block() returns boolean
    language c volatile parallel restricted set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_in_transaction_block';

-- One line in the server log that a ROLLBACK cannot erase: who opened which buyers' data.
create function amzmp._log_access(message text) returns void
    language c volatile parallel unsafe strict set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_log_access';

-- The transaction's commit wakes the sender.
create function amzmp._wake() returns void
    language c volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_wake';
