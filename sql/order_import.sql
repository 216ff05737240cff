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
comment on column amzmp.order_cursor.detail is 'How much is asked for: 0 everything, 1 what stock and money need, 2 the bare orders.';
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
);

comment on table amzmp.parked_order is 'Orders that arrived and wait for their import.';
comment on column amzmp.parked_order.account_id is 'The account that sold.';
comment on column amzmp.parked_order.amazon_order_id is 'Amazon''s order number.';
comment on column amzmp.parked_order.last_updated_at is 'Amazon''s time of the change. A newer one replaces the row.';
comment on column amzmp.parked_order.complete is 'Was everything asked for when it was fetched?';
comment on column amzmp.parked_order.sealed is 'What Amazon sent, sealed.';
comment on column amzmp.parked_order.parked_at is 'When it arrived.';
comment on column amzmp.parked_order.failed_at is 'When its import failed for good; it waits for redeliver or for a newer version.';
comment on column amzmp.parked_order.failure_reason is 'Why, without personal data.';

/* ---- small readers of Amazon's JSON ---- */

-- A time as Amazon writes it; null when it is none, because one bad order must not fail its page.
create function amzmp._time(value text) returns timestamptz
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select case when value ~ '^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2\d|3[01])T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)$'
                then value::timestamptz end;
$$;

create function amzmp._money(value jsonb) returns numeric
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select case when value ->> 'amount' ~ '^-?\d+(\.\d+)?$' then (value ->> 'amount')::numeric end;
$$;

create function amzmp._count(value jsonb) returns integer
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select case when value #>> '{}' ~ '^\d{1,9}$' then (value #>> '{}')::integer end;
$$;

create function amzmp._array(value jsonb) returns jsonb
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select case when jsonb_typeof(value) = 'array' then value else '[]' end;
$$;

-- The sum of the breakdowns of one kind; null when there is none of it.
create function amzmp._part(breakdowns jsonb, kind text) returns numeric
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select sum(amzmp._money(b -> 'subtotal'))
    from jsonb_array_elements(amzmp._array(breakdowns)) as b
    where b ->> 'type' = kind;
$$;

-- The sum of one subtype of the tax or discount breakdown of a line.
create function amzmp._subpart(breakdowns jsonb, kind text, subtype text) returns numeric
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select sum(amzmp._money(d -> 'value'))
    from jsonb_array_elements(amzmp._array(breakdowns)) as b
    cross join jsonb_array_elements(amzmp._array(b -> 'detailedBreakdowns')) as d
    where b ->> 'type' = kind and d ->> 'subtype' = _subpart.subtype;
$$;

