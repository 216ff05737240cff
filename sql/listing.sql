/*
 * listing.sql
 *	  What the shop wants to sell, what was sent to Amazon, and what Amazon was seen to have: barcodes, listings,
 *	  inventory, issues and candidates, and the views over them.
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

/*
 * Barcodes.
 */

-- The check digit that belongs behind these digits (GS1: weights 3 and 1 from the right).
create function amzmp._gtin_check_digit(digits text)
    returns text
    language sql
    immutable
    strict
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select ((10 - sum(substr(reverse(digits), i, 1)::integer * case i % 2 when 1 then 3 else 1 end) % 10) % 10)::text
    from generate_series(1, length(digits)) as i
$$;

-- The check character of an ISBN with ten places: X stands for ten.
create function amzmp._isbn10_check_digit(digits text)
    returns text
    language sql
    immutable
    strict
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case s.remainder when 10 then 'X' else s.remainder::text end
    from (
        select (11 - sum(substr(digits, i, 1)::integer * (11 - i)) % 11) % 11 as remainder
        from generate_series(1, 9) as i
    ) as s
$$;

/*
 * A code as it is printed, without what people write between the digits: what it is, with which check digit, and
 * which one it should have. One row, also for what is no barcode at all (kind is null then).
 */
create function amzmp._gtin_parts(code text, out bare text, out kind text, out given text, out expected text)
    language sql
    immutable
    strict
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select b.bare, k.kind, right(b.bare, 1),
        case k.kind
            when 'GTIN' then amzmp._gtin_check_digit(left(b.bare, -1))
            when 'ISBN-10' then amzmp._isbn10_check_digit(left(b.bare, 9))
        end
    from (select upper(regexp_replace(code, '[[:space:]-]', '', 'g')) as bare) as b,
        lateral (
            select case
                    when b.bare ~ '^([0-9]{8}|[0-9]{12,14})$' then 'GTIN'
                    when b.bare ~ '^[0-9]{9}[0-9X]$' then 'ISBN-10'
                end as kind
        ) as k
$$;

-- The normal form of a code, or null where it has none; for sets of rows, where one bad code must not stop the rest.
create function amzmp._gtin(code text)
    returns text
    language sql
    immutable
    strict
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case
            when p.kind is null or p.given <> p.expected then null
            when p.kind = 'ISBN-10' then '978' || left(p.bare, 9) || amzmp._gtin_check_digit('978' || left(p.bare, 9))
            when length(p.bare) = 12 then '0' || p.bare
            when length(p.bare) = 14 and left(p.bare, 1) = '0' then right(p.bare, 13)
            else p.bare
        end
    from amzmp._gtin_parts(code) as p
$$;

-- Why amzmp._gtin finds no normal form, as a message and what to do about it.
create function amzmp._gtin_problem(code text, out message text, out hint text)
    language sql
    immutable
    strict
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case
            when p.kind is null then format('%L is not a barcode', code)
            else format('check digit of %L is %s, expected %s', code, p.given, p.expected)
        end,
        case
            when p.kind is null then 'Give a GTIN of 8, 12, 13 or 14 digits (EAN, UPC, JAN) or an ISBN of 10 or 13 places. Codes that were kept as numbers have lost their leading zeros.'
            else 'Compare the code with the one on the product; one digit is wrong or two are swapped.'
        end
    from amzmp._gtin_parts(code) as p
    where amzmp._gtin(code) is null
$$;

-- SECURITY DEFINER because it calls what nobody else may, and stays immutable, which the entry of a verb is not: shops use
-- it in indexes, checks and the expressions of a source.
create function amzmp.normalize_gtin(code text)
    returns text
    language plpgsql
    immutable
    strict
    parallel safe
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    normal constant text := amzmp._gtin(code);
    problem record;
begin
    if normal is null then
        problem := amzmp._gtin_problem(code);
        raise exception using errcode = 'AZ202', message = problem.message, hint = problem.hint;
    end if;
    return normal;
end
$$;

comment on function amzmp.normalize_gtin(text) is 'The normal form of a barcode: spaces and hyphens removed, UPC and GTIN-14 with leading zero as 13 digits, ISBN-10 as ISBN-13. Error AZ202 names the expected check digit.';

/*
 * Listings.
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
 * Inventory.
 */
