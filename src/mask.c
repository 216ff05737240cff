/*
 * mask.c
 *	  Blanking of credentials in text that is about to be logged.
 *
 * This is the last net, not the rule: code does not put secrets into messages in the first place. It is for what
 * comes from elsewhere, a library's debug line or an answer's body, where a credential may be hidden anywhere.
 *
 * Two things betray a credential: how it begins (Amazon's tokens carry a type in front) and the name of the header
 * or field it stands in. Both are looked for without regard to case, in one pass, byte by byte: all markers are
 * ASCII, and no server encoding has ASCII bytes inside a longer character.
 *
 * No state, no life cycle.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "mask.h"

#define MASK "***"

/* What a token begins with; `%7c` is the bar of a token inside a form. The prefix stays, it tells the kind. */
static const char *const token_prefix[] = {
	"Atza|",        "Atza%7c", "Atzr|",  "Atzr%7c",          "Atz.sprdt|",
	"Atz.sprdt%7c", "Atc|",    "Atc%7c", "amzn1.oa2-cs.v1.", "amzn1.application-oa2-client.",
};

/* Headers, JSON members and form fields whose value is a credential, whatever it looks like. */
static const char *const secret_name[] = {
	"x-amz-access-token",
	"authorization",
	"x-amz-security-token",
	"x-amz-signature",
	"x-amz-credential",
	"set-cookie",
	"cookie",
	"access_token",
	"refresh_token",
	"client_secret",
	"client_id",
	"spapi_oauth_code",
	"&code",
	"restrictedDataToken",
	"newClientSecret",
	"oldClientSecret",
};

PG_FUNCTION_INFO_V1(amzmp_mask);

static bool
is_token_byte(unsigned char c)
{
	return isalnum(c) || strchr("-._~+/=|%", c) != NULL;
}

/* Length of the marker of `list` that `at` begins with, or 0. */
static Size
marker_at(const char *const *list, int count, const char *at, const char *end)
{
	for (int i = 0; i < count; i++)
	{
		Size length = strlen(list[i]);

		if (length <= (Size) (end - at) && pg_strncasecmp(at, list[i], length) == 0)
			return length;
	}
	return 0;
}

static const char *
skip_blanks(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	return at;
}

/* The end of a value that stands between quotes; `at` is behind the opening one. */
static const char *
end_of_quoted(const char *at, const char *end, char quote)
{
	while (at < end && *at != quote)
	{
		if (*at == '\\' && at + 1 < end)
			at++;
		at++;
	}
	return at;
}

/*
 * `at` is behind a secret's name. Returns where its value begins and sets *value_end, or NULL when nothing that looks
 * like `: value` or `=value` follows. A header's value reaches to the end of the line, a form's to the next `&`.
 */
static const char *
value_behind_name(const char *at, const char *end, const char **value_end)
{
	char separator;

	while (at < end && strchr("\"'\\", *at) != NULL)
		at++;
	at = skip_blanks(at, end);
	if (at == end || (*at != ':' && *at != '='))
		return NULL;
	separator = *at;
	at = skip_blanks(at + 1, end);
	if (at == end)
		return NULL;

	/* JSON inside a JSON string: the quotes have backslashes. */
	if (*at == '\\')
	{
		while (at < end && (*at == '\\' || *at == '"'))
			at++;
		*value_end = at;
		while (*value_end < end && **value_end != '\\' && **value_end != '"')
			(*value_end)++;
		return at;
	}

	if (*at == '"' || *at == '\'')
	{
		*value_end = end_of_quoted(at + 1, end, *at);
		return at + 1;
	}
	*value_end = at;
	while (*value_end < end && strchr(separator == ':' ? "\r\n" : "\r\n \t&;,\"'<>", **value_end) == NULL)
		(*value_end)++;
	return at;
}

char *
mask_secrets(const char *text, Size length)
{
	const char *at = text;
	const char *end = text + length;
	StringInfoData out;

	initStringInfo(&out);
	while (at < end)
	{
		const char *value;
		const char *value_end;
		Size marker;

		if ((marker = marker_at(token_prefix, lengthof(token_prefix), at, end)) > 0)
		{
			value = value_end = at + marker;
			while (value_end < end && is_token_byte((unsigned char) *value_end))
				value_end++;
		}
		else if ((marker = marker_at(secret_name, lengthof(secret_name), at, end)) > 0)
		{
			value = value_behind_name(at + marker, end, &value_end);
			if (value == NULL)
				value = value_end = at + marker;
		}
		else
		{
			appendStringInfoCharMacro(&out, *at);
			at++;
			continue;
		}

		appendBinaryStringInfo(&out, at, value - at);
		if (value_end > value)
			appendStringInfoString(&out, MASK);
		at = value_end;
	}
	return out.data;
}

Datum
amzmp_mask(PG_FUNCTION_ARGS)
{
	text *input = PG_GETARG_TEXT_PP(0);

	PG_RETURN_TEXT_P(cstring_to_text(mask_secrets(VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input))));
}
