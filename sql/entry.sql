-- entry.sql
-- Public verbs and the checked door they go through (C: entry.c).

-- Make the public twin of an inner function: amzmp._publish(…) gets amzmp.publish(…) with the same arguments, defaults
-- and result. granted_to is one of our roles, or 'public' for functions that decide themselves by amzmp._caller().
create function amzmp._expose(inner_function regprocedure, granted_to text, description text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    p pg_catalog.pg_proc;
    public_oid oid;
begin
    select x.* into strict p from pg_catalog.pg_proc x where x.oid = inner_function;
    execute pg_catalog.format('create function amzmp.%I(%s) returns %s language c volatile parallel unsafe as %L, %L',
        pg_catalog.substr(p.proname, 2), pg_catalog.pg_get_function_arguments(p.oid),
        pg_catalog.pg_get_function_result(p.oid), 'MODULE_PATHNAME', 'amzmp_entry');
    select x.oid into strict public_oid from pg_catalog.pg_proc x
     where x.pronamespace = p.pronamespace and x.proname = pg_catalog.substr(p.proname, 2)
       and x.proargtypes = p.proargtypes;
    execute pg_catalog.format('revoke all on function %s from public', public_oid::regprocedure);
    execute pg_catalog.format('grant execute on function %s to %s', public_oid::regprocedure, granted_to);
    execute pg_catalog.format('comment on function %s is %L', public_oid::regprocedure, description);
end
$$;
