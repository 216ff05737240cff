#!/usr/bin/env bash
# Money and goods on their way back: refunds that are never sent twice whatever is lost, Amazon's books, returns, invoices.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/shop.sh"

simulator_start r --rate-scale 0 --time-scale 600 --verdict-delay 60
cluster_start r
control POST settings '{"order_lag": 0}' >/dev/null
sql 'create extension pg_cron' 'create role seller login' 'create schema shop authorization seller'
shop_connect
sql 'grant amzmp_admin, amzmp_buyer_data to seller' 'update amzmp.account set time_scale = 600' >/dev/null
# Polls all the time, as Amazon's minutes fly; ended by the end of the scene.
(while sleep 0.7; do psql -XqAt -c "select amzmp.run_flow('get_orders', account => 'shop')" >/dev/null 2>&1 || true; done) &
poller=$!
trap 'kill "$poller" 2>/dev/null; scene_end' EXIT

seller()
{
	PGUSER=seller sql "$@"
}

# place SPECIFICATION: the number of an order that the simulator has placed and shipped, when it is here
place()
{
	local id
	id=$(control POST orders "$1" | grep -o '"orderId": *"[^"]*"' | head -n 1 | cut -d'"' -f4)
	control POST "orders/$id/ship" '{}' >/dev/null
	sql_becomes 30 "select status from amzmp.orders where amazon_order_id = '$id'" SHIPPED >/dev/null || diag "order $id did not come"
	echo "$id"
}

# at_amazon ORDER KEY: a value in the simulator's order
at_amazon()
{
	control GET "orders/$1" | tr -d '\n' | grep -o "\"$2\": *\"*[^\",}]*" | tail -n 1 | sed 's/.*: *"*//'
}

refusal()
{
	PGUSER=seller psql -XqAt -v VERBOSITY=sqlstate -c "$1" 2>&1 | sed -n 's/^ERROR:  //p' | head -n 1
}

becomes()
{
	sql_becomes 40 "$1" "$2" || true
	is "$(sql "$1")" "$2" "$3"
}

line_of()
{
	sql "select order_item_id from amzmp.order_item where amazon_order_id = '$1' order by position limit 1"
}

seller "create table shop.product (sku text primary key, price numeric(12,2) not null, stock integer not null)" \
	"insert into shop.product select 'S-' || i, 10, 10000 from generate_series(1, 20) i" \
	"create table shop.sent_back (number serial, return_key text primary key, reason text)" \
	"create table shop.closed (yes boolean)" \
	"create function shop.take_back(account_id bigint, return_key text) returns text language plpgsql as \$\$
	declare made integer;
	begin
		if exists (select from shop.closed) then raise exception 'the shop is closed'; end if;
		insert into shop.sent_back (return_key, reason) select r.return_key, r.shop_reason from amzmp.returns r
		 where r.account_id = take_back.account_id and r.return_key = take_back.return_key returning number into made;
		return 'R-' || made;
	end \$\$" \
	"select amzmp.attach_source('shop', 'shop.product')" >/dev/null

# ---- refunds: two parts of one order, by keys

first=$(place '{"items": [{"sku": "S-1", "quantity": 2, "price": 23.8}], "shipping": 476}')
part="[{\"orderItemId\": \"$(line_of "$first")\", \"Principal\": 10.00, \"Tax\": 1.90}]"
is "$(seller "select amzmp.refund_order('shop', '$first', 'CM-1', '$part')")" queued 'a part is given back'
like "$(seller "select amzmp.refund_order('shop', '$first', 'CM-1', '$part')")" '(queued|sent|accepted|booked)' 'the same key is the same refund'
is "$(refusal "select amzmp.refund_order('shop', '$first', 'CM-1', '[{\"orderItemId\": \"$(line_of "$first")\", \"Principal\": 11.00}]')")" AZ203 \
	'with other amounts it is a mistake'
is "$(refusal "select amzmp.refund_order('shop', '$first', 'CM-9', '[{\"orderItemId\": \"$(line_of "$first")\", \"Principal\": 500}]')")" AZ203 \
	'nor more than was paid'
is "$(refusal "select amzmp.refund_order('shop', '$first', 'CM-9', '[{\"orderItemId\": \"$(line_of "$first")\", \"Principal\": 0}]')")" AZ203 'nor nothing'
becomes "select state from amzmp.refund where refund_key = 'CM-1'" accepted 'Amazon takes it'
is "$(at_amazon "$first" refunded)" 1190 'and gives back what it says, once'

