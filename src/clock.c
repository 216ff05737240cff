/*
 * clock.c
 *	  Where pg_cron, the clock of the flows, keeps its jobs: in one database of the server, which its setting names.
 *
 * The setting is for superusers to see, but schedule() and health() are for operators, and the name of a database is
 * no secret: every role sees them all in pg_database.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

/* amzmp._clock_database(): NULL when pg_cron is not loaded; the configuration may name it all the same. */
PG_FUNCTION_INFO_V1(amzmp_clock_database);
Datum
amzmp_clock_database(PG_FUNCTION_ARGS)
{
	const char *name = GetConfigOption("cron.database_name", true, false);

	if (name == NULL || (GetConfigOptionFlags("cron.database_name", true) & GUC_CUSTOM_PLACEHOLDER) != 0)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(name));
}
