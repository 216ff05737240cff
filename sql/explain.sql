/*
 * explain.sql
 *	  Why is this price, or this quantity, at Amazon? One row per step from the shop's row to what Amazon was seen to have.
 *
 * Nothing is computed here: the steps are those that _offer_calc and _stock_calc (rule_apply.sql) return, from the rows
 * as they were last read, and behind them the stages that listing and inventory keep. No SQL of the shop's is run, so
 * everybody who may see the account may ask.
 */
create type amzmp.explained_step as (step text, before_value text, after_value text, rule_id bigint, note text);

comment on type amzmp.explained_step is 'Inner: a step of explain_offer.';

create function amzmp._explain_price(account_id bigint, channel_id bigint, sku text)
    returns setof amzmp.explained_step
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    l amzmp.listing;
    p constant amzmp.product := amzmp._offer_product(account_id, channel_id, sku);
    place amzmp.marketplace;
    c amzmp.offer_calc;
    rules jsonb;
    origin jsonb;
begin
    select x.* into strict l
    from amzmp.listing as x
    where (x.account_id, x.channel_id, x.sku) = (_explain_price.account_id, _explain_price.channel_id, _explain_price.sku);
    select m.* into strict place
    from amzmp.channel as h join amzmp.marketplace as m using (marketplace_id)
    where (h.account_id, h.channel_id) = (_explain_price.account_id, _explain_price.channel_id);
    select f.compiled, f.origin into rules, origin
    from amzmp._rules_for(_explain_price.account_id, array[_explain_price.sku]) as f
    where f.channel_id = _explain_price.channel_id;
    c := amzmp._offer_calc(account_id, amzmp._setting_text(account_id, channel_id, 'merchant_shipping_group'), p, rules, place);

    return query
    select v.step, trim_scale(v.before_value)::text, trim_scale(v.after_value)::text, v.rule_text::bigint, v.note
    from (
        values (1, true, 'shop', null::numeric, p.price, null, amzmp._explain_source(p)),
            (2, rules ? 'price', 'price source', p.price, c.source, origin ->> 'price', null),
            (3, rules ? 'currency', 'currency', c.source, c.converted, origin ->> 'currency',
                coalesce('rate ' || c.rate, c.problem)),
            (4, rules ?| '{percent,amount}', 'change', c.converted, c.changed, coalesce(origin ->> 'amount', origin ->> 'percent'),
                concat_ws(', ', (rules ->> 'percent') || ' per cent', 'amount ' || (rules ->> 'amount'))),
            (5, rules ?| '{fee_percent,fee_amount}', 'fees', c.changed, c.with_fees, coalesce(origin ->> 'fee_percent', origin ->> 'fee_amount'),
                concat_ws(', ', (rules ->> 'fee_percent') || ' per cent', 'amount ' || (rules ->> 'fee_amount'))),
            (6, rules is not null, 'rounding', c.with_fees, c.rounded, coalesce(origin ->> 'round_to', origin ->> 'round_ending'), null),
            (7, c.minimum is not null, 'minimum', c.rounded, greatest(c.rounded, c.minimum), origin ->> 'minimum', 'minimum ' || c.minimum),
            (8, c.maximum is not null, 'maximum', greatest(c.rounded, c.minimum), c.price, origin ->> 'maximum', 'maximum ' || c.maximum),
            (9, true, 'desired', c.price, l.desired_price, null, coalesce(c.problem, amzmp._explain_held(account_id, channel_id, 'price', sku),
                    case when l.desired_terms is not null then 'with ' || l.desired_terms::text end)),
            (10, not l.sends_price, 'not sent', null, null, origin ->> 'send', case when origin ? 'send' then 'send does not name price' else 'setting send_offers' end),
            (11, not l.wanted, 'not wanted', null, null, null, coalesce('stopped by ' || l.stopped_by, 'unpublished')),
            (13, l.in_flight_request is not null, 'in flight', null, l.in_flight_price, null, amzmp._carrier(l.account_id, l.sku, l.in_flight_request)),
            (14, true, 'submitted', null, l.submitted_price, null, 'accepted ' || l.submitted_price_at),
            (15, true, 'expected', null, l.remote_price, null, case when l.price_differs then 'differs from desired, to be sent' end),
            (16, true, 'observed', null, l.observed_price, null, coalesce('seen ' || l.observed_at, 'never seen'))
    ) as v (place, shown, step, before_value, after_value, rule_text, note)
    where v.shown
    order by v.place;
    return query select * from amzmp._explain_penalty(account_id, channel_id, 'price', sku);
end
$$;

-- What carries values that are in flight: a request, or the feed with which it went along.
create function amzmp._carrier(account_id bigint, sku text, request_id bigint)
    returns text
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return coalesce((
            select format('feed %s, message %s', m.feed_id, m.message_id)
            from amzmp.feed_message as m
            where (m.account_id, m.sku, m.request_id) = (_carrier.account_id, _carrier.sku, _carrier.request_id)
                and m.request is not null
        ), 'request ' || request_id);
end
$$;

-- Which of the shop's rows was read, and when.
create function amzmp._explain_source(product amzmp.product)
    returns text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        (
            select format('%s read %s', s.relation, product.read_at) || coalesce(' after a change by ' || (product.cause ->> 'role'), '')
            from amzmp.source as s
            where (s.account_id, s.source_id) = (product.account_id, product.source_id)
        ), 'no source has this product')
$$;

