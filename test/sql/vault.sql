-- Sealing: what was sealed opens again, in its own place only, and only for those who may.

-- The key file. Another test may have created it already.
do $$
begin
    if amzmp._key_usable() is not null then
        perform amzmp.create_key();
    end if;
end
$$;
select amzmp._key_usable();
select amzmp.create_key();

create temporary table sealed as
    select amzmp._seal('Atzr|größte', 'refresh_token', 'account:1') as value, amzmp._seal('Atzr|größte', 'refresh_token', 'account:1') as again;

-- the same text twice: two nonces; the text and its 33 bytes
select value <> again as differ, octet_length(value) - octet_length('Atzr|größte') as overhead, position('Atzr'::bytea in value) as clear from sealed;
select amzmp._open(value, 'refresh_token', 'account:1') from sealed;
select amzmp._open(amzmp._seal('', 'p', 'r'), 'p', 'r') = '' as empty, amzmp._seal(null, 'p', 'r') is null as null_in;
select length(amzmp._open(amzmp._seal(repeat('long ', 200000), 'p', 'r'), 'p', 'r'));

-- elsewhere it does not open: another row, another column, a place that reads the same when written together
select amzmp._open(value, 'refresh_token', 'account:2') from sealed;
select amzmp._open(value, 'client_secret', 'account:1') from sealed;
select amzmp._open(value, 'refresh_tokena', 'ccount:1') from sealed;

-- every byte counts: format, key id, nonce, text, tag
create function pg_temp.opens(value bytea) returns text language plpgsql as $$
begin
    perform amzmp._open(value, 'refresh_token', 'account:1');
    return 'opened';
exception when others then
    return sqlstate;
end
$$;
select pg_temp.opens(set_byte(value, i, get_byte(value, i) # 1)) as result, min(i) as first_byte, max(i) as last_byte
from sealed, generate_series(0, octet_length(value) - 1) i
group by 1 order by 2;
select pg_temp.opens(substring(value for n)) as result, count(*) > 0 as some from sealed, generate_series(0, octet_length(value) - 1) n group by 1;

-- a new key seals, the old one still opens
select amzmp._add_key() <> amzmp._key_id(value) as is_new from sealed;
select amzmp._open(value, 'refresh_token', 'account:1') from sealed;
select amzmp._key_id(amzmp._reseal(value, 'refresh_token', 'account:1')) <> amzmp._key_id(value) as under_new_key,
    amzmp._open(amzmp._reseal(value, 'refresh_token', 'account:1'), 'refresh_token', 'account:1') from sealed;
select amzmp._reseal(value, 'refresh_token', 'account:2') from sealed;

-- a mistaken grant opens nothing
create role regress_vault;
grant usage on schema amzmp to regress_vault;
grant execute on function amzmp._seal(text, text, text), amzmp._open(bytea, text, text), amzmp._reseal(bytea, text, text),
    amzmp._add_key(), amzmp.create_key() to regress_vault;
grant select on sealed to regress_vault;
set role regress_vault;
select amzmp._open(value, 'refresh_token', 'account:1') from sealed;
select amzmp._reseal(value, 'refresh_token', 'account:1') is null from sealed;
select amzmp._seal('x', 'refresh_token', 'account:1') is null;
select amzmp._add_key() is null;
select amzmp.create_key() is null;
show amzmp.key_file;
reset role;
drop owned by regress_vault;
drop role regress_vault;

-- a key file that others can read is refused, and so is one that is not a key file
select setting as key_file from pg_settings where name = 'amzmp.key_file' \gset
\setenv KEY_FILE :key_file
\! chmod 0644 "$KEY_FILE"
select amzmp._key_usable();
select amzmp._open(value, 'refresh_token', 'account:1') from sealed;
\! chmod 0600 "$KEY_FILE"
select amzmp._key_usable();
\! cp -p "$KEY_FILE" "$KEY_FILE.kept"; echo "7 abcdef" >>"$KEY_FILE"
select regexp_replace(amzmp._key_usable(), '\d+', 'N') as key_usable;
\! : >"$KEY_FILE"
select amzmp._key_usable();
\! rm "$KEY_FILE"; mkdir "$KEY_FILE"
select amzmp._key_usable();
\! rmdir "$KEY_FILE"
select amzmp._key_usable();
select amzmp._seal('x', 'refresh_token', 'account:1');
\! mv "$KEY_FILE.kept" "$KEY_FILE"
select amzmp._key_usable(), amzmp._open(value, 'refresh_token', 'account:1') from sealed;

-- a statement takes a key that is put there while it runs, and seals under one that it has put there itself
create temporary table sealed_since as select amzmp._seal('new', 'refresh_token', 'account:1') as value;
\! cp -p "$KEY_FILE" "$KEY_FILE.kept"; sed -i 1d "$KEY_FILE"
do $$
begin
    perform amzmp._open(value, 'refresh_token', 'account:1') from sealed;
    execute format('copy (select) to program %L', format('cat >/dev/null; mv %1$s.kept %1$s', current_setting('amzmp.key_file')));
    raise notice '%', (select amzmp._open(value, 'refresh_token', 'account:1') from sealed_since);
end
$$;
do $$
declare
    key bigint;
begin
    perform amzmp._seal('x', 'refresh_token', 'account:1');
    key := amzmp._add_key();
    raise notice '%', amzmp._key_id(amzmp._seal('x', 'refresh_token', 'account:1')) = key;
end
$$;

-- blanking, for logs
select amzmp.mask(line) from (values
    (1, 'POST /auth/o2/token grant_type=refresh_token&refresh_token=Atzr%7CIwEBIExample&client_id=amzn1.application-oa2-client.1a2b&client_secret=amzn1.oa2-cs.v1.3c4d'),
    (2, '{"access_token":"Atza|IQEBLjAs","token_type":"bearer","expires_in":3600}'),
    (3, E'x-amz-access-token: Atza|IQEBLjAs\r\nuser-agent: amzmp/1.0 (Language=C)'),
    (4, 'token Atz.sprdt|IQEBLz+/= was refused for order 028-1234567-1234567'),
    (5, 'https://bucket/feed?X-Amz-Credential=AKIA%2F2026&X-Amz-Date=20260101&X-Amz-Signature=0f0f'),
    (6, E'Authorization: AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=0f0f\nnext line'),
    (7, '{"payload":"{\"newClientSecret\":\"s3cr3t\",\"clientId\":\"x\"}"}'),
    (8, '{ "client_secret" : "with \"quotes\" inside" , "kept" : 1 }'),
    (9, '{"errors":[{"code":"InvalidInput","message":"größter refresh_token of all"}]}'),
    (10, '')) v(n, line) order by n;