# the answer to the feed is lost, the server is killed, and killed again while the report is applied
second=$(place '{"items": [{"sku": "S-2", "quantity": 1, "price": 11.9}]}')
control POST faults '{"operation": "createFeed", "kind": "drop_after"}' >/dev/null
control POST faults '{"operation": "getFeeds", "kind": "delay", "delay_ms": 4000}' >/dev/null
control POST faults '{"operation": "getFeedDocument", "kind": "delay", "delay_ms": 4000}' >/dev/null
seller "select amzmp.refund_order('shop', '$second', 'CM-2')" >/dev/null
wait_for 30 test_arrived createFeed 2 || true
sender_end KILL
sql_becomes 30 "select count(*) from amzmp.feed where state = 'processed' and type = 'POST_PAYMENT_ADJUSTMENT_DATA'" 1 || true
sender_end KILL
becomes "select state || ' ' || tries from amzmp.refund where refund_key = 'CM-2'" 'accepted 1' 'a lost answer and a killed server cost nothing'
is "$(at_amazon "$second" refunded)" 1190 'and the buyer gets it once'

# ---- Amazon's books

seller "select amzmp.fetch_transactions('shop', '$first')" "select amzmp.run_flow('get_transactions', account => 'shop')" >/dev/null
becomes "select string_agg(state, ' ' order by refund_key) from amzmp.refund" 'booked booked' 'both refunds are found in Amazon''s books'
is "$(sql "select string_agg(distinct verdict, ',') from amzmp.refund_booking")" agrees 'to the cent'
is "$(sql "select sales, refunds, fees, net = sales + refunds + fees from amzmp.order_finance where amazon_order_id = '$first'")" '52.36|-11.90|-6.07|t' \
	'an order''s sales, refunds and fees'
is "$(sql "select fee || ' ' || amount from amzmp.order_fee where amazon_order_id = '$first'")" 'Commission -6.07' 'and which fees'
is "$(sql "select count(*) from amzmp.finance_transaction t where total <> (select sum(amount) from amzmp.finance_part p where p.transaction_id = t.transaction_id and leaf)")" 0 \
	'the parts of each transaction add up'

# ---- a refund of which nobody knows: the feed hangs, but Amazon has booked it

third=$(place '{"items": [{"sku": "S-3", "quantity": 1, "price": 11.9}]}')
control POST faults '{"operation": "getFeed", "kind": "status", "status": 404, "count": -1}' >/dev/null
seller "select amzmp.set('shop', 'feed_deadline', '10 minutes')" "select amzmp.refund_order('shop', '$third', 'CM-3')" >/dev/null
sql_becomes 60 "select state from amzmp.refund where refund_key = 'CM-3'" unknown || true
is "$(sql "select state from amzmp.refund where refund_key = 'CM-3'")" unknown 'a feed that hangs leaves doubt'
is "$(refusal "select amzmp.resend_refund('shop', '$third', 'CM-3')")" AZ203 'it is not sent again on suspicion'
seller "select amzmp.run_flow('get_transactions', account => 'shop')" >/dev/null
becomes "select state from amzmp.refund where refund_key = 'CM-3'" booked 'Amazon''s books tell'
is "$(at_amazon "$third" refunded)" 1190 'and nothing was sent twice'
control DELETE faults >/dev/null
seller "select amzmp.set('shop', 'feed_deadline', '6 hours')" >/dev/null

# the submission never reached Amazon: that is not known here, so a person decides
fourth=$(place '{"items": [{"sku": "S-3", "quantity": 1, "price": 11.9}]}')
control POST faults '{"operation": "createFeed", "kind": "drop_before"}' >/dev/null
seller "select amzmp.refund_order('shop', '$fourth', 'CM-4')" >/dev/null
becomes "select state from amzmp.refund where refund_key = 'CM-4'" unknown 'a lost submission that Amazon does not show is not repeated'
seller "select amzmp.resend_refund('shop', '$fourth', 'CM-4', not_applied => true)" >/dev/null
becomes "select state || ' ' || tries from amzmp.refund where refund_key = 'CM-4'" 'accepted 2' 'but by somebody who has looked'
is "$(at_amazon "$fourth" refunded)" 1190 'once'

# ---- returns

fba=$(place '{"fulfilled_by": "AMAZON", "items": [{"sku": "S-4", "quantity": 1}]}')
seller "select amzmp.set('shop', 'default_reason', '5')" "select amzmp.map_return_reason('shop', 'CR-DEFECTIVE', '4')" \
	"select amzmp.deliver_returns_to('DE', 'shop.take_back(bigint, text)')" >/dev/null
