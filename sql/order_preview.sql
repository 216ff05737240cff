/*
 * order_preview.sql
 *	  What switching the orders on would pull: Amazon is asked, counted, and nothing is imported.
 *
 * preview_orders asks for the orders that the first poll would ask for, or would with another order_start, page by page. Each
 * page is added to the account's one row in order_preview; a newer preview begins that row anew. What the import would leave
 * out (_wanted_orders, order_take.sql) is counted as seen only.
 */
create table amzmp.order_preview (
    account_id bigint primary key,
    preview_id bigint not null default 0,
    since timestamptz not null,
    placed_since timestamptz,
    state text not null default 'running',
    reason text,
    orders integer not null default 0,
    unknown_orders integer not null default 0,
    to_import integer not null default 0,
    to_send integer not null default 0,
    statuses jsonb not null default '{}',
    oldest timestamptz,
    asked_at timestamptz not null default now(),
    asked_by name not null,
    constraint order_preview_state_check check (state in ('running', 'done', 'failed'))
);

comment on table amzmp.order_preview is 'What switching the orders on would pull, as preview_orders has counted it. Nothing of it was imported.';
comment on column amzmp.order_preview.account_id is 'The account.';
comment on column amzmp.order_preview.preview_id is 'Number of the preview.';
comment on column amzmp.order_preview.since is 'Orders that changed since then were counted.';
comment on column amzmp.order_preview.placed_since is 'Orders placed earlier would not be imported: order_start, or the time that was asked about. Null: only those that are over.';
comment on column amzmp.order_preview.state is 'running; done; failed (see reason).';
comment on column amzmp.order_preview.reason is 'Why it failed.';
comment on column amzmp.order_preview.orders is 'Orders that Amazon has.';
comment on column amzmp.order_preview.unknown_orders is 'Those of them that are not imported yet.';
comment on column amzmp.order_preview.to_import is 'Those of them that would be imported: not here yet, not left out by placed_since, and shipped by whom order_fulfillment says.';
comment on column amzmp.order_preview.to_send is 'Those that would be imported and wait for dispatch by the merchant: finish them before, or they are worked on twice.';
comment on column amzmp.order_preview.statuses is 'How many in each status.';
comment on column amzmp.order_preview.oldest is 'When the oldest of them was placed.';
comment on column amzmp.order_preview.asked_at is 'When it was asked for.';
comment on column amzmp.order_preview.asked_by is 'By whom.';

create function amzmp._preview_orders(account text, since timestamptz default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    acc bigint := (amzmp._account(account)).account_id;
    clock timestamptz := amzmp._now(acc);
    start timestamptz := coalesce(since, amzmp._setting_timestamp(acc, 0, 'order_start'));
    first_look timestamptz := least(coalesce(start,
                                             clock - amzmp._setting_interval(acc, 0, 'order_look_back')),
                                    clock - interval '3 minutes');
    marketplaces text[];
    preview bigint;
begin
    select array_agg(c.marketplace_id order by c.marketplace_id) into marketplaces
      from amzmp.channel c where c.account_id = acc and not c.dropped;
    if marketplaces is null then
        perform amzmp._fail('AZ003', format('account %L has no channel', account), null,
            format('select amzmp.create_channel(''name'', %L, ''DE'');', account));
    end if;
    insert into amzmp.order_preview as p (account_id, preview_id, since, placed_since, asked_by)
    values (acc, 1, first_look, start, amzmp._caller())
    on conflict on constraint order_preview_pkey do update
        set preview_id = p.preview_id + 1, since = excluded.since, placed_since = excluded.placed_since, state = 'running', reason = null,
            orders = 0, unknown_orders = 0, to_import = 0, to_send = 0, statuses = '{}', oldest = null, asked_at = excluded.asked_at, asked_by = excluded.asked_by
    returning p.preview_id into preview;
    perform amzmp._enqueue(acc, 'searchOrders',
        jsonb_build_object(
            'lastUpdatedAfter', amzmp._iso_time(first_look),
            'marketplaceIds', to_jsonb(marketplaces), 'includedData', '["FULFILLMENT"]'::jsonb, 'maxResultsPerPage', 100),
        null, '_handle_preview_orders', null, 50, now(), 0, 'preview', preview::text, jsonb_build_object('role', amzmp._caller(), 'at', now()));
end
$$;

select amzmp._expose('amzmp._preview_orders(text, timestamptz)', 'amzmp_operator',
    'Counts at Amazon what switching the orders on would pull, or would with another order_start (since), and imports nothing of it. The counts are in amzmp.order_preview.');

create function amzmp._handle_preview_orders(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
    asked amzmp.request;
    token text;
begin
    -- a loop, because each page of one preview asks for the next
    foreach answer in array answers loop
        asked := answer.request;
        token := nullif(answer.body #>> '{pagination,nextToken}', '');
        if answer.outcome = 'success' then
            perform amzmp._count_preview(asked.account_id, asked.subject::bigint, answer.body -> 'orders', token is null);
            if token is not null then
                perform amzmp._enqueue(asked.account_id, 'searchOrders', asked.params || jsonb_build_object('paginationToken', token),
                    null, '_handle_preview_orders', null, 50, now(), 0, 'preview', asked.subject, asked.cause);
            end if;
        else
            update amzmp.order_preview p
               set state = 'failed', reason = coalesce(answer.error_message, answer.error_code, 'no answer')
             where p.account_id = asked.account_id and p.preview_id::text = asked.subject;
        end if;
    end loop;
end
$$;

-- Add a page to a preview, unless a newer one has begun.
create function amzmp._count_preview(account_id bigint, preview_id bigint, docs jsonb, is_last boolean) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    with arrived as materialized (
        select coalesce(d #>> '{fulfillment,fulfillmentStatus}', 'unknown') as status, d #>> '{fulfillment,fulfilledBy}' as side,
               d #>> '{salesChannel,marketplaceId}' as place, amzmp._time(d ->> 'createdTime') as created,
               o.amazon_order_id is not null as known
          from jsonb_array_elements(amzmp._array(docs)) as d
          left join amzmp.orders o on o.account_id = _count_preview.account_id and o.amazon_order_id = d ->> 'orderId'
    ), page as materialized (
        select a.*, not a.known and amzmp._order_comes(a.created, a.status, a.side, v.placed_since, s.since, s.side) as comes
          from arrived a
          join amzmp._order_places(_count_preview.account_id, array(select x.place from arrived x)) s
            on s.place is not distinct from a.place
          join amzmp.order_preview v on v.account_id = _count_preview.account_id
    )
    update amzmp.order_preview p
       set state = case when is_last then 'done' else 'running' end,
           orders = p.orders + (select count(*) from page),
           unknown_orders = p.unknown_orders + (select count(*) from page g where not g.known),
           to_import = p.to_import + (select count(*) from page g where g.comes),
           to_send = p.to_send + (select count(*) from page g
                                   where g.comes and g.status in ('UNSHIPPED', 'PARTIALLY_SHIPPED') and g.side is distinct from 'AMAZON'),
           oldest = least(p.oldest, (select min(g.created) from page g)),
           statuses = p.statuses || coalesce((
                select jsonb_object_agg(s.status, coalesce((p.statuses ->> s.status)::integer, 0) + s.orders)
                  from (select g.status, count(*) as orders from page g group by g.status) as s), '{}')
     where p.account_id = _count_preview.account_id and p.preview_id = _count_preview.preview_id;
$$;
