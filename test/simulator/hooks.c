/*
 * hooks.c: whoever listens to webhooks. POST /_hook/NAME is received, checked and kept, so that a test can ask what came.
 *
 * A hook that was given a secret takes only what is signed with it, as the header of src/tell.c says, within five
 * minutes; what comes twice under one id is counted.
 */
#include "sim.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIGNATURE_AGE (5 * MINUTE)

typedef struct Hook
{
	char *secret;
	json_t *received; /* array of {"id", "body", "text": the body as it came, "signature"} */
	json_t *ids;      /* object */
	int refused;
	int repeated;
} Hook;

static Table *hooks;

static void
hook_free(void *value)
{
	Hook *hook = value;

	free(hook->secret);
	json_decref(hook->received);
	json_decref(hook->ids);
	free(hook);
}

void
hooks_reset(void)
{
	table_free(hooks, hook_free);
	hooks = table_new();
}

static Hook *
hook_of_name(const char *name)
{
	Hook *hook = table_get(hooks, name);

	if (hook == NULL)
	{
		hook = xalloc(sizeof(Hook));
		hook->received = json_array();
		hook->ids = json_object();
		table_put(hooks, name, hook);
	}
	return hook;
}

void
hook_expect(const char *name, const char *secret)
{
	Hook *hook = hook_of_name(name);

	free(hook->secret);
	hook->secret = secret == NULL ? NULL : xstrdup(secret);
}

/* "t=SECONDS,v1=HEX" */
static bool
signature_holds(const Call *call, const Hook *hook)
{
	const char *signature = call_header(call, "amzmp-signature");
	long long seconds = 0;
	char given[65] = "";
	char made[65] = "";
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned length = 0;
	char *text;

	if (signature == NULL || sscanf(signature, "t=%lld,v1=%64[0-9a-f]", &seconds, given) != 2)
		return false;
	text = xprintf("%lld.%s", seconds, call->input == NULL ? "" : call->input);
	HMAC(EVP_sha256(), hook->secret, (int) strlen(hook->secret), (unsigned char *) text, strlen(text), digest, &length);
	free(text);
	for (unsigned i = 0; i < length && i < 32; i++)
		snprintf(made + 2 * i, 3, "%02x", digest[i]);
	return strcmp(given, made) == 0 && llabs(seconds * SECOND - clock_real()) < SIGNATURE_AGE;
}

void
hook_receive(Call *call)
{
	Hook *hook = hook_of_name(call->argument[0]);
	const char *id = call_header(call, "amzmp-id");
	json_t *body = json_loadb(call->input == NULL ? "" : call->input, call->input_length, 0, NULL);

	if (id == NULL || body == NULL || (hook->secret != NULL && !signature_holds(call, hook)))
	{
		hook->refused++;
		json_decref(body);
		call_fail(call, 401, "Refused", "The webhook is not signed, or not JSON.");
		return;
	}
	if (json_object_get(hook->ids, id) != NULL)
		hook->repeated++;
	json_object_set_new(hook->ids, id, json_true());
	json_array_append_new(hook->received,
						  json_pack("{s:s, s:o, s:s%, s:s*}", "id", id, "body", body, "text", call->input,
									call->input_length, "signature", call_header(call, "amzmp-signature")));
	call_answer(call, 200, json_pack("{s:b}", "ok", true));
}

static bool
list_hook(const char *name, void *value, void *arg)
{
	const Hook *hook = value;

	json_object_set_new(arg, name,
						json_pack("{s:I, s:i, s:i, s:O}", "count", (json_int_t) json_array_size(hook->received),
								  "refused", hook->refused, "repeated", hook->repeated, "received", hook->received));
	return true;
}

json_t *
hooks_json(void)
{
	json_t *all = json_object();

	table_each(hooks, list_hook, all);
	return all;
}
