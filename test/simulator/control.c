/*
 * control.c: the door for tests, under /_control/. It is no part of SP-API, takes no token and obeys no usage plan.
 *
 * Each path is a row of the table at the end: method, first part of the path, handler. README.md describes them with
 * examples.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

typedef struct Control
{
	Call *call;
	json_t *spec;  /* body, an empty object when there is none */
	json_t *query; /* text by name */
	char *rest;    /* of the path, decoded, "" when there is none */
	char *problem;
} Control;

typedef json_t *(*ControlAction)(Control *control);

static Seller *
control_seller(const Control *control, const json_t *spec)
{
	const char *id = json_get_text(spec, "seller");

	(void) control;
	return seller_get(id == NULL ? "A1DEMOSELLER" : id);
}

static int64_t
query_number(const Control *control, const char *name, int64_t fallback)
{
	const char *text = json_get_text(control->query, name);

	return text == NULL ? fallback : strtoll(text, NULL, 10);
}

static json_t *
get_clock(Control *control)
{
	(void) control;
	return json_pack("{s:o, s:o, s:f, s:I}", "now", time_json(clock_now()), "real", time_json(clock_real()),
					 "time_scale", clock_scale(), "events_pending", (json_int_t) events_pending());
}

static json_t *
set_clock(Control *control)
{
	double scale = json_get_number(control->spec, "time_scale", clock_scale());
	double advance = json_get_number(control->spec, "advance", 0);

	if (scale < 0 || advance < 0)
	{
		control->problem = xstrdup("time does not run backwards");
		return NULL;
	}
	clock_set_scale(scale);
	clock_advance(advance);
	events_run();
	return get_clock(control);
}

static json_t *
get_settings(Control *control)
{
	(void) control;
	return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:b, s:b, s:b, s:b, s:I}", "rate_scale",
					 settings.rate_scale, "forgiven", settings.forgiven, "time_scale", clock_scale(), "verdict_delay",
					 settings.verdict_delay, "feed_rate", settings.feed_rate, "order_lag", settings.order_lag,
					 "finance_lag", settings.finance_lag, "date_skew", settings.date_skew, "strict_user_agent",
					 settings.strict_user_agent, "strict_ship_date", settings.strict_ship_date, "restock_on_cancel",
					 settings.restock_on_cancel, "compress", settings.compress, "report_error",
					 (json_int_t) settings.report_error);
}

static json_t *
set_settings(Control *control)
{
	const json_t *spec = control->spec;
	json_t *known = get_settings(control);
	const char *name;
	json_t *value;

	json_object_foreach((json_t *) spec, name, value)
	{
		if (json_object_get(known, name) == NULL)
			control->problem = xprintf("there is no setting \"%s\"", name);
	}
	json_decref(known);
	if (control->problem != NULL)
		return NULL;
	settings.rate_scale = json_get_number(spec, "rate_scale", settings.rate_scale);
	settings.forgiven = json_get_number(spec, "forgiven", settings.forgiven);
	settings.verdict_delay = json_get_number(spec, "verdict_delay", settings.verdict_delay);
	settings.feed_rate = json_get_number(spec, "feed_rate", settings.feed_rate);
	settings.order_lag = json_get_number(spec, "order_lag", settings.order_lag);
	settings.finance_lag = json_get_number(spec, "finance_lag", settings.finance_lag);
	settings.date_skew = json_get_number(spec, "date_skew", settings.date_skew);
	settings.strict_user_agent = json_get_bool(spec, "strict_user_agent", settings.strict_user_agent);
	settings.strict_ship_date = json_get_bool(spec, "strict_ship_date", settings.strict_ship_date);
	settings.restock_on_cancel = json_get_bool(spec, "restock_on_cancel", settings.restock_on_cancel);
	settings.compress = json_get_bool(spec, "compress", settings.compress);
	settings.report_error = json_get_int(spec, "report_error", settings.report_error);
	if (json_object_get(spec, "time_scale") != NULL)
		clock_set_scale(json_get_number(spec, "time_scale", 1));
	return get_settings(control);
}

