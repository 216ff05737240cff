/*
 * refund.sql
 *	  Giving money back: refunds by line and part, each under a key of the shop's, none of them ever sent twice.
 *
 *		queued ─▶ sent ─▶ accepted ─▶ booked
 *		   ▲        ├────▶ refused (see reason)
 *		   └────────┤ the feed was cancelled, so nothing of it was applied
 *		            └────▶ unknown ─▶ booked, or left to a person (resend_refund)
 *
 * Amazon does what a refund says each time that it is sent, and has no key of its own against that. So a refund has one
 * here, such as the number of the shop's credit memo: asking for it again changes nothing. It goes by a feed of type
 * POST_PAYMENT_ADJUSTMENT_DATA, is in one feed only, and is never queued again by itself unless Amazon has surely not seen
 * it. Where that is not known (the feed was fatal or stuck, or its creation was not answered) Amazon's books decide: the order's transactions are read
 * until the refund is found among them (finance.sql).
 */
create table amzmp.refund (
    account_id bigint not null,
    amazon_order_id text not null,
    refund_key text not null,
    state text not null default 'queued',
    reason text,
    code text not null,
    currency text not null,
    total numeric not null,
    asked jsonb,
    feed_id bigint,
    tries smallint not null default 0,
    created_by name not null,
    created_at timestamptz not null default now(),
    sent_at timestamptz,
    ended_at timestamptz,
    booked_at timestamptz,
    primary key (account_id, amazon_order_id, refund_key),
    constraint refund_key_check check (refund_key ~ '^[0-9A-Za-z._-]{1,40}$'),
    constraint refund_state_check check (state in ('queued', 'sent', 'accepted', 'refused', 'unknown', 'booked')),
    constraint refund_total_check check (total > 0)
);

create index refund_open on amzmp.refund (state, account_id) where state <> 'booked';

comment on table amzmp.refund is 'Refunds that the shop has ordered, and what became of them. Their parts are in amzmp.refund_part.';
comment on column amzmp.refund.account_id is 'The account that sold.';
comment on column amzmp.refund.amazon_order_id is 'The order.';
comment on column amzmp.refund.refund_key is 'The shop''s key of the refund within the order, such as the number of its credit memo.';
comment on column amzmp.refund.state is 'queued, sent, accepted (by Amazon), booked (seen in Amazon''s books), refused (see reason), unknown (it may have been applied; Amazon''s books decide).';
comment on column amzmp.refund.reason is 'Why it was refused, or is not known.';
comment on column amzmp.refund.code is 'Amazon''s code of the reason for the refund.';
comment on column amzmp.refund.currency is 'Currency of its amounts.';
comment on column amzmp.refund.total is 'What the buyer gets in all.';
comment on column amzmp.refund.asked is 'The lines as they were asked for; null: everything that was left.';
comment on column amzmp.refund.feed_id is 'The feed that carried it.';
comment on column amzmp.refund.tries is 'How many feeds it was in. More than one only where the one before was never seen by Amazon, or a person said so.';
comment on column amzmp.refund.created_by is 'Who ordered it.';
comment on column amzmp.refund.created_at is 'When.';
comment on column amzmp.refund.sent_at is 'When it was written into a feed.';
comment on column amzmp.refund.ended_at is 'When Amazon''s verdict came.';
comment on column amzmp.refund.booked_at is 'When it was found in Amazon''s books.';

create table amzmp.refund_part (
    account_id bigint not null,
    amazon_order_id text not null,
    refund_key text not null,
    order_item_id text not null,
    type text not null,
    amount numeric not null,
    primary key (account_id, amazon_order_id, refund_key, order_item_id, type),
    foreign key (account_id, amazon_order_id, refund_key) references amzmp.refund on delete cascade
);

comment on table amzmp.refund_part is 'What a refund gives back, by order line and part.';
comment on column amzmp.refund_part.account_id is 'The account that sold.';
comment on column amzmp.refund_part.amazon_order_id is 'The order.';
comment on column amzmp.refund_part.refund_key is 'The refund.';
comment on column amzmp.refund_part.order_item_id is 'The order line.';
comment on column amzmp.refund_part.type is 'Amazon''s word for the part: Principal, Tax, Shipping, ShippingTax, GiftWrap …';
comment on column amzmp.refund_part.amount is 'The amount for the whole line; negative where it is kept back (RestockingFee).';

create function amzmp._refund_types()
    returns text[]
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select '{Principal,Shipping,Tax,ShippingTax,RestockingFee,RestockingFeeTax,GiftWrap,GiftWrapTax,Surcharge,ReturnShipping,Goodwill,ExportCharge,COD,CODTax,Other,FreeReplacementReturnShipping}'::text[]
$$;

