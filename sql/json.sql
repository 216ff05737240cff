-- json.sql
-- Readers of Amazon's JSON. They never fail: what is missing, or not in the form that Amazon gives it, is null, because
-- one bad value must not fail all that came with it. The work is done in json_rows.c. They run no SQL, so there is no
-- search_path to fix.

-- A time as Amazon writes it.
create function amzmp._time(value text) returns timestamptz
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'amzmp_json_time';

-- A number that counts things.
create function amzmp._count(value jsonb) returns integer
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'amzmp_json_count';

create function amzmp._array(value jsonb) returns jsonb
    language sql immutable parallel safe
    begin atomic
    select case when jsonb_typeof(value) = 'array' then value else '[]' end;
    end;

-- The elements of an array (an object counts as an array of one) as rows, a column a path: a.b, a[].b, a[kind=X|Y].b,
-- a[kind!=X].b; ^.a is the document's, '#' the element's number and '' the element itself. The caller names the columns with their types:
-- text (of an object or array: as it stands there), text[] (all values there), numeric (the sum of all amounts there),
-- integer, timestamptz, jsonb, or boolean (is there anything?). The document is the text that came, not jsonb: to take it
-- apart costs less so, and what is kept of it is what Amazon sent.
create function amzmp._rows(document text, variadic paths text[]) returns setof record
    language c immutable strict parallel safe rows 100 as 'MODULE_PATHNAME', 'amzmp_json_rows';

-- The same of one member of the document; '' is the document itself.
create function amzmp._member_rows(document text, member text, variadic paths text[]) returns setof record
    language c immutable strict parallel safe rows 100 as 'MODULE_PATHNAME', 'amzmp_json_member_rows';
