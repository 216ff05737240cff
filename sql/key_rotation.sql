-- key_rotation.sql
-- A new key, and everything that is sealed sealed anew under it, in bounded steps by an own runner.
--
-- A step takes a range of blocks of one table and seals what is in there under an older key. Rows that others change
-- meanwhile may move to where the walk has been; so when it has seen all tables it counts what is left, and walks again.
-- The older key may be taken out of the key file when nothing is left; until then it opens what it sealed.

create table amzmp.key_rotation (
    key_id bigint primary key,
    started_at timestamptz not null default now(),
    started_by name not null,
    relation text,
    column_name text,
    next_block bigint not null default 0,
    resealed bigint not null default 0,
    resealed_in_walk bigint not null default 0,
    walks integer not null default 0,
    finished_at timestamptz,
    left_over bigint
);

comment on table amzmp.key_rotation is 'Rotations of the key, the one under way with its progress.';
comment on column amzmp.key_rotation.key_id is 'The key that was new then.';
comment on column amzmp.key_rotation.started_at is 'When it began.';
comment on column amzmp.key_rotation.started_by is 'Who began it.';
comment on column amzmp.key_rotation.relation is 'The table that the walk has come to; null at its beginning.';
comment on column amzmp.key_rotation.column_name is 'The column of it.';
comment on column amzmp.key_rotation.next_block is 'The block that comes next.';
comment on column amzmp.key_rotation.resealed is 'Values sealed anew so far.';
comment on column amzmp.key_rotation.resealed_in_walk is 'Those of the present walk.';
comment on column amzmp.key_rotation.walks is 'Walks completed over all tables.';
comment on column amzmp.key_rotation.finished_at is 'When the last walk ended; null while it goes on.';
comment on column amzmp.key_rotation.left_over is 'Values still sealed under an older key at the end: they could not be opened.';

-- Inner: every sealed column, with the purpose and the row's key that it is bound to.
create function amzmp._sealed_columns() returns table (relation text, column_name text, purpose text, row_key text)
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    values
        ('account', 'refresh_token', 'refresh_token', $$'account:' || account_id$$),
        ('alarm_target', 'credentials', 'alarm_target', $$account_id || '/' || target$$),
        ('answer', 'body', 'answer', $$account_id || '/' || request_id$$),
        ('application', 'client_secret', 'client_secret', $$'application:' || application_id$$),
        ('consent_state', 'code', 'consent_code', $$'consent:' || consent_id$$),
        ('document_chunk', 'sealed', 'document', $$account_id || '/' || document_id || '/' || position$$),
        ('order_buyer', 'raw', 'order', $$account_id || '/' || amazon_order_id$$),
        ('order_buyer', 'sealed', 'buyer', $$account_id || '/' || amazon_order_id$$),
        ('parked_order', 'sealed', 'order', $$account_id || '/' || amazon_order_id$$),
        ('queue', 'credentials', 'queue', $$'queue:' || account_id$$),
        ('report_token', 'token', 'restricted_token', $$account_id || '/' || report_id$$),
        ('request', 'sent_body', 'sent_body', $$account_id || '/' || request_id$$),
        ('request_log', 'answer_body', 'answer_body', $$account_id || '/' || request_id$$),
        ('request_log', 'sent_body', 'sent_body', $$account_id || '/' || request_id$$),
        ('task', 'sealed', 'handler_answer', $$account_id || '/' || subject$$),
        ('transfer', 'link', 'document_link', $$account_id || '/' || subject$$);
    end;

-- Inner: the same by table that has blocks: a partitioned one's partitions, in the order of the walk.
create function amzmp._sealed_places() returns table (relation text, column_name text, purpose text, row_key text)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select c.relname::text, s.column_name, s.purpose, s.row_key
      from amzmp._sealed_columns() s
      cross join lateral to_regclass('amzmp.' || quote_ident(s.relation)) r
      left join lateral pg_partition_tree(r) t on true
      join pg_class c on c.oid = coalesce(t.relid, r)
     where t.isleaf is not false
     order by c.relname::text collate "C", s.column_name collate "C";
    end;

-- Inner: sealed anew, or null for what cannot be opened (it must not stop its neighbours).
create function amzmp._try_reseal(sealed bytea, purpose text, row_key text) returns bytea
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    return amzmp._reseal(sealed, purpose, row_key);
exception
    when query_canceled then
        raise;
    when others then
        return null;
end
$$;

-- Inner: seal anew what lies in some blocks of a place. Returns how many values.
create function amzmp._reseal_blocks(place record, key_id bigint, first_block bigint, blocks integer) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    resealed bigint;
begin
    -- a value that was changed meanwhile stays: before 15.15 the server follows a row from its old place
    execute format('with old as materialized ('
                   '    select x.ctid as at, x.%1$I as was, amzmp._try_reseal(x.%1$I, %2$L, %3$s) as fresh from amzmp.%4$I x'
                   '     where x.ctid >= $1 and x.ctid < $2 and x.%1$I is not null and amzmp._key_id(x.%1$I) <> $3)'
                   'update amzmp.%4$I x set %1$I = o.fresh from old o'
                   ' where x.ctid = o.at and x.%1$I = o.was and o.fresh is not null',
                   place.column_name, place.purpose, place.row_key, place.relation)
      using format('(%s,0)', first_block)::tid, format('(%s,0)', first_block + blocks)::tid, key_id;
    get diagnostics resealed = row_count;
    return resealed;
