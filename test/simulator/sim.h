/*
 * sim.h: everything one file of the simulator may ask of another.
 *
 * The simulator keeps all state in memory behind one lock (state_lock). HTTP threads parse a request without the lock,
 * then take it, run due events, handle the request and print the answer. Nothing here is part of the extension.
 */
#ifndef SIM_H
#define SIM_H

#include "base.h"
#include "call.h"
#include "state.h"

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
void catalog_new_page(const char *key, char asin[11]);
int catalog_match(const char *type, const char *identifier, char asins[2][11]);
CatalogOutcome catalog_outcome(const char *ean);
void catalog_title(const char *asin, char *out, size_t room);
json_t *catalog_eans(const char *outcome, int64_t count, int64_t from, char **problem);

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
int64_t offer_current_price(const Offer *offer);
Offer *item_offer(const Item *item, const Marketplace *market);
json_t *item_json(const Item *item, const json_t *market_ids, const json_t *included);
json_t *item_status(const Item *item, const Offer *offer);
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
bool seller_has_page(const Seller *seller, const char *asin);
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
	Micros sent;         /* real time: the call arrived, or the feed was created */
	const char *feed_id; /* NULL for a call */
} Submission;

json_t *submission_apply(const Submission *submission, Item **item);
bool issues_have_error(const json_t *issues);

/* ---- writes.c ---- */
void writes_note(const Submission *submission, const json_t *attributes, bool price, bool quantity);
json_t *writes_json(int64_t limit);
void writes_reset(void);

/* ---- product_types.c, schema_check.c, definitions.c ---- */
void product_types_reset(void);
void product_type_change(const char *name, const char *required);
bool product_type_exists(const char *name);
size_t product_type_count(void);
const char *product_type_name(size_t i);
const char *product_type_title(const char *name);
char *product_type_version(const char *name);
json_t *product_type_schema(const char *name, const char *requirements, bool enforced, const Marketplace *market);
void schema_check_attribute(const char *product_type, const char *name, const json_t *value, const Marketplace *market,
							json_t *issues);
void schema_check_whole(const char *product_type, const json_t *attributes, const Marketplace *market, json_t *issues);
void definitions_search(Call *call);
void definitions_get(Call *call);

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

/* ---- order_feed.c, finances.c ---- */
OrderItem *order_line(const Order *order, const char *id);
char *order_acknowledge(Order *order, const json_t *message, const char **code);
char *order_fulfill(Order *order, const json_t *message, const char **code);
char *order_adjust(Order *order, const json_t *message, const char **code);
void order_cancel(Order *order, const char *by, const char *reason);
char *shipment_take(Order *order, json_t *detail);
bool carrier_is_known(const char *code);
void finance_transactions(Call *call);
void finance_payment(Order *order);
void finance_refund(const Order *order, const json_t *message, int64_t sum);
int64_t order_paid(const Order *order);

/* ---- xml.c ---- */
json_t *xml_parse(const char *bytes, size_t length);
json_t *xml_child(const json_t *element, const char *name);
const char *xml_text(const json_t *element, const char *name);
bool xml_has_sequence(const json_t *element, const char *sequence);
char *xml_escape(const char *text);

/* ---- sellers.c ---- */
void sellers_participations(Call *call);
void sellers_account(Call *call);

/* ---- documents.c: bodies behind URLs that expire ---- */
#define URL_LIFETIME (5 * MINUTE)

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
json_t *document_url(Document *document, Micros lifetime);
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
	const char *fate; /* how it ends without being worked on, by a fault; else NULL */
	Micros sent;      /* real time */
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
typedef char *(*OrderMessage)(Order *order, const json_t *message, const char **code);
bool feed_is_xml(const char *type);
void feed_xml_process(Job *job);
void feed_xml_end(Job *job, const char *code, const char *why);
void feed_invoice_process(Job *job);

/* Where sellers upload their invoices. */
#define INVOICE_COUNTRIES "ES,GB,FR,DE,IT,NL,PL,SE"

int64_t order_net_price(const Order *order, int64_t gross);
bool report_is_of_orders(const char *type);
char *order_report(const Job *job, size_t *length, const char **status);
bool report_is_of_invoices(const char *type);
char *invoice_report(const Job *job, size_t *length, const char **status);
Order *order_of_shipment(const Seller *seller, const char *id);
bool report_is_of_returns(const char *type);
char *returns_report(const Job *job, size_t *length, const char **status);
void report_create(Call *call);
void report_get(Call *call);
void reports_get(Call *call);
void report_cancel(Call *call);
void report_document_get(Call *call);
char *report_convert(char *text, size_t *length, const char *charset); /* frees text */

/* ---- report_script.c ---- */

void report_scripts_reset(void);
void report_script(const json_t *spec);
bool report_follow_script(Job *job);

/* ---- fba.c, tokens.c, notifications.c, sqs.c ---- */
void fba_summaries(Call *call);
void tokens_create(Call *call);
void application_rotate(Call *call);
void destination_create(Call *call);
void destinations_get(Call *call);
void destination_get(Call *call);
void destination_delete(Call *call);
void subscription_create(Call *call);
void subscriptions_get(Call *call);
void subscription_get(Call *call);
void subscription_get_by_id(Call *call);
void subscription_delete(Call *call);
void notifications_reset(void);
const json_t *destination_by_id(const char *id);
void notify(const Seller *seller, const char *type, bool camel, const Marketplace *market, json_t *payload);
void notify_order(const Order *order, const char *change, const char *reason);
void notify_listing(const Item *item, const Offer *offer, bool deleted);
void notify_job(const Job *job);
void sqs_run(Call *call);
void queue_open(const char *arn);
void queue_send(const char *arn, const char *body);
json_t *queues_json(void);
void queues_reset(void);

/* ---- hooks.c, mail.c: whoever is told by webhook or e-mail ---- */
void hook_receive(Call *call);
void hook_expect(const char *name, const char *secret);
json_t *hooks_json(void);
void hooks_reset(void);
int mail_start(const char *certificate, const char *key);
void mail_expect(const char *wanted_user, const char *wanted_password);
void mail_fail(const char *at, int64_t code, int64_t count);
json_t *mails_json(void);
void mail_reset(void);

/* ---- control.c ---- */
void control_run(Call *call);

#endif
