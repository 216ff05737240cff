/*
 * invoice_feed.c: UPLOAD_VAT_INVOICE: one PDF and what it says, in the feed's options. Its report is XML.
 *
 * 79513: an option is missing or not known; 79525: Amazon makes the invoices of this order itself. The other codes are the
 * simulator's own.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS                                                                                                        \
	"metadata:orderid,metadata:shippingid,metadata:invoicenumber,metadata:documenttype,metadata:totalamount,"          \
	"metadata:totalvatamount,metadata:transactionid"

/* A dot and two decimals. */
static bool
is_amount(const char *text)
{
	size_t whole = text == NULL ? 0 : strspn(text, "0123456789");

	return whole > 0 && text[whole] == '.' && strspn(text + whole + 1, "0123456789") == 2 && text[whole + 3] == '\0';
}

static const char *
options_problem(const json_t *options)
{
	const char *type = json_get_text(options, "metadata:documenttype");
	const char *name;
	json_t *value;

	json_object_foreach((json_t *) options, name, value)
	{
		if (!text_is_one_of(name, OPTIONS) || !json_is_string(value))
			return "An option is not one that this feed has.";
	}
	if (json_get_text(options, "metadata:orderid") == NULL && json_get_text(options, "metadata:shippingid") == NULL)
		return "metadata:orderid or metadata:shippingid is missing.";
	if (json_get_text(options, "metadata:invoicenumber") == NULL || type == NULL ||
		!text_is_one_of(type, "Invoice,CreditNote"))
		return "metadata:invoicenumber or metadata:documenttype is missing.";
	if (!is_amount(json_get_text(options, "metadata:totalamount")) ||
		!is_amount(json_get_text(options, "metadata:totalvatamount")))
		return "metadata:totalamount or metadata:totalvatamount is no amount with two decimals.";
	if (strcmp(type, "CreditNote") == 0 && json_get_text(options, "metadata:transactionid") == NULL)
		return "metadata:transactionid is missing.";
	return NULL;
}

void
feed_invoice_process(Job *job)
{
	const char *id = json_get_text(job->options, "metadata:orderid");
	const char *shipment = json_get_text(job->options, "metadata:shippingid");
	const char *total = json_get_text(job->options, "metadata:totalamount");
	const char *problem = options_problem(job->options);
	Order *order = id != NULL ? order_find(id) : order_of_shipment(job->seller, shipment);
	char paid[32];

	if (problem != NULL)
		feed_xml_end(job, "79513", problem);
	else if (job->input->length < 5 || memcmp(job->input->bytes, "%PDF-", 5) != 0)
		feed_xml_end(job, "79501", "The document is no PDF.");
	else if (order == NULL || order->seller != job->seller)
		feed_xml_end(job, "79502", "There is no such order.");
	else if (json_array_has(order->programs, "INVOICE_BY_AMAZON"))
		feed_xml_end(job, "79525", "Amazon generates the invoices of this order.");
	else if (!text_is_one_of(order->market->country, INVOICE_COUNTRIES))
		feed_xml_end(job, "79503", "The marketplace takes no invoices.");
	else if (starts_with(order->status, "PENDING") || strcmp(order->status, "CANCELLED") == 0)
		feed_xml_end(job, "79504", "The order is not paid.");
	else if (strcmp(json_get_text(job->options, "metadata:documenttype"), "Invoice") == 0 &&
			 strcmp(money_text(order_paid(order), order->market->decimals, paid), total) != 0)
		feed_xml_end(job, "79505", "The total is not that of the order.");
	else
	{
		if (order->invoices == NULL)
			order->invoices = json_array();
		json_array_append_new(order->invoices, json_deep_copy(job->options));
		feed_xml_end(job, NULL, NULL);
	}
}
