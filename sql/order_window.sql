/*
 * order_window.sql
 *	  The pages of a poll for orders: take their orders, follow them, move the watermark.
 *
 * Pages are applied by two runners (task.sql), so in any order. Each takes its orders first, without a lock that others
 * need; then it locks the cursor, until the transaction ends with a few rows more, and counts itself. The window closes,
 * and the watermark moves, when all pages up to the last one have been counted.
 *
 *	 page arrives (sender) ── its token noted ──▶ next page asked for, unless too many wait
 *	 page applied (runner) ── counted ──▶ all there: closed, the watermark moves
 *	                                  ├─▶ there is room again: next page asked for
 *	                                  └─▶ nothing is left of it: closed in vain, and the next poll reads it again
 *
 * A window that begins again counts from nothing. Pages of the try before that are still on their way bring their orders, and
 * are known by their number of restarts.
 */
-- What a page says of the search.
create type amzmp.order_page as (
    next_token text,
    last_updated_before timestamptz
);

comment on type amzmp.order_page is 'Inner: what a page of searchOrders says of the search.';

-- A page says it with each order; one without orders is short, and read once more. What has no list of orders, not even an
-- empty one, is no page: the window must not close as if all had been read.
create function amzmp._page_of(answer amzmp.answer_row, arrived amzmp.arrived_order[]) returns amzmp.order_page
    language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    page amzmp.order_page := row((arrived[1]).next_token, (arrived[1]).searched_until);
    orders text;
begin
    if arrived = '{}' then
        select p.orders, p.next_token, p.last_updated_before
          into orders, page.next_token, page.last_updated_before
          from amzmp._rows(amzmp._page_text(answer), 'orders', 'pagination.nextToken', 'lastUpdatedBefore')
               as p (orders text, next_token text, last_updated_before timestamptz);
        if left(orders, 1) is distinct from '[' then
            raise exception using errcode = 'data_exception', message = 'a page of orders came without its list of orders';
        end if;
    end if;
    return page;
end
$$;

