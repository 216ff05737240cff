/*
 * spapi.c
 *	  An SP-API operation and its parameters become an HTTP request.
 *
 * Reading what comes back is spapi_answer.c. Which operations exist is the table amzmp.operation, when they are sent
 * the sender's or call.c's affair. What is built lives in the current memory context and contains secrets: the caller
 * hands it to http_start, which copies it, and then calls spapi_forget.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "errcodes.h"
#include "spapi.h"
#include "vault.h"

/* Name/Version (Language=...; Platform=...), as Amazon's policy asks. */
#define USER_AGENT "user-agent: amzmp/" AMZMP_VERSION " (Language=C; Platform=PostgreSQL/" PG_MAJORVERSION ")"

/* Takes the place of the access token: a parameter, because it is rendered with the call that it was made for. */
#define RESTRICTED_TOKEN        "restrictedDataToken"
#define HEADER_PARAMETER_PREFIX "x-amzn-"
#define MOST_HEADERS            16

/*---------------------------------------------------------------------------------------------------------------
 * Encoding
 */

static bool
is_unreserved(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
		   c == '_' || c == '~';
}

/* Percent-encode, once, everything outside RFC 3986's unreserved characters; `kept` names one more that stays. */
static void
append_encoded(StringInfo to, const char *text, int length, char kept)
{
	static const char digits[] = "0123456789ABCDEF";
	char *utf8 = pg_server_to_any(text, length, PG_UTF8);
	int utf8_length = utf8 == text ? length : (int) strlen(utf8);
	int i;

	for (i = 0; i < utf8_length; i++)
	{
		unsigned char c = (unsigned char) utf8[i];

		if (is_unreserved(c) || (kept != '\0' && c == (unsigned char) kept))
			appendStringInfoChar(to, c);
		else
		{
			appendStringInfoChar(to, '%');
			appendStringInfoChar(to, digits[c >> 4]);
			appendStringInfoChar(to, digits[c & 15]);
		}
	}
}

void
spapi_append_encoded(StringInfo to, const char *text, int length)
{
	append_encoded(to, text, length, '\0');
}

/* Text of a scalar: as it is written in JSON, strings without their quotes. NULL for what is no scalar, and for null. */
static const char *
scalar_text(const JsonbValue *value, int *length)
{
	const char *text;

	switch (value->type)
	{
		case jbvString:
			*length = value->val.string.len;
			return value->val.string.val;
		case jbvBool:
			text = value->val.boolean ? "true" : "false";
			break;
		case jbvNumeric:
			text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
			break;
		default:
			return NULL;
	}
	*length = (int) strlen(text);
	return text;
}

/* `why` is a whole sentence. */
static void
refuse_value(const char *name, int name_length, const char *why)
{
	ereport(ERROR, (errcode(ERRCODE_AMZMP_BAD_VALUE), errmsg("unusable value of parameter \"%.*s\"", name_length, name),
					errdetail("%s", why), errhint("A parameter is a text, number or boolean, or an array of these.")));
}

/*---------------------------------------------------------------------------------------------------------------
 * The path
 */

/* NULL when the parameters have no such member. */
static JsonbValue *
find_parameter(const SpapiCall *call, const char *name, int length, JsonbValue *room)
{
	if (call->params == NULL)
		return NULL;
	return getKeyJsonValueFromContainer(&call->params->root, name, length, room);
}

/*
 * A segment "." or ".." cannot be encoded: servers on the way may resolve it and turn the request into one for another
 * resource. `text` may hold several segments.
 */
static bool
has_dot_segment(const char *text, int length)
{
	int start = 0;
	int i;

	for (i = 0; i <= length; i++)
	{
		if (i < length && text[i] != '/')
			continue;
		if ((i - start == 1 && text[start] == '.') || (i - start == 2 && text[start] == '.' && text[start + 1] == '.'))
			return true;
		start = i + 1;
	}
	return false;
}

