/*
 * statements.c
 *	  What utility statements mean for our processes, wherever in the server they are executed.
 *
 * DROP DATABASE, ALTER DATABASE … RENAME and CREATE DATABASE … TEMPLATE want a database for themselves: our processes
 * leave it first and stay away until the statement has ended. A sender is told of statements that may mend a source
 * which cannot be read, and of DROP EXTENSION.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/acl.h"

#include "compat.h"
#include "processes.h"
#include "statements.h"

static ProcessUtility_hook_type previous_utility = NULL;

static const char *
template_of(const CreatedbStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->options)
	{
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return NULL;
}

/* Name of the database that this statement needs to have for itself, or NULL. */
static const char *
database_to_leave(Node *statement)
{
	if (IsA(statement, DropdbStmt))
		return castNode(DropdbStmt, statement)->dbname;
	if (IsA(statement, CreatedbStmt))
		return template_of(castNode(CreatedbStmt, statement));
	if (IsA(statement, RenameStmt) && castNode(RenameStmt, statement)->renameType == OBJECT_DATABASE)
		return castNode(RenameStmt, statement)->subname;
	return NULL;
}

/* May this statement mend a source that could not be read: a name that is back, a privilege that is granted? */
static bool
may_mend_source(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_RenameStmt:
		case T_AlterTableStmt:
		case T_AlterObjectSchemaStmt:
		case T_ViewStmt:
		case T_GrantStmt:
			return true;
		case T_CreateStmt:
			return castNode(CreateStmt, statement)->relation->relpersistence != RELPERSISTENCE_TEMP;
		default:
			return false;
	}
}

/* What the sender is to know when the statement's transaction commits. */
static void
note_statement(Node *statement)
{
	/* whether sources that fail can be read now, or whether its extension is still there */
	if (may_mend_source(statement))
		processes_altered_at_commit();
	else if (IsA(statement, DropStmt) && castNode(DropStmt, statement)->removeType == OBJECT_EXTENSION)
		amzmp_wake_at_commit();
}

static void
before_statement(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree, ProcessUtilityContext context,
				 ParamListInfo params, QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	ProcessUtility_hook_type next = previous_utility ? previous_utility : standard_ProcessUtility;
	const char *name = database_to_leave(pstmt->utilityStmt);
	Oid database = name && context == PROCESS_UTILITY_TOPLEVEL ? get_database_oid(name, true) : InvalidOid;
	int place = -1;

	note_statement(pstmt->utilityStmt);
	/* Only who may do it anyway can make our processes leave: the owner of the database, as for the statement itself. */
	if (OidIsValid(database) && amzmp_database_ownercheck(database, GetUserId()))
		place = database_pause(database);
	if (place < 0)
	{
		next(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
		return;
	}
	PG_TRY();
	{
		database_leave(database);
		next(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	}
	PG_FINALLY();
	{
		database_resume(place);
	}
	PG_END_TRY();
}

void
statements_install_hook(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = before_statement;
}
