/*
 * credentials.c
 *	  Reading a file of credentials from the one directory that a superuser named.
 *
 * A literal in a statement can end in the server log when the statement fails; a file cannot. Only plain names are
 * accepted, so nothing outside the directory can be read, and links are not followed.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "credentials.h"
#include "errcodes.h"

#define MAX_CREDENTIALS_FILE 16384

static char *credentials_dir = NULL;
static char *allowed_hosts = NULL;
static char *node_identity = NULL;
static char *failover_partners = NULL;

void
credentials_define_settings(void)
{
	DefineCustomStringVariable("amzmp.credentials_dir", "Directory from which set_credentials() may read files.",
							   "Readable by the server's user only.", &credentials_dir, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("amzmp.allowed_hosts",
							   "Hosts beside loopback that mock accounts' endpoints and targets of alarms may name.",
							   "A comma-separated list.", &allowed_hosts, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("amzmp.node_identity", "Name of this node, kept outside the data directory.",
							   "A copy of the data directory does not have it, and so does not send.", &node_identity,
							   "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("amzmp.failover_partners",
							   "Values of amzmp.node_identity that go on for each other without being asked.",
							   "A comma-separated list; one that is promoted reads back first what Amazon has.",
							   &failover_partners, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static void
check_file(int fd, const char *name)
{
	struct stat status;

	if (fstat(fd, &status) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not stat credentials file \"%s\": %m", name)));
	if (!S_ISREG(status.st_mode) || status.st_size > MAX_CREDENTIALS_FILE)
		ereport(ERROR, (errcode(ERRCODE_AMZMP_BAD_VALUE), errmsg("\"%s\" is not a credentials file", name),
						errdetail("It must be a regular file of at most %d bytes.", MAX_CREDENTIALS_FILE)));
	if (status.st_mode & (S_IRWXO | S_IWGRP))
		ereport(ERROR, (errcode(ERRCODE_AMZMP_REFUSED), errmsg("credentials file \"%s\" is accessible to others", name),
						errhint("chmod 0600 it and let the server's user own it.")));
}

PG_FUNCTION_INFO_V1(amzmp_read_credentials_file);
Datum
amzmp_read_credentials_file(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char content[MAX_CREDENTIALS_FILE + 1];
	text *result;
	ssize_t length;
	int fd;

	if (credentials_dir == NULL || credentials_dir[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_AMZMP_NOT_CONFIGURED), errmsg("amzmp.credentials_dir is not set"),
						errhint("A superuser sets it in postgresql.conf to a directory that only the server can read.")));
	if (name[0] == '.' || name[0] == '\0' || strpbrk(name, "/\\") != NULL)
		ereport(ERROR, (errcode(ERRCODE_AMZMP_BAD_VALUE), errmsg("\"%s\" is not a plain file name", name),
						errhint("Name a file in amzmp.credentials_dir, without a path.")));
	fd = OpenTransientFile(psprintf("%s/%s", credentials_dir, name), O_RDONLY | O_NOFOLLOW | PG_BINARY);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not open credentials file \"%s\": %m", name),
				 errhint("It is looked for in the directory that amzmp.credentials_dir names, by the server's user.")));
	check_file(fd, name);
	length = read(fd, content, MAX_CREDENTIALS_FILE);
	if (length < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read credentials file \"%s\": %m", name)));
	CloseTransientFile(fd);
	if (memchr(content, '\0', length) != NULL || !pg_verify_mbstr(GetDatabaseEncoding(), content, length, true))
		ereport(ERROR, (errcode(ERRCODE_AMZMP_BAD_VALUE), errmsg("credentials file \"%s\" is not text", name)));
	result = cstring_to_text_with_len(content, length);
	explicit_bzero(content, sizeof(content));
	PG_RETURN_TEXT_P(result);
}
