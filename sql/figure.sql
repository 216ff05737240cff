/*
 * figure.sql
 *	  The dashboard's figures: what is counted, how it is kept, and amzmp.dashboard and amzmp.sku_diff over it.
 *
 * What a SKU contributes in a channel follows from its rows in product, listing and inventory (_sku_facts). The figures of
 * a million SKUs are kept the way prices are kept at Amazon: with each row stands what of it was counted, and a generated
 * column says whether it has changed since (uncounted). So nobody who writes those tables has to think of the figures, and
 * no trigger does. Three tables follow:
 *
 *		sku_figure      what was counted for a SKU in a channel
 *		figure          sums of sku_figure by class; a few dozen rows a channel
 *		figure_channel  whether every SKU of the channel has been counted
 *
 * The dashboard is exact at any time: the sums, less what was counted for SKUs with uncounted rows, plus what these
 * contribute now. A task counts them, so that they stay few (figure_count.sql).
 */
create table amzmp.sku_figure (
    account_id bigint not null,
    channel_id bigint not null,
    sku text not null,
    state text not null,
    in_catalog boolean not null,
    on_sale boolean not null,
    lacks text[] not null,
    stock bigint not null,
    on_sale_stock bigint not null,
    primary key (account_id, channel_id, sku)
);

create index sku_figure_differs on amzmp.sku_figure (account_id, channel_id, sku) where in_catalog and not on_sale;

comment on table amzmp.sku_figure is 'Inner: what was counted for a SKU in a channel. amzmp.sku_diff and amzmp.dashboard show it as of now.';
comment on column amzmp.sku_figure.account_id is 'The account.';
comment on column amzmp.sku_figure.channel_id is 'The channel.';
comment on column amzmp.sku_figure.sku is 'The SKU.';
comment on column amzmp.sku_figure.state is 'State of its listing; not_listed where there is none.';
comment on column amzmp.sku_figure.in_catalog is 'Does the shop sell it, as far as this channel is concerned?';
comment on column amzmp.sku_figure.on_sale is 'Was it for sale at Amazon?';
comment on column amzmp.sku_figure.lacks is 'Which conditions of a complete product it failed.';
comment on column amzmp.sku_figure.stock is 'Units in the shop.';
comment on column amzmp.sku_figure.on_sale_stock is 'Units for sale at Amazon.';

create table amzmp.figure (
    account_id bigint not null,
    channel_id bigint not null,
    state text not null,
    in_catalog boolean not null,
    on_sale boolean not null,
    complete boolean not null,
    skus bigint not null,
    stock numeric not null,
    on_sale_stock numeric not null,
    primary key (account_id, channel_id, state, in_catalog, on_sale, complete)
) with (fillfactor = 50);

comment on table amzmp.figure is 'Inner: sums over sku_figure by class.';
comment on column amzmp.figure.account_id is 'The account.';
comment on column amzmp.figure.channel_id is 'The channel.';
comment on column amzmp.figure.state is 'State of the listings.';
comment on column amzmp.figure.in_catalog is 'Are they in the catalogue?';
comment on column amzmp.figure.on_sale is 'Are they for sale?';
comment on column amzmp.figure.complete is 'Do they lack nothing?';
comment on column amzmp.figure.skus is 'How many SKUs.';
comment on column amzmp.figure.stock is 'Their units in the shop.';
comment on column amzmp.figure.on_sale_stock is 'Their units for sale at Amazon.';

create table amzmp.figure_channel (
    account_id bigint not null,
    channel_id bigint not null,
    complete boolean not null default false,
    primary key (account_id, channel_id)
);

comment on table amzmp.figure_channel is 'Inner: channels whose figures are kept.';
comment on column amzmp.figure_channel.account_id is 'The account.';
comment on column amzmp.figure_channel.channel_id is 'The channel.';
comment on column amzmp.figure_channel.complete is 'Has every SKU been counted once?';

/*
 * What a SKU contributes in a channel, now. lacks names what keeps a product from being complete: price, stock, and
 * category and image where its source has such a column at all. In the catalogue are active products; a channel's own
 * source can take one out.
 */
create function amzmp._sku_facts(account_id bigint, channel_id bigint, sku text)
    returns table (state text, in_catalog boolean, on_sale boolean, lacks text[], stock bigint, on_sale_stock bigint)
    language sql
    stable
    rows 1
    parallel safe
