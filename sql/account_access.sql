-- account_access.sql
-- Which role sees which accounts. All do, until limit_role() says otherwise; checked functions and row security ask here.

create table amzmp.account_access (
    account_id bigint not null references amzmp.account,
    role_name name not null,
    primary key (account_id, role_name)
);

comment on table amzmp.account_access is 'Roles limited to some accounts; a role without a row here sees all.';
comment on column amzmp.account_access.account_id is 'An account that the role sees.';
comment on column amzmp.account_access.role_name is 'The role that is limited.';

-- Inner: may a role see an account? SECURITY DEFINER because row policies call it as the reader.
create function amzmp._may_see(account_id bigint, role_name name) returns boolean
    language sql stable parallel safe security definer set search_path = pg_catalog, pg_temp
    begin atomic
    select coalesce((select r.rolsuper from pg_roles r where r.rolname = _may_see.role_name), false)
        or not exists (select from amzmp.account_access x, pg_roles r
                        where r.rolname = x.role_name and pg_has_role(_may_see.role_name, r.oid, 'usage'))
        or exists (select from amzmp.account_access x, pg_roles r
                    where x.account_id = _may_see.account_id and r.rolname = x.role_name
                      and pg_has_role(_may_see.role_name, r.oid, 'usage'));
    end;

create function amzmp._check_access(name text) returns void
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
begin
    if exists (select from amzmp.name n where n.name = _check_access.name
                  and not amzmp._may_see(n.account_id, amzmp._caller())) then
        perform amzmp._fail('42501', format('role "%s" is limited to other accounts than that of "%s"', amzmp._caller(), name),
            null, format('A member of amzmp_admin can widen it: select amzmp.limit_role(%L, array[…]);', amzmp._caller()));
    end if;
end
$$;

-- Inner: what belongs to all accounts at once is not for a role that is limited to some, its own limit least of all.
create function amzmp._require_unlimited(verb text) returns void
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
begin
    -- no account has number 0, so only a role without any limit sees it
    if not amzmp._may_see(0, amzmp._caller()) then
        perform amzmp._fail('42501', format('role "%s" is limited to some accounts, and %s is about all', amzmp._caller(), verb),
            null, 'Ask a member of amzmp_admin that is not limited.');
    end if;
end
$$;

create function amzmp._limit_role(role_name name, accounts text[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    perform amzmp._require_unlimited('limit_role');
    if not exists (select from pg_roles r where r.rolname = _limit_role.role_name) then
        perform amzmp._fail('42704', format('role "%s" does not exist', role_name));
    end if;
    delete from amzmp.account_access x where x.role_name = _limit_role.role_name;
    insert into amzmp.account_access (account_id, role_name)
    select distinct (amzmp._account(name)).account_id, _limit_role.role_name from unnest(accounts) name;
end
$$;
select amzmp._expose('amzmp._limit_role(name, text[])', 'amzmp_admin',
    'Limit a role (and its members) to some accounts, in functions and views. An empty array lifts the limit. What concerns all accounts at once, this function too, is refused to a role that is limited.');