static json_t *
lwa_action(Control *control, const char *what)
{
	return lwa_control(what, control->spec, &control->problem);
}

static json_t *
set_application(Control *control)
{
	return lwa_action(control, "applications");
}

static json_t *
rotate_secret(Control *control)
{
	return lwa_action(control, "rotate");
}

static json_t *
set_refresh_token(Control *control)
{
	return lwa_action(control, "refresh_tokens");
}

static json_t *
set_code(Control *control)
{
	return lwa_action(control, "codes");
}

static json_t *
expire_tokens(Control *control)
{
	return lwa_action(control, "expire");
}

static json_t *
get_lwa(Control *control)
{
	(void) control;
	return lwa_json();
}

static json_t *
seller_json(const Seller *seller)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:O, s:O, s:I, s:I}", "seller", seller->id, "region", seller->region,
					 "store_name", seller->store_name, "plan", seller->plan, "absent", seller->absent, "suspended",
					 seller->suspended, "items", (json_int_t) seller->item_list.count, "orders",
					 (json_int_t) seller->orders.count);
}

static bool
list_seller(const char *key, void *value, void *arg)
{
	(void) key;
	json_array_append_new(arg, seller_json(value));
	return true;
}

static json_t *
get_sellers(Control *control)
{
	json_t *list = json_array();

	(void) control;
	sellers_each(list_seller, list);
	return json_pack("{s:o}", "sellers", list);
}

static void
replace_text(char **target, const char *text)
{
	if (text == NULL)
		return;
	free(*target);
	*target = xstrdup(text);
}

static void
replace_list(json_t **target, json_t *list)
{
	if (!json_is_array(list))
		return;
	json_decref(*target);
	*target = json_deep_copy(list);
}

static json_t *
set_seller(Control *control)
{
	Seller *seller = control_seller(control, control->spec);
	const char *region = json_get_text(control->spec, "region");

	if (region != NULL && !text_is_one_of(region, "NA,EU,FE"))
	{
		control->problem = xstrdup("region is NA, EU or FE");
		return NULL;
	}
	replace_text(&seller->region, region);
	replace_text(&seller->store_name, json_get_text(control->spec, "store_name"));
	replace_text(&seller->plan, json_get_text(control->spec, "plan"));
	replace_list(&seller->absent, json_object_get(control->spec, "absent"));
	replace_list(&seller->suspended, json_object_get(control->spec, "suspended"));
	return seller_json(seller);
}

static json_t *
get_eans(Control *control)
{
	return json_pack("{s:o}", "eans",
					 catalog_eans(json_get_text(control->query, "outcome"), query_number(control, "count", 10),
								  query_number(control, "from", 0), &control->problem));
}

/* A whole listing, in every marketplace, and what only the simulator knows of it. */
static json_t *
listing_json(const Item *item)
{
	json_t *markets = json_array();
	json_t *all = json_pack("[s, s, s, s, s, s]", "summaries", "attributes", "issues", "offers",
							"fulfillmentAvailability", "productTypes");
	json_t *answer;

	for (size_t i = 0; i < MARKETPLACE_COUNT; i++)
		json_array_append_new(markets, json_string(marketplaces[i].id));
	answer = item_json(item, markets, all);
	if (answer == NULL)
		answer = json_pack("{s:s, s:b}", "sku", item->sku, "deleted", !item->lost);
	json_object_set_new(answer, "live",
						json_pack("{s:I, s:I, s:b, s:I}", "quantity", (json_int_t) item->quantity, "sold",
								  (json_int_t) item->sold, "fba", item->fba, "fba_quantity",
								  (json_int_t) item->fba_quantity));
	json_decref(all);
	json_decref(markets);
	return answer;
}

static json_t *
get_listings(Control *control)
{
	const Seller *seller = control_seller(control, control->query);
	const char *sku = json_get_text(control->query, "sku");
	int64_t limit = query_number(control, "limit", 1000);
	json_t *list = json_array();

	for (size_t i = 0; i < seller->item_list.count && (int64_t) json_array_size(list) < limit; i++)
	{
		const Item *item = seller->item_list.at[i];

		if (sku == NULL || strcmp(sku, item->sku) == 0)
			json_array_append_new(list, listing_json(item));
	}
	return json_pack("{s:I, s:o}", "count", (json_int_t) seller->item_list.count, "listings", list);
}

