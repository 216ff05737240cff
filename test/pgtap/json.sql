-- json.sql
-- What is read of Amazon's JSON: single values, and documents as rows. What is not in the form that Amazon gives it is null.

begin;
select no_plan();

select is(amzmp._time(v.text), v.text::timestamptz, 'a time: ' || v.text)
  from (values ('2026-03-01T09:30:00Z'), ('2026-03-01T09:30:00.125Z'), ('2026-03-01T09:30:00.1234567Z'), ('2024-02-29T23:59+05:30'),
               ('2000-02-29T00:00:00-0330'),
               ('1999-12-31T23:59:59.999999Z'), ('0001-01-01T00:00:00Z'), ('9999-12-31T23:59:59-15:59')) as v (text);
select is(amzmp._time(v.text), null, 'no time: ' || v.text)
  from (values (''), ('2026-03-01'), ('2026-03-01 09:30:00Z'), ('2026-03-01T09:30:00'), ('2026-02-29T09:30:00Z'), ('1900-02-29T00:00:00Z'),
               ('2026-13-01T09:30:00Z'), ('2026-00-01T09:30:00Z'), ('2026-04-31T09:30:00Z'), ('2026-03-01T24:00:00Z'),
               ('2026-03-01T09:60:00Z'), ('2026-03-01T09:30:60Z'), ('2026-03-01T09:30:00.Z'), ('2026-03-01T09:30:00Zx'),
               ('2026-03-01T09:30:00+16:00'),
               ('0000-03-01T09:30:00Z'), ('26-03-01T09:30:00Z'), ('infinity'), ('now')) as v (text);
select is_empty($$
    select t from generate_series('1896-01-01Z'::timestamptz, '2104-12-31Z', '17 hours 13 minutes 7.000021 seconds') as t
     where amzmp._time(to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) is distinct from t$$, 'two centuries of times');

select is(r.amount, v.amount, v.doc)
  from (values ('{"amount": "-12.50"}', -12.50), ('{"amount": 7.25, "currencyCode": "EUR"}', 7.25), ('{"amount": 1e3}', 1000),
               ('{"amount": "00"}', 0),
               ('{"amount": "1e3"}', null), ('{"amount": ".5"}', null), ('{"amount": "5."}', null), ('{"amount": "NaN"}', null),
               ('{"amount": ""}', null),
               ('{"amount": null}', null), ('{"amount": "1,5"}', null), ('{}', null)) as v (doc, amount),
       amzmp._rows(v.doc, 'amount') as r (amount numeric);
select is(r.amount, v.amount, v.name)
  from (values (100, repeat('9', 100)::numeric, 'an amount of a hundred digits'), (101, null, 'and no longer one')) as v (digits, amount, name),
       amzmp._rows(format('{"amount": %s}', repeat('9', v.digits)), 'amount') as r (amount numeric);
select is(amzmp._count(v.doc::jsonb), v.count, v.doc)
  from (values ('3', 3), ('"3"', 3), ('999999999', 999999999), ('"0"', 0), ('-1', null), ('1.0', null), ('1000000000', null), ('""', null),
               ('null', null), ('true', null), ('[3]', null), ('{}', null)) as v (doc, count);

select results_eq($$
    select * from amzmp._rows('[{"a": {"b": "x"}, "n": "3", "t": "2026-03-01T09:30:00Z", "flag": true, "list": [1, "two"]},
            {"a": 5, "n": "many", "t": 5, "flag": false, "list": null}, 7, null, {"a": {"b": {"c": 1}}, "n": 12}]',
            '#', 'a.b', 'a', 'n', 't', 'flag', 'a.b.c', 'list', '')
        as r (number integer, b text, a text, n integer, t timestamptz, flag boolean, c boolean, list jsonb, whole jsonb)$$,
    $$values (1, 'x', '{"b": "x"}', 3, '2026-03-01 09:30Z'::timestamptz, true, null::boolean, '[1, "two"]'::jsonb,
                '{"a": {"b": "x"}, "n": "3", "t": "2026-03-01T09:30:00Z", "flag": true, "list": [1, "two"]}'::jsonb),
             (2, null, '5', null, null, false, null, null, '{"a": 5, "n": "many", "t": 5, "flag": false, "list": null}'),
             (3, null, null, null, null, null, null, null, '7'), (4, null, null, null, null, null, null, null, null),
             (5, '{"c": 1}', '{"b": {"c": 1}}', 12, null, null, true, null, '{"a": {"b": {"c": 1}}, "n": 12}')$$,
    'each element is a row, each path a column of its type');

select results_eq($$
    select * from amzmp._rows('{"parts": [{"kind": "X", "sum": "1.50"}, {"kind": "Y", "sum": "2"},
            {"kind": "X", "sum": "3", "more": [{"kind": "Z", "sum": 4}]}, {"sum": "8"}, {"kind": 5, "sum": "16"},
            {"kind": "X", "sum": "bad"}, "X", {"kind": "XX", "sum": "32"}]}',
        'parts[].sum', 'parts[kind=X].sum', 'parts[kind=X|Y].sum', 'parts[kind!=X|Y].sum', 'parts[kind=X].more[kind=Z].sum',
        'parts[kind=none].sum', 'parts[].kind', 'parts[kind!=X].kind')
        as r (everything numeric, x numeric, x_or_y numeric, others numeric, deep numeric, none numeric,
              first text, first_other text)$$,
    $$values (62.50, 4.50, 6.50, 48::numeric, 4::numeric, null::numeric, 'X', 'Y')$$,
    'amounts are added up as far as the way there names them, of other values the first counts');
