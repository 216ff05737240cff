/*
 * remote_listing_doubt.sql
 *	  Where a listing report contradicts what we expect, and what follows: observed values, and a reading of the SKU.
 *	  See remote_listing.sql.
 */

/*
 * Listings of the channel about which the report just merged says something else than we expect. What was sent or read
 * after `settled_before` (and by Amazon's clock after `stock_before`) says nothing against a report that may be so old.
 */
create function amzmp._listing_doubts(report amzmp.report, settled_before timestamptz, stock_before timestamptz)
    returns table (sku text, price_differs boolean, quantity_differs boolean)
    language sql
    stable
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    set work_mem = '12MB'
as $$
    select d.sku, d.price_differs, d.quantity_differs
    from (
        select l.sku,
            l.listed and r.price is not null and l.in_flight_request is null and r.price is distinct from l.remote_price
                and coalesce(l.submitted_price_at < settled_before, true) as price_differs,
            l.listed and l.fulfillment = 'merchant' and r.fulfillment = 'merchant' and r.quantity is not null
                and i.in_flight_request is null and r.quantity is distinct from i.remote_quantity
                and coalesce(i.submitted_quantity_at < stock_before, true)
                and (r.quantity > i.remote_quantity or i.remote_quantity is null or exists (
                    select from amzmp.order_cursor as k where k.account_id = l.account_id and k.watermark >= stock_before
                )) as quantity_differs,
            case
                when l.state in ('live', 'live_with_issues') then r.sku is null or r.fulfillment <> l.fulfillment or r.status <> 'active' and coalesce(i.remote_quantity, 1) > 0
                when l.state in ('gone', 'removed') then r.status = 'active'
                when l.state = 'off_sale' then r.sku is null
                else false
            end and l.state_at < settled_before as state_differs
        from amzmp.listing as l
        left join amzmp.remote_listing as r
            on (r.account_id, r.channel_id, r.sku) = (l.account_id, l.channel_id, l.sku) and r.vanished_at is null
        left join amzmp.inventory as i
            on (i.account_id, i.sku, i.fulfillment_channel) = (l.account_id, l.sku, 'DEFAULT')
        where (l.account_id, l.channel_id) = (report.account_id, report.channel_id)
            and l.state in ('live', 'live_with_issues', 'off_sale', 'gone', 'removed')
    ) as d
    where d.price_differs or d.quantity_differs or d.state_differs
$$;

/*
 * Find the doubts, note what the report saw, and read from Amazon what it is about: those observed longest ago first, and
 * some that agree. Returns how many there are, and how many are read.
 */
create function amzmp._doubt_listings(report amzmp.report, out doubted bigint, out read bigint)
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    scale constant double precision := (
        select a.time_scale from amzmp.account as a where a.account_id = report.account_id
    );
    amazon_now constant timestamptz := amzmp._now(report.account_id);
    seen_at constant timestamptz := amazon_now - (now() - report.submitted_at) * scale;
    age constant interval := amzmp._setting_interval(report.account_id, 0, 'report_age');
    settled_before constant timestamptz := report.submitted_at - age / scale;
    to_read text[];
begin
    create temporary table listing_doubt on commit drop as
    select d.sku, d.price_differs, d.quantity_differs
    from amzmp._listing_doubts(report, settled_before, seen_at - age) as d;
    get diagnostics doubted = row_count;
    perform amzmp._note_doubts(report, seen_at);

    to_read := array(
        select d.sku
        from pg_temp.listing_doubt as d
        join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (report.account_id, report.channel_id, d.sku)
        where l.read_due_at is null
        order by l.observed_at nulls first, d.sku
        limit amzmp._setting_int(report.account_id, report.channel_id, 'verify_most')
    ) || amzmp._listing_sample(report);
    drop table pg_temp.listing_doubt;
    perform amzmp._look(report.account_id, report.channel_id, to_read, now(), jsonb_build_object('report', report.report_id));
    read := cardinality(to_read);
end
$$;

-- What the report saw is what was last observed, where nobody has looked since.
create function amzmp._note_doubts(report amzmp.report, seen_at timestamptz)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform amzmp._lock_skus(report.account_id, array(select d.sku from pg_temp.listing_doubt as d));
    update amzmp.listing as l
    set observed_price = r.price,
        observed_at = report.submitted_at
    from pg_temp.listing_doubt as d
    join amzmp.remote_listing as r on (r.account_id, r.channel_id, r.sku) = (report.account_id, report.channel_id, d.sku)
    where d.price_differs
        and (l.account_id, l.channel_id, l.sku) = (report.account_id, report.channel_id, d.sku)
        and coalesce(l.observed_at < report.submitted_at, true);
    update amzmp.inventory as i
    set observed_quantity = r.quantity,
        observed_at = _note_doubts.seen_at
    from pg_temp.listing_doubt as d
    join amzmp.remote_listing as r on (r.account_id, r.channel_id, r.sku) = (report.account_id, report.channel_id, d.sku)
    where d.quantity_differs
        and (i.account_id, i.sku, i.fulfillment_channel) = (report.account_id, d.sku, 'DEFAULT')
        and coalesce(i.observed_at < _note_doubts.seen_at, true);
end
$$;

-- Some listings that nothing is said against, at random.
create function amzmp._listing_sample(report amzmp.report)
    returns text[]
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
    select array(
        select l.sku
        from amzmp.listing as l
        where (l.account_id, l.channel_id) = (report.account_id, report.channel_id)
            and l.state in ('live', 'live_with_issues')
            and l.read_due_at is null
            and not exists (select from pg_temp.listing_doubt as d where d.sku = l.sku)
        order by random()
        limit amzmp._setting_int(report.account_id, report.channel_id, 'verify_sample')
    )
$$;

/*
 * Changes that Amazon accepted (offer_lag.sql) and that the report shows. It may be older than it looks, and an old value may
 * be the new one too: so one counts that was accepted before the report can have been made, or that the last report did not
 * show yet. Called before the report is merged.
 */
create function amzmp._note_seen_in_report(report amzmp.report)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    shown_at constant timestamptz := coalesce(report.processed_at, report.downloaded_at, now());
    settled_before constant timestamptz := report.submitted_at - amzmp._account_interval(report.account_id, 0, 'report_age');
begin
    if not exists (select from amzmp.lag_sample as s where s.account_id = report.account_id and s.seen_at is null) then
        return;
    end if;
    update amzmp.lag_sample as s
    set seen_at = shown_at
    from pg_temp.listing_read as n
    left join amzmp.remote_listing as o
        on (o.account_id, o.channel_id, o.sku) = (report.account_id, report.channel_id, n.seller_sku) and o.vanished_at is null
    where s.account_id = report.account_id
        and s.sku = n.seller_sku
        and s.seen_at is null
        and s.accepted_at <= shown_at
        and case s.facet
            when 'price' then s.channel_id = report.channel_id and s.value = n.amount
                and (s.accepted_at < settled_before or o.price <> s.value)
            when 'stock' then s.value = n.units
                and (s.accepted_at < settled_before or o.quantity <> s.value)
        end;
end
$$;
