/*
 * message.c
 *	  Errors and log lines that our SQL raises.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* amzmp._fail(state, message, detail, hint): an error with the SQLSTATE given as text. */
PG_FUNCTION_INFO_V1(amzmp_fail);
Datum
amzmp_fail(PG_FUNCTION_ARGS)
{
	char *state = PG_ARGISNULL(0) ? "XX000" : text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *message = PG_ARGISNULL(1) ? "unnamed failure" : text_to_cstring(PG_GETARG_TEXT_PP(1));
	char *detail = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	char *hint = PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3));

	if (strlen(state) != 5)
		state = "XX000";
	/* the innermost context quotes the statement that called us: the caller's matter, and nothing for his client */
	if (error_context_stack != NULL)
		error_context_stack = error_context_stack->previous;
	ereport(ERROR,
			(errcode(MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4])), errmsg_internal("%s", message),
			 detail ? errdetail_internal("%s", detail) : 0, hint ? errhint("%s", hint) : 0));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(amzmp_in_transaction_block);
Datum
amzmp_in_transaction_block(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(IsTransactionBlock());
}

/*
 * amzmp._log_access(message): to the server log only, so that neither the client's settings nor a ROLLBACK hide it. Where
 * log_min_messages would keep it out of there, nothing shall be opened.
 */
PG_FUNCTION_INFO_V1(amzmp_log_access);
Datum
amzmp_log_access(PG_FUNCTION_ARGS)
{
	if (!message_level_is_interesting(LOG_SERVER_ONLY))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("the access could not be written to the server's log, so nothing is opened"),
						errhint("Set log_min_messages to log or lower.")));
	ereport(LOG_SERVER_ONLY,
			(errmsg("amzmp: %s", text_to_cstring(PG_GETARG_TEXT_PP(0))), errhidestmt(true), errhidecontext(true)));
	PG_RETURN_VOID();
}
