/*
 * recompute_task.sql
 *	  Recomputing what no row of the shop asks for: after a rule or a rate was changed, and when the clock changes something.
 */

/*
 * A rule changed what follows from products that were read already: one SKU is computed at once, all others by an own
 * runner, page by page.
 */
create function amzmp._rule_changed(account_id bigint, sku text, cause jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    if sku is not null then
        perform amzmp._recompute(account_id, array[sku], cause);
    else
        perform amzmp._add_task(account_id, 'recompute_all', '', null, now(), jsonb_build_object('cause', cause));
    end if;
end
$$;

-- Compute a page of an account's SKUs anew; the next page is a task of its own.
create function amzmp._task_recompute_all(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    skus constant text[] := array(
        select i.sku
        from amzmp.inventory as i
        where i.account_id = _task_recompute_all.account_id
            and i.sku > coalesce(argument ->> 'after', '')
            and i.fulfillment_channel = 'DEFAULT'
        order by i.sku
        limit 2000
    );
begin
    perform amzmp._recompute(account_id, skus, argument -> 'cause');
    if cardinality(skus) = 2000 then
        perform amzmp._add_task(account_id, 'recompute_all', skus[2000], null, now(), argument || jsonb_build_object('after', skus[2000]));
    end if;
end
$$;

-- What depends on the clock: ends of sales, rates that grow old, days on which stock is expected.
create function amzmp._task_recompute_due(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    skus constant text[] := array(
        select l.sku
        from amzmp.listing as l
        where l.account_id = _task_recompute_due.account_id
            and l.recompute_at <= now()
        order by l.recompute_at
        limit 2000
    );
begin
    perform amzmp._recompute(account_id, skus, jsonb_build_object('reason', 'the clock', 'at', now()));
end
$$;
