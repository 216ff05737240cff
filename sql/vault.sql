-- vault.sql
--   Sealing of secrets and personal data, and blanking of credentials in text. The work is done in vault.c and mask.c.
--
-- The inner functions also look at the caller themselves: whoever is not amzmp_owner or a superuser is refused, granted or not.
-- They run no SQL, so there is no search_path to fix.

create function amzmp._seal(value text, purpose text, row_key text) returns bytea
    language c volatile strict parallel restricted as 'MODULE_PATHNAME', 'amzmp_seal';
comment on function amzmp._seal(text, text, text) is
    'Seals a text under the current key, bound to a purpose (such as refresh_token) and a row (such as account:42).';

create function amzmp._open(sealed bytea, purpose text, row_key text) returns text
    language c stable strict parallel restricted as 'MODULE_PATHNAME', 'amzmp_open';
comment on function amzmp._open(bytea, text, text) is
    'Opens a sealed text; an error when it was altered or sealed for another purpose or row.';

create function amzmp._reseal(sealed bytea, purpose text, row_key text) returns bytea
    language c volatile strict parallel restricted as 'MODULE_PATHNAME', 'amzmp_reseal';
comment on function amzmp._reseal(bytea, text, text) is 'Seals an already sealed text anew, under the current key.';

create function amzmp._key_id(sealed bytea) returns bigint
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'amzmp_key_id';
comment on function amzmp._key_id(bytea) is 'The id of the key under which a value was sealed.';

create function amzmp._key_usable() returns text
    language c stable parallel restricted as 'MODULE_PATHNAME', 'amzmp_key_usable';
comment on function amzmp._key_usable() is 'NULL when the key file can be used, else the reason why it cannot.';

create function amzmp._add_key() returns bigint
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'amzmp_add_key';
comment on function amzmp._add_key() is
    'Puts a new key in front of the others in the key file and returns its id; what exists stays readable. Not undone by a rollback.';

create function amzmp.create_key() returns text
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'amzmp_create_key';
comment on function amzmp.create_key() is
    'Creates the key file that amzmp.key_file names, with one new key, and returns the key''s id. For superusers; an error when the file exists.';

create function amzmp.mask(message text) returns text
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'amzmp_mask';
comment on function amzmp.mask(text) is
    'The text with tokens, client secrets, signatures and the values of credential headers and fields blanked, for logs.';