end
$$;

-- Inner: values that are still sealed under another key.
create function amzmp._sealed_otherwise(key_id bigint) returns bigint
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
declare
    place record;
    found_here bigint;
    found_in_all bigint := 0;
begin
    -- a statement a table: each is another one
    for place in select * from amzmp._sealed_places()
    loop
        execute format('select count(*) from amzmp.%I x where x.%2$I is not null and amzmp._key_id(x.%2$I) <> $1',
                       place.relation, place.column_name) into found_here using key_id;
        found_in_all := found_in_all + found_here;
    end loop;
    return found_in_all;
end
$$;

-- Inner: the end of a walk. Another one follows while there was something left that can be sealed anew.
create function amzmp._end_walk(r amzmp.key_rotation) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    remaining bigint := amzmp._sealed_otherwise(r.key_id);
    done boolean := remaining = 0 or r.resealed_in_walk = 0;
begin
    update amzmp.key_rotation x
       set relation = null, column_name = null, next_block = 0, resealed_in_walk = 0, walks = x.walks + 1,
           finished_at = case when done then now() end, left_over = case when done then remaining end
     where x.key_id = r.key_id;
    if not done then
        perform amzmp._add_task(0, 'reseal', '', null, now(), '{}');
    elsif remaining = 0 then
        perform amzmp._log(0, 0, 'notice', 'key', r.key_id::text, format('%s values sealed under the new key', r.resealed));
    else
        perform amzmp._log(0, 0, 'error', 'key', r.key_id::text,
            format('%s values could not be opened and stay as they are', remaining),
            jsonb_build_object('hint', 'Is the key that sealed them missing in the key file?'));
    end if;
end
$$;

-- Inner, own runner: one step of the rotation under way.
create function amzmp._task_reseal(account_id bigint, subject text, argument jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    step constant integer := 256; -- blocks: 2 MB, some hundred to some ten thousand values
    r amzmp.key_rotation;
    place record;
    fresh bigint;
begin
    select x.* into r from amzmp.key_rotation x where x.finished_at is null order by x.started_at desc limit 1 for update;
    if r.key_id is null then
        return;
    end if;
    select p.* into place from amzmp._sealed_places() p
     where (p.relation collate "C", p.column_name collate "C") >= (coalesce(r.relation, ''), coalesce(r.column_name, '')) limit 1;
    if place.relation is null then
        perform amzmp._end_walk(r);
        return;
    elsif (place.relation, place.column_name) is distinct from (r.relation, r.column_name) then
        r.next_block := 0;
    end if;
    fresh := amzmp._reseal_blocks(place, r.key_id, r.next_block, step);
    r.next_block := r.next_block + step;
    if r.next_block >= pg_relation_size(to_regclass('amzmp.' || quote_ident(place.relation)))
                       / current_setting('block_size')::bigint then
        -- the place that sorts right behind this one
        place.column_name := place.column_name || E'\x01';
        r.next_block := 0;
    end if;
    update amzmp.key_rotation x
       set relation = place.relation, column_name = place.column_name, next_block = r.next_block,
           resealed = x.resealed + fresh, resealed_in_walk = x.resealed_in_walk + fresh
     where x.key_id = r.key_id;
    perform amzmp._add_task(0, 'reseal', '', null, now(), '{}');
end
$$;

create function amzmp._rotate_key() returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    problem text := amzmp._key_usable();
    new_key bigint;
begin
    perform amzmp._require_unlimited('rotate_key');
    if problem is not null then
        perform amzmp._fail('AZ002', problem, null, 'select * from amzmp.health(); says what the key file needs.');
    elsif exists (select from amzmp.key_rotation r where r.finished_at is null) then
        perform amzmp._fail('AZ203', 'a rotation is under way', null, 'table amzmp.key_rotation; shows its progress.');
    end if;
    new_key := amzmp._add_key();
    insert into amzmp.key_rotation (key_id, started_by) values (new_key, amzmp._caller());
    perform amzmp._add_task(0, 'reseal', '', null, now(), '{}');
    perform amzmp._log(0, 0, 'notice', 'key', new_key::text, format('key rotation begun by %s', amzmp._caller()));
    return new_key;
end
$$;
select amzmp._expose('amzmp._rotate_key()', 'amzmp_admin',
    'Put a new key into the key file and seal everything anew under it, in the background; amzmp.key_rotation shows the progress, health() when older keys may go. Returns the new key''s id.');

-- Inner, for health(): the latest rotation.
create function amzmp._rotation_health() returns table (check_name text, state text, detail text, remedy text)
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select 'key rotation',
           case when r.finished_at is null then 'warning' when r.left_over > 0 then 'error' else 'ok' end,
           case when r.finished_at is null then format('under way since %s: %s values sealed anew', r.started_at, r.resealed)
                when r.left_over > 0 then format('%s values are sealed under a key that does not open them', r.left_over)
                else format('everything is sealed under key %s; older keys are needed by backups only', r.key_id) end,
           case when r.left_over > 0 then 'Put the key that sealed them back into the key file, then select amzmp.rotate_key();' end
      from amzmp.key_rotation r
     order by r.started_at desc
     limit 1;
    end;
