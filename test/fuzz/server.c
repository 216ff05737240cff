/*
 * server.c
 *	  The little of the server that fuzzed code may reach. Memory and encodings come from libpgcommon; whatever else it
 *	  refers to is left undefined by the linker, so that reaching it ends the run.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

int
GetDatabaseEncoding(void)
{
	return PG_UTF8;
}

void *
repalloc_huge(void *pointer, Size size)
{
	return repalloc(pointer, size);
}
