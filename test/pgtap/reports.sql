-- reports.sql
-- A report's life by what Amazon answers at each step, the distance that Amazon wants between reports, what is read out of
-- documents in any character set and form, and who may read what. Downloads are told to have happened;
-- test/crash/reports.sh performs them.

begin;
\ir listing_setup.psql
select amzmp.create_key() as key where amzmp._key_usable() is not null \g /dev/null

-- What own runners would do, until nothing is due.
create function run_tasks() returns void language plpgsql as $$
declare
    t amzmp.task;
begin
    for i in 1 .. 30 loop
        select x.* into t from amzmp.task as x where x.kind in ('report', 'create_reports') and x.due_at <= now() order by x.task_id limit 1;
        exit when t.task_id is null;
        delete from amzmp.task as x where x.task_id = t.task_id;
        execute format('select amzmp.%I($1, $2, $3)', '_task_' || t.kind) using t.account_id, t.subject, t.argument;
    end loop;
end
$$;

select amzmp.set('seller', 'report_reuse', '0') \g /dev/null

create function report() returns amzmp.report language sql as $$ select r from amzmp.report as r order by r.report_id desc limit 1 $$;

-- Bytes as a gzip stream: one stored block, and the sum that belongs behind it.
create function crc32(bytes bytea) returns bigint language plpgsql as $$
declare
    crc bigint := 4294967295;
begin
    for i in 0 .. length(bytes) - 1 loop
        crc := crc # get_byte(bytes, i);
        for bit in 1 .. 8 loop
            crc := (crc >> 1) # case crc & 1 when 1 then 3988292384 else 0 end;
        end loop;
    end loop;
    return crc # 4294967295;
end
$$;

create function le(number bigint, bytes integer) returns bytea language sql as $$
    select string_agg(set_byte('\x00', 0, ((number >> (8 * i)) & 255)::integer), ''::bytea order by i) from generate_series(0, bytes - 1) as i
$$;

create function gzip(bytes bytea) returns bytea language sql as $$
    select '\x1f8b08000000000000ff01'::bytea || le(length(bytes), 2) || le(65535 - length(bytes), 2) || bytes || le(crc32(bytes), 4) || le(length(bytes), 4)
$$;

create function document(bytes bytea, content_type text) returns bigint language plpgsql as $$
declare
    id bigint := amzmp._new_document((select account_id from this), content_type);
begin
    -- in pieces, so that some of them end in the middle of a character
    insert into amzmp.document_chunk (account_id, document_id, position, content)
    select t.account_id, id, i, substr(gzip(bytes), i * 7 + 1, 7) from this as t, generate_series(0, length(bytes) / 7 + 4) as i;
    return id;
end
$$;

create function rows_of(bytes bytea, content_type text default 'text/plain;charset=Cp1252') returns setof jsonb
    language plpgsql as $$
declare
    id constant bigint := document(bytes, content_type);
begin
    return query
    select r.cells from amzmp._document_rows((select account_id from this), id, 0, 100000) as r order by r.place;
end
$$;

create function rows_of(content text) returns setof jsonb language sql as $$
    select rows_of(convert_to(content, 'UTF8'), 'text/plain;charset=UTF-8')
$$;

create function created() returns void language plpgsql as $$
begin
    perform count(*) from claim('createReport');
    perform answer('createReport', 202, format('{"reportId": "%s"}', (report()).report_id + 5000000)::jsonb);
    update amzmp.report set submitted_at = now() where submitted_at > now();
end
$$;

create function poll(status text, document text default null) returns void language plpgsql as $$
begin
    perform hurry();
    perform count(*) from claim('getReport');
    perform answer('getReport', 200, jsonb_strip_nulls(jsonb_build_object('reportId', (report()).amazon_report_id, 'reportType', (report()).type,
        'createdTime', '2026-01-01T00:00:00Z', 'processingStatus', status, 'reportDocumentId', document)));
end
$$;

create function downloaded(content text) returns void language plpgsql as $$
declare
    t amzmp.transfer;
begin
    perform hurry();
    perform count(*) from claim('getReportDocument');
    perform answer('getReportDocument', 200, '{"reportDocumentId": "d", "url": "https://127.0.0.1/y?secret", "compressionAlgorithm": "GZIP"}');
    select x.* into t from amzmp.transfer as x;
    perform amzmp._write_content(t.account_id, t.document_id, convert_to(content, 'UTF8'));
    perform amzmp._transfer_end(t.account_id, t.subject, 200, null);
    perform run_tasks();
end
$$;