static void
append_path_parameter(StringInfo url, const SpapiCall *call, const char *name, int name_length)
{
	/* What an upload is for is itself a path, and the Uploads API takes it with its slashes. */
	bool is_resource = strncmp(call->path, "/uploads/", 9) == 0 && name_length == 8 && memcmp(name, "resource", 8) == 0;
	JsonbValue room;
	JsonbValue *value = find_parameter(call, name, name_length, &room);
	const char *text;
	int length = 0;

	if (value == NULL || value->type == jbvNull)
		ereport(ERROR, (errcode(ERRCODE_AMZMP_BAD_VALUE),
						errmsg("operation %s needs the parameter \"%.*s\"", call->operation, name_length, name),
						errdetail("It is part of the path %s.", call->path),
						errhint("Add a member \"%.*s\" to the parameters.", name_length, name)));
	text = scalar_text(value, &length);
	if (text == NULL)
		refuse_value(name, name_length, "It is part of the path and must be one value.");
	if (length == 0)
		refuse_value(name, name_length, "It is part of the path and must not be empty.");
	if (has_dot_segment(text, length))
		refuse_value(name, name_length, "It is part of the path, where \".\" and \"..\" have a meaning of their own.");
	append_encoded(url, text, length, is_resource ? '/' : '\0');
}

static void
append_path(StringInfo url, const SpapiCall *call)
{
	const char *from = call->path;

	while (*from != '\0')
	{
		const char *open = strchr(from, '{');
		const char *close = open != NULL ? strchr(open, '}') : NULL;

		if (close == NULL)
		{
			appendStringInfoString(url, from);
			return;
		}
		appendBinaryStringInfo(url, from, (int) (open - from));
		append_path_parameter(url, call, open + 1, (int) (close - open - 1));
		from = close + 1;
	}
}

static bool
in_path(const SpapiCall *call, const char *name, int length)
{
	const char *open = call->path;

	while ((open = strchr(open, '{')) != NULL)
	{
		open++;
		if (strncmp(open, name, length) == 0 && open[length] == '}')
			return true;
	}
	return false;
}

/*---------------------------------------------------------------------------------------------------------------
 * The query, and parameters that travel as headers
 */

/* An array's elements are encoded one by one and joined by plain commas. */
static void
append_array(StringInfo url, const char *name, int name_length, JsonbContainer *array)
{
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbIteratorToken token;
	JsonbValue element;
	const char *separator = "";

	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		int length = 0;
		const char *text;

		if (token != WJB_ELEM)
			continue;
		text = scalar_text(&element, &length);
		if (text == NULL)
			refuse_value(name, name_length, "An array must not contain null, an array or an object.");
		appendStringInfoString(url, separator);
		spapi_append_encoded(url, text, length);
		separator = ",";
	}
}

static bool
is_empty_array(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data) &&
		   JsonContainerSize(value->val.binary.data) == 0;
}

static void
append_query(StringInfo url, char separator, const char *name, int name_length, const JsonbValue *value)
{
	int length = 0;
	const char *text = scalar_text(value, &length);

	appendStringInfoChar(url, separator);
	spapi_append_encoded(url, name, name_length);
	appendStringInfoChar(url, '=');
	if (text != NULL)
		spapi_append_encoded(url, text, length);
	else if (value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data))
		append_array(url, name, name_length, value->val.binary.data);
	else
		refuse_value(name, name_length, "It must not be an object.");
}

static bool
is_printable_ascii(const char *text, int length)
{
	int i;

	for (i = 0; i < length; i++)
		if (text[i] < ' ' || text[i] > '~')
			return false;
	return true;
}

static void
add_header(HttpRequest *request, int *count, char *line)
{
	const char **headers = (const char **) request->headers; /* ours: made by begin_request */

	if (*count >= MOST_HEADERS)
		ereport(ERROR, (errcode(ERRCODE_AMZMP_BAD_VALUE), errmsg("too many parameters that become headers")));
	headers[(*count)++] = line;
	headers[*count] = NULL;
}

static void
add_header_parameter(HttpRequest *request, int *count, const char *name, int name_length, const JsonbValue *value)
{
	int length = 0;
	const char *text = scalar_text(value, &length);

	if (text == NULL || !is_printable_ascii(text, length) || !is_printable_ascii(name, name_length) ||
		memchr(name, ':', name_length) != NULL)
		refuse_value(name, name_length,
					 "It becomes a header and must be one value; name and value must be printable ASCII.");
	add_header(request, count, psprintf("%.*s: %.*s", name_length, name, length, text));
}

