/*
 * issue_meaning.sql
 *	  What error codes mean in plain words, and what to do: Amazon's codes about listings, its codes about calls, and ours.
 *
 * Built-in rows come with this script; users add rows of their own, also for a code that is there, and theirs go first.
 * Refusals about orders (shipments, cancellations, refunds, invoices) often have a code that says nothing: rows with a pattern are found
 * by Amazon's words, by amzmp.meaning_of. Of other codes
 * amzmp.meaning says which row counts; amzmp.issue, amzmp.penalised, amzmp.listing_status and why show it. A code that is blocking is
 * tried again after blocking_retry_interval at the soonest (penalty.sql), because repeating alone mends nothing.
 */
create table amzmp.issue_meaning (
    code text not null,
    built_in boolean not null default false,
    error text not null,
    class text not null,
    meaning text not null,
    remedy text,
    blocking boolean not null default false,
    retry_after interval,
    pattern text,
    position smallint not null default 100,
    primary key (code, built_in),
    constraint issue_meaning_code_check check (code <> ''),
    constraint issue_meaning_error_check check (error ~ '^[A-Z][A-Z0-9_]*$'),
    constraint issue_meaning_class_check check (class in ('shop data', 'mapping', 'identity', 'approval', 'review', 'image',
        'order', 'call', 'connection', 'wait', 'warning')),
    constraint issue_meaning_retry_after_check check (retry_after > interval '0'),
    constraint issue_meaning_pattern_check check (class = 'order' and ('' ~* pattern) is not null or pattern is null)
);

comment on table amzmp.issue_meaning is 'Error codes in plain words. Add your own by INSERT, also for a code that is there: yours goes first. The built-in rows cannot be altered.';
comment on column amzmp.issue_meaning.code is 'The code, Amazon''s or ours, as in amzmp.penalty and amzmp.listing_issue.';
comment on column amzmp.issue_meaning.built_in is 'Does the row belong to amzmp?';
comment on column amzmp.issue_meaning.error is 'Name of the error; several codes may mean the same.';
comment on column amzmp.issue_meaning.class is 'What kind of matter it is: shop data, mapping, identity (which catalogue item), approval, review, image, order, call, connection, wait, warning.';
comment on column amzmp.issue_meaning.meaning is 'What it means.';
comment on column amzmp.issue_meaning.remedy is 'What to do about it; null where there is nothing to do.';
comment on column amzmp.issue_meaning.blocking is 'Does it stay until somebody changes something? Then it is tried again after blocking_retry_interval at the soonest.';
comment on column amzmp.issue_meaning.retry_after is 'How long to wait before the next try after this very error; null: what the policy says.';
comment on column amzmp.issue_meaning.pattern is 'Of refusals about orders (class order): a regular expression over Amazon''s code and words, whatever the case, by which the row is found; the code is then a name of your own. Null: it is found by its code.';
comment on column amzmp.issue_meaning.position is 'Of several patterns that fit, the lowest counts.';

-- What a row says holds for all accounts, so who is limited to some writes none.
alter table amzmp.issue_meaning enable row level security;
create policy issue_meaning_read on amzmp.issue_meaning for select using (true);
create policy issue_meaning_add on amzmp.issue_meaning for insert with check (not built_in and amzmp._may_see(0, current_user));
create policy issue_meaning_change on amzmp.issue_meaning for update using (not built_in and amzmp._may_see(0, current_user))
    with check (not built_in);
create policy issue_meaning_remove on amzmp.issue_meaning for delete using (not built_in and amzmp._may_see(0, current_user));
grant insert, update, delete on amzmp.issue_meaning to amzmp_admin;