/* ---- what is read out of documents ---- */

select results_eq($$select rows_of(chr(65279) || e'SKU\tItem Name\r\nA\tmug\r\n\r\nB\r\n\tnameless\r\n')$$,
    $$values ('{"sku": "A", "item-name": "mug"}'::jsonb), ('{"sku": "B"}'), ('{"item-name": "nameless"}')$$,
    'columns by name, short rows, blank lines, a byte-order mark');
select results_eq($$select rows_of(e'a\tb\n"x\ty"\n2" nail\t"\n')$$,
    $$values ('{"a": "\"x", "b": "y\""}'::jsonb), ('{"a": "2\" nail", "b": "\""}')$$, 'a quotation mark is a character like any other');
select results_eq($$select rows_of(e'a,b\n"x, ""y""\nz",1\n2,"3"\n')$$,
    $$values ('{"a": "x, \"y\" z", "b": "1"}'::jsonb), ('{"a": "2", "b": "3"}')$$, 'unless commas part the cells');
select results_eq($$select rows_of(e'a\ta\t\n1\t2\t3\t4\n')$$,
    $$values ('{"a": "1", "a-2": "2", "column-3": "3", "column-4": "4"}'::jsonb)$$, 'columns that have no name of their own');
select results_eq($$select rows_of(convert_to(e'a\tb\nGröße 5 €\tñ\n', 'WIN1252'))$$,
    $$values ('{"a": "Größe 5 €", "b": "ñ"}'::jsonb)$$, 'Windows-1252');
select results_eq($$select rows_of('\x610a81'::bytea)$$, $$select jsonb_build_object('a', chr(129))$$, 'with the bytes that it does not define');
select results_eq($$select rows_of(convert_to(e'出品者SKU\t価格\nあ～①\t5\n', 'SJIS'), 'text/plain; charset=Windows-31J')$$,
    $$values ('{"seller-sku": "あ～①", "price": "5"}'::jsonb)$$, 'Windows-31J, with translated headings');
select results_eq($$select rows_of('\x610a82'::bytea, 'text/plain; charset=Shift_JIS')$$, $$values ('{"a": "?"}'::jsonb)$$, 'half a character at the end');
select results_eq($$select rows_of(convert_to(e'a\nGröße 日\n', 'UTF8'), 'text/plain')$$, $$values ('{"a": "Größe 日"}'::jsonb)$$,
    'without a charset it is UTF-8');
select results_eq($$select rows_of(convert_to(e'a\nGröße\n', 'WIN1252'), 'text/plain')$$, $$values ('{"a": "Größe"}'::jsonb)$$,
    'or Windows-1252 where it cannot be');
select results_eq($$select rows_of('\x610a7800790d7a'::bytea)$$, $$values ('{"a": "x y z"}'::jsonb)$$,
    'control characters become blanks');
select is_empty($$select rows_of('')$$, 'an empty document has no rows');
select is_empty($$select rows_of(e'a\tb\n')$$, 'nor has one with a header alone');
select results_eq($$select rows_of(convert_to(e'Händler-SKU\tPreis\tMenge\nA\t1\t2\n', 'WIN1252'))$$,
    $$values ('{"seller-sku": "A", "price": "1", "quantity": "2"}'::jsonb)$$, 'German headings');
select throws_ok($$select rows_of('<x/>')$$, 'AZ004', 'the report is no table', 'XML is none');
delete from amzmp.document_chunk where position = 2;
select throws_ok($$select amzmp._document_rows((select account_id from this), (select max(document_id) from amzmp.document), 0, 1)$$,
    'XX001', null, 'a document that is not whole');

create temporary table staged (seller_sku text, absent text, place integer, rest jsonb);
select document(convert_to(e'seller-sku\tx\ty\\z\nä\\t\t\t1\\n\nB\t2\n', 'WIN1252'), 'text/plain;charset=cp1252') as document \gset
select is(amzmp._stage_report(:account_id, :document, 'staged'), 2::bigint, 'rows are staged');
select results_eq($$select * from staged order by place$$,
    $$values ('ä\t', null::text, 1, '{"y\\z": "1\\n"}'::jsonb), ('B', null, 2, '{"x": "2"}')$$, 'each cell where it belongs');

/* ---- the life of a report ---- */

