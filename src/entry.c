/*
 * entry.c
 *	  The checked door of every public function.
 *
 * A public function amzmp.verb(…) and its inner twin amzmp._verb(…) have the same arguments. PostgreSQL itself checks
 * EXECUTE on the public one; what it cannot check is done here, where the caller's own user id is still to be seen:
 * whether the caller may touch the account that an argument names. Then we become amzmp_owner, the only role that may
 * execute inner functions, and call the twin through SPI. A SECURITY DEFINER function could not do this: inside it,
 * the caller's role is no longer known.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "owner.h"

/* What one call site needs to know about its twin; lives as long as the call site (fn_mcxt). */
typedef struct Entry
{
	SPIPlanPtr plan;   /* select … from amzmp._verb($1, …) */
	SPIPlanPtr access; /* select amzmp._check_access($1, $2), or NULL */
	int account_arg;   /* index of the argument that names an account or channel, -1 = none */
	int nargs;
	Oid *argtypes;
	bool as_set; /* the result is a set: materialise it */
	bool secret; /* an argument may hold a secret */
} Entry;

static Oid caller = InvalidOid;

static void entry_open(FmgrInfo *flinfo);
static Datum entry_result(FunctionCallInfo fcinfo, Entry *entry);
static void entry_rows(FunctionCallInfo fcinfo);
static void entry_rethrow(const Entry *entry);
static void entry_check_access(Entry *entry, FunctionCallInfo fcinfo);

PG_FUNCTION_INFO_V1(amzmp_caller);
Datum
amzmp_caller(PG_FUNCTION_ARGS)
{
	Oid role = OidIsValid(caller) ? caller : GetUserId();

	PG_RETURN_DATUM(DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(role, false))));
}

PG_FUNCTION_INFO_V1(amzmp_entry);
Datum
amzmp_entry(PG_FUNCTION_ARGS)
{
	Oid outer_caller = caller;
	OwnerScope scope;
	MemoryContext context = CurrentMemoryContext;
	volatile Datum result = (Datum) 0;

	if (!OidIsValid(caller))
		caller = GetUserId();
	PG_TRY();
	{
		owner_enter(&scope);
		SPI_connect();
		if (fcinfo->flinfo->fn_extra == NULL)
			entry_open(fcinfo->flinfo);
		entry_check_access(fcinfo->flinfo->fn_extra, fcinfo);
		result = entry_result(fcinfo, fcinfo->flinfo->fn_extra);
		SPI_finish();
		owner_leave(&scope);
	}
	PG_CATCH();
	{
		caller = outer_caller;
		MemoryContextSwitchTo(context);
		entry_rethrow(fcinfo->flinfo->fn_extra);
	}
	PG_END_TRY();
	caller = outer_caller;
	return result;
}

/*
 * Raise the error in hand again. One that our SQL raised on purpose says all there is to say, so it goes out without the
 * call stack of our inner functions; the caller's own context lines are added anew. Others keep theirs. A statement with
 * a secret in it does not go into the server log beside its error.
 */
static void
entry_rethrow(const Entry *entry)
{
	ErrorData *error = CopyErrorData();

	bool secret = entry != NULL && entry->secret;

	if (!secret && (error->funcname == NULL || strcmp(error->funcname, "amzmp_fail") != 0))
		PG_RE_THROW();
	FlushErrorState();
	ereport(ERROR, (errcode(error->sqlerrcode), errmsg_internal("%s", error->message),
					error->detail ? errdetail_internal("%s", error->detail) : 0,
					error->hint ? errhint("%s", error->hint) : 0, errhidestmt(secret)));
}

static bool
names_an_account(const char *argument)
{
	return strcmp(argument, "account") == 0 || strcmp(argument, "channel") == 0 ||
		   strcmp(argument, "account_or_channel") == 0;
}

/* Is one of the arguments of a function a secret that somebody may write into the statement? */
static bool
takes_a_secret(HeapTuple proc, int nargs)
{
	Oid *types;
	char **names;
	char *modes;

	get_func_arg_info(proc, &types, &names, &modes);
	for (int i = 0; names != NULL && i < nargs; i++)
		if (strcmp(names[i], "client_secret") == 0 || strcmp(names[i], "secret_access_key") == 0)
			return true;
	return false;
}

