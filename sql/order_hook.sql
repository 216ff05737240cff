/*
 * order_hook.sql
 *	  Registering what the shop lends us: a function or a column of stock, and the role as which it runs.
 *
 * Written by deliver_orders_to, reduce_stock and whatever else takes a function of the shop's; the table is in orders.sql.
 * Everything about it is checked when it is registered, with the rights of the role that will run it, and named in full.
 */

-- The role as which the shop's SQL will run: the caller, or the one that a superuser names.
create function amzmp._hook_role(run_as name) returns name
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
declare
    caller name := amzmp._caller();
    chosen pg_catalog.pg_roles;
begin
    select r.* into chosen from pg_catalog.pg_roles r where r.rolname = coalesce(run_as, caller);
    if not found then
        perform amzmp._fail('AZ201', format('role "%s" does not exist', run_as));
    end if;
    if chosen.rolname <> caller
        and not (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = caller) then
        perform amzmp._fail('42501', 'only a superuser may name another role', null,
            format('Call it as %I, or leave run_as out.', chosen.rolname));
    end if;
    if chosen.rolsuper then
        perform amzmp._fail('42501', format('"%s" is a superuser, and the shop''s SQL must not run as one', chosen.rolname),
            null, 'Name an ordinary role that may log in with run_as => ''role''.');
    end if;
    if not chosen.rolcanlogin then
        perform amzmp._fail('42501', format('role "%s" may not log in', chosen.rolname), null,
            format('ALTER ROLE %I LOGIN, or name another role with run_as.', chosen.rolname));
    end if;
    if not pg_catalog.has_schema_privilege(chosen.rolname, 'amzmp', 'USAGE') then
        perform amzmp._fail('42501', format('role "%s" has no access to amzmp', chosen.rolname), null,
            format('GRANT amzmp_reader TO %I.', chosen.rolname));
    end if;
    return chosen.rolname;
end
$$;

-- A function's quoted name with its schema, after checking its arguments, its result and the role's rights on it.
create function amzmp._hook_function(wanted regprocedure, arguments regtype[], result regtype, role_name name) returns text
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
declare
    p record;
begin
    select f.proargtypes::text as types, f.prorettype as type, f.prokind as kind, n.oid as schema_oid,
           format('%I.%I', n.nspname, f.proname) as name
      into p
      from pg_catalog.pg_proc f join pg_catalog.pg_namespace n on n.oid = f.pronamespace
     where f.oid = wanted;
    if not found then
        perform amzmp._fail('AZ201', 'that function does not exist');
    end if;
    if p.kind <> 'f' or p.types <> array_to_string(arguments::oid[], ' ') or result is not null and p.type <> result::oid then
        perform amzmp._fail('AZ202', format('%s is no function (%s)%s', p.name, array_to_string(arguments, ', '),
            coalesce(' returns ' || result::text, '')), null,
            'The first argument of a delivery function is the account''s id, the second Amazon''s order number; a stock function takes the SKU and the change.');
    end if;
    if not pg_catalog.has_function_privilege(role_name, wanted, 'EXECUTE')
        or not pg_catalog.has_schema_privilege(role_name, p.schema_oid, 'USAGE') then
        perform amzmp._fail('42501', format('role "%s" may not execute %s', role_name, p.name), null,
            format('GRANT USAGE on the schema and EXECUTE on the function to %I.', role_name));
    end if;
    return p.name;
end
$$;

-- A relation's quoted name with its schema, after checking its columns and the role's rights on them.
create function amzmp._hook_relation(relation regclass, key_column text, stock_column text, role_name name) returns text
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
declare
    c record;
    missing text;
begin
    select n.oid as schema_oid, format('%I.%I', n.nspname, r.relname) as name
      into c
      from pg_catalog.pg_class r join pg_catalog.pg_namespace n on n.oid = r.relnamespace
     where r.oid = relation and r.relkind in ('r', 'p', 'v', 'f');
    if not found then
        perform amzmp._fail('AZ202', 'that is no table or view');
    end if;
    if (pg_catalog.pg_relation_is_updatable(relation, true) & 4) = 0 then
        perform amzmp._fail('AZ202', format('%s cannot be updated', c.name), 'Its rows come from more than one table, or from an expression.',
            'Name the table beneath it, give the view an INSTEAD OF trigger, or use a function (sku text, change integer).');
    end if;
    select w.column_name into missing
      from (values (key_column), (stock_column)) as w (column_name)
     where not exists (select from pg_catalog.pg_attribute a
                        where a.attrelid = relation and a.attname = w.column_name and a.attnum > 0 and not a.attisdropped)
     limit 1;
    if found then
        perform amzmp._fail('AZ202', format('%s has no column %L', c.name, missing), null,
            'Name the columns with key_column and stock_column.');
    end if;
    if not pg_catalog.has_schema_privilege(role_name, c.schema_oid, 'USAGE')
        or not pg_catalog.has_column_privilege(role_name, relation, key_column, 'SELECT')
        or not pg_catalog.has_column_privilege(role_name, relation, stock_column, 'SELECT')
        or not pg_catalog.has_column_privilege(role_name, relation, stock_column, 'UPDATE') then
        perform amzmp._fail('42501', format('role "%s" may not write the stock of %s', role_name, c.name), null,
            format('GRANT SELECT (%I, %I), UPDATE (%I) ON %s TO %I.', key_column, stock_column, stock_column, c.name, role_name));
    end if;
    return c.name;
end
$$;

/*
 * Replace the function of a kind; a null function only ends the one before. Is there one now? The caller queues what waits
 * for it.
 */
create function amzmp._set_hook(account_id bigint, channel_id bigint, kind text, function regprocedure, arguments regtype[],
    result regtype, run_as name) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    role_name name;
begin
    delete from amzmp.order_hook h
     where h.account_id = _set_hook.account_id and h.channel_id = _set_hook.channel_id and h.kind = _set_hook.kind;
    if function is null then
        return false;
    end if;
    role_name := amzmp._hook_role(_set_hook.run_as);
    insert into amzmp.order_hook (account_id, channel_id, kind, run_as, function_name, registered_by)
    values (_set_hook.account_id, _set_hook.channel_id, _set_hook.kind, role_name,
        amzmp._hook_function(function, arguments, result, role_name), amzmp._caller());
    return true;
end
$$;

-- The hook, for the role that it is registered for; anybody else is refused.
create function amzmp._hook_of_caller(account_id bigint, channel_id bigint, kind text) returns amzmp.order_hook
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    hook amzmp.order_hook;
begin
    select h.* into hook from amzmp.order_hook h where h.account_id = $1 and h.channel_id = $2 and h.kind = $3;
    if hook.run_as is distinct from amzmp._caller() then
        perform amzmp._fail('42501', 'this is for the role that was registered for it', null,
            'Register with amzmp.reduce_stock or amzmp.deliver_orders_to; the work is then done by itself.');
    end if;
    return hook;
end
$$;
