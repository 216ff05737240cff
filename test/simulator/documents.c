/*
 * documents.c: what is uploaded for a feed, downloaded from a report, or defines a product type: bytes behind a signed URL
 * that lives five minutes, or longer. The storage behind the URLs is no SP-API: no token, no usage plan, and it answers errors in XML.
 */
#include "sim.h"
#include "http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static Table *documents;

static void
document_free(void *value)
{
	Document *document = value;

	free(document->type);
	free(document->bytes);
	free(document);
}

void
documents_reset(void)
{
	table_free(documents, document_free);
	documents = table_new();
}

Document *
document_new(Seller *seller, const char *kind, const char *type)
{
	Document *document = xalloc(sizeof(Document));
	char uuid[37];

	uuid_text(uuid);
	snprintf(document->id, sizeof(document->id), "amzn1.tortuga.%s.%s", kind, uuid);
	document->seller = seller;
	document->type = xstrdup(type);
	document->created = clock_now();
	table_put(documents, document->id, document);
	return document;
}

Document *
document_find(const Seller *seller, const char *id)
{
	Document *document = table_get(documents, id);

	return document != NULL && document->seller == seller ? document : NULL;
}

/* Takes over bytes. */
void
document_fill(Document *document, char *bytes, size_t length, bool pack)
{
	free(document->bytes);
	document->packed = pack;
	document->bytes = pack ? gzip_bytes(bytes, length, &document->length) : bytes;
	if (pack)
		free(bytes);
	else
		document->length = length;
}

json_t *
document_url(Document *document, Micros lifetime)
{
	document->url_ends = clock_now() + lifetime;
	random_text(document->signature, 32);
	return json_text("%s://127.0.0.1:%d/_documents/%s?X-Amz-Expires=%d&X-Amz-Signature=%s", settings.scheme,
					 settings.port, document->id, (int) (lifetime / SECOND), document->signature);
}

/* The answer of getFeedDocument and getReportDocument. */
json_t *
document_json(Call *call, Document *document, const char *id_name)
{
	json_t *answer = json_pack("{s:s, s:o}", id_name, document->id, "url", document_url(document, URL_LIFETIME));

	document->content_encoding = document->packed && json_get_bool(call->query, "enableContentEncodingUrlHeader", false);
	if (document->packed && !document->content_encoding)
		json_object_set_new(answer, "compressionAlgorithm", json_string("GZIP"));
	return answer;
}

static void
refuse(Call *call, int status, const char *code, const char *message)
{
	char *text = xprintf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message>"
						 "</Error>",
						 code, message);

	call_bytes(call, status, "application/xml", text, strlen(text));
}

static void
refuse_violation(Call *call, int status, const char *code, const char *message)
{
	call->violation = true;
	stats_violation(call, message);
	refuse(call, status, code, message);
}

/* The document of the URL, if the URL holds. */
static Document *
document_of_url(Call *call)
{
	Document *document = table_get(documents, call->argument[0]);
	const char *signature = call->query_text == NULL ? NULL : strstr(call->query_text, "X-Amz-Signature=");

	if (call_header(call, "x-amz-access-token") != NULL)
		refuse_violation(call, 400, "InvalidArgument", "An access token does not belong here.");
	else if (document == NULL || signature == NULL || strcmp(signature + 16, document->signature) != 0)
		refuse_violation(call, 403, "SignatureDoesNotMatch", "The signature of the URL does not match.");
	else if (document->url_ends <= clock_now())
		refuse(call, 403, "AccessDenied", "Request has expired");
	return call->status == 0 ? document : NULL;
}

/* PUT, as for a presigned URL whose signature covers the content type */
void
document_upload(Call *call)
{
	Document *document = document_of_url(call);
	const char *type = call_header(call, "content-type");
	char *copy;

	if (document == NULL)
		return;
	if (call_header(call, "transfer-encoding") != NULL)
		refuse_violation(call, 501, "NotImplemented", "A chunked upload is not implemented; send a content-length.");
	else if (type == NULL || strcasecmp(type, document->type) != 0)
		refuse_violation(call, 403, "SignatureDoesNotMatch", "The content-type is not the one that was announced.");
	if (call->status != 0)
		return;
	copy = xalloc(call->input_length + 1);
	if (call->input_length > 0)
		memcpy(copy, call->input, call->input_length);
	document_fill(document, copy, call->input_length, false);
	call_bytes(call, 200, "application/xml", xstrdup(""), 0);
}

void
document_download(Call *call)
{
	Document *document = document_of_url(call);
	char *copy;

	if (document == NULL)
		return;
	if (document->bytes == NULL)
	{
		refuse(call, 404, "NoSuchKey", "The specified key does not exist.");
		return;
	}
	copy = xalloc(document->length + 1);
	memcpy(copy, document->bytes, document->length);
	call_bytes(call, 200, document->type, copy, document->length);
	if (document->content_encoding)
	{
		call->extra_name = xstrdup("Content-Encoding");
		call->extra_value = xstrdup("gzip");
	}
}
