/*
 * report_script.c: what a test says that reports of a type contain or come to, whatever the seller has: content in any
 * character set, announced as it is or as another one, cut off, cancelled or fatal. Kept until it is replaced.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

static Table *scripts; /* type to json_t */

static void
script_free(void *value)
{
	json_decref(value);
}

void
report_scripts_reset(void)
{
	if (scripts != NULL)
		table_free(scripts, script_free);
	scripts = table_new();
}

/* Keep what is said about spec's type; without a status nothing is any more. */
void
report_script(const json_t *spec)
{
	const char *type = json_get_text(spec, "type");

	if (scripts == NULL)
		report_scripts_reset();
	json_decref(table_remove(scripts, type));
	if (json_get_text(spec, "status") != NULL)
		table_put(scripts, type, json_deep_copy(spec));
}

static void
write_document(Job *job, const json_t *script)
{
	const char *charset = json_get_text(script, "charset");
	const char *announced = json_get_text(script, "content_type");
	char *text = xstrdup(json_get_text(script, "content"));
	size_t length = strlen(text);

	if (charset != NULL)
		text = report_convert(text, &length, charset);
	job->result = document_new(job->seller, "report", announced != NULL ? announced : "text/plain;charset=UTF-8");
	document_fill(job->result, text, length, true);
	if (json_get_bool(script, "cut", false))
		job->result->length /= 2;
}

/* End the job as a test said; false when none did. */
bool
report_follow_script(Job *job)
{
	const json_t *script = scripts == NULL ? NULL : table_get(scripts, job->type);

	if (script == NULL)
		return false;
	if (json_get_text(script, "content") != NULL)
		write_document(job, script);
	/* a job keeps no text of its own for its status */
	job_end(job, strcmp(json_get_text(script, "status"), "DONE") == 0    ? "DONE"
				 : strcmp(json_get_text(script, "status"), "FATAL") == 0 ? "FATAL"
																		 : "CANCELLED");
	return true;
}
