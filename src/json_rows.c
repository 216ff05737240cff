/*
 * json_rows.c
 *	  amzmp._rows: jsonb documents as rows with typed columns, in one pass; and the readers of single values.
 *
 * A page of Amazon's holds a hundred documents with dozens of values each. Read by one SQL expression a value, with a look
 * at its form, they cost more than all the rows that come of them.
 *
 * A path says where a column's value is in the document, beginning at the element:
 *
 *		a.b				member b of member a
 *		a[].b			b of the elements of the array a
 *		a[k=V|W].b		of those whose member k is the string V or W
 *		a[k!=V|W].b		of those whose member k is something else
 *		#				no value but the element's number, from 1
 *		''				the element itself
 *
 * The column's type says how it is read: numeric adds up all amounts that the path leads to, every other type takes the
 * first value; boolean says whether there is any, but for false itself. What is missing, JSON's null, or not in the form that
 * Amazon gives such values is null.
 *
 * The paths are ours, written in SQL: errors in them are errors. The document is Amazon's, checked by the server when it
 * became jsonb. Read paths are kept as long as the calling query's function.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "json_scalar.h"

#define MOST_STEPS  8
#define MOST_VALUES 8

PG_FUNCTION_INFO_V1(amzmp_json_rows);
PG_FUNCTION_INFO_V1(amzmp_json_time);
PG_FUNCTION_INFO_V1(amzmp_json_amount);
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
} Cell;

/* ---------------------------------------------------------------------------
 * Values
 * ---------------------------------------------------------------------------
 */

static text *
value_as_text(JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return cstring_to_text_with_len(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return cstring_to_text(DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric))));
		case jbvBool:
			return cstring_to_text(value->val.boolean ? "true" : "false");
		default:
			return cstring_to_text(JsonbToCString(NULL, value->val.binary.data, value->val.binary.len));
	}
}

/* The text of a scalar, for the readers of its form. */
static bool
scalar_text(JsonbValue *value, Word *name)
{
	if (value->type == jbvString)
		*name = (Word){value->val.string.val, value->val.string.len};
	else if (value->type == jbvNumeric)
	{
		char *digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));

		*name = (Word){digits, strlen(digits)};
	}
	else
		return false;
	return true;
}

static bool
value_as_amount(JsonbValue *value, Datum *amount)
{
	Word name;

	if (!scalar_text(value, &name) || !json_scalar_is_amount(name.text, name.length))
		return false;
	*amount = DirectFunctionCall3(numeric_in, CStringGetDatum(pnstrdup(name.text, name.length)),
								  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	return true;
}

static bool
value_as_count(JsonbValue *value, Datum *count)
{
	Word name;
	int32 number;

	if (!scalar_text(value, &name) || !json_scalar_count(name.text, name.length, &number))
		return false;
	*count = Int32GetDatum(number);
	return true;
}

static bool
value_as_time(JsonbValue *value, Datum *time)
{
	TimestampTz at;

	if (value->type != jbvString || !json_scalar_time(value->val.string.val, value->val.string.len, &at))
		return false;
	*time = TimestampTzGetDatum(at);
	return true;
}

static void
add_amount(Cell *cell, JsonbValue *value)
{
	Datum amount;

	if (!value_as_amount(value, &amount))
		return;
	cell->value = cell->isnull ? amount : DirectFunctionCall2(numeric_add, cell->value, amount);
	cell->isnull = false;
}

static void
take_value(Cell *cell, Oid type, JsonbValue *value)
{
	if (value->type == jbvNull)
		return;
	switch (type)
	{
		case NUMERICOID:
			add_amount(cell, value);
			return;
		case INT4OID:
			cell->isnull = !value_as_count(value, &cell->value);
			return;
		case TIMESTAMPTZOID:
			cell->isnull = !value_as_time(value, &cell->value);
			return;
		case JSONBOID:
			cell->value = JsonbPGetDatum(JsonbValueToJsonb(value));
			break;
		case BOOLOID:
			cell->value = BoolGetDatum(value->type != jbvBool || value->val.boolean);
			break;
		default:
			cell->value = PointerGetDatum(value_as_text(value));
	}
	cell->isnull = false;
}

/* ---------------------------------------------------------------------------
 * Ways to them
 * ---------------------------------------------------------------------------
 */

/* Member `name` of an object. */
static bool
find_member(const JsonbValue *value, Word name, JsonbValue *member)
{
	return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data) &&
		   getKeyJsonValueFromContainer(value->val.binary.data, name.text, name.length, member) != NULL;
}

