/* call.h: one request on its way through the simulator, and what judges, throttles, counts and spoils it. */
#ifndef SIM_CALL_H
#define SIM_CALL_H

#include "state.h"

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
	char date[40];    /* for the Date header */
	bool compress;    /* if the client accepts it */
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
void stats_note_violation(const char *what, const char *reason);
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
	FAULT_DUPLICATE_PAGE,
	FAULT_EMPTY_PAGE,
	FAULT_FEED_CANCELLED,
	FAULT_FEED_FATAL,
	FAULT_NESTED,
	FAULT_ESCAPE
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

/* ---- page.c: page tokens bound to a request ---- */
char *page_token(uint64_t binding, json_t *position);
json_t *page_open(const char *token, uint64_t binding, Micros lifetime, const char **problem);
uint64_t page_binding(const Call *call, const char *except);

#endif
