/*
 * would_send.sql
 *	  A rehearsal: what would this transaction make us send?
 *
 * The keys that the transaction has captured so far are still in memory (capture.c). would_send reads their rows as the
 * transaction sees them, takes them down the very way that a user runner's rows go (take_rows, recompute, plan, render),
 * collects the bodies and undoes everything: it all happens in a subtransaction that is rolled back, and plpgsql's
 * variables survive that. What is left is nothing but gaps in sequences.
 *
 * The shop's rows are read by the statement of the source, in the caller's own session; so only the role that the source
 * is read as may ask, and its functions run with its own rights. Triggers that the shop defers to the commit have not
 * fired yet.
 */
create function amzmp._captured()
    returns table (watched_id bigint, relation oid, keys text[], rescan text)
    language c
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'amzmp_captured';

comment on function amzmp._captured() is 'Inner: keys that the current transaction has captured so far.';

create type amzmp.message as (
    account text,
    channel text,
    sku text,
    operation text,
    priority integer,
    not_before timestamptz,
    params jsonb,
    body jsonb,
    note text
);

comment on type amzmp.message is 'A message that would be sent, or the reason why a change is not.';

/*
 * The statements that read what the transaction changed: $1 are SKUs, $2 keys of a watched table. skus: whose rows they
 * give, so that those without a row are gone.
 */
create function amzmp._rehearsal_statements()
    returns table (source_id bigint, statement text, skus text[], keys text[])
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    foreign_role name;
begin
    select s.run_as into foreign_role
    from amzmp._captured() as k
    join amzmp.source_watch as w using (watched_id)
    join amzmp.source as s using (account_id, source_id)
    where amzmp._is_part_of(k.relation, k.watched_id)
        and (s.run_as <> amzmp._caller() or s.run_as <> session_user)
    limit 1;
    if foreign_role is not null then
        perform amzmp._fail('AZ204', format('only role "%s" can rehearse this', foreign_role),
            'The source that this transaction changed is read with the rights of that role.',
            format('Connect as "%s".', foreign_role));
    end if;
    return query
    select s.source_id, 'select array(' || amzmp._source_query(s, c.condition, '') || ')', c.skus, k.keys
    from amzmp._captured() as k
    join amzmp.watched as h using (watched_id)
    join amzmp.source_watch as w using (watched_id)
    join amzmp.source as s using (account_id, source_id)
    cross join lateral (
        select array(
                select p.sku from amzmp.product_key as p
                where (p.account_id, p.source_id, p.watched_id) = (s.account_id, s.source_id, k.watched_id) and p.key = any (k.keys)
            ) as mapped,
            array(
                select p.sku from amzmp.product as p where (p.account_id, p.source_id) = (s.account_id, s.source_id)
            ) as known
    ) as n
    cross join lateral (
        select case
                when k.rescan is not null then 'true'
                else format(E'((%s\n) = any ($1::%s[]) or %s)', s.expressions ->> 'sku', s.sku_type,
                        case when w.via is null then 'false' else format(E'(%s\n) = any ($2::%s[])', w.via, h.key_type) end)
            end as condition,
            case when k.rescan is not null then n.known when w.via is null then k.keys else n.mapped end as skus
    ) as c
    where s.state <> 'held'
        and amzmp._is_part_of(k.relation, k.watched_id);
end
$$;

select amzmp._expose('amzmp._rehearsal_statements()', 'amzmp_operator', 'What would_send reads. For the role that the source is read as.');

/*
 * What waits to be sent because of this transaction: requests that it made, and those that waited already for the SKUs
 * that it changed. Rules for all products are applied first, because a task would do that after the commit.
 */
create function amzmp._rehearsed(skus text[])
    returns setof amzmp.message
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    part record;
    last_request bigint;
