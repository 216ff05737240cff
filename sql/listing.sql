/*
 * listing.sql
 *	  What the shop wants to sell in a channel, what was sent to Amazon, and what Amazon was seen to have.
 *
 * A listing is a SKU in one channel (price, state). Its merchant stock belongs to the inventory of the SKU in the
 * account, which all channels share. Both hold three stages of a value:
 *
 *		desired    what the shop wants now (recompute.sql)
 *		submitted  what Amazon accepted last (send_answer.sql)
 *		observed   what Amazon was last seen to have (observe.sql)
 *
 * remote is what we expect to be live. It follows from the latter two: an accepted value sets it, an imported order
 * lowers it, an unknown one (null) is sent again. The differs columns compare desired with remote; the flows that
 * send and the views that a person reads look at the same columns.
 *
 * A row is made by amzmp.publish and never for a product that nobody wants to sell, so the tables stay as small as
 * the offer is. Whoever changes a SKU's desired, in-flight or submitted values locks its inventory rows first, in
 * SKU order (amzmp._lock_skus).
 */

create table amzmp.listing (
    account_id bigint not null,
    channel_id bigint not null,
    sku text not null,
    wanted boolean not null default true,
    state text not null default 'not_listed',
    state_reason text,
    state_at timestamptz not null default now(),
    listed boolean not null
        generated always as (state in ('pending', 'live', 'live_with_issues', 'deactivated', 'off_sale')) stored,
    asin text,
    ean text,
    product_type text,
    step text,
    is_parent boolean not null default false,
    fulfillment text not null default 'merchant',
    desired_price numeric,
    desired_price_at timestamptz,
    in_flight_price numeric,
    in_flight_request bigint,
    submitted_price numeric,
    submitted_price_at timestamptz,
    submitted_price_request bigint,
    observed_price numeric,
    observed_at timestamptz,
    remote_price numeric,
    desired_terms jsonb,
    in_flight_terms jsonb,
    remote_terms jsonb,
    in_doubt boolean not null default false,
    sends_price boolean not null default true,
    price_differs boolean not null
        generated always as (wanted and sends_price and state in ('pending', 'live', 'live_with_issues', 'deactivated', 'off_sale')
            and not in_doubt and not is_parent and (step is null or step in ('price', 'stock'))
            and desired_price is not null and (desired_price is distinct from remote_price
                or desired_terms is not null and desired_terms is distinct from remote_terms)) stored,
    desired_details jsonb,
    in_flight_details jsonb,
    remote_details jsonb,
    remote_details_at timestamptz,
    sends_details boolean not null default true,
    details_differ boolean not null
        generated always as (wanted and sends_details and state in ('pending', 'live', 'live_with_issues', 'deactivated', 'off_sale')
            and not in_doubt and not is_parent and (step is null or step in ('price', 'stock'))
            and desired_details is not null and desired_details is distinct from remote_details) stored,
    recompute_at timestamptz,
    stopped_by text,
    stopped_at timestamptz,
    published_at timestamptz,
    verdict_due_at timestamptz,
    read_due_at timestamptz,
    cause jsonb,
    counted text,
    uncounted boolean not null
        generated always as (counted is distinct from state || ' ' || fulfillment) stored,
    primary key (account_id, channel_id, sku),
    constraint listing_sku_check check (sku <> '' and length(sku) <= 40),
    constraint listing_state_check check (state in ('not_listed', 'matching', 'queued', 'sent', 'pending', 'live',
        'live_with_issues', 'deactivated', 'rejected', 'off_sale', 'removed', 'gone')),
    constraint listing_step_check check (step in ('product', 'relation', 'image', 'price', 'stock')),
    constraint listing_fulfillment_check check (fulfillment in ('merchant', 'amazon')),
    constraint listing_asin_check check (asin ~ '^[A-Z0-9]{10}$'),
    constraint listing_desired_price_check check (desired_price > 0),
    constraint listing_stopped_by_check check (stopped_by in ('person', 'rule', 'shop'))
) with (fillfactor = 70);

create index listing_price_differs on amzmp.listing (account_id, channel_id, sku) where price_differs;
create index listing_uncounted on amzmp.listing (account_id, sku) where uncounted;
create index listing_details_differ on amzmp.listing (account_id, channel_id, sku) where details_differ;
create index listing_recompute on amzmp.listing (account_id, recompute_at) where recompute_at is not null;
create index listing_read_due on amzmp.listing (account_id, read_due_at) where read_due_at is not null;
create index listing_in_doubt on amzmp.listing (account_id, channel_id, sku) where in_doubt;
create index listing_asin on amzmp.listing (asin, account_id) where listed;
create index listing_unwanted on amzmp.listing (account_id, channel_id, sku) where listed and not wanted;