static bool
is_wanted(const Step *step, const JsonbValue *element)
{
	JsonbValue member;

	if (step->key.length == 0)
		return true;
	if (!find_member(element, step->key, &member))
		return false;
	for (int i = 0; i < step->value_count; i++)
		if (member.type == jbvString && member.val.string.len == step->values[i].length &&
			memcmp(member.val.string.val, step->values[i].text, member.val.string.len) == 0)
			return !step->negated;
	return step->negated;
}

/* Follow a path from its step `at`, and take what it leads to. */
static void
collect(Cell *cell, const Path *path, int at, JsonbValue *value)
{
	const Step *step = &path->steps[at];
	JsonbValue member;

	if (at == path->step_count)
	{
		take_value(cell, path->type, value);
		return;
	}
	if (!find_member(value, step->member, &member))
		return;
	if (!step->each)
	{
		collect(cell, path, at + 1, &member);
		return;
	}
	if (member.type != jbvBinary || !JsonContainerIsArray(member.val.binary.data))
		return;
	for (uint32 i = 0; i < JsonContainerSize(member.val.binary.data); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(member.val.binary.data, i);

		if (is_wanted(step, element))
			collect(cell, path, at + 1, element);
		pfree(element);
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
	static const Oid known[] = {TEXTOID, NUMERICOID, INT4OID, TIMESTAMPTZOID, JSONBOID, BOOLOID};

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
put_row(ReturnSetInfo *result, const Paths *paths, JsonbValue *element, int number)
{
	Datum values[MaxTupleAttributeNumber];
	bool nulls[MaxTupleAttributeNumber];

	for (int i = 0; i < paths->count; i++)
	{
		Cell cell = {(Datum) 0, true};

		if (paths->path[i].is_number)
			cell = (Cell){Int32GetDatum(number), false};
		else
			collect(&cell, &paths->path[i], 0, element);
		values[i] = cell.value;
		nulls[i] = cell.isnull;
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* One row for each element of an array, or one for an object; none for anything else. */
Datum
amzmp_json_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext row_context;
	Jsonb *document = PG_GETARG_JSONB_P(0);
	JsonbContainer *root = &document->root;
	JsonbValue whole = {.type = jbvBinary};
	Paths *paths;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	paths = read_paths(fcinfo->flinfo, PG_GETARG_ARRAYTYPE_P(1), result->setDesc);
	if (JsonContainerIsScalar(root))
		return (Datum) 0;
	row_context = AllocSetContextCreate(CurrentMemoryContext, "amzmp rows of json", ALLOCSET_SMALL_SIZES);
	whole.val.binary.data = root;
	whole.val.binary.len = VARSIZE(document) - VARHDRSZ;
	for (int i = 0; i < (JsonContainerIsArray(root) ? (int) JsonContainerSize(root) : 1); i++)
	{
		MemoryContext old = MemoryContextSwitchTo(row_context);

		put_row(result, paths, JsonContainerIsArray(root) ? getIthJsonbValueFromContainer(root, i) : &whole, i + 1);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	MemoryContextDelete(row_context);
	return (Datum) 0;
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

/* The member "amount" of an object. */
Datum
amzmp_json_amount(PG_FUNCTION_ARGS)
{
	static const Word amount = {"amount", 6};
	Jsonb *document = PG_GETARG_JSONB_P(0);
	JsonbValue whole = {.type = jbvBinary};
	JsonbValue member;
	Datum result;

	whole.val.binary.data = &document->root;
	if (!find_member(&whole, amount, &member) || !value_as_amount(&member, &result))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}

/* A number, or a string of digits. */
Datum
amzmp_json_count(PG_FUNCTION_ARGS)
{
	Jsonb *document = PG_GETARG_JSONB_P(0);
	Datum result;

	if (!JsonContainerIsScalar(&document->root) ||
		!value_as_count(getIthJsonbValueFromContainer(&document->root, 0), &result))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}
