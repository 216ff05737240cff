/*
 * penalty_release.sql
 *	  What people read of penalties, and what they do: release them one by one, by a query, or from a file by COPY, and
 *	  have values sent again that amzmp believes to be there.
 *
 * Releasing and resending only note it; planning is an own runner's task (_task_released), so that a file of ten thousand
 * SKUs is one plan and not ten thousand.
 */
create view amzmp.penalised
    with (security_invoker = true)
as
    select a.name as account, c.name as channel, p.kind, p.subject, coalesce(m.error, p.code) as error, p.code, p.message, m.class,
        m.meaning, m.remedy, coalesce(m.blocking, false) as blocking, p.tries, p.first_at, p.first_code, p.first_message, p.last_at,
        p.until, p.gives_up_at, p.gave_up, p.account_id, p.channel_id
    from amzmp.penalty as p
    join amzmp.account as a using (account_id)
    left join amzmp.channel as c using (account_id, channel_id)
    left join amzmp.meaning as m on m.code = p.code;

comment on view amzmp.penalised is 'What is held back after an error, with what the error means, what to do, and when it is tried again.';
comment on column amzmp.penalised.account is 'Name of the account.';
comment on column amzmp.penalised.channel is 'Name of the channel; null: the account itself.';
comment on column amzmp.penalised.kind is 'What failed: publish, price, stock, details, order, shipment …';
comment on column amzmp.penalised.subject is 'The SKU or order.';
comment on column amzmp.penalised.error is 'Name of the error, see amzmp.issue_meaning; the bare code where nobody has explained it.';
comment on column amzmp.penalised.code is 'Amazon''s code, or ours, of the last failure.';
comment on column amzmp.penalised.message is 'What was said at the last failure.';
comment on column amzmp.penalised.class is 'What kind of matter it is.';
comment on column amzmp.penalised.meaning is 'What it means, in plain words.';
comment on column amzmp.penalised.remedy is 'What to do about it.';
comment on column amzmp.penalised.blocking is 'Does it stay until somebody changes something?';
comment on column amzmp.penalised.tries is 'Failures so far.';
comment on column amzmp.penalised.first_at is 'When it failed first.';
comment on column amzmp.penalised.first_code is 'Code of the first failure.';
comment on column amzmp.penalised.first_message is 'What was said at the first failure.';
comment on column amzmp.penalised.last_at is 'When it failed last.';
comment on column amzmp.penalised.until is 'It is not tried before.';
comment on column amzmp.penalised.gives_up_at is 'No try begins later.';
comment on column amzmp.penalised.gave_up is 'Is it given up, until somebody releases it?';
comment on column amzmp.penalised.account_id is 'The account.';
comment on column amzmp.penalised.channel_id is 'The channel; 0: the account itself.';

create view amzmp.given_up
    with (security_invoker = true)
as
    select p.account, p.channel, p.kind, p.subject, p.error, p.message, p.meaning, p.remedy, p.tries, p.first_at, p.first_message, p.last_at
    from amzmp.penalised as p
    where p.gave_up;

comment on view amzmp.given_up is 'What is not tried any more until somebody releases it: select amzmp.release_penalty(…).';
comment on column amzmp.given_up.account is 'Name of the account.';
comment on column amzmp.given_up.channel is 'Name of the channel; null: the account itself.';
comment on column amzmp.given_up.kind is 'What failed.';
comment on column amzmp.given_up.subject is 'The SKU or order.';
comment on column amzmp.given_up.error is 'Name of the error.';
comment on column amzmp.given_up.message is 'What was said at the last failure.';
comment on column amzmp.given_up.meaning is 'What it means, in plain words.';
comment on column amzmp.given_up.remedy is 'What to do before it is released.';
comment on column amzmp.given_up.tries is 'How often it failed.';
comment on column amzmp.given_up.first_at is 'When it failed first.';
comment on column amzmp.given_up.first_message is 'What was said at the first failure.';
comment on column amzmp.given_up.last_at is 'When it failed last.';

create view amzmp.issue
    with (security_invoker = true)