begin
    for part in
        select t.account_id, t.argument
        from amzmp.task as t
        where t.kind = 'recompute_all'
            and t.created_at = now()
            and amzmp._may_see(t.account_id, amzmp._caller())
    loop
        perform amzmp._recompute(part.account_id, array(
                select i.sku from amzmp.inventory as i where i.account_id = part.account_id
            ), part.argument -> 'cause');
    end loop;

    -- what single calls would not manage soon is left to feeds: as calls, it shows what the feed's messages would say
    last_request := nextval('amzmp.request_id_seq');
    perform amzmp._plan_sends(t.account_id, _rehearsed.skus, null, '{}', false)
    from amzmp.task as t
    where t.kind = 'bulk'
        and amzmp._may_see(t.account_id, amzmp._caller());

    for part in
        select r.account_id, r.render, array_agg(r order by r.request_id) as requests
        from amzmp.request as r
        where r.state = 'due'
            and (r.created_at = now() or r.subject_kind = 'listing' and r.subject = any (_rehearsed.skus))
            and amzmp._may_see(r.account_id, amzmp._caller())
        group by r.account_id, r.render
    loop
        return query
        select a.name, c.name, r.subject, r.operation, r.priority::integer, r.not_before, coalesce(x.params, r.params),
            coalesce(x.body, r.body),
            case when r.request_id > last_request then 'a feed may carry it, so many changes are there' end
        from unnest(part.requests) as r
        join amzmp.account as a using (account_id)
        left join amzmp.channel as c on (c.account_id, c.channel_id) = (r.account_id, r.channel_id)
        left join amzmp._rendered_or_none(part.render, part.requests) as x on x.request_id = r.request_id
        where part.render is null
            or x.request_id is not null
        order by r.priority, r.request_id;
    end loop;

    return query
    select a.name, c.name, i.sku, null::text, null::integer, null::timestamptz, null::jsonb, null::jsonb,
        format('held by the brake: %s %s instead of %s (%s)', b.facet, trim_scale(i.new_value), trim_scale(i.old_value), b.reason)
    from amzmp.brake_item as i
    join amzmp.brake_batch as b using (account_id, batch_id)
    join amzmp.account as a using (account_id)
    join amzmp.channel as c using (account_id, channel_id)
    where b.state = 'held'
        and i.held_at = now()
        and amzmp._may_see(i.account_id, amzmp._caller())
    order by b.batch_id, i.sku;
end
$$;

select amzmp._expose('amzmp._rehearsed(text[])', 'amzmp_operator', 'What waits to be sent because of this transaction. Used by would_send.');

create function amzmp._rendered_or_none(render_function text, claimed amzmp.request[])
    returns setof amzmp.rendered
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    if render_function is not null then
        return query select * from unnest(amzmp._render(render_function, claimed));
    end if;
end
$$;

-- An ordinary function, run as whoever calls it: the shop's rows are read with the caller's rights.
create function amzmp.would_send()
    returns setof amzmp.message
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    set row_security = off
as $$
declare
    reading record;
    rows amzmp.shop_row[];
    skus text[] := '{}';
    messages amzmp.message[];
begin
    begin
        for reading in select * from amzmp.rehearsal_statements()
        loop
            execute reading.statement into rows using reading.skus, reading.keys;
            perform amzmp.take_rows(reading.source_id, reading.skus, rows, jsonb_build_object('role', current_user, 'rehearsal', true));
            skus := skus || reading.skus || array(select r.sku from unnest(rows) as r);
        end loop;
        messages := array(select m from amzmp.rehearsed(skus) as m);
        raise exception using errcode = 'AZ900', message = 'rehearsed';
    exception
        when sqlstate 'AZ900' then
            null;   -- everything is undone; what was found is in messages
    end;
    return query select * from unnest(messages);
end
$$;

revoke all on function amzmp.would_send() from public;
grant execute on function amzmp.would_send() to amzmp_operator;
comment on function amzmp.would_send() is
    'The messages that the changes of the current transaction would cause, with their bodies, and what the brake would hold. Sends nothing and changes nothing. For the role that attached the source.';
