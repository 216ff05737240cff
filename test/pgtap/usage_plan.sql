-- usage_plan.sql
-- Token buckets as the sender uses them: no process gets a token that another one has, and what Amazon says counts.
-- The rates are such that nothing flows in while this runs, or that everything has: no time is measured.

begin;
create extension if not exists pgtap;
create extension if not exists dblink;
select no_plan();

create function pg_temp.granted(account_id bigint, name text, rate float8, burst float8, attempts integer) returns bigint
    language sql volatile as
    $$select count(*) filter (where amzmp._usage_take($1, $2, $3, $4) = 0) from generate_series(1, $5)$$;

-- One bucket.
select is(pg_temp.granted(1, 'slow', 0.000001, 3, 10), 3::bigint, 'a new bucket is full, and then empty');
select cmp_ok(amzmp._usage_take(1, 'slow', 0.000001, 3), '>', 900000::float8, 'the wait is one over the rate');
select is(pg_temp.granted(2, 'slow', 0.000001, 3, 10), 3::bigint, 'another account has a bucket of its own');
select is(pg_temp.granted(1, 'other', 0.000001, 3, 10), 3::bigint, 'so has another operation');
select is(pg_temp.granted(1, 'tiny', 0.000001, 0.2, 10), 1::bigint, 'a bucket holds at least one token');
select is(pg_temp.granted(1, 'unlimited', 0, 0, 1000), 1000::bigint, 'rate 0 means no limit');
select pg_temp.granted(1, 'fast', 1000000, 5, 10), pg_sleep(0.001);
select is(pg_temp.granted(1, 'fast', 1000000, 5, 5), 5::bigint, 'what flows in can be taken');

-- Answers.
select lives_ok($$select amzmp._usage_note(3, 'noted', 0.000001, 3, 200, 0, 40000)$$, 'an answer is noted');
select lives_ok($$select amzmp._usage_note(3, 'noted', 0.000001, 3, 404, 0, 20000)$$, 'a refusal too');
select lives_ok($$select amzmp._usage_note(3, 'noted', 0.000001, 3, 0, 0, 99000)$$, 'and a network fault');
select is(pg_temp.granted(3, 'noted', 0.000001, 3, 1), 1::bigint, 'none of them takes a token');
select amzmp._usage_note(3, 'noted', 0.000001, 3, 429, 0, 30000);
select is(pg_temp.granted(3, 'noted', 0.000001, 3, 1), 0::bigint, 'a 429 empties the bucket');
select results_eq(
    $$select calls, errors, throttled, network_faults, latency_avg_ms, latency_max_ms, learned_rate
        from amzmp._usage() where owner_id = 3 and name = 'noted'$$,
    $$values (4::bigint, 1::bigint, 1::bigint, 1::bigint, 30::float8, 40::float8, null::float8)$$,
    'all are counted; a fault has no latency'
);

-- Rates that Amazon names.
select amzmp._usage_note(3, 'noted', 0.000001, 3, 200, 1000000000, 1000), pg_sleep(0.001);
select is(pg_temp.granted(3, 'noted', 0.000001, 3, 3), 3::bigint, 'a higher rate is obeyed at once');
select results_eq(
    $$select rate, learned_rate from amzmp._usage() where owner_id = 3 and name = 'noted'$$,
    $$values (1000000000::float8, 1000000000::float8)$$,
    'and shown'
);
select amzmp._usage_note(3, 'noted', 1000000000, 3, 200, 0.000001, 1000);
select cmp_ok(pg_temp.granted(3, 'noted', 1000000000, 3, 100), '<=', 3::bigint, 'so is a lower one');
select amzmp._usage_note(3, 'noted', 1000000000, 3, 200, 0, 1000);
select is((select learned_rate from amzmp._usage() where owner_id = 3 and name = 'noted'), 0.000001::float8,
    'an answer that names none changes nothing');
select is(pg_temp.granted(3, 'noted', 0, 3, 100), 100::bigint, 'who demands no limit gets none');

-- Many processes, one bucket: 4 sessions ask 1,000 times each for 100 tokens.
select dblink_connect('racer ' || g, format('host=%s port=%s user=%s dbname=%s',
        (select setting from pg_settings where name = 'unix_socket_directories'), current_setting('port'), current_user, current_database()))
from generate_series(1, 4) g;
select dblink_send_query('racer ' || g,
        $$select count(*) filter (where amzmp._usage_take(4, 'raced', 0.000001, 100) = 0) from generate_series(1, 1000)$$)
from generate_series(1, 4) g;
select is((select sum(r.granted) from generate_series(1, 4) g, dblink_get_result('racer ' || g) r(granted bigint)), 100::numeric,
    'what several processes take together is what there was');
select dblink_disconnect('racer ' || g) from generate_series(1, 4) g;

-- A full table: full buckets make room; when none is full, the answer is to wait.
create temporary table max_buckets as select setting::bigint as n from pg_settings where name = 'amzmp.max_buckets';
select is((select count(*) filter (where amzmp._usage_take(g, 'passing', 1000000000, 5) = 0) from max_buckets, generate_series(1, 2 * n) g),
    (select 2 * n from max_buckets), 'buckets that are full again do not fill the table');
select is((select count(*) from amzmp._usage() where name = 'raced'), 1::bigint, 'and push out none that is not full');
select is((select count(*) filter (where amzmp._usage_take(g, 'staying', 0.000001, 5) = 0) from max_buckets, generate_series(1, 2 * n) g)
        between (select n - 100 from max_buckets) and (select n from max_buckets), true, 'no token is given without an account of it');
select is((select count(*) from amzmp._usage()) <= (select n from max_buckets), true, 'the table keeps its size');
select is(pg_temp.granted(1, 'slow', 0.000001, 3, 10), 0::bigint, 'an empty bucket is not forgotten');

-- The view.
select is_empty($$select * from amzmp.usage$$, 'buckets of accounts that do not exist are not shown');
select has_view('amzmp', 'usage', 'there is a view for people');
select is((select count(*) from pg_attribute where attrelid = 'amzmp.usage'::regclass and attnum > 0 and col_description(attrelid, attnum) is null),
    0::bigint, 'each column is explained');
set local role amzmp_reader;
select lives_ok($$select * from amzmp.usage$$, 'readers may read it');
select throws_ok($$select amzmp._usage_take(1, 'slow', 1, 1)$$, '42501', null, 'but take no token');
reset role;

select * from finish();
rollback;