as
    select a.name as account, c.name as channel, i.sku, coalesce(m.error, i.code) as error, i.code, i.severity, i.message, m.class,
        m.meaning, m.remedy, coalesce(m.blocking, false) as blocking, i.attribute_names, i.categories, i.enforcement, i.seen_at,
        i.account_id, i.channel_id
    from amzmp.listing_issue as i
    join amzmp.account as a using (account_id)
    join amzmp.channel as c using (account_id, channel_id)
    left join amzmp.meaning as m on m.code = i.code;

comment on view amzmp.issue is 'What Amazon says is wrong with offers, with what it means and what to do.';
comment on column amzmp.issue.account is 'Name of the account.';
comment on column amzmp.issue.channel is 'Name of the channel.';
comment on column amzmp.issue.sku is 'The SKU.';
comment on column amzmp.issue.error is 'Name of the error, see amzmp.issue_meaning; the bare code where nobody has explained it.';
comment on column amzmp.issue.code is 'Amazon''s code.';
comment on column amzmp.issue.severity is 'ERROR, WARNING or INFO.';
comment on column amzmp.issue.message is 'Amazon''s words.';
comment on column amzmp.issue.class is 'What kind of matter it is.';
comment on column amzmp.issue.meaning is 'What it means, in plain words.';
comment on column amzmp.issue.remedy is 'What to do about it.';
comment on column amzmp.issue.blocking is 'Does it stay until somebody changes something?';
comment on column amzmp.issue.attribute_names is 'The attributes that it is about.';
comment on column amzmp.issue.categories is 'Amazon''s categories, e.g. MISSING_ATTRIBUTE.';
comment on column amzmp.issue.enforcement is 'What Amazon does because of it, e.g. LISTING_SUPPRESSED.';
comment on column amzmp.issue.seen_at is 'When Amazon said so.';
comment on column amzmp.issue.account_id is 'The account.';
comment on column amzmp.issue.channel_id is 'The channel.';

/*
 * Release.
 */
create function amzmp._release_penalty(account_or_channel text, subjects text[] default null, kind text default null,
    code text default null)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    target record;
    released bigint;
begin
    select * into target from amzmp._resolve(account_or_channel);
    with gone as (
        delete from amzmp.penalty as p
        where p.account_id = target.account_id
            and (target.channel_id = 0 or p.channel_id in (0, target.channel_id))
            and (_release_penalty.subjects is null or p.subject = any (_release_penalty.subjects))
            and (_release_penalty.kind is null or p.kind = _release_penalty.kind)
            and (_release_penalty.code is null or p.code = _release_penalty.code)
        returning p.subject
    )
    select count(*) into released from gone;
    if released > 0 then
        perform amzmp._log(target.account_id, target.channel_id, 'notice', 'penalty',
            case when cardinality(subjects) = 1 then subjects[1] end, format('%s released by %s', released, amzmp._caller()));
        perform amzmp._add_task(target.account_id, 'released', '', null, now());
    end if;
    return released;
end
$$;

select amzmp._expose('amzmp._release_penalty(text, text[], text, text)', 'amzmp_operator',
    'Let penalised subjects go, given up or not (all of the account or channel, or those of these subjects, this kind, this code), so that they are tried again at once. Returns how many.');

-- Inner, own runner: try again what was released, and send what was forgotten.
create function amzmp._task_released(account_id bigint, subject text, argument jsonb)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    place bigint;
begin
    perform amzmp._plan_sends(account_id);
    perform amzmp._retry_orders(account_id, true);
    for place in
        select c.channel_id
        from amzmp.channel as c
        join amzmp.account as a using (account_id)
        where c.account_id = _task_released.account_id and c.active and not c.dropped and a.active
    loop
        perform amzmp._look(account_id, place, amzmp._retry_rejected(account_id, place), now(), '{"reason": "released"}');
    end loop;
end
$$;

create view amzmp.release_input
    with (security_invoker = true)
as
    select coalesce(p.channel, p.account) as account_or_channel, p.subject, p.kind, p.code
    from amzmp.penalised as p;

comment on view amzmp.release_input is 'Penalties as they can be released in bulk: an inserted row (COPY from a file, too) and a deleted one are a release_penalty. kind and code may be left out; a row that releases nothing does not count.';
comment on column amzmp.release_input.account_or_channel is 'Name of the account or channel.';
comment on column amzmp.release_input.subject is 'The SKU or order.';
comment on column amzmp.release_input.kind is 'What failed; null: whatever it was.';
comment on column amzmp.release_input.code is 'With this code; null: with any.';

