/*
 * order_place.c: buyers. Orders placed through the control endpoint, named or at random, and what happens to them
 * afterwards: paid, cancelled, asked to be cancelled, delivered.
 *
 * Amazon lowers the live merchant quantity when an order is placed, a pending one too. It gives nothing back on a
 * cancellation unless settings.restock_on_cancel or the request says so.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Person
{
	const char *countries;
	const char *name;
	const char *street;
	const char *more;
	const char *city;
	const char *state;
	const char *postal_code;
	const char *phone;
} Person;

static const Person people[] = {
	{"DE", "Jörg Größe-Müßig", "Königstraße 12 a", "Hinterhaus, 3. OG", "Köln", "Nordrhein-Westfalen", "50667",
	 "+49 221 5550101"},
	{"DE", "Änne Öztürk", "Straße des 17. Juni 135", NULL, "Berlin", "Berlin", "10623", "+49 30 5550102"},
	{"DE", "Kerstin Weiß", "Schloßplatz 4", "c/o Müller & Söhne", "München", "Bayern", "80331", "+49 89 5550103"},
	{"FR,BE", "Zoé Lefèvre", "12 bis, rue de l'Évêché", "Bâtiment C, 2ᵉ étage", "Besançon", "Bourgogne-Franche-Comté",
	 "25000", "+33 3 55 50 10 04"},
	{"FR,BE", "François Œuvrard", "7 allée des Chênes", NULL, "Nîmes", "Occitanie", "30000", "+33 4 55 50 10 05"},
	{"FR,BE", "Maëlys Garçon", "Lieu-dit « Le Bois d'Aÿ »", NULL, "L'Haÿ-les-Roses", "Île-de-France", "94240",
	 "+33 1 55 50 10 06"},
	{"JP", "佐藤 美咲", "丸の内1丁目9番1号", "グラントウキョウ 12階", "千代田区", "東京都", "100-0005", "03-5555-0107"},
	{"JP", "髙橋 一郎", "梅田三丁目１−３", NULL, "大阪市北区", "大阪府", "530-0001", "06-5555-0108"},
	{"ES,MX", "Íñigo Muñoz Peña", "Calle de la Señora, 5 - 2º B", NULL, "A Coruña", "Galicia", "15001", "+34 981 555 109"},
	{"IT", "Niccolò D'Agostino", "Via dell'Università 3", "Scala A", "Forlì", "FC", "47121", "+39 0543 555110"},
	{"PL", "Łucja Żółć", "ul. Świętokrzyska 14/5", NULL, "Łódź", "łódzkie", "90-001", "+48 42 555 01 11"},
	{"SE", "Åsa Öberg", "Skärgårdsvägen 8", NULL, "Malmö", "Skåne", "211 20", "+46 40 555 0112"},
	{"TR", "İpek Şahin", "Atatürk Caddesi No: 5", NULL, "İzmir", "Konak", "35250", "+90 232 555 0113"},
	{"BR", "João da Conceição", "Rua São José, 90", "Apto 12", "São Paulo", "SP", "01310-100", "+55 11 5555-0114"},
	{"*", "Siobhán O'Neill", "221b Baker's Yard", "Flat 3", "Galway", "Connacht", "H91 E9K2", "+353 91 555 115"},
	{"*", "Renée Smith", "742 Evergreen Terrace", NULL, "Springfield", "Midlands", "SP1 1AA", "+44 20 5550 116"},
};

static const Person *
pick_person(const char *country)
{
	size_t fitting[lengthof(people)];
	size_t count = 0;

	for (size_t i = 0; i < lengthof(people); i++)
		if (text_is_one_of(country, people[i].countries))
			fitting[count++] = i;
	for (size_t i = 0; count == 0 && i < lengthof(people); i++)
		if (strcmp(people[i].countries, "*") == 0)
			fitting[count++] = i;
	return &people[fitting[random_below(count)]];
}

static void
fill_buyer(Order *order)
{
	const Person *person = pick_person(order->market->country);
	char alias[15];

	random_text(alias, 14);
	order->buyer_name = xstrdup(person->name);
	order->buyer_email = xprintf("%s@marketplace.example.invalid", alias);
	order->address = json_pack("{s:s, s:s, s:s*, s:s, s:s, s:s, s:s, s:s, s:s}", "name", person->name, "addressLine1",
							   person->street, "addressLine2", person->more, "city", person->city, "stateOrRegion",
							   person->state, "postalCode", person->postal_code, "countryCode", order->market->country,
							   "phone", person->phone, "addressType", "RESIDENTIAL");
}

static void
sell(Item *item, const Order *order, int64_t quantity)
{
	int64_t *stock = order->fba ? &item->fba_quantity : &item->quantity;

	*stock = *stock > quantity ? *stock - quantity : 0;
	if (!order->fba)
		item->sold += quantity;
}

static OrderItem *
add_item(Order *order, const char *sku, int64_t quantity)
{
	OrderItem *line = xalloc(sizeof(OrderItem));
	Item *item = item_find(order->seller, sku);
	const Offer *offer = item == NULL ? NULL : item_offer(item, order->market);
	char title[200] = "An item of the catalogue";

	snprintf(line->id, sizeof(line->id), "%014lld", (long long) random_below(100000000000000));
	line->sku = xstrdup(sku);
	line->ordered = quantity;
	line->price = offer != NULL && offer->has_price ? offer_current_price(offer) : 1999;
	snprintf(line->asin, sizeof(line->asin), "%s", offer != NULL && offer->asin[0] != '\0' ? offer->asin : "B0UNKNOWN0");
	if (catalog_exists(line->asin))
		catalog_title(line->asin, title, sizeof(title));
	line->title = xstrdup(title);
	list_add(&order->items, line);
	if (item != NULL)
		sell(item, order, quantity);
	return line;
}

static void
add_named_items(Order *order, const json_t *items, char **problem)
{
	size_t i;
	json_t *spec;

	json_array_foreach(items, i, spec)
	{
		const char *sku = json_get_text(spec, "sku");
		const json_t *price = json_object_get(spec, "price");
		OrderItem *line;
		bool exact;

		if (sku == NULL || *sku == '\0')
		{
			*problem = xstrdup("each item needs a sku");
			return;
		}
		line = add_item(order, sku, json_get_int(spec, "quantity", 1));
		if (json_is_number(price))
			line->price = money_from_number(price, order->market->decimals, &exact);
		if (json_get_text(spec, "asin") != NULL)
			snprintf(line->asin, sizeof(line->asin), "%s", json_get_text(spec, "asin"));
		if (json_get_text(spec, "title") != NULL)
		{
			free(line->title);
			line->title = xstrdup(json_get_text(spec, "title"));
		}
	}
}

static bool
is_live(const Item *item, const Marketplace *market, bool fba)
{
	const Offer *offer = item_offer(item, market);

	return offer != NULL && offer->sellable && item->fba == fba && (fba ? item->fba_quantity : item->quantity) > 0;
}

/* One to `lines` different live offers, one to three units each, never more than there are. */
static bool
add_random_items(Order *order, int64_t lines)
{
	const List *items = &order->seller->item_list;
	int64_t wanted = 1 + (int64_t) random_below((uint64_t) lines);
	size_t start = random_below(items->count);

	for (size_t i = 0; i < items->count && (int64_t) order->items.count < wanted; i++)
	{
		Item *item = items->at[(start + i * 7919) % items->count];
		int64_t stock = order->fba ? item->fba_quantity : item->quantity;
		bool taken = false;

		for (size_t line = 0; line < order->items.count; line++)
			taken = taken || strcmp(((OrderItem *) order->items.at[line])->sku, item->sku) == 0;
		if (!taken && is_live(item, order->market, order->fba))
			add_item(order, item->sku, 1 + (int64_t) random_below((uint64_t) (stock < 3 ? stock : 3)));
	}
	return order->items.count > 0;
}

