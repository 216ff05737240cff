/*
 * tell.c
 *	  Telling people: webhooks and mail, how one is built and how its answer is judged.
 *
 * A webhook is a row of amzmp.request that the sender makes a transfer of, as any other; a mail is a task (mail.c). What is
 * told, to whom and how often is in sql/alarm_send.sql; secrets are opened there and pass through here.
 *
 * A webhook is signed when it is sent, so that a late repetition has a fresh time:
 *
 *		Amzmp-Signature: t=<seconds since 1970>,v1=<HMAC-SHA256 of "<t>.<body>" in hexadecimal>
 *
 * Nothing here keeps state.
 */
#include "postgres.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <time.h>

#include "common/string.h"

#include "errcodes.h"
#include "json.h"
#include "tell.h"
#include "vault.h"

#define MOST_HEADERS    5
#define MOST_RECIPIENTS 50

static void
unusable(void)
{
	ereport(ERROR, (errcode(ERRCODE_AMZMP_NOT_CONFIGURED), errmsg("the target of an alarm cannot be used"),
					errhint("Set it anew with amzmp.set_webhook or amzmp.set_mail.")));
}

/* HMAC-SHA256 of "<seconds>.<body>", in hexadecimal. */
static char *
sign(const char *secret, int64 seconds, const char *body)
{
	static const char digits[] = "0123456789abcdef";
	char *text = psprintf(INT64_FORMAT ".%s", seconds, body);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int length = 0;
	char *hex;

	if (HMAC(EVP_sha256(), secret, (int) strlen(secret), (unsigned char *) text, strlen(text), digest, &length) == NULL)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not sign a webhook")));
	hex = palloc(2 * length + 1);
	for (unsigned int i = 0; i < length; i++)
	{
		hex[2 * i] = digits[digest[i] >> 4];
		hex[2 * i + 1] = digits[digest[i] & 15];
	}
	hex[2 * length] = '\0';
	pfree(text);
	return hex;
}

static void
build_webhook(const JsonDoc *doc, HttpRequest *request)
{
	char *body = json_doc_copy(doc, "body");
	char *id = json_doc_copy(doc, "id");
	char *secret = json_doc_copy(doc, "secret");
	const char **headers = palloc0(sizeof(char *) * MOST_HEADERS);
	int64 now = (int64) time(NULL);

	if (body == NULL || id == NULL)
		unusable();
	headers[0] = pstrdup("content-type: application/json");
	headers[1] = pstrdup("user-agent: amzmp/" AMZMP_VERSION);
	headers[2] = psprintf("amzmp-id: %s", id);
	if (secret != NULL)
		headers[3] = psprintf("amzmp-signature: t=" INT64_FORMAT ",v1=%s", now, sign(secret, now, body));
	request->method = "POST";
	request->headers = headers;
	request->body = body;
	request->body_length = strlen(body);
	vault_forget_text(secret);
}

/* Members "to0", "to1" … until there is none. */
static void
build_mail(const JsonDoc *doc, HttpRequest *request)
{
	const char **recipients = palloc0(sizeof(char *) * (MOST_RECIPIENTS + 1));
	char *message = json_doc_copy(doc, "message");
	char *user = json_doc_copy(doc, "user");
	char *password = json_doc_copy(doc, "password");
	int count = 0;

	for (char *to; count < MOST_RECIPIENTS && (to = json_doc_copy(doc, psprintf("to%d", count))) != NULL; count++)
		recipients[count] = to;
	request->mail_from = json_doc_copy(doc, "from");
	if (count == 0 || message == NULL || request->mail_from == NULL)
		unusable();
	request->method = "MAIL";
	request->mail_to = recipients;
	request->body = message;
	request->body_length = strlen(message);
	request->once = true;
	if (user != NULL && password != NULL)
		request->user_password = psprintf("%s:%s", user, password);
	vault_forget_text(password);
}

void
tell_build(char *rendered, HttpRequest *request)
{
	JsonDoc *doc = json_doc_parse(rendered, strlen(rendered), NULL);

	memset(request, 0, sizeof(*request));
	request->url = json_doc_copy(doc, "url");
	if (doc == NULL || request->url == NULL)
		unusable();
	if (json_doc_text(doc, JSON_PATH("message")) != NULL)
		build_mail(doc, request);
	else
		build_webhook(doc, request);
	json_doc_free(doc);
	explicit_bzero(rendered, strlen(rendered));
}

/* SMTP's 4yz says "later" and 5yz "never"; HTTP says it the other way round. */
static SpapiVerdict
verdict_of_status(int status, bool is_mail)
{
	if (status >= 200 && status < 300)
		return SPAPI_SUCCESS;
	if (is_mail)
		return status >= 500 ? SPAPI_PERMANENT : SPAPI_RETRY;
	return status == 408 || status == 425 || status == 429 || status >= 500 ? SPAPI_RETRY : SPAPI_PERMANENT;
}

SpapiVerdict
tell_judge(const HttpAnswer *answer, bool is_mail, SpapiError *error)
{
	SpapiVerdict verdict;

	memset(error, 0, sizeof(*error));
	if (answer->fault == HTTP_OK)
		verdict = verdict_of_status(answer->status, is_mail);
	else
		verdict = answer->fault == HTTP_NOT_SENT ? SPAPI_RETRY : SPAPI_UNKNOWN;
	if (verdict == SPAPI_SUCCESS)
		return verdict;
	strlcpy(error->code, verdict == SPAPI_PERMANENT ? "Refused" : "TemporaryFailure", sizeof(error->code));
	if (answer->error[0] != '\0')
		strlcpy(error->message, answer->error, sizeof(error->message));
	else
		snprintf(error->message, sizeof(error->message), "the receiver answered %d", answer->status);
	return verdict;
}
