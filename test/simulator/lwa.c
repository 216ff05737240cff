/*
 * lwa.c: Login with Amazon: applications, grants, access tokens; and the check of the token of an SP-API request.
 *
 * Built in: an application (client id amzn1.application-oa2-client.demo) and the refresh tokens Atzr|demo (seller
 * A1DEMOSELLER) and Atzr|demo-<seller>, which belong to whichever application presents them. Tests register more.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CLIENT_PREFIX   "amzn1.application-oa2-client."
#define DEMO_SELLER     "A1DEMOSELLER"
#define DEMO_TOKEN      "Atzr|demo"
#define TOKEN_LIFETIME  (3600 * SECOND)
#define CODE_LIFETIME   (300 * SECOND)
#define SECRET_OVERLAP  (7 * 24 * HOUR)
#define SECRET_LIFETIME (180 * 24 * HOUR)
#define PURGE_EVERY     4096

typedef struct Grant /* a refresh token or a consent code */
{
	char *seller;
	char *client_id; /* NULL: any */
	char *redirect_uri;
	bool revoked;
	Micros ends; /* 0: never */
} Grant;

typedef struct Access
{
	Application *application;
	Seller *seller; /* NULL for a scope */
	char *scope;
	json_t *resources; /* of a restricted data token */
	char *origin;      /* refresh token it came from */
	Micros ends;
} Access;

static Table *applications;
static Table *refresh_tokens;
static Table *codes;
static Table *access_tokens;
static int64_t issued;

static void
application_free(void *value)
{
	Application *application = value;

	free(application->client_id);
	free(application->secret);
	free(application->old_secret);
	free(application->queue);
	free(application);
}

static void
grant_free(void *value)
{
	Grant *grant = value;

	free(grant->seller);
	free(grant->client_id);
	free(grant->redirect_uri);
	free(grant);
}

static void
access_free(void *value)
{
	Access *access = value;

	free(access->scope);
	free(access->origin);
	json_decref(access->resources);
	free(access);
}

static Application *
application_add(const char *client_id, const char *secret)
{
	Application *application = table_get(applications, client_id);

	if (application == NULL)
	{
		application = xalloc(sizeof(Application));
		application->client_id = xstrdup(client_id);
		application->personal = true;
		table_put(applications, client_id, application);
	}
	free(application->secret);
	application->secret = xstrdup(secret);
	return application;
}

static Grant *
grant_add(Table *table, const char *key, const char *seller)
{
	Grant *grant = table_get(table, key);

	if (grant == NULL)
		grant = xalloc(sizeof(Grant));
	free(grant->seller);
	grant->seller = xstrdup(seller);
	table_put(table, key, grant);
	return grant;
}

void
lwa_reset(void)
{
	table_free(access_tokens, access_free);
	table_free(codes, grant_free);
	table_free(refresh_tokens, grant_free);
	table_free(applications, application_free);
	applications = table_new();
	refresh_tokens = table_new();
	codes = table_new();
	access_tokens = table_new();
	application_add(CLIENT_PREFIX "demo", "amzn1.oa2-cs.v1.demo");
}

static void
refuse(Call *call, int status, const char *error, const char *description)
{
	call_answer(call, status, json_pack("{s:s, s:s}", "error", error, "error_description", description));
}

/* Refuses what no correct client sends. */
static void
refuse_malformed(Call *call, const char *error, const char *description)
{
	call->violation = true;
	stats_violation(call, description);
	refuse(call, 400, error, description);
}

/* application/x-www-form-urlencoded, where + is a space */
static json_t *
form_parse(const char *text)
{
	json_t *form = json_object();

	while (text != NULL && *text != '\0')
	{
		size_t length = strcspn(text, "&");
		size_t name = strcspn(text, "=&");
		char *copy = strndup(text, length);
		const char *problem = NULL;
		char *value;

		for (char *at = copy; *at != '\0'; at++)
			if (*at == '+')
				*at = ' ';
		value =
			percent_decode(copy + (name < length ? name + 1 : length), name < length ? length - name - 1 : 0, &problem);
		copy[name] = '\0';
		json_object_set_new(form, copy, json_string(value));
		free(value);
		free(copy);
		text += length + (text[length] == '&' ? 1 : 0);
	}
	return form;
}

