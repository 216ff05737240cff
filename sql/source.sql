-- source.sql
-- The shop's relations: which are attached, and what is captured of them. How they are attached is in source_attach.sql, how
-- they are read in source_read.sql and source_compare.sql.
--
-- Who does what, because three identities are involved:
--   * attach_source, watch, detach_source and capture_triggers are ordinary functions. They run with their caller's own
--     rights, so that the triggers are created by somebody who may, and expressions are checked by somebody who may
--     read them. What they find they hand to exposed functions, which trust none of it: a source only ever runs as the
--     role that registered it.
--   * capture (C) runs in the shop's transactions and writes change and rescan_mark.
--   * The reading statements made here are executed at top level by a user runner whose session user is source.run_as.
--     They read the shop outside any function of ours and hand the rows to take_rows or take_page.

create sequence amzmp.source_id_seq as bigint;
create sequence amzmp.watched_id_seq as bigint;
create sequence amzmp.rescan_mark_id_seq as bigint;
create sequence amzmp.source_change_id_seq as bigint;

create type amzmp.shop_row as (
    sku text,
    price numeric,
    quantity bigint,
    title text,
    ean text,
    asin text,
    condition text,
    condition_note text,
    lead_time integer,
    image text,
    category text,
    active boolean,
    extra jsonb
);

comment on type amzmp.shop_row is 'A row of a source on its way to amzmp.product.';

create table amzmp.source (
    account_id bigint not null,
    source_id bigint not null default nextval('amzmp.source_id_seq'),
    channel_id bigint not null default 0,
    kind text not null default 'product' check (kind in ('product', 'shipment')),
    relation text not null,
    expressions jsonb not null,
    filter text,
    fields text not null,
    sku_type text not null,
    stock_column text,
    run_as name not null,
    state text not null default 'ok' check (state in ('ok', 'failing', 'held')),
    last_error text,
    failures integer not null default 0,
    retry_at timestamptz,
    rescan_due timestamptz not null default now(),
    rescan_requested_at timestamptz,
    rescan_reason text not null default 'attached',
    rescan_force boolean not null default false,
    accept_empty boolean not null default false,
    rescan_started_at timestamptz,
    rescan_after text,
    rescan_rows bigint not null default 0,
    page_rows integer not null default 500,
    rescan_finished_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (account_id, source_id),
    unique (account_id, channel_id, relation)
) with (fillfactor = 70);

create index source_id on amzmp.source (source_id);

-- When a source is to be compared: not before the time to which a failure put it off.
create function amzmp._source_due_at(rescan_due timestamptz, retry_at timestamptz) returns timestamptz
    language sql immutable parallel safe
    return greatest(rescan_due, retry_at);

create index source_due on amzmp.source (run_as, amzmp._source_due_at(rescan_due, retry_at)) where state <> 'held';

comment on table amzmp.source is 'A relation of the shop, attached to an account or to one of its channels.';
comment on column amzmp.source.account_id is 'The account.';
comment on column amzmp.source.source_id is 'Number of the source.';
comment on column amzmp.source.channel_id is 'The channel, or 0 for the account itself.';
comment on column amzmp.source.kind is 'What its rows are: products (attach_source) or shipments (attach_shipments).';
comment on column amzmp.source.relation is 'Table, view, materialised view, foreign or partitioned table, schema-qualified.';
comment on column amzmp.source.expressions is 'What each value is read from: {"sku": …, "price": …}, SQL over the relation''s row.';
comment on column amzmp.source.filter is 'Condition that a row must meet to be a product, or null.';
comment on column amzmp.source.fields is 'The expressions as a select list, in the order of amzmp.shop_row, without extra.';
comment on column amzmp.source.sku_type is 'Type of the SKU expression; keys are compared in it so that the shop''s indexes serve.';
comment on column amzmp.source.stock_column is 'Column that the quantity is read from, if it is one: then it can also be written.';
comment on column amzmp.source.run_as is 'The role that reads it. Its views, functions and row security apply.';
comment on column amzmp.source.state is 'ok; failing: the last reading failed, what is known stays in force; held: not read.';
comment on column amzmp.source.last_error is 'Why it is failing.';
comment on column amzmp.source.failures is 'Failed readings in a row.';
comment on column amzmp.source.retry_at is 'Not read before.';
comment on column amzmp.source.rescan_due is 'When the whole relation is to be compared next.';
comment on column amzmp.source.rescan_requested_at is 'When a comparison was last asked for; one that began earlier does not count.';
comment on column amzmp.source.rescan_reason is 'Why the next or running comparison takes place.';
comment on column amzmp.source.rescan_force is 'Compute everything anew, not only what changed.';
comment on column amzmp.source.accept_empty is 'An empty relation is meant this once.';
comment on column amzmp.source.rescan_started_at is 'When the running comparison began; null when none is running.';
comment on column amzmp.source.rescan_after is 'SKU up to which the running comparison has read.';
comment on column amzmp.source.rescan_rows is 'Rows that the running, else the last comparison read.';
comment on column amzmp.source.page_rows is 'Rows that the next page of a comparison reads: as many as can be taken in soon.';
comment on column amzmp.source.rescan_finished_at is 'When a comparison last ended.';
comment on column amzmp.source.created_at is 'When it was attached.';

