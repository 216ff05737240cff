/*
 * spapi_answer.c
 *	  What an answer of Amazon means: its error, whether to try again and when, its body as text.
 *
 * Nothing here throws, except for lack of memory in spapi_answer_text. All bytes come from outside, so they are bounded,
 * checked for encoding and stripped of control characters before anybody sees them; a body that cannot be read as an
 * error is never quoted, because it may hold anything.
 */
#include "postgres.h"

#include <math.h>

#include "mb/pg_wchar.h"

#include "json.h"
#include "json_check.h"
#include "spapi.h"

#define BACKOFF_FIRST_MS    1000
#define BACKOFF_LEAST_MS    100
#define BACKOFF_CAP_MS      60000
#define BACKOFF_LONGEST_MS  900000
#define MOST_PLAUSIBLE_RATE 10000.0

/*---------------------------------------------------------------------------------------------------------------
 * Text
 */

/* Bytes of the character at `text`, 0 when it is not valid in the database's encoding. Outside UTF-8: ASCII only. */
static int
character_length(const char *text)
{
	const unsigned char *c = (const unsigned char *) text;
	int length;

	if (*c < 0x80)
		return 1;
	if (GetDatabaseEncoding() != PG_UTF8)
		return 0;
	length = pg_utf_mblen(c);
	if (strnlen(text, length) < (size_t) length || !pg_utf8_islegal(c, length))
		return 0;
	return length;
}

/* Copy what fits, whole characters only; control characters become spaces, unreadable bytes question marks. */
static void
copy_clean(char *to, size_t room, const char *from)
{
	char *end = to + room - 1;

	while (from != NULL && *from != '\0')
	{
		int length = character_length(from);

		if (to + Max(length, 1) > end)
			break;
		if (length <= 1)
			*to++ = length == 0 ? '?' : ((unsigned char) *from < ' ' || *from == 0x7f) ? ' ' : *from;
		else
		{
			memcpy(to, from, length);
			to += length;
		}
		from += Max(length, 1);
	}
	*to = '\0';
}

#define COPY_CLEAN(field, from) copy_clean((field), sizeof(field), (from))

static bool
contains(const char *text, const char *lower_case_words)
{
	size_t length = strlen(lower_case_words);

	for (; *text != '\0'; text++)
		if (pg_strncasecmp(text, lower_case_words, length) == 0)
			return true;
	return false;
}

/*---------------------------------------------------------------------------------------------------------------
 * Errors
 */

/* SP-API: {"errors":[{"code","message","details"}]} */
static bool
read_spapi_error(const JsonDoc *doc, SpapiError *error)
{
	const char *code = json_doc_text(doc, JSON_PATH("errors", "0", "code"));
	const char *message = json_doc_text(doc, JSON_PATH("errors", "0", "message"));

	if (code == NULL && message == NULL)
		return false;
	COPY_CLEAN(error->code, code);
	COPY_CLEAN(error->message, message);
	COPY_CLEAN(error->details, json_doc_text(doc, JSON_PATH("errors", "0", "details")));
	return true;
}

/* Login with Amazon: {"error","error_description"} */
static bool
read_token_error(const JsonDoc *doc, SpapiError *error)
{
	const char *code = json_doc_text(doc, JSON_PATH("error"));

	if (code == NULL)
		return false;
	COPY_CLEAN(error->code, code);
	COPY_CLEAN(error->message, json_doc_text(doc, JSON_PATH("error_description")));
	return true;
}

/* SQS: {"__type":"com.amazonaws.sqs#Code","message"} */
static bool
read_aws_error(const JsonDoc *doc, SpapiError *error)
{
	const char *type = json_doc_text(doc, JSON_PATH("__type"));
	const char *hash = type != NULL ? strrchr(type, '#') : NULL;
	const char *message = json_doc_text(doc, JSON_PATH("message"));

	if (type == NULL)
		return false;
	COPY_CLEAN(error->code, hash != NULL ? hash + 1 : type);
	COPY_CLEAN(error->message, message != NULL ? message : json_doc_text(doc, JSON_PATH("Message")));
	return true;
}