select is_empty($$select * from amzmp._rows('"text"', 'a') as r (a text)$$, 'a scalar has no rows');
select is_empty($$select * from amzmp._rows('[]', 'a') as r (a text)$$, 'nor has an empty array');
select is_empty($$select * from amzmp._rows(null, 'a') as r (a text)$$, 'nor nothing');
select results_eq($$select v.id, r.a from (values (1, '{"a": 1}'), (2, '[]'), (3, '[{"a": 2}, {"a": 3}]')) as v (id, doc),
        amzmp._rows(v.doc, 'a') as r (a text)$$,
    $$values (1, '1'), (3, '2'), (3, '3')$$, 'document after document in one query');
select results_eq($$select r.a from (values (1, 'a'), (2, 'b.c'), (3, 'a')) as v (id, path),
        amzmp._rows('{"a": "x", "b": {"c": "y"}}', v.path) as r (a text) order by v.id$$,
    array['x', 'y', 'x'], 'with other paths each time too');
select results_eq($$select * from amzmp._rows(' { "a" : [ {"b" : 1.50}, 1e3 ,"x\u00e4\n\"" ] , "\u0062":{"c":"\ud83d\ude00"},"n":"\u0033","d": 1, "d": 2} ',
        'a', 'a[]', 'a[].b', 'b', 'b.c', 'b.c', 'n', 'd', '') as r (a text, values text[], b numeric, object text, c text, json jsonb,
        n integer, d text, whole text)$$,
    $$values ('[ {"b" : 1.50}, 1e3 ,"x\u00e4\n\"" ]', array['{"b" : 1.50}', '1000', E'x\u00e4\n"'], 1.50, '{"c":"\ud83d\ude00"}', U&'\+01F600',
        '"\ud83d\ude00"'::jsonb, 3, '1',
        '{ "a" : [ {"b" : 1.50}, 1e3 ,"x\u00e4\n\"" ] , "\u0062":{"c":"\ud83d\ude00"},"n":"\u0033","d": 1, "d": 2}')$$,
    'text is what stands there, with escapes read; of members with one name the first counts');
select results_eq($$select * from amzmp._member_rows('{"list": [{"a": 1}, {"a": 2}], "next": {"token": "t"}}', 'list', '#', 'a', '^.next.token', '^.list[].a')
        as r (number integer, a text, token text, sum numeric)$$,
    $$values (1, '1', 't', 3::numeric), (2, '2', 't', 3)$$, 'a member''s elements, each with what stands beside them');
select is_empty($$select * from unnest('{list,none,b}'::text[]) as m, amzmp._member_rows('{"list": [], "b": 1}', m, '^.b') as r (b text)$$, 'of an empty list, of a member that there is not, and of a scalar there are none');
select throws_ok(format('select * from amzmp._rows(%L, ''a'') as r (a text)', v.text), '22P02', null, 'no JSON: ' || v.text)
  from (values (''), ('{'), ('[1,]'), ('[1 2]'), ('{"a"}'), ('{"a": }'), ('{"a": 1,}'), ('{1: 2}'), ('[}'), ('{]'), ('[1]]'), ('[1] 2'),
               ('{"a": 1 "b": 2}'), (','), (':'), ('["a": 1]'), ('"open'), ('[tru]'), ('[01]'), ('["\x"]'), ('{"a":1')) as v (text);
select throws_ok(format('select * from amzmp._rows(%L, ''a'') as r (a text)', v.text), '22P05', null, 'no character: ' || v.text)
  from (values ('{"a": "\u0000"}'), ('{"a": "\ud83d"}'), ('{"a": "\ude00"}')) as v (text);
select is((select length(r.whole) from amzmp._rows(repeat('[', 1000) || repeat(']', 1000), '') as r (whole text)), 1998, 'a thousand levels');
select throws_ok($$select * from amzmp._rows(repeat('[', 2000) || repeat(']', 2000), '') as r (whole text)$$, '22P02', null, 'no two thousand');
select throws_like(format('select * from amzmp._rows(''{}'', %L) as r (a text)', v.path), '%is no path of%', 'no path: ' || v.path)
  from (values ('a[k=]x'), ('a[k'), ('a[=v].b'), ('a[k!].b'), ('a.b.c.d.e.f.g.h.i')) as v (path);
select throws_like('select * from amzmp._rows(''{}'', ''a'', ''b'') as r (a text)', '%2 paths for 1 columns%', 'a path a column');
select throws_like('select * from amzmp._rows(''{}'', ''a'') as r (a double precision)', '%does not read type%', 'money is no float');

select * from finish();
rollback;
