/*
 * json_rows.c
 *	  amzmp._rows and _member_rows: JSON documents, or a member of one, as rows with typed columns, in one pass; and the
 *	  readers of single values.
 *
 * A page of Amazon's holds a hundred documents with dozens of values each. Read by one SQL expression a value, with a look
 * at its form, they cost more than all the rows that come of them. They are read as the text that they came as
 * (json_nodes.c), so that what nobody asks for costs next to nothing.
 *
 * A path says where a column's value is in the document, beginning at the element:
 *
 *		a.b				member b of member a
 *		a[].b			b of the elements of the array a
 *		a[k=V|W].b		of those whose member k is the string V or W
 *		a[k!=V|W].b		of those whose member k is something else
 *		^.a				member a of the document, whichever element it is
 *		#				no value but the element's number, from 1
 *		''				the element itself
 *
 * The column's type says how it is read: numeric adds up all amounts that the path leads to, text[] has all values, every
 * other type takes the first one; text of an object or an array is what stands there, byte by byte; boolean says whether
 * there is any, but for false itself. What is missing, JSON's null, or not in the form that Amazon gives such values is null.
 *
 * The paths are ours, written in SQL: errors in them are errors. The document is Amazon's; that it is JSON was seen when it
 * came (exchange.c), so one that is not is an error too. Read paths are kept as long as the calling query's function.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "json_nodes.h"
#include "json_scalar.h"

#define MOST_STEPS  8
#define MOST_VALUES 8

PG_FUNCTION_INFO_V1(amzmp_json_rows);
PG_FUNCTION_INFO_V1(amzmp_json_member_rows);
PG_FUNCTION_INFO_V1(amzmp_json_time);
PG_FUNCTION_INFO_V1(amzmp_json_count);

typedef struct Word
{
	const char *text;
	int length;
} Word;

typedef struct Step
{
	Word member;
	bool each; /* it is an array: go on in each of its elements, */
	bool negated;
	Word key; /* as far as this member of theirs, if named, */
	int value_count;
	Word values[MOST_VALUES]; /* is one of these (or, negated, none) */
} Step;

typedef struct Path
{
	Oid type;
	bool is_number; /* the element's */
	bool from_top;  /* begins at the document */
	int step_count;
	Step steps[MOST_STEPS];
} Path;

typedef struct Paths
{
	ArrayType *source; /* the text they were read from */
	int count;
	Path path[FLEXIBLE_ARRAY_MEMBER];
} Paths;

/* A column's value in the making. */
typedef struct Cell
{
	Datum value;
	bool isnull;
	ArrayBuildState *list;
} Cell;

/* ---------------------------------------------------------------------------
 * Values
 * ---------------------------------------------------------------------------
 */