create table amzmp.inventory (
    account_id bigint not null,
    sku text not null,
    fulfillment_channel text not null default 'DEFAULT',
    listed boolean not null default false,
    desired_quantity integer,
    desired_quantity_at timestamptz,
    in_flight_quantity integer,
    in_flight_request bigint,
    submitted_quantity integer,
    submitted_quantity_at timestamptz,
    submitted_quantity_request bigint,
    observed_quantity integer,
    observed_at timestamptz,
    remote_quantity integer,
    desired_terms jsonb,
    in_flight_terms jsonb,
    remote_terms jsonb,
    damping integer,
    in_doubt boolean not null default false,
    sends boolean not null default true,
    quantity_differs boolean not null
        generated always as (listed and sends and not in_doubt and desired_quantity is not null
            and (desired_quantity is distinct from remote_quantity
                    and not coalesce(desired_quantity > damping and remote_quantity > damping, false)
                or desired_terms is not null and desired_terms is distinct from remote_terms)) stored,
    cause jsonb,
    counted integer,
    uncounted boolean not null
        generated always as (counted is distinct from coalesce(remote_quantity, submitted_quantity, observed_quantity)) stored,
    primary key (account_id, sku, fulfillment_channel),
    constraint inventory_desired_quantity_check check (desired_quantity >= 0),
    constraint inventory_remote_quantity_check check (remote_quantity >= 0)
) with (fillfactor = 70);

create index inventory_uncounted on amzmp.inventory (account_id, sku) where uncounted;
create index inventory_quantity_differs on amzmp.inventory (account_id, sku) where quantity_differs;

comment on table amzmp.inventory is 'The stock of a SKU in an account, shared by all its channels.';
comment on column amzmp.inventory.account_id is 'The account.';
comment on column amzmp.inventory.sku is 'The SKU.';
comment on column amzmp.inventory.fulfillment_channel is 'Amazon''s code of the fulfillment channel; DEFAULT is the merchant''s own stock.';
comment on column amzmp.inventory.listed is 'Has Amazon accepted an offer of this SKU that the merchant ships, so that stock can be sent?';
comment on column amzmp.inventory.desired_quantity is 'Units that may be offered: the shop''s stock without reservations and buffer. Null: the shop does not say, nothing is sent.';
comment on column amzmp.inventory.desired_quantity_at is 'When the desired quantity last changed.';
comment on column amzmp.inventory.in_flight_quantity is 'Quantity in a request whose answer is awaited.';
comment on column amzmp.inventory.in_flight_request is 'That request.';
comment on column amzmp.inventory.submitted_quantity is 'Quantity that Amazon accepted last.';
comment on column amzmp.inventory.submitted_quantity_at is 'When Amazon accepted it, by Amazon''s clock (that of a mock account may run faster).';
comment on column amzmp.inventory.submitted_quantity_request is 'The request that carried it.';
comment on column amzmp.inventory.observed_quantity is 'Quantity that Amazon was last seen to have.';
comment on column amzmp.inventory.observed_at is 'When it was last read from Amazon, by Amazon''s clock.';
comment on column amzmp.inventory.remote_quantity is 'Units that we expect to be for sale now: submitted less what imported orders took since. Null: unknown.';
comment on column amzmp.inventory.desired_terms is 'Lead time and restock date, where the shop, a rule or a setting names them. Null: nothing was ever named.';
comment on column amzmp.inventory.in_flight_terms is 'Lead time and restock date in a request whose answer is awaited.';
comment on column amzmp.inventory.remote_terms is 'Lead time and restock date that Amazon accepted last. Null: unknown.';
comment on column amzmp.inventory.damping is 'While both quantities are above it, their difference is not sent. A rule''s damping says.';
comment on column amzmp.inventory.in_doubt is 'Is what Amazon has unknown until it is read back?';
comment on column amzmp.inventory.sends is 'Is the quantity kept up to date? A rule''s send says.';
comment on column amzmp.inventory.quantity_differs is 'Is there a quantity, a lead time or a restock date to send?';
comment on column amzmp.inventory.cause is 'What changed the desired quantity last.';
comment on column amzmp.inventory.counted is 'The quantity that is in the dashboard''s figures (figure.sql).';
comment on column amzmp.inventory.uncounted is 'Has it changed since it was counted?';

/*
 * The lock that orders everybody who works on the same SKUs: recompute, the sender, imports of orders.
 */
