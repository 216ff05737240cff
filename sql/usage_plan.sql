-- usage_plan.sql
--   What the token buckets hold and what was counted in them. The buckets themselves live in shared memory (usage_plan.c).

create function amzmp._usage(out scope text, out owner_id bigint, out name text, out rate float8, out burst float8,
        out tokens float8, out learned_rate float8, out calls bigint, out throttled bigint, out errors bigint,
        out network_faults bigint, out latency_avg_ms float8, out latency_max_ms float8, out last_used timestamptz,
        out since timestamptz)
    returns setof record
    language c volatile strict parallel restricted rows 100 as 'MODULE_PATHNAME', 'amzmp_usage';
comment on function amzmp._usage() is 'The buckets of this database, refilled to now.';
-- Whoever reads a view needs the functions in it. This one tells numbers alone; names and row security are the view's.
grant execute on function amzmp._usage() to amzmp_reader;

create function amzmp._usage_take(account_id bigint, name text, rate float8, burst float8) returns float8
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'amzmp_usage_take';
comment on function amzmp._usage_take(bigint, text, float8, float8) is
    'Takes a token of an account''s operation: 0 when taken, else the seconds after which to ask again. For tests.';

create function amzmp._usage_note(account_id bigint, name text, rate float8, burst float8, http_status integer,
        learned_rate float8, latency_us bigint) returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'amzmp_usage_note';
comment on function amzmp._usage_note(bigint, text, float8, float8, integer, float8, bigint) is
    'Counts an answer in the bucket of an account''s operation, as the sender does. For tests.';

-- A bucket whose account or application is gone, or not the reader's, has no row.
create view amzmp.usage with (security_invoker = true) as
select
    a.name as account,
    p.name as application,
    u.scope,
    u.name,
    u.rate,
    u.burst,
    u.tokens,
    u.learned_rate,
    u.calls,
    u.throttled,
    u.errors,
    u.network_faults,
    u.latency_avg_ms,
    u.latency_max_ms,
    u.last_used,
    u.since
from amzmp._usage() u
    left join amzmp.account a on u.scope <> 'application' and a.account_id = u.owner_id
    left join amzmp.application p on u.scope = 'application' and p.application_id = u.owner_id
where coalesce(a.account_id, p.application_id) is not null;

comment on view amzmp.usage is 'Each usage plan that was used lately: how many calls it allows now, and how the calls went.';
comment on column amzmp.usage.account is 'The account the plan belongs to; NULL for a plan that all accounts of an application share.';
comment on column amzmp.usage.application is 'The application, for a plan that its accounts share.';
comment on column amzmp.usage.scope is 'What shares the bucket: operation (of an account), application (class of operations), feed_type or sandbox (of an account).';
comment on column amzmp.usage.name is 'The operation, class of operations, or feed type.';
comment on column amzmp.usage.rate is 'Calls allowed per second: what Amazon said last, else the published plan. NULL = no limit is known.';
comment on column amzmp.usage.burst is 'The most calls that can be saved up.';
comment on column amzmp.usage.tokens is 'The calls that could be made right now.';
comment on column amzmp.usage.learned_rate is 'The rate that Amazon''s answers named; NULL while they named none.';
comment on column amzmp.usage.calls is 'Calls made, counted since the time in "since".';
comment on column amzmp.usage.throttled is 'Calls that Amazon refused as too many (HTTP 429).';
comment on column amzmp.usage.errors is 'Calls answered by another HTTP status of 400 or more.';
comment on column amzmp.usage.network_faults is 'Calls without a whole answer.';
comment on column amzmp.usage.latency_avg_ms is 'Average time to a whole answer, in milliseconds.';
comment on column amzmp.usage.latency_max_ms is 'Longest time to a whole answer, in milliseconds.';
comment on column amzmp.usage.last_used is 'When a call was last answered.';
comment on column amzmp.usage.since is 'When counting began: counts start anew when the server was not stopped cleanly, or room was needed.';
