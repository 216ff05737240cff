/*
 * reports.c: the Reports API 2021-06-30 with the listing reports, in the encodings that Amazon uses: Windows-1252 in
 * most marketplaces, Windows-31J in Japan, gzip. Others are in returns_report.c, order_report.c and invoice_report.c. Any other type ends CANCELLED, as
 * a report without data does.
 */
#include "sim.h"

#include <iconv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char columns[] =
	"item-name\titem-description\tlisting-id\tseller-sku\tprice\tquantity\topen-date\timage-url\titem-is-marketplace\t"
	"product-id-type\tzshop-shipping-fee\titem-note\titem-condition\tzshop-category1\tzshop-browse-path\t"
	"zshop-storefront-feature\tasin1\tasin2\tasin3\twill-ship-internationally\texpedited-shipping\tzshop-boldface\t"
	"product-id\tbid-for-featured-placement\tadd-delete\tpending-quantity\tfulfillment-channel\t"
	"merchant-shipping-group\tstatus\r\n";

static void
write_row(FILE *out, const Item *item, const Offer *offer, const char *status)
{
	char title[200] = "";
	char price[32] = "";
	char quantity[32] = "";
	char opened[40];
	time_t seconds = offer->created / SECOND;
	struct tm parts;

	if (offer->asin[0] != '\0')
		catalog_title(offer->asin, title, sizeof(title));
	if (offer->has_price)
		money_text(offer->price, offer->market->decimals, price);
	if (!item->fba)
		snprintf(quantity, sizeof(quantity), "%lld", (long long) item->quantity);
	gmtime_r(&seconds, &parts);
	strftime(opened, sizeof(opened), "%d/%m/%Y %H:%M:%S GMT", &parts);
	fprintf(out, "%s\t\t%06X\t%s\t%s\t%s\t%s\t\ty\t1\t\t\t11\t\t\t\t%s\t\t\t\t\t\t%s\t\t\t%s\t%s\t\t%s\r\n", title,
			(unsigned) hash_text(item->sku, 3) & 0xFFFFFF, item->sku, price, quantity, opened, offer->asin, offer->asin,
			item->fba ? "" : "0", item->fba ? item->fba_channel : "DEFAULT", status);
}

static const char *
row_status(const Item *item, const Offer *offer)
{
	json_t *status = item_status(item, offer);
	bool buyable = json_array_has(status, "BUYABLE");

	json_decref(status);
	return buyable ? "Active" : offer->asin[0] == '\0' ? "Incomplete" : "Inactive";
}

static char *
write_report(const Job *job, size_t *length)
{
	const Marketplace *market = marketplace_by_id(json_string_value(json_array_get(job->market_ids, 0)));
	const char *only = strcmp(job->type, "GET_MERCHANT_LISTINGS_DATA") == 0            ? "Active"
					   : strcmp(job->type, "GET_MERCHANT_LISTINGS_INACTIVE_DATA") == 0 ? "Inactive"
																					   : NULL;
	char *text = NULL;
	FILE *out = open_memstream(&text, length);

	fputs(columns, out);
	for (size_t i = 0; i < job->seller->item_list.count; i++)
	{
		const Item *item = job->seller->item_list.at[i];
		const Offer *offer = item_offer(item, market);
		const char *status = offer == NULL ? NULL : row_status(item, offer);

		if (status != NULL && !item->lost && (only == NULL || strcmp(only, status) == 0))
			write_row(out, item, offer, status);
	}
	fclose(out);
	return text;
}

/* What the character set lacks becomes a question mark, as in Amazon's files. */
char *
report_convert(char *text, size_t *length, const char *charset)
{
	iconv_t converter = iconv_open(charset, "UTF-8");
	char *out = xalloc(*length + 1);
	char *from = text;
	char *to = out;
	size_t left = *length;
	size_t room = *length;

	if (converter == (iconv_t) -1)
		abort();
	while (left > 0 && iconv(converter, &from, &left, &to, &room) == (size_t) -1 && left > 0)
	{
		*to++ = '?';
		room--;
		do
		{
			from++;
			left--;
		} while (left > 0 && (*from & 0xC0) == 0x80);
	}
	iconv_close(converter);
	free(text);
	*length = (size_t) (to - out);
	return out;
}