create function amzmp._lock_skus(account_id bigint, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
as $$
begin
    perform 1
    from amzmp.inventory as i
    where i.account_id = _lock_skus.account_id
        and i.sku = any (_lock_skus.skus)
    order by i.sku, i.fulfillment_channel
    for no key update;
end
$$;

/*
 * Issues.
 */
create table amzmp.listing_issue (
    account_id bigint not null,
    channel_id bigint not null,
    sku text not null,
    position integer not null,
    code text not null,
    message text not null,
    severity text not null,
    attribute_names text[] not null default '{}',
    categories text[] not null default '{}',
    enforcement text[] not null default '{}',
    seen_at timestamptz not null,
    primary key (account_id, channel_id, sku, position)
);

comment on table amzmp.listing_issue is 'What Amazon says is wrong with a listing, as of the last answer about it.';
comment on column amzmp.listing_issue.account_id is 'The account.';
comment on column amzmp.listing_issue.channel_id is 'The channel.';
comment on column amzmp.listing_issue.sku is 'The SKU.';
comment on column amzmp.listing_issue.position is 'Place in Amazon''s list.';
comment on column amzmp.listing_issue.code is 'Amazon''s issue code.';
comment on column amzmp.listing_issue.message is 'Amazon''s words.';
comment on column amzmp.listing_issue.severity is 'ERROR, WARNING or INFO.';
comment on column amzmp.listing_issue.attribute_names is 'The attributes that it is about.';
comment on column amzmp.listing_issue.categories is 'Amazon''s categories, e.g. MISSING_ATTRIBUTE.';
comment on column amzmp.listing_issue.enforcement is 'What Amazon does because of it, e.g. LISTING_SUPPRESSED.';
comment on column amzmp.listing_issue.seen_at is 'When Amazon said so.';

create type amzmp.issue_report as (channel_id bigint, sku text, issues jsonb, seen_at timestamptz);

comment on type amzmp.issue_report is 'Inner: all that Amazon says is wrong with a listing, as it came.';

-- Replace what is known about these listings. An issue without marketplaces is about all of them.
create function amzmp._keep_issues(account_id bigint, reports amzmp.issue_report[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    delete from amzmp.listing_issue as o
    using unnest(reports) as r
    where o.account_id = _keep_issues.account_id
        and (o.channel_id, o.sku) = (r.channel_id, r.sku);

    insert into amzmp.listing_issue (account_id, channel_id, sku, position, code, message, severity, attribute_names,
        categories, enforcement, seen_at)
    select c.account_id, r.channel_id, r.sku, i.position, coalesce(i.issue ->> 'code', ''),
        coalesce(i.issue ->> 'message', ''), coalesce(i.issue ->> 'severity', 'INFO'),
        amzmp._text_array(i.issue -> 'attributeNames'), amzmp._text_array(i.issue -> 'categories'),
        amzmp._text_array(jsonb_path_query_array(i.issue, '$.enforcements.actions[*].action')), r.seen_at
    from unnest(reports) as r
    join amzmp.channel as c on (c.account_id, c.channel_id) = (_keep_issues.account_id, r.channel_id),
        lateral amzmp._issues_here(r.issues, c.marketplace_id) with ordinality as i (issue, position);
end
$$;

-- A JSON array of strings as an array; anything else as an empty one.
create function amzmp._text_array(list jsonb)
    returns text[]
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array(
        select e.value
        from jsonb_array_elements_text(case jsonb_typeof(list) when 'array' then list else '[]' end) as e
    )
$$;

-- Those of a list of issues that concern a marketplace; all where none is named.
create function amzmp._issues_here(issues jsonb, marketplace_id text)
    returns setof jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select e.issue
    from jsonb_array_elements(case jsonb_typeof(issues) when 'array' then issues else '[]' end) as e (issue)
    where marketplace_id is null
        or coalesce(jsonb_array_length(e.issue -> 'marketplaceIds'), 0) = 0
        or e.issue -> 'marketplaceIds' ? marketplace_id
$$;

-- The errors of a list of issues in one line; null where there is none.
create function amzmp._issue_summary(issues jsonb, marketplace_id text)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format('%s (%s)', i.issue ->> 'message', i.issue ->> 'code'), '; ')
    from amzmp._issues_here(issues, marketplace_id) as i (issue)
    where i.issue ->> 'severity' = 'ERROR'
$$;

/*
 * Catalogue items that might be the product.
 */
create table amzmp.match_candidate (
    account_id bigint not null,
    channel_id bigint not null,
    sku text not null,
    asin text not null,
    title text,
    brand text,
    image text,
    product_type text,
    method text not null,
    score numeric not null,
    seen_at timestamptz not null default now(),
    primary key (account_id, channel_id, sku, asin),
    constraint match_candidate_score_check check (score between 0 and 1)
);

comment on table amzmp.match_candidate is 'Catalogue items that may be a product: several with its barcode, or found by its title. publish(channel, sku, asin) chooses one.';
comment on column amzmp.match_candidate.account_id is 'The account.';
comment on column amzmp.match_candidate.channel_id is 'The channel.';
comment on column amzmp.match_candidate.sku is 'The SKU.';
comment on column amzmp.match_candidate.asin is 'The catalogue item.';
comment on column amzmp.match_candidate.title is 'Its title at Amazon.';
comment on column amzmp.match_candidate.brand is 'Its brand at Amazon.';
comment on column amzmp.match_candidate.image is 'URL of its main picture.';
comment on column amzmp.match_candidate.product_type is 'Its product type at Amazon.';
comment on column amzmp.match_candidate.method is 'How it was found: ean, by its barcode; title, by find_candidates().';
comment on column amzmp.match_candidate.score is 'How well it fits, 0 to 1.';
comment on column amzmp.match_candidate.seen_at is 'When it was found.';

/*
 * What people read.
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
