/*
 * tokens.c: createRestrictedDataToken: a token for named resources that replaces the access token in their calls.
 */
#include "sim.h"

#include <stdlib.h>

#define MOST_RESOURCES 50

static bool
resources_allowed(Call *call)
{
	static const Field request[] = {
		{"targetApplication", JSON_STRING, false, NULL},
		{"restrictedResources", JSON_ARRAY, true, NULL},
	};
	static const Field fields[] = {
		{"method", JSON_STRING, true, "GET,PUT,POST,DELETE"},
		{"path", JSON_STRING, true, NULL},
		{"dataElements", JSON_ARRAY, false, NULL},
	};
	const json_t *resources = json_object_get(call->body, "restrictedResources");
	size_t i;
	json_t *resource;

	if (!validate_object(call, call->body, "body", request, lengthof(request)))
		return false;
	if (json_array_size(resources) == 0 || json_array_size(resources) > MOST_RESOURCES)
		call_violation(call, 400, "InvalidInput", "restrictedResources has 1 to %d entries.", MOST_RESOURCES);
	json_array_foreach(resources, i, resource)
	{
		if (call->status != 0 || !validate_object(call, resource, "restrictedResource", fields, lengthof(fields)))
			return false;
		if (*json_get_text(resource, "path") != '/')
			call_violation(call, 400, "InvalidInput", "A path begins with a slash.");
	}
	return call->status == 0;
}

/* POST /tokens/2021-03-01/restrictedDataToken */
void
tokens_create(Call *call)
{
	char *token;

	if (!resources_allowed(call))
		return;
	token = lwa_issue_restricted(call, json_object_get(call->body, "restrictedResources"));
	call_answer(call, 200, json_pack("{s:s, s:i}", "restrictedDataToken", token, "expiresIn", 3600));
	free(token);
}
