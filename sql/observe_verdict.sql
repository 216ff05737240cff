/*
 * observe_verdict.sql
 *	  The state of a listing that follows from what Amazon was seen to have.
 */

-- What Amazon says about the price of an offer that it does not let anybody buy; null where it is not the price.
create function amzmp._price_complaint(seen amzmp.seen_listing, marketplace_id text)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format('%s (%s)', i.issue ->> 'message', i.issue ->> 'code'), '; ')
    from amzmp._issues_here(seen.issues, marketplace_id) as i (issue)
    where seen.summary is not null
        and not coalesce(seen.summary -> 'status' ? 'BUYABLE', false)
        and i.issue ->> 'severity' = 'ERROR'
        and i.issue -> 'categories' ? 'INVALID_PRICE'
$$;

-- Amazon judges a new price of an offer that it had taken off sale.
create function amzmp._new_price_reason()
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select 'a new price was accepted, Amazon''s verdict is awaited'
$$;

/*
 * The state that follows from what was seen. Null where the verdict is still open.
 */
create function amzmp._verdict(listing amzmp.listing, marketplace_id text, seen amzmp.seen_listing)
    returns amzmp.new_state
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    visible constant boolean := coalesce(jsonb_array_length(seen.summary -> 'status'), 0) > 0;
    complaint constant text := amzmp._issue_summary(seen.issues, marketplace_id);
    complaints constant boolean := exists (
        select from amzmp._issues_here(seen.issues, marketplace_id) as i where i ->> 'severity' <> 'INFO'
    );
    priced_out constant text := case when listing.wanted then amzmp._price_complaint(seen, marketplace_id) end;
    late constant boolean := listing.state = 'pending' and listing.verdict_due_at < seen.seen_at;
    state text;
    reason text;
    code text;
begin
    if visible and listing.step is not null then
        return null;    -- there is more to come
    elsif priced_out is not null and listing.state = 'pending' and listing.state_reason = amzmp._new_price_reason() and not late then
        return null;    -- what Amazon said about the price before
    elsif priced_out is not null then
        state := 'deactivated';
        reason := priced_out;
    elsif visible and complaints then
        state := 'live_with_issues';
        reason := coalesce(complaint, 'Amazon has warnings, see amzmp.listing_issue');
    elsif visible then
        state := case when listing.wanted or listing.state <> 'off_sale' then 'live' else 'off_sale' end;
    elsif seen.summary is not null and complaint is not null then
        state := 'rejected';
        reason := complaint;
        code := 'REJECTED';
    elsif late then
        state := 'rejected';
        reason := 'Amazon gave no verdict in time';
        code := 'NO_VERDICT';
    elsif listing.state in ('live', 'live_with_issues') and seen.summary is null then
        state := 'gone';
        reason := 'Amazon no longer has this SKU in the marketplace';
    elsif listing.state in ('live', 'live_with_issues') then
        state := 'off_sale';
        reason := 'Amazon shows it neither as buyable nor as discoverable';
    end if;
    if state is not null then
        return (listing.channel_id, listing.sku, state, reason, code)::amzmp.new_state;
    end if;
    return null;
end
$$;

/*
 * Take each listing that was read to its next state: adopt what Amazon has, make what it has not, keep the verdict.
 */
create function amzmp._judge_listings(account_id bigint, seen amzmp.seen_listing[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    verdicts amzmp.new_state[];
    absent record;
begin
    verdicts := array(
        select case
                when l.state = 'queued' and l.in_flight_request is null and v is null
                    then (l.channel_id, l.sku, 'pending', 'Amazon knows the SKU, its verdict is awaited', null)::amzmp.new_state
                else v
            end
        from unnest(seen) as s
        join amzmp.channel as c on (c.account_id, c.channel_id) = (_judge_listings.account_id, s.channel_id)
        join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (c.account_id, s.channel_id, s.sku)
        cross join lateral amzmp._verdict(l, c.marketplace_id, s) as v
        where l.state not in ('not_listed', 'removed', 'sent', 'matching')
            and (l.state <> 'queued' or s.summary is not null and jsonb_array_length(s.summary -> 'status') > 0)
            and (not v is null or l.state = 'queued')
    );
    perform amzmp._enter(account_id, verdicts);

    update amzmp.listing as l
    set published_at = coalesce(l.published_at, now())
    from unnest(verdicts) as v
    where (l.account_id, l.channel_id, l.sku) = (_judge_listings.account_id, v.channel_id, v.sku)
        and v.state in ('live', 'live_with_issues', 'deactivated', 'pending');

    for absent in
        select l.channel_id, array_agg(l.sku order by l.sku) as skus
        from unnest(seen) as s
        join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (_judge_listings.account_id, s.channel_id, s.sku)
        where l.state = 'queued'
            and l.wanted
        group by l.channel_id
    loop
        perform amzmp._plan_puts(account_id, absent.channel_id, absent.skus);
    end loop;
end
$$;
