/*
 * refund_feed.sql
 *	  Refunds on their way: the feed that carries them, Amazon's verdict, and what Amazon's books say in the end.
 */

-- A refund as Amazon's message; the subject is the order and the key. Amounts are the line's, with a point.
create function amzmp._adjustment_message(account_id bigint, message_id integer, subject text)
    returns text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select xmlelement(name "Message", xmlelement(name "MessageID", message_id),
            xmlelement(name "OrderAdjustment", xmlforest(r.amazon_order_id as "AmazonOrderID"),
                (
                    select xmlagg(xmlelement(name "AdjustedItem",
                            xmlforest(l.order_item_id as "AmazonOrderItemCode",
                                r.refund_key || '-' || l.position as "MerchantAdjustmentItemID", r.code as "AdjustmentReason"),
                            xmlelement(name "ItemPriceAdjustments", l.components)) order by l.position)
                    from (
                        select i.order_item_id, i.position,
                            xmlagg(xmlelement(name "Component", xmlelement(name "Type", p.type),
                                xmlelement(name "Amount", xmlattributes(r.currency as currency), p.amount)) order by t.rank) as components
                        from amzmp.refund_part as p
                        join amzmp.order_item as i using (account_id, amazon_order_id, order_item_id)
                        join unnest(amzmp._refund_types()) with ordinality as t (type, rank) on t.type = p.type
                        where (p.account_id, p.amazon_order_id, p.refund_key) = (r.account_id, r.amazon_order_id, r.refund_key)
                        group by i.order_item_id, i.position
                    ) as l
                )))::text
    from amzmp.refund as r
    where (r.account_id, r.amazon_order_id, r.refund_key)
        = (_adjustment_message.account_id, split_part(subject, '/', 1), split_part(subject, '/', 2))
$$;

/*
 * Inner, build function. A refund leaves "queued" in the transaction that writes it into the feed, so no second feed finds
 * it. One message an order: a second refund of it waits for the next feed.
 */