create function amzmp.write_release_input()
    returns trigger
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    row_given constant amzmp.release_input := case tg_op when 'DELETE' then old else new end;
begin
    if row_given.subject is null then
        perform amzmp._fail('AZ202', 'a row to be released needs a subject', null,
            'Without one everything would be released: select amzmp.release_penalty(account_or_channel) does that.');
    end if;
    if amzmp.release_penalty(row_given.account_or_channel, array[row_given.subject], row_given.kind, row_given.code) = 0 then
        return null;
    end if;
    return row_given;
end
$$;

comment on function amzmp.write_release_input() is 'Trigger function of amzmp.release_input.';
revoke all on function amzmp.write_release_input() from public;
grant execute on function amzmp.write_release_input() to amzmp_operator;

create trigger release_input_write instead of insert or delete on amzmp.release_input
    for each row execute function amzmp.write_release_input();
grant insert, delete on amzmp.release_input to amzmp_operator;

/*
 * Send again.
 */

-- Forget what we expect at Amazon, so that it differs and is sent. What is in flight is on its way anyway.
create function amzmp._resend(account_or_channel text, skus text[] default null, facets text[] default '{price,stock}')
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    target record;
    unknown text;
    chosen text[];
begin
    select * into target from amzmp._resolve(account_or_channel);
    if not coalesce(_resend.facets <@ '{price,stock,details,product,relation,image}' and _resend.facets <> '{}', false) then
        perform amzmp._fail('AZ202', format('%L are not facets', facets), null, 'Facets are price, stock, details, product, relation and image.');
    end if;
    chosen := array(
        select distinct l.sku
        from amzmp.listing as l
        where l.account_id = target.account_id
            and target.channel_id in (0, l.channel_id)
            and (_resend.skus is null and l.listed or l.sku = any (_resend.skus))
        order by l.sku
    );
    select s.sku into unknown from unnest(_resend.skus) as s (sku) where s.sku <> all (chosen) limit 1;
    if unknown is not null then
        perform amzmp._fail('AZ202', format('never published in "%s": %L', account_or_channel, unknown), null,
            'Publish it first, or leave it out; nothing was sent.');
    end if;

    perform amzmp._lock_skus(target.account_id, chosen);
    update amzmp.listing as l
    set remote_price = case when 'price' = any (_resend.facets) and l.in_flight_price is null then null else l.remote_price end,
        remote_details = case when 'details' = any (_resend.facets) and l.in_flight_details is null then null else l.remote_details end
    where l.account_id = target.account_id
        and target.channel_id in (0, l.channel_id)
        and l.sku = any (chosen)
        and _resend.facets && '{price,details}';
    update amzmp.listing_content as d
    set remote = amzmp._names_only(d.remote)
    where d.account_id = target.account_id
        and target.channel_id in (0, d.channel_id)
        and d.sku = any (chosen)
        and d.facet = any (_resend.facets)
        and d.in_flight_request is null;
    update amzmp.inventory as i
    set remote_quantity = null
    where i.account_id = target.account_id
        and i.sku = any (chosen)
        and i.in_flight_request is null
        and 'stock' = any (_resend.facets);
    delete from amzmp.penalty as p
    where p.account_id = target.account_id
        and (target.channel_id = 0 or p.channel_id in (0, target.channel_id))
        and p.subject = any (chosen)
        and p.kind = any (_resend.facets);

    perform amzmp._log(target.account_id, target.channel_id, 'notice', 'listing', case when cardinality(chosen) = 1 then chosen[1] end,
        format('%s of %s SKUs sent again, asked for by %s', array_to_string(facets, ', '), cardinality(chosen), amzmp._caller()));
    perform amzmp._add_task(target.account_id, 'released', '', null, now());
    return cardinality(chosen);
end
$$;

select amzmp._expose('amzmp._resend(text, text[], text[])', 'amzmp_operator',
    'Send price and stock (or these facets: price, stock, details, product, relation, image) of SKUs again, whatever Amazon is believed to have, and release their penalties. No SKUs: all offers of the account or channel. Returns how many SKUs.');
