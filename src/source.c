/*
 * source.c
 *	  What a query over a shop's relation reads: the types of its columns and the relation's columns that it uses.
 *
 * Analysis only. Nothing is planned or run, so it is safe for any text in the session of whoever calls it, and it
 * raises the parser's own errors. Used while a source is attached; nothing here is called later.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "parser/parse_relation.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "compat.h"
#include "nodes/nodeFuncs.h"

/* The one SELECT that the text must be. */
static Query *
analyse(const char *text)
{
	List *raw = pg_parse_query(text);
	Query *query;

	if (list_length(raw) != 1 || !IsA(linitial_node(RawStmt, raw)->stmt, SelectStmt))
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("not a single SELECT")));
	query = parse_analyze_fixedparams(linitial_node(RawStmt, raw), text, NULL, 0, NULL);
	if (query->commandType != CMD_SELECT || query->utilityStmt != NULL)
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("not a single SELECT")));
	return query;
}

/* amzmp.query_types(query): the types of the result's columns, in order. */
PG_FUNCTION_INFO_V1(amzmp_query_types);
Datum
amzmp_query_types(PG_FUNCTION_ARGS)
{
	Query *query = analyse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	Datum *types = palloc(sizeof(Datum) * Max(list_length(query->targetList), 1));
	int count = 0;
	ListCell *cell;

	foreach (cell, query->targetList)
	{
		TargetEntry *target = lfirst_node(TargetEntry, cell);

		if (!target->resjunk)
			types[count++] = ObjectIdGetDatum(exprType((Node *) target->expr));
	}
	PG_RETURN_ARRAYTYPE_P(construct_array(types, count, REGTYPEOID, sizeof(Oid), true, TYPALIGN_INT));
}

static bool
uses_column(Bitmapset *used, int attnum)
{
	return bms_is_member(attnum - FirstLowInvalidHeapAttributeNumber, used) ||
		   bms_is_member(InvalidAttrNumber - FirstLowInvalidHeapAttributeNumber, used);
}

/* amzmp.query_columns(query): names of the columns of its first FROM item that it uses, anywhere; the whole row uses all. */
PG_FUNCTION_INFO_V1(amzmp_query_columns);
Datum
amzmp_query_columns(PG_FUNCTION_ARGS)
{
	Query *query = analyse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	RangeTblEntry *entry = query->rtable == NIL ? NULL : linitial_node(RangeTblEntry, query->rtable);
	Relation relation;
	Bitmapset *used;
	Datum *names;
	int count = 0;

	if (entry == NULL || entry->rtekind != RTE_RELATION)
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("the query does not read a relation")));
	used = amzmp_selected_columns(query, entry);
	relation = relation_open(entry->relid, NoLock); /* the analysis locked it */
	names = palloc(sizeof(Datum) * RelationGetNumberOfAttributes(relation));
	for (int i = 0; i < RelationGetNumberOfAttributes(relation); i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation), i);

		if (!attribute->attisdropped && uses_column(used, attribute->attnum))
			names[count++] = CStringGetTextDatum(NameStr(attribute->attname));
	}
	relation_close(relation, NoLock);
	PG_RETURN_ARRAYTYPE_P(construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT));
}