begin atomic
    select coalesce(l.state, 'not_listed'), f.in_catalog, f.on_sale,
        case
            when f.in_catalog then array_remove(array[
                case when p.price > 0 then null else 'NO_PRICE' end,
                case when p.quantity > 0 then null else 'NO_STOCK' end,
                case when p.category then null else 'NO_CATEGORY' end,
                case when p.image then null else 'NO_IMAGE' end
            ], null)
            else '{}'
        end,
        case when f.in_catalog then coalesce(p.quantity, 0) else 0 end,
        case when f.on_sale then coalesce(i.quantity, 0) else 0 end
    from (
        select bool_or(not r.gone and r.active is not false) as active,
            bool_and(r.gone or r.active is false) filter (where s.channel_id <> 0) as off_here,
            (array_agg(r.price order by s.channel_id = 0, s.source_id) filter (where not r.gone and r.price is not null))[1] as price,
            coalesce(min(r.quantity) filter (where s.channel_id = 0 and not r.gone and r.active is not false),
                min(r.quantity) filter (where not r.gone and r.active is not false)) as quantity,
            bool_or(r.category <> '' or not s.expressions ? 'category') as category,
            bool_or(r.image <> '' or not s.expressions ? 'image') as image
        from amzmp.source as s
        join amzmp.product as r on r.account_id = s.account_id and r.source_id = s.source_id and r.sku = _sku_facts.sku
        where s.account_id = _sku_facts.account_id
            and s.channel_id in (0, _sku_facts.channel_id)
    ) as p
    left join amzmp.listing as l
        on l.account_id = _sku_facts.account_id and l.channel_id = _sku_facts.channel_id and l.sku = _sku_facts.sku
    left join lateral (
        select sum(coalesce(v.remote_quantity, v.submitted_quantity, v.observed_quantity)) as quantity
        from amzmp.inventory as v
        where v.account_id = _sku_facts.account_id
            and v.sku = _sku_facts.sku
            and (v.fulfillment_channel = 'DEFAULT') = (l.fulfillment = 'merchant')
    ) as i on true
    cross join lateral (
        select coalesce(p.active and not coalesce(p.off_here, false), false) as in_catalog,
            coalesce(l.state in ('live', 'live_with_issues') and (i.quantity > 0 or i.quantity is null and l.fulfillment = 'amazon'),
                false) as on_sale
    ) as f;
end;

comment on function amzmp._sku_facts(bigint, bigint, text) is 'Inner: what a SKU contributes to a channel''s figures, now.';

-- SKUs with a row that has changed since it was counted.
create view amzmp.uncounted_sku
    with (security_invoker = true)
as
    select p.account_id, p.sku from amzmp.product as p where p.uncounted
    union
    select l.account_id, l.sku from amzmp.listing as l where l.uncounted
    union
    select i.account_id, i.sku from amzmp.inventory as i where i.uncounted;

comment on view amzmp.uncounted_sku is 'Inner: SKUs with a row that has changed since it was counted.';
comment on column amzmp.uncounted_sku.account_id is 'The account.';
comment on column amzmp.uncounted_sku.sku is 'The SKU.';

/*
 * What the sums of a channel lack: SKUs with rows that have changed since, as they are (1), and as they were counted (-1); all
 * SKUs of a channel that was never walked through. A function, and not in SQL, so that it is no part of the plans of the views
 * over it: it is nearly always empty, but what it would read makes their estimated cost as large as the tables, and the
 * server compile (jit) what they answer in milliseconds.
 */
create function amzmp._unsettled_figures(account_id bigint, channel_id bigint)
    returns table (sku text, sign integer, state text, in_catalog boolean, on_sale boolean, lacks text[], stock bigint,
        on_sale_stock bigint)
    language plpgsql
    stable
    rows 10
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if exists (
        select
        from amzmp.figure_channel as f
        where (f.account_id, f.channel_id) = (_unsettled_figures.account_id, _unsettled_figures.channel_id)
            and f.complete
    ) then
        return query
        with u as materialized (
            select x.sku from amzmp.uncounted_sku as x where x.account_id = _unsettled_figures.account_id
        )
        select o.sku, -1, o.state, o.in_catalog, o.on_sale, o.lacks, o.stock, o.on_sale_stock
        from u
        join amzmp.sku_figure as o
            on (o.account_id, o.channel_id, o.sku) = (_unsettled_figures.account_id, _unsettled_figures.channel_id, u.sku)
        union all
        select u.sku, 1, n.*
        from u
        cross join lateral amzmp._sku_facts(_unsettled_figures.account_id, _unsettled_figures.channel_id, u.sku) as n
        where n.state <> 'not_listed'
            or n.in_catalog;
    else
        return query
        select u.sku, 1, n.*
        from (
            select p.sku from amzmp.product as p where p.account_id = _unsettled_figures.account_id
            union
            select l.sku from amzmp.listing as l where l.account_id = _unsettled_figures.account_id
        ) as u
        cross join lateral amzmp._sku_facts(_unsettled_figures.account_id, _unsettled_figures.channel_id, u.sku) as n
        where n.state <> 'not_listed'
            or n.in_catalog;
    end if;
end
$$;

comment on function amzmp._unsettled_figures(bigint, bigint) is 'Inner: what a channel''s sums lack. sign: 1 to be added, -1 to be taken away.';
