/* base.h: time and its constants, settings, and the small tools that know nothing of Amazon. */
#ifndef SIM_BASE_H
#define SIM_BASE_H

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
	double forgiven;        /* most requests that may come a quarter of a second too early */
	double verdict_delay;   /* virtual seconds from ACCEPTED to the verdict */
	double feed_rate;       /* messages of a feed per virtual second; 0: as fast as can be */
	double order_lag;       /* searchOrders ends this many seconds before now */
	double finance_lag;     /* transactions show this many seconds after they were posted */
	double date_skew;       /* seconds added to the Date header */
	bool strict_ship_date;  /* refuse a ship date before the purchase or in the future */
	bool strict_user_agent; /* refuse a user agent that lacks the documented form */
	int64_t report_error;   /* what the reports of all orders add to quantities that merchants ship */
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

#endif
