/*
 * offer.sql
 *	  Offers as people read them: all that is known of each, and what of them is still to be sent.
 */
create view amzmp.offer
    with (security_invoker = true)
as
    select a.name as account, c.name as channel, l.sku, l.state, l.state_reason, l.state_at, l.wanted, l.asin,
        'https://' || m.domain || '/dp/' || l.asin as offer_url, l.desired_price, l.submitted_price, l.observed_price,
        l.remote_price, m.currency, i.desired_quantity, i.submitted_quantity, i.observed_quantity, i.remote_quantity,
        l.fulfillment, l.published_at, l.observed_at,
        (
            select count(*)
            from amzmp.listing_issue as o
            where (o.account_id, o.channel_id, o.sku) = (l.account_id, l.channel_id, l.sku)
        ) as issues
    from amzmp.listing as l
    join amzmp.account as a using (account_id)
    join amzmp.channel as c using (account_id, channel_id)
    join amzmp.marketplace as m using (marketplace_id)
    left join amzmp.inventory as i
        on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT');

comment on view amzmp.offer is 'Every offer with its state, the reason for it, its link, and price and stock at each stage.';
comment on column amzmp.offer.account is 'Name of the account.';
comment on column amzmp.offer.channel is 'Name of the channel.';
comment on column amzmp.offer.sku is 'The SKU.';
comment on column amzmp.offer.state is 'Its state, see amzmp.listing.';
comment on column amzmp.offer.state_reason is 'Why it is in this state, in words.';
comment on column amzmp.offer.state_at is 'Since when it is in this state.';
comment on column amzmp.offer.wanted is 'Shall it be sold here?';
comment on column amzmp.offer.asin is 'Amazon''s catalogue item.';
comment on column amzmp.offer.offer_url is 'Link to the page on which buyers see it.';
comment on column amzmp.offer.desired_price is 'Price that the shop wants.';
comment on column amzmp.offer.submitted_price is 'Price that Amazon accepted last.';
comment on column amzmp.offer.observed_price is 'Price that Amazon was last seen to show.';
comment on column amzmp.offer.remote_price is 'Price that we expect to be live.';
comment on column amzmp.offer.currency is 'Currency of the prices.';
comment on column amzmp.offer.desired_quantity is 'Units that the shop wants to offer.';
comment on column amzmp.offer.submitted_quantity is 'Units that Amazon accepted last.';
comment on column amzmp.offer.observed_quantity is 'Units that Amazon was last seen to have.';
comment on column amzmp.offer.remote_quantity is 'Units that we expect to be for sale.';
comment on column amzmp.offer.fulfillment is 'Who ships: merchant or amazon.';
comment on column amzmp.offer.published_at is 'When the offer was first accepted.';
comment on column amzmp.offer.observed_at is 'When it was last read from Amazon.';
comment on column amzmp.offer.issues is 'How many issues Amazon names, see amzmp.listing_issue.';

create view amzmp.price_diff
    with (security_invoker = true)
as
    select a.name as account, c.name as channel, l.sku, l.desired_price, l.remote_price, l.in_flight_price,
        l.submitted_price_at, m.currency, l.desired_price_at as since, l.cause, l.desired_terms, l.remote_terms
    from amzmp.listing as l
    join amzmp.account as a using (account_id)
    join amzmp.channel as c using (account_id, channel_id)
    join amzmp.marketplace as m using (marketplace_id)
    where l.price_differs
        and not c.dropped;

comment on view amzmp.price_diff is 'Prices that are to be sent: where the shop''s and Amazon''s differ.';
comment on column amzmp.price_diff.account is 'Name of the account.';
comment on column amzmp.price_diff.channel is 'Name of the channel.';
comment on column amzmp.price_diff.sku is 'The SKU.';
comment on column amzmp.price_diff.desired_price is 'Price that the shop wants.';
comment on column amzmp.price_diff.remote_price is 'Price that we expect to be live. Null: unknown.';
comment on column amzmp.price_diff.in_flight_price is 'Price that is on its way.';
comment on column amzmp.price_diff.submitted_price_at is 'When Amazon last accepted a price.';
comment on column amzmp.price_diff.currency is 'Currency of the prices.';
comment on column amzmp.price_diff.since is 'When the shop''s price last changed.';
comment on column amzmp.price_diff.cause is 'What changed it.';
comment on column amzmp.price_diff.desired_terms is 'What shall travel with the price: minimum, maximum, sale, business price.';
comment on column amzmp.price_diff.remote_terms is 'Terms that we expect to be live.';

create view amzmp.details_diff
    with (security_invoker = true)
as
    select a.name as account, c.name as channel, l.sku, l.desired_details, l.remote_details, l.in_flight_details
    from amzmp.listing as l
    join amzmp.account as a using (account_id)
    join amzmp.channel as c using (account_id, channel_id)
    where l.details_differ
        and not c.dropped;

comment on view amzmp.details_diff is 'Conditions, notes, list prices and shipping templates that are to be sent.';
comment on column amzmp.details_diff.account is 'Name of the account.';
comment on column amzmp.details_diff.channel is 'Name of the channel.';
comment on column amzmp.details_diff.sku is 'The SKU.';
comment on column amzmp.details_diff.desired_details is 'What the shop or a rule wants.';
comment on column amzmp.details_diff.remote_details is 'What Amazon accepted last. Null: unknown.';
comment on column amzmp.details_diff.in_flight_details is 'What is on its way.';

create view amzmp.stock_diff
    with (security_invoker = true)
as
    select a.name as account, i.sku, i.fulfillment_channel, i.desired_quantity, i.remote_quantity, i.in_flight_quantity,
        i.submitted_quantity_at, i.desired_quantity_at as since, i.cause, i.desired_terms, i.remote_terms
    from amzmp.inventory as i
    join amzmp.account as a using (account_id)
    where i.quantity_differs
        and a.state <> 'dropped';

comment on view amzmp.stock_diff is 'Quantities that are to be sent: where the shop''s and Amazon''s differ. Stock belongs to the account, not to a channel.';
comment on column amzmp.stock_diff.account is 'Name of the account.';
comment on column amzmp.stock_diff.sku is 'The SKU.';
comment on column amzmp.stock_diff.fulfillment_channel is 'Amazon''s code of the fulfillment channel.';
comment on column amzmp.stock_diff.desired_quantity is 'Units that the shop wants to offer.';
comment on column amzmp.stock_diff.remote_quantity is 'Units that we expect to be for sale. Null: unknown.';
comment on column amzmp.stock_diff.in_flight_quantity is 'Quantity that is on its way.';
comment on column amzmp.stock_diff.submitted_quantity_at is 'When Amazon last accepted a quantity.';
comment on column amzmp.stock_diff.since is 'When the shop''s quantity last changed.';
comment on column amzmp.stock_diff.cause is 'What changed it.';
comment on column amzmp.stock_diff.desired_terms is 'Lead time and restock date that are wanted.';
comment on column amzmp.stock_diff.remote_terms is 'Lead time and restock date that Amazon accepted last.';