select amzmp.request_report('DE', 'GET_MERCHANT_LISTINGS_DATA', options => '{"custom": "true"}') as id \gset
select is(amzmp.request_report('DE', 'GET_MERCHANT_LISTINGS_DATA', options => '{"custom": "true"}'), :id::bigint, 'the same report is asked for once');
select results_eq($$select body from claim('createReport')$$,
    $$values ('{"reportType": "GET_MERCHANT_LISTINGS_DATA", "marketplaceIds": ["A1PA6795UKMFR9"], "reportOptions": {"custom": "true"}}'::jsonb)$$,
    'what Amazon is asked for');
select answer('createReport', 202, '{"reportId": "77"}') \g /dev/null
select results_eq($$select state, amazon_report_id from amzmp.report$$, $$values ('in_queue', '77')$$, 'Amazon has it');
select ok((select not_before between now() + interval '59 s' and now() + interval '61 s' from amzmp.request where operation = 'getReport'),
    'it is asked for after a minute');
select ok(amzmp._report_finished(:account_id, '77'), 'unless a notification says that it has ended');
select ok((select not_before <= now() from amzmp.request where operation = 'getReport'), 'then at once');
select ok(not amzmp._report_finished(:account_id, '78'), 'one that is not ours is none of ours');
select poll('IN_QUEUE'), poll('IN_PROGRESS') \g /dev/null
select is((report()).state, 'in_progress', 'Amazon is at it');
select answer('getReport', 404, '{}', 'NotFound', 'There is no such report.') from (select hurry(), (select count(*) from claim('getReport'))) as x \g /dev/null
select is((report()).state, 'in_progress', 'that it is not found means nothing');
select poll('DONE', 'document-1') \g /dev/null
select is((report()).state, 'done', 'then it is done');
select count(*) from claim('getReportDocument') \g /dev/null
select answer('getReportDocument', 200, '{"reportDocumentId": "document-1", "url": "https://127.0.0.1/y?secret"}') \g /dev/null
select ok(not exists (select from amzmp.transfer as t where t::text like '%' || encode('secret', 'hex') || '%' or t::text like '%secret%'),
    'the link is sealed');
select amzmp._transfer_end(:account_id, 'report/' || :id, 403, 'HTTP status 403') \g /dev/null
select is((select count(*) from amzmp.document as d join amzmp.report as r using (document_id)), 0::bigint, 'a link that ended brings nothing');
select downloaded(e'seller-sku\tprice\nA\t1\n') \g /dev/null
select results_eq($$select state, columns, rows, ended_at is not null from amzmp.report$$, $$values ('downloaded', '{seller-sku,price}'::text[], 1::bigint, true)$$,
    'another one brings it');
select results_eq($$select place, cells from amzmp.report_rows('seller', (report()).report_id)$$, $$values (1::bigint, '{"seller-sku": "A", "price": "1"}'::jsonb)$$,
    'its rows can be seen');
select is(amzmp.report_document('seller', :id), e'seller-sku\tprice\nA\t1\n'::bytea, 'and the document');

/* ---- a lost answer ---- */

delete from amzmp.request;
select amzmp.request_report('seller', 'GET_AFN_INVENTORY_DATA'), amzmp.request_report('seller', 'GET_RESERVED_INVENTORY_DATA') \g /dev/null
select is((select count(*) from amzmp.request where operation = 'createReport'), 1::bigint, 'one is asked for at a time');
select is(jsonb_array_length(c.body -> 'marketplaceIds'), 2, 'a report of an account covers its marketplaces') from claim('createReport') as c;
select answer('createReport', 0, null) \g /dev/null
select hurry() \g /dev/null
select is_empty($$select * from claim('createReport')$$, 'after a lost answer it is not asked for again');
select is(c.params -> 'reportTypes', '["GET_AFN_INVENTORY_DATA"]', 'but looked for') from claim('getReports') as c;
select answer('getReports', 200, '{"reports": []}') \g /dev/null
select hurry() \g /dev/null
select count(*) from claim('getReports') \g /dev/null
select answer('getReports', 200, '{"reports": [{"reportId": "80", "reportType": "GET_AFN_INVENTORY_DATA", "marketplaceIds": ["A13V1IB3VIYZZH"], "createdTime": "2026-01-01T00:00:00Z"},
    {"reportId": "79", "reportType": "GET_AFN_INVENTORY_DATA", "marketplaceIds": ["A13V1IB3VIYZZH", "A1PA6795UKMFR9"],
        "createdTime": "2026-01-01T00:00:00Z"}]}') \g /dev/null