create function amzmp._build_adjustments(feed amzmp.feed)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    written integer;
begin
    insert into amzmp.feed_message (account_id, feed_id, message_id, channel_id, subject)
    select feed.account_id, feed.feed_id, row_number() over (order by q.created_at, q.amazon_order_id), feed.channel_id,
        q.amazon_order_id || '/' || q.refund_key
    from (
        select distinct on (r.amazon_order_id) r.amazon_order_id, r.refund_key, r.created_at
        from amzmp.refund as r
        join amzmp.orders as o using (account_id, amazon_order_id)
        where (r.account_id, r.state, o.channel_id) = (feed.account_id, 'queued', feed.channel_id)
        order by r.amazon_order_id, r.created_at, r.refund_key
    ) as q;
    if not found then
        return 0;
    end if;
    written := amzmp._write_xml_feed(feed, 'OrderAdjustment',
        'select amzmp._adjustment_message(m.account_id, m.message_id, m.subject)
        from amzmp.feed_message as m where (m.account_id, m.feed_id) = ($1, $2) order by m.message_id');
    update amzmp.refund as r
    set state = 'sent',
        tries = r.tries + 1,
        feed_id = feed.feed_id,
        sent_at = now()
    from amzmp.feed_message as m
    where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
        and (r.account_id, r.amazon_order_id, r.refund_key)
            = (m.account_id, split_part(m.subject, '/', 1), split_part(m.subject, '/', 2))
        and r.state = 'queued';
    perform amzmp._plan_left_adjustments(feed);
    return written;
end
$$;

comment on function amzmp._build_adjustments(amzmp.feed) is 'Inner: the document of a feed of refunds.';

create function amzmp._plan_left_adjustments(feed amzmp.feed)
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._plan_order_feed(feed.account_id, feed.channel_id, feed.type)
    where exists (
            select
            from amzmp.refund as r
            join amzmp.orders as o using (account_id, amazon_order_id)
            where (r.account_id, r.state, o.channel_id) = (feed.account_id, 'queued', feed.channel_id)
        );
end;

-- Inner, result function. A verdict that comes late, after the feed had counted as stuck, counts all the same.
create function amzmp._judge_adjustments(feed amzmp.feed)
    returns interval
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._judge_xml_report(feed);
    update amzmp.refund as r
    set state = case m.result when 'accepted' then 'accepted' else 'refused' end,
        reason = nullif(concat_ws(': ', m.code, m.message), ''),
        ended_at = now()
    from amzmp.feed_message as m
    where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
        and (r.account_id, r.feed_id, r.amazon_order_id || '/' || r.refund_key) = (m.account_id, m.feed_id, m.subject)
        and r.state in ('sent', 'unknown');
    perform amzmp._log(r.account_id, feed.channel_id, 'error', 'order', r.amazon_order_id,
        format('Amazon refused refund %s: %s', r.refund_key, r.reason))
    from amzmp.refund as r
    where (r.account_id, r.feed_id, r.state) = (feed.account_id, feed.feed_id, 'refused');
    return null;
end
$$;

comment on function amzmp._judge_adjustments(amzmp.feed) is 'Inner: Amazon''s report about refunds.';

/*
 * Inner, end function. A cancelled feed was never worked on, so its refunds go into another, a few times; what a fatal or
 * stuck one carried is left to Amazon's books.
 */
create function amzmp._end_adjustments(feed amzmp.feed)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    most_tries constant integer := 3;
begin
    update amzmp.refund as r
    set state = case when feed.state <> 'cancelled' then 'unknown' when r.tries < most_tries then 'queued' else 'refused' end,
        reason = feed.reason,
        ended_at = case when feed.state = 'cancelled' and r.tries >= most_tries then now() end
    where (r.account_id, r.feed_id, r.state) = (feed.account_id, feed.feed_id, 'sent');
    perform amzmp._log(r.account_id, feed.channel_id, 'error', 'order', r.amazon_order_id,
        format('nobody knows whether Amazon has applied refund %s: %s', r.refund_key, r.reason))
    from amzmp.refund as r
    where (r.account_id, r.feed_id, r.state) = (feed.account_id, feed.feed_id, 'unknown');
    perform amzmp._plan_left_adjustments(feed);
end
$$;

comment on function amzmp._end_adjustments(amzmp.feed) is 'Inner: a feed of refunds ended without a report.';

update amzmp.feed_type
set build_function = '_build_adjustments',
    result_function = '_judge_adjustments',
    end_function = '_end_adjustments',
    sent_once = true
where name = 'POST_PAYMENT_ADJUSTMENT_DATA';

/*
 * Amazon's books.
 */

create view amzmp.refund_booking with (security_invoker = true) as
select a.name as account, x.amazon_order_id, o.order_number, max(x.currency) as currency, sum(x.accepted) as refunded,
    sum(x.in_doubt) as in_doubt, sum(x.booked) as booked, sum(x.booked) - sum(x.accepted) as difference,
    case
        when sum(x.booked) = sum(x.accepted) and sum(x.in_doubt) = 0 then 'agrees'
        when sum(x.in_doubt) > 0 and sum(x.booked) = sum(x.accepted) then 'in doubt, not booked'
        when sum(x.in_doubt) > 0 and sum(x.booked) = sum(x.accepted) + sum(x.in_doubt) then 'in doubt, booked'
        when sum(x.booked) < sum(x.accepted) and max(x.ended_at) > now() - interval '3 days' then 'awaited'
        when sum(x.booked) < sum(x.accepted) then 'missing'
        else 'more than ordered'
    end as verdict, x.account_id
from (
    select r.account_id, r.amazon_order_id, r.currency, case when r.state in ('accepted', 'booked') then r.total else 0 end as accepted,
        case when r.state in ('sent', 'unknown') then r.total else 0 end as in_doubt, 0 as booked, r.ended_at
    from amzmp.refund as r
    union all
    select t.account_id, t.amazon_order_id, t.currency, 0, 0, -p.amount, null
    from amzmp.finance_transaction as t
    join amzmp.finance_part as p using (account_id, transaction_id)
    where t.type = 'Refund'
        and t.amazon_order_id is not null
        and p.leaf
        and not amzmp.is_fee(p.path)
) as x
join amzmp.account as a on a.account_id = x.account_id
left join amzmp.orders as o on (o.account_id, o.amazon_order_id) = (x.account_id, x.amazon_order_id)
group by a.name, x.account_id, x.amazon_order_id, o.order_number;

comment on view amzmp.refund_booking is 'Refunds that the shop ordered, against those that Amazon has booked, by order.';
comment on column amzmp.refund_booking.account is 'The account that sold.';
comment on column amzmp.refund_booking.amazon_order_id is 'The order.';
comment on column amzmp.refund_booking.order_number is 'Its number by the format of the account.';
comment on column amzmp.refund_booking.currency is 'The currency.';
comment on column amzmp.refund_booking.refunded is 'What Amazon accepted of the shop''s refunds.';
comment on column amzmp.refund_booking.in_doubt is 'What is on its way, or may have been applied.';
comment on column amzmp.refund_booking.booked is 'What Amazon has booked, whoever ordered it.';
comment on column amzmp.refund_booking.difference is 'Booked less refunded.';
comment on column amzmp.refund_booking.verdict is 'agrees; awaited (Amazon books up to two days late); missing; more than ordered (by Amazon or in Seller Central); in doubt, booked or not booked.';
comment on column amzmp.refund_booking.account_id is 'The account''s id.';

-- What Amazon has booked as given back of an order, before fees.
create function amzmp._booked_refunds(account_id bigint, amazon_order_id text)
    returns numeric
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(-sum(p.amount), 0)
    from amzmp.finance_transaction as t
    join amzmp.finance_part as p using (account_id, transaction_id)
    where (t.amazon_order_id, t.account_id) = (_booked_refunds.amazon_order_id, _booked_refunds.account_id)
        and t.type = 'Refund'
        and p.leaf
        and not amzmp.is_fee(p.path);
end;

/*
 * Transactions of these orders were read: which refunds are booked? In the order in which they were sent, as far as the
 * booked amount reaches; one that is in doubt only when it reaches exactly so far, for Amazon's own refunds are booked there too.
 */
create function amzmp._settle_bookings(account_id bigint, order_ids text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.refund as r
    set state = 'booked',
        booked_at = now(),
        reason = null
    from (
        select x.amazon_order_id, x.refund_key, x.state,
            sum(x.total) over (partition by x.amazon_order_id order by x.state = 'unknown', x.created_at, x.refund_key) as so_far,
            amzmp._booked_refunds(x.account_id, x.amazon_order_id) as booked
        from amzmp.refund as x
        where x.account_id = _settle_bookings.account_id
            and x.amazon_order_id = any (order_ids)
            and x.state in ('accepted', 'unknown', 'booked')
    ) as d
    where (r.account_id, r.amazon_order_id, r.refund_key) = (_settle_bookings.account_id, d.amazon_order_id, d.refund_key)
        and (d.state = 'accepted' and d.booked >= d.so_far or d.state = 'unknown' and d.booked = d.so_far);
end
$$;

-- Orders whose transactions are worth a look: refunds that are not booked yet, the oldest looks first, a few at a time.
create function amzmp._refunds_to_look_for(account_id bigint)
    returns table (account_id bigint, amazon_order_id text)
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
begin atomic
    select r.account_id, r.amazon_order_id
    from amzmp.refund as r
    join amzmp.account as a using (account_id)
    where r.account_id = _refunds_to_look_for.account_id
        and r.state in ('accepted', 'unknown')
        and r.sent_at > now() - interval '10 days' / a.time_scale::double precision
        and not exists (
            select
            from amzmp.request as q
            where (q.account_id, q.subject_kind, q.subject) = (r.account_id, 'transactions', r.amazon_order_id)
        )
    group by r.account_id, r.amazon_order_id
    order by min(r.sent_at)
    limit 20;
end;
