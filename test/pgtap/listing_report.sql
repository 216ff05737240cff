-- listing_report.sql
-- Amazon's report of all listings: what is kept of it, what it contradicts, when it is not believed, and listings that the
-- shop takes into management.

begin;
\ir listing_setup.psql

create function report() returns amzmp.report language sql as $$ select r from amzmp.report as r order by r.report_id desc limit 1 $$;

-- A report of the channel that was downloaded; its rows as text, cells parted by |.
create function arrives(header text, variadic lines text[] default '{}') returns text language plpgsql as $$
declare
    id bigint := amzmp._new_document((select account_id from this), 'text/plain;charset=UTF-8');
begin
    perform amzmp._write_content((select account_id from this), id, convert_to(replace(
        header || e'\r\n' || array_to_string(lines, e'\r\n'), '|', e'\t'), 'UTF8'));
    insert into amzmp.report (account_id, channel_id, type, marketplace_ids, state, document_id, submitted_at)
    select t.account_id, t.de, 'GET_MERCHANT_LISTINGS_ALL_DATA', '{A1PA6795UKMFR9}', 'downloaded', id, now() from this as t;
    perform amzmp._task_report((select account_id from this), (report()).report_id::text, '{}');
    return (report()).state;
end
$$;

create function looked_at() returns text language sql as $$
    select string_agg(i.sku, ' ' order by i.sku)
    from amzmp.request as r, jsonb_array_elements_text(r.params -> 'identifiers') as i (sku)
    where r.operation = 'searchListingsItems'
$$;

\set header '\'item-name|seller-sku|price|quantity|open-date|product-id-type|asin1'
\set header :header '|product-id|add-delete|pending-quantity|fulfillment-channel|status|novelty\''
select live('L' || i, 10, 5) from generate_series(1, 6) as i \g /dev/null
update amzmp.listing set state_at = now() - interval '1 day', published_at = now() - interval '1 day';
delete from amzmp.request;
select amzmp.set('seller', 'verify_sample', '0') \g /dev/null

/* ---- what is kept ---- */

select is(arrives(:header,
    'Mug|L1|10.00|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active|',
    'Mug|L2|10|5|2026-01-01|1|B000000001|B000000001||3|DEFAULT|Active|new',
    'Größe|X1|1.234,50||01/02/2026|4|B000000002|4006381333931|||AMAZON_EU|Inactive',
    'Mug|L3|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L4|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L5|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L6|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active'), 'applied', 'a report is applied');
select is((report()).reason, '7 listings: 7 new, 0 changed, 0 vanished; 0 contradict what we expect, 0 are read from Amazon', 'and says what came of it');
select results_eq($$select title, price, quantity, status, fulfillment, product_id, opened, rest from amzmp.remote_listing where sku = 'X1'$$,
    $$values ('Größe', 1234.50, null::integer, 'inactive', 'amazon', '4006381333931', '01/02/2026', null::jsonb)$$, 'a listing is kept with what is told of it');
select is((select rest from amzmp.remote_listing where sku = 'L2'), '{"pending-quantity": "3", "novelty": "new"}', 'columns that nobody knows too');
select is(looked_at(), null, 'where all is as we expect nothing is read');
select results_eq($$select sku from amzmp.unmanaged_listing$$, $$values ('X1')$$, 'what we do not manage is told');
select is_empty($$select * from amzmp.drift$$, 'nothing differs');

/* ---- nothing new, or a little ---- */

select arrives(:header,
    'Mug|L1|10.00|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active|',
    'Mug|L2|10|5|2026-01-01|1|B000000001|B000000001||3|DEFAULT|Active|new',
    'Mug|L3|12|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L4|10|9|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L5|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Inactive') \g /dev/null
select is((report()).reason, '5 listings: 0 new, 3 changed, 2 vanished; 4 contradict what we expect, 4 are read from Amazon', 'differences are found');
select is(looked_at(), 'L3 L4 L5 L6', 'price, stock, state and what is gone are read from Amazon');
select results_eq($$select sku, facet, expected, observed from amzmp.drift order by sku$$,
    $$values ('L3', 'price', 10.0, 12.0), ('L4', 'stock', 5, 9)$$, 'drift shows them before');
