/*
 * listing_state.sql
 *	  The states of an offer, as people understand them: what each means, who moves it on, and what to do about it.
 *
 *		not_listed ──publish──▶ queued ◀──▶ matching
 *		                          │ ▲
 *		                         put └──── tried again: the shop or a person changed something ◀── rejected
 *		                          ▼
 *		                        sent ──accepted──▶ pending ──verdict──▶ live · live_with_issues · deactivated · rejected
 *
 *		live ──stopped, unpublished──▶ off_sale · removed        deactivated, off_sale ──price or stock──▶ pending
 *		live ──vanished at Amazon──▶ gone                        removed, gone ──publish──▶ queued
 *
 * publish.sql says which file has which arrow. Here is what a person reads, and the one place where a listing changes its
 * state, amzmp._enter.
 */
create table amzmp.listing_state (
    state text primary key,
    position integer not null unique,
    title text not null,
    for_sale boolean not null,
    meaning text not null,
    moved_by text not null,
    remedy text
);

comment on table amzmp.listing_state is 'The states that an offer can have, in words.';
comment on column amzmp.listing_state.state is 'The state, as in amzmp.listing.';
comment on column amzmp.listing_state.position is 'Its place on the way from nothing to live and away again.';
comment on column amzmp.listing_state.title is 'What to call it.';
comment on column amzmp.listing_state.for_sale is 'Can buyers buy the offer while it has stock?';
comment on column amzmp.listing_state.meaning is 'What it means.';
comment on column amzmp.listing_state.moved_by is 'Who or what takes an offer out of it.';
comment on column amzmp.listing_state.remedy is 'What a person can do about it; null where there is nothing to do.';

insert into amzmp.listing_state (state, position, title, for_sale, meaning, moved_by, remedy)
values
    ('not_listed', 1, 'not listed', false, 'Nobody wants it to be offered, and Amazon does not have it.',
        'publish, or the condition list_if', 'select amzmp.publish(channel, array[sku]); offers it.'),
    ('queued', 2, 'queued', false, 'It is wanted; what Amazon has is being asked, or the submission waits for its turn.', 'amzmp', null),
    ('matching', 3, 'looking for its page', false, 'Amazon''s catalogue is searched for its barcode.', 'the answer of the catalogue', null),
    ('sent', 4, 'sent', false, 'The submission is on its way.', 'Amazon''s answer', null),
    ('pending', 5, 'waiting for verdict', false, 'Amazon has taken the submission and is judging it.',
        'what Amazon is seen to have, or the end of sent_to_remote', null),
    ('live', 6, 'live', true, 'Buyers see it.', 'Amazon, unpublish, stop, or the shop', null),
    ('live_with_issues', 7, 'live with issues', true, 'Buyers see it, but Amazon complains about something.', 'Amazon, unpublish, stop, or the shop',
        'amzmp.listing_issue says what Amazon wants; mend it in the shop''s data.'),
    ('deactivated', 8, 'deactivated for its price', false,
        'Amazon has taken the offer off sale because it thinks the price wrong, or finds it outside its own minimum and maximum.',
        'a new price, minimum or maximum', 'Change the price, or give a minimum and a maximum by a rule; the new one is sent and judged again.'),
    ('rejected', 9, 'rejected', false, 'Amazon refused it, or it lacks what an offer needs.',
        'a change in the shop, release_penalty, or publish', 'Mend what the reason names. A change in the shop is tried by itself, select amzmp.release_penalty(channel); tries at once.'),
    ('off_sale', 10, 'off sale', false, 'Amazon has the offer, with no stock.', 'publish, relist, or stock in the shop',
        'select amzmp.relist(channel, array[sku]); where it was stopped, publish where it was unpublished.'),
    ('removed', 11, 'removed', false, 'We have deleted the offer at Amazon.', 'publish or relist', 'select amzmp.publish(channel, array[sku]); makes it anew.'),
    ('gone', 12, 'gone at Amazon', false, 'Amazon has it no more, and it was not we who deleted it.', 'publish',
        'Look into Seller Central why it was removed; select amzmp.publish(channel, array[sku]); makes it anew.');

create view amzmp.listing_status
    with (security_invoker = true)
as
    select a.name as account, c.name as channel, l.sku, l.state, s.title, l.state_at as since,
        coalesce(l.state_reason, s.meaning) as reason, coalesce(r.remedy, s.remedy) as remedy, s.moved_by, s.for_sale,
        l.wanted, l.stopped_by,
        case
            when p.gave_up then 'nothing: given up after ' || p.tries || ' tries'
            when p.subject is not null and l.state = 'rejected' then 'tried again'
            when l.read_due_at is not null then 'read from Amazon'
            when l.recompute_at is not null then 'computed anew'
        end as next,
        case
            when p.gave_up then null
            when p.subject is not null and l.state = 'rejected' then p.until
            when l.read_due_at is not null then l.read_due_at
            else l.recompute_at
        end as next_at,
        p.code, l.asin, 'https://' || m.domain || '/dp/' || l.asin as offer_url
    from amzmp.listing as l
    join amzmp.listing_state as s using (state)
    join amzmp.account as a using (account_id)
    join amzmp.channel as c using (account_id, channel_id)
    join amzmp.marketplace as m using (marketplace_id)
    left join amzmp.penalty as p
        on (p.account_id, p.channel_id, p.kind, p.subject) = (l.account_id, l.channel_id, 'publish', l.sku)
    left join amzmp.meaning as r on r.code = p.code;

