/*
 * report_tree.sql
 *	  The rows of reports that are no tables: JSON and XML.
 *
 *		JSON	the elements of the array that the document is; of an object, those of its members that are arrays, each with
 *				the member's name as "@list"; an object without arrays is one row
 *		XML		those children of the root whose name most of them have (the messages of an envelope, without its header)
 *
 * An element of XML becomes an object of its children by their names, several of one name an array, attributes "@name"; one
 * with neither children nor attributes its text; text beside attributes is "#text". Prefixes of names are left out.
 *
 * Such documents are read in one piece, in memory, so there is a limit. Nothing of an error is passed on, because it would
 * quote what the document holds.
 */

-- table, json, xml or other, by how it begins.
create function amzmp._content_form(content bytea)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case
            when b.beginning ~ '^(\\357\\273\\277)?\s*<' then 'xml'
            when b.beginning ~ '^(\\357\\273\\277)?\s*[[{]' then 'json'
            else 'table'
        end
    from (select encode(substr(content, 1, 100), 'escape') as beginning) as b
$$;

-- The text of such a document. XML says itself in what character set it is; JSON is UTF-8.
create function amzmp._tree_text(content bytea)
    returns text
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select convert_from(case when substr(content, 1, 3) = '\xefbbbf' then substr(content, 4) else content end, case
                when d.charset in ('iso-8859-1', 'latin1') then 'LATIN1'
                when d.charset in ('windows-1252', 'cp1252') then 'WIN1252'
                when d.charset in ('shift_jis', 'windows-31j', 'cp932') then 'SJIS'
                else 'UTF8'
            end)
    from (
        select lower(substring(encode(substr(content, 1, 200), 'escape') from '^[^<]*<\?xml[^>]*encoding=["'']([A-Za-z0-9_-]+)')) as charset
    ) as d
$$;

create function amzmp._json_rows(document jsonb)
    returns table (place bigint, cells jsonb)
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select row_number() over (order by l.name, e.place), coalesce(jsonb_build_object('@list', l.name), '{}')
            - case when l.name is null then '@list' else '' end
            || case jsonb_typeof(e.element) when 'object' then e.element else jsonb_build_object('value', e.element) end
    from (
        select null::text as name, document as list
        where jsonb_typeof(document) = 'array'
        union all
        select m.key, m.value
        from jsonb_each(case jsonb_typeof(document) when 'object' then document end) as m
        where jsonb_typeof(m.value) = 'array'
        union all
        select null, jsonb_build_array(document)
        where jsonb_typeof(document) <> 'array'
            and not jsonb_path_exists(document, 'strict $.* ? (@.type() == "array")', silent => true)
    ) as l
    cross join lateral jsonb_array_elements(l.list) with ordinality as e (element, place)
$$;

/*
 * An element of XML as jsonb. Its nodes come in the order of the document with their depth, so each is put into what its
 * parent is by then: values[d] is the object of the open element at depth d.
 */
create function amzmp._xml_row(element xml)
    returns jsonb
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
declare
    node record;
    open_names text[] := '{}';
    open_values jsonb[] := '{}';
    depth integer;
    found jsonb;
begin
    -- a loop, because each node's place depends on those before it; the last round, without a node, closes what is open
    for node in
        select t.depth, t.name, t.is_element, case when t.has_children then null else t.content end as content
        from (
            select x.depth, x.name, x.is_element, x.children > 0 as has_children, x.content, x.place
            from xmltable('//* | //@*' passing element columns
                place for ordinality,
                depth integer path 'count(ancestor::*)',
                name text path 'local-name()',
                is_element boolean path 'count(self::*) = 1',
                children integer path 'count(*)',
                content text path 'string(self::node()[not(*)])') as x
        ) as t
        union all
        select 0, null, true, null
    loop
        depth := coalesce(cardinality(open_names), 0);
        while depth > node.depth loop
            found := open_values[depth];
            if found - '#text' = '{}' then
                found := coalesce(found -> '#text', '""');
            end if;
            if depth = 1 then
                return case jsonb_typeof(found) when 'object' then found else jsonb_build_object(open_names[1], found) end;
            end if;
            open_values[depth - 1] := amzmp._with_member(open_values[depth - 1], open_names[depth], found);
            open_names := open_names[:depth - 1];
            open_values := open_values[:depth - 1];
            depth := depth - 1;
        end loop;
        if node.is_element then
            open_names := open_names || node.name;
            open_values := open_values || case when node.content <> '' then jsonb_build_object('#text', node.content) else '{}' end;
        else
            open_values[depth] := amzmp._with_member(open_values[depth], '@' || node.name, to_jsonb(node.content));
        end if;
    end loop;
    return null;
end
$$;

-- An object with one member more; of the same name they become an array.
create function amzmp._with_member(object jsonb, name text, value jsonb)
    returns jsonb
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select case
            when not object ? name then object || jsonb_build_object(name, value)
            when jsonb_typeof(object -> name) = 'array' then jsonb_set(object, array[name], object -> name || jsonb_build_array(value))
            else jsonb_set(object, array[name], jsonb_build_array(object -> name, value))
        end
$$;

create function amzmp._xml_rows(document xml)
    returns table (place bigint, cells jsonb)
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    with child as materialized (
        select c.place, c.name, c.element
        from xmltable('/*/*' passing document columns place for ordinality, name text path 'local-name()', element xml path '.') as c
    )
    select row_number() over (order by c.place), amzmp._xml_row(c.element)
    from child as c
    where c.name = (select n.name from child as n group by n.name order by count(*) desc, max(n.place) desc limit 1)
$$;

-- Inner: the rows of a document that is JSON or XML.
create function amzmp._tree_rows(account_id bigint, document_id bigint, form text)
    returns table (place bigint, cells jsonb)
    language plpgsql
    stable
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    largest constant bigint := 128 * 1024 * 1024;
    content constant bytea := amzmp._read_document(account_id, document_id);
begin
    if length(content) > largest then
        perform amzmp._fail('AZ004', 'the report is too large to be taken apart',
            format('It is %s of %s; one that is no table may have %s.', pg_size_pretty(length(content)::bigint), form, pg_size_pretty(largest)),
            'amzmp.report_document() returns it as it is.');
    end if;
    begin
        if form = 'json' then
            return query select r.place, r.cells from amzmp._json_rows(amzmp._tree_text(content)::jsonb) as r;
        else
            return query select r.place, r.cells from amzmp._xml_rows(xmlparse(document amzmp._tree_text(content))) as r;
        end if;
    exception
        when data_exception or program_limit_exceeded then
            perform amzmp._fail('AZ004', format('the report is no %s, though it begins like it', form), null,
                'amzmp.report_document() returns it as it is.');
    end;
end
$$;

comment on function amzmp._tree_rows(bigint, bigint, text) is 'Inner: the rows of a report that is JSON or XML.';