create function amzmp._refund_codes()
    returns text[]
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select '{NoInventory,CustomerReturn,GeneralAdjustment,CouldNotShip,DifferentItem,Abandoned,CustomerCancel,PriceError,ProductOutofStock,CustomerAddressIncorrect,Exchange,Other,CarrierCreditDecision,RiskAssessmentInformationNotValid,CarrierCoverageFailure,TransactionRecord,Undeliverable,RefusedDelivery}'::text[]
$$;

-- What was paid of an order, by line and part, and what of it may still be given back: less the refunds that were not refused.
create function amzmp._refundable(account_id bigint, amazon_order_id text)
    returns table (order_item_id text, type text, units integer, paid numeric, amount numeric)
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select p.order_item_id, p.type, p.units, p.paid, p.paid - coalesce(g.amount, 0)
    from (
        select i.order_item_id, v.type, i.quantity_ordered as units, v.paid
        from amzmp.order_item as i
        cross join lateral (values
            ('Principal', i.item_price - abs(coalesce(i.discount, 0))), ('Tax', i.item_tax), ('Shipping', i.shipping_price),
            ('ShippingTax', i.shipping_tax), ('GiftWrap', i.gift_wrap_price)
        ) as v (type, paid)
        where (i.account_id, i.amazon_order_id) = (_refundable.account_id, _refundable.amazon_order_id)
            and v.paid <> 0
    ) as p
    left join lateral (
        select sum(x.amount) as amount
        from amzmp.refund_part as x
        join amzmp.refund as r using (account_id, amazon_order_id, refund_key)
        where (x.account_id, x.amazon_order_id) = (_refundable.account_id, _refundable.amazon_order_id)
            and (x.order_item_id, x.type) = (p.order_item_id, p.type)
            and r.state <> 'refused'
    ) as g on true;
end;

/*
 * The share of some units in what was paid for a line, in whole cents: together with the units given back before it is what is due
 * for all of them, so that refunds unit by unit add up to what was paid. Never more than what is left.
 */
create function amzmp._refund_share(paid numeric, remaining numeric, ordered integer, units integer, decimals integer)
    returns numeric
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select case
            when units >= ordered then remaining
            else least(remaining, case
                    when round(paid * b.units / ordered, decimals) = paid - remaining
                    then round(paid * (b.units + _refund_share.units) / ordered, decimals) - (paid - remaining)
                    else round(paid * _refund_share.units / ordered, decimals)
                end)
        end
    from (select round((paid - remaining) * ordered / paid) as units) as b;
end;

-- The parts that a caller gives, checked: one row a line and type. Error AZ202 says what is wrong.
create function amzmp._refund_parts(o amzmp.orders, items jsonb)
    returns table (order_item_id text, type text, amount numeric)
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    decimals constant integer := coalesce((
            select m.currency_decimals from amzmp.marketplace as m where m.marketplace_id = o.marketplace_id
        ), 2);
    problem text;
begin
    if items is null then
        return query
        select r.order_item_id, r.type, r.amount from amzmp._refundable(o.account_id, o.amazon_order_id) as r where r.amount <> 0;
        return;
    elsif jsonb_typeof(items) <> 'array' or jsonb_array_length(items) = 0
        or jsonb_path_exists(items, '$[*] ? (@.type() != "object")') then
        perform amzmp._fail('AZ202', 'items is no array of order lines', null,
            'For example: [{"orderItemId": "12345678901234", "Principal": 24.90, "Tax": 4.73}], or [{"orderItemId": "12345678901234", "quantity": 1}].');
    end if;
    select case
            when i.order_item_id is null then format('order %s has no line %L', o.amazon_order_id, x.id)
            when x.type is null then format('line %s has neither amounts nor a quantity', x.id)
            when x.type = 'quantity' and coalesce(amzmp._count(to_jsonb(x.value)), 0) not between 1 and i.quantity_ordered
            then format('%s is no quantity of line %s, %s were ordered', x.value, x.id, i.quantity_ordered)
            when x.type = 'quantity' then null
            when x.type <> all (amzmp._refund_types()) then format('Amazon knows no part %L of a refund', x.type)
            when x.value !~ '^-?[0-9]{1,12}([.][0-9]{1,6})?$' then format('%s is no amount', x.value)
            when x.value::numeric <> round(x.value::numeric, decimals) then format('%s has more than %s decimals', x.value, decimals)
        end
    into problem
    from (
        select e ->> 'orderItemId' as id, k.type, k.value
        from jsonb_array_elements(items) as e
        left join lateral jsonb_each_text(e - 'orderItemId') as k (type, value) on true
    ) as x
    left join amzmp.order_item as i
        on (i.account_id, i.amazon_order_id, i.order_item_id) = (o.account_id, o.amazon_order_id, x.id)
    order by 1 nulls last
    limit 1;
    if problem is not null then
        perform amzmp._fail('AZ202', problem, null,
            format('Parts are %s, or quantity; amzmp.order_item lists the lines.', array_to_string(amzmp._refund_types(), ', ')));
    end if;
    return query
    with given as (
        select e ->> 'orderItemId' as id, k.type, k.value
        from jsonb_array_elements(items) as e
        cross join lateral jsonb_each_text(e - 'orderItemId') as k (type, value)
    )
    select x.id, x.type, sum(x.amount)
    from (
        select g.id, g.type, g.value::numeric as amount
        from given as g
        where g.type <> 'quantity'
        union all
        select r.order_item_id, r.type, amzmp._refund_share(r.paid, r.amount, r.units, u.units::integer, decimals)
        from (
            select g.id, sum(g.value::integer) as units from given as g where g.type = 'quantity' group by g.id
        ) as u
        join amzmp._refundable(o.account_id, o.amazon_order_id) as r on r.order_item_id = u.id
    ) as x
    group by x.id, x.type
    having sum(x.amount) <> 0;