-- What Amazon says about listings and feed messages.
insert into amzmp.issue_meaning (built_in, blocking, code, error, class, meaning, remedy)
values
    (true, false, '90220', 'ATTR_REQUIRED', 'mapping', 'An attribute that the product type requires is missing.',
        'Give the product the attribute that the message names, or map it.'),
    (true, false, '99001', 'ATTR_REQUIRED', 'mapping', 'A required value is missing.',
        'Give the product the value that the message names, or map it.'),
    (true, false, '90244', 'VALUE_NOT_ALLOWED', 'mapping', 'The value is not among those that Amazon allows for the attribute.',
        'Map the shop''s value to one of Amazon''s. If it is one of Amazon''s, its check and its schema disagree: ask its support with the request''s number.'),
    (true, false, '90000900', 'VALUE_INVALID', 'mapping', 'An attribute or its value is invalid.', 'Correct or map the attribute that the message names.'),
    (true, false, '4000001', 'VALUE_INVALID', 'mapping', 'An attribute or its value is invalid.', 'Correct or map the attribute that the message names.'),
    (true, false, '8105', 'VALUE_INVALID', 'mapping', 'A value has the wrong form or unit.', 'Correct or map the attribute that the message names.'),
    (true, false, '99022', 'VALUE_EMPTY', 'mapping', 'An attribute was sent without a value, or with too few.',
        'Give the shop''s column a value where there is none, or take the attribute out of the mapping.'),
    (true, false, '4002008', 'MESSAGE_INVALID', 'mapping', 'A message of a feed does not have the form that Amazon''s schema asks for.',
        'Look at the message (amzmp.feed_message) and at the attribute that Amazon names.'),
    (true, true, '99036', 'PRODUCT_TYPE_UNKNOWN', 'mapping', 'The product type or template that was named does not exist there.',
        'Choose a product type of this marketplace.'),
    (true, true, '4005015', 'ASIN_MISMATCH', 'identity', 'The ASIN that was named is another product than the data describe.',
        'Choose the right item: select amzmp.publish(channel, sku, asin).'),
    (true, false, '8560', 'NO_CATALOG_ITEM', 'identity', 'No catalogue item fits, and the data do not suffice to make one.',
        'Correct the barcode, name the ASIN, or give the attributes that a new item needs.'),
    (true, true, '8541', 'CATALOG_CONFLICT', 'review', 'A catalogue item with this barcode exists, but brand, title or attributes contradict the shop''s.',
        'Compare the two. Correct the shop''s data, name another ASIN, or ask Amazon to correct its catalogue.'),
    (true, true, '8805', 'FAMILY_INCONSISTENT', 'review', 'Variations of a family contradict each other or their parent.',
        'Give all variations the same theme, and each a value of its own in it.'),
    (true, true, '8572', 'BARCODE_NOT_OF_BRAND', 'identity', 'The barcode does not belong to the brand in the register of barcodes, or the brand needs an exemption.',
        'Use the maker''s barcode, or apply for an exemption in Seller Central.'),
    (true, true, '5665', 'BRAND_NOT_APPROVED', 'approval', 'The brand is not approved for new listings.', 'Apply for the brand in Seller Central, or use the brand that Amazon knows.'),
    (true, true, '5461', 'CREATION_NOT_ALLOWED', 'approval', 'The account may not create items of this brand or category.',
        'Apply in Seller Central, or offer on an item that exists: select amzmp.publish(channel, sku, asin).'),
    (true, true, '5886', 'SALE_NOT_ALLOWED', 'approval', 'The account may not sell this brand or category.', 'Apply for approval in Seller Central, or unpublish the SKU.'),
    (true, true, '90202', 'SALE_RESTRICTED', 'approval', 'Selling this item is restricted.', 'Look at the item in Seller Central; it says whether approval can be asked for.'),
    (true, false, '13013', 'SKU_NOT_KNOWN_YET', 'wait', 'Amazon does not know the SKU, or not yet.',
        'Nothing at first: it is tried again. If it stays, select amzmp.verify(channel, array[sku]).'),
    (true, false, '20005', 'IMAGE_REFUSED', 'image', 'An image could not be fetched or was refused.',
        'Look whether its address answers without a login, as JPEG or PNG, at least 1,000 pixels long.'),
    (true, false, '18027', 'DATA_IGNORED', 'warning', 'A warning: part of the data was ignored.', 'Nothing, if that part does not matter to you.'),
    (true, false, '18448', 'DATA_IGNORED', 'warning', 'A warning: part of the data was ignored.', 'Nothing, if that part does not matter to you.');