/* The text of a scalar, ended by a zero, for the readers of its form. */
static bool
scalar_text(const JsonNodes *nodes, uint32 value, Word *name)
{
	char *digits;

	if (nodes->node[value].kind == JSON_NODE_STRING)
		name->text = json_nodes_string(nodes, value, &name->length);
	else if (nodes->node[value].kind == JSON_NODE_NUMBER)
	{
		/* 1e3 is as good a number as 1000 */
		digits = pnstrdup(json_nodes_bytes(nodes, value), json_nodes_length(nodes, value));
		if (strpbrk(digits, "eE") != NULL)
			digits = DatumGetCString(
				DirectFunctionCall1(numeric_out, DirectFunctionCall3(numeric_in, CStringGetDatum(digits),
																	 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
		*name = (Word){digits, strlen(digits)};
	}
	else
		return false;
	return true;
}

static text *
value_as_text(const JsonNodes *nodes, uint32 value)
{
	Word word;

	if (!scalar_text(nodes, value, &word))
		word = (Word){json_nodes_bytes(nodes, value), json_nodes_length(nodes, value)};
	return cstring_to_text_with_len(word.text, word.length);
}

static bool
word_as_amount(Word word, Datum *amount)
{
	if (!json_scalar_is_amount(word.text, word.length))
		return false;
	*amount = DirectFunctionCall3(numeric_in, CStringGetDatum(word.text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	return true;
}

static bool
word_as_count(Word word, Datum *count)
{
	int32 number;

	if (!json_scalar_count(word.text, word.length, &number))
		return false;
	*count = Int32GetDatum(number);
	return true;
}

static bool
value_as_time(const JsonNodes *nodes, uint32 value, Datum *time)
{
	Word word;
	TimestampTz at;

	if (nodes->node[value].kind != JSON_NODE_STRING || !scalar_text(nodes, value, &word) ||
		!json_scalar_time(word.text, word.length, &at))
		return false;
	*time = TimestampTzGetDatum(at);
	return true;
}

static Datum
value_as_jsonb(const JsonNodes *nodes, uint32 value)
{
	char *bytes = pnstrdup(json_nodes_bytes(nodes, value), json_nodes_length(nodes, value));

	return DirectFunctionCall1(jsonb_in, CStringGetDatum(bytes));
}

static void
add_amount(Cell *cell, const JsonNodes *nodes, uint32 value)
{
	Word word;
	Datum amount;

	if (!scalar_text(nodes, value, &word) || !word_as_amount(word, &amount))
		return;
	cell->value = cell->isnull ? amount : DirectFunctionCall2(numeric_add, cell->value, amount);
	cell->isnull = false;
}

static void
take_value(Cell *cell, Oid type, const JsonNodes *nodes, uint32 value)
{
	Word word;

	if (nodes->node[value].kind == JSON_NODE_NULL)
		return;
	switch (type)
	{
		case NUMERICOID:
			add_amount(cell, nodes, value);
			return;
		case INT4OID:
			cell->isnull = !scalar_text(nodes, value, &word) || !word_as_count(word, &cell->value);
			return;
		case TIMESTAMPTZOID:
			cell->isnull = !value_as_time(nodes, value, &cell->value);
			return;
		case TEXTARRAYOID:
			cell->list = accumArrayResult(cell->list, PointerGetDatum(value_as_text(nodes, value)), false, TEXTOID,
										  CurrentMemoryContext);
			return;
		case JSONBOID:
			cell->value = value_as_jsonb(nodes, value);
			break;
		case BOOLOID:
			cell->value = BoolGetDatum(nodes->node[value].kind != JSON_NODE_FALSE);
			break;
		default:
			cell->value = PointerGetDatum(value_as_text(nodes, value));
	}
	cell->isnull = false;
}

/* ---------------------------------------------------------------------------
 * Ways to them
 * ---------------------------------------------------------------------------
 */

static bool
is_wanted(const Step *step, const JsonNodes *nodes, uint32 element)
{
	uint32 member;
	Word word;

	if (step->key.length == 0)
		return true;
	member = json_nodes_member(nodes, element, step->key.text, step->key.length);
	if (member == 0)
		return false;
	if (nodes->node[member].kind != JSON_NODE_STRING || !scalar_text(nodes, member, &word))
		return step->negated;
	for (int i = 0; i < step->value_count; i++)
		if (word.length == step->values[i].length && memcmp(word.text, step->values[i].text, word.length) == 0)
			return !step->negated;
	return step->negated;
}

/* Follow a path from its step `at`, and take what it leads to. */
static void
collect(Cell *cell, const Path *path, int at, const JsonNodes *nodes, uint32 value)
{
	const Step *step = &path->steps[at];
	uint32 member;

	if (at == path->step_count)
	{
		take_value(cell, path->type, nodes, value);
		return;
	}
	member = json_nodes_member(nodes, value, step->member.text, step->member.length);
	if (member == 0)
		return;
	if (!step->each)
	{
		collect(cell, path, at + 1, nodes, member);
		return;
	}
	if (nodes->node[member].kind != JSON_NODE_ARRAY)
		return;
	for (uint32 i = json_nodes_first(member); i < nodes->node[member].next; i = nodes->node[i].next)
	{
		if (is_wanted(step, nodes, i))
			collect(cell, path, at + 1, nodes, i);
		if (!cell->isnull && path->type != NUMERICOID)
			return;
	}
}

/* ---------------------------------------------------------------------------
 * Paths
 * ---------------------------------------------------------------------------
 */

static void
pg_attribute_noreturn() bad_path(const char *path)
{
	elog(ERROR, "\"%s\" is no path of amzmp._rows", path);
}

/* What stands up to one of these characters; `at` goes there. */
static Word
take_name(const char **at, const char *stops)
{
	Word name = {*at, strcspn(*at, stops)};

	*at += name.length;
	return name;
}

/* key=V|W] or key!=V|W], what follows the bracket. */
static void
read_filter(Step *step, const char **at, const char *path)
{
	step->key = take_name(at, "!=]");
	step->negated = **at == '!';
	if (step->negated)
		(*at)++;
	while (**at == (step->value_count == 0 ? '=' : '|') && step->value_count < MOST_VALUES)
	{
		(*at)++;
		step->values[step->value_count++] = take_name(at, "|]");
	}
	if (**at != ']' || (step->key.length > 0) != (step->value_count > 0))
		bad_path(path);
	(*at)++;
}

/* `text` must live as long as the path. */
static void
read_path(Path *path, const char *text, Oid type)
{
	const char *at = text;

	path->type = type;
	path->is_number = strcmp(text, "#") == 0;
	path->from_top = strncmp(text, "^.", 2) == 0;
	if (path->from_top)
		at += 2;
	if (path->is_number || *at == '\0')
		return;
	for (;;)
	{
		Step *step = &path->steps[path->step_count++];

		step->member = take_name(&at, ".[");
		if (*at == '[')
		{
			step->each = true;
			at++;
			read_filter(step, &at, text);
		}
		if (*at == '\0')
			return;
		if (*at++ != '.' || path->step_count == MOST_STEPS)
			bad_path(text);
	}
}

static void
check_type(Oid type, bool is_number)
{
	static const Oid known[] = {TEXTOID, TEXTARRAYOID, NUMERICOID, INT4OID, TIMESTAMPTZOID, JSONBOID, BOOLOID};

	for (size_t i = 0; i < lengthof(known); i++)
		if (known[i] == type && (!is_number || type == INT4OID))
			return;
	elog(ERROR, "amzmp._rows does not read type %u there", type);
}

/* The paths of this call, as they were read by the one before if they are the same. */
static Paths *
read_paths(FmgrInfo *flinfo, ArrayType *source, TupleDesc columns)
{
	Paths *paths = flinfo->fn_extra;
	MemoryContext old;
	Datum *texts;
	int count;

	if (paths != NULL && VARSIZE(paths->source) == VARSIZE(source) && memcmp(paths->source, source, VARSIZE(source)) == 0)
		return paths;
	old = MemoryContextSwitchTo(flinfo->fn_mcxt);
	deconstruct_array(source, TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &count);
	if (count != columns->natts)
		elog(ERROR, "%d paths for %d columns", count, columns->natts);
	paths = palloc0(offsetof(Paths, path) + sizeof(Path) * count);
	paths->source = (ArrayType *) PG_DETOAST_DATUM_COPY(PointerGetDatum(source));
	paths->count = count;
	for (int i = 0; i < count; i++)
	{
		read_path(&paths->path[i], TextDatumGetCString(texts[i]), TupleDescAttr(columns, i)->atttypid);
		check_type(paths->path[i].type, paths->path[i].is_number);
	}
	flinfo->fn_extra = paths;
	MemoryContextSwitchTo(old);
	return paths;
}

/* ---------------------------------------------------------------------------
 * SQL
 * ---------------------------------------------------------------------------
 */

static void
put_row(ReturnSetInfo *result, const Paths *paths, const JsonNodes *nodes, uint32 element, int number)
{
	Datum values[MaxTupleAttributeNumber];
	bool nulls[MaxTupleAttributeNumber];

	for (int i = 0; i < paths->count; i++)
	{
		Cell cell = {(Datum) 0, true, NULL};

		if (paths->path[i].is_number)
			cell = (Cell){Int32GetDatum(number), false, NULL};
		else
			collect(&cell, &paths->path[i], 0, nodes, paths->path[i].from_top ? 0 : element);
		if (cell.list != NULL)
			cell = (Cell){makeArrayResult(cell.list, CurrentMemoryContext), false, NULL};
		values[i] = cell.value;
		nulls[i] = cell.isnull;
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* `list` is the array whose elements become rows, or the one object that does. */
static void
put_rows(ReturnSetInfo *result, const Paths *paths, const JsonNodes *nodes, uint32 list)
{
	MemoryContext row_context;
	uint32 element = list;
	int number = 0;

	if (nodes->node[list].kind == JSON_NODE_ARRAY)
		element = json_nodes_first(list);
	else if (nodes->node[list].kind != JSON_NODE_OBJECT)
		return;
	row_context = AllocSetContextCreate(CurrentMemoryContext, "amzmp rows of json", ALLOCSET_SMALL_SIZES);
	for (; element < nodes->node[list].next; element = nodes->node[element].next)
	{
		MemoryContext old = MemoryContextSwitchTo(row_context);

		put_row(result, paths, nodes, element, ++number);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	MemoryContextDelete(row_context);
}

/* Rows of a member of the document (NULL: of the document itself), or none when it has no such member. */
static Datum
rows_of(FunctionCallInfo fcinfo, const text *member, ArrayType *columns)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	text *document = PG_GETARG_TEXT_PP(0);
	uint32 list = 0;
	Paths *paths;
	JsonNodes nodes;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	paths = read_paths(fcinfo->flinfo, columns, result->setDesc);
	if (!json_nodes_read(&nodes, VARDATA_ANY(document), VARSIZE_ANY_EXHDR(document)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION), errmsg("document is not valid JSON")));
	if (member != NULL)
		list = json_nodes_member(&nodes, 0, VARDATA_ANY(member), VARSIZE_ANY_EXHDR(member));
	if (member == NULL || list > 0)
		put_rows(result, paths, &nodes, list);
	pfree(nodes.node);
	return (Datum) 0;
}

/* One row for each element of an array, or one for an object; none for anything else. */
Datum
amzmp_json_rows(PG_FUNCTION_ARGS)
{
	return rows_of(fcinfo, NULL, PG_GETARG_ARRAYTYPE_P(1));
}

Datum
amzmp_json_member_rows(PG_FUNCTION_ARGS)
{
	text *member = PG_GETARG_TEXT_PP(1);

	return rows_of(fcinfo, VARSIZE_ANY_EXHDR(member) > 0 ? member : NULL, PG_GETARG_ARRAYTYPE_P(2));
}

Datum
amzmp_json_time(PG_FUNCTION_ARGS)
{
	text *value = PG_GETARG_TEXT_PP(0);
	TimestampTz at;

	if (!json_scalar_time(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), &at))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(at);
}

/* A jsonb scalar's text; false for what is none. */
static bool
jsonb_scalar_text(JsonbValue *value, Word *word)
{
	char *digits;

	if (value->type == jbvString)
		*word = (Word){value->val.string.val, value->val.string.len};
	else if (value->type == jbvNumeric)
	{
		digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		*word = (Word){digits, strlen(digits)};
	}
	else
		return false;
	return true;
}

/* A number, or a string of digits. */
Datum
amzmp_json_count(PG_FUNCTION_ARGS)
{
	Jsonb *document = PG_GETARG_JSONB_P(0);
	Word word;
	Datum result;

	if (!JB_ROOT_IS_SCALAR(document) || !jsonb_scalar_text(getIthJsonbValueFromContainer(&document->root, 0), &word) ||
		!word_as_count(word, &result))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}