select results_eq($$select state, amazon_report_id from amzmp.report where type = 'GET_AFN_INVENTORY_DATA'$$, $$values ('in_queue', '79')$$, 'what is found is ours');
select is((select count(*) from claim('createReport')), 1::bigint, 'then comes the next');
select answer('createReport', 0, null), hurry() \g /dev/null
select count(*) from claim('getReports') \g /dev/null
select answer('getReports', 200, '{"reports": []}'), hurry() \g /dev/null
select count(*) from claim('getReports') \g /dev/null
select answer('getReports', 200, '{"reports": []}') \g /dev/null
select is((select count(*) from claim('createReport')), 1::bigint, 'what is not there twice is asked for again');
select answer('createReport', 403, '{}', 'Unauthorized', 'No.') \g /dev/null
select results_eq($$select state, reason from amzmp.report where type = 'GET_RESERVED_INVENTORY_DATA'$$, $$values ('failed', 'createReport: No. (Unauthorized)')$$,
    'what Amazon refuses has failed');

/* ---- distance ---- */

delete from amzmp.request;
delete from amzmp.task;
update amzmp.report set ended_at = now(), submitted_at = now();
select amzmp.request_report('DE', 'GET_MERCHANT_LISTINGS_DATA', options => '{"custom": "true"}') as second \gset
select is((select due_at - now() from amzmp.report where report_id = :second), interval '1 hour', 'the next one keeps its distance');
select is_empty($$select * from claim('createReport')$$, 'it is not asked for now');
select is((select count(*) from amzmp.task where kind = 'create_reports'), 1::bigint, 'but then');
update amzmp.report set due_at = now() where report_id = :second;
update amzmp.report set submitted_at = now() - interval '2 hours' where report_id = :id;
update amzmp.task set due_at = now();
select run_tasks(), created(), poll('DONE', 'document-1') \g /dev/null
select is_empty($$select * from claim('getReportDocument')$$, 'a document that we have is not fetched again');
select run_tasks() \g /dev/null
select results_eq($$select state, rows from amzmp.report where report_id = (report()).report_id$$, $$values ('downloaded', 1::bigint)$$, 'it serves as it is');
select is((select spacing from amzmp.report_pace where type = 'GET_MERCHANT_LISTINGS_DATA'), interval '3 hours', 'and more distance is kept from now on');
select is(amzmp._report_due_at(:account_id, :de, 'GET_MERCHANT_LISTINGS_DATA', false), now() + interval '3 hours', 'at the next one');
update amzmp.report set submitted_at = submitted_at - interval '4 hours';
select amzmp.request_report('DE', 'GET_MERCHANT_LISTINGS_DATA'), created(), poll('DONE', 'document-2') \g /dev/null
select is((select spacing from amzmp.report_pace where type = 'GET_MERCHANT_LISTINGS_DATA'), interval '2:42', 'a little less when that was enough');
select downloaded(e'seller-sku\nA\n') \g /dev/null
update amzmp.report set submitted_at = submitted_at - interval '3 hours';
select amzmp.request_report('DE', 'GET_MERCHANT_LISTINGS_DATA'), created(), poll('CANCELLED') \g /dev/null
select results_eq($$select state, reason like '%too soon%' from amzmp.report where report_id = (report()).report_id$$, $$values ('cancelled', true)$$,
    'a report that Amazon cancels came too soon, as a rule');
select is((select spacing from amzmp.report_pace where type = 'GET_MERCHANT_LISTINGS_DATA'), interval '4:30', 'so more distance again');
select amzmp.request_report('seller', 'GET_AFN_INVENTORY_DATA') \g /dev/null
update amzmp.report set due_at = now();
select amzmp._create_reports(:account_id, '{}'), created(), poll('CANCELLED') \g /dev/null
select results_eq($$select state, reason from amzmp.report where report_id = (report()).report_id$$, $$values ('cancelled', 'Amazon cancelled it: there are no rows')$$,
    'or has no rows, where reports without rows are cancelled');

/* ---- handlers ---- */

create function amzmp._apply_test(report amzmp.report) returns text language plpgsql as $$
declare
    found_rows bigint;
begin
    select count(*) into found_rows from amzmp._report_rows(report.account_id, report.report_id);
    if exists (select from amzmp._report_rows(report.account_id, report.report_id) as r where r.cells ->> 'a' = 'bad') then
        raise 'this is bad';
    end if;
    return format('%s rows', found_rows);
end
$$;
insert into amzmp.report_type (name, title, spacing, handler, empty_when_cancelled, personal)
values ('GET_TEST', 'A test', '0', '_apply_test', true, false), ('GET_SECRET', 'Secret', '0', '_apply_test', true, true);
select amzmp.request_report('seller', 'GET_TEST'), created(), poll('DONE', 'test-1'), downloaded(e'a\n1\n2\n') \g /dev/null
select results_eq($$select state, reason, rows from amzmp.report where report_id = (report()).report_id$$, $$values ('applied', '2 rows', 2::bigint)$$,
    'a handler takes the rows');
