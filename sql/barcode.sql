/*
 * barcode.sql
 *	  Barcodes as shops write them, and their one normal form: EAN, UPC, GTIN-14 and ISBN, each with its check digit.
 */

-- The check digit that belongs behind these digits (GS1: weights 3 and 1 from the right).
create function amzmp._gtin_check_digit(digits text)
    returns text
    language sql
    immutable
    strict
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select ((10 - sum(substr(reverse(digits), i, 1)::integer * case i % 2 when 1 then 3 else 1 end) % 10) % 10)::text
    from generate_series(1, length(digits)) as i
$$;

-- The check character of an ISBN with ten places: X stands for ten.
create function amzmp._isbn10_check_digit(digits text)
    returns text
    language sql
    immutable
    strict
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case s.remainder when 10 then 'X' else s.remainder::text end
    from (
        select (11 - sum(substr(digits, i, 1)::integer * (11 - i)) % 11) % 11 as remainder
        from generate_series(1, 9) as i
    ) as s
$$;

/*
 * A code as it is printed, without what people write between the digits: what it is, with which check digit, and
 * which one it should have. One row, also for what is no barcode at all (kind is null then).
 */
create function amzmp._gtin_parts(code text, out bare text, out kind text, out given text, out expected text)
    language sql
    immutable
    strict
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select b.bare, k.kind, right(b.bare, 1),
        case k.kind
            when 'GTIN' then amzmp._gtin_check_digit(left(b.bare, -1))
            when 'ISBN-10' then amzmp._isbn10_check_digit(left(b.bare, 9))
        end
    from (select upper(regexp_replace(code, '[[:space:]-]', '', 'g')) as bare) as b,
        lateral (
            select case
                    when b.bare ~ '^([0-9]{8}|[0-9]{12,14})$' then 'GTIN'
                    when b.bare ~ '^[0-9]{9}[0-9X]$' then 'ISBN-10'
                end as kind
        ) as k
$$;

-- The normal form of a code, or null where it has none; for sets of rows, where one bad code must not stop the rest.
create function amzmp._gtin(code text)
    returns text
    language sql
    immutable
    strict
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case
            when p.kind is null or p.given <> p.expected then null
            when p.kind = 'ISBN-10' then '978' || left(p.bare, 9) || amzmp._gtin_check_digit('978' || left(p.bare, 9))
            when length(p.bare) = 12 then '0' || p.bare
            when length(p.bare) = 14 and left(p.bare, 1) = '0' then right(p.bare, 13)
            else p.bare
        end
    from amzmp._gtin_parts(code) as p
$$;

-- Why amzmp._gtin finds no normal form, as a message and what to do about it.
create function amzmp._gtin_problem(code text, out message text, out hint text)
    language sql
    immutable
    strict
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case
            when p.kind is null then format('%L is not a barcode', code)
            else format('check digit of %L is %s, expected %s', code, p.given, p.expected)
        end,
        case
            when p.kind is null then 'Give a GTIN of 8, 12, 13 or 14 digits (EAN, UPC, JAN) or an ISBN of 10 or 13 places. Codes that were kept as numbers have lost their leading zeros.'
            else 'Compare the code with the one on the product; one digit is wrong or two are swapped.'
        end
    from amzmp._gtin_parts(code) as p
    where amzmp._gtin(code) is null
$$;

-- SECURITY DEFINER because it calls what nobody else may, and stays immutable, which the entry of a verb is not: shops use
-- it in indexes, checks and the expressions of a source.
create function amzmp.normalize_gtin(code text)
    returns text
    language plpgsql
    immutable
    strict
    parallel safe
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    normal constant text := amzmp._gtin(code);
    problem record;
begin
    if normal is null then
        problem := amzmp._gtin_problem(code);
        raise exception using errcode = 'AZ202', message = problem.message, hint = problem.hint;
    end if;
    return normal;
end
$$;

comment on function amzmp.normalize_gtin(text) is 'The normal form of a barcode: spaces and hyphens removed, UPC and GTIN-14 with leading zero as 13 digits, ISBN-10 as ISBN-13. Error AZ202 names the expected check digit.';
