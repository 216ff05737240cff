/*
 * alarm_preset.sql
 *	  The alarms that amzmp brings along. Each is a function of the alarm that returns (subject, value); the alarm's threshold
 *	  is applied to the value afterwards. Each reads by an index or what is small, because it runs for every account.
 */
insert into amzmp.alarm_preset (preset, function_name, threshold, below, every, quiet, level, message, description)
values
    ('new_orders', '_alarm_new_orders', 1, false, '1 minute', '2 days', 'info', 'new order',
        'Each order once, as it is imported. Subject: Amazon''s order number.'),
    ('low_stock', '_alarm_low_stock', 3, true, '15 minutes', '0', 'warning', 'low stock',
        'Stock that sells at Amazon and has fallen to the threshold. Subject: the SKU; value: its quantity.'),
    ('rejected_products', '_alarm_rejected_products', 1, false, '15 minutes', '0', 'warning', 'rejected by Amazon',
        'Offers that Amazon rejected. Subject: channel and SKU; why is in amzmp.listing_issue.'),
    ('late_verdicts', '_alarm_late_verdicts', 1, false, '15 minutes', '0', 'warning', 'no verdict from Amazon',
        'Offers whose verdict is overdue. Subject: channel and SKU; value: hours.'),
    ('silent_flows', '_alarm_silent_flows', 1, false, '15 minutes', '0', 'error', 'a flow does not run',
        'Flows that are on and have not ended well since they were due. Subject: the flow; value: hours overdue.'),
    ('silent_notifications', '_alarm_silent_notifications', 1, false, '1 hour', '0', 'warning', 'notifications do not arrive',
        'Kinds of notifications that are subscribed to and never announced what polling found (value: how much), or have not come for much longer than usual (value: 1). Subject: the kind.'),
    ('expiring_secrets', '_alarm_expiring_secrets', 30, true, '1 hour', '0', 'error', 'credentials end',
        'Client secrets that expire, and credentials that Amazon refused. Subject: what; value: days left.'),
    ('account_status', '_alarm_account_status', 1, false, '5 minutes', '0', 'error', 'Amazon has changed the status of the account',
        'Amazon says that the selling account is at risk or deactivated (needs the notification ACCOUNT_STATUS_CHANGED). Subject: the status.'),
    ('given_up', '_alarm_given_up', 1, false, '5 minutes', '0', 'error', 'given up',
        'Subjects that are not tried any more. Subject: kind and SKU or order; value: attempts.'),
    ('held_orders', '_alarm_held_orders', 1, false, '5 minutes', '0', 'error', 'an order waits for a person',
        'Orders that are held or were quarantined. Subject: Amazon''s order number.'),
    ('old_reservations', '_alarm_old_reservations', 7, false, '1 hour', '0', 'warning', 'stock is held for long',
        'Orders that have held units for very long, pending ones mostly. Subject: Amazon''s order number; value: days.'),
    ('brake', '_alarm_brake', 1, false, '5 minutes', '0', 'error', 'changes are held',
        'Changes that look like a mistake and wait for release_brake. Subject: facet and batch; value: SKUs.');

-- Later than the last check, with room for transactions that were still open then; what came twice is told once.
create function amzmp._alarm_new_orders(a amzmp.alarm) returns table (subject text, value numeric)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select o.amazon_order_id, 1::numeric
    from amzmp.orders o
    where o.account_id = a.account_id and o.imported_at > coalesce(a.checked_at, a.set_at) - interval '10 minutes'
      and o.imported_at >= least(a.checked_at, a.set_at);
$$;

create function amzmp._alarm_low_stock(a amzmp.alarm) returns table (subject text, value numeric)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select i.sku, i.desired_quantity::numeric
    from amzmp.inventory i
    where i.account_id = a.account_id and i.listed and i.fulfillment_channel = 'DEFAULT' and i.desired_quantity <= a.threshold
    order by i.sku limit 10000;
$$;

create function amzmp._alarm_rejected_products(a amzmp.alarm) returns table (subject text, value numeric)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select c.name || ' ' || l.sku, 1::numeric
    from amzmp.channel c
    join amzmp.listing l on l.account_id = c.account_id and l.channel_id = c.channel_id
    where c.account_id = a.account_id and l.state = 'rejected' and l.wanted
    order by c.name, l.sku limit 10000;
$$;