/* Numbers for a dashboard: how many offers are in which state, per marketplace. */
static json_t *
get_summary(Control *control)
{
	const Seller *seller = control_seller(control, control->query);
	json_t *summary = json_object();

	for (size_t i = 0; i < seller->item_list.count; i++)
	{
		const Item *item = seller->item_list.at[i];

		for (size_t j = 0; j < item->offers.count; j++)
		{
			const Offer *offer = item->offers.at[j];
			json_t *status = item_status(item, offer);
			const char *state = json_array_has(status, "BUYABLE")        ? "buyable"
								: !offer->judged                         ? "waiting"
								: issues_have_error(offer->issues)       ? "rejected"
								: json_array_has(status, "DISCOVERABLE") ? "discoverable"
																		 : "other";
			json_t *market = json_object_get(summary, offer->market->country);

			json_decref(status);
			if (market == NULL)
			{
				market = json_object();
				json_object_set_new(summary, offer->market->country, market);
			}
			json_object_set_new(market, state, json_integer(json_get_int(market, state, 0) + 1));
		}
	}
	return summary;
}

static void
set_live_price(const Item *item, const json_t *spec, char **problem)
{
	const char *name = json_get_text(spec, "marketplace");
	const Marketplace *market = name == NULL ? NULL : marketplace_by_any(name);
	Offer *offer = market == NULL ? NULL : item_offer(item, market);
	bool exact;

	if (offer == NULL)
	{
		*problem = xstrdup("a price needs the marketplace of an existing offer");
		return;
	}
	offer->price = money_from_number(json_object_get(spec, "price"), market->decimals, &exact);
	offer->has_price = true;
	offer->updated = clock_now();
}

/* Somebody else (another program, the portal) changes live stock or price. */
static json_t *
set_listing(Control *control)
{
	const json_t *spec = control->spec;
	const char *sku = json_get_text(spec, "sku");
	Item *item = sku == NULL ? NULL : item_find(control_seller(control, spec), sku);

	if (item == NULL)
	{
		control->problem = xstrdup("sku names no listing of the seller");
		return NULL;
	}
	if (json_object_get(spec, "quantity") != NULL)
	{
		item->quantity = json_get_int(spec, "quantity", 0);
		item->has_quantity = true;
	}
	item->fba_quantity = json_get_int(spec, "fba_quantity", item->fba_quantity);
	if (json_is_number(json_object_get(spec, "price")))
		set_live_price(item, spec, &control->problem);
	return control->problem != NULL ? NULL : listing_json(item);
}

static json_t *
place_orders(Control *control)
{
	Order *order;
	char *slash;

	if (*control->rest == '\0')
		return orders_place(control->spec, &control->problem);
	slash = strchr(control->rest, '/');
	if (slash != NULL)
		*slash = '\0';
	order = order_find(control->rest);
	if (order == NULL || slash == NULL)
	{
		control->problem = xstrdup("the path is orders/{orderId}/{action}");
		return NULL;
	}
	return order_control(order, slash + 1, control->spec, &control->problem);
}

static json_t *
get_orders(Control *control)
{
	const Seller *seller = control_seller(control, control->query);
	const Order *order = *control->rest == '\0' ? NULL : order_find(control->rest);
	json_t *list = json_array();

	if (*control->rest != '\0' && order == NULL)
		control->problem = xstrdup("there is no such order");
	for (size_t i = 0; i < seller->orders.count && *control->rest == '\0'; i++)
		json_array_append_new(list, order_control_json(seller->orders.at[i]));
	if (order != NULL)
		json_array_append_new(list, order_control_json(order));
	return json_pack("{s:o}", "orders", list);
}

static json_t *
get_faults(Control *control)
{
	(void) control;
	return json_pack("{s:o}", "faults", faults_json());
}

