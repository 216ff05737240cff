/*
 * finance.sql
 *	  What Amazon has booked: payments, refunds and fees, order by order.
 *
 * Finances listTransactions is read by the flow get_transactions, from its last end back by three days, because Amazon
 * shows a transaction up to two days after its date; and for one order by fetch_transactions. A transaction is known by
 * Amazon's id, so what is read twice is stored once, and its latest state counts (DEFERRED becomes RELEASED). Amounts are
 * numeric all the way. What is booked is compared with the refunds that were sent (refund.sql).
 */
insert into amzmp.flow (flow, scope, every, on_by_default, capability, title, description)
values
    ('get_transactions', 'account', '37 */2 * * *', false, 'orders', 'Read transactions',
        'Reads what Amazon has booked: payments, refunds and fees. Needs the role Finance and Accounting.');

create table amzmp.finance_cursor (
    account_id bigint primary key,
    watermark timestamptz,
    reading_since timestamptz
);

comment on table amzmp.finance_cursor is 'How far each account''s transactions have been read.';
comment on column amzmp.finance_cursor.account_id is 'The account.';
comment on column amzmp.finance_cursor.watermark is 'Up to when; null: nothing was read yet.';
comment on column amzmp.finance_cursor.reading_since is 'Up to when the reading under way reads, by Amazon''s clock: its begin, or sooner where much is to be caught up with; null: none is.';

create table amzmp.finance_transaction (
    account_id bigint not null,
    transaction_id text not null,
    type text,
    status text,
    description text,
    posted_at timestamptz,
    currency text,
    total numeric,
    amazon_order_id text,
    refund_id text,
    marketplace_id text,
    identifiers jsonb not null default '{}',
    items jsonb not null default '[]',
    read_at timestamptz not null default now(),
    primary key (account_id, transaction_id)
);

create index finance_transaction_order on amzmp.finance_transaction (amazon_order_id, account_id);
create index finance_transaction_posted on amzmp.finance_transaction (posted_at);

comment on table amzmp.finance_transaction is 'What Amazon has booked. The parts of each amount are in amzmp.finance_part.';
comment on column amzmp.finance_transaction.account_id is 'The account.';
comment on column amzmp.finance_transaction.transaction_id is 'Amazon''s number of it.';
comment on column amzmp.finance_transaction.type is 'Shipment, Refund, or what else Amazon calls it.';
comment on column amzmp.finance_transaction.status is 'DEFERRED, RELEASED or DEFERRED_RELEASED.';
comment on column amzmp.finance_transaction.description is 'Amazon''s words, such as Order Payment.';
comment on column amzmp.finance_transaction.posted_at is 'When it was posted.';
comment on column amzmp.finance_transaction.currency is 'Currency of its amounts.';
comment on column amzmp.finance_transaction.total is 'What it changes in the account''s balance: fees are subtracted already.';
comment on column amzmp.finance_transaction.amazon_order_id is 'The order, where it is about one.';
comment on column amzmp.finance_transaction.refund_id is 'Amazon''s number of the refund.';
comment on column amzmp.finance_transaction.marketplace_id is 'The marketplace.';
comment on column amzmp.finance_transaction.identifiers is 'All related numbers, by Amazon''s names.';
comment on column amzmp.finance_transaction.items is 'Amazon''s details by item.';
comment on column amzmp.finance_transaction.read_at is 'When it was last read.';

create table amzmp.finance_part (
    account_id bigint not null,
    transaction_id text not null,
    path text not null,
    amount numeric not null,
    leaf boolean not null,
    primary key (account_id, transaction_id, path)
);

comment on table amzmp.finance_part is 'The parts of transactions, as deep as Amazon tells them.';
comment on column amzmp.finance_part.account_id is 'The account.';
comment on column amzmp.finance_part.transaction_id is 'The transaction.';
comment on column amzmp.finance_part.path is 'What it is, from the outside in: Expenses/Amazon Fees/Commission.';
comment on column amzmp.finance_part.amount is 'The amount, negative where it is taken.';
comment on column amzmp.finance_part.leaf is 'Has it no parts itself? The leaves of a transaction add up to its total.';

