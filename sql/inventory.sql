/*
 * inventory.sql
 *	  The merchant's stock of a SKU in an account: wanted, sent and seen, as listing.sql explains, and the lock on it.
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
