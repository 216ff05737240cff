/*
 * orders.c: the orders that exist, searchOrders and getOrder (Orders 2026-01-01).
 *
 * A search ends two minutes before now at the latest and echoes where it ended. Pages follow (time, order id), so an
 * order that changes during the walk moves into the next window instead of shifting the pages.
 */
#include "sim.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_LIFETIME (24 * HOUR)
#define MILLISECOND    1000

static Table *orders;

void
orders_reset(void)
{
	table_free(orders, NULL);
	orders = table_new();
}

static void
order_item_free(void *value)
{
	OrderItem *item = value;

	free(item->sku);
	free(item->title);
	free(item->condition);
	free(item->cancel_request);
	free(item->cancel_by);
	free(item->cancel_reason);
	free(item);
}

void
order_free(void *value)
{
	Order *order = value;

	list_free(&order->items, order_item_free);
	json_decref(order->address);
	json_decref(order->programs);
	json_decref(order->packages);
	json_decref(order->references);
	json_decref(order->invoices);
	free(order->buyer_name);
	free(order->buyer_email);
	free(order->buyer_company);
	free(order->seller_order_id);
	free(order->told);
	free(order);
}

Order *
order_find(const char *id)
{
	return table_get(orders, id);
}

void
order_forget(const Order *order)
{
	table_remove(orders, order->id);
}

Order *
order_new(Seller *seller, const Marketplace *market)
{
	Order *order = xalloc(sizeof(Order));

	do
		snprintf(order->id, sizeof(order->id), "%03d-%07d-%07d", (int) random_below(900) + 100,
				 (int) random_below(10000000), (int) random_below(10000000));
	while (order_find(order->id) != NULL);
	order->seller = seller;
	order->market = market;
	order->created = clock_now();
	order->created -= order->created % MILLISECOND;
	order->updated = order->created;
	order->status = order->paid_status = "UNSHIPPED";
	order->packages = json_array();
	order->references = json_object();
	table_put(orders, order->id, order);
	list_add(&seller->orders, order);
	return order;
}

/* Every change moves the time of the last update, by a millisecond at least. */
void
order_touch(Order *order)
{
	Micros now = clock_now();

	now -= now % MILLISECOND;
	order->updated = now > order->updated ? now : order->updated + MILLISECOND;
	free(order->told);
	order->told = NULL;
	notify_order(order, "OrderStatusChange", "");
}

typedef struct Search
{
	const json_t *markets;
	const json_t *statuses;
	const json_t *fulfilled_by;
	bool by_creation;
	Micros from;
	Micros to;
	Micros after_time; /* the position: only orders behind it */
	const char *after_id;
} Search;

static Micros
order_time(const Order *order, bool by_creation)
{
	return by_creation ? order->created : order->updated;
}

static bool
parameters_allowed(Call *call)
{
	const json_t *query = call->query;
	bool created = json_object_get(query, "createdAfter") != NULL;
	bool updated = json_object_get(query, "lastUpdatedAfter") != NULL;
	int64_t before;
	int64_t after;

	if (created == updated)
		call_violation(call, 400, "InvalidInput", "Exactly one of createdAfter and lastUpdatedAfter is required.");
	else if (json_object_get(query, created ? "lastUpdatedBefore" : "createdBefore") != NULL)
		call_violation(call, 400, "InvalidInput", "%s cannot be used with %s.",
					   created ? "lastUpdatedBefore" : "createdBefore", created ? "createdAfter" : "lastUpdatedAfter");
	if (call->status != 0)
		return false;
	after = json_get_int(query, created ? "createdAfter" : "lastUpdatedAfter", 0);
	before = json_get_int(query, created ? "createdBefore" : "lastUpdatedBefore", INT64_MAX);
	if (before < after)
		call_violation(call, 400, "InvalidInput", "The end of the interval is before its start.");
	else if (before != INT64_MAX && before > clock_now() - (Micros) (settings.order_lag * (double) SECOND))
		call_violation(call, 400, "InvalidInput", "The end of the interval is not at least two minutes before now.");
	else if (after > clock_now())
		call_violation(call, 400, "InvalidInput", "The start of the interval is in the future.");
	return call->status == 0 && validate_markets(call, json_object_get(query, "marketplaceIds"));
}

static bool
order_fits(const Order *order, const Search *search)
{
	Micros when = order_time(order, search->by_creation);

	if (when < search->from || when > search->to || when < search->after_time)
		return false;
	if (search->after_id != NULL && when == search->after_time && strcmp(order->id, search->after_id) <= 0)
		return false;
	return (search->markets == NULL || json_array_has(search->markets, order->market->id)) &&
		   (search->statuses == NULL || json_array_has(search->statuses, order->status)) &&
		   (search->fulfilled_by == NULL || json_array_has(search->fulfilled_by, order->fba ? "AMAZON" : "MERCHANT"));
}

static int
compare_created(const void *left, const void *right)
{
	const Order *a = *(Order *const *) left;
	const Order *b = *(Order *const *) right;

	return a->created != b->created ? (a->created < b->created ? -1 : 1) : strcmp(a->id, b->id);
}

static int
compare_updated(const void *left, const void *right)
{
	const Order *a = *(Order *const *) left;
	const Order *b = *(Order *const *) right;

	return a->updated != b->updated ? (a->updated < b->updated ? -1 : 1) : strcmp(a->id, b->id);
}

static void
find(const Call *call, const Search *search, List *found)
{
	for (size_t i = 0; i < call->seller->orders.count; i++)
		if (order_fits(call->seller->orders.at[i], search))
			list_add(found, call->seller->orders.at[i]);
	if (found->count > 1)
		qsort(found->at, found->count, sizeof(void *), search->by_creation ? compare_created : compare_updated);
}