select is((select string_agg(state, ' ') from amzmp.listing), 'live live live live live live', 'no state changes by a report alone');
select results_eq($$select sku, state from amzmp.vanished_listing order by sku$$, $$values ('L6', 'live'), ('X1', null)$$, 'what vanished is told');
select is((select count(distinct report_id) from amzmp.remote_listing), 2::bigint, 'what did not change was not written');

/* ---- what was sent since says nothing ---- */

delete from amzmp.request;
update amzmp.listing set read_due_at = null, observed_price = 10;
update amzmp.listing set submitted_price_at = now() - interval '3 hours' where sku = 'L3';
update amzmp.inventory set submitted_quantity_at = now() - interval '3 hours', observed_quantity = 5;
select arrives(:header,
    'Mug|L1|10.00|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active|',
    'Mug|L2|11|5|2026-01-01|1|B000000001|B000000001||3|DEFAULT|Active|new',
    'Mug|L3|13|4|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L4|10|8|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L5|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L6|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active') \g /dev/null
select is(looked_at(), 'L2', 'only what was settled before the report may have been made is doubted');
select is((select vanished_at from amzmp.remote_listing where sku = 'L6'), null, 'what comes back has not vanished');
select amzmp.set('seller', 'report_age', '1 hour') \g /dev/null
delete from amzmp.request;
update amzmp.listing set read_due_at = null;
select arrives(:header,
    'Mug|L1|10.00|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active|',
    'Mug|L2|10|5|2026-01-01|1|B000000001|B000000001||3|DEFAULT|Active|new',
    'Mug|L3|10|4|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L4|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L5|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L6|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active') \g /dev/null
select is(looked_at(), null, 'less stock than expected may have been sold');
insert into amzmp.order_cursor (account_id, watermark) select account_id, now() from this
on conflict (account_id) do update set watermark = excluded.watermark;
select arrives(:header,
    'Mug|L1|10.00|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active|',
    'Mug|L2|10|5|2026-01-01|1|B000000001|B000000001||3|DEFAULT|Active|new',
    'Mug|L3|10|3|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L4|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L5|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L6|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active') \g /dev/null
select is(looked_at(), 'L3', 'unless all orders have been read');
select amzmp.set('seller', 'verify_sample', '2') \g /dev/null
delete from amzmp.request;
update amzmp.listing set read_due_at = null;
select arrives(:header,
    'Mug|L1|10.00|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active|',
    'Mug|L2|10|5|2026-01-01|1|B000000001|B000000001||3|DEFAULT|Active|new',
    'Mug|L3|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L4|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L5|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active',
    'Mug|L6|10|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active') \g /dev/null
select is(array_length(string_to_array(looked_at(), ' '), 1), 2, 'some are read though they agree');

/* ---- reports that are not believed ---- */

select is(arrives('order-id|sku|quantity', '1|A|1'), 'refused', 'a report with other columns is refused');
select is((report()).reason, 'it is no listing report: it has no column seller-sku, price, asin1, but order-id, sku, quantity', 'and the reason is told');
select is(arrives('', ''), 'refused', 'so is an empty document');
select amzmp.set('seller', 'vanish_minimum', '3') \g /dev/null
select is(arrives(:header, 'Mug|L1|10.00|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active|'), 'refused', 'one in which too much is missing');
select is((report()).reason, '5 of 6 listings that were there are missing in it; retry_report() applies it all the same', 'tells how much');
select is((select count(*) from amzmp.remote_listing where vanished_at is null), 6::bigint, 'and changes nothing');
select amzmp.retry_report('seller', (report()).report_id) \g /dev/null
select amzmp._task_report(:account_id, (report()).report_id::text, '{}') \g /dev/null
select is((report()).state, 'applied', 'a person may know better');
select is((select count(*) from amzmp.remote_listing where vanished_at is null), 1::bigint, 'then it holds');
select amzmp.set('seller', 'vanish_minimum', '50') \g /dev/null
select is(arrives('出品者SKU|価格|数量|asin1|ステータス|フルフィルメント・チャンネル', 'L1|1,000|5|B000000001|出品中|DEFAULT'), 'applied', 'headings in another language');
select results_eq($$select price, status from amzmp.remote_listing where sku = 'L1'$$, $$values (1000.0, 'active')$$, 'mean the same');

