/*
 * order_import.sql
 *	  How orders come in: the poll (searchOrders), parking what arrived, and importing it.
 *
 * One poll per account asks for everything that changed since the last one, with an overlap, and follows all pages.
 * Each page is parked in the transaction that applies the answer: sealed, one row an order, the newest version wins.
 * Importing is a second step, because it may touch the shop's tables, and that is only ever done by a process whose
 * session user is the shop's role: see delivery.sql for the statements that it runs. Everything here can be
 * repeated: a page seen twice, a window read again and an order imported twice change nothing.
 */
create table amzmp.order_cursor (
    account_id bigint primary key,
    watermark timestamptz,
    marketplaces text[] not null default '{}',
    swept_at timestamptz,
    window_id bigint not null default 0,
    window_open boolean not null default false,
    window_started_at timestamptz,
    window_end timestamptz,
    pages integer not null default 0,
    restarts smallint not null default 0,
    detail smallint not null default 0,
    detail_reduced_at timestamptz
);

comment on table amzmp.order_cursor is 'How far each account''s orders have been read.';
comment on column amzmp.order_cursor.account_id is 'The account.';
comment on column amzmp.order_cursor.watermark is 'Every change up to this time has been read. Null: nothing has been read yet.';
comment on column amzmp.order_cursor.marketplaces is 'The marketplaces that were asked for when the watermark was set.';
comment on column amzmp.order_cursor.swept_at is 'When the last long look-back for late arrivals began.';
comment on column amzmp.order_cursor.window_id is 'Number of the poll that is under way or was the last.';
comment on column amzmp.order_cursor.window_open is 'Is a poll under way?';
comment on column amzmp.order_cursor.window_started_at is 'When that poll began, on Amazon''s clock.';
comment on column amzmp.order_cursor.window_end is 'Until when Amazon searched, as it said.';
comment on column amzmp.order_cursor.pages is 'Pages of that poll that have been applied.';
comment on column amzmp.order_cursor.restarts is 'How often that poll had to begin again because a page token was refused.';
comment on column amzmp.order_cursor.detail is 'How much is asked for: 0 everything, 1 without payments, promotions, points and fulfilment orders, 2 what stock and money need, 3 the bare orders.';
comment on column amzmp.order_cursor.detail_reduced_at is 'When it was last lowered, because Amazon refused the data sets.';

create table amzmp.parked_order (
    account_id bigint not null,
    amazon_order_id text not null,
    last_updated_at timestamptz not null,
    complete boolean not null,
    sealed bytea not null,
    parked_at timestamptz not null default now(),
    failed_at timestamptz,
    failure_reason text,
    primary key (account_id, amazon_order_id)
) with (toast_tuple_target = 8160);

-- What is sealed cannot be compressed, and most orders fit into a row.
alter table amzmp.parked_order alter column sealed set storage external;

comment on table amzmp.parked_order is 'Orders that arrived and wait for their import.';
comment on column amzmp.parked_order.account_id is 'The account that sold.';
comment on column amzmp.parked_order.amazon_order_id is 'Amazon''s order number.';
comment on column amzmp.parked_order.last_updated_at is 'Amazon''s time of the change. A newer one replaces the row.';
comment on column amzmp.parked_order.complete is 'Was everything asked for when it was fetched?';
comment on column amzmp.parked_order.sealed is 'What Amazon sent, sealed.';
comment on column amzmp.parked_order.parked_at is 'When it arrived.';
comment on column amzmp.parked_order.failed_at is 'When its import failed; amzmp.penalised says when it is tried again.';
comment on column amzmp.parked_order.failure_reason is 'Why, without personal data.';

/*
 * An error's message for our own tables. What stands between quotation marks is blanked where the message may quote
 * data: bad values, violated constraints, and whatever a shop's own function raises.
 */
create function amzmp._safe_error(state text, message text) returns text
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select case when left(state, 2) in ('22', '23', 'P0') or state is null
                then regexp_replace(message, '("[^"]*"|''[^'']*''|«[^»]*»|„[^“”]*[“”])', '"…"', 'g')
                else message end || coalesce(' (' || state || ')', '');
