/*
 * returns_report.c: the reports of returns: to the merchant, of Seller Fulfilled Prime, and to Amazon's warehouses. A
 * report without rows ends CANCELLED, one of more than 60 days FATAL, as at Amazon.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LONGEST (60 * 24 * HOUR)
#define FBA     "GET_FBA_FULFILLMENT_CUSTOMER_RETURNS_DATA"
#define PRIME   "GET_CSV_MFN_PRIME_RETURNS_REPORT"

static const char merchant_columns[] =
	"Order ID\tOrder date\tReturn request date\tReturn request status\tAmazon RMA ID\tMerchant RMA ID\tLabel type\t"
	"Label cost\tCurrency code\tReturn carrier\tTracking ID\tLabel to be paid by\tA-to-Z Claim\tIs prime\tASIN\t"
	"Merchant SKU\tItem Name\tReturn quantity\tReturn Reason\tIn policy\tReturn type\tResolution\tInvoice number\t"
	"Return delivery date\tOrder Amount\tOrder quantity\tSafeT Action reason\tSafeT claim id\tSafeT claim state\t"
	"SafeT claim creation time\tSafeT claim reimbursement amount\tRefunded Amount\r\n";

static const char fba_columns[] =
	"return-date\torder-id\tsku\tasin\tfnsku\tproduct-name\tquantity\tfulfillment-center-id\tdetailed-disposition\t"
	"reason\tstatus\tlicense-plate-number\tcustomer-comments\r\n";

bool
report_is_of_returns(const char *type)
{
	return text_is_one_of(type, "GET_FLAT_FILE_RETURNS_DATA_BY_RETURN_DATE," PRIME "," FBA);
}

/* The day as these reports write it: 14-Sep-2026. */
static void
day(Micros when, char out[20])
{
	time_t seconds = when / SECOND;
	struct tm parts;

	gmtime_r(&seconds, &parts);
	strftime(out, 20, "%d-%b-%Y", &parts);
}

static void
write_row(FILE *out, const json_t *entry, bool fba)
{
	Micros at = json_get_int(entry, "at", 0);
	int64_t quantity = json_get_int(entry, "quantity", 1);
	char asked[32];
	char ordered[20];

	if (fba)
	{
		fprintf(out, "%s\t%s\t%s\t%s\tX0%s\t%s\t%lld\tFRA1\tSELLABLE\t%s\t%s\tLPN%s\tIt did not fit\r\n",
				time_text(at, asked), json_get_text(entry, "order"), json_get_text(entry, "sku"),
				json_get_text(entry, "asin"), json_get_text(entry, "rma"), json_get_text(entry, "title"),
				(long long) quantity, json_get_text(entry, "reason"), json_get_text(entry, "status"),
				json_get_text(entry, "rma"));
		return;
	}
	day(at, asked);
	day(json_get_int(entry, "ordered", 0), ordered);
	fprintf(out,
			"%s\t%s\t%s\t%s\t%s\t\tAmazonUnPaidLabel\t4.90\t%s\tDHL\t\tCustomer\tN\tN\t%s\t%s\t%s\t%lld\t%s\tY\tC-Returns\t"
			"StandardRefund\t\t\t\t%lld\t\t\t\t\t\t\r\n",
			json_get_text(entry, "order"), ordered, asked, json_get_text(entry, "status"), json_get_text(entry, "rma"),
			json_get_text(entry, "currency"), json_get_text(entry, "asin"), json_get_text(entry, "sku"),
			json_get_text(entry, "title"), (long long) quantity, json_get_text(entry, "reason"), (long long) quantity);
}

/* The text of a report, or NULL with the status that it ends with. */
char *
returns_report(const Job *job, size_t *length, const char **status)
{
	bool fba = strcmp(job->type, FBA) == 0;
	Micros end = job->data_end == 0 ? clock_now() : job->data_end;
	Micros start = job->data_start == 0 ? end - 30 * 24 * HOUR : job->data_start;
	char *text = NULL;
	size_t rows = 0;
	size_t i;
	json_t *entry;
	FILE *out;

	*status = "FATAL";
	if (end - start > LONGEST)
		return NULL;
	out = open_memstream(&text, length);
	fputs(fba ? fba_columns : merchant_columns, out);
	json_array_foreach(job->seller->returns, i, entry)
	{
		Micros at = json_get_int(entry, "at", 0);

		if (strcmp(job->type, PRIME) == 0 || json_get_bool(entry, "fba", false) != fba || at < start || at > end)
			continue;
		write_row(out, entry, fba);
		rows++;
	}
	fclose(out);
	*status = "CANCELLED";
	if (rows > 0)
		return text;
	free(text);
	return NULL;
}
