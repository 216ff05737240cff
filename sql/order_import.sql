/*
 * order_import.sql
 *	  How orders come in: the poll (searchOrders), single orders, and where they wait that cannot be imported at once.
 *
 * One poll per account asks for everything that changed since the last one, with an overlap, and follows all pages
 * (order_window.sql). What arrived is imported at once, as one set (order_take.sql); or it is parked, sealed, one row an
 * order, the newest version wins, and imported by tasks: mostly because the shop's tables are written with it, which only a
 * process does whose session user is the shop's role (delivery.sql). Everything here can be repeated: a page seen twice, a
 * window read again and an order imported twice change nothing.
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
    asked integer not null default 0,
    next_token text,
    last_page integer,
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
comment on column amzmp.order_cursor.asked is 'Pages of that poll that have been asked for.';
comment on column amzmp.order_cursor.next_token is 'Token of the page after those, while too many wait to be applied for it to be asked for.';
comment on column amzmp.order_cursor.last_page is 'Number of the last page, once that has been applied.';
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
           pages = 0, asked = 1, next_token = null, last_page = null, restarts = 0, detail = cursor.detail,
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

/* ---- single orders ---- */

create function amzmp._handle_get_order(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
begin
    foreach answer in array answers loop
        if answer.outcome = 'success' then
            perform amzmp._take_orders((answer.request).account_id,
                array(select a from amzmp._read_orders(answer.body::text, 'order', true) as a), true);
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