select amzmp.set('seller', 'vanish_minimum', '3') \g /dev/null
delete from amzmp.remote_listing;
select is(arrives(:header, 'Mug|L1|10.00|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active|'), 'refused', 'the first report is measured by what we have');
select amzmp.set('seller', 'vanish_minimum', '50') \g /dev/null
select is(arrives(:header, 'Mug|L1|10.00|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active|', 'Mug|L1|11|5|2026-01-01|1|B000000001|B000000001|||DEFAULT|Active|'),
    'applied', 'a SKU that comes twice does no harm');

/* ---- what was sent is seen ---- */

select arrives('seller-sku|price|quantity|asin1|status|fulfillment-channel', 'L1|10|5|B000000001|Active|DEFAULT', 'L2|10|5|B000000001|Active|DEFAULT') \g /dev/null
insert into amzmp.lag_sample (account_id, channel_id, facet, sku, value, accepted_at)
values (:account_id, :de, 'price', 'L1', 11, now()), (:account_id, :de, 'stock', 'L1', 5, now()), (:account_id, :de, 'stock', 'L2', 5, now() - interval '2 hours'),
    (:account_id, :de, 'price', 'L2', 12, now() - interval '2 hours'), (:account_id, :de, 'price', 'L2', 11, now() + interval '1 minute');
select arrives('seller-sku|price|quantity|asin1|status|fulfillment-channel', 'L1|11|5|B000000001|Active|DEFAULT', 'L2|11|5|B000000001|Active|DEFAULT') \g /dev/null
select results_eq($$select facet, sku, value, seen_at is not null from amzmp.lag_sample order by sku, facet, value$$,
    $$values ('price', 'L1', 11::numeric, true), ('stock', 'L1', 5, false), ('price', 'L2', 11, false), ('price', 'L2', 12, false), ('stock', 'L2', 5, true)$$,
    'a change that a report shows is seen, where it cannot be what was there before');

/* ---- adoption ---- */

select shop('S1', 20, 3, '4006381333931'), shop('S2', 20, 3), shop('S3', 20, 3, '4006381333948'), shop('S4', 20, 3, '4006381333948') \g /dev/null
select shop('S5', 20, 3, null, jsonb_populate_record(null::amzmp.product, '{"asin": "B000000005"}')) \g /dev/null
select arrives('item-name|seller-sku|price|quantity|asin1|product-id|product-id-type|fulfillment-channel|status',
    'Mug|L1|10|5|B000000001|||DEFAULT|Active', 'Mug|S2|20|3|B000000009|||DEFAULT|Active', 'Mug|A1|20|3|B000000002|4006381333931|4|DEFAULT|Active',
    'Mug|A3|20|3|B000000003|4006381333948|4|DEFAULT|Active', 'Mug|A5|20|3|B000000005|||DEFAULT|Active') \g /dev/null
select is((select string_agg(sku, ' ' order by sku) from amzmp.unmanaged_listing), 'A1 A3 A5 S2', 'what there is to adopt');
select is(amzmp.adopt('DE'), 1::bigint, 'by SKU');
select is((select state from amzmp.listing where sku = 'S2' and channel_id = :de), 'queued', 'it is looked at and then managed');
select is(amzmp.adopt('DE', by => 'ean'), 1::bigint, 'by barcode, where that is one product');
select is(amzmp.adopt('DE', '{A5}', by => 'asin'), 1::bigint, 'by ASIN');
select results_eq($$select sku, linked_to from amzmp.unmanaged_listing order by sku$$, $$values ('A1', 'S1'), ('A3', null), ('A5', 'S5')$$,
    'they count as the shop''s products');
select is(amzmp.adopt('DE', by => 'ean'), 0::bigint, 'once');
select throws_ok($$select amzmp.adopt('DE', by => 'luck')$$, 'AZ202', null, 'by nothing else');
select amzmp.reconcile('DE') as asked \gset
select results_eq($$select type, state from amzmp.report where report_id = (report()).report_id$$, $$values ('GET_MERCHANT_LISTINGS_ALL_DATA', 'requested')$$,
    'a report can be asked for');

select * from finish();
rollback;