end
$$;

-- Why an order cannot be refunded by so much. No message: it can.
create function amzmp._refund_obstacle(o amzmp.orders, total numeric, out message text, out hint text)
    returns record
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    given constant numeric := (
        select coalesce(sum(r.total), 0)
        from amzmp.refund as r
        where (r.account_id, r.amazon_order_id) = (o.account_id, o.amazon_order_id)
            and r.state <> 'refused'
    );
begin
    if o.status is null or o.status in ('PENDING', 'PENDING_AVAILABILITY') or o.currency is null then
        message := format('order %s is not paid', o.amazon_order_id);
        hint := 'A pending order has nothing to give back.';
    elsif o.status = 'CANCELLED' then
        message := format('order %s is cancelled', o.amazon_order_id);
        hint := 'Amazon has given everything back by itself.';
    elsif o.channel_id = 0 then
        message := format('the marketplace of order %s is no channel', o.amazon_order_id);
        hint := 'Create one with amzmp.create_channel(name, account, marketplace).';
    elsif coalesce(total, 0) <= 0 then
        message := 'the refund gives nothing back';
        hint := 'Give amounts above zero; what is left to give back is the order''s amounts less amzmp.refund.';
    elsif given + total > o.grand_total then
        message := format('%s %s cannot be given back', total, o.currency);
        hint := format('The order was %s %s, of which %s are given back already (amzmp.refund).', o.grand_total, o.currency, given);
    end if;
end
$$;

create function amzmp._refund_order(account text, amazon_order_id text, key text, items jsonb default null, reason text default null)
    returns text
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    o constant amzmp.orders := amzmp._order(account, amazon_order_id);
    code constant text := coalesce(reason, case when o.status in ('SHIPPED', 'PARTIALLY_SHIPPED') then 'CustomerReturn' else 'NoInventory' end);
    old amzmp.refund;
    types text[];
    lines text[];
    amounts numeric[];
    obstacle record;
begin
    if coalesce(key !~ '^[0-9A-Za-z._-]{1,40}$', true) then
        perform amzmp._fail('AZ202', format('%L is no key of a refund', key), 'Up to 40 letters, digits, dots, hyphens and underscores.',
            'Use what names the refund in the shop, such as the number of the credit memo: the same key is never sent twice.');
    elsif code <> all (amzmp._refund_codes()) then
        perform amzmp._fail('AZ202', format('Amazon knows no reason %L for refunds', code), null,
            format('Give one of %s.', array_to_string(amzmp._refund_codes(), ', ')));
    end if;
    select r.* into old
    from amzmp.refund as r
    where (r.account_id, r.amazon_order_id, r.refund_key) = (o.account_id, o.amazon_order_id, key);
    if old.refund_key is not null and (items is null or items = old.asked) then
        return old.state;
    end if;
    select array_agg(p.order_item_id), array_agg(p.type), array_agg(p.amount) into lines, types, amounts
    from amzmp._refund_parts(o, items) as p;
    if old.refund_key is not null then
        return amzmp._same_refund(old, lines, types, amounts);
    end if;
    obstacle := amzmp._refund_obstacle(o, (select sum(x) from unnest(amounts) as x));
    if obstacle.message is not null then
        perform amzmp._fail('AZ203', obstacle.message, null, obstacle.hint);
    end if;
    insert into amzmp.refund (account_id, amazon_order_id, refund_key, code, currency, total, asked, created_by)
    values (o.account_id, o.amazon_order_id, key, code, o.currency, (select sum(x) from unnest(amounts) as x), items, amzmp._caller());
    insert into amzmp.refund_part (account_id, amazon_order_id, refund_key, order_item_id, type, amount)
    select o.account_id, o.amazon_order_id, key, x.line, x.type, x.amount
    from unnest(lines, types, amounts) as x (line, type, amount);
    perform amzmp._log(o.account_id, o.channel_id, 'notice', 'order', o.amazon_order_id, format('refund %s ordered', key),
        jsonb_build_object('role', amzmp._caller(), 'code', code));
    perform amzmp._plan_order_feed(o.account_id, o.channel_id, 'POST_PAYMENT_ADJUSTMENT_DATA');
    return 'queued';