-- A change that the brake holds.
create function amzmp._explain_held(account_id bigint, channel_id bigint, facet text, sku text)
    returns text
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select format('the brake keeps %s in batch %s (%s): %s', trim_scale(i.new_value), b.batch_id, b.state, b.reason)
    from amzmp.brake_item as i
    join amzmp.brake_batch as b using (account_id, batch_id)
    where i.account_id = $1
        and i.sku = $4
        and b.state <> 'released'
        and b.facet = $3
        and $2 in (0, b.channel_id)
    order by b.batch_id desc
    limit 1
$$;

create function amzmp._explain_penalty(account_id bigint, channel_id bigint, kind text, sku text)
    returns setof amzmp.explained_step
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select ('penalty', null, null, null, format('%s: %s; %s', p.code, p.message,
        case when p.gave_up then 'given up' else 'again ' || coalesce(p.until::text, 'when the data changes') end))::amzmp.explained_step
    from amzmp.penalty as p
    where (p.account_id, p.channel_id, p.kind, p.subject) = ($1, $2, $3, $4)
$$;

create function amzmp._explain_stock(account_id bigint, sku text)
    returns setof amzmp.explained_step
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    i amzmp.inventory;
    s constant amzmp.offer_stock := (amzmp._share_reservations(account_id, amzmp._shop_quantities(account_id, array[sku])))[1];
    c constant amzmp.stock_calc := s.calc;
    rules jsonb;
    origin jsonb;
begin
    select x.* into strict i
    from amzmp.inventory as x
    where (x.account_id, x.sku, x.fulfillment_channel) = (_explain_stock.account_id, _explain_stock.sku, 'DEFAULT');
    select f.compiled, f.origin into rules, origin
    from amzmp._rules_for(_explain_stock.account_id, array[_explain_stock.sku]) as f
    where f.channel_id = 0;

    return query
    select v.step, trim_scale(v.before_value)::text, trim_scale(v.after_value)::text, v.rule_text::bigint, v.note
    from (
        values (1, true, 'shop', null::numeric, c.stock, origin ->> 'quantity',
                case when not s.wanted then 'no channel wants the SKU' when c.stock is null then 'the shop gives no quantity' end),
            (2, c.held > 0, 'reservations', c.stock, c.unreserved, null, c.held || ' units held for orders'),
            (3, c.buffered <> c.unreserved, 'buffer', c.unreserved, c.buffered, origin ->> 'buffer',
                case when rules ? 'buffer' then null else 'setting buffer_stock' end),
            (4, rules ? 'stock_percent', 'per cent', c.buffered, c.shared, origin ->> 'stock_percent', (rules ->> 'stock_percent') || ' per cent'),
            (5, rules ? 'threshold', 'threshold', c.shared, c.by_threshold, origin ->> 'threshold', 'threshold ' || (rules ->> 'threshold')),
            (6, rules ?| '{minimum_quantity,maximum_quantity}', 'minimum and maximum', c.by_threshold, c.limited,
                coalesce(origin ->> 'maximum_quantity', origin ->> 'minimum_quantity'), null),
            (7, rules ? 'fixed_quantity', 'fixed quantity', c.limited, c.available, origin ->> 'fixed_quantity', null),
            (8, true, 'desired', c.available, i.desired_quantity, null, coalesce(amzmp._explain_held(account_id, 0, 'stock', sku),
                    case when i.desired_terms is not null then 'with ' || i.desired_terms::text end)),
            (9, not i.sends, 'not sent', null, null, origin ->> 'send', case when origin ? 'send' then 'send does not name stock' else 'setting send_offers' end),
            (10, i.damping is not null, 'damping', null, null, origin ->> 'damping', 'changes above ' || i.damping || ' are not sent'),
            (11, i.in_flight_request is not null, 'in flight', null, i.in_flight_quantity, null, 'request ' || i.in_flight_request),
            (12, true, 'submitted', null, i.submitted_quantity, null, 'accepted ' || i.submitted_quantity_at),
            (13, true, 'expected', null, i.remote_quantity, null, case when i.quantity_differs then 'differs from desired, to be sent' end),
            (14, true, 'observed', null, i.observed_quantity, null, coalesce('seen ' || i.observed_at, 'never seen'))
    ) as v (place, shown, step, before_value, after_value, rule_text, note)
    where v.shown
    order by v.place;
    return query select * from amzmp._explain_penalty(account_id, 0, 'stock', sku);
end
$$;

create function amzmp._explain_offer(channel text, sku text)
    returns table (facet text, step text, before_value text, after_value text, rule_id bigint, note text)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place constant amzmp.channel := amzmp._channel(channel);
    l amzmp.listing;
begin
    select x.* into l
    from amzmp.listing as x
    where (x.account_id, x.channel_id, x.sku) = (place.account_id, place.channel_id, _explain_offer.sku);
    if not found then
        perform amzmp._fail('AZ201', format('SKU %L was never published in channel "%s"', sku, channel), null,
            format('select amzmp.publish(%L, array[%L]);', channel, sku));
    end if;
    return query select 'state', 'state', null::text, l.state, null::bigint, l.state_reason;
    return query select 'price', e.* from amzmp._explain_price(place.account_id, place.channel_id, _explain_offer.sku) as e;
    return query select 'stock', e.* from amzmp._explain_stock(place.account_id, _explain_offer.sku) as e;
    return query
    select 'details', 'desired', l.remote_details::text, l.desired_details::text, null::bigint,
        case when l.details_differ then 'differs, to be sent' end
    where l.desired_details is not null;
end
$$;

select amzmp._expose('amzmp._explain_offer(text, text)', 'amzmp_reader',
    'Each step from the shop''s row to the price and the quantity at Amazon: values before and after, the rule that did it, and what holds a change back.');