select amzmp.request_report('seller', 'GET_TEST'), created(), poll('CANCELLED'), run_tasks() \g /dev/null
select results_eq($$select state, reason, rows from amzmp.report where report_id = (report()).report_id$$, $$values ('applied', '0 rows', 0::bigint)$$,
    'a cancelled one is empty');
select amzmp.request_report('seller', 'GET_TEST'), created(), poll('DONE', 'test-2'), downloaded(e'a\nbad\n') \g /dev/null
select results_eq($$select state, reason from amzmp.report where report_id = (report()).report_id$$, $$values ('failed', 'it could not be applied: this is bad')$$,
    'a handler that fails says why');
create or replace function amzmp._apply_test(report amzmp.report) returns text language sql as $$select 'good'$$;
select amzmp.retry_report('seller', (report()).report_id), run_tasks() \g /dev/null
select results_eq($$select state, reason from amzmp.report where report_id = (report()).report_id$$, $$values ('applied', 'good')$$, 'it can be tried again');
select amzmp.request_report('seller', 'GET_TEST'), created(), poll('FATAL', 'why') \g /dev/null
select downloaded('the range is too old') \g /dev/null
select results_eq($$select state, amzmp.report_document('seller', report_id) from amzmp.report where report_id = (report()).report_id$$,
    $$values ('fatal', 'the range is too old'::bytea)$$, 'a fatal one may say why');
select amzmp.request_report('seller', 'GET_TEST'), created(), poll('DONE', 'broken') \g /dev/null
select hurry() \g /dev/null
select count(*) from claim('getReportDocument') \g /dev/null
select answer('getReportDocument', 200, '{"reportDocumentId": "broken", "url": "https://127.0.0.1/y?secret"}') \g /dev/null
insert into amzmp.document_chunk (account_id, document_id, position, content) select account_id, document_id, 0, '\x1f8b0800' from amzmp.transfer;
select amzmp._transfer_end(:account_id, 'report/' || (report()).report_id, 200, null), run_tasks() \g /dev/null
select results_eq($$select state, document_id from amzmp.report where report_id = (report()).report_id$$, $$values ('done', null::bigint)$$,
    'a document that is not whole is fetched again');
select downloaded(e'a\n1\n') \g /dev/null
select is((report()).state, 'applied', 'and then it is whole');

/* ---- typed views ---- */

select amzmp.request_report('seller', 'GET_FBA_MYI_UNSUPPRESSED_INVENTORY_DATA'), created(), poll('DONE', 'fba') \g /dev/null
select downloaded(e'sku\tfnsku\tproduct-name\tyour-price\tafn-fulfillable-quantity\tafn-total-quantity\nA\tX1\tMug\t9.99\t5\t7\nB\tX2\tPan\t\t\t\n') \g /dev/null
select results_eq($$select account, sku, title, price, fulfillable, total from amzmp.fba_inventory_report order by sku$$,
    $$values ('seller', 'A', 'Mug', 9.99, 5, 7), ('seller', 'B', 'Pan', null, null, null)$$, 'stock at Amazon; what is not told is unknown');
insert into amzmp.report (account_id, type, marketplace_ids, state, document_id, submitted_at, ended_at)
select :account_id, 'GET_FLAT_FILE_ALL_ORDERS_DATA_BY_ORDER_DATE_GENERAL', '{}', 'downloaded', amzmp._new_document(:account_id, 'text/plain'), now(), now();
select amzmp._write_content(:account_id, (report()).document_id, convert_to(
    e'amazon-order-id\tpurchase-date\tsku\tquantity\tcurrency\titem-price\n302-1\t2026-01-02T03:04:05+00:00\tA\t2\tEUR\t19.98\n', 'UTF8')) \g /dev/null
select results_eq($$select amazon_order_id, purchased_at at time zone 'UTC', quantity, item_price from amzmp.order_report$$,
    $$values ('302-1', timestamp '2026-01-02 03:04:05', 2, 19.98)$$, 'order items');

/* ---- personal data ---- */