comment on table amzmp.listing is 'A SKU in a channel: its price and its state at Amazon. amzmp.offer shows the same with names and links.';
comment on column amzmp.listing.account_id is 'The account.';
comment on column amzmp.listing.channel_id is 'The channel.';
comment on column amzmp.listing.sku is 'The SKU, the same in the shop and at Amazon (at most 40 characters).';
comment on column amzmp.listing.wanted is 'Shall it be sold here? Set by publish, taken back by unpublish.';
comment on column amzmp.listing.state is 'not_listed, matching (which catalogue item is it?), queued, sent, pending (Amazon''s verdict is awaited), live, live_with_issues, deactivated (by Amazon, for its price), rejected, off_sale, removed (by us), gone (not by us). amzmp.listing_state explains each.';
comment on column amzmp.listing.state_reason is 'Why it is in this state, in words.';
comment on column amzmp.listing.state_at is 'Since when it is in this state.';
comment on column amzmp.listing.listed is 'Has Amazon accepted it, so that prices and stock can be sent?';
comment on column amzmp.listing.asin is 'Amazon''s catalogue item that is offered.';
comment on column amzmp.listing.ean is 'The barcode by which the catalogue item was looked up, normalised.';
comment on column amzmp.listing.product_type is 'Amazon''s product type, as last seen.';
comment on column amzmp.listing.step is 'While the product is being created at Amazon: product, relation, image, price or stock comes next. Null: it is complete, or was there before.';
comment on column amzmp.listing.is_parent is 'Is it a family of products (amzmp.listing_content)? It has no offer of its own.';
comment on column amzmp.listing.fulfillment is 'Who ships: merchant or amazon. Stock is sent for the former only.';
comment on column amzmp.listing.desired_price is 'Price that the shop wants, in the marketplace''s currency. Null: the shop has none, nothing is sent.';
comment on column amzmp.listing.desired_price_at is 'When the desired price last changed since the offer was accepted.';
comment on column amzmp.listing.in_flight_price is 'Price in a request whose answer is awaited.';
comment on column amzmp.listing.in_flight_request is 'That request, also when it carries no price.';
comment on column amzmp.listing.submitted_price is 'Price that Amazon accepted last.';
comment on column amzmp.listing.submitted_price_at is 'When Amazon accepted it.';
comment on column amzmp.listing.submitted_price_request is 'The request that carried it.';
comment on column amzmp.listing.observed_price is 'Price that Amazon was last seen to show.';
comment on column amzmp.listing.observed_at is 'When the listing was last read from Amazon.';
comment on column amzmp.listing.remote_price is 'Price that we expect to be live now. Null: unknown.';
comment on column amzmp.listing.price_differs is 'Is there a price to send? True where the desired and the expected price differ and the offer is wanted and accepted.';
comment on column amzmp.listing.desired_terms is 'What shall travel with the price: minimum, maximum, sale, business price. Null: nothing was ever wanted.';
comment on column amzmp.listing.in_flight_terms is 'Terms in a request whose answer is awaited.';
comment on column amzmp.listing.remote_terms is 'Terms that we expect to be live. Null: unknown.';
comment on column amzmp.listing.in_doubt is 'Is what Amazon has unknown until it is read back? So it is after a restore or a promotion, see confirm_identity.';
comment on column amzmp.listing.sends_price is 'Is the price kept up to date? A rule''s send says.';
comment on column amzmp.listing.desired_details is 'Condition and its note, list price, shipping template, where the shop or a rule names them. Null: nothing was ever named.';
comment on column amzmp.listing.in_flight_details is 'Details in a request whose answer is awaited.';
comment on column amzmp.listing.remote_details is 'Details that Amazon accepted last. Null: unknown.';
comment on column amzmp.listing.remote_details_at is 'When Amazon accepted details last.';
comment on column amzmp.listing.sends_details is 'Are the details kept up to date? A rule''s send says.';
comment on column amzmp.listing.details_differ is 'Are there details to send?';
comment on column amzmp.listing.recompute_at is 'When what is wanted changes by the clock: a sale ends, a rate grows old. Null: never.';
comment on column amzmp.listing.stopped_by is 'Who stopped it: a person, a rule (stop_if), or the shop (the channel''s own source says inactive). A person''s stop is undone by a person only.';
comment on column amzmp.listing.stopped_at is 'When it was stopped.';
comment on column amzmp.listing.published_at is 'When the offer was first accepted by Amazon.';
comment on column amzmp.listing.verdict_due_at is 'When Amazon''s verdict on the submission is overdue.';
comment on column amzmp.listing.read_due_at is 'When to read the listing from Amazon next. Null: no reading is planned.';
comment on column amzmp.listing.cause is 'What changed the desired price last: role, application, transaction and time, or the flow run.';
comment on column amzmp.listing.counted is 'What of it is in the dashboard''s figures (figure.sql).';
comment on column amzmp.listing.uncounted is 'Has it changed since it was counted?';

/*
 * Can Amazon know a product by this SKU? It takes blanks around one away and would call the product by another SKU from
 * then on, in reports and orders; so such a SKU is refused. The shop says by which SKU it is offered: sku => 'btrim(sku)'.
 */
create function amzmp._is_sku(sku text)
    returns boolean
    language sql
    immutable
    parallel safe
begin atomic
    select coalesce(length(sku) between 1 and 40 and sku !~ '^\s|\s$', false);
end;
