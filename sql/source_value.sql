/*
 * source_value.sql
 *	  Values of the shop that are no column of amzmp.product: costs, margins, dates, conditions.
 *
 * A value is an SQL expression over the attached relation, with whatever tables its author may read. It becomes a part
 * of the statement that reads the source, so it is evaluated by the user runner, with the rights of the role that
 * attached the source, and only the result arrives here (product.extra). Rules use it by its name.
 */
create table amzmp.source_value (
    account_id bigint not null,
    source_id bigint not null,
    name text not null,
    expression text not null,
    primary key (account_id, source_id, name),
    constraint source_value_name_check check (name ~ '^[a-z_][a-z0-9_]{0,62}$')
);

comment on table amzmp.source_value is 'Values that are read with the rows of a source. Written by attach_value.';
comment on column amzmp.source_value.account_id is 'The account.';
comment on column amzmp.source_value.source_id is 'The source.';
comment on column amzmp.source_value.name is 'Name of the value, by which rules use it.';
comment on column amzmp.source_value.expression is 'SQL over the relation''s row, checked when it was attached.';

-- Runs as its caller, like attach_source: what is wrong with the expression is found with the caller's rights.
create function amzmp.attach_value(account_or_channel text, name text, expression text, source regclass default null)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    attached record;
    checked text := null;
    type_name text;
    columns text[];
    watched record;
begin
    select s.* into strict attached from amzmp.find_source(account_or_channel, source::text) as s;
    if expression is not null then
        checked := (amzmp.source_field(attached.attached_relation::regclass, 'value', expression)).expression;
        type_name := (amzmp.source_field(attached.attached_relation::regclass, 'value', expression)).type_name;
        checked := case
            when type_name = 'boolean' then format(E'((%s)::boolean)::text', checked)
            when type_name like '%[]' then format(E'to_jsonb((%s)::%s)::text', checked, type_name)
            else checked
        end;
        if name = any ('{attributes,images}') and type_name not in ('json', 'jsonb') and type_name not like '%[]' then
            perform amzmp._fail('AZ202', format('%s => %L is of type %s', name, expression, type_name), 'JSON is needed.',
                'Build it, for example attributes => ''jsonb_build_object(''''item_name'''', title)'', images => ''array[image]''.');
        end if;
        columns := amzmp.query_columns(format('select %s from %s', checked, attached.attached_relation));
    end if;
    perform amzmp.register_value(attached.source_id, name, checked);
    for watched in
        select w.* from amzmp.watched_definition(attached.attached_relation) as w where checked is not null
    loop
        perform amzmp.register_watch(attached.source_id, attached.attached_relation, watched.key_column, null,
            array(select distinct c from unnest(watched.columns || columns) as c));
    end loop;
    if (select c.relkind from pg_catalog.pg_class as c where c.oid = attached.attached_relation::regclass) in ('r', 'p') then
        perform amzmp.capture_triggers(attached.attached_relation::regclass);
    end if;
end
$$;

revoke all on function amzmp.attach_value(text, text, text, regclass) from public;
grant execute on function amzmp.attach_value(text, text, text, regclass) to amzmp_operator;
comment on function amzmp.attach_value(text, text, text, regclass) is
    'Read one more value with the rows of an attached source, an SQL expression over a row of it that rules use by its name; null takes it away. Tables that the expression reads besides are told by watch(). The names list_if, relist_if and stop_if are conditions; attributes, product_type, images, parent_sku and variation_theme are content; products with the same stock_group share their stock.';

create function amzmp._register_value(source_id bigint, name text, expression text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    s constant amzmp.source := amzmp._check_source_owner(_register_value.source_id);
begin
    if not coalesce(_register_value.name ~ '^[a-z_][a-z0-9_]{0,62}$', false)
        or _register_value.name in ('price', 'quantity', 'lead_time', 'offer_price')
    then
        perform amzmp._fail('AZ202', format('a value cannot be called %L', name), null,
            'A name has small letters, digits and underscores, begins with a letter, and is none that a product has by itself.');
    end if;
    delete from amzmp.source_value as v
    where (v.account_id, v.source_id, v.name) = (s.account_id, s.source_id, _register_value.name);
    if expression is not null then
        insert into amzmp.source_value (account_id, source_id, name, expression)
        values (s.account_id, s.source_id, _register_value.name, _register_value.expression);
    end if;
    update amzmp.source as x
    set rescan_due = now(), rescan_requested_at = clock_timestamp(), rescan_reason = 'value', rescan_force = true, retry_at = null
    where (x.account_id, x.source_id) = (s.account_id, s.source_id);
    perform amzmp._wake();
end
$$;

select amzmp._expose('amzmp._register_value(bigint, text, text)', 'amzmp_operator',
    'Writes down a value of a source. Used by attach_value, which checks it first.');
