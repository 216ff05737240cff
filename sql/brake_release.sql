/*
 * brake_release.sql
 *	  What a person decides about changes that are held: let them pass, or keep the old values. amzmp.brake shows them.
 */

-- Close a batch and count anew; its SKUs. Error AZ203 where there is nothing to decide.
create function amzmp._brake_close(account_id bigint, batch bigint, state text, out skus text[])
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    channel_id bigint;
begin
    update amzmp.brake_batch as b
    set state = _brake_close.state,
        closed_at = now(),
        closed_by = amzmp._caller()
    where (b.account_id, b.batch_id, b.state) = (_brake_close.account_id, _brake_close.batch, 'held')
    returning b.channel_id into channel_id;
    if not found then
        perform amzmp._fail('AZ203', format('no batch %s is held in this account', batch), null,
            'Look into amzmp.brake for the batches that wait.');
    end if;
    delete from amzmp.brake_count as k
    using amzmp.brake_batch as b
    where (b.account_id, b.batch_id) = (_brake_close.account_id, _brake_close.batch)
        and (k.account_id, k.channel_id, k.facet) = (b.account_id, b.channel_id, b.facet);
    skus := array(
        select i.sku
        from amzmp.brake_item as i
        where (i.account_id, i.batch_id) = (_brake_close.account_id, _brake_close.batch)
    );
    perform amzmp._log(account_id, channel_id, 'notice', 'brake', batch::text,
        format('batch of %s changes %s by %s', cardinality(skus), state, amzmp._caller()),
        jsonb_build_object('batch', batch));
end
$$;

create function amzmp._release_brake(account text, batch bigint)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    account_id constant bigint := (amzmp._account(account)).account_id;
    skus text[];
begin
    skus := amzmp._brake_close(account_id, batch, 'released');
    perform amzmp._recompute(account_id, skus, jsonb_build_object('role', amzmp._caller(), 'released_batch', batch), batch);
    return cardinality(skus);
end
$$;

select amzmp._expose('amzmp._release_brake(text, bigint)', 'amzmp_operator',
    'Let the changes of a held batch pass, as the shop''s rows ask for them now. Returns the number of SKUs.');

create function amzmp._discard_brake(account text, batch bigint)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return cardinality(amzmp._brake_close((amzmp._account(account)).account_id, batch, 'discarded'));
end
$$;

select amzmp._expose('amzmp._discard_brake(text, bigint)', 'amzmp_operator',
    'Keep the old values of a held batch until the shop asks for other ones than those discarded. Returns the number of SKUs.');

create view amzmp.brake
    with (security_invoker = true)
as
    select a.name as account, c.name as channel, b.batch_id as batch, b.facet, b.state, b.reason, b.opened_at,
        b.closed_at, b.closed_by,
        (
            select count(*)
            from amzmp.brake_item as i
            where (i.account_id, i.batch_id) = (b.account_id, b.batch_id)
        ) as changes
    from amzmp.brake_batch as b
    join amzmp.account as a using (account_id)
    join amzmp.channel as c using (account_id, channel_id);

comment on view amzmp.brake is 'Batches of changes that look like a mistake. Those held wait for release_brake(account, batch) or discard_brake(account, batch); amzmp.brake_item lists what is in them.';
comment on column amzmp.brake.account is 'Name of the account.';
comment on column amzmp.brake.channel is 'Name of the channel whose limit was exceeded.';
comment on column amzmp.brake.batch is 'Number of the batch.';
comment on column amzmp.brake.facet is 'price, stock or stop.';
comment on column amzmp.brake.state is 'held, released or discarded.';
comment on column amzmp.brake.reason is 'Why it is held.';
comment on column amzmp.brake.opened_at is 'When the first change was held.';
comment on column amzmp.brake.closed_at is 'When a person decided.';
comment on column amzmp.brake.closed_by is 'Who decided.';
comment on column amzmp.brake.changes is 'How many offers it holds.';
