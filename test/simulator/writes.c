/*
 * writes.c: every price and quantity that Amazon took, in the order in which they took effect, by single calls and feeds
 * alike: what a test needs to see whether one write overtook another. A ring, so a long run does not grow.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define WRITES 65536

static json_t *written[WRITES];
static int64_t written_count;

void
writes_reset(void)
{
	for (size_t i = 0; i < WRITES; i++)
	{
		json_decref(written[i]);
		written[i] = NULL;
	}
	written_count = 0;
}

static void
note(const Submission *submission, const char *market_id, const char *facet, const json_t *value)
{
	json_t *entry;

	if (!json_is_number(value))
		return;
	entry = json_pack("{s:I, s:I, s:s, s:s, s:s*, s:O, s:s*}", "at", (json_int_t) clock_real(), "sent",
					  (json_int_t) submission->sent, "sku", submission->sku, "facet", facet, "marketplaceId", market_id,
					  "value", value, "feedId", submission->feed_id);
	json_decref(written[written_count % WRITES]);
	written[written_count++ % WRITES] = entry;
}

static const json_t *
first_of(const json_t *object, const char *name)
{
	return json_array_get(json_object_get(object, name), 0);
}

/* These are the attributes as they are now; only what the submission touched is a write. */
void
writes_note(const Submission *submission, const json_t *attributes, bool price, bool quantity)
{
	size_t i;
	json_t *id;

	json_array_foreach(submission->market_ids, i, id)
	{
		const json_t *offer = attribute_instance(attributes, "purchasable_offer", "marketplace_id", json_string_value(id));

		if (price)
			note(submission, json_string_value(id), "price",
				 json_object_get(first_of(first_of(offer, "our_price"), "schedule"), "value_with_tax"));
	}
	if (quantity)
		note(submission, NULL, "quantity",
			 json_object_get(attribute_instance(attributes, "fulfillment_availability", "fulfillment_channel_code", "DEFAULT"),
							 "quantity"));
}

/* The last ones, the oldest first. */
json_t *
writes_json(int64_t limit)
{
	json_t *list = json_array();
	int64_t most = limit < WRITES ? limit : WRITES;

	for (int64_t i = written_count > most ? written_count - most : 0; i < written_count; i++)
		json_array_append(list, written[i % WRITES]);
	return list;
}
