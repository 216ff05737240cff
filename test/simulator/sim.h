/*
 * sim.h: what every file of the simulator knows.
 *
 * The simulator keeps all state in memory behind one lock (state_lock). HTTP threads parse a request without the lock,
 * then take it, run due events, handle the request and print the answer. Nothing here is part of the extension.
 */
#ifndef SIM_H
#define SIM_H

#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int64_t Micros; /* microseconds, of virtual time unless a name says "real" */

#define SECOND          ((Micros) 1000000)
#define MINUTE          (60 * SECOND)
#define HOUR            (60 * MINUTE)
#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

extern pthread_mutex_t state_lock;

/* What the command line and /_control/settings decide. */
typedef struct Settings
{
	double rate_scale;      /* multiplies every usage plan; 0 switches them off */
	double verdict_delay;   /* virtual seconds from ACCEPTED to the verdict */
	double order_lag;       /* searchOrders ends this many seconds before now */
	double date_skew;       /* seconds added to the Date header */
	bool strict_ship_date;  /* refuse a ship date before the purchase or in the future */
	bool strict_user_agent; /* refuse a user agent that lacks the documented form */
	bool restock_on_cancel; /* a cancelled order gives its units back to the live quantity */
	bool compress;          /* gzip answers when the client accepts it */
	uint64_t seed;
	int port;
	const char *scheme;
} Settings;

extern Settings settings;
extern int state_generation; /* moves on at a reset: what was prepared before is void */

/* ---- table.c: string keys to pointers ---- */
typedef struct Table Table;
typedef bool (*TableVisit)(const char *key, void *value, void *arg);

Table *table_new(void);
void *table_get(const Table *table, const char *key);
void table_put(Table *table, const char *key, void *value);
void *table_remove(Table *table, const char *key);
size_t table_count(const Table *table);
void table_each(Table *table, TableVisit visit, void *arg);
void table_free(Table *table, void (*free_value)(void *));

typedef struct List
{
	void **at;
	size_t count;
	size_t room;
} List;

void list_add(List *list, void *value);
void list_free(List *list, void (*free_value)(void *));

/* ---- text.c: small things made of characters ---- */
void *xalloc(size_t size);
char *xprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *xstrdup(const char *text);
void random_seed(uint64_t seed);
uint64_t random_next(void);
uint64_t random_below(uint64_t limit);
void random_text(char *out, size_t length);
void uuid_text(char out[37]);
uint64_t hash_text(const char *text, uint64_t start);
char *base64url_encode(const void *data, size_t length);
char *base64url_decode(const char *text, size_t *length);
bool text_is_one_of(const char *text, const char *comma_list);
bool starts_with(const char *text, const char *prefix);
bool ends_with(const char *text, const char *suffix);
json_t *json_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *json_get_text(const json_t *object, const char *key);
int64_t json_get_int(const json_t *object, const char *key, int64_t fallback);
bool json_get_bool(const json_t *object, const char *key, bool fallback);
double json_get_number(const json_t *object, const char *key, double fallback);
bool json_array_has(const json_t *array, const char *text);

/* ---- clock.c: virtual time, and what happens at a given moment of it ---- */
typedef void (*EventAction)(void *subject, json_t *detail);

Micros clock_now(void);
Micros clock_real(void);
double clock_scale(void);
void clock_set_scale(double scale);
void clock_advance(double seconds);
void clock_reset(double scale);
char *time_text(Micros when, char out[32]);
json_t *time_json(Micros when);
bool time_parse(const char *text, Micros *when);
void time_http(Micros when, char out[40]);
void event_at(Micros when, EventAction action, void *subject, json_t *detail);
void events_run(void);
size_t events_pending(void);
void events_clear(void);

/* ---- market.c: the 23 marketplaces, and money ---- */
typedef struct Marketplace
{
	const char *country;
	const char *id;
	const char *region;
	const char *currency;
	const char *language;
	const char *domain;
	const char *name;
	int decimals;    /* of the currency as Amazon prints it */
	int tax_percent; /* contained in an offer's price */
} Marketplace;

#define MARKETPLACE_COUNT 23
extern const Marketplace marketplaces[MARKETPLACE_COUNT];

const Marketplace *marketplace_by_id(const char *id);
const Marketplace *marketplace_by_any(const char *id_or_country);
int64_t money_from_number(const json_t *number, int decimals, bool *exact);
char *money_text(int64_t minor, int decimals, char out[32]);
json_t *money_json(int64_t minor, const Marketplace *market);