create function amzmp._alarm_late_verdicts(a amzmp.alarm) returns table (subject text, value numeric)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select c.name || ' ' || l.sku, round(extract(epoch from now() - l.verdict_due_at) / 3600, 1)
    from amzmp.channel c
    join amzmp.listing l on l.account_id = c.account_id and l.channel_id = c.channel_id
    where c.account_id = a.account_id and l.state = 'pending' and l.verdict_due_at < now()
    order by c.name, l.sku limit 10000;
$$;

-- By the account's own clock, which runs faster for some mock accounts.
create function amzmp._alarm_silent_flows(a amzmp.alarm) returns table (subject text, value numeric)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select f.flow || coalesce(' ' || c.name, ''), round(extract(epoch from amzmp._now(x.account_id) - t.due_at) / 3600, 1)
    from amzmp.account x
    join amzmp.account_flow f on f.account_id = x.account_id and f.enabled
    join amzmp.flow_schedule s on s.flow = f.flow
    left join amzmp.channel c on c.account_id = f.account_id and c.channel_id = f.channel_id
    cross join lateral (
        select coalesce((select coalesce(r.last_idle_at, r.started_at) from amzmp.flow_run r
                          where r.account_id = x.account_id and r.flow = f.flow and r.channel_id = f.channel_id and r.state = 'done'
                          order by r.started_at desc limit 1), x.created_at) as at) as last
    cross join lateral (
        select amzmp._cron_next(s.every, x.created_at + (last.at - x.created_at) * x.time_scale::float8) as due_at) as t
    where x.account_id = a.account_id and x.active and (f.channel_id = 0 or c.active)
      and t.due_at < amzmp._now(x.account_id);
$$;

create function amzmp._alarm_silent_notifications(a amzmp.alarm) returns table (subject text, value numeric)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select s.type, s.missed::numeric from amzmp._silence(a.account_id) s
    union all
    select q.type, 1 from amzmp._quiet(a.account_id) q;
$$;

create function amzmp._alarm_expiring_secrets(a amzmp.alarm) returns table (subject text, value numeric)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select 'client secret of ' || p.name, floor(extract(epoch from p.secret_expires_at - now()) / 86400)
    from amzmp.account x join amzmp.application p on p.application_id = x.application_id
    where x.account_id = a.account_id and p.secret_expires_at is not null
    union all
    select 'credentials of ' || x.name, 0 from amzmp.account x where x.account_id = a.account_id and x.state = 'invalid';
$$;

create function amzmp._alarm_account_status(a amzmp.alarm) returns table (subject text, value numeric)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select x.subject, 1::numeric
    from (select n.subject from amzmp.notification n
           where n.account_id = a.account_id and n.type = 'ACCOUNT_STATUS_CHANGED' and n.subject is not null
           order by n.event_at desc nulls last limit 1) as x
    where x.subject <> 'NORMAL';
$$;

create function amzmp._alarm_given_up(a amzmp.alarm) returns table (subject text, value numeric)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select concat_ws(' ', p.kind, c.name, p.subject), p.tries::numeric
    from amzmp.penalty p
    left join amzmp.channel c on c.account_id = p.account_id and c.channel_id = p.channel_id
    where p.account_id = a.account_id and p.gave_up
    order by 1 limit 10000;
$$;

create function amzmp._alarm_held_orders(a amzmp.alarm) returns table (subject text, value numeric)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select o.amazon_order_id, 1::numeric
    from amzmp.orders o
    where o.account_id = a.account_id and o.import_state in ('quarantined', 'held_unknown_item', 'held_short_stock', 'held_disabled_item') and o.status is distinct from 'CANCELLED'
    union all
    select p.amazon_order_id, 1 from amzmp.parked_order p where p.account_id = a.account_id and p.failed_at is not null;
$$;

-- Those that are let go by themselves (an order that the shop just does not see yet) are young.
create function amzmp._alarm_old_reservations(a amzmp.alarm) returns table (subject text, value numeric)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select r.amazon_order_id, max(floor(extract(epoch from now() - r.reserved_at) / 86400))
    from amzmp.reservation r
    where r.account_id = a.account_id and r.released_at is null and r.reserved_at < now() - a.threshold * interval '1 day'
    group by r.amazon_order_id
    order by 1 limit 10000;
$$;

create function amzmp._alarm_brake(a amzmp.alarm) returns table (subject text, value numeric)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select format('%s %s', b.facet, b.batch_id),
           (select count(*) from amzmp.brake_item i where i.account_id = b.account_id and i.batch_id = b.batch_id)::numeric
    from amzmp.brake_batch b
    where b.account_id = a.account_id and b.state = 'held';
$$;