static Table *living;

static bool
keep_living(const char *key, void *value, void *arg)
{
	Access *access = value;

	(void) arg;
	if (access->ends > clock_now() - TOKEN_LIFETIME)
		table_put(living, key, access);
	else
		access_free(access);
	return true;
}

/* Tokens that expired long ago go; the recent ones stay, to be answered with "has expired". */
static void
purge_expired(void)
{
	living = table_new();
	table_each(access_tokens, keep_living, NULL);
	table_free(access_tokens, NULL);
	access_tokens = living;
}

static Access *
access_issue(Application *application, Seller *seller, const char *prefix, char token[400])
{
	Access *access = xalloc(sizeof(Access));

	if (++issued % PURGE_EVERY == 0)
		purge_expired();
	strcpy(token, prefix);
	random_text(token + strlen(prefix), 340);
	access->application = application;
	access->seller = seller;
	access->ends = clock_now() + TOKEN_LIFETIME;
	table_put(access_tokens, token, access);
	return access;
}

static void
answer_token(Call *call, Application *application, Seller *seller, const char *refresh_token, const char *scope)
{
	char token[400];
	Access *access = access_issue(application, seller, "Atza|", token);

	access->scope = scope == NULL ? NULL : xstrdup(scope);
	access->origin = refresh_token == NULL ? NULL : xstrdup(refresh_token);
	call_answer(call, 200,
				json_pack("{s:s, s:s, s:i, s:s*}", "access_token", token, "token_type", "bearer", "expires_in", 3600,
						  "refresh_token", refresh_token));
}

static Grant *
refresh_token_find(const char *token)
{
	Grant *grant = table_get(refresh_tokens, token);

	if (grant != NULL)
		return grant;
	if (strcmp(token, DEMO_TOKEN) == 0)
		return grant_add(refresh_tokens, token, DEMO_SELLER);
	if (starts_with(token, DEMO_TOKEN "-") && strlen(token) > strlen(DEMO_TOKEN) + 1)
		return grant_add(refresh_tokens, token, token + strlen(DEMO_TOKEN) + 1);
	return NULL;
}

static bool
grant_holds(const Grant *grant, const Application *application)
{
	return grant != NULL && !grant->revoked && (grant->ends == 0 || grant->ends > clock_now()) &&
		   (grant->client_id == NULL || strcmp(grant->client_id, application->client_id) == 0);
}

static void
grant_refresh(Call *call, const json_t *form, Application *application)
{
	const char *token = json_get_text(form, "refresh_token");
	Grant *grant;

	if (token == NULL || *token == '\0')
	{
		refuse_malformed(call, "invalid_request", "The request is missing a required parameter : refresh_token");
		return;
	}
	grant = refresh_token_find(token);
	if (!grant_holds(grant, application))
	{
		refuse(call, 400, "invalid_grant", "The request has an invalid grant parameter : refresh_token");
		return;
	}
	answer_token(call, application, seller_get(grant->seller), token, NULL);
}

static void
grant_scope(Call *call, const json_t *form, Application *application)
{
	const char *scope = json_get_text(form, "scope");

	if (scope == NULL || *scope == '\0')
		refuse_malformed(call, "invalid_request", "The request is missing a required parameter : scope");
	else if (!text_is_one_of(scope, "sellingpartnerapi::notifications,sellingpartnerapi::client_credential:rotation"))
		refuse_malformed(call, "invalid_scope", "The request has an invalid parameter : scope");
	else
		answer_token(call, application, NULL, NULL, scope);
}

