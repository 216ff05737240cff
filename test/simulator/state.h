/* state.h: what the simulator keeps: applications, sellers, listings, orders. */
#ifndef SIM_STATE_H
#define SIM_STATE_H

#include "base.h"

/* ---- state: who sells what ---- */
typedef struct Application
{
	char *client_id;
	char *secret;
	char *old_secret; /* still accepted until old_secret_ends */
	Micros old_secret_ends;
	char *queue; /* the portal's queue for the application's own notifications, an ARN */
	bool disabled;
	bool personal; /* has the roles that show buyers' personal data */
} Application;

typedef struct Seller
{
	char *id;
	char *region;
	char *store_name;
	char *plan;        /* PROFESSIONAL or INDIVIDUAL */
	json_t *absent;    /* marketplace ids in which it does not take part */
	json_t *suspended; /* marketplace ids with suspended listings */
	Table *items;      /* sku -> Item */
	List item_list;    /* the same in order of creation, deleted ones included */
	List orders;
	List feeds;
	List reports;
	json_t *subscriptions; /* to notifications */
	json_t *transactions;  /* what was booked: at, transaction */
	json_t *returns;       /* what buyers send back: at, and the columns of the returns reports */
} Seller;

/* One SKU's offer in one marketplace. */
typedef struct Offer
{
	const Marketplace *market;
	Micros created;
	Micros updated;
	char asin[11];
	bool judged;       /* the first verdict is in */
	bool discoverable; /* on a catalogue page */
	bool sellable;     /* buyable as soon as there is stock */
	bool has_price;
	int64_t price; /* live, minor units */
	bool has_sale; /* a price for a time */
	int64_t sale_price;
	Micros sale_starts;
	Micros sale_ends;
	Micros starts; /* the offer's own life; 0 = no bound */
	Micros ends;
	bool has_b2b_price;
	int64_t b2b_price;
	json_t *issues;
} Offer;

typedef struct Item
{
	Seller *seller;
	char *sku;
	char *product_type;
	json_t *attributes; /* what was last submitted */
	List offers;
	bool has_quantity; /* a live DEFAULT quantity exists */
	int64_t quantity;  /* live merchant quantity: one for the whole region */
	int64_t sold;      /* merchant units sold so far */
	bool fba;
	char *fba_channel;
	int64_t fba_quantity;
	bool lost; /* accepted, never to be seen (rule for SKUs ending in -LOST) */
} Item;

typedef struct OrderItem
{
	char id[16];
	char *sku;
	char asin[11];
	char *title;
	int64_t ordered;
	int64_t confirmed; /* by the seller, perhaps not visible yet */
	int64_t shipped;
	int64_t price; /* gross unit price, minor units */
	char *condition;
	char *cancel_request; /* the buyer's reason, while asking */
	char *cancel_by;
	char *cancel_reason;
} OrderItem;

typedef struct Order
{
	char id[40];
	Seller *seller;
	const Marketplace *market;
	Micros created;
	Micros updated;
	const char *status;
	const char *paid_status; /* what a pending order becomes when paid */
	bool fba;
	bool pickup; /* in-store pick-up: updateShipmentStatus is allowed */
	int64_t shipping;
	char *buyer_name;
	char *buyer_email;
	char *buyer_company;
	char *seller_order_id;
	json_t *address;
	json_t *programs;
	json_t *packages;
	json_t *references; /* packageReferenceId of every confirmation -> items */
	json_t *invoices;   /* options of the invoices that were uploaded, or NULL */
	int64_t refunded;   /* minor units given back to the buyer */
	bool paid_out;      /* its payment was booked */
	List items;
	char *told; /* as it was last shown in a page, or NULL */
	uint64_t told_form;
} Order;

Seller *seller_get(const char *id);
Seller *seller_find(const char *id);
void sellers_reset(void);
void sellers_each(TableVisit visit, void *arg);
bool seller_in_market(const Seller *seller, const Marketplace *market);

#endif
