/*
 * rule_amount.sql
 *	  The arithmetic of rules: how it is parsed when a rule is set, and computed for a product.
 *
 * Amounts are numbers or arithmetic over the product's values, e.g. 'greatest(price, cost * 1.3)'. That is no SQL: it is
 * parsed when the rule is set, and amzmp evaluates the parse itself. SQL belongs into a value of the source
 * (amzmp.attach_value), which the role that attached the source evaluates; rules then use its name.
 */

-- Names that arithmetic may use: numbers of the product's row, and values that the account's sources were given.
create function amzmp._amount_names(account_id bigint)
    returns text[]
    language sql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array['price', 'quantity', 'lead_time', 'offer_price'] || array(
        select distinct v.name from amzmp.source_value as v where v.account_id = $1
    )
$$;

create function amzmp._amount_tokens(expression text)
    returns text[]
    language sql
    immutable
    strict
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array(
        select m[1]
        from regexp_matches(expression, '([0-9]+(?:\.[0-9]+)?|[[:alpha:]_][[:alnum:]_]*|[^[:space:]])', 'g') as m
    )
$$;

/*
 * Parse tokens from a position on; the parse is a number, a name as {"n": name}, or {"f": function, "a": [arguments]}.
 * level: 0 sums, 1 products, 2 what they are made of. Error 22023 says what is wrong.
 */
create function amzmp._parse_amount(tokens text[], names text[], level integer, inout at integer, out parse jsonb)
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    operators constant text[] := (array['{+,-}', '{*,/}'])[level + 1];
    operator text;
    part record;
begin
    if level = 2 then
        select p.at, p.parse into at, parse from amzmp._parse_operand(tokens, names, at) as p;
        return;
    end if;
    select p.at, p.parse into at, parse from amzmp._parse_amount(tokens, names, level + 1, at) as p;
    while tokens[at] = any (operators) loop
        operator := tokens[at];
        select p.at, p.parse into part from amzmp._parse_amount(tokens, names, level + 1, at + 1) as p;
        parse := jsonb_build_object('f', operator, 'a', jsonb_build_array(parse, part.parse));
        at := part.at;
    end loop;
end
$$;

-- A number, a name, a call, a sum in parentheses, or one of these with a minus.
create function amzmp._parse_operand(tokens text[], names text[], inout at integer, out parse jsonb)
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    token constant text := coalesce(tokens[at], 'the end');
    arguments jsonb := '[]';
    part record;
begin
    if token ~ '^[0-9]' then
        parse := to_jsonb(token::numeric);
        at := at + 1;
    elsif token = '-' then
        select p.at, p.parse into part from amzmp._parse_operand(tokens, names, at + 1) as p;
        parse := jsonb_build_object('f', '-', 'a', jsonb_build_array(0, part.parse));
        at := part.at;
    elsif token = '(' or token = any ('{abs,ceil,coalesce,floor,greatest,least,round}') and tokens[at + 1] = '(' then
        at := at + case token when '(' then 0 else 1 end;
        loop
            select p.at, p.parse into part from amzmp._parse_amount(tokens, names, 0, at + 1) as p;
            arguments := arguments || jsonb_build_array(part.parse);
            at := part.at;
            exit when token = '(' or tokens[at] is distinct from ',';
        end loop;
        if tokens[at] is distinct from ')' then
            raise exception using errcode = '22023', message = format('a parenthesis is missing before %L', coalesce(tokens[at], 'the end'));
        end if;
        at := at + 1;
        parse := case token when '(' then arguments -> 0 else jsonb_build_object('f', token, 'a', arguments) end;
    elsif token = any (names) then
        parse := jsonb_build_object('n', token);
        at := at + 1;
    else
        raise exception using errcode = '22023', message = format('%L is no number, name or function', token);
    end if;
end
$$;

create function amzmp._compile_amount(account_id bigint, expression text)
    returns jsonb
    language plpgsql
    stable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    tokens constant text[] := amzmp._amount_tokens(expression);
    result record;
begin
    if cardinality(tokens) > 200 then
        raise exception using errcode = '22023', message = 'it is too long';
    end if;
    select p.at, p.parse into result from amzmp._parse_amount(tokens, amzmp._amount_names(account_id), 0, 1) as p;
    if result.at <= cardinality(tokens) then
        raise exception using errcode = '22023', message = format('%L is not expected there', tokens[result.at]);
    end if;
    return result.parse;
end
$$;

-- The value of a parse for a row; null where a value is missing or a divisor is 0.
create function amzmp._amount(parse jsonb, row_values jsonb)
    returns numeric
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    given text;
    a numeric[];
begin
    if parse is null then
        return null;
    elsif jsonb_typeof(parse) = 'number' then
        return parse::numeric;
    elsif parse ? 'n' then
        given := row_values ->> (parse ->> 'n');
        return case when given ~ '^\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*$' then given::numeric end;
    end if;
    a := array(select amzmp._amount(e.value, row_values) from jsonb_array_elements(parse -> 'a') with ordinality as e order by e.ordinality);
    return case parse ->> 'f'
            when '+' then a[1] + a[2]
            when '-' then a[1] - a[2]
            when '*' then a[1] * a[2]
            when '/' then a[1] / nullif(a[2], 0)
            when 'abs' then abs(a[1])
            when 'ceil' then ceil(a[1])
            when 'floor' then floor(a[1])
            when 'round' then round(a[1], coalesce(a[2], 0)::integer)
            when 'greatest' then (select max(x) from unnest(a) as x)
            when 'least' then (select min(x) from unnest(a) as x)
            when 'coalesce' then (select x from unnest(a) with ordinality as u (x, place) where x is not null order by place limit 1)
        end;
end
$$;