/* Position of the account argument among the input arguments, which come first in all our functions. */
static int
find_account_arg(HeapTuple proc, int nargs)
{
	Oid *types;
	char **names;
	char *modes;

	get_func_arg_info(proc, &types, &names, &modes);
	for (int i = 0; names != NULL && i < nargs; i++)
		if (types[i] == TEXTOID && names_an_account(names[i]))
			return i;
	return -1;
}

static SPIPlanPtr
prepare_kept(const char *sql, int nargs, Oid *argtypes)
{
	SPIPlanPtr plan = SPI_prepare(sql, nargs, argtypes);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	return plan;
}

static void
entry_open(FmgrInfo *flinfo)
{
	HeapTuple proc = SearchSysCache1(PROCOID, ObjectIdGetDatum(flinfo->fn_oid));
	Form_pg_proc form;
	Entry *entry;
	StringInfoData sql;

	if (!HeapTupleIsValid(proc))
		elog(ERROR, "cache lookup failed for function %u", flinfo->fn_oid);
	form = (Form_pg_proc) GETSTRUCT(proc);

	entry = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(Entry));
	entry->nargs = form->pronargs;
	entry->argtypes = MemoryContextAlloc(flinfo->fn_mcxt, sizeof(Oid) * Max(entry->nargs, 1));
	memcpy(entry->argtypes, form->proargtypes.values, sizeof(Oid) * entry->nargs);
	entry->as_set = form->proretset;
	entry->account_arg = find_account_arg(proc, entry->nargs);
	entry->secret = takes_a_secret(proc, entry->nargs);

	initStringInfo(&sql);
	appendStringInfo(&sql, entry->as_set ? "select * from %s.%s(" : "select %s.%s(",
					 quote_identifier(get_namespace_name(form->pronamespace)),
					 quote_identifier(psprintf("_%s", NameStr(form->proname))));
	for (int i = 0; i < entry->nargs; i++)
		appendStringInfo(&sql, "%s$%d", i > 0 ? ", " : "", i + 1);
	appendStringInfoChar(&sql, ')');
	entry->plan = prepare_kept(sql.data, entry->nargs, entry->argtypes);
	if (entry->account_arg >= 0)
		entry->access = prepare_kept("select amzmp._check_access($1)", 1, (Oid[]){TEXTOID});
	ReleaseSysCache(proc);
	flinfo->fn_extra = entry;
}

static void
entry_check_access(Entry *entry, FunctionCallInfo fcinfo)
{
	if (entry->access == NULL || PG_ARGISNULL(entry->account_arg))
		return;
	if (SPI_execute_plan(entry->access, &fcinfo->args[entry->account_arg].value, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not check access: %s", SPI_result_code_string(SPI_result));
}

static Datum
entry_result(FunctionCallInfo fcinfo, Entry *entry)
{
	Datum *values = palloc(sizeof(Datum) * Max(entry->nargs, 1));
	char *nulls = palloc(Max(entry->nargs, 1));
	bool isnull;
	Datum value;
	Oid type;

	for (int i = 0; i < entry->nargs; i++)
	{
		values[i] = fcinfo->args[i].value;
		nulls[i] = fcinfo->args[i].isnull ? 'n' : ' ';
	}
	if (SPI_execute_plan(entry->plan, values, nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not call the inner function: %s", SPI_result_code_string(SPI_result));
	if (entry->as_set)
	{
		entry_rows(fcinfo);
		return (Datum) 0;
	}
	if (SPI_processed != 1)
		elog(ERROR, "inner function returned " UINT64_FORMAT " rows", SPI_processed);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	fcinfo->isnull = isnull;
	if (isnull)
		return (Datum) 0;
	type = SPI_gettypeid(SPI_tuptable->tupdesc, 1);
	if (type == VOIDOID)
		return (Datum) 0;
	return SPI_datumTransfer(value, get_typbyval(type), get_typlen(type));
}

/* Hand the rows that SPI holds to the caller as a tuplestore. */
static void
entry_rows(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum *values = palloc(sizeof(Datum) * rsinfo->setDesc->natts);
		bool *nulls = palloc(sizeof(bool) * rsinfo->setDesc->natts);

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		pfree(values);
		pfree(nulls);
	}
}