create role reports_reader in role amzmp_reader;
create role reports_operator in role amzmp_operator;
create role reports_buyer in role amzmp_operator, amzmp_buyer_data;
grant usage on schema listing_test to reports_reader, reports_operator, reports_buyer;
set local role reports_operator;
select throws_ok($$select amzmp.request_report('seller', 'GET_SECRET')$$, '42501', null, 'buyers'' data are not for everybody');
select throws_ok($$select amzmp.request_report('seller', 'GET_WHATEVER')$$, '42501', null, 'nor is what nobody knows');
set local role reports_buyer;
select lives_ok($$select amzmp.request_report('seller', 'GET_SECRET')$$, 'who may see them may ask');
reset role;
select created(), poll('DONE', 'secret'), downloaded(e'a\tname\n1\tJane Roe\n') \g /dev/null
select is((report()).state, 'applied', 'they are taken too');
select is((select count(*) from amzmp.document_chunk as c join amzmp.report as r using (account_id, document_id)
    where r.type = 'GET_SECRET' and c.content is null and c.sealed is not null), 1::bigint, 'but sealed');
select (report()).report_id as secret \gset
set local role reports_reader;
select throws_ok(format('select amzmp.report_rows(%L, %s)', 'seller', :secret), '42501', null, 'and open to nobody');
select throws_ok(format('select amzmp.report_document(%L, %s)', 'seller', :secret), '42501', null, 'in no form');
set local role reports_buyer;
select is((select r.cells ->> 'name' from amzmp.report_rows('seller', :secret) as r), 'Jane Roe', 'but those who may');
reset role;

/* ---- one that is there already ---- */

select amzmp.fetch_report('seller', 'GET_TEST', '987654') as there \gset
select is(amzmp.fetch_report('seller', 'GET_TEST', '987654'), :there::bigint, 'a report that Amazon has is fetched once');
select poll('DONE', 'there'), downloaded(e'a\n1\n') \g /dev/null
select results_eq($$select state, rows from amzmp.report where report_id = (report()).report_id$$, $$values ('applied', 1::bigint)$$, 'and taken like any other');
select throws_ok($$select amzmp.fetch_report('seller', 'GET_TEST', 'x')$$, 'AZ202', null, 'by Amazon''s id');

/* ---- again and again ---- */

select amzmp.schedule_report('seller', 'GET_TEST', '6 hours', '3 days') \g /dev/null
select ok((select enabled from amzmp.account_flow where account_id = :account_id and flow = 'get_reports'), 'a schedule switches the flow on');
select amzmp._flow_get_reports(:account_id, 0, 1) \g /dev/null
select results_eq($$select r.type, r.data_start, s.next_at
    from amzmp.report_schedule as s join amzmp.report as r using (account_id, report_id)$$,
    $$values ('GET_TEST', now() - interval '3 days', now() + interval '6 hours')$$, 'the flow asks for what is due');
select is((select s.report_id from amzmp.report_schedule as s), (report()).report_id, 'the schedule names it');
delete from amzmp.request;
select amzmp._flow_get_reports(:account_id, 0, 2) \g /dev/null
select is_empty($$select from amzmp.request where operation = 'createReport'$$, 'and for nothing else');
select throws_ok($$select amzmp.schedule_report('seller', 'GET_TEST', '1 minute')$$, 'AZ202', null, 'not too often');
select amzmp.schedule_report('seller', 'GET_TEST', null) \g /dev/null
select is_empty($$select from amzmp.report_schedule$$, 'it ends');
update amzmp.report set ended_at = now(), state = 'cancelled' where ended_at is null;

select amzmp.request_report('seller', 'GET_TEST'), created(), poll('FATAL') \g /dev/null
select results_eq($$select state, remedy like '%Request it again.' from amzmp.health() where check_name = 'report seller GET_TEST'$$, $$values ('warning', true)$$,
    'health tells of a report that failed');
select amzmp.request_report('seller', 'GET_TEST'), created(), poll('DONE', 'test-9'), downloaded(e'a\n1\n') \g /dev/null
select is_empty($$select from amzmp.health() where check_name like 'report%GET_TEST'$$, 'until the next one is good');

/* ---- by hand ---- */

select throws_ok($$select amzmp.request_report('seller', 'get_test')$$, 'AZ202', null, 'what is no type');
select throws_ok($$select amzmp.request_report('seller', 'GET_MERCHANT_LISTINGS_ALL_DATA')$$, 'AZ202', null, 'a channel is missing');
select throws_ok($$select amzmp.request_report('seller', 'GET_TEST', options => '{"a": 1}')$$, 'AZ202', null, 'options are strings');
select throws_ok($$select amzmp.request_report('seller', 'GET_FLAT_FILE_ALL_ORDERS_DATA_BY_LAST_UPDATE_GENERAL', now() - interval '50 days')$$, 'AZ202', null,
    'a range that is too long');