static json_t *
add_fault(Control *control)
{
	return fault_add(control->spec, &control->problem);
}

static json_t *
remove_faults(Control *control)
{
	if (*control->rest == '\0')
		faults_reset();
	else if (!fault_remove(strtoll(control->rest, NULL, 10)))
		control->problem = xstrdup("there is no such fault");
	return get_faults(control);
}

static json_t *
get_statistics(Control *control)
{
	(void) control;
	return stats_json();
}

static json_t *
get_violations(Control *control)
{
	(void) control;
	return stats_violations();
}

static json_t *
get_arrivals(Control *control)
{
	const char *operation = json_get_text(control->query, "operation");

	if (operation != NULL)
		return json_pack("{s:o}", "arrivals", stats_arrivals(operation, query_number(control, "limit", 1000)));
	control->problem = xstrdup("operation is needed");
	return NULL;
}

static json_t *
get_writes(Control *control)
{
	return json_pack("{s:o}", "writes", writes_json(query_number(control, "limit", 65536)));
}

static json_t *
get_requests(Control *control)
{
	return json_pack("{s:o}", "requests",
					 stats_requests(json_get_text(control->query, "operation"), query_number(control, "limit", 100)));
}

/* What reports of a type contain from now on. */
static json_t *
set_report(Control *control)
{
	if (json_get_text(control->spec, "type") == NULL)
		control->problem = xstrdup("type is needed, with status and content, or alone");
	else
		report_script(control->spec);
	return json_pack("{s:b}", "set", true);
}

/* Amazon changes a definition: a new version, which may require an attribute more. */
static json_t *
change_product_type(Control *control)
{
	const char *name = json_get_text(control->spec, "product_type");

	if (name == NULL || !product_type_exists(name))
		control->problem = xstrdup("product_type is needed, one that there is, and required if an attribute becomes so");
	else
		product_type_change(name, json_get_text(control->spec, "required"));
	return json_pack("{s:b}", "set", true);
}

static json_t *
get_queues(Control *control)
{
	(void) control;
	return queues_json();
}

/* Amazon, or anybody, puts a message into a queue. */
static json_t *
send_message(Control *control)
{
	const char *arn = json_get_text(control->spec, "arn");
	const json_t *body = json_object_get(control->spec, "body");
	char *text = json_is_string(body) ? xstrdup(json_string_value(body)) : json_dumps(body, JSON_COMPACT);

	if (arn == NULL || text == NULL)
		control->problem = xstrdup("arn and body are needed");
	else
		queue_send(arn, text);
	free(text);
	return get_queues(control);
}

static json_t *
get_hooks(Control *control)
{
	(void) control;
	return hooks_json();
}

static json_t *
set_hook(Control *control)
{
	const char *name = json_get_text(control->spec, "name");

	if (name == NULL)
		control->problem = xstrdup("name is needed, and secret if it is signed");
	else
		hook_expect(name, json_get_text(control->spec, "secret"));
	return hooks_json();
}

static json_t *
get_mails(Control *control)
{
	(void) control;
	return mails_json();
}

/* Who may send, or what shall fail. */
static json_t *
set_mail(Control *control)
{
	const char *at = json_get_text(control->spec, "fail_at");

	if (at != NULL)
		mail_fail(at, json_get_int(control->spec, "code", 451), json_get_int(control->spec, "count", 1));
	else
		mail_expect(json_get_text(control->spec, "user"), json_get_text(control->spec, "password"));
	return mails_json();
}

static json_t *
reset_statistics(Control *control)
{
	stats_reset();
	writes_reset();
	return get_statistics(control);
}

/* Everything as at the start, except settings and the clock. */
static json_t *
reset_all(Control *control)
{
	(void) control;
	state_generation++;
	events_clear();
	orders_reset();
	lwa_reset();
	sellers_reset();
	documents_reset();
	product_types_reset();
	report_scripts_reset();
	notifications_reset();
	queues_reset();
	hooks_reset();
	mail_reset();
	faults_reset();
	rate_reset();
	stats_reset();
	writes_reset();
	return json_pack("{s:b}", "reset", true);
}

