/*
 * validate.c: is a request one that the published models allow? Headers, path and query encoding, query parameters,
 * the outer shape of bodies. Every refusal here is counted as a violation: a correct client never causes one.
 */
#include "sim.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_USER_AGENT 500
#define MAX_JSON_BODY  (10 * 1024 * 1024)

static bool
hex_pair(const char *text, size_t left, int *value)
{
	char digits[3] = {0};

	if (left < 3 || !isxdigit((unsigned char) text[1]) || !isxdigit((unsigned char) text[2]))
		return false;
	memcpy(digits, text + 1, 2);
	*value = (int) strtol(digits, NULL, 16);
	return true;
}

/* Decodes one path segment or query value; *problem says what is wrong with it, if anything. */
char *
percent_decode(const char *text, size_t length, const char **problem)
{
	char *out = xalloc(length + 1);
	size_t used = 0;
	json_t *check;

	for (size_t i = 0; i < length; i++)
	{
		int value = (unsigned char) text[i];

		if (text[i] == '%')
		{
			if (!hex_pair(text + i, length - i, &value))
				*problem = "a % without two hexadecimal digits";
			else
				i += 2;
		}
		else if (!isalnum(value) && strchr("-._~!$&'()*,;=:@/?", value) == NULL)
			*problem = value == '+' ? "a raw + (a space is %20, a plus is %2B)" : "a character that must be encoded";
		if (value == 0)
			*problem = "a NUL";
		out[used++] = (char) value;
	}
	check = json_string(out);
	if (check == NULL)
		*problem = "not UTF-8";
	json_decref(check);
	return out;
}

/* Name/Version (Language=...; Platform=...), backslash escapes; Amazon's own client sends a form of its own */
static bool
user_agent_has_form(const char *text)
{
	const char *at = text;
	const char *open;

	if (starts_with(text, "amazon-selling-partner-api-sdk/"))
		return true;
	while (*at != '\0' && *at != '/')
		at += *at == '\\' && at[1] != '\0' ? 2 : 1;
	if (at == text || *at != '/')
		return false;
	open = strstr(at, " (");
	if (open == NULL || open == at + 1 || !ends_with(text, ")"))
		return false;
	return strstr(open, "(Language=") != NULL || strstr(open, "; Language=") != NULL || strstr(open, ";Language=") != NULL;
}

static bool
date_header_has_form(const char *text)
{
	for (size_t i = 0; i < 16; i++)
		if (i == 8 ? text[i] != 'T' : i == 15 ? text[i] != 'Z' : !isdigit((unsigned char) text[i]))
			return false;
	return text[16] == '\0';
}

bool
validate_headers(Call *call)
{
	const char *agent = call_header(call, "user-agent");
	const char *date = call_header(call, "x-amz-date");

	if (agent == NULL || *agent == '\0')
		call_violation(call, 400, "InvalidInput", "The user-agent header is missing.");
	else if (strlen(agent) > MAX_USER_AGENT)
		call_violation(call, 400, "InvalidInput", "The user-agent header has more than %d characters.", MAX_USER_AGENT);
	else if (settings.strict_user_agent && !user_agent_has_form(agent))
		call_violation(call, 400, "InvalidInput",
					   "The user-agent header is not of the form Name/Version (Language=...; Platform=...).");
	if (date != NULL && !date_header_has_form(date))
		call_violation(call, 400, "InvalidInput", "The x-amz-date header is not of the form yyyymmddThhmmssZ.");
	return call->status == 0;
}

static const Param *
param_find(const Operation *operation, const char *name, size_t length)
{
	for (const Param *param = operation->params; param != NULL && param->name != NULL; param++)
		if (strlen(param->name) == length && strncmp(param->name, name, length) == 0)
			return param;
	return NULL;
}

static void
param_refuse(Call *call, const Param *param, const char *why)
{
	call_violation(call, 400, "InvalidInput", "Invalid value for query parameter '%s': %s", param->name, why);
}

static json_t *
param_list(Call *call, const Param *param, const char *text)
{
	json_t *list = json_array();
	const char *at = text;

	do
	{
		size_t length = strcspn(at, ",");
		json_t *entry = json_stringn(at, length);

		if (length == 0)
			param_refuse(call, param, "an entry is empty");
		else if (param->kind == PARAM_ENUM_LIST && !text_is_one_of(json_string_value(entry), param->allowed))
			param_refuse(call, param, "an entry is not one of the allowed values");
		json_array_append_new(list, entry);
		at += length;
	} while (*at++ == ',');
	if (param->high > 0 && (int64_t) json_array_size(list) > param->high)
		param_refuse(call, param, "too many entries");
	return list;
}

static json_t *
param_integer(Call *call, const Param *param, const char *text)
{
	char *end;
	long long value = strtoll(text, &end, 10);

	if (*end != '\0' || !(isdigit((unsigned char) *text) || *text == '-'))
		param_refuse(call, param, "not an integer");
	else if (value < param->low || (param->high > 0 && value > param->high))
		param_refuse(call, param, "out of range");
	return json_integer(value);
}

static json_t *
param_value(Call *call, const Param *param, const char *text)
{
	Micros when = 0;

	switch (param->kind)
	{
		case PARAM_ENUM:
			if (!text_is_one_of(text, param->allowed))
				param_refuse(call, param, "not one of the allowed values");
			return json_string(text);
		case PARAM_INT:
			return param_integer(call, param, text);
		case PARAM_BOOL:
			if (!text_is_one_of(text, "true,false"))
				param_refuse(call, param, "not true or false");
			return json_boolean(strcmp(text, "true") == 0);
		case PARAM_TIME:
			if (!time_parse(text, &when))
				param_refuse(call, param, "not a date-time with zone in ISO 8601");
			return json_integer(when);
		case PARAM_LIST:
		case PARAM_ENUM_LIST:
			return param_list(call, param, text);
		default:
			return json_string(text);
	}
}