static void
read_error(const HttpAnswer *answer, SpapiError *error)
{
	JsonDoc *doc = json_doc_parse(answer->body, answer->body_length, NULL);

	if (doc != NULL && !read_spapi_error(doc, error) && !read_token_error(doc, error))
		(void) read_aws_error(doc, error);
	json_doc_free(doc);

	if (error->code[0] == '\0')
		snprintf(error->code, sizeof(error->code), "HTTP%d", answer->status);
	if (error->message[0] == '\0')
		snprintf(error->message, sizeof(error->message), "HTTP status %d without a readable explanation", answer->status);
}

static SpapiVerdict
judge_fault(const HttpAnswer *answer, SpapiError *error)
{
	static const char *const codes[] = {
		[HTTP_OK] = "",
		[HTTP_NOT_SENT] = "NotSent",
		[HTTP_ANSWER_LOST] = "AnswerLost",
		[HTTP_TOO_LARGE] = "AnswerTooLarge",
		[HTTP_CANCELLED] = "Cancelled",
	};

	COPY_CLEAN(error->code, codes[answer->fault]);
	COPY_CLEAN(error->message, answer->error);
	return answer->sent ? SPAPI_UNKNOWN : SPAPI_RETRY;
}

/* A renewed token may help against "expired", "revoked, malformed or invalid"; not against a missing role. */
static bool
blames_token(const SpapiError *error)
{
	const char *texts[] = {error->message, error->details};
	size_t i;

	for (i = 0; i < lengthof(texts); i++)
		if (contains(texts[i], "access token") &&
			(contains(texts[i], "expired") || contains(texts[i], "revoked") || contains(texts[i], "invalid")))
			return true;
	return false;
}

static SpapiVerdict
judge_status(int status, const SpapiError *error)
{
	switch (status)
	{
		case 401:
		case 403:
			return blames_token(error) ? SPAPI_RENEW_TOKEN : SPAPI_PERMANENT;
		case 408:
		case 429:
			return SPAPI_RETRY;
		case 502:
		case 504:
			/* It is a gateway that speaks: whoever stands behind it may have done the work. */
			return SPAPI_UNKNOWN;
		default:
			return status >= 500 ? SPAPI_RETRY : SPAPI_PERMANENT;
	}
}

SpapiVerdict
spapi_judge(const HttpAnswer *answer, SpapiError *error)
{
	memset(error, 0, sizeof(*error));
	if (answer->fault != HTTP_OK)
		return judge_fault(answer, error);

	COPY_CLEAN(error->request_id, http_answer_header(answer, "x-amzn-requestid"));
	if (answer->status >= 200 && answer->status <= 299)
		return SPAPI_SUCCESS;
	read_error(answer, error);
	return judge_status(answer->status, error);
}

/*---------------------------------------------------------------------------------------------------------------
 * Bodies and headers
 */

static void
set_error(SpapiError *error, const char *code, const char *message)
{
	COPY_CLEAN(error->code, code);
	COPY_CLEAN(error->message, message);
}

char *
spapi_answer_text(const HttpAnswer *answer, SpapiError *error)
{
	const char *problem;

	error->code[0] = '\0';
	if (answer->body_length == 0)
		return NULL;
	problem = json_check(answer->body, answer->body_length, NULL);
	if (problem != NULL)
	{
		set_error(error, "NotJson", problem);
		return NULL;
	}
	if (GetDatabaseEncoding() == PG_UTF8)
		return pnstrdup(answer->body, answer->body_length);
	return pg_any_to_server(answer->body, (int) answer->body_length, PG_UTF8);
}

double
spapi_rate_limit(const HttpAnswer *answer)
{
	const char *text = http_answer_header(answer, "x-amzn-ratelimit-limit");
	char *end;
	double rate;

	if (text == NULL || *text == '\0')
		return 0;
	rate = strtod(text, &end);
	if (*end != '\0' || !isfinite(rate) || rate <= 0 || rate > MOST_PLAUSIBLE_RATE)
		return 0;
	return rate;
}

/* Slow operations are not worth asking again sooner than a token flows in, whatever their burst. */
int64
spapi_backoff_ms(int attempt, double rate, double random01)
{
	double cap = rate > 0 ? Max(BACKOFF_CAP_MS, Min(1000.0 / rate, BACKOFF_LONGEST_MS)) : BACKOFF_CAP_MS;
	double most = Min(cap, ldexp(BACKOFF_FIRST_MS, Max(Min(attempt, 30) - 1, 0)));

	return (int64) Max(BACKOFF_LEAST_MS, most * random01);
}