-- What Amazon says about calls, and what becomes of one without an answer.
insert into amzmp.issue_meaning (built_in, blocking, code, error, class, meaning, remedy)
values
    (true, false, 'InvalidInput', 'CALL_REFUSED', 'call', 'Amazon refused the call because of something in it.',
        'The message says what. If it names a value of the product, correct it; else report it as a fault of amzmp.'),
    (true, false, 'INVALID', 'NOT_ACCEPTED', 'call', 'Amazon took the submission and refused what it says.', 'Look into amzmp.issue for this SKU.'),
    (true, false, 'NotFound', 'NOT_FOUND', 'call', 'Amazon has no such thing, or no longer.', 'select amzmp.verify(channel, array[sku]); says what Amazon has.'),
    (true, false, 'Unauthorized', 'NO_ACCESS', 'connection', 'The account or one of the application''s roles does not allow this call.',
        'select * from amzmp.test_connection(account); says what is missing.'),
    (true, false, 'AccessDenied', 'NO_ACCESS', 'connection', 'The account or one of the application''s roles does not allow this call.',
        'select * from amzmp.test_connection(account); says what is missing.'),
    (true, false, 'QuotaExceeded', 'TOO_FAST', 'wait', 'More calls arrived than the usage plan allows: another program uses the same account and application.',
        'Nothing: it is tried again. amzmp.usage shows how often it happens.'),
    (true, false, 'InternalFailure', 'AMAZON_FAILED', 'wait', 'Something failed at Amazon.', 'Nothing: it is tried again.'),
    (true, false, 'ServiceUnavailable', 'AMAZON_FAILED', 'wait', 'Amazon could not be reached or was overloaded.', 'Nothing: it is tried again.'),
    (true, false, 'AnswerLost', 'ANSWER_LOST', 'wait', 'The answer was lost on its way, so nobody knows whether the call had its effect.',
        'Nothing: it is repeated or looked up where that is safe, else amzmp.request shows it as held.');

-- What amzmp itself finds.
insert into amzmp.issue_meaning (built_in, blocking, code, error, class, meaning, remedy)
values
    (true, false, 'NO_PRODUCT', 'NO_PRODUCT', 'shop data', 'The shop has no such product.', 'Bring it back into the attached relation, or unpublish the SKU.'),
    (true, false, 'NO_STOCK', 'NO_STOCK', 'shop data', 'Stock data not found: the shop gives no quantity for the product.',
        'Give it a quantity in the shop; 0 is one too. The next try follows by itself.'),
    (true, false, 'NO_PRICE', 'NO_PRICE', 'shop data', 'Price data not found: the shop gives no price that can be sent.',
        'Give it a price above 0 in the shop. The next try follows by itself.'),
    (true, false, 'ATTR_REQUIRED', 'ATTR_REQUIRED', 'mapping', 'An attribute is required and has no value.', 'Map it, or give the product the value.'),
    (true, false, 'VALUE_NOT_ALLOWED', 'VALUE_NOT_ALLOWED', 'mapping', 'The value is not among those that the product type''s definition allows.',
        'Map the shop''s value to one of them: select * from amzmp.product_type_rules(channel, product_type);'),
    (true, false, 'VALUE_INVALID', 'VALUE_INVALID', 'mapping', 'A value has the wrong type, length, size or number, by the product type''s definition.',
        'Correct or map the attribute that the message names.'),
    (true, false, 'NO_SUCH_ATTRIBUTE', 'NO_SUCH_ATTRIBUTE', 'mapping', 'The product type does not have the attribute.',
        'Take it out of the mapping, or choose another product type: select * from amzmp.search_product_types(channel, sku => …);'),
    (true, true, 'NO_PRODUCT_TYPE', 'PRODUCT_TYPE_UNKNOWN', 'mapping', 'Amazon has no such product type in this marketplace.',
        'Choose one of this marketplace: select * from amzmp.search_product_types(channel, sku => …);'),
    (true, false, 'NO_BARCODE', 'NO_BARCODE', 'shop data', 'Neither an ASIN nor a barcode says which product it is.',
        'Give the product one in the shop, or select amzmp.publish(channel, sku, asin).'),
    (true, false, 'BAD_BARCODE', 'BAD_BARCODE', 'shop data', 'The barcode has a wrong check digit or length.', 'Correct it in the shop.'),
    (true, false, 'NO_CATEGORY', 'NO_CATEGORY', 'shop data', 'The product has no category.', 'Give it one in the shop.'),
    (true, false, 'NO_IMAGE', 'NO_IMAGE', 'shop data', 'The product has no image.', 'Give it one in the shop.'),
    (true, false, 'NO_MATCH', 'NO_CATALOG_ITEM', 'identity', 'Amazon''s catalogue has no item with this barcode.', 'Correct the barcode, give the product attributes so that it can be created, or name the ASIN: select amzmp.find_candidates(channel, array[sku]); searches by title.'),
    (true, false, 'SEVERAL_MATCHES', 'SEVERAL_MATCHES', 'identity', 'Several catalogue items have this barcode.',
        'Choose one of amzmp.match_candidate: select amzmp.publish(channel, sku, asin).'),
    (true, false, 'WRONG_FULFILLMENT', 'WRONG_FULFILLMENT', 'review', 'Amazon ships what the merchant shall ship, or the other way round.',
        'Look into Seller Central whether the SKU may be fulfilled by Amazon there; the switch is tried again.'),
    (true, false, 'NO_SEARCH', 'NO_SEARCH', 'wait', 'The search in Amazon''s catalogue failed.', 'Nothing: it is made again.'),
    (true, false, 'NO_VERDICT', 'NO_ANSWER_IN_TIME', 'wait', 'Amazon accepted the submission and gave no verdict within sent_to_remote.',
        'select amzmp.verify(channel, array[sku]); asks once more.'),
    (true, false, 'REJECTED', 'REJECTED', 'review', 'Amazon refused the offer.', 'Look into amzmp.issue for this SKU; mend it in the shop.'),
    (true, false, 'ORDER_NOT_DELIVERED', 'ORDER_NOT_DELIVERED', 'order', 'An order that the shop has not taken over yet cannot be cancelled there: it waits for the hand-over.',
        'Nothing, if it is on its way; else look at why it was not delivered (amzmp.orders).'),
    (true, false, 'ORDER_NOT_IMPORTED', 'ORDER_NOT_IMPORTED', 'order', 'Amazon sent an order that could not be imported; it is kept as it came, sealed.',
        'Look at the message. It is tried again by itself, and at once when Amazon sends a newer state; select amzmp.redeliver(channel); tries now. If it stays so, report the message.'),
    (true, false, 'P0001', 'SHOP_REFUSED', 'order', 'The shop''s own function refused the order and said why.',
        'Mend what its message names. It is tried again by itself; select amzmp.redeliver(channel); tries at once.'),
    (true, false, '55P03', 'SHOP_BUSY', 'wait', 'The shop''s rows were locked by somebody else for too long.', 'Nothing: it is tried again.'),
    (true, false, '40P01', 'SHOP_BUSY', 'wait', 'The shop''s rows were locked by somebody else in another order.', 'Nothing: it is tried again.'),
    (true, false, 'ADDRESS_UNMAPPED', 'ADDRESS_UNMAPPED', 'order', 'A part of the address has no counterpart in the shop. The order is kept, its hand-over waits.',
        'Map the code that the message names, then redeliver the order.');

