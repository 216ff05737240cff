/*
 * market.c: the marketplaces Amazon has, and amounts of money in minor units.
 *
 * Tax rates are those contained in an offer's price; they only serve to split an order's totals.
 */
#include "sim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const Marketplace marketplaces[MARKETPLACE_COUNT] = {
	{"CA", "A2EUQ1WTGCTBG2", "NA", "CAD", "en_CA", "www.amazon.ca", "Amazon.ca", 2, 0},
	{"US", "ATVPDKIKX0DER", "NA", "USD", "en_US", "www.amazon.com", "Amazon.com", 2, 0},
	{"MX", "A1AM78C64UM0Y8", "NA", "MXN", "es_MX", "www.amazon.com.mx", "Amazon.com.mx", 2, 16},
	{"BR", "A2Q3Y263D00KWC", "NA", "BRL", "pt_BR", "www.amazon.com.br", "Amazon.com.br", 2, 0},
	{"IE", "A28R8C7NBKEWEA", "EU", "EUR", "en_IE", "www.amazon.ie", "Amazon.ie", 2, 23},
	{"ES", "A1RKKUPIHCS9HS", "EU", "EUR", "es_ES", "www.amazon.es", "Amazon.es", 2, 21},
	{"GB", "A1F83G8C2ARO7P", "EU", "GBP", "en_GB", "www.amazon.co.uk", "Amazon.co.uk", 2, 20},
	{"FR", "A13V1IB3VIYZZH", "EU", "EUR", "fr_FR", "www.amazon.fr", "Amazon.fr", 2, 20},
	{"BE", "AMEN7PMS3EDWL", "EU", "EUR", "fr_BE", "www.amazon.com.be", "Amazon.com.be", 2, 21},
	{"NL", "A1805IZSGTT6HS", "EU", "EUR", "nl_NL", "www.amazon.nl", "Amazon.nl", 2, 21},
	{"DE", "A1PA6795UKMFR9", "EU", "EUR", "de_DE", "www.amazon.de", "Amazon.de", 2, 19},
	{"IT", "APJ6JRA9NG5V4", "EU", "EUR", "it_IT", "www.amazon.it", "Amazon.it", 2, 22},
	{"SE", "A2NODRKZP88ZB9", "EU", "SEK", "sv_SE", "www.amazon.se", "Amazon.se", 2, 25},
	{"ZA", "AE08WJ6YKNBMC", "EU", "ZAR", "en_ZA", "www.amazon.co.za", "Amazon.co.za", 2, 15},
	{"PL", "A1C3SOZRARQ6R3", "EU", "PLN", "pl_PL", "www.amazon.pl", "Amazon.pl", 2, 23},
	{"EG", "ARBP9OOSHTCHU", "EU", "EGP", "ar_AE", "www.amazon.eg", "Amazon.eg", 2, 14},
	{"TR", "A33AVAJ2PDY3EV", "EU", "TRY", "tr_TR", "www.amazon.com.tr", "Amazon.com.tr", 2, 20},
	{"SA", "A17E79C6D8DWNP", "EU", "SAR", "ar_AE", "www.amazon.sa", "Amazon.sa", 2, 15},
	{"AE", "A2VIGQ35RCS4UG", "EU", "AED", "en_AE", "www.amazon.ae", "Amazon.ae", 2, 5},
	{"IN", "A21TJRUUN4KGV", "EU", "INR", "en_IN", "www.amazon.in", "Amazon.in", 2, 18},
	{"SG", "A19VAU5U5O7RUS", "FE", "SGD", "en_SG", "www.amazon.sg", "Amazon.sg", 2, 9},
	{"AU", "A39IBJ37TRP1C6", "FE", "AUD", "en_AU", "www.amazon.com.au", "Amazon.com.au", 2, 10},
	{"JP", "A1VC38T7YXB528", "FE", "JPY", "ja_JP", "www.amazon.co.jp", "Amazon.co.jp", 0, 10},
};

const Marketplace *
marketplace_by_id(const char *id)
{
	for (size_t i = 0; i < MARKETPLACE_COUNT; i++)
		if (strcmp(marketplaces[i].id, id) == 0)
			return &marketplaces[i];
	return NULL;
}

const Marketplace *
marketplace_by_any(const char *id_or_country)
{
	for (size_t i = 0; i < MARKETPLACE_COUNT; i++)
		if (strcmp(marketplaces[i].id, id_or_country) == 0 || strcmp(marketplaces[i].country, id_or_country) == 0)
			return &marketplaces[i];
	return NULL;
}

/* A JSON number in minor units; *exact says whether it had no more decimals than the currency. */
int64_t
money_from_number(const json_t *number, int decimals, bool *exact)
{
	double scaled = json_number_value(number) * pow(10, decimals);
	double rounded = round(scaled);

	*exact = fabs(scaled - rounded) < 1e-6 * fmax(1, fabs(scaled) * 1e-6);
	return (int64_t) rounded;
}

char *
money_text(int64_t minor, int decimals, char out[32])
{
	if (decimals == 0)
		snprintf(out, 32, "%lld", (long long) minor);
	else
		snprintf(out, 32, "%s%lld.%02lld", minor < 0 ? "-" : "", (long long) llabs(minor) / 100,
				 (long long) llabs(minor) % 100);
	return out;
}

json_t *
money_json(int64_t minor, const Marketplace *market)
{
	char text[32];

	return json_pack("{s:s, s:s}", "amount", money_text(minor, market->decimals, text), "currencyCode", market->currency);
}
