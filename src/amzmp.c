/*
 * amzmp.c
 *	  What happens when the library is loaded: settings, shared memory, the launcher.
 *
 * Loaded by shared_preload_libraries it does all three. Loaded later (by the first call of one of our functions) it
 * only defines settings; what needs shared memory then says so with a hint.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#include "call.h"
#include "capture_keys.h"
#include "credentials.h"
#include "http.h"
#include "launcher.h"
#include "processes.h"
#include "runner.h"
#include "sender.h"
#include "statements.h"
#include "token.h"
#include "usage_plan.h"
#include "vault.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

static void
request_shared_memory(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(processes_shmem_size());
	RequestAddinShmemSpace(usage_plan_shmem_size());
	RequestAddinShmemSpace(token_shmem_size());
	RequestNamedLWLockTranche("amzmp", 1);
}

static void
make_shared_memory(void)
{
	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	processes_shmem_init();
	usage_plan_shmem_init();
	token_shmem_init();
	LWLockRelease(AddinShmemInitLock);
}

void
_PG_init(void)
{
	vault_define_settings();
	usage_plan_define_settings();
	token_define_settings();
	http_define_settings();
	call_define_settings();
	sender_define_settings();
	runner_define_settings();
	launcher_define_settings();
	capture_keys_define_settings();
	credentials_define_settings();
	MarkGUCPrefixReserved("amzmp");

	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_request = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = make_shared_memory;
	statements_install_hook();
	if (!IsBinaryUpgrade)
		launcher_register();
}