static const char *
status_by_name(const char *name)
{
	static const char *const statuses[] = {"UNSHIPPED", "PENDING",   "PENDING_AVAILABILITY", "PARTIALLY_SHIPPED",
										   "SHIPPED",   "CANCELLED", "UNFULFILLABLE"};

	for (size_t i = 0; name != NULL && i < lengthof(statuses); i++)
		if (strcmp(statuses[i], name) == 0)
			return statuses[i];
	return name == NULL ? statuses[0] : NULL;
}

static void
take_buyer(Order *order, const json_t *spec)
{
	const char *name = json_get_text(spec, "buyer_name");
	const char *company = json_get_text(spec, "buyer_company");

	fill_buyer(order);
	if (name != NULL)
	{
		free(order->buyer_name);
		order->buyer_name = xstrdup(name);
		json_object_set_new(order->address, "name", json_string(name));
	}
	if (company != NULL)
		order->buyer_company = xstrdup(company);
	if (json_is_object(json_object_get(spec, "address")))
		json_object_update(order->address, json_object_get(spec, "address"));
}

/* An order that could not be filled is taken back before anybody saw it. */
static void
order_undo(Order *order)
{
	order->seller->orders.count--;
	order_forget(order);
	order_free(order);
}

static Order *
place(const json_t *spec, Seller *seller, const Marketplace *market, const char *status, char **problem)
{
	Order *order = order_new(seller, market);
	const char *fulfilled_by = json_get_text(spec, "fulfilled_by");
	const json_t *programs = json_object_get(spec, "programs");
	double ago = json_get_number(spec, "ago", 0);

	order->status = status;
	order->fba = fulfilled_by != NULL && strcmp(fulfilled_by, "AMAZON") == 0;
	order->pickup = json_get_bool(spec, "pickup", false);
	order->shipping = json_get_int(spec, "shipping", 0);
	order->programs = programs != NULL ? json_deep_copy(programs) : json_array();
	order->created -= (Micros) (ago * 1000) * 1000;
	order->updated = order->created;
	take_buyer(order, spec);
	if (json_object_get(spec, "items") != NULL)
		add_named_items(order, json_object_get(spec, "items"), problem);
	else if (seller->item_list.count == 0 || !add_random_items(order, json_get_int(spec, "lines", 3)))
		*problem = xprintf("%s has no live offers in %s", seller->id, market->country);
	if (*problem == NULL && order->items.count > 0)
	{
		notify_order(order, "OrderStatusChange", "");
		return order;
	}
	if (*problem == NULL)
		*problem = xstrdup("an order has at least one item");
	order_undo(order);
	return NULL;
}

