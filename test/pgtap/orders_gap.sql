-- orders_gap.sql
-- What switching orders on would pull; addresses that a role is missing for; and old orders that only a report knows.

\ir orders_setup.psql

create function with_address() returns jsonb language sql as $$
    select '{"recipient": {"deliveryAddress": {"name": "Zoë Quartermain", "addressLine1": "Törnallee 7", "countryCode": "DE"}}}'::jsonb;
$$;

/* ---- preview ---- */

select arrives(:account_id, an_order('601-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('11', 'MUG', 1)))) \g /dev/null
select amzmp.preview_orders('orders', '2026-02-01') \g /dev/null
select is(r.params, '{"lastUpdatedAfter": "2026-02-01T00:00:00Z", "marketplaceIds": ["A1PA6795UKMFR9"], "includedData": ["FULFILLMENT"], "maxResultsPerPage": 100}'::jsonb,
    'only what is needed to count is asked for') from amzmp.request r where r.account_id = :account_id and r.operation = 'searchOrders';
select answer(:account_id, 'searchOrders', 200, jsonb_build_object('orders', jsonb_build_array(
    an_order('601-0000001-0000001', 'UNSHIPPED', 0, '[]'), an_order('601-0000002-0000002', 'UNSHIPPED', 0, '[]'),
    an_order('601-0000003-0000003', 'SHIPPED', 0, '[]')), 'pagination', '{"nextToken": "t1"}'::jsonb)) \g /dev/null
select is(p.state, 'running', 'a page more is to come') from amzmp.order_preview p;
select answer(:account_id, 'searchOrders', 200, jsonb_build_object('orders', jsonb_build_array(
    an_order('601-0000004-0000004', 'UNSHIPPED', 0, '[]', '{"fulfillment": {"fulfillmentStatus": "UNSHIPPED", "fulfilledBy": "AMAZON"}}')))) \g /dev/null
select results_eq($$select state, orders, unknown_orders, to_send, statuses, oldest from amzmp.order_preview$$,
    $$values ('done', 4, 3, 1, '{"UNSHIPPED": 3, "SHIPPED": 1}'::jsonb, '2026-03-01 10:00Z'::timestamptz)$$, 'counted, over all pages');
select is((select count(*) from amzmp.orders o where o.account_id = :account_id), 1::bigint, 'and nothing of it was imported');
select amzmp.preview_orders('orders') \g /dev/null
select answer(:account_id, 'searchOrders', 403, null, 'Unauthorized') \g /dev/null
select results_eq($$select state, reason, orders from amzmp.order_preview$$, $$values ('failed', 'Unauthorized', 0)$$, 'a refusal is said');

/* ---- addresses ---- */

select results_eq($$select missing, with_address, without_address from amzmp.address_gap$$, $$values ('role', 0::bigint, 1::bigint)$$,
    'no order has an address: the role is missing');
select arrives(:account_id, an_order('602-0000001-0000001', 'UNSHIPPED', 0, jsonb_build_array(item('21', 'MUG', 1)), with_address())) \g /dev/null
select results_eq($$select missing, amazon_order_ids from amzmp.address_gap$$, $$values ('data', '{601-0000001-0000001}'::text[])$$,
    'some have one: just those of the others are missing');
select arrives(:account_id, an_order('601-0000001-0000001', 'UNSHIPPED', 3, jsonb_build_array(item('11', 'MUG', 1)), with_address())) \g /dev/null
select is(g.missing, 'none', 'until they come') from amzmp.address_gap g;

/* ---- old orders ---- */

select amzmp.set('orders', 'order_start', '2026-02-15T00:00:00Z') \g /dev/null
select ok(amzmp.backfill_orders('orders', now() - interval '20 days') > 0, 'a report is asked for');
update amzmp.report set state = 'downloaded', document_id = amzmp._new_document(:account_id, 'text/plain'), submitted_at = '2026-04-01', ended_at = now()
 where account_id = :account_id;
select amzmp._write_content(:account_id, r.document_id, convert_to(
    e'amazon-order-id\tpurchase-date\torder-status\tsku\tquantity\tcurrency\titem-price\n'
    || e'602-0000001-0000001\t2026-03-01T10:00:00+00:00\tUnshipped\tMUG\t3\tEUR\t25.00\n'
    || e'601-0000001-0000001\t2026-03-01T10:00:00+00:00\tShipped\tMUG\t1\tEUR\t25.00\n'
    || e'603-0000001-0000001\t2026-01-02T03:04:05+00:00\tShipped\tHAT\t2\tEUR\t19.98\n', 'UTF8')) from amzmp.report r where r.account_id = :account_id \g /dev/null
select results_eq($$select amazon_order_id, difference, reported, imported from amzmp.order_difference order by 1, 2$$,
    $$values ('601-0000001-0000001', 'status', 'Shipped', 'UNSHIPPED'), ('602-0000001-0000001', 'quantity', '3', '1'),
             ('603-0000001-0000001', 'not imported', '2', null)$$, 'what differs is listed');
select is((select count(*) from amzmp.movement m where m.account_id = :account_id), 2::bigint, 'a report moves nothing');
select is(amzmp.confirm_orders('orders', '{603-0000001-0000001}'), 1, 'the order itself is asked for');
select answer(:account_id, 'getOrder', 200, jsonb_build_object('order', an_order('603-0000001-0000001', 'SHIPPED', 0,
    jsonb_build_array(item('31', 'HAT', 1, 1, 0)), '{"createdTime": "2026-01-02T03:04:05Z"}'))) \g /dev/null
select work(:account_id) \g /dev/null
select results_eq($$select quantity_ordered from amzmp.order_item where amazon_order_id = '603-0000001-0000001'$$, array[1],
    'and imported though it is older than order_start, with what the interface says');
select results_eq($$select difference, reported, imported from amzmp.order_difference where amazon_order_id = '603-0000001-0000001' order by 1$$,
    $$values ('item price', '19.98', '25.00'), ('quantity', '2', '1')$$, 'where the report was wrong stays to be seen');
select is(amzmp.confirm_orders('orders'), 3, 'or all of them');

select * from finish();
rollback;
