/*
 * source_failure.sql
 *	  Sources that cannot be read: what is known is held, what waits is kept, and reading is tried again.
 */

-- Hold what is known, try again later: 5 s, doubled up to 10 minutes. A long queue of keys becomes one comparison.
create function amzmp._note_failure(source amzmp.source, message text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    dropped bigint;
begin
    update amzmp.source x
       set state = 'failing', last_error = left(_note_failure.message, 1000), failures = x.failures + 1,
           retry_at = now() + least(interval '10 minutes', interval '5 seconds' * (2 ^ least(x.failures, 10))),
           rescan_started_at = null, rescan_after = null
     where x.account_id = source.account_id and x.source_id = source.source_id;
    if source.last_error is distinct from left(_note_failure.message, 1000) then
        perform amzmp._log(source.account_id, source.channel_id, 'error', 'source', source.relation,
                           'cannot be read, nothing is changed until it can: ' || left(_note_failure.message, 1000));
    end if;
    perform amzmp._pass_on_changes(source);
    with waiting as (
        select x.source_change_id from amzmp.source_change x
         where x.account_id = source.account_id and x.source_id = source.source_id
         order by x.source_change_id offset 1000
    ), removed as (
        delete from amzmp.source_change x using waiting w
         where x.account_id = source.account_id and x.source_id = source.source_id and x.source_change_id = w.source_change_id
        returning x.source_change_id
    )
    select count(*) into dropped from removed;
    if dropped > 0 then
        update amzmp.source x
           set rescan_due = least(x.rescan_due, now()), rescan_requested_at = clock_timestamp(), rescan_reason = 'failed for long'
         where x.account_id = source.account_id and x.source_id = source.source_id;
    end if;
    perform amzmp._wake();   -- the sender learns when to try again
end
$$;

-- A relation or a privilege was altered: what fails is tried again at once. Whether anything fails: one that is being read
-- just now may fail once more, so the sender looks a second time.
create function amzmp._retry_sources() returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    update amzmp.source s set retry_at = now()
      from (select x.account_id, x.source_id from amzmp.source x
             where x.state = 'failing' and x.retry_at > now() for no key update skip locked) w
     where s.account_id = w.account_id and s.source_id = w.source_id;
    return exists (select from amzmp.source x where x.state = 'failing');
end
$$;
comment on function amzmp._retry_sources() is 'Inner, sender: read sources that fail again at once, for somebody has altered something.';

-- Move what waits in change for this source (and others) to source_change, so that a failing source does not keep the
-- shared table long.
create function amzmp._pass_on_changes(source amzmp.source) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    with removed as (
        delete from amzmp.change c
         where (c.xid, c.part) in (
            select x.xid, x.part from amzmp.change x
             where x.watched_id in (select w.watched_id from amzmp.source_watch w
                                     where w.account_id = source.account_id and w.source_id = source.source_id)
             for update skip locked)
        returning c.*
    )
    insert into amzmp.source_change (account_id, source_id, watched_id, keys, cause)
    select w.account_id, w.source_id, r.watched_id, r.keys, amzmp._shop_cause(r.xid, r.role, r.application, r.at)
      from removed r join amzmp.source_watch w using (watched_id)
     where amzmp._is_part_of(r.relation, r.watched_id)
     order by r.xid, r.part
$$;

create function amzmp._reading_failed(source_id bigint, state text, message text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    if not amzmp._runner_lives(pg_backend_pid()) then
        perform amzmp._fail('42501', 'only a runner says why a source could not be read', null, 'select amzmp.rescan(…); has it read again.');
    end if;
    perform amzmp._note_failure(amzmp._own_source(_reading_failed.source_id), format('%s (%s)', _reading_failed.message, _reading_failed.state));
end
$$;
select amzmp._expose('amzmp._reading_failed(bigint, text, text)', 'public', 'Writes down why a source could not be read. For the user runner of its role.');

-- The transaction around a reading failed (a deferred trigger of the shop, a lost connection), so nothing is known of which
-- source it was: the one whose turn it was waits like any that failed.
create function amzmp._source_failed(role name, state text, message text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
declare
    s amzmp.source := amzmp._next_source(_source_failed.role);
begin
    if s.source_id is not null then
        perform amzmp._note_failure(s, format('%s (%s)', _source_failed.message, _source_failed.state));
    end if;
end
$$;
comment on function amzmp._source_failed(name, text, text) is 'Inner: what _source_work returned for this role could not be committed.';
