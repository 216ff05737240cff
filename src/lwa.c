/*
 * lwa.c
 *	  Login with Amazon: token requests are built here, their answers read, and a backend's wait for a token done.
 *
 * Where tokens are kept and who may renew one is token.c's affair. The sender builds and reads only and lets its pool
 * carry the request; a backend calls lwa_wait_for_token.
 *
 * Client secrets, refresh tokens and access tokens pass through here: what is built must be wiped by spapi_forget, and
 * no error quotes any of it.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "errcodes.h"
#include "json.h"
#include "lwa.h"

#define DEFAULT_EXPIRES_IN 3600
#define LONGEST_EXPIRES_IN 86400
#define LEAST_TIMEOUT_MS   1000
#define ASK_AGAIN_MS       1000

/*---------------------------------------------------------------------------------------------------------------
 * Building
 */

static void
append_field(StringInfo form, const char *name, const char *value)
{
	if (value == NULL)
		return;
	if (form->len > 0)
		appendStringInfoChar(form, '&');
	appendStringInfo(form, "%s=", name);
	spapi_append_encoded(form, value, (int) strlen(value));
}

void
lwa_build_request(LwaGrant grant, const char *token_endpoint, const char *client_id, const char *client_secret,
				  const char *what, const char *redirect_uri, HttpRequest *request)
{
	static const struct
	{
		const char *grant;
		const char *field;
	} grants[] = {
		[LWA_REFRESH] = {"refresh_token", "refresh_token"},
		[LWA_CLIENT_CREDENTIALS] = {"client_credentials", "scope"},
		[LWA_AUTHORIZATION_CODE] = {"authorization_code", "code"},
	};
	const char **headers = palloc0(sizeof(char *) * 3);
	StringInfoData form;

	/* Roomy from the start: a buffer that grows leaves a secret behind in the block it gives up. */
	initStringInfo(&form);
	enlargeStringInfo(&form, 8 * TOKEN_MAX_LENGTH);
	append_field(&form, "grant_type", grants[grant].grant);
	append_field(&form, "client_id", client_id);
	append_field(&form, "client_secret", client_secret);
	append_field(&form, grants[grant].field, what);
	if (grant == LWA_AUTHORIZATION_CODE)
		append_field(&form, "redirect_uri", redirect_uri);

	headers[0] = pstrdup("accept: application/json");
	headers[1] = pstrdup("content-type: application/x-www-form-urlencoded;charset=UTF-8");

	memset(request, 0, sizeof(*request));
	request->method = "POST";
	request->url = pstrdup(token_endpoint);
	request->headers = headers;
	request->body = form.data;
	request->body_length = form.len;
	request->once = grant == LWA_AUTHORIZATION_CODE;
}

/*---------------------------------------------------------------------------------------------------------------
 * Reading
 */

/* A token goes into a header as it is: nothing but visible ASCII, and no longer than there is room. */
static bool
copy_token(char *to, size_t size, const char *from)
{
	const char *c;

	if (from == NULL || *from == '\0' || strlen(from) >= size)
		return false;
	for (c = from; *c != '\0'; c++)
		if (*c <= ' ' || *c > '~')
			return false;
	strlcpy(to, from, size);
	return true;
}

static bool
read_tokens(const JsonDoc *doc, char *access_token, size_t access_size, int *expires_in, char *refresh_token,
			size_t refresh_size)
{
	const char *refresh = json_doc_text(doc, JSON_PATH("refresh_token"));
	int64 seconds = DEFAULT_EXPIRES_IN;

	(void) json_doc_integer(doc, JSON_PATH("expires_in"), &seconds);
	if (seconds <= 0)
		return false;
	*expires_in = (int) Min(seconds, LONGEST_EXPIRES_IN);

	if (refresh_token != NULL)
		refresh_token[0] = '\0';
	if (refresh_token != NULL && refresh != NULL && !copy_token(refresh_token, refresh_size, refresh))
		return false;
	return copy_token(access_token, access_size, json_doc_text(doc, JSON_PATH("access_token")));
}

