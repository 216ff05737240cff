/*
 * report.c
 *	  The rows of a report that was downloaded: as jsonb, or straight into a table.
 *
 * Both read it front to back (report_reader.c) and hold one row at a time.
 *
 *	_document_rows(account_id, document_id, after, most)   each row as an object; empty cells are left out
 *	_stage_report(account_id, document_id, table)          by COPY into a table, as many columns as it has; returns rows
 *
 * A table to stage into has text columns named as the report's, with _ for -, and may have "place" (integer: the row's
 * place), "digest" (bigint: the same for the same cells) and "rest" (jsonb: all cells that have no column there). Nobody else
 * knows the table: it is one of the task's own.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/copy.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_node.h"
#include "parser/parse_relation.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "report_reader.h"

/*
 * As jsonb
 */

static Datum
row_as_jsonb(ReportReader *reader)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < reader->table.count; i++)
	{
		JsonbValue value = {.type = jbvString};

		if (report_cell(reader, i) == NULL)
			continue;
		value.val.string.val = unconstify(char *, report_column_name(reader, i));
		value.val.string.len = (int) strlen(value.val.string.val);
		pushJsonbValue(&state, WJB_KEY, &value);
		value.val.string.val = report_text(report_cell(reader, i));
		value.val.string.len = (int) strlen(value.val.string.val);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

PG_FUNCTION_INFO_V1(amzmp_document_rows);

Datum
amzmp_document_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int64 after = PG_GETARG_INT64(2);
	int64 most = PG_GETARG_INT64(3);
	MemoryContext row_context;
	ReportReader *reader;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	reader = report_open(PG_GETARG_INT64(0), PG_GETARG_INT64(1));
	row_context = AllocSetContextCreate(CurrentMemoryContext, "amzmp report row", ALLOCSET_DEFAULT_SIZES);
	while (reader->rows < after + most && report_next(reader))
	{
		MemoryContext old = MemoryContextSwitchTo(row_context);
		bool nulls[2] = {false, false};
		Datum values[2];

		if (reader->rows > after)
		{
			values[0] = Int64GetDatum(reader->rows);
			values[1] = row_as_jsonb(reader);
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	report_close(reader);
	SPI_finish();
	return (Datum) 0;
}

/*
 * Into a table
 */

typedef enum StageKind
{
	STAGE_CELL,
	STAGE_PLACE,
	STAGE_DIGEST,
	STAGE_REST
} StageKind;

typedef struct StageColumn
{
	StageKind kind;
	int from; /* column of the report, -1 where it has none */
} StageColumn;

typedef struct Stage
{
	ReportReader *reader;
	StageColumn *columns;
	int count;
	bool has_column[TABLE_MOST_FIELDS];  /* does the table have one for this column of the report? */
	uint64 name_hash[TABLE_MOST_FIELDS]; /* of each column of the report */
	StringInfoData line;                 /* rows in the format of COPY */
	int given;                           /* how much of it COPY has */
	MemoryContext row_context;
} Stage;

/* COPY's callback knows no argument. Set while COPY runs, and only then. */
static Stage *stage_of_copy = NULL;

/* A report's column name is the table's with - for _. */
static bool
names_match(const char *report_name, const char *table_name)
{
	for (; *report_name != '\0' && *table_name != '\0'; report_name++, table_name++)
		if (*report_name != *table_name && !(*report_name == '-' && *table_name == '_'))
			return false;
	return *report_name == *table_name;
}

static StageColumn
stage_column(Stage *stage, const char *table_name)
{
	StageColumn column = {STAGE_CELL, -1};

	if (strcmp(table_name, "place") == 0)
		column.kind = STAGE_PLACE;
	else if (strcmp(table_name, "digest") == 0)
		column.kind = STAGE_DIGEST;
	else if (strcmp(table_name, "rest") == 0)
		column.kind = STAGE_REST;
	for (int i = 0; column.kind == STAGE_CELL && i < stage->reader->columns && column.from < 0; i++)
		if (names_match(stage->reader->names[i], table_name))
		{
			column.from = i;
			stage->has_column[i] = true;
		}
	return column;
}

static void
find_columns(Stage *stage, TupleDesc table)
{
	stage->columns = palloc(sizeof(StageColumn) * table->natts);
	for (int i = 0; i < stage->reader->columns; i++)
		stage->name_hash[i] = hash_bytes_extended((const unsigned char *) stage->reader->names[i],
												  (int) strlen(stage->reader->names[i]), 0);
	for (int i = 0; i < table->natts; i++)
		if (!TupleDescAttr(table, i)->attisdropped)
			stage->columns[stage->count++] = stage_column(stage, NameStr(TupleDescAttr(table, i)->attname));
}

/* Nothing below a blank is in a field, so the backslash is all that has a meaning to COPY. */
static void
append_field(StringInfo line, const char *text)
{
	const char *backslash;

	while ((backslash = strchr(text, '\\')) != NULL)
	{
		appendBinaryStringInfo(line, text, (int) (backslash - text));
		appendStringInfoString(line, "\\\\");
		text = backslash + 1;
	}
	appendStringInfoString(line, text);
}

/* The cells that have no column in the table, as one object. */
static void
append_rest(Stage *stage)
{
	ReportReader *reader = stage->reader;
	StringInfoData json;
	bool first = true;

	initStringInfo(&json);
	for (int i = 0; i < reader->table.count; i++)
	{
		if (stage->has_column[i] || report_cell(reader, i) == NULL)
			continue;
		appendStringInfoString(&json, first ? "{" : ", ");
		first = false;
		escape_json(&json, report_column_name(reader, i));
		appendStringInfoString(&json, ": ");
		escape_json(&json, report_text(report_cell(reader, i)));
	}
	if (first)
		appendStringInfoString(&stage->line, "\\N");
	else
	{
		appendStringInfoChar(&json, '}');
		append_field(&stage->line, json.data);
	}
}

/* The same for rows with the same cells in columns of the same names, in whatever order. */
static uint64
row_digest(const Stage *stage)
{
	const ReportReader *reader = stage->reader;
	uint64 digest = 0;

	for (int i = 0; i < reader->table.count; i++)
	{
		const char *text = report_cell(reader, i);
		uint64 seed = i < reader->columns ? stage->name_hash[i] : (uint64) i;

		if (text != NULL)
			digest += hash_bytes_extended((const unsigned char *) text, (int) strlen(text), seed);
	}
	return digest;
}

static void
append_column(Stage *stage, const StageColumn *column)
{
	char *text = column->kind == STAGE_CELL ? report_cell(stage->reader, column->from) : NULL;

	if (column->kind == STAGE_PLACE)
		appendStringInfo(&stage->line, INT64_FORMAT, stage->reader->rows);
	else if (column->kind == STAGE_DIGEST)
		appendStringInfo(&stage->line, INT64_FORMAT, (int64) row_digest(stage));
	else if (column->kind == STAGE_REST)
		append_rest(stage);
	else if (text != NULL)
		append_field(&stage->line, report_text(text));
	else
		appendStringInfoString(&stage->line, "\\N");
}

/* Add rows to the line until there are `wanted` bytes or no more rows. */
static void
fill_line(Stage *stage, int wanted)
{
	resetStringInfo(&stage->line);
	stage->given = 0;
	while (stage->line.len < wanted && report_next(stage->reader))
	{
		MemoryContext old = MemoryContextSwitchTo(stage->row_context);

		for (int i = 0; i < stage->count; i++)
		{
			if (i > 0)
				appendStringInfoChar(&stage->line, '\t');
			append_column(stage, &stage->columns[i]);
		}
		appendStringInfoChar(&stage->line, '\n');
		MemoryContextSwitchTo(old);
		MemoryContextReset(stage->row_context);
	}
}

static int
give_to_copy(void *buffer, int least, int most)
{
	Stage *stage = stage_of_copy;
	int length;

	if (stage->given == stage->line.len)
		fill_line(stage, most);
	length = Min(most, stage->line.len - stage->given);
	memcpy(buffer, stage->line.data + stage->given, length);
	stage->given += length;
	return length;
}

/* COPY from what the reader has. The table is locked until the end of the transaction. */
static void
copy_rows(Stage *stage, Relation table)
{
	ParseState *pstate = make_parsestate(NULL);
	List *options = list_make1(makeDefElem("encoding", (Node *) makeString(pstrdup(GetDatabaseEncodingName())), -1));
	CopyFromState copy;

	addRangeTableEntryForRelation(pstate, table, RowExclusiveLock, NULL, false, false);
	copy = BeginCopyFrom(pstate, table, NULL, NULL, false, give_to_copy, NIL, options);
	stage_of_copy = stage;
	PG_TRY();
	{
		CopyFrom(copy);
	}
	PG_FINALLY();
	{
		stage_of_copy = NULL;
	}
	PG_END_TRY();
	EndCopyFrom(copy);
	free_parsestate(pstate);
}

PG_FUNCTION_INFO_V1(amzmp_stage_report);

Datum
amzmp_stage_report(PG_FUNCTION_ARGS)
{
	Relation table = table_open(PG_GETARG_OID(2), RowExclusiveLock);
	Stage stage = {0};
	int64 rows;

	SPI_connect();
	stage.reader = report_open(PG_GETARG_INT64(0), PG_GETARG_INT64(1));
	initStringInfo(&stage.line);
	stage.row_context = AllocSetContextCreate(CurrentMemoryContext, "amzmp report row", ALLOCSET_DEFAULT_SIZES);
	find_columns(&stage, RelationGetDescr(table));
	copy_rows(&stage, table);
	rows = stage.reader->rows;
	report_close(stage.reader);
	SPI_finish();
	table_close(table, NoLock);
	PG_RETURN_INT64(rows);
}

/* _report_shape(account_id, document_id): the columns of a report and how many rows it has. */
PG_FUNCTION_INFO_V1(amzmp_report_shape);

Datum
amzmp_report_shape(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	TupleDesc columns;
	bool nulls[2] = {false, false};
	Datum values[2];
	Datum *names;
	ReportReader *reader;
	MemoryContext ours;

	if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	BlessTupleDesc(columns);
	SPI_connect();
	reader = report_open(PG_GETARG_INT64(0), PG_GETARG_INT64(1));
	while (report_next(reader))
		;
	values[1] = Int64GetDatum(reader->rows);
	ours = MemoryContextSwitchTo(caller);
	names = palloc(sizeof(Datum) * Max(reader->columns, 1));
	for (int i = 0; i < reader->columns; i++)
		names[i] = CStringGetTextDatum(reader->names[i]);
	values[0] = PointerGetDatum(construct_array(names, reader->columns, TEXTOID, -1, false, TYPALIGN_INT));
	MemoryContextSwitchTo(ours);
	report_close(reader);
	SPI_finish();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(columns, values, nulls)));
}