-- Is a part of a transaction a fee of Amazon's?
create function amzmp.is_fee(path text)
    returns boolean
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select path ~* '(fee|expense|commission)'
$$;

comment on function amzmp.is_fee(text) is 'Is a part of a transaction (amzmp.finance_part.path) a fee of Amazon''s?';

-- Amazon's total of a transaction counts. What its parts leave unexplained (some have none) is no fee, unless it is called one.
create view amzmp.order_finance with (security_invoker = true) as
select a.name as account, t.amazon_order_id, o.order_number, t.currency, count(*) as transactions,
    sum(x.net - x.fees) filter (where t.type is distinct from 'Refund') as sales,
    sum(x.net - x.fees) filter (where t.type = 'Refund') as refunds,
    sum(x.fees) as fees, sum(x.net) as net, max(t.posted_at) as last_posted_at, t.account_id
from amzmp.finance_transaction as t
join amzmp.account as a on a.account_id = t.account_id
left join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (t.account_id, t.amazon_order_id)
cross join lateral (
    select sum(p.amount) as parts, coalesce(sum(p.amount) filter (where amzmp.is_fee(p.path)), 0) as fees
    from amzmp.finance_part as p
    where (p.account_id, p.transaction_id) = (t.account_id, t.transaction_id)
        and p.leaf
) as p
cross join lateral (
    select coalesce(t.total, p.parts, 0) as net,
        case when p.parts is null and amzmp.is_fee(t.type) then coalesce(t.total, 0) else p.fees end as fees
) as x
where t.amazon_order_id is not null
group by a.name, t.account_id, t.amazon_order_id, o.order_number, t.currency;

comment on view amzmp.order_finance is 'What Amazon has booked for each order: sales, refunds, fees, and what is left.';
comment on column amzmp.order_finance.account is 'The account that sold.';
comment on column amzmp.order_finance.amazon_order_id is 'The order.';
comment on column amzmp.order_finance.order_number is 'Its number by the format of the account; null where it was not imported.';
comment on column amzmp.order_finance.currency is 'The currency.';
comment on column amzmp.order_finance.transactions is 'How many transactions.';
comment on column amzmp.order_finance.sales is 'What came in, before fees.';
comment on column amzmp.order_finance.refunds is 'What was given back; negative.';
comment on column amzmp.order_finance.fees is 'What Amazon took; negative.';
comment on column amzmp.order_finance.net is 'What is left of all.';
comment on column amzmp.order_finance.last_posted_at is 'When the last of it was posted.';
comment on column amzmp.order_finance.account_id is 'The account''s id.';

create view amzmp.order_fee with (security_invoker = true) as
select a.name as account, t.amazon_order_id, regexp_replace(p.path, '^.*/', '') as fee, p.path, t.currency, sum(p.amount) as amount,
    t.account_id
from amzmp.finance_transaction as t
join amzmp.account as a on a.account_id = t.account_id
join amzmp.finance_part as p on (p.account_id, p.transaction_id) = (t.account_id, t.transaction_id) and p.leaf
where t.amazon_order_id is not null
    and amzmp.is_fee(p.path)
group by a.name, t.account_id, t.amazon_order_id, p.path, t.currency;

comment on view amzmp.order_fee is 'Amazon''s fees for each order, by kind.';
comment on column amzmp.order_fee.account is 'The account that sold.';
comment on column amzmp.order_fee.amazon_order_id is 'The order.';
comment on column amzmp.order_fee.fee is 'The fee, such as Commission.';
comment on column amzmp.order_fee.path is 'Where it stands in Amazon''s breakdown.';
comment on column amzmp.order_fee.currency is 'The currency.';
comment on column amzmp.order_fee.amount is 'The amount; negative, unless it was given back.';
comment on column amzmp.order_fee.account_id is 'The account''s id.';

/*
 * Reading.
 */