-- Refusals about orders: by code where it says enough, else by Amazon's words; and what amzmp itself finds in the way.
insert into amzmp.issue_meaning (built_in, position, code, pattern, error, class, meaning, remedy)
values
    (true, 10, 'PackageToUpdateNotFound', null, 'PACKAGE_NOT_FOUND', 'order', 'Amazon has the whole order shipped, by other packages than this one.',
        'Nothing is left to confirm. Correct one of Amazon''s packages by its package_reference (amzmp.order_package), or leave it.'),
    (true, 10, '5004', null, 'CARRIER_UNKNOWN', 'order', 'Amazon does not know the carrier.',
        'amzmp.map_carrier(account, carrier, code), or with code Other and the carrier''s name; then amzmp.retry_shipments(account).'),
    (true, 10, '79513', null, 'INVOICE_OPTION', 'order', 'An option of the invoice is missing or misspelt.',
        'Upload it again with all amounts; a credit note needs the refund''s transaction.'),
    (true, 10, '79525', null, 'INVOICE_BY_AMAZON', 'order', 'Amazon makes the invoices of this order itself.', 'Nothing: do not upload one.'),
    (true, 10, 'REFUSED_PACKAGE', 'without this package', 'PACKAGE_NOT_FOUND', 'order', 'Amazon has the order shipped, by other packages than this one.',
        'Correct one of Amazon''s packages by its package_reference (amzmp.order_package), or leave it.'),
    (true, 15, 'REFUSED_QUOTA', 'quota|throttl|too many requests', 'TOO_FAST', 'order', 'More was sent than the usage plan allows: another program uses the same account and application.',
        'Try again: amzmp.retry_shipments(account). amzmp.usage shows how often it happens.'),
    (true, 18, 'REFUSED_ALREADY', 'already (been )?(fulfilled|shipped)|(is|was|has|have) (been )?(fully )?shipped(?! by)', 'ALREADY_SHIPPED', 'order',
        'Amazon has the order, or these units, shipped already.',
        'amzmp.order_package tells in which packages; correct one by its package_reference. What is shipped is not cancelled: amzmp.refund_order gives the money back.'),
    (true, 20, 'REFUSED_REFERENCE', 'package ?reference|reference ?(id|number)? must be', 'PACKAGE_REFERENCE', 'order', 'The number of the package is not one that Amazon takes.',
        'Leave package_reference out, so that the next free one is taken.'),
    (true, 22, 'REFUSED_TRANSPARENCY', 'transparency', 'TRANSPARENCY_CODES', 'order', 'A product of Amazon''s Transparency program needs a code for each unit.',
        'Give them in items: {"sku": …, "quantity": …, "transparencyCodes": […]}.'),
    (true, 25, 'REFUSED_MISMATCH', '(carrier|tracking).*(mismatch|(does|do) not (match|belong|fit))', 'CARRIER_MISMATCH', 'order',
        'Carrier and tracking number do not belong together.', 'Correct the one that is wrong in the shop''s row, or confirm the package again with its package_reference.'),
    (true, 30, 'REFUSED_CARRIER', 'carrier ?(code|name)?.*(invalid|not valid|unknown|not (supported|recogni[sz]ed|allowed))|(invalid|unknown|unsupported|unrecogni[sz]ed) carrier',
        'CARRIER_UNKNOWN', 'order', 'Amazon does not know the carrier.',
        'amzmp.map_carrier(account, carrier, code), or with code Other and the carrier''s name; then amzmp.retry_shipments(account).'),
    (true, 33, 'REFUSED_METHOD', 'shipping ?(method|service)', 'SHIPPING_METHOD', 'order', 'The carrier''s shipping method is missing or not known.',
        'Name it with amzmp.map_carrier(account, carrier, code, shipping_method => …), or in the shop''s row; then amzmp.retry_shipments(account).'),
    (true, 35, 'REFUSED_CARRIER_NAME', 'carrier', 'CARRIER_REFUSED', 'order', 'Something about the carrier is not as it must be.',
        'amzmp.map_carrier(account, carrier, code) says what it is called at Amazon; then amzmp.retry_shipments(account).'),
    (true, 40, 'REFUSED_TRACKING', 'tracking', 'TRACKING_REFUSED', 'order', 'The tracking number is missing or not of the carrier''s form.',
        'Correct it in the shop''s row, or confirm the package again with its package_reference.'),
    (true, 50, 'REFUSED_TIME', 'ship ?date|FulfillmentDate|time of shipment', 'SHIP_DATE', 'order', 'The time of shipment is in the future, or before the order.',
        'Correct the time, and see that the server''s clock and time zone are right.'),
    (true, 60, 'REFUSED_QUANTITY', 'quantity|units of line|left to ship', 'QUANTITY_REFUSED', 'order', 'More units than are open.',
        'Amazon counts packages that it has already: amzmp.order_package and amzmp.shipment tell which.'),
    (true, 70, 'REFUSED_LINE', 'no item|no line|no such item|(unknown|invalid) (order ?)?item|item[^.]*not found', 'NO_SUCH_LINE', 'order', 'The order has no such line.', 'Name one of amzmp.order_item.'),
    (true, 80, 'REFUSED_FBA', 'fulfilled by Amazon|shipped by Amazon', 'SHIPPED_BY_AMAZON', 'order', 'Amazon ships this order itself.',
        'Do not confirm it; leave such orders out of the attached table by its filter.'),
    (true, 90, 'REFUSED_CANCELLATION', 'being cancelled|asks to cancel', 'CANCELLATION_ASKED', 'order', 'Somebody wants the order cancelled.',
        'amzmp.accept_cancellation or amzmp.decline_cancellation (account, amazon_order_id).'),
    (true, 100, 'REFUSED_CANCELLED', 'is CANCELLED|already (been )?cancell?ed|UNFULFILLABLE', 'ORDER_CANCELLED', 'order', 'The order was cancelled.',
        'Do not ship it; if it is under way already, call it back.'),
    (true, 110, 'REFUSED_PENDING', 'PENDING|not paid', 'ORDER_NOT_PAID', 'order', 'The order is not paid yet.', 'Wait: it goes on by itself when Amazon releases the order.'),
    (true, 120, 'REFUSED_ORDER', 'no order|not found|404', 'NO_SUCH_ORDER', 'order', 'Amazon, or this account, has no such order.',
        'Look at the number and at the account; amzmp.fetch_order(account, amazon_order_id) fetches one.'),
    (true, 130, 'REFUSED_MARKETPLACE', 'marketplaceId', 'WRONG_MARKETPLACE', 'order', 'The order belongs to another marketplace.',
        'amzmp.fetch_order reads it anew, then amzmp.retry_shipments(account).'),
    (true, 140, 'REFUSED_ACCESS', '403|Unauthorized|denied|not authori[sz]ed', 'NO_ACCESS', 'order', 'The application lacks a role, or the seller withdrew its consent.',
        'Give the application the role for orders in the developer''s portal, renew the consent, then amzmp.retry_shipments(account).'),
    (true, 150, 'REFUSED_INVOICE', 'generates the invoices', 'INVOICE_BY_AMAZON', 'order', 'Amazon makes the invoices of this order itself.', 'Nothing: do not upload one.'),
    (true, 152, 'REFUSED_INVOICE_OPTION', 'metadata:', 'INVOICE_OPTION', 'order', 'An option of the invoice is missing or misspelt.',
        'Upload it again with all amounts; a credit note needs the refund''s transaction.'),
    (true, 154, 'REFUSED_INVOICE_NUMBER', 'invoice ?(number|id)', 'INVOICE_NUMBER', 'order', 'The number of the invoice is taken, or not one that Amazon takes.',
        'Upload it again under another number.'),
    (true, 156, 'REFUSED_INVOICE_TOTAL', '(invoice|document).*(total|amount)|(total|amount).*(not match|differ)', 'INVOICE_TOTAL', 'order',
        'The invoice''s total is not that of the order or shipment.', 'amzmp.invoice_due has the total that Amazon wants; upload the invoice again.'),
    (true, 158, 'REFUSED_DOCUMENT', 'pdf|document', 'INVOICE_DOCUMENT', 'order', 'Amazon cannot read the document.', 'Upload it again, as a PDF without a password.'),
    (true, 159, 'REFUSED_REASON', '(cancel|adjustment) ?reason|reason code', 'REASON_REFUSED', 'order', 'Amazon does not know the reason, or not for this order.',
        'Name another one: cancel_order and refund_order list them, and the setting cancellation_code.'),
    (true, 160, 'REFUSED_AMOUNT', 'exceed|greater than|more than', 'AMOUNT_REFUSED', 'order', 'More than what was paid would be given back.', 'amzmp.refund_booking tells what was given back already.'),
    (true, 170, 'REFUSED_LATE', 'too old|too late|older than|expired|time ?(limit|frame)', 'TOO_LATE', 'order', 'Amazon''s time for it is over.',
        'Amazon does not take it any more by this way: Seller Central, or its support, may.'),
    (true, 180, 'REFUSED_CURRENCY', 'currenc(y|ies)', 'CURRENCY_REFUSED', 'order', 'The amounts are not in the currency of the order.',
        'amzmp.orders.currency is what it was paid in. If the refund has that, report the refusal as a fault of amzmp.');

