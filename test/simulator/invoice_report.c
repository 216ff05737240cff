/*
 * invoice_report.c: the VAT invoice data report: what is shipped and refunded in the marketplaces where sellers upload their
 * invoices, each with its amounts, the buyer's VAT number and address, and how its invoice stands. With the option pendingInvoices
 * only what still needs one; with all everything ordered within at most 30 days.
 *
 * An order is one shipment here, whose id is the order's digits. A refund is named by its transaction.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TYPE    "GET_FLAT_FILE_VAT_INVOICE_DATA_REPORT"
#define LONGEST (31 * 24 * HOUR)
#define REACH   (90 * 24 * HOUR)

static const char columns[] =
	"marketplace-id\tmerchant-id\torder-date\ttransaction-type\tis-invoice-corrected\torder-id\tshipment-date\tshipping-id\t"
	"transaction-id\tasin\tsku\tproduct-name\tquantity-purchased\tcurrency\titem-vat-incl-amount\titem-vat-excl-amount\t"
	"item-vat-amount\titem-vat-rate\tshipping-vat-incl-amount\tshipping-vat-amount\tis-amazon-invoiced\tinvoice-number\t"
	"invoice-status\tinvoice-status-description\tis-business-order\tseller-vat-number\tbuyer-vat-number\tbuyer-name\t"
	"bill-address-1\tbill-city\tbill-postal-code\tbill-country\r\n";

bool
report_is_of_invoices(const char *type)
{
	return strcmp(type, TYPE) == 0;
}

static void
shipping_id(const Order *order, char out[40])
{
	size_t length = 0;

	for (const char *at = order->id; *at != '\0'; at++)
		if (*at != '-')
			out[length++] = *at;
	out[length] = '\0';
}

Order *
order_of_shipment(const Seller *seller, const char *id)
{
	char known[40];

	for (size_t i = 0; id != NULL && i < seller->orders.count; i++)
	{
		shipping_id(seller->orders.at[i], known);
		if (strcmp(known, id) == 0)
			return seller->orders.at[i];
	}
	return NULL;
}

/* The number of the invoice that was uploaded for a transaction, or NULL. */
static const char *
invoice_of(const Order *order, const char *type, const char *transaction)
{
	size_t i;
	json_t *options;

	json_array_foreach(order->invoices, i, options)
	{
		const char *named = json_get_text(options, "metadata:transactionid");

		if (strcmp(json_get_text(options, "metadata:documenttype"), type) == 0 &&
			(transaction == NULL || (named != NULL && strcmp(named, transaction) == 0)))
			return json_get_text(options, "metadata:invoicenumber");
	}
	return NULL;
}

/* One line of a transaction; sign is -1 for what is given back. */
static void
write_line(FILE *out, const Order *order, const OrderItem *line, const char *transaction, bool first)
{
	bool refund = transaction != NULL;
	const char *number = invoice_of(order, refund ? "CreditNote" : "Invoice", transaction);
	bool amazon = json_array_has(order->programs, "INVOICE_BY_AMAZON");
	int percent = order->market->tax_percent;
	int decimals = order->market->decimals;
	int64_t gross = line->price * line->ordered;
	int64_t net = order_net_price(order, line->price) * line->ordered;
	int64_t shipping = first ? order->shipping : 0;
	char amounts[5][32];
	char ordered[32];
	char shipped[32];
	char shipment[40];

	shipping_id(order, shipment);
	money_text(gross, decimals, amounts[0]);
	money_text(net, decimals, amounts[1]);
	money_text(gross - net, decimals, amounts[2]);
	money_text(shipping, decimals, amounts[3]);
	money_text(shipping - order_net_price(order, shipping), decimals, amounts[4]);
	fprintf(out,
			"%s\t%s\t%s\t%s\tFALSE\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%lld\t%s\t%s\t%s\t%s\t0.%02d\t%s\t%s\t%s\t%s\t%s\t\t%s\tDE999999999\t"
			"%s\t%s\t%s\t%s\t%s\t%s\r\n",
			order->market->id, order->seller->id, time_text(order->created, ordered), refund ? "REFUND" : "SHIPMENT",
			order->id, time_text(order->updated, shipped), shipment, refund ? transaction : shipment, line->asin,
			line->sku, line->title, (long long) line->ordered, order->market->currency, amounts[0], amounts[1],
			amounts[2], percent, amounts[3], amounts[4], amazon ? "true" : "false", number != NULL ? number : "",
			number != NULL || amazon ? "Invoiced" : "InvoicePending", order->buyer_company != NULL ? "true" : "false",
			order->buyer_company != NULL ? "DE888888888" : "", order->buyer_name,
			json_get_text(order->address, "addressLine1"), json_get_text(order->address, "city"),
			json_get_text(order->address, "postalCode"), order->market->country);
}

static size_t
write_transaction(FILE *out, const Order *order, const char *transaction, bool pending)
{
	if (pending && (json_array_has(order->programs, "INVOICE_BY_AMAZON") ||
					invoice_of(order, transaction != NULL ? "CreditNote" : "Invoice", transaction) != NULL))
		return 0;
	for (size_t n = 0; n < order->items.count; n++)
		write_line(out, order, order->items.at[n], transaction, n == 0);
	return order->items.count;
}

/* What is booked for an order as refunds. */
static size_t
write_refunds(FILE *out, const Order *order, bool pending)
{
	size_t rows = 0;
	size_t i;
	json_t *entry;

	json_array_foreach(order->seller->transactions, i, entry)
	{
		const json_t *booked = json_object_get(entry, "transaction");
		const json_t *related = json_array_get(json_object_get(booked, "relatedIdentifiers"), 0);

		if (strcmp(json_get_text(booked, "transactionType"), "Refund") == 0 &&
			strcmp(json_get_text(related, "relatedIdentifierValue"), order->id) == 0)
			rows += write_transaction(out, order, json_get_text(booked, "transactionId"), pending);
	}
	return rows;
}

/* The text of a report, or NULL with the status that it ends with. */
char *
invoice_report(const Job *job, size_t *length, const char **status)
{
	const char *pending = json_get_text(job->options, "pendingInvoices");
	const char *all = json_get_text(job->options, "all");
	bool only_pending = pending != NULL && strcmp(pending, "true") == 0;
	Micros start = only_pending ? clock_now() - REACH : job->data_start;
	Micros end = only_pending || job->data_end == 0 ? clock_now() : job->data_end;
	char *text = NULL;
	size_t rows = 0;
	FILE *out;

	*status = "FATAL";
	if (!only_pending && (all == NULL || strcmp(all, "true") != 0 || start == 0 || end - start > LONGEST))
		return NULL;
	out = open_memstream(&text, length);
	fputs(columns, out);
	for (size_t i = 0; i < job->seller->orders.count; i++)
	{
		const Order *order = job->seller->orders.at[i];

		if (order->created < start || order->created > end || !json_array_has(job->market_ids, order->market->id) ||
			!text_is_one_of(order->market->country, INVOICE_COUNTRIES) || strcmp(order->status, "SHIPPED") != 0)
			continue;
		rows += write_transaction(out, order, NULL, only_pending);
		rows += write_refunds(out, order, only_pending);
	}
	fclose(out);
	*status = "CANCELLED";
	if (rows > 0)
		return text;
	free(text);
	return NULL;
}