-- A relation with capture triggers. It belongs to no account: whoever attaches the relation shares them.
create table amzmp.watched (
    watched_id bigint primary key default nextval('amzmp.watched_id_seq'),
    relation text not null,
    key_column text not null,
    key_type text not null,
    unique (relation, key_column)
);

comment on table amzmp.watched is 'A relation whose changes are captured, and the column by which changed rows are remembered.';
comment on column amzmp.watched.watched_id is 'Number of the watched relation; the triggers'' first argument.';
comment on column amzmp.watched.relation is 'The relation, schema-qualified.';
comment on column amzmp.watched.key_column is 'Column whose value is noted when a row changes.';
comment on column amzmp.watched.key_type is 'Its type.';

create table amzmp.source_watch (
    account_id bigint not null,
    source_id bigint not null,
    watched_id bigint not null references amzmp.watched,
    via text,
    columns text[] not null,
    primary key (account_id, source_id, watched_id)
);

create index source_watch_watched on amzmp.source_watch (watched_id);

comment on table amzmp.source_watch is 'Which watched relations a source depends on.';
comment on column amzmp.source_watch.account_id is 'The account of the source.';
comment on column amzmp.source_watch.source_id is 'The source.';
comment on column amzmp.source_watch.watched_id is 'The watched relation.';
comment on column amzmp.source_watch.via is 'Expression over the source''s row that gives the key; null: the key is the SKU.';
comment on column amzmp.source_watch.columns is 'Columns of the watched relation that matter to this source.';

-- Written by C alone (capture.c knows these columns by position), straight into the heap: no index but the primary
-- key, no trigger, no constraint. Never truncated by vacuum, for that takes a lock that a shop could meet.
create table amzmp.change (
    xid xid8,
    part integer,
    watched_id bigint not null,
    relation oid not null,
    keys text[] not null,
    role text,
    application text not null,
    at timestamptz not null,
    primary key (xid, part)
) with (
    vacuum_truncate = off, toast.vacuum_truncate = off,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 5000
);

-- Compressing keys would cost the shop more than writing them.
alter table amzmp.change alter column keys set storage external;

comment on table amzmp.change is 'Inner: keys of rows that a transaction of the shop changed, at most 1,000 a row.';
comment on column amzmp.change.xid is 'The shop''s transaction.';
comment on column amzmp.change.part is 'Number of the row in its transaction.';
comment on column amzmp.change.watched_id is 'The watched relation, as the trigger''s argument said.';
comment on column amzmp.change.relation is 'The relation, or partition, whose trigger fired.';
comment on column amzmp.change.keys is 'Keys of the changed rows as text.';
comment on column amzmp.change.role is 'Role that committed it.';
comment on column amzmp.change.application is 'Its application_name.';
comment on column amzmp.change.at is 'When the keys were written, just before the commit.';

create table amzmp.rescan_mark (
    mark_id bigint primary key default nextval('amzmp.rescan_mark_id_seq'),
    watched_id bigint not null,
    relation oid not null,
    reason text not null,
    xid xid8 not null,
    role text,
    application text not null,
    at timestamptz not null
) with (vacuum_truncate = off, toast.vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0);

create index rescan_mark_watched on amzmp.rescan_mark (watched_id);

comment on table amzmp.rescan_mark is 'Inner: a transaction of the shop changed a relation, and its keys were too many or could not be noted.';
comment on column amzmp.rescan_mark.mark_id is 'Number of the mark.';
comment on column amzmp.rescan_mark.watched_id is 'The watched relation, as the trigger''s argument said.';
comment on column amzmp.rescan_mark.relation is 'The relation, or partition, whose trigger fired.';
comment on column amzmp.rescan_mark.reason is 'Why there are no keys.';
comment on column amzmp.rescan_mark.xid is 'The shop''s transaction.';
comment on column amzmp.rescan_mark.role is 'Role that committed it.';
comment on column amzmp.rescan_mark.application is 'Its application_name.';
comment on column amzmp.rescan_mark.at is 'When the mark was made.';

-- Several sources may watch one relation. The first that takes a change passes it on to the others here.
create table amzmp.source_change (
    account_id bigint not null,
    source_id bigint not null,
    source_change_id bigint not null default nextval('amzmp.source_change_id_seq'),
    watched_id bigint not null,
    keys text[],
    cause jsonb not null,
    primary key (account_id, source_id, source_change_id)
);

comment on table amzmp.source_change is 'Inner: changes that wait for one source. No keys: the whole source is to be compared.';
comment on column amzmp.source_change.account_id is 'The account of the source.';
comment on column amzmp.source_change.source_id is 'The source.';
comment on column amzmp.source_change.source_change_id is 'Number of the row.';
comment on column amzmp.source_change.watched_id is 'The watched relation.';
comment on column amzmp.source_change.keys is 'Keys of the changed rows, or null.';
comment on column amzmp.source_change.cause is 'The shop''s transaction.';

-- Without a search_path of its own on purpose: setting one for every changed row would cost the shop several times what
-- the function does, and it resolves no name by the search_path.
create function amzmp.capture() returns trigger
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'amzmp_capture';
revoke all on function amzmp.capture() from public;
grant execute on function amzmp.capture() to amzmp_operator;
comment on function amzmp.capture() is 'Trigger function that notes changed keys of the shop''s relations. amzmp.capture_triggers() creates its triggers.';