-- What a refusal about an order means. Its words decide where its code says nothing.
create function amzmp.meaning_of(code text, words text)
    returns setof amzmp.issue_meaning
    language sql
    stable
    rows 1
    parallel safe
begin atomic
    select m.*
    from amzmp.issue_meaning as m
    where m.class = 'order'
        and (m.pattern is null and m.code = meaning_of.code or concat_ws(' ', meaning_of.code, meaning_of.words) ~* m.pattern)
    order by m.built_in, m.pattern is not null, m.position, m.code
    limit 1;
end;

revoke all on function amzmp.meaning_of(text, text) from public;
grant execute on function amzmp.meaning_of(text, text) to amzmp_reader;
comment on function amzmp.meaning_of(text, text) is 'What a refusal about an order (a shipment, cancellation, refund or invoice) means, by its code and Amazon''s words: your row of amzmp.issue_meaning where one fits, else the built-in one. No row where nobody has explained it.';

-- What each code means: the user's row before ours. The one look-up; views join it.
create view amzmp.meaning
    with (security_invoker = true)
as
    select distinct on (m.code) m.code, m.error, m.class, m.meaning, m.remedy, m.blocking, m.retry_after
    from amzmp.issue_meaning as m
    order by m.code, m.built_in;

comment on view amzmp.meaning is 'What each error code means: your row of amzmp.issue_meaning where there is one, else the built-in one.';
comment on column amzmp.meaning.code is 'The code.';
comment on column amzmp.meaning.error is 'Name of the error.';
comment on column amzmp.meaning.class is 'What kind of matter it is.';
comment on column amzmp.meaning.meaning is 'What it means.';
comment on column amzmp.meaning.remedy is 'What to do about it; null where there is nothing to do.';
comment on column amzmp.meaning.blocking is 'Does it stay until somebody changes something?';
comment on column amzmp.meaning.retry_after is 'How long to wait before the next try; null: what the policy says.';