SpapiVerdict
lwa_read_answer(const HttpAnswer *answer, char *access_token, size_t access_size, int *expires_in, char *refresh_token,
				size_t refresh_size, SpapiError *error)
{
	SpapiVerdict verdict = spapi_judge(answer, error);
	JsonDoc *doc;
	bool fine;

	if (verdict == SPAPI_RENEW_TOKEN)
		return SPAPI_PERMANENT; /* it is a token that we are asking for */
	if (strcmp(error->code, "server_error") == 0 || strcmp(error->code, "temporarily_unavailable") == 0)
		return SPAPI_RETRY;
	if (verdict != SPAPI_SUCCESS)
		return verdict;

	doc = json_doc_parse(answer->body, answer->body_length, NULL);
	fine = doc != NULL && read_tokens(doc, access_token, access_size, expires_in, refresh_token, refresh_size);
	json_doc_free(doc);
	if (fine)
		return SPAPI_SUCCESS;
	strlcpy(error->code, "BadTokenAnswer", sizeof(error->code));
	strlcpy(error->message, "the token service's answer contains no usable token", sizeof(error->message));
	return SPAPI_RETRY;
}

TokenScope
lwa_token_scope(const char *grantless_scope)
{
	if (grantless_scope == NULL)
		return TOKEN_SELLER;
	return strstr(grantless_scope, "rotation") != NULL ? TOKEN_ROTATION : TOKEN_NOTIFICATIONS;
}

/*---------------------------------------------------------------------------------------------------------------
 * A backend's way to a token
 */

static long
milliseconds_left(TimestampTz deadline)
{
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
}

static void
raise_token_error(SpapiVerdict verdict, const SpapiError *error)
{
	if (verdict != SPAPI_PERMANENT)
		ereport(ERROR, (errcode(ERRCODE_AMZMP_NETWORK), errmsg("no access token: %s (%s)", error->message, error->code),
						errhint("Login with Amazon could not be reached or is disturbed; try again.")));
	ereport(ERROR,
			(errcode(ERRCODE_AMZMP_TOKEN_REFUSED), errmsg("Login with Amazon refused the credentials: %s", error->code),
			 error->message[0] != '\0' ? errdetail("It says: %s", error->message) : 0,
			 strcmp(error->code, "invalid_grant") == 0
				 ? errhint("The seller must authorize the application again; then amzmp.set_credentials takes the new "
						   "refresh token.")
				 : errhint("Check client id and client secret and set them by amzmp.set_credentials.")));
}

/* We hold the lease. Whatever happens, it ends here. */
static void
renew_token(const TokenKey *key, const LwaSecrets *secrets, TimestampTz deadline, char *token)
{
	HttpRequest request;
	HttpAnswer *volatile answer = NULL;
	SpapiVerdict verdict;
	SpapiError error;
	int expires_in = 0;

	PG_TRY();
	{
		lwa_build_request(secrets->scope != NULL ? LWA_CLIENT_CREDENTIALS : LWA_REFRESH, secrets->token_endpoint,
						  secrets->client_id, secrets->client_secret,
						  secrets->scope != NULL ? secrets->scope : secrets->refresh_token, NULL, &request);
		request.timeout_ms = (int) Max(milliseconds_left(deadline), LEAST_TIMEOUT_MS);
		answer = http_perform(&request);
	}
	PG_CATCH();
	{
		token_give_up(key);
		PG_RE_THROW();
	}
	PG_END_TRY();

	verdict = lwa_read_answer(answer, token, TOKEN_MAX_LENGTH + 1, &expires_in, NULL, 0, &error);
	http_answer_free(answer);
	spapi_forget(&request);
	if (verdict == SPAPI_SUCCESS)
	{
		token_store(key, token, expires_in);
		return;
	}
	token_give_up(key);
	raise_token_error(verdict, &error);
}

void
lwa_wait_for_token(const TokenKey *key, const LwaSecrets *secrets, TimestampTz deadline, char *token)
{
	for (;;)
	{
		TokenState state = token_get(key, token, false, NULL);
		long left = milliseconds_left(deadline);

		if (state == TOKEN_READY)
			return;
		if (state == TOKEN_YOURS_TO_RENEW)
		{
			renew_token(key, secrets, deadline, token);
			return;
		}
		if (left <= 0)
			ereport(ERROR, (errcode(ERRCODE_AMZMP_TIMEOUT), errmsg("no access token in time"),
							errdetail("Another process is renewing it, or has just failed to."),
							errhint("Try again, or raise amzmp.call_timeout.")));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(left, ASK_AGAIN_MS),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}