create function amzmp._request_transactions(account_id bigint, amazon_order_id text, cause jsonb)
    returns bigint
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._enqueue(_request_transactions.account_id, 'listTransactions',
        jsonb_build_object('relatedIdentifierName', 'ORDER_ID', 'relatedIdentifierValue', _request_transactions.amazon_order_id),
        null, '_handle_transactions', null, 80, now(), 0, 'transactions', _request_transactions.amazon_order_id,
        _request_transactions.cause);
end;

create function amzmp._fetch_transactions(account text, amazon_order_id text)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    acc constant bigint := (amzmp._account(account)).account_id;
begin
    if amazon_order_id is null or amazon_order_id !~ '^[0-9A-Za-z-]{1,50}$' then
        perform amzmp._fail('AZ202', format('%L is not an Amazon order number', amazon_order_id), null,
            'Amazon''s order numbers look like 403-1234567-8765432.');
    end if;
    return amzmp._request_transactions(acc, amazon_order_id, jsonb_build_object('role', amzmp._caller(), 'at', now()));
end
$$;

select amzmp._expose('amzmp._fetch_transactions(text, text)', 'amzmp_operator',
    'Reads now what Amazon has booked for an order. Returns the id of the request.');

-- Of which of these accounts Amazon may have booked something. Who has no order here is asked about once a day: there are fees.
create function amzmp._due_get_transactions(account_ids bigint[])
    returns table (account_id bigint, channel_id bigint)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select a.id, 0::bigint
    from unnest(account_ids) as a (id)
    where exists (select from amzmp.orders as o where o.account_id = a.id)
        or not exists (
            select
            from amzmp.finance_cursor as c
            where c.account_id = a.id
                and c.watermark > amzmp._now(a.id) - interval '1 day'
        );
end
$$;

create function amzmp._flow_get_transactions(account_id bigint, channel_id bigint, flow_run_id bigint)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc alias for $1;
    clock constant timestamptz := amzmp._now(acc);
    cause constant jsonb := jsonb_build_object('flow_run', flow_run_id);
    -- of a longer window Amazon shows nothing; the rest comes with the next runs
    longest constant interval := interval '170 days';
    since timestamptz;
begin
    insert into amzmp.finance_cursor (account_id) values (acc) on conflict do nothing;
    perform from amzmp.finance_cursor as c where c.account_id = acc for update;
    perform amzmp._request_transactions(r.account_id, r.amazon_order_id, cause) from amzmp._refunds_to_look_for(acc) as r;
    if exists (
        select
        from amzmp.request as r
        where (r.account_id, r.subject_kind, r.subject) = (acc, 'transactions', '')
    ) then
        return;
    end if;
    update amzmp.finance_cursor as c
    set reading_since = least(clock, c.watermark - interval '3 days' + longest)
    where c.account_id = acc
    returning coalesce(c.watermark, clock - interval '27 days') - interval '3 days' into since;
    perform amzmp._enqueue(acc, 'listTransactions', jsonb_strip_nulls(jsonb_build_object('postedAfter', amzmp._iso_time(since),
                'postedBefore', case when since + longest < clock then amzmp._iso_time(since + longest) end)), null,
        '_handle_transactions', null, 80, now(), 0, 'transactions', '', cause);
end
$$;