/* POST /_control/orders */
json_t *
orders_place(const json_t *spec, char **problem)
{
	const char *seller_id = json_get_text(spec, "seller");
	const char *market_name = json_get_text(spec, "marketplace");
	const Marketplace *market = marketplace_by_any(market_name == NULL ? "DE" : market_name);
	const char *status = status_by_name(json_get_text(spec, "status"));
	int64_t count = json_get_int(spec, "count", 1);
	json_t *placed = json_array();

	if (market == NULL)
		*problem = xprintf("no marketplace is called \"%s\"", market_name);
	else if (status == NULL)
		*problem = xstrdup("status is a fulfillment status in upper case");
	for (int64_t i = 0; i < count && *problem == NULL; i++)
	{
		const Order *order =
			place(spec, seller_get(seller_id == NULL ? "A1DEMOSELLER" : seller_id), market, status, problem);

		if (order != NULL)
			json_array_append_new(placed, order_control_json(order));
	}
	return json_pack("{s:o}", "orders", placed);
}

static void
give_back(const Order *order)
{
	for (size_t i = 0; i < order->items.count; i++)
	{
		const OrderItem *line = order->items.at[i];
		Item *item = item_find(order->seller, line->sku);

		if (item != NULL && order->fba)
			item->fba_quantity += line->ordered;
		else if (item != NULL)
		{
			item->quantity += line->ordered;
			item->sold -= line->ordered;
		}
	}
}

static void
set_text(char **target, const char *text)
{
	free(*target);
	*target = text == NULL ? NULL : xstrdup(text);
}

static void
cancel_lines(Order *order, const char *by, const char *reason)
{
	order->status = "CANCELLED";
	for (size_t i = 0; i < order->items.count; i++)
	{
		OrderItem *line = order->items.at[i];

		set_text(&line->cancel_by, by == NULL ? "BUYER" : by);
		set_text(&line->cancel_reason, reason == NULL ? "Order created by mistake" : reason);
	}
}

/* What is not shipped of one line, or some units of it; the rest goes on. Only orders that are paid have something to go on with. */
static void
cancel_line(Order *order, const json_t *spec, char **problem)
{
	const char *sku = json_get_text(spec, "sku");

	for (size_t i = 0; i < order->items.count; i++)
	{
		OrderItem *line = order->items.at[i];
		int64_t open = line->ordered - line->confirmed;
		int64_t units = json_get_int(spec, "quantity", open);

		if (strcmp(line->sku, sku) != 0)
			continue;
		if (units < 1 || units > open)
			*problem = xprintf("%lld units of %s are open", (long long) open, sku);
		else
		{
			line->ordered -= units;
			set_text(&line->cancel_by, json_get_text(spec, "by") == NULL ? "BUYER" : json_get_text(spec, "by"));
			set_text(&line->cancel_reason, json_get_text(spec, "reason"));
		}
		return;
	}
	*problem = xprintf("the order has no line %s", sku);
}

static void
cancel(Order *order, const json_t *spec, char **problem)
{
	if (json_get_text(spec, "sku") != NULL)
	{
		cancel_line(order, spec, problem);
		return;
	}
	cancel_lines(order, json_get_text(spec, "by"), json_get_text(spec, "reason"));
	if (json_get_bool(spec, "restock", settings.restock_on_cancel))
		give_back(order);
}

