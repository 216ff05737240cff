/*
 * report.sql
 *	  Reports: tables that Amazon makes when asked, from the request to what was taken from them.
 *
 *		requested ─▶ in_queue ─▶ in_progress ─▶ done ─▶ downloaded ─▶ applied
 *		(sender)        (sender polls)        (own runner)  (own runner)
 *
 * and out of them: cancelled (by Amazon: no data, or asked again too soon), fatal (Amazon gave up), refused (it cannot be
 * true: nothing was taken from it) and failed. A type from which amzmp takes nothing ends as downloaded.
 *
 * A report is resumed by Amazon's id of it whatever fails in between, and each document is fetched once. createReport is
 * not repeated blindly: one at a time is under way per account, so that after a lost answer getReports tells whether there
 * is a report that we do not know.
 *
 * Amazon has limits that it does not tell: what is asked again too soon comes back cancelled, or as the same document
 * once more. So reports of a type keep a distance, the type's own and what was learned beyond (amzmp.report_pace).
 *
 * Here are the tables; then report_request (asking for one), report_pace (how soon Amazon may be asked again), report_poll
 * (waiting and fetching), report_reuse (those that were made elsewhere), report_apply (what is taken from it) and report_user
 * (what people do).
 */

insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'report_deadline', 'account', 'interval', 'A report has failed after', '"1 day"', 60, 604800,
        'A report that Amazon has not made by then has failed.'),
    (true, 'report_retention', 'account', 'interval', 'Reports are kept', '"30 days"', 3600, 31536000,
        'How long ended reports and their documents are kept.');

create table amzmp.report (
    account_id bigint not null,
    report_id bigint not null default nextval('amzmp.request_id_seq'),
    channel_id bigint not null default 0,
    type text not null,
    marketplace_ids text[] not null,
    data_start timestamptz,
    data_end timestamptz,
    options jsonb not null default '{}',
    state text not null default 'requested',
    reason text,
    amazon_report_id text,
    amazon_document_id text,
    restricted boolean not null default false,
    document_id bigint,
    form text,
    columns text[],
    rows bigint,
    tries smallint not null default 0,
    looks smallint not null default 0,
    polls smallint not null default 0,
    due_at timestamptz not null default now(),
    sought_at timestamptz,
    found boolean not null default false,
    accepted_by name,
    cause jsonb,
    requested_at timestamptz not null default now(),
    submitted_at timestamptz,
    processed_at timestamptz,
    downloaded_at timestamptz,
    ended_at timestamptz,
    primary key (account_id, report_id),
    constraint report_state_check check (state in ('requested', 'in_queue', 'in_progress', 'done', 'downloaded', 'applied',
        'cancelled', 'fatal', 'refused', 'failed'))
);

create index report_open on amzmp.report (account_id, due_at) where ended_at is null;
create index report_type_recent on amzmp.report (account_id, type, report_id desc);
create index report_amazon on amzmp.report (account_id, amazon_report_id);
create index report_amazon_document on amzmp.report (account_id, amazon_document_id);
create index report_document on amzmp.report (account_id, document_id) where document_id is not null;

comment on table amzmp.report is 'Reports that were requested from Amazon, and what became of them. report_rows() shows their rows.';
comment on column amzmp.report.account_id is 'The account.';
comment on column amzmp.report.report_id is 'Our number of the report; it shares its range with requests.';
comment on column amzmp.report.channel_id is 'The channel; 0: the account, with all its marketplaces.';
comment on column amzmp.report.type is 'Amazon''s type of the report.';
comment on column amzmp.report.marketplace_ids is 'The marketplaces that it is about.';
comment on column amzmp.report.data_start is 'Where the range of time begins that it covers; null: Amazon''s own choice.';
comment on column amzmp.report.data_end is 'Where that range ends; null: now.';
comment on column amzmp.report.options is 'Amazon''s options of the report.';
comment on column amzmp.report.state is 'requested, in_queue, in_progress, done (the document is fetched), downloaded, applied; or cancelled (Amazon has no data, or was asked too soon), fatal (Amazon gave up), refused (it cannot be true), failed.';
comment on column amzmp.report.reason is 'Why it is in this state, in words.';
comment on column amzmp.report.amazon_report_id is 'Amazon''s id of the report, unique for the seller only.';
comment on column amzmp.report.amazon_document_id is 'Amazon''s id of the document.';
comment on column amzmp.report.restricted is 'Does Amazon give the document out to a restricted data token only?';
comment on column amzmp.report.document_id is 'Its content. Two reports share one where Amazon gave the same document twice.';
comment on column amzmp.report.form is 'table, json or xml; other: report_document() returns it, and it has no rows.';
comment on column amzmp.report.columns is 'The columns that it has, or the members of its rows.';
comment on column amzmp.report.rows is 'How many rows it has.';
comment on column amzmp.report.tries is 'Failed attempts at the present step.';
comment on column amzmp.report.looks is 'How often it was looked for after a lost answer.';
comment on column amzmp.report.polls is 'How often its state was asked for.';
comment on column amzmp.report.due_at is 'Not requested from Amazon before.';
comment on column amzmp.report.sought_at is 'When Amazon was asked whether there is one that was made elsewhere; see the setting report_reuse.';
comment on column amzmp.report.found is 'Was there one, so that Amazon was not asked for another? Then submitted_at is when that was asked for.';
comment on column amzmp.report.accepted_by is 'Who had a refused report applied all the same.';
comment on column amzmp.report.cause is 'What led to it.';
comment on column amzmp.report.requested_at is 'When it was asked for here.';
comment on column amzmp.report.submitted_at is 'When Amazon was asked for it.';
comment on column amzmp.report.processed_at is 'When Amazon was seen to be done with it.';
comment on column amzmp.report.downloaded_at is 'When its document was here.';
comment on column amzmp.report.ended_at is 'When it was over here; null: it is under way.';

create table amzmp.report_token (
    account_id bigint not null,
    report_id bigint not null,
    token bytea not null,
    primary key (account_id, report_id)
);

comment on table amzmp.report_token is 'Inner: restricted data tokens with which a document is about to be asked for.';
comment on column amzmp.report_token.account_id is 'The account.';
comment on column amzmp.report_token.report_id is 'The report.';
comment on column amzmp.report_token.token is 'The token, sealed: who has it may ask for the document.';

create table amzmp.report_pace (
    account_id bigint not null,
    channel_id bigint not null,
    type text not null,
    spacing interval not null,
    learned_at timestamptz not null default now(),
    primary key (account_id, channel_id, type)
);

comment on table amzmp.report_pace is 'How far apart Amazon wants reports of a type to be asked for, learned from those that it did not make anew.';
comment on column amzmp.report_pace.account_id is 'The account.';
comment on column amzmp.report_pace.channel_id is 'The channel; 0: the account.';
comment on column amzmp.report_pace.type is 'Amazon''s type of the report.';
comment on column amzmp.report_pace.spacing is 'The time between two of them.';
comment on column amzmp.report_pace.learned_at is 'When it was last changed.';