/* A consent code works once. */
static void
grant_code(Call *call, const json_t *form, Application *application)
{
	const char *code = json_get_text(form, "code");
	const char *redirect = json_get_text(form, "redirect_uri");
	Grant *grant = code == NULL ? NULL : table_get(codes, code);
	char token[400] = "Atzr|";

	if (code == NULL || *code == '\0')
	{
		refuse_malformed(call, "invalid_request", "The request is missing a required parameter : code");
		return;
	}
	if (!grant_holds(grant, application) ||
		(grant->redirect_uri != NULL && (redirect == NULL || strcmp(redirect, grant->redirect_uri) != 0)))
	{
		refuse(call, 400, "invalid_grant", "The request has an invalid grant parameter : code");
		return;
	}
	grant->revoked = true;
	random_text(token + 5, 340);
	grant_add(refresh_tokens, token, grant->seller)->client_id = xstrdup(application->client_id);
	answer_token(call, application, seller_get(grant->seller), token, NULL);
}

static bool
secret_fits(const Application *application, const char *secret)
{
	if (strcmp(application->secret, secret) == 0)
		return true;
	return application->old_secret != NULL && strcmp(application->old_secret, secret) == 0 &&
		   application->old_secret_ends > clock_now();
}

static Application *
client_check(Call *call, const json_t *form)
{
	const char *id = json_get_text(form, "client_id");
	const char *secret = json_get_text(form, "client_secret");
	Application *application = id == NULL ? NULL : table_get(applications, id);

	if (id == NULL || *id == '\0')
		refuse_malformed(call, "invalid_request", "The request is missing a required parameter : client_id");
	else if (secret == NULL || *secret == '\0')
		refuse_malformed(call, "invalid_request", "The request is missing a required parameter : client_secret");
	else if (application == NULL || !secret_fits(application, secret))
		refuse(call, 401, "invalid_client", "Client authentication failed");
	else if (application->disabled)
		refuse(call, 400, "unauthorized_client", "Not authorized for requested operation");
	return call->status == 0 ? application : NULL;
}

/* POST /auth/o2/token */
void
lwa_token(Call *call)
{
	const char *type = call_header(call, "content-type");
	json_t *form = form_parse(call->input);
	const char *grant = json_get_text(form, "grant_type");
	Application *application = NULL;

	if (type == NULL || strncasecmp(type, "application/x-www-form-urlencoded", 33) != 0)
		refuse_malformed(call, "invalid_request", "The request body is not application/x-www-form-urlencoded");
	else if (grant == NULL || *grant == '\0')
		refuse_malformed(call, "invalid_request", "The request is missing a required parameter : grant_type");
	else if (!text_is_one_of(grant, "refresh_token,client_credentials,authorization_code"))
		refuse_malformed(call, "unsupported_grant_type", "The authorization grant type is not supported");
	else
		application = client_check(call, form);
	if (application != NULL && strcmp(grant, "refresh_token") == 0)
		grant_refresh(call, form, application);
	else if (application != NULL && strcmp(grant, "client_credentials") == 0)
		grant_scope(call, form, application);
	else if (application != NULL)
		grant_code(call, form, application);
	json_decref(form);
}

static bool
deny(Call *call, const char *detail)
{
	call_fail_detail(call, 403, "Unauthorized", "Access to requested resource is denied.", detail);
	return false;
}

static bool
resource_fits(const Call *call, const Access *access)
{
	size_t i;
	json_t *resource;

	json_array_foreach(access->resources, i, resource)
	{
		const char *path = json_get_text(resource, "path");

		if (strcmp(json_get_text(resource, "method"), call->method) == 0 &&
			(strcmp(path, call->path) == 0 || strcmp(path, call->operation->path) == 0))
			return true;
	}
	return false;
}