static void
take_parameter(Call *call, const char *text, size_t length)
{
	size_t name_length = strcspn(text, "=&");
	const Param *param = param_find(call->operation, text, name_length);
	const char *problem = NULL;
	char *value;

	if (param == NULL)
	{
		call_violation(call, 400, "InvalidInput", "Unknown query parameter '%.*s'.", (int) name_length, text);
		return;
	}
	if (name_length >= length || length == name_length + 1)
	{
		param_refuse(call, param, "it is empty");
		return;
	}
	if (json_object_get(call->query, param->name) != NULL)
	{
		param_refuse(call, param, "given more than once; a list is comma separated");
		return;
	}
	value = percent_decode(text + name_length + 1, length - name_length - 1, &problem);
	if (problem != NULL)
		param_refuse(call, param, problem);
	else
		json_object_set_new(call->query, param->name, param_value(call, param, value));
	free(value);
}

bool
validate_query(Call *call)
{
	const char *at = call->query_text;

	json_decref(call->query);
	call->query = json_object();
	while (at != NULL && *at != '\0')
	{
		size_t length = strcspn(at, "&");

		take_parameter(call, at, length);
		at += length + (at[length] == '&' ? 1 : 0);
	}
	for (const Param *param = call->operation->params; param != NULL && param->name != NULL; param++)
		if (param->required && json_object_get(call->query, param->name) == NULL && call->status == 0)
			call_violation(call, 400, "InvalidInput", "Missing required query parameter '%s'.", param->name);
	return call->status == 0;
}

bool
validate_body(Call *call)
{
	const char *type = call_header(call, "content-type");
	json_error_t problem;

	if (!(call->operation->flags & OPERATION_BODY))
	{
		if (call->input_length > 0)
			call_violation(call, 400, "InvalidInput", "This operation takes no body.");
		return call->status == 0;
	}
	if (call->input_length > MAX_JSON_BODY || call->input_too_large)
		call_violation(call, 413, "InvalidInput", "The body is too large.");
	else if (type == NULL || strncasecmp(type, "application/json", 16) != 0 || (type[16] != '\0' && type[16] != ';'))
		call_violation(call, 415, "InvalidInput", "The content-type of a body is application/json.");
	else if (call->input_length == 0)
		call_violation(call, 400, "InvalidInput", "The body is missing.");
	if (call->status != 0)
		return false;
	json_decref(call->body);
	call->body = json_loadb(call->input, call->input_length, JSON_REJECT_DUPLICATES, &problem);
	if (!json_is_object(call->body))
		call_violation(call, 400, "InvalidInput", "The body is not a JSON object: %s",
					   call->body == NULL ? problem.text : "another type");
	return call->status == 0;
}

/* Marketplace ids: known, and of the seller's region. */
bool
validate_markets(Call *call, const json_t *ids)
{
	size_t i;
	json_t *id;

	json_array_foreach(ids, i, id)
	{
		const char *text = json_string_value(id);
		const Marketplace *market = text == NULL ? NULL : marketplace_by_id(text);

		if (market == NULL)
			call_violation(call, 400, "InvalidInput", "Invalid marketplace id '%s'.", text == NULL ? "" : text);
		else if (!seller_in_market(call->seller, market))
			call_fail_detail(call, 403, "Unauthorized", "Access to requested resource is denied.",
							 "The seller is not registered in this marketplace, or it belongs to another endpoint.");
		if (call->status != 0)
			return false;
	}
	return true;
}

static bool
type_fits(const json_t *value, json_type type)
{
	if (type == JSON_TRUE)
		return json_is_boolean(value);
	return json_typeof(value) == type;
}

static bool
field_fits(Call *call, const json_t *value, const char *where, const Field *field)
{
	if (value == NULL)
	{
		if (field->required)
			call_violation(call, 400, "InvalidInput", "%s.%s is required.", where, field->name);
		return !field->required;
	}
	if (!type_fits(value, field->type))
		call_violation(call, 400, "InvalidInput", "%s.%s has the wrong JSON type.", where, field->name);
	else if (field->allowed != NULL && !text_is_one_of(json_string_value(value), field->allowed))
		call_violation(call, 400, "InvalidInput", "%s.%s is not one of the allowed values.", where, field->name);
	return call->status == 0;
}

/* An object of a body: required fields there, all of the right type, none unknown. */
bool
validate_object(Call *call, const json_t *object, const char *where, const Field *fields, size_t count)
{
	const char *key;
	json_t *value;

	if (!json_is_object(object))
	{
		call_violation(call, 400, "InvalidInput", "%s is not an object.", where);
		return false;
	}
	for (size_t i = 0; i < count; i++)
		if (!field_fits(call, json_object_get(object, fields[i].name), where, &fields[i]))
			return false;
	json_object_foreach((json_t *) object, key, value)
	{
		size_t i = 0;

		while (i < count && strcmp(fields[i].name, key) != 0)
			i++;
		if (i < count)
			continue;
		call_violation(call, 400, "InvalidInput", "%s has an unknown field '%s'.", where, key);
		return false;
	}
	return true;
}