select throws_ok($$select amzmp.request_report('seller', 'GET_TEST', now() + interval '1 day')$$, 'AZ202', null, 'a range in the future');
select throws_ok($$select amzmp.report_rows('seller', 999999)$$, 'AZ201', null, 'a report that is not there');
select amzmp.request_report('seller', 'GET_TEST') as last \gset
select lives_ok(format('select amzmp.cancel_report(%L, %s)', 'seller', :last), 'one under way can be given up');
select results_eq($$select state, reason like 'cancelled by %' from amzmp.report where report_id = (report()).report_id$$, $$values ('cancelled', true)$$, 'then it is');
select is_empty($$select * from claim('createReport')$$, 'Amazon is not asked');
select cmp_ok(amzmp.purge_reports('seller', '-1 s'), '>', 5::bigint, 'reports can be removed');
select is((select count(*) from amzmp.document as d where d.document_id in (select document_id from amzmp.report)), 0::bigint, 'with their documents');

/* ---- JSON and XML ---- */

create function tree(content bytea) returns setof jsonb language plpgsql as $$
begin
    update amzmp.report as r set ended_at = now() where r.ended_at is null;
    insert into amzmp.report (account_id, channel_id, type, marketplace_ids, state, document_id, submitted_at)
    select t.account_id, t.de, 'GET_RESERVED_INVENTORY_DATA', '{A1PA6795UKMFR9}', 'downloaded', document(content, 'text/plain'), now() from this as t;
    perform amzmp._task_report((select account_id from this), (report()).report_id::text, '{}');
    return query select r.cells from amzmp.report_rows('seller', (report()).report_id) as r order by r.place;
end
$$;
create function tree(content text) returns setof jsonb language sql as $$ select tree(convert_to(content, 'UTF8')) $$;

select results_eq($$select tree('[{"sku": "A", "price": {"amount": 9.95}}, {"sku": "Ö"}, 3]')$$,
    $$values ('{"sku": "A", "price": {"amount": 9.95}}'::jsonb), ('{"sku": "Ö"}'), ('{"value": 3}')$$, 'an array of JSON is its elements');
select results_eq($$select form, columns, rows, state from report()$$, $$values ('json', '{price,sku,value}'::text[], 3::bigint, 'downloaded')$$, 'which are counted');
select results_eq($$select tree(chr(65279) || ' {"spec": {"type": "X"}, "byDate": [{"date": "2026-01-01"}], "byAsin": [{"asin": "B1"}, {"asin": "B2"}]}')$$,
    $$values ('{"@list": "byAsin", "asin": "B1"}'::jsonb), ('{"@list": "byAsin", "asin": "B2"}'), ('{"@list": "byDate", "date": "2026-01-01"}')$$,
    'an object with arrays is their elements');
select results_eq($$select tree('{"a": 1}')$$, $$values ('{"a": 1}'::jsonb)$$, 'one without is one row');
select results_eq($$select cells from amzmp.report_rows('seller', (select report_id from amzmp.report where form = 'json' order by report_id limit 1), 1, 1)$$,
    $$values ('{"sku": "Ö"}'::jsonb)$$, 'a part of the rows');
select is_empty($$select tree('{"a": "secret')$$, 'what is broken has no rows');
select results_eq($$select form, state, coalesce(reason, '') from report()$$, $$values ('other', 'downloaded', '')$$, 'and its document can be had');
select results_eq($$select tree('<?xml version="1.0"?><e xmlns="urn:x"><Header><V>1</V></Header><Message><Order id="1"><Item>A &amp; B</Item><Item>B</Item><Price cur="EUR">9.95</Price></Order></Message><Message><Note/><![CDATA[x]]></Message></e>')$$,
    $$values ('{"Order": {"@id": "1", "Item": ["A & B", "B"], "Price": {"@cur": "EUR", "#text": "9.95"}}}'::jsonb), ('{"Note": ""}')$$, 'XML is what its root has most of');
select results_eq($$select form, columns, rows from report()$$, $$values ('xml', '{Note,Order}'::text[], 2::bigint)$$, 'which are counted too');
select results_eq($$select tree(convert_to('<?xml version="1.0" encoding="ISO-8859-1"?><r><a>Größe</a><a k="ü"/></r>', 'LATIN1'))$$,
    $$values ('{"a": "Größe"}'::jsonb), ('{"@k": "ü"}')$$,
    'in the character set that it names');