comment on view amzmp.listing_status is 'Each offer''s state in words: why it is so, what to do about it, who moves it on, and what happens next.';
comment on column amzmp.listing_status.account is 'Name of the account.';
comment on column amzmp.listing_status.channel is 'Name of the channel.';
comment on column amzmp.listing_status.sku is 'The SKU.';
comment on column amzmp.listing_status.state is 'The state, as in amzmp.listing.';
comment on column amzmp.listing_status.title is 'The state in words.';
comment on column amzmp.listing_status.since is 'Since when it is in this state.';
comment on column amzmp.listing_status.reason is 'Why it is in this state.';
comment on column amzmp.listing_status.remedy is 'What a person can do about it; null where there is nothing to do.';
comment on column amzmp.listing_status.moved_by is 'Who or what takes the offer out of this state.';
comment on column amzmp.listing_status.for_sale is 'Can buyers buy it while it has stock?';
comment on column amzmp.listing_status.wanted is 'Shall it be sold here?';
comment on column amzmp.listing_status.stopped_by is 'Who stopped it: a person, a rule, or the shop.';
comment on column amzmp.listing_status.next is 'What amzmp does next by itself.';
comment on column amzmp.listing_status.next_at is 'When.';
comment on column amzmp.listing_status.code is 'The code of the failure, Amazon''s or ours.';
comment on column amzmp.listing_status.asin is 'Amazon''s catalogue item.';
comment on column amzmp.listing_status.offer_url is 'Link to the page on which buyers see it.';

/*
 * Set the state of listings with the reason for it, and log what did not come out as wanted.
 */
create type amzmp.new_state as (channel_id bigint, sku text, state text, reason text, code text);

comment on type amzmp.new_state is 'Inner: a state that a listing enters. code: why it failed, for amzmp.penalty; null where it did not.';

create function amzmp._enter(account_id bigint, states amzmp.new_state[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    failure amzmp.new_state;
begin
    perform amzmp._notify_listings(_enter.account_id, array_agg(s.channel_id), array_agg(s.sku), array_agg(s.state))
    from unnest(states) as s
    join amzmp.listing as l on (l.account_id, l.channel_id, l.sku) = (_enter.account_id, s.channel_id, s.sku) and l.state <> s.state;

    update amzmp.listing as l
    set state = s.state,
        state_reason = s.reason,
        state_at = case when l.state = s.state then l.state_at else now() end
    from unnest(states) as s
    where (l.account_id, l.channel_id, l.sku) = (_enter.account_id, s.channel_id, s.sku)
        and (l.state, l.state_reason) is distinct from (s.state, s.reason);

    perform amzmp._share_stock(account_id, array(select s.sku from unnest(states) as s));

    foreach failure in array array(select s from unnest(states) as s where s.code is not null)
    loop
        perform amzmp._penalise(account_id, failure.channel_id, 'publish', failure.sku, failure.code, failure.reason);
    end loop;

    -- what is on its way once more may fail once more; only what came out well is forgiven
    delete from amzmp.penalty as p
    using unnest(states) as s
    where (p.account_id, p.channel_id, p.kind, p.subject) = (_enter.account_id, s.channel_id, 'publish', s.sku)
        and s.code is null
        and s.state not in ('queued', 'matching', 'sent', 'pending');
end
$$;

-- Stock can be sent while an offer that the merchant ships is listed in any channel. What was live is forgotten with
-- the last one.
create function amzmp._share_stock(account_id bigint, skus text[])
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    update amzmp.inventory as i
    set listed = s.listed,
        remote_quantity = case when s.listed then i.remote_quantity end,
        remote_terms = case when s.listed then i.remote_terms end,
        submitted_quantity_at = case when s.listed then i.submitted_quantity_at end
    from (
        select k.sku, exists (
                select
                from amzmp.channel as c
                join amzmp.listing as l using (account_id, channel_id)
                where c.account_id = _share_stock.account_id
                    and l.sku = k.sku
                    and l.listed
                    and not l.is_parent
                    and (l.step is null or l.step = 'stock')
                    and l.fulfillment = 'merchant'
            ) as listed
        from (select distinct u.sku from unnest(_share_stock.skus) as u (sku)) as k
    ) as s
    where (i.account_id, i.sku, i.fulfillment_channel) = (_share_stock.account_id, s.sku, 'DEFAULT')
        and i.listed is distinct from s.listed;
end
$$;