static bool
is_restricted_token(const char *name, int length)
{
	return length == (int) strlen(RESTRICTED_TOKEN) && strncmp(name, RESTRICTED_TOKEN, length) == 0;
}

/* Whatever has no place in the path. Members that are null or an empty array are as good as absent. */
static void
append_rest(StringInfo url, const SpapiCall *call, HttpRequest *request, int *header_count)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue key;
	char separator = '?';

	if (call->params == NULL)
		return;
	it = JsonbIteratorInit(&call->params->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		const char *name = key.val.string.val;
		int length = key.val.string.len;
		JsonbValue value;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type == jbvNull || is_empty_array(&value) || in_path(call, name, length) ||
			is_restricted_token(name, length))
			continue;
		if (length > (int) strlen(HEADER_PARAMETER_PREFIX) &&
			pg_strncasecmp(name, HEADER_PARAMETER_PREFIX, strlen(HEADER_PARAMETER_PREFIX)) == 0)
			add_header_parameter(request, header_count, name, length, &value);
		else
		{
			append_query(url, separator, name, length, &value);
			separator = '&';
		}
	}
}

/*---------------------------------------------------------------------------------------------------------------
 * Requests
 */

static void
begin_request(HttpRequest *request, const char *method)
{
	memset(request, 0, sizeof(*request));
	request->method = method;
	request->headers = palloc0(sizeof(char *) * (MOST_HEADERS + 1));
}

/* The header that says who asks; NULL when nobody needs to know. */
static char *
token_header(const SpapiCall *call)
{
	JsonbValue buffer;
	JsonbValue *restricted = NULL;

	if (call->params != NULL)
		restricted =
			getKeyJsonValueFromContainer(&call->params->root, RESTRICTED_TOKEN, (int) strlen(RESTRICTED_TOKEN), &buffer);
	if (restricted != NULL && restricted->type == jbvString)
	{
		int length = restricted->val.string.len;

		if (!is_printable_ascii(restricted->val.string.val, length))
			refuse_value(RESTRICTED_TOKEN, (int) strlen(RESTRICTED_TOKEN), "It is no token.");
		return psprintf("x-amz-access-token: %.*s", length, restricted->val.string.val);
	}
	return call->token != NULL ? psprintf("x-amz-access-token: %s", call->token) : NULL;
}

void
spapi_build(const SpapiCall *call, HttpRequest *request)
{
	StringInfoData url;
	int header_count = 0;
	char *token;

	if (call->params != NULL && !JB_ROOT_IS_OBJECT(call->params))
		ereport(ERROR, (errcode(ERRCODE_AMZMP_BAD_VALUE), errmsg("the parameters of an operation must be a JSON object"),
						errhint("For example {\"marketplaceIds\": [\"A1PA6795UKMFR9\"]}.")));

	begin_request(request, call->method);
	add_header(request, &header_count, pstrdup(USER_AGENT));
	add_header(request, &header_count, pstrdup("accept: application/json"));
	if ((token = token_header(call)) != NULL)
		add_header(request, &header_count, token);

	initStringInfo(&url);
	appendStringInfoString(&url, call->endpoint);
	append_path(&url, call);
	append_rest(&url, call, request, &header_count);
	request->url = url.data;

	if (call->body != NULL)
	{
		int length = (int) strlen(call->body);
		char *utf8 = pg_server_to_any(call->body, length, PG_UTF8);

		request->body = utf8 == call->body ? pnstrdup(call->body, length) : utf8;
		request->body_length = strlen(request->body);
		add_header(request, &header_count, pstrdup("content-type: application/json"));
	}
	request->once = !call->repeatable;
}

void
spapi_forget(HttpRequest *request)
{
	const char *const *line;

	for (line = request->headers; line != NULL && *line != NULL; line++)
		vault_forget_text(*line);
	if (request->headers != NULL)
		pfree((void *) request->headers);
	vault_forget_text(request->url);
	vault_forget(unconstify(char *, request->body), request->body_length);
	vault_forget_text(request->user_password);
	memset(request, 0, sizeof(*request));
}