static json_t *
reset_rates(Control *control)
{
	(void) control;
	rate_reset();
	return json_pack("{s:b}", "reset", true);
}

typedef struct ControlPath
{
	const char *method;
	const char *path;
	ControlAction action;
} ControlPath;

static const ControlPath paths[] = {
	{"GET", "clock", get_clock},
	{"POST", "clock", set_clock},
	{"GET", "settings", get_settings},
	{"POST", "settings", set_settings},
	{"GET", "lwa", get_lwa},
	{"POST", "applications", set_application},
	{"POST", "rotate", rotate_secret},
	{"POST", "refresh_tokens", set_refresh_token},
	{"POST", "codes", set_code},
	{"POST", "expire_tokens", expire_tokens},
	{"GET", "sellers", get_sellers},
	{"POST", "sellers", set_seller},
	{"GET", "catalog/eans", get_eans},
	{"GET", "listings", get_listings},
	{"POST", "listings", set_listing},
	{"GET", "summary", get_summary},
	{"POST", "orders", place_orders},
	{"GET", "orders", get_orders},
	{"GET", "faults", get_faults},
	{"POST", "faults", add_fault},
	{"DELETE", "faults", remove_faults},
	{"POST", "reports", set_report},
	{"POST", "product_types", change_product_type},
	{"GET", "queues", get_queues},
	{"POST", "queues", send_message},
	{"GET", "hooks", get_hooks},
	{"POST", "hooks", set_hook},
	{"GET", "mails", get_mails},
	{"POST", "mails", set_mail},
	{"GET", "stats", get_statistics},
	{"GET", "violations", get_violations},
	{"GET", "arrivals", get_arrivals},
	{"GET", "requests", get_requests},
	{"GET", "writes", get_writes},
	{"POST", "stats/reset", reset_statistics},
	{"POST", "rates/reset", reset_rates},
	{"POST", "reset", reset_all},
};

static const ControlPath *
find_path(const char *method, const char *path)
{
	for (size_t i = 0; i < lengthof(paths); i++)
	{
		size_t length = strlen(paths[i].path);

		if (strcmp(paths[i].method, method) == 0 && strncmp(paths[i].path, path, length) == 0 &&
			(path[length] == '\0' || path[length] == '/'))
			return &paths[i];
	}
	return NULL;
}

static json_t *
read_query(const char *text)
{
	json_t *query = json_object();

	while (text != NULL && *text != '\0')
	{
		size_t length = strcspn(text, "&");
		size_t name = strcspn(text, "=&");
		const char *problem = NULL;

		if (name < length)
		{
			char *key = strndup(text, name);
			char *value = percent_decode(text + name + 1, length - name - 1, &problem);

			json_object_set_new(query, key, json_string(value));
			free(key);
			free(value);
		}
		text += length + (text[length] == '&' ? 1 : 0);
	}
	return query;
}

void
control_run(Call *call)
{
	const char *path = call->path + strlen("/_control/");
	const ControlPath *found = find_path(call->method, path);
	const char *rest = found == NULL ? "" : path + strlen(found->path);
	const char *ignored = NULL;
	Control control = {.call = call};
	json_t *answer = NULL;

	rest += *rest == '/';
	control.rest = percent_decode(rest, strlen(rest), &ignored);
	control.query = read_query(call->query_text);
	control.spec = call->input_length > 0 ? json_loadb(call->input, call->input_length, 0, NULL) : json_object();
	if (found == NULL)
		control.problem = xprintf("no such control: %s %s", call->method, call->path);
	else if (!json_is_object(control.spec))
		control.problem = xstrdup("the body is not a JSON object");
	else
		answer = found->action(&control);
	if (control.problem != NULL)
	{
		json_decref(answer);
		answer = json_pack("{s:s}", "error", control.problem);
	}
	call_answer(call, control.problem == NULL ? 200 : found == NULL ? 404 : 400, answer);
	json_decref(control.spec);
	json_decref(control.query);
	free(control.rest);
	free(control.problem);
}