/* ---- state: who sells what ---- */
typedef struct Application
{
	char *client_id;
	char *secret;
	char *old_secret; /* still accepted until old_secret_ends */
	Micros old_secret_ends;
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
	List items;
} Order;

Seller *seller_get(const char *id);
Seller *seller_find(const char *id);
void sellers_reset(void);
void sellers_each(TableVisit visit, void *arg);
bool seller_in_market(const Seller *seller, const Marketplace *market);

/* ---- call.c: one request on its way through the simulator ---- */
typedef struct Operation Operation;

typedef struct Header
{
	char *name;
	char *value;
} Header;

typedef struct Fault Fault;

typedef struct Call
{
	/* the request */
	char *method;
	char *uri;  /* as on the wire, query included */
	char *path; /* as on the wire, without the query */
	const char *query_text;
	Header *headers;
	size_t header_count;
	char *input;
	size_t input_length;
	size_t input_room;
	bool input_too_large;
	Micros arrived; /* CLOCK_REALTIME */
	char request_id[37];
	/* what it means */
	const Operation *operation;
	char *argument[2]; /* decoded path parameters */
	json_t *query;     /* checked and typed: lists are arrays, times microseconds */
	json_t *body;
	Application *application;
	Seller *seller; /* NULL for grantless calls */
	bool restricted_token;
	bool violation;
	double limit; /* rate of the plan, for x-amzn-RateLimit-Limit; 0 = none */
	/* the answer */
	int status;
	json_t *answer;
	json_t *errors;
	char *output; /* printed answer, or bytes that are not JSON */
	size_t output_length;
	char *output_type;
	char *extra_name; /* one more header */
	char *extra_value;
	Fault *fault; /* a copy, owned */
	bool prepared;
	int generation; /* of the state it was prepared in */
	bool delayed;
	Micros resume_at; /* real time; set while the call has to wait */
	void *connection;
	void *response;
	Micros poll_until; /* a long poll looks again until this real time */
} Call;

typedef void (*Handler)(Call *call);

typedef enum ParamKind
{
	PARAM_TEXT,
	PARAM_ENUM,
	PARAM_INT,
	PARAM_BOOL,
	PARAM_TIME,
	PARAM_LIST,
	PARAM_ENUM_LIST
} ParamKind;

typedef struct Param
{
	const char *name;
	ParamKind kind;
	bool required;
	int64_t low;  /* least value, or least number of entries */
	int64_t high; /* greatest value, or most entries; 0 = no limit */
	const char *allowed;
} Param;

#define OPERATION_GRANTLESS  1  /* needs a client-credentials token */
#define OPERATION_BODY       2  /* has a JSON body */
#define OPERATION_RESTRICTED 4  /* needs a restricted data token */
#define OPERATION_OPEN       8  /* needs no SP-API token: LWA, document URLs, SQS */
#define OPERATION_OWN_PLAN   16 /* the handler takes from the plan: it depends on the body */

struct Operation
{
	const char *name;
	const char *method;
	const char *path; /* {name} stands for one encoded segment */
	double rate;
	double burst;
	double application_rate; /* plan of the application over all sellers; 0 = none */
	unsigned flags;
	const Param *params;
	Handler handler;
	const char *scope; /* of a grantless operation */
};

extern const Operation operations[];
extern const size_t operation_count;