-- Everything in an order that is about a person. Null when there is nothing.
create function amzmp._personal_part(doc jsonb) returns jsonb
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select nullif(jsonb_strip_nulls(jsonb_build_object(
        'buyer', nullif(doc -> 'buyer', '{}'),
        'recipient', nullif(doc -> 'recipient', '{}'),
        'tax_registrations', nullif(doc #> '{tax,taxRegistrations}', '[]'),
        'items', (
            select jsonb_object_agg(i ->> 'orderItemId', jsonb_strip_nulls(jsonb_build_object(
                    'gift_message', i #> '{fulfillment,packing,giftOption,giftMessage}',
                    'customized_url', i #> '{product,customization,customizedUrl}')))
            from jsonb_array_elements(amzmp._array(doc -> 'orderItems')) as i
            where i ->> 'orderItemId' is not null
              and (i #> '{fulfillment,packing,giftOption,giftMessage}' is not null
                   or i #> '{product,customization,customizedUrl}' is not null))
        )), '{}');
$$;

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
        when 0 then '["FULFILLMENT", "PROCEEDS", "CANCELLATION", "PACKAGES", "BUYER", "RECIPIENT", "TAX"]'::jsonb
        when 1 then '["FULFILLMENT", "PROCEEDS", "CANCELLATION"]'::jsonb
        end;
$$;

-- Ask for the first page of a window. Times go to Amazon in UTC with seconds.
create function amzmp._search_orders(account_id bigint, window_id bigint, since timestamptz, marketplaces text[],
    detail integer, cause jsonb) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select amzmp._enqueue(_search_orders.account_id, 'searchOrders',
        jsonb_strip_nulls(jsonb_build_object(
            'lastUpdatedAfter', to_char(since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'marketplaceIds', to_jsonb(marketplaces),
            'includedData', amzmp._order_data_sets(detail),
            'maxResultsPerPage', 100)),
        null, '_handle_search_orders', null, 30, now(), 0, 'orders', window_id::text, cause);
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

create function amzmp._request_order(account_id bigint, amazon_order_id text, cause jsonb) returns bigint
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select amzmp._enqueue(_request_order.account_id, 'getOrder',
        jsonb_build_object('orderId', _request_order.amazon_order_id, 'includedData', amzmp._order_data_sets(0)),
        null, '_handle_get_order', null, 30, now(), 0, 'order', _request_order.amazon_order_id, cause);
$$;

-- Orders that were read with too little data are asked for again, one by one, a few a poll.
create function amzmp._complete_orders(account_id bigint, cause jsonb) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select amzmp._request_order(o.account_id, o.amazon_order_id, _complete_orders.cause)
    from amzmp.orders o
    where o.account_id = _complete_orders.account_id and not o.complete
      and not exists (
          select from amzmp.request r
          where r.account_id = o.account_id and r.subject_kind = 'order' and r.subject = o.amazon_order_id)
    order by o.purchased_at desc
    limit 20;
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

/* ---- applying the answers: park, follow the pages, move the watermark ---- */

/*
 * Park the orders of one answer. What the account does not want (older than order_start, fulfilled by the other side)
 * or already has in that version is left out; force keeps the same version too. Returns how many were parked.
 */
create function amzmp._park_orders(account_id bigint, docs jsonb, complete boolean, force boolean) returns integer
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    is_complete alias for $3;
    forced alias for $4;
    parked text[];
    malformed bigint;
    earliest timestamptz := coalesce(amzmp._setting_timestamp(acc, 0, 'order_start'), '-infinity');
    side text := nullif(upper(amzmp._setting_text(acc, 0, 'order_fulfillment')), 'ALL');
begin
    with arrived as materialized (
        select d as doc, d ->> 'orderId' as id, amzmp._time(d ->> 'lastUpdatedTime') as updated,
               amzmp._time(d ->> 'createdTime') as created
          from jsonb_array_elements(amzmp._array(docs)) as d
    ), usable as (
        select distinct on (id) *
          from arrived
         where id ~ '^[0-9A-Za-z-]{1,50}$' and updated is not null and created is not null
         order by id, updated desc
    ), kept as (
        insert into amzmp.parked_order (account_id, amazon_order_id, last_updated_at, complete, sealed)
        select acc, u.id, u.updated, is_complete, amzmp._seal(u.doc::text, 'order', acc || '/' || u.id)
          from usable u
          left join amzmp.orders o on o.account_id = acc and o.amazon_order_id = u.id
         where (o.amazon_order_id is not null
                or u.created >= earliest
                   and (side is null or coalesce(u.doc #>> '{fulfillment,fulfilledBy}', side) = side))
           and (o.amazon_order_id is null or forced or u.updated > o.last_updated_at
                or u.updated = o.last_updated_at and is_complete and not o.complete)
         order by u.id
        on conflict (account_id, amazon_order_id) do update
           set last_updated_at = excluded.last_updated_at, complete = excluded.complete, sealed = excluded.sealed,
               parked_at = excluded.parked_at, failed_at = null, failure_reason = null
         where excluded.last_updated_at > parked_order.last_updated_at
            or excluded.last_updated_at = parked_order.last_updated_at and excluded.complete
        returning amazon_order_id
    )
    select (select array_agg(k.amazon_order_id) from kept k),
           (select count(*) from arrived a where not coalesce(a.id ~ '^[0-9A-Za-z-]{1,50}$', false)
                                              or a.updated is null or a.created is null)
      into parked, malformed;
    if malformed > 0 then
        perform amzmp._log(acc, 0, 'error', 'orders', null,
            format('%s orders without a usable number or time were left out', malformed));
    end if;
    perform amzmp._queue_imports(acc, parked);
    return coalesce(cardinality(parked), 0);
end
$$;

create function amzmp._handle_search_orders(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
    current amzmp.order_cursor;
begin
    foreach answer in array answers loop
        select c.* into current
          from amzmp.order_cursor c where c.account_id = (answer.request).account_id for update;
        if answer.outcome = 'success' then
            perform amzmp._park_orders((answer.request).account_id, answer.body -> 'orders',
                (answer.request).params -> 'includedData' is not distinct from amzmp._order_data_sets(0), false);
        end if;
        -- The answer of a window that was given up has brought its orders, but moves nothing.
        if current.window_open and current.window_id::text = (answer.request).subject then
            if answer.outcome = 'success' then
                perform amzmp._next_page(current, answer);
            else
                perform amzmp._search_failed(current, answer);
            end if;
        end if;
    end loop;
end
$$;

-- A page is in: ask for the next with the same parameters, or close the window and move the watermark.
create function amzmp._next_page(current amzmp.order_cursor, answer amzmp.answer_row) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    asked amzmp.request := answer.request;
    token text := nullif(answer.body #>> '{pagination,nextToken}', '');
    page_end timestamptz := least(current.window_end, amzmp._time(answer.body ->> 'lastUpdatedBefore'));
begin
    if token is not null then
        perform amzmp._enqueue(asked.account_id, 'searchOrders',
            asked.params || jsonb_build_object('paginationToken', token),
            null, '_handle_search_orders', null, 30, now(), 0, 'orders', asked.subject, asked.cause);
        update amzmp.order_cursor c set pages = c.pages + 1, window_end = page_end where c.account_id = current.account_id;
    else
        update amzmp.order_cursor c
           set pages = c.pages + 1, window_end = page_end, window_open = false,
               watermark = greatest(c.watermark, coalesce(page_end, c.window_started_at - interval '2 minutes'))
         where c.account_id = current.account_id;
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
    less jsonb;
begin
    if asked.params ? 'paginationToken' and answer.status = 400 and current.restarts < 3 then
        perform amzmp._log(acc, 0, 'warning', 'orders', null,
            'a page token was refused, the search begins again', jsonb_build_object('page', current.pages + 1));
        update amzmp.order_cursor c set pages = 0, restarts = c.restarts + 1, window_end = null where c.account_id = acc;
    elsif answer.status = 400 and current.detail < 2 and not asked.params ? 'paginationToken' then
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
        'orders', asked.subject, asked.cause);
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
            perform amzmp._park_orders((answer.request).account_id, jsonb_build_array(answer.body -> 'order'), true, true);
        else
            perform amzmp._log((answer.request).account_id, 0, 'warning', 'order', (answer.request).subject,
                'the order could not be fetched',
                jsonb_build_object('status', answer.status, 'code', answer.error_code));
        end if;
    end loop;
end
$$;

/* ---- importing ---- */

/*
 * Queue the import of these orders, or of all that wait and are not queued (order_ids null: once a poll, so that
 * nothing that went astray stays so). Where the shop's stock is written, one task an order, for the role that the shop
 * named; else tasks of up to 50 orders for an own runner.
 */
create function amzmp._queue_imports(account_id bigint, order_ids text[] default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    ids text[] := $2;
    role name;
begin
    if ids is null then
        select array_agg(w.id) into ids
          from (select p.amazon_order_id from amzmp.parked_order p
                 where p.account_id = acc and p.failed_at is null
                union
                select m.amazon_order_id
                  from amzmp.movement m
                  join amzmp.orders o on o.account_id = m.account_id and o.amazon_order_id = m.amazon_order_id
                 where m.account_id = acc and m.reduces_stock and m.applied_at is null
                   and o.import_state <> 'quarantined') as w (id)
         where not exists (
                   select from amzmp.task t
                    where t.account_id = acc and t.kind = 'import'
                      and (t.subject = w.id or t.argument -> 'orders' ? w.id));
    end if;
    if ids is null then
        return;
    end if;

    select h.run_as into role from amzmp.order_hook h where h.account_id = acc and h.channel_id = 0 and h.kind = 'stock';
    if found then
        perform amzmp._add_task(acc, 'import', i.id, role, now(), '{}')
           from (select distinct id from unnest(ids) as u (id) order by id) as i;
    else
        perform amzmp._add_task(acc, 'import', 'batch:' || nextval('amzmp.task_id_seq'), null, now(),
                                jsonb_build_object('orders', b.ids))
           from (select jsonb_agg(i.id order by i.id) as ids
                   from (select d.id, (row_number() over (order by d.id) - 1) / 50 as batch
                           from (select distinct u.id from unnest(ids) as u (id)) as d) as i
                  group by i.batch) as b;
    end if;
end
$$;

-- The own runner's part: import a batch in one go, and one by one if that fails, so that a bad order stops no other.
create function amzmp._task_import(account_id bigint, subject text, argument jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    ids text[] := case when argument ? 'orders'
                       then array(select jsonb_array_elements_text(argument -> 'orders')) else array[subject] end;
    id text;
begin
    begin
        perform amzmp._import_orders(_task_import.account_id, ids);
        return;
    exception
        when serialization_failure or deadlock_detected or lock_not_available then
            raise;
        when others then
            null;
    end;
    foreach id in array ids loop
        perform amzmp._import_order(_task_import.account_id, id);
    end loop;
end
$$;

-- Import one order; if it cannot be, say so at its parked row and leave it there.
create function amzmp._import_order(account_id bigint, amazon_order_id text, stock_follows boolean default false) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
    state text;
    message text;
begin
    begin
        perform amzmp._import_orders(acc, array[id], $3);
    exception
        when serialization_failure or deadlock_detected or lock_not_available then
            raise;
        when others then
            get stacked diagnostics state = returned_sqlstate, message = message_text;
            message := amzmp._safe_error(state, message);
            update amzmp.parked_order
               set failed_at = now(), failure_reason = message
             where account_id = acc and amazon_order_id = id;
            perform amzmp._log(acc, 0, 'error', 'order', id, 'the order could not be imported: ' || message);
    end;
end
$$;

/*
 * Import a parked order: write what Amazon told. A version that is older than what we hold only loses its parked row.
 * What a newer version leaves out (a pending order has no amounts, an application without the role gets no address) does
 * not erase what an earlier one told.
 */
create function amzmp._import_parked(account_id bigint, amazon_order_id text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
begin
    perform from amzmp.parked_order p
      where p.account_id = acc and p.amazon_order_id = id for update;

    with arrived as materialized (
        select p.amazon_order_id, p.last_updated_at, p.complete, p.sealed, d.doc,
               o.personal_purged_at is not null as purged
          from amzmp.parked_order p
          left join amzmp.orders o on o.account_id = p.account_id and o.amazon_order_id = p.amazon_order_id
          cross join lateral (
                select amzmp._open(p.sealed, 'order', p.account_id || '/' || p.amazon_order_id)::jsonb as doc) as d
         where p.account_id = acc and p.amazon_order_id = id
           and (o.amazon_order_id is null or p.last_updated_at >= o.last_updated_at)
    ), fresh as materialized (
        select a.*, coalesce(c.channel_id, 0) as channel_id,
               amzmp._new_order_number(acc, coalesce(c.channel_id, 0), a.amazon_order_id, m.country_code,
                                       a.doc #>> '{fulfillment,fulfilledBy}') as order_number
          from arrived a
          left join amzmp.channel c on c.account_id = acc and c.marketplace_id = a.doc #>> '{salesChannel,marketplaceId}'
          left join amzmp.marketplace m on m.marketplace_id = a.doc #>> '{salesChannel,marketplaceId}'
    ), written as (
        insert into amzmp.orders (account_id, amazon_order_id, channel_id, order_number, status, fulfilled_by,
            purchased_at, last_updated_at, currency, grand_total, item_total, shipping_total, tax_total, discount_total,
            other_total, ship_after, ship_by, deliver_after, deliver_by, service_level, programs, sales_channel,
            marketplace_id, replaces_order_id, cancellation_requested, complete, arrived_at)
        select acc, f.amazon_order_id, f.channel_id,
               f.order_number,
               f.doc #>> '{fulfillment,fulfillmentStatus}', f.doc #>> '{fulfillment,fulfilledBy}',
               amzmp._time(f.doc ->> 'createdTime'), f.last_updated_at,
               f.doc #>> '{proceeds,grandTotal,currencyCode}', amzmp._money(f.doc #> '{proceeds,grandTotal}'),
               amzmp._part(b.parts, 'ITEM'), amzmp._part(b.parts, 'SHIPPING'), amzmp._part(b.parts, 'TAX'),
               amzmp._part(b.parts, 'DISCOUNT'),
               (select sum(amzmp._money(x -> 'subtotal')) from jsonb_array_elements(b.parts) as x
                 where x ->> 'type' not in ('ITEM', 'SHIPPING', 'TAX', 'DISCOUNT')),
               amzmp._time(f.doc #>> '{fulfillment,shipByWindow,earliestDateTime}'),
               amzmp._time(f.doc #>> '{fulfillment,shipByWindow,latestDateTime}'),
               amzmp._time(f.doc #>> '{fulfillment,deliverByWindow,earliestDateTime}'),
               amzmp._time(f.doc #>> '{fulfillment,deliverByWindow,latestDateTime}'),
               f.doc #>> '{fulfillment,fulfillmentServiceLevel}',
               array(select jsonb_array_elements_text(amzmp._array(f.doc -> 'programs'))),
               f.doc #>> '{salesChannel,channelName}', f.doc #>> '{salesChannel,marketplaceId}',
               (select a ->> 'orderId' from jsonb_array_elements(amzmp._array(f.doc -> 'associatedOrders')) as a limit 1),
               exists (select from jsonb_array_elements(amzmp._array(f.doc -> 'orderItems')) as i
                        where i #> '{cancellation,cancellationRequest}' is not null
                          and coalesce(amzmp._count(i #> '{fulfillment,quantityUnfulfilled}'), 1) > 0),
               f.complete,
               (select amzmp._time(f.doc ->> 'lastUpdatedTime')
                 where jsonb_array_length(amzmp._array(f.doc -> 'packages')) > 0
                   and not exists (select from jsonb_array_elements(amzmp._array(f.doc -> 'packages')) as p
                                    where coalesce(p #>> '{packageStatus,status}', '') not in ('DELIVERED', 'CANCELLED'))
                   and f.doc #>> '{fulfillment,fulfillmentStatus}' = 'SHIPPED')
          from fresh f
          cross join lateral (select amzmp._array(f.doc #> '{proceeds,breakdowns}') as parts) as b
        on conflict (account_id, amazon_order_id) do update
           set channel_id = case when orders.channel_id = 0 then excluded.channel_id else orders.channel_id end,
               status = case when amzmp._status_rank(excluded.status) < amzmp._status_rank(orders.status)
                             then orders.status else coalesce(excluded.status, orders.status) end,
               fulfilled_by = coalesce(excluded.fulfilled_by, orders.fulfilled_by),
               last_updated_at = excluded.last_updated_at,
               currency = coalesce(excluded.currency, orders.currency),
               grand_total = coalesce(excluded.grand_total, orders.grand_total),
               item_total = coalesce(excluded.item_total, orders.item_total),
               shipping_total = coalesce(excluded.shipping_total, orders.shipping_total),
               tax_total = coalesce(excluded.tax_total, orders.tax_total),
               discount_total = coalesce(excluded.discount_total, orders.discount_total),
               other_total = coalesce(excluded.other_total, orders.other_total),
               ship_after = coalesce(excluded.ship_after, orders.ship_after),
               ship_by = coalesce(excluded.ship_by, orders.ship_by),
               deliver_after = coalesce(excluded.deliver_after, orders.deliver_after),
               deliver_by = coalesce(excluded.deliver_by, orders.deliver_by),
               service_level = coalesce(excluded.service_level, orders.service_level),
               programs = excluded.programs,
               sales_channel = coalesce(excluded.sales_channel, orders.sales_channel),
               marketplace_id = coalesce(excluded.marketplace_id, orders.marketplace_id),
               replaces_order_id = coalesce(excluded.replaces_order_id, orders.replaces_order_id),
               cancellation_requested = excluded.cancellation_requested,
               complete = excluded.complete,
               arrived_at = coalesce(orders.arrived_at, excluded.arrived_at)
    ), items as (
        insert into amzmp.order_item (account_id, amazon_order_id, order_item_id, position, sku, asin, title, condition,
            quantity_ordered, quantity_fulfilled, quantity_unfulfilled, currency, unit_price, item_price, item_tax,
            shipping_price, shipping_tax, gift_wrap_price, discount, tax_total, total, cancellation)
        select distinct on (f.amazon_order_id, i.doc ->> 'orderItemId')
               acc, f.amazon_order_id, i.doc ->> 'orderItemId', i.position,
               coalesce(i.doc #>> '{product,sellerSku}', i.doc #>> '{product,asin}'), i.doc #>> '{product,asin}',
               i.doc #>> '{product,title}',
               concat_ws('/', i.doc #>> '{product,condition,conditionType}', i.doc #>> '{product,condition,conditionSubtype}'),
               coalesce(amzmp._count(i.doc -> 'quantityOrdered'), 0),
               amzmp._count(i.doc #> '{fulfillment,quantityFulfilled}'),
               amzmp._count(i.doc #> '{fulfillment,quantityUnfulfilled}'),
               coalesce(i.doc #>> '{proceeds,proceedsTotal,currencyCode}',
                        i.doc #>> '{product,price,unitPrice,currencyCode}'),
               amzmp._money(i.doc #> '{product,price,unitPrice}'), amzmp._part(b.parts, 'ITEM'),
               amzmp._subpart(b.parts, 'TAX', 'ITEM'), amzmp._part(b.parts, 'SHIPPING'),
               amzmp._subpart(b.parts, 'TAX', 'SHIPPING'), amzmp._part(b.parts, 'GIFT_WRAP'),
               amzmp._part(b.parts, 'DISCOUNT'), amzmp._part(b.parts, 'TAX'),
               amzmp._money(i.doc #> '{proceeds,proceedsTotal}'), i.doc -> 'cancellation'
          from fresh f
          cross join lateral jsonb_array_elements(amzmp._array(f.doc -> 'orderItems')) with ordinality as i (doc, position)
          cross join lateral (select amzmp._array(i.doc #> '{proceeds,breakdowns}') as parts) as b
         where i.doc ->> 'orderItemId' is not null
        on conflict (account_id, amazon_order_id, order_item_id) do update
           set sku = coalesce(excluded.sku, order_item.sku), asin = coalesce(excluded.asin, order_item.asin),
               title = coalesce(excluded.title, order_item.title),
               condition = coalesce(nullif(excluded.condition, ''), order_item.condition),
               quantity_ordered = excluded.quantity_ordered,
               quantity_fulfilled = coalesce(excluded.quantity_fulfilled, order_item.quantity_fulfilled),
               quantity_unfulfilled = coalesce(excluded.quantity_unfulfilled, order_item.quantity_unfulfilled),
               currency = coalesce(excluded.currency, order_item.currency),
               unit_price = coalesce(excluded.unit_price, order_item.unit_price),
               item_price = coalesce(excluded.item_price, order_item.item_price),
               item_tax = coalesce(excluded.item_tax, order_item.item_tax),
               shipping_price = coalesce(excluded.shipping_price, order_item.shipping_price),
               shipping_tax = coalesce(excluded.shipping_tax, order_item.shipping_tax),
               gift_wrap_price = coalesce(excluded.gift_wrap_price, order_item.gift_wrap_price),
               discount = coalesce(excluded.discount, order_item.discount),
               tax_total = coalesce(excluded.tax_total, order_item.tax_total),
               total = coalesce(excluded.total, order_item.total),
               cancellation = coalesce(excluded.cancellation, order_item.cancellation)
    ), packages as (
        insert into amzmp.order_package (account_id, amazon_order_id, package_reference, status, detailed_status, carrier,
            tracking, shipping_service, shipped_at, items)
        select distinct on (f.amazon_order_id, p ->> 'packageReferenceId')
               acc, f.amazon_order_id, p ->> 'packageReferenceId', p #>> '{packageStatus,status}',
               p #>> '{packageStatus,detailedStatus}', p ->> 'carrier', p ->> 'trackingNumber', p ->> 'shippingService',
               amzmp._time(p ->> 'shipTime'), amzmp._array(p -> 'packageItems')
          from fresh f
          cross join lateral jsonb_array_elements(amzmp._array(f.doc -> 'packages')) as p
         where p ->> 'packageReferenceId' is not null
        on conflict (account_id, amazon_order_id, package_reference) do update
           set status = excluded.status, detailed_status = excluded.detailed_status, carrier = excluded.carrier,
               tracking = excluded.tracking, shipping_service = excluded.shipping_service,
               shipped_at = excluded.shipped_at, items = excluded.items
    ), buyers as (
        insert into amzmp.order_buyer (account_id, amazon_order_id, sealed, raw)
        select acc, f.amazon_order_id,
               case when x.part is null then b.sealed
                    else amzmp._seal((coalesce(amzmp._open(b.sealed, 'buyer', acc || '/' || f.amazon_order_id)::jsonb, '{}')
                                      || x.part)::text, 'buyer', acc || '/' || f.amazon_order_id) end,
               case when f.complete then f.sealed else coalesce(b.raw, f.sealed) end
          from fresh f
          cross join lateral (select amzmp._personal_part(f.doc) as part) as x
          left join amzmp.order_buyer b on b.account_id = acc and b.amazon_order_id = id
         where not f.purged
        on conflict (account_id, amazon_order_id) do update set sealed = excluded.sealed, raw = excluded.raw
    )
    delete from amzmp.parked_order p where p.account_id = acc and p.amazon_order_id = id;
end
$$;

-- Import orders and settle them, one after the other in one sequence.
create function amzmp._import_orders(account_id bigint, order_ids text[], stock_follows boolean default false) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    id text;
begin
    for id in select u.id from unnest(order_ids) as u (id) order by u.id loop
        perform amzmp._import_parked(_import_orders.account_id, id);
        perform amzmp._settle_order(_import_orders.account_id, id, stock_follows);
    end loop;
end
$$;

-- The shop's number of a new order. A format that yields a number twice gives way to Amazon's number.
create function amzmp._new_order_number(account_id bigint, channel_id bigint, amazon_order_id text, marketplace text,
    fulfilled_by text) returns text
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $3;
    number text := amzmp.format_order_number(id, amzmp._setting_text(acc, $2, 'order_number_format'), $4,
                                             amzmp._setting_text(acc, $2, 'order_number_prefix'), $5);
begin
    if exists (select from amzmp.orders o
                where o.account_id = acc and o.order_number = number and o.amazon_order_id <> id) then
        return id;
    end if;
    return number;
end
$$;

/* ---- what follows from an order's state: items known or not, movements, reservations, hand-over ---- */

/*
 * All of this is a function of the stored state and can be repeated at will. The order is locked first, so that two
 * processes never settle it at once. One order a call and not a set: every lookup is then by a whole primary key, and
 * no plan can go wrong while the tables are young and have no statistics.
 */
create function amzmp._settle_order(account_id bigint, amazon_order_id text, stock_follows boolean) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
    follows alias for $3;
begin
    perform from amzmp.orders o where o.account_id = acc and o.amazon_order_id = id for update;
    if not found then
        return;
    end if;
    perform amzmp._match_items(acc, id);
    perform amzmp._settle_movements(acc, id);
    perform amzmp._settle_reservations(acc, id, follows);
    perform amzmp._settle_claims(acc, id);
    perform amzmp._settle_states(acc, id);
    perform amzmp._settle_shipments(acc, id);
    if not follows then
        perform amzmp._queue_delivery(acc, id);
    end if;
end
$$;

/*
 * Which of the shop's products a line is: what link_item says, else the product of that SKU (or ASIN, by the setting
 * item_key). An account without a source has no products to compare with; there every SKU counts as known.
 */
create function amzmp._match_items(account_id bigint, amazon_order_id text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    update amzmp.order_item i
       set shop_sku = k.sku
      from (select u.amazon_order_id, u.order_item_id,
                   coalesce((select l.sku from amzmp.sku_link l
                              where l.account_id = u.account_id and l.amazon_sku = u.sku),
                            case when amzmp._setting_text(u.account_id, 0, 'item_key') = 'asin'
                                 then (select p.sku from amzmp.product p
                                        where p.account_id = u.account_id and p.asin = u.asin and not p.gone
                                        order by p.sku limit 1)
                                 else (select p.sku from amzmp.product p
                                        where p.account_id = u.account_id and p.sku = u.sku and not p.gone limit 1)
                                 end,
                            case when not exists (select from amzmp.source s where s.account_id = u.account_id)
                                 then u.sku end) as sku
              from amzmp.order_item u
             where u.account_id = _match_items.account_id and u.amazon_order_id = _match_items.amazon_order_id
               and u.shop_sku is null) as k
     where i.account_id = _match_items.account_id and i.amazon_order_id = k.amazon_order_id
       and i.order_item_id = k.order_item_id and k.sku is not null;
end
$$;

-- A line's movements must add up to what its latest state asks for; the difference becomes the next movement.
create function amzmp._settle_movements(account_id bigint, amazon_order_id text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    insert into amzmp.movement (account_id, order_item_id, revision, amazon_order_id, sku, quantity, cause, reduces_stock)
    select i.account_id, i.order_item_id, coalesce(m.revision, 0) + 1, i.amazon_order_id, i.shop_sku,
           -(s.sold + coalesce(m.moved, 0)),
           case when s.sold + coalesce(m.moved, 0) > 0 and m.revision is null then 'sale'
                when s.sold + coalesce(m.moved, 0) < 0 and (o.status = 'CANCELLED' or s.cancelled) then 'cancellation'
                else 'correction' end,
           exists (select from amzmp.order_hook h
                    where h.account_id = i.account_id and h.channel_id = 0 and h.kind = 'stock')
      from amzmp.orders o
      join amzmp.order_item i on i.account_id = o.account_id and i.amazon_order_id = o.amazon_order_id
      cross join lateral (
            select i.cancellation -> 'cancellationExecution' is not null as cancelled,
                   amzmp._sold_units(o.status, o.fulfilled_by, i.quantity_ordered, i.quantity_fulfilled,
                                     i.quantity_unfulfilled, i.cancellation -> 'cancellationExecution' is not null) as sold
           ) as s
      left join lateral (
            select max(x.revision) as revision, sum(x.quantity)::integer as moved
              from amzmp.movement x
             where x.account_id = i.account_id and x.order_item_id = i.order_item_id
           ) as m on true
     where o.account_id = _settle_movements.account_id and o.amazon_order_id = _settle_movements.amazon_order_id
       and i.shop_sku is not null and s.sold + coalesce(m.moved, 0) <> 0
       and (amzmp._status_rank(o.status) is not null or m.revision is null);
end
$$;

/*
 * What is held back from sale for a line: units ordered and not paid; units sold that are still to be written into the
 * shop's stock; and where amzmp does not write it, units sold until the shop has taken the order over (its delivery
 * function ran) or the order is closed. stock_follows: the shop's stock is written next in this very transaction, so
 * that nothing needs to be held for it.
 */
create function amzmp._settle_reservations(account_id bigint, amazon_order_id text, stock_follows boolean) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    with held as materialized (
        select i.account_id, i.amazon_order_id, i.order_item_id, i.shop_sku, o.status, o.delivered_at, i.claimed,
               greatest(0, amzmp._claimed_units(o.status, o.fulfilled_by, i.quantity_ordered, i.quantity_fulfilled,
                                    i.quantity_unfulfilled, i.cancellation -> 'cancellationExecution' is not null)
                           + m.moved)
               + case when stock_follows then 0 else greatest(0, -m.to_apply) end
               + case when o.delivered_at is null and o.status in ('UNSHIPPED', 'PARTIALLY_SHIPPED')
                      then greatest(0, -m.not_ours) else 0 end as quantity
          from amzmp.orders o
          join amzmp.order_item i on i.account_id = o.account_id and i.amazon_order_id = o.amazon_order_id
          cross join lateral (
                select coalesce(sum(x.quantity), 0)::integer as moved,
                       coalesce(sum(x.quantity) filter (where x.reduces_stock and x.applied_at is null), 0)::integer as to_apply,
                       coalesce(sum(x.quantity) filter (where not x.reduces_stock), 0)::integer as not_ours
                  from amzmp.movement x
                 where x.account_id = i.account_id and x.order_item_id = i.order_item_id) as m
         where o.account_id = _settle_reservations.account_id and o.amazon_order_id = _settle_reservations.amazon_order_id
           and i.shop_sku is not null
    ), kept as (
        insert into amzmp.reservation (account_id, amazon_order_id, order_item_id, sku, quantity)
        select h.account_id, h.amazon_order_id, h.order_item_id, h.shop_sku, h.quantity
          from held h where h.quantity > 0
        on conflict (account_id, amazon_order_id, order_item_id) do update
           set quantity = excluded.quantity, sku = excluded.sku, released_at = null, release_cause = null
         where (reservation.quantity, reservation.sku) is distinct from (excluded.quantity, excluded.sku)
            or reservation.released_at is not null
    )
    update amzmp.reservation r
       set released_at = now(),
           release_cause = case when h.status = 'CANCELLED' then 'cancelled'
                                when h.delivered_at is not null then 'delivered'
                                when h.status = 'SHIPPED' then 'shipped' else 'sold' end
      from held h
     where h.quantity = 0 and r.account_id = h.account_id and r.amazon_order_id = h.amazon_order_id
       and r.order_item_id = h.order_item_id and r.released_at is null;
end
$$;

/*
 * Tell the stock side by how many units Amazon has lowered, or raised, what it offers, in SKU order. Where the line is
 * sold under another SKU than the shop's, Amazon has not touched what we offer: there the desired stock is computed
 * anew and sent.
 */
create function amzmp._settle_claims(account_id bigint, amazon_order_id text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
    changes jsonb;
    linked text[];
    step record;
begin
    with noted as (
        update amzmp.order_item i set claimed = c.claimed
          from (select x.amazon_order_id, x.order_item_id, x.claimed as before, o.purchased_at,
                       amzmp._claimed_units(o.status, o.fulfilled_by, x.quantity_ordered, x.quantity_fulfilled,
                           x.quantity_unfulfilled, x.cancellation -> 'cancellationExecution' is not null) as claimed
                  from amzmp.orders o
                  join amzmp.order_item x on x.account_id = o.account_id and x.amazon_order_id = o.amazon_order_id
                 where o.account_id = acc and o.amazon_order_id = id and x.shop_sku is not null) as c
         where i.account_id = acc and i.amazon_order_id = c.amazon_order_id and i.order_item_id = c.order_item_id
           and c.claimed <> c.before
        returning i.shop_sku, i.shop_sku = i.sku as same, c.claimed - c.before as quantity, c.purchased_at
    )
    select jsonb_agg(jsonb_build_object('sku', n.shop_sku, 'quantity', n.quantity, 'at', n.purchased_at))
               filter (where n.same),
           array_agg(distinct n.shop_sku order by n.shop_sku) filter (where not n.same)
      into changes, linked
      from noted n;

    for step in
        select c.at, array_agg(c.sku order by c.sku) as skus, array_agg(c.quantity order by c.sku) as quantities
          from (select r.at, r.sku, sum(r.quantity)::integer as quantity
                  from jsonb_to_recordset(coalesce(changes, '[]')) as r (sku text, quantity integer, at timestamptz)
                 group by r.at, r.sku) as c
         group by c.at order by c.at
    loop
        perform amzmp._stock_moved(acc, step.skus, step.quantities, step.at);
    end loop;
    if linked is not null then
        perform amzmp._recompute(acc, linked, jsonb_build_object('order', id));
    end if;
end
$$;

-- Held while a line is unknown, released by itself when none is any more. A cancelled order is held for nobody.
create function amzmp._settle_states(account_id bigint, amazon_order_id text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    acc alias for $1;
    id alias for $2;
    o amzmp.orders;
    unknown text;
    wanted text;
begin
    select x.* into strict o from amzmp.orders x where x.account_id = acc and x.amazon_order_id = id;
    select string_agg(distinct i.sku, ', ' order by i.sku) filter (where i.shop_sku is null) into unknown
      from amzmp.order_item i where i.account_id = acc and i.amazon_order_id = id;
    wanted := case when unknown is not null and o.status is distinct from 'CANCELLED' then 'held_unknown_item'
                   else 'imported' end;
    if o.import_state not in ('imported', 'held_unknown_item') or o.import_state = wanted then
        return;
    end if;
    update amzmp.orders x set import_state = wanted where x.account_id = acc and x.amazon_order_id = id;
    if wanted = 'imported' then
        perform amzmp._log(acc, o.channel_id, 'info', 'order', id, 'the order is no longer held');
    else
        perform amzmp._log(acc, o.channel_id, 'warning', 'order', id, 'the order is held, the shop does not know ' || unknown);
        perform amzmp._queue_items(acc, i.sku)
           from amzmp.order_item i
           join amzmp.order_hook h on h.account_id = acc and h.channel_id = 0 and h.kind = 'item' and h.automatic
          where i.account_id = acc and i.amazon_order_id = id and i.shop_sku is null;
    end if;
end
$$;
