-- rotation.sql
-- A new key: all that is sealed is sealed anew, opens as before, and one value that does not open stops nothing.

\ir connection_setup.psql

-- Every sealed column is known to the rotation; the only other bytes we keep are a hash and documents that are no secret.
select set_eq(
    $$select c.relname::text, a.attname::text from pg_attribute a join pg_class c on c.oid = a.attrelid
       where c.relnamespace = 'amzmp'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
         and a.atttypid = 'bytea'::regtype and not a.attisdropped and a.attname <> 'state_hash'
         and (c.relname, a.attname) <> ('document_chunk', 'content')$$,
    $$select relation, column_name from amzmp._sealed_columns()$$, 'the rotation knows all sealed columns');

select amzmp.create_account('eu', 'EU', 'app', 'A1DEMOSELLER', mode => 'mock', endpoint => simulator(), rate_scale => 0) as account_id \gset
select amzmp.set_credentials('eu', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo') \g /dev/null

-- Many values, more than a step takes, in every table.
insert into amzmp.request_log (account_id, request_id, operation, outcome, attempt, priority, sent_body, created_at, finished_at)
select :account_id, -i, 'getFeeds', 'success', 1, 100, amzmp._seal(repeat('x', 300), 'sent_body', :account_id || '/' || -i), now(), now()
  from generate_series(1, 12000) i;
insert into amzmp.order_buyer (account_id, amazon_order_id, sealed, raw)
select :account_id, 'O' || i, amzmp._seal('buyer ' || i, 'buyer', :account_id || '/O' || i), amzmp._seal('raw ' || i, 'order', :account_id || '/O' || i)
  from generate_series(1, 100) i;
insert into amzmp.parked_order (account_id, amazon_order_id, last_updated_at, complete, sealed)
select :account_id, 'P1', now() + '1 day', true, amzmp._seal('parked', 'order', :account_id || '/P1');
insert into amzmp.document_chunk (account_id, document_id, position, sealed)
select :account_id, 1, 0, amzmp._seal('piece', 'document', :account_id || '/1/0');
-- one that was altered and opens no more
update amzmp.order_buyer set sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) where amazon_order_id = 'O7';

create role clerk login;
grant amzmp_operator to clerk;
set role clerk;
select throws_ok('select amzmp.rotate_key()', '42501', null, 'an operator does not change keys');
reset role;

create function begun() returns bigint language sql volatile as 'select amzmp.rotate_key()';
select begun() as key_id \gset
select throws_ok('select amzmp.rotate_key()', 'AZ203', 'a rotation is under way', 'one at a time');
select becomes('(select finished_at is not null from amzmp.key_rotation)', 'it ends');
select results_eq('select resealed, left_over from amzmp.key_rotation', 'values (12203::bigint, 1::bigint)', 'everything but the altered value is under the new key');
select is(amzmp._sealed_otherwise(:key_id), 1::bigint, 'counted in the tables');
select is((select count(*)::integer from amzmp.order_buyer b where b.amazon_order_id <> 'O7'
    and amzmp._open(b.sealed, 'buyer', b.account_id || '/' || b.amazon_order_id) = 'buyer ' || substr(b.amazon_order_id, 2)
    and amzmp._open(b.raw, 'order', b.account_id || '/' || b.amazon_order_id) = 'raw ' || substr(b.amazon_order_id, 2)), 99,
    'the values open as before');
select isnt(amzmp.call('eu', 'getMarketplaceParticipations'), null, 'and the credentials are good');
select is((select state from amzmp.health() where check_name = 'key rotation'), 'error', 'health tells of the one that is left');
update amzmp.order_buyer set sealed = null where amazon_order_id = 'O7';
select begun() as key_id \gset
select becomes('(select bool_and(finished_at is not null) from amzmp.key_rotation)', 'it can be repeated');
select is(amzmp._sealed_otherwise(:key_id), 0::bigint, 'and leaves nothing under an older key');
select matches((select state || ' ' || detail from amzmp.health() where check_name = 'key rotation'), '^ok everything is sealed under key', 'as health says');
select * from finish();