end
$$;

select amzmp._expose('amzmp._refund_order(text, text, text, jsonb, text)', 'amzmp_operator',
    'Gives money back to the buyer of an order: everything that is left, or the parts given as [{"orderItemId": …, "Principal": …, "Tax": …}], or all parts of some units: [{"orderItemId": …, "quantity": 1}]. The key names the refund in the shop; asking for it again changes nothing. Reason: Amazon''s code; default CustomerReturn for shipped orders, else NoInventory. Returns its state; progress is in amzmp.refund.');

-- A key that is used already must mean the same. Returns the state of the refund.
create function amzmp._same_refund(old amzmp.refund, lines text[], types text[], amounts numeric[])
    returns text
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if exists (
        select
        from (
            select p.order_item_id, p.type, p.amount
            from amzmp.refund_part as p
            where (p.account_id, p.amazon_order_id, p.refund_key) = (old.account_id, old.amazon_order_id, old.refund_key)
        ) as p
        full join unnest(lines, types, amounts) as x (line, type, amount) on (x.line, x.type) = (p.order_item_id, p.type)
        where p.amount is distinct from x.amount
    ) then
        perform amzmp._fail('AZ203', format('refund %s of order %s was ordered with other amounts', old.refund_key, old.amazon_order_id),
            format('It is %s.', old.state), 'Another refund needs another key.');
    end if;
    return old.state;
end
$$;

create function amzmp._resend_refund(account text, amazon_order_id text, key text, not_applied boolean default false)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    o constant amzmp.orders := amzmp._order(account, amazon_order_id);
    r amzmp.refund;
    obstacle record;
begin
    select x.* into r
    from amzmp.refund as x
    where (x.account_id, x.amazon_order_id, x.refund_key) = (o.account_id, o.amazon_order_id, key)
    for update;
    if r.refund_key is null then
        perform amzmp._fail('AZ201', format('order %s has no refund %L', o.amazon_order_id, key), null, 'amzmp.refund lists them.');
    elsif r.state not in ('refused', 'unknown') then
        perform amzmp._fail('AZ203', format('refund %s is %s', key, r.state), null, 'Only what was refused, or is not known, is sent again.');
    elsif r.state = 'unknown' and not not_applied then
        perform amzmp._fail('AZ203', format('nobody knows whether Amazon has applied refund %s', key), coalesce(r.reason || '.', null),
            'Look into Seller Central or amzmp.refund_booking. If it was not applied, call this with not_applied => true; sent twice, Amazon pays twice.');
    elsif r.state = 'refused' then
        obstacle := amzmp._refund_obstacle(o, r.total);
        if obstacle.message is not null then
            perform amzmp._fail('AZ203', obstacle.message, null, obstacle.hint);
        end if;
    end if;
    update amzmp.refund as x
    set state = 'queued',
        reason = null,
        ended_at = null
    where (x.account_id, x.amazon_order_id, x.refund_key) = (o.account_id, o.amazon_order_id, key);
    perform amzmp._log(o.account_id, o.channel_id, 'notice', 'order', o.amazon_order_id, format('refund %s is sent again', key),
        jsonb_build_object('role', amzmp._caller(), 'was', r.state));
    perform amzmp._plan_order_feed(o.account_id, o.channel_id, 'POST_PAYMENT_ADJUSTMENT_DATA');
end
$$;

select amzmp._expose('amzmp._resend_refund(text, text, text, boolean)', 'amzmp_operator',
    'Sends a refund again that Amazon refused; or one of which nobody knows, when the caller has seen that it was not applied.');