const Operation *operation_by_name(const char *name);
const char *call_header(const Call *call, const char *name);
void call_fail(Call *call, int status, const char *code, const char *format, ...) __attribute__((format(printf, 4, 5)));
void call_fail_detail(Call *call, int status, const char *code, const char *message, const char *detail);
void call_violation(Call *call, int status, const char *code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void call_answer(Call *call, int status, json_t *answer);
void call_bytes(Call *call, int status, const char *type, char *bytes, size_t length);
bool call_run(Call *call);
void call_free(Call *call);
bool call_included(const Call *call, const char *data_set);

/* ---- validate.c ---- */
bool validate_headers(Call *call);
bool validate_query(Call *call);
bool validate_body(Call *call);
bool validate_markets(Call *call, const json_t *ids);
char *percent_decode(const char *text, size_t length, const char **problem);

/* A field of a JSON body. */
typedef struct Field
{
	const char *name;
	json_type type; /* JSON_TRUE stands for boolean */
	bool required;
	const char *allowed;
} Field;

bool validate_object(Call *call, const json_t *object, const char *where, const Field *fields, size_t count);

/* ---- rate.c ---- */
bool rate_take(Call *call);
bool rate_take_named(Call *call, const char *key, double rate, double burst, const char *message);
void rate_reset(void);

/* ---- stats.c ---- */
void stats_arrival(const Call *call);
void stats_finished(const Call *call);
void stats_violation(const Call *call, const char *reason);
void stats_overrun(const Call *call);
void stats_count(const char *name);
json_t *stats_json(void);
json_t *stats_violations(void);
json_t *stats_arrivals(const char *operation, int64_t limit);
json_t *stats_requests(const char *operation, int64_t limit);
void stats_reset(void);

/* ---- faults.c ---- */
typedef enum FaultKind
{
	FAULT_STATUS,
	FAULT_DELAY,
	FAULT_DROP_BEFORE,
	FAULT_DROP_AFTER,
	FAULT_TRUNCATE,
	FAULT_NOT_JSON,
	FAULT_HUGE,
	FAULT_NUL,
	FAULT_BAD_UTF8,
	FAULT_CONTENT_LENGTH,
	FAULT_EXPIRED_TOKEN,
	FAULT_SKEW,
	FAULT_DUPLICATE_PAGE
} FaultKind;

struct Fault
{
	int64_t id;
	FaultKind kind;
	char *operation; /* name, or "*" */
	char *path;      /* part of the path as sent, or NULL */
	char *seller;
	int64_t remaining; /* -1 = for ever */
	double probability;
	int64_t hits;
	int status;
	char *code;
	char *message;
	int64_t delay_ms;
	int64_t bytes;
	double seconds;
	bool after; /* act after the effect */
};

Fault *fault_pick(const Call *call);
void fault_free(Fault *fault);
json_t *faults_json(void);
json_t *fault_add(const json_t *spec, char **problem);
bool fault_remove(int64_t id);
void faults_reset(void);
const char *fault_name(FaultKind kind);

/* ---- lwa.c ---- */
void lwa_token(Call *call);
bool lwa_authenticate(Call *call);
void lwa_reset(void);
json_t *lwa_control(const char *what, const json_t *spec, char **problem);
json_t *lwa_json(void);
char *lwa_issue_restricted(const Call *call, const json_t *resources);

/* ---- catalog.c ---- */
typedef enum CatalogOutcome
{
	CATALOG_SINGLE,
	CATALOG_CONFLICT,
	CATALOG_APPROVAL,
	CATALOG_NONE,
	CATALOG_DOUBLE
} CatalogOutcome;

void catalog_search(Call *call);
void catalog_get(Call *call);
bool catalog_exists(const char *asin);
bool catalog_ean(const char *asin, char ean[14]);
int catalog_match(const char *type, const char *identifier, char asins[2][11]);
CatalogOutcome catalog_outcome(const char *ean);
void catalog_title(const char *asin, char *out, size_t room);
json_t *catalog_eans(const char *outcome, int64_t count, int64_t from, char **problem);
bool ean_valid(const char *ean);

/* ---- listing_*.c ---- */
void listing_put(Call *call);
void listing_patch(Call *call);
void listing_get(Call *call);
void listing_delete(Call *call);
void listing_search(Call *call);
void restrictions_get(Call *call);
Item *item_find(const Seller *seller, const char *sku);
Item *item_create(Seller *seller, const char *sku);
void item_free(void *item);
Offer *item_offer(const Item *item, const Marketplace *market);
json_t *item_json(const Item *item, const json_t *market_ids, const json_t *included);
json_t *item_status(const Item *item, const Offer *offer);
json_t *item_market_attributes(const Item *item, const Marketplace *market);
json_t *issue_new(const char *code, const char *severity, const char *attribute, const Marketplace *market,
				  const char *category, const char *format, ...) __attribute__((format(printf, 6, 7)));
typedef enum AttributeUse
{
	USE_WHOLE, /* put, replace, add: the instance as it will be */
	USE_MERGE,
	USE_DELETE
} AttributeUse;

void attribute_check(const char *product_type, const char *name, const json_t *instances, const json_t *market_ids,
					 AttributeUse use, json_t *issues);
bool attribute_is_sales_term(const char *name);
bool attribute_is_relationship(const char *name);
json_t *attribute_instance(const json_t *attributes, const char *name, const char *selector, const char *value);
json_t *attributes_put(const json_t *old, const json_t *fresh, const char *market_id, bool keep_facts);
json_t *attributes_patch(const json_t *old, const json_t *patches);
json_t *attributes_without(const json_t *old, const char *market_id);
void verdict_schedule(Item *item, const json_t *market_ids, bool stock_touched);
void verdict_schedule_delete(Item *item, const Marketplace *market);
json_t *verdict_issues(const Item *item, const json_t *attributes, const Marketplace *market, char asin[11]);

/* What a submission asks for, whichever way it came. */
typedef struct Submission
{
	Seller *seller;
	const char *sku;
	json_t *market_ids;
	const char *product_type;
	const char *requirements;
	const json_t *attributes; /* put, partial update */
	const json_t *patches;    /* patch */
	bool preview;
} Submission;

json_t *submission_apply(const Submission *submission, Item **item);
bool issues_have_error(const json_t *issues);

/* ---- order*.c ---- */
void orders_search(Call *call);
void orders_get(Call *call);
void shipment_confirm(Call *call);
void shipment_status(Call *call);
Order *order_find(const char *id);
Order *order_of_call(Call *call);
json_t *order_json(const Order *order, const json_t *included, bool personal);
void order_free(void *order);
void order_forget(const Order *order);
json_t *order_control_json(const Order *order);
void orders_reset(void);
json_t *orders_place(const json_t *spec, char **problem);
json_t *order_control(Order *order, const char *action, const json_t *spec, char **problem);
void order_touch(Order *order);
Order *order_new(Seller *seller, const Marketplace *market);
void order_fill_buyer(Order *order);

/* ---- sellers.c ---- */
void sellers_participations(Call *call);
void sellers_account(Call *call);

/* ---- documents.c: bodies behind URLs that expire ---- */
typedef struct Document
{
	char id[64];
	Seller *seller;
	char *type;
	char *bytes; /* NULL until uploaded */
	size_t length;
	bool packed;           /* bytes are gzip */
	bool content_encoding; /* say so in the header of the download */
	Micros created;
	Micros url_ends;
	char signature[33];
} Document;

Document *document_new(Seller *seller, const char *kind, const char *type);
Document *document_find(const Seller *seller, const char *id);
void document_fill(Document *document, char *bytes, size_t length, bool pack);
json_t *document_url(Document *document);
json_t *document_json(Call *call, Document *document, const char *id_name);
void document_upload(Call *call);
void document_download(Call *call);
void documents_reset(void);

/* ---- job.c: what feeds and reports have in common ---- */
typedef struct Job Job;
typedef void (*JobWork)(Job *job);

struct Job
{
	char id[40];
	JobWork run;
	bool feed;
	Seller *seller;
	char *type;
	json_t *market_ids;
	json_t *options;
	Document *input;
	Document *result;
	const char *status;
	Micros created;
	Micros started;
	Micros ended;
	Micros data_start;
	Micros data_end;
	json_t *work; /* of a feed being processed: messages, issues */
};

Job *job_new(Seller *seller, bool feed, const char *type, JobWork work);
Job *job_of_call(Call *call, bool feed);
void job_end(Job *job, const char *status);
json_t *job_json(const Job *job);
void job_list(Call *call, bool feed);
void job_cancel(Call *call, bool feed);
void job_free(void *job);

void feed_document_create(Call *call);
void feed_create(Call *call);
void feed_get(Call *call);
void feeds_get(Call *call);
void feed_cancel(Call *call);
void feed_document_get(Call *call);
void feed_process(Job *job);
void report_create(Call *call);
void report_get(Call *call);
void reports_get(Call *call);
void report_cancel(Call *call);
void report_document_get(Call *call);

/* ---- fba.c, tokens.c, notifications.c, sqs.c ---- */
void fba_summaries(Call *call);
void tokens_create(Call *call);

/* ---- control.c ---- */
void control_run(Call *call);

/* ---- page.c: page tokens bound to a request ---- */
char *page_token(uint64_t binding, json_t *position);
json_t *page_open(const char *token, uint64_t binding, Micros lifetime, const char **problem);
uint64_t page_binding(const Call *call, const char *except);

#endif
