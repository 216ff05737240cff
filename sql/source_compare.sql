/*
 * source_compare.sql
 *	  The comparison of a whole source, page by page: what was not captured is found here at the latest.
 */

-- Where the running comparison goes on, and with how many rows; starts one. asked: the request for a comparison that was known
-- when the statement was made. One that came since, with a value attached perhaps that the statement does not read, is not met
-- by this comparison.
create function amzmp._rescan_position(source_id bigint, asked timestamptz default null) returns table (after_sku text, page_rows integer)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    s amzmp.source := amzmp._own_source(_rescan_position.source_id);
    -- once: an UPDATE evaluates in the order of the columns, so a second look at the clock may be the earlier one
    began constant timestamptz := clock_timestamp();
begin
    if s.rescan_started_at is null then
        update amzmp.source x
           set rescan_started_at = began, rescan_after = '', rescan_rows = 0,
               rescan_requested_at = case when s.rescan_requested_at is not distinct from asked then s.rescan_requested_at
                                          else began + interval '1 microsecond' end
         where x.account_id = s.account_id and x.source_id = s.source_id;
        update amzmp.product p set missing = false
         where p.account_id = s.account_id and p.source_id = s.source_id and p.missing;
    end if;
    return query select coalesce(s.rescan_after, ''), s.page_rows;
end
$$;
select amzmp._expose('amzmp._rescan_position(bigint, timestamptz)', 'public', 'Where the comparison of a source goes on. For the user runner of its role.');

-- A page of a comparison: all rows behind `after_sku` up to the last one given, or to the end if the page is not full.
-- The first one brings some rows without a SKU besides.
create function amzmp._take_page(source_id bigint, after_sku text, rows amzmp.shop_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    s amzmp.source := amzmp._own_source(_take_page.source_id);
    cause jsonb := jsonb_build_object('reason', 'comparison: ' || s.rescan_reason, 'at', now());
    began constant timestamptz := clock_timestamp();
    size constant bigint := (select count(*) from unnest(_take_page.rows) r where r.sku <> '');
    last_sku text := case when size = s.page_rows then (select max(r.sku) from unnest(_take_page.rows) r) end;
    news amzmp.source_news := row('{}', '{}');
begin
    if _take_page.after_sku is distinct from coalesce(s.rescan_after, '') then
        perform amzmp._fail('AZ203', 'the comparison has moved on');
    end if;
    if size = 0 and s.rescan_rows = 0 and not s.accept_empty
       and exists (select from amzmp.product p where p.account_id = s.account_id and p.source_id = s.source_id and not p.gone) then
        perform amzmp._note_failure(s, format('%s has no rows', s.relation));
        return;
    end if;
    if s.kind = 'shipment' then
        perform amzmp._take_shipment_rows(s, null, _take_page.rows, cause);
    else
        news := amzmp._store_rows(s, _take_page.rows, cause);
    end if;
    update amzmp.product p set missing = true
     where p.account_id = s.account_id and p.source_id = s.source_id and not p.gone and not p.missing
       and p.sku > _take_page.after_sku and (last_sku is null or p.sku <= last_sku)
       and p.sku not in (select r.sku from unnest(_take_page.rows) r where r.sku is not null);
    if s.rescan_force and s.kind = 'product' then
        news := row(array(select distinct r.sku from unnest(_take_page.rows) r where r.sku <> ''), '{price,stock}');
    end if;
    if news.skus <> '{}' then
        perform amzmp._recompute(s.account_id, news.skus, cause, null, news.facets);
    end if;
    perform amzmp._source_read(s);
    if last_sku is null then
        perform amzmp._end_rescan(s, s.rescan_rows + size, cause);
    else
        update amzmp.source x
           set rescan_after = last_sku, rescan_rows = s.rescan_rows + size,
               page_rows = amzmp._next_page_rows(s.page_rows, clock_timestamp() - began)
         where x.account_id = s.account_id and x.source_id = s.source_id;
        perform amzmp._grew('amzmp.product', s.rescan_rows + size);
    end if;
end
$$;
select amzmp._expose('amzmp._take_page(bigint, text, amzmp.shop_row[])', 'public', 'Takes a page of a comparison. For the user runner of the source''s role.');

-- Was a comparison asked for after the running one began, even by a mark that nobody has looked at yet?
create function amzmp._asked_again(source amzmp.source) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    perform amzmp._take_marks(source);
    return source.rescan_requested_at > source.rescan_started_at
        or exists (select from amzmp.source_change x
                    where x.account_id = source.account_id and x.source_id = source.source_id and x.keys is null);
end
$$;

-- What no page contained is gone: all at once, so that the brake sees how much it is. A relation that was truncated or
-- changed in bulk behind the reading is compared again first, for its pages do not belong together.
create function amzmp._end_rescan(source amzmp.source, total bigint, cause jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    again constant boolean := amzmp._asked_again(source);
    vanished text[];
begin
    if not again then
        with lost as (
            update amzmp.product p
               set gone = true, missing = false, changed = 'all', read_at = now(), cause = _end_rescan.cause
             where p.account_id = source.account_id and p.source_id = source.source_id and p.missing
            returning p.sku
        )
        select array_agg(l.sku) into vanished from lost l;
        if vanished is not null then
            perform amzmp._recompute(source.account_id, vanished, _end_rescan.cause);
        end if;
    end if;
    update amzmp.source x
       set rescan_started_at = null, rescan_after = null, rescan_rows = total, rescan_finished_at = now(),
           accept_empty = again and x.accept_empty, rescan_force = again and x.rescan_force,
           rescan_reason = case when again then x.rescan_reason else 'interval' end,
           rescan_due = case when again then now()
                             else now() + coalesce(amzmp._setting_interval(x.account_id, x.channel_id, 'rescan_interval'), interval '1 day') end
     where x.account_id = source.account_id and x.source_id = source.source_id;
    perform amzmp._wake();   -- the sender learns when it is due next
    if not again then
        perform amzmp._log(source.account_id, source.channel_id, 'info', 'source', source.relation,
                           format('compared: %s rows, %s gone', total, coalesce(cardinality(vanished), 0)),
                           jsonb_build_object('reason', source.rescan_reason));
    end if;
end
$$;

-- Which of these accounts have a source that is due later than its setting says.
create function amzmp._due_rescan(account_ids bigint[])
    returns table (account_id bigint, channel_id bigint)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select distinct s.account_id, 0::bigint
    from amzmp.source as s
    where s.account_id = any (account_ids)
        and s.state <> 'held'
        and s.rescan_due > now() + amzmp._setting_interval(s.account_id, s.channel_id, 'rescan_interval');
end
$$;

-- Comparing is due by each source's own time; this brings it forward where rescan_interval was shortened since.
create function amzmp._flow_rescan(account_id bigint, channel_id bigint, flow_run_id bigint) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    update amzmp.source s
       set rescan_due = now() + amzmp._setting_interval(s.account_id, s.channel_id, 'rescan_interval')
     where s.account_id = _flow_rescan.account_id and s.state <> 'held'
       and s.rescan_due > now() + amzmp._setting_interval(s.account_id, s.channel_id, 'rescan_interval');
$$;