-- All parts of the breakdowns of one transaction, with their paths; what comes twice is added up.
create function amzmp._finance_parts(breakdowns jsonb)
    returns table (path text, amount numeric, leaf boolean)
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    with recursive part as (
        select b ->> 'breakdownType' as path, b
        from jsonb_array_elements(amzmp._array(breakdowns)) as b
        union all
        select p.path || '/' || (c ->> 'breakdownType'), c
        from part as p
        cross join lateral jsonb_array_elements(amzmp._array(p.b -> 'breakdowns')) as c
    )
    select coalesce(p.path, '?'), sum((p.b #>> '{breakdownAmount,currencyAmount}')::numeric),
        bool_and(jsonb_array_length(amzmp._array(p.b -> 'breakdowns')) = 0)
    from part as p
    where jsonb_typeof(p.b #> '{breakdownAmount,currencyAmount}') = 'number'
    group by coalesce(p.path, '?')
$$;

-- Store transactions as Amazon shows them; returns the orders that they are about.
create function amzmp._store_transactions(account_id bigint, docs jsonb)
    returns text[]
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    acc alias for $1;
    about text[];
begin
    with given as materialized (
        select distinct on (t ->> 'transactionId') t,
            (
                select coalesce(jsonb_object_agg(i ->> 'relatedIdentifierName', i ->> 'relatedIdentifierValue'), '{}')
                from jsonb_array_elements(amzmp._array(t -> 'relatedIdentifiers')) as i
                where i ->> 'relatedIdentifierName' is not null
            ) as ids
        from jsonb_array_elements(amzmp._array(docs)) as t
        where t ->> 'transactionId' is not null
        order by t ->> 'transactionId'
    ), stored as (
        insert into amzmp.finance_transaction as x (account_id, transaction_id, type, status, description, posted_at, currency,
            total, amazon_order_id, refund_id, marketplace_id, identifiers, items)
        select acc, g.t ->> 'transactionId', g.t ->> 'transactionType', upper(g.t ->> 'transactionStatus'), g.t ->> 'description',
            amzmp._time(g.t ->> 'postedDate'), g.t #>> '{totalAmount,currencyCode}',
            case
                when jsonb_typeof(g.t #> '{totalAmount,currencyAmount}') = 'number'
                then (g.t #>> '{totalAmount,currencyAmount}')::numeric
            end,
            g.ids ->> 'ORDER_ID', g.ids ->> 'REFUND_ID', g.t #>> '{marketplaceDetails,marketplaceId}', g.ids,
            amzmp._array(g.t -> 'items')
        from given as g
        on conflict on constraint finance_transaction_pkey do update
        set type = excluded.type,
            status = excluded.status,
            currency = excluded.currency,
            total = excluded.total,
            posted_at = excluded.posted_at,
            identifiers = excluded.identifiers,
            items = excluded.items,
            read_at = excluded.read_at
        returning x.amazon_order_id
    ), parts as (
        insert into amzmp.finance_part as x (account_id, transaction_id, path, amount, leaf)
        select acc, g.t ->> 'transactionId', p.path, p.amount, p.leaf
        from given as g
        cross join lateral amzmp._finance_parts(g.t -> 'breakdowns') as p
        on conflict on constraint finance_part_pkey do update
        set amount = excluded.amount,
            leaf = excluded.leaf
    ), gone as (
        delete from amzmp.finance_part as x
        using given as g
        where (x.account_id, x.transaction_id) = (acc, g.t ->> 'transactionId')
            and not exists (select from amzmp._finance_parts(g.t -> 'breakdowns') as p where p.path = x.path)
    )
    select array_agg(distinct s.amazon_order_id) filter (where s.amazon_order_id is not null) into about from stored as s;
    return about;
end
$$;

-- A page of transactions: store it, ask for the next, or note how far it came.
create function amzmp._handle_transactions(answers amzmp.answer_row[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    a amzmp.answer_row;
    acc bigint;
    token text;
begin
    -- a loop, because each page leads to another
    foreach a in array answers
    loop
        acc := (a.request).account_id;
        if a.outcome <> 'success' then
            perform amzmp._log(acc, 0, 'warning', 'transactions', (a.request).subject, 'transactions could not be read',
                jsonb_build_object('status', a.status, 'code', a.error_code));
            continue;
        end if;
        perform amzmp._settle_bookings(acc, amzmp._store_transactions(acc, a.body #> '{payload,transactions}'));
        token := nullif(a.body #>> '{payload,nextToken}', '');
        if token is not null then
            perform amzmp._enqueue(acc, 'listTransactions', (a.request).params || jsonb_build_object('nextToken', token), null,
                '_handle_transactions', null, 80, now(), 0, 'transactions', (a.request).subject, (a.request).cause);
        elsif (a.request).subject = '' then
            update amzmp.finance_cursor as c
            set watermark = greatest(c.watermark, c.reading_since - interval '2 minutes'),
                reading_since = null
            where c.account_id = acc;
        end if;
    end loop;
end
$$;

comment on function amzmp._handle_transactions(amzmp.answer_row[]) is 'Inner: a page of transactions.';