/* A token says where the window ends, where the next page begins, and where the page before it began. */
static char *
next_token(const Search *search, const Order *last, uint64_t binding)
{
	return page_token(binding,
					  json_pack("[I, I, s, I, s]", (json_int_t) search->to,
								(json_int_t) order_time(last, search->by_creation), last->id,
								(json_int_t) search->after_time, search->after_id == NULL ? "" : search->after_id));
}

static void
take_position(Search *search, const json_t *position, bool page_before)
{
	search->to = json_integer_value(json_array_get(position, 0));
	search->after_time = json_integer_value(json_array_get(position, page_before ? 3 : 1));
	search->after_id = json_string_value(json_array_get(position, page_before ? 4 : 2));
}

/* A number that stands for what of an order is to be shown. */
static uint64_t
order_form(const Call *call)
{
	char *included = json_dumps(json_object_get(call->query, "includedData"), JSON_COMPACT);
	uint64_t form = hash_text(included == NULL ? "" : included, call->application->personal ? 1 : 2);

	free(included);
	return form;
}

/* An order that has not changed is not printed again: a shop reads the same ones day after day. */
static const char *
order_text(const Call *call, Order *order, uint64_t form)
{
	json_t *shown;

	if (order->told != NULL && order->told_form == form)
		return order->told;
	shown = order_json(order, json_object_get(call->query, "includedData"), call->application->personal);
	free(order->told);
	order->told = json_dumps(shown, JSON_COMPACT);
	order->told_form = form;
	json_decref(shown);
	return order->told;
}

/* The members of the answer beside the orders. */
static json_t *
page_frame(const Search *search, const List *found, size_t size, uint64_t binding)
{
	json_t *frame = json_pack("{s:o}", search->by_creation ? "createdBefore" : "lastUpdatedBefore", time_json(search->to));

	if (found->count > size)
	{
		char *token = next_token(search, found->at[size - 1], binding);

		json_object_set_new(frame, "pagination", json_pack("{s:s}", "nextToken", token));
		free(token);
	}
	return frame;
}

static void
answer_page(Call *call, const Search *search, uint64_t binding)
{
	size_t size = (size_t) json_get_int(call->query, "maxResultsPerPage", 100);
	uint64_t form = order_form(call);
	List found = {0};
	char *text;
	size_t length;
	FILE *page = open_memstream(&text, &length);
	json_t *frame;
	char *rest;

	find(call, search, &found);
	frame = page_frame(search, &found, size, binding);
	rest = json_dumps(frame, JSON_COMPACT);
	fputs("{\"orders\":[", page);
	for (size_t i = 0; i < found.count && i < size; i++)
	{
		if (i > 0)
			fputc(',', page);
		fputs(order_text(call, found.at[i], form), page);
	}
	fprintf(page, "],%s", rest + 1);
	fclose(page);
	free(rest);
	json_decref(frame);
	list_free(&found, NULL);
	call_bytes(call, 200, "application/json", text, length);
}

/* GET /orders/2026-01-01/orders */
void
orders_search(Call *call)
{
	const char *token = json_get_text(call->query, "paginationToken");
	const char *problem = NULL;
	json_t *position = NULL;
	Search search = {0};
	uint64_t binding;

	if (!parameters_allowed(call))
		return;
	search.markets = json_object_get(call->query, "marketplaceIds");
	search.statuses = json_object_get(call->query, "fulfillmentStatuses");
	search.fulfilled_by = json_object_get(call->query, "fulfilledBy");
	search.by_creation = json_object_get(call->query, "createdAfter") != NULL;
	search.from = json_get_int(call->query, search.by_creation ? "createdAfter" : "lastUpdatedAfter", 0);
	search.to = clock_now() - (Micros) (settings.order_lag * (double) SECOND);
	search.to -= search.to % MILLISECOND;
	search.to = json_get_int(call->query, search.by_creation ? "createdBefore" : "lastUpdatedBefore", search.to);
	binding = page_binding(call, "paginationToken,maxResultsPerPage,includedData");
	if (token != NULL)
		position = page_open(token, binding, TOKEN_LIFETIME, &problem);
	if (problem != NULL)
	{
		call_fail(call, 400, "InvalidInput", "%s", problem);
		return;
	}
	if (position != NULL)
		take_position(&search, position, call->fault != NULL && call->fault->kind == FAULT_DUPLICATE_PAGE);
	if (position != NULL && call->fault != NULL && call->fault->kind == FAULT_EMPTY_PAGE)
		search.from = search.to + 1;
	answer_page(call, &search, binding);
	json_decref(position);
}

static bool
order_id_has_form(const char *id)
{
	static const char form[] = "ddd-ddddddd-ddddddd";

	if (strlen(id) != sizeof(form) - 1)
		return false;
	for (size_t i = 0; form[i] != '\0'; i++)
		if (form[i] == 'd' ? !isdigit((unsigned char) id[i]) : id[i] != '-')
			return false;
	return true;
}

/* The order of the path, if it is this seller's; else the call is answered. */
Order *
order_of_call(Call *call)
{
	const char *id = call->argument[0];
	Order *order = order_find(id);

	if (!order_id_has_form(id))
		call_violation(call, 400, "InvalidInput", "'%s' is not an order id.", id);
	else if (order == NULL || order->seller != call->seller)
		call_fail(call, 404, "NotFound", "The order '%s' was not found.", id);
	return call->status == 0 ? order : NULL;
}

/* GET /orders/2026-01-01/orders/{orderId} */
void
orders_get(Call *call)
{
	const Order *order = order_of_call(call);

	if (order != NULL)
		call_answer(call, 200,
					json_pack("{s:o}", "order",
							  order_json(order, json_object_get(call->query, "includedData"), call->application->personal)));
}
