/*
 * statistics.sql
 *	  The planner's statistics of our own tables, while they grow fast.
 *
 * Autovacuum looks at a table once a minute at best. A shop with a million products fills ours within that minute, and
 * until then every plan assumes a handful of rows: a batch of a thousand SKUs costs a pass over all of them. So whoever
 * fills a table says so, and an own runner analyzes it whenever it has ten times the rows that are known of it.
 */

-- Inner: so many rows of an account are in this table now. Costs a look into the system cache.
create function amzmp._grew(relation regclass, row_count bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    if row_count > 10 * (select greatest(c.reltuples, 100) from pg_class as c where c.oid = relation) then
        perform amzmp._add_task(0, 'analyze', relation::text, null, now());
    end if;
end
$$;

-- Inner, own runner. Autovacuum may be at it already: nobody waits for it.
create function amzmp._task_analyze(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('analyze (skip_locked) %s', subject::regclass);
end
$$;
