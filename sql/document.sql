/*
 * document.sql
 *	  What feeds carry to Amazon, what comes back for them, and reports: content, packed, in chunks. document.c writes and
 *	  reads it.
 *
 * A document belongs to the row that names it (amzmp.feed, amzmp.report, amzmp.product_type) and goes with it. The links by
 * which Amazon takes and gives documents are keys for whoever holds them, so they are sealed, short-lived and for no reader.
 */
create sequence amzmp.document_id_seq as bigint;

create table amzmp.document (
    account_id bigint not null,
    document_id bigint not null default nextval('amzmp.document_id_seq'),
    content_type text not null,
    sealed boolean not null default false,
    bytes bigint,
    packed_bytes bigint,
    made_at timestamptz not null default now(),
    primary key (account_id, document_id)
);

comment on table amzmp.document is 'Documents of feeds and reports: how large they are and when they were made.';
comment on column amzmp.document.account_id is 'The account.';
comment on column amzmp.document.document_id is 'Number of the document.';
comment on column amzmp.document.content_type is 'Its content type, as announced to Amazon or told by it.';
comment on column amzmp.document.sealed is 'Is its content sealed, because it holds buyers'' data?';
comment on column amzmp.document.bytes is 'Its size; null where it came packed.';
comment on column amzmp.document.packed_bytes is 'The room that it takes here.';
comment on column amzmp.document.made_at is 'When it was made, or arrived.';

create table amzmp.document_chunk (
    account_id bigint not null,
    document_id bigint not null,
    position integer not null,
    content bytea,
    sealed bytea,
    primary key (account_id, document_id, position),
    constraint document_chunk_content_check check (num_nonnulls(content, sealed) = 1)
);

-- It is packed already.
alter table amzmp.document_chunk alter column content set storage external, alter column sealed set storage external;

comment on table amzmp.document_chunk is 'Inner: the content of documents, as gzip.';
comment on column amzmp.document_chunk.account_id is 'The account.';
comment on column amzmp.document_chunk.document_id is 'The document.';
comment on column amzmp.document_chunk.position is 'Place of the piece in it.';
comment on column amzmp.document_chunk.content is 'The piece of the gzip stream, where the document is not sealed.';
comment on column amzmp.document_chunk.sealed is 'The piece, sealed.';

create table amzmp.transfer (
    account_id bigint not null,
    subject text not null,
    document_id bigint not null,
    link bytea not null,
    primary key (account_id, subject)
);

comment on table amzmp.transfer is 'Inner: documents that wait for their transfer, with the sealed link.';
comment on column amzmp.transfer.account_id is 'The account.';
comment on column amzmp.transfer.subject is 'What it is for: upload/ or download/ and the number of the feed, report/ and that of the report, or definition/ and that of the definition.';
comment on column amzmp.transfer.document_id is 'The document to be uploaded, or to be filled.';
comment on column amzmp.transfer.link is 'Amazon''s link, sealed: who has it has the document.';

create function amzmp._write_document(account_id bigint, document_id bigint, subject_id bigint, head text, query text,
    tail text, most_bytes bigint, separator text default E',\n')
    returns bigint
    language c
    volatile
    strict
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'amzmp_write_document';

comment on function amzmp._write_document(bigint, bigint, bigint, text, text, text, bigint, text) is 'Inner: fill a document with head, the lines of a query for $1 = account_id and $2 = subject_id with the separator between them, and tail. Returns how many lines found room in most_bytes.';

create function amzmp._write_content(account_id bigint, document_id bigint, content bytea)
    returns void
    language c
    volatile
    strict
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'amzmp_write_content';

comment on function amzmp._write_content(bigint, bigint, bytea) is 'Inner: fill a document with bytes that are there already.';

create function amzmp._read_document(account_id bigint, document_id bigint)
    returns bytea
    language c
    stable
    strict
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'amzmp_read_document';

comment on function amzmp._read_document(bigint, bigint) is 'Inner: a whole document, unpacked.';

create function amzmp._new_document(account_id bigint, content_type text, sealed boolean default false)
    returns bigint
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    insert into amzmp.document (account_id, content_type, sealed)
    values (_new_document.account_id, _new_document.content_type, _new_document.sealed)
    returning document_id;
end;

create function amzmp._drop_documents(account_id bigint, document_ids bigint[])
    returns void
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    delete from amzmp.document_chunk as c
    where c.account_id = _drop_documents.account_id
        and c.document_id = any (_drop_documents.document_ids);
    delete from amzmp.document as d
    where d.account_id = _drop_documents.account_id
        and d.document_id = any (_drop_documents.document_ids);
end;

/*
 * Transfers. Subject is upload/ or download/ and the number of the feed, report/ and that of the report, or definition/ and
 * that of the definition. An own runner performs them, with no transaction open (transfer.c).
 */
create function amzmp._add_transfer(account_id bigint, subject text, document_id bigint, url text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into amzmp.transfer as t (account_id, subject, document_id, link)
    values (_add_transfer.account_id, _add_transfer.subject, _add_transfer.document_id,
        amzmp._seal(url, 'document_link', account_id || '/' || subject))
    on conflict on constraint transfer_pkey do update
    set document_id = excluded.document_id,
        link = excluded.link;
    perform amzmp._add_task(account_id, 'transfer', subject, null, now());
end
$$;

-- What the task transfers; no row when it is gone.
create function amzmp._transfer_begin(account_id bigint, task_id bigint)
    returns table (subject text, url text, document_id bigint, content_type text)
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select t.subject, amzmp._open(t.link, 'document_link', t.account_id || '/' || t.subject), t.document_id, d.content_type
    from amzmp.task as k
    join amzmp.transfer as t using (account_id, subject)
    join amzmp.document as d using (account_id, document_id)
    where (k.account_id, k.task_id) = (_transfer_begin.account_id, _transfer_begin.task_id);
end;

-- It is over: status of HTTP, 0 and the reason where there was no whole answer.
create function amzmp._transfer_end(account_id bigint, subject text, status integer, failure text)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    done constant boolean := status between 200 and 299 and failure is null;
    owner constant bigint := split_part(subject, '/', 2)::bigint;
    document bigint;
begin
    delete from amzmp.transfer as t
    where (t.account_id, t.subject) = (_transfer_end.account_id, _transfer_end.subject)
    returning t.document_id into document;
    case split_part(subject, '/', 1)
        when 'upload' then
            perform amzmp._feed_uploaded(account_id, owner, done, failure);
        when 'download' then
            perform amzmp._feed_downloaded(account_id, owner, document, done);
        when 'report' then
            perform amzmp._report_downloaded(account_id, owner, document, done, failure);
        when 'definition' then
            perform amzmp._definition_downloaded(account_id, owner, document, done, failure);
    end case;
end
$$;