control POST "orders/$first/return" '{"reason": "CR-DEFECTIVE", "quantity": 1}' >/dev/null
control POST "orders/$second/return" '{"reason": "CR-NEW-WORD"}' >/dev/null
control POST "orders/$fba/return" '{"reason": "NOT_COMPATIBLE"}' >/dev/null
seller "insert into shop.closed values (true)" "select amzmp.run_flow('get_refund_orders', account => 'shop')" >/dev/null
becomes "select count(*), sum(quantity) from amzmp.return_item" '3|3' 'returns to the merchant and to Amazon arrive'
becomes "select count(*) from amzmp.return_item where tries > 0 and state = 'new'" 3 'a function that fails is asked again'
seller "truncate shop.closed" >/dev/null
sql "update amzmp.task set due_at = now() where kind = 'return'" "select amzmp._wake()" >/dev/null
becomes "select count(*) from amzmp.returns where state = 'delivered' and delivered_number like 'R-%'" 3 'the shop takes each'
is "$(sql "select string_agg(shop_reason || coalesce(' ' || meaning, ''), ', ' order by reason_code) from amzmp.returns")" '4 Defective, 5, 5' \
	'with its own reasons, mapped or the default'
is "$(sql "select count(*) from amzmp.return_reason where not mapped and meaning is not null")" 10 'the known reasons are listed for mapping'
control POST "orders/$third/return" '{"reason": "CR-UNWANTED_ITEM"}' >/dev/null
sql "update amzmp.orders set purchased_at = purchased_at - interval '8 days' where amazon_order_id = '$third'" >/dev/null
sql_becomes 20 "select count(*) from amzmp.report where ended_at is null" 0 || true
seller "select amzmp.run_flow('get_refund_orders', account => 'shop')" >/dev/null
becomes "select late || ' ' || state from amzmp.returns where amazon_order_id = '$third'" 'true new' 'a late one is kept and flagged'
is "$(sql "select count(*) from shop.sent_back")" 3 'but not handed over, and none is handed over twice'
seller "select amzmp.accept_return('shop', return_key) from amzmp.returns where amazon_order_id = '$third'" >/dev/null
becomes "select count(*) from shop.sent_back" 4 'unless somebody accepts it'

# ---- invoices

seller "select amzmp.set('shop', 'upload_invoices', 'true')" >/dev/null
own=$(place '{"programs": ["INVOICE_BY_AMAZON"], "items": [{"sku": "S-5", "quantity": 1}]}')
is "$(sql "select count(*) from amzmp.invoice_due where amazon_order_id in ('$first', '$own')")" 1 'orders that need an invoice are listed, but for those of Amazon''s'
pdf="convert_to('%PDF-1.4 ' || repeat('an invoice for Zoe Buyer ', 20), 'UTF8')"
is "$(refusal "select amzmp.upload_invoice('shop', '$first', 'RE-1', $pdf, total => 1)")" AZ202 'its total is the order''s'
is "$(refusal "select amzmp.upload_invoice('shop', '$own', 'RE-2', $pdf)")" AZ203 'Amazon''s own are not uploaded'
seller "select amzmp.upload_invoice('shop', '$first', 'RE-1', $pdf)" >/dev/null
becomes "select state from amzmp.invoice where invoice_number = 'RE-1'" accepted 'an invoice is uploaded'
like "$(control GET "orders/$first" | tr -d '\n')" '"metadata:totalamount": *"52.36"' 'with its figures'
is "$(sql "select count(*) from amzmp.document where content_type = 'application/pdf'")" 0 'nothing of the PDF is left here'
is "$(sql "select count(*) from amzmp.invoice_due where amazon_order_id = '$first'")" 0 'and nothing more is due'
seller "select amzmp.upload_invoice('shop', '$first', 'GS-1', $pdf, 11.90, 1.90, 'CreditNote')" >/dev/null
becomes "select state || ' ' || (transaction_id is not null) from amzmp.invoice where invoice_number = 'GS-1'" 'accepted true' 'a credit note names the refund'
object=$(seller "select lo_from_bytea(0, $pdf)")
seller "select amzmp.upload_invoice_object('shop', '$second', 'RE-3', $object)" >/dev/null
becomes "select state from amzmp.invoice where invoice_number = 'RE-3'" accepted 'a PDF may come from a large object'
is "$(refusal "select amzmp.upload_invoice_file('shop', '$third', 'RE-4', '/etc/passwd')")" 42501 'but from a file only where the role may read it'
printf '%%PDF-1.4 %s' "$(printf 'an invoice for Zoe Buyer %.0s' {1..20})" >"$RUN/invoice.pdf"
chmod 644 "$RUN/invoice.pdf"
sql 'grant pg_read_server_files to seller' 'grant execute on function pg_read_binary_file(text) to seller'
seller "select amzmp.upload_invoice_file('shop', '$third', 'RE-4', '$RUN/invoice.pdf')" >/dev/null
becomes "select state from amzmp.invoice where invoice_number = 'RE-4'" accepted 'then it is taken from there'

