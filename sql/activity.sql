-- activity.sql
-- The log of what was done, skipped or refused, and why. Partitioned by day; partitions are made and dropped by the
-- housekeeping flow, and a default partition takes what finds none.

create sequence amzmp.activity_id_seq as bigint;

create table amzmp.activity (
    account_id bigint not null,
    activity_id bigint not null default nextval('amzmp.activity_id_seq'),
    at timestamptz not null default clock_timestamp(),
    level text not null check (level in ('debug', 'info', 'notice', 'warning', 'error')),
    channel_id bigint not null default 0,
    flow_run_id bigint,
    subject_kind text,
    subject text,
    message text not null,
    context jsonb
) partition by range (at);
-- Keys and indexes stand at the partitions, which are made like this one. At the parent, which a restore makes before its
-- partitions, they would be in the way of those that a dump makes for each partition.
create table amzmp.activity_default partition of amzmp.activity default;
alter table amzmp.activity_default add primary key (account_id, at, activity_id);
create index activity_subject on amzmp.activity_default (account_id, subject_kind, subject, at);

comment on table amzmp.activity is 'What was done, skipped or refused, and why. Kept for activity_retention.';
comment on table amzmp.activity_default is 'Inner: entries for whose day there is no partition.';
comment on column amzmp.activity.account_id is 'The account, 0 for what belongs to none.';
comment on column amzmp.activity.activity_id is 'Number of the entry; later ones are greater.';
comment on column amzmp.activity.at is 'When.';
comment on column amzmp.activity.channel_id is 'The channel; 0: the account itself.';
comment on column amzmp.activity.flow_run_id is 'The run of a flow that did it, see amzmp.flow_run.';
comment on column amzmp.activity.level is 'debug, info, notice, warning or error; the setting activity_level is the lowest that is kept.';
comment on column amzmp.activity.subject_kind is 'listing, inventory, order, request, flow, source, account …';
comment on column amzmp.activity.subject is 'The SKU, order id, flow name … that it is about.';
comment on column amzmp.activity.message is 'What was done, skipped or refused.';
comment on column amzmp.activity.context is 'Details; never secrets or personal data.';

create function amzmp._level_rank(level text) returns integer
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select array_position(array['debug', 'info', 'notice', 'warning', 'error'], level);
    end;

-- Inner: one line of activity, if the account's level lets it through.
create function amzmp._log(account_id bigint, channel_id bigint, level text, subject_kind text, subject text, message text,
    context jsonb default null, flow_run_id bigint default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    if amzmp._level_rank(level) >= coalesce(amzmp._level_rank(amzmp._setting_text(_log.account_id, _log.channel_id, 'activity_level')), 2) then
        insert into amzmp.activity (account_id, channel_id, level, subject_kind, subject, message, context, flow_run_id)
        values (coalesce(_log.account_id, 0), coalesce(_log.channel_id, 0), _log.level, _log.subject_kind, _log.subject,
                _log.message, _log.context, _log.flow_run_id);
    end if;
end
$$;

-- A number with its noun, for messages.
create function amzmp._count_of(number bigint, one text, many text)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select number || ' ' || case number when 1 then one else many end
$$;

-- Inner: make tomorrow's and the day after's partitions, drop those past their retention. Days are UTC's, whatever the
-- server's time zone is or becomes. Whoever reads the log for long makes this give up until the next run: a lock that waits
-- would hold up everybody who writes to it.
create function amzmp._roll_partitions(parent text, keep interval) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp set timezone = 'UTC' set lock_timeout = '1s'
    as $$
declare
    day date;
    old record;
begin
    for day in select d::date from generate_series(current_date + 1, current_date + 2, interval '1 day') d
    loop
        if to_regclass(format('amzmp.%I', parent || '_' || to_char(day, 'YYYYMMDD'))) is null then
            execute format('create table amzmp.%I (like amzmp.%I including all)',
                parent || '_' || to_char(day, 'YYYYMMDD'), parent || '_default');
            execute format('alter table amzmp.%I attach partition amzmp.%I for values from (%L) to (%L)',
                parent, parent || '_' || to_char(day, 'YYYYMMDD'), day, day + 1);
        end if;
    end loop;
    for old in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = format('amzmp.%I', parent)::regclass and c.relname ~ '_[0-9]{8}$'
           and to_date(right(c.relname, 8), 'YYYYMMDD') + 1 < now() - keep
    loop
        execute format('drop table amzmp.%I', old.relname);
    end loop;
exception
    when lock_not_available then
        perform amzmp._log(0, 0, 'notice', 'log', parent, 'partitions are left for later: somebody is reading the log');
end
$$;

-- Inner: keep a log as long as a setting says. Days that nobody keeps any more go as partitions, at no cost; rows are deleted
-- only for an account that keeps less than others, and from the default partition, which is all but empty.
create function amzmp._keep_log(account_id bigint, parent text, time_column text, setting text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    keep interval := amzmp._setting_interval(account_id, 0, setting);
    longest interval := (
        select max(x.keep)
          from (select (d.default_value #>> '{}')::interval as keep from amzmp.setting_definition d where d.name = setting
                union all
                select (s.value #>> '{}')::interval from amzmp.setting s where s.name = setting) x);
begin
    perform amzmp._roll_partitions(parent, longest);
    if keep < longest then
        execute format('delete from amzmp.%I where account_id = $1 and %I < now() - $2', parent, time_column) using account_id, keep;
    end if;
    execute format('delete from amzmp.%I where account_id in (0, $1) and %I < now() - $2', parent || '_default', time_column)
      using account_id, longest;
end
$$;