static void
work(Job *job)
{
	const Marketplace *market = marketplace_by_id(json_string_value(json_array_get(job->market_ids, 0)));
	bool japan = strcmp(market->country, "JP") == 0;
	const char *status = "CANCELLED";
	size_t length = 0;
	char *text = NULL;

	if (report_follow_script(job))
		return;
	if (report_is_of_returns(job->type))
		text = returns_report(job, &length, &status);
	else if (report_is_of_orders(job->type))
		text = order_report(job, &length, &status);
	else if (report_is_of_invoices(job->type))
		text = invoice_report(job, &length, &status);
	else if (text_is_one_of(job->type, "GET_MERCHANT_LISTINGS_ALL_DATA,GET_MERCHANT_LISTINGS_DATA,"
									   "GET_MERCHANT_LISTINGS_INACTIVE_DATA"))
		text = write_report(job, &length);
	if (text == NULL)
	{
		job_end(job, status);
		return;
	}
	text = report_convert(text, &length, japan ? "CP932" : "WINDOWS-1252");
	job->result =
		document_new(job->seller, "report", japan ? "text/plain;charset=Windows-31J" : "text/plain;charset=Cp1252");
	document_fill(job->result, text, length, true);
	job_end(job, "DONE");
}

static bool
create_allowed(Call *call)
{
	static const Field fields[] = {
		{"reportType", JSON_STRING, true, NULL},     {"marketplaceIds", JSON_ARRAY, true, NULL},
		{"dataStartTime", JSON_STRING, false, NULL}, {"dataEndTime", JSON_STRING, false, NULL},
		{"reportOptions", JSON_OBJECT, false, NULL},
	};
	const json_t *markets = json_object_get(call->body, "marketplaceIds");
	const char *start = json_get_text(call->body, "dataStartTime");
	const char *end = json_get_text(call->body, "dataEndTime");
	Micros when;

	if (!validate_object(call, call->body, "body", fields, lengthof(fields)))
		return false;
	if (json_array_size(markets) == 0 || json_array_size(markets) > 25)
		call_violation(call, 400, "InvalidInput", "marketplaceIds has 1 to 25 entries.");
	else if ((start != NULL && !time_parse(start, &when)) || (end != NULL && !time_parse(end, &when)))
		call_violation(call, 400, "InvalidInput", "dataStartTime and dataEndTime are date-times in ISO 8601.");
	return call->status == 0 && validate_markets(call, markets);
}

/* POST /reports/2021-06-30/reports */
void
report_create(Call *call)
{
	Job *job;

	if (!create_allowed(call))
		return;
	job = job_new(call->seller, false, json_get_text(call->body, "reportType"), work);
	job->market_ids = json_deep_copy(json_object_get(call->body, "marketplaceIds"));
	job->options = json_deep_copy(json_object_get(call->body, "reportOptions"));
	if (json_get_text(call->body, "dataStartTime") != NULL)
		time_parse(json_get_text(call->body, "dataStartTime"), &job->data_start);
	if (json_get_text(call->body, "dataEndTime") != NULL)
		time_parse(json_get_text(call->body, "dataEndTime"), &job->data_end);
	call_answer(call, 202, json_pack("{s:s}", "reportId", job->id));
}

void
report_get(Call *call)
{
	const Job *job = job_of_call(call, false);

	if (job != NULL)
		call_answer(call, 200, job_json(job));
}

void
reports_get(Call *call)
{
	job_list(call, false);
}

void
report_cancel(Call *call)
{
	job_cancel(call, false);
}

/* Does a document hold buyers' data, so that a token for it alone is needed? */
static bool
is_restricted(const Call *call, const Document *document)
{
	static const char types[] = "GET_FLAT_FILE_ACTIONABLE_ORDER_DATA_SHIPPING,GET_FLAT_FILE_ORDER_REPORT_DATA_SHIPPING,"
								"GET_FLAT_FILE_ORDER_REPORT_DATA_INVOICING,GET_FLAT_FILE_ORDER_REPORT_DATA_TAX,"
								"GET_ORDER_REPORT_DATA_SHIPPING,GET_ORDER_REPORT_DATA_INVOICING,GET_ORDER_REPORT_DATA_TAX,"
								"GET_AMAZON_FULFILLED_SHIPMENTS_DATA_INVOICING,GET_AMAZON_FULFILLED_SHIPMENTS_DATA_TAX,"
								"GET_FLAT_FILE_VAT_INVOICE_DATA_REPORT";

	for (size_t i = 0; i < call->seller->reports.count; i++)
	{
		const Job *job = call->seller->reports.at[i];

		if (job->result == document)
			return text_is_one_of(job->type, types);
	}
	return false;
}

void
report_document_get(Call *call)
{
	Document *document = document_find(call->seller, call->argument[0]);

	if (document != NULL && is_restricted(call, document) && !call->restricted_token)
		call_fail(call, 403, "Unauthorized", "A restricted data token for this resource is needed.");
	else if (document == NULL)
		call_fail(call, 404, "NotFound", "There is no report document '%s'.", call->argument[0]);
	else
		call_answer(call, 200, document_json(call, document, "reportDocumentId"));
}