select is_empty($$select tree('<a><b></a>')$$, 'broken XML has none');
select is_empty($$select tree('<!DOCTYPE r [<!ENTITY f SYSTEM "file:///etc/passwd">]><r>&f;</r>')$$, 'nor does one that wants to read files');

insert into amzmp.report (account_id, channel_id, type, marketplace_ids, state, document_id, submitted_at)
select t.account_id, t.de, 'GET_MERCHANT_LISTINGS_DATA', '{A1PA6795UKMFR9}', 'downloaded',
    document(convert_to(e'seller-sku\tprice\tquantity\tasin1\tstatus\nA\t1.234,50\t\tB1\tActive\nB\t1,234.5\t3\tB2\tInactive\n', 'UTF8'), 'text/plain;charset=UTF-8'), now() from this as t;
select amzmp._task_report(:account_id, (report()).report_id::text, '{}') \g /dev/null
select results_eq(
    $$select sku, price, quantity, asin, status from amzmp.listing_report where report_id = (report()).report_id order by sku$$,
    $$values ('A', 1234.50, null::integer, 'B1', 'Active'), ('B', 1234.5, 3, 'B2', 'Inactive')$$, 'listing reports are a view with types');

/* ---- made elsewhere ---- */

delete from amzmp.request;
delete from amzmp.task;
update amzmp.report set ended_at = now(), submitted_at = now() - interval '2 days';
insert into amzmp.report (account_id, channel_id, type, marketplace_ids, state, amazon_report_id, ended_at)
values (:account_id, :de, 'GET_MERCHANT_LISTINGS_INACTIVE_DATA', '{A1PA6795UKMFR9}', 'downloaded', '77', now());
select amzmp.set('seller', 'report_reuse', '2 hours') \g /dev/null
select amzmp.request_report('DE', 'GET_MERCHANT_LISTINGS_INACTIVE_DATA') as reused \gset
select is_empty($$select * from claim('createReport')$$, 'Amazon is not asked for a report');
select results_eq($$select params ->> 'createdSince', params -> 'processingStatuses' from claim('getReports')$$,
    $$select amzmp._iso_time(now() - interval '2 hours'), '["DONE", "IN_QUEUE", "IN_PROGRESS"]'::jsonb$$, 'before it said whether it has a young one');
select answer('getReports', 200, jsonb_build_object('reports', (select jsonb_agg(jsonb_build_object('reportId', v.id, 'reportType', v.type, 'marketplaceIds',
    v.places, 'createdTime', amzmp._iso_time(now() - v.age), 'processingStatus', 'DONE')) from (values
        ('901', 'GET_MERCHANT_LISTINGS_INACTIVE_DATA', '["A1PA6795UKMFR9"]'::jsonb, interval '90 minutes'), ('902', 'GET_MERCHANT_LISTINGS_INACTIVE_DATA', '["A1PA6795UKMFR9"]', '1 hour'),
        ('903', 'GET_MERCHANT_LISTINGS_INACTIVE_DATA', '["A1PA6795UKMFR9", "A13V1IB3VIYZZH"]', '1 minute'), ('904', 'GET_MERCHANT_LISTINGS_DATA', '["A1PA6795UKMFR9"]', '1 minute'),
        ('77', 'GET_MERCHANT_LISTINGS_INACTIVE_DATA', '["A1PA6795UKMFR9"]', '1 minute')) as v (id, type, places, age)))) \g /dev/null
select results_eq($$select state, amazon_report_id, found, date_trunc('second', submitted_at) from amzmp.report where report_id = $$ || :reused,
    $$select 'in_queue', '902', true, date_trunc('second', now() - interval '1 hour')$$, 'the youngest of the same kind serves');
select is((select not_before <= now() from amzmp.request where operation = 'getReport'), true, 'it is asked for at once');
delete from amzmp.request;
update amzmp.report set ended_at = now(), submitted_at = now() - interval '2 days';
select amzmp.request_report('DE', 'GET_MERCHANT_LISTINGS_INACTIVE_DATA') as reused \gset
select count(*) from claim('getReports') \g /dev/null
select answer('getReports', 403, '{}', 'Unauthorized', 'No.') \g /dev/null
select is((select count(*) from claim('createReport')), 1::bigint, 'without an answer to that it is asked for');
delete from amzmp.request;
update amzmp.report set ended_at = now(), submitted_at = now() - interval '2 days';
select amzmp.request_report('DE', 'GET_MERCHANT_LISTINGS_INACTIVE_DATA', options => '{"custom": "true"}') \g /dev/null
select is((select count(*) from claim('createReport')), 1::bigint, 'one with options at once');

select * from finish();
rollback;
