/*
 * unknown_item.sql
 *	  Making products that Amazon sells and the shop does not know, by a function of the shop's.
 *
 * The other way out for an order that is held is link_item (delivery.sql). The function runs in a process of the role that
 * registered it, in the transaction that links what it made, so that each product is made once however many orders wait
 * for it. What it refuses stays unknown, with the reason in the log.
 */
create function amzmp._create_items_with(account text, function regprocedure, automatic boolean default false,
    run_as name default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
begin
    delete from amzmp.task t where t.account_id = acc and t.kind = 'item';
    if amzmp._set_hook(acc, 0, 'item', function, array['bigint', 'text', 'text', 'text']::regtype[], 'text', run_as) and automatic then
        update amzmp.order_hook h set automatic = true where h.account_id = acc and h.channel_id = 0 and h.kind = 'item';
        perform amzmp._queue_items(acc);
    end if;
end
$$;

select amzmp._expose('amzmp._create_items_with(text, regprocedure, boolean, name)', 'amzmp_admin',
    'Names the shop''s function (account_id bigint, amazon_sku text, asin text, title text) returns text that makes a product which Amazon sells and the shop does not know, and returns the shop''s SKU of it. It is called by create_item, and with automatic => true as soon as an order names such a product. A null function ends it.');

create function amzmp._create_item(account text, amazon_sku text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
begin
    if not exists (select from amzmp.order_hook h where h.account_id = acc and h.channel_id = 0 and h.kind = 'item') then
        perform amzmp._fail('AZ003', format('account %L has no function that makes products', account), null,
            format('select amzmp.create_items_with(%L, ''schema.function(bigint, text, text, text)'');', account));
    end if;
    if not exists (select from amzmp.unknown_item u where u.account_id = acc and u.sku = amazon_sku) then
        perform amzmp._fail('AZ203', format('%L is not among the unknown items', amazon_sku), null,
            'amzmp.unknown_item lists them.');
    end if;
    perform amzmp._queue_items(acc, amazon_sku);
end
$$;

select amzmp._expose('amzmp._create_item(text, text)', 'amzmp_operator',
    'Lets the shop''s function (create_items_with) make a product that the shop does not know, link it, and let the orders go on that wait for it.');

-- Queue the making of one unknown product, or of all.
create function amzmp._queue_items(account_id bigint, amazon_sku text default null) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select amzmp._add_task(h.account_id, 'item', u.sku, h.run_as, now(), '{}')
    from amzmp.order_hook h
    join amzmp.unknown_item u on u.account_id = h.account_id
    where h.account_id = _queue_items.account_id and h.channel_id = 0 and h.kind = 'item'
      and (amazon_sku is null or u.sku = amazon_sku);
$$;

-- The item, when it is still unknown; for the role of the function alone.
create function amzmp._begin_item(account_id bigint, amazon_sku text) returns table (asin text, title text)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    perform amzmp._hook_of_caller($1, 0, 'item');
    return query
        select u.asin, u.title from amzmp.unknown_item u
         where u.account_id = $1 and u.sku = $2
           and not exists (select from amzmp.sku_link l where l.account_id = $1 and l.amazon_sku = $2);
end
$$;

select amzmp._expose('amzmp._begin_item(bigint, text)', 'public',
    'Inner: the unknown item that is to be made. Refused to all but the role registered by create_items_with.');

create function amzmp._finish_item(account_id bigint, amazon_sku text, sku text, failed_state text, failed_message text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    hook amzmp.order_hook := amzmp._hook_of_caller($1, 0, 'item');
begin
    if failed_message is not null then
        perform amzmp._log(account_id, 0, 'error', 'sku', amazon_sku,
            'the product could not be made: ' || amzmp._safe_error(failed_state, failed_message));
    elsif coalesce(sku, '') = '' then
        perform amzmp._log(account_id, 0, 'info', 'sku', amazon_sku, 'the shop''s function made no product of it');
    else
        perform amzmp._link(account_id, amazon_sku, sku, hook.run_as);
    end if;
end
$$;

select amzmp._expose('amzmp._finish_item(bigint, text, text, text, text)', 'public',
    'Inner: links the item that was made. Refused to all but the role registered by create_items_with.');

create function amzmp._statement_item(account_id bigint, subject text, argument jsonb) returns text[]
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select array[format($statement$do $amzmp$
declare
    item record;
    made text;
    state text;
    message text;
begin
    for item in select asin, title from amzmp.begin_item(%1$s, %2$L) loop
        begin
            made := %3$s(%1$s::bigint, %2$L::text, item.asin, item.title);
            set constraints all immediate;
        exception
            when lock_not_available or deadlock_detected or serialization_failure then
                raise;
            when others then
                get stacked diagnostics state = returned_sqlstate, message = message_text;
        end;
        perform amzmp.finish_item(%1$s, %2$L, made, state, message);
    end loop;
end
$amzmp$
$statement$, h.account_id, _statement_item.subject, h.function_name)]
    from amzmp.order_hook h
    where h.account_id = _statement_item.account_id and h.channel_id = 0 and h.kind = 'item';
$$;
