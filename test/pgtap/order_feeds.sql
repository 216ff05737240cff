-- order_feeds.sql
-- What is written into feeds about orders, what becomes of Amazon's reports on them, and the conditions before that.

\ir orders_setup.psql

-- Orders' changes were read just now, which serves where an order cannot be read once more before it is shipped.
insert into amzmp.order_cursor (account_id, watermark) values (:account_id, now())
on conflict (account_id) do update set watermark = excluded.watermark;
select arrives(:account_id, an_order('501-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('11', 'MUG', 2, 0, 2), item('12', 'PEN', 1, 0, 1)))) \g /dev/null
select arrives(:account_id, an_order('502-0000002-0000002', 'SHIPPED', 0, jsonb_build_array(item('21', 'MUG', 2, 2, 0)),
    '{"proceeds": {"grandTotal": {"amount": "29.75", "currencyCode": "EUR"}, "breakdowns": []}}')) \g /dev/null
select arrives(:account_id, an_order('503-0000003-0000003', 'UNSHIPPED', 0, jsonb_build_array(item('31', 'HAT', 1, 0, 1,
    '{"cancellation": {"cancellationRequest": {"requester": "BUYER", "cancelReason": "too slow"}}}')))) \g /dev/null

-- The order of a package is read once more, and that fails.
create function not_read(id text) returns void language sql as $$
    delete from amzmp.request r where r.operation = 'getOrder' and r.subject = id;
    select amzmp._order_was_not_read(o.account_id, id, 'InternalFailure') from amzmp.orders o where o.amazon_order_id = id;
$$;

-- The feed of a type that waits, built; and its end, as Amazon's report makes it. Errors: {"2": ["code", "words"]}.
create function built(kind text) returns amzmp.feed language plpgsql as $$
declare
    f amzmp.feed;
begin
    select x.* into strict f from amzmp.feed x where x.type = kind and x.state = 'planned' order by x.feed_id limit 1;
    perform amzmp._task_feed(f.account_id, f.feed_id::text, '{}');
    select x.* into f from amzmp.feed x where x.feed_id = f.feed_id;
    return f;
end $$;
create function text_of(f amzmp.feed) returns text language sql as
    $$select convert_from(amzmp._read_document(f.account_id, f.document_id), 'UTF8')$$;
create function judged(f amzmp.feed, errors jsonb default '{}') returns void language plpgsql as $$
declare
    result bigint := amzmp._new_document(f.account_id, 'text/xml', false);
begin
    perform amzmp._write_content(f.account_id, result, convert_to(format('<AmazonEnvelope><Message><ProcessingReport><ProcessingSummary><MessagesSuccessful>1</MessagesSuccessful></ProcessingSummary>%s</ProcessingReport></Message></AmazonEnvelope>',
        (select string_agg(format('<Result><MessageID>%s</MessageID><ResultCode>Error</ResultCode><ResultMessageCode>%s</ResultMessageCode><ResultDescription>%s</ResultDescription></Result>',
                e.key, e.value ->> 0, e.value ->> 1), '') from jsonb_each(errors) e)), 'UTF8'));
    update amzmp.feed x set state = 'processed', result_document_id = result where x.feed_id = f.feed_id;
    perform amzmp._task_feed_report(f.account_id, f.feed_id::text, '{}');
end $$;

/* ---- cancellations ---- */

select throws_ok($$select amzmp.cancel_order('orders', '501-0000001-0000001', 'Whim')$$, 'AZ202', null, 'Amazon''s reasons are known');
select throws_ok($$select amzmp.cancel_order('orders', '502-0000002-0000002')$$, 'AZ203', null, 'a shipped order is not cancelled');
select throws_ok($$select amzmp.accept_cancellation('orders', '501-0000001-0000001')$$, 'AZ203', null, 'nor accepted what nobody asks for');
select is(amzmp.cancel_order('orders', '501-0000001-0000001'), 'queued', 'an open one is');
select is(amzmp.accept_cancellation('orders', '503-0000003-0000003'), 'queued', 'and one whose buyer asks');
select throws_ok($$select amzmp.confirm_shipment('orders', '501-0000001-0000001', 'DHL', 'T1')$$, 'AZ203', null, 'then it is not shipped');
select (built('POST_ORDER_ACKNOWLEDGEMENT_DATA')).feed_id as feed \gset
select is((select regexp_replace(text_of(f), '.*</MessageType>\s*', '') from amzmp.feed f where f.feed_id = :feed),
    '<Message><MessageID>1</MessageID><OrderAcknowledgement><AmazonOrderID>501-0000001-0000001</AmazonOrderID><StatusCode>Failure</StatusCode>'
    || '<Item><AmazonOrderItemCode>11</AmazonOrderItemCode><CancelReason>NoInventory</CancelReason></Item>'
    || '<Item><AmazonOrderItemCode>12</AmazonOrderItemCode><CancelReason>NoInventory</CancelReason></Item></OrderAcknowledgement></Message>' || E'\n'
    || '<Message><MessageID>2</MessageID><OrderAcknowledgement><AmazonOrderID>503-0000003-0000003</AmazonOrderID><StatusCode>Failure</StatusCode>'
    || '<Item><AmazonOrderItemCode>31</AmazonOrderItemCode><CancelReason>BuyerCanceled</CancelReason></Item></OrderAcknowledgement></Message>' || E'\n</AmazonEnvelope>\n',
    'both are in one feed, every line with its reason');
select judged(f, '{"1": ["18029", "The order is shipped."]}') from amzmp.feed f where f.feed_id = :feed \g /dev/null
select results_eq($$select state, plans::integer, reason from amzmp.cancellation order by amazon_order_id$$,
    $$values ('unknown', 1, '18029: The order is shipped.'), ('accepted', 1, '')$$, 'Amazon''s verdicts are noted');
select is((select count(*) from amzmp.request r where r.operation = 'getOrder'), 2::bigint, 'and both orders are read again');
delete from amzmp.request where operation = 'getOrder';
select arrives(:account_id, an_order('501-0000001-0000001', 'UNSHIPPED', 1, jsonb_build_array(item('11', 'MUG', 2, 0, 2), item('12', 'PEN', 1, 0, 1)))) \g /dev/null
select is((select state from amzmp.cancellation where amazon_order_id like '501-%'), 'queued', 'what Amazon did not take gets another plan');
update amzmp.cancellation set plans = 6, state = 'unknown', reason = '18029: The order is shipped.' where amazon_order_id like '501-%';
select arrives(:account_id, an_order('501-0000001-0000001', 'UNSHIPPED', 2, jsonb_build_array(item('11', 'MUG', 2, 0, 2), item('12', 'PEN', 1, 0, 1)))) \g /dev/null
select results_eq($$select state, reason from amzmp.cancellation where amazon_order_id like '501-%'$$,
    $$values ('refused', '18029: The order is shipped., after 6 plans')$$, 'but not more than six');
select arrives(:account_id, an_order('503-0000003-0000003', 'CANCELLED', 3, jsonb_build_array(item('31', 'HAT', 1, 0, 0,
    '{"cancellation": {"cancellationExecution": {"cancelledBy": "MERCHANT", "cancelReason": "BuyerCanceled"}}}')))) \g /dev/null
select results_eq($$select state, cancelled_by, buyer_reason from amzmp.cancellation where amazon_order_id like '503-%'$$,
    $$values ('cancelled', 'MERCHANT', 'BuyerCanceled')$$, 'cancelled is what Amazon shows cancelled');

-- The reason is the setting's, where cancel_order names none.
select amzmp.set('orders', 'cancellation_code', 'PricingError') \g /dev/null
select arrives(:account_id, an_order('507-0000007-0000007', 'UNSHIPPED', 0, jsonb_build_array(item('71', 'PEN', 1, 0, 1)))) \g /dev/null
select amzmp.cancel_order('orders', '507-0000007-0000007') \g /dev/null
select is(c.code, 'PricingError', 'the reason told to Amazon is a setting') from amzmp.cancellation c where c.amazon_order_id = '507-0000007-0000007';
select throws_ok($$select amzmp.set('orders', 'cancellation_code', 'Whim')$$, 'AZ202', null, 'of those that Amazon knows');

/* ---- acknowledgements ---- */

select throws_ok($$select amzmp.acknowledge_order('orders', '599-0000000-0000000')$$, 'AZ201', null, 'an order that is not there is not acknowledged');
select arrives(:account_id, an_order('508-0000008-0000008', 'PENDING', 0, jsonb_build_array(item('81', 'PEN', 1)))) \g /dev/null
select throws_ok($$select amzmp.acknowledge_order('orders', '508-0000008-0000008')$$, 'AZ203', null, 'nor a pending one');
select amzmp.acknowledge_order('orders', '502-0000002-0000002') \g /dev/null
update amzmp.feed set created_at = created_at - interval '1 day';
select (built('POST_ORDER_ACKNOWLEDGEMENT_DATA')).feed_id as feed \gset
select is((select regexp_replace(text_of(f), '.*</MessageType>\s*', '') from amzmp.feed f where f.feed_id = :feed),
    '<Message><MessageID>1</MessageID><OrderAcknowledgement><AmazonOrderID>507-0000007-0000007</AmazonOrderID><StatusCode>Failure</StatusCode>'
    || '<Item><AmazonOrderItemCode>71</AmazonOrderItemCode><CancelReason>PricingError</CancelReason></Item></OrderAcknowledgement></Message>' || E'\n'
    || '<Message><MessageID>2</MessageID><OrderAcknowledgement><AmazonOrderID>502-0000002-0000002</AmazonOrderID><MerchantOrderID>502-0000002-0000002</MerchantOrderID>'
    || '<StatusCode>Success</StatusCode><Item><AmazonOrderItemCode>21</AmazonOrderItemCode></Item></OrderAcknowledgement></Message>' || E'\n</AmazonEnvelope>\n',
    'the shop''s number goes with a cancellation, after it');
select judged(f, '{"2": ["18028", "No."]}') from amzmp.feed f where f.feed_id = :feed \g /dev/null
select results_eq($$select kind, subject, reason from amzmp.refusal where kind = 'acknowledgement'$$, $$values ('acknowledgement', '502-0000002-0000002', 'No.')$$, 'what Amazon does not take is among the refusals');
delete from amzmp.acknowledgement;
delete from amzmp.request where operation = 'getOrder';

/* ---- refunds ---- */

select throws_ok($$select amzmp.refund_order('orders', '502-0000002-0000002', 'no key!', '[]')$$, 'AZ202', null, 'a refund has a key');
select throws_ok($$select amzmp.refund_order('orders', '502-0000002-0000002', 'K', '[{"orderItemId": "99", "Principal": 1}]')$$, 'AZ202', null, 'its lines are the order''s');
select throws_ok($$select amzmp.refund_order('orders', '502-0000002-0000002', 'K', '[{"orderItemId": "21", "Price": 1}]')$$, 'AZ202', null, 'its parts Amazon''s');
select throws_ok($$select amzmp.refund_order('orders', '502-0000002-0000002', 'K', '[{"orderItemId": "21", "Principal": 1.234}]')$$, 'AZ202', null, 'its amounts of the currency');
select throws_ok($$select amzmp.refund_order('orders', '502-0000002-0000002', 'K', '[{"orderItemId": "21", "Principal": 0}]')$$, 'AZ203', null, 'above zero');
select throws_ok($$select amzmp.refund_order('orders', '502-0000002-0000002', 'K', '[{"orderItemId": "21", "Principal": 29.76}]')$$, 'AZ203', null, 'and not above what was paid');
select is(amzmp.refund_order('orders', '502-0000002-0000002', 'K-1', '[{"orderItemId": "21", "Principal": 12.50, "RestockingFee": -2.50}]'), 'queued', 'a part');
select is(amzmp.refund_order('orders', '502-0000002-0000002', 'K-1', '[{"orderItemId": "21", "Principal": 12.50, "RestockingFee": -2.50}]'), 'queued', 'once');
select (built('POST_PAYMENT_ADJUSTMENT_DATA')).feed_id as feed \gset
select is((select regexp_replace(text_of(f), '.*</MessageType>\s*', '') from amzmp.feed f where f.feed_id = :feed),
    '<Message><MessageID>1</MessageID><OrderAdjustment><AmazonOrderID>502-0000002-0000002</AmazonOrderID><AdjustedItem><AmazonOrderItemCode>21</AmazonOrderItemCode>'
    || '<MerchantAdjustmentItemID>K-1-1</MerchantAdjustmentItemID><AdjustmentReason>CustomerReturn</AdjustmentReason><ItemPriceAdjustments>'
    || '<Component><Type>Principal</Type><Amount currency="EUR">12.50</Amount></Component>'
    || '<Component><Type>RestockingFee</Type><Amount currency="EUR">-2.50</Amount></Component>'
    || '</ItemPriceAdjustments></AdjustedItem></OrderAdjustment></Message>' || E'\n</AmazonEnvelope>\n', 'as Amazon wants it');
select amzmp._end_feed(f, 'stuck', 'not done') from amzmp.feed f where f.feed_id = :feed \g /dev/null
select is((select state from amzmp.refund), 'unknown', 'a feed that hangs leaves doubt');
select is((select count(*) from amzmp.feed where state = 'planned' and type = 'POST_PAYMENT_ADJUSTMENT_DATA'), 0::bigint, 'and nothing is sent because of it');
select throws_ok($$select amzmp.resend_refund('orders', '502-0000002-0000002', 'K-1')$$, 'AZ203', null, 'nor by a person who has not looked');
select lives_ok($$select amzmp.resend_refund('orders', '502-0000002-0000002', 'K-1', not_applied => true)$$, 'one who has may');
-- the feed before has to be over for a while, as Amazon recommends
update amzmp.feed set created_at = created_at - interval '1 day';
select (built('POST_PAYMENT_ADJUSTMENT_DATA')).feed_id as feed \gset
select judged(f) from amzmp.feed f where f.feed_id = :feed \g /dev/null
select results_eq($$select state, tries::integer from amzmp.refund$$, $$values ('accepted', 2)$$, 'Amazon takes it');

select amzmp._settle_bookings(:account_id, amzmp._store_transactions(:account_id, '[{"transactionId": "t1", "transactionType": "Refund",
    "transactionStatus": "Released", "postedDate": "2026-03-02T10:00:00Z", "totalAmount": {"currencyCode": "EUR", "currencyAmount": -8.5},
    "relatedIdentifiers": [{"relatedIdentifierName": "ORDER_ID", "relatedIdentifierValue": "502-0000002-0000002"}],
    "breakdowns": [{"breakdownType": "Refunds", "breakdownAmount": {"currencyCode": "EUR", "currencyAmount": -10.0}},
                   {"breakdownType": "Expenses", "breakdownAmount": {"currencyCode": "EUR", "currencyAmount": 1.5}, "breakdowns":
                       [{"breakdownType": "Commission", "breakdownAmount": {"currencyCode": "EUR", "currencyAmount": 1.5}}]}]}]')) \g /dev/null
select is((select state from amzmp.refund), 'booked', 'and books it');
select results_eq($$select refunded, booked, verdict from amzmp.refund_booking$$, $$values (10.00, 10.0, 'agrees')$$, 'to the cent, whatever the fees');

-- Unit by unit, to the cent: three of 25.00, with 4.00 and 0.75 of tax.
select arrives(:account_id, an_order('506-0000006-0000006', 'SHIPPED', 0, jsonb_build_array(item('61', 'MUG', 3, 3, 0)),
    '{"proceeds": {"grandTotal": {"amount": "29.75", "currencyCode": "EUR"}, "breakdowns": []}}')) \g /dev/null
select throws_ok($$select amzmp.refund_order('orders', '506-0000006-0000006', 'U', '[{"orderItemId": "61", "quantity": 4}]')$$, 'AZ202', null, 'no more units than were ordered');
select throws_ok($$select amzmp.refund_order('orders', '506-0000006-0000006', 'U', '[{"orderItemId": "61", "quantity": "x"}]')$$, 'AZ202', null, 'and whole ones');
select is(amzmp.refund_order('orders', '506-0000006-0000006', 'U-' || n, jsonb_build_array(jsonb_build_object('orderItemId', '61', 'quantity', 1)
    || case n when 2 then '{"RestockingFee": -1.00}' else '{}' end::jsonb)), 'queued', 'unit ' || n) from generate_series(1, 3) as n;
select results_eq($$select refund_key, string_agg(type || ' ' || amount, ', ' order by type) from amzmp.refund_part where amazon_order_id = '506-0000006-0000006' group by 1 order by 1$$,
    $$values ('U-1', 'Principal 8.33, ShippingTax 0.25, Tax 1.33'), ('U-2', 'Principal 8.34, RestockingFee -1.00, ShippingTax 0.25, Tax 1.34'),
             ('U-3', 'Principal 8.33, ShippingTax 0.25, Tax 1.33')$$, 'each has its share, and all together what was paid');
select is(amzmp.refund_order('orders', '506-0000006-0000006', 'U-2', '[{"orderItemId": "61", "quantity": 1, "RestockingFee": -1.00}]'), 'queued', 'the same key is the same refund');
select throws_ok($$select amzmp.refund_order('orders', '506-0000006-0000006', 'U-2', '[{"orderItemId": "61", "quantity": 2}]')$$, 'AZ203', null, 'and no other one');
-- they are not sent in what follows
delete from amzmp.refund where amazon_order_id = '506-0000006-0000006';

/* ---- shipments by feed ---- */

select arrives(:account_id, an_order('504-0000004-0000004', 'UNSHIPPED', 0, jsonb_build_array(item('41', 'MUG', 2, 0, 2), item('42', 'MUG', 1, 0, 1)))) \g /dev/null
select is(amzmp.confirm_shipment('orders', '504-0000004-0000004', 'Swift & Sons', shipped_at => '2026-03-02 12:00+00', items => '[{"sku": "MUG", "quantity": 3}]'), '1',
    'a package without a number, its contents by SKU');
select results_eq($$select s.state, (select count(*) from amzmp.request r where r.operation = 'getOrder' and r.subject = s.amazon_order_id)
    from amzmp.shipment s$$, $$values ('verifying', 1::bigint)$$, 'its order is read once more');
select not_read('504-0000004-0000004') \g /dev/null
select (built('POST_ORDER_FULFILLMENT_DATA')).feed_id as feed \gset
select is((select regexp_replace(text_of(f), '.*</MessageType>\s*', '') from amzmp.feed f where f.feed_id = :feed),
    '<Message><MessageID>1</MessageID><OrderFulfillment><AmazonOrderID>504-0000004-0000004</AmazonOrderID><FulfillmentDate>2026-03-02T12:00:00Z</FulfillmentDate>'
    || '<FulfillmentData><CarrierName>Swift &amp; Sons</CarrierName></FulfillmentData><Item><AmazonOrderItemCode>41</AmazonOrderItemCode><Quantity>2</Quantity></Item>'
    || '<Item><AmazonOrderItemCode>42</AmazonOrderItemCode><Quantity>1</Quantity></Item></OrderFulfillment></Message>' || E'\n</AmazonEnvelope>\n',
    'goes by feed, escaped and spread over the lines');
select judged(f, '{"1": ["18009", "The quantity of item 41 is not within what is open."]}') from amzmp.feed f where f.feed_id = :feed \g /dev/null
select results_eq($$select state, remedy like 'Amazon counts packages%' from amzmp.shipment_problem$$, $$values ('refused', true)$$, 'a refusal has its remedy');

-- What a refusal means is told by rows, and users may add some: then a carrier that Amazon calls by words of its own goes as Other, too.
select results_eq($$select code, error, remedy like 'Amazon counts%' from amzmp.refusal where kind = 'shipment'$$, $$values ('18009', 'QUANTITY_REFUSED', true)$$,
    'it is among the refusals');
select results_eq($$select m.error from (values (1, '5004', 'x'), (2, 'InvalidInput', 'The carrierCode ''NOWL'' is not valid.'), (3, 'InvalidInput', 'Carrier and trackingNumber do not match.'),
    (4, 'PackageToUpdateNotFound', 'x'), (5, 'InvalidInput', 'Nothing that we know.')) as r (n, code, words) left join amzmp.meaning_of(r.code, r.words) as m on true order by n$$,
    $$values ('CARRIER_UNKNOWN'), ('CARRIER_UNKNOWN'), ('CARRIER_MISMATCH'), ('PACKAGE_NOT_FOUND'), (null)$$, 'a code says what it means, or the words do');
select arrives(:account_id, an_order('505-0000005-0000005', 'UNSHIPPED', 0, jsonb_build_array(item('51', 'MUG', 1, 0, 1)))) \g /dev/null
select amzmp.map_carrier('orders', 'Night Owl', 'NOWL') \g /dev/null
select amzmp.confirm_shipment('orders', '505-0000005-0000005', 'Night Owl', shipped_at => '2026-03-02 12:00+00') \g /dev/null
select not_read('505-0000005-0000005') \g /dev/null
update amzmp.feed set created_at = created_at - interval '1 day';
select (built('POST_ORDER_FULFILLMENT_DATA')).feed_id as feed \gset
select judged(f, '{"1": ["18777", "Den Spediteur gibt es nicht."]}') from amzmp.feed f where f.feed_id = :feed \g /dev/null
select results_eq($$select state, error, remedy from amzmp.shipment_problem where amazon_order_id = '505-0000005-0000005'$$, $$values ('refused', null::text, null::text)$$,
    'what nobody has explained stays so');
select is(m.error, r.error, r.words)
  from (values ('The package has already been fulfilled.', 'ALREADY_SHIPPED'), ('You cannot cancel an order that has shipped', 'ALREADY_SHIPPED'),
               ('The order is shipped.', 'ALREADY_SHIPPED'), ('order 306-1 is shipped by Amazon', 'SHIPPED_BY_AMAZON'),
               ('Reference ID must be a positive number', 'PACKAGE_REFERENCE'), ('PackageReferenceId is invalid', 'PACKAGE_REFERENCE'),
               ('Transparency codes are required', 'TRANSPARENCY_CODES'), ('The shipping method is required for this carrier', 'SHIPPING_METHOD'),
               ('Invalid carrier code', 'CARRIER_UNKNOWN'), ('carrierName is required when carrierCode is Other', 'CARRIER_REFUSED'),
               ('The tracking ID is invalid', 'TRACKING_REFUSED'), ('shipDate cannot be in the future', 'SHIP_DATE'),
               ('quantity shipped is greater than ordered', 'QUANTITY_REFUSED'), ('Order item 123 not found in order', 'NO_SUCH_LINE'),
               ('The order was already canceled', 'ORDER_CANCELLED'), ('The seller is not authorized', 'NO_ACCESS'),
               ('You exceeded your quota for the requested resource.', 'TOO_FAST'), ('The marketplaceId is not valid', 'WRONG_MARKETPLACE'),
               ('Cancel reason is invalid', 'REASON_REFUSED'), ('The refund amount is greater than the order total', 'AMOUNT_REFUSED'),
               ('The order is too old to be refunded', 'TOO_LATE'), ('The currency does not match', 'CURRENCY_REFUSED'),
               ('metadata:totalamount is missing', 'INVOICE_OPTION'), ('Invoice number already exists', 'INVOICE_NUMBER'),
               ('The invoice total does not match the order total', 'INVOICE_TOTAL'), ('The PDF is not readable', 'INVOICE_DOCUMENT')) as r (words, error)
  left join amzmp.meaning_of('InvalidInput', r.words) as m on true;
select is_empty($$select code from amzmp.issue_meaning where class = 'order' and remedy is null$$, 'each has its remedy');
select throws_ok($$insert into amzmp.issue_meaning (code, pattern, error, class, meaning) values ('OURS', '(', 'X', 'order', 'x')$$, '2201B', null, 'a pattern is a regular expression');
insert into amzmp.issue_meaning (code, pattern, error, class, meaning, remedy) values ('OUR_CARRIER', 'spediteur', 'CARRIER_UNKNOWN', 'order', 'Amazon does not know the carrier.', 'Ask Anna.');
select is(remedy, 'Ask Anna.', 'until somebody does') from amzmp.shipment_problem where amazon_order_id = '505-0000005-0000005';
select amzmp.retry_shipments('orders', '505-0000005-0000005') \g /dev/null
update amzmp.shipment set state = 'queued', by_feed = true where amazon_order_id = '505-0000005-0000005';
select amzmp._plan_order_feed(:account_id, :channel_id, 'POST_ORDER_FULFILLMENT_DATA') \g /dev/null
update amzmp.feed set created_at = created_at - interval '1 day';
select (built('POST_ORDER_FULFILLMENT_DATA')).feed_id as feed \gset
select judged(f, '{"1": ["18777", "Den Spediteur gibt es nicht."]}') from amzmp.feed f where f.feed_id = :feed \g /dev/null
select results_eq($$select state, carrier_code, carrier_name from amzmp.shipment where amazon_order_id = '505-0000005-0000005'$$, $$values ('queued', 'Other', 'Night Owl')$$,
    'and by such a row the carrier goes by its name');

-- Where many wait to be read, the last poll serves; when that was too long ago, the next one, which is asked for.
select arrives(:account_id, an_order(format('51%s-0000001-0000001', n), 'UNSHIPPED', 0, jsonb_build_array(item('51' || n, 'PEN', 1, 0, 1)))) from generate_series(0, 1) as n \g /dev/null
delete from amzmp.task where kind = 'flow';
insert into amzmp.account_flow (account_id, channel_id, flow, enabled) values (:account_id, 0, 'get_orders', true)
on conflict (account_id, channel_id, flow) do update set enabled = true;
select amzmp.fetch_order('orders', format('599-%s-0000000', lpad(n::text, 7, '0'))) from generate_series(1, 20) as n \g /dev/null
select amzmp.confirm_shipment('orders', '510-0000001-0000001', 'DHL', 'T510', '2026-03-02 12:00+00') \g /dev/null
update amzmp.order_cursor set watermark = now() - interval '1 hour';
select amzmp.confirm_shipment('orders', '511-0000001-0000001', 'DHL', 'T511', '2026-03-02 12:00+00') \g /dev/null
select results_eq($$select tracking, state from amzmp.shipment where tracking ~ '^T51' order by 1$$, $$values ('T510', 'queued'), ('T511', 'verifying')$$,
    'in a backlog what the last poll said serves, unless it is too old');
select results_eq($$select subject from amzmp.task where kind = 'flow'$$, array['get_orders/0'], 'then a poll is asked for');
select is((select count(*) from amzmp.request r where r.operation = 'getOrder' and r.subject ~ '^51'), 0::bigint, 'and no order is read alone');
update amzmp.order_cursor set watermark = now();
select amzmp._orders_were_read(:account_id) \g /dev/null
select is(s.state, 'queued', 'which lets it go on') from amzmp.shipment s where s.tracking = 'T511';

/* ---- invoices ---- */

select throws_ok($$select amzmp.upload_invoice('orders', '502-0000002-0000002', 'R1', 'x')$$, 'AZ202', null, 'an invoice is a PDF');
select throws_ok($$select amzmp.upload_invoice('orders', '502-0000002-0000002', 'R1', convert_to('%PDF-' || repeat('x', 200), 'UTF8'), 29.70, 4.75)$$, 'AZ202', null,
    'with the order''s total');
select throws_ok($$select amzmp.upload_invoice('orders', '502-0000002-0000002', 'R1/2', convert_to('%PDF-' || repeat('x', 200), 'UTF8'), 29.75, 4.75)$$, 'AZ202', null,
    'and a number without a slash');
select lives_ok($$select amzmp.upload_invoice('orders', '502-0000002-0000002', 'R1', convert_to('%PDF-' || repeat('x', 200), 'UTF8'), 29.75, 4.75)$$, 'then it is taken');
select is((select count(*)
    from amzmp.document_chunk c join amzmp.invoice i using (account_id, document_id) where c.content is not null), 0::bigint, 'and sealed');
select (built('UPLOAD_VAT_INVOICE')).feed_id as feed \gset
select is((select f.options from amzmp.feed f where f.feed_id = :feed), '{"metadata:orderid": "502-0000002-0000002", "metadata:invoicenumber": "R1", "metadata:documenttype": "Invoice",
    "metadata:totalamount": "29.75", "metadata:totalvatamount": "4.75"}'::jsonb, 'with Amazon''s options');
select judged(f, '{"1": ["79525", "Amazon generates the invoices of this order."]}') from amzmp.feed f where f.feed_id = :feed \g /dev/null
select results_eq($$select state, permanent, document_id from amzmp.invoice$$, $$values ('refused', true, null::bigint)$$, 'a permanent refusal is known as such, the PDF removed');

select * from finish();
rollback;