/* Finds whose request this is. */
bool
lwa_authenticate(Call *call)
{
	const char *token = call_header(call, "x-amz-access-token");
	Access *access = token == NULL ? NULL : table_get(access_tokens, token);
	bool grantless = (call->operation->flags & OPERATION_GRANTLESS) != 0;
	Grant *grant;

	if (token == NULL)
	{
		call->violation = true;
		stats_violation(call, "The x-amz-access-token header is missing.");
		return deny(call, "Access token is missing in the request header.");
	}
	if (access == NULL)
		return deny(call, "The access token you provided is revoked, malformed or invalid.");
	if (access->ends <= clock_now())
		return deny(call, "The access token you provided has expired.");
	call->application = access->application;
	grant = access->origin == NULL ? NULL : table_get(refresh_tokens, access->origin);
	if (grant != NULL && grant->revoked)
		return deny(call, "The access token you provided is revoked, malformed or invalid.");
	if (grantless != (access->scope != NULL))
		return deny(call, grantless ? "This operation needs a token of a grantless scope."
									: "This operation needs a token of a selling partner.");
	if (grantless && call->operation->scope != NULL && strcmp(call->operation->scope, access->scope) != 0)
		return deny(call, "The scope of the token does not cover this operation.");
	call->seller = access->seller;
	call->restricted_token = access->resources != NULL;
	if (access->resources != NULL ? !resource_fits(call, access) : call->operation->flags & OPERATION_RESTRICTED)
		return deny(call, "A restricted data token for this resource is needed.");
	return true;
}

/* The token's text; resources become its own. */
char *
lwa_issue_restricted(const Call *call, const json_t *resources)
{
	char token[400];
	Access *access = access_issue(call->application, call->seller, "Atz.sprdt|", token);

	access->resources = json_deep_copy(resources);
	return xstrdup(token);
}

static bool
expire_one(const char *key, void *value, void *arg)
{
	Access *access = value;
	const char *seller = arg;

	(void) key;
	if (seller == NULL || (access->seller != NULL && strcmp(access->seller->id, seller) == 0))
		access->ends = 0;
	return true;
}

static json_t *
control_application(const json_t *spec, char **problem)
{
	const char *id = json_get_text(spec, "client_id");
	const char *secret = json_get_text(spec, "client_secret");
	Application *application;

	if (id == NULL || !starts_with(id, CLIENT_PREFIX))
	{
		*problem = xstrdup("client_id begins with " CLIENT_PREFIX);
		return NULL;
	}
	application = table_get(applications, id);
	if (application == NULL && secret == NULL)
	{
		*problem = xstrdup("client_secret is needed for a new application");
		return NULL;
	}
	if (secret != NULL)
		application = application_add(id, secret);
	if (json_get_text(spec, "queue") != NULL)
	{
		free(application->queue);
		application->queue = xstrdup(json_get_text(spec, "queue"));
	}
	application->personal = json_get_bool(spec, "personal", application->personal);
	application->disabled = json_get_bool(spec, "disabled", application->disabled);
	return json_pack("{s:s, s:b, s:b}", "client_id", id, "personal", application->personal, "disabled",
					 application->disabled);
}

/* A new secret; the old one lives on for a while. */
static void
rotate(Application *application, const char *given, Micros overlap)
{
	char fresh[64] = "amzn1.oa2-cs.v1.";

	random_text(fresh + strlen(fresh), 40);
	free(application->old_secret);
	application->old_secret = application->secret;
	application->old_secret_ends = clock_now() + overlap;
	application->secret = xstrdup(given != NULL ? given : fresh);
}

/* For "overlap" seconds instead of 7 days. */
static json_t *
control_rotate(const json_t *spec, char **problem)
{
	const char *id = json_get_text(spec, "client_id");
	Application *application = id == NULL ? NULL : table_get(applications, id);

	if (application == NULL)
	{
		*problem = xstrdup("client_id names no application");
		return NULL;
	}
	rotate(application, json_get_text(spec, "client_secret"),
		   (Micros) (json_get_number(spec, "overlap", (double) SECRET_OVERLAP / SECOND) * SECOND));
	return json_pack("{s:s, s:s, s:o}", "client_id", id, "client_secret", application->secret, "old_secret_ends",
					 time_json(application->old_secret_ends));
}