$$;

/* ---- the poll ---- */

create function amzmp._order_data_sets(detail integer) returns jsonb
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select case detail
        when 0 then '["FULFILLMENT", "PROCEEDS", "CANCELLATION", "PACKAGES", "BUYER", "RECIPIENT", "TAX",
                      "PAYMENT", "PROMOTION", "EXPENSE", "FULFILLMENT_ORDERS"]'::jsonb
        when 1 then '["FULFILLMENT", "PROCEEDS", "CANCELLATION", "PACKAGES", "BUYER", "RECIPIENT", "TAX"]'::jsonb
        when 2 then '["FULFILLMENT", "PROCEEDS", "CANCELLATION"]'::jsonb
        end;
$$;

-- What is asked for with a single order: everything, but for the sets that the search found to be refused at present. An order
-- is complete without those.
create function amzmp._order_detail(account_id bigint) returns integer
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
begin
    return coalesce((select least(c.detail, 1) from amzmp.order_cursor c where c.account_id = _order_detail.account_id), 0);
end
$$;

-- Ask for the first page of a window. Times go to Amazon in UTC with seconds.
create function amzmp._search_orders(account_id bigint, window_id bigint, since timestamptz, marketplaces text[],
    detail integer, cause jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    perform amzmp._enqueue(_search_orders.account_id, 'searchOrders',
        jsonb_strip_nulls(jsonb_build_object(
            'lastUpdatedAfter', amzmp._iso_time(since),
            'marketplaceIds', to_jsonb(marketplaces),
            'includedData', amzmp._order_data_sets(detail),
            'maxResultsPerPage', 100)),
        null, '_handle_search_orders', null, 30, now(), 0, 'orders', window_id::text, cause);
end
$$;

/*
 * One poll. A poll that is still under way is left alone; one whose request has gone without an answer (dropped,
 * cancelled) is begun again from the same watermark. A day apart, a poll looks two days back for orders that Amazon
 * showed late, and a marketplace that is new is read from the first look-back on.
 */
create function amzmp._flow_get_orders(account_id bigint, channel_id bigint, flow_run_id bigint) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    run alias for $3;
    cursor amzmp.order_cursor;
    wanted text[];
    clock timestamptz := amzmp._now(acc);
    first_look timestamptz;
    since timestamptz;
    sweep boolean;
    run_cause jsonb := jsonb_build_object('flow_run', run);
begin
    perform amzmp._queue_imports(acc);
    perform amzmp._retry_orders(acc);

    select array_agg(c.marketplace_id order by c.marketplace_id) into wanted
      from amzmp.channel c where c.account_id = acc and c.active and not c.dropped;
    if wanted is null then
        perform amzmp._log(acc, 0, 'info', 'flow', 'get_orders', 'no active channel, no orders asked for', null, run);
        return;
    end if;

    insert into amzmp.order_cursor (account_id) values (acc) on conflict do nothing;
    select * into strict cursor from amzmp.order_cursor where account_id = acc for update;
    if cursor.window_open and exists (
        select from amzmp.request r
         where r.account_id = acc and r.operation = 'searchOrders' and r.subject_kind = 'orders'
           and r.subject = cursor.window_id::text)
    then
        perform amzmp._log(acc, 0, 'info', 'flow', 'get_orders', 'the poll before is still under way', null, run);
        return;
    end if;

    if cursor.detail > 0 and cursor.detail_reduced_at < clock - interval '6 hours' then
        cursor.detail := 0;
    end if;
    first_look := coalesce(amzmp._setting_timestamp(acc, 0, 'order_start'),
                           clock - amzmp._setting_interval(acc, 0, 'order_look_back'));
    sweep := cursor.watermark is not null and coalesce(cursor.swept_at, '-infinity') < clock - interval '1 day';
    since := coalesce(cursor.watermark - amzmp._setting_interval(acc, 0, 'order_overlap'), first_look);
    if sweep then
        since := least(since, clock - interval '2 days');
    end if;
    if not wanted <@ cursor.marketplaces then
        since := least(since, first_look);
    end if;
    -- Amazon refuses a search that would begin after its end, which is two minutes ago.
    since := least(since, clock - interval '3 minutes');

    update amzmp.order_cursor
       set window_id = cursor.window_id + 1, window_open = true, window_started_at = clock, window_end = null,
           pages = 0, restarts = 0, detail = cursor.detail, marketplaces = wanted,
           swept_at = case when sweep or cursor.watermark is null then clock else cursor.swept_at end
     where account_id = acc;
    perform amzmp._search_orders(acc, cursor.window_id + 1, since, wanted, cursor.detail, run_cause);
    perform amzmp._complete_orders(acc, run_cause);
end
$$;

create function amzmp._request_order(account_id bigint, amazon_order_id text, cause jsonb, detail integer default null) returns bigint
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select amzmp._enqueue(_request_order.account_id, 'getOrder',
        jsonb_build_object('orderId', _request_order.amazon_order_id,
            'includedData', amzmp._order_data_sets(coalesce(_request_order.detail, amzmp._order_detail(_request_order.account_id)))),
        null, '_handle_get_order', null, 30, now(), 0, 'order', _request_order.amazon_order_id, cause);
$$;

-- Orders that were read with too little data are asked for again, one by one, a few a poll.
create function amzmp._complete_orders(account_id bigint, cause jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    perform amzmp._request_order(o.account_id, o.amazon_order_id, _complete_orders.cause)
    from amzmp.orders o
    where o.account_id = _complete_orders.account_id and not o.complete
      and not exists (
          select from amzmp.request r
          where r.account_id = o.account_id and r.subject_kind = 'order' and r.subject = o.amazon_order_id)
    order by o.purchased_at desc
    limit 20;
end
$$;

create function amzmp._fetch_order(account text, amazon_order_id text) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    acc bigint := (amzmp._account(account)).account_id;
begin
    if amazon_order_id is null or amazon_order_id !~ '^[0-9A-Za-z-]{1,50}$' then
        perform amzmp._fail('AZ202', format('%L is not an Amazon order number', amazon_order_id), null,
            'Amazon''s order numbers look like 403-1234567-8765432.');
    end if;
    return amzmp._request_order(acc, amazon_order_id,
        jsonb_build_object('role', amzmp._caller(), 'at', now()));
end
$$;

select amzmp._expose('amzmp._fetch_order(text, text)', 'amzmp_operator',
    'Fetches one order from Amazon now, whatever its age, and imports it. Returns the id of the request.');

/* ---- applying the answers: take the orders, follow the pages, move the watermark ---- */

-- A page of the search, opened: the orders as they came, and what the page says of the search.
create type amzmp.order_page as (
    orders text,
    next_token text,
    last_updated_before timestamptz
);

comment on type amzmp.order_page is 'Inner: a page of searchOrders.';

create function amzmp._handle_search_orders(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
    page amzmp.order_page;
    current amzmp.order_cursor;
begin
    foreach answer in array answers loop
        select c.* into current
          from amzmp.order_cursor c where c.account_id = (answer.request).account_id for update;
        if answer.outcome = 'success' then
            select p.* into page
              from amzmp._rows(amzmp._page_text(answer), 'orders', 'pagination.nextToken', 'lastUpdatedBefore')
                   as p (orders text, next_token text, last_updated_before timestamptz);
            perform amzmp._take_orders((answer.request).account_id, page.orders,
                coalesce((answer.request).params -> 'includedData' @> amzmp._order_data_sets(1), false), false);
        end if;
        -- The answer of a window that was given up has brought its orders, but moves nothing.
        if current.window_open and current.window_id::text = (answer.request).subject then
            if answer.outcome = 'success' then
                perform amzmp._next_page(current, answer.request, page);
            else
                perform amzmp._search_failed(current, answer);
            end if;
        end if;
    end loop;
end
$$;

-- Which page of its window a request asks for: its cause says so, except of the first.
create function amzmp._page_number(asked amzmp.request) returns integer
    language sql immutable parallel safe
    begin atomic
    select coalesce((asked.cause ->> 'page')::integer, 1);
    end;

-- Ask for the page after this one with the same parameters, unless that has been done.
create function amzmp._ask_next_page(asked amzmp.request, token text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    next_page constant integer := amzmp._page_number(asked) + 1;
begin
    if not exists (
        select from amzmp.request r
         where r.account_id = asked.account_id and r.subject_kind = 'orders' and r.subject = asked.subject
           and r.operation = 'searchOrders' and amzmp._page_number(r) = next_page)
    then
        perform amzmp._enqueue(asked.account_id, 'searchOrders', asked.params || jsonb_build_object('paginationToken', token),
            null, '_handle_search_orders', null, 30, now(), 0, 'orders', asked.subject,
            coalesce(asked.cause, '{}') || jsonb_build_object('page', next_page));
    end if;
end
$$;

/*
 * Sender: a page has arrived and waits for a runner. The next one is asked for now, so that Amazon is waited for while
 * this one is imported; the runner does it otherwise. No more than a few pages wait: reading is faster than importing.
 */
create function amzmp._page_is_here(asked amzmp.request, token text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    if exists (select from amzmp.order_cursor c
                where c.account_id = asked.account_id and c.window_open and c.window_id::text = asked.subject)
       and (select count(*) from amzmp.answer a where a.account_id = asked.account_id) <= 4
    then
        perform amzmp._ask_next_page(asked, token);
    end if;
end
$$;

/*
 * A page is in: ask for the next, or close the window and move the watermark. Pages are applied in the order in which they
 * came; if one of them could not be, the window ends without moving the watermark, and the next poll reads it again.
 */
create function amzmp._next_page(current amzmp.order_cursor, asked amzmp.request, page amzmp.order_page) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    token text := nullif(page.next_token, '');
    page_end timestamptz := least(current.window_end, page.last_updated_before);
begin
    if token is not null then
        perform amzmp._ask_next_page(asked, token);
        update amzmp.order_cursor c set pages = c.pages + 1, window_end = page_end where c.account_id = current.account_id;
    elsif current.pages + 1 <> amzmp._page_number(asked) then
        perform amzmp._log(current.account_id, 0, 'error', 'orders', null, 'pages of orders are missing, the search will be repeated',
            jsonb_build_object('applied', current.pages, 'page', amzmp._page_number(asked)));
        update amzmp.order_cursor c set window_open = false where c.account_id = current.account_id;
    else
        update amzmp.order_cursor c
           set pages = c.pages + 1, window_end = page_end, window_open = false,
               watermark = greatest(c.watermark, coalesce(page_end, c.window_started_at - interval '2 minutes'))
         where c.account_id = current.account_id;
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
    first_cause jsonb := asked.cause - 'page';
    less jsonb;
begin
    if asked.params ? 'paginationToken' and answer.status = 400 and current.restarts < 3 then
        perform amzmp._log(acc, 0, 'warning', 'orders', null,
            'a page token was refused, the search begins again', jsonb_build_object('page', current.pages + 1));
        update amzmp.order_cursor c set pages = 0, restarts = c.restarts + 1, window_end = null where c.account_id = acc;
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

create function amzmp._handle_get_order(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
begin
    foreach answer in array answers loop
        if answer.outcome = 'success' then
            perform amzmp._take_orders((answer.request).account_id, (answer.body -> 'order')::text, true, true);
        elsif answer.status = 400 and (answer.request).params -> 'includedData' = amzmp._order_data_sets(0) then
            -- it may be one of the sets that Amazon does not serve everywhere
            perform amzmp._request_order((answer.request).account_id, (answer.request).subject, (answer.request).cause, 1);
        else
            perform amzmp._log((answer.request).account_id, 0, 'warning', 'order', (answer.request).subject,
                'the order could not be fetched',
                jsonb_build_object('status', answer.status, 'code', answer.error_code));
            perform amzmp._order_was_not_read((answer.request).account_id, (answer.request).subject, answer.error_code);
        end if;
    end loop;
end
$$;