# ---- what Amazon's own report wants

seller "select amzmp.enable('get_due_invoices', channel => 'DE')" "select amzmp.map_carrier('shop', 'DHL', 'DHL')" >/dev/null
wanted=$(place '{"items": [{"sku": "S-6", "quantity": 2}], "buyer_company": "Zoe Buyer GmbH"}')
ask()
{
	sql_becomes 30 "select count(*) from amzmp.report where ended_at is null" 0 || true
	seller "select amzmp.run_flow('get_due_invoices', channel => 'DE')" >/dev/null
	becomes "select count(*) from amzmp.report where type like '%VAT_INVOICE%' and state = 'applied'" "$1" "$2"
}
ask 1 'Amazon is asked which invoices it wants'
is "$(sql "select known_by || ' ' || type || ' ' || grand_total || ' ' || tax_total from amzmp.invoice_due where amazon_order_id = '$wanted'")" \
	"$(sql "select 'report Invoice ' || grand_total || ' ' || tax_total from amzmp.orders where amazon_order_id = '$wanted'")" 'an order that needs one is listed by the report, with its amounts'
is "$(sql "select string_agg(type || ' ' || known_by || coalesce(shipping_id, ''), ' ') from amzmp.invoice_due where type = 'Invoice' and amazon_order_id in ('$first', '$second', '$own')")" '' 'those that have one, or that Amazon makes, are not'
is "$(sql "select count(*) > 0 and bool_and(transaction_id is not null and known_by = 'report') from amzmp.invoice_due where type = 'CreditNote'")" t 'refunds that need a credit note are listed, too'
is "$(sql "select string_agg(d.status || ' ' || (select string_agg(sku, ',') from amzmp.order_item i where i.amazon_order_id = d.amazon_order_id), ' ') from amzmp.invoice_due d where known_by = 'orders'")" '' 'nothing is left to guess'
is "$(sql "select string_agg(w::text, ' ') from amzmp.invoice_wanted w where w::text ~ 'Zoe|DE888888888'")" '' 'nothing of the buyer is kept in clear'
is "$(refusal "select amzmp.upload_invoice('shop', '$wanted', 'RE-5', $pdf, 1, 0, shipping_id => (select shipping_id from amzmp.invoice_due where amazon_order_id = '$wanted'))")" AZ202 \
	'the invoice of a shipment has its total'
seller "select amzmp.upload_invoice('shop', '$wanted', 'RE-5', $pdf, shipping_id => (select shipping_id from amzmp.invoice_due where amazon_order_id = '$wanted'))" >/dev/null
becomes "select state from amzmp.invoice where invoice_number = 'RE-5'" accepted 'and is uploaded for that shipment'
is "$(sql "select count(*) from amzmp.invoice_due where amazon_order_id = '$wanted'")" 0 'nothing more is due of it'
later=$(place '{"items": [{"sku": "S-7", "quantity": 1}]}')
is "$(sql "select known_by from amzmp.invoice_due where amazon_order_id = '$later'")" orders 'what was shipped since is known by the order'
sql "update amzmp.report_pace set spacing = '0'" 2>/dev/null || true
sql "update amzmp.report_type set spacing = '0' where name like '%VAT_INVOICE%'" >/dev/null
ask 2 'asked again'
is "$(sql "select known_by from amzmp.invoice_due where amazon_order_id = '$later'")" report 'the report knows it'
is "$(sql "select wanted from amzmp.invoice_wanted where amazon_order_id = '$wanted'")" f 'and wants the uploaded one no more'
sql "update amzmp.invoice_wanted set wanted = true, explanation = 'The totals differ.', asked_at = now() + interval '13 hours' where amazon_order_id = '$wanted'" >/dev/null
is "$(sql "select refused_because from amzmp.invoice_due where amazon_order_id = '$wanted'")" 'The totals differ.' 'one that Amazon wants half a day after it took it is due again, with the reason'

is "$(control GET violations | grep -o '"count": *[0-9]*' | grep -o '[0-9]*')" 0 'nothing that Amazon would not take was sent'
finish