/* POST /applications/2023-11-30/clientSecret: the new secret goes to the portal's queue, and is in no answer. */
void
application_rotate(Call *call)
{
	Application *application = call->application;
	char notification[37];
	json_t *message;
	char *text;

	if (application->queue == NULL)
	{
		call_fail(call, 400, "InvalidInput", "No queue is registered for the notifications of the application.");
		return;
	}
	rotate(application, NULL, SECRET_OVERLAP);
	uuid_text(notification);
	message = json_pack("{s:s, s:s, s:s, s:o, s:{s:{s:s, s:s, s:o, s:o}}, s:{s:s, s:o, s:s}}", "notificationVersion",
						"1.0", "notificationType", "APPLICATION_OAUTH_CLIENT_NEW_SECRET", "payloadVersion", "2023-11-30",
						"eventTime", time_json(clock_now()), "payload", "applicationOAuthClientNewSecret", "clientId",
						application->client_id, "newClientSecret", application->secret, "newClientSecretExpiryTime",
						time_json(clock_now() + SECRET_LIFETIME), "oldClientSecretExpiryTime",
						time_json(application->old_secret_ends), "notificationMetadata", "applicationId",
						application->client_id, "publishTime", time_json(clock_now()), "notificationId", notification);
	text = json_dumps(message, JSON_COMPACT);
	queue_send(application->queue, text);
	free(text);
	json_decref(message);
	call->status = 204;
}

static json_t *
control_grant(Table *table, const char *key_name, const json_t *spec, const char *prefix, Micros lifetime)
{
	const char *given = json_get_text(spec, key_name);
	const char *seller = json_get_text(spec, "seller");
	const char *client = json_get_text(spec, "client_id");
	const char *redirect = json_get_text(spec, "redirect_uri");
	char key[400];
	Grant *grant;

	if (given == NULL)
	{
		strcpy(key, prefix);
		random_text(key + strlen(prefix), 18);
		given = key;
	}
	grant = table_get(table, given);
	if (grant == NULL || seller != NULL)
		grant = grant_add(table, given, seller == NULL ? DEMO_SELLER : seller);
	if (client != NULL)
	{
		free(grant->client_id);
		grant->client_id = xstrdup(client);
	}
	if (redirect != NULL)
	{
		free(grant->redirect_uri);
		grant->redirect_uri = xstrdup(redirect);
	}
	grant->revoked = json_get_bool(spec, "revoked", false);
	lifetime = (Micros) (json_get_number(spec, "expires_in", (double) lifetime / SECOND) * SECOND);
	grant->ends = lifetime == 0 ? 0 : clock_now() + lifetime;
	return json_pack("{s:s, s:s, s:b}", key_name, given, "seller", grant->seller, "revoked", grant->revoked);
}

/* What the control endpoint may do here: application, rotate, refresh_token, code, expire. */
json_t *
lwa_control(const char *what, const json_t *spec, char **problem)
{
	if (strcmp(what, "applications") == 0)
		return control_application(spec, problem);
	if (strcmp(what, "rotate") == 0)
		return control_rotate(spec, problem);
	if (strcmp(what, "refresh_tokens") == 0)
	{
		const char *token = json_get_text(spec, "refresh_token");

		if (token != NULL)
			refresh_token_find(token);
		return control_grant(refresh_tokens, "refresh_token", spec, "Atzr|", 0);
	}
	if (strcmp(what, "codes") == 0)
		return control_grant(codes, "code", spec, "", CODE_LIFETIME);
	table_each(access_tokens, expire_one, (void *) json_get_text(spec, "seller"));
	return json_pack("{s:b}", "expired", true);
}

static bool
list_application(const char *key, void *value, void *arg)
{
	Application *application = value;

	json_array_append_new(arg, json_pack("{s:s, s:b, s:b}", "client_id", key, "personal", application->personal,
										 "disabled", application->disabled));
	return true;
}

json_t *
lwa_json(void)
{
	json_t *list = json_array();

	table_each(applications, list_application, list);
	return json_pack("{s:o, s:I, s:I}", "applications", list, "access_tokens_issued", (json_int_t) issued,
					 "access_tokens_kept", (json_int_t) table_count(access_tokens));
}