/* The seller cancels, by a feed. */
void
order_cancel(Order *order, const char *by, const char *reason)
{
	cancel_lines(order, by, reason);
	if (settings.restock_on_cancel)
		give_back(order);
	order_touch(order);
}

static void
ask_to_cancel(Order *order, const json_t *spec)
{
	const char *reason = json_get_text(spec, "reason");

	for (size_t i = 0; i < order->items.count; i++)
		set_text(&((OrderItem *) order->items.at[i])->cancel_request, reason == NULL ? "No longer needed" : reason);
}

/* Amazon ships what it fulfils; a merchant's parcel is confirmed by the merchant. */
static void
ship(Order *order)
{
	order->status = "SHIPPED";
	for (size_t i = 0; i < order->items.count; i++)
	{
		OrderItem *line = order->items.at[i];

		line->shipped = line->confirmed = line->ordered;
	}
	finance_payment(order);
}

static void
deliver(const Order *order)
{
	size_t i;
	json_t *package;

	json_array_foreach(order->packages, i, package)
	{
		json_object_set_new(package, "packageStatus",
							json_pack("{s:s, s:s}", "status", "DELIVERED", "detailedStatus", "DELIVERED"));
	}
}

/* The buyer sends the first line back, or the one named: an entry for the returns reports. */
static void
send_back(const Order *order, const json_t *spec)
{
	const char *sku = json_get_text(spec, "sku");
	const OrderItem *line = order->items.at[0];
	const char *reason = json_get_text(spec, "reason");
	const char *status = json_get_text(spec, "status");
	char rma[12];

	for (size_t i = 0; sku != NULL && i < order->items.count; i++)
		if (strcmp(((OrderItem *) order->items.at[i])->sku, sku) == 0)
			line = order->items.at[i];
	random_text(rma, sizeof(rma) - 1);
	json_array_append_new(order->seller->returns,
						  json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:b, s:s, s:I}", "at",
									(json_int_t) clock_now(), "order", order->id, "rma", rma, "sku", line->sku, "asin",
									line->asin, "title", line->title, "quantity",
									(json_int_t) json_get_int(spec, "quantity", line->ordered), "reason",
									reason != NULL ? reason
									: order->fba   ? "UNWANTED_ITEM"
												   : "CR-UNWANTED_ITEM",
									"status",
									status != NULL ? status
									: order->fba   ? "Unit returned to inventory"
												   : "Approved",
									"fba", order->fba, "currency", order->market->currency, "ordered",
									(json_int_t) order->created));
}

/* POST /_control/orders/{id}/{action} */
json_t *
order_control(Order *order, const char *action, const json_t *spec, char **problem)
{
	if (strcmp(action, "pay") == 0)
	{
		if (starts_with(order->status, "PENDING"))
			order->status = order->paid_status;
		else
			*problem = xprintf("only a pending order can be paid, this one is %s", order->status);
	}
	else if (strcmp(action, "cancel") == 0)
		cancel(order, spec, problem);
	else if (strcmp(action, "cancel_request") == 0)
		ask_to_cancel(order, spec);
	else if (strcmp(action, "ship") == 0)
		ship(order);
	else if (strcmp(action, "deliver") == 0)
		deliver(order);
	else if (strcmp(action, "return") == 0)
		send_back(order, spec);
	else if (strcmp(action, "alias") == 0)
		set_text(&order->seller_order_id, json_get_text(spec, "seller_order_id"));
	else if (strcmp(action, "touch") != 0)
		*problem = xstrdup("action is one of pay, cancel, cancel_request, ship, deliver, return, alias, touch");
	if (*problem != NULL)
		return NULL;
	order_touch(order);
	if (strcmp(action, "cancel_request") == 0)
		notify_order(order, "BuyerRequestedChange", "Buyer Requested Cancel");
	return order_control_json(order);
}

/* An order with every data set, for tests. */
json_t *
order_control_json(const Order *order)
{
	json_t *all = json_pack("[s, s, s, s, s, s, s, s]", "BUYER", "RECIPIENT", "PROCEEDS", "CANCELLATION", "FULFILLMENT",
							"PACKAGES", "TAX", "PAYMENT");
	json_t *answer = order_json(order, all, true);

	json_decref(all);
	json_object_set_new(answer, "refunded", json_integer(order->refunded));
	if (order->invoices != NULL)
		json_object_set(answer, "invoices", order->invoices);
	return answer;
}
