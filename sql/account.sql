-- account.sql
-- Applications, accounts, channels: who we are at Amazon, and with which secrets; and Amazon's clock as an account sees it.
--
-- Here are the tables. Who sees which account is in account_access.sql, how names are looked up in account_name.sql, how
-- all of it is made in account_create.sql, given its secrets in account_credentials.sql, and switched on, off and dropped
-- in account_activate.sql.

create sequence amzmp.application_id_seq as bigint;
create sequence amzmp.account_id_seq as bigint;
create sequence amzmp.channel_id_seq as bigint;

create table amzmp.application (
    application_id bigint primary key default nextval('amzmp.application_id_seq'),
    name text not null unique check (name ~ '^[[:alnum:]_.:-]{1,60}$'),
    client_id text not null,
    amazon_application_id text,
    redirect_uri text,
    client_secret bytea,
    secret_expires_at timestamptz,
    rotation_asked_at timestamptz,
    rotation_refused text,
    generation bigint not null default 1,
    created_at timestamptz not null default now()
);

create table amzmp.account (
    account_id bigint primary key default nextval('amzmp.account_id_seq'),
    name text not null check (name ~ '^[[:alnum:]_.:-]{1,60}$'),
    region text not null references amzmp.region,
    application_id bigint not null references amzmp.application,
    seller_id text check (seller_id ~ '^[A-Z0-9]{6,20}$'),
    mode text not null default 'production' check (mode in ('production', 'sandbox', 'mock')),
    endpoint text not null,
    token_endpoint text not null,
    refresh_token bytea,
    generation bigint not null default 1,
    state text not null default 'added' check (state in ('added', 'valid', 'invalid', 'dropped')),
    state_reason text,
    active boolean not null default false,
    time_scale numeric not null default 1 check (time_scale between 0.001 and 1000000),
    rate_scale numeric not null default 1 check (rate_scale >= 0),
    note text,
    created_at timestamptz not null default now(),
    check (mode = 'mock' or (time_scale = 1 and rate_scale = 1))
);

-- The few whose credentials were refused: new ones are for all of an application.
create index account_invalid on amzmp.account (application_id) where state = 'invalid';

create table amzmp.channel (
    account_id bigint not null references amzmp.account,
    channel_id bigint not null default nextval('amzmp.channel_id_seq'),
    name text not null check (name ~ '^[[:alnum:]_.:-]{1,60}$'),
    marketplace_id text not null references amzmp.marketplace,
    active boolean not null default false,
    dropped boolean not null default false,
    note text,
    created_at timestamptz not null default now(),
    primary key (account_id, channel_id),
    unique (account_id, marketplace_id)
);

-- A small reference table: one name space for accounts and channels, so that set(), attach_source() … take either.
create table amzmp.name (
    name text primary key,
    account_id bigint not null,
    channel_id bigint not null default 0,
    unique (account_id, channel_id)
);

-- Which roles see only some accounts. A role without a row (itself or through membership) sees all.
comment on table amzmp.application is 'An application registered with Amazon: client id and sealed client secret, shared by accounts.';
comment on column amzmp.application.application_id is 'Number of the application.';
comment on column amzmp.application.name is 'Its name in calls.';
comment on column amzmp.application.client_id is 'LWA client id, amzn1.application-oa2-client.…';
comment on column amzmp.application.amazon_application_id is 'Amazon''s number of the application, amzn1.sp.solution.…; needed for consent links alone.';
comment on column amzmp.application.redirect_uri is 'Where Amazon sends a seller after the consent, as registered with Amazon.';
comment on column amzmp.application.client_secret is 'The client secret, sealed.';
comment on column amzmp.application.secret_expires_at is 'When Amazon ends the client secret: as Amazon said, else 180 days after it was first given to us. health() warns 30 days ahead.';
comment on column amzmp.application.rotation_asked_at is 'When Amazon was asked for a new client secret that has not come yet.';
comment on column amzmp.application.rotation_refused is 'Why Amazon makes none.';
comment on column amzmp.application.generation is 'Grows with each new secret, so that cached tokens of the old one are left.';
comment on column amzmp.application.created_at is 'When it was registered here.';
comment on table amzmp.account is 'A selling partner in one region, with a sealed refresh token.';
comment on column amzmp.account.account_id is 'Number of the account; first column of every key that belongs to it.';
comment on column amzmp.account.name is 'Its name in calls.';
comment on column amzmp.account.region is 'NA, EU or FE, see amzmp.region.';
comment on column amzmp.account.application_id is 'The application that acts for it.';
comment on column amzmp.account.seller_id is 'Amazon''s id of the seller ("Merchant token").';
comment on column amzmp.account.mode is 'production, sandbox (Amazon''s, with fixed answers) or mock (a simulator).';
comment on column amzmp.account.endpoint is 'Where its calls go.';
comment on column amzmp.account.token_endpoint is 'Where its access tokens come from.';
comment on column amzmp.account.refresh_token is 'The refresh token, sealed.';
comment on column amzmp.account.generation is 'Grows with each new token, so that cached ones are left.';
comment on column amzmp.account.state is 'added: not yet checked; valid: test_connection succeeded or calls work; invalid: credentials refused (see state_reason); dropped.';
comment on column amzmp.account.state_reason is 'Why it is invalid, in Amazon''s words.';
comment on column amzmp.account.active is 'Has it been switched on by activate()?';
comment on column amzmp.account.time_scale is 'Mock accounts only: how much faster than the wall clock the simulator''s time runs.';
comment on column amzmp.account.rate_scale is 'Mock accounts only: factor on usage-plan rates; 0 switches the limits off.';
comment on column amzmp.account.note is 'For people.';
comment on column amzmp.account.created_at is 'When it was registered here.';
comment on table amzmp.channel is 'An account in one marketplace.';
comment on column amzmp.channel.account_id is 'The account.';
comment on column amzmp.channel.channel_id is 'Number of the channel.';
comment on column amzmp.channel.name is 'Its name in calls.';
comment on column amzmp.channel.marketplace_id is 'Amazon''s marketplace, see amzmp.marketplace.';
comment on column amzmp.channel.active is 'Has it been switched on by activate()?';
comment on column amzmp.channel.dropped is 'Was it given up by drop_channel()? Its orders and history stay.';
comment on column amzmp.channel.note is 'For people.';
comment on column amzmp.channel.created_at is 'When it was registered here.';
comment on table amzmp.name is 'The one name space of accounts and channels.';
comment on column amzmp.name.name is 'The name.';
comment on column amzmp.name.account_id is 'The account.';
comment on column amzmp.name.channel_id is 'The channel; 0: the name is that of the account.';
-- Inner: Amazon's clock as an account sees it. time_scale changes are rare, so the scaled clock starts at the account's birth.
create function amzmp._now(account_id bigint) returns timestamptz
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
begin
    return (select case when a.time_scale = 1 then now() else a.created_at + (now() - a.created_at) * a.time_scale::float8 end
              from amzmp.account a where a.account_id = _now.account_id);
end
$$;

-- A time as Amazon wants it: UTC, whole seconds.
create function amzmp._iso_time(at timestamptz) returns text
    language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
    as $$
begin
    return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
end
$$;