create function amzmp._handle_search_orders(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
    arrived amzmp.arrived_order[];
    complete boolean;
    current amzmp.order_cursor;
begin
    foreach answer in array answers loop
        if answer.outcome = 'success' then
            complete := coalesce((answer.request).params -> 'includedData' @> amzmp._order_data_sets(1), false);
            arrived := array(select a from amzmp._read_orders(amzmp._page_text(answer), 'orders', complete) as a);
            perform amzmp._take_orders((answer.request).account_id, arrived, false);
        end if;
        -- The answer of a window, or a try, that was given up has brought its orders, but moves nothing.
        current := amzmp._lock_window(answer.request);
        if current.account_id is not null and answer.outcome = 'success' then
            perform amzmp._count_page(current, answer.request, amzmp._page_of(answer, arrived));
        elsif current.account_id is not null then
            perform amzmp._search_failed(current, answer);
        end if;
    end loop;
end
$$;

-- Which page of its window a request asks for, and how often the window had begun again by then: its cause says so, except
-- of the first page and the first try.
create function amzmp._page_number(asked amzmp.request) returns integer
    language sql immutable parallel safe
    begin atomic
    select coalesce((asked.cause ->> 'page')::integer, 1);
    end;

create function amzmp._page_restarts(asked amzmp.request) returns integer
    language sql immutable parallel safe
    begin atomic
    select coalesce((asked.cause ->> 'restarts')::integer, 0);
    end;

-- Lock the account's cursor. Nothing is returned if the page belongs to no window, or no try, that is under way.
create function amzmp._lock_window(asked amzmp.request) returns amzmp.order_cursor
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    current amzmp.order_cursor;
begin
    select c.* into current from amzmp.order_cursor c where c.account_id = asked.account_id for update;
    if current.window_open and current.window_id::text = asked.subject and current.restarts = amzmp._page_restarts(asked) then
        return current;
    end if;
    return null;
end
$$;

-- The other pages of a window's present try that are under way, whatever their state.
create function amzmp._other_pages(current amzmp.order_cursor, asked amzmp.request) returns setof amzmp.request
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
begin
    return query
        select r.* from amzmp.request r
         where r.account_id = current.account_id and r.subject_kind = 'orders' and r.subject = current.window_id::text
           and r.operation = 'searchOrders' and amzmp._page_restarts(r) = current.restarts and r.request_id <> asked.request_id;
end
$$;

-- The page after the last one that was asked for, once its token is known and no more than five wait, those that are being
-- applied among them: reading is faster than importing. It is asked for with the parameters of any other, such as the one
-- that has arrived, and waits, or has ended. Returns the cursor as it is to be.
create function amzmp._ask_next_page(current amzmp.order_cursor, asked amzmp.request, still_waits boolean) returns amzmp.order_cursor
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    if current.next_token is not null
        and (select count(*) from amzmp._other_pages(current, asked) r where r.state = 'answered') + still_waits::integer <= 5
    then
        perform amzmp._enqueue(asked.account_id, 'searchOrders',
            asked.params || jsonb_build_object('paginationToken', current.next_token),
            null, '_handle_search_orders', null, 30, now(), 0, 'orders', asked.subject,
            coalesce(asked.cause, '{}') || jsonb_build_object('page', current.asked + 1));
        current.asked := current.asked + 1;
        current.next_token := null;
    end if;
    return current;
end
$$;

create function amzmp._save_window(current amzmp.order_cursor) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    update amzmp.order_cursor c
       set window_open = current.window_open, window_end = current.window_end, pages = current.pages, asked = current.asked,
           next_token = current.next_token, last_page = current.last_page, watermark = current.watermark,
           marketplaces = current.marketplaces
     where c.account_id = current.account_id;
end
$$;

-- Sender: a page has arrived and waits for a runner. The next one is asked for now, so that Amazon is waited for while
-- this one is imported.
create function amzmp._page_is_here(asked amzmp.request, token text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    current amzmp.order_cursor := amzmp._lock_window(asked);
begin
    if current.asked = amzmp._page_number(asked) then
        current.next_token := token;
        perform amzmp._save_window(amzmp._ask_next_page(current, asked, true));
    end if;
end
$$;

-- A page's orders are in.
create function amzmp._count_page(current amzmp.order_cursor, asked amzmp.request, page amzmp.order_page) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    number constant integer := amzmp._page_number(asked);
    token constant text := nullif(page.next_token, '');
begin
    current.pages := current.pages + 1;
    current.window_end := least(current.window_end, page.last_updated_before);
    if token is null then
        current.last_page := number;
    elsif current.asked = number then
        current.next_token := token;
    end if;
    perform amzmp._window_goes_on(current, asked);
end
$$;

-- A page has ended without its orders: the window cannot be closed well any more, but what is left of it comes in.
create function amzmp._page_is_lost(asked amzmp.request) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    current amzmp.order_cursor := amzmp._lock_window(asked);
begin
    if current.account_id is not null then
        perform amzmp._window_goes_on(current, asked);
    end if;
end
$$;

/*
 * A page has ended: close the window and move the watermark if it was the last one that was missing; else ask for another. If
 * there is none, a page was not applied: the window ends without moving the watermark, and the next poll reads it again.
 */
create function amzmp._window_goes_on(current amzmp.order_cursor, asked amzmp.request) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    complete constant boolean := coalesce(current.pages = current.last_page, false);
begin
    if complete then
        current.window_open := false;
        current.watermark := greatest(current.watermark, coalesce(current.window_end, current.window_started_at - interval '2 minutes'));
        -- not sooner: one that is new is read from the first look-back on until that has been done
        current.marketplaces := array(select jsonb_array_elements_text(asked.params -> 'marketplaceIds'));
    else
        current := amzmp._ask_next_page(current, asked, false);
        if not exists (select from amzmp._other_pages(current, asked)) then
            current.window_open := false;
            perform amzmp._log(current.account_id, 0, 'error', 'orders', null, 'pages of orders are missing, the search will be repeated',
                jsonb_build_object('applied', current.pages, 'asked', current.asked));
        end if;
    end if;
    perform amzmp._save_window(current);
    if complete then
        perform amzmp._orders_were_read(current.account_id);
    end if;
end
$$;

/*
 * A page was refused. A page token may have grown old: the window begins again, at most three times. The first page
 * may ask for data sets that Amazon does not serve at the moment: ask for less. Else the window is closed without
 * moving the watermark, and the next poll asks for the same time again.
 */
create function amzmp._search_failed(current amzmp.order_cursor, answer amzmp.answer_row) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    asked amzmp.request := answer.request;
    acc bigint := current.account_id;
    first_page jsonb := asked.params - 'paginationToken';
    first_cause jsonb := coalesce(asked.cause, '{}') - 'page';
    less jsonb;
begin
    if asked.params ? 'paginationToken' and answer.status = 400 and current.restarts < 3 then
        perform amzmp._log(acc, 0, 'warning', 'orders', null,
            'a page token was refused, the search begins again', jsonb_build_object('page', amzmp._page_number(asked)));
        update amzmp.order_cursor c
           set pages = 0, asked = 1, next_token = null, last_page = null, restarts = c.restarts + 1, window_end = null
         where c.account_id = acc;
        first_cause := first_cause || jsonb_build_object('restarts', current.restarts + 1);
    elsif answer.status = 400 and current.detail < 3 and not asked.params ? 'paginationToken' then
        less := amzmp._order_data_sets(current.detail + 1);
        perform amzmp._log(acc, 0, 'warning', 'orders', null, 'the data sets were refused, asking for less',
            jsonb_build_object('asked', asked.params -> 'includedData', 'now', less, 'code', answer.error_code));
        first_page := (first_page - 'includedData') || jsonb_strip_nulls(jsonb_build_object('includedData', less));
        update amzmp.order_cursor c
           set detail = c.detail + 1, detail_reduced_at = amzmp._now(acc)
         where c.account_id = acc;
    else
        perform amzmp._log(acc, 0, 'error', 'orders', null, 'the search for orders failed, it will be repeated',
            jsonb_build_object('status', answer.status, 'code', answer.error_code));
        update amzmp.order_cursor c set window_open = false where c.account_id = acc;
        return;
    end if;
    perform amzmp._enqueue(acc, 'searchOrders', first_page, null, '_handle_search_orders', null, 30, now(), 0,
        'orders', asked.subject, first_cause);
end
$$;
